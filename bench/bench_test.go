//go:build linux

package main

import (
	"os"
	"testing"
)

// TestMain lets the test binary be the subcommands that a benchmark starts.
func TestMain(m *testing.M) {
	if os.Getenv(commandVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// smoke runs scenarios with few connections and returns the results.
func smoke(t *testing.T, args ...string) *results {
	t.Helper()
	o, err := parseFlags(append([]string{"-rounds", "1", "-seconds", "0.2", "-conns", "60",
		"-members", "20"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	o.dir = t.TempDir()
	o.quiet = true
	r, err := run(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.finish(); err != nil {
		t.Fatal(err)
	}
	r.write(t.Output())
	return r
}

func TestFanout(t *testing.T) {
	r := smoke(t, "-only", "fanout")
	for _, server := range []string{"reverb", "floor"} {
		k := key{Scenario: "fanout", Case: "20 members",
			Metric: "CPU per delivery, one event at a time", Unit: "µs"}
		if s := r.find(k, server); s == nil || s.Median <= 0 {
			t.Errorf("%s: no processor time measured: %v", server, s)
		}
	}
}

func TestClaims(t *testing.T) {
	r := smoke(t, "-only", "claims", "-claimers", "2", "-claim-seconds", "0.3", "-claim-limit",
		"64MiB")
	k := key{Scenario: "claims", Case: "2 connections with 10000 channels of their own each",
		Metric: "resident, each subscription", Unit: "bytes"}
	if s := r.find(k, "reverb"); s == nil || s.Median <= 0 {
		t.Errorf("no memory measured: %v", s)
	}
}

// The client must count exactly the published events, or its checks are worth nothing.
func TestChecks(t *testing.T) {
	good := RunReply{Published: 2, Delivered: 6}
	if err := good.err(3); err != nil {
		t.Errorf("a good run: %v", err)
	}
	for name, r := range map[string]RunReply{
		"lost":   {Published: 2, Delivered: 5},
		"twice":  {Published: 2, Delivered: 6, Twice: 1},
		"gap":    {Published: 2, Delivered: 6, Missed: 1},
		"closed": {Published: 2, Delivered: 6, Lost: OpenReply{Failed: 1}},
		"other":  {Published: 2, Delivered: 6, Other: map[string]int{"?": 1}},
	} {
		if r.err(3) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDelivery(t *testing.T) {
	e := &engine{current: &measurement{}}
	m := &member{}
	for _, seq := range []uint32{1, 2, 2, 4, 3} {
		if !e.delivery(m, []byte(`{"data":"`+eventData(3, seq, 12345, 40)+`"}`)) {
			t.Fatalf("event %d not taken", seq)
		}
	}
	if e.current.twice != 2 || e.current.missed != 1 { // 2 again, 3 late; a gap before 4
		t.Errorf("got %d twice, %d missed; want 2 and 1", e.current.twice, e.current.missed)
	}
	if e.delivery(m, []byte(`{"event":"pusher:ping","data":"{}"}`)) {
		t.Error("a ping was taken for a delivery")
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range int64(100_000) {
		h.add(i * 1000)
	}
	for _, share := range []float64{0.5, 0.9, 0.99} {
		want := share * 1e8
		if got := float64(h.at(share)); got < want*0.98 || got > want*1.02 {
			t.Errorf("at %v: got %v, want %v", share, got, want)
		}
	}
	for _, ns := range []int64{0, 1, 63, 64, 127, 128, 129, 1000, 123456789} {
		if top := bucketTop(bucket(ns)); top < ns || float64(top) > float64(ns)*1.02 {
			t.Errorf("%d is in the bucket up to %d", ns, top)
		}
	}
}

func TestFrames(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		payload := make([]byte, n)
		for _, b := range [][]byte{appendFrame(nil, opText, payload),
			appendClientFrame(nil, opText, payload)} {
			if _, size, err := parseFrame(b[:len(b)-1]); size != 0 || err != nil {
				t.Errorf("%d bytes, one short: got %d, %v", n, size, err)
			}
			f, size, err := parseFrame(b)
			if err != nil || size != len(b) || f.opcode != opText || len(f.payload) != n {
				t.Errorf("%d bytes: got opcode %d, %d of %d, %v", n, f.opcode, size, len(b), err)
			}
		}
	}
}
