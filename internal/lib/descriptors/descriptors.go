// Package descriptors gives the descriptors of listeners and connections to another process.
package descriptors

import (
	"errors"
	"os"
)

// ErrNone is the error for what has no descriptor of its own, such as a TLS connection.
var ErrNone = errors.New("it has no descriptor")

// Set has copies of descriptors, until Close.
type Set struct {
	FDs   []int
	files []*os.File
}

// Add adds a copy of the descriptor of a listener or a connection, which goes on as before.
func (s *Set) Add(of any) error {
	v, ok := of.(interface{ File() (*os.File, error) })
	if !ok {
		return ErrNone
	}
	f, err := v.File()
	if err != nil {
		return err
	}
	s.files = append(s.files, f)
	raw, err := f.SyscallConn() // not Fd, which makes both descriptors block
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { s.FDs = append(s.FDs, int(fd)) })
}

// Close closes the copies.
func (s *Set) Close() {
	for _, f := range s.files {
		f.Close() // nothing was written to it
	}
	*s = Set{}
}
