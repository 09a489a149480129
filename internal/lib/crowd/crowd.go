// Package crowd finds who of many has most.
package crowd

import (
	"container/heap"
	"iter"
	"slices"
)

// Crowd is a set whose member with the largest share is found at once. The zero Crowd is empty.
type Crowd[T comparable] struct {
	Share func(T) float64 // constant before the first Update
	heap  byShare[T]
}

// Update says that the share of x has changed, or that x has come, or, without in, that it has
// gone. It takes at most O(log n).
func (c *Crowd[T]) Update(x T, in bool) {
	h := &c.heap
	place, was := h.place[x]
	switch {
	case !was && in:
		if h.place == nil {
			h.place, h.share = map[T]int{}, c.Share
		}
		heap.Push(h, x)
	case was && in:
		heap.Fix(h, place)
	case was:
		heap.Remove(h, place)
	}
}

// Len is how many there are.
func (c *Crowd[T]) Len() int { return c.heap.Len() }

// First has the largest share. There must be somebody.
func (c *Crowd[T]) First() T { return c.heap.all[0] }

// All are those who are there, the one with the largest share first, the others in no order.
func (c *Crowd[T]) All() iter.Seq[T] { return slices.Values(c.heap.all) }

// byShare is a heap, see container/heap.
type byShare[T comparable] struct {
	share func(T) float64
	all   []T
	place map[T]int // in all
}

func (h *byShare[T]) Len() int           { return len(h.all) }
func (h *byShare[T]) Less(i, j int) bool { return h.share(h.all[i]) > h.share(h.all[j]) }
func (h *byShare[T]) Swap(i, j int) {
	h.all[i], h.all[j] = h.all[j], h.all[i]
	h.place[h.all[i]], h.place[h.all[j]] = i, j
}
func (h *byShare[T]) Push(x any) {
	h.place[x.(T)] = len(h.all)
	h.all = append(h.all, x.(T))
}
func (h *byShare[T]) Pop() any {
	last := len(h.all) - 1
	x := h.all[last]
	delete(h.place, x)
	clear(h.all[last:])
	h.all = h.all[:last]
	return x
}
