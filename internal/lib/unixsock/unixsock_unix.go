//go:build unix && !linux

package unixsock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix" // chmod that does not follow links
)

const errRefused = syscall.ECONNREFUSED

func openFolder(dir string) (*folder, error) { return &folder{prefix: dir}, nil }

var umask sync.Mutex // a process has only one umask

// narrow makes files that are created before undo accessible to this user only.
func narrow() (undo func()) {
	umask.Lock()
	old := syscall.Umask(0o177)
	return func() {
		syscall.Umask(old)
		umask.Unlock()
	}
}

func narrowSocket(uintptr) error { return nil }

// settle sets mode and owner of the file called name, without following a link. The file is
// returned together with an error, once it is taken for the right one.
func (f *folder) settle(name string, _ *net.UnixListener, mode os.FileMode, uid,
	gid int) (os.FileInfo, error) {
	fi, err := f.lstat(name)
	if err != nil {
		return nil, errReplaced
	}
	if owner, _ := ownerOf(fi); fi.Mode()&os.ModeSocket == 0 || owner != os.Geteuid() {
		return nil, errReplaced
	}
	if uid != -1 || gid != -1 {
		if err := os.Lchown(f.at(name), uid, gid); err != nil {
			return fi, fmt.Errorf("change its owner: %w", errors.Unwrap(err))
		}
	}
	if err := unix.Fchmodat(unix.AT_FDCWD, f.at(name), uint32(mode.Perm()),
		unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fi, fmt.Errorf("change its mode: %w", err)
	}
	return fi, nil
}
