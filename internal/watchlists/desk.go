package watchlists

import (
	"container/heap"
	"iter"
	"time"

	"reverb/internal/lib/buckets"
	"reverb/internal/lib/numbers"
)

// Desk has the watchers of one loop. Only the loop calls its methods.
type Desk[A comparable, C any] struct {
	lists *Lists[A, C]
	index int
	loop  Loop
	host  Host[A, C]

	// The users who are watched here. Lists of watchers name them by their place in table.
	subjects buckets.Set[subject[A, C], *subject[A, C]]
	table    []*subject[A, C]
	noUser   []uint32 // places of table that are free

	// The watchers. Lists of users name them by their place.
	watchers []place[A, C]
	noWatch  []uint32 // places of watchers that are free

	leaving map[*subject[A, C]]time.Duration // until when they count as online
	due     dues[*subject[A, C]]             // the same, and some who have come back
	timers  []time.Duration                  // when tasks come, the next one last
	posted  uint64                           // changes posted by Lists, whose lock guards it
	applied uint64                           // of these
	fresh   []freshman[A, C]                 // those who are fresh, in the order of watches
	part    []C                              // of Change.Next
	scratch []uint32                         // of Begin
	bursts  bursts[A, C]                     // what is told together
	steps   uint64                           // counts calls of Start, and walks that have begun
}

// place is the place of a watcher. It is free when no list has its number any more.
type place[A comparable, C any] struct {
	*Watcher[A, C]        // nil: it has ended
	named          uint32 // how many lists of users have the number
}

// subject is a user who is watched on a loop.
type subject[A comparable, C any] struct {
	of       *person[A]
	next     *subject[A, C]
	watchers numbers.List // places; those that have ended are still in it, see dead
	at       uint32       // in the table
	dead     uint32       // how many of watchers have ended
	known    bool
	online   bool // with all changes that were handed over
	shown    bool // with those whose walk has begun
	walked   bool // a walk goes through watchers
	fresh    bool // changes may come that are older than the watch
}

// freshman is a user whose watch has begun after so many changes were posted.
type freshman[A comparable, C any] struct {
	*subject[A, C]
	posted uint64
}

func (s *subject[A, C]) Hash() uint32          { return s.of.hash }
func (s *subject[A, C]) Next() **subject[A, C] { return &s.next }

// Watcher is a connection that watches some users.
type Watcher[A comparable, C any] struct {
	conn    C
	users   numbers.List // places in the table
	place   uint32
	unknown int32  // how many of users have a state that is not known yet
	self    uint32 // the place of the user whom the watcher is itself, plus 1; 0: none of users
	told    uint32 // when it was last told of a change, in milliseconds; 0: never
	ready   func() // when all are known; nil: it was called
	started uint64 // the step of Start; 0: it was not called
	burst   *burst // changes of which it will be told together; nil: none
}

func newDesk[A comparable, C any](l *Lists[A, C], index int, loop Loop,
	host Host[A, C]) *Desk[A, C] {
	return &Desk[A, C]{lists: l, index: index, loop: loop, host: host,
		leaving: make(map[*subject[A, C]]time.Duration)}
}

// Begin makes conn a watcher of users, each of which is named once. known says that the states of
// all are known. Otherwise the loop calls ready once, when they are, unless End was called before.
func (d *Desk[A, C]) Begin(app A, conn C, users []string, ready func()) (w *Watcher[A, C],
	known bool) {
	w = &Watcher[A, C]{conn: conn}
	w.place = take(&d.noWatch, len(d.watchers))
	if int(w.place) == len(d.watchers) {
		d.watchers = append(d.watchers, place[A, C]{})
	}
	d.watchers[w.place] = place[A, C]{w, 0}
	at := d.scratch[:0]
	for _, id := range users {
		s := d.need(app, id)
		s.watchers.Append(w.place)
		at = append(at, s.at)
		if !s.known {
			w.unknown++
		}
	}
	d.watchers[w.place].named = uint32(len(users))
	w.users, d.scratch = numbers.Of(at...), at
	if w.unknown > 0 {
		w.ready = ready
	}
	return w, w.unknown == 0
}

// take returns a free number, or n if there is none.
func take(free *[]uint32, n int) (number uint32) {
	last := len(*free) - 1
	if last < 0 {
		return uint32(n)
	}
	number = (*free)[last]
	*free = (*free)[:last]
	return number
}

// find returns a user who is watched here, or nil.
func (d *Desk[A, C]) find(app A, id string, hash uint32) *subject[A, C] {
	s := d.subjects.First(hash)
	for s != nil && (s.of.hash != hash || s.of.id != id || s.of.app != app) {
		s = s.next
	}
	return s
}

// need returns a user, whom it begins to watch if nobody here does.
func (d *Desk[A, C]) need(app A, id string) *subject[A, C] {
	hash := d.lists.hash(app, id)
	if s := d.find(app, id, hash); s != nil {
		return s
	}
	now := d.lists.watch(d.index, app, id, hash)
	s := &subject[A, C]{of: now.person, at: take(&d.noUser, len(d.table))}
	if int(s.at) == len(d.table) {
		d.table = append(d.table, nil)
	}
	d.table[s.at] = s
	d.subjects.Add(s)
	if now.posted > d.applied {
		s.fresh = true
		d.fresh = append(d.fresh, freshman[A, C]{s, now.posted})
	}
	if now.known {
		d.learn(s, now.online, now.went)
	}
	return s
}

// learn takes the first state of a user, who may be within the grace.
func (d *Desk[A, C]) learn(s *subject[A, C], online bool, went time.Duration) {
	s.known = true
	if due := went + d.host.Grace(s.of.app); !online && went > 0 && due > d.loop.Now() {
		online = true
		d.leave(s, due)
	}
	s.online, s.shown = online, online
}

// leave makes a user offline at a time.
func (d *Desk[A, C]) leave(s *subject[A, C], due time.Duration) {
	d.leaving[s] = due
	heap.Push(&d.due, leave[*subject[A, C]]{due, s})
	d.arm()
}

// Start returns the users of a watcher who are online, and the others, each in the order of Begin.
// From then on the watcher is told of every change. self is the user whom the watcher is itself:
// that one is online as long as it watches, and it is never told so again.
func (d *Desk[A, C]) Start(w *Watcher[A, C], self string) (online, offline []string) {
	d.steps++
	w.started = d.steps
	return split(w.users.Len(), w.users.All, func(at uint32) (id string, online bool) {
		s := d.table[at]
		if s.of.id == self {
			w.self = at + 1
		}
		return s.of.id, s.shown || w.self == at+1
	})
}

// split returns n users, the online ones apart from the others, in one piece of memory.
func split(n int, all iter.Seq[uint32], look func(v uint32) (id string, online bool)) (on,
	off []string) {
	ids := make([]string, 0, n)
	for _, wanted := range []bool{true, false} {
		for v := range all {
			if id, online := look(v); online == wanted {
				ids = append(ids, id)
			}
		}
		if wanted {
			on = ids[:len(ids):len(ids)]
		}
	}
	return on, ids[len(on):]
}

// Watched returns the users of a watcher, in the order of Begin.
func (d *Desk[A, C]) Watched(w *Watcher[A, C]) (ids []string) {
	for at := range w.users.All {
		ids = append(ids, d.table[at].of.id)
	}
	return ids
}

// End ends a watcher.
func (d *Desk[A, C]) End(w *Watcher[A, C]) {
	d.watchers[w.place].Watcher = nil
	for at := range w.users.All {
		s := d.table[at]
		if s.dead++; int(s.dead) == s.watchers.Len() {
			d.drop(s)
		} else if !s.walked {
			d.compact(s)
		}
	}
	if w.users.Len() == 0 { // no list has the number
		d.noWatch = append(d.noWatch, w.place)
	}
	w.users, w.ready, w.burst = numbers.List{}, nil, nil
	if d.subjects.Len() == 0 { // no list of a watcher has a number
		d.table, d.noUser = nil, nil
	}
	if len(d.noWatch) == len(d.watchers) {
		d.watchers, d.noWatch = nil, nil
	}
}

// compact removes the watchers that have ended from the list of a user, if they are more than half
// of it. So each of them is looked at twice at most.
func (d *Desk[A, C]) compact(s *subject[A, C]) {
	if 2*int(s.dead) <= s.watchers.Len() {
		return
	}
	var left numbers.List
	for place := range s.watchers.All {
		if d.watchers[place].Watcher != nil {
			left.Append(place)
		} else {
			d.unname(place)
		}
	}
	s.watchers, s.dead = left, 0
}

// unname notes that one list less has the number of a watcher that has ended.
func (d *Desk[A, C]) unname(place uint32) {
	if d.watchers[place].named--; d.watchers[place].named == 0 {
		d.noWatch = append(d.noWatch, place)
	}
}

// drop ends the watch of a user whose watchers have all ended. Changes of the user that are still
// to be walked find nobody.
func (d *Desk[A, C]) drop(s *subject[A, C]) {
	for place := range s.watchers.All {
		d.unname(place)
	}
	s.watchers, s.dead = numbers.List{}, 0
	d.subjects.Remove(s)
	d.table[s.at] = nil
	d.noUser = append(d.noUser, s.at)
	delete(d.leaving, s)
	d.lists.unwatch(d.index, s.of)
}

// --- Changes of users ---

// apply takes the state of a user, who went at a time if it is offline. Changes come in the order
// in which they were posted.
func (d *Desk[A, C]) apply(p *person[A], online bool, went time.Duration) {
	d.applied++
	for len(d.fresh) > 0 && d.fresh[0].posted < d.applied {
		d.fresh[0].fresh = false
		d.fresh = d.fresh[1:]
	}
	if len(d.fresh) == 0 {
		d.fresh = nil
	}
	s := d.find(p.app, p.id, p.hash)
	if s == nil || s.of != p || s.fresh {
		return
	}
	_, leaves := d.leaving[s]
	switch {
	case !s.known:
		d.learn(s, online, went)
		d.tellReady(s)
	case online && leaves:
		delete(d.leaving, s)
	case online && !s.online:
		d.change(s, true)
	case !online && s.online && !leaves:
		if due := went + d.host.Grace(p.app); due <= d.loop.Now() {
			d.change(s, false)
		} else {
			d.leave(s, due)
		}
	}
}

// tellReady notes that the state of a user is known.
func (d *Desk[A, C]) tellReady(s *subject[A, C]) {
	var ready []func()
	for place := range s.watchers.All {
		w := d.watchers[place].Watcher
		if w == nil {
			continue
		}
		if w.unknown--; w.unknown == 0 {
			ready = append(ready, func() {
				if f := w.ready; f != nil { // another may have ended it meanwhile
					w.ready = nil
					f()
				}
			})
		}
	}
	for _, f := range ready { // they may begin and end watchers
		f()
	}
}

// arm asks for a task at the time at which the next user has gone for good, unless a task comes
// before. The graces of apps differ, so a user who goes later may be gone for good earlier.
func (d *Desk[A, C]) arm() {
	n := len(d.timers)
	if len(d.due) == 0 || n > 0 && d.timers[n-1] <= d.due[0].at {
		return
	}
	d.timers = append(d.timers, d.due[0].at)
	d.loop.After(max(d.due[0].at-d.loop.Now(), 0), func() {
		d.timers = d.timers[:len(d.timers)-1]
		d.expire()
		d.arm()
	})
}

// expire tells of the users who have not come back in time.
func (d *Desk[A, C]) expire() {
	for now := d.loop.Now(); len(d.due) > 0 && d.due[0].at <= now; {
		v := heap.Pop(&d.due).(leave[*subject[A, C]])
		if at, leaves := d.leaving[v.who]; leaves && at == v.at {
			delete(d.leaving, v.who)
			d.change(v.who, false)
		}
	}
}

// leave is a user who has gone for good at a time, if nothing comes in between.
type leave[T any] struct {
	at  time.Duration
	who T
}

// dues is a heap, by time.
type dues[T any] []leave[T]

func (h dues[T]) Len() int           { return len(h) }
func (h dues[T]) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dues[T]) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dues[T]) Push(v any)        { *h = append(*h, v.(leave[T])) }

func (h *dues[T]) Pop() any {
	last := len(*h) - 1
	v := (*h)[last]
	(*h)[last] = leave[T]{}
	*h = (*h)[:last]
	return v
}
