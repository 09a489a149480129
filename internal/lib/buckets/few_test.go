package buckets

import (
	"math/rand/v2"
	"testing"
)

// TestFewModel compares sets with maps while items come and go: most stay few, some become
// many.
func TestFewModel(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var f Few[item, *item]
		model := map[*item]bool{}
		var list []*item
		most, limit := 0, 1+rng.IntN(30)
		for step := range 500 {
			if len(list) == 0 || len(list) < limit && rng.IntN(2) == 0 {
				it := &item{hash: rng.Uint32() % 64}
				f.Add(it)
				model[it], list = true, append(list, it)
			} else {
				k := rng.IntN(len(list))
				f.Remove(list[k])
				delete(model, list[k])
				if list[k].next != nil {
					t.Fatalf("seed %d, step %d: an item that was removed has a next one",
						seed, step)
				}
				list[k] = list[len(list)-1]
				list = list[:len(list)-1]
			}
			most = max(most, len(list))
			if f.Len() != len(model) || f.Many() != (most > fewItems) {
				t.Fatalf("seed %d, step %d: %d items, many: %v; want %d, there were %d", seed, step,
					f.Len(), f.Many(), len(model), most)
			}
			seen := map[*item]bool{}
			for it := range f.All {
				seen[it] = true
			}
			for it := range model {
				found := f.First(it.hash)
				for found != it && found != nil {
					found = found.next
				}
				if found == nil || !seen[it] {
					t.Fatalf("seed %d, step %d: an item is not found, or not listed", seed, step)
				}
			}
			if len(seen) != len(model) {
				t.Fatalf("seed %d, step %d: %d items are listed, want %d", seed, step, len(seen),
					len(model))
			}
			for range f.All {
				break
			}
		}
	}
}
