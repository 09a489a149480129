package webhooks

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"reverb/internal/hookentries"
	"reverb/internal/lib/jsonraw"
	"reverb/internal/posts"
	"reverb/internal/protocol"
)

// sent is the body and the signature of a request, at 1795709778123.
func sent(t testing.TB, events []byte) (body, signature string) {
	t.Helper()
	r := &receiver{}
	p := posts.Post{URL: address("http://h/"), Timeout: time.Second, Secret: "app-secret",
		Events: events}
	p.Send(t.Context(), r, func() time.Time { return time.UnixMilli(1795709778123) })
	return r.got[0].body, r.got[0].header.Get("X-Pusher-Signature")
}

// Bodies that pusher-http-php 7.2.7 has taken, with their signatures.
func TestForm(t *testing.T) {
	socket := protocol.SocketIDOf(123<<32 | 456)
	for _, c := range []struct {
		events          []Event
		list, signature string
	}{
		{[]Event{{Kind: ChannelOccupied, Channel: name("orders")}},
			`{"name":"channel_occupied","channel":"orders"}`,
			"ee9d9226ec630b46bf5f547b694dc91ca44250b84351928979dcecb2f2f28088"},
		{[]Event{{Kind: ChannelVacated, Channel: name("orders")}},
			`{"name":"channel_vacated","channel":"orders"}`,
			"59c94749225073751de3eb0847ca4f7eeaf68d3695936105770e3a903de0dcbd"},
		{[]Event{{Kind: MemberAdded, Channel: name("presence-room.1"), User: "42"}},
			`{"name":"member_added","channel":"presence-room.1","user_id":"42"}`,
			"e9b10e47a068f31da8be4582e59b92ced412fe2c49d8339d4a55b4d577a5a16b"},
		{[]Event{{Kind: MemberRemoved, Channel: name("presence-room.1"), User: "42"}},
			`{"name":"member_removed","channel":"presence-room.1","user_id":"42"}`,
			"51e641b0e38c16e8169391977b4c39ff2ac65baf670b96fc2b379f0ab592c93d"},
		{[]Event{{Kind: ClientEvent, Channel: name("presence-room.1"), Event: "client-typing",
			Data: []byte(`{"u": "Müller", "n": 1}`), Socket: socket, User: "42"}},
			`{"name":"client_event","channel":"presence-room.1","event":"client-typing",` +
				`"data":"{\"u\":\"Müller\",\"n\":1}","socket_id":"123.456","user_id":"42"}`,
			"d098c6e6d199c6ab98b14314892cd4e6f67a7212e70e67851abb905f024dcfe0"},
		{[]Event{{Kind: CacheMiss, Channel: name("cache-orders")}},
			`{"name":"cache_miss","channel":"cache-orders"}`,
			"58a7b41ced4a54c812255765a288e7afebe65de1fb51f47af486f8d1a76f5b09"},
		{[]Event{{Kind: SubscriptionCount, Channel: name("orders"), Count: 3}},
			`{"name":"subscription_count","channel":"orders","subscription_count":3}`,
			"dc81d0fe2b3800f85b41980b107362e401f662ff57f68e81c67699fc4775f918"},
		{[]Event{{Kind: ChannelOccupied, Channel: name("a")},
			{Kind: MemberAdded, Channel: name("presence-b"), User: "1"},
			{Kind: ChannelVacated, Channel: name("c")}},
			`{"name":"channel_occupied","channel":"a"},` +
				`{"name":"member_added","channel":"presence-b","user_id":"1"},` +
				`{"name":"channel_vacated","channel":"c"}`,
			"5477b770a95e018e4b14ecf177d08c94afee361134358c61c514fea391caebcd"},
	} {
		var items []item
		for _, e := range c.events {
			items = append(items, item{Item: hookentries.Item{Event: e}})
		}
		events, n := takeBatch(items)
		if n != len(items) {
			t.Errorf("took %d of %d events", n, len(items))
		}
		got, signature := sent(t, events)
		if want := `{"time_ms":1795709778123,"events":[` + c.list + `]}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if signature != c.signature {
			t.Errorf("%s: signature %s, want %s", c.list, signature, c.signature)
		}
	}
	const empty = "0cf78bbd4219325c6ec3c29de0826e10555d0a62ef854a4a1b054542aa43b251"
	if _, signature := sent(t, nil); signature != empty {
		t.Errorf("without events: %s", signature)
	}
}

// The data of a client event is a string, whatever the client has sent.
func TestData(t *testing.T) {
	for sent, want := range map[string]string{
		``:                     ``,
		`null`:                 `null`,
		`1.50`:                 `1.50`,
		"[ 1,\n\t{\"a\": 2} ]": `[1,{"a":2}]`,
		`"text"`:               `text`,
		`"a\u0000\"\u00e9\/"`:  "a\x00\"é/",
		`"\ud83d\ude00"`:       "😀",
		`"cut \ud83d"`:         "cut \uFFFD",
		`{"a":"\ud83d"}`:       `{"a":"\ud83d"}`,
		`9007199254740993`:     `9007199254740993`,
	} {
		b := jsonraw.AppendString(nil, jsonraw.Text([]byte(sent)))
		var got string
		if err := json.Unmarshal(b, &got); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %q", sent, b, err, want)
		}
		if strings.Contains(strings.ReplaceAll(string(b), `\\`, ""), `\ud83d`) {
			t.Errorf("%s: half of a surrogate pair in %s", sent, b)
		}
	}
}

// Every body is JSON that PHP reads, and says what the client has sent.
func FuzzBody(f *testing.F) {
	f.Add("client-a", `{"a":[1, "\ud83d"]}`, "7")
	f.Add("client-\x80", `"\udc00"`, "\x00<")
	f.Fuzz(func(t *testing.T, event, data, user string) {
		if !json.Valid([]byte(data)) {
			data = "" // the server has judged what clients send
		}
		e := Event{Kind: ClientEvent, Channel: name("presence-x"), Event: event,
			Data: []byte(data), User: user}
		events, _ := takeBatch([]item{{Item: hookentries.Item{Event: e}}})
		b, _ := sent(t, events)
		var got struct {
			Events []map[string]string
		}
		if err := json.Unmarshal([]byte(b), &got); err != nil || !utf8.ValidString(b) {
			t.Fatalf("%s: %v", b, err)
		}
		one := got.Events[0]
		if len(got.Events) != 1 || one["channel"] != "presence-x" || one["user_id"] !=
			strings.ToValidUTF8(user, "\uFFFD") && utf8.ValidString(user) {
			t.Fatalf("%s", b)
		}
		var was any
		if json.Unmarshal([]byte(data), &was) == nil && utf8.ValidString(data) {
			if s, ok := was.(string); ok && s != one["data"] {
				t.Fatalf("%s: got %q, want %q", b, one["data"], s)
			}
		}
	})
}
