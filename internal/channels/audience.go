package channels

import (
	"math"

	"reverb/internal/protocol"
)

// Subscriber is the other end of a subscription. A list holds it by value, with all that a delivery
// looks at, so that a walk through the list reads memory in order.
type Subscriber[C any] struct {
	Conn C
	// since is the last event that is not for the subscriber; neverYet: no event is for it before
	// its list of members.
	since uint64
	sub   *Subscription[C]
}

// neverYet is a number that no event has.
const neverYet = math.MaxUint64

// --- Lists ---

// loopList has the subscribers of a channel on one loop.
type loopList[C any] struct {
	count int32           // places; guarded by the shard's mu
	list  []Subscriber[C] // owned by the loop, changed under mu too
}

// list returns the subscribers on a loop. Only the loop calls it, and only while it has places, or
// an event for them.
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

// reserveLocked makes a place on a loop; loops is how many loops there are.
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
		ch.only[0] = Subscriber[C]{} // the subscriber has moved, or there was none
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

// Audience has the receivers of an event: the subscribers of a channel at the moment of publishing.
// The zero Audience is empty.
type Audience[C any] struct {
	ch     *channel[C]
	seq    uint64
	except protocol.SocketID
}

// walk says how far a loop has come with an event of an app. A loop delivers one event of an app at
// a time.
type walk[C any] struct {
	ch     *channel[C] // the channel of the event; nil: there is none
	passed int         // how many of the first subscribers of ch have had their turn
}

// Next continues the walk through the subscribers on a loop. It returns the next subscribers, at
// most most, without the excepted one. done says that these are the last. The loop calls Next until
// done, and only then for the next event of the app. Subscribers may come and go between two calls,
// but not while part is in use.
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

// remove removes the subscriber at a place from the loop's list of ch. Subscribers that have had
// the current event stay before the others: the last of them moves to the place, and the last of
// all moves to its place.
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
	if at < last { // otherwise a copy of the moved subscriber stays there
		move(last, at)
	}
	list[last] = Subscriber[C]{}
	return shrink(list[:last])
}
