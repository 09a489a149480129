package cluster

import (
	"context"
	"time"
)

// Start connects and serves until Close. It waits for nothing.
func (n *Node) Start() {
	n.begin(time.Now())
	n.wait()
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	n.running.Go(func() { n.connect(ctx) })
	n.running.Go(func() { n.run(ctx) })
}

// Close leaves the cluster: the others learn at once that this node's members are
// gone.
func (n *Node) Close() {
	left := make(chan struct{})
	n.post(func() { n.leaveCluster(func() { close(left) }) })
	select {
	case <-left:
	case <-time.After(replyLimit):
	}
	n.stop()
	n.running.Wait()
}

// post hands work to the goroutine.
func (n *Node) post(f func()) {
	n.mu.Lock()
	n.inbox = append(n.inbox, f)
	n.waiting.Store(int64(len(n.inbox)))
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// connect keeps a session up, for ever, with pauses that double up to a limit and are
// drawn at random so that nodes do not come all at once.
func (n *Node) connect(ctx context.Context) {
	pause, told := backoffLow, time.Time{}
	for first := true; ; first = false {
		s, err := n.dialer.Dial(ctx, n.scripts.Texts())
		switch at := time.Now(); {
		case err == nil:
			if n.serve(ctx, s) > steadyTime {
				pause = backoffLow
			}
		case ctx.Err() != nil: // the end
		case first:
			told = at
			n.post(n.startAlone)
			n.log.Error("Redis cannot be reached; members of this node are served alone, and attempts go on", "why", err)
		case at.Sub(told) > tellAgain:
			told = at
			n.log.Warn("Redis is not reachable; trying on", "why", err)
		}
		timer := time.NewTimer(pause/2 + time.Duration(n.random.Int64N(int64(pause/2))))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, backoffHigh)
	}
}

// serve gives a session to the goroutine, waits for its end and tells how long it lasted.
func (n *Node) serve(ctx context.Context, s Link) time.Duration {
	began := time.Now()
	select {
	case n.up <- s:
	case <-ctx.Done():
		s.Fail(ctx.Err())
	}
	select {
	case <-s.Done():
	case <-ctx.Done():
		s.Fail(ctx.Err())
	}
	s.Wait()
	return time.Since(began)
}

// run is the goroutine that drives the node. Each round of it is a turn.
func (n *Node) run(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var replies, pushes <-chan Batch
		var failed <-chan struct{}
		var soon <-chan time.Time
		if s := n.link; s != nil {
			failed = s.Done()
			if replies, pushes = s.Batches(); n.holds(time.Now()) {
				pushes, soon = nil, time.After(time.Millisecond)
			}
		}
		var do func()
		select {
		case <-ctx.Done():
			return
		case <-failed: // endTurn deals with it
		case <-soon:
		case <-n.wake:
		case s := <-n.up:
			do = func() { n.handleUp(s) }
		case b := <-replies:
			do = func() { n.handleReplies(b) }
		case b := <-pushes:
			do = func() { n.handlePushes(b) }
		case <-tick.C:
			do = n.handleTick
		}
		n.begin(time.Now()) // not the tick's time, which may be from before this process was frozen
		if do != nil {
			do()
		}
		n.endTurn()
	}
}
