package webhooks

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeQueue is a Queue in memory. say says what becomes of a push; nil: it is done at once.
type fakeQueue struct {
	say func(ctx context.Context, n int) (full bool, err error)
	// lost is the error of a push that was done; nil: it is answered.
	lost func() error

	mu     sync.Mutex
	ids    []string // of all pushes
	pushed []string // one list of events for each push that was done
	times  []time.Time
	data   string
}

func (q *fakeQueue) String() string { return "shop-queues:default" }

func (q *fakeQueue) Push(ctx context.Context, id, app string,
	events iter.Seq2[time.Time, *Event]) (full bool, err error) {
	q.mu.Lock()
	q.ids = append(q.ids, app+" "+id)
	n := len(q.ids)
	q.mu.Unlock()
	if q.say != nil {
		full, err = q.say(ctx, n)
	}
	if err != nil {
		return full, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []string
	for at, e := range events {
		list = append(list, strings.TrimSpace(e.Kind.String()+" "+e.Channel.String()+" "+e.Event))
		q.times, q.data = append(q.times, at), string(e.Data)
	}
	if q.pushed = append(q.pushed, strings.Join(list, ",")); q.lost != nil {
		return false, q.lost()
	}
	return false, nil
}

func queueHook(q Queue) *Hook {
	return &Hook{Queue: q, Kinds: allKinds, Timeout: 5 * time.Second}
}

// A hook with a queue gets what a hook with a URL gets, in order; encrypted channels travel with
// the others, and data of a client event is a text.
func TestQueue(t *testing.T) {
	play(t, nil, func(s *stage) {
		q := &fakeQueue{say: func(context.Context, int) (bool, error) {
			time.Sleep(time.Second) // of a bubble
			return false, nil
		}}
		begin := time.Now()
		a := s.App(account("1", hook("http://h/in"), queueHook(q)))
		a.tell(occupied("a"))
		s.pass(500 * time.Millisecond)
		told := clientEvent("private-x", "client-t")
		told.Data = []byte(` "\u00fc\ud800" `)
		for _, e := range []Event{occupied("b"), occupied("private-encrypted-c"), told} {
			a.tell(e)
		}
		s.pass(10 * time.Second)
		if want := []string{"channel_occupied a", "channel_occupied b,channel_occupied " +
			"private-encrypted-c,client_event private-x client-t"}; !slices.Equal(q.pushed, want) {
			t.Errorf("got %q, want %q", q.pushed, want)
		}
		if q.data != "ü\uFFFD" {
			t.Errorf("data %q", q.data)
		}
		if !q.times[0].Equal(begin) || !q.times[1].Equal(begin.Add(500*time.Millisecond)) {
			t.Errorf("told at %v, began at %v", q.times, begin)
		}
		s.want("channel_occupied a", "channel_occupied b", "channel_occupied private-encrypted-c",
			"client_event private-x client-t")
		if f := sum(a); f.Delivered != 8 || f.Queued != 0 || f.Retried != 0 {
			t.Errorf("%+v", f)
		}
	})
}

// A batch that was not pushed is pushed again, with the same ID; a full queue loses it in the end.
func TestQueueRetries(t *testing.T) {
	play(t, nil, func(s *stage) {
		q := &fakeQueue{say: func(ctx context.Context, n int) (bool, error) {
			switch {
			case n == 1:
				return false, errors.New("Redis is away")
			case n == 2:
				<-ctx.Done()
				return false, ctx.Err()
			case n == 3 || n > 4:
				return true, errors.New("100 jobs wait")
			}
			return false, nil
		}}
		a := s.App(account("1", queueHook(q)))
		a.tell(occupied("a"))
		s.pass(30 * time.Second)
		if len(q.ids) != 4 || q.ids[0] != q.ids[3] || len(q.pushed) != 1 {
			t.Fatalf("pushes %q, done %q", q.ids, q.pushed)
		}
		for _, want := range []string{"app=1 queue=shop-queues:default", `why="Redis is away"`,
			`why="no answer within 5s"`, `why="100 jobs wait"`, "delivered again", "attempts=4"} {
			if !strings.Contains(s.log.String(), want) {
				t.Errorf("the log has no %s:\n%s", want, s.log.String())
			}
		}
		if f := sum(a); f.Delivered != 1 || f.Retried != 3 {
			t.Errorf("%+v", f)
		}
		a.tell(occupied("b"))
		s.pass(patience + time.Minute)
		f := sum(a)
		if f.Lost["queue_full"] != 1 || f.Lost["failed"] != 0 || f.Queued != 0 {
			t.Errorf("%+v", f)
		}
		if q.ids[4] == q.ids[3] || q.ids[4] != q.ids[len(q.ids)-1] || len(q.ids) < 8 {
			t.Errorf("IDs %q", q.ids)
		}
		if !strings.Contains(s.log.String(), "webhooks were dropped") {
			t.Errorf("the log is silent:\n%s", s.log.String())
		}
	})
}

// A push has at most 50 events and 256 KiB; a larger event travels alone.
func TestQueueBounds(t *testing.T) {
	play(t, func(o *Options) { o.ClientEvents = 1000 }, func(s *stage) {
		q := &fakeQueue{say: func(context.Context, int) (bool, error) {
			time.Sleep(time.Second) // of a bubble
			return false, nil
		}}
		a := s.App(account("1", queueHook(q)))
		a.tell(occupied("first"))
		s.pass(time.Millisecond)
		for i := range 70 {
			a.tell(occupied(fmt.Sprint("c", i)))
		}
		large := clientEvent("private-x", "client-large")
		for _, size := range []int{100 << 10, 100 << 10, 100 << 10, 300 << 10, 1, 1} {
			large.Data = []byte(`"` + strings.Repeat("x", size) + `"`)
			a.tell(large)
		}
		s.pass(20 * time.Second)
		var counts []int
		for _, list := range q.pushed {
			counts = append(counts, strings.Count(list, ",")+1)
		}
		if want := []int{1, 50, 22, 1, 1, 2}; !slices.Equal(counts, want) {
			t.Errorf("got pushes of %v, want %v", counts, want)
		}
	})
}

// A batch of a lane is pushed with its ID and its times.
func TestQueueLane(t *testing.T) {
	play(t, func(o *Options) { o.Outbox = &shelf{} }, func(s *stage) {
		q := &fakeQueue{}
		h := queueHook(q)
		a := courier{s.App(account("1", h))}
		var held atomic.Bool
		held.Store(true)
		b, end := batchOf("lane-7", &held, occupied("a"), clientEvent("private-x", "client-t"))
		b.Times[1] = time.UnixMilli(1795709778123)
		if !a.Deliver(h.Address(), b) {
			t.Fatal("the batch is not taken")
		}
		s.pass(time.Second)
		want := []string{"channel_occupied a,client_event private-x client-t"}
		if end.Load() != 1 || !slices.Equal(q.pushed, want) || q.ids[0] != "1 lane-7" ||
			!q.times[1].Equal(b.Times[1]) {
			t.Errorf("got %q, %q, %v", q.pushed, q.ids, q.times)
		}
	})
}

// A queue that is configured no more gets nothing more; one of the same name takes over what waits.
func TestQueueConfigured(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return status(500), nil }
		broken := &fakeQueue{say: func(context.Context, int) (bool, error) {
			return false, errors.New("no")
		}}
		a := s.App(account("1", queueHook(broken)))
		a.tell(occupied("a"))
		s.pass(10 * time.Second)
		works := &fakeQueue{}
		a.Configure(account("1", queueHook(works)))
		s.pass(2 * time.Minute)
		if !slices.Equal(works.pushed, []string{"channel_occupied a"}) {
			t.Errorf("got %q", works.pushed)
		}
		works.say = broken.say
		a.tell(occupied("b"))
		s.pass(time.Second)
		a.Configure(account("1"))
		s.pass(2 * time.Minute)
		if f := sum(a); f.Lost["unconfigured"] != 1 || f.Queued != 0 {
			t.Errorf("%+v", f)
		}
	})
}
