package cluster

import (
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"reverb/internal/census"
	"reverb/internal/envelopes"
	"reverb/internal/lib/resp"
)

// TestLetters sends a letter to another node, and gets letters where they belong and where they do
// not.
func TestLetters(t *testing.T) {
	n := newTestNode(time.Minute, new(scribe), slog.New(slog.DiscardHandler))
	var told []string
	n.told = func(from, text string) { told = append(told, from+" "+text) }
	n.Tell("b-2", "before", func(got bool, err error) {
		if got || err != errAway {
			t.Errorf("without Redis: got %v, %v", got, err)
		}
	})
	n.driver.Work()
	link := give(n)
	n.id, n.own = "a-1", map[string]bool{"p:node:a-1": true}
	var heard []string
	for range 2 {
		n.Tell("b-2", "hello", func(got bool, err error) {
			heard = append(heard, fmt.Sprint(got, err))
		})
	}
	n.driver.Work()
	letter := envelopes.Envelope{Kind: envelopes.Letter, ID: "a-1", Payload: "hello"}.Encode()
	if want := []string{"PUBLISH", "p:node:b-2", letter}; len(link.commands) != 2 ||
		!slices.Equal(link.commands[0], want) {
		t.Fatalf("got %q, want %q", link.commands, want)
	}
	n.handleReplies(Batch{Replies: []resp.Reply{{Kind: resp.Int, N: 1}, {Kind: resp.Int}}})
	if want := []string{"true<nil>", "false<nil>"}; strings.ReplaceAll(strings.Join(heard, ","),
		" ", "") != strings.Join(want, ",") {
		t.Errorf("got %q, want %q", heard, want)
	}
	for _, channel := range []string{"p:node:a-1", "p:all", "p:a:x"} {
		n.handleEnvelope(channel, letter)
	}
	if len(told) != 1 || told[0] != "a-1 hello" || n.Counters.Malformed.Load() != 2 {
		t.Errorf("got %q, %d malformed", told, n.Counters.Malformed.Load())
	}
	n.told = nil
	n.handleEnvelope("p:node:a-1", letter) // nobody takes it
}

// TestOthers lists the other nodes by their latest incarnations.
func TestOthers(t *testing.T) {
	n := newTestNode(time.Minute, new(scribe), slog.New(slog.DiscardHandler))
	link := give(n)
	type answer struct {
		ids []string
		err error
	}
	got := make(chan answer, 1)
	go func() {
		ids, err := census.Census{Asker: n}.Others(t.Context())
		got <- answer{ids, err}
	}()
	for n.driver.Waiting() == 0 {
		runtime.Gosched()
	}
	n.driver.Work()
	if want := []string{"ZRANGE", "p:nodes", "0", "-1"}; !slices.Equal(link.commands[0], want) {
		t.Fatalf("got %q, want %q", link.commands, want)
	}
	var items []resp.Reply
	for _, id := range []string{"bb-9", fmt.Sprintf("%016x-1", n.number), "bb-10", "aa-1",
		"stranger", "x-y"} {
		items = append(items, resp.Reply{Kind: resp.Text, Text: id})
	}
	n.handleReplies(Batch{Replies: []resp.Reply{{Kind: resp.Array, Items: items}}})
	if a := <-got; a.err != nil || !slices.Equal(a.ids, []string{"aa-1", "bb-10"}) {
		t.Errorf("got %q, %v", a.ids, a.err)
	}
}
