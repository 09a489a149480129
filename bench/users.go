//go:build linux

package main

// Signed-in users with watchlists, on two nodes of a cluster: how fast they sign in, what they
// cost, and what happens when all of them come back at once.

import (
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	usersNodes   = 2
	usersWatched = 100 // the most that a watchlist can have
)

// users measures presence joins first, and then sign-ins, on fresh nodes each time.
func users(o *options, r *results) error {
	binary := ""
	for _, path := range o.binaries {
		binary = path
	}
	if binary == "" {
		return errors.New("this starts its nodes itself: leave -addr out")
	}
	o.progress("users: %d connections on %d nodes", o.conns, usersNodes)
	return o.eachRound([]string{"presence", "users"}, func(name string) error {
		v := &village{o: o, r: r, key: key{Scenario: "users", Server: name,
			Case: fmt.Sprintf("%d connections on %d nodes", o.conns, usersNodes)}}
		defer v.stop()
		if err := v.start(binary); err != nil {
			return err
		}
		if name == "presence" {
			return v.subscribe(OpenArgs{Channel: "presence-%", Window: 64,
				Channels: (o.conns + presenceMembers - 1) / presenceMembers})
		}
		return v.signIn()
	})
}

// village is a cluster with a client for each node.
type village struct {
	o       *options
	r       *results
	key     key
	redis   *server
	nodes   []*server
	clients []*clientProcess
}

func (v *village) start(binary string) (err error) {
	if v.redis, err = startRedis(v.o.dir); err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(v.redis.addr) // made by startRedis
	for i := range usersNodes {
		env := reverbEnv("REVERB_SCALING_ENABLED=true", "REVERB_REDIS_HOST=127.0.0.1",
			"REVERB_REDIS_PORT="+port)
		if i == 0 && v.o.admin != "" {
			env = append(env, "REVERB_ADMIN_LISTEN="+v.o.admin)
		}
		n, err := startProcess("reverb", binary, []string{"start"}, env)
		if err != nil {
			return err
		}
		v.nodes = append(v.nodes, n)
		c, err := startClient()
		if err != nil {
			return err
		}
		v.clients = append(v.clients, c)
	}
	return v.each("Client.Open", OpenArgs{}, nil)
}

func (v *village) stop() {
	for _, c := range v.clients {
		c.stop()
	}
	for _, n := range v.nodes {
		n.stop()
	}
	if v.redis != nil {
		v.redis.stop()
	}
}

func (v *village) add(metric, unit string, value float64) {
	v.key.Metric, v.key.Unit = metric, unit
	v.r.add(v.key, value)
}

// each calls a method of all clients at once, each for its share of the connections.
func (v *village) each(method string, args OpenArgs, replies []OpenReply) error {
	if replies == nil {
		replies = make([]OpenReply, len(v.clients))
	}
	share := v.o.conns / len(v.clients)
	failed := make(chan error, len(v.clients))
	for i, c := range v.clients {
		mine := args
		mine.Addr, mine.PID, mine.N, mine.First = v.nodes[i].addr, v.nodes[i].pid, share, i*share
		go func() { failed <- c.rpc.Call(method, mine, &replies[i]) }()
	}
	var all []error
	for range v.clients {
		all = append(all, <-failed)
	}
	return errors.Join(all...)
}

// subscribe subscribes all connections, or signs them in.
func (v *village) subscribe(args OpenArgs) error {
	replies := make([]OpenReply, len(v.clients))
	redis, err := cpuTime(v.redis.pid)
	if err != nil {
		return err
	}
	if args.Channel != "" { // members hear of each other; nobody waits for that here
		args.Joins = -1
	}
	if err := v.each("Client.Subscribe", args, replies); err != nil {
		return err
	}
	done := 0
	var cpu time.Duration
	setup := histogram{}
	for i := range replies {
		if err := replies[i].err(); err != nil {
			return err
		}
		done += replies[i].Opened
		cpu += replies[i].CPU
		setup.merge(&replies[i].Setup)
	}
	longest := 0.0
	for i := range replies {
		longest = max(longest, replies[i].Seconds)
	}
	after, err := cpuTime(v.redis.pid)
	if err != nil {
		return err
	}
	v.add("joins or sign-ins, 64 at a time on each node", "a second", float64(done)/longest)
	v.add("CPU of the nodes for each", "µs", micros(cpu)/float64(done))
	v.add("CPU of Redis for each", "µs", micros(after-redis)/float64(done))
	v.add("until the answer, p50", "ms", micros(setup.at(0.5))/1000)
	v.add("until the answer, p99", "ms", micros(setup.at(0.99))/1000)
	v.o.progress("  %-10s %.0f a second", v.key.Server, float64(done)/longest)
	return nil
}

// resident is the memory of all nodes.
func (v *village) resident() (sum int64, err error) {
	for _, n := range v.nodes {
		one, err := settled(n.pid)
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

func (v *village) signIn() error {
	before, err := v.resident()
	if err != nil {
		return err
	}
	args := OpenArgs{Users: v.o.conns, Watched: usersWatched, Window: 64}
	if err := v.subscribe(args); err != nil {
		return err
	}
	time.Sleep(3 * time.Second) // what the burst has left behind is given back
	after, err := v.resident()
	if err != nil {
		return err
	}
	each := float64(after-before) / float64(v.o.conns)
	v.add(fmt.Sprintf("memory of a sign-in with %d watched", usersWatched), "bytes", each)
	v.o.progress("  %-10s %.0f bytes each", v.key.Server, each)
	for _, c := range v.clients {
		if err := c.closeAll(); err != nil {
			return err
		}
	}
	args.Window = v.o.conns
	replies := make([]OpenReply, len(v.clients))
	if err := v.each("Client.Open", args, replies); err != nil {
		return err
	}
	failed, longest := 0, 0.0
	for i := range replies {
		failed += replies[i].Failed
		longest = max(longest, replies[i].Seconds)
	}
	v.add("storm: refused or failed", "connections", float64(failed))
	v.add("storm: until all were back and signed in", "s", longest)
	v.o.progress("  %-10s storm: %.2f s, %d failed", v.key.Server, longest, failed)
	return nil
}
