package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/show"
	"reverb/internal/protocol"
)

// --- Requests ---

// request is a request whose signature was verified. Its memory is used again for
// another request.
type request[A any] struct {
	app    A
	query  protocol.Params
	body   []byte
	now    time.Time
	args   []string            // arguments in the path: a channel, a user
	single [1]protocol.Publish // the event of POST events; parts of body
	id     string              // of the app
	short  bool                // memory is short
	list   *list               // is released when the answer is sent; nil: none
	path   string              // below the prefix
	head   http.Header
	keep   time.Duration // see Settings.KeepKeys
}

// maxKeptBody bounds, in bytes, a body whose memory is used again. Larger: after one large body the
// pool holds more memory. Smaller: usual bodies allocate.
const maxKeptBody = 64 << 10

func (h *Handler[A]) take() *request[A] {
	if r, ok := h.requests.Get().(*request[A]); ok {
		return r
	}
	return new(request[A])
}

func (h *Handler[A]) give(r *request[A]) {
	if r.list != nil {
		r.list.release()
	}
	clear(r.query)
	body := r.body[:0]
	if cap(body) > maxKeptBody {
		body = nil
	}
	*r = request[A]{query: r.query[:0], body: body}
	h.requests.Put(r)
}

// authenticate reads a request into req and verifies its signature.
func (h *Handler[A]) authenticate(w http.ResponseWriter, r *http.Request, set Settings,
	path *protocol.RequestPath, id string, req *request[A]) *protocol.Problem {
	var ok bool
	if req.app, ok = h.backend.App(id); !ok {
		return &protocol.Problem{Status: http.StatusNotFound,
			Text: "No matching application for ID [" + show.Text(id) + "]."}
	}
	if r.ContentLength > set.MaxBody {
		return &protocol.Problem{Status: http.StatusRequestEntityTooLarge,
			Text: fmt.Sprintf("Payload too large: the body has %d bytes, REVERB_MAX_REQUEST_SIZE "+
				"allows %d.", r.ContentLength, set.MaxBody)}
	}
	var err error
	if req.body, err = readBody(req.body, w, r, set.MaxBody); err != nil {
		if over := (*http.MaxBytesError)(nil); errors.As(err, &over) {
			return &protocol.Problem{Status: http.StatusRequestEntityTooLarge,
				Text: fmt.Sprintf("Payload too large: REVERB_MAX_REQUEST_SIZE allows %d bytes.",
					set.MaxBody)}
		}
		return protocol.BadRequest("the body ended before it was complete")
	}
	if req.query, err = protocol.ParseQuery(req.query, r.URL.RawQuery); err != nil {
		return protocol.BadRequest("the query cannot be decoded: %v", err)
	}
	req.now, req.path, req.head, req.keep = h.now(), path.Rest, r.Header, set.KeepKeys
	keys := h.backend.Credentials(req.app)
	return keys.CheckRequest(r.Method, path, req.query, req.body, req.now, set.AuthWindow)
}

// readBody reads the body of a request, of at most limit bytes, into b if it fits.
func readBody(b []byte, w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength < 0 {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	}
	if r.ContentLength > maxKeptBody { // the memory grows with what comes, up to twice as much
		return io.ReadAll(io.LimitReader(r.Body, limit))
	}
	b = slices.Grow(b[:0], int(r.ContentLength))[:r.ContentLength]
	_, err := io.ReadFull(r.Body, b)
	return b, err
}

// --- Routes ---
//
// The handlers of the table in New.

// emptyObject is the answer to events without Info. It never changes.
var emptyObject = []byte("{}")

func (h *Handler[A]) events(ctx context.Context, r *request[A]) ([]byte, *protocol.Problem) {
	var bad *protocol.Problem
	if r.single[0], bad = protocol.ParsePublish(r.body); bad != nil {
		return nil, bad
	}
	return h.publish(ctx, r, r.single[:], encodeEvent)
}

// encodeEvent is the answer to POST events. all is as in Backend.Publish.
func encodeEvent(events []protocol.Publish, all [][]protocol.Stats) []byte {
	e := &events[0]
	if e.Info == nil {
		return emptyObject
	}
	b := []byte(`{"channels":{`)
	for i, name := range e.Channels {
		if slices.Contains(e.Channels[:i], name) {
			continue
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsonraw.AppendString(b, name.String()), ':')
		b = protocol.AppendStats(b, all[0][i], e.Info)
	}
	return append(b, "}}"...)
}

func (h *Handler[A]) batch(ctx context.Context, r *request[A]) ([]byte, *protocol.Problem) {
	events, bad := protocol.ParseBatch(r.body)
	if bad != nil {
		return nil, bad
	}
	return h.publish(ctx, r, events, encodeBatch)
}

// encodeBatch is the answer to POST batch_events.
func encodeBatch(events []protocol.Publish, all [][]protocol.Stats) []byte {
	if all == nil {
		return emptyObject
	}
	b := []byte(`{"batch":[`)
	for i := range events {
		if i > 0 {
			b = append(b, ',')
		}
		st := protocol.Stats{}
		if all[i] != nil {
			st = all[i][0]
		}
		b = protocol.AppendStats(b, st, events[i].Info)
	}
	return append(b, "]}"...)
}

// encoder makes the answer to a request that has published.
type encoder func(events []protocol.Publish, all [][]protocol.Stats) []byte

// publish publishes the events of a request, and answers it.
func (h *Handler[A]) publish(ctx context.Context, r *request[A], events []protocol.Publish,
	encode encoder) ([]byte, *protocol.Problem) {
	key, bad := r.key()
	switch {
	case bad != nil:
		return nil, bad
	case key != "":
		return h.publishOnce(ctx, r, key, events, encode)
	}
	all, bad := h.backend.Publish(ctx, r.app, events, nil, r.now)
	if bad != nil {
		return nil, bad
	}
	return encode(events, all), nil
}

func (h *Handler[A]) connections(ctx context.Context, r *request[A]) ([]byte, *protocol.Problem) {
	return fmt.Appendf(nil, `{"connections":%d}`, h.backend.Connections(ctx, r.app)), nil
}

func (h *Handler[A]) channels(ctx context.Context, r *request[A]) ([]byte, *protocol.Problem) {
	var bad *protocol.Problem
	if r.list, bad = h.lists.begin(ctx, r.id); bad != nil {
		return nil, bad
	}
	found := h.backend.Channels(ctx, r.app, r.query.Get("filter_by_prefix"),
		r.query.Get("info") != "", r.now)
	names, info := make([]string, 0, len(found)), strings.Split(r.query.Get("info"), ",")
	size, row := len(`{"channels":{}}`), []byte(nil)
	for name, stats := range found {
		names = append(names, name)
		row = protocol.AppendStats(row[:0], stats, info)
		size += len(name) + len(`"":,`) + len(row)
	}
	if bad := r.list.finished(size, r.short); bad != nil {
		return nil, bad
	}
	slices.Sort(names)
	b := append(make([]byte, 0, size), `{"channels":{`...)
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsonraw.AppendString(b, name), ':')
		b = protocol.AppendStats(b, found[name], info)
	}
	return append(b, "}}"...), nil
}

func (h *Handler[A]) channel(ctx context.Context, r *request[A]) ([]byte, *protocol.Problem) {
	info := append(strings.Split(r.query.Get("info"), ","), "occupied")
	name, err := protocol.ParseName(r.args[0])
	if err != nil { // nobody can be subscribed to such a channel
		return protocol.AppendStats(nil, protocol.Stats{}, info), nil
	}
	return protocol.AppendStats(nil, h.backend.Channel(ctx, r.app, name, r.now), info), nil
}

func (h *Handler[A]) users(ctx context.Context, r *request[A]) ([]byte, *protocol.Problem) {
	name, err := protocol.ParseName(r.args[0])
	if err != nil {
		return nil, protocol.BadRequest("channel %s: %v", show.Quoted(r.args[0]), err)
	}
	if !name.Kind().Presence {
		return nil, protocol.BadRequest("only presence channels have users; %s is not a presence "+
			"channel", show.Quoted(r.args[0]))
	}
	return protocol.AppendUsers(nil, h.backend.Users(ctx, r.app, name)), nil
}

func (h *Handler[A]) terminate(ctx context.Context, r *request[A]) ([]byte, *protocol.Problem) {
	h.backend.Terminate(ctx, r.app, r.args[0])
	return emptyObject, nil
}

const givenUp = "The request was given up."

// unavailable is the problem of a request that may have more luck later.
func unavailable(why string) *protocol.Problem {
	return &protocol.Problem{Status: http.StatusServiceUnavailable, Text: why}
}
