// Package outqueue holds the bytes that wait for a peer: a queue of slices, each perhaps
// shared with many other queues, bounded in bytes, of which the socket takes some from time
// to time, ending anywhere.
//
// A queue keeps three promises beside the order. Past its bound it takes nothing more, and
// says so. Of the pongs that wait behind each other only the latest stays. And a place can
// be kept for bytes that are made only when everything before them has been written, so
// that a peer that does not read costs a place and not the bytes.
//
// The package never writes and never copies what is pushed, except for Next into the
// buffer of its caller. Slices that are pushed may be shared; they are not changed.
// A Pool and its queues belong to one goroutine.
package outqueue

// LinkBytes is the memory that one waiting slice takes beside its bytes.
const LinkBytes = 48

// PlaceBytes is what a place counts in its queue, whatever is supplied for it. Supplied
// bytes are bounded where they are made. Less would let a peer that asks for many places
// hold more memory than its queue shows; more would close queues that are small.
const PlaceBytes = 256

// link is one slice of a queue.
type link struct {
	next  *link // behind it in the queue; behind the last stands the first
	b     []byte
	place *Place // b is supplied for it; nil: b was there from the start
	cut   bool   // the beginning has been written
	pong  bool
}

// waits reports whether the bytes are still to be supplied.
func (k *link) waits() bool { return k.place != nil && !k.place.supplied }

// weight is what the link counts in its queue.
func (k *link) weight() int {
	if k.place != nil {
		return PlaceBytes
	}
	return len(k.b)
}

// Supplier makes the bytes of a place.
type Supplier interface {
	Wanted()  // at most once: everything before the place has been written; Supply is to follow, not from within
	Dropped() // once: the place has left the queue, written or not
}

// Place is where supplied bytes will stand in a queue.
type Place struct {
	from     Supplier
	link     *link // nil: the place has left the queue
	asked    bool  // from was told that the bytes are wanted
	supplied bool  // the bytes are there; they may be none
}

// Waits reports whether the bytes are still to be supplied.
func (p *Place) Waits() bool { return !p.supplied }

// Ask tells the supplier, once, that its bytes are wanted.
func (p *Place) Ask() {
	if !p.asked {
		p.asked = true
		p.from.Wanted()
	}
}

// Left returns how many of the supplied bytes are still to be written.
func (p *Place) Left() int {
	if p.link == nil {
		return 0
	}
	return len(p.link.b)
}

// Pool is what queues share: unused links, and the sums over all queues.
type Pool struct {
	bytes  int
	links  int
	limit  int
	spare  *link // unused, each the next of the one before
	spares int
	most   int // spares that are kept
}

// NewPool returns a pool for queues of which each takes nothing more once more than limit
// bytes wait in it: one slice may go over the limit. At most most unused links are kept;
// more are left to the garbage collector.
func NewPool(limit, most int) Pool {
	return Pool{limit: limit, most: most}
}

// Bytes returns what waits in all queues; shared bytes count for each queue.
func (p *Pool) Bytes() int { return p.bytes }

// Links returns the number of slices and places in all queues.
func (p *Pool) Links() int { return p.links }

// Queue is the bytes that wait for one peer. The zero Queue is empty.
type Queue struct {
	last  *link // nil: empty; its next is the first
	bytes int32
	over  bool // went past the limit
	shut  bool
}

// Empty reports whether nothing waits: neither bytes nor a place.
func (q *Queue) Empty() bool { return q.last == nil }

// Bytes returns what waits, in bytes; each place counts PlaceBytes.
func (q *Queue) Bytes() int { return int(q.bytes) }

// Over reports whether something was pushed that the limit did not let in. From then on
// nothing is let in, until DropUnsent.
func (q *Queue) Over() bool { return q.over }

// Overflow does what a push past the limit does.
func (q *Queue) Overflow() { q.over = true }

// Shut drops everything; nothing is let in any more.
func (q *Queue) Shut(p *Pool) {
	q.shut = true
	q.Clear(p)
}

// Closed reports whether Shut was called.
func (q *Queue) Closed() bool { return q.shut }

// refuses reports whether nothing is let in.
func (q *Queue) refuses(p *Pool) bool {
	if q.shut || q.over {
		return true
	}
	if int(q.bytes) > p.limit {
		q.over = true
		return true
	}
	return false
}

// Push puts b behind what waits, unless the queue is over its limit or shut.
func (q *Queue) Push(p *Pool, b []byte) {
	if !q.refuses(p) {
		q.append(p, p.take(b), len(b))
	}
}

// PushAnyway puts b behind what waits, whatever the limit says. It is for what comes once.
func (q *Queue) PushAnyway(p *Pool, b []byte) { q.append(p, p.take(b), len(b)) }

// take returns a link that holds b.
func (p *Pool) take(b []byte) *link {
	k := p.spare
	if k == nil {
		k = new(link)
	} else {
		p.spare = k.next
		p.spares--
	}
	k.b = b
	return k
}

// give keeps k, which has left its queue, for the next use.
func (p *Pool) give(k *link) {
	p.links--
	*k = link{}
	if p.spares < p.most {
		k.next, p.spare = p.spare, k
		p.spares++
	}
}

// append puts k, of the given weight, behind what waits.
func (q *Queue) append(p *Pool, k *link, weight int) {
	if last := q.last; last == nil {
		k.next = k
	} else {
		k.next, last.next = last.next, k
	}
	q.last = k
	p.links++
	q.count(p, weight)
}

// count adds to what waits.
func (q *Queue) count(p *Pool, n int) {
	q.bytes += int32(n)
	p.bytes += n
}

// PushPong pushes b, a pong. Where the peer does not read, which stuck says, or a place
// waits for its bytes, b takes the place of a pong that is the last in the queue: only the
// latest ping has to be answered (RFC 6455 §5.5.3).
func (q *Queue) PushPong(p *Pool, b []byte, stuck bool) {
	if last := q.last; last != nil && last.pong && !last.cut && (stuck || last.next.waits()) {
		q.count(p, len(b)-len(last.b))
		last.b = b
		return
	}
	if !q.refuses(p) {
		q.PushAnyway(p, b)
		q.last.pong = true
	}
}

// PushPlace keeps a place for what from will supply. It returns nil, and from is never
// called, when the queue is over its limit or shut.
func (q *Queue) PushPlace(p *Pool, from Supplier) *Place {
	if q.refuses(p) {
		return nil
	}
	k := p.take(nil)
	k.place = &Place{from: from, link: k}
	q.append(p, k, PlaceBytes)
	return k.place
}

// Supply gives place, which is in q and waits, its bytes, which may be none. Unless more is
// nil, it is queued behind them; it counts as what is pushed does.
func (q *Queue) Supply(p *Pool, place *Place, b, more []byte) {
	k := place.link
	k.b, place.supplied = b, true
	if more == nil {
		return
	}
	behind := p.take(more)
	behind.next = k.next
	if k.next = behind; q.last == k {
		q.last = behind
	}
	p.links++
	q.count(p, len(more))
}

// Head looks at what comes next: place is the place that it was or is to be supplied for,
// or nil. ok is false when nothing waits. Places that got no bytes are dropped on the way.
func (q *Queue) Head(p *Pool) (place *Place, ok bool) {
	for q.last != nil {
		k := q.last.next
		if k.place == nil || !k.place.supplied || len(k.b) > 0 {
			return k.place, true
		}
		q.drop(p, q.takeHead())
	}
	return nil, false
}

// Next returns the bytes that come next: the first slice, or as many whole slices as fit
// into buf, copied there. The queue is not empty, and its head does not wait to be supplied.
func (q *Queue) Next(buf []byte) []byte {
	first := q.last.next
	if second := first.next; second == first || second.waits() || len(first.b)+len(second.b) > len(buf) {
		return first.b
	}
	n := 0
	for k := first; !k.waits() && n+len(k.b) <= len(buf); k = k.next {
		n += copy(buf[n:], k.b)
		if k == q.last {
			break
		}
	}
	return buf[:n]
}

// Written takes n bytes, which the socket has taken, off the front of the queue.
func (q *Queue) Written(p *Pool, n int) {
	plain := 0 // bytes of links without a place: counted together
	for n > 0 {
		k := q.last.next
		if n < len(k.b) {
			if k.b, k.cut = k.b[n:], true; k.place == nil {
				plain += n
			}
			break
		}
		n -= len(k.b)
		if q.takeHead(); k.place == nil {
			plain += len(k.b)
			p.give(k)
		} else {
			q.count(p, -plain)
			plain = 0
			q.drop(p, k)
		}
	}
	q.count(p, -plain)
}

// Cut notes that the beginning of the only slice has been written already: DropUnsent keeps
// the rest.
func (q *Queue) Cut() { q.last.cut = true }

// takeHead takes the first link off the queue, which counts it still.
func (q *Queue) takeHead() *link {
	k := q.last.next
	if k == q.last {
		q.last = nil
	} else {
		q.last.next = k.next
	}
	return k
}

// drop gives up a link that has been taken off the queue, and tells its supplier.
func (q *Queue) drop(p *Pool, k *link) {
	q.count(p, -k.weight())
	place := k.place
	p.give(k)
	if place != nil {
		place.link = nil
		place.from.Dropped()
	}
}

// Clear drops everything.
func (q *Queue) Clear(p *Pool) {
	for q.last != nil {
		q.drop(p, q.takeHead())
	}
}

// DropUnsent drops everything but the slice of which the beginning has been written: the
// peer waits for its end. What is pushed then is let in again.
func (q *Queue) DropUnsent(p *Pool) {
	q.over = false
	if q.last == nil {
		return
	}
	keep := q.last.next
	if !keep.cut {
		q.Clear(p)
		return
	}
	k := keep.next
	keep.next, q.last = keep, keep
	for k != keep {
		next := k.next
		q.drop(p, k)
		k = next
	}
}

// All calls yield for each slice that waits, in order; a place that waits has none.
func (q *Queue) All(yield func(b []byte) bool) {
	if q.last == nil {
		return
	}
	for k := q.last.next; yield(k.b) && k != q.last; k = k.next {
	}
}
