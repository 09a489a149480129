// Package crowd finds who of many has most.
package crowd

import (
	"container/heap"
	"iter"
	"slices"
)

// Crowd is a set whose member with the largest share is found at once. Share and Place are constant
// before the first Update.
type Crowd[T any] struct {
	Share func(T) float64
	// Place is a number of a member that is the Crowd's alone, 0 before the first Update.
	Place func(T) *int
	all   []T // a heap, see byShare
}

// Update says that the share of x has changed, or that x has come, or, without in, that it has
// gone. It takes at most O(log n).
func (c *Crowd[T]) Update(x T, in bool) {
	h, place := (*byShare[T])(c), *c.Place(x)-1
	switch {
	case place < 0 && in:
		heap.Push(h, x)
	case in:
		heap.Fix(h, place)
	case place >= 0:
		heap.Remove(h, place)
	}
}

// Len is how many there are.
func (c *Crowd[T]) Len() int { return len(c.all) }

// First has the largest share. There must be somebody.
func (c *Crowd[T]) First() T { return c.all[0] }

// All are those who are there, the one with the largest share first, the others in no order.
func (c *Crowd[T]) All() iter.Seq[T] { return slices.Values(c.all) }

// byShare is a Crowd as a heap, see container/heap. A member in all[i] has the place i+1.
type byShare[T any] Crowd[T]

func (h *byShare[T]) Len() int           { return len(h.all) }
func (h *byShare[T]) Less(i, j int) bool { return h.Share(h.all[i]) > h.Share(h.all[j]) }
func (h *byShare[T]) Swap(i, j int) {
	h.all[i], h.all[j] = h.all[j], h.all[i]
	*h.Place(h.all[i]), *h.Place(h.all[j]) = i+1, j+1
}
func (h *byShare[T]) Push(x any) {
	h.all = append(h.all, x.(T))
	*h.Place(x.(T)) = len(h.all)
}
func (h *byShare[T]) Pop() any {
	last := len(h.all) - 1
	x := h.all[last]
	*h.Place(x) = 0
	clear(h.all[last:])
	h.all = h.all[:last]
	return x
}
