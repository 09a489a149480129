//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// churn keeps a reverb busy for hours with work that may leave something behind: connections that
// come and go, presence, publishes, readers that do not read. It reads memory and goroutines twice,
// with all work paused: early (after five minutes, or a sixth of a shorter run) and at the end.
func churn(o *options, r *results) error {
	if o.churn <= 0 {
		return errors.New("-churn says for how long")
	}
	for _, name := range o.contestants() {
		admin := o.admin
		env := []string{}
		if admin == "" {
			var err error
			if admin, err = freeAddr(); err != nil {
				return err
			}
			if o.addr == "" {
				env = append(env, "REVERB_ADMIN_LISTEN="+admin)
			}
		}
		err := o.with(name, env, func(s *server, steady *clientProcess) error {
			c := &churning{o: o, r: r, s: s, admin: admin}
			return c.run(steady)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

const (
	// The connections that stay, those that come and vanish, and those that do not read. More of
	// them: a leak shows sooner. Fewer: the client takes less from the server.
	churnMembers = 500
	churnCrowd   = 1000
	churnSlow    = 20
	// churnPeriod is the time between the steps of a worker. Larger: a leak shows later. Smaller:
	// the machine is full, and a step may fail for want of time.
	churnPeriod = 200 * time.Millisecond
)

type churning struct {
	o     *options
	r     *results
	s     *server
	admin string

	pause  sync.RWMutex // held for reading during each step of a worker
	over   atomic.Bool
	opened atomic.Int64
	events atomic.Int64
}

// work repeats a step until the end.
func (c *churning) work(step func() error) error {
	for !c.over.Load() {
		c.pause.RLock()
		err := step()
		c.pause.RUnlock()
		if err != nil {
			c.over.Store(true)
			return err
		}
		time.Sleep(churnPeriod)
	}
	return nil
}

func (c *churning) run(steady *clientProcess) error {
	if _, err := steady.open(OpenArgs{Addr: c.s.addr, N: churnMembers,
		Channel: "steady"}); err != nil {
		return err
	}
	var clients []*clientProcess
	defer func() {
		for _, p := range clients {
			p.stop()
		}
	}()
	for range 4 {
		p, err := startClient()
		if err != nil {
			return err
		}
		clients = append(clients, p)
	}
	cycling, crowd, slow, flood := clients[0], clients[1], clients[2], clients[3]
	steps := []func() error{
		func() error { // events that all must get
			reply, err := steady.run(RunArgs{Addr: c.s.addr, Channel: "steady",
				Members: churnMembers, Publishers: 2, Rate: 50, Seconds: 3, Size: 100})
			c.events.Add(reply.Published)
			return err
		},
		func() error { // connect, subscribe, close
			reply, err := cycling.open(OpenArgs{Addr: c.s.addr, Channel: "steady-%", Channels: 50,
				Close: true, Window: 8, Seconds: 2})
			c.opened.Add(int64(reply.Opened))
			return err
		},
		func() error { // presence members that vanish
			reply, err := crowd.open(OpenArgs{Addr: c.s.addr, N: churnCrowd, Channel: "presence-%",
				Channels: churnCrowd / 10})
			c.opened.Add(int64(reply.Opened))
			return errors.Join(err, crowd.closeAll())
		},
		func() error { // readers that do not read: closed when a megabyte waits
			reply, err := slow.open(OpenArgs{Addr: c.s.addr, N: churnSlow, Channel: "slow",
				Stalled: true})
			c.opened.Add(int64(reply.Opened))
			if err != nil {
				return err
			}
			_, err = flood.run(RunArgs{Addr: c.s.addr, Channel: "slow", Publishers: 1, Rate: 400,
				Seconds: 3, Size: 8000})
			return errors.Join(err, slow.closeAll())
		},
	}
	errs := make(chan error, len(steps))
	var wg sync.WaitGroup
	for _, step := range steps {
		wg.Go(func() {
			if err := c.work(step); err != nil {
				errs <- err
			}
		})
	}
	began := time.Now()
	early := min(5*time.Minute, c.o.churn/6)
	k := key{Scenario: "churn", Case: c.o.churn.String(), Server: c.s.name}
	add := func(metric, unit string, value float64) {
		k.Metric, k.Unit = metric, unit
		c.r.add(k, value)
	}
	c.sleep(began.Add(early))
	first, err := c.sample()
	if err != nil {
		return err
	}
	c.sleep(began.Add(c.o.churn))
	last, err := c.sample()
	c.over.Store(true)
	wg.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	if err != nil {
		return err
	}
	if last.slow == 0 {
		return errors.New("no slow reader has been closed: the benchmark does not do what it says")
	}
	add("resident memory after "+early.String(), "KiB", first.rss/1024)
	add("resident memory at the end", "KiB", last.rss/1024)
	add("end over early", "ratio", last.rss/first.rss)
	add("goroutines after "+early.String(), "goroutines", first.goroutines)
	add("goroutines at the end", "goroutines", last.goroutines)
	add("connections opened and gone", "connections", float64(c.opened.Load()))
	add("events to "+strconv.Itoa(churnMembers)+" members that stayed", "events",
		float64(c.events.Load()))
	add("slow readers closed", "connections", last.slow)
	return nil
}

// sleep sleeps until t, or until a worker has failed, and prints the progress now and then.
func (c *churning) sleep(t time.Time) {
	said := time.Now()
	for !c.over.Load() && time.Now().Before(t) {
		time.Sleep(min(time.Second, max(0, time.Until(t))))
		if time.Since(said) >= time.Minute {
			said = time.Now()
			if n, err := rss(c.s.pid); err == nil {
				c.o.progress("  %-10s %d KiB resident, %d connections so far", c.s.name, n>>10,
					c.opened.Load())
			}
		}
	}
}

type sample struct {
	rss, goroutines, slow float64
}

// sample pauses the workers and reads the memory and the goroutines of the process.
func (c *churning) sample() (s sample, err error) {
	c.pause.Lock()
	defer c.pause.Unlock()
	time.Sleep(2 * time.Second) // the connections that the last step has closed are gone then
	n, err := settled(c.s.pid)
	if err != nil {
		return s, err
	}
	s.rss = float64(n)
	answer, err := http.Get("http://" + c.admin + "/metrics")
	if err != nil {
		return s, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return s, err
	}
	found := 0
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		var to *float64
		switch name {
		case "go_goroutines":
			to = &s.goroutines
		case `reverb_connections_closed_total{reason="slow_consumer"}`:
			to = &s.slow
		default:
			continue
		}
		if *to, err = strconv.ParseFloat(value, 64); err != nil {
			return s, fmt.Errorf("/metrics: %q: %w", line, err)
		}
		found++
	}
	if found != 2 {
		return s, fmt.Errorf("/metrics lacks goroutines or slow consumers")
	}
	return s, nil
}
