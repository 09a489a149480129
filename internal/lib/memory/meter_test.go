package memory

import (
	"math"
	"runtime/debug"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]uint64{
		"16777216": 16 << 20, "16777216B": 16 << 20, "512MiB": 512 << 20, "512MB": 512 << 20,
		"512m": 512 << 20, "2GiB": 2 << 30, "2G": 2 << 30,
		"1T": 1 << 40, "20480KiB": 20 << 20, "20480k": 20 << 20, "off": Off,
		"": 0, "0": 0, "-1": 0, "1M": 0, "x": 0, "MiB": 0, "1.5G": 0, "512 MiB": 0, "512MiBB": 0,
		"512BM": 0, "512i": 0, "512P": 0,
		"99999999999T": 0, "18446744073709551615": 0, "18446744073709551616": 0,
		"17592186044416T": 0,
	} {
		got, err := ParseSize(s)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: got %d, %v, want %d", s, got, err, want)
		}
		if want == Off {
			want = 0
		}
		if got, err := ParseRoom(s); uint64(got) != want || (err == nil) != (want > 0) {
			t.Errorf("room of %q: got %d, %v, want %d", s, got, err, want)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"512MiB", "off", "1", "k", "9T"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil && n < minLimit {
			t.Errorf("%q: got %d", s, n)
		}
	})
}

func TestLimit(t *testing.T) {
	old := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(old)
	for _, tt := range []struct{ configured, group, machine, want uint64 }{
		{0, 0, 0, 0}, {0, 0, 3, 3}, {0, 2, 3, 2}, {1, 2, 3, 1}, {Off, 2, 3, 0},
	} {
		if got := Limit(tt.configured, tt.group, tt.machine); got != tt.want {
			t.Errorf("%v: got %d", tt, got)
		}
	}
	debug.SetMemoryLimit(1 << 40)
	if got := Limit(0, 2, 3); got != 1<<40 {
		t.Errorf("got %d, want GOMEMLIMIT", got)
	}
	if got := Limit(1, 2, 3); got != 1 {
		t.Errorf("got %d, want what is configured", got)
	}
}

// fakeMeter measures the figures of the test.
type fakeMeter struct {
	Meter
	r         Reading
	q         int64
	collected int
	truth     uint64 // live, found by a collection
}

func newFakeMeter(limit uint64) *fakeMeter {
	f := &fakeMeter{}
	f.Begin(limit, func() int64 { return f.q })
	f.read = func() Reading { return f.r }
	f.collect = func() {
		f.collected++
		f.r.Collections++
		f.r.Live = f.truth
	}
	return f
}

func TestMeter(t *testing.T) {
	f := newFakeMeter(1000_000)
	now := time.Unix(1000, 0)
	look := func(wantUsed uint64, want Level, collections int) {
		t.Helper()
		if got := f.Look(now); got != want || f.Used() != wantUsed || f.Level() != want ||
			f.collected != collections {
			t.Fatalf("got level %d, %d used, %d collections, want %d, %d, %d", got, f.Used(),
				f.collected, want, wantUsed, collections)
		}
	}
	f.r = Reading{Live: 400_000, Stacks: 100_000, Collections: 1}
	look(500_000, Ample, 0)
	if got := f.Room(); got != 450_000 {
		t.Errorf("room %d, want what is left to 95 %%", got)
	}
	if f.Interval() < 200*time.Millisecond {
		t.Errorf("interval %v of a process that has room", f.Interval())
	}
	f.q = 340_000 // all of it since the collection
	look(840_000, Ample, 0)
	if f.Interval() > 100*time.Millisecond {
		t.Errorf("interval %v near the limit", f.Interval())
	}
	f.q, f.truth = 600_000, 500_000 // half of these bytes are shared: a collection knows
	look(600_000, Ample, 1)
	f.truth = 800_000
	f.q = 900_000
	look(900_000, Short, 1) // no collection so soon after the last
	now = now.Add(time.Second)
	look(900_000, Short, 2)
	f.r = Reading{Live: 860_000, Stacks: 100_000, Collections: 7} // the runtime has run some itself
	look(960_000, Critical, 2)
	f.q = 700_000 // freed since
	now = now.Add(time.Second)
	f.truth = 660_000
	look(760_000, Ample, 2)
	f.q, f.r.Live, f.r.Collections = 700_000, 860_000, 8
	look(960_000, Critical, 2)
	now = now.Add(6 * time.Second) // stale: much may be garbage
	look(760_000, Ample, 3)
}

func TestMeterWithoutLimit(t *testing.T) {
	var m Meter
	m.Begin(0, func() int64 { return 1 << 40 })
	if m.Look(time.Now()) != Ample {
		t.Error("memory is short although there is no limit")
	}
}

// The runtime knows every figure by the name that is asked for.
func TestReadRuntime(t *testing.T) {
	var m Meter
	if m.Begin(1<<40, func() int64 { return 0 }); m.Used() == 0 {
		t.Error("no memory is used before the first look")
	}
	m.collect()
	if r := readRuntime(); r.Live == 0 || r.Stacks == 0 || r.Collections == 0 {
		t.Errorf("got %+v", r)
	}
}
