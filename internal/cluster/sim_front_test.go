package cluster

// This file has the layers above a node of the simulation: the real engine and registry of channels
// (packages engine and channels), and two loops. The scheduler moves the tasks of the loops as it
// moves messages on links. So the order of a node's goroutine meets the orders of its loops: a new
// subscriber waits for a loop, events go through a list in parts, and lists of members are read at
// any time.
//
// simFront is the engine's Host, and stands between the engine and the node as the engine's Peers:
// it checks the node's answers on their way. Each seat is a client, and checks what it hears.

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"reverb/internal/channels"
	"reverb/internal/engine"
	"reverb/internal/lib/headcount"
	"reverb/internal/lib/retries"
	"reverb/internal/protocol"
	"reverb/internal/watchlists"
)

// simFront is the part of a process above its node.
type simFront struct {
	s       *simNode
	reg     *channels.Registry[*simSeat, *simCast]
	replica *engine.Replica[*simSeat, *simCast]
	engine  engine.Engine[*simSeat, *simCast]
	apps    map[string]*simApp
	loops   [2]*simLoop
	there   map[string]bool // topics that the registry has a channel for
	joining *simClient      // that the engine is asked about

	lists    *watchlists.Lists[*simApp, *simWatcher]
	watchers []*simWatcher
	watched  map[string]bool      // the topics that watchlists has joined
	goneAt   map[string]time.Time // when a user was last seen to have gone, by topic
}

// simApp is an app of a process.
type simApp struct {
	front    *simFront
	id       string
	channels *channels.App[*simSeat]
}

// simLoop is a loop: its tasks, the events that it has begun with, and the seats that wait for a
// list of members.
type simLoop struct {
	front  *simFront
	inbox  []func()
	events map[string][]*simCast // by app
	claims []*simSeat

	changes []*watchlists.Change[*simApp, *simWatcher] // that watchers are told
}

// simSeat is a client's place on a channel.
type simSeat struct {
	front  *simFront
	client *simClient
	id     uint64 // socket ID
	topic  string
	loop   int
	member *protocol.Member
	waits  engine.Pending[*simSeat, *simCast]
	sub    *channels.Subscription[*simSeat] // nil before the loop has come to it
	closed bool                             // the connection has ended
	listed bool                             // it hears events
	last   string                           // the last event when its place was reserved
	next   int                              // the index in simNode.log of the event that comes next
	view   []string                         // the members, as it was told
	count  int                              // how many are in the topic, as it was told
}

// simCast is an event: one that somebody has published, or that a user has come or gone.
type simCast struct {
	app    *simApp
	text   string
	except protocol.SocketID
	posted time.Time
	topic  string // set by Post
	at     int    // its index in simNode.log
	user   string
	added  bool
	count  int
	to     channels.Audience[*simSeat]
}

// More than simFew members of a topic are told how many they are once in each simPause.
const (
	simFew   = 2
	simPause = 200 * time.Millisecond
)

func newSimFront(s *simNode) *simFront {
	f := &simFront{s: s, apps: map[string]*simApp{}, there: map[string]bool{},
		watched: map[string]bool{}, goneAt: map[string]time.Time{}}
	f.reg = channels.New[*simSeat, *simCast](len(f.loops),
		func(list []channels.Subscriber[*simSeat], id protocol.SocketID) int {
			return slices.IndexFunc(list,
				func(o channels.Subscriber[*simSeat]) bool { return o.Conn.id == id.Number() })
		})
	for _, id := range []string{"a", "b"} {
		f.apps[id] = &simApp{f, id, f.reg.NewApp(id, nil)}
	}
	for i := range f.loops {
		f.loops[i] = &simLoop{front: f, events: map[string][]*simCast{}}
	}
	f.openWatchlists()
	f.replica = engine.NewReplica(f.reg, f, []headcount.Loop{f.loops[0], f.loops[1]},
		simFew, simPause, func() time.Time { return s.w.now })
	f.engine = engine.New(f.replica, f)
	return f
}

// channel is what a topic names.
func (f *simFront) channel(topic string) (*simApp, protocol.Name) {
	app, channel, _ := strings.Cut(topic, ":")
	name, err := protocol.ParseName(channel)
	if err != nil {
		panic(err)
	}
	return f.apps[app], name
}

// --- The engine's host, app and events ---

func (f *simFront) Known(id string) (engine.App[*simSeat, *simCast], bool) {
	a, ok := f.apps[id]
	return a, ok
}

func (f *simFront) Overloaded() bool { return f.s.w.now.Before(f.s.overload) }

func (a *simApp) ID() string                        { return a.id }
func (a *simApp) Channels() *channels.App[*simSeat] { return a.channels }
func (a *simApp) MaxMembers() int                   { return 0 }
func (a *simApp) Open() int64                       { return a.front.s.conns }
func (a *simApp) Terminate(string)                  { a.front.s.ended++ }
func (a *simApp) Counts() bool                      { return true }
func (a *simApp) Counted(protocol.Name, int)        {}

func (a *simApp) Event(message []byte, except protocol.SocketID, at time.Time) *simCast {
	return &simCast{app: a, text: string(message), except: except, posted: at}
}

func (c *simCast) Except() protocol.SocketID    { return c.except }
func (c *simCast) At() time.Time                { return c.posted }
func (c *simCast) Keep(string, bool, time.Time) {}
func (c *simCast) Payload() []byte              { return []byte(c.text) }
func (c *simCast) Size() int                    { return len(c.text) }

// Post gives the event to the loops, and reads what it says of a user.
func (c *simCast) Post(channel string, to channels.Audience[*simSeat], on []int32) {
	f := c.app.front
	c.to, c.topic = to, c.app.id+":"+channel
	c.at = len(f.s.log[c.topic]) - 1
	if strings.HasPrefix(c.text, "{") {
		c.read(channel)
	}
	for i, l := range f.loops {
		if on != nil && on[i] > 0 {
			l.inbox = append(l.inbox, func() { l.events[c.app.id] = append(l.events[c.app.id], c) })
		}
	}
}

// read reads a message that this server itself has for the subscribers of a channel.
func (c *simCast) read(channel string) {
	var m struct{ Event, Channel, Data string }
	err := json.Unmarshal([]byte(c.text), &m)
	_, user, found := strings.Cut(m.Data, `"user_id":"`)
	switch c.user, _, _ = strings.Cut(user, `"`); m.Event {
	case "pusher_internal:member_added":
		c.added = true
	case "pusher_internal:member_removed":
	case "pusher_internal:subscription_count":
		_, err := fmt.Sscanf(m.Data, `{"subscription_count":%d}`, &c.count)
		found = err == nil && c.count > 0
	default:
		found = false
	}
	if err != nil || !found || m.Channel != channel {
		c.app.front.s.fail("members of %s are told %s", c.topic, c.text)
	}
}

// --- The engine's peers ---

// Join checks that a client is let in once, sees itself, and, on a cache channel, has the event
// that Redis had accepted before the client came.
func (f *simFront) Join(topic, user, info string, cache bool, ready func()) {
	s, w, c := f.s, f.s.w, f.joining
	s.asked++
	once := false
	s.n.post(func() {
		if t := s.n.topics[topic]; t != nil && t.Lingers() {
			w.state(comesBack)
		}
	})
	s.n.Join(topic, user, info, cache, func() {
		if once {
			s.fail("%s is let in to %s twice", user, topic)
		}
		once = true
		if s.asked--; !s.alive || c.node != s {
			return
		}
		if user != "" && !slices.Contains(s.view[topic], user) {
			s.fail("%s is let in to %s and does not see itself among %v", user, topic,
				s.view[topic])
		}
		if deaf := s.deaf(topic); deaf != "" {
			s.fail("%s is let in to %s, and %s", user, topic, deaf)
		}
		if place := w.placeOf(topic, s.cached[topic]); w.strict && isCache(topic) &&
			place < c.floor {
			s.fail("a member is let in to %s with the event at %d, when that at %d had been "+
				"accepted", topic, place, c.floor)
		}
		w.tell("node %d: %s is in %s", s.slot, user, topic)
		c.in, f.there[topic] = !c.cancelled, true
		c.seat.last, c.seat.next = s.cached[topic], len(s.log[topic])
		ready()
	})
}

func (f *simFront) Leave(topic, user string, gone bool) { f.s.n.Leave(topic, user, gone) }

// CatchUp checks that the node has then heard what Redis had accepted.
func (f *simFront) CatchUp(topic string, ready func()) {
	s, w := f.s, f.s.w
	s.asked++
	floor := w.accepts[topic]
	s.n.CatchUp(topic, func() {
		if s.asked--; !s.alive {
			return
		}
		if w.strict && isCache(topic) && s.members(topic) > 0 &&
			w.placeOf(topic, s.cached[topic]) < floor {
			s.fail("it has caught up with %s, and lacks what had been accepted", topic)
		}
		ready()
	})
}

// Publish notes the place of an event in the order of Redis when Redis has accepted it.
func (f *simFront) Publish(topic, payload string, except uint64, remember bool, key *retries.Step,
	done func(error)) {
	w := f.s.w
	f.s.asked++
	f.s.n.Publish(topic, payload, except, remember, key, func(err error) {
		if f.s.asked--; remember {
			w.accepts[topic] = max(w.accepts[topic], w.placeOf(topic, payload))
		}
		done(err)
	})
}

func (f *simFront) Behind() bool        { return f.s.n.Behind() }
func (f *simFront) Crowded() bool       { return f.s.n.Crowded() }
func (f *simFront) SetCount(app string) { f.s.n.SetCount(app) }

func (f *simFront) Count(app string, own int64, done func(total int64, err error)) {
	f.s.asked++
	f.s.n.Count(app, own, func(total int64, err error) {
		f.s.asked--
		done(total, err)
	})
}

// --- Seats ---

// seat makes a client's place for a new connection.
func (f *simFront) seat(c *simClient) *simSeat {
	f.s.w.seats++
	return &simSeat{front: f, client: c, id: f.s.w.seats, topic: c.topic,
		loop: f.s.w.rng.IntN(len(f.loops))}
}

// join asks the engine for a client. The node must be asked in turn.
func (f *simFront) join(c *simClient) {
	a, name := f.channel(c.topic)
	v := f.seat(c)
	if c.user != "" {
		v.member = protocol.NewMember(c.user, `{"`+c.user+`":0}`)
	}
	c.seat, f.joining = v, c
	place := channels.Place[*simSeat, *simCast]{App: a.channels, Name: name, Conn: v, Loop: v.loop,
		Member: v.member}
	s, last, full := f.engine.Join(a, place)
	if s != nil || last != nil || full || !v.waits.Has(name.String()) {
		f.s.fail("%s is answered before the cluster has let it in to %s", c.user, c.topic)
	}
}

// Post runs a task on the seat's loop, and notes when the client has left meanwhile.
func (v *simSeat) Post(task func()) {
	l := v.front.loops[v.loop]
	l.inbox = append(l.inbox, func() {
		if task(); v.client.seat == v && v.client.cancelled && v.sub == nil {
			v.front.s.w.state("seat: cancelled before the loop comes to it")
			v.client.node, v.client.seat = nil, nil
		}
	})
}

func (v *simSeat) Open() bool                                   { return !v.closed }
func (v *simSeat) Pending() *engine.Pending[*simSeat, *simCast] { return &v.waits }
func (v *simSeat) Holds(s *channels.Subscription[*simSeat]) bool {
	return v.client.seat == v && v.sub == s
}
func (v *simSeat) Admit(ok bool) { v.front.s.w.state("seat: counted") }

// Joined is told that the cluster has let the client in.
func (v *simSeat) Joined(s *channels.Subscription[*simSeat], last *simCast, _ engine.Ask) {
	l := v.front.loops[v.loop]
	if v.client.cancelled || v.waits.Len() > 0 {
		v.front.s.fail("%s, which has left %s, is let in", v.client.user, v.topic)
	}
	if v.sub = s; s.Kind().Presence {
		l.claims = append(l.claims, v)
		return
	}
	v.listed = true
	v.checkLast(last, v.last)
}

// Rejoined is the answer to rejoin.
func (v *simSeat) Rejoined(s *channels.Subscription[*simSeat], last *simCast) {
	if v.front.s.w.state("seat: joins again"); !s.Kind().Presence {
		v.checkLast(last, v.front.s.cached[v.topic])
	}
}

// rejoin subscribes again: the answer has the last event of a cache channel.
func (v *simSeat) rejoin() {
	a, name := v.front.channel(v.topic)
	last, later := v.front.engine.Rejoin(a, v, v.sub, v.member)
	if later != name.Kind().Cache {
		v.front.s.fail("a member that joins %s again is answered later: %v", v.topic, later)
	}
	if !later {
		v.Rejoined(v.sub, last)
	}
}

// cancel gives up what the cluster is asked for: the client unsubscribes, or its connection ends.
func (v *simSeat) cancel() {
	if v.id%2 == 0 {
		v.closed = true
	} else {
		_, name := v.front.channel(v.topic)
		v.waits.Cancel(name.String())
	}
}

// list answers a member of a presence channel with the list of members.
func (v *simSeat) list() {
	s := v.front.s
	look := v.front.reg.Look(v.sub.Members(), true, nil, s.w.now)
	for _, m := range look.Members {
		v.view = append(v.view, m.ID)
	}
	v.front.reg.Listed(v.sub, look.Since)
	v.listed, v.next = true, len(s.log[v.topic])
	if !slices.Contains(v.view, v.client.user) {
		s.fail("%s gets the list of %s and does not see itself among %v", v.client.user, v.topic,
			v.view)
	}
	v.checkLast(look.Last, s.cached[v.topic])
}

// checkLast compares the last event that the registry has with that which it was told of.
func (v *simSeat) checkLast(last *simCast, want string) {
	got := ""
	if last != nil {
		got = last.text
	}
	if isCache(v.topic) && got != want {
		v.front.s.fail("a member of %s is told that %q was its last event, want %q", v.topic, got,
			want)
	}
}

// leave gives up the place.
func (v *simSeat) leave() {
	f, l := v.front, v.front.loops[v.loop]
	if slices.Contains(l.claims, v) {
		f.s.w.state("seat: leaves before its list")
	}
	l.claims = slices.DeleteFunc(l.claims, func(o *simSeat) bool { return o == v })
	a, _ := f.channel(v.topic)
	f.engine.Leave(a, v.sub, f.s.w.hooked && f.s.w.rng.IntN(2) == 0)
	v.client.seat = nil
}

// Post, After and Now make a simLoop a loop of rooms and leaves.
func (l *simLoop) Post(task func()) { l.inbox = append(l.inbox, task) }

func (l *simLoop) After(d time.Duration, task func()) {
	w := l.front.s.w
	w.later = append(w.later, planned{w.now.Add(d), func() { l.Post(task) }})
}

func (l *simLoop) Now() time.Duration { return l.front.s.w.now.Sub(l.front.s.w.begun) }

// hear checks that the messages of a topic come once, in order, and without a gap; that no user
// comes twice; and that only users who are there go.
func (v *simSeat) hear(c *simCast) {
	s := v.front.s
	if c.count > 0 {
		v.count = c.count
		return
	}
	if c.user != "" {
		i := slices.Index(v.view, c.user)
		if c.added != (i < 0) {
			s.fail("%s, which sees %v in %s, hears of %s; added: %v", v.client.user, v.view,
				v.topic, c.user, c.added)
		}
		if c.added {
			v.view = append(v.view, c.user)
		} else {
			v.view = slices.Delete(v.view, i, i+1)
		}
		return
	}
	if v.skip(); v.next != c.at {
		s.fail("a member of %s gets the event at %d of %v, want that at %d", v.topic, c.at,
			s.log[v.topic], v.next)
	}
	v.next++
}

// skip passes over events that are not for the seat.
func (v *simSeat) skip() {
	log := v.front.s.log[v.topic]
	for v.next < len(log) && v.front.s.w.events[log[v.next]].except == v.id {
		v.next++
		v.front.s.w.state("seat: an event is not for it")
	}
}

// --- Loops ---

// move lets one thing happen on a loop: a task, a part of an event, or an answer with a list.
// which says what is tried first.
func (l *simLoop) move(which int, by uint32) bool {
	if s := l.front.s; !s.alive || s.w.now.Before(s.frozen) {
		return false
	}
	switch which & 3 {
	case 0:
		if len(l.inbox) == 0 {
			return false
		}
		task := l.inbox[0]
		l.inbox = l.inbox[1:]
		task()
	case 1:
		return l.send("a", by)
	case 2:
		return l.send("b", by)
	case 3:
		if len(l.changes) > 0 && (len(l.claims) == 0 || by&1 == 0) {
			l.walk(by >> 1)
			break
		}
		if len(l.claims) == 0 {
			return false
		}
		i := int(by) % len(l.claims)
		v := l.claims[i]
		l.claims = slices.Delete(l.claims, i, i+1)
		v.list()
	}
	return true
}

// send gives an app's event to some of those that it is for.
func (l *simLoop) send(app string, by uint32) bool {
	if len(l.events[app]) == 0 {
		return false
	}
	c := l.events[app][0]
	part, done := c.to.Next(slices.Index(l.front.loops[:], l), 1+int(by%3))
	for i := range part {
		if c.to.Hears(&part[i]) {
			part[i].Conn.hear(c)
		}
	}
	if !done {
		l.front.s.w.state("loop: an event goes out in parts")
	} else {
		l.events[app] = l.events[app][1:]
	}
	return true
}

// --- What holds when things are calm ---

// check checks that every subscriber has heard everything, sees the members, and is counted.
func (f *simFront) check() {
	s := f.s
	for _, c := range s.w.clients {
		if c.node != s {
			continue
		}
		v := c.seat
		if v == nil || !v.listed {
			s.fail("%s is let in to %s, and has no list yet", c.user, c.topic)
		}
		if v.skip(); v.next != len(s.log[c.topic]) {
			s.fail("%s has got %d of the events of %s, want %d", c.user, v.next, c.topic,
				len(s.log[c.topic]))
		}
		if n := s.w.in(c.topic); !isPresence(c.topic) && userOf(c.topic) == "" && v.count != n {
			s.fail("a member of %s was told that they are %d, want %d", c.topic, v.count, n)
		}
		got, want := slices.Sorted(slices.Values(v.view)),
			slices.Sorted(slices.Values(s.view[c.topic]))
		if userOf(c.topic) == "" && !slices.Equal(got, want) {
			s.fail("%s sees %v in %s, want %v", c.user, got, c.topic, want)
		}
	}
	for _, topic := range simTopics[:s.w.topics] {
		a, name := f.channel(topic)
		var users []string
		for _, m := range f.reg.Users(a.channels, name) {
			users = append(users, m.ID)
		}
		if userOf(topic) == "" && !slices.Equal(users, s.view[topic]) {
			s.fail("the registry has %v in %s, want %v", users, topic, s.view[topic])
		}
		stats := f.reg.Stats(a.channels, name, s.w.now)
		if got, want := stats.Subscriptions, s.members(topic); got != want {
			s.fail("the registry counts %d subscriptions of %s, want %d", got, topic, want)
		}
	}
	f.checkWatchers()
}

// checkEmpty: when all have gone, nothing is left, and the counts say so.
func (f *simFront) checkEmpty() {
	for id, a := range f.apps {
		keeps := func(_, name string, _ protocol.Stats, _ uint64) bool {
			f.s.fail("the registry keeps the channel %s of %s", name, id)
			return false
		}
		f.reg.Rows(a.channels, "", f.s.w.now, keeps)
		for _, n := range a.channels.Counts() {
			if n.Subscribed != n.Unsubscribed || n.Occupied != n.Vacated {
				f.s.fail("the registry has counted %+v of %s", n, id)
			}
		}
	}
}
