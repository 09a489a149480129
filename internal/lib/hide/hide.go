// Package hide shows JSON without the values of some keys, wherever they stand: also in JSON that
// is the text of a string, as the data of messages often is. It takes bytes of strangers.
package hide

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"reverb/internal/lib/jsonraw"
)

const (
	// mask replaces a hidden value.
	mask = `"********"`
	// maxMaskDepth is how deep a message is searched for secrets. Values that are nested deeper are
	// hidden. Larger: deep messages cost more, by the square of their depth. Smaller: more harmless
	// values are hidden.
	maxMaskDepth = 16
)

// Keys are the keys of values to hide, whatever their case.
type Keys []string

// JSON is a message without the values of the keys. ok is false if the message is not JSON, and so
// may have such a value anywhere.
func (k Keys) JSON(message []byte) (shown string, ok bool) {
	if !utf8.Valid(message) || jsonraw.Check(message) != nil {
		return "", false
	}
	return string(k.appendMasked(nil, message, 0)), true
}

// appendMasked appends a valid JSON text without its secrets.
func (k Keys) appendMasked(dst, value []byte, depth int) []byte {
	value = bytes.TrimSpace(value)
	if depth == maxMaskDepth {
		return append(dst, mask...)
	}
	switch value[0] {
	case '{':
		dst = append(dst, '{')
		comma := len(dst)
		jsonraw.Object(value, func(key, value []byte) { // is valid
			if len(dst) > comma {
				dst = append(dst, ',')
			}
			dst = append(jsonraw.AppendString(dst, key), ':')
			if k.has(string(key)) {
				dst = append(dst, mask...)
			} else {
				dst = k.appendMasked(dst, value, depth+1)
			}
		})
		return append(dst, '}')
	case '[':
		dst = append(dst, '[')
		comma := len(dst)
		jsonraw.Array(value, func(value []byte) { // is valid
			if len(dst) > comma {
				dst = append(dst, ',')
			}
			dst = k.appendMasked(dst, value, depth+1)
		})
		return append(dst, ']')
	case '"':
		return k.appendMaskedString(dst, value, depth)
	}
	return append(dst, value...)
}

// appendMaskedString appends a string without its secrets. The string may hold JSON itself, as data
// often does.
func (k Keys) appendMaskedString(dst, value []byte, depth int) []byte {
	text, _ := jsonraw.Bytes(value)
	switch text = bytes.TrimSpace(text); {
	case len(text) == 0 || text[0] != '{' && text[0] != '[' && text[0] != '"':
		return append(dst, value...)
	case jsonraw.Check(text) == nil:
		return jsonraw.AppendString(dst, k.appendMasked(nil, text, depth+1))
	case k.in(string(text)):
		return append(dst, mask...)
	}
	return append(dst, value...)
}

func (k Keys) has(key string) bool {
	return slices.ContainsFunc(
		k,
		func(secret string) bool { return strings.EqualFold(key, secret) },
	)
}

// mentionsSecret says whether a text has one of secretKeys, or may have one behind an escape.
func (k Keys) in(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, `\u`) ||
		slices.ContainsFunc(k, func(secret string) bool {
			return strings.Contains(text, secret)
		})
}
