package hookevents

import (
	"encoding/json"
	"testing"

	"reverb/internal/protocol"
)

// A set has what was put into it, and each kind has a name, and a reverse if it is a transition.
func TestKinds(t *testing.T) {
	names := map[string]bool{}
	for k := range kinds {
		names[k.String()] = true
		for other := range kinds {
			if got := KindsOf(k).Has(other); got != (other == k) {
				t.Errorf("%v has %v: %v", k, other, got)
			}
		}
		if k.IsTransition() != (k.Pair() != KindsOf(k)) || k.IsTransition() &&
			(k.Reverse().Reverse() != k || k.Leaving() != k && k.Leaving() != k.Reverse()) {
			t.Errorf("%v and %v are a pair", k, k.Reverse())
		}
		if k != ClientEvent && k != SubscriptionCount && !DefaultKinds.Has(k) {
			t.Errorf("%v is not told", k)
		}
	}
	if len(names) != int(kinds) || !Known(byte(kinds)-1) || Known(byte(kinds)) {
		t.Errorf("%v", names)
	}
}

// The size is that of the object and a comma.
func TestSize(t *testing.T) {
	channel, err := protocol.ParseName("presence-x")
	if err != nil {
		t.Fatal(err)
	}
	for k := range kinds {
		e := Event{Kind: k, Channel: channel, User: "\u00fc\"", Event: "client-a",
			Data: []byte("[1]"), Socket: protocol.SocketIDOf(1<<32 | 2), Count: 3}
		b := e.Append(nil)
		if !json.Valid(b) || e.Size() != len(b)+1 {
			t.Errorf("%s: %d", b, e.Size())
		}
	}
}
