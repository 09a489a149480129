// Package channels knows the subscribers of every channel, and what they share: counts, the
// members of a presence channel, and the last event of a cache channel.
//
// A subscription is made in two steps. First a place is reserved: the channel counts the place for
// a loop, and is occupied as long as it has places. Then that loop attaches the subscription: it
// puts it into its list. Join does both at once. With a cluster, Reserve does the first step, and
// the loop does the second when it comes to the task:
//
//	Reserve ─▶ task in the loop's inbox ─▶ Attach ─▶ events, see Audience.Next ─▶ GiveUp
//
// The events of a channel have numbers. An event is for its audience: the subscribers whose places
// were reserved before it. When a loop comes to the event, it walks through its list, in parts of
// any size. Subscribers may come and go between two parts.
//
// A C is a connection, and the package never looks into it. An E is an event, and the event
// itself knows how it gets to a loop, see Event. The package has no clock; time is a parameter.
//
// A shard's lock guards the counts, the members and the numbers of its channels. A list belongs to
// its loop, which changes it under the lock too. A Subscription belongs to the loop of its
// connection. Any goroutine may call the methods of a Registry, except those whose comment says
// that the loop calls them. Nothing is encoded, and nothing waits, under a lock.
//
// A subscription takes 32 bytes and 24 in a list, and a channel takes 96 bytes and its name. The
// package bounds last events. The caller bounds the subscriptions of a connection.
//
// Files, in reading order:
//
//	registry.go    apps, channels and subscriptions
//	audience.go    the lists of subscribers, and the walk of an event through them
//	cluster.go     what other nodes tell
//	roster.go      the members of one channel
package channels

import (
	"bytes"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverb/internal/lib/buckets"
	"reverb/internal/lib/lastevents"
	"reverb/internal/memberlists"
	"reverb/internal/protocol"
)

const (
	// shardCount is how many locks the channels are dealt out to. Larger: 64 bytes more for each
	// lock, and 4 for each loop. Smaller: publishers wait for each other.
	shardCount = 64
	// maxLastEvents and maxLastBytes bound the last events of all cache channels. Above them the
	// app that has most of them loses its oldest one. Larger: more memory. Smaller: new members of
	// cache channels get more cache misses.
	maxLastEvents = 1 << 16
	maxLastBytes  = 64 << 20
	// lastEventLife is how long a cache channel remembers its last event, as in Pusher Channels.
	// Larger: more memory. Smaller: more cache misses.
	lastEventLife = 30 * time.Minute
)

// Event is an event of a channel. It is a pointer; nil: no event.
type Event[C any] interface {
	comparable
	// Post gives the event to every loop that has places. on has the number of places by loop, and
	// is nil if no loop has any. Each of these loops walks through its part of the audience later.
	// Post is called under a lock, which keeps the events of a channel in order. So it must not
	// wait, and must not call the registry. It must not retain on.
	Post(channel string, to Audience[C], on []int32)
	// Keep is called before Post, under the same lock and with its rules, for what Publish gives.
	// heard says that the channel has a place.
	Keep(channel string, heard bool, now time.Time)
	Payload() []byte // the message
	Size() int       // the bytes that it takes as a last event
}

// --- Apps ---

// App is the registry's state of one app.
type App[C any] struct {
	id    string
	salt  uint32 // distinguishes channels of the same name in several apps
	seed  maphash.Seed
	index func(list []Subscriber[C], id protocol.SocketID) int
	loops []appLoop[C]
	watch watcher // may be nil
}

// appLoop is the state of an app on one loop.
type appLoop[C any] struct {
	walk  walk[C] // owned by the loop
	kinds [protocol.Kinds]kindCounts
}

// kindCounts counts what happened to the channels of one kind.
type kindCounts struct{ subscribed, unsubscribed, occupied, vacated atomic.Uint64 }

// Counts counts what has happened to the channels of one kind since the start: places that were
// reserved and given up, and channels that got their first place and lost their last.
type Counts struct{ Subscribed, Unsubscribed, Occupied, Vacated uint64 }

// watcher is told what happens to the channels of an app. It is called under a lock, which keeps
// the changes of a channel in order. So it must not wait, and must not call the registry.
type watcher interface {
	// Changed tells that Join or Leave gives a channel its first place or takes its last one or,
	// with a user, that the user becomes a member of a presence channel, or is none any more: then
	// gone is set. vanished says that a connection has ended, instead of giving up its
	// subscription.
	Changed(channel, user string, gone, vanished bool)
	// Restored tells that a channel has its first place, or a user became a member, in another
	// process.
	Restored(channel, user string)
}

// NewApp makes an app without channels. watch may be nil.
func (r *Registry[C, E]) NewApp(id string, watch watcher) *App[C] {
	return &App[C]{id: id, watch: watch, salt: uint32(maphash.String(r.seed, id)), seed: r.seed,
		index: r.index, loops: make([]appLoop[C], r.loops)}
}

// tellCame tells the watch that a channel or a member has come.
func (a *App[C]) tellCame(channel, user string, restored bool) {
	switch {
	case a.watch == nil:
	case restored:
		a.watch.Restored(channel, user)
	default:
		a.watch.Changed(channel, user, false, false)
	}
}

// Counts returns what has happened to the channels of each kind, by protocol.Kind.Index, and to
// those of another process, which adds what it has counted with more. Any goroutine may call it.
// The figures are read one after the other.
func (a *App[C]) Counts(more ...[protocol.Kinds]Counts) (all [protocol.Kinds]Counts) {
	for _, v := range more {
		for k := range v {
			to := &a.loops[0].kinds[k]
			to.subscribed.Add(v[k].Subscribed)
			to.unsubscribed.Add(v[k].Unsubscribed)
			to.occupied.Add(v[k].Occupied)
			to.vacated.Add(v[k].Vacated)
		}
	}
	for l := range a.loops {
		for k := range all { // one loop may count down what another has counted up
			from, to := &a.loops[l].kinds[k], &all[k]
			to.Subscribed += from.subscribed.Load()
			to.Unsubscribed += from.unsubscribed.Load()
			to.Occupied += from.occupied.Load()
			to.Vacated += from.vacated.Load()
		}
	}
	return all
}

// Hash returns what Subscription.Hash returns for a channel of the app.
func (a *App[C]) Hash(channel []byte) uint32 {
	return uint32(maphash.Bytes(a.seed, channel)>>32) ^ a.salt
}

// --- Channels and subscriptions ---

// channel is one channel of one app. With a cluster it may have no place, see Registry. A client
// can have very many channels to itself, so each field is as small as possible.
type channel[C any] struct {
	// constant
	app     *App[C]
	name    string
	members *Members[C] // presence channels only
	hash    uint32      // see Registry.place
	kind    protocol.Kind

	// guarded by the shard's mu
	home  int16       // the loop of the first place, plus one; set once
	count int32       // places: subscriptions, and reservations
	seq   uint64      // of the last event published
	next  *channel[C] // in shard.channels

	// The subscribers, see list. While there is one place, only is the list of home and by is
	// nil. Both are set under mu; a list is owned by its loop.
	only [1]Subscriber[C]
	by   atomic.Pointer[[]loopList[C]]
}

func (ch *channel[C]) Hash() uint32       { return ch.hash }
func (ch *channel[C]) Next() **channel[C] { return &ch.next }

// counts are those of the channel's kind on a loop.
func (ch *channel[C]) counts(loop int16) *kindCounts {
	return &ch.app.loops[loop].kinds[ch.kind.Index()]
}

// Members has the members of a presence channel.
type Members[C any] struct {
	Last memberlists.Last // has a lock of its own

	ch     *channel[C]
	roster roster[*protocol.Member] // guarded by the shard's mu
}

// add counts one more connection of m's user. first says that it is the only one.
func (of *Members[C]) add(m *protocol.Member) (first bool) {
	return of.roster.Add(m.ID, m, m.ListedBytes())
}

// renew gives a user with one connection another user_info.
func (of *Members[C]) renew(m *protocol.Member) {
	old, connections := of.roster.Find(m.ID)
	if connections != 1 {
		return
	}
	if !bytes.Equal(old.Info, m.Info) || (old.Info == nil) != (m.Info == nil) {
		of.roster.Replace(m.ID, m, m.ListedBytes())
	}
}

// Subscription ties one connection to one channel.
type Subscription[C any] struct {
	ch     *channel[C]
	member *protocol.Member // signed user; nil: none
	next   *Subscription[C]
	index  int32 // in the list of the loop
	loop   int16
}

// Name returns the name of the channel.
func (s *Subscription[C]) Name() string { return s.ch.name }

// Kind returns the kind of the channel.
func (s *Subscription[C]) Kind() protocol.Kind { return s.ch.kind }

// Member returns the signed user, or nil.
func (s *Subscription[C]) Member() *protocol.Member { return s.member }

// Members returns the members of the channel: the same for all subscriptions to it. It returns nil
// if the channel is not a presence channel.
func (s *Subscription[C]) Members() *Members[C] { return s.ch.members }

// Hash is part of buckets.Item: a connection may keep its subscriptions in a buckets.Set.
func (s *Subscription[C]) Hash() uint32 { return s.ch.hash }

// Next is part of buckets.Item. The caller owns the pointer.
func (s *Subscription[C]) Next() **Subscription[C] { return &s.next }

// --- Registry ---

// Registry has all channels with places, and all last events. With a cluster it also has channels
// without places: the cluster has told of them, or they have lost their last place. Such a channel
// stays, with its members, until Drop.
type Registry[C any, E Event[C]] struct {
	loops  int
	index  func(list []Subscriber[C], id protocol.SocketID) int
	seed   maphash.Seed
	shards [shardCount]shard[C]
	Last   *lastevents.Store[E] // the last events of cache channels, by ID of the app; constant
}

// shard is a part of the registry.
type shard[C any] struct {
	mu       sync.Mutex
	channels buckets.Set[channel[C], *channel[C]]
	on       []int32 // for postLocked
}

// New makes a registry for connections of loops loops. index returns the place of the connection
// with a socket ID in a list, or -1. It looks at a whole list in one call, because a call for each
// delivery would cost 8 % of the delivery.
func New[C any, E Event[C]](loops int,
	index func([]Subscriber[C], protocol.SocketID) int) *Registry[C, E] {
	r := &Registry[C, E]{loops: loops, index: index, seed: maphash.MakeSeed(),
		Last: lastevents.New[E](maxLastEvents, maxLastBytes)}
	for i := range r.shards {
		r.shards[i].on = make([]int32, loops)
	}
	return r
}

// place returns the shard of a channel, and the hash by which the shard and connections find the
// channel.
func (r *Registry[C, E]) place(a *App[C], name string) (sh *shard[C], hash uint32) {
	h := maphash.String(r.seed, name)
	return &r.shards[h%shardCount], uint32(h>>32) ^ a.salt
}

// lock locks the shard of a channel. ch is nil if the registry does not have the channel.
func (r *Registry[C, E]) lock(a *App[C], name string) (sh *shard[C], hash uint32, ch *channel[C]) {
	sh, hash = r.place(a, name)
	sh.mu.Lock()
	for ch = sh.channels.First(hash); ch != nil; ch = ch.next {
		if ch.hash == hash && ch.app == a && ch.name == name {
			break
		}
	}
	return sh, hash, ch
}

// lockOf locks the shard of an existing channel.
func (r *Registry[C, E]) lockOf(ch *channel[C]) *shard[C] {
	sh, _ := r.place(ch.app, ch.name)
	sh.mu.Lock()
	return sh
}

// addLocked adds a new channel.
func (sh *shard[C]) addLocked(hash uint32, a *App[C], name protocol.Name) *channel[C] {
	ch := &channel[C]{app: a, name: name.String(), kind: name.Kind(), hash: hash}
	if ch.kind.Presence {
		ch.members = &Members[C]{ch: ch}
	}
	sh.channels.Add(ch)
	return ch
}

// --- Coming and going ---

// ask is told the moment of a place: the subscriber hears every event that is published after it,
// and none of before. It is called under a lock, with the rules of Event.Post.
type ask interface{ Moment(now time.Time) }

// Place is a place on a channel for a connection.
type Place[C any, E any] struct {
	// set by the caller
	App    *App[C]
	Name   protocol.Name
	Conn   C
	Loop   int              // of the connection
	Member *protocol.Member // the signed user, which presence channels need; nil: none
	Ask    ask              // what the caller wants to know of the moment; nil: nothing
	// Restored says that the connection had the place in another process: it is new to nobody, so
	// nobody is told.
	Restored bool

	// set by Reserve and Join
	Last  E // the last event of a cache channel; nil on presence channels, see Look
	ch    *channel[C]
	since uint64 // the last event that is not for the subscriber
}

// Join subscribes a connection. The loop of the connection calls it. The first connection of a user
// makes the user a member of a presence channel, and the subscribers get added. full says that the
// channel has limit members, and the user is not one of them. A limit of 0 is no limit.
func (r *Registry[C, E]) Join(p *Place[C, E], limit int, added E,
	now time.Time) (s *Subscription[C], full bool) {
	sh, hash, ch := r.lock(p.App, p.Name.String())
	defer sh.mu.Unlock()
	if ch == nil {
		ch = sh.addLocked(hash, p.App, p.Name)
	} else if ch.members != nil && !ch.members.roster.Admits(p.Member.ID, limit) {
		return nil, true
	}
	first, occupied := ch.members != nil && ch.members.add(p.Member), ch.count > 0
	if first && occupied && !p.Restored {
		r.postLocked(sh, ch, added, protocol.SocketID{})
	}
	if !occupied {
		ch.app.tellCame(ch.name, "", p.Restored)
	}
	if first {
		ch.app.tellCame(ch.name, p.Member.ID, p.Restored)
	}
	r.reserveLocked(ch, p, now)
	return attachLocked(p), false
}

// Admits says whether a presence channel has room for a user: the user is a member, or there are
// fewer members than limit. A limit of 0 is no limit.
func (r *Registry[C, E]) Admits(p *Place[C, E], limit int) bool {
	sh, _, ch := r.lock(p.App, p.Name.String())
	defer sh.mu.Unlock()
	return ch == nil || ch.members.roster.Admits(p.Member.ID, limit)
}

// Reserve counts a place on the connection's loop. The loop must call Attach for the place. post is
// called under the lock: a task that it posts to the loop comes before every event that is for the
// subscriber, and after every event that is not.
func (r *Registry[C, E]) Reserve(p *Place[C, E], now time.Time, post func()) {
	sh, hash, ch := r.lock(p.App, p.Name.String())
	defer sh.mu.Unlock()
	if ch == nil {
		ch = sh.addLocked(hash, p.App, p.Name)
	}
	r.reserveLocked(ch, p, now)
	post()
}

func (r *Registry[C, E]) reserveLocked(ch *channel[C], p *Place[C, E], now time.Time) {
	if counts := ch.counts(int16(p.Loop)); !p.Restored {
		if ch.count == 0 {
			counts.occupied.Add(1)
		}
		counts.subscribed.Add(1)
	}
	ch.reserveLocked(p.Loop, r.loops)
	if p.ch, p.since = ch, ch.seq; ch.members != nil {
		p.since = neverYet
		return
	}
	if ch.kind.Cache {
		p.Last = r.lastEvent(ch.app, ch.name, now)
	}
	if p.Ask != nil {
		p.Ask.Moment(now)
	}
}

// Attach turns a reserved place into a subscription. The loop of the connection calls it, once.
func (r *Registry[C, E]) Attach(p *Place[C, E]) *Subscription[C] {
	sh := r.lockOf(p.ch)
	defer sh.mu.Unlock()
	return attachLocked(p)
}

func attachLocked[C any, E any](p *Place[C, E]) *Subscription[C] {
	s := &Subscription[C]{ch: p.ch, member: p.Member, loop: int16(p.Loop)}
	s.index = p.ch.addLocked(p.Loop, Subscriber[C]{p.Conn, p.since, s})
	return s
}

// Listed lets a subscriber of a presence channel hear the events after since, see Look. Until then
// the subscriber hears none. Its loop calls it; only the first call counts.
func (r *Registry[C, E]) Listed(s *Subscription[C], since uint64) {
	if at := &s.ch.list(int(s.loop))[s.index].since; *at == neverYet {
		*at = since
	}
}

// Rejoin is for a member that subscribes again. renew says that the new user_info replaces the old
// one, if the user has no other connection. The loop of the connection calls it. The result is that
// of Place.Last after Join.
func (r *Registry[C, E]) Rejoin(s *Subscription[C], m *protocol.Member, renew bool,
	now time.Time) (last E) {
	ch := s.ch
	sh := r.lockOf(ch)
	defer sh.mu.Unlock()
	s.member = m
	switch {
	case ch.members != nil && renew:
		ch.members.renew(m)
	case ch.members == nil && ch.kind.Cache:
		last = r.lastEvent(ch.app, ch.name, now)
	}
	return last
}

// Leave ends a subscription that Join has made. The loop of the connection calls it; the result is
// its index. If the subscription was the last one of a user, the other subscribers get removed.
// vanished is for the watch of NewApp.
func (r *Registry[C, E]) Leave(s *Subscription[C], removed E, vanished bool) (loop int) {
	ch := s.ch
	sh := r.lockOf(ch)
	defer sh.mu.Unlock()
	ch.giveUpLocked(s)
	gone := ch.members != nil && ch.members.roster.Remove(s.member.ID)
	if ch.count == 0 {
		sh.channels.Remove(ch)
	} else if gone {
		r.postLocked(sh, ch, removed, protocol.SocketID{})
	}
	if watch := ch.app.watch; watch != nil {
		if gone {
			watch.Changed(ch.name, s.member.ID, true, vanished)
		}
		if ch.count == 0 {
			watch.Changed(ch.name, "", true, vanished)
		}
	}
	return int(s.loop)
}

// GiveUp ends a subscription with a cluster. The loop of the connection calls it. The members stay
// until Removed, and the channel until Drop.
func (r *Registry[C, E]) GiveUp(s *Subscription[C]) {
	sh := r.lockOf(s.ch)
	defer sh.mu.Unlock()
	s.ch.giveUpLocked(s)
}

func (ch *channel[C]) giveUpLocked(s *Subscription[C]) {
	ch.removeLocked(int(s.loop), s.index)
	counts := ch.counts(s.loop)
	counts.unsubscribed.Add(1)
	if ch.count == 0 {
		counts.vacated.Add(1)
	}
}

// --- Events ---

// Publish gives an event to all subscribers of a channel, except the one with the socket ID except;
// no subscriber has the zero SocketID. A cache channel remembers the event if remember is set.
// Publish returns the figures of the channel. Post is called also without subscribers, but not for
// a reserved name.
func (r *Registry[C, E]) Publish(a *App[C], name protocol.Name, e E, except protocol.SocketID,
	remember bool, now time.Time) protocol.Stats {
	if name.Kind().Reserved {
		return protocol.Stats{}
	}
	sh, _, ch := r.lock(a, name.String())
	defer sh.mu.Unlock()
	e.Keep(name.String(), ch != nil && ch.count > 0, now)
	if ch != nil {
		r.postLocked(sh, ch, e, except)
	} else {
		e.Post(name.String(), Audience[C]{}, nil)
	}
	if remember && name.Kind().Cache {
		r.rememberLocked(a, name.String(), e, now, lastEventLife)
	}
	return r.statsLocked(ch, a, name.String(), name.Kind(), now)
}

// postLocked gives e to every loop that has subscribers. Because it posts under the lock, events
// stay in the order of their numbers.
func (r *Registry[C, E]) postLocked(sh *shard[C], ch *channel[C], e E, except protocol.SocketID) {
	ch.seq++
	for loop := range sh.on {
		sh.on[loop] = ch.placesLocked(loop)
	}
	e.Post(ch.name, Audience[C]{ch, ch.seq, except}, sh.on)
}

// rememberLocked keeps the last event of a cache channel. The caller holds the shard's lock, so
// that no later event comes before.
func (r *Registry[C, E]) rememberLocked(a *App[C], name string, e E, now time.Time,
	life time.Duration) {
	r.Last.Put(a.id, name, e, e.Size(), now, now.Add(life))
}

// lastEvent returns the event that a cache channel remembers, or nil.
func (r *Registry[C, E]) lastEvent(a *App[C], name string, now time.Time) E {
	e, _ := r.Last.Get(a.id, name, now)
	return e
}

// --- How channels stand ---

// Stats returns the figures of a channel.
func (r *Registry[C, E]) Stats(a *App[C], name protocol.Name, now time.Time) protocol.Stats {
	if name.Kind().Reserved {
		return protocol.Stats{}
	}
	sh, _, ch := r.lock(a, name.String())
	defer sh.mu.Unlock()
	return r.statsLocked(ch, a, name.String(), name.Kind(), now)
}

func (r *Registry[C, E]) statsLocked(ch *channel[C], a *App[C], name string,
	kind protocol.Kind, now time.Time) protocol.Stats {
	s, none := protocol.Stats{Kind: kind}, *new(E)
	if ch != nil {
		s.Occupied, s.Subscriptions = ch.count > 0, int(ch.count)
		if ch.members != nil {
			s.Users = ch.members.roster.Len()
		}
	}
	if kind.Cache {
		if last := r.lastEvent(a, name, now); last != none {
			s.Cached = last.Payload()
		}
	}
	return s
}

// Rows gives yield the occupied channels whose names begin with prefix, of an app or, if a is nil,
// of all apps. events is how many the channel has had since it was occupied. yield is called
// without a lock, until it returns false.
func (r *Registry[C, E]) Rows(a *App[C], prefix string, now time.Time,
	yield func(app, name string, s protocol.Stats, events uint64) bool) {
	type row struct {
		app, name string
		protocol.Stats
		events uint64
	}
	for i := range r.shards {
		sh, found := &r.shards[i], []row(nil)
		sh.mu.Lock()
		for ch := range sh.channels.All {
			if (a == nil || ch.app == a) && ch.count > 0 && strings.HasPrefix(ch.name, prefix) {
				found = append(found, row{ch.app.id, ch.name,
					r.statsLocked(ch, ch.app, ch.name, ch.kind, now), ch.seq})
			}
		}
		sh.mu.Unlock()
		for _, v := range found {
			if !yield(v.app, v.name, v.Stats, v.events) {
				return
			}
		}
	}
}

// Users lists the members of a presence channel in the order in which they came. A channel that the
// registry does not have has none.
func (r *Registry[C, E]) Users(a *App[C], name protocol.Name) []*protocol.Member {
	sh, _, ch := r.lock(a, name.String())
	defer sh.mu.Unlock()
	if ch == nil || ch.members == nil {
		return nil
	}
	return ch.members.roster.List()
}

// Look is a presence channel at one moment.
type Look[E any] struct {
	Version uint64             // of the members: lists of one version are equal
	Size    int                // bytes of the list of members, approximately; at least 1
	Since   uint64             // the last event before the moment, see Listed
	Last    E                  // the last event of a cache channel, or nil
	Members []*protocol.Member // in the order in which they came, if they were asked for
}

// Look returns a presence channel as it is now, with its members if list is set. ask is told the
// moment of a subscriber for whom Listed follows; it may be nil.
func (r *Registry[C, E]) Look(of *Members[C], list bool, ask ask, now time.Time) Look[E] {
	ch := of.ch
	sh := r.lockOf(ch)
	defer sh.mu.Unlock()
	look := Look[E]{Version: of.roster.Version(), Since: ch.seq,
		Size: of.roster.Bytes() + 2*len(ch.name) + 160}
	if ch.kind.Cache {
		look.Last = r.lastEvent(ch.app, ch.name, now)
	}
	if list {
		look.Members = of.roster.List()
	}
	if ask != nil {
		ask.Moment(now)
	}
	return look
}
