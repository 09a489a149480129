package cluster

import (
	"slices"
	"time"

	"reverb/internal/envelopes/known"
)

// The snapshot of a topic with many users is dear to Redis, and a client that comes and goes asks
// for one each time. So this node follows such a topic for a while after its last member here has
// gone: it stays subscribed, and its view stays true. Redis learns at once that no member is here.

const (
	// lingerUsers is how many users a topic must have to be followed without members. Larger: a
	// client that comes and goes has larger snapshots made. Smaller: this node hears the events of
	// more topics for nobody. It is 2 at least: the topic of a user must not linger, because
	// nobody watches the user any more.
	lingerUsers = 100
	// lingerTime is how long a topic is followed without members. Larger: this node hears its
	// events, and keeps its users, for nobody for longer. Smaller: a client that comes and goes has
	// snapshots made more often.
	lingerTime = 5 * time.Second
	// maxLingering bounds the topics that are followed without members; the oldest goes first.
	// Larger: more memory for users that nobody here sees. Smaller: a client that comes and goes
	// among more large topics than that has their snapshots made.
	maxLingering = 32
)

// lingerer is a topic without members here.
type lingerer struct {
	*known.Topic
	since time.Time
}

// linger says whether a topic is followed from now on although it has no members here. One that
// keeps an event that Redis lacks is not: it may have to be synced.
func (n *Node) linger(t *known.Topic) bool {
	if !n.Counters.Live.Load() || n.stopping || t.State != known.Active || t.Kept != nil ||
		t.View.Len() < n.large {
		return false
	}
	if len(n.lingering) >= maxLingering {
		n.forget(n.lingering[0].Topic)
	}
	n.lingering = append(n.lingering, lingerer{t, n.now})
	t.Dirty = false // the script that says that nobody is here has said it
	return true
}

// comeBack tells Redis that a topic that lingers has a member again. Redis must know that before it
// is told of the member's user: the users of a topic without nodes are deleted.
func (n *Node) comeBack(t *known.Topic) {
	n.endLinger(t)
	n.tellMembers(t)
}

func (n *Node) endLinger(t *known.Topic) {
	n.lingering = slices.DeleteFunc(n.lingering, func(l lingerer) bool { return l.Topic == t })
}
