package cluster

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/envelopes/known"
	"reverb/internal/lib/resp"
)

// handleReplies takes what came on a connection for commands.
func (n *Node) handleReplies(batch Batch) {
	p := n.masters[batch.Master]
	p.replied = n.now
	for _, r := range batch.Replies {
		if r.Kind == resp.Push {
			continue
		}
		if len(p.sent) == 0 {
			n.link.Fail(errors.New("Redis has answered what was not asked"))
			return
		}
		if e := r.Err(); resp.WrongServer(e) {
			n.link.Fail(e) // handleDown tells the callback of the command
			return
		}
		p.finish(take(&p.sent), r, nil)
	}
}

// finish reports the outcome of a command that was sent.
func (m *master) finish(c call, r resp.Reply, err error) {
	if c.bulk {
		m.bulk--
	}
	c.finish(r, err)
}

// holds says that the replica takes no more pushes for now, and notes when that was.
func (n *Node) holds(now time.Time) bool {
	if n.replica.Overloaded() {
		n.held = now
		return true
	}
	return false
}

// handlePushes takes what came on a connection for subscriptions.
func (n *Node) handlePushes(batch Batch) {
	n.masters[batch.Master].heard = n.now
	for _, r := range batch.Replies {
		n.handlePush(r)
	}
}

// handlePush takes one push: a message, or the answer to a command about subscriptions.
func (n *Node) handlePush(r resp.Reply) {
	if r.Kind == resp.Error {
		n.link.Fail(fmt.Errorf("subscribe: %w", r.Err()))
		return
	}
	if r.Kind != resp.Push && r.Kind != resp.Array || len(r.Items) < 2 {
		return // the answer to PING
	}
	channel := r.Items[1].Text
	switch r.Items[0].Text {
	case "message", "smessage":
		if len(r.Items) == 3 {
			n.handleEnvelope(channel, r.Items[2].Text)
		}
	case "subscribe", "ssubscribe":
		if n.subscribing.Came(channel) {
			if t := n.topicOn(channel); t != nil && t.State == known.Subscribing {
				n.sync(t, false)
			}
		}
	case "unsubscribe", "sunsubscribe":
		switch c := n.unsubscribing[channel]; c {
		case 0:
			n.link.Fail(errors.New("a channel has moved to another server"))
		case 1:
			delete(n.unsubscribing, channel)
		default:
			n.unsubscribing[channel] = c - 1
		}
	}
}

// misplaced says that a channel must not carry an envelope of a kind: markers, snapshots, letters
// come only on this node's own channel, and messages to all nodes only on the channel of all.
func (n *Node) misplaced(channel string, k envelopes.Kind) bool {
	toThis := k == envelopes.Marker || k == envelopes.Snapshot || k == envelopes.Letter ||
		k == envelopes.Work
	toAll := k == envelopes.Terminate || k == envelopes.Ready
	return toThis != n.own[channel] || toAll != (channel == n.key(0, "all"))
}

// handleEnvelope takes a message from another node, a script or a stranger.
func (n *Node) handleEnvelope(channel, b string) {
	e, err := envelopes.Parse(b)
	switch {
	case err == envelopes.ErrVersion:
		if n.Counters.Unknown.Add(1) == 1 {
			n.log.Warn("another node speaks a newer version; its messages are skipped and counted",
				"channel", strconv.QuoteToASCII(channel))
		}
		return
	case err != nil, n.misplaced(channel, e.Kind):
		if n.Counters.Malformed.Add(1) == 1 {
			n.log.Warn("a message on this cluster's channels is not an envelope; "+
				"such messages are skipped and counted", "channel", strconv.QuoteToASCII(channel))
		}
		return
	}
	n.Counters.Received.Add(1)
	switch e.Kind {
	case envelopes.Marker, envelopes.Snapshot:
		if m, ok := n.markers[e.Token]; ok {
			delete(n.markers, e.Token)
			m.Came()
			m.then(&e)
		}
	case envelopes.Terminate:
		n.replica.TerminateUser(e.App, e.User)
	case envelopes.Ready:
		n.meet(e.ID)
		n.goLive()
	case envelopes.Letter:
		if n.told != nil {
			n.told(e.ID, e.Payload)
		}
	case envelopes.Work:
		if n.outbox != nil && n.registered && !n.stopping {
			n.outbox.Work(e.ID, n.now.Add(time.Duration(e.Life)*time.Millisecond))
		}
	default:
		if t := n.topicOn(channel); t != nil {
			n.handleTopic(t, &e)
		}
	}
}

// handleTopic takes an envelope to everybody in a topic.
func (n *Node) handleTopic(t *known.Topic, e *envelopes.Envelope) {
	switch e.Kind {
	case envelopes.Event:
		if e.Node == n.number {
			n.handleEcho(t, e)
			return
		}
		if !n.seen.New(int(t.Bucket), e) {
			n.Counters.Duplicates.Add(1)
			return
		}
		n.replica.Deliver(t.Name, e.Payload, e.Except, e.Remember)
	case envelopes.Added:
		if t.State == known.Active {
			n.addToView(t, e.User, e.Info)
		}
	case envelopes.Removed:
		u := t.Users.Get(e.User)
		switch own := u != nil && u.Present; {
		case t.State != known.Active, own && n.stopping: // it removes its members itself
		case own: // the members here do not see it
			n.link.Fail(errors.New("others took this node for dead and have removed its members"))
		default:
			n.removeFromView(t, e.User)
		}
	case envelopes.Total:
		t.Total, t.Unheard = e.Total, t.Late()
		n.tellTotal(t)
	}
}

// handleEcho delivers an event that this node has published, now that the event has its place in
// the order of Redis.
func (n *Node) handleEcho(t *known.Topic, e *envelopes.Envelope) {
	b := &n.buckets[t.Bucket]
	o := b.Find(e.Number)
	if o == nil {
		return // it was delivered while Redis was away, or a stranger repeats this node
	}
	n.unkeep(o)
	if o.Delivered && o.Remember {
		// It was delivered while Redis was away. Others may have published since.
		n.replica.Remember(o.Topic, o.Payload)
	}
	n.deliverHere(o)
	o.Accepted, o.Echoed = true, true
	o.Key.Heard("")
	n.finish(o, nil)
	b.Settle(n.keep)
}
