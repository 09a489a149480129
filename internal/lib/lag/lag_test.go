package lag

import (
	"strings"
	"testing"
	"time"

	"reverb/internal/lib/metrics"
)

func TestLag(t *testing.T) {
	now := time.Unix(1000, 0)
	m := New(now)
	for i, step := range []struct{ pause, turn, want time.Duration }{
		{0, 0, 0},
		{0, 3 * time.Second, 3 * time.Second},
		{time.Millisecond, 0, 3 * time.Second}, // the same second
		{time.Second, 0, 3 * time.Second},      // the next
		{time.Second, time.Millisecond, time.Millisecond},
		{0, 3 * time.Second, 3 * time.Second},
		{time.Minute, time.Microsecond, time.Microsecond},
	} {
		now = now.Add(step.pause)
		start := now
		m.Begin(start)
		now = now.Add(step.turn)
		m.End(start, now, true)
		if got := m.Lag(now); got != step.want {
			t.Errorf("step %d: got %v, want %v", i, got, step.want)
		}
	}
	if got := m.Lag(now.Add(time.Minute)); got != 0 {
		t.Errorf("after a minute without a turn: got %v, want 0", got)
	}
}

// The turn that runs counts before it has ended.
func TestLagOfTheRunningTurn(t *testing.T) {
	epoch := time.Unix(1000, 0)
	m := New(epoch)
	at := func(d time.Duration) time.Time { return epoch.Add(d) }
	check := func(when, want time.Duration) {
		t.Helper()
		if got := m.Lag(at(when)); got != want {
			t.Errorf("after %v: got %v, want %v", when, got, want)
		}
	}
	m.Begin(at(10 * time.Second)) // the first turn after a pause
	check(10*time.Second+500*time.Millisecond, 500*time.Millisecond)
	check(16*time.Second, 6*time.Second)
	check(9*time.Second, 0) // the clock of the reader is behind
	m.End(at(10*time.Second), at(17*time.Second), true)
	check(17*time.Second, 7*time.Second)
	m.Begin(at(18 * time.Second))
	check(18*time.Second, 7*time.Second)
	check(26*time.Second, 8*time.Second)
	m.End(at(18*time.Second), at(26*time.Second), true)
	check(29*time.Second, 0)
}

// measured is how many jobs Latency has counted.
func measured(t *testing.T, m *Meter) (sum, count string) {
	t.Helper()
	var out strings.Builder
	w := metrics.NewWriter(&out, "")
	w.Family("x", "histogram", "")
	w.Histograms([]*metrics.Histogram{&m.Latency})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n, ok := strings.CutPrefix(line, "x_sum "); ok {
			sum = strings.TrimSpace(n)
		} else if n, ok := strings.CutPrefix(line, "x_count "); ok {
			count = strings.TrimSpace(n)
		}
	}
	return sum, count
}

// A job is measured up to the end of the turn that completes it.
func TestLatency(t *testing.T) {
	epoch := time.Unix(1000, 0)
	m := New(epoch)
	m.Measure(epoch)
	m.End(epoch, epoch.Add(time.Second), false)
	if _, n := measured(t, m); n != "0" {
		t.Errorf("%s jobs are counted before they are completed", n)
	}
	m.Measure(epoch.Add(2 * time.Second))
	m.End(epoch, epoch.Add(3*time.Second), true)
	if sum, n := measured(t, m); n != "2" || sum != "4" {
		t.Errorf("%s jobs took %s s, want 2 and 4", n, sum)
	}
	for range 2 * maxMeasured {
		m.Measure(epoch)
	}
	m.End(epoch, epoch, true)
	if _, n := measured(t, m); n != "1026" {
		t.Errorf("%s jobs are counted, want 1026", n)
	}
}
