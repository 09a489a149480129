package test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestClusterMaxConnections lets clients come to two nodes at once until the limit of the app is
// reached, which bounds both nodes together.
func TestClusterMaxConnections(t *testing.T) {
	t.Parallel()
	const limit = 7
	r := startRedis(t)
	nodes := startNodes(t, 2, r.env(), "REVERB_APP_MAX_CONNECTIONS="+strconv.Itoa(limit))
	var mu sync.Mutex
	var in []*peer
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			p, err := nodes[i%2].connect(nil)
			if err != nil {
				if code := p.closeCode(); err != errNotOpened || code != 4004 {
					t.Errorf("a client was refused with %v and code %d, want 4004", err, code)
				}
				return
			}
			t.Cleanup(p.close)
			mu.Lock()
			in = append(in, p)
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(in) != limit {
		t.Fatalf("%d clients were let in, want %d", len(in), limit)
	}
	for _, n := range nodes {
		if p, err := n.connect(nil); err == nil || p.closeCode() != 4004 {
			t.Errorf("another client: %v, code %d, want 4004", err, p.closeCode())
		}
		eventually(t, 10*time.Second, func() string { // the refused connections have gone
			if got, err := n.ask("/connections", ""); got != fmt.Sprintf(`{"connections":%d}`,
				limit) {
				return fmt.Sprint(got, err)
			}
			return ""
		})
	}
	// When a client leaves, another may come, on either node.
	for i, p := range in[:4] {
		p.close()
		eventually(t, 10*time.Second, func() string {
			p, err := nodes[i%2].connect(nil)
			if err != nil {
				return err.Error()
			}
			t.Cleanup(p.close)
			return ""
		})
	}
	if p, err := nodes[0].connect(nil); err == nil || p.closeCode() != 4004 {
		t.Errorf("another client: %v, code %d, want 4004", err, p.closeCode())
	}
	// A node that has reconnected to Redis counts once, although Redis still knows its former
	// incarnation, because the other node has not come back.
	nodes[1].freeze()
	r.must("CLIENT", "KILL", "TYPE", "normal")
	eventually(t, 5*time.Second, func() string {
		got, err := nodes[0].ask("/connections", "")
		var count int
		if fmt.Sscanf(got, `{"connections":%d}`, &count); count > limit {
			t.Fatalf("after links were cut: %s, want %d", got, limit)
		}
		if count != limit {
			return fmt.Sprint(got, err)
		}
		return ""
	})
	nodes[1].thaw()
}

// TestClusterFeatures checks the promises of Pusher with members on several nodes.
func TestClusterFeatures(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	nodes := startNodes(t, 3, r.env())
	for _, f := range []struct {
		name string
		test func(*testing.T, []*clusterNode)
	}{
		{"presence", testClusterPresence},
		{"client events", testClusterClientEvents},
		{"cache", testClusterCache},
		{"cache again", testClusterCacheAgain},
		{"terminate", testClusterTerminate},
	} {
		t.Run(f.name, func(t *testing.T) { f.test(t, nodes) })
	}
	t.Run("the cache ends at once on all nodes", func(t *testing.T) {
		if err := nodes[0].publish(apiEvent{Name: "sky", Data: "sun",
			Channel: "cache-brief"}); err != nil {
			t.Fatal(err)
		}
		come := func() *peer {
			p := nodes[1].open(t)
			p.subscribe("cache-brief", "", "")
			p.mustJoin(t, "cache-brief")
			return p
		}
		if r.must("PEXPIRE", "reverb:app-id:cache-brief:cached", 500) != int64(1) {
			t.Fatal("Redis has not kept the event")
		}
		come().mustGet(t, "sky", "sun")
		eventually(t, 10*time.Second, func() string {
			p := come()
			eventually(t, 10*time.Second, func() string {
				if p.got("sky", "")+p.got("pusher:cache_miss", "") == 0 {
					return "neither an event nor a miss"
				}
				return ""
			})
			if p.got("sky", "") > 0 {
				return "it is still there"
			}
			return ""
		})
	})
}

// testClusterPresence checks the list that a member gets when it comes, without a wait, and that a
// user with two connections comes and leaves once.
func testClusterPresence(t *testing.T, nodes []*clusterNode) {
	const channel = "presence-list"
	var all []*peer
	var want []string
	join := func(n *clusterNode, user string) *peer {
		t.Helper()
		p := n.open(t)
		p.moves[channel] = []string{}
		p.subscribe(channel, user, `{"name":"`+user+`"}`)
		p.mustJoin(t, channel)
		if !slices.Contains(want, user) {
			want = append(want, user)
		}
		if got := p.users(channel); !slices.Equal(got, want) {
			t.Errorf("the subscription of %s was answered with %v, want %v", user, got, want)
		}
		p.mu.Lock()
		for user, info := range p.members[channel] {
			if info != `{"name":"`+user+`"}` {
				t.Errorf("%s was told that %s is %s", user, user, info)
			}
		}
		p.mu.Unlock()
		all = append(all, p)
		return p
	}
	for i := range 9 {
		join(nodes[i%3], "user-"+strconv.Itoa(i))
	}
	first := all[0]
	again := join(nodes[1], "user-0") // comes a second time, elsewhere
	heard := func(p *peer, moves int) string {
		p.mu.Lock()
		defer p.mu.Unlock()
		if got := len(p.moves[channel]); got < moves {
			return fmt.Sprintf("%d comings and goings, want %d", got, moves)
		}
		return ""
	}
	eventually(t, 10*time.Second, func() string { return heard(first, 8) })
	again.close()
	last := join(nodes[2], "user-9") // sees that user-0 is still here
	last.unsubscribe(channel)
	first.close()
	want = want[1 : len(want)-1]
	watch := all[1]
	eventually(t, 10*time.Second, func() string {
		if got := watch.users(channel); !slices.Equal(got, want) {
			return fmt.Sprintf("a member sees %v, want %v", got, want)
		}
		return ""
	})
	watch.mu.Lock()
	defer watch.mu.Unlock()
	var moves []string
	for i := 2; i < 9; i++ {
		moves = append(moves, "+user-"+strconv.Itoa(i))
	}
	moves = append(moves, "+user-9", "-user-9", "-user-0")
	got := slices.Clone(watch.moves[channel])
	if slices.Sort(got[len(got)-2:]); !slices.Equal(got,
		append(moves[:8:8], "-user-0", "-user-9")) {
		// of two connections: in either order
		t.Errorf("a member has heard %v, want %v", watch.moves[channel], moves)
	}
	if len(watch.problems) > 0 {
		t.Error(watch.problems)
	}
}

// testClusterClientEvents lets members on all nodes talk to each other.
func testClusterClientEvents(t *testing.T, nodes []*clusterNode) {
	for _, channel := range []string{"private-talk", "presence-talk"} {
		var all []*peer
		for i := range 6 {
			p, user := nodes[i%3].open(t), ""
			if channel == "presence-talk" {
				user = "user-" + strconv.Itoa(i)
			}
			p.subscribe(channel, user, "{}")
			p.mustJoin(t, channel)
			all = append(all, p)
		}
		for i, p := range all {
			p.send(`{"event":"client-word","channel":"` + channel + `","data":{"of":` +
				strconv.Itoa(i) + `,"float":1.0}}`)
			for j, q := range all {
				if i != j {
					q.mustGet(t, "client-word", `{"of":`+strconv.Itoa(i)+`,"float":1.0}`)
				}
			}
		}
		if err := nodes[0].publish(apiEvent{Name: "end", Data: "-", Channel: channel}); err != nil {
			t.Fatal(err)
		}
		for i, p := range all {
			p.mustGet(t, "end", "-") // no event comes after it
			p.mu.Lock()
			var got, want []string
			for _, e := range p.log {
				if e.name == "client-word" {
					got = append(got, e.user+e.data)
				}
			}
			for j := range all {
				user := ""
				if channel == "presence-talk" {
					user = "user-" + strconv.Itoa(j)
				}
				if i != j {
					want = append(want, fmt.Sprintf(`%s{"of":%d,"float":1.0}`, user, j))
				}
			}
			p.mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("member %d of %s has heard %v, want %v", i, channel, got, want)
			}
		}
	}
}

// testClusterCache publishes on cache channels on one node and subscribes on others, which had no
// members before.
func testClusterCache(t *testing.T, nodes []*clusterNode) {
	for _, channel := range []string{"cache-sky", "private-cache-sky", "presence-cache-sky"} {
		user := ""
		if channel == "presence-cache-sky" {
			user = "somebody"
		}
		come := func(n *clusterNode) *peer {
			p := n.open(t)
			p.subscribe(channel, user, "{}")
			p.mustJoin(t, channel)
			return p
		}
		come(nodes[0]).mustGet(t, "pusher:cache_miss", "")
		for round := range 3 {
			at, data := nodes[(round+1)%3], "sun-"+strconv.Itoa(round)
			if err := at.publish(apiEvent{Name: "sky", Data: data, Channel: channel}); err != nil {
				t.Fatal(err)
			}
			for i, n := range nodes {
				p := come(n)
				p.mustGet(t, "sky", data)
				if got, missed := p.got("sky", ""), p.got("pusher:cache_miss", ""); got != 1 ||
					missed != 0 {
					t.Errorf("a member of %s on node %d has got %d events and missed %d, "+
						"in round %d", channel, i, got, missed, round)
				}
			}
		}
		if channel == "cache-sky" {
			continue
		}
		sender, other := come(nodes[0]), come(nodes[1])
		sender.send(`{"event":"client-cloud","channel":"` + channel + `","data":{}}`)
		other.mustGet(t, "client-cloud", "{}")
		late := come(nodes[2])
		if late.mustGet(t, "sky", "sun-2"); late.got("client-cloud", "") != 0 {
			t.Errorf("%s has kept a client event", channel)
		}
	}
}

// testClusterCacheAgain lets a member subscribe again as soon as an event was accepted on another
// node. It must not get a cache miss.
func testClusterCacheAgain(t *testing.T, nodes []*clusterNode) {
	p := nodes[0].open(t)
	for i := range 50 {
		channel := "cache-again-" + strconv.Itoa(i)
		p.subscribe(channel, "", "")
		p.mustJoin(t, channel)
		if err := nodes[1].publish(apiEvent{Name: "sky", Data: channel,
			Channel: channel}); err != nil {
			t.Fatal(err)
		}
		p.subscribe(channel, "", "")
		answers := func(name string) (n int) { // with p's lock held
			for _, e := range p.log {
				if e.name == name && e.channel == channel {
					n++
				}
			}
			return n
		}
		if !p.wait(10*time.Second, func() bool {
			return answers("pusher_internal:subscription_succeeded") == 2 &&
				answers("sky")+answers("pusher:cache_miss") == 3
		}) {
			t.Fatalf("%s: the second subscription is not answered", channel)
		}
		if n := p.got("pusher:cache_miss", ""); n != i+1 {
			t.Fatalf("%s: %d misses, want %d: the event was accepted before the second "+
				"subscription", channel, n, i+1)
		}
	}
}

// testClusterTerminate closes the connections of a user wherever they are.
func testClusterTerminate(t *testing.T, nodes []*clusterNode) {
	var victims, others []*peer
	for i := range 6 {
		p := nodes[i%3].open(t)
		p.subscribe("presence-court", "victim", "{}")
		p.mustJoin(t, "presence-court")
		q := nodes[i%3].open(t)
		q.subscribe("presence-court", "other-"+strconv.Itoa(i), "{}")
		q.mustJoin(t, "presence-court")
		victims, others = append(victims, p), append(others, q)
	}
	if code, b, err := nodes[2].api("POST", "/users/victim/terminate_connections", nil,
		[]byte("{}")); err != nil || code != 200 {
		t.Fatalf("terminate: status %d: %s, %v", code, b, err)
	}
	for i, p := range victims {
		if !p.wait(10*time.Second, func() bool { return p.ended }) {
			t.Fatalf("the victim on node %d is still connected", i%3)
		}
		if code := p.closeCode(); code != 4009 {
			t.Errorf("the victim on node %d was closed with %d, want 4009", i%3, code)
		}
	}
	for i, p := range others {
		if !p.wait(10*time.Second, func() bool {
			_,
				here := p.members["presence-court"]["victim"]
			return !here
		}) {
			t.Errorf("a member of node %d still sees the victim", i%3)
		}
	}
	if err := nodes[0].publish(apiEvent{Name: "end", Data: "-",
		Channel: "presence-court"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range others {
		p.mustGet(t, "end", "-")
	}
}

// TestRedisAwayAtStart starts nodes before there is a Redis.
func TestRedisAwayAtStart(t *testing.T) {
	t.Parallel()
	need(t, "redis-server")
	r := newRedis(t)
	nodes := []*clusterNode{startNode(t, r.env()), startNode(t, r.env())}
	var in []*peer
	rooms := make([]*room, 2) // of each node
	for i, n := range nodes {
		if n.notReady() == "" {
			t.Errorf("node %d says that it is ready without Redis", i)
		}
		in = append(in, n.open(t, "news"), n.open(t, "news"))
		rooms[i] = &room{channel: "presence-room"}
		for j := range 2 {
			rooms[i].join(t, n, fmt.Sprintf("user-%d-%d", i, j))
		}
		if err := n.publish(apiEvent{Name: "alone", Data: strconv.Itoa(i),
			Channel: "news"}); err != nil {
			t.Fatal(err)
		}
		for _, p := range in[2*i:] {
			p.mustGet(t, "alone", strconv.Itoa(i))
		}
		eventually(t, 10*time.Second, func() string {
			for _, p := range rooms[i].peers {
				if got := p.users("presence-room"); !slices.Equal(got, rooms[i].users) {
					return fmt.Sprintf("a member sees %v, want %v", got, rooms[i].users)
				}
			}
			return ""
		})
	}
	begin := time.Now()
	r.start()
	both := &room{"presence-room", append(rooms[0].peers, rooms[1].peers...),
		append(rooms[0].users, rooms[1].users...)}
	eventually(t, 20*time.Second, func() string {
		for _, n := range nodes {
			if why := n.notReady(); why != "" {
				return why
			}
		}
		if why := both.wrong(nodes); why != "" {
			return why
		}
		return notInStep(nodes, in, "news")
	})
	t.Logf("one cluster %v after the start of Redis", time.Since(begin).Round(time.Millisecond))
	both.check(t)
}

// TestClusterNodeStops ends a node with SIGTERM. The others hear of it at once, not when its lease
// ends.
func TestClusterNodeStops(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	nodes := startNodes(t, 3, r.env())
	in := &room{channel: "presence-room"}
	for i, n := range nodes[:2] {
		in.join(t, n, "user-"+strconv.Itoa(i))
	}
	for i := range 20 {
		p := nodes[2].open(t, "news")
		p.subscribe("presence-room", "away-"+strconv.Itoa(i), "{}")
		p.mustJoin(t, "presence-room")
	}
	eventually(t, 10*time.Second, func() string {
		for _, p := range in.peers {
			if got := p.users("presence-room"); len(got) != 22 {
				return fmt.Sprintf("a member sees %d, want 22", len(got))
			}
		}
		return ""
	})
	nodes[2].cmd.Process.Signal(syscall.SIGTERM)
	took := eventually(t, 20*time.Second, func() string {
		if why := in.wrong(nodes[:2]); why != "" {
			return why
		}
		for _, n := range nodes[:2] {
			a, _ := n.ask("/channels", "")
			b, _ := n.ask("/connections", "")
			if a != `{"channels":{"presence-room":{}}}` || b != `{"connections":2}` {
				return a + b
			}
		}
		return ""
	})
	if err := nodes[2].wait(20 * time.Second); err != nil {
		t.Errorf("the node ended with %v", err)
	}
	t.Logf("from SIGTERM until nothing is left of the node: %v", took.Round(time.Millisecond))
	if took > 6*time.Second {
		t.Errorf("it took %v from SIGTERM to the announced leaves; "+
			"a lease of 10s should not have to end", took)
	}
	in.check(t)
}
