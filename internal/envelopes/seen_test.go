package envelopes

import "testing"

// TestSeen hears of events again, and late, and after a forged number.
func TestSeen(t *testing.T) {
	var s Seen
	for i, c := range []struct {
		node   uint64
		bucket int
		number uint64
		fresh  bool
	}{{1, 0, 1, true}, {1, 0, 1, false}, {1, 0, 3, true}, {1, 0, 2, false}, {1, 1, 2, true},
		{2, 0, 1, true}, {1, 0, 3 + maxBehind, true}, {1, 0, 3, false}, {1, 0, 2, true},
		{1, 0, 3, true}} {
		if got := s.New(c.bucket, &Envelope{Node: c.node, Number: c.number}); got != c.fresh {
			t.Errorf("%d: %+v: got %v", i, c, got)
		}
	}
}

// TestSeenIsBounded hears of more publishers than it remembers. So a stranger that invents numbers
// costs some megabytes at most.
func TestSeenIsBounded(t *testing.T) {
	const most = 131_072
	var s Seen
	for _, of := range []struct {
		first, last, seen int
		fresh             bool
	}{{1, most, most, true}, {1, 1, most, false}, {most + 1, most + 1, 1, true}, {1, 1, 2, true}} {
		for node := of.first; node <= of.last; node++ {
			fresh := s.New(0, &Envelope{Node: uint64(node), Number: 1})
			if fresh != of.fresh {
				t.Fatalf("publisher %d: got %v, want %v", node, fresh, of.fresh)
			}
		}
		if len(s.last) != of.seen {
			t.Errorf("after the publishers %d to %d: %d are remembered, want %d", of.first, of.last,
				len(s.last), of.seen)
		}
	}
}
