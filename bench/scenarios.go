//go:build linux

package main

// The scenarios.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// maxConns is how many connections one process can have with 20,000 descriptors.
const maxConns = 19_900

type scenario struct {
	name string
	run  func(*options, *results) error
}

var scenarios = []scenario{
	{"memory", memory},
	{"fanout", fanout},
	{"http", httpPublishes},
	{"client-events", clientEvents},
	{"joins", joins},
	{"cycles", cycles},
	{"storm", storm},
	{"claims", claims},
	{"cluster", cluster},
	{"churn", churn},
	{"users", users},
}

// quick are the scenarios that run when none is named.
var quick = []string{"memory", "fanout", "http", "client-events", "joins", "cycles", "storm"}

func names() []string {
	var all []string
	for _, s := range scenarios {
		all = append(all, s.name)
	}
	return all
}

// progress prints the progress on standard error.
func (o *options) progress(format string, args ...any) {
	if o.quiet {
		return
	}
	fmt.Fprintf(os.Stderr, "%s "+format+"\n",
		append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// contestants are the servers of a scenario: the reverbs, and the other servers that the flags do
// not exclude.
func (o *options) contestants(others ...string) []string {
	var all []string
	if o.addr != "" {
		all = append(all, "reverb")
	}
	for name := range o.binaries {
		all = append(all, name)
	}
	slices.Sort(all)
	all = append(all, others...)
	if len(o.servers) > 0 {
		all = slices.DeleteFunc(all, func(s string) bool { return !slices.Contains(o.servers, s) })
	}
	return all
}

// start starts a server by name. env is for reverb.
func (o *options) start(name string, env ...string) (*server, error) {
	if path, ok := o.binaries[name]; ok {
		if o.admin != "" {
			env = append(env, "REVERB_ADMIN_LISTEN="+o.admin)
		}
		return startProcess(name, path, []string{"start"}, reverbEnv(env...))
	}
	if name == "reverb" && o.addr != "" {
		if len(env) > 0 {
			return nil, fmt.Errorf("this needs a reverb with %v: leave -addr out", env)
		}
		return &server{name: name, addr: o.addr, pid: o.pid}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startProcess(name, self, []string{"serve", name}, []string{commandVariable + "=1"})
}

// rounds calls f for each server in each round, in an order that changes.
func (o *options) eachRound(servers []string, f func(server string) error) error {
	for round := range o.rounds {
		order := slices.Clone(servers)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for i := range order {
			name := order[(i+round/2)%len(order)]
			if err := f(name); err != nil {
				return fmt.Errorf("%s, round %d: %w", name, round+1, err)
			}
		}
	}
	return nil
}

// with starts a server and a client and ends both after f.
func (o *options) with(name string, env []string, f func(*server, *clientProcess) error) error {
	s, err := o.start(name, env...)
	if err != nil {
		return err
	}
	defer s.stop()
	c, err := startClient()
	if err != nil {
		return err
	}
	defer c.stop()
	if err := f(s, c); err != nil {
		if s.log != nil && s.log.String() != "" {
			return fmt.Errorf("%w\nlast words of the server:\n%s", err, s.log)
		}
		return err
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / 1e3 }

// --- fanout ---

// rateFor is how many events a second a channel of n members gets: enough work for a server, but
// far from its limit.
func rateFor(n int) float64 {
	if n > 2000 {
		return 50_000 / float64(n)
	}
	return 50
}

func fanout(o *options, r *results) error {
	for _, n := range o.members {
		o.progress("fanout: %d members", n)
		err := o.eachRound(o.contestants(append([]string{"floor"}, libraries...)...),
			func(name string) error {
				return o.with(name, nil,
					func(s *server, c *clientProcess) error { return fanoutOnce(o, r, s, c, n) })
			})
		if err != nil {
			return err
		}
	}
	return nil
}

func fanoutOnce(o *options, r *results, s *server, c *clientProcess, n int) error {
	if _, err := c.open(OpenArgs{Addr: s.addr, N: n, Channel: "bench"}); err != nil {
		return err
	}
	k := key{Scenario: "fanout", Case: strconv.Itoa(n) + " members", Server: s.name}
	if n == 1 {
		k.Case = "1 member"
	}
	add := func(metric, unit string, value float64) {
		k.Metric, k.Unit = metric, unit
		r.add(k, value)
	}
	args := RunArgs{Addr: s.addr, PID: s.pid, Channel: "bench", Members: n, Publishers: 1,
		InFlight: 1, Seconds: 0.2, Size: o.size}
	if _, err := c.run(args); err != nil { // warm
		return err
	}
	args.Seconds = o.seconds
	one, err := c.run(args)
	if err != nil {
		return fmt.Errorf("one at a time: %w", err)
	}
	add("CPU per delivery, one event at a time", "µs", micros(one.CPU)/float64(one.Delivered))

	args.InFlight, args.Rate = 0, rateFor(n)
	fixed, err := c.run(args)
	if err != nil {
		return fmt.Errorf("at a fixed rate: %w", err)
	}
	rate := number(args.Rate) + " events/s"
	add("publish to receive at "+rate+", p50", "µs", micros(fixed.Latency.at(0.5)))
	add("publish to receive at "+rate+", p99", "µs", micros(fixed.Latency.at(0.99)))
	add("CPU per delivery at "+rate, "µs", micros(fixed.CPU)/float64(fixed.Delivered))

	args.InFlight, args.Rate, args.Publishers = o.inFlight, 0, maxPublishers
	flood, err := c.run(args)
	if err != nil {
		return fmt.Errorf("without pause: %w", err)
	}
	add("CPU per delivery without pause, 8 publishers", "µs",
		micros(flood.CPU)/float64(flood.Delivered))
	add("deliveries without pause", "a second", float64(flood.Delivered)/flood.Seconds)
	o.progress("  %-10s one at a time %.2f µs, p50 %v, p99 %v, without pause %.2f µs", s.name,
		micros(one.CPU)/float64(one.Delivered),
		fixed.Latency.at(0.5).Round(time.Microsecond),
		fixed.Latency.at(0.99).Round(time.Microsecond), micros(flood.CPU)/float64(flood.Delivered))
	return nil
}

// --- memory ---

// memoryCase is one kind of connection.
type memoryCase struct {
	name string
	args OpenArgs
	env  []string

	compare bool // with the libraries
}

func memory(o *options, r *results) error {
	cert, err := selfSigned(o.dir)
	if err != nil {
		return err
	}
	cases := []memoryCase{
		{name: "plain, no subscription"},
		{name: "plain, one subscription", args: OpenArgs{Channel: "bench"}, compare: true},
		{name: "plain, presence, 10 members a channel",
			args: OpenArgs{Channel: "presence-%", Channels: (o.conns + 9) / 10}},
		{name: "compressed, one subscription", args: OpenArgs{Channel: "bench", Compress: true},
			env: []string{"REVERB_COMPRESSION=true"}},
		{name: "TLS, one subscription", args: OpenArgs{Channel: "bench", TLS: true},
			env: []string{"REVERB_TLS_CERT=" + cert}},
	}
	for _, c := range cases {
		if o.addr != "" && len(c.env) > 0 {
			o.progress("memory: %s: left out, -addr is given", c.name)
			continue
		}
		o.progress("memory: %s, %d connections", c.name, o.conns)
		servers := o.contestants()
		if c.compare {
			servers = o.contestants(libraries...)
		}
		err := o.eachRound(servers, func(name string) error {
			return o.with(name, c.env, func(s *server, cl *clientProcess) error {
				return memoryOnce(o, r, s, cl, c)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// libraries are the servers on libraries that others use.
var libraries = []string{"gorilla", "coder", "gws", "nbio"}

// settled is the least resident memory within two seconds, so that memory that a busy process gives
// back does not count.
func settled(pid int) (int64, error) {
	least := int64(1) << 62
	for range 10 {
		n, err := rss(pid)
		if err != nil {
			return 0, err
		}
		least = min(least, n)
		time.Sleep(200 * time.Millisecond)
	}
	return least, nil
}

func memoryOnce(o *options, r *results, s *server, c *clientProcess, kind memoryCase) error {
	k := key{Scenario: "memory", Case: kind.name + ", " + strconv.Itoa(o.conns) + " connections",
		Server: s.name}
	add := func(metric, unit string, value float64) {
		k.Metric, k.Unit = metric, unit
		r.add(k, value)
	}
	args := kind.args
	args.Addr = s.addr
	// The first connections allocate what every process has only once.
	args.N = 50
	if _, err := c.open(args); err != nil {
		return err
	}
	before, err := settled(s.pid)
	if err != nil {
		return err
	}
	kernel, err := kernelMemory()
	if err != nil {
		return err
	}
	add("process before", "KiB", float64(before)/1024)
	opened := 0
	var half, full int64
	for _, share := range []int{4, 2, 1} {
		half = full
		args.N = o.conns/share - opened
		opened += args.N
		if _, err := c.open(args); err != nil {
			return err
		}
		if full, err = settled(s.pid); err != nil {
			return err
		}
		part := "all"
		if share > 1 {
			part = "1/" + strconv.Itoa(share)
		}
		add("process, each, of "+part, "bytes", float64(full-before)/float64(opened))
	}
	add("process, each of the second half", "bytes", float64(full-half)/float64(args.N))
	kernelFull, err := kernelMemory()
	if err != nil {
		return err
	}
	add("kernel, each, both ends", "bytes", float64(kernelFull-kernel)/float64(opened))
	if err := c.closeAll(); err != nil {
		return err
	}
	time.Sleep(2 * time.Second)
	left, err := settled(s.pid)
	if err != nil {
		return err
	}
	add("process after they closed, over before", "KiB", float64(left-before)/1024)
	args.N = o.conns + 50
	if _, err := c.open(args); err != nil {
		return err
	}
	again, err := settled(s.pid)
	if err != nil {
		return err
	}
	add("process with as many again, over the first time", "KiB", float64(again-full)/1024)
	o.progress("  %-10s %.0f bytes each", s.name, float64(full-before)/float64(opened))
	return nil
}

// --- http ---

// httpCase is one way to publish.
type httpCase struct {
	name        string
	channels    int
	members     int // of each channel
	noKeepAlive bool
	compare     bool // with a handler that only reads the body
}

func httpPublishes(o *options, r *results) error {
	for _, kind := range []httpCase{
		{name: "1,000 channels without members, keep-alive", channels: 1000, compare: true},
		{name: "1,000 channels without members, a connection each", channels: 1000,
			noKeepAlive: true, compare: true},
		{name: "1,000 channels with a member each, keep-alive", channels: 1000, members: 1},
	} {
		o.progress("http: %s", kind.name)
		servers := o.contestants()
		if kind.compare {
			servers = o.contestants("http-bare")
		}
		err := o.eachRound(servers, func(name string) error {
			return o.with(name, nil, func(s *server, c *clientProcess) error {
				return httpOnce(o, r,
					s, c, kind)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func httpOnce(o *options, r *results, s *server, c *clientProcess, kind httpCase) error {
	if kind.members > 0 {
		if _, err := c.open(OpenArgs{Addr: s.addr, N: kind.channels, Channel: "many-%",
			Channels: kind.channels}); err != nil {
			return err
		}
	}
	k := key{Scenario: "http", Case: kind.name, Server: s.name}
	add := func(metric, unit string, value float64) {
		k.Metric, k.Unit = metric, unit
		r.add(k, value)
	}
	args := RunArgs{Addr: s.addr, PID: s.pid, Channel: "many-%", Channels: kind.channels,
		Members: kind.members, Publishers: maxPublishers,
		InFlight: o.inFlight, Seconds: 0.2, Size: o.size, NoKeepAlive: kind.noKeepAlive}
	if _, err := c.run(args); err != nil { // warm
		return err
	}
	args.Seconds = o.seconds
	run, err := c.run(args)
	if err != nil {
		return err
	}
	add("publishes, 8 publishers", "a second", float64(run.Published)/run.Sending)
	add("CPU per publish", "µs", micros(run.CPU)/float64(run.Published))
	add("request to answer, p50", "µs", micros(run.HTTP.at(0.5)))
	add("request to answer, p99", "µs", micros(run.HTTP.at(0.99)))
	if kind.members > 0 {
		add("publish to receive, p50", "µs", micros(run.Latency.at(0.5)))
		add("publish to receive, p99", "µs", micros(run.Latency.at(0.99)))
	}
	args.Publishers, args.InFlight = 1, 1
	one, err := c.run(args)
	if err != nil {
		return err
	}
	add("request to answer, one publisher, p50", "µs", micros(one.HTTP.at(0.5)))
	add("request to answer, one publisher, p99", "µs", micros(one.HTTP.at(0.99)))
	o.progress("  %-10s %.0f a second, %.1f µs of CPU each", s.name,
		float64(run.Published)/run.Sending, micros(run.CPU)/float64(run.Published))
	return nil
}

// --- client-events ---

func clientEvents(o *options, r *results) error {
	for _, n := range []int{2, 100} {
		o.progress("client-events: %d members", n)
		err := o.eachRound(o.contestants(), func(name string) error {
			return o.with(name, nil, func(s *server, c *clientProcess) error {
				return clientEventsOnce(o, r, s, c, n)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func clientEventsOnce(o *options, r *results, s *server, c *clientProcess, n int) error {
	if _, err := c.open(OpenArgs{Addr: s.addr, N: n, Channel: "private-bench"}); err != nil {
		return err
	}
	k := key{Scenario: "client-events", Case: strconv.Itoa(n) + " members of a private channel",
		Server: s.name}
	add := func(metric, unit string, value float64) {
		k.Metric, k.Unit = metric, unit
		r.add(k, value)
	}
	args := RunArgs{Addr: s.addr, PID: s.pid, Channel: "private-bench", Members: n - 1,
		Publishers: 1, InFlight: 1, Seconds: 0.2, Size: o.size, Client: true}
	if _, err := c.run(args); err != nil { // warm
		return err
	}
	args.Seconds = o.seconds
	one, err := c.run(args)
	if err != nil {
		return fmt.Errorf("one at a time: %w", err)
	}
	add("send to receive, one at a time, p50", "µs", micros(one.Latency.at(0.5)))
	add("send to receive, one at a time, p99", "µs", micros(one.Latency.at(0.99)))
	add("CPU per delivery, one at a time", "µs", micros(one.CPU)/float64(one.Delivered))
	args.Publishers, args.InFlight = min(n, maxPublishers), o.inFlight
	flood, err := c.run(args)
	if err != nil {
		return fmt.Errorf("without pause: %w", err)
	}
	add("events without pause", "a second", float64(flood.Published)/flood.Seconds)
	add("CPU per delivery without pause", "µs", micros(flood.CPU)/float64(flood.Delivered))
	o.progress("  %-10s %.0f a second", s.name, float64(flood.Published)/flood.Seconds)
	return nil
}

// --- joins ---

const presenceMembers = 20 // of a channel

func joins(o *options, r *results) error {
	o.progress("joins: %d connections", o.conns)
	return o.eachRound(o.contestants(), func(name string) error {
		return o.with(name, nil, func(s *server, c *clientProcess) error {
			if _, err := c.open(OpenArgs{Addr: s.addr, N: o.conns}); err != nil {
				return err
			}
			channels := (o.conns + presenceMembers - 1) / presenceMembers
			args := OpenArgs{Channel: "presence-%", Channels: channels, PID: s.pid, Window: 64}
			for i := range channels { // members that are there already hear of it
				n := int64((o.conns - i + channels - 1) / channels)
				args.Joins += n * (n - 1) / 2
			}
			var reply OpenReply
			if err := c.rpc.Call("Client.Subscribe", args, &reply); err != nil {
				return err
			}
			if err := reply.err(); err != nil {
				return err
			}
			k := key{Scenario: "joins", Case: fmt.Sprintf("presence channels of %d members, "+
				"%d connections", presenceMembers, o.conns), Server: s.name}
			for _, m := range []struct {
				metric, unit string
				value        float64
			}{
				{"joins, 64 at a time", "a second", float64(reply.Opened) / reply.Seconds},
				{"CPU per join, with all that hear of it", "µs",
					micros(reply.CPU) / float64(reply.Opened)},
				{"subscribe to answer, p50", "µs", micros(reply.Setup.at(0.5))},
				{"subscribe to answer, p99", "µs", micros(reply.Setup.at(0.99))},
			} {
				k.Metric, k.Unit = m.metric, m.unit
				r.add(k, m.value)
			}
			o.progress("  %-10s %.0f a second", s.name, float64(reply.Opened)/reply.Seconds)
			return nil
		})
	})
}

// --- cycles ---

func cycles(o *options, r *results) error {
	o.progress("cycles")
	return o.eachRound(o.contestants("gorilla"), func(name string) error {
		return o.with(name, nil, func(s *server, c *clientProcess) error {
			args := OpenArgs{Addr: s.addr, PID: s.pid, Channel: "bench", Close: true, Window: 64,
				Seconds: 0.3}
			if _, err := c.open(args); err != nil { // warm
				return err
			}
			args.Seconds = o.seconds
			reply, err := c.open(args)
			if err != nil {
				return err
			}
			k := key{Scenario: "cycles", Case: "connect, subscribe, close; 64 at a time",
				Server: s.name}
			for _, m := range []struct {
				metric, unit string
				value        float64
			}{
				{"cycles", "a second", float64(reply.Opened) / reply.Seconds},
				{"CPU per cycle", "µs", micros(reply.CPU) / float64(reply.Opened)},
				{"a cycle, p50", "µs", micros(reply.Setup.at(0.5))},
				{"a cycle, p99", "µs", micros(reply.Setup.at(0.99))},
			} {
				k.Metric, k.Unit = m.metric, m.unit
				r.add(k, m.value)
			}
			o.progress("  %-10s %.0f a second", s.name, float64(reply.Opened)/reply.Seconds)
			return nil
		})
	})
}

// --- storm ---

const stormMembers = 1000 // of the channel that goes on meanwhile

func storm(o *options, r *results) error {
	o.progress("storm: %d connections come back at once", o.storm)
	return o.eachRound(o.contestants("gorilla"), func(name string) error {
		return o.with(name, nil, func(s *server, steady *clientProcess) error {
			return stormOnce(o,
				r, s, steady)
		})
	})
}

func stormOnce(o *options, r *results, s *server, steady *clientProcess) error {
	if _, err := steady.open(OpenArgs{Addr: s.addr, N: stormMembers,
		Channel: "steady"}); err != nil {
		return err
	}
	crowd, err := startClient()
	if err != nil {
		return err
	}
	defer crowd.stop()
	args := OpenArgs{Addr: s.addr, N: o.storm, Channel: "crowd-%", Channels: 100}
	if _, err := crowd.open(args); err != nil {
		return fmt.Errorf("before the storm: %w", err)
	}
	run := RunArgs{Addr: s.addr, PID: s.pid, Channel: "steady", Members: stormMembers,
		Publishers: 1, Rate: 50, Seconds: max(o.seconds, 1), Size: o.size}
	calm, err := steady.run(run)
	if err != nil {
		return fmt.Errorf("before the storm: %w", err)
	}
	run.Seconds = 120
	type outcome struct {
		reply RunReply
		err   error
	}
	during := make(chan outcome, 1)
	go func() {
		reply, err := steady.run(run)
		during <- outcome{reply, err}
	}()
	if err := crowd.closeAll(); err != nil {
		return err
	}
	args.Window, args.Seconds, args.PID = o.storm, 60, s.pid
	var reply OpenReply
	if err := crowd.rpc.Call("Client.Open", args, &reply); err != nil {
		return err
	}
	if err := steady.rpc.Call("Client.Stop", struct{}{}, &struct{}{}); err != nil {
		return err
	}
	out := <-during
	if out.err != nil {
		return fmt.Errorf("during the storm: %w", out.err)
	}
	k := key{Scenario: "storm", Case: fmt.Sprintf("%d connections come back at once, "+
		"%d members of another channel get 50 events/s", o.storm, stormMembers), Server: s.name}
	for _, m := range []struct {
		metric, unit string
		value        float64
	}{
		{"refused or failed", "connections", float64(reply.Failed)},
		{"until all were back and subscribed", "s", reply.Seconds},
		{"CPU per connection, the events included", "µs",
			micros(reply.CPU) / float64(max(reply.Opened, 1))},
		{"connect to subscribed, p50", "ms", micros(reply.Setup.at(0.5)) / 1000},
		{"connect to subscribed, p99", "ms", micros(reply.Setup.at(0.99)) / 1000},
		{"publish to receive before, p50", "µs", micros(calm.Latency.at(0.5))},
		{"publish to receive before, p99", "µs", micros(calm.Latency.at(0.99))},
		{"publish to receive meanwhile, p50", "µs", micros(out.reply.Latency.at(0.5))},
		{"publish to receive meanwhile, p99", "µs", micros(out.reply.Latency.at(0.99))},
	} {
		k.Metric, k.Unit = m.metric, m.unit
		r.add(k, m.value)
	}
	o.progress("  %-10s %.2f s, %d failed %v", s.name, reply.Seconds, reply.Failed, reply.Reasons)
	return nil
}

// selfSigned writes a certificate for localhost with its key and returns the file.
func selfSigned(dir string) (string, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(240 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", err
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	path := filepath.Join(dir, "tls.pem")
	return path, os.WriteFile(path, b, 0o600)
}
