package laravel

import (
	"testing"

	"reverb/internal/lib/php"
)

// TestLists tells apps from lists of them, in the JSON that PHP writes.
func TestLists(t *testing.T) {
	for text, want := range map[string]string{
		`{"app_id":1}`:             "app",
		`{"a":{"key":"k"},"b":{}}`: "list",
		`{"a":{"key":"k"},"b":1}`:  "",
		`{"apps":[]}`:              "",
		`[]`:                       "",
	} {
		got := ""
		if IsApp([]byte(text)) {
			got = "app"
		} else if IsAppList([]byte(text)) {
			got = "list"
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

// TestNotUTF8 finds the first text that JSON cannot hold.
func TestNotUTF8(t *testing.T) {
	var b php.Builder
	b.Add(php.Of("ü"))
	bad := php.Of("\xff")
	if line := NotUTF8(b.Value()); line != 0 {
		t.Errorf("got %d", line)
	}
	bad.Line = 7
	b.Add(bad)
	if line := NotUTF8(b.Value()); line != 7 {
		t.Errorf("got %d", line)
	}
}

// TestTLSVersion takes the oldest version that is served.
func TestTLSVersion(t *testing.T) {
	for bits, want := range map[int]string{32: "1.2", 96: "1.2", 64: "1.3", 8: ""} {
		if got, err := TLSVersion(bits); got != want || (err == nil) != (want != "") {
			t.Errorf("%d: got %q and %v, want %q", bits, got, err, want)
		}
	}
}
