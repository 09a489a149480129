package cluster

import (
	"errors"
	"strconv"
	"time"

	"reverb/internal/lib/resp"
)

// renew renews the lease, and looks after nodes that have lost theirs. A node that has
// just come back leaves the dead alone for a while: they may be coming back too.
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
		since = n.redisTime - peersGrace.Milliseconds() // everybody says it again within that time
	}
	s := n.link
	n.eval(call{done: func(r resp.Reply, err error) {
		if err != nil || s != n.link || n.stopping {
			return
		}
		if len(r.Items) != 3 {
			s.Fail(errors.New("the lease was answered with what is no list"))
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
				continue // it takes long
			}
			n.log.Warn("a node is gone; its members are removed", "node", strconv.QuoteToASCII(dead.Text))
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
	}}, &n.scripts.Renew, []string{n.key(0, "nodes"), n.key(0, "ready")}, n.id, strconv.FormatInt(leaseTime.Milliseconds(), 10), mode, take, strconv.FormatInt(undertakerTime.Milliseconds(), 10), strconv.FormatInt(since, 10), n.key(0, "all"))
}

// meet notes that a node has said, since this session began, that it is ready. What it
// has said before does not count: when Redis went away, it did for all.
func (n *Node) meet(id string) {
	if process := processOf(id); process != processOf(n.id) {
		n.back[process] = true
		if n.Counters.Live.Load() {
			n.peers[process] = true
		}
	}
}

// bury removes what a dead incarnation held. then is called when nothing is left. bulk says
// that it is a piece of bulk work itself.
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
				then() // whoever comes round to it later sees to the rest
			}
			return
		}
		n.eval(call{done: func(_ resp.Reply, err error) {
			if err == nil && then != nil {
				then()
			}
		}}, &n.scripts.Forget, []string{n.key(0, "nodes"), n.key(0, "ready"), n.key(0, "node", dead, "counts")}, dead)
	}
	for b := range n.buckets {
		n.command(call{bucket: b, bulk: bulk}, "SET", n.key(b, "node", dead, "dead"), "1", "EX", strconv.Itoa(int(deadTime/time.Second)))
		topics := n.key(b, "node", dead, "topics")
		left++
		n.command(call{b, bulk, func(r resp.Reply, err error) {
			for _, t := range r.Items {
				left++
				if n.bucketOf(t.Text) != b { // no node has written this
					n.command(call{bucket: b, done: done}, "SREM", topics, t.Text)
					continue
				}
				n.later(b, func() {
					n.eval(call{b, true, func(r resp.Reply, err error) {
						if err != nil && foreign(err) {
							n.tellForeign(t.Text, err)
						}
						done(r, err)
					}}, &n.scripts.Bury, n.topicKeys(t.Text, dead), dead, n.key(b, t.Text), n.buckets[b].own, t.Text)
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
	if !n.registered {
		done()
		return
	}
	n.later(0, func() { n.bury(n.id, true, done) })
}

// SetCount says that this node's connections of an app have become more or fewer.
func (n *Node) SetCount(app string) {
	n.post(func() { n.apps[app], n.countsDirty[app] = true, true })
}

// tellCounts tells Redis of counts that have changed, each once a turn.
func (n *Node) tellCounts() {
	if !n.registered || n.stopping {
		return
	}
	for _, app := range inOrder(n.countsDirty) {
		n.evalCount(app, n.replica.Connections(app), nil)
	}
	clear(n.countsDirty)
}

func (n *Node) evalCount(app string, own int64, done func(resp.Reply, error)) {
	n.eval(call{done: done}, &n.scripts.Count, []string{n.key(0, "nodes"), n.key(0, "node", n.id, "counts")}, app, strconv.FormatInt(own, 10), n.id, n.key(0, "node")+":")
}

// Count tells how many connections of an app all nodes have, when this one has own.
func (n *Node) Count(app string, own int64, done func(int64, error)) {
	n.post(func() {
		if !n.registered {
			done(0, errAway)
			return
		}
		n.evalCount(app, own, func(r resp.Reply, err error) { done(r.N, err) })
		n.apps[app], n.countsDirty[app] = true, true // others may have told theirs in another order
	})
}
