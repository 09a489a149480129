package oneatatime

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/resp"
)

// store is a Redis with one key.
type store struct {
	mu    sync.Mutex
	owner string
	until time.Time
	down  error
}

func (s *store) ask(_ context.Context, command ...string) (r resp.Reply, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return r, s.down
	}
	if !time.Now().Before(s.until) {
		s.owner = ""
	}
	switch command[0] {
	case "SET":
		want := []string{"SET", "p:turn", command[2], "NX", "PX", "60000"}
		if !slices.Equal(command, want) {
			return r, errors.New("another command")
		}
		if s.owner == "" {
			s.owner, s.until = command[2], time.Now().Add(time.Minute)
			r.Text = "OK"
		}
	case "EVAL":
		if s.owner == command[4] {
			s.owner = ""
		}
	}
	return r, nil
}

// Three processes have their turns one after the other; one of them dies in its turn.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(store)
		var at []time.Duration
		began, inside := time.Now(), 0
		var mu sync.Mutex
		var all sync.WaitGroup
		for i, owner := range []string{"a", "b", "c"} {
			all.Go(func() {
				turns := Turns{Key: "p:turn", Owner: owner, Ask: s.ask, After: time.After}
				done, err := turns.Take(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				at = append(at, time.Since(began))
				inside++
				if inside > 1 {
					t.Error("two have a turn")
				}
				mu.Unlock()
				time.Sleep(10 * time.Second)
				mu.Lock()
				inside--
				mu.Unlock()
				if i != 1 {
					done()
				}
			})
		}
		all.Wait()
		slices.Sort(at)
		if len(at) != 3 || at[0] != 0 || at[1] < 10*time.Second || at[2]-at[0] > 80*time.Second {
			t.Errorf("turns begin at %v", at)
		}
	})
}

// A turn that is over ends no other one, and nothing waits when Redis is away or ctx ends.
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(store)
		a := Turns{Key: "p:turn", Owner: "a", Ask: s.ask, After: time.After}
		b := Turns{Key: "p:turn", Owner: "b", Ask: s.ask, After: time.After}
		late, err := a.Take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(longest)
		if _, err := b.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		if late(); s.owner != "b" {
			t.Errorf("%q has the turn", s.owner)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Take(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
		s.down = errors.New("away")
		if _, err := a.Take(t.Context()); err != s.down {
			t.Error(err)
		}
	})
}
