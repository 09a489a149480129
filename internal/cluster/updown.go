package cluster

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"reverb/internal/lib/resp"
)

// handleUp begins with a fresh session, as a new incarnation: everything that this
// node has is told again once its lease is held.
func (n *Node) handleUp(s Link) {
	if n.stopping {
		s.Fail(errors.New("stopping"))
		return
	}
	if n.link != nil {
		n.handleDown() // it is over, or there would be no other
	}
	n.Counters.Reconnects.Add(1)
	n.incarnations++
	n.id = fmt.Sprintf("%016x-%d", n.number, n.incarnations)
	n.starting = false
	n.link, n.upAt, n.renewed, n.upAtRedis, n.registered, n.syncing = s, n.now, n.now, 0, false, 0
	clear(n.back)
	version, masters, byBucket := s.Layout()
	n.masters, n.byBucket = make([]*master, masters), make([]*master, len(byBucket))
	for i := range n.masters {
		n.masters[i] = &master{index: i, replied: n.now, heard: n.now}
	}
	for b, i := range byBucket {
		n.byBucket[b] = n.masters[i]
	}
	n.Counters.Up.Store(true)
	if !n.flapping {
		n.log.Info("connected to Redis", "version", version, "masters", masters, "node", n.id)
	}
	n.own = make(map[string]bool, len(n.buckets))
	for i := range n.buckets {
		b := &n.buckets[i]
		b.own = n.key(i, "node", n.id)
		n.own[b.own] = true
		n.subscribeTo(i, b.own)
	}
	n.subscribeTo(0, n.key(0, "all"))
	n.renew()
}

// register follows handleUp when Redis has granted the lease.
func (n *Node) register() {
	n.registered = true
	for _, name := range inOrder(n.topics) {
		t := n.topics[name]
		t.counted = true
		n.syncing++
		n.later(t.bucket, func() {
			if n.topics[t.name] == t && t.state == topicDetached && n.registered {
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

// seekStrangers looks for nodes of Laravel Reverb: they listen on the scaling channel
// itself, on which no node of this program does. They hear nothing of what is published
// here, and the reverse. Who may not ask is told nothing.
func (n *Node) seekStrangers() {
	channel := n.prefix
	left, found := len(n.masters), int64(0)
	for _, m := range n.masters { // each knows its own subscribers alone
		n.commandOn(m, call{done: func(r resp.Reply, err error) {
			if err == nil && r.Err() == nil && len(r.Items) == 2 {
				found += r.Items[1].N
			}
			if left--; left > 0 || err != nil {
				return
			}
			if found > 0 && !n.strangers {
				n.log.Warn("Laravel Reverb listens on the same channel of this Redis: its nodes and this server do not see each other's events and members; let clients and the application use one of the two, and give the other a REVERB_SCALING_CHANNEL of its own",
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
	for _, name := range inOrder(n.topics) {
		n.releaseDetached(n.topics[name])
	}
}

// keepEvents keeps for the next session what Redis has perhaps not taken, and backlog behind
// it. Meanwhile the events are delivered here.
func (n *Node) keepEvents(backlog []*outgoing) {
	for i := range n.buckets {
		b := &n.buckets[i]
		for _, o := range slices.Concat(b.recent[1], b.recent[0], b.pending) {
			if o.settled() && n.now.Sub(o.sent) > n.recent {
				continue
			}
			n.deliverHere(o)
			o.again = true // others may have it, or not: they can tell
			n.queue(o)
		}
		b.pending, b.recent, b.token, b.joining = nil, [2][]*outgoing{}, 0, nil
	}
	for _, o := range backlog {
		n.deliverHere(o)
		n.queue(o)
	}
}

// handleDown takes note that Redis is gone. Members here go on among themselves.
func (n *Node) handleDown() {
	cause, masters := n.link.Err(), n.masters
	n.link, n.masters, n.byBucket = nil, nil, nil
	n.Counters.Up.Store(false)
	n.Counters.Live.Store(false)
	why := fmt.Sprint(cause)
	if n.flapping = why == n.toldWhy && n.now.Sub(n.toldAway) < tellAgain; !n.flapping && !n.stopping {
		n.toldWhy, n.toldAway = why, n.now
		n.log.Warn("Redis is away: members of this node are served, others hear nothing", "why", cause)
	}
	if n.registered {
		n.former = append(n.former, n.id)
	}
	n.registered = false
	n.unsent.Store(0)
	clear(n.subscribing)
	clear(n.unsubscribing)
	clear(n.markers)
	n.awaited, n.asking = nil, nil
	clear(n.troubled)
	n.troubles = nil
	n.Counters.Troubled.Store(0)
	for _, m := range masters {
		for _, done := range m.sent {
			if done != nil {
				done(resp.Reply{}, errAway)
			}
		}
		m.sent = nil
	}
	clear(n.burying)
	bulk, backlog := n.bulk, n.backlog
	n.bulk, n.backlog, n.backlogSize = nil, nil, 0
	for _, job := range bulk {
		job.run()
	}
	n.keepEvents(backlog)
	for _, name := range inOrder(n.topics) {
		t := n.topics[name]
		t.state, t.counted, t.missing = topicDetached, false, nil
		for _, u := range t.users {
			u.told, u.present = false, false
		}
		n.releaseDetached(t)
	}
}

// releaseDetached answers everybody who waits for a topic, by what is known here.
func (n *Node) releaseDetached(t *topic) {
	waiting := append(t.waiting, t.behind...)
	t.waiting, t.behind = nil, nil
	for _, w := range waiting {
		n.joinDetached(t, w)
	}
	for _, user := range inOrder(t.users) {
		u := t.users[user]
		ready := u.waiting
		u.waiting = nil
		for _, f := range ready {
			n.joinDetached(t, waiter{user: user, ready: f})
		}
	}
}

// joinDetached admits a member while Redis is away, or does not serve the topic.
func (n *Node) joinDetached(t *topic, w waiter) {
	if u := t.users[w.user]; w.user != "" && u != nil {
		n.addToView(t, w.user, u.info)
	}
	w.ready()
}

// addToView takes note of a user who is there, and tells the members here if they did
// not know.
func (n *Node) addToView(t *topic, user, info string) {
	delete(t.missing, user)
	if _, known := t.view[user]; !known {
		t.order++
		t.view[user] = member{user, info, t.order}
		n.replica.Added(t.name, user, info)
	}
}

// removeFromView is the reverse.
func (n *Node) removeFromView(t *topic, user string) {
	delete(t.missing, user)
	if _, known := t.view[user]; known {
		delete(t.view, user)
		n.replica.Removed(t.name, user)
	}
}

// inStep says that every topic of before is in step with Redis again.
func (n *Node) inStep() bool { return n.registered && n.syncing == 0 }

// peersBack says that all who were there before Redis went away are ready again.
func (n *Node) peersBack() bool {
	for process := range n.peers {
		if !n.back[process] {
			return false
		}
	}
	return true
}

// goLive ends the time in which events are delivered here alone, once every topic is
// in step and the other nodes are back. Who is still missing then is gone.
func (n *Node) goLive() {
	if n.Counters.Live.Load() || !n.inStep() || n.now.Sub(n.upAt) < peersGrace && !n.peersBack() {
		return
	}
	n.peers = maps.Clone(n.back)
	n.Counters.Live.Store(true)
	for _, name := range inOrder(n.topics) {
		t := n.topics[name]
		for _, user := range inOrder(t.missing) {
			n.removeFromView(t, user)
		}
		t.missing = nil
	}
	for _, id := range n.former {
		n.bury(id, false, func() { n.former = slices.DeleteFunc(n.former, func(f string) bool { return f == id }) })
	}
}

// handleTick does what time asks for.
func (n *Node) handleTick() {
	now := n.now
	for len(n.backlog) > 0 && now.Sub(n.backlog[0].at) > n.patience {
		n.giveUp(n.takeOldest())
	}
	if n.starting && now.Sub(n.upAt) > startPatience {
		n.startAlone()
	}
	if n.link == nil {
		return
	}
	n.retryTopics()
	n.askAgain()
	if n.inStep() && !n.Counters.Live.Load() {
		n.renew() // its answer says who is back
	}
	for _, m := range n.masters {
		if now.Sub(n.held) < replyLimit {
			m.heard = now // nobody has listened
		}
		switch {
		case len(m.sent) > 0 && now.Sub(m.replied) > replyLimit:
			n.link.Fail(fmt.Errorf("Redis has not answered for %v", replyLimit))
		case now.Sub(m.heard) > replyLimit:
			n.link.Fail(fmt.Errorf("Redis has sent nothing on the link of subscriptions for %v", replyLimit))
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
			b.turn()
		}
		if p := b.pending; len(p) > 0 && p[0].accepted && now.Sub(p[0].sent) > 2*replyLimit && now.Sub(n.held) > replyLimit {
			n.link.Fail(errors.New("an event that Redis has accepted did not come back"))
		}
	}
	if n.registered && now.Sub(n.renewed) >= leaseInterval {
		n.renewed = now
		n.renew()
	}
}

// expect notes that Redis has been asked for something that it sends by itself.
func (n *Node) expect(a *awaited) {
	a.at = n.now
	n.awaited = append(n.awaited, a)
}

// askAgain asks again for what should have come long ago: a proxy, or a restart of Redis
// that went unnoticed, may have lost it, and a subscription waits for it.
func (n *Node) askAgain() {
	for n.settleAwaited(); len(n.awaited) > 0; n.settleAwaited() {
		a := n.awaited[0]
		if n.now.Sub(a.at) <= 2*replyLimit || n.now.Sub(n.held) <= replyLimit {
			return
		}
		if a.again {
			n.link.Fail(errors.New("Redis was asked twice for a confirmation, and it has not come"))
			return
		}
		n.log.Warn("a confirmation of Redis has not come; it is asked for again", "after", 2*replyLimit)
		n.awaited = n.awaited[1:]
		a.again = true
		a.ask()
	}
}

// settleAwaited takes off the front what has come.
func (n *Node) settleAwaited() {
	for len(n.awaited) > 0 && n.awaited[0].came {
		n.awaited[0] = nil
		n.awaited = n.awaited[1:]
	}
}
