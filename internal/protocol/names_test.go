package protocol

import (
	"strings"
	"testing"
)

func TestChannelNames(t *testing.T) {
	private, presence, cache := Kind{Private: true}, Kind{Presence: true}, Kind{Cache: true}
	privateCache, presenceCache := Kind{Private: true, Cache: true}, Kind{Presence: true, Cache: true}
	for name, want := range map[string]Kind{
		"news": {}, "a-b_c=d@e,f.g;h": {}, "privateer": {}, "presences": {}, "cached": {}, "my-cache-x": {}, "x-private-y": {},
		"private": {}, "private-a": private, "private-": private, "private-x-cache-y": private,
		"private-encrypted-a": {Private: true, Encrypted: true}, "private-encrypted-cache-a": {Private: true, Encrypted: true, Cache: true}, "private-cache-a": privateCache,
		"presence-a": presence, "presence-cache-a": presenceCache, "cache-a": cache, "cache-": cache, "Private-a": {},
		"presence-encrypted-cache-x": presence, strings.Repeat("x", 200): {},
	} {
		if got, err := ParseName(name); err != nil || got.Kind() != want || got.String() != name || got.Reserved() {
			t.Errorf("%q: got %+v, %v, want %+v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "#x", "a b", "a/b", "é", "a\x00", strings.Repeat("x", 201), "a#", "a\n"} {
		if _, err := ParseName(name); err == nil {
			t.Errorf("%q: accepted", name)
		}
	}
}

func TestSocketID(t *testing.T) {
	seen := map[SocketID]bool{}
	for range 1000 {
		id := NewSocketID()
		if seen[id] || id == (SocketID{}) || ParseSocketID(id.String()) != id {
			t.Fatalf("got %v", id)
		}
		seen[id] = true
	}
	for _, s := range []string{"", "1", "1.", ".1", "1.2.3", "-1.2", "4294967296.1", "a.b"} {
		if got := ParseSocketID(s); got != (SocketID{}) {
			t.Errorf("%q: got %v", s, got)
		}
	}
}
