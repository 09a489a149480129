package cluster

import (
	"errors"
	"strconv"

	"reverb/internal/lib/resp"
)

// Publish sends an event to the members of a topic on all nodes. done is called when
// Redis has accepted it or, where Redis is away, when it is delivered here and queued.
func (n *Node) Publish(topic, payload string, except uint64, remember bool, done func(error)) {
	o := &outgoing{topic: topic, payload: payload, except: except, remember: remember, done: done}
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

// size is what an event counts while it is on its way.
func (o *outgoing) size() int64 { return int64(len(o.payload)) + 256 }

// finish tells who has published an event what has become of it, once.
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

// send gives an event to Redis.
func (n *Node) send(o *outgoing) {
	if n.link == nil {
		n.queue(o)
		return
	}
	b, t := &n.buckets[o.bucket], n.topics[o.topic]
	o.echoes = t != nil && t.state >= topicSyncing
	o.delivered = o.delivered || !o.echoes // nobody here is in its topic: whoever comes later comes behind it
	o.sent, o.echoed, o.accepted = n.now, false, false
	b.pending = append(b.pending, o)
	e := string(appendEnvelope(make([]byte, 0, len(o.payload)+64), &envelope{kind: envelopeEvent, remember: o.remember, again: o.again, node: n.number, number: o.number, except: o.except, payload: o.payload}))
	channel := n.key(o.bucket, o.topic)
	c := call{bucket: o.bucket, done: func(r resp.Reply, err error) { n.handleAccepted(o, r, err) }}
	if o.remember {
		n.eval(c, &n.scripts.Cached, []string{channel + ":cached"}, channel, e, o.payload, strconv.Itoa(cachedSeconds))
	} else {
		n.command(c, n.sharded("PUBLISH"), channel, e)
	}
}

// handleAccepted deals with Redis' answer to an event. An event that does not come
// back, because nobody here was in its topic, is done with.
func (n *Node) handleAccepted(o *outgoing, r resp.Reply, err error) {
	if errors.Is(err, errAway) {
		return // handleDown sees to it
	}
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		n.log.Error("Redis has refused an event", "why", err)
		n.deliverHere(o)
		n.lose(o)
		o.echoes = false
	}
	o.accepted = true
	n.finish(o, nil)
	n.buckets[o.bucket].settle(n.keep)
}

// lose gives up an event. One that was sent before may have reached others, or some of
// them: who was to confirm it is gone, so it is counted apart.
func (n *Node) lose(o *outgoing) {
	n.finish(o, nil)
	if t := n.topics[o.topic]; t != nil && t.kept == o {
		t.kept = nil
	}
	if o.again {
		n.Counters.Uncertain.Add(1)
	} else if n.Counters.Lost.Add(1) == 1 {
		n.log.Warn("events that Redis could not take in time are lost to other nodes; see the metric horizontal_transport_messages_dropped_total")
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

// hold puts an event behind those that wait.
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
	o := n.backlog[0]
	n.backlog[0] = nil
	if n.backlog = n.backlog[1:]; len(n.backlog) == 0 {
		n.backlog = nil
	}
	n.backlogSize -= len(o.payload)
	n.Counters.Backlog.Store(int64(n.backlogSize))
	return o
}

// giveUp loses an event for other nodes.
func (n *Node) giveUp(o *outgoing) {
	n.deliverHere(o)
	n.lose(o)
}

// TerminateAll asks all nodes to close the connections of a user.
func (n *Node) TerminateAll(app, user string, done func(error)) {
	e := string(appendEnvelope(nil, &envelope{kind: envelopeTerminate, app: app, user: user}))
	n.post(func() {
		n.command(call{done: func(r resp.Reply, err error) {
			if err == nil {
				err = r.Err()
			}
			if err != nil {
				n.replica.TerminateUser(app, user)
			}
			done(err)
		}}, n.sharded("PUBLISH"), n.key(0, "all"), e)
	})
}
