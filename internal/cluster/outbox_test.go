package cluster

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/envelopes/known"
	"reverb/internal/lib/resp"
)

// lanes is an Outbox that writes down its calls.
type lanes struct{ told []string }

func (l *lanes) Lanes(base, topic string, gone bool) (keys, args []string) {
	l.told = append(l.told, fmt.Sprint(topic, " ", gone))
	return []string{base + "L:events", base + "L:leavings", base + "L:state"},
		[]string{"ovar,", "x", "0"}
}
func (l *lanes) Turn(incarnation string, _ time.Time) { l.told = append(l.told, "turn") }
func (l *lanes) Work(key string, at time.Time) {
	l.told = append(l.told, fmt.Sprint(key, " ", at.Unix()))
}
func (l *lanes) Leave() { l.told = append(l.told, "leave") }

// wants compares what the outbox was told since the last time.
func (l *lanes) wants(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(l.told, want) {
		t.Errorf("the outbox is told %q, want %q", l.told, want)
	}
	l.told = nil
}

// TestOutbox checks which scripts tell of what has vanished: members whose connection has ended,
// and those of dead nodes.
func TestOutbox(t *testing.T) {
	o := new(lanes)
	n := New(Options{Prefix: "p", Patience: time.Minute, Outbox: o}, nil, new(scribe),
		slog.New(slog.DiscardHandler))
	n.begin(time.Unix(100, 0))
	l := give(n)
	n.id = "x-1"
	n.register()
	o.wants(t, "turn")
	active := func(user string, members int32) {
		a := &known.Topic{Name: "a:x", State: known.Active, Members: members}
		if user != "" {
			a.Users.Put(user, &known.User{Subscriptions: 1, Told: true, Present: true})
		}
		n.topics["a:x"] = a
	}
	for _, gone := range []bool{true, false} {
		active("u", 2)
		n.Leave("a:x", "u", gone)
		n.driver.Work()
		n.Leave("a:x", "", gone)
		n.driver.Work()
		o.wants(t, fmt.Sprint("a:x ", gone), fmt.Sprint("a:x ", gone))
	}
	keys := l.commands[len(l.commands)-1]
	if got := keys[len(keys)-3:]; !slices.Equal(got, []string{"ovar,", "x", "0"}) ||
		keys[2] != "11" {
		t.Errorf("the last command is %q", keys)
	}
	active("", 1)
	n.sync(n.topics["a:x"], false)
	o.wants(t, "a:x true")

	n.bury("y-1", false, nil)
	for _, c := range n.masters[0].sent {
		c.finish(resp.Reply{Kind: resp.Array, Items: []resp.Reply{{Text: "a:dead"}}}, nil)
	}
	n.pump()
	if !slices.Contains(o.told, "a:dead true") {
		t.Errorf("the outbox is told %q", o.told)
	}
	o.told = nil

	own := n.key(0, "node", n.id)
	n.own[own] = true
	n.handleEnvelope(own, envelopes.Envelope{Kind: envelopes.Work, ID: "p:L:events",
		Life: 3000}.Encode())
	n.handleEnvelope("p:a:x", envelopes.Envelope{Kind: envelopes.Work, ID: "no"}.Encode())
	o.wants(t, "p:L:events 103")
	if n.Counters.Malformed.Load() != 1 {
		t.Error("a message about work on the channel of a topic is heeded")
	}
	n.leaveCluster(func() {})
	n.handleTick()
	o.wants(t, "leave")
}
