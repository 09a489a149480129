package settle

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// never bounds a wait that must not end by itself.
const never = time.Hour

// Whatever the goroutines give each other is done when they stand still.
func TestSettle(t *testing.T) {
	for seed := range uint64(200) {
		const size = 4
		var mu sync.Mutex
		var inbox [size][]int
		inbox[0] = []int{40}
		p, done := NewPause("guest", size), sync.WaitGroup{}
		for i := range size {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			done.Go(func() {
				leave, stood := p.Stand(i, func() bool {
					mu.Lock()
					defer mu.Unlock()
					mine := inbox[i]
					inbox[i] = nil
					for _, n := range mine {
						for range min(n, rng.IntN(3)) {
							to := rng.IntN(size)
							inbox[to] = append(inbox[to], n-1)
						}
					}
					return len(mine) > 0
				}, func() {})
				if !leave || !stood {
					t.Errorf("seed %d: %d: leave %v, stood %v", seed, i, leave, stood)
				}
			})
		}
		if err := p.Wait(never); err != nil {
			t.Error(err)
		}
		for at, left := range inbox {
			if len(left) > 0 {
				t.Errorf("seed %d: %d has %d to do", seed, at, len(left))
			}
		}
		p.End(true)
		done.Wait()
	}
}

// If one does not come, all go on, and it too when it comes.
func TestMissing(t *testing.T) {
	for _, busy := range []bool{false, true} { // it has come once, and works on
		p := NewPause("guest", 2)
		late, met := p.Add("the late one"), make(chan bool)
		release, done := make(chan bool), sync.WaitGroup{}
		ready := func() { t.Error("somebody stands still") }
		stand := func(seat int, work func() bool) {
			if leave, stood := p.Stand(seat, work, ready); leave || stood {
				t.Errorf("%d: leave %v, stood %v", seat, leave, stood)
			}
		}
		for i := range 2 {
			done.Go(func() { stand(i, func() bool { return true }) })
		}
		rounds := 0
		done.Go(func() {
			if !busy {
				close(met)
				<-release
			}
			stand(late, func() bool {
				if rounds++; busy && rounds == 2 {
					close(met)
					<-release
				}
				return true
			})
		})
		<-met
		err := p.Wait(time.Millisecond)
		if err == nil || !strings.Contains(err.Error(), "the late one") {
			t.Errorf("got %v", err)
		}
		close(release)
		done.Wait()
		if !busy && rounds > 0 {
			t.Error("the late one has worked")
		}
	}
}
