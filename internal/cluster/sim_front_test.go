package cluster

// This file has the layers above a node of the simulation: the real registry of channels, and two
// loops. The scheduler moves the tasks of the loops as it moves messages on links. So the order of
// a node's goroutine meets the orders of its loops: a new subscriber waits for a loop, events go
// through a list in parts, and lists of members are read at any time.
//
// The way from Replica to registry is that of the root package (pusher.go: "Cluster" and
// "Clustered"), without a connection. Each seat checks what it hears.

import (
	"slices"
	"strings"
	"time"

	"reverb/internal/channels"
	"reverb/internal/protocol"
)

// simFront is the registry of a process, and its loops.
type simFront struct {
	s     *simNode
	reg   *channels.Registry[*simSeat, *simCast]
	apps  map[string]*channels.App[*simSeat]
	loops [2]*simLoop
	there map[string]bool // topics that the registry has a channel for
}

// simLoop is a loop: its tasks, the events that it has begun with, and the seats that wait for a
// list of members.
type simLoop struct {
	front  *simFront
	inbox  []func()
	events map[string][]*simCast // by app
	claims []*simSeat
}

// simSeat is a client's place on a channel.
type simSeat struct {
	front  *simFront
	client *simClient
	id     uint64 // socket ID
	topic  string
	loop   int
	place  channels.Place[*simSeat, *simCast]
	sub    *channels.Subscription[*simSeat] // nil before the loop has come to it
	listed bool                             // it hears events
	next   int                              // the index in simNode.log of the event that comes next
	view   []string                         // the members, as it was told
}

// simCast is what is posted to loops: an event, or that a user has come or gone.
type simCast struct {
	front *simFront
	topic string
	text  string // the event's
	at    int    // its index in simNode.log
	user  string
	added bool
	to    channels.Audience[*simSeat]
}

func newSimFront(s *simNode) *simFront {
	f := &simFront{s: s, apps: map[string]*channels.App[*simSeat]{}, there: map[string]bool{}}
	f.reg = channels.New[*simSeat, *simCast](len(f.loops),
		func(list []channels.Subscriber[*simSeat], id protocol.SocketID) int {
			return slices.IndexFunc(list,
				func(o channels.Subscriber[*simSeat]) bool { return o.Conn.id == id.Number() })
		})
	for _, app := range []string{"a", "b"} {
		f.apps[app] = f.reg.NewApp(app)
	}
	for i := range f.loops {
		f.loops[i] = &simLoop{front: f, events: map[string][]*simCast{}}
	}
	return f
}

// channel is what a topic names.
func (f *simFront) channel(topic string) (*channels.App[*simSeat], protocol.Name) {
	app, channel, _ := strings.Cut(topic, ":")
	name, err := protocol.ParseName(channel)
	if err != nil {
		panic(err)
	}
	return f.apps[app], name
}

// --- Replica ---

func (f *simFront) deliver(topic, payload string, except uint64, remember bool) {
	a, name := f.channel(topic)
	c := &simCast{front: f, topic: topic, text: payload, at: len(f.s.log[topic]) - 1}
	f.reg.Publish(a, name, c, protocol.SocketIDOf(except), remember, f.s.w.now)
}

func (f *simFront) remember(topic, payload string) {
	a, name := f.channel(topic)
	f.reg.Remember(a, name, &simCast{front: f, topic: topic, text: payload}, f.s.w.now)
}

func (f *simFront) added(topic, user, info string) {
	a, name := f.channel(topic)
	f.there[topic] = true
	f.reg.Added(a, name, protocol.NewMember(user, info),
		&simCast{front: f, topic: topic, user: user, added: true})
}

func (f *simFront) removed(topic, user string) {
	a, name := f.channel(topic)
	f.reg.Removed(a, name, user, &simCast{front: f, topic: topic, user: user})
}

func (f *simFront) snapshot(topic string, users, infos []string, cached string,
	life time.Duration) {
	a, name := f.channel(topic)
	members := make([]*protocol.Member, len(users))
	for i, user := range users {
		members[i] = protocol.NewMember(user, infos[i])
	}
	var last *simCast
	if cached != "" {
		last = &simCast{front: f, topic: topic, text: cached}
	}
	f.there[topic] = true
	f.reg.Replace(a, name, members, last, life, f.s.w.now)
}

func (f *simFront) dropped(topic string) {
	a, name := f.channel(topic)
	delete(f.there, topic)
	f.reg.Drop(a, name)
	if left := f.reg.Users(a, name); len(left) > 0 {
		f.s.fail("%s is dropped, and has %d members", topic, len(left))
	}
}

// Post, Payload and Size make a simCast a channels.Event.
func (c *simCast) Post(_ string, to channels.Audience[*simSeat], on []int32) {
	c.to = to
	app, _, _ := strings.Cut(c.topic, ":")
	for i, l := range c.front.loops {
		if on != nil && on[i] > 0 {
			l.inbox = append(l.inbox, func() { l.events[app] = append(l.events[app], c) })
		}
	}
}

func (c *simCast) Payload() []byte { return []byte(c.text) }
func (c *simCast) Size() int       { return len(c.text) }

// --- Seats ---

// reserve gives a client that the node has let in a place; its loop does the rest.
func (f *simFront) reserve(c *simClient) {
	f.s.w.seats++
	a, name := f.channel(c.topic)
	v := &simSeat{front: f, client: c, id: f.s.w.seats, topic: c.topic,
		loop: f.s.w.rng.IntN(len(f.loops))}
	v.place = channels.Place[*simSeat, *simCast]{App: a, Name: name, Conn: v, Loop: v.loop}
	if c.user != "" {
		v.place.Member = protocol.NewMember(c.user, "{"+c.user+"}")
	}
	c.seat, f.there[c.topic] = v, true
	l := f.loops[v.loop]
	f.reg.Reserve(&v.place, f.s.w.now, func() { l.inbox = append(l.inbox, v.attach) })
	if !name.Kind().Presence {
		v.next = len(f.s.log[v.topic])
		v.checkLast(v.place.Last)
	}
}

// attach is the task that makes a subscription of a place.
func (v *simSeat) attach() {
	f := v.front
	v.sub = f.reg.Attach(&v.place)
	switch {
	case v.client.cancelled:
		f.s.w.state("seat: cancelled before the loop comes to it")
		v.client.node = nil
		v.leave()
	case v.sub.Kind().Presence:
		f.loops[v.loop].claims = append(f.loops[v.loop].claims, v)
	default:
		v.listed = true
	}
}

// list answers a member of a presence channel with the list of members.
func (v *simSeat) list() {
	s := v.front.s
	look := v.front.reg.Look(v.sub.Members(), true, s.w.now)
	for _, m := range look.Members {
		v.view = append(v.view, m.ID)
	}
	v.front.reg.Listed(v.sub, look.Since)
	v.listed, v.next = true, len(s.log[v.topic])
	if !slices.Contains(v.view, v.client.user) {
		s.fail("%s gets the list of %s and does not see itself among %v", v.client.user, v.topic,
			v.view)
	}
	v.checkLast(look.Last)
}

// checkLast compares the last event that the registry has with that which it was told of.
func (v *simSeat) checkLast(last *simCast) {
	s, got := v.front.s, ""
	if last != nil {
		got = last.text
	}
	if want := s.cached[v.topic]; isCache(v.topic) && got != want {
		s.fail("a member of %s is told that %q was its last event, want %q", v.topic, got, want)
	}
}

// leave gives up the place.
func (v *simSeat) leave() {
	f, l := v.front, v.front.loops[v.loop]
	if slices.Contains(l.claims, v) {
		f.s.w.state("seat: leaves before its list")
	}
	l.claims = slices.DeleteFunc(l.claims, func(o *simSeat) bool { return o == v })
	f.reg.GiveUp(v.sub)
	f.s.n.Leave(v.topic, v.client.user)
	v.client.seat = nil
}

// rejoin subscribes again: the answer has the last event of a cache channel.
func (v *simSeat) rejoin() {
	l := v.front.loops[v.loop]
	l.inbox = append(l.inbox, func() {
		if v.client.seat == v {
			v.front.s.w.state("seat: joins again")
			if last := v.front.reg.Rejoin(v.sub, v.place.Member, false,
				v.front.s.w.now); !v.sub.Kind().Presence {
				v.checkLast(last)
			}
		}
	})
}

// hear checks that the messages of a topic come once, in order, and without a gap; that no user
// comes twice; and that only users who are there go.
func (v *simSeat) hear(c *simCast) {
	s := v.front.s
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
		got, want := slices.Sorted(slices.Values(v.view)),
			slices.Sorted(slices.Values(s.view[c.topic]))
		if !slices.Equal(got, want) {
			s.fail("%s sees %v in %s, want %v", c.user, got, c.topic, want)
		}
	}
	for _, topic := range simTopics[:s.w.topics] {
		a, name := f.channel(topic)
		var users []string
		for _, m := range f.reg.Users(a, name) {
			users = append(users, m.ID)
		}
		if !slices.Equal(users, s.view[topic]) {
			s.fail("the registry has %v in %s, want %v", users, topic, s.view[topic])
		}
		if got, want := f.reg.Stats(a, name, s.w.now).Subscriptions, s.members(topic); got != want {
			s.fail("the registry counts %d subscriptions of %s, want %d", got, topic, want)
		}
	}
}

// checkEmpty: when all have gone, nothing is left, and the counts say so.
func (f *simFront) checkEmpty() {
	for id, a := range f.apps {
		f.reg.Rows(a, "", f.s.w.now, func(_, name string, _ protocol.Stats, _ uint64) bool {
			f.s.fail("the registry keeps the channel %s of %s", name, id)
			return false
		})
		for _, n := range a.Counts() {
			if n.Subscribed != n.Unsubscribed || n.Occupied != n.Vacated {
				f.s.fail("the registry has counted %+v of %s", n, id)
			}
		}
	}
}
