package envelopes

import (
	"slices"
	"testing"
)

func names(all []*Member) (users []string) {
	for _, m := range all {
		users = append(users, m.User)
	}
	return users
}

// TestView replaces the users of a topic, with some who may come back and without.
func TestView(t *testing.T) {
	var v View
	of := func(users ...string) (all []*Member) {
		for i, user := range users {
			all = append(all, &Member{User: user, Order: 7 - i})
		}
		return all
	}
	gone, come, all := v.Replace(of("c", "b", "a"), true)
	if len(gone)+len(come) > 0 || !slices.Equal(names(all), []string{"a", "b", "c"}) {
		t.Errorf("of nothing: %v gone, %v come, %v", names(gone), names(come), names(all))
	}
	if v.Add("a", "") || !v.Add("d", "{}") || v.Remove("x") {
		t.Error("one comes twice, or goes without having come")
	}
	gone, come, all = v.Replace(of("e", "b"), true)
	if !slices.Equal(names(gone), []string{"a", "c", "d"}) ||
		!slices.Equal(names(come), []string{"e"}) ||
		!slices.Equal(names(all), []string{"a", "c", "d", "b", "e"}) {
		t.Errorf("%v gone, %v come, %v", names(gone), names(come), names(all))
	}
	if v.Add("c", ""); !slices.Equal(v.Missing(), []string{"a", "d"}) || !v.Remove("d") {
		t.Errorf("missing: %v", v.Missing())
	}
	if v.Found(); len(v.Missing()) > 0 || v.Len() != 4 {
		t.Errorf("%d users, missing: %v", v.Len(), v.Missing())
	}
	gone, come, all = v.Replace(of("b"), false)
	if who := names(gone); len(who) != 3 || who[0] != "a" || len(come) > 0 || len(all) != 1 ||
		len(v.Missing()) > 0 {
		t.Errorf("without keeping: %v gone, %v come, %v", names(gone), names(come), names(all))
	}
}
