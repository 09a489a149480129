// Package cluster connects this process with the other nodes: it knows who is where, puts events in
// one order, and bridges the time in which Redis is away.
//
// It knows topics, members and payloads, not connections: it tells a Replica what to do with them.
// It knows commands and replies, not sockets: they travel over a Link, which a Dialer makes. It
// knows nothing of the Pusher protocol.
//
// Node owns all that changes. It is a state machine. Everything that happens to it is a call:
// handleUp, handleReplies, handlePushes, handleTick, handleDown, and work that post hands over.
// Everything that it does is a command on its Link or a call of its Replica. Each call is a part of
// a turn: begin sets the time, endTurn sends what the turn has written. One goroutine drives the
// node, see drive.go; a test can be that goroutine instead.
//
// It never blocks on its Replica or its Link, reads a clock only between turns, never gives up
// reconnecting, and never publishes secrets. A message of a stranger, or a foreign value under one
// of its keys, costs at most the topic that the message or the key is about.
//
// A lease is the life of a node as the others see it. Every session with Redis is a new incarnation
// with an ID of its own, I. Once the lease of an incarnation has run out, it is dead for ever, so
// that commands which were under way for it can do no harm later.
//
// Package envelopes/keys has the names of the keys in Redis. T, the key of a topic, is also the
// channel that carries messages to all members of the topic. P:node:I carries messages to one node,
// and P:all messages to all nodes. Redis delivers to one connection in the order in which it
// executed the commands, whatever the channel. So the answer to a script that changes the keys of T
// comes back over P:node:I, in its place among the messages, and not as the reply.
//
// A foreign value under the name of a topic's key leaves that topic alone until the value is gone:
// its members hear all events, but only of the users of their own node. A foreign value under a
// name of the nodes ends the session: without those names there is no cluster.
//
// When Redis goes away, all nodes lose it: events wait, or are counted as lost. When only one node
// loses its links, it misses the messages of the others, and nobody counts that: the publisher
// cannot know. The node's own messages wait.
//
// Files, in reading order. Package envelopes has the messages between nodes, and the scripts that
// Redis runs.
//
//	cluster.go   the contract: Replica, Dialer, Link
//	node.go      the state, and how commands are sent
//	drive.go     the goroutine
//	updown.go    Redis comes and goes; ticks
//	incoming.go  replies, pushes, and the effects of other nodes' messages
//	events.go    messages to other nodes: events, the end of a user's connections, letters
//	claims.go    events of requests with keys, which are published once
//	topics.go    members come and go
//	linger.go    topics that are large are followed a little longer
//	lease.go     nodes come and go; counts of connections
//	hand.go      a node goes to another process
//	queries.go   questions to Redis, for package census
//	outbox.go    the application is told of transitions
package cluster

import (
	"context"
	"math/rand/v2"
	"time"

	"reverb/internal/lib/resp"
)

// Options say how a node takes part in a cluster. All nodes of a cluster agree on Prefix and
// Sharded.
type Options struct {
	Prefix   string        // of all names in Redis
	Patience time.Duration // how long an event waits for Redis before it is lost to the others
	Sharded  bool          // Redis is a Redis Cluster: topics are dealt out to buckets
	Failover bool          // a server that lacks the latest events may take the place of Redis
	Random   *rand.Rand    // only this node uses it; nil: one with a random seed
	// Told takes the letters of Tell; from is an incarnation. It must not wait. It may be nil.
	Told   func(from, text string)
	Outbox Outbox // nil: the application is told nothing
}

// Replica is this node's own part of the cluster: it has the members. The node's goroutine calls
// the methods; they must not wait. The calls come in the order in which Redis executed the
// commands, but for Counted, Connections and Overloaded, which may come at any time.
type Replica interface {
	// Deliver gives an event to the members of a topic, but not to the socket except. remember says
	// that the event is the last one of a cache channel.
	Deliver(topic, payload string, except uint64, remember bool)
	// Remember keeps an event that was delivered before as the last one of a cache channel.
	Remember(topic, payload string)
	// Added tells the members that a user has come. info is JSON, or empty.
	Added(topic, user, info string)
	// Removed tells the members that a user has gone.
	Removed(topic, user string)
	// Snapshot replaces the list of users, which is in order, and the cached event, which is kept
	// for life. The members are told nothing.
	Snapshot(topic string, users, infos []string, cached string, life time.Duration)
	// Dropped says that this node has no members in a topic any more, and hears no more of it.
	Dropped(topic string)
	// Counted says that the members of a topic want to know how many they are.
	Counted(topic string) bool
	// Total says how many members a counted topic has on all nodes, in the order of the changes.
	Total(topic string, members int)
	// TerminateUser closes the connections of a user.
	TerminateUser(app, user string)
	// Overloaded says that the replica takes no more events for now.
	Overloaded() bool
	// Connections is how many connections of an app are open here.
	Connections(app string) int64
}

// Dialer connects to Redis.
type Dialer interface {
	// Dial makes a session in which Redis knows the texts of scripts. Its errors have one line, for
	// the log. Dial is called again when the session has ended.
	Dial(ctx context.Context, scripts []string) (Link, error)
	// Inherit takes over a session that Link.Pass has told of in another process. It owns the
	// descriptors. The next Dial returns that session, which then begins.
	Inherit(state []byte, fds []int) (Link, error)
}

// Link is a session with Redis. It has two connections to each master, one for commands and one for
// subscriptions. They live and die together: when one of them has missed something, the others
// cannot know. Any goroutine may call Fail, Done, Err and Wait; only the node's goroutine calls the
// other methods.
type Link interface {
	// Layout tells Redis' version, how many masters there are, and which of them has each bucket.
	Layout() (version string, masters int, byBucket []int)
	// Command writes a command to a master. The reply comes in a batch of Replies.
	Command(master int, args ...string)
	// Subscription writes a command on the other connection. The answer, and all that is published,
	// comes in a batch of Pushes.
	Subscription(master int, args ...string)
	// Waiting is how many bytes Redis has not taken on the two connections to a master, with those
	// that were not flushed.
	Waiting(master int) (commands, subscriptions int)
	// Flush begins to send what was written since the last Flush.
	Flush()
	// Batches are the sources of replies and pushes. They keep the order of each connection.
	Batches() (replies, pushes <-chan Batch)
	// Hold, Held and Release are as in package driver.
	Hold()
	Held() bool
	Release()
	// Pass gives to the session, which is held, as data and descriptors, which stay the Link's.
	Pass(to func(state []byte, fds []int) error) error
	// Fail ends the session. The first reason counts.
	Fail(why error)
	// Done is closed when the session has ended.
	Done() <-chan struct{}
	// Err is the reason of the end; nil before the end.
	Err() error
	// Wait returns when nothing of an ended session is left.
	Wait()
}

// Batch has the replies and pushes that came on one connection at once.
type Batch struct {
	Master  int
	Replies []resp.Reply
}
