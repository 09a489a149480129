package probe

import (
	"testing"

	"reverb/internal/protocol"
)

func TestChannel(t *testing.T) {
	name := Channel()
	if n, err := protocol.ParseName(name); err != nil || n.Kind() != (protocol.Kind{}) ||
		!Is(name) || name == Channel() {
		t.Errorf("%s: %+v, %v, %v", name, n.Kind(), err, Is(name))
	}
	for _, other := range []string{"", "reverb-check-", "reverb-check-me", name + "x", name[1:],
		"x" + name, name[1:] + "x"} {
		if Is(other) {
			t.Errorf("%s counts as the channel of a check", other)
		}
	}
}
