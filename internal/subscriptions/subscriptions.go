// Package subscriptions has what one connection is subscribed to: found by name or by user, and as
// plain data for another process.
//
// A C is a connection, and an E is an event, as for package channels. The loop of the connection
// owns its Set. What a connection costs is that of buckets.Few, 16 bytes.
package subscriptions

import (
	"fmt"

	"reverb/internal/channels"
	"reverb/internal/handover"
	"reverb/internal/lib/buckets"
	"reverb/internal/lib/show"
	"reverb/internal/protocol"
)

// Set has the subscriptions of one connection, except to the channel of its user. The zero Set is
// empty.
type Set[C any] struct {
	buckets.Few[channels.Subscription[C], *channels.Subscription[C]]
}

// Find finds the subscription to a channel of the connection's app; nil: there is none.
func (set *Set[C]) Find(of *channels.App[C], channel []byte) *channels.Subscription[C] {
	hash := uint32(0)
	if set.Many() {
		hash = of.Hash(channel)
	}
	s := set.First(hash)
	for s != nil && s.Name() != string(channel) {
		s = *s.Next()
	}
	return s
}

// HasUser says whether the connection is on a presence channel as the user.
func (set *Set[C]) HasUser(id string) bool {
	for s := range set.All {
		if s.Kind().Presence && s.Member().ID == id {
			return true
		}
	}
	return false
}

// User is whom the connection says it is on a presence channel; empty: it is on none. On several
// channels it may be several users; then it is one of them.
func (set *Set[C]) User() string {
	for s := range set.All {
		if s.Kind().Presence {
			return s.Member().ID
		}
	}
	return ""
}

// Describe appends all to a list, as plain data. waits says that a joiner has not got its list of
// members.
func (set *Set[C]) Describe(all []handover.Subscription,
	waits func(*channels.Subscription[C]) bool) []handover.Subscription {
	for s := range set.All {
		v := handover.Subscription{Channel: s.Name(), Listed: !waits(s)}
		if m := s.Member(); m != nil {
			v.Member, v.User, v.Info = true, m.ID, m.Info
		}
		all = append(all, v)
	}
	return all
}

// Restore subscribes a connection to what it was subscribed to in another process, as v tells; at
// says where the connection is, and for which app. restore takes each place. held are the
// subscriptions in the order of v. user is the place on the channel of the user whom v is signed in
// as; nil: v is not. The error says that v makes no sense.
func Restore[C any, E channels.Event[C]](set *Set[C], r *channels.Registry[C, E],
	at channels.Place[C, E], v *handover.Connection,
	restore func(channels.Place[C, E]) *channels.Subscription[C]) (
	held []*channels.Subscription[C], user *channels.Subscription[C], err error) {
	join := func(channel string, m *protocol.Member) (*channels.Subscription[C], error) {
		name, err := protocol.ParseName(channel)
		if err != nil || (name.Kind().Presence || name.Kind().User) && m == nil {
			return nil, fmt.Errorf("a subscription to %s", show.Text(channel))
		}
		p := at
		p.Name, p.Member = name, m
		return restore(p), nil
	}
	for _, old := range v.Subscriptions {
		m := (*protocol.Member)(nil)
		if old.Member {
			m = &protocol.Member{ID: old.User, Info: old.Info}
		}
		s, err := join(old.Channel, m)
		if err != nil {
			return nil, nil, err
		}
		if held = append(held, s); s.Kind().Presence && old.Listed {
			r.Listed(s, 0)
		}
		set.Add(s)
	}
	if u := v.User; u != nil {
		m := &protocol.Member{ID: u.ID, Info: u.Info}
		user, err = join(protocol.UserChannel(u.ID).String(), m)
	}
	return held, user, err
}
