package fifo

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The Queue against a slice.
func TestQueue(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var f Queue[int]
	var plain []int
	for i := range 5000 {
		if rnd.IntN(200)+i/50%100 < 130 {
			f.Push(i)
			plain = append(plain, i)
		} else if len(plain) > 0 {
			if got := f.Pop(); got != plain[0] {
				t.Fatalf("got %d, want %d", got, plain[0])
			}
			plain = slices.Delete(plain, 0, 1)
		}
		if head := f.Head(); f.N != len(plain) || (head == nil) != (f.N == 0) ||
			head != nil && *head != plain[0] {
			t.Fatalf("%d items, want %d", f.N, len(plain))
		}
		if i%100 == 0 {
			var all []int
			for x := range f.All() {
				all = append(all, *x)
			}
			if !slices.Equal(all, plain) {
				t.Fatalf("got %v, want %v", all, plain)
			}
		}
	}
}
