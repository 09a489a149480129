package cluster

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/envelopes/known"
	"reverb/internal/lib/fewmap"
	"reverb/internal/lib/resp"
)

// startPatience is how long new members wait for the first session; then this node serves them
// without the others. Larger: a server without Redis answers its first members later. Smaller: a
// Redis that is a little slow makes members see a list that changes at once.
const startPatience = 500 * time.Millisecond

// handleUp begins a session, as a new incarnation. Once Redis has granted the lease, this node
// tells it again everything that it has.
func (n *Node) handleUp(s Link) {
	if n.link == s {
		return // another process has begun it
	}
	if n.stopping {
		s.Fail(errors.New("stopping"))
		return
	}
	if n.link != nil {
		n.handleDown() // there is a new session, so the former one has ended
	}
	n.Counters.Reconnects.Add(1)
	n.incarnations++
	version, masters, byBucket := s.Layout()
	n.enter(s, masters, byBucket)
	n.upAt, n.renewed = n.now, n.now
	n.Counters.Up.Store(true)
	if !n.flapping {
		n.log.Info("connected to Redis", "version", version, "masters", masters, "node", n.id)
	}
	for i := range n.buckets {
		n.subscribeTo(i, n.buckets[i].own)
	}
	n.subscribeTo(0, n.key(0, "all"))
	n.renew()
}

// enter makes a link the session of an incarnation.
func (n *Node) enter(l Link, masters int, byBucket []int) {
	n.id = envelopes.Incarnation(n.number, n.incarnations)
	n.starting, n.session = false, newSession(l)
	n.masters, n.byBucket = make([]*master, masters), make([]*master, len(byBucket))
	for i := range n.masters {
		n.masters[i] = &master{index: i, replied: n.now, heard: n.now}
	}
	for b, i := range byBucket {
		n.byBucket[b] = n.masters[i]
	}
	for i := range n.buckets {
		n.buckets[i].own = n.key(i, "node", n.id)
		n.own[n.buckets[i].own] = true
	}
}

// register follows handleUp when Redis has granted the lease.
func (n *Node) register() {
	n.registered = true
	n.turnOutbox() // before any script about a topic
	for _, name := range fewmap.InOrder(maps.All(n.topics)) {
		t := n.topics[name]
		t.Counted = true
		n.syncing++
		n.later(int(t.Bucket), func() {
			if n.topics[t.Name] == t && t.State == known.Detached && n.registered {
				n.subscribe(t)
			}
		})
	}
	for app := range n.apps {
		n.countsDirty[app] = true
	}
	if n.syncing == 0 {
		n.renew()
	}
	n.seekStrangers()
}

// seekStrangers looks for nodes of Laravel Reverb. They listen on the scaling channel itself; nodes
// of this program do not. The two hear nothing of each other. When Redis refuses the question,
// nothing is logged.
func (n *Node) seekStrangers() {
	channel := n.prefix
	left, found := len(n.masters), int64(0)
	for _, m := range n.masters { // a master knows only its own subscribers
		n.commandOn(m, call{done: func(r resp.Reply, err error) {
			if r.Outcome(err) == nil && len(r.Items) == 2 {
				found += r.Items[1].N
			}
			if left--; left > 0 || err != nil {
				return
			}
			if found > 0 && !n.strangers {
				n.log.Warn("Laravel Reverb listens on the same channel of this Redis: "+
					"its nodes and this server do not see each other's events and members; "+
					"let clients and the application use one of the two, "+
					"and give the other a REVERB_SCALING_CHANNEL of its own",
					"channel", channel, "subscribers", found)
			}
			n.strangers = found > 0
		}}, "PUBSUB", "NUMSUB", channel)
	}
}

// wait begins the time in which new members wait for the first session.
func (n *Node) wait() { n.starting, n.upAt = true, n.now }

// startAlone ends the time in which new members wait for the first session.
func (n *Node) startAlone() {
	if !n.starting {
		return
	}
	n.starting = false
	for _, name := range fewmap.InOrder(maps.All(n.topics)) {
		n.releaseDetached(n.topics[name])
	}
}

// keepEvents keeps for the next session the events that Redis may not have sent to all nodes, and
// the events of backlog after them. It delivers them here now.
func (n *Node) keepEvents(backlog []*known.Event) {
	for i := range n.buckets {
		b := &n.buckets[i]
		for _, o := range b.All() {
			if o.Taken || o.Settled() && n.now.Sub(o.Sent) > n.recent {
				continue
			}
			n.deliverHere(o)
			o.Again = true // a node that has it already drops it
			n.queue(o)
		}
		b.Pending, b.Recent, b.token, b.joining = nil, [2][]*known.Event{}, 0, nil
	}
	for _, o := range backlog {
		n.deliverHere(o)
		n.queue(o)
	}
}

// handleDown notes that Redis is away. The members here go on among themselves.
func (n *Node) handleDown() {
	cause, over := n.link.Err(), n.session
	n.session = newSession(nil)
	n.Counters.Up.Store(false)
	n.Counters.Live.Store(false)
	why := fmt.Sprint(cause)
	n.flapping = why == n.toldWhy && n.now.Sub(n.toldAway) < tellAgain
	if !n.flapping && !n.stopping {
		n.toldWhy, n.toldAway = why, n.now
		n.log.Warn("Redis is away: members of this node are served, others hear nothing", "why",
			cause)
	}
	if over.registered {
		n.former = append(n.former, n.id)
	}
	n.unsent.Store(0)
	n.Counters.Troubled.Store(0)
	for _, m := range over.masters {
		for _, c := range m.sent {
			m.finish(c, resp.Reply{}, errAway)
		}
	}
	n.newTopics.Store(0)
	bulk, backlog := n.bulk, n.backlog
	n.bulk, n.backlog, n.backlogSize = nil, nil, 0
	for _, job := range bulk {
		job.run()
	}
	n.keepEvents(backlog)
	for _, name := range fewmap.InOrder(maps.All(n.topics)) {
		t := n.topics[name]
		t.State, t.Counted, t.Queued, t.Total = known.Detached, false, false, 0
		t.View.Found()
		if n.releaseDetached(t); t.Lingers() {
			n.forget(t)
		}
	}
}

// releaseDetached lets in all members that wait for a topic that is not in step any more, by what
// this node knows.
func (n *Node) releaseDetached(t *known.Topic) {
	for _, u := range t.Users.All {
		u.Told, u.Present = false, false
	}
	for _, w := range t.Release() {
		n.joinDetached(t, w)
	}
	for _, user := range fewmap.InOrder(t.Users.All) {
		u := t.Users.Get(user)
		ready := u.Waiting
		u.Waiting = nil
		for _, f := range ready {
			n.joinDetached(t, known.Waiter{User: user, Ready: f})
		}
	}
}

// joinDetached lets a member in while Redis is away, or does not serve the topic.
func (n *Node) joinDetached(t *known.Topic, w known.Waiter) {
	if u := t.Users.Get(w.User); w.User != "" && u != nil {
		n.addToView(t, w.User, u.Info)
	}
	w.Ready()
}

// addToView notes that a user is in a topic, and tells the members here if they did not know.
func (n *Node) addToView(t *known.Topic, user, info string) {
	if t.View.Add(user, info) {
		n.replica.Added(t.Name, user, info)
	}
}

// removeFromView is the reverse of addToView.
func (n *Node) removeFromView(t *known.Topic, user string) {
	if t.View.Remove(user) {
		n.replica.Removed(t.Name, user)
	}
}

// inStep says that every topic from before the session is in step with Redis again.
func (n *Node) inStep() bool { return n.registered && n.syncing == 0 }

// peersBack says that all processes that were ready before Redis went away are ready again.
func (n *Node) peersBack() bool {
	for process := range n.peers {
		if !n.back[process] {
			return false
		}
	}
	return true
}

// goLive ends the time in which this node delivers events only to its own members, once every topic
// is in step and the other nodes are back. A user that is still missing then has gone.
func (n *Node) goLive() {
	early := n.now.Sub(n.upAt) < peersGrace
	if n.Counters.Live.Load() || !n.inStep() || early && !n.peersBack() {
		return
	}
	n.peers = maps.Clone(n.back)
	n.Counters.Live.Store(true)
	for _, name := range fewmap.InOrder(maps.All(n.topics)) {
		t := n.topics[name]
		for _, user := range t.View.Missing() {
			n.removeFromView(t, user)
		}
		t.View.Found()
		n.tellTotal(t)
	}
	for _, id := range n.former {
		n.bury(id, false, func() {
			n.former = slices.DeleteFunc(n.former, func(f string) bool { return f == id })
		})
	}
}

// handleTick runs every tickTime. It drops events that have waited too long, gives up answers that
// have not come, and renews the lease.
func (n *Node) handleTick() {
	now := n.now
	for len(n.backlog) > 0 && now.Sub(n.backlog[0].At) > n.patience {
		n.giveUp(n.takeOldest())
	}
	if n.starting && now.Sub(n.upAt) > startPatience {
		n.startAlone()
	}
	if n.link == nil {
		return
	}
	n.retryTopics()
	for len(n.lingering) > 0 && now.Sub(n.lingering[0].since) >= lingerTime {
		n.forget(n.lingering[0].Topic)
	}
	n.turnOutbox()
	n.askAgain()
	fewmap.Anew(&n.markers)
	fewmap.Anew(&n.unsubscribing)
	if n.inStep() && !n.Counters.Live.Load() {
		n.renew() // its answer says who is back
	}
	for _, m := range n.masters {
		if now.Sub(n.held) < replyLimit {
			m.heard = now // the node has not read what came
		}
		switch {
		case len(m.sent) > 0 && now.Sub(m.replied) > replyLimit:
			n.link.Fail(fmt.Errorf("Redis has not answered for %v", replyLimit))
		case now.Sub(m.heard) > replyLimit:
			n.link.Fail(fmt.Errorf("Redis has sent nothing on the link of subscriptions for %v",
				replyLimit))
		case now.Sub(m.heard) > replyLimit/5:
			n.link.Subscription(m.index, "PING")
		}
	}
	turn := now.Sub(n.turned) >= n.recent
	if turn {
		n.turned = now
	}
	for i := range n.buckets {
		b := &n.buckets[i]
		if turn {
			b.Turn()
		}
		p := b.Pending
		late := len(p) > 0 && p[0].Accepted && now.Sub(p[0].Sent) > 2*replyLimit
		if late && now.Sub(n.held) > replyLimit {
			n.link.Fail(errors.New("an event that Redis has accepted did not come back"))
		}
	}
	if n.registered && now.Sub(n.renewed) >= leaseInterval {
		n.renewed = now
		n.renew()
	}
}

// askAgain asks again for an answer that should have come long ago. A proxy, or a restart of Redis
// that went unnoticed, may have lost it, and members wait for it.
func (n *Node) askAgain() {
	for n.now.Sub(n.held) > replyLimit {
		a := n.awaited.Overdue(n.now, 2*replyLimit)
		if a == nil {
			return
		}
		if a.Again {
			n.link.Fail(errors.New("Redis was asked twice for a confirmation that has not come"))
			return
		}
		n.log.Warn("a confirmation of Redis has not come; it is asked for again", "after",
			2*replyLimit)
		a.Again = true
		a.Ask()
	}
}
