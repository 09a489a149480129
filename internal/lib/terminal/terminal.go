// Package terminal says whether a file is a terminal, how wide the terminal is, and which colours
// it has.
//
// It asks the system and the environment, and writes nothing. On Windows it turns on escape
// sequences of the console.
package terminal

import (
	"io"
	"runtime"
	"strings"
	"syscall"
)

// Look describes the output of a writer.
type Look struct {
	Terminal bool // it is a terminal or a console, so a person reads it
	Width    int  // columns; 0: the width is not known
	Color    bool // it shows colours and bold text
	Palette  bool // it shows the palette of 256 colours
}

// Of describes the output of w. getenv returns a variable of the environment. Colours follow
// NO_COLOR (https://no-color.org), CLICOLOR and CLICOLOR_FORCE
// (https://bixense.com/clicolors), in this order, and then TERM.
func Of(w io.Writer, getenv func(name string) string) (l Look) {
	capable := false
	if f, ok := w.(syscall.Conn); ok {
		if raw, err := f.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { // an error means that the file is closed
				l.Terminal, l.Width, capable = ask(fd)
			})
		}
	}
	term := getenv("TERM")
	force := getenv("CLICOLOR_FORCE")
	switch {
	case getenv("NO_COLOR") != "":
	case force != "" && force != "0":
		l.Color = true
	case !l.Terminal || getenv("CLICOLOR") == "0":
	case runtime.GOOS == "windows":
		l.Color = capable && term != "dumb"
	default:
		l.Color = term != "" && term != "dumb"
	}
	truecolor := strings.ToLower(getenv("COLORTERM"))
	l.Palette = l.Color && (strings.Contains(term, "256color") || truecolor == "truecolor" ||
		truecolor == "24bit" || runtime.GOOS == "windows")
	return l
}
