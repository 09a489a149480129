// Package heaviest finds the heaviest of many things whose weights change.
package heaviest

// Heap has things, the heaviest of which is the first. The caller says of each change of a weight,
// and locks. The zero Heap needs its two functions.
type Heap[T any] struct {
	Weight func(T) int
	Place  func(T) *int // where the heap notes the place of a thing

	items []T
}

// Len is how many things there are.
func (h *Heap[T]) Len() int { return len(h.items) }

// First is the heaviest thing; there must be one.
func (h *Heap[T]) First() T { return h.items[0] }

// Add adds a thing.
func (h *Heap[T]) Add(v T) {
	*h.Place(v) = len(h.items)
	h.items = append(h.items, v)
	h.Moved(v)
}

// Moved says that the weight of a thing has changed. It takes time with the logarithm of Len.
func (h *Heap[T]) Moved(v T) {
	i, weight := *h.Place(v), h.Weight(v)
	for i > 0 && weight > h.Weight(h.items[(i-1)/2]) {
		i = h.swap(i, (i-1)/2)
	}
	for {
		child := 2*i + 1
		if child+1 < len(h.items) && h.Weight(h.items[child+1]) > h.Weight(h.items[child]) {
			child++
		}
		if child >= len(h.items) || h.Weight(h.items[child]) <= weight {
			return
		}
		i = h.swap(i, child)
	}
}

// swap returns the second place.
func (h *Heap[T]) swap(a, b int) int {
	h.items[a], h.items[b] = h.items[b], h.items[a]
	*h.Place(h.items[a]), *h.Place(h.items[b]) = a, b
	return b
}

// Remove removes a thing.
func (h *Heap[T]) Remove(v T) {
	at, last := *h.Place(v), len(h.items)-1
	h.swap(at, last)
	h.items[last] = *new(T)
	if h.items = h.items[:last]; at < last {
		h.Moved(h.items[at])
	}
}
