//go:build linux

// Bench measures the cost of a delivery, a connection and a publish in reverb, and compares it with
// a floor and with other libraries. The results are ratios; see README.md.
//
//	main.go       flags, which scenarios run
//	scenarios.go  the scenarios: what they do and what they count
//	client.go     the client process: connections in one epoll loop
//	publish.go    its publishers
//	serve*.go     the servers to compare with
//	proc.go       processes and their figures in /proc
//	report.go     medians, ratios, tables, JSON
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// commandVariable tells a test binary that it is started as a subcommand.
const commandVariable = "BENCH_COMMAND"

// options are the flags.
type options struct {
	only         []string
	servers      []string
	binaries     map[string]string // reverb binaries by server name
	addr         string
	admin        string
	pid          int
	rounds       int
	seconds      float64
	members      []int
	conns        int
	storm        int
	claimers     int
	claimSeconds float64
	claimLimit   string
	size         int
	inFlight     int
	churn        time.Duration
	json         string
	dir          string // for the binary and the certificate
	quiet        bool   // no progress
}

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "client":
		return runClient()
	case len(args) == 2 && args[0] == "serve":
		return runServe(args[1])
	}
	o, err := parseFlags(args)
	if err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp("", "reverb-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	r, err := run(o)
	if r != nil {
		if err := r.finish(); err != nil {
			return err
		}
		r.write(os.Stdout)
		if o.json != "" {
			if err := r.writeJSON(o.json); err != nil {
				return err
			}
		}
	}
	return err
}

func parseFlags(args []string) (*options, error) {
	o := &options{binaries: map[string]string{}}
	f := flag.NewFlagSet("bench", flag.ExitOnError)
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: go run . [flags]            run scenarios\n       go "+
			"run . serve NAME         one of the servers to compare with")
		f.PrintDefaults()
	}
	full := f.Bool("full", false, "all sizes, more and longer rounds: takes an hour or two")
	only := f.String("only", strings.Join(quick, ","), "scenarios: "+strings.Join(names(), ", "))
	servers := f.String("servers", "", "servers to measure (default: all that the scenario knows)")
	binary := f.String("reverb", "", "reverb binary, or several to compare: "+
		"before=PATH,after=PATH (default: build the folder above)")
	members := f.String("members", "100,1000", "fanout: members of the channel")
	f.StringVar(&o.addr, "addr", "", "address of a reverb that runs already, with app ID 1, "+
		"key \"key\", secret \"secret\"; needs -pid")
	f.IntVar(&o.pid, "pid", 0, "its process")
	f.StringVar(&o.admin, "admin", "",
		"REVERB_ADMIN_LISTEN of the reverbs that are started, for profiling")
	f.IntVar(&o.rounds, "rounds", 3,
		"rounds; the order of the servers changes from one to the next")
	f.Float64Var(&o.seconds, "seconds", 1.5, "length of each measurement")
	f.IntVar(&o.conns, "conns", 2000, "memory, joins: connections")
	f.IntVar(&o.storm, "storm", 5000, "storm: connections")
	f.IntVar(&o.claimers, "claimers", 100,
		"claims: connections with channels of their own; ten times as many do not read")
	f.Float64Var(&o.claimSeconds, "claim-seconds", 40, "claims: publish for so long at most")
	f.StringVar(&o.claimLimit, "claim-limit", "256MiB", "claims: REVERB_MEMORY_LIMIT")
	f.IntVar(&o.size, "size", 64, "bytes of an event's data")
	f.IntVar(&o.inFlight, "inflight", 64,
		"without pause: most events published and not yet received by all; 0 is no bound")
	f.DurationVar(&o.churn, "churn", 0, "churn for so long")
	f.StringVar(&o.json, "json", "", "file to write the results to")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q; see -h", f.Arg(0))
	}
	set := map[string]bool{}
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if *full {
		for name, do := range map[string]func(){
			"only":    func() { *only = strings.Join(names(), ",") },
			"members": func() { *members = "1,100,1000,10000" },
			"rounds":  func() { o.rounds = 5 },
			"seconds": func() { o.seconds = 5 },
			"conns":   func() { o.conns = 19000 },
			"storm":   func() { o.storm = 15000 },
			"churn":   func() { o.churn = time.Hour },
		} {
			if !set[name] {
				do()
			}
		}
	}
	if o.churn > 0 && !set["only"] && !*full {
		*only = "churn"
	}
	for s := range strings.SplitSeq(*only, ",") {
		if !slices.Contains(names(), s) {
			return nil, fmt.Errorf("-only %s: no such scenario; there are %s", s,
				strings.Join(names(), ", "))
		}
		o.only = append(o.only, s)
	}
	if *servers != "" {
		o.servers = strings.Split(*servers, ",")
	}
	for s := range strings.SplitSeq(*members, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxConns {
			return nil, fmt.Errorf("-members %s: a number from 1 to %d, or several with commas", s,
				maxConns)
		}
		o.members = append(o.members, n)
	}
	if o.conns < 4 || o.conns > maxConns {
		return nil, fmt.Errorf("-conns %d: a number from 4 to %d", o.conns, maxConns)
	}
	if o.storm < 1 || o.storm > maxConns-stormMembers {
		return nil, fmt.Errorf("-storm %d: a number from 1 to %d", o.storm, maxConns-stormMembers)
	}
	if (o.addr == "") != (o.pid == 0) {
		return nil, fmt.Errorf("-addr and -pid go together")
	}
	for s := range strings.SplitSeq(*binary, ",") {
		name, path, ok := strings.Cut(s, "=")
		if !ok {
			name, path = "reverb", s
		}
		if path == "" {
			continue
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		o.binaries[name] = path
	}
	return o, nil
}

// run runs the scenarios. If there is an error, the results so far are returned with it.
func run(o *options) (*results, error) {
	if len(o.binaries) == 0 && o.addr == "" {
		path, err := buildReverb(o.dir)
		if err != nil {
			return nil, err
		}
		o.binaries["reverb"] = path
	}
	r, err := newResults(o.rounds)
	if err != nil {
		return nil, err
	}
	for _, s := range scenarios {
		if slices.Contains(o.only, s.name) {
			if err := s.run(o, r); err != nil {
				return r, fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return r, nil
}
