package cluster

import (
	"errors"
	"maps"
	"slices"
	"time"

	"reverb/internal/envelopes/known"
	"reverb/internal/envelopes/legacy"
	"reverb/internal/lib/fewmap"
	"reverb/internal/lib/recordlog"
)

// A node goes to another process while it is up. It stands still once nothing is under way: every
// topic is in step, Redis has answered everything, and every event has come back. Then its state is
// plain data (package legacy), and its session goes on in the other process, on the same
// connections: Redis, and so the other nodes, notice nothing.
//
// The other process makes a node of the state. Then its connections come, and each asks for its
// places again. What nobody has asked for when the node starts is left.

// standLease takes the place of leaseTime while the node stands still, when it cannot renew its
// lease. Larger: the members of a node that dies meanwhile stay longer. Smaller: a slow hand-over
// loses all members.
const standLease = 3 * leaseTime

// Unfit says why the node cannot go to another process, for the operator; empty: it can. encrypted
// says that its session is. Nothing keeps a nil Node.
func (n *Node) Unfit(encrypted bool) string {
	switch {
	case n == nil:
		return ""
	case encrypted:
		return "the connection to Redis is encrypted and cannot be handed over"
	case !n.Counters.Live.Load() || n.Counters.Troubled.Load() > 0:
		return "Redis is away, or not all of this node is in step with it; try again"
	}
	return ""
}

// stands renews the lease for the time in which the node stands still, and afterwards as usual.
func (n *Node) stands(yes bool) {
	if n.standing = yes; n.registered {
		n.rested()
		n.renew()
	}
}

// rested forgives Redis the time in which this node did not listen.
func (n *Node) rested() {
	for _, m := range n.masters {
		m.replied, m.heard = n.now, n.now
	}
}

// atRest says that nothing is under way.
func (n *Node) atRest() bool {
	if !n.Counters.Live.Load() || !n.inStep() || n.stopping ||
		len(n.backlog)+len(n.bulk)+len(n.markers)+n.subscribing.Len()+len(n.unsubscribing)+
			len(n.asking)+len(n.telling)+n.joining.Len()+len(n.burying)+len(n.former)+
			len(n.troubled)+len(n.troubles)+len(n.countsDirty) > 0 {
		return false
	}
	for _, m := range n.masters {
		if c, s := n.link.Waiting(m.index); len(m.sent)+c+s > 0 {
			return false
		}
	}
	for i := range n.buckets {
		if len(n.buckets[i].Pending) > 0 {
			return false
		}
	}
	for _, t := range n.topics {
		if !t.Rests() {
			return false
		}
	}
	return true
}

// Bequeath gives send the state of a node that stands still, and the descriptors of its session. A
// nil Node has none.
func (n *Node) Bequeath(send func(name string, state []byte, fds ...int) error) error {
	if n == nil {
		return nil
	}
	return n.link.Pass(func(link []byte, fds []int) error {
		v := n.legacy(time.Now())
		return send("node", v.Append(recordlog.AppendField(nil, link)), fds...)
	})
}

func (n *Node) legacy(now time.Time) *legacy.Node {
	v := &legacy.Node{Prefix: n.prefix, Process: n.number, Incarnation: n.incarnations,
		Tokens: n.tokens, RedisTime: uint64(n.redisTime), UpAtRedis: uint64(n.upAtRedis),
		Age: now.Sub(n.upAt), Strangers: n.strangers, Seen: n.seen,
		Apps: fewmap.InOrder(maps.All(n.apps)), Peers: fewmap.InOrder(maps.All(n.peers)),
		Back: fewmap.InOrder(maps.All(n.back)), Counters: n.Counters.State()}
	for i := range n.buckets {
		b := &n.buckets[i]
		v.Numbers = append(v.Numbers, b.numbers)
		v.Recent = b.Legacy(v.Recent, now, n.recent)
	}
	lingers := map[*known.Topic]time.Duration{}
	for _, l := range n.lingering {
		lingers[l.Topic] = now.Sub(l.since)
	}
	for _, name := range fewmap.InOrder(maps.All(n.topics)) {
		t := n.topics[name]
		v.Topics = append(v.Topics, t.Legacy(lingers[t]))
	}
	return v
}

// Inherit makes the node what Bequeath has told in another process, before Start. It owns the
// descriptors. What the node learns of channels it tells its Replica, but for their last events.
func (n *Node) Inherit(state []byte, fds []int) error {
	f := recordlog.Fields{B: state}
	l, err := n.dialer.Inherit([]byte(f.Text()), fds)
	if err != nil {
		return err
	}
	v, err := legacy.Parse(f.B)
	if err == nil {
		err = n.take(&v, l, time.Now())
	}
	if err != nil {
		l.Fail(err)
	}
	return err
}

func (n *Node) take(v *legacy.Node, l Link, now time.Time) error {
	version, masters, byBucket := l.Layout()
	switch {
	case v.Prefix != n.prefix:
		return errors.New("REVERB_SCALING_CHANNEL has changed; that takes a stop and a start")
	case len(v.Numbers) != len(n.buckets) || len(byBucket) != len(n.buckets) || n.heirs != nil:
		return errors.New("the servers of Redis have changed; that takes a stop and a start")
	}
	n.begin(now)
	n.number, n.incarnations, n.tokens, n.seen = v.Process, v.Incarnation, v.Tokens, v.Seen
	n.enter(l, masters, byBucket)
	n.registered, n.heirs = true, map[*known.Topic]int32{}
	n.redisTime, n.upAtRedis = int64(v.RedisTime), int64(v.UpAtRedis)
	n.upAt, n.renewed, n.strangers = now.Add(-v.Age), time.Time{}, v.Strangers
	n.turned = now
	n.apps, n.countsDirty = legacy.Set(v.Apps), legacy.Set(v.Apps)
	n.peers, n.back = legacy.Set(v.Peers), legacy.Set(v.Back)
	for i := range n.buckets {
		n.buckets[i].numbers = v.Numbers[i]
	}
	for i := range v.Recent {
		o := known.EventOf(&v.Recent[i], n.bucketOf(v.Recent[i].Topic), now)
		b := &n.buckets[o.Bucket]
		b.Recent[1] = append(b.Recent[1], o)
	}
	for i := range v.Topics {
		if err := n.takeTopic(&v.Topics[i]); err != nil {
			return err
		}
	}
	n.Counters.SetState(v.Counters)
	n.log.Info("connected to Redis as before", "version", version, "masters", masters, "node", n.id)
	return nil
}

func (n *Node) takeTopic(v *legacy.Topic) error {
	t := known.TopicOf(v, n.bucketOf(v.Name))
	if n.topics[t.Name] != nil {
		return errors.New("a topic has come twice")
	}
	n.topics[t.Name], n.heirs[t] = t, int32(v.Members)
	users, infos := make([]string, len(v.View)), make([]string, len(v.View))
	for i, m := range v.View {
		users[i], infos[i] = m.User, m.Info
	}
	n.replica.Snapshot(t.Name, users, infos, "", 0)
	if v.Members == 0 {
		at, since := 0, n.now.Add(-v.Lingers)
		for at < len(n.lingering) && !n.lingering[at].since.After(since) {
			at++
		}
		n.lingering = slices.Insert(n.lingering, at, lingerer{t, since})
	}
	return nil
}

// heir counts a member that Redis knows already. It says no if Redis does not know it.
func (n *Node) heir(name, user string, ready func()) bool {
	t := n.topics[name]
	if n.heirs[t] == 0 {
		return false
	}
	if u := t.Users.Get(user); u != nil {
		u.Subscriptions++
	} else if user != "" {
		return false
	}
	t.Members++
	ready()
	return true
}

// enterHeirs follows when all members have come. It tells Redis of those that have not.
func (n *Node) enterHeirs() {
	n.driver.Work()
	told := n.heirs
	n.heirs = nil
	for _, name := range fewmap.InOrder(maps.All(n.topics)) {
		t := n.topics[name]
		if told[t] == 0 {
			continue // it lingers, or is new
		}
		for _, user := range fewmap.InOrder(t.Users.All) {
			if u := t.Users.Get(user); u.Subscriptions == 0 {
				n.dropUser(t, user, u, true)
			}
		}
		t.Dirty = t.Dirty || t.Members != told[t]
		if t.Members == 0 {
			n.dropTopic(t, true)
		} else {
			n.tellSubscriptions(t)
		}
	}
	n.rested()
	n.endTurn()
}
