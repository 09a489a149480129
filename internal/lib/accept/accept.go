// Package accept stands between the listeners of an HTTP server and the server. It gives each
// connection a place, reads the PROXY header, logs a connection that was meant for another address,
// and at the end waits for the requests that have been accepted.
//
// A Gate is shared by all listeners of one server. It counts connections in places.Places, where
// other code may count connections too. When all places are taken, a connection without a request
// makes room for a newcomer. Detach takes a connection out of HTTP; the connection keeps its place,
// which the new owner frees.
//
// A pause makes everything wait that has not begun: see pause.go. Afterwards the connections that
// have no request may go to another process: see hold.go.
//
// The package opens no socket and starts no goroutine. The caller provides the log's text about a
// stray connection.
package accept

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"reverb/internal/lib/places"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/proxyproto"
)

// Gate is shared by the listeners of one HTTP server. Any goroutine may call the methods.
type Gate struct {
	places  *places.Places
	log     *slog.Logger
	pending pending
	pause   *pause
}

// NewGate returns a gate that gives out places and writes what it finds to log.
func NewGate(p *places.Places, log *slog.Logger) *Gate {
	return &Gate{places: p, log: log, pending: pending{done: make(chan struct{}, 1)},
		pause: newPause()}
}

// Options has what may differ between the listeners of a gate.
type Options struct {
	Name string      // of the listener, for Move and Adopt
	TLS  *tls.Config // nil: plain TCP

	// Proxied says whether the connection of a peer begins with a PROXY header; nil: no connection
	// does. A header must come within HeaderTimeout. Larger: a silent peer holds its place for
	// longer. Smaller: slow proxies are refused.
	Proxied       func(peer net.Addr) bool
	HeaderTimeout time.Duration

	Hints Hints
}

// Hints are texts for the log about connections that an address does not serve, and what to do
// about them. An empty hint is not logged.
type Hints struct {
	Proxy string // a PROXY header came where none is expected
	TLS   string // a TLS handshake came
	HTTP  string // HTTP without TLS came
}

// of is the hint for a connection that begins with b, which is not empty.
func (h *Hints) of(b []byte) string {
	const handshakeRecord = 0x16 // RFC 8446 §5.1
	switch {
	case bytes.HasPrefix(b, []byte("PROXY ")), bytes.HasPrefix(b, []byte("\r\n\r\n\x00\r\nQUIT\n")):
		return h.Proxy
	case b[0] == handshakeRecord:
		return h.TLS
	case 'A' <= b[0] && b[0] <= 'Z':
		return h.HTTP
	}
	return ""
}

// Guard returns a listener whose connections are those of ln, each with a place. Its Accept
// waits while all places are taken by connections that cannot make room. Closing it closes
// ln and ends such a wait.
func (g *Gate) Guard(ln net.Listener, o Options) net.Listener {
	l := &listener{Listener: ln, gate: g, Options: o, closed: make(chan struct{})}
	g.pause.guards(l)
	return l
}

type listener struct {
	net.Listener
	Options
	gate   *Gate
	closed chan struct{}
	once   sync.Once
	// guarded by gate.pause
	serves bool // the server accepts from it
	parked bool // it waits for the end of a pause
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.accept()
	if err != nil {
		return nil, err // net/http waits after a temporary one
	}
	l.gate.pause.note(func() { l.parked = true }) // it may wait for a place, and is not served yet
	ok := l.gate.places.Take(l.closed, l.gate.tellFull)
	if l.gate.pause.note(func() { l.parked = false }); !ok {
		nc.Close()
		return nil, net.ErrClosed
	}
	return l.serve(l.conn(nc)), nil
}

// serve is what the server gets of a connection.
func (l *listener) serve(c *conn) net.Conn {
	if l.TLS != nil {
		return tls.Server(c, l.TLS)
	}
	return c
}

// conn guards a connection that has a place.
func (l *listener) conn(nc net.Conn) *conn {
	c := &conn{Base: poll.Base{Conn: poll.Quiet(nc)}, from: l, fresh: true}
	if l.Proxied != nil && l.Proxied(nc.RemoteAddr()) {
		c.header = &header{timeout: l.HeaderTimeout}
	}
	return c
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.gate.pause.wake()
	return l.Listener.Close()
}

// tellFull logs what happens at the limit, see places.Take.
func (g *Gate) tellFull(guest io.Closer) {
	c, ok := guest.(*conn)
	if !ok {
		g.log.Warn("too many connections: accepting none until some are gone; "+
			"raise LimitNOFILE or add a server",
			"connections", g.places.Load(), "limit", g.places.Limit())
		return
	}
	g.log.Warn("too many connections: closing the one that has been without a request for the "+
		"longest",
		"remote", c.Base.RemoteAddr().String(), "connections", g.places.Load(), "limit",
		g.places.Limit())
}

// --- One connection ---

// conn is a connection that has a place. Close frees the place; after Detach the new owner frees
// it. conn may lose its place while it has no request, see NoteState.
type conn struct {
	poll.Base
	places.Guest
	turn
	from    *listener
	fresh   bool        // nothing was read
	header  *header     // nil: none is expected
	done    atomic.Bool // another owner frees the place
	counted atomic.Bool // in Gate.pending, see NoteState
}

// header is the PROXY header, which names the peer of a proxy.
type header struct {
	timeout time.Duration
	once    sync.Once
	read    atomic.Bool // addr and err are constant
	addr    netip.AddrPort
	err     error
}

// PollBase lets package poll find the socket below TLS.
func (c *conn) PollBase() *poll.Base { return &c.Base }

// readHeader reads the PROXY header unless it has been read.
func (c *conn) readHeader() error {
	h := c.header
	h.once.Do(func() {
		c.SetReadDeadline(time.Now().Add(h.timeout))
		if h.addr, h.err = proxyproto.Read(headerReader{c}); h.err == nil {
			c.setClean()
		} else if errors.Is(h.err, io.EOF) {
			h.err = io.EOF // for net/http, which answers any other error
		}
		c.SetReadDeadline(time.Time{})
		h.read.Store(true)
	})
	return h.err
}

func (c *conn) Read(b []byte) (int, error) {
	if c.fresh {
		return c.readFirst(b)
	}
	return c.read(b)
}

// readFirst reads the first bytes after the PROXY header, and logs a hint if they belong to another
// address.
func (c *conn) readFirst(b []byte) (int, error) {
	if c.header != nil {
		if err := c.readHeader(); err != nil {
			return 0, err
		}
	}
	n, err := c.read(b)
	if n > 0 {
		if hint := c.from.Hints.of(b[:n]); hint != "" {
			c.from.gate.log.Info(hint, "address", c.LocalAddr().String(),
				"remote", c.RemoteAddr().String())
		}
		c.fresh = false
	}
	return n, err
}

// RemoteAddr is the address that the PROXY header tells, if it tells one.
func (c *conn) RemoteAddr() net.Addr {
	if c.header != nil && c.Conn != nil && c.readHeader() == nil && c.header.addr.IsValid() {
		return net.TCPAddrFromAddrPort(c.header.addr)
	}
	return c.Base.RemoteAddr()
}

func (c *conn) Close() error {
	if !c.done.Swap(true) {
		c.from.gate.places.Add(-1)
	}
	c.release(true)
	return c.Base.Close()
}

// guarded finds the connection of a gate below a connection that its listener has returned; nil:
// there is none.
func guarded(nc net.Conn) *conn {
	if secure, ok := nc.(*tls.Conn); ok {
		nc = secure.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

// Detach removes what a listener of a gate has put around nc, and returns the connection to read
// and write from now on. For TLS that is nc itself. The connection keeps its place; the caller of
// Detach frees it. A connection without a gate is returned as it is.
func Detach(nc net.Conn) net.Conn {
	c := guarded(nc)
	if c == nil {
		return nc
	}
	c.done.Store(true)
	if net.Conn(c) == nc {
		return c.Conn
	}
	return nc
}

// --- Requests ---

// NoteState is the server's http.Server.ConnState. It notes which connections have no request,
// since these make room for others at the limit. net/http calls a connection active once the whole
// head of a request has come. So a connection in its TLS handshake, or in a head, has no request.
func (g *Gate) NoteState(nc net.Conn, state http.ConnState) {
	c := guarded(nc)
	if c == nil {
		return
	}
	c.note(state)
	open := state != http.StateClosed && state != http.StateHijacked
	if c.counted.Swap(open) != open {
		if open {
			g.pending.add(1)
		} else {
			g.pending.add(-1)
		}
	}
	if state == http.StateNew || state == http.StateIdle {
		g.places.Wait(&c.Guest, c)
	} else if !g.places.Serve(&c.Guest) && state == http.StateActive {
		// it has just made room, so the answer would not arrive
		panic(http.ErrAbortHandler)
	}
}

// Handler returns h with its requests counted, for Shutdown and Pause. net/http itself does not
// count a connection that a handler takes over, although the handler still runs.
func (g *Gate) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.pending.add(1)
		defer g.pending.add(-1)
		g.pause.serve(h, w, r)
	})
}

// Shutdown answers every request whose connection has been accepted, and ends server. When ctx is
// done, it drops the rest. The listeners must have been closed, and Serve must have returned.
// http.Server.Shutdown alone drops a request that it is about to read, and the answer to one that
// it is reading.
func (g *Gate) Shutdown(ctx context.Context, server *http.Server) {
	g.pause.stops.Store(true)
	g.hold()
	g.Leave(ctx, server)
}

// pending counts requests that are answered, and connections, but for those that wait for the end
// of a pause: any other may be about to bring a request.
type pending struct {
	n      atomic.Int64
	waited atomic.Bool   // wait has been called
	done   chan struct{} // holds a token when n came to 0 after that
}

func (p *pending) add(delta int64) {
	if p.n.Add(delta) == 0 && p.waited.Load() {
		select {
		case p.done <- struct{}{}:
		default: // told already
		}
	}
}

// wait returns when nothing is pending or ctx is done.
func (p *pending) wait(ctx context.Context) {
	p.waited.Store(true) // before looking, so that the last one to end is not missed
	for p.n.Load() > 0 {
		select {
		case <-p.done:
		case <-ctx.Done():
			return
		}
	}
}
