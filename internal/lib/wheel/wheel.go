// Package wheel keeps one deadline for each of many small numbers, so that
// setting, moving and removing one costs the same however many there are, and
// the passing of time costs nothing for those that are not due.
//
// Time is counted in ticks, whatever a tick means to the caller. A Wheel is not
// safe for concurrent use.
package wheel

// slots is the number of lists. A deadline further away than this shares its
// list with nearer ones and is passed over once a round.
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
	ready      bool // due, and about to be reported
}

// New returns a wheel without deadlines whose clock stands at now.
func New(now uint32) *Wheel {
	w := &Wheel{now: now}
	for i := range w.head {
		w.head[i] = none
	}
	return w
}

// Set gives id the deadline due, in place of the one it has. A deadline that
// has passed already is due at the next tick. The ids in use should be small:
// memory grows with the largest.
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

// Remove takes id's deadline away, if it has one.
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
		if steps >= slots { // every list has been visited: the rest are empty turns
			w.now = now
			return
		}
		w.now++
		w.visit(w.now%slots, now, due)
	}
}

// visit calls due for what is due in one list. due may change any list, so all
// that is due is unlinked first; what due removes or sets meanwhile is skipped.
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

// Next returns how many ticks from now the next list that holds a deadline will
// be visited, and false when there is none at all.
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
