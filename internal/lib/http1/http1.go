// Package http1 is the client's side of HTTP/1.1 on one connection (RFC 9112). It writes requests
// whose length is known. net/http reads the answers; this package bounds their heads, ends an
// exchange with its context, and decides whether a connection can be used again. So the program
// does without http.Transport and http.Request.Write, which cost 205 KB.
//
// It dials nothing, repeats nothing, follows no redirect, and neither asks for compression nor
// undoes it.
package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"reverb/internal/lib/punycode"
)

const (
	// MaxHead bounds the bytes of the head of an answer, with the interim answers before it.
	// Larger: a server costs more memory. Smaller: answers with many cookies fail.
	MaxHead = 64 << 10
	// grace bounds two waits: after the whole answer for the end of the request, before the
	// connection can be used again, and after a request that cannot be written for its answer.
	// Larger: a server that has answered or failed delays its caller for longer. Smaller:
	// connections are closed, and early answers lost, on busy machines.
	grace = 50 * time.Millisecond
)

// ErrSilent is in the chain of an error when a connection ends before a byte of the answer.
var ErrSilent = errors.New("the connection ended before an answer")

// past is a deadline that ends each read and write at once.
func past() time.Time { return time.Unix(1, 0) }

// --- Answers (RFC 9112 §4) ---

// Reader reads answers.
type Reader struct {
	Buffer *bufio.Reader    // has what follows a head
	source io.LimitedReader // bounded while a head is read
}

// NewReader makes a Reader. Nothing else may read from r.
func NewReader(r io.Reader) *Reader {
	answers := &Reader{source: io.LimitedReader{R: r, N: math.MaxInt64}}
	answers.Buffer = bufio.NewReader(&answers.source)
	return answers
}

// Answer reads the head of the answer to req, see http.ReadResponse. It passes over interim answers
// (RFC 9110 §15.2); MaxHead bounds their number too.
func (r *Reader) Answer(req *http.Request) (*http.Response, error) {
	r.source.N = MaxHead
	defer func() { r.source.N = math.MaxInt64 }()
	if _, err := r.Buffer.Peek(1); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSilent, err)
	}
	for {
		resp, err := http.ReadResponse(r.Buffer, req)
		switch {
		case err != nil && r.source.N == 0:
			return nil, fmt.Errorf("the head of the answer has more than %d bytes", MaxHead)
		case err != nil:
			return nil, err
		case resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols:
			return resp, nil
		}
	}
}

// --- Requests (RFC 9112 §3) ---

// write sends a request, and closes its body. The headers Host, Content-Length and Connection are
// those of the fields URL, ContentLength and Close.
func write(w io.Writer, req *http.Request, proxy bool) error {
	hasBody := req.Body != nil && req.Body != http.NoBody
	if hasBody {
		defer req.Body.Close() // nothing depends on an error
	}
	if hasBody && req.ContentLength <= 0 {
		return errors.New("the length of the request is not known")
	}
	target, name := req.URL.RequestURI(), host(req.URL)
	if proxy {
		target = req.URL.Scheme + "://" + name + target
	}
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	if strings.ContainsFunc(req.Method+target+name, isControl) {
		return errors.New("the URL has a control character")
	}
	b := bufio.NewWriter(w) // keeps an error until Flush
	fmt.Fprintf(b, "%s %s HTTP/1.1\r\nHost: %s\r\n", req.Method, target, name)
	if hasBody || req.Method != http.MethodGet {
		fmt.Fprintf(b, "Content-Length: %d\r\n", req.ContentLength)
	}
	if req.Close {
		b.WriteString("Connection: close\r\n")
	}
	req.Header.WriteSubset(b, map[string]bool{"Host": true, "Content-Length": true,
		"Connection": true, "Transfer-Encoding": true})
	b.WriteString("\r\n")
	if hasBody {
		if _, err := io.CopyN(b, req.Body, req.ContentLength); err != nil {
			return err
		}
	}
	return b.Flush()
}

// host is the Host of a URL (RFC 9110 §7.2), without the zone of an address (RFC 6874 §4).
func host(u *url.URL) string {
	name, _, _ := strings.Cut(ASCII(u.Hostname()), "%")
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if port := u.Port(); port != "" {
		name += ":" + port
	}
	return name
}

// ASCII is the name of a host as DNS knows it.
func ASCII(name string) string {
	if !strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return name
	}
	labels := strings.Split(name, ".")
	for i, label := range labels {
		if known, err := punycode.ToASCII(label); err == nil {
			labels[i] = known
		} // otherwise DNS does not know it
	}
	return strings.Join(labels, ".")
}

// --- Connections ---

// Conn is a connection to a server. It has one exchange at a time, or rests.
type Conn struct {
	nc     net.Conn
	r      *Reader
	proxy  bool
	free   func(*Conn)
	rested chan bool // see Wake
}

// New makes a Conn, which closes nc. With proxy requests have the form for a proxy (RFC 9112
// §3.2.2). free gets the connection back at the end of an exchange, if another one may follow;
// otherwise, and without free, the connection is closed.
func New(nc net.Conn, proxy bool, free func(*Conn)) *Conn {
	return &Conn{nc: nc, r: NewReader(nc), proxy: proxy, free: free}
}

// Close closes the connection, which must have no exchange.
func (c *Conn) Close() { c.nc.Close() }

// abort closes the connection at once. tls.Conn.Close would wait up to 5 seconds until it can say
// so to a server that reads nothing.
func (c *Conn) abort() {
	nc := c.nc
	for secure, ok := nc.(*tls.Conn); ok; secure, ok = nc.(*tls.Conn) {
		nc = secure.NetConn()
	}
	nc.Close()
}

// Rest watches over a connection that has no exchange. When the server sends something or closes
// the connection, and when d is over, Rest calls over, in a goroutine.
func (c *Conn) Rest(d time.Duration, over func()) {
	c.nc.SetReadDeadline(time.Now().Add(d))
	rested := make(chan bool, 1)
	c.rested = rested
	go func() {
		_, err := c.r.Buffer.Peek(1)
		over()
		rested <- errors.Is(err, os.ErrDeadlineExceeded)
	}()
}

// Wake ends Rest, waits for over, and says whether the connection can be used.
func (c *Conn) Wake() bool {
	c.nc.SetReadDeadline(past())
	good := <-c.rested
	c.nc.SetReadDeadline(time.Time{})
	return good
}

// --- Exchanges ---

// exchange is a request and its answer. It is the body of the answer.
type exchange struct {
	ctx  context.Context
	conn *Conn
	stop func() bool // no longer ends the exchange with ctx; false: ctx has ended it
	// wrote gets an element when the request is written, or cannot be; the goroutine that writes
	// ends then.
	wrote chan error

	// owned by the reader of the body
	body   io.Reader
	again  bool // another request may follow this answer
	whole  bool // the body has been read to its end
	closed bool
}

// Do makes an exchange. The end of the request's context ends it at any moment, with the cause for
// an error. The caller closes the body of the answer; until then the request may still be on its
// way. After an error the connection is closed.
func (c *Conn) Do(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	x := &exchange{ctx: ctx, conn: c, wrote: make(chan error, 1),
		stop: context.AfterFunc(ctx, func() { c.nc.SetDeadline(past()) })}
	// A server may answer before it has read the whole request.
	go x.write(req)
	resp, err := c.r.Answer(req)
	if err != nil {
		return nil, x.fail(err)
	}
	x.body, x.whole = resp.Body, resp.Body == http.NoBody
	x.again = !resp.Close && !req.Close && resp.StatusCode >= 200
	resp.Body = x
	return resp, nil
}

// write sends the request. If that fails, an answer comes within grace or not at all.
func (x *exchange) write(req *http.Request) {
	err := write(x.conn.nc, req, x.conn.proxy)
	if err != nil && x.ctx.Err() == nil {
		x.conn.nc.SetReadDeadline(time.Now().Add(grace))
	}
	x.wrote <- err
}

// fail ends an exchange without an answer. It returns what was wrong.
func (x *exchange) fail(err error) error {
	x.stop()
	select {
	case wrong := <-x.wrote:
		if x.conn.abort(); wrong != nil && errors.Is(err, ErrSilent) {
			err = fmt.Errorf("%w: %w", ErrSilent, wrong)
		}
	default:
		x.conn.abort()
		<-x.wrote
	}
	if x.ctx.Err() != nil {
		return context.Cause(x.ctx)
	}
	return err
}

// Read is for io.Reader.
func (x *exchange) Read(b []byte) (int, error) {
	if x.closed {
		return 0, net.ErrClosed
	}
	n, err := x.body.Read(b)
	if err == io.EOF {
		x.whole = true
	} else if err != nil && x.ctx.Err() != nil {
		err = context.Cause(x.ctx)
	}
	return n, err
}

// Close ends the exchange. It reads nothing: the rest of a body may have no end.
func (x *exchange) Close() error {
	if x.closed {
		return nil
	}
	x.closed = true
	c := x.conn
	if !x.whole {
		x.stop()
		c.abort()
		<-x.wrote
		return nil
	}
	late := time.AfterFunc(grace, c.abort)
	err := <-x.wrote
	switch inTime, quiet := late.Stop(), x.stop(); {
	case err != nil, !inTime, !quiet:
		c.abort()
	case x.again && c.free != nil && c.r.Buffer.Buffered() == 0:
		c.free(c)
	default:
		c.Close()
	}
	return nil
}
