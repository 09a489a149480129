package fewmap

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// TestModel compares a Map with a Go map, while keys come and go.
func TestModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var m Map[int]
	want := map[string]int{}
	for i := range 20_000 {
		key := strconv.Itoa(random.IntN(4))
		switch random.IntN(3) {
		case 0:
			m.Put(key, i+1)
			want[key] = i + 1
		default:
			m.Delete(key)
			delete(want, key)
		}
		got := map[string]int{}
		for key, v := range m.All {
			got[key] = v
		}
		if !maps.Equal(got, want) || m.Len() != len(want) || m.Get(key) != want[key] {
			t.Fatalf("got %v, want %v", got, want)
		}
		if (m.more != nil) != (len(want) > 1) {
			t.Fatalf("a map is made for %d entries", len(want))
		}
	}
}

func TestEdges(t *testing.T) {
	var m Map[int]
	m.Delete("")
	if m.Get("") != 0 || m.Len() != 0 {
		t.Error("an empty key is there")
	}
	for _, key := range []string{"a", "b", "c"} {
		m.Put(key, 1)
	}
	if got := InOrder(m.All); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("got %q", got)
	}
	n := 0
	for range m.All {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d entries were told", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("an empty key was taken")
		}
	}()
	m.Put("", 1)
}
