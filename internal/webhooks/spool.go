package webhooks

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"reverb/internal/hookentries"
	"reverb/internal/lib/recordlog"
	"reverb/internal/lib/show"
	"reverb/internal/spoolfolder"
)

const (
	// maxEntry bounds an event in the file. Larger: damage costs more. Smaller: large client events
	// are not kept.
	maxEntry = spoolfolder.MaxRecord / 2
	// startGrace is how much longer than their grace clients may take to come back after a start.
	// Larger: what has gone with the old process is told later. Smaller: clients that reconnect
	// slowly are told as gone and as back.
	startGrace = 30 * time.Second
	// longestSync bounds how long a batch waits until the disk has it, and how long a stop does.
	// Larger: a disk that hangs delays what is told. Smaller: a slow disk costs the stable ID of a
	// batch after a crash.
	longestSync = 2 * time.Second
	// pacePause is how long what the spool says has gone waits for room in the queues. Larger: it
	// is told later. Smaller: the wait costs more.
	pacePause = time.Second
)

// spool is a folder in which a Sender keeps what it has not delivered, and what is there, so that
// the next process knows. See the package.
type spool struct {
	// constant
	log    *spoolfolder.Folder
	wake   chan struct{} // the Sender has notes
	once   sync.Once
	ending chan struct{} // closed by closeSpool
	done   chan struct{} // closed when run has ended
	fresh  bool          // the file is another process's, and is written anew

	fold hookentries.Fold // owned by run once it runs
}

// Keep keeps in a folder, which is made if it is missing, what is not delivered and what is there,
// and makes the Sender know what another process has left in it. It is called at once after New,
// and without an Outbox. With an empty name it does nothing. The error is one line with the
// variable. A process that succeeds another one judges the folder now, and opens it with Settle,
// which has to follow in any case.
func (s *Sender) Keep(dir string, succeeds bool) (err error) {
	if succeeds {
		s.heir = &heir{dir: dir, fold: hookentries.NewFold()}
	}
	if dir == "" {
		return nil
	}
	if succeeds {
		if _, used, err := s.Look(dir); !used {
			return err
		}
		return nil
	}
	p := newSpool()
	f := &p.fold
	if p.log, err = spoolfolder.Open(dir, s.QueueBytes, s.Log, s.After, f.Add); err != nil {
		return err
	}
	s.spool = p
	s.inherit(f)
	p.log.Dropped.Add(int64(f.Bad))
	go p.run(s)
	return nil
}

func newSpool() *spool {
	return &spool{wake: make(chan struct{}, 1), ending: make(chan struct{}),
		done: make(chan struct{}), fold: hookentries.NewFold()}
}

// inherit makes the Sender know what another process has left.
func (s *Sender) inherit(f *hookentries.Fold) {
	s.started, s.past, s.lanes = s.Now(), f.Past(), f.Last
	if len(s.past) > 0 {
		s.workers.Go(s.forget)
	}
}

// Look says in words what is in a folder for Keep, and changes nothing there. The error is that of
// Keep. used says that a process has the folder; there is also an error then, for other processes.
func (s *Sender) Look(dir string) (kept string, used bool, err error) {
	f := hookentries.NewFold()
	size, used, err := spoolfolder.Look(dir, s.QueueBytes, f.Add)
	events, there := f.Count()
	return fmt.Sprintf("%d events that were not delivered and %d channels and members that were "+
		"there, in %s", events, there, size), used, err
}

// keeps says that what was not delivered is on the disk for the next process.
func (p *spool) keeps() bool { return p != nil && p.log.Keeps() }

// SpoolFigures returns the figures of the spool since the start; nil: there is none.
func (s *Sender) SpoolFigures() *spoolfolder.Figures {
	if s == nil || s.spool == nil {
		return nil
	}
	return s.spool.log.Figures()
}

// --- What the Sender notes ---

// Notes that are not the kind of an entry.
const (
	noteWants  = iota + 100 // an app wants other events than before
	noteForget              // an app is configured no more
)

// note is what the spool has to keep. Those of one change are made under one lock of the Sender, so
// that they get into one record.
type note struct {
	hookentries.Entry               // Kind may be one of the above
	wants             *App          // of noteWants
	done              chan struct{} // closed when the disk has the note, or cannot take it
}

// noteLocked hands a note that is an entry to the spool. Without one it does nothing.
func (s *Sender) noteLocked(e hookentries.Entry) { s.noteAllLocked(note{Entry: e}) }

func (s *Sender) noteAllLocked(n note) {
	if s.spool == nil || s.given {
		return
	}
	s.notes = append(s.notes, n)
	select {
	case s.spool.wake <- struct{}{}:
	default:
	}
}

// notePresence notes that a channel or a member has come or gone, if anybody is told of either.
func (s *Sender) notePresence(set *settings, e *Event) {
	if s.spool == nil || s.closed || !e.Kind.IsTransition() {
		return
	}
	if set.hears(e.Kind.Pair(), e.Channel) {
		n := hookentries.Entry{Kind: hookentries.EntryCame, App: set.ID, Event: *e}
		if e.Kind.Leaving() == e.Kind {
			n.Kind = hookentries.EntryGone
		}
		s.noteLocked(n)
	}
}

// begin notes that a batch is about to be sent for the first time, and waits until the disk has
// that, and all of the batch. So a receiver gets nothing that a crash could make the server forget,
// nor an upgrade.
func (s *Sender) begin(q *queue, b hookentries.Batch) {
	n := note{Entry: hookentries.Entry{Kind: hookentries.EntryBatch, Lane: q.lane, Batch: b},
		done: make(chan struct{})}
	s.mu.Lock()
	q.begun = b
	s.noteAllLocked(n)
	s.mu.Unlock()
	if s.spool == nil {
		return
	}
	select {
	case <-n.done:
	case <-s.After(longestSync):
	case <-q.ctx.Done():
	}
}

// Hold says that the server is about to stop, and ends connections. With a spool, what tellGone is
// told from now on, and what it has not told yet, is not told: it counts as there for the next
// start. Without one Hold does nothing.
func (s *Sender) Hold() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holdLocked()
}

func (s *Sender) holdLocked() {
	if s.spool == nil {
		return
	}
	s.held = true
}

// --- The goroutine ---

// run turns notes into entries. It does no I/O, so notes do not pile up.
func (p *spool) run(s *Sender) {
	defer close(p.done)
	defer p.log.Close()
	if p.fresh {
		p.log.Rewrite(p.fold.Records())
	}
	for ending := false; !ending; {
		stale := false
		select {
		case <-p.wake:
		case <-p.log.Stale():
			stale = true
		case <-p.ending:
			ending = true
		}
		s.mu.Lock()
		notes := s.notes
		s.notes = nil
		s.mu.Unlock()
		p.keep(notes)
		if stale {
			p.log.Rewrite(p.fold.Records())
		}
	}
}

// closeSpool writes what was noted, and closes the folder, unless the disk hangs.
func (s *Sender) closeSpool() {
	if s.spool == nil {
		return
	}
	s.spool.once.Do(func() { close(s.spool.ending) })
	select {
	case <-s.spool.done:
	case <-s.After(longestSync):
	}
}

// keep makes records of notes. A record ends only where a new change begins.
func (p *spool) keep(notes []note) {
	var record, body []byte
	add := func(kind byte, begins bool) {
		if len(body) > maxEntry {
			p.log.Dropped.Add(1)
			return
		}
		if len(record) > hookentries.RecordSize && begins {
			p.log.Append(record)
			record = record[:0]
		}
		from := len(record)
		record = hookentries.AppendEntry(record, kind, body)
		p.fold.Apply(kind, body, record[from:])
	}
	forget := func(app, key string) {
		body = append(recordlog.AppendField(body[:0], app), key...)
		add(hookentries.EntryGone, true)
	}
	for i := range notes {
		n := &notes[i]
		switch n.Kind {
		case noteWants:
			for key, e := range p.fold.There(n.wants.id) {
				if e == nil || !n.wants.hears(e.Kind.Pair(), e.Channel) {
					forget(n.wants.id, key)
				}
			}
		case noteForget:
			for key := range p.fold.There(n.App) {
				forget(n.App, key)
			}
			for no := range p.fold.Lanes(n.App) {
				body = binary.AppendUvarint(body[:0], no)
				add(hookentries.EntryEnded, true)
			}
		default:
			body = n.AppendBody(body[:0])
			add(n.Kind, n.begins())
		}
	}
	if len(record) > 0 {
		p.log.Append(record)
	}
	for i := range notes {
		if done := notes[i].done; done != nil {
			p.log.Await(done)
		}
	}
}

// begins says whether a change begins with n: what is told of a transition is behind entryCame or
// entryGone, and so is what it costs others.
func (n *note) begins() bool {
	return n.Kind != hookentries.EntryLost &&
		(n.Kind != hookentries.EntryPut || !n.Event.Kind.IsTransition())
}

// --- After a start ---

// forget drops what is left of apps that are not there after a while, or tell nobody.
func (s *Sender) forget() {
	select {
	case <-s.After(startGrace):
	case <-s.stopping:
		return
	}
	s.mu.Lock()
	dropped := int64(0)
	for id, p := range s.past {
		s.noteLocked(hookentries.Entry{Kind: noteForget, App: id})
		for _, l := range p.Lanes {
			dropped += int64(len(l.Items))
		}
		dropped += int64(len(p.There))
	}
	s.past = nil
	s.mu.Unlock()
	if dropped > 0 {
		s.dropped(dropped)
		s.Log.Warn(leftBehind+"their apps have none any more", "records", dropped)
	}
}

// leftBehind begins a line of the log.
const leftBehind = "webhooks of the process before this one were dropped: "

// dropped counts what another process has left and nobody is told of.
func (s *Sender) dropped(n int64) {
	if s.spool != nil {
		s.spool.log.Dropped.Add(n)
	}
}

// openLaneLocked gives a queue its lane: that of another process, with what waits there, or a new
// one. The caller has put q into the app's queues.
func (s *Sender) openLaneLocked(q *queue, address string) {
	if s.closed {
		return
	}
	hash := hookentries.HashOf(address)
	if p := s.past[q.app.id]; p != nil && p.Lanes[hash] != nil {
		l := p.Lanes[hash]
		delete(p.Lanes, hash)
		q.lane, q.number, q.begun = l.Number, l.Last, l.Batch
		for _, it := range l.Items {
			of := thingOf(&it.Event)
			if it.Number <= l.Batch.Last { // that batch may have arrived, and stays as it is
				of = thing{}
			}
			s.pushLocked(q, item{it, costOf(&it.Event)}, of)
		}
		return
	}
	s.lanes++
	q.lane = s.lanes
	s.noteLaneLocked(q.app.id, q.lane, address)
}

// noteLaneLocked notes whose lane that with a number is from now on.
func (s *Sender) noteLaneLocked(app string, number uint64, address string) {
	s.noteLocked(hookentries.Entry{Kind: hookentries.EntryLane, App: app, Lane: number,
		Hash: hookentries.HashOf(address), Place: placeOf(address)})
}

// returnLocked is called when an app was configured. What was there at the end of another process
// has gone with it, and is told if it is not back soon. said writes what is lost into the log.
func (s *Sender) returnLocked(a *App, set *settings) (said []func()) {
	if s.closed {
		return nil
	}
	p := s.past[a.id]
	if p != nil && len(set.Hooks) == 0 { // an app gets its hooks after it is made; see forget
		return nil
	}
	s.noteAllLocked(note{Entry: hookentries.Entry{Kind: noteWants}, wants: a})
	if p == nil {
		return nil
	}
	delete(s.past, a.id)
	for _, l := range p.Lanes { // of URLs that are configured no more
		n := len(l.Items)
		a.tallyLocked(l.Place).Lose(int(unconfigured), n)
		s.dropped(int64(n))
		s.noteLocked(hookentries.Entry{Kind: hookentries.EntryEnded, Lane: l.Number})
		if n > 0 {
			said = append(said, func() {
				s.Log.Warn(leftBehind+"their URL is configured no more; "+
					"the receiver's idea of who is where may be wrong", "app", show.Text(a.id),
					"to", show.Text(l.Place), "events", n)
			})
		}
	}
	due := s.started.Add(set.Grace + startGrace)
	for _, e := range p.There {
		if !a.hears(e.Kind.Pair(), e.Channel) { // noteWants forgets it
			s.dropped(1)
			continue
		}
		a.awaitLocked(&a.missing, &e, due)
	}
	if a.missing.Len() > 0 {
		s.workers.Go(func() { s.waitMissing(a, due) })
	}
	return said
}

// waitMissing tells what is not back when it is due, and not faster than it is delivered.
func (s *Sender) waitMissing(a *App, due time.Time) {
	for more, pause := true, due.Sub(s.Now()); more; {
		select {
		case <-s.After(pause):
		case <-s.stopping:
			return
		}
		more, pause = s.tellMissing(a)
	}
}

// tellMissing tells some of what is not back, and says whether and when to go on.
func (s *Sender) tellMissing(a *App) (more bool, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range a.turn() {
		switch {
		case s.held:
			return false, 0
		case a.missing.Len() == 0:
			return false, 0
		case s.events >= maxEvents/2 || s.bytes >= s.QueueBytes/2:
			return true, pacePause
		}
		s.tellFirstLocked(a, &a.missing)
	}
	return true, 0
}
