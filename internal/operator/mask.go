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
	// mask stands for what is hidden.
	mask = `"********"`
	// maxMaskDepth is how deep a message is looked through. What is nested deeper is hidden:
	// looking at it costs the square of its depth.
	maxMaskDepth = 16
	// maxShownBytes is where a message is cut.
	maxShownBytes = 8 << 10
)

// secretKeys are what the members of an object are called whose values nobody may see: they
// open channels, or say who somebody is.
func secretKeys() []string {
	return []string{"auth", "ticket", "tickets", "shared_secret", "user_data"}
}

// shown is a message fit to be shown: what opens a channel is hidden, wherever it stands,
// and what is no JSON is not shown at all, since nobody knows what stands in it.
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

// appendMaskedString appends a string, which may hold JSON itself, as data often does.
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

// mentionsSecret says whether the word of a secret stands in a text, or may stand there
// in an escape.
func mentionsSecret(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, `\u`) ||
		slices.ContainsFunc(secretKeys(), func(secret string) bool {
			return strings.Contains(text, secret)
		})
}
