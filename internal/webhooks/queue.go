package webhooks

import (
	"container/heap"
	"context"
	"sync/atomic"
	"time"

	"reverb/internal/lib/fifo"
	"reverb/internal/lib/tallies"
)

const (
	// itemCost is what an event takes beside its texts: its place in a chunk. Larger: fewer events
	// wait than there is memory for. Smaller: they take more memory than is counted.
	itemCost = 192
	// largestPart is which part of QueueBytes one event may take. Larger: one event costs many
	// others. Smaller: large events are lost although there is room.
	largestPart = 8
)

// item is an event that waits.
type item struct {
	Event
	number uint64 // orders the items of a queue
	at     time.Time
	cost   int64 // bytes
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
	transitions fifo.Queue[item]
	others      fifo.Queue[item] // lost before transitions
	taken       []item           // of the worker: the batch under way, and what comes next
	untold      int              // transitions that were lost, and are not in the log yet
	orphans     int              // the same, of a queue that is gone
	elsewhere   lanes            // of an Outbox
	tally       *tallies.Tally   // constant once the queue is an app's

	// with a spool
	lane  uint64 // constant once it has events
	again batch  // that another process has begun; the worker's own
}

func (a *App) newQueue() *queue {
	q := &queue{app: a}
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
func (q *queue) next() *fifo.Queue[item] {
	a, b := q.transitions.Head(), q.others.Head()
	switch {
	case a == nil && b == nil:
		return nil
	case b == nil, a != nil && a.number < b.number:
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
	it := item{Event: *e, at: now, cost: costOf(e)}
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
	it.number = q.number
	s.noteLocked(note{kind: entryPut, lane: q.lane, number: it.number, at: now, event: *e})
	s.pushLocked(q, it)
}

// pushLocked queues an event that has a number.
func (s *Sender) pushLocked(q *queue, it item) {
	f := &q.others
	if it.Kind.isTransition() {
		f = &q.transitions
	}
	f.Push(it)
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
func (s *Sender) popLocked(q *queue, f *fifo.Queue[item]) item {
	it := f.Pop()
	f.Bytes -= it.cost
	s.account(q.app, -1, 0, 0)
	return it
}

// settleLocked forgets an event that was delivered or lost.
func (s *Sender) settleLocked(a *App, it *item) {
	s.events, s.bytes = s.events-1, s.bytes-it.cost
	s.account(a, 0, -1, -it.cost)
}

// makeRoom loses the oldest event of the app for which most waits; transitions last.
func (s *Sender) makeRoom() {
	var from *queue
	var f *fifo.Queue[item]
	for _, others := range []bool{true, false} {
		for _, q := range s.crowd[0].queues {
			g := &q.transitions
			if others {
				g = &q.others
			}
			if g.N > 0 && (f == nil || g.Bytes > f.Bytes) {
				from, f = q, g
			}
		}
		if f != nil {
			break
		}
	}
	it := s.popLocked(from, f)
	s.settleLocked(from.app, &it)
	from.lose(it.Kind, noRoom)
	s.noteLocked(note{kind: entryLost, lane: from.lane, number: it.number})
}

// --- The crowd: which app has most ---

// crowd is a heap, see container/heap: the app that has the largest share of the room comes first.
type crowd Sender

func (c *crowd) Len() int           { return len(c.crowd) }
func (c *crowd) Less(i, j int) bool { return c.share(c.crowd[i]) > c.share(c.crowd[j]) }
func (c *crowd) Swap(i, j int) {
	c.crowd[i], c.crowd[j] = c.crowd[j], c.crowd[i]
	c.crowd[i].place, c.crowd[j].place = i, j
}
func (c *crowd) Push(x any) {
	x.(*App).place = len(c.crowd)
	c.crowd = append(c.crowd, x.(*App))
}
func (c *crowd) Pop() any {
	last := len(c.crowd) - 1
	a := c.crowd[last]
	a.place, c.crowd[last] = -1, nil
	c.crowd = c.crowd[:last]
	return a
}

// share is how much of the room an app has: of the events or of the bytes, whichever is more. What
// is under way counts, but an app of which nothing waits has nothing to lose, and comes last.
func (c *crowd) share(a *App) float64 {
	if a.waiting == 0 {
		return 0
	}
	return max(float64(a.events)/maxEvents, float64(a.bytes)/float64(c.QueueBytes))
}

// account changes what waits for an app, and what it has with what is under way.
func (s *Sender) account(a *App, waiting, events int, bytes int64) {
	a.waiting, a.events, a.bytes = a.waiting+waiting, a.events+events, a.bytes+bytes
	switch c := (*crowd)(s); {
	case a.place < 0:
		heap.Push(c, a)
	case a.events == 0:
		heap.Remove(c, a.place)
	default:
		heap.Fix(c, a.place)
	}
}

// --- Losses ---

// reason is why an event was lost.
type reason uint8

const (
	noRoom       reason = iota // see the bounds of what waits
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
	return [reasons]string{"full", "rate", "failed", "refused", "unconfigured", "large", "stopped",
		"away", "queue_full"}[r]
}

// lose counts an event that is not told. The caller has Sender.mu.
func (q *queue) lose(kind Kind, why reason) {
	q.tally.Lose(int(why), 1)
	switch {
	case !kind.isTransition():
	case why == noRoom, why == tooLarge:
		q.untold++
	case why == unconfigured:
		q.orphans++
	}
}
