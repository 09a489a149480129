package envelopes

import (
	"reflect"
	"slices"
	"testing"
)

var envelopes = []Envelope{
	{Kind: Event, Node: 1, Number: 2, Except: 3, Payload: `{"event":"e"}`},
	{Kind: Event, Remember: true, Again: true, Node: 1<<63 + 5, Number: MaxNumber},
	{Kind: Added, User: "7", Info: `{"name":"a:b"}`},
	{Kind: Added, User: "0"},
	{Kind: Removed, User: "u:1"},
	{Kind: Marker, Token: 9},
	{Kind: Snapshot, Token: 1},
	{Kind: Snapshot, Token: 1, Payload: "cached:", Life: 1_800_000,
		Members: []*Member{{"1", "", 4}, {"2", `{"a":1}`, 5}}},
	{Kind: Terminate, App: "app", User: "7"},
	{Kind: Ready, ID: "0123456789abcdef-1"},
	{Kind: Total, Total: 107},
	{Kind: Letter, ID: "0123456789abcdef-1", Payload: "a text:\n"},
	{Kind: Letter},
	{Kind: Work, ID: "p:hooks:a:00:events", Life: 3000},
}

func TestEnvelopes(t *testing.T) {
	for _, e := range envelopes {
		b := e.Encode()
		if got, err := Parse(b); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%q: got %+v, %v, want %+v", b, got, err, e)
		}
		for n := range len(b) {
			if got, err := Parse(b[:n]); err != ErrMalformed {
				t.Errorf("%q, cut at %d: got %+v, %v", b, n, got, err)
			}
		}
		if _, err := Parse("\x02" + b[1:]); err != ErrVersion {
			t.Errorf("version 2: got %v", err)
		}
		if _, err := Parse("\x01z" + b[2:]); err != ErrVersion {
			t.Errorf("a kind to come: got %v", err)
		}
		if _, err := Parse(b + "x"); err != ErrMalformed {
			t.Errorf("%q and more: got %v", b, err)
		}
	}
}

// TestStrangeMember reads a snapshot with a member that no node has written.
func TestStrangeMember(t *testing.T) {
	e := Envelope{Kind: Snapshot, Token: 1, Members: []*Member{{"1", "{}", 4}}}
	body := []byte(e.Encode()[headLength:])
	for _, strange := range []string{"bar", "", "x:{}", "5"} {
		b := appendText(appendText(slices.Clone(body), "foo"), strange)
		sum := sumOf(b)
		if got, err := Parse("\x01s" + string(sum[:]) + string(b)); err != nil ||
			!reflect.DeepEqual(got, e) {
			t.Errorf("%q: got %+v, %v, want %+v", strange, got, err, e)
		}
	}
}

// TestForged reads envelopes that no node writes.
func TestForged(t *testing.T) {
	for name, e := range map[string]Envelope{
		"a number that no node reaches": {Kind: Event, Number: MaxNumber + 1},
		"a payload that is not text":    {Kind: Event, Payload: "\xff"},
		"info that is not JSON":         {Kind: Added, User: "1", Info: "{"},
		"info that is not text":         {Kind: Added, User: "1", Info: "\"\xff\""},
		"nobody came":                   {Kind: Added},
		"nobody went":                   {Kind: Removed},
		"a user that is not text":       {Kind: Removed, User: "\xff"},
	} {
		if got, err := Parse(e.Encode()); err != ErrMalformed {
			t.Errorf("%s: got %+v and %v", name, got, err)
		}
	}
	// What a script has found in Redis costs no more than itself.
	e := Envelope{Kind: Snapshot, Token: 1, Payload: "\xff", Life: 5, Members: []*Member{
		{"1", "{}", 4}, {"", "{}", 5}, {"2", "{", 6}, {"\xff", "", 7}}}
	want := Envelope{Kind: Snapshot, Token: 1, Life: 5, Members: e.Members[:1]}
	if got, err := Parse(e.Encode()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v and %v, want %+v", got, err, want)
	}
}

// FuzzEnvelope checks that an envelope that was read is written again as it was.
func FuzzEnvelope(f *testing.F) {
	for _, e := range envelopes {
		b := e.Encode()
		f.Add(b, b[headLength:], b[1])
	}
	f.Fuzz(func(t *testing.T, whole, body string, kind byte) {
		sum := sumOf([]byte(body))
		for _, b := range []string{whole, "\x01" + string(kind) + string(sum[:]) + body} {
			// a right sum leads further in
			if e, err := Parse(b); err == nil {
				again, err := Parse(e.Encode())
				if err != nil || !reflect.DeepEqual(again, e) {
					t.Fatalf("%q: got %+v, %v, want %+v", b, again, err, e)
				}
			}
		}
	})
}
