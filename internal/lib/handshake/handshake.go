// Package handshake has the server's side of the opening handshake of a WebSocket (RFC 6455 §4.2).
// It judges the request, and makes the answer that opens the connection. It reads and writes no
// socket, and leaves extensions and subprotocols to its caller.
package handshake

import (
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"reverb/internal/lib/show"
)

// guid is the text that a server appends to the client's key (RFC 6455 §1.3).
const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// Refusal is an answer to a handshake with an HTTP status other than 101.
type Refusal struct {
	Status int
	Text   string            // for the client, one line
	Header map[string]string // more header lines
}

// Check judges the opening handshake (RFC 6455 §4.2.1). It returns nil when the handshake is
// in order. net/http refuses a request without a Host before it comes here.
func Check(r *http.Request) *Refusal {
	h := r.Header
	key, version := h["Sec-Websocket-Key"], h["Sec-Websocket-Version"]
	switch {
	case r.Method != http.MethodGet:
		return &Refusal{http.StatusMethodNotAllowed, "Method not allowed.",
			map[string]string{"Allow": "GET"}}
	case !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1:
		return &Refusal{Status: http.StatusHTTPVersionNotSupported,
			Text: "A WebSocket handshake needs HTTP/1.1; got " + show.Text(r.Proto) + "."}
	case r.ContentLength != 0: // the body must not pass for frames
		return badRequest("A WebSocket handshake has no body.")
	case !hasToken(h["Upgrade"], "websocket"):
		return upgradeRequired("This is a WebSocket address: the request needs the header " +
			"Upgrade: websocket. A proxy in between may have dropped it.")
	case !hasToken(h["Connection"], "upgrade"):
		return badRequest("The header Connection lacks the token Upgrade. " +
			"A proxy in between may have dropped it.")
	case len(version) != 1 || strings.TrimSpace(version[0]) != "13":
		return upgradeRequired("The header Sec-WebSocket-Version must be 13, " +
			"the only version served.")
	case len(key) != 1:
		return badRequest("The header Sec-WebSocket-Key must be there exactly once; got " +
			strconv.Itoa(len(key)) + ".")
	case !validKey(strings.TrimSpace(key[0])):
		return badRequest("The header Sec-WebSocket-Key must be 16 bytes in base64.")
	}
	return nil
}

func badRequest(text string) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Text: text}
}

func upgradeRequired(text string) *Refusal {
	return &Refusal{http.StatusUpgradeRequired, text, map[string]string{ // RFC 9110 §15.5.22
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}}
}

// validKey says whether key is 16 bytes in base64 with its padding (RFC 6455 §4.2.1). The last
// character before the padding has four bits that no byte uses. These bits may be set: RFC 6455
// §4.1 itself names AQIDBAUGBwgJCgsMDQ4PEC==, which has one set.
func validKey(key string) bool {
	nonce, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(nonce) == 16 && len(key) == 24 // DecodeString skips line breaks
}

// hasToken says whether token, in lower case, is among the comma-separated tokens
// of a header, whatever their case (RFC 9110 §5.6.1).
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.Trim(part, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// Append appends the answer that opens the connection (RFC 6455 §4.2.2). key is the client's
// Sec-WebSocket-Key, already checked. extensions is the value of Sec-WebSocket-Extensions; empty:
// the answer does not have this header. extra holds whole header lines.
func Append(b []byte, key, extensions, extra string) []byte {
	sum := sha1.Sum([]byte(strings.TrimSpace(key) + guid))
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\n"+
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	b = base64.StdEncoding.AppendEncode(b, sum[:])
	if extensions != "" {
		b = append(append(b, "\r\nSec-WebSocket-Extensions: "...), extensions...)
	}
	b = append(b, "\r\n"...)
	b = append(b, extra...)
	return append(b, "\r\n"...)
}
