package relay

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reverb/internal/lib/poll"
	"reverb/internal/lib/selfsigned"
)

// base is a poll.Base inside something else, as a listener wraps it.
type base struct{ poll.Base }

func (b *base) PollBase() *poll.Base { return &b.Base }

// valve is a client's connection that holds back what is written while held is not nil.
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

// stage is a relay and what stands around it.
type stage struct {
	t      *testing.T
	relays Relays
	poller *poll.Poller
	relay  *Relay
	cert   tls.Certificate
	all    []*party
}

// party is one connection: its client, and the successor, which has the other end of the pair.
type party struct {
	tcp       *net.TCPConn // the client's socket
	valve     *valve       // over tcp
	client    *tls.Conn    // over valve
	sock      poll.Socket  // the socket that is relayed
	successor *net.UnixConn
	secrets   bytes.Buffer // what the client logs of its keys
}

func newStage(t *testing.T) *stage {
	t.Helper()
	p, err := poll.New()
	if err != nil {
		t.Fatal(err)
	}
	made := selfsigned.Make(t, "relay.test", time.Unix(0, 0), time.Now().Add(time.Hour))
	cert, err := tls.X509KeyPair([]byte(made.Cert), []byte(made.Key))
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, poller: p, cert: cert}
	s.relay = s.relays.New(p)
	t.Cleanup(func() { p.Close() }) // a relay that was started has closed it
	return s
}

// connect makes a TLS connection and adds it to the poller.
func (s *stage) connect(version uint16) *party {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	p := &party{tcp: nc.(*net.TCPConn), valve: &valve{Conn: nc}}
	top := tls.Server(&base{poll.Base{Conn: accepted}},
		&tls.Config{Certificates: []tls.Certificate{s.cert}, SessionTicketsDisabled: true})
	p.client = tls.Client(p.valve, &tls.Config{InsecureSkipVerify: true, MaxVersion: version,
		KeyLogWriter: &p.secrets})
	done := make(chan error)
	go func() { done <- p.client.Handshake() }()
	if err := errors.Join(top.Handshake(), <-done); err != nil {
		s.t.Fatal(err)
	}
	if p.sock, err = s.poller.Add(top, uint64(1000+len(s.all))); err != nil {
		s.t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(time.Minute))
	s.t.Cleanup(func() { nc.Close() })
	s.all = append(s.all, p)
	return p
}

// give adds a connection to the relay, and passes the other end of its pair on.
func (s *stage) give(p *party) {
	s.t.Helper()
	fd, relayed, ok := s.relay.Pass(p.sock, false, nil)
	if !relayed || !ok {
		s.t.Fatal("no pair")
	}
	copied, err := unix.Dup(fd) // another process gets a copy too
	if err != nil {
		s.t.Fatal(err)
	}
	f := os.NewFile(uintptr(copied), "pair")
	nc, err := net.FileConn(f)
	f.Close()
	if err != nil {
		s.t.Fatal(err)
	}
	p.successor = nc.(*net.UnixConn)
	p.successor.SetDeadline(time.Now().Add(time.Minute))
	s.t.Cleanup(func() { nc.Close() })
}

// party connects and gives.
func (s *stage) party(version uint16) *party {
	s.t.Helper()
	p := s.connect(version)
	s.give(p)
	return p
}

// begin lets the test take the relay's turns itself.
func (s *stage) begin() {
	s.relay.group.connections.Add(int64(len(s.relay.links)))
	s.relay.closeGiven()
	s.relay.begin()
}

// quiet takes turns until there is nothing to do, and fails if there is always something.
func (s *stage) quiet() {
	s.t.Helper()
	for still, turns := 0, 0; still < 3; turns++ {
		if s.relay.turn(0) > 0 {
			still = 0
		} else {
			still++
		}
		if turns == 100_000 {
			s.t.Fatal("the relay comes to no rest")
		}
	}
}

// until takes turns until something is so.
func (s *stage) until(what string, so func() bool) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); s.relay.turn(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// gone waits until no connection is relayed.
func (s *stage) gone() {
	s.t.Helper()
	s.until("all connections are closed", func() bool { return s.relay.open == 0 })
	if n := s.relays.Connections(); n != 0 {
		s.t.Errorf("%d connections are counted", n)
	}
}

// result is what a reader has read.
type result struct {
	b   []byte
	err error
}

// readAll reads c to its end, in a goroutine.
func readAll(c io.Reader) <-chan result {
	got := make(chan result, 1)
	go func() {
		b, err := io.ReadAll(c)
		got <- result{b, err}
	}()
	return got
}

// receive takes turns until a reader has read all.
func (s *stage) receive(from <-chan result) (r result) {
	s.t.Helper()
	s.until("the end of a reader", func() bool {
		select {
		case r = <-from:
			return true
		default:
			return false
		}
	})
	return r
}

// fill writes until nobody takes more for a while, and returns how much was taken.
func (s *stage) fill(c net.Conn, b []byte) (n int) {
	s.t.Helper()
	for n < len(b) {
		c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		done := make(chan int)
		go func() {
			k, _ := c.Write(b[n:])
			done <- k
		}()
		k, over := 0, false
		for !over {
			select {
			case k = <-done:
				over = true
			default:
				s.relay.turn(0)
			}
		}
		if n += k; k == 0 {
			break
		}
	}
	c.SetWriteDeadline(time.Now().Add(time.Minute))
	s.quiet()
	return n
}

// random is n bytes that a seed decides.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	mathrand.NewChaCha8(key).Read(b)
	return b
}

var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// TestSchedule lets very different peers send and receive at the same time: in small and in large
// pieces, in both directions, with pauses, with a half-close. Some connections break; that changes
// nothing for the others.
func TestSchedule(t *testing.T) {
	before := descriptors(t)
	s := newStage(t)
	const size = 24
	var work sync.WaitGroup
	for i := range size {
		p := s.party(versions[i%2])
		r := mathrand.New(mathrand.NewPCG(21, uint64(i)))
		if i%6 == 5 { // one that breaks
			if i%12 == 5 {
				p.tcp.Write(random(uint64(i), 100)) // no record
			} else {
				p.tcp.SetLinger(0)
				p.tcp.Close()
			}
			work.Go(func() {
				io.Copy(io.Discard, p.successor) // the end, or a reset
				p.successor.Close()
			})
			continue
		}
		up, down := random(uint64(2*i), r.IntN(1<<20)), random(uint64(2*i+1), r.IntN(1<<20))
		seeds := [4]uint64{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()}
		work.Go(func() { send(t, p.client, up, seeds[0]) })
		work.Go(func() { send(t, p.successor, down, seeds[1]) })
		work.Go(func() { check(t, i, p.successor, up, seeds[2]) })
		work.Go(func() { check(t, i, p.client, down, seeds[3]) })
	}
	s.relay.End(true)
	work.Wait()
	s.relays.Wait(t.Context(), 0)
	in, out := s.relays.Bytes()
	t.Logf("%d bytes in, %d bytes out", in, out)
	if n := s.relays.Connections(); n != 0 || in == 0 || out == 0 {
		t.Errorf("%d connections are left", n)
	}
	for _, p := range s.all {
		p.tcp.Close()
		p.successor.Close()
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, and %d were", after, before)
	}
}

type writeCloser interface {
	io.Writer
	CloseWrite() error
}

// send writes b in pieces, and ends its direction.
func send(t *testing.T, c writeCloser, b []byte, seed uint64) {
	r := mathrand.New(mathrand.NewPCG(seed, 1))
	for len(b) > 0 {
		n := min(len(b), 1+r.IntN(1<<r.IntN(18)))
		if _, err := c.Write(b[:n]); err != nil {
			t.Error("write: ", err)
			return
		}
		if b = b[n:]; r.IntN(4) == 0 {
			runtime.Gosched()
		}
	}
	if err := c.CloseWrite(); err != nil {
		t.Error("end: ", err)
	}
}

// check reads to the end, in pieces, and compares.
func check(t *testing.T, i int, c io.Reader, want []byte, seed uint64) {
	r := mathrand.New(mathrand.NewPCG(seed, 2))
	b := make([]byte, 1<<16)
	for at := 0; ; {
		n, err := c.Read(b[:1+r.IntN(1<<r.IntN(17))])
		if n > len(want)-at || !bytes.Equal(b[:n], want[at:at+n]) {
			t.Errorf("connection %d: other bytes came after %d", i, at)
			return
		}
		if at += n; err == io.EOF && at == len(want) {
			return
		} else if err != nil {
			t.Errorf("connection %d: %v after %d of %d bytes", i, err, at, len(want))
			return
		}
		if r.IntN(4) == 0 {
			runtime.Gosched()
		}
	}
}

// descriptors counts the open descriptors of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestSlow has one side that does not read. What waits for it is bounded, the relay rests, and
// nothing is lost.
func TestSlow(t *testing.T) {
	for _, version := range versions {
		s := newStage(t)
		p := s.party(version)
		s.begin()
		want := random(1, 32<<20)
		n := s.fill(p.successor, want)
		l := &s.relay.links[0]
		if !l.client.blocked || l.client.watch != poll.Reading|poll.Writing ||
			l.successor.watch != poll.Ending || n == len(want) {
			t.Errorf("%d bytes were taken; %+v", n, l)
		}
		if len(l.client.rest) > turnBytes || len(l.successor.rest) > 0 {
			t.Errorf("%d and %d bytes wait", len(l.client.rest), len(l.successor.rest))
		}
		// an event from before the watch was changed tells of bytes, not of the end
		l.successor.since = s.relay.turns
		if s.relay.handle(poll.Event{Token: 1, Readable: true}); l.successor.gone {
			t.Error("a stale event counts as the end")
		}
		got := readAll(p.client)
		p.successor.CloseWrite()
		if r := s.receive(got); r.err != nil || !bytes.Equal(r.b, want[:n]) {
			t.Errorf("the client: %d of %d bytes, %v", len(r.b), n, r.err)
		}
		n = s.fill(p.client, want)
		if !l.successor.blocked || l.client.watch != 0 || len(l.successor.rest) > turnBytes {
			t.Errorf("%d bytes were taken; %+v", n, l)
		}
		got = readAll(p.successor)
		p.tcp.CloseWrite() // a record may be cut, as the deadline has cut it
		if r := s.receive(got); r.err != nil || len(r.b) < n || !bytes.HasPrefix(want, r.b) {
			t.Errorf("the successor: %d bytes of at least %d, %v", len(r.b), n, r.err)
		}
		s.gone()
	}
}

// TestPair measures what a pair holds.
func TestPair(t *testing.T) {
	for _, size := range []int{1, 100, 1000, 4096, 65536} {
		ours, theirs, err := pair()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for b := make([]byte, size); ; {
			k, err := unix.Write(ours, b)
			if err != nil {
				break
			}
			n += k
		}
		if t.Logf("in writes of %d bytes: %d bytes", size, n); n > 2*pairBytes || n == 0 {
			t.Errorf("a pair holds %d bytes", n)
		}
		closeFD(ours)
		closeFD(theirs)
	}
}

// TestEnds ends one direction, or both, at either side.
func TestEnds(t *testing.T) {
	for _, version := range versions {
		t.Run(tls.VersionName(version)+" client first", func(t *testing.T) {
			s := newStage(t)
			p := s.party(version)
			s.begin()
			p.client.Write([]byte("hello"))
			p.client.CloseWrite()
			if r := s.receive(readAll(p.successor)); string(r.b) != "hello" || r.err != nil {
				t.Errorf("got %q, %v", r.b, r.err)
			}
			if s.relay.open != 1 {
				t.Fatal("a half of the connection goes on")
			}
			p.successor.Write([]byte("bye"))
			p.successor.Close()
			if r := s.receive(readAll(p.client)); string(r.b) != "bye" || r.err != nil {
				t.Errorf("got %q, %v", r.b, r.err)
			}
			s.gone()
		})
		t.Run(tls.VersionName(version)+" successor first", func(t *testing.T) {
			s := newStage(t)
			p := s.party(version)
			s.begin()
			p.successor.Write([]byte("bye"))
			p.successor.CloseWrite()
			if r := s.receive(readAll(p.client)); string(r.b) != "bye" || r.err != nil {
				t.Errorf("got %q, %v", r.b, r.err) // crypto/tls tells an end without close_notify
			}
			if s.quiet(); s.relay.open != 1 {
				t.Fatal("a half of the connection goes on")
			}
			p.client.Write([]byte("last"))
			p.client.Close()
			if r := s.receive(readAll(p.successor)); string(r.b) != "last" || r.err != nil {
				t.Errorf("got %q, %v", r.b, r.err)
			}
			s.gone()
		})
		t.Run(tls.VersionName(version)+" successor closes", func(t *testing.T) {
			s := newStage(t)
			p, idle := s.party(version), s.party(version)
			s.begin()
			p.client.Write([]byte("nobody reads this"))
			s.quiet()
			p.successor.Write([]byte("bye"))
			p.successor.Close() // with unread bytes: a reset
			if r := s.receive(readAll(p.client)); string(r.b) != "bye" || r.err != nil {
				t.Errorf("got %q, %v", r.b, r.err)
			}
			idle.successor.CloseWrite()
			s.quiet()
			idle.successor.Close() // nothing is read from it any more
			s.gone()
		})
		t.Run(tls.VersionName(version)+" client breaks", func(t *testing.T) {
			s := newStage(t)
			p, closing := s.party(version), s.party(version)
			s.begin()
			p.client.Write([]byte("hello"))
			s.quiet()
			p.tcp.SetLinger(0)
			p.tcp.Close()
			r := s.receive(readAll(p.successor))
			if string(r.b) != "hello" || r.err != nil {
				t.Errorf("got %q, %v", r.b, r.err)
			}
			closing.tcp.SetLinger(0)
			closing.tcp.Close()
			closing.successor.Write([]byte("too late"))
			s.gone()
			if _, err := closing.successor.Write([]byte("x")); err == nil {
				t.Error("the pair is open still")
			}
		})
	}
}

// TestEarlier begins to relay when something is under way: bytes that were decrypted and not read,
// a part of a record, and ciphertext that the client has not taken.
func TestEarlier(t *testing.T) {
	for _, version := range versions {
		s := newStage(t)
		p := s.connect(version)
		p.client.Write([]byte("decrypted, partly read;"))
		b, n := make([]byte, 9), 0
		for events := make([]poll.Event, 4); n < len(b); {
			if _, err := s.poller.Wait(events, time.Second); err != nil {
				t.Fatal(err)
			}
			k, err := p.sock.Read(s.poller, b[n:])
			if n += k; err != nil && err != poll.ErrAgain {
				t.Fatal(err)
			}
		}
		p.valve.held = new(bytes.Buffer)
		p.client.Write([]byte(" in parts"))
		p.tcp.Write(p.valve.held.Next(11))
		want, sent := random(2, 32<<20), 0
		for err := error(nil); err == nil; { // until the layer keeps some
			n, err = p.sock.Write(s.poller, want[sent:])
			if sent += n; err != nil && err != poll.ErrAgain {
				t.Fatal(err)
			}
		}
		if err := p.sock.WantWrite(s.poller, 1000, true); err != nil {
			t.Fatal(err)
		}
		s.give(p)
		s.begin()
		s.quiet()
		if !s.relay.links[0].client.blocked {
			t.Error("the client has taken all")
		}
		p.successor.Write(want[sent : sent+1000])
		p.successor.CloseWrite()
		if r := s.receive(readAll(p.client)); r.err != nil || !bytes.Equal(r.b, want[:sent+1000]) {
			t.Errorf("the client got %d bytes of %d, %v", len(r.b), sent+1000, r.err)
		}
		p.tcp.Write(p.valve.held.Bytes())
		p.tcp.CloseWrite()
		if r := s.receive(readAll(p.successor)); string(r.b) != ", partly read; in parts" {
			t.Errorf("the successor got %q, %v", r.b, r.err)
		}
		s.gone()
	}
}

// keys writes records of TLS 1.3 by hand, since crypto/tls asks for no change of keys.
type keys struct {
	secret []byte
	seq    uint64
}

func (k *keys) expand(label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 "+label)))
	info = append(append(info, "tls13 "+label...), 0)
	b, err := hkdf.Expand(sha256.New, k.secret, string(info), n)
	if err != nil {
		panic(err)
	}
	return b
}

// record is a record of a content type (RFC 8446 §5.2).
func (k *keys) record(kind byte, payload []byte) []byte {
	block, err := aes.NewCipher(k.expand("key", 16))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	nonce := k.expand("iv", 12)
	for i := range 8 {
		nonce[11-i] ^= byte(k.seq >> (8 * i))
	}
	k.seq++
	head := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(payload)+1+16))
	return aead.Seal(head, nonce, append(slices.Clone(payload), kind), head)
}

// update asks for a change of keys on both sides (RFC 8446 §4.6.3).
func (k *keys) update() []byte {
	b := k.record(22, []byte{24, 0, 0, 1, 1})
	k.secret, k.seq = k.expand("traffic upd", 32), 0
	return b
}

// TestKeysChange has the client ask for new keys, also while it does not read.
func TestKeysChange(t *testing.T) {
	s := newStage(t)
	p := s.party(tls.VersionTLS13)
	if p.client.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("another cipher suite is preferred here")
	}
	k := &keys{}
	for line := range strings.Lines(p.secrets.String()) {
		f := strings.Fields(line)
		if f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			k.secret, _ = hex.DecodeString(f[2])
		}
	}
	s.begin()
	p.tcp.Write(append(k.record(23, []byte("one")), k.update()...))
	p.tcp.Write(k.record(23, []byte(" two")))
	s.quiet()
	want := random(3, 32<<20)
	n := s.fill(p.successor, want)
	if !s.relay.links[0].client.blocked {
		t.Error("the client has taken all")
	}
	for range 3 {
		p.tcp.Write(append(k.update(), k.record(23, []byte(" more"))...))
	}
	s.quiet()
	p.tcp.Write(k.update())
	s.quiet()
	got := readAll(p.client)
	p.successor.CloseWrite()
	if r := s.receive(got); r.err != nil || !bytes.Equal(r.b, want[:n]) {
		t.Errorf("the client got %d bytes of %d, %v", len(r.b), n, r.err)
	}
	p.tcp.Write(k.record(21, []byte{1, 0})) // close_notify
	if r := s.receive(readAll(p.successor)); string(r.b) != "one two more more more" {
		t.Errorf("the successor got %q, %v", r.b, r.err)
	}
	p.successor.Close()
	s.gone()
}

// TestPatience closes when the client does not take what the successor has left.
func TestPatience(t *testing.T) {
	s := newStage(t)
	p, other := s.party(tls.VersionTLS13), s.party(tls.VersionTLS13)
	s.begin()
	if got := s.relay.timeout(time.Now()); got >= 0 {
		t.Errorf("the relay sleeps %v, though nothing ends", got)
	}
	s.fill(p.successor, random(5, 32<<20))
	p.successor.Close()
	s.quiet()
	now := time.Now()
	if got := s.relay.timeout(now); got <= 0 || got > patience || s.relay.open != 2 {
		t.Errorf("the relay sleeps %v; %d are open", got, s.relay.open)
	}
	s.relay.expire(now)
	if s.relay.open != 2 {
		t.Error("closed at once")
	}
	s.relay.expire(now.Add(patience))
	if s.relay.open != 1 || s.relay.timeout(now) >= 0 {
		t.Errorf("%d are open", s.relay.open)
	}
	other.successor.Write([]byte("x"))
	s.quiet()
	if n, err := other.client.Read(make([]byte, 9)); n != 1 {
		t.Error("the other: ", n, err)
	}
	other.client.Close()
	other.successor.Close()
	s.gone()
}

// TestStop passes bytes on until the successor has closed, or the time is over.
func TestStop(t *testing.T) {
	s := newStage(t)
	p, stays := s.party(tls.VersionTLS13), s.party(tls.VersionTLS12)
	s.relay.End(true)
	if n := s.relays.Connections(); n != 2 {
		t.Errorf("%d connections are relayed", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	waited := make(chan bool)
	go func() {
		s.relays.Wait(ended, time.Hour)
		waited <- true
	}()
	p.successor.Write([]byte("goodbye"))
	p.successor.Close()
	if b, err := io.ReadAll(p.client); string(b) != "goodbye" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	stays.client.Write([]byte("still here"))
	if n, err := stays.successor.Read(make([]byte, 99)); n != len("still here") {
		t.Error(n, err)
	}
	s.relay.Stop(time.Now())
	<-waited
	if _, err := stays.successor.Read(make([]byte, 9)); err != io.EOF {
		t.Error("the pair is open: ", err)
	}
	if _, err := stays.client.Read(make([]byte, 9)); err == nil {
		t.Error("the connection is open")
	}
}

// TestFewDescriptors passes a second socket when there are descriptors for one pair and a half:
// what the first left open here for the successor is sent and closed.
func TestFewDescriptors(t *testing.T) {
	s := newStage(t)
	first, second := s.connect(tls.VersionTLS13), s.connect(tls.VersionTLS13)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 200
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &was)
	var taken []int
	for fd, err := unix.Dup(0); err == nil; fd, err = unix.Dup(0) {
		taken = append(taken, fd)
	}
	for i, fd := range taken {
		if i < 3 {
			unix.Close(fd)
		} else {
			defer unix.Close(fd)
		}
	}
	sent := 0
	flush := func() error { sent++; return nil }
	if _, relayed, _ := s.relay.Pass(first.sock, false, flush); !relayed || sent != 0 {
		t.Fatalf("the first: %v, %d flushes", relayed, sent)
	}
	if _, relayed, _ := s.relay.Pass(second.sock, false, flush); !relayed || sent != 1 {
		t.Errorf("the second: %v, %d flushes", relayed, sent)
	}
	if _, relayed, _ := s.relay.Pass(second.sock, false, flush); relayed || sent != 2 {
		t.Errorf("a third: %v, %d flushes", relayed, sent)
	}
	if got := s.relays.Given(); got.Relayed != 2 || got.Told != 1 {
		t.Errorf("got %+v", got)
	}
	s.relay.End(false)
}

// TestNotEnded gives the pairs up: the connection is as before.
func TestNotEnded(t *testing.T) {
	s := newStage(t)
	before := descriptors(t)
	p := s.connect(tls.VersionTLS13)
	open := descriptors(t) - before
	sent := 0
	want := func(more, flushed int) {
		t.Helper()
		if got := descriptors(t) - before - open; got != more {
			t.Errorf("%d more descriptors, want %d", got, more)
		}
		if sent != flushed {
			t.Errorf("%d flushes, want %d", sent, flushed)
		}
	}
	flush := func() error { sent++; return nil }
	for range batch - 1 {
		s.relay.Pass(p.sock, false, nil)
		s.relay.Sent(flush, false)
	}
	want(2*(batch-1), 0)
	s.relay.Pass(p.sock, false, nil)
	s.relay.Sent(flush, false)
	want(batch, 1)
	s.relay.Pass(p.sock, false, nil)
	if err := s.relay.Sent(func() error { return io.EOF }, true); err != io.EOF {
		t.Error(err)
	}
	want(batch+2, 1)
	s.relay.Sent(flush, true)
	want(batch+1, 2)
	s.relay.Pass(p.sock, false, nil)
	s.relay.End(false)
	want(-1, 2) // that of a connection that is not passed on
	p.client.Write([]byte("hello"))
	b := make([]byte, 9)
	for events, n := make([]poll.Event, 4), 0; n < 5; {
		k, err := s.poller.Wait(events, time.Second)
		for _, ev := range events[:k] {
			if ev.Token != 1000 {
				t.Fatalf("an event for %d, %v", ev.Token, err)
			}
			got, err := p.sock.Read(s.poller, b[n:])
			if n += got; err != nil && err != poll.ErrAgain {
				t.Fatal(err)
			}
		}
	}
	p.sock.Close(s.poller)
}

// TestLeave parts with sockets of three kinds: one that the other process has, one with a pair, and
// one with TLS for which there is no pair.
func TestLeave(t *testing.T) {
	s := newStage(t)
	with, without := s.party(tls.VersionTLS13), s.connect(tls.VersionTLS13)
	plain := s.connect(tls.VersionTLS13)
	raw, _ := plain.sock.Plain()
	fd, err := unix.Dup(int(raw)) // as the other process has it
	if err != nil {
		t.Fatal(err)
	}
	bare, err := s.poller.Hold(fd)
	if err != nil {
		t.Fatal(err)
	}
	if got, relayed, ok := s.relay.Pass(without.sock, true, nil); got < 0 || relayed || ok {
		t.Errorf("a connection that is being closed: got %d, %v, %v", got, relayed, ok)
	} else if n, err := unix.Read(got, make([]byte, 9)); n != 0 || err != nil {
		t.Errorf("its descriptor reads %d, %v", n, err)
	}
	if got, relayed, ok := s.relay.Pass(bare, false, nil); got != fd || relayed || !ok {
		t.Errorf("a plain socket: got %d, %v, %v", got, relayed, ok)
	}
	before := descriptors(t)
	for sock, want := range map[*poll.Socket]bool{&with.sock: true, &without.sock: false,
		&bare: true, &plain.sock: false} {
		left := s.relay.Leave(*sock)
		if left != want {
			t.Errorf("left: %v, want %v", left, want)
		}
		if !left {
			s.relay.Farewell(*sock, []byte("bye"), true)
		}
	}
	if got := before - descriptors(t); got != 1 {
		t.Errorf("%d sockets were closed, want 1", got)
	}
	without.client.Write([]byte("not read any more"))
	s.relays.Spread = 50 * time.Millisecond
	s.relay.End(true)
	if got := s.relays.Given(); got != (Given{Plain: 1, Relayed: 1}) {
		t.Errorf("given: %+v", got)
	}
	for _, p := range []*party{without, plain} {
		b, err := io.ReadAll(p.client)
		if string(b) != "bye" || err != nil {
			t.Errorf("the farewell is %q, %v", b, err)
		}
		p.client.Close()
	}
	with.successor.Write([]byte("x"))
	if n, err := with.client.Read(make([]byte, 9)); n != 1 {
		t.Error(n, err)
	}
	with.successor.Close()
	s.relays.Wait(t.Context(), 0)
	portable := poll.NewPortable()
	here, there := net.Pipe()
	defer there.Close()
	stream, err := portable.Add(here, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := s.relays.New(portable).Pass(stream, false, nil); ok {
		t.Error("a stream was passed on")
	}
	stream.Close(portable)
}

// A relay that is stopped says farewell to all.
func TestFarewellAtStop(t *testing.T) {
	s := newStage(t)
	p := s.connect(tls.VersionTLS13)
	s.relays.Spread = time.Hour
	s.relay.Farewell(p.sock, []byte("bye"), true)
	s.relay.End(true)
	s.relay.Stop(time.Now())
	if b, err := io.ReadAll(p.client); string(b) != "bye" || err != nil {
		t.Errorf("the farewell is %q, %v", b, err)
	}
	s.relays.Wait(t.Context(), 0)
}

// A relayed connection has this, a session of crypto/tls and three descriptors in two processes.
func TestSize(t *testing.T) {
	if size := unsafe.Sizeof(link{}); size > 128 {
		t.Errorf("a link takes %d bytes", size)
	}
}

// TestEmpty ends at once.
func TestEmpty(t *testing.T) {
	s := newStage(t)
	s.relay.End(true)
	s.relays.Wait(t.Context(), 0)
}
