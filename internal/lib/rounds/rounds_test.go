package rounds

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// numbers has numbers on two loops, which are one goroutine each by a lock.
type numbers struct {
	mu    [2]sync.Mutex
	all   [2][]int
	stuck chan struct{} // Slice waits for it; nil: it does not
	over  int           // this loop has ended
}

func (s *numbers) Loops() int { return len(s.all) }

func (s *numbers) Slice(loop, from int, visit func(int) bool, done func(int)) bool {
	if loop == s.over {
		return false
	}
	go func() {
		if s.stuck != nil {
			<-s.stuck
		}
		s.mu[loop].Lock()
		defer s.mu[loop].Unlock()
		for i, n := range s.all[loop][from:] {
			if !visit(n) && from+i+1 < len(s.all[loop]) {
				done(from + i + 1)
				return
			}
		}
		done(-1)
	}()
	return true
}

// A slice ends when its time is over, at the next look at the clock.
func TestSlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ended := &numbers{over: -1}, make(chan struct{})
		s.all[0] = make([]int, 4*sliceStep)
		n := 0
		visit := func(int) {
			if n++; n > sliceStep {
				time.Sleep(sliceTime)
			}
		}
		for _, want := range []int{2 * sliceStep, 3 * sliceStep, -1} {
			next, ok := slice(t.Context(), s, ended, 0, n, visit)
			if next != want || !ok {
				t.Errorf("after %d items: got %d, %v, want %d", n, next, ok, want)
			}
		}
		s.stuck = make(chan struct{})
		close(ended)
		if _, ok := slice(t.Context(), s, ended, 0, 0, func(int) {}); ok {
			t.Error("a slice has come from a loop that does not come round")
		}
		close(s.stuck)
	})
}

func TestCollect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &numbers{over: -1}
		for i := range 100 {
			s.all[i%2] = append(s.all[i%2], i)
		}
		var got []int
		even := func(n int) (int, bool) { return n, n%4 == 0 }
		keep := func(some []int) error { got = append(got, some...); return nil }
		if err := Collect(t.Context(), s, nil, even, keep); err != nil || len(got) != 25 {
			t.Errorf("got %d, %v", len(got), err)
		}
		slices.Sort(got)
		if got[0] != 0 || got[24] != 96 {
			t.Errorf("got %v", got)
		}
		enough := errors.New("enough")
		all := func(n int) (int, bool) { return n, true }
		if err := Collect(t.Context(), s, nil, all, func([]int) error { return enough }); err !=
			enough {
			t.Errorf("got %v", err)
		}
		s.over, got = 1, nil
		if err := Collect(t.Context(), s, nil, all, keep); err != nil || len(got) != 50 {
			t.Errorf("a loop has ended: got %d, %v", len(got), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		s.stuck = make(chan struct{})
		time.AfterFunc(time.Second, cancel)
		if err := Collect(ctx, s, nil, all, keep); err != context.Canceled {
			t.Errorf("got %v", err)
		}
		close(s.stuck)
	})
}
