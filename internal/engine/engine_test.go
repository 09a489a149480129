package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"reverb/internal/channels"
	"reverb/internal/lib/fakenode"
	"reverb/internal/lib/headcount"
	"reverb/internal/lib/retries"
	"reverb/internal/protocol"
)

var now = time.Unix(1_800_000_000, 0)

// house is a program with two apps, whose clients share one loop. What happens is noted.
type house struct {
	t       *testing.T
	reg     *channels.Registry[*guest, *note]
	replica *Replica[*guest, *note]
	engine  Engine[*guest, *note]
	apps    map[string]*tenant
	tasks   []func()
	said    []string
	busy    bool
	timers  []func()
	passed  time.Duration
}

type tenant struct {
	*house
	id    string
	of    *channels.App[*guest]
	limit int // of members

	counts bool
}

// guest is a client with subscriptions by channel.
type guest struct {
	*tenant
	id     protocol.SocketID
	name   string
	subs   map[string]*channels.Subscription[*guest]
	waits  Pending[*guest, *note]
	closed bool
}

// note is an event.
type note struct {
	*tenant
	text   string
	except protocol.SocketID
	at     time.Time
}

// loop is the loop of all clients; its time stands still.
type loop struct{ *house }

func (l loop) Post(task func())                { l.tasks = append(l.tasks, task) }
func (l loop) After(_ time.Duration, f func()) { l.timers = append(l.timers, f) }
func (l loop) Now() time.Duration              { return l.passed }

func newHouse(t *testing.T, peers Peers) *house {
	h := &house{t: t, apps: map[string]*tenant{}}
	h.reg = channels.New[*guest, *note](1,
		func(list []channels.Subscriber[*guest], id protocol.SocketID) int {
			return slices.IndexFunc(list,
				func(s channels.Subscriber[*guest]) bool { return s.Conn.id == id })
		})
	for _, id := range []string{"a", "b"} {
		h.apps[id] = &tenant{house: h, id: id, of: h.reg.NewApp(id, nil)}
	}
	h.replica = NewReplica(h.reg, h, []headcount.Loop{loop{h}}, 2, time.Second,
		func() time.Time { return now })
	h.engine = New(h.replica, peers)
	if node, ok := peers.(*fakenode.Node); ok {
		node.Replica = h.replica
	}
	return h
}

func (h *house) say(format string, args ...any) {
	h.said = append(h.said, fmt.Sprintf(format, args...))
}

// wants compares what was said since the last call.
func (h *house) wants(want ...string) {
	h.t.Helper()
	if got := strings.Join(h.said, "\n"); got != strings.Join(want, "\n") {
		h.t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	h.said = nil
}

// run lets the loop do its tasks.
func (h *house) run() {
	for ; len(h.tasks) > 0; h.tasks = h.tasks[1:] {
		h.tasks[0]()
	}
}

func (h *house) Known(id string) (App[*guest, *note], bool) {
	a, ok := h.apps[id]
	return a, ok
}
func (h *house) Overloaded() bool { return h.busy }

func (a *tenant) ID() string                      { return a.id }
func (a *tenant) Channels() *channels.App[*guest] { return a.of }
func (a *tenant) MaxMembers() int                 { return a.limit }
func (a *tenant) Counts() bool                    { return a.counts }
func (a *tenant) Counted(name protocol.Name, n int) {
	a.say("%s: %d are on %s", a.id, n, name.String())
}
func (a *tenant) Open() int64                     { return 3 }
func (a *tenant) Terminate(user string)           { a.say("%s ends %s", a.id, user) }
func (a *tenant) SignedIn(user string)            { a.say("%s: %s has signed in", a.id, user) }
func (a *tenant) SignedOut(user string)           { a.say("%s: %s has signed out", a.id, user) }
func (a *tenant) Online(user string, online bool) { a.say("%s: %s online: %v", a.id, user, online) }
func (a *tenant) Event(message []byte, except protocol.SocketID, at time.Time) *note {
	if !at.Equal(now) {
		a.t.Errorf("an event of %v", at)
	}
	return &note{a, string(message), except, at}
}

func (n *note) Except() protocol.SocketID    { return n.except }
func (n *note) At() time.Time                { return n.at }
func (n *note) Keep(string, bool, time.Time) {}
func (n *note) Payload() []byte              { return []byte(n.text) }
func (n *note) Size() int                    { return len(n.text) }
func (n *note) Post(channel string, to channels.Audience[*guest], on []int32) {
	if on == nil || on[0] == 0 {
		return
	}
	n.tasks = append(n.tasks, func() {
		for done := false; !done; {
			var part []channels.Subscriber[*guest]
			part, done = to.Next(0, 1)
			for i := range part {
				if to.Hears(&part[i]) {
					n.say("%s hears on %s: %s", part[i].Conn.name, channel, n.text)
				}
			}
		}
	})
}

func (c *guest) Post(task func())                            { c.tasks = append(c.tasks, task) }
func (c *guest) Open() bool                                  { return !c.closed }
func (c *guest) Pending() *Pending[*guest, *note]            { return &c.waits }
func (c *guest) Holds(s *channels.Subscription[*guest]) bool { return c.subs[s.Name()] == s }

func (c *guest) Admit(ok bool) { c.say("%s may stay: %v", c.name, ok) }
func (c *guest) Joined(s *channels.Subscription[*guest], last *note, _ Ask) {
	c.joined("joined", s, last)
}
func (c *guest) Rejoined(s *channels.Subscription[*guest], last *note) {
	c.joined("joined again", s, last)
}

func (c *guest) joined(how string, s *channels.Subscription[*guest], last *note) {
	c.subs[s.Name()] = s
	if s.Kind().Presence {
		c.reg.Listed(s, c.reg.Look(s.Members(), false, nil, now).Since)
	}
	text := "nothing"
	if last != nil {
		text = last.text
	}
	c.say("%s has %s %s, where %s was last", c.name, how, s.Name(), text)
}

func (a *tenant) guest(name string) *guest {
	return &guest{tenant: a, id: protocol.NewSocketID(), name: name,
		subs: map[string]*channels.Subscription[*guest]{}}
}

func channelName(s string) protocol.Name {
	name, err := protocol.ParseName(s)
	if err != nil {
		panic(err)
	}
	return name
}

// join subscribes, as a user where user is not empty.
func (c *guest) join(channel, user string) {
	var m *protocol.Member
	if user != "" {
		m = protocol.NewMember(user, "")
	}
	if s := c.subs[channel]; s != nil {
		if last, later := c.engine.Rejoin(c.tenant, c, s, m); !later {
			c.Rejoined(s, last)
		}
		return
	}
	s, last, full := c.engine.Join(c.tenant, channels.Place[*guest, *note]{App: c.of,
		Name: channelName(channel), Conn: c, Member: m})
	switch {
	case full:
		c.say("%s is full for %s", channel, c.name)
	case s != nil:
		c.Joined(s, last, nil)
	}
}

func (c *guest) leave(channel string) {
	c.engine.Leave(c.tenant, c.subs[channel], false)
	delete(c.subs, channel)
}

func (a *tenant) publish(channel, text string, except *guest, answers chan error) (protocol.Stats,
	bool) {
	n := &note{tenant: a, text: text, at: now}
	if except != nil {
		n.except = except.id
	}
	return a.engine.Publish(a, channelName(channel), n, true, nil, answers)
}

func (a *tenant) subscriptions(channel string) int {
	return a.reg.Stats(a.of, channelName(channel), now).Subscriptions
}

// TestUsers joins the channels of users: the only node counts the connections, and among others
// Redis tells who is online.
func TestUsers(t *testing.T) {
	h := newHouse(t, nil)
	a := h.apps["a"]
	ann, tab := a.guest("ann"), a.guest("tab")
	ann.join("#server-to-user-7", "7")
	tab.join("#server-to-user-7", "7")
	a.publish("#server-to-user-7", "one", tab, nil)
	h.run()
	ann.leave("#server-to-user-7")
	tab.leave("#server-to-user-7")
	h.wants("a: 7 has signed in", "ann has joined #server-to-user-7, where nothing was last",
		"a: 7 has signed in", "tab has joined #server-to-user-7, where nothing was last",
		"ann hears on #server-to-user-7: one", "a: 7 has signed out", "a: 7 has signed out")

	h = newHouse(t, nil)
	r := h.replica
	r.Added("a:#server-to-user-7", "7", "")
	r.Snapshot("a:#server-to-user-a:b", []string{"a:b"}, []string{""}, "", 0)
	r.Snapshot("a:#server-to-user-8", nil, nil, "", 0)
	r.Removed("a:#server-to-user-7", "7")
	r.Dropped("a:#server-to-user-8")
	r.Added("x:#server-to-user-7", "7", "")
	h.wants("a: 7 online: true", "a: a:b online: true", "a: 8 online: false",
		"a: 7 online: false", "a: 8 online: false")
	if n := h.apps["a"].subscriptions("#server-to-user-7"); n != 0 {
		t.Errorf("a watched user's channel has %d subscriptions", n)
	}
}

const added, removed = `{"event":"pusher_internal:member_added","data":"{\"user_id\":\"%s\"}",` +
	`"channel":"%s"}`,
	`{"event":"pusher_internal:member_removed","data":"{\"user_id\":\"%s\"}","channel":"%s"}`

func TestAlone(t *testing.T) {
	h := newHouse(t, nil)
	a := h.apps["a"]
	a.limit = 2
	ann, bob, cid := a.guest("ann"), a.guest("bob"), a.guest("cid")
	if h.engine.Heard(a, channelName("cache-x")) {
		t.Error("somebody hears a channel that nobody has joined")
	}
	ann.join("cache-x", "")
	a.publish("cache-x", "one", ann, nil)
	bob.join("cache-x", "")
	stats, later := a.publish("cache-x", "two", ann, nil)
	if later || stats.Subscriptions != 2 || string(stats.Cached) != "two" {
		t.Errorf("got %+v, later %v", stats, later)
	}
	h.run()
	ann.join("cache-x", "")
	h.wants("ann has joined cache-x, where nothing was last",
		"bob has joined cache-x, where one was last", "bob hears on cache-x: two",
		"ann has joined again cache-x, where two was last")
	if !h.engine.Heard(a, channelName("cache-x")) || h.engine.Heard(h.apps["b"],
		channelName("cache-x")) {
		t.Error("the channel is heard in the wrong app")
	}

	ann.join("presence-p", "1")
	bob.join("presence-p", "2")
	cid.join("presence-p", "3") // one too many
	cid.join("presence-p", "2")
	h.run()
	bob.leave("presence-p")
	cid.leave("presence-p")
	h.run()
	h.wants("ann has joined presence-p, where nothing was last",
		"bob has joined presence-p, where nothing was last", "presence-p is full for cid",
		"cid has joined presence-p, where nothing was last",
		"ann hears on presence-p: "+fmt.Sprintf(added, "2", "presence-p"),
		"ann hears on presence-p: "+fmt.Sprintf(removed, "2", "presence-p"))

	h.engine.Enter(a, ann, 3, 3)
	h.engine.Enter(a, ann, 4, 3)
	h.engine.Enter(a, ann, 4, 0)
	h.engine.Left(a)
	h.wants("ann may stay: true", "ann may stay: false", "ann may stay: true")
	if h.engine.Answers(1) != nil || h.engine.Later() || h.engine.Behind() {
		t.Error("something is left to be answered")
	}
}

// TestGranted lets the cluster grant subscriptions: that of a client that waits, that of one that
// has asked again as another user, that of one that has unsubscribed, and that of one whose
// connection has ended.
func TestGranted(t *testing.T) {
	node := new(fakenode.Node)
	h := newHouse(t, node)
	a := h.apps["a"]
	ann, bob, cid, dan := a.guest("ann"), a.guest("bob"), a.guest("cid"), a.guest("dan")
	ann.join("presence-p", "1")
	ann.join("presence-p", "2")
	bob.join("news", "")
	bob.join("cache-x", "")
	cid.join("news", "")
	dan.join("news", "")
	if ann.waits.Len() != 1 || !ann.waits.Has("presence-p") || ann.waits.Has("news") ||
		bob.waits.Len() != 2 {
		t.Errorf("ann waits for %d, bob for %d", ann.waits.Len(), bob.waits.Len())
	}
	var none *Pending[*guest, *note]
	if none.Cancel("news"); none.Has("news") || none.Len() != 0 || none.HasMember("") {
		t.Error("nobody waits for something")
	}
	if !ann.waits.HasMember("2") || ann.waits.HasMember("1") || bob.waits.HasMember("") {
		t.Error("ann does not wait as 2 alone, or bob as nobody")
	}
	node.Play("tells a:cache-x one")
	node.Play("admits")
	if n := a.subscriptions("news"); n != 3 {
		t.Errorf("%d places on news, want 3", n)
	}
	cid.waits.Cancel("news")
	dan.closed = true
	a.replica.Deliver("a:news", "before the loop comes to them", 0, false)
	h.wants()
	h.run()
	h.wants("ann has joined presence-p, where nothing was last",
		"bob has joined news, where nothing was last",
		"bob has joined cache-x, where one was last",
		"bob hears on news: before the loop comes to them")
	if got, want := node.Play("left a:news|a:news|a:presence-p 1"); got != want {
		t.Errorf("left %s, want %s", got, want)
	}
	if n := a.subscriptions("news") + a.subscriptions("presence-p"); n != 2 {
		t.Errorf("%d subscriptions, want 2", n)
	}
	if ann.waits.Len()+bob.waits.Len()+cid.waits.Len() != 0 || bob.waits.grants != nil {
		t.Error("somebody still waits")
	}
	a.limit = 2
	cid.join("presence-p", "3") // 1 and 2 are there until the cluster says something else
	h.wants("presence-p is full for cid")
	node.Play("removes a:presence-p 1")
	cid.join("presence-p", "3")
	node.Play("admits")
	h.run()
	ann.leave("presence-p")
	h.wants("ann hears on presence-p: "+fmt.Sprintf(removed, "1", "presence-p"),
		"ann hears on presence-p: "+fmt.Sprintf(added, "3", "presence-p"),
		"cid has joined presence-p, where nothing was last")
}

// later is a node that calls back when the test says so.
type later struct {
	fakenode.Node
	ready []func()
	done  func(total int64, err error)
	sent  []string
}

func (n *later) CatchUp(topic string, ready func()) { n.ready = append(n.ready, ready) }
func (n *later) Count(_ string, _ int64, done func(total int64, err error)) {
	n.done = done
}
func (n *later) Publish(topic, payload string, except uint64, remember bool, key *retries.Step,
	done func(error)) {
	n.sent = append(n.sent, fmt.Sprint(topic, " ", payload, " ", protocol.SocketIDOf(except), " ",
		remember))
	if done != nil {
		done(errors.New("refused"))
	}
}

func TestClustered(t *testing.T) {
	node := new(later)
	h := newHouse(t, node)
	node.Replica = h.replica
	a := h.apps["a"]
	ann, bob := a.guest("ann"), a.guest("bob")
	for _, c := range []*guest{ann, bob} {
		c.join("cache-x", "")
		c.join("news", "")
	}
	node.Play("admits")
	h.run()
	h.said = nil

	ann.join("news", "") // nothing is to be waited for
	for _, c := range []*guest{ann, bob} {
		c.join("cache-x", "")
	}
	h.wants("ann has joined again news, where nothing was last")
	bob.leave("cache-x")
	node.Play("remembers a:cache-x two")
	for _, ready := range node.ready {
		ready()
	}
	h.wants()
	h.run()
	h.wants("ann has joined again cache-x, where two was last")

	answers := h.engine.Answers(2)
	for _, channel := range []string{"cache-x", "news"} {
		if _, later := a.publish(channel, "e", ann, answers); !later {
			t.Error("an event is delivered at once")
		}
	}
	a.publish("news", "f", nil, nil)
	if err := <-answers; err == nil || len(answers) != 1 {
		t.Errorf("answered %v, and %d more", err, len(answers))
	}
	want := []string{"a:cache-x e " + ann.id.String() + " true",
		"a:news e " + ann.id.String() + " false", "a:news f 0.0 false"}
	if !slices.Equal(node.sent, want) {
		t.Errorf("sent %q, want %q", node.sent, want)
	}

	h.engine.Enter(a, ann, 9, 0)
	h.engine.Left(a)
	if got, want := node.Play("counts a|a"); got != want {
		t.Errorf("counts %s, want %s", got, want)
	}
	for _, answer := range []struct {
		total int64
		err   error
	}{{9, nil}, {10, nil}, {10, errors.New("away")}} {
		h.engine.Enter(a, bob, 3, 9)
		node.done(answer.total, answer.err)
	}
	h.run()
	h.engine.Enter(a, bob, 3, 9)
	node.done(1, nil)
	bob.closed = true
	h.run()
	h.wants("ann may stay: true", "bob may stay: true", "bob may stay: false", "bob may stay: true")
	node.Play("is late")
	if !h.engine.Behind() || !h.engine.Later() || !h.engine.Heard(a, channelName("nobody")) {
		t.Error("the node is not asked")
	}
}

// TestReplica: strangers, and apps that are gone, change nothing.
func TestReplica(t *testing.T) {
	h := newHouse(t, new(fakenode.Node))
	a, r := h.apps["a"], h.replica
	for _, topic := range []string{"c:x", "x", "a:presence-\x00", "a:#own"} {
		r.Deliver(topic, "e", 0, true)
		r.Remember(topic, "e")
		r.Added(topic, "1", "")
		r.Removed(topic, "1")
		r.Snapshot(topic, []string{"1"}, []string{""}, "", 0)
		r.Dropped(topic)
	}
	r.TerminateUser("c", "1")
	r.TerminateUser("a", "1")
	if r.Connections("c") != 0 || r.Connections("a") != 3 || r.Overloaded() {
		t.Error("a figure is wrong")
	}
	if h.busy = true; !r.Overloaded() {
		t.Error("it is overloaded, and takes more")
	}
	h.wants("a ends 1")
	p := channelName("presence-cache-p")
	r.Snapshot("a:presence-cache-p", []string{"1", "2"}, []string{"", `{"n":1}`}, "last",
		time.Minute)
	r.Remember("a:news", "not cached")
	users := h.reg.Users(a.of, p)
	if len(users) != 2 || users[1].ID != "2" || string(users[1].Info) != `{"n":1}` {
		t.Errorf("users %v", users)
	}
	if s := h.reg.Stats(a.of, p, now); string(s.Cached) != "last" || s.Users != 2 {
		t.Errorf("got %+v", s)
	}
	r.Dropped("a:presence-cache-p")
	if s := h.reg.Stats(a.of, p, now); s.Cached != nil || s.Users != 0 {
		t.Errorf("got %+v of a channel that was dropped", s)
	}
}

const count = `%s hears on %s: {"event":"pusher_internal:subscription_count",` +
	`"data":"{\"subscription_count\":%d}","channel":"%[2]s"}`

// TestCountsAlone: subscribers learn how many they are, also those that have just come; not on
// presence channels, and not in an app that does not want it.
func TestCountsAlone(t *testing.T) {
	h := newHouse(t, nil)
	a, b := h.apps["a"], h.apps["b"]
	a.counts = true
	ann, bob, cid, dan := a.guest("ann"), a.guest("bob"), a.guest("cid"), b.guest("dan")
	ann.join("news", "")
	ann.join("presence-p", "1")
	dan.join("news", "")
	h.said = nil
	h.run()
	h.wants("a: 1 are on news", fmt.Sprintf(count, "ann", "news", 1))
	bob.join("news", "")
	cid.join("news", "")
	bob.join("presence-p", "2")
	bob.leave("news") // three changes in one turn
	dan.leave("news")
	h.said = nil
	h.run()
	h.wants("a: 2 are on news", "ann hears on presence-p: "+fmt.Sprintf(added, "2", "presence-p"),
		fmt.Sprintf(count, "ann", "news", 2), fmt.Sprintf(count, "cid", "news", 2))
	ann.leave("news")
	cid.leave("news")
	ann.leave("presence-p")
	h.run()
	h.wants("bob hears on presence-p: " + fmt.Sprintf(removed, "1", "presence-p"))
}

// TestCountsOfCluster: the cluster tells the totals.
func TestCountsOfCluster(t *testing.T) {
	node := new(fakenode.Node)
	h := newHouse(t, node)
	a := h.apps["a"]
	a.counts = true
	ann := a.guest("ann")
	ann.join("news", "")
	node.Play("admits")
	h.run()
	h.said = nil
	for _, line := range []string{"totals a:news 3", "totals b:news 3", "totals a:presence-p 3",
		"totals c:news 3"} {
		node.Play(line)
	}
	h.run()
	h.wants("a: 3 are on news", fmt.Sprintf(count, "ann", "news", 3))
	node.Play("totals a:news 4")
	h.run()
	h.wants()
	h.passed = time.Second
	for _, task := range h.timers {
		task()
	}
	h.run()
	h.wants("a: 4 are on news", fmt.Sprintf(count, "ann", "news", 4))
	for topic, want := range map[string]bool{"a:news": true, "a:presence-p": false, "b:news": false,
		"c:news": false, "x": false} {
		if got := h.replica.Counted(topic); got != want {
			t.Errorf("%s is counted: %v", topic, got)
		}
	}
}

// Last events come to another process, but not those of apps and channels that are not known there.
func TestLastEventsGoOn(t *testing.T) {
	from, to := newHouse(t, nil), newHouse(t, nil)
	for _, at := range [][2]string{{"a", "cache-x"}, {"b", "cache-x"}, {"a", "cache-y"}} {
		v := from.apps[at[0]].Event([]byte("last of "+at[0]+":"+at[1]), nobody, now)
		from.reg.Last.Put(at[0], at[1], v, v.Size(), now, now.Add(time.Minute))
	}
	delete(to.apps, "b")
	b := slices.Concat(from.replica.State()...)
	if !to.replica.SetState(b) || to.replica.SetState(b[:len(b)-1]) {
		t.Error("a state that makes sense is refused, or one that ends too soon is taken")
	}
	for channel, want := range map[string]string{"cache-x": "last of a:cache-x",
		"cache-y": "last of a:cache-y", "cache-z": ""} {
		got := ""
		if v, ok := to.reg.Last.Get("a", channel, now); ok {
			got = v.text
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", channel, got, want)
		}
	}
	if _, ok := to.reg.Last.Get("b", "cache-x", now); ok {
		t.Error("the last event of an app that is not known is kept")
	}
}
