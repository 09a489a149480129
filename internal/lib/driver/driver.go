// Package driver drives a state machine that has a session with Redis. One goroutine does all
// that changes the machine, in turns: in each turn one thing happens to it.
//
// The machine can be made to stand still together with other goroutines, once nothing of it is
// under way. Then its session is held too, and machine and session are data for another process.
//
//	Post, session, replies, pushes, tick ─▶ Begin ─▶ one call ─▶ End
//	Stand ─▶ turns until AtRest ─▶ Hold ─▶ turns until Held ─▶ it stands still
package driver

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"reverb/internal/lib/redial"
	"reverb/internal/lib/settle"
)

const (
	// tickTime is how often Tick is called. Larger: all that is due comes later. Smaller: an idle
	// machine uses more of the processor.
	tickTime = 100 * time.Millisecond
	// overloadPause is how long the goroutine leaves pushes alone when the machine holds them.
	// Larger: they stand still longer. Smaller: more turns without effect.
	overloadPause = time.Millisecond
	// standTime bounds the wait until a machine is at rest. Larger: those who wait for it wait
	// longer. Smaller: a slow server, or a busy one, is not left in time.
	standTime = time.Second
	// standSlice is after how long the others of the meeting get a turn, and a quarter of it is a
	// turn in which nothing happens. Larger: they wait longer. Smaller: more turns.
	standSlice = time.Millisecond
)

// Machine is the state machine. The driver's goroutine calls the methods.
type Machine[L Link[B], B any] interface {
	Link() (l L, up bool)     // the session; up: there is one
	Holds(now time.Time) bool // it takes no pushes for now
	Begin(now time.Time)      // begins a turn
	Up(L)                     // there is a session
	Replies(B)                // of the session
	Pushes(B)                 // of the session
	Tick()                    // each tickTime, or more often
	End()                     // ends a turn; it calls Work
	AtRest() bool             // nothing is under way
	Stands(yes bool)          // it will stand still; it goes on
}

// Link is a session.
type Link[B any] interface {
	redial.Session
	Batches() (replies, pushes <-chan B)
	// Hold makes the batches stop, until Release. Held says that the last ones are in Batches.
	Hold()
	Held() bool
	Release()
}

// Driver drives one machine. Any goroutine may call Post, Waiting and Stand.
type Driver[L Link[B], B any] struct {
	m        Machine[L, B]
	up       chan L
	stop     context.CancelFunc
	running  sync.WaitGroup
	standing *Standing // owned by the goroutine

	wake    chan struct{}
	mu      sync.Mutex
	inbox   []func()
	waiting atomic.Int64 // the length of inbox
}

// New makes the driver of a machine.
func New[L Link[B], B any](m Machine[L, B]) *Driver[L, B] {
	return &Driver[L, B]{m: m, up: make(chan L), wake: make(chan struct{}, 1)}
}

// Start begins to connect and to drive, until Stop. The parameters are as in redial.Keep.
func (d *Driver[L, B]) Start(dial func(context.Context) (L, error),
	failed func(why error, first bool, at time.Time), draw func(n int64) int64) {
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	d.running.Go(func() { redial.Keep(ctx, dial, d.up, failed, draw) })
	d.running.Go(func() { d.run(ctx) })
}

// Stop ends the session and the goroutine, and waits for the end.
func (d *Driver[L, B]) Stop() {
	d.stop()
	d.running.Wait()
}

// Post hands work to the goroutine.
func (d *Driver[L, B]) Post(f func()) {
	d.mu.Lock()
	d.inbox = append(d.inbox, f)
	d.waiting.Store(int64(len(d.inbox)))
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Waiting is how much work waits.
func (d *Driver[L, B]) Waiting() int64 { return d.waiting.Load() }

// Work does the work that waits. The goroutine calls it.
func (d *Driver[L, B]) Work() {
	d.mu.Lock()
	work := d.inbox
	d.inbox = nil
	d.waiting.Store(0)
	d.mu.Unlock()
	for _, f := range work {
		f()
	}
}

// run is the goroutine. Each round of the loop is a turn.
func (d *Driver[L, B]) run(ctx context.Context) {
	tick := time.NewTicker(tickTime)
	defer tick.Stop()
	for d.turn(ctx.Done(), tick.C) {
		if s := d.standing; s != nil && !d.stand(s) {
			return
		}
	}
}

// turn waits for something to happen, until done is closed.
func (d *Driver[L, B]) turn(done <-chan struct{}, tick <-chan time.Time) (goesOn bool) {
	var replies, pushes <-chan B
	var failed <-chan struct{}
	var soon <-chan time.Time
	if s, up := d.m.Link(); up {
		failed = s.Done()
		if replies, pushes = s.Batches(); d.m.Holds(time.Now()) {
			pushes, soon = nil, time.After(overloadPause)
		}
	}
	do := func() {}
	select {
	case <-done:
		return false
	case <-failed: // End notices
	case <-soon:
	case <-d.wake:
	case s := <-d.up:
		do = func() { d.m.Up(s) }
	case b := <-replies:
		do = func() { d.m.Replies(b) }
	case b := <-pushes:
		do = func() { d.m.Pushes(b) }
	case <-tick:
		do = d.m.Tick
	}
	d.m.Begin(time.Now()) // a tick may carry the time before this process was frozen
	do()
	d.m.End()
	return true
}

// --- Standing still ---

// Standing is a machine that is to stand still, and what has come of it.
type Standing struct {
	pause  *settle.Pause
	seat   int
	until  time.Time
	holds  bool // the session is asked to
	failed error
}

// Stand makes the machine stand still in a pause that has not begun.
func (d *Driver[L, B]) Stand(p *settle.Pause) *Standing {
	s := &Standing{pause: p, seat: p.Add("the session with Redis")}
	d.Post(func() { d.standing = s })
	return s
}

// Err says why the machine is not at rest in the pause; nil: it is. All stand still, see
// settle.Pause.Wait. A nil Standing is at rest.
func (s *Standing) Err() error {
	if s == nil {
		return nil
	}
	return s.failed
}

// stand is the goroutine while the machine stands still. It returns false if the machine ends,
// without a word to the server.
func (d *Driver[L, B]) stand(s *Standing) (goesOn bool) {
	s.until = time.Now().Add(standTime)
	turn := func(stands bool) {
		d.m.Begin(time.Now())
		d.m.Stands(stands)
		d.m.End()
	}
	turn(true)
	if leave, _ := s.pause.Stand(s.seat, func() bool { return d.quiet(s) }, func() {}); leave {
		d.stop()
		return false
	}
	if l, up := d.m.Link(); up {
		l.Release()
	}
	d.standing = nil
	turn(false)
	return true
}

// quiet comes closer to the moment in which nothing is under way. found says that it had to.
func (d *Driver[L, B]) quiet(s *Standing) (found bool) {
	for end := time.Now().Add(standSlice); s.failed == nil; found = true {
		now := time.Now()
		l, up := d.m.Link()
		held := up && s.holds && l.Held() // before what has come is looked at
		rests := up && d.rests(l)
		switch {
		case !up || now.After(s.until):
			s.failed = errors.New(
				"Redis does not answer, or too much is on its way to it; try again")
			return true
		case !rests && s.holds:
			l.Release()
			s.holds = false
		case rests && held:
			return found
		case rests && !s.holds:
			l.Hold()
			s.holds = true
		case now.After(end):
			return true
		}
		d.turn(nil, time.After(standSlice/4))
	}
	return false
}

// rests says that nothing is under way, and that all that has come was taken.
func (d *Driver[L, B]) rests(l L) bool {
	replies, pushes := l.Batches()
	return len(replies)+len(pushes) == 0 && d.Waiting() == 0 && d.m.AtRest()
}
