package webhooks

import "reverb/internal/protocol"

// What the program sees, in the words in which it sees it. A text that is not the name of a channel
// is told to nobody.

// Changed tells that a channel has its first subscriber or, with a user, that the user has become a
// member of a presence channel. gone: the reverse. vanished says that a connection has ended: then
// the grace counts.
func (a *App) Changed(channel, user string, gone, vanished bool) {
	kind := ChannelOccupied
	if user != "" {
		kind = MemberAdded
	}
	if gone {
		kind = kind.Reverse()
	}
	if !a.cares(kind, channel) {
		return
	}
	name, err := protocol.ParseName(channel)
	switch e := (Event{Kind: kind, Channel: name, User: user}); {
	case err != nil:
	case vanished:
		a.tellGone(e, a.set.Load().Grace)
	default:
		a.tell(e)
	}
}

// Restored tells that a channel or, with a user, a member of it was there already in the process
// before this one. It is told to nobody.
func (a *App) Restored(channel, user string) {
	kind := ChannelVacated
	if user != "" {
		kind = MemberRemoved
	}
	if !a.cares(kind, channel) {
		return
	}
	if name, err := protocol.ParseName(channel); err == nil {
		a.sender.restored(a, Event{Kind: kind, Channel: name, User: user})
	}
}

// Missed tells that a cache channel had no event for a subscriber.
func (a *App) Missed(channel string) {
	if !a.cares(CacheMiss, channel) {
		return
	}
	if name, err := protocol.ParseName(channel); err == nil {
		a.tell(Event{Kind: CacheMiss, Channel: name})
	}
}

// Counted tells that subscribers were told how many they are.
func (a *App) Counted(name protocol.Name, size int) {
	a.tell(Event{Kind: SubscriptionCount, Channel: name, Count: size})
}

// ClientSaid tells of an event that a client has sent to others, see Event.
func (a *App) ClientSaid(name protocol.Name, event, data []byte, socket protocol.SocketID,
	user string) {
	if a.wants(ClientEvent, name) {
		a.tell(Event{Kind: ClientEvent, Channel: name, User: user, Event: string(event),
			Data: data, Socket: socket})
	}
}

// cares says whether an event may matter: somebody wants it or its reverse, or something is away
// that may be back. It costs less than to read the name.
func (a *App) cares(kind Kind, channel string) bool {
	if a == nil {
		return false
	}
	if kind.IsTransition() && a.absences.Load() > 0 {
		return true
	}
	for _, h := range a.set.Load().Hooks {
		if h.Kinds&kind.Pair() != 0 && h.covers(channel) {
			return true
		}
	}
	return false
}
