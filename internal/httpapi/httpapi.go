// Package httpapi is Pusher's HTTP API: routes, limits, answers. It reads a request,
// verifies its signature, judges its body, asks the Backend and writes the answer. It judges the
// handshake of a WebSocket, which the Backend answers.
//
//	GET  {prefix}/up
//	GET  {prefix}/app/{key}                                      the WebSocket
//	POST {prefix}/apps/{id}/events
//	POST {prefix}/apps/{id}/batch_events
//	GET  {prefix}/apps/{id}/connections
//	GET  {prefix}/apps/{id}/channels                             ?info=…&filter_by_prefix=…
//	GET  {prefix}/apps/{id}/channels/{channel}                   ?info=…
//	GET  {prefix}/apps/{id}/channels/{channel}/users
//	POST {prefix}/apps/{id}/users/{user}/terminate_connections
//
// Package protocol reads and judges the bodies, and has the parts of answers. An answer other than
// 200 is a protocol.Problem. The package cuts paths itself and does not use http.ServeMux. A
// channel or a user may hold an escaped slash or an empty part. A signature covers the path as it
// came. And a publish should not allocate for its route.
//
// The package knows no channel, no subscriber and no node. The Backend decides what an app is, and
// what happens to events. The memory of a request is used again after the answer, so the Backend
// must keep nothing that it is given, except strings. It measures how long the requests of
// each route take.
//
// Files:
//
//	httpapi.go   the Backend, the table of routes in New, answers, the word of a refusal
//	requests.go  the reading of a request, its signature, the handler of each route
//	publish.go   how the events of a request get to a Sender, and when the request goes on
//	keys.go      requests with a key, which take effect once
package httpapi

import (
	"cmp"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"reverb/internal/lib/handshake"
	"reverb/internal/lib/metrics"
	"reverb/internal/lib/retries"
	"reverb/internal/lib/show"
	"reverb/internal/protocol"
	"reverb/web"
)

// Backend acts on the requests. An A is an app of the Backend. Many goroutines call the methods at
// once. A ctx ends when the client has gone.
type Backend[A any] interface {
	// Settings are what is in force now; they can change between two requests.
	Settings() Settings
	// App finds an app by its ID. ok is false if no such app is configured.
	App(id string) (a A, ok bool)
	// Credentials are what the requests of an app are signed with.
	Credentials(a A) protocol.Credentials

	// Publish sends events to their channels and returns when all are accepted. all has, for each
	// event, the figures of its channels in their order; nil for an event whose Info is nil. all is
	// nil if no event has Info. key is the request's, see retries; nil: it has none.
	Publish(ctx context.Context, a A, events []protocol.Publish, key *retries.Claim,
		now time.Time) (all [][]protocol.Stats, bad *protocol.Problem)
	// PerChannel says that a key of a request for one channel counts for this channel alone.
	PerChannel() bool
	// Claim shares a step of a request with the other nodes, and waits for them. The error is
	// retries.ErrOther or retries.ErrBusy. While the nodes cannot be asked, there is none.
	Claim(ctx context.Context, a A, s *retries.Step) error
	// Connections is how many connections of an app are open.
	Connections(ctx context.Context, a A) int64
	// Channels tells, by name, of the occupied channels of an app whose names begin with prefix.
	// Without info only Kind and Occupied count.
	Channels(ctx context.Context, a A, prefix string, info bool,
		now time.Time) map[string]protocol.Stats
	// Channel tells the figures of one channel.
	Channel(ctx context.Context, a A, name protocol.Name, now time.Time) protocol.Stats
	// Users are the members of a presence channel.
	Users(ctx context.Context, a A, name protocol.Name) []*protocol.Member
	// Terminate closes the connections of a user.
	Terminate(ctx context.Context, a A, user string)

	// Signed counts a request whose signature was right: the bytes of its body and of its answer;
	// 0: it was refused.
	Signed(a A, received, sent int)
	// Refused tells of a request that is refused.
	Refused(r *http.Request, v Refusal)
	// Answered tells of a request that was answered, also with a refusal. A request for the
	// WebSocket is not among them.
	Answered(r *http.Request, how Answered)
	// Open judges a request for the WebSocket of the app with that key. The handshake is in order,
	// and not answered. adopt takes the connection and answers; early came behind the request.
	Open(r *http.Request, key string) (adopt func(nc net.Conn, early []byte))
}

// Settings are what the operator has set.
type Settings struct {
	Prefix     string        // of every path: empty, or with a slash in front
	MaxBody    int64         // bounds a body, in bytes; a larger one is answered with 413
	Short      bool          // memory is short; long lists of channels are refused
	AuthWindow time.Duration // how far the time of a request may be off; 0: it is not judged
	KeepKeys   time.Duration // how long the key of a request counts; 0: keys are ignored
}

// Refusal is why a request of an app is refused.
type Refusal struct {
	Word   string // one of Words, for logs and the labels of metrics
	App    string // the ID in the path, whether there is such an app or not; empty: none is named
	Status int
	Line   string // the request and why, in one line
}

// Answered is how a request was answered.
type Answered struct {
	App    string // the ID in the path, whether there is such an app or not; empty: none is named
	Status int
	Bytes  int           // of the answer's body
	Took   time.Duration // from the request's head to the end of the answer
}

// Handler serves the API and the WebSocket. It is safe for use by many goroutines.
type Handler[A any] struct {
	backend  Backend[A]
	now      func() time.Time
	routes   []route[A]        // below /apps/{id}
	up       metrics.Histogram // of the other requests, see Durations
	other    metrics.Histogram
	requests sync.Pool      // of *request[A]
	keys     *retries.Table // of requests that may be sent again
	lists    *lists
}

// New is a Handler. now is the clock by which requests are judged and measured.
func New[A any](backend Backend[A], now func() time.Time) *Handler[A] {
	keys := retries.New(rand.Uint64(), func(d time.Duration, sweep func(time.Time)) {
		time.AfterFunc(d, func() { sweep(now()) })
	})
	lists := newLists()
	return &Handler[A]{backend: backend, now: now, keys: keys, lists: lists, routes: []route[A]{
		{method: http.MethodPost, path: []string{"events"}, handle: (*Handler[A]).events},
		{method: http.MethodPost, path: []string{"batch_events"}, handle: (*Handler[A]).batch},
		{method: http.MethodGet, path: []string{"connections"}, handle: (*Handler[A]).connections},
		{method: http.MethodGet, path: []string{"channels"}, handle: (*Handler[A]).channels},
		{method: http.MethodGet, path: []string{"channels", "*"}, handle: (*Handler[A]).channel},
		{
			method: http.MethodGet,
			path:   []string{"channels", "*", "users"},
			handle: (*Handler[A]).users,
		},
		{method: http.MethodPost, path: []string{"users", "*", "terminate_connections"},
			slashes: true, handle: (*Handler[A]).terminate},
	}}
}

// route is one address of the API below /apps/{id}. In path, * stands for one argument.
type route[A any] struct {
	method  string
	path    []string
	slashes bool // an argument may have slashes, which are escaped (%2F) in the path
	handle  func(h *Handler[A], ctx context.Context, r *request[A]) ([]byte, *protocol.Problem)
	took    metrics.Histogram
}

// Durations has how long the requests of each route took, in the order of the routes: events,
// channels/*; then up, and other for the requests without a route.
func (h *Handler[A]) Durations() (all []metrics.Timed) {
	for i := range h.routes {
		rt := &h.routes[i]
		all = append(all, metrics.Timed{Name: strings.Join(rt.path, "/"), Took: &rt.took})
	}
	return append(all, metrics.Timed{Name: "up", Took: &h.up},
		metrics.Timed{Name: "other", Took: &h.other})
}

// match returns the arguments in path if the route is meant.
func (rt *route[A]) match(path []string) (args []string, ok bool) {
	if len(path) != len(rt.path) {
		return nil, false
	}
	for i, want := range rt.path {
		if want == "*" && path[i] != "" && (rt.slashes || !hasSlash(path[i])) {
			args = append(args, path[i])
		} else if want != path[i] {
			return nil, false
		}
	}
	return args, true
}

// hasSlash says whether a part of a path has a slash, which was escaped.
func hasSlash(part string) bool { return strings.Contains(part, "/") }

// maxPathParts bounds the parts of a path; a path with more gets the answer 404. Larger: a long
// path costs more before it is refused. It must not be smaller than the longest route.
const maxPathParts = 8

// ServeHTTP answers one request.
func (h *Handler[A]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := h.now()
	how, took := h.answer(w, r)
	if took == nil {
		return
	}
	how.Took = max(h.now().Sub(began), 0)
	took.Observe(how.Took)
	h.backend.Answered(r, how)
}

// answer answers one request. took is where its duration counts; nil: it was for the
// WebSocket.
func (h *Handler[A]) answer(
	w http.ResponseWriter,
	r *http.Request,
) (how Answered, took *metrics.Histogram) {
	set := h.backend.Settings()
	// EscapedPath escapes anew what it finds escaped wrongly
	sent := cmp.Or(r.URL.RawPath, r.URL.EscapedPath())
	raw, ok := strings.CutPrefix(oneSlash(sent), set.Prefix)
	if !ok || !strings.HasPrefix(raw, "/") {
		return refused(w, notFound()), &h.other
	}
	raw = oneSlash(raw)
	path := make([]string, 0, maxPathParts)
	for rest, more := raw[1:], true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		part, err := url.PathUnescape(part)
		if err != nil || len(path) == cap(path) {
			return refused(w, notFound()), &h.other
		}
		path = append(path, part)
	}
	switch {
	case len(path) == 1 && path[0] == "up":
		if bad := checkMethod(r.Method, http.MethodGet); bad != nil {
			return refused(w, bad), &h.up
		}
		return fine(w, []byte(`{"health":"OK"}`)), &h.up
	case len(path) == 1 && path[0] == "resume.js":
		if bad := checkMethod(r.Method, http.MethodGet); bad != nil {
			return refused(w, bad), &h.other
		}
		return Answered{Status: http.StatusOK, Bytes: web.ServeResume(w)}, &h.other
	case len(path) == 2 && path[0] == "app" && path[1] != "" && !hasSlash(path[1]):
		h.open(w, r, path[1])
		return Answered{}, nil
	case len(path) > 2 && path[0] == "apps" && !hasSlash(path[1]):
		return h.serve(
			w,
			r,
			set,
			&protocol.RequestPath{Prefix: set.Prefix, Rest: raw, Sent: sent},
			path[1],
			path[2:],
		)
	}
	return refused(w, notFound()), &h.other
}

// open opens a WebSocket, or refuses to.
func (h *Handler[A]) open(w http.ResponseWriter, r *http.Request, key string) {
	if bad := handshake.Check(r); bad != nil {
		for name, value := range bad.Header {
			w.Header().Set(name, value)
		}
		h.backend.Refused(r, Refusal{Word: wordHandshake, Status: bad.Status, Line: bad.Text})
		Answer(w, &protocol.Problem{Status: bad.Status, Text: bad.Text})
		return
	}
	adopt := h.backend.Open(r, key)
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		Answer(w, &protocol.Problem{Status: http.StatusInternalServerError,
			Text: "This connection cannot be upgraded."})
		return
	}
	early := make([]byte, buffered.Reader.Buffered())
	io.ReadFull(buffered.Reader, early) // from memory
	adopt(nc, early)
}

// refused answers with a problem.
func refused(w http.ResponseWriter, p *protocol.Problem) Answered {
	return Answered{Status: p.Status, Bytes: Answer(w, p)}
}

// fine answers with what was asked for.
func fine(w http.ResponseWriter, body []byte) Answered {
	writeBody(w, http.StatusOK, headerJSON, body)
	return Answered{Status: http.StatusOK, Bytes: len(body)}
}

// oneSlash returns path with exactly one slash in front. Some clients join a base that ends in a
// slash with a path that begins with one.
func oneSlash(path string) string {
	if strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") {
		return path
	}
	return "/" + strings.TrimLeft(path, "/")
}

func notFound() *protocol.Problem {
	return &protocol.Problem{Status: http.StatusNotFound, Text: "Not found."}
}

func checkMethod(got, want string) *protocol.Problem {
	if got = strings.ToUpper(got); got == want || got == http.MethodHead && want == http.MethodGet {
		return nil
	}
	return &protocol.Problem{Status: http.StatusMethodNotAllowed, Text: "Method not allowed.",
		Allow: want}
}

// serve answers a request below /apps/{id}. path is what stands behind the ID.
func (h *Handler[A]) serve(
	w http.ResponseWriter,
	r *http.Request,
	set Settings,
	whole *protocol.RequestPath,
	id string,
	path []string,
) (how Answered, took *metrics.Histogram) {
	for i := range h.routes {
		rt := &h.routes[i]
		args, ok := rt.match(path)
		if !ok {
			continue
		}
		body, bad := []byte(nil), checkMethod(r.Method, rt.method)
		if bad == nil {
			req := h.take()
			defer h.give(req)
			req.id, req.short = id, set.Short
			if bad = h.authenticate(w, r, set, whole, id, req); bad == nil {
				req.args = args
				body, bad = rt.handle(h, r.Context(), req)
				h.backend.Signed(req.app, len(req.body), len(body))
			}
		}
		if bad != nil {
			h.backend.Refused(r, Refusal{wordOf(bad.Status), id, bad.Status,
				r.Method + " " + show.Text(whole.Rest) + ": " + bad.Line()})
			how = refused(w, bad)
		} else {
			how = fine(w, body)
		}
		how.App = id
		return how, &rt.took
	}
	how = refused(w, notFound())
	how.App = id
	return how, &h.other
}

// --- Answers ---

// Answer answers a request with a problem, and returns the size of the answer's body.
func Answer(w http.ResponseWriter, p *protocol.Problem) (bytes int) {
	if p.Allow != "" {
		w.Header().Set("Allow", p.Allow)
	}
	if p.Again > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.Again))
	}
	body, isJSON := p.Body()
	contentType := headerText
	if isJSON {
		contentType = headerJSON
	}
	writeBody(w, p.Status, contentType, body)
	return len(body)
}

// wordHandshake is the word for a request for a WebSocket that is not a handshake.
const wordHandshake = "handshake"

// Words lists all words with which requests are refused.
func Words() []string {
	words := []string{wordHandshake}
	for status := 400; status < 600; status++ {
		if word := wordOf(status); !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words
}

// wordOf names a refusal by its status.
func wordOf(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "unauthorized"
	case http.StatusNotFound:
		return "not_found"
	case http.StatusMethodNotAllowed:
		return "method_not_allowed"
	case http.StatusRequestEntityTooLarge:
		return "payload_too_large"
	case http.StatusUnprocessableEntity:
		return "unprocessable"
	case http.StatusConflict:
		return "in_progress"
	case http.StatusServiceUnavailable, http.StatusInternalServerError:
		return "unavailable"
	}
	return "bad_request"
}

// Values of headers. net/http does not change them, and they are never changed here.
var (
	headerJSON    = []string{"application/json"}
	headerText    = []string{"text/plain; charset=utf-8"}
	headerNoCache = []string{"no-cache, private"}
	headerNoSniff = []string{"nosniff"}
)

func writeBody(w http.ResponseWriter, status int, contentType []string, body []byte) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h["Cache-Control"] = headerNoCache
	h["X-Content-Type-Options"] = headerNoSniff
	w.WriteHeader(status)
	w.Write(body) // an error means that the client has gone
}
