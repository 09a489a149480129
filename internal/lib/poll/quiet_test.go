package poll

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// quietPair connects two sockets; ours is quiet.
func quietPair(t *testing.T) (ours net.Conn, peer *net.TCPConn) {
	t.Helper()
	accepted, peer := connect(t)
	return Quiet(accepted), peer
}

func TestQuietCarriesBytes(t *testing.T) {
	ours, peer := quietPair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // more than the sockets hold
	done := make(chan error, 1)
	go func() {
		n, err := ours.Write(sent)
		if err == nil && n != len(sent) {
			err = io.ErrShortWrite
		}
		done <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("the peer got other bytes, or %v", err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	go peer.Write(sent)
	if _, err := io.ReadFull(ours, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("we got other bytes, or %v", err)
	}
}

// Errors are those of the connection itself, because net/http looks at them.
func TestQuietErrors(t *testing.T) {
	asked := []byte("x")
	for _, tt := range []struct {
		name string
		do   func(ours net.Conn, peer *net.TCPConn) error
		op   string // "": no *net.OpError
		want error
	}{
		{"the peer has closed", func(ours net.Conn, peer *net.TCPConn) error {
			peer.CloseWrite()
			_, err := ours.Read(asked)
			return err
		}, "", io.EOF},
		{"the peer has reset", func(ours net.Conn, peer *net.TCPConn) error {
			peer.SetLinger(0)
			peer.Close()
			_, err := ours.Read(asked)
			return err
		}, "read", syscall.ECONNRESET},
		{"a read past its deadline", func(ours net.Conn, _ *net.TCPConn) error {
			ours.SetReadDeadline(time.Unix(1, 0))
			_, err := ours.Read(asked)
			return err
		}, "read", os.ErrDeadlineExceeded},
		{"a write past its deadline", func(ours net.Conn, _ *net.TCPConn) error {
			ours.SetWriteDeadline(time.Unix(1, 0))
			_, err := ours.Write(asked)
			return err
		}, "write", os.ErrDeadlineExceeded},
		{"a deadline that ends a read", func(ours net.Conn, _ *net.TCPConn) error {
			ours.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := ours.Read(asked)
			return err
		}, "read", os.ErrDeadlineExceeded},
		{"closed before", func(ours net.Conn, _ *net.TCPConn) error {
			ours.Close()
			_, err := ours.Read(asked)
			return err
		}, "read", net.ErrClosed},
		{"a write after the peer's reset", func(ours net.Conn, peer *net.TCPConn) error {
			peer.SetLinger(0)
			peer.Close()
			ours.Read(asked)
			_, err := ours.Write(asked)
			return err
		}, "write", syscall.EPIPE},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.do(quietPair(t))
			var e *net.OpError
			if !errors.Is(err, tt.want) || errors.As(err, &e) != (tt.op != "") ||
				e != nil && e.Op != tt.op {
				t.Errorf("got %#v (%v), want %v of %q", err, err, tt.want, tt.op)
			}
		})
	}
}

// A socket may become a Poller's after it was read and written quietly.
func TestQuietIsAdded(t *testing.T) {
	ours, peer := quietPair(t)
	p := mustNew(t)
	defer p.Close()
	s, err := p.Add(ours, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(p)
	if s.over != nil && p.kernel != nil {
		t.Error("it has become a stream")
	}
	if _, err := s.Write(p, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(peer, b); err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestQuietAllocatesNothing(t *testing.T) {
	ours, peer := quietPair(t)
	b := make([]byte, 1)
	if n := testing.AllocsPerRun(100, func() {
		peer.Write(b)
		ours.Read(b)
		ours.Write(b)
		peer.Read(b)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
