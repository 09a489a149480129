package cluster

// A cluster under a scheduler: real nodes without their goroutines, a model of Redis, links that
// are queues, a clock that the test moves, and a seed that decides everything. A world is a list of
// steps drawn from its seed; the same seed gives exactly the same world. When a world fails, the
// runner removes steps from its list as long as it still fails.
//
//	go test -run Simulation ./internal/cluster                    some hundred worlds
//	go test -run Simulation ./internal/cluster -simulate 1h       for an hour
//	go test -run Simulation ./internal/cluster -seed 17 -v        one world, and what it does
//
// The life of a world: nodes start, and clients come and go while nothing is wrong. Then faults
// strike. Then the faults end, the nodes get time to recover, and clients come and go once more. At
// the end all leave. Each check says what it checks, and when.
//
// simNode is the Replica, and writes down what it is told. It passes each call on to the real
// Replica of package engine, whose loops are under the same scheduler, see sim_front_test.go.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverb/internal/cluster/redismodel"
	"reverb/internal/envelopes"
	"reverb/internal/envelopes/scripts"
	"reverb/internal/lib/redial"
	"reverb/internal/lib/resp"
	"reverb/internal/lib/retries"
	"reverb/internal/outbox"
)

// --- Steps ---

type stepKind uint8

const (
	moveStep stepKind = iota // something on a link moves on
	advanceStep
	passStep // a second or more
	joinStep
	leaveStep
	publishStep
	keyStep // a request with a key
	catchUpStep
	connectStep
	countStep
	statsStep
	terminateStep
	drainStep // all that waits on the links of one node
	churnStep // a client leaves a topic, and another joins it at once
	watchStep // a client begins to watch users, or one ends
	sayStep   // the application is told of an event
	handStep  // a node goes to another process
	faultStep
)

// step is one decision. The meaning of a, b and c depends on the kind; they choose among what
// exists, by the remainder.
type step struct {
	kind    stepKind
	fault   faultKind
	a, b, c uint32
}

func (s step) String() string {
	if s.kind == faultStep {
		return "fault: " + faultNames[s.fault]
	}
	return [...]string{"move", "advance", "pass", "join", "leave", "publish", "request", "catch up",
		"connect", "count", "stats", "terminate", "drain", "leave and join",
		"watch", "say", "hand over"}[s.kind]
}

type faultKind uint8

const (
	cutFault faultKind = iota
	holeFault
	slowToFault
	slowFromFault
	frozenFault
	killedFault
	quitFault
	emptyFault
	olderFault
	failoverFault
	fullFault
	overloadFault
	foreignFault
	lostFault
	refusedFault
	keptFault
	faultKinds
)

var faultNames = [faultKinds]string{
	"link cut", "link silent both ways", "slow to Redis", "slow from Redis", "frozen", "killed",
	"leaves",
	"Redis restarted empty", "Redis restarted from an older state",
	"Redis failed over without the tail",
	"link full", "replica overloaded", "foreign key", "confirmation lost", "command refused",
	"Redis restarted with its data",
}

// shape is the size of a world and its steps. It follows from the seed. When a world fails, the
// runner tries smaller shapes.
type shape struct {
	seed     uint64
	nodes    int // 2 to 5
	clients  int // 3 to 20
	users    int
	topics   int
	servers  int // more than 1: a Redis Cluster
	failover bool
	steps    []step
}

var simTopics = []string{"a:presence-x", "a:presence-cache-y", "a:cache-z", "a:plain",
	"a:#server-to-user-u0", "a:presence-w", "b:presence-v", "a:#server-to-user-u1",
	"a:#server-to-user-u2"}

func shapeOf(seed uint64) shape {
	rng := rand.New(rand.NewPCG(seed, 1))
	sh := shape{seed: seed, nodes: 2 + rng.IntN(4), clients: 3 + rng.IntN(18), users: 1 +
		rng.IntN(5), topics: 1 + rng.IntN(len(simTopics)), servers: 1}
	switch rng.IntN(4) {
	case 0:
		sh.servers = 2
	case 1:
		sh.failover = true
	}
	count := 300 + rng.IntN(200)
	weights := []int{moveStep: 48, advanceStep: 8, passStep: 2, joinStep: 13, leaveStep: 8,
		publishStep: 10, keyStep: 8, catchUpStep: 1, connectStep: 1, countStep: 1, statsStep: 1,
		terminateStep: 1, drainStep: 6, churnStep: 4, watchStep: 3, sayStep: 2, handStep: 2}
	total := 0
	for _, w := range weights {
		total += w
	}
	for range count {
		k, r := stepKind(0), rng.IntN(total)
		for ; r >= weights[k]; k++ {
			r -= weights[k]
		}
		sh.steps = append(sh.steps, step{k, 0, rng.Uint32(), rng.Uint32(), rng.Uint32()})
	}
	for range 2 + rng.IntN(6) {
		i := count/4 + rng.IntN(count*3/5)
		sh.steps[i].kind, sh.steps[i].fault = faultStep, faultKind(rng.IntN(int(faultKinds)))
	}
	return sh
}

// --- The world ---

type world struct {
	shape
	now     time.Time
	begun   time.Time
	rng     *rand.Rand // decides the order of what has no order in Redis and on links
	servers []*server
	nodes   []*simNode
	clients []*simClient
	events  []*simEvent
	// requests are those with keys, see sim_keys_test.go.
	requests []*simRequest
	// accepts has, by topic, the highest place, in Redis' order, of a cached event that was
	// acknowledged.
	accepts map[string]int
	drained time.Time
	later   []planned
	strict  bool // nothing has gone wrong, so all checks apply
	settled bool // faults are over
	verbose bool
	trace   []string
	seen    map[string]int // states reached
	faults  map[faultKind]int
	ids     uint64
	seats   uint64 // socket IDs

	hooked    bool // applications are told, see sim_outbox_test.go
	receivers map[string]*simReceiver
	said      int  // client events since the last rest
	heard     int  // client events that had been heard then
	forgot    bool // Redis has forgotten something since then
}

// planned is something that happens at a time.
type planned struct {
	at time.Time
	do func()
}

type server struct {
	w     *world
	redis *redismodel.Redis
	conns []*conn
	down  time.Time      // until then it is not reachable
	place int            // of the last cached event
	cache map[string]int // event: its place
}

// conn is the part of a link that goes to one server: four queues.
type conn struct {
	link          *simLink
	server        *server
	master        int
	commands      [][]string
	replies       []resp.Reply
	subscriptions [][]string
	pushes        []resp.Reply
	listens       map[string]bool
	// stalled is the time until which each queue stands still: commands, replies, subscriptions,
	// pushes.
	stalled [4]time.Time
	lose    bool   // the next answer that a node waits for is lost
	refuse  string // the answer of Redis to every command from now on
	gone    bool   // the node has given it up; what was sent may still arrive
	bytes   int
}

// simLink is a Link of queues.
type simLink struct {
	node  *simNode
	conns []*conn
	full  time.Time // until then a lot waits
	why   error
}

func (l *simLink) Layout() (version string, masters int, byBucket []int) {
	of := make([]int, len(l.node.n.buckets))
	for b := range of {
		of[b] = b % len(l.conns)
	}
	return "7.0", len(l.conns), of
}
func (l *simLink) Command(m int, args ...string) {
	c := l.conns[m]
	if len(args) > 3 && args[0] == "EVALSHA" && !l.node.w.settled {
		// the caller may use its slice again
		args = slices.Clone(args)
	}
	c.commands = append(c.commands, args)
	for _, a := range args {
		c.bytes += len(a)
	}
}
func (l *simLink) Subscription(m int, args ...string) {
	l.conns[m].subscriptions = append(l.conns[m].subscriptions, args)
}
func (l *simLink) Waiting(m int) (commands, subscriptions int) {
	if l.node.w.now.Before(l.full) {
		return 2 * bulkBytes, 0
	}
	return l.conns[m].bytes, 0
}
func (l *simLink) Flush()                                  {}
func (l *simLink) Batches() (replies, pushes <-chan Batch) { return nil, nil }
func (l *simLink) Done() <-chan struct{}                   { return nil }
func (l *simLink) Err() error                              { return l.why }
func (l *simLink) Wait()                                   {}
func (l *simLink) Hold()                                   {}
func (l *simLink) Held() bool                              { return true }
func (l *simLink) Release()                                {}
func (l *simLink) Pass(to func(state []byte, fds []int) error) error {
	return to(nil, nil)
}

// simDialer gives a node the link that another process has had.
type simDialer struct{ link *simLink }

func (d simDialer) Dial(context.Context, []string) (Link, error) {
	return nil, errors.New("the scheduler connects")
}
func (d simDialer) Inherit([]byte, []int) (Link, error) { return d.link, nil }
func (l *simLink) Fail(why error) {
	if l.why == nil {
		l.why = why
	}
}

// simNode is a process: a node, and a replica that checks what the node tells it.
type simNode struct {
	w        *world
	slot     int
	n        *Node
	front    *simFront
	link     *simLink
	alive    bool
	frozen   time.Time // until then
	overload time.Time // until then
	tick     time.Time // the next
	dial     time.Time // the next try
	tried    bool
	sound    bool // it has missed nothing that the others have published
	live     bool
	liveAt   time.Time
	renewed  time.Time // when Redis last renewed its lease
	knows    uint32    // slots of nodes that were live with it when Redis last went away
	lost     uint64
	conns    int64
	view     map[string][]string
	got      map[int]bool      // all events that ever came
	last     map[[3]int]int    // the number of the last event of a process in a topic
	cached   map[string]string // as the replica would answer
	log      map[string][]int  // events by topic, in order
	ended    int               // users terminated
	asked    int               // questions that have no answer yet
	keys     *retries.Table
	quitting bool
	box      *outbox.Box // nil: the application is told nothing
	posts    []*simPost
}

// simClient is a client with one subscription at a time.
type simClient struct {
	node      *simNode
	topic     string
	user      string
	in        bool // let in
	seat      *simSeat
	cancelled bool // the client left before it was let in
	floor     int  // on a cache channel, the place of the event that it must know
}

// simEvent is a published event.
type simEvent struct {
	id, number int
	by         *simNode
	topic      string
	at         time.Time
	except     uint64 // the socket ID of the client that must not get it
	needs      uint32 // slots of nodes that must still get it
	cache      bool
	*keyed     // nil: its request has no key
}

type simFailure string

func (w *world) fail(format string, args ...any) {
	panic(simFailure(fmt.Sprintf(format, args...)))
}
func (s *simNode) fail(format string, args ...any) {
	s.w.fail("node %d (%s): %s", s.slot, s.n.id, fmt.Sprintf(format, args...))
}
func (w *world) tell(format string, args ...any) {
	if w.verbose {
		w.trace = append(w.trace, fmt.Sprintf("%9.3f ", w.now.Sub(w.begun).Seconds())+
			fmt.Sprintf(format, args...))
	}
}
func (w *world) state(name string) { w.seen[name]++ }

// --- The replica, and what is checked at once ---

func topicIndex(topic string) int { return slices.Index(simTopics, topic) }

// Deliver checks that no event comes twice or to the wrong topic, and that the events of one
// process in one topic come in the order in which they were published.
func (s *simNode) Deliver(topic, payload string, except uint64, remember bool) {
	id, err := strconv.Atoi(payload)
	if err != nil || id >= len(s.w.events) {
		s.fail("an event that nobody has published: %q", payload)
	}
	e := s.w.events[id]
	s.w.tell("node %d: event %d of %s (by node %d)", s.slot, id, topic, e.by.slot)
	if e.topic != topic || remember != e.cache || except != e.except {
		s.fail("event %d of %s comes to %s", id, e.topic, topic)
	}
	if s.got[id] {
		s.again(e)
	}
	s.got[id] = true
	key := [3]int{e.by.slot, int(e.by.n.number & 0xffffff), topicIndex(topic)}
	if e.keyed == nil && s.last[key] >= e.number {
		s.fail("event %d of %s comes after a later one of the same node", id, topic)
	}
	s.last[key] = max(s.last[key], e.number)
	e.needs &^= 1 << s.slot
	s.log[topic] = append(s.log[topic], id)
	if remember {
		s.cached[topic] = payload
	}
	s.front.replica.Deliver(topic, payload, except, remember)
}

func (s *simNode) Remember(topic, payload string) {
	s.w.state("replica: remember")
	if s.front.there[topic] { // otherwise the first member finds nothing, see channels.Remember
		s.cached[topic] = payload
	}
	s.front.replica.Remember(topic, payload)
}

// Added and Removed check that no user comes twice, or goes without having come.
func (s *simNode) Added(topic, user, info string) {
	s.w.tell("node %d: %s added to %s", s.slot, user, topic)
	if slices.Contains(s.view[topic], user) {
		s.fail("%s is added to %s twice", user, topic)
	}
	want := `{"` + user + `":0}`
	if userOf(topic) != "" {
		want = "" // nobody asks for it
	}
	if info != want {
		s.fail("%s comes to %s with the info %q", user, topic, info)
	}
	s.view[topic] = append(s.view[topic], user)
	s.front.there[topic] = true
	s.front.replica.Added(topic, user, info)
}

func (s *simNode) Removed(topic, user string) {
	s.w.tell("node %d: %s removed from %s", s.slot, user, topic)
	i := slices.Index(s.view[topic], user)
	if i < 0 {
		s.fail("%s is removed from %s, where it is not", user, topic)
	}
	s.view[topic] = slices.Delete(s.view[topic], i, i+1)
	s.front.noticeGone(topic)
	s.front.replica.Removed(topic, user)
}

// Snapshot checks that members that were here before have been told of every change.
func (s *simNode) Snapshot(topic string, users, infos []string, cached string, life time.Duration) {
	s.w.tell("node %d: snapshot of %s: %v, %q", s.slot, topic, users, cached)
	if len(s.view[topic]) > 0 {
		a, b := slices.Sorted(slices.Values(s.view[topic])), slices.Sorted(slices.Values(users))
		if !slices.Equal(a, b) {
			s.fail("a snapshot of %s changes %v to %v without telling", topic, a, b)
		}
	}
	if len(users) != len(infos) || len(slices.Compact(slices.Sorted(slices.Values(users)))) != len(
		users) {
		s.fail("a snapshot of %s has %v with %v", topic, users, infos)
	}
	s.view[topic] = slices.Clone(users)
	s.front.noticeGone(topic)
	if delete(s.cached, topic); cached != "" {
		if s.cached[topic] = cached; life <= 0 || life > cachedSeconds*time.Second {
			s.fail("a cached event of %s lives for %v", topic, life)
		}
	}
	s.front.there[topic] = true
	s.front.replica.Snapshot(topic, users, infos, cached, life)
}

func (s *simNode) Dropped(topic string) {
	delete(s.view, topic)
	delete(s.cached, topic)
	delete(s.front.there, topic)
	s.front.replica.Dropped(topic)
	a, name := s.front.channel(topic)
	if left := s.front.reg.Users(a.channels, name); len(left) > 0 {
		s.fail("%s is dropped, and has %d members", topic, len(left))
	}
}

func (s *simNode) Counted(topic string) bool      { return s.front.replica.Counted(topic) }
func (s *simNode) TerminateUser(app, user string) { s.front.replica.TerminateUser(app, user) }
func (s *simNode) Overloaded() bool               { return s.front.replica.Overloaded() }
func (s *simNode) Connections(app string) int64   { return s.front.replica.Connections(app) }

// Total checks that only topics are counted that are to be. Members of a node that is dead count
// until it is buried.
func (s *simNode) Total(topic string, members int) {
	s.w.tell("node %d: %d in %s", s.slot, members, topic)
	if s.w.state("replica: total"); members < 1 || !s.Counted(topic) {
		s.fail("%d members of %s are counted", members, topic)
	}
	s.front.replica.Total(topic, members)
}

// --- What moves ---

// turn lets one thing happen to a node.
func (s *simNode) turn(do func()) {
	if !s.alive {
		return
	}
	s.n.begin(s.w.now)
	if do != nil {
		do()
	}
	s.n.endTurn()
	if s.link != nil && s.n.link == nil {
		s.linkOver(s.link.why)
	}
	if live := s.n.Counters.Live.Load(); live != s.live {
		if s.live = live; live {
			s.w.wentLive(s)
		}
	}
	if lost := s.n.Counters.Lost.Load() + s.n.Counters.Uncertain.Load(); lost != s.lost {
		s.lost = lost
		s.w.state("events: given up")
		if s.w.strict {
			s.fail("an event is lost, and nothing was wrong")
		}
		s.w.excuse(func(e *simEvent) bool { return e.by == s }, ^(uint32(1) << s.slot))
		s.w.excuseRequests(func(e *simEvent) bool { return e.tried[s] })
	}
}

// linkOver notes that a node has given up its link.
func (s *simNode) linkOver(why error) {
	s.w.tell("node %d: session over: %v", s.slot, why)
	s.w.state("session over: " + short(why))
	if s.w.strict {
		s.fail("the session ends, and nothing was wrong: %v", why)
	}
	for _, c := range s.link.conns {
		c.gone, c.replies, c.pushes, c.subscriptions = true, nil, nil, nil
		clear(c.listens)
	}
	s.link = nil
	s.dial = s.w.now.Add(redial.Low + time.Duration(s.w.rng.IntN(400))*time.Millisecond)
	if !errors.Is(why, errRedisDied) {
		s.unsound()
	}
	if s.live {
		s.knows = 0
		for _, o := range s.w.nodes {
			if o != s && o.sound && s.steady() && o.steady() {
				s.knows |= 1 << o.slot
			}
		}
	}
}

// steady says that a node has been live for a while, and that Redis hears of it.
func (s *simNode) steady() bool {
	return s.w.now.Sub(s.liveAt) > 1500*time.Millisecond &&
		s.w.now.Sub(s.renewed) < 1500*time.Millisecond
}

// short is an error without the parts that differ each time.
func short(err error) string {
	text := err.Error()
	for _, cut := range []string{": Redis answers", " for "} {
		text, _, _ = strings.Cut(text, cut)
	}
	return text
}

var errRedisDied = errors.New("read from Redis: EOF")

// unsound notes that a node may miss what others publish.
func (s *simNode) unsound() {
	s.sound = false
	s.w.excuse(func(e *simEvent) bool { return e.by != s || e.keyed != nil }, 1<<s.slot)
}

// excuse removes nodes from those that some events must still reach.
func (w *world) excuse(which func(*simEvent) bool, slots uint32) {
	for _, e := range w.events {
		if e.needs&slots != 0 && which(e) {
			e.needs &^= slots
		}
	}
}

// wentLive notes that a node sends the events that it has kept. It has waited for the nodes that it
// knew. Other nodes that are not in step by now may miss these events.
func (w *world) wentLive(s *simNode) {
	w.tell("node %d is live", s.slot)
	waits := w.now.Sub(s.n.upAt) < peersGrace
	for _, o := range w.nodes {
		inStep := o.link != nil && o.link.why == nil && o.n.inStep()
		if o != s && o.alive && !inStep && !(waits && s.knows&(1<<o.slot) != 0) {
			o.unsound()
		}
	}
	s.sound, s.liveAt = true, w.now
}

// move lets up to count elements of a queue of a conn move on. It returns false if nothing can
// move.
func (w *world) move(c *conn, queue int, count int) bool {
	if w.now.Before(c.stalled[queue]) {
		return false
	}
	s := c.link.node
	awake := s.alive && !w.now.Before(s.frozen)
	switch queue {
	case 0:
		if len(c.commands) == 0 || w.now.Before(c.server.down) {
			return false
		}
		for range min(count, len(c.commands)) {
			args := c.commands[0]
			c.commands = c.commands[1:]
			for _, a := range args {
				c.bytes -= len(a)
			}
			r := c.server.do(c, args)
			if !c.gone {
				c.replies = append(c.replies, r)
			}
		}
	case 1:
		if len(c.replies) == 0 || !awake || c.gone {
			return false
		}
		k := min(count, len(c.replies))
		batch := c.replies[:k:k]
		c.replies = c.replies[k:]
		s.turn(func() { s.n.handleReplies(Batch{c.master, batch}) })
	case 2:
		if len(c.subscriptions) == 0 || c.gone {
			return false
		}
		args := c.subscriptions[0]
		c.subscriptions = c.subscriptions[1:]
		switch strings.TrimPrefix(args[0], "S") {
		case "UBSCRIBE", "SUBSCRIBE":
			if c.listens[args[1]] = true; c.loses() {
				break
			}
			c.pushes = append(c.pushes, pushed("subscribe", args[1], "1"))
		case "UNSUBSCRIBE":
			delete(c.listens, args[1])
			c.pushes = append(c.pushes, pushed("unsubscribe", args[1], "0"))
		default:
			c.pushes = append(c.pushes, resp.Reply{Kind: resp.Text, Text: "PONG"})
		}
	case 3:
		if len(c.pushes) == 0 || !awake || c.gone {
			return false
		}
		if s.n.holds(w.now) {
			w.state("node: holds back")
			return false
		}
		k := min(count, len(c.pushes))
		batch := c.pushes[:k:k]
		c.pushes = c.pushes[k:]
		s.turn(func() { s.n.handlePushes(Batch{c.master, batch}) })
	}
	return true
}

func pushed(words ...string) resp.Reply {
	r := resp.Reply{Kind: resp.Push, Items: make([]resp.Reply, len(words))}
	for i, s := range words {
		r.Items[i] = resp.Reply{Kind: resp.Text, Text: s}
	}
	return r
}

// do executes a command of a conn.
func (v *server) do(c *conn, args []string) resp.Reply {
	if c.refuse != "" {
		return resp.Reply{Kind: resp.Error, Text: c.refuse}
	}
	v.redis.Now = v.w.now.UnixMilli()
	if c.gone {
		v.w.state("Redis: a late command")
	}
	r := v.redis.Do(args...)
	if args[0] == "EVALSHA" && args[1] == c.link.node.n.scripts.Renew.SHA && r.Kind != resp.Error {
		c.link.node.renewed = v.w.now
	}
	if v.w.verbose && (args[0] == "EVALSHA" || args[0] == "SET" || args[0] == "PUBLISH" ||
		args[0] == "SPUBLISH") {
		v.w.tell("Redis: node %d%s: %s = %s", c.link.node.slot,
			map[bool]string{true: ", late"}[c.gone], words(c.link.node.n, args), replyText(r))
	}
	if r.Kind == resp.Error && strings.HasPrefix(r.Text, "FENCED") {
		v.w.state("Redis: fenced")
	}
	return r
}

func replyText(r resp.Reply) string {
	switch {
	case r.Kind == resp.Int:
		return strconv.FormatInt(r.N, 10)
	case r.Kind == resp.Array:
		var parts []string
		for _, i := range r.Items {
			parts = append(parts, replyText(i))
		}
		return fmt.Sprint(parts)
	}
	return strconv.QuoteToASCII(r.Text)
}

func words(n *Node, args []string) string {
	line := strings.Join(args, " ")
	for _, s := range n.scripts.All() {
		line = strings.ReplaceAll(line, s.SHA, s.Name)
	}
	return strconv.QuoteToASCII(line)
}

// publish delivers a message as Redis does.
func (v *server) publish(channel, message string) (heard int64) {
	for _, c := range v.conns {
		if !c.gone && c.listens[channel] {
			if c.link.node.n.own[channel] && c.loses() {
				continue
			}
			c.pushes = append(c.pushes, pushed("message", channel, message))
			heard++
		}
	}
	if len(message) > 1 && message[1] == 'e' {
		e, err := envelopes.Parse(message)
		if err == nil && e.Remember {
			v.place++
			v.cache[e.Payload] = v.place
		}
		if id, bad := strconv.Atoi(e.Payload); bad == nil && v.w.events[id].keyed != nil {
			v.w.published(v.w.events[id], &e)
		}
	}
	return heard
}

// loses says, once, that an answer is lost.
func (c *conn) loses() bool {
	lose := c.lose
	c.lose = false
	return lose
}

func (v *server) listeners(string) int64 { return 0 }

// movers list what the scheduler can let move on, always in the same order: the queues of each
// conn, and the loops of each process.
func (w *world) movers() (all []func(which int, by uint32) bool) {
	for _, v := range w.servers {
		for _, c := range v.conns {
			all = append(all, func(which int, by uint32) bool {
				return w.move(c, which%4,
					1+int(by)%4)
			})
		}
	}
	for _, s := range w.nodes {
		for _, l := range s.front.loops {
			all = append(all, l.move)
		}
		all = append(all, func(_ int, by uint32) bool { return s.post(by) })
	}
	return all
}

// drain moves everything until nothing can move any more.
func (w *world) drain(only *simNode) {
	for moved := true; moved; {
		moved = false
		for _, v := range w.servers {
			v.conns = slices.DeleteFunc(v.conns, func(c *conn) bool {
				return c.gone &&
					len(c.commands) == 0
			})
			begin := 0
			if len(v.conns) > 0 {
				begin = w.rng.IntN(len(v.conns))
			}
			conns := slices.Clone(v.conns)
			for i := range conns {
				c := conns[(begin+i)%len(conns)]
				if only != nil && c.link.node != only {
					continue
				}
				for q := range 4 {
					moved = w.move(c, q, 1+w.rng.IntN(4)) || moved
				}
			}
		}
		for _, s := range w.nodes {
			if only == nil || s == only {
				moved = s.work() || moved
			}
		}
	}
	if only == nil {
		w.drained = w.now
	}
}

// work lets the loops of a process do all that they have, and its node what they hand over.
func (s *simNode) work() (moved bool) {
	if !s.alive || s.w.now.Before(s.frozen) {
		return false
	}
	for _, l := range s.front.loops {
		for which := range 4 {
			moved = l.move(which, s.w.rng.Uint32()) || moved
		}
	}
	for s.post(s.w.rng.Uint32()) {
		moved = true
	}
	if s.n.driver.Waiting() > 0 {
		s.turn(nil)
		moved = true
	}
	return moved
}

// advance moves the clock, in ticks.
func (w *world) advance(d time.Duration) {
	w.now = w.now.Add(d)
	for i := 0; i < len(w.later); i++ {
		if p := w.later[i]; !w.now.Before(p.at) {
			w.later = slices.Delete(w.later, i, i+1)
			i--
			p.do()
		}
	}
	if w.now.Sub(w.drained) > time.Second {
		w.drain(nil)
	}
	for _, s := range w.nodes {
		if !s.alive || w.now.Before(s.frozen) || w.now.Before(s.tick) {
			continue
		}
		s.tick = w.now.Add(100 * time.Millisecond)
		s.turn(s.n.handleTick)
		s.notice()
		if s.link == nil && !w.now.Before(s.dial) {
			s.connect()
		}
	}
}

// pass lets time pass, with all that happens in it.
func (w *world) pass(d, by time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.drain(nil)
		w.advance(by)
	}
	w.drain(nil)
}

// connect tries to reach Redis.
func (s *simNode) connect() {
	if !s.alive || s.quitting {
		return
	}
	for _, v := range s.w.servers {
		if s.w.now.Before(v.down) {
			if s.dial = s.w.now.Add(redial.High); !s.tried {
				s.tried = true
				s.n.post(s.n.startAlone)
				s.turn(nil)
			}
			return
		}
	}
	s.tried = true
	l := &simLink{node: s}
	for i, v := range s.w.servers {
		c := &conn{link: l, server: v, master: i, listens: map[string]bool{}}
		l.conns = append(l.conns, c)
		v.conns = append(v.conns, c)
	}
	s.link = l
	s.turn(func() { s.n.handleUp(l) })
	s.w.tell("node %d connects as %s", s.slot, s.n.id)
}

// notice counts which states nodes and topics are in.
func (s *simNode) notice() {
	n, w := s.n, s.w
	at := func(is bool, name string) {
		if is {
			w.state(name)
		}
	}
	live := n.Counters.Live.Load()
	at(n.link == nil, "node: away")
	at(n.link == nil && n.starting, "node: waits for the first session")
	at(n.link != nil && !n.registered, "node: up, without a lease")
	at(n.registered && n.syncing > 0, "node: not in step")
	at(n.inStep() && !live, "node: in step, waits for peers")
	at(live, "node: live")
	at(len(n.backlog) > 0, "node: has a backlog")
	at(len(n.bulk) > 0, "node: bulk work waits")
	at(len(n.burying) > 0, "node: buries")
	at(len(n.former) > 0, "node: has former incarnations")
	at(len(n.troubled) > 0, "node: troubled")
	for _, t := range n.topics {
		w.state([...]string{"topic: detached", "topic: subscribing", "topic: syncing",
			"topic: alone", "topic: active"}[t.State])
		at(len(t.View.Missing()) > 0, "topic: members missing")
		at(t.Waiters != nil && len(t.Behind) > 0, "topic: waits for a marker")
		at(t.Kept != nil, "topic: keeps the latest")
		at(t.Lingers(), "topic: lingers")
		at(t.Lingers() && t.View.Len() == 0, "topic: lingers, and is empty")
		at(t.Lingers() && t.Cache, "topic: lingers, and has a last event")
	}
}

// stateLog counts each message of a node's log as a state.
type stateLog struct{ w *world }

func (l stateLog) Enabled(context.Context, slog.Level) bool { return true }
func (l stateLog) Handle(_ context.Context, r slog.Record) error {
	l.w.tell("log: %s", r.Message)
	l.w.state("log: " + r.Message[:min(len(r.Message), 60)])
	return nil
}
func (l stateLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l stateLog) WithGroup(string) slog.Handler      { return l }

// begin starts a process in a slot.
func (w *world) begin(slot int) *simNode {
	w.ids++
	s := &simNode{w: w, slot: slot, alive: true, view: map[string][]string{}, got: map[int]bool{},
		last: map[[3]int]int{}, cached: map[string]string{}, log: map[string][]int{}, tick: w.now,
		dial: w.now}
	s.n = New(Options{Prefix: "p", Patience: time.Minute, Sharded: w.shape.servers > 1,
		Failover: w.failover, Outbox: s.openOutbox(),
		Random: rand.New(rand.NewPCG(w.seed, w.ids))}, nil, s,
		slog.New(stateLog{w}))
	if w.shape.servers > 1 {
		s.n.buckets = s.n.buckets[:4] // few buckets are enough
	}
	s.configureOutbox()
	s.n.large = 2 // the least that is allowed
	s.n.atOnce = 1 + s.w.rng.IntN(4)
	s.front = newSimFront(s)
	s.keys = retries.New(w.ids, func(d time.Duration, sweep func(time.Time)) {
		w.later = append(w.later, planned{w.now.Add(d), func() { sweep(w.now) }})
	})
	s.n.begin(w.now)
	s.n.wait()
	w.nodes[slot] = s
	return s
}

func newWorld(sh shape, verbose bool) *world {
	w := &world{shape: sh, now: time.Unix(1_000_000_000, 0), rng: rand.New(rand.NewPCG(sh.seed, 2)),
		accepts: map[string]int{}, strict: true, verbose: verbose, seen: map[string]int{},
		faults: map[faultKind]int{}}
	w.begun, w.drained = w.now, w.now
	w.hooked, w.receivers = sh.seed%4 != 0, newReceivers()
	texts := scripts.New(sh.servers > 1, w.hooked).Texts()
	for range sh.servers {
		v := &server{w: w, cache: map[string]int{}}
		v.redis = redismodel.New(texts, w.rng, v.publish, v.listeners)
		if sh.seed%3 == 0 { // elsewhere there are never many
			v.redis.Many = int(sh.seed/3) % 4
			v.redis.Most = 1 + int(sh.seed/3)%3
		}
		v.redis.Told = w.written
		w.servers = append(w.servers, v)
	}
	w.nodes = make([]*simNode, sh.nodes)
	for i := range w.nodes {
		w.begin(i)
	}
	for range sh.clients {
		w.clients = append(w.clients, &simClient{})
	}
	return w
}
