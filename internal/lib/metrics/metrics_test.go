package metrics

import (
	"maps"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestHistogramBounds(t *testing.T) {
	for _, tt := range []struct {
		d      time.Duration
		bucket int
	}{{-1, 0}, {0, 0}, {1, 0}, {1 << 14, 0}, {1<<14 + 1, 1}, {1 << 15, 1}, {1<<15 + 1, 2},
		{1 << 33, 19}, {1<<33 + 1, 20}, {time.Hour, 20}} {
		h := new(Histogram)
		h.Observe(tt.d)
		for i := range h.buckets {
			if got, want := h.buckets[i].Load() == 1, i == tt.bucket; got != want {
				t.Errorf("%d ns: bucket %d counted %v, want %v", tt.d, i, got, want)
			}
		}
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	h := new(Histogram)
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestTally(t *testing.T) {
	var all Tally
	all.Of("never")
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			for range 100 {
				all.Of("often").Add(1)
			}
		})
	}
	running.Wait()
	if got, want := all.Counts(), map[string]uint64{"never": 0, "often": 200}; !maps.Equal(got,
		want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestText(t *testing.T) {
	var b strings.Builder
	w := NewWriter(&b, "x_")
	w.Family("events_total", "counter", "Events.\nAll \\ of them.")
	w.Count(3, "app_id", "a\"b\\c\nd\xff", "kind", "k")
	w.Family("lag", "gauge", "Lag.")
	w.Sample(0.25)
	w.Process("go_goroutines", "gauge", "Goroutines.")
	w.Sample(12)
	w.Family("took_seconds", "histogram", "Took.")
	a, c := new(Histogram), new(Histogram)
	a.Observe(time.Microsecond)
	c.Observe(time.Minute)
	w.Histograms([]*Histogram{a, c})
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"# HELP x_events_total Events.\\nAll \\\\ of them.\n# TYPE x_events_total " +
			"counter\nx_events_total{app_id=\"a\\\"b\\\\c\\nd?\",kind=\"k\"} 3\n",
		"x_lag 0.25\n", "\ngo_goroutines 12\n",
		"x_took_seconds_bucket{le=\"1.6384e-05\"} 1\n", "x_took_seconds_bucket{le=\"+Inf\"} " +
			"2\nx_took_seconds_sum 60.000001\nx_took_seconds_count 2\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant in it\n%s", got, want)
		}
	}
}

// FuzzTallyState checks that only known words are counted, and that the counts go on.
func FuzzTallyState(f *testing.F) {
	tally := func() *Tally {
		t := new(Tally)
		t.Of("a").Add(3)
		t.Of("b")
		return t
	}
	f.Add(tally().State())
	f.Fuzz(func(t *testing.T, b []byte) {
		v, again := tally(), tally()
		if ok := v.SetState(b); len(v.Counts()) != 2 || !ok {
			return
		}
		again.Of("a").Add(^uint64(2)) // to 0
		if !again.SetState(v.State()) || !maps.Equal(v.Counts(), again.Counts()) {
			t.Fatalf("%v became %v", v.Counts(), again.Counts())
		}
	})
}
