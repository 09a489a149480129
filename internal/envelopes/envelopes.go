// Package envelopes has the bytes that the nodes of a cluster send to each other through Redis.
// It keeps no state but a Seen: internal/cluster decides what an envelope means.
//
// Version 1. Numbers have 8 bytes, the highest first. A text is its length in decimal, a colon and
// its bytes (a netstring without the comma). sum is the first 8 hexadecimal digits of the SHA-1 of
// the body, which is all that follows sum. It detects damage and mistakes, not forgery.
//
//	1 e sum(8) flags(1) node(8) number(8) except(8) payload   event
//	1 + sum(8) user info                                      the first connection of a user
//	1 - sum(8) user                                           the last connection of a user
//	1 m sum(8) token(8)                                       marker
//	1 s sum(8) token(8) life:cached {user order:info}         snapshot of a topic
//	1 t sum(8) app user                                       terminate a user's connections
//	1 n sum(8) id                                             a node has become ready
//	1 c sum(8) total                                          subscriptions of a topic, a text
//	1 l sum(8) id text                                        a letter of one node to another
//	1 h sum(8) key milliseconds                               a lane of the outbox has work
//
// Nodes write events, markers, letters and the termination of connections. Scripts in Redis, which
// stand in the folder scripts, write the others, and the markers that answer present.
package envelopes

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"reverb/internal/lib/jsonraw"
)

const (
	version    = 1
	sumDigits  = 8
	headLength = 2 + sumDigits // version, kind, sum
)

// Kind is the second byte of an envelope.
type Kind byte

// The kinds of version 1. A node skips and counts any other kind.
const (
	Event     Kind = 'e'
	Added     Kind = '+'
	Removed   Kind = '-'
	Marker    Kind = 'm'
	Snapshot  Kind = 's'
	Terminate Kind = 't'
	Ready     Kind = 'n'
	Total     Kind = 'c'
	Letter    Kind = 'l'
	Work      Kind = 'h'

	kinds = "e+-mstnclh"
)

// The flags of an event.
const (
	flagRemember = 1 << iota
	flagAgain
)

// Envelope is one message between nodes. Each field names the kinds that have it; in the others it
// is empty.
type Envelope struct {
	Kind     Kind
	Remember bool      // Event: the topic keeps the payload for later members
	Again    bool      // Event: its node has sent it before, and does not know whether it arrived
	Node     uint64    // Event: the number of the node that published it
	Number   uint64    // Event: ascends for each node and bucket
	Except   uint64    // Event: the socket that does not get it; 0: every socket gets it
	Token    uint64    // Marker, Snapshot: the question that it answers
	Payload  string    // Event: the payload; Snapshot: the cached payload, or empty; Letter: text
	Life     int       // milliseconds: Snapshot: Payload is still kept so long; Work: until then
	App      string    // Terminate
	User     string    // Added, Removed, Terminate
	Info     string    // Added: JSON, or empty
	Total    int       // Total: the subscriptions on all nodes
	ID       string    // Ready: the incarnation of the node; Letter: of its writer; Work: the lane
	Members  []*Member // Snapshot, in no order
}

// Member is a user of a presence topic.
type Member struct {
	User, Info string
	Order      int // a user who came later has a higher one
}

// ErrVersion is the error of an envelope of another version, or of a kind that this version does
// not have. ErrMalformed is the error of bytes that are not an envelope.
var (
	ErrVersion   = errors.New("an envelope of another version")
	ErrMalformed = errors.New("not an envelope")
)

func appendText(b []byte, s string) []byte {
	return append(append(strconv.AppendInt(b, int64(len(s)), 10), ':'), s...)
}

// cutText takes a text off the front of b. ok is false where b does not begin with a whole text.
func cutText(b string) (s, rest string, ok bool) {
	const longestLength = 12 // more digits than a length has
	digits, _, ok := strings.Cut(b[:min(len(b), longestLength)], ":")
	n, err := strconv.ParseUint(digits, 10, 32)
	rest = b[min(len(b), len(digits)+1):]
	if !ok || err != nil || uint64(len(rest)) < n {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}

// MaxNumber bounds the number of an event. Larger: whoever writes a number near the bound mutes a
// node for longer. Smaller: a real node reaches the bound; with a million events a second it would
// need nine years.
const MaxNumber = 1 << 48

// maxBehind bounds how far the number of a late copy is below the last. If a number is lower, the
// last was forged: nodes send no event again that is so old. Larger: a forged number mutes a node
// for longer. Smaller: a late copy is delivered.
const maxBehind = 1 << 20

// IsMember says whether a user can be a member: clients read the ID as text, and info as JSON.
func IsMember(user, info string) bool {
	return user != "" && utf8.ValidString(user) &&
		(info == "" || utf8.ValidString(info) && jsonraw.Check([]byte(info)) == nil)
}

// member reads what the hash of members has; ok is false for what a stranger has written there.
func member(user, text string) (m *Member, ok bool) {
	order, info, found := strings.Cut(text, ":")
	n, err := strconv.Atoi(order)
	return &Member{User: user, Info: info, Order: n}, found && err == nil && IsMember(user, info)
}

// Encode writes an envelope.
func (e Envelope) Encode() string {
	b := make([]byte, 0, len(e.Payload)+64) // an event fits
	b = append(b, version, byte(e.Kind))
	b = append(b, "        "...) // the sum, once the body is known
	begin := len(b)
	switch e.Kind {
	case Event:
		flags := byte(0)
		if e.Remember {
			flags |= flagRemember
		}
		if e.Again {
			flags |= flagAgain
		}
		b = append(b, flags)
		for _, n := range []uint64{e.Node, e.Number, e.Except} {
			b = binary.BigEndian.AppendUint64(b, n)
		}
		b = append(b, e.Payload...)
	case Added:
		b = appendText(appendText(b, e.User), e.Info)
	case Removed:
		b = appendText(b, e.User)
	case Marker:
		b = binary.BigEndian.AppendUint64(b, e.Token)
	case Snapshot:
		b = binary.BigEndian.AppendUint64(b, e.Token)
		b = appendText(b, strconv.Itoa(e.Life)+":"+e.Payload)
		for _, m := range e.Members {
			b = appendText(appendText(b, m.User), strconv.Itoa(m.Order)+":"+m.Info)
		}
	case Terminate:
		b = appendText(appendText(b, e.App), e.User)
	case Ready:
		b = appendText(b, e.ID)
	case Total:
		b = appendText(b, strconv.Itoa(e.Total))
	case Letter:
		b = append(appendText(b, e.ID), e.Payload...)
	case Work:
		b = appendText(appendText(b, e.ID), strconv.Itoa(e.Life))
	}
	sum := sumOf(b[begin:])
	copy(b[begin-sumDigits:], sum[:])
	return string(b)
}

// sumOf gives the digits that redis.sha1hex of Lua gives for a body, cut to sumDigits.
func sumOf(body []byte) (digits [sumDigits]byte) {
	sum := sha1.Sum(body)
	hex.Encode(digits[:], sum[:sumDigits/2])
	return digits
}

// open checks the head of an envelope and returns its kind and its body.
func open(b string) (kind Kind, body string, err error) {
	if len(b) < 2 {
		return 0, "", ErrMalformed
	}
	if b[0] != version || !strings.ContainsRune(kinds, rune(b[1])) {
		return 0, "", ErrVersion
	}
	if len(b) < headLength {
		return 0, "", ErrMalformed
	}
	if sum := sumOf([]byte(b[headLength:])); string(sum[:]) != b[2:headLength] {
		return 0, "", ErrMalformed
	}
	return Kind(b[1]), b[headLength:], nil
}

// reader takes the parts of a body off its front. After the first part that is not there, ok is
// false, and all parts are empty.
type reader struct {
	b  string
	ok bool
}

func (r *reader) number() (n uint64) {
	if r.ok = r.ok && len(r.b) >= 8; r.ok {
		n, r.b = binary.BigEndian.Uint64([]byte(r.b[:8])), r.b[8:]
	}
	return n
}

func (r *reader) text() (s string) {
	if r.ok {
		s, r.b, r.ok = cutText(r.b)
	}
	return s
}

func (r *reader) whole(digits string) int {
	n, bad := strconv.Atoi(digits)
	r.ok = r.ok && bad == nil
	return n
}

// rest takes all that is left.
func (r *reader) rest() (s string) {
	s, r.b = r.b, ""
	return s
}

// Parse reads a whole envelope. Its texts are parts of b. The error is ErrVersion or ErrMalformed.
func Parse(b string) (e Envelope, err error) {
	if e.Kind, b, err = open(b); err != nil {
		return e, err
	}
	r := reader{b, true}
	switch e.Kind {
	case Event:
		if len(b) == 0 || b[0]&^(flagRemember|flagAgain) != 0 {
			return e, ErrMalformed
		}
		e.Remember, e.Again, r.b = b[0]&flagRemember != 0, b[0]&flagAgain != 0, b[1:]
		e.Node, e.Number, e.Except = r.number(), r.number(), r.number()
		e.Payload = r.rest()
		r.ok = r.ok && e.Number <= MaxNumber && utf8.ValidString(e.Payload)
	case Added:
		e.User, e.Info = r.text(), r.text()
		r.ok = r.ok && IsMember(e.User, e.Info)
	case Removed:
		e.User = r.text()
		r.ok = r.ok && IsMember(e.User, "")
	case Marker:
		e.Token = r.number()
	case Snapshot:
		e.readSnapshot(&r)
	case Terminate:
		e.App, e.User = r.text(), r.text()
	case Ready:
		e.ID = r.text()
	case Total:
		e.Total = r.whole(r.text())
	case Letter:
		e.ID = r.text()
		e.Payload = r.rest()
	case Work:
		e.ID, e.Life = r.text(), r.whole(r.text())
		r.ok = r.ok && e.Life >= 0
	}
	if !r.ok || len(r.b) > 0 {
		return Envelope{}, ErrMalformed
	}
	return e, nil
}

// readSnapshot leaves out what a stranger has written as a member or as the cached event.
func (e *Envelope) readSnapshot(r *reader) {
	e.Token = r.number()
	life, payload, found := strings.Cut(r.text(), ":")
	e.Life = r.whole(life)
	if r.ok = r.ok && found; utf8.ValidString(payload) {
		e.Payload = payload
	}
	for r.ok && len(r.b) > 0 {
		if m, valid := member(r.text(), r.text()); r.ok && valid {
			e.Members = append(e.Members, m)
		}
	}
}
