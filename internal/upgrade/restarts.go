package upgrade

import (
	"context"
	"log/slog"
	"sync"

	"reverb/internal/lib/oneatatime"
)

// Restarts are the restarts of a server that are asked for. In a cluster one node restarts after
// the other.
type Restarts struct {
	// Turns are those of the nodes of a cluster; nil: there is no cluster. Constant.
	Turns *oneatatime.Turns

	log   *slog.Logger
	asked chan string

	mu      sync.Mutex
	busy    bool           // a restart was asked for, and Over was not called since
	over    func()         // ends the turn of this node; nil: it has none
	waiting []chan<- error // of those that have asked
}

// NewRestarts makes the restarts of a server.
func NewRestarts(log *slog.Logger) *Restarts {
	return &Restarts{log: log, asked: make(chan string, 1)}
}

// Ask asks for a restart because why, and returns at once. Asked brings why when it is the turn of
// this node, unless ctx ends before. If there is no restart then, refused gets the reason; it has
// room for it, or is nil. Any goroutine may call it.
func (r *Restarts) Ask(ctx context.Context, why string, refused chan<- error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if refused != nil {
		r.waiting = append(r.waiting, refused)
	}
	if r.busy {
		return
	}
	r.busy = true
	go func() {
		if r.Turns != nil {
			done, err := r.Turns.Take(ctx)
			if ctx.Err() != nil {
				// this node stops: it needs no turn
			} else if err != nil {
				r.log.Warn("other nodes may restart at the same time", "why", err)
			} else {
				r.mu.Lock()
				r.over = done
				r.mu.Unlock()
			}
		}
		r.asked <- why
	}()
}

// Asked brings why the server restarts.
func (r *Restarts) Asked() <-chan string { return r.asked }

// Over ends the turn of this node, if it has one. With refused, which says why there was no
// restart, the next one may be asked for.
func (r *Restarts) Over(refused error) {
	r.mu.Lock()
	done := r.over
	r.over = nil
	if refused != nil {
		for _, c := range r.waiting {
			c <- refused
		}
		r.waiting, r.busy = nil, false
	}
	r.mu.Unlock()
	if done != nil {
		done()
	}
}
