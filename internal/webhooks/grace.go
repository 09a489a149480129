package webhooks

import "time"

// maxGone bounds, for the whole process, the events whose grace has not passed, also those that
// were taken back meanwhile. Above it they are told at once. Larger: more memory when very many
// connections end together. Smaller: pages that are loaded again are told as gone and as back.
const maxGone = 100_000

// leavings are the kinds that can wait for a grace.
const leavings = Kinds(1<<ChannelVacated | 1<<MemberRemoved)

// gone is a transition that is told when its grace has passed.
type gone struct {
	Event
	due  time.Time
	back bool // it is not told: its reverse has come
}

// absence names what has gone.
type absence struct {
	kind          Kind // ChannelVacated or MemberRemoved
	channel, user string
}

// absenceOf is what e ends or begins.
func absenceOf(e *Event) absence {
	kind := e.Kind
	if kind == ChannelOccupied || kind == MemberAdded {
		kind++ // the reverse
	}
	return absence{kind, e.Channel.String(), e.User}
}

// tellGone tells of a ChannelVacated or MemberRemoved that a vanished connection has caused, when
// grace has passed. If the channel is occupied again, or the member is back, before that, then
// neither is told. It keeps e as tell does. Close does not wait for the grace.
func (a *App) tellGone(e Event, grace time.Duration) {
	if a == nil || a.decidedElsewhere(e.Kind) || !a.wants(e.Kind, e.Channel) {
		return
	}
	s := a.sender
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held { // it counts as there for the next start
		return
	}
	if grace <= 0 || s.gone >= maxGone || s.closed {
		s.queueLocked(a, &e)
		return
	}
	g := &gone{Event: e, due: s.Now().Add(grace)}
	if a.absent == nil {
		a.absent = map[absence]*gone{}
	}
	a.absent[absenceOf(&e)] = g
	a.leaving.push(g)
	s.gone++
	if !s.leavers[a] {
		s.leavers[a] = true
		s.workers.Go(func() { s.waitGone(a) })
	}
}

// isBackLocked says that a transition is not told, because what it reverses was not told either. A
// transition that is told anyway ends the grace of its like.
func (a *App) isBackLocked(e *Event) bool {
	if len(a.absent) == 0 {
		return false
	}
	key := absenceOf(e)
	g := a.absent[key]
	if g == nil {
		return false
	}
	g.back = true
	delete(a.absent, key)
	return key.kind != e.Kind
}

// waitGone tells of what has gone, when it is due, until nothing is left.
func (s *Sender) waitGone(a *App) {
	for {
		s.mu.Lock()
		now := s.Now()
		for a.leaving.n > 0 && !(*a.leaving.head()).due.After(now) {
			s.tellGoneLocked(a)
		}
		if a.leaving.n == 0 {
			if a.missing.n == 0 {
				a.absent = nil
			}
			delete(s.leavers, a)
			s.mu.Unlock()
			return
		}
		pause := (*a.leaving.head()).due.Sub(now)
		s.mu.Unlock()
		select {
		case <-s.After(pause):
		case <-s.stopping:
		}
	}
}

// tellGoneLocked tells of the oldest that has gone.
func (s *Sender) tellGoneLocked(a *App) {
	g := a.leaving.pop()
	s.gone--
	if !g.back {
		delete(a.absent, absenceOf(&g.Event))
		s.queueLocked(a, &g.Event)
	}
}

// queueLocked queues an event for each hook that wants it.
func (s *Sender) queueLocked(a *App, e *Event) {
	set, now := a.set.Load(), s.Now()
	s.notePresence(set, e)
	for i, h := range set.Hooks {
		if h.Wants(e.Kind, e.Channel) {
			s.putLocked(set.queues[i], e, now)
		}
	}
}
