package accept

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/places"
)

// named is one end of a pipe that has addresses.
type named struct {
	net.Conn
	local, remote net.Addr
}

func (n named) LocalAddr() net.Addr  { return n.local }
func (n named) RemoteAddr() net.Addr { return n.remote }

var here, there = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80},
	&net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 4711}

// pipes is a listener that accepts the connections in its channel.
type pipes struct {
	come chan net.Conn
	end  chan struct{}
	once sync.Once
	mu   sync.Mutex
	past chan struct{} // closed while its deadline is over
}

func newPipes() *pipes {
	return &pipes{come: make(chan net.Conn), end: make(chan struct{}), past: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	p.mu.Lock()
	past := p.past
	p.mu.Unlock()
	select {
	case c := <-p.come:
		return c, nil
	case <-p.end:
		return nil, net.ErrClosed
	case <-past:
		return nil, os.ErrDeadlineExceeded
	}
}

// SetDeadline knows none, and one that is over.
func (p *pipes) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	over := false
	select {
	case <-p.past:
		over = true
	default:
	}
	if t.IsZero() && over {
		p.past = make(chan struct{})
	} else if !t.IsZero() && !over {
		close(p.past)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return here }

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.end) })
	return nil
}

// dial connects to the listener.
func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.come <- named{theirs, here, there}
	return ours
}

// lockedLog is a log that a server writes and a test reads.
type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newGate(limit int64) (*Gate, *places.Places, *lockedLog) {
	p, log := places.New(limit), new(lockedLog)
	return NewGate(p, slog.New(slog.NewTextHandler(log, nil))), p, log
}

// selfSigned is the configuration of a server with a self-signed certificate.
func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der},
		PrivateKey: key}}, NextProtos: []string{"http/1.1"}}
}

// A connection that belongs to another address is told once it begins.
func TestStrays(t *testing.T) {
	all := Hints{Proxy: "a header", TLS: "a handshake", HTTP: "plain HTTP"}
	for _, tt := range []struct {
		name, sent string
		hints      Hints
		want       string
	}{
		{"TLS", "\x16\x03\x01\x00\x05", all, "a handshake"},
		{"TLS as it should be", "\x16\x03\x01\x00\x05",
			Hints{Proxy: "a header", HTTP: "plain HTTP"}, ""},
		{"HTTP", "GET / HTTP/1.1\r\n", all, "plain HTTP"},
		{"HTTP as it should be", "GET / HTTP/1.1\r\n", Hints{Proxy: "a header", TLS: "a handshake"},
			""},
		{"PROXY", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", all, "a header"},
		{"PROXY, version 2", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", all, "a header"},
		{"anything", "\x00", all, ""},
	} {
		g, _, log := newGate(1)
		in := newPipes()
		ln := g.Guard(in, Options{Hints: tt.hints})
		go func() {
			c := in.dial()
			io.WriteString(c, tt.sent)
			io.WriteString(c, tt.sent) // the test does not look at later bytes
			c.Close()
		}()
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != tt.sent+tt.sent {
			t.Errorf("%s: read %q, %v", tt.name, got, err)
		}
		c.Close()
		want := `msg="` + tt.want + `" address=192.0.2.1:80 remote=192.0.2.9:4711` + "\n"
		if said := log.text(); tt.want == "" && said != "" ||
			tt.want != "" && (strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, want)) {
			t.Errorf("%s: the log says %q, want %q", tt.name, said, want)
		}
	}
}

// The PROXY header of a trusted peer names the client, and readers do not see it.
func TestProxyHeader(t *testing.T) {
	const line = "PROXY TCP4 198.51.100.7 192.0.2.1 1234 80\r\n"
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name, sent, read, who string
			proxied               func(net.Addr) bool
		}{
			{"trusted", line + "GET", "GET", "198.51.100.7:1234",
				func(a net.Addr) bool { return a == net.Addr(there) }},
			{"without an address", "PROXY UNKNOWN\r\nGET", "GET", "192.0.2.9:4711",
				func(net.Addr) bool { return true }},
			{"not trusted", line, line, "192.0.2.9:4711", func(net.Addr) bool { return false }},
			{"no header", "GET / HTTP/1.1\r\n", "", "192.0.2.9:4711",
				func(net.Addr) bool { return true }},
			{"silent", "", "", "192.0.2.9:4711", func(net.Addr) bool { return true }},
		} {
			g, _, _ := newGate(1)
			in := newPipes()
			ln := g.Guard(in, Options{Proxied: tt.proxied, HeaderTimeout: time.Minute})
			var ours net.Conn
			go func() {
				ours = in.dial()
				io.WriteString(ours, tt.sent)
			}()
			c, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if got := c.RemoteAddr().String(); got != tt.who {
				t.Errorf("%s: it comes from %s, want %s", tt.name, got, tt.who)
			}
			b := make([]byte, len(line))
			if n, err := c.Read(b); string(b[:n]) != tt.read || (err != nil) != (tt.read == "") {
				t.Errorf("%s: read %q, %v, want %q", tt.name, b[:n], err, tt.read)
			}
			c.Close()
			ours.Close()
		}
	})
}

// A place is freed once: by Close, or by the owner of the connection that Detach returns.
func TestPlaces(t *testing.T) {
	for _, secure := range []bool{false, true} {
		g, p, _ := newGate(2)
		in := newPipes()
		o := Options{}
		if secure {
			o.TLS = selfSigned(t)
		}
		ln := g.Guard(in, o)
		accept := func() net.Conn {
			go in.dial()
			c, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		a, b := accept(), accept()
		if p.Load() != 2 {
			t.Errorf("%d places are taken by 2 connections", p.Load())
		}
		guarded(a).Close()
		guarded(a).Close()
		if p.Load() != 1 {
			t.Errorf("%d places are taken by 1 connection", p.Load())
		}
		bare := Detach(b)
		if _, isGuarded := bare.(*conn); isGuarded || secure != (bare == b) {
			t.Errorf("TLS %v: detached is %T", secure, bare)
		}
		if guarded(b).Close(); p.Load() != 1 {
			t.Errorf("%d places are taken, want the one of the connection that was taken out",
				p.Load())
		}
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	if Detach(theirs) != theirs {
		t.Error("a connection of no gate has become another")
	}
	if guarded(theirs) != nil {
		t.Error("a connection of no gate is guarded")
	}
	newGateOf, _, _ := newGate(1)
	newGateOf.NoteState(theirs, http.StateNew) // changes nothing
	if newGateOf.pending.n.Load() != 0 {
		t.Error("a connection of no gate is counted")
	}
}

// Closing the listener ends an Accept that waits for a place.
func TestCloseWhileFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, p, log := newGate(1)
		p.Add(1)
		in := newPipes()
		ln := g.Guard(in, Options{})
		go func() {
			c := in.dial()
			io.Copy(io.Discard, c) // until the other side closes it
			c.Close()
		}()
		go func() {
			synctest.Wait()
			ln.Close()
		}()
		if _, err := ln.Accept(); err != net.ErrClosed {
			t.Errorf("got %v", err)
		}
		if _, err := ln.Accept(); err != net.ErrClosed {
			t.Errorf("of a closed listener: got %v", err)
		}
		if said := log.text(); !strings.Contains(said, "accepting none until some are gone") ||
			!strings.Contains(said, "connections=1 limit=1") {
			t.Errorf("the log says %q", said)
		}
		if p.Load() != 1 {
			t.Errorf("%d places are taken, want 1", p.Load())
		}
	})
}

// house is an HTTP server behind a gate. A GET is answered at once; a POST when its body
// has come.
type house struct {
	gate   *Gate
	server *http.Server
	ends   sync.WaitGroup
}

func (h *house) serve(listeners ...net.Listener) {
	h.server = &http.Server{ConnState: h.gate.NoteState, IdleTimeout: 75 * time.Second,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
		Handler: h.gate.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			w.Write(b)
		}))}
	for _, ln := range listeners {
		h.ends.Go(func() { h.server.Serve(ln) })
	}
}

// Connections that have no request make room at the limit, the longest silent first, for
// an address with TLS and one without; one that is being served does not.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	config := selfSigned(t)
	synctest.Test(t, func(t *testing.T) {
		g, p, log := newGate(10)
		secure, plain := newPipes(), newPipes()
		h := &house{gate: g}
		listeners := []net.Listener{g.Guard(secure, Options{TLS: config}),
			g.Guard(plain, Options{})}
		h.serve(listeners...)
		served := plain.dial()
		go io.WriteString(served,
			"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
		fromServed := bufio.NewReader(served)
		if got, err := fromServed.ReadString('\n'); got != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("got %q, %v", got, err)
		}
		kept := plain.dial()
		if got := ask(t, kept); got != "HTTP/1.1 200 OK" {
			t.Fatalf("got %q", got)
		}
		gone := make(chan struct{}, 3*60+1)
		for i := range 60 {
			all := []net.Conn{plain.dial(), secure.dial(), plain.dial()}
			go func() {
				if i%2 > 0 {
					all[1].Write([]byte{0x16, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3})
				}
			}()
			go io.WriteString(all[2], "GET / HTTP/1.1\r\nHo")
			for _, c := range append(all, kept)[:3+max(0, 1-i)] {
				go func() {
					io.Copy(io.Discard, c)
					c.Close()
					gone <- struct{}{}
				}()
			}
		}
		for range 3*60 + 1 - 9 {
			<-gone // or synctest reports that all wait for ever
		}
		for name, c := range map[string]net.Conn{"plain": plain.dial(),
			"TLS": tls.Client(secure.dial(), &tls.Config{InsecureSkipVerify: true})} {
			if got := ask(t, c); got != "HTTP/1.1 200 OK" {
				t.Errorf("%s: a newcomer got %q", name, got)
			}
			c.Close() // otherwise the server's own Close waits until its alert is read
		}
		go io.WriteString(served, "{}")
		fromServed.ReadString('\n') // the empty line after 100 Continue
		if got, err := fromServed.ReadString('\n'); got != "HTTP/1.1 200 OK\r\n" {
			t.Errorf("the connection that was served got %q, %v", got, err)
		}
		if said := log.text(); !strings.Contains(said, "closing the one that has been without a "+
			"request for the longest") ||
			!strings.Contains(said, "remote=192.0.2.9:4711 connections=10 limit=10") {
			t.Errorf("the log says %q", said)
		}
		served.Close()
		for _, ln := range listeners {
			ln.Close()
		}
		h.ends.Wait()
		h.server.Close()
		synctest.Wait()
		if p.Load() != 0 {
			t.Errorf("%d places are taken at the end", p.Load())
		}
	})
}

// ask sends a request and returns the first line of the answer.
func ask(t *testing.T, c net.Conn) string {
	t.Helper()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Proto + " " + resp.Status
}

// Shutdown answers a request that has been accepted and comes a little later, does not
// wait for a connection that has had its answer, and drops what its context does not wait
// for.
func TestShutdown(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g, p, _ := newGate(10)
			in := newPipes()
			h := &house{gate: g}
			ln := g.Guard(in, Options{})
			h.serve(ln)
			idle, fresh, half := in.dial(), in.dial(), in.dial()
			ask(t, idle)
			go io.WriteString(half, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
			synctest.Wait()
			ln.Close()
			h.ends.Wait()
			answers := make(chan string, 2)
			for c, rest := range map[net.Conn]string{fresh: "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
				half: "{}"} {
				go func() {
					time.Sleep(500 * time.Millisecond)
					if late {
						time.Sleep(time.Second)
					}
					io.WriteString(c, rest)
					b, _ := io.ReadAll(c)
					c.Close()
					first, _, _ := strings.Cut(string(b), "\r\n")
					answers <- first
				}()
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			g.Shutdown(ctx, h.server)
			took, want := time.Since(began), "HTTP/1.1 200 OK"
			if late {
				want = ""
			}
			if late && took != time.Second || !late && took != 500*time.Millisecond {
				t.Errorf("late %v: it took %v", late, took)
			}
			for range 2 {
				if got := <-answers; got != want {
					t.Errorf("late %v: got %q, want %q", late, got, want)
				}
			}
			idle.Close()
			synctest.Wait()
			if p.Load() != 0 || g.pending.n.Load() != 0 {
				t.Errorf("late %v: %d places are taken, %d answers are awaited", late, p.Load(),
					g.pending.n.Load())
			}
		})
	}
}

// Whatever a connection begins with, it is read as it came, and one line of the log at most
// is about it.
func FuzzFirstBytes(f *testing.F) {
	for _, s := range []string{"\x16\x03\x01", "GET / HTTP/1.1\r\n", "PROXY UNKNOWN\r\n",
		"\r\n\r\n\x00\r\nQUIT\n", "\x00", "P", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		g, p, log := newGate(1)
		in := newPipes()
		ln := g.Guard(in, Options{Hints: Hints{Proxy: "a header", TLS: "a handshake",
			HTTP: "plain HTTP"}})
		go func() {
			c := in.dial()
			c.Write(sent)
			c.Close()
		}()
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != string(sent) {
			t.Errorf("read %q, %v, want %q", got, err, sent)
		}
		if c.Close(); p.Load() != 0 || strings.Count(log.text(), "\n") > 1 {
			t.Errorf("%d places are taken; the log says %q", p.Load(), log.text())
		}
	})
}
