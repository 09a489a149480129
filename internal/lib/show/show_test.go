package show

import (
	"strings"
	"testing"
	"time"
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

func TestFigures(t *testing.T) {
	for want, got := range map[string]string{
		"59s": Duration(59 * time.Second), "1m05s": Duration(65 * time.Second),
		"2h01m": Duration(121 * time.Minute), "3d04h": Duration(76 * time.Hour),
		"0s": Duration(-time.Hour), "-": Bytes(-1), "1023 B": Bytes(1023), "1.0 KiB": Bytes(1024),
		"100 KiB": Bytes(100 << 10), "2.5 GiB": Bytes(5 << 29), "1024 TiB": Bytes(1 << 50),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	for text, want := range map[string]string{
		"{\"a\":\n\t[1]}": `{"a":  [1]}`, "\"\u009b\U000e0001ü\"": `"\u009b\udb40\udc01ü"`,
		"\"\xff\"": `"` + "\ufffd" + `"`,
	} {
		if got := JSON(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
