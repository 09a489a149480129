// Package fairpool bounds what many owners hold together, so that no owner can take the share of
// the others.
//
// A pool has a size in bytes. An owner may take bytes if it then holds at most as much as is still
// free. So one greedy owner gets half of the pool, two get a third each, and a new owner always
// finds room (the dynamic threshold of Choudhury and Hahne, "Dynamic Queue Length Thresholds for
// Shared-Memory Packet Switches", 1998). An owner that holds nothing may take any number of bytes
// once, so that a piece larger than the pool is served too. So a pool holds at most its size and
// one piece of each owner.
//
// A claim without room waits: the claims of one owner in the order in which they came, the owners
// in turn.
package fairpool

import (
	"container/list"
	"sync"
)

// Pool is shared by the owners. Any goroutine may call its methods.
type Pool[K comparable] struct {
	mu      sync.Mutex
	size    int64
	used    int64
	waiting int
	owners  map[K]*owner[K]
	turns   []*owner[K] // the owners with claims that wait; the owner whose turn it is comes first
}

type owner[K comparable] struct {
	key    K
	used   int64
	claims list.List // of *Claim[K], the oldest first
}

// Claim is a wish for bytes of a pool. A Claim needs only Ready before use. It can be used again
// once its bytes have been given back. The pool owns the other fields.
type Claim[K comparable] struct {
	// Ready is called, without a lock, when a claim that waited has got its bytes.
	Ready func()

	owner *owner[K]
	bytes int64
	place *list.Element // among the owner's claims; nil: it does not wait
}

// New returns a pool of size bytes.
func New[K comparable](size int64) *Pool[K] {
	return &Pool[K]{size: size, owners: make(map[K]*owner[K])}
}

// Take takes n bytes for c. If there is no room, it returns false, and c waits until Ready is
// called or until GiveUp. A claim that waits or holds bytes must not be taken again.
func (p *Pool[K]) Take(key K, n int64, c *Claim[K]) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.owner(key)
	c.owner, c.bytes = o, n
	if o.claims.Len() == 0 && p.fits(o, n) {
		p.add(o, n)
		return true
	}
	if o.claims.Len() == 0 {
		p.turns = append(p.turns, o)
	}
	c.place = o.claims.PushBack(c)
	p.waiting++
	return false
}

// GiveUp ends the waiting of a claim, or gives back its bytes.
func (p *Pool[K]) GiveUp(c *Claim[K]) {
	p.mu.Lock()
	if c.place == nil {
		p.mu.Unlock()
		if c.owner != nil {
			p.Give(c.owner.key, c.bytes)
			c.owner, c.bytes = nil, 0
		}
		return
	}
	p.leave(c)
	p.forget(c.owner)
	c.owner, c.bytes = nil, 0
	ready := p.serve(nil)
	p.mu.Unlock()
	wake(ready)
}

// Keep turns the bytes of c into n bytes of its owner that belong to no claim; Give returns them. c
// can be used again.
func (p *Pool[K]) Keep(c *Claim[K], n int64) {
	p.mu.Lock()
	p.add(c.owner, n-c.bytes)
	c.owner, c.bytes = nil, 0
	ready := p.serve(nil)
	p.mu.Unlock()
	wake(ready)
}

// Add counts n bytes of key without asking for room, because they exist already.
func (p *Pool[K]) Add(key K, n int64) {
	p.mu.Lock()
	p.add(p.owner(key), n)
	p.mu.Unlock()
}

// Give returns n bytes of key.
func (p *Pool[K]) Give(key K, n int64) {
	p.mu.Lock()
	o := p.owner(key)
	p.add(o, -n)
	if o.used < 0 || p.used < 0 {
		panic("internal error: fairpool: more bytes come back than were taken")
	}
	ready := p.serve(nil)
	p.forget(o)
	p.mu.Unlock()
	wake(ready)
}

// Used is how many bytes are held.
func (p *Pool[K]) Used() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// Waiting is how many claims wait.
func (p *Pool[K]) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting
}

func (p *Pool[K]) fits(o *owner[K], n int64) bool {
	return o.used == 0 || o.used+n <= p.size-p.used-n
}

func (p *Pool[K]) owner(key K) *owner[K] {
	o := p.owners[key]
	if o == nil {
		o = &owner[K]{key: key}
		p.owners[key] = o
	}
	return o
}

// forget removes an owner without bytes and without claims.
func (p *Pool[K]) forget(o *owner[K]) {
	if o.used == 0 && o.claims.Len() == 0 && p.owners[o.key] == o {
		delete(p.owners, o.key)
	}
}

func (p *Pool[K]) add(o *owner[K], n int64) { o.used, p.used = o.used+n, p.used+n }

// leave removes c from the claims that wait.
func (p *Pool[K]) leave(c *Claim[K]) {
	o := c.owner
	o.claims.Remove(c.place)
	c.place = nil
	p.waiting--
	if o.claims.Len() > 0 {
		return
	}
	for i, other := range p.turns {
		if other == o {
			p.turns = append(p.turns[:i], p.turns[i+1:]...)
			return
		}
	}
}

// serve takes bytes for the claims that fit, one claim of each owner at a time, and appends them to
// ready.
func (p *Pool[K]) serve(ready []*Claim[K]) []*Claim[K] {
	for refused := 0; refused < len(p.turns); {
		o := p.turns[0]
		c := o.claims.Front().Value.(*Claim[K])
		if p.turns = append(p.turns[1:], o); !p.fits(o, c.bytes) {
			refused++
			continue
		}
		refused = 0
		p.leave(c)
		p.add(o, c.bytes)
		ready = append(ready, c)
	}
	return ready
}

func wake[K comparable](claims []*Claim[K]) {
	for _, c := range claims {
		c.Ready()
	}
}
