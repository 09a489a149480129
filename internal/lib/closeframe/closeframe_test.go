package closeframe

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCodes(t *testing.T) {
	valid := func(c int) bool {
		return c >= 1000 && c <= 1014 && (c < 1004 || c > 1006) || c >= 3000 && c < 5000
	}
	for c := range 1 << 16 {
		if Valid(uint16(c)) != valid(c) {
			t.Errorf("%d: got %v", c, !valid(c))
		}
		code, reason, err := Parse(Append(nil, uint16(c), "é"))
		if (err == nil) != valid(c) || err == nil && (int(code) != c || string(reason) != "é") {
			t.Errorf("%d: got %d, %q, %v", c, code, reason, err)
		}
	}
}

func TestPayloads(t *testing.T) {
	for _, tt := range []struct {
		payload string
		code    uint16
		reason  string
		err     error
	}{
		{"", NoCode, "", nil},
		{"\x03", 0, "", ErrPayload},
		{"\x03\xe8", 1000, "", nil},
		{"\x03\xe8bye", 1000, "bye", nil},
		{"\x03\xed", 0, "", ErrPayload},
		{"\x03\xe8\xff", 0, "", ErrReason},
	} {
		code, reason, err := Parse([]byte(tt.payload))
		if code != tt.code || string(reason) != tt.reason || err != tt.err {
			t.Errorf("%q: got %d, %q, %v", tt.payload, code, reason, err)
		}
	}
}

// A reason that is too long is cut between two characters.
func TestLongReason(t *testing.T) {
	for reason, want := range map[string]int{
		strings.Repeat("é", 100): 2 + 122, strings.Repeat("x", 124): 2 + 123,
		strings.Repeat("x", 123): 2 + 123, strings.Repeat("\x80", 200): 2,
	} {
		b := Append([]byte{}, 1000, reason)
		if len(b) != want || !utf8.Valid(b[2:]) {
			t.Errorf("%q: got %d bytes, valid UTF-8: %v", reason, len(b), utf8.Valid(b[2:]))
		}
	}
}

// Whatever Parse takes, Append writes again.
func FuzzParse(f *testing.F) {
	f.Add([]byte("\x03\xe8bye"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, payload []byte) {
		code, reason, err := Parse(payload)
		if err != nil || code == NoCode || len(reason) > maxReasonBytes {
			return
		}
		if got := Append(nil, code, string(reason)); string(got) != string(payload) {
			t.Errorf("got %q, want %q", got, payload)
		}
	})
}
