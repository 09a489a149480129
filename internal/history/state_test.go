package history

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"reverb/internal/protocol"
)

func message(e *event) []byte { return fmt.Appendf(nil, "%d %s", e.size, e.at) }

func read(_ string, b []byte, except protocol.SocketID) *event {
	e := &event{except: except}
	fmt.Sscan(string(b), &e.size, &e.at)
	e.size = min(max(e.size, 0), 1<<20)
	return e
}

// What another process takes over answers as before, and ends at the same time.
func TestState(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 3))
		limits := Limits{Events: 20, Bytes: 200_000}
		r, next := New[*event](limits), New[*event](limits)
		apps := map[string]*App[*event]{"a": newTestApp(r, "a"), "b": newTestApp(r, "b")}
		heirs := map[string]*App[*event]{"a": newTestApp(next, "a")} // b is configured no more
		now := start
		asks := map[string]*asked{}
		for range 300 {
			now = now.Add(time.Duration(random.IntN(100)) * time.Millisecond)
			a, channel := apps[string(rune('a'+random.IntN(2)))], fmt.Sprint("c", random.IntN(9))
			switch random.IntN(8) {
			case 0:
				m := a.Mark(channel, now)
				if answer, _ := a.resume(channel, &asked{Mark: m}, now); a == apps["a"] {
					asks[channel] = &asked{Epoch: answer.Epoch, Offset: answer.Offset}
				}
			case 1:
				a.Vacant(channel, now)
			default:
				a.Append(channel, &event{size: random.IntN(9000),
					except: protocol.SocketIDOf(uint64(random.IntN(3)))}, true, now)
			}
		}
		records := 0
		err := r.State(now, message, func(b []byte) error {
			records++
			if !next.SetState(b, now, read) {
				t.Fatal("a State makes no sense")
			}
			return nil
		})
		if err != nil || records == 0 {
			t.Fatal(records, err)
		}
		whole(t, next, heirs["a"])
		a, b := apps["a"], heirs["a"]
		if a.bytes != b.bytes || len(a.rings) != len(b.rings) {
			t.Fatalf("seed %d: %d bytes of %d, %d rings of %d", seed, b.bytes, a.bytes,
				len(b.rings), len(a.rings))
		}
		for x, y := a.oldest, b.oldest; x != nil; x, y = x.newer, y.newer {
			g, h := x.ring, y.ring
			if x.at != y.at || x.number != y.number || g.channel != h.channel ||
				g.last != h.last || g.epoch != h.epoch || g.occupied != h.occupied ||
				x.event != nil && (x.event.at != y.event.at || x.event.except != y.event.except) {
				t.Fatalf("seed %d: %+v has become %+v", seed, x, y)
			}
		}
		for channel, ask := range asks {
			if a.rings[channel] == nil {
				continue // it was pushed out: a new one has an epoch of its own
			}
			one, two := *ask, *ask
			one.Mark, two.Mark = a.Mark(channel, now), b.Mark(channel, now)
			was, v := a.resume(channel, &one, now)
			is, w := b.resume(channel, &two, now)
			if was != is || (v == nil) != (w == nil) || v != nil && len(v.left) != len(w.left) {
				t.Fatalf("seed %d: %+v has become %+v", seed, was, is)
			}
		}
		bad := errors.New("no")
		if r.State(now, message, func([]byte) error { return bad }) != bad {
			t.Error("an error of send is lost")
		}
	}
}

// A state of anybody harms nothing.
func FuzzState(f *testing.F) {
	r := New[*event](Limits{Events: 5, Bytes: 100_000})
	apps := map[string]*App[*event]{"a": newTestApp(r, "a")}
	for i := range 7 {
		apps["a"].Append("x", &event{size: i}, true, start)
		apps["a"].Mark("y", start)
	}
	r.State(start, message, func(b []byte) error {
		f.Add(bytes.Clone(b))
		return nil
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		next := New[*event](Limits{Events: 5, Bytes: 100_000})
		a := newTestApp(next, "a")
		next.SetState(b, start, read)
		bound(t, next, a)
		a.Append("x", &event{size: 10}, true, start)
		next.expire(start.Add(time.Hour))
		bound(t, next, a)
	})
}

// bound checks the counts and the bounds alone: times of a State may be in any order.
func bound(t *testing.T, r *Rings[*event], a *App[*event]) {
	bytes := 0
	for name, g := range a.rings {
		bytes += ringBytes + 2*len(name)
		n := 0
		for e := g.first; e != nil; e = e.next {
			n++
			bytes += entryBytes + e.event.size
		}
		if n != g.count || n > r.limits.Events {
			t.Fatalf("%d events, counted %d", n, g.count)
		}
	}
	if bytes != r.bytes || int64(bytes) > r.limits.Bytes {
		t.Fatalf("%d bytes, counted %d", bytes, r.bytes)
	}
}

// Counters go on in another process.
func TestFigures(t *testing.T) {
	var was, is Figures
	for i, n := range was.all() {
		n.Add(uint64(i + 200))
	}
	is.Recovered.Add(1)
	if !is.SetState(was.State()) || is.Recovered.Load() != 201 || is.Not()["crowded"] != 205 {
		t.Errorf("%d recovered, %v", is.Recovered.Load(), is.Not())
	}
	if b := was.State(); is.SetState(b[:len(b)-1]) {
		t.Error("half a number is taken")
	}
}
