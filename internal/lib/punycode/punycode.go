// Package punycode writes a label of a host name in ASCII, in the xn-- form that browsers send
// (RFC 3492; RFC 5891 §4.4).
package punycode

import (
	"errors"
	"math"
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

// ErrLabel says that a label is none, or that browsers would map it to another one in a way that
// needs the tables of Unicode's normalization (UTS #46 §4).
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
		runes = append(runes, unicode.ToLower(r))
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
