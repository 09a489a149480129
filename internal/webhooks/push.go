package webhooks

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/posts"
)

// Queue takes events in place of a URL. Its methods may be called by several goroutines.
type Queue interface {
	// String names the queue for the log, without secrets.
	String() string
	// Push puts the events of a batch at the end of the queue, in their order, all or none of them.
	// Each comes with the time when it was told. Data of a client event is a text here, not JSON.
	// All attempts of a batch have the same id, and no other batch has it: a push whose answer was
	// lost may have been done, and comes again. full says that err is a lack of room. Push
	// keeps nothing of events.
	Push(ctx context.Context, id, app string, events iter.Seq2[time.Time, *Event]) (full bool,
		err error)
}

// batch chooses which of the items of the worker are delivered together: the first n, one or more.
// For a URL it encodes them. A Queue takes all: the worker has no more than fits.
func (q *queue) batch(items []item) (events []byte, n int) {
	if q.hook.Load().URL == nil {
		return nil, len(items)
	}
	return takeBatch(items)
}

// attempt makes one attempt to deliver the first n events of the worker; events are their bytes.
func (s *Sender) attempt(q *queue, id string, events []byte, n int) answer {
	if q.hook.Load().URL != nil {
		return s.post(q, id, events)
	}
	return s.push(q, id, q.taken[:n])
}

// push makes one attempt to push a batch.
func (s *Sender) push(q *queue, id string, batch []item) answer {
	hook := q.hook.Load()
	ctx, cancel := context.WithTimeout(q.ctx, hook.Timeout)
	defer cancel()
	full, err := hook.Queue.Push(ctx, id, q.app.id, func(yield func(time.Time, *Event) bool) {
		for i := range batch {
			e := batch[i].Event
			e.Data = jsonraw.Text(e.Data)
			if !yield(batch[i].At, &e) {
				return
			}
		}
	})
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", hook.Timeout)
	}
	return answer{posts.Answer{Err: err}, err == nil, full}
}
