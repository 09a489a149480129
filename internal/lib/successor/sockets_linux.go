package successor

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix" // socketpair, what a descriptor is
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
// returns; rest is environ without the variable. c is nil if the variable is empty. It is an error
// if the variable does not name a connected Unix socket whose other end was opened by root or by
// this user; then the descriptor is left as it is. Take may be called once for a variable, and
// early: until then the socket would be inherited.
func Take(environ []string, variable string) (c *net.UnixConn, rest []string, err error) {
	values, rest := Cut(environ, variable)
	if values[0] == "" {
		return nil, rest, nil
	}
	if fd, err := strconv.Atoi(values[0]); err == nil && ours(fd) {
		c, err := adopt(fd)
		return c, rest, err
	}
	return nil, rest, errors.New(variable + "=" + strconv.Quote(values[0]) + " is not a socket " +
		"to a running server of this user: do not set this variable, it is for the program itself")
}

// ours says whether fd is a connected Unix socket for a stream, opened by this user or root.
func ours(fd int) bool {
	domain, err1 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	kind, err2 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	listens, err3 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	peer, err4 := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return fd >= firstOpen && err1 == nil && err2 == nil && err3 == nil && err4 == nil &&
		domain == unix.AF_UNIX && kind == unix.SOCK_STREAM && listens == 0 &&
		(peer.Uid == 0 || int(peer.Uid) == os.Geteuid())
}

// adopt makes a connection of a socket. fd is closed.
func adopt(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close() // the connection has a copy, which new programs do not inherit
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}
