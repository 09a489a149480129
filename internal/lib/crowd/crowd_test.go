package crowd

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// The crowd against a map.
func TestCrowd(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	shares := map[int]float64{}
	var places [50]int
	c := Crowd[int]{Share: func(x int) float64 { return shares[x] },
		Place: func(x int) *int { return &places[x] }}
	for i := range 20_000 {
		x := rnd.IntN(50)
		if in := rnd.IntN(3+i/5000%2) > 0; in {
			shares[x] = float64(rnd.IntN(1000))
			c.Update(x, true)
		} else {
			delete(shares, x)
			c.Update(x, false)
		}
		if c.Len() != len(shares) {
			t.Fatalf("%d are there, want %d", c.Len(), len(shares))
		}
		if len(shares) == 0 {
			continue
		}
		if got, want := shares[c.First()], slices.Max(slices.Collect(maps.Values(
			shares))); got != want {
			t.Fatalf("the first has %v, want %v", got, want)
		}
	}
	for x := range 50 {
		c.Update(x, true)
	}
	if all := slices.Sorted(c.All()); len(all) != 50 || all[49] != 49 {
		t.Errorf("got %v", all)
	}
	for x := range 50 {
		c.Update(x, false)
	}
	if c.Len() != 0 || places != [50]int{} {
		t.Errorf("%d are left, %v", c.Len(), places)
	}
}
