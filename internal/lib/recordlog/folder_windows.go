package recordlog

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows" // LockFileEx
)

// lock takes the lock that one process at a time has; it ends with the process, or with Close.
func lock(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
		&windows.Overlapped{})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	return nil
}

// judgeOwner leaves it to the access lists of the folder who can read and change it.
func judgeOwner(os.FileInfo) error { return nil }

// sync does nothing: a folder cannot be synced.
func (f *folder) sync() error { return nil }
