// Package unixsock opens Unix sockets in folders that other users may write to, and tells the user
// of a folder and of a peer. If another user puts a file in the way of Listen, Listen does not
// change its mode or owner, and does not remove it.
//
// On Linux this holds even if other users rename files meanwhile; it needs /proc. Other Unix
// systems follow no link, but a name may come to mean another file between two calls: use the
// folder of another user there only if you trust that user. On Windows sockets have neither mode
// nor owner: the folder decides.
package unixsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"reverb/internal/lib/show"
)

// errReplaced is the error when another process changes the folder while a socket is being opened
// in it.
var errReplaced = errors.New("another process has replaced the socket while it was being opened; " +
	"take a folder in which only this user can write")

// Listen opens a Unix socket at path with the permissions mode, and gives it to a user and a group;
// -1: no change. Until then only this user and root can connect. Listen replaces a socket on which
// no process listens any more; if a process listens, the error is syscall.EADDRINUSE. Closing the
// listener removes the file, if it is still the same file.
func Listen(path string, mode os.FileMode, uid, gid int) (net.Listener, error) {
	if strings.HasPrefix(path, "@") { // an abstract socket has no file, so any user may connect
		return nil, fmt.Errorf("listen unix %s: an abstract socket has no permissions; give a path",
			path)
	}
	dir, err := openFolder(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("listen unix %s: %w", path, err)
	}
	l := &listener{dir: dir, name: filepath.Base(path)}
	if err := l.open(path, mode, uid, gid); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen unix %s: %w", path, err)
	}
	return l, nil
}

// LookupOwner reads user:group, where either may be a name or a number, or missing. uid and gid are
// arguments of Listen; -1: the part is missing.
func LookupOwner(owner string) (uid, gid int, err error) {
	name, group, _ := strings.Cut(owner, ":")
	uid, gid = -1, -1
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			if u, err = user.LookupId(name); err != nil {
				return 0, 0, fmt.Errorf("there is no user %s", show.Quoted(name))
			}
		}
		// on Windows it is not a number, but sockets have no owner there
		uid, _ = strconv.Atoi(u.Uid)
	}
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			if g, err = user.LookupGroupId(group); err != nil {
				return 0, 0, fmt.Errorf("there is no group %s", show.Quoted(group))
			}
		}
		gid, _ = strconv.Atoi(g.Gid)
	}
	return uid, gid, nil
}

// Adopt makes the Close of a listener that another process has opened remove its file, as that of
// Listen does, but only if then no process listens there: not the one that has opened it, if it
// goes on, nor another one that has the socket by now. A listener without a file stays as it is.
func Adopt(ln net.Listener) net.Listener {
	u, ok := ln.(*net.UnixListener)
	if !ok || !filepath.IsAbs(u.Addr().String()) {
		return ln
	}
	path := u.Addr().String()
	dir, err := openFolder(filepath.Dir(path))
	if err != nil {
		return ln // the folder has gone, and the file with it
	}
	u.SetUnlinkOnClose(false)
	return &listener{UnixListener: u, dir: dir, name: filepath.Base(path), adopted: path}
}

// listener is a socket that removes only its own file.
type listener struct {
	*net.UnixListener             // nil until the socket is open
	adopted           string      // see Adopt: the path; empty: Listen has made it
	dir               *folder     // in which the file is
	name              string      // of the file there
	file              os.FileInfo // nil until the file is known to belong to this socket
	closing           sync.Once
}

func (l *listener) open(path string, mode os.FileMode, uid, gid int) error {
	if err := l.removeStale(path); err != nil {
		return err
	}
	ln, err := bind(path)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			return op.Err // without the path, because Listen adds it
		}
		return err
	}
	l.UnixListener = ln.(*net.UnixListener)
	l.SetUnlinkOnClose(false)
	if l.file, err = l.dir.settle(l.name, l.UnixListener, mode, uid, gid); err != nil {
		return err
	}
	if fi, err := l.dir.lstat(l.name); err != nil || !os.SameFile(fi, l.file) {
		return errReplaced
	}
	return nil
}

// removeStale removes a socket that a killed process has left. If that fails, binding tells the
// error.
func (l *listener) removeStale(path string) error {
	fi, err := l.dir.lstat(l.name)
	if err != nil || fi.Mode()&os.ModeSocket == 0 {
		return nil
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return syscall.EADDRINUSE
	}
	if errors.Is(err, errRefused) { // any other error may come from a living process
		l.dir.remove(l.name, fi)
	}
	return nil
}

// Abandon makes the Close of a listener leave its file, because another process has the socket. It
// does nothing to a listener that is not of this package.
func Abandon(ln net.Listener) {
	if l, ok := ln.(*listener); ok {
		l.closing.Do(func() {
			l.UnixListener.Close() // it has nothing to report
			l.dir.close()
		})
	}
}

// Close closes the socket. It may be called more than once, by several goroutines.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.closing.Do(func() {
		if err = nil; l.file != nil {
			l.dir.remove(l.name, l.file)
		}
		if l.UnixListener != nil {
			err = l.UnixListener.Close()
		}
		if l.adopted != "" {
			l.removeStale(l.adopted) // an error: somebody listens, and has the file
		}
		l.dir.close()
	})
	return err
}

// folder is an open folder. at names a file in it, also after the folder was renamed.
type folder struct {
	prefix string
	handle *os.File // nil: prefix is only the name of the folder
}

func (f *folder) at(name string) string { return filepath.Join(f.prefix, name) }

func (f *folder) lstat(name string) (os.FileInfo, error) { return os.Lstat(f.at(name)) }

// remove removes the file if it is still the expected one.
func (f *folder) remove(name string, expected os.FileInfo) {
	if fi, err := f.lstat(name); err == nil && os.SameFile(fi, expected) {
		os.Remove(f.at(name)) // if it stays, the next process finds it stale
	}
}

func (f *folder) close() {
	if f.handle != nil {
		f.handle.Close()
	}
}

// bind listens on path. The file has mode 0600 from the first moment.
func bind(path string) (net.Listener, error) {
	defer narrow()()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = narrowSocket(fd) }); e != nil {
			return e
		}
		return err
	}}
	return config.Listen(context.Background(), "unix", path)
}

// ErrForeign is, for errors.Is, an error of Private: another user decides what is in the folder.
var ErrForeign = errors.New("another user decides what is in the folder")

type foreign string

func (f foreign) Error() string { return string(f) }

func (f foreign) Is(target error) bool { return target == ErrForeign }

// Private resolves the links in the name of a folder, and returns an error unless only owner and
// root decide what is in it. That is so if the folder, all folders above it and the links on the
// way belong to one of them (ErrForeign otherwise), and no other user may write to the folder, nor
// to the folders above, unless these are sticky, as /tmp is. real has no link and stays right. On
// Windows every folder passes.
func Private(dir string, owner int) (real string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if real, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	for i, last := range []string{dir, real} {
		for d, below := last, ""; d != below; d, below = filepath.Dir(d), d {
			fi, err := os.Lstat(d)
			if err != nil {
				return "", err
			}
			uid, known := ownerOf(fi)
			link := fi.Mode()&os.ModeSymlink != 0
			switch {
			case !known:
			case !fi.IsDir() && (!link || i == 1):
				return "", fmt.Errorf("%s is not a folder", d)
			case uid != 0 && uid != owner:
				return "", foreign(fmt.Sprintf("%s belongs to another user (uid %d)", d, uid))
			case !link && fi.Mode().Perm()&0o022 != 0 &&
				(d == last || fi.Mode()&os.ModeSticky == 0):
				return "", foreign("other users may write to " + d)
			}
		}
	}
	return real, nil
}

// Owner is the user to whom a folder or a file belongs; known is false on Windows.
func Owner(dir string) (uid int, known bool) {
	fi, err := os.Stat(dir)
	if err != nil {
		return 0, false
	}
	return ownerOf(fi)
}

// Peer is the process at the other end of a Unix socket. PID is 0 on macOS and FreeBSD.
type Peer struct{ UID, PID int }

// PeerOf finds the process at the other end of a Unix socket: the one that has connected, or has
// called listen. ok is false if the system does not tell.
func PeerOf(c net.Conn) (p Peer, ok bool) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return p, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return p, false
	}
	err = raw.Control(func(fd uintptr) { p, ok = peerOf(int(fd)) })
	return p, ok && err == nil
}
