// Package jsonraw takes JSON texts apart without changing a byte of their values.
//
// encoding/json ignores the case of keys, replaces surrogates that stand alone, and copies the
// values that it keeps. This package validates a whole text (RFC 8259; nesting is bounded) and
// returns values as parts of it. The caller checks that the text is valid UTF-8.
//
// An escape may name half a surrogate pair ("\ud83d"): RFC 8259 §8.2 allows it, and JSON.stringify
// writes it for a string that was cut inside a character. Such a value is passed on as it is. It
// has no form in UTF-8, so String and Bytes refuse it, and in keys it becomes U+FFFD.
//
// No function retains its arguments. Values handed to callbacks are parts of the argument, and
// their capacity is never cut: a value begins at the capacity of the argument less that of the
// value.
package jsonraw

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth bounds how deep arrays and objects may be nested, the outermost included. It is that of
// PHP. Larger: a text needs more stack. Smaller: texts that PHP reads are refused.
const MaxDepth = 512

// ErrNotObject says that a text is valid JSON, but not an object.
var ErrNotObject = errors.New("not a JSON object")

// ErrNotArray says that a text is valid JSON, but not an array.
var ErrNotArray = errors.New("not a JSON array")

// SyntaxError says at which byte a text stops being JSON.
type SyntaxError struct {
	Offset int
	Reason string
}

func (e *SyntaxError) Error() string {
	return "invalid JSON at byte " + strconv.Itoa(e.Offset) + ": " + e.Reason
}

// Object calls member for each member of the object b, in order, with the key decoded and the value
// as it is. A key that occurs twice is reported twice. If any part of b is invalid, member is not
// called.
func Object(b []byte, member func(key, value []byte)) error {
	body, err := container(b, '{', ErrNotObject)
	if err != nil {
		return err
	}
	s := scanner{b: body, i: 1}
	s.space()
	for s.b[s.i] != '}' {
		from := s.i
		s.value(0)
		key := s.b[from+1 : s.i-1]
		s.space()
		s.i++ // ':'
		s.space()
		from = s.i
		s.value(0)
		name, _ := unescape(key)
		member(name, s.b[from:s.i])
		if s.space(); s.b[s.i] == ',' {
			s.i++
			s.space()
		}
	}
	return nil
}

// Array calls element for each element of the array b. If any part of b is invalid, element is not
// called.
func Array(b []byte, element func(value []byte)) error {
	body, err := container(b, '[', ErrNotArray)
	if err != nil {
		return err
	}
	s := scanner{b: body, i: 1}
	s.space()
	for s.b[s.i] != ']' {
		from := s.i
		s.value(0)
		element(s.b[from:s.i])
		if s.space(); s.b[s.i] == ',' {
			s.i++
			s.space()
		}
	}
	return nil
}

// Check returns a *SyntaxError unless b is one valid JSON text.
func Check(b []byte) error {
	s := scanner{b: b}
	s.space()
	if !s.value(0) {
		return s.err()
	}
	if s.space(); s.i != len(b) {
		s.reason = "more follows"
		return s.err()
	}
	return nil
}

// List calls element for each value of a PHP array that json_encode has written. Such an array
// is an object if its keys are not 0, 1, 2 and so on.
func List(b []byte, element func(value []byte)) error {
	if err := Array(b, element); err != ErrNotArray {
		return err
	}
	return Object(b, func(_, value []byte) { element(value) })
}

// String decodes a JSON string. b is a valid value. ok is false if b is not a string, or holds half
// a surrogate pair.
func String(b []byte) (s string, ok bool) {
	text, ok := Bytes(b)
	return string(text), ok
}

// Bytes is String without a copy if the string has no escapes; then s is a part of b.
func Bytes(b []byte) (s []byte, ok bool) {
	if len(b) < 2 || b[0] != '"' {
		return nil, false
	}
	if s, ok = unescape(b[1 : len(b)-1]); !ok {
		return nil, false
	}
	return s, true
}

// Scalar is the text of a string, a number or true, in the form that PHP gives it. ok is false for
// any other value, and for nil.
func Scalar(value []byte) (s string, ok bool) {
	if s, ok := String(value); ok {
		return s, true
	}
	switch {
	case len(value) == 0, value[0] == '"', value[0] == '[', value[0] == '{', value[0] == 'n',
		value[0] == 'f':
		return "", false
	case value[0] == 't':
		return "1", true
	}
	return string(value), true
}

// YesNo reads true or false, also as a text or a number, as PHP's configurations have them.
func YesNo(value []byte) (yes, ok bool) {
	s, _ := Scalar(value)
	if string(value) == "false" {
		s = "false"
	}
	yes, err := strconv.ParseBool(strings.ToLower(s))
	return yes, err == nil
}

// Fit returns a JSON value for a row of bounded length: value, or a string with its first n bytes
// and three dots if it is longer or is no JSON. Without a value it returns nil.
func Fit(value []byte, n int) []byte {
	switch {
	case len(value) == 0:
		return nil
	case len(value) <= n && Check(value) == nil:
		return value
	}
	return AppendString(nil, strings.ToValidUTF8(string(value[:min(n, len(value))]), "")+"...")
}

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func AppendString[T string | []byte](dst []byte, s T) []byte {
	return append(AppendEscaped(append(dst, '"'), s), '"')
}

// AppendEscaped is AppendString without the quotation marks: a part of a string.
func AppendEscaped[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			var r rune
			var n int
			r, n = utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r != utf8.RuneError || n != 1 {
				i += n
				continue
			}
		}
		dst = append(dst, s[from:i]...)
		i++
		from = i
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, "\uFFFD"...)
		}
	}
	return append(dst, s[from:]...)
}

// container validates b and strips the space around it.
func container(b []byte, open byte, wrong error) ([]byte, error) {
	if err := Check(b); err != nil {
		return nil, err
	}
	s := scanner{b: b}
	s.space()
	if b[s.i] != open {
		return nil, wrong
	}
	return b[s.i:], nil
}

// unescape decodes the text between the quotes of a valid JSON string. Without escapes the result
// is s itself. whole is false if half a surrogate pair became U+FFFD.
func unescape(s []byte) (text []byte, whole bool) {
	for i, c := range s {
		if c == '\\' {
			return appendUnescaped(append(make([]byte, 0, len(s)), s[:i]...), s[i:])
		}
	}
	return s, true
}

func appendUnescaped(dst, s []byte) (text []byte, whole bool) {
	whole = true
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			dst = append(dst, s[i])
			continue
		}
		i++
		switch s[i] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := hex4(s[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				if r = utf16.DecodeRune(r, escaped(s[i+1:])); r == utf8.RuneError {
					whole = false
				} else {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, s[i])
		}
	}
	return dst, whole
}

// escaped is the code unit of the \u escape at the start of s; -1 if s does not start with such an
// escape.
func escaped(s []byte) rune {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	return hex4(s[2:])
}

// hex4 reads four hexadecimal digits, or returns -1.
func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return -1
		}
	}
	return r
}

// scanner walks over one text. After a method has returned false, reason says what is wrong at i.
type scanner struct {
	b      []byte
	i      int
	reason string
}

func (s *scanner) err() error { return &SyntaxError{s.i, s.reason} }

func (s *scanner) fail(reason string) bool {
	if s.reason = reason; s.i >= len(s.b) {
		s.reason = "it ends too early"
	}
	return false
}

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\r' ||
		s.b[s.i] == '\t') {
		s.i++
	}
}

// next is the current byte, or 0 at the end.
func (s *scanner) next() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) value(depth int) bool {
	switch c := s.next(); {
	case c == '{' || c == '[':
		if depth == MaxDepth {
			return s.fail("nested too deep")
		}
		return s.list(c, depth+1)
	case c == '"':
		return s.str()
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	return s.fail("a value is missing here")
}

// list walks over an object or an array.
func (s *scanner) list(open byte, depth int) bool {
	end := open + 2 // '{' and '}', '[' and ']' are two apart
	s.i++
	if s.space(); s.next() == end {
		s.i++
		return true
	}
	for {
		if s.space(); open == '{' {
			if s.next() != '"' {
				return s.fail("a key in quotes is missing here")
			}
			if !s.str() {
				return false
			}
			if s.space(); s.next() != ':' {
				return s.fail("a colon is missing here")
			}
			s.i++
			s.space()
		}
		if !s.value(depth) {
			return false
		}
		s.space()
		switch s.next() {
		case ',':
			s.i++
		case end:
			s.i++
			return true
		default:
			return s.fail("a comma or the end is missing here")
		}
	}
}

func (s *scanner) word(w string) bool {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return s.fail("a value is missing here")
	}
	s.i += len(w)
	return true
}

func (s *scanner) number() bool {
	if s.next() == '-' {
		s.i++
	}
	switch c := s.next(); {
	case c == '0':
		s.i++
	case c >= '1' && c <= '9':
		s.digits()
	default:
		return s.fail("a digit is missing here")
	}
	if s.next() == '.' {
		s.i++
		if !s.digits() {
			return s.fail("a digit is missing here")
		}
	}
	if c := s.next(); c == 'e' || c == 'E' {
		s.i++
		if c := s.next(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return s.fail("a digit is missing here")
		}
	}
	return true
}

func (s *scanner) digits() bool {
	from := s.i
	for c := s.next(); c >= '0' && c <= '9'; c = s.next() {
		s.i++
	}
	return s.i > from
}

func (s *scanner) str() bool {
	s.i++
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return true
		case c == '\\':
			if !s.escape() {
				return false
			}
		case c < 0x20:
			return s.fail("a control character in a string")
		default:
			s.i++
		}
	}
	return s.fail("")
}

func (s *scanner) escape() bool {
	s.i++
	switch s.next() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return true
	case 'u':
		if hex4(s.b[s.i+1:]) < 0 {
			return s.fail("an escape that JSON does not have")
		}
		s.i += 5
		return true
	}
	return s.fail("an escape that JSON does not have")
}
