package accept

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// pause keeps the listeners of a gate from accepting, and knows the requests that are answered.
type pause struct {
	mu       *sync.Mutex
	changed  *sync.Cond
	paused   bool
	shut     bool // no request may begin
	all      []*listener
	requests map[*http.ResponseController]bool
}

func newPause() pause {
	mu := new(sync.Mutex)
	return pause{mu: mu, changed: sync.NewCond(mu),
		requests: make(map[*http.ResponseController]bool)}
}

func (p *pause) guards(l *listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, l)
}

func (p *pause) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed.Broadcast()
}

// set says whether the listeners accept.
func (p *pause) set(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = paused
	p.shut = p.shut && paused
	p.changed.Broadcast()
	at := time.Time{}
	if paused {
		at = time.Unix(1, 0) // interrupts an Accept that waits
	}
	for _, l := range p.all {
		if ln, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
			ln.SetDeadline(at) // fails on a closed listener, which accepts nothing either
		}
	}
}

// park waits until the server knows every connection that was accepted: each listener has come back
// for the next one, or waits for a place.
func (p *pause) park(ctx context.Context) bool {
	return p.wait(ctx, func() bool {
		return !slices.ContainsFunc(p.all, func(l *listener) bool {
			return l.serves && !l.parked && !l.isClosed()
		})
	})
}

// wait waits until something is so, or ctx is done.
func (p *pause) wait(ctx context.Context, so func() bool) bool {
	defer context.AfterFunc(ctx, p.wake)()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !so() && ctx.Err() == nil {
		p.changed.Wait()
	}
	return so()
}

// accept accepts a connection when the gate is not paused.
func (l *listener) accept() (net.Conn, error) {
	p := &l.gate.pause
	p.note(func() { l.serves = true })
	for {
		nc, err := l.Listener.Accept()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return nc, err
		}
		p.note(func() {
			l.parked = true
			p.changed.Broadcast()
			for p.paused && !l.isClosed() {
				p.changed.Wait()
			}
			l.parked = false
		})
		if l.isClosed() {
			return nil, net.ErrClosed
		}
	}
}

// note changes something under the lock, and tells whoever waits.
func (p *pause) note(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

func (l *listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// enter notes a request that is answered. After cut it waits for the end of the pause.
func (p *pause) enter(w http.ResponseWriter) (leave func()) {
	c := http.NewResponseController(w)
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.shut {
		p.changed.Wait()
	}
	p.requests[c] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if delete(p.requests, c); len(p.requests) == 0 {
			p.changed.Broadcast()
		}
	}
}

// cut ends the requests that are answered: nothing more is read of them, and no answer gets out.
func (p *pause) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	for c := range p.requests {
		c.SetReadDeadline(time.Unix(1, 0))
		c.SetWriteDeadline(time.Unix(1, 0)) // they fail on a connection that was taken over
	}
}

// quiet waits until no request is answered, or ctx is done.
func (p *pause) quiet(ctx context.Context) bool {
	return p.wait(ctx, func() bool { return len(p.requests) == 0 })
}

// Pause stops accepting: new connections wait in the system. Then it waits until every request has
// been answered, or grace has passed; after that it cuts the rest, whose peers get no answer. ok is
// false if some go on all the same for as long again. resume accepts again.
func (g *Gate) Pause(server *http.Server, grace time.Duration) (resume func(), ok bool) {
	server.SetKeepAlivesEnabled(false)
	g.pause.set(true)
	resume = func() {
		server.SetKeepAlivesEnabled(true)
		g.pause.set(false)
	}
	wait := func(more func(context.Context) bool) bool {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		return more(ctx)
	}
	wait(func(ctx context.Context) bool {
		if g.pause.park(ctx) {
			g.pending.wait(ctx)
		}
		return true
	})
	g.pause.cut()
	return resume, wait(g.pause.quiet)
}
