// Package lag measures how long the turns of an event loop take: the longest of the last
// second or two is what somebody may have waited. A turn that hangs shows while it runs.
package lag

import (
	"sync/atomic"
	"time"
)

// Meter is the turns of one loop. Begin and End are called by the loop, Lag by everybody.
// Make one with New.
type Meter struct {
	epoch time.Time // constant

	// owned by the loop
	longest time.Duration // turn that ended in the second tick
	before  time.Duration // and in the second before

	// written by the loop, read by everybody
	turn   atomic.Int64  // nanoseconds from epoch to the beginning of the turn that runs; 0: none runs
	lagged atomic.Int64  // nanoseconds: the longest turn that ended in tick or the second before
	tick   atomic.Uint32 // seconds from epoch
}

// New returns a meter for a loop whose first turn begins at epoch or later.
func New(epoch time.Time) *Meter { return &Meter{epoch: epoch} }

func (m *Meter) seconds(now time.Time) uint32 { return uint32(now.Sub(m.epoch) / time.Second) }

// Begin notes that a turn begins.
func (m *Meter) Begin(now time.Time) { m.turn.Store(max(int64(now.Sub(m.epoch)), 1)) }

// End notes that the turn that began at start ends now.
func (m *Meter) End(start, now time.Time) {
	if tick, last := m.seconds(now), m.tick.Load(); tick != last {
		if m.before = 0; tick-last == 1 {
			m.before = m.longest
		}
		m.longest = 0
		m.tick.Store(tick)
	}
	m.longest = max(m.longest, now.Sub(start))
	if lagged := int64(max(m.longest, m.before)); lagged != m.lagged.Load() {
		m.lagged.Store(lagged)
	}
	m.turn.Store(0)
}

// Lag returns the longest turn of the last second or two. The turn that runs counts with the
// time that it has taken so far.
func (m *Meter) Lag(now time.Time) time.Duration {
	running := time.Duration(0)
	if turn := m.turn.Load(); turn != 0 {
		running = now.Sub(m.epoch) - time.Duration(turn)
	}
	if int32(m.seconds(now)-m.tick.Load()) > 1 { // no turn has ended since
		return max(running, 0)
	}
	return max(running, time.Duration(m.lagged.Load()))
}
