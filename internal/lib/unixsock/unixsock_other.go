//go:build !unix

package unixsock

import (
	"errors"
	"net"
	"os"
	"syscall"
)

const errRefused = syscall.Errno(10061) // WSAECONNREFUSED

func openFolder(dir string) (*folder, error) { return &folder{prefix: dir}, nil }

func narrow() (undo func()) { return func() {} }

func narrowSocket(uintptr) error { return nil }

func (f *folder) settle(name string, _ *net.UnixListener, _ os.FileMode, uid, gid int) (os.FileInfo,
	error) {
	if uid != -1 || gid != -1 {
		return nil, errors.New("sockets have no owner on this system")
	}
	return f.lstat(name)
}

func ownerOf(os.FileInfo) (uid int, known bool) { return 0, false }
