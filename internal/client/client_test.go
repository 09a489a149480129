package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"reverb/internal/lib/http1"
	"reverb/internal/protocol"
)

// script is a Conn that a test has written: messages, and then an error.
type script struct {
	come []string
	sent []string
	end  error
}

func (s *script) ReadMessage() ([]byte, error) {
	if len(s.come) == 0 {
		return nil, s.end
	}
	m := s.come[0]
	s.come = s.come[1:]
	return []byte(m), nil
}

func (s *script) WriteMessage(message []byte) error {
	s.sent = append(s.sent, string(message))
	return nil
}

var errOver = errors.New("the connection is gone: EOF")

// pusherApp is the app of the examples in Pusher's documentation.
var pusherApp = App{ID: "3", Key: "278d425bdf160c739803", Secret: "7ad3773142a6692b25b8",
	Origin: "localhost"}

const established = `{"event":"pusher:connection_established",` +
	`"data":"{\"socket_id\":\"1234.1234\",\"activity_timeout\":30}"}`

// TestSignatures holds the examples of Pusher's documentation ("Authentication
// signatures", "Worked authentication example").
func TestSignatures(t *testing.T) {
	want := `{"event":"pusher:subscribe","data":{"channel":"private-foobar",` +
		`"auth":"278d425bdf160c739803:` +
		`58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"}}`
	if got := string(pusherApp.subscription("1234.1234", "private-foobar", nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	body := []byte(`{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}`)
	want = "auth_key=278d425bdf160c739803" +
		"&auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c" +
		"&auth_timestamp=1353088179&auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f"
	if got := pusherApp.signedQuery("/apps/3/events", body, time.Unix(1353088179, 0)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestListen(t *testing.T) {
	c := &script{end: errOver, come: []string{
		established,
		`{"event":"pusher_internal:subscription_succeeded","data":"{}","channel":"private-x"}`,
		`{"event":"pusher:ping","data":"{}"}`,
		`{"event":"e","data":"{\"n\":1}","channel":"private-x"}`,
		`{"event":"e","data":{"n":2},"channel":"private-x","extra":[1]}`,
		`{"event":"pusher:error","data":"of a channel","channel":"private-x"}`,
		`{"event":"none"}`,
		`{"event":"pusher_internal:subscription_succeeded","data":"{}","channel":"presence-y"}`,
		`{"event":"client-e","data":1,"channel":"presence-y","user_id":"7"}`,
		`{"event":"client-e","data":1,"channel":"presence-y","user_id":8}`,
	}}
	var heard []Event
	err := pusherApp.follow(c, []string{"private-x", "presence-y"},
		func(e Event) error { heard = append(heard, e); return nil }, nil)
	if err != errOver {
		t.Errorf("got %v, want the connection's error", err)
	}
	want := []Event{
		{"private-x", Subscribed, "{}", ""},
		{"private-x", "e", `{"n":1}`, ""},
		{"private-x", "e", `{"n":2}`, ""},
		{"private-x", "pusher:error", "of a channel", ""},
		{"", "none", "", ""},
		{"presence-y", Subscribed, "{}", "listen-1234.1234"},
		{"presence-y", "client-e", "1", "7"},
		{"presence-y", "client-e", "1", "8"},
	}
	if !slices.Equal(heard, want) {
		t.Errorf("got  %q\nwant %q", heard, want)
	}
	member := `{"user_id":"listen-1234.1234","user_info":{"name":"reverb listen"}}`
	sent := []string{
		`{"event":"pusher:subscribe","data":{"channel":"private-x","auth":"` + pusherApp.Key + ":" +
			protocol.Sign(pusherApp.Secret, "1234.1234:private-x") + `"}}`,
		`{"event":"pusher:subscribe","data":{"channel":"presence-y",` +
			`"channel_data":"{\"user_id\":\"listen-1234.1234\",\"user_info\":{\"name\":\"reverb ` +
			`listen\"}}","auth":"` + pusherApp.Key + ":" +
			protocol.Sign(pusherApp.Secret, "1234.1234:presence-y:"+member) + `"}}`,
		`{"event":"pusher:pong","data":"{}"}`,
	}
	if !slices.Equal(c.sent, sent) {
		t.Errorf("got  %q\nwant %q", c.sent, sent)
	}
}

// With a user the client signs in before it subscribes, in the form that the server verifies.
func TestListenAsUser(t *testing.T) {
	a := pusherApp
	a.User = `a"7`
	c := &script{end: errOver, come: []string{`{"event":"pusher:connection_established","data":` +
		`"{\"socket_id\":\"1234.1234\",\"activity_timeout\":30}"}`,
		`{"event":"pusher:signin_success","data":"{}"}`,
		`{"event":"e","data":"x","channel":"#server-to-user-a"}`}}
	var heard []Event
	err := a.follow(c, []string{"x"}, func(e Event) error {
		heard = append(heard, e)
		return nil
	}, nil)
	if err != errOver || len(c.sent) != 2 || !slices.Equal(heard,
		[]Event{{"", SignedIn, "{}", ""}, {"#server-to-user-a", "e", "x", ""}}) {
		t.Fatalf("got %v, heard %q, sent %q", err, heard, c.sent)
	}
	e, err := protocol.ParseEvent([]byte(c.sent[0]))
	if err != nil {
		t.Fatal(err)
	}
	keys := protocol.Credentials{Key: a.Key, Secret: a.Secret}
	if u, bad := keys.SignIn(e.Data, protocol.SocketIDOf(1234<<32|1234), nil); bad != nil ||
		u.ID != a.User {
		t.Errorf("got %+v, %+v", u, bad)
	}
}

func TestListenErrors(t *testing.T) {
	for _, tt := range []struct{ message, want string }{
		{`{"event":"pusher:error","data":{"code":4001,"message":"Application does not exist"}}`,
			"the server answers 4001 Application does not exist; compare REVERB_APP_KEY with the " +
				"server's"},
		{`{"event":"pusher:error","data":"{\"code\":4009,\"message\":\"Connection is ` +
			`unauthorized\"}"}`, "the server answers 4009 Connection is unauthorized; compare " +
			"REVERB_APP_SECRET with the server's"},
		{`{"event":"pusher:error","data":{"code":null,"message":"Too many subscriptions"}}`,
			"the server answers Too many subscriptions"},
		{`{"event":"pusher:error","data":"gone fishing"}`, "the server answers gone fishing"},
		{`{"event":"pusher:error"}`, "the server answers "},
		{`{"event":""}`, "a message that is none: no event name"},
		{`[]`, "a message that is none: "},
		{`{"event":"pusher:connection_established","data":"no object"}`,
			"read connection_established: "},
	} {
		err := pusherApp.follow(&script{come: []string{tt.message}, end: errOver}, []string{"x"},
			func(Event) error { return nil }, nil)
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) ||
			strings.HasPrefix(tt.want, "the server") && err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.message, err, tt.want)
		}
	}
	stop := errors.New("enough")
	if err := pusherApp.follow(&script{come: []string{`{"event":"e"}`}, end: errOver}, nil,
		func(Event) error { return stop }, nil); err != stop {
		t.Errorf("got %v, want the error of heard", err)
	}
}

func FuzzListen(f *testing.F) {
	for _, s := range []string{established, `{"event":"pusher:error","data":{"code":4001,` +
		`"message":"x"}}`, `{"event":"pusher:error","data":"\ud800"}`,
		`{"event":"e","data":null,"channel":{}}`, subscribed("x", `{"epoch":"e","offset":"o",`+
			`"recovered":false}`)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, message string) {
		c := &script{come: []string{message}, end: errOver}
		heard := 0
		p := newPositions(new(listener))
		err := pusherApp.follow(c, []string{"x"}, func(Event) error { heard++; return nil }, p)
		if err == nil || err == errOver && heard+len(c.sent) == 0 {
			t.Errorf("%q: got %v, nothing heard and nothing sent", message, err)
		}
		p.connected("1.2")
		if data := p.appendResume([]byte(`{"channel":"x"`), "x"); !json.Valid(append(data, '}')) {
			t.Errorf("%q: asks with %s", message, data)
		}
	})
}

// serve is a Server whose connections end in handle. handle gets the bytes that the client has sent
// up to the end of the header, and the connection; it closes nothing.
func serve(t *testing.T, handle func(nc net.Conn, r *bufio.Reader)) *Server {
	return &Server{Network: "tcp", Address: "ws.test:80", Path: "/ws", App: pusherApp,
		Dial: func(_ context.Context, network, address string) (net.Conn, error) {
			if network != "tcp" || address != "ws.test:80" {
				t.Errorf("dialled %s %s", network, address)
			}
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				handle(there, bufio.NewReader(there))
			}()
			return here, nil
		}}
}

// answering is a Server that answers every request with the same words. It sends what was
// asked to asked.
func answering(t *testing.T, words string) (s *Server, asked chan string) {
	asked = make(chan string, 1)
	return serve(t, func(nc net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Error(err)
			return
		}
		body, _ := io.ReadAll(req.Body)
		asked <- fmt.Sprintf("%s %s %s %s", req.Method, req.URL.Path, req.Header.Get("Origin"),
			body)
		io.WriteString(nc, words)
	}), asked
}

const (
	switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: " +
		"Upgrade\r\n\r\n"
	fine = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: Mon, 02 Jan 2006 15:04:45 GMT\r\n\r\n{}"
)

func TestOpen(t *testing.T) {
	s, asked := answering(t, switching+"first frame")
	nc, r, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if got, want := <-asked, "GET /ws/app/278d425bdf160c739803 https://localhost "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if b, err := io.ReadAll(r); string(b) != "first frame" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestOpenRefused(t *testing.T) {
	for _, tt := range []struct{ answer, want string }{
		{"HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\n\r\nNot found.\n",
			"the server answers 404: there is nothing; " +
				"compare REVERB_SERVER_PATH with the server's"},
		{"HTTP/1.1 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
			"the server answers 400: it serves TLS; set REVERB_TLS_CERT here too"},
		{"HTTP/1.1 200 OK\r\n\r\n<html>", "the server answers 200: which reverb does not; " +
			"another program is listening there"},
		{"HTTP/1.1 503 Service Unavailable\r\n\r\nfull", "the server answers 503: full"},
		{"", "read handshake: the connection ended before an answer: EOF"},
	} {
		s, _ := answering(t, tt.answer)
		if _, _, err := s.open(t.Context()); err == nil || err.Error() != tt.want ||
			Hint(err) != "" {
			t.Errorf("%q: got %v, want %s", tt.answer, err, tt.want)
		}
	}
}

// TestProxied sends the header of a proxy before anything else.
func TestProxied(t *testing.T) {
	first := make(chan string, 1)
	s := serve(t, func(nc net.Conn, r *bufio.Reader) {
		line, _ := r.ReadString('\n')
		first <- line
		http.ReadRequest(r)
		io.WriteString(nc, fine)
	})
	s.Proxied = true
	if answer, err := s.Health(t.Context()); answer != "{}" || err != nil {
		t.Errorf("got %q, %v", answer, err)
	}
	if got := <-first; got != "PROXY UNKNOWN\r\n" {
		t.Errorf("got %q", got)
	}
}

// certificate makes a self-signed certificate for ws.test.
func certificate(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"ws.test"},
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestTLS checks the certificate where a name is given, and only there.
func TestTLS(t *testing.T) {
	c := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	s := serve(t, func(nc net.Conn, _ *bufio.Reader) {
		secure := tls.Server(nc, c)
		if req, err := http.ReadRequest(bufio.NewReader(secure)); err == nil &&
			req.URL.Path == "/ws/up" {
			io.WriteString(secure, fine)
		}
		secure.Close()
	})
	s.TLS = true
	if answer, err := s.Health(t.Context()); answer != "{}" || err != nil {
		t.Errorf("without a name: got %q, %v", answer, err)
	}
	s.Name = "ws.test"
	if _, err := s.Health(t.Context()); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("with a name: got %v, want that the authority is not known", err)
	}
	plain := serve(t, func(nc net.Conn, r *bufio.Reader) {
		go io.Copy(io.Discard, r)
		io.WriteString(nc, "HTTP/1.0 400 Bad Request\r\n\r\n")
	})
	plain.TLS = true
	if _, err := plain.Health(t.Context()); !strings.Contains(Hint(err),
		"leave REVERB_TLS_CERT out") {
		t.Errorf("got %v with the hint %q", err, Hint(err))
	}
}

func TestNoServer(t *testing.T) {
	s := &Server{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil,
			io.ErrClosedPipe
	}}
	_, _, err := s.open(t.Context())
	if !errors.Is(err, errNoServer) || !errors.Is(err, io.ErrClosedPipe) ||
		!strings.Contains(Hint(err), "is the server running") {
		t.Errorf("got %v with the hint %q", err, Hint(err))
	}
	if _, err = s.Health(t.Context()); !errors.Is(err, errNoServer) {
		t.Errorf("got %v", err)
	}
}

func TestPublicationBody(t *testing.T) {
	for _, tt := range []struct {
		p    Publication
		want string
	}{
		{Publication{[]string{"a"}, "e", `{"n":1}`, ""},
			`{"name":"e","data":"{\"n\":1}","channel":"a"}`},
		{Publication{[]string{"a", "b,c"}, "e", "1", ""},
			`{"name":"e","data":"1","channels":["a","b,c"]}`},
		{Publication{[]string{"a", "b", "c"}, `e"`, "1", "1.\x00"},
			`{"name":"e\"","data":"1","channels":["a","b","c"],"socket_id":"1.\u0000"}`},
	} {
		if got := string(tt.p.body()); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

func TestTrigger(t *testing.T) {
	now := time.Unix(1353088179, 0)
	s, asked := answering(t, fine)
	news := &Publication{Channels: []string{"news"}, Event: "e", Data: `{"n":1}`}
	if err := s.Trigger(t.Context(), news, now); err != nil {
		t.Error(err)
	}
	if got, want := <-asked, `POST /ws/apps/3/events  {"name":"e","data":"{\"n\":1}",`+
		`"channel":"news"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s, _ = answering(t, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 5\r\n\r\nwrong")
	err := s.Trigger(t.Context(), news, now)
	if err == nil || err.Error() != "the server answers 401: wrong" {
		t.Errorf("got %v", err)
	}
	s, _ = answering(t, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{")
	if err := s.Trigger(t.Context(), news, now); err == nil {
		t.Error("an answer that breaks off is taken")
	}
}

// TestAnswerIsBounded reads no more of an answer than it may keep.
func TestAnswerIsBounded(t *testing.T) {
	s := serve(t, func(nc net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(nc, "HTTP/1.1 200 OK\r\n\r\n")
		for range 3 * maxAnswerBytes / 4096 { // until the client has closed
			if _, err := nc.Write(bytes.Repeat([]byte("x"), 4096)); err != nil {
				return
			}
		}
	})
	if answer, err := s.Health(t.Context()); len(answer) != maxAnswerBytes || err != nil {
		t.Errorf("got %d bytes, %v", len(answer), err)
	}
}

// TestHeadIsBounded reads no endless head, with either kind of request.
func TestHeadIsBounded(t *testing.T) {
	s := serve(t, func(nc net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\n")
		for range 3 * http1.MaxHead / 1024 { // until the client has closed
			if _, err := io.WriteString(nc, "X: "+strings.Repeat("x", 1019)+"\r\n"); err != nil {
				return
			}
		}
		io.WriteString(nc, "\r\n")
	})
	const want = "read handshake: the head of the answer has more than 65536 bytes"
	if _, _, err := s.open(t.Context()); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := s.Health(t.Context()); err == nil {
		t.Error("a request takes an endless head")
	}
}

// circuit is the Conn of a server that sends back published events.
type circuit struct {
	script
	published chan string // bodies
}

func (c *circuit) ReadMessage() ([]byte, error) {
	if len(c.come) > 0 || c.published == nil {
		return c.script.ReadMessage()
	}
	body := <-c.published
	channel := body[strings.Index(body, `"channel":`) : len(body)-1]
	return []byte(`{"event":"check","data":"{}",` + channel + "}"), nil
}

func (c *circuit) WriteMessage(message []byte) error {
	_, after, ok := strings.Cut(string(message), `"channel":"`)
	if channel, _, _ := strings.Cut(after, `"`); ok {
		c.come = append(c.come, `{"event":"check","data":"{}","channel":"another"}`,
			`{"event":"pusher_internal:subscription_succeeded","data":"{}","channel":"`+channel+
				`"}`)
	}
	return nil
}

func TestRoundTrip(t *testing.T) {
	at := time.Date(2006, 1, 2, 15, 4, 5, 900e6, time.UTC)
	now := func() time.Time { at = at.Add(30 * time.Millisecond); return at }
	for _, tt := range []struct {
		answer, end string
		skew        time.Duration
	}{
		{fine, "", 40 * time.Second},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "", 0},
		{"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nbig\n",
			"subscribing works, publishing is answered 413: big", 0},
		{"HTTP/1.1 200", "EOF", 0},
	} {
		c := &circuit{script{come: []string{established}}, make(chan string, 1)}
		s := serve(t, func(nc net.Conn, r *bufio.Reader) {
			req, err := http.ReadRequest(r)
			if err != nil {
				t.Error(err)
				return
			}
			body, _ := io.ReadAll(req.Body)
			c.published <- string(body)
			io.WriteString(nc, tt.answer)
		})
		took, skew, err := s.roundTrip(t.Context(), c, now)
		switch {
		case tt.end == "" && (err != nil || took != 30*time.Millisecond || skew != tt.skew):
			t.Errorf("%q: got %v, %v, %v, want 30ms, %v", tt.answer, took, skew, err, tt.skew)
		case tt.end != "" && (err == nil || !strings.Contains(err.Error(), tt.end)):
			t.Errorf("%q: got %v, want %s", tt.answer, err, tt.end)
		}
	}
	lost := &circuit{script: script{end: errOver, come: []string{established}}}
	s := &Server{App: pusherApp, Dial: func(context.Context, string, string) (net.Conn,
		error) {
		return nil, io.ErrClosedPipe
	}}
	if _, _, err := s.roundTrip(t.Context(), lost, now); !errors.Is(err, errNoServer) {
		t.Errorf("got %v, want that nothing can be published", err)
	}
	if _, _, err := s.roundTrip(t.Context(), &script{end: errOver}, now); err != errOver {
		t.Errorf("got %v, want the connection's error", err)
	}
}

// Listen and measure connect, give the connection to the program's framing, and close it.
func TestConnections(t *testing.T) {
	s := serve(t, func(nc net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(nc, switching)
		io.Copy(io.Discard, r) // until the client closes
	})
	framed := 0
	var conn net.Conn
	s.Frames = func(nc net.Conn, _ *bufio.Reader) Conn {
		framed++
		conn = nc
		return &script{end: errOver}
	}
	if err := s.Subscribe(t.Context(), []string{"x"},
		func(Event) error { return nil }); !errors.Is(err, errOver) {
		t.Errorf("listen: got %v, want the connection's error", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.ErrClosedPipe {
		t.Errorf("listen: the connection is not closed: %v", err)
	}
	if _, _, err := s.measure(t.Context(), time.Now); err != errOver || framed != 2 {
		t.Errorf("round trip: got %v after %d connections", err, framed)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.ErrClosedPipe {
		t.Errorf("round trip: the connection is not closed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.Frames = func(nc net.Conn, _ *bufio.Reader) Conn {
		cancel()
		io.Copy(io.Discard, nc) // until it is closed
		return &script{end: errOver}
	}
	if err := s.Subscribe(ctx, []string{"x"}, func(Event) error { return nil }); !errors.Is(err,
		errOver) {
		t.Errorf("got %v", err)
	}
	away := &Server{Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil,
			io.ErrClosedPipe
	}}
	if err := away.Subscribe(t.Context(), nil, nil); !errors.Is(err, errNoServer) {
		t.Errorf("got %v", err)
	}
	if _, _, err := away.measure(t.Context(), time.Now); !errors.Is(err, errNoServer) {
		t.Errorf("got %v", err)
	}
}

func TestLocal(t *testing.T) {
	for address, want := range map[string]string{
		"unix:/run/x.sock": "unix /run/x.sock",
		"0.0.0.0:8080":     "tcp 127.0.0.1:8080",
		"[::]:8080":        "tcp 127.0.0.1:8080",
		":8080":            "tcp 127.0.0.1:8080",
		"192.0.2.1:8080":   "tcp 192.0.2.1:8080",
		"ws.test:443":      "tcp ws.test:443",
		"no address":       "tcp no address",
	} {
		if network, dial := Local(address); network+" "+dial != want {
			t.Errorf("%s: got %s %s, want %s", address, network, dial, want)
		}
	}
}

// TestPublicAddress has the lines of check about the public address. The server answers what is
// published with tt.answer and sends the event back; now advances by 30 ms a look.
func TestPublicAddress(t *testing.T) {
	const working = "ok public address: http://ws.test:80/ws: an event came back in 30ms"
	for _, tt := range []struct {
		edit   func(p *Public)
		answer string
		err    error // of dialling
		want   string
	}{
		{func(p *Public) { p.Window = time.Minute }, fine, nil,
			working + "|note clock: the server's and this machine's differ by 40s; requests are " +
				"refused from 1m0s on (REVERB_AUTH_WINDOW): timedatectl set-ntp true"},
		{func(p *Public) {}, fine, nil, working + "|ok clock: the same as the public " +
			"address's, to 40s"},
		{func(p *Public) { p.Window, p.Both, p.OwnTLS = time.Minute, true, true },
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", nil,
			working + "|ok clock: the same as the public address's, to 1s"},
		{func(p *Public) { p.OwnTLS = true }, fine, nil,
			"FAIL public address: http://ws.test:80/ws, but this server speaks https on port 80; " +
				"set REVERB_SCHEME=https, or give it a certificate with REVERB_TLS_CERT"},
		{func(p *Public) { p.Server.App = App{} }, fine, nil, ""},
		{func(p *Public) { p.Running = false }, "HTTP/1.1 401 Unauthorized\r\nContent-Length: " +
			"1\r\n\r\n\x1b", nil,
			"note public address: http://ws.test:80/ws: subscribing works, publishing is " +
				"answered 401: ?; no server runs here yet, so start it and check again"},
		{func(p *Public) {}, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 1\r\n\r\nx", nil,
			"FAIL public address: http://ws.test:80/ws: subscribing works, publishing is " +
				"answered 401: x; compare REVERB_HOST, REVERB_PORT and REVERB_SCHEME with where " +
				"the server is"},
		{func(p *Public) { p.OwnPort = 8080 }, "", syscall.ECONNREFUSED,
			"; a proxy must forward port 80 to 8080 (deploy/nginx.conf)"},
		{func(p *Public) { p.OwnPort = 8080 }, "", io.ErrClosedPipe,
			"; the proxy on port 80 must forward /ws/app and /ws/apps with Upgrade to port 8080 " +
				"(deploy/nginx.conf)"},
		{func(p *Public) { p.OwnPort = 8080 }, "", &net.DNSError{},
			"; REVERB_HOST must resolve on this machine too; add it to DNS or /etc/hosts"},
		{func(p *Public) {}, "", x509.UnknownAuthorityError{},
			"; the certificate's issuer is not trusted on this machine; serve the whole chain " +
				"(fullchain.pem), or trust the issuer"},
	} {
		c := &circuit{script{come: []string{established}}, make(chan string, 1)}
		s := serve(t, func(nc net.Conn, r *bufio.Reader) {
			req, err := http.ReadRequest(r)
			if err != nil {
				t.Error(err)
				return
			}
			if req.Method == http.MethodGet {
				io.WriteString(nc, switching)
				io.Copy(io.Discard, r) // until the client closes
				return
			}
			body, _ := io.ReadAll(req.Body)
			c.published <- string(body)
			io.WriteString(nc, tt.answer)
		})
		s.Frames = func(net.Conn, *bufio.Reader) Conn { return c }
		if tt.err != nil {
			s.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, tt.err }
		}
		p := &Public{Server: *s, Port: 80, OwnPort: 80, Running: true}
		tt.edit(p)
		at := time.Date(2006, 1, 2, 15, 4, 5, 900e6, time.UTC)
		now := func() time.Time { at = at.Add(30 * time.Millisecond); return at }
		var told []string
		p.Check(t.Context(), now, func(word, format string, args ...any) {
			told = append(told,
				word+" "+fmt.Sprintf(format, args...))
		})
		if got := strings.Join(told, "|"); got != tt.want &&
			(tt.err == nil || !strings.HasSuffix(got, tt.want)) {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}
