package memory

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"
)

// Ten peers at a time are shed, those first for which most waits, from all surveys; owners
// are held for whose peers most waits.
func TestSurvey(t *testing.T) {
	var all Survey[string, int]
	if all.Hold("a") || all.Shed() != nil {
		t.Error("an empty survey sheds or holds somebody")
	}
	for part := range 2 { // peers 0 to 5 and 6 to 11 of each owner
		var s Survey[string, int]
		for i := range 6 {
			peer := part*6 + i
			s.Add("a", peer, ShedBytes-2+peer)
			s.Add("b", 100+peer, 1000)
		}
		all.Merge(&s)
	}
	if got, want := all.Shed(), []int{11, 10, 9, 8, 7, 6, 5, 4, 3, 2}; !slices.Equal(got, want) {
		t.Errorf("%v are shed, want %v", got, want)
	}
	var few Survey[string, int]
	few.Add("a", 1, ShedBytes-1)
	few.Add("a", 2, ShedBytes)
	few.Add("a", 3, 0)
	if got := few.Shed(); !slices.Equal(got, []int{2}) {
		t.Errorf("%v are shed, want 2 alone", got)
	}
}

func TestHold(t *testing.T) {
	for _, tt := range []struct {
		bytes []int
		want  []bool
	}{
		{[]int{holdBytes, holdBytes - 1, 0}, []bool{true, false, false}},
		{[]int{4 * holdBytes, 2 * holdBytes, 2*holdBytes - 1}, []bool{true, true, false}},
		{[]int{100, 50, 0}, []bool{false, false, false}},
	} {
		var all, s Survey[int, int]
		for owner, n := range tt.bytes {
			all.Add(owner, owner, n/2)
			s.Add(owner, owner, n-n/2)
		}
		all.Merge(&s)
		for owner, want := range tt.want {
			if got := all.Hold(owner); got != want {
				t.Errorf("%v: owner %d is held: %v", tt.bytes, owner, got)
			}
		}
	}
}

// patience is a context that ends at the look after so many.
type patience struct {
	context.Context
	looks int
}

func (p *patience) Done() <-chan struct{} {
	if p.looks--; p.looks >= 0 {
		return nil
	}
	ended := make(chan struct{})
	close(ended)
	return ended
}

// Two loops are asked. Owners that are late are held until both have told.
func TestRelief(t *testing.T) {
	for _, tt := range []struct {
		answers    int
		shed, want []string // want are held
	}{
		{2, []string{"slow"}, []string{"busy"}},
		{1, []string{"slow"}, []string{"busy", "late"}},
		{0, nil, []string{"late"}},
	} {
		held, shed := map[string]bool{"old": true, "busy": true}, []string(nil)
		r := Relief[string, string]{
			Loops: 2,
			Post: func(loop int, task func()) {
				if loop < tt.answers {
					task()
				}
			},
			Look: func(loop int, add func(string, string, int)) {
				add("busy", []string{"slow", "fast"}[loop], []int{holdBytes, 1}[loop])
				add("late", "idle", 0)
			},
			Owners: slices.Values([]string{"old", "busy", "late"}),
			Late:   func(o string) bool { return o == "late" },
			Hold: func(o string, on bool) {
				if held[o] = on; o == "old" && !held["late"] {
					t.Errorf("%d answers: the late owner was not held meanwhile", tt.answers)
				}
			},
			Shed: func(p string) { shed = append(shed, p) },
		}
		n := r.Make(&patience{t.Context(), tt.answers})
		maps.DeleteFunc(held, func(_ string, on bool) bool { return !on })
		got := slices.Sorted(maps.Keys(held))
		if n != len(tt.shed) || !slices.Equal(shed, tt.shed) ||
			!slices.Equal(got, tt.want) {
			t.Errorf("%d answers: %d %v are shed, %v held, want %v, %v", tt.answers, n, shed, got,
				tt.shed, tt.want)
		}
	}
}

func TestCourse(t *testing.T) {
	var c Course
	start := time.Now()
	for i, tt := range []struct {
		after time.Duration
		level Level
		want  Change
	}{
		{0, Ample, Change{}},
		{0, Short, Change{Short: true}},
		{0, Short, Change{}},
		{0, Critical, Change{Relieve: true}},
		{reliefPeriod - 1, Critical, Change{}},
		{reliefPeriod, Critical, Change{Relieve: true}},
		{reliefPeriod, Short, Change{Relieved: true}},
		{reliefPeriod, Critical, Change{}},
		{reliefPeriod, Ample, Change{Ample: true, Relieved: true}},
		{2 * reliefPeriod, Critical, Change{Short: true, Relieve: true}},
	} {
		if got := c.Next(tt.level, start.Add(tt.after)); got != tt.want {
			t.Errorf("%d: got %+v, want %+v", i, got, tt.want)
		}
	}
}
