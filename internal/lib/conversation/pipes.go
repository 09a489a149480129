package conversation

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// Pipes is a listener whose connections are pipes in memory. Make one with NewPipes.
type Pipes struct {
	next   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewPipes returns a listener that waits for Dial.
func NewPipes() *Pipes { return &Pipes{next: make(chan net.Conn), closed: make(chan struct{})} }

// Dial gives the listener one more connection, once it accepts, and returns the client's end.
// from is the address and port that it comes from; where it is empty, the connection has none,
// as that of a Unix socket.
func (l *Pipes) Dial(from string) net.Conn {
	ours, theirs := net.Pipe()
	if from != "" {
		theirs = pipeFrom{theirs, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}
	}
	select {
	case l.next <- theirs:
	case <-l.closed:
		theirs.Close()
	}
	return ours
}

// Accept is part of net.Listener.
func (l *Pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.next:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close is part of net.Listener.
func (l *Pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is part of net.Listener.
func (l *Pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// pipeFrom is a pipe that comes from an address.
type pipeFrom struct {
	net.Conn
	from net.Addr
}

func (p pipeFrom) RemoteAddr() net.Addr { return p.from }

// Notes is the handler of a log that keeps what is logged, from the level info on, and a writer
// that keeps what is written. Any goroutine may call its methods. The zero value is ready.
type Notes struct {
	mu    sync.Mutex
	lines []string
}

// Take returns what was logged and written since it was last called, with "|" between the
// pieces. A record of the log is its message and, behind commas, each name and value.
func (n *Notes) Take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := strings.Join(n.lines, "|")
	n.lines = nil
	return all
}

// Write is part of io.Writer.
func (n *Notes) Write(b []byte) (int, error) {
	n.add(string(b))
	return len(b), nil
}

func (n *Notes) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, text)
}

// Enabled is part of slog.Handler.
func (n *Notes) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// WithAttrs is part of slog.Handler; what a logger has in common is left out.
func (n *Notes) WithAttrs([]slog.Attr) slog.Handler { return n }

// WithGroup is part of slog.Handler.
func (n *Notes) WithGroup(string) slog.Handler { return n }

// Handle is part of slog.Handler.
func (n *Notes) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(", %s %s", a.Key, a.Value)
		return true
	})
	n.add(line)
	return nil
}
