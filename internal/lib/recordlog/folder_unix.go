//go:build unix

package recordlog

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock takes the lock that one process at a time has; it ends with the process, or with Close. If
// it is not alone, several may have it at the same time.
func lock(f *os.File, alone bool) error {
	how := syscall.LOCK_EX | syscall.LOCK_NB
	if !alone {
		how = syscall.LOCK_SH | syscall.LOCK_NB
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		case !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("lock it: %w", err)
		}
	}
}

// mayWrite says why nothing can be made in a folder, in the words of the attempt.
func mayWrite(dir string) error {
	const write, search = 2, 1
	return syscall.Access(dir, write|search)
}

// judgeOwner refuses a folder that another user can look into or change.
func judgeOwner(info os.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return errors.New("its owner cannot be read")
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("belongs to the user %d, and this process runs as %d", st.Uid,
			os.Geteuid())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("other users can read or write it (mode %04o); chmod it to 0700",
			info.Mode().Perm())
	}
	return nil
}

// sync waits until the names in the folder are on the disk.
func (f *folder) sync() error {
	d, err := f.root.Open(".")
	if err != nil {
		return errors.Unwrap(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: cannot be synced
		return errors.Unwrap(err)
	}
	return nil
}
