//go:build linux

package main

// The cost of a cluster: events through Redis, compared with a node without Redis.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// clusterSize is a number of nodes on one Redis; 0 is a node without Redis.
type clusterSize struct {
	name  string
	nodes int
}

var clusterSizes = []clusterSize{{"alone", 0}, {"1 node", 1}, {"2 nodes", 2}, {"4 nodes", 4}}

// clusterCase says on which nodes the members are. Events are published on the first node.
type clusterCase struct {
	name     string
	channels int
	members  int // of each channel
	spread   bool
}

// cluster measures every size in every round, in an order that changes.
func cluster(o *options, r *results) error {
	binary := ""
	for _, path := range o.binaries {
		binary = path
	}
	if binary == "" {
		return errors.New("this starts its nodes itself: leave -addr out")
	}
	var sizes []string
	for _, s := range clusterSizes {
		sizes = append(sizes, s.name)
	}
	for _, kind := range []clusterCase{
		{name: "1,000 channels, a member each on the last node", channels: 1000, members: 1},
		{name: "1 channel, 200 members on all nodes", channels: 1, members: 200, spread: true},
	} {
		o.progress("cluster: %s", kind.name)
		err := o.eachRound(sizes, func(name string) error {
			for _, s := range clusterSizes {
				if s.name == name {
					return clusterOnce(o, r, binary, s, kind)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func clusterOnce(o *options, r *results, binary string, size clusterSize,
	kind clusterCase) (err error) {
	env := []string{}
	var redis *server
	if size.nodes > 0 {
		if redis, err = startRedis(o.dir); err != nil {
			return err
		}
		defer redis.stop()
		_, port, _ := net.SplitHostPort(redis.addr) // made by startRedis
		env = append(env, "REVERB_SCALING_ENABLED=true", "REVERB_REDIS_HOST=127.0.0.1",
			"REVERB_REDIS_PORT="+port)
	}
	var nodes []*server
	for range max(size.nodes, 1) {
		n, err := startProcess("reverb", binary, []string{"start"}, reverbEnv(env...))
		if err != nil {
			return err
		}
		defer n.stop()
		nodes = append(nodes, n)
	}
	c, err := startClient()
	if err != nil {
		return err
	}
	defer c.stop()
	open := nodes[len(nodes)-1:]
	if kind.spread {
		open = nodes
	}
	for _, n := range open {
		if _, err := c.open(OpenArgs{Addr: n.addr, N: kind.channels * kind.members / len(open),
			Channel: "many-%", Channels: kind.channels, PID: n.pid}); err != nil {
			return err
		}
	}
	args := RunArgs{Addr: nodes[0].addr, PID: nodes[0].pid, Channel: "many-%",
		Channels: kind.channels, Members: kind.members, Publishers: maxPublishers,
		InFlight: o.inFlight, Seconds: 0.3, Size: o.size}
	if _, err := c.run(args); err != nil { // warm
		return err
	}
	args.Seconds = o.seconds
	before, err := cpuOf(nodes)
	if err != nil {
		return err
	}
	var redisBefore, redisAfter time.Duration
	if redis != nil {
		if redisBefore, err = cpuTime(redis.pid); err != nil {
			return err
		}
	}
	run, err := c.run(args)
	if err != nil {
		return err
	}
	after, err := cpuOf(nodes)
	if err != nil {
		return err
	}
	if redis != nil {
		if redisAfter, err = cpuTime(redis.pid); err != nil {
			return err
		}
	}
	k := key{Scenario: "cluster", Case: kind.name, Server: size.name}
	add := func(metric, unit string, value float64) {
		k.Metric, k.Unit = metric, unit
		r.add(k, value)
	}
	events := float64(run.Published)
	add("events, 8 publishers", "a second", events/run.Seconds)
	add("CPU of all nodes per event", "µs", micros(after-before)/events)
	add("CPU of the first node per event", "µs", micros(run.CPU)/events)
	add("CPU of Redis per event", "µs", micros(redisAfter-redisBefore)/events)
	add("publish to receive, p50", "µs", micros(run.Latency.at(0.5)))
	add("publish to receive, p99", "µs", micros(run.Latency.at(0.99)))
	o.progress("  %-10s %.0f a second, nodes %.1f µs, Redis %.1f µs of CPU each", size.name,
		events/run.Seconds, micros(after-before)/events, micros(redisAfter-redisBefore)/events)
	return nil
}

// cpuOf is the processor time of some processes together.
func cpuOf(nodes []*server) (sum time.Duration, err error) {
	for _, n := range nodes {
		cpu, err := cpuTime(n.pid)
		if err != nil {
			return 0, err
		}
		sum += cpu
	}
	return sum, nil
}

// startRedis starts a redis-server that keeps nothing, and waits until it answers.
func startRedis(dir string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	s := &server{name: "redis", addr: addr,
		cmd: exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "",
			"--appendonly", "no", "--dir", dir)}
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server (Debian package redis-server): %w", err)
	}
	s.pid = s.cmd.Process.Pid
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
			return s, nil
		}
		if time.Now().After(until) {
			s.stop()
			return nil, fmt.Errorf("redis-server, pid %s: %w", strconv.Itoa(s.pid), err)
		}
	}
}
