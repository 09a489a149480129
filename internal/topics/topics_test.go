package topics

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"reverb/internal/lib/retries"
	"reverb/internal/protocol"
)

var now = time.Unix(1_800_000_000, 0)

func channelName(s string) protocol.Name {
	name, err := protocol.ParseName(s)
	if err != nil {
		panic(err)
	}
	return name
}

// house is an app with a few channels on this node.
type house struct{ ended []string }

var here = map[string]protocol.Stats{
	"news":       {Occupied: true, Subscriptions: 1},
	"gone":       {Occupied: true, Subscriptions: 1}, // the others know better
	"presence-x": {Kind: protocol.Kind{Presence: true}, Occupied: true, Subscriptions: 2, Users: 1},
}

func (h *house) ID() string  { return "a:b" }
func (h *house) Open() int64 { return 3 }
func (h *house) Stats(name protocol.Name, at time.Time) protocol.Stats {
	if !at.Equal(now) {
		panic("another time")
	}
	return here[name.String()]
}
func (h *house) Rows(prefix string, at time.Time,
	yield func(app, name string, s protocol.Stats, events uint64) bool) {
	for name, s := range here {
		if strings.HasPrefix(name, prefix) && !yield("1", name, s, 0) {
			return
		}
	}
}
func (h *house) Users(protocol.Name) []*protocol.Member {
	return []*protocol.Member{protocol.NewMember("7", "{}")}
}
func (h *house) Terminate(user string) { h.ended = append(h.ended, user) }

// village is a cluster with the answers of the test.
type village struct {
	away          bool // the other nodes cannot be asked
	silent        bool // no node answers
	subscriptions map[string]int
	cached        map[string]string
	occupied      []string
	users         []string
	counted       int64
	asked         []string
	claim         error // the answer to Claim
}

var errAway = errors.New("Redis is away")

func (v *village) err() error {
	if v.away {
		return errAway
	}
	return nil
}

func (v *village) Stats(_ context.Context, topics []string) (subscriptions, users []int,
	cached []string, err error) {
	v.asked = append(v.asked, topics...)
	for _, t := range topics {
		n := v.subscriptions[t]
		subscriptions, users = append(subscriptions, n), append(users, n/2)
		cached = append(cached, v.cached[t])
	}
	return subscriptions, users, cached, v.err()
}

func (v *village) OccupiedTopics(context.Context) ([]string, error) { return v.occupied, v.err() }

func (v *village) Members(_ context.Context, topic string) ([]string, error) {
	v.asked = append(v.asked, topic)
	return v.users, v.err()
}

func (v *village) Count(app string, own int64, done func(int64, error)) {
	v.asked = append(v.asked, app)
	v.counted = own
	if !v.silent {
		done(40, v.err())
	}
}

func (v *village) TerminateAll(app, user string, done func(error)) {
	v.asked = append(v.asked, app+" "+user)
	if !v.silent {
		done(v.err())
	}
}

func (v *village) PerChannel() bool { return true }

func (v *village) Claim(topic string, s *retries.Step, done func(error)) {
	v.asked = append(v.asked, topic+" "+s.Args()[2])
	if !v.silent {
		done(v.claim)
	}
}

func (v *village) wantAsked(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(v.asked, want) {
		t.Errorf("asked %q, want %q", v.asked, want)
	}
	v.asked = nil
}

func want[T any](t *testing.T, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ app, channel string }{{"a", "news"}, {"a:b", "presence-x"},
		{"", "news"}, {"a:b", "#server-to-user-x:y:#z"}} {
		app, channel := Cut(Name(c.app, c.channel))
		want(t, [2]string{app, channel}, [2]string{c.app, c.channel})
	}
	app, channel := Cut("no-topic")
	want(t, [2]string{app, channel}, [2]string{"", "no-topic"})
}

// The only node answers from its own knowledge.
func TestAlone(t *testing.T) {
	q, a, ctx := New[*house](nil), new(house), t.Context()
	want(t, q.Stats(ctx, a, []protocol.Name{channelName("presence-x"), channelName("other")}, now),
		[]protocol.Stats{here["presence-x"], {}})
	want(t, q.Channel(ctx, a, channelName("news"), now), here["news"])
	want(t, q.Channels(ctx, a, "n", false, now), map[string]protocol.Stats{"news": here["news"]})
	want(t, q.Connections(ctx, a), 3)
	want(t, q.Users(ctx, a, channelName("presence-x")), a.Users(protocol.Name{}))
	q.Terminate(ctx, a, "7")
	want(t, a.ended, []string{"7"})
}

// A node among others answers from the knowledge of all.
func TestAmong(t *testing.T) {
	v := &village{
		subscriptions: map[string]int{"a:b:cache-y": 6, "a:b:news": -1, "a:b:gone": 0},
		cached: map[string]string{
			"a:b:cache-y": "last", "a:b:news": "not of a cache channel"},
		occupied: []string{"a:b:cache-y", "a:b:gone", "a:cache-z", "a:b:cache y", "a:b:news",
			"nothing"},
		users: []string{"2", "1"},
	}
	q, a, ctx := New[*house](v), new(house), t.Context()
	y := protocol.Stats{Kind: protocol.Kind{Cache: true}, Occupied: true, Subscriptions: 6,
		Users: 3, Cached: []byte("last")}
	want(t, q.Stats(ctx, a, []protocol.Name{channelName("cache-y"), channelName("news"),
		channelName("gone")}, now),
		[]protocol.Stats{y, here["news"], {}})
	v.wantAsked(t, "a:b:cache-y", "a:b:news", "a:b:gone")
	want(t, q.Channel(ctx, a, channelName("cache-y"), now), y)
	v.wantAsked(t, "a:b:cache-y")

	want(t, q.Channels(ctx, a, "", true, now),
		map[string]protocol.Stats{"cache-y": y, "news": here["news"]})
	v.wantAsked(t, "a:b:cache-y", "a:b:gone", "a:b:news")
	want(t, q.Channels(ctx, a, "cache-", false, now),
		map[string]protocol.Stats{"cache-y": {Kind: y.Kind, Occupied: true}})
	v.wantAsked(t)

	want(t, q.Connections(ctx, a), 40)
	want(t, v.counted, 3)
	v.wantAsked(t, "a:b")
	want(t, q.Users(ctx, a, channelName("presence-x")), []*protocol.Member{{ID: "2"}, {ID: "1"}})
	v.wantAsked(t, "a:b:presence-x")
	q.Terminate(ctx, a, "7")
	v.wantAsked(t, "a:b 7")
	want(t, a.ended, nil) // the peers tell this node too
}

// Channels of users are listed only if they are asked for, and those of users who are only watched
// are not occupied.
func TestUsers(t *testing.T) {
	const here, away = "#server-to-user-1", "#server-to-user-2"
	kind := protocol.Kind{User: true}
	v := &village{occupied: []string{"a:b:" + here, "a:b:" + away, "a:b:news"},
		subscriptions: map[string]int{"a:b:" + here: 2, "a:b:" + away: 1, "a:b:news": 1}}
	q, a, ctx := New[*house](v), new(house), t.Context()
	for _, info := range []bool{false, true} {
		if got := q.Channels(ctx, a, "", info, now); len(got) != 1 || !got["news"].Occupied {
			t.Errorf("got %+v", got)
		}
		want(t, q.Channels(ctx, a, "#", info, now), map[string]protocol.Stats{
			here: {Kind: kind, Occupied: true, Subscriptions: 2, Users: 1}})
	}
	rows := func(_ string, at time.Time,
		yield func(app, name string, s protocol.Stats, events uint64) bool) {
		yield("a:b", here, protocol.Stats{Kind: kind}, 0)
	}
	if n := len(occupied(listing{a, rows}, "", now)); n != 0 {
		t.Errorf("%d channels of users are listed", n)
	}
	if n := len(occupied(listing{a, rows}, "#", now)); n != 1 {
		t.Errorf("%d channels of users are listed if asked for", n)
	}
}

// listing is an app with other rows.
type listing struct {
	*house
	rows func(string, time.Time, func(app, name string, s protocol.Stats, events uint64) bool)
}

func (l listing) Rows(prefix string, at time.Time,
	yield func(app, name string, s protocol.Stats, events uint64) bool) {
	l.rows(prefix, at, yield)
}

// If the others cannot be asked, a node answers from its own knowledge.
func TestAway(t *testing.T) {
	v := &village{away: true}
	q, a, ctx := New[*house](v), new(house), t.Context()
	want(t, q.Channel(ctx, a, channelName("news"), now), here["news"])
	want(t, q.Channels(ctx, a, "presence-", true, now),
		map[string]protocol.Stats{"presence-x": here["presence-x"]})
	want(t, q.Connections(ctx, a), 3)
	want(t, q.Users(ctx, a, channelName("presence-x")), a.Users(protocol.Name{}))
	q.Terminate(ctx, a, "7")
}

// A question ends with its context, whether it is answered or not.
func TestGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v := &village{silent: true}
	q, a := New[*house](v), new(house)
	want(t, q.Connections(ctx, a), 3)
	q.Terminate(ctx, a, "7")
	v.wantAsked(t, "a:b", "a:b 7")
}

// The steps of a request with a key go to the others, whose refusals alone count.
func TestClaim(t *testing.T) {
	table := retries.New(1, func(time.Duration, func(time.Time)) {})
	c, _, err := table.Begin(retries.Request{App: "a:b", Key: "k", Channels: 1, Channel: "news"},
		time.Minute, now)
	if err != nil {
		t.Fatal(err)
	}
	a, ctx := new(house), t.Context()
	alone := New[*house](nil)
	want(t, alone.PerChannel(), false)
	want(t, alone.Claim(ctx, a, c.Take()), nil)
	v := new(village)
	q := New[*house](v)
	want(t, q.PerChannel(), true)
	for _, err := range []error{nil, retries.ErrOther, retries.ErrBusy, errAway} {
		v.claim = err
		if err == errAway {
			err = nil
		}
		want(t, q.Claim(ctx, a, c.Take()), err)
	}
	v.wantAsked(t, "a:b:news p", "a:b:news p", "a:b:news p", "a:b:news p")
	v.silent = true
	over, cancel := context.WithCancel(ctx)
	cancel()
	want(t, q.Claim(over, a, c.Take()), nil)
}
