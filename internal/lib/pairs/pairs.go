// Package pairs has a queue of items for one owner, without a bound: the caller keeps one. Items
// may have names. Two items of a name may be a pair, which can leave the queue before its turn.
package pairs

import "iter"

// fewNames and maxSpares are for how many names and items an empty Queue keeps room. Larger: it
// takes more memory. Smaller: one that is often empty makes that room again and again.
const (
	fewNames  = 100
	maxSpares = 16
)

// Queue is a queue of items. Each call takes the same time, however many items wait. The memory of
// an item that is gone is free at once. The zero Queue is empty. A Queue must not be copied.
type Queue[K comparable, T any] struct {
	// Pair says how many of two items of a name may go: 0; 1, the older one; or both. No other item
	// of the name stands between them. Constant before the first Push; nil: always 0.
	Pair  func(older, newer *T) int
	N     int   // items
	Bytes int64 // the caller counts them

	all    link[K, T] // the root of all items, the oldest first
	pairs  link[K, T] // the root of the newer items of pairs
	newest map[K]*node[K, T]
	named  int         // the most names that newest has had
	spare  *node[K, T] // are empty, each the older one of another; for the next items
	spares int
}

// node is an item with its places.
type node[K comparable, T any] struct {
	item         T
	name         K // the zero K: it has none
	all, pair    link[K, T]
	older, newer *node[K, T] // its neighbours of that name
}

// link is a place in a ring, or the root of one. It is in no ring if next is nil.
type link[K comparable, T any] struct {
	prev, next *link[K, T]
	of         *node[K, T]
}

// append puts l at the end of the ring of which root is the root.
func (root *link[K, T]) append(l *link[K, T]) {
	if root.next == nil {
		root.prev, root.next = root, root
	}
	l.prev, l.next = root.prev, root
	l.prev.next, root.prev = l, l
}

// leave takes l out of its ring, if it is in one.
func (l *link[K, T]) leave() {
	if l.next != nil {
		l.prev.next, l.next.prev = l.next, l.prev
		l.prev, l.next = nil, nil
	}
}

// first is the first node of a ring; nil: it is empty.
func (root *link[K, T]) first() *node[K, T] {
	if root.next == nil {
		return nil
	}
	return root.next.of // the root is of none
}

// Push adds an item as the newest. The zero name is none.
func (q *Queue[K, T]) Push(name K, x T) {
	var none K
	n := q.spare
	if n == nil {
		n = new(node[K, T])
	} else {
		q.spare, n.older = n.older, nil
		q.spares--
	}
	n.item, n.name, n.all.of, n.pair.of = x, name, n, n
	q.all.append(&n.all)
	q.N++
	if name == none {
		return
	}
	if q.newest == nil {
		q.newest = map[K]*node[K, T]{}
	}
	if n.older = q.newest[name]; n.older != nil {
		n.older.newer = n
	}
	q.newest[name] = n
	q.named = max(q.named, len(q.newest))
	q.judge(n)
}

// judge notes whether a node and its older neighbour are a pair.
func (q *Queue[K, T]) judge(n *node[K, T]) {
	n.pair.leave()
	if q.Pair != nil && n.older != nil && q.Pair(&n.older.item, &n.item) > 0 {
		q.pairs.append(&n.pair)
	}
}

// Head is the oldest item, which stays; nil if there is none.
func (q *Queue[K, T]) Head() *T {
	if n := q.all.first(); n != nil {
		return &n.item
	}
	return nil
}

// Pop takes the oldest item. There must be one.
func (q *Queue[K, T]) Pop() T { return q.remove(q.all.first()) }

// HasPair says whether two items are a pair.
func (q *Queue[K, T]) HasPair() bool { return q.pairs.first() != nil }

// TakePair takes what may go of the pair that was the first to be one. gone is 1 if newer stays.
// There must be a pair.
func (q *Queue[K, T]) TakePair() (older, newer T, gone int) {
	n := q.pairs.first()
	if gone = q.Pair(&n.older.item, &n.item); gone > 1 {
		return q.remove(n.older), q.remove(n), gone
	}
	return q.remove(n.older), n.item, gone
}

// remove takes a node out of all lists.
func (q *Queue[K, T]) remove(n *node[K, T]) T {
	n.all.leave()
	n.pair.leave()
	if n.older != nil {
		n.older.newer = n.newer
	}
	if n.newer != nil {
		n.newer.older = n.older
		q.judge(n.newer)
	} else if q.newest[n.name] == n {
		if delete(q.newest, n.name); n.older != nil {
			q.newest[n.name] = n.older
		}
	}
	if q.N--; q.N == 0 && q.named > fewNames { // the memory of many that have gone
		q.newest, q.named = nil, 0
	}
	x := n.item
	if *n = (node[K, T]{}); q.spares < maxSpares {
		n.older, q.spare = q.spare, n
		q.spares++
	}
	return x
}

// All are the items, the oldest first, as they stand in the queue.
func (q *Queue[K, T]) All() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for n := q.all.first(); n != nil && yield(&n.item); n = n.all.next.of {
		}
	}
}
