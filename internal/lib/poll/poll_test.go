package poll

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// halfCloser is the peer's side of a test: a TCP connection or TLS over one.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// baseConn is a Base inside something else, as a listener wraps it.
type baseConn struct{ Base }

func (b *baseConn) PollBase() *Base { return &b.Base }

// connect returns the two ends of a TCP connection, which are closed after the test.
func connect(t *testing.T) (accepted, dialed *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	there, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { there.Close() })
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close() })
	return here.(*net.TCPConn), there.(*net.TCPConn)
}

// each runs f against every transport, each with a pair of connected sockets: ours,
// already added under token 7, and the peer's.
func each(t *testing.T, f func(t *testing.T, p *Poller, s *Socket, peer halfCloser,
	tcp *net.TCPConn)) {
	for _, tt := range []struct {
		name string
		p    *Poller
		tls  bool
	}{{"system", mustNew(t), false}, {"portable", NewPortable(), false},
		{"system/TLS", mustNew(t), true}, {"portable/TLS", NewPortable(), true}} {
		t.Run(tt.name, func(t *testing.T) {
			accepted, tcp := connect(t)
			ours := net.Conn(accepted)
			peer := halfCloser(tcp)
			if tt.tls {
				ours, peer = handshake(t, ours, tcp)
			}
			s, err := tt.p.Add(ours, 7)
			if err != nil {
				t.Fatal(err)
			}
			f(t, tt.p, &s, peer, tcp)
			if err := s.Close(tt.p); err != nil {
				t.Errorf("close socket: %v", err)
			}
			if err := tt.p.Close(); err != nil {
				t.Errorf("close poller: %v", err)
			}
		})
	}
}

// handshake puts TLS over both ends.
func handshake(t *testing.T, server, client net.Conn) (net.Conn, halfCloser) {
	t.Helper()
	return handshakeOf(t, server, client, 0)
}

// handshakeOf is handshake with a highest version of TLS; 0 is crypto/tls' own.
func handshakeOf(t *testing.T, server, client net.Conn, version uint16) (net.Conn, halfCloser) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ours := tls.Server(&baseConn{Base{Conn: server}},
		&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	theirs := tls.Client(client, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
	done := make(chan error)
	go func() { done <- theirs.Handshake() }()
	if err := errors.Join(ours.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func mustNew(t *testing.T) *Poller {
	t.Helper()
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// waitFor calls Wait until an event satisfies ok.
func waitFor(t *testing.T, p *Poller, ok func(Event) bool) {
	t.Helper()
	events := make([]Event, 4)
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		n, err := p.Wait(events, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events[:n] {
			if e.Token != 7 {
				t.Fatalf("event for token %d, want 7", e.Token)
			}
			if ok(e) {
				return
			}
		}
	}
	t.Fatal("no such event within 10 s")
}

func readable(e Event) bool { return e.Readable }
func writable(e Event) bool { return e.Writable }

func TestReadIsLevelTriggered(t *testing.T) {
	each(t, func(t *testing.T, p *Poller, s *Socket, peer halfCloser, tcp *net.TCPConn) {
		if n, err := s.Read(p, make([]byte, 8)); n != 0 || err != ErrAgain {
			t.Fatalf("read before anything was sent: %d, %v; want 0, ErrAgain", n, err)
		}
		peer.Write([]byte("hello"))
		var got []byte
		for len(got) < 5 { // two bytes at a time: the rest must be reported again
			waitFor(t, p, readable)
			waitFor(t, p, readable) // unread bytes must be reported too
			b := make([]byte, 2)
			n, err := s.Read(p, b)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b[:n]...)
		}
		if string(got) != "hello" {
			t.Fatalf("got %q, want hello", got)
		}
		peer.CloseWrite()
		waitFor(t, p, readable)
		if n, err := s.Read(p, make([]byte, 2)); n != 0 || err != io.EOF {
			t.Fatalf("read after the peer's end: %d, %v; want 0, EOF", n, err)
		}
	})
}

func TestWriteNeverBlocks(t *testing.T) {
	each(t, func(t *testing.T, p *Poller, s *Socket, peer halfCloser, tcp *net.TCPConn) {
		// 16 MiB, more than any socket buffer
		want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		received := make(chan []byte)
		rest := want
		for {
			n, err := s.Write(p, rest)
			rest = rest[n:]
			if err == ErrAgain {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(rest) == 0 {
				t.Fatal("the socket took 16 MiB without a reader")
			}
		}
		go func() {
			b, _ := io.ReadAll(peer)
			received <- b
		}()
		if err := s.WantWrite(p, 7, true); err != nil {
			t.Fatal(err)
		}
		for again := true; again || len(rest) > 0; {
			waitFor(t, p, writable)
			n, err := s.Write(p, rest)
			if err != nil && err != ErrAgain {
				t.Fatal(err)
			}
			rest, again = rest[n:], err == ErrAgain
		}
		if err := s.WantWrite(p, 7, false); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseWrite(p); err != nil {
			t.Fatal(err)
		}
		if got := <-received; !bytes.Equal(got, want) {
			t.Fatalf("the peer received %d bytes, want %d, the same", len(got), len(want))
		}
	})
}

func TestWriteEach(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	add := func(p *Poller) (s Socket, fd int32, plain bool, peer *net.TCPConn) {
		ours, peer := connect(t)
		s, err := p.Add(ours, 7)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(p) })
		fd, plain = s.Plain()
		return s, fd, plain, peer
	}
	if _, _, plain, _ := add(NewPortable()); plain {
		t.Error("a stream is no plain socket")
	}
	_, free, plain, peer := add(p)
	if !plain {
		t.Skip("no plain sockets on this system")
	}
	full, fullFD, _, _ := add(p)
	broken, brokenFD, _, _ := add(p)
	if err := broken.CloseWrite(p); err != nil {
		t.Fatal(err)
	}
	taken := []int32{-1}
	for taken[0] != 0 {
		// a socket that takes nothing takes a little more when the peer's system has answered
		if _, err := full.Write(p, make([]byte, 1<<16)); err != nil && err != ErrAgain {
			t.Fatal(err)
		}
		p.WriteEach([]int32{fullFD}, []byte("event"), taken)
	}
	taken = []int32{-1, -1}
	p.WriteEach([]int32{brokenFD, free}, []byte("event"), taken)
	if !slices.Equal(taken, []int32{0, 5}) {
		t.Errorf("taken %v", taken)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(peer, got); err != nil || string(got) != "event" {
		t.Errorf("the peer got %q, %v", got, err)
	}
	if _, err := broken.Write(p, []byte("event")); err == nil || err == ErrAgain {
		t.Errorf("why the closed socket took nothing: %v", err)
	}
}

func TestPeerGone(t *testing.T) {
	each(t, func(t *testing.T, p *Poller, s *Socket, peer halfCloser, tcp *net.TCPConn) {
		tcp.SetLinger(0) // reset
		tcp.Close()
		waitFor(t, p, readable)
		if _, err := s.Read(p, make([]byte, 2)); err == nil || err == ErrAgain {
			t.Fatalf("read after a reset: %v, want an error", err)
		}
	})
}

func TestWake(t *testing.T) {
	each(t, func(t *testing.T, p *Poller, s *Socket, peer halfCloser, tcp *net.TCPConn) {
		events := make([]Event, 1)
		if _, err := p.Wait(events, 0); err != nil { // a layer is ready until it was looked at
			t.Fatal(err)
		}
		if n, err := s.Read(p, make([]byte, 8)); n != 0 || err != ErrAgain {
			t.Fatalf("read: %d, %v; want 0, ErrAgain", n, err)
		}
		p.Wake() // before Wait: remembered
		if n, err := p.Wait(events, -1); n != 0 || err != nil {
			t.Fatalf("wait: %d, %v; want 0, nil", n, err)
		}
		done := make(chan error)
		go func() {
			_, err := p.Wait(events, -1)
			done <- err
		}()
		p.Wake() // during Wait, or before it
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n, err := p.Wait(events, 0); n != 0 || err != nil {
			t.Fatalf("wait with nothing to do: %d, %v; want 0, nil", n, err)
		}
	})
}

// More ready sockets than events: no socket starves and none is reported twice.
func TestMoreSocketsThanEvents(t *testing.T) {
	for name, p := range map[string]*Poller{"system": mustNew(t), "portable": NewPortable()} {
		t.Run(name, func(t *testing.T) {
			const count = 20
			socks := make([]Socket, count)
			for i := range socks {
				ours, peer := net.Pipe()
				s, err := p.Add(ours, uint64(i))
				if err != nil {
					t.Fatal(err)
				}
				socks[i] = s
				go peer.Write([]byte{byte(i)})
				defer peer.Close()
			}
			seen := map[uint64]bool{}
			events := make([]Event, 3)
			for len(seen) < count {
				n, err := p.Wait(events, 10*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range events[:n] {
					b := make([]byte, 2)
					n, err := socks[e.Token].Read(p, b)
					if err == ErrAgain && seen[e.Token] {
						continue
					}
					if n != 1 || b[0] != byte(e.Token) {
						t.Fatalf("token %d: read %d bytes, %v (%v)", e.Token, n, b[:n], err)
					}
					seen[e.Token] = true
				}
			}
			for i := range socks {
				socks[i].Close(p)
			}
			p.Close()
		})
	}
}

// echoer is a layer that answers everything it reads, as TLS answers requests to
// change keys.
type echoer struct{ *baseConn }

func (e echoer) NetConn() net.Conn { return e.baseConn }

func (e echoer) Read(b []byte) (int, error) {
	n, err := e.baseConn.Read(b)
	if _, werr := e.baseConn.Write(b[:n]); werr != nil {
		return n, werr
	}
	return n, err
}

func TestRemoteAddr(t *testing.T) {
	each(t, func(t *testing.T, p *Poller, s *Socket, _ halfCloser, tcp *net.TCPConn) {
		if got, want := s.RemoteAddr(p), tcp.LocalAddr().String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// TestBytes counts what has come and gone, and says where nobody counts.
func TestBytes(t *testing.T) {
	each(t, func(t *testing.T, p *Poller, s *Socket, peer halfCloser, _ *net.TCPConn) {
		wasIn, wasOut := s.Bytes(p)
		if n, err := s.Write(p, make([]byte, 700)); n != 700 || err != nil {
			t.Fatal(n, err)
		}
		if _, err := io.ReadFull(peer, make([]byte, 700)); err != nil {
			t.Fatal(err)
		}
		peer.Write(make([]byte, 500))
		buf := make([]byte, 1000)
		for got := 0; got < 500; {
			waitFor(t, p, readable)
			n, err := s.Read(p, buf)
			if got += n; err != nil && err != ErrAgain {
				t.Fatal(err)
			}
		}
		const layers = 150 // what TLS adds to so much
		in, out := s.Bytes(p)
		for deadline := time.Now().Add(10 * time.Second); out-wasOut < 700 &&
			time.Now().Before(deadline); {
			runtime.Gosched() // the other end's system, or the stream's writer, is about to say so
			_, out = s.Bytes(p)
		}
		if in -= wasIn; in < 500 || in > 500+layers {
			t.Errorf("%d bytes came, want 500", in)
		}
		if out -= wasOut; out < 700 || out > 700+layers {
			t.Errorf("%d bytes went, want 700", out)
		}
	})
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Skip(err)
	}
	defer ln.Close()
	there, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	here, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p := mustNew(t)
	defer p.Close()
	s, err := p.Add(here, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(p)
	if in, out := s.Bytes(p); hasKernel && (in != -1 || out != -1) {
		t.Errorf("a Unix socket: got %d, %d", in, out)
	}
}

// A layer writes on its own account too. What it writes for a peer that does not read
// is bounded.
func TestLayerIsBounded(t *testing.T) {
	p := mustNew(t)
	if p.kernel == nil {
		t.Skip("no layers on this system")
	}
	ours, peer := connect(t)
	base := &baseConn{Base{Conn: ours}}
	s, err := p.Add(echoer{base}, 7)
	if err != nil {
		t.Fatal(err)
	}
	go peer.Write(make([]byte, 32<<20)) // ends when peer is closed
	events, b, failed := make([]Event, 4), make([]byte, 16<<10), false
	for deadline := time.Now().Add(10 * time.Second); !failed && len(base.out) < 4<<20 &&
		time.Now().Before(deadline); {
		if _, err := p.Wait(events, time.Second); err != nil {
			t.Fatal(err)
		}
		_, err := s.Read(p, b)
		failed = err != nil && err != ErrAgain
	}
	if !failed || len(base.out) > 1<<20 {
		t.Errorf("%d bytes are held for a peer that does not read, failed: %v", len(base.out),
			failed)
	}
	s.Close(p)
	p.Close()
}

// valve is a connection that holds back written bytes while held is not nil.
type valve struct {
	net.Conn
	held *bytes.Buffer
}

func (v *valve) Write(b []byte) (int, error) {
	if v.held != nil {
		return v.held.Write(b)
	}
	return v.Conn.Write(b)
}

// TLS connections share the memory that records are read into. None keeps any while it
// is idle, and a record that comes in pieces is not disturbed by others.
func TestTLSBuffersAreShared(t *testing.T) {
	p := mustNew(t)
	if p.kernel == nil {
		t.Skip("no layers on this system")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type end struct {
		Socket
		top   net.Conn
		peer  halfCloser
		valve *valve
		got   []byte
	}
	var ends [2]*end
	for i := range ends {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ours, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		e := &end{valve: &valve{Conn: c}}
		e.top, e.peer = handshake(t, ours, e.valve)
		if e.Socket, err = p.Add(e.top, uint64(i)); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		defer e.Close(p)
		ends[i] = e
	}
	first, second := ends[0], ends[1]
	events, b := make([]Event, 4), make([]byte, 16<<10)
	// receive waits until both have got so much, reading whatever comes.
	receive := func(one, two int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); len(first.got) < one ||
			len(second.got) < two; {
			if time.Now().After(deadline) {
				t.Fatalf("got %d and %d bytes, want %d and %d", len(first.got), len(second.got),
					one, two)
			}
			n, err := p.Wait(events, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			for _, ev := range events[:n] {
				n, err := ends[ev.Token].Read(p, b)
				if err != nil && err != ErrAgain {
					t.Fatal(err)
				}
				ends[ev.Token].got = append(ends[ev.Token].got, b[:n]...)
			}
		}
	}
	for _, size := range []int{10, 1500, 5000, 16 << 10} {
		first.got, second.got = nil, nil
		want := bytes.Repeat([]byte("abcdefghij"), size/10)
		first.valve.held = new(bytes.Buffer)
		first.peer.Write(want)
		for record, n := first.valve.held.Bytes(), 0; n < len(record); {
			k := min(len(record)-n, len(record)/3+1)
			first.valve.Conn.Write(record[n : n+k])
			n += k
			second.peer.Write(want)
			if n < len(record) { // the other's is read while this one waits for the rest
				receive(0, len(second.got)+len(want))
			}
		}
		first.valve.held = nil
		receive(len(want), 3*len(want))
		if !bytes.Equal(first.got, want) || !bytes.Equal(second.got, bytes.Repeat(want, 3)) {
			t.Errorf("%d bytes: other bytes came than were sent", size)
		}
		for i, e := range ends {
			for _, err := e.Read(p, b); err != ErrAgain; _, err = e.Read(p, b) {
				if err != nil {
					t.Fatal(err)
				}
			}
			kept, ok := buffersOf(e.top)
			if !ok {
				t.Fatal("crypto/tls has other buffers than expected: they are not given back")
			}
			if n := kept.raw.Cap() + kept.hand.Cap() + int(kept.input.Size()); n > 0 {
				t.Errorf("%d bytes: connection %d keeps %d bytes while it is idle", size, i, n)
			}
		}
	}
}

func TestTestedGo(t *testing.T) {
	for version, want := range map[string]bool{
		"go1.26": true, "go1.26.8": true, "go1.26rc1": true, "go1.26.1 X:nodwarf5": true,
		"go1.25.3": false, "go1.27": false, "go1.260": false, "devel go1.27-abc": false, "": false,
	} {
		if got := tested(version); got != want {
			t.Errorf("%q: got %v, want %v", version, got, want)
		}
	}
	if hasKernel && !TLSBuffersShared() {
		t.Errorf("crypto/tls of %s is not one of %v: run TestTLSBuffersCarryOwnBytes with "+
			"REVERB_TEST_LONG=1 and the version added", runtime.Version(), testedGo)
	}
}

// An operator is told where idle TLS connections keep their buffers, and only there.
func TestTLSAdvice(t *testing.T) {
	if got := TLSAdvice(); got != "" {
		t.Errorf("got %q with a version that was tested", got)
	}
	if got := tlsAdvice(tlsOffsets{}, "go9.9"); hasKernel &&
		!strings.Contains(got, "built with go9.9; go1.26 was tested") {
		t.Errorf("got %q", got)
	}
}

// pair is a TLS connection of TestTLSBuffersCarryOwnBytes, with the bytes under way on it.
type pair struct {
	Socket
	peer    net.Conn // TLS, over valve
	valve   *valve   // holds back the bytes of the peer
	sent    int      // messages
	got     []byte   // of the next message
	arrived int      // messages
}

// check takes whole messages off p.got: the number of the pair and of the message, the
// length, the hash, the payload.
func (p *pair) check(t *testing.T, index int) {
	t.Helper()
	const head = 12 + sha256.Size
	for len(p.got) >= head {
		n := int(binary.BigEndian.Uint32(p.got[8:]))
		if from, number := binary.BigEndian.Uint32(p.got),
			binary.BigEndian.Uint32(p.got[4:]); int(from) != index || int(number) != p.arrived ||
			n > 1<<17 {
			t.Fatalf("connection %d has got message %d of connection %d, %d bytes, "+
				"want its own message %d", index, number, from, n, p.arrived)
		}
		if len(p.got) < head+n {
			return
		}
		if sum := sha256.Sum256(p.got[head : head+n]); !bytes.Equal(sum[:], p.got[12:head]) {
			t.Fatalf("connection %d: message %d has other bytes than were sent", index, p.arrived)
		}
		p.arrived++
		p.got = append(p.got[:0], p.got[head+n:]...)
	}
}

// send makes n messages of the peer's wait in the valve, all in one write.
func (p *pair) send(t *testing.T, index, n int, r *mathrand.Rand, random *mathrand.ChaCha8) {
	t.Helper()
	var b []byte
	for range n {
		payload := make([]byte, r.IntN(1<<r.IntN(15)))
		if r.IntN(200) == 0 {
			payload = make([]byte, r.IntN(100_000)) // of several records
		}
		random.Read(payload)
		b = binary.BigEndian.AppendUint32(b, uint32(index))
		b = binary.BigEndian.AppendUint32(b, uint32(p.sent))
		b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
		sum := sha256.Sum256(payload)
		b = append(append(b, sum[:]...), payload...)
		p.sent++
	}
	if _, err := p.peer.Write(b); err != nil {
		t.Fatal(err)
	}
}

// Every TLS connection gets its own bytes, whatever the others do meanwhile: records are cut at
// random bytes, hold several messages or a part of one, and are read in pieces. A version of Go
// must pass this test to be in testedGo.
func TestTLSBuffersCarryOwnBytes(t *testing.T) {
	p := mustNew(t)
	defer p.Close()
	pairs, messages := make([]pair, 24), 3_000
	if os.Getenv("REVERB_TEST_LONG") != "" {
		pairs, messages = make([]pair, 120), 100_000
	}
	r, random := mathrand.New(mathrand.NewPCG(15, 19)), mathrand.NewChaCha8([32]byte{15, 19})
	for i := range pairs {
		accepted, dialed := connect(t)
		e, version := &pairs[i], []uint16{tls.VersionTLS12, tls.VersionTLS13}[i%2]
		e.valve = &valve{Conn: dialed}
		top, peer := handshakeOf(t, accepted, e.valve, version)
		e.peer, e.valve.held = peer.(net.Conn), new(bytes.Buffer)
		var err error
		if e.Socket, err = p.Add(top, uint64(i)); err != nil {
			t.Fatal(err)
		}
		defer e.Close(p)
	}
	events, b := make([]Event, 16), make([]byte, 32<<10)
	deadline := time.Now().Add(9 * time.Minute)
	for sent, arrived := 0, 0; arrived < messages; {
		for range 8 {
			i := r.IntN(len(pairs))
			e := &pairs[i]
			if n := min(1+r.IntN(4), messages-sent); n > 0 && e.valve.held.Len() < 64<<10 {
				e.send(t, i, n, r, random)
				sent += n
			}
			if n := e.valve.held.Len(); n > 0 { // a few bytes, or up to 20 kB
				if _, err := e.valve.Conn.Write(
					e.valve.held.Next(1 +
						r.IntN(min(n, 1+r.IntN(1<<(2+r.IntN(13))))))); err != nil {
					t.Fatal(err)
				}
			}
		}
		n, err := p.Wait(events, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events[:n] {
			e := &pairs[ev.Token]
			k, err := e.Read(p, b[:1+r.IntN(1<<(4+r.IntN(12)))])
			if err != nil && err != ErrAgain {
				t.Fatal(err)
			}
			before := e.arrived
			e.got = append(e.got, b[:k]...)
			e.check(t, int(ev.Token))
			arrived += e.arrived - before
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d messages have arrived", arrived, messages)
		}
	}
}

// Sockets that stay ready do not keep others from being reported, of whatever
// transport they are.
func TestReadinessIsFair(t *testing.T) {
	for name, p := range map[string]*Poller{"system": mustNew(t), "portable": NewPortable()} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			const sockets = 8 // of the kernel's where there is one, then as many streams
			for i := range 2 * sockets {
				ours, peer := net.Pipe()
				if i < sockets {
					if peer, err = net.Dial("tcp", l.Addr().String()); err != nil {
						t.Fatal(err)
					}
					if ours, err = l.Accept(); err != nil {
						t.Fatal(err)
					}
				}
				s, err := p.Add(ours, uint64(i))
				if err != nil {
					t.Fatal(err)
				}
				go peer.Write([]byte("x"))
				defer s.Close(p)
				defer peer.Close()
			}
			seen, events := map[uint64]int{}, make([]Event, 4)
			for deadline := time.Now().Add(5 * time.Second); len(seen) < 2*sockets &&
				time.Now().Before(deadline); {
				n, err := p.Wait(events, time.Second)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range events[:n] {
					seen[e.Token]++ // and no goroutine reads
				}
			}
			if len(seen) < 2*sockets {
				t.Errorf("%d of %d sockets were reported: %v", len(seen), 2*sockets, seen)
			}
		})
	}
}

// The peer's address is that of the socket, whatever stands around it.
func TestPeerAddr(t *testing.T) {
	here, _ := connect(t)
	want := here.RemoteAddr().String()
	base := &baseConn{Base{Conn: here}}
	for name, c := range map[string]net.Conn{"a socket": here, "a base": base,
		"a layer": echoer{baseConn: base}} {
		if got := PeerAddr(c); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := PeerAddr(&baseConn{Base{Conn: noAddr{}}}); got != "" {
		t.Errorf("got %q of a socket without an address", got)
	}
}

type noAddr struct{ net.Conn }

func (noAddr) RemoteAddr() net.Addr { return nil }
