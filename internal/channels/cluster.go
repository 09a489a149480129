package channels

import (
	"time"

	"reverb/internal/protocol"
)

// What the cluster tells about a channel, in the order of the cluster. With a cluster, Join and
// Leave are not called: members come and go when the cluster says so, and a channel stays until
// Drop.

// Added makes a user a member of a presence channel, if the user is not one. The subscribers get
// added.
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

// Removed removes a user from the members. The subscribers get removed.
func (r *Registry[C, E]) Removed(a *App[C], name protocol.Name, user string, removed E) {
	sh, _, ch := r.lock(a, name.String())
	defer sh.mu.Unlock()
	if ch != nil && ch.members != nil && ch.members.roster.Remove(user) {
		r.postLocked(sh, ch, removed, protocol.SocketID{})
	}
}

// Replace replaces the members and the last event of a channel, and tells no subscriber. The event
// is kept for life at most; nil: there is none.
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
		r.Last.Forget(a.id, ch.name)
	} else if ch.kind.Cache {
		r.rememberLocked(a, ch.name, last, now, min(life, lastEventLife))
	}
}

// Remember keeps an event as the last one of a cache channel, unless the channel is dropped. It
// tells no subscriber.
func (r *Registry[C, E]) Remember(a *App[C], name protocol.Name, e E, now time.Time) {
	sh, _, ch := r.lock(a, name.String())
	defer sh.mu.Unlock()
	if ch != nil && ch.kind.Cache {
		r.rememberLocked(a, ch.name, e, now, lastEventLife)
	}
}

// Drop forgets a channel with its members and its last event, unless it has a place. From then on
// this node does not hear events on it.
func (r *Registry[C, E]) Drop(a *App[C], name protocol.Name) {
	sh, _, ch := r.lock(a, name.String())
	defer sh.mu.Unlock()
	if ch != nil && ch.count == 0 {
		sh.channels.Remove(ch)
	}
	// in any case: other nodes may publish without this node hearing it
	r.Last.Forget(a.id, name.String())
}
