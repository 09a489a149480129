package jsonraw

import (
	"bytes"
	"encoding/json"
)

// Text is a JSON value as a text: the string that it is, or the value without spaces; nil for no
// value. The caller has checked that it is JSON. Half of a surrogate pair becomes U+FFFD: PHP's
// json_decode would throw away the whole body.
func Text(value []byte) []byte {
	if value = bytes.TrimSpace(value); len(value) == 0 {
		return nil
	}
	if value[0] != '"' {
		var short bytes.Buffer
		if json.Compact(&short, value) == nil {
			value = short.Bytes()
		}
		return value
	}
	if s, ok := Bytes(value); ok {
		return s
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return value
	}
	return []byte(s)
}
