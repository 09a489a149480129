package protocol

import (
	"strings"
	"testing"
)

func TestChannelNames(t *testing.T) {
	private, presence, cache := Kind{Private: true}, Kind{Presence: true}, Kind{Cache: true}
	privateCache, presenceCache := Kind{Private: true, Cache: true},
		Kind{Presence: true, Cache: true}
	for name, want := range map[string]Kind{
		"news": {}, "a-b_c=d@e,f.g;h": {}, "privateer": {}, "presences": {}, "cached": {},
		"my-cache-x": {}, "x-private-y": {},
		"private": {}, "private-a": private, "private-": private, "private-x-cache-y": private,
		"private-encrypted-a":       {Private: true, Encrypted: true},
		"private-encrypted-cache-a": {Private: true, Encrypted: true, Cache: true},
		"private-cache-a":           privateCache,
		"presence-a":                presence, "presence-cache-a": presenceCache, "cache-a": cache,
		"cache-": cache, "Private-a": {},
		"presence-encrypted-cache-x": presence, strings.Repeat("x", 200): {},
	} {
		if got, err := ParseName(name); err != nil || got.Kind() != want || got.String() != name ||
			got.Kind().Reserved {
			t.Errorf("%q: got %+v, %v, want %+v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "#x", "a b", "a/b", "é", "a\x00", strings.Repeat("x", 201),
		"a#", "a\n"} {
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

// The index of a kind is its place in the names that metrics show.
func TestKinds(t *testing.T) {
	names, seen := KindNames(), map[int]bool{}
	for name, want := range map[string]string{"a": "public", "private-a": "private",
		"presence-a": "presence", "private-encrypted-a": "private-encrypted", "cache-a": "cache",
		"private-cache-a": "private-cache", "presence-cache-a": "presence-cache",
		"private-encrypted-cache-a": "private-encrypted-cache"} {
		n, err := ParseName(name)
		i := n.Kind().Index()
		if err != nil || names[i] != want || seen[i] {
			t.Errorf("%s: got %s, want %s", name, names[i], want)
		}
		seen[i] = true
		if got := n.Kind().Signed(); got == (strings.TrimPrefix(want, "cache") == "" ||
			want == "public") {
			t.Errorf("%s: got %v for a signature", name, got)
		}
	}
}

// A socket ID is the same after it has travelled as a number.
func TestSocketIDNumber(t *testing.T) {
	for _, s := range []string{"1.2", "4294967295.4294967295", "0.1"} {
		if id := ParseSocketID(s); SocketIDOf(id.Number()) != id || id.String() != s {
			t.Errorf("%s: got %v", s, id)
		}
	}
}
