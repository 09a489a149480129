package test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pinger sends pings to every node all the time, and notes how long the answers take.
type pinger struct {
	stop    atomic.Bool
	running sync.WaitGroup

	mu      sync.Mutex
	slowest time.Duration
	count   int
}

func startPinger(t *testing.T, nodes []*clusterNode) *pinger {
	t.Helper()
	g := &pinger{}
	for i, n := range nodes {
		p := n.open(t)
		g.running.Go(func() {
			for k := 1; !g.stop.Load(); k++ {
				begin := time.Now()
				p.send(`{"event":"pusher:ping"}`)
				if !p.wait(30*time.Second,
					func() bool { return p.gotLocked("pusher:pong", "") >= k || p.ended }) {
					t.Errorf("node %d does not answer a ping", i)
					return
				}
				g.mu.Lock()
				g.slowest, g.count = max(g.slowest, time.Since(begin)), g.count+1
				g.mu.Unlock()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return g
}

// end returns how long the slowest answer took.
func (g *pinger) end() time.Duration {
	g.stop.Store(true)
	g.running.Wait()
	return g.slowest
}

// TestSlowRedis freezes Redis under load: first so briefly that the nodes wait, then so long that
// they give Redis up and serve their own members.
func TestSlowRedis(t *testing.T) {
	t.Parallel()
	for _, frozen := range []time.Duration{2 * time.Second, 6 * time.Second} {
		t.Run(frozen.String(), func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			nodes := startNodes(t, 3, r.env())
			s := startStream(t, nodes, "load", 2, 10*time.Millisecond)
			in := &room{channel: "presence-room"}
			for i, n := range nodes {
				in.join(t, n, "fixed-"+strconv.Itoa(i))
			}
			sessions := make([]int, len(nodes))
			for i, n := range nodes {
				sessions[i] = n.metric("horizontal_transport_reconnections_total")
			}
			pings := startPinger(t, nodes)
			time.Sleep(time.Second) // of undisturbed load
			r.freeze()
			time.Sleep(frozen)
			r.thaw()
			took := eventually(t, 30*time.Second, func() string { return s.inconsistent(in) })
			pong := pings.end()
			s.end("load")
			in.check(t)
			lost, local := s.check()
			counted, unsure := s.account(lost)
			for i, n := range nodes {
				sessions[i] = n.metric("horizontal_transport_reconnections_total") - sessions[i]
			}
			t.Logf("Redis frozen for %v: consistent %v after that, %v sessions begun anew; "+
				"%d events published, %v lost, %d counted as lost, %d uncertain; "+
				"to a member of the same node %v at most; slowest request %v; "+
				"slowest of %d answers to a ping %v",
				frozen, took.Round(time.Millisecond), sessions, s.published(), lost, counted,
				unsure, local.Round(time.Millisecond), s.slowest.Round(time.Millisecond),
				pings.count, pong.Round(time.Millisecond))
			if local > 5*time.Second {
				t.Errorf("local delivery took %v; at most the 3s for which a node waits for "+
					"Redis are allowed", local)
			}
			if pong > 1500*time.Millisecond {
				t.Errorf("a ping was answered after %v; Redis must not stall a loop", pong)
			}
		})
	}
}

// TestSplitNode cuts one node off from Redis, silently, for longer than its lease. Commands that
// were under way arrive late, and must do no harm.
func TestSplitNode(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	c := newCable(t, r.addr())
	nodes := []*clusterNode{startNode(t, r.env()), startNode(t, r.env()), startNode(t, c.env())}
	for _, n := range nodes {
		eventually(t, 20*time.Second, n.notReady)
	}
	split := nodes[2]
	in := &room{channel: "presence-room"}
	for i, n := range nodes {
		for j := range 3 {
			in.join(t, n, fmt.Sprintf("user-%d-%d", i, j))
		}
	}
	both := split.open(t) // a user that is on both sides
	both.subscribe("presence-room", "user-0-0", `{"name":"user-0-0"}`)
	both.mustJoin(t, "presence-room")
	in.peers = append(in.peers, both)
	news := []*peer{nodes[0].open(t, "news"), nodes[1].open(t, "news"), split.open(t, "news")}
	eventually(t, 10*time.Second, func() string { return in.wrong(nodes) })
	watch := in.peers[0]
	watch.mu.Lock()
	watch.moves["presence-room"] = []string{}
	watch.mu.Unlock()

	c.set(true)
	begin := time.Now()
	// On both sides a user leaves and a user comes, and events are published.
	left, right := &room{channel: "presence-room"}, &room{channel: "presence-room"}
	for _, p := range in.peers {
		if p.node == split {
			right.peers = append(right.peers, p)
		} else {
			left.peers = append(left.peers, p)
		}
	}
	gone := right.peers[0] // user-2-0
	gone.close()
	right.peers, in.peers = right.peers[1:],
		slices.DeleteFunc(in.peers, func(p *peer) bool { return p == gone })
	in.users = slices.DeleteFunc(in.users, func(u string) bool { return u == "user-2-0" })
	late := split.open(t) // let in when Redis is given up
	late.quiet = true
	late.subscribe("presence-room", "late", `{"name":"late"}`)
	here := in.join(t, nodes[1], "here")
	left.peers = append(left.peers, here)
	for k := range 10 {
		if err := split.publish(apiEvent{Name: "meanwhile", Data: strconv.Itoa(k),
			Channel: "news"}); err != nil {
			t.Fatal(err)
		}
	}
	news[2].mustGet(t, "meanwhile", "9")
	local := time.Since(begin)
	late.mustJoin(t, "presence-room")
	in.peers, in.users, right.peers = append(in.peers, late), append(in.users, "late"),
		append(right.peers, late)
	slices.Sort(in.users)
	// a member that is cut off still sees the users from before
	eventually(t, 10*time.Second, func() string {
		for _, p := range right.peers {
			got := p.users("presence-room")
			if slices.Contains(got, "user-2-0") || !slices.Contains(got, "late") ||
				!slices.Contains(got, "user-1-0") {
				return fmt.Sprintf("a member of the node that is cut off sees %v", got)
			}
		}
		return ""
	})
	for _, p := range left.peers {
		if !p.wait(25*time.Second, func() bool {
			for user := range p.members["presence-room"] {
				if strings.HasPrefix(user, "user-2-") {
					return false
				}
			}
			return true
		}) {
			t.Fatalf("after %v a member of %s still sees those who are cut off", time.Since(begin),
				p.node.addr)
		}
	}
	announced := time.Since(begin)
	if got := watch.users("presence-room"); !slices.Contains(got, "user-0-0") {
		t.Errorf("user-0-0, who is on both sides, is gone: %v", got)
	}
	time.Sleep(15*time.Second - time.Since(begin))

	c.set(false)
	took := eventually(t, 30*time.Second, func() string {
		for _, n := range nodes {
			if why := n.notReady(); why != "" {
				return why
			}
		}
		if why := in.wrong(nodes); why != "" {
			return why
		}
		return notInStep(nodes, news, "news")
	})
	in.check(t)
	for i, p := range news {
		p.mu.Lock()
		var got []string
		for _, e := range p.log {
			if e.name == "meanwhile" {
				got = append(got, e.data)
			}
		}
		p.mu.Unlock()
		if !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}) {
			t.Errorf("a member of node %d has got %v of the events that were published beyond "+
				"the cut", i, got)
		}
	}
	watch.mu.Lock()
	moves := slices.Clone(watch.moves["presence-room"])
	watch.mu.Unlock()
	slices.Sort(moves)
	if want := []string{"+here", "+late", "+user-2-1", "+user-2-2", "-user-2-0", "-user-2-1",
		"-user-2-2"}; !slices.Equal(moves, want) {
		t.Errorf("a member on the other side has heard %v, want %v", moves, want)
	}
	alive(t, nodes)
	t.Logf("cut off for 15s: served alone after %v, its leaves announced after %v, "+
		"all lists right %v after the end", local.Round(time.Millisecond),
		announced.Round(time.Millisecond), took.Round(time.Millisecond))
}
