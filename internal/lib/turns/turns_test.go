package turns

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// job is so much work for a line.
type job struct {
	line int
	left int
}

// The jobs of a line are done in order, each until it is done; between two turns of a line every
// other line that has jobs has one; and no line gets much more than a share.
func TestRingAgainstQueues(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 0))
		var ring Ring[*job]
		lines := make([]Line[*job], 5)
		want := make([][]*job, len(lines))
		var order []int // lines that have jobs
		jobs := 0
		for range 2000 {
			if jobs == 0 || random.IntN(3) > 0 {
				i := random.IntN(len(lines))
				j := &job{i, random.IntN(100)}
				if len(want[i]) == 0 {
					order = append(order, i)
				}
				ring.Add(&lines[i], j)
				want[i] = append(want[i], j)
				jobs++
			} else {
				share := 1 + random.IntN(60)
				turn, got, calls := order[0], 0, 0
				order = order[1:]
				ring.Serve(share, func(j *job, left int) (int, bool) {
					if len(want[turn]) == 0 || want[turn][0] != j {
						t.Fatalf("seed %d: a job of line %d is served, want the first of line %d",
							seed, j.line, turn)
					}
					if left != share-got-calls*Overhead || left < 1 {
						t.Fatalf("seed %d: %d of the share are left, want %d", seed, left,
							share-got-calls*Overhead)
					}
					used := min(j.left, left)
					j.left -= used
					got += used
					calls++
					if j.left == 0 {
						want[turn] = want[turn][1:]
						jobs--
					}
					return used, j.left == 0
				})
				if len(want[turn]) > 0 {
					order = append(order, turn)
					if got+calls*Overhead < share {
						t.Fatalf("seed %d: the turn ended after %d and %d jobs of a share of %d",
							seed, got, calls, share)
					}
				}
			}
			if ring.Jobs() != jobs || len(ring.lines) != len(order) {
				t.Fatalf("seed %d: %d jobs in %d lines, want %d in %d",
					seed, ring.Jobs(), len(ring.lines), jobs, len(order))
			}
		}
		for i, l := range lines {
			if slices.ContainsFunc(l.jobs[:l.first], func(j *job) bool { return j != nil }) {
				t.Fatalf("seed %d: line %d keeps jobs that are done", seed, i)
			}
		}
	}
}

// A line with an endless backlog grows with the waiting jobs, not with the done ones.
func TestLineDoesNotGrow(t *testing.T) {
	var ring Ring[int]
	var line Line[int]
	ring.Add(&line, 0)
	one := func(int, int) (int, bool) { return 1, true }
	for i := range 10_000 {
		ring.Add(&line, i)
		ring.Serve(1, one)
	}
	if ring.Jobs() != 1 || cap(line.jobs) > 64 {
		t.Errorf("%d jobs wait in room for %d", ring.Jobs(), cap(line.jobs))
	}
	for i := range 2 * keepJobs {
		ring.Add(&line, i)
	}
	for ring.Jobs() > 0 {
		ring.Serve(1000, one)
	}
	if cap(line.jobs) > keepJobs {
		t.Errorf("room for %d jobs is kept", cap(line.jobs))
	}
	if n := testing.AllocsPerRun(100, func() {
		ring.Add(&line, 1)
		ring.Add(&line, 2)
		ring.Serve(100, one)
	}); n > 0.1 {
		t.Errorf("%v allocations a turn, want none", n)
	}
}
