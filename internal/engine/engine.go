// Package engine decides when a subscription or an event takes effect, and in which order.
//
// There are two engines. alone is the engine of the only node: everything takes effect at once.
// clustered is the engine of a node among others: the cluster decides the order, and answers come
// later. Replica is the other direction: it does here what the cluster tells this node.
//
//	client ─▶ Join ─▶ alone ─▶ subscription
//	client ─▶ Join ─▶ clustered ─▶ Peers ─▶ place ─▶ task of the client's loop ─▶ Client.Joined
//	event ─▶ Publish ─▶ alone ─▶ subscribers
//	event ─▶ Publish ─▶ clustered ─▶ Peers ─▶ Replica ─▶ subscribers
//
// A C is a connection, and an E is an event, as for package channels. The package knows no loop, no
// socket and no Redis. It starts no goroutine, and it reads the clock that it is given. Its only
// state are the subscriptions that wait for the cluster, in the Pending of each client.
//
// Files, in reading order:
//
//	engine.go     the contract
//	alone.go      the engine of the only node
//	clustered.go  the engine of a node among others
//	replica.go    what other nodes tell
//	counts.go     how many subscribers a channel has, which they are told
//	watches.go    which users are signed in on other nodes
package engine

import (
	"time"

	"reverb/internal/channels"
	"reverb/internal/lib/retries"
	"reverb/internal/protocol"
)

// Engine is what the program asks of an engine. Only the client's loop calls Join, Rejoin, Leave
// and Enter. Any goroutine may call the other methods.
type Engine[C, E any] interface {
	// Join subscribes p.Conn, which is a client of a. last is the last event of a cache channel;
	// nil: none is remembered. s is nil if the presence channel is full, or if Client.Joined
	// follows.
	Join(a App[C, E], p channels.Place[C, E]) (s *channels.Subscription[C], last E, full bool)
	// Restore gives p.Conn a place that it had in another process. It is called before the loops
	// run.
	Restore(a App[C, E], p channels.Place[C, E]) *channels.Subscription[C]
	// Rejoin takes the new data of a member that subscribes again. later: Client.Rejoined follows.
	Rejoin(a App[C, E], c C, s *channels.Subscription[C], m *protocol.Member) (last E, later bool)
	// Leave gives up the place of a subscription. vanished says that the connection has ended.
	Leave(a App[C, E], s *channels.Subscription[C], vanished bool)

	// Publish gives e to the subscribers of a channel. If remember is set, a cache channel keeps e.
	// here has the figures of the channel. later: e is not delivered yet, and answers, unless it is
	// nil, gets the outcome. key is the event's part of a request with a key; nil: there is none.
	Publish(a App[C, E], name protocol.Name, e E, remember bool, key *retries.Step,
		answers chan<- error) (here protocol.Stats, later bool)
	// Answers makes a channel for the outcomes of so many events; nil: there are none.
	Answers(most int) chan error
	// Heard says whether a channel may have a subscriber, for a client event from outside of it.
	Heard(a App[C, E], name protocol.Name) bool
	Later() bool  // events are delivered after Publish has returned
	Behind() bool // Redis has not taken all that was published: publishers should wait
	// Crowded says that clients have asked for more places than the cluster can give for now: who
	// asks should wait.
	Crowded() bool

	// Enter decides whether c may stay as the nth connection of its app here, and calls Admit. A
	// limit of 0 is no limit.
	Enter(a App[C, E], c C, n, limit int64)
	Left(a App[C, E]) // a connection of the app has gone
}

// App is what the engines need of an application.
type App[C, E any] interface {
	ID() string
	Channels() *channels.App[C]
	MaxMembers() int // of a presence channel; 0: no limit
	Counts() bool    // subscribers are told how many they are
	// Counted is called when the subscribers of a channel are told how many they are.
	Counted(channel protocol.Name, size int)
	// Event makes an event of a message for the subscribers of a channel of the app, but not for
	// the one with the socket ID except.
	Event(message []byte, except protocol.SocketID, at time.Time) E
	Open() int64           // its connections here
	Terminate(user string) // closes the connections of a user here
	Users
}

// Ask is what a place was asked for with, see channels.Place.
type Ask interface{ Moment(now time.Time) }

// Users is told who is signed in: a user is online while a client has a subscription to the user's
// channel, on any node.
type Users interface {
	// SignedIn and SignedOut count the subscriptions to a user's channel. Only the engine of the
	// only node calls them.
	SignedIn(user string)
	SignedOut(user string)
	// Online tells what is known of a user whose topic this node has members in. Only Replica calls
	// it, and may tell the same again.
	Online(user string, online bool)
}

// Event is an event of a channel.
type Event[C any] interface {
	channels.Event[C]
	// Except is the connection that does not get it; the zero SocketID: there is none.
	Except() protocol.SocketID
	At() time.Time // when it was published
}

// Client is what the engines need of a connection. Any goroutine may call Post; only the client's
// loop calls the other methods.
type Client[C, E any] interface {
	// Post runs a task on the client's loop, after everything that was posted before; never, if the
	// loop has ended.
	Post(task func())
	Open() bool
	// Holds says whether s is still one of its subscriptions.
	Holds(s *channels.Subscription[C]) bool
	Pending() *Pending[C, E]
	// Joined gives the client a subscription that the cluster has granted. last is as in
	// Engine.Join, ask that of the place.
	Joined(s *channels.Subscription[C], last E, ask Ask)
	// Rejoined answers a subscription that the client has already.
	Rejoined(s *channels.Subscription[C], last E)
	// Admit says whether the client may stay.
	Admit(ok bool)
}

// Pending has the subscriptions of a client that the cluster has not granted yet. The zero Pending
// has none, and nil is as good as the zero Pending to look into. The client's loop owns it.
type Pending[C, E any] struct{ grants map[string]*grant[C, E] }

// grant is a place on a channel that the cluster is asked for.
type grant[C, E any] struct {
	channels.Place[C, E]
	cancelled bool // the client has unsubscribed meanwhile; owned by its loop
}

// Len is how many there are.
func (p *Pending[C, E]) Len() int {
	if p == nil {
		return 0
	}
	return len(p.grants)
}

// Has says whether the subscription to a channel is among them.
func (p *Pending[C, E]) Has(channel string) bool { return p.Len() > 0 && p.grants[channel] != nil }

// HasMember says whether a place on a presence channel as the user is among them.
func (p *Pending[C, E]) HasMember(user string) bool {
	if p.Len() == 0 {
		return false
	}
	for _, v := range p.grants {
		if v.Name.Kind().Presence && v.Member.ID == user {
			return true
		}
	}
	return false
}

// Cancel gives up the subscription to a channel, if it is among them.
func (p *Pending[C, E]) Cancel(channel string) {
	if p.Has(channel) {
		p.grants[channel].cancelled = true
		p.remove(channel)
	}
}

func (p *Pending[C, E]) add(channel string, v *grant[C, E]) {
	if p.grants == nil {
		p.grants = make(map[string]*grant[C, E])
	}
	p.grants[channel] = v
}

func (p *Pending[C, E]) remove(channel string) {
	if delete(p.grants, channel); len(p.grants) == 0 {
		p.grants = nil
	}
}

// Peers connects this node to the others. ready is called at the moment after which a new member
// gets all events, done when an event has been accepted. One goroutine calls both, and the methods
// of Replica that change what all nodes share, in one order.
type Peers interface {
	// Join asks the cluster to let a member in. user is empty outside presence channels and
	// channels of users.
	Join(topic, user, info string, cache bool, ready func())
	Leave(topic, user string, vanished bool)
	CatchUp(topic string, ready func()) // ready comes after all that was accepted before
	Publish(topic, payload string, except uint64, remember bool, key *retries.Step,
		done func(error))
	Behind() bool  // as in Engine
	Crowded() bool // as in Engine
	// Count tells done how many connections an app has, of which this node has own.
	Count(app string, own int64, done func(total int64, err error))
	SetCount(app string) // App.Open has changed
}

// New is the engine of a node with these peers; nil: it is the only node. Peers tell r what other
// nodes do.
func New[C Client[C, E], E Event[C]](r *Replica[C, E], peers Peers) Engine[C, E] {
	if peers == nil {
		return alone[C, E]{r}
	}
	return &clustered[C, E]{r, peers}
}
