package proxyproto

import (
	"io"
	"strings"
	"testing"
)

const v2 = signature + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01\xbb"

func TestRead(t *testing.T) {
	for in, want := range map[string]string{
		"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n": "192.0.2.1:56324",
		"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n":   "[2001:db8::1]:1",
		Local: "invalid AddrPort",
		"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n": "invalid AddrPort",
		v2: "192.0.2.1:56324",
		// with a TLV
		signature + "\x21\x11\x00\x0f" + v2[16:] +
			"\x03\x00\x00": "192.0.2.1:56324",
		signature + "\x20\x00\x00\x00": "invalid AddrPort",
		signature + "\x21\x21\x00\x24" + strings.Repeat("\x20", 32) +
			"\x00\x50\x01\xbb": "[2020:2020:2020:2020:2020:2020:2020:2020]:80",
		signature + "\x21\x31\x00\xd8" + strings.Repeat("x", 216): "invalid AddrPort",
	} {
		r := strings.NewReader(in + "rest")
		got, err := Read(r)
		rest, _ := io.ReadAll(r)
		if err != nil || got.String() != want || string(rest) != "rest" {
			t.Errorf("%q: got %v, %v, left %q; want %v", in, got, err, rest, want)
		}
		for n := range len(in) {
			if _, err := Read(strings.NewReader(in[:n])); err == nil {
				t.Errorf("%q: no error for its first %d bytes", in, n)
			}
		}
	}
	for _, in := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PROXY TCP4 192.0.2.1\r\n",
		"PROXY TCP4 2001:db8::1 ::1 1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 70000 1\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n", "PROXY " + strings.Repeat("x", 200) + "\r\n",
		signature + "\x31\x11\x00\x0c" + strings.Repeat("x", 12),
		signature + "\x22\x11\x00\x0c" + strings.Repeat("x", 12), signature + "\x21\x11\x00\x04" +
			strings.Repeat("x", 12),
		signature + "\x21\x11\xff\xff" + strings.Repeat("x", 70000),
	} {
		if got, err := Read(strings.NewReader(in)); err == nil {
			t.Errorf("%.60q: got %v, want an error", in, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET")
	f.Add(v2 + "GET")
	f.Fuzz(func(t *testing.T, in string) {
		r := strings.NewReader(in)
		addr, err := Read(r)
		if err != nil && addr.IsValid() {
			t.Errorf("an address and the error %v", err)
		}
		if err == nil && len(in)-r.Len() < len(Local) {
			t.Errorf("accepted after %d bytes", len(in)-r.Len())
		}
	})
}
