package turns

import (
	"slices"
	"testing"
)

// TestNamed checks the turns, and that nothing is kept of queues that are empty.
func TestNamed(t *testing.T) {
	var q Named[string]
	for range 3 {
		for _, item := range []string{"a1", "a2", "a3", "b1", "a4", "c1", "c2"} {
			q.Add(item[:1], item)
		}
		got := []string{q.Next(), q.Next()}
		q.Add("b", "b2")
		for q.Len() > 0 {
			got = append(got, q.Next())
		}
		want := []string{"a1", "b1", "c1", "a2", "b2", "c2", "a3", "a4"}
		if !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		if q.queues != nil || q.order != nil {
			t.Errorf("an empty one keeps %v, %v", q.queues, q.order)
		}
	}
}
