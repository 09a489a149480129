// Package plainfile opens files that another user may have put there, or may change. Such a name
// may lead to a pipe that nobody writes to, to a device, or to something that never ends.
// Therefore the package opens only regular files, opening never waits, and a bound holds while a
// file grows. It follows links: a user who may set the link may also write the file.
package plainfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotRegular is wrapped where a name leads to a pipe, a device or a socket. For a folder that is
// syscall.EISDIR.
var ErrNotRegular = errors.New("not a regular file")

// Open opens a file for reading. The error is an *fs.PathError.
func Open(name string) (*os.File, error) {
	info, err := os.Stat(name) // opening some devices has effects
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(name, info)
	}
	return openSoon(name)
}

// openSoon opens a name that was a regular file a moment ago. It may be a pipe by now.
func openSoon(name string) (*os.File, error) {
	// a terminal would become that of this process, and could send it signals
	const soon = syscall.O_NONBLOCK | syscall.O_NOCTTY
	f, err := os.OpenFile(name, os.O_RDONLY|soon, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(name, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func notRegular(name string, info fs.FileInfo) error {
	err := ErrNotRegular
	if info.IsDir() {
		err = syscall.EISDIR
	}
	return &fs.PathError{Op: "open", Path: name, Err: err}
}

// Exists says whether a name leads to a regular file.
func Exists(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// Text is Read without a byte order mark, which some editors write.
func Text(name string, limit int) ([]byte, error) {
	b, err := Read(name, limit)
	return bytes.TrimPrefix(b, []byte("\ufeff")), err
}

// Read returns what a file holds, if that is at most limit bytes. What a writer adds meanwhile may
// be missing. A file whose size is 0 is empty: some files of /proc that say so, such as kmsg, make
// readers wait. The error is an *fs.PathError.
func Read(name string, limit int) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > int64(limit) {
		return nil, &fs.PathError{Op: "read", Path: name,
			Err: fmt.Errorf("the file is larger than %d bytes", limit)}
	}
	b := make([]byte, info.Size())
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF { // a writer has made it shorter
		return nil, err
	}
	return b[:n], nil
}
