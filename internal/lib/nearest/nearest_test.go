package nearest

import (
	"fmt"
	"testing"
)

func TestOf(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"", "abc", "abc 3"}, {"abc", "", " 3"}, {"kitten", "sitting", "sitting 3"},
		{"strat", "start", "start 2"}, {"same", "same", "same 0"},
	} {
		best, edits := Of(tt.a, []string{tt.b, tt.b + "xxxxxxxxxx"})
		if got := fmt.Sprint(best, " ", edits); got != tt.want {
			t.Errorf("%q among %q: got %s, want %s", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestGuess(t *testing.T) {
	known := []string{"start", "status", "restart", "top", "check"}
	for word, want := range map[string]string{
		"strat": "start", "stat": "start", "statu": "status",
		"restrat": "restart", "chekc": "check",
		"to": "top", "toop": "top", "ot": "", "x": "", "": "", "publish": "", "tpo": "",
	} {
		if got := Guess(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
	if got := Guess("x", nil); got != "" {
		t.Errorf("among none: got %q", got)
	}
}
