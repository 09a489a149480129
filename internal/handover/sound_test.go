package handover

import "testing"

// A frame that no client can have sent is refused: it would harm the loop that goes on with it.
func TestSound(t *testing.T) {
	abc := []byte("abc")
	for i, v := range []Partial{
		{},
		{Head: []byte{0x81, 0xfe, 0, 1, 2, 3, 4}},
		{Message: opText, Body: abc},
		{InFrame: true, Op: opText, Message: opText, Length: 10, Left: 7, Body: abc},
		{InFrame: true, Message: opBinary, Length: 8, Left: 7, Body: abc},
		{InFrame: true, Op: 9, Fin: true, Length: 125, Left: 122, Ctl: abc, Message: 1, Body: abc},
	} {
		if !v.sound(10) {
			t.Errorf("%d: %+v is refused", i, v)
		}
	}
	for i, v := range []Partial{
		{Head: []byte{0x81, 0x85, 1, 2, 3, 4}},
		{Head: []byte{0x81, 0x05}},
		{Head: []byte{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4}},
		{Message: 3},
		{Body: abc},
		{Message: opText, Body: make([]byte, 11)},
		{InFrame: true, Head: []byte{0x81}},
		{InFrame: true, Op: opText, Length: 10, Left: 10},
		{InFrame: true, Op: opText, Message: opBinary, Length: 10, Left: 10},
		{InFrame: true, Op: opText, Message: opText, Length: 10, Left: 8, Body: abc},
		{InFrame: true, Op: opText, Message: opText, Length: 11, Left: 8, Body: abc},
		{InFrame: true, Message: opText, Length: 10, Left: 6, Body: abc},
		{InFrame: true, Message: opText, Length: 9, Left: 8, Body: abc},
		{InFrame: true, Message: opText, Length: 1, Left: 2, Body: abc},
		{InFrame: true, Message: opText, Length: 1<<64 - 1, Left: 1<<64 - 2, Body: abc},
		{InFrame: true, Op: 3, Message: opText, Length: 5, Left: 5},
		{InFrame: true, Op: 11, Fin: true, Length: 5, Left: 5},
		{InFrame: true, Op: 9, Length: 3, Ctl: abc},
		{InFrame: true, Op: 9, Fin: true, Length: 5, Left: 1, Ctl: abc},
		{InFrame: true, Op: 9, Fin: true, Length: 126, Left: 123, Ctl: abc},
		{Ctl: make([]byte, 126)},
	} {
		if v.sound(10) {
			t.Errorf("%d: %+v is taken", i, v)
		}
	}
}
