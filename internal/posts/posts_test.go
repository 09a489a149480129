package posts

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reverb/internal/lib/destinations"
	"reverb/internal/lib/outbound"
)

// post is a request without events.
func post(to string) *Post {
	u, err := url.Parse(to)
	if err != nil {
		panic(err)
	}
	return &Post{URL: u, Timeout: 5 * time.Second, Key: "key-1", Secret: "secret-1", ID: "id"}
}

func transport(t *testing.T, roots *x509.CertPool, proxy *url.URL) *outbound.Transport {
	by := outbound.New(destinations.Guard{}, roots, proxy)
	t.Cleanup(by.CloseIdleConnections)
	return by
}

// What goes over the wire, byte for byte: pusher-http-php finds headers by their spelling, and
// pusher-http-node wants the type without a charset.
func TestWire(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lines := make(chan []string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var head []string
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			if line = strings.TrimSpace(line); err != nil || line == "" {
				break
			}
			head = append(head, line)
		}
		lines <- head
		fmt.Fprint(conn, "HTTP/1.1 204 No Content\r\n\r\n")
	}()
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	p := post("http://user:p%40ss@" + l.Addr().String() + "/in?a=1#part")
	p.Headers = http.Header{"x-team": {"one"}, "content-type": {"text/html"}}
	p.Events = []byte(`{"name":"channel_occupied","channel":"a"}`)
	if got := p.Send(t.Context(), transport(t, nil, nil), time.Now); got.Status != 204 {
		t.Errorf("got %+v", got)
	}
	head := <-lines
	content := len(`{"time_ms":1795709778123,"events":[{"name":"channel_occupied","channel":"a"}]}`)
	for _, want := range []string{"POST /in?a=1 HTTP/1.1", "Host: " + l.Addr().String(),
		"User-Agent: reverb", fmt.Sprint("Content-Length: ", content),
		"Content-Type: application/json", "X-Pusher-Key: key-1", "X-Team: one",
		"Authorization: Basic dXNlcjpwQHNz"} {
		if !slices.Contains(head, want) {
			t.Errorf("%q lacks %q", head, want)
		}
	}
	signed := func(line string) bool { return strings.HasPrefix(line, "X-Pusher-Signature: ") }
	if !slices.ContainsFunc(head, signed) || len(head) != 10 {
		t.Errorf("%q", head)
	}
}

// answers starts a server that writes raw bytes to each connection, again and again up to 64 MiB,
// as long as it can. written is how many it has written.
func answers(t *testing.T, begin, again string) (address string, written *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	written = new(atomic.Int64)
	t.Cleanup(func() { l.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					return
				}
				_, err := io.WriteString(conn, begin)
				for again != "" && err == nil && written.Load() < 64<<20 {
					_, err = io.WriteString(conn, again)
					written.Add(int64(len(again)))
				}
			})
		}
	})
	return l.Addr().String(), written
}

// Answers without end are not read to the end, and what is no answer is a failure.
func TestStrangeAnswers(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for _, c := range []struct{ begin, again, why string }{
		{"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", long, ""},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "", ""}, // the body is cut
		{"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n", long, "status 500"},
		{"HTTP/1.1 200 OK\r\n", "X: " + long + "\r\n", "has more than 65536 bytes"},
		{"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early\r\nX: " + long + "\r\n\r\n",
			"more than 65536 bytes"},
		{"SSH-2.0-\x1b[31mbad\r\n", "", `malformed HTTP response`},
		{"", "", "EOF"},
	} {
		at, written := answers(t, c.begin, c.again)
		got := post("http://"+at).Send(t.Context(), transport(t, nil, nil), time.Now)
		switch why := ""; {
		case c.why == "" && !got.OK():
			t.Errorf("%q: %+v", c.begin, got)
		case c.why != "":
			if why = got.Why(); !strings.Contains(why, c.why) || strings.Contains(why, "\x1b") {
				t.Errorf("%q: got %q, want %q", c.begin, why, c.why)
			}
		}
		if n := written.Load(); n > 32<<20 { // buffers of sockets have a few MiB
			t.Errorf("%q: the server could write %d bytes", c.begin, n)
		}
	}
}

// An answer that hands over the connection ends the request at once, although no byte follows.
func TestSwitchingProtocols(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var server sync.WaitGroup
	server.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		if _, err := http.ReadRequest(r); err != nil {
			t.Error(err)
		}
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+
			"Upgrade: x\r\n\r\n")
		conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error("the client keeps the connection: ", err)
		}
	})
	got := post("http://"+l.Addr().String()).Send(t.Context(), transport(t, nil, nil), time.Now)
	if got.Why() != "status 101" {
		t.Errorf("got %q", got.Why())
	}
	server.Wait()
}

// Nothing is sent to an address that the guard refuses.
func TestGuard(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request has arrived")
	}))
	defer server.Close()
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"0.0.0.0":                  "0.0.0.0 is the unspecified address",
		"169.254.169.254":          "169.254.169.254 is a metadata service of a cloud",
		"[::ffff:169.254.169.254]": "169.254.169.254 is a metadata service of a cloud",
		"[64:ff9b::a9fe:1]":        "is a link-local address, as 169.254.0.1",
	} {
		got := post("http://"+host+":"+at.Port()+"/").Send(t.Context(), transport(t, nil, nil),
			time.Now)
		if got.Err == nil || !strings.Contains(got.Why(), want) {
			t.Errorf("%s: got %s, want %s", host, got.Why(), want)
		}
	}
}

// A proxy is not asked for an address that the guard refuses.
func TestGuardBehindProxy(t *testing.T) {
	by := transport(t, nil, &url.URL{Scheme: "http", Host: "127.0.0.1:1"})
	for _, host := range []string{"169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]:80"} {
		got := post("https://"+host+"/").Send(t.Context(), by, time.Now)
		if !strings.Contains(got.Why(), " is a ") {
			t.Errorf("%s: got %s", host, got.Why())
		}
	}
}

// HTTPS with certificates that only the operator trusts; HTTP/2 is not spoken.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("spoke %s", r.Proto)
		}
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for _, c := range []struct {
		roots *x509.CertPool
		want  string
	}{{nil, "x509"}, {roots, ""}} {
		got := post(server.URL).Send(t.Context(), transport(t, c.roots, nil), time.Now)
		if got.OK() != (c.want == "") || !strings.Contains(got.Why(), c.want) {
			t.Errorf("got %+v, want %q", got, c.want)
		}
	}
}

// A proxy is used if one is given, and asked for the URL.
func TestProxy(t *testing.T) {
	asked := make(chan string, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String() + " " + r.Header.Get("Proxy-Authorization")
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword("u", "p")
	post("http://app.example/in").Send(t.Context(), transport(t, nil, at), time.Now)
	if got, want := <-asked, "http://app.example/in Basic dTpw"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
