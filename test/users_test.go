package test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"
)

// signIn signs a peer in, as Pusher's library for Go signs it, and waits for the answer.
func (p *peer) signIn(t testing.TB, user map[string]any) {
	t.Helper()
	signed, err := publisher(p.node.addr).AuthenticateUser([]byte("socket_id="+p.id), user)
	if err != nil {
		t.Fatal(err)
	}
	p.send(`{"event":"pusher:signin","data":` + string(signed) + `}`)
	if !p.wait(20*time.Second, func() bool { return p.signedInLocked() || p.ended }) {
		t.Fatalf("no answer to the sign-in; got %v", p.log)
	}
}

func (p *peer) signedInLocked() bool {
	return slices.ContainsFunc(p.log, func(e peerEvent) bool {
		return e.name == "pusher:signin_success" && e.channel == ""
	})
}

// watchedLocked lists what a peer was told of the users whom it watches, in order: +user, -user.
func (p *peer) watchedLocked() (all []string) {
	for _, e := range p.log {
		if e.name != "pusher_internal:watchlist_events" {
			continue
		}
		var d struct {
			Events []struct {
				Name string
				IDs  []string `json:"user_ids"`
			}
		}
		if err := json.Unmarshal([]byte(e.data), &d); err != nil {
			return append(all, err.Error())
		}
		for _, one := range d.Events {
			for _, id := range one.IDs {
				all = append(all, map[string]string{"online": "+", "offline": "-"}[one.Name]+id)
			}
		}
	}
	return all
}

// watched waits until a peer was told as many changes as want has, and compares them.
func (p *peer) watched(t testing.TB, limit time.Duration, want ...string) {
	t.Helper()
	p.wait(limit, func() bool { return len(p.watchedLocked()) >= len(want) })
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.watchedLocked()
	slices.Sort(got) // two users of one node may go in any order
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("on %s: was told %q, want %q", p.node.addr, got, want)
	}
}

// TestClusterUsers signs users in on three nodes of a cluster. Events for a user reach every
// connection of the user, whatever the node, and nobody else. Watchers are told once of each
// change, also when a node is killed, or frozen until the others have buried it.
func TestClusterUsers(t *testing.T) {
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		testClusterUsers(t, startRedis(t).env(), false)
	})
	t.Run("frozen", func(t *testing.T) {
		t.Parallel()
		testClusterUsers(t, startRedis(t).env(), true)
	})
	t.Run("killed, with a Redis Cluster", func(t *testing.T) {
		t.Parallel()
		_, env := startRedisCluster(t)
		testClusterUsers(t, env, false)
	})
}

func testClusterUsers(t *testing.T, redis []string, frozen bool) {
	nodes := startNodes(t, 3, redis, "REVERB_APP_DISCONNECT_GRACE_MS=1500")
	watchers := []*peer{nodes[0].open(t), nodes[1].open(t)}
	for i, w := range watchers {
		w.signIn(t, map[string]any{"id": fmt.Sprintf("w%d", i),
			"watchlist": []string{"x", "y", "z"}})
		w.watched(t, 10*time.Second, "-x", "-y", "-z")
	}
	open := func(node int, id string) *peer {
		p := nodes[node].open(t)
		p.signIn(t, map[string]any{"id": id})
		return p
	}
	told := func(limit time.Duration, want ...string) {
		t.Helper()
		for _, w := range watchers {
			w.watched(t, limit, append([]string{"-x", "-y", "-z"}, want...)...)
		}
	}
	x := open(1, "x")
	told(10*time.Second, "+x")
	other := open(2, "x")
	y, z := open(2, "y"), open(2, "z")
	told(10*time.Second, "+x", "+y", "+z")
	for _, from := range []int{0, 2} {
		if err := publisher(nodes[from].addr).SendToUser("x", "e", from); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*peer{x, other} {
		p.mustGet(t, "e", "0")
		p.mustGet(t, "e", "2")
		if n := p.got("e", "0") + p.got("e", "2"); n != 2 {
			t.Errorf("%d events came to the user, want 2", n)
		}
	}
	for _, p := range append(watchers, y, z) {
		if n := p.got("e", "0") + p.got("e", "2"); n != 0 {
			t.Errorf("%d events came to a stranger", n)
		}
	}
	// a page change, to another node
	y.close()
	y = open(0, "y")
	x.close() // the user has another connection, on the node that is killed
	if frozen {
		nodes[2].freeze()
	} else {
		nodes[2].kill()
	}
	all := []string{"+x", "+y", "+z", "-x", "-z"}
	told(30*time.Second, all...)
	want := `{"channels":{"#server-to-user-w0":{},"#server-to-user-w1":{},"#server-to-user-y":{}}}`
	if got, err := nodes[0].ask("/channels", "filter_by_prefix=%23"); err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if code, b, err := nodes[1].api("POST", "/users/y/terminate_connections", nil,
		[]byte("{}")); code != 200 {
		t.Fatalf("got %d, %s, %v", code, b, err)
	}
	if !y.wait(10*time.Second, func() bool { return y.ended }) || y.closeCode() != 4009 {
		t.Errorf("the user's connection is closed with %d", y.closeCode())
	}
	all = append(all, "-y")
	told(10*time.Second, all...)
	if frozen { // the connections there are still open
		nodes[2].thaw()
		told(30*time.Second, append(all, "+x", "+z")...)
		if err := publisher(nodes[0].addr).SendToUser("x", "e", "back"); err != nil {
			t.Fatal(err)
		}
		other.mustGet(t, "e", "back")
	}
}
