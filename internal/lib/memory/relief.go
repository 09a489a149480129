package memory

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"
)

const (
	// ShedBytes is the least that waits for a peer that is shed. Larger: many peers that hold much
	// together stay. Smaller: shedding gives back little.
	ShedBytes = 16 << 10
	// maxShed bounds the peers that one survey sheds. Larger: peers are closed whose memory is not
	// needed. Smaller: relief comes too late.
	maxShed = 10
	// holdBytes is the least that waits for the peers of an owner that is held. Larger: more memory
	// fills before an owner is held. Smaller: owners are held for a few slow peers.
	holdBytes = 1 << 20
)

// Survey finds, when memory is nearly used up, which peers to shed, and which owners of peers to
// hold, so that nothing more is sent for them: those for which most bytes wait. The zero Survey is
// empty.
type Survey[O comparable, P any] struct {
	held  map[O]int64
	peers []waiting[P] // at most maxShed; the peer for which most waits is the first
}

// waiting is how many bytes wait for a peer.
type waiting[P any] struct {
	peer  P
	bytes int
}

// Add counts bytes that wait for a peer of owner. A peer is added once.
func (s *Survey[O, P]) Add(owner O, peer P, bytes int) {
	if bytes == 0 {
		return
	}
	if s.held == nil {
		s.held = make(map[O]int64)
	}
	s.held[owner] += int64(bytes)
	s.rank(waiting[P]{peer, bytes})
}

// rank puts w into its place in the list, if it has one.
func (s *Survey[O, P]) rank(w waiting[P]) {
	if w.bytes >= ShedBytes {
		at, _ := slices.BinarySearchFunc(s.peers, w.bytes, func(o waiting[P], n int) int {
			return cmp.Compare(n, o.bytes)
		})
		s.peers = slices.Insert(s.peers, at, w)
		s.peers = s.peers[:min(len(s.peers), maxShed)]
	}
}

// Merge adds what another survey has found about other peers.
func (s *Survey[O, P]) Merge(other *Survey[O, P]) {
	if s.held == nil {
		s.held = make(map[O]int64)
	}
	for owner, n := range other.held {
		s.held[owner] += n
	}
	for _, w := range other.peers {
		s.rank(w)
	}
}

// Shed returns the peers to close; the peer for which most waits is the first.
func (s *Survey[O, P]) Shed() (peers []P) {
	for _, w := range s.peers {
		peers = append(peers, w.peer)
	}
	return peers
}

// Hold reports whether nothing more is to be sent for owner: a lot waits for its peers, and
// at least half as much as for those of the first owner.
func (s *Survey[O, P]) Hold(owner O) bool {
	most := int64(0)
	for _, n := range s.held {
		most = max(most, n)
	}
	return s.held[owner] >= max(holdBytes, most/2)
}

// Relief is what it takes to make room when memory is nearly used up.
type Relief[O comparable, P any] struct {
	Loops int // how many there are
	// Post has a loop run a task. A loop that is far behind may run it late, or never.
	Post func(loop int, task func())
	// Look calls add for the peers of a loop, with the bytes that wait. The loop calls Look.
	Look   func(loop int, add func(owner O, peer P, bytes int))
	Owners iter.Seq[O]          // all owners there are at the moment
	Late   func(O) bool         // much is on its way to the loops for the owner's peers
	Hold   func(o O, held bool) // nothing more may be sent for an owner, or it may again
	Shed   func(P)              // closes a peer
}

// Make sheds the peers for which most bytes wait, and holds the owners for whose peers most bytes
// wait. It waits for the loops until ctx ends. Owners that are late are held until all loops have
// told, so also if Make returns before.
func (r *Relief[O, P]) Make(ctx context.Context) (shed int) {
	out := make(chan *Survey[O, P], r.Loops)
	for loop := range r.Loops {
		r.Post(loop, func() {
			found := new(Survey[O, P])
			r.Look(loop, found.Add)
			out <- found
		})
	}
	for o := range r.Owners {
		if r.Late(o) {
			r.Hold(o, true)
		}
	}
	var all Survey[O, P]
	told := 0
	for range r.Loops {
		select {
		case found := <-out:
			told++
			all.Merge(found)
		case <-ctx.Done(): // one loop is far behind; the peers of the others are known
		}
	}
	for o := range r.Owners {
		r.Hold(o, told < r.Loops && r.Late(o) || all.Hold(o))
	}
	peers := all.Shed()
	for _, p := range peers {
		r.Shed(p)
	}
	return len(peers)
}

// Unhold lets something be sent for every owner again.
func (r *Relief[O, P]) Unhold() {
	for o := range r.Owners {
		r.Hold(o, false)
	}
}

// reliefPeriod is the least time between two reliefs, so that the first shows its effect before the
// next. Larger: relief comes too late. Smaller: more peers are closed than need be.
const reliefPeriod = time.Second

// Change is the consequence of a level.
type Change struct {
	Short, Ample bool // memory has become short, or is no longer short
	Relieve      bool // make room now
	Relieved     bool // no owner needs to be held any more
}

// Course follows the levels of a Meter. The zero Course begins with Ample.
type Course struct {
	level    Level
	relieved time.Time
}

// Next takes the level at the time now.
func (c *Course) Next(level Level, now time.Time) (change Change) {
	before := c.level
	c.level = level
	change.Short = level > Ample && before == Ample
	change.Ample = level == Ample && before > Ample
	change.Relieved = level < Critical && before == Critical
	if change.Relieve = level == Critical && now.Sub(c.relieved) >= reliefPeriod; change.Relieve {
		c.relieved = now
	}
	return change
}
