package cluster

import (
	"errors"
	"strconv"

	"reverb/internal/envelopes"
	"reverb/internal/envelopes/known"
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
	o := &known.Event{Topic: topic, Payload: payload, Except: except, Remember: remember, Key: key,
		Done: done}
	n.inflight.Add(o.Size())
	n.post(func() {
		n.Counters.Published.Add(1)
		o.At, o.Bucket = n.now, n.bucketOf(topic)
		b := &n.buckets[o.Bucket]
		b.numbers++
		o.Number = b.numbers
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

// finish tells the publisher of an event, once, what has become of the event.
func (n *Node) finish(o *known.Event, err error) {
	if o.Finished {
		return
	}
	o.Finished = true
	n.inflight.Add(-o.Size())
	if o.Done != nil {
		o.Done(err)
	}
}

// deliverHere gives an event to the members of this node, once.
func (n *Node) deliverHere(o *known.Event) {
	if !o.Delivered {
		o.Delivered = true
		n.replica.Deliver(o.Topic, o.Payload, o.Except, o.Remember)
	}
}

// send gives an event to Redis. When nobody here is in its topic, the event counts as delivered:
// a member that comes later comes behind it.
func (n *Node) send(o *known.Event) {
	if n.link == nil {
		n.queue(o)
		return
	}
	b, t := &n.buckets[o.Bucket], n.topics[o.Topic]
	o.Echoes = t != nil && t.State >= known.Syncing
	if !o.Echoes {
		o.Delivered = true
		n.unkeep(o) // the snapshot that is asked for later has it, or a later event
	}
	o.Sent, o.Echoed, o.Accepted = n.now, false, false
	b.Pending = append(b.Pending, o)
	e := envelopes.Envelope{Kind: envelopes.Event, Remember: o.Remember, Again: o.Again,
		Node: n.number, Number: o.Number, Except: o.Except, Payload: o.Payload}.Encode()
	channel := n.key(o.Bucket, o.Topic)
	c := call{bucket: o.Bucket, done: func(r resp.Reply, err error) { n.handleAccepted(o, r, err) }}
	switch {
	case o.Key != nil && o.Remember:
		n.evalClaim(c, o.Key, channel, e, o.Payload, strconv.Itoa(cachedSeconds))
	case o.Key != nil:
		n.evalClaim(c, o.Key, channel, e)
	case o.Remember:
		n.eval(c, &n.scripts.Cached, []string{channel + ":cached"},
			channel, e, o.Payload, strconv.Itoa(cachedSeconds))
	default:
		n.publish(c, channel, e)
	}
}

// handleAccepted takes Redis' answer to an event. An event that does not come back is settled now:
// nobody here was in its topic when it was sent.
func (n *Node) handleAccepted(o *known.Event, r resp.Reply, err error) {
	if errors.Is(err, errAway) {
		return // handleDown keeps the event
	}
	var refused error
	if err := r.Outcome(err); err != nil {
		n.log.Error("Redis has refused an event", "why", err)
		n.deliverHere(o)
		n.lose(o)
		o.Echoes = false
	} else if refused = o.Key.Heard(r.Text); o.Key != nil && r.Kind != resp.Int {
		n.takenBy(o)
	}
	o.Accepted = true
	n.finish(o, refused)
	n.buckets[o.Bucket].Settle(n.keep)
}

// lose gives up an event. An event that was sent before may have reached other nodes, but nothing
// confirms that any more, so it is counted apart.
func (n *Node) lose(o *known.Event) {
	n.finish(o, nil)
	n.unkeep(o)
	if o.Again {
		n.Counters.Uncertain.Add(1)
	} else if n.Counters.Lost.Add(1) == 1 {
		n.log.Warn("events that Redis could not take in time are lost to other nodes; " +
			"see the metric horizontal_transport_messages_dropped_total")
	}
}

// unkeep says that an event is not the one to remember any more.
func (n *Node) unkeep(o *known.Event) {
	if t := n.topics[o.Topic]; t != nil && t.Kept == o {
		t.Kept = nil
	}
}

// queue keeps an event until Redis is back.
func (n *Node) queue(o *known.Event) {
	n.finish(o, nil)
	if t := n.topics[o.Topic]; t != nil && o.Remember {
		t.Kept = o
	}
	n.hold(o)
}

// hold puts an event at the end of the backlog. It gives up the oldest events beyond maxBacklog.
func (n *Node) hold(o *known.Event) {
	n.backlog = append(n.backlog, o)
	n.backlogSize += len(o.Payload)
	for n.backlogSize > maxBacklog {
		n.giveUp(n.takeOldest())
	}
	n.Counters.Backlog.Store(int64(n.backlogSize))
}

// takeOldest takes the event that has waited longest.
func (n *Node) takeOldest() *known.Event {
	o := take(&n.backlog)
	n.backlogSize -= len(o.Payload)
	n.Counters.Backlog.Store(int64(n.backlogSize))
	return o
}

// giveUp delivers an event here, if that was not done, and loses it for the other nodes.
func (n *Node) giveUp(o *known.Event) {
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
