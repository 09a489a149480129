package test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestPresenceLingers leaves a large presence channel as its only member on a node, and comes back:
// all nodes know at once that the member has gone, Redis makes no snapshot for the way back, and
// the node hears the channel no more when it has lingered. When the node is killed after its member
// has come back, the others remove the member.
func TestPresenceLingers(t *testing.T) {
	t.Parallel()
	const channel, users = "presence-large", 110
	r := startRedis(t)
	nodes := startNodes(t, 2, r.env())
	a, b := nodes[0], nodes[1]
	var all []*peer
	for i := range users {
		p := a.open(t)
		p.quiet = true
		p.subscribe(channel, fmt.Sprintf("u%03d", i), "{}")
		all = append(all, p)
	}
	p := b.open(t)
	join := func(want int) {
		t.Helper()
		p.subscribe(channel, "guest", "{}")
		p.mustJoin(t, channel)
		if got := p.users(channel); len(got) != want || !slices.Contains(got, "guest") {
			t.Fatalf("the guest is told %d members, want %d: %v", len(got), want, got)
		}
	}
	told := func(want int) {
		t.Helper()
		eventually(t, 40*time.Second, func() string {
			for _, n := range nodes {
				got, err := n.users(channel)
				if err != nil || len(got) != want {
					return fmt.Sprintf("%s tells %d users, %v, want %d", n.addr, len(got), err,
						want)
				}
			}
			return ""
		})
	}
	hear := func() string {
		return fmt.Sprint(r.must("PUBSUB", "NUMSUB", "reverb:app-id:"+channel))
	}
	snapshots := func() int {
		_, after, _ := strings.Cut(fmt.Sprintf("%s", r.must("INFO", "commandstats")),
			"cmdstat_smembers:calls=") // only sync and leave ask for it
		count, _, _ := strings.Cut(after, ",")
		n, err := strconv.Atoi(count)
		if err != nil {
			t.Fatalf("no calls of SMEMBERS: %v", err)
		}
		return n
	}
	told(users)
	join(users + 1)
	two := hear()
	p.unsubscribe(channel)
	told(users)
	all[0].unsubscribe(channel)
	told(users - 1)
	before := snapshots()
	join(users)
	if got := snapshots(); got != before || hear() != two {
		t.Errorf("%d scripts for whole topics ran when the member came back, want none; heard: %s",
			got-before, hear())
	}
	p.unsubscribe(channel)
	told(users - 1)
	eventually(t, 20*time.Second, func() string {
		if got := hear(); got == two {
			return "the node still hears the channel: " + got
		}
		return ""
	})
	join(users)
	p.unsubscribe(channel)
	told(users - 1)
	join(users)
	b.kill()
	nodes = nodes[:1]
	told(users - 1)
	eventually(t, 10*time.Second, func() string {
		if got := all[1].users(channel); len(got) != users-1 || slices.Contains(got, "guest") {
			return fmt.Sprintf("a member sees %d members after the guest has gone", len(got))
		}
		return ""
	})
}
