package laravelqueue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// pair is an element of an array of PHP, or a property of an object.
type pair struct {
	key   any // string or int64
	value any
}

// object is an object of PHP.
type object struct {
	class      string
	properties []pair
}

// decode reads JSON as PHP's json_decode with arrays does. The keys keep their order.
func decode(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	array := []pair{}
	switch t := t.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(t.String(), 10, 64); err == nil {
			return n, nil
		}
		return t.Float64()
	case json.Delim:
		for d.More() {
			key := any(int64(len(array)))
			if t == '{' {
				name, err := d.Token()
				if err != nil {
					return nil, err
				}
				key = keyOf(name.(string))
			}
			v, err := decode(d)
			if err != nil {
				return nil, err
			}
			array = append(array, pair{key, v})
		}
		_, err := d.Token()
		return array, err
	}
	return t, nil
}

func decodeText(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return decode(d)
}

// keyOf is the key that PHP makes of a string: a number if it is the decimal form of one.
func keyOf(s string) any {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && strconv.FormatInt(n, 10) == s {
		return n
	}
	return s
}

// serialize is PHP's serialize(), with floats as the fixtures spell them.
func serialize(v any) string {
	switch v := v.(type) {
	case nil:
		return "N;"
	case bool:
		return fmt.Sprintf("b:%d;", map[bool]int{true: 1}[v])
	case int64:
		return fmt.Sprintf("i:%d;", v)
	case float64:
		return "d:" + spell(v) + ";"
	case string:
		return fmt.Sprintf("s:%d:%q;", len(v), raw(v))
	case []pair:
		var b strings.Builder
		fmt.Fprintf(&b, "a:%d:{", len(v))
		for _, p := range v {
			b.WriteString(serialize(p.key) + serialize(p.value))
		}
		return b.String() + "}"
	}
	panic(fmt.Sprintf("%T", v))
}

// raw prints as it is in quotes.
type raw string

func (r raw) Format(s fmt.State, _ rune) { fmt.Fprintf(s, `"%s"`, string(r)) }

// spell writes a float as Python's repr does, in capitals.
func spell(f float64) string {
	e := strconv.FormatFloat(f, 'e', -1, 64)
	_, exponent, _ := strings.Cut(e, "e")
	if n, _ := strconv.Atoi(exponent); n < -4 || n >= 16 {
		return strings.ToUpper(e)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// unserialize is PHP's unserialize(). It refuses what PHP refuses.
func unserialize(s string) (any, error) {
	r := &reader{s}
	v, err := r.value()
	if err == nil && r.s != "" {
		err = fmt.Errorf("%.40q is left", r.s)
	}
	return v, err
}

type reader struct{ s string }

var errShape = errors.New("not serialized")

// until cuts off the text before end, and end.
func (r *reader) until(end string) (string, error) {
	before, after, ok := strings.Cut(r.s, end)
	if !ok {
		return "", errShape
	}
	r.s = after
	return before, nil
}

func (r *reader) number(end string) (int64, error) {
	s, err := r.until(end)
	if err != nil {
		return 0, err
	}
	n, ok := new(big.Int).SetString(s, 10)
	if !ok || !n.IsInt64() {
		return 0, errShape
	}
	return n.Int64(), nil
}

// text reads the length and the bytes of a string in quotes.
func (r *reader) text() (string, error) {
	n, err := r.number(":")
	if err != nil || n < 0 || int64(len(r.s)) < n+2 || r.s[0] != '"' || r.s[n+1] != '"' {
		return "", errShape
	}
	s := r.s[1 : n+1]
	r.s = r.s[n+2:]
	return s, nil
}

func (r *reader) value() (any, error) {
	kind, err := r.until(":")
	if err != nil {
		return nil, err
	}
	switch kind {
	case "i":
		return r.number(";")
	case "s":
		s, err := r.text()
		if err != nil || !strings.HasPrefix(r.s, ";") {
			return nil, errShape
		}
		r.s = r.s[1:]
		return s, nil
	case "a":
		return r.pairs()
	case "O":
		class, err := r.text()
		if err != nil || !strings.HasPrefix(r.s, ":") {
			return nil, errShape
		}
		r.s = r.s[1:]
		properties, err := r.pairs()
		return object{class, properties}, err
	}
	return nil, errShape
}

func (r *reader) pairs() ([]pair, error) {
	n, err := r.number(":{")
	if err != nil {
		return nil, err
	}
	all := []pair{}
	for range n {
		key, err := r.value()
		if err != nil {
			return nil, err
		}
		value, err := r.value()
		if err != nil {
			return nil, err
		}
		all = append(all, pair{key, value})
	}
	if !strings.HasPrefix(r.s, "}") {
		return nil, errShape
	}
	r.s = r.s[1:]
	return all, nil
}
