package wheel

import (
	"container/heap"
	"iter"
	"sort"
	"time"
)

// Set keeps what is to happen later unless it is called off: each thing has a name in a group, and
// is due at some time. It can be taken by its name, by its group in the order in which the group
// got it, and in the order of the times, each in at most O(log n). Nothing that was taken stays in
// memory. The zero Set is empty. It is not safe for concurrent use.
type Set[V any] struct {
	all    map[key]*item[V]
	groups map[string]*item[V] // the oldest of each group, see item
	due    byTime[V]
	number uint64 // of the last item
}

type key struct{ group, name string }

// item is one thing.
type item[V any] struct {
	key
	value      V
	due        time.Time
	number     uint64   // orders what is due at the same time
	place      int      // in the heap
	prev, next *item[V] // of its group, in a ring
}

// Len is how many things the set has.
func (s *Set[V]) Len() int { return len(s.due) }

// Put adds a thing, in place of one of that name. first says that it is due before all others.
func (s *Set[V]) Put(group, name string, due time.Time, value V) (first bool) {
	s.Take(group, name)
	if s.all == nil {
		s.all, s.groups = map[key]*item[V]{}, map[string]*item[V]{}
	}
	s.number++
	x := &item[V]{key: key{group, name}, value: value, due: due, number: s.number}
	x.prev, x.next = x, x
	if oldest := s.groups[group]; oldest == nil {
		s.groups[group] = x
	} else {
		x.prev, x.next = oldest.prev, oldest
		x.prev.next, x.next.prev = x, x
	}
	s.all[x.key] = x
	heap.Push(&s.due, x)
	return x.place == 0
}

// All has all things with the times at which they are due, in the order of TakeFirst.
func (s *Set[V]) All() iter.Seq2[time.Time, V] {
	return func(yield func(time.Time, V) bool) {
		all := append(inOrder[V](nil), s.due...)
		sort.Sort(all)
		for _, x := range all {
			if !yield(x.due, x.value) {
				return
			}
		}
	}
}

// Due is when the first thing is due; false: there is none.
func (s *Set[V]) Due() (time.Time, bool) {
	if len(s.due) == 0 {
		return time.Time{}, false
	}
	return s.due[0].due, true
}

// Take takes the thing of a name.
func (s *Set[V]) Take(group, name string) (value V, ok bool) {
	return s.take(s.all[key{group, name}])
}

// TakeOf takes the oldest thing of a group.
func (s *Set[V]) TakeOf(group string) (value V, ok bool) { return s.take(s.groups[group]) }

// TakeFirst takes what is due first.
func (s *Set[V]) TakeFirst() (value V, ok bool) {
	if len(s.due) == 0 {
		return value, false
	}
	return s.take(s.due[0])
}

func (s *Set[V]) take(x *item[V]) (value V, ok bool) {
	if x == nil {
		return value, false
	}
	delete(s.all, x.key)
	heap.Remove(&s.due, x.place)
	if x.next == x {
		delete(s.groups, x.group)
	} else {
		x.prev.next, x.next.prev = x.next, x.prev
		if s.groups[x.group] == x {
			s.groups[x.group] = x.next
		}
	}
	if len(s.due) == 0 { // the memory of many that have gone
		s.all, s.groups, s.due = nil, nil, nil
	}
	return x.value, true
}

// byTime is a heap, see container/heap.
type byTime[V any] []*item[V]

func (h byTime[V]) Len() int           { return len(h) }
func (h byTime[V]) Less(i, j int) bool { return h[i].before(h[j]) }
func (h byTime[V]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}
func (h *byTime[V]) Push(x any) {
	x.(*item[V]).place = len(*h)
	*h = append(*h, x.(*item[V]))
}
func (h *byTime[V]) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return x
}

func (x *item[V]) before(y *item[V]) bool {
	if !x.due.Equal(y.due) {
		return x.due.Before(y.due)
	}
	return x.number < y.number
}

// inOrder sorts items that are in a heap, too.
type inOrder[V any] []*item[V]

func (o inOrder[V]) Len() int           { return len(o) }
func (o inOrder[V]) Less(i, j int) bool { return o[i].before(o[j]) }
func (o inOrder[V]) Swap(i, j int)      { o[i], o[j] = o[j], o[i] }
