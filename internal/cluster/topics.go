package cluster

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/envelopes/keys"
	"reverb/internal/envelopes/known"
	"reverb/internal/envelopes/scripts"
	"reverb/internal/lib/asked"
	"reverb/internal/lib/fewmap"
	"reverb/internal/lib/resp"
)

const (
	// topicRetry is how long a topic with a foreign key waits for the next try. Larger: a topic
	// stays alone longer after the key was deleted. Smaller: more work for Redis.
	topicRetry = 5 * time.Second
	// maxTroubled bounds the topics with a foreign key; with more the session is given up. Larger:
	// more memory. Smaller: a stranger who writes many keys ends the session sooner.
	maxTroubled = 1 << 16
)

// Join adds a member of this node to a topic. ready is called at the moment from which the member
// hears of all that happens. user is empty where there is no presence.
func (n *Node) Join(name, user, info string, cache bool, ready func()) {
	n.post(func() {
		t := n.topics[name]
		if n.heirs != nil && n.heir(name, user, ready) {
			return
		}
		if t == nil {
			b := n.bucketOf(name)
			t = &known.Topic{Name: name, Bucket: int32(b), Cache: cache}
			n.topics[name] = t
		}
		t.Members++
		t.Dirty = true
		if t.State == known.Active && t.Members == 1 {
			n.comeBack(t)
		}
		if user != "" {
			u := t.Users.Get(user)
			if u == nil {
				u = &known.User{Info: info}
				t.Users.Put(user, u)
			}
			u.Subscriptions++
		}
		w := known.Waiter{User: user, Ready: ready}
		switch {
		case n.link == nil && !n.starting, t.State == known.Alone:
			n.joinDetached(t, w)
		case t.State == known.Active:
			n.joinActive(t, w)
		default:
			w.Late = t.State == known.Syncing
			t.Wait().Waiting = append(t.Wait().Waiting, w)
			if t.State == known.Detached && n.registered && !t.Queued {
				app, _, _ := strings.Cut(name, ":")
				t.Queued = true
				n.joining.Add(app, t)
			}
		}
	})
}

// joinActive lets a member into a topic that is in step. A member of a cache channel waits until
// this node has heard all that Redis has accepted by now: the cached event may be among it.
func (n *Node) joinActive(t *known.Topic, w known.Waiter) {
	if u := t.Users.Get(w.User); t.Cache && (w.User == "" || u == nil || u.Told) {
		n.joinBehind(t, w)
	} else {
		n.joinKnown(t, w)
	}
	n.tellSubscriptions(t)
}

// joinKnown lets a member in by what this node knows, once Redis knows the member's user.
func (n *Node) joinKnown(t *known.Topic, w known.Waiter) {
	u := t.Users.Get(w.User)
	if w.User == "" || u == nil || u.Present {
		w.Ready()
		return
	}
	u.Waiting = append(u.Waiting, w.Ready)
	if u.Told {
		return
	}
	u.Told = true
	n.await(n.token(), false, func(*envelopes.Envelope) {
		if t.Users.Get(w.User) != u {
			return // the user has gone, and may have come again
		}
		u.Present = true
		ready := u.Waiting
		u.Waiting = nil
		for _, f := range ready {
			if t.State == known.Syncing { // again, see takenBy: the snapshot has the user
				t.Wait().Waiting = append(t.Waiting, known.Waiter{User: w.User, Ready: f})
			} else {
				f()
			}
		}
	}, func(token string, c call) bool {
		if t.State != known.Active || t.Users.Get(w.User) != u || len(u.Waiting) == 0 {
			return false
		}
		n.topicEval(t.Name, c, &n.scripts.Present, token, w.User, u.Info)
		return true
	})
}

// joinBehind lets a member in when a marker has come back. All members that come in one turn, to
// any topics of a bucket, share one marker.
func (n *Node) joinBehind(t *known.Topic, w known.Waiter) {
	b := &n.buckets[t.Bucket]
	if b.token == 0 {
		b.token = n.token()
		n.asking = append(n.asking, int(t.Bucket))
	}
	w.Token = b.token
	v := t.Wait()
	if len(v.Behind) == 0 || v.Behind[len(v.Behind)-1].Token != b.token {
		b.joining = append(b.joining, t)
	}
	v.Behind = append(v.Behind, w)
}

// askMarkers asks for the markers of this turn. Only the place of a marker in the order counts, so
// it needs no script.
func (n *Node) askMarkers() {
	for _, i := range n.asking {
		b := &n.buckets[i]
		number, topics := b.token, b.joining
		b.token, b.joining = 0, nil
		n.await(number, false, func(*envelopes.Envelope) {
			for _, t := range topics {
				n.releaseBehind(t, number)
			}
		}, func(token string, c call) bool {
			n.publish(call{bucket: i, done: func(r resp.Reply, err error) {
				if e := r.Err(); e != nil {
					n.link.Fail(fmt.Errorf("publish a marker: %w", e))
				}
				c.finish(r, r.Outcome(err))
			}}, b.own, envelopes.Envelope{Kind: envelopes.Marker, Token: number}.Encode())
			return true
		})
	}
	n.asking = n.asking[:0]
}

// releaseBehind lets in the members that wait for a marker, or for an earlier one.
func (n *Node) releaseBehind(t *known.Topic, token uint64) {
	for t.Late() && t.Behind[0].Token <= token {
		n.joinKnown(t, take(&t.Behind))
	}
	if t.Unheard { // a marker was lost, or another node has told the total
		t.Unheard = t.Late()
		n.tellTotal(t)
	}
}

// CatchUp calls ready when this node has heard all that Redis has accepted for a topic until now.
func (n *Node) CatchUp(topic string, ready func()) {
	n.post(func() {
		switch t := n.topics[topic]; {
		case t != nil && t.State == known.Active && n.link != nil:
			n.joinBehind(t, known.Waiter{Ready: ready})
		case t != nil && t.State == known.Syncing && n.link != nil:
			t.Wait().Waiting = append(t.Wait().Waiting, known.Waiter{Ready: ready, Late: true})
		default:
			ready() // Redis tells this node nothing of the topic, or will tell it everything
		}
	})
}

// topicEval runs a script about a topic. It sets the bucket of the call. When Redis holds a foreign
// key under the topic's name, the topic is served alone for a while.
func (n *Node) topicEval(topic string, c call, s *scripts.Script, args ...string) {
	b := n.bucketOf(topic)
	args = append([]string{n.id, n.key(b, topic), n.buckets[b].own}, args...)
	n.evalAbout(topic, call{b, c.bulk, c.gone, func(r resp.Reply, err error) {
		if waits, known := n.troubled[topic]; err != nil && resp.Foreign(err) {
			n.leaveAlone(topic, err)
		} else if known && !waits {
			delete(n.troubled, topic)
		}
		c.finish(r, err)
	}}, s, keys.OfTopic(n.buckets[b].base, topic, n.id), args...)
}

// leaveAlone serves a topic, for a while, by what this node knows. Its events go through Redis as
// before. A topic in which this node has no members any more is tried again too: Redis does not
// know yet that they have left.
func (n *Node) leaveAlone(topic string, why error) {
	switch t := n.topics[topic]; {
	case t == nil:
	case t.Lingers():
		n.forget(t)
	case t.State >= known.Syncing:
		t.State = known.Alone
		n.releaseDetached(t)
		n.stepDone(t)
	}
	waits, known := n.troubled[topic]
	switch {
	case waits:
		return
	case !known && len(n.troubled) >= maxTroubled:
		n.link.Fail(fmt.Errorf("Redis holds foreign keys for more than %d channels: %w",
			maxTroubled, why))
		return
	case !known:
		n.tellForeign(topic, why)
	}
	n.troubled[topic] = true
	n.troubles = append(n.troubles, trouble{topic, n.now.Add(topicRetry)})
}

// tellForeign logs that Redis holds a foreign key for a topic.
func (n *Node) tellForeign(topic string, why error) {
	n.log.Warn("a key in Redis was not written by this program; "+
		"its channel alone is served without the other nodes' members; "+foreignHint,
		"channel", n.key(n.bucketOf(topic), topic), "why", why)
}

// retryTopics tries topics again that have failed on a foreign key.
func (n *Node) retryTopics() {
	for len(n.troubles) > 0 && !n.now.Before(n.troubles[0].at) {
		name := take(&n.troubles).topic
		n.troubled[name] = false
		n.later(n.bucketOf(name), func() {
			switch t := n.topics[name]; {
			case n.link == nil:
			case t == nil:
				n.topicEval(name, call{bulk: true, gone: true}, &n.scripts.Leave, name,
					scripts.YesNo(n.replica.Counted(name)))
			case t.State == known.Alone:
				n.sync(t, true)
			default:
				delete(n.troubled, name) // the topic came into step in another way
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

// await calls then with the envelope that brings a token back on this node's own channel. ask sends
// the question as the call that it is given. If the answer is lost, ask is called once more. It
// returns false when nobody waits for the answer any more. bulk says that the first question is
// bulk work.
func (n *Node) await(token uint64, bulk bool, then func(*envelopes.Envelope),
	ask func(token string, c call) bool) {
	a := new(asked.Question)
	drop := func() {
		a.Came()
		delete(n.markers, token)
	}
	heard := func(_ resp.Reply, err error) {
		switch {
		case a.Answered(), n.link == nil:
		case err != nil:
			drop()
		default:
			n.awaited.Expect(a, n.now)
		}
	}
	a.Ask = func() {
		c := call{bulk: bulk, done: heard}
		bulk = false // few questions are asked again
		if !ask(string(binary.BigEndian.AppendUint64(nil, token)), c) {
			drop()
		}
	}
	n.markers[token] = marker{a, then}
	a.Ask()
}

// Leave takes a member of this node out of a topic. gone says that its connection has vanished.
func (n *Node) Leave(name, user string, gone bool) {
	n.post(func() {
		t := n.topics[name]
		if t == nil || t.Lingers() {
			return
		}
		t.Members--
		t.Dirty = true
		if u := t.Users.Get(user); user != "" && u != nil {
			if u.Subscriptions--; u.Subscriptions == 0 {
				n.dropUser(t, user, u, gone)
			}
		}
		if t.Members == 0 {
			n.dropTopic(t, gone)
		} else {
			n.tellSubscriptions(t)
		}
	})
}

// dropUser forgets a user that has no member here any more.
func (n *Node) dropUser(t *known.Topic, user string, u *known.User, gone bool) {
	t.Users.Delete(user)
	if n.link == nil || t.State == known.Alone {
		n.removeFromView(t, user)
	} else if u.Told {
		n.topicEval(t.Name, call{gone: gone, done: func(_ resp.Reply, err error) {
			if err != nil && n.topics[t.Name] == t && t.Users.Get(user) == nil {
				n.removeFromView(t, user) // Redis will not say so
			}
		}}, &n.scripts.Absent, user)
	}
}

// dropTopic takes this node out of a topic in which it has no member any more.
func (n *Node) dropTopic(t *known.Topic, gone bool) {
	if n.link != nil && t.State != known.Detached {
		n.topicEval(t.Name, call{gone: gone}, &n.scripts.Leave, t.Name,
			scripts.YesNo(n.replica.Counted(t.Name)))
	}
	if !n.linger(t) {
		n.forget(t)
	}
}

// forget ends what dropTopic has begun, now or after the topic has lingered.
func (n *Node) forget(t *known.Topic) {
	delete(n.topics, t.Name)
	n.endLinger(t)
	b := &n.buckets[t.Bucket]
	b.Leave(t.Name) // see send
	b.Settle(n.keep)
	n.stepDone(t)
	n.replica.Dropped(t.Name)
	for _, w := range t.Release() {
		w.Ready() // these are calls of CatchUp: there is no member left
	}
	if n.link != nil && t.State != known.Detached {
		n.unsubscribing[n.key(int(t.Bucket), t.Name)]++
		n.subscription(int(t.Bucket), "UNSUBSCRIBE", n.key(int(t.Bucket), t.Name))
	}
}

// subscribeNext subscribes to topics that are new here, app by app, as far as Redis keeps up. A
// topic that was left meanwhile costs nothing.
func (n *Node) subscribeNext() {
	for n.joining.Len() > 0 &&
		n.subscribing.Len()+len(n.unsubscribing)+len(n.markers) < n.atOnce {
		t := n.joining.Next()
		if t.Queued = false; n.topics[t.Name] == t && t.State == known.Detached {
			n.subscribe(t)
		}
	}
	n.newTopics.Store(int64(n.joining.Len()))
}

// subscribe takes the first step to bring a topic into step with Redis.
func (n *Node) subscribe(t *known.Topic) {
	t.State = known.Subscribing
	n.subscribeTo(int(t.Bucket), n.key(int(t.Bucket), t.Name))
}

// sync tells Redis what this node has in a topic, and asks for a snapshot of what all nodes have.
func (n *Node) sync(t *known.Topic, bulk bool) {
	t.State = known.Syncing
	then := func(e *envelopes.Envelope) { n.handleSnapshot(t, e) }
	n.await(n.token(), bulk, then, func(token string, c call) bool {
		if n.topics[t.Name] != t || t.State != known.Syncing {
			return false
		}
		t.Dirty, c.gone = false, true // a user that Redis knows may have vanished
		args := []string{t.Name, strconv.Itoa(int(t.Members)), token, scripts.YesNo(t.Cache),
			scripts.YesNo(n.replica.Counted(t.Name))}
		for _, user := range fewmap.InOrder(t.Users.All) {
			u := t.Users.Get(user)
			u.Told = true
			args = append(args, user, u.Info)
		}
		n.topicEval(t.Name, c, &n.scripts.Sync, args...)
		return true
	})
}

// handleSnapshot brings a topic into step. The members that were here before learn what has changed
// since. A user that the snapshot lacks may be with a node that is not back yet.
func (n *Node) handleSnapshot(t *known.Topic, e *envelopes.Envelope) {
	if n.topics[t.Name] != t || t.State != known.Syncing {
		return
	}
	live := n.Counters.Live.Load()
	gone, come, members := t.View.Replace(e.Members, !live)
	t.State = known.Active
	for i := 0; live && i < len(gone); i++ { // otherwise they may come back
		n.replica.Removed(t.Name, gone[i].User)
	}
	for _, m := range come {
		n.replica.Added(t.Name, m.User, m.Info)
	}
	users, infos := make([]string, len(members)), make([]string, len(members))
	for i, m := range members {
		users[i], infos[i] = m.User, m.Info
	}
	cached, life := e.Payload, time.Duration(e.Life)*time.Millisecond
	if t.Kept != nil {
		cached, life = t.Kept.Payload, cachedSeconds*time.Second
	}
	n.replica.Snapshot(t.Name, users, infos, cached, life)
	for _, u := range t.Users.All {
		u.Present = u.Told
	}
	for _, w := range t.Release() { // none of them waits for a marker
		if w.Late {
			n.joinActive(t, w)
		} else {
			n.joinKnown(t, w) // the snapshot is newer than this member
		}
	}
	n.tellSubscriptions(t)
	n.stepDone(t)
}

// stepDone counts a topic as in step, or as gone.
func (n *Node) stepDone(t *known.Topic) {
	if !t.Counted {
		return
	}
	t.Counted = false
	if n.syncing--; n.syncing == 0 && n.link != nil {
		n.renew()
	}
}

// tellSubscriptions lets Redis know, at the end of the turn, how many members this node has in a
// topic.
func (n *Node) tellSubscriptions(t *known.Topic) {
	if t.Dirty && t.State == known.Active && n.link != nil {
		n.telling = append(n.telling, t)
	}
}

// sendSubscriptions tells Redis what has changed in this turn. It follows askMarkers: who waits for
// a marker hears the total that counts it.
func (n *Node) sendSubscriptions() {
	for _, t := range n.telling {
		if t.Dirty && t.State == known.Active && n.topics[t.Name] == t {
			n.tellMembers(t)
		}
	}
	n.telling = nil
}

func (n *Node) tellMembers(t *known.Topic) {
	t.Dirty = false
	n.topicEval(t.Name, call{}, &n.scripts.Subscriptions, t.Name, strconv.Itoa(int(t.Members)),
		scripts.YesNo(n.replica.Counted(t.Name)))
}

// tellTotal tells the members here how many all nodes have, once the other nodes are back.
func (n *Node) tellTotal(t *known.Topic) {
	if n.Counters.Live.Load() && t.State == known.Active && t.Total > 0 {
		n.replica.Total(t.Name, t.Total)
	}
}
