// Package wheel keeps one deadline for each of many small numbers. Setting, moving and removing a
// deadline costs the same however many there are. The passing of time costs nothing for deadlines
// that are not due.
//
// A Set keeps things that have names, and finds what is due first.
//
// Time of a Wheel is counted in ticks, whatever a tick means to the caller. A Wheel is not
// safe for concurrent use.
package wheel

// slots is the number of lists. A deadline further away than this shares its list with nearer ones,
// and is skipped once a round. Larger: more memory. Smaller: more deadlines are skipped.
const slots = 256

const none = -1

// Wheel holds the deadlines. Make one with New.
type Wheel struct {
	head  [slots]int32
	nodes []node // indexed by id
	now   uint32
	count int
	ready []int32 // scratch of visit
}

type node struct {
	next, prev int32 // prev == -2-slot: first of that slot's list; next == none: last
	due        uint32
	set        bool
	ready      bool // the deadline is due and about to be reported
}

// New returns a wheel without deadlines. Its clock shows now.
func New(now uint32) *Wheel {
	w := &Wheel{now: now}
	for i := range w.head {
		w.head[i] = none
	}
	return w
}

// Set gives id the deadline due, in place of its former one. A deadline in the past is due at the
// next tick. The ids should be small: memory grows with the largest id.
func (w *Wheel) Set(id int, due uint32) {
	for id >= len(w.nodes) {
		w.nodes = append(w.nodes, node{})
	}
	w.Remove(id)
	if int32(due-w.now) <= 0 {
		due = w.now + 1
	}
	slot := due % slots
	n := &w.nodes[id]
	*n = node{next: w.head[slot], prev: -2 - int32(slot), due: due, set: true}
	if n.next != none {
		w.nodes[n.next].prev = int32(id)
	}
	w.head[slot] = int32(id)
	w.count++
}

// Remove removes the deadline of id, if there is one.
func (w *Wheel) Remove(id int) {
	if id >= len(w.nodes) {
		return
	}
	n := &w.nodes[id]
	n.ready = false
	if !n.set {
		return
	}
	if n.prev >= 0 {
		w.nodes[n.prev].next = n.next
	} else {
		w.head[-2-n.prev] = n.next
	}
	if n.next != none {
		w.nodes[n.next].prev = n.prev
	}
	n.set = false
	w.count--
}

// Advance moves the clock to now and calls due for every id whose deadline has
// passed, after removing it. due may call Set and Remove, also for other ids.
func (w *Wheel) Advance(now uint32, due func(id int)) {
	for steps := 0; w.now != now && int32(now-w.now) > 0; steps++ {
		if steps >= slots { // every list has been visited
			w.now = now
			return
		}
		w.now++
		w.visit(w.now%slots, now, due)
	}
}

// visit calls due for the due ids of one list. due may change any list, so visit unlinks these ids
// first, and skips those that due removes or sets meanwhile.
func (w *Wheel) visit(slot, now uint32, due func(id int)) {
	ready := w.ready[:0]
	for id := w.head[slot]; id != none; {
		next := w.nodes[id].next
		if int32(w.nodes[id].due-now) <= 0 {
			w.Remove(int(id))
			w.nodes[id].ready = true
			ready = append(ready, id)
		}
		id = next
	}
	w.ready = ready
	for _, id := range ready {
		if w.nodes[id].ready {
			w.nodes[id].ready = false
			due(int(id))
		}
	}
}

// Next returns in how many ticks the next list with a deadline will be visited. ok is false if
// there is no deadline.
func (w *Wheel) Next() (ticks uint32, ok bool) {
	if w.count == 0 {
		return 0, false
	}
	for d := uint32(1); d < slots; d++ {
		if w.head[(w.now+d)%slots] != none {
			return d, true
		}
	}
	return slots, true
}
