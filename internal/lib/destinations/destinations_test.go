package destinations

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	const local, other = 1, 2 // refused unless LinkLocal; always refused
	for address, want := range map[string]int{
		"127.0.0.1": 0, "::1": 0, "10.0.0.1": 0, "172.16.0.9": 0, "192.168.1.1": 0, "8.8.8.8": 0,
		"100.64.0.1": 0, "fd00::1": 0, "2606:4700::1111": 0, "240.0.0.1": 0, "::ffff:10.0.0.1": 0,
		"64:ff9b::a00:1": 0, "64:ff9b:1::a00:1": 0, "2002:a00:1::1": 0, "64:ff9b:2::a9fe:a9fe": 0,
		"169.253.255.255": 0, "169.255.0.0": 0, "fec0::1": 0,

		"169.254.169.254": local, "169.254.0.1": local, "fe80::1": local, "fe80::1%eth0": local,
		"febf::1": local, "fd00:ec2::254": local, "fd00:ec2::23": local, "100.100.100.200": local,
		"192.0.0.192": local, "168.63.129.16": local, "fd20:ce::254": local,
		"fd00:c1::a9fe:a9fe": local, "fd00:100::100:200": local, "fd00:a9fe:a9fe::1": local,
		"fd00:42::42": local, "fd00:42::43": 0,
		"::ffff:169.254.169.254": local, "::ffff:100.100.100.200": local,
		"64:ff9b::a9fe:a9fe": local, "64:ff9b::6464:64c8": local,
		"64:ff9b:1::a9fe:a9fe": local, "64:ff9b:1:a9fe:a9:fe00::": local,
		"64:ff9b:1:12a9:fe:a9fe::": local, "64:ff9b:1:1234:a9:fea9:fe00:0": local,
		"2002:a9fe:a9fe::1": local, "::a9fe:a9fe": local,

		"0.0.0.0": other, "0.1.2.3": other, "::": other, "::ffff:0.0.0.0": other,
		"64:ff9b::": other, "224.0.0.1": other, "239.255.255.255": other, "ff02::1": other,
		"255.255.255.255": other, "::ffff:255.255.255.255": other, "64:ff9b::ffff:ffff": other,
		"::ffff:224.0.0.1": other, "64:ff9b:1::e000:1": other, "2002:0:1::": other,
	} {
		to := netip.MustParseAddr(address)
		for _, g := range []Guard{{}, {LinkLocal: true}} {
			err := g.Check(to)
			if refused := want == other || want == local && !g.LinkLocal; (err != nil) != refused {
				t.Errorf("%+v: %s: got %v, want refused: %v", g, address, err, refused)
			}
			if err != nil && !strings.HasPrefix(err.Error(), address+" is ") {
				t.Errorf("%s: %v", address, err)
			}
			g.Advice = "set it"
			if err := g.Check(to); err != nil && strings.HasSuffix(err.Error(), "; set it") !=
				(want == local) {
				t.Errorf("%s: %v", address, err)
			}
		}
	}
}

// What the dialer hands to Control, and that an address that is refused is never connected to.
func TestControl(t *testing.T) {
	var g Guard
	for address, want := range map[string]string{
		"10.0.0.1:80":        "",
		"[fe80::1%eth0]:443": "fe80::1%eth0 is a link-local address",
		"[::ffff:a9fe:1]:80": "::ffff:169.254.0.1 is a link-local address",
		"[64:ff9b::]:80":     "64:ff9b:: is the unspecified address, as 0.0.0.0",
		"host:80":            `tcp4 "host:80" is not an IP address with a port`,
	} {
		got := ""
		if err := g.Control("tcp4", address, nil); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	d := net.Dialer{Control: g.Control}
	// Linux takes 0.0.0.0 for 127.0.0.1, so that without Control this connects.
	if conn, err := d.DialContext(context.Background(), "tcp4", "0.0.0.0:"+port); err == nil {
		conn.Close()
		t.Error("connected to 0.0.0.0")
	} else if !strings.Contains(err.Error(), "the unspecified address") {
		t.Error(err)
	}
	conn, err := d.DialContext(context.Background(), "tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte{169, 254, 169, 254})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 169, 254, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		to, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		strict, lenient := Guard{}.Check(to), Guard{LinkLocal: true}.Check(to)
		if lenient != nil && strict == nil {
			t.Fatalf("%s is refused only with LinkLocal", to)
		}
		if to.Is4() {
			mapped := netip.AddrFrom16(to.As16())
			if (Guard{}.Check(mapped) != nil) != (strict != nil) {
				t.Fatalf("%s and %s are judged differently", to, mapped)
			}
		}
		if to.Unmap().IsLinkLocalUnicast() && strict == nil {
			t.Fatalf("%s is allowed", to)
		}
	})
}
