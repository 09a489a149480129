package cluster

import (
	"context"
	"time"

	"reverb/internal/lib/driver"
	"reverb/internal/lib/settle"
)

// tellAgain is how long the log does not repeat that Redis is away for the same reason. Larger: an
// operator sees later that it lasts. Smaller: the log fills.
const tellAgain = 10 * time.Second

// machine is the node as its driver sees it.
type machine struct{ *Node }

func (m machine) Link() (l Link, up bool)  { return m.link, m.link != nil }
func (m machine) Holds(now time.Time) bool { return m.holds(now) }
func (m machine) Begin(now time.Time)      { m.begin(now) }
func (m machine) Up(l Link)                { m.handleUp(l) }
func (m machine) Replies(b Batch)          { m.handleReplies(b) }
func (m machine) Pushes(b Batch)           { m.handlePushes(b) }
func (m machine) Tick()                    { m.handleTick() }
func (m machine) End()                     { m.endTurn() }
func (m machine) AtRest() bool             { return m.atRest() }
func (m machine) Stands(yes bool)          { m.stands(yes) }

// Start begins to connect and to serve, until Close. It returns at once.
func (n *Node) Start() {
	if n.begin(time.Now()); n.link == nil {
		n.wait()
	} else {
		n.enterHeirs()
	}
	told := time.Time{}
	n.driver.Start(func(ctx context.Context) (Link, error) {
		return n.dialer.Dial(ctx, n.scripts.Texts())
	}, func(why error, first bool, at time.Time) {
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

// Close leaves the cluster: the other nodes learn at once that this node's members are gone. It
// waits for Redis at most replyLimit.
func (n *Node) Close() {
	left := make(chan struct{})
	n.post(func() { n.leaveCluster(func() { close(left) }) })
	select {
	case <-left:
	case <-time.After(replyLimit):
	}
	n.driver.Stop()
}

// post hands work to the goroutine that drives the node.
func (n *Node) post(f func()) { n.driver.Post(f) }

// Stand makes the node stand still, see package driver. A nil Node has nothing that moves.
func (n *Node) Stand(p *settle.Pause) *driver.Standing {
	if n == nil {
		return nil
	}
	return n.driver.Stand(p)
}
