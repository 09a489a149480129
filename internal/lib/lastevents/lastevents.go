// Package lastevents keeps the last event of each cache channel. An event is a V, and the package
// never looks into it. It reads no clock: time is a parameter.
package lastevents

import (
	"encoding/binary"
	"sync"
	"time"

	"reverb/internal/lib/heaviest"
	"reverb/internal/lib/recordlog"
)

// Store keeps the last event, a V, of each of many channels of many apps, within bounds. An
// app that fills the store pushes out its own events, not those of others. Any goroutine may call
// the methods. Each holds the lock for a few look-ups, and for one more for every event that it
// removes.
type Store[V any] struct {
	maxEvents, maxBytes int

	mu     sync.Mutex
	apps   map[string]*holder[V]
	most   [measures]heaviest.Heap[*holder[V]] // the apps, by each measure
	oldest list[V]                             // all events
	totals [measures]int
}

// The measures of an app, and of all apps together.
const (
	eventCount = iota
	byteCount
	measures
)

// holder is an app that has events.
type holder[V any] struct {
	id     string
	byName map[string]*entry[V] // by channel
	oldest list[V]
	totals [measures]int
	rank   [measures]int // its places in Store.most
}

// entry is one event. It is in two lists: that of its app, and that of all apps.
type entry[V any] struct {
	of      *holder[V]
	channel string
	value   V
	size    int
	until   time.Time
	links   [2]link[V]
}

type link[V any] struct{ before, after *entry[V] }

// The lists in which an entry is.
const (
	inApp = iota
	inAll
)

// list holds entries; the oldest is the first.
type list[V any] struct{ first, last *entry[V] }

func (l *list[V]) push(e *entry[V], which int) {
	if e.links[which].before = l.last; l.last == nil {
		l.first = e
	} else {
		l.last.links[which].after = e
	}
	l.last = e
}

func (l *list[V]) remove(e *entry[V], which int) {
	k := e.links[which]
	if k.before == nil {
		l.first = k.after
	} else {
		k.before.links[which].after = k.after
	}
	if k.after == nil {
		l.last = k.before
	} else {
		k.after.links[which].before = k.before
	}
}

// New makes a store of at most maxEvents events, which have at most maxBytes bytes
// together.
func New[V any](maxEvents, maxBytes int) *Store[V] {
	s := &Store[V]{maxEvents: maxEvents, maxBytes: maxBytes, apps: make(map[string]*holder[V])}
	for m := range s.most {
		s.most[m].Weight = func(h *holder[V]) int { return h.totals[m] }
		s.most[m].Place = func(h *holder[V]) *int { return &h.rank[m] }
	}
	return s
}

// Put keeps v, of size bytes, as the last event of a channel until the given time. While there are
// too many events or bytes, the app that has most of them loses its oldest event; that may be v.
func (s *Store[V]) Put(app, channel string, v V, size int, now, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.oldest.first; e != nil && !now.Before(e.until); e = s.oldest.first {
		s.remove(e)
	}
	h := s.apps[app]
	if h == nil {
		h = &holder[V]{id: app, byName: make(map[string]*entry[V])}
		s.apps[app] = h
		for m := range s.most {
			s.most[m].Add(h)
		}
	} else if old := h.byName[channel]; old != nil {
		s.unlink(old)
	}
	e := &entry[V]{of: h, channel: channel, value: v, size: size, until: until}
	h.byName[channel] = e
	h.oldest.push(e, inApp)
	s.oldest.push(e, inAll)
	s.count(h, 1, size)
	for s.totals[byteCount] > s.maxBytes {
		s.remove(s.most[byteCount].First().oldest.first)
	}
	for s.totals[eventCount] > s.maxEvents {
		s.remove(s.most[eventCount].First().oldest.first)
	}
}

// Get returns the last event of a channel, if there is one.
func (s *Store[V]) Get(app, channel string, now time.Time) (v V, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.apps[app]
	if h == nil {
		return v, false
	}
	e := h.byName[channel]
	if e == nil {
		return v, false
	}
	if !now.Before(e.until) {
		s.remove(e)
		return v, false
	}
	return e.value, true
}

// recordBytes is about the size of a record of State. Larger: the other process takes more memory
// at once. Smaller: more records.
const recordBytes = 256 << 10

// State has what is kept at the time now, the oldest first, for SetState in another process, in
// records. payload is an event as bytes.
func (s *Store[V]) State(now time.Time, payload func(V) []byte) (records [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b []byte
	for e := s.oldest.first; e != nil; e = e.links[inAll].after {
		if left := e.until.Sub(now); left > 0 {
			b = recordlog.AppendField(recordlog.AppendField(b, e.of.id), e.channel)
			b = recordlog.AppendField(binary.AppendUvarint(b, uint64(left)), payload(e.value))
		}
		if len(b) >= recordBytes {
			records, b = append(records, b), nil
		}
	}
	if len(b) > 0 {
		records = append(records, b)
	}
	return records
}

// SetState takes a record of State over. event makes an event and says its size; !keep: it is not
// wanted. ok is false if the record makes no sense.
func (s *Store[V]) SetState(b []byte, now time.Time,
	event func(app, channel string, payload []byte) (v V, size int, keep bool)) (ok bool) {
	f := recordlog.Fields{B: b}
	for len(f.B) > 0 {
		app, channel, left := f.Text(), f.Text(), time.Duration(f.Number())
		payload := f.Bytes(f.Number())
		if f.Bad || left < 0 {
			return false
		}
		if v, size, keep := event(app, channel, payload); keep {
			s.Put(app, channel, v, size, now, now.Add(left))
		}
	}
	return !f.Bad
}

// Forget forgets the last event of a channel.
func (s *Store[V]) Forget(app, channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.apps[app]; h != nil && h.byName[channel] != nil {
		s.remove(h.byName[channel])
	}
}

// count adds n events and size bytes to what h and all apps hold.
func (s *Store[V]) count(h *holder[V], n, size int) {
	for m, d := range [measures]int{n, size} {
		h.totals[m] += d
		s.totals[m] += d
		s.most[m].Moved(h)
	}
}

// unlink takes an event out of both lists and the counts; its app stays.
func (s *Store[V]) unlink(e *entry[V]) {
	h := e.of
	delete(h.byName, e.channel)
	h.oldest.remove(e, inApp)
	s.oldest.remove(e, inAll)
	s.count(h, -1, -e.size)
}

// remove is unlink; it also removes the app if that was its last event.
func (s *Store[V]) remove(e *entry[V]) {
	s.unlink(e)
	h := e.of
	if len(h.byName) > 0 {
		return
	}
	delete(s.apps, h.id)
	for m := range s.most {
		s.most[m].Remove(h)
	}
}
