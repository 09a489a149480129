package poll

import (
	"bytes"
	"crypto/tls"
	"net"
	"reflect"
	"sync"
	"unsafe"
)

// sharedRecordBytes is how much of a TLS record is read without growing a buffer.
const sharedRecordBytes = 2 << 10

// tlsBuffers are the buffers that a *tls.Conn keeps from the handshake and from the
// last read: 3 KiB for each idle connection. crypto/tls has no way to give them back,
// so they are found by name; where their types are others than expected they are left
// alone.
type tlsBuffers struct {
	raw   *bytes.Buffer // what has been read of the next record
	input *bytes.Reader // decrypted, not yet taken; part of raw's memory
	hand  *bytes.Buffer // of handshake messages
}

// tlsOffsets says where the buffers stand in a tls.Conn.
type tlsOffsets struct {
	raw, input, hand uintptr
	known            bool
}

var findTLSOffsets = sync.OnceValue(func() (at tlsOffsets) {
	conn := reflect.TypeFor[tls.Conn]()
	raw, ok1 := conn.FieldByName("rawInput")
	input, ok2 := conn.FieldByName("input")
	hand, ok3 := conn.FieldByName("hand")
	buffer, reader := reflect.TypeFor[bytes.Buffer](), reflect.TypeFor[bytes.Reader]()
	at.known = ok1 && ok2 && ok3 && raw.Type == buffer && input.Type == reader && hand.Type == buffer
	at.raw, at.input, at.hand = raw.Offset, input.Offset, hand.Offset
	return at
})

// buffersOf finds the buffers of c; ok is false when it has none that are known.
func buffersOf(c net.Conn) (b tlsBuffers, ok bool) {
	conn, ok := c.(*tls.Conn)
	at := findTLSOffsets()
	if !ok || !at.known {
		return b, false
	}
	base := unsafe.Pointer(conn)
	return tlsBuffers{(*bytes.Buffer)(unsafe.Add(base, at.raw)), (*bytes.Reader)(unsafe.Add(base, at.input)), (*bytes.Buffer)(unsafe.Add(base, at.hand))}, true
}

// lend gives a connection without a buffer the poller's to read into.
func (b tlsBuffers) lend(p *Poller) (lent bool) {
	if b.raw.Cap() > 0 {
		return false
	}
	if p.record == nil {
		p.record = make([]byte, 0, sharedRecordBytes)
	}
	*b.raw = *bytes.NewBuffer(p.record)
	return true
}

// giveBack takes the buffers away. Those that hold something stay: what was lent is
// the connection's from now on.
func (b tlsBuffers) giveBack(p *Poller, lent bool) {
	if b.hand.Len() == 0 {
		*b.hand = bytes.Buffer{}
	}
	if b.raw.Len() == 0 && b.input.Len() == 0 {
		*b.raw, *b.input = bytes.Buffer{}, bytes.Reader{}
	} else if lent {
		p.record = nil
	}
}
