package php

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"testing"
)

// TestText has values as PHP 8.2 makes texts and numbers of them. What operators make of them
// is tested with the expressions of the package phpfile.
func TestText(t *testing.T) {
	tests := []struct {
		v     Value
		text  string
		int   int64
		float float64
		truth bool
	}{
		{Of(nil), "", 0, 0, false},
		{Of(true), "1", 1, 1, true},
		{Of(false), "", 0, 0, false},
		{Of(int64(-5)), "-5", -5, -5, true},
		{Of(0.1), "0.1", 0, 0.1, true},
		{Of(-1.5), "-1.5", -1, -1.5, true},
		{Of(1e15), "1.0E+15", 1e15, 1e15, true},
		{Of(1e-5), "1.0E-5", 0, 1e-5, true},
		{Of(123456.789), "123456.789", 123456, 123456.789, true},
		{Of(1e19), "1.0E+19", -8446744073709551616, 1e19, true},
		{Of(math.Inf(-1)), "-INF", 0, math.Inf(-1), true},
		{Of("0"), "0", 0, 0, false},
		{Of("00"), "00", 0, 0, true},
		{Of(" 12abc"), " 12abc", 12, 12, true},
		{Of("1e3"), "1e3", 1000, 1000, true},
		{Of(".5"), ".5", 0, 0.5, true},
		{Of("-"), "-", 0, 0, true},
		{Of("99999999999999999999"), "99999999999999999999", math.MaxInt64, 1e20, true},
		{Of([]Value{}), "", 0, 0, false},
		{Of([]Value{Of("a")}), "", 1, 1, true},
		{Lost(errors.New("lost"), 1), "", 0, 0, false},
	}
	for _, test := range tests {
		if got := test.v; got.Text() != test.text || got.Int() != test.int ||
			got.Float() != test.float || got.Truth() != test.truth {
			t.Errorf("%q: got %q, %d, %v, %v", test.text, got.Text(), got.Int(), got.Float(),
				got.Truth())
		}
	}
}

// TestArray has the keys of arrays, and what is found under them.
func TestArray(t *testing.T) {
	var b Builder
	for _, k := range []any{"a", "7", "07", 2.9, true, nil, "-0", "9223372036854775808"} {
		key, ok := KeyOf(Of(k))
		if !ok {
			t.Fatalf("%v is no key", k)
		}
		b.Set(key, Of("first"))
		b.Set(key, key.Value())
	}
	b.Add(Of("next"))
	b.Add(Of([]Value{Of("in")}))
	v := b.Value()
	const want = `{"a":"a","7":7,"07":"07","2":2,"1":1,"":"","-0":"-0",` +
		`"9223372036854775808":"9223372036854775808","8":"next","9":["in"]}`
	if got := string(v.AppendJSON(nil)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := v.Get("9", "0").Text(); got != "in" {
		t.Errorf("got %q", got)
	}
	if v.Get("b").Kind != Null || v.Get("a", "b").Kind != Null || v.Has("b") || !v.Has("8") {
		t.Error("something is found that is not there, or something that is there is not found")
	}
	if _, ok := KeyOf(v); ok {
		t.Error("an array is a key")
	}
	for i := range 100 {
		b.Set(b.Next(), Of(int64(i)))
	}
	if v := b.Value(); v.Get("109").Int() != 99 || v.Get("07").Text() != "07" ||
		len(v.Elements()) != 110 {
		t.Error("a large array has other elements")
	}
	lost := errors.New("lost")
	b.Add(Of([]Value{Of("x"), Lost(lost, 3)}))
	if v := b.Value(); v.Problem() != lost || v.Get("110", "1", "more").Problem() != lost ||
		v.Get("a").Problem() != nil {
		t.Error("what is not known is not told")
	}
}

// TestJSON has texts as JSON, whatever is in them.
func TestJSON(t *testing.T) {
	for in, want := range map[string]string{"a/b\"\\\n\x00\x7f": "a/b\"\\\n\x00\x7f",
		"\xff": "\ufffd", "ö😀": "ö😀"} {
		var got string
		if err := json.Unmarshal(Of(in).AppendJSON(nil), &got); err != nil || got != want {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	for _, x := range []float64{0, -0.5, 1e300, 5e-324, 123456789.25, 1e17} {
		var got float64
		if err := json.Unmarshal(Of(x).AppendJSON(nil), &got); err != nil ||
			!reflect.DeepEqual(got, x) {
			t.Errorf("%v: got %v, %v", x, got, err)
		}
	}
}
