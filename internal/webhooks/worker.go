package webhooks

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"reverb/internal/hookentries"
	"reverb/internal/lib/backoff"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
	"reverb/internal/posts"
)

const (
	// patience is how long a batch is tried (Pusher: Webhooks, "Delivery"). Larger: a batch that a
	// receiver cannot take keeps others waiting for longer. Smaller: a short failure loses events.
	patience = 5 * time.Minute
	// firstPause and longestPause bound the pauses between attempts that no Retry-After makes
	// longer. Larger: events come later after a failure. Smaller: a receiver in trouble gets more
	// requests.
	firstPause   = time.Second
	longestPause = time.Minute
	// stopPause bounds a pause once the server stops, and Retry-After does not count: there is
	// little time. Larger: a receiver that is back gets less. Smaller: one that is not gets more
	// requests.
	stopPause = 500 * time.Millisecond
)

// work sends what waits for a URL, until nothing does.
func (s *Sender) work(q *queue) {
	for s.fill(q) {
		id, events, n := s.nextBatch(q)
		why, ok := s.deliver(q, id, events, n)
		s.settle(q, n, why, ok)
	}
	s.tellLoss(q)
	s.tellOrphans(q)
}

// nextBatch encodes the next batch: one that another process has begun, with its ID, or a new one.
func (s *Sender) nextBatch(q *queue) (id string, events []byte, n int) {
	if again := q.begun; again.N > 0 && again.N <= len(q.taken) &&
		q.taken[again.N-1].Number == again.Last {
		if events, n = q.batch(q.taken[:again.N]); n == again.N {
			return again.ID, events, n
		}
	}
	events, n = q.batch(q.taken)
	id = fmt.Sprintf("%s-%d", s.boot, s.batches.Add(1))
	s.begin(q, hookentries.Batch{ID: id, Last: q.taken[n-1].Number, N: n})
	return id, events, n
}

// fill gives the worker of q what waits, up to a batch, since what it has cannot be lost to make
// room. A batch that another process has begun stays whole. If there is nothing, or if q has ended,
// the worker ends, and fill returns false.
func (s *Sender) fill(q *queue) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(0)
	for i := range q.taken {
		size += q.taken[i].cost - itemCost
	}
	for f := q.next(); f != nil && len(q.taken) < posts.MaxEvents; f = q.next() {
		size += f.Head().cost - itemCost
		if n := len(q.taken); n > 0 && n >= q.begun.N && size > posts.MaxBody {
			break
		}
		q.taken = append(q.taken, s.popLocked(q, f))
	}
	if q.ctx.Err() == nil && len(q.taken) > 0 {
		return true
	}
	q.working = false
	if q.gone {
		s.loseTakenLocked(q)
	}
	if len(q.taken) == 0 {
		q.taken = nil
	}
	return false
}

// loseWaitingLocked loses what waits in a queue that is configured no more, at once: makeRoom does
// not find it any more.
func (s *Sender) loseWaitingLocked(q *queue) {
	for f := q.next(); f != nil; f = q.next() {
		it := s.popLocked(q, f)
		s.settleLocked(q.app, &it)
		q.lose(it.Kind, unconfigured)
	}
}

// loseTakenLocked loses what the worker of such a queue has.
func (s *Sender) loseTakenLocked(q *queue) {
	for i := range q.taken {
		s.settleLocked(q.app, &q.taken[i])
		q.lose(q.taken[i].Kind, unconfigured)
	}
	q.taken = nil
}

// settle takes the first n events from the worker: they are delivered, or lost for a reason. If q
// has ended, they stay.
func (s *Sender) settle(q *queue, n int, why reason, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok && why == stopped {
		return
	}
	s.noteLocked(hookentries.Entry{Kind: hookentries.EntryDone, Lane: q.lane,
		Number: q.taken[n-1].Number})
	q.begun = hookentries.Batch{}
	for i := range q.taken[:n] {
		s.settleLocked(q.app, &q.taken[i])
		if !ok {
			q.lose(q.taken[i].Kind, why)
		}
	}
	if ok {
		q.tally.Deliver(n)
	}
	left := copy(q.taken, q.taken[n:])
	clear(q.taken[left:])
	q.taken = q.taken[:left]
}

// deliver sends a batch of n events until it is taken. Otherwise ok is false, and why says why the
// events are lost; stopped: q has ended.
func (s *Sender) deliver(q *queue, id string, events []byte, n int) (why reason, ok bool) {
	begin, stopping := s.Now(), (<-chan struct{})(s.stopping)
	if q.leave != nil {
		stopping = nil // another node goes on: there is no last chance
	}
	for failures := 1; ; failures++ {
		if q.ctx.Err() != nil || q.held != nil && !q.held() {
			return stopped, false // another process or node delivers the batch
		}
		a := s.attempt(q, id, events, n)
		s.tellLoss(q)
		if q.ctx.Err() != nil && !a.ok() {
			return stopped, false
		}
		passed := s.Now().Sub(begin)
		log := s.logOf(q).With("events", n, "attempts", failures)
		switch {
		case a.ok():
			if failures > 1 {
				log.Info("webhooks are delivered again")
			}
			return 0, true
		case a.Status == http.StatusGone:
			log.Warn("webhooks were dropped: the receiver refuses them", "why", a.Why())
			return refused, false
		case passed >= patience:
			log.Warn("webhooks were dropped: the receiver has not taken them", "why", a.Why())
			if a.full {
				return queueFull, false
			}
			return failed, false
		}
		pause := backoff.Pauses{First: firstPause, Max: longestPause}.Pause(failures, s.Draw)
		pause = min(max(pause, a.RetryAfter), patience-passed)
		select {
		case <-s.stopping:
			if s.spool.keeps() {
				q.cancel() // the next process goes on
				return stopped, false
			}
			pause, stopping = min(pause, stopPause), nil
		default:
		}
		log.Warn("webhooks were not delivered", "why", a.Why(), "next",
			"in "+pause.Round(100*time.Millisecond).String())
		select {
		case <-s.After(pause):
		case <-stopping: // the last chance, unless the next process goes on
			if s.spool.keeps() {
				q.cancel()
				return stopped, false
			}
		case <-q.ctx.Done():
			return stopped, false
		case <-q.leave:
			return stopped, false // another node goes on
		}
		q.tally.Retry()
	}
}

// logOf is the log, with what a line is about.
func (s *Sender) logOf(q *queue) *slog.Logger {
	log, h := s.Log.With("app", show.Text(q.app.id)), q.hook.Load()
	if h.URL == nil {
		return log.With("queue", show.Text(h.Queue.String()))
	}
	return log.With("url", show.Text(redact.Parsed(h.URL)))
}

// tellLoss writes into the log that transitions were lost, for want of room.
func (s *Sender) tellLoss(q *queue) {
	s.tellLost(q, &q.untold, "there is no room; raise REVERB_WEBHOOK_QUEUE_BYTES, or see why it "+
		"takes so long")
}

// tellOrphans writes into the log that transitions were lost with the URL that they waited for.
func (s *Sender) tellOrphans(q *queue) {
	s.tellLost(q, &q.orphans, "their URL is configured no more")
}

// tellLost writes a count into the log, if it is not 0, and begins it again. Sender.mu guards it.
func (s *Sender) tellLost(q *queue, count *int, why string) {
	s.mu.Lock()
	n := *count
	*count = 0
	s.mu.Unlock()
	if n > 0 {
		s.logOf(q).Warn("webhooks were dropped: "+why+"; the receiver's idea of who is where "+
			"may be wrong", "transitions", n)
	}
}
