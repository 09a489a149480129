package webhooks

import (
	"reverb/internal/hookevents"
	"reverb/internal/posts"
)

// What an application is told, see package hookevents.
type (
	Kind  = hookevents.Kind
	Kinds = hookevents.Kinds
	Event = hookevents.Event
)

const (
	ChannelOccupied   = hookevents.ChannelOccupied
	ChannelVacated    = hookevents.ChannelVacated
	MemberAdded       = hookevents.MemberAdded
	MemberRemoved     = hookevents.MemberRemoved
	ClientEvent       = hookevents.ClientEvent
	CacheMiss         = hookevents.CacheMiss
	SubscriptionCount = hookevents.SubscriptionCount
)

// KindsOf is the set of some kinds.
func KindsOf(some ...Kind) Kinds { return hookevents.KindsOf(some...) }

// takeBatch encodes the events at the beginning of items that go into one request: n of them, one
// or more, with commas between them.
func takeBatch(items []item) (events []byte, n int) {
	apart := items[0].Channel.Kind().Encrypted
	for n < len(items) && n < posts.MaxEvents && items[n].Channel.Kind().Encrypted == apart {
		end := len(events)
		if n > 0 {
			events = append(events, ',')
		}
		events = items[n].Append(events)
		if n > 0 && len(events) > posts.MaxList {
			return events[:end], n
		}
		n++
	}
	return events, n
}
