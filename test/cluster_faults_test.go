package test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// stream publishes numbered events on every node without a pause, and notes the fate of each at
// members of every node. Event k is published on node k mod len(nodes).
type stream struct {
	t        *testing.T
	nodes    []*clusterNode
	channels int
	peers    []*peer   // two on each node, in all channels
	got      [][]int32 // by peer; owned by its reader until it has the end
	pause    time.Duration

	stop      atomic.Bool
	publisher sync.WaitGroup

	mu   sync.Mutex
	sent []map[int32]time.Duration // by node: when the request began
	// by node: when the first peer of the node had the node's own event
	arrived []map[int32]time.Duration
	slowest time.Duration // request
	refused []string
	begin   time.Time
}

const streamPeers = 2 // on each node

// startStream begins to publish events on channels named prefix-0 and so on. Every publisher pauses
// between its requests of five events.
func startStream(t *testing.T, nodes []*clusterNode, prefix string, channels int,
	pause time.Duration) *stream {
	t.Helper()
	s := &stream{t: t, nodes: nodes, channels: channels, pause: pause, begin: time.Now(),
		got: make([][]int32, streamPeers*len(nodes))}
	for i, n := range nodes {
		s.sent, s.arrived = append(s.sent, map[int32]time.Duration{}),
			append(s.arrived, map[int32]time.Duration{})
		for j := range streamPeers {
			at := len(s.peers)
			p, err := n.connect(func(_, data string) {
				k, _ := strconv.Atoi(data)
				s.got[at] = append(s.got[at], int32(k))
				if j == 0 && k%len(nodes) == i {
					s.mu.Lock()
					s.arrived[i][int32(k)] = time.Since(s.begin)
					s.mu.Unlock()
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.close)
			s.peers = append(s.peers, p)
			for c := range channels {
				p.subscribe(prefix+"-"+strconv.Itoa(c), "", "")
			}
			for c := range channels {
				p.mustJoin(t, prefix+"-"+strconv.Itoa(c))
			}
		}
	}
	for i := range nodes {
		s.publisher.Go(func() { s.publish(i, prefix) })
	}
	return s
}

func (s *stream) publish(node int, prefix string) {
	for k := node; !s.stop.Load(); time.Sleep(s.pause) {
		var batch []apiEvent
		at := time.Since(s.begin)
		s.mu.Lock()
		for range 5 {
			batch = append(batch, apiEvent{Name: "e", Data: strconv.Itoa(k),
				Channel: prefix + "-" + strconv.Itoa(k/len(s.nodes)%s.channels)})
			s.sent[node][int32(k)] = at
			k += len(s.nodes)
		}
		s.mu.Unlock()
		err := s.nodes[node].publish(batch...)
		s.mu.Lock()
		s.slowest = max(s.slowest, time.Since(s.begin)-at)
		if err != nil {
			s.refused = append(s.refused, err.Error())
		}
		s.mu.Unlock()
	}
}

// end stops publishing and waits until everything has arrived. The nodes must be in
// step with each other.
func (s *stream) end(prefix string) {
	s.t.Helper()
	s.stop.Store(true)
	s.publisher.Wait()
	for i, n := range s.nodes { // after everything that this node has published
		for c := range s.channels {
			if err := n.publish(apiEvent{Name: "end", Data: strconv.Itoa(i),
				Channel: prefix + "-" + strconv.Itoa(c)}); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	for i, p := range s.peers {
		if !p.wait(15*time.Second, func() bool {
			return p.gotLocked("end",
				"") == len(s.nodes)*s.channels
		}) {
			s.t.Fatalf("a member of node %d has %d ends, want %d; ended: %v", i/streamPeers,
				p.got("end", ""), len(s.nodes)*s.channels, p.ended)
		}
	}
}

// check checks the events that have arrived before end: members of the publishing node have each
// event once, all others once or, if it is lost, never, and in the publisher's order. It returns
// how many events of each node are lost to others, and how long the slowest event took to a member
// of the same node.
func (s *stream) check() (lost []int, local time.Duration) {
	s.t.Helper()
	for i := range s.refused {
		if i < 3 {
			s.t.Errorf("a publisher was refused: %s", s.refused[i])
		}
	}
	missed := map[int32]bool{}
	missedBy := make([]int, len(s.nodes))
	doubled, early, missing := 0, 0, 0
	for i, got := range s.got {
		seen := map[int32]bool{}
		next := map[int32]int32{} // by publisher and channel
		for _, k := range got {
			if seen[k] {
				if doubled++; doubled <= 3 {
					s.t.Errorf("event %d of node %d came twice to a member of node %d", k,
						int(k)%len(s.nodes), i/streamPeers)
				}
				continue
			}
			seen[k] = true
			of := k % int32(len(s.nodes)*s.channels)
			if k < next[of] {
				if early++; early <= 3 {
					s.t.Errorf("event %d of node %d came to a member of node %d after %d", k,
						int(k)%len(s.nodes), i/streamPeers, next[of])
				}
			}
			next[of] = max(next[of], k)
		}
		for node, sent := range s.sent {
			for k := range sent {
				switch {
				case seen[k]:
				case node == i/streamPeers:
					if missing++; missing <= 3 {
						s.t.Errorf("event %d of node %d never came to a member of the same node", k,
							node)
					}
				default:
					missed[k] = true
					missedBy[i/streamPeers]++
				}
			}
		}
	}
	if doubled+early+missing > 0 {
		s.t.Errorf("in all %d doubled, %d out of order, %d missing at home", doubled, early,
			missing)
	}
	s.t.Logf("events of other nodes that the members of each node have missed: %v", missedBy)
	lost = make([]int, len(s.nodes))
	for k := range missed {
		lost[int(k)%len(s.nodes)]++
	}
	for node, sent := range s.sent {
		for k, at := range sent {
			local = max(local, s.arrived[node][k]-at)
		}
	}
	return lost, local
}

// account compares the lost events with the metrics of each node: some were dropped, and of others
// the node cannot know.
func (s *stream) account(lost []int) (counted, unsure int) {
	s.t.Helper()
	for i, n := range s.nodes {
		dropped, uncertain := n.metric("horizontal_transport_messages_dropped_total"),
			n.metric("horizontal_transport_messages_uncertain_total")
		counted, unsure = counted+dropped, unsure+uncertain
		if lost[i] < dropped || lost[i] > dropped+uncertain {
			s.t.Errorf("node %d counts %d lost events, and %d that it cannot know of; %d are lost",
				i, dropped, uncertain, lost[i])
		}
	}
	return counted, unsure
}

// inconsistent says what differs from the state before a fault; empty: nothing. The stream must
// have two channels or more, with load-1.
func (s *stream) inconsistent(in *room) string {
	alive(s.t, s.nodes)
	for _, n := range s.nodes {
		if why := n.notReady(); why != "" {
			return why
		}
		text, err := n.ask("/channels/load-1", "info=subscription_count")
		if want := fmt.Sprintf(`"subscription_count":%d`, len(s.peers)); err != nil ||
			!strings.Contains(text, want) {
			return fmt.Sprintf("%s says %s, %v, want %s", n.addr, text, err, want)
		}
	}
	if why := in.wrong(s.nodes); why != "" {
		return why
	}
	return notInStep(s.nodes, s.peers, "load-1")
}

// published is how many events there were.
func (s *stream) published() (n int) {
	for _, sent := range s.sent {
		n += len(sent)
	}
	return n
}

// room is a presence channel and its true members.
type room struct {
	channel string
	peers   []*peer // watchers, which are members themselves
	users   []string
}

// join lets a user join on a node; the member watches.
func (r *room) join(t *testing.T, n *clusterNode, user string) *peer {
	t.Helper()
	p, err := n.connect(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	p.quiet = true
	p.subscribe(r.channel, user, `{"name":"`+user+`"}`)
	p.mustJoin(t, r.channel)
	r.peers, r.users = append(r.peers, p), append(r.users, user)
	slices.Sort(r.users)
	return p
}

// leave takes a peer and its user out.
func (r *room) leave(p *peer, user string) {
	p.close()
	r.peers = slices.DeleteFunc(r.peers, func(q *peer) bool { return q == p })
	r.users = slices.DeleteFunc(r.users, func(u string) bool { return u == user })
}

// wrong says where the members or the nodes disagree.
func (r *room) wrong(nodes []*clusterNode) string {
	for _, p := range r.peers {
		if got := p.users(r.channel); !slices.Equal(got, r.users) {
			return fmt.Sprintf("a member on %s sees %v, want %v", p.node.addr, got, r.users)
		}
	}
	for _, n := range nodes {
		got, err := n.users(r.channel)
		if err != nil {
			return err.Error()
		}
		if !slices.Equal(got, r.users) {
			return fmt.Sprintf("%s says that %v are in, want %v", n.addr, got, r.users)
		}
	}
	return ""
}

// check fails the test if a member has heard something wrong.
func (r *room) check(t *testing.T) {
	t.Helper()
	for _, p := range r.peers {
		p.mu.Lock()
		for i, why := range p.problems {
			if i < 3 {
				t.Errorf("a member on %s: %s", p.node.addr, why)
			}
		}
		p.mu.Unlock()
	}
}

// users asks for the users of a presence channel.
func (n *clusterNode) users(channel string) ([]string, error) {
	text, err := n.ask("/channels/"+channel+"/users", "")
	if err != nil {
		return nil, err
	}
	var d struct{ Users []struct{ ID string } }
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return nil, err
	}
	users := make([]string, 0, len(d.Users))
	for _, u := range d.Users {
		users = append(users, u.ID)
	}
	slices.Sort(users)
	return users, nil
}

// notInStep publishes an event on every node and says which member does not get it.
func notInStep(nodes []*clusterNode, peers []*peer, channel string) string {
	for _, n := range nodes {
		token := strconv.FormatUint(rand.Uint64(), 10)
		if err := n.publish(apiEvent{Name: "probe", Data: token, Channel: channel}); err != nil {
			return err.Error()
		}
		for _, p := range peers {
			if !p.wait(500*time.Millisecond,
				func() bool { return p.gotLocked("probe", token) > 0 }) {
				return fmt.Sprintf("a member of %s has not got an event of %s", p.node.addr, n.addr)
			}
		}
	}
	return ""
}

// alive checks that no node has ended.
func alive(t *testing.T, nodes []*clusterNode) {
	t.Helper()
	for _, n := range nodes {
		select {
		case err := <-n.done:
			n.done <- err
			t.Fatalf("a node has ended: %v\n%s", err, strings.Join(n.log, "\n"))
		default:
		}
	}
}

// TestRedisRestarts kills Redis again and again under load; it comes back empty.
func TestRedisRestarts(t *testing.T) {
	r := startRedis(t)
	nodes := startNodes(t, 3, r.env(), "REVERB_REDIS_TIMEOUT=1")
	s := startStream(t, nodes, "load", 2, 10*time.Millisecond)
	in := &room{channel: "presence-room"}
	for i, n := range nodes {
		in.join(t, n, "fixed-"+strconv.Itoa(i))
	}
	times := 20
	if testing.Short() {
		times = 5
	}
	var returns []time.Duration
	for round := range times {
		time.Sleep(300 * time.Millisecond) // of undisturbed load
		before := in.join(t, nodes[round%3], "before-"+strconv.Itoa(round))
		r.kill()
		alive(t, nodes)
		// must be let in at once
		during := in.join(t, nodes[(round+1)%3], "during-"+strconv.Itoa(round))
		in.leave(before, "before-"+strconv.Itoa(round))
		time.Sleep(time.Duration([]int{0, 100, 300, 800, 1700}[round%5]) * time.Millisecond)
		r.start()
		took := eventually(t, 20*time.Second, func() string { return s.inconsistent(in) })
		returns = append(returns, took)
		if took > 2*time.Second {
			t.Errorf("round %d: consistent %v after Redis was back; at most 2s are allowed", round,
				took)
		}
		in.leave(during, "during-"+strconv.Itoa(round))
	}
	s.end("load")
	eventually(t, 5*time.Second, func() string { return in.wrong(nodes) })
	in.check(t)
	lost, local := s.check()
	counted, unsure := s.account(lost)
	alive(t, nodes)
	slices.Sort(returns)
	t.Logf("Redis killed %d times: all consistent %v after its return in the middle, %v at most; "+
		"%d events published, %v lost, %d counted as lost, %d uncertain; "+
		"to a member of the same node %v at most; slowest request %v",
		times, returns[len(returns)/2].Round(time.Millisecond),
		returns[len(returns)-1].Round(time.Millisecond), s.published(), lost, counted, unsure,
		local.Round(time.Millisecond), s.slowest.Round(time.Millisecond))
	if local > time.Second {
		t.Errorf("local delivery took %v; at most 1s is allowed", local)
	}
}

// logs waits until the log of a node has a line with all of these words.
func (n *clusterNode) logs(words ...string) {
	n.t.Helper()
	eventually(n.t, 10*time.Second, func() string {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, line := range n.log {
			if !slices.ContainsFunc(words,
				func(w string) bool { return !strings.Contains(line, w) }) {
				return ""
			}
		}
		return fmt.Sprintf("the log has no line with %q:\n%s", words, strings.Join(n.log, "\n"))
	})
}

// TestRedisForeignKeys puts keys of a wrong type under the names of channels. Each costs only its
// own channel.
func TestRedisForeignKeys(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	nodes := startNodes(t, 2, r.env())
	news := []*peer{nodes[0].open(t, "news"), nodes[1].open(t, "news")}
	sessions := func() (n [2]int) {
		for i := range n {
			n[i] = nodes[i].metric("horizontal_transport_reconnections_total")
		}
		return n
	}
	before := sessions()
	foreign := []struct {
		channel, key, command string
		args                  []any
	}{
		{"poison", "nodes", "SET", []any{"garbage"}},
		{"presence-members", "members", "SET", []any{"garbage"}},
		{"presence-count", "count", "LPUSH", []any{"garbage"}},
		{"presence-order", "order", "SET", []any{"garbage"}},
		{"presence-cache-x", "cached", "SADD", []any{"garbage"}},
	}
	key := func(i int) string {
		return "reverb:app-id:" + foreign[i].channel + ":" +
			foreign[i].key
	}
	var in [][]*peer
	for i, f := range foreign {
		r.must(f.command, append([]any{key(i)}, f.args...)...)
		in = append(in, nil)
		for j, n := range nodes {
			p := n.open(t)
			user := ""
			if strings.HasPrefix(f.channel, "presence-") {
				user = "user-" + strconv.Itoa(j)
			}
			p.subscribe(f.channel, user, "{}")
			p.mustJoin(t, f.channel)
			in[i] = append(in[i], p)
			n.logs("WARN", "was not written by this program", "reverb:app-id:"+f.channel)
			if f.key != "order" { // it has the right type
				n.logs("WARN", key(i)+" is a ")
			}
		}
		if f.key == "cached" { // a published event replaces it
			r.must("DEL", key(i))
			r.must("SADD", key(i), "garbage")
		}
		if why := notInStep(nodes, news, "news"); why != "" {
			t.Errorf("%s: another channel: %s", f.channel, why)
		}
		if why := notInStep(nodes, in[i], f.channel); why != "" {
			t.Errorf("%s: its events: %s", f.channel, why)
		}
	}
	for j, n := range nodes {
		if got, err := n.ask("/channels/poison",
			"info=subscription_count"); got != `{"occupied":true,"subscription_count":1}` {
			t.Errorf("poison on node %d: %s, %v", j, got, err)
		}
		if got, err := n.users("presence-members"); err != nil ||
			!slices.Equal(got, []string{"user-" + strconv.Itoa(j)}) {
			t.Errorf("members on node %d: %v, %v", j, got, err)
		}
	}
	r.must("HSET", "reverb:app-id:presence-strange:members", "foo", "bar") // the right type
	strange := nodes[0].open(t)
	strange.subscribe("presence-strange", "user", "{}")
	strange.mustJoin(t, "presence-strange")
	if got := strange.users("presence-strange"); !slices.Equal(got, []string{"user"}) {
		t.Errorf("a member beside a strange one sees %v", got)
	}
	gone := nodes[0].open(t) // has left before Redis can be told so
	gone.subscribe("presence-members", "gone", "{}")
	gone.mustJoin(t, "presence-members")
	gone.close()
	for i := range foreign {
		r.must("DEL", key(i))
	}
	for i, f := range foreign {
		if !strings.HasPrefix(f.channel, "presence-") {
			continue
		}
		eventually(t, 20*time.Second, func() string {
			for _, p := range in[i] {
				if got := p.users(f.channel); !slices.Equal(got, []string{"user-0", "user-1"}) {
					return fmt.Sprintf("%s: a member sees %v", f.channel, got)
				}
			}
			for _, n := range nodes {
				if got, err := n.users(f.channel); err != nil ||
					!slices.Equal(got, []string{"user-0", "user-1"}) {
					return fmt.Sprintf("%s: a node says %v, %v", f.channel, got, err)
				}
			}
			return ""
		})
	}
	eventually(t, 20*time.Second, func() string {
		for _, n := range nodes {
			if got, err := n.ask("/channels/poison",
				"info=subscription_count"); got != `{"occupied":true,"subscription_count":2}` {
				return fmt.Sprint(got, err)
			}
			if k := n.metric("redis_foreign_channels"); k != 0 {
				return fmt.Sprintf("%d channels are served alone", k)
			}
		}
		return ""
	})
	// All leave while a key is foreign. Nothing stays behind.
	r.must("SET", key(1), "garbage")
	for _, p := range in[1] {
		p.close()
	}
	for _, n := range nodes {
		eventually(t, 10*time.Second, func() string {
			if k := n.metric("redis_foreign_channels"); k != 1 {
				return fmt.Sprintf("%d channels cannot be told of, want 1", k)
			}
			return ""
		})
	}
	r.must("DEL", key(1))
	eventually(t, 20*time.Second, func() string {
		if left, err := redis.Strings(r.do("KEYS",
			"reverb:app-id:presence-members:*")); err != nil || len(left) > 0 {
			return fmt.Sprint("left in Redis: ", left, err)
		}
		return ""
	})
	if after := sessions(); after != before {
		t.Errorf("sessions with Redis: %v, want %v: the nodes have left the cluster", after, before)
	}
	for i := range in {
		for _, p := range in[i] {
			p.mu.Lock()
			if len(p.problems) > 0 {
				t.Errorf("%s: %v", foreign[i].channel, p.problems)
			}
			p.mu.Unlock()
		}
	}
	// With a foreign key of the nodes themselves no node is in the cluster, but all clients are
	// served.
	r.must("DEL", "reverb:ready")
	r.must("SET", "reverb:ready", "garbage")
	for i, n := range nodes {
		n.logs("WARN", "Redis is away", "reverb:ready is a string")
		p := n.open(t, "meanwhile")
		if err := n.publish(apiEvent{Name: "e", Data: strconv.Itoa(i),
			Channel: "meanwhile"}); err != nil {
			t.Error(err)
		}
		p.mustGet(t, "e", strconv.Itoa(i))
	}
	r.must("DEL", "reverb:ready")
	eventually(t, 20*time.Second, func() string { return notInStep(nodes, news, "news") })
}

// TestRedisSilentAtStart starts a node whose Redis accepts connections and never answers. No client
// waits for that, neither at the start nor at the end.
func TestRedisSilentAtStart(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() }) // and with it the connections that were not accepted
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	const patience = 4 * time.Second // the program's with Redis is 5 s
	begin := time.Now()
	n := startNode(t, []string{"REVERB_REDIS_HOST=127.0.0.1", "REVERB_REDIS_PORT=" + port})
	p := n.open(t, "news")
	if err := n.publish(apiEvent{Name: "alone", Data: "1", Channel: "news"}); err != nil {
		t.Fatal(err)
	}
	p.mustGet(t, "alone", "1")
	if why := n.notReady(); !strings.Contains(why, "Redis is away") {
		t.Errorf("/ready says %q, want that Redis is away", why)
	}
	if took := time.Since(begin); took > patience {
		t.Errorf("the first event came %v after the start", took)
	}
	begin = time.Now()
	n.stop()
	if took := time.Since(begin); took > patience {
		t.Errorf("it took %v to stop", took)
	}
}

// TestClusterFirstMoment lets clients come to a node that listens and has not reached Redis yet.
// They are told what the cluster knows.
func TestClusterFirstMoment(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	first := startNodes(t, 1, r.env())[0]
	in := first.open(t)
	in.subscribe("presence-room", "first", "{}")
	in.mustJoin(t, "presence-room")
	if err := first.publish(apiEvent{Name: "sky", Data: "sun", Channel: "cache-sky"}); err != nil {
		t.Fatal(err)
	}
	judged := 0
	for i := range 10 {
		c := newCable(t, r.addr())
		c.set(true)
		begin := time.Now()
		n := startNode(t, c.env())
		p := n.open(t)
		user := "user-" + strconv.Itoa(i)
		p.subscribe("presence-room", user, "{}")
		p.subscribe("cache-sky", "", "")
		c.set(false)
		if time.Since(begin) > 300*time.Millisecond {
			// the program waits for half a second, and this machine is slow
			t.Logf("round %d: %v from the start to the subscription", i, time.Since(begin))
			break
		}
		judged++
		p.mustJoin(t, "presence-room")
		if got := p.users("presence-room"); !slices.Equal(got, []string{"first", user}) {
			t.Errorf("the first member of a new node is told of %v", got)
		}
		p.mustGet(t, "sky", "sun")
		if p.got("pusher:cache_miss", "") != 0 {
			t.Error("the first member of a new node has missed a cached event")
		}
		p.close()
		eventually(t, 10*time.Second, func() string {
			if got := in.users("presence-room"); len(got) != 1 {
				return fmt.Sprint("still there: ", got)
			}
			return ""
		})
	}
	if judged == 0 {
		t.Skip("the start took too long")
	}
}

// TestRedisRefusesAtStart checks that a Redis that refuses at the start is one error in the log.
func TestRedisRefusesAtStart(t *testing.T) {
	t.Parallel()
	need(t, "redis-server")
	r := newRedis(t, "--requirepass", "right")
	r.password = "right"
	r.start()
	n := startNode(t, append(r.env(), "REVERB_REDIS_PASSWORD=wrong"))
	n.logs("ERROR", "Redis cannot be reached",
		"compare REVERB_REDIS_USERNAME and REVERB_REDIS_PASSWORD")
	n = startNode(t, []string{"REVERB_REDIS_HOST=127.0.0.1", "REVERB_REDIS_PORT=" + oddPort(t)})
	n.logs("ERROR", "Redis cannot be reached", "connection refused")
}

// listenAsReverb subscribes to the channel to which a node of Laravel Reverb subscribes.
func listenAsReverb(t *testing.T, r *redisServer) {
	t.Helper()
	c, err := r.connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := (redis.PubSubConn{Conn: c}).Subscribe("reverb"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() string {
		if n, err := redis.Values(r.do("PUBSUB", "NUMSUB", "reverb")); err != nil ||
			n[1] != int64(1) {
			return fmt.Sprint("nobody has subscribed: ", n, err)
		}
		return ""
	})
}

// TestClusterMeetsReverb starts a node while Laravel Reverb listens on the same channel of
// Redis.
func TestClusterMeetsReverb(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	alone := startNode(t, r.env(), "REVERB_SCALING_CHANNEL=other")
	listenAsReverb(t, r)
	n := startNodes(t, 2, r.env())
	n[0].logs("WARN", "Laravel Reverb listens", "reverb", "subscribers=1")
	// the other node is not Laravel Reverb
	n[1].logs("WARN", "Laravel Reverb listens", "reverb", "subscribers=1")
	eventually(t, 20*time.Second, alone.notReady)
	alone.mu.Lock()
	defer alone.mu.Unlock()
	if text := strings.Join(alone.log, "\n"); strings.Contains(text, "Laravel Reverb") {
		t.Errorf("a node on another channel warns:\n%s", text)
	}
}
