// Package numbers has lists of numbers for owners of which there are very many. A number takes one
// to five bytes: the difference from the number before it, signed, as a varint (Protocol Buffers,
// Encoding, "Signed Integers"). Numbers of things that were made one after the other mostly take
// two.
package numbers

import (
	"encoding/binary"
	"slices"
)

// List is a list. The zero List is empty. A List must not be copied and then appended to.
type List struct {
	b    []byte
	n    uint32
	last uint32 // the last number
}

// Of makes a list that has no room for more numbers.
func Of(all ...uint32) (l List) {
	var short [256]byte
	b := short[:0]
	for _, v := range all {
		b = binary.AppendVarint(b, int64(v)-int64(l.last))
		l.last = v
	}
	l.n, l.b = uint32(len(all)), slices.Clone(b)
	return l
}

// Len is how many numbers are in the list.
func (l *List) Len() int { return int(l.n) }

// Size is how many bytes the list has taken from the heap.
func (l *List) Size() int { return cap(l.b) }

// Append appends a number. A list that is full grows by a quarter.
func (l *List) Append(v uint32) {
	if n := len(l.b); cap(l.b)-n < binary.MaxVarintLen32 {
		// Grow takes the whole of a size class of the heap; from l.b it would take twice as much
		l.b = append(slices.Grow([]byte(nil), n+n/4+binary.MaxVarintLen32), l.b...)
	}
	l.b = binary.AppendVarint(l.b, int64(v)-int64(l.last))
	l.last = v
	l.n++
}

// Cursor is a place in a list. The zero Cursor is before the first number. It stays valid while
// numbers are appended.
type Cursor struct {
	at   int
	last uint32
}

// Next moves c behind the next number, and returns the number. ok is false at the end of the list.
func (l *List) Next(c *Cursor) (v uint32, ok bool) {
	if c.at >= len(l.b) {
		return 0, false
	}
	d, n := binary.Varint(l.b[c.at:])
	c.at += n
	c.last += uint32(d)
	return c.last, true
}

// All calls yield for every number, in order, until yield returns false. yield must not change the
// list.
func (l *List) All(yield func(v uint32) bool) {
	var c Cursor
	for v, ok := l.Next(&c); ok && yield(v); v, ok = l.Next(&c) {
	}
}
