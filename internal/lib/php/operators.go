package php

import (
	"math"
	"strconv"
	"strings"
)

// Numeric reads a text as PHP's is_numeric does: it allows spaces around the number. whole is false
// if something else follows the number; ok is false if the text does not begin with a number.
func Numeric(s string) (v Value, whole, ok bool) {
	const blank = " \t\n\r\v\f"
	s = strings.TrimLeft(s, blank)
	n := 0
	if n < len(s) && (s[n] == '+' || s[n] == '-') {
		n++
	}
	begin, float := n, false
	n += digitsOf(s[n:])
	digits := n - begin
	if n < len(s) && s[n] == '.' {
		if more := digitsOf(s[n+1:]); digits+more > 0 {
			digits, n, float = digits+more, n+1+more, true
		}
	}
	if digits == 0 {
		return v, false, false
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		sign := n + 1
		if sign < len(s) && (s[sign] == '+' || s[sign] == '-') {
			sign++
		}
		if more := digitsOf(s[min(sign, len(s)):]); more > 0 {
			n, float = sign+more, true
		}
	}
	whole = strings.Trim(s[n:], blank) == ""
	if !float {
		if i, err := strconv.ParseInt(s[:n], 10, 64); err == nil {
			return Of(i), whole, true
		}
	}
	f, _ := strconv.ParseFloat(s[:n], 64)
	return Of(f), whole, true
}

// digitsOf is the number of digits at the start of s.
func digitsOf(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// floatInt is (int) of a float.
func floatInt(f float64) int64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	if f >= -1<<63 && f < 1<<63 {
		return int64(f)
	}
	m := math.Mod(math.Trunc(f), 1<<64)
	if m < 0 {
		m += 1 << 64
	}
	return int64(uint64(m))
}

// casts are the types of casts by their names.
var casts = map[string]Kind{"int": Int, "integer": Int, "bool": Bool, "boolean": Bool,
	"float":  Float,
	"double": Float, "string": String, "binary": String, "array": Array, "object": Unknown}

// IsCast says whether (name) is a cast; the name is in lower case.
func IsCast(name string) bool { _, ok := casts[name]; return ok }

// Cast computes (name) v. A reason that is not empty says why it cannot.
func Cast(name string, v Value) (result Value, reason string) {
	switch casts[name] {
	case Unknown:
		return v, "an object, which is not known here"
	case Bool:
		return Of(v.Truth()), ""
	case Array:
		switch v.Kind {
		case Array:
			return v, ""
		case Null:
			return Of([]Value{}), ""
		}
		return Of([]Value{v}), ""
	case String:
		if v.Kind == Array {
			return v, "a text of an array"
		}
		return Of(v.Text()), ""
	case Int:
		return Of(v.Int()), ""
	}
	return Of(v.Float()), ""
}

// Int is (int) of a value.
func (v Value) Int() int64 {
	switch v.Kind {
	case Bool, Int:
		return v.n
	case Float:
		return floatInt(v.f)
	case String:
		switch n, _, _ := Numeric(v.s); {
		case n.f >= 1<<63: // (int) of a text has the largest number as its bound
			return math.MaxInt64
		case n.f <= -1<<63:
			return math.MinInt64
		default:
			return n.Int()
		}
	case Array:
		return int64(min(len(v.a.entries), 1))
	}
	return 0
}

// Float is (float) of a value.
func (v Value) Float() float64 {
	switch v.Kind {
	case Float:
		return v.f
	case String:
		n, _, _ := Numeric(v.s)
		if n.Kind == Float {
			return n.f
		}
		return float64(n.n)
	}
	return float64(v.Int())
}

// Compute computes a binary operator. The result of . is as long as both operands together. A
// reason that is not empty names the operand that the operator cannot take. Compute does not know
// && || and ??, since PHP does not always evaluate their second operand.
func Compute(name string, a, b Value) (v Value, reason string) {
	switch name {
	case ".":
		if a.Kind == Array || b.Kind == Array {
			return v, "an array"
		}
		return Of(a.Text() + b.Text()), ""
	case "===", "!==":
		return Of(Identical(a, b) == (name == "===")), ""
	case "xor":
		return Of(a.Truth() != b.Truth()), ""
	case "==", "!=", "<>", "<", "<=", ">", ">=", "<=>":
		return compareBy(name, a, b)
	case "|", "&", "^", "<<", ">>":
		return bits(name, a, b)
	}
	return arithmetic(name, a, b)
}

// Identical is ===.
func Identical(a, b Value) bool {
	if a.Kind != b.Kind || a.n != b.n || a.f != b.f || a.s != b.s {
		return false
	}
	if a.Kind != Array {
		return true
	}
	if len(a.a.entries) != len(b.a.entries) {
		return false
	}
	for i, e := range a.a.entries {
		if o := b.a.entries[i]; o.Key != e.Key || !Identical(e.Value, o.Value) {
			return false
		}
	}
	return true
}

// compareBy computes a comparison. It compares arrays only with ==, and only with arrays.
func compareBy(name string, a, b Value) (v Value, reason string) {
	equal := name == "==" || name == "!=" || name == "<>"
	if (a.Kind == Array) != (b.Kind == Array) && a.Kind > Bool && b.Kind > Bool {
		if equal {
			return Of(name != "=="), ""
		}
		return v, "an array and something else"
	}
	if a.Kind == Array && b.Kind == Array {
		if !equal {
			return v, "arrays"
		}
		return Of(Equal(a, b) == (name == "==")), ""
	}
	c, ordered := compare(a, b)
	switch name {
	case "==":
		return Of(ordered && c == 0), ""
	case "!=", "<>":
		return Of(!ordered || c != 0), ""
	case "<":
		return Of(ordered && c < 0), ""
	case "<=":
		return Of(ordered && c <= 0), ""
	case ">":
		return Of(ordered && c > 0), ""
	case ">=":
		return Of(ordered && c >= 0), ""
	}
	if !ordered {
		c = 1
	}
	return Of(int64(c)), ""
}

// Equal is ==.
func Equal(a, b Value) bool {
	if a.Kind != Array || b.Kind != Array {
		v, _ := compareBy("==", a, b)
		return v.Truth()
	}
	if len(a.a.entries) != len(b.a.entries) {
		return false
	}
	for _, e := range a.a.entries {
		i := b.a.find(e.Key)
		if i < 0 || !Equal(e.Value, b.a.entries[i].Value) {
			return false
		}
	}
	return true
}

// compare compares two values by the rules of PHP 8. They must not both be arrays. ordered is false
// if one of them is NAN.
func compare(a, b Value) (c int, ordered bool) {
	switch {
	case a.Kind == String && b.Kind == Null:
		return len(a.s), true
	case a.Kind == Null && b.Kind == String:
		return -len(b.s), true
	case a.Kind <= Bool || b.Kind <= Bool:
		return int(Of(a.Truth()).n - Of(b.Truth()).n), true
	case a.Kind == String && b.Kind == String:
		x, xWhole, _ := Numeric(a.s)
		y, yWhole, _ := Numeric(b.s)
		// PHP compares numbers that are too large as texts
		if xWhole && yWhole && !(math.IsInf(x.f, 0) && x.f == y.f) {
			return compareNumbers(x, y)
		}
		return strings.Compare(a.s, b.s), true
	case a.Kind == String:
		c, ordered = compare(b, a)
		return -c, ordered
	case b.Kind == String:
		y, whole, _ := Numeric(b.s)
		if !whole {
			return strings.Compare(floatOrInt(a), b.s), true
		}
		return compareNumbers(a, y)
	}
	return compareNumbers(a, b)
}

func floatOrInt(v Value) string {
	if v.Kind == Float {
		return floatText(v.f, -1)
	}
	return v.Text()
}

// compareNumbers compares two numbers. ordered is false if one of them is NAN.
func compareNumbers(a, b Value) (c int, ordered bool) {
	if a.Kind == Int && b.Kind == Int {
		switch {
		case a.n < b.n:
			return -1, true
		case a.n > b.n:
			return 1, true
		}
		return 0, true
	}
	x, y := a.Float(), b.Float()
	switch {
	case x < y:
		return -1, true
	case x > y:
		return 1, true
	}
	return 0, x == y
}

// bits computes an operator on the bits of whole numbers.
func bits(name string, a, b Value) (v Value, reason string) {
	x, whole := number(a)
	y, wholeToo := number(b)
	switch {
	case !whole || !wholeToo || x.Kind != Int || y.Kind != Int || a.Kind == String &&
		b.Kind == String:
		return v, "what is not a whole number"
	case name == "|":
		return Of(x.n | y.n), ""
	case name == "&":
		return Of(x.n & y.n), ""
	case name == "^":
		return Of(x.n ^ y.n), ""
	case y.n < 0:
		return v, "a negative number of bits"
	case name == "<<":
		return Of(x.n << uint64(y.n)), ""
	}
	return Of(x.n >> uint64(y.n)), ""
}

// number turns an operand of arithmetic into a number. ok is false for arrays and for texts that
// are not a number.
func number(v Value) (n Value, ok bool) {
	switch v.Kind {
	case Null, Bool:
		return Of(v.n), true
	case Int, Float:
		return v, true
	case String:
		n, ok, _ := Numeric(v.s)
		return n, ok
	}
	return v, false
}

// arithmetic computes + - * / % **.
func arithmetic(name string, a, b Value) (v Value, reason string) {
	if name == "+" && a.Kind == Array && b.Kind == Array {
		return union(a, b), ""
	}
	x, ok := number(a)
	y, okToo := number(b)
	if !ok || !okToo {
		return v, "what is not a number"
	}
	if name == "%" {
		switch m, n := x.Int(), y.Int(); n {
		case 0:
			return v, "0 to divide by"
		case -1:
			return Of(int64(0)), ""
		default:
			return Of(m % n), ""
		}
	}
	if name == "/" && y.Float() == 0 {
		return v, "0 to divide by"
	}
	if x.Kind == Int && y.Kind == Int {
		if n, exact := whole(name, x.n, y.n); exact {
			return Of(n), ""
		}
	}
	f, g := x.Float(), y.Float()
	switch name {
	case "+":
		f += g
	case "-":
		f -= g
	case "*":
		f *= g
	case "/":
		f /= g
	default:
		f = math.Pow(f, g)
	}
	return Of(f), ""
}

// whole computes with whole numbers. exact is false if the result has a fraction or is too large.
func whole(name string, x, y int64) (n int64, exact bool) {
	switch name {
	case "+":
		n = x + y
		return n, (n > x) == (y > 0)
	case "-":
		n = x - y
		return n, (n < x) == (y > 0)
	case "*":
		if x == 0 || y == 0 {
			return 0, true
		}
		n = x * y
		return n, n/y == x && !(x == -1 && y == math.MinInt64) && !(y == -1 && x == math.MinInt64)
	case "/":
		if y == -1 && x == math.MinInt64 {
			return 0, false
		}
		return x / y, x%y == 0
	}
	if y < 0 {
		return 0, false
	}
	n, exact = 1, true
	for ; y > 0 && exact; y-- {
		if x == 0 || x == 1 {
			return x, true
		}
		if x == -1 {
			return 1 - 2*(y%2), true
		}
		n, exact = whole("*", n, x)
	}
	return n, exact
}

// union is + of arrays: the left one, and the elements of the right one whose keys the left one
// lacks.
func union(a, b Value) Value {
	var made Builder
	for _, from := range []*array{a.a, b.a} {
		for _, e := range from.entries {
			if made.a.find(e.Key) < 0 {
				made.Set(e.Key, e.Value)
			}
		}
	}
	return made.Value()
}
