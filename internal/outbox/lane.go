package outbox

import (
	"sync/atomic"
	"time"

	"reverb/internal/lib/resp"
	"reverb/internal/lib/show"
	"reverb/internal/posts"
	"reverb/internal/webhooks"
)

// lane is a lane, as this node sees it.
type lane struct {
	box    *Box     // constant
	bucket int      // constant
	keys   []string // constant; see keys.OfLane
	name   string   // constant; begins the IDs of its batches
	app    *app
	url    string

	asking bool // an answer is to come
	again  bool // ask again when it has come
	over   bool // given up
	// Redis has a foreign key under a name of the lane
	troubled bool
	next     time.Time
	until    atomic.Int64 // nanoseconds since 1970: until when this node is the owner
	batch    *batch       // that this node delivers; nil: none
	settled  string       // the batch of which Redis is to be told that it is settled

	queued, gone int // as Redis has told the owner
	oldest       time.Time
}

// batch is a batch that is under way.
type batch struct {
	first   string // the ID of its first event
	dropped atomic.Bool
}

// soon asks for the lane at a time, or before.
func (l *lane) soon(at time.Time) {
	if at.Before(l.next) {
		l.next = at
	}
}

// ask asks for the lane, now or when the answer that is to come has come.
func (l *lane) ask() {
	switch {
	case l.over || l.box.left:
	case l.asking:
		l.again = true
	default:
		l.asking, l.again = true, false
		l.next = l.box.now().Add(l.box.interval())
		l.send(number(l.box.lease().Milliseconds()))
	}
}

// send sends lane.lua; lease is in milliseconds.
func (l *lane) send(lease string) {
	has, settled := "", l.settled
	if l.batch != nil {
		has = l.batch.first
	}
	until := l.box.now().Add(l.box.lease()) // Redis counts from a later moment
	l.box.node.Lane(false, l.bucket, l.keys, []string{lease, settled, has, number(posts.MaxEvents),
		number(posts.MaxList), number(l.box.hold().Milliseconds())}, func(r resp.Reply, err error) {
		if lease != "0" {
			l.heard(r, err, has, settled, until)
		}
	})
}

// heard takes the answer of lane.lua to a question with has and settled.
func (l *lane) heard(r resp.Reply, err error, has, settled string, until time.Time) {
	l.asking = false
	if foreign := resp.Foreign(err); foreign != l.troubled {
		if l.troubled = foreign; foreign {
			l.box.log.Warn("a key in Redis was not written by this program; webhooks wait until "+
				"it is deleted", "app", show.Text(l.app.id), "why", show.Line(err.Error()))
		}
	}
	if err != nil || len(r.Items) == 0 || l.over {
		return // Redis is away, or a foreign key is in the way
	}
	if l.settled == settled {
		l.settled = ""
	}
	if mine := r.Items[0].N == 1 && len(r.Items) == 9; !mine {
		l.lost(r.Items[len(r.Items)-1].N)
	} else {
		l.until.Store(until.UnixNano())
		l.take(r.Items, has)
	}
	if l.again || l.settled != "" {
		l.ask()
	}
}

// lost notes that another node has the lane, for so many milliseconds if it does not ask again.
func (l *lane) lost(left int64) {
	l.until.Store(0)
	l.drop()
	l.next = l.box.now().Add(min(time.Duration(left)*time.Millisecond, othersAsk*l.box.interval()))
	l.count(0, 0, "")
}

// take takes the answer to the owner, see lane.lua.
func (l *lane) take(items []resp.Reply, has string) {
	first, due, events := items[1].Text, items[2].N, items[8].Items
	if l.batch != nil && l.batch.first != first {
		l.drop() // another node has settled it, or Redis has forgotten it
	}
	if due >= 0 {
		l.soon(l.box.now().Add(time.Duration(due) * time.Millisecond))
	}
	others, transitions, undone := int(items[3].N), int(items[4].N), int(items[5].N)
	if others+transitions+undone > 0 {
		l.app.to.Refused(l.url, others, transitions, undone)
	}
	l.count(int(items[6].N), int(items[7].N), first)
	if l.batch == nil && first != "" && first != l.settled && first != has {
		l.deliver(first, events)
	}
}

// count notes the figures of the lane.
func (l *lane) count(queued, gone int, first string) {
	oldest := timeOf(first)
	if queued != l.queued || gone != l.gone || !oldest.Equal(l.oldest) {
		l.queued, l.gone, l.oldest, l.app.dirty = queued, gone, oldest, true
	}
}

// deliver begins to deliver a batch. If no event of it can be read, it is settled at once.
func (l *lane) deliver(first string, entries []resp.Reply) {
	events, times := read(entries)
	if len(events) == 0 {
		l.settled = first
		return
	}
	v := &batch{first: first}
	l.batch = v
	ok := l.app.to.Deliver(l.url, &webhooks.Batch{Events: events, Times: times,
		ID: l.name + "-" + first + "-" + sumOf(entries),
		Held: func() bool {
			return !v.dropped.Load() && l.box.now().UnixNano() < l.until.Load()
		},
		Done: func(settled bool) { l.box.node.Do(func() { l.done(v, settled) }) }})
	if !ok {
		l.batch = nil
	}
}

// drop stops the delivery of a batch: it is another node's.
func (l *lane) drop() {
	if l.batch != nil {
		l.batch.dropped.Store(true)
		l.batch = nil
	}
}

// done notes what has become of a batch. One that was delivered is settled even if the lane is
// another node's by now: that one need not deliver it again.
func (l *lane) done(v *batch, settled bool) {
	if l.batch == v {
		l.batch = nil
	}
	if settled && (l.settled == "" || l.batch == nil) {
		l.settled = v.first
		l.ask()
	}
}
