package cluster

import (
	"context"
	"time"

	"reverb/internal/lib/redial"
)

const (
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

// connect keeps a session up until ctx ends. redial.High must stay well below peersGrace, or nodes
// that wait for the next attempt are taken for gone.
func (n *Node) connect(ctx context.Context) {
	told := time.Time{}
	redial.Keep(ctx, func(ctx context.Context) (Link, error) {
		return n.dialer.Dial(ctx, n.scripts.Texts())
	}, n.up, func(why error, first bool, at time.Time) {
		switch {
		case first:
			told = at
			n.post(n.startAlone)
			n.log.Error("Redis cannot be reached; "+
				"members of this node are served alone, and attempts go on", "why", why)
		case at.Sub(told) > tellAgain:
			told = at
			n.log.Warn("Redis is not reachable; trying on", "why", why)
		}
	}, n.random.Int64N)
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
