package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"reverb/internal/lib/retries"
	"reverb/internal/protocol"
)

// keyBackend is a backend among others. redis answers the steps.
type keyBackend struct {
	*backend
	perChannel bool
	redis      func(s *retries.Step, state string) string
	publishing func() // called by Publish
}

func (b *keyBackend) PerChannel() bool { return b.perChannel }

func (b *keyBackend) Claim(_ context.Context, _ string, s *retries.Step) error {
	b.note("claim %s", s.Args()[2])
	return s.Heard(b.redis(s, s.Args()[2]))
}

func (b *keyBackend) Publish(ctx context.Context, a string, events []protocol.Publish,
	key *retries.Claim, now time.Time) ([][]protocol.Stats, *protocol.Problem) {
	b.publishing()
	if b.bad != nil {
		b.note("fails")
		return nil, b.bad
	}
	if ctx.Err() != nil {
		return nil, unavailable("The request was given up.")
	}
	var all [][]protocol.Stats
	o := outcome{answers: make(chan error, 100)}
	for i := range events {
		var stats []protocol.Stats
		for k, name := range events[i].Channels {
			if s := key.Publish(); s == nil {
				b.note("publish %s", name)
			} else {
				reply := b.redis(s, s.Args()[2])
				b.note("publish %s with %s: %s", name, s.Args()[2], reply)
				if o.waits++; reply == "held" { // it waits for Redis
					o.answers <- nil
				} else {
					o.answers <- s.Heard(reply)
				}
			}
			stats = append(stats, protocol.Stats{Subscriptions: 10 + k})
		}
		if events[i].Info == nil {
			stats = nil
		}
		all = append(all, stats)
	}
	if bad := o.wait(ctx); bad != nil {
		return nil, bad
	}
	if _, info := extent(events); !info {
		all = nil
	}
	return all, nil
}

// keyBench sends requests with keys to a handler under a clock of the test.
type keyBench struct {
	t *testing.T
	b *keyBackend
	h *Handler[string]
}

func newKeyBench(t *testing.T) *keyBench {
	b := &keyBackend{backend: &backend{}, publishing: func() {},
		redis: func(*retries.Step, string) string { return "" }}
	b.set = Settings{MaxBody: 20_000, KeepKeys: 2 * time.Minute}
	return &keyBench{t, b, New(b, func() time.Time { return time.Unix(unixNow, 0) })}
}

// want sends a request, and checks its answer and what the backend was asked.
func (k *keyBench) want(key, path, body, want string, calls ...string) *httptest.ResponseRecorder {
	k.t.Helper()
	k.b.calls = nil
	r := signed("POST", "/apps/1/"+path, "", body)
	if key != "" {
		r.Header["Idempotency-Key"] = []string{key}
	}
	w := httptest.NewRecorder()
	k.h.ServeHTTP(w, r)
	if got := fmt.Sprintf("%d %s", w.Code, w.Body); got != want {
		k.t.Errorf("%s %s: got %s, want %s", key, body, got, want)
	}
	k.b.calls = slices.DeleteFunc(k.b.calls, func(s string) bool {
		return strings.Contains(s, "POST /apps/1/") // what was told of a refusal
	})
	if !slices.Equal(k.b.calls, calls) {
		k.t.Errorf("%s %s: the backend was asked %q, want %q", key, body, k.b.calls, calls)
	}
	return w
}

const (
	oneChannel  = `{"name":"e","channels":["c"],"data":"1"}`
	oneWithInfo = `{"name":"e","channels":["c"],"data":"1","info":"subscription_count"}`
	twoChannels = `{"name":"e","channels":["c","d"],"data":"1"}`

	otherText = "422 The key of this request belongs to a request with another path or body; " +
		"send a new key."
	busyText = "409 The request with this key is in progress; send it again shortly."
)

// TestKeys sends requests with keys to the only node.
func TestKeys(t *testing.T) {
	k := newKeyBench(t)
	for range 2 {
		k.want("", "events", oneChannel, "200 {}", "publish c")
	}
	k.want("a", "events", oneChannel, "200 {}", "publish c with d{}: ")
	k.want("a", "events", oneChannel, "200 {}")
	k.want("a", "events", twoChannels, otherText)
	k.want("a", "batch_events", `{"batch":[{"name":"e","channel":"c","data":"1"}]}`, otherText)
	k.want("i", "events", oneWithInfo, `200 {"channels":{"c":{"subscription_count":10}}}`,
		"publish c with p: ", "claim d"+`{"channels":{"c":{"subscription_count":10}}}`)
	k.want("i", "events", oneWithInfo, `200 {"channels":{"c":{"subscription_count":10}}}`)

	// a request that fails frees its key, and so does one whose body is wrong
	k.b.bad = unavailable("Later.")
	k.want("f", "events", oneChannel, "503 Later.", "fails")
	k.b.bad = nil
	k.want("f", "events", oneChannel, "200 {}", "publish c with d{}: ")
	k.want("g", "events", `{`, "400 Bad request: the body is not JSON: invalid JSON at byte 1: "+
		"it ends too early.")
	k.want("g", "events", oneChannel, "200 {}", "publish c with d{}: ")
	if held, repeated, dropped := k.h.Keys("1"); held != 4 || repeated != 2 || dropped != 0 {
		t.Errorf("got %d keys held, %d requests repeated, %d dropped", held, repeated, dropped)
	}
	k.b.set.KeepKeys = 0 // off: no key counts, not even a wrong one
	k.want("a", "events", oneChannel, "200 {}", "publish c")
	k.want(strings.Repeat("k", 129), "events", oneChannel, "200 {}", "publish c")
}

// TestKeyHeaders judges the headers that have the key.
func TestKeyHeaders(t *testing.T) {
	long := strings.Repeat("é", maxKey)
	for _, c := range []struct {
		header http.Header
		want   string
	}{
		{http.Header{"Idempotency-Key": {"k"}}, "200"},
		{http.Header{"X-Idempotency-Key": {"k"}}, "200"},
		{http.Header{"Idempotency-Key": {"k"}, "X-Idempotency-Key": {""}}, "200"},
		{http.Header{"Idempotency-Key": {long}}, "200"},
		{http.Header{"Idempotency-Key": {long + "e"}}, "400 Bad request: the header " +
			"Idempotency-Key has 1 to 128 characters, this one 129."},
		{http.Header{"X-Idempotency-Key": {""}}, "400 Bad request: the header X-Idempotency-Key " +
			"has 1 to 128 characters, this one 0."},
		{http.Header{"Idempotency-Key": {"a", "b"}}, "400 Bad request: the header " +
			"Idempotency-Key came 2 times."},
	} {
		k := newKeyBench(t)
		r := signed("POST", "/apps/1/events", "", oneChannel)
		for name, values := range c.header {
			r.Header[name] = values
		}
		if got := ask(t, k.h, r); !strings.HasPrefix(got, c.want) {
			t.Errorf("%q: got %s, want %s", c.header, got, c.want)
		}
		unsigned := httptest.NewRequest("POST", "/apps/1/events", strings.NewReader(oneChannel))
		unsigned.Header = r.Header
		if got := ask(t, k.h, unsigned); !strings.HasPrefix(got, "401") {
			t.Errorf("%q without a signature: got %s", c.header, got)
		}
	}
}

// TestKeyInProgress sends a request while the first with its key has no answer.
func TestKeyInProgress(t *testing.T) {
	k := newKeyBench(t)
	k.b.publishing = func() {
		k.b.publishing = func() { t.Error("the second request publishes") }
		if w := k.want("a", "events", oneChannel, busyText); w.Header().Get("Retry-After") != "1" {
			t.Errorf("got the header %v", w.Header())
		}
	}
	k.want("a", "events", oneChannel, "200 {}", "publish c with d{}: ")

	// a panic frees the key
	k.b.publishing = func() { panic("oh") }
	func() {
		defer func() { recover() }()
		k.want("b", "events", oneChannel, "")
	}()
	k.b.publishing = func() {}
	k.want("b", "events", oneChannel, "200 {}", "publish c with d{}: ")
}

// TestKeyOfGoneClient checks that a request with a key ends when its client has gone.
func TestKeyOfGoneClient(t *testing.T) {
	k := newKeyBench(t)
	r := signed("POST", "/apps/1/events", "", oneChannel)
	r.Header["Idempotency-Key"] = []string{"a"}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := ask(t, k.h, r.WithContext(ctx)); got != "200 {}" {
		t.Errorf("got %s", got)
	}
	r = signed("POST", "/apps/1/events", "", oneChannel)
	if got := ask(t, k.h, r.WithContext(ctx)); !strings.HasPrefix(got, "503") {
		t.Errorf("without a key: got %s", got)
	}
}

// TestKeysAmongNodes lets Redis answer the steps of requests.
func TestKeysAmongNodes(t *testing.T) {
	k := newKeyBench(t)
	says := func(of map[string]string) {
		k.b.redis = func(_ *retries.Step, state string) string { return of[state] }
	}
	// for one channel the publish claims
	says(map[string]string{"d{}": "d{1}"})
	k.want("stored", "events", oneChannel, "200 {1}", "publish c with d{}: d{1}")
	k.want("stored", "events", oneChannel, "200 {1}")
	says(map[string]string{"d{}": "p", "p": "p"})
	k.want("busy", "events", oneChannel, busyText, "publish c with d{}: p")
	says(map[string]string{"d{}": "x", "p": "x"})
	k.want("busy", "events", oneChannel, otherText, "publish c with d{}: x")
	says(nil)
	k.want("busy", "events", oneChannel, "200 {}", "publish c with d{}: ")
	says(map[string]string{"p": "d"}) // published, and the answer is missing
	k.want("info", "events", oneWithInfo, `200 {"channels":{"c":{"subscription_count":3}}}`,
		"publish c with p: d")

	// for several the request is claimed first
	says(map[string]string{"d": "d"})
	k.want("two", "events", twoChannels, "200 {}", "claim p", "publish c with d: d",
		"publish d with d: d", "claim d{}")
	k.want("two", "events", twoChannels, "200 {}")
	says(map[string]string{"p": "d{1}"})
	k.want("two-stored", "events", twoChannels, "200 {1}", "claim p")
	for reply, want := range map[string]string{"p": busyText, "x": otherText} {
		says(map[string]string{"p": reply})
		k.want("two-"+reply, "events", twoChannels, want, "claim p")
		says(map[string]string{"d": "x"})
		k.want("two-"+reply, "events", twoChannels, otherText, "claim p", "publish c with d: x",
			"publish d with d: x", "claim ")
	}
	// an event that waits for Redis is not done for the other nodes
	says(map[string]string{"p": "", "d": "held"})
	k.want("two-held", "events", twoChannels, "200 {}", "claim p", "publish c with d: held",
		"publish d with d: held")
	k.want("two-held", "events", twoChannels, "200 {}")
	k.b.bad = unavailable("Later.")
	says(nil)
	k.want("two-bad", "events", twoChannels, "503 Later.", "claim p", "fails", "claim ")

	// where a key counts for one channel, and where for all
	k.b.bad = nil
	other := strings.Replace(oneChannel, `"c"`, `"e"`, 1)
	k.want("per", "events", oneChannel, "200 {}", "publish c with d{}: ")
	k.want("per", "events", other, otherText)
	k.b.perChannel = true
	k.want("per", "events", oneChannel, "200 {}", "publish c with d{}: ")
	k.want("per", "events", other, "200 {}", "publish e with d{}: ")
	k.want("per", "events", twoChannels, otherText)
}

// TestKeyWithLongAnswer repeats a request whose answer is too long to be kept.
func TestKeyWithLongAnswer(t *testing.T) {
	k := newKeyBench(t)
	var names, want, calls []string
	for i := range 100 {
		name := fmt.Sprintf("%s%02d", strings.Repeat("c", 40), i)
		names = append(names, `"`+name+`"`)
		want = append(want, `"`+name+`":{"subscription_count":3}`)
		calls = append(calls, "publish "+name+" with d: ")
	}
	body := `{"name":"e","channels":[` + strings.Join(names, ",") +
		`],"data":"1","info":"subscription_count"}`
	first := "200 " + `{"channels":{` + strings.Join(want, ",") + "}}"
	for i := range 100 {
		first = strings.Replace(first, fmt.Sprintf(`%02d":{"subscription_count":3}`, i),
			fmt.Sprintf(`%02d":{"subscription_count":%d}`, i, 10+i), 1)
	}
	calls = append([]string{"claim p"}, calls...)
	k.want("a", "events", body, first, append(calls, "claim d")...)
	k.want("a", "events", body, "200 "+`{"channels":{`+strings.Join(want, ",")+"}}")
	k.b.redis = func(*retries.Step, string) string { return "d" }
	k.want("b", "events", body, "200 "+`{"channels":{`+strings.Join(want, ",")+"}}", "claim p")
}

// TestKeysFull has no room for a key.
func TestKeysFull(t *testing.T) {
	for _, err := range []error{retries.ErrFull, errors.New("Redis is away")} {
		if p := keyProblem(err); p.Status != 503 || p.Again != 0 {
			t.Errorf("%v: got %+v", err, p)
		}
	}
}
