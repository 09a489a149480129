// Package admin shows a running server to its operator: probes, metrics, the status page with its
// console, and profiles.
//
//	GET  /live, /ready      probes: 200, or 503 and the causes, one a line
//	GET  /metrics           Prometheus
//	GET  /                  the status page
//	GET  /status.json       the figures of the page
//	POST /session           a session for the token of a link, where there is a Pass
//	POST /channels.json     the console: the occupied channels of an app
//	POST /publish           an event for one channel
//	POST /watch             what is sent on one channel, a line of JSON each
//	GET  /debug/pprof/      profiles of the process
//
// A Snapshot has the figures that the server has counted and measured. Readiness, metrics and the
// figures of the page come from it. Everybody who reaches the address may read all of them. The
// console asks for the secret of an app, or for the session of a Pass, and slows down the guessing
// of both.
//
// The package opens no socket and makes no decision for the server. Apps, channels and the choice
// of what to count belong to the Source: Traffic and Requests are only the counters. An answer
// holds no unescaped part of a request. A page of another site gets no answer that it could use.
//
// Files:
//
//	admin.go     the Source and its App; routes, probes, profiles, pages of other sites
//	snapshot.go  the figures, and why a server is not ready
//	counters.go  the counters of an app, to which the server adds
//	metrics.go   the text for Prometheus
//	status.go    the figures for the page
//	console.go   the console: channels, an event, and what is sent on a channel
//	pass.go      the link that opens the console without the secret
package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"reverb/internal/lib/build"
	"reverb/internal/lib/profiles"
	"reverb/internal/lib/show"
	"reverb/internal/lib/throttle"
	"reverb/internal/protocol"
)

// Source is the server that the operator looks at. Many goroutines call the methods at once.
type Source interface {
	// Snapshot returns the figures of the server.
	Snapshot(now time.Time) Snapshot
	// Alive says whether every event loop still ends its turns. The call may take seconds.
	Alive() bool
	// App finds an app by its ID. ok is false if no such app is configured.
	App(id string) (a App, ok bool)
	// Remote is the address of the client, with or without a port, or the name of a Unix socket.
	Remote(r *http.Request) string
	// Refused tells of a request that was refused. word is for logs and the labels of
	// metrics; line says why, in one line.
	Refused(r *http.Request, word, line string)
}

// App is an app of the Source. A ctx ends when the page has gone.
type App interface {
	// Secret is the secret that the operator has to know.
	Secret() string
	// Channels tells, by name, of the occupied channels whose names begin with prefix.
	Channels(ctx context.Context, prefix string, now time.Time) map[string]protocol.Stats
	// Publish sends an event and returns when it is accepted. It returns the figures of the event's
	// channels in their order, or why the event is refused.
	Publish(ctx context.Context, e *protocol.Publish, now time.Time) ([]protocol.Stats,
		*protocol.Problem)
	// Watch sends on out what goes out on a channel from now on, until stop is called. It skips
	// messages while out is full. ok is false if there are too many watchers; then stop need not be
	// called.
	Watch(channel string) (out <-chan Message, stop func(), ok bool)
}

// Message is an event as subscribers get it, and the time at which it was published. The bytes are
// shared and never change.
type Message struct {
	Event []byte
	At    time.Time
}

// Options is what New needs besides the Source.
type Options struct {
	Page    []byte     // the status page: HTML with one style and one script
	Address net.Addr   // where the handler is served; on loopback the Host of requests is judged
	Name    string     // host:port by which the operator has named Address, or empty
	Port    int        // of the main address, a label of metrics; 0: the address has no port
	Prefix  string     // the names of metrics begin with it
	Build   build.Info // version and commit of the program
	Started time.Time  // when the program started
	Pass    *Pass      // opens the console without a secret; nil: nothing does

	Now   func() time.Time
	Ended <-chan struct{} // is closed when the server is about to end: nobody watches any longer
	Log   *slog.Logger
}

// handler is the product of New.
type handler struct {
	Options
	source  Source
	hosts   hosts
	policy  string           // Content-Security-Policy
	routes  map[string]route // by path
	guesses throttle.Limiter // of secrets and tokens
}

// New is the handler of the address for operators. It is safe for use by many goroutines.
func New(s Source, o Options) http.Handler {
	h := &handler{Options: o, source: s, hosts: hostsOf(o.Address, o.Name),
		policy: contentSecurityPolicy(o.Page)}
	served := profiles.Handler(profilesBelow, o.Ended)
	h.routes = map[string]route{
		"/live":          {"GET", h.live},
		"/ready":         {"GET", h.ready},
		"/metrics":       {"GET", h.metrics},
		"/":              {"GET", h.page},
		"/status.json":   {"GET", h.status},
		"/channels.json": {"POST", h.console(h.channels)},
		"/publish":       {"POST", h.console(h.publish)},
		"/watch":         {"POST", h.console(h.watch)},
		profilesBelow:    {"GET", h.profile(served.ServeHTTP)},
	}
	if o.Pass != nil {
		h.routes["/session"] = route{"POST", h.enter}
	}
	return h
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setSecurityHeaders(w.Header(), h.policy)
	if why := h.hosts.refuse(r.Host); why != "" {
		h.source.Refused(r, "bad_request", "admin: "+why)
		http.Error(w, why, http.StatusMisdirectedRequest)
		return
	}
	h.serve(w, r)
}

// --- Routes ---

// route is what one path, or all paths below profilesBelow, answer to.
type route struct {
	method string // GET stands for HEAD too
	handle http.HandlerFunc
}

// profilesBelow is where the paths of all profiles begin.
const profilesBelow = "/debug/pprof/"

// find returns the route of a path.
func (h *handler) find(path string) (to route, ok bool) {
	if strings.HasPrefix(path, profilesBelow) {
		path = profilesBelow
	}
	to, ok = h.routes[path]
	return to, ok
}

// serve answers as http.ServeMux would, which would add 39 kB to the binary. A path that is not
// clean, or lacks its last slash, is redirected to the right one.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	clean := path.Clean("/" + r.URL.Path)
	if clean != "/" && strings.HasSuffix(r.URL.Path, "/") || clean+"/" == profilesBelow {
		clean += "/"
	}
	to, ok := h.find(clean)
	switch {
	case !ok:
		http.NotFound(w, r)
	case to.method != r.Method && (to.method != "GET" || r.Method != "HEAD"):
		allowed := to.method
		if allowed == "GET" {
			allowed = "GET, HEAD"
		}
		w.Header().Set("Allow", allowed)
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	case clean != r.URL.Path:
		right := url.URL{Path: clean, RawQuery: r.URL.RawQuery}
		http.Redirect(w, r, right.String(), http.StatusTemporaryRedirect)
	default:
		to.handle(w, r)
	}
}

func (h *handler) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(h.Page) // an error means that the browser has gone
}

// --- Probes ---

func (h *handler) live(w http.ResponseWriter, _ *http.Request) {
	if !h.source.Alive() {
		http.Error(w, "an event loop does not come round", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "live\n")
}

func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	snap := h.source.Snapshot(h.Now())
	if why := snap.NotReady(); len(why) > 0 {
		http.Error(w, strings.Join(why, "\n"), http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
}

// --- Pages of other sites ---

// hosts are the values of Host that an address on loopback answers to. A page of another site may
// give its own name the address 127.0.0.1, to read answers for this machine (DNS rebinding). The
// Host of its requests shows that. For any other address the operator decides which machines reach
// it, and by which name.
type hosts struct {
	any  bool
	name string // by which the operator has named the address
}

func hostsOf(addr net.Addr, listen string) hosts {
	name, _, _ := net.SplitHostPort(listen) // empty for a socket
	return hosts{any: !loopback(addr), name: name}
}

// loopback says whether addr is a TCP address that only this machine reaches.
func loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// refuse says why a request for host, which may hold a port, gets no answer; empty: it gets one. A
// request without Host does not come from a browser.
func (h hosts) refuse(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	name = strings.TrimSuffix(name, ".")
	ip, err := netip.ParseAddr(name)
	switch {
	case h.any, host == "", err == nil && ip.Unmap().IsLoopback(),
		strings.EqualFold(name, "localhost"):
		return ""
	case name != "" && strings.EqualFold(name, h.name):
		return ""
	}
	return fmt.Sprintf("the Host %q is not a name of this address; ask for 127.0.0.1 or localhost "+
		"(a proxy must set Host to it), or let REVERB_ADMIN_LISTEN be an address that is not "+
		"loopback", show.Text(host))
}

// profile refuses profiles to pages of other sites, because a profile costs processor time. The
// other answers cost little, such a page cannot read them (Cross-Origin-Resource-Policy), and other
// sites may link to the status page.
func (h *handler) profile(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
			h.source.Refused(r, "origin_not_allowed", "admin: a page of another site asks for a "+
				"profile")
			http.Error(w, "a page of another site cannot ask for a profile; open this "+
				"address itself", http.StatusForbidden)
			return
		}
		handle(w, r)
	}
}

// contentSecurityPolicy allows the one style and the one script of the page, by their
// hashes, and requests to its own origin.
func contentSecurityPolicy(page []byte) string {
	hash := func(tag string) string {
		_, rest, _ := bytes.Cut(page, []byte("<"+tag+">"))
		text, _, _ := bytes.Cut(rest, []byte("</"+tag+">"))
		sum := sha256.Sum256(text)
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; style-src " + hash("style") + "; script-src " + hash("script") +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; " +
		"frame-ancestors 'none'"
}

func setSecurityHeaders(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}
