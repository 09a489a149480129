package recordlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Look calls each for every record in a folder, as Open does, and changes nothing there. size is
// how many bytes the file has. used says that a process has the folder: then the file may end in
// the midst of what that process writes, and nothing is wrong with that. Otherwise the error is
// what Open would say. A folder that is missing, and that Open would make, is empty.
func Look(dir string, o Options, each func(record []byte)) (found Found, size int64, used bool,
	err error) {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		if err = mayWrite(filepath.Dir(dir)); err != nil {
			err = fmt.Errorf("%s: %w", dir, err)
		}
		return found, 0, false, err
	}
	root, err := openOwn(dir)
	if err == nil {
		f := &folder{root: root}
		defer f.close()
		found, size, used, err = f.look(dir, &o, each)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", dir, err)
	}
	return found, size, used, err
}

func (f *folder) look(dir string, o *Options, each func([]byte)) (found Found, size int64,
	used bool, err error) {
	if f.lock, err = f.openOld(dir, lockName); err == nil {
		f.records, err = f.openOld(dir, fileName)
	}
	if err != nil {
		return found, 0, false, err
	}
	if f.lock != nil {
		err = lock(f.lock, false)
		used = errors.Is(err, ErrLocked)
		f.lock.Close() // and with it what was locked
		f.lock = nil
		if err != nil && !used {
			return found, 0, false, err
		}
	}
	for _, name := range []string{fileName, newName} {
		if err = f.judge(name, o.MaxBytes); err != nil && !used {
			return found, 0, false, err
		}
	}
	if f.records == nil {
		return found, 0, used, nil
	}
	info, err := f.records.Stat()
	if err != nil {
		return found, 0, used, err
	}
	_, found = read(f.records, info.Size(), o, each)
	return found, info.Size(), used, nil
}

// openOld opens a file of the folder; nil: Open would make it.
func (f *folder) openOld(dir, name string) (*os.File, error) {
	file, err := f.open(name, os.O_RDWR)
	if !errors.Is(err, os.ErrNotExist) {
		return file, err
	}
	if err = mayWrite(dir); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return nil, nil
}
