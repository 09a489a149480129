package accept

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A connection is clean while nothing of a request has been read from it since it was accepted, or
// since its last answer. In a pause a clean connection does not read, so its next request stays in
// the kernel. Then either the pause ends and the connection reads, or another process gets it.

// turn says whose turn it is on a connection, the client's or the server's.
type turn struct {
	clean atomic.Bool // changed under mu
	whole int         // the size of the server's empty buffer; owned by Read

	mu       sync.Mutex
	deadline time.Time     // of Read, as the server has set it
	cut      bool          // the socket has another one, so that Read comes back
	young    bool          // it has had no request, see http.StateNew
	shaken   int64         // when the TLS handshake was over, in Unix ns
	closed   bool          // or another process's
	held     chan struct{} // closed when Read must end; nil: it does not wait
	late     *late         // nil: it was accepted here, or has had a request
}

// late is the time of a connection that another process has accepted. Its first request begins with
// its first byte, and not when it came here.
type late struct {
	came, until time.Time     // until is for the first byte; zero: no time was told
	waited      time.Duration // for the first byte
}

// firstLimit bounds the time between a TLS handshake and a request in which a pause waits for the
// request. Larger: silent connections delay an upgrade. Smaller: slow clients get no answer.
const firstLimit = time.Second

// past is a deadline that interrupts what waits.
var past = time.Unix(1, 0)

// read reads, but a clean connection only when there is no pause.
func (c *conn) read(b []byte) (int, error) {
	if !c.clean.Load() {
		return c.Base.Read(b)
	}
	if c.from.TLS == nil {
		// net/http reads up to a byte of the next request while it answers one. Then there is less
		// room in its buffer.
		if len(b) < c.whole {
			c.soil()
			return c.Base.Read(b)
		}
		c.whole = len(b)
	}
	return c.readClean(b)
}

// readClean reads the first bytes of a request.
func (c *conn) readClean(b []byte) (int, error) {
	for cut := false; ; {
		for cut || c.from.gate.pause.holds.Load() && !c.isExpected() {
			if !c.hold() {
				return 0, io.EOF
			}
			cut = false
		}
		n, err := c.Base.Read(b)
		if cut = errors.Is(err, os.ErrDeadlineExceeded) && c.isCut(); !cut {
			c.soil()
			return n, err
		}
	}
}

// headerReader reads a PROXY header.
type headerReader struct{ c *conn }

func (r headerReader) Read(b []byte) (int, error) {
	if r.c.clean.Load() {
		return r.c.readClean(b)
	}
	return r.c.Base.Read(b)
}

// note follows the server's states.
func (c *conn) note(state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.young = true
		c.clean.Store(true)
	case http.StateIdle:
		c.late = nil
		c.clean.Store(true)
	default:
		c.young = false
		c.soilLocked()
	}
}

// setClean says that what was read belongs to no request.
func (c *conn) setClean() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clean.Store(c.young)
}

// soil says that something of a request was read.
func (c *conn) soil() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.soilLocked()
}

func (c *conn) soilLocked() {
	if !c.clean.Swap(false) {
		return
	}
	if c.late != nil {
		c.late.waited = time.Since(c.late.came)
	}
	if c.cut || c.late != nil {
		c.cut = false
		c.deadlineLocked()
	}
}

// isExpected says that the first request is about to come: over TLS, or at a stop.
func (c *conn) isExpected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isExpectedLocked()
}

func (c *conn) isExpectedLocked() bool {
	return c.young && (c.from.gate.pause.stops.Load() ||
		c.shaken != 0 && time.Now().UnixNano()-c.shaken < int64(firstLimit))
}

func (c *conn) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

// SetReadDeadline is the server's. In a pause it is kept for later.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.IsZero() && c.young && c.from.TLS != nil { // the handshake is over
		c.clean.Store(true)
		c.shaken = time.Now().UnixNano()
	}
	c.deadline = t
	return c.deadlineLocked()
}

// SetDeadline is part of net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// deadlineLocked gives the socket its deadline.
func (c *conn) deadlineLocked() error {
	if c.cut {
		return c.Base.SetReadDeadline(past)
	}
	return c.Base.SetReadDeadline(c.untilLocked())
}

// untilLocked is until when Read waits. The zero time: for ever.
func (c *conn) untilLocked() time.Time {
	switch {
	case c.late == nil:
	case !c.clean.Load():
		if !c.deadline.IsZero() {
			return c.deadline.Add(c.late.waited)
		}
	case !c.late.until.IsZero():
		return c.late.until
	}
	return c.deadline
}

// interrupt has a Read of a clean connection come back and wait.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut = c.clean.Load() && !c.closed && !c.isExpectedLocked(); c.cut {
		c.deadlineLocked() // fails on a closed connection
	}
}

// hold waits for the end of the pause. ok is false if the connection has ended, or is another
// process's.
func (c *conn) hold() (ok bool) {
	g, began, held := c.from.gate, time.Now(), make(chan struct{})
	g.pause.mu.Lock()
	resumed := g.pause.resumed
	g.pause.mu.Unlock()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return false
	}
	c.held = held
	c.mu.Unlock()
	if resumed != nil {
		g.pending.add(-1)
		select {
		case <-resumed:
		case <-held:
		}
		g.pending.add(1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held, c.cut = nil, false
	if waited := time.Since(began); c.late != nil && !c.late.until.IsZero() {
		c.late.until = c.late.until.Add(waited)
	} else if !c.deadline.IsZero() {
		c.deadline = c.deadline.Add(waited)
	}
	c.deadlineLocked() // fails on a closed connection, as Read will
	return !c.closed
}

// release ends a Read that waits in a pause. closed says that the connection has ended also if none
// does.
func (c *conn) release(closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held != nil {
		close(c.held)
		c.held, closed = nil, true
	}
	c.closed = c.closed || closed
}

// hold makes the listeners and the clean connections wait.
func (g *Gate) hold() {
	g.pause.set(true)
	for _, c := range g.guests() {
		c.interrupt() // what is clean later finds the pause itself
	}
}

// guests are the connections that have no request.
func (g *Gate) guests() (all []*conn) {
	for _, guest := range g.places.Guests() {
		if c, ok := guest.(*conn); ok && c.from.gate == g {
			all = append(all, c)
		}
	}
	return all
}

// --- From process to process ---

// Moved is a clean connection that goes to another process. From one over TLS nothing was read,
// since a session of crypto/tls cannot go elsewhere.
type Moved struct {
	Conn net.Conn
	Name string // of its listener, see Options
	// Told says that the PROXY header was read, or that none is expected. Peer is the client that
	// it has told, if it has.
	Told bool
	Peer netip.AddrPort
	Left time.Duration // until a request must come; 0: no time is set
}

// Move gives each clean connection to another process, but for those that have begun TLS, after a
// pause that ends with leave. give sends a copy of its descriptor. Then the connection ends here
// without a word. After an error the rest stays until Leave.
func (g *Gate) Move(give func(m *Moved) error) error {
	for _, c := range g.guests() {
		m, ok := c.moved(time.Now())
		if !ok {
			continue
		}
		if err := give(m); err != nil {
			return err
		}
		c.release(false)
	}
	return nil
}

// moved describes a connection that waits in a pause.
func (c *conn) moved(now time.Time) (m *Moved, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil || c.closed || c.from.TLS != nil && !c.fresh {
		return nil, false
	}
	m = &Moved{Conn: c.Conn, Name: c.from.Name, Told: c.header == nil || c.header.read.Load()}
	if c.header != nil && m.Told {
		m.Peer = c.header.addr
	}
	if until := c.untilLocked(); !until.IsZero() {
		m.Left = max(until.Sub(now), time.Millisecond)
	}
	return m, true
}

// Adopt returns a listener that accepts a connection of another process, and then ends; ok is false
// if no listener of the gate can have accepted it. If there is no place, the connection is closed.
// In any case it belongs to the listener.
func (g *Gate) Adopt(m *Moved) (ln net.Listener, ok bool) {
	g.pause.mu.Lock()
	defer g.pause.mu.Unlock()
	for _, l := range g.pause.all {
		if l.Name == m.Name {
			return &adopted{listener: l, moved: m}, true
		}
	}
	return nil, false
}

// adopted is a listener for one connection.
type adopted struct {
	*listener
	moved *Moved // nil: it was accepted
}

func (a *adopted) Accept() (net.Conn, error) {
	m, now, stop := a.moved, time.Now(), make(chan struct{})
	if close(stop); m == nil || !a.gate.places.Take(stop, a.gate.tellFull) {
		return nil, net.ErrClosed
	}
	a.moved = nil
	c := a.conn(m.Conn)
	c.late = &late{came: now}
	if m.Left > 0 {
		c.late.until = now.Add(m.Left)
	}
	if m.Told && c.header != nil {
		c.header.once.Do(func() { c.header.addr = m.Peer })
		c.header.read.Store(true)
	}
	return a.serve(c), nil
}

// Close closes the connection if it was not accepted.
func (a *adopted) Close() error {
	if a.moved == nil {
		return nil
	}
	return a.moved.Conn.Close()
}
