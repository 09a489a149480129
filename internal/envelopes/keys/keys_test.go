package keys

import (
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	got := OfTopic("p:{3}:", "a:x", "0a-1")
	want := strings.Fields("p:{3}:a:x:nodes p:{3}:a:x:users:0a-1 p:{3}:a:x:count " +
		"p:{3}:a:x:members p:{3}:a:x:order p:{3}:a:x:cached p:{3}:node:0a-1:topics " +
		"p:{3}:node:0a-1:dead")
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	got = OfLane("p:{3}:", "a", "00ff")
	want = strings.Fields("p:{3}:hooks:a:00ff:events p:{3}:hooks:a:00ff:leavings " +
		"p:{3}:hooks:a:00ff:state p:{3}:hooks:a:00ff:waiting p:{3}:hooks:a:00ff:absent")
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
