package settle

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// Whatever the goroutines give each other is done when Settle returns.
func TestSettle(t *testing.T) {
	for seed := range uint64(200) {
		const size = 4
		var mu sync.Mutex
		var inbox [size][]int
		inbox[0] = []int{40}
		m, done := New(size), sync.WaitGroup{}
		for i := range size {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			done.Go(func() {
				m.Settle(func() bool {
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
				})
				mu.Lock()
				defer mu.Unlock()
				for at, left := range inbox {
					if len(left) > 0 {
						t.Errorf("seed %d: %d has %d to do", seed, at, len(left))
					}
				}
			})
		}
		done.Wait()
	}
}
