// Package watchlists tells clients when the users whom they watch come and go. A user is online
// while a connection is signed in as the user, on this node or on another one.
//
// Lists knows the truth, and Desks tell it:
//
//	SignedIn, SignedOut ─▶ Lists ─▶ a task for each loop that watches the user ─▶ Desk ─▶ Change
//	other nodes (Set)  ─────┘
//
// Lists has one lock, and under it the users who are online or watched. Alone, it counts the
// connections of each user. Among other nodes the cluster does that, and Lists is told. A change is
// posted to the loops under the lock, so all loops hear of all changes in one order.
//
// Each loop has a Desk, which the loop owns, without a lock. A desk begins to watch a user with the
// user's present state, and then gets each change. A user who has gone counts as online for a
// grace, counted from the moment at which the user went; if the user comes back before, nothing has
// changed. A Change is a walk through the watchers, in parts of any size. Watchers may come and go
// between two parts. Each of them is told once of each change that comes after the states that
// Start has returned: at once, or together with others if it was told of another change a moment
// ago. When thousands of users come at once, that saves most messages.
//
// A watched user costs a watcher about 4 bytes: 2 in the watcher's list and 2 in the user's.
// An entry for a watcher that has ended stays until half of the list is such entries, so that the
// end of a watcher takes the same time however many others there are. The caller bounds the users
// of a watchlist.
//
// The package knows no connection, no message and no Redis: a C is a connection, an A is an app,
// and it looks into neither. It reads no clock but the loops', and starts no goroutine.
//
// Files:
//
//	watchlists.go  this contract; what all loops share
//	desk.go        the watchers of one loop
//	change.go      how the watchers of a user are told
//	burst.go       changes that are told together
package watchlists

import (
	"encoding/binary"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"reverb/internal/lib/buckets"
	"reverb/internal/lib/recordlog"
)

// Loop runs a desk. Any goroutine may call its methods. It is an alias, so that one slice of loops
// serves all packages with the same methods.
type Loop = interface {
	Post(task func())                   // runs task later, in the order of the calls, or never
	After(d time.Duration, task func()) // posts task when d has passed
	Now() time.Duration                 // since a moment that is the same for all loops
}

// Peers are the other nodes. The methods are called under a lock, so they must not wait, and must
// not call Lists.
type Peers[A comparable] interface {
	// Watch asks for the state of a user. From then on Set is called for the user; ready is called
	// after the first time, or when it is known that nobody can tell.
	Watch(app A, user string, ready func())
	// Unwatch is the reverse of Watch.
	Unwatch(app A, user string)
}

// Host gets the changes of desks. The loop of the desk calls the methods that get changes.
type Host[A comparable, C any] interface {
	// Grace is how long a user who has gone still counts as online. Any goroutine may call it.
	Grace(app A) time.Duration
	// Changed hands over a change. The loop calls its Next until it is done, in the order in which
	// the changes of an app came.
	Changed(loop int, app A, c *Change[A, C])
	// Gathered hands over the users who have come and gone since a watcher was told, each of them
	// once. It must not begin or end watchers.
	Gathered(conn C, online, offline []string)
}

// forgottenAtOnce bounds the users that one task forgets. Larger: other work of a loop, and whoever
// signs in, waits longer. Smaller: more tasks.
const forgottenAtOnce = 256

// Lists is what all loops share.
type Lists[A comparable, C any] struct {
	// constant
	seed  maphash.Seed
	peers Peers[A] // nil: this is the only node
	host  Host[A, C]
	desks []*Desk[A, C]

	mu        sync.Mutex
	people    buckets.Set[person[A], *person[A]] // who are online, watched, or within their grace
	gone      []leave[*person[A]]                // who may be forgotten, and when
	forgets   bool                               // a task comes when the first of gone is due
	questions uint32                             // to the peers
}

// person is a user who is online, watched, or within the grace. Lists.mu guards the fields that are
// not constant.
type person[A comparable] struct {
	app  A      // constant
	id   string // constant
	next *person[A]
	// went is when the user was last known to be online, if that is no more so. 0: never before.
	went time.Duration
	// loops has a bit for each loop that watches the user: the number of the loop modulo 32. With
	// more than 32 loops a bit may stay although its loops have ended their watch.
	loops    uint32
	hash     uint32 // constant
	signedIn int32  // connections; counted only without peers
	watching int32  // how many loops watch the user
	asked    uint32 // the number of the last question to the peers; 0: they are not asked
	online   bool
	known    bool // online is true to what the peers know; always so without peers
	leaves   bool // in gone
}

func (p *person[A]) Hash() uint32      { return p.hash }
func (p *person[A]) Next() **person[A] { return &p.next }

// New makes the lists of these loops. peers is nil if this is the only node.
func New[A comparable, C any](loops []Loop, host Host[A, C], peers Peers[A]) *Lists[A, C] {
	l := &Lists[A, C]{seed: maphash.MakeSeed(), peers: peers, host: host}
	for i, loop := range loops {
		l.desks = append(l.desks, newDesk(l, i, loop, host))
	}
	return l
}

// Desk returns the desk of a loop.
func (l *Lists[A, C]) Desk(loop int) *Desk[A, C] { return l.desks[loop] }

// hash is the hash by which a user is found.
func (l *Lists[A, C]) hash(app A, id string) uint32 {
	return uint32(maphash.String(l.seed, id) ^ maphash.Comparable(l.seed, app))
}

// findLocked returns a user, or nil.
func (l *Lists[A, C]) findLocked(app A, id string, hash uint32) *person[A] {
	p := l.people.First(hash)
	for p != nil && (p.hash != hash || p.id != id || p.app != app) {
		p = p.next
	}
	return p
}

// needLocked returns a user, whom it adds if nobody has asked for the user before.
func (l *Lists[A, C]) needLocked(app A, id string, hash uint32) *person[A] {
	p := l.findLocked(app, id, hash)
	if p == nil {
		p = &person[A]{app: app, id: strings.Clone(id), hash: hash, known: l.peers == nil}
		l.people.Add(p)
	}
	return p
}

// releaseLocked forgets a user who is neither online nor watched, once the grace is over: until
// then a new watcher is told that the user is online.
func (l *Lists[A, C]) releaseLocked(p *person[A]) {
	if p.online || p.watching > 0 || p.leaves {
		return
	}
	if due := p.went + l.host.Grace(p.app); p.went > 0 && due > l.now() {
		p.leaves = true
		l.gone = append(l.gone, leave[*person[A]]{due, p})
		l.forgetLaterLocked()
		return
	}
	l.people.Remove(p)
}

func (l *Lists[A, C]) now() time.Duration { return l.desks[0].loop.Now() }

// forgetLaterLocked asks for a task at the time at which the first of gone is due.
func (l *Lists[A, C]) forgetLaterLocked() {
	if !l.forgets && len(l.gone) > 0 {
		l.forgets = true
		l.desks[0].loop.After(max(l.gone[0].at-l.now(), 0), l.forget)
	}
}

// forget forgets users whose grace is over; those who have left earlier come first.
func (l *Lists[A, C]) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for n := 0; n < forgottenAtOnce && len(l.gone) > 0 && l.gone[0].at <= now; n++ {
		p := l.gone[0].who
		l.gone[0] = leave[*person[A]]{}
		l.gone = l.gone[1:]
		p.leaves = false
		l.releaseLocked(p)
	}
	if len(l.gone) == 0 {
		l.gone = nil
	}
	l.forgets = false
	l.forgetLaterLocked()
}

// --- Who is online ---

// SignedIn counts one more connection of a user. Only for a node without peers.
func (l *Lists[A, C]) SignedIn(app A, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.needLocked(app, id, l.hash(app, id))
	p.signedIn++
	l.setLocked(p, true)
}

// SignedOut is the reverse of SignedIn.
func (l *Lists[A, C]) SignedOut(app A, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.findLocked(app, id, l.hash(app, id))
	if p == nil || p.signedIn == 0 {
		panic("internal error: a user signs out who was not signed in")
	}
	if p.signedIn--; p.signedIn == 0 {
		l.setLocked(p, false)
	}
}

// Set tells the state of a user, as the peers know it. It may tell the same state again. A user of
// whom the peers know nothing any more is not online.
func (l *Lists[A, C]) Set(app A, id string, online bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	hash := l.hash(app, id)
	if p := l.findLocked(app, id, hash); p != nil {
		l.setLocked(p, online)
	} else if online {
		l.setLocked(l.needLocked(app, id, hash), true)
	}
}

// setLocked notes the state of a user, and posts a change to the loops that watch the user.
func (l *Lists[A, C]) setLocked(p *person[A], online bool) {
	if p.online != online {
		if p.online = online; !online {
			p.went = l.now()
		}
		if p.known {
			l.postLocked(p)
		}
	}
	l.releaseLocked(p)
}

// postLocked posts the state of a user to the loops that watch the user.
func (l *Lists[A, C]) postLocked(p *person[A]) {
	online, went := p.online, p.went
	for i, d := range l.desks {
		if p.loops&(1<<(i%32)) != 0 {
			d.posted++
			d.loop.Post(func() { d.apply(p, online, went) })
		}
	}
}

// answered notes that the peers have told the state of a user, unless they were asked again.
func (l *Lists[A, C]) answered(p *person[A], asked uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.asked == asked && !p.known {
		p.known = true
		l.postLocked(p)
	}
}

// State has the users who have gone and still count as online, for SetState in another process,
// whose loops count time from the same moment. id is the name of an app.
func (l *Lists[A, C]) State(id func(A) string) (b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for p := range l.people.All {
		if !p.online && p.went > 0 && p.went+l.host.Grace(p.app) > now {
			b = recordlog.AppendField(recordlog.AppendField(b, id(p.app)), p.id)
			b = binary.AppendUvarint(b, uint64(p.went))
		}
	}
	return b
}

// SetState takes a State over, before anybody watches. find finds an app by its name. ok is false
// if the state makes no sense.
func (l *Lists[A, C]) SetState(b []byte, find func(id string) (A, bool)) (ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := recordlog.Fields{B: b}
	for len(f.B) > 0 {
		app, known := find(f.Text())
		user, went := f.Text(), time.Duration(f.Number())
		if !f.Bad && known && went > 0 && went <= l.now() {
			p := l.needLocked(app, user, l.hash(app, user))
			p.went = went
			l.releaseLocked(p)
		}
	}
	return !f.Bad
}

// --- Who is watched ---

// watched is a user at the moment at which a loop begins to watch the user.
type watched[A comparable] struct {
	*person[A]
	posted        uint64 // how many changes were posted to the loop before
	online, known bool   // if it is not known, the first change tells
	went          time.Duration
}

// watch begins to watch a user for a loop that does not watch the user yet.
func (l *Lists[A, C]) watch(loop int, app A, id string, hash uint32) watched[A] {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.needLocked(app, id, hash)
	p.loops |= 1 << (loop % 32)
	if p.watching++; p.watching == 1 && l.peers != nil {
		l.questions = max(l.questions+1, 1)
		asked := l.questions
		p.asked = asked
		l.peers.Watch(app, p.id, func() { l.answered(p, asked) })
	}
	return watched[A]{p, l.desks[loop].posted, p.online, p.known, p.went}
}

// unwatch is the reverse of watch.
func (l *Lists[A, C]) unwatch(loop int, p *person[A]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.desks) <= 32 {
		p.loops &^= 1 << loop
	}
	if p.watching--; p.watching > 0 {
		return
	}
	p.loops = 0
	if l.peers != nil {
		p.known, p.asked = false, 0
		l.peers.Unwatch(p.app, p.id)
	}
	l.releaseLocked(p)
}
