package cluster

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/envelopes/known"
	"reverb/internal/lib/resp"
	"reverb/internal/lib/retries"
)

// claimOf begins a request with a key.
func claimOf(t *testing.T, channels int) *retries.Claim {
	table := retries.New(1, func(time.Duration, func(time.Time)) {})
	c, _, err := table.Begin(retries.Request{App: "a", Key: "k", Channels: channels,
		Channel: "cache-x"}, time.Minute, time.Unix(1_000_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestNodeClaims publishes events of requests with keys, some of which another node has published.
func TestNodeClaims(t *testing.T) {
	r := new(scribe)
	n := newTestNode(time.Hour, r, slog.New(slog.DiscardHandler))
	f := connectFake(t, n)
	f.said("")
	c := claimOf(t, 1)
	key := "p:claim:" + c.Take().Key()
	var got []error
	publish := func(topic, payload string, remember bool) {
		t.Helper()
		n.Publish(topic, payload, 5, remember, c.Publish(),
			func(err error) { got = append(got, err) })
	}
	want := func(script string) {
		t.Helper()
		if lines := f.said("claim 2 "); len(lines) != 1 || !strings.Contains(lines[0], script) {
			t.Errorf("got %q, want %s", lines, script)
		}
	}
	publish("a:x", "plain", false)
	want(key + " p:a:x:cached ")
	f.answer(resp.Reply{Kind: resp.Int, N: 1})
	publish("a:cache-x", "last", true)
	want("last last 1800 ")
	for _, reply := range []string{"d{}", "p", "x"} {
		f.answer(resp.Reply{Kind: resp.Text, Text: reply})
		publish("a:x", "again", false)
		want("again ")
	}
	f.answer(resp.Reply{Kind: resp.Text, Text: "d{}"})
	if errs := []error{nil, nil, retries.ErrBusy, retries.ErrOther, nil}; !slices.Equal(got,
		errs) {
		t.Errorf("got %v, want %v", got, errs)
	}
	if answer, ok := c.Earlier(); !ok || answer.Body != "{}" {
		t.Errorf("got the answer %+v, %v", answer, ok)
	}

	// only the first event is sent again: another node has published the others
	n.link.Fail(errors.New("gone"))
	n.endTurn()
	if len(n.backlog) != 1 || n.backlog[0].Payload != "plain" || !n.backlog[0].Again {
		t.Errorf("%d events are kept", len(n.backlog))
	}
	if len(r.told) > 0 {
		t.Errorf("the members here are told %q", r.told)
	}
	if n.inflight.Load() != 0 {
		t.Errorf("%d bytes are in flight", n.inflight.Load())
	}
}

// TestNodeClaimSteps gives Redis steps without an event.
func TestNodeClaimSteps(t *testing.T) {
	n := newTestNode(time.Hour, new(scribe), slog.New(slog.DiscardHandler))
	c := claimOf(t, 2)
	var got []error
	claim := func() {
		n.Claim("a:home", c.Take(), func(err error) { got = append(got, err) })
		n.driver.Work()
	}
	claim()
	f := connectFake(t, n)
	f.said("")
	for _, reply := range []string{"k", "p", "x", "d{1}"} {
		claim()
		if lines := f.said("claim 1 p:claim:a:"); len(lines) != 1 {
			t.Errorf("got %q", lines)
		}
		f.answer(resp.Reply{Kind: resp.Text, Text: reply})
	}
	if want := []error{errAway, nil, retries.ErrBusy, retries.ErrOther, nil}; !slices.Equal(got,
		want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n.PerChannel() {
		t.Error("a key counts for one channel, and there is one Redis")
	}
}

// TestNodeAsksForTheLatest publishes on a cache channel while Redis is away. Then another node has
// the claim of the request, and may have published other events since: this node asks for the last.
func TestNodeAsksForTheLatest(t *testing.T) {
	r := new(scribe)
	n := newTestNode(time.Hour, r, slog.New(slog.DiscardHandler))
	n.Join("a:cache-x", "", "", true, func() {})
	n.Publish("a:cache-x", "new", 0, true, claimOf(t, 1).Publish(), nil)
	n.driver.Work()
	give(n)
	topic := n.topics["a:cache-x"]
	topic.State = known.Syncing
	n.handleSnapshot(topic, &envelopes.Envelope{Payload: "old", Life: 1000})
	n.Counters.Live.Store(true)
	n.endTurn()
	// The event comes before the number of members, which ends the turn.
	n.handleReplies(Batch{Replies: []resp.Reply{{Kind: resp.Text, Text: "d{}"}}})
	if topic.State != known.Syncing || topic.Kept != nil {
		t.Errorf("the topic is in the state %d, and keeps %v", topic.State, topic.Kept)
	}
	n.handleSnapshot(topic, &envelopes.Envelope{Payload: "other", Life: 1000})
	want := []string{"deliver a:cache-x new 0 true", "snapshot a:cache-x [] new",
		"snapshot a:cache-x [] other"}
	if !slices.Equal(r.told, want) {
		t.Errorf("got %q, want %q", r.told, want)
	}
}
