package main

// The WebSocket protocol, server side: RFC 6455 whole, RFC 7692 (compression)
// without context takeover. Nothing here knows what the messages mean.
//
// Sections:
//
//	Endings             every way a connection ends
//	Frame header        RFC 6455 §5.2: parse, check, append
//	Masking             RFC 6455 §5.3
//	Close frames        RFC 6455 §5.5.1, §7.4
//	Handshake           RFC 6455 §4.2
//	Compression         RFC 7692 §7
//	Connection          what a loop keeps of one peer
//	Read machine        bytes to messages
//	Send queue          messages to bytes, bounded
//	Closing             the close handshake and what follows it
//	Loop                one goroutine, many connections
//	Flows               fan-out that spans turns, and who is held back by it
//	Loops               all of them
//
// Refused: unmasked frames, reserved bits and opcodes, lengths that are not
// minimal, fragmented or long control frames, text that is not UTF-8 (as soon as
// its first wrong byte arrives), messages over the limit (as soon as a header
// says so), invalid close codes.

import (
	"bytes"
	"compress/flate"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"reverb/internal/lib/metrics"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/show"
	"reverb/internal/lib/utf8check"
	"reverb/internal/lib/wheel"
)

const (
	// maxQueueBytes is how much may wait for a peer that does not read. One
	// message may go over it; the next finds the connection condemned.
	maxQueueBytes = 1 << 20

	// closeTimeout is how long a peer gets to take what is queued for it,
	// answer the close frame and hang up.
	closeTimeout = 3 // ticks

	loopBufferBytes   = 64 << 10 // what one read takes at most, and one coalesced write
	keepMessageBytes  = 16 << 10 // a pooled buffer above this size is left to the collector
	maxSpare          = 256      // pooled partials and segments a loop keeps
	deflateWorthBytes = 256      // shorter messages are sent as they are
	maxBacklogBytes   = 32 << 20 // of messages that wait for one loop, see loops.overloaded
	messageCost       = 128      // bytes that count for each of these messages and each delivery, however small
	supplyTurnBytes   = 2 << 20  // of supplied bytes a loop writes in one turn; the other connections wait for the next
	supplyPlaceBytes  = 256      // what a place for supplied bytes counts in the queue, whatever it holds: it is asked for by a message

	// What a turn of a loop gives to each kind of work before the others have theirs. New
	// connections and tasks are always served.
	turnReadBytes   = 256 << 10            // together, from all that can be read
	minReadBytes    = 1 << 10              // but each is read so much
	turnDeliverTime = 4 * time.Millisecond // for fan-out, and again for writing what it has queued
	flowShare       = 256                  // deliveries of one flow before the next one's
	heldReadBytes   = 4 << 10              // taken at once where somebody is held
)

// --- Endings ---

// ending is a way in which a connection ends. Endings are compared by address;
// each has one variable, here or in the protocol above, made by newEnding.
type ending struct {
	code   uint16 // close code (RFC 6455 §7.4.1); 0: no close frame is sent
	reason string // close reason, at most 123 bytes
	word   string // for logs and metric labels
}

// endings lists every ending. It is complete once the package's variables are
// initialized and never changes afterwards.
var endings []*ending

// newEnding makes an ending and enters it in endings.
func newEnding(code uint16, reason, word string) *ending {
	e := &ending{code, reason, word}
	endings = append(endings, e)
	return e
}

var (
	endPeerClosed  = newEnding(0, "", "peer_closed") // close frame received; its code is echoed
	endPeerGone    = newEnding(0, "", "peer_gone")   // no close frame, just the end or a reset
	endWriteFailed = newEnding(0, "", "write_failed")
	endStopped     = newEnding(1001, "Server stopped", "stopped")
	endProtocol    = newEnding(1002, "Protocol error", "protocol_error")
	endReserved    = newEnding(1002, "Reserved bit or opcode", "protocol_error")
	endUnmasked    = newEnding(1002, "Client frames must be masked", "protocol_error")
	endLength      = newEnding(1002, "Length not in its shortest form", "protocol_error")
	endControl     = newEnding(1002, "Control frames are short and whole", "protocol_error")
	endFragment    = newEnding(1002, "Fragments out of order", "protocol_error")
	endCloseFrame  = newEnding(1002, "Invalid close frame", "protocol_error")
	endText        = newEnding(1007, "Text is not UTF-8", "invalid_text")
	endDeflate     = newEnding(1007, "Compressed data is broken", "invalid_deflate")
	endTooBig      = newEnding(1009, "Maximum message size exceeded", "too_big")
	endSlow        = newEnding(1013, "Too slow: more than 1048576 bytes wait to be read", "slow_consumer")
	endMemory      = newEnding(1013, "The server is short of memory, and much waits here to be read", "memory")
)

// --- Frame header (RFC 6455 §5.2) ---
//
//	 0                   1                   2                   3
//	+-+-+-+-+-------+-+-------------+-------------------------------+
//	|F|R|R|R| opcode|M| length (7)  | length (16, when the 7 = 126) |
//	|I|S|S|S|  (4)  |A|             | length (64, when the 7 = 127) |
//	|N|V|V|V|       |S|             |                               |
//	+-+-+-+-+-------+-+-------------+-------------------------------+
//	| masking key (32, when MASK is set) | payload                  |
//	+------------------------------------+--------------------------+

type opcode byte

const (
	opContinuation opcode = 0
	opText         opcode = 1
	opBinary       opcode = 2
	opClose        opcode = 8
	opPing         opcode = 9
	opPong         opcode = 10
)

func (op opcode) control() bool { return op >= opClose }

const (
	maxHeaderBytes  = 14
	maxControlBytes = 125
	rsv1            = 4 // of frameHeader.rsv: RSV1, "compressed" with RFC 7692
)

// frameHeader is a decoded header. extended is the size of the extended length
// field: 0, 2 or 8 bytes.
type frameHeader struct {
	length   uint64
	mask     uint32 // masking key, its first byte in the lowest bits
	op       opcode
	rsv      byte
	extended byte
	fin      bool
	masked   bool
}

// parseFrameHeader decodes the frame header at the start of b (RFC 6455 §5.2).
//
// n is the size of the header in bytes, 2 to 14; n == 0 means that b ends inside
// the header: read more and call again with the same bytes. The header is
// decoded, not judged; see checkFrameHeader. parseFrameHeader does not retain b
// and does not allocate.
func parseFrameHeader(b []byte) (h frameHeader, n int) {
	if len(b) < 2 {
		return h, 0
	}
	h.fin, h.rsv, h.op = b[0]&0x80 != 0, b[0]>>4&7, opcode(b[0]&15)
	h.masked, h.length = b[1]&0x80 != 0, uint64(b[1]&0x7f)
	n = 2
	switch h.length {
	case 126:
		if len(b) < 4 {
			return h, 0
		}
		h.length, h.extended, n = uint64(binary.BigEndian.Uint16(b[2:])), 2, 4
	case 127:
		if len(b) < 10 {
			return h, 0
		}
		h.length, h.extended, n = binary.BigEndian.Uint64(b[2:]), 8, 10
	}
	if h.masked {
		if len(b) < n+4 {
			return h, 0
		}
		h.mask = binary.LittleEndian.Uint32(b[n:])
		n += 4
	}
	return h, n
}

// checkFrameHeader judges a header that a client sent. message is the opcode of
// the message that is being assembled, or 0; deflate says that RSV1 was
// negotiated. It returns nil or how the connection ends.
func checkFrameHeader(h frameHeader, message opcode, deflate bool) *ending {
	switch {
	case h.rsv&^rsv1 != 0, h.op > opPong, h.op > opBinary && h.op < opClose:
		return endReserved // §5.2
	case h.rsv != 0 && (!deflate || h.op.control() || h.op == opContinuation):
		return endReserved // RFC 7692 §6.1: only the first frame of a message
	case !h.masked:
		return endUnmasked // §5.1
	case h.extended == 2 && h.length < 126, h.extended == 8 && h.length <= 0xffff, h.length>>63 != 0:
		return endLength // §5.2: minimal, and the most significant bit is 0
	case h.op.control() && (!h.fin || h.length > maxControlBytes):
		return endControl // §5.5
	case h.op == opContinuation && message == 0, !h.op.control() && h.op != opContinuation && message != 0:
		return endFragment // §5.4
	}
	return nil
}

// appendFrameHeader appends the header h, its length in the shortest form,
// whatever h.extended says.
func appendFrameHeader(b []byte, h frameHeader) []byte {
	b0, mask := h.rsv<<4|byte(h.op), byte(0)
	if h.fin {
		b0 |= 0x80
	}
	if h.masked {
		mask = 0x80
	}
	switch {
	case h.length < 126:
		b = append(b, b0, mask|byte(h.length))
	case h.length <= 0xffff:
		b = append(b, b0, mask|126, byte(h.length>>8), byte(h.length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, b0, mask|127), h.length)
	}
	if h.masked {
		b = binary.LittleEndian.AppendUint32(b, h.mask)
	}
	return b
}

// appendFrame appends a whole unmasked frame.
func appendFrame(b []byte, op opcode, rsv byte, payload []byte) []byte {
	b = appendFrameHeader(b, frameHeader{fin: true, rsv: rsv, op: op, length: uint64(len(payload))})
	return append(b, payload...)
}

// --- Masking (RFC 6455 §5.3) ---

// maskBytes xors b with key and returns the key for the byte after b. Eight bytes
// at a time: 20 times the speed of the plain loop in the tests on 4 KiB.
func maskBytes(b []byte, key uint32) uint32 {
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 32 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^wide)
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^wide)
		binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^wide)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key)
		key = key>>8 | key<<24
	}
	return key
}

// --- Close frames (RFC 6455 §5.5.1, §7.4) ---

// parseClose reads the payload of a close frame. code is 1005 when there is none.
func parseClose(payload []byte) (code uint16, reason []byte, bad *ending) {
	switch {
	case len(payload) == 0:
		return 1005, nil, nil
	case len(payload) == 1:
		return 0, nil, endCloseFrame
	}
	code, reason = binary.BigEndian.Uint16(payload), payload[2:]
	if !validCloseCode(code) {
		return 0, nil, endCloseFrame
	}
	if !utf8.Valid(reason) {
		return 0, nil, endText
	}
	return code, reason, nil
}

// validCloseCode says whether code may stand in a close frame (RFC 6455 §7.4;
// 1012 to 1014 by the IANA registry).
func validCloseCode(code uint16) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}

// appendCloseFrame appends a close frame. A reason over 123 bytes is cut between
// two characters.
func appendCloseFrame(b []byte, code uint16, reason string) []byte {
	const room = maxControlBytes - 2
	if len(reason) > room {
		n := room
		for n > 0 && !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	b = appendFrameHeader(b, frameHeader{fin: true, op: opClose, length: uint64(2 + len(reason))})
	b = binary.BigEndian.AppendUint16(b, code)
	return append(b, reason...)
}

// --- Handshake (RFC 6455 §4.2) ---

// refusal is a handshake that is answered with an HTTP status other than 101.
type refusal struct {
	status int
	text   string
	header map[string]string // more header lines
}

// checkHandshake judges the opening handshake (RFC 6455 §4.2.1). A missing Host is
// refused by net/http before it comes here.
func checkHandshake(r *http.Request) *refusal {
	h := r.Header
	key := h["Sec-Websocket-Key"]
	switch {
	case r.Method != http.MethodGet:
		return &refusal{http.StatusMethodNotAllowed, "Method not allowed.", map[string]string{"Allow": "GET"}}
	case !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1:
		return &refusal{status: http.StatusHTTPVersionNotSupported, text: "A WebSocket handshake needs HTTP/1.1; got " + printable(r.Proto) + "."}
	case r.ContentLength != 0:
		return &refusal{status: http.StatusBadRequest, text: "A WebSocket handshake has no body."} // a proxy would not take it for frames
	case !hasToken(h["Upgrade"], "websocket"):
		return upgradeRequired("This is a WebSocket address: the request needs the header Upgrade: websocket. A proxy in between may have dropped it.")
	case !hasToken(h["Connection"], "upgrade"):
		return &refusal{status: http.StatusBadRequest, text: "The header Connection lacks the token Upgrade. A proxy in between may have dropped it."}
	case len(h["Sec-Websocket-Version"]) != 1 || strings.TrimSpace(h["Sec-Websocket-Version"][0]) != "13":
		return upgradeRequired("The header Sec-WebSocket-Version must be 13, the only version served.")
	case len(key) != 1:
		return &refusal{status: http.StatusBadRequest, text: "The header Sec-WebSocket-Key must be there exactly once; got " + strconv.Itoa(len(key)) + "."}
	}
	if !validKey(strings.TrimSpace(key[0])) {
		return &refusal{status: http.StatusBadRequest, text: "The header Sec-WebSocket-Key must be 16 bytes in base64."}
	}
	return nil
}

// validKey says whether key is 16 bytes in base64 with its padding (RFC 6455 §4.2.1).
// The last character before the padding has four bits that no byte uses. They may be
// anything: RFC 6455 §4.1 itself names AQIDBAUGBwgJCgsMDQ4PEC==, where one is set.
func validKey(key string) bool {
	nonce, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(nonce) == 16 && len(key) == 24 // DecodeString skips line breaks
}

func upgradeRequired(text string) *refusal {
	return &refusal{http.StatusUpgradeRequired, text,
		map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}} // RFC 9110 §15.5.22
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

func printable(s string) string { return show.Text(s) }
func quoted(s string) string    { return show.Quoted(s) }

// appendHandshake appends the answer that opens the connection (RFC 6455 §4.2.2).
// key is the client's Sec-WebSocket-Key, already checked. extra holds whole header
// lines.
func appendHandshake(b []byte, key string, deflate bool, extra string) []byte {
	sum := sha1.Sum([]byte(strings.TrimSpace(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	b = base64.StdEncoding.AppendEncode(b, sum[:])
	if deflate {
		b = append(b, "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"...)
	}
	b = append(b, "\r\n"...)
	b = append(b, extra...)
	return append(b, "\r\n"...)
}

// --- Compression (RFC 7692 §7) ---

// acceptsDeflate says whether one of the offers in the Sec-WebSocket-Extensions
// headers can be taken. Every message is compressed on its own, in both
// directions, with a window of 32 KiB; an offer that speaks of our window, or that is
// not understood, is declined.
func acceptsDeflate(values []string) bool {
	for _, v := range values {
		for offer := range strings.SplitSeq(v, ",") {
			name, params, _ := strings.Cut(offer, ";")
			if strings.EqualFold(strings.Trim(name, " \t"), "permessage-deflate") && acceptsDeflateParams(params) {
				return true
			}
		}
	}
	return false
}

func acceptsDeflateParams(params string) bool {
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

// deflateTail ends a message that was cut at a sync flush (RFC 7692 §7.2.2), and
// then the stream, so that the reader finds its end.
const deflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// inflater decompresses one message at a time into a buffer that it keeps.
type inflater struct {
	src bytes.Reader
	in  io.Reader // the message and deflateTail
	z   io.ReadCloser
	out []byte
}

// inflate decompresses message, at most limit bytes of it. The result is valid
// until the next call.
func (f *inflater) inflate(message []byte, limit int) ([]byte, *ending) {
	f.src.Reset(message)
	f.in = io.MultiReader(&f.src, strings.NewReader(deflateTail))
	if f.z == nil {
		f.z = flate.NewReader(f.in)
	} else if err := f.z.(flate.Resetter).Reset(f.in, nil); err != nil {
		return nil, endDeflate
	}
	if f.out = f.out[:0]; cap(f.out) > keepMessageBytes {
		f.out = nil
	}
	for {
		if len(f.out) > limit {
			return nil, endTooBig
		}
		if len(f.out) == cap(f.out) {
			f.out = append(f.out, 0)[:len(f.out)]
		}
		// One byte more than the limit is enough to know, so a bomb costs no more.
		n, err := f.z.Read(f.out[len(f.out):min(cap(f.out), limit+1)])
		f.out = f.out[:len(f.out)+n]
		if err == io.EOF && len(f.out) <= limit {
			return f.out, nil
		}
		if err != nil && err != io.EOF {
			return nil, endDeflate
		}
	}
}

// deflater compresses one message at a time.
type deflater struct {
	out bytes.Buffer
	z   *flate.Writer
}

// appendDeflatedFrame appends message as one compressed frame, or plain when that
// is shorter.
func (d *deflater) appendDeflatedFrame(b []byte, op opcode, message []byte) []byte {
	if d.out.Reset(); d.out.Cap() > keepMessageBytes {
		d.out = bytes.Buffer{}
	}
	if d.z == nil {
		d.z, _ = flate.NewWriter(&d.out, flate.BestSpeed) // fails for unknown levels only
	} else {
		d.z.Reset(&d.out)
	}
	d.z.Write(message) // to a bytes.Buffer: cannot fail
	d.z.Flush()
	small := bytes.TrimSuffix(d.out.Bytes(), []byte(deflateTail[:4]))
	if len(small) >= len(message) {
		return appendFrame(b, op, 0, message)
	}
	return appendFrame(b, op, rsv1, small)
}

// frames is one text message, encoded once for everybody who receives it. Its
// bytes are shared and never change.
type frames struct {
	plain []byte

	once     sync.Once
	deflated []byte // made when the first peer that can read it is met
}

// newFrames encodes a text message. It does not retain message.
func newFrames(message []byte) *frames {
	return &frames{plain: endFrame(append(beginFrame(len(message)), message...))}
}

const frameRoom = 10 // bytes of the largest header that is sent

// beginFrame returns a buffer to which a text message of about size bytes is appended.
func beginFrame(size int) []byte { return make([]byte, frameRoom, frameRoom+size) }

// endFrame returns the frame around the message that was appended to what beginFrame
// returned.
func endFrame(b []byte) []byte {
	var header [frameRoom]byte
	h := appendFrameHeader(header[:0], frameHeader{fin: true, op: opText, length: uint64(len(b) - frameRoom)})
	return b[frameRoom-copy(b[frameRoom-len(h):], h):]
}

// payload is the message itself.
func (f *frames) payload() []byte {
	_, n := parseFrameHeader(f.plain)
	return f.plain[n:]
}

// deflates says whether c gets the compressed form.
func (f *frames) deflates(c *conn) bool { return c.deflate && len(f.plain) >= deflateWorthBytes }

func (f *frames) forConn(c *conn) []byte {
	if !f.deflates(c) {
		return f.plain
	}
	f.once.Do(func() { f.deflated = c.loop.deflater.appendDeflatedFrame(nil, opText, f.payload()) })
	return f.deflated
}

// --- Connection ---

// handler is what a connection tells about itself. Every method is called by the
// connection's loop. now counts ticks (seconds) since the loops were made.
type handler interface {
	handleOpen(now uint32)
	handleMessage(op opcode, message []byte) // message is valid during the call only
	handleControl(op opcode)                 // a ping or a pong came; the ping is answered already
	handleDeadline(now uint32)               // the time given to setDeadline has come
	handleDrain()                            // the server stops: say goodbye and close
	handleClosed(e *ending)                  // exactly once, before the close frame is sent
}

type connState uint8

const (
	connNew connState = iota
	connOpen
	connClosing // the close frame is queued; what still arrives is thrown away
	connClosed
)

// conn is one WebSocket connection. There are very many, so each field is as small as
// it can be; those that a delivery touches stand first.
type conn struct {
	// constant after adopt
	loop *loop

	// owned by the loop
	head        *segment // what is to be written, in order
	sock        poll.Socket
	queued      int32 // bytes from head on
	state       connState
	dirty       bool // on loop.dirty
	blocked     bool // the socket took less than we had: wait until it is writable
	writable    bool // it is said to be, this turn
	overflowed  bool // went past maxQueueBytes
	failed      bool // a write has failed: nothing more is queued, and the end of the turn frees the connection
	writeClosed bool
	held        bool     // nothing is read of it: it is on a flow's list
	seen        uint32   // tick of the last bytes received
	partial     *partial // the half-read frame or message; nil while there is none

	// constant after adopt
	handler    handler
	maxMessage int32 // bytes
	slot       uint32
	generation uint32
	deflate    bool // permessage-deflate was negotiated
}

// segmentBytes is what a segment takes beside its bytes.
const segmentBytes = 64

// segment is a link of a send queue. Its bytes may be shared and never change.
type segment struct {
	next *segment
	last *segment // of the queue; kept in its head alone
	b    []byte   // what is left to be written
	from supplier // of b; nil: b was there when it was queued
	cut  bool     // the beginning has been written
	pong bool

	asked    bool // from has been told that the socket is ready
	supplied bool // b is there; it may be empty
	deferred bool // on loop.deferred
}

// supplier makes the bytes of a place in a send queue when everything before them has
// been written, so that a connection that does not read holds only the place. The
// connection's loop calls its methods.
type supplier interface {
	wanted()  // at most once: everything before has been written; conn.supply is to follow, from a task
	dropped() // once: the place has left the queue, written or not
}

// waits says that the bytes of s are still to be supplied.
func (s *segment) waits() bool { return s.from != nil && !s.supplied }

// weight is what s counts in its queue. Supplied bytes are shared, and are bounded
// where they are made.
func (s *segment) weight() int {
	if s.from != nil {
		return supplyPlaceBytes
	}
	return len(s.b)
}

// adoption is the task that gives a connection to its loop.
type adoption struct {
	c     *conn
	nc    net.Conn
	first []byte // the handshake's answer
	early []byte // what had been read behind the request: the first frames
}

func (a *adoption) run(l *loop) {
	if l.stopping {
		a.refuse(l)
		return
	}
	c := a.c
	l.place(c)
	sock, err := l.poller.Add(a.nc, c.token())
	if err != nil {
		l.unplace(c)
		a.refuse(l)
		return
	}
	c.sock, c.state, c.seen = sock, connOpen, l.now
	c.queue(a.first, false)
	c.handler.handleOpen(l.now)
	if len(a.early) > 0 {
		c.receive(a.early)
	}
}

func (a *adoption) refuse(l *loop) {
	a.nc.Close()
	l.group.sockets.Add(-1)
}

// remoteAddr is the address of the socket's peer. Only the loop may ask.
func (c *conn) remoteAddr() string { return c.sock.RemoteAddr(c.loop.poller) }

// socketAddr is the peer's address of the socket below nc, whatever TLS and the
// listener have put around it.
func socketAddr(nc net.Conn) string {
	if layer, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = layer.NetConn()
	}
	if base, ok := nc.(interface{ PollBase() *poll.Base }); ok {
		nc = base.PollBase().Conn
	}
	if addr := nc.RemoteAddr(); addr != nil {
		return addr.String()
	}
	return ""
}

func (c *conn) token() uint64 { return uint64(c.generation)<<32 | uint64(c.slot) }

// setDeadline asks for handleDeadline at the tick due, in place of the one that
// was asked for before.
func (c *conn) setDeadline(due uint32) {
	if c.state == connOpen {
		c.loop.wheel.Set(int(c.slot), due)
	}
}

// --- Read machine ---

// partial is what a connection has received of a frame and of a message that are
// not complete. Connections between messages have none.
type partial struct {
	next *partial // in the loop's pool

	head     [maxHeaderBytes]byte // of a header that is not complete
	headLen  int
	inFrame  bool
	header   frameHeader // of the current frame; its mask rotates with the payload
	left     uint64      // bytes of payload still to come
	op       opcode      // of the message; 0: none has begun
	deflated bool        // the message is compressed
	utf8     utf8check.Checker
	message  []byte
	control  [maxControlBytes]byte
	ctlLen   int
}

// receive takes bytes as they come from the socket. It changes b.
func (c *conn) receive(b []byte) {
	c.loop.holder = nil
	for len(b) > 0 && c.state == connOpen && c.loop.holder == nil {
		if c.partial == nil {
			if n := c.receiveWhole(b); n > 0 {
				b = b[n:]
				continue
			}
			if c.state != connOpen {
				return
			}
			c.partial = c.loop.takePartial()
		}
		b = c.receivePart(b)
		if p := c.partial; p != nil && !p.inFrame && p.op == 0 && p.headLen == 0 {
			c.dropPartial()
		}
	}
	if f := c.loop.holder; f != nil && c.state == connOpen {
		c.loop.hold(c, f, b)
	}
}

// receiveWhole handles the frame at the start of b in place if all of it is there
// and it is a message of its own, and returns its size. Otherwise it returns 0.
func (c *conn) receiveWhole(b []byte) int {
	h, n := parseFrameHeader(b)
	if n == 0 {
		return 0
	}
	if e := c.judge(h, 0, 0); e != nil {
		c.close(e)
		return 0
	}
	if !h.fin || h.length > uint64(len(b)-n) {
		return 0
	}
	end := n + int(h.length)
	payload := b[n:end:end]
	maskBytes(payload, h.mask)
	switch {
	case h.op.control():
		c.receiveControl(h.op, payload)
	case h.op == opText && h.rsv == 0 && !utf8.Valid(payload):
		c.close(endText)
	default:
		c.deliver(h.op, h.rsv != 0, payload)
	}
	return end
}

// judge says whether a frame may come now. have is how much of its message has
// come already.
func (c *conn) judge(h frameHeader, message opcode, have int) *ending {
	if e := checkFrameHeader(h, message, c.deflate); e != nil {
		return e
	}
	if !h.op.control() && h.length > uint64(max(int(c.maxMessage)-have, 0)) {
		return endTooBig
	}
	return nil
}

// receivePart takes the next step through b: the header of a frame, then as much
// of its payload as there is. It returns the rest of b.
func (c *conn) receivePart(b []byte) []byte {
	p := c.partial
	if !p.inFrame {
		k := copy(p.head[p.headLen:], b)
		h, n := parseFrameHeader(p.head[:p.headLen+k])
		if n == 0 {
			p.headLen += k
			return b[k:] // k == len(b): 14 bytes always hold a header
		}
		b = b[n-p.headLen:]
		p.headLen = 0
		if e := c.judge(h, p.op, len(p.message)); e != nil {
			c.close(e)
			return nil
		}
		p.begin(h)
	}
	chunk := b[:min(uint64(len(b)), p.left)]
	b = b[len(chunk):]
	p.header.mask = maskBytes(chunk, p.header.mask)
	p.left -= uint64(len(chunk))
	if p.header.op.control() {
		p.ctlLen += copy(p.control[p.ctlLen:], chunk)
	} else {
		if p.op == opText && !p.deflated && !p.utf8.Check(chunk) {
			c.close(endText) // RFC 6455 §8.1, at the first wrong byte
			return nil
		}
		p.message = append(p.message, chunk...)
	}
	if p.left == 0 {
		c.finishFrame(p)
	}
	return b
}

func (p *partial) begin(h frameHeader) {
	p.inFrame, p.header, p.left = true, h, h.length
	switch {
	case h.op.control():
		p.ctlLen = 0
	case h.op != opContinuation:
		p.op, p.deflated = h.op, h.rsv != 0
		p.utf8, p.message = utf8check.Checker{}, p.message[:0]
	}
}

// finishFrame handles a frame whose payload is complete.
func (c *conn) finishFrame(p *partial) {
	p.inFrame = false
	switch {
	case p.header.op.control():
		c.receiveControl(p.header.op, p.control[:p.ctlLen])
	case !p.header.fin:
	case p.op == opText && !p.deflated && !p.utf8.Complete():
		c.close(endText)
	default:
		op := p.op
		p.op = 0
		c.deliver(op, p.deflated, p.message)
	}
}

// deliver hands a complete message to the handler.
func (c *conn) deliver(op opcode, deflated bool, message []byte) {
	if deflated {
		var e *ending
		message, e = c.loop.inflater.inflate(message, int(c.maxMessage))
		if e == nil && op == opText && !utf8.Valid(message) {
			e = endText
		}
		if e != nil {
			c.close(e)
			return
		}
	}
	c.handler.handleMessage(op, message)
}

// receiveControl handles a control frame (RFC 6455 §5.5).
func (c *conn) receiveControl(op opcode, payload []byte) {
	switch op {
	case opPing:
		c.sendPong(payload)
		c.handler.handleControl(op)
	case opPong:
		c.handler.handleControl(op)
	case opClose:
		code, reason, bad := parseClose(payload)
		if bad != nil {
			c.close(bad)
			return
		}
		if code == 1005 {
			code = 1000
		}
		c.finish(endPeerClosed, code, string(reason)) // §5.5.1: the code is echoed; the reason may be
	}
}

func (c *conn) dropPartial() {
	if p := c.partial; p != nil {
		c.partial = nil
		c.loop.givePartial(p)
	}
}

// --- Send queue ---

// send queues the bytes of whole frames, which may be shared with others.
func (c *conn) send(b []byte) {
	if c.state == connOpen {
		c.queue(b, false)
	}
}

// sendFrames queues one text message. Where it is all that the loop was asked to do
// and nothing waits, it is written at once: it would not meet another on its way.
func (c *conn) sendFrames(f *frames) {
	if b := f.forConn(c); c.loop.alone && c.idle() {
		c.sendNow(b, 0)
	} else {
		c.send(b)
	}
}

// idle says that nothing waits to be written.
func (c *conn) idle() bool { return c.state == connOpen && c.head == nil && !c.blocked && !c.failed }

// sendNow writes b, of which n bytes have been taken already, to an idle connection.
func (c *conn) sendNow(b []byte, n int) {
	more, err := c.sock.Write(c.loop.poller, b[n:])
	switch err {
	case nil:
		return
	case poll.ErrAgain:
		c.blocked = true
	default:
		c.fail()
		return
	}
	if n += more; n == len(b) {
		c.touch()
		return
	}
	c.queue(b[n:], false)
	c.head.cut = n > 0
}

// maxTogether is how many connections sendEach takes.
const maxTogether = 16

// sendEach is sendFrames for several connections. They are looked at before any is
// written to: their memory, long out of the processor's caches, is then fetched at the
// same time, and the system calls follow each other with little between them.
func (l *loop) sendEach(conns []*conn, f *frames) {
	var idle [maxTogether]*conn
	var fds, taken [maxTogether]int32
	n := 0
	for _, c := range conns {
		fd, plain := c.sock.Plain()
		if plain && l.alone && c.idle() && !f.deflates(c) {
			idle[n], fds[n] = c, fd
			n++
		} else {
			c.sendFrames(f)
		}
	}
	l.poller.WriteEach(fds[:n], f.plain, taken[:n])
	for i, c := range idle[:n] {
		if n := int(taken[i]); n < len(f.plain) {
			c.sendNow(f.plain, n)
		}
	}
}

// sendText queues a text message for this peer alone. It does not retain message.
func (c *conn) sendText(message []byte) {
	if c.deflate && len(message) >= deflateWorthBytes {
		c.send(c.loop.deflater.appendDeflatedFrame(nil, opText, message))
		return
	}
	c.send(appendFrame(make([]byte, 0, len(message)+10), opText, 0, message))
}

func (c *conn) sendPing() { c.send([]byte{0x80 | byte(opPing), 0}) }

// sendPong answers a ping. While the peer does not read, only its latest ping is
// answered (RFC 6455 §5.5.3).
func (c *conn) sendPong(payload []byte) {
	if c.state != connOpen {
		return
	}
	b := appendFrame(make([]byte, 0, len(payload)+2), opPong, 0, payload)
	if h, l := c.head, c.loop; h != nil && (c.blocked || h.waits()) && h.last.pong && !h.last.cut {
		c.queued += int32(len(b) - len(h.last.b))
		l.waiting += len(b) - len(h.last.b)
		h.last.b = b
		return
	}
	c.queue(b, true)
}

// queue puts bytes behind those that wait, or notes that too many do.
func (c *conn) queue(b []byte, pong bool) {
	if c.overflowed || c.failed {
		return
	}
	if c.queued > maxQueueBytes {
		c.overflowed = true // closed at the end of the turn: somebody may be walking through a list with c in it
		c.touch()
		return
	}
	c.enqueue(b, pong)
}

func (c *conn) enqueue(b []byte, pong bool) {
	s := c.loop.takeSegment()
	s.b, s.pong = b, pong
	c.append(s)
	if c.queued > maxQueueBytes/4 && !c.blocked {
		c.write()
	}
}

func (c *conn) append(s *segment) {
	c.touch()
	if c.head == nil {
		c.head = s
	} else {
		c.head.last.next = s
	}
	c.head.last = s
	c.count(s.weight())
}

// count adds to what the queue weighs.
func (c *conn) count(n int) {
	c.queued += int32(n)
	c.loop.waiting += n
}

// queueSupply keeps a place in the queue for what from will supply. It returns nil, and
// calls nobody, when nothing more is queued.
func (c *conn) queueSupply(from supplier) *segment {
	if c.state != connOpen || c.failed || c.overflowed {
		return nil
	}
	if c.queued > maxQueueBytes {
		c.overflowed = true
		c.touch()
		return nil
	}
	s := c.loop.takeSegment()
	s.from = from
	c.append(s)
	return s
}

// supply gives s, a place in c's queue, its bytes, which may be none, and puts more
// behind them.
func (c *conn) supply(s *segment, b, more []byte) {
	s.b, s.supplied = b, true
	c.touch()
	if more == nil {
		return
	}
	behind := c.loop.takeSegment()
	behind.b, behind.next = more, s.next
	if s.next = behind; c.head.last == s {
		c.head.last = behind
	}
	c.count(behind.weight())
}

// ready says whether the head of the queue can be written now. Where it is still to be
// supplied, its supplier is told; where the turn has had its share of such bytes, it is
// written in the next.
func (c *conn) ready() bool {
	for c.head != nil && c.head.supplied && len(c.head.b) == 0 {
		c.dropHead()
	}
	h := c.head
	switch {
	case h == nil:
		return false
	case h.waits():
		if !h.asked && !c.blocked {
			h.asked = true
			h.from.wanted()
		}
		return false
	case h.from != nil && c.loop.supplied >= supplyTurnBytes:
		if !h.deferred {
			h.deferred = true
			c.loop.postpone(c)
		}
		return false
	}
	return true
}

// touch sees to it that c is flushed at the end of the turn.
func (c *conn) touch() {
	if c.dirty {
		return
	}
	c.dirty = true
	if l := c.loop; l.delivering {
		l.later = append(l.later, c)
	} else {
		l.dirty = append(l.dirty, c)
	}
}

// write gives the socket what is queued until it takes no more, or fails. Short
// segments go out together.
func (c *conn) write() {
	if err := c.tryWrite(); err != nil {
		c.fail()
	}
}

func (c *conn) tryWrite() error {
	l := c.loop
	for ready := c.ready(); ready || c.blocked; ready = c.ready() {
		b := []byte(nil)
		if ready {
			b = c.head.b
			if next := c.head.next; next != nil && !next.waits() && len(b)+len(next.b) <= len(l.out) {
				b = c.gather(l.out)
			}
		}
		n, err := c.sock.Write(l.poller, b)
		if ready && c.head.from != nil {
			l.supplied += n
		}
		c.written(n)
		if err == poll.ErrAgain {
			c.blocked = true
			return c.sock.WantWrite(l.poller, c.token(), true)
		}
		if err != nil {
			return err
		}
		if c.blocked && !ready {
			c.blocked = false
			if err := c.sock.WantWrite(l.poller, c.token(), false); err != nil {
				return err
			}
		}
	}
	return nil
}

// fail notes that nothing more can be written. The connection is not freed before the
// end of the turn: the caller may be walking through a list with c in it. Until then a
// delivery to c costs nothing: trying again for each of 20,000 small events that waited
// took seconds for each connection.
func (c *conn) fail() {
	c.failed, c.blocked = true, false
	c.dropQueue()
	c.touch()
}

// gather copies as many whole segments as fit into buf.
func (c *conn) gather(buf []byte) []byte {
	n := 0
	for s := c.head; s != nil && !s.waits() && n+len(s.b) <= len(buf); s = s.next {
		n += copy(buf[n:], s.b)
	}
	return buf[:n]
}

// written takes n bytes off the front of the queue.
func (c *conn) written(n int) {
	for n > 0 {
		s := c.head
		if n < len(s.b) {
			if s.b, s.cut = s.b[n:], true; s.from == nil {
				c.count(-n)
			}
			return
		}
		n -= len(s.b)
		c.dropHead()
	}
}

func (c *conn) dropHead() {
	s := c.head
	if c.head = s.next; c.head != nil {
		c.head.last = s.last
	}
	c.drop(s)
}

// drop gives up a segment that has been taken out of the queue.
func (c *conn) drop(s *segment) {
	c.count(-s.weight())
	from := s.from
	c.loop.giveSegment(s)
	if from != nil {
		from.dropped()
	}
}

// dropQueue takes everything off the queue.
func (c *conn) dropQueue() {
	for c.head != nil {
		c.dropHead()
	}
}

// dropUnsent takes everything off the queue except the frame whose beginning has
// been written.
func (c *conn) dropUnsent() {
	keep := c.head
	if keep == nil || !keep.cut {
		c.dropQueue()
		return
	}
	rest := keep.next
	keep.next, keep.last = nil, keep
	for rest != nil {
		s := rest
		rest = s.next
		c.drop(s)
	}
}

// --- Closing (RFC 6455 §7) ---

// close starts the closing handshake: what is queued goes out, then a close frame,
// then our half of the connection ends. The connection is freed when the peer has
// ended its half, or after closeTimeout.
func (c *conn) close(e *ending) { c.finish(e, e.code, e.reason) }

func (c *conn) finish(e *ending, code uint16, reason string) {
	if c.state != connOpen {
		return
	}
	c.handler.handleClosed(e)
	if c.overflowed {
		c.dropUnsent()
		c.overflowed = false
	}
	if code != 0 && !c.failed {
		c.enqueue(appendCloseFrame(nil, code, reason), false) // past any bound: it comes once
	}
	c.state = connClosing
	c.dropPartial()
	c.loop.wheel.Set(int(c.slot), c.loop.now+closeTimeout)
	c.touch()
}

// shed closes a connection for which much waits, and drops what does.
func (c *conn) shed(e *ending) {
	if c.state == connOpen {
		c.overflowed = true
		c.close(e)
	}
}

// flush ends the connection's turn: everything that was queued during it is
// written at once.
func (c *conn) flush() {
	defer func() { c.dirty = false }() // not before: what is queued here goes out here
	if c.state == connClosed {
		return
	}
	if c.overflowed && c.state == connOpen {
		c.close(endSlow)
	}
	full := c.blocked && !c.writable && c.sock.WantsWrite() // and will say when it is not
	c.writable = false
	if (c.head != nil || c.blocked) && !full {
		c.write()
	}
	if c.failed {
		c.free(endWriteFailed)
		return
	}
	if c.state == connClosing && c.head == nil && !c.blocked && !c.writeClosed {
		c.writeClosed = true
		if err := c.sock.CloseWrite(c.loop.poller); err != nil {
			c.free(endPeerGone)
		}
	}
}

// free gives up the connection at once.
func (c *conn) free(e *ending) {
	if c.state == connClosed {
		return
	}
	if c.state == connOpen {
		c.state = connClosing
		c.handler.handleClosed(e)
	}
	c.state = connClosed
	c.dropPartial()
	c.dropQueue()
	l := c.loop
	l.unplace(c)
	c.sock.Close(l.poller) // nothing is left to be told to anybody
	l.group.sockets.Add(-1)
}

// --- Loop ---

// task is something that a loop is asked to do by others.
type task interface{ run(l *loop) }

// loop owns connections: only its goroutine touches them.
type loop struct {
	// constant after newLoops
	group  *loops
	index  int
	poller *poll.Poller

	// owned by the loop
	now      uint32 // ticks since loops.began
	wheel    *wheel.Wheel
	conns    []*conn  // by slot
	vacant   []uint32 // slots
	next     uint32   // generation of the next connection
	open     int
	dirty    []*conn // have something to write or to finish this turn
	later    []*conn // the same, by a fan-out; they may take several turns
	flushed  int     // of later
	in, out  []byte  // loopBufferBytes each
	segments *segment
	partials *partial
	spareSeg int
	sparePar int
	inflater inflater
	deflater deflater
	stopping bool
	drainEnd time.Time // when the last connection is told
	drainPos int       // slots before it have been told
	drainGo  int       // fan-outs to complete before the first is told
	tasks    []task    // taken from the inbox
	flows    []*flow   // have deliveries that wait, in the order of their turns
	fanouts  int       // deliveries in all flows
	alone    bool      // the delivery that is made is the only one
	holding  []*flow   // somebody is held by them
	holder   *flow     // wants to hold whom the message came from that is handled
	skipped  int       // events of this turn that told of somebody who is held
	readSize int       // for each that can be read this turn

	delivering bool          // what is touched belongs to later
	waiting    int           // bytes in the send queues of all connections
	links      int           // segments of these queues
	supplied   int           // bytes that suppliers gave and this turn has written
	deferred   []*conn       // that wait for the next turn because of it
	begun      []time.Time   // of what this turn has done and is to be measured
	longest    time.Duration // turn that ended in lagTick
	before     time.Duration // and in the tick before

	// guarded by mu
	mu      sync.Mutex
	inbox   []task
	ended   bool         // nobody looks into inbox any more
	backlog atomic.Int64 // bytes of messages in inbox, tasks and flows; written without mu
	owed    atomic.Int64 // deliveries of these messages; written without mu
	linked  atomic.Int64 // segments in send queues, see note

	// written by the loop, read by everybody
	queued  atomic.Int64 // bytes that wait for peers
	turn    atomic.Int64 // nanoseconds from loops.began to the beginning of the turn that runs; 0: none runs
	lagged  atomic.Int64 // nanoseconds: the longest turn that ended in lagTick or the tick before
	lagTick atomic.Uint32
	latency metrics.Histogram // of what was given to measure
}

// post asks the loop to run t after everything that was posted before. It returns
// false when the loop has ended.
func (l *loop) post(t task) bool {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return false
	}
	l.inbox = append(l.inbox, t)
	first := len(l.inbox) == 1
	l.mu.Unlock()
	if first {
		l.poller.Wake()
	}
	return true
}

// run serves until the group is stopped and every connection is gone.
func (l *loop) run() {
	events := make([]poll.Event, 512)
	for {
		n, err := l.poller.Wait(events, l.timeout())
		if err != nil {
			panic("internal error: poller: " + err.Error()) // our own descriptor is broken
		}
		now := time.Now()
		l.turn.Store(max(int64(now.Sub(l.group.began)), 1))
		l.now = l.group.tick(now)
		l.runTasks()
		l.deliver(now)
		l.readSize = min(max(turnReadBytes/max(n, 1), minReadBytes), len(l.in))
		if len(l.holding) > 0 { // or each that is held next would keep as much
			l.readSize = min(l.readSize, heldReadBytes)
		}
		for _, ev := range events[:n] {
			l.handleEvent(ev)
		}
		l.release()
		l.wheel.Advance(l.now, l.expire)
		if l.stopping && l.drainGo <= 0 {
			l.drain(now)
		}
		l.flush()
		l.endTurn(now)
		if n > 0 && l.skipped == n && !l.pending() { // or what is not read would keep the loop from waiting
			time.Sleep(time.Millisecond)
		}
		l.skipped = 0
		if l.stopping && (l.open == 0 || now.After(l.drainEnd.Add((closeTimeout+1)*time.Second))) {
			l.finish()
			return
		}
	}
}

// postpone has c written in the next turn.
func (l *loop) postpone(c *conn) {
	if l.deferred = append(l.deferred, c); len(l.deferred) == 1 {
		l.post(deferredTask{})
	}
}

// deferredTask lets those write that the turn before had no share left for.
type deferredTask struct{}

func (deferredTask) run(l *loop) {
	for i, c := range l.deferred {
		if l.deferred[i] = nil; c.state != connClosed && c.head != nil {
			c.head.deferred = false
			c.touch()
		}
	}
	l.deferred = l.deferred[:0]
}

// maxMeasured is how many deliveries are measured that end in the same turn.
const maxMeasured = 1024

// measure asks for the time from begun to the end of the turn in which everything has
// been written to be counted.
func (l *loop) measure(begun time.Time) {
	if len(l.begun) < maxMeasured {
		l.begun = append(l.begun, begun)
	}
}

// endTurn publishes what the turn that began at start has cost.
func (l *loop) endTurn(start time.Time) {
	end := time.Now()
	if len(l.later) == 0 {
		for _, begun := range l.begun {
			l.latency.Observe(end.Sub(begun))
		}
		l.begun = l.begun[:0]
	}
	l.supplied = 0
	if tick, last := l.group.tick(end), l.lagTick.Load(); tick != last {
		if l.before = 0; tick-last == 1 {
			l.before = l.longest
		}
		l.longest = 0
		l.lagTick.Store(tick)
	}
	l.longest = max(l.longest, end.Sub(start))
	if lagged := int64(max(l.longest, l.before)); lagged != l.lagged.Load() {
		l.lagged.Store(lagged)
	}
	l.turn.Store(0)
	l.queued.Store(int64(l.waiting))
	l.note()
	if l.open == 0 && cap(l.conns) > 4096 {
		l.conns, l.vacant, l.wheel = nil, nil, wheel.New(l.now) // what so many connections needed
	}
}

// note publishes how many segments wait for peers.
func (l *loop) note() { l.linked.Store(int64(l.links)) }

// lag is the longest turn of the last second or two; the turn that runs counts with
// the time that it has taken so far. Everybody may ask.
func (l *loop) lag(now time.Time) time.Duration {
	running := time.Duration(0)
	if turn := l.turn.Load(); turn != 0 {
		running = now.Sub(l.group.began) - time.Duration(turn)
	}
	if int32(l.group.tick(now)-l.lagTick.Load()) > 1 { // no turn has ended since
		return max(running, 0)
	}
	return max(running, time.Duration(l.lagged.Load()))
}

// timeout is how long the loop may sleep: until the next deadline or, while
// connections are told one by one that the server stops, a moment.
func (l *loop) timeout() time.Duration {
	if l.pending() {
		return 0
	}
	if len(l.holding) > 0 {
		return time.Millisecond // another loop may have made room
	}
	if l.stopping {
		return 20 * time.Millisecond
	}
	ticks, ok := l.wheel.Next()
	if !ok {
		return -1
	}
	at := l.group.began.Add(time.Duration(l.now+ticks) * time.Second)
	return max(time.Until(at), time.Millisecond)
}

func (l *loop) runTasks() {
	l.mu.Lock()
	l.inbox, l.tasks = l.tasks[:0], l.inbox
	l.mu.Unlock()
	for i, t := range l.tasks {
		t.run(l)
		l.tasks[i] = nil
	}
	if cap(l.tasks) > 4096 {
		l.tasks = nil // after a burst: most turns have a handful
	}
}

func (l *loop) handleEvent(ev poll.Event) {
	c := l.find(ev.Token)
	if c == nil {
		return
	}
	if ev.Writable {
		c.writable = true
		c.touch()
	}
	switch {
	case ev.Readable && c.held && c.state == connOpen:
		l.skipped++ // it stays readable, and is not forgotten
	case ev.Readable:
		l.read(c)
	}
}

// read takes what one read gives; the rest is taken next turn, after the others.
func (l *loop) read(c *conn) {
	if c.held && c.state == connOpen {
		return
	}
	n, err := c.sock.Read(l.poller, l.in[:l.readSize])
	if n > 0 {
		c.seen = l.now
		c.receive(l.in[:n])
	}
	switch {
	case err == nil, errors.Is(err, poll.ErrAgain):
	default:
		c.free(endPeerGone)
	}
}

func (l *loop) expire(slot int) {
	c := l.conns[slot]
	if c.state == connClosing {
		c.free(endPeerGone)
		return
	}
	if c.held {
		c.seen = l.now // it is not the peer that is silent
	}
	c.handler.handleDeadline(l.now)
}

// drain tells its share of the connections that the server stops.
func (l *loop) drain(now time.Time) {
	share := len(l.conns)
	if left := l.drainEnd.Sub(now); left > 0 {
		share -= int(float64(len(l.conns)) * float64(left) / float64(l.group.drainTime))
	}
	for ; l.drainPos < share; l.drainPos++ {
		if c := l.conns[l.drainPos]; c != nil && c.state == connOpen {
			c.handler.handleDrain()
		}
	}
}

// stopTask makes a loop end.
type stopTask struct{ at time.Time }

func (s stopTask) run(l *loop) { l.stopping, l.drainEnd, l.drainGo = true, s.at, l.fanouts }

func (l *loop) finish() {
	for _, c := range l.conns {
		if c != nil {
			c.free(endStopped)
		}
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.runTasks() // what has come since the turn began; connections among it are closed
	for l.pending() {
		l.deliver(time.Now()) // to nobody; whoever counts them is told
		l.flush()
	}
}

// place gives c a slot, and with it a token.
func (l *loop) place(c *conn) {
	if n := len(l.vacant); n > 0 {
		c.slot, l.vacant = l.vacant[n-1], l.vacant[:n-1]
	} else {
		c.slot = uint32(len(l.conns))
		l.conns = append(l.conns, nil)
	}
	l.next++
	c.loop, c.generation = l, l.next
	l.conns[c.slot] = c
	l.open++
}

func (l *loop) unplace(c *conn) {
	l.wheel.Remove(int(c.slot))
	l.conns[c.slot] = nil
	l.vacant = append(l.vacant, c.slot)
	l.open--
}

// find returns the connection that token names, or nil when it is gone.
func (l *loop) find(token uint64) *conn {
	slot := uint32(token)
	if int(slot) >= len(l.conns) {
		return nil
	}
	if c := l.conns[slot]; c != nil && c.token() == token {
		return c
	}
	return nil
}

func (l *loop) takeSegment() *segment {
	l.links++
	s := l.segments
	if s == nil {
		return new(segment)
	}
	l.segments, s.next = s.next, nil
	l.spareSeg--
	return s
}

func (l *loop) giveSegment(s *segment) {
	*s = segment{}
	l.links--
	if l.spareSeg < 4*maxSpare {
		s.next, l.segments = l.segments, s
		l.spareSeg++
	}
}

func (l *loop) takePartial() *partial {
	p := l.partials
	if p == nil {
		return new(partial)
	}
	l.partials, p.next = p.next, nil
	l.sparePar--
	return p
}

func (l *loop) givePartial(p *partial) {
	message := p.message[:0]
	if cap(message) > keepMessageBytes {
		message = nil
	}
	*p = partial{message: message}
	if l.sparePar < maxSpare {
		p.next, l.partials = l.partials, p
		l.sparePar++
	}
}

// --- Flows ---

// delivery is a task that may be too long for one turn: a message to very many.
type delivery interface {
	// deliver goes on with about n connections (at least 1), tells how many it has been,
	// and whether that was all.
	deliver(l *loop, n int) (used int, done bool)
}

// flow is what one source of messages has to be delivered to the connections of one
// loop, in order. What a source is the protocol above decides: flows have their turns
// one after the other, so none waits for all that another has. It is owned by the loop.
type flow struct {
	full  func() bool // as much waits as may; constant; asked by the loop
	queue []delivery
	first int        // in queue
	held  []heldConn // in the order in which they are read again
	swept uint32     // tick
}

// heldConn is a connection of which nothing is read while its flow is full, with what
// had been read already.
type heldConn struct {
	c    *conn
	rest []byte
}

// enqueue puts a delivery behind those that wait in f.
func (l *loop) enqueue(f *flow, d delivery) {
	if f.first == len(f.queue) {
		l.flows = append(l.flows, f)
	}
	if f.first > 0 && len(f.queue) == cap(f.queue) && f.first >= len(f.queue)/2 {
		n := copy(f.queue, f.queue[f.first:])
		clear(f.queue[n:])
		f.queue, f.first = f.queue[:n], 0
	}
	f.queue = append(f.queue, d)
	l.fanouts++
}

// pending says that the loop has deliveries or writes to go on with.
func (l *loop) pending() bool { return l.fanouts > 0 || len(l.later) > 0 }

// deliver gives the flows their turns until turnDeliverTime has passed since begun. It
// waits until what was queued the last time has been written: then everything that
// waits for a connection goes out together.
func (l *loop) deliver(begun time.Time) {
	if l.fanouts == 0 || len(l.later) > 0 {
		return
	}
	for len(l.flows) > 0 {
		l.serveNext(flowShare)
		if l.fanouts > 0 && time.Since(begun) > turnDeliverTime {
			break
		}
	}
}

// serveNext gives the flow whose turn it is its share of deliveries.
func (l *loop) serveNext(share int) {
	const each = 4 // a delivery counts for so many more, however few it is for
	f := l.flows[0]
	l.alone, l.delivering = l.fanouts == 1, true
	for share > 0 && f.first < len(f.queue) {
		used, done := f.queue[f.first].deliver(l, share)
		share -= used + each
		if done {
			f.queue[f.first] = nil
			f.first++
			l.fanouts--
			l.drainGo--
		}
	}
	l.alone, l.delivering = false, false
	rest := l.flows[:copy(l.flows, l.flows[1:])]
	if f.first < len(f.queue) {
		l.flows = append(rest, f)
		return
	}
	l.flows[len(rest)], l.flows = nil, rest
	if f.queue, f.first = f.queue[:0], 0; cap(f.queue) > 4096 {
		f.queue = nil // after a burst
	}
}

// flush ends the turn of everybody who was touched. Where a fan-out has touched very
// many, the next turns go on with it.
func (l *loop) flush() {
	l.flushDirty()
	if len(l.later) == 0 {
		return
	}
	const some = 4 // between looks at the clock
	for begun := time.Now(); l.flushed < len(l.later); {
		l.later[l.flushed].flush()
		if l.flushed++; l.flushed%some == 0 && time.Since(begun) > turnDeliverTime {
			break
		}
	}
	if l.flushed == len(l.later) {
		clear(l.later)
		l.later, l.flushed = l.later[:0], 0
	}
	l.flushDirty() // whom these endings have touched
}

func (l *loop) flushDirty() {
	for i := 0; i < len(l.dirty); i++ {
		l.dirty[i].flush()
	}
	clear(l.dirty)
	l.dirty = l.dirty[:0]
}

// hold sees to it that nothing more is read of c until f has room. rest is what was
// read already; it is copied.
func (l *loop) hold(c *conn, f *flow, rest []byte) {
	if len(f.held) == 0 {
		l.holding = append(l.holding, f)
	}
	c.held = true
	f.held = append(f.held, heldConn{c, bytes.Clone(rest)})
}

// release reads those again whose flows have room, one by one until they have none.
func (l *loop) release() {
	if len(l.holding) == 0 {
		return
	}
	begun := time.Now()
	for _, f := range l.holding {
		if f.swept != l.now { // those who are gone are forgotten once a second
			f.swept = l.now
			f.held = slices.DeleteFunc(f.held, func(h heldConn) bool { return h.c.state == connClosed })
		}
		next := 0
		for next < len(f.held) && !f.full() && (next == 0 || time.Since(begun) < turnDeliverTime) {
			h := f.held[next]
			f.held[next] = heldConn{}
			next++
			if h.c.held = false; h.c.state == connOpen {
				h.c.seen = l.now
				h.c.receive(h.rest)
			}
		}
		f.held = slices.Delete(f.held, 0, next)
		if len(f.held) == 0 && cap(f.held) > 64 {
			f.held = nil
		}
	}
	l.holding = slices.DeleteFunc(l.holding, func(f *flow) bool { return len(f.held) == 0 })
}

// --- Loops ---

// loops is the set of event loops. sockets counts the connections that they have
// been given and have not freed, together with those that the listener has not
// handed over yet: it belongs to whoever made it.
type loops struct {
	all       []*loop
	began     time.Time
	sockets   counter
	nextLoop  atomic.Uint32
	drainTime time.Duration // constant once stop was called
	claim     atomic.Int64  // what claimed may come to; 0: no limit
	running   sync.WaitGroup
}

// counter counts what several goroutines take and free.
type counter interface {
	Add(delta int64) int64
	Load() int64
}

func newLoops(n int, sockets counter, newPoller func() (*poll.Poller, error)) (*loops, error) {
	ls := &loops{began: time.Now(), sockets: sockets}
	for i := range n {
		p, err := newPoller()
		if err != nil {
			return nil, err
		}
		ls.all = append(ls.all, &loop{
			group: ls, index: i, poller: p, wheel: wheel.New(0),
			in: make([]byte, loopBufferBytes), out: make([]byte, loopBufferBytes), readSize: loopBufferBytes,
		})
	}
	return ls, nil
}

func (ls *loops) start() {
	for _, l := range ls.all {
		ls.running.Go(l.run)
	}
}

// tick converts a time into ticks since the loops were made.
func (ls *loops) tick(now time.Time) uint32 { return uint32(now.Sub(ls.began) / time.Second) }

// adopt gives a connection to the loop whose turn it is. first is written before
// anything else, early is read before anything else. c and nc belong to the loop
// from now on.
func (ls *loops) adopt(c *conn, nc net.Conn, first, early []byte) {
	l := ls.all[ls.nextLoop.Add(1)%uint32(len(ls.all))]
	if a := (&adoption{c, nc, first, early}); !l.post(a) {
		a.refuse(l)
	}
}

// lag is that of the loop that is the furthest behind, see loop.lag.
func (ls *loops) lag(now time.Time) (longest time.Duration) {
	for _, l := range ls.all {
		longest = max(longest, l.lag(now))
	}
	return longest
}

// overloaded says that a loop is far behind with what it was given to deliver.
func (ls *loops) overloaded() bool {
	for _, l := range ls.all {
		if l.backlog.Load() > maxBacklogBytes {
			return true
		}
	}
	return false
}

// queueMemory is what the send queues take, as of the last turns. Bytes that are shared
// count for each connection.
func (ls *loops) queueMemory() (n int64) {
	for _, l := range ls.all {
		n += l.queued.Load() + l.linked.Load()*segmentBytes
	}
	return n
}

// claimed is what the events that wait take, and will take if nobody reads them: a
// segment for each delivery, and bytes that all share.
func (ls *loops) claimed() (n int64) {
	for _, l := range ls.all {
		n += (l.owed.Load()+l.linked.Load())*segmentBytes + l.backlog.Load()
	}
	return n
}

// leastRoom is what events may take between two looks at the memory however little there
// is, in bytes: an app that is not held goes on.
const leastRoom = 1 << 20

// setRoom says how many bytes more the events that wait may take until the next look.
func (ls *loops) setRoom(claimed, room int64) { ls.claim.Store(claimed + max(room, leastRoom)) }

// crowded says that the events that wait may take more memory than there is, if their
// receivers do not read: nothing is published until the loops or the next look at the
// memory know better.
func (ls *loops) crowded() bool {
	most := ls.claim.Load()
	return most > 0 && ls.claimed() > most
}

// stop tells every connection, spread over drainTime, that the server stops, and
// returns when all are gone. It is called once.
func (ls *loops) stop(drainTime time.Duration) {
	ls.drainTime = max(drainTime, time.Millisecond)
	at := time.Now().Add(ls.drainTime)
	for _, l := range ls.all {
		l.post(stopTask{at})
	}
	ls.running.Wait()
	for _, l := range ls.all {
		l.poller.Close()
	}
}
