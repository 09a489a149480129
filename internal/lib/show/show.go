// Package show makes text of strangers fit to be shown in one line of a log, an error
// or an answer. The text may be anything that a peer can send.
//
// It owns the rules of what a person sees; it keeps nothing and hides no secrets.
package show

import (
	"fmt"
	"strconv"
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
