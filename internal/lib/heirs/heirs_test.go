package heirs

import (
	"maps"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	at := func(s string) string { return s[:1] }
	for _, c := range []struct{ gone, come, want string }{
		{"", "", ""}, {"a1", "", ""}, {"", "a1", ""},
		{"a1", "a2", "a1 a2"}, {"a1 b1", "b2 a2", "a1 a2 b1 b2"},
		{"a1", "b2", ""}, {"a1 a2", "a3", ""}, {"a1", "a2 a3", ""}, {"a1 a2", "a3 a4", ""},
		{"a1 a2 b1", "a3 b2", "b1 b2"},
	} {
		gone, want := map[string]string{}, map[string]string{}
		for name := range strings.FieldsSeq(c.gone) {
			gone[name] = at(name)
		}
		for f := strings.Fields(c.want); len(f) > 0; f = f[2:] {
			want[f[0]] = f[1]
		}
		if got := Find(gone, strings.Fields(c.come), at); !maps.Equal(got, want) {
			t.Errorf("%s, then %s: got %v, want %v", c.gone, c.come, got, want)
		}
	}
}
