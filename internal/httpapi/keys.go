package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"
	"unicode/utf8"

	"reverb/internal/lib/retries"
	"reverb/internal/protocol"
)

// --- Keys ---
//
// A request that publishes may name itself with a key, so that its retry publishes nothing
// (IETF draft: The Idempotency-Key HTTP Header Field). The second request gets the answer of the
// first. A key with another path or body is refused (422), and so is one whose first request is in
// progress (409). A key counts only behind a right signature and a body that is in order. A request
// that has failed frees its key.

// maxKey bounds a key, in characters. Larger: libraries may send longer keys. Smaller: some keys
// that libraries make are refused. A claim has the same size whatever the key.
const maxKey = 128

// keyPatience is how long a request with a key goes on when its client has gone. Larger: a server
// that stops may wait longer. Smaller: a slow Redis makes the request fail, and its retry publishes
// what Redis may have taken.
const keyPatience = 15 * time.Second

// keyHeaders are the headers that may have the key. The first that is there counts. The second is
// the one of sockudo.
var keyHeaders = [...]string{"Idempotency-Key", "X-Idempotency-Key"}

// Keys tells how many keys of an app are held, how many requests got the answer of an earlier one,
// and how many keys had to go before their time.
func (h *Handler[A]) Keys(app string) (held int, repeated, dropped uint64) {
	f := h.keys.Figures(app)
	return f.Claims, f.Repeated, f.Dropped
}

// State has the keys of all apps, for SetState in another process, in records.
func (h *Handler[A]) State() [][]byte { return h.keys.State() }

// SetState takes a record of State over. ok is false if it makes no sense.
func (h *Handler[A]) SetState(b []byte) (ok bool) { return h.keys.SetState(b) }

// key is the key of a request; empty: it has none.
func (r *request[A]) key() (string, *protocol.Problem) {
	if r.keep == 0 {
		return "", nil
	}
	for _, name := range keyHeaders {
		switch values := r.head[name]; {
		case len(values) == 0:
		case len(values) > 1:
			return "", protocol.BadRequest("the header %s came %d times", name, len(values))
		case values[0] == "" || utf8.RuneCountInString(values[0]) > maxKey:
			return "", protocol.BadRequest("the header %s has 1 to %d characters, this one %d",
				name, maxKey, utf8.RuneCountInString(values[0]))
		default:
			return values[0], nil
		}
	}
	return "", nil
}

// publishOnce is publish for a request with a key.
func (h *Handler[A]) publishOnce(ctx context.Context, r *request[A], key string,
	events []protocol.Publish, encode encoder) (body []byte, bad *protocol.Problem) {
	channels, info := extent(events)
	of := retries.Request{App: h.backend.Credentials(r.app).ID, Key: key, Path: r.path,
		Body: r.body, Channels: channels, PerChannel: h.backend.PerChannel()}
	if channels == 1 {
		of.Channel = events[0].Channels[0].String()
	}
	c, earlier, err := h.keys.Begin(of, r.keep, r.now)
	switch {
	case err != nil:
		return nil, keyProblem(err)
	case earlier != nil:
		return h.repeat(ctx, r, *earlier, events, encode), nil
	}
	failed := true // a panic frees the key, too
	defer func() { h.keys.End(c, failed, h.now()) }()
	if !info {
		c.Settle(emptyObject)
	}
	// a client that goes away comes back for the answer
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyPatience)
	defer cancel()
	all, bad := h.claimAndPublish(ctx, r, events, c)
	if bad != nil {
		return nil, bad
	}
	failed = false
	if answer, ok := c.Earlier(); ok {
		return h.repeat(ctx, r, answer, events, encode), nil
	}
	body = encode(events, all)
	c.Settle(body)
	if c.Shared() && (info || c.Several()) {
		h.backend.Claim(ctx, r.app, c.Store()) // without it, a retry is told to wait
	}
	return body, nil
}

// claimAndPublish publishes the events of a request that has its claim here, if it gets the claim
// among all nodes. Otherwise c knows the answer, or the request is refused.
func (h *Handler[A]) claimAndPublish(ctx context.Context, r *request[A], events []protocol.Publish,
	c *retries.Claim) (all [][]protocol.Stats, bad *protocol.Problem) {
	if c.Several() {
		if err := h.backend.Claim(ctx, r.app, c.Take()); err != nil {
			return nil, keyProblem(err)
		}
		if _, ok := c.Earlier(); ok {
			return nil, nil
		}
		defer func() {
			if bad != nil {
				h.backend.Claim(ctx, r.app, c.Free()) // without it, a retry waits for the lease
			}
		}()
	}
	return h.backend.Publish(ctx, r.app, events, c, r.now)
}

// repeat answers a request whose key has an answer. An answer that was too long to be kept is made
// again, with the figures of now.
func (h *Handler[A]) repeat(ctx context.Context, r *request[A], answer retries.Answer,
	events []protocol.Publish, encode encoder) []byte {
	if !answer.Long {
		return []byte(answer.Body)
	}
	all := make([][]protocol.Stats, len(events))
	for i := range events {
		if events[i].Info == nil {
			continue
		}
		for _, name := range events[i].Channels {
			all[i] = append(all[i], h.backend.Channel(ctx, r.app, name, r.now))
		}
	}
	return encode(events, all)
}

// keyProblem is the answer to a request whose events were not taken, most often because its key is
// not free.
func keyProblem(err error) *protocol.Problem {
	switch {
	case errors.Is(err, retries.ErrOther):
		return &protocol.Problem{Status: http.StatusUnprocessableEntity, Text: "The key of this " +
			"request belongs to a request with another path or body; send a new key."}
	case errors.Is(err, retries.ErrBusy):
		return &protocol.Problem{Status: http.StatusConflict, Again: 1, Text: "The request with " +
			"this key is in progress; send it again shortly."}
	case errors.Is(err, retries.ErrFull):
		return unavailable("Too many requests with keys are in progress; send it again shortly.")
	}
	return unavailable(err.Error())
}
