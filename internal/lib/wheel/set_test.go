package wheel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// thing is an item of a plain model.
type thing struct {
	group, name string
	due         time.Time
	value       int
}

// The set against a slice, which has everything in the order in which it came.
func TestSet(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var s Set[int]
		var plain []thing
		begin := time.Unix(1_800_000_000, 0)
		expect := func(how string, value int, ok bool, i int) {
			t.Helper()
			if ok != (i >= 0) || ok && value != plain[i].value {
				t.Fatalf("seed %d: %s: got %d, %v; place %d of %v", seed, how, value, ok, i, plain)
			}
			if ok {
				plain = slices.Delete(plain, i, i+1)
			}
		}
		first := func() int {
			if len(plain) == 0 {
				return -1
			}
			return slices.IndexFunc(plain, func(p thing) bool {
				return p.due.Equal(slices.MinFunc(plain, func(a, b thing) int {
					return a.due.Compare(b.due)
				}).due)
			})
		}
		for i := range 3000 {
			group, name := fmt.Sprint(rnd.IntN(3)), fmt.Sprint(rnd.IntN(20))
			named := func(p thing) bool { return p.group == group && p.name == name }
			switch rnd.IntN(3 + i/600%3) {
			case 0, 1:
				due := begin.Add(time.Duration(rnd.IntN(50)) * time.Second)
				plain = append(slices.DeleteFunc(plain, named), thing{group, name, due, i})
				if got := s.Put(group, name, due, i); got != (first() == len(plain)-1) {
					t.Fatalf("seed %d: first: %v", seed, got)
				}
			case 2:
				value, ok := s.Take(group, name)
				expect("Take", value, ok, slices.IndexFunc(plain, named))
			case 3:
				value, ok := s.TakeOf(group)
				expect("TakeOf", value, ok, slices.IndexFunc(plain, func(p thing) bool {
					return p.group == group
				}))
			case 4:
				value, ok := s.TakeFirst()
				expect("TakeFirst", value, ok, first())
			}
			due, ok := s.Due()
			if s.Len() != len(plain) || ok != (len(plain) > 0) || ok && due != plain[first()].due {
				t.Fatalf("seed %d: %d things, want %d; %v, %v", seed, s.Len(), len(plain), due, ok)
			}
		}
		var order []int
		for due, value := range s.All() {
			if order = append(order, value); len(order) > len(plain) || due.Before(begin) {
				t.Fatalf("seed %d: All has %v", seed, order)
			}
		}
		for len(plain) > 0 {
			value, ok := s.TakeFirst()
			if order[0] != value {
				t.Fatalf("seed %d: All has %d, want %d", seed, order[0], value)
			}
			order = order[1:]
			expect("TakeFirst", value, ok, first())
		}
		if _, ok := s.TakeFirst(); ok || s.all != nil || s.groups != nil || s.due != nil {
			t.Errorf("seed %d: something is left", seed)
		}
	}
}
