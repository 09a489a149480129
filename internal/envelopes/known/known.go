// Package known has what a node knows of topics and of its own events: plain data, which package
// cluster changes, and what becomes of it in another process, see package legacy.
package known

import (
	"cmp"
	"slices"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/envelopes/legacy"
	"reverb/internal/lib/fewmap"
	"reverb/internal/lib/retries"
)

// --- Topics ---

// State says how far a topic is in step with Redis.
type State uint8

const (
	Detached    State = iota // Redis is away, or does not know the topic
	Subscribing              // SUBSCRIBE is sent
	Syncing                  // subscribed; the snapshot is to come
	Alone                    // subscribed; Redis holds a foreign key under its name
	Active                   // in step with Redis
)

// Topic is a channel of an app in which this node has members. Most have one user or none.
type Topic struct {
	Name    string
	Bucket  int32
	Members int32 // subscriptions of this node; 0: it lingers
	Cache   bool  // its events are remembered
	State   State
	Dirty   bool              // Redis does not know Members
	Counted bool              // it is from before the session, and not in step yet
	Queued  bool              // it waits for its turn to be subscribed to
	Users   fewmap.Map[*User] // of this node
	View    envelopes.View    // all nodes' users, as the members here know them
	Kept    *Event            // the last event to remember that Redis does not have
	Total   int               // members on all nodes; 0: not known
	Unheard bool              // Total came while members waited for a marker
	*Waiters
}

// User is a user of this node in a topic.
type User struct {
	Info          string
	Subscriptions int
	Told          bool     // this node has told Redis of the user
	Present       bool     // Redis has confirmed that
	Waiting       []func() // members that wait for the confirmation
}

// Waiters are the members that wait for a topic; nil: nobody does.
type Waiters struct {
	Waiting []Waiter // for the topic to come into step
	Behind  []Waiter // for a marker, in the order of the tokens
}

// Waiter is a new member that waits for its topic.
type Waiter struct {
	User  string
	Ready func()
	Late  bool   // the member came after the question for the snapshot
	Token uint64 // of the marker for which it waits
}

// Wait makes room for waiters, and Release takes all of them, in their order.
func (t *Topic) Wait() *Waiters {
	if t.Waiters == nil {
		t.Waiters = new(Waiters)
	}
	return t.Waiters
}

func (t *Topic) Release() []Waiter {
	all := append(t.Wait().Waiting, t.Behind...)
	t.Waiters = nil
	return all
}

// Late says that members wait for a marker.
func (t *Topic) Late() bool { return t.Waiters != nil && len(t.Behind) > 0 }

// Lingers says that a topic is followed without members.
func (t *Topic) Lingers() bool { return t.Members == 0 }

// Rests says that a topic is in step, and nobody waits for it.
func (t *Topic) Rests() bool {
	if t.State != Active || t.Dirty || t.Kept != nil || t.Waiters != nil &&
		len(t.Waiting)+len(t.Behind) > 0 || len(t.View.Missing()) > 0 {
		return false
	}
	for _, u := range t.Users.All {
		if !u.Present || len(u.Waiting) > 0 {
			return false
		}
	}
	return true
}

// Legacy is a topic that rests, for another process.
func (t *Topic) Legacy(lingers time.Duration) legacy.Topic {
	v := legacy.Topic{Name: t.Name, Cache: t.Cache, Members: int(t.Members), Total: t.Total,
		Lingers: lingers, View: t.View.Members()}
	for _, user := range fewmap.InOrder(t.Users.All) {
		v.Users = append(v.Users, legacy.User{ID: user, Info: t.Users.Get(user).Info})
	}
	return v
}

// TopicOf is the topic that another process has left, without its members: they come again.
func TopicOf(v *legacy.Topic, bucket int) *Topic {
	t := &Topic{Name: v.Name, Bucket: int32(bucket), Cache: v.Cache, State: Active, Total: v.Total}
	for _, u := range v.Users {
		t.Users.Put(u.ID, &User{Info: u.Info, Told: true, Present: true})
	}
	t.View.Replace(v.View, false)
	return t
}

// --- Events ---

const (
	// RecentTime is how long an event that Redis has accepted and sent to this node is kept. When
	// Redis goes away within that time, the event is sent again: another node may have lost its
	// link a moment earlier. Larger: more events are sent twice, which costs traffic. Smaller:
	// another node may miss an event.
	RecentTime = 50 * time.Millisecond
	// RecentTimeMany takes the place of RecentTime where Redis has several servers. One of them
	// may be away while the others take events, and so may a former master.
	RecentTimeMany = time.Second
	// MaxRecent bounds the events in each half of what a bucket keeps for RecentTime. Larger: more
	// memory. Smaller: at a high rate, events are kept for less than RecentTime.
	MaxRecent = 4096
	// MaxRecentMany takes the place of MaxRecent if there are many buckets, because each bucket
	// keeps so many events.
	MaxRecentMany = 512
)

// Event is an event on its way. The events of a bucket are sent in the order of their numbers.
type Event struct {
	Topic     string
	Payload   string
	Bucket    int
	Except    uint64
	Remember  bool
	Number    uint64
	At        time.Time   // when it was published
	Sent      time.Time   // when it was last written to Redis
	Again     bool        // it was sent before
	Delivered bool        // to the members of this node
	Echoes    bool        // Redis sends it back, because this node was subscribed to its topic
	Echoed    bool        // it has come back
	Accepted  bool        // by Redis; or it was given up
	Taken     bool        // another request had claimed its key: nobody gets it from Redis
	Finished  bool        // Done was called
	Done      func(error) // nil: nobody asks
	// Key claims the request that the event is of; nil: the request has no key.
	Key *retries.Step
}

// Settled says that nothing more is to come for an event.
func (o *Event) Settled() bool { return o.Accepted && (o.Echoed || !o.Echoes) }

// Size is what an event on its way counts: its payload, and 256 bytes for everything around it.
func (o *Event) Size() int64 { return int64(len(o.Payload)) + 256 }

// EventOf is the event that another process has left. Redis has accepted it.
func EventOf(v *legacy.Event, bucket int, now time.Time) *Event {
	at := now.Add(-v.Age)
	return &Event{Topic: v.Topic, Payload: v.Payload, Bucket: bucket, Except: v.Except,
		Number: v.Number, Remember: v.Remember, At: at, Sent: at, Delivered: true, Accepted: true,
		Finished: true}
}

// Line has the events of a bucket.
type Line struct {
	Pending []*Event    // events that are not settled, and later ones
	Recent  [2][]*Event // settled events: the newer half, and the older one
}

// Settle moves settled events from the front of Pending to Recent, where keep of them have room in
// each half. They are kept for a moment because Redis may be killed after it has answered and
// before it has told everybody.
func (b *Line) Settle(keep int) {
	for len(b.Pending) > 0 && b.Pending[0].Settled() {
		if len(b.Recent[0]) >= keep {
			b.Turn()
		}
		b.Recent[0] = append(b.Recent[0], b.Pending[0])
		b.Pending[0] = nil
		if b.Pending = b.Pending[1:]; len(b.Pending) == 0 {
			b.Pending = nil // it keeps no memory
		}
	}
}

// Turn forgets the older half of Recent; the newer half becomes the older.
func (b *Line) Turn() {
	clear(b.Recent[1])
	b.Recent[0], b.Recent[1] = b.Recent[1][:0], b.Recent[0]
}

// Find is the event with a number that is not settled, or waits behind such a one; nil: there is
// none.
func (b *Line) Find(number uint64) *Event {
	i, found := slices.BinarySearchFunc(b.Pending, number,
		func(o *Event, number uint64) int { return cmp.Compare(o.Number, number) })
	if !found {
		return nil
	}
	return b.Pending[i]
}

// Leave says that the events of a topic do not come back: this node has no members in it.
func (b *Line) Leave(topic string) {
	for _, o := range b.Pending {
		if o.Topic == topic {
			o.Echoes, o.Delivered = false, true
		}
	}
}

// All lists the events in the order of their numbers.
func (b *Line) All() []*Event { return slices.Concat(b.Recent[1], b.Recent[0], b.Pending) }

// Legacy appends the recent events, for another process, that were sent at most recent ago.
func (b *Line) Legacy(to []legacy.Event, now time.Time, recent time.Duration) []legacy.Event {
	for _, o := range b.All() {
		if age := now.Sub(o.Sent); !o.Taken && age <= recent {
			to = append(to, legacy.Event{Topic: o.Topic, Payload: o.Payload, Except: o.Except,
				Number: o.Number, Remember: o.Remember, Age: age})
		}
	}
	return to
}
