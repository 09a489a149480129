package cluster

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"reverb/internal/cluster/scripts"
	"reverb/internal/lib/resp"
)

// Join adds a member of this node to a topic. ready is called when it is to hear of
// what happens from now on. user is empty where there is no presence.
func (n *Node) Join(name, user, info string, cache bool, ready func()) {
	n.post(func() {
		t := n.topics[name]
		if t == nil {
			b := n.bucketOf(name)
			t = &topic{name: name, channel: n.key(b, name), bucket: b, cache: cache, users: map[string]*topicUser{}, view: map[string]member{}}
			n.topics[name], n.byChannel[t.channel] = t, t
		}
		t.subscriptions++
		t.dirty = true
		if user != "" {
			u := t.users[user]
			if u == nil {
				u = &topicUser{info: info}
				t.users[user] = u
			}
			u.subscriptions++
		}
		w := waiter{user: user, ready: ready}
		switch {
		case n.link == nil && !n.starting, t.state == topicAlone:
			n.joinDetached(t, w)
		case t.state == topicActive:
			n.joinActive(t, w)
		default:
			w.late = t.state == topicSyncing
			t.waiting = append(t.waiting, w)
			if t.state == topicDetached && n.registered {
				n.subscribe(t)
			}
		}
	})
}

// joinActive admits a member to a topic that is in step. What is cached may have changed
// already, as far as Redis is concerned: whoever comes to a cache channel is answered
// behind everything that Redis has accepted by now.
func (n *Node) joinActive(t *topic, w waiter) {
	if u := t.users[w.user]; t.cache && (w.user == "" || u == nil || u.told) {
		n.joinBehind(t, w)
	} else {
		n.joinKnown(t, w)
	}
	n.tellSubscriptions(t)
}

// joinKnown admits a member by what is known here, once its user is known everywhere.
func (n *Node) joinKnown(t *topic, w waiter) {
	u := t.users[w.user]
	if w.user == "" || u == nil || u.present {
		w.ready()
		return
	}
	u.waiting = append(u.waiting, w.ready)
	if u.told {
		return
	}
	u.told = true
	n.await(n.token(), false, func(*envelope) {
		if t.users[w.user] != u {
			return // gone meanwhile, or come anew
		}
		u.present = true
		ready := u.waiting
		u.waiting = nil
		for _, f := range ready {
			f()
		}
	}, func(token string, c call) bool {
		if t.state != topicActive || t.users[w.user] != u || len(u.waiting) == 0 {
			return false
		}
		n.topicEval(t.name, c, &n.scripts.Present, token, w.user, u.info)
		return true
	})
}

// joinBehind admits a member behind a marker. All who come in one turn, to whatever
// topics of a bucket, share it.
func (n *Node) joinBehind(t *topic, w waiter) {
	b := &n.buckets[t.bucket]
	if b.token == 0 {
		b.token = n.token()
		n.asking = append(n.asking, t.bucket)
	}
	w.token = b.token
	if len(t.behind) == 0 || t.behind[len(t.behind)-1].token != b.token {
		b.joining = append(b.joining, t)
	}
	t.behind = append(t.behind, w)
}

// askMarkers asks for the markers of this turn. Nothing but their place counts: they need
// no script.
func (n *Node) askMarkers() {
	for _, i := range n.asking {
		b := &n.buckets[i]
		number, topics := b.token, b.joining
		b.token, b.joining = 0, nil
		n.await(number, false, func(*envelope) {
			for _, t := range topics {
				n.releaseBehind(t, number)
			}
		}, func(token string, c call) bool {
			n.command(call{bucket: i, done: func(r resp.Reply, err error) {
				if err == nil {
					if err = r.Err(); err != nil {
						n.link.Fail(fmt.Errorf("publish a marker: %w", err))
					}
				}
				c.done(r, err)
			}}, n.sharded("PUBLISH"), b.own, string(appendEnvelope(nil, &envelope{kind: envelopeMarker, token: number})))
			return true
		})
	}
	n.asking = n.asking[:0]
}

// releaseBehind answers those who wait for a marker, or for one before it.
func (n *Node) releaseBehind(t *topic, token uint64) {
	for len(t.behind) > 0 && t.behind[0].token <= token {
		w := t.behind[0]
		if t.behind = t.behind[1:]; len(t.behind) == 0 {
			t.behind = nil
		}
		n.joinKnown(t, w)
	}
}

// CatchUp calls ready when this node has heard what Redis has accepted for a topic until now.
func (n *Node) CatchUp(topic string, ready func()) {
	n.post(func() {
		switch t := n.topics[topic]; {
		case t != nil && t.state == topicActive && n.link != nil:
			n.joinBehind(t, waiter{ready: ready})
		case t != nil && t.state == topicSyncing && n.link != nil:
			t.waiting = append(t.waiting, waiter{ready: ready, late: true})
		default:
			ready() // it is served by what is known here, or will be told everything
		}
	})
}

// topicEval runs a script about a topic; it is the topic that says which bucket. Where Redis
// holds something foreign under its name, the topic is served here alone for a while.
func (n *Node) topicEval(topic string, c call, s *scripts.Script, args ...string) {
	b, done := n.bucketOf(topic), c.done
	c.bucket = b
	c.done = func(r resp.Reply, err error) {
		if waits, known := n.troubled[topic]; err != nil && foreign(err) {
			n.leaveAlone(topic, err)
		} else if known && !waits {
			delete(n.troubled, topic)
		}
		if done != nil {
			done(r, err)
		}
	}
	n.eval(c, s, n.topicKeys(topic, n.id), append([]string{n.id, n.key(b, topic), n.buckets[b].own}, args...)...)
}

// leaveAlone serves a topic, for a while, by what is known here. Its events go through Redis
// as before. That members of a topic that nobody here is in any more are gone is tried
// again too.
func (n *Node) leaveAlone(topic string, why error) {
	if t := n.topics[topic]; t != nil && t.state >= topicSyncing {
		t.state = topicAlone
		for _, u := range t.users {
			u.told, u.present = false, false
		}
		n.releaseDetached(t)
		n.stepDone(t)
	}
	waits, known := n.troubled[topic]
	switch {
	case waits:
		return
	case !known && len(n.troubled) >= maxTroubled:
		n.link.Fail(fmt.Errorf("Redis holds something foreign under the names of more than %d channels: %w", maxTroubled, why))
		return
	case !known:
		n.tellForeign(topic, why)
	}
	n.troubled[topic] = true
	n.troubles = append(n.troubles, trouble{topic, n.now.Add(topicRetry)})
}

// tellForeign logs that Redis holds something foreign.
func (n *Node) tellForeign(topic string, why error) {
	n.log.Warn("a key in Redis was not written by this program; its channel alone is served without the other nodes' members; "+foreignHint,
		"channel", n.key(n.bucketOf(topic), topic), "why", why)
}

// retryTopics tries again what has failed on something foreign.
func (n *Node) retryTopics() {
	for len(n.troubles) > 0 && !n.now.Before(n.troubles[0].at) {
		name := n.troubles[0].topic
		n.troubles = n.troubles[1:]
		n.troubled[name] = false
		n.later(n.bucketOf(name), func() {
			switch t := n.topics[name]; {
			case n.link == nil:
			case t == nil:
				n.topicEval(name, call{bulk: true}, &n.scripts.Leave, name)
			case t.state == topicAlone:
				n.sync(t, true)
			default:
				delete(n.troubled, name) // it has come into step by itself
			}
		})
	}
	n.Counters.Troubled.Store(int64(len(n.troubled)))
}

// token returns a new token for await.
func (n *Node) token() uint64 {
	n.tokens++
	return n.tokens
}

// await calls then when a token comes back over this node's own channel, with the envelope
// that brings it. ask asks for it, now and, if it is lost, once more: with the call that it is
// given, which is bulk work when bulk is set. It returns false where nobody waits any more.
func (n *Node) await(token uint64, bulk bool, then func(*envelope), ask func(token string, c call) bool) {
	a := new(awaited)
	heard := func(_ resp.Reply, err error) {
		switch {
		case a.came, n.link == nil:
		case err != nil:
			a.came = true
			delete(n.markers, token)
		default:
			n.expect(a)
		}
	}
	a.ask = func() {
		c := call{bulk: bulk, done: heard}
		bulk = false // asked again, it is one of few
		if !ask(string(binary.BigEndian.AppendUint64(nil, token)), c) {
			a.came = true
			delete(n.markers, token)
		}
	}
	n.markers[token] = marker{a, then}
	a.ask()
}

// Leave takes a member of this node out of a topic.
func (n *Node) Leave(name, user string) {
	n.post(func() {
		t := n.topics[name]
		if t == nil {
			return
		}
		t.subscriptions--
		t.dirty = true
		if u := t.users[user]; user != "" && u != nil {
			if u.subscriptions--; u.subscriptions == 0 {
				n.dropUser(t, user, u)
			}
		}
		if t.subscriptions == 0 {
			n.dropTopic(t)
		} else {
			n.tellSubscriptions(t)
		}
	})
}

func (n *Node) dropUser(t *topic, user string, u *topicUser) {
	delete(t.users, user)
	if n.link == nil || t.state == topicAlone {
		n.removeFromView(t, user)
	} else if u.told {
		n.topicEval(t.name, call{done: func(_ resp.Reply, err error) {
			if err != nil && n.topics[t.name] == t && t.users[user] == nil {
				n.removeFromView(t, user) // nobody else will say so
			}
		}}, &n.scripts.Absent, user)
	}
}

// dropTopic forgets a topic that nobody here is in any more.
func (n *Node) dropTopic(t *topic) {
	delete(n.topics, t.name)
	delete(n.byChannel, t.channel)
	b := &n.buckets[t.bucket]
	for _, o := range b.pending {
		if o.topic == t.name {
			o.echoes, o.delivered = false, true // see send
		}
	}
	b.settle(n.keep)
	n.stepDone(t)
	n.replica.Dropped(t.name)
	for _, w := range append(t.waiting, t.behind...) {
		w.ready() // it has come to catch up: members are none left
	}
	t.waiting, t.behind = nil, nil
	if n.link == nil || t.state == topicDetached {
		return
	}
	n.unsubscribeFrom(t.bucket, t.channel)
	n.topicEval(t.name, call{}, &n.scripts.Leave, t.name)
}

// subscribe begins to bring a topic into step.
func (n *Node) subscribe(t *topic) {
	t.state = topicSubscribing
	n.subscribeTo(t.bucket, t.channel)
}

// sync tells Redis what this node has in a topic, and asks for what all have.
func (n *Node) sync(t *topic, bulk bool) {
	t.state = topicSyncing
	n.await(n.token(), bulk, func(e *envelope) { n.handleSnapshot(t, e) }, func(token string, c call) bool {
		if n.topics[t.name] != t || t.state != topicSyncing {
			return false
		}
		t.dirty = false
		flag := "0"
		if t.cache {
			flag = "1"
		}
		args := []string{t.name, strconv.Itoa(t.subscriptions), token, flag}
		for _, user := range inOrder(t.users) {
			u := t.users[user]
			u.told = true
			args = append(args, user, u.info)
		}
		n.topicEval(t.name, c, &n.scripts.Sync, args...)
		return true
	})
}

// replaceView makes members, in the order in which they came, what is known of a topic, and
// tells the replica what has changed. gone are members of before that are not told as gone,
// because this node is not in step yet.
func (n *Node) replaceView(t *topic, members []member) (gone []member) {
	slices.SortFunc(members, func(a, b member) int { return a.order - b.order })
	before := t.view
	t.view, t.state = make(map[string]member, len(members)), topicActive
	for _, m := range members {
		t.view[m.user], t.order = m, max(t.order, m.order)
	}
	for user, m := range before {
		if _, still := t.view[user]; !still {
			gone = append(gone, m)
		}
	}
	slices.SortFunc(gone, func(a, b member) int { return a.order - b.order })
	if n.Counters.Live.Load() {
		for _, m := range gone {
			n.replica.Removed(t.name, m.user)
		}
		gone = nil
	}
	if len(before) > 0 {
		for _, m := range members {
			if _, known := before[m.user]; !known {
				n.replica.Added(t.name, m.user, m.info)
			}
		}
	}
	return gone
}

// handleSnapshot brings a topic into step. Members that were there before learn what
// has changed since; who is missing may be with a node that is not back yet.
func (n *Node) handleSnapshot(t *topic, e *envelope) {
	if n.topics[t.name] != t || t.state != topicSyncing {
		return
	}
	gone := n.replaceView(t, e.members)
	members := append(gone, e.members...)
	users, infos := make([]string, len(members)), make([]string, len(members))
	for i, m := range members {
		users[i], infos[i] = m.user, m.info
	}
	if len(gone) > 0 {
		t.missing = make(map[string]bool, len(gone))
		for _, m := range gone {
			t.view[m.user], t.missing[m.user] = m, true
		}
	}
	cached, life := e.payload, time.Duration(e.life)*time.Millisecond
	if t.kept != nil {
		cached, life = t.kept.payload, cachedSeconds*time.Second
	}
	n.replica.Snapshot(t.name, users, infos, cached, life)
	for _, u := range t.users {
		u.present = u.told
	}
	waiting := t.waiting
	t.waiting = nil
	for _, w := range waiting {
		if w.late {
			n.joinActive(t, w)
		} else {
			n.joinKnown(t, w) // the snapshot is newer than it
		}
	}
	n.tellSubscriptions(t)
	n.stepDone(t)
}

// stepDone counts a topic that is in step, or gone.
func (n *Node) stepDone(t *topic) {
	if !t.counted {
		return
	}
	t.counted = false
	if n.syncing--; n.syncing == 0 && n.link != nil {
		n.renew()
	}
}

// tellSubscriptions tells Redis how many members this node has in a topic.
func (n *Node) tellSubscriptions(t *topic) {
	if t.dirty && t.state == topicActive && n.link != nil {
		t.dirty = false
		n.topicEval(t.name, call{}, &n.scripts.Subscriptions, strconv.Itoa(t.subscriptions))
	}
}
