// Package terminal says whether a file is a terminal, how wide the terminal is, and which colours
// it has.
//
// It also says when the terminal has gone, which key was pressed there, and what to type there for
// this program.
//
// It asks the system and the environment, and writes nothing. On Windows it turns on escape
// sequences of the console.
package terminal

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
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

const (
	// goneTries and goneWait bound how long HungUp waits for the end of a terminal: some programs
	// send the signal before they close it. Larger: a signal that does not come from the terminal
	// is answered later. Smaller: a terminal that closes slowly is not noticed.
	goneTries = 10
	goneWait  = 20 * time.Millisecond
)

// HungUp returns a function that says, after SIGHUP, whether it has come because the terminal of w
// was closed. It waits for up to 0.2 s. If w is no terminal now, the function says no at once.
func HungUp(w io.Writer) func() bool {
	is := func() bool { return Of(w, func(string) string { return "" }).Terminal }
	if !is() {
		return func() bool { return false }
	}
	return func() bool {
		for range goneTries {
			if !is() {
				return true
			}
			time.Sleep(goneWait)
		}
		return false
	}
}

// OnKey calls pressed, in a goroutine of its own, when key is pressed on the terminal in; nobody
// has to press Enter. restore gives the terminal its former mode; any goroutine may call it, and
// again. If in is no terminal, if this process runs in its background, or on Windows, nothing
// happens. The goroutine reads in until key comes.
func OnKey(in *os.File, key byte, pressed func()) (restore func()) {
	restore, ok := byKey(in.Fd())
	if !ok {
		return func() {}
	}
	go func() {
		b := make([]byte, 1)
		for {
			if n, err := in.Read(b); err != nil {
				return
			} else if n == 1 && b[0] == key {
				pressed()
				return
			}
		}
	}()
	return restore
}

// Called is what to type to call this program again. arg0 is how it was called. If that has a path,
// and the bare name leads to the same file, it is the bare name.
func Called(arg0 string) string {
	name := filepath.Base(arg0)
	found, err := exec.LookPath(name)
	if err != nil {
		return arg0
	}
	is, err := os.Stat(found)
	if err != nil {
		return arg0
	}
	if here, err := os.Stat(arg0); err == nil && !os.SameFile(here, is) {
		return arg0
	}
	return name
}
