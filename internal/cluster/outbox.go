package cluster

import (
	"time"

	"reverb/internal/envelopes/scripts"
	"reverb/internal/lib/resp"
)

// Outbox is what package outbox does for a node. The node's goroutine calls it; it must not wait.
type Outbox interface {
	// Lanes are the last keys and arguments of a script about a topic (scripts/hooks.lua); none: it
	// tells nobody. base begins the names of the bucket. gone says that connections have vanished.
	Lanes(base, topic string, gone bool) (keys, args []string)
	// Turn comes when Redis has granted the lease of an incarnation, and then every tickTime.
	Turn(incarnation string, now time.Time)
	// Work says that a lane, of which key is the first key, has work at a time.
	Work(key string, at time.Time)
	Leave() // gives up all lanes
}

// Do calls f on the node's goroutine.
func (n *Node) Do(f func()) { n.post(f) }

// Lane runs lane.lua for this incarnation, or tell.lua. keys are those of the lane, then tell.lua's
// third; args are those behind the own channel. Only the node's goroutine calls it, and done.
func (n *Node) Lane(tell bool, bucket int, keys, args []string, done func(resp.Reply, error)) {
	c := call{bucket: bucket, done: done}
	if tell {
		n.eval(c, &n.scripts.Tell, append([]string{keys[0], keys[2]}, keys[5:]...), args...)
		return
	}
	n.eval(c, &n.scripts.Lane, append(keys[:5:5], n.key(bucket, "node", n.id, "dead")),
		append([]string{n.id, n.buckets[bucket].own}, args...)...)
}

// evalAbout runs a script about a topic, which may tell the application of transitions.
func (n *Node) evalAbout(topic string, c call, s *scripts.Script, keys []string, args ...string) {
	if n.outbox != nil {
		k, a := n.outbox.Lanes(n.buckets[c.bucket].base, topic, c.gone)
		keys, args = append(keys, k...), append(args, a...)
	}
	n.eval(c, s, keys, args...)
}

// turnOutbox lets the outbox look at its lanes.
func (n *Node) turnOutbox() {
	if n.outbox != nil && n.registered && !n.stopping {
		n.outbox.Turn(n.id, n.now)
	}
}
