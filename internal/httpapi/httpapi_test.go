package httpapi

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/metrics"
	"reverb/internal/lib/retries"
	"reverb/internal/protocol"
)

// backend has one app, "1", whose channels are made up. It notes its calls.
type backend struct {
	set    Settings
	bad    *protocol.Problem // the answer to events
	calls  []string
	signed string
	how    Answered // the latest
}

func (b *backend) note(format string, args ...any) {
	b.calls = append(b.calls, fmt.Sprintf(format, args...))
}

func (b *backend) Settings() Settings { return b.set }
func (b *backend) App(id string) (string, bool) {
	return id, id == "1"
}
func (b *backend) Credentials(string) protocol.Credentials {
	return protocol.Credentials{ID: "1", Key: "key", Secret: "secret"}
}
func (b *backend) Publish(_ context.Context, _ string, events []protocol.Publish, _ *retries.Claim,
	now time.Time) (all [][]protocol.Stats, bad *protocol.Problem) {
	for _, e := range events {
		b.note("publish %s to %s at %d", e.Name, e.Channels, now.Unix())
		var stats []protocol.Stats
		if e.Info != nil {
			for i, name := range e.Channels {
				stats = append(stats, protocol.Stats{Kind: name.Kind(), Subscriptions: i + 1})
			}
			if all == nil {
				all = make([][]protocol.Stats, len(events))
			}
		}
		if all != nil {
			all[len(b.calls)-1] = stats
		}
	}
	return all, b.bad
}
func (b *backend) PerChannel() bool                                   { return false }
func (b *backend) Claim(context.Context, string, *retries.Step) error { return nil }
func (b *backend) Connections(context.Context, string) int64          { return 7 }
func (b *backend) Channels(_ context.Context, _, prefix string, info bool,
	_ time.Time) map[string]protocol.Stats {
	b.note("channels %q %v", prefix, info)
	return map[string]protocol.Stats{"b": {Occupied: true, Subscriptions: 2},
		"a": {Occupied: true, Subscriptions: 1}}
}
func (b *backend) Channel(_ context.Context, _ string, name protocol.Name,
	_ time.Time) protocol.Stats {
	return protocol.Stats{Kind: name.Kind(), Occupied: true, Subscriptions: 3, Users: 2}
}
func (b *backend) Users(context.Context, string, protocol.Name) []*protocol.Member {
	return []*protocol.Member{{ID: "u"}}
}
func (b *backend) Terminate(_ context.Context, _, user string) { b.note("terminate %s", user) }
func (b *backend) Signed(_ string, received, sent int) {
	b.signed = fmt.Sprintf("%d %d", received, sent)
}
func (b *backend) Refused(_ *http.Request, v Refusal) {
	b.note("%s %s", v.Word, v.Line)
	if v.Word == wordHandshake {
		return
	}
	if !strings.Contains(v.Line, "/apps/"+v.App+"/") || wordOf(v.Status) != v.Word {
		b.note("of app %s with %d", v.App, v.Status)
	}
}
func (b *backend) Answered(_ *http.Request, how Answered) { b.how = how }
func (b *backend) Open(_ *http.Request, key string) (adopt func(net.Conn, []byte)) {
	b.note("open %s", key)
	return func(nc net.Conn, early []byte) {
		fmt.Fprintf(nc, "early %s", early)
		nc.Close()
	}
}

// hijacked is a writer whose connection can be taken over.
type hijacked struct {
	*httptest.ResponseRecorder
	nc    net.Conn
	early string
}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r := bufio.NewReader(strings.NewReader(h.early))
	r.Peek(1)
	return h.nc, bufio.NewReadWriter(r, nil), nil
}

// A handshake that is in order opens a WebSocket, with what came behind it.
func TestOpen(t *testing.T) {
	b := &backend{}
	r := httptest.NewRequest("GET", "/app/a%20key", nil)
	r.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	if got := ask(t, newHandler(b), r); got != "500 This connection cannot be upgraded." {
		t.Errorf("got %s", got)
	}
	ours, theirs := net.Pipe()
	go newHandler(b).ServeHTTP(&hijacked{httptest.NewRecorder(), ours, "frames"}, r)
	if got, err := io.ReadAll(theirs); string(got) != "early frames" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if want := []string{"open a key", "open a key"}; !slices.Equal(b.calls, want) {
		t.Errorf("got %q, want %q", b.calls, want)
	}
}

const unixNow = 1_800_000_000

func newHandler(b *backend) *Handler[string] {
	if b.set.MaxBody == 0 {
		b.set.MaxBody = 1000
	}
	return New(b, func() time.Time { return time.Unix(unixNow, 0) })
}

// signed is a request with a right signature. query has no lists.
func signed(method, path, query, body string) *http.Request {
	q := fmt.Sprintf("auth_key=key&auth_timestamp=%d&auth_version=1.0", unixNow)
	if body != "" {
		q += "&body_md5=" + md5Of(body)
	}
	if query != "" {
		q += "&" + query
	}
	params, err := protocol.ParseQuery(nil, q)
	if err != nil {
		panic(err)
	}
	q += "&auth_signature=" + protocol.Sign("secret", protocol.StringToSign(method, path, params))
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	u, err := url.ParseRequestURI(path)
	if err != nil {
		panic(err)
	}
	u.RawQuery = q
	r.URL = u
	return r
}

// ask returns status and body, and checks the headers that every answer has.
func ask(t *testing.T, h http.Handler, r *http.Request) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) ||
		w.Header().Get("Cache-Control") != "no-cache, private" ||
		w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s: got the header %v", r.URL, w.Header())
	}
	isJSON := w.Header().Get("Content-Type") == "application/json"
	if isJSON != (jsonraw.Check(w.Body.Bytes()) == nil) {
		t.Errorf("%s: got the type %s for %s", r.URL, w.Header().Get("Content-Type"), w.Body)
	}
	return fmt.Sprintf("%d %s", w.Code, w.Body)
}

func TestRoutes(t *testing.T) {
	event := `{"name":"e","data":"x","channels":["c","presence-d","c"]}`
	for _, c := range []struct{ method, path, query, body, want, call string }{
		{"GET", "/up", "", "", `200 {"health":"OK"}`, ""},
		{"HEAD", "/up", "", "", `200 {"health":"OK"}`, ""}, // net/http leaves out the body
		{"POST", "/up", "", "", "405 Method not allowed.", ""},
		{"GET", "//up", "", "", `200 {"health":"OK"}`, ""},
		{"GET", "/app/a%20key", "", "", "426 This is a WebSocket address: the request needs the " +
			"header Upgrade: websocket. A proxy in between may have dropped it.",
			"handshake This is a WebSocket address: the request needs the " +
				"header Upgrade: websocket. A proxy in between may have dropped it."},
		{"GET", "/app/", "", "", "404 Not found.", ""},
		{"GET", "/", "", "", "404 Not found.", ""},
		{"GET", "/a/b/c/d/e/f/g/h/i", "", "", "404 Not found.", ""},
		{"GET", "/apps/1/nothing", "", "", "404 Not found.", ""},
		{"GET", "/apps/1/channels/", "", "", "404 Not found.", ""},
		{"GET", "/apps/1/channels/a%2Fb", "", "", "404 Not found.", ""},
		{"GET", "/apps/1/channels/presence-a%2Fb/users", "", "", "404 Not found.", ""},
		{"GET", "/apps/1/channels%2Fa", "", "", "404 Not found.", ""},
		{"GET", "/apps/1%2F2/connections", "", "", "404 Not found.", ""},
		{"GET", "/apps%2F1/channels/a", "", "", "404 Not found.", ""},
		{"GET", "/app/a%2Fkey", "", "", "404 Not found.", ""},
		{"POST", "/apps/1/users%2Fa/terminate_connections", "", "", "404 Not found.", ""},
		{"POST", "/apps/1/events", "", event, "200 {}",
			"publish e to [c presence-d c] at 1800000000"},
		{"post", "/apps/1/events", "", event, "200 {}",
			"publish e to [c presence-d c] at 1800000000"},
		{"POST", "/apps/1/events", "", strings.Replace(event, "{", `{"info":"subscription_count",`,
			1),
			`200 {"channels":{"c":{"subscription_count":1},"presence-d":{"subscription_count":2}}}`,
			"publish e to [c presence-d c] at 1800000000"},
		{"GET", "/apps/1/events", "", "", "405 Method not allowed.",
			"method_not_allowed GET /apps/1/events: Method not allowed."},
		{"POST", "/apps/1/events", "", "{}", `422 {"name":["The name field is required."],` +
			`"data":["The data field is required."],"channels":["The channels field is required ` +
			`when channel is not present."],"channel":["The channel field is required when ` +
			`channels is not present."]}`,
			"unprocessable POST /apps/1/events: The name field is required."},
		{"POST", "/apps/1/batch_events", "", `{"batch":[{"name":"e","data":"x","channel":"c"}]}`,
			"200 {}", "publish e to [c] at 1800000000"},
		{"POST", "/apps/1/batch_events", "", `{"batch":[{"name":"e","data":"x","channel":"c",` +
			`"info":"subscription_count"},{"name":"f","data":"x","channel":"d"}]}`,
			`200 {"batch":[{"subscription_count":1},{}]}`,
			"publish e to [c] at 1800000000|publish f to [d] at 1800000000"},
		{"POST", "/apps/1/batch_events", "", "", `422 {"batch":["The batch field is required."]}`,
			"unprocessable POST /apps/1/batch_events: The batch field is required."},
		{"POST", "/apps/1/batch_events", "", `{`, "400 Bad request: the body is not JSON: " +
			"invalid JSON at byte 1: it ends too early.", "bad_request POST " +
			"/apps/1/batch_events: Bad request: the body is not JSON: invalid JSON at byte 1: " +
			"it ends too early."},
		{"GET", "/apps/1/connections", "", "", `200 {"connections":7}`, ""},
		{"GET", "/apps/1/channels", "", "", `200 {"channels":{"a":{},"b":{}}}`,
			`channels "" false`},
		{"GET", "/apps/1/channels", "filter_by_prefix=pre&info=subscription_count", "",
			`200 {"channels":{"a":{"subscription_count":1},"b":{"subscription_count":2}}}`,
			`channels "pre" true`},
		{"GET", "/apps/1/channels/presence-a", "info=user_count,subscription_count", "",
			`200 {"occupied":true,"user_count":2,"subscription_count":3}`, ""},
		{"GET", "/apps/1/channels/a%20b", "info=subscription_count", "",
			`200 {"occupied":false,"subscription_count":0}`, ""},
		{"GET", "/apps/1/channels/presence-a/users", "", "", `200 {"users":[{"id":"u"}]}`, ""},
		{"GET", "/apps/1/channels/a/users", "", "", `400 Bad request: only presence channels ` +
			`have users; "a" is not a presence channel.`, `bad_request GET ` +
			`/apps/1/channels/a/users: Bad request: only presence channels have users; "a" is ` +
			`not a presence channel.`},
		{"GET", "/apps/1/channels/a%0Ab/users", "", "", `400 Bad request: channel "a\u000ab": ` +
			`"\u000a" cannot stand in a channel name; letters, digits and _ - = @ , . ; can.`,
			`bad_request GET /apps/1/channels/a%0Ab/users: Bad request: channel "a\u000ab": ` +
				`"\u000a" cannot stand in a channel name; letters, digits and _ - = @ , . ; can.`},
		{"POST", "/apps/1/users/u%201/terminate_connections", "", "", "200 {}", "terminate u 1"},
		{"POST", "/apps/1/users/a%2Fb/terminate_connections", "", "", "200 {}", "terminate a/b"},
		{"POST", "/apps/1/users/..%2f..%2Fup/terminate_connections", "", "", "200 {}",
			"terminate ../../up"},
		{"GET", "/apps/2/channels", "", "", "404 No matching application for ID [2].",
			"not_found GET /apps/2/channels: No matching application for ID [2]."},
	} {
		b := &backend{}
		if got := ask(t, newHandler(b), signed(c.method, c.path, c.query, c.body)); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.method, c.path, got, c.want)
		}
		if got := strings.Join(b.calls, "|"); got != c.call {
			t.Errorf("%s %s: the backend heard %s, want %s", c.method, c.path, got, c.call)
		}
		if want := fmt.Sprintf("%d %d", len(c.body),
			len(c.want)-len("200 ")); strings.HasPrefix(c.want, "200") &&
			strings.HasPrefix(c.path, "/apps") && b.signed != want {
			t.Errorf("%s %s: counted %s, want %s", c.method, c.path, b.signed, want)
		}
	}
}

func TestPrefix(t *testing.T) {
	h := newHandler(&backend{set: Settings{Prefix: "/ws"}})
	for path, want := range map[string]string{"/ws/up": `200 {"health":"OK"}`,
		"//ws//up": `200 {"health":"OK"}`, "/up": "404 Not found.", "/wsup": "404 Not found.",
		"/ws": "404 Not found.", "/ws/%2e%2e/up": "404 Not found."} {
		if got := ask(t, h, signed("GET", path, "", "")); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if got := ask(t, h, signed("GET", "/ws/apps/1/connections", "",
		"")); got != `200 {"connections":7}` {
		t.Errorf("got %s", got)
	}
}

// A request that is not signed, too large, or cut off, reaches no route.
func TestRefusedRequests(t *testing.T) {
	const path = "/apps/1/events"
	body := `{"name":"e","data":"x","channel":"c"}`
	for name, c := range map[string]struct {
		edit func(r *http.Request)
		want string // the beginning
	}{
		"not signed": {func(r *http.Request) { r.URL.RawQuery = "" },
			"401 Authentication signature invalid: the parameter auth_key is missing."},
		"another body": {func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", len(body))))
		}, "401 Authentication signature invalid: body_md5 "},
		"a bad query": {func(r *http.Request) { r.URL.RawQuery += "&%zz" },
			`400 Bad request: the query cannot be decoded: invalid URL escape "%zz".`},
		"too many parameters": {func(r *http.Request) {
			r.URL.RawQuery = strings.Repeat("a[]=&",
				100+1)
		}, "400 Bad request: the query cannot be decoded: more than 100 parameters."},
		"a long body": {func(r *http.Request) { r.ContentLength = 1001 },
			"413 Payload too large: the body has 1001 bytes, REVERB_MAX_REQUEST_SIZE allows 1000."},
		"a long body, of unknown length": {func(r *http.Request) {
			r.ContentLength, r.Body = -1, io.NopCloser(strings.NewReader(strings.Repeat("x", 1001)))
		}, "413 Payload too large: REVERB_MAX_REQUEST_SIZE allows 1000 bytes."},
		"a short body": {func(r *http.Request) { r.ContentLength++ },
			"400 Bad request: the body ended before it was complete."},
		"a right one, in chunks": {func(r *http.Request) { r.ContentLength = -1 }, "200 {}"},
	} {
		b := &backend{}
		r := signed("POST", path, "", body)
		c.edit(r)
		if got := ask(t, newHandler(b), r); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
		if bad := !strings.HasPrefix(c.want, "200"); bad &&
			(len(b.calls) != 1 || strings.HasPrefix(b.calls[0], "publish") || b.signed != "") {
			t.Errorf("%s: the backend heard %q, %s", name, b.calls, b.signed)
		}
	}
	// A request that is too old is refused where the operator wants it.
	for window, want := range map[time.Duration]string{0: "200 {}",
		time.Minute: "401 Authentication signature invalid: auth_timestamp is 61 seconds off"} {
		b := &backend{set: Settings{MaxBody: 1000, AuthWindow: window}}
		h := New(b, func() time.Time { return time.Unix(unixNow+61, 0) })
		if got := ask(t, h, signed("POST", path, "", body)); !strings.HasPrefix(got, want) {
			t.Errorf("%v: got %s, want %s", window, got, want)
		}
	}
	// The backend can refuse, too.
	b := &backend{bad: &protocol.Problem{Status: 503, Text: "later"}}
	if got := ask(t, newHandler(b), signed("POST", path, "", body)); got != "503 later" ||
		b.signed != strconv.Itoa(len(body))+" 0" {
		t.Errorf("got %s, counted %s", got, b.signed)
	}
	if got := ask(t, newHandler(b), signed("POST", "/apps/1/batch_events", "",
		`{"batch":[`+body+`]}`)); got != "503 later" {
		t.Errorf("got %s", got)
	}
	w := httptest.NewRecorder()
	newHandler(b).ServeHTTP(w, signed("GET", path, "", ""))
	if w.Header().Get("Allow") != "POST" {
		t.Errorf("405 with the header %v", w.Header())
	}
}

// The memory of one request tells nothing to the next.
func TestMemoryOfRequests(t *testing.T) {
	b := &backend{set: Settings{MaxBody: 1 << 20}}
	h := newHandler(b)
	long := `{"name":"long","data":"` + strings.Repeat("x", 2*maxKeptBody) + `","channel":"c"}`
	for range 3 {
		b.calls = nil
		ask(t, h, signed("POST", "/apps/1/events", "info=x", long))
		ask(t, h, signed("POST", "/apps/1/events", "", `{"name":"e","data":"x","channel":"c"}`))
		ask(t, h, signed("GET", "/apps/1/channels", "", ""))
		if got, want := strings.Join(b.calls, "|"), `publish long to [c] at 1800000000|publish e `+
			`to [c] at 1800000000|channels "" false`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	r := &request[string]{body: make([]byte, maxKeptBody+1),
		single: [1]protocol.Publish{{Name: []byte("e")}}}
	if h.give(r); r.body != nil || r.single[0].Name != nil {
		t.Errorf("%d bytes are kept", cap(r.body))
	}
}

func FuzzPath(f *testing.F) {
	f.Add("GET", "/apps/1/channels/a%2Fb", "a=1")
	f.Add("POST", "//apps//1/events/%zz", "")
	f.Add("GET", "/app/key", "%")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		if _, err := http.NewRequest(method, "/", nil); err != nil {
			return // net/http gives a handler no such method
		}
		b := &backend{set: Settings{MaxBody: 1000, AuthWindow: time.Minute}}
		r := httptest.NewRequest("GET", "/", strings.NewReader("{}"))
		u, err := url.ParseRequestURI("/" + path)
		if err != nil {
			return
		}
		u.RawQuery = query
		r.Method, r.URL = method, u
		w := httptest.NewRecorder()
		newHandler(b).ServeHTTP(w, r)
		if w.Code < 400 && !strings.HasSuffix(u.Path, "/up") {
			t.Fatalf("%s %s is answered with %d", method, path, w.Code)
		}
		for _, line := range append(b.calls, w.Header().Get("Allow")) {
			if strings.ContainsAny(line[strings.IndexByte(line, '/')+1:], "\r\n") {
				t.Fatalf("%q is told in two lines", line)
			}
		}
	})
}

func md5Of(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// Each status that is answered has its word.
func TestWords(t *testing.T) {
	for status, want := range map[int]string{400: "bad_request", 401: "unauthorized",
		404: "not_found", 405: "method_not_allowed", 409: "in_progress", 413: "payload_too_large",
		422: "unprocessable", 500: "unavailable", 503: "unavailable", 426: "bad_request"} {
		if got := wordOf(status); got != want || !slices.Contains(Words(), want) {
			t.Errorf("%d: got %s, want %s", status, got, want)
		}
	}
	if got := Words(); len(got) != 9 || !slices.Contains(got, wordHandshake) {
		t.Errorf("got %v", got)
	}
}

// TestAnswered tells of every request but the WebSocket's how it was answered, and measures
// it under the name of its route.
func TestAnswered(t *testing.T) {
	b := new(backend)
	h := newHandler(b)
	clock := time.Unix(unixNow, 0)
	h.now = func() time.Time { clock = clock.Add(40 * time.Millisecond); return clock }
	for _, tt := range []struct {
		r     *http.Request
		route string
		want  Answered
	}{
		{signed("GET", "/apps/1/connections", "", ""), "connections", Answered{"1", 200, 17, 0}},
		{signed("GET", "/apps/1/channels/a/users", "", ""), "channels/*/users", Answered{"1", 400,
			0, 0}},
		{httptest.NewRequest("GET", "/apps/9/channels/a", nil), "channels/*", Answered{"9", 404, 0,
			0}},
		{httptest.NewRequest("GET", "/apps/1/events", nil), "events", Answered{"1", 405, 0, 0}},
		{httptest.NewRequest("GET", "/apps/1/nothing", nil), "other", Answered{"1", 404, 0, 0}},
		{httptest.NewRequest("GET", "/nothing", nil), "other", Answered{"", 404, 0, 0}},
		{httptest.NewRequest("GET", "/up", nil), "up", Answered{"", 200, 15, 0}},
		{httptest.NewRequest("POST", "/up", nil), "up", Answered{"", 405, 0, 0}},
		{httptest.NewRequest("GET", "/app/key", nil), "", Answered{}},
	} {
		before := map[string]string{}
		for _, d := range h.Durations() {
			before[d.Name] = written(d)
		}
		b.how = Answered{}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, tt.r)
		if tt.route != "" {
			if tt.want.Bytes == 0 {
				tt.want.Bytes = w.Body.Len()
			}
			if b.how.Took < 40*time.Millisecond || b.how.Bytes != w.Body.Len() ||
				w.Code != b.how.Status {
				t.Errorf(
					"%s %s: got %+v for %d with %d bytes",
					tt.r.Method,
					tt.r.URL.Path,
					b.how,
					w.Code,
					w.Body.Len(),
				)
			}
		}
		if b.how.Took = 0; b.how != tt.want {
			t.Errorf("%s %s: got %+v, want %+v", tt.r.Method, tt.r.URL.Path, b.how, tt.want)
		}
		for _, d := range h.Durations() {
			if counted := written(d) != before[d.Name]; counted != (d.Name == tt.route) {
				t.Errorf("%s %s: %s is counted: %v", tt.r.Method, tt.r.URL.Path, d.Name, counted)
			}
		}
	}
}

// written is a histogram as text.
func written(d metrics.Timed) string {
	var b strings.Builder
	w := metrics.NewWriter(&b, "")
	w.Family("x", "histogram", "")
	w.Histograms([]*metrics.Histogram{d.Took})
	w.Flush()
	return b.String()
}

// Any page can load resume.js, and verify it.
func TestResumeScript(t *testing.T) {
	want, err := os.ReadFile("../../web/resume.js")
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	newHandler(&backend{}).ServeHTTP(w, httptest.NewRequest("GET", "/resume.js", nil))
	if w.Code != 200 || w.Body.String() != string(want) ||
		w.Header().Get("Access-Control-Allow-Origin") != "*" ||
		w.Header().Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("%d, %v, %.50s", w.Code, w.Header(), w.Body)
	}
	w = httptest.NewRecorder()
	newHandler(&backend{}).ServeHTTP(w, httptest.NewRequest("POST", "/resume.js", nil))
	if w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
}
