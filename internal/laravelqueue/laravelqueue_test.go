package laravelqueue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"reverb/internal/lib/resp"
	"reverb/internal/protocol"
	"reverb/internal/webhooks"
)

// fixture is a case that Laravel's worker has run.
type fixture struct {
	Name      string
	Data      json.RawMessage
	Payload   map[string]json.RawMessage
	Serialize string `json:"php_serialize"`
	Bytes     int    `json:"php_serialize_bytes"`
	SHA256    string `json:"php_serialize_sha256"`
}

func fixtures(t testing.TB) (all []fixture) {
	t.Helper()
	b, err := os.ReadFile("testdata/cases.json")
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil || len(all) != 22 {
		t.Fatal(len(all), err)
	}
	return all
}

func listener(t testing.TB, text string) Listener {
	t.Helper()
	l, err := ParseListener(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestPayload compares the bytes of payloads with those that Laravel's worker has run: values of
// all types, each as the argument of a listener and of an event.
func TestPayload(t *testing.T) {
	compared := 0
	for _, f := range fixtures(t) {
		var long struct{ How *string }
		if json.Unmarshal(f.Data, &long) == nil && long.How != nil {
			continue // see TestLong
		}
		data, err := decodeText(f.Data)
		if err != nil {
			t.Fatal(f.Name, err)
		}
		array := serialize(data)
		if array != f.Serialize {
			t.Errorf("%s: got %q, want %q", f.Name, array, f.Serialize)
		}
		for form, l := range map[string]Listener{"event": {},
			"listener": listener(t, `App\Listeners\ReverbEvents`)} {
			var want string
			var of struct {
				UUID, ID  string
				CreatedAt int64
			}
			if err := errors.Join(json.Unmarshal(f.Payload[form], &want),
				json.Unmarshal([]byte(want), &of)); err != nil {
				t.Fatal(f.Name, err)
			}
			got := string(appendPayload(nil, l, "member_added", of.UUID, of.ID, of.CreatedAt,
				[]byte(array)))
			if got != want {
				t.Errorf("%s, %s:\n got %s\nwant %s", f.Name, form, got, want)
			}
			compared++
		}
	}
	if compared != 40 {
		t.Errorf("%d payloads were compared", compared)
	}
}

// TestLong compares the long cases, of which the fixtures have the hash and the sizes.
func TestLong(t *testing.T) {
	members := []pair{}
	for i := range 1000 {
		name := fmt.Sprint(i)
		members = append(members, pair{int64(i), []pair{{"user_id", name},
			{"user_info", []pair{{"name", "n" + name}}}}})
	}
	all := fixtures(t)
	for i, data := range []any{[]pair{{"x", strings.Repeat("€", 33334)}},
		[]pair{{"members", members}}} {
		f := all[20+i]
		s := serialize(data)
		sum := sha256.Sum256([]byte(s))
		if len(s) != f.Bytes || hex.EncodeToString(sum[:]) != f.SHA256 {
			t.Errorf("%s: %d bytes, want %d", f.Name, len(s), f.Bytes)
		}
		uuid, id := identify("b-1")
		for form, l := range map[string]Listener{"event": {},
			"listener": listener(t, `App\Listeners\ReverbEvents`)} {
			got := appendPayload(nil, l, "member_added", uuid, id, noon.Unix(), []byte(s))
			var want struct{ Bytes int }
			if err := json.Unmarshal(f.Payload[form], &want); err != nil ||
				len(got) != want.Bytes {
				t.Errorf("%s, %s: %d bytes, want %d", f.Name, form, len(got), want.Bytes)
			}
		}
	}
}

func name(s string) protocol.Name {
	n, err := protocol.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

var noon = time.UnixMilli(1795709778123)

// TestEvents has what listeners get of each kind.
func TestEvents(t *testing.T) {
	common := func(id string) []pair {
		return []pair{{"app_id", "7"}, {"time_ms", noon.UnixMilli()}, {"id", id}}
	}
	socket := protocol.SocketIDOf(123<<32 | 456)
	for _, c := range []struct {
		e    webhooks.Event
		want []pair
	}{
		{webhooks.Event{Kind: webhooks.ChannelOccupied, Channel: name("orders")},
			[]pair{{"name", "channel_occupied"}, {"channel", "orders"}}},
		{webhooks.Event{Kind: webhooks.MemberAdded, Channel: name("presence-x"), User: "42"},
			[]pair{{"name", "member_added"}, {"channel", "presence-x"}, {"user_id", "42"}}},
		{webhooks.Event{Kind: webhooks.ClientEvent, Channel: name("private-x"), Event: "client-t",
			Data: []byte("a\x00\"😀\xff\xfe;}"), Socket: socket},
			[]pair{{"name", "client_event"}, {"channel", "private-x"}, {"event", "client-t"},
				{"data", "a\x00\"😀\uFFFD;}"}, {"socket_id", "123.456"}}},
		{webhooks.Event{Kind: webhooks.ClientEvent, Channel: name("presence-x"), Event: "client-t",
			Socket: socket, User: "Jürgen"},
			[]pair{{"name", "client_event"}, {"channel", "presence-x"}, {"event", "client-t"},
				{"data", ""}, {"socket_id", "123.456"}, {"user_id", "Jürgen"}}},
		{webhooks.Event{Kind: webhooks.SubscriptionCount, Channel: name("a"), Count: 3},
			[]pair{{"name", "subscription_count"}, {"channel", "a"},
				{"subscription_count", int64(3)}}},
	} {
		want := append(c.want, common("b-1")...)
		array := string(appendArray(nil, "b-1", "7", noon, &c.e))
		got, err := unserialize(array)
		if err != nil || !reflect.DeepEqual(got, any(want)) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
		if array != serialize(want) {
			t.Errorf("got %q, want %q", array, serialize(want))
		}
		payload := appendJob(nil, Listener{}, "b-1", "7", noon, &c.e)
		if !json.Valid(payload) || !utf8.Valid(payload) {
			t.Errorf("%q", payload)
		}
		wantCommand := object{callQueued, []pair{{"class", "events"}, {"method", "dispatch"},
			{"data", []pair{{int64(0), "reverb." + c.e.Kind.String()},
				{int64(1), []pair{{int64(0), want}}}}}}}
		if got, err := unserialize(command(t, payload)); err != nil ||
			!reflect.DeepEqual(got, any(wantCommand)) {
			t.Errorf("got %v, %v, want %v", got, err, wantCommand)
		}
	}
}

// command is the serialized object in a payload.
func command(t testing.TB, payload []byte) string {
	t.Helper()
	var p struct{ Data struct{ Command string } }
	if err := json.Unmarshal(payload, &p); err != nil {
		t.Fatal(err)
	}
	return p.Data.Command
}

func TestIdentify(t *testing.T) {
	uuid, id := identify("b-1")
	again, idAgain := identify("b-1")
	other, idOther := identify("b-2")
	if uuid != again || id != idAgain || uuid == other || id == idOther {
		t.Error(uuid, again, other, id, idAgain, idOther)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).
		MatchString(uuid) || !regexp.MustCompile(`^[A-Za-z0-9]{32}$`).MatchString(id) {
		t.Error(uuid, id)
	}
}

func TestParseListener(t *testing.T) {
	for text, want := range map[string]string{
		`App\Listeners\ReverbEvents`:         `App\Listeners\ReverbEvents@handle`,
		`App\\Listeners\\ReverbEvents@onAny`: `App\Listeners\ReverbEvents@onAny`,
		`\Événement`:                         `Événement@handle`,
		`_a1@__invoke`:                       `_a1@__invoke`,
	} {
		l, err := ParseListener(text)
		if err != nil || l.String() != want {
			t.Errorf("%s: got %s, %v", text, l, err)
		}
	}
	for _, text := range []string{"", "@", "@handle", "A@", "A@b@c", `A\`, `A\\\B`, `A\1`, "1A",
		"A B", "A;", `A"`, "A::class", "A@b()", "a/b", "A\x00", "A\xff", "A\n",
		strings.Repeat("a", 256)} {
		if l, err := ParseListener(text); err == nil {
			t.Errorf("%q is read as %s", text, l)
		}
	}
	if (Listener{}).String() != "" {
		t.Error(Listener{})
	}
}

// FuzzListener checks that a name that is read can stand between quotes, and is read again.
func FuzzListener(f *testing.F) {
	f.Add(`App\Listeners\ReverbEvents`)
	f.Add(`App\\Listeners\\ReverbEvents@onAny`)
	f.Add(`\É@b`)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseListener(text)
		if err != nil {
			return
		}
		if again, err := ParseListener(l.String()); err != nil || again != l {
			t.Errorf("%q: %s is read as %s, %v", text, l, again, err)
		}
		if strings.ContainsAny(l.String(), "\"';:{}() \x00\r\n") || !utf8.ValidString(l.String()) {
			t.Errorf("%q: %q", text, l)
		}
	})
}

// FuzzJob reads jobs with any texts as PHP does, and finds the values and nothing else.
func FuzzJob(f *testing.F) {
	f.Add("private-x", "client-t", `{"a":"ü"}`, "7")
	f.Add("presence-x", "\";}", "\xff\x00", "😀")
	f.Fuzz(func(t *testing.T, channel, event, data, user string) {
		parsed, err := protocol.ParseName(channel)
		if err != nil {
			return
		}
		e := &webhooks.Event{Kind: webhooks.ClientEvent, Channel: parsed, Event: event,
			Data: []byte(data), User: user}
		payload := appendJob(nil, listener(t, "A@b"), "b-1", "7", noon, e)
		if !json.Valid(payload) || !utf8.Valid(payload) {
			t.Fatalf("%q", payload)
		}
		valid := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
		array := []pair{{"name", "client_event"}, {"channel", valid(e.Channel.String())},
			{"event", valid(event)}, {"data", valid(data)}, {"socket_id", e.Socket.String()}}
		if user != "" {
			array = append(array, pair{"user_id", valid(user)})
		}
		array = append(array, pair{"app_id", "7"}, pair{"time_ms", noon.UnixMilli()},
			pair{"id", "b-1"})
		want := object{callQueued, []pair{{"class", "A"}, {"method", "b"},
			{"data", []pair{{int64(0), array}}}}}
		if got, err := unserialize(command(t, payload)); err != nil ||
			!reflect.DeepEqual(got, any(want)) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	})
}

// each passes events as a Sender does.
func each(events ...webhooks.Event) func(func(time.Time, *webhooks.Event) bool) {
	return func(yield func(time.Time, *webhooks.Event) bool) {
		for _, e := range events {
			if !yield(noon, &e) {
				return
			}
		}
	}
}

func ints(n ...int64) (r resp.Reply) {
	r.Kind = resp.Array
	for _, n := range n {
		r.Items = append(r.Items, resp.Reply{Kind: resp.Int, N: n})
	}
	return r
}

func TestPush(t *testing.T) {
	away := errors.New("Redis is away")
	for _, c := range []struct {
		reply resp.Reply
		err   error
		full  bool
		want  string // in the error; empty: none
	}{
		{reply: ints(1, 5)},
		{reply: ints(0, 100), full: true, want: "100 jobs wait in the queue, " +
			"REVERB_LARAVEL_QUEUE_MAX=100"},
		{err: away, want: "Redis is away"},
		{reply: ints(1), want: "not that of Redis"},
		{reply: resp.Reply{Kind: resp.Array, Items: []resp.Reply{{}, {}}}, want: "not that"},
		{want: "not that"},
	} {
		var got []string
		q := &Queue{Key: "p-queues:default", Limit: 100, Redis: func(_ context.Context,
			command ...string) (resp.Reply, error) {
			got = command
			return c.reply, c.err
		}}
		events := []webhooks.Event{{Kind: webhooks.ChannelOccupied, Channel: name("a")},
			{Kind: webhooks.ChannelVacated, Channel: name("a")}}
		full, err := q.Push(t.Context(), "b", "7", each(events...))
		if full != c.full || c.want == "" != (err == nil) ||
			err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, %v", c, full, err)
		}
		want := []string{"EVAL", push, "2", "p-queues:default", "p-queues:default:notify", "100",
			string(appendJob(nil, Listener{}, "b-0", "7", noon, &events[0])),
			string(appendJob(nil, Listener{}, "b-1", "7", noon, &events[1]))}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	q := &Queue{Key: "p-queues:default", Limit: 100}
	for _, c := range []struct {
		reply resp.Reply
		err   error
		want  string
	}{
		{resp.Reply{Kind: resp.Int, N: 3}, nil, "p-queues:default has 3 of at most 100 jobs"},
		{resp.Reply{Kind: resp.Text}, nil, ""},
		{resp.Reply{}, errors.New("away"), ""},
	} {
		q.Redis = func(_ context.Context, command ...string) (resp.Reply, error) {
			if strings.Join(command, " ") != "LLEN p-queues:default" {
				t.Errorf("asked %q", command)
			}
			return c.reply, c.err
		}
		if got, err := q.Check(t.Context()); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if q.String() != "p-queues:default" {
		t.Error(q)
	}
}
