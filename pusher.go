package main

// What the Pusher protocol, version 7, and its HTTP API mean. internal/protocol has the bytes of
// both. A client is a connection of ws.go that belongs to an app. This file makes messages, and
// has ws.go frame them: a message for many connections once. It knows no bit of a frame.
//
// Sections:
//
//	Apps                what an app has; when its publishers wait
//	Endings             the ending for each row of protocol.Errors with a close code
//	Registry            how an event gets to the subscribers, and to watchers of the console
//	Lists of members    when a joiner gets its list, and what it gets after the list
//	Watchlists          who is online, and how the coming of a user gets to the watchers
//	Engine              what internal/engine needs of apps and clients
//	Client              one connection, in nine sections: its subscriptions, what is sent to it,
//	                    letting it in, messages, subscribing, signing in, client events, the end
//	Handing over        apps and clients as plain data, for another process and from one
//	Hub                 all apps, their settings and channels; whether a WebSocket may open
//	Short of memory     which connections are closed, and which apps are held
//	HTTP API            what its routes do: httpapi.Backend
//	Operators           what operators see of clients and channels
//	Figures             what has been counted of apps

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"reverb/internal/admin"
	"reverb/internal/apps"
	"reverb/internal/channels"
	"reverb/internal/config"
	"reverb/internal/engine"
	"reverb/internal/handover"
	"reverb/internal/history"
	"reverb/internal/httpapi"
	"reverb/internal/journal"
	"reverb/internal/lib/addresses"
	"reverb/internal/lib/deflate"
	"reverb/internal/lib/handshake"
	"reverb/internal/lib/intern"
	"reverb/internal/lib/load"
	"reverb/internal/lib/memory"
	"reverb/internal/lib/origin"
	"reverb/internal/lib/outqueue"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/pulse"
	"reverb/internal/lib/retries"
	"reverb/internal/lib/show"
	"reverb/internal/lib/tenants"
	"reverb/internal/lib/turnstile"
	"reverb/internal/lib/watchers"
	"reverb/internal/lib/window"
	"reverb/internal/memberlists"
	"reverb/internal/operator"
	"reverb/internal/protocol"
	"reverb/internal/reports"
	"reverb/internal/signins"
	"reverb/internal/subscriptions"
	"reverb/internal/topics"
	"reverb/internal/upgrade"
	"reverb/internal/watchlists"
	"reverb/internal/webhooks"
)

const (
	// maxUndelivered bounds the deliveries of one app that wait on all loops together. A delivery
	// counts its bytes and load.MessageCost, so about 100,000 small ones fit. Above the bound the
	// app's publishers wait; one event that is larger than the bound is delivered. Larger: events
	// take more memory. Smaller: publishers wait sooner.
	maxUndelivered = 16 << 20
	// maxListBytes bounds all lists of members that wait for peers. At the bound joiners wait for
	// their lists. Larger: lists take more memory. Smaller: joiners wait longer.
	maxListBytes = 64 << 20
	// maxListDeflated bounds the lists of members that are compressed. Larger: a list stops the
	// loop for longer. Smaller: more traffic.
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
	id          string                   // constant
	hub         *hub                     // constant
	channels    *channels.App[*client]   // constant
	hooks       *webhooks.App            // constant
	history     *history.App[*broadcast] // constant
	settings    atomic.Pointer[settings]
	gone        atomic.Bool  // configured no more
	held        atomic.Bool  // it publishes nothing while memory is short, see relief
	connections atomic.Int64 // open ones, subscribed or not
	counts      admin.Counters[channels.Counts]
	flows       []flow // the app's events for the subscribers of each loop, which owns its flow

	undelivered atomic.Int64        // see maxUndelivered
	turnstile   turnstile.Turnstile // of requests that publish
}

// newApp makes an app that has nothing yet.
func (h *hub) newApp(id string) *app {
	a := &app{id: id, hub: h, hooks: h.program.Webhooks().App(webhooks.Account{ID: id}),
		flows: make([]flow, len(h.loops.all)), turnstile: turnstile.New()}
	a.history = h.rings.App(id)
	a.channels = h.channels.NewApp(id, watch{a.hooks, a.history})
	a.counts.Loops, a.counts.Channels = make([]admin.Traffic, len(a.flows)), a.channels.Counts
	for i := range a.flows {
		a.flows[i].held.Full = func() bool {
			return h.Behind(a) || h.engine.Crowded()
		}
	}
	return a
}

// watch is told what happens to the channels of an app, for its webhooks and for what it keeps.
type watch struct {
	*webhooks.App
	kept *history.App[*broadcast]
}

func (w watch) Changed(channel, user string, gone, vanished bool) {
	w.App.Changed(channel, user, gone, vanished)
	if gone && user == "" {
		w.kept.Vacant(channel, time.Now())
	}
}

var _ topics.App = (*app)(nil)

// What this node knows of the app, see topics.App.
func (a *app) ID() string  { return a.id }
func (a *app) Open() int64 { return a.connections.Load() }

func (a *app) Terminate(user string) {
	a.hub.endClients(a, protocol.ErrTerminated, func(c *client) bool { return c.IsUser(user) })
}

func (a *app) Stats(name protocol.Name, now time.Time) protocol.Stats {
	return a.hub.channels.Stats(a.channels, name, now)
}

func (a *app) Rows(prefix string, now time.Time,
	yield func(app, name string, s protocol.Stats, events uint64) bool) {
	a.hub.channels.Rows(a.channels, prefix, now, yield)
}

func (a *app) Users(name protocol.Name) []*protocol.Member {
	return a.hub.channels.Users(a.channels, name)
}

// Behind says that the publishers of a should wait. While a loop has more than fits, only the apps
// with a share in that wait. While Redis has more than fits, or memory is short, all apps wait.
func (h *hub) Behind(a *app) bool {
	n := a.undelivered.Load()
	return n > maxUndelivered || n > maxUndelivered/16 && h.loops.load.Overloaded() ||
		a.held.Load() || h.loops.load.Crowded() || h.engine.Behind()
}

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
	messagePing = protocol.AppendEvent(nil, "pusher:ping", []byte(`"{}"`), "", "")
	messagePong = protocol.AppendEvent(nil, "pusher:pong", []byte(`"{}"`), "", "")
)

// --- Registry ---
//
// internal/channels knows the subscribers of each channel. Here an event gets to them: Post posts
// it to each loop that has subscribers, and the loop sends it to its own.

type (
	subscription = channels.Subscription[*client]
	place        = channels.Place[*client, *broadcast]
)

// tap names a channel that somebody watches without being subscribed.
type tap struct {
	app     *app
	channel string
}

// indexOf finds a client in a list, see channels.New.
func indexOf(list []channels.Subscriber[*client], id protocol.SocketID) int {
	for i := range list {
		if list[i].Conn.id == id {
			return i
		}
	}
	return -1
}

// broadcast is an event of an app for one channel. It is the task that brings the event to a loop,
// and the delivery to the loop's subscribers. One broadcast serves all loops.
type broadcast struct {
	encodedText
	app    *app
	except protocol.SocketID
	at     time.Time // when the event was published
	kept   bool      // the message has room for an offset, see Stamp

	// constant after Post
	to     channels.Audience[*client]
	share  int64 // how many deliveries each loop with places counts as pending
	places int32 // in to

	left atomic.Int32 // loops that still have deliveries to make
}

// newEventBroadcast makes an event and its message, see protocol.AppendEvent. The message has room
// for an offset if kept is set.
func newEventBroadcast(a *app, name, data []byte, channel, user string, except protocol.SocketID,
	now time.Time, kept bool) *broadcast {
	size := len(data) + len(name) + len(channel) + len(user) + 64
	if kept {
		size += history.StampBytes
	}
	message := protocol.AppendEvent(beginFrame(size), name, data, channel, user)
	if kept {
		message = history.Room(message)
	}
	return &broadcast{encodedText: encodedText{plain: endFrame(message)}, app: a, except: except,
		at: now, kept: kept}
}

// Payload is part of channels.Event.
func (b *broadcast) Payload() []byte { return history.Bare(b.payload()) }

// Keep is part of channels.Event.
func (b *broadcast) Keep(channel string, heard bool, now time.Time) {
	if b.kept {
		b.app.history.Append(channel, b, heard, now)
	}
}

// Stamp is part of history.Event.
func (b *broadcast) Stamp(at history.Offset) { history.Stamp(b.plain, at) }

// Size is part of channels.Event.
func (b *broadcast) Size() int { return len(b.plain) }

// cost is what the event counts for in app.undelivered.
func (b *broadcast) cost() int64 { return int64(b.places) * int64(len(b.plain)+load.MessageCost) }

// Post is part of channels.Event.
func (b *broadcast) Post(channel string, to channels.Audience[*client], on []int32) {
	h := b.app.hub
	h.taps.Show(tap{b.app, channel}, admin.Message{Event: b.payload(), At: b.at})
	places, loops := int32(0), int32(0)
	for _, n := range on {
		if places += n; n > 0 {
			loops++
		}
	}
	if t := h.reports; t.On() {
		t.Delivered(b.app.id, channel, int(places), b.payload())
	}
	if loops == 0 {
		return
	}
	b.to, b.places, b.share = to, places, int64(places)/int64(len(h.loops.all))+1
	b.left.Store(loops)
	b.app.undelivered.Add(b.cost())
	for i, l := range h.loops.all {
		if on[i] > 0 {
			l.load.Add(len(b.plain), b.share)
			if !l.post(b) {
				b.delivered(l)
			}
		}
	}
}

// run puts the event behind the earlier events of its app. A subscription does not wait for them: a
// new subscriber is not in their audience.
func (b *broadcast) run(l *loop) { l.enqueue(&b.app.flows[l.index], b) }

// weighedBytes is how many bytes of an event make each delivery count for one more. Larger: flows
// with long events get more of a turn. Smaller: they get less.
const weighedBytes = 2 << 10

// deliver makes the next deliveries. A loop delivers one event of an app at a time, as
// channels.Audience demands.
func (b *broadcast) deliver(l *loop, share int, alone bool) (used int, done bool) {
	weight := 1 + len(b.plain)/weighedBytes
	part, done := b.to.Next(l.index, max(share/weight, maxTogether))
	b.send(l, part, alone)
	if done {
		l.note() // before the deliveries are counted off, see load.Loop.Done
		b.delivered(l)
		l.meter.Measure(b.at)
	}
	return len(part) * weight, done
}

// send gives the event to some of a loop's subscribers.
func (b *broadcast) send(l *loop, part []channels.Subscriber[*client], alone bool) {
	var to [maxTogether]*conn
	n, total, audience, traced := 0, 0, b.to, b.app.hub.reports.On()
	for i := range part {
		s := &part[i]
		if !audience.Hears(s) {
			continue
		}
		if traced {
			s.Conn.show("out", b.payload())
		}
		to[n] = &s.Conn.conn
		if n++; n == len(to) {
			l.sendEach(to[:], &b.encodedText, alone)
			n, total = 0, total+n
		}
	}
	l.sendEach(to[:n], &b.encodedText, alone)
	b.app.counts.Loops[l.index].CountSent(total+n, len(b.payload()))
}

// delivered notes that one loop is done with the event. For a loop that has ended the publisher
// calls it, so it touches counters alone.
func (b *broadcast) delivered(l *loop) {
	l.load.Done(len(b.plain), b.share)
	if b.left.Add(-1) == 0 {
		b.app.undelivered.Add(-b.cost())
	}
}

// leave ends a subscription of c. vanished says that c's connection has ended. Only c's loop calls
// it.
func (h *hub) leave(c *client, s *subscription, vanished bool) {
	c.app.hub.reports.Moved(c, "unsubscribed", s.Name())
	if s.Kind().Presence {
		h.desks[c.loop.index].Leave(s)
	}
	h.engine.Leave(c.app, s, vanished)
}

// --- Lists of members ---
//
// The answer to a subscription to a presence channel is the list of its members. A joiner is a
// member at once. It keeps a place in its send queue for the list, which it gets from memberlists
// when everything before the place is written. It gets all events after the moment of its list.

// endSlowList ends the connection that keeps others waiting for their lists.
var endSlowList = newEnding(1013,
	"Too slow: less than 16384 bytes a second of a list of members, and others wait for theirs",
	"slow_list")

// moment is what a joiner gets besides its list.
type moment struct {
	since  uint64       // the last event that the list shows; the subscriber gets all after it
	behind *encodedText // the last event of a cache channel, or cache_miss; nil on another channel
	missed bool         // it is cache_miss
	last   *broadcast   // the event that behind is; nil: it is none
	wish   *wish        // has the moment for those who resume; nil: the channel keeps nothing
}

// listed is a channel whose members are listed.
type listed struct {
	app   *app
	name  string
	cache bool
	of    *channels.Members[*client]
}

var _ memberlists.Channel[moment] = listed{}

func (v listed) Last() *memberlists.Last { return &v.of.Last }
func (v listed) Owner() any              { return v.app }

func (v listed) Look(encode bool) memberlists.Look[moment] {
	var ask engine.Ask
	w := v.app.history.Look(v.name)
	if w != nil {
		ask = w
	}
	now := v.app.hub.channels.Look(v.of, encode, ask, time.Now())
	look := memberlists.Look[moment]{Version: now.Version, Size: now.Size,
		At: moment{since: now.Since, last: now.Last, wish: w}}
	if now.Last != nil {
		look.At.behind = &now.Last.encodedText
	} else if v.cache {
		look.At.behind, look.At.missed = encodeText(protocol.EncodeCacheMiss(v.name)), true
	}
	look.Encode = func() []byte {
		return endFrame(protocol.AppendMembers(beginFrame(now.Size), v.name, now.Members))
	}
	return look
}

// openDesks makes the desks, whose lists together hold at most size bytes.
func (h *hub) openDesks(size int64) {
	h.lists = memberlists.New[moment](size, h.posts)
	h.desks = memberlists.Counters[*subscription](h.lists)
}

// joiner is a subscriber that gets a list of members in its send queue.
type joiner struct {
	c    *client
	sub  *subscription
	back *wish // nil: it does not resume
}

var _ memberlists.Taker[moment] = joiner{}

func (j joiner) Channel() memberlists.Channel[moment] {
	return listed{j.c.app, j.sub.Name(), j.sub.Kind().Cache, j.sub.Members()}
}

func (j joiner) Reserve(from outqueue.Supplier) *outqueue.Place { return j.c.queueSupply(from) }

func (j joiner) Supply(at *outqueue.Place, b, more []byte) {
	if j.c.supply(at, b, more); j.back != nil {
		j.back.Flow(j.c, at)
	}
}

func (j joiner) Open() bool { return j.c.Open() }
func (j joiner) TooSlow()   { j.c.close(endSlowList) }

// Form takes the compressed list if the client takes such, and puts the last event behind it.
func (j joiner) Form(list *memberlists.List, at moment) (b, more []byte) {
	f := &encodedText{plain: list.Plain()}
	j.c.app.hub.channels.Listed(j.sub, at.since)
	if j.back != nil && at.wish != nil {
		return j.formResumed(f, at)
	}
	if b = f.plain; f.deflates(&j.c.conn) && len(b) <= maxListDeflated {
		b = list.Packed(func([]byte) []byte { return f.forConn(&j.c.conn) })
	}
	j.c.noteSent(f.payload())
	if at.behind != nil {
		more = at.behind.forConn(&j.c.conn)
		j.c.noteSent(at.behind.payload())
	}
	if at.missed {
		j.c.app.hooks.Missed(j.sub.Name())
	}
	return b, more
}

// formResumed is Form for a client that resumes. Its list is not compressed: the answer is in it.
func (j joiner) formResumed(list *encodedText, at moment) (b, more []byte) {
	j.back.Mark = at.wish.Mark
	text := encodeText(j.back.Answer(list.payload(), time.Now()))
	j.c.noteSent(text.payload())
	switch {
	case j.back.Recovered:
	case at.last != nil:
		bare := encodeText(at.last.Payload())
		j.c.noteSent(bare.payload())
		more = bare.forConn(&j.c.conn)
	case at.missed:
		j.c.noteSent(at.behind.payload())
		more = at.behind.forConn(&j.c.conn)
		j.c.app.hooks.Missed(j.sub.Name())
	}
	return text.plain, more
}

// --- Clients that come back ---
//
// internal/history keeps the events of channels, and knows what a client has missed.

type wish = history.Wish[*broadcast]

// endSlowReplay ends the connection that keeps others from getting what they have missed.
var endSlowReplay = newEnding(1013,
	"Too slow: what was missed was not taken in 30 seconds, and others wait for theirs",
	"slow_replay")

var _ history.Conn[*broadcast] = (*client)(nil)

// Frame is part of history.Conn.
func (c *client) Frame(b *broadcast) []byte {
	c.noteSent(b.payload())
	return b.forConn(&c.conn)
}

func (c *client) Push(frame []byte)                              { c.queue(frame) }
func (c *client) Reserve(from outqueue.Supplier) *outqueue.Place { return c.queueSupply(from) }
func (c *client) TooSlow()                                       { c.close(endSlowReplay) }

func (c *client) Supply(at *outqueue.Place, b []byte) {
	c.out.SupplyCounted(&c.loop.outs, at, b)
	c.touch()
}

func (c *client) Behind(at *outqueue.Place, from outqueue.Supplier) *outqueue.Place {
	return c.out.PlaceBehind(&c.loop.outs, at, from)
}

// --- Watchlists ---
//
// internal/watchlists knows who is online, and who watches whom. What it needs of the program:

// change is the coming or going of a user, on its way to the watchers on one loop. It counts in
// app.undelivered and loop.load, as an event does.
type change struct {
	*watchlists.Change[*app, *client]
	*encodedText
	app  *app
	cost int64
}

// Grace is part of watchlists.Host.
func (h *hub) Grace(a *app) time.Duration { return a.settings.Load().DisconnectGrace }

// Changed is part of watchlists.Host. The change goes behind the earlier events of the app.
func (h *hub) Changed(loop int, a *app, v *watchlists.Change[*app, *client]) {
	l, text := h.loops.all[loop], encodeText(protocol.EncodeWatchlist(v.Lists()))
	cost := int64(v.Watchers()) * int64(len(text.plain)+load.MessageCost)
	c := &change{v, text, a, cost}
	a.undelivered.Add(cost)
	l.load.Add(len(text.plain), 0)
	l.enqueue(&a.flows[loop], c)
}

// Gathered is part of watchlists.Host.
func (h *hub) Gathered(c *client, online, offline []string) {
	c.sendText(protocol.EncodeWatchlist(online, offline))
}

// deliver tells the next watchers.
func (v *change) deliver(l *loop, share int, alone bool) (used int, done bool) {
	part, looked, done := v.Next(max(share, maxTogether))
	var to [maxTogether]*conn
	for together := range slices.Chunk(part, len(to)) {
		for i, c := range together {
			c.noteSent(v.payload())
			to[i] = &c.conn
		}
		l.sendEach(to[:len(together)], v.encodedText, alone)
	}
	if done {
		v.app.undelivered.Add(-v.cost)
		l.load.Done(len(v.plain), 0)
	}
	return looked, done
}

func (a *app) SignedIn(user string)            { a.hub.watchlists.SignedIn(a, user) }
func (a *app) SignedOut(user string)           { a.hub.watchlists.SignedOut(a, user) }
func (a *app) Online(user string, online bool) { a.hub.watchlists.Set(a, user, online) }

// openWatchlists makes the watchlists of a node with these peers; nil: it is the only node.
func (h *hub) openWatchlists(others peers) {
	var far watchlists.Peers[*app]
	if others != nil {
		far = engine.Watches[*app]{Peers: others}
	}
	h.watchlists = watchlists.New[*app, *client](h.posts, h, far)
}

// --- Engine ---
//
// internal/engine decides when a subscription or an event takes effect. What it needs of an app, of
// a broadcast and of a client:

type (
	replica = engine.Replica[*client, *broadcast]
	waits   = engine.Pending[*client, *broadcast]
)

// peers are the other nodes, see program.
type peers interface {
	engine.Peers
	topics.Peers
}

var (
	_ engine.Host[*client, *broadcast]   = (*hub)(nil)
	_ engine.App[*client, *broadcast]    = (*app)(nil)
	_ engine.Client[*client, *broadcast] = (*client)(nil)
)

// Known is part of engine.Host.
func (h *hub) Known(id string) (engine.App[*client, *broadcast], bool) { return h.known(id) }

func (h *hub) Overloaded() bool { return h.loops.load.Overloaded() || h.loops.load.Crowded() }

func (a *app) Channels() *channels.App[*client] { return a.channels }
func (a *app) MaxMembers() int                  { return a.settings.Load().MaxMembers }
func (a *app) Counts() bool                     { return a.settings.Load().SubscriptionCount }

func (a *app) Counted(name protocol.Name, size int) { a.hooks.Counted(name, size) }

func (a *app) Event(message []byte, except protocol.SocketID, at time.Time) *broadcast {
	framed := endFrame(append(beginFrame(len(message)), message...))
	return &broadcast{encodedText: encodedText{plain: framed}, app: a, except: except, at: at}
}

func (b *broadcast) Except() protocol.SocketID { return b.except }
func (b *broadcast) At() time.Time             { return b.at }

func (c *client) Post(task func())           { c.loop.post(taskFunc(task)) }
func (c *client) Open() bool                 { return c.state == connOpen }
func (c *client) Holds(s *subscription) bool { return c.find([]byte(s.Name())) == s }
func (c *client) Pending() *waits            { return &c.needExtra().pending }

func (c *client) Joined(s *subscription, last *broadcast, ask engine.Ask) {
	back, _ := ask.(*wish)
	if s.Kind().User {
		c.extra.identity.Entered(c, s)
		return
	}
	c.trimExtra()
	c.subscriptions.Add(s)
	c.app.hub.reports.Moved(c, "subscribed", s.Name())
	c.sendJoined(s, last, back)
}

func (c *client) Rejoined(s *subscription, last *broadcast) { c.sendJoined(s, last, nil) }

// --- Client ---

// client is one connection of one app.
type client struct {
	conn

	// constant after the handshake
	app *app // hub.nobody where no app has the key; the connection is refused then
	id  protocol.SocketID

	// owned by the loop
	subscriptions subscriptions.Set[*client]
	extra         *clientExtra // nil while there is none
	pingTick      uint32
	control       bool // the client uses control frames: it is pinged with one
	pinged        bool // a ping was sent at pingTick, and is not answered
	stage         stage
	authorized    bool // or it need not be
}

// stage is how far a client has come.
type stage uint8

const (
	counted  stage = iota + 1 // in app.connections
	admitted                  // connection_established was sent
)

// clientExtra is what few clients have. It keeps all others small.
type clientExtra struct {
	// constant after the handshake
	refuse *protocol.Error // sent as soon as the connection is open, which ends it
	// behind a proxy, whose socket does not tell it; empty if the socket does and nothing limits it
	remote addresses.Entry

	// owned by the loop
	pending  waits         // subscriptions that the cluster is asked for
	window   window.Window // of the rate limit
	identity *identity     // nil: it is not signed in, and does not ask to be
}

// needExtra returns c.extra, which it makes where there is none.
func (c *client) needExtra() *clientExtra {
	if c.extra == nil {
		c.extra = new(clientExtra)
	}
	return c.extra
}

// setRemote keeps the client's address, host or host:port. It costs 64 bytes of a connection.
func (c *client) setRemote(remote string) {
	if e := addresses.NewEntry(remote); !e.Empty() {
		c.needExtra().remote = e
	}
}

// --- Client: its subscriptions ---

// waits has the subscriptions that the cluster has not granted yet; nil: there are none.
func (c *client) waits() *waits {
	if c.extra == nil {
		return nil
	}
	return &c.extra.pending
}

// trimExtra drops c.extra if nothing is in it.
func (c *client) trimExtra() {
	if r := c.extra; r != nil && r.pending.Len() == 0 && r.refuse == nil && r.remote.Empty() &&
		r.window.Empty() && r.identity == nil {
		c.extra = nil
	}
}

func (c *client) find(name []byte) *subscription {
	return c.subscriptions.Find(c.app.channels, name)
}

// countSubscriptions includes what has been asked of the cluster.
func (c *client) countSubscriptions() int { return c.subscriptions.Len() + c.waits().Len() }

// removeSubscription takes the same time however many there are.
func (c *client) removeSubscription(s *subscription) {
	c.app.hub.leave(c, s, false)
	c.subscriptions.Remove(s)
}

// --- Client: what is sent to it ---

// traffic is where c is counted.
func (c *client) traffic() *admin.Traffic { return &c.app.counts.Loops[c.loop.index] }

// holdBack is called when c has given its app something to deliver. While the app has too much to
// deliver, nothing more is read from c. A client that only listens is never held back.
func (c *client) holdBack() {
	if c.app.hub.Behind(c.app) {
		c.loop.holder = &c.app.flows[c.loop.index]
	}
}

// holdAsker is called when c has asked for a place, or has given one up. While too much of that
// waits for the cluster, nothing more is read from c.
func (c *client) holdAsker() {
	if c.app.hub.engine.Crowded() {
		c.loop.holder = &c.app.flows[c.loop.index]
	}
}

// sendText queues a text message and notes it.
func (c *client) sendText(message []byte) {
	c.noteSent(message)
	c.conn.sendText(message)
}

// noteSent counts a text message for c, and shows it to the operators who trace c.
func (c *client) noteSent(message []byte) {
	if c.state == connOpen {
		c.traffic().CountSent(1, len(message))
		c.show("out", message)
	}
}

// show tells the operators who trace c of a message.
func (c *client) show(what string, message []byte) {
	if c.traced != 0 {
		c.app.hub.reports.Trace(c, what, "", message)
	}
}

// sendError sends pusher:error. If e has a close code, the connection ends after it.
func (c *client) sendError(e *protocol.Error) {
	c.sendText(protocol.EncodeError(e))
	c.app.hub.reports.Complained(c, e)
	if end := pusherEndings[e.Row]; end != nil {
		c.close(end)
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
	c.stage = counted
	c.app.hub.reports.Connected(c, c.app.hub.libraries.Text(c.library))
	n, limit := c.app.connections.Add(1), int64(c.app.settings.Load().MaxConnections)
	c.app.hub.engine.Enter(c.app, c, n, limit)
}

// enterAddress counts c among the connections of its address, if their number is limited. It
// returns false if c is one too many.
func (c *client) enterAddress() bool {
	limit := c.app.hub.reloadable.Load().limits.PerAddress
	if c.extra == nil || limit == 0 || c.extra.remote.Enter(&c.app.hub.addresses, limit) {
		return true
	}
	a, _ := addresses.Of(c.Address())
	c.app.hub.reports.Crowd(c.app.id, a.String(), limit)
	return false
}

// Admit sends connection_established, or that the app has too many connections. It is part of
// engine.Client.
func (c *client) Admit(ok bool) {
	set := c.app.settings.Load()
	if !ok {
		c.app.hub.reports.OverQuota(c, set.MaxConnections)
		c.sendError(protocol.ErrOverQuota)
		return
	}
	c.stage, c.authorized = admitted, c.authorized || set.AuthorizationTimeout == 0
	c.traffic().Connected.Add(1)
	c.sendEstablished()
	c.app.hub.reports.Show(c, "Connection Established", "")
	rules := set.rules()
	c.setDeadline(rules.Look(c.pulse(), c.loop.now+rules.Interval))
}

func (c *client) sendEstablished() {
	c.sendText(protocol.EncodeEstablished(c.id, seconds(c.app.settings.Load().ActivityTimeout)))
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

// --- Client: its messages ---

// handleMessage handles a message of the client. Like Reverb it ignores an event that is neither
// the protocol's nor a client event.
func (c *client) handleMessage(op opcode, message []byte) {
	c.traffic().CountReceived(len(message))
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
	c.app.hub.reports.Received(c, message)
	c.show("in", message)
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

// limited counts a message against the rate limit. It returns true if the message is one too many,
// and tells the client so.
func (c *client) limited() bool {
	limit := &c.app.settings.Load().RateLimit
	if !limit.Enabled ||
		c.needExtra().window.Take(c.loop.now, seconds(limit.Decay), limit.MaxAttempts) {
		return false
	}
	c.traffic().Limited.Add(1)
	c.sendError(protocol.RateLimited(limit.Terminate))
	return true
}

// handleEvent handles an event whose name begins with pusher:.
//
// The data of a heartbeat does not matter. Libraries send nothing, "", null, lists and objects, and
// a client that gets an error for its ping may reconnect for ever. Data that PHP calls empty names
// no channel, so a subscription with it is refused, as by Reverb.
func (c *client) handleEvent(e protocol.Event) {
	switch string(e.Name) {
	case "pusher:subscribe":
		if d, ok := protocol.ParseSubscription(e.Data); ok {
			c.subscribe(d)
			return
		}
		c.sendError(protocol.ErrFormat)
	case "pusher:signin":
		c.handleSignIn(e.Data)
	case "pusher:unsubscribe":
		d, ok := protocol.ParseSubscription(e.Data)
		if name, err := protocol.ParseName(d.Channel); !ok {
			c.sendError(protocol.ErrFormat)
		} else if err == nil && name.Kind().User {
			return // the user's channel belongs to the sign-in
		} else if s := c.find([]byte(d.Channel)); s != nil {
			presence := s.Kind().Presence
			if c.removeSubscription(s); presence {
				c.holdBack()
			}
		} else {
			c.waits().Cancel(d.Channel) // the cluster has not granted it yet
			c.trimExtra()
		}
		c.holdAsker()
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
	settings, engine := c.app.settings.Load(), c.app.hub.engine
	keys := settings.credentials()
	name, m, bad, reason := d.Judge(&keys, c.id, c.identity().Only(), settings.MaxMemberSize)
	if bad != nil {
		c.refuseSubscription(d.Channel, bad, reason)
		return
	}
	kind := name.Kind()
	if kind.User {
		c.sendText(protocol.EncodeSucceeded(d.Channel)) // the sign-in has subscribed the client
		return
	}
	c.authorized = c.authorized || kind.Signed()
	s := c.find([]byte(d.Channel))
	if s != nil && kind.Presence && s.Member().ID != m.ID {
		c.removeSubscription(s)
		s = nil
	}
	var last *broadcast
	var back *wish
	switch {
	case s != nil: // it resumes nothing: it has got what came since it subscribed
		later := false
		if last, later = engine.Rejoin(c.app, c, s, m); later {
			return
		}
	case c.waits().Has(d.Channel) && !kind.Presence:
		return // the cluster is asked already, and answers once
	case c.countSubscriptions() >= settings.MaxSubscriptions:
		c.refuseSubscription(d.Channel, protocol.ErrSubscriptions,
			fmt.Sprintf("a connection can hold %d", settings.MaxSubscriptions))
		return
	case c.app.hub.short.Load():
		c.refuseSubscription(d.Channel, protocol.ErrMemory, "")
		return
	default:
		full, p := false, c.place(name, m)
		if back = c.app.history.Wish(d.Channel, d.Resume, c.id); back != nil {
			p.Ask = back
		}
		if s, last, full = engine.Join(c.app, p); full {
			c.refuseSubscription(d.Channel, protocol.ErrMembers,
				fmt.Sprintf("a presence channel of this app can have %d", settings.MaxMembers))
			return
		}
		if s == nil {
			c.holdAsker()
			return // the client is answered later
		}
		c.subscriptions.Add(s)
		c.app.hub.reports.Moved(c, "subscribed", s.Name())
	}
	if kind.Presence {
		c.holdBack()
	}
	c.sendJoined(s, last, back)
}

// place is a place on a channel for c.
func (c *client) place(name protocol.Name, m *protocol.Member) place {
	return place{App: c.app.channels, Name: name, Conn: c, Loop: c.loop.index, Member: m}
}

// refuseSubscription tells of a failed subscription in pusher:error, with Reverb's text if Reverb
// has one, in pusher:subscription_error, for which .error() of Laravel Echo waits, with the reason,
// and in the log. An e without a Kind is told in pusher:error alone.
func (c *client) refuseSubscription(channel string, e *protocol.Error, reason string) {
	if e.Kind == "" {
		c.sendError(e)
		return
	}
	told, why, message := e.Refusal(channel, reason)
	c.app.hub.reports.Refused(c, e.Word, channel, e.Code, why)
	c.sendError(told)
	c.sendText(message)
}

// sendJoined answers a subscription, on a presence channel with the list of members. last is the
// last event of another cache channel; nil: none is remembered. back is nil for a client that does
// not resume.
func (c *client) sendJoined(s *subscription, last *broadcast, back *wish) {
	if s.Kind().Presence {
		c.app.hub.reports.Look(c)
		c.app.hub.desks[c.loop.index].Join(s, joiner{c, s, back})
		return
	}
	succeeded := protocol.EncodeSucceeded(s.Name())
	if back != nil {
		succeeded = back.Answer(succeeded, time.Now())
	}
	c.sendText(succeeded)
	switch {
	case back != nil && back.Recovered:
		back.Flow(c, nil)
	case last != nil && back != nil:
		c.sendText(last.Payload())
	case last != nil:
		c.noteSent(last.payload())
		c.sendEncoded(&last.encodedText)
	case s.Kind().Cache:
		c.sendText(protocol.EncodeCacheMiss(s.Name()))
		c.app.hooks.Missed(s.Name())
	}
}

// --- Client: signing in ---
//
// internal/signins knows the user that a client is signed in as. What it needs of the client:

type identity = signins.Identity[*app, *client, *subscription]

var _ signins.Client[*app, *client, *subscription] = (*client)(nil)

// identity returns the user that c is signed in as, or asks to be; nil: there is none.
func (c *client) identity() *identity {
	if c.extra == nil {
		return nil
	}
	return c.extra.identity
}

// handleSignIn handles pusher:signin.
func (c *client) handleSignIn(data []byte) {
	keys := c.app.settings.Load().credentials()
	u, bad := keys.SignIn(data, c.id, c.identity().Only())
	if bad == nil && c.app.hub.short.Load() {
		bad = protocol.ErrMemory
	}
	if bad != nil {
		c.app.hub.reports.Refused(c, bad.Word, "", bad.Code, bad.Message)
		c.sendError(bad)
		return
	}
	if c.needExtra().identity == nil {
		c.extra.identity = new(identity)
	}
	c.authorized = true // the answer may take longer than the app gives it
	c.extra.identity.SignIn(c, u)
	c.holdBack() // it may be told to many
	c.holdAsker()
}

func (c *client) Watches() (*watchlists.Desk[*app, *client], *app) {
	return c.app.hub.watchlists.Desk(c.loop.index), c.app
}

func (c *client) TakePlace(m *protocol.Member) *subscription {
	s, _, _ := c.app.hub.engine.Join(c.app, c.place(protocol.UserChannel(m.ID), m))
	return s
}

func (c *client) LeavePlace(s *subscription) {
	c.app.hub.engine.Leave(c.app, s, c.state != connOpen)
}

func (c *client) Greet(u *protocol.User, online, offline []string) {
	for _, message := range u.Greeting(online, offline) {
		c.sendText(message)
	}
	c.app.hub.reports.Show(c, "Signed In", u.ID)
	c.app.hub.reports.Look(c)
}

// --- Client: client events ---

// clientEventFault says why e may not be relayed on the channel of s; nil: e may be relayed. A nil
// s means that the client is not subscribed to the channel.
func (c *client) clientEventFault(e protocol.Event, s *subscription) *protocol.Error {
	switch policy := c.app.settings.Load().ClientEvents; {
	case policy == apps.FromNone:
		return protocol.ErrNoClientEvent
	case s == nil && (policy != apps.FromAll || bytes.HasPrefix(e.Channel, []byte("#"))):
		return protocol.ErrNotMember
	case policy == apps.FromPrivate && !s.Kind().Signed():
		return protocol.ErrNoClientEvent
	case c.app.held.Load():
		c.app.hub.reports.Refused(c, protocol.ErrMemory.Word, "", 0, "a client event")
		return protocol.ErrMemory
	}
	return e.NameFault()
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
	} else if channel = s.Name(); s.Member() != nil {
		user = s.Member().ID
	}
	name, err := protocol.ParseName(channel)
	if s == nil && !c.app.hub.engine.Heard(c.app, name) {
		return
	}
	c.traffic().ClientEvents.Add(1)
	defer c.holdBack()
	if err != nil {
		return // nobody can be subscribed
	}
	b := newEventBroadcast(c.app, e.Name, e.Data, channel, user, c.id, time.Now(), false)
	c.app.hub.engine.Publish(c.app, name, b, false, nil, nil)
	c.app.hooks.ClientSaid(name, e.Name, e.Data, c.id, user)
	c.app.hub.reports.Said(c, channel, e.Name, b.payload())
}

// --- Client: silence and the end ---

// handleControl notes that the client uses control frames. Some such clients never answer
// pusher:ping.
func (c *client) handleControl(op opcode) { c.control = true }

// rules are what an app wants of its connections, see package pulse.
func (s *settings) rules() pulse.Rules {
	return pulse.Rules{Interval: seconds(s.PingInterval), Timeout: seconds(s.ActivityTimeout),
		Authorize: seconds(s.AuthorizationTimeout)}
}

// pulse is how c stands with them. The app may want connections to sign in, or to join a channel
// that needs a signature: then they are authorized.
func (c *client) pulse() pulse.Peer {
	return pulse.Peer{Since: c.since, Seen: c.seen, Asked: c.pingTick, Waits: c.pinged,
		Authorized: c.authorized}
}

// handleDeadline does what package pulse says, and asks to be called again.
func (c *client) handleDeadline(now uint32) {
	rules := c.app.settings.Load().rules()
	if rules.Overdue(c.pulse(), now) {
		// After a pause of the whole process what the client has sent may be waiting.
		if c.loop.read(&c.conn); c.state != connOpen {
			return
		}
	}
	verdict, due := rules.Judge(c.pulse(), now)
	c.pinged = verdict == pulse.Ask || verdict == pulse.Waits
	switch verdict {
	case pulse.Unauthorized:
		c.sendError(protocol.NotAuthorized(rules.Authorize))
	case pulse.Silent:
		c.app.hub.reports.Show(c, "Connection Pruned", "")
		c.sendError(protocol.ErrNoPong)
	case pulse.Ask:
		if c.pingTick = now; c.control {
			c.sendPing()
		} else {
			c.sendText(messagePing)
		}
		c.app.hub.reports.Show(c, "Connection Pinged", "")
	}
	c.setDeadline(due)
}

func (c *client) handleDrain() { c.sendError(protocol.ErrRestart) }

// handleClosed removes the client from its app, its address and its channels.
func (c *client) handleClosed(e *ending) {
	for s := range c.subscriptions.All {
		c.app.hub.leave(c, s, true)
	}
	c.subscriptions = subscriptions.Set[*client]{}
	if x := c.identity(); x != nil {
		x.SignOut(c)
		c.extra.identity = nil
	}
	if c.extra != nil {
		c.extra.remote.Leave(&c.app.hub.addresses)
	}
	if c.stage >= counted {
		c.app.connections.Add(-1)
		c.app.hub.engine.Left(c.app)
		if c.stage == admitted {
			c.traffic().Disconnected.Add(1)
		}
	}
	c.app.hub.libraries.Drop(c.library)
	c.app.hub.reports.Ended(c, e.word, int(e.code), c.stage >= counted)
}

// someClients calls yield for clients of a loop whose connections are open, see slots.Table.Some.
// Only the loop calls it. yield may end clients.
func someClients(l *loop, from int, yield func(*client) bool) (next int) {
	return l.conns.Some(from, func(c *conn) bool {
		k, ok := c.handler.(*client)
		return !ok || c.state != connOpen || yield(k)
	})
}

// openClients are the clients of a loop whose connections are open. Only the loop calls it.
func openClients(l *loop) iter.Seq[*client] {
	return func(yield func(*client) bool) { someClients(l, 0, yield) }
}

// endClients sends e, which ends the connection, to those clients of a that concerns accepts. The
// loops call concerns.
func (h *hub) endClients(a *app, e *protocol.Error, concerns func(*client) bool) {
	h.each(func(c *client) {
		if c.app == a && concerns(c) {
			c.sendError(e)
		}
	}, func() {})
}

// each calls visit for the clients whose connections are open, and done for each loop at its end.
// The loops call them.
func (h *hub) each(visit func(*client), done func()) {
	for _, l := range h.loops.all {
		l.post(taskFunc(func() {
			for c := range openClients(l) {
				visit(c)
			}
			done()
		}))
	}
}

// --- Handing over ---
//
// What this file knows of a connection and of an app, as plain data; see internal/handover and the
// section of ws.go with this name.

// give adds the clients of a loop to a batch and sends it. All loops stand still. A connection that
// is being closed, or for which there is no descriptor, ends in the other process at once.
func give(l *loop, to *handover.Batch) error {
	unread := maps.Collect(l.holding.All)
	flush := to.Flush
	var h handover.Connection
	for c := range openClients(l) {
		fd, relayed, ok := l.relay.Pass(c.sock, c.out.Closed(), flush)
		if fd < 0 {
			continue
		}
		h = handover.Connection{Unread: unread[&c.conn], Pieces: h.Pieces[:0],
			Subscriptions: h.Subscriptions[:0]}
		if c.describe(&h); relayed {
			h.Relay = l.group.relays.Number
		}
		if relayed || !ok {
			h.Remote = c.Address()
		}
		err := to.Add(&h, fd)
		if err = cmp.Or(err, l.relay.Sent(flush, false)); err != nil {
			return err
		}
	}
	return l.relay.Sent(flush, true)
}

// describe tells h what c is. Only the loop calls it, while all loops stand still.
func (c *client) describe(h *handover.Connection) {
	h.App, h.Socket, h.PingTick = c.app.id, c.id.Number(), c.pingTick
	h.Library, h.Relay = c.app.hub.libraries.Text(c.library), c.relay
	h.Control, h.Pinged, h.Authorized = c.control, c.pinged, c.authorized
	if x := c.extra; x != nil {
		h.LimitEnd, h.Attempts = x.window.State()
		h.Remote, h.Counted = x.remote.String(), x.remote.Counted()
		if m := x.identity.Member(); m != nil {
			h.User = &handover.User{ID: m.ID, Info: m.Info, Watchlist: x.identity.Watched(c)}
		}
	}
	desk := c.app.hub.desks[c.loop.index]
	h.Subscriptions = c.subscriptions.Describe(h.Subscriptions, desk.Waits)
	c.conn.describe(h, func(from outqueue.Supplier) {
		if s, to, ok := desk.Of(from); ok {
			named := func(v handover.Subscription) bool { return v.Channel == s.Name() }
			piece := handover.Piece{Place: 1 + slices.IndexFunc(h.Subscriptions, named)}
			if j := to.(joiner); j.back != nil {
				piece.Resume = j.back.Value
			}
			h.Pieces = append(h.Pieces, piece)
			return
		}
		add := func(frame []byte) { h.Pieces = append(h.Pieces, handover.Piece{Bytes: frame}) }
		if v, ok := from.(*history.Resent); ok {
			for _, frame := range v.Left() {
				add(frame)
			}
		}
		history.Rest(from, func(b *broadcast) { add(b.forConn(&c.conn)) })
	})
}

// restore takes over client number n of another process, before the loops run, and deals it out to
// a loop. The hub's heirs get what is to be done when all have come.
func (h *hub) restore(n int, v *handover.Connection, fd int) error {
	l := h.loops.all[n%len(h.loops.all)]
	a, known := h.known(v.App)
	c := &client{app: a, id: protocol.SocketIDOf(v.Socket), pingTick: v.PingTick, stage: admitted}
	if c.handler = c; !known { // it is configured no more
		c.app, v.Subscriptions, v.Pieces, v.User = h.nobody, nil, nil, nil
	}
	if err := l.restore(&c.conn, v, fd); err != nil {
		return err
	}
	c.library = h.libraries.Hold(v.Library)
	c.control, c.pinged, c.authorized = v.Control, v.Pinged, v.Authorized
	if v.Remote != "" {
		c.setRemote(v.Remote)
	}
	if v.Counted && c.extra != nil {
		c.extra.remote.Enter(&h.addresses, math.MaxInt)
	}
	if v.Attempts > 0 {
		c.needExtra().window = window.Resume(v.LimitEnd, v.Attempts)
	}
	c.app.connections.Add(1)
	held, err := c.restorePlaces(v)
	if err != nil {
		return err
	}
	c.restoreQueue(v.Pieces, held)
	c.setDeadline(l.now + 1) // the heartbeat looks then what is due
	if !known {
		l.post(taskFunc(func() { c.sendError(protocol.ErrUnknownApp) }))
	}
	return nil
}

// restorePlaces gives c its subscriptions and its user. It returns the subscriptions in the order
// of v.
func (c *client) restorePlaces(v *handover.Connection) (held []*subscription, err error) {
	h, none := c.app.hub, protocol.Name{}
	held, user, err := subscriptions.Restore(&c.subscriptions, h.channels, c.place(none, nil), v,
		func(p place) *subscription { return h.engine.Restore(c.app, p) })
	if user != nil {
		c.needExtra().identity = new(identity)
		watch := c.extra.identity.Restore(c, user, v.User.Watchlist)
		c.app.hub.heirs = append(c.app.hub.heirs, watch)
	}
	return held, err
}

// restoreQueue puts into c's queue what has waited in another process. More than half of what a
// client may let wait is the rest of a replay, which must not close it.
func (c *client) restoreQueue(all []handover.Piece, held []*subscription) {
	var rest [][]byte
	resend := func() {
		if len(rest) > 0 {
			v := history.Resend(c, rest)
			v.At = c.out.Restore(&c.loop.outs, outqueue.Piece{From: v})
			c.touch()
		}
		rest = nil
	}
	for _, v := range all {
		if v.Place > 0 {
			resend()
			s := held[v.Place-1]
			back := c.app.history.Wish(s.Name(), v.Resume, c.id)
			c.app.hub.desks[c.loop.index].Join(s, joiner{c, s, back})
		} else if c.out.Bytes() > maxQueueBytes/2 {
			rest = append(rest, v.Bytes)
		} else {
			c.out.Restore(&c.loop.outs, outqueue.Piece{Bytes: v.Bytes, Cut: v.Cut, Pong: v.Pong})
			c.touch()
		}
	}
	resend()
}

// closeUp is what the hub does when all connections of another process have come. orphan says that
// some may be missing.
func (h *hub) closeUp(orphan bool) {
	h.program.Webhooks().Settle(orphan)
	for _, watch := range h.heirs {
		watch()
	}
	h.heirs = nil
}

// sections are the state of the apps, for another process and from one.
func (h *hub) sections() upgrade.Sections {
	return upgrade.Sections{
		upgrade.Each("app", h.apps, (*app).ID, h.known,
			func(a *app) []byte { return a.counts.State() },
			func(a *app, b []byte) bool { return a.counts.SetState(b) }),
		upgrade.Many("last", h.replica.State, h.replica.SetState),
		upgrade.Records("rings", func(send func([]byte) error) error {
			return h.rings.State(time.Now(), (*broadcast).payload, send)
		}, func(b []byte) bool { return h.rings.SetState(b, time.Now(), h.inherit) }),
		upgrade.One("resumed", h.rings.Figures.State, h.rings.Figures.SetState),
		upgrade.One("leaving", func() []byte { return h.watchlists.State((*app).ID) },
			func(b []byte) bool { return h.watchlists.SetState(b, h.known) }),
		upgrade.Records("hooks", h.program.Webhooks().State, h.program.Webhooks().SetState),
		upgrade.Many("keys", h.api.State, h.api.SetState),
		upgrade.One("closed", h.reports.Closed.State, h.reports.Closed.SetState),
		upgrade.One("refused", h.reports.Refusals.State, h.reports.Refusals.SetState),
	}
}

// --- Hub ---

// hub serves a set of apps.
type hub struct {
	topics.Questions[*app] // constant after newHub

	// constant after newHub
	api        *httpapi.Handler[*app]
	rings      *history.Rings[*broadcast]
	loops      *loops
	channels   *channels.Registry[*client, *broadcast] // every channel with a subscriber
	engine     engine.Engine[*client, *broadcast]
	replica    *replica           // of the engine
	posts      []memberlists.Loop // the loops, as rooms see them
	lists      *memberlists.Lists[moment]
	desks      []*memberlists.Counter[*subscription, moment] // by loop
	watchlists *watchlists.Lists[*app, *client]
	program    program
	reports    *reports.Reports // program's

	taps   watchers.Set[tap, admin.Message]
	heirs  []func() // see closeUp
	nobody *app     // of clients with a key that no app has

	reloadable atomic.Pointer[reloadable] // replaced as a whole by configure
	addresses  addresses.Counter          // of connections that are limited by address
	libraries  intern.Table               // what clients call themselves
	short      atomic.Bool                // memory is short: new subscriptions are refused
}

// program is what a hub asks of the program around it. Peers is called once, when the hub is made;
// any goroutine calls the others.
type program interface {
	Peers(r *replica) peers        // the other nodes; nil: this is the only one
	Prefix() string                // of every path; with a slash in front, or empty
	Full() bool                    // no descriptor is left for a connection
	Detach(nc net.Conn) net.Conn   // the connection as the listener got it
	Remote(r *http.Request) string // the client's address
	Reports() *reports.Reports     // what is told of clients
	Webhooks() *webhooks.Sender    // what applications are told
	Resume() config.Resume         // what channels keep
}

// reloadable has the apps and the limits that a reload can change. A reloadable never changes;
// configure replaces it.
type reloadable struct {
	tenants.Set[*app]
	limits config.Limits
}

// known finds an app, also one that is configured no more, while its connections end.
func (h *hub) known(id string) (a *app, ok bool) { return h.reloadable.Load().Known(id) }

// apps calls yield for every app, those configured no more included.
func (h *hub) apps(yield func(*app) bool) { h.reloadable.Load().All(yield) }

func newHub(apps []*config.App, ls *loops, p program) *hub {
	h := &hub{channels: channels.New[*client, *broadcast](len(ls.all), indexOf), loops: ls,
		program: p, reports: p.Reports(),
		rings: history.New[*broadcast](history.Limits(p.Resume()))}
	for _, l := range ls.all {
		post := func(task func()) { l.post(taskFunc(task)) }
		h.posts = append(h.posts, memberlists.LoopOf(post, ls.began))
	}
	h.openDesks(maxListBytes)
	for _, e := range endings { // metrics begin at zero
		h.reports.Closed.Of(e.word)
	}
	h.reports.Expect(httpapi.Words())
	h.replica = engine.NewReplica(h.channels, h, h.posts, engine.FewSubscribers, engine.CountPause,
		time.Now)
	others := p.Peers(h.replica)
	h.openWatchlists(others)
	h.engine, h.Questions = engine.New(h.replica, others), topics.New[*app](others)
	h.nobody = h.newApp("")
	h.api = httpapi.New(h, time.Now)
	h.reloadable.Store(&reloadable{})
	h.configure(apps, config.Limits{RequestSize: 10_000, AuthWindow: 600 * time.Second})
	return h
}

// configure puts apps and limits in force. An app that stays keeps its connections; an app that is
// not configured any more loses them.
func (h *hub) configure(apps []*config.App, limits config.Limits) {
	old := h.reloadable.Load()
	t := &reloadable{old.Next(), limits}
	for _, configured := range apps {
		a, known := old.Known(configured.ID)
		if !known {
			a = h.newApp(configured.ID)
		}
		a.settings.Store(&settings{App: configured})
		a.hooks.Configure(configured.Account())
		a.history.Configure(configured.Secret, h.life(configured), time.Now())
		a.gone.Store(false)
		t.Put(configured.ID, configured.Key, a)
	}
	h.reloadable.Store(t)
	for id, a := range t.Former {
		if old.ByID[id] != nil {
			a.gone.Store(true) // false again if the app returns before a loop looks
			a.hooks.Configure(webhooks.Account{ID: id})
			a.history.Configure("", 0, time.Now())
			h.endClients(a, protocol.ErrUnknownApp, func(*client) bool { return a.gone.Load() })
		}
	}
}

// inherit makes an event that another process has kept.
func (h *hub) inherit(app string, message []byte, except protocol.SocketID) *broadcast {
	a, _ := h.known(app)
	return a.Event(message, except, time.Now())
}

// life is how long events of an app are kept. The nodes of a cluster keep none: each would number
// them by itself.
func (h *hub) life(a *config.App) time.Duration {
	if h.engine.Later() {
		return 0
	}
	return a.ResumeLife
}

// Open is part of httpapi.Backend. A client that is not welcome learns so over the WebSocket,
// because its library looks there.
func (h *hub) Open(r *http.Request, key string) (adopt func(nc net.Conn, early []byte)) {
	t := h.reloadable.Load()
	a, known := t.ByKey[key]
	if !known {
		a = h.nobody
	}
	c := &client{app: a, id: protocol.NewSocketID()}
	c.handler = c
	var refuse *protocol.Error
	switch {
	case h.program.Full():
		refuse = protocol.ErrOverCapacity
	case !known:
		refuse = protocol.ErrUnknownApp
	case !origin.Match(a.settings.Load().AllowedOrigins, r.Header.Get("Origin")):
		refuse = protocol.ErrOrigin
	}
	if refuse != nil {
		c.needExtra().refuse = refuse
		h.reports.TurnedAway(refuse.Word, journal.About{App: a.id, Remote: h.program.Remote(r),
			Origin: r.Header.Get("Origin"), Code: refuse.Code},
			refuse.Message+", for the key "+show.Text(key))
	}
	if known {
		c.maxMessage = int32(a.settings.Load().MaxMessageSize) // at most 64 MiB
	}
	extensions := deflate.Answer(r.Header["Sec-Websocket-Extensions"], t.limits.Compression)
	c.deflate = extensions != ""
	first := handshake.Append(nil, r.Header.Get("Sec-WebSocket-Key"), extensions,
		"X-Powered-By: Laravel Reverb\r\n")
	return func(nc net.Conn, early []byte) {
		c.library = h.libraries.Hold(journal.Library(r))
		nc = h.program.Detach(nc) // what the listener has wrapped; see loops.sockets
		if remote := h.program.Remote(r); t.limits.PerAddress > 0 || remote != poll.PeerAddr(nc) {
			c.setRemote(remote)
		}
		h.loops.adopt(&c.conn, nc, first, early)
	}
}

// --- Short of memory ---

// relief is what it takes to make room: it closes connections for which much waits, and holds the
// apps for whose connections most waits.
func (h *hub) relief() memory.Relief[*app, *client] {
	return memory.Relief[*app, *client]{Loops: len(h.loops.all), Owners: h.apps,
		Post: func(loop int, task func()) { h.loops.all[loop].post(taskFunc(task)) },
		Look: func(loop int, add func(*app, *client, int)) {
			for c := range openClients(h.loops.all[loop]) {
				if c.app != h.nobody {
					add(c.app, c, c.out.Bytes())
				}
			}
		},
		Late: func(a *app) bool { return a.undelivered.Load() > maxUndelivered/16 },
		Hold: func(a *app, held bool) { a.held.Store(held) },
		Shed: func(c *client) { c.loop.post(taskFunc(c.shedQueue)) }}
}

// shedQueue ends the connection if much waits for it still: it may have read meanwhile.
func (c *client) shedQueue() {
	if c.out.Bytes() >= memory.ShedBytes {
		c.shed(endMemory)
	}
}

// --- HTTP API ---
//
// What the routes of httpapi do. Package httpapi reads the requests and writes the answers. Its
// Backend is made of these methods and of hub.Questions.

// ServeHTTP serves the API and the WebSocket.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.api.ServeHTTP(w, r) }

var (
	_ httpapi.Backend[*app] = (*hub)(nil)
	_ httpapi.Sender[*app]  = (*hub)(nil)
)

func (h *hub) Settings() httpapi.Settings {
	t := h.reloadable.Load()
	return httpapi.Settings{Prefix: h.program.Prefix(), MaxBody: int64(t.limits.RequestSize),
		AuthWindow: t.limits.AuthWindow, KeepKeys: t.limits.KeepKeys, Short: h.short.Load()}
}

func (h *hub) App(id string) (a *app, ok bool) {
	a, ok = h.reloadable.Load().ByID[id]
	return a, ok
}

func (h *hub) Credentials(a *app) protocol.Credentials { return a.settings.Load().credentials() }

func (h *hub) Signed(a *app, received, sent int) { a.counts.CountSigned(received, sent) }

func (h *hub) Refused(r *http.Request, v httpapi.Refusal) {
	h.reports.TurnedAway(v.Word,
		journal.About{App: v.App, Remote: h.program.Remote(r), Code: v.Status}, v.Line)
}

func (h *hub) Answered(r *http.Request, how httpapi.Answered) {
	if log := h.reports.Log(); log.Requests() {
		about := journal.About{App: how.App, Remote: h.program.Remote(r), Code: how.Status}
		log.Request(r, about, how.Bytes, how.Took)
	}
}

func (h *hub) Publish(ctx context.Context, a *app, events []protocol.Publish, key *retries.Claim,
	now time.Time) (all [][]protocol.Stats, bad *protocol.Problem) {
	return httpapi.Publish(ctx, h, a, events, key, now)
}

// What httpapi.Publish needs, with Behind and hub.Questions.
func (h *hub) Turnstile(a *app) turnstile.Turnstile { return a.turnstile }
func (h *hub) Later() bool                          { return h.engine.Later() }

func (h *hub) Begin(a *app, events, channels int) (answers chan error) {
	a.counts.Events.Add(uint64(events))
	return h.engine.Answers(channels)
}

func (h *hub) Send(a *app, e *protocol.Publish, name protocol.Name, now time.Time,
	key *retries.Step, answers chan<- error) (here protocol.Stats, later bool) {
	b := newEventBroadcast(a, e.Name, e.Data, name.String(), "", e.Except, now,
		!name.Kind().User && a.history.Keeps(name.String()))
	here, later = h.engine.Publish(a, name, b, true, key, answers)
	h.reports.Published(a.id, name.String(), e.Name, b.payload())
	return here, later
}

// --- Operators ---
//
// What the room operator asks of apps and clients.

var (
	_ operator.Source = operators{}
	_ reports.Peer    = (*client)(nil)
)

// operators is the hub as operators look at it.
type operators struct{ *hub }

// Loops is part of operator.Source.
func (o operators) Loops() int { return len(o.loops.all) }

// Slice is part of operator.Source.
func (o operators) Slice(loop, from int, visit func(operator.Peer) bool, done func(int)) bool {
	l := o.loops.all[loop]
	return l.post(taskFunc(func() {
		done(someClients(l, from, func(c *client) bool { return visit(c) }))
	}))
}

// Channels is part of operator.Source.
func (o operators) Channels(id, prefix string,
	yield func(app, name string, s protocol.Stats, events uint64) bool) {
	of := (*channels.App[*client])(nil) // of all apps
	if a, ok := o.known(id); ok {
		of = a.channels
	} else if id != "" {
		return
	}
	o.channels.Rows(of, prefix, time.Now(), yield)
}

// Members is part of operator.Source.
func (o operators) Members(id string, name protocol.Name,
	yield func(app string, all []*protocol.Member)) {
	for a := range o.apps {
		if id == "" || a.id == id {
			yield(a.id, a.Users(name))
		}
	}
}

func (c *client) AppID() string                 { return c.app.id }
func (c *client) ID() protocol.SocketID         { return c.id }
func (c *client) SubscribedTo(name string) bool { return c.find([]byte(name)) != nil }
func (c *client) Traced() *uint8                { return &c.traced }
func (c *client) Kick(e *protocol.Error)        { c.sendError(e) }

// Address is the client's, with or without a port.
func (c *client) Address() string {
	if c.extra != nil && !c.extra.remote.Empty() {
		return c.extra.remote.String()
	}
	return c.remoteAddr()
}

// IsUser says whether the client is signed in as a user or on a presence channel as the user, or
// asks to be.
func (c *client) IsUser(id string) bool {
	m := c.identity().Only()
	return m != nil && m.ID == id || c.waits().HasMember(id) || c.subscriptions.HasUser(id)
}

func (c *client) Describe() operator.Connection {
	since := c.loop.group.began.Add(time.Duration(c.since) * time.Second)
	row := operator.Connection{App: c.app.id, Socket: c.id.String(), Address: c.Address(),
		Since: since, Idle: int64(c.silence() / time.Second),
		Waiting: c.out.Bytes(), Subscriptions: c.countSubscriptions(),
		Library: c.app.hub.libraries.Text(c.library), User: c.subscriptions.User()}
	row.In, row.Out = c.Bytes()
	if m := c.identity().Member(); m != nil {
		row.User = m.ID
	}
	return row
}

// --- Figures ---

// watch shows what is sent on a channel of an app, see admin.App.
func (h *hub) watch(a *app, channel string) (out <-chan admin.Message, stop func(), ok bool) {
	return h.taps.Watch(tap{a, channel})
}

// figures adds to s what the hub has counted, and how it stands.
func (h *hub) figures(s *admin.Snapshot) {
	byID := h.reloadable.Load().ByID
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		s.Apps = append(s.Apps, byID[id].figures())
	}
	s.API = h.api.Durations()
	s.Resumed = admin.Resumed{Recovered: h.rings.Recovered.Load(), Not: h.rings.Not(),
		Replayed: h.rings.Replayed.Load(), Bytes: h.rings.Bytes()}
	s.Spool = (*admin.Spool)(h.program.Webhooks().SpoolFigures())
	s.Closed, s.Refused = h.reports.Closed.Counts(), h.reports.Refusals.Counts()
	s.Full = h.program.Full()
	s.Behind = admin.Behind{Loops: h.loops.load.Overloaded(), Memory: h.loops.load.Crowded(),
		Redis: h.engine.Behind()}
}

// figures are what has been counted of an app.
func (a *app) figures() admin.AppFigures {
	f := admin.AppFigures{ID: a.id, Connections: a.connections.Load(),
		Undelivered: a.undelivered.Load()}
	f.Hooks, f.Absent = a.hooks.Figures()
	f.Keys, f.Repeated, f.KeysDropped = a.hub.api.Keys(a.id)
	a.counts.Add(&f)
	return f
}
