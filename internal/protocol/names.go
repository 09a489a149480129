package protocol

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"reverb/internal/lib/show"
)

// --- Names of channels ---

// Kind tells the properties of a channel that the prefixes of its name set. The zero Kind is that
// of a public channel.
type Kind struct {
	Private   bool // a subscription needs a signature, as with Presence
	Encrypted bool // set only beside Private
	Presence  bool
	Cache     bool // the channel remembers its last event
	User      bool // #server-to-user-…, see UserChannel; no other property is set beside it
	// Reserved says that the name begins with '#' and is not that of a user's channel. The HTTP API
	// takes events for such a channel; no client can subscribe to it. No other property is set.
	Reserved bool
}

// Kinds is how many kinds of channels there are.
const Kinds = 9

// Index numbers the kinds from 0 to Kinds-1, in the order of KindNames.
func (k Kind) Index() int {
	i := 0
	switch {
	case k.User:
		return Kinds - 1
	case k.Encrypted:
		i = 3
	case k.Presence:
		i = 2
	case k.Private:
		i = 1
	}
	if k.Cache {
		i += Kinds / 2 // the four kinds that remember nothing come first
	}
	return i
}

// Signed says whether a subscription needs a signature.
func (k Kind) Signed() bool { return k.Private || k.Presence }

// KindNames are the kinds as metrics call them, by Index.
func KindNames() [Kinds]string {
	return [...]string{"public", "private", "presence", "private-encrypted", "cache",
		"private-cache", "presence-cache", "private-encrypted-cache", "server-to-user"}
}

// Name is the name of a channel that was judged. A Name is made once, where it comes in, and passed
// on as a value. The zero Name names no channel.
type Name struct {
	text string
	kind Kind
}

// String is the name as it came.
func (n Name) String() string { return n.text }

// Kind is the kind of the channel.
func (n Name) Kind() Kind { return n.kind }

// userPrefix begins the name of a user's channel (Pusher: Sending events to authenticated users).
const userPrefix = "#server-to-user-"

// UserChannel is the channel of a user: every connection that is signed in as the user is
// subscribed to it, and nobody else. id has 1 to maxUserBytes bytes, of any kind.
func UserChannel(id string) Name {
	return Name{text: userPrefix + id, kind: Kind{User: true}}
}

// User is whose channel it is; ok is false if it is not the channel of a user.
func (n Name) User() (id string, ok bool) {
	return strings.TrimPrefix(n.text, userPrefix), n.kind.User
}

// ParseName judges the name of a channel that can have subscribers, and reads the kind from the
// beginning of the name: #server-to-user-; or private-, private-encrypted- or presence-, then
// cache-. The error says which character or length is wrong, in one line that the sender may see.
func ParseName(name string) (Name, error) {
	if id, ok := strings.CutPrefix(name, userPrefix); ok && id != "" && len(id) <= maxUserBytes {
		return UserChannel(id), nil
	}
	if name == "" || len(name) > maxNameBytes {
		return Name{}, fmt.Errorf("a channel name has 1 to %d bytes, this one %d", maxNameBytes,
			len(name))
	}
	for i := 0; i < len(name); i++ {
		if !inAlphabet(name[i]) {
			_, n := utf8.DecodeRuneInString(name[i:])
			return Name{}, fmt.Errorf("%s cannot stand in a channel name; "+
				"letters, digits and _ - = @ , . ; can", show.Quoted(name[i:i+n]))
		}
	}
	return Name{text: name, kind: kindOf(name)}, nil
}

// parseTarget is ParseName for the channel of an event of the HTTP API, which may be a
// reserved one.
func parseTarget(name string) (Name, error) {
	if n, err := ParseName(name); err == nil {
		return n, nil
	}
	rest, reserved := strings.CutPrefix(name, "#")
	n, err := ParseName(rest)
	if err == nil && reserved {
		n = Name{text: name, kind: Kind{Reserved: true}}
	}
	return n, err
}

func kindOf(name string) (kind Kind) {
	rest := name
	if r, ok := strings.CutPrefix(name, "presence-"); ok {
		kind.Presence, rest = true, r
	} else if r, ok := strings.CutPrefix(name, "private-"); ok {
		kind.Private = true
		rest, kind.Encrypted = strings.CutPrefix(r, "encrypted-")
	}
	kind.Cache = strings.HasPrefix(rest, "cache-")
	return kind
}

func inAlphabet(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		strings.IndexByte("_-=@,.;", c) >= 0
}

// --- Socket IDs ---

// SocketID identifies a connection: two numbers with a dot in between. Each is below 2^32, so that
// JavaScript can hold it. No connection has the zero SocketID.
type SocketID struct{ a, b uint32 }

// NewSocketID draws a SocketID from a cryptographic source, so that one socket ID tells
// nothing about another.
func NewSocketID() (id SocketID) {
	var b [8]byte
	for id.a == 0 || id.b == 0 {
		rand.Read(b[:]) // never fails
		id = SocketID{binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[4:])}
	}
	return id
}

// SocketIDOf is the reverse of Number.
func SocketIDOf(n uint64) SocketID { return SocketID{uint32(n >> 32), uint32(n)} }

// Number is the socket ID as one number, which nodes send to each other.
func (id SocketID) Number() uint64 { return uint64(id.a)<<32 | uint64(id.b) }

// String is the socket ID as clients know it.
func (id SocketID) String() string {
	return strconv.FormatUint(uint64(id.a), 10) + "." + strconv.FormatUint(uint64(id.b), 10)
}

// ParseSocketID is the reverse of String. It returns the zero SocketID for a text that
// is not a socket ID.
func ParseSocketID(s string) SocketID {
	x, y, _ := strings.Cut(s, ".")
	a, err1 := strconv.ParseUint(x, 10, 32)
	b, err2 := strconv.ParseUint(y, 10, 32)
	if err1 != nil || err2 != nil {
		return SocketID{}
	}
	return SocketID{uint32(a), uint32(b)}
}
