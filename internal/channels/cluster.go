package channels

import (
	"time"

	"reverb/internal/protocol"
)

// What the cluster tells of a channel, in its order. Then Join and Leave are not called:
// members come and go here as the cluster says, and the channel stays until it says so.

// Added makes a user a member of a presence channel, if the user is not one, and those that
// are there hear of it.
func (r *Registry[C, E]) Added(a *App[C], name protocol.Name, m *protocol.Member, added E) {
	sh, hash, ch := r.lock(a, name.String())
	defer sh.mu.Unlock()
	if ch == nil {
		ch = sh.addLocked(hash, a, name)
	}
	if ch.members == nil {
		return
	}
	if _, connections := ch.members.roster.Find(m.ID); connections == 0 {
		ch.members.add(m)
		r.postLocked(sh, ch, added, protocol.SocketID{})
	}
}

// Removed takes a user off the members, and those that are there hear of it.
func (r *Registry[C, E]) Removed(a *App[C], name protocol.Name, user string, removed E) {
	sh, _, ch := r.lock(a, name.String())
	defer sh.mu.Unlock()
	if ch != nil && ch.members != nil && ch.members.roster.Remove(user) {
		r.postLocked(sh, ch, removed, protocol.SocketID{})
	}
}

// Replace replaces what is known of a channel: its members, and its last event, which is kept
// for life at most. Nobody hears of it. last is nil where there is none.
func (r *Registry[C, E]) Replace(a *App[C], name protocol.Name, members []*protocol.Member,
	last E, life time.Duration, now time.Time) {
	sh, hash, ch := r.lock(a, name.String())
	defer sh.mu.Unlock()
	if ch == nil {
		ch = sh.addLocked(hash, a, name)
	}
	if ch.members != nil {
		ch.members.roster.Clear()
		for _, m := range members {
			ch.members.add(m)
		}
	}
	if none := *new(E); last == none {
		r.last.Forget(a.id, ch.name)
	} else if ch.kind.Cache {
		r.rememberLocked(a, ch.name, last, now, min(life, lastEventLife))
	}
}

// Remember keeps an event as the last of a cache channel, unless the channel is dropped. Nobody
// hears of it.
func (r *Registry[C, E]) Remember(a *App[C], name protocol.Name, e E, now time.Time) {
	sh, _, ch := r.lock(a, name.String())
	defer sh.mu.Unlock()
	if ch != nil && ch.kind.Cache {
		r.rememberLocked(a, ch.name, e, now, lastEventLife)
	}
}

// Drop forgets a channel, unless it has a place: its members, and its last event. This node
// does not hear any more what others publish on it.
func (r *Registry[C, E]) Drop(a *App[C], name protocol.Name) {
	sh, _, ch := r.lock(a, name.String())
	defer sh.mu.Unlock()
	if ch != nil && ch.count == 0 {
		sh.channels.Remove(ch)
	}
	r.last.Forget(a.id, name.String()) // even then: others may publish, and this node does not hear it
}
