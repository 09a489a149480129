// Package shortage is what the server does while memory is short. It refuses new subscriptions.
// When memory is nearly used up, it makes room once a second: it closes connections that do not
// read, and holds the apps for whose connections most waits. The log tells each change.
//
// The leaf memory measures, and chooses connections and apps. The package decides when to do what,
// and has the texts. It owns one goroutine, that of Watch.
package shortage

import (
	"context"
	"log/slog"
	"time"

	"reverb/internal/lib/memory"
)

// reliefLimit bounds the wait for the loops when memory is nearly used up. Larger: the next look
// comes later. Smaller: a busy loop closes no connections.
const reliefLimit = time.Second

// Shortage has what Watch needs. A is an app, and C a connection.
type Shortage[A comparable, C any] struct {
	Meter  Meter
	Claims Claims
	Relief memory.Relief[A, C]
	Short  func(bool) // memory is short now, or no longer: new subscriptions are refused, or not
	Log    *slog.Logger
}

// Meter measures memory against a limit, see memory.Meter.
type Meter interface {
	Interval() time.Duration // until the next look
	Look(now time.Time) memory.Level
	Used() uint64
	Limit() uint64
	Room() int64
}

// Claims is how much memory the waiting messages will take, see package load.
type Claims interface {
	Claimed() int64
	SetRoom(claimed, room int64)
}

// Watch looks at the memory, often if much is used, until ctx ends.
func (s *Shortage[A, C]) Watch(ctx context.Context) {
	defer s.Relief.Unhold() // apps may still publish while the server stops
	var course memory.Course
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.Meter.Interval()):
		}
		now, claimed := time.Now(), s.Claims.Claimed()
		level := s.Meter.Look(now)
		s.Claims.SetRoom(claimed, s.Meter.Room())
		s.Short(level > memory.Ample)
		s.act(ctx, course.Next(level, now))
	}
}

// act does what a change of the level demands.
func (s *Shortage[A, C]) act(ctx context.Context, change memory.Change) {
	log := s.Log.With("used", s.Meter.Used(), "limit", s.Meter.Limit())
	if change.Short {
		log.Warn("memory is short: new subscriptions are refused; " +
			"REVERB_MEMORY_LIMIT says how much there is")
	}
	if change.Ample {
		log.Info("memory is no longer short")
	}
	if change.Relieve {
		patience, cancel := context.WithTimeout(ctx, reliefLimit)
		closed := s.Relief.Make(patience)
		cancel()
		log.Warn("memory is nearly used up: connections that do not read are closed",
			"closed", closed)
	}
	if change.Relieved {
		s.Relief.Unhold()
	}
}
