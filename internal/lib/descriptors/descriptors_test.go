//go:build unix

package descriptors

import (
	"net"
	"os"
	"testing"
	"time"
)

// A copy is the same socket, and the listener goes on, with deadlines, beside it and after it.
func TestSet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	here, there := net.Pipe()
	defer there.Close()
	var s Set
	if err := s.Add(here); err != ErrNone {
		t.Errorf("a pipe: %v", err)
	}
	if err := s.Add(l); err != nil || len(s.FDs) != 1 {
		t.Fatal(s.FDs, err)
	}
	f := os.NewFile(uintptr(s.FDs[0]), "copy")
	other, err := net.FileListener(f)
	if err != nil || other.Addr().String() != l.Addr().String() {
		t.Fatal(other, err)
	}
	other.Close()
	for range 2 {
		l.(*net.TCPListener).SetDeadline(time.Unix(1, 0))
		if _, err := l.Accept(); !os.IsTimeout(err) {
			t.Errorf("it blocks, or ends: %v", err)
		}
		s.Close()
	}
	if len(s.FDs) != 0 {
		t.Error("there are descriptors after Close")
	}
}
