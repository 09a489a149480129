package utf8check

import (
	"testing"
	"unicode/utf8"
)

// repairable is the plain definition that Check must agree with: can b be the
// beginning of a valid text?
func repairable(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r != utf8.RuneError || n > 1 {
			b = b[n:]
			continue
		}
		if utf8.FullRune(b) {
			return false
		}
		// Cut off: some continuation must make it whole. The first two bytes
		// decide, and the extremes of the rest are all the same.
		for _, end := range []string{"\x80", "\x80\x80", "\x80\x80\x80", "\xA0\x80", "\x90\x80\x80",
			"\xBF", "\xBF\xBF", "\x9F\xBF", "\x8F\xBF\xBF"} {
			if utf8.Valid(append(append([]byte{}, b...), end...)) {
				return true
			}
		}
		return false
	}
	return true
}

func check(t *testing.T, b []byte, cut int) {
	t.Helper()
	var c Checker
	ok := c.Check(b[:cut]) && c.Check(b[cut:])
	if ok != repairable(b) {
		t.Fatalf("Check(% x | % x) = %v, want %v", b[:cut], b[cut:], ok, !ok)
	}
	if ok && c.Complete() != utf8.Valid(b) {
		t.Fatalf("Complete after % x = %v, want %v", b, c.Complete(), utf8.Valid(b))
	}
}

func TestEverySequenceOfTwoBytesAndEveryCut(t *testing.T) {
	for i := range 256 * 256 {
		for _, b := range [][]byte{{byte(i), byte(i >> 8)}, {'a', byte(i), byte(i >> 8), 'z'},
			{0xF0, byte(i), byte(i >> 8), 0x80}, {0xF4, byte(i), byte(i >> 8)},
			{0xED, byte(i), byte(i >> 8)}} {
			for cut := range len(b) + 1 {
				check(t, b, cut)
			}
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte("κόσμε\xed\xa0\x80"), 3)
	f.Add([]byte("\xf4\x90\x80\x80"), 1)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if cut < 0 || cut > len(b) {
			cut = len(b) / 2
		}
		check(t, b, cut)
	})
}

func BenchmarkCheckASCII(b *testing.B) { benchmark(b, "the quick brown fox jumps over ") }
func BenchmarkCheckCJK(b *testing.B)   { benchmark(b, "高速な茶色の狐が飛び越える") }

func benchmark(b *testing.B, text string) {
	p := make([]byte, 0, 1<<12)
	for len(p)+len(text) <= cap(p) {
		p = append(p, text...)
	}
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		var c Checker
		if !c.Check(p) {
			b.Fatal("valid text refused")
		}
	}
}
