// Package memberlists gives each joiner of a presence channel the list of the channel's members.
//
// The list is the answer to a subscription. It is large if there are many members, so a joiner asks
// for it only when its socket has taken everything before it. All joiners that have asked on one
// loop for the list of one channel get the same list, encoded once:
//
//	joiner ─▶ Ask ─▶ listing ─▶ room in the pool ─▶ Look, Encode ─▶ Give ─▶ socket ─▶ Drop
//
// A list shows the channel at the moment at which the joiner gets it. The joiner hears of
// everything after that moment: Look returns the list and the moment, and Give hands both on.
//
// The package bounds memory and work. All lists that joiners hold count in one pool of bytes, each
// list once, however many joiners hold it. When the pool is full, joiners wait, and their owners
// (apps) take turns. After a long list, the channel pauses. While any joiner waits, each loop
// closes the joiner that takes its list slowest, if it is slow.
//
// Each loop has a Desk. A Desk and its Claims belong to their loop; Lists, List and Last are
// shared. The package starts no goroutine and reads no clock but the loop's. It knows nothing of
// sockets, of events or of the format of a list.
//
// Files:
//
//	memberlists.go  lists, and what they may take
//	counter.go      joiners that keep a place in a send queue for their lists
package memberlists

import (
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"reverb/internal/lib/fairpool"
)

const (
	// pausePerByte is the pause after a list, for each of its bytes, before the channel's next list
	// is made. It leaves four fifths of a processor to other work. Larger: joiners wait longer.
	// Smaller: joiners take more of the processor.
	pausePerByte = 20 * time.Nanosecond
	// shortBytes is the length up to which no pause follows a list. Larger: a flood of joiners
	// costs more. Smaller: joiners of small channels wait, although their list costs no more than
	// the message that asks for it.
	shortBytes = 16 << 10
	// slowAfter is how long a joiner may take its list before its speed is judged. Larger: others
	// wait longer for a slow joiner. Smaller: a joiner with a short outage is closed.
	slowAfter = 10 * time.Second
	// slowBytes is how many bytes a second a joiner must take of its list while others wait.
	// Larger: joiners with poor lines are closed. Smaller: one joiner can keep the pool full for
	// longer.
	slowBytes = 16 << 10
	// sweepPeriod is how often a loop looks for a slow joiner while others wait, and closes one.
	// Larger: the others wait longer. Smaller: more joiners are closed than need be.
	sweepPeriod = time.Second
)

// Loop runs a desk. Any goroutine may call its methods. It is an alias, so that one slice of loops
// serves all packages with the same methods.
type Loop = interface {
	Post(task func())                   // runs task later, in the order of the calls, or never
	After(d time.Duration, task func()) // posts task when d has passed
	Now() time.Duration                 // since a moment that is the same for all loops
}

// loopOf is a Loop in real time.
type loopOf struct {
	post  func(task func())
	start time.Time
}

// LoopOf makes a Loop of what posts tasks to it. start is the same for all loops.
func LoopOf(post func(task func()), start time.Time) Loop { return loopOf{post, start} }

func (l loopOf) Post(task func())                   { l.post(task) }
func (l loopOf) After(d time.Duration, task func()) { time.AfterFunc(d, func() { l.post(task) }) }
func (l loopOf) Now() time.Duration                 { return time.Since(l.start) }

// Channel is the subject of a list. M is the caller's description of a moment. A Channel is
// comparable, and one channel is always the same value.
type Channel[M any] interface {
	// Look returns the channel as it is now. The result has Encode if encode is set.
	Look(encode bool) Look[M]
	// Last returns the data that the channel keeps for all loops.
	Last() *Last
	// Owner returns whose share of the pool the lists take; it is comparable.
	Owner() any
}

// Look is a channel at one moment.
type Look[M any] struct {
	Version uint64        // of the members: lists of one version are equal
	Size    int           // of the list in bytes, about; at least 1
	At      M             // the moment; handed to Give
	Encode  func() []byte // makes the list, and does not look at the channel again
}

// Joiner asks for a list. Its loop calls the methods.
type Joiner[M any] interface {
	// Give hands over the list and the moment that it shows. It returns the length of the form
	// of the list that the joiner takes. It does not call the desk.
	Give(l *List, at M) (bytes int)
	// Left returns how much of the list is still to be taken. open is false for a joiner that
	// is being closed.
	Left() (bytes int, open bool)
	// TooSlow closes the joiner, because it keeps others waiting.
	TooSlow()
}

// Lists is what all loops share.
type Lists[M any] struct {
	pool     *fairpool.Pool[any]
	desks    []*Desk[M]
	sweeping atomic.Bool
	encoded  atomic.Uint64
}

// New returns the lists of these loops. Together they hold at most size bytes, and one list more
// for each owner.
func New[M any](size int64, loops []Loop) *Lists[M] {
	ls := &Lists[M]{pool: fairpool.New[any](size)}
	for _, l := range loops {
		d := &Desk[M]{lists: ls, loop: l, listings: make(map[Channel[M]]*listing[M])}
		ls.desks = append(ls.desks, d)
	}
	return ls
}

// Desk returns the desk of a loop, by its place in what New was given.
func (ls *Lists[M]) Desk(i int) *Desk[M] { return ls.desks[i] }

// Used returns how many bytes of lists are held. Only tests use it, also those of the program.
func (ls *Lists[M]) Used() int64 { return ls.pool.Used() }

// Waiting returns how many listings wait for room in the pool. A listing is all joiners that have
// asked on one loop for one channel.
func (ls *Lists[M]) Waiting() int { return ls.pool.Waiting() }

// Encoded returns how many lists were made. Only tests use it, also those of the program.
func (ls *Lists[M]) Encoded() uint64 { return ls.encoded.Load() }

// sweep looks for slow joiners, on every loop, as long as any joiner waits.
func (ls *Lists[M]) sweep(l Loop) {
	if !ls.sweeping.CompareAndSwap(false, true) {
		return
	}
	l.After(sweepPeriod, func() {
		ls.sweeping.Store(false)
		if ls.Waiting() == 0 {
			return
		}
		for _, d := range ls.desks {
			d.loop.Post(d.closeSlowest)
		}
		ls.sweep(l)
	})
}

// --- Desk ---

// Desk takes the questions of the joiners of one loop.
type Desk[M any] struct {
	lists    *Lists[M]
	loop     Loop
	listings map[Channel[M]]*listing[M]
	sending  claims[M] // the claims that have a list
}

// Claim is a joiner's wish for a list, or its hold on one. The zero Claim is ready for Ask.
type Claim[M any] struct {
	joiner  Joiner[M]
	index   int         // in listing.ready or Desk.sending
	listing *listing[M] // nil: it does not wait
	list    *List       // nil: it has none

	bytes int           // length of the form that the joiner takes
	base  int           // bytes that it had taken at since; its speed counts from there
	since time.Duration // see Loop.Now
}

// claims is a list of claims; each claim knows its place.
type claims[M any] []*Claim[M]

func (s *claims[M]) add(c *Claim[M]) {
	c.index = len(*s)
	*s = append(*s, c)
}

// remove puts the last claim into the place of c. It frees memory when most of the list is unused.
func (s *claims[M]) remove(c *Claim[M]) {
	all, last := *s, len(*s)-1
	all[c.index] = all[last]
	all[c.index].index = c.index
	all[last] = nil
	if *s = all[:last]; cap(all) >= 64 && last < cap(all)/4 {
		*s = append(make(claims[M], 0, 2*last), all[:last]...)
	}
}

// listing is all joiners that have asked on one loop for one channel.
type listing[M any] struct {
	desk  *Desk[M]
	ch    Channel[M]
	ready claims[M]
	room  fairpool.Claim[any]
	roomy bool // has got room in the pool
	due   bool // serve is posted, or will be at the end of a pause or when there is room
	over  bool // it has no claims any more
}

// Ask makes c wait for a list of ch on behalf of j. A claim may ask only once.
func (d *Desk[M]) Ask(c *Claim[M], ch Channel[M], j Joiner[M]) {
	g := d.listings[ch]
	if g == nil {
		g = &listing[M]{desk: d, ch: ch}
		g.room.Ready = func() { d.loop.Post(g.serveRoomy) }
		d.listings[ch] = g
	}
	c.joiner, c.listing = j, g
	if g.ready.add(c); !g.due {
		g.due = true
		d.loop.Post(g.serve)
	}
}

// Drop ends the waiting of c, or its hold on a list. It does nothing for any other claim.
func (d *Desk[M]) Drop(c *Claim[M]) {
	switch {
	case c.listing != nil:
		c.listing.ready.remove(c)
		if len(c.listing.ready) == 0 {
			c.listing.end()
		}
		c.listing = nil
	case c.list != nil:
		d.sending.remove(c)
		c.list.release()
		c.list = nil
	}
}

// closeSlowest closes the joiner that takes its list slowest, if it is slow.
func (d *Desk[M]) closeSlowest() {
	now, slowest, least := d.loop.Now(), Joiner[M](nil), slowBytes
	for _, c := range d.sending {
		left, open := c.joiner.Left()
		age := now - c.since
		if !open || age < slowAfter {
			continue
		}
		taken := c.bytes - left
		speed := (taken - c.base) / int(age/time.Second)
		if speed >= slowBytes {
			c.base, c.since = taken, now // its speed counts anew from here
		} else if speed < least {
			slowest, least = c.joiner, speed
		}
	}
	if slowest != nil {
		slowest.TooSlow()
	}
}

func (g *listing[M]) serveRoomy() {
	g.roomy = true
	g.serve()
}

// serve gives all joiners of a listing the same list: an old one, if one is held and the members
// have not changed since, or a new one.
func (g *listing[M]) serve() {
	if g.due = false; g.over {
		return
	}
	d, now := g.desk, g.desk.loop.Now()
	list, at := g.hold(now)
	if list == nil {
		return
	}
	for _, c := range g.ready {
		c.listing, c.list, c.since = nil, list, now
		d.sending.add(c)
		c.bytes = c.joiner.Give(list, at)
	}
	g.ready = nil
	g.end()
}

// end forgets a listing without claims, and gives back the rest of its room in the pool.
func (g *listing[M]) end() {
	g.over = true
	delete(g.desk.listings, g.ch)
	g.desk.lists.pool.GiveUp(&g.room)
}

// hold returns a list of the channel at a moment, and the moment; all joiners of the listing hold
// it. If it returns nil, serve runs again later.
func (g *listing[M]) hold(now time.Duration) (list *List, at M) {
	ls, last, look := g.desk.lists, g.ch.Last(), g.ch.Look(false)
	last.mu.Lock()
	list = last.list.Value()
	if list != nil && list.version != look.Version {
		list = nil
	}
	held := list != nil && list.hold(len(g.ready))
	if !held && g.waits(last, list == nil, look.Size, now) {
		last.mu.Unlock()
		return nil, at
	}
	makes := list == nil
	if makes && look.Size > shortBytes {
		last.pause = now + time.Duration(look.Size)*pausePerByte
	}
	last.mu.Unlock()
	if held {
		return list, look.At
	}
	if makes {
		look = g.ch.Look(true)
		list = newList(ls.pool, g.ch.Owner(), look.Version, look.Encode())
		ls.encoded.Add(1)
	}
	list.take(len(g.ready), &g.room)
	if makes {
		last.set(list)
	}
	return list, look.At
}

// waits reports whether the listing has to wait before it may hold a list of about size bytes.
// makes says that the list is to be made first. The caller has locked last.
func (g *listing[M]) waits(last *Last, makes bool, size int, now time.Duration) bool {
	d := g.desk
	switch wait := last.pause - now; {
	case makes && wait > 0:
		g.due = true
		d.loop.After(wait, g.serve)
	case !g.roomy && !d.lists.pool.Take(g.ch.Owner(), int64(size), &g.room):
		g.due = true
		d.lists.sweep(d.loop)
	default:
		g.roomy = true
	}
	return g.due
}

// --- List ---

// Last is the latest list of a channel, as long as it is in memory. The channel keeps its Last. The
// zero Last has no list.
type Last struct {
	mu    sync.Mutex
	list  weak.Pointer[List]
	pause time.Duration // until then no other list is made; see Loop.Now
}

// set keeps a list, unless another loop has kept a later one.
func (last *Last) set(l *List) {
	last.mu.Lock()
	defer last.mu.Unlock()
	if old := last.list.Value(); old == nil || old.version < l.version {
		last.list = weak.Make(l)
	}
}

// List is one encoded list. Its bytes are shared and never change.
type List struct {
	// constant
	pool    *fairpool.Pool[any]
	owner   any
	version uint64
	plain   []byte

	once   sync.Once
	packed []byte

	// guarded by mu
	mu      sync.Mutex
	holders int
	bytes   int64 // the pool counts them while there are holders
}

func newList(pool *fairpool.Pool[any], owner any, version uint64, plain []byte) *List {
	return &List{pool: pool, owner: owner, version: version, plain: plain, bytes: int64(cap(plain))}
}

// Plain returns the list as Encode made it.
func (l *List) Plain() []byte { return l.plain }

// Packed returns what pack makes of the list; pack is called once. The caller holds the list, or is
// just given it.
func (l *List) Packed(pack func(plain []byte) []byte) []byte {
	l.once.Do(func() {
		l.packed = pack(l.plain)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.bytes += int64(cap(l.packed))
		l.pool.Add(l.owner, int64(cap(l.packed)))
	})
	return l.packed
}

// hold adds n holders, if the list has any.
func (l *List) hold(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holders == 0 {
		return false
	}
	l.holders += n
	return true
}

// take adds n holders. If they are the first, the list takes the bytes of room.
func (l *List) take(n int, room *fairpool.Claim[any]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holders += n; l.holders == n { // else another loop was first
		l.pool.Keep(room, l.bytes)
	}
}

// release removes one holder.
func (l *List) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holders--; l.holders == 0 {
		l.pool.Give(l.owner, l.bytes)
	}
}
