package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// recorder is the file that fills Pulse's card of messages.
const recorder = "../deploy/pulse/ReverbMetrics.php"

// beat is one event of pulse:check, and what happens at it.
type beat struct {
	Time int `json:"time"`
	// what /metrics of each node answers; nil: nobody does
	Bodies map[string]*string `json:"bodies"`
	Fail   bool               `json:"fail"` // the database is away
}

// recorded is the table pulse_aggregates, and what it took to fill it.
type recorded struct {
	Rows []struct {
		Bucket, Period, Value int
		Type, Aggregate, Key  string
	}
	Statements, Fetched int
}

// record runs the recorder against stand-ins for the classes of Laravel that it uses.
func record(t *testing.T, driver, prefix string, urls any, beats []beat) (r recorded) {
	t.Helper()
	need(t, "php")
	in, err := json.Marshal(map[string]any{"driver": driver, "prefix": prefix, "urls": urls,
		"beats": beats})
	if err != nil {
		t.Fatal(err)
	}
	file, err := filepath.Abs(recorder)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("php", "-d", "display_errors=stderr", "testdata/pulse/standins.php", file)
	var out, bad bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &bad
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s%s", err, out.Bytes(), bad.Bytes())
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	return r
}

// sums adds up one period by app and way.
func (r recorded) sums(period int) map[string]int {
	sums := map[string]int{}
	for _, row := range r.Rows {
		if row.Period == period {
			sums[row.Key+" "+strings.TrimPrefix(row.Type, "reverb_message:")] += row.Value
		}
	}
	return sums
}

// metrics is what /metrics answers, as internal/lib/metrics writes it.
func metrics(prefix, started string, totals map[string]int) *string {
	var b strings.Builder
	for _, way := range []string{"received", "sent"} {
		fmt.Fprintf(&b, "# HELP %sws_messages_%s_total Messages.\n# TYPE %sws_messages_%s_total "+
			"counter\n", prefix, way, prefix, way)
		for _, name := range slices.Sorted(maps.Keys(totals)) {
			if app, ok := strings.CutSuffix(name, " "+way); ok {
				app = strings.NewReplacer("\\", `\\`, "\"", `\"`, "\n", `\n`).Replace(app)
				fmt.Fprintf(&b, "%sws_messages_%s_total{app_id=\"%s\",port=\"8080\"} %d\n", prefix,
					way, app, totals[name])
			}
		}
	}
	if started != "" {
		fmt.Fprintf(&b, "process_start_time_seconds %s\n", started)
	}
	text := b.String()
	return &text
}

// TestPulseRecorder has the readings for which real databases were filled: their sums are
// testdata/pulse/databases.json.
func TestPulseRecorder(t *testing.T) {
	need(t, "php")
	if out, err := exec.Command("php", "-l", recorder).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var golden struct {
		Readings map[string]map[string]int `json:"totals_read_from_/metrics"`
		Expected map[string]int
	}
	b, err := os.ReadFile("testdata/pulse/databases.json")
	if err == nil {
		err = json.Unmarshal(b, &golden)
	}
	if err != nil || len(golden.Readings) != 4 {
		t.Fatal(err)
	}
	rows := golden.Expected["rows"]
	delete(golden.Expected, "rows")
	const url, begin = "http://127.0.0.1:9090/metrics", 1795708800
	for _, driver := range []string{"sqlite", "pgsql", "mysql", "mariadb"} {
		for _, with := range []string{"", "with the time of the start"} {
			var beats []beat
			for i, name := range slices.Sorted(maps.Keys(golden.Readings)) {
				started := ""
				if with != "" {
					started = fmt.Sprint(1795700000 + i/3) // the fourth is behind a restart
				}
				for second := range 15 { // a beat a second
					beats = append(beats,
						beat{begin + 15*i + second,
							map[string]*string{url: metrics("reverb_", started,
								golden.Readings[name])},
							false})
				}
			}
			r := record(t, driver, "pre_", url, beats)
			if len(r.Rows) != rows || r.Fetched != 4 || r.Statements != 3 {
				t.Errorf("%s %s: got %d rows, %d readings and %d statements", driver, with,
					len(r.Rows), r.Fetched, r.Statements)
			}
			for _, period := range []int{60, 360, 1440, 10080} {
				if got := r.sums(period); !maps.Equal(got, golden.Expected) {
					t.Errorf("%s %s, %d: got %v, want %v", driver, with, period, got,
						golden.Expected)
				}
			}
			for _, row := range r.Rows {
				if row.Aggregate != "count" || row.Bucket != begin/row.Period*row.Period {
					t.Errorf("%s: got %+v", driver, row)
				}
			}
		}
	}
}

// TestPulseRecorderInTrouble has two nodes of which one is away, a database that is away, restarts
// that the totals do not tell, and names of apps that must be escaped.
func TestPulseRecorderInTrouble(t *testing.T) {
	at := func(i int, a, b *string, fail bool) beat {
		return beat{1795708800 + 20*i, map[string]*string{"http://a/metrics": a,
			"http://b/metrics": b}, fail}
	}
	count := func(n int) map[string]int { return map[string]int{"app sent": n} }
	odd := "a\"}\\\n:n é"
	r := record(t, "pgsql", "", []string{"http://a/metrics", "http://b/metrics"}, []beat{
		at(0, metrics("reverb_", "1.5", count(1000)), nil, false),
		// 10
		at(1, metrics("reverb_", "1.5", count(1010)), metrics("soketi_", "1.5", count(5)), false),
		// 7
		at(2, metrics("reverb_", "1.5", count(1010)), metrics("soketi_", "1.5", count(12)), false),
		at(3, nil, metrics("soketi_", "1.5", count(12)), false),
		// 1030: it has begun anew meanwhile
		at(4, metrics("reverb_", "9.5", count(1030)), nil, false),
		// is not lost
		at(5, metrics("reverb_", "9.5", count(1031)), metrics("soketi_", "1.5", count(14)), true),
		// 2 and 3
		at(6, metrics("reverb_", "9.5", count(1032)), metrics("soketi_", "1.5", count(15)), false),
		at(7, metrics("", "9.5", map[string]int{"app sent": 1032, odd + " received": 4}), nil,
			false),
	})
	want := map[string]int{"app sent": 10 + 7 + 1030 + 2 + 3, odd + " received": 4}
	if got := r.sums(10080); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
