// Package utf8check tells whether text that arrives in pieces is valid UTF-8 (RFC 3629), and says
// no at the first byte after which no continuation is valid.
package utf8check

import "unicode/utf8"

// Checker holds the state of a text so far. The zero Checker is that of an empty text. A Checker
// that has said no must be reset to the zero Checker before further use.
type Checker struct {
	state state
}

// state says which bytes may come next inside a sequence.
type state uint8

const (
	start   state = iota // between characters
	tail1                // one byte 80..BF to come
	tail2                // two
	tail3                // three
	afterE0              // A0..BF, then one: shorter forms are overlong
	afterED              // 80..9F, then one: the rest are surrogates
	afterF0              // 90..BF, then two: shorter forms are overlong
	afterF4              // 80..8F, then two: the rest are above U+10FFFF
)

// Check adds b to the text. It returns false if the text cannot become valid, whatever follows. It
// does not retain b.
func (c *Checker) Check(b []byte) bool {
	for len(b) > 0 && c.state != start {
		if !c.step(b[0]) {
			return false
		}
		b = b[1:]
	}
	// The standard library judges all whole characters at once. The state machine judges only a
	// sequence that is cut at the end.
	whole := len(b) - incompleteTail(b)
	if !utf8.Valid(b[:whole]) {
		return false
	}
	for _, x := range b[whole:] {
		if !c.step(x) {
			return false
		}
	}
	return true
}

// Complete reports whether the text so far ends between two characters.
func (c *Checker) Complete() bool { return c.state == start }

// State is the state as a number, for Resume.
func (c *Checker) State() uint8 { return uint8(c.state) }

// Resume returns a Checker in a state that another one had. ok is false if there is no such state.
func Resume(s uint8) (c Checker, ok bool) { return Checker{state(s)}, state(s) <= afterF4 }

// incompleteTail returns how many bytes at the end of b may belong to a
// character that goes on after b: 0 to 3.
func incompleteTail(b []byte) int {
	for n := 1; n <= 3 && n <= len(b); n++ {
		x := b[len(b)-n]
		switch {
		case x < 0x80:
			return 0
		case x < 0xC0: // a continuation byte: its start is further left
		case x >= 0xF0 && n < 4, x >= 0xE0 && n < 3, n < 2:
			return n
		default:
			return 0
		}
	}
	return 0
}

// step takes the next byte. It is table 3-7 of the Unicode standard as a state machine.
func (c *Checker) step(x byte) bool {
	low, high, next := byte(0x80), byte(0xBF), start
	switch c.state {
	case start:
		switch {
		case x < 0x80:
			return true
		case x >= 0xC2 && x <= 0xDF:
			c.state = tail1
		case x == 0xE0:
			c.state = afterE0
		case x == 0xED:
			c.state = afterED
		case x >= 0xE1 && x <= 0xEF:
			c.state = tail2
		case x == 0xF0:
			c.state = afterF0
		case x >= 0xF1 && x <= 0xF3:
			c.state = tail3
		case x == 0xF4:
			c.state = afterF4
		default:
			return false
		}
		return true
	case tail2:
		next = tail1
	case tail3:
		next = tail2
	case afterE0:
		low, next = 0xA0, tail1
	case afterED:
		high, next = 0x9F, tail1
	case afterF0:
		low, next = 0x90, tail2
	case afterF4:
		high, next = 0x8F, tail2
	}
	if x < low || x > high {
		return false
	}
	c.state = next
	return true
}
