package cluster

import (
	"errors"
	"maps"
	"strconv"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/envelopes/keys"
	"reverb/internal/envelopes/scripts"
	"reverb/internal/lib/fewmap"
	"reverb/internal/lib/resp"
)

const (
	// leaseTime is how long a node may be silent before the others take it for dead. Larger: the
	// members of a dead node stay longer. Smaller: a node that was slow loses its members.
	leaseTime = 10 * time.Second
	// leaseInterval is how often a node renews its lease. Larger: the others notice later that a
	// node is ready. Smaller: more work for Redis.
	leaseInterval = 500 * time.Millisecond
	// peersGrace is how long a node that is back waits for the others to be back too. Larger:
	// events go through Redis later when a node has gone for good. Smaller: a node that comes back
	// a little later misses events.
	peersGrace = 5 * time.Second
	// undertakerTime is how long one node may take to bury another before a third one takes over.
	// Larger: the members of the dead stay longer when the undertaker dies too. Smaller: two nodes
	// do the same work.
	undertakerTime = 10 * time.Second
	// deadTime is how long Redis refuses the commands of a dead incarnation. Larger: Redis keeps
	// more marks. Smaller: a process that was frozen for longer can do harm.
	deadTime = 24 * time.Hour
)

// renew renews the lease, and buries nodes that have lost theirs. A node that has just come back
// leaves the dead alone for a while: they may be coming back too.
func (n *Node) renew() {
	mode, take := "", "0"
	switch {
	case !n.registered:
		mode = "first"
	case n.syncing == 0:
		mode = "ready"
	}
	if n.Counters.Live.Load() && n.now.Sub(n.upAt) > 2*peersGrace {
		take = "1"
	}
	since := n.upAtRedis
	if n.incarnations == 1 || n.Counters.Live.Load() {
		since = n.redisTime - peersGrace.Milliseconds() // each ready node says so in that time
	}
	s, lease := n.link, leaseTime
	if n.standing {
		lease = standLease
	}
	n.eval(call{done: func(r resp.Reply, err error) {
		if err != nil || s != n.link || n.stopping {
			return
		}
		if len(r.Items) != 3 {
			s.Fail(errors.New("the answer to the lease is not a list of three"))
			return
		}
		n.redisTime = r.Items[2].N
		if !n.registered {
			n.upAtRedis = n.redisTime
			n.register()
			return
		}
		for _, dead := range r.Items[0].Items {
			if n.burying[dead.Text] {
				continue // since the last time
			}
			n.log.Warn("a node is gone; its members are removed",
				"node", strconv.QuoteToASCII(dead.Text))
			n.bury(dead.Text, false, nil)
		}
		clear(n.back) // some may have left
		if n.Counters.Live.Load() {
			clear(n.peers)
		}
		for _, ready := range r.Items[1].Items {
			n.meet(ready.Text)
		}
		n.goLive()
	}}, &n.scripts.Renew, []string{n.key(0, "nodes"), n.key(0, "ready")},
		n.id, scripts.Milliseconds(lease), mode, take, scripts.Milliseconds(undertakerTime),
		strconv.FormatInt(since, 10), n.key(0, "all"))
}

// meet notes that a node has said during this session that it is ready. What a node said before
// does not count: Redis was away for that node too.
func (n *Node) meet(id string) {
	if process := envelopes.ProcessOf(id); process != envelopes.ProcessOf(n.id) {
		n.back[process] = true
		if n.Counters.Live.Load() {
			n.peers[process] = true
		}
	}
}

// bury removes all that a dead incarnation held, then calls then, which may be nil. bulk says that
// the call is bulk work.
func (n *Node) bury(dead string, bulk bool, then func()) {
	n.burying[dead] = true
	left, failed := 1, false
	done := func(_ resp.Reply, err error) {
		failed = failed || err != nil
		if left--; left > 0 {
			return
		}
		if delete(n.burying, dead); failed {
			if n.stopping && n.link != nil && then != nil {
				then() // a node that finds it later removes the rest
			}
			return
		}
		n.eval(call{done: func(_ resp.Reply, err error) {
			if err == nil && then != nil {
				then()
			}
		}}, &n.scripts.Forget,
			[]string{n.key(0, "nodes"), n.key(0, "ready"), n.key(0, "node", dead, "counts")}, dead)
	}
	for b := range n.buckets {
		n.command(call{bucket: b, bulk: bulk}, "SET", n.key(b, "node", dead, "dead"), "1",
			"EX", strconv.Itoa(int(deadTime/time.Second)))
		topics := n.key(b, "node", dead, "topics")
		left++
		n.command(call{bucket: b, bulk: bulk, done: func(r resp.Reply, err error) {
			for _, t := range r.Items {
				left++
				if n.bucketOf(t.Text) != b { // a stranger has written this
					n.command(call{bucket: b, done: done}, "SREM", topics, t.Text)
					continue
				}
				n.later(b, func() {
					n.evalAbout(t.Text, call{b, true, true, func(r resp.Reply, err error) {
						if err != nil && resp.Foreign(err) {
							n.tellForeign(t.Text, err)
						}
						done(r, err)
					}}, &n.scripts.Bury, keys.OfTopic(n.buckets[b].base, t.Text, dead),
						dead, n.key(b, t.Text), n.buckets[b].own, t.Text,
						scripts.YesNo(n.replica.Counted(t.Text)))
				})
			}
			done(r, err)
		}}, "SMEMBERS", topics)
	}
	done(resp.Reply{}, nil)
}

// leaveCluster tells Redis that all members of this node are gone.
func (n *Node) leaveCluster(done func()) {
	n.stopping = true
	if n.outbox != nil && n.registered {
		n.outbox.Leave()
	}
	if !n.registered {
		done()
		return
	}
	n.later(0, func() { n.bury(n.id, true, done) })
}

// SetCount says that the number of this node's connections of an app has changed.
func (n *Node) SetCount(app string) {
	n.post(func() { n.apps[app], n.countsDirty[app] = true, true })
}

// tellCounts tells Redis of the numbers that have changed, each at most once a turn.
func (n *Node) tellCounts() {
	if !n.registered || n.stopping {
		return
	}
	for _, app := range fewmap.InOrder(maps.All(n.countsDirty)) {
		n.evalCount(app, n.replica.Connections(app), nil)
	}
	clear(n.countsDirty)
}

func (n *Node) evalCount(app string, own int64, done func(resp.Reply, error)) {
	n.eval(call{done: done}, &n.scripts.Count,
		[]string{n.key(0, "nodes"), n.key(0, "node", n.id, "counts")},
		app, strconv.FormatInt(own, 10), n.id, n.key(0, "node")+":")
}

// Count tells how many connections of an app all nodes have when this node has own. done gets an
// error while Redis is away.
func (n *Node) Count(app string, own int64, done func(int64, error)) {
	n.post(func() {
		if !n.registered {
			done(0, errAway)
			return
		}
		n.evalCount(app, own, func(r resp.Reply, err error) { done(r.N, err) })
		n.apps[app], n.countsDirty[app] = true, true // Redis may hold a later number by now
	})
}
