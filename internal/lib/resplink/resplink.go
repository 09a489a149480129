// Package resplink keeps a connection to Redis busy: one goroutine writes commands, and one reads
// replies, so that neither waits for the other.
//
//	Send ─▶ queue ─▶ Write ─▶ socket
//	socket ─▶ Read ─▶ batches of replies
//
// A connection may go to another process while it is open. Hold makes Read stand still between two
// replies. What was received by then and not read is Rest; all that comes later waits in the
// socket. Release makes Read go on as if nothing had been asked.
package resplink

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"reverb/internal/lib/descriptors"
	"reverb/internal/lib/resp"
)

const (
	// batchReplies bounds the replies of one batch. Larger: who gets it takes longer. Smaller: more
	// batches.
	batchReplies = 256
	// keptBuffer bounds a buffer that is always kept. Larger: more memory for each link. Smaller:
	// more allocations.
	keptBuffer = 4 << 10
	// keptUses is after how many small uses a large buffer is given up. Larger: more memory after a
	// burst. Smaller: more allocations when the uses differ.
	keptUses = 8
)

// Link is one connection. Read and Write have a goroutine each; any goroutine may call the other
// methods.
type Link struct {
	nc     net.Conn
	r      *resp.Reader
	rest   []byte // see New; owned by Read
	inside bool   // Read has begun with a reply; owned by Read
	wake   chan struct{}

	mu      sync.Mutex
	out     Buffer        // waits for Write
	writing int           // bytes that Write has taken and is writing
	held    chan struct{} // closed when Read may go on; nil: it need not stand still
	still   bool          // it stands still
}

// New makes the link of a connection. rest was received already, and comes first.
func New(nc net.Conn, rest []byte) *Link {
	nc.SetDeadline(time.Time{})
	l := &Link{nc: nc, rest: rest, wake: make(chan struct{}, 1)}
	l.r = resp.NewReader(source{l})
	return l
}

// source is what Read reads from.
type source struct{ *Link }

// Read goes on where Hold would interrupt a reply.
func (l source) Read(b []byte) (n int, err error) {
	if len(l.rest) > 0 {
		n = copy(b, l.rest)
		l.Link.rest = l.rest[n:]
		return n, nil
	}
	for n, err = l.nc.Read(b); n == 0 && l.inside && errors.Is(err, os.ErrDeadlineExceeded); {
		l.mu.Lock()
		l.nc.SetReadDeadline(time.Time{})
		l.mu.Unlock()
		n, err = l.nc.Read(b)
	}
	return n, err
}

// Read gives replies to the function to, all that have come at once, until to says no, failed is
// closed, or the connection fails.
func (l *Link) Read(failed <-chan struct{}, to func([]resp.Reply) bool) error {
	for l.pass(failed) {
		err := l.r.Wait()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue // Hold
		}
		var batch []resp.Reply
		l.inside = true
		for err == nil && (len(batch) == 0 || len(batch) < batchReplies && l.r.Buffered() > 0 &&
			!l.holds()) {
			var r resp.Reply
			if r, err = l.r.Read(); err == nil {
				batch = append(batch, r)
			}
		}
		if l.inside = false; err != nil {
			return fmt.Errorf("read from Redis: %w", err)
		}
		if !to(batch) {
			return nil
		}
	}
	return nil
}

// pass stands still while Hold wants it. It says no when failed is closed.
func (l *Link) pass(failed <-chan struct{}) (on bool) {
	l.mu.Lock()
	held := l.held
	l.still = held != nil
	l.mu.Unlock()
	if held == nil {
		return true
	}
	select {
	case <-held:
		return true
	case <-failed:
		return false
	}
}

func (l *Link) holds() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held != nil
}

// Hold asks Read to stand still.
func (l *Link) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = make(chan struct{})
		l.nc.SetReadDeadline(time.Unix(1, 0)) // it waits for bytes now
	}
}

// Held says whether Read stands still: it has given everything to its function but Rest.
func (l *Link) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.still
}

// Release lets Read go on.
func (l *Link) Release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		l.nc.SetReadDeadline(time.Time{})
		close(l.held)
		l.held, l.still = nil, false
	}
}

// Rest is what was received and not read. The caller has seen Held.
func (l *Link) Rest() []byte { return append(l.r.Rest(), l.rest...) }

// Send queues bytes and returns how many wait now.
func (l *Link) Send(b []byte) int {
	l.mu.Lock()
	l.out.B = append(l.out.B, b...)
	n := len(l.out.B) + l.writing
	l.mu.Unlock()
	if len(b) > 0 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return n
}

// Write writes what was queued, until failed is closed or the connection fails. Each write may take
// limit.
func (l *Link) Write(failed <-chan struct{}, limit time.Duration) error {
	var r Buffer
	for {
		select {
		case <-failed:
			return nil
		case <-l.wake:
		}
		l.mu.Lock()
		r, l.out = l.out, r // each has a count of its own
		l.writing = len(r.B)
		l.mu.Unlock()
		l.nc.SetWriteDeadline(time.Now().Add(limit))
		if _, err := l.nc.Write(r.B); err != nil {
			return fmt.Errorf("write to Redis: %w", err)
		}
		l.mu.Lock()
		l.writing = 0
		l.mu.Unlock()
		r.Done()
	}
}

// Close closes the connection.
func (l *Link) Close() error { return l.nc.Close() }

// Buffer is a buffer that is used again and again. After a burst it gives its memory back.
type Buffer struct {
	B     []byte
	small int // uses in a row for which much less memory would have done
}

// Done ends a use.
func (r *Buffer) Done() {
	if r.small++; cap(r.B) <= keptBuffer || len(r.B) > cap(r.B)/8 {
		r.small = 0
	}
	if r.B = r.B[:0]; r.small >= keptUses {
		*r = Buffer{}
	}
}

// Descriptors gives to the descriptors of links, which stay open until to has returned.
func Descriptors(links []*Link, to func(fds []int) error) error {
	var all descriptors.Set
	defer all.Close()
	for _, l := range links {
		err := all.Add(l.nc)
		if errors.Is(err, descriptors.ErrNone) {
			return errors.New("the connection to Redis is encrypted and cannot be handed over")
		}
		if err != nil {
			return err
		}
	}
	return to(all.FDs)
}

// Conns makes connections of descriptors, which it owns. After an error there are none.
func Conns(fds []int) (all []net.Conn, err error) {
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "redis")
		c, bad := net.FileConn(f)
		f.Close() // the connection has a copy
		if bad != nil {
			err = fmt.Errorf("a connection to Redis: %w", bad)
			continue
		}
		all = append(all, c)
	}
	if err != nil {
		for _, c := range all {
			c.Close()
		}
		return nil, err
	}
	return all, nil
}
