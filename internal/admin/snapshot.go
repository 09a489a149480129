package admin

import (
	"fmt"
	"time"

	"reverb/internal/lib/metrics"
	"reverb/internal/lib/tallies"
	"reverb/internal/protocol"
)

// Snapshot has the figures that the server has counted and measured. The figures are read one after
// the other while the server works, so they may disagree a little. A figure that is not a gauge
// counts from the start of the program.
type Snapshot struct {
	Apps  []AppFigures    // by ID
	Loops []Loop          // in their order
	API   []metrics.Timed // how long the requests of each route of the HTTP API took

	Closed  map[string]uint64 // WebSocket connections that ended, by the word of the ending
	Refused map[string]uint64 // refusals, by the word of the reason

	Draining      bool   // the server is stopping
	Full          bool   // connections of clients are refused; a gauge
	Connections   int64  // that hold a descriptor; a gauge
	Limit         int64  // how many connections the descriptors allow
	ClosedForRoom uint64 // connections without a request that made room for new ones

	Memory   Memory
	Behind   Behind
	Upgrades Upgrades
	Resumed  Resumed

	TLS     *TLS     // nil: nothing is served with TLS
	Cluster *Cluster // nil: this is the only node
	Spool   *Spool   // nil: webhooks have none
}

// Memory is how much memory is in use of a limit. Without a limit all of it is zero.
type Memory struct {
	Used, Limit uint64 // bytes
	Short       bool   // new subscriptions are refused
}

// Behind says what makes the publishers of every app wait.
type Behind struct {
	Loops  bool // an event loop has more to deliver than fits
	Memory bool // the events that wait may need more memory than there is
	Redis  bool // Redis has more of this node's events than it has taken
}

// Loop is one event loop.
type Loop struct {
	Lag     time.Duration      // the longest turn of the last second or two; a gauge
	Latency *metrics.Histogram // from the arrival of an event until the sockets have it
	Backlog int64              // bytes of events that wait for the loop; a gauge
	Queued  int64              // bytes that wait for peers to read; a gauge
}

// AppFigures has the figures of one app. Bytes count messages and bodies, without the headers of
// frames and requests.
type AppFigures struct {
	ID          string
	Connections int64 // open; a gauge
	Undelivered int64 // bytes of events that are still to be delivered; a gauge

	Connected, Disconnected uint64 // connections
	Received, ReceivedBytes uint64 // messages over WebSockets
	Sent, SentBytes         uint64 // messages over WebSockets, each receiver counted
	ClientEvents            uint64 // relayed
	Limited                 uint64 // messages over the rate limit

	Requests, RequestBytes, ResponseBytes uint64 // of the HTTP API, with a right signature
	Published                             uint64 // events through the HTTP API

	Keys        int    // of requests, that are held; a gauge
	Repeated    uint64 // requests that got the answer of an earlier one with the same key
	KeysDropped uint64 // keys that had to go before their time

	Kinds [protocol.Kinds]KindFigures // by protocol.Kind.Index
	// Hooks are the webhooks by where they go: a host (url) or a queue. Each event counts once for
	// each URL. nil: the app has none.
	Hooks  []tallies.Figures
	Absent int // events of webhooks whose grace has not passed; a gauge
}

// KindFigures counts what happened to the channels of one kind.
type KindFigures struct{ Subscribed, Unsubscribed, Occupied, Vacated uint64 }

// active is how many subscriptions there are now.
func (k *KindFigures) active() uint64 { return k.Subscribed - k.Unsubscribed }

// occupied is how many channels have subscribers now.
func (k *KindFigures) occupied() uint64 { return k.Occupied - k.Vacated }

// TLS says how the server speaks TLS.
type TLS struct {
	NotAfter      time.Time // when the certificate in force expires
	BuffersShared bool      // idle connections keep no buffers
}

// Cluster says how this node gets on with Redis and the other nodes.
type Cluster struct {
	Up         bool   // both links to Redis are up
	Live       bool   // events go through Redis
	Reconnects uint64 // sessions with Redis, the first one included
	Lost       uint64 // events that other nodes never got
	Uncertain  uint64 // events that may or may not have reached other nodes
	Backlog    int64  // bytes of events that wait for Redis; a gauge
	Published  uint64 // events, by this node
	Received   uint64 // envelopes
	Troubled   int64  // channels for which Redis holds a foreign key; a gauge
	Malformed  uint64 // messages that are not envelopes
	Unknown    uint64 // envelopes of another version
	Duplicates uint64 // events that came again
}

// String says it in a word or some; nil: nothing.
func (c *Cluster) String() string {
	switch {
	case c == nil:
		return ""
	case c.Live:
		return "in step"
	}
	return "away, or not in step yet"
}

// maxReadyLag is how long a turn of an event loop may take on a server that is ready. New
// connections wait for a turn, so a balancer should send them elsewhere while turns take longer.
// Larger: a busy server stays in the rotation. Smaller: a single large channel takes the server
// out.
const maxReadyLag = time.Second

// NotReady lists the causes why no more connections should be sent here; nil: the server is ready.
func (s *Snapshot) NotReady() (why []string) {
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if s.Draining {
		add("stopping")
	}
	if s.Full {
		add("%d of %d connections are taken; raise LimitNOFILE or add a server", s.Connections,
			s.Limit)
	}
	if s.Memory.Short {
		add("%d of %d bytes of memory are used, so new subscriptions are refused; "+
			"raise REVERB_MEMORY_LIMIT or add a server", s.Memory.Used, s.Memory.Limit)
	}
	if s.Behind.Loops {
		add("the event loops are behind with delivering; add a server")
	}
	if s.Behind.Memory {
		add("events wait that could take more memory than there is, so publishers wait; " +
			"raise REVERB_MEMORY_LIMIT or add a server")
	}
	if s.Behind.Redis {
		add("Redis is behind with the events of this server, so publishers wait")
	}
	if lag := s.lag(); lag > maxReadyLag {
		add("an event loop is busy for %v at a time", lag.Round(time.Millisecond))
	}
	if s.Cluster != nil && !s.Cluster.Live {
		add("Redis is away, or not in step yet")
	}
	return why
}

// lag is the longest lag of a loop.
func (s *Snapshot) lag() (longest time.Duration) {
	for i := range s.Loops {
		longest = max(longest, s.Loops[i].Lag)
	}
	return longest
}

// queued is how many bytes wait for peers to read.
func (s *Snapshot) queued() (n int64) {
	for i := range s.Loops {
		n += s.Loops[i].Queued
	}
	return n
}
