package cluster

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reverb/internal/census"
	"reverb/internal/cluster/redismodel"
	"reverb/internal/envelopes"
	"reverb/internal/envelopes/known"
	"reverb/internal/lib/resp"
	"reverb/internal/protocol"
)

// --- Clients ---

func isPresence(topic string) bool { return strings.Contains(topic, ":presence-") }
func isCache(topic string) bool    { return strings.Contains(topic, "cache-") }

// awake lists the processes that can act.
func (w *world) awake() (nodes []*simNode) {
	for _, s := range w.nodes {
		if s.alive && !s.quitting && !w.now.Before(s.frozen) {
			nodes = append(nodes, s)
		}
	}
	return nodes
}

// one picks an element; the zero T if there is none.
func one[T any](of []T, by uint32) (t T) {
	if len(of) > 0 {
		t = of[int(by)%len(of)]
	}
	return t
}

func (w *world) pick(which func(*simClient) bool, by uint32) *simClient {
	var of []*simClient
	for _, c := range w.clients {
		if which(c) {
			of = append(of, c)
		}
	}
	return one(of, by)
}

// members counts the clients that are in a topic on a node.
func (s *simNode) members(topic string) (count int) {
	for _, c := range s.w.clients {
		if c.node == s && c.in && c.topic == topic {
			count++
		}
	}
	return count
}

func (w *world) join(c *simClient, s *simNode, topic, user string) {
	if !isPresence(topic) {
		user = userOf(topic)
	}
	w.tell("node %d: %s joins %s", s.slot, user, topic)
	*c = simClient{node: s, topic: topic, user: user, floor: w.accepts[topic]}
	s.front.join(c)
}

// in counts the clients that are in a topic.
func (w *world) in(topic string) (count int) {
	for _, c := range w.clients {
		if c.in && c.topic == topic {
			count++
		}
	}
	return count
}

// deaf says why a node does not hear events of a topic that is in step; empty: it hears them.
func (s *simNode) deaf(topic string) string {
	t := s.n.topics[topic]
	if s.link == nil || s.link.why != nil || t == nil || t.State != known.Active {
		return ""
	}
	c, channel := s.link.conns[int(t.Bucket)%len(s.link.conns)], s.n.key(int(t.Bucket), t.Name)
	if !c.listens[channel] {
		return "Redis does not know that the node listens"
	}
	for _, args := range c.subscriptions {
		if strings.HasSuffix(args[0], "UNSUBSCRIBE") && args[1] == channel {
			return "the node is about to listen no more"
		}
	}
	return ""
}

// placeOf is the place of an event in the order in which Redis has executed the events of a cache
// channel.
func (w *world) placeOf(topic, payload string) int {
	return w.servers[w.nodes[0].n.bucketOf(topic)%len(w.servers)].cache[payload]
}

func (w *world) leave(c *simClient) {
	s := c.node
	w.tell("node %d: %s leaves %s", s.slot, c.user, c.topic)
	seat := c.seat
	if !c.attached() {
		c.cancelled, c.in = true, false
		seat.cancel()
	} else {
		*c = simClient{topic: c.topic, user: c.user}
	}
	if s.members(c.topic) == 0 {
		w.excuse(func(e *simEvent) bool { return e.topic == c.topic }, 1<<s.slot)
	}
	if !c.cancelled {
		seat.leave()
	}
}

// attached says that the client's loop has made it a subscriber.
func (c *simClient) attached() bool { return c.in && c.seat.sub != nil }

// memberOf is the seat of one of the subscribers to a topic on a node; without one it is an empty
// seat.
func (w *world) memberOf(s *simNode, topic string, by uint32) *simSeat {
	c := w.pick(func(c *simClient) bool {
		return c.node == s && c.topic == topic && c.attached()
	}, by)
	if c == nil {
		return new(simSeat)
	}
	return c.seat
}

// needs are the slots of the nodes that must get an event that s publishes now.
func (w *world) needs(s *simNode, topic string) (slots uint32) {
	for _, o := range w.nodes {
		if o.alive && (o == s || o.sound) && o.members(topic) > 0 {
			slots |= 1 << o.slot
		}
	}
	return slots
}

// publish publishes an event for all members but the one with the socket ID except.
func (w *world) publish(s *simNode, topic string, except uint64) {
	e := &simEvent{id: len(w.events), number: len(w.events) + 1, by: s, topic: topic, at: w.now,
		except: except, cache: isCache(topic)}
	e.needs = w.needs(s, topic)
	w.events = append(w.events, e)
	w.tell("node %d publishes event %d to %s", s.slot, e.id, topic)
	a, name := s.front.channel(topic)
	cast := a.Event(strconv.AppendInt(nil, int64(e.id), 10), protocol.SocketIDOf(except), w.now)
	if _, later := s.front.engine.Publish(a, name, cast, true, nil, make(chan error, 1)); !later {
		s.fail("an event of %s is delivered at once", topic)
	}
}

// --- Steps ---

func (w *world) do(p step) {
	s := one(w.awake(), p.a)
	topic := simTopics[int(p.b)%w.topics]
	switch p.kind {
	case moveStep:
		movers := w.movers()
		for i := range movers {
			move := movers[(int(p.a)+i)%len(movers)]
			for q := range 4 {
				if move(int(p.b)+q, p.c) {
					return
				}
			}
		}
	case advanceStep:
		w.advance(time.Duration(10+p.a%110) * time.Millisecond)
	case passStep:
		w.pass(time.Second+time.Duration(p.a%1500)*time.Millisecond, 200*time.Millisecond)
	case drainStep:
		if s != nil {
			w.drain(s)
		}
	case faultStep:
		w.strict = false
		w.strike(p)
	default:
		if s == nil {
			return
		}
		w.act(p, s, topic)
		s.turn(nil)
	}
}

// act does what the clients of a node do in one step.
func (w *world) act(p step, s *simNode, topic string) {
	n := s.n
	switch p.kind {
	case joinStep:
		if c := w.pick(func(c *simClient) bool { return c.node == nil }, p.c); c != nil {
			w.join(c, s, topic, "u"+strconv.Itoa(int(p.c>>8)%w.users))
		}
	case leaveStep:
		if c := w.pick(func(c *simClient) bool { return c.node == s && !c.cancelled },
			p.c); c != nil {
			w.leave(c)
		}
	case churnStep:
		if c := w.pick(func(c *simClient) bool { return c.node == s && c.attached() },
			p.c); c != nil {
			w.leave(c)
			w.join(c, s, c.topic, "u"+strconv.Itoa(int(p.c>>8)%w.users))
		}
	case publishStep:
		w.publish(s, topic, w.memberOf(s, topic, p.c).id)
	case watchStep:
		s.front.watch(p.c)
	case sayStep:
		s.say(topic)
	case handStep:
		w.handOver(s, p.c)
	case keyStep:
		w.request(s, w.pickRequest(p.c), p.b>>8)
	case catchUpStep:
		if seat := w.memberOf(s, topic, p.c); seat.front != nil {
			seat.rejoin()
		} else {
			s.front.CatchUp(topic, func() {})
		}
	case connectStep:
		s.conns = max(0, s.conns+int64(p.c%3)-1)
		s.front.engine.Left(s.front.apps["a"])
	case countStep:
		s.front.engine.Enter(s.front.apps["a"], s.front.seat(new(simClient)), s.conns, 1)
	case statsStep:
		s.asked++
		n.Ask(context.Background(), census.StatsQuestions(n, simTopics),
			func([]resp.Reply, error) { s.asked-- })
	case terminateStep:
		s.asked++
		was := make([]int, len(w.nodes))
		for i, o := range w.nodes {
			was[i] = o.ended
		}
		nodes, strict := slices.Clone(w.nodes), w.strict
		n.TerminateAll("a", "7", func(error) {
			s.asked--
			w.later = append(w.later, planned{w.now, func() { // it is on its way to all
				w.drain(nil)
				for i, o := range nodes {
					if o.ended <= was[i] && strict && w.strict {
						o.fail("it is not told to terminate a user")
					}
				}
			}})
		})
	}
}

// --- Faults ---

// strike lets a fault happen. If it cannot happen now, a link is cut instead.
func (w *world) strike(p step) {
	kind := p.fault
	if !w.struck(kind, p) {
		if kind = cutFault; !w.struck(kind, p) {
			return
		}
	}
	w.faults[kind]++
	switch p.c % 3 {
	case 1:
		w.pass(time.Duration(500+p.c>>8%3500)*time.Millisecond, 200*time.Millisecond)
	case 2:
		w.pass(time.Duration(4000+p.c>>8%12000)*time.Millisecond, 500*time.Millisecond)
	}
}

func (w *world) struck(kind faultKind, p step) bool {
	var linked []*simNode
	for _, s := range w.awake() {
		if s.link != nil {
			linked = append(linked, s)
		}
	}
	s := one(linked, p.a)
	if s == nil && kind != emptyFault {
		return false
	}
	w.tell("fault: %s", faultNames[kind])
	long := time.Duration(500+p.b%5000) * time.Millisecond
	switch kind {
	case cutFault:
		for _, c := range s.link.conns { // some of what was written is lost
			c.commands = c.commands[:len(c.commands)-int(p.b)%(len(c.commands)+1)]
		}
		s.link.Fail(errors.New("read from Redis: connection reset by peer"))
		s.turn(nil)
	case holeFault:
		for _, c := range s.link.conns {
			c.stalled = [4]time.Time{w.now.Add(time.Minute), w.now.Add(time.Minute),
				w.now.Add(time.Minute), w.now.Add(time.Minute)}
			if p.b%2 == 0 {
				c.stalled[0] = w.now.Add(2 * long) // what is on its way arrives later
			}
		}
	case slowToFault:
		for _, c := range s.link.conns {
			c.stalled[0] = w.now.Add(long)
			if p.b%2 == 0 {
				c.stalled[2] = c.stalled[0]
			}
		}
	case slowFromFault:
		for _, c := range s.link.conns {
			c.stalled[1+2*(p.b%2)] = w.now.Add(long)
		}
	case frozenFault:
		s.frozen = w.now.Add(time.Duration(1000+p.b%16000) * time.Millisecond)
		for k := range 3 { // work that the node finds when it is thawed
			w.act(step{kind: joinStep + stepKind((p.b>>8+uint32(k))%3), c: p.a>>4 + uint32(k)}, s,
				simTopics[int(p.b>>4)%w.topics])
		}
		if p.b%2 == 0 {
			for _, c := range s.link.conns {
				c.stalled[0] = s.frozen
			}
		}
	case killedFault:
		if len(w.awake()) < 2 {
			return false
		}
		w.kill(s, p.b%2 == 0)
		w.later = append(w.later, planned{w.now.Add(2 * long), func() { w.restart(s) }})
	case quitFault:
		if len(w.awake()) < 2 {
			return false
		}
		for _, c := range w.clients {
			if c.node == s && !c.cancelled {
				w.leave(c)
			}
		}
		for len(s.front.watchers) > 0 {
			s.front.unwatch(s.front.watchers[0])
		}
		w.turnOut(s)
		w.later = append(w.later, planned{w.now.Add(2*long + 3*time.Second),
			func() { w.restart(s) }})
	// If there are several masters, all forget the same. Keys of a dead node that only one master
	// has forgotten, or still has, are never cleared up. That is not mended yet.
	case emptyFault:
		w.excuseRequests(func(*simEvent) bool { return true })
		w.forgot = true
		for _, v := range w.servers {
			v.redis.Load(nil)
			w.crash(v, p.c)
		}
	case keptFault:
		for _, v := range w.servers {
			w.crash(v, p.c)
		}
	case olderFault, failoverFault:
		var states []redismodel.State
		for _, v := range w.servers {
			states = append(states, v.redis.Save())
		}
		at := w.now.Add(long)
		if kind == failoverFault {
			at = w.now.Add(long / 20)
		}
		w.later = append(w.later, planned{at, func() {
			w.excuseRequests(func(*simEvent) bool { return !w.settled })
			for i, v := range w.servers {
				if !w.settled {
					w.forgot = true
					v.redis.Load(states[i])
					w.crash(v, p.c)
				}
			}
		}})
	case fullFault:
		s.link.full = w.now.Add(long)
	case overloadFault:
		s.overload = w.now.Add(long)
	case foreignFault:
		return w.plant(s, p, long)
	case lostFault:
		s.link.conns[int(p.b)%len(s.link.conns)].lose = true
	case refusedFault:
		s.link.conns[int(p.b)%len(s.link.conns)].refuse = "READONLY You can't write against a " +
			"read only replica."
	}
	return true
}

// planted lists names of a topic's keys that something else may take.
var planted = []string{":members", ":count", ":nodes", ":order", ":cached"}

// plant lets something else write under a name of a topic, for a while.
func (w *world) plant(s *simNode, p step, long time.Duration) bool {
	for i := range w.topics {
		topic := simTopics[(int(p.b)+i)%w.topics]
		name := one(planted, p.a>>8)
		if name == ":cached" {
			topic = simTopics[1%w.topics]
		}
		w.forgot = true
		b := s.n.bucketOf(topic)
		v, key := w.servers[b%len(w.servers)], s.n.key(b, topic)+name
		if name == ":cached" { // only the event is lost
			v.redis.Do("DEL", key)
			v.redis.Do("HSET", key, "foreign", "1")
			maps.DeleteFunc(v.cache, func(payload string, _ int) bool {
				id, err := strconv.Atoi(payload) // a claim of it may be answered after the faults
				return err == nil && w.events[id].topic == topic
			})
		} else if _, taken := v.redis.Text(key); taken || v.redis.Hash(key) != nil {
			continue
		} else {
			v.redis.Do("SET", key, "foreign")
		}
		w.later = append(w.later, planned{w.now.Add(long), func() { w.weed() }})
		for k := range 2 { // two clients come, and one of them goes again meanwhile
			c := w.pick(func(c *simClient) bool { return c.node == nil }, p.c)
			if c == nil {
				break
			}
			w.join(c, s, topic, "u"+strconv.Itoa(k))
			s.turn(nil)
			if k == 1 {
				w.later = append(w.later, planned{w.now.Add(long / 2), func() {
					if c.node == s && s.alive && !s.quitting && !w.now.Before(s.frozen) &&
						!c.cancelled && c.topic == topic {
						w.leave(c)
						s.turn(nil)
					}
				}})
			}
		}
		return true
	}
	return false
}

// weed removes what was planted.
func (w *world) weed() {
	n := w.nodes[0].n
	for _, topic := range simTopics {
		b := n.bucketOf(topic)
		v := w.servers[b%len(w.servers)]
		for _, name := range planted {
			key := n.key(b, topic) + name
			if text, _ := v.redis.Text(key); text == "foreign" ||
				v.redis.Hash(key)["foreign"] != "" {
				v.redis.Do("DEL", key)
			}
		}
	}
}

// crash ends all sessions with a server. What had not been read is lost. Other nodes may also lose
// events that were settled for longer than a node remembers.
func (w *world) crash(v *server, by uint32) {
	w.tell("Redis is gone")
	v.down = w.now.Add(time.Duration(by>>4%2000) * time.Millisecond)
	conns := v.conns
	v.conns = nil
	for _, e := range w.events {
		if e.keyed != nil {
			e.needs = 0
		}
		if e.needs == 0 {
			continue
		}
		n := e.by.n
		if e.by.alive && !w.now.Before(e.by.frozen) && w.now.Sub(e.at) <= n.recent {
			continue
		}
		b := &n.buckets[n.bucketOf(e.topic)]
		waits := func(o *known.Event) bool {
			return !o.Settled() && o.Payload == strconv.Itoa(e.id)
		}
		if !slices.ContainsFunc(b.Pending, waits) && !slices.ContainsFunc(n.backlog, waits) {
			e.needs &= 1 << e.by.slot
		}
	}
	for _, c := range conns {
		if c.gone {
			continue
		}
		c.link.Fail(errRedisDied)
		if s := c.link.node; s.link == c.link && !w.now.Before(s.frozen) {
			s.turn(nil)
		}
	}
}

// kill ends a process. What it has written may still arrive.
func (w *world) kill(s *simNode, lost bool) {
	if s.link != nil {
		for _, c := range s.link.conns {
			if c.gone = true; lost {
				c.commands = nil
			}
		}
	}
	s.alive, s.sound, s.link = false, false, nil
	w.excuse(func(e *simEvent) bool { return e.by == s }, ^uint32(0))
	w.excuse(func(*simEvent) bool { return true }, 1<<s.slot)
	w.excuse(func(e *simEvent) bool { return e.keyed != nil && e.tried[s] }, ^uint32(0))
	for _, c := range w.clients {
		if c.node == s {
			*c = simClient{}
		}
	}
}

// turnOut lets a process leave the cluster. The process ends when it has left, or after a time.
func (w *world) turnOut(s *simNode) {
	s.quitting = true
	end := func() {
		if s.alive {
			w.tell("node %d has left", s.slot)
			w.kill(s, true)
		}
	}
	left := false
	s.n.post(func() { s.n.leaveCluster(func() { left = true }) })
	s.turn(nil)
	limit := w.now.Add(replyLimit)
	var look func()
	look = func() {
		if left || !w.now.Before(limit) {
			end()
		} else if s.alive {
			w.later = append(w.later, planned{w.now.Add(100 * time.Millisecond), look})
		}
	}
	look()
}

// restart begins a process in the place of one that has ended.
func (w *world) restart(s *simNode) {
	if w.nodes[s.slot] == s {
		if s.alive {
			w.kill(s, true)
		}
		w.begin(s.slot)
	}
}

// --- The life of a world ---

// live runs a world. It panics with a simFailure.
func (w *world) live() {
	w.pass(1200*time.Millisecond, 100*time.Millisecond)
	first := slices.IndexFunc(w.steps, func(p step) bool { return p.kind == faultStep })
	if first < 0 {
		first = len(w.steps)
	}
	for _, p := range w.steps[:first] {
		w.do(p)
	}
	w.pass(300*time.Millisecond, 100*time.Millisecond)
	w.checkCalm(0, true)
	for _, p := range w.steps[first:] {
		w.do(p)
	}
	w.settle()
	w.checkCalm(len(w.events), false)
	w.strict = true
	from := len(w.events)
	rng := rand.New(rand.NewPCG(w.seed, 3))
	for _, topic := range simTopics[:w.topics] {
		if isCache(topic) {
			w.publish(one(w.nodes, rng.Uint32()), topic, 0)
		}
	}
	for range 40 {
		kind := []stepKind{moveStep, moveStep, advanceStep, joinStep, leaveStep, publishStep,
			keyStep, drainStep}[rng.IntN(8)]
		w.do(step{kind: kind, a: rng.Uint32(), b: rng.Uint32(), c: rng.Uint32()})
	}
	w.pass(1200*time.Millisecond, 200*time.Millisecond)
	w.checkCalm(from, false)
	// after a cut the node itself clears up what it has left behind, before its lease ends
	w.strict = false
	w.do(step{kind: faultStep, a: rng.Uint32(), fault: cutFault})
	w.pass(4*time.Second, 250*time.Millisecond)
	w.checkCalm(len(w.events), false)
	w.strict = true
	w.repeatRequests(rng.Uint32)
	w.checkCalm(len(w.events), false)
	for _, c := range w.clients {
		if c.node != nil {
			s := c.node
			w.leave(c)
			s.turn(nil)
		}
	}
	for _, s := range w.nodes {
		for len(s.front.watchers) > 0 {
			s.front.unwatch(s.front.watchers[0])
		}
		s.turn(nil)
	}
	w.pass(lingerTime+1200*time.Millisecond, 200*time.Millisecond)
	w.checkTold()
	w.checkEmpty()
}

// settle ends all faults, and gives the nodes the time that they need.
func (w *world) settle() {
	w.tell("faults are over")
	w.settled = true
	clear(w.accepts) // Redis may have forgotten what it had accepted
	w.weed()
	for _, v := range w.servers {
		v.down = time.Time{}
		for _, c := range v.conns {
			c.stalled, c.lose = [4]time.Time{}, false
			if c.refuse != "" && !c.gone {
				// a server that has refused a command does not take the next
				c.link.Fail(errors.New("read from Redis: connection reset by peer"))
			}
		}
	}
	for _, s := range w.nodes {
		s.frozen, s.overload = time.Time{}, time.Time{}
		if s.link != nil {
			s.link.full = time.Time{}
		}
		s.turn(nil)
		if !s.alive || s.quitting {
			w.restart(s)
		}
	}
	w.pass(45*time.Second, 500*time.Millisecond)
}

// --- What holds when things are calm ---

// checkCalm checks that every node is live and every question answered, that the events since from
// have come to all nodes that had to get them, in one order, and that lists and numbers are true.
// inOrder says that lists are in Redis' order: a node that was cut off lists missing users first.
func (w *world) checkCalm(from int, inOrder bool) {
	w.drain(nil)
	for _, s := range w.nodes {
		n := s.n
		if !s.live || s.link == nil {
			s.fail("it is not live")
		}
		if s.asked != 0 {
			s.fail("%d questions have no answer", s.asked)
		}
		pending := 0
		for _, b := range n.buckets {
			pending += len(b.Pending)
		}
		if left := pending + len(n.backlog) + len(n.bulk) + len(n.markers) + n.subscribing.Len() +
			len(n.unsubscribing) + len(n.burying) + len(n.troubled) + len(n.troubles) + int(
			n.inflight.Load()); left > 0 {
			s.fail("left: %d pending, %d backlog, %d bulk, %d markers, %d subscribing, %d "+
				"unsubscribing, %d burying, %d troubled, %d bytes in flight",
				pending, len(n.backlog), len(n.bulk), len(n.markers), n.subscribing.Len(),
				len(n.unsubscribing), len(n.burying), len(n.troubled), n.inflight.Load())
		}
	}
	for _, e := range w.events {
		if e.needs != 0 {
			w.fail("event %d of %s, published by node %d at %.3f, is lost to the nodes %b", e.id,
				e.topic, e.by.slot, e.at.Sub(w.begun).Seconds(), e.needs)
		}
	}
	w.checkRequests()
	for _, topic := range simTopics[:w.topics] {
		w.checkOrder(topic, from)
		w.checkTopic(topic, inOrder)
	}
	for _, s := range w.nodes {
		s.front.check()
	}
	w.checkNumbers()
	w.checkTold()
	w.checkRegistered()
}

// checkOrder checks that two nodes have the events that both have got in one order.
func (w *world) checkOrder(topic string, from int) {
	for i, a := range w.nodes {
		place := map[int]int{}
		for k, id := range a.log[topic] {
			place[id] = k
		}
		for _, b := range w.nodes[i+1:] {
			last, of := -1, -1
			for _, id := range b.log[topic] {
				if k, both := place[id]; both && id >= from {
					if k < last {
						w.fail("nodes %d and %d have events %d and %d of %s in another order",
							a.slot, b.slot, of, id, topic)
					}
					last, of = k, id
				}
			}
		}
	}
}

// checkTopic checks that a node with members in a topic sees all users, and has the last event.
func (w *world) checkTopic(topic string, inOrder bool) {
	n := w.nodes[0].n
	b := n.bucketOf(topic)
	v, key := w.servers[b%len(w.servers)], n.key(b, topic)
	truth := map[string]bool{}
	for _, c := range w.clients {
		if c.in && c.topic == topic && c.user != "" {
			truth[c.user] = true
		}
	}
	want := slices.Sorted(maps.Keys(truth))
	members := v.redis.Hash(key + ":members")
	if got := slices.Sorted(maps.Keys(members)); !slices.Equal(got, want) {
		w.fail("Redis has %v in %s, and %v are there", got, topic, want)
	}
	order := func(user string) int {
		k, _, _ := strings.Cut(members[user], ":")
		i, _ := strconv.Atoi(k)
		return i
	}
	ordered := slices.Clone(want)
	slices.SortFunc(ordered, func(a, b string) int { return order(a) - order(b) })
	last, _ := v.redis.Text(key + ":cached")
	for _, s := range w.nodes {
		t := s.n.topics[topic]
		if t != nil && t.Lingers() && s.members(topic) > 0 {
			s.fail("%s lingers, and has members", topic)
		}
		if s.members(topic) == 0 && !s.front.watched[topic] && (t == nil || !t.Lingers()) {
			if len(s.view[topic]) > 0 {
				s.fail("it sees %v in %s, in which it has nobody", s.view[topic], topic)
			}
			continue
		}
		got := slices.Clone(s.view[topic])
		if !inOrder {
			slices.Sort(got)
		}
		if inOrder && !slices.Equal(got, ordered) || !inOrder && !slices.Equal(got, want) {
			s.fail("it sees %v in %s, want %v", got, topic, ordered)
		}
		if isCache(topic) && w.strict && s.cached[topic] != last {
			s.fail("it has %q as the last event of %s, want %q", s.cached[topic], topic, last)
		}
	}
}

// checkNumbers checks that counts are true on every node.
func (w *world) checkNumbers() {
	connections := int64(0)
	for _, s := range w.nodes {
		connections += s.conns
	}
	for _, s := range w.nodes {
		answers := 0
		s.n.Count("a", s.conns, func(total int64, err error) {
			if answers++; err != nil || total != connections {
				s.fail("it counts %d connections, %v, want %d", total, err, connections)
			}
		})
		s.n.Ask(context.Background(), census.StatsQuestions(s.n, simTopics),
			func(r []resp.Reply, err error) {
				answers++
				if err != nil {
					s.fail("stats: %v", err)
				}
				subscriptions, users, _ := envelopes.Stats(r)
				for i, topic := range simTopics {
					in, who := 0, map[string]bool{}
					for _, c := range w.clients {
						if c.in && c.topic == topic {
							if in++; c.user != "" {
								who[c.user] = true
							}
						}
					}
					for _, o := range w.nodes {
						if o.front.watched[topic] {
							in++
						}
					}
					if subscriptions[i] != in || users[i] != len(who) {
						s.fail("it counts %d subscriptions and %d users of %s, want %d and %d",
							subscriptions[i], users[i], topic, in, len(who))
					}
				}
			})
		s.turn(nil)
		if w.drain(nil); answers != 2 {
			s.fail("%d of 2 questions are answered", answers)
		}
	}
}

// checkRegistered checks that Redis knows the incarnations that live, and no others.
func (w *world) checkRegistered() {
	n := w.nodes[0].n
	r := w.servers[0].redis
	r.Now = w.now.UnixMilli()
	var want []string
	for _, s := range w.nodes {
		want = append(want, s.n.id)
	}
	slices.Sort(want)
	for _, list := range []string{"nodes", "ready"} {
		var got []string
		for _, m := range r.Do("ZRANGE", n.key(0, list), "0", "-1").Items {
			got = append(got, m.Text)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			w.fail("Redis has the %s %v, want %v", list, got, want)
		}
	}
}

// stays says that a key remains when all users have left all topics: the keys of nodes that live,
// the marks of dead ones, and cached events.
func (w *world) stays(key string) bool {
	n := w.nodes[0].n
	if key == n.key(0, "nodes") || key == n.key(0, "ready") || strings.HasSuffix(key, ":dead") ||
		strings.HasSuffix(key, ":cached") ||
		strings.Contains(key, ":claim:") || strings.Contains(key, ":hooks:") {
		return true
	}
	return slices.ContainsFunc(w.nodes, func(s *simNode) bool {
		return key == n.key(0, "node",
			s.n.id, "counts")
	})
}

// checkEmpty checks that nothing is left when all have gone.
func (w *world) checkEmpty() {
	for _, s := range w.nodes {
		if len(s.n.topics) > 0 || len(s.view) > 0 {
			s.fail("it keeps %d topics, and sees %v", len(s.n.topics), s.view)
		}
		if s.asked != 0 {
			s.fail("%d questions have no answer", s.asked)
		}
		s.front.checkEmpty()
	}
	for i, v := range w.servers {
		v.redis.Now = w.now.UnixMilli()
		for _, line := range v.redis.Dump() {
			if key, _, _ := strings.Cut(line, " "); !w.stays(key) {
				w.fail("left in Redis %d: %s", i, line)
			}
		}
		for _, c := range v.conns {
			for channel := range c.listens {
				if !c.link.node.n.own[channel] && !strings.HasSuffix(channel, ":all") {
					c.link.node.fail("it still listens to %s", channel)
				}
			}
		}
	}
}

// --- The runner ---

var (
	simulateFor = flag.Duration("simulate", 0, "how long worlds are simulated; else see -worlds")
	simSeed     = flag.Uint64("seed", 0, "the seed of the only world to simulate")
	simWorlds   = flag.Uint64("worlds", 0, "how many worlds are simulated; 0: 500, or as many as "+
		"3 seconds allow")
	simShrink = flag.Duration("shrink", 20*time.Second, "how long a small world is sought for "+
		"one that fails")
	simFrom = flag.Uint64("from", 1, "the first seed")
)

// run runs a world and returns what is wrong with it; empty: nothing.
func run(sh shape, verbose bool) (w *world, failure string) {
	w = newWorld(sh, verbose)
	defer func() {
		switch e := recover().(type) {
		case nil:
		case simFailure:
			failure = string(e)
		default:
			failure = fmt.Sprintf("panic: %v\n%s", e, debug.Stack())
		}
	}()
	w.live()
	return w, ""
}

// smaller finds a small world that fails: with fewer nodes, clients and steps.
func smaller(sh shape, limit time.Duration) shape {
	end := time.Now().Add(limit)
	_, first := run(sh, false)
	fails := func(s shape) bool {
		_, failure := run(s, false)
		return alike(failure) == alike(first)
	}
	for _, shrink := range []func(*shape) bool{
		func(s *shape) bool { s.nodes--; return s.nodes >= 2 },
		func(s *shape) bool { s.clients--; return s.clients >= 1 },
		func(s *shape) bool { s.topics--; return s.topics >= 1 },
		func(s *shape) bool { s.users--; return s.users >= 1 },
	} {
		for time.Now().Before(end) {
			s := sh
			if !shrink(&s) || !fails(s) {
				break
			}
			sh = s
		}
	}
	for size := len(sh.steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(sh.steps) && time.Now().Before(end); {
			s := sh
			s.steps = slices.Delete(slices.Clone(sh.steps), at, at+size)
			if fails(s) {
				sh = s
			} else {
				at += size
			}
		}
	}
	return sh
}

// alike is the part of a failure that all failures of one kind share.
func alike(failure string) string {
	var words []string
	for _, w := range strings.Fields(failure) {
		if !strings.ContainsAny(w, "0123456789[](){}") {
			words = append(words, w)
		}
	}
	return strings.Join(words[:min(len(words), 8)], " ")
}

// statistics has the figures of the worlds of a run.
type statistics struct {
	mu     sync.Mutex
	worlds int
	steps  []int
	nodes  [6]int
	faults map[string]int // in how many worlds each fault struck
	states map[string]int // in how many worlds each state was reached
	taken  map[string]int
}

func (st *statistics) add(w *world) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.worlds++
	st.steps = append(st.steps, len(w.steps))
	st.nodes[w.shape.nodes]++
	for f := range w.faults {
		st.faults[faultNames[f]]++
	}
	for s := range w.seen {
		st.states[s]++
	}
	for _, v := range w.servers {
		for b, n := range v.redis.Taken {
			st.taken[b] += n
		}
	}
}

func (st *statistics) String() string {
	var b strings.Builder
	slices.Sort(st.steps)
	fmt.Fprintf(&b, "%d worlds, %d/%d/%d/%d with 2/3/4/5 nodes; steps: least %d, median %d, "+
		"most %d\n", st.worlds, st.nodes[2], st.nodes[3], st.nodes[4], st.nodes[5], st.steps[0],
		st.steps[len(st.steps)/2], st.steps[len(st.steps)-1])
	for _, of := range []map[string]int{st.faults, st.states} {
		for _, name := range slices.Sorted(maps.Keys(of)) {
			fmt.Fprintf(&b, "%6.1f %% of worlds: %s\n", 100*float64(of[name])/float64(st.worlds),
				name)
		}
	}
	for _, name := range redismodel.Branches {
		fmt.Fprintf(&b, "%9d times: %s\n", st.taken[name], name)
	}
	return b.String()
}

// TestSimulation runs worlds.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		w, failure := run(shapeOf(*simSeed), true)
		if failure != "" {
			t.Fatalf("%s\n%s", strings.Join(w.trace, "\n"), failure)
		}
		t.Log(strings.Join(w.trace, "\n"))
		return
	}
	st := &statistics{faults: map[string]int{}, states: map[string]int{}, taken: map[string]int{}}
	worlds, limit := uint64(500), 3*time.Second
	switch {
	case *simulateFor > 0:
		worlds, limit = 1<<62, *simulateFor
	case *simWorlds > 0:
		worlds, limit = *simWorlds, 24*time.Hour
	}
	var next, failed atomic.Uint64
	next.Store(*simFrom)
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // worlds are short-lived
	begun := time.Now()
	var running sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		running.Go(func() {
			for failed.Load() == 0 {
				seed := next.Add(1) - 1
				if seed >= *simFrom+worlds || time.Since(begun) > limit && seed > *simFrom+100 {
					return
				}
				w, failure := run(shapeOf(seed), false)
				if failure != "" {
					failed.CompareAndSwap(0, seed)
					return
				}
				st.add(w)
			}
		})
	}
	running.Wait()
	if seed := failed.Load(); seed != 0 {
		report(t, seed)
		return
	}
	t.Logf("%v, %.0f worlds a second\n%s", time.Since(begun),
		float64(st.worlds)/time.Since(begun).Seconds(), st)
	if st.worlds < 500 {
		return
	}
	if of := st.states[comesBack]; 2*of < st.worlds {
		t.Errorf("a topic comes back from lingering in %d of %d worlds, want half", of, st.worlds)
	}
	for _, name := range faultNames {
		if 20*st.faults[name] < st.worlds {
			t.Errorf("the fault %q strikes in %d of %d worlds, want 5 %%", name, st.faults[name],
				st.worlds)
		}
	}
	for _, b := range redismodel.Branches {
		if slices.Contains(neverTaken, b) {
			continue
		}
		if st.taken[b] == 0 && (st.worlds >= 5000 || !slices.Contains(rareBranches, b)) {
			t.Errorf("no world takes the branch %q of the scripts", b)
		}
	}
}

// neverTaken are branches that no world takes, or hardly one: foreign values, lanes that are full,
// counts, another grace, and nodes that are all away for long lead there. test/model_test.go takes
// them.
var neverTaken = []string{"absent: unknown", "total: stranger", "claim: not free", "try: failed",
	"put: refused", "other: too many bytes", "other: told already", "batch: apart",
	"batch: no room", "say: strange note", "say: not there", "say: fewer than many",
	"due: strange", "due: taken"}

// comesBack is the state in which a member comes to a topic that lingers.
const comesBack = "topic: comes back"

// rareBranches may not be taken in some hundred worlds.
var rareBranches = []string{"naming: other error", "sync: user gone", "renew: takes over",
	"count: former incarnation", "total: former incarnation", "total: nobody", "claim: stays",
	"lane: given up", "lane: owner is dead", "wake: no owner"}

// report tells what is wrong with a world, and shows a small world that fails.
func report(t *testing.T, seed uint64) {
	_, failure := run(shapeOf(seed), false)
	sh := smaller(shapeOf(seed), *simShrink)
	w, small := run(sh, true)
	var steps []string
	for _, p := range sh.steps {
		steps = append(steps, p.String())
	}
	t.Errorf("seed %d: %s\na smaller world, with %d nodes, %d clients and %d steps (%s): "+
		"%s\n%s\nto see it again: go test -run TestSimulation ./internal/cluster -seed %d -v",
		seed, failure, sh.nodes, sh.clients, len(sh.steps), strings.Join(steps, ", "), small,
		strings.Join(w.trace[max(0, len(w.trace)-150):], "\n"), seed)
}

// TestSimulationReplays checks that a seed gives exactly the same world each time.
func TestSimulationReplays(t *testing.T) {
	for seed := range uint64(8) {
		a, _ := run(shapeOf(seed), true)
		b, _ := run(shapeOf(seed), true)
		if !slices.Equal(a.trace, b.trace) {
			i := 0
			for i < min(len(a.trace), len(b.trace)) && a.trace[i] == b.trace[i] {
				i++
			}
			t.Errorf("seed %d: %d and %d lines, which differ from line %d on", seed, len(a.trace),
				len(b.trace), i)
		}
	}
}
