package httpapi

import (
	"context"
	"time"

	"reverb/internal/lib/retries"
	"reverb/internal/lib/turnstile"
	"reverb/internal/protocol"
)

// roomPatience is how long a request waits for room; then the answer is 503. Larger: more requests
// wait at once. Smaller: a short burst is refused.
const roomPatience = 5 * time.Second

// Sender gives the events of requests to their channels. Many goroutines call the methods at once.
type Sender[A any] interface {
	// Behind says that publishers should wait until more of the app's events is delivered. They
	// wait at the Turnstile of the app.
	Behind(a A) bool
	Turnstile(a A) turnstile.Turnstile
	// Begin counts so many events for so many channels together, and makes a channel for the
	// outcomes; nil: none follow.
	Begin(a A, events, channels int) (answers chan error)
	// Send gives an event to one of its channels. here has the figures of the channel. later: the
	// event is on its way, and answers gets the outcome: nil, or why it was not taken. key is the
	// event's part of a request with a key; nil: there is none.
	Send(a A, e *protocol.Publish, name protocol.Name, now time.Time, key *retries.Step,
		answers chan<- error) (here protocol.Stats, later bool)
	// Later says that events are delivered after Send has returned. What is published is counted
	// when it comes back, and here has no figures.
	Later() bool
	// Stats returns the figures of channels, in their order.
	Stats(ctx context.Context, a A, names []protocol.Name, now time.Time) []protocol.Stats
}

// Publish is Backend.Publish by means of a Sender. It waits until the app's events can be
// delivered, so that a publisher that is faster than the network fills its own queue and not this
// server's memory. Requests that wait go on one after the other: the next when what the one before
// has published is counted.
func Publish[A any](ctx context.Context, s Sender[A], a A, events []protocol.Publish,
	key *retries.Claim, now time.Time) (all [][]protocol.Stats, bad *protocol.Problem) {
	done, err := s.Turnstile(a).Pass(ctx, roomPatience, func() bool { return s.Behind(a) })
	switch {
	case err == turnstile.ErrFull:
		return nil, unavailable("The server is behind with delivering; send again shortly.")
	case err != nil:
		return nil, unavailable(givenUp)
	case s.Later():
		done()
	default:
		defer done()
	}
	return PublishNow(ctx, s, a, events, key, now)
}

// PublishNow is Publish without waiting for room. It sends all events before it waits for an
// answer.
func PublishNow[A any](ctx context.Context, s Sender[A], a A, events []protocol.Publish,
	key *retries.Claim, now time.Time) (all [][]protocol.Stats, bad *protocol.Problem) {
	most, info := extent(events)
	o := outcome{answers: s.Begin(a, len(events), most)}
	if info {
		all = make([][]protocol.Stats, len(events))
	}
	for i := range events {
		e := &events[i]
		if e.Info != nil {
			all[i] = make([]protocol.Stats, len(e.Channels))
		}
		for k, name := range e.Channels {
			here, later := s.Send(a, e, name, now, key.Publish(), o.answers)
			if later {
				o.waits++
			}
			if e.Info != nil {
				all[i][k] = here
			}
		}
	}
	if bad = o.wait(ctx); bad != nil {
		return nil, bad
	}
	for i := range all {
		if e := &events[i]; e.Info != nil && s.Later() {
			all[i] = s.Stats(ctx, a, e.Channels, now)
		}
	}
	return all, nil
}

// extent is for how many channels events are, and whether figures are asked for with any of them.
func extent(events []protocol.Publish) (channels int, info bool) {
	for i := range events {
		channels += len(events[i].Channels)
		info = info || events[i].Info != nil
	}
	return channels, info
}

// outcome is what becomes of events that were accepted to be sent. The zero outcome waits for
// nothing.
type outcome struct {
	answers chan error // one for each event: nil, or why it was not taken
	waits   int        // so many are still to come
}

// wait waits for the answers, and returns the first problem.
func (o *outcome) wait(ctx context.Context) *protocol.Problem {
	for ; o.waits > 0; o.waits-- {
		select {
		case err := <-o.answers:
			if err != nil {
				return keyProblem(err)
			}
		case <-ctx.Done():
			return unavailable(givenUp)
		}
	}
	return nil
}
