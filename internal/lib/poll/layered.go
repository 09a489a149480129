package poll

import (
	"errors"
	"io"
	"net"
	"time"
)

// layeredWriteBytes bounds the bytes that a layer gets before the socket has taken what the layer
// made of earlier ones. Larger: more memory for a slow peer. Smaller: more calls.
const layeredWriteBytes = 64 << 10

// errBehind is the error of a layer's write while the peer does not read what the layer writes by
// itself. A peer can cause such writes: in TLS 1.3, by requests to change keys.
var errBehind = errors.New("poll: the peer does not read what it has asked for")

// Base is the net.Conn below a layer such as crypto/tls, so that the layer can be added to a
// Poller. Until then it behaves like Conn, and blocks. From then on it belongs to the waiting
// goroutine and never blocks. A read that would block fails with a temporary error. A write takes
// everything, and keeps what the socket does not take, up to a bound.
type Base struct {
	net.Conn // nil after Add

	kernel *kernel // nil before Add
	fd     int
	out    []byte // written, not taken by the socket
}

// wouldBlock is the error that a layer gets when there is nothing to read. crypto/tls continues
// after a temporary error.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "poll: nothing to read now" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

func (b *Base) Read(p []byte) (int, error) {
	if b.kernel == nil {
		return b.Conn.Read(p)
	}
	n, err := b.kernel.read(b.fd, p)
	if err == ErrAgain {
		err = wouldBlock{}
	}
	return n, err
}

func (b *Base) Write(p []byte) (int, error) {
	if b.kernel == nil {
		return b.Conn.Write(p)
	}
	n := 0
	if len(b.out) == 0 {
		var err error
		if n, err = b.kernel.write(b.fd, p); err != nil && err != ErrAgain {
			return n, err
		}
	}
	if len(b.out) > 2*layeredWriteBytes {
		return 0, errBehind
	}
	b.out = append(b.out, p[n:]...)
	return len(p), nil
}

// flush writes what the socket did not take before.
func (b *Base) flush() error {
	if len(b.out) == 0 {
		return nil
	}
	n, err := b.kernel.write(b.fd, b.out)
	if b.out = b.out[n:]; len(b.out) == 0 {
		b.out = nil
	}
	return err
}

func (b *Base) Close() error {
	if b.kernel == nil {
		return b.Conn.Close()
	}
	return b.kernel.closeSocket(b.fd)
}

func (b *Base) LocalAddr() net.Addr {
	if b.kernel == nil {
		return b.Conn.LocalAddr()
	}
	return &net.UnixAddr{}
}

// RemoteAddr has no address after Add: ask the Socket.
func (b *Base) RemoteAddr() net.Addr {
	if b.kernel == nil {
		return b.Conn.RemoteAddr()
	}
	return &net.UnixAddr{}
}

// Deadlines have no effect after Add, because nothing blocks.

func (b *Base) SetDeadline(t time.Time) error {
	if b.kernel == nil {
		return b.Conn.SetDeadline(t)
	}
	return nil
}

func (b *Base) SetReadDeadline(t time.Time) error {
	if b.kernel == nil {
		return b.Conn.SetReadDeadline(t)
	}
	return nil
}

func (b *Base) SetWriteDeadline(t time.Time) error {
	if b.kernel == nil {
		return b.Conn.SetWriteDeadline(t)
	}
	return nil
}

// layered is a layer over a socket in the kernel's set.
type layered struct {
	over   over // the layer itself; constant
	p      *Poller
	top    net.Conn
	base   *Base
	token  uint64
	listed bool // on p.more
	holds  bool // perhaps holds bytes, or an error, that the kernel does not know
	deaf   bool // Watch does not want to know what it holds
	closed bool
}

// newLayered finds the parts of c; ok is false if c is not a layer over a Base.
func newLayered(p *Poller, c net.Conn, token uint64) (l *layered, ok bool) {
	top, ok := c.(interface{ NetConn() net.Conn })
	if !ok {
		return nil, false
	}
	under, ok := top.NetConn().(interface{ PollBase() *Base })
	if !ok {
		return nil, false
	}
	l = &layered{p: p, top: c, base: under.PollBase(), token: token}
	l.over.transport = l
	return l, true
}

// add moves the socket below into the kernel's set.
func (l *layered) add() (Socket, error) {
	fd, ok, err := l.p.kernel.add(l.base.Conn, l.token)
	if err != nil {
		return Socket{}, err
	}
	if !ok {
		s := newStream(l.p, l.top, l.token)
		return Socket{fd: -1, over: &s.over}, nil
	}
	l.base.Conn, l.base.kernel, l.base.fd = nil, l.p.kernel, fd
	if b, ok := buffersOf(l.top); ok {
		b.giveBack(l.p, false)
	}
	l.list() // the layer may have read ahead
	return Socket{fd: int32(fd), over: &l.over}, nil
}

// list makes Wait report l as readable until a read finds nothing.
func (l *layered) list() {
	l.holds = true
	if !l.listed {
		l.listed = true
		l.p.more = append(l.p.more, l)
	}
}

// takeMore reports layers that hold bytes as events, and moves them to the end of the list.
func (p *Poller) takeMore(events []Event) (n int) {
	k := min(len(p.more), len(events))
	for _, l := range p.more[:k] {
		if l.listed = l.holds && !l.closed && !l.deaf; l.listed {
			events[n] = Event{Token: l.token, Readable: true}
			n++
			p.more = append(p.more, l)
		}
	}
	rest := copy(p.more, p.more[k:])
	clear(p.more[rest:])
	p.more = p.more[:rest]
	return n
}

func (l *layered) read(b []byte) (n int, err error) {
	if spare, ok := buffersOf(l.top); ok {
		defer spare.giveBack(l.p, spare.lend(l.p))
	}
	for n < len(b) {
		k, err := l.top.Read(b[n:])
		n += k
		switch {
		case err == nil:
			continue
		case errors.Is(err, wouldBlock{}):
			l.holds = false
			if n == 0 {
				return 0, ErrAgain
			}
			return n, nil
		case n > 0:
			l.list() // the next read returns the error again
			return n, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return 0, io.EOF // the peer left without an alert
		}
		return 0, err
	}
	l.list()
	return n, nil
}

func (l *layered) write(b []byte) (n int, err error) {
	for {
		if err := l.base.flush(); err != nil {
			return n, err
		}
		if n == len(b) {
			return n, nil
		}
		k, err := l.top.Write(b[n:min(len(b), n+layeredWriteBytes)])
		n += k
		if err != nil {
			return n, err
		}
	}
}

// closeWrite tells the peer, in the protocol of the layer and then in TCP, that nothing more comes.
func (l *layered) closeWrite() {
	if top, ok := l.top.(interface{ CloseWrite() error }); ok {
		top.CloseWrite() // the peer may be gone; the next read tells
	}
	if len(l.base.out) == 0 {
		l.p.kernel.closeWrite(l.base.fd)
	}
}

func (l *layered) close() error {
	l.closed = true
	return l.base.Close()
}

func (l *layered) remoteAddr() string { return l.p.kernel.remoteAddr(l.base.fd) }

func (l *layered) bytes() (in, out int64) { return l.p.kernel.bytes(l.base.fd) }
