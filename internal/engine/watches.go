package engine

import (
	"reverb/internal/protocol"
	"reverb/internal/topics"
)

// Watches asks the other nodes for the users of apps, as package watchlists does. The topic of a
// user's channel tells who is there.
type Watches[A interface{ ID() string }] struct{ Peers }

// Watch calls ready when the Replica has been told whether a user is signed in. Then it is told of
// each change, until Unwatch.
func (u Watches[A]) Watch(a A, user string, ready func()) {
	u.Join(topics.Name(a.ID(), protocol.UserChannel(user).String()), "", "", false, ready)
}

// Unwatch ends what Watch has begun.
func (u Watches[A]) Unwatch(a A, user string) {
	u.Leave(topics.Name(a.ID(), protocol.UserChannel(user).String()), "", false)
}
