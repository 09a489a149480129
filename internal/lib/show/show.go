// Package show makes text of strangers safe to show in one line of a log, an error or an answer.
// The text may be anything that a peer can send.
//
// It owns the rules for what a person sees. It keeps nothing, and it does not hide secrets.
package show

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxBytes is the length at which a text is cut, after the character that passes it. Larger:
// strangers can fill the log. Smaller: long names look alike.
const maxBytes = 80

// Text is about the first 80 bytes of s. A character that cannot be printed, such as a
// bidirectional control, becomes an escape such as \u000a. A byte that is not UTF-8 becomes an
// escape such as \xff.
func Text(s string) string { return string(appendText(nil, s, false)) }

// Quoted is Text in quotes. Quotes and backslashes of s are escaped.
func Quoted(s string) string {
	return string(append(appendText([]byte{'"'}, s, true), '"'))
}

// maxRunes is the length at which Line cuts a message that a person asked to see. Larger: whole
// member lists fill the screen. Smaller: ordinary events lose their end.
const maxRunes = 1000

// Line is a message for a terminal: its first 1,000 characters in one line, with a question mark
// for each character that cannot be printed.
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
