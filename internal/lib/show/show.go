// Package show makes text of strangers fit to be shown in one line of a log, an error
// or an answer. The text may be anything that a peer can send.
//
// It owns the rules of what a person sees; it keeps nothing and hides no secrets.
package show

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxBytes is where a text is cut, after the character that passes it. A larger bound
// lets strangers fill the log; with a smaller one names cannot be told apart.
const maxBytes = 80

// Text is the first 80 bytes of s, about. A character that cannot be printed, a
// bidirectional control for instance, becomes an escape such as \u000a; a byte that is
// not UTF-8 becomes an escape such as \xff.
func Text(s string) string { return string(appendText(nil, s, false)) }

// Quoted is Text in quotes. Quotes and backslashes of s are escaped.
func Quoted(s string) string {
	return string(append(appendText([]byte{'"'}, s, true), '"'))
}

// maxRunes is where a message that a person asked to see is cut. A larger bound shows whole
// member lists; with a smaller one ordinary events lose their end.
const maxRunes = 1000

// Line is a message as a terminal shows it: its first 1,000 characters in one line. A
// question mark stands for each character that cannot be printed.
func Line(s string) string {
	s = strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
	if r := []rune(s); len(r) > maxRunes {
		return string(r[:maxRunes]) + "..."
	}
	return s
}

func appendText(b []byte, s string, quote bool) []byte {
	for i := 0; i < len(s); {
		if i >= maxBytes {
			return append(b, "..."...)
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case quote && (r == '"' || r == '\\'):
			b = append(b, '\\', byte(r))
		case r == utf8.RuneError && n == 1:
			b = fmt.Appendf(b, `\x%02x`, s[i])
		case strconv.IsPrint(r):
			b = append(b, s[i:i+n]...)
		case r > 0xffff:
			b = fmt.Appendf(b, `\U%08x`, r)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		i += n
	}
	return b
}
