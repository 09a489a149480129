package upgrade

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"reverb/internal/lib/oneatatime"
)

// Restarts are the restarts of a server that are asked for. In a cluster one node restarts after
// the other.
type Restarts struct {
	// Turns are those of the nodes of a cluster; nil: there is no cluster. Constant.
	Turns *oneatatime.Turns

	log   *slog.Logger
	asked chan *restart

	mu      sync.Mutex
	busy    bool     // a restart was asked for, and Over was not called since
	over    func()   // ends the turn of this node; nil: it has none
	current *restart // that was asked for
}

// restart is a restart that was asked for.
type restart struct {
	Why string

	ctx  context.Context              // nil: who has asked does not wait
	tell func(text string, err error) // nil, too
}

// gone says whether who has asked waits no more.
func (r *restart) gone() bool { return r.ctx != nil && r.ctx.Err() != nil }

// say tells who has asked what happens.
func (r *restart) say(text string) {
	if r.tell != nil {
		r.tell(text, nil)
	}
}

// NewRestarts makes the restarts of a server.
func NewRestarts(log *slog.Logger) *Restarts {
	return &Restarts{log: log, asked: make(chan *restart, 1)}
}

// errRestarting is the answer to who asks for a restart while one is under way.
var errRestarting = errors.New("a restart is under way: wait for its end")

// Ask asks for a restart because why, and returns at once. Asked brings it when it is the turn of
// this node, unless ctx ends before. tell, which may be nil, gets what happens; an error says why
// there is no restart, and is the last. If asker ends before it begins, there is none; nil: it is
// made in any case. Any goroutine may call it.
func (r *Restarts) Ask(ctx, asker context.Context, why string, tell func(text string, err error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy {
		r.log.Info("a restart is under way, so no other one begins", "asked", why)
		if tell != nil {
			tell("", errRestarting)
		}
		return
	}
	next := &restart{why, asker, tell}
	r.current = next
	r.busy = true
	go func() {
		if r.Turns != nil {
			r.takeTurn(ctx, next)
		}
		r.asked <- next
	}()
}

// waitTime is how long after a question, and then how often, who waits for the turn of this node is
// told that it goes on. Larger: an asker that hears nothing for long gives up. Smaller: more lines.
const waitTime = 5 * time.Second

// takeTurn waits for the turn of this node.
func (r *Restarts) takeTurn(ctx context.Context, next *restart) {
	taken, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		waiting := time.NewTicker(waitTime)
		defer waiting.Stop()
		for text := "waiting for another node, which restarts"; ; text = "" {
			select {
			case <-waiting.C:
				next.say(text)
			case <-taken:
				return
			}
		}
	}()
	done, err := r.Turns.Take(ctx)
	close(taken)
	<-told
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

// Asked brings the restart that was asked for.
func (r *Restarts) Asked() <-chan *restart { return r.asked }

// Over ends the turn of this node, if it has one. With refused, which says why there was no
// restart, the next one may be asked for.
func (r *Restarts) Over(refused error) {
	r.mu.Lock()
	done := r.over
	r.over = nil
	asked := r.current
	if refused != nil {
		r.current, r.busy = nil, false
	}
	r.mu.Unlock()
	if refused != nil && asked != nil && asked.tell != nil {
		asked.tell("", refused)
	}
	if done != nil {
		done()
	}
}

// Asked does what is asked over the control socket of a server, as listen.Asked, until Ctx ends.
type Asked struct {
	Upgrades *Upgrades
	Restarts *Restarts
	Ctx      context.Context
}

// Restart is part of listen.Asked.
func (a Asked) Restart(asker context.Context, who string, tell func(string, error)) {
	if a.Upgrades.underWay.Load() {
		tell("", errUnderWay)
		return
	}
	a.Restarts.Ask(a.Ctx, asker, who+" asks", tell)
}

// Upgrade is part of listen.Asked.
func (a Asked) Upgrade(asker context.Context, who string, dry bool, tell func(string, error)) {
	a.Upgrades.ask(asker, who, dry, tell)
}
