package envelopes

import (
	"slices"
	"testing"
)

// TestTakenAppID refuses IDs whose topics could have the names of nodes.
func TestTakenAppID(t *testing.T) {
	for id, want := range map[string]bool{"node": true, "all": true, "nodes": false, "1": false,
		"a:b": false, "a:#b": true} {
		if got := TakenAppID(id); got != want {
			t.Errorf("app ID %q: got %v, want %v", id, got, want)
		}
	}
}

// TestBucketTags checks that the tags differ, and that a process is known by its incarnations.
func TestBucketTags(t *testing.T) {
	tags := BucketTags()
	if slices.Sort(tags); len(slices.Compact(tags)) != buckets || !slices.Contains(tags, ":{255}") {
		t.Errorf("got %q", tags)
	}
	if got := ProcessOf("00ff-12"); got != "00ff" {
		t.Errorf("got %s", got)
	}
}
