package webhooks

import (
	"maps"
	"slices"
	"time"

	"reverb/internal/hookentries"
	"reverb/internal/lib/recordlog"
	"reverb/internal/lib/wheel"
	"reverb/internal/spoolfolder"
)

// --- From another process ---

// heir is what has come from a predecessor.
type heir struct {
	dir   string // of the spool; empty: there is none
	fold  hookentries.Fold
	away  []hookentries.Away
	there []presence // for the spool alone
}

// presence is a channel or a member that is there, by the event that tells that it goes.
type presence struct {
	app   *App
	event Event
}

// restored notes that something was there already in another process.
func (s *Sender) restored(a *App, leaving Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heir != nil && s.heir.dir != "" {
		s.heir.there = append(s.heir.there, presence{a, leaving})
	}
}

// SetState takes a record of State from another process, for Settle. ok is false if it makes no
// sense.
func (s *Sender) SetState(record []byte) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heir == nil {
		return false
	}
	for ok = true; ok && len(record) > 0; {
		var kind byte
		var body, whole []byte
		if kind, body, whole, record, ok = hookentries.Next(record); !ok {
			break
		}
		switch kind {
		case hookentries.EntryAway:
			var away hookentries.Away
			away, ok = hookentries.ReadAway(body)
			s.heir.away = append(s.heir.away, away)
		case hookentries.EntryFigures:
			f := recordlog.Fields{B: body}
			a := s.apps[f.Text()]
			ok = !f.Bad && (a == nil || a.tallies.SetState(f.B))
		default:
			s.heir.fold.Apply(kind, body, whole)
			ok = s.heir.fold.Bad == 0
		}
	}
	return ok
}

// Settle begins to deliver what another process had not, when all has come from it. It does nothing
// in a process that succeeds none. With orphan the predecessor has died before it had given all:
// then its spool knows more.
func (s *Sender) Settle(orphan bool) {
	if s == nil || s.heir == nil { // no other goroutine has the Sender yet
		return
	}
	h := s.heir
	s.heir = nil
	orphan = orphan && h.dir != ""
	if orphan {
		if err := s.Keep(h.dir, false); err != nil {
			s.Log.Warn("the spool of the process before this one cannot be read", "why", err)
			orphan = false
		}
	}
	if !orphan {
		s.take(h)
	}
	for _, a := range s.apps {
		a.Configure(a.set.Load().Account)
	}
	for _, v := range h.there {
		if orphan { // what the disk does not know is told again
			v.event.Kind = v.event.Kind.Reverse()
			v.app.tell(v.event)
		}
	}
	if !orphan {
		s.takeAway(h.away)
	}
}

// take takes what another process had not delivered. A spool gets what is there, too.
func (s *Sender) take(h *heir) {
	if h.dir == "" {
		s.inherit(&h.fold)
		return
	}
	p := newSpool()
	p.log, p.fresh = spoolfolder.Succeed(h.dir, s.Log, s.After), true
	s.spool = p
	s.inherit(&h.fold)
	p.fold = h.fold
	came := func(a *App, e *Event) {
		if a != nil {
			entry := hookentries.Entry{Kind: hookentries.EntryCame, App: a.id, Event: *e}
			p.fold.Apply(entry.Kind, entry.AppendBody(nil), nil)
		}
	}
	for i := range h.away {
		came(s.apps[h.away[i].App], &h.away[i].Event)
	}
	for i := range h.there {
		came(h.there[i].app, &h.there[i].event)
	}
	go p.run(s)
}

// takeAway lets graces go on that have begun in another process.
func (s *Sender) takeAway(all []hookentries.Away) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, first := s.Now(), map[*App]time.Time{}
	for i := range all {
		v := &all[i]
		a := s.apps[v.App]
		if a == nil || !a.hears(v.Event.Kind.Pair(), v.Event.Channel) {
			s.dropped(1)
			continue
		}
		due := now.Add(v.Left)
		if !v.Past {
			s.goneLocked(a, &v.Event, due)
			continue
		}
		a.awaitLocked(&a.missing, &v.Event, due)
		if first[a].IsZero() {
			first[a] = due
		}
	}
	for a, due := range first {
		s.workers.Go(func() { s.waitMissing(a, due) })
	}
}

// --- For another process ---

// Stand makes the Sender stand still until end: what is under way goes on, and its outcome changes
// nothing. With leave all is another process's then: this one tells nothing more, and lets go of
// the spool. Who tells an App something waits for end.
func (s *Sender) Stand() (end func(leave bool)) {
	if s == nil {
		return func(bool) {}
	}
	s.mu.Lock()
	return func(leave bool) {
		defer s.mu.Unlock()
		if !leave {
			return
		}
		s.given, s.held, s.closed = true, true, true
		s.cancel()
		s.stopped.Do(func() { close(s.stopping) })
		if s.spool != nil {
			s.spool.once.Do(func() { close(s.spool.ending) })
		}
	}
}

// State sends all that another process needs to go on, in records; see package hookentries. The
// caller has called Stand.
func (s *Sender) State(send func(record []byte) error) error {
	if s == nil {
		return nil
	}
	w := &stateWriter{send: send}
	now := s.Now()
	for _, id := range slices.Sorted(maps.Keys(s.apps)) {
		a := s.apps[id]
		if f := a.tallies.State(); len(f) > 0 {
			w.add(hookentries.EntryFigures, append(recordlog.AppendField(nil, id), f...))
		}
		for address, q := range a.queues {
			w.lane(hookentries.Entry{App: id, Lane: q.lane, Hash: hookentries.HashOf(address),
				Place: placeOf(address)}, q.waits, q.begun)
		}
		w.away(id, &a.leaving, false, now)
		w.away(id, &a.missing, true, now)
	}
	for id, p := range s.past {
		for hash, l := range p.Lanes {
			w.lane(hookentries.Entry{App: id, Lane: l.Number, Hash: hash, Place: l.Place},
				func(yield func(*hookentries.Item) bool) {
					for i := range l.Items {
						if !yield(&l.Items[i]) {
							return
						}
					}
				}, l.Batch)
		}
		for i := range p.There {
			w.entry(hookentries.Entry{Kind: hookentries.EntryCame, App: id, Event: p.There[i]})
		}
	}
	return w.flush()
}

// waits has all that was not delivered, in order.
func (q *queue) waits(yield func(*hookentries.Item) bool) {
	for i := range q.taken {
		if !yield(&q.taken[i].Item) {
			return
		}
	}
	var others []*item
	for it := range q.others.All() {
		others = append(others, it)
	}
	for it := range q.transitions.All() {
		for len(others) > 0 && others[0].Number < it.Number {
			if !yield(&others[0].Item) {
				return
			}
			others = others[1:]
		}
		if !yield(&it.Item) {
			return
		}
	}
	for _, it := range others {
		if !yield(&it.Item) {
			return
		}
	}
}

// stateWriter makes records of entries. After the first error of send it sends nothing.
type stateWriter struct {
	send         func(record []byte) error
	record, body []byte
	err          error
}

func (w *stateWriter) add(kind byte, body []byte) {
	w.record = hookentries.AppendEntry(w.record, kind, body)
	if len(w.record) >= hookentries.RecordSize {
		w.flush()
	}
}

func (w *stateWriter) flush() error {
	if w.err == nil && len(w.record) > 0 {
		w.err = w.send(w.record)
	}
	w.record = w.record[:0]
	return w.err
}

func (w *stateWriter) entry(e hookentries.Entry) {
	w.body = e.AppendBody(w.body[:0])
	w.add(e.Kind, w.body)
}

// lane adds what waits for a URL. of has whose lane it is.
func (w *stateWriter) lane(of hookentries.Entry, items func(yield func(*hookentries.Item) bool),
	begun hookentries.Batch) {
	of.Kind = hookentries.EntryLane
	w.entry(of)
	for it := range items {
		w.entry(hookentries.Entry{Kind: hookentries.EntryPut, Lane: of.Lane, Number: it.Number,
			At: it.At, Event: it.Event})
	}
	if begun.N > 0 {
		w.entry(hookentries.Entry{Kind: hookentries.EntryBatch, Lane: of.Lane, Batch: begun})
	}
}

func (w *stateWriter) away(app string, all *wheel.Set[Event], past bool, now time.Time) {
	for due, e := range all.All() {
		a := hookentries.Away{App: app, Event: e, Left: due.Sub(now), Past: past}
		w.body = a.AppendBody(w.body[:0])
		w.add(hookentries.EntryAway, w.body)
	}
}
