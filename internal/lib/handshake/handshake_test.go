package handshake

import (
	"bufio"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func request(lines ...string) string {
	return "GET /app/key HTTP/1.1\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

func TestCheck(t *testing.T) {
	base := []string{"Host: x", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"}
	with := func(i int, line string) string {
		l := slices.Clone(base)
		l[i] = line
		return request(l...)
	}
	for _, c := range []struct {
		name, sent string
		want       int
	}{
		{"plain", request(base...), 101},
		{"tokens", with(1, "Upgrade: foo, WebSocket"), 101},
		{"two Upgrade headers", with(1, "Upgrade: h2c\r\nUpgrade: WEBSOCKET"), 101},
		{"Connection tokens", with(2, "Connection: keep-alive, upgrade"), 101},
		{"two Connection headers", with(2, "Connection: close\r\nConnection: uPGRADE"), 101},
		{"spaces around the key", with(3, "Sec-WebSocket-Key:  dGhlIHNhbXBsZSBub25jZQ== "), 101},
		{"no Upgrade", with(1, "X: y"), 426},
		{"other Upgrade", with(1, "Upgrade: websockets"), 426},
		{"no Connection", with(2, "X: y"), 400},
		{"Connection: close", with(2, "Connection: close"), 400},
		{"no key", with(3, "X: y"), 400},
		{"two keys", with(3, base[3]+"\r\n"+base[3]), 400},
		{"short key", with(3, "Sec-WebSocket-Key: YWJj"), 400},
		{"long key", with(3, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE="), 400},
		{"not base64", with(3, "Sec-WebSocket-Key: !!!!IHNhbXBsZSBub25jZQ=="), 400},
		{"no version", with(4, "X: y"), 426},
		{"version 8", with(4, "Sec-WebSocket-Version: 8"), 426},
		{"two versions", with(4, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13"), 426},
		{"POST", strings.Replace(request(base...), "GET", "POST", 1), 405},
		{"a body", request(append(slices.Clone(base), "Content-Length: 3")...) + "abc", 400},
		{"a chunked body", request(append(slices.Clone(base), "Transfer-Encoding: chunked")...) +
			"0\r\n\r\n", 400},
		{"HTTP/1.0", strings.Replace(request(base...), "HTTP/1.1", "HTTP/1.0", 1), 505},
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(c.sent)))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got, text := 101, ""
		if bad := Check(r); bad != nil {
			got, text = bad.Status, bad.Text
		}
		if got != c.want || strings.Contains(text, "\n") {
			t.Errorf("%s: got %d %q, want %d", c.name, got, text, c.want)
		}
	}
	for extensions, line := range map[string]string{"": "",
		"x-foo; bar": "Sec-WebSocket-Extensions: x-foo; bar\r\n"} {
		answer := string(Append(nil, "dGhlIHNhbXBsZSBub25jZQ==", extensions, "X: y\r\n"))
		want := "HTTP/1.1 101 Switching Protocols\r\n" +
			"Upgrade: websocket\r\nConnection: Upgrade\r\n" +
			// the nonce of RFC 6455 §1.3
			"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + line + "X: y\r\n\r\n"
		if answer != want {
			t.Errorf("got %q, want %q", answer, want)
		}
		if r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)),
			nil); err != nil || r.StatusCode != 101 {
			t.Errorf("%q is not an answer: %v", answer, err)
		}
	}
}

// TestKeys: a key is 16 bytes in base64, whatever the unused bits of its last
// character (RFC 6455 §4.1), and the answer is made from the key as it was sent.
func TestKeys(t *testing.T) {
	check := func(key string, want bool) {
		t.Helper()
		r := &http.Request{Method: "GET", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Upgrade": {"websocket"},
				"Connection": {"Upgrade"}, "Sec-Websocket-Key": {key},
				"Sec-Websocket-Version": {"13"}}}
		if bad := Check(r); (bad == nil) != want || bad != nil && bad.Status != 400 {
			t.Errorf("key %q: got %+v, want accepted: %v", key, bad, want)
		}
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for last := range 256 {
		c := string([]byte{byte(last)})
		check("AQIDBAUGBwgJCgsMDQ4PE"+c+"==", strings.Contains(alphabet, c))
	}
	for _, key := range []string{"", "=", "==", strings.Repeat("=", 24),
		base64.StdEncoding.EncodeToString(make([]byte, 15)),
		base64.StdEncoding.EncodeToString(make([]byte, 17)),
		base64.StdEncoding.EncodeToString(make([]byte, 18)),
		base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"AQIDBAUGBwgJCgsMDQ4PEC", "AQIDBAUGBwgJCgsMDQ4PEC=", "AQIDBAUGBwgJCgsMDQ4PEC===",
		"AQIDBAUGBwgJCgsMDQ4PEC==A",
		"AQIDBAUGBwgJ CgsMDQ4PEC==", "AQIDBAUGBwg CgsMDQ4PEC==", "AQIDBAUGBwgJCgsMDQ4PEC= =",
		"AQIDBAUGBwgJ\tCgsMDQ4PEC==",
		"AQIDBAUGBwgJ\r\nCgsMDQ4PEC==", "AQIDBAUGBwgJ\nCgsMDQ4PEC==", "AQIDBAUGBwgJCgsMDQ4PEC=\n=",
		"AQIDBAUGBwgJCgsMDQ4PEC\n=",
		"AQIDBAUGBwgJCgsMDQ4P-_==", "AQIDBAUG=wgJCgsMDQ4PEC=="} {
		check(key, false)
	}
	for key, accept := range map[string]string{
		"AQIDBAUGBwgJCgsMDQ4PEC==": "OfS0wDaT5NoxF2gqm7Zj2YtetzM=",
		"AQIDBAUGBwgJCgsMDQ4PEA==": "C/0nmHhBztSRGR1CwL6Tf4ZjwpY=",
	} {
		if answer := string(Append(nil, key, "", "")); !strings.Contains(answer,
			"Sec-WebSocket-Accept: "+accept+"\r\n") {
			t.Errorf("key %s: got %q, want %s", key, answer, accept)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("websocket", "Upgrade", "dGhlIHNhbXBsZSBub25jZQ==", "13")
	f.Add("websocket", "Upgrade", "AQIDBAUGBwgJCgsMDQ4PEC==", "13")
	f.Add("a,b", "", "x", "")
	f.Fuzz(func(t *testing.T, upgrade, connection, key, version string) {
		r := &http.Request{Method: "GET", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Upgrade": {upgrade},
				"Connection": {connection}, "Sec-Websocket-Key": {key},
				"Sec-Websocket-Version": {version}}}
		if bad := Check(r); bad != nil &&
			(bad.Status < 400 || strings.ContainsAny(bad.Text, "\r\n") || bad.Text == "") {
			t.Fatalf("got %d %q", bad.Status, bad.Text)
		}
	})
}
