// Package redial keeps a session with a server up: it connects, waits for the end of the session,
// and connects again, until it is told to stop.
//
// The pauses between attempts double up to High, and begin again with Low after a session that has
// lasted. They are drawn at random, so that many clients of one server do not all come at the same
// moment.
package redial

import (
	"context"
	"time"

	"reverb/internal/lib/backoff"
)

const (
	// Low and High are the shortest and the longest pause between two attempts to connect. Larger:
	// a client comes back later. Smaller: clients hammer on a server that starts.
	Low  = 50 * time.Millisecond
	High = 500 * time.Millisecond
	// steadyTime is how long a session must last for the pauses to begin with Low again. Larger:
	// one that ended well is followed by a long pause. Smaller: a server that accepts connections
	// and drops them is hammered on.
	steadyTime = 5 * time.Second
)

// Session is a connection, or several that live and die together.
type Session interface {
	// Fail ends the session.
	Fail(why error)
	// Done is closed when the session has ended.
	Done() <-chan struct{}
	// Wait returns when nothing of an ended session is left.
	Wait()
}

// Keep keeps a session up until ctx ends, and returns when nothing of it is left. It gives each
// session to up. failed is told of each attempt that has failed; first: it was the first attempt of
// all. draw returns a random number from 0 to n-1.
func Keep[S Session](ctx context.Context, dial func(context.Context) (S, error), up chan<- S,
	failed func(why error, first bool, at time.Time), draw func(n int64) int64) {
	pauses, failures := backoff.Pauses{First: Low, Max: High}, 0
	for first := true; ; first = false {
		s, err := dial(ctx)
		failures++
		switch at := time.Now(); {
		case err == nil:
			if serve(ctx, s, up); time.Since(at) > steadyTime {
				failures = 1
			}
		case ctx.Err() == nil:
			failed(err, first, at)
		}
		timer := time.NewTimer(pauses.Pause(failures, draw))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// serve gives a session to up, and waits for its end.
func serve[S Session](ctx context.Context, s S, up chan<- S) {
	select {
	case up <- s:
	case <-ctx.Done():
		s.Fail(ctx.Err())
	}
	select {
	case <-s.Done():
	case <-ctx.Done():
		s.Fail(ctx.Err())
	}
	s.Wait()
}
