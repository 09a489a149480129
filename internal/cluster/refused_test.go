package cluster

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/lib/resp"
)

// What Redis refuses, loses, or says although it should not.

var refused = resp.Reply{Kind: resp.Error, Text: "OOM command not allowed"}

// TestNodeRefusedEvent has its event refused: its own members get it, and it counts as lost.
func TestNodeRefusedEvent(t *testing.T) {
	r := new(scribe)
	n := newTestNode(time.Hour, r, slog.New(slog.DiscardHandler))
	f := connectFake(t, n)
	n.Join("a:x", "", "", false, func() {})
	f.said("")
	f.confirm("p:a:x")
	f.said("")
	f.answer(resp.Reply{Kind: resp.Int, N: 1})
	f.tell(envelopes.Envelope{Kind: envelopes.Snapshot, Token: n.tokens})
	r.told = nil
	var done []error
	n.Publish("a:x", "e", 5, false, nil, func(err error) { done = append(done, err) })
	f.said("")
	f.answer(refused)
	want := []string{"deliver a:x e 5 false"}
	if !slices.Equal(r.told, want) || n.Counters.Lost.Load() != 1 || n.over() ||
		len(done) != 1 || done[0] != nil || len(n.buckets[0].Pending) != 0 {
		t.Errorf("told %q, %d lost, session over: %v, answers %v, %d events pending", r.told,
			n.Counters.Lost.Load(), n.over(), done, len(n.buckets[0].Pending))
	}
}

// TestNodeRefusedTermination ends the connections of this node at least.
func TestNodeRefusedTermination(t *testing.T) {
	for _, answer := range []resp.Reply{{Kind: resp.Int, N: 1}, refused} {
		r := new(scribe)
		n := newTestNode(time.Hour, r, slog.New(slog.DiscardHandler))
		f := connectFake(t, n)
		var done []error
		n.TerminateAll("a", "7", func(err error) { done = append(done, err) })
		if got := f.said("PUBLISH p:all"); len(got) != 1 {
			t.Errorf("said %q, want one message to all", got)
		}
		f.answer(answer)
		var want []string
		if answer.Kind == resp.Error {
			want = []string{"terminate a 7"}
		}
		if !slices.Equal(r.told, want) || len(done) != 1 || (done[0] != nil) != (want != nil) {
			t.Errorf("told %q, answers %v, want %q", r.told, done, want)
		}
	}
}

// TestNodeRenews asks for its lease: first for a new one, then as one that is ready, and after a
// while with the wish to clear up after the dead. Times are in milliseconds.
func TestNodeRenews(t *testing.T) {
	n := newTestNode(time.Hour, new(scribe), slog.New(slog.DiscardHandler))
	f := &redis{t, n, new(fakeLink)}
	n.handleUp(f.link)
	for i, want := range []string{" 10000 first 0 10000 -5000 p:all ", " 10000 ready 0 10000 ",
		" 10000 ready 1 10000 2000 p:all "} {
		if i == 2 {
			n.begin(n.now.Add(11 * time.Second))
			n.redisTime = 7000
			n.renew()
		}
		if got := f.said("EVALSHA renew"); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("said %q, want %q", got, want)
		}
		for len(n.masters[0].sent) > 0 {
			f.answer(lease)
		}
	}
}

// TestNodeStrangeAnswers ends a session with a Redis that answers what cannot be.
func TestNodeStrangeAnswers(t *testing.T) {
	for name, say := range map[string]func(f *redis){
		"subscribe: Redis answers: OOM command not allowed": func(f *redis) {
			f.n.handlePushes(Batch{Replies: []resp.Reply{refused}})
		},
		"the answer to the lease is not a list of three": func(f *redis) {
			f.n.renew()
			f.said("")
			f.answer(resp.Reply{Kind: resp.Array, Items: lease.Items[:2]})
		},
		"a channel has moved to another server": func(f *redis) {
			f.push("unsubscribe", "p:a:x", "0")
		},
		"script renew: Redis answers: OOM command not allowed": func(f *redis) {
			f.n.renew()
			f.said("")
			f.answer(refused)
		},
		"READONLY You can't write against a read only replica.": func(f *redis) {
			f.n.command(call{}, "PING")
			f.answer(resp.Reply{Kind: resp.Error, Text: "READONLY You can't write against a " +
				"read only replica."})
		},
		"<nil>": func(f *redis) {
			f.n.command(call{}, "PING")
			f.answer(resp.Reply{Kind: resp.Push}, resp.Reply{Kind: resp.Text, Text: "PONG"})
			f.push("pong")
			for range 2 { // subscribed, and not any more, before Redis confirms
				f.n.Join("a:x", "", "", false, func() {})
				f.said("")
				f.n.Leave("a:x", "", false)
				f.said("")
			}
			f.push("unsubscribe", "p:a:x", "0")
			f.push("unsubscribe", "p:a:x", "0")
		},
	} {
		n := newTestNode(time.Hour, new(scribe), slog.New(slog.DiscardHandler))
		say(connectFake(t, n))
		if got := fmt.Sprint(n.link.Err()); !strings.HasSuffix(got, name) {
			t.Errorf("the session ends with %s, want %s", got, name)
		}
		if len(n.unsubscribing) != 0 {
			t.Errorf("%s: confirmations are still to come: %v", name, n.unsubscribing)
		}
	}
}

// TestNodeKeepsRecentEvents keeps so many settled events in each half as it may, and sends them
// again when Redis goes away at once. One that waits for too long then may have come, or not.
func TestNodeKeepsRecentEvents(t *testing.T) {
	n := newTestNode(time.Second, new(scribe), slog.New(slog.DiscardHandler))
	n.keep = 2
	f := connectFake(t, n)
	for i := range 5 {
		n.Publish("a:x", fmt.Sprint(i), 0, false, nil, nil)
		f.said("")
		f.answer(resp.Reply{Kind: resp.Int})
	}
	n.link.Fail(io.EOF)
	n.endTurn()
	var again []string
	for _, o := range n.backlog {
		again = append(again, o.Payload)
	}
	if want := []string{"2", "3", "4"}; !slices.Equal(again, want) {
		t.Errorf("sent again: %q, want %q", again, want)
	}
	n.begin(n.now.Add(2 * time.Second))
	n.handleTick()
	if got := n.Counters.Uncertain.Load(); got != 3 || n.Counters.Lost.Load() != 0 {
		t.Errorf("%d events are uncertain, %d lost; want 3 and none", got, n.Counters.Lost.Load())
	}
}
