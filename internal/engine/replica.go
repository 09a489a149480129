package engine

import (
	"time"

	"reverb/internal/channels"
	"reverb/internal/lib/headcount"
	"reverb/internal/protocol"
	"reverb/internal/topics"
)

// Host is the program around the engines. Any goroutine calls the methods.
type Host[C, E any] interface {
	// Known finds an app, also one that is configured no more while its connections end.
	Known(id string) (a App[C, E], ok bool)
	// Overloaded says that no more events should come for now.
	Overloaded() bool
}

// Replica is this node's own part of the cluster: it does what the cluster tells this node. What is
// said of an app that is not known, or of a name that is not a topic, changes nothing. One
// goroutine calls the methods that change something, see Peers; any goroutine calls the others.
type Replica[C Client[C, E], E Event[C]] struct {
	channels *channels.Registry[C, E]
	host     Host[C, E]
	now      func() time.Time
	counter  *headcount.Counter[crowd[C, E]]
}

// NewReplica makes the part of a node that has these channels, whose clients are on these loops.
// Subscribers who want to know how many they are learn it at once up to few, and else once in each
// pause.
func NewReplica[C Client[C, E], E Event[C]](of *channels.Registry[C, E], host Host[C, E],
	loops []headcount.Loop, few int, pause time.Duration, now func() time.Time) *Replica[C, E] {
	r := &Replica[C, E]{channels: of, host: host, now: now}
	r.counter = headcount.New(loops, crowds[C, E]{r}, few, pause)
	return r
}

// nobody is the except of an event for all.
var nobody protocol.SocketID

// find finds the channel of a topic.
func (r *Replica[C, E]) find(topic string) (a App[C, E], name protocol.Name, ok bool) {
	app, channel := topics.Cut(topic)
	a, known := r.host.Known(app)
	name, err := protocol.ParseName(channel)
	return a, name, known && err == nil
}

// publish gives an event to the subscribers here.
func (r *Replica[C, E]) publish(a App[C, E], name protocol.Name, e E,
	remember bool) protocol.Stats {
	return r.channels.Publish(a.Channels(), name, e, e.Except(), remember, e.At())
}

// Deliver gives an event that the cluster has put in order to the subscribers here.
func (r *Replica[C, E]) Deliver(topic, payload string, except uint64, remember bool) {
	if a, name, ok := r.find(topic); ok {
		e := a.Event([]byte(payload), protocol.SocketIDOf(except), r.now())
		r.publish(a, name, e, remember)
	}
}

// Remember keeps an event that was delivered before as the last of a cache channel.
func (r *Replica[C, E]) Remember(topic, payload string) {
	if a, name, ok := r.find(topic); ok && name.Kind().Cache {
		now := r.now()
		r.channels.Remember(a.Channels(), name, a.Event([]byte(payload), nobody, now), now)
	}
}

// Added makes a user a member of a presence channel, and tells the subscribers here. On the channel
// of a user it says that the user is online.
func (r *Replica[C, E]) Added(topic, user, info string) {
	if a, name, ok := r.find(topic); ok && name.Kind().User {
		a.Online(user, true)
	} else if ok {
		m := protocol.NewMember(user, info)
		added := a.Event(protocol.EncodeMemberAdded(name.String(), m), nobody, r.now())
		r.channels.Added(a.Channels(), name, m, added)
	}
}

// Removed is the reverse of Added.
func (r *Replica[C, E]) Removed(topic, user string) {
	if a, name, ok := r.find(topic); ok && name.Kind().User {
		a.Online(user, false)
	} else if ok {
		removed := a.Event(protocol.EncodeMemberRemoved(name.String(), user), nobody, r.now())
		r.channels.Removed(a.Channels(), name, user, removed)
	}
}

// Snapshot replaces what is known of a topic. life is how long the cached event is still kept.
func (r *Replica[C, E]) Snapshot(topic string, users, infos []string, cached string,
	life time.Duration) {
	a, name, ok := r.find(topic)
	if !ok {
		return
	}
	if user, is := name.User(); is {
		a.Online(user, len(users) > 0)
		return
	}
	members := make([]*protocol.Member, len(users))
	for i, user := range users {
		members[i] = protocol.NewMember(user, infos[i])
	}
	now, last := r.now(), *new(E)
	if cached != "" {
		last = a.Event([]byte(cached), nobody, now)
	}
	r.channels.Replace(a.Channels(), name, members, last, life, now)
}

// Dropped forgets a channel that has no subscriber here. Until then the cluster may let one in.
func (r *Replica[C, E]) Dropped(topic string) {
	a, name, ok := r.find(topic)
	if !ok {
		return
	}
	r.channels.Drop(a.Channels(), name)
	if user, is := name.User(); is {
		a.Online(user, false)
	}
}

// TerminateUser closes the connections of a user here.
func (r *Replica[C, E]) TerminateUser(app, user string) {
	if a, known := r.host.Known(app); known {
		a.Terminate(user)
	}
}

// Overloaded says that this node takes no more events for now.
func (r *Replica[C, E]) Overloaded() bool { return r.host.Overloaded() }

// Connections is how many of an app are open here.
func (r *Replica[C, E]) Connections(app string) int64 {
	if a, known := r.host.Known(app); known {
		return a.Open()
	}
	return 0
}

// State has the last events of cache channels, for SetState in another process, in records.
func (r *Replica[C, E]) State() [][]byte { return r.channels.Last.State(r.now(), E.Payload) }

// SetState takes a record of State over. ok is false if it makes no sense.
func (r *Replica[C, E]) SetState(b []byte) (ok bool) {
	now := r.now()
	return r.channels.Last.SetState(b, now,
		func(app, channel string, payload []byte) (e E, size int, keep bool) {
			a, known := r.host.Known(app)
			if _, err := protocol.ParseName(channel); !known || err != nil {
				return e, 0, false
			}
			e = a.Event(payload, nobody, now)
			return e, e.Size(), true
		})
}
