package tallies

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTallies(t *testing.T) {
	all := New("full", "late")
	if got := all.Figures(nil); got != nil {
		t.Errorf("got %+v", got)
	}
	z, b, q := all.At("url", "z"), all.At("url", "b"), all.At("queue", "z")
	if all.At("url", "z") != z || z == b || z == q {
		t.Error("two counts of a place, or one of two places")
	}
	b.Deliver(3)
	b.Deliver(4)
	b.Retry()
	b.Lose(1, 5)
	q.Lose(0, 1)
	start := time.Unix(1000, 0)
	got := all.Figures(func(of *Tally, f *Figures) {
		if of == b {
			f.Wait(2, start.Add(time.Second))
			f.Wait(1, start)
			f.Wait(1, start.Add(time.Hour))
			f.Wait(0, time.Time{})
		}
	})
	var lines []string
	for _, f := range append(got, Figures{}) {
		lines = append(lines, fmt.Sprint(f.Kind, " ", f.To, ": ", f.Queued, " ",
			f.Age(start.Add(time.Minute)), " ", f.Age(start.Add(-time.Minute)), " ", f.Delivered,
			" ", f.Retried, " ", f.Lost))
	}
	if got, want := strings.Join(lines, "\n"), `url z: 0 0s 0s 0 0 map[full:0 late:0]
url b: 4 1m0s 0s 7 1 map[full:0 late:5]
queue z: 0 0s 0s 0 0 map[full:1 late:0]
 : 0 0s 0s 0 0 map[]`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var sum Figures
	for i := range got {
		sum.Add(&got[i])
	}
	if sum.Queued != 4 || !sum.Oldest.Equal(start) || sum.Delivered != 7 || sum.Retried != 1 ||
		fmt.Sprint(sum.Lost) != "map[full:1 late:5]" {
		t.Errorf("the sum is %+v", sum)
	}
}

// What was counted goes on in another process, also with other reasons.
func TestState(t *testing.T) {
	from := New("full", "late")
	from.At("url", "a").Deliver(3)
	from.At("queue", "b").Lose(1, 5)
	from.At("queue", "b").Retry()
	state := from.State()
	for reasons, want := range map[string]string{
		"full": "url a 4 0 map[full:0];queue b 0 1 map[full:0]",
		"full late never": "url a 4 0 map[full:0 late:0 never:0];" +
			"queue b 0 1 map[full:0 late:5 never:0]",
	} {
		to := New(strings.Fields(reasons)...)
		to.At("url", "a").Deliver(1)
		if !to.SetState(state) {
			t.Error("it makes no sense")
		}
		var lines []string
		for _, f := range to.Figures(func(*Tally, *Figures) {}) {
			lines = append(lines, fmt.Sprint(f.Kind, " ", f.To, " ", f.Delivered, " ", f.Retried,
				" ", f.Lost))
		}
		if got := strings.Join(lines, ";"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	whole := 0
	for n := range state {
		if New("full", "late").SetState(state[:n]) {
			whole++
		}
	}
	if whole != 2 { // nothing, and the first place
		t.Errorf("%d beginnings make sense", whole)
	}
}

func FuzzState(f *testing.F) {
	t := New("full")
	t.At("url", "a").Deliver(3)
	f.Add(t.State())
	f.Fuzz(func(t *testing.T, b []byte) {
		if to := New("full"); to.SetState(b) && len(b) > 0 && len(to.State()) == 0 {
			t.Errorf("%q says nothing", b)
		}
	})
}
