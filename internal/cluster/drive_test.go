package cluster

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/census"
	"reverb/internal/cluster/redismodel"
	"reverb/internal/envelopes"
	"reverb/internal/envelopes/scripts"
	"reverb/internal/lib/resp"
	"reverb/internal/lib/settle"
)

// memRedis is a Redis that the goroutines of several nodes use: the model behind a lock.
type memRedis struct {
	mu     sync.Mutex
	model  *redismodel.Redis
	links  []*memLink
	down   bool        // it accepts no sessions
	dialed []time.Time // when it was asked for one

	mute      bool     // it owes its answers
	inherited *memLink // that the next Dial returns; nil: none
}

func newMemRedis() *memRedis {
	m := new(memRedis)
	m.model = redismodel.New(scripts.New(false, false).Texts(), nil, m.publish, m.listeners)
	return m
}

// publish delivers a message. The caller holds mu.
func (m *memRedis) publish(channel, message string) (heard int64) {
	for _, l := range m.links {
		if l.listens[channel] {
			heard++
			l.push("message", channel, message)
		}
	}
	return heard
}

func (m *memRedis) listeners(channel string) (n int64) {
	for _, l := range m.links {
		if l.listens[channel] {
			n++
		}
	}
	return n
}

// do runs a command of the test's.
func (m *memRedis) do(args ...string) resp.Reply {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.model.Now = time.Now().UnixMilli()
	return m.model.Do(args...)
}

// fail ends all sessions, and says whether new ones begin.
func (m *memRedis) fail(down bool) {
	m.mu.Lock()
	m.down = down
	links := slices.Clone(m.links)
	m.mu.Unlock()
	for _, l := range links {
		l.Fail(io.EOF)
	}
}

// Dial is a Dialer's.
func (m *memRedis) Dial(context.Context, []string) (Link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.inherited; l != nil {
		m.inherited = nil
		return l, nil
	}
	m.dialed = append(m.dialed, time.Now())
	if m.down {
		return nil, errors.New("connection refused")
	}
	l := &memLink{redis: m, listens: map[string]bool{}, done: make(chan struct{}),
		replies: make(chan Batch, 1000), pushes: make(chan Batch, 1000)}
	m.links = append(m.links, l)
	return l, nil
}

// Inherit takes over the session whose number is state.
func (m *memRedis) Inherit(state []byte, _ []int) (Link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, l := range m.links {
		if strconv.Itoa(i) == string(state) {
			next := *l
			next.done, next.held = make(chan struct{}), false
			m.links[i], m.inherited = &next, &next
			return &next, nil
		}
	}
	return nil, errors.New("no such session")
}

// memLink is a session with a memRedis. Its channels hold all that a test sends.
type memLink struct {
	redis           *memRedis
	listens         map[string]bool // guarded by redis.mu
	why             error           // guarded by redis.mu
	unsent          []resp.Reply    // owned by the node's goroutine
	replies, pushes chan Batch
	done            chan struct{}
	held            bool // guarded by redis.mu
}

func (l *memLink) hold(is bool) {
	l.redis.mu.Lock()
	defer l.redis.mu.Unlock()
	l.held = is
}
func (l *memLink) Hold()    { l.hold(true) }
func (l *memLink) Release() { l.hold(false) }
func (l *memLink) Held() bool {
	l.redis.mu.Lock()
	defer l.redis.mu.Unlock()
	return l.held
}
func (l *memLink) Pass(to func(state []byte, fds []int) error) error {
	l.redis.mu.Lock()
	i := slices.Index(l.redis.links, l)
	l.redis.mu.Unlock()
	return to([]byte(strconv.Itoa(i)), nil)
}

func (l *memLink) push(words ...string) {
	r := resp.Reply{Kind: resp.Push}
	for _, w := range words {
		r.Items = append(r.Items, resp.Reply{Kind: resp.Text, Text: w})
	}
	l.pushes <- Batch{Replies: []resp.Reply{r}}
}

func (l *memLink) Layout() (version string, masters int, byBucket []int) {
	return "7.0", 1, []int{0}
}
func (l *memLink) Command(_ int, args ...string) {
	l.unsent = append(l.unsent, l.redis.do(args...))
}
func (l *memLink) Subscription(_ int, args ...string) {
	l.redis.mu.Lock()
	defer l.redis.mu.Unlock()
	if args[0] == "PING" {
		l.push("pong", "")
		return
	}
	l.listens[args[1]] = args[0] == "SUBSCRIBE"
	l.push(strings.ToLower(args[0]), args[1], "1")
}
func (l *memLink) Waiting(int) (commands, subscriptions int) { return 0, 0 }
func (l *memLink) Flush() {
	l.redis.mu.Lock()
	mute := l.redis.mute
	l.redis.mu.Unlock()
	if len(l.unsent) > 0 && !mute {
		l.replies <- Batch{Replies: l.unsent}
		l.unsent = nil
	}
}
func (l *memLink) Batches() (replies, pushes <-chan Batch) { return l.replies, l.pushes }
func (l *memLink) Fail(why error) {
	l.redis.mu.Lock()
	defer l.redis.mu.Unlock()
	if l.why != nil {
		return
	}
	l.why = why
	l.redis.links = slices.DeleteFunc(l.redis.links, func(o *memLink) bool { return o == l })
	close(l.done)
}
func (l *memLink) Done() <-chan struct{} { return l.done }
func (l *memLink) Err() error {
	l.redis.mu.Lock()
	defer l.redis.mu.Unlock()
	return l.why
}
func (l *memLink) Wait() { <-l.done }

// lockedLog is a log that a test reads while nodes write.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// has counts the lines that contain a text.
func (l *lockedLog) has(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// startNode starts a node with its goroutines. It is called in a synctest bubble.
func startNode(m *memRedis, r Replica, seed uint64) (*Node, *lockedLog) {
	log := new(lockedLog)
	n := New(Options{Prefix: "p", Patience: time.Minute, Random: rand.New(rand.NewPCG(seed, 1))},
		m, r, slog.New(slog.NewTextHandler(log, nil)))
	n.Start()
	return n, log
}

// pass lets time pass until the nodes have done all that does not wait for more of it.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestNodeRuns drives two nodes by their own goroutines, from a start without Redis to the end.
func TestNodeRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemRedis()
		m.down = true
		first, second := new(scribe), new(scribe)
		a, log := startNode(m, first, 1)
		b, _ := startNode(m, second, 2)
		in := 0
		a.Join("a:presence-x", "7", "{}", false, func() { in++ })
		pass(0)
		if in != 1 || log.has("Redis cannot be reached") != 1 {
			t.Errorf("%d members are in without Redis, want 1; the log says so %d times, want 1",
				in, log.has("Redis cannot be reached"))
		}
		pass(tellAgain + time.Second)
		if got := log.has("trying on"); got != 1 {
			t.Errorf("the log repeats %d times in %v that Redis is away, want 1", got, tellAgain)
		}

		m.fail(false)
		pass(2 * peersGrace)
		if !a.Counters.Live.Load() || !b.Counters.Live.Load() {
			t.Fatal("Redis is back, and a node is not live")
		}
		b.Join("a:presence-x", "8", "[]", false, func() { in++ })
		pass(0)
		a.Publish("a:presence-x", "hello", 5, false, nil, nil)
		pass(0)
		want := []string{"added a:presence-x 7 {}", "snapshot a:presence-x [7] ",
			"added a:presence-x 8 []", "deliver a:presence-x hello 5 false"}
		if in != 2 || !slices.Equal(first.told, want) {
			t.Errorf("%d members are in, want 2; the first node tells %q, want %q", in, first.told,
				want)
		}
		want = []string{"snapshot a:presence-x [7 8] ", "deliver a:presence-x hello 5 false"}
		if !slices.Equal(second.told, want) {
			t.Errorf("the second node tells %q, want %q", second.told, want)
		}

		m.fail(false) // and both come back
		pass(2 * time.Second)
		if got := a.Counters.Reconnects.Load(); got != 2 || !a.Counters.Live.Load() {
			t.Errorf("%d sessions after a lost link, want 2; live: %v", got, a.Counters.Live.Load())
		}
		second.told = nil
		began := time.Now()
		a.Close()
		if took := time.Since(began); took > 0 {
			t.Errorf("a node takes %v to leave, with a Redis that answers at once", took)
		}
		pass(0)
		if want := []string{"removed a:presence-x 7"}; !slices.Equal(second.told, want) {
			t.Errorf("a node has left, and the other tells %q, want %q", second.told, want)
		}
		m.fail(true)
		b.Close() // without Redis
		if got := m.do("ZRANGE", "p:nodes", "0", "-1"); len(got.Items) != 1 {
			t.Errorf("%d nodes are left in Redis, want the one that could not say good-bye",
				len(got.Items))
		}
	})
}

// TestNodeOverloaded leaves pushes unread while the replica is overloaded.
func TestNodeOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, r := newMemRedis(), &busyScribe{}
		n, _ := startNode(m, r, 1)
		n.Join("a:x", "", "", false, func() {})
		pass(2 * peersGrace)
		r.busy(true)
		n.Publish("a:x", "hello", 0, false, nil, nil)
		pass(2 * replyLimit)
		if got := r.delivered(); got != 0 || n.Counters.Reconnects.Load() != 1 {
			t.Errorf("overloaded: %d events delivered, want 0; %d sessions, want 1", got,
				n.Counters.Reconnects.Load())
		}
		r.busy(false)
		pass(0)
		pass(2 * time.Millisecond)
		if got := r.delivered(); got != 1 {
			t.Errorf("no longer overloaded: %d events delivered, want 1", got)
		}
		n.Close()
	})
}

// busyScribe is a replica that can be overloaded.
type busyScribe struct {
	mu sync.Mutex
	scribe
	overloaded bool
}

func (r *busyScribe) busy(is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.overloaded = is
}

func (r *busyScribe) Overloaded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.overloaded
}

func (r *busyScribe) delivered() (n int) {
	for _, s := range r.told {
		if strings.HasPrefix(s, "deliver ") {
			n++
		}
	}
	return n
}

// TestQueries asks for the state of two nodes. Redis also holds a foreign key.
func TestQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		m := newMemRedis()
		m.down = true
		a, _ := startNode(m, new(scribe), 1)
		all := census.Census{Asker: a}
		if _, err := all.Members(ctx, "a:presence-x"); err != errAway {
			t.Errorf("without Redis: got the error %v, want %v", err, errAway)
		}
		m.fail(false)
		pass(2 * peersGrace)
		if got, err := all.OccupiedTopics(ctx); len(got) != 0 || err != nil {
			t.Errorf("nobody is there: got the topics %q, %v", got, err)
		}
		b, _ := startNode(m, new(scribe), 2)
		pass(2 * peersGrace)
		a.Join("a:presence-x", "9", "{}", false, func() {})
		pass(0)
		b.Join("a:presence-x", "8", "{}", false, func() {})
		b.Join("a:presence-x", "8", "{}", false, func() {})
		b.Join("a:cache-y", "", "", true, func() {})
		b.Publish("a:cache-y", "sun", 0, true, nil, nil)
		m.do("SET", "p:a:foreign:nodes", "not a hash")
		pass(time.Second)

		if got, err := all.Members(ctx, "a:presence-x"); !slices.Equal(got, []string{"9", "8"}) ||
			err != nil {
			t.Errorf("members: got %q, %v; want 9, then 8", got, err)
		}
		topics, err := all.OccupiedTopics(ctx)
		if slices.Sort(topics); !slices.Equal(topics, []string{"a:cache-y", "a:presence-x"}) ||
			err != nil {
			t.Errorf("topics: got %q, %v", topics, err)
		}
		asked := []string{"a:presence-x", "a:cache-y", "a:foreign", "a:nobody"}
		subscriptions, users, cached, err := all.Stats(ctx, asked)
		if !slices.Equal(subscriptions, []int{3, 1, -1, 0}) ||
			!slices.Equal(users, []int{2, 0, 0, 0}) ||
			!slices.Equal(cached, []string{"", "sun", "", ""}) || err != nil {
			t.Errorf("stats: got %v, %v, %q, %v", subscriptions, users, cached, err)
		}
		// So many questions wait for one another.
		if subscriptions, _, _, err := all.Stats(ctx,
			slices.Repeat(asked, bulkCommands)); err != nil ||
			!slices.Equal(subscriptions, slices.Repeat([]int{3, 1, -1, 0}, bulkCommands)) {
			t.Errorf("stats of many: got %d, %v", len(subscriptions), err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		question := envelopes.Question{Args: []string{"GET", "p"}}
		a.Ask(ended, slices.Repeat([]envelopes.Question{question}, bulkCommands+1),
			func(_ []resp.Reply, err error) {
				if err != context.Canceled {
					t.Errorf("nobody waits any more: got %v, want %v", err, context.Canceled)
				}
			})
		pass(time.Second)
		m.do("SET", "p:a:presence-x:members", "not a hash")
		if _, err := all.Members(ctx, "a:presence-x"); err == nil ||
			!strings.Contains(err.Error(), "WRONGTYPE") {
			t.Errorf("members of a foreign key: got the error %v", err)
		}
		got := int64(0)
		a.Count("a", 4, func(n int64, err error) { got = n })
		pass(0)
		if got != 4 {
			t.Errorf("connections: got %d, want 4", got)
		}
		a.Close()
		b.Close()
	})
}

// TestBehind tells publishers to wait while too much is on its way.
func TestBehind(t *testing.T) {
	n := newTestNode(time.Minute, new(scribe), slog.New(slog.DiscardHandler))
	if n.Behind() {
		t.Error("a new node is behind")
	}
	for range 5 {
		n.Publish("a:x", strings.Repeat("x", maxInflight/4), 0, false, nil, nil)
	}
	if !n.Behind() {
		t.Error("a node is not behind with more on its way than maxInflight")
	}
	if n.driver.Work(); n.Behind() {
		t.Error("the events wait for Redis, and the node is still behind")
	}
}

// TestBackOff tries to reach a Redis that is away, with pauses that double up to a limit.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemRedis()
		m.down = true
		n, _ := startNode(m, new(scribe), 1)
		pass(5 * time.Second)
		n.Close()
		longest := 50 * time.Millisecond
		for i := range len(m.dialed) - 1 {
			if pause := m.dialed[i+1].Sub(m.dialed[i]); pause < longest/2 || pause >= longest {
				t.Errorf("pause %d: got %v, want %v to %v", i, pause, longest/2, longest)
			}
			longest = min(2*longest, 500*time.Millisecond)
		}
		if len(m.dialed) < 12 {
			t.Errorf("%d attempts in five seconds, want 12 or more", len(m.dialed))
		}
	})
}

// TestHandOver gives one of two nodes to a successor, while members come and events are published:
// the other node notices nothing.
func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, first, second, third := newMemRedis(), new(scribe), new(scribe), new(scribe)
		a, _ := startNode(m, first, 1)
		b, _ := startNode(m, second, 2)
		pass(2 * peersGrace)
		ready := func() {}
		for _, user := range []string{"7", "8", "9"} {
			a.Join("a:presence-x", user, "{}", false, ready)
		}
		pass(time.Second)
		b.Join("a:presence-x", "1", "{}", false, ready)
		a.Join("a:plain", "", "", false, ready)
		a.Join("a:left", "", "", false, ready)
		pass(time.Second)
		a.Publish("a:presence-x", "one", 0, false, nil, nil)
		pass(0)
		second.told = nil

		s := settle.NewPause("", 0)
		failed := a.Stand(s).Err
		if s.Wait(time.Minute); failed() != nil {
			t.Fatal(failed())
		}
		pass(2 * time.Second) // longer than Redis may be silent
		s.End(false)
		a.Publish("a:presence-x", "two", 0, false, nil, nil)
		pass(time.Second)
		s = settle.NewPause("", 0)
		failed = a.Stand(s).Err
		if s.Wait(time.Minute); failed() != nil {
			t.Fatal(failed())
		}
		b.Publish("a:presence-x", "three", 0, false, nil, nil)
		pass(2 * leaseTime)

		log := new(lockedLog)
		next := New(Options{Prefix: "p", Patience: time.Minute}, m, third,
			slog.New(slog.NewTextHandler(log, nil)))
		if err := a.Bequeath(func(_ string, state []byte, fds ...int) error {
			return next.Inherit(state, fds)
		}); err != nil {
			t.Fatal(err)
		}
		s.End(true)
		for _, user := range []string{"7", "8"} { // 9 is lost on the way, and so is a:left
			next.Join("a:presence-x", user, "{}", false, ready)
		}
		next.Join("a:plain", "", "", false, ready)
		next.Start()
		pass(0)
		next.Publish("a:presence-x", "four", 0, false, nil, nil)
		pass(2 * leaseTime)
		want := []string{"deliver a:presence-x two 0 false", "deliver a:presence-x three 0 false",
			"removed a:presence-x 9", "deliver a:presence-x four 0 false"}
		if !slices.Equal(second.told, want) {
			t.Errorf("the other node tells %q, want %q", second.told, want)
		}
		want = []string{"snapshot a:left [] ", "snapshot a:plain [] ",
			"snapshot a:presence-x [7 8 9 1] ", "dropped a:left",
			"deliver a:presence-x three 0 false", "removed a:presence-x 9",
			"deliver a:presence-x four 0 false"}
		if !slices.Equal(third.told, want) {
			t.Errorf("the successor tells %q, want %q", third.told, want)
		}
		if got := next.Counters.Reconnects.Load(); got != 1 || len(m.dialed) != 2 ||
			next.id != a.id {
			t.Errorf("%d sessions of %q, %d dialed, want one, and two", got, next.id, len(m.dialed))
		}
		other := New(Options{Prefix: "q"}, m, third, slog.New(slog.DiscardHandler))
		if err := other.Inherit([]byte{1, '0', 1, 1, 'p'}, nil); err == nil {
			t.Error("nonsense is taken")
		}
		m.fail(false) // and the successor comes back as the next incarnation
		pass(2 * peersGrace)
		if got := next.Counters.Reconnects.Load(); got != 2 || !next.Counters.Live.Load() {
			t.Errorf("%d sessions after a lost link, want 2", got)
		}
		next.Close()
		b.Close()
	})
}

// TestStandRefused does not stand still while Redis owes an answer, and goes on then.
func TestStandRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, r := newMemRedis(), new(scribe)
		if newTestNode(time.Minute, r, slog.New(slog.DiscardHandler)).Unfit(false) == "" {
			t.Error("a node that is not live can be handed over")
		}
		n, _ := startNode(m, r, 1)
		pass(2 * peersGrace)
		if why := n.Unfit(false); why != "" {
			t.Error(why)
		}
		m.mu.Lock()
		m.mute = true
		m.mu.Unlock()
		n.Publish("a:x", "one", 0, false, nil, nil)
		begun := time.Now()
		s := settle.NewPause("", 0)
		failed := n.Stand(s).Err
		s.Wait(time.Minute)
		if err := failed(); err == nil || time.Since(begun) > 2*time.Second {
			t.Errorf("it stands still after %v", time.Since(begun))
		}
		s.End(false)
		pass(time.Second)
		n.Close()
	})
}
