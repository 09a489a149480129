package commands

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/show"
)

// maxDataBytes bounds what Data reads: the largest body that a server can be told to take. A
// larger bound reads what no server takes.
const maxDataBytes = 64 << 20

// Data is the data of an event: JSON, - for what stdin has, or @ and the name of a file. Of the
// latter two the white space around the JSON is left out. The error says what is wrong.
func Data(arg string, stdin io.Reader) (string, error) {
	where, hint := "the data", "; quote it for the shell, like '{\"n\":1}'"
	text := []byte(arg)
	name, file := strings.CutPrefix(arg, "@")
	if file || arg == "-" {
		where, hint = "what standard input has", ""
		if file {
			f, err := os.Open(name)
			if err != nil {
				return "", fmt.Errorf("read the data: %w", err)
			}
			defer f.Close()
			where, stdin = "what "+show.Text(name)+" holds", f
		}
		var err error
		if text, err = io.ReadAll(io.LimitReader(stdin, maxDataBytes+1)); err != nil {
			return "", fmt.Errorf("read the data: %w", err)
		}
		if len(text) > maxDataBytes {
			return "", fmt.Errorf("%s is larger than 64 MiB, which no server takes", where)
		}
		text = bytes.TrimSpace(text)
	}
	if err := jsonraw.Check(text); err != nil {
		return "", fmt.Errorf("%s is %w%s", where, err, hint)
	}
	return string(text), nil
}
