package lag

import (
	"testing"
	"time"
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
		m.End(start, now)
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
	m.End(at(10*time.Second), at(17*time.Second))
	check(17*time.Second, 7*time.Second)
	m.Begin(at(18 * time.Second))
	check(18*time.Second, 7*time.Second)
	check(26*time.Second, 8*time.Second)
	m.End(at(18*time.Second), at(26*time.Second))
	check(29*time.Second, 0)
}
