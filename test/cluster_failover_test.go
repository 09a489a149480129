package test

import (
	"slices"
	"strconv"
	"testing"
	"time"
)

// failOver kills masters of Redis under load, one after the other, and waits each time
// until the nodes have found what has taken its place.
func failOver(t *testing.T, nodes []*clusterNode, masters ...*redisServer) {
	t.Helper()
	s := startStream(t, nodes, "load", 8, 10*time.Millisecond) // so many that every master has some
	in := &room{channel: "presence-room"}
	for i, n := range nodes {
		in.join(t, n, "fixed-"+strconv.Itoa(i))
	}
	var returns []time.Duration
	for round, m := range masters {
		time.Sleep(time.Second) // of undisturbed load
		before := in.join(t, nodes[round%len(nodes)], "before-"+strconv.Itoa(round))
		begin := time.Now()
		m.kill()
		during := in.join(t, nodes[(round+1)%len(nodes)], "during-"+strconv.Itoa(round)) // is let in at once
		in.leave(before, "before-"+strconv.Itoa(round))
		eventually(t, 60*time.Second, func() string { return s.inconsistent(in) })
		returns = append(returns, time.Since(begin).Round(time.Millisecond))
		in.leave(during, "during-"+strconv.Itoa(round))
	}
	s.end("load")
	eventually(t, 10*time.Second, func() string { return in.wrong(nodes) })
	in.check(t)
	lost, local := s.check()
	counted, unsure := s.account(lost)
	alive(t, nodes)
	slices.Sort(returns)
	t.Logf("%d masters killed: all consistent again after %v; %d events published, %v lost, %d counted as lost, %d uncertain; to a member of the same node %v at most; slowest request %v",
		len(masters), returns, s.published(), lost, counted, unsure, local.Round(time.Millisecond), s.slowest.Round(time.Millisecond))
	if local > 5*time.Second {
		t.Errorf("local delivery took %v; at most the 3s for which a node waits for Redis are allowed", local)
	}
}

// TestRedisClusterFailOver kills every master of a Redis Cluster in turn. In the end
// none of those that the nodes were told of is left.
func TestRedisClusterFailOver(t *testing.T) {
	t.Parallel()
	c, env := startRedisCluster(t)
	nodes := startNodes(t, 3, env)
	checkOrder(t, nodes, variantEvents())
	failOver(t, nodes, c.masters[2], c.masters[0], c.masters[1]) // the first has the state that is not of a topic
}
