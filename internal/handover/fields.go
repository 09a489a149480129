package handover

import (
	"encoding/binary"

	"reverb/internal/lib/recordlog"
)

// A record is a list of fields. A field is its tag, doubled, with 1 added if bytes follow, and then
// a number, or a length and bytes; all numbers are varints. A field that is 0 or empty is left out.

// addNumber appends a field that is a number.
func addNumber[T ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~int](b []byte, tag byte, n T) []byte {
	if n == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, tag<<1), uint64(n))
}

// addText appends a field that is bytes.
func addText[T ~string | ~[]byte](b []byte, tag byte, s T) []byte {
	if len(s) == 0 {
		return b
	}
	return recordlog.AppendField(append(b, tag<<1|1), []byte(s))
}

// addRecord appends a field that is a record, also one without fields. add appends the record.
func addRecord(b []byte, tag byte, add func(b []byte) []byte) []byte {
	b = append(b, tag<<1|1, 0) // room for a short length
	at := len(b)
	b = add(b)
	var size [binary.MaxVarintLen64]byte
	n := len(b) - at
	k := binary.PutUvarint(size[:], uint64(n))
	b = append(b, size[1:k]...)
	copy(b[at-1+k:], b[at:at+n])
	copy(b[at-1:], size[:k])
	return b
}

// reader reads the fields of a record. After the first that is wrong it is Bad, and there are no
// more.
type reader struct{ recordlog.Fields }

func readerOf(record []byte) reader { return reader{recordlog.Fields{B: record}} }

// field is one field.
type field struct {
	tag   uint64
	n     uint64
	bytes []byte // part of the record; nil: n is the field, or it is empty
}

// text is a copy of the bytes.
func (f field) text() string { return string(f.bytes) }

// next returns the next field; false: there is none.
func (r *reader) next() (f field, ok bool) {
	if len(r.B) == 0 {
		return f, false
	}
	head := r.Number()
	if f.tag = head >> 1; head&1 == 0 {
		f.n = r.Number()
	} else if b := r.Bytes(r.Number()); len(b) > 0 {
		f.bytes = b[:len(b):len(b)]
	}
	return f, !r.Bad
}

// fits is the number of a field that has a smaller type. If it is too large, the record is wrong.
func fits[T ~uint8 | ~uint32](r *reader, f field) T {
	if uint64(T(f.n)) != f.n {
		r.Fail()
	}
	return T(f.n)
}
