package upgrade

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/oneatatime"
	"reverb/internal/lib/resp"
)

// A restart is asked for once until it is over, and begins when it is the turn of this node; if
// Redis does not answer, at once.
func TestRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken, down atomic.Bool // by another node; Redis is
		var released atomic.Int32
		r := NewRestarts(slog.New(slog.NewTextHandler(io.Discard, nil)))
		r.Turns = &oneatatime.Turns{Key: "k", Owner: "me", After: time.After,
			Ask: func(_ context.Context, command ...string) (answer resp.Reply, err error) {
				switch {
				case down.Load():
					return answer, errors.New("away")
				case command[0] == "EVAL":
					released.Add(1)
				case !taken.Load():
					answer.Text = "OK"
				}
				return answer, nil
			}}
		taken.Store(true)
		var said []string
		refused := make(chan error, 1)
		tell := func(text string, err error) {
			if err == nil {
				said = append(said, text)
				return
			}
			refused <- err
		}
		asker, leave := context.WithCancel(t.Context())
		r.Ask(t.Context(), asker, "one", tell)
		r.Ask(t.Context(), nil, "two", tell)
		if err := <-refused; err != errRestarting {
			t.Errorf("the second one gets %v", err)
		}
		synctest.Wait()
		select {
		case why := <-r.Asked():
			t.Errorf("%s begins while another node has its turn", why.Why)
		default:
		}
		time.Sleep(11 * time.Second)
		taken.Store(false)
		time.Sleep(time.Second)
		if one := <-r.Asked(); one.Why != "one" || one.gone() || released.Load() != 0 {
			t.Errorf("got %s, %d turns are over", one.Why, released.Load())
		}
		if !slices.Equal(said, []string{"waiting for another node, which restarts", ""}) {
			t.Errorf("while it waits it says %q", said)
		}
		no := errors.New("no")
		if r.Over(no); released.Load() != 1 || <-refused != no {
			t.Errorf("%d turns are over, want 1", released.Load())
		}
		down.Store(true)
		leave()
		r.Ask(t.Context(), asker, "three", nil)
		if three := <-r.Asked(); three.Why != "three" || !three.gone() {
			t.Errorf("got %s", three.Why)
		}
		if r.Over(nil); released.Load() != 1 {
			t.Errorf("%d turns are over, want 1", released.Load())
		}
	})
}
