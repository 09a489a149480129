package pairs

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// thing is an item of the plain model.
type thing struct{ name, number, pair int }

// The queue against a slice: neighbours of a name are a pair by their remainders.
func TestQueue(t *testing.T) {
	taken := map[int]int{}
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		pair := func(a, b int) int { return []int{0, 2, 1, 0, 2}[(a+2*b)%5] }
		q := Queue[int, int]{Pair: func(older, newer *int) int { return pair(*older, *newer) }}
		var plain []thing
		births := 0
		// older finds the neighbour of an item.
		older := func(i int) int {
			for k := i - 1; k >= 0 && plain[i].name != 0; k-- {
				if plain[k].name == plain[i].name {
					return k
				}
			}
			return -1
		}
		// judge notes which items are the newer ones of pairs, and since when.
		was := map[int]int{}
		judge := func() {
			for i := range plain {
				k := older(i)
				if k >= 0 && plain[k].number != was[plain[i].number] {
					births++
					plain[i].pair = births
				}
				if k < 0 || pair(plain[k].number, plain[i].number) == 0 {
					plain[i].pair = 0
				}
				if k >= 0 {
					was[plain[i].number] = plain[k].number
				}
			}
		}
		remove := func(number int) {
			plain = slices.DeleteFunc(plain, func(x thing) bool { return x.number == number })
			judge()
		}
		for i := 1; i < 3000; i++ {
			first := thing{}
			for _, x := range plain {
				if x.pair > 0 && (first.pair == 0 || x.pair < first.pair) {
					first = x
				}
			}
			if got := q.HasPair(); got != (first.pair > 0) {
				t.Fatalf("seed %d: a pair: %v; %v", seed, got, plain)
			}
			switch k := rnd.IntN(6 + i/500%3); {
			case k < 4:
				name := rnd.IntN(10)
				q.Push(name, i)
				plain = append(plain, thing{name: name, number: i})
				judge()
			case k < 6 && first.pair > 0:
				at := slices.Index(plain, first)
				want := plain[older(at)].number
				a, b, gone := q.TakePair()
				taken[gone]++
				if a != want || b != first.number || gone != pair(a, b) {
					t.Fatalf("seed %d: got %d, %d, %d, want %d, %d", seed, a, b, gone, want,
						first.number)
				}
				if remove(a); gone == 2 {
					remove(b)
				}
			case len(plain) > 0:
				if got := q.Pop(); got != plain[0].number {
					t.Fatalf("seed %d: got %d, want %d", seed, got, plain[0].number)
				}
				remove(plain[0].number)
			}
			if head := q.Head(); q.N != len(plain) || (head == nil) != (q.N == 0) ||
				head != nil && *head != plain[0].number {
				t.Fatalf("seed %d: %d items, want %d", seed, q.N, len(plain))
			}
			var all, want []int
			for x := range q.All() {
				all = append(all, *x)
			}
			for _, x := range plain {
				want = append(want, x.number)
			}
			if i%20 == 0 && !slices.Equal(all, want) {
				t.Fatalf("seed %d: got %v, want %v", seed, all, want)
			}
		}
		for q.N > 0 {
			q.Pop()
		}
		if len(q.newest) != 0 || q.HasPair() || q.Head() != nil {
			t.Errorf("seed %d: something is left", seed)
		}
		for n := q.spare; n != nil; n = n.older {
			q.spares--
			if left := *n; left != (node[int, int]{older: n.older}) {
				t.Errorf("seed %d: a spare node has %+v", seed, left)
			}
		}
		if q.spares != 0 {
			t.Errorf("seed %d: the spare nodes are counted wrong by %d", seed, q.spares)
		}
	}
	if taken[1] < 100 || taken[2] < 100 {
		t.Errorf("taken %v", taken)
	}
}

// Nothing is a pair without names, or if nobody says so, and a loop over all may end early.
func TestPlain(t *testing.T) {
	named, unnamed := Queue[string, int]{}, Queue[string, int]{Pair: func(*int, *int) int {
		return 2
	}}
	for i := range 5 {
		named.Push("x", i)
		unnamed.Push("", i)
	}
	if named.HasPair() || unnamed.HasPair() || unnamed.newest != nil {
		t.Error("a pair")
	}
	for x := range named.All() {
		if *x == 2 {
			break
		}
	}
	for i := range 5 {
		if a, b := named.Pop(), unnamed.Pop(); a != i || b != i {
			t.Errorf("got %d and %d, want %d", a, b, i)
		}
	}
}

// An empty queue keeps room for a few items, not that of many.
func TestRoom(t *testing.T) {
	q := Queue[int, int]{}
	fill := func(n int) func() {
		return func() {
			for i := range n {
				q.Push(i+1, i)
			}
			for range n {
				q.Pop()
			}
		}
	}
	fill(maxSpares)()
	if n := testing.AllocsPerRun(10, fill(maxSpares)); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if fill(fewNames)(); q.newest == nil || q.spares != maxSpares {
		t.Errorf("the names are gone, or there are %d spare nodes", q.spares)
	}
	if fill(fewNames + 1)(); q.newest != nil || q.named != 0 || q.spares != maxSpares {
		t.Errorf("%d names are left, and %d spare nodes", q.named, q.spares)
	}
}
