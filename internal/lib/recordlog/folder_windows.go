package recordlog

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows" // LockFileEx
)

// lock takes the lock that one process at a time has; it ends with the process, or with Close. If
// it is not alone, several may have it at the same time.
func lock(f *os.File, alone bool) error {
	how := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if alone {
		how |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(windows.Handle(f.Fd()), how, 0, 1, 0, &windows.Overlapped{})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	return nil
}

// mayWrite says that a folder is missing. Who can write to it is left to its access lists.
func mayWrite(dir string) error {
	_, err := os.Stat(dir)
	return errors.Unwrap(err)
}

// judgeOwner leaves it to the access lists of the folder who can read and change it.
func judgeOwner(os.FileInfo) error { return nil }

// sync does nothing: a folder cannot be synced.
func (f *folder) sync() error { return nil }
