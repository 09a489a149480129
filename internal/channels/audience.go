package channels

import "reverb/internal/protocol"

// Subscriber is the other end of a subscription. A list holds it by value, with what a
// delivery looks at: a walk through the list reads memory in order.
type Subscriber[C any] struct {
	Conn  C
	since uint64 // events up to this one are not for it; neverYet: none is before its list of members
	sub   *Subscription[C]
}

// neverYet is the number of no event.
const neverYet = ^uint64(0)

// --- Lists ---

// loopList are the subscribers of a channel on one loop.
type loopList[C any] struct {
	count int32           // places; guarded by the shard's mu
	list  []Subscriber[C] // owned by the loop, changed under mu too
}

// list returns the subscribers on a loop. Only the loop calls it, and only while it has places
// or has been given something for them.
func (ch *channel[C]) list(loop int) []Subscriber[C] {
	if by := ch.by.Load(); by != nil {
		return (*by)[loop].list
	}
	if int(ch.home) != loop+1 || ch.only[0].sub == nil {
		return nil
	}
	return ch.only[:]
}

// placesLocked returns how many places are on a loop.
func (ch *channel[C]) placesLocked(loop int) int32 {
	if by := ch.by.Load(); by != nil {
		return (*by)[loop].count
	}
	if int(ch.home) == loop+1 {
		return ch.count
	}
	return 0
}

// reserveLocked makes a place on one of so many loops.
func (ch *channel[C]) reserveLocked(loop, loops int) {
	by := ch.by.Load()
	if by == nil && ch.home == 0 {
		ch.home = int16(loop + 1)
	}
	if by == nil && (ch.count > 0 || int(ch.home) != loop+1) {
		all := make([]loopList[C], loops)
		home := &all[ch.home-1]
		if home.count = ch.count; ch.only[0].sub != nil {
			home.list = ch.only[:1:1]
		}
		by = &all
		ch.by.Store(by)
	}
	if ch.count++; by != nil {
		(*by)[loop].count++
	}
}

// addLocked fills a place on a loop and returns the index in its list. Only the loop calls it.
func (ch *channel[C]) addLocked(loop int, s Subscriber[C]) (index int32) {
	by := ch.by.Load()
	if by == nil {
		ch.only[0] = s
		return 0
	}
	list := &(*by)[loop].list
	if *list = append(*list, s); len(*list) == 2 && int(ch.home) == loop+1 {
		ch.only[0] = Subscriber[C]{} // has moved, or was not there
	}
	return int32(len(*list) - 1)
}

// removeLocked gives up the place of the subscriber at index. Only the loop calls it.
func (ch *channel[C]) removeLocked(loop int, index int32) {
	ch.count--
	by := ch.by.Load()
	if by == nil {
		ch.only[0] = Subscriber[C]{}
		return
	}
	l := &(*by)[loop]
	l.list = ch.app.loops[loop].walk.remove(ch, l.list, int(index))
	l.count--
}

// shrink gives back the memory of a list that has lost most of its elements.
func shrink[T any](list []T) []T {
	if cap(list) >= 64 && len(list) < cap(list)/4 {
		return append(make([]T, 0, 2*len(list)), list...)
	}
	return list
}

// --- The walk ---

// Audience are those that an event is for: the subscribers of a channel at the moment at which
// it was published. The zero Audience is nobody.
type Audience[C any] struct {
	ch     *channel[C]
	seq    uint64
	except protocol.SocketID
}

// walk is how far a loop has come with an event of an app. Of an app one event at a time is on
// its way on a loop.
type walk[C any] struct {
	ch     *channel[C] // whose event it is; nil: none is on its way
	passed int         // the first of ch's subscribers have had their turn
}

// Next goes on with the walk through the subscribers on a loop: it returns the next ones, most
// at most, without the one that is excepted. done says that these are the last. The loop calls
// it, until done: then for the next event of the app. Between two calls subscribers may come
// and go, not while part is in use.
func (to Audience[C]) Next(loop, most int) (part []Subscriber[C], done bool) {
	w, list := &to.ch.app.loops[loop].walk, to.ch.list(loop)
	from := w.passed
	end := min(from+most, len(list))
	if to.except != (protocol.SocketID{}) {
		switch i := to.ch.app.index(list[from:end], to.except); {
		case i > 0:
			end = from + i
		case i == 0:
			from, end = from+1, min(end+1, len(list))
		}
	}
	if end < len(list) {
		w.ch, w.passed = to.ch, end
		return list[from:end], false
	}
	w.ch, w.passed = nil, 0
	return list[from:], true
}

// Hears says whether a subscriber came before the event.
func (to Audience[C]) Hears(s *Subscriber[C]) bool { return s.since < to.seq }

// remove takes the subscriber at a place off the loop's list of ch. Those that have had the
// event that is on its way stay before the others: the last of them takes the place, and the
// last of all takes its.
func (w *walk[C]) remove(ch *channel[C], list []Subscriber[C], at int) []Subscriber[C] {
	move := func(from, to int) {
		list[to] = list[from]
		list[to].sub.index = int32(to)
	}
	if w.ch == ch && at < w.passed {
		w.passed--
		move(w.passed, at)
		at = w.passed
	}
	last := len(list) - 1
	if at < last { // else a copy of the one that was moved stands there
		move(last, at)
	}
	list[last] = Subscriber[C]{}
	return shrink(list[:last])
}
