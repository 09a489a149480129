package main

// The WebSocket protocol, server side: all of RFC 6455, and RFC 7692 (compression). Leaves below
// internal/lib have the opening handshake, the payload of close frames, compression, the send
// queue, the turns of flows, and the connections that are held: handshake, closeframe, deflate,
// outqueue, turns, held. This file does not know what the messages mean.
//
// Sections:
//
//	Endings             every way a connection ends
//	Frame header        RFC 6455 §5.2: parse, check, append
//	Messages            encoded once for all receivers
//	Connection          what a loop knows of one peer
//	Read machine        bytes to messages
//	Send queue          messages to bytes; the queue itself is internal/lib/outqueue
//	Closing             the closing handshake and what follows it
//	Loop                one goroutine, many connections
//	Handing over        connections as plain data, for another process and from one
//	Flows               sending that takes several turns; senders that are not read meanwhile
//	Loops               all loops, and their figures
//
// The server refuses unmasked frames, reserved bits and opcodes, lengths that are not minimal,
// fragmented or long control frames, text that is not UTF-8 (when its first wrong byte arrives),
// messages over the limit (when a header says so), and invalid close codes.

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"reverb/internal/admin"
	"reverb/internal/handover"
	"reverb/internal/lib/closeframe"
	"reverb/internal/lib/deflate"
	"reverb/internal/lib/held"
	"reverb/internal/lib/inbox"
	"reverb/internal/lib/lag"
	"reverb/internal/lib/load"
	"reverb/internal/lib/mask"
	"reverb/internal/lib/outqueue"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/settle"
	"reverb/internal/lib/slots"
	"reverb/internal/lib/spread"
	"reverb/internal/lib/turns"
	"reverb/internal/lib/utf8check"
	"reverb/internal/lib/wheel"
	"reverb/internal/relay"
)

const (
	// maxQueueBytes bounds what waits for a peer that does not read. One message may go over it;
	// the next one closes the connection. Larger: slow peers take more memory. Smaller: peers with
	// short outages are closed.
	maxQueueBytes = 1 << 20
	// closeTimeout is how many ticks a peer gets to take what is queued for it, to answer the close
	// frame and to hang up. Larger: dead peers keep descriptors. Smaller: slow peers miss the end.
	closeTimeout = 3
	lastWait     = (closeTimeout + 1) * time.Second // after the last connection was told of a stop
	// loopBufferBytes bounds one read, and short slices that are written together. Larger: more
	// memory for each loop. Smaller: more system calls.
	loopBufferBytes = 64 << 10
	// keepMessageBytes bounds a pooled buffer. Larger: the pool keeps more memory. Smaller: large
	// messages allocate.
	keepMessageBytes = 16 << 10
	// maxSpare and maxSpareLinks bound the unused partials, and the unused links of send queues,
	// that a loop keeps. Larger: more memory after a burst. Smaller: bursts allocate.
	maxSpare      = 256
	maxSpareLinks = 1024
	// deflateWorthBytes is the length from which messages are compressed. Larger: more traffic.
	// Smaller: more work that saves little.
	deflateWorthBytes = 256

	// The shares of a turn of a loop bound each kind of work before the next one. New connections
	// and tasks are always served. Larger shares: the others wait longer. Smaller ones: more turns,
	// and more system calls.
	turnReadBytes   = 256 << 10            // from all connections together
	minReadBytes    = 1 << 10              // but from each connection at least this
	turnDeliverTime = 4 * time.Millisecond // for fan-out, and again for writing what it has queued
	flowShare       = 256                  // deliveries of one flow before those of the next
	heldReadBytes   = 4 << 10              // from each connection while a flow holds connections
)

// --- Endings ---

// ending is a way in which a connection ends. Endings are compared by address. Each has one
// variable, here or in the protocol above, and newEnding makes it.
type ending struct {
	code   uint16 // close code (RFC 6455 §7.4.1); 0: no close frame is sent
	reason string // close reason, at most 123 bytes
	word   string // for logs and metric labels
}

// endings lists every ending. It is complete once the variables of the package are initialized.
// Then it never changes.
var endings []*ending

// newEnding makes an ending and adds it to endings.
func newEnding(code uint16, reason, word string) *ending {
	e := &ending{code, reason, word}
	endings = append(endings, e)
	return e
}

var (
	endPeerClosed = newEnding(0, "", "peer_closed") // close frame received; its code is echoed
	// the connection ended or was reset without a close frame
	endPeerGone    = newEnding(0, "", "peer_gone")
	endWriteFailed = newEnding(0, "", "write_failed")
	endStopped     = newEnding(1001, "Server stopped", "stopped")
	endReserved    = newEnding(1002, "Reserved bit or opcode", "protocol_error")
	endUnmasked    = newEnding(1002, "Client frames must be masked", "protocol_error")
	endLength      = newEnding(1002, "Length not in its shortest form", "protocol_error")
	endControl     = newEnding(1002, "Control frames are short and whole", "protocol_error")
	endFragment    = newEnding(1002, "Fragments out of order", "protocol_error")
	endCloseFrame  = newEnding(1002, "Invalid close frame", "protocol_error")
	endText        = newEnding(1007, "Text is not UTF-8", "invalid_text")
	endDeflate     = newEnding(1007, "Compressed data is broken", "invalid_deflate")
	endTooBig      = newEnding(1009, "Maximum message size exceeded", "too_big")
	endSlow        = newEnding(1013, "Too slow: more than 1048576 bytes wait to be read",
		"slow_consumer")
	endMemory = newEnding(1013, "The server is short of memory, and much waits here to be read",
		"memory")
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
	maxHeaderBytes  = 14  // RFC 6455 §5.2: two, a length of eight, a mask of four
	maxControlBytes = 125 // RFC 6455 §5.5
	rsv1            = 4   // of frameHeader.rsv: RSV1, "compressed" with RFC 7692
)

// frameHeader is a decoded header. extended is the size of the extended length field: 0, 2 or 8
// bytes.
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
// n is the size of the header in bytes, 2 to 14. n == 0 means that b ends inside the header: read
// more and call again with the same bytes. The header is decoded, not judged; see checkFrameHeader.
// parseFrameHeader does not retain b and does not allocate.
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

// checkFrameHeader judges a header that a client sent. message is the opcode of the message that is
// being assembled, or 0. deflate says that RSV1 was negotiated. The result is nil, or the ending of
// the connection.
func checkFrameHeader(h frameHeader, message opcode, deflate bool) *ending {
	switch {
	case h.rsv&^rsv1 != 0, h.op > opPong, h.op > opBinary && h.op < opClose:
		return endReserved // §5.2
	case h.rsv != 0 && (!deflate || h.op.control() || h.op == opContinuation):
		return endReserved // RFC 7692 §6.1: only the first frame of a message
	case !h.masked:
		return endUnmasked // §5.1
	case h.extended == 2 && h.length < 126, h.extended == 8 && h.length <= 0xffff,
		h.length>>63 != 0:
		return endLength // §5.2: minimal, and the most significant bit is 0
	case h.op.control() && (!h.fin || h.length > maxControlBytes):
		return endControl // §5.5
	case h.op == opContinuation && message == 0,
		!h.op.control() && h.op != opContinuation && message != 0:
		return endFragment // §5.4
	}
	return nil
}

// appendFrameHeader appends the header h. It writes the length in the shortest form, whatever
// h.extended says.
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

// appendCloseFrame appends a close frame (RFC 6455 §5.5.1).
func appendCloseFrame(b []byte, code uint16, reason string) []byte {
	var room [maxControlBytes]byte
	return appendFrame(b, opClose, 0, closeframe.Append(room[:0], code, reason))
}

// --- Messages ---

// appendCompressed appends message as one compressed frame (RFC 7692 §7), or as a plain frame if
// that is shorter.
func appendCompressed(b []byte, w *deflate.Writer, op opcode, message []byte) []byte {
	if payload, smaller := w.Deflate(message); smaller {
		return appendFrame(b, op, rsv1, payload)
	}
	return appendFrame(b, op, 0, message)
}

// encodedText is one text message, encoded once for all receivers: as a plain frame, and as a
// compressed frame when a receiver needs it. The bytes are shared and never change.
type encodedText struct {
	plain    []byte
	once     sync.Once
	deflated []byte // made when the first receiver needs it
}

// encodeText encodes a text message. It does not retain message.
func encodeText(message []byte) *encodedText {
	return &encodedText{plain: endFrame(append(beginFrame(len(message)), message...))}
}

const frameRoom = 10 // bytes of the largest header that the server sends

// beginFrame returns a buffer. The caller appends a text message of about size bytes to it.
func beginFrame(size int) []byte { return make([]byte, frameRoom, frameRoom+size) }

// endFrame returns the frame around the message in a buffer of beginFrame.
func endFrame(b []byte) []byte {
	var header [frameRoom]byte
	length := uint64(len(b) - frameRoom)
	h := appendFrameHeader(header[:0], frameHeader{fin: true, op: opText, length: length})
	return b[frameRoom-copy(b[frameRoom-len(h):], h):]
}

// payload is the message itself.
func (f *encodedText) payload() []byte {
	_, n := parseFrameHeader(f.plain)
	return f.plain[n:]
}

// deflates says whether c gets the compressed frame.
func (f *encodedText) deflates(c *conn) bool {
	return c.deflate && len(f.plain) >= deflateWorthBytes
}

// forConn is the frame that c gets.
func (f *encodedText) forConn(c *conn) []byte {
	if f.deflates(c) {
		return f.compressed(&c.loop.deflater)
	}
	return f.plain
}

func (f *encodedText) compressed(w *deflate.Writer) []byte {
	f.once.Do(func() { f.deflated = appendCompressed(nil, w, opText, f.payload()) })
	return f.deflated
}

// --- Connection ---

// handler gets the events of a connection. The connection's loop calls every method. now counts
// ticks (seconds) since the loops were made.
type handler interface {
	handleOpen(now uint32)
	handleMessage(op opcode, message []byte) // message is valid during the call only
	handleControl(op opcode)                 // a ping or a pong came; a ping is answered already
	handleDeadline(now uint32)               // the deadline of setDeadline has come
	handleDrain()                            // the server stops: say goodbye and close
	handleClosed(e *ending)                  // exactly once, before the close frame is sent
}

type connState uint8

const (
	connNew connState = iota
	connOpen
	connClosing // the close frame is queued; bytes that still arrive are dropped
	connClosed
)

// conn is one WebSocket connection. There are very many, so each field is as small as possible,
// without gaps. The fields that a delivery touches stand first.
type conn struct {
	// owned by the loop
	loop        *loop          // constant after adopt
	out         outqueue.Queue // bytes to write; a failed write closes the queue
	sock        poll.Socket
	state       connState
	dirty       bool     // on loop.dirty or loop.later
	blocked     bool     // the socket took less than waits; it must become writable first
	writable    bool     // the poller says so, in this turn
	deflate     bool     // permessage-deflate was negotiated; constant after adopt
	writeClosed bool     // the server's half of the connection has ended
	held        bool     // nothing is read from it: it is on the list of a flow
	deferred    bool     // on loop.deferred
	maxMessage  int32    // bytes; constant after adopt
	seen        uint32   // tick of the last bytes received
	partial     *partial // the half-read frame or message; nil: none

	// constant after adopt
	handler    handler
	slot       uint32
	generation uint32
	since      uint32 // tick of the adoption
	library    uint16 // the handler's, see intern
	traced     uint8  // the handler's, see operator.Peer; owned by the loop
	relay      uint8  // of which process has the client's socket; 0: of none
}

// adoption is the task that gives a connection to its loop.
type adoption struct {
	c     *conn
	nc    net.Conn
	first []byte // the answer to the handshake
	early []byte // what was read after the request: the first frames
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
	c.sock, c.state, c.seen, c.since = sock, connOpen, l.now, l.now
	c.queue(a.first)
	c.handler.handleOpen(l.now)
	if len(a.early) > 0 {
		c.receive(a.early)
	}
}

func (a *adoption) refuse(l *loop) {
	a.nc.Close()
	l.group.sockets.Add(-1)
}

// Age is how long the loop has had c; silence is how long nothing has come from the peer. Only the
// loop may ask.
func (c *conn) Age() time.Duration     { return time.Duration(c.loop.now-c.since) * time.Second }
func (c *conn) silence() time.Duration { return time.Duration(c.loop.now-c.seen) * time.Second }

// Bytes are those received and sent, as the system counts them; -1: it does not. Only the loop may
// ask.
func (c *conn) Bytes() (in, out int64) { return c.sock.Bytes(c.loop.poller) }

// remoteAddr is the address of the socket's peer. Only the loop may ask.
func (c *conn) remoteAddr() string { return c.sock.RemoteAddr(c.loop.poller) }

func (c *conn) token() uint64 { return uint64(c.generation)<<32 | uint64(c.slot) }

// setDeadline asks for handleDeadline at the tick due. It replaces the deadline before.
func (c *conn) setDeadline(due uint32) {
	if c.state == connOpen {
		c.loop.wheel.Set(int(c.slot), due)
	}
}

// --- Read machine ---

// partial is the received part of a frame and of a message that are not complete. A connection
// between messages has no partial.
type partial struct {
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

// receive takes bytes in the order in which they come from the socket. It changes b.
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

// receiveWhole handles the frame at the start of b in place, if the frame is complete and is a
// whole message, and returns its size. Otherwise it returns 0.
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
	mask.Bytes(payload, h.mask)
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

// judge says whether a frame may come now. have is how many bytes of its message have come already.
func (c *conn) judge(h frameHeader, message opcode, have int) *ending {
	if e := checkFrameHeader(h, message, c.deflate); e != nil {
		return e
	}
	if !h.op.control() && h.length > uint64(max(int(c.maxMessage)-have, 0)) {
		return endTooBig
	}
	return nil
}

// receivePart takes the next part of b: the header of a frame, then as much of the payload as has
// come. It returns the rest of b.
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
	p.header.mask = mask.Bytes(chunk, p.header.mask)
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
		var err error
		message, err = c.loop.inflater.Inflate(message, int(c.maxMessage))
		e := (*ending)(nil)
		switch {
		case err == deflate.ErrTooLong:
			e = endTooBig
		case err != nil:
			e = endDeflate
		case op == opText && !utf8.Valid(message):
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
		switch code, reason, err := closeframe.Parse(payload); {
		case err == closeframe.ErrReason:
			c.close(endText)
		case err != nil:
			c.close(endCloseFrame)
		case code == closeframe.NoCode:
			c.finish(endPeerClosed, 1000, "")
		default:
			c.finish(endPeerClosed, code, string(reason)) // §5.5.1: echoes the code
		}
	}
}

// dropPartial gives up the received part of a frame or a message.
func (c *conn) dropPartial() {
	p, l := c.partial, c.loop
	if c.partial = nil; p == nil || len(l.partials) == maxSpare {
		return
	}
	message := p.message[:0]
	if cap(message) > keepMessageBytes {
		message = nil
	}
	*p = partial{message: message}
	l.partials = append(l.partials, p)
}

// --- Send queue ---

// send queues the bytes of whole frames. Other queues may share them.
func (c *conn) send(b []byte) {
	if c.state == connOpen {
		c.queue(b)
	}
}

// queue puts bytes behind those that wait. If too many wait, the end of the turn closes the
// connection, and not queue: the caller may be walking through a list with c in it.
func (c *conn) queue(b []byte) {
	c.touch()
	c.out.Push(&c.loop.outs, b)
	c.relieve()
}

// relieve writes at once if much waits and the socket may take it.
func (c *conn) relieve() {
	if c.out.Bytes() > maxQueueBytes/4 && !c.blocked {
		c.write()
	}
}

// sendEncoded queues one text message.
func (c *conn) sendEncoded(f *encodedText) { c.send(f.forConn(c)) }

// idle says that nothing waits to be written.
func (c *conn) idle() bool {
	return c.state == connOpen && c.out.Empty() && !c.blocked && !c.out.Closed()
}

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
	if c.queue(b[n:]); n > 0 {
		c.out.Cut()
	}
}

// maxTogether bounds the connections of one sendEach. Larger: more stack. Smaller: more cache
// misses.
const maxTogether = 16

// sendEach is sendEncoded for several connections. alone says that the loop has no other message to
// deliver. Such a message is written at once to a connection for which nothing waits, since no
// other message could go with it. sendEach looks at all connections before it writes to any: then
// the processor fetches their memory, which is not in its caches, at the same time, and the system
// calls follow each other closely.
func (l *loop) sendEach(conns []*conn, f *encodedText, alone bool) {
	var idle [maxTogether]*conn
	n := 0
	for _, c := range conns {
		if alone && c.idle() {
			if _, plain := c.sock.Plain(); plain && !f.deflates(c) {
				idle[n] = c
				n++
			} else {
				c.sendNow(f.forConn(c), 0)
			}
		} else if c.state == connOpen { // send without the call, which would be 5 % of a delivery
			c.touch()
			c.out.Push(&l.outs, f.forConn(c))
			c.relieve()
		}
	}
	if n > 0 {
		l.writeEach(idle[:n], f.plain)
	}
}

// writeEach writes b to connections without a layer for which nothing waits.
func (l *loop) writeEach(conns []*conn, b []byte) {
	var fds, taken [maxTogether]int32
	for i, c := range conns {
		fds[i], _ = c.sock.Plain()
	}
	l.poller.WriteEach(fds[:len(conns)], b, taken[:len(conns)])
	for i, c := range conns {
		if n := int(taken[i]); n < len(b) {
			c.sendNow(b, n)
		}
	}
}

// sendText queues a text message for this peer only. It does not retain message.
func (c *conn) sendText(message []byte) {
	if c.deflate && len(message) >= deflateWorthBytes {
		c.send(appendCompressed(nil, &c.loop.deflater, opText, message))
		return
	}
	c.send(appendFrame(make([]byte, 0, len(message)+10), opText, 0, message))
}

func (c *conn) sendPing() { c.send([]byte{0x80 | byte(opPing), 0}) }

// sendPong answers a ping. While the peer does not read, only the latest ping gets an answer (RFC
// 6455 §5.5.3).
func (c *conn) sendPong(payload []byte) {
	if c.state == connOpen {
		c.touch()
		b := appendFrame(make([]byte, 0, len(payload)+2), opPong, 0, payload)
		c.out.PushPong(&c.loop.outs, b, c.blocked)
		c.relieve()
	}
}

// queueSupply keeps a place in the queue for the bytes of from. If the queue takes nothing more, it
// returns nil and does not call from.
func (c *conn) queueSupply(from outqueue.Supplier) *outqueue.Place {
	if c.state != connOpen {
		return nil
	}
	c.touch()
	return c.out.PushPlace(&c.loop.outs, from)
}

// supply gives a place in c's queue its bytes, which may be empty, and puts more behind them.
func (c *conn) supply(place *outqueue.Place, b, more []byte) {
	c.out.Supply(&c.loop.outs, place, b, more)
	c.touch()
}

// ready says whether the head of the queue can be written now. If the turn has had its share of
// supplied bytes, the head waits for the next turn.
func (c *conn) ready() bool {
	now, later := c.out.Ready(&c.loop.outs, c.blocked)
	if later && !c.deferred {
		c.deferred = true
		c.loop.deferred = append(c.loop.deferred, c)
	}
	return now
}

// touch makes the loop flush c at the end of the turn.
func (c *conn) touch() {
	if !c.dirty {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// write writes queued bytes until the socket takes no more, or fails. Short slices go out together.
func (c *conn) write() {
	if err := c.tryWrite(); err != nil {
		c.fail()
	}
}

func (c *conn) tryWrite() error {
	l := c.loop
	for {
		ready := c.ready()
		if !ready && !c.blocked {
			return nil
		}
		var b []byte
		if ready {
			b = c.out.Next(l.out)
		}
		n, err := c.sock.Write(l.poller, b)
		c.out.Written(&l.outs, n)
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
}

// fail notes that nothing more can be written. The connection is freed at the end of the turn,
// because the caller may be walking through a list with c in it. Until then a delivery to c costs
// nothing: to try again for each of 20,000 small events took seconds for each connection.
func (c *conn) fail() {
	c.blocked = false
	c.out.Shut(&c.loop.outs)
	c.touch()
}

// --- Closing (RFC 6455 §7) ---

// close starts the closing handshake. The queued bytes go out, then a close frame, and then the
// server's half of the connection ends. The connection is freed when the peer has ended its half,
// or after closeTimeout.
func (c *conn) close(e *ending) { c.finish(e, e.code, e.reason) }

func (c *conn) finish(e *ending, code uint16, reason string) {
	if c.state != connOpen {
		return
	}
	c.handler.handleClosed(e)
	if c.out.Over() {
		c.out.DropUnsent(&c.loop.outs)
	}
	if code != 0 && !c.out.Closed() {
		// a close frame comes only once
		c.out.PushAnyway(&c.loop.outs, appendCloseFrame(nil, code, reason))
	}
	c.state = connClosing
	c.dropPartial()
	c.loop.wheel.Set(int(c.slot), c.loop.now+closeTimeout)
	c.touch()
}

// shed closes a connection for which much waits, and drops the waiting bytes.
func (c *conn) shed(e *ending) {
	if c.state == connOpen {
		c.out.Overflow()
		c.close(e)
	}
}

// flush ends the turn of the connection. It writes everything that was queued during the turn at
// once.
func (c *conn) flush() {
	// at the end, because bytes that are queued here must go out here
	defer func() { c.dirty = false }()
	if c.state == connClosed {
		return
	}
	if c.out.Over() && c.state == connOpen {
		c.close(endSlow)
	}
	full := c.blocked && !c.writable && c.sock.WantsWrite() // the poller will report when it is not
	c.writable = false
	if (!c.out.Empty() || c.blocked) && !full {
		c.write()
	}
	if c.out.Closed() {
		c.free(endWriteFailed)
		return
	}
	if c.state == connClosing && c.out.Empty() && !c.blocked && !c.writeClosed {
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
	l := c.loop
	c.out.Clear(&l.outs)
	l.unplace(c)
	c.sock.Close(l.poller) // an error changes nothing
	l.group.sockets.Add(-1)
}

// --- Loop ---

// task is work that other goroutines give to a loop.
type task interface{ run(l *loop) }

// loop owns connections: only its goroutine touches them.
type loop struct {
	// owned by the loop; a delivery touches these
	dirty []*conn // connections with something to write or to finish in this turn
	outs  outqueue.Pool

	// constant after newLoops
	group  *loops
	index  int
	poller *poll.Poller
	meter  *lag.Meter

	// owned by the loop
	now      uint32 // ticks since loops.began
	wheel    *wheel.Wheel
	conns    slots.Table[conn]
	later    []*conn    // dirty because of a fan-out; they may take several turns
	flushed  int        // of later
	in, out  []byte     // loopBufferBytes each
	partials []*partial // unused
	inflater deflate.Reader
	deflater deflate.Writer
	stopping bool
	pausing  *settle.Pause // the loop is asked to stand still
	relay    *relay.Relay  // since it stands still
	drain    spread.Course // by slot: when connections are told that the server stops
	drainGo  int           // fan-outs to complete before the first connection is told
	flows    turns.Ring[delivery]
	holding  held.Lines[*conn]
	holder   *flow // the flow that wants to hold the sender of the message that is being handled
	skipped  int   // events of this turn for connections that are held
	readSize int   // bytes to read from each connection in this turn

	deferred []*conn // connections that wait for the next turn, see ready

	// any goroutine may use these
	inbox inbox.Inbox[task]
	load  load.Loop // of the messages in inbox and flows, and of the send queues
}

// taskFunc is a task that needs no loop.
type taskFunc func()

func (f taskFunc) run(*loop) { f() }

// post makes the loop run t after everything that was posted before. It returns false if the loop
// has ended.
func (l *loop) post(t task) bool {
	first, ok := l.inbox.Put(t)
	if first {
		l.poller.Wake()
	}
	return ok
}

// run serves until the group is stopped and every connection has gone.
func (l *loop) run() {
	events := make([]poll.Event, 512)
	for c := range l.conns.All { // restored
		if c.sock.Watch(l.poller, c.token(), poll.Reading) != nil {
			c.fail()
		}
	}
	for {
		n, err := l.poller.Wait(events, l.timeout())
		if err != nil {
			panic("internal error: poller: " + err.Error()) // the poller's own descriptor is broken
		}
		now := time.Now()
		l.meter.Begin(now)
		l.now = l.group.tick(now)
		l.runTasks()
		if p := l.pausing; p != nil {
			if l.pausing = nil; !l.stand(p) {
				return
			}
			l.endTurn(now) // what flush has put off
			continue
		}
		l.deliver(now)
		l.readSize = min(max(turnReadBytes/max(n, 1), minReadBytes), len(l.in))
		if l.holding.Len() > 0 { // a connection that is held next keeps all that one read brings
			l.readSize = min(l.readSize, heldReadBytes)
		}
		for _, ev := range events[:n] {
			l.handleEvent(ev)
		}
		l.release()
		l.wheel.Advance(l.now, l.expire)
		if l.stopping && l.drainGo <= 0 {
			l.sayDrain(now)
		}
		l.flush()
		l.endTurn(now)
		if n > 0 && l.skipped == n && !l.pending() { // without this sleep the loop would never wait
			time.Sleep(time.Millisecond)
		}
		l.skipped = 0
		if l.stopping && (l.conns.Used() == 0 || now.After(l.drain.End.Add(lastWait))) {
			l.finish()
			return
		}
	}
}

// endTurn publishes the figures of the turn that began at start.
func (l *loop) endTurn(start time.Time) {
	l.outs.EndTurn()
	for i, c := range l.deferred {
		if l.deferred[i], c.deferred = nil, false; c.state != connClosed {
			c.touch()
		}
	}
	l.deferred = l.deferred[:0]
	l.meter.End(start, time.Now(), len(l.later) == 0)
	l.load.NoteQueued(l.outs.Bytes())
	l.note()
	if l.conns.Shrink() {
		l.wheel = wheel.New(l.now)
	}
}

// note publishes how many slices wait for peers.
func (l *loop) note() { l.load.NoteLinks(l.outs.Links()) }

// timeout is how long the loop may sleep: until the next deadline, or only a moment while
// connections are told one by one that the server stops.
func (l *loop) timeout() time.Duration {
	if l.pending() {
		return 0
	}
	if l.holding.Len() > 0 {
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

func (l *loop) runTasks() { l.inbox.Take(func(t task) { t.run(l) }) }

func (l *loop) handleEvent(ev poll.Event) {
	c := l.find(ev.Token)
	if c == nil {
		return
	}
	if ev.Writable {
		c.writable = true
		c.touch()
	}
	if ev.Readable && c.held && c.state == connOpen {
		l.skipped++ // the connection stays readable, so it is not forgotten
	} else if ev.Readable {
		l.read(c)
	}
}

// read takes the bytes of one read. The rest waits for the next turn, so that others come before.
func (l *loop) read(c *conn) {
	n, err := c.sock.Read(l.poller, l.in[:l.readSize])
	if n > 0 {
		c.seen = l.now
		c.receive(l.in[:n])
	}
	if err != nil && !errors.Is(err, poll.ErrAgain) {
		c.free(endPeerGone)
	}
}

func (l *loop) expire(slot int) {
	c := l.conns.At(uint32(slot))
	if c.state == connClosing {
		c.free(endPeerGone)
		return
	}
	if c.held {
		c.seen = l.now // the server does not read, so the peer is not silent
	}
	c.handler.handleDeadline(l.now)
}

// sayDrain tells some of the connections that the server stops.
func (l *loop) sayDrain(now time.Time) {
	for slot, end := l.drain.Due(l.conns.Slots(), now); slot < end; slot++ {
		if c := l.conns.At(uint32(slot)); c != nil && c.state == connOpen {
			c.handler.handleDrain()
		}
	}
}

// stopTask makes a loop end.
type stopTask struct{ spread.Course }

func (s stopTask) run(l *loop) { l.stopping, l.drain, l.drainGo = true, s.Course, l.flows.Jobs() }

func (l *loop) finish() {
	for c := range l.conns.All {
		c.free(endStopped)
	}
	l.inbox.End()
	l.runTasks() // tasks that have come since the turn began; connections among them are closed
	for l.pending() {
		l.deliver(time.Now()) // there is no receiver left, but the deliveries must be counted off
		l.flush()
	}
}

// place gives c a slot, and so a token.
func (l *loop) place(c *conn) {
	c.loop = l
	c.slot, c.generation = l.conns.Put(c)
}

func (l *loop) unplace(c *conn) {
	if l.wheel.Remove(int(c.slot)); c.relay != 0 {
		l.group.held.Gone(c.relay)
	}
	l.conns.Free(c.slot)
}

// find returns the connection of a token, or nil if the connection has gone.
func (l *loop) find(token uint64) *conn {
	if c := l.conns.At(uint32(token)); c != nil && c.token() == token {
		return c
	}
	return nil
}

func (l *loop) takePartial() (p *partial) {
	n := len(l.partials) - 1
	if n < 0 {
		return new(partial)
	}
	p, l.partials = l.partials[n], l.partials[:n]
	return p
}

// --- Handing over ---
//
// All loops stand still and give their connections away, see internal/handover, internal/relay.

// pause makes all loops stand still within limit. Until End, what they own is the caller's.
func (ls *loops) pause(p *settle.Pause, limit time.Duration) error {
	for _, l := range ls.all {
		l.post(taskFunc(func() { l.pausing = p }))
	}
	return p.Wait(limit)
}

// stand makes the loop stand still. It returns false if the loop has ended.
func (l *loop) stand(p *settle.Pause) (goesOn bool) {
	leave, stood := p.Stand(l.index, func() bool {
		found := l.inbox.Len() > 0 || l.pending()
		l.runTasks()
		l.deliver(time.Now())
		l.flush()
		return found
	}, func() { l.relay = l.group.relays.New(l.poller) })
	if !stood {
		return true
	} else if leave {
		for c := range l.conns.All {
			if !l.relay.Leave(c.sock) {
				b, spread := c.farewell()
				l.relay.Farewell(c.sock, b, spread)
			}
		}
	}
	l.relay.End(leave)
	return !leave
}

// farewell returns what c has to be sent yet: at its end that the server restarts, unless c is
// being closed already. The client should get it at once only in the latter case.
func (c *conn) farewell() (b []byte, spread bool) {
	if spread = c.state == connOpen && !c.out.Closed(); spread {
		c.handler.handleDrain()
	}
	for v := range c.out.Pieces {
		b = append(b, v.Bytes...)
	}
	return b, spread
}

// describe tells h what this file knows of c. place tells it what waits for bytes.
func (c *conn) describe(h *handover.Connection, place func(outqueue.Supplier)) {
	h.MaxMessage, h.Since, h.Seen = uint32(c.maxMessage), c.since, c.seen
	h.Deflate = c.deflate
	if p := c.partial; p != nil {
		f := &p.header
		h.Partial = handover.Partial{Head: p.head[:p.headLen], InFrame: p.inFrame, Length: f.length,
			Left: p.left, Mask: f.mask, Op: uint8(f.op), Fin: f.fin, Message: uint8(p.op),
			Deflated: p.deflated, UTF8: p.utf8.State(), Body: p.message, Ctl: p.control[:p.ctlLen]}
	}
	for v := range c.out.Pieces {
		if v.From != nil {
			place(v.From)
			continue
		}
		h.Pieces = append(h.Pieces, handover.Piece{Bytes: v.Bytes, Cut: v.Cut, Pong: v.Pong})
	}
}

// restore takes over a connection that another process has described, before the loop runs. place
// is called for each place in the queue.
func (l *loop) restore(c *conn, h *handover.Connection, fd int) error {
	utf8, ok := utf8check.Resume(h.Partial.UTF8)
	if !ok {
		return errors.New("no such state of UTF-8")
	}
	sock, err := l.poller.Hold(fd) // until run
	if err != nil {
		return err
	}
	l.group.sockets.Add(1)
	l.place(c)
	c.sock, c.state, c.seen, c.since = sock, connOpen, h.Seen, h.Since
	c.maxMessage, c.deflate = int32(h.MaxMessage), h.Deflate
	if c.relay = h.Relay; c.relay != 0 {
		l.group.held.Came(c.relay)
	}
	if v := &h.Partial; len(v.Head) > 0 || v.InFrame || v.Message != 0 {
		p := l.takePartial()
		c.partial = p
		p.headLen, p.ctlLen = copy(p.head[:], v.Head), copy(p.control[:], v.Ctl)
		p.inFrame, p.left, p.op, p.deflated = v.InFrame, v.Left, opcode(v.Message), v.Deflated
		p.header = frameHeader{fin: v.Fin, op: opcode(v.Op), length: v.Length, mask: v.Mask,
			masked: true}
		p.utf8, p.message = utf8, append(p.message[:0], v.Body...)
	}
	if len(h.Unread) > 0 {
		unread := append([]byte(nil), h.Unread...)
		l.post(taskFunc(func() { c.receive(unread) }))
	}
	return nil
}

// --- Flows ---

// delivery is work that may be too long for one turn, such as a message to very many connections.
type delivery interface {
	// deliver delivers to about n more connections, at least 1. It returns to how many, and whether
	// all are done. alone says that no other delivery waits.
	deliver(l *loop, n int, alone bool) (used int, done bool)
}

// flow has the deliveries of one source of messages to the connections of one loop, in order. The
// protocol above decides what a source is. Flows take turns, so that no flow waits for all
// deliveries of another. The loop owns it.
type flow struct {
	line turns.Line[delivery]
	held held.Line[*conn] // it is full when no more deliveries may wait
}

// enqueue puts a delivery at the end of f.
func (l *loop) enqueue(f *flow, d delivery) { l.flows.Add(&f.line, d) }

// pending says that the loop has unfinished deliveries or writes.
func (l *loop) pending() bool { return l.flows.Jobs() > 0 || len(l.later)+len(l.dirty) > 0 }

// deliver gives the flows their turns until turnDeliverTime has passed since begun. It does nothing
// until the bytes that it queued the last time have been written, so that everything that waits for
// a connection goes out together.
func (l *loop) deliver(begun time.Time) {
	if l.flows.Jobs() == 0 || len(l.later) > 0 {
		return
	}
	touched := len(l.dirty)
	for l.flows.Jobs() > 0 {
		l.serveNext(flowShare)
		if l.flows.Jobs() > 0 && time.Since(begun) > turnDeliverTime {
			break
		}
	}
	if touched == 0 {
		l.dirty, l.later = l.later, l.dirty // later is empty
		return
	}
	l.later = append(l.later, l.dirty[touched:]...)
	clear(l.dirty[touched:])
	l.dirty = l.dirty[:touched]
}

// serveNext gives the next flow its share of deliveries.
func (l *loop) serveNext(share int) {
	alone := l.flows.Jobs() == 1
	l.flows.Serve(share, func(d delivery, n int) (used int, done bool) {
		if used, done = d.deliver(l, n, alone); done {
			l.drainGo--
		}
		return used, done
	})
}

// flush ends the turn of all connections that were touched. If a fan-out has touched very many, the
// next turns continue it.
func (l *loop) flush() {
	l.flushDirty()
	if len(l.later) == 0 {
		return
	}
	const some = 4 // connections between two looks at the clock
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
	l.flushDirty() // the connections that these endings have touched
}

func (l *loop) flushDirty() {
	for i := 0; i < len(l.dirty); i++ {
		l.dirty[i].flush()
	}
	clear(l.dirty)
	l.dirty = l.dirty[:0]
}

// hold stops reading from c until f has room. rest was read already; hold copies it.
func (l *loop) hold(c *conn, f *flow, rest []byte) {
	c.held = true
	l.holding.Hold(&f.held, c, rest)
}

// release begins to read held connections again, one by one, until their flows have no room.
func (l *loop) release() {
	if l.holding.Len() == 0 {
		return
	}
	begun := time.Now()
	l.holding.Release(l.now,
		func() bool { return time.Since(begun) >= turnDeliverTime },
		func(c *conn) bool { return c.state == connClosed },
		func(c *conn, rest []byte) {
			if c.held = false; c.state == connOpen {
				c.seen = l.now
				c.receive(rest)
			}
		})
}

// --- Loops ---

// loops is the set of event loops. sockets counts the connections that the loops have and have not
// freed, and those that the listener has not handed over yet. The caller of newLoops owns sockets.
// began is when the loops were made, or those of the process whose connections they take over.
type loops struct {
	all      []*loop
	began    time.Time
	sockets  counter
	load     *load.Loops
	nextLoop atomic.Uint32
	running  sync.WaitGroup
	relays   *relay.Relays // where a loop leaves what it cannot pass on
	held     relay.Held    // the connections that are relayed to this process
}

// counter counts what several goroutines take and free.
type counter interface {
	Add(delta int64) int64
	Load() int64
}

func newLoops(n int, sockets counter, began time.Time,
	newPoller func() (*poll.Poller, error)) (*loops, error) {
	ls := &loops{began: began, sockets: sockets, relays: new(relay.Relays)}
	now := ls.tick(time.Now())
	var loads []*load.Loop
	for i := range n {
		p, err := newPoller()
		if err != nil {
			return nil, err
		}
		l := &loop{
			group: ls, index: i, poller: p, meter: lag.New(ls.began), wheel: wheel.New(now),
			now: now, readSize: loopBufferBytes,
			outs: outqueue.NewPool(maxQueueBytes, maxSpareLinks),
			in:   make([]byte, loopBufferBytes), out: make([]byte, loopBufferBytes),
		}
		ls.all, loads = append(ls.all, l), append(loads, &l.load)
	}
	ls.load = load.NewLoops(loads, outqueue.LinkBytes)
	return ls, nil
}

func (ls *loops) start() {
	for _, l := range ls.all {
		ls.running.Go(l.run)
	}
}

// tick converts a time into ticks since the loops were made.
func (ls *loops) tick(now time.Time) uint32 { return uint32(now.Sub(ls.began) / time.Second) }

// adopt gives a connection to the next loop. first is written before anything else, early is read
// before anything else. c and nc belong to the loop from now on.
func (ls *loops) adopt(c *conn, nc net.Conn, first, early []byte) {
	l := ls.all[ls.nextLoop.Add(1)%uint32(len(ls.all))]
	if a := (&adoption{c, nc, first, early}); !l.post(a) {
		a.refuse(l)
	}
}

// figures returns the figures of each loop.
func (ls *loops) figures(now time.Time) (all []admin.Loop) {
	for _, l := range ls.all {
		all = append(all, admin.Loop{Lag: l.meter.Lag(now), Latency: &l.meter.Latency,
			Backlog: l.load.Backlog(), Queued: l.load.Queued()})
	}
	return all
}

// stop tells every connection, spread over drainTime, that the server stops. It returns when all
// have gone. It is called once.
func (ls *loops) stop(drainTime time.Duration) {
	course := spread.Course{Over: max(drainTime, time.Millisecond)}
	course.End = time.Now().Add(course.Over)
	for _, l := range ls.all {
		l.post(stopTask{course})
	}
	ls.running.Wait()
	for _, l := range ls.all {
		l.poller.Close()
	}
}
