package main

// What the Pusher protocol, version 7, and its HTTP API mean. The bytes of both are in
// internal/protocol. This file knows messages, not frames, and connections only as
// something that takes messages (ws.go).
//
// Sections:
//
//	Apps            what is configured
//	Endings         how a connection ends for which protocol.Errors has a close code
//	Registry        who is subscribed to what; presence; cached events
//	Engines         when things take effect, and in which order; the engine of the only node
//	Clustered       the engine of a node among others
//	Lists           when a joiner gets its list of members, and what comes behind it
//	Client          one connection: subscribe, client events, heartbeat
//	Hub             all of it; the upgrade of a connection
//	Memory          what is done when memory is short
//	HTTP API        what its routes do
//	Figures         what an operator sees of apps and channels

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"maps"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"reverb/internal/admin"
	"reverb/internal/channels"
	"reverb/internal/config"
	"reverb/internal/httpapi"
	"reverb/internal/journal"
	"reverb/internal/lib/addresses"
	"reverb/internal/lib/buckets"
	"reverb/internal/lib/deflate"
	"reverb/internal/lib/handshake"
	"reverb/internal/lib/intern"
	"reverb/internal/lib/memory"
	"reverb/internal/lib/metrics"
	"reverb/internal/lib/origin"
	"reverb/internal/lib/outqueue"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/show"
	"reverb/internal/lib/turnstile"
	"reverb/internal/memberlists"
	"reverb/internal/operator"
	"reverb/internal/protocol"
)

const (
	maxCachedEvents = 1 << 16 // on this node
	maxCachedBytes  = 64 << 20
	cachedEventLife = 30 * time.Minute
	registryShards  = 64

	// maxUndelivered bounds what the events of one app still have to be delivered, on all
	// loops together: bytes and messageCost for each delivery, so about 100,000 small ones.
	// Above it its publishers wait; an event that alone is more is delivered all the same.
	maxUndelivered = 16 << 20
	roomPatience   = 5 * time.Second // of a request that waits; then 503

	// maxListBytes bounds the lists of members that wait for peers, all together. While they
	// are more, joiners wait for theirs.
	maxListBytes = 64 << 20
	// maxListDeflated is the longest list of members that is compressed. Compressing a longer
	// one would stop the loop for long.
	maxListDeflated = 1 << 20
)

// --- Apps ---

// settings are what is configured of an app, and what its signatures are checked with.
type settings struct {
	*config.App
	signers protocol.Signers
}

// credentials are what requests and subscriptions are verified with.
func (s *settings) credentials() protocol.Credentials {
	return protocol.Credentials{ID: s.ID, Key: s.Key, Secret: s.Secret, Signers: &s.signers}
}

// app is one application while the server runs; its settings can be replaced.
type app struct {
	id          string           // constant
	salt        uint32           // constant; see registry.place
	traces      *operator.Traces // constant; the hub's
	settings    atomic.Pointer[settings]
	gone        atomic.Bool  // configured no more
	held        atomic.Bool  // memory is short, and its connections do not read what it sends: nothing is published
	connections atomic.Int64 // open ones, subscribed or not
	perLoop     []perLoop    // each loop's own
	api         apiTraffic

	undelivered atomic.Int64        // see maxUndelivered
	turnstile   turnstile.Turnstile // of requests that publish
}

// perLoop is what an app has on one loop. Its traffic is read by everybody, the rest is
// the loop's.
type perLoop struct {
	traffic
	flow    flow     // the app's events for subscribers on this loop
	fanning *channel // whose event is on its way to them; nil: none is
	told    int      // the first of fanning's subscribers, who have been sent it
}

// newApp makes an app that has nothing yet.
func (h *hub) newApp(id string) *app {
	a := &app{id: id, traces: h.traces, salt: uint32(maphash.String(h.registry.seed, id)), perLoop: make([]perLoop, len(h.loops.all)), turnstile: turnstile.New()}
	for i := range a.perLoop {
		a.perLoop[i].flow.full = func() bool { return h.behind(a) }
	}
	return a
}

// behind says that those who publish for a should wait. While a loop has more than fits,
// those apps wait that have something to do with it; while Redis has, or memory is short,
// all do.
func (h *hub) behind(a *app) bool {
	n := a.undelivered.Load()
	return n > maxUndelivered || n > maxUndelivered/16 && h.loops.overloaded() ||
		a.held.Load() || h.loops.crowded() || h.registry.engine.behind()
}

// clusterBehind says that Redis has more of this node's events than it has taken.
func (h *hub) clusterBehind() bool { return h.registry.engine.behind() }

// traffic counts what the connections of one app on one loop have seen. Bytes are
// those of messages, without frame headers.
type traffic struct {
	connected, disconnected, received, receivedBytes, sent, sentBytes, clientEvents, limited atomic.Uint64

	kinds [protocol.Kinds]kindTraffic
}

// kindTraffic counts what happened to channels of one kind.
type kindTraffic struct{ subscribed, unsubscribed, occupied, vacated atomic.Uint64 }

// apiTraffic counts signed requests.
type apiTraffic struct{ calls, receivedBytes, sentBytes, events atomic.Uint64 }

// --- Endings ---

// pusherEndings are the endings of the rows of protocol.Errors, by Row; nil where the
// row leaves the connection open.
var pusherEndings = makePusherEndings()

func makePusherEndings() (all []*ending) {
	for _, e := range protocol.Errors() {
		var end *ending
		if e.Close != 0 {
			end = newEnding(e.Close, e.Message, e.Word)
		}
		all = append(all, end)
	}
	return all
}

var (
	messagePing = []byte(protocol.Ping)
	messagePong = []byte(protocol.Pong)
)

// --- Registry ---

// channel is one occupied channel of one app. A client can have very many to itself, so
// each field is as small as it can be.
type channel struct {
	// constant
	app     *app
	name    string
	present *presence // presence channels only; what it points to is guarded by the shard's mu
	hash    uint32    // see registry.place
	kind    protocol.Kind

	// guarded by the shard's mu
	home  int16    // the loop of the first place, plus one; set once
	count int32    // places: subscriptions, and those that are being made
	seq   uint64   // of the last event published
	next  *channel // in shard.channels

	// The members, see members. While there is one place, only is the list of home and
	// by is nil. Both are set under mu; a list is owned by its loop.
	only [1]subscriber
	by   atomic.Pointer[[]loopMembers]
}

func newChannel(a *app, name protocol.Name, hash uint32) *channel {
	ch := &channel{app: a, name: name.String(), kind: name.Kind(), hash: hash}
	if ch.kind.Presence {
		ch.present = new(presence)
	}
	return ch
}

// users is how many users are on a presence channel.
func (ch *channel) users() int {
	if ch.present == nil {
		return 0
	}
	return ch.present.Len()
}

func (ch *channel) Hash() uint32    { return ch.hash }
func (ch *channel) Next() **channel { return &ch.next }

// loopMembers are the members of a channel on one loop.
type loopMembers struct {
	count int32        // places; guarded by the shard's mu
	list  []subscriber // owned by the loop, changed under mu too
}

// members are the subscribers on a loop. Only the loop calls it, and only while it has
// places or has been given something for them.
func (ch *channel) members(loop int) []subscriber {
	if by := ch.by.Load(); by != nil {
		return (*by)[loop].list
	}
	if int(ch.home) != loop+1 || ch.only[0].client == nil {
		return nil
	}
	return ch.only[:]
}

// placesLocked is how many places are on a loop.
func (ch *channel) placesLocked(loop int) int32 {
	if by := ch.by.Load(); by != nil {
		return (*by)[loop].count
	}
	if int(ch.home) == loop+1 {
		return ch.count
	}
	return 0
}

// reserveLocked makes a place on one of so many loops.
func (ch *channel) reserveLocked(loop, loops int) {
	by := ch.by.Load()
	if by == nil && ch.home == 0 {
		ch.home = int16(loop + 1)
	}
	if by == nil && (ch.count > 0 || int(ch.home) != loop+1) {
		all := make([]loopMembers, loops)
		home := &all[ch.home-1]
		if home.count = ch.count; ch.only[0].client != nil {
			home.list = ch.only[:1:1]
		}
		by = &all
		ch.by.Store(by)
	}
	if ch.count++; by != nil {
		(*by)[loop].count++
	}
}

// addLocked fills a place on a loop and returns the index in its list. Only the loop
// calls it.
func (ch *channel) addLocked(loop int, s subscriber) (index int32) {
	by := ch.by.Load()
	if by == nil {
		ch.only[0] = s
		return 0
	}
	list := &(*by)[loop].list
	if *list = append(*list, s); len(*list) == 2 && int(ch.home) == loop+1 {
		ch.only[0] = subscriber{} // has moved, or was not there
	}
	return int32(len(*list) - 1)
}

// removeLocked gives up the place of the subscriber at index. Only the loop calls it.
func (ch *channel) removeLocked(loop int, index int32) {
	ch.count--
	by := ch.by.Load()
	if by == nil {
		ch.only[0] = subscriber{}
		return
	}
	m := &(*by)[loop]
	m.list = ch.app.perLoop[loop].remove(ch, m.list, int(index))
	m.count--
}

// remove takes the subscriber at a place off the loop's list of ch. Those who have been
// sent the event that is on its way stay before the others: the last of them takes the
// place, and the last of all takes its.
func (t *perLoop) remove(ch *channel, list []subscriber, at int) []subscriber {
	move := func(from, to int) {
		list[to] = list[from]
		list[to].sub.index = int32(to)
	}
	if t.fanning == ch && at < t.told {
		t.told--
		move(t.told, at)
		at = t.told
	}
	last := len(list) - 1
	if at < last { // else a copy of the one that was moved stands there
		move(last, at)
	}
	list[last] = subscriber{}
	return shrink(list[:last])
}

// subscription ties one client to one channel. It is owned by the client's loop.
type subscription struct {
	ch     *channel
	member *protocol.Member // signed user; nil when there is none
	next   *subscription    // of the client; see client.subscriptions
	index  int32            // in ch.members(loop)
}

func (s *subscription) Hash() uint32         { return s.ch.hash }
func (s *subscription) Next() **subscription { return &s.next }

// subscriber is the other end of a subscription. The channel's list holds it by value,
// with what a delivery looks at: a walk through the list reads memory in order.
type subscriber struct {
	client *client
	since  uint64 // events up to this one are not for it; neverYet: none is before its list of members
	sub    *subscription
}

// presence is who is on a presence channel.
type presence struct {
	channels.Roster[*protocol.Member]
	last memberlists.Last
}

// add counts one more connection of m's user; first says that it is the only one.
func (p *presence) add(m *protocol.Member) (first bool) { return p.Add(m.ID, m, m.ListedBytes()) }

// renew gives a user with one connection another user_info.
func (p *presence) renew(m *protocol.Member) {
	old, connections := p.Find(m.ID)
	if connections == 1 && (!bytes.Equal(old.Info, m.Info) || (old.Info == nil) != (m.Info == nil)) {
		p.Replace(m.ID, m, m.ListedBytes())
	}
}

// size is about what the list of the members takes, for a channel of that name.
func (p *presence) size(channel string) int { return p.Bytes() + 2*len(channel) + 160 }

// shard is a part of the registry.
type shard struct {
	mu       sync.Mutex
	channels buckets.Set[channel, *channel]
}

// findLocked returns a channel, or nil. hash is what place says.
func (sh *shard) findLocked(hash uint32, a *app, name string) *channel {
	for ch := sh.channels.First(hash); ch != nil; ch = ch.next {
		if ch.hash == hash && ch.app == a && ch.name == name {
			return ch
		}
	}
	return nil
}

// registry knows every channel that has a subscriber, and every cached event.
type registry struct {
	loops  *loops
	hub    *hub   // whose apps the topics are of
	engine engine // constant after newHub
	lists  *memberlists.Lists[moment]
	desks  []desk // by loop
	seed   maphash.Seed
	shards [registryShards]shard
	cached *channels.LastEvents[*frames] // by ID of the app
	taps   channels.Watchers[tap, admin.Message]
}

// tap names a channel that somebody watches without being subscribed.
type tap struct {
	app     *app
	channel string
}

// show shows an event to those who watch a channel.
func (r *registry) show(a *app, name string, b *broadcast, receivers int) {
	r.taps.Show(tap{a, name}, admin.Message{Event: b.payload(), At: b.at})
	if t := a.traces; t.On() {
		t.Show(t.OfChannel(a.id, name), operator.Event{What: "event", App: a.id, Channel: name,
			Receivers: receivers, Message: b.payload(), Constant: true})
	}
}

// tap shows what is sent on a channel from now on, see channels.Watchers.
func (r *registry) tap(a *app, channel string) (out <-chan admin.Message, stop func(), ok bool) {
	return r.taps.Watch(tap{a, channel})
}

func newRegistry(ls *loops) *registry {
	r := &registry{loops: ls, seed: maphash.MakeSeed(), cached: channels.NewLastEvents[*frames](maxCachedEvents, maxCachedBytes)}
	r.openDesks(maxListBytes)
	return r
}

// place says in which shard a channel is, and by which hash it is found there and by
// clients. The salt keeps apart what several apps call by the same name.
func (r *registry) place(a *app, name string) (sh *shard, hash uint32) {
	h := maphash.String(r.seed, name)
	return &r.shards[h%registryShards], uint32(h>>32) ^ a.salt
}

// broadcast is the task that gives one event to a loop's subscribers of a channel, and
// the delivery of it. One broadcast serves all loops.
type broadcast struct {
	frames
	ch     *channel
	seq    uint64
	except protocol.SocketID
	share  int64     // of its deliveries that each loop with members counts as pending
	at     time.Time // when it was asked for

	cost int64        // of what it counts for in app.undelivered
	left atomic.Int32 // loops that have it still to be delivered
}

// run puts the event behind the others of its app. Only events wait: a subscriber who
// comes meanwhile does not get earlier ones, see subscriber.since.
func (b *broadcast) run(l *loop) { l.enqueue(&b.ch.app.perLoop[l.index].flow, b) }

const weighedBytes = 2 << 10 // so many bytes of an event make its delivery count for one more

// deliver goes on with the event. Of an app one event at a time is on its way on a loop,
// so perLoop knows how far it has come.
func (b *broadcast) deliver(l *loop, share int, alone bool) (used int, done bool) {
	t, list := &b.ch.app.perLoop[l.index], b.ch.members(l.index)
	weight, from := 1+len(b.plain)/weighedBytes, t.told
	end := min(from+max(share/weight, maxTogether), len(list))
	b.send(l, list[from:end], alone)
	if used = (end - from) * weight; end < len(list) {
		t.fanning, t.told = b.ch, end
		return used, false
	}
	t.fanning, t.told = nil, 0
	l.note() // before it is off owed: claimed would dip
	b.delivered(l)
	l.measure(b.at)
	return used, true
}

// delivered takes note that one loop is done with the event, or that the loop has ended
// and does not take it: then whoever publishes calls this, so it touches only counters.
func (b *broadcast) delivered(l *loop) {
	l.backlog.Add(-int64(len(b.plain) + messageCost))
	l.owed.Add(-b.share)
	if b.left.Add(-1) == 0 {
		b.ch.app.undelivered.Add(-b.cost)
	}
}

// send gives the event to some of a loop's subscribers.
func (b *broadcast) send(l *loop, list []subscriber, alone bool) {
	var to [maxTogether]*conn
	n, total, traced := 0, uint64(0), b.ch.app.traces.On()
	seq, except, excepts := b.seq, b.except, b.except != protocol.SocketID{}
	for _, s := range list {
		if s.since >= seq || excepts && s.client.id == except {
			continue
		}
		if traced {
			s.client.show("out", "", b.payload())
		}
		to[n] = &s.client.conn
		if n++; n == len(to) {
			l.sendEach(to[:], &b.frames, alone)
			n, total = 0, total+uint64(n)
		}
	}
	l.sendEach(to[:n], &b.frames, alone)
	total += uint64(n)
	t := &b.ch.app.perLoop[l.index]
	t.sent.Add(total)
	t.sentBytes.Add(total * uint64(len(b.payload())))
}

// postLocked gives b to every loop that has subscribers. Posting under the lock is
// what keeps events in the order of their numbers.
func (r *registry) postLocked(ch *channel, b *broadcast) {
	r.show(ch.app, ch.name, b, int(ch.count))
	ch.seq++
	b.ch, b.seq, b.share = ch, ch.seq, int64(ch.count)/int64(len(r.loops.all))+1
	loops := int32(0)
	for i := range r.loops.all {
		if ch.placesLocked(i) > 0 {
			loops++
		}
	}
	b.left.Store(loops)
	b.cost = int64(ch.count) * int64(len(b.plain)+messageCost)
	if loops > 0 {
		ch.app.undelivered.Add(b.cost)
	}
	for i, l := range r.loops.all {
		if ch.placesLocked(i) > 0 {
			l.backlog.Add(int64(len(b.plain) + messageCost))
			l.owed.Add(b.share)
			if !l.post(b) {
				b.delivered(l)
			}
		}
	}
}

func newBroadcast(message []byte, except protocol.SocketID, now time.Time) *broadcast {
	b := &broadcast{except: except, at: now}
	b.plain = endFrame(append(beginFrame(len(message)), message...))
	return b
}

// newEventBroadcast is newBroadcast of what appendEvent makes.
func newEventBroadcast(name, data []byte, channel, user string, except protocol.SocketID, now time.Time) *broadcast {
	b := &broadcast{except: except, at: now}
	b.plain = endFrame(protocol.AppendEvent(beginFrame(len(data)+len(name)+len(channel)+len(user)+64), name, data, channel, user))
	return b
}

// statsLocked tells how a channel stands; ch is nil where nobody is on it.
func (r *registry) statsLocked(ch *channel, a *app, name string, kind protocol.Kind, now time.Time) protocol.Stats {
	s := protocol.Stats{Kind: kind}
	if ch != nil {
		s.Occupied, s.Subscriptions, s.Users = ch.count > 0, int(ch.count), ch.users()
	}
	if kind.Cache {
		if last := r.lastEvent(a, name, now); last != nil {
			s.Cached = last.payload()
		}
	}
	return s
}

// publish gives b to all subscribers of a channel, remembers it if it is to be
// remembered, and tells how the channel stands.
func (r *registry) publish(a *app, channel protocol.Name, b *broadcast, remember bool) protocol.Stats {
	if channel.Reserved() {
		return protocol.Stats{} // nobody can be subscribed
	}
	name, kind := channel.String(), channel.Kind()
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ch := sh.findLocked(hash, a, name)
	if ch != nil {
		r.postLocked(ch, b)
	} else {
		r.show(a, name, b, 0)
	}
	if kind.Cache && remember {
		r.rememberEvent(a, name, &b.frames, b.at, cachedEventLife)
	}
	return r.statsLocked(ch, a, name, kind, b.at)
}

// rememberEvent keeps the last event of a cache channel. The caller holds the shard's
// lock, so that it is the last.
func (r *registry) rememberEvent(a *app, name string, f *frames, now time.Time, life time.Duration) {
	r.cached.Put(a.id, name, f, len(f.plain), now, now.Add(life))
}

// lastEvent returns the event that a cache channel remembers, or nil.
func (r *registry) lastEvent(a *app, name string, now time.Time) *frames {
	f, _ := r.cached.Get(a.id, name, now)
	return f
}

// joined is what a new subscriber is told, see sendJoined. Subscribers of presence
// channels are told by what their claim gets.
type joined struct {
	cached *frames // cache channels only; nil: nothing is remembered
}

// reservation is a place on a channel for a client. It is a task too: what the
// cluster has granted is handed to the client's loop.
type reservation struct {
	client    *client
	name      protocol.Name
	member    *protocol.Member
	cancelled bool // owned by the client's loop: unsubscribed meanwhile

	ch    *channel
	since uint64
	joined
}

// reserveLocked counts a subscription and says from which event on it counts. Whoever
// calls it sees to it that attach or release follows.
func (r *registry) reserveLocked(sh *shard, v *reservation, now time.Time) {
	loop, kind := v.client.loop.index, v.name.Kind()
	ch := r.channelLocked(sh, v.client.app, v.name)
	if kind.Cache && !kind.Presence {
		v.cached = r.lastEvent(v.client.app, ch.name, now)
	}
	counted := &ch.app.perLoop[loop].kinds[kind.Index()]
	if ch.count == 0 {
		counted.occupied.Add(1)
	}
	counted.subscribed.Add(1)
	ch.reserveLocked(loop, len(r.loops.all))
	if v.ch, v.since = ch, ch.seq; kind.Presence {
		v.since = neverYet
	}
}

// channelLocked returns a channel, made if there is none.
func (r *registry) channelLocked(sh *shard, a *app, channel protocol.Name) *channel {
	name := channel.String()
	_, hash := r.place(a, name)
	ch := sh.findLocked(hash, a, name)
	if ch == nil {
		ch = newChannel(a, channel, hash)
		sh.channels.Add(ch)
	}
	return ch
}

// attachLocked makes a subscription of a reservation. Only the client's loop calls it.
func (r *registry) attachLocked(v *reservation) *subscription {
	s := &subscription{ch: v.ch, member: v.member}
	s.index = v.ch.addLocked(v.client.loop.index, subscriber{v.client, v.since, s})
	return s
}

// roomLocked says whether a presence channel, as this node knows it, takes m.
func (r *registry) roomLocked(sh *shard, a *app, name string, m *protocol.Member) bool {
	_, hash := r.place(a, name)
	ch := sh.findLocked(hash, a, name)
	return ch == nil || ch.present.Admits(m.ID, a.settings.Load().MaxMembers)
}

// run completes a subscription that the cluster has granted.
func (v *reservation) run(*loop) {
	c := v.client
	name := v.name.String()
	if c.pending(name) == v {
		c.notPending(name)
	}
	sh, _ := c.hub.registry.place(c.app, name)
	sh.mu.Lock()
	s := c.hub.registry.attachLocked(v)
	sh.mu.Unlock()
	if v.cancelled || c.state != connOpen {
		c.hub.registry.leave(c, s)
		return
	}
	c.addSubscription(s)
	c.sendJoined(s, v.joined)
}

// leave ends a subscription of c. Only c's loop calls it.
func (r *registry) leave(c *client, s *subscription) {
	c.showChannel("unsubscribed", s.ch.name)
	if s.ch.kind.Presence {
		r.desks[c.loop.index].leave(s)
	}
	r.engine.leave(c, s)
}

// giveUpLocked gives up the place of s, which is on a loop, and counts that.
func (r *registry) giveUpLocked(loop int, s *subscription) {
	ch := s.ch
	ch.removeLocked(loop, s.index)
	counted := &ch.app.perLoop[loop].kinds[ch.kind.Index()]
	counted.unsubscribed.Add(1)
	if ch.count == 0 {
		counted.vacated.Add(1)
	}
}

// shrink gives back the memory of a list that has lost most of its elements.
func shrink[T any](list []T) []T {
	if cap(list) >= 64 && len(list) < cap(list)/4 {
		return append(make([]T, 0, 2*len(list)), list...)
	}
	return list
}

// rejoin takes what a member tells who subscribes again. replace says that the user_info of
// a user with one connection takes the place of the one before.
func (r *registry) rejoin(s *subscription, m *protocol.Member, replace bool, now time.Time) (j joined) {
	ch := s.ch
	sh, _ := r.place(ch.app, ch.name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if replace && ch.kind.Presence {
		ch.present.renew(m)
	}
	s.member = m
	if ch.kind.Cache && !ch.kind.Presence {
		j.cached = r.lastEvent(ch.app, ch.name, now)
	}
	return j
}

// rejoining is the task that answers a client that has subscribed to a cache channel again,
// once this node has caught up with the cluster.
type rejoining struct {
	client *client
	sub    *subscription
	member *protocol.Member
}

func (v *rejoining) run(*loop) {
	if c := v.client; c.state == connOpen && c.find([]byte(v.sub.ch.name)) == v.sub {
		c.sendJoined(v.sub, c.hub.registry.rejoin(v.sub, v.member, false, time.Now()))
	}
}

// statsHere tells how channels stand on this node.
func (r *registry) statsHere(a *app, names []protocol.Name, now time.Time) []protocol.Stats {
	all := make([]protocol.Stats, len(names))
	for i, name := range names {
		all[i] = r.channelStats(a, name, now)
	}
	return all
}

// channelStats tells how one channel stands.
func (r *registry) channelStats(a *app, channel protocol.Name, now time.Time) protocol.Stats {
	if channel.Reserved() {
		return protocol.Stats{}
	}
	name, kind := channel.String(), channel.Kind()
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return r.statsLocked(sh.findLocked(hash, a, name), a, name, kind, now)
}

// all lists the occupied channels of an app whose name begins with prefix.
func (r *registry) all(a *app, prefix string, now time.Time) map[string]protocol.Stats {
	found := make(map[string]protocol.Stats)
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		for ch := range sh.channels.All {
			if ch.app == a && ch.count > 0 && strings.HasPrefix(ch.name, prefix) {
				found[ch.name] = r.statsLocked(ch, a, ch.name, ch.kind, now)
			}
		}
		sh.mu.Unlock()
	}
	return found
}

// rows gives yield the occupied channels of an app, or of all apps where a is nil, a shard
// at a time, until it returns false.
func (r *registry) rows(a *app, prefix string, yield func([]operator.Channel) bool) {
	for i := range r.shards {
		sh, found := &r.shards[i], []operator.Channel(nil)
		sh.mu.Lock()
		for ch := range sh.channels.All {
			if (a == nil || ch.app == a) && ch.count > 0 && strings.HasPrefix(ch.name, prefix) {
				found = append(found, operator.Channel{App: ch.app.id, Name: ch.name,
					Subscriptions: int(ch.count), Users: ch.users(), Events: ch.seq})
			}
		}
		sh.mu.Unlock()
		if len(found) > 0 && !yield(found) {
			return
		}
	}
}

// memberRows are the members of a presence channel on this node; found says whether anybody
// is on it.
func (r *registry) memberRows(a *app, name string) (all []operator.Member, found bool) {
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ch := sh.findLocked(hash, a, name)
	if ch == nil || ch.count == 0 {
		return nil, false
	}
	if ch.present != nil {
		for _, m := range ch.present.List() {
			_, connections := ch.present.Find(m.ID)
			all = append(all, operator.Member{App: a.id, User: m.ID, Connections: connections,
				Info: string(m.Info)})
		}
	}
	return all, true
}

// usersHere lists the members of a presence channel on this node. A channel that nobody is on has none.
func (r *registry) usersHere(a *app, name string) []*protocol.Member {
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if ch := sh.findLocked(hash, a, name); ch != nil && ch.present != nil {
		return ch.present.List()
	}
	return nil
}

// --- Lists of members ---
//
// The answer to a subscription to a presence channel is the list of its members. A joiner is
// a member at once, and keeps a place in its send queue for the list: a claim. When
// everything before the place is written, memberlists gives the claim a list. The joiner is
// subscribed from the moment of its list on: what is before is in it.

// endSlowList ends the connection that keeps others waiting for their lists.
var endSlowList = newEnding(1013,
	"Too slow: less than 16384 bytes a second of a list of members, and others wait for theirs",
	"slow_list")

// neverYet is the number of no event.
const neverYet = ^uint64(0)

// moment is what the subscriber gets beside a list of members.
type moment struct {
	since  uint64  // the last event that the list shows; the subscriber gets all after it
	behind *frames // the last event of a cache channel, or cache_miss; nil on another channel
}

// listed is a channel whose members are listed.
type listed struct {
	registry *registry
	ch       *channel
}

var _ memberlists.Channel[moment] = listed{}

func (v listed) Last() *memberlists.Last { return &v.ch.present.last }
func (v listed) Owner() any              { return v.ch.app }

func (v listed) Look(encode bool) memberlists.Look[moment] {
	ch, members := v.ch, []*protocol.Member(nil)
	sh, _ := v.registry.place(ch.app, ch.name)
	sh.mu.Lock()
	look := memberlists.Look[moment]{Version: ch.present.Version(), At: moment{since: ch.seq}}
	look.Size = ch.present.size(ch.name)
	if ch.kind.Cache {
		look.At.behind = v.registry.lastEvent(ch.app, ch.name, time.Now())
	}
	if encode {
		members = ch.present.List()
	}
	sh.mu.Unlock()
	if ch.kind.Cache && look.At.behind == nil {
		look.At.behind = newFrames(encodeCacheMiss(ch.name))
	}
	size := look.Size
	look.Encode = func() []byte {
		return endFrame(protocol.AppendMembers(beginFrame(size), ch.name, members))
	}
	return look
}

// desk is where the claims of one loop stand. Its loop owns it.
type desk struct {
	*memberlists.Desk[moment]
	registry *registry
	claims   map[*subscription]*claim // that have no list yet
}

// openDesks makes the desks, whose lists together hold at most size bytes.
func (r *registry) openDesks(size int64) {
	var all []memberlists.Loop
	for start, i := time.Now(), 0; i < len(r.loops.all); i++ {
		all = append(all, listLoop{r.loops.all[i], start})
	}
	r.lists, r.desks = memberlists.New[moment](size, all), nil
	for i := range all {
		r.desks = append(r.desks, desk{r.lists.Desk(i), r, make(map[*subscription]*claim)})
	}
}

// listLoop is a loop as memberlists knows it.
type listLoop struct {
	*loop
	start time.Time
}

func (l listLoop) Post(task func())                   { l.post(taskFunc(task)) }
func (l listLoop) After(d time.Duration, task func()) { time.AfterFunc(d, func() { l.Post(task) }) }
func (l listLoop) Now() time.Duration                 { return time.Since(l.start) }

// taskFunc is a task that does not need its loop.
type taskFunc func()

func (f taskFunc) run(*loop) { f() }

// claim is a subscriber's place in its send queue for a list. Its loop owns it.
type claim struct {
	memberlists.Claim[moment]
	desk   *desk
	client *client
	sub    *subscription
	place  *outqueue.Place
}

var _ memberlists.Joiner[moment] = (*claim)(nil)

// claim gives c a place for the list. A subscription that has one, and no list yet, is
// answered once.
func (d *desk) claim(c *client, s *subscription) {
	if d.claims[s] != nil {
		return
	}
	v := &claim{desk: d, client: c, sub: s}
	if v.place = c.queueSupply(v); v.place != nil {
		d.claims[s] = v
	}
}

// leave gives up the claim of a subscription that ends.
func (d *desk) leave(s *subscription) {
	if v := d.claims[s]; v != nil {
		d.Drop(&v.Claim)
		v.client.supply(v.place, nil, nil)
	}
}

// Wanted is called when the socket is ready for the list.
func (v *claim) Wanted() {
	v.desk.Ask(&v.Claim, listed{v.desk.registry, v.sub.ch}, v)
}

// Dropped is called when the place has left the queue.
func (v *claim) Dropped() {
	if v.desk.claims[v.sub] == v {
		delete(v.desk.claims, v.sub)
	}
	v.desk.Drop(&v.Claim)
}

// Give is part of memberlists.Joiner.
func (v *claim) Give(list *memberlists.List, at moment) int {
	c, f, more := v.client, &frames{plain: list.Plain()}, []byte(nil)
	delete(v.desk.claims, v.sub)
	if since := &v.sub.ch.members(c.loop.index)[v.sub.index].since; *since == neverYet {
		*since = at.since
	}
	b := f.plain
	if f.deflates(&c.conn) && len(b) <= maxListDeflated {
		b = list.Packed(func([]byte) []byte { return f.forConn(&c.conn) })
	}
	c.countSent(len(f.payload()))
	c.show("out", "", f.payload())
	if at.behind != nil {
		more = at.behind.forConn(&c.conn)
		c.countSent(len(at.behind.payload()))
		c.show("out", "", at.behind.payload())
	}
	c.supply(v.place, b, more)
	return len(b)
}

// Left is part of memberlists.Joiner.
func (v *claim) Left() (bytes int, open bool) { return v.place.Left(), v.client.state == connOpen }

// TooSlow is part of memberlists.Joiner.
func (v *claim) TooSlow() { v.client.close(endSlowList) }

// --- Cluster ---

// topicChannel finds what a topic names. ok is false where it is none of ours.
func (r *registry) topicChannel(topic string) (a *app, name protocol.Name, ok bool) {
	app, channel := cutTopic(topic)
	a = r.hub.tables.Load().known(app)
	name, err := protocol.ParseName(channel)
	return a, name, a != nil && err == nil
}

// Deliver gives an event that the cluster has put in order to the subscribers here.
func (r *registry) Deliver(topic, payload string, except uint64, remember bool) {
	if a, name, ok := r.topicChannel(topic); ok {
		r.publish(a, name, newBroadcast([]byte(payload), protocol.SocketIDOf(except), time.Now()), remember)
	}
}

// Remember keeps an event that was delivered before as the last of a cache channel.
func (r *registry) Remember(topic, payload string) {
	a, name, ok := r.topicChannel(topic)
	if !ok || !name.Kind().Cache {
		return
	}
	f, now := newFrames([]byte(payload)), time.Now()
	r.change(a, name, false, func(ch *channel) { r.rememberEvent(a, ch.name, f, now, cachedEventLife) })
}

// Added takes note of a user who has come to a presence channel, and tells the
// subscribers here.
func (r *registry) Added(topic, user, info string) {
	a, name, ok := r.topicChannel(topic)
	if !ok {
		return
	}
	m := protocol.NewMember(user, info)
	b := newBroadcast(protocol.EncodeMemberAdded(name.String(), m), protocol.SocketID{}, time.Now())
	r.change(a, name, true, func(ch *channel) {
		if ch.present == nil {
			return
		}
		if _, connections := ch.present.Find(user); connections == 0 {
			ch.present.add(m)
			r.postLocked(ch, b)
		}
	})
}

// Removed takes note of a user who has left.
func (r *registry) Removed(topic, user string) {
	a, name, ok := r.topicChannel(topic)
	if !ok {
		return
	}
	b := newBroadcast(protocol.EncodeMemberRemoved(name.String(), user), protocol.SocketID{}, time.Now())
	r.change(a, name, false, func(ch *channel) {
		if ch.present != nil && ch.present.Remove(user) {
			r.postLocked(ch, b)
		}
	})
}

// Snapshot replaces what is known of a topic. life is for how long the cached event is
// still to be kept.
func (r *registry) Snapshot(topic string, users, infos []string, cached string, life time.Duration) {
	a, name, ok := r.topicChannel(topic)
	if !ok {
		return
	}
	members := make([]*protocol.Member, len(users))
	for i, user := range users {
		members[i] = protocol.NewMember(user, infos[i])
	}
	var last *frames
	if cached != "" {
		last = newFrames([]byte(cached))
	}
	now := time.Now()
	r.change(a, name, true, func(ch *channel) {
		if ch.present != nil {
			ch.present.Clear()
			for _, m := range members {
				ch.present.add(m)
			}
		}
		if last == nil {
			r.cached.Forget(a.id, ch.name)
		} else if ch.kind.Cache {
			r.rememberEvent(a, ch.name, last, now, min(life, cachedEventLife))
		}
	})
}

// change lets do work on a channel under its shard's lock, where nothing is encoded. A
// channel that is not there is made, or left alone.
func (r *registry) change(a *app, channel protocol.Name, create bool, do func(ch *channel)) {
	name := channel.String()
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ch := sh.findLocked(hash, a, name)
	if ch == nil && create {
		ch = r.channelLocked(sh, a, channel)
	}
	if ch != nil {
		do(ch)
	}
}

// TerminateUser closes the connections of a user here.
func (r *registry) TerminateUser(app, user string) {
	if a := r.hub.tables.Load().known(app); a != nil {
		r.hub.endUser(a, user)
	}
}

// Dropped forgets a channel in which nobody is here any more. Until then the cluster
// may let in somebody else.
func (r *registry) Dropped(topic string) {
	a, parsed, ok := r.topicChannel(topic)
	if !ok {
		return
	}
	name := parsed.String()
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if ch := sh.findLocked(hash, a, name); ch != nil && ch.count == 0 {
		sh.channels.Remove(ch)
	}
	r.cached.Forget(a.id, name) // others may publish, and we will not hear it
}

func (r *registry) Overloaded() bool { return r.loops.overloaded() || r.loops.crowded() }

// Connections is how many of an app are open here.
func (r *registry) Connections(app string) int64 {
	if a := r.hub.tables.Load().known(app); a != nil {
		return a.connections.Load()
	}
	return 0
}

// --- Engines ---

// engine decides when what is asked for takes effect, and in which order. alone does it at
// once; clustered leaves the order to the cluster, and lets its answers come later. join,
// rejoin, enter and leave are called by the client's loop alone.
type engine interface {
	// join subscribes v.client. Without a subscription it is answered later, or not at
	// all because a presence channel is full.
	join(v reservation) (s *subscription, j joined, full bool)
	// rejoin takes what a member tells who subscribes again. later: it is answered later.
	rejoin(c *client, s *subscription, m *protocol.Member) (j joined, later bool)
	// leave gives up the place of a subscription of c.
	leave(c *client, s *subscription)

	// publish gives b to the subscribers of a channel and has it remembered, if remember is
	// set and the channel remembers. here tells how the channel stands. later: it is not
	// delivered yet; answers, unless nil, gets what becomes of it.
	publish(a *app, name protocol.Name, b *broadcast, remember bool, answers chan<- error) (here protocol.Stats, later bool)
	// answers makes a channel for the answers to so many events; nil: there are no answers.
	answers(most int) chan error
	// heard says whether a client event from outside the channel may be heard.
	heard(a *app, name protocol.Name) bool
	later() bool  // what was published is delivered later
	behind() bool // more has been published than was taken: publishers should wait

	// enter lets c in, or not: it is the nth connection of its app here.
	enter(c *client, n, limit int64, now uint32)
	left(a *app) // a connection that was let in has gone

	// stats tells how channels stand. here is what publish has told; nil: it was not asked.
	stats(ctx context.Context, a *app, names []protocol.Name, here []protocol.Stats, now time.Time) []protocol.Stats
	// occupied lists the occupied channels whose name begins with prefix.
	occupied(ctx context.Context, a *app, prefix string, info bool, now time.Time) map[string]protocol.Stats
	connections(ctx context.Context, a *app) int64
	users(ctx context.Context, a *app, name protocol.Name) []*protocol.Member
	terminate(ctx context.Context, a *app, user string)
}

var (
	_ engine = alone{}
	_ engine = (*clustered)(nil)
)

// newEngine is the engine of a node with these peers; nil: it is the only node.
func newEngine(r *registry, p peers) engine {
	if p == nil {
		return alone{r}
	}
	return &clustered{r, p}
}

// alone is the engine of the only node.
type alone struct{ *registry }

func (e alone) join(v reservation) (s *subscription, j joined, full bool) {
	a, name, kind, now := v.client.app, v.name.String(), v.name.Kind(), time.Now()
	sh, _ := e.place(a, name)
	var added *broadcast
	if kind.Presence {
		added = newBroadcast(protocol.EncodeMemberAdded(name, v.member), protocol.SocketID{}, now)
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if kind.Presence {
		if !e.roomLocked(sh, a, name, v.member) {
			return nil, joined{}, true
		}
		ch := e.channelLocked(sh, a, v.name)
		if ch.present.add(v.member) && ch.count > 0 {
			e.postLocked(ch, added)
		}
	}
	e.reserveLocked(sh, &v, now)
	return e.attachLocked(&v), v.joined, false
}

// rejoin takes the new user_info. A user with other connections keeps what the first of
// them gave.
func (e alone) rejoin(c *client, s *subscription, m *protocol.Member) (j joined, later bool) {
	return e.registry.rejoin(s, m, true, time.Now()), false
}

func (e alone) leave(c *client, s *subscription) {
	ch := s.ch
	sh, _ := e.place(ch.app, ch.name)
	var removed *broadcast
	if ch.kind.Presence {
		removed = newBroadcast(protocol.EncodeMemberRemoved(ch.name, s.member.ID), protocol.SocketID{}, time.Now())
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e.giveUpLocked(c.loop.index, s)
	gone := ch.kind.Presence && ch.present.Remove(s.member.ID)
	if ch.count == 0 {
		sh.channels.Remove(ch)
	} else if gone {
		e.postLocked(ch, removed)
	}
}

func (e alone) publish(a *app, name protocol.Name, b *broadcast, remember bool, _ chan<- error) (here protocol.Stats, later bool) {
	return e.registry.publish(a, name, b, remember), false
}

func (e alone) answers(int) chan error { return nil }

func (e alone) heard(a *app, name protocol.Name) bool {
	sh, hash := e.place(a, name.String())
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.findLocked(hash, a, name.String()) != nil
}

func (e alone) later() bool  { return false }
func (e alone) behind() bool { return false }

func (e alone) enter(c *client, n, limit int64, now uint32) { c.admit(now, limit == 0 || n <= limit) }
func (e alone) left(*app)                                   {}

func (e alone) stats(_ context.Context, a *app, names []protocol.Name, here []protocol.Stats, now time.Time) []protocol.Stats {
	if here == nil {
		return e.statsHere(a, names, now)
	}
	return here
}

func (e alone) occupied(_ context.Context, a *app, prefix string, _ bool, now time.Time) map[string]protocol.Stats {
	return e.all(a, prefix, now)
}

func (e alone) connections(_ context.Context, a *app) int64 { return a.connections.Load() }

func (e alone) users(_ context.Context, a *app, name protocol.Name) []*protocol.Member {
	return e.usersHere(a, name.String())
}

func (e alone) terminate(_ context.Context, a *app, user string) { e.hub.endUser(a, user) }

// --- Clustered ---

// clustered is the engine of a node among others. What it cannot ask of them it answers
// from what this node knows.
type clustered struct {
	*registry
	peers peers
}

// peers are what connects this node to the others, see cluster.Node. A topic is a channel of an app,
// see topicName. ready is called when a new member is to hear of everything from now
// on, done when an event has been accepted; both by one goroutine, which also calls
// the methods of registry that change what all nodes share, in one order.
type peers interface {
	Join(topic, user, info string, cache bool, ready func())
	Leave(topic, user string)
	CatchUp(topic string, ready func()) // ready is called behind what was accepted before
	Publish(topic, payload string, except uint64, remember bool, done func(error))
	TerminateAll(app, user string, done func(error))
	SetCount(app string)
	Count(app string, own int64, done func(total int64, err error))
	Stats(ctx context.Context, topics []string) (subscriptions, users []int, cached []string, err error)
	OccupiedTopics(ctx context.Context) ([]string, error)
	Members(ctx context.Context, topic string) ([]string, error)
	Behind() bool // more has been published than Redis has taken: publishers should wait
}

// topicName names a channel of an app to the cluster. A channel's name has no colon.
func topicName(a *app, channel string) string { return a.id + ":" + channel }

// cutTopic is the reverse of topicName.
func cutTopic(topic string) (app, channel string) {
	i := strings.LastIndexByte(topic, ':')
	return topic[:max(i, 0)], topic[i+1:]
}

// join asks the cluster to let a client in. Once it has, the reservation is handed to the
// client's loop, behind everything that the client shall not hear and before everything it
// shall. A node knows the members of a topic while it has a subscriber to it.
func (e *clustered) join(v reservation) (s *subscription, j joined, full bool) {
	c, name, user, info := v.client, v.name.String(), "", ""
	sh, _ := e.place(c.app, name)
	if v.name.Kind().Presence {
		sh.mu.Lock()
		room := e.roomLocked(sh, c.app, name, v.member)
		sh.mu.Unlock()
		if !room {
			return nil, joined{}, true
		}
		user, info = v.member.ID, string(v.member.Info)
	}
	c.cancelPending(name) // as another user, perhaps
	c.addPending(&v)
	e.peers.Join(topicName(c.app, name), user, info, v.name.Kind().Cache, func() {
		sh.mu.Lock()
		e.reserveLocked(sh, &v, time.Now())
		c.loop.post(&v)
		sh.mu.Unlock()
	})
	return nil, joined{}, false
}

func (e *clustered) rejoin(c *client, s *subscription, m *protocol.Member) (j joined, later bool) {
	if !s.ch.kind.Cache {
		return e.registry.rejoin(s, m, false, time.Now()), false
	}
	v := &rejoining{c, s, m}
	e.peers.CatchUp(topicName(c.app, s.ch.name), func() { c.loop.post(v) })
	return joined{}, true
}

// leave keeps the channel, also without a subscriber, see Dropped.
func (e *clustered) leave(c *client, s *subscription) {
	ch, user := s.ch, ""
	if ch.kind.Presence {
		user = s.member.ID
	}
	sh, _ := e.place(ch.app, ch.name)
	sh.mu.Lock()
	e.giveUpLocked(c.loop.index, s)
	sh.mu.Unlock()
	e.peers.Leave(topicName(ch.app, ch.name), user)
}

func (e *clustered) publish(a *app, name protocol.Name, b *broadcast, remember bool, answers chan<- error) (here protocol.Stats, later bool) {
	if name.Reserved() {
		return e.registry.publish(a, name, b, remember), false
	}
	var done func(error)
	if answers != nil {
		done = func(err error) { answers <- err }
	}
	e.peers.Publish(topicName(a, name.String()), string(b.payload()), b.except.Number(), remember && name.Kind().Cache, done)
	return protocol.Stats{}, true
}

func (e *clustered) answers(most int) chan error { return make(chan error, most) }

func (e *clustered) heard(*app, protocol.Name) bool { return true }

func (e *clustered) later() bool  { return true }
func (e *clustered) behind() bool { return e.peers.Behind() }

func (e *clustered) enter(c *client, n, limit int64, now uint32) {
	if limit == 0 {
		e.peers.SetCount(c.app.id)
		c.admit(now, true)
		return
	}
	e.peers.Count(c.app.id, n, func(total int64, err error) {
		if err != nil {
			total = n // the others cannot be asked
		}
		c.loop.post(taskFunc(func() {
			if c.state == connOpen {
				c.admit(c.loop.now, total <= limit)
			}
		}))
	})
}

func (e *clustered) left(a *app) { e.peers.SetCount(a.id) }

func (e *clustered) stats(ctx context.Context, a *app, names []protocol.Name, _ []protocol.Stats, now time.Time) []protocol.Stats {
	all, topics := e.statsHere(a, names, now), make([]string, len(names))
	for i, name := range names {
		topics[i] = topicName(a, name.String())
	}
	subscriptions, users, cached, err := e.peers.Stats(ctx, topics)
	if err != nil {
		return all
	}
	for i := range all {
		if subscriptions[i] < 0 {
			continue // what is known here
		}
		all[i] = protocol.Stats{Kind: names[i].Kind(), Subscriptions: subscriptions[i], Users: users[i], Occupied: subscriptions[i] > 0}
		if all[i].Kind.Cache && cached[i] != "" {
			all[i].Cached = []byte(cached[i])
		}
	}
	return all
}

func (e *clustered) occupied(ctx context.Context, a *app, prefix string, info bool, now time.Time) map[string]protocol.Stats {
	topics, err := e.peers.OccupiedTopics(ctx)
	if err != nil {
		return e.all(a, prefix, now)
	}
	var names []protocol.Name
	for _, topic := range topics {
		app, channel := cutTopic(topic)
		if app != a.id || !strings.HasPrefix(channel, prefix) {
			continue
		}
		if name, err := protocol.ParseName(channel); err == nil {
			names = append(names, name)
		}
	}
	found := make(map[string]protocol.Stats, len(names))
	all := make([]protocol.Stats, len(names))
	if info {
		all = e.stats(ctx, a, names, nil, now)
	}
	for i, name := range names {
		if !info {
			all[i] = protocol.Stats{Kind: name.Kind(), Occupied: true}
		}
		if all[i].Occupied { // between the two questions it may have emptied
			found[name.String()] = all[i]
		}
	}
	return found
}

func (e *clustered) connections(ctx context.Context, a *app) int64 {
	n := a.connections.Load()
	total := make(chan int64, 1)
	e.peers.Count(a.id, n, func(all int64, err error) {
		if err != nil {
			all = n
		}
		total <- all
	})
	select {
	case n = <-total:
	case <-ctx.Done():
	}
	return n
}

func (e *clustered) users(ctx context.Context, a *app, name protocol.Name) []*protocol.Member {
	ids, err := e.peers.Members(ctx, topicName(a, name.String()))
	if err != nil {
		return e.usersHere(a, name.String())
	}
	members := make([]*protocol.Member, len(ids))
	for i, id := range ids {
		members[i] = &protocol.Member{ID: id}
	}
	return members
}

// terminate tells all nodes, this one included. Without Redis it is this one alone.
func (e *clustered) terminate(ctx context.Context, a *app, user string) {
	done := make(chan struct{})
	e.peers.TerminateAll(a.id, user, func(error) { close(done) })
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// --- Client ---

// client is one connection of one app.
type client struct {
	conn

	// constant after the handshake
	hub *hub
	app *app // nil where no app has the key; the connection is refused then
	id  protocol.SocketID

	// owned by the loop
	subscriptions *subscription // the latest first; nil when extra.many has them
	extra         *clientExtra  // nil while there is none
	pingTick      uint32
	control       bool // the client uses control frames: it is pinged with one
	pinged        bool // a ping was sent at pingTick, and is not answered
	counted       bool // in app.connections
	admitted      bool // connection_established was sent
}

// clientExtra is what few clients have. It keeps all others small.
type clientExtra struct {
	// constant after the handshake
	refuse *protocol.Error // sent as soon as the connection is open, which ends it
	remote *[16]byte       // IPv6 or mapped IPv4; nil where the socket tells it and nothing limits it

	// owned by the loop
	many     *subscriptionSet        // made when there are many
	pending  map[string]*reservation // asked of the cluster; nil when there are none
	limitEnd uint32                  // tick at which the rate limit's window ends
	attempts int32                   // in this window
	entered  bool                    // counted in hub.addresses
}

// needExtra returns c.extra, which it makes where there is none.
func (c *client) needExtra() *clientExtra {
	if c.extra == nil {
		c.extra = new(clientExtra)
	}
	return c.extra
}

// setRemote keeps the client's address, host or host:port, which the socket of a client behind
// a proxy does not tell. Without a proxy nothing is kept: it would be 64 bytes of a connection.
func (c *client) setRemote(remote string) {
	addr, err := netip.ParseAddr(remote)
	if err != nil {
		ap, err := netip.ParseAddrPort(remote)
		if err != nil {
			return
		}
		addr = ap.Addr()
	}
	b := addr.As16()
	c.needExtra().remote = &b
}

// about is what the log tells of c. Only the loop calls it.
func (c *client) about() journal.About {
	return journal.About{App: c.app.id, Socket: c.id.String(), Remote: c.address()}
}

// address is the client's address, for the log. Only the loop calls it.
func (c *client) address() string {
	if c.extra != nil && c.extra.remote != nil {
		return netip.AddrFrom16(*c.extra.remote).Unmap().String()
	}
	return c.remoteAddr()
}

// --- Client: its subscriptions ---

// subscriptionSet finds subscriptions by the hash of their channels.
type subscriptionSet = buckets.Set[subscription, *subscription]

// many is where the subscriptions are when there are many, else nil.
func (c *client) many() *subscriptionSet {
	if c.extra == nil {
		return nil
	}
	return c.extra.many
}

// all calls yield for every subscription until it returns false.
func (c *client) all(yield func(*subscription) bool) {
	if many := c.many(); many != nil {
		many.All(yield)
		return
	}
	for s := c.subscriptions; s != nil; s = s.next {
		if !yield(s) {
			return
		}
	}
}

// pending returns the reservation for a channel that the cluster has not granted yet.
func (c *client) pending(channel string) *reservation {
	if c.extra == nil {
		return nil
	}
	return c.extra.pending[channel]
}

func (c *client) addPending(v *reservation) {
	r := c.needExtra()
	if r.pending == nil {
		r.pending = make(map[string]*reservation)
	}
	r.pending[v.name.String()] = v
}

func (c *client) notPending(channel string) {
	r := c.extra
	if delete(r.pending, channel); len(r.pending) > 0 {
		return
	}
	if r.pending = nil; r.many == nil && r.refuse == nil && r.remote == nil && r.attempts == 0 {
		c.extra = nil
	}
}

// manySubscriptions is from where on they are found by hash.
const manySubscriptions = 16

func (c *client) find(name []byte) *subscription {
	s, many := c.subscriptions, c.many()
	if many != nil {
		s = many.First(uint32(maphash.Bytes(c.hub.registry.seed, name)>>32) ^ c.app.salt)
	}
	for s != nil && s.ch.name != string(name) {
		s = s.next
	}
	return s
}

// countSubscriptions includes what has been asked of the cluster.
func (c *client) countSubscriptions() (n int) {
	if c.extra != nil {
		n = len(c.extra.pending)
	}
	if many := c.many(); many != nil {
		return n + many.Len()
	}
	for s := c.subscriptions; s != nil; s = s.next {
		n++
	}
	return n
}

func (c *client) addSubscription(s *subscription) {
	c.showChannel("subscribed", s.ch.name)
	if many := c.many(); many != nil {
		many.Add(s)
		return
	}
	if s.next, c.subscriptions = c.subscriptions, s; c.countSubscriptions() <= manySubscriptions {
		return
	}
	many := new(subscriptionSet)
	for s := c.subscriptions; s != nil; {
		next := s.next
		many.Add(s)
		s = next
	}
	c.subscriptions, c.needExtra().many = nil, many
}

// removeSubscription takes the same time however many there are.
func (c *client) removeSubscription(s *subscription) {
	c.hub.registry.leave(c, s)
	if many := c.many(); many != nil {
		many.Remove(s)
		return
	}
	at := &c.subscriptions
	for *at != s {
		at = &(*at).next
	}
	*at, s.next = s.next, nil
}

// --- Client: what is sent to it ---

// traffic is where c is counted; nil when there is no app.
func (c *client) traffic() *traffic {
	if c.app == nil {
		return nil
	}
	return &c.app.perLoop[c.loop.index].traffic
}

// holdBack is called when c has given its app something to deliver. While that is too much,
// nothing more is read of c. A client that only listens is never held back.
func (c *client) holdBack() {
	if c.hub.behind(c.app) {
		c.loop.holder = &c.app.perLoop[c.loop.index].flow
	}
}

// sendText queues a text message and counts it.
func (c *client) sendText(message []byte) {
	c.countSent(len(message))
	c.conn.sendText(message)
	c.show("out", "", message)
}

// sendShared is sendText for a message that others get too.
func (c *client) sendShared(f *frames) {
	c.countSent(len(f.payload()))
	c.sendFrames(f)
	c.show("out", "", f.payload())
}

// show tells the operators who trace c of something.
func (c *client) show(what, note string, message []byte) {
	if c.traced != 0 {
		c.hub.traces.Show(operator.Marks(c.traced), operator.Event{What: what, App: c.app.id,
			Socket: c.id.String(), Note: note, Message: message})
	}
}

// showChannel tells the operators who trace a channel that c has come or gone.
func (c *client) showChannel(what, channel string) {
	if t := c.hub.traces; t.On() {
		t.Show(t.OfChannel(c.app.id, channel), operator.Event{What: what, App: c.app.id,
			Socket: c.id.String(), Channel: channel})
	}
}

// noteTraces looks which operators trace c: it has come, or has got a user.
func (c *client) noteTraces() {
	if c.hub.traces.On() {
		c.traced |= uint8(c.hub.program.Marks(c))
	}
}

// countSent counts a text message of n bytes.
func (c *client) countSent(n int) {
	if t := c.traffic(); t != nil && c.state == connOpen {
		t.sent.Add(1)
		t.sentBytes.Add(uint64(n))
	}
}

// sendError sends pusher:error. Where e has a close code, the connection ends: the error goes
// out before the close frame.
func (c *client) sendError(e *protocol.Error) {
	c.sendText(protocol.EncodeError(e))
	c.hub.trace("Message Sent", c, e.Message)
	if end := pusherEndings[e.Row]; end != nil {
		c.close(end)
	} else {
		c.hub.refused.Of(e.Word).Add(1)
	}
}

// --- Client: letting it in ---

// handleOpen decides whether the client may stay.
func (c *client) handleOpen(now uint32) {
	switch {
	case c.extra != nil && c.extra.refuse != nil:
		c.sendError(c.extra.refuse)
		return
	case c.app.gone.Load(): // between the handshake and now
		c.sendError(protocol.ErrUnknownApp)
		return
	case !c.enterAddress():
		c.sendError(protocol.ErrAddressLimit)
		return
	}
	c.counted = true
	if c.hub.journal.Detailed() {
		c.hub.journal.Connected(c.about(), c.hub.libraries.Text(c.library))
	}
	if c.noteTraces(); c.traced != 0 {
		c.show("connected", c.hub.libraries.Text(c.library), nil)
	}
	n, limit := c.app.connections.Add(1), int64(c.app.settings.Load().MaxConnections)
	c.hub.registry.engine.enter(c, n, limit, now)
}

// enterAddress counts c among the connections of its address, if these are limited. It returns
// false where c is one too many.
func (c *client) enterAddress() bool {
	limit := c.hub.tables.Load().maxPerAddress
	if c.extra == nil || c.extra.remote == nil || limit == 0 {
		return true
	}
	a, _ := addresses.Of(c.address())
	if c.extra.entered = c.hub.addresses.Enter(a, limit); c.extra.entered {
		return true
	}
	c.hub.refuse(protocol.ErrAddressLimit, journal.About{App: c.app.id, Socket: c.id.String(), Remote: a.String()},
		fmt.Sprintf("the address has %d connections; "+
			"REVERB_MAX_CONNECTIONS_PER_ADDRESS allows no more", limit))
	return false
}

// admit sends connection_established, or that the app has too many connections.
func (c *client) admit(now uint32, ok bool) {
	if !ok {
		c.hub.refuse(protocol.ErrOverQuota, c.about(),
			fmt.Sprintf("the app has %d connections", c.app.settings.Load().MaxConnections))
		c.sendError(protocol.ErrOverQuota)
		return
	}
	c.admitted = true
	c.traffic().connected.Add(1)
	c.sendEstablished()
	c.hub.trace("Connection Established", c, "")
	c.setDeadline(now + seconds(c.app.settings.Load().PingInterval))
}

func (c *client) sendEstablished() {
	c.sendText(protocol.EncodeEstablished(c.id, seconds(c.app.settings.Load().ActivityTimeout)))
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

// --- Client: its messages ---

// handleMessage handles what the client has sent. An event that is neither the protocol's nor
// a client event is ignored, as by Reverb.
func (c *client) handleMessage(op opcode, message []byte) {
	if t := c.traffic(); t != nil {
		t.received.Add(1)
		t.receivedBytes.Add(uint64(len(message)))
	}
	e, err := protocol.Event{}, error(nil)
	if op == opBinary && !utf8.Valid(message) {
		err = errors.New("binary message is not UTF-8")
	} else {
		e, err = protocol.ParseEvent(message)
	}
	heartbeat := err == nil && (string(e.Name) == "pusher:ping" || string(e.Name) == "pusher:pong")
	if !heartbeat && c.limited() {
		return
	}
	c.hub.traceMessage("Message Received", c, message)
	c.show("in", "", message)
	switch {
	case err != nil:
		c.sendError(protocol.ErrFormat)
	case bytes.HasPrefix(e.Name, []byte("pusher:")):
		c.handleEvent(e)
	case bytes.HasPrefix(e.Name, []byte("client-")) && e.Named:
		c.handleClientEvent(e)
	case !e.Named:
		c.sendError(protocol.ErrFormat)
	}
}

// limited counts a message against the rate limit, in a window that begins with the first
// message (Laravel: Illuminate\Cache\RateLimiter). It returns true where the message was one
// too many; the client is told.
func (c *client) limited() bool {
	limit := &c.app.settings.Load().RateLimit
	if !limit.Enabled {
		return false
	}
	r := c.needExtra()
	if now := c.loop.now; int32(now-r.limitEnd) >= 0 || r.attempts == 0 {
		r.limitEnd, r.attempts = now+seconds(limit.Decay), 0
	}
	if int(r.attempts) < limit.MaxAttempts {
		r.attempts++
		return false
	}
	c.traffic().limited.Add(1)
	if limit.Terminate {
		c.sendError(protocol.ErrRateLimitEnd)
	} else {
		c.sendError(protocol.ErrRateLimit)
	}
	return true
}

// handleEvent handles an event whose name begins with pusher:.
//
// The data of a heartbeat is never looked at. Libraries send nothing, "", null, lists and
// objects, and a client that gets an error for its ping may reconnect for ever. Data that PHP
// calls empty names no channel, so a subscription with it is refused, as by Reverb.
func (c *client) handleEvent(e protocol.Event) {
	switch string(e.Name) {
	case "pusher:subscribe":
		if d, ok := protocol.ParseSubscription(e.Data); ok {
			c.subscribe(d)
			return
		}
		c.sendError(protocol.ErrFormat)
	case "pusher:unsubscribe":
		d, ok := protocol.ParseSubscription(e.Data)
		if !ok {
			c.sendError(protocol.ErrFormat)
		} else if s := c.find([]byte(d.Channel)); s != nil {
			presence := s.ch.kind.Presence
			if c.removeSubscription(s); presence {
				c.holdBack()
			}
		} else {
			c.cancelPending(d.Channel)
		}
	case "pusher:ping":
		c.sendText(messagePong)
	case "pusher:pong":
	case "pusher:connection_established":
		c.sendEstablished() // Reverb: src/Protocols/Pusher/EventHandler.php
	default:
		c.sendError(protocol.ErrFormat)
	}
}

// --- Client: subscribing ---

// subscribe handles pusher:subscribe.
func (c *client) subscribe(d protocol.Subscription) {
	settings, registry := c.app.settings.Load(), c.hub.registry
	keys := settings.credentials()
	name, m, bad, reason := d.Judge(&keys, c.id, settings.MaxMemberSize)
	if bad != nil {
		c.refuseSubscription(d.Channel, bad, reason)
		return
	}
	kind := name.Kind()
	s := c.find([]byte(d.Channel))
	if s != nil && kind.Presence && s.member.ID != m.ID {
		c.removeSubscription(s)
		s = nil
	}
	var j joined
	switch {
	case s != nil:
		again, later := registry.engine.rejoin(c, s, m)
		if later {
			return
		}
		j = again
	case c.pending(d.Channel) != nil && !kind.Presence:
		return // asked for already; it is answered once
	case c.countSubscriptions() >= settings.MaxSubscriptions:
		c.refuseSubscription(d.Channel, protocol.ErrSubscriptions,
			fmt.Sprintf("a connection can hold %d", settings.MaxSubscriptions))
		return
	case c.hub.short.Load():
		c.refuseSubscription(d.Channel, protocol.ErrMemory, "")
		return
	default:
		full := false
		if s, j, full = registry.engine.join(reservation{client: c, name: name, member: m}); full {
			c.refuseMember(d.Channel)
			return
		}
		if s == nil {
			return // it is answered later
		}
		c.addSubscription(s)
	}
	if kind.Presence {
		c.holdBack()
	}
	c.sendJoined(s, j)
}

// refuseMember refuses a subscription to a presence channel that is full.
func (c *client) refuseMember(channel string) {
	c.refuseSubscription(channel, protocol.ErrMembers,
		fmt.Sprintf("a presence channel of this app can have %d", c.app.settings.Load().MaxMembers))
}

// cancelPending gives up a subscription that the cluster has not granted yet.
func (c *client) cancelPending(channel string) {
	if v := c.pending(channel); v != nil {
		v.cancelled = true
		c.notPending(channel)
	}
}

// refuseSubscription tells of a failed subscription in three places: pusher:error, with
// Reverb's text where Reverb has one; pusher:subscription_error, for which .error() of Laravel
// Echo waits, with the reason; and the log. An e without a Kind is told in pusher:error alone.
func (c *client) refuseSubscription(channel string, e *protocol.Error, reason string) {
	if e.Kind == "" {
		c.sendError(e)
		return
	}
	why, told := e, e
	if reason != "" {
		why = e.Because(reason)
		if told = why; e.Reverb {
			told = e
		}
	}
	about := c.about()
	about.Channel, about.Code = channel, e.Code
	c.hub.journal.Refused(e.Word, about, why.Message)
	c.sendError(told)
	c.sendText(protocol.EncodeSubscriptionError(channel, e.Kind, why.Message, e.Status))
}

// sendJoined answers a subscription. On a presence channel a claim does.
func (c *client) sendJoined(s *subscription, j joined) {
	ch := s.ch
	if ch.kind.Presence {
		c.noteTraces()
		c.hub.registry.desks[c.loop.index].claim(c, s)
		return
	}
	c.sendText(protocol.EncodeEvent("pusher_internal:subscription_succeeded", []byte("{}"), ch.name))
	switch {
	case j.cached != nil:
		c.sendShared(j.cached)
	case ch.kind.Cache:
		c.sendText(encodeCacheMiss(ch.name))
	}
}

func encodeCacheMiss(channel string) []byte {
	return protocol.EncodeEvent("pusher:cache_miss", []byte("{}"), channel)
}

// --- Client: client events ---

// clientEventFault says why e may not be relayed on the channel of s, nil where the client is
// not subscribed to the channel. It returns nil for an event that may be.
func (c *client) clientEventFault(e protocol.Event, s *subscription) *protocol.Error {
	switch policy := c.app.settings.Load().ClientEvents; {
	case policy == config.FromNone:
		return protocol.ErrNoClientEvent
	case policy != config.FromAll && s == nil:
		return protocol.ErrNotMember
	case policy == config.FromPrivate && !s.ch.kind.Signed():
		return protocol.ErrNoClientEvent
	case c.app.held.Load():
		c.hub.journal.Refused(protocol.ErrMemory.Word, c.about(), "a client event")
		return protocol.ErrMemory
	case len(e.Name) > protocol.MaxNameBytes:
		return protocol.ErrEventName.Because(
			fmt.Sprintf("it has %d bytes, %d are allowed", len(e.Name), protocol.MaxNameBytes))
	}
	return nil
}

// handleClientEvent relays a client-… event.
func (c *client) handleClientEvent(e protocol.Event) {
	s := c.find(e.Channel)
	if bad := c.clientEventFault(e, s); bad != nil {
		c.sendError(bad)
		return
	}
	channel, user := "", ""
	if s == nil {
		channel = string(e.Channel)
	} else if channel = s.ch.name; s.member != nil {
		user = s.member.ID
	}
	name, err := protocol.ParseName(channel)
	if s == nil && !c.hub.registry.engine.heard(c.app, name) {
		return
	}
	c.traffic().clientEvents.Add(1)
	defer c.holdBack()
	if err != nil {
		return // nobody can be subscribed
	}
	data := e.Data
	if data == nil {
		data = []byte("null")
	}
	b := newEventBroadcast(e.Name, data, channel, user, c.id, time.Now())
	c.hub.registry.engine.publish(c.app, name, b, false, nil)
	if c.hub.journal.Detailed() {
		about := c.about()
		about.Channel = channel
		c.hub.journal.Published(about, e.Name, len(b.payload()), -1)
	}
}

// --- Client: silence and the end ---

// handleControl notes that the client uses control frames. Some clients that do never answer
// pusher:ping.
func (c *client) handleControl(op opcode) { c.control = true }

// handleDeadline is the heartbeat. After ping_interval of silence the client is pinged; after
// activity_timeout more its connection ends.
func (c *client) handleDeadline(now uint32) {
	set := c.app.settings.Load()
	interval, timeout := seconds(set.PingInterval), seconds(set.ActivityTimeout)
	if c.pinged && now-c.pingTick >= timeout {
		// After a pause of the whole process the answer may be waiting.
		if c.loop.read(&c.conn); c.state != connOpen {
			return
		}
	}
	if c.pinged && int32(c.seen-c.pingTick) >= 0 {
		c.pinged = false
	}
	switch {
	case c.pinged && now-c.pingTick >= timeout:
		c.hub.trace("Connection Pruned", c, "")
		c.sendError(protocol.ErrNoPong)
	case c.pinged:
		c.setDeadline(c.pingTick + timeout)
	case now-c.seen < interval:
		c.setDeadline(c.seen + interval)
	default:
		c.pinged, c.pingTick = true, now
		if c.control {
			c.sendPing()
		} else {
			c.sendText(messagePing)
		}
		c.hub.trace("Connection Pinged", c, "")
		// The answer may come long before the time is up.
		c.setDeadline(now + min(timeout, interval))
	}
}

func (c *client) handleDrain() { c.sendError(protocol.ErrRestart) }

// handleClosed takes the client out of everything that knows it.
func (c *client) handleClosed(e *ending) {
	for s := range c.all {
		c.hub.registry.leave(c, s)
	}
	c.subscriptions = nil
	if c.extra != nil {
		c.extra.many = nil
		if c.extra.entered {
			a, _ := addresses.Of(c.address())
			c.hub.addresses.Leave(a)
			c.extra.entered = false
		}
	}
	if c.counted {
		c.app.connections.Add(-1)
		c.hub.registry.engine.left(c.app)
		if c.admitted {
			c.traffic().disconnected.Add(1)
		}
	}
	if c.counted && c.hub.journal.Detailed() {
		about := c.about()
		about.Code = int(e.code)
		in, out := c.bytes()
		age := time.Duration(c.loop.now-c.since) * time.Second
		c.hub.journal.Disconnected(about, e.word, age, in, out)
	}
	c.show("ended", e.word, nil)
	c.hub.libraries.Drop(c.library)
	c.library = 0
	c.hub.closed.Of(e.word).Add(1)
	c.hub.traceEnding(c, e)
}

// openClients are the clients of a loop whose connections are open. Only the loop calls it.
func openClients(l *loop) iter.Seq[*client] {
	return func(yield func(*client) bool) {
		l.some(0, math.MaxInt, func(c *conn) bool {
			k, ok := c.handler.(*client)
			return !ok || yield(k)
		})
	}
}

// endClients sends e, which ends the connection, to the clients of a that it concerns. The
// loops call concerns.
func (h *hub) endClients(a *app, e *protocol.Error, concerns func(*client) bool) {
	for _, l := range h.loops.all {
		l.post(taskFunc(func() {
			for c := range openClients(l) {
				if c.app == a && concerns(c) {
					c.sendError(e)
				}
			}
		}))
	}
}

// endUser ends the connections of a user here, who is known by the presence channels that the
// connections have joined.
func (h *hub) endUser(a *app, user string) {
	h.endClients(a, protocol.ErrTerminated, func(c *client) bool { return c.isUser(user) })
}

func (c *client) isUser(id string) bool {
	for s := range c.all {
		if s.ch.kind.Presence && s.member.ID == id {
			return true
		}
	}
	return false
}

// --- Hub ---

// hub serves a set of apps.
type hub struct {
	// constant after newHub
	api      *httpapi.Handler[*app]
	registry *registry
	loops    *loops
	program  program
	journal  *journal.Journal                     // program's
	traces   *operator.Traces                     // program's
	tracef   func(what, socketID, message string) // program's; nil: nothing is traced
	closed   metrics.Tally                        // connections that ended, by the word of the ending
	refused  metrics.Tally                        // refusals, by the word of the reason

	tables    atomic.Pointer[tables] // replaced as a whole by configure
	addresses addresses.Counter      // of connections that are limited by address
	libraries intern.Table           // what clients call themselves
	short     atomic.Bool            // memory is short: no new subscriptions
}

// program is what a hub asks of the program around it. Peers and Tracer are called once, when
// the hub is made; any goroutine calls the others.
type program interface {
	Peers(r *registry) peers                      // the other nodes; nil: this is the only one
	Tracer() func(what, socketID, message string) // shows the traffic; nil: nothing is traced
	Prefix() string                               // of every path; begins with a slash, or is empty
	Full() bool                                   // no descriptors are left for another connection
	Detach(nc net.Conn) net.Conn                  // takes off what the listener has put around a connection
	Remote(r *http.Request) string                // the client's address
	Journal() *journal.Journal                    // what the log is told
	Traces() *operator.Traces                     // what operators are shown
	Marks(c *client) operator.Marks               // which operators trace c; its loop asks
}

// tables is what can be configured anew while the server runs. It is constant once
// made.
type tables struct {
	byKey, byID    map[string]*app
	former         map[string]*app // by ID: configured no more
	maxRequestSize int64           // bytes of a body
	authWindow     time.Duration   // 0: timestamps are not checked
	compression    bool
	maxPerAddress  int // connections of one address; 0: no limit
}

// known finds an app, even one that is configured no more: its channels go one by one.
func (t *tables) known(id string) *app {
	if a := t.byID[id]; a != nil {
		return a
	}
	return t.former[id]
}

// all calls yield for every app, those configured no more included.
func (t *tables) all(yield func(*app) bool) {
	for _, apps := range []map[string]*app{t.byID, t.former} {
		for _, a := range apps {
			if !yield(a) {
				return
			}
		}
	}
}

// refusedHandshake is the word with which the request for a WebSocket is refused that is not a
// WebSocket handshake. All other words are those of protocol and of httpapi.
const refusedHandshake = "handshake"

// maxLibraryBytes bounds the name of a client's library. The names are some 20 bytes long.
const maxLibraryBytes = 64

func newHub(apps []*config.App, ls *loops, p program) *hub {
	h := &hub{registry: newRegistry(ls), loops: ls, program: p, journal: p.Journal(), traces: p.Traces(), tracef: p.Tracer()}
	for _, e := range endings { // metrics begin at zero
		h.closed.Of(e.word)
	}
	for _, e := range protocol.Errors() {
		h.refused.Of(e.Word)
	}
	for _, word := range append(httpapi.Words(), refusedHandshake) {
		h.refused.Of(word)
	}
	h.registry.hub, h.registry.engine = h, newEngine(h.registry, p.Peers(h.registry))
	h.api = httpapi.New(h, time.Now)
	h.tables.Store(&tables{})
	h.configure(apps, tables{maxRequestSize: 10_000, authWindow: 600 * time.Second})
	return h
}

// configure puts apps and t in force. An app that was there keeps its connections,
// one that is no more loses them.
func (h *hub) configure(apps []*config.App, t tables) {
	old := h.tables.Load()
	t.byKey, t.byID, t.former = map[string]*app{}, map[string]*app{}, map[string]*app{}
	maps.Copy(t.former, old.former)
	maps.Copy(t.former, old.byID)
	for _, configured := range apps {
		a := old.known(configured.ID)
		if a == nil {
			a = h.newApp(configured.ID)
		}
		a.settings.Store(&settings{App: configured})
		a.gone.Store(false)
		delete(t.former, a.id)
		t.byID[configured.ID], t.byKey[configured.Key] = a, a
	}
	h.tables.Store(&t)
	for id, a := range t.former {
		if old.byID[id] != nil {
			a.gone.Store(true) // unless it is configured anew until a loop comes to it
			h.endClients(a, protocol.ErrUnknownApp, func(*client) bool { return a.gone.Load() })
		}
	}
}

// refuse counts the refusal of a connection and tells the log.
func (h *hub) refuse(e *protocol.Error, about journal.About, why string) {
	about.Code = e.Code
	h.tellRefused(e.Word, about, why)
}

// tellRefused counts a refusal and tells the log.
func (h *hub) tellRefused(word string, about journal.About, why string) {
	h.refused.Of(word).Add(1)
	h.journal.Refused(word, about, why)
}

func (h *hub) trace(what string, c *client, message string) {
	if h.tracef != nil {
		h.tracef(what, c.id.String(), message)
	}
}

func (h *hub) traceMessage(what string, c *client, message []byte) {
	if h.tracef != nil {
		h.tracef(what, c.id.String(), protocol.WithoutAuth(message))
	}
}

func (h *hub) traceEnding(c *client, e *ending) {
	if h.tracef != nil {
		h.tracef("Connection Closed", c.id.String(), e.word)
	}
}

// libraryOf is what the client of a handshake calls itself: pusher-js says client=js and
// version=8.4.0. Others may say anything.
func libraryOf(r *http.Request) string {
	q := r.URL.Query()
	library := strings.TrimSpace(q.Get("client") + " " + q.Get("version"))
	return library[:min(len(library), maxLibraryBytes)]
}

// ServeWebSocket handles GET {prefix}/app/{key} for httpapi: it upgrades the connection and
// gives it to a loop. Whether the client is welcome is told over the WebSocket,
// because that is where its library looks.
func (h *hub) ServeWebSocket(w http.ResponseWriter, r *http.Request, key string) {
	if bad := handshake.Check(r); bad != nil {
		for name, value := range bad.Header {
			w.Header().Set(name, value)
		}
		h.tellRefused(refusedHandshake, journal.About{Remote: h.program.Remote(r), Code: bad.Status}, bad.Text)
		httpapi.Answer(w, &protocol.Problem{Status: bad.Status, Text: bad.Text})
		return
	}
	t := h.tables.Load()
	c := &client{hub: h, app: t.byKey[key], id: protocol.NewSocketID()}
	c.handler = c
	var refuse *protocol.Error
	switch {
	case h.program.Full():
		refuse = protocol.ErrOverCapacity
	case c.app == nil:
		refuse = protocol.ErrUnknownApp
	case !origin.Match(c.app.settings.Load().AllowedOrigins, r.Header.Get("Origin")):
		refuse = protocol.ErrOrigin
	}
	about := journal.About{Socket: c.id.String(), Remote: h.program.Remote(r), Origin: r.Header.Get("Origin")}
	if c.app != nil {
		about.App = c.app.id
	}
	if refuse != nil {
		c.needExtra().refuse = refuse
		h.refuse(refuse, about, refuse.Message+", for the key "+show.Text(key))
	}
	if c.app != nil {
		c.maxMessage = int32(c.app.settings.Load().MaxMessageSize) // at most 64 MiB
	}
	extensions := ""
	if c.deflate = t.compression && deflate.Accepts(r.Header["Sec-Websocket-Extensions"]); c.deflate {
		extensions = deflate.Response
	}
	first := handshake.Append(nil, r.Header.Get("Sec-WebSocket-Key"), extensions,
		"X-Powered-By: Laravel Reverb\r\n")
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		httpapi.Answer(w, &protocol.Problem{Status: http.StatusInternalServerError,
			Text: "This connection cannot be upgraded."})
		return
	}
	c.library = h.libraries.Hold(libraryOf(r))
	nc = h.program.Detach(nc) // what the listener has wrapped; see loops.sockets
	if remote := about.Remote; t.maxPerAddress > 0 || remote != poll.PeerAddr(nc) {
		c.setRemote(remote)
	}
	early := make([]byte, buffered.Reader.Buffered())
	io.ReadFull(buffered.Reader, early) // from memory
	h.loops.adopt(&c.conn, nc, first, early)
}

// --- Short of memory ---

// queues are the send queues of clients, by app.
type queues = memory.Survey[*app, *client]

// survey is the task that looks at the send queues of a loop.
type survey struct{ out chan<- *queues }

func (s *survey) run(l *loop) {
	found := new(queues)
	for c := range openClients(l) {
		if c.app != nil && !c.out.Empty() {
			found.Add(c.app, c, c.out.Bytes())
		}
	}
	s.out <- found
}

// relieve makes room when memory is nearly used up: it closes connections for which much
// waits, and holds the apps whose connections hold most, until unhold. It waits for the loops
// as long as ctx allows.
func (h *hub) relieve(ctx context.Context) (closed int) {
	loops := len(h.loops.all)
	out := make(chan *queues, loops)
	for _, l := range h.loops.all {
		l.post(&survey{out})
	}
	// late says that a loop is far behind with the app's events.
	late := func(a *app) bool { return a.undelivered.Load() > maxUndelivered/16 }
	for a := range h.tables.Load().all {
		if late(a) {
			a.held.Store(true) // until the loops have told
		}
	}
	var found queues
	told := 0
	for range loops {
		select {
		case here := <-out:
			told++
			found.Merge(here)
		case <-ctx.Done(): // one loop is far behind; the others' connections are known
		}
	}
	for a := range h.tables.Load().all {
		a.held.Store(told < loops && late(a) || found.Hold(a))
	}
	peers := found.Shed()
	for _, c := range peers {
		c.loop.post(taskFunc(c.shedQueue))
	}
	return len(peers)
}

// shedQueue ends the connection if much waits for it still: it may have read meanwhile.
func (c *client) shedQueue() {
	if c.out.Bytes() >= memory.ShedBytes {
		c.shed(endMemory)
	}
}

// unhold lets every app publish again.
func (h *hub) unhold() {
	for a := range h.tables.Load().all {
		a.held.Store(false)
	}
}

// --- HTTP API ---
//
// What the routes of httpapi do. Their bodies and answers are there.

// ServeHTTP serves the API and the WebSocket.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.api.ServeHTTP(w, r) }

var _ httpapi.Backend[*app] = (*hub)(nil)

// Settings is part of httpapi.Backend.
func (h *hub) Settings() httpapi.Settings {
	t := h.tables.Load()
	return httpapi.Settings{Prefix: h.program.Prefix(), MaxBody: t.maxRequestSize, AuthWindow: t.authWindow}
}

// App is part of httpapi.Backend.
func (h *hub) App(id string) (a *app, ok bool) {
	a, ok = h.tables.Load().byID[id]
	return a, ok
}

// Credentials is part of httpapi.Backend.
func (h *hub) Credentials(a *app) protocol.Credentials { return a.settings.Load().credentials() }

// Signed is part of httpapi.Backend.
func (h *hub) Signed(a *app, received, sent int) {
	a.api.calls.Add(1)
	a.api.receivedBytes.Add(uint64(received))
	a.api.sentBytes.Add(uint64(sent))
}

// Refused is part of httpapi.Backend.
func (h *hub) Refused(r *http.Request, v httpapi.Refusal) {
	h.tellRefused(v.Word, journal.About{App: v.App, Remote: h.program.Remote(r), Code: v.Status}, v.Line)
}

// Answered is part of httpapi.Backend.
func (h *hub) Answered(r *http.Request, how httpapi.Answered) {
	if h.journal.Requests() {
		h.journal.Request(r, journal.About{App: how.App, Remote: h.program.Remote(r), Code: how.Status}, how.Bytes, how.Took)
	}
}

// Publish is part of httpapi.Backend. All events are on their way before the first is
// waited for.
func (h *hub) Publish(ctx context.Context, a *app, events []protocol.Publish, now time.Time) (all [][]protocol.Stats, bad *protocol.Problem) {
	done, bad := h.awaitRoom(ctx, a)
	if bad != nil {
		return nil, bad
	}
	defer done()
	info := false
	most := 0
	for i := range events {
		info = info || events[i].Info != nil
		most += len(events[i].Channels)
	}
	o := outcome{answers: h.registry.engine.answers(most)}
	if info {
		all = make([][]protocol.Stats, len(events))
	}
	for i := range events {
		if here := h.send(a, &events[i], now, &o); info {
			all[i] = here
		}
	}
	if bad = o.wait(ctx); bad != nil {
		return nil, bad
	}
	for i := range all {
		if e := &events[i]; e.Info != nil {
			all[i] = h.registry.engine.stats(ctx, a, e.Channels, all[i], now)
		}
	}
	return all, nil
}

// publish sends an event to its channels, waits until it is accepted, and tells how
// each channel stands if info is wanted.
func (h *hub) publish(ctx context.Context, a *app, e *protocol.Publish, now time.Time) ([]protocol.Stats, *protocol.Problem) {
	o := outcome{answers: h.registry.engine.answers(len(e.Channels))}
	all := h.send(a, e, now, &o)
	if fail := o.wait(ctx); fail != nil {
		return nil, fail
	}
	if e.Info != nil {
		all = h.registry.engine.stats(ctx, a, e.Channels, all, now)
	}
	return all, nil
}

// outcome is what becomes of events that were given to the engine.
type outcome struct {
	answers chan error // see engine.answers
	waits   int        // for so many
}

// send gives an event to its channels. In a cluster it is on its way then; else it is
// delivered, and send tells how each channel stands if info is wanted.
func (h *hub) send(a *app, e *protocol.Publish, now time.Time, o *outcome) (all []protocol.Stats) {
	a.api.events.Add(1)
	if e.Info != nil {
		all = make([]protocol.Stats, len(e.Channels))
	}
	for i, name := range e.Channels {
		b := newEventBroadcast(e.Name, e.Data, name.String(), "", e.Except, now)
		here, later := h.registry.engine.publish(a, name, b, true, o.answers)
		if later {
			o.waits++
		}
		if all != nil {
			all[i] = here
		}
		if h.journal.Detailed() {
			receivers := here.Subscriptions
			if later {
				receivers = -1
			}
			h.journal.Published(journal.About{App: a.id, Channel: name.String()}, e.Name, len(b.payload()), receivers)
		}
		if h.tracef != nil {
			h.tracef("Broadcasting To", name.String(), string(b.payload()))
		}
	}
	return all
}

// wait waits until everything that was sent is accepted.
func (o *outcome) wait(ctx context.Context) *protocol.Problem {
	for range o.waits {
		select {
		case err := <-o.answers:
			if err != nil {
				return &protocol.Problem{Status: http.StatusServiceUnavailable, Text: err.Error()}
			}
		case <-ctx.Done():
			return &protocol.Problem{Status: http.StatusServiceUnavailable, Text: "The request was given up."}
		}
	}
	return nil
}

// awaitRoom waits until the app's events can be delivered, so that a publisher that is faster
// than the network fills its own queue and not this server's memory. Requests that wait go on
// one after the other: the next when what the one before has published is counted, which it
// says with done.
func (h *hub) awaitRoom(ctx context.Context, a *app) (done func(), fail *protocol.Problem) {
	done, err := a.turnstile.Pass(ctx, roomPatience, func() bool { return h.behind(a) })
	switch {
	case err == turnstile.ErrFull:
		return nil, &protocol.Problem{Status: http.StatusServiceUnavailable,
			Text: "The server is behind with delivering; send again shortly."}
	case err != nil:
		return nil, &protocol.Problem{Status: http.StatusServiceUnavailable,
			Text: "The request was given up."}
	}
	if h.registry.engine.later() { // what is published is counted when it comes back
		done()
		done = func() {}
	}
	return done, nil
}

// Channels is part of httpapi.Backend.
func (h *hub) Channels(ctx context.Context, a *app, prefix string, info bool, now time.Time) map[string]protocol.Stats {
	return h.registry.engine.occupied(ctx, a, prefix, info, now)
}

// Channel is part of httpapi.Backend.
func (h *hub) Channel(ctx context.Context, a *app, name protocol.Name, now time.Time) protocol.Stats {
	return h.registry.engine.stats(ctx, a, []protocol.Name{name}, nil, now)[0]
}

// Connections is part of httpapi.Backend.
func (h *hub) Connections(ctx context.Context, a *app) int64 {
	return h.registry.engine.connections(ctx, a)
}

// Users is part of httpapi.Backend.
func (h *hub) Users(ctx context.Context, a *app, name protocol.Name) []*protocol.Member {
	return h.registry.engine.users(ctx, a, name)
}

// Terminate is part of httpapi.Backend.
func (h *hub) Terminate(ctx context.Context, a *app, user string) {
	h.registry.engine.terminate(ctx, a, user)
}

// --- Figures ---

// Remote is the address of a client.
func (h *hub) Remote(r *http.Request) string { return h.program.Remote(r) }

// watch shows what is sent on a channel of an app, see admin.App.
func (h *hub) watch(a *app, channel string) (out <-chan admin.Message, stop func(), ok bool) {
	return h.registry.tap(a, channel)
}

// figures adds to s what the hub has counted, and how it stands.
func (h *hub) figures(s *admin.Snapshot) {
	byID := h.tables.Load().byID
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		s.Apps = append(s.Apps, byID[id].figures())
	}
	for _, d := range h.api.Durations() {
		s.API = append(s.API, admin.Route{Name: d.Route, Took: d.Took})
	}
	s.Closed, s.Refused = h.closed.Counts(), h.refused.Counts()
	s.Full = h.program.Full()
	s.Behind = admin.Behind{Loops: h.loops.overloaded(), Memory: h.loops.crowded(), Redis: h.clusterBehind()}
}

// figures are what has been counted of an app.
func (a *app) figures() admin.AppFigures {
	f := admin.AppFigures{ID: a.id, Connections: a.connections.Load(), Undelivered: a.undelivered.Load(),
		Requests: a.api.calls.Load(), RequestBytes: a.api.receivedBytes.Load(),
		ResponseBytes: a.api.sentBytes.Load(), Published: a.api.events.Load()}
	for i := range a.perLoop {
		t := &a.perLoop[i].traffic
		f.Connected += t.connected.Load()
		f.Disconnected += t.disconnected.Load()
		f.Received += t.received.Load()
		f.ReceivedBytes += t.receivedBytes.Load()
		f.Sent += t.sent.Load()
		f.SentBytes += t.sentBytes.Load()
		f.ClientEvents += t.clientEvents.Load()
		f.Limited += t.limited.Load()
		for k := range t.kinds { // one loop may count down what another has counted up
			from, to := &t.kinds[k], &f.Kinds[k]
			to.Subscribed += from.subscribed.Load()
			to.Unsubscribed += from.unsubscribed.Load()
			to.Occupied += from.occupied.Load()
			to.Vacated += from.vacated.Load()
		}
	}
	return f
}
