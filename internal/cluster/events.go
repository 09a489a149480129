package cluster

import (
	"errors"
	"strconv"

	"reverb/internal/envelopes"
	"reverb/internal/lib/resp"
	"reverb/internal/lib/retries"
)

// cachedSeconds is how long Redis keeps the last event of a cache channel, as Pusher Channels does.
// Larger: Redis holds more. Smaller: a new member gets a cache miss instead of the event.
const cachedSeconds = 30 * 60

// Publish sends an event to the members of a topic on all nodes. done is called when Redis has
// accepted the event. While Redis is away, done is called when the event was delivered here and
// waits for Redis. key claims the request that the event is of, see takenBy; nil: it has no key.
func (n *Node) Publish(topic, payload string, except uint64, remember bool, key *retries.Step,
	done func(error)) {
	o := &outgoing{topic: topic, payload: payload, except: except, remember: remember, key: key,
		done: done}
	n.inflight.Add(o.size())
	n.post(func() {
		n.Counters.Published.Add(1)
		o.at, o.bucket = n.now, n.bucketOf(topic)
		b := &n.buckets[o.bucket]
		b.numbers++
		o.number = b.numbers
		switch live := n.Counters.Live.Load(); {
		case live && len(n.backlog) == 0:
			n.send(o)
		case live:
			n.hold(o)
		default:
			n.deliverHere(o)
			n.queue(o)
		}
	})
}

// size is what an event counts in inflight: its payload, and 256 bytes for everything around it.
func (o *outgoing) size() int64 { return int64(len(o.payload)) + 256 }

// finish tells the publisher of an event, once, what has become of the event.
func (n *Node) finish(o *outgoing, err error) {
	if o.finished {
		return
	}
	o.finished = true
	n.inflight.Add(-o.size())
	if o.done != nil {
		o.done(err)
	}
}

// deliverHere gives an event to the members of this node, once.
func (n *Node) deliverHere(o *outgoing) {
	if !o.delivered {
		o.delivered = true
		n.replica.Deliver(o.topic, o.payload, o.except, o.remember)
	}
}

// send gives an event to Redis. When nobody here is in its topic, the event counts as delivered:
// a member that comes later comes behind it.
func (n *Node) send(o *outgoing) {
	if n.link == nil {
		n.queue(o)
		return
	}
	b, t := &n.buckets[o.bucket], n.topics[o.topic]
	o.echoes = t != nil && t.state >= topicSyncing
	if !o.echoes {
		o.delivered = true
		n.unkeep(o) // the snapshot that is asked for later has it, or a later event
	}
	o.sent, o.echoed, o.accepted = n.now, false, false
	b.pending = append(b.pending, o)
	e := envelopes.Envelope{Kind: envelopes.Event, Remember: o.remember, Again: o.again,
		Node: n.number, Number: o.number, Except: o.except, Payload: o.payload}.Encode()
	channel := n.key(o.bucket, o.topic)
	c := call{bucket: o.bucket, done: func(r resp.Reply, err error) { n.handleAccepted(o, r, err) }}
	switch {
	case o.key != nil && o.remember:
		n.evalClaim(c, o.key, channel, e, o.payload, strconv.Itoa(cachedSeconds))
	case o.key != nil:
		n.evalClaim(c, o.key, channel, e)
	case o.remember:
		n.eval(c, &n.scripts.Cached, []string{channel + ":cached"},
			channel, e, o.payload, strconv.Itoa(cachedSeconds))
	default:
		n.publish(c, channel, e)
	}
}

// handleAccepted takes Redis' answer to an event. An event that does not come back is settled now:
// nobody here was in its topic when it was sent.
func (n *Node) handleAccepted(o *outgoing, r resp.Reply, err error) {
	if errors.Is(err, errAway) {
		return // handleDown keeps the event
	}
	var refused error
	if err := r.Outcome(err); err != nil {
		n.log.Error("Redis has refused an event", "why", err)
		n.deliverHere(o)
		n.lose(o)
		o.echoes = false
	} else if refused = o.key.Heard(r.Text); o.key != nil && r.Kind != resp.Int {
		n.takenBy(o)
	}
	o.accepted = true
	n.finish(o, refused)
	n.buckets[o.bucket].settle(n.keep)
}

// lose gives up an event. An event that was sent before may have reached other nodes, but nothing
// confirms that any more, so it is counted apart.
func (n *Node) lose(o *outgoing) {
	n.finish(o, nil)
	n.unkeep(o)
	if o.again {
		n.Counters.Uncertain.Add(1)
	} else if n.Counters.Lost.Add(1) == 1 {
		n.log.Warn("events that Redis could not take in time are lost to other nodes; " +
			"see the metric horizontal_transport_messages_dropped_total")
	}
}

// unkeep says that an event is not the one to remember any more.
func (n *Node) unkeep(o *outgoing) {
	if t := n.topics[o.topic]; t != nil && t.kept == o {
		t.kept = nil
	}
}

// queue keeps an event until Redis is back.
func (n *Node) queue(o *outgoing) {
	n.finish(o, nil)
	if t := n.topics[o.topic]; t != nil && o.remember {
		t.kept = o
	}
	n.hold(o)
}

// hold puts an event at the end of the backlog. It gives up the oldest events beyond maxBacklog.
func (n *Node) hold(o *outgoing) {
	n.backlog = append(n.backlog, o)
	n.backlogSize += len(o.payload)
	for n.backlogSize > maxBacklog {
		n.giveUp(n.takeOldest())
	}
	n.Counters.Backlog.Store(int64(n.backlogSize))
}

// takeOldest takes the event that has waited longest.
func (n *Node) takeOldest() *outgoing {
	o := take(&n.backlog)
	n.backlogSize -= len(o.payload)
	n.Counters.Backlog.Store(int64(n.backlogSize))
	return o
}

// giveUp delivers an event here, if that was not done, and loses it for the other nodes.
func (n *Node) giveUp(o *outgoing) {
	n.deliverHere(o)
	n.lose(o)
}

// TerminateAll asks all nodes to close the connections of a user. While Redis is away, this node
// closes its own, and done gets the error.
func (n *Node) TerminateAll(app, user string, done func(error)) {
	e := envelopes.Envelope{Kind: envelopes.Terminate, App: app, User: user}.Encode()
	n.post(func() {
		n.publish(call{done: func(r resp.Reply, err error) {
			if err = r.Outcome(err); err != nil {
				n.replica.TerminateUser(app, user)
			}
			done(err)
		}}, n.key(0, "all"), e)
	})
}

// Tell sends a letter to an incarnation. got says that it is connected. This node calls done.
func (n *Node) Tell(to, text string, done func(got bool, err error)) {
	n.post(func() {
		e := envelopes.Envelope{Kind: envelopes.Letter, ID: n.id, Payload: text}.Encode()
		n.publish(call{done: func(r resp.Reply, err error) { done(r.N > 0, r.Outcome(err)) }},
			n.key(0, "node", to), e)
	})
}
