package spread

import (
	"testing"
	"time"
)

func TestCourse(t *testing.T) {
	end := time.Unix(1_800_000_000, 0)
	c := &Course{End: end, Over: 10 * time.Second}
	for _, tt := range []struct {
		before     time.Duration // the end
		n          int
		first, end int
	}{
		{10 * time.Second, 100, 0, 0},
		{9 * time.Second, 100, 0, 10},
		{9 * time.Second, 100, 10, 10},
		{9500 * time.Millisecond, 100, 10, 10}, // the clock went back
		{5 * time.Second, 100, 10, 50},
		{5 * time.Second, 200, 50, 100}, // more have come
		{5 * time.Second, 20, 100, 100}, // fewer are left
		{0, 200, 100, 200},
		{-time.Hour, 200, 200, 200},
		{-time.Hour, 201, 200, 201},
	} {
		if first, end := c.Due(tt.n, end.Add(-tt.before)); first != tt.first || end != tt.end {
			t.Errorf("%v before the end, of %d: got %d to %d, want %d to %d", tt.before, tt.n,
				first, end, tt.first, tt.end)
		}
	}
}

// Without a time to spread over, all items are due at once.
func TestNoTime(t *testing.T) {
	c := &Course{End: time.Unix(1_800_000_000, 0), Over: time.Millisecond}
	if first, end := c.Due(7, c.End); first != 0 || end != 7 {
		t.Errorf("got %d to %d", first, end)
	}
}
