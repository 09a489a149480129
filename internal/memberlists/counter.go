package memberlists

import "reverb/internal/lib/outqueue"

// Taker is a joiner that takes its list from a send queue. Its loop calls the methods.
type Taker[M any] interface {
	// Reserve keeps a place in the queue for the bytes of from. It returns nil, and does not call
	// from, if the queue takes nothing more.
	Reserve(from outqueue.Supplier) *outqueue.Place
	// Supply gives a place its bytes, and puts more behind them.
	Supply(place *outqueue.Place, b, more []byte)
	// Channel is what is listed.
	Channel() Channel[M]
	// Form chooses the form of the list for this joiner, and what comes behind it.
	Form(l *List, at M) (b, more []byte)
	// Open says whether the joiner is not being closed.
	Open() bool
	// TooSlow closes the joiner, because it keeps others waiting.
	TooSlow()
}

// Counter is a Desk for joiners with a send queue. A joiner keeps a place in its queue for the
// list. When everything before the place is written, the joiner asks for the list, and when the
// list is written, it no longer holds it. A K stands for a joiner's wish. The loop owns a Counter.
type Counter[K comparable, M any] struct {
	desk    *Desk[M]
	waiting map[K]*place[K, M] // that have no list yet
}

// place is a place in the send queue of a joiner.
type place[K comparable, M any] struct {
	Claim[M]
	taker   Taker[M]
	counter *Counter[K, M]
	key     K
	place   *outqueue.Place
}

// Counters makes the Counters for the joiners at all desks, by loop.
func Counters[K comparable, M any](ls *Lists[M]) (all []*Counter[K, M]) {
	for _, d := range ls.desks {
		all = append(all, &Counter[K, M]{d, make(map[K]*place[K, M])})
	}
	return all
}

// Join gives t a place for a list. If key waits for its list already, that list serves for both.
func (c *Counter[K, M]) Join(key K, t Taker[M]) {
	if c.Waits(key) {
		return
	}
	v := &place[K, M]{taker: t, counter: c, key: key}
	if v.place = t.Reserve(v); v.place != nil {
		c.waiting[key] = v
	}
}

// Leave gives up the place of key, if it has no list yet.
func (c *Counter[K, M]) Leave(key K) {
	if v := c.waiting[key]; v != nil {
		c.desk.Drop(&v.Claim)
		v.taker.Supply(v.place, nil, nil)
	}
}

// Waits says whether key has a place and no list yet.
func (c *Counter[K, M]) Waits(key K) bool { return c.waiting[key] != nil }

// Of returns the key and the taker whose place in a send queue has this supplier.
func (c *Counter[K, M]) Of(from outqueue.Supplier) (key K, t Taker[M], ok bool) {
	v, ok := from.(*place[K, M])
	if ok {
		key, t = v.key, v.taker
	}
	return key, t, ok
}

// All calls yield for every key that waits, until yield returns false.
func (c *Counter[K, M]) All(yield func(K) bool) {
	for key := range c.waiting {
		if !yield(key) {
			return
		}
	}
}

// Wanted is part of outqueue.Supplier: the socket is ready for the list.
func (v *place[K, M]) Wanted() { v.counter.desk.Ask(&v.Claim, v.taker.Channel(), v) }

// Dropped is part of outqueue.Supplier: the place has left the queue.
func (v *place[K, M]) Dropped() {
	if v.counter.waiting[v.key] == v {
		delete(v.counter.waiting, v.key)
	}
	v.counter.desk.Drop(&v.Claim)
}

// Give is part of Joiner.
func (v *place[K, M]) Give(l *List, at M) int {
	delete(v.counter.waiting, v.key)
	b, more := v.taker.Form(l, at)
	v.taker.Supply(v.place, b, more)
	return len(b)
}

// Left is part of Joiner.
func (v *place[K, M]) Left() (bytes int, open bool) { return v.place.Left(), v.taker.Open() }

// TooSlow is part of Joiner.
func (v *place[K, M]) TooSlow() { v.taker.TooSlow() }
