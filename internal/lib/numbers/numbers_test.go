package numbers

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestList appends numbers, small and large, and reads them back, some before the last is there.
func TestList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for round := range 200 {
		var l List
		var want, walked []uint32
		var c Cursor
		for range random.IntN(300) {
			v := random.Uint32N([]uint32{2, 200, 20000, math.MaxUint32}[round%4])
			if random.IntN(50) == 0 {
				v = math.MaxUint32
			}
			l.Append(v)
			want = append(want, v)
			if random.IntN(3) == 0 {
				if v, ok := l.Next(&c); ok {
					walked = append(walked, v)
				}
			}
		}
		for v, ok := l.Next(&c); ok; v, ok = l.Next(&c) {
			walked = append(walked, v)
		}
		tight := Of(want...)
		for name, got := range map[string][]uint32{"a cursor": walked, "All": slices.Collect(l.All),
			"Of": slices.Collect(tight.All)} {
			if !slices.Equal(got, want) {
				t.Fatalf("%s gives %v, want %v", name, got, want)
			}
		}
		if l.Len() != len(want) || tight.Len() != len(want) {
			t.Fatalf("%d and %d numbers, want %d", l.Len(), tight.Len(), len(want))
		}
		for v := range l.All {
			if v != want[0] {
				t.Fatal("the walk went on after its end")
			}
			break
		}
	}
}

// TestSize checks what lists of numbers that were drawn from so many take.
func TestSize(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for most, per := range map[uint32]float64{60: 1.05, 8000: 2.1, 1000000: 3.1} {
		var all []uint32
		var grown List
		for range 1000 {
			v := random.Uint32N(most)
			grown.Append(v)
			all = append(all, v)
		}
		tight := Of(all...)
		if got := float64(tight.Size()) / 1000; got > per {
			t.Errorf("a number of %d takes %.2f bytes, want %.2f", most, got, per)
		}
		if got := float64(grown.Size()) / 1000; got > 1.3*per {
			t.Errorf("in a list that grows, a number of %d takes %.2f bytes", most, got)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		var c Cursor
		l := Of(1, 2, 3)
		l.Next(&c)
	}); n > 1 {
		t.Errorf("%v allocations, want the list's", n)
	}
}
