// Package fifo has a queue of items for one owner, without a bound: the caller keeps one.
package fifo

import "iter"

// chunkItems is how many items a chunk has room for. Larger: a queue with one item takes more
// memory. Smaller: more allocations.
const chunkItems = 16

// Queue is a queue of items, in chunks: an item is never moved, so that putting one takes the same
// time however many wait, and the memory of items that are gone is free at once. The zero Queue is
// empty.
type Queue[T any] struct {
	first, last *chunk[T]
	N           int   // items
	Bytes       int64 // the caller counts them
}

type chunk[T any] struct {
	items    [chunkItems]T
	from, to int // the items that are there
	next     *chunk[T]
}

// Push adds an item as the newest.
func (f *Queue[T]) Push(x T) {
	if f.last == nil || f.last.to == chunkItems {
		c := &chunk[T]{}
		if f.last == nil {
			f.first = c
		} else {
			f.last.next = c
		}
		f.last = c
	}
	f.last.items[f.last.to] = x
	f.last.to++
	f.N++
}

// Head is the oldest item, which stays; nil if there is none.
func (f *Queue[T]) Head() *T {
	if f.N == 0 {
		return nil
	}
	return &f.first.items[f.first.from]
}

// Pop takes the oldest item. There must be one.
func (f *Queue[T]) Pop() T {
	c := f.first
	x := c.items[c.from]
	clear(c.items[c.from : c.from+1])
	c.from++
	if f.N--; f.N == 0 {
		f.first, f.last = nil, nil
	} else if c.from == chunkItems {
		f.first = c.next
	}
	return x
}

// All are the items, the oldest first, as they stand in the queue.
func (f *Queue[T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for c := f.first; c != nil; c = c.next {
			for i := c.from; i < c.to; i++ {
				if !yield(&c.items[i]) {
					return
				}
			}
		}
	}
}
