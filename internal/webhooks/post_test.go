package webhooks

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reverb/internal/lib/destinations"
	"reverb/internal/lib/outbound"
	"reverb/internal/protocol"
)

// sender is a Sender with sockets, whose pauses are over at once.
func sender(t *testing.T, transport *outbound.Transport, log io.Writer) *Sender {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	return New(Options{QueueBytes: 64 << 20, ClientEvents: 1 << 30, Transport: transport,
		Log: slog.New(slog.NewTextHandler(log, nil)), Now: time.Now,
		After: func(time.Duration) <-chan time.Time { return time.After(0) }, Draw: rand.Int64N})
}

// finish closes s when all is delivered.
func finish(t *testing.T, s *Sender) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if n := s.Close(ctx); n != 0 {
		t.Errorf("%d events were not delivered", n)
	}
}

// Receivers answer 200, 500, hang, redirect and close at random. Each event arrives once after
// dropping repeats by ID, in order for each app, and each body is signed right.
func TestReceivers(t *testing.T) {
	for seed := range uint64(3) {
		const apps, events = 2, 1000
		var mu sync.Mutex
		rnd := rand.New(rand.NewPCG(seed, 9))
		seen, got := map[string]string{}, map[string][]string{}
		repeats := 0
		take := func(r *http.Request, b []byte) {
			app := strings.TrimPrefix(r.URL.Path, "/hook/")
			if r.Header.Get("X-Pusher-Key") != "key-"+app || r.Header.Get("X-Pusher-Signature") !=
				protocol.Sign("secret-"+app, string(b)) || r.Method != http.MethodPost {
				t.Errorf("%s %s: %v", r.Method, r.URL, r.Header)
			}
			var body struct {
				TimeMS int64 `json:"time_ms"`
				Events json.RawMessage
			}
			var list []struct{ Channel string }
			if json.Unmarshal(b, &body) != nil || json.Unmarshal(body.Events, &list) != nil {
				t.Errorf("%s", b)
			}
			id := r.Header.Get("X-Reverb-Webhook-Id")
			if was, again := seen[id]; again {
				if repeats++; was != string(body.Events) {
					t.Errorf("%s: %s and %s", id, was, body.Events)
				}
				return
			}
			seen[id] = string(body.Events)
			for _, e := range list {
				got[app] = append(got[app], e.Channel)
				if apart := strings.HasPrefix(e.Channel, "private-encrypted-"); apart !=
					strings.HasPrefix(list[0].Channel, "private-encrypted-") {
					t.Errorf("%s shares a request with %s", e.Channel, list[0].Channel)
				}
			}
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			if r.URL.Path == "/elsewhere" {
				t.Error("a redirect was followed")
			}
			what, redirect := rnd.IntN(12), 301+rnd.IntN(2)*6
			if what > 4 || rnd.IntN(2) == 0 { // it may take events and answer that it has failed
				take(r, b)
			}
			mu.Unlock()
			switch what {
			case 0:
				w.WriteHeader(http.StatusInternalServerError)
			case 1:
				<-r.Context().Done()
			case 2:
				http.Redirect(w, r, "/elsewhere", redirect)
			case 3:
				panic(http.ErrAbortHandler)
			case 4:
				w.Header().Set("Retry-After", "3")
				w.WriteHeader(http.StatusTooManyRequests)
			default:
				fmt.Fprintln(w, "taken")
			}
		}))
		s := sender(t, outbound.New(destinations.Guard{}, nil, nil), io.Discard)
		want := map[string][]string{}
		var all []*App
		for i := range apps {
			h := hook(fmt.Sprint(server.URL, "/hook/", i))
			h.Timeout = 50 * time.Millisecond
			all = append(all, s.App(account(fmt.Sprint(i), h)))
		}
		for i := range events {
			for j, a := range all {
				prefixes := []string{"", "", "presence-", "private-encrypted-"}
				channel := fmt.Sprint(prefixes[i/20%4], i)
				want[fmt.Sprint(j)] = append(want[fmt.Sprint(j)], channel)
				a.tell(Event{Kind: Kind(i % int(kinds)), Channel: name(channel), Data: []byte("1")})
			}
		}
		finish(t, s)
		server.Close()
		for app, channels := range want {
			if !slices.Equal(got[app], channels) {
				t.Errorf("seed %d: app %s: got %d events, want %d, or another order", seed, app,
					len(got[app]), len(channels))
			}
		}
		if repeats == 0 || len(seen) < apps*events/maxBatch {
			t.Errorf("seed %d: %d batches, %d repeats", seed, len(seen), repeats)
		}
	}
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
	s := sender(t, outbound.New(destinations.Guard{}, nil, nil), io.Discard)
	h := hook("http://user:p%40ss@" + l.Addr().String() + "/in?a=1#part")
	h.Headers = http.Header{"x-team": {"one"}, "content-type": {"text/html"}}
	a := s.App(account("1", h))
	a.tell(occupied("a"))
	head := <-lines
	finish(t, s)
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
		{"HTTP/1.1 200 OK\r\n", "X: " + long + "\r\n", "headers exceeded 65536 bytes"},
		{"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early\r\nX: " + long + "\r\n\r\n",
			"exceeded 65536 bytes"},
		{"SSH-2.0-\x1b[31mbad\r\n", "", `malformed HTTP response`},
		{"", "", "EOF"},
	} {
		s := sender(t, outbound.New(destinations.Guard{}, nil, nil), io.Discard)
		at, written := answers(t, c.begin, c.again)
		a := s.App(account("1", hook("http://"+at)))
		got := s.post(a.set.Load().queues[0], "id", nil)
		switch why := ""; {
		case c.why == "" && !got.ok():
			t.Errorf("%q: %+v", c.begin, got)
		case c.why != "":
			if why = got.why(); !strings.Contains(why, c.why) || strings.Contains(why, "\x1b") {
				t.Errorf("%q: got %q, want %q", c.begin, why, c.why)
			}
		}
		if n := written.Load(); n > 32<<20 { // buffers of sockets have a few MiB
			t.Errorf("%q: the server could write %d bytes", c.begin, n)
		}
		finish(t, s)
	}
}

// 200 receivers hang, and one answers. No more than half as many requests are under way as
// descriptors are reserved. A request that waits for others does not fail for that.
func TestManyReceivers(t *testing.T) {
	var under, most atomic.Int64
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		for n := under.Add(1); ; {
			if was := most.Load(); n <= was || most.CompareAndSwap(was, n) {
				break
			}
		}
		defer under.Add(-1)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		if r.URL.Path != "/fine" {
			<-end
		}
	}))
	defer server.Close()
	transport := outbound.New(destinations.Guard{}, nil, nil)
	s := sender(t, transport, io.Discard)
	var queues []*queue
	for i := range 200 {
		h := hook(fmt.Sprint(server.URL, "/hangs/", i))
		h.Timeout = time.Minute
		a := s.App(account(fmt.Sprint(i), h))
		queues = append(queues, a.set.Load().queues[0])
	}
	fine := hook(server.URL + "/fine")
	fine.Timeout = time.Second
	queues = append(queues, s.App(account("fine", fine)).set.Load().queues[0])
	var posts sync.WaitGroup
	got := make([]answer, len(queues))
	for i, q := range queues {
		posts.Go(func() { got[i] = s.post(q, "id", nil) })
	}
	const most64 = outbound.MaxConnections / 2
	for under.Load() < most64 {
		runtime.Gosched()
	}
	close(end)
	posts.Wait()
	for i := range got {
		if !got[i].ok() {
			t.Errorf("%d: %s", i, got[i].why())
		}
	}
	if n := most.Load(); n != most64 {
		t.Errorf("%d requests were under way, want %d", n, most64)
	}
	finish(t, s)
}

// Nothing is sent to an address that the guard refuses.
func TestGuard(t *testing.T) {
	var log bytes.Buffer
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a request has arrived")
	}))
	defer server.Close()
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := sender(t, outbound.New(destinations.Guard{}, nil, nil), &log)
	defer finish(t, s)
	for host, want := range map[string]string{
		"0.0.0.0":                  "0.0.0.0 is the unspecified address",
		"169.254.169.254":          "169.254.169.254 is a metadata service of a cloud",
		"[::ffff:169.254.169.254]": "169.254.169.254 is a metadata service of a cloud",
		"[64:ff9b::a9fe:1]":        "is a link-local address, as 169.254.0.1",
	} {
		a := s.App(account("1", hook("http://"+host+":"+at.Port()+"/")))
		if got := s.post(a.queues["http://"+host+":"+at.Port()+"/"], "id", nil); got.err == nil ||
			!strings.Contains(got.why(), want) {
			t.Errorf("%s: got %s, want %s", host, got.why(), want)
		}
	}
}

// A proxy is not asked for an address that the guard refuses.
func TestGuardBehindProxy(t *testing.T) {
	at := &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	s := sender(t, outbound.New(destinations.Guard{}, nil, at), io.Discard)
	defer finish(t, s)
	for _, host := range []string{"169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]:80"} {
		a := s.App(account("1", hook("https://"+host+"/")))
		if got := s.post(a.queues["https://"+host+"/"], "id", nil); !strings.Contains(got.why(),
			" is a ") {
			t.Errorf("%s: got %s", host, got.why())
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
		s := sender(t, outbound.New(destinations.Guard{}, c.roots, nil), io.Discard)
		a := s.App(account("1", hook(server.URL)))
		got := s.post(a.queues[server.URL], "id", nil)
		if got.ok() != (c.want == "") || !strings.Contains(got.why(), c.want) {
			t.Errorf("got %+v, want %q", got, c.want)
		}
		finish(t, s)
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
	s := sender(t, outbound.New(destinations.Guard{}, nil, at), io.Discard)
	s.App(account("1", hook("http://app.example/in"))).tell(occupied("a"))
	if got, want := <-asked, "http://app.example/in Basic dTpw"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	finish(t, s)
}
