package engine

import (
	"fmt"
	"hash/crc32"
	"time"

	"reverb/internal/channels"
	"reverb/internal/lib/jsonraw"
	"reverb/internal/protocol"
)

// Subscribers of a channel are told how many they are, on all nodes together, if their app wants
// that: on every kind of channel but presence channels. Package headcount says when. alone counts
// what is here. A cluster tells the totals, see Replica.Total.

// Up to FewSubscribers are told of every change of their number at once, and more of them once in
// each CountPause, as by Pusher Channels. Larger, FewSubscribers: n joiners cost n² frames.
// Smaller, or with a larger CountPause: more numbers come late.
const (
	FewSubscribers = 100
	CountPause     = 5 * time.Second
)

// crowd names the subscribers of a channel.
type crowd[C, E any] struct {
	app     App[C, E]
	channel string
}

// crowds is the Replica as package headcount sees it.
type crowds[C Client[C, E], E Event[C]] struct{ *Replica[C, E] }

func (r crowds[C, E]) Hash(v crowd[C, E]) uint32 { return crc32.ChecksumIEEE([]byte(v.channel)) }

// Size is how many subscribers are here.
func (r crowds[C, E]) Size(v crowd[C, E]) int {
	name, err := protocol.ParseName(v.channel)
	if err != nil {
		return 0
	}
	return r.channels.Stats(v.app.Channels(), name, r.now()).Subscriptions
}

// Tell tells the subscribers here.
func (r crowds[C, E]) Tell(v crowd[C, E], size int) {
	if name, err := protocol.ParseName(v.channel); err == nil {
		r.publish(v.app, name, v.app.Event(encodeCount(v.channel, size), nobody, r.now()), false)
		v.app.Counted(name, size)
	}
}

// encodeCount makes pusher_internal:subscription_count.
func encodeCount(channel string, size int) []byte {
	data := fmt.Appendf(nil, `{"subscription_count":%d}`, size)
	return protocol.AppendEvent(nil, "pusher_internal:subscription_count",
		jsonraw.AppendString(nil, data), channel, "")
}

// counted says whether the subscribers of a channel of a kind want to know how many they are.
func counted[C, E any](a App[C, E], kind protocol.Kind) bool {
	return !kind.Presence && !kind.User && a.Counts()
}

// changed says that s has come or goes on a loop, which calls it.
func (r *Replica[C, E]) changed(a App[C, E], s *channels.Subscription[C], loop int) {
	if counted(a, s.Kind()) {
		r.counter.Changed(loop, crowd[C, E]{a, s.Name()})
	}
}

// Counted says whether the subscribers to a topic want to know how many they are.
func (r *Replica[C, E]) Counted(topic string) bool {
	a, name, ok := r.find(topic)
	return ok && counted(a, name.Kind())
}

// Total tells the subscribers here how many all nodes have together.
func (r *Replica[C, E]) Total(topic string, members int) {
	if a, name, ok := r.find(topic); ok && counted(a, name.Kind()) {
		r.counter.Set(crowd[C, E]{a, name.String()}, members)
	}
}
