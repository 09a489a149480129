// Package cluster is this process among the others: who is where, in which order events
// come, and what happens when Redis goes away.
//
// It knows topics, members and payloads, not connections: what to do with them it tells a
// Replica. It knows commands and replies, not sockets: they travel over a Link, which a
// Dialer makes. It knows nothing of the Pusher protocol.
//
// Node owns all that changes. It is a state machine: everything that happens to it is a call
// (handleUp, handleReplies, handlePushes, handleTick, handleDown, and work handed over with
// post), and everything that it does is a command on its Link or a call of its Replica. Each
// call is a part of a turn: begin says what time it is, endTurn hands on what the turn has
// written. One goroutine drives it, see drive.go; a test can be that goroutine instead.
//
// It never blocks on its Replica or its Link, never reads a clock but between turns, never
// gives up reconnecting, and never publishes secrets. What strangers publish, or write under
// the names of its keys, costs at most the topic that it is about.
//
// A lease is the life of a node as the others see it. Every session with Redis is a new
// incarnation with an ID of its own, I: once its lease has run out it is dead for ever, so
// that nothing that was under way for it can do harm later.
//
// Keys, where P is REVERB_SCALING_CHANNEL and T stands for P:app:channel:
//
//	P:nodes             sorted set: I, and when its lease ends (milliseconds); negative:
//	                    since when somebody clears up after it
//	P:ready             sorted set: I, and when it last said that it has told everything
//	P:node:I:counts     hash: app, open connections
//	P:node:I:topics     set: topics in which I has members
//	P:node:I:dead       there when I is dead; its own scripts refuse
//	T:nodes             hash: I, subscriptions
//	T:users:I           set: users that I has
//	T:count             hash: user, incarnations that have it
//	T:members           hash: user, order ":" user_info
//	T:order             counter
//	T:cached            the last event of a cache channel
//
// Channels of Redis: T carries what everybody with members in T hears, P:node:I what one
// node alone hears, P:all what all nodes hear. Redis delivers to one connection in the
// order in which it executed the commands, whatever the channel: that is why the
// answer to a script that changes T comes back over P:node:I, and not as its reply.
//
// In Redis Cluster the topics are dealt out to buckets. P:{b} takes the place of P in
// every name that belongs to bucket b, so that what a script touches, and the channels
// it publishes on, share a slot; channels are sharded ones. Node-wide names are in
// bucket 0. Outside of a cluster there is one bucket, and no braces.
//
// What something else has written under a name of a topic costs that topic alone: its
// members hear all events, but of members only of those on their node, until it is gone. The
// nodes' own names are everybody's: without them there is no cluster.
//
// When Redis goes away, it does for all: events wait, or are counted as lost. A node
// that alone is cut off misses what others publish meanwhile, and nobody counts it: who
// has published cannot know. What the node itself publishes waits.
//
// Envelopes, version 1. A string of variable length is written as its length in
// decimal, a colon and its bytes. sum is the beginning of the SHA-1 of what follows,
// in hexadecimal: it keeps out strangers' mistakes, not their malice.
//
//	1 e sum(8) flags(1) node(8) number(8) except(8) payload   event
//	1 + sum(8) user info                                      first connection of a user
//	1 - sum(8) user                                           last one
//	1 m sum(8) token(8)                                       marker: what was asked is done, all
//	                                                          that was accepted before has come
//	1 s sum(8) token(8) cached {user order:info}              snapshot of a topic, and a marker
//	1 t sum(8) app user                                       terminate connections
//	1 n sum(8) I                                              a node has become ready
//
// In reading order: cluster.go has the contract, envelope.go what nodes tell each other, scripts
// what Redis does at once, node.go the state, drive.go its goroutine; then updown.go (Redis comes
// and goes), incoming.go (replies and pushes), events.go (what this node publishes), topics.go
// (members come and go), lease.go (nodes come and go), queries.go (what the HTTP API asks).
package cluster

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"reverb/internal/lib/resp"
)

// Options say how a node takes part in a cluster. All nodes of one agree on Prefix and
// Sharded.
type Options struct {
	Prefix   string        // of all names in Redis
	Patience time.Duration // for which an event waits for Redis to come back; then it is lost to others
	Sharded  bool          // Redis is a Redis Cluster: topics are dealt out to BucketTags
	Failover bool          // another server may take the place of Redis, and lack what Redis last accepted
	Random   *rand.Rand    // of this node alone: its number and its pauses; nil: one with a random seed
}

// Replica is this node's own part of the cluster: it has the members. All methods but
// Connections and Overloaded are called in the order in which Redis has put things. All are
// called by the node's goroutine, which must not wait.
type Replica interface {
	// Deliver gives an event to the members of a topic, but not to the one whose
	// socket is except.
	Deliver(topic, payload string, except uint64, remember bool)
	// Remember keeps an event that was delivered as the last of a cache channel.
	Remember(topic, payload string)
	// Added and Removed tell the members that a user has come or gone. info is JSON,
	// or empty.
	Added(topic, user, info string)
	Removed(topic, user string)
	// Snapshot says who is there, in order, and what is cached and for how long still,
	// without telling anybody.
	Snapshot(topic string, users, infos []string, cached string, life time.Duration)
	// Dropped says that this node has nobody in a topic any more.
	Dropped(topic string)
	// TerminateUser closes the connections of a user.
	TerminateUser(app, user string)
	// Overloaded says that the replica takes no more events for now.
	Overloaded() bool
	// Connections is how many connections of an app are open here.
	Connections(app string) int64
}

// Dialer connects to Redis.
type Dialer interface {
	// Dial makes a session in which Redis knows the texts of scripts. Its errors are for the
	// log, in one line. It is called anew when the session before has ended.
	Dial(ctx context.Context, scripts []string) (Link, error)
}

// Link is a session: to each master, a connection for commands and one for what was
// subscribed to. They live and die together: what one of them has missed, the others cannot
// know. The node's goroutine alone calls the methods, but Fail, Done, Err and Wait, which
// anybody may call.
type Link interface {
	// Layout tells Redis' version, how many masters there are, and which has each bucket.
	Layout() (version string, masters int, byBucket []int)
	// Command writes a command to a master. Its reply comes in a batch of Replies.
	Command(master int, args ...string)
	// Subscription writes a command on the other connection. What Redis answers, and what it
	// publishes, comes in a batch of Pushes.
	Subscription(master int, args ...string)
	// Waiting is how many bytes Redis has not taken on the two connections to a master,
	// those that were not flushed included.
	Waiting(master int) (commands, subscriptions int)
	// Flush begins to send what was written since it was last called.
	Flush()
	// Batches are where Redis' replies and pushes come from. The order counts within each
	// connection.
	Batches() (replies, pushes <-chan Batch)
	// Fail ends the session. The first reason counts.
	Fail(why error)
	// Done is closed when the session has ended, for the reason Err; before, Err is nil.
	Done() <-chan struct{}
	Err() error
	// Wait returns when nothing of a session that has ended is left.
	Wait()
}

// Batch is what has come on one connection.
type Batch struct {
	Master  int
	Replies []resp.Reply
}

// Counters tell how a node gets on with Redis and the others.
type Counters struct {
	Up, Live   atomic.Bool   // there is a session; events go through Redis
	Reconnects atomic.Uint64 // sessions, the first included
	Published  atomic.Uint64 // events, by this node
	Received   atomic.Uint64 // envelopes
	Lost       atomic.Uint64 // events that other nodes never get
	Uncertain  atomic.Uint64 // events that other nodes have got, or not
	Malformed  atomic.Uint64 // messages that are no envelopes
	Unknown    atomic.Uint64 // envelopes of another version
	Duplicates atomic.Uint64 // events that were sent again although they had come
	Backlog    atomic.Int64  // bytes of events that wait for Redis
	Troubled   atomic.Int64  // topics that Redis holds something foreign for
}

// buckets is how many groups the topics of a Redis Cluster are dealt out to. All nodes must
// agree on it.
const buckets = 256

// BucketTags are what stands between the prefix and the names of each bucket in a Redis
// Cluster. A key belongs to the slot of its tag.
func BucketTags() []string {
	tags := make([]string, buckets)
	for b := range tags {
		tags[b] = ":{" + strconv.Itoa(b) + "}"
	}
	return tags
}

// TakenAppID says that the topics of an app with this ID would have names that belong to the
// nodes: a channel of the app "node" can be called like a node, and whoever leaves it would
// end what that node hears.
func TakenAppID(id string) bool { return id == "node" || id == "all" }
