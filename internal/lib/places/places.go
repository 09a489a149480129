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

// grace is what a connection gets for its request before it may be closed: enough for a
// client of the same network. More would let a crowd of silent connections, which passes
// by in portions of as many as there are places to spare, keep others waiting; less would
// let the crowd push out a client that is about to ask.
const grace = 10 * time.Millisecond

// Places are the places that connections take. All methods may be called by any
// goroutine.
type Places struct {
	limit   int64
	began   time.Time
	taken   atomic.Int64
	idle    atomic.Int64  // guests on the list
	closed  atomic.Uint64 // guests that have made room
	waiting atomic.Int64  // calls of Take that wait
	wake    chan struct{} // one of them shall look again

	mu          sync.Mutex
	first, last *Guest // the list of connections without a request, the longest first
}

// Guest is a connection's entry in the list. It is part of the connection.
type Guest struct {
	conn       io.Closer
	since      time.Duration // on the list, from Places.began on
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

// look makes a call of Take that waits, if there is one, look again.
func (p *Places) look() {
	if p.waiting.Load() > 0 {
		select {
		case p.wake <- struct{}{}:
		default: // somebody has been told already, and tells the next
		}
	}
}

// Take takes one place, by closing a guest if there is no other. Where there is no guest
// it waits until one appears or a place is free. tell is called with each guest before
// it is closed, and with nil once before Take waits. ok is false when stop was closed
// while it waited: then no place was taken.
func (p *Places) Take(stop <-chan struct{}, tell func(guest io.Closer)) (ok bool) {
	if p.tryTake() {
		return true
	}
	p.waiting.Add(1) // before looking, so that nothing that is freed from here on is missed
	defer func() {
		p.waiting.Add(-1)
		if p.Load() < p.limit {
			p.look()
		}
	}()
	for told := false; ; {
		// Guests that have sent something get to run first: else a burst of newcomers would
		// close one another before any could be served.
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

// oldest takes the first guest off the list. If that has not had its grace yet, g is nil
// and wait is what is left of it; if there is no guest, wait is 0.
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

// Wait puts g, which is conn's, at the end of the list: conn holds a place and has no
// request from now on.
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

// Serve takes g off the list: its connection has a request, or has ended. ok is false
// when the connection is being closed to make room: then its request is not served.
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
