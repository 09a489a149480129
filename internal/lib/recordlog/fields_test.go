package recordlog

import (
	"encoding/binary"
	"testing"
)

func TestFields(t *testing.T) {
	b := AppendField(binary.AppendUvarint(nil, 300), "text")
	b = append(AppendField(b, []byte{}), 7, 8)
	f := Fields{B: b}
	n, s, none := f.Number(), f.Text(), f.Text()
	if n != 300 || s != "text" || none != "" || f.Bad {
		t.Errorf("%d, %q, %q, %v", n, s, none, f.Bad)
	}
	if got := f.Bytes(2); string(got) != "\a\b" || len(f.B) != 0 || f.Bad {
		t.Errorf("%v, %+v", got, f)
	}
	for cut := range len(b) {
		f = Fields{B: b[:cut]}
		f.Number()
		f.Text()
		f.Text()
		if got := f.Bytes(2); got != nil || !f.Bad || f.B != nil || f.Number() != 0 {
			t.Errorf("cut at %d: %v, %+v", cut, got, f)
		}
	}
}

// FuzzFields checks that no record makes Fields read what is not there.
func FuzzFields(f *testing.F) {
	f.Add([]byte{1, 65, 0x80, 1, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, size := Fields{B: b}, 0
		for !in.Bad && len(in.B) > 0 {
			left := len(in.B)
			size += len(in.Text())
			if !in.Bad && len(in.B) >= left {
				t.Fatalf("%d bytes were left, and still are", left)
			}
		}
		if size > len(b) {
			t.Fatalf("%d bytes of %d", size, len(b))
		}
	})
}
