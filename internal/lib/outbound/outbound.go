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
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"reverb/internal/lib/destinations"
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
	// dialTime bounds a dial, and then a TLS handshake, for which no request waits any more.
	// Larger: a receiver that is away costs descriptors for longer. Smaller: slow networks fail,
	// whatever time their requests have.
	dialTime = 30 * time.Second
	// maxHead bounds the head of an answer. Larger: a receiver costs more memory. Smaller: answers
	// with many cookies fail.
	maxHead = 64 << 10
)

// Transport is an http.RoundTripper, see the package. Any goroutine may call it.
type Transport struct {
	http.Transport
	dialer net.Dialer    // constant
	room   chan struct{} // has an element for each request
	open   chan struct{} // has an element for each connection
	// judge says why a URL cannot be reached. With a proxy the dialer does not see its address.
	judge func(*url.URL) error
}

// New makes a Transport. It connects only to what guard allows, and asks that for each address,
// after DNS, at each attempt. It speaks HTTP/1.1 alone, ignores HTTP_PROXY, and reads little. roots
// are the certificates that are trusted; nil: those of the system. With a proxy guard judges the
// address of the proxy, and that of a URL that has an IP address for a host; what a name stands for
// the proxy decides.
func New(guard destinations.Guard, roots *x509.CertPool, proxy *url.URL) *Transport {
	t := &Transport{dialer: net.Dialer{Control: guard.Control},
		room: make(chan struct{}, maxRequests), open: make(chan struct{}, MaxConnections),
		Transport: http.Transport{
			TLSHandshakeTimeout:    dialTime,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			Protocols:              new(http.Protocols),
			MaxIdleConns:           maxRequests,
			MaxIdleConnsPerHost:    maxRequests,
			IdleConnTimeout:        keptFor,
			MaxResponseHeaderBytes: maxHead,
			DisableCompression:     true,
		}}
	t.DialContext = t.dial
	t.Protocols.SetHTTP1(true)
	if proxy != nil {
		t.Proxy = http.ProxyURL(proxy)
		t.judge = func(u *url.URL) error {
			if to, err := netip.ParseAddr(u.Hostname()); err == nil {
				return guard.Check(to)
			}
			return nil
		}
	}
	return t
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

// RoundTrip is for http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.judge != nil {
		if err := t.judge(req.URL); err != nil {
			return nil, err
		}
	}
	return t.Transport.RoundTrip(req)
}

// dial opens a connection, which counts until it is closed. Dials go on when their request has
// ended, so the requests alone do not bound the connections.
func (t *Transport) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	select {
	case t.open <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("more than %d connections are open", MaxConnections)
	}
	conn, err := t.dialer.DialContext(ctx, network, address)
	if err != nil {
		<-t.open
		return nil, err
	}
	return &counted{Conn: conn, close: sync.OnceValue(func() error {
		defer func() { <-t.open }()
		return conn.Close()
	})}, nil
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	close func() error // closes Conn once
}

func (c *counted) Close() error { return c.close() }
