package cluster

import (
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

const envelopeVersion = 1

type envelopeKind byte

const (
	envelopeEvent     envelopeKind = 'e'
	envelopeAdded     envelopeKind = '+'
	envelopeRemoved   envelopeKind = '-'
	envelopeMarker    envelopeKind = 'm'
	envelopeSnapshot  envelopeKind = 's'
	envelopeTerminate envelopeKind = 't'
	envelopeReady     envelopeKind = 'n'
)

// envelope is what one node tells others. Which fields count depends on the kind.
type envelope struct {
	kind     envelopeKind
	remember bool   // event: keep it for those who come later
	again    bool   // event: sent before, perhaps in vain
	node     uint64 // event: who published it
	number   uint64 // event: ascending for each node
	except   uint64 // event: socket that shall not get it; 0: none
	token    uint64 // marker, snapshot: what it answers
	payload  string // event; snapshot: the cached event
	life     int    // snapshot: milliseconds for which that is still to be kept
	app      string // terminate
	user     string // added, removed, terminate
	info     string // added
	id       string // ready
	members  []member
}

// member is a user of a presence topic. Members are ordered by order.
type member struct {
	user, info string
	order      int
}

func appendNetstring(b []byte, s string) []byte {
	return append(append(strconv.AppendInt(b, int64(len(s)), 10), ':'), s...)
}

func cutNetstring(b string) (s, rest string, ok bool) {
	digits, _, ok := strings.Cut(b[:min(len(b), 12)], ":")
	n, err := strconv.ParseUint(digits, 10, 32)
	rest = b[min(len(b), len(digits)+1):]
	if !ok || err != nil || uint64(len(rest)) < n {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}

func appendEnvelope(b []byte, e *envelope) []byte {
	b = append(b, envelopeVersion, byte(e.kind))
	b = append(b, "        "...)
	begin := len(b)
	switch e.kind {
	case envelopeEvent:
		flags := byte(0)
		if e.remember {
			flags |= 1
		}
		if e.again {
			flags |= 2
		}
		b = append(b, flags)
		for _, n := range []uint64{e.node, e.number, e.except} {
			b = binary.BigEndian.AppendUint64(b, n)
		}
		b = append(b, e.payload...)
	case envelopeAdded:
		b = appendNetstring(appendNetstring(b, e.user), e.info)
	case envelopeRemoved:
		b = appendNetstring(b, e.user)
	case envelopeMarker:
		b = binary.BigEndian.AppendUint64(b, e.token)
	case envelopeSnapshot:
		b = appendNetstring(binary.BigEndian.AppendUint64(b, e.token), strconv.Itoa(e.life)+":"+e.payload)
		for _, m := range e.members {
			b = appendNetstring(appendNetstring(b, m.user), strconv.Itoa(m.order)+":"+m.info)
		}
	case envelopeTerminate:
		b = appendNetstring(appendNetstring(b, e.app), e.user)
	case envelopeReady:
		b = appendNetstring(b, e.id)
	}
	sum := envelopeSum(b[begin:])
	copy(b[begin-len(sum):], sum[:])
	return b
}

// envelopeSum is what redis.sha1hex in Lua gives, cut to 8 digits.
func envelopeSum(body []byte) (digits [8]byte) {
	sum := sha1.Sum(body)
	hex.Encode(digits[:], sum[:4])
	return digits
}

// errEnvelopeVersion is a well-meant envelope of a program that knows more.
var errEnvelopeVersion = errors.New("an envelope of another version")
var errEnvelope = errors.New("not an envelope")

// openEnvelope checks the head of an envelope and returns what it is and its body.
func openEnvelope(b string) (kind envelopeKind, body string, err error) {
	if len(b) < 2 {
		return 0, "", errEnvelope
	}
	if b[0] != envelopeVersion || !strings.ContainsRune("e+-mstn", rune(b[1])) {
		return 0, "", errEnvelopeVersion
	}
	if len(b) < 10 {
		return 0, "", errEnvelope
	}
	if sum := envelopeSum([]byte(b[10:])); string(sum[:]) != b[2:10] {
		return 0, "", errEnvelope
	}
	return envelopeKind(b[1]), b[10:], nil
}

// parseEnvelope reads an envelope. What is wrong with it stops nobody: it is counted
// and skipped.
func parseEnvelope(b string) (e envelope, err error) {
	if e.kind, b, err = openEnvelope(b); err != nil {
		return e, err
	}
	ok := true
	number := func() (n uint64) {
		if ok = ok && len(b) >= 8; ok {
			n, b = binary.BigEndian.Uint64([]byte(b[:8])), b[8:]
		}
		return n
	}
	text := func() (s string) {
		if ok {
			s, b, ok = cutNetstring(b)
		}
		return s
	}
	switch e.kind {
	case envelopeEvent:
		if len(b) == 0 || b[0]&^3 != 0 {
			return e, errEnvelope
		}
		e.remember, e.again, b = b[0]&1 != 0, b[0]&2 != 0, b[1:]
		e.node, e.number, e.except = number(), number(), number()
		e.payload, b = b, ""
	case envelopeAdded:
		e.user, e.info = text(), text()
	case envelopeRemoved:
		e.user = text()
	case envelopeMarker:
		e.token = number()
	case envelopeSnapshot:
		e.token = number()
		life, payload, found := strings.Cut(text(), ":")
		var bad error
		e.life, bad = strconv.Atoi(life)
		e.payload, ok = payload, ok && found && bad == nil
		for ok && len(b) > 0 {
			m := member{user: text()}
			order, info, found := strings.Cut(text(), ":")
			var bad error
			if m.order, bad = strconv.Atoi(order); !ok || !found || bad != nil {
				continue // no node has written this in the hash of members
			}
			m.info = info
			e.members = append(e.members, m)
		}
	case envelopeTerminate:
		e.app, e.user = text(), text()
	case envelopeReady:
		e.id = text()
	}
	if !ok || len(b) > 0 {
		return envelope{}, errEnvelope
	}
	return e, nil
}
