package accept

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// get sends a request and says whether its answer comes.
func get(c net.Conn, in *bufio.Reader) (ok bool) {
	go io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}

// housing serves one listener.
func housing(g *Gate, in net.Listener, o Options) *house {
	h := &house{gate: g}
	h.serve(g.Guard(in, o))
	return h
}

// In a pause a connection without a request does not read. It delays nothing. Afterwards it has as
// much time as before.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, p, _ := newGate(10)
		in := newPipes()
		h := housing(g, in, Options{})
		silent, idle, half := in.dial(), in.dial(), in.dial()
		fromIdle := bufio.NewReader(idle)
		if !get(idle, fromIdle) {
			t.Fatal("there is no answer")
		}
		io.WriteString(half, "GET / HTTP/1.1\r\nHost: x\r\n")
		time.Sleep(8 * time.Second) // of the 10 s for a head, and of 75 s until the next request
		go func() {
			time.Sleep(100 * time.Millisecond)
			io.WriteString(half, "\r\n")
			http.ReadResponse(bufio.NewReader(half), nil)
		}()
		began := time.Now()
		end, ok := g.Pause(time.Second)
		if took := time.Since(began); !ok || took != 100*time.Millisecond {
			t.Errorf("ok %v after %v", ok, took)
		}
		come := make(chan bool)
		go func() { come <- get(silent, bufio.NewReader(silent)) }()
		synctest.Wait()
		time.Sleep(time.Minute)
		if n := g.pending.n.Load(); n != 0 {
			t.Errorf("in a pause %d connections read", n)
		}
		end(false)
		if !<-come {
			t.Error("a request that came in a pause has no answer")
		}
		time.Sleep(66 * time.Second)
		if !get(idle, fromIdle) {
			t.Error("the pause counted as silence")
		}
		time.Sleep(76 * time.Second)
		for name, c := range map[string]net.Conn{"silent": silent, "idle": idle, "half": half} {
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s: it has no deadline any more: %v", name, err)
			}
			c.Close()
		}
		in.Close()
		h.ends.Wait()
		h.server.Close()
		synctest.Wait()
		if n := g.pending.n.Load(); p.Load() != 0 || n != 0 {
			t.Errorf("%d places are taken, %d connections counted", p.Load(), n)
		}
	})
}

// A deadline that is set in a pause counts after it, and so does the end of a pause at once.
func TestHeldDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, _ := newGate(10)
		in := newPipes()
		ln := g.Guard(in, Options{})
		go in.dial()
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		g.NoteState(nc, http.StateNew)
		read := make(chan error)
		for range 3 {
			go func() {
				_, err := nc.Read(make([]byte, 4))
				read <- err
			}()
			synctest.Wait()
			g.hold()
			synctest.Wait()
			nc.SetReadDeadline(time.Now().Add(time.Minute))
			time.Sleep(time.Hour)
			g.pause.set(false)
			began := time.Now()
			var late net.Error
			if err := <-read; !errors.As(err, &late) || !late.Timeout() ||
				time.Since(began) != time.Minute {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			g.NoteState(nc, http.StateIdle)
			nc.SetReadDeadline(time.Time{})
		}
		g.hold()
		go func() {
			_, err := nc.Read(make([]byte, 4))
			read <- err
		}()
		synctest.Wait()
		nc.Close()
		if err := <-read; err != io.EOF {
			t.Errorf("a connection that is closed in a pause: %v", err)
		}
	})
}

// A byte of the next request that net/http has read while it answered is no clean beginning: the
// pause waits for the answer.
func TestReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _, _ := newGate(10)
		in := newPipes()
		h := housing(g, in, Options{})
		c := in.dial()
		from := bufio.NewReader(c)
		go io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGE")
		if resp, err := http.ReadResponse(from, nil); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		synctest.Wait()
		answered := make(chan error)
		go func() {
			time.Sleep(300 * time.Millisecond)
			io.WriteString(c, "T / HTTP/1.1\r\nHost: x\r\n\r\n")
			_, err := http.ReadResponse(from, nil)
			answered <- err
		}()
		began := time.Now()
		if _, ok := g.Pause(time.Second); !ok || time.Since(began) != 300*time.Millisecond {
			t.Errorf("ok %v after %v", ok, time.Since(began))
		}
		if err := <-answered; err != nil {
			t.Error(err)
		}
		g.Leave(t.Context(), h.server)
		h.ends.Wait()
		if _, err := from.ReadByte(); err != io.EOF {
			t.Errorf("it is open: %v", err)
		}
	})
}

// A request whose head is half read at a stop gets its answer, and no connection stays.
func TestShutdownInHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, p, _ := newGate(10)
		in := newPipes()
		ln := g.Guard(in, Options{})
		h := &house{gate: g}
		h.serve(ln)
		c, idle := in.dial(), in.dial()
		from := bufio.NewReader(c)
		if !get(c, from) || !get(idle, bufio.NewReader(idle)) {
			t.Fatal("there is no answer")
		}
		io.WriteString(c, "GET / HTTP/1.1\r\n")
		ln.Close()
		h.ends.Wait()
		answered := make(chan bool)
		go func() {
			time.Sleep(300 * time.Millisecond)
			io.WriteString(c, "Host: x\r\n\r\n")
			resp, err := http.ReadResponse(from, nil)
			answered <- err == nil && resp.Close
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		g.Shutdown(ctx, h.server)
		if took := time.Since(began); !<-answered || took != 300*time.Millisecond {
			t.Errorf("the answer is cut, or does not end the connection; it took %v", took)
		}
		c.Close()
		idle.Close()
		synctest.Wait()
		if n := g.pending.n.Load(); p.Load() != 0 || n != 0 {
			t.Errorf("%d places are taken, %d connections counted", p.Load(), n)
		}
	})
}

// kept hides the end of a connection from its other side, as a copy of its descriptor does.
type kept struct{ net.Conn }

func (kept) Close() error { return nil }

// Clean connections go to another gate, and their clients do not notice.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const line = "PROXY TCP4 198.51.100.7 192.0.2.1 1234 80\r\n"
		proxied := Options{Name: "main", Proxied: func(net.Addr) bool { return true },
			HeaderTimeout: 10 * time.Second}
		g, p, _ := newGate(10)
		in := newPipes()
		old := housing(g, listening{in}, proxied)
		silent, told, idle, half := in.dial(), in.dial(), in.dial(), in.dial()
		fromIdle := bufio.NewReader(idle)
		io.WriteString(told, line)
		io.WriteString(idle, line)
		io.WriteString(half, line+"GE")
		if !get(idle, fromIdle) {
			t.Fatal("there is no answer")
		}
		end, ok := g.Pause(time.Second)
		if end(true); !ok {
			t.Error("it is busy")
		}
		next, q, _ := newGate(3)
		other := newPipes()
		new := housing(next, other, proxied)
		peers := 0
		err := g.Move(func(m *Moved) error {
			if m.Name != "main" || m.Left <= 0 || m.Left > 75*time.Second {
				t.Errorf("got %+v", m)
			}
			if m.Peer == netip.MustParseAddrPort("198.51.100.7:1234") && m.Told {
				peers++
			} else if m.Told || m.Peer.IsValid() {
				t.Errorf("got %+v", m)
			}
			ln, ok := next.Adopt(m)
			if !ok {
				t.Fatal("no listener")
			}
			new.server.Serve(ln)
			return nil
		})
		if err != nil || peers != 2 {
			t.Errorf("%v, %d peers", err, peers)
		}
		synctest.Wait()
		if _, ok := next.Adopt(&Moved{Name: "other"}); ok {
			t.Error("a listener that is not there")
		}
		ours, theirs := net.Pipe() // there is no place for it, and nobody makes room so soon
		ln, _ := next.Adopt(&Moved{Name: "main", Conn: named{theirs, here, there}})
		new.server.Serve(ln)
		if _, err := ours.Read(make([]byte, 1)); err != io.EOF || q.Load() != 3 {
			t.Errorf("%d places are taken by 3 connections; %v", q.Load(), err)
		}
		time.Sleep(30 * time.Second) // longer than a head and a whole request may take
		for range 2 {
			if !get(idle, fromIdle) {
				t.Error("a connection that was idle is not served by the other process")
			}
		}
		half.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		g.Leave(ctx, old.server)
		old.ends.Wait()
		synctest.Wait()
		if n := g.pending.n.Load(); p.Load() != 0 || n != 0 {
			t.Errorf("%d places are taken, %d connections counted", p.Load(), n)
		}
		for _, c := range []net.Conn{silent, told, idle} {
			c.Close()
		}
		other.Close()
		new.ends.Wait()
		new.server.Close()
	})
}

// listening has connections that are kept.
type listening struct{ *pipes }

func (l listening) Accept() (net.Conn, error) {
	c, err := l.pipes.Accept()
	if err != nil {
		return nil, err
	}
	return kept{c}, nil
}

// Over TLS a connection moves before its handshake only, a pause waits for the first request after
// it, and busy clients are told to come back.
func TestHoldTLS(t *testing.T) {
	config := selfSigned(t)
	synctest.Test(t, func(t *testing.T) {
		g, _, _ := newGate(10)
		in := newPipes()
		h := housing(g, in, Options{Name: "main", TLS: config})
		silent := in.dial()
		dial := func() (*tls.Conn, *bufio.Reader) {
			c := tls.Client(in.dial(), &tls.Config{InsecureSkipVerify: true})
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			return c, bufio.NewReader(c)
		}
		idle, fromIdle := dial()
		if !get(idle, fromIdle) {
			t.Fatal("there is no answer")
		}
		old, _ := dial()
		time.Sleep(5 * time.Second)
		young, fromYoung := dial()
		g.Loosen(true)
		come, ended := make(chan bool, 1), make(chan error, 3)
		go func() {
			time.Sleep(200 * time.Millisecond)
			come <- get(young, fromYoung)
			_, err := fromYoung.ReadByte()
			ended <- err
		}()
		began := time.Now()
		end, ok := g.Pause(time.Second)
		if took := time.Since(began); !ok || took != 200*time.Millisecond {
			t.Errorf("ok %v after %v", ok, took)
		}
		if !<-come || <-ended != io.EOF {
			t.Error("a busy connection has no answer, or stays, although it cannot move")
		}
		end(true)
		moved := 0
		g.Move(func(m *Moved) error {
			moved++
			return nil
		})
		if moved != 1 {
			t.Errorf("%d connections move", moved)
		}
		for _, c := range []net.Conn{idle, old} {
			go func() {
				_, err := c.Read(make([]byte, 1))
				ended <- err
			}()
		}
		g.Leave(t.Context(), h.server)
		if a, b := <-ended, <-ended; a != io.EOF || b != io.EOF {
			t.Errorf("the others end with %v and %v", a, b)
		}
		for _, c := range []net.Conn{silent, idle, old, young} {
			c.Close()
		}
		h.ends.Wait()
	})
}
