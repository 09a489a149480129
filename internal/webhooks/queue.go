package webhooks

import (
	"context"
	"sync/atomic"
	"time"

	"reverb/internal/hookentries"
	"reverb/internal/lib/pairs"
	"reverb/internal/lib/tallies"
)

const (
	// itemCost is what an event takes beside its texts: its place, and that of its name. Larger:
	// fewer events wait than there is memory for. Smaller: they take more than is counted.
	itemCost = 352
	// largestPart is which part of QueueBytes one event may take. Larger: one event costs many
	// others. Smaller: large events are lost although there is room.
	largestPart = 8
)

// item is an event that waits.
type item struct {
	hookentries.Item
	cost int64 // bytes
}

// thing is what a transition is of: a channel, or a member in the group of its channel.
type thing struct{ group, name string }

// thingOf is what e ends or begins; empty: it is no transition.
func thingOf(e *Event) thing {
	switch e.Kind.Leaving() {
	case ChannelVacated:
		return thing{"", e.Channel.String()}
	case MemberRemoved:
		return thing{e.Channel.String(), e.User}
	}
	return thing{}
}

// undo says how many of two transitions of a thing that both wait need not be told, see
// pairs.Queue: what a receiver knows at the end is the same without both, if one reverses the
// other, and without the older one if they are equal, as a hook of comings alone has them. A member
// that goes and comes is told: its channel may be vacated between, and a receiver may forget it.
func undo(older, newer *item) int {
	switch {
	case older.Kind == newer.Kind:
		return 1
	case older.Kind == MemberRemoved:
		return 0
	}
	return 2
}

// queue is what waits for one URL of an app. Sender.mu guards it, but for what is constant.
type queue struct {
	app    *App                 // constant
	hook   atomic.Pointer[Hook] // replaced by Configure
	ctx    context.Context      // constant; ends when the queue is gone or the Sender closes
	cancel context.CancelFunc   // constant
	held   func() bool          // constant; see Batch; nil: always
	leave  <-chan struct{}      // constant; no pause goes on when it is closed; may be nil

	gone        bool // configured no more
	working     bool // a worker runs
	number      uint64
	transitions pairs.Queue[thing, item]
	others      pairs.Queue[thing, item] // lost before transitions
	taken       []item                   // of the worker: the batch under way, and what comes next
	untold      int                      // transitions that were lost, and are not in the log yet
	orphans     int                      // the same, of a queue that is gone
	elsewhere   lanes                    // of an Outbox
	tally       *tallies.Tally           // constant once the queue is an app's

	lane  uint64            // constant once it has events
	begun hookentries.Batch // by this or another process, and not settled; its worker writes it
}

func (a *App) newQueue() *queue {
	q := &queue{app: a}
	q.transitions.Pair = undo
	q.ctx, q.cancel = context.WithCancel(a.sender.ctx)
	return q
}

// waiting is how many events wait, without those that the worker has.
func (q *queue) waiting() int { return q.transitions.N + q.others.N }

// oldest is the oldest event that was not delivered; nil if there is none.
func (q *queue) oldest() *item {
	if len(q.taken) > 0 {
		return &q.taken[0]
	}
	if f := q.next(); f != nil {
		return f.Head()
	}
	return nil
}

// next is where the oldest event waits; nil if none waits.
func (q *queue) next() *pairs.Queue[thing, item] {
	a, b := q.transitions.Head(), q.others.Head()
	switch {
	case a == nil && b == nil:
		return nil
	case b == nil, a != nil && a.Number < b.Number:
		return &q.transitions
	}
	return &q.others
}

// costOf is how many bytes an event takes that waits.
func costOf(e *Event) int64 {
	return itemCost + int64(len(e.Channel.String())+len(e.User)+len(e.Event)+len(e.Data))
}

// put queues an event.
func (s *Sender) put(q *queue, e *Event, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.putLocked(q, e, now)
}

// putLocked queues an event, and starts a worker if none runs.
func (s *Sender) putLocked(q *queue, e *Event, now time.Time) {
	it := item{hookentries.Item{Event: *e, At: now}, costOf(e)}
	switch {
	case q.gone:
		q.lose(e.Kind, unconfigured)
		return
	case s.closed:
		q.lose(e.Kind, stopped)
		return
	case it.cost > s.QueueBytes/largestPart:
		q.lose(e.Kind, tooLarge)
		return
	}
	q.number++
	it.Number = q.number
	s.noteLocked(hookentries.Entry{Kind: hookentries.EntryPut, Lane: q.lane, Number: it.Number,
		At: now, Event: *e})
	s.pushLocked(q, it, thingOf(e))
}

// pushLocked queues an event that has a number. Without of, what it is of, it is part of no pair.
func (s *Sender) pushLocked(q *queue, it item, of thing) {
	f := &q.others
	if it.Kind.IsTransition() {
		f = &q.transitions
	}
	f.Push(of, it)
	f.Bytes += it.cost
	s.events, s.bytes = s.events+1, s.bytes+it.cost
	s.account(q.app, 1, 1, it.cost)
	for s.events > maxEvents || s.bytes > s.QueueBytes {
		s.makeRoom()
	}
	if !q.working && q.waiting() > 0 {
		q.working = true
		s.workers.Go(func() { s.work(q) })
	}
}

// popLocked takes the oldest event of f, a part of q, out of what waits. It still counts for the
// Sender and for the app, until settleLocked.
func (s *Sender) popLocked(q *queue, f *pairs.Queue[thing, item]) item {
	it := f.Pop()
	s.takenLocked(q, f, &it)
	return it
}

// takenLocked counts an event that was taken out of f.
func (s *Sender) takenLocked(q *queue, f *pairs.Queue[thing, item], it *item) {
	f.Bytes -= it.cost
	s.account(q.app, -1, 0, 0)
}

// settleLocked forgets an event that was delivered or lost.
func (s *Sender) settleLocked(a *App, it *item) {
	s.events, s.bytes = s.events-1, s.bytes-it.cost
	s.account(a, 0, -1, -it.cost)
}

// makeRoom loses something of the app for which most waits: a pair, see undo, which costs the
// receiver nothing; if there is none its oldest event, of transitions last.
func (s *Sender) makeRoom() {
	var from *queue
	var most int64
	for _, has := range []func(*queue) bool{
		func(q *queue) bool { return q.transitions.HasPair() },
		func(q *queue) bool { return q.others.N > 0 },
		func(q *queue) bool { return true },
	} {
		for _, q := range s.crowd.First().queues {
			if size := q.transitions.Bytes + q.others.Bytes; size > most && has(q) {
				from, most = q, size
			}
		}
		if from != nil {
			break
		}
	}
	switch f := &from.transitions; {
	case f.HasPair():
		older, newer, gone := f.TakePair()
		if s.loseLocked(from, f, &older, undone); gone > 1 {
			s.loseLocked(from, f, &newer, undone)
		}
	default:
		if from.others.N > 0 {
			f = &from.others
		}
		it := f.Pop()
		s.loseLocked(from, f, &it, noRoom)
	}
}

// loseLocked forgets an event that was taken out of f to make room.
func (s *Sender) loseLocked(q *queue, f *pairs.Queue[thing, item], it *item, why reason) {
	s.takenLocked(q, f, it)
	s.settleLocked(q.app, it)
	q.lose(it.Kind, why)
	s.noteLocked(hookentries.Entry{Kind: hookentries.EntryLost, Lane: q.lane, Number: it.Number})
}

// share is how much of the room an app has: of the events or of the bytes, whichever is more. What
// is under way counts, but an app of which nothing waits has nothing to lose, and comes last.
func (a *App) share() float64 {
	if a.waiting == 0 {
		return 0
	}
	return max(float64(a.events)/maxEvents, float64(a.bytes)/float64(a.sender.QueueBytes))
}

func (a *App) crowded() *int { return &a.place }

// account changes what waits for an app, and what it has with what is under way.
func (s *Sender) account(a *App, waiting, events int, bytes int64) {
	a.waiting, a.events, a.bytes = a.waiting+waiting, a.events+events, a.bytes+bytes
	s.crowd.Update(a, a.events > 0)
}

// --- Losses ---

// reason is why an event was lost.
type reason uint8

const (
	noRoom       reason = iota // see the bounds of what waits
	undone                     // a transition and its reverse, or one that was repeated, see undo
	overRate                   // more client events in a second than Options.ClientEvents
	failed                     // the receiver has not taken the batch within patience
	refused                    // the receiver has answered 410
	unconfigured               // the URL is configured no more
	tooLarge                   // see largestPart
	stopped                    // told after Close
	away                       // Redis, where the outbox is, could not be reached
	queueFull                  // a Queue has had no room within patience
	reasons
)

// String is the reason as metrics call it.
func (r reason) String() string {
	return [reasons]string{"full", "undone", "rate", "failed", "refused", "unconfigured", "large",
		"stopped", "away", "queue_full"}[r]
}

// lose counts an event that is not told. The caller has Sender.mu.
func (q *queue) lose(kind Kind, why reason) {
	q.tally.Lose(int(why), 1)
	switch {
	case !kind.IsTransition():
	case why == noRoom, why == tooLarge:
		q.untold++
	case why == unconfigured:
		q.orphans++
	}
}
