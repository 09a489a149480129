package window

import "testing"

func TestTake(t *testing.T) {
	for _, start := range []uint32{0, 100, 1<<32 - 5} { // ticks wrap
		var w Window
		if !w.Empty() {
			t.Error("the zero Window has counted something")
		}
		for i, tt := range []struct {
			after uint32
			want  bool
		}{
			{0, true}, {3, true}, {9, false}, // two in ten
			{10, true}, {19, true}, {19, false}, // the window begins anew with the first
			{45, true}, {54, true}, {54, false}, {55, true},
		} {
			if got := w.Take(start+tt.after, 10, 2); got != tt.want || w.Empty() {
				t.Errorf("from %d, %d: got %v", start, i, got)
			}
		}
	}
	var w Window
	if w.Take(5, 10, 0) || !w.Empty() {
		t.Error("one of none was let through")
	}
}
