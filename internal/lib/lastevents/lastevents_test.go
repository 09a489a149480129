package lastevents

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"
)

// check recomputes everything that is kept twice.
func (s *Store[V]) check(t *testing.T) {
	t.Helper()
	var all [measures]int
	for id, h := range s.apps {
		var own [measures]int
		for e := h.oldest.first; e != nil; e = e.links[inApp].after {
			own[eventCount]++
			own[byteCount] += e.size
			if e.of != h || h.byName[e.channel] != e {
				t.Fatalf("%s: an event is not where it should be", id)
			}
		}
		if own != h.totals || len(h.byName) != own[eventCount] || own[eventCount] == 0 {
			t.Fatalf("%s: counts %v, has %v, %d by name", id, h.totals, own, len(h.byName))
		}
		for m := range s.most {
			all[m] += own[m]
			if h.totals[m] > s.most[m].First().totals[m] {
				t.Fatalf("%s: is not at its place", id)
			}
		}
	}
	n := 0
	for e := s.oldest.first; e != nil; e = e.links[inAll].after {
		n++
	}
	if all != s.totals || n != all[eventCount] || s.most[byteCount].Len() != len(s.apps) {
		t.Fatalf("counts %v, has %v, lists %d", s.totals, all, n)
	}
	if all[eventCount] > s.maxEvents || all[byteCount] > s.maxBytes {
		t.Fatalf("holds %v, over %d events or %d bytes", all, s.maxEvents, s.maxBytes)
	}
}

// plain is the plainest implementation of Store.
type plain struct {
	maxEvents, maxBytes int
	all                 []plainEvent // oldest first
}

type plainEvent struct {
	app, channel string
	v, size      int
	until        time.Time
}

func (p *plain) drop(which func(plainEvent) bool) {
	var kept []plainEvent
	for _, e := range p.all {
		if !which(e) {
			kept = append(kept, e)
		}
	}
	p.all = kept
}

func (p *plain) put(e plainEvent, now time.Time) {
	for len(p.all) > 0 && !now.Before(p.all[0].until) {
		p.all = p.all[1:]
	}
	p.drop(func(o plainEvent) bool { return o.app == e.app && o.channel == e.channel })
	p.all = append(p.all, e)
}

// most is the figure of the app that has most, and that of all apps.
func (p *plain) most(of func(plainEvent) int) (most, total int) {
	byApp := map[string]int{}
	for _, e := range p.all {
		byApp[e.app] += of(e)
		total += of(e)
		most = max(most, byApp[e.app])
	}
	return most, total
}

// held is how many events an app has, and their bytes.
func (s *Store[V]) held(app string) (n, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.apps[app]; h != nil {
		return h.totals[eventCount], h.totals[byteCount]
	}
	return 0, 0
}

// TestModel compares the store with the plain one. Which of several apps that hold as much loses an
// event is open, so the test takes the lost event from the store and judges it.
func TestLastEventsModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	s, p := New[int](50, 5_000_000), &plain{maxEvents: 50, maxBytes: 5_000_000}
	now := time.Unix(0, 0)
	one, size := func(plainEvent) int { return 1 }, func(e plainEvent) int { return e.size }
	for step := range 20_000 {
		now = now.Add(time.Duration(rng.IntN(100)) * time.Millisecond)
		app, channel := strconv.Itoa(rng.IntN(1+rng.IntN(8))), strconv.Itoa(rng.IntN(30))
		switch rng.IntN(10) {
		case 0:
			s.Forget(app, channel)
			p.drop(func(e plainEvent) bool { return e.app == app && e.channel == channel })
		case 1:
			v, ok := s.Get(app, channel, now)
			want, known := 0, false
			for _, e := range p.all {
				if e.app == app && e.channel == channel && now.Before(e.until) {
					want, known = e.v, true
				}
			}
			p.drop(func(e plainEvent) bool {
				return e.app == app && e.channel == channel &&
					!known
			})
			if v != want || ok != known {
				t.Fatalf("step %d: got %d, %v, want %d, %v", step, v, ok, want, known)
			}
		default:
			e := plainEvent{app, channel, step, rng.IntN(300_000),
				now.Add(time.Duration(rng.IntN(5000)) * time.Millisecond)}
			if rng.IntN(200) == 0 {
				e.size = 6_000_000 // more than all may have
			}
			s.Put(app, channel, e.v, e.size, now, e.until)
			p.put(e, now)
			for _, measure := range []struct {
				of  func(plainEvent) int
				max int
			}{{size, p.maxBytes}, {one, p.maxEvents}} {
				for {
					most, total := p.most(measure.of)
					if total <= measure.max {
						break
					}
					// the oldest of an app that has most, and that the store has forgotten
					victim := -1
					for i, e := range p.all {
						h, held := s.apps[e.app], 0
						for _, o := range p.all {
							if o.app == e.app {
								held += measure.of(o)
							}
						}
						kept := h != nil && h.byName[e.channel] != nil &&
							h.byName[e.channel].value == e.v
						first := true
						for _, o := range p.all[:i] {
							first = first && o.app != e.app
						}
						if held == most && first && !kept {
							victim = i
							break
						}
					}
					if victim < 0 {
						t.Fatalf("step %d: what went is not the oldest of the app that has most",
							step)
					}
					p.all = append(p.all[:victim:victim], p.all[victim+1:]...)
				}
			}
		}
		s.check(t)
		if s.totals[eventCount] != len(p.all) {
			t.Fatalf("step %d: %d events, want %d", step, s.totals[eventCount], len(p.all))
		}
	}
}

// An app that floods the store loses its own events.
func TestOneAppCannotPushOutAnother(t *testing.T) {
	s := New[int](65_536, 64<<20)
	now := time.Unix(0, 0)
	for i := range 200 {
		s.Put("a", strconv.Itoa(i), i, 100, now, now.Add(time.Hour))
	}
	for i := range 70_000 {
		s.Put("b", strconv.Itoa(i), i, 9000, now, now.Add(time.Hour))
	}
	n, size := s.held("a")
	others, bytesOfOthers := s.held("b")
	if got, want := fmt.Sprint(n, size, others, bytesOfOthers),
		fmt.Sprint(200, 20_000, (64<<20-20_000)/9000, (64<<20-20_000)/9000*9000); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, ok := s.Get("b", "69999", now); !ok {
		t.Error("the newest event is not there")
	}
	s.Put("b", "69999", 0, 10, now, now.Add(time.Hour))
	s.Put("b", "late", 0, 10, now.Add(time.Hour), now.Add(2*time.Hour)) // the others' time is over
	if n, _ := s.held("b"); n != 1 {
		t.Errorf("%d events, want the last alone", n)
	}
	s.check(t)
}

func BenchmarkPut(b *testing.B) {
	s := New[int](65_536, 64<<20)
	now := time.Unix(0, 0)
	names := make([]string, 1<<17)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	i := 0
	for b.Loop() {
		i++
		s.Put(names[i%1000], names[i%len(names)], i, 1500, now, now.Add(time.Hour))
	}
}

// However much is kept, a record of it is bounded, and nothing is lost.
func TestStateInRecords(t *testing.T) {
	const events, size = 100, 50_000
	now := time.Unix(1000, 0)
	from, to := New[int](events, events*size), New[int](events, events*size)
	for i := range events {
		from.Put("a", strconv.Itoa(i), i, size, now, now.Add(time.Minute))
	}
	for _, record := range from.State(now, func(i int) []byte {
		return slices.Repeat([]byte{byte(i)}, size)
	}) {
		if len(record) > recordBytes+2*size {
			t.Errorf("a record of %d bytes", len(record))
		}
		if !to.SetState(record, now, func(_, _ string, b []byte) (int, int, bool) {
			return int(b[0]), len(b), true
		}) {
			t.Error("a record makes no sense")
		}
	}
	for i := range events {
		if got, ok := to.Get("a", strconv.Itoa(i), now); !ok || got != i {
			t.Errorf("%d: got %d, %v", i, got, ok)
		}
	}
	to.check(t)
}

// FuzzState checks that what is taken over is sound, and goes on as it is.
func FuzzState(f *testing.F) {
	now := time.Unix(1000, 0)
	text := func(v string) []byte { return []byte(v) }
	take := func(s *Store[string], b []byte) bool {
		return s.SetState(b, now, func(_, channel string, b []byte) (string, int, bool) {
			return string(b), len(b), channel != "no"
		})
	}
	from := New[string](50, 1000)
	for i := range 4 {
		channel := strconv.Itoa(i)
		from.Put("a", channel, "last", 4, now, now.Add(time.Duration(i)*time.Minute))
	}
	f.Add(slices.Concat(from.State(now, text)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, again := New[string](50, 1000), New[string](50, 1000)
		ok := take(s, b)
		if s.check(t); !ok {
			return
		}
		state := s.State(now, text)
		for _, record := range state {
			ok = ok && take(again, record)
		}
		if got := again.State(now, text); !ok || !reflect.DeepEqual(got, state) {
			t.Fatalf("%q became %q", state, got)
		}
	})
}
