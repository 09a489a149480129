//go:build linux

package main

// Results: what was measured in each round, medians, ratios, tables, JSON.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// key names one series of measurements.
type key struct {
	Scenario string `json:"scenario"` // fanout
	Case     string `json:"case"`     // 1000 members
	Metric   string `json:"metric"`   // CPU per delivery, one at a time
	Unit     string `json:"unit"`     // µs
	Server   string `json:"server"`   // reverb
}

// series is one key's values, one a round. NaN does not occur.
type series struct {
	key
	Values []float64 `json:"values"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	// medians of the ratios within each round
	ToBase   float64 `json:"to_base,omitempty"` // to the server named in Base
	Base     string  `json:"base,omitempty"`
	ToReverb float64 `json:"to_reverb,omitempty"`
}

// environment has the facts on which a result depends.
type environment struct {
	Date    string  `json:"date"`
	Command string  `json:"command"`
	Commit  string  `json:"commit"`
	CPU     string  `json:"cpu"`
	Cores   int     `json:"cores"`
	Memory  string  `json:"memory"`
	Kernel  string  `json:"kernel"`
	Go      string  `json:"go"`
	Rounds  int     `json:"rounds"`
	Seconds float64 `json:"took_seconds"`
	// of the machine's processor time, used by others during the run
	Foreign float64 `json:"foreign_cpu_share"`
}

type results struct {
	Environment environment `json:"environment"`
	Series      []*series   `json:"results"`

	began     time.Time
	busyBegan time.Duration
	bases     map[string]string // by scenario
}

func newResults(rounds int) (*results, error) {
	r := &results{began: time.Now(), bases: map[string]string{"fanout": "floor",
		"http": "http-bare", "cycles": "gorilla"}}
	var err error
	if r.busyBegan, err = busy(); err != nil {
		return nil, err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, err
	}
	r.Environment = environment{
		Date: r.began.UTC().Format("2006-01-02 15:04 UTC"), Command: "cd bench && go run . " +
			strings.Join(os.Args[1:], " "),
		Commit: commit(), CPU: firstOf("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(),
		Memory: firstOf("/proc/meminfo", "MemTotal"),
		Kernel: unix.ByteSliceToString(uts.Release[:]), Go: runtime.Version(), Rounds: rounds,
	}
	return r, nil
}

// commit is the commit of the folder above, with a mark if the folder has changes.
func commit() string {
	out, err := exec.Command("git", "-C", "..", "describe", "--always", "--dirty",
		"--exclude=*").Output()
	if err != nil {
		return "unknown: " + err.Error()
	}
	return strings.TrimSpace(string(out))
}

// firstOf is the value of the first line "name : value" of a file.
func firstOf(path, name string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(b)) {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(n) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func (r *results) add(k key, value float64) {
	for _, s := range r.Series {
		if s.key == k {
			s.Values = append(s.Values, value)
			return
		}
	}
	r.Series = append(r.Series, &series{key: k, Values: []float64{value}})
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n == 0 {
		return 0
	}
	return (v[(n-1)/2] + v[n/2]) / 2
}

// ratio is the median of the ratios within each round.
func ratio(a, b *series) float64 {
	if a == nil || b == nil || len(a.Values) != len(b.Values) {
		return 0
	}
	var v []float64
	for i := range a.Values {
		if b.Values[i] == 0 {
			return 0
		}
		v = append(v, a.Values[i]/b.Values[i])
	}
	return median(v)
}

func (r *results) find(k key, server string) *series {
	k.Server = server
	for _, s := range r.Series {
		if s.key == k {
			return s
		}
	}
	return nil
}

// finish computes medians and ratios from the values.
func (r *results) finish() error {
	for _, s := range r.Series {
		s.Median, s.Min, s.Max = median(s.Values), slices.Min(s.Values), slices.Max(s.Values)
		if base := r.bases[s.Scenario]; base != "" && base != s.Server {
			s.ToBase, s.Base = ratio(s, r.find(s.key, base)), base
		}
		if s.Server != "reverb" {
			s.ToReverb = ratio(s, r.find(s.key, "reverb"))
		}
	}
	now, err := busy()
	if err != nil {
		return err
	}
	took := time.Since(r.began)
	r.Environment.Seconds = took.Seconds()
	own := time.Duration(0)
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return err
		}
		own += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	r.Environment.Foreign = max(0, (now-r.busyBegan-own).Seconds()/took.Seconds()/float64(
		r.Environment.Cores))
	return nil
}

// number writes a value with three significant digits.
func number(v float64) string {
	switch {
	case v < 0:
		return "-" + number(-v)
	case v >= 10_000:
		s := strconv.FormatFloat(v, 'f', 0, 64)
		out := ""
		for len(s) > 3 {
			s, out = s[:len(s)-3], ","+s[len(s)-3:]+out
		}
		return s + out
	case v >= 100 || v == float64(int64(v)):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// write prints everything as tables in Markdown, one a case.
func (r *results) write(w io.Writer) {
	e := &r.Environment
	fmt.Fprintf(w, "%s, commit %s, %d × %s, %s, Linux %s, %s\n", e.Date, e.Commit, e.Cores, e.CPU,
		e.Memory, e.Kernel, e.Go)
	fmt.Fprintf(w, "`%s`: %.0f s; other programs used %.0f %% of the machine's processor time "+
		"meanwhile\n", e.Command, e.Seconds, 100*e.Foreign)
	fmt.Fprintf(w, "median (lowest–highest) of %d rounds; × is the median of the ratios within "+
		"each round\n", e.Rounds)
	type group struct{ scenario, kase string }
	var groups []group
	for _, s := range r.Series {
		if g := (group{s.Scenario, s.Case}); !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	for _, g := range groups {
		var servers []string
		var metrics []key
		for _, s := range r.Series {
			if (group{s.Scenario, s.Case}) != g {
				continue
			}
			if !slices.Contains(servers, s.Server) {
				servers = append(servers, s.Server)
			}
			k := s.key
			k.Server = ""
			if !slices.Contains(metrics, k) {
				metrics = append(metrics, k)
			}
		}
		base := r.bases[g.scenario]
		fmt.Fprintf(w, "\n### %s: %s\n\n|", g.scenario, g.kase)
		rows := [][]string{{""}}
		for _, name := range servers {
			head := name
			if name == base {
				head += " (= 1)"
			}
			rows[0] = append(rows[0], head)
		}
		for _, k := range metrics {
			row := []string{k.Metric + ", " + k.Unit}
			for _, name := range servers {
				row = append(row, cell(r.find(k, name)))
			}
			rows = append(rows, row)
		}
		writeTable(w, rows)
	}
}

func cell(s *series) string {
	if s == nil {
		return "–"
	}
	text := number(s.Median)
	if s.Min != s.Max {
		text += " (" + number(s.Min) + "–" + number(s.Max) + ")"
	}
	if s.ToBase > 0 {
		text += " ×" + strconv.FormatFloat(s.ToBase, 'f', 2, 64)
	}
	return text
}

// writeTable completes a table whose first bar has been written.
func writeTable(w io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for n, row := range rows {
		if n > 0 {
			fmt.Fprint(w, "|")
		}
		for i, c := range row {
			fmt.Fprintf(w, " %s%s |", c, strings.Repeat(" ", width[i]-len([]rune(c))))
		}
		fmt.Fprintln(w)
		if n == 0 {
			fmt.Fprint(w, "|")
			for i := range row {
				fmt.Fprint(w, strings.Repeat("-", width[i]+2)+"|")
			}
			fmt.Fprintln(w)
		}
	}
}

func (r *results) writeJSON(path string) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
