package test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// believer is an application that keeps, by webhooks alone, who is where.
type believer struct {
	*httptest.Server
	t      testing.TB
	anchor string // the user who never leaves

	mu       sync.Mutex
	bodies   map[string]string // by ID
	there    map[string]bool   // "channel", and "channel user"
	rng      *rand.Rand
	failing  bool // some requests get no answer, or 500
	requests int
	repeats  int
	events   int
}

func newBeliever(t testing.TB, anchor string, seed uint64) *believer {
	b := &believer{t: t, anchor: anchor, bodies: map[string]string{}, there: map[string]bool{},
		rng: rand.New(rand.NewPCG(seed, 1)), failing: true}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *believer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return // its node was killed
	}
	raw, events, ok := readHook(b.t, recordedApp("main"), r.Header, text)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests++
	mood := b.rng.IntN(20)
	if b.failing && mood == 0 {
		w.WriteHeader(500)
		return
	}
	id := r.Header.Get("X-Reverb-Webhook-Id")
	switch was, again := b.bodies[id]; {
	case !again:
		b.bodies[id] = string(raw)
		for _, e := range events {
			b.hear(e)
		}
	case was != string(raw):
		b.t.Errorf("the request %s comes again with other events", id)
	default:
		b.repeats++
	}
	if b.failing && mood == 1 {
		panic(http.ErrAbortHandler) // it was heard, and the sender does not know
	}
}

// hear checks that an event is the reverse of the last of its kind, and that nobody says that the
// anchor has gone, or that its channel is empty.
func (b *believer) hear(e hookEvent) {
	b.events++
	key := strings.TrimSpace(e.Channel + " " + e.User)
	come := e.Name == "channel_occupied" || e.Name == "member_added"
	if b.there[key] == come {
		b.t.Errorf("%s %s, and it is known", e.Name, key)
	}
	if come {
		b.there[key] = true
		return
	}
	if e.User == b.anchor || e.User == "" && b.there[e.Channel+" "+b.anchor] {
		b.t.Errorf("%s %s, and somebody is there", e.Name, key)
	}
	delete(b.there, key)
}

// wrong compares what is believed with what a node says of its channels.
func (b *believer) wrong(n *clusterNode) string {
	text, err := n.ask("/channels", "filter_by_prefix=presence-")
	if err != nil {
		return err.Error()
	}
	var answer struct{ Channels map[string]struct{} }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return err.Error()
	}
	truth := map[string]bool{}
	for channel := range answer.Channels {
		truth[channel] = true
		users, err := n.users(channel)
		if err != nil {
			return err.Error()
		}
		for _, u := range users {
			truth[channel+" "+u] = true
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if maps.Equal(truth, b.there) {
		return ""
	}
	only := func(a, b map[string]bool) []string {
		return slices.DeleteFunc(slices.Sorted(maps.Keys(a)), func(k string) bool { return b[k] })
	}
	return fmt.Sprintf("the receiver alone knows %q, the nodes alone know %q",
		only(b.there, truth), only(truth, b.there))
}

// crowd are users that come and go.
type crowd struct {
	channels int
	stop     chan struct{}
	all      sync.WaitGroup
	mu       sync.Mutex
	nodes    []*clusterNode // those that take connections
	joined   int
}

func (c *crowd) node(by int) *clusterNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[by%len(c.nodes)]
}

// live is the life of a user: it joins a channel, somewhere, and goes, with or without a word. If
// its page is loaded again, it is back at once.
func (c *crowd) live(user string, rng *rand.Rand, pause time.Duration) {
	wait := func(d time.Duration) bool {
		select {
		case <-c.stop:
			return false
		case <-time.After(d):
			return true
		}
	}
	channel := ""
	for wait(time.Duration(rng.Int64N(int64(pause)))) {
		p, err := c.node(rng.IntN(3)).connect(nil)
		if err != nil {
			continue
		}
		if channel == "" || rng.IntN(3) > 0 {
			channel = "presence-" + strconv.Itoa(1+rng.IntN(c.channels-1))
		}
		if p.subscribe(channel, user, "{}"); p.join(channel, 10*time.Second) {
			c.mu.Lock()
			c.joined++
			c.mu.Unlock()
		}
		stays := wait(pause/2 + time.Duration(rng.Int64N(int64(pause))))
		if !stays && rng.IntN(2) == 0 {
			return // it is still there at the end
		}
		if rng.IntN(2) == 0 {
			p.unsubscribe(channel)
			p.wait(time.Second, func() bool { return p.ended || rng.IntN(2) == 0 })
		}
		p.close()
	}
}

// comeAndGo lets a crowd come and go on three nodes, while one of them is killed and Redis is
// restarted by restart. At the end the receiver knows who is where.
func comeAndGo(t *testing.T, env []string, restart func()) {
	users, channels, lasts, pause := 60, 8, 6*time.Second, 700*time.Millisecond
	if long() {
		users, channels, lasts, pause = 2000, 50, 2*time.Minute, 8*time.Second
	}
	s := seed(t)
	b := newBeliever(t, "anchor", s)
	nodes := startNodes(t, 3, env, "REVERB_WEBHOOK_URL="+b.URL,
		"REVERB_WEBHOOK_TIMEOUT=2", "REVERB_APP_DISCONNECT_GRACE_MS=500", "REVERB_REDIS_TIMEOUT=1")
	anchor := nodes[0].open(t)
	anchor.subscribe("presence-0", "anchor", "{}")
	anchor.mustJoin(t, "presence-0")
	c := &crowd{channels: channels, stop: make(chan struct{}), nodes: nodes}
	rng := rand.New(rand.NewPCG(s, 2))
	for i := range users {
		own := rand.New(rand.NewPCG(s, rng.Uint64()))
		c.all.Go(func() { c.live("u"+strconv.Itoa(i), own, pause) })
	}
	time.Sleep(lasts / 4)
	c.mu.Lock()
	c.nodes = nodes[:2:2]
	c.mu.Unlock()
	nodes[2].kill()
	time.Sleep(lasts / 4)
	if restart != nil {
		restart()
	}
	time.Sleep(lasts / 2)
	close(c.stop)
	c.all.Wait()
	b.mu.Lock()
	b.failing = false
	b.mu.Unlock()
	// the dead node is buried when its lease is over
	took := eventually(t, time.Minute, func() string {
		if why := b.wrong(nodes[1]); why != "" {
			return why
		}
		time.Sleep(time.Second) // it stays so
		return b.wrong(nodes[1])
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	t.Logf("%d joins, %d events in %d requests (%d of them repeats); the truth after %v", c.joined,
		b.events, b.requests, b.repeats, took.Round(time.Millisecond))
	if b.events < users {
		t.Errorf("%d events for %d users", b.events, users)
	}
}

// TestClusterWebhooks has one Redis, which is killed, and comes back with its data.
func TestClusterWebhooks(t *testing.T) {
	t.Parallel()
	r := startRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	comeAndGo(t, r.env(), func() {
		r.kill()
		r.start()
	})
}

// TestRedisClusterWebhooks has a Redis Cluster of three masters.
func TestRedisClusterWebhooks(t *testing.T) {
	t.Parallel()
	_, env := startRedisCluster(t)
	comeAndGo(t, env, nil)
}

// TestClusterWebhookTime measures how long after the script an idle lane is told.
func TestClusterWebhookTime(t *testing.T) {
	r := startRedis(t)
	b := newBeliever(t, "nobody", 1)
	b.failing = false
	nodes := startNodes(t, 2, r.env(), "REVERB_WEBHOOK_URL="+b.URL)
	var took []time.Duration
	for i := range 40 {
		channel := "presence-" + strconv.Itoa(i)
		p := nodes[i%2].open(t)
		begin := time.Now()
		p.subscribe(channel, "u", "{}")
		p.mustJoin(t, channel)
		eventually(t, 5*time.Second, func() string {
			b.mu.Lock()
			defer b.mu.Unlock()
			if !b.there[channel+" u"] {
				return "nobody has told of " + channel
			}
			return ""
		})
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	t.Logf("told %v after the subscription was asked for in the middle, %v at most",
		took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	if took[len(took)/2] > 200*time.Millisecond {
		t.Errorf("an idle lane is told after %v in the middle", took[len(took)/2])
	}
}

// TestClusterWebhookStop stops a node in order, the one that delivers, too: who is back on another
// node within the grace is not told of, who is not is told of once.
func TestClusterWebhookStop(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b := newBeliever(t, "nobody", 1)
	b.failing = false
	nodes := startNodes(t, 3, r.env(), "REVERB_WEBHOOK_URL="+b.URL,
		"REVERB_APP_DISCONNECT_GRACE_MS=2000")
	last := nodes[2].open(t)
	for round, n := range nodes[:2] {
		back, gone := fmt.Sprint("presence-back-", round), fmt.Sprint("presence-gone-", round)
		p, q := n.open(t), n.open(t)
		p.subscribe(back, "u", "{}")
		q.subscribe(gone, "v", "{}")
		p.mustJoin(t, back)
		q.mustJoin(t, gone)
		known := func(events int, channel string, is bool) string {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.events != events || b.there[channel] != is || !b.there[back+" u"] {
				return fmt.Sprintf("%d events, want %d; known are %q", b.events, events,
					slices.Sorted(maps.Keys(b.there)))
			}
			return ""
		}
		eventually(t, 10*time.Second, func() string { return known(8*round+4, gone, true) })
		go n.stop()
		if !p.wait(10*time.Second, func() bool { return p.ended }) {
			t.Fatal("a node that stops leaves a connection open")
		}
		last.subscribe(back, "u", "{}")
		last.mustJoin(t, back)
		// A node that has just started tells nothing of what has gone for 30 s.
		eventually(t, time.Minute, func() string { return known(8*round+6, gone, false) })
		mark := fmt.Sprint("presence-mark-", round) // nothing more has come before it
		last.subscribe(mark, "u", "{}")
		last.mustJoin(t, mark)
		eventually(t, 10*time.Second, func() string { return known(8*round+8, mark, true) })
	}
}

// TestClusterFirstWebhook reloads a node without webhooks twice, when its app has one: both times
// the node says that a restart is needed.
func TestClusterFirstWebhook(t *testing.T) {
	t.Parallel()
	r, dir := startRedis(t), t.TempDir()
	env := write(t, dir, ".env", nil)
	n := startNodes(t, 1, r.env(), "REVERB_ENV_FILE="+env)[0]
	write(t, dir, ".env", []byte("REVERB_WEBHOOK_URL=http://127.0.0.1:1/\n"))
	for range 2 {
		n.mu.Lock()
		n.log = nil
		n.mu.Unlock()
		n.cmd.Process.Signal(syscall.SIGHUP)
		n.says("msg=reloaded apps=1")
		n.says("a restart is needed for it: the first webhook of a node")
	}
}
