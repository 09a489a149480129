// Package closeframe has the payload of a close frame of a WebSocket: a code and a reason (RFC 6455
// §5.5.1, §7.4). It knows nothing of the frame around the payload.
package closeframe

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// NoCode is the code of an empty payload. No frame has it (RFC 6455 §7.4.1).
const NoCode = 1005

// maxReasonBytes bounds the reason that Append writes: the payload of a control frame has at most
// 125 bytes, and the code takes two (RFC 6455 §5.5). Larger: the frame is illegal.
const maxReasonBytes = 123

// The errors of Parse.
var (
	ErrPayload = errors.New("a close frame of one byte, or with a code that no frame may have")
	ErrReason  = errors.New("the reason of a close frame is not UTF-8")
)

// Parse reads the payload of a close frame. reason is a part of payload. code is NoCode if payload
// is empty.
func Parse(payload []byte) (code uint16, reason []byte, err error) {
	switch {
	case len(payload) == 0:
		return NoCode, nil, nil
	case len(payload) == 1:
		return 0, nil, ErrPayload
	}
	code, reason = binary.BigEndian.Uint16(payload), payload[2:]
	if !Valid(code) {
		return 0, nil, ErrPayload
	}
	if !utf8.Valid(reason) {
		return 0, nil, ErrReason
	}
	return code, reason, nil
}

// Valid says whether a close frame may have code (RFC 6455 §7.4; 1012 to 1014 by the IANA
// registry).
func Valid(code uint16) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 ||
		code >= 3000 && code <= 4999
}

// Append appends the payload of a close frame to b. It cuts a reason of more than 123 bytes between
// two characters.
func Append(b []byte, code uint16, reason string) []byte {
	if len(reason) > maxReasonBytes {
		n := maxReasonBytes
		for n > 0 && !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	return append(binary.BigEndian.AppendUint16(b, code), reason...)
}
