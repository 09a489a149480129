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

func TestPacked(t *testing.T) {
	for client, want := range map[string]string{"192.0.2.1": "192.0.2.1",
		"192.0.2.1:80": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1",
		"[2001:db8::1]:80": "2001:db8::1", "fe80::1%eth0": "fe80::1"} {
		if got := Pack(client).String(); got != want {
			t.Errorf("%s: got %s, want %s", client, got, want)
		}
	}
	if Pack("@") != nil {
		t.Error("a Unix socket has an address")
	}
}
