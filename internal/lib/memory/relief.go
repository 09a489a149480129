package memory

import (
	"cmp"
	"slices"
	"time"
)

const (
	// ShedBytes is the least that waits for a peer that is shed: less would give back little,
	// more would spare peers that hold much together.
	ShedBytes = 16 << 10
	// maxShed is how many peers one survey sheds. More would end peers whose memory is not
	// needed any more, fewer would be too slow.
	maxShed = 10
	// holdBytes is the least that waits for the peers of an owner that is held.
	holdBytes = 1 << 20
)

// Survey finds out for whom most waits, when memory is nearly used up: which peers to shed,
// and which owners of peers to hold, so that nothing more is sent for them. The zero Survey
// is empty.
type Survey[O comparable, P any] struct {
	held  map[O]int64
	peers []waiting[P] // at most maxShed, the one for which most waits first
}

// waiting is what waits for a peer.
type waiting[P any] struct {
	peer  P
	bytes int
}

// Add counts bytes that wait for a peer of owner. A peer is added once.
func (s *Survey[O, P]) Add(owner O, peer P, bytes int) {
	if s.held == nil {
		s.held = make(map[O]int64)
	}
	s.held[owner] += int64(bytes)
	s.rank(waiting[P]{peer, bytes})
}

// rank puts w where it belongs among those for which most waits.
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

// Shed returns the peers to end, the one for which most waits first.
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

// reliefPeriod is how often memory is relieved at most: what is given back must be seen
// before more is taken from somebody.
const reliefPeriod = time.Second

// Change is what follows from a level.
type Change struct {
	Short, Ample bool // memory has become short, or is no longer
	Relieve      bool // make room now
	Relieved     bool // nothing more has to be held
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
