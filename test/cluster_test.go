package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// long says that a test uses its full figures, not the smaller ones of every run.
func long() bool { return os.Getenv("REVERB_TEST_LONG") != "" }

// observer is a member of the channels of checkOrder, with the events that it got on each.
type observer struct {
	*peer
	got [orderChannels][]int32
}

const orderChannels = 2

// checkOrder publishes events on all nodes from several publishers at once, some of
// them not for one member, and checks that every member of every node has got each of
// its events once and in the one order of all.
func checkOrder(t *testing.T, nodes []*clusterNode, events int) {
	t.Helper()
	const members, publishers = 4, 4 // of each node
	var all []*observer
	defer func() {
		for _, o := range all {
			o.close()
		}
	}()
	for i, n := range nodes {
		for range members {
			o := &observer{}
			var err error
			o.peer, err = n.connect(func(channel, data string) {
				c, id := channel[len(channel)-1]-'0', 0
				for _, d := range data {
					id = 10*id + int(d-'0')
				}
				o.got[c] = append(o.got[c], int32(id))
			})
			if err != nil {
				t.Fatalf("node %d: %v", i, err)
			}
			all = append(all, o)
			for c := range orderChannels {
				o.subscribe("order-"+strconv.Itoa(c), "", "")
			}
		}
	}
	for _, o := range all {
		for c := range orderChannels {
			o.mustJoin(t, "order-"+strconv.Itoa(c))
		}
	}
	// Event k goes to channel k mod orderChannels, is published by publisher k mod
	// their number, and is kept from member except[k], unless that is negative.
	count := publishers * len(nodes)
	except := make([]int, events)
	rng := rand.New(rand.NewPCG(seed(t), 0))
	for k := range except {
		if except[k] = -1; k%3 == 0 {
			except[k] = 1 + rng.IntN(len(all)-1) // member 0 gets everything
		}
	}
	begin := time.Now()
	var wg sync.WaitGroup
	var failed atomic.Value
	for p := range count {
		wg.Go(func() {
			var batch []apiEvent
			for k := p; k < events; k += count {
				e := apiEvent{Name: "e", Data: strconv.Itoa(k),
					Channel: "order-" + strconv.Itoa(k/count%orderChannels)}
				if except[k] >= 0 {
					e.SocketID = all[except[k]].id
				}
				if batch = append(batch, e); len(batch) == 10 || k+count >= events {
					if err := nodes[p%len(nodes)].publish(batch...); err != nil {
						failed.Store(err)
						return
					}
					batch = batch[:0]
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(err)
	}
	for c := range orderChannels {
		// the answer means that Redis has accepted the event, so this one comes last
		if err := nodes[c%len(nodes)].publish(apiEvent{Name: "end", Data: "-",
			Channel: "order-" + strconv.Itoa(c)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, o := range all {
		if !o.wait(30*time.Second, func() bool { return o.gotLocked("end", "") == orderChannels }) {
			t.Fatalf("member %d of node %d has no end", i%members, i/members)
		}
	}
	took := time.Since(begin)
	delivered := 0
	for c := range orderChannels {
		order := all[0].got[c]
		next := make([]int, count) // the lowest event of a publisher that may come
		seen := make([]bool, events)
		for _, k := range order {
			if seen[k] {
				t.Errorf("event %d came twice", k)
			}
			seen[k] = true
			if int(k) < next[int(k)%count] {
				t.Errorf("event %d came after a later one of its publisher", k)
			}
			next[int(k)%count] = int(k) + 1
		}
		for k := range events {
			if want := k/count%orderChannels == c; seen[k] != want {
				t.Errorf("event %d on channel %d: got %v, want %v", k, c, seen[k], want)
			}
		}
		for m, o := range all {
			want := make([]int32, 0, len(order))
			for _, k := range order {
				if except[k] != m {
					want = append(want, k)
				}
			}
			delivered += len(o.got[c])
			if !slices.Equal(o.got[c], want) {
				t.Errorf("member %d of node %d, channel %d: %s", m%members, m/members, c,
					unlike(o.got[c], want))
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d nodes: %d events, each to %d members, in %v (%.0f events, "+
		"%.0f deliveries a second): none lost, doubled or out of order",
		len(nodes), events, len(all), took.Round(time.Millisecond), float64(events)/took.Seconds(),
		float64(delivered)/took.Seconds())
}

// unlike says where two sequences differ.
func unlike(got, want []int32) string {
	count := map[int32]int{}
	for _, k := range got {
		count[k]++
	}
	lost, doubled, strange := 0, 0, 0
	for _, k := range want {
		if count[k] == 0 {
			lost++
		}
		count[k]--
	}
	for _, n := range count {
		if n > 0 {
			doubled += n
		}
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	if lost+doubled == 0 {
		strange = 1
	}
	return fmt.Sprintf("%d events, want %d: %d lost, %d too many, order differs: %v, "+
		"first at %d: got %v, want %v", len(got), len(want), lost, doubled, strange > 0, at,
		got[at:min(at+3, len(got))], want[at:min(at+3, len(want))])
}

func TestClusterOrder(t *testing.T) {
	r := startRedis(t)
	nodes := startNodes(t, 5, r.env())
	for _, c := range []struct{ nodes, events int }{{2, 20_000}, {3, 20_000}, {5, 60_000}} {
		checkOrder(t, nodes[:c.nodes], c.events)
	}
}

func TestClusterOrderOverTLS(t *testing.T) {
	t.Parallel()
	_, env := startTLSRedis(t)
	checkOrder(t, startNodes(t, 3, env), variantEvents())
}

func TestClusterOrderAsACLUser(t *testing.T) {
	t.Parallel()
	_, env := startACLRedis(t)
	checkOrder(t, startNodes(t, 3, env), variantEvents())
}

// variantEvents is how many events show that a setting of Redis works like the plain one. Fewer: a
// rare fault is missed.
func variantEvents() int {
	if long() {
		return 100_000
	}
	return 10_000
}
