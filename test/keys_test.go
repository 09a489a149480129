package test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

const stormChannels = 4

// storm sends requests with keys again and again, to all nodes, and counts what their members get.
type storm struct {
	t     *testing.T
	nodes []*clusterNode
	peers []*peer // one on each node
	begin time.Time

	mu    sync.Mutex
	got   []map[[2]int]int // by peer: how often the event of a key came on a channel
	spans [][][2]time.Duration
	codes map[int]int
	wrong []string // answers that differ from the first
	first map[int]string
}

func startStorm(t *testing.T, nodes []*clusterNode, keys int) *storm {
	t.Helper()
	s := &storm{t: t, nodes: nodes, codes: map[int]int{}, first: map[int]string{},
		spans: make([][][2]time.Duration, keys), begin: time.Now()}
	for i, n := range nodes {
		s.got = append(s.got, map[[2]int]int{})
		p, err := n.connect(func(channel, data string) {
			key, _ := strconv.Atoi(data)
			s.mu.Lock()
			s.got[i][[2]int{key, int(channel[len(channel)-1] - '0')}]++
			s.mu.Unlock()
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.close)
		s.peers = append(s.peers, p)
		for c := range stormChannels {
			p.subscribe("storm-"+strconv.Itoa(c), "", "")
		}
		for c := range stormChannels {
			p.mustJoin(t, "storm-"+strconv.Itoa(c))
		}
	}
	return s
}

// channels are those of a key's request: one, or for every third key two.
func (s *storm) channels(key int) []int {
	if key%3 == 0 {
		return []int{key % stormChannels, (key + 1) % stormChannels}
	}
	return []int{key % stormChannels}
}

// body is the request of a key. Some ask for figures.
func (s *storm) body(key int) []byte {
	list, info := "", ""
	for i, c := range s.channels(key) {
		if i > 0 {
			list += ","
		}
		list += fmt.Sprintf(`"storm-%d"`, c)
	}
	if key%5 == 0 {
		info = `,"info":"subscription_count"`
	}
	return fmt.Appendf(nil, `{"name":"e","data":"%d","channels":[%s]%s}`, key, list, info)
}

// send sends the request of a key as a client does that wants an answer: to one node after another.
func (s *storm) send(key int, rng *rand.Rand) {
	begin := time.Since(s.begin)
	end := begin + 30*time.Second
	for {
		code, b, err := s.nodes[rng.IntN(len(s.nodes))].apiWithKey("storm-"+strconv.Itoa(key),
			"POST", "/events", nil, s.body(key))
		now := time.Since(s.begin)
		s.mu.Lock()
		if s.codes[code]++; code == 200 || now > end {
			s.spans[key] = append(s.spans[key], [2]time.Duration{begin, now})
			if first, known := s.first[key]; code != 200 || err != nil {
				s.wrong = append(s.wrong, fmt.Sprintf("key %d: %d %s, %v", key, code, b, err))
			} else if !known {
				s.first[key] = string(b)
			} else if first != string(b) && key%5 > 0 {
				s.wrong = append(s.wrong, fmt.Sprintf("key %d: %s, at first %s", key, b, first))
			}
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		time.Sleep(200 * time.Millisecond)
	}
}

// run sends every key four times in all within about the given time, from 20 publishers.
func (s *storm) run(during time.Duration, seed uint64) {
	type attempt struct {
		key int
		at  time.Duration
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	var all []attempt
	for key := range s.spans {
		at := time.Duration(key) * during / time.Duration(len(s.spans))
		all = append(all, attempt{key, at})
		for range 3 {
			all = append(all, attempt{key, at + time.Duration(rng.Int64N(int64(time.Second)))})
		}
	}
	slices.SortFunc(all, func(a, b attempt) int { return int(a.at - b.at) })
	var publishers sync.WaitGroup
	next := make(chan attempt)
	for p := range 20 {
		rng := rand.New(rand.NewPCG(seed, uint64(2+p)))
		publishers.Go(func() {
			for a := range next {
				s.send(a.key, rng)
			}
		})
	}
	for _, a := range all {
		time.Sleep(a.at - time.Since(s.begin))
		next <- a
	}
	close(next)
	publishers.Wait()
}

// settle waits until all members have got what was published.
func (s *storm) settle(word string) {
	s.t.Helper()
	for _, n := range s.nodes {
		eventually(s.t, 20*time.Second, n.notReady)
	}
	for i, n := range s.nodes {
		for c := range stormChannels {
			if err := n.publish(apiEvent{Name: word, Data: strconv.Itoa(i),
				Channel: "storm-" + strconv.Itoa(c)}); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	for i, p := range s.peers {
		want := len(s.nodes) * stormChannels
		if !p.wait(15*time.Second, func() bool { return p.gotLocked(word, "") == want }) {
			s.t.Fatalf("the member of node %d has %d of %d ends", i, p.got(word, ""), want)
		}
	}
}

// tally compares what came with what was published. A key is clear if none of its requests met a
// cut.
func (s *storm) tally(cuts [][2]time.Duration) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	type figures struct{ keys, doubled, lost int }
	var clear, rest figures
	for key, spans := range s.spans {
		f := &clear
		for _, span := range spans {
			for _, cut := range cuts {
				if span[0] < cut[1] && cut[0] < span[1] {
					f = &rest
				}
			}
		}
		f.keys++
		for i := range s.peers {
			for _, c := range s.channels(key) {
				switch n := s.got[i][[2]int{key, c}]; {
				case n == 0:
					f.lost++
				case n > 1:
					f.doubled += n - 1
				}
			}
		}
	}
	s.t.Logf("%d keys, each sent 4 times; answers %v; where Redis was there: %d keys, %d "+
		"deliveries doubled, %d lost; around the cuts: %d keys, %d deliveries doubled, %d lost, "+
		"of 3 members each", len(s.spans), s.codes, clear.keys, clear.doubled, clear.lost,
		rest.keys, rest.doubled, rest.lost)
	if clear.doubled+clear.lost > 0 || clear.keys < len(s.spans)/4 {
		s.t.Errorf("where Redis was there: %+v", clear)
	}
	for i, line := range s.wrong {
		if i < 5 {
			s.t.Error(line)
		}
	}
}

// stormSize is how many keys there are, and over which time they are sent.
func stormSize() (keys int, during time.Duration) {
	if long() {
		return 1000, 60 * time.Second
	}
	return 300, 15 * time.Second
}

// cutTwice cuts the nodes off twice while the storm goes on, and tells when that was.
func (s *storm) cutTwice(during time.Duration, cut, mend func()) (cuts [][2]time.Duration) {
	for i := range 2 {
		time.Sleep(during*time.Duration(1+5*i)/10 - time.Since(s.begin))
		began := time.Since(s.begin)
		cut()
		time.Sleep(during / 20)
		mend()
		for _, n := range s.nodes {
			eventually(s.t, 20*time.Second, n.notReady)
		}
		cuts = append(cuts, [2]time.Duration{began, time.Since(s.begin) + time.Second})
	}
	return cuts
}

// storms runs a storm with two cuts, and repeats every request once more when all is calm.
func storms(t *testing.T, nodes []*clusterNode, cut, mend func()) {
	keys, during := stormSize()
	s := startStorm(t, nodes, keys)
	done := make(chan [][2]time.Duration)
	go func() { done <- s.cutTwice(during, cut, mend) }()
	s.run(during, seed(t))
	cuts := <-done
	s.settle("end")
	s.tally(cuts)

	before := s.deliveries()
	s.begin = time.Now() // nothing after this counts as a cut
	rng := rand.New(rand.NewPCG(seed(t), 9))
	for key := range keys {
		if key%3 > 0 { // the claim of one for several channels may have to wait for its lease
			s.send(key, rng)
		}
	}
	s.settle("calm")
	if after := s.deliveries(); after != before {
		t.Errorf("when all was calm, repeated requests made %d more deliveries", after-before)
	}
}

func (s *storm) deliveries() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, got := range s.got {
		for _, count := range got {
			n += count
		}
	}
	return n
}

// TestRetryStorm repeats requests with keys at three nodes while Redis is cut off twice. Redis
// keeps its state.
func TestRetryStorm(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	c := newCable(t, r.addr())
	nodes := startNodes(t, 3, c.env())
	checkKeys(t, nodes, false)
	storms(t, nodes, func() { c.set(true); c.reset() }, func() { c.reset(); c.set(false) })
}

// TestRetryStormRedisCluster does the same with a Redis Cluster of three masters. A cut ends all
// connections to them.
func TestRetryStormRedisCluster(t *testing.T) {
	t.Parallel()
	c, env := startRedisCluster(t)
	nodes := startNodes(t, 3, env)
	checkKeys(t, nodes, true)
	storms(t, nodes, func() {
		for _, m := range c.masters {
			for _, kind := range []string{"normal", "pubsub"} {
				if _, err := m.do("CLIENT", "KILL", "TYPE", kind); err != nil {
					t.Error(err)
				}
			}
		}
	}, func() {})
}

// checkKeys sends a few requests to two nodes, one after the other.
func checkKeys(t *testing.T, nodes []*clusterNode, perChannel bool) {
	t.Helper()
	p := nodes[2].open(t, "keys-a", "keys-b")
	events := 0
	for _, c := range []struct {
		node      int
		key, body string
		code      int
		events    int // that come of it
	}{
		{0, "one", `{"name":"k","data":"1","channels":["keys-a"]}`, 200, 1},
		{0, "one", `{"name":"k","data":"1","channels":["keys-a"]}`, 200, 0},
		{1, "one", `{"name":"k","data":"1","channels":["keys-a"]}`, 200, 0},
		{1, "one", `{"name":"k","data":"2","channels":["keys-a"]}`, 422, 0},
		{0, "two", `{"name":"k","data":"1","channels":["keys-a","keys-b"]}`, 200, 2},
		{1, "two", `{"name":"k","data":"1","channels":["keys-a","keys-b"]}`, 200, 0},
		{1, "two", `{"name":"k","data":"2","channels":["keys-a","keys-b"]}`, 422, 0},
		{0, "info", `{"name":"k","data":"1","channels":["keys-b"],"info":"subscription_count"}`,
			200, 1},
		{1, "info", `{"name":"k","data":"1","channels":["keys-b"],"info":"subscription_count"}`,
			200, 0},
		{1, "one", `{"name":"k","data":"1","channels":["keys-b"]}`,
			map[bool]int{true: 200, false: 422}[perChannel], map[bool]int{true: 1}[perChannel]},
		{0, "", `{"name":"k","data":"1","channels":["keys-a"]}`, 200, 1},
	} {
		code, b, err := nodes[c.node].apiWithKey(c.key, "POST", "/events", nil, []byte(c.body))
		if code != c.code || err != nil {
			t.Errorf("key %q, %s at node %d: got %d %s, %v", c.key, c.body, c.node, code, b, err)
		}
		events += c.events
		if err := nodes[0].publish(apiEvent{Name: "then", Data: "-", Channel: "keys-a"},
			apiEvent{Name: "then", Data: "-", Channel: "keys-b"}); err != nil {
			t.Fatal(err)
		}
	}
	if !p.wait(10*time.Second, func() bool { return p.gotLocked("then", "") == 22 }) {
		t.Fatalf("got %d of 22 ends", p.got("then", ""))
	}
	if got := p.got("k", ""); got != events {
		t.Errorf("got %d events, want %d", got, events)
	}
	p.close()
}
