package punycode

import (
	"strings"
	"testing"
)

// samples are of RFC 3492 §7.1, in small letters where they have such, and hosts that are in use.
const samples = `
他们为什么不说中文 xn--ihqwcrb4cv8a8dqg056pqjye
他們爲什麽不說中文 xn--ihqwctvzc91f659drss3x8bo0yb
Pročprostěnemluvíčesky xn--proprostnemluvesky-uyb24dma41a
למההםפשוטלאמדבריםעברית xn--4dbcagdahymbxekheh6e0a7fei0b
यहलोगहिन्दीक्योंनहींबोलसकतेहैं xn--i1baa7eci9glrd9b2ae1bj0hfcgg6iyaf8o0a1dig0cd
なぜみんな日本語を話してくれないのか xn--n8jok5ay5dzabd5bym9f0cm5685rrjetr6pdxa
почемужеонинеговорятпорусски xn--b1abfaaepdrnnbgefbadotcwatmq2g4l
PorquénopuedensimplementehablarenEspañol xn--porqunopuedensimplementehablarenespaol-fmd56a
TạisaohọkhôngthểchỉnóitiếngViệt xn--tisaohkhngthchnitingvit-kjcr8268qyxafd2f1b9g
3年b組金八先生 xn--3b-ww4c5e180e575a65lsy2b
MÜNCHEN xn--mnchen-3ya
faß xn--fa-hia
日本 xn--wgv71a
I❤️ xn--i-7iq
ΑΣ xn--mxa0b
l·l xn--ll-0ea
Plain plain
a_b* a_b*
`

func TestToASCII(t *testing.T) {
	n := 0
	for line := range strings.Lines(samples) {
		if label, want, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			n++
			if got, err := ToASCII(label); got != want || err != nil {
				t.Errorf("%q: got %q, %v, want %q", label, got, err, want)
			}
		}
	}
	if n != 18 {
		t.Errorf("%d samples", n)
	}
	if got, err := ToASCII(strings.Repeat("ü", 10)); got != "xn--tdaaaaaaaaaa" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := ToASCII("কো"); got != "xn--p5b2i" {
		t.Errorf("a letter in the form in which browsers send it: got %q, %v", got, err)
	}
	for _, label := range []string{"", "u\u0308ber", "ﬁn", "ａ", "İ", "\u00ad", "a\u200db", "\ufe0f",
		"a\xff", "𝐚", "½", "ليهمابتكلموشعربي؟", strings.Repeat("ü", 63), strings.Repeat("a", 64)} {
		if got, err := ToASCII(label); err != ErrLabel {
			t.Errorf("%q: got %q, %v", label, got, err)
		}
	}
}

// Marks that browsers would join with a letter before them are refused.
func TestJoined(t *testing.T) {
	pairs := 0
	for _, j := range joins {
		for _, r := range j.letters {
			pairs++
			for _, between := range []string{"", "\ufe0f", "\u064f"} {
				label := "ক" + string(r) + between + string(j.mark)
				if got, err := ToASCII(label); err != ErrLabel {
					t.Errorf("%+q: got %q, %v", label, got, err)
				}
			}
		}
	}
	if pairs != 76 { // 58 of Unicode 15, 18 of Unicode 16
		t.Errorf("%d pairs", pairs)
	}
	for _, label := range []string{"ক\u09c7\u09be", "\u0bc6\u0bbe", "\u1025\u102e"} {
		if got, err := ToASCII(label); err != ErrLabel {
			t.Errorf("%+q: got %q, %v", label, got, err)
		}
	}
	for _, label := range []string{"\u09c7ক\u09be", "\u09be\u09c7", "\u1025\u102d",
		"\u0928ক\u093c"} {
		if got, err := ToASCII(label); !strings.HasPrefix(got, "xn--") || err != nil {
			t.Errorf("%+q: got %q, %v", label, got, err)
		}
	}
}

// FuzzToASCII checks that a result is ASCII, and that it is its own result.
func FuzzToASCII(f *testing.F) {
	for _, seed := range []string{"münchen", "日本", "a-b", "x\U0010ffff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, label string) {
		got, err := ToASCII(label)
		if err != nil {
			return
		}
		for i := range len(got) {
			if got[i] >= 0x80 {
				t.Fatalf("%q: got %q", label, got)
			}
		}
		if again, err := ToASCII(got); err != nil || again != got {
			t.Errorf("%q: got %q, and of that %q, %v", label, got, again, err)
		}
	})
}
