package accept

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// paused is a server whose requests are answered with their own bodies, followed by another word.
// Those for /busy are read when release is closed, and those for /slow answered.
type paused struct {
	t       *testing.T
	gate    *Gate
	server  *http.Server
	pipes   *pipes
	release chan struct{}
	ended   chan struct{}
}

func newPaused(t *testing.T) *paused {
	p := &paused{t: t, pipes: newPipes(), release: make(chan struct{}),
		ended: make(chan struct{})}
	p.gate, _, _ = newGate(100)
	p.server = &http.Server{ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		ConnState: p.gate.NoteState, Handler: p.gate.Handler(http.HandlerFunc(p.echo))}
	go func() {
		p.server.Serve(p.gate.Guard(p.pipes, Options{}))
		close(p.ended)
	}()
	return p
}

func (p *paused) echo(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/busy" {
		<-p.release
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
	if r.URL.Path == "/slow" {
		<-p.release
	}
	w.Write(append(b, strings.Repeat(".", 1<<20)...))
}

// send connects and sends the beginning of a request, whose body is hello.
func (p *paused) send(path, body string) net.Conn {
	c := p.pipes.dial()
	io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"+body)
	synctest.Wait()
	return c
}

// answered says whether a request gets its whole answer.
func (p *paused) answered(c net.Conn) bool {
	defer c.Close()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	b, err := io.ReadAll(r.Body)
	return err == nil && r.StatusCode == 200 && len(b) == 5+1<<20 && string(b[:5]) == "hello"
}

func (p *paused) close() {
	p.server.Close()
	p.pipes.Close()
	<-p.ended
}

// After a pause the requests that have waited for their peers, or were busy, go on as if nothing
// had been.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaused(t)
		defer p.close()
		half, unread := p.send("/", "he"), p.send("/", "hello")
		end, ok := p.gate.Pause(time.Second)
		if !ok {
			t.Error("requests that wait for their peers are in the way")
		}
		var late net.Conn
		dialed := make(chan struct{})
		go func() {
			late = p.send("/", "hello")
			close(dialed)
		}()
		io.WriteString(half, "llo") // it may not go on yet
		time.Sleep(time.Second)
		if p.gate.pause.busy != 0 {
			t.Error("a request goes on in a pause")
		}
		end(false)
		<-dialed
		for name, c := range map[string]net.Conn{"half": half, "unread": unread, "late": late} {
			if !p.answered(c) {
				t.Errorf("%s: there is no answer", name)
			}
		}
		busy, whole := p.send("/busy", "hello"), p.send("/", "he")
		if end, ok = p.gate.Pause(time.Second); ok {
			t.Error("a request that is busy is not in the way")
		}
		end(false)
		close(p.release)
		io.WriteString(whole, "llo")
		if !p.answered(busy) || !p.answered(whole) {
			t.Error("there is no answer after a pause that was refused")
		}
	})
}

// When another process serves, an answer that has begun gets out. Requests that have not taken
// effect end, and no goroutine stays.
func TestPauseForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaused(t)
		unread := p.send("/", "hello")
		all := []net.Conn{p.send("/", "he"), p.send("/", "he")}
		end, ok := p.gate.Pause(time.Second)
		if !ok {
			t.Error("requests that wait for their peers are in the way")
		}
		io.WriteString(all[1], "llo")
		synctest.Wait()
		end(true)
		answered := make(chan bool)
		go func() {
			time.Sleep(500 * time.Millisecond)
			answered <- p.answered(unread)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		p.gate.Leave(ctx, p.server)
		if took := time.Since(began); !<-answered || took != time.Second {
			t.Errorf("an answer that has begun is cut, or left after %v", took)
		}
		p.close()
		for i, c := range all {
			if p.answered(c) {
				t.Errorf("request %d is answered", i)
			}
		}
	})
}

// A request that has taken effect just as the pause became quiet is answered all the same.
func TestAnswerAtPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaused(t)
		busy := p.send("/slow", "hello")
		answered := make(chan bool)
		go func() { answered <- p.answered(busy) }()
		go func() {
			time.Sleep(1500 * time.Millisecond) // nobody may begin then
			close(p.release)
		}()
		end, ok := p.gate.Pause(time.Second)
		if !ok {
			t.Error("a request that is busy for a while is in the way")
		}
		end(true)
		p.gate.Leave(t.Context(), p.server)
		if !<-answered {
			t.Error("there is no answer")
		}
		p.close()
	})
}
