// Package probe names the channels on which reverb check tries a server. Any client may subscribe
// to one; applications are not told of it.
package probe

import (
	"crypto/rand"
	"strings"
)

const (
	prefix = "reverb-check-"
	random = 26 // characters behind it, see rand.Text
)

// Channel makes the name of a channel that nobody else uses.
func Channel() string { return prefix + strings.ToLower(rand.Text()) }

// Is says whether a name has the form that Channel gives it.
func Is(channel string) bool {
	return len(channel) == len(prefix)+random && strings.HasPrefix(channel, prefix)
}
