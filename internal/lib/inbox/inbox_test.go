package inbox

import (
	"slices"
	"sync"
	"testing"
)

func TestInbox(t *testing.T) {
	var b Inbox[int]
	for i := range 3 {
		if first, ok := b.Put(i); first != (i == 0) || !ok {
			t.Errorf("item %d: first %v, ok %v", i, first, ok)
		}
	}
	var got []int
	b.Take(func(x int) {
		got = append(got, x)
		if x == 0 {
			if first, _ := b.Put(10); !first {
				t.Error("what comes during a Take is not the first of the next")
			}
		}
	})
	if want := []int{0, 1, 2}; !slices.Equal(got, want) || b.Len() != 1 {
		t.Errorf("got %v, and %d wait; want %v and 1", got, b.Len(), want)
	}
	b.End()
	if _, ok := b.Put(11); ok || b.Len() != 1 {
		t.Error("it has ended and takes more")
	}
	if b.Take(func(x int) { got = append(got, x) }); got[3] != 10 || b.Len() != 0 {
		t.Errorf("got %v, want what waited at the end", got)
	}
}

// Each producer's items come in its order, whatever the others do.
func TestOrderOfProducers(t *testing.T) {
	const producers, items = 4, 2000
	var b Inbox[[2]int]
	var all sync.WaitGroup
	wake := make(chan struct{}, 1)
	for p := range producers {
		all.Go(func() {
			for i := range items {
				if first, _ := b.Put([2]int{p, i}); first {
					select {
					case wake <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	next := [producers]int{}
	for total := 0; total < producers*items; {
		<-wake
		b.Take(func(x [2]int) {
			if next[x[0]] != x[1] {
				t.Fatalf("producer %d: item %d came, want %d", x[0], x[1], next[x[0]])
			}
			next[x[0]]++
			total++
		})
	}
	all.Wait()
}

func TestRoomIsGivenBack(t *testing.T) {
	var b Inbox[*int]
	for range keepRoom + 1 {
		b.Put(new(int))
	}
	b.Take(func(*int) {})
	if cap(b.taken) != 0 {
		t.Errorf("room for %d items is kept", cap(b.taken))
	}
	b.Put(new(int))
	b.Take(func(*int) {})
	if taken := b.taken[:1]; taken[0] != nil {
		t.Error("an item is kept after it was taken")
	}
	x := new(int)
	release := b.Hold()
	done := make(chan bool)
	go func() { b.Put(x); done <- true }()
	select {
	case <-done:
		t.Error("the inbox takes something while it is held")
	default:
	}
	release()
	<-done
	b.Take(func(*int) {})
	if n := testing.AllocsPerRun(100, func() { b.Put(x); b.Take(func(*int) {}) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
