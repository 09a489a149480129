package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// kind says what a frame is.
type kind byte

const (
	kindHello     kind = iota + 1 // taker: first and last format
	kindOffer                     // giver: format, roles of the listeners; their descriptors
	kindReady                     // taker: its terms
	kindNo                        // taker: why
	kindSection                   // giver: name and length of a state; its descriptors
	kindMore                      // giver: the next bytes of that state or slice
	kindShared                    // giver: the length of a shared slice
	kindBatch                     // giver: records of connections; their descriptors
	kindTook                      // taker: a batch has arrived
	kindAll                       // giver: how many sections and connections there were
	kindInstalled                 // taker: how many it tells to reconnect
	kindYours                     // giver
	kindServing                   // taker: what to tell whoever has asked
	kindMine                      // taker: it has heard yours
	kindStop                      // taker: why; after a stop of the giver it could start
)

const headBytes = 5 // of a frame: kind, and the length of the payload in four bytes

// pipe is one end of a pair of Unix sockets. One goroutine at a time may receive; any may send.
type pipe struct {
	c       *net.UnixConn
	sending sync.Mutex
	head    [headBytes]byte // of a frame that is being sent
	oob     []byte          // of receive
}

// send sends a frame, with copies of descriptors. The caller keeps them.
func (p *pipe) send(k kind, payload []byte, fds ...int) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	p.head[0] = byte(k)
	binary.BigEndian.PutUint32(p.head[1:], uint32(len(payload)))
	if len(fds) > 0 {
		if err := sendFiles(p.c, p.head[:], fds); err != nil {
			return p.failed(err)
		}
		_, err := p.c.Write(payload)
		return p.failed(err)
	}
	_, err := (&net.Buffers{p.head[:], payload}).WriteTo(p.c)
	return p.failed(err)
}

// failed tells what an error of the connection means. Only its end is ErrDied.
func (p *pipe) failed(err error) error {
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		return ErrLate
	}
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, end) {
			return fmt.Errorf("%w (%v)", ErrDied, err)
		}
	}
	return err
}

// receive returns the next frame. The caller owns payload and the descriptors.
func (p *pipe) receive() (k kind, payload []byte, fds []int, err error) {
	var head [headBytes]byte
	n, fds, err := receiveFiles(p.c, head[:], p.files())
	if err == nil && n < len(head) {
		_, err = io.ReadFull(p.c, head[n:])
	}
	size := binary.BigEndian.Uint32(head[1:])
	if err == nil && size > maxFrame {
		err = fmt.Errorf("%w: a frame of %d bytes", ErrForeign, size)
	}
	if err == nil {
		payload = make([]byte, size)
		_, err = io.ReadFull(p.c, payload)
	}
	if err != nil {
		closeFiles(fds)
		return 0, nil, nil, p.failed(err)
	}
	return kind(head[0]), payload, fds, nil
}

func (p *pipe) files() []byte {
	if p.oob == nil {
		p.oob = make([]byte, filesSpace)
	}
	return p.oob
}

// expect receives a frame of one kind, which brings no descriptors unless files is set.
func (p *pipe) expect(want kind, what string, files bool) (payload []byte, fds []int, err error) {
	k, payload, fds, err := p.receive()
	switch {
	case err != nil:
		return nil, nil, err
	case k == kindNo, k == kindStop:
		closeFiles(fds)
		return nil, nil, refused(k, payload)
	case k != want, len(fds) > 0 && !files:
		closeFiles(fds)
		return nil, nil, errFrame(k, what)
	}
	return payload, fds, nil
}

// until bounds what follows in time; the zero time: it is not bounded.
func (p *pipe) until(t time.Time) { p.c.SetDeadline(t) } // fails on a closed pipe, as all else then
