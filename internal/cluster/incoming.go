package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"reverb/internal/lib/resp"
)

// sessionErrors are the words with which Redis says that it is not, or not any more,
// the one to talk to.
var sessionErrors = []string{"READONLY", "MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "MASTERDOWN", "NOREPLICAS", "NOSCRIPT", "NOAUTH"}

// handleReplies deals with what came on the connection for commands.
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
		if e := resp.ReplyError(r.Text); r.Kind == resp.Error && slices.ContainsFunc(sessionErrors, e.Begins) {
			n.link.Fail(e) // whose command it was learns it from handleDown
			return
		}
		done := p.sent[0]
		p.sent[0] = nil
		p.sent = p.sent[1:]
		if done != nil {
			done(r, nil)
		}
	}
}

// holds says that the replica takes no more pushes for now.
func (n *Node) holds(now time.Time) bool {
	if n.replica.Overloaded() {
		n.held = now
		return true
	}
	return false
}

// handlePushes deals with what came on the connection of subscriptions.
func (n *Node) handlePushes(batch Batch) {
	n.masters[batch.Master].heard = n.now
	for _, r := range batch.Replies {
		n.handlePush(r)
	}
}

// handlePush deals with one of them.
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
		if n.confirmed(channel) {
			if t := n.byChannel[channel]; t != nil && t.state == topicSubscribing {
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

// confirmed takes note of a confirmation and says whether it was the last to come.
func (n *Node) confirmed(channel string) bool {
	left := n.subscribing[channel]
	if len(left) == 0 {
		return false // it was asked for again, and both have come
	}
	left[0].came = true
	n.settleAwaited()
	if len(left) > 1 {
		n.subscribing[channel] = left[1:]
		return false
	}
	delete(n.subscribing, channel)
	return true
}

// handleEnvelope deals with what another node, a script or a stranger has sent.
func (n *Node) handleEnvelope(channel, b string) {
	e, err := parseEnvelope(b)
	own, all := n.own[channel], channel == n.key(0, "all")
	switch {
	case err == errEnvelopeVersion:
		if n.Counters.Unknown.Add(1) == 1 {
			n.log.Warn("another node speaks a newer version; what it says is skipped and counted", "channel", strconv.QuoteToASCII(channel))
		}
		return
	case err != nil, own != (e.kind == envelopeMarker || e.kind == envelopeSnapshot), all != (e.kind == envelopeTerminate || e.kind == envelopeReady):
		if n.Counters.Malformed.Add(1) == 1 {
			n.log.Warn("somebody publishes on this cluster's channels what is no envelope; it is skipped and counted", "channel", strconv.QuoteToASCII(channel))
		}
		return
	}
	n.Counters.Received.Add(1)
	switch e.kind {
	case envelopeMarker, envelopeSnapshot:
		if m, ok := n.markers[e.token]; ok {
			delete(n.markers, e.token)
			m.came = true
			n.settleAwaited()
			m.then(&e)
		}
	case envelopeTerminate:
		n.replica.TerminateUser(e.app, e.user)
	case envelopeReady:
		n.meet(e.id)
		n.goLive()
	default:
		if t := n.byChannel[channel]; t != nil {
			n.handleTopic(t, &e)
		}
	}
}

// handleTopic deals with what is said to everybody in a topic.
func (n *Node) handleTopic(t *topic, e *envelope) {
	switch e.kind {
	case envelopeEvent:
		if e.node == n.number {
			n.handleEcho(t, e)
			return
		}
		from := sequence{e.node, t.bucket}
		last, known := n.seen[from]
		if e.number <= last {
			// Its sender has sent it again, and could not know; or it has, and this one was still
			// on its way on a connection that the sender had given up.
			n.Counters.Duplicates.Add(1)
			return
		}
		if !known && len(n.seen) >= maxSeen {
			clear(n.seen) // of nodes that have come and gone, or of strangers
		}
		n.seen[from] = e.number
		n.replica.Deliver(t.name, e.payload, e.except, e.remember)
	case envelopeAdded:
		if t.state == topicActive {
			n.addToView(t, e.user, e.info)
		}
	case envelopeRemoved:
		if u := t.users[e.user]; u != nil && u.present && t.state == topicActive {
			n.link.Fail(errors.New("others took this node for dead and have removed its members")) // nobody here sees it
		} else if t.state == topicActive {
			n.removeFromView(t, e.user)
		}
	}
}

// handleEcho delivers an event of this node's own, now that Redis has given it its
// place.
func (n *Node) handleEcho(t *topic, e *envelope) {
	b := &n.buckets[t.bucket]
	i, found := slices.BinarySearchFunc(b.pending, e.number, func(o *outgoing, number uint64) int { return cmp.Compare(o.number, number) })
	if !found {
		return // delivered while Redis was away, or somebody repeats us
	}
	o := b.pending[i]
	if t.kept == o {
		t.kept = nil
	}
	if o.delivered && o.remember { // while Redis was away; others may have published since
		n.replica.Remember(o.topic, o.payload)
	}
	n.deliverHere(o)
	o.accepted, o.echoed = true, true
	n.finish(o, nil)
	b.settle(n.keep)
}

// settle takes off the front of pending what is settled. It is kept for a moment: Redis
// may be killed when it has answered and has not yet told everybody.
func (b *bucket) settle(keep int) {
	for len(b.pending) > 0 && b.pending[0].settled() {
		if len(b.recent[0]) >= keep {
			b.turn()
		}
		b.recent[0] = append(b.recent[0], b.pending[0])
		b.pending[0] = nil
		b.pending = b.pending[1:]
	}
}

// turn forgets the older half of what was settled.
func (b *bucket) turn() {
	clear(b.recent[1])
	b.recent[0], b.recent[1] = b.recent[1][:0], b.recent[0]
}
