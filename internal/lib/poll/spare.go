package poll

import (
	"bytes"
	"crypto/tls"
	"net"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// sharedRecordBytes is how much of a TLS record is read without growing a buffer. Larger: more
// memory for each Poller. Smaller: more records need a buffer of their own.
const sharedRecordBytes = 2 << 10

// tlsBuffers are the buffers that a *tls.Conn keeps from the handshake and from the last read: 3
// KiB for each idle connection. crypto/tls has no way to give them back, so this file finds them by
// name. It leaves them alone if their types differ from the expected ones, or if it was not tested
// with this version of Go: a crypto/tls that went on using them would show one peer what another
// has sent.
type tlsBuffers struct {
	raw   *bytes.Buffer // the bytes of the next record that have been read
	input *bytes.Reader // decrypted, not yet taken; part of raw's memory
	hand  *bytes.Buffer // of handshake messages
}

// tlsOffsets says where the buffers are in a tls.Conn.
type tlsOffsets struct {
	raw, input, hand uintptr
	known            bool
}

// testedGo lists the versions of Go whose crypto/tls does not touch a buffer that it has handed
// out. A version is added after TestTLSBuffersCarryOwnBytes has passed with it and
// REVERB_TEST_LONG=1.
var testedGo = []string{"go1.26"}

// tested says whether version, as runtime.Version gives it, is one of testedGo, or a later patch or
// candidate of one of them.
func tested(version string) bool {
	for _, v := range testedGo {
		rest, ok := strings.CutPrefix(version, v)
		if ok && (rest == "" || rest[0] < '0' || rest[0] > '9') {
			return true
		}
	}
	return false
}

// TLSBuffersShared says whether idle TLS connections of a Poller's kernel set give their
// buffers back.
func TLSBuffersShared() bool { return hasKernel && findTLSOffsets().known }

// TLSAdvice is one line for the operator of a program whose idle TLS connections keep their
// buffers, although the system has a kernel set. It is empty if they give the buffers back.
func TLSAdvice() string { return tlsAdvice(findTLSOffsets(), runtime.Version()) }

func tlsAdvice(at tlsOffsets, version string) string {
	if !hasKernel || at.known {
		return ""
	}
	return "idle TLS connections keep 3 KiB each, because this was built with " + version +
		"; " + strings.Join(testedGo, ", ") + " was tested and gives them back"
}

var findTLSOffsets = sync.OnceValue(func() (at tlsOffsets) {
	conn := reflect.TypeFor[tls.Conn]()
	raw, ok1 := conn.FieldByName("rawInput")
	input, ok2 := conn.FieldByName("input")
	hand, ok3 := conn.FieldByName("hand")
	buffer, reader := reflect.TypeFor[bytes.Buffer](), reflect.TypeFor[bytes.Reader]()
	at.known = tested(runtime.Version()) && ok1 && ok2 && ok3 && raw.Type == buffer &&
		input.Type == reader && hand.Type == buffer
	at.raw, at.input, at.hand = raw.Offset, input.Offset, hand.Offset
	return at
})

// buffersOf finds the buffers of c; ok is false if there are no known ones.
func buffersOf(c net.Conn) (b tlsBuffers, ok bool) {
	conn, ok := c.(*tls.Conn)
	at := findTLSOffsets()
	if !ok || !at.known {
		return b, false
	}
	base := unsafe.Pointer(conn)
	return tlsBuffers{(*bytes.Buffer)(unsafe.Add(base, at.raw)),
			(*bytes.Reader)(unsafe.Add(base, at.input)),
			(*bytes.Buffer)(unsafe.Add(base, at.hand))},
		true
}

// lend gives a connection without a buffer the buffer of the poller to read into.
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

// giveBack takes the buffers away. A buffer that holds something stays; if it was lent, it belongs
// to the connection from now on.
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
