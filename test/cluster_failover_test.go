package test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// fault is an accident of Redis.
type fault struct {
	prepare func() // nil: nothing
	begin   func()
	done    func() string // says what is still to come; nil: begin does everything
}

// failOver lets faults happen to Redis under load, one after the other. After each it waits until
// the nodes have found the new master.
func failOver(t *testing.T, nodes []*clusterNode, faults ...fault) {
	t.Helper()
	s := startStream(t, nodes, "load", 8, 10*time.Millisecond) // so many that every master has some
	in := &room{channel: "presence-room"}
	for i, n := range nodes {
		in.join(t, n, "fixed-"+strconv.Itoa(i))
	}
	for round, f := range faults {
		time.Sleep(time.Second) // of undisturbed load
		if f.prepare != nil {
			f.prepare()
		}
		before := in.join(t, nodes[round%len(nodes)], "before-"+strconv.Itoa(round))
		begin := time.Now()
		f.begin()
		during := in.join(t, nodes[(round+1)%len(nodes)], "during-"+strconv.Itoa(round))
		in.leave(before, "before-"+strconv.Itoa(round))
		if f.done != nil {
			eventually(t, 60*time.Second, f.done)
		}
		done := time.Since(begin)
		eventually(t, 60*time.Second, func() string { return s.inconsistent(in) })
		t.Logf("fail-over %d: done after %v, all consistent after %v", round,
			done.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
		in.leave(during, "during-"+strconv.Itoa(round))
	}
	s.end("load")
	eventually(t, 10*time.Second, func() string { return in.wrong(nodes) })
	in.check(t)
	lost, local := s.check()
	counted, unsure := s.account(lost)
	alive(t, nodes)
	t.Logf("%d events published, %v lost, %d counted as lost, %d uncertain; "+
		"to a member of the same node %v at most; slowest request %v",
		s.published(), lost, counted, unsure, local.Round(time.Millisecond),
		s.slowest.Round(time.Millisecond))
	if local > 5*time.Second {
		t.Errorf("local delivery took %v; at most the 3s for which a node waits for Redis are "+
			"allowed", local)
	}
}

// TestRedisClusterFailOver kills every master of a Redis Cluster in turn, so that no server that
// the nodes were told of is left. Then one comes back and takes over while all are alive, as an
// administrator would do it.
func TestRedisClusterFailOver(t *testing.T) {
	t.Parallel()
	c, env := startRedisCluster(t)
	listenAsReverb(t, c.masters[1])
	nodes := startNodes(t, 3, env)
	nodes[0].logs("WARN", "Laravel Reverb listens", "subscribers=1")
	testClusterCache(t, nodes)
	testClusterCacheAgain(t, nodes)
	checkOrder(t, nodes, variantEvents())
	var asked time.Time
	failOver(t, nodes,
		fault{begin: c.masters[2].kill}, // it has the state of the nodes themselves
		fault{begin: c.masters[0].kill},
		fault{begin: c.masters[1].kill},
		fault{prepare: func() {
			c.masters[1].start()
			c.masters[1].mustFollow()
		}, begin: func() {
			// With FORCE: without it the master would stop taking commands, which is another fault.
			c.masters[1].must("CLUSTER", "FAILOVER", "FORCE")
			asked = time.Now()
		}, done: func() string {
			why := c.masters[1].isNot("master")
			if why != "" && time.Since(asked) > 5*time.Second { // the vote has failed
				// an error means that it has just become master
				c.masters[1].do("CLUSTER", "FAILOVER", "FORCE")
				asked = time.Now()
			}
			return why
		}})
}

// TestSentinelFailOver lets the sentinels change the master on request, and kills the new one. The
// nodes keep events that may not have reached a replica only for a second.
func TestSentinelFailOver(t *testing.T) {
	t.Parallel()
	s, env := startSentinels(t)
	nodes := startNodes(t, 3, env, "REVERB_REDIS_TIMEOUT=1")
	checkOrder(t, nodes, variantEvents())
	failOver(t, nodes,
		fault{begin: func() { s.all[0].must("SENTINEL", "FAILOVER", "live") }, done: func() string {
			there, err := redis.Values(s.replica.do("PUBSUB", "NUMSUB", "reverb:all"))
			if err != nil || there[1] != int64(len(nodes)) {
				return fmt.Sprintf("not all nodes have found the new master: %v, %v", there, err)
			}
			if s.master.isNot("slave") == "" {
				t.Error("the nodes have stayed until the old master knew that it is none; " +
					"sentinels tell it last")
			}
			return ""
		}},
		fault{prepare: s.master.mustFollow, begin: s.replica.kill})
}
