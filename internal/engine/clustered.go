package engine

import (
	"reverb/internal/channels"
	"reverb/internal/lib/retries"
	"reverb/internal/protocol"
	"reverb/internal/topics"
)

// clustered is the engine of a node among others.
type clustered[C Client[C, E], E Event[C]] struct {
	*Replica[C, E]
	peers Peers
}

// Join asks the cluster to let a client in. Then a task is posted to the client's loop, behind
// every event that the client must not get, and before every event that it must get. A node knows
// the members of a topic while it has a subscriber to the topic.
func (e *clustered[C, E]) Join(a App[C, E],
	p channels.Place[C, E]) (s *channels.Subscription[C], last E, full bool) {
	v, name, kind := &grant[C, E]{Place: p}, p.Name.String(), p.Name.Kind()
	user, info := "", ""
	if kind.Presence {
		if !e.channels.Admits(&v.Place, a.MaxMembers()) {
			return nil, last, true
		}
		user, info = p.Member.ID, string(p.Member.Info)
	} else if kind.User {
		user = p.Member.ID // it alone can be a member of the topic
	}
	pending := p.Conn.Pending()
	pending.Cancel(name) // it may have asked as another user
	pending.add(name, v)
	e.peers.Join(topics.Name(a.ID(), name), user, info, kind.Cache, func() {
		e.channels.Reserve(&v.Place, e.now(), func() { v.Conn.Post(func() { e.complete(a, v) }) })
	})
	return nil, last, false
}

// complete makes a subscription of a place that the cluster has granted.
func (e *clustered[C, E]) complete(a App[C, E], v *grant[C, E]) {
	s := e.channels.Attach(&v.Place)
	if v.cancelled || !v.Conn.Open() {
		e.Leave(a, s, !v.Conn.Open())
		return
	}
	v.Conn.Pending().remove(v.Name.String())
	v.Conn.Joined(s, v.Last, v.Ask)
}

// Restore asks for the place as Join does, since the cluster knows it already. It knows the members
// too, so the place makes nobody a member.
func (e *clustered[C, E]) Restore(a App[C, E],
	p channels.Place[C, E]) *channels.Subscription[C] {
	user, info := "", ""
	if kind := p.Name.Kind(); kind.Presence {
		user, info = p.Member.ID, string(p.Member.Info)
	} else if kind.User {
		user = p.Member.ID
	}
	p.Restored = true
	e.channels.Reserve(&p, e.now(), func() {})
	e.peers.Join(topics.Name(a.ID(), p.Name.String()), user, info, p.Name.Kind().Cache, func() {})
	return e.channels.Attach(&p)
}

// Rejoin is answered on a cache channel when this node has caught up with the cluster.
func (e *clustered[C, E]) Rejoin(a App[C, E], c C, s *channels.Subscription[C],
	m *protocol.Member) (last E, later bool) {
	if !s.Kind().Cache {
		return e.channels.Rejoin(s, m, false, e.now()), false
	}
	e.peers.CatchUp(topics.Name(a.ID(), s.Name()), func() {
		c.Post(func() {
			if c.Open() && c.Holds(s) {
				c.Rejoined(s, e.channels.Rejoin(s, m, false, e.now()))
			}
		})
	})
	return last, true
}

// Leave keeps the channel even if it has no subscriber any more, see Replica.Dropped.
func (e *clustered[C, E]) Leave(a App[C, E], s *channels.Subscription[C], vanished bool) {
	user := ""
	if kind := s.Kind(); kind.Presence || kind.User {
		user = s.Member().ID
	}
	e.channels.GiveUp(s)
	e.peers.Leave(topics.Name(a.ID(), s.Name()), user, vanished)
}

func (e *clustered[C, E]) Publish(a App[C, E], name protocol.Name, v E, remember bool,
	key *retries.Step, answers chan<- error) (here protocol.Stats, later bool) {
	if name.Kind().Reserved {
		return e.publish(a, name, v, remember), false
	}
	var done func(error)
	if answers != nil {
		done = func(err error) { answers <- err }
	}
	e.peers.Publish(topics.Name(a.ID(), name.String()), string(v.Payload()), v.Except().Number(),
		remember && name.Kind().Cache, key, done)
	return protocol.Stats{}, true
}

func (e *clustered[C, E]) Heard(App[C, E], protocol.Name) bool { return true }
func (e *clustered[C, E]) Answers(most int) chan error         { return make(chan error, most) }
func (e *clustered[C, E]) Later() bool                         { return true }
func (e *clustered[C, E]) Behind() bool                        { return e.peers.Behind() }
func (e *clustered[C, E]) Crowded() bool                       { return e.peers.Crowded() }

func (e *clustered[C, E]) Enter(a App[C, E], c C, n, limit int64) {
	if limit == 0 {
		e.peers.SetCount(a.ID())
		c.Admit(true)
		return
	}
	e.peers.Count(a.ID(), n, func(total int64, err error) {
		if err != nil {
			total = n // the others cannot be asked
		}
		c.Post(func() {
			if c.Open() {
				c.Admit(total <= limit)
			}
		})
	})
}

func (e *clustered[C, E]) Left(a App[C, E]) { e.peers.SetCount(a.ID()) }
