// Package channels is what the members of a channel share, apart from the members
// themselves: the roster of a presence channel, the last events of cache channels, and those
// who watch a channel without being subscribed.
//
// It knows no connection, no message and no clock. Members, messages and keys are the
// caller's types, and the caller says what time it is. Nothing here blocks, and everything is
// bounded but a Roster, whose limit is the caller's (see Roster.Admits).
//
// A Roster belongs to one channel and is guarded by the lock that guards the channel.
// LastEvents and Watchers serve all channels and may be called by everybody.
package channels
