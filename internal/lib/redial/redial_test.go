package redial

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

type session struct {
	end  chan struct{}
	why  error
	left bool
}

func (s *session) Fail(why error) {
	if s.why == nil {
		s.why = why
		close(s.end)
	}
}
func (s *session) Done() <-chan struct{} { return s.end }
func (s *session) Wait()                 { s.left = true }

// TestKeep has a server that is away, then drops sessions at once, then lets one last.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begun, up := time.Now(), make(chan *session)
		var at []time.Duration // of the attempts
		var failures []bool
		last := &session{end: make(chan struct{})}
		dial := func(context.Context) (*session, error) {
			at = append(at, time.Since(begun))
			switch n := len(at); {
			case n <= 6:
				return nil, errors.New("away")
			case n == 10:
				return last, nil
			}
			return &session{end: make(chan struct{})}, nil
		}
		done := make(chan struct{})
		go func() {
			Keep(ctx, dial, up, func(err error, first bool, _ time.Time) {
				failures = append(failures, first)
			}, func(int64) int64 { return 0 })
			close(done)
		}()
		for range 2 {
			(<-up).Fail(errors.New("dropped"))
		}
		s := <-up
		time.Sleep(steadyTime + time.Second)
		s.Fail(errors.New("restart"))
		<-up
		cancel()
		<-done
		want := []time.Duration{0, 50, 150, 350, 750, 1250, 1750, 2250, 2750, 8800}
		for i := range max(len(at), len(want)) {
			if i >= len(at) || i >= len(want) || at[i] != want[i]*time.Millisecond {
				t.Fatalf("attempts at %v, want %v (ms)", at, want)
			}
		}
		if len(failures) != 6 || !failures[0] || failures[1] {
			t.Errorf("failures %v, want 6, of which the first is the first", failures)
		}
		if !errors.Is(last.why, context.Canceled) || !last.left {
			t.Errorf("the last session has ended with %v, and Wait was called: %v", last.why,
				last.left)
		}
	})
}

// TestStop ends before a session is taken, and while the server is away.
func TestStop(t *testing.T) {
	for _, away := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			s, told := &session{end: make(chan struct{})}, 0
			done := make(chan struct{})
			go func() {
				Keep(ctx, func(ctx context.Context) (*session, error) {
					if away {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return s, nil
				}, make(chan *session), func(error, bool, time.Time) { told++ },
					func(int64) int64 { return 0 })
				close(done)
			}()
			synctest.Wait()
			cancel()
			<-done
			if told != 0 || s.left == away {
				t.Errorf("away %v: told of %d failures; Wait was called: %v", away, told, s.left)
			}
		})
	}
}
