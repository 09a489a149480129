package successor

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix" // socketpair, what a descriptor is

	"reverb/internal/lib/unixsock"
)

// Pair makes two connected Unix sockets (SOCK_STREAM). ours is for this process, theirs for Pass.
// The caller closes theirs when the process was started; then ours ends when that process ends.
func Pair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "socket for the successor")
	if ours, err = adopt(fds[0]); err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// Share returns another descriptor of a socket, for Pass. The caller closes it.
func Share(c *net.UnixConn) (*os.File, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if e := raw.Control(func(s uintptr) {
		fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	}); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, fmt.Errorf("copy a descriptor: %w", err)
	}
	// not c.File: its Fd would make c blocking too
	return os.NewFile(uintptr(fd), "socket for the successor"), nil
}

// Take takes over the socket that a predecessor has passed with Start. environ is what os.Environ
// returns; rest is environ without the variable. c is nil without the variable. It is an error if
// the variable does not name a connected Unix socket whose other end was opened by root or by this
// user; then the descriptor is left as it is. Take may be called once for a variable, and early:
// until then the socket would be inherited.
func Take(environ []string, variable string) (c *net.UnixConn, rest []string, err error) {
	number, ok := value(environ, variable)
	if !ok {
		return nil, environ, nil
	}
	rest = without(environ, variable)
	fd, err := strconv.Atoi(number)
	if err == nil && fd <= 2 {
		err = fmt.Errorf("a standard stream")
	}
	if err == nil {
		err = unixStream(fd)
	}
	if err == nil {
		c, err = adopt(fd)
	}
	if err != nil {
		return nil, rest, fmt.Errorf("%s=%q is not a socket of a running server: do not set this "+
			"variable, it is for the program itself (%w)", variable, number, err)
	}
	if peer, known := unixsock.PeerOf(c); !known || peer.UID != 0 && peer.UID != os.Geteuid() {
		c.Close()
		return nil, rest, fmt.Errorf("%s=%q is a socket of another user (uid %d): do not set this "+
			"variable, it is for the program itself", variable, number, peer.UID)
	}
	return c, rest, nil
}

// unixStream returns an error unless fd is a connected Unix socket for a stream.
func unixStream(fd int) error {
	for _, o := range []struct{ option, want int }{{unix.SO_DOMAIN, unix.AF_UNIX},
		{unix.SO_TYPE, unix.SOCK_STREAM}, {unix.SO_ACCEPTCONN, 0}} {
		is, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, o.option)
		if err != nil {
			return err
		}
		if is != o.want {
			return fmt.Errorf("another kind of socket")
		}
	}
	return nil
}

// adopt makes a connection of a socket. fd is closed.
func adopt(fd int) (*net.UnixConn, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close() // the connection has a copy
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}
