// Package places counts the connections of a process against a limit. At the limit it
// makes room for a newcomer: the connection that has been without a request for the
// longest is closed, as nginx does with its reusable connections
// (ngx_drain_connections). A connection that is being served is never closed.
package places

import (
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// grace is how long a connection has for its request before it may be closed. It is enough for a
// client of the same network. Larger: a crowd of silent connections makes others wait longer.
// Smaller: the crowd pushes out a client that is about to send its request.
const grace = 10 * time.Millisecond

// Places counts the places that connections take. Any goroutine may call the methods.
type Places struct {
	limit   int64
	began   time.Time
	taken   atomic.Int64
	idle    atomic.Int64  // guests on the list
	closed  atomic.Uint64 // guests that have made room
	waiting atomic.Int64  // calls of Take that wait
	wake    chan struct{} // wakes one of them

	mu          sync.Mutex
	first, last *Guest // the connections without a request; the oldest is the first
}

// Guest is a connection's entry in the list. It is part of the connection.
type Guest struct {
	conn       io.Closer
	since      time.Duration // when it came to the list, since Places.began
	prev, next *Guest
	listed     bool
	gone       bool // closed to make room
}

// New returns places for limit connections.
func New(limit int64) *Places {
	return &Places{limit: limit, began: time.Now(), wake: make(chan struct{}, 1)}
}

// Limit is how many places there are.
func (p *Places) Limit() int64 { return p.limit }

// Load is how many places are taken.
func (p *Places) Load() int64 { return p.taken.Load() }

// Busy is how many places are taken by connections that cannot make room.
func (p *Places) Busy() int64 { return p.taken.Load() - p.idle.Load() }

// Closed is how many connections have been closed to make room.
func (p *Places) Closed() uint64 { return p.closed.Load() }

// Add takes n places, whatever the limit, or frees -n.
func (p *Places) Add(n int64) int64 {
	left := p.taken.Add(n)
	if n < 0 {
		p.look()
	}
	return left
}

// look wakes a call of Take that waits, if there is one.
func (p *Places) look() {
	if p.waiting.Load() > 0 {
		select {
		case p.wake <- struct{}{}:
		default: // one call is awake already, and wakes the next
		}
	}
}

// Take takes one place. If no place is free, it closes a guest. If there is no guest, it waits for
// a guest or a free place. It calls tell with each guest before the guest is closed, and with nil
// once before it waits. If stop is closed while Take waits, ok is false and no place was taken.
func (p *Places) Take(stop <-chan struct{}, tell func(guest io.Closer)) (ok bool) {
	if p.tryTake() {
		return true
	}
	p.waiting.Add(1) // before looking, so that no place that becomes free from here on is missed
	defer func() {
		p.waiting.Add(-1)
		if p.Load() < p.limit {
			p.look()
		}
	}()
	for told := false; ; {
		// Guests that have sent something run first. Otherwise a burst of newcomers would close
		// each other before any is served.
		runtime.Gosched()
		if p.tryTake() {
			return true
		}
		g, wait := p.oldest()
		if g != nil {
			p.closed.Add(1)
			tell(g.conn)
			g.conn.Close() // frees its place
			continue
		}
		var ripe <-chan time.Time // nil: never
		if wait > 0 {
			ripe = time.After(wait)
		} else if !told {
			told = true
			tell(nil)
		}
		select {
		case <-p.wake:
		case <-ripe:
		case <-stop:
			return false
		}
	}
}

// tryTake takes a place if one is free.
func (p *Places) tryTake() (ok bool) {
	for {
		n := p.taken.Load()
		if n >= p.limit {
			return false
		}
		if p.taken.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// oldest removes the first guest from the list. If the guest still has grace, g is nil and wait is
// the rest of the grace. If there is no guest, wait is 0.
func (p *Places) oldest() (g *Guest, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g = p.first; g == nil {
		return nil, 0
	}
	if wait = grace - (time.Since(p.began) - g.since); wait > 0 {
		return nil, wait
	}
	p.removeLocked(g)
	g.gone = true
	return g, 0
}

// Wait puts g, the guest of conn, at the end of the list. conn holds a place, and has no request
// from now on.
func (p *Places) Wait(g *Guest, conn io.Closer) {
	now := time.Since(p.began)
	p.mu.Lock()
	if !g.listed && !g.gone {
		g.conn, g.since, g.listed, g.prev = conn, now, true, p.last
		if p.last != nil {
			p.last.next = g
		} else {
			p.first = g
		}
		p.last = g
		p.idle.Add(1)
	}
	p.mu.Unlock()
	p.look()
}

// Guests are the connections without a request. The first has been without for the longest.
func (p *Places) Guests() (all []io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all = make([]io.Closer, 0, p.idle.Load())
	for g := p.first; g != nil; g = g.next {
		all = append(all, g.conn)
	}
	return all
}

// Serve removes g from the list, because its connection has a request or has ended. If the
// connection is being closed to make room, ok is false and its request must not be served.
func (p *Places) Serve(g *Guest) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.listed {
		p.removeLocked(g)
	}
	return !g.gone
}

func (p *Places) removeLocked(g *Guest) {
	if g.prev != nil {
		g.prev.next = g.next
	} else {
		p.first = g.next
	}
	if g.next != nil {
		g.next.prev = g.prev
	} else {
		p.last = g.prev
	}
	g.prev, g.next, g.listed = nil, nil, false
	p.idle.Add(-1)
}
