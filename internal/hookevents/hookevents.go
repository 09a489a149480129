// Package hookevents has what an application is told: events of some kinds, and their JSON in the
// form of Pusher's webhooks.
package hookevents

import (
	"strconv"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/protocol"
)

// Kind is what has happened.
type Kind uint8

const (
	ChannelOccupied   Kind = iota // the first subscriber has come
	ChannelVacated                // the last one has gone
	MemberAdded                   // the first connection of a user, on a presence channel
	MemberRemoved                 // the last one has gone
	ClientEvent                   // a client has sent an event to others
	CacheMiss                     // a channel that remembers its last event had none for a joiner
	SubscriptionCount             // how many subscribers a channel has now
	kinds
)

// String is the kind as Pusher calls it.
func (k Kind) String() string {
	return [kinds]string{"channel_occupied", "channel_vacated", "member_added", "member_removed",
		"client_event", "cache_miss", "subscription_count"}[k]
}

// Known says whether a number is that of a kind.
func Known(n byte) bool { return n < byte(kinds) }

// IsTransition says whether what a receiver knows stays wrong if the event is lost.
func (k Kind) IsTransition() bool { return k <= MemberRemoved }

// Reverse is the transition that takes a transition back.
func (k Kind) Reverse() Kind { return k ^ 1 }

// Leaving is a transition itself, if something goes by it, or its reverse.
func (k Kind) Leaving() Kind { return k | 1 }

// Pair is a transition and its reverse, or k alone.
func (k Kind) Pair() Kinds {
	if !k.IsTransition() {
		return KindsOf(k)
	}
	return KindsOf(k, k.Reverse())
}

// Kinds is a set of kinds.
type Kinds uint8

// allKinds has every kind. DefaultKinds leaves out those of which there are very many.
const (
	allKinds     = Kinds(1<<kinds - 1)
	DefaultKinds = allKinds &^ (1<<ClientEvent | 1<<SubscriptionCount)
)

// KindsOf is the set of some kinds.
func KindsOf(some ...Kind) (set Kinds) {
	for _, k := range some {
		set |= 1 << k
	}
	return set
}

// Has says whether a kind is in the set.
func (s Kinds) Has(k Kind) bool { return s>>k&1 != 0 }

// Event is what an application is told. Only Kind and Channel are always set.
type Event struct {
	Kind    Kind
	Channel protocol.Name
	User    string            // the ID of the member, or of the sender on a presence channel
	Event   string            // of a client event: its name
	Data    []byte            // of a client event: the JSON value that the client has sent
	Socket  protocol.SocketID // of a client event: the sender
	Count   int               // of a subscription count
}

// Append appends the event as an object.
func (e *Event) Append(b []byte) []byte {
	b = append(b, `{"name":"`...)
	b = append(b, e.Kind.String()...)
	b = append(b, `","channel":`...)
	b = jsonraw.AppendString(b, e.Channel.String())
	if e.Kind == ClientEvent {
		b = append(b, `,"event":`...)
		b = jsonraw.AppendString(b, e.Event)
		// pusher-http-go reads data into a string, and fails for any other type
		b = append(b, `,"data":`...)
		b = jsonraw.AppendString(b, jsonraw.Text(e.Data))
		b = append(b, `,"socket_id":"`...)
		b = append(b, e.Socket.String()...)
		b = append(b, '"')
	}
	if e.User != "" {
		b = append(b, `,"user_id":`...)
		b = jsonraw.AppendString(b, e.User)
	}
	if e.Kind == SubscriptionCount {
		b = append(b, `,"subscription_count":`...)
		b = strconv.AppendInt(b, int64(e.Count), 10)
	}
	return append(b, '}')
}

// Size is how many bytes an event takes in a body, with a comma.
func (e *Event) Size() int { return len(e.Append(nil)) + 1 }
