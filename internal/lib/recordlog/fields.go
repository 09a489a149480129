package recordlog

import "encoding/binary"

// Fields reads the parts of a record, or of a part of one. After the first part that is wrong it is
// Bad, and all are empty.
type Fields struct {
	B   []byte // what is left
	Bad bool
}

// Fail says that the last part made no sense.
func (f *Fields) Fail() { f.B, f.Bad = nil, true }

// Number reads a uvarint.
func (f *Fields) Number() uint64 {
	n, size := binary.Uvarint(f.B)
	if size <= 0 {
		f.Fail()
		return 0
	}
	f.B = f.B[size:]
	return n
}

// Bytes reads n bytes, which stay part of B.
func (f *Fields) Bytes(n uint64) []byte {
	if n > uint64(len(f.B)) {
		f.Fail()
		return nil
	}
	b := f.B[:n]
	f.B = f.B[n:]
	return b
}

// Text reads what AppendField has written.
func (f *Fields) Text() string { return string(f.Bytes(f.Number())) }

// AppendField appends a text with its length.
func AppendField[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
