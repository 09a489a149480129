//go:build !linux

package successor

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// errLinux is the error of everything that other systems cannot do.
var errLinux = fmt.Errorf("%w, but on Linux: stop this process, then start the new version",
	ErrSystem)

// Open is for Linux.
func Open(string) (*Program, error) { return nil, errLinux }

// Start is for Linux.
func (p *Program) Start(Options) (*Child, error) { return nil, errLinux }

// NotStarted changes nothing: no process is started here.
func (p *Program) NotStarted(err error) error { return err }

// Signal is for Linux.
func (c *Child) Signal(syscall.Signal) error { return errLinux }

// Pair is for Linux.
func Pair() (ours *net.UnixConn, theirs *os.File, err error) { return nil, nil, errLinux }

// Share is for Linux.
func Share(*net.UnixConn) (*os.File, error) { return nil, errLinux }

// Take finds no socket, since no process has a predecessor here.
func Take(environ []string, variable string) (c *net.UnixConn, rest []string, err error) {
	values, rest := Cut(environ, variable)
	if values[0] != "" {
		err = errLinux
	}
	return nil, rest, err
}

// Name does nothing: no process was started by its open file.
func Name(string) error { return nil }
