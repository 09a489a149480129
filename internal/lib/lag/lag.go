// Package lag measures an event loop: how long its turns take, and how long a job takes from its
// beginning to the end of the turn that completes it. The longest turn of the last second or two is
// how long a peer may have waited. A turn that hangs shows while it runs.
package lag

import (
	"sync/atomic"
	"time"

	"reverb/internal/lib/metrics"
)

// Meter measures the turns of one loop. The loop calls Begin, Measure and End; any goroutine may
// call Lag. New makes a Meter.
type Meter struct {
	epoch time.Time // constant

	// owned by the loop
	longest time.Duration // the longest turn that ended in the second tick
	before  time.Duration // the longest turn that ended in the second before
	begun   []time.Time   // of the jobs that Measure was given

	// written by the loop, read by any goroutine
	turn    atomic.Int64  // nanoseconds from epoch to the start of the running turn; 0: none runs
	lagged  atomic.Int64  // nanoseconds: the longest turn that ended in tick or the second before
	tick    atomic.Uint32 // seconds from epoch
	Latency metrics.Histogram
}

// New returns a meter for a loop whose first turn begins at epoch or later.
func New(epoch time.Time) *Meter { return &Meter{epoch: epoch} }

func (m *Meter) seconds(now time.Time) uint32 { return uint32(now.Sub(m.epoch) / time.Second) }

// Begin notes that a turn begins.
func (m *Meter) Begin(now time.Time) { m.turn.Store(max(int64(now.Sub(m.epoch)), 1)) }

// maxMeasured bounds the jobs that are measured together; further jobs are not counted. Larger:
// more memory in a burst. Smaller: Latency misses more of a burst.
const maxMeasured = 1024

// Measure counts, in Latency, the time from begun to the end of the turn that completes the job.
func (m *Meter) Measure(begun time.Time) {
	if len(m.begun) < maxMeasured {
		m.begun = append(m.begun, begun)
	}
}

// End notes that the turn that began at start ends now. complete says that all measured jobs are
// completed.
func (m *Meter) End(start, now time.Time, complete bool) {
	if complete {
		for _, begun := range m.begun {
			m.Latency.Observe(now.Sub(begun))
		}
		m.begun = m.begun[:0]
	}
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

// Lag returns the longest turn of the last second or two. The running turn counts with the time
// that it has taken so far.
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
