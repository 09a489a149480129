// Package poll tells one goroutine which of its sockets are ready.
//
// A [Poller] belongs to the goroutine that calls [Poller.Wait]. Only that goroutine may call its
// other methods, and those of its sockets. The exception is [Poller.Wake], which any goroutine may
// call.
//
// [Poller.Add] takes a net.Conn over. There are three transports behind it:
//
//   - kernel: on Linux, a TCP or Unix socket is taken away from the Go runtime
//     and put into an epoll set. It costs a descriptor and nothing else.
//   - layered: a *tls.Conn whose handshake is over and that stands on a [Base]:
//     its socket goes into the epoll set too, and the loop calls crypto/tls itself.
//   - stream: any other net.Conn (a pipe, every connection where there is no
//     epoll) gets one goroutine that reads and one that writes. They never touch
//     anything but the stream's own buffers.
//
// All give the same results. Read and Write never block: they return ErrAgain when they can do
// nothing now. Readiness is level-triggered: Wait reports a socket as readable as long as bytes
// wait, and as writable as long as WantWrite is on and there is room.
//
// A token names a socket in events. An event may be stale: it can name a socket that was closed
// earlier in the same turn. So the token of a closed socket should not be used again before the
// next Wait, unless tokens carry a generation.
package poll

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// ErrAgain means that the operation would block. It carries no information
// and is never wrapped.
var ErrAgain = errors.New("poll: try again")

// Event says what a socket is ready for.
type Event struct {
	Token    uint64
	Readable bool // Read will return bytes, an error or io.EOF
	Writable bool // Write will take bytes or return an error
}

// Poller waits for sockets. Make one with [New] or [NewPortable].
type Poller struct {
	kernel *kernel       // nil: streams only
	notify chan struct{} // wakes Wait where there is no kernel poller

	mu    sync.Mutex
	ready []*stream // streams whose state changed since Wait looked; each at most once
	spare []*stream // owned by the waiting goroutine
	// more is owned by the waiting goroutine: layers that may hold bytes that the kernel does not
	// know; each at most once
	more []*layered

	// owned by the waiting goroutine: the buffer that layers read into, see tlsBuffers
	record []byte
}

// New returns the best poller of this system.
func New() (*Poller, error) {
	k, err := newKernel()
	if err != nil {
		return nil, err
	}
	return &Poller{kernel: k, notify: make(chan struct{}, 1)}, nil
}

// NewPortable returns a poller that needs no support of the operating system: every socket is a
// stream. New returns it on systems without epoll.
func NewPortable() *Poller {
	return &Poller{notify: make(chan struct{}, 1)}
}

// Add takes c over and reports its readiness under token from now on. After a nil error c belongs
// to the returned Socket: no other code may use or close it. After an error the caller still owns
// c.
func (p *Poller) Add(c net.Conn, token uint64) (Socket, error) {
	if p.kernel != nil {
		if l, ok := newLayered(p, c, token); ok {
			return l.add()
		}
		fd, ok, err := p.kernel.add(c, token)
		if err != nil {
			return Socket{}, err
		}
		if ok {
			return Socket{fd: int32(fd)}, nil
		}
	}
	s := newStream(p, c, token)
	return Socket{fd: -1, over: &s.over}, nil
}

// Wait blocks until a socket is ready, Wake was called, or timeout has passed (negative: no limit).
// It writes events and returns how many; that may be 0.
func (p *Poller) Wait(events []Event, timeout time.Duration) (int, error) {
	p.mu.Lock()
	waiting := len(p.ready) + len(p.more)
	p.mu.Unlock()
	if waiting > 0 {
		timeout = 0
	}
	n := 0
	if p.kernel != nil {
		room := len(events) - min(waiting, len(events)/2) // the kernel may fill all of its room
		var err error
		if n, err = p.kernel.wait(events[:room], timeout); err != nil {
			return 0, err
		}
	} else {
		p.waitNotify(timeout)
	}
	n += p.takeMore(events[n:])
	return n + p.takeReady(events[n:]), nil
}

func (p *Poller) waitNotify(timeout time.Duration) {
	if timeout == 0 {
		select {
		case <-p.notify:
		default:
		}
		return
	}
	if timeout < 0 {
		<-p.notify
		return
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-p.notify:
	case <-t.C:
	}
}

// takeReady turns streams that became ready into events. A stream that is still ready goes to the
// end of the list; this makes streams level-triggered.
func (p *Poller) takeReady(events []Event) int {
	p.mu.Lock()
	k := min(len(p.ready), len(events))
	p.spare = append(p.spare[:0], p.ready[:k]...)
	rest := copy(p.ready, p.ready[k:])
	clear(p.ready[rest:])
	p.ready = p.ready[:rest]
	p.mu.Unlock()
	n := 0
	for i, s := range p.spare {
		s.mu.Lock()
		s.listed = false
		if readable, writable := s.readyLocked(); (readable || writable) && !s.closed {
			events[n] = Event{Token: s.token, Readable: readable, Writable: writable}
			n++
			p.listLocked(s)
		}
		s.mu.Unlock()
		p.spare[i] = nil
	}
	return n
}

// listLocked puts s on the ready list. The caller holds s.mu.
func (p *Poller) listLocked(s *stream) {
	if s.listed {
		return
	}
	s.listed = true
	p.mu.Lock()
	p.ready = append(p.ready, s)
	p.mu.Unlock()
}

// Wake makes the current or the next Wait return. Any goroutine may call it.
func (p *Poller) Wake() {
	if p.kernel != nil {
		p.kernel.wake()
		return
	}
	select {
	case p.notify <- struct{}{}:
	default:
	}
}

// Close releases the poller. Its sockets must have been closed.
func (p *Poller) Close() error {
	if p.kernel != nil {
		return p.kernel.close()
	}
	return nil
}

// Socket is a connection that a Poller watches. The zero Socket is not a connection.
type Socket struct {
	over  *over // nil: kernel transport
	fd    int32 // -1: stream
	write bool  // WantWrite is on
	out   bool  // it is not in the kernel's set, see Watch
}

// over is a transport as a Socket holds it: in one word, because there are very many sockets, and
// most of them have none.
type over struct{ transport }

// transport moves the bytes of a Socket.
type transport interface {
	read(b []byte) (int, error)
	write(b []byte) (int, error)
	closeWrite()
	close() error
	remoteAddr() string
	bytes() (in, out int64)
}

// Read reads the bytes that have arrived into b. It returns ErrAgain if there are none, and io.EOF
// if the peer will send no more.
func (s *Socket) Read(p *Poller, b []byte) (int, error) {
	if s.over != nil {
		return s.over.read(b)
	}
	return p.kernel.read(int(s.fd), b)
}

// Write writes as much of b as the socket takes now. ErrAgain means that the rest has to wait; see
// WantWrite. n == len(b) with ErrAgain means that all of b was taken, but has not left yet: call
// Write again, with more bytes or with none, once the socket is writable.
func (s *Socket) Write(p *Poller, b []byte) (int, error) {
	if s.over != nil {
		return s.over.write(b)
	}
	return p.kernel.write(int(s.fd), b)
}

// Plain returns the descriptor of a socket that takes bytes as they are. ok is false with a layer
// such as TLS over the descriptor, and for a stream, whose fd is negative. The descriptor is valid
// until Close.
func (s *Socket) Plain() (fd int32, ok bool) { return s.fd, s.over == nil }

// WriteEach writes b to each of several sockets, see Plain. taken[i] is how many bytes the socket
// fds[i] took. If that is not all of b, call Write with the rest: it returns the reason, or finds
// that the socket takes more by now.
func (p *Poller) WriteEach(fds []int32, b []byte, taken []int32) {
	if len(fds) > 0 {
		p.kernel.writeEach(fds, b, taken)
	}
}

// WantWrite says whether the socket shall be reported as writable, under the token
// that Add was given.
func (s *Socket) WantWrite(p *Poller, token uint64, on bool) error {
	if s.write == on {
		return nil
	}
	s.write = on
	if s.over != nil {
		if st, ok := s.over.transport.(*stream); ok {
			st.wantWrite(on)
			return nil
		}
	}
	return p.kernel.modify(int(s.fd), token, on)
}

// WantsWrite says whether WantWrite is on.
func (s *Socket) WantsWrite() bool { return s.write }

// RemoteAddr is the peer's address in the form of net.Conn's RemoteAddr. It asks the system, so
// that no memory is needed to keep the address. It is empty if the system does not know the address
// any more. Call it before Close.
func (s *Socket) RemoteAddr(p *Poller) string {
	if s.over != nil {
		return s.over.remoteAddr()
	}
	return p.kernel.remoteAddr(int(s.fd))
}

// Bytes is how many bytes have come, and how many the peer has taken. For a TCP connection the
// system counts them, at no cost, with those of a layer and those from before Add. A stream counts
// its own bytes from Add on. For a Unix socket nobody counts: then both are -1. It is valid until
// Close.
func (s *Socket) Bytes(p *Poller) (in, out int64) {
	if s.over != nil {
		return s.over.bytes()
	}
	return p.kernel.bytes(int(s.fd))
}

// PeerAddr returns the peer's address of the socket below c, whatever TLS and a listener have put
// around the socket. Call it before Add. It is empty if there is no address.
func PeerAddr(c net.Conn) string {
	if layer, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = layer.NetConn()
	}
	if base, ok := c.(interface{ PollBase() *Base }); ok {
		c = base.PollBase().Conn
	}
	if addr := c.RemoteAddr(); addr != nil {
		return addr.String()
	}
	return ""
}

// CloseWrite says that nothing more will be written. Bytes that Write has taken are still
// delivered.
func (s *Socket) CloseWrite(p *Poller) error {
	if s.over != nil {
		s.over.closeWrite()
		return nil
	}
	return p.kernel.closeWrite(int(s.fd))
}

// Close closes the socket. With the kernel transport the system still delivers the bytes that Write
// has taken. A stream or a layer drops bytes that it still holds.
func (s *Socket) Close(p *Poller) error {
	if s.over != nil {
		return s.over.close()
	}
	return p.kernel.closeSocket(int(s.fd))
}

const (
	// streamReadBytes is the size of a chunk that the reader holds. Larger: more memory for each
	// stream. Smaller: more hand-overs between goroutines.
	streamReadBytes = 16 << 10
	// streamWriteBytes bounds the bytes that wait for the writer. Larger: more memory for a slow
	// peer. Smaller: more hand-overs.
	streamWriteBytes = 64 << 10
)

// stream drives a blocking net.Conn with two goroutines. The reader holds one chunk at a time and
// waits until the chunk has been taken. The writer writes the bytes that Write has put into out.
type stream struct {
	over  over // the stream itself; constant
	p     *Poller
	c     net.Conn
	token uint64

	mu       sync.Mutex
	readMore sync.Cond // the chunk has been taken
	writeNow sync.Cond // out has bytes, or closing
	in       []byte    // read, not yet taken; part of the reader's buffer
	out      []byte    // taken by Write, not yet given to the writer
	readErr  error     // after in
	got, put int64     // bytes that Read has given, and that have been written
	writeErr error
	want     bool // WantWrite
	listed   bool // on p.ready
	finished bool // CloseWrite was called
	closed   bool
}

func newStream(p *Poller, c net.Conn, token uint64) *stream {
	s := &stream{p: p, c: c, token: token}
	s.over.transport = s
	s.readMore.L, s.writeNow.L = &s.mu, &s.mu
	go s.readLoop()
	go s.writeLoop()
	return s
}

func (s *stream) readyLocked() (readable, writable bool) {
	readable = len(s.in) > 0 || s.readErr != nil
	writable = s.want && (len(s.out) < streamWriteBytes || s.writeErr != nil)
	return readable, writable
}

func (s *stream) readLoop() {
	buf := make([]byte, streamReadBytes)
	for {
		n, err := s.c.Read(buf)
		s.mu.Lock()
		s.in, s.readErr = buf[:n], err
		if n > 0 || err != nil {
			s.p.listLocked(s)
			s.p.Wake()
		}
		for len(s.in) > 0 && !s.closed {
			s.readMore.Wait()
		}
		done := s.closed || err != nil
		s.mu.Unlock()
		if done {
			return
		}
	}
}

func (s *stream) writeLoop() {
	var buf []byte
	s.mu.Lock()
	for {
		for len(s.out) == 0 && !s.closed && !s.finished {
			s.writeNow.Wait()
		}
		if s.closed || len(s.out) == 0 {
			break
		}
		buf, s.out = s.out, buf[:0]
		if s.want {
			s.p.listLocked(s)
			s.p.Wake()
		}
		s.mu.Unlock()
		n, err := s.c.Write(buf)
		s.mu.Lock()
		s.put += int64(n)
		if err != nil {
			s.writeErr = err
			s.p.listLocked(s)
			s.p.Wake()
			break
		}
	}
	finished := s.finished && !s.closed
	s.mu.Unlock()
	if half, ok := s.c.(interface{ CloseWrite() error }); ok && finished {
		half.CloseWrite() // an error means that the peer has gone; the reader notices
	}
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.in) > 0 {
		n := copy(b, s.in)
		s.got += int64(n)
		if s.in = s.in[n:]; len(s.in) == 0 {
			s.readMore.Signal()
		}
		return n, nil
	}
	if s.readErr != nil {
		if errors.Is(s.readErr, io.ErrClosedPipe) || errors.Is(s.readErr, net.ErrClosed) {
			return 0, io.EOF
		}
		return 0, s.readErr
	}
	return 0, ErrAgain
}

func (s *stream) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writeErr != nil {
		return 0, s.writeErr
	}
	n := min(len(b), streamWriteBytes-len(s.out))
	if n > 0 {
		s.out = append(s.out, b[:n]...)
		s.writeNow.Signal()
	}
	if n < len(b) {
		return n, ErrAgain
	}
	return n, nil
}

func (s *stream) wantWrite(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = on
	if _, writable := s.readyLocked(); writable {
		s.p.listLocked(s)
	}
}

func (s *stream) closeWrite() {
	s.mu.Lock()
	s.finished = true
	s.writeNow.Signal()
	s.mu.Unlock()
}

func (s *stream) remoteAddr() string { return s.c.RemoteAddr().String() }

func (s *stream) bytes() (in, out int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got, s.put
}

func (s *stream) close() error {
	s.mu.Lock()
	s.closed = true
	s.readMore.Signal()
	s.writeNow.Signal()
	s.mu.Unlock()
	if top, ok := s.c.(interface{ NetConn() net.Conn }); ok {
		return top.NetConn().Close() // TLS would wait for a peer that does not read
	}
	return s.c.Close()
}
