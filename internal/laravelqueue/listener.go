package laravelqueue

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// maxListener bounds the bytes of a Listener. Larger: each job has more bytes. Smaller: long names
// are refused.
const maxListener = 255

// Listener is a class of the application and a method of it. The zero Listener stands for Laravel's
// dispatcher of events. ParseListener makes all others.
type Listener struct{ class, method string }

var errListener = errors.New(`not the name of a class of PHP, such as App\Listeners\ReverbEvents ` +
	`or App\Listeners\ReverbEvents@handle`)

// ParseListener reads Class or Class@method, with the namespace of the class. A backslash may be
// doubled, as in JSON and in quotes.
func ParseListener(text string) (Listener, error) {
	class, method, named := strings.Cut(text, "@")
	class = strings.TrimPrefix(strings.ReplaceAll(class, `\\`, `\`), `\`)
	if !named {
		method = "handle"
	}
	if len(text) > maxListener || !utf8.ValidString(text) || !isIdentifier(method) {
		return Listener{}, errListener
	}
	for part := range strings.SplitSeq(class, `\`) {
		if !isIdentifier(part) {
			return Listener{}, errListener
		}
	}
	return Listener{class, method}, nil
}

// String is the listener as ParseListener reads it; empty for the dispatcher.
func (l Listener) String() string {
	if l.class == "" {
		return ""
	}
	return l.class + "@" + l.method
}

// isIdentifier says whether a class, a part of a namespace or a method can be called s (PHP manual:
// "Classes and Objects", "The Basics").
func isIdentifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= utf8.RuneSelf
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
