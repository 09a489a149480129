package webhooks

import (
	"context"
	"time"

	"reverb/internal/hookentries"
)

// Outbox keeps the events of the apps of a cluster, in place of the queues of this process. Package
// outbox has one. Any goroutine may call it; it does not wait, and takes no lock of the Sender.
type Outbox interface {
	// Configure says what an app is told from now on, after which grace, and who delivers it.
	Configure(app string, hooks []*Hook, grace time.Duration, to Courier)
	// Put puts an event that is not a transition into the lane of a hook's URL. It keeps e.
	Put(app string, h *Hook, e *Event)
}

// Courier delivers what an app is told, as an Outbox sees it. Any goroutine may call it.
type Courier interface {
	// Deliver begins to deliver a batch, as the package promises for the batches of its own queues.
	// It returns false if the Sender is closed, or the URL is configured no more.
	Deliver(url string, b *Batch) bool
	// Refused counts events for which an outbox had no room, and transitions that were undone while
	// they waited, with those that have undone them.
	Refused(url string, others, transitions, undone int)
	// Untold counts events for a URL that came while the outbox could not be reached.
	Untold(url string, events int)
	// Waiting says how many events wait in the lanes of a URL that this node delivers, how many
	// wait for their grace, and since when the oldest waits.
	Waiting(url string, queued, absent int, oldest time.Time)
}

// Batch is what a lane of an Outbox has for one request.
type Batch struct {
	ID     string // X-Reverb-Webhook-Id
	Events []Event
	Times  []time.Time // when they happened
	// Held says whether the lane is still this node's. It is asked before each attempt.
	Held func() bool
	// Done is called once. settled says that the events are delivered, or lost; otherwise they stay
	// in the lane.
	Done func(settled bool)
}

// courier is an App as a Courier.
type courier struct{ *App }

func (a courier) Deliver(url string, b *Batch) bool {
	s := a.sender
	s.mu.Lock()
	defer s.mu.Unlock()
	q := a.queues[url]
	if s.closed || q == nil {
		return false
	}
	lane := &queue{app: a.App, held: b.Held, leave: s.stopping, tally: q.tally}
	lane.hook.Store(q.hook.Load()) // lane is of this batch alone
	lane.ctx, lane.cancel = context.WithCancel(q.ctx)
	for i := range b.Events {
		lane.taken = append(lane.taken, item{
			Item: hookentries.Item{Event: b.Events[i], At: b.Times[i]}})
	}
	s.workers.Go(func() {
		defer lane.cancel()
		var events []byte
		for i := range b.Events {
			if i > 0 {
				events = append(events, ',')
			}
			events = b.Events[i].Append(events)
		}
		why, ok := s.deliver(lane, b.ID, events, len(b.Events))
		switch {
		case ok:
			q.tally.Deliver(len(b.Events))
		case why != stopped:
			q.tally.Lose(int(why), len(b.Events))
		}
		b.Done(ok || why != stopped)
	})
	return true
}

func (a courier) Refused(url string, others, transitions, both int) {
	a.sender.mu.Lock()
	defer a.sender.mu.Unlock()
	tally := a.tallyLocked(placeOf(url))
	tally.Lose(int(noRoom), others+transitions)
	tally.Lose(int(undone), both)
	if q := a.queues[url]; q != nil && transitions > 0 {
		a.sender.logOf(q).Warn("webhooks were dropped: Redis holds as many as it may for this "+
			"URL; the receiver's idea of who is where may be wrong; see why it takes so long",
			"transitions", transitions)
	}
}

func (a courier) Untold(url string, events int) {
	a.sender.mu.Lock()
	defer a.sender.mu.Unlock()
	a.tallyLocked(placeOf(url)).Lose(int(away), events)
}

func (a courier) Waiting(url string, queued, absent int, oldest time.Time) {
	a.sender.mu.Lock()
	defer a.sender.mu.Unlock()
	if q := a.queues[url]; q != nil {
		q.elsewhere = lanes{queued, absent, oldest}
	}
}

// lanes are the figures that Waiting tells.
type lanes struct {
	queued, absent int
	oldest         time.Time
}
