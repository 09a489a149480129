package cluster

import (
	"reflect"
	"slices"
	"testing"
)

var envelopes = []envelope{
	{kind: envelopeEvent, node: 1, number: 2, except: 3, payload: `{"event":"e"}`},
	{kind: envelopeEvent, remember: true, again: true, node: 1<<63 + 5, number: 1 << 62},
	{kind: envelopeAdded, user: "7", info: `{"name":"a:b"}`},
	{kind: envelopeAdded, user: "0"},
	{kind: envelopeRemoved, user: "u:1"},
	{kind: envelopeMarker, token: 9},
	{kind: envelopeSnapshot, token: 1},
	{kind: envelopeSnapshot, token: 1, payload: "cached:", life: 1_800_000, members: []member{{"1", "", 4}, {"2", `{"a":1}`, 5}}},
	{kind: envelopeTerminate, app: "app", user: "7"},
	{kind: envelopeReady, id: "0123456789abcdef-1"},
}

func TestEnvelopes(t *testing.T) {
	for _, e := range envelopes {
		b := string(appendEnvelope(nil, &e))
		if got, err := parseEnvelope(b); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%q: got %+v, %v, want %+v", b, got, err, e)
		}
		for n := range len(b) {
			if got, err := parseEnvelope(b[:n]); err != errEnvelope {
				t.Errorf("%q, cut at %d: got %+v, %v", b, n, got, err)
			}
		}
		if _, err := parseEnvelope("\x02" + b[1:]); err != errEnvelopeVersion {
			t.Errorf("version 2: got %v", err)
		}
		if _, err := parseEnvelope("\x01z" + b[2:]); err != errEnvelopeVersion {
			t.Errorf("a kind to come: got %v", err)
		}
		if _, err := parseEnvelope(b + "x"); err != errEnvelope {
			t.Errorf("%q and more: got %v", b, err)
		}
	}
}

// TestStrangeMember reads a snapshot with a member that no node has written.
func TestStrangeMember(t *testing.T) {
	e := envelope{kind: envelopeSnapshot, token: 1, members: []member{{"1", "{}", 4}}}
	body := appendEnvelope(nil, &e)[10:]
	for _, strange := range []string{"bar", "", "x:{}", "5"} {
		b := appendNetstring(appendNetstring(slices.Clone(body), "foo"), strange)
		sum := envelopeSum(b)
		if got, err := parseEnvelope("\x01s" + string(sum[:]) + string(b)); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%q: got %+v, %v, want %+v", strange, got, err, e)
		}
	}
}

// FuzzEnvelope holds that what is read is written again as it was.
func FuzzEnvelope(f *testing.F) {
	for _, e := range envelopes {
		b := appendEnvelope(nil, &e)
		f.Add(string(b), string(b[10:]), b[1])
	}
	f.Fuzz(func(t *testing.T, whole, body string, kind byte) {
		sum := envelopeSum([]byte(body))
		for _, b := range []string{whole, "\x01" + string(kind) + string(sum[:]) + body} { // a right sum leads further in
			if e, err := parseEnvelope(b); err == nil {
				again, err := parseEnvelope(string(appendEnvelope(nil, &e)))
				if err != nil || !reflect.DeepEqual(again, e) {
					t.Fatalf("%q: got %+v, %v, want %+v", b, again, err, e)
				}
			}
		}
	})
}
