package outbox

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"reverb/internal/cluster/redismodel"
	"reverb/internal/envelopes/keys"
	"reverb/internal/envelopes/scripts"
	"reverb/internal/hookevents"
	"reverb/internal/lib/resp"
	"reverb/internal/protocol"
	"reverb/internal/protocol/probe"
	"reverb/internal/webhooks"
)

// --- A cluster of boxes ---

// house has a model of Redis and the boxes of some nodes.
type house struct {
	t     *testing.T
	now   time.Time
	redis *redismodel.Redis
	set   *scripts.Set
	nodes []*node
}

// node is a node and a courier: it runs scripts at once, and keeps what is to be delivered.
type node struct {
	h       *house
	id      string
	box     *Box
	away    bool // Redis is
	hold    bool // answers wait
	held    []func()
	closed  bool // it takes no batch
	posts   []*webhooks.Batch
	urls    []string
	refused [3]int
	untold  int
	waiting string
	queued  map[string]int // by URL
	log     bytes.Buffer
}

func newHouse(t *testing.T, nodes int) *house {
	h := &house{t: t, now: time.UnixMilli(1_000_000_000_000), set: scripts.New(false, true)}
	h.redis = redismodel.New(h.set.Texts(), nil, func(channel, message string) int64 {
		for _, n := range h.nodes {
			if channel == "p:node:"+n.id && message[1] == 'h' {
				f := strings.SplitN(message[10:], ":", 3) // length, key and length, milliseconds
				size, _ := strconv.Atoi(f[0])
				key := message[10+len(f[0])+1:][:size]
				ms, _ := strconv.Atoi(message[strings.LastIndexByte(message, ':')+1:])
				n.box.Work(key, h.now.Add(time.Duration(ms)*time.Millisecond))
			}
		}
		return 1
	}, nil)
	for i := range nodes {
		n := &node{h: h, id: string(rune('a'+i)) + "-1", queued: map[string]int{}}
		n.box = New(func() time.Time { return h.now },
			slog.New(slog.NewTextHandler(&n.log, nil)))
		n.box.started = h.now.Add(-comeBack) // it tells at once of what has gone
		Attach(n.box, n)
		h.nodes = append(h.nodes, n)
	}
	return h
}

func (n *node) Do(f func())                    { f() }
func (n *node) Names(parts ...string) []string { return []string{"p:" + strings.Join(parts, ":")} }
func (n *node) Place(topic string) (int, string) {
	return 0, "p:" + topic
}

func (n *node) Lane(tell bool, _ int, k, args []string, done func(resp.Reply, error)) {
	if n.away {
		done(resp.Reply{}, errors.New("away"))
		return
	}
	s := &n.h.set.Lane
	if tell {
		s, k = &n.h.set.Tell, append([]string{k[0], k[2]}, k[5:]...)
	} else {
		k = append(k[:5:5], "p:node:"+n.id+":dead")
		args = append([]string{n.id, "p:node:" + n.id}, args...)
	}
	r := n.h.run(s, k, args...)
	if n.hold {
		n.held = append(n.held, func() { done(r, r.Err()) })
		return
	}
	done(r, r.Err())
}

func (n *node) Deliver(url string, b *webhooks.Batch) bool {
	if n.closed {
		return false
	}
	n.posts, n.urls = append(n.posts, b), append(n.urls, url)
	return true
}
func (n *node) Refused(_ string, others, transitions, undone int) {
	n.refused[0] += others
	n.refused[1] += transitions
	n.refused[2] += undone
}
func (n *node) Untold(_ string, events int) { n.untold += events }
func (n *node) Waiting(url string, queued, gone int, oldest time.Time) {
	n.queued[url] = queued
	n.waiting = fmt.Sprint(queued, " ", gone)
	if !oldest.IsZero() {
		n.waiting += fmt.Sprint(" ", n.h.now.Sub(oldest))
	}
}

func (h *house) run(s *scripts.Script, k []string, args ...string) resp.Reply {
	h.redis.Now = h.now.UnixMilli()
	return h.redis.Do(slices.Concat([]string{"EVALSHA", s.SHA, strconv.Itoa(len(k))}, k, args)...)
}

// about runs a script about a topic for a node.
func (h *house) about(n *node, s *scripts.Script, topic string, gone bool, args ...string) {
	h.t.Helper()
	k, a := n.box.Lanes("p:", topic, gone)
	k = append(keys.OfTopic("p:", topic, n.id), k...)
	args = slices.Concat([]string{n.id, "p:" + topic, "p:node:" + n.id}, args, a)
	if r := h.run(s, k, args...); r.Err() != nil {
		h.t.Fatal(r.Err())
	}
}

func (h *house) join(n *node, topic string) {
	h.t.Helper()
	h.about(n, &h.set.Subscriptions, topic, false, topic, "1", "0")
}

func (h *house) leave(n *node, topic string, gone bool) {
	h.t.Helper()
	h.about(n, &h.set.Leave, topic, gone, topic, "0")
}

// pass lets time pass, in turns of 100 ms.
func (h *house) pass(d time.Duration, nodes ...*node) {
	for end := h.now.Add(d); h.now.Before(end); {
		h.now = h.now.Add(100 * time.Millisecond)
		for _, n := range nodes {
			n.box.Turn(n.id, h.now)
		}
	}
}

// heard lists the next batch of a node, and settles it.
func (n *node) heard(settled bool) string {
	n.h.t.Helper()
	if len(n.posts) == 0 {
		return ""
	}
	b := n.posts[0]
	n.posts = n.posts[1:]
	text := told(b)
	b.Done(settled)
	return text
}

func told(b *webhooks.Batch) string {
	var all []string
	for i := range b.Events {
		e := &b.Events[i]
		all = append(all, strings.TrimSpace(e.Kind.String()+" "+e.Channel.String()+" "+e.User))
	}
	return strings.Join(all, ", ")
}

func (h *house) wants(got, want string) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("got %q, want %q", got, want)
	}
}

func hookTo(host string, kinds webhooks.Kinds) *webhooks.Hook {
	return &webhooks.Hook{URL: &url.URL{Scheme: "http", Host: host}, Kinds: kinds}
}

func name(t *testing.T, text string) protocol.Name {
	t.Helper()
	n, err := protocol.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// open configures an app on all nodes, and lets them begin, one after the other.
func (h *house) open(hooks ...*webhooks.Hook) {
	for _, n := range h.nodes {
		n.box.Configure("app", hooks, 3*time.Second, n)
		n.box.Turn(n.id, h.now)
	}
}

// --- Tests ---

// TestOwner has two nodes: the first one delivers, one batch after the other. When it falls silent,
// the second one takes over, with exactly the batch that was under way.
func TestOwner(t *testing.T) {
	h := newHouse(t, 2)
	h.open(hookTo("x", webhooks.Kinds(0x7f)))
	a, b := h.nodes[0], h.nodes[1]
	h.join(b, "app:news") // it wakes the owner
	h.join(b, "app:sport")
	h.wants(a.heard(true), "channel_occupied news")
	h.wants(a.heard(true), "channel_occupied sport")
	h.wants(fmt.Sprint(len(a.posts), len(b.posts)), "0 0")
	h.leave(b, "app:news", false)
	h.leave(b, "app:sport", false)
	if len(a.posts) != 1 || !a.posts[0].Held() {
		t.Fatalf("%d batches, the first of which is to be the node's own", len(a.posts))
	}
	h.pass(leaseTime, a, b)
	h.wants(fmt.Sprint(len(a.posts), len(b.posts), a.posts[0].Held()), "1 0 true")
	h.pass(leaseTime+time.Second, b) // a is silent
	if len(b.posts) != 1 || b.posts[0].ID != a.posts[0].ID || told(b.posts[0]) != told(a.posts[0]) {
		t.Fatalf("the other node has %d batches, the first one is to be the former owner's",
			len(b.posts))
	}
	if a.posts[0].Held() || !b.posts[0].Held() {
		t.Error("the former owner holds the batch, or the new one does not")
	}
	h.wants(b.heard(true), "channel_vacated news")
	h.pass(200*time.Millisecond, a, b)
	h.wants(a.heard(true), "channel_vacated news") // settled long ago
	h.wants(b.heard(true), "channel_vacated sport")
	h.pass(time.Second, a, b)
	h.wants(fmt.Sprint(len(a.posts), len(b.posts)), "0 0")
	h.wants(b.waiting, "0 0")
}

// TestSettledByFormerOwner has the former owner deliver what the new one has begun with.
func TestSettledByFormerOwner(t *testing.T) {
	h := newHouse(t, 2)
	h.open(hookTo("x", webhooks.Kinds(0x7f)))
	a, b := h.nodes[0], h.nodes[1]
	h.join(a, "app:news")
	h.pass(leaseTime+time.Second, b)
	h.wants(a.heard(true), "channel_occupied news")
	h.leave(a, "app:news", false)
	h.pass(time.Second, a, b)
	if b.posts[0].Held() {
		t.Error("a batch that is settled is held")
	}
	b.posts = b.posts[1:]
	h.wants(b.heard(true), "channel_vacated news")
}

// TestGrace has what vanishes told later, or not at all; removed comes before vacated.
func TestGrace(t *testing.T) {
	h := newHouse(t, 1)
	h.open(hookTo("x", webhooks.Kinds(0x7f)))
	a := h.nodes[0]
	join := func() {
		h.about(a, &h.set.Sync, "app:presence-p", true, "app:presence-p", "1", "token", "0", "0",
			"u", "{}")
	}
	join()
	h.wants(a.heard(true), "channel_occupied presence-p")
	h.wants(a.heard(true), "member_added presence-p u")
	h.leave(a, "app:presence-p", true)
	h.pass(2900*time.Millisecond, a)
	h.wants(a.waiting, "0 2")
	join() // in time
	h.pass(time.Second, a)
	h.wants(a.heard(true), "")
	h.wants(a.waiting, "0 0")
	h.leave(a, "app:presence-p", true)
	h.pass(3*time.Second, a)
	h.wants(a.heard(true), "member_removed presence-p u, channel_vacated presence-p")
	join()
	a.heard(true)
	a.heard(true)
	h.leave(a, "app:presence-p", false)
	h.wants(a.heard(true)+", "+a.heard(true),
		"member_removed presence-p u, channel_vacated presence-p")
}

// all lists all that a node hears from now on, and settles it.
func (n *node) all() string {
	n.h.t.Helper()
	var texts []string
	for len(n.posts) > 0 {
		texts = append(texts, n.heard(true))
	}
	return strings.Join(texts, ", ")
}

// TestGraceOfMembersEnds: a receiver that forgets the members of a channel that is vacated hears of
// each member that comes.
func TestGraceOfMembersEnds(t *testing.T) {
	h := newHouse(t, 1)
	h.open(hookTo("x", webhooks.Kinds(0x7f)))
	a := h.nodes[0]
	const topic = "app:presence-p"
	for _, user := range []string{"u", "v"} {
		h.about(a, &h.set.Sync, topic, true, topic, "1", "token", "0", "0", "u", "{}", user, "{}")
	}
	a.all()
	h.about(a, &h.set.Absent, topic, true, "u")
	h.pass(time.Second, a)
	h.leave(a, topic, false)
	h.wants(a.all(), "member_removed presence-p v, member_removed presence-p u, "+
		"channel_vacated presence-p")
	h.about(a, &h.set.Sync, topic, false, topic, "1", "token", "0", "0", "u", "{}")
	h.wants(a.all(), "channel_occupied presence-p, member_added presence-p u")
	h.pass(time.Minute, a)
	h.wants(a.all(), "")
	h.wants(a.waiting, "0 0")
}

// TestGraceOfComingsAlone: a hook that hears only of those that come hears of none that was away
// for a moment.
func TestGraceOfComingsAlone(t *testing.T) {
	h := newHouse(t, 1)
	h.open(hookTo("x", webhooks.KindsOf(webhooks.MemberAdded, webhooks.ChannelOccupied)))
	a := h.nodes[0]
	const topic = "app:presence-p"
	const told = "channel_occupied presence-p, member_added presence-p u"
	for i := range 4 {
		h.about(a, &h.set.Sync, topic, false, topic, "1", "token", "0", "0", "u", "{}")
		h.wants(a.all(), map[bool]string{true: told}[i == 0])
		h.pass(time.Second, a)
		h.leave(a, topic, true)
		h.pass(time.Second, a)
		h.wants(a.waiting, "0 2")
	}
	h.pass(3*time.Second, a)
	h.wants(a.waiting, "0 0")
	h.about(a, &h.set.Sync, topic, false, topic, "1", "token", "0", "0", "u", "{}")
	h.wants(a.all(), told)
}

// TestUndone: in a lane where many wait, what one client does and undoes takes no room of others.
func TestUndone(t *testing.T) {
	h := newHouse(t, 2)
	h.redis.Many = 10
	h.open(hookTo("x", webhooks.Kinds(0x7f)))
	a, b := h.nodes[0], h.nodes[1]
	h.join(b, "app:first") // under way
	const topic = "app:presence-p"
	for i := range 1000 {
		h.about(b, &h.set.Sync, topic, false, topic, "1", "token", "0", "0", "u", "{}")
		if i%100 == 0 {
			h.join(b, "app:c"+strconv.Itoa(i/100))
		}
		h.leave(b, topic, false)
	}
	h.join(b, topic)
	if n := h.redis.Do("XLEN", a.box.order[0].keys[0]).N; n != 10+9+1 {
		t.Errorf("%d events wait", n)
	}
	got := a.all()
	const round = "channel_occupied presence-p, member_added presence-p u, %s" +
		"member_removed presence-p u, channel_vacated presence-p, "
	want := "channel_occupied first, " + fmt.Sprintf(round, "channel_occupied c0, ") +
		fmt.Sprintf(round, "")
	for i := range 9 {
		want += fmt.Sprintf("channel_occupied c%d, ", i+1)
	}
	h.wants(got, want+"channel_occupied presence-p")
	h.wants(fmt.Sprint(a.refused, b.refused), fmt.Sprint("[0 0 ", 4*998, "] [0 0 0]"))
}

// TestSumOf: batches with other events between the first and the last one have other IDs.
func TestSumOf(t *testing.T) {
	of := func(ids ...string) string {
		var entries []resp.Reply
		for _, id := range ids {
			entries = append(entries, resp.Reply{Items: []resp.Reply{{Text: id}, {}}})
		}
		return sumOf(append(entries[:1:1], append([]resp.Reply{{}}, entries[1:]...)...))
	}
	sums := map[string]bool{of("1-0", "1-2"): true, of("1-0", "1-2"): true,
		of("1-0", "1-1", "1-2"): true, of("1-0", "1-01-2"): true, of("1-0", "1-3"): true}
	if len(sums) != 4 || len(of("1-0")) != 16 {
		t.Errorf("got %v", sums)
	}
}

// TestAllAway has a process that has just started: what has gone waits for its client. So does what
// another node has left, which is dead before its lease is over.
func TestAllAway(t *testing.T) {
	h := newHouse(t, 2)
	h.open(hookTo("x", webhooks.Kinds(0x7f)))
	a, b := h.nodes[0], h.nodes[1]
	h.join(a, "app:news")
	h.join(a, "app:sport")
	a.heard(true)
	a.heard(true)
	h.leave(a, "app:news", true)
	h.leave(a, "app:sport", true)
	h.redis.Do("SET", "p:node:"+a.id+":dead", "1")
	b.box.started = h.now
	h.pass(comeBack-time.Second, b)
	h.wants(b.heard(true), "")
	h.join(b, "app:sport") // in time
	h.pass(2*time.Second, b)
	h.wants(b.heard(true), "channel_vacated news")
	h.pass(time.Second, b)
	h.wants(b.heard(true), "")
}

// TestPut has the events that are no transitions.
func TestPut(t *testing.T) {
	h := newHouse(t, 2)
	hook := hookTo("x", webhooks.Kinds(0x7f))
	h.open(hook, hookTo("y", webhooks.Kinds(0x7f)))
	a, b := h.nodes[0], h.nodes[1]
	events := []webhooks.Event{
		{Kind: webhooks.ClientEvent, Channel: name(t, "presence-p"), User: "u", Event: "client-x",
			Data: []byte(`{"a":"\n"}`), Socket: protocol.SocketIDOf(1<<40 + 7)},
		{Kind: webhooks.CacheMiss, Channel: name(t, "cache-c")},
		{Kind: webhooks.SubscriptionCount, Channel: name(t, "news"), Count: 7},
	}
	for i := range events {
		b.box.Put("app", hook, &events[i])
	}
	b.box.Put("other", hook, &events[0])
	b.box.Put("app", hookTo("z", 0), &events[0])
	got := slices.Clone(a.posts[0].Events)
	h.wants(a.urls[0], "http://x")
	a.heard(true)
	got = append(got, a.posts[0].Events...)
	if !reflect.DeepEqual(got, events) {
		t.Errorf("got %+v, want %+v", got, events)
	}
	a.heard(true)
	b.away = true
	b.box.Put("app", hook, &events[0])
	b.box.unsaid.Store(maxUnsaid)
	b.box.Put("app", hook, &events[0])
	h.wants(fmt.Sprint(b.untold, b.refused, b.box.unsaid.Load()),
		fmt.Sprint("1 [1 0 0] ", maxUnsaid))
}

// TestCounts: a count that every node tells is told once, until it changes.
func TestCounts(t *testing.T) {
	h := newHouse(t, 2)
	hook := hookTo("x", webhooks.Kinds(0x7f))
	h.open(hook)
	a, b := h.nodes[0], h.nodes[1]
	tell := func(n *node, channel string, count int) {
		n.box.Put("app", hook, &webhooks.Event{Kind: webhooks.SubscriptionCount,
			Channel: name(t, channel), Count: count})
	}
	for _, n := range []*node{a, b} {
		tell(n, "news", 1)
		tell(n, "sport", 1)
	}
	tell(b, "news", 2)
	tell(b, "news", 2)
	var counts []string
	for len(a.posts) > 0 {
		for _, e := range a.posts[0].Events {
			counts = append(counts, fmt.Sprint(e.Channel.String(), " ", e.Count))
		}
		a.heard(true)
	}
	h.wants(strings.Join(counts, ", "), "news 1, sport 1, news 2")
}

// TestRefused has a lane that is full.
func TestRefused(t *testing.T) {
	h := newHouse(t, 1)
	hook := hookTo("x", webhooks.Kinds(0x7f))
	h.open(hook)
	a := h.nodes[0]
	h.redis.Do("HSET", keys.OfLane("p:", "app", a.box.apps["app"].hooks[0].name)[2], "untold", "2")
	h.redis.Do("HSET", keys.OfLane("p:", "app", a.box.apps["app"].hooks[0].name)[2], "lost", "1")
	h.redis.Do("HSET", keys.OfLane("p:", "app", a.box.apps["app"].hooks[0].name)[2], "undone", "3")
	h.pass(time.Second, a)
	h.wants(fmt.Sprint(a.refused), "[1 2 3]")
}

// TestLanes has topics that nobody wants to know of.
func TestLanes(t *testing.T) {
	h := newHouse(t, 1)
	h.open(hookTo("x", webhooks.KindsOf(webhooks.MemberAdded, webhooks.CacheMiss)),
		hookTo("y", hookevents.DefaultKinds), hookTo("z", webhooks.KindsOf(webhooks.ClientEvent)))
	box := h.nodes[0].box
	for topic, want := range map[string]string{
		"app:presence-p": "a,ovar, presence-p 3000", "app:#server-to-user-7": "",
		"other:presence-p": "", "app:no name": "", "none": "",
		"app:" + probe.Channel(): "",
	} {
		k, args := box.Lanes("p:", topic, true)
		h.wants(strings.Join(args, " "), want)
		if len(k) != 5*strings.Count(want, ",") {
			t.Errorf("%s: the keys %q", topic, k)
		}
	}
	if _, args := box.Lanes("p:", "app:news", false); args[2] != "0" {
		t.Errorf("what does not vanish has the grace %s", args[2])
	}
}

// TestConfigure takes hooks away, and gives others.
func TestConfigure(t *testing.T) {
	h := newHouse(t, 2)
	x, y := hookTo("x", webhooks.Kinds(0x7f)), hookTo("y", webhooks.Kinds(0x7f))
	h.open(x, y)
	a, b := h.nodes[0], h.nodes[1]
	h.join(a, "app:news")
	h.pass(time.Second, a)
	if a.queued[x.Address()] != 1 || a.queued[y.Address()] != 1 {
		t.Errorf("waiting by URL: %v", a.queued)
	}
	post := a.posts[1]
	a.box.Configure("app", []*webhooks.Hook{x}, 0, a)
	if post.Held() || !a.posts[0].Held() {
		t.Error("the batch of a hook that is gone is held, or that of the other is not")
	}
	post.Done(true) // nobody is told
	b.box.Turn(b.id, h.now.Add(time.Minute))
	h.wants(b.heard(true), "channel_occupied news") // y is b's now
	a.box.Configure("app", nil, 0, a)
	if k, _ := a.box.Lanes("p:", "app:news", false); k != nil {
		t.Errorf("the keys %q of an app without hooks", k)
	}
	b.box.Turn(b.id, h.now.Add(2*time.Minute))
	h.wants(b.heard(true), "channel_occupied news")
	b.box.Work("unknown", h.now)
}

// TestLeave gives up all lanes: another node has them at once.
func TestLeave(t *testing.T) {
	h := newHouse(t, 2)
	h.open(hookTo("x", webhooks.Kinds(0x7f)))
	a, b := h.nodes[0], h.nodes[1]
	h.join(a, "app:news")
	a.box.Leave()
	if a.posts[0].Held() {
		t.Error("a node that has left holds its batch")
	}
	a.heard(true)
	h.pass(othersAsk*askInterval, b)
	h.wants(b.heard(true), "channel_occupied news")
}

// TestTroubles has senders that are closed, batches that come back, answers that come late, and
// what strangers have written.
func TestTroubles(t *testing.T) {
	h := newHouse(t, 1)
	h.open(hookTo("x", webhooks.Kinds(0x7f)))
	a := h.nodes[0]
	lane := keys.OfLane("p:", "app", a.box.apps["app"].hooks[0].name)
	a.closed = true
	h.join(a, "app:news")
	a.closed = false
	h.pass(time.Second, a)
	h.wants(a.heard(false), "channel_occupied news")
	h.pass(time.Second, a)
	a.hold = true // a batch is given back while the answer is on its way
	h.pass(time.Second, a)
	a.posts[0].Done(false)
	a.posts = nil
	a.hold = false
	for _, answer := range a.held {
		answer()
	}
	h.pass(time.Second, a)
	h.wants(a.heard(true), "channel_occupied news")

	for _, fields := range [][]string{{"k", "o"}, {"k", "?", "c", "x"}, {"k", "a", "c", "x"},
		{"k", "c", "c", "x", "i", "?"}, {"k", "n", "c", "x", "n", "?"}, {"odd"}} {
		h.redis.Do(append([]string{"XADD", lane[0], "*"}, fields...)...)
	}
	h.leave(a, "app:news", false)
	h.pass(time.Second, a)
	h.wants(a.heard(true), "channel_vacated news")
	h.redis.Do("XADD", lane[0], "*", "strange", "x")
	h.pass(time.Second, a)
	if n := h.redis.Do("XLEN", lane[0]).N; n != 0 {
		t.Errorf("%d entries of a stranger are left", n)
	}
	h.redis.Do("DEL", lane[0])
	h.redis.Do("SET", lane[0], "foreign")
	h.pass(2*time.Second, a)
	if n := strings.Count(a.log.String(), "not written by this program"); n != 1 {
		t.Errorf("the log says %d times that a key is foreign:\n%s", n, &a.log)
	}
	h.redis.Do("DEL", lane[0])
	h.redis.Do("HSET", lane[2], "first", "strange")
	h.join(a, "app:news")
	h.pass(time.Second, a)
	h.wants(a.heard(true), "channel_occupied news")
}

// FuzzEvent reads fields that a stranger may have written.
func FuzzEvent(f *testing.F) {
	f.Add("c", "presence-x", "7", "client-x", "{}", "12", "3")
	f.Fuzz(func(t *testing.T, k, c, u, e, d, i, n string) {
		var all []resp.Reply
		for _, s := range []string{"k", k, "c", c, "u", u, "e", e, "d", d, "i", i, "n", n} {
			all = append(all, resp.Reply{Kind: resp.Text, Text: s})
		}
		got, ok := event(all)
		if !ok {
			return
		}
		var again []resp.Reply
		for _, s := range fields(&got) {
			again = append(again, resp.Reply{Kind: resp.Text, Text: s})
		}
		if same, ok := event(again); !ok || !reflect.DeepEqual(same, got) {
			t.Errorf("%+v becomes %+v, %v", got, same, ok)
		}
	})
}
