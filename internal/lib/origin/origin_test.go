package origin

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for entry, want := range map[string]string{
		"*": "*", "Example.COM": "example.com", "*.Example.com": "*.example.com",
		"localhost": "localhost", "127.0.0.1": "127.0.0.1",
		"münchen.de": "xn--mnchen-3ya.de", "*.MÜNCHEN.de": "*.xn--mnchen-3ya.de",
		"faß.de": "xn--fa-hia.de", "a_b.example": "a_b.example",
		"日本。jp": "xn--wgv71a.jp", "xn--Mnchen-3ya.de": "xn--mnchen-3ya.de",
		"shop-*.example": "shop-*.example", "example.com.": "example.com.",
		"::1": "::1", "[::1]": "::1", "[2001:DB8:0:0::1]": "2001:db8::1", "[fd00:*]": "fd00:*",
		"::ffff:1.2.3.4":      "::ffff:102:304",
		"https://example.org": "example.org", "https://example.org:8443/path?x#y": "example.org",
		"http://[::1]:8000": "::1", "*://*.example.com": "*.example.com",
		"https://u:p@example.org": "example.org", "http://localhost:*": "localhost",
	} {
		got, warning, err := Parse(entry)
		if got != want || err != nil || (warning != "") != strings.Contains(entry, "://") ||
			warning != "" && !strings.HasSuffix(warning, "write it as "+want) {
			t.Errorf("%q: got %q, %q, %v, want %q", entry, got, warning, err, want)
		}
	}
	for _, entry := range []string{"", "https://", "x:80", "x/y", "a b", "a@b", "[::1", "[x]",
		"[fe80::1%eth0]", "a^b", "a|b", "a%20b", "a?b", "a\x00b", "mün*.de", "127.1", "1.2.3.400",
		"localhost:*", "https://x:y"} {
		if got, _, err := Parse(entry); err == nil {
			t.Errorf("%q: accepted as %q", entry, got)
		}
	}
}

func TestMatchAllocations(t *testing.T) {
	const host = "ws.example.com"
	if n := testing.AllocsPerRun(100, func() {
		if lower(host) != host {
			t.Fatal("wrong result")
		}
	}); n > 0 {
		t.Errorf("got %v allocations", n)
	}
}

func TestMatch(t *testing.T) {
	patterns := []string{"laravel.com", "*.example.com"}
	for origin, want := range map[string]bool{
		"https://laravel.com": true, "http://laravel.com:8080": true,
		"https://a.b.example.com": true,
		"https://example.com":     false, "https://evil.com/laravel.com": false,
		"https://laravel.com.evil.com": false,
		"laravel.com":                  false, "null": false, "": false, "https://": false,
		"https://evil.com#.example.com": false,
		"https://EXAMPLE.com":           false, "https://A.Example.COM:8443": true,
		"https://LARAVEL.com":           true,
		"https://evil.com?.example.com": false, "https://laravel.com@evil.com": false, "::": false,
	} {
		if got := Match(patterns, origin); got != want {
			t.Errorf("%q: got %v, want %v", origin, got, want)
		}
	}
	if !Match([]string{"*"}, "") || !Match([]string{"a", "*"}, "null") {
		t.Error("* must allow everything")
	}
}

// globPlain is the obvious way to match, as an oracle.
func globPlain(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	if pattern[0] == '*' {
		return globPlain(pattern[1:], s) || s != "" && globPlain(pattern, s[1:])
	}
	return s != "" && s[0] == pattern[0] && globPlain(pattern[1:], s[1:])
}

func FuzzOriginPattern(f *testing.F) {
	f.Add("*.a*b", "x.acab")
	f.Add("a*a", "a")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(s) > 12 || len(pattern) > 8 {
			Match([]string{pattern}, s)
			return
		}
		if got, want := matchGlob(pattern, s), globPlain(pattern, s); got != want {
			t.Fatalf("matchGlob(%q, %q): got %v, want %v", pattern, s, got, want)
		}
	})
}

// FuzzParse checks that the result of Parse stays the same when parsed again, and can be matched.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"*.Example.com", "münchen.de", "[::1]", "https://a:1/b", "日本。jp",
		"a*b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		pattern, _, err := Parse(entry)
		if err != nil {
			return
		}
		if again, warning, err := Parse(pattern); again != pattern || warning != "" || err != nil {
			if !strings.Contains(pattern, ":") || !strings.Contains(pattern, "*") {
				// the pattern of an IPv6 address needs brackets
				t.Fatalf("%q: got %q, and again %q, %q, %v", entry, pattern, again, warning, err)
			}
		}
		if pattern == "" || !isASCII(pattern) || pattern != lower(pattern) {
			t.Fatalf("%q: got %q", entry, pattern)
		}
		if !strings.ContainsAny(pattern, "*:") &&
			!Match([]string{pattern}, "https://"+strings.ToUpper(pattern)) {
			t.Fatalf("%q: %q does not match itself", entry, pattern)
		}
	})
}
