// Package ration is a queue between those who must not wait and a reader who may be slow. It takes
// a bounded number of items in a second, of items that wait, and of their bytes. It drops what is
// more, and counts it.
package ration

import (
	"sync/atomic"
	"time"
)

// Queue is a queue of items. Any goroutine may put; one reader takes.
type Queue[E any] struct {
	items   chan E
	rate    uint32
	bytes   int64
	window  atomic.Uint64 // a second, in the upper half, and how many items it has had
	waiting atomic.Int64  // bytes of items
	dropped atomic.Int64
}

// New makes a queue for length items of at most so many bytes together, and rate items a second.
func New[E any](length int, bytes int64, rate uint32) *Queue[E] {
	return &Queue[E]{items: make(chan E, length), rate: rate, bytes: bytes}
}

// Put puts the item that item makes, which has so many bytes, or drops it. It calls item only if
// there seems to be room, and does not wait.
func (q *Queue[E]) Put(now time.Time, bytes int, item func() E) {
	if !q.take(uint32(now.Unix())) || q.waiting.Load()+int64(bytes) > q.bytes {
		q.dropped.Add(1)
		return
	}
	q.waiting.Add(int64(bytes))
	select {
	case q.items <- item():
	default:
		q.waiting.Add(-int64(bytes))
		q.dropped.Add(1)
	}
}

// Items is where the reader takes items from. It calls Taken for each.
func (q *Queue[E]) Items() <-chan E { return q.items }

// Taken makes room for what an item had.
func (q *Queue[E]) Taken(bytes int) { q.waiting.Add(-int64(bytes)) }

// Dropped is how many items were dropped since it was last called.
func (q *Queue[E]) Dropped() int64 { return q.dropped.Swap(0) }

// take says whether another item may be put in this second.
func (q *Queue[E]) take(second uint32) bool {
	for {
		was := q.window.Load()
		now := uint64(second)<<32 | 1
		if uint32(was>>32) == second {
			now = was + 1
		}
		if uint32(now) > q.rate {
			return false
		}
		if q.window.CompareAndSwap(was, now) {
			return true
		}
	}
}
