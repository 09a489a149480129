package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// request is one with a body.
func request(ctx context.Context, body string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://a.example/in",
		strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	return req
}

// pair is a connection to a server, and the server's end. freed counts how often the connection
// could have been used again. It is for a bubble of synctest, at the end of which both are closed.
func pair(t *testing.T) (c *Conn, server net.Conn, freed *int) {
	near, far := net.Pipe()
	t.Cleanup(func() {
		near.Close()
		far.Close()
		time.Sleep(time.Minute) // what serves far notices
	})
	freed = new(int)
	return New(near, false, func(*Conn) { *freed++ }), far, freed
}

// take reads a request and sends an answer.
func take(t *testing.T, server net.Conn, answer string) {
	req, err := http.ReadRequest(bufio.NewReader(server))
	if err == nil {
		_, err = io.Copy(io.Discard, req.Body)
	}
	if err != nil {
		t.Errorf("the request: %v", err)
	}
	io.WriteString(server, answer) // the client may have closed
}

// What goes over the wire.
func TestRequests(t *testing.T) {
	for _, c := range []struct {
		method, url, body string
		proxy, close      bool
		want              string
	}{
		{"GET", "http://a.example", "", false, false, "GET / HTTP/1.1\r\nHost: a.example\r\n"},
		{"GET", "http://a.example:81/a%2fb%20c?d=e#f", "", false, true,
			"GET /a%2fb%20c?d=e HTTP/1.1\r\nHost: a.example:81\r\nConnection: close\r\n"},
		{"POST", "https://u:p@B\u00dccher.example:443/in", "body", false, false,
			"POST /in HTTP/1.1\r\nHost: xn--bcher-kva.example:443\r\nContent-Length: 4\r\n"},
		{"POST", "http://[fe80::1%25eth0]:80/", "", false, false,
			"POST / HTTP/1.1\r\nHost: [fe80::1]:80\r\nContent-Length: 0\r\n"},
		{"POST", "http://u:p@a.example/in?a", "body", true, false,
			"POST http://a.example/in?a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n"},
	} {
		req, err := http.NewRequest(c.method, c.url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Close = c.close
		req.Header = http.Header{"X-Team": {"one\r\nX-Two: two"}, "Content-Length": {"9"},
			"Transfer-Encoding": {"chunked"}, "Host": {"b.example"}, "Bad name": {"x"}}
		var got bytes.Buffer
		want := c.want + "X-Team: one  X-Two: two\r\n\r\n" + c.body
		if err := write(&got, req, c.proxy); err != nil || got.String() != want {
			t.Errorf("%s: got %q, %v, want %q", c.url, got.String(), err, want)
		}
		back, err := http.ReadRequest(bufio.NewReader(&got))
		if err != nil || back.Method != c.method || back.Close != c.close ||
			back.ContentLength != int64(len(c.body)) {
			t.Errorf("%s: net/http reads %v, %v", c.url, back, err)
		}
	}
}

// A request of which a server would take something for another request is not sent.
func TestRefusedRequests(t *testing.T) {
	good := func() *http.Request { return request(context.Background(), "body") }
	for want, spoil := range map[string]func(*http.Request){
		"length of the request is not known": func(r *http.Request) { r.ContentLength = 0 },
		"length of the request is not":       func(r *http.Request) { r.ContentLength = -1 },
		"EOF":                                func(r *http.Request) { r.ContentLength = 5 },
		"the URL has a control character":    func(r *http.Request) { r.URL.RawQuery = "\r\nX: y" },
		"the URL has a control":              func(r *http.Request) { r.URL.Host = "a\r\nX: y" },
		"has a control character":            func(r *http.Request) { r.Method = "GET\n" },
	} {
		req := good()
		spoil(req)
		if err := write(io.Discard, req, false); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	long, sent := good(), new(bytes.Buffer)
	long.ContentLength = 3
	if err := write(sent, long, false); err != nil || !strings.HasSuffix(sent.String(), "\nbod") {
		t.Errorf("%q, %v", sent, err)
	}
}

// Which answers have which body, and leave a connection that can be used again.
func TestAnswers(t *testing.T) {
	const created = "HTTP/1.1 201 Created\r\n"
	for _, c := range []struct {
		answer, body string
		status       int
		again        bool
	}{
		{created + "Content-Length: 3\r\n\r\nyes", "yes", 201, true},
		{created + "Content-Length: 0\r\n\r\n", "", 201, true},
		{"HTTP/1.1 204 No Content\r\n\r\n", "", 204, true},
		{created + "Transfer-Encoding: chunked\r\n\r\n2\r\nye\r\n1;x=y\r\ns\r\n0\r\nX: y\r\n\r\n",
			"yes", 201, true},
		{created + "\r\nuntil the end", "until the end", 201, false},
		{created + "Connection: close\r\nContent-Length: 3\r\n\r\nyes", "yes", 201, false},
		{"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes", "yes", 200, false},
		{"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nyes", "yes", 200,
			true},
		{created + "Content-Length: 3\r\n\r\nyes, and more", "yes", 201, false},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + created +
			"Content-Length: 3\r\n\r\nyes", "yes", 201, true},
		{"HTTP/1.1 101 Switching Protocols\r\n\r\n", "", 101, false},
		{"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n", "", 302, true},
		{created + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8bx", "\x1f\x8bx",
			201, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn, server, freed := pair(t)
			go func() {
				take(t, server, c.answer)
				if !c.again {
					server.Close()
				}
			}()
			resp, err := conn.Do(request(t.Context(), "body"))
			if err != nil {
				t.Fatalf("%q: %v", c.answer, err)
			}
			body, err := io.ReadAll(resp.Body)
			if string(body) != c.body || err != nil || resp.StatusCode != c.status {
				t.Errorf("%q: got %d %q, %v", c.answer, resp.StatusCode, body, err)
			}
			resp.Body.Close()
			resp.Body.Close()
			if (*freed == 1) != c.again || *freed > 1 {
				t.Errorf("%q: freed %d times", c.answer, *freed)
			}
			if _, err := resp.Body.Read(body); err == nil {
				t.Errorf("%q: a closed body is read", c.answer)
			}
		})
	}
}

// What is no answer is an error, and closes the connection.
func TestNoAnswers(t *testing.T) {
	long := "X: " + strings.Repeat("x", 1019) + "\r\n"
	for _, c := range []struct {
		answer, want string
		silent       bool
	}{
		{"", "before an answer: EOF", true},
		{"SSH-2.0-other\r\n", "malformed HTTP response", false},
		{"\x15\x03\x03", "malformed HTTP response", false},
		{"HTTP/1.1 two OK\r\n\r\n", "malformed HTTP status", false},
		{"HTTP/1.1 200 OK\r\nContent-Le", "malformed MIME header", false},
		{"HTTP/1.1 200 OK\r\n", "unexpected EOF", false},
		{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad Content-Length", false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "Content-Length",
			false},
		{"HTTP/1.1 200 OK\r\n" + strings.Repeat(long, 65), "more than 65536 bytes", false},
		{strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 3000), "more than 65536 bytes", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn, server, freed := pair(t)
			go func() { take(t, server, c.answer); server.Close() }()
			_, err := conn.Do(request(t.Context(), "body"))
			if err == nil || !strings.Contains(err.Error(), c.want) ||
				errors.Is(err, ErrSilent) != c.silent {
				t.Errorf("%.40q: got %v, want %s", c.answer, err, c.want)
			}
			if _, err := conn.nc.Write([]byte("x")); err == nil || *freed > 0 {
				t.Errorf("%.40q: the connection is open", c.answer)
			}
		})
	}
}

// A head just within the bound is taken, with a body that is larger.
func TestLongestHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server, freed := pair(t)
		head := "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\nX: "
		head += strings.Repeat("x", MaxHead-len(head)-4) + "\r\n\r\n"
		go take(t, server, head+strings.Repeat("b", 200_000))
		resp, err := conn.Do(request(t.Context(), ""))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if resp.Body.Close(); n != 200_000 || err != nil || *freed != 1 {
			t.Errorf("got %d bytes, %v, freed %d times", n, err, *freed)
		}
	})
}

// The end of the context ends an exchange whatever it waits for, with the cause for an error.
func TestEndOfContext(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
	for phase, server := range map[string]func(net.Conn){
		"the request is not read": func(net.Conn) {},
		"half of it is read":      func(c net.Conn) { io.ReadFull(c, make([]byte, 100)) },
		"no answer":               func(c net.Conn) { io.Copy(io.Discard, c) },
		"slow head": func(c net.Conn) {
			go io.Copy(io.Discard, c)
			for _, b := range []byte(head) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
		"endless interim answers": func(c net.Conn) {
			go io.Copy(io.Discard, c)
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
		"slow body": func(c net.Conn) {
			go io.Copy(io.Discard, c)
			io.WriteString(c, head+"1234")
		},
		"an answer, and the request is not read": func(c net.Conn) { io.WriteString(c, head) },
	} {
		for _, cancel := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				conn, far, freed := pair(t)
				gone := errors.New("gone")
				ctx, end := context.WithCancelCause(t.Context())
				want := gone
				if cancel {
					time.AfterFunc(10*time.Second, func() { end(gone) })
				} else {
					var stop func()
					ctx, stop = context.WithTimeout(ctx, 10*time.Second)
					defer stop()
					want = context.DeadlineExceeded
				}
				go server(far)
				begin := time.Now()
				resp, err := conn.Do(request(ctx, strings.Repeat("b", 64<<10)))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if took := time.Since(begin); !errors.Is(err, want) || took > 11*time.Second {
					t.Errorf("%s: after %v %v, want %v", phase, took, err, want)
				}
				if _, err := conn.nc.Write(nil); err == nil || *freed > 0 {
					t.Errorf("%s: the connection is open", phase)
				}
				far.Close()
				end(nil)
			})
		}
	}
}

// A context that ends after the answer was read leaves no deadline on a connection that is used
// again, and one that ends before Close closes it.
func TestLateEndOfContext(t *testing.T) {
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			conn, server, freed := pair(t)
			ctx, cancel := context.WithCancel(t.Context())
			go take(t, server, "HTTP/1.1 204 No Content\r\n\r\n")
			resp, err := conn.Do(request(ctx, "body"))
			if err != nil {
				t.Fatal(err)
			}
			if !late {
				cancel()
			}
			if resp.Body.Close(); (*freed == 1) != late {
				t.Errorf("freed %d times", *freed)
			}
			if cancel(); late {
				synctest.Wait()
				go take(t, server, "HTTP/1.1 204 No Content\r\n\r\n")
				if _, err := conn.Do(request(t.Context(), "body")); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// An answer that comes before the request is written counts. The connection can be used again if
// the server reads the rest at once.
func TestEarlyAnswer(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		again bool
	}{{grace / 2, true}, {2 * grace, false}} {
		synctest.Test(t, func(t *testing.T) {
			conn, server, freed := pair(t)
			go func() {
				io.WriteString(server, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
				time.Sleep(c.after)
				io.Copy(io.Discard, server)
			}()
			resp, err := conn.Do(request(t.Context(), strings.Repeat("b", 1<<20)))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != 413 || string(body) != "no" || err != nil {
				t.Errorf("got %d %q, %v", resp.StatusCode, body, err)
			}
			if resp.Body.Close(); (*freed == 1) != c.again {
				t.Errorf("after %v: freed %d times", c.after, *freed)
			}
		})
	}
}

// broken is the body of a request that breaks off.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

// A request that cannot be written is an error, though the server waits for the rest.
func TestBrokenRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server, _ := pair(t)
		go io.Copy(io.Discard, server)
		req := request(t.Context(), "body")
		req.Body = io.NopCloser(broken{})
		if _, err := conn.Do(req); err == nil ||
			!strings.Contains(err.Error(), "the disk is gone") {
			t.Errorf("got %v", err)
		}
	})
}

// A connection that is closed before the body was read to its end is not used again.
func TestBodyIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, server, freed := pair(t)
		go take(t, server, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234")
		resp, err := conn.Do(request(t.Context(), "body"))
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); *freed > 0 {
			t.Error("the connection would have been used again")
		}
	})
}

// A rest ends when the server sends or closes, when its time is over, and when it is woken.
func TestRest(t *testing.T) {
	for _, c := range []struct {
		what  string
		do    func(net.Conn)
		after time.Duration // 0: Wake ends the rest
		good  bool
	}{
		{"nothing", func(net.Conn) {}, 0, true},
		{"its time is over", func(net.Conn) {}, time.Minute, true},
		{"closed", func(c net.Conn) { time.Sleep(time.Second); c.Close() }, time.Second, false},
		{"sent", func(c net.Conn) { time.Sleep(time.Second); c.Write([]byte("HTTP/1.1 408 X")) },
			time.Second, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn, server, _ := pair(t)
			begin, ended := time.Now(), time.Duration(0)
			conn.Rest(time.Minute, func() { ended = time.Since(begin) })
			go c.do(server)
			if c.after > 0 {
				time.Sleep(2 * time.Minute)
			}
			if good := conn.Wake(); good != c.good || ended != c.after {
				t.Errorf("%s: after %v good: %v", c.what, ended, good)
			}
			if c.what != "nothing" {
				return
			}
			time.Sleep(2 * time.Minute) // the deadline of the rest is gone
			go take(t, server, "HTTP/1.1 204 No Content\r\n\r\n")
			if _, err := conn.Do(request(t.Context(), "body")); err != nil {
				t.Error(err)
			}
		})
	}
}

// canned is a connection on which the server's bytes are there from the beginning.
type canned struct {
	net.Conn // nil
	come     io.Reader
	closed   bool
}

func (c *canned) Read(b []byte) (int, error)       { return c.come.Read(b) }
func (c *canned) Write(b []byte) (int, error)      { return len(b), nil }
func (c *canned) Close() error                     { c.closed = true; return nil }
func (c *canned) SetDeadline(time.Time) error      { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

// Whatever a server sends, there is an answer or an error, and the connection is either free or
// closed. It is free after bytes that net/http alone takes for a whole answer, and all of them.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 X\r\n\r\n", "HTTP/1.1 101 X\r\n\r\nframes",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\nHTTP",
		"HTTP/1.0 200 OK\r\n\r\nall", "HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		nc, freed := &canned{come: bytes.NewReader(b)}, false
		conn := New(nc, false, func(*Conn) { freed = true })
		resp, err := conn.Do(request(t.Context(), "body"))
		if err != nil {
			if !nc.closed || freed || errors.Is(err, ErrSilent) != (len(b) == 0) {
				t.Errorf("%v; closed: %v, free: %v", err, nc.closed, freed)
			}
			return
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if resp.Body.Close(); freed == nc.closed {
			t.Errorf("closed: %v, free: %v", nc.closed, freed)
		}
		plain := bufio.NewReader(bytes.NewReader(b))
		var want *http.Response
		for want == nil || want.StatusCode/100 == 1 && want.StatusCode != 101 {
			if want, _ = http.ReadResponse(plain, resp.Request); want == nil {
				t.Fatalf("got %d, net/http has no answer", resp.StatusCode)
			}
		}
		wanted, wrong := io.ReadAll(io.LimitReader(want.Body, 1<<20))
		if resp.StatusCode != want.StatusCode || !bytes.Equal(body, wanted) ||
			fmt.Sprint(err) != fmt.Sprint(wrong) {
			t.Errorf("got %d %q, %v, want %d %q, %v", resp.StatusCode, body, err, want.StatusCode,
				wanted, wrong)
		}
		if rest, _ := io.ReadAll(plain); freed && (want.Close || len(rest) > 0 && len(b) < 4096) {
			t.Errorf("the connection is free; %q follows", rest)
		}
	})
}
