package channels

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"reverb/internal/lib/buckets"
	"reverb/internal/protocol"
)

var now0 = time.Unix(1_800_000_000, 0)

// channelName is the name of a channel that is known to be one.
func channelName(s string) protocol.Name {
	name, err := protocol.ParseName(s)
	if err != nil {
		panic(err)
	}
	return name
}

// event is an event of a test, which notes that it was posted.
type event struct {
	w      *world        // nil: there is none
	out    []chan *event // by loop; nil: none is told
	at     spot
	number int
	size   int
	posted int
	to     Audience[*conn]
	places [loops]int32
	keep   func() // nil: nobody asks
}

func (e *event) Keep(string, bool, time.Time) {
	if e.keep != nil {
		e.keep()
	}
}

func (e *event) Payload() []byte { return []byte(strconv.Itoa(e.number)) }
func (e *event) Size() int       { return e.size }

func (e *event) Post(channel string, to Audience[*conn], on []int32) {
	e.posted++
	e.to = to
	copy(e.places[:], on)
	if e.w != nil {
		e.w.post(channel, e)
	}
	for l, out := range e.out {
		if on[l] > 0 {
			out <- e
		}
	}
}

// --- The model ---

const loops = 3

// spot names a channel of an app.
type spot struct {
	app  int
	name string
}

// world is a registry with loops that do what they are told, and beside it all that is to come
// of it, kept in the plainest way.
type world struct {
	t         *testing.T
	rng       *rand.Rand
	r         *Registry[*conn, *event]
	apps      []*App[*conn]
	spots     []spot // the channels
	clustered bool
	now       time.Time
	conns     []*conn
	ids       uint64
	events    int
	inbox     [loops][]func()
	flows     [loops][2][]*event // of each app

	subs   map[spot][]*sub // in no order
	people map[spot][]*person
	last   map[spot]remembered
	kept   map[spot]bool // channels that the cluster has not dropped
	counts [2][protocol.Kinds]Counts
	told   []string // what the watchers of the apps were told
}

// watch is what NewApp calls.
// watch is told what happens to an app.
type watch struct {
	of  *world
	app int
}

func (v watch) Changed(channel, user string, gone, vanished bool) {
	v.of.watch(v.app, channel, user, gone, vanished)
}

func (v watch) Restored(channel, user string) {
	v.of.told = append(v.of.told, fmt.Sprint("restored ", channel, " ", user))
}

func (w *world) watch(app int, channel, user string, gone, vanished bool) {
	if sh, _ := w.r.place(w.apps[app], channel); sh.mu.TryLock() {
		w.fatalf("the watcher is told outside of the lock")
	}
	w.told = append(w.told, changed(spot{app, channel}, user, gone, vanished))
}

func changed(at spot, user string, gone, vanished bool) string {
	return fmt.Sprint(at, " ", user, " ", gone, " ", vanished)
}

// wantTold compares what the watchers were told since the last call.
func (w *world) wantTold(want []string) {
	w.t.Helper()
	if !slices.Equal(w.told, want) {
		w.fatalf("the watcher was told %q, want %q", w.told, want)
	}
	w.told = nil
}

// sub is a subscription, or the wish for one.
type sub struct {
	conn     *conn
	at       spot
	user     string
	s        *Subscription[*conn] // nil: it is not attached
	gone     bool                 // unsubscribed before
	deaf     bool                 // waits for its list
	expected []*event             // is to hear these, in this order
}

// person is a member.
type person struct {
	id, info    string
	connections int
}

type remembered struct {
	number int
	until  time.Time
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf(format, args...)
}

func (w *world) name(at spot) protocol.Name { return channelName(at.name) }
func kindOf(at spot) protocol.Kind          { return channelName(at.name).Kind() }

func (w *world) count(at spot) *Counts { return &w.counts[at.app][kindOf(at).Index()] }

func (w *world) event(at spot) *event {
	w.events++
	return &event{w: w, at: at, number: w.events, size: 100}
}

// post is called by the registry for an event.
func (w *world) post(channel string, e *event) {
	if channel != e.at.name {
		w.fatalf("event %d of %s was posted on %s", e.number, e.at.name, channel)
	}
	if sh, _ := w.r.place(w.apps[e.at.app], channel); sh.mu.TryLock() {
		w.fatalf("event %d was posted outside of the lock", e.number)
	}
	for l := range loops {
		if e.places[l] > 0 {
			w.inbox[l] = append(w.inbox[l],
				func() { w.flows[l][e.at.app] = append(w.flows[l][e.at.app], e) })
		}
	}
}

// expects notes that an event is for all that can hear it but one.
func (w *world) expects(e *event, except *conn) {
	for _, s := range w.subs[e.at] {
		if !s.gone && !s.deaf && s.conn != except {
			s.expected = append(s.expected, e)
		}
	}
}

// wantPosted compares how often an event was posted, and for how many places on each loop.
func (w *world) wantPosted(e *event, want int, places []*sub) {
	w.t.Helper()
	var on [loops]int32
	for _, s := range places {
		on[s.conn.loop]++
	}
	if e.posted != want || want > 0 && e.places != on {
		w.fatalf("event %d on %s was posted %d times for %v places, want %d, %v", e.number,
			e.at.name, e.posted, e.places, want, on)
	}
}

func (w *world) person(at spot, id string) *person {
	for _, p := range w.people[at] {
		if p.id == id {
			return p
		}
	}
	return nil
}

// addPerson counts a connection of a user. first says that it is the only one.
func (w *world) addPerson(at spot, m *protocol.Member) (first bool) {
	if p := w.person(at, m.ID); p != nil {
		p.connections++
		return false
	}
	w.people[at] = append(w.people[at], &person{m.ID, string(m.Info), 1})
	return true
}

func (w *world) removePerson(at spot, id string) (last bool) {
	p := w.person(at, id)
	if p == nil {
		return false
	}
	if p.connections--; p.connections > 0 {
		return false
	}
	w.people[at] = slices.DeleteFunc(w.people[at], func(o *person) bool { return o == p })
	return true
}

func (w *world) newConn() *conn {
	w.ids++
	return &conn{id: protocol.SocketIDOf(w.ids), loop: w.rng.IntN(loops), subs: map[spot]*sub{}}
}

func (w *world) member() *protocol.Member {
	return protocol.NewMember(strconv.Itoa(w.rng.IntN(6)), strconv.Itoa(w.rng.IntN(1000)))
}

// --- What happens ---

func (w *world) subscribe(c *conn, at spot) {
	if old := c.subs[at]; old != nil {
		w.rejoin(old)
		return
	}
	kind, limit := kindOf(at), w.rng.IntN(5)
	s := &sub{conn: c, at: at, deaf: kind.Presence}
	p := &Place[*conn, *event]{App: w.apps[at.app], Name: w.name(at), Conn: c, Loop: c.loop}
	full := false
	if kind.Presence {
		p.Member = w.member()
		s.user = p.Member.ID
		full = limit > 0 && len(w.people[at]) >= limit && w.person(at, s.user) == nil
	}
	if w.clustered {
		if kind.Presence && w.r.Admits(p, limit) == full {
			w.fatalf("%s admits user %s: %v, of %d with a limit of %d", at.name, s.user, full,
				len(w.people[at]), limit)
		}
		w.reserve(s, p)
		return
	}
	there, added := w.subs[at], w.event(at)
	got, refused := w.r.Join(p, limit, added, w.now)
	if refused != full {
		w.fatalf("user %s is refused on %s: %v, of %d with a limit of %d", s.user, at.name, refused,
			len(w.people[at]), limit)
	}
	if full {
		w.wantPosted(added, 0, nil)
		return
	}
	told, changes := 0, []string(nil)
	if len(there) == 0 {
		changes = append(changes, changed(at, "", false, false))
	}
	if kind.Presence && w.addPerson(at, p.Member) {
		changes = append(changes, changed(at, s.user, false, false))
		if len(there) > 0 {
			told = 1
			w.expects(added, nil)
		}
	}
	w.wantTold(changes)
	w.wantPosted(added, told, there)
	s.s = got
	w.took(s, p)
}

// reserve is subscribe where the cluster has let in.
func (w *world) reserve(s *sub, p *Place[*conn, *event]) {
	posted := 0
	w.r.Reserve(p, w.now, func() {
		posted++
		if sh, _ := w.r.place(p.App, s.at.name); sh.mu.TryLock() {
			w.fatalf("the loop is told outside of the lock")
		}
		w.inbox[s.conn.loop] = append(w.inbox[s.conn.loop], func() {
			if s.s = w.r.Attach(p); s.gone {
				w.giveUp(s)
			}
		})
	})
	if posted != 1 {
		w.fatalf("the loop was told %d times", posted)
	}
	w.kept[s.at] = true
	w.took(s, p)
}

// took notes a place that was reserved.
func (w *world) took(s *sub, p *Place[*conn, *event]) {
	n := w.count(s.at)
	if n.Subscribed++; len(w.subs[s.at]) == 0 {
		n.Occupied++
	}
	w.subs[s.at] = append(w.subs[s.at], s)
	s.conn.subs[s.at] = s
	w.wantLast(s.at, p.Last)
}

// wantLast compares the last event that a subscriber is told of.
func (w *world) wantLast(at spot, got *event) {
	w.t.Helper()
	kind, want := kindOf(at), 0
	if last, ok := w.last[at]; ok && w.now.Before(last.until) && kind.Cache && !kind.Presence {
		want = last.number
	}
	if got == nil && want != 0 || got != nil && got.number != want {
		w.fatalf("the last event of %s is %+v, want %d", at.name, got, want)
	}
}

func (w *world) rejoin(s *sub) {
	if s.s == nil {
		return
	}
	var m *protocol.Member
	if s.user != "" {
		m = protocol.NewMember(s.user, strconv.Itoa(w.rng.IntN(1000)))
		if p := w.person(s.at, s.user); !w.clustered && p.connections == 1 {
			p.info = string(m.Info)
		}
	}
	w.wantLast(s.at, w.r.Rejoin(s.s, m, !w.clustered, w.now))
	if s.s.Member() != m {
		w.fatalf("%+v is not the member", s.s.Member())
	}
}

func (w *world) unsubscribe(s *sub) {
	s.gone, s.expected = true, nil
	delete(s.conn.subs, s.at)
	switch {
	case s.s == nil: // when its loop has attached it
	case w.clustered:
		w.giveUp(s)
	default:
		w.leave(s)
	}
}

func (w *world) disconnect(c *conn) {
	for _, at := range w.spots {
		if s := c.subs[at]; s != nil {
			w.unsubscribe(s)
		}
	}
}

func (w *world) leave(s *sub) {
	removed, told, changes := w.event(s.at), 0, []string(nil)
	vanished := w.rng.IntN(2) == 0
	w.r.Leave(s.s, removed, vanished)
	w.lost(s)
	if s.user != "" && w.removePerson(s.at, s.user) {
		changes = append(changes, changed(s.at, s.user, true, vanished))
		if len(w.subs[s.at]) > 0 {
			told = 1
			w.expects(removed, nil)
		}
	}
	if len(w.subs[s.at]) == 0 {
		changes = append(changes, changed(s.at, "", true, vanished))
	}
	w.wantTold(changes)
	w.wantPosted(removed, told, w.subs[s.at])
}

func (w *world) giveUp(s *sub) {
	w.r.GiveUp(s.s)
	w.lost(s)
}

// lost notes a place that was given up.
func (w *world) lost(s *sub) {
	w.subs[s.at] = slices.DeleteFunc(w.subs[s.at], func(o *sub) bool { return o == s })
	n := w.count(s.at)
	if n.Unsubscribed++; len(w.subs[s.at]) == 0 {
		n.Vacated++
		delete(w.subs, s.at)
	}
}

// list gives a subscriber of a presence channel its list.
func (w *world) list(s *sub) {
	if s.s == nil || s.user == "" {
		return
	}
	look := w.r.Look(s.s.Members(), true, nil, w.now)
	w.wantPeople(s.at, look.Members)
	if last := w.last[s.at]; kindOf(s.at).Cache &&
		w.now.Before(last.until) != (look.Last != nil && look.Last.number == last.number) {
		w.fatalf("the last event of %s is %+v, want %+v", s.at.name, look.Last, last)
	}
	w.r.Listed(s.s, look.Since)
	w.r.Listed(s.s, 0) // counts once
	s.deaf = false
}

func (w *world) publish(at spot) {
	e, remember := w.event(at), w.rng.IntN(2) == 0
	var except *conn
	id := protocol.SocketID{}
	switch w.rng.IntN(3) {
	case 0:
		except = w.conns[w.rng.IntN(len(w.conns))]
		id = except.id
	case 1:
		id = protocol.SocketIDOf(1 << 40) // on another node
	}
	there := w.subs[at]
	w.expects(e, except)
	if remember && kindOf(at).Cache {
		w.last[at] = remembered{e.number, w.now.Add(lastEventLife)}
	}
	stats := w.r.Publish(w.apps[at.app], w.name(at), e, id, remember, w.now)
	w.wantPosted(e, 1, there)
	w.wantStats(at, stats)
}

// tell lets the cluster tell something of a channel.
func (w *world) tell(at spot) {
	a, name, there := w.apps[at.app], w.name(at), w.subs[at]
	e, told := w.event(at), 0
	switch w.rng.IntN(6) {
	case 0, 1:
		m := w.member()
		w.kept[at] = true
		if kindOf(at).Presence && w.person(at, m.ID) == nil {
			w.addPerson(at, m)
			told = 1
			w.expects(e, nil)
		}
		w.r.Added(a, name, m, e)
	case 2:
		id := w.member().ID
		if w.removePerson(at, id) {
			told = 1
			w.expects(e, nil)
		}
		w.r.Removed(a, name, id, e)
	case 3:
		var members []*protocol.Member
		w.kept[at], w.people[at] = true, nil
		for i := range w.rng.IntN(4) {
			members = append(members, protocol.NewMember(strconv.Itoa(i),
				strconv.Itoa(w.rng.IntN(1000))))
			if kindOf(at).Presence {
				w.addPerson(at, members[i])
			}
		}
		last, life := (*event)(nil), time.Duration(w.rng.IntN(60))*time.Minute
		delete(w.last, at)
		if w.rng.IntN(2) == 0 {
			if last = w.event(at); kindOf(at).Cache {
				w.last[at] = remembered{last.number, w.now.Add(min(life, lastEventLife))}
			}
		}
		w.r.Replace(a, name, members, last, life, w.now)
	case 4:
		if kindOf(at).Cache && w.kept[at] {
			w.last[at] = remembered{e.number, w.now.Add(lastEventLife)}
		}
		w.r.Remember(a, name, e, w.now)
	case 5:
		delete(w.last, at)
		if len(there) == 0 {
			delete(w.kept, at)
			delete(w.people, at)
		}
		w.r.Drop(a, name)
	}
	w.wantPosted(e, told, there)
}

// turn lets a loop do some of its tasks, or go on with an event.
func (w *world) turn(l int) {
	if tasks := w.inbox[l]; len(tasks) > 0 && w.rng.IntN(2) == 0 {
		n := 1 + w.rng.IntN(len(tasks))
		w.inbox[l] = tasks[n:]
		for _, do := range tasks[:n] {
			do()
		}
		return
	}
	flow := &w.flows[l][w.rng.IntN(2)]
	if len(*flow) == 0 {
		return
	}
	e := (*flow)[0]
	part, done := e.to.Next(l, 1+w.rng.IntN(5))
	if done {
		*flow = (*flow)[1:]
	}
	for i := range part {
		if e.to.Hears(&part[i]) {
			w.heard(part[i].Conn, e, l)
		}
	}
}

func (w *world) heard(c *conn, e *event, l int) {
	s := c.subs[e.at]
	if s == nil || c.loop != l || len(s.expected) == 0 || s.expected[0] != e {
		w.fatalf("connection %v on loop %d has heard event %d on loop %d, want %+v", c.id, c.loop,
			e.number, l, s)
	}
	s.expected = s.expected[1:]
}

// --- What is compared ---

func (w *world) wantPeople(at spot, got []*protocol.Member) {
	w.t.Helper()
	same := func(m *protocol.Member, p *person) bool {
		return m.ID == p.id &&
			string(m.Info) == p.info
	}
	if !slices.EqualFunc(got, w.people[at], same) {
		w.fatalf("the members of %s are %v, want %v", at.name, got, w.people[at])
	}
}

func (w *world) wantStats(at spot, got protocol.Stats) {
	w.t.Helper()
	subs := w.subs[at]
	want := protocol.Stats{Kind: kindOf(at), Occupied: len(subs) > 0, Subscriptions: len(subs),
		Users: len(w.people[at])}
	if last, ok := w.last[at]; ok && w.now.Before(last.until) {
		want.Cached = []byte(strconv.Itoa(last.number))
	}
	if !reflect.DeepEqual(got, want) {
		w.fatalf("%s is %+v, want %+v", at.name, got, want)
	}
}

// check compares everything.
func (w *world) check() {
	channels := 0
	for i := range w.r.shards {
		channels += w.r.shards[i].channels.Len()
	}
	want := len(w.subs)
	if w.clustered {
		want = len(w.kept)
	}
	if channels != want {
		w.fatalf("%d channels, want %d", channels, want)
	}
	for _, at := range w.spots {
		w.wantStats(at, w.r.Stats(w.apps[at.app], w.name(at), w.now))
		w.wantPeople(at, w.r.Users(w.apps[at.app], w.name(at)))
		w.checkLists(at)
	}
	w.checkRows()
	for app, a := range w.apps {
		if got := a.Counts(); got != w.counts[app] {
			w.fatalf("app %d counts %v, want %v", app, got, w.counts[app])
		}
		prefix := []string{"", "presence-", "private-", "p"}[w.rng.IntN(4)]
		got := occupiedOf(w.r, a, prefix, w.now)
		for at := range w.subs {
			if at.app == app && strings.HasPrefix(at.name, prefix) {
				w.wantStats(at, got[at.name])
				delete(got, at.name)
			}
		}
		if len(got) > 0 {
			w.fatalf("these channels of app %d are occupied too: %v", app, got)
		}
	}
}

// occupiedOf has the occupied channels of an app by name.
func occupiedOf(
	r *Registry[*conn, *event],
	a *App[*conn],
	prefix string,
	now time.Time,
) map[string]protocol.Stats {
	got := map[string]protocol.Stats{}
	r.Rows(a, prefix, now, func(_, name string, s protocol.Stats, _ uint64) bool {
		got[name] = s
		return true
	})
	return got
}

// checkRows compares the rows of all apps.
func (w *world) checkRows() {
	found := map[spot]bool{}
	w.r.Rows(nil, "", w.now, func(app, name string, s protocol.Stats, _ uint64) bool {
		for i, a := range w.apps {
			if at := (spot{i, name}); a.id == app {
				found[at] = true
				w.wantStats(at, s)
			}
		}
		return true
	})
	if len(found) != len(w.subs) {
		w.fatalf("%d rows, want %d", len(found), len(w.subs))
	}
	n := 0
	w.r.Rows(w.apps[0], "p", w.now, func(app, name string, _ protocol.Stats, _ uint64) bool {
		if n++; app != w.apps[0].id || !strings.HasPrefix(name, "p") || n > 1 {
			w.fatalf("got %s of %s, the %dth", name, app, n)
		}
		return false
	})
}

// checkLists compares the lists of a channel with its subscriptions.
func (w *world) checkLists(at spot) {
	sh, _, ch := w.r.lock(w.apps[at.app], at.name)
	defer sh.mu.Unlock()
	if ch == nil {
		return
	}
	var want, places [loops]int
	for _, s := range w.subs[at] {
		if places[s.conn.loop]++; s.s != nil {
			want[s.conn.loop]++
			if here := ch.list(s.conn.loop)[s.s.index]; here.sub != s.s || here.Conn != s.conn {
				w.fatalf("a subscription to %s is not where it should be", at.name)
			}
		}
	}
	for l := range loops {
		if got, n := ch.list(l), ch.placesLocked(l); len(got) != want[l] || int(n) != places[l] {
			w.fatalf("%s has %d subscribers and %d places on loop %d, want %d and %d", at.name,
				len(got), n, l, want[l], places[l])
		}
	}
}

// --- The tests ---

// TestModel compares a registry with a plain one while connections subscribe, unsubscribe and end,
// events are published, and loops go on with them: which channels are occupied, what is counted,
// who is a member, who is told of whom, and who hears which events.
func TestModel(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { playModel(t, seed, seed%2 == 1) })
		if t.Failed() {
			return
		}
	}
}

func playModel(t *testing.T, seed uint64, clustered bool) {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 16)), r: New[*conn, *event](loops, indexOf),
		clustered: clustered, now: now0,
		subs: map[spot][]*sub{}, people: map[spot][]*person{}, last: map[spot]remembered{},
		kept: map[spot]bool{}}
	for app := range 2 {
		w.apps = append(w.apps, w.r.NewApp(strconv.Itoa(app), watch{w, app}))
		for _, name := range []string{"plain", "private-x", "cache-c", "presence-p",
			"presence-cache-q"} {
			w.spots = append(w.spots, spot{app, name})
		}
	}
	for range 30 {
		w.conns = append(w.conns, w.newConn())
	}
	for step := range 1500 {
		i := w.rng.IntN(len(w.conns))
		c, at := w.conns[i], w.spots[w.rng.IntN(len(w.spots))]
		switch n := w.rng.IntN(100); {
		case n < 25:
			w.subscribe(c, at)
		case n < 38:
			if s := c.subs[at]; s != nil {
				w.unsubscribe(s)
			}
		case n < 40:
			w.disconnect(c)
			w.conns[i] = w.newConn()
		case n < 42: // the channel empties
			for _, s := range slices.Clone(w.subs[at]) {
				if !s.gone {
					w.unsubscribe(s)
				}
			}
		case n < 50:
			if s := c.subs[at]; s != nil {
				w.list(s)
			}
		case n < 62:
			w.publish(at)
		case n < 70:
			if clustered {
				w.tell(at)
			}
		case n < 72:
			w.now = w.now.Add(time.Duration(w.rng.IntN(20)) * time.Minute)
		default:
			w.turn(w.rng.IntN(loops))
		}
		if step%10 == 0 {
			w.check()
		}
	}
	w.end()
}

// end lets the loops do everything, and ends all connections.
func (w *world) end() {
	work := func() {
		for l := range loops {
			for len(w.inbox[l])+len(w.flows[l][0])+len(w.flows[l][1]) > 0 {
				w.turn(l)
			}
		}
	}
	work()
	for at, subs := range w.subs {
		for _, s := range subs {
			if len(s.expected) > 0 {
				w.fatalf("connection %v on %s has not heard %d events", s.conn.id, at.name,
					len(s.expected))
			}
		}
	}
	for _, c := range w.conns {
		w.disconnect(c)
	}
	work() // tasks that have no receiver any more
	w.check()
	for _, at := range w.spots {
		delete(w.kept, at)
		delete(w.people, at)
		delete(w.last, at)
		w.r.Drop(w.apps[at.app], w.name(at))
	}
	w.check()
}

// Loops and publishers work at the same time. Each event is heard by all that subscribed before
// and have not left, on their loop.
func TestConcurrently(t *testing.T) {
	r := New[*conn, *event](loops, indexOf)
	a, name := r.NewApp("a", nil), channelName("presence-x")
	var publishing, working sync.WaitGroup
	events := make([]chan *event, loops)
	for l := range loops {
		events[l] = make(chan *event, 1000)
	}
	stay := make([]*Subscription[*conn], loops)
	for l := range loops {
		p := &Place[*conn, *event]{App: a, Name: name,
			Conn: &conn{id: protocol.SocketIDOf(uint64(l) + 1)}, Loop: l,
			Member: protocol.NewMember("stays", "")}
		stay[l], _ = r.Join(p, 0, new(event), now0)
		r.Listed(stay[l], 0)
	}
	for range 2 {
		publishing.Go(func() {
			for range 500 {
				r.Publish(a, name, &event{out: events}, protocol.SocketID{}, false, now0)
			}
		})
	}
	for l := range loops {
		working.Go(func() {
			heard := 0
			for e := range events[l] {
				m := protocol.NewMember(strconv.Itoa(l), "")
				s, _ := r.Join(&Place[*conn, *event]{App: a, Name: name, Conn: new(conn), Loop: l,
					Member: m}, 0, new(event), now0)
				for done := false; !done; {
					var part []Subscriber[*conn]
					part, done = e.to.Next(l, 1)
					for i := range part {
						if e.to.Hears(&part[i]) {
							heard++
						}
					}
				}
				r.Leave(s, new(event), false)
				r.Users(a, name)
			}
			if heard != 1000 {
				t.Errorf("loop %d: %d events were heard, want 1,000", l, heard)
			}
		})
	}
	publishing.Wait()
	for l := range loops {
		close(events[l])
	}
	working.Wait()
	for _, s := range stay {
		r.Leave(s, new(event), false)
	}
	if left := occupiedOf(r, a, "", now0); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// Last events are bounded by their number and by their bytes.
func TestLastEventsAreBounded(t *testing.T) {
	for _, c := range []struct{ size, fit int }{{100, maxLastEvents}, {maxLastBytes / 2, 2}} {
		r := New[*conn, *event](1, indexOf)
		a := r.NewApp("a", nil)
		for i := range c.fit + 1 {
			r.Publish(a, channelName("cache-"+strconv.Itoa(i)), &event{size: c.size},
				protocol.SocketID{}, true, now0)
		}
		for i := range c.fit + 1 {
			if got := r.Stats(a, channelName("cache-"+strconv.Itoa(i)),
				now0); (got.Cached != nil) != (i > 0) {
				t.Fatalf("event %d of %d is remembered: %v", i, c.fit, i == 0)
			}
		}
	}
}

// The last events of one app do not push out those of another.
func TestLastEventsOfAnotherApp(t *testing.T) {
	r := New[*conn, *event](1, indexOf)
	one, other := r.NewApp("one", nil), r.NewApp("other", nil)
	publish := func(a *App[*conn], channel string, size int) {
		e := &event{size: size}
		r.Publish(a, channelName(channel), e, protocol.SocketID{}, true, now0)
	}
	kept := func(a *App[*conn], channel string) bool {
		return r.Stats(a, channelName(channel), now0).Cached != nil
	}
	publish(one, "cache-1", 100)
	for i := range 3 {
		publish(other, "cache-"+strconv.Itoa(i), maxLastBytes/2)
	}
	if !kept(one, "cache-1") || !kept(other, "cache-2") || kept(other, "cache-0") {
		t.Errorf("kept of one app: %v; of the other the newest: %v, the oldest: %v",
			kept(one, "cache-1"), kept(other, "cache-2"), kept(other, "cache-0"))
	}
}

// No connection can be subscribed to a channel with a reserved name, and no event is posted there.
func TestReservedNames(t *testing.T) {
	r := New[*conn, *event](1, indexOf)
	a := r.NewApp("a", nil)
	e, problem := protocol.ParsePublish(
		[]byte(`{"name":"e","data":"x","channel":"#other"}`))
	if problem != nil {
		t.Fatal(problem)
	}
	posted := new(event)
	if got := r.Publish(a, e.Channels[0], posted, protocol.SocketID{}, true,
		now0); !reflect.DeepEqual(got, protocol.Stats{}) || posted.posted != 0 {
		t.Errorf("got %+v, posted %d times", got, posted.posted)
	}
	if got := r.Stats(a, e.Channels[0], now0); !reflect.DeepEqual(got, protocol.Stats{}) {
		t.Errorf("got %+v", got)
	}
}

// moment is an Ask of a test.
type moment func()

func (m moment) Moment(time.Time) { m() }

// An event is kept, and a subscriber's moment is noted, under the lock that orders them; an event
// is kept before anybody has it.
func TestMoments(t *testing.T) {
	r := New[*conn, *event](1, indexOf)
	a := r.NewApp("a", nil)
	var told []string
	note := func(what, channel string) func() {
		return func() {
			if sh, _ := r.place(a, channel); sh.mu.TryLock() {
				t.Errorf("%s of %s outside of the lock", what, channel)
				sh.mu.Unlock()
			}
			told = append(told, what)
		}
	}
	for _, channel := range []string{"x", "cache-x", "presence-x"} {
		p := &Place[*conn, *event]{App: a, Name: channelName(channel), Conn: &conn{},
			Member: &protocol.Member{ID: "1"}, Ask: moment(note("moment", channel))}
		s, _ := r.Join(p, 0, nil, now0)
		if channel == "presence-x" {
			r.Look(s.Members(), false, p.Ask, now0)
		}
		e := new(event)
		e.keep = func() {
			if note("kept", channel)(); e.posted > 0 {
				t.Errorf("an event of %s is kept when it has gone out", channel)
			}
		}
		r.Publish(a, p.Name, e, protocol.SocketID{}, false, now0)
	}
	if got := strings.Join(told, " "); got != "moment kept moment kept moment kept" {
		t.Errorf("got %s", got)
	}
}

// Apps that call their channels the same share nothing, and a set finds a subscription by the
// hash that the app tells.
func TestHashes(t *testing.T) {
	r := New[*conn, *event](1, indexOf)
	one, other := r.NewApp("one", nil), r.NewApp("other", nil)
	s, _ := r.Join(&Place[*conn, *event]{App: one, Name: channelName("news"), Conn: new(conn)}, 0,
		nil, now0)
	if got := one.Hash([]byte("news")); got != s.Hash() || got == other.Hash([]byte("news")) {
		t.Errorf("the app says %x, the subscription %x, the other app %x", got, s.Hash(),
			other.Hash([]byte("news")))
	}
	if got := r.Stats(other, channelName("news"), now0); got.Occupied {
		t.Errorf("the other app's channel is %+v", got)
	}
}

// A client can have very many channels to itself.
func TestSizes(t *testing.T) {
	if got := reflect.TypeFor[channel[*conn]]().Size(); got > 96 {
		t.Errorf("a channel takes %d bytes; 96 is a size class", got)
	}
	if got := reflect.TypeFor[Subscription[*conn]]().Size(); got > 32 {
		t.Errorf("a subscription takes %d bytes; 32 is a size class", got)
	}
	if got := reflect.TypeFor[Subscriber[*conn]]().Size(); got > 24 {
		t.Errorf("a subscriber takes %d bytes in a list", got)
	}
}

// subscriber is a connection with subscriptions to channels of its own.
type subscriber struct {
	r *Registry[*conn, *event]
	a *App[*conn]
	c *conn
	buckets.Few[Subscription[*conn], *Subscription[*conn]]
}

func (c *subscriber) join(name string) {
	p := &Place[*conn, *event]{App: c.a, Name: channelName(name), Conn: c.c}
	s, _ := c.r.Join(p, 0, nil, now0)
	c.Add(s)
}

func (c *subscriber) leave(s *Subscription[*conn]) {
	c.r.Leave(s, nil, false)
	c.Remove(s)
}

// The memory that a peer can claim with 60 bytes: a subscription to a channel of its own. It took
// 383 bytes of heap once.
func TestMemoryOfSubscriptions(t *testing.T) {
	r := New[*conn, *event](loops, indexOf)
	a := r.NewApp("a", nil)
	var all []*subscriber
	for range 10 {
		all = append(all, &subscriber{r: r, a: a, c: new(conn)})
	}
	const each = 10_000
	before := liveHeap()
	for i, c := range all {
		for j := range each {
			c.join("a-channel-of-its-own-" + strconv.Itoa(i*each+j))
		}
	}
	if got := (liveHeap() - before) / int64(each*len(all)); got > 190 {
		t.Errorf("a subscription to a channel of its own takes %d bytes, want 190 at most", got)
	}
	for _, c := range all {
		for s := range c.All {
			r.Leave(s, nil, false)
		}
		c.Few = buckets.Few[Subscription[*conn], *Subscription[*conn]]{}
	}
	if got := liveHeap() - before; got > 1<<20 {
		t.Errorf("%d bytes are left of 100,000 subscriptions that are gone", got)
	}
	runtime.KeepAlive(all)
}

// liveHeap is how many bytes of the heap are in use.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // a sync.Pool gives back its contents at the second collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Unsubscribing takes the same time however many subscriptions there are: the chains in which a
// connection and the registry look stay short.
func TestUnsubscribingIsConstantTime(t *testing.T) {
	r := New[*conn, *event](loops, indexOf)
	c := &subscriber{r: r, a: r.NewApp("a", nil), c: new(conn)}
	const n, leaving = 200_000, 5000
	for i := range n {
		c.join(strconv.Itoa(i))
	}
	steps := 0
	for i := range leaving { // the oldest
		name := strconv.Itoa(i)
		s := c.First(c.a.Hash([]byte(name)))
		for ; s.Name() != name; s = *s.Next() {
			steps++
		}
		sh, hash := r.place(c.a, name)
		for ch := sh.channels.First(hash); ch != s.ch; ch = ch.next {
			steps++
		}
		if c.leave(s); r.Stats(c.a, channelName(name), now0).Occupied {
			t.Fatalf("%s is occupied", name)
		}
	}
	if steps > 8*leaving {
		t.Errorf("%d steps to %d of %d subscriptions", steps, leaving, n)
	}
}
