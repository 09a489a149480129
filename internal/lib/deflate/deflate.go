// Package deflate has the WebSocket extension permessage-deflate (RFC 7692) without context
// takeover: every message is compressed on its own, in both directions, so a connection keeps no
// window. One Reader and one Writer serve all connections of a goroutine.
//
// The package judges offers and turns messages into payloads and back. It knows no frames: the
// caller handles RSV1, and decides whether a message is worth compressing.
package deflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"strconv"
	"strings"
)

// keepBytes bounds the buffer that a Reader or a Writer keeps between two messages. Larger: one
// large message keeps more memory. Smaller: more messages allocate.
const keepBytes = 16 << 10

// tail ends a message that was cut at a sync flush (RFC 7692 §7.2.2). Then it ends the stream, so
// that the reader finds the end.
const (
	syncTail = "\x00\x00\xff\xff"
	tail     = syncTail + "\x01\x00\x00\xff\xff"
)

// accepted is the value of Sec-WebSocket-Extensions that accepts an offer.
const accepted = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// Answer is the value of Sec-WebSocket-Extensions that answers offers; empty: none is accepted, or
// compression is not wanted.
func Answer(offers []string, wanted bool) string {
	if wanted && accepts(offers) {
		return accepted
	}
	return ""
}

// accepts reports whether one of the offers in the values of Sec-WebSocket-Extensions can be
// accepted. Both sides have a window of 32 KiB. An offer that limits the server's window, or that
// is unknown, is declined.
func accepts(values []string) bool {
	for _, v := range values {
		for offer := range strings.SplitSeq(v, ",") {
			name, params, _ := strings.Cut(offer, ";")
			name = strings.Trim(name, " \t")
			if strings.EqualFold(name, "permessage-deflate") && acceptsParams(params) {
				return true
			}
		}
	}
	return false
}

func acceptsParams(params string) bool {
	seen := ""
	for params != "" {
		var param string
		param, params, _ = strings.Cut(params, ";")
		name, value, valued := strings.Cut(param, "=")
		name, value = strings.ToLower(strings.Trim(name, " \t")), strings.Trim(value, " \t")
		if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		if strings.Contains(seen, name+";") {
			return false // §7.1: a parameter given twice declines the offer
		}
		seen += name + ";"
		bits, err := strconv.Atoi(value)
		inRange := err == nil && bits >= 8 && bits <= 15 && value[0] != '0' && value[0] != '+'
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover":
			if valued {
				return false
			}
		case "client_max_window_bits":
			if valued && !inRange {
				return false
			}
		default:
			return false // server_max_window_bits too: compress/flate has one window size
		}
	}
	return true
}

var (
	ErrBroken  = errors.New("compressed data is broken")
	ErrTooLong = errors.New("the message is longer than the limit")
)

// Reader decompresses one message at a time into a buffer that it keeps. The zero Reader is
// ready. It is not safe for concurrent use.
type Reader struct {
	src bytes.Reader
	in  io.Reader // the payload and tail
	z   io.ReadCloser
	out []byte
}

// Inflate decompresses payload. The result is valid until the next call. The error is ErrBroken, or
// ErrTooLong if the message has more than limit bytes; then the rest is not decompressed.
func (r *Reader) Inflate(payload []byte, limit int) ([]byte, error) {
	r.src.Reset(payload)
	r.in = io.MultiReader(&r.src, strings.NewReader(tail))
	if r.z == nil {
		r.z = flate.NewReader(r.in)
	} else if err := r.z.(flate.Resetter).Reset(r.in, nil); err != nil {
		return nil, ErrBroken
	}
	if r.out = r.out[:0]; cap(r.out) > keepBytes {
		r.out = nil
	}
	for {
		if len(r.out) > limit {
			return nil, ErrTooLong
		}
		if len(r.out) == cap(r.out) {
			r.out = append(r.out, 0)[:len(r.out)]
		}
		// One byte more than the limit is enough to know, so a bomb costs only that.
		n, err := r.z.Read(r.out[len(r.out):min(cap(r.out), limit+1)])
		r.out = r.out[:len(r.out)+n]
		if err == io.EOF && len(r.out) <= limit {
			return r.out, nil
		}
		if err != nil && err != io.EOF {
			return nil, ErrBroken
		}
	}
}

// Writer compresses one message at a time. The zero Writer is ready. It is not safe for
// concurrent use.
type Writer struct {
	out bytes.Buffer
	z   *flate.Writer
}

// Deflate compresses message. The result is valid until the next call. If the message would not
// become shorter, smaller is false and there is no result.
func (w *Writer) Deflate(message []byte) (payload []byte, smaller bool) {
	if w.out.Reset(); w.out.Cap() > keepBytes {
		w.out = bytes.Buffer{}
	}
	if w.z == nil {
		w.z, _ = flate.NewWriter(&w.out, flate.BestSpeed) // an error means an unknown level
	} else {
		w.z.Reset(&w.out)
	}
	w.z.Write(message) // cannot fail: it writes to a bytes.Buffer
	w.z.Flush()
	payload = bytes.TrimSuffix(w.out.Bytes(), []byte(syncTail))
	if len(payload) >= len(message) {
		return nil, false
	}
	return payload, true
}
