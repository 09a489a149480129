// Package show makes text of strangers safe to show in one line of a log, an error or an answer.
// The text may be anything that a peer can send.
//
// It owns the rules for what a person sees. It keeps nothing, and it does not hide secrets.
package show

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
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

// JSON is JSON for one line of a terminal. Inside a string, a character that cannot be printed
// becomes an escape, which means the same. Outside of strings the only such characters are white
// space; they become spaces.
func JSON(s string) string {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b = append(b, ' ')
		case strconv.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return string(b)
}

// Duration is a duration to the second, the minute or the hour, as long as it is.
func Duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d/time.Second%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d/time.Minute%60)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d/time.Hour%24)
}

// Bytes is a number of bytes; a dash stands for a negative one, which is not known.
func Bytes(x float64) string {
	units, i := []string{"B", "KiB", "MiB", "GiB", "TiB"}, 0
	if x < 0 {
		return "-"
	}
	for x >= 1024 && i < len(units)-1 {
		x, i = x/1024, i+1
	}
	if i == 0 || x >= 100 {
		return fmt.Sprintf("%.0f %s", x, units[i])
	}
	return fmt.Sprintf("%.1f %s", x, units[i])
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

// Count is a number of things, such as 1 connection or 2 connections.
func Count(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.FormatInt(n, 10) + " " + thing
}

// Lag writes a short time in seconds, to 10 µs.
func Lag(seconds float64) string {
	return time.Duration(seconds * 1e9).Round(10 * time.Microsecond).String()
}

// InOneLine joins errors in one line; errors.Join needs a line for each.
func InOneLine(problems []error) error {
	texts := make([]string, len(problems))
	for i, err := range problems {
		texts[i] = err.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}
