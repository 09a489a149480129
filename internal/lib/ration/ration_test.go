package ration

import (
	"sync"
	"testing"
	"time"
)

func TestQueue(t *testing.T) {
	now := time.Unix(1000, 0)
	made := 0
	item := func() int { made++; return made }
	q := New[int](3, 100, 5)
	q.Put(now, 60, item)
	q.Put(now, 60, item) // too many bytes
	if q.Dropped() != 1 || made != 1 {
		t.Errorf("%d items were made", made)
	}
	if got := <-q.Items(); got != 1 {
		t.Errorf("got %d", got)
	}
	q.Taken(60)
	for range 4 {
		q.Put(now, 1, item) // three have the rate left, as one that was dropped counts too
	}
	if n := len(q.Items()); n != 3 || q.Dropped() != 1 {
		t.Errorf("%d items wait", n)
	}
	q.Put(now.Add(time.Second), 1, item) // there is no room
	if q.Dropped() != 1 || q.Dropped() != 0 {
		t.Error("an item that has no room is not counted once")
	}
	if w := q.waiting.Load(); w != 3 {
		t.Errorf("%d bytes wait, want 3", w)
	}
}

// TestRate has many put at once.
func TestRate(t *testing.T) {
	q := New[int](1000, 1000, 100)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				q.Put(time.Unix(5, 0), 0, func() int { return 0 })
			}
		})
	}
	all.Wait()
	if n, d := len(q.Items()), q.Dropped(); n != 100 || d != 700 {
		t.Errorf("%d items, %d dropped", n, d)
	}
}
