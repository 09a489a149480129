// Package successor starts another process of this program: the file that now lies where the file
// of this program lay when this process began. The new process gets descriptors of this one, such
// as one end of a pair of sockets.
//
// The file may be a new version, so that another user who can change it could have this user run
// anything. Open therefore refuses a file unless only root and this user decide what is in it. It
// opens the file once; Start executes that very file, whatever the path leads to by then.
//
// Processes can be started on Linux only.
//
// Files:
//
//	successor.go      what a caller sees: Find, Program, Options, Child, Cut
//	judge_linux.go    Open: who decides what is in a file
//	start_linux.go    Start
//	sockets_linux.go  Pair, Share, Take, Name
//	other.go          other systems
package successor

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// running is the file of this process, also when its name has gone or names another file.
const running = "/proc/self/exe"

// Find returns the path of this program as it was named at the start. arg0 is os.Args[0]; a name
// without a slash is looked for on PATH. Find may be called only while the process begins: it
// compares the file there with the running one. If they differ, because arg0 says something else or
// the file was replaced already, the path is that of the running file.
func Find(arg0 string) (string, error) {
	is, err := os.Stat(running)
	if err == nil {
		named, err := exec.LookPath(arg0)
		if err == nil {
			named, err = filepath.Abs(named)
		}
		if err == nil {
			if there, err := os.Stat(named); err == nil && os.SameFile(there, is) {
				return named, nil
			}
		}
	}
	return os.Executable()
}

// ErrSystem is matched by the error of a process that can start no successor, whatever program lies
// at its path.
var ErrSystem = errors.New("no successor can be started here")

// Program is an open file that may be executed.
type Program struct {
	Path string // as it was given to Open
	file *os.File
}

// Close closes the file. What was started goes on.
func (p *Program) Close() error { return p.file.Close() }

// Holds says whether the file has this text, of less than 100 bytes.
func (p *Program) Holds(text string) bool {
	const overlap = 100
	b, kept := make([]byte, 1<<20), 0
	for r := io.NewSectionReader(p.file, 0, 1<<40); ; {
		n, err := r.Read(b[kept:])
		n += kept
		if bytes.Contains(b[:n], []byte(text)) {
			return true
		}
		if err != nil {
			return false
		}
		kept = copy(b, b[max(n-overlap, 0):n])
	}
}

// Options says how a process is started.
type Options struct {
	Args    []string // the first is how the program is called, as os.Args
	Environ []string
	Pass    []Passed // what the process inherits beside the standard streams
	// The process becomes a child of this process's parent, so that the parent may wait for it.
	Sibling bool
}

// Passed is a descriptor for a new process.
type Passed struct {
	Variable string   // of the environment; its value is the number there
	File     *os.File // stays open here
}

// Child is a process that was started.
type Child struct {
	PID     int
	sibling bool
	done    chan struct{} // closed under mu
	code    int           // constant once done is closed; -1: unknown

	mu    sync.Mutex
	pidfd int // a descriptor of the process; -1: none, or it has ended
}

// Done is closed when the process has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Code is the exit code of a process that has ended; 128 + n: signal n has ended it. known is false
// for a sibling: only its parent is told.
func (c *Child) Code() (code int, known bool) {
	<-c.done
	return c.code, c.code >= 0
}

// Kill ends the process at once, and waits for the end.
func (c *Child) Kill() {
	c.Signal(syscall.SIGKILL) // an error: it has ended
	<-c.done
}

// Cut takes variables out of an environment. values are theirs; of several the last, and empty for
// none. rest are the others.
func Cut(environ []string, variables ...string) (values, rest []string) {
	values = make([]string, len(variables))
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		if i := slices.Index(variables, name); i >= 0 {
			values[i] = value
		} else {
			rest = append(rest, line)
		}
	}
	return values, rest
}
