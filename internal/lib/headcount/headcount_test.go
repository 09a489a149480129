package headcount

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// hall has three loops with a clock that the test moves, and crowds named by small numbers.
type hall struct {
	t     *testing.T
	now   time.Duration
	tasks [3][]func()
	later []timer
	sizes map[int]int
	told  []string
	last  map[int]int             // the last number that each crowd was told
	times map[int][]time.Duration // when a crowd was told a number above few
	on    int                     // the loop that runs
	*Counter[int]
}

type timer struct {
	at   time.Duration
	loop int
	task func()
}

const (
	few   = 3
	pause = 5 * time.Second
)

type hallLoop struct {
	*hall
	index int
}

func (l hallLoop) Post(task func()) { l.tasks[l.index] = append(l.tasks[l.index], task) }
func (l hallLoop) After(d time.Duration, task func()) {
	if l.on != l.index {
		l.t.Errorf("loop %d sets a timer of loop %d", l.on, l.index)
	}
	l.later = append(l.later, timer{l.now + d, l.index, task})
}
func (l hallLoop) Now() time.Duration { return l.now }

func (h *hall) Hash(crowd int) uint32 { return uint32(crowd) }

func (h *hall) Size(crowd int) int {
	if h.on != crowd%3 {
		h.t.Errorf("loop %d asks for the size of %d", h.on, crowd)
	}
	return h.sizes[crowd]
}

func (h *hall) Tell(crowd, size int) {
	if h.on != crowd%3 {
		h.t.Errorf("loop %d tells %d", h.on, crowd)
	}
	h.told = append(h.told, fmt.Sprintf("%d:%d", crowd, size))
	if h.last[crowd] = size; size > few {
		h.times[crowd] = append(h.times[crowd], h.now)
	}
}

func newHall(t *testing.T) *hall {
	h := &hall{t: t, sizes: map[int]int{}, last: map[int]int{}, times: map[int][]time.Duration{}}
	var loops []Loop
	for i := range h.tasks {
		loops = append(loops, hallLoop{h, i})
	}
	h.Counter = New(loops, h, few, pause)
	return h
}

// turn lets one loop do all that it has.
func (h *hall) turn(loop int) (moved bool) {
	h.on = loop
	tasks := h.tasks[loop]
	h.tasks[loop] = nil
	for _, task := range tasks {
		task()
	}
	return len(tasks) > 0
}

// pass lets time pass, and all loops do what they have.
func (h *hall) pass(d time.Duration) {
	for end := h.now + d; ; {
		for moved := true; moved; {
			moved = false
			for i := range h.tasks {
				moved = h.turn(i) || moved
			}
		}
		next := -1
		for i, v := range h.later {
			if v.at <= end && (next < 0 || v.at < h.later[next].at) {
				next = i
			}
		}
		if next < 0 {
			h.now = end
			return
		}
		v := h.later[next]
		h.later = slices.Delete(h.later, next, next+1)
		h.now = max(h.now, v.at)
		h.tasks[v.loop] = append(h.tasks[v.loop], v.task)
	}
}

// comes says that a crowd has so many now, which a loop has noticed.
func (h *hall) comes(loop, crowd, size int) {
	h.on, h.sizes[crowd] = loop, size
	h.Changed(loop, crowd)
}

func (h *hall) wants(want string) {
	h.t.Helper()
	if got := strings.Join(h.told, " "); got != want {
		h.t.Errorf("after %v told %q, want %q", h.now, got, want)
	}
	h.told = nil
}

func TestChanges(t *testing.T) {
	h := newHall(t)
	h.comes(0, 0, 1)
	h.comes(0, 0, 2)
	h.comes(0, 1, 1)
	h.wants("") // the turn has not ended
	h.turn(0)
	h.wants("0:2")
	h.pass(0)
	h.wants("1:1")
	h.comes(1, 0, 3)
	h.comes(2, 0, 0) // it is empty before its home looks
	h.pass(0)
	h.wants("")
	h.Set(4, 7)
	h.Set(4, 2)
	h.Set(5, 1)
	h.pass(0)
	h.wants("4:2 5:1")
	h.pass(time.Minute)
	h.wants("")
}

func TestLargeCrowds(t *testing.T) {
	h := newHall(t)
	for size := 1; size <= 6; size++ {
		h.comes(1, 0, size)
		h.pass(time.Second / 10)
	}
	h.wants("0:1 0:2 0:3 0:4")
	h.pass(pause - time.Second/10*3 - 1) // 0:4 was told 0.3 s ago
	h.wants("")
	h.pass(1)
	h.wants("0:6")
	h.comes(2, 0, 7)
	h.pass(time.Second)
	h.comes(2, 0, 3) // few: told at once, and nothing is left to be told
	h.pass(time.Second)
	h.wants("0:3")
	h.comes(0, 0, 4)
	h.Set(3, 9) // another crowd of the same home
	h.pass(time.Second)
	h.wants("3:9")
	h.Set(3, 8)
	h.pass(2 * time.Second)
	h.wants("0:4")
	h.pass(3 * time.Second)
	h.wants("3:8")
	h.pass(time.Minute)
	h.wants("")
	if d := h.desks[0]; len(d.large) != 0 || d.told != nil || d.waiting || len(h.later) > 0 {
		t.Errorf("%d crowds, %d told, and %d timers are left", len(d.large), len(d.told),
			len(h.later))
	}
	h.comes(0, 0, 9) // as in the beginning
	h.pass(0)
	h.wants("0:9")
	h.comes(0, 0, 8)
	h.comes(0, 0, 0)
	h.pass(time.Minute)
	h.wants("")
}

// TestRandom lets crowds of all sizes change at random: none hears more than one number above few
// in a pause, and in the end each has heard the truth.
func TestRandom(t *testing.T) {
	for seed := range uint64(50) {
		h, r := newHall(t), rand.New(rand.NewPCG(seed, 1))
		for range 600 {
			crowd := r.IntN(5)
			size := max(0, h.sizes[crowd]+r.IntN(5)-2)
			switch r.IntN(6) {
			case 0, 1, 2:
				h.comes(r.IntN(3), crowd, size)
			case 3, 4:
				h.turn(r.IntN(3))
			default:
				h.pass(time.Duration(r.IntN(2000)) * time.Millisecond)
			}
		}
		h.pass(2 * pause)
		for crowd, size := range h.sizes {
			if size > 0 && h.last[crowd] != size {
				t.Errorf("seed %d: crowd %d was told %d, and is %d", seed, crowd, h.last[crowd],
					size)
			}
			for i, at := range h.times[crowd][min(1, len(h.times[crowd])):] {
				if at-h.times[crowd][i] < pause {
					t.Errorf("seed %d: crowd %d was told again after %v", seed, crowd,
						at-h.times[crowd][i])
				}
			}
		}
	}
}
