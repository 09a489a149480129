package turnstile

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// While there is no room, those who come wait; then one after the other goes through, and
// none before the one in front is done.
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
		time.Sleep(10 * time.Second)
		if n := passed.Load(); n != 5 {
			t.Errorf("%d have passed of 5", n)
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

// Whoever gives up makes way.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tt, full := New(), func() bool { return true }
		ctx, cancel := context.WithCancel(t.Context())
		answers := make(chan error, 2)
		for range 2 { // the next, and the one behind it
			go func() {
				_, err := tt.Pass(ctx, time.Minute, full)
				answers <- err
			}()
		}
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-answers; err != context.Canceled {
				t.Errorf("got %v", err)
			}
		}
		begun := time.Now()
		for range 2 {
			go func() {
				_, err := tt.Pass(t.Context(), time.Minute, full)
				answers <- err
			}()
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
