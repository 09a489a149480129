package fairpool

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestOneOwnerGetsHalf(t *testing.T) {
	p := New[string](100)
	woken := 0
	claims := make([]Claim[string], 20)
	got := 0
	for i := range claims {
		claims[i].Ready = func() { woken++ }
		if p.Take("a", 10, &claims[i]) {
			got++
		}
	}
	if got != 5 || p.Waiting() != 15 || p.Used() != 50 {
		t.Errorf("got %d claims in, %d waiting, %d bytes; want 5, 15, 50", got, p.Waiting(),
			p.Used())
	}
	var b Claim[string]
	if !p.Take("b", 25, &b) {
		t.Error("a second owner found no room")
	}
	p.GiveUp(&b)
	p.GiveUp(&claims[0])
	if woken != 1 || p.Used() != 50 {
		t.Errorf("woke %d, %d bytes; want 1, 50", woken, p.Used())
	}
}

func TestTheFirstPieceMayBeLargerThanThePool(t *testing.T) {
	p := New[string](100)
	var a, b, c Claim[string]
	woken := 0
	b.Ready = func() { woken++ }
	if !p.Take("a", 1000, &a) || p.Take("a", 1, &b) || !p.Take("c", 1000, &c) {
		t.Fatal("each owner has one piece, whatever its size")
	}
	p.Keep(&a, 900)
	if woken != 0 {
		t.Error("woke a claim that does not fit")
	}
	if p.Give("a", 900); woken != 1 {
		t.Error("did not wake the claim whose owner holds nothing any more")
	}
}

func TestOwnersTakeTurns(t *testing.T) {
	p := New[string](100)
	var order []string
	hold := map[string]*Claim[string]{}
	for _, k := range []string{"a", "b"} {
		c := new(Claim[string])
		if !p.Take(k, 60, c) {
			t.Fatal("no room for the first piece")
		}
		hold[k] = c
	}
	for i := range 3 {
		for _, k := range []string{"a", "a", "b"} { // a asks twice as often
			c := &Claim[string]{Ready: func() { order = append(order, k) }}
			if p.Take(k, 10, c) {
				t.Fatal("room in a full pool", i)
			}
		}
	}
	p.GiveUp(hold["a"])
	p.GiveUp(hold["b"])
	// While b holds its first piece, a goes alone.
	if want := []string{"a", "a", "b", "a", "b", "a", "b"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

// TestModel plays random moves against a plain account of what each owner holds and waits for.
func TestModel(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		const size = 1000
		p := New[int](size)
		type piece struct {
			claim  Claim[int]
			key    int
			n      int64
			state  int // 0 waits, 1 has, 2 kept, 3 over
			number int
		}
		var all []*piece
		used := map[int]int64{}
		largest := int64(0)
		check := func() {
			sum, waits, owners := int64(0), 0, map[int]bool{}
			for _, x := range all {
				if x.state == 0 {
					waits++
				}
				if x.state < 3 {
					owners[x.key] = true
				}
			}
			for k, n := range used {
				sum += n
				if n > 0 && !owners[k] {
					t.Fatalf("seed %d: %d bytes of nobody", seed, n)
				}
			}
			if p.Used() != sum || p.Waiting() != waits || len(p.owners) > len(owners) {
				t.Fatalf("seed %d: used %d, waiting %d, owners %d; want %d, %d, %d", seed, p.Used(),
					p.Waiting(), len(p.owners), sum, waits, len(owners))
			}
			if sum > size+5*largest {
				t.Fatalf("seed %d: %d bytes held", seed, sum)
			}
			first := map[int]bool{}
			for _, x := range all {
				if x.state == 0 && !first[x.key] {
					first[x.key] = true
					if used[x.key] == 0 || used[x.key]+x.n <= size-sum-x.n {
						t.Fatalf("seed %d: claim %d waits and would fit", seed, x.number)
					}
				}
			}
		}
		for i := range 300 {
			switch rnd.IntN(4) {
			case 0, 1:
				x := &piece{key: rnd.IntN(5), n: 1 + rnd.Int64N(300), number: i}
				largest = max(largest, x.n)
				x.claim.Ready = func() {
					for _, y := range all {
						if y.key == x.key && y.state == 0 && y.number < x.number {
							t.Fatalf("seed %d: claim %d overtook %d", seed, x.number, y.number)
						}
					}
					x.state = 1
					used[x.key] += x.n
				}
				if all = append(all, x); p.Take(x.key, x.n, &x.claim) {
					x.claim.Ready()
				}
			case 2:
				if len(all) == 0 {
					continue
				}
				x := all[rnd.IntN(len(all))]
				switch was := x.state; {
				case was == 1 && rnd.IntN(2) == 0:
					n := max(1, x.n-rnd.Int64N(50)+20)
					used[x.key] += n - x.n
					x.state, largest = 2, max(largest, n)
					p.Keep(&x.claim, n)
					x.n = n
				case was < 2:
					if x.state = 3; was == 1 {
						used[x.key] -= x.n
					}
					p.GiveUp(&x.claim)
				case was == 2:
					x.state = 3
					used[x.key] -= x.n
					p.Give(x.key, x.n)
				}
			case 3:
				check()
			}
		}
		check()
	}
}
