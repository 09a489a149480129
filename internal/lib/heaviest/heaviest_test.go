package heaviest

import (
	"math/rand/v2"
	"testing"
)

type thing struct{ weight, place int }

// The first is the heaviest after any changes, and each thing knows its place.
func TestHeap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	h := Heap[*thing]{Weight: func(v *thing) int { return v.weight },
		Place: func(v *thing) *int { return &v.place }}
	var all []*thing
	for step := range 20_000 {
		switch k := random.IntN(4); {
		case k == 0 || len(all) == 0:
			v := &thing{weight: random.IntN(100)}
			all = append(all, v)
			h.Add(v)
		case k == 1:
			i := random.IntN(len(all))
			h.Remove(all[i])
			all = append(all[:i], all[i+1:]...)
		default:
			v := all[random.IntN(len(all))]
			v.weight = random.IntN(100)
			h.Moved(v)
		}
		most := 0
		for _, v := range all {
			most = max(most, v.weight)
			if h.items[v.place] != v {
				t.Fatalf("step %d: a thing is not at its place %d", step, v.place)
			}
		}
		if h.Len() != len(all) || len(all) > 0 && h.First().weight != most {
			t.Fatalf("step %d: %d things, the first weighs %d; want %d, %d", step, h.Len(),
				h.First().weight, len(all), most)
		}
	}
}
