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

// maxDataBytes bounds the data that Data reads. It is the highest value of REVERB_MAX_REQUEST_SIZE.
// With a larger bound Data reads data that every server refuses; with a smaller one it refuses data
// that a server can be configured to take.
const maxDataBytes = 64 << 20

// Data is the data of an event. arg is the JSON itself, - for the content of stdin, or @ and the
// name of a file. White space around the JSON of stdin or of a file is left out. The error says why
// there is no data, or where the JSON is wrong.
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
