package keys

import (
	"slices"
	"strings"
	"testing"

	"reverb/internal/lib/resp"
)

func TestSum(t *testing.T) {
	var hash []resp.Reply
	for _, s := range []string{"aa-2", "5", "aa-1", "3", "bb-9", "1", "bb-10", "2", "stranger", "7",
		"cc-1", "nonsense"} {
		hash = append(hash, resp.Reply{Kind: resp.Text, Text: s})
	}
	if got := Sum(hash); got != 5+2+7 {
		t.Errorf("got %d, want 14", got)
	}
	if got := Sum(hash[:1]); got != 0 {
		t.Errorf("got %d for a field without a value", got)
	}
}

func TestNames(t *testing.T) {
	got := OfTopic("p:{3}:", "a:x", "0a-1")
	want := strings.Fields("p:{3}:a:x:nodes p:{3}:a:x:users:0a-1 p:{3}:a:x:count " +
		"p:{3}:a:x:members p:{3}:a:x:order p:{3}:a:x:cached p:{3}:node:0a-1:topics " +
		"p:{3}:node:0a-1:dead")
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, c := range [][2]string{{"0a-1", "0a"}, {"0a-12", "0a"}, {"0a", "0a"}, {"", ""}} {
		if got := Process(c[0]); got != c[1] {
			t.Errorf("the process of %q is %q, want %q", c[0], got, c[1])
		}
	}
}
