// Package channels has what the members of a channel share: the roster of a presence channel, the
// last events of cache channels, and watchers, which see a channel without a subscription.
//
// It knows no connection, no message and no clock. Members, messages and keys have types of the
// caller, and the caller says what time it is. Nothing here blocks. Everything is bounded, except a
// Roster: its limit is the caller's (see Roster.Admits).
//
// A Roster belongs to one channel and is guarded by the lock that guards the channel. LastEvents
// and Watchers serve all channels, and any goroutine may call them.
package channels
