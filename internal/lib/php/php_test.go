package php

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"testing"
)

// TestText has the texts and numbers that PHP 8.2 makes of values.
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

// TestCompute has the results of operators in PHP 8.2. The package phpfile has more, in the
// expressions of its tests.
func TestCompute(t *testing.T) {
	list := func(values ...any) Value {
		var b Builder
		for _, v := range values {
			b.Add(Of(v))
		}
		return b.Value()
	}
	one, two, three := int64(1), int64(2), int64(3)
	least, most := int64(math.MinInt64), int64(math.MaxInt64)
	for _, test := range []struct {
		a    any
		name string
		b    any
		want string // as JSON; or the reason why there is no result
	}{
		{"a", ".", 1.0, `"a1"`}, {"a", ".", list(), "an array"},
		{one, "===", 1.0, "false"}, {one, "!==", "1", "true"}, {one, "===", one, "true"},
		{list(one), "===", list(one), "true"}, {list(one), "===", list(1.0), "false"},
		{list(one), "===", list(), "false"}, {true, "xor", "0", "true"},

		{"1", "==", "01", "true"}, {"10", "==", "1e1", "true"}, {"abc", "==", int64(0), "false"},
		{nil, "==", "", "true"}, {nil, "<", "a", "true"}, {"a", ">", nil, "true"},
		{nil, "==", false, "true"}, {"0", "==", false, "true"}, {list(), "==", false, "true"},
		{"abc", "<", "abd", "true"}, {"5", "<=", int64(5), "true"}, {int64(5), ">=", "5", "true"},
		{"5x", ">", int64(5), "true"}, {1.5, "<", "a", "true"}, {one, "<=>", two, "-1"},
		{two, "<=>", 1.5, "1"}, {1.5, "<=>", two, "-1"}, {two, "<=>", one, "1"},
		{math.NaN(), "==", math.NaN(), "false"}, {math.NaN(), "<>", one, "true"},
		{math.NaN(), "<=>", one, "1"}, {"1e999", "==", "2e999", "false"},
		{list(one, two), "==", list(1.0, "2"), "true"}, {list(one), "!=", list(two), "true"},
		{list(one), "==", list(one, two), "false"}, {list(one), "==", one, "false"},
		{list(one), "!=", "Array", "true"}, {list(one), "<", list(two), "arrays"},
		{list(one), "<", one, "an array and something else"},

		{int64(6), "|", one, "7"}, {int64(6), "&", "3", "2"}, {int64(6), "^", three, "5"},
		{one, "<<", three, "8"}, {int64(-8), ">>", one, "-4"}, {one, "<<", int64(64), "0"},
		{one, "<<", int64(-1), "a negative number of bits"},
		{"1", "|", "2", "what is not a whole number"},
		{1.5, "|", one, "what is not a whole number"},

		{one, "+", two, "3"}, {"1", "+", " 2 ", "3"}, {nil, "+", true, "1"}, {one, "+", 0.5, "1.5"},
		{most, "+", one, "9.223372036854776e+18"}, {one, "-", two, "-1"}, {one, "-", 0.5, "0.5"},
		{least, "-", one, "-9.223372036854776e+18"}, {two, "*", three, "6"},
		{two, "*", 1.5, "3"},
		{int64(0), "*", least, "0"}, {least, "*", int64(-1), "9.223372036854776e+18"},
		{int64(6), "/", three, "2"}, {three, "/", two, "1.5"},
		{least, "/", int64(-1), "9.223372036854776e+18"}, {one, "/", 0.0, "0 to divide by"},
		{int64(-7), "%", three, "-1"}, {least, "%", int64(-1), "0"},
		{one, "%", 0.5, "0 to divide by"},
		{two, "**", int64(10), "1024"}, {two, "**", int64(-1), "0.5"},
		{int64(-1), "**", most, "-1"},
		{int64(-1), "**", most - 1, "1"}, {one, "**", most, "1"},
		{two, "**", int64(63), "9.223372036854776e+18"},
		{"1x", "+", one, "what is not a number"}, {list(), "-", one, "what is not a number"},
		{list("a", "b"), "+", list("c", "d", "e"), `["a","b","e"]`},
	} {
		of := func(x any) Value {
			if v, ok := x.(Value); ok {
				return v
			}
			return Of(x)
		}
		v, got := Compute(test.name, of(test.a), of(test.b))
		if got == "" {
			got = string(v.AppendJSON(nil))
		}
		if got != test.want {
			t.Errorf("%v %s %v: got %s, want %s", test.a, test.name, test.b, got, test.want)
		}
	}
}

// TestCast has casts by their names, and the results of PHP 8.2.
func TestCast(t *testing.T) {
	list := Of([]Value{Of("a")})
	for _, test := range []struct {
		name string
		v    Value
		want string // as JSON; or the reason why there is no result
	}{
		{"int", Of("12abc"), "12"}, {"integer", Of(-1.9), "-1"}, {"bool", Of("0"), "false"},
		{"boolean", list, "true"}, {"float", Of("1.5e1x"), "15"}, {"double", Of(true), "1"},
		{"string", Of(0.1), `"0.1"`}, {"binary", Of(false), `""`},
		{"string", list, "a text of an array"},
		{"array", list, `["a"]`}, {"array", Of(nil), "[]"}, {"array", Of("b"), `["b"]`},
		{"object", list, "an object, which is not known here"},
	} {
		v, got := Cast(test.name, test.v)
		if got == "" {
			got = string(v.AppendJSON(nil))
		}
		if !IsCast(test.name) || got != test.want {
			t.Errorf("(%s): got %s, want %s", test.name, got, test.want)
		}
	}
	if IsCast("unset") {
		t.Error("(unset) is a cast; PHP 8 has none")
	}
}

// TestElements has the ways to the elements of an array, and other values, which have none.
func TestElements(t *testing.T) {
	v := Of([]Value{Of("a"), Of("bc")})
	var got []string
	v.Each(func(key string, element Value) { got = append(got, key, element.Text()) })
	Of("no array").Each(func(string, Value) { t.Error("a text has elements") })
	if want := []string{"0", "a", "1", "bc"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	last := Key{n: 1, isInt: true}
	if e := v.At(last); e.Size() != 2 || e.TypeName() != "a text" {
		t.Errorf("got %s of %d bytes", e.TypeName(), e.Size())
	}
	if e := Of("no array").At(last); e.Kind != Null || e.TypeName() != "null" {
		t.Errorf("a text has the element %s", e.TypeName())
	}
	if Of("no array").Elements() != nil {
		t.Error("a text has elements")
	}
}
