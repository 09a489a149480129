package admin

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"reverb/internal/lib/metrics"
	"reverb/internal/lib/tallies"
)

// figures are a snapshot in which no two figures are the same.
func figures() Snapshot {
	app := func(id string, n uint64) AppFigures {
		a := AppFigures{ID: id, Connections: int64(n + 1), Undelivered: int64(n + 2),
			Connected: n + 3, Disconnected: n + 4,
			Received: n + 5, ReceivedBytes: n + 6, Sent: n + 7, SentBytes: n + 8,
			ClientEvents: n + 9, Limited: n + 10,
			Requests: n + 11, RequestBytes: n + 12, ResponseBytes: n + 13, Published: n + 14}
		for i := range a.Kinds {
			k := n + 100*uint64(i+1)
			a.Kinds[i] = KindFigures{Subscribed: k + 50, Unsubscribed: k, Occupied: k + 9,
				Vacated: k + 1}
		}
		return a
	}
	hooked := app("b", 2000)
	hooked.Absent = 72
	hooked.Hooks = []tallies.Figures{{Kind: "url", To: "app.example:8080", Queued: 71,
		Oldest: started.Add(80 * time.Second), Delivered: 73, Retried: 74,
		Lost: map[string]int64{"rate": 75, "full": 0}}, {Kind: "queue", To: "shop-queues:default",
		Delivered: 76, Lost: map[string]int64{"full": 77}}}
	latency := [2]*metrics.Histogram{new(metrics.Histogram), new(metrics.Histogram)}
	latency[0].Observe(20 * time.Microsecond)
	latency[1].Observe(time.Minute)
	events, other := new(metrics.Histogram), new(metrics.Histogram)
	events.Observe(30 * time.Microsecond)
	return Snapshot{
		API:  []metrics.Timed{{Name: "events", Took: events}, {Name: "other", Took: other}},
		Apps: []AppFigures{app("a\"b", 1000), hooked},
		Loops: []Loop{{Lag: 1500 * time.Microsecond, Latency: latency[0], Backlog: 11, Queued: 12},
			{Lag: 2 * time.Second, Latency: latency[1], Backlog: 13, Queued: 14}},
		Closed:   map[string]uint64{"peer_gone": 21, "died": 22},
		Refused:  map[string]uint64{"z": 23, "unauthorized": 24},
		Draining: true, Full: true, Connections: 31, Limit: 32, ClosedForRoom: 33,
		Memory: Memory{Used: 41, Limit: 42},
		TLS:    &TLS{NotAfter: time.Unix(1_800_000_000, 0), BuffersShared: true},
		Cluster: &Cluster{Up: true, Live: true, Reconnects: 51, Lost: 52, Uncertain: 53,
			Backlog: 54, Published: 55,
			Received: 56, Troubled: 57, Malformed: 58, Unknown: 59, Duplicates: 60},
		Resumed: Resumed{Recovered: 91, Replayed: 92, Bytes: 9300,
			Not: map[string]uint64{"expired": 94, "unknown": 95}},
		Spool: &Spool{Bytes: 81, Cut: 82, Damaged: true, Errors: 83, Dropped: 84},
	}
}

// TestMetrics compares the metrics with testdata/metrics.txt, the figures of the process
// excepted. REVERB_TEST_WRITE=1 writes the file anew.
func TestMetrics(t *testing.T) {
	const file = "testdata/metrics.txt"
	text := ask(t, open(&source{snap: figures()}, nil), "GET", "/metrics", "").Body.String()
	text = regexp.MustCompile(`(?m)^((?:process|go)_\S+) .*`).ReplaceAllStringFunc(text,
		func(line string) string {
			name, _, _ := strings.Cut(line, " ")
			if name == "process_start_time_seconds" {
				return line
			}
			return name + " N"
		})
	if os.Getenv("REVERB_TEST_WRITE") != "" {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(string(b), "\n")
	for i, line := range strings.Split(text, "\n") {
		if i >= len(want) || line != want[i] {
			t.Fatalf("line %d is %s, want %s", i+1, line, want[min(i, len(want)-1)])
		}
	}
	if n := strings.Count(text, "\n") + 1; n != len(want) {
		t.Errorf("%d lines, want %d", n, len(want))
	}
}

// A figure is never negative, even if the loops count down before they count up.
func TestMetricsAreNotNegative(t *testing.T) {
	s := &source{snap: Snapshot{Apps: []AppFigures{{ID: "1", Connections: -1, Undelivered: -5}}}}
	text := ask(t, open(s, nil), "GET", "/metrics", "").Body.String()
	for _, want := range []string{`reverb_connected{app_id="1",port="8080"} 0`,
		`reverb_undelivered_bytes{app_id="1",port="8080"} 0`} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("there is no line %s", want)
		}
	}
	for _, other := range []string{"redis_", "tls_", "webhook_"} {
		if strings.Contains(text, "reverb_"+other) {
			t.Errorf("there are metrics %s of what is off", other)
		}
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		snap Snapshot
		want string
	}{
		{figures(), `{"version":"reverb 1 (go1, os/arch)","uptime_seconds":90,"draining":true,` +
			`"ready":false,"not_ready":["stopping",` +
			`"31 of 32 connections are taken; raise LimitNOFILE or add a server","an event loop ` +
			`is busy for 2s at a time"],` +
			`"connection_limit":32,"refused":47,"memory_bytes":N,"goroutines":N,` +
			`"loop_lag_seconds":2,"send_queue_bytes":26,"webhooks":"url app.example:8080: 71 ` +
			`wait, the oldest for 10s; 73 delivered, 74 requests repeated; dropped 75 (rate) | ` +
			`queue shop-queues:default: 0 wait; 76 delivered, 0 requests repeated; dropped 77 ` +
			`(full)","resumed":"9.1 KiB are kept; of subscriptions that came back, 91 got all ` +
			`that they had missed, 189 did not",` +
			`"id":"","connections":3002,"channels":144,"subscriptions":900,"messages_in":3010,` +
			`"messages_out":3014,"bytes_in":3012,` +
			`"bytes_out":3016,"publishes":3028,"apps":[{"id":"a\"b","connections":1001,` +
			`"channels":72,"subscriptions":450,` +
			`"messages_in":1005,"messages_out":1007,"bytes_in":1006,"bytes_out":1008,` +
			`"publishes":1014},` +
			`{"id":"b","connections":2001,"channels":72,"subscriptions":450,"messages_in":2005,` +
			`"messages_out":2007,` +
			`"bytes_in":2006,"bytes_out":2008,"publishes":2014}]}` + "\n"},
		{Snapshot{}, `{"version":"reverb 1 (go1, os/arch)","uptime_seconds":90,"draining":false,` +
			`"ready":true,"not_ready":null,` +
			`"connection_limit":0,"refused":0,"memory_bytes":N,"goroutines":N,` +
			`"loop_lag_seconds":0,"send_queue_bytes":0,` +
			`"id":"","connections":0,"channels":0,"subscriptions":0,"messages_in":0,` +
			`"messages_out":0,"bytes_in":0,` +
			`"bytes_out":0,"publishes":0,"apps":[]}` + "\n"},
	} {
		text := ask(t, open(&source{snap: tt.snap}, nil), "GET", "/status.json", "").Body.String()
		text = regexp.MustCompile(`"(memory_bytes|goroutines)":\d+`).ReplaceAllString(text,
			`"$1":N`)
		if text != tt.want {
			t.Errorf("got  %s\nwant %s", text, tt.want)
		}
	}
}
