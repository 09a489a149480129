package supervise

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// echoWindow is how long the same signal counts as one, under a thin parent. Larger: who presses
// Ctrl-C again waits longer until that counts. Smaller: a busy parent passes the signal on too
// late, and it counts twice.
const echoWindow = time.Second

// Context returns a context that ends at the first SIGINT or SIGTERM, or with the thin parent. The
// second signal, or the end of the parent after a signal, ends the process at once, unless it is
// the same signal within a second under a thin parent.
func (r *Role) Context(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go r.follow(ctx, cancel, signals)
	return ctx
}

func (r *Role) follow(ctx context.Context, cancel func(), signals chan os.Signal) {
	var first os.Signal
	orphaned := r.orphaned
	for first == nil {
		select {
		case first = <-signals:
		case <-orphaned:
			if orphaned = nil; r.has() { // else the successor ends, which this process follows
				first = syscall.SIGTERM
			}
		case <-ctx.Done():
			signal.Stop(signals)
			return
		}
	}
	cancel()
	if r.parent == nil {
		signal.Stop(signals)
		return
	}
	window := time.After(echoWindow)
	for {
		select {
		case s := <-signals:
			if s != first {
				endNow(signals, s)
			}
		case <-orphaned:
			if orphaned = nil; r.has() {
				endNow(signals, syscall.SIGTERM)
			}
		case <-window:
			signal.Stop(signals) // the next one ends the process
		}
	}
}

// Notify sends signals to c, as signal.Notify does, until stop is called. Under a thin parent the
// same signal within a second counts once.
func (r *Role) Notify(c chan<- os.Signal, signals ...os.Signal) (stop func()) {
	if r.parent == nil {
		signal.Notify(c, signals...)
		return func() { signal.Stop(c) }
	}
	all, stopped := make(chan os.Signal, 8), make(chan struct{})
	signal.Notify(all, signals...)
	go func() {
		var seen echoes
		for {
			select {
			case s := <-all:
				if seen.again(s, time.Now()) {
					continue
				}
				select {
				case c <- s:
				default: // as signal.Notify
				}
			case <-stopped:
				return
			}
		}
	}()
	return func() {
		signal.Stop(all)
		close(stopped)
	}
}

// echoes knows when each signal came last; they have numbers up to 64.
type echoes [65]time.Time

// again says whether s has come shortly before. If not, s counts, and the time runs from now on.
func (e *echoes) again(s os.Signal, now time.Time) bool {
	last := &e[s.(syscall.Signal)]
	if now.Sub(*last) < echoWindow {
		return true
	}
	*last = now
	return false
}
