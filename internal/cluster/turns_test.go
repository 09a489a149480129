package cluster

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"reverb/internal/envelopes"
)

// TestNewTopics has members come to more topics than Redis is asked for at once. The apps take
// turns, and a topic that was left meanwhile costs nothing.
func TestNewTopics(t *testing.T) {
	n := newTestNode(time.Hour, new(scribe), slog.New(slog.DiscardHandler))
	f := connectFake(t, n)
	n.atOnce = 2
	let := 0
	join := func(topic string) { n.Join(topic, "", "", false, func() { let++ }) }
	for _, topic := range []string{"a:1", "a:2", "a:3", "a:4", "b:1"} {
		join(topic)
	}
	asked := func(want ...string) {
		t.Helper()
		if got := f.said("SUBSCRIBE "); !slices.Equal(got, want) {
			t.Fatalf("said %q, want %q", got, want)
		}
	}
	asked("SUBSCRIBE p:a:1 ", "SUBSCRIBE p:b:1 ")
	n.Leave("a:2", "", false)
	join("a:3") // once more
	asked()
	f.confirm("p:a:1")
	asked() // the snapshot is to come
	f.tell(envelopes.Envelope{Kind: envelopes.Snapshot, Token: n.tokens})
	if asked("SUBSCRIBE p:a:3 "); let != 2 {
		t.Errorf("%d members are let in, want one, and the one that has left", let)
	}
	f.confirm("p:b:1")
	f.tell(envelopes.Envelope{Kind: envelopes.Snapshot, Token: n.tokens})
	if asked("SUBSCRIBE p:a:4 "); let != 3 || n.Crowded() {
		t.Errorf("%d members are let in, want three; crowded: %v", let, n.Crowded())
	}
	for i := range maxNewTopics + 1 {
		join(fmt.Sprint("c:", i))
	}
	if asked(); !n.Crowded() {
		t.Error("very many topics wait, and the node is not crowded")
	}
	n.link.Fail(io.EOF)
	if n.endTurn(); let != maxNewTopics+7 || n.Crowded() {
		t.Errorf("%d members are let in without Redis, of %d; crowded: %v", let, maxNewTopics+7,
			n.Crowded())
	}
}
