package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/retries"
	"reverb/internal/lib/turnstile"
	"reverb/internal/protocol"
)

// sender notes what it is given.
type sender struct {
	later   bool
	room    time.Time // when there is some
	refuses error     // the outcome of every event
	silent  bool      // there is no outcome
	sends   func()    // unless it is nil
	calls   []string
	turn    turnstile.Turnstile
	answers chan error
}

func (s *sender) note(format string, args ...any) {
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *sender) Behind(string) bool                   { return time.Now().Before(s.room) }
func (s *sender) Turnstile(string) turnstile.Turnstile { return s.turn }
func (s *sender) Later() bool                          { return s.later }
func (s *sender) Begin(_ string, events, n int) chan error {
	s.note("begin %d %d", events, n)
	s.answers = make(chan error, n)
	return s.answers
}

func (s *sender) Send(_ string, e *protocol.Publish, name protocol.Name, _ time.Time,
	key *retries.Step, answers chan<- error) (here protocol.Stats, later bool) {
	s.note("%s to %s %v", e.Name, name, key != nil)
	if s.sends != nil {
		s.sends()
	}
	if s.later && !s.silent {
		answers <- s.refuses
	}
	return protocol.Stats{Subscriptions: len(s.calls)}, s.later
}

func (s *sender) Stats(_ context.Context, _ string, names []protocol.Name,
	_ time.Time) (all []protocol.Stats) {
	s.note("stats %s", names)
	for range names {
		all = append(all, protocol.Stats{Users: 9})
	}
	return all
}

// want compares what the sender was given since it was last called.
func (s *sender) want(t *testing.T, calls string) {
	t.Helper()
	if got := strings.Join(s.calls, ", "); got != calls {
		t.Errorf("got %q, want %q", got, calls)
	}
	s.calls = nil
}

func newSender() *sender { return &sender{turn: turnstile.New()} }

// event is an event "e" for channels; info says that figures are asked for.
func event(info bool, channels ...string) (e protocol.Publish) {
	e.Name = []byte("e")
	for _, channel := range channels {
		name, _ := protocol.ParseName(channel)
		e.Channels = append(e.Channels, name)
	}
	if info {
		e.Info = []string{"user_count"}
	}
	return e
}

func figures(all [][]protocol.Stats) (text string) {
	for _, stats := range all {
		for _, v := range stats {
			text += fmt.Sprintf("%d/%d ", v.Subscriptions, v.Users)
		}
		text += "; "
	}
	return text
}

// The figures come with the event on the only node, and are asked for when all is sent on another.
func TestPublishFigures(t *testing.T) {
	events := []protocol.Publish{event(true, "a", "b"), event(false, "c")}
	s, key := newSender(), new(retries.Claim)
	all, bad := Publish(t.Context(), s, "1", events, key, time.Time{})
	if s.want(t, "begin 2 3, e to a true, e to b true, e to c true"); bad != nil ||
		figures(all) != "2/0 3/0 ; ; " {
		t.Errorf("got %s %v", figures(all), bad)
	}
	s.later = true
	all, bad = PublishNow(t.Context(), s, "1", events, nil, time.Time{})
	s.want(t, "begin 2 3, e to a false, e to b false, e to c false, stats [a b]")
	if bad != nil || figures(all) != "0/9 0/9 ; ; " {
		t.Errorf("got %s %v", figures(all), bad)
	}
	all, bad = Publish(t.Context(), s, "1", events[1:], nil, time.Time{})
	if s.want(t, "begin 1 1, e to c false"); bad != nil || all != nil {
		t.Errorf("got %s %v", figures(all), bad)
	}
}

// An event that was not taken, and a client that has gone, end the request when all is sent.
func TestPublishFails(t *testing.T) {
	s := newSender()
	s.later, s.refuses = true, errors.New("no Redis")
	events := []protocol.Publish{event(true, "a", "b")}
	_, bad := Publish(t.Context(), s, "1", events, nil, time.Time{})
	if s.want(t, "begin 1 2, e to a false, e to b false"); bad == nil || bad.Text != "no Redis" {
		t.Errorf("got %v", bad)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s.silent, s.sends = true, cancel
	if _, bad = Publish(ctx, s, "1", events, nil, time.Time{}); bad == nil || bad.Text != givenUp {
		t.Errorf("got %v", bad)
	}
}

// A request waits for room, and the next one until what this one has published is counted: when it
// is sent, or, if that comes back later, at once.
func TestPublishWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := newSender(), time.Now()
		s.room = began.Add(time.Hour)
		events := []protocol.Publish{event(false, "a")}
		_, bad := Publish(t.Context(), s, "1", events, nil, time.Time{})
		if s.want(t, ""); bad == nil || bad.Status != http.StatusServiceUnavailable ||
			bad.Text == givenUp || time.Since(began) != roomPatience {
			t.Errorf("got %v after %v", bad, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, bad = Publish(ctx, s, "1", events, nil, time.Time{})
		if s.want(t, ""); bad == nil || bad.Text != givenUp {
			t.Errorf("got %v", bad)
		}
		for _, s.later = range []bool{false, true} {
			s.room = time.Now().Add(time.Second)
			s.sends = func() {
				other, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				s.room = time.Now().Add(time.Millisecond) // so it has to wait for its turn
				done, err := s.turn.Pass(other, time.Hour, func() bool { return s.Behind("1") })
				if passes := err == nil; passes != s.later {
					t.Errorf("later %v: the next one passes: %v", s.later, passes)
				} else if passes {
					done()
				}
			}
			if _, bad = Publish(t.Context(), s, "1", events, nil, time.Time{}); bad != nil {
				t.Error(bad)
			}
		}
	})
}
