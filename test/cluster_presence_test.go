package test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// churnUser is a user that comes and goes.
type churnUser struct {
	name, channel string
	careful       bool // it comes again only after its last leave was announced
	conns         []*peer
	present       bool // it has come, and its leave was not announced yet
	came          int  // how often it has come
	// was on a node that was frozen or killed meanwhile: may have come more often
	vague bool
}

// prune forgets connections that have ended.
func (u *churnUser) prune() {
	u.conns = slices.DeleteFunc(u.conns, func(p *peer) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.ended
	})
}

// churn is the state of TestPresenceChurn.
type churn struct {
	t         *testing.T
	users     []*churnUser
	observers map[string][]*peer // by channel, on nodes without faults
	healthy   atomic.Pointer[[]*clusterNode]
	steps     atomic.Int64
	failed    atomic.Int64 // connections that were refused

	mu       sync.Mutex
	problems []string // of connections that were closed since
}

// step lets a user come or go, as rng decides.
func (c *churn) step(u *churnUser, rng *rand.Rand, frozen *atomic.Pointer[clusterNode]) {
	u.prune()
	if len(u.conns) == 0 && u.present {
		if u.careful {
			o := c.observers[u.channel][0]
			if !o.wait(25*time.Second, func() bool {
				_,
					here := o.members[u.channel][u.name]
				return !here
			}) {
				c.t.Errorf("%s is still in %s", u.name, u.channel)
				return
			}
		}
		u.present = false
	}
	c.steps.Add(1)
	if len(u.conns) > 0 && (len(u.conns) == 3 || rng.IntN(2) == 0) {
		i := rng.IntN(len(u.conns))
		p := u.conns[i]
		if rng.IntN(2) == 0 {
			p.unsubscribe(u.channel)
		}
		p.close()
		p.mu.Lock()
		problems := p.problems
		p.mu.Unlock()
		c.mu.Lock()
		c.problems = append(c.problems, problems...)
		c.mu.Unlock()
		u.vague = u.vague || p.node == frozen.Load()
		u.conns = slices.Delete(u.conns, i, i+1)
		return
	}
	nodes := *c.healthy.Load()
	n := nodes[rng.IntN(len(nodes))]
	p, err := n.connect(nil)
	if err == nil {
		p.quiet = true
		p.subscribe(u.channel, u.name, "{}")
	}
	if err != nil || !p.join(u.channel, 40*time.Second) {
		if p != nil {
			p.close()
		}
		u.vague = true
		c.failed.Add(1)
		return
	}
	if !u.present {
		u.present = true
		u.came++
	}
	u.conns = append(u.conns, p)
}

// truth lists the users that are in a channel.
func (c *churn) truth() map[string][]string {
	in := map[string][]string{}
	for _, u := range c.users {
		if u.prune(); len(u.conns) > 0 {
			in[u.channel] = append(in[u.channel], u.name)
		}
	}
	for channel, observers := range c.observers {
		for i := range observers {
			in[channel] = append(in[channel], "observer-"+strconv.Itoa(i))
		}
		slices.Sort(in[channel])
	}
	return in
}

// wrong says which list of members is not true.
func (c *churn) wrong(nodes []*clusterNode) string {
	in := c.truth()
	compare := func(p *peer, channel string) string {
		if got := p.users(channel); !slices.Equal(got, in[channel]) {
			return fmt.Sprintf("a member of %s on %s sees %s", channel, p.node.addr,
				unlikeUsers(got, in[channel]))
		}
		return ""
	}
	for _, u := range c.users {
		for _, p := range u.conns {
			if why := compare(p, u.channel); why != "" {
				return why
			}
		}
	}
	for channel, observers := range c.observers {
		for _, p := range observers {
			if why := compare(p, channel); why != "" {
				return why
			}
		}
		for _, n := range nodes {
			got, err := n.users(channel)
			if err != nil {
				return err.Error()
			}
			if !slices.Equal(got, in[channel]) {
				return fmt.Sprintf("%s says of %s: %s", n.addr, channel,
					unlikeUsers(got, in[channel]))
			}
		}
	}
	return ""
}

func unlikeUsers(got, want []string) string {
	var more, less []string
	for _, u := range got {
		if !slices.Contains(want, u) {
			more = append(more, u)
		}
	}
	for _, u := range want {
		if !slices.Contains(got, u) {
			less = append(less, u)
		}
	}
	return fmt.Sprintf("%d members, want %d; too many: %v, missing: %v", len(got), len(want), more,
		less)
}

// TestPresenceChurn lets 2,000 users come and go on five nodes, with up to three
// connections each. One node is killed and one frozen for longer than its lease.
func TestPresenceChurn(t *testing.T) {
	t.Parallel()
	const users, channels, workers = 2000, 40, 25
	length, pause := 60*time.Second, 150*time.Millisecond // of each worker
	if long() {
		pause = 60 * time.Millisecond
	}
	if testing.Short() {
		length = 32 * time.Second
	}
	r := startRedis(t)
	nodes := startNodes(t, 5, r.env())
	killed, toFreeze := nodes[4], nodes[3]
	c := &churn{t: t, observers: map[string][]*peer{}}
	c.healthy.Store(&nodes)
	defer func() {
		for _, u := range c.users {
			for _, p := range u.conns {
				p.close()
			}
		}
	}()
	for i := range channels {
		channel := "presence-" + strconv.Itoa(i)
		for j := range 2 {
			o := nodes[j].open(t)
			o.quiet = true
			o.moves[channel] = []string{}
			o.subscribe(channel, "observer-"+strconv.Itoa(j), "{}")
			o.mustJoin(t, channel)
			c.observers[channel] = append(c.observers[channel], o)
		}
		o := c.observers[channel][0]
		if !o.wait(10*time.Second, func() bool { return len(o.members[channel]) == 2 }) {
			t.Fatal("the observers do not see each other")
		}
		for _, o := range c.observers[channel] {
			o.mu.Lock()
			o.moves[channel] = []string{} // from here on both hear the same events
			o.mu.Unlock()
		}
	}
	for i := range users {
		c.users = append(c.users, &churnUser{name: "user-" + strconv.Itoa(i),
			channel: "presence-" + strconv.Itoa(i%channels), careful: i%2 == 0})
	}
	var frozen atomic.Pointer[clusterNode]
	var wg sync.WaitGroup
	end := time.Now().Add(length)
	from := seed(t)
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(from, uint64(w)))
			own := c.users[w*users/workers : (w+1)*users/workers]
			for i := 0; time.Now().Before(end) && !t.Failed(); i++ {
				u := own[i%len(own)] // each user comes once
				if i >= len(own) {
					u = own[rng.IntN(len(own))]
					time.Sleep(pause/2 + time.Duration(rng.Int64N(int64(pause))))
				}
				c.step(u, rng, &frozen)
			}
		})
	}
	time.Sleep(length / 4)

	// The victims have connections only on the node that is killed.
	for i := range 10 {
		channel := "presence-" + strconv.Itoa(i)
		killedPeer := killed.open(t)
		killedPeer.subscribe(channel, "victim", "{}")
		killedPeer.mustJoin(t, channel)
		o := c.observers[channel][0]
		if !o.wait(10*time.Second, func() bool {
			_,
				here := o.members[channel]["victim"]
			return here
		}) {
			t.Fatal("a victim is not seen")
		}
	}
	few := nodes[:3]
	c.healthy.Store(&few)
	frozen.Store(toFreeze)
	toFreeze.freeze()
	killed.kill()
	began := time.Now()
	var announced time.Duration
	for i := range 10 {
		channel := "presence-" + strconv.Itoa(i)
		o := c.observers[channel][0]
		if !o.wait(30*time.Second-time.Since(began),
			func() bool { _, here := o.members[channel]["victim"]; return !here }) {
			t.Fatalf("after %v the victim is still in %s", time.Since(began), channel)
		}
		announced = time.Since(began)
	}
	t.Logf("from SIGKILL to the announced leaves: %v", announced.Round(time.Millisecond))
	if announced > 15*time.Second {
		t.Errorf("it took %v from SIGKILL to the announced leaves; at most 15s are allowed",
			announced)
	}
	time.Sleep(20*time.Second - time.Since(began))
	toFreeze.thaw()
	more := nodes[:4]
	c.healthy.Store(&more)
	wg.Wait()
	if t.Failed() {
		return
	}

	took := eventually(t, 15*time.Second, func() string { return c.wrong(more) })
	alive(t, more)
	conns := 0
	for _, u := range c.users {
		for _, p := range u.conns {
			conns++
			p.mu.Lock()
			c.problems = append(c.problems, p.problems...)
			p.mu.Unlock()
		}
	}
	moved := 0
	for channel, observers := range c.observers {
		first, second := observers[0].moves[channel], observers[1].moves[channel]
		moved += len(first)
		if !slices.Equal(first, second) {
			t.Errorf("%s: the observers have heard %d and %d comings and goings, "+
				"or in another order", channel, len(first), len(second))
		}
		for _, o := range observers {
			c.problems = append(c.problems, o.problems...)
		}
	}
	for i, why := range c.problems {
		if i < 10 {
			t.Error(why)
		}
	}
	exact, wrong := 0, 0
	for _, u := range c.users {
		if !u.careful || u.vague || onNode(u, toFreeze) {
			continue
		}
		exact++
		came, went := 0, 0
		for _, m := range c.observers[u.channel][0].moves[u.channel] {
			if name, ok := strings.CutPrefix(m, "+"); ok && name == u.name {
				came++
			} else if name, ok := strings.CutPrefix(m, "-"); ok && name == u.name {
				went++
			}
		}
		left := u.came
		if len(u.conns) > 0 {
			left--
		}
		if came != u.came || went != left {
			if wrong++; wrong <= 5 {
				t.Errorf("%s came %d times and left %d times; %d and %d were announced", u.name,
					u.came, left, came, went)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d users were announced too often or too seldom", wrong, exact)
	}
	t.Logf("%d users on %d channels, %d comings and goings of connections (%d not let in), "+
		"%d announced; at the end %d connections, all lists true after %v; "+
		"%d users counted exactly",
		users, channels, c.steps.Load(), c.failed.Load(), moved, conns,
		took.Round(time.Millisecond), exact)
}

func onNode(u *churnUser, n *clusterNode) bool {
	return slices.ContainsFunc(u.conns, func(p *peer) bool { return p.node == n })
}
