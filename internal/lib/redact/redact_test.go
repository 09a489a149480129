package redact

import (
	"net/url"
	"strings"
	"testing"
)

func TestURL(t *testing.T) {
	for s, want := range map[string]string{
		"":                                    "",
		"redis.internal":                      "redis.internal",
		"redis://h:6379/0":                    "redis://h:6379/0",
		"/run/redis.sock":                     "/run/redis.sock",
		"redis://u:PASS@h:6379/0":             "redis://********@h:6379/0",
		"tls://PASS@h":                        "tls://********@h",
		"rediss://:PASS@h?db=1":               "rediss://********@h?********",
		"u:PASS@h":                            "********@h",
		"redis://u:PA@SS@h":                   "redis://********@h",
		"redis://u:P/A#SS@h":                  "redis://********@h",
		"redis://u:PA?SS@h":                   "redis://********",
		"h?password=PASS":                     "h?********",
		"h?password=PA@SS":                    "********",
		"u:PASS%40h":                          "********@h",
		"redis://u:PASS@a,redis://u:PASS@b:1": "redis://********@b:1",
		"u:PASS://x@h":                        "********@h",
	} {
		if got := URL(s); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}

// TestParsed hides the user and the query, and shows the right host.
func TestParsed(t *testing.T) {
	for s, want := range map[string]string{
		"https://app.example/@hooks/in":   "https://app.example/@hooks/in",
		"https://app.example/a%2Fb@c":     "https://app.example/a%2Fb@c",
		"http://u:PASS@h:80/@x?t=PA@SS#f": "http://********@h:80/@x?********",
		"http://PASS@[::1]?PASS":          "http://********@[::1]?********",
		"http://u:PA%40SS@h/%40in":        "http://********@h/%40in",
		"http://h":                        "http://h",
	} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := Parsed(u); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}

func TestPasted(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "key.pem": "", "/etc/tls/key.pem\n": "", "[::1]:8080": "", "redis://u:p@h": "",
		"-----BEGIN EC PRIVATE KEY-----\nMHc": "a private key",
		"-----BEGIN CERTIFICATE----- MII":     "a certificate or a key",
		` [{"secret":"s"}]`:                   "JSON", `{"a":1}`: "JSON", `["s"]`: "JSON",
		"one\ntwo": "several lines", "one\rtwo": "several lines",
	} {
		if got := Pasted(s); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
		if got := URL(s); want != "" && got != mask {
			t.Errorf("%q: URL leaves %q", s, got)
		}
	}
}

// FuzzURL checks that only a scheme shows of the text before the last @.
func FuzzURL(f *testing.F) {
	f.Add("redis://", "u:p", "h:1/2?db=3")
	f.Add("", "u:p@://?#", "h")
	f.Fuzz(func(t *testing.T, scheme, secret, host string) {
		secret = "\x00" + secret + "\x01"
		if scheme != "" {
			scheme = "redis://"
		}
		if got := URL(scheme + secret + "@" + host); strings.ContainsAny(got, "\x00\x01") &&
			!strings.ContainsAny(host, "\x00\x01") {
			t.Fatalf("%q: got %q", scheme+secret+"@"+host, got)
		}
	})
}
