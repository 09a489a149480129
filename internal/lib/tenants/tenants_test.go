package tenants

import (
	"maps"
	"slices"
	"testing"
)

// Tenants that are configured no more are former ones, until they are configured again.
func TestSet(t *testing.T) {
	var none Set[int]
	if _, ok := none.Known("a"); ok || slices.Collect(none.All) != nil {
		t.Error("an empty set has somebody")
	}
	set := none.Next()
	set.Put("a", "key-a", 1)
	set.Put("b", "key-b", 2)
	for _, tt := range []struct {
		put    string // the only one that is configured next, with its key
		former []string
	}{
		{"a", []string{"b"}}, {"c", []string{"a", "b"}}, {"b", []string{"a", "c"}},
	} {
		old := set
		set = old.Next()
		who := int(tt.put[0]-'a') + 1
		set.Put(tt.put, "key-"+tt.put, who)
		if got, ok := set.Known(tt.put); !ok || got != who || set.ByID[tt.put] != who ||
			set.ByKey["key-"+tt.put] != who || len(set.ByID) != 1 || len(set.ByKey) != 1 {
			t.Errorf("%s is configured: got %+v", tt.put, set)
		}
		if got := slices.Sorted(maps.Keys(set.Former)); !slices.Equal(got, tt.former) {
			t.Errorf("%s is configured: %v are former, want %v", tt.put, got, tt.former)
		}
		for _, id := range tt.former {
			if got, ok := set.Known(id); !ok || got != int(id[0]-'a')+1 {
				t.Errorf("%s is configured: %s is not known", tt.put, id)
			}
		}
		if n := len(slices.Collect(set.All)); n != 1+len(tt.former) {
			t.Errorf("%s is configured: all are %d", tt.put, n)
		}
	}
	for range set.All {
		break // the first is enough
	}
}
