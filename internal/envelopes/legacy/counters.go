package legacy

import "sync/atomic"

// Counters tell how a node gets on with Redis and the other nodes.
type Counters struct {
	Up, Live   atomic.Bool   // there is a session; events go through Redis
	Reconnects atomic.Uint64 // sessions, the first one included
	Published  atomic.Uint64 // events, by this node
	Received   atomic.Uint64 // envelopes
	Lost       atomic.Uint64 // events that other nodes never get
	Uncertain  atomic.Uint64 // events that may or may not have reached other nodes
	Malformed  atomic.Uint64 // messages that are not envelopes
	Unknown    atomic.Uint64 // envelopes of another version
	Duplicates atomic.Uint64 // events that came again
	Backlog    atomic.Int64  // bytes of events that wait for Redis
	Troubled   atomic.Int64  // topics for which Redis holds a foreign key
}

// all are those that go on in another process.
func (c *Counters) all() []*atomic.Uint64 {
	return []*atomic.Uint64{&c.Reconnects, &c.Published, &c.Received, &c.Lost, &c.Uncertain,
		&c.Malformed, &c.Unknown, &c.Duplicates}
}

// State has the numbers, for SetState in another process.
func (c *Counters) State() (numbers []uint64) {
	for _, v := range c.all() {
		numbers = append(numbers, v.Load())
	}
	return numbers
}

// SetState takes the numbers of another process over, as far as they go, and is up and live.
func (c *Counters) SetState(numbers []uint64) {
	for i, v := range c.all() {
		if i < len(numbers) {
			v.Store(numbers[i])
		}
	}
	c.Up.Store(true)
	c.Live.Store(true)
}
