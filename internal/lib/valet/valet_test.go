package valet

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	home := filepath.FromSlash("/home/a")
	there := func(names ...string) func(string) bool {
		return func(name string) bool {
			rest, in := strings.CutPrefix(filepath.ToSlash(name), "/home/a/")
			return in && slices.Contains(names, rest)
		}
	}
	const herd, old = ".config/herd/config/valet/Certificates/", ".valet/Certificates/"
	const mac = "Library/Application Support/Herd/config/valet/Certificates/"
	for _, tt := range []struct {
		host, home string
		files      []string
		cert       string
	}{
		{"ws.test", home, []string{herd + "ws.test.crt", herd + "ws.test.key"},
			herd + "ws.test.crt"},
		{"ws.test", home, []string{mac + "ws.test.crt", mac + "ws.test.key"}, mac + "ws.test.crt"},
		{"ws.test", home, []string{herd + "ws.test.crt", old + "ws.test.crt", old + "ws.test.key"},
			old + "ws.test.crt"},
		{"ws.test", home, []string{".config/valet/Certificates/ws.test.crt",
			".config/valet/Certificates/ws.test.key"}, ".config/valet/Certificates/ws.test.crt"},
		{"ws.test", home, []string{herd + "ws.test.crt"}, ""},
		{"ws.test", "", []string{herd + "ws.test.crt", herd + "ws.test.key"}, ""},
	} {
		cert, key, ok := Find(tt.host, tt.home, there(tt.files...))
		want, wantKey := "", ""
		if tt.cert != "" {
			want = filepath.Join(home, filepath.FromSlash(tt.cert))
			wantKey = strings.TrimSuffix(want, ".crt") + ".key"
		}
		if cert != want || key != wantKey || ok != (want != "") {
			t.Errorf("%q: got %q, %q, %v; want %q", tt.files, cert, key, ok, want)
		}
	}
}

// A host that is none, or that would leave the folder, has no certificate.
func TestNoHost(t *testing.T) {
	all := func(string) bool { return true }
	for _, host := range []string{"", "127.0.0.1", "[::1]", "::1", "a/b", `a\b`, "a:1", "..",
		".a"} {
		if cert, _, ok := Find(host, "/home/a", all); ok {
			t.Errorf("%q: got %s", host, cert)
		}
	}
}
