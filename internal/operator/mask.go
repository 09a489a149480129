package operator

import (
	"bytes"
	"fmt"
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
	// maxShownBytes is the length at which a message is cut. Larger: a line fills the terminal.
	// Smaller: less of a message is seen.
	maxShownBytes = 8 << 10
)

// secretKeys are the keys of values that nobody may see: the values open channels, or identify a
// person.
func secretKeys() []string {
	return []string{"auth", "ticket", "tickets", "shared_secret", "user_data"}
}

// shown is a message without its secrets, wherever they stand. A message that is not JSON is not
// shown at all, since it may have a secret anywhere.
func shown(message []byte) string {
	if !utf8.Valid(message) || jsonraw.Check(message) != nil {
		return fmt.Sprintf("(%d bytes that are not JSON)", len(message))
	}
	return bounded(string(appendMasked(nil, message, 0)), maxShownBytes)
}

// appendMasked appends a valid JSON text without its secrets.
func appendMasked(dst, value []byte, depth int) []byte {
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
			if isSecret(string(key)) {
				dst = append(dst, mask...)
			} else {
				dst = appendMasked(dst, value, depth+1)
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
			dst = appendMasked(dst, value, depth+1)
		})
		return append(dst, ']')
	case '"':
		return appendMaskedString(dst, value, depth)
	}
	return append(dst, value...)
}

// appendMaskedString appends a string without its secrets. The string may hold JSON itself, as data
// often does.
func appendMaskedString(dst, value []byte, depth int) []byte {
	text, _ := jsonraw.Bytes(value)
	switch text = bytes.TrimSpace(text); {
	case len(text) == 0 || text[0] != '{' && text[0] != '[' && text[0] != '"':
		return append(dst, value...)
	case jsonraw.Check(text) == nil:
		return jsonraw.AppendString(dst, appendMasked(nil, text, depth+1))
	case mentionsSecret(string(text)):
		return append(dst, mask...)
	}
	return append(dst, value...)
}

func isSecret(key string) bool {
	return slices.ContainsFunc(
		secretKeys(),
		func(secret string) bool { return strings.EqualFold(key, secret) },
	)
}

// mentionsSecret says whether a text has one of secretKeys, or may have one behind an escape.
func mentionsSecret(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, `\u`) ||
		slices.ContainsFunc(secretKeys(), func(secret string) bool {
			return strings.Contains(text, secret)
		})
}
