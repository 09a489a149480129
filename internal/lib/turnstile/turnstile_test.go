package turnstile

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// While there is no room, callers wait; then one after the other passes, and none before the one in
// front is done.
func TestPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var used, inside, passed atomic.Int32
		tt := New()
		pass := func() error {
			done, err := tt.Pass(t.Context(), time.Minute, func() bool { return used.Load() > 3 })
			if err != nil {
				return err
			}
			used.Add(1)
			if inside.Add(1) > 1 {
				t.Error("two are inside at once, and there was no room")
			}
			time.Sleep(time.Second)
			inside.Add(-1)
			passed.Add(1)
			done()
			return nil
		}
		used.Store(4)
		for range 5 {
			go pass()
		}
		time.Sleep(10 * time.Second)
		if passed.Load() != 0 {
			t.Fatal("somebody passes, and there is no room")
		}
		used.Store(2) // for two
		time.Sleep(10 * time.Second)
		if n := passed.Load(); n != 2 {
			t.Errorf("%d have passed, there was room for 2", n)
		}
		used.Store(0)
		time.Sleep(time.Second / 2)
		go pass() // there is room, and others wait
		time.Sleep(10 * time.Second)
		if n := passed.Load(); n != 6 {
			t.Errorf("%d have passed of 6", n)
		}
		first, err1 := tt.Pass(t.Context(), 0, func() bool { return false })
		second, err2 := tt.Pass(t.Context(), 0, func() bool { return false })
		if err1 != nil || err2 != nil {
			t.Fatalf("with room: %v, %v", err1, err2)
		}
		first()
		second()
	})
}

// A caller that gives up makes way.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tt, full := New(), func() bool { return true }
		answers := make(chan error, 2)
		wait := func(ctx context.Context) {
			_, err := tt.Pass(ctx, time.Minute, full)
			answers <- err
		}
		front, frontGone := context.WithCancel(t.Context())
		behind, behindGone := context.WithCancel(t.Context())
		go wait(front)
		synctest.Wait()
		go wait(behind)
		synctest.Wait()
		for _, gone := range []context.CancelFunc{behindGone, frontGone} {
			gone()
			synctest.Wait()
			if len(answers) != 1 || <-answers != context.Canceled {
				t.Error("one who gives up is not let go")
			}
		}
		begun := time.Now()
		for range 2 {
			go wait(t.Context())
		}
		for range 2 {
			if err := <-answers; err != ErrFull {
				t.Errorf("got %v", err)
			}
		}
		if waited := time.Since(begun); waited != time.Minute {
			t.Errorf("patience was %v, want a minute", waited)
		}
		done, err := tt.Pass(t.Context(), 0, func() bool { return false })
		if err != nil {
			t.Fatalf("nobody is left, and the way is closed: %v", err)
		}
		done()
	})
}
