package handover

import "encoding/binary"

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
	return append(binary.AppendUvarint(append(b, tag<<1|1), uint64(len(s))), s...)
}

// addRecord appends a field that is a record, also one without fields. add appends the record.
func addRecord(b []byte, tag byte, add func(b []byte) []byte) []byte {
	inner := add(nil)
	return append(binary.AppendUvarint(append(b, tag<<1|1), uint64(len(inner))), inner...)
}

// reader reads the fields of a record. After the first that is wrong, bad is set and there are no
// more.
type reader struct {
	b   []byte
	bad bool
}

// field is one field.
type field struct {
	tag   byte
	n     uint64
	bytes []byte // part of the record; nil: n is the field, or it is empty
}

// text is a copy of the bytes.
func (f field) text() string { return string(f.bytes) }

// next returns the next field; false: there is none.
func (r *reader) next() (f field, ok bool) {
	if len(r.b) == 0 {
		return f, false
	}
	f.tag = r.b[0] >> 1
	n, size := binary.Uvarint(r.b[1:])
	if size <= 0 {
		return f, r.fail()
	}
	rest := r.b[1+size:]
	if r.b[0]&1 == 0 {
		f.n, r.b = n, rest
		return f, true
	}
	if n > uint64(len(rest)) {
		return f, r.fail()
	}
	if r.b = rest[n:]; n > 0 {
		f.bytes = rest[:n:n]
	}
	return f, true
}

func (r *reader) fail() bool {
	r.b, r.bad = nil, true
	return false
}
