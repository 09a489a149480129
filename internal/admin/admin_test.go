package admin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reverb/internal/lib/build"
	"reverb/internal/protocol"
)

// source is a server with one app, "1", whose secret is "secret". It notes its calls.
type source struct {
	snap    Snapshot
	dead    bool
	remote  string
	app     app
	gone    atomic.Bool // the app
	refused []string
}

var _ Source = (*source)(nil)

func (s *source) Snapshot(time.Time) Snapshot { return s.snap }
func (s *source) Alive() bool                 { return !s.dead }
func (s *source) App(id string) (App, bool)   { return &s.app, id == "1" && !s.gone.Load() }
func (s *source) Remote(*http.Request) string { return s.remote }
func (s *source) Refused(_ *http.Request, word, line string) {
	s.refused = append(s.refused, word+": "+line)
}

// app is the app of source.
type app struct {
	channels map[string]protocol.Stats
	bad      *protocol.Problem // the answer to events
	sent     []string
	watched  chan Message // nil: too many watch
	stopped  int
	changed  atomic.Bool // the secret
}

func (a *app) Secret() string {
	if a.changed.Load() {
		return "another secret"
	}
	return "secret"
}

func (a *app) Channels(_ context.Context, prefix string, _ time.Time) map[string]protocol.Stats {
	a.sent = append(a.sent, "channels "+prefix)
	return a.channels
}

func (a *app) Publish(_ context.Context, e *protocol.Publish, now time.Time) ([]protocol.Stats,
	*protocol.Problem) {
	a.sent = append(a.sent, fmt.Sprintf("%s %s %s %v %v", e.Name, e.Data, e.Channels[0].String(),
		e.Info, now.Unix()))
	return []protocol.Stats{{Subscriptions: 3}}, a.bad
}

func (a *app) Watch(string) (<-chan Message, func(), bool) {
	return a.watched, func() { a.stopped++ }, a.watched != nil
}

const (
	page       = "<html><style>a{}</style><script>b()</script></html>"
	pagePolicy = "default-src 'none'; style-src " +
		"'sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk='; " +
		"script-src 'sha256-cf242PFc/kb7xD0Qzhsmd9vvRkc+cWFmbi+k+YvtdKc='; connect-src 'self'; " +
		"img-src data:; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// started is when the program of the tests started, a minute and a half before now.
var started = time.Unix(1_700_000_000, 0)

// open is a handler that every Host reaches. edit may change the options.
func open(s Source, edit func(o *Options)) http.Handler {
	o := Options{Page: []byte(page), Address: &net.UnixAddr{}, Port: 8080, Prefix: "reverb_",
		Started: started,
		Build: build.Info{Program: "reverb", Version: "1", Revision: "abc", Go: "go1",
			Platform: "os/arch"},
		Now: func() time.Time { return started.Add(90 * time.Second) },
		Log: slog.New(slog.DiscardHandler)}
	if edit != nil {
		edit(&o)
	}
	return New(s, o)
}

// ask is one request, and whether its answer has every security header. headers are names
// and values in turn.
func ask(t *testing.T, h http.Handler, method, target, body string,
	headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	for name, want := range map[string]string{"Content-Security-Policy": pagePolicy,
		"X-Content-Type-Options": "nosniff",
		"X-Frame-Options":        "DENY", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s %s: %s is %q, want %q", method, target, name, got, want)
		}
	}
	return w
}

// got is the status and the body of an answer.
func got(w *httptest.ResponseRecorder) string { return fmt.Sprintf("%d %s", w.Code, w.Body) }

func TestRoutes(t *testing.T) {
	s := &source{}
	h := open(s, nil)
	for _, tt := range []struct{ method, target, want, kind string }{
		{"GET", "/live", "200 live\n", "text/plain; charset=utf-8"},
		{"GET", "/ready", "200 ready\n", "text/plain; charset=utf-8"},
		{"GET", "/", "200 " + page, "text/html; charset=utf-8"},
		{"GET", "/metrics", "200 # HELP reverb_connected Open connections.\n",
			"text/plain; version=0.0.4; charset=utf-8"},
		{"GET", "/status.json", `200 {"version":"reverb 1 (go1, os/arch)",`, "application/json"},
		{"GET", "/debug/pprof/cmdline", "200 ", "text/plain; charset=utf-8"},
		{"GET", "/nothing", "404 ", "text/plain; charset=utf-8"},
		{"GET", "/publish", "405 ", "text/plain; charset=utf-8"},
		{"POST", "/metrics", "405 ", "text/plain; charset=utf-8"},
		{"POST", "/publish", "403 ", "application/json"},
	} {
		w := ask(t, h, tt.method, tt.target, "")
		if kind := w.Header().Get("Content-Type"); kind == "" && tt.want[:3] != "200" ||
			!strings.HasPrefix(got(w), tt.want) {
			t.Errorf("%s %s: got %.200s, want %s", tt.method, tt.target, got(w), tt.want)
		} else if kind != "" && kind != tt.kind {
			t.Errorf("%s %s: it is %s, want %s", tt.method, tt.target, kind, tt.kind)
		}
	}
	s.dead = true
	if w := ask(t, h, "GET", "/live", ""); got(w) != "503 an event loop does not come round\n" {
		t.Errorf("a loop hangs: got %s", got(w))
	}
}

// TestPaths asks for the routes by other methods, and by paths that are almost right.
func TestPaths(t *testing.T) {
	h := open(&source{}, nil)
	for _, tt := range []struct {
		method, target string
		code           int
		allow, to      string
	}{
		{"HEAD", "/live", 200, "", ""},
		{"POST", "/live", 405, "GET, HEAD", ""},
		{"DELETE", "/debug/pprof/heap", 405, "GET, HEAD", ""},
		{"POST", "/debug/pprof/profile?seconds=1", 405, "GET, HEAD", ""},
		{"HEAD", "/publish", 405, "POST", ""},
		{"CONNECT", "/", 405, "GET, HEAD", ""},
		{"GET", "/session", 404, "", ""},
		{"GET", "/live/", 404, "", ""},
		{"GET", "/Live", 404, "", ""},
		{"GET", "/debug", 404, "", ""},
		{"GET", "/debug/pprofs", 404, "", ""},
		{"GET", "/debug/pprof/nothing", 404, "", ""},
		{"GET", "/debug/pprof", 307, "", "/debug/pprof/"},
		{"GET", "//live", 307, "", "/live"},
		{"GET", "/./x/../metrics?a=b", 307, "", "/metrics?a=b"},
		{"GET", "/debug/pprof/../pprof/heap?debug=1", 307, "", "/debug/pprof/heap?debug=1"},
		{"GET", "/debug/pprof//evil.test/%3Fa", 307, "", "/debug/pprof/evil.test/%3Fa"},
		{"GET", "//evil.test/..", 307, "", "/"},
		{"GET", "//evil.test/", 404, "", ""},
	} {
		w := ask(t, h, tt.method, tt.target, "")
		allow, to := w.Header().Get("Allow"), w.Header().Get("Location")
		if w.Code != tt.code || allow != tt.allow || to != tt.to {
			t.Errorf("%s %s: got %d, allowed %q, to %q, want %d, %q, %q", tt.method, tt.target,
				w.Code, allow, to, tt.code, tt.allow, tt.to)
		}
	}
}

// ready is a snapshot of a server that is well, with something changed.
func ready(edit func(s *Snapshot)) Snapshot {
	s := Snapshot{Loops: []Loop{{Lag: time.Second}, {}}, Cluster: &Cluster{Live: true},
		Connections: 7, Limit: 9,
		Memory: Memory{Used: 5, Limit: 6}}
	edit(&s)
	return s
}

func TestReady(t *testing.T) {
	for _, tt := range []struct {
		edit func(s *Snapshot)
		want string
	}{
		{func(s *Snapshot) {}, "200 ready\n"},
		{func(s *Snapshot) { s.Cluster = nil }, "200 ready\n"},
		{func(s *Snapshot) { s.Draining = true }, "503 stopping\n"},
		{func(s *Snapshot) { s.Full = true }, "503 7 of 9 connections are taken; raise " +
			"LimitNOFILE or add a server\n"},
		{func(s *Snapshot) { s.Memory.Short = true }, "503 5 of 6 bytes of memory are used, " +
			"so new subscriptions are refused; raise REVERB_MEMORY_LIMIT or add a server\n"},
		{func(s *Snapshot) { s.Behind.Loops = true }, "503 the event loops are behind with " +
			"delivering; add a server\n"},
		{func(s *Snapshot) { s.Behind.Memory = true }, "503 events wait that could take more " +
			"memory than there is, " +
			"so publishers wait; raise REVERB_MEMORY_LIMIT or add a server\n"},
		{func(s *Snapshot) { s.Behind.Redis = true }, "503 Redis is behind with the events of " +
			"this server, so publishers wait\n"},
		{func(s *Snapshot) { s.Loops[1].Lag = 6500001 * time.Microsecond },
			"503 an event loop is busy for 6.5s at a time\n"},
		{func(s *Snapshot) { s.Cluster.Live = false }, "503 Redis is away, or not in step yet\n"},
		{func(s *Snapshot) { s.Draining, s.Cluster.Live = true, false },
			"503 stopping\nRedis is away, or not in step yet\n"},
	} {
		s := &source{snap: ready(tt.edit)}
		if w := ask(t, open(s, nil), "GET", "/ready", ""); got(w) != tt.want {
			t.Errorf("got %s, want %s", got(w), tt.want)
		}
	}
}

// On loopback the address answers to its own names alone, and no other site's page gets a
// profile.
func TestHosts(t *testing.T) {
	s := &source{}
	loopback := open(s, func(o *Options) {
		o.Address, o.Name = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9090}, "admin.test:9090"
	})
	for want, hosts := range map[int][]string{
		200: {"localhost", "LocalHost:1", "localhost.:80", "127.0.0.1", "127.0.0.1:9090",
			"127.1.2.3:1", "[::1]", "[::1]:80",
			"[::ffff:127.0.0.1]:80", "admin.test:9090", "ADMIN.test", ""},
		421: {"evil.example.com", "evil.example.com:9090", "localhost.evil.example",
			"127.0.0.1.evil.example", "10.0.0.1",
			"[2001:db8::1]:80", ".", ":80"},
	} {
		for _, host := range hosts {
			for _, path := range []string{"/", "/metrics", "/status.json", "/live", "/ready",
				"/debug/pprof/cmdline", "/nothing"} {
				status := want
				if path == "/nothing" && want == 200 {
					status = 404
				}
				if w := ask(t, loopback, "GET", path, "", "Host", host); w.Code != status {
					t.Errorf("Host %q, %s: got %d, want %d", host, path, w.Code, status)
				}
			}
		}
	}
	s.refused = nil
	w := ask(t, loopback, "GET", "/", "", "Host", "evil\x1b.example")
	if want := `421 the Host "evil\\u001b.example" is not a name of this address; ask for ` +
		`127.0.0.1 ` +
		`or localhost (a proxy must ` +
		"set Host to it), or let REVERB_ADMIN_LISTEN be an address that is not loopback\n"; got(
		w) != want {
		t.Errorf("got %s, want %s", got(w), want)
	}
	if len(s.refused) != 1 || !strings.HasPrefix(s.refused[0],
		`bad_request: admin: the Host "evil`) {
		t.Errorf("refused: %q", s.refused)
	}
	elsewhere := open(s, func(o *Options) {
		o.Address = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1),
			Port: 9090}
	})
	if w := ask(t, elsewhere, "GET", "/metrics", "", "Host",
		"reverb.prometheus.test"); w.Code != 200 {
		t.Errorf("not on loopback: got %d for a name", w.Code)
	}
}

func TestProfilesForOtherSites(t *testing.T) {
	s := &source{}
	h := open(s, nil)
	for site, want := range map[string]int{"cross-site": 403, "same-site": 403, "same-origin": 200,
		"none": 200} {
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline",
			"/debug/pprof/goroutine", "/debug/pprof/heap"} {
			if w := ask(t, h, "GET", path, "", "Sec-Fetch-Site", site); w.Code != want {
				t.Errorf("%s for a page that is %s: got %d, want %d", path, site, w.Code, want)
			}
		}
		if w := ask(t, h, "GET", "/", "", "Sec-Fetch-Site", site); w.Code != 200 {
			t.Errorf("the status page for a link that is %s: got %d", site, w.Code)
		}
	}
	if want := "origin_not_allowed: admin: a page of another site asks for a profile"; len(
		s.refused) != 8 || s.refused[0] != want {
		t.Errorf("refused: %q", s.refused)
	}
}

// FuzzHost looks for a name of another machine that an address on loopback answers to.
func FuzzHost(f *testing.F) {
	for _, host := range []string{"localhost", "127.0.0.1:80", "[::1]:80", "a.test", "[::1",
		"127.0.0.1.a.test", "%5b::1]"} {
		f.Add(host)
	}
	h := hosts{name: "own.test"}
	f.Fuzz(func(t *testing.T, host string) {
		why := h.refuse(host)
		if strings.ContainsAny(why, "\r\n") {
			t.Errorf("%q: more than one line: %q", host, why)
		}
		if why != "" || host == "" {
			return
		}
		name := strings.ToLower(host)
		if i := strings.LastIndexByte(name, ':'); i >= 0 && strings.Count(name, ":") == 1 ||
			i > 0 && name[i-1] == ']' {
			name = name[:i]
		}
		name = strings.TrimSuffix(strings.Trim(name, "[]"), ".")
		if ip, err := netip.ParseAddr(name); !slices.Contains([]string{"localhost", "own.test"},
			name) && (err != nil || !ip.Unmap().IsLoopback()) {
			t.Errorf("%q is answered", host)
		}
	})
}

// broken is a reader of metrics that has gone.
type broken struct{ http.ResponseWriter }

func (broken) Header() http.Header       { return http.Header{} }
func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestMetricsThatAreNotTaken(t *testing.T) {
	var log strings.Builder
	h := open(&source{}, func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	h.ServeHTTP(broken{}, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(log.String(), `msg="metrics were not taken" why="io: read/write on `+
		`closed pipe"`) {
		t.Errorf("the log says %s", log.String())
	}
}
