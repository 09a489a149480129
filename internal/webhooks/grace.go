package webhooks

import (
	"time"

	"reverb/internal/lib/wheel"
)

const (
	// maxAbsent bounds, for the whole process, the events whose grace has not passed. Larger: more
	// memory when very many connections end together. Smaller: pages that are loaded again are told
	// as gone and as back.
	maxAbsent = 100_000
	// timesFree bounds them for an app: it has at most so many times what is free of maxAbsent, and
	// above that they are told at once. So there is always room for another app. Larger: less of
	// it. Smaller: less for an app that is alone. With 3 one app has at most 75,000.
	timesFree = 3
	// turnPuts is about how many events get into queues under one lock. Larger: others wait longer
	// for the lock. Smaller: more turns.
	turnPuts = 100
)

// tellGone tells of a ChannelVacated or MemberRemoved that a vanished connection has caused, when
// grace has passed. If the channel is occupied again, or the member is back, before that, then
// neither is told. It keeps e as tell does. Close does not wait for the grace.
func (a *App) tellGone(e Event, grace time.Duration) {
	if a == nil || a.decidedElsewhere(e.Kind) || !a.hears(e.Kind.Pair(), e.Channel) {
		return
	}
	s := a.sender
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held { // it counts as there for the next start
		return
	}
	if grace <= 0 {
		a.isBackLocked(&e)
		s.queueLocked(a, &e)
		return
	}
	s.goneLocked(a, &e, s.Now().Add(grace))
}

// goneLocked begins the absence of what has gone, if there is room.
func (s *Sender) goneLocked(a *App, e *Event, due time.Time) {
	if s.ending || a.leaving.Len() >= timesFree*(maxAbsent-s.absent) {
		a.isBackLocked(e)
		s.queueLocked(a, e)
		return
	}
	first := a.awaitLocked(&a.leaving, e, due)
	if !s.leavers[a] {
		s.leavers[a] = true
		s.workers.Go(func() { s.waitGone(a) })
	} else if first { // the grace was shortened
		select {
		case a.sooner <- struct{}{}:
		default:
		}
	}
}

// awaitLocked begins an absence.
func (a *App) awaitLocked(in *wheel.Set[Event], e *Event, due time.Time) (first bool) {
	of := thingOf(e)
	defer a.countLocked(a.leaving.Len())
	return in.Put(of.group, of.name, due, *e)
}

// countLocked counts the absences again. before is how many leaving had.
func (a *App) countLocked(before int) {
	a.sender.absent += a.leaving.Len() - before
	a.absences.Store(int64(a.leaving.Len() + a.missing.Len()))
}

// takeLocked ends an absence, which take takes out of leaving or missing.
func (a *App) takeLocked(take func(*wheel.Set[Event]) (Event, bool)) (e Event, ok bool) {
	defer a.countLocked(a.leaving.Len())
	if e, ok = take(&a.missing); ok {
		return e, ok
	}
	return take(&a.leaving)
}

// isBackLocked says that a transition is not told, because what it reverses was not told either. A
// transition that is told anyway ends the grace of its like.
func (a *App) isBackLocked(e *Event) bool {
	if a.absences.Load() == 0 {
		return false
	}
	of := thingOf(e)
	was, ok := a.takeLocked(func(in *wheel.Set[Event]) (Event, bool) {
		return in.Take(of.group, of.name)
	})
	return ok && was.Kind != e.Kind
}

// waitGone tells of what has gone, when it is due, until nothing is left.
func (s *Sender) waitGone(a *App) {
	for {
		pause, more := s.tellDue(a)
		switch {
		case !more:
			return
		case pause <= 0:
			continue
		}
		select {
		case <-s.After(pause):
		case <-a.sooner:
		case <-s.stopping:
		}
	}
}

// tellDue tells some of what is due, and says whether and when to go on.
func (s *Sender) tellDue(a *App) (pause time.Duration, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	for left := a.turn(); !s.held; left-- {
		due, ok := a.leaving.Due()
		if !ok {
			break
		}
		if pause = due.Sub(now); pause > 0 || left == 0 {
			return pause, true
		}
		s.tellFirstLocked(a, &a.leaving)
	}
	delete(s.leavers, a)
	return 0, false
}

// turn is how many absences are told under one lock.
func (a *App) turn() int { return max(1, turnPuts/max(1, len(a.set.Load().Hooks))) }

// tellFirstLocked tells of what is due first.
func (s *Sender) tellFirstLocked(a *App, of *wheel.Set[Event]) {
	before := a.leaving.Len()
	e, ok := of.TakeFirst()
	if a.countLocked(before); ok {
		s.queueLocked(a, &e)
	}
}

// tellRest tells some of what has gone, whatever is left of its grace. When nothing is left, the
// Sender takes no more events, and tellRest returns false.
func (s *Sender) tellRest() (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.leavers {
		if s.held || a.leaving.Len() == 0 {
			continue
		}
		for left := a.turn(); left > 0 && a.leaving.Len() > 0; left-- {
			s.tellFirstLocked(a, &a.leaving)
		}
		return true
	}
	s.closed = true
	close(s.stopping)
	return false
}

// queueLocked queues an event for each hook that wants it. Before a channel is told as vacated its
// members are told as removed: a receiver may forget them then, so nobody of them is silently back.
func (s *Sender) queueLocked(a *App, e *Event) {
	for e.Kind == ChannelVacated && a.absences.Load() > 0 {
		member, ok := a.takeLocked(func(in *wheel.Set[Event]) (Event, bool) {
			return in.TakeOf(e.Channel.String())
		})
		if !ok {
			break
		}
		s.queueLocked(a, &member)
	}
	set, now := a.set.Load(), s.Now()
	s.notePresence(set, e)
	for i, h := range set.Hooks {
		if h.Wants(e.Kind, e.Channel) {
			s.putLocked(set.queues[i], e, now)
		}
	}
}
