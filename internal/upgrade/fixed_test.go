package upgrade

import (
	"encoding/json"
	"testing"
)

// A successor refuses what has changed, with both values, and takes what another version tells.
func TestChanged(t *testing.T) {
	was := []Fixed{{"A", "0.0.0.0:80"}, {"B", ""}, {"C", "TLS"}}
	b, err := json.Marshal(was)
	if err != nil {
		t.Fatal(err)
	}
	const advice = ", which an upgrade cannot do: stop and start instead"
	for _, c := range []struct {
		kept string
		now  []Fixed
		want string
	}{
		{string(b), was, ""},
		{"", []Fixed{{"A", "x"}}, ""},
		{"?", []Fixed{{"A", "x"}}, ""},
		{string(b), []Fixed{{"new", "x"}}, ""},
		{string(b), []Fixed{{"A", "0.0.0.0:81"}}, "A has changed: 0.0.0.0:80 → 0.0.0.0:81"},
		{string(b), []Fixed{{"B", "x"}}, "B has changed: none → x"},
		{string(b), []Fixed{{"C", ""}}, "C has changed: TLS → none"},
	} {
		err := compare(c.kept, c.now)
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want+advice {
			t.Errorf("%q, %v: got %v, want %s", c.kept, c.now, err, c.want)
		}
	}
}
