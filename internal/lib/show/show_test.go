package show

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for s, want := range map[string]string{"kanal-ü": `kanal-ü`, "a\nb": `a\u000ab`, "\xff": `\xff`,
		"\u202e": `\u202e`, "\U000e0001": `\U000e0001`, "\u0085": `\u0085`, "": "",
		strings.Repeat("ü", 50): strings.Repeat("ü", 40) + "..."} {
		if got := Text(s); got != want {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
		if got := Quoted(s); got != `"`+want+`"` {
			t.Errorf("%q: got %s, want %s in quotes", s, got, want)
		}
	}
	if got, want := Quoted(`a"\`), `"a\"\\"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzText(f *testing.F) {
	f.Add("kanal-ü\n\xff\u202e\"\\")
	f.Fuzz(func(t *testing.T, s string) {
		for _, shown := range []string{Text(s), Quoted(s)} {
			if !utf8.ValidString(shown) || len(shown) > 6*maxBytes+16 ||
				strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%q is shown as %q", s, shown)
			}
		}
	})
}

func TestLine(t *testing.T) {
	for s, want := range map[string]string{"ein Kanal, ü": "ein Kanal, ü",
		"a\nb\x1b[1m\u202e": "a?b?[1m?", "\xff": "\ufffd",
		strings.Repeat("ü", 1001): strings.Repeat("ü", 1000) + "..."} {
		if got := Line(s); got != want {
			t.Errorf("%.20q: got %.20q, want %.20q", s, got, want)
		}
	}
}
