package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// wantAnswer compares the answer of a node with a JSON text.
func wantAnswer(t *testing.T, n *clusterNode, path, query, want string) {
	t.Helper()
	got, err := n.ask(path, query)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(got), &a); err != nil || !reflect.DeepEqual(a, b) {
		t.Fatalf("%s?%s on %s: got %s, want %s", path, query, n.addr, got, want)
	}
}

// TestQueriesWithFrozenNode asks two nodes for the state of the cluster while the third
// does not answer: before its lease is over, when its members are still counted, and
// after that.
func TestQueriesWithFrozenNode(t *testing.T) {
	r := startRedis(t)
	nodes := startNodes(t, 3, r.env())
	for i, n := range nodes {
		for range i + 1 { // 1, 2 and 3 on the nodes, 6 in all
			n.open(t, "news", "private-cache-weather")
		}
		for j := range 2 {
			p := n.open(t)
			p.subscribe("presence-room", fmt.Sprintf("user-%d", i+j), "{}") // 0 1, 1 2, 2 3
			p.mustJoin(t, "presence-room")
		}
	}
	nodes[2].open(t, "only-on-the-last")
	if err := nodes[2].publish(apiEvent{Name: "sun", Data: "30",
		Channel: "private-cache-weather"}); err != nil {
		t.Fatal(err)
	}
	ask := func(n *clusterNode, frozen bool) []time.Duration {
		subscriptions, users, connections, others := 6, `{"id":"user-0"},{"id":"user-1"},`+
			`{"id":"user-2"},{"id":"user-3"}`, 13, `"only-on-the-last":{},`
		count := 4
		if !frozen {
			subscriptions, users, connections, others, count = 3,
				`{"id":"user-0"},{"id":"user-1"},{"id":"user-2"}`, 7, "", 3
		}
		var took []time.Duration
		for _, q := range []struct{ path, query, want string }{
			{"/channels", "", `{"channels":{"news":{},` + others +
				`"presence-room":{},"private-cache-weather":{}}}`},
			{"/channels", "filter_by_prefix=presence-&info=user_count",
				fmt.Sprintf(`{"channels":{"presence-room":{"user_count":%d}}}`, count)},
			{"/channels", "filter_by_prefix=ne&info=subscription_count",
				fmt.Sprintf(`{"channels":{"news":{"subscription_count":%d}}}`, subscriptions)},
			{"/channels/news", "info=subscription_count",
				fmt.Sprintf(`{"occupied":true,"subscription_count":%d}`, subscriptions)},
			{"/channels/presence-room", "info=user_count",
				fmt.Sprintf(`{"occupied":true,"user_count":%d}`, count)},
			{"/channels/nobody", "info=subscription_count",
				`{"occupied":false,"subscription_count":0}`},
			{"/connections", "", fmt.Sprintf(`{"connections":%d}`, connections)},
		} {
			begin := time.Now()
			wantAnswer(t, n, q.path, q.query, q.want)
			took = append(took, time.Since(begin))
		}
		begin := time.Now()
		got, err := n.users("presence-room")
		took = append(took, time.Since(begin))
		var want []string
		for i := range count {
			want = append(want, fmt.Sprintf("user-%d", i))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("users: got %v, %v, want %s", got, err, users)
		}
		return took
	}
	settled := func(frozen bool, limit time.Duration) {
		subscriptions := map[bool]int{true: 6, false: 3}[frozen]
		connections := map[bool]int{true: 13, false: 7}[frozen]
		for _, n := range nodes[:2] {
			eventually(t, limit, func() string {
				a, _ := n.ask("/channels/news", "info=subscription_count")
				b, _ := n.ask("/connections", "")
				c, _ := n.users("presence-room")
				d, _ := n.ask("/channels", "filter_by_prefix=only")
				if a != fmt.Sprintf(`{"occupied":true,"subscription_count":%d}`, subscriptions) ||
					b != fmt.Sprintf(`{"connections":%d}`, connections) ||
					len(c) != map[bool]int{true: 4, false: 3}[frozen] ||
					(d == `{"channels":{}}`) == frozen {
					return fmt.Sprint(a, b, c, d)
				}
				return ""
			})
		}
	}
	settled(true, 5*time.Second)
	nodes[2].freeze()
	p99 := func(when string, members bool) {
		var took []time.Duration
		for range 40 {
			for _, n := range nodes[:2] {
				took = append(took, ask(n, members)...)
			}
		}
		slices.Sort(took)
		at := took[len(took)*99/100]
		t.Logf("%s: %d queries, median %v, 99th percentile %v, at most %v", when, len(took),
			took[len(took)/2], at, took[len(took)-1])
		if at > 50*time.Millisecond {
			t.Errorf("%s: the 99th percentile is %v; at most 50ms are allowed", when, at)
		}
	}
	p99("while the frozen node's lease is valid", true)
	settled(false, 20*time.Second)
	p99("when it is over", false)
	nodes[2].thaw()
	settled(true, 5*time.Second)
	for _, n := range nodes {
		ask(n, true)
	}
}

// garbage makes what a stranger may publish on a channel: noise, and messages of nodes with a
// change.
func garbage(seen []string, rng *rand.Rand) string {
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	if len(seen) == 0 || rng.IntN(4) == 0 {
		b := noise(rng.IntN(200))
		if len(b) > 1 && rng.IntN(2) == 0 {
			b[0], b[1] = 1, "e+-mst"[rng.IntN(6)]
		}
		return string(b)
	}
	b := []byte(seen[rng.IntN(len(seen))])
	switch rng.IntN(5) {
	case 0:
		b = b[:rng.IntN(len(b))]
	case 1:
		b = append(b, noise(1+rng.IntN(20))...)
	case 2:
		i := rng.IntN(len(b))
		b[i] ^= byte(1 << rng.IntN(8))
	case 3:
		i := rng.IntN(len(b))
		b = slices.Insert(b, i, noise(1)...)
	case 4:
		i := rng.IntN(len(b))
		b = slices.Delete(b, i, min(len(b), i+1+rng.IntN(4)))
	}
	return string(b)
}

// TestGarbageOnTheBus publishes nonsense on every channel that the nodes listen to, and
// envelopes of a version to come.
func TestGarbageOnTheBus(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	nodes := startNodes(t, 2, r.env())
	room := &room{channel: "presence-room"}
	for i, n := range nodes {
		room.join(t, n, "user-"+strconv.Itoa(i))
	}
	in := []*peer{nodes[0].open(t, "news", "cache-news"), nodes[1].open(t, "news", "cache-news")}

	// Messages of nodes, to be changed.
	c, err := r.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	listen := redis.PubSubConn{Conn: c}
	if err := listen.PSubscribe("reverb:*"); err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 10_000)
	go func() {
		for {
			switch m := listen.ReceiveWithTimeout(0).(type) {
			case redis.Message:
				heard <- string(m.Data)
			case error:
				close(heard)
				return
			}
		}
	}()
	for i := range 50 {
		if err := nodes[i%2].publish(apiEvent{Name: "real", Data: strconv.Itoa(i),
			Channel: []string{"news", "cache-news"}[i/2%2]}); err != nil {
			t.Fatal(err)
		}
		p := nodes[i%2].open(t)
		p.subscribe("presence-room", "passing", `{"a":1}`)
		p.mustJoin(t, "presence-room")
		p.close()
	}
	nodes[0].api("POST", "/users/nobody/terminate_connections", nil, []byte("{}"))
	eventually(t, 5*time.Second, func() string { return room.wrong(nodes) })
	for _, p := range in {
		p.mustGet(t, "real", "49")
	}
	c.Close()
	var seen []string
	kinds := map[byte]int{}
	for m := range heard {
		if len(m) > 1 {
			seen = append(seen, m)
			kinds[m[1]]++
		}
	}
	if len(kinds) < 5 {
		t.Fatalf("the nodes have said only %v", kinds)
	}
	received, before := make([]int, 2), []int{nodes[0].logged(), nodes[1].logged()}
	for i, p := range in {
		p.mu.Lock()
		received[i] = len(p.log)
		p.mu.Unlock()
	}

	channels, err := redis.Strings(r.do("PUBSUB", "CHANNELS", "*"))
	if err != nil {
		t.Fatal(err)
	}
	sharded, err := redis.Strings(r.do("PUBSUB", "SHARDCHANNELS", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(channels)+len(sharded) < 6 {
		t.Fatalf("the nodes listen to %v and %v", channels, sharded)
	}
	stranger, err := r.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	const each = 10_000
	rng := rand.New(rand.NewPCG(seed(t), 0))
	sent, newer := 0, 0
	flood := func(command, channel string) {
		for i := range each {
			m := garbage(seen, rng)
			if i%100 == 0 { // as a later version might write it, otherwise correct
				m = string([]byte{2 + byte(i%200)}) + seen[rng.IntN(len(seen))][1:]
				newer++
			}
			if err := stranger.Send(command, channel, m); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		if _, err := stranger.Do(""); err != nil {
			t.Fatal(err)
		}
	}
	for _, channel := range channels {
		flood("PUBLISH", channel)
	}
	for _, channel := range sharded {
		flood("SPUBLISH", channel)
	}
	// The nodes go on.
	if why := notInStep(nodes, in, "news"); why != "" {
		t.Fatal(why)
	}
	alive(t, nodes)
	if why := room.wrong(nodes); why != "" {
		t.Error(why)
	}
	room.check(t)
	for i, p := range in {
		p.mu.Lock()
		if got := len(p.log); got != received[i]+2 {
			t.Errorf("a member has got %d events from strangers: %v", got-received[i]-2,
				p.log[received[i]:min(got, received[i]+5)])
		}
		p.mu.Unlock()
	}
	for i, n := range nodes {
		malformed, unknown := n.metric("redis_malformed_total"), n.metric("redis_unknown_total")
		t.Logf("node %d: %d malformed, %d of another version, of %d sent on %d channels", i,
			malformed, unknown, sent, len(channels)+len(sharded))
		if malformed == 0 || unknown < newer/2 {
			t.Errorf("node %d has counted %d malformed and %d of another version", i, malformed,
				unknown)
		}
		if more := n.logged() - before[i]; more > 10 {
			t.Errorf("the log has grown by %d lines", more)
		}
	}
	last := room.join(t, nodes[1], "last")
	eventually(t, 5*time.Second, func() string { return room.wrong(nodes) })
	room.leave(last, "last")
	eventually(t, 5*time.Second, func() string { return room.wrong(nodes) })
	room.check(t)
}
