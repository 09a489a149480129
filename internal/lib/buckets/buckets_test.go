package buckets

import (
	"math/rand/v2"
	"testing"
)

type item struct {
	next  *item
	hash  uint32
	steps *int // counts the calls of Next; nil: nothing does
}

func (i *item) Hash() uint32 { return i.hash }

func (i *item) Next() **item {
	if i.steps != nil {
		*i.steps++
	}
	return &i.next
}

func find(s *Set[item, *item], want *item) bool {
	for i := s.First(want.hash); i != nil; i = i.next {
		if i == want {
			return true
		}
	}
	return false
}

// TestModel compares a set with a map while it grows and shrinks. Some hashes are the same.
func TestModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s Set[item, *item]
	model := map[*item]bool{}
	var list, gone []*item
	for step := range 60_000 {
		growing := step/10_000%2 == 0
		if len(list) == 0 || rng.IntN(10) < map[bool]int{true: 7, false: 3}[growing] {
			it := &item{hash: rng.Uint32()}
			if rng.IntN(4) == 0 {
				it.hash %= 8
			}
			s.Add(it)
			model[it], list = true, append(list, it)
		} else {
			k := rng.IntN(len(list))
			it := list[k]
			list[k] = list[len(list)-1]
			list = list[:len(list)-1]
			s.Remove(it)
			delete(model, it)
			gone = append(gone, it)
		}
		if s.Len() != len(model) {
			t.Fatalf("step %d: %d items, want %d", step, s.Len(), len(model))
		}
		if len(list) > 0 && !find(&s, list[rng.IntN(len(list))]) {
			t.Fatalf("step %d: an item is not found", step)
		}
		if len(gone) > 0 && find(&s, gone[rng.IntN(len(gone))]) {
			t.Fatalf("step %d: an item that was removed is found", step)
		}
		if n := len(s.heads); 4*n > 3*s.n+8 || s.n > perBucket*n {
			t.Fatalf("step %d: %d buckets for %d items", step, n, s.n)
		}
		if step%1000 == 0 {
			seen := 0
			s.All(func(it *item) bool {
				if seen++; !model[it] {
					t.Fatalf("step %d: an item that is not in the set is listed", step)
				}
				return true
			})
			if seen != len(model) {
				t.Fatalf("step %d: %d items are listed, want %d", step, seen, len(model))
			}
		}
	}
	for it := range model {
		s.Remove(it)
	}
	if s.Len() != 0 || cap(s.heads) > 64 {
		t.Errorf("%d items, room for %d buckets are left", s.Len(), cap(s.heads))
	}
	n := 0
	s.Add(&item{})
	s.Add(&item{hash: 1})
	s.All(func(*item) bool { n++; return false })
	if n != 1 {
		t.Errorf("a walk that was ended has gone on: %d items", n)
	}
}

// No call walks through many items, however many there are.
func TestConstantTime(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var s Few[item, *item]
	var all []*item
	steps, most := 0, 0
	call := func(f func(it *item), it *item) {
		before := steps
		f(it)
		most = max(most, steps-before)
	}
	for range 100_000 {
		all = append(all, &item{hash: rng.Uint32(), steps: &steps})
		call(s.Add, all[len(all)-1])
	}
	for _, it := range all { // the oldest is the first
		call(s.Remove, it)
	}
	if most > 200 || steps > 16*len(all) {
		t.Errorf("a call took %d steps, all took %d", most, steps)
	}
}
