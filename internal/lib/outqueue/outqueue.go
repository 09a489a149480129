// Package outqueue holds the bytes that wait for a peer. A queue is a list of slices, which may be
// shared with many other queues, and it is bounded in bytes. From time to time the socket takes
// some bytes, and it may stop inside a slice.
//
// Besides the order, a queue keeps three promises. Past its bound it takes nothing more, and says
// so. If pongs wait behind each other, only the latest one stays. And it can keep a place for bytes
// that are made only when everything before them has been written, so that a peer that does not
// read costs a place, not the bytes.
//
// The package does not write to sockets. It never copies a slice that is pushed, except that Next
// copies into the buffer of its caller. It never changes such a slice. A Pool and its queues belong
// to one goroutine.
//
// A Fifo is a plain queue of items of any type, for callers that lock.
package outqueue

// LinkBytes is the memory that one waiting slice takes besides its bytes: the size of a link.
const LinkBytes = 48

// PlaceBytes is how many bytes a place counts in its queue, whatever is supplied for it. The code
// that makes supplied bytes bounds them. Larger: queues with a small bound are full of places.
// Smaller: a peer with many places holds more memory than its queue shows.
const PlaceBytes = 256

// TurnBytes is how many supplied bytes the queues of a pool may write in a turn. Larger: others
// wait longer behind supplied bytes. Smaller: such bytes take more turns.
const TurnBytes = 2 << 20

// link is one slice of a queue.
type link struct {
	next  *link // the next link in the queue; the last link points to the first
	b     []byte
	place *Place // the place that b is supplied for; nil: b was pushed
	cut   bool   // the beginning has been written
	pong  bool
}

// waits reports whether the bytes are still to be supplied.
func (k *link) waits() bool { return k.place != nil && !k.place.supplied }

// weight is how many bytes the link counts in its queue.
func (k *link) weight() int {
	if k.place != nil {
		return PlaceBytes + k.place.counted
	}
	return len(k.b)
}

// Supplier makes the bytes of a place.
type Supplier interface {
	// at most once, when all before the place is written; Supply must follow, but not from within
	Wanted()
	Dropped() // once, when the place has left the queue, written or not
}

// Place is the place of supplied bytes in a queue.
type Place struct {
	from     Supplier
	link     *link // nil: the place has left the queue
	counted  int   // bytes that count, see SupplyCounted
	asked    bool  // the supplier knows that its bytes are wanted
	supplied bool  // the bytes were supplied; there may be none
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

// Pool is shared by queues. It has unused links, and the sums over all queues.
type Pool struct {
	bytes  int
	links  int
	limit  int
	spare  *link // the unused links, each the next of the one before
	spares int
	most   int // how many unused links are kept

	supplied int // supplied bytes that this turn has written
}

// NewPool returns a pool. Each of its queues takes nothing more once more than limit bytes wait in
// it, so one slice may go over the limit. The pool keeps at most most unused links.
func NewPool(limit, most int) Pool {
	return Pool{limit: limit, most: most}
}

// Bytes returns how many bytes wait in all queues; shared bytes count in each queue.
func (p *Pool) Bytes() int { return p.bytes }

// EndTurn begins the next turn, in which TurnBytes supplied bytes may be written again.
func (p *Pool) EndTurn() { p.supplied = 0 }

// Links returns the number of slices and places in all queues.
func (p *Pool) Links() int { return p.links }

// Queue has the bytes that wait for one peer. The zero Queue is empty.
type Queue struct {
	last  *link // nil: empty; its next is the first
	bytes int32
	over  bool // the queue went past the limit
	shut  bool
}

// Empty reports whether neither bytes nor a place waits.
func (q *Queue) Empty() bool { return q.last == nil }

// Bytes returns how many bytes wait; each place counts PlaceBytes.
func (q *Queue) Bytes() int { return int(q.bytes) }

// Over reports whether the limit has refused a push. From then on the queue refuses everything,
// until DropUnsent.
func (q *Queue) Over() bool { return q.over }

// Overflow has the effect of a push past the limit.
func (q *Queue) Overflow() { q.over = true }

// Shut drops everything. The queue refuses everything from then on.
func (q *Queue) Shut(p *Pool) {
	q.shut = true
	q.Clear(p)
}

// Closed reports whether Shut was called.
func (q *Queue) Closed() bool { return q.shut }

// refuses reports whether the queue refuses everything.
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

// Push puts b at the end, unless the queue is over its limit or shut.
func (q *Queue) Push(p *Pool, b []byte) {
	if !q.refuses(p) {
		q.append(p, p.take(b), len(b))
	}
}

// PushAnyway puts b at the end, whatever the limit says. It is for bytes that come only once.
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

// append puts k, of the given weight, at the end.
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

// count adds n to the bytes that wait.
func (q *Queue) count(p *Pool, n int) {
	q.bytes += int32(n)
	p.bytes += n
}

// PushPong pushes b, a pong. stuck says that the peer does not read. If stuck is set, or a place
// waits for its bytes, b replaces a pong that is the last in the queue: only the latest ping needs
// an answer (RFC 6455 §5.5.3).
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

// PushPlace keeps a place for the bytes of from. If the queue is over its limit or shut, it returns
// nil and never calls from.
func (q *Queue) PushPlace(p *Pool, from Supplier) *Place {
	if q.refuses(p) {
		return nil
	}
	k := p.take(nil)
	k.place = &Place{from: from, link: k}
	q.append(p, k, PlaceBytes)
	return k.place
}

// Supply gives place its bytes, which may be empty. place is in q and waits. If more is not nil, it
// follows the bytes, and counts like a push.
func (q *Queue) Supply(p *Pool, place *Place, b, more []byte) {
	k := place.link
	k.b, place.supplied = b, true
	if more == nil {
		return
	}
	q.insert(p, k, p.take(more), len(more))
}

// SupplyCounted is Supply for bytes that nothing else bounds: they count in the queue until the
// place leaves it.
func (q *Queue) SupplyCounted(p *Pool, place *Place, b []byte) {
	q.Supply(p, place, b, nil)
	place.counted = len(b)
	q.count(p, len(b))
}

// PlaceBehind keeps a place for the bytes of from right behind another place of q, whatever the
// limit says.
func (q *Queue) PlaceBehind(p *Pool, at *Place, from Supplier) *Place {
	k := p.take(nil)
	k.place = &Place{from: from, link: k}
	q.insert(p, at.link, k, PlaceBytes)
	return k.place
}

// insert puts behind, of the given weight, right behind k.
func (q *Queue) insert(p *Pool, k, behind *link, weight int) {
	behind.next = k.next
	if k.next = behind; q.last == k {
		q.last = behind
	}
	p.links++
	q.count(p, weight)
}

// Head looks at the first slice. place is the place of the slice, or nil. ok is false if nothing
// waits. Head drops places that got no bytes.
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

// Ready says whether the first slice can be written now. If its bytes are still to be supplied, and
// the peer is not stuck, Ready asks the supplier for them. If the turn has written TurnBytes
// already, a supplied slice can be written later, in the next turn.
func (q *Queue) Ready(p *Pool, stuck bool) (now, later bool) {
	place, ok := q.Head(p)
	switch {
	case !ok:
		return false, false
	case place == nil:
		return true, false
	case place.Waits():
		if !stuck {
			place.Ask()
		}
		return false, false
	}
	later = p.supplied >= TurnBytes
	return !later, later
}

// Next returns the next bytes: the first slice, or as many whole slices as fit into buf, copied
// there. The queue must not be empty, and its head must not wait to be supplied.
func (q *Queue) Next(buf []byte) []byte {
	first := q.last.next
	second := first.next
	if second == first || second.waits() || len(first.b)+len(second.b) > len(buf) {
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

// Written removes n bytes from the front of the queue, because the socket has taken them.
func (q *Queue) Written(p *Pool, n int) {
	plain := 0 // bytes of links without a place: counted together
	for n > 0 {
		k := q.last.next
		if n < len(k.b) {
			if k.b, k.cut = k.b[n:], true; k.place == nil {
				plain += n
			} else {
				p.supplied += n
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
			p.supplied += len(k.b)
			q.drop(p, k)
		}
	}
	q.count(p, -plain)
}

// Cut notes that the beginning of the only slice has been written already, so that DropUnsent keeps
// the rest.
func (q *Queue) Cut() { q.last.cut = true }

// takeHead removes the first link. The queue still counts it.
func (q *Queue) takeHead() *link {
	k := q.last.next
	if k == q.last {
		q.last = nil
	} else {
		q.last.next = k.next
	}
	return k
}

// drop gives up a link that has left the queue, and tells its supplier.
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

// DropUnsent drops everything except a slice whose beginning has been written: the peer waits for
// its end. The queue takes pushes again.
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

// Piece is a slice that waits, as another process needs it to go on.
type Piece struct {
	Bytes []byte
	Cut   bool     // its beginning has been written
	Pong  bool     // a later pong may replace it
	From  Supplier // it is a place that waits, for bytes of From; nil: it is not
}

// Pieces calls yield for everything that waits, in order.
func (q *Queue) Pieces(yield func(Piece) bool) {
	if q.last == nil {
		return
	}
	for k := q.last.next; ; k = k.next {
		v := Piece{Bytes: k.b, Cut: k.cut, Pong: k.pong}
		if k.waits() {
			v.From = k.place.from
		}
		if !yield(v) || k == q.last {
			return
		}
	}
}

// Restore puts a piece at the end, whatever the limit says, and returns its place if it has From.
func (q *Queue) Restore(p *Pool, v Piece) *Place {
	k := p.take(v.Bytes)
	if v.From != nil {
		k.place = &Place{from: v.From, link: k}
	}
	q.append(p, k, k.weight())
	k.cut, k.pong = v.Cut, v.Pong
	return k.place
}

// All calls yield for each slice that waits, in order; a place that waits has no slice. Only tests
// use it, also those of the program.
func (q *Queue) All(yield func(b []byte) bool) {
	if q.last == nil {
		return
	}
	for k := q.last.next; yield(k.b) && k != q.last; k = k.next {
	}
}
