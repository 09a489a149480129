package admin

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/show"
	"reverb/internal/protocol"
)

const (
	// maxConsoleBytes bounds the body that the page sends, and so the data of an event that the
	// page publishes. Larger: a request takes more memory. Smaller: larger events are refused.
	maxConsoleBytes = 1 << 20
	// maxConsoleChannels bounds the rows of /channels.json; an operator gives a prefix to see the
	// others. Larger: the page is slow to draw. Smaller: more prefixes are needed.
	maxConsoleChannels = 500
	// aliveInterval is how often a page that watches hears that the server is there. Larger:
	// proxies close the answer. Smaller: more writes.
	aliveInterval = 15 * time.Second
)

// question is the body that the page sends: with the Session or the Secret of an app, or with the
// Token of a link.
type question struct {
	App, Secret, Session, Token, Channel, Event, Data string
}

// console calls handle for requests that come from the page itself and have the secret of an app,
// or a session.
func (h *handler) console(handle func(w http.ResponseWriter, r *http.Request, a App,
	q question)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, ok := readQuestion(w, r)
		if !ok {
			return
		}
		if a, ok := h.authenticate(w, r, q); ok {
			handle(w, r, a, q)
		}
	}
}

// readQuestion reads a request of the page itself. If it answers the request, ok is false.
func readQuestion(w http.ResponseWriter, r *http.Request) (q question, ok bool) {
	site := r.Header.Get("Sec-Fetch-Site")
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") ||
		site != "" && site != "same-origin" {
		refuse(w, http.StatusForbidden, "only the status page itself may ask this, in JSON")
		return q, false
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxConsoleBytes)).Decode(
		&q); err != nil {
		refuse(w, http.StatusBadRequest, "the request is not the JSON that is expected")
		return q, false
	}
	return q, true
}

// try counts the request as a guess of its client. right takes the guess back. If the client has
// made too many wrong guesses, try answers the request, and ok is false.
func (h *handler) try(w http.ResponseWriter, r *http.Request) (right func(), ok bool) {
	wait, right := h.guesses.Try(h.source.Remote(r), h.Now())
	if wait > 0 {
		wait = max(wait.Round(time.Second), time.Second)
		h.source.Refused(r, "unauthorized", "status page: too many wrong secrets; no more are "+
			"looked at for now")
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)))
		refuse(w, http.StatusTooManyRequests, fmt.Sprintf("there were too many wrong secrets; "+
			"try again in %v", wait))
		return nil, false
	}
	return right, true
}

// authenticate finds the app whose secret or session the request has, or answers why there is none.
func (h *handler) authenticate(w http.ResponseWriter, r *http.Request, q question) (a App,
	ok bool) {
	right, ok := h.try(w, r)
	if !ok {
		return nil, false
	}
	a, ok = h.admitted(q)
	switch {
	case ok:
		right()
		return a, true
	case q.Session != "":
		h.source.Refused(r, "unauthorized", "status page: no session for app "+show.Text(q.App))
		refuse(w, http.StatusUnauthorized, "the session of this page is over; use the secret of "+
			"the app")
	default:
		h.source.Refused(r, "unauthorized", "status page: wrong secret for app "+show.Text(q.App))
		refuse(w, http.StatusUnauthorized, "this is not the secret of that app")
	}
	return nil, false
}

// admitted finds the app of q. ok is false if there is no such app, or if the session or the secret
// of q is not right now.
func (h *handler) admitted(q question) (a App, ok bool) {
	a, ok = h.source.App(q.App)
	switch {
	case !ok:
		return nil, false
	case q.Session != "":
		ok = h.Pass.admits(q.Session, q.App, h.Now())
	default:
		ok = subtle.ConstantTimeCompare([]byte(a.Secret()), []byte(q.Secret)) == 1
	}
	return a, ok
}

func (h *handler) channels(w http.ResponseWriter, r *http.Request, a App, q question) {
	type row struct {
		Name          string `json:"name"`
		Subscriptions int    `json:"subscriptions"`
		Users         int    `json:"users"`
	}
	all := a.Channels(r.Context(), q.Channel, h.Now())
	names := slices.Sorted(maps.Keys(all))
	rows := []row{}
	for _, name := range names[:min(len(names), maxConsoleChannels)] {
		rows = append(rows, row{name, all[name].Subscriptions, all[name].Users})
	}
	answer(w, http.StatusOK, map[string]any{"channels": rows, "total": len(all)})
}

func (h *handler) publish(w http.ResponseWriter, r *http.Request, a App, q question) {
	name, err := protocol.ParseName(q.Channel)
	e := &protocol.Publish{Name: []byte(q.Event), Data: jsonraw.AppendString(nil, q.Data),
		Channels: []protocol.Name{name}}
	bad := e.Check()
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, err.Error())
		return
	case q.Event == "":
		refuse(w, http.StatusBadRequest, "the event has no name")
		return
	case bad != nil:
		refuse(w, bad.Status, bad.Text)
		return
	}
	e.Info = []string{"subscription_count"}
	all, bad := a.Publish(r.Context(), e, h.Now())
	if bad != nil {
		refuse(w, bad.Status, bad.Text)
		return
	}
	answer(w, http.StatusOK, map[string]int{"subscriptions": all[0].Subscriptions})
}

// watch streams the messages of one channel, one a line, until the page ends the request or the
// server stops:
//
//	{"at":"2006-01-02T15:04:05.000Z","event":"…","data":…}
//	{"alive":true}
//
// Instead of an alive line the answer ends if the page is no longer admitted: its session is over,
// its secret has changed, or the app is gone.
func (h *handler) watch(w http.ResponseWriter, r *http.Request, a App, q question) {
	if _, err := protocol.ParseName(q.Channel); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	messages, stop, ok := a.Watch(q.Channel)
	if !ok {
		refuse(w, http.StatusServiceUnavailable, "too many pages are watching")
		return
	}
	defer stop()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	alive := time.NewTicker(aliveInterval)
	defer alive.Stop()
	for line := aliveLine(); ; {
		if _, err := w.Write(line); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
		select {
		case m := <-messages:
			line = messageLine(m)
		case <-alive.C:
			if _, ok := h.admitted(q); !ok {
				return
			}
			line = aliveLine()
		case <-r.Context().Done():
			return
		case <-h.Ended:
			return
		}
	}
}

// aliveLine says that the server is there.
func aliveLine() []byte { return []byte(`{"alive":true}` + "\n") }

// messageLine writes a message for the page. Servers send data as a string of JSON; the line has
// the JSON of the string.
func messageLine(m Message) []byte {
	e, err := protocol.ParseEvent(m.Event)
	if err != nil {
		return aliveLine() // cannot happen: a message is always an event
	}
	data := e.Data
	if s, quoted := jsonraw.String(data); quoted && jsonraw.Check([]byte(s)) == nil {
		data = []byte(s)
	}
	if len(data) == 0 {
		data = []byte("null")
	}
	b := append([]byte(`{"at":"`), m.At.UTC().Format("2006-01-02T15:04:05.000Z")...)
	b = jsonraw.AppendString(append(b, `","event":`...), e.Name)
	b = append(append(b, `,"data":`...), data...)
	return append(bytes.ReplaceAll(b, []byte("\n"), []byte(" ")), '}', '\n')
}
