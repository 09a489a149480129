package cluster

import (
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"

	"reverb/internal/envelopes/legacy"
	"reverb/internal/lib/fewmap"
	"reverb/internal/protocol"
)

// handOver gives the node of a process to a successor on the same link, if nothing of it is under
// way. The layers above stay: the successor's connections ask for the places that they have, some
// of which are lost on the way.
func (w *world) handOver(s *simNode, by uint32) {
	for range 3 {
		w.drain(s)
		s.turn(nil)
	}
	if by%2 == 0 { // what other nodes have sent waits in the sockets
		for _, o := range w.awake() {
			if topic := simTopics[int(by>>4)%w.topics]; o != s {
				w.publish(o, topic, 0)
				o.turn(nil)
			}
		}
	}
	s.n.begin(w.now)
	if s.link == nil || s.front.busy() || !s.n.atRest() {
		w.state("hand-over: refused")
		return
	}
	w.state("hand-over")
	w.tell("node %d hands over", s.slot)
	old, last := s.n, s.front.reg.Last.State(w.now, (*simCast).Payload)
	w.ids++
	n := New(Options{Prefix: "p", Patience: old.patience, Sharded: len(old.buckets) > 1,
		Failover: w.failover, Random: rand.New(rand.NewPCG(w.seed, w.ids)),
		Outbox: s.openOutbox()}, simDialer{s.link}, s, slog.New(stateLog{w}))
	n.buckets = n.buckets[:len(old.buckets)]
	n.large, n.atOnce = old.large, old.atOnce
	cached := maps.Clone(s.cached)
	n.begin(w.now)
	v, err := legacy.Parse(old.legacy(w.now).Append(nil))
	if err == nil {
		err = n.take(&v, s.link, w.now)
	}
	if err != nil {
		s.fail("the successor refuses: %v", err)
	}
	s.n, s.cached = n, cached
	if s.posts = nil; s.box != nil { // requests under way have ended; the batch comes again
		w.state("hand-over: with an outbox")
		s.box.Succeed()
		s.configureOutbox()
	}
	event := func(app, _ string, b []byte) (*simCast, int, bool) {
		c := s.front.apps[app].Event(b, protocol.SocketID{}, w.now)
		return c, c.Size(), true
	}
	for _, record := range last {
		s.front.reg.Last.SetState(record, w.now, event)
	}
	for _, c := range w.clients {
		if c.node == s && c.attached() {
			n.Join(c.topic, c.user, `{"`+c.user+`":0}`, isCache(c.topic), func() {})
		}
	}
	for _, topic := range fewmap.InOrder(maps.All(s.front.watched)) {
		n.Join(topic, "", "", false, func() {})
	}
	if n.enterHeirs(); len(n.telling)+len(n.unsubscribing) > 0 || slices.ContainsFunc(n.masters,
		func(m *master) bool { return len(m.sent) > len(v.Apps) }) {
		s.fail("the successor tells Redis what Redis knows")
	}
}

// busy says that the loops have work.
func (f *simFront) busy() bool {
	for _, l := range f.loops {
		if len(l.inbox) > 0 {
			return true
		}
	}
	return false
}
