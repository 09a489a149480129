// Package outbox keeps what the applications of a cluster are told, in Redis, until one of the
// nodes has delivered it. The scripts that change what the nodes share write into it, so that each
// transition is told once, whichever node has caused it, and whichever dies.
//
//	script about a topic ─▶ lane ─▶ its owner ─▶ batch ─▶ package webhooks ─▶ settled
//	client event, … ─▶ Put ─▶ lane
//
// # Lanes
//
// A lane has the events of one URL of an app, in their order. In a Redis Cluster each bucket has a
// lane of its own, so there the order holds for each channel. Package envelopes/keys has the names
// of its keys. Its events are a stream with the fields k (kind, a letter, see letters), c
// (channel), u (user), e (name), d (data), i (socket ID), n (count), s (bytes in a body;
// transitions have none).
//
// A lane has an owner, which alone delivers: the node that has asked for it first, as long as it
// asks again and again. When it dies, another node takes the lane over: when it is buried, or when
// its lease for the lane is over. A lane never waits for another one.
//
// The owner gets a batch, and Redis notes which events it has. Until the batch is settled, whoever
// asks gets exactly this batch. So its X-Reverb-Webhook-Id, which is made of the lane and the IDs
// of the events, stays the same across attempts, nodes and crashes, and a
// receiver that drops repeats by this ID is told everything once. A node whose lease has run out
// makes no attempt.
//
// # Grace
//
// What a vanished connection has caused waits in the leavings of the lane until its grace is over,
// and the owner moves it to the events. If the reverse comes before, neither is told. Before a
// channel is told as vacated its members are told as removed, whatever is left of their grace.
// Nodes that die, and nodes that leave, are vanished connections, too. A process that has just
// started tells nothing of what has gone for comeBack: if all nodes were away, their clients are on
// their way. (If they were not, another node owns the lanes.)
//
// # Room
//
// While 50,000 events wait or more, transitions that reverse one another and that wait, and are not
// part of the batch, leave the lane together (scripts/transitions.lua). So a lane has at most one
// waiting transition of each channel beyond these, and two of each member, and what a client does
// and undoes costs no other channel an event.
//
// # What is promised, and what is not
//
// As long as Redis keeps its data, nothing is lost but what has no room, see maxEvents, and what
// the receiver does not take; each loss is counted. While Redis is away, transitions are told when
// it is back; other events are lost. If Redis has lost data, nodes state again what they have: what
// is occupied or added may be told again, and what ended meanwhile may not be told.
//
// All nodes must have the same hooks: the node that makes a transition decides who wants it.
//
// Box is a state machine: the goroutine of its Node calls all that changes it, and it does no I/O
// itself. Put and Configure may be called by any goroutine.
//
// Files: outbox.go has this contract and the apps, lane.go what happens to a lane, entries.go the
// fields of events.
package outbox

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"reverb/internal/envelopes/keys"
	"reverb/internal/lib/resp"
	"reverb/internal/protocol"
	"reverb/internal/topics"
	"reverb/internal/webhooks"
)

const (
	// askInterval is how often its owner asks for a lane, if there are few lanes, and askTime how
	// long it takes at least to ask for one after the other. A message tells the owner that there
	// is something to do, so this is for messages that were lost. Larger: what no message tells of
	// comes later. Smaller: more work for Redis.
	askInterval = 500 * time.Millisecond
	askTime     = 5 * time.Millisecond
	// othersAsk is how many times more seldom other nodes ask, if the lease does not end before.
	// Larger: a lane that was given up is taken over later. Smaller: more work for Redis.
	othersAsk = 4
	// leaseTime is how long a lane stays with a node that does not ask for it; with many lanes it
	// is leaseAsks times as long as one is not asked for. Larger: it is taken over later. Smaller:
	// a node that is slow loses it, and its batch is sent twice.
	leaseTime = 10 * time.Second
	leaseAsks = 4
	// comeBack is how long a process that has just started tells nothing of what has gone: all
	// nodes may have been away, and their clients are coming back. Larger: it is told later.
	// Smaller: clients are told as gone and as back.
	comeBack = 30 * time.Second
	// maxAsks bounds the lanes that are asked for in one turn. Larger: a new session begins with
	// more commands at once. Smaller: a node with very many lanes has them later.
	maxAsks = 4096
	// maxEvents bounds the events of a lane that are no transitions: 80 % of what put.lua allows.
	// maxBytes bounds their bytes. Larger: Redis needs more memory while a receiver is down.
	// Smaller: events are lost sooner.
	maxEvents = 80_000
	maxBytes  = 32 << 20
	// maxUnsaid bounds the bytes of events on their way to Redis. Larger: more memory while Redis
	// is slow. Smaller: events are lost in a burst.
	maxUnsaid = 4 << 20
)

// Node is what a Box needs of this process's node.
type Node interface {
	// Do calls f on the node's goroutine.
	Do(f func())
	// Names are the names of a key in all buckets.
	Names(parts ...string) []string
	// Place is the bucket of a topic, and the beginning of the names of its keys.
	Place(topic string) (bucket int, key string)
	// Lane runs tell.lua or lane.lua. args are those behind the node's own channel.
	Lane(tell bool, bucket int, keys, args []string, done func(resp.Reply, error))
}

// Box is the outbox, as one node sees it.
type Box struct {
	now     func() time.Time
	log     *slog.Logger
	started time.Time // constant once the node starts
	node    Node      // constant after Attach
	unsaid  atomic.Int64

	// owned by the node's goroutine
	apps        map[string]*app
	lanes       map[string]*lane // by the key of the events
	order       []*lane
	incarnation string // empty: before the first session
	left        bool
}

// app is what an app's hooks are.
type app struct {
	id    string
	hooks []*hook
	grace string // milliseconds
	to    webhooks.Courier
	dirty bool // Waiting is to be told
}

// hook is a hook with its lanes, by bucket.
type hook struct {
	*webhooks.Hook
	url   string
	name  string // of the URL, in keys
	lanes []*lane
}

// New makes a Box. Attach gives it its node.
func New(now func() time.Time, log *slog.Logger) *Box {
	return &Box{now: now, log: log, started: now(), apps: map[string]*app{},
		lanes: map[string]*lane{}}
}

// Attach says which node a Box belongs to, and returns the node. It comes before anything else.
func Attach[N Node](b *Box, n N) N {
	b.node = n
	return n
}

// Succeed says that this process has taken over from one that was up: nothing has gone with it.
// It is called before the node starts.
func (b *Box) Succeed() { b.started = time.Time{} }

// hold is for how much longer this process tells nothing of what has gone, see comeBack.
func (b *Box) hold() time.Duration { return max(0, b.started.Add(comeBack).Sub(b.now())) }

// Configure is part of webhooks.Outbox. Lanes of URLs that are there no more are left to other
// nodes; if there is none, Redis deletes them after a week.
func (b *Box) Configure(id string, hooks []*webhooks.Hook, grace time.Duration,
	to webhooks.Courier) {
	b.node.Do(func() {
		a, was := &app{id: id, grace: number(grace.Milliseconds()), to: to}, b.apps[id]
		delete(b.apps, id)
		if len(hooks) > 0 {
			b.apps[id] = a
		}
		kept := map[*lane]bool{}
		for _, h := range hooks {
			sum := sha256.Sum256([]byte(h.Address()))
			v := &hook{Hook: h, url: h.Address(), name: hex.EncodeToString(sum[:8])}
			a.hooks = append(a.hooks, v)
			for bucket, base := range b.node.Names("") {
				l := b.lane(a, v, bucket, keys.OfLane(base, id, v.name))
				v.lanes, kept[l] = append(v.lanes, l), true
			}
		}
		if was == nil {
			return
		}
		for _, h := range was.hooks {
			for _, l := range h.lanes {
				if !kept[l] {
					l.giveUp()
				}
			}
		}
		b.order = slices.DeleteFunc(b.order, func(l *lane) bool { return l.over })
	})
}

// lane finds a lane, or makes it.
func (b *Box) lane(a *app, h *hook, bucket int, keys []string) *lane {
	l := b.lanes[keys[0]]
	if l == nil {
		sum := sha256.Sum256([]byte(keys[0]))
		l = &lane{box: b, bucket: bucket, keys: keys, name: hex.EncodeToString(sum[:8])}
		b.lanes[keys[0]] = l
		b.order = append(b.order, l)
	}
	l.app, l.url = a, h.url
	return l
}

// giveUp forgets a lane.
func (l *lane) giveUp() {
	delete(l.box.lanes, l.keys[0])
	l.over = true
	l.leave()
}

// leave stops the delivery, and lets another node have the lane.
func (l *lane) leave() {
	l.drop()
	if l.box.incarnation != "" && !l.box.left && l.until.Load() != 0 {
		l.send("0")
	}
}

// Lanes is part of cluster.Outbox: which lanes want transitions of a topic.
func (b *Box) Lanes(base, topic string, gone bool) (names, args []string) {
	id, channel := topics.Cut(topic)
	a := b.apps[id]
	if a == nil {
		return nil, nil
	}
	name, err := protocol.ParseName(channel)
	if err != nil {
		return nil, nil
	}
	wants := ""
	for _, h := range a.hooks {
		if of := transitions(h.Hook, name); of != "" {
			names, wants = append(names, keys.OfLane(base, id, h.name)...), wants+of+","
		}
	}
	if names == nil {
		return nil, nil
	}
	grace := "0"
	if gone {
		grace = a.grace
	}
	return names, []string{wants, channel, grace}
}

// transitions are the letters of the transitions of a channel that a hook wants.
func transitions(h *webhooks.Hook, channel protocol.Name) (of string) {
	for k := webhooks.ChannelOccupied; k <= webhooks.MemberRemoved; k++ {
		if h.Wants(k, channel) {
			of += letters[k : k+1]
		}
	}
	return of
}

// Turn is part of cluster.Outbox. In a new session all lanes are asked for at once, before the node
// has told Redis of anything else, unless there are very many.
func (b *Box) Turn(incarnation string, now time.Time) {
	if incarnation != b.incarnation {
		for _, l := range b.order {
			l.next = time.Time{}
		}
	}
	b.incarnation = incarnation
	asks := 0
	for _, l := range b.order {
		if asks < maxAsks && !now.Before(l.next) {
			asks++
			l.ask()
		}
	}
	for _, a := range b.apps {
		if a.dirty {
			a.tellWaiting()
		}
	}
}

// interval is how often each lane is asked for, and lease how long it stays with its owner.
func (b *Box) interval() time.Duration {
	return max(askInterval, time.Duration(len(b.order))*askTime)
}
func (b *Box) lease() time.Duration { return max(leaseTime, leaseAsks*b.interval()) }

// Work is part of cluster.Outbox.
func (b *Box) Work(key string, at time.Time) {
	switch l := b.lanes[key]; {
	case l == nil:
	case at.After(b.now()):
		l.soon(at)
	default:
		l.ask()
	}
}

// Leave is part of cluster.Outbox. A batch that is under way stays in its lane.
func (b *Box) Leave() {
	for _, l := range b.order {
		l.leave()
	}
	b.left = true
}

// Put is part of webhooks.Outbox. While Redis is away the event is lost.
func (b *Box) Put(id string, h *webhooks.Hook, e *webhooks.Event) {
	url, size := h.Address(), e.Size()
	full := b.unsaid.Add(int64(size)) > maxUnsaid
	done := func() { b.unsaid.Add(-int64(size)) }
	b.node.Do(func() {
		a := b.apps[id]
		if a == nil {
			done()
			return
		}
		i := slices.IndexFunc(a.hooks, func(o *hook) bool { return o.url == url })
		switch {
		case i < 0:
			done()
			return
		case full:
			done()
			a.to.Refused(url, 1, 0, 0)
			return
		}
		bucket, _ := b.node.Place(topics.Name(id, e.Channel.String()))
		l := a.hooks[i].lanes[bucket]
		args := append([]string{number(maxEvents), number(maxBytes), number(int64(size))},
			fields(e)...)
		names := l.keys
		if e.Kind == webhooks.SubscriptionCount {
			names = append(names[:5:5], keys.OfCount(names[0], e.Channel.String()))
		}
		b.node.Lane(true, bucket, names, args, func(_ resp.Reply, err error) {
			if done(); err != nil {
				a.to.Untold(url, 1)
			}
		})
	})
}

// tellWaiting tells the figures of an app's lanes.
func (a *app) tellWaiting() {
	a.dirty = false
	for _, h := range a.hooks {
		queued, gone, oldest := 0, 0, time.Time{}
		for _, l := range h.lanes {
			queued, gone = queued+l.queued, gone+l.gone
			if !l.oldest.IsZero() && (oldest.IsZero() || l.oldest.Before(oldest)) {
				oldest = l.oldest
			}
		}
		a.to.Waiting(h.url, queued, gone, oldest)
	}
}
