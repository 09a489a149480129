// Package history keeps the latest events of channels, so that a client that comes back gets what
// it has missed, or is told that it cannot.
//
// The events of a resumable channel have numbers, and each event tells its position, see Offset. A
// client that subscribes again tells the position of the last event that it got:
//
//	event ─▶ Append ─▶ ring of the channel ─▶ expired, or pushed out
//	subscription ─▶ Mark ─▶ Answer ─▶ Flow ─▶ the client's queue
//
// Mark is called at the moment after which the subscriber hears every event, so the events between
// the client's position and the mark are what it has missed. A ring has no holes: if an event at
// its old end is gone, what was before that is not known any more, and Resume says so.
//
// A ring belongs to one epoch of its channel, which is random. When a ring is forgotten, the next
// one of the channel has another epoch, so an old position means nothing there.
//
// All rings together hold at most Limits.Bytes. Above that, the app that holds most loses its
// oldest events. An event that a slow client has still to get is kept for that client, and counts.
// What replays of an app are to send is at most half of what those of others leave of half of the
// bytes, and one replay; above that nobody else of the app recovers, and those that have not taken
// theirs for long lose their connections. A ring without subscribers is kept as long as events are.
//
// The package starts no goroutine and has no clock: time is a parameter. Any goroutine may call
// the methods; each holds the lock for some look-ups, and Resume for a few operations for each
// event that was missed.
//
// Files, in reading order:
//
//	positions.go  the offsets that clients tell
//	rings.go      the latest events
//	replay.go     what a client asks, and what it has missed
//	flow.go       what it has missed, on its way
//	state.go      everything as plain data, for another process and from one
package history

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"reverb/internal/lib/heaviest"
	"reverb/internal/lib/names"
	"reverb/internal/protocol"
)

const (
	// entryBytes and ringBytes are what an event and a ring count besides their own bytes: about
	// what they take.
	entryBytes = 96
	ringBytes  = 320
)

// Limits say what is kept. They never change.
type Limits struct {
	Events   int         // of a channel
	Bytes    int64       // of all
	Channels *names.List // that keep events
}

// Event is an event that is kept. It is a pointer.
type Event interface {
	Size() int                 // bytes
	Except() protocol.SocketID // the connection that does not get it
	Stamp(at Offset)           // tells the event its position, before anybody has it
}

// App is what is kept of an app. Any goroutine may call the methods.
type App[E Event] struct {
	id     string
	all    *Rings[E]
	policy atomic.Pointer[policy]

	// guarded by the lock of Rings
	rings          map[string]*ring[E] // by channel
	oldest, newest *entry[E]
	bytes          int
	place          int                 // in Rings.heaviest
	held           int                 // bytes of events, of rings or not, that replays are to send
	replays        map[*missed[E]]bool // that are on their way
}

// policy is what is configured of an app.
type policy struct {
	*keys
	secret string
	life   time.Duration // how long an event is kept; 0: none is
}

// Keeps says whether the events of a channel are kept.
func (a *App[E]) Keeps(channel string) bool {
	return a.policy.Load().life > 0 && a.all.limits.Channels.Match(channel)
}

// Rings has the rings of all apps.
type Rings[E Event] struct {
	limits Limits

	mu       sync.Mutex
	apps     map[string]*App[E] // by ID
	heaviest heaviest.Heap[*App[E]]
	bytes    int
	pinned   int // bytes of events that are in no ring any more, but in a missed
	held     int // the sum of App.held

	Figures
}

// Figures count what has happened. Any goroutine may read them.
type Figures struct {
	Recovered atomic.Uint64 // subscribers that resumed with all that they had missed
	Replayed  atomic.Uint64 // events that were given for that
	not       [reasons]atomic.Uint64
}

// reason says why a client does not recover.
type reason uint8

const (
	recovered reason = iota // it does
	started                 // it had no position: it begins
	unknown                 // no such epoch: the ring was forgotten, or is another server's
	expired                 // the events are gone
	forged                  // nobody gave such an offset
	crowded                 // slow clients have too much to get
	reasons
)

// Not is how many did not recover, by the reason.
func (f *Figures) Not() map[string]uint64 {
	return map[string]uint64{"unknown": f.not[unknown].Load(), "expired": f.not[expired].Load(),
		"forged": f.not[forged].Load(), "crowded": f.not[crowded].Load()}
}

// ring has the latest events of a channel.
type ring[E Event] struct {
	app         *App[E]
	channel     string
	epoch, mark uint64
	last        uint64 // number of the last event
	first, end  *entry[E]
	count       int
	own         entry[E] // the ring's place in the order of the app: when it was last in use
	occupied    bool     // since somebody who resumes has subscribed
}

// entry is an event of a ring, or, with number 0, the ring itself. The app has them in the order of
// their times.
type entry[E Event] struct {
	ring         *ring[E]
	older, newer *entry[E]
	next         *entry[E] // in the ring
	number       uint64
	at           int64 // nanoseconds of Unix time
	pins         int32 // of replays
	gone         bool  // it is in no ring any more
	event        E
}

// New makes Rings without events.
func New[E Event](limits Limits) *Rings[E] {
	r := &Rings[E]{limits: limits, apps: map[string]*App[E]{}}
	r.heaviest.Weight = func(a *App[E]) int { return a.bytes }
	r.heaviest.Place = func(a *App[E]) *int { return &a.place }
	return r
}

// App returns an app by its ID. Nothing is kept of it until Configure.
func (r *Rings[E]) App(id string) *App[E] {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.apps[id]
	if a == nil {
		a = &App[E]{id: id, all: r, rings: map[string]*ring[E]{},
			replays: map[*missed[E]]bool{}}
		a.policy.Store(&policy{})
		r.apps[id] = a
	}
	return a
}

// Configure says how long events of an app are kept; 0: none is. Offsets that were made with
// another secret are void from now on.
func (a *App[E]) Configure(secret string, life time.Duration, now time.Time) {
	r := a.all
	r.mu.Lock()
	defer r.mu.Unlock()
	before := a.policy.Load()
	p := &policy{before.keys, secret, life}
	if before.keys == nil || before.secret != secret {
		p.keys = newKeys(a.id, secret)
		r.expireLocked(a, &policy{}, now)
	}
	r.expireLocked(a, p, now)
	a.policy.Store(p)
}

// Mark is a moment of a channel. The zero Mark is none.
type Mark struct{ epoch, number uint64 }

// Append gives an event the next number of its channel, keeps it, and stamps it. The caller keeps
// the events of a channel in order. If heard is not set, nobody is subscribed: then the event is
// kept only if somebody was, a moment ago.
func (a *App[E]) Append(channel string, e E, heard bool, now time.Time) {
	r := a.all
	r.mu.Lock()
	defer r.mu.Unlock()
	p := a.policy.Load()
	r.expireLocked(a, p, now)
	if p.life == 0 || !heard && a.rings[channel] == nil {
		return
	}
	g := r.ringLocked(a, p, channel, now)
	g.last++
	e.Stamp(p.offset(g.mark, g.last))
	r.keepLocked(g, e, now)
	r.shrinkLocked()
}

// keepLocked keeps the event with the last number of a ring.
func (r *Rings[E]) keepLocked(g *ring[E], e E, now time.Time) {
	n := &entry[E]{ring: g, number: g.last, event: e}
	if g.count++; g.end == nil {
		g.first = n
	} else {
		g.end.next = n
	}
	g.end = n
	r.pushLocked(n, now)
	r.countLocked(g.app, entryBytes+e.Size())
	if g.count > r.limits.Events {
		r.dropLocked(g.first)
	}
}

// Mark tells the moment of a channel after the last event that was appended. With it begins the
// time of a subscriber that resumes: the ring is kept until Vacant.
func (a *App[E]) Mark(channel string, now time.Time) Mark {
	r := a.all
	r.mu.Lock()
	defer r.mu.Unlock()
	p := a.policy.Load()
	r.expireLocked(a, p, now)
	if p.life == 0 {
		return Mark{}
	}
	g := r.ringLocked(a, p, channel, now)
	g.occupied = true
	r.shrinkLocked()
	return Mark{g.epoch, g.last}
}

// Vacant says that a channel has no subscribers any more.
func (a *App[E]) Vacant(channel string, now time.Time) {
	if !a.Keeps(channel) {
		return
	}
	r := a.all
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := a.rings[channel]; g != nil {
		g.occupied = false
		r.touchLocked(g, now)
	}
}

// sweepPause is how often Sweep looks. Larger: the events of silent apps take memory for longer.
// Smaller: more work for nothing.
const sweepPause = 5 * time.Second

// Sweep drops what has become too old, until ctx ends.
func (r *Rings[E]) Sweep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-time.After(sweepPause):
			r.expire(now)
		}
	}
}

// expire drops what has become too old.
func (r *Rings[E]) expire(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.apps {
		r.expireLocked(a, a.policy.Load(), now)
	}
}

// Bytes is what is kept.
func (r *Rings[E]) Bytes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes + r.pinned
}

// ringLocked returns the ring of a channel, which it makes where there is none.
func (r *Rings[E]) ringLocked(a *App[E], p *policy, channel string, now time.Time) *ring[E] {
	if g := a.rings[channel]; g != nil {
		r.touchLocked(g, now)
		return g
	}
	var b [8]byte
	rand.Read(b[:]) // never fails
	return r.openLocked(a, p, channel, binary.BigEndian.Uint64(b[:]), now)
}

// openLocked makes the ring of an epoch of a channel.
func (r *Rings[E]) openLocked(a *App[E], p *policy, channel string, epoch uint64,
	now time.Time) *ring[E] {
	g := &ring[E]{app: a, channel: channel, epoch: epoch, mark: p.mark(channel, epoch)}
	g.own.ring = g
	a.rings[channel] = g
	if len(a.rings) == 1 {
		r.heaviest.Add(a)
	}
	r.pushLocked(&g.own, now)
	r.countLocked(a, ringBytes+2*len(channel))
	return g
}

// pushLocked puts an entry at the end of its app's order.
func (r *Rings[E]) pushLocked(n *entry[E], now time.Time) {
	a := n.ring.app
	n.at, n.older, n.newer = now.UnixNano(), a.newest, nil
	if a.newest == nil {
		a.oldest = n
	} else {
		a.newest.newer = n
	}
	a.newest = n
}

// unlinkLocked takes an entry out of its app's order.
func (r *Rings[E]) unlinkLocked(n *entry[E]) {
	a := n.ring.app
	if n.older == nil {
		a.oldest = n.newer
	} else {
		n.older.newer = n.newer
	}
	if n.newer == nil {
		a.newest = n.older
	} else {
		n.newer.older = n.older
	}
	n.older, n.newer = nil, nil
}

func (r *Rings[E]) touchLocked(g *ring[E], now time.Time) {
	r.unlinkLocked(&g.own)
	r.pushLocked(&g.own, now)
}

// holdLocked counts more bytes that replays of an app are to send.
func (r *Rings[E]) holdLocked(a *App[E], n int) {
	a.held += n
	r.held += n
}

// countLocked counts more bytes of an app.
func (r *Rings[E]) countLocked(a *App[E], n int) {
	a.bytes += n
	r.bytes += n
	if len(a.rings) > 0 {
		r.heaviest.Moved(a)
	}
}

// dropLocked forgets an entry. An event is the first of its ring: the order of the app keeps those
// of a ring in order. A ring goes with all its events, which are older than its last use or gone.
func (r *Rings[E]) dropLocked(n *entry[E]) {
	g := n.ring
	a := g.app
	if n != &g.own {
		if g.first, g.count = n.next, g.count-1; g.first == nil {
			g.end = nil
		}
		r.unlinkLocked(n)
		r.countLocked(a, -entryBytes-n.event.Size())
		n.next, n.gone = nil, true
		if n.pins > 0 {
			r.pinned += entryBytes + n.event.Size()
		}
		return
	}
	for g.first != nil {
		r.dropLocked(g.first)
	}
	r.unlinkLocked(n)
	r.countLocked(a, -ringBytes-2*len(g.channel))
	if delete(a.rings, g.channel); len(a.rings) == 0 {
		r.heaviest.Remove(a)
	}
}

// expireLocked drops what is older than the life of an app's events. Rings that are in use stay.
func (r *Rings[E]) expireLocked(a *App[E], p *policy, now time.Time) {
	end := now.Add(-p.life).UnixNano()
	for n := a.oldest; n != nil && (n.at <= end || p.life == 0); n = a.oldest {
		if g := n.ring; n == &g.own && g.occupied && p.life > 0 {
			r.touchLocked(g, now)
		} else {
			r.dropLocked(n)
		}
	}
}

// shrinkLocked drops the oldest of the heaviest app while there is too much.
func (r *Rings[E]) shrinkLocked() {
	for int64(r.bytes+r.pinned) > r.limits.Bytes && r.heaviest.Len() > 0 {
		r.dropLocked(r.heaviest.First().oldest)
	}
}
