package engine

import (
	"reverb/internal/channels"
	"reverb/internal/lib/retries"
	"reverb/internal/protocol"
)

// alone is the engine of the only node.
type alone[C Client[C, E], E Event[C]] struct{ *Replica[C, E] }

func (e alone[C, E]) Join(a App[C, E],
	p channels.Place[C, E]) (s *channels.Subscription[C], last E, full bool) {
	now, limit, added := e.now(), 0, *new(E)
	if p.Name.Kind().Presence {
		added = a.Event(protocol.EncodeMemberAdded(p.Name.String(), p.Member), nobody, now)
		limit = a.MaxMembers()
	}
	if s, full = e.channels.Join(&p, limit, added, now); !full {
		e.changed(a, s, p.Loop)
	}
	if p.Name.Kind().User {
		a.SignedIn(p.Member.ID)
	}
	return s, p.Last, full
}

func (e alone[C, E]) Restore(a App[C, E], p channels.Place[C, E]) *channels.Subscription[C] {
	p.Restored = true
	s, _ := e.channels.Join(&p, 0, *new(E), e.now())
	if p.Name.Kind().User {
		a.SignedIn(p.Member.ID)
	}
	return s
}

// Rejoin takes the new user_info. A user with other connections keeps that of the first.
func (e alone[C, E]) Rejoin(_ App[C, E], _ C, s *channels.Subscription[C],
	m *protocol.Member) (last E, later bool) {
	return e.channels.Rejoin(s, m, true, e.now()), false
}

func (e alone[C, E]) Leave(a App[C, E], s *channels.Subscription[C], vanished bool) {
	removed := *new(E)
	if s.Kind().Presence {
		removed = a.Event(protocol.EncodeMemberRemoved(s.Name(), s.Member().ID), nobody, e.now())
	}
	e.changed(a, s, e.channels.Leave(s, removed, vanished))
	if s.Kind().User {
		a.SignedOut(s.Member().ID)
	}
}

func (e alone[C, E]) Publish(a App[C, E], name protocol.Name, v E, remember bool,
	_ *retries.Step, _ chan<- error) (here protocol.Stats, later bool) {
	return e.publish(a, name, v, remember), false
}

func (e alone[C, E]) Heard(a App[C, E], name protocol.Name) bool {
	return e.channels.Stats(a.Channels(), name, e.now()).Occupied
}

func (alone[C, E]) Answers(int) chan error { return nil }
func (alone[C, E]) Later() bool            { return false }
func (alone[C, E]) Behind() bool           { return false }
func (alone[C, E]) Crowded() bool          { return false }

func (alone[C, E]) Enter(_ App[C, E], c C, n, limit int64) { c.Admit(limit == 0 || n <= limit) }
func (alone[C, E]) Left(App[C, E])                         {}
