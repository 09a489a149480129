package backoff

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

func TestPause(t *testing.T) {
	p := Pauses{time.Second, 60 * time.Second}
	least := func(int64) int64 { return 0 }
	most := func(n int64) int64 { return n - 1 }
	for failures, want := range map[int]time.Duration{1: 1, 2: 2, 3: 4, 4: 8, 5: 16, 6: 32, 7: 60,
		8: 60, 1000: 60, 1 << 40: 60} {
		want *= time.Second
		if got := p.Pause(failures, least); got != want {
			t.Errorf("%d failures: at most %v, want %v", failures, got, want)
		}
		if got := p.Pause(failures, most); got != want-want/2 {
			t.Errorf("%d failures: at least %v, want %v", failures, got, want-want/2)
		}
	}
	// Pauses are spread over the half, and each is longer than the shortest before.
	rnd := rand.New(rand.NewPCG(1, 2))
	distinct := map[time.Duration]bool{}
	for range 100 {
		distinct[p.Pause(3, rnd.Int64N)] = true
	}
	if len(distinct) < 90 {
		t.Errorf("%d different pauses of 100", len(distinct))
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 500_000_000, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "1": time.Second, " 59 ": 59 * time.Second, "60": time.Minute,
		"61": time.Minute, "99999999999": time.Minute, "9223372036854775807": time.Minute,
		"99999999999999999999999999": time.Minute, "007": 7 * time.Second,
		"-1": 0, "+1": 0, "1.5": 0, "1s": 0, "soon": 0, "1,2": 0,
		at(30 * time.Second): 29500 * time.Millisecond, at(-time.Hour): 0,
		at(time.Hour):                    time.Minute,
		"Friday, 27-Nov-26 12:00:10 GMT": 9500 * time.Millisecond, // RFC 850
		"Fri, 27 Nov 2026 25:00:00 GMT":  0,
	} {
		if got := RetryAfter(value, now, time.Minute); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Unix(1795709778, 0)
	f.Add("120")
	f.Add(now.Add(time.Second).UTC().Format(http.TimeFormat))
	f.Fuzz(func(t *testing.T, value string) {
		if d := RetryAfter(value, now, time.Minute); d < 0 || d > time.Minute {
			t.Fatalf("%q: %v", value, d)
		}
	})
}
