package protocol

import (
	"bytes"
	"strings"
	"testing"
)

// The messages of the package comment, to the byte.
func TestMessages(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{string(EncodeEstablished(SocketID{1, 2}, 30)),
			`{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\",` +
				`\"activity_timeout\":30}"}`},
		{string(EncodeError(ErrOrigin)),
			`{"event":"pusher:error","data":{"code":4009,"message":"Origin not allowed"}}`},
		{string(AppendEvent(nil, "pusher:ping", []byte(`"{}"`), "", "")),
			`{"event":"pusher:ping","data":"{}"}`},
		{string(encodeSubscriptionError("a", "AuthError", "no", 401)),
			`{"event":"pusher:subscription_error","data":"{\"type\":\"AuthError\",` +
				`\"error\":\"no\",\"status\":401}","channel":"a"}`},
		{string(EncodeMemberAdded("presence-a", &Member{"7", []byte(`{"n":1}`)})),
			`{"event":"pusher_internal:member_added","data":"{\"user_id\":\"7\",` +
				`\"user_info\":{\"n\":1}}","channel":"presence-a"}`},
		{string(EncodeMemberAdded("presence-a", NewMember("7", ""))),
			`{"event":"pusher_internal:member_added","data":"{\"user_id\":\"7\"}",` +
				`"channel":"presence-a"}`},
		{string(EncodeMemberRemoved("presence-a", "7")),
			`{"event":"pusher_internal:member_removed","data":"{\"user_id\":\"7\"}",` +
				`"channel":"presence-a"}`},
		{string(AppendEvent([]byte("> "), []byte(`client-"x`), []byte(`1.0`), "private-a", "7")),
			`> {"event":"client-\"x","data":1.0,"channel":"private-a","user_id":"7"}`},
		{string(AppendMembers(nil, "presence-a",
			[]*Member{{"7", []byte(`{"n":"\u00e9"}`)}, {ID: `"`}})),
			`{"event":"pusher_internal:subscription_succeeded",` +
				`"data":"{\"presence\":{\"count\":2,\"ids\":[\"7\",\"\\\"\"],` +
				`\"hash\":{\"7\":{\"n\":\"\\u00e9\"},\"\\\"\":null}}}","channel":"presence-a"}`},
		{string(AppendMembers(nil, "presence-a", nil)),
			`{"event":"pusher_internal:subscription_succeeded",` +
				`"data":"{\"presence\":{\"count\":0,\"ids\":[],\"hash\":{}}}",` +
				`"channel":"presence-a"}`},
		{string(AppendUsers(nil, nil)), `{"users":[]}`},
		{string(AppendUsers(nil, []*Member{{ID: "7"}, NewMember(`"`, "{}")})),
			`{"users":[{"id":"7"},{"id":"\""}]}`},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

// A list has as many bytes as its members count.
func TestListedBytes(t *testing.T) {
	// the first needs no commas
	empty := len(AppendMembers(nil, "presence-a", nil)) + len("9") - len("0") - len(",,")
	sum, all := 0, []*Member(nil)
	for i, info := range []string{"", "null", `{"a":["b\\n"]}`, "[\t\"\\\"\" ]", "\r\n12", `"é"`} {
		m := NewMember(strings.Repeat("u", i+1), info)
		all, sum = append(all, m), sum+m.ListedBytes()
		if got := len(AppendMembers(nil, "presence-a", all)); got != empty+sum {
			t.Errorf("%d members to %q take %d bytes, counted are %d", i+1, info, got, empty+sum)
		}
	}
}

func TestAppendStats(t *testing.T) {
	all := []string{"cache", "subscription_count", "user_count", "x", "occupied"}
	cached := Stats{Kind: Kind{Cache: true}, Occupied: true, Subscriptions: 2, Users: 1,
		Cached: []byte(`{"event":"e"}`)}
	for _, c := range []struct {
		s    Stats
		info []string
		want string
	}{
		{cached, nil, `{}`},
		{cached, all, `{"occupied":true,"subscription_count":2,"cache":{"event":"e"}}`},
		{cached, []string{"cache"}, `{"cache":{"event":"e"}}`},
		{Stats{Kind: Kind{Presence: true}, Subscriptions: 2, Users: 1}, all,
			`{"occupied":false,"user_count":1,"subscription_count":2}`},
		{Stats{}, all, `{"occupied":false,"subscription_count":0}`},
	} {
		if got := string(AppendStats(nil, c.s, c.info)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestParseEvent(t *testing.T) {
	for message, want := range map[string]Event{
		`{"event":"e"}`: {Name: []byte("e")},
		`{"data":"{}","event":"a","x":1,"event":"b","channel":"c"}`: {Name: []byte("b"),
			Channel: []byte("c"), Data: []byte(`"{}"`), Named: true},
		`{"event":"\u0065","channel":5,"data":null}`: {Name: []byte("e"), Data: []byte("null")},
		`{"event":"e","channel":""}`:                 {Name: []byte("e")},
	} {
		got, err := ParseEvent([]byte(message))
		if err != nil || !bytes.Equal(got.Name, want.Name) ||
			!bytes.Equal(got.Channel, want.Channel) || !bytes.Equal(got.Data, want.Data) ||
			got.Named != want.Named {
			t.Errorf("%s: got %+v, %v", message, got, err)
		}
	}
	for _, message := range []string{"", "[]", `{"event":""}`, `{"event":5}`, `{"channel":"c"}`,
		`{"event":"\ud800"}`, `{"event":"e"}x`} {
		if _, err := ParseEvent([]byte(message)); err == nil {
			t.Errorf("%s: accepted", message)
		}
	}
}

func TestParseSubscription(t *testing.T) {
	for _, c := range []struct {
		data                  string
		channel, auth, member string
		bad                   string // the beginning
		notASubscription      bool
	}{
		{data: `{"channel":"a"}`, channel: "a"},
		{data: `"{\"channel\":\"a\",\"auth\":\"k:s\"}"`, channel: "a", auth: "k:s"},
		{data: `{"channel":5,"auth":6}`, channel: "5", auth: "6"},
		{data: `{"channel":true}`, channel: "1"},
		{data: `{"channel":"a","channel_data":"{\"user_id\":1}"}`, channel: "a",
			member: `{"user_id":1}`},
		{data: `{"channel":"a","channel_data":null}`, channel: "a"},
		{data: `{"channel":"a","channel_data":""}`, channel: "a"},
		{data: `{"channel":"a","channel_data":{}}`, channel: "a",
			bad: "channel_data must be a string"},
		{data: `{"channel":"a","channel_data":"\ud83d"}`, channel: "a",
			bad: "channel_data holds half"},
		{data: `{"channel":"a","channel_data":"{"}`, channel: "a", member: "{",
			bad: "channel_data must hold JSON: "},
		{data: ``, notASubscription: true}, {data: `""`, notASubscription: true},
		{data: `[]`, notASubscription: true}, {data: `{}`, notASubscription: true},
		{data: `{"channel":false}`, notASubscription: true},
		{data: `{"channel":null}`, notASubscription: true},
		{data: `{"channel":"a","auth":[]}`, notASubscription: true},
	} {
		var data []byte
		if c.data != "" {
			data = []byte(c.data)
		}
		d, ok := ParseSubscription(data)
		if ok == c.notASubscription {
			t.Errorf("%s: got %v", c.data, ok)
		}
		if ok && (d.Channel != c.channel || d.Auth != c.auth || string(d.ChannelData) != c.member ||
			!strings.HasPrefix(d.BadData, c.bad) || (d.BadData == "") != (c.bad == "")) {
			t.Errorf("%s: got %+v", c.data, d)
		}
	}
}

func TestParsePresent(t *testing.T) {
	for data, want := range map[string]*Member{
		`{"user_id":7,"user_info":{"n":1.0}}`: {"7", []byte(`{"n":1.0}`)},
		`{"user_id":"a","user_id":"b"}`:       {"b", nil},
	} {
		m, bad, reason := parsePresent([]byte(data))
		if bad != nil || m.ID != want.ID || !bytes.Equal(m.Info, want.Info) {
			t.Errorf("%s: got %+v, %v, %s", data, m, bad, reason)
		}
	}
	for data, want := range map[string]*Error{
		"": errChannelData, "[]": errChannelData, " [1]": errChannelData, "5": errDataFormat,
		" ": errDataFormat, `{"user_id":[]}`: errDataFormat, `{"user_id":{}}`: errDataFormat,
		`{}`: errChannelData, `{"user_id":true}`: errChannelData,
		`{"user_id":null}`: errChannelData, `{"user_id":""}`: errChannelData,
		`{"user_id":"` + strings.Repeat("u", maxUserIDBytes+1) + `"}`: errChannelData,
	} {
		var b []byte
		if data != "" {
			b = []byte(data)
		}
		if _, bad, reason := parsePresent(b); bad != want || reason == "" {
			t.Errorf("%q: got %+v, %q", data, bad, reason)
		}
	}
}
