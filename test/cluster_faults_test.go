package test

import (
	"encoding/json"
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

// stream publishes numbered events on every node without a pause and notes what
// becomes of each at members of every node. Event k is published on node k mod
// len(nodes).
type stream struct {
	t        *testing.T
	nodes    []*clusterNode
	channels int
	peers    []*peer   // two on each node, in all channels
	got      [][]int32 // by peer; owned by its reader until it has the end
	pause    time.Duration

	stop      atomic.Bool
	publisher sync.WaitGroup

	mu      sync.Mutex
	sent    []map[int32]time.Duration // by node: when the request began
	arrived []map[int32]time.Duration // by node: when its first peer had it, of its own events
	slowest time.Duration             // request
	refused []string
	begin   time.Time
}

const streamPeers = 2 // on each node

// startStream begins with events on some channels named prefix-0 and so on. Every
// publisher pauses between its requests of five events.
func startStream(t *testing.T, nodes []*clusterNode, prefix string, channels int, pause time.Duration) *stream {
	t.Helper()
	s := &stream{t: t, nodes: nodes, channels: channels, pause: pause, begin: time.Now(), got: make([][]int32, streamPeers*len(nodes))}
	for i, n := range nodes {
		s.sent, s.arrived = append(s.sent, map[int32]time.Duration{}), append(s.arrived, map[int32]time.Duration{})
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
			batch = append(batch, apiEvent{Name: "e", Data: strconv.Itoa(k), Channel: prefix + "-" + strconv.Itoa(k/len(s.nodes)%s.channels)})
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
	for i, n := range s.nodes { // behind everything that this node has published
		for c := range s.channels {
			if err := n.publish(apiEvent{Name: "end", Data: strconv.Itoa(i), Channel: prefix + "-" + strconv.Itoa(c)}); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	for i, p := range s.peers {
		if !p.wait(15*time.Second, func() bool { return p.gotLocked("end", "") == len(s.nodes)*s.channels }) {
			s.t.Fatalf("a member of node %d has %d ends, want %d; ended: %v", i/streamPeers, p.got("end", ""), len(s.nodes)*s.channels, p.ended)
		}
	}
}

// check checks what end has let arrive: members of the publishing node have each event
// once, all others once or, if it is lost, never, and in the publisher's order. It
// returns how many events of each node are lost to others, and how long the slowest
// was on its way to a member of the same node.
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
					s.t.Errorf("event %d of node %d came twice to a member of node %d", k, int(k)%len(s.nodes), i/streamPeers)
				}
				continue
			}
			seen[k] = true
			of := k % int32(len(s.nodes)*s.channels)
			if k < next[of] {
				if early++; early <= 3 {
					s.t.Errorf("event %d of node %d came to a member of node %d after %d", k, int(k)%len(s.nodes), i/streamPeers, next[of])
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
						s.t.Errorf("event %d of node %d never came to a member of the same node", k, node)
					}
				default:
					missed[k] = true
					missedBy[i/streamPeers]++
				}
			}
		}
	}
	if doubled+early+missing > 0 {
		s.t.Errorf("in all %d doubled, %d out of order, %d missing at home", doubled, early, missing)
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

// published is how many events there were.
func (s *stream) published() (n int) {
	for _, sent := range s.sent {
		n += len(sent)
	}
	return n
}

// room is a presence channel with what ought to be true of it.
type room struct {
	channel string
	peers   []*peer // who watch, members themselves
	users   []string
}

// join lets a user in on a node and lets the member watch.
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

// wrong says what the members or the nodes do not agree on.
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

// check fails the test if a member has heard what it should not.
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

// users asks who is in a presence channel.
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

// notInStep publishes an event on every node and says which member has not got it.
func notInStep(nodes []*clusterNode, peers []*peer, channel string) string {
	for _, n := range nodes {
		token := strconv.FormatUint(rand.Uint64(), 10)
		if err := n.publish(apiEvent{Name: "probe", Data: token, Channel: channel}); err != nil {
			return err.Error()
		}
		for _, p := range peers {
			if !p.wait(500*time.Millisecond, func() bool { return p.gotLocked("probe", token) > 0 }) {
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
		during := in.join(t, nodes[(round+1)%3], "during-"+strconv.Itoa(round)) // is let in at once
		in.leave(before, "before-"+strconv.Itoa(round))
		time.Sleep(time.Duration([]int{0, 100, 300, 800, 1700}[round%5]) * time.Millisecond)
		r.start()
		took := eventually(t, 20*time.Second, func() string {
			alive(t, nodes)
			for _, n := range nodes {
				if why := n.notReady(); why != "" {
					return why
				}
				text, err := n.ask("/channels/load-1", "info=subscription_count")
				if want := fmt.Sprintf(`"subscription_count":%d`, len(s.peers)); err != nil || !strings.Contains(text, want) {
					return fmt.Sprintf("%s says %s, %v, want %s", n.addr, text, err, want)
				}
			}
			if why := in.wrong(nodes); why != "" {
				return why
			}
			return notInStep(nodes, s.peers, "load-1")
		})
		returns = append(returns, took)
		if took > 2*time.Second {
			t.Errorf("round %d: consistent %v after Redis was back; at most 2s are allowed", round, took)
		}
		in.leave(during, "during-"+strconv.Itoa(round))
	}
	s.end("load")
	eventually(t, 5*time.Second, func() string { return in.wrong(nodes) })
	in.check(t)
	lost, local := s.check()
	counted, unsure := 0, 0
	for i, n := range nodes {
		dropped := n.metric("horizontal_transport_messages_dropped_total")
		counted += dropped
		uncertain := n.metric("horizontal_transport_messages_uncertain_total")
		unsure += uncertain
		if lost[i] < dropped || lost[i] > dropped+uncertain {
			t.Errorf("node %d counts %d lost events, and %d that it cannot know of; %d are lost", i, dropped, uncertain, lost[i])
		}
	}
	alive(t, nodes)
	slices.Sort(returns)
	t.Logf("Redis killed %d times: all consistent %v after its return in the middle, %v at most; %d events published, %v lost, %d counted as lost, %d uncertain; to a member of the same node %v at most; slowest request %v",
		times, returns[len(returns)/2].Round(time.Millisecond), returns[len(returns)-1].Round(time.Millisecond), s.published(), lost, counted, unsure, local.Round(time.Millisecond), s.slowest.Round(time.Millisecond))
	if local > time.Second {
		t.Errorf("local delivery took %v; at most 1s is allowed", local)
	}
}
