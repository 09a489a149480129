// Package punycode writes a label of a host name in ASCII, in the xn-- form that browsers send
// (RFC 3492; RFC 5891 §4.4).
package punycode

import (
	"errors"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The parameters of RFC 3492 §5.
const (
	base        = 36
	tmin        = 1
	tmax        = 26
	skew        = 38
	damp        = 700
	initialBias = 72
	initialN    = 0x80
)

// ErrLabel says that the label is not valid, or that browsers would map it to another label in a
// way that needs the tables of Unicode's normalization (UTS #46 §4).
var ErrLabel = errors.New("not a label of a host name in the form in which browsers take it")

// maxRunes bounds a label; in ASCII it has 63 bytes at most (RFC 1034 §3.1).
const maxRunes = 63

// ToASCII is label in ASCII. Letters become small ones, as in browsers; a label that is in ASCII
// stays as it is otherwise.
func ToASCII(label string) (string, error) {
	runes := make([]rune, 0, maxRunes)
	for _, r := range label {
		if r == '\ufe0f' { // asks for an emoji in colour
			continue
		}
		if refused(r) || len(runes) == maxRunes {
			return "", ErrLabel
		}
		if runes = append(runes, unicode.ToLower(r)); joined(runes) {
			return "", ErrLabel
		}
	}
	if ascii := encode(runes); ascii != "" && len(ascii) <= maxRunes {
		return ascii, nil
	}
	return "", ErrLabel
}

// needTables has the ranges in which browsers map letters to others (UTS #46 §4: mapped, ignored),
// and parts of letters, which they join (normalization form C). Nobody registers names with them.
var needTables = [][2]rune{
	{0xaa, 0xaa}, {0xad, 0xad}, {0xb5, 0xb5}, {0xba, 0xba}, {0x130, 0x133}, {0x13f, 0x140},
	{0x149, 0x149}, {0x17f, 0x17f}, {0x1c4, 0x1cc}, {0x1f1, 0x1f3}, {0x2b0, 0x36f}, {0x374, 0x374},
	{0x37a, 0x37a}, {0x3d0, 0x3d6}, {0x3f0, 0x3f9}, {0x587, 0x587}, {0x675, 0x678}, {0x958, 0x95f},
	{0x9dc, 0x9df}, {0xa33, 0xa36}, {0xa59, 0xa5e}, {0xb5c, 0xb5d}, {0xe33, 0xe33}, {0xeb3, 0xeb3},
	{0xedc, 0xedd}, {0xf43, 0xfb9}, {0x10fc, 0x10fc}, {0x1100, 0x11ff}, {0x13a0, 0x13fd},
	{0x180b, 0x180f}, {0x1c80, 0x1c8f}, {0x1d00, 0x1dff}, {0x1e9a, 0x1e9e}, {0x1f71, 0x1fff},
	{0x2071, 0x214f}, {0x2460, 0x24ff}, {0x2c7c, 0x2c7d}, {0x2d6f, 0x2d6f}, {0x2e80, 0x2fdf},
	{0x3036, 0x3036}, {0x3099, 0x309a}, {0x309f, 0x309f}, {0x30ff, 0x30ff}, {0x3131, 0x33ff},
	{0xa69c, 0xa69d}, {0xa770, 0xa770}, {0xa7f2, 0xa7f9}, {0xab5b, 0xabbf}, {0xf900, 0xffff},
	{0x10780, 0x107bf}, {0x1d000, 0x1d7ff}, {0x1e030, 0x1e06d}, {0x1ee00, 0x1eeff},
	{0x1f110, 0x1f190}, {0x1f200, 0x1f25f}, {0x1fbf0, 0x1fbf9}, {0x2f800, 0x2fa1f},
	{0xe0000, unicode.MaxRune},
}

// refused says that r is not allowed in a label, or that its form in ASCII needs tables.
func refused(r rune) bool {
	for _, part := range needTables {
		if r >= part[0] && r <= part[1] {
			return true
		}
	}
	return r >= utf8.RuneSelf && r != '·' && r != '・' &&
		!unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.So)
}

// joins has the marks that browsers join with a letter before them to one letter (normalization
// form C of Unicode 17), and the letters with which they do so. Marks and letters that needTables
// has are left out.
var joins = []join{
	{0x0653, "\u0627"}, {0x0654, "\u0627\u0648\u064a\u06c1\u06d2\u06d5"}, {0x0655, "\u0627"},
	{0x093c, "\u0928\u0930\u0933"}, {0x09be, "\u09c7"}, {0x09d7, "\u09c7"}, {0x0b3e, "\u0b47"},
	{0x0b56, "\u0b47"}, {0x0b57, "\u0b47"}, {0x0bbe, "\u0bc6\u0bc7"}, {0x0bd7, "\u0b92\u0bc6"},
	{0x0c56, "\u0c46"}, {0x0cc2, "\u0cc6"}, {0x0cd5, "\u0cbf\u0cc6\u0cca"}, {0x0cd6, "\u0cc6"},
	{0x0d3e, "\u0d46\u0d47"}, {0x0d57, "\u0d46"}, {0x0dca, "\u0dd9\u0ddc"}, {0x0dcf, "\u0dd9"},
	{0x0ddf, "\u0dd9"}, {0x102e, "\u1025"},
	{0x1b35, "\u1b05\u1b07\u1b09\u1b0b\u1b0d\u1b11\u1b3a\u1b3c\u1b3e\u1b3f\u1b42"},
	{0x110ba, "\U00011099\U0001109b\U000110a5"}, {0x11127, "\U00011131\U00011132"},
	{0x1133e, "\U00011347"}, {0x11357, "\U00011347"}, {0x113b8, "\U000113c2"},
	{0x113bb, "\U00011384"}, {0x113c2, "\U0001138b\U000113c2"},
	{0x113c9, "\U00011382\U00011390\U000113c2"}, {0x114b0, "\U000114b9"}, {0x114ba, "\U000114b9"},
	{0x114bd, "\U000114b9"}, {0x115af, "\U000115b8\U000115b9"}, {0x11930, "\U00011935"},
	{0x1611e, "\U0001611e"}, {0x1611f, "\U0001611e\U00016129\U00016121\U00016122"},
	{0x16120, "\U0001611e\U00016121"}, {0x16129, "\U0001611e"},
	{0x16d67, "\U00016d67\U00016d63\U00016d69"},
}

// join is a mark, and the letters with which browsers join it.
type join struct {
	mark    rune
	letters string
}

// joined says that the last rune is a mark that browsers join with a letter before it. They join
// the two across some other marks, so any marks may stand between.
func joined(label []rune) bool {
	last := len(label) - 1
	i := slices.IndexFunc(joins, func(j join) bool { return j.mark == label[last] })
	if i < 0 {
		return false
	}
	for _, r := range slices.Backward(label[:last]) {
		if strings.ContainsRune(joins[i].letters, r) {
			return true
		}
		if !unicode.Is(unicode.M, r) {
			return false
		}
	}
	return false
}

// encode is the procedure of RFC 3492 §6.3. At most maxRunes runes cannot overflow it.
func encode(label []rune) string {
	var b strings.Builder
	for _, r := range label {
		if r < initialN {
			b.WriteRune(r)
		}
	}
	basic := b.Len()
	if basic == len(label) {
		return b.String()
	}
	if basic > 0 {
		b.WriteByte('-')
	}
	n, delta, bias := rune(initialN), 0, initialBias
	for done := basic; done < len(label); {
		next := rune(math.MaxInt32)
		for _, r := range label {
			if r >= n {
				next = min(next, r)
			}
		}
		delta += int(next-n) * (done + 1)
		n = next
		for _, r := range label {
			switch {
			case r < n:
				delta++
			case r == n:
				writeInteger(&b, delta, bias)
				bias = adapt(delta, done+1, done == basic)
				delta = 0
				done++
			}
		}
		delta++
		n++
	}
	return "xn--" + b.String()
}

// writeInteger writes a number of variable length (RFC 3492 §3.3).
func writeInteger(b *strings.Builder, q, bias int) {
	for k := base; ; k += base {
		t := min(max(k-bias, tmin), tmax)
		if q < t {
			break
		}
		b.WriteByte(digit(t + (q-t)%(base-t)))
		q = (q - t) / (base - t)
	}
	b.WriteByte(digit(q))
}

// digit is a to z for 0 to 25, and 0 to 9 for 26 to 35.
func digit(d int) byte {
	if d < 26 {
		return byte('a' + d)
	}
	return byte('0' + d - 26)
}

// adapt is the procedure of RFC 3492 §6.1.
func adapt(delta, points int, first bool) int {
	if first {
		delta /= damp
	} else {
		delta /= 2
	}
	delta += delta / points
	k := 0
	for ; delta > (base-tmin)*tmax/2; k += base {
		delta /= base - tmin
	}
	return k + (base-tmin+1)*delta/(delta+skew)
}
