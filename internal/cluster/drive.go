package cluster

import (
	"context"
	"time"
)

const (
	// backoffLow and backoffHigh are the shortest and the longest pause between two attempts to
	// connect. Larger: a node comes back later. Smaller: nodes hammer on a Redis that starts.
	// backoffHigh must stay well below peersGrace, or nodes that wait are taken for gone.
	backoffLow  = 50 * time.Millisecond
	backoffHigh = 500 * time.Millisecond
	// steadyTime is how long a session must last for the pauses to begin with backoffLow again.
	// Larger: one that ended well is followed by a long pause. Smaller: a Redis that accepts
	// connections and drops them is hammered on.
	steadyTime = 5 * time.Second
	// tellAgain is how long the log does not repeat that Redis is away for the same reason.
	// Larger: an operator sees later that it lasts. Smaller: the log fills.
	tellAgain = 10 * time.Second
	// tickTime is how often handleTick looks at what is due. Larger: all that is due comes later.
	// Smaller: an idle node uses more of the processor.
	tickTime = 100 * time.Millisecond
	// overloadPause is how long the goroutine leaves pushes alone when the replica is overloaded.
	// Larger: events stand still longer. Smaller: more turns without effect.
	overloadPause = time.Millisecond
)

// Start begins to connect and to serve, until Close. It returns at once.
func (n *Node) Start() {
	n.begin(time.Now())
	n.wait()
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	n.running.Go(func() { n.connect(ctx) })
	n.running.Go(func() { n.run(ctx) })
}

// Close leaves the cluster: the other nodes learn at once that this node's members are gone. It
// waits for Redis at most replyLimit.
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

// post hands work to the goroutine that drives the node.
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

// connect keeps a session up until ctx ends. The pauses between attempts double up to a limit.
// They are drawn at random, so that the nodes do not all come at the same moment.
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
			n.log.Error("Redis cannot be reached; "+
				"members of this node are served alone, and attempts go on", "why", err)
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

// serve gives a session to the goroutine that drives the node, waits for the end of the session,
// and returns how long it lasted.
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

// run is the goroutine that drives the node. Each round of the loop is a turn.
func (n *Node) run(ctx context.Context) {
	tick := time.NewTicker(tickTime)
	defer tick.Stop()
	for {
		var replies, pushes <-chan Batch
		var failed <-chan struct{}
		var soon <-chan time.Time
		if s := n.link; s != nil {
			failed = s.Done()
			if replies, pushes = s.Batches(); n.holds(time.Now()) {
				pushes, soon = nil, time.After(overloadPause)
			}
		}
		var do func()
		select {
		case <-ctx.Done():
			return
		case <-failed: // endTurn notices
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
		n.begin(time.Now()) // a tick may carry the time before this process was frozen
		if do != nil {
			do()
		}
		n.endTurn()
	}
}
