package poll

import (
	"io"
	"net"
	"testing"
)

// reported says what Wait reports at once; the token of every event must be tok.
func reported(t *testing.T, p *Poller, tok uint64) (readable, writable bool) {
	t.Helper()
	events := make([]Event, 4)
	n, err := p.Wait(events, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events[:n] {
		if e.Token != tok {
			t.Errorf("event for token %d, want %d", e.Token, tok)
		}
		readable, writable = readable || e.Readable, writable || e.Writable
	}
	return readable, writable
}

// Watch says what a socket is reported for, with and without a layer, also while the layer holds
// bytes that the system does not know.
func TestWatch(t *testing.T) {
	each(t, func(t *testing.T, p *Poller, s *Socket, peer halfCloser, tcp *net.TCPConn) {
		if p.kernel == nil {
			if fd, plain := s.Plain(); fd >= 0 || plain || s.Watch(p, 8, Reading) == nil {
				t.Error("a stream is watched as one of the kernel's")
			}
			return
		}
		if fd, _ := s.Plain(); fd < 0 {
			t.Error("no descriptor")
		}
		peer.Write([]byte("hello"))
		waitFor(t, p, readable)
		if n, err := s.Read(p, make([]byte, 2)); n != 2 || err != nil { // a layer holds "llo" then
			t.Fatal(n, err)
		}
		watch := func(tok uint64, w Interest) {
			t.Helper()
			if err := s.Watch(p, tok, w); err != nil {
				t.Fatal(err)
			}
		}
		for _, tt := range []struct {
			w                  Interest
			readable, writable bool
		}{{0, false, false}, {0, false, false}, {Ending, false, false}, {Writing, false, true},
			{Reading, true, false}, {Writing | Reading, true, true}, {0, false, false},
			{Reading, true, false}} {
			watch(100+uint64(tt.w), tt.w)
			for range 2 {
				if r, w := reported(t, p, 100+uint64(tt.w)); r != tt.readable || w != tt.writable {
					t.Errorf("watched for %b: readable %v, writable %v", tt.w, r, w)
				}
			}
			if s.WantsWrite() != tt.writable {
				t.Errorf("watched for %b: WantsWrite is %v", tt.w, s.WantsWrite())
			}
		}
		watch(7, Reading)
		waitFor(t, p, readable)
		if n, err := s.Read(p, make([]byte, 9)); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		watch(7, Ending)
		tcp.CloseWrite()
		if err := s.CloseWrite(p); err != nil {
			t.Fatal(err)
		}
		waitFor(t, p, func(e Event) bool { return e.Readable && e.Writable })
		watch(7, 0)
		if r, w := reported(t, p, 7); r || w {
			t.Error("the end is reported, though nothing is asked for")
		}
		watch(7, Reading)
		waitFor(t, p, readable)
		if _, err := s.Read(p, make([]byte, 9)); err != io.EOF {
			t.Error(err)
		}
	})
}
