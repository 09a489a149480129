package addresses

import (
	"net/netip"
	"testing"
)

func TestOf(t *testing.T) {
	for client, want := range map[string]string{
		"192.0.2.1:4711":               "192.0.2.1",
		"192.0.2.1":                    "192.0.2.1",
		"::ffff:192.0.2.1":             "192.0.2.1",
		"[::ffff:192.0.2.1]:80":        "192.0.2.1",
		"2001:db8:1:2:3:4:5:6":         "2001:db8:1:2::",
		"[2001:db8:1:2:ffff::1]:65535": "2001:db8:1:2::",
		"[fe80::1%eth0]:1":             "fe80::",
		"":                             "",
		"@":                            "",
		"pipe":                         "",
		"192.0.2.1:x":                  "",
	} {
		got := ""
		if a, ok := Of(client); ok {
			got = a.String()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", client, got, want)
		}
	}
}

func TestCounter(t *testing.T) {
	var c Counter
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::")
	for i := range 3 {
		if got := c.Enter(a, 2); got != (i < 2) {
			t.Errorf("connection %d of 2 at most: got %v", i+1, got)
		}
	}
	if !c.Enter(b, 1) || c.Enter(b, 1) {
		t.Error("the limit of another address is not kept")
	}
	c.Leave(a)
	if !c.Enter(a, 2) || c.Enter(a, 2) {
		t.Error("a connection that has left is still counted")
	}
	c.Leave(a)
	c.Leave(a)
	c.Leave(b)
	if c.Len() != 0 {
		t.Errorf("%d addresses are left", c.Len())
	}
}

func FuzzOf(f *testing.F) {
	for _, s := range []string{"192.0.2.1:1", "[::1%a]:2", "::ffff:1.2.3.4", "1:2", "[", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, client string) {
		a, ok := Of(client)
		if !ok {
			return
		}
		if again, ok := Of(a.String()); !ok || again != a {
			t.Errorf("%q: %v becomes %v", client, a, again)
		}
	})
}

func TestEntry(t *testing.T) {
	for client, want := range map[string]string{"192.0.2.1": "192.0.2.1",
		"192.0.2.1:80": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"[2001:db8::1]:80": "2001:db8::1", "fe80::1%eth0": "fe80::1", "@": ""} {
		e := NewEntry(client)
		if got := e.String(); got != want || e.Empty() != (want == "") {
			t.Errorf("%s: got %s, want %s", client, got, want)
		}
	}
}

// A connection is counted once, and leaves once. One without an address is not counted.
func TestEntryIsCounted(t *testing.T) {
	var c Counter
	one, two, none := NewEntry("2001:db8::1"), NewEntry("[2001:db8::2]:80"), NewEntry("@")
	if !one.Enter(&c, 1) || !one.Counted() || two.Enter(&c, 1) || two.Counted() {
		t.Error("one of two connections may enter")
	}
	if !none.Enter(&c, 0) || none.Counted() || c.Len() != 1 {
		t.Error("a connection without an address is counted")
	}
	two.Leave(&c)
	none.Leave(&c)
	if c.Len() != 1 {
		t.Error("a connection leaves that is not counted")
	}
	one.Leave(&c)
	if one.Leave(&c); c.Len() != 0 || one.Counted() {
		t.Error("a connection that has left is counted")
	}
	if !two.Enter(&c, 1) {
		t.Error("there is no room for another connection")
	}
}
