package subscriptions

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"reverb/internal/channels"
	"reverb/internal/handover"
	"reverb/internal/protocol"
)

var now = time.Unix(1_800_000_000, 0)

// conn is a connection.
type conn struct{ Set[*conn] }

// event is an event; none is published here, and none may be told of a restored connection.
type event struct{ t *testing.T }

func (e *event) Post(channel string, _ channels.Audience[*conn], _ []int32) {
	e.t.Errorf("%s is told something", channel)
}
func (e *event) Keep(string, bool, time.Time) {}

func (e *event) Payload() []byte { return nil }
func (e *event) Size() int       { return 0 }

// house has an app.
type house struct {
	registry *channels.Registry[*conn, *event]
	app      *channels.App[*conn]
}

func newHouse() *house {
	h := &house{registry: channels.New[*conn, *event](1,
		func([]channels.Subscriber[*conn], protocol.SocketID) int { return -1 })}
	h.app = h.registry.NewApp("a", nil)
	return h
}

func (h *house) restore(c *conn, v *handover.Connection) (held []*channels.Subscription[*conn],
	user *channels.Subscription[*conn], err error) {
	at := channels.Place[*conn, *event]{App: h.app, Conn: c}
	return Restore(&c.Set, h.registry, at, v,
		func(p channels.Place[*conn, *event]) *channels.Subscription[*conn] {
			p.Restored = true
			s, _ := h.registry.Join(&p, 0, nil, now)
			return s
		})
}

// member is a subscription to a presence channel.
func member(channel, user, info string, listed bool) handover.Subscription {
	return handover.Subscription{Channel: channel, User: user, Info: []byte(info), Member: true,
		Listed: listed}
}

// What was described comes back, and in the order in which it was described.
func TestRestore(t *testing.T) {
	h, c := newHouse(), new(conn)
	v := &handover.Connection{User: &handover.User{ID: "7", Info: []byte(`{"n":1}`)},
		Subscriptions: []handover.Subscription{{Channel: "news", Listed: true},
			member("presence-a", "7", `{"n":2}`, true), member("presence-b", "8", "1", false)}}
	for i := range 20 { // so many that they are found by their hashes
		v.Subscriptions = append(v.Subscriptions,
			handover.Subscription{Channel: fmt.Sprint("private-", i), Listed: true})
	}
	held, user, err := h.restore(c, v)
	if err != nil || len(held) != len(v.Subscriptions) || c.Len() != len(held) {
		t.Fatalf("%d of %d are held: %v", len(held), len(v.Subscriptions), err)
	}
	if user == nil || user.Name() != protocol.UserChannel("7").String() ||
		user.Member().ID != "7" || string(user.Member().Info) != `{"n":1}` {
		t.Errorf("got the user %+v", user)
	}
	for i, s := range held {
		name := v.Subscriptions[i].Channel
		if s.Name() != name || c.Find(h.app, []byte(name)) != s {
			t.Errorf("%d is %s, want %s", i, s.Name(), name)
		}
	}
	if s := c.Find(h.app, []byte("private-")); s != nil {
		t.Errorf("found %s", s.Name())
	}
	got := c.Describe(nil, func(s *channels.Subscription[*conn]) bool { return s == held[2] })
	order := func(x, y handover.Subscription) int { return strings.Compare(x.Channel, y.Channel) }
	slices.SortFunc(got, order)
	want := slices.SortedFunc(slices.Values(v.Subscriptions), order)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A connection is known by the users whom it is on presence channels as.
func TestUsers(t *testing.T) {
	h, c := newHouse(), new(conn)
	if _, _, err := h.restore(c, &handover.Connection{Subscriptions: []handover.Subscription{
		{Channel: "news"}, {Channel: "private-x", Member: true, User: "5"}}}); err != nil {
		t.Fatal(err)
	}
	if c.User() != "" || c.HasUser("") || c.HasUser("5") {
		t.Errorf("got %q, who is on no presence channel", c.User())
	}
	if _, _, err := h.restore(c, &handover.Connection{Subscriptions: []handover.Subscription{
		member("presence-a", "7", "", true), member("presence-b", "8", "", true)}}); err != nil {
		t.Fatal(err)
	}
	if u := c.User(); u != "7" && u != "8" || !c.HasUser("7") || !c.HasUser("8") || c.HasUser("9") {
		t.Errorf("got %q", u)
	}
}

// A second connection of a member is new to nobody, and an errant record is refused.
func TestRestoreTellsNobody(t *testing.T) {
	h := newHouse()
	for range 2 {
		v := &handover.Connection{Subscriptions: []handover.Subscription{
			member("presence-a", "7", "", true)}}
		if _, _, err := h.restore(new(conn), v); err != nil {
			t.Fatal(err)
		}
	}
	if all := h.registry.Users(h.app, channelName(t, "presence-a")); len(all) != 1 {
		t.Errorf("%d members", len(all))
	}
	for _, bad := range []string{"", "presence-a", "#server-to-user-7", "a b"} {
		v := &handover.Connection{Subscriptions: []handover.Subscription{{Channel: bad}}}
		if _, _, err := h.restore(new(conn), v); err == nil ||
			!strings.HasPrefix(err.Error(), "a subscription to ") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func channelName(t *testing.T, channel string) protocol.Name {
	name, err := protocol.ParseName(channel)
	if err != nil {
		t.Fatal(err)
	}
	return name
}
