package outbound

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/destinations"
	"reverb/internal/lib/http1"
)

// A stop ends the wait for other requests, and that for other connections.
func TestFullTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := New(destinations.Guard{}, nil, nil)
		for range MaxConnections {
			transport.open <- struct{}{}
		}
		for range maxRequests {
			transport.room <- struct{}{}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := transport.Enter(ctx); err == nil {
			t.Error("a request has begun")
		}
		if _, err := transport.dial(ctx, "127.0.0.1:1"); err == nil ||
			!strings.Contains(err.Error(), "more than 128 connections") {
			t.Errorf("got %v", err)
		}
	})
}

// A connection counts until it is closed; what could not be dialed does not count.
func TestCount(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	transport := New(destinations.Guard{}, nil, nil)
	var asking sync.WaitGroup
	for range 3 * maxRequests {
		asking.Go(func() {
			leave, err := transport.Enter(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer leave()
			req := httptest.NewRequest(http.MethodPost, server.URL, nil)
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	asking.Wait()
	if n := len(transport.open); n == 0 || n > maxRequests || n != len(transport.kept) {
		t.Errorf("%d connections are open, %d are kept", n, len(transport.kept))
	}
	if _, err := transport.RoundTrip(httptest.NewRequest(http.MethodPost,
		"http://169.254.169.254/", nil)); err == nil ||
		!strings.Contains(err.Error(), "metadata service") {
		t.Errorf("got %v", err)
	}
	if transport.CloseIdleConnections(); len(transport.open) > 0 {
		t.Errorf("%d connections are open", len(transport.open))
	}
	if len(transport.room) > 0 {
		t.Errorf("%d requests are under way", len(transport.room))
	}
}

// A proxy is asked for what the guard allows.
func TestProxy(t *testing.T) {
	asked := make(chan string, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String()
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := New(destinations.Guard{}, nil, at)
	defer transport.CloseIdleConnections()
	for _, to := range []string{"http://[fe80::1]/", "http://a.example/in"} {
		resp, err := transport.RoundTrip(httptest.NewRequest(http.MethodPost, to, nil))
		if (err == nil) != strings.Contains(to, "example") {
			t.Errorf("%s: %v", to, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	if got := <-asked; got != "http://a.example/in" {
		t.Errorf("got %s", got)
	}
}

// send makes a request with a body, and reads the answer.
func send(ctx context.Context, by *Transport, to string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader("body"))
	if err != nil {
		return "", err
	}
	resp, err := by.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(b)), err
}

// receive starts a server that gives each connection to serve, with its number from 0.
func receive(t *testing.T, serve func(i int, nc net.Conn, r *bufio.Reader)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for i := 0; ; i++ {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer nc.Close()
				serve(i, nc, bufio.NewReader(nc))
			})
		}
	})
	return l.Addr().String()
}

// read reads a request with its body.
func read(r *bufio.Reader) error {
	req, err := http.ReadRequest(r)
	if err == nil {
		_, err = io.Copy(io.Discard, req.Body)
	}
	return err
}

const okay = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// Requests that follow one another use one connection, each URL has its own, also at one server,
// and the one that has rested for longest makes room.
func TestReuse(t *testing.T) {
	counts := func() (string, *atomic.Int64) {
		n := new(atomic.Int64)
		return receive(t, func(_ int, nc net.Conn, r *bufio.Reader) {
			n.Add(1)
			for read(r) == nil {
				io.WriteString(nc, okay)
			}
		}), n
	}
	one, ones := counts()
	two, twos := counts()
	transport := New(destinations.Guard{}, nil, nil)
	defer transport.CloseIdleConnections()
	for range 5 {
		for _, to := range []string{one + "/one", two + "/two", two + "/three"} {
			if got, err := send(t.Context(), transport, "http://"+to); got != "200 ok" {
				t.Errorf("got %s, %v", got, err)
			}
		}
	}
	if ones.Load() != 1 || twos.Load() != 2 {
		t.Errorf("%d and %d connections", ones.Load(), twos.Load())
	}
	other := transport.take("http://" + two + "/two")
	for range maxRequests {
		nc, err := transport.dial(t.Context(), two)
		if err != nil {
			t.Fatal(err)
		}
		transport.keep("http://"+two+"/two", http1.New(nc, false, nil))
	}
	if transport.take("http://"+one+"/one") != nil || len(transport.kept) != maxRequests {
		t.Errorf("%d are kept, with the oldest", len(transport.kept))
	}
	if other.Close(); len(transport.open) != maxRequests { // that of /three has made room
		t.Errorf("%d are open", len(transport.open))
	}
}

// A server that closes a kept connection, or says something there, costs no request: the connection
// is not used again.
func TestKeptConnectionEnds(t *testing.T) {
	for _, last := range []string{"", "HTTP/1.1 408 Request Timeout\r\n\r\n"} {
		at := receive(t, func(_ int, nc net.Conn, r *bufio.Reader) {
			if read(r) == nil {
				io.WriteString(nc, okay+last)
			}
		})
		transport := New(destinations.Guard{}, nil, nil)
		for range 20 {
			if got, err := send(t.Context(), transport, "http://"+at); got != "200 ok" {
				t.Errorf("%q: got %s, %v", last, got, err)
			}
		}
		for deadline := time.Now().Add(10 * time.Second); len(transport.open) > 0; {
			if time.Sleep(time.Millisecond); time.Now().After(deadline) {
				t.Fatalf("%q: a connection that the server has closed is open", last)
			}
		}
	}
}

// A request on a kept connection that ends without an answer is made once more, with its body, on a
// new connection. One on a new connection is not.
func TestOnceMore(t *testing.T) {
	for _, c := range []struct {
		refuse int // from this connection on, and the second request of each
		want   string
		conns  int64
	}{{9, "200 ok", 2}, {1, "", 2}, {0, "", 1}} {
		var conns atomic.Int64
		at := receive(t, func(i int, nc net.Conn, r *bufio.Reader) {
			conns.Add(1)
			if read(r) == nil && i < c.refuse {
				io.WriteString(nc, okay)
				read(r)
			}
		})
		transport := New(destinations.Guard{}, nil, nil)
		first, err := send(t.Context(), transport, "http://"+at)
		if (first == "200 ok") != (c.refuse > 0) {
			t.Errorf("got %s, %v", first, err)
		}
		if c.refuse > 0 {
			if got, err := send(t.Context(), transport, "http://"+at); got != c.want ||
				(err == nil) != (c.want != "") {
				t.Errorf("got %s, %v, want %s", got, err, c.want)
			}
		}
		if transport.CloseIdleConnections(); conns.Load() != c.conns || len(transport.open) > 0 {
			t.Errorf("%d connections, want %d; %d are open", conns.Load(), c.conns,
				len(transport.open))
		}
	}
}

// A request whose body cannot be had again is not made once more.
func TestNotOnceMore(t *testing.T) {
	at := receive(t, func(_ int, nc net.Conn, r *bufio.Reader) {
		if read(r) == nil {
			io.WriteString(nc, okay)
			read(r)
		}
	})
	transport := New(destinations.Guard{}, nil, nil)
	if _, err := send(t.Context(), transport, "http://"+at); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at,
		strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	req.GetBody = nil
	if _, err := transport.RoundTrip(req); !errors.Is(err, http1.ErrSilent) {
		t.Errorf("got %v", err)
	}
}

// The end of the context ends each step before the request, and leaves no descriptor.
func TestEndOfContext(t *testing.T) {
	silent := receive(t, func(_ int, _ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	proxy := func(scheme string) *url.URL { return &url.URL{Scheme: scheme, Host: silent} }
	for _, c := range []struct {
		proxy *url.URL
		to    string
	}{
		{nil, "http://" + silent}, {nil, "https://" + silent},
		{proxy("http"), "http://a.example"}, {proxy("http"), "https://a.example"},
		{proxy("https"), "http://a.example"}, {proxy("https"), "https://a.example"},
	} {
		transport := New(destinations.Guard{}, nil, c.proxy)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := send(ctx, transport, c.to)
		if cancel(); !errors.Is(err, context.DeadlineExceeded) || len(transport.open) > 0 {
			t.Errorf("%v, %s: %v; %d are open", c.proxy, c.to, err, len(transport.open))
		}
		if _, err := send(ctx, transport, c.to); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, %s: %v, but its time was over before", c.proxy, c.to, err)
		}
	}
}

// tunnels is a proxy that connects to at whatever it is asked for, and notes what that was.
func tunnels(at string, asked chan<- string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.RequestURI + " " + r.Host + " " +
			r.Header.Get("Proxy-Authorization")
		if r.Method != http.MethodConnect {
			return
		}
		to, err := net.Dial("tcp", at)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer to.Close()
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		io.WriteString(nc, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { io.Copy(nc, to); nc.Close() }()
		io.Copy(to, nc)
	})
}

// Plain http goes through a proxy in absolute form, https in a tunnel; the proxy itself speaks
// either. Tunnels are kept for their server, connections to the proxy for all.
func TestProxies(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" {
			t.Error("the server sees the user of the proxy")
		}
		io.WriteString(w, "secret")
	}))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate()) // for example.com and 127.0.0.1
	asked := make(chan string, 4)
	for _, start := range []func(http.Handler) *httptest.Server{httptest.NewServer,
		httptest.NewTLSServer} {
		proxy := start(tunnels(server.Listener.Addr().String(), asked))
		at, err := url.Parse(proxy.URL)
		if err != nil {
			t.Fatal(err)
		}
		at.User = url.UserPassword("u", "p")
		transport := New(destinations.Guard{}, roots, at)
		for range 2 { // the second ones on kept connections
			got, err := send(t.Context(), transport, "https://example.com/in")
			if got != "200 secret" || err != nil {
				t.Errorf("%s: got %s, %v", at.Scheme, got, err)
			}
		}
		for _, to := range []string{"http://a.example/in?a=1", "http://b.example/"} {
			if got, err := send(t.Context(), transport, to); got != "200 " || err != nil {
				t.Errorf("%s: got %s, %v", at.Scheme, got, err)
			}
		}
		for _, want := range []string{
			"CONNECT example.com:443 example.com:443 Basic dTpw",
			"POST http://a.example/in?a=1 a.example Basic dTpw",
			"POST http://b.example/ b.example Basic dTpw"} {
			if got := <-asked; got != want {
				t.Errorf("%s: got %q, want %q", at.Scheme, got, want)
			}
		}
		if n := len(transport.open); n != 2 {
			t.Errorf("%s: %d connections", at.Scheme, n)
		}
		_, err = send(t.Context(), transport, "https://other.example/")
		if err == nil || !strings.Contains(err.Error(), "x509") {
			t.Errorf("%s: a wrong certificate: got %v", at.Scheme, err)
		}
		<-asked
		transport.CloseIdleConnections()
		proxy.Close()
		if len(transport.open) > 0 {
			t.Errorf("%s: %d are open", at.Scheme, len(transport.open))
		}
	}
}

// What a proxy answers to CONNECT other than yes is an error that says so.
func TestProxyRefuses(t *testing.T) {
	long := "X: " + strings.Repeat("x", 1019) + "\r\n"
	for answer, want := range map[string]string{
		"HTTP/1.1 407 \x1b[31m\r\n\r\n": "proxy: it answers 407 Proxy Authentication Required",
		"HTTP/1.1 502 No\r\n\r\n":       "proxy: it answers 502 Bad Gateway",
		"SSH-2.0-x\r\n":                 "proxy: malformed HTTP response",
		"":                              "proxy: the connection ended before an answer: EOF",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat(long, 65): "proxy: the head of the answer has " +
			"more than 65536 bytes",
		"HTTP/1.1 200 OK\r\n\r\nno TLS at all": "EOF",
	} {
		at := receive(t, func(_ int, nc net.Conn, r *bufio.Reader) {
			if read(r) == nil {
				io.WriteString(nc, answer)
				nc.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, r) // a connection with unread bytes would be reset
			}
		})
		proxy := &url.URL{Scheme: "http", Host: at, User: url.UserPassword("u", "secret-1")}
		transport := New(destinations.Guard{}, nil, proxy)
		_, err := send(t.Context(), transport, "https://a.example/")
		if err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "secret-1") {
			t.Errorf("%.30q: got %v, want %s", answer, err, want)
		}
		if len(transport.open) > 0 {
			t.Errorf("%.30q: %d are open", answer, len(transport.open))
		}
	}
}

// Which address a URL stands for.
func TestAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"http://a.example": "a.example:80", "https://a.example/x": "a.example:443",
		"https://a.example:8443": "a.example:8443", "http://[::1]": "[::1]:80",
		"http://[fe80::1%25Eth0]:81": "[fe80::1%Eth0]:81", "http://a.example:": "a.example:80",
		"http://B\u00dccher.example": "xn--bcher-kva.example:80",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := address(u); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"ftp://a.example", "http://", "/in", "http://:80"} {
		if _, err := send(t.Context(), New(destinations.Guard{}, nil, nil), text); err == nil ||
			!strings.Contains(err.Error(), "not an http or https URL") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}
