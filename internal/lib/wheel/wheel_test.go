package wheel

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestDeadlines(t *testing.T) {
	w := New(1000)
	if _, ok := w.Next(); ok {
		t.Fatal("Next on an empty wheel reports a deadline")
	}
	w.Set(1, 1005)
	w.Set(2, 1005+slots) // same list, a round later
	w.Set(3, 900)        // passed: due at once
	w.Set(4, 1004)
	w.Set(4, 1300) // moved
	w.Set(5, 1003)
	w.Remove(5)
	w.Remove(99)
	if d, ok := w.Next(); !ok || d != 1 {
		t.Fatalf("Next = %d, %v; want 1, true", d, ok)
	}
	var got []int
	at := func(now uint32, want ...int) {
		t.Helper()
		got = got[:0]
		w.Advance(now, func(id int) { got = append(got, id) })
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("at %d: got %v, want %v", now, got, want)
		}
	}
	at(1001, 3)
	at(1004)
	at(1005, 1)
	at(1260)
	at(1261, 2)
	at(5000, 4)
	if w.count != 0 {
		t.Fatalf("%d deadlines left, want 0", w.count)
	}
}

func TestDueMaySetAndRemoveOthers(t *testing.T) {
	w := New(0)
	for id := range 10 {
		w.Set(id, 5)
	}
	calls := 0
	w.Advance(5, func(id int) {
		calls++
		for other := range 10 {
			w.Remove(other)
		}
		w.Set(id, 6)
	})
	if calls != 1 || w.count != 1 { // the first one cancelled all others
		t.Fatalf("calls %d, left %d; want 1, 1", calls, w.count)
	}
}

// Against the plain version: a map that is searched.
func TestAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	now := ^uint32(0) - 500 // the counter wraps on the way
	w, plain := New(now), map[int]uint32{}
	for range 20000 {
		id := rnd.IntN(50)
		switch rnd.IntN(4) {
		case 0, 1:
			due := now + 1 + uint32(rnd.IntN(3*slots))
			w.Set(id, due)
			plain[id] = due
		case 2:
			w.Remove(id)
			delete(plain, id)
		case 3:
			now += uint32(rnd.IntN(9))
			var want, got []int
			for id, due := range plain {
				if int32(due-now) <= 0 {
					want = append(want, id)
					delete(plain, id)
				}
			}
			w.Advance(now, func(id int) { got = append(got, id) })
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("at %d: got %v, want %v", now, got, want)
			}
		}
	}
}
