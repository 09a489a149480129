package unixsock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix" // chown of an open file with AT_EMPTY_PATH, SO_PEERCRED
)

const errRefused = syscall.ECONNREFUSED

var errNoProc = errors.New("/proc is not mounted, and without it a socket cannot be told from " +
	"another one; mount it")

// proc names an open file. An operation on that name affects the file itself.
func proc(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func openFolder(dir string) (*folder, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &folder{proc(fd), os.NewFile(uintptr(fd), dir)}, nil
}

// narrow is for systems where only the umask decides the permissions of a socket.
func narrow() (undo func()) { return func() {} }

// narrowSocket sets the permissions that the file of a socket is created with
// (unix_bind_bsd in Linux's net/unix/af_unix.c).
func narrowSocket(fd uintptr) error { return unix.Fchmod(int(fd), 0o600) }

// settle sets mode and owner of the file called name, if it is the one on which ln listens. The
// file is returned together with an error, once it is known to be the right one.
func (f *folder) settle(name string, ln *net.UnixListener, mode os.FileMode, uid,
	gid int) (os.FileInfo, error) {
	fd, err := unix.Open(f.at(name), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		if _, without := os.Lstat("/proc/self"); without != nil {
			return nil, errNoProc
		}
		return nil, errReplaced
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Mode()&os.ModeSocket == 0 {
		return nil, errReplaced
	}
	if err := reaches(proc(fd), ln); err != nil {
		return nil, err
	}
	if uid != -1 || gid != -1 {
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return fi, fmt.Errorf("change its owner: %w", err)
		}
	}
	if err := unix.Chmod(proc(fd), uint32(mode.Perm())); err != nil {
		return fi, fmt.Errorf("change its mode: %w", err)
	}
	return fi, nil
}

// reaches connects to a socket and finds out whether ln accepts the connection. Nothing else says
// for sure which file belongs to ln. Owner and type are not enough: a user who may write to the
// folder can put another socket of the same user there.
func reaches(path string, ln *net.UnixListener) error {
	c, err := net.Dial("unix", path)
	if os.IsNotExist(err) {
		return errNoProc
	}
	if err != nil {
		return errReplaced
	}
	defer c.Close()
	if peer, ok := PeerOf(c); !ok || peer.PID != os.Getpid() { // of another process
		return errReplaced
	}
	// it is queued already, unless it came to another listener of this process
	ln.SetDeadline(time.Now().Add(time.Second))
	defer ln.SetDeadline(time.Time{})
	for {
		a, err := ln.Accept()
		if err != nil {
			return errReplaced
		}
		peer, ok := PeerOf(a)
		a.Close() // any other peer is this user or root, and too early
		if ok && peer.PID == os.Getpid() {
			return nil
		}
	}
}

func peerOf(fd int) (p Peer, ok bool) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return p, false
	}
	return Peer{int(cred.Uid), int(cred.Pid)}, true
}
