// Package php has the values of PHP: their texts, numbers and truth, their order, the results of
// operators, and the JSON of json_encode. A value never changes. The package knows no objects, no
// references and no resources. An Unknown value stands for an expression that nobody could compute,
// and says why.
package php

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind is the type of a value.
type Kind uint8

const (
	Null Kind = iota
	Bool
	Int
	Float
	String
	Array
	Unknown // nobody could compute it; Problem says why
)

// Value is one value of PHP. It never changes.
type Value struct {
	Kind Kind
	Line int // where its expression begins, from 1; 0: the value stands in no file
	n    int64
	f    float64
	s    string
	a    *array
	err  error
}

// Of makes a value of Go's nil, bool, int64, float64 or string, or an array with the keys
// 0, 1, 2 and so on of []Value.
func Of(x any) Value {
	switch x := x.(type) {
	case bool:
		v := Value{Kind: Bool}
		if x {
			v.n = 1
		}
		return v
	case int64:
		return Value{Kind: Int, n: x}
	case float64:
		return Value{Kind: Float, f: x}
	case string:
		return Value{Kind: String, s: x}
	case []Value:
		var b Builder
		for _, v := range x {
			b.Add(v)
		}
		return b.Value()
	case nil:
		return Value{}
	}
	panic("internal error: no value of PHP is made of this type")
}

// Lost makes an Unknown value. err says why it is not known.
func Lost(err error, line int) Value { return Value{Kind: Unknown, Line: line, err: err} }

// Get follows the keys into nested arrays. The result is Null if a key is missing, and Unknown if a
// value on the way is Unknown.
func (v Value) Get(keys ...string) Value {
	for _, name := range keys {
		if v.Kind != Array {
			if v.Kind != Unknown {
				v = Value{Line: v.Line}
			}
			return v
		}
		v = v.a.get(stringKey(name))
	}
	return v
}

// Has says whether an array has a key.
func (v Value) Has(name string) bool {
	return v.Kind == Array && v.a.find(stringKey(name)) >= 0
}

// Each calls f for every element of an array, in order. Other values have no elements.
func (v Value) Each(f func(key string, element Value)) {
	if v.Kind == Array {
		for _, e := range v.a.entries {
			f(e.Key.String(), e.Value)
		}
	}
}

// Elements are the elements of an array, in order; nil for another value. Callers must not change
// them.
func (v Value) Elements() []Element {
	if v.Kind != Array {
		return nil
	}
	return v.a.entries
}

// Size is the length of a text in bytes; 0 for another value.
func (v Value) Size() int { return len(v.s) }

// At is the element of an array with a key; Null if there is none.
func (v Value) At(k Key) Value {
	if v.Kind != Array {
		return Value{}
	}
	return v.a.get(k)
}

// Problem says why the value, or the first Unknown value in it, is not known; nil if all is known.
func (v Value) Problem() error {
	switch v.Kind {
	case Unknown:
		return v.err
	case Array:
		return v.a.err
	}
	return nil
}

// Truth is (bool) of the value. An Unknown value is false.
func (v Value) Truth() bool {
	switch v.Kind {
	case Bool, Int:
		return v.n != 0
	case Float:
		return v.f != 0
	case String:
		return v.s != "" && v.s != "0"
	case Array:
		return len(v.a.entries) > 0
	}
	return false
}

// Text is (string) of the value. It is empty for an array and for an Unknown value.
func (v Value) Text() string {
	switch v.Kind {
	case Bool:
		if v.n == 0 {
			return ""
		}
		return "1"
	case Int:
		return strconv.FormatInt(v.n, 10)
	case Float:
		return floatText(v.f, 14)
	case String:
		return v.s
	}
	return ""
}

// floatText is the text that PHP writes for a float with so many digits. With -1 they are as many
// as the float needs.
func floatText(f float64, digits int) string {
	switch {
	case math.IsNaN(f):
		return "NAN"
	case math.IsInf(f, 1):
		return "INF"
	case math.IsInf(f, -1):
		return "-INF"
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', max(digits-1, -1), 64), "e")
	power, _ := strconv.Atoi(exponent)
	if strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	limit := digits
	if digits < 0 {
		limit = 17
	}
	if power < -4 || power >= limit {
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		sign := "+"
		if power < 0 {
			sign = ""
		}
		return mantissa + "E" + sign + strconv.Itoa(power)
	}
	if digits < 0 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	figures := len(strings.Replace(strings.TrimPrefix(mantissa, "-"), ".", "", 1))
	return strconv.FormatFloat(f, 'f', max(figures-1-power, 0), 64)
}

// TypeName is the type of the value, for errors.
func (v Value) TypeName() string {
	return [...]string{"null", "a truth value", "a number", "a number", "a text", "an array",
		"something that is not known"}[v.Kind]
}

// AppendJSON appends the JSON that PHP's json_encode writes, except that slashes have no backslash.
// An array with the keys 0, 1, 2 and so on is a list. Bytes that are not UTF-8 become U+FFFD.
// Unknown values, NAN and INF become null.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.Kind {
	case Bool:
		return strconv.AppendBool(b, v.n != 0)
	case Int:
		return strconv.AppendInt(b, v.n, 10)
	case Float:
		if math.IsNaN(v.f) || math.IsInf(v.f, 0) {
			return append(b, "null"...)
		}
		return append(b, strings.ToLower(floatText(v.f, -1))...)
	case String:
		return appendJSONText(b, v.s)
	case Array:
		return v.a.appendJSON(b)
	}
	return append(b, "null"...)
}

const hexDigits = "0123456789abcdef"

func appendJSONText(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[r>>4], hexDigits[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// Key is the key of an element: a whole number, or a text. A text that looks like a whole number is
// the number.
type Key struct {
	s     string
	n     int64
	isInt bool
}

// Value is the key as a value.
func (k Key) Value() Value {
	if k.isInt {
		return Of(k.n)
	}
	return Of(k.s)
}

// String is the key as a text.
func (k Key) String() string {
	if k.isInt {
		return strconv.FormatInt(k.n, 10)
	}
	return k.s
}

// stringKey turns a text into a key: "5" becomes 5, "05" stays a text.
func stringKey(s string) Key {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && strconv.FormatInt(n, 10) == s {
		return Key{n: n, isInt: true}
	}
	return Key{s: s}
}

// KeyOf turns a value into a key. ok is false for arrays and Unknown values, which cannot be keys.
func KeyOf(v Value) (k Key, ok bool) {
	switch v.Kind {
	case Null:
		return Key{}, true
	case Bool, Int:
		return Key{n: v.n, isInt: true}, true
	case Float:
		return Key{n: floatInt(v.f), isInt: true}, true
	case String:
		return stringKey(v.s), true
	}
	return k, false
}

// array is an array of PHP: elements in order, each with a key.
type array struct {
	entries []Element
	index   map[Key]int // into entries; nil while there are few
	next    int64       // the key of the next element without one
	numbers bool        // one of the keys is a number
	err     error       // the Problem of the first element that has one
}

// Element is an element of an array.
type Element struct {
	Key   Key
	Value Value
}

// Builder makes an array. The zero Builder has no elements.
type Builder struct{ a array }

// Add adds an element without a key of its own.
func (b *Builder) Add(v Value) { b.a.set(b.a.nextKey(), v) }

// Next is the key that Add gives to an element.
func (b *Builder) Next() Key { return b.a.nextKey() }

// Set sets an element. An element that exists keeps its place.
func (b *Builder) Set(k Key, v Value) { b.a.set(k, v) }

// Value is the array. Callers must not add anything afterwards.
func (b *Builder) Value() Value { return Value{Kind: Array, a: &b.a} }

// nextKey is the key of the next element without one: one more than the largest.
func (a *array) nextKey() Key { return Key{n: a.next, isInt: true} }

// find returns the index of an element, or -1.
func (a *array) find(k Key) int {
	if a.index != nil {
		if i, ok := a.index[k]; ok {
			return i
		}
		return -1
	}
	for i := range a.entries {
		if a.entries[i].Key == k {
			return i
		}
	}
	return -1
}

func (a *array) get(k Key) Value {
	if i := a.find(k); i >= 0 {
		return a.entries[i].Value
	}
	return Value{}
}

// set sets an element. An element that exists keeps its place.
func (a *array) set(k Key, v Value) {
	if err := v.Problem(); a.err == nil {
		a.err = err
	}
	if i := a.find(k); i >= 0 {
		a.entries[i].Value = v
		return
	}
	a.entries = append(a.entries, Element{k, v})
	if a.index != nil {
		a.index[k] = len(a.entries) - 1
	} else if len(a.entries) > 16 {
		a.index = map[Key]int{}
		for i, e := range a.entries {
			a.index[e.Key] = i
		}
	}
	if k.isInt && (k.n >= a.next || !a.numbers) && k.n < math.MaxInt64 {
		a.next, a.numbers = k.n+1, true
	}
}

func (a *array) isList() bool {
	for i, e := range a.entries {
		if !e.Key.isInt || e.Key.n != int64(i) {
			return false
		}
	}
	return true
}

func (a *array) appendJSON(b []byte) []byte {
	open, end := byte('['), byte(']')
	list := a.isList()
	if !list {
		open, end = '{', '}'
	}
	b = append(b, open)
	for i, e := range a.entries {
		if i > 0 {
			b = append(b, ',')
		}
		if !list {
			b = append(appendJSONText(b, e.Key.String()), ':')
		}
		b = e.Value.AppendJSON(b)
	}
	return append(b, end)
}
