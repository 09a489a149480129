// Package outbound sends HTTP requests to URLs that somebody has configured, and takes no more
// descriptors for them than MaxConnections, whatever the receivers do.
//
// The caller asks Enter before each request, and leaves when the answer is read. So requests wait
// for one another before their own time begins to run.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"reverb/internal/lib/destinations"
	"reverb/internal/lib/http1"
)

const (
	// maxRequests bounds the requests that are under way (see Enter), and the connections that are
	// kept for the next ones, for keptFor. Larger: more descriptors. Smaller: fewer receivers that
	// hang delay others.
	maxRequests = 64
	keptFor     = 90 * time.Second
	// MaxConnections bounds the descriptors that a Transport takes: each request has one, and so
	// has each connection that is kept.
	MaxConnections = 2 * maxRequests
)

// Transport is an http.RoundTripper, see the package. Any goroutine may call it.
type Transport struct {
	// constant after New
	dialer net.Dialer
	guard  destinations.Guard
	roots  *x509.CertPool
	proxy  *url.URL // or nil

	room chan struct{} // has an element for each request
	open chan struct{} // has an element for each connection

	mu   sync.Mutex
	kept []kept // guarded by mu; the one that has rested for longest first
}

// kept is a connection that rests until there is another request.
type kept struct {
	to   string // see destination
	conn *http1.Conn
}

// New makes a Transport. It connects only to what guard allows, and asks that for each address,
// after DNS, at each attempt. It speaks HTTP/1.1 alone, ignores HTTP_PROXY, and reads little. roots
// are the certificates that are trusted; nil: those of the system. With a proxy guard judges the
// address of the proxy, and that of a URL that has an IP address for a host; what a name stands for
// the proxy decides.
func New(guard destinations.Guard, roots *x509.CertPool, proxy *url.URL) *Transport {
	return &Transport{dialer: net.Dialer{Control: guard.Control}, guard: guard, roots: roots,
		proxy: proxy, room: make(chan struct{}, maxRequests),
		open: make(chan struct{}, MaxConnections)}
}

// Enter waits until a request may begin. leave ends it. An error is that of ctx.
func (t *Transport) Enter(ctx context.Context) (leave func(), err error) {
	select {
	case t.room <- struct{}{}:
		return func() { <-t.room }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// RoundTrip is for http.RoundTripper. A server may have closed a kept connection, and not have
// read a request that was written to it. Then the request is made once more, on a new connection.
// The server may also have acted on the request and died before its answer; so this is for
// requests that may arrive twice.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	to, err := t.destination(req.URL)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	if t.proxy != nil && to == "" {
		req = t.authorized(req)
	}
	if c := t.take(to); c != nil {
		resp, err := c.Do(req)
		if !errors.Is(err, http1.ErrSilent) {
			return resp, err
		}
		again, rewound := rewind(req)
		if !rewound {
			return nil, err
		}
		req = again
	}
	nc, err := t.connect(req.Context(), req.URL)
	if err != nil {
		if closeBody(req); req.Context().Err() != nil {
			err = context.Cause(req.Context())
		}
		return nil, err
	}
	return http1.New(nc, to == "", func(c *http1.Conn) { t.keep(to, c) }).Do(req)
}

// authorized is req with the user of the proxy.
func (t *Transport) authorized(req *http.Request) *http.Request {
	user := t.authorization()
	if user == "" {
		return req
	}
	req = req.WithContext(req.Context()) // a copy
	req.Header = req.Header.Clone()
	req.Header.Set("Proxy-Authorization", user)
	return req
}

// authorization is the Proxy-Authorization of requests to the proxy; empty: it has no user.
func (t *Transport) authorization() string {
	if t.proxy.User == nil {
		return ""
	}
	password, _ := t.proxy.User.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(t.proxy.User.Username()+":"+
		password))
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close() // nothing depends on an error
	}
}

// rewind is a request with its body from the beginning, if it has that.
func rewind(req *http.Request) (again *http.Request, ok bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, false
	}
	again = req.WithContext(req.Context()) // a copy
	again.Body = body
	return again, true
}

// --- Connections that are kept ---

// take is a kept connection, or nil.
func (t *Transport) take(to string) *http1.Conn {
	for {
		c := t.remove(func(k kept) bool { return k.to == to })
		if c == nil || c.Wake() {
			return c
		}
		c.Close()
	}
}

// keep keeps a connection for the next request, in the place of the oldest one if there are many.
func (t *Transport) keep(to string, c *http1.Conn) {
	var oldest *http1.Conn
	t.mu.Lock()
	if len(t.kept) == maxRequests {
		oldest = t.kept[0].conn
		t.kept = append(t.kept[:0], t.kept[1:]...)
	}
	t.kept = append(t.kept, kept{to, c})
	c.Rest(keptFor, func() { // waits for mu
		if t.remove(func(k kept) bool { return k.conn == c }) != nil {
			c.Close()
		}
	})
	t.mu.Unlock()
	if oldest != nil {
		oldest.Wake()
		oldest.Close()
	}
}

// remove takes the youngest connection that is wanted off the list; nil: there is none.
func (t *Transport) remove(wanted func(kept) bool) *http1.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.kept) - 1; i >= 0; i-- {
		if k := t.kept[i]; wanted(k) {
			t.kept = append(t.kept[:i], t.kept[i+1:]...)
			return k.conn
		}
	}
	return nil
}

// CloseIdleConnections closes the connections that are kept.
func (t *Transport) CloseIdleConnections() {
	each := func(kept) bool { return true }
	for c := t.remove(each); c != nil; c = t.remove(each) {
		c.Wake()
		c.Close()
	}
}

// --- New connections ---

// destination says which connections serve a URL: its own alone, or, for plain http through a
// proxy, those to the proxy, for which it is empty. URLs of one server may belong to several
// receivers: what one of them sends behind its answer would be taken for the answer to another.
// With a proxy the dialer does not see the server's address, so it is judged here.
func (t *Transport) destination(u *url.URL) (string, error) {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return "", errors.New("not an http or https URL")
	}
	if t.proxy == nil {
		return u.String(), nil
	}
	if to, err := netip.ParseAddr(u.Hostname()); err == nil {
		if err := t.guard.Check(to); err != nil {
			return "", err
		}
	}
	if u.Scheme == "http" {
		return "", nil
	}
	return u.String(), nil
}

// address is the host and the port of a URL, for a dialer.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(http1.ASCII(u.Hostname()), port)
}

// connect makes the connection to a URL's server, or to the proxy, with all that is to happen
// before the request. ctx ends that.
func (t *Transport) connect(ctx context.Context, u *url.URL) (net.Conn, error) {
	if t.proxy == nil {
		return t.reach(ctx, u)
	}
	nc, err := t.reach(ctx, t.proxy)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if u.Scheme == "http" {
		return nc, nil
	}
	if err := t.tunnel(ctx, nc, address(u)); err != nil {
		nc.Close()
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return t.secure(ctx, nc, u.Hostname())
}

// reach connects to the server of a URL, or to the proxy that the URL names.
func (t *Transport) reach(ctx context.Context, u *url.URL) (net.Conn, error) {
	nc, err := t.dial(ctx, address(u))
	if err != nil || u.Scheme == "http" {
		return nc, err
	}
	return t.secure(ctx, nc, u.Hostname())
}

// dial opens a connection, which counts until it is closed.
func (t *Transport) dial(ctx context.Context, address string) (net.Conn, error) {
	select {
	case t.open <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("more than %d connections are open", MaxConnections)
	}
	nc, err := t.dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		<-t.open
		return nil, err
	}
	return &counted{Conn: nc, open: t.open}, nil
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	open   chan struct{} // of the Transport
	closed sync.Once
}

func (c *counted) Close() error {
	err := net.ErrClosed
	c.closed.Do(func() {
		err = c.Conn.Close()
		<-c.open
	})
	return err
}

// secure makes a TLS handshake with a host. After an error it closes nc.
func (t *Transport) secure(ctx context.Context, nc net.Conn, host string) (net.Conn, error) {
	secure := tls.Client(nc, &tls.Config{RootCAs: t.roots, MinVersion: tls.VersionTLS12,
		ServerName: http1.ASCII(host)})
	if err := secure.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return secure, nil
}

// tunnel asks the proxy for a connection to a server (RFC 9110 §9.3.6).
func (t *Transport) tunnel(ctx context.Context, nc net.Conn, server string) error {
	defer context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })()
	request := "CONNECT " + server + " HTTP/1.1\r\nHost: " + server + "\r\n"
	if user := t.authorization(); user != "" {
		request += "Proxy-Authorization: " + user + "\r\n"
	}
	if _, err := io.WriteString(nc, request+"\r\n"); err != nil {
		return err
	}
	// The reader can go: a TLS server says nothing before its client does.
	resp, err := http1.NewReader(nc).Answer(&http.Request{Method: http.MethodConnect})
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("it answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return err
}
