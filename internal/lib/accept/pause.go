package accept

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pause keeps the listeners of a gate from accepting, and knows the requests that are answered.
type pause struct {
	holds   atomic.Bool // clean connections wait, see hold.go
	loosens atomic.Bool // see Gate.Loosen
	stops   atomic.Bool // every connection ends with its next answer

	mu      *sync.Mutex
	changed *sync.Cond
	paused  bool
	resumed chan struct{} // closed at the end of the pause; nil: there is none
	shut    bool          // no request may begin, or go on after it has waited for its peer
	over    bool          // another process serves
	all     []*listener
	busy    int // the requests that are answered, without those that wait for their peers
}

func newPause() *pause {
	p := &pause{mu: new(sync.Mutex)}
	p.changed = sync.NewCond(p.mu)
	return p
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

// set says whether the listeners accept and clean connections read.
func (p *pause) set(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holds.Store(paused); paused && p.resumed == nil {
		p.resumed = make(chan struct{})
	} else if !paused && p.resumed != nil {
		close(p.resumed)
		p.resumed = nil
	}
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
	p := l.gate.pause
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

// request is a request that is answered. While it waits for its peer it touches nothing of the
// server, and may not go on before the end of a pause. Once its answer has begun it has taken
// effect, touches nothing of the server that matters, and always goes on.
type request struct {
	http.ResponseWriter
	body  body
	pause *pause
	begun bool // the answer
}

// body is the body of a request.
type body struct {
	io.ReadCloser
	of *request
}

// Unwrap is for http.ResponseController.
func (r *request) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *request) Write(b []byte) (int, error) {
	r.rest()
	return r.ResponseWriter.Write(b)
}

// rest says that what is left of the request does not matter to the server.
func (r *request) rest() {
	if !r.begun {
		r.begun = true
		r.pause.rest()
	}
}

func (b *body) Read(p []byte) (int, error) {
	if b.of.begun {
		return b.ReadCloser.Read(p)
	}
	b.of.pause.rest()
	n, err := b.ReadCloser.Read(p)
	b.of.pause.goOn()
	return n, err
}

// serve has h answer a request.
func (p *pause) serve(h http.Handler, w http.ResponseWriter, r *http.Request) {
	q := &request{ResponseWriter: w, pause: p}
	defer q.rest()
	p.goOn()
	if r.TLS != nil && p.loosens.Load() || p.stops.Load() {
		w.Header().Set("Connection", "close")
	}
	if r.Body != nil && r.Body != http.NoBody {
		q.body = body{r.Body, q}
		r.Body = &q.body
	}
	h.ServeHTTP(q, r)
}

// goOn counts a request that begins, or that has waited for its peer, at the end of the pause. If
// another process serves then, the request ends.
func (p *pause) goOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.shut && !p.over {
		p.changed.Wait()
	}
	if p.busy++; p.over {
		panic(http.ErrAbortHandler)
	}
}

// rest undoes goOn.
func (p *pause) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy--; p.busy == 0 {
		p.changed.Broadcast()
	}
}

// quiet lets no request begin or go on. It waits until those that are answered all wait for their
// peers, or ctx is done.
func (p *pause) quiet(ctx context.Context) bool {
	p.note(func() { p.shut = true })
	return p.wait(ctx, func() bool { return p.busy == 0 })
}

// end ends the pause. With over another process serves, and the requests that are left end.
func (p *pause) end(over bool) {
	if !over {
		p.set(false)
		return
	}
	p.note(func() { p.over = true })
}

// Loosen says whether connections over TLS end with their next answer. It is for the time before a
// pause, since they go to no other process: clients that are busy come back meanwhile.
func (g *Gate) Loosen(on bool) { g.pause.loosens.Store(on) }

// Pause stops accepting: new connections wait in the system, and so does the next request of each
// connection that has none. Then it waits until every request has been answered, or grace has
// passed. After that the rest may wait for their peers, for the end of a body or until an answer is
// taken, but not go on. ok is false if some are busy all the same for as long again. end accepts
// again, and all go on as if nothing had been. With leave all is another process's, which may take
// connections with Move; the caller calls Leave then.
func (g *Gate) Pause(grace time.Duration) (end func(leave bool), ok bool) {
	g.hold()
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
	return g.pause.end, wait(g.pause.quiet)
}

// Leave ends server after a pause, when another process serves. Answers that have begun get out
// until ctx is done. Requests that have not taken effect get none.
func (g *Gate) Leave(ctx context.Context, server *http.Server) {
	g.pending.wait(ctx)
	server.Close() // the listeners are another process's too
}
