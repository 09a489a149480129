package test

import (
	"encoding/json"
	"strings"
)

// The recordings: what the real Laravel Reverb answered, step by step.
type (
	recording struct {
		Group     string
		Scenarios []scenario
	}
	scenario struct {
		Name  string
		Steps []step
	}
	step struct {
		Op, C, App, Request, Text, Hex, Payload, Channel, Auth string
		EarlyHex                                               string  `json:"early_hex"`
		ChannelData                                            *string `json:"channel_data"`
		Texts                                                  []string
		Opcode                                                 *byte
		Fin, Mask                                              *bool
		Rsv                                                    byte
		Repeat, Lenform                                        int
		Claim                                                  *uint64
		Trunc                                                  *int
		S                                                      float64

		Method, Path, Proto, Rawquery, Ts string
		Signpath, Sign, Body              *string
		BodyRepeat                        int `json:"body_repeat"`
		Query                             map[string]any
		Headers                           map[string]*string
		Drop                              []string
		Split, Second                     bool
		HalfClose                         bool `json:"half_close"`
		Timeout                           float64

		Got      map[string][]map[string]any
		Response map[string]any
	}
)

// outcome is the result of one step in a form that can be compared: JSON values instead of bytes,
// for each connection in order of arrival.
type outcome struct {
	Got      map[string][]any `json:"got,omitempty"`
	Response []any            `json:"response,omitempty"`
}

func (o outcome) String() string {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// decode keeps numbers as they are written. It returns nil for a text that is not JSON.
func decode(s string) any {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil || d.More() {
		return nil
	}
	return v
}

// rule is a deliberate difference that shows in many scenarios. It turns the outcome of Reverb into
// the outcome of this server; everything else is still compared.
type rule struct {
	reason string
	apply  func(st *step, want *outcome)
}

// eachMessage changes every message of an outcome in place.
func eachMessage(o *outcome, f func(m map[string]any)) {
	for _, events := range o.Got {
		for _, e := range events {
			if m, ok := e.(map[string]any); ok && m["event"] != nil {
				f(m)
			}
		}
	}
}

func rules() []rule {
	return []rule{
		{"data of pusher:error is an object: Pusher's specification; Swift and .NET drop a string",
			func(_ *step, o *outcome) {
				eachMessage(o, func(m map[string]any) {
					if s, ok := m["data"].(map[string]any); ok && m["event"] == "pusher:error" {
						m["data"] = s["string of"]
					}
				})
			}},
		{"pusher:ping, pusher:pong and pusher:cache_miss carry data: " +
			"the Java client throws without it", func(_ *step, o *outcome) {
			eachMessage(o, func(m map[string]any) {
				if e := m["event"]; (e == "pusher:ping" || e == "pusher:pong" ||
					e == "pusher:cache_miss") && m["data"] == nil {
					m["data"] = map[string]any{"string of": map[string]any{}}
				}
			})
		}},
		{"user IDs are strings, also when signed as numbers: Pusher's specification",
			func(_ *step, o *outcome) {
				eachMessage(o, func(m map[string]any) {
					if n, ok := m["user_id"].(json.Number); ok {
						m["user_id"] = n.String()
					}
					data, _ := m["data"].(map[string]any)
					data, _ = data["string of"].(map[string]any)
					if n, ok := data["user_id"].(json.Number); ok &&
						strings.HasPrefix(m["event"].(string), "pusher_internal:") {
						data["user_id"] = n.String()
					}
					if p, ok := data["presence"].(map[string]any); ok {
						numbersToStrings(p["ids"])
					}
				})
				if len(o.Response) > 1 {
					if m, ok := o.Response[1].(map[string]any); ok {
						if users, ok := m["users"].([]any); ok {
							for _, u := range users {
								if n, ok := u.(map[string]any)["id"].(json.Number); ok {
									u.(map[string]any)["id"] = n.String()
								}
							}
						}
					}
				}
			}},
		{"a refused subscription also sends pusher:subscription_error with the cause, " +
			"for which .error() of Laravel Echo waits", func(st *step, o *outcome) {
			for c, events := range o.Got {
				for i, e := range events {
					m, _ := e.(map[string]any)
					data, _ := m["data"].(map[string]any)
					if m["event"] == "pusher:error" &&
						data["message"] == "Connection is unauthorized" {
						more := map[string]any{"event": "pusher:subscription_error",
							"channel": subscribedChannel(st),
							"data": map[string]any{"string of": map[string]any{
								"type": "AuthError", "error": "Connection is unauthorized: " +
									authFault(st), "status": json.Number("401")}}}
						o.Got[c] = append(append(append([]any{}, events[:i+1]...), more),
							events[i+1:]...)
					}
				}
			}
		}},
		{"a connection that is refused or has not answered a ping is closed with a close frame " +
			"that has the code: clients decide by it", func(_ *step, o *outcome) {
			for c, events := range o.Got {
				for i, e := range events {
					m, _ := e.(map[string]any)
					data, _ := m["data"].(map[string]any)
					code, _ := data["code"].(json.Number)
					refused := data["message"] == "Origin not allowed" || code == "4001" ||
						code == "4004" || code == "4201"
					if m["event"] == "pusher:error" && refused {
						o.Got[c] = append(append([]any{}, events[:i+1]...),
							map[string]any{"close": code, "reason": data["message"]},
							map[string]any{"tcp": "eof"})
						break
					}
				}
			}
		}},
		{"the reason of a close frame for broken frames is our own sentence",
			func(_ *step, o *outcome) {
				for _, events := range o.Got {
					for _, e := range events {
						if m, ok := e.(map[string]any); ok && m["close"] != nil {
							s, _ := m["reason"].(string)
							if ours := closeReasons()[s]; ours != "" {
								m["reason"] = ours
							}
						}
					}
				}
			}},
		{"a batch without info is answered by {}, without batch: " +
			"Pusher's specification and the acceptance tests of pusher-http-php; " +
			"pusher-http-go fails at an object there", func(_ *step, o *outcome) {
			if len(o.Response) > 1 {
				if m, ok := o.Response[1].(map[string]any); ok {
					if b, ok := m["batch"].(map[string]any); ok && len(b) == 0 {
						delete(m, "batch")
					}
				}
			}
		}},
		{"an empty list of channels is {}, not []: pusher-http-php throws at []",
			func(_ *step, o *outcome) {
				if len(o.Response) > 1 {
					if m, ok := o.Response[1].(map[string]any); ok {
						if l, ok := m["channels"].([]any); ok && len(l) == 0 {
							m["channels"] = map[string]any{}
						}
					}
				}
			}},
		{"a connection that was answered over HTTP stays open", func(_ *step, o *outcome) {
			for c, events := range o.Got {
				if n := len(events); n >= 3 {
					first, _ := events[0].(map[string]any)
					last, _ := events[n-1].(map[string]any)
					if s, _ := first["handshake"].(string); strings.HasPrefix(s, "4") &&
						last["tcp"] == "eof" {
						o.Got[c] = events[:n-1]
					}
				}
			}
		}},
	}
}

func numbersToStrings(list any) {
	l, _ := list.([]any)
	for i, v := range l {
		if n, ok := v.(json.Number); ok {
			l[i] = n.String()
		}
	}
}

// subscribedChannel is the channel that a step asks for.
func subscribedChannel(st *step) any {
	if st.Channel != "" {
		return st.Channel
	}
	m, _ := decode(st.Text).(map[string]any)
	data, _ := m["data"].(map[string]any)
	return data["channel"]
}

// authFault says what is wrong with the auth of a step that Reverb refuses.
func authFault(st *step) string {
	m, _ := decode(st.Text).(map[string]any)
	data, _ := m["data"].(map[string]any)
	auth, _ := data["auth"].(string)
	switch {
	case auth == "":
		return "no auth was given; the application's auth endpoint makes it"
	case !strings.Contains(auth, ":"):
		return "auth must be the app's key, a colon and a signature"
	}
	return "the signature must have 64 hexadecimal digits in lower case"
}

// closeReasons pairs the sentences of Ratchet with ours.
func closeReasons() map[string]string {
	return map[string]string{
		"Ratchet detected a mismatch between final bit and indicated payload length": "Control " +
			"frames are short and whole",
		"Ratchet detected an invalid close code":                         "Invalid close frame",
		"Ratchet detected an invalid UTF-8 payload in the close reason":  "Text is not UTF-8",
		"Ratchet detected an invalid UTF-8 payload":                      "Text is not UTF-8",
		"Ratchet detected the first frame of a message was a continue":   "Fragments out of order",
		"Ratchet detected invalid OP code when expecting continue frame": "Fragments out of order",
		"Ratchet detected an incorrect frame mask": "Client frames must " +
			"be masked",
		"Ratchet detected an invalid reserve code": "Reserved bit or opcode",
		"Ratchet detected an invalid OP code":      "Reserved bit or opcode",
		"Invalid frame length":                     "Length not in its shortest form",
	}
}

// difference is a reason why scenarios have another outcome than recorded. golden/accepted.json has
// that outcome, step by step. In patterns * and ? stand for characters, / included.
type difference struct {
	reason    string
	scenarios []string
}

func differences() []difference {
	return []difference{
		{"client events pass through unchanged: {} stays {}, 1.0 stays 1.0, " +
			"large numbers keep their digits, and an infinite one does not become an empty frame",
			[]string{
				"client_events/data raw*", "client_events/data: empty object",
				"client_events/data: nested empty object", "client_events/data: numeric keys"}},
		{"a client event may carry a string, a number or a boolean, and a string stays one: " +
			"Pusher's specification", []string{
			"client_events/data: JSON-string*", "client_events/data: bool",
			"client_events/data: number", "client_events/data: string",
			"client_events/data string (all app)"}},
		{"every relayed client event has data, null if the sender gave none, " +
			"whatever the policy: the Java client throws without it",
			[]string{"client_events/no data (all app)"}},
		{"a client event never carries fields of the sender's invention, least of all a user_id, " +
			"and goes to the one channel it names", []string{
			"client_events/*: spoofed user_id and extra fields",
			"client_events/*: non-member, presence",
			"client_events/all app: \"channels\" list in a client event"}},
		{"the name of an event has at most 200 bytes, as the Pusher libraries check",
			[]string{"client_events/envelope: long event name",
				"http_events/body: long event name"}},
		{"Reverb with several apps answers 4009 to members at random; here a member is one",
			[]string{
				"client_events/activity of another app*", "client_events/another app has*",
				"slow_multi_app_timer/*"}},
		{"user 0 is a user: one member, with a hash that is an object, " +
			"and user_id on its client events", []string{
			"client_events/member app, presence: user 0*", "presence/user id 0",
			"presence/user ids 0 and 1*"}},
		{"close codes 1012 to 1014 are registered with IANA",
			[]string{"frames/close 1012", "frames/close 1013", "frames/close 1014"}},
		{"a length must be in its shortest form: RFC 6455 section 5.2",
			[]string{"frames/non-minimal length*"}},
		{"a heartbeat is never refused for its data: clients that obey the error's code " +
			"reconnect for ever", []string{
			"protocol/ping data number 5", "protocol/ping data string"}},
		{"a message that is too large is refused as soon as its header says so",
			[]string{"protocol/oversized frame*"}},
		{"a batch has at most 10 events, an event at most 100 channels, " +
			"as the Pusher libraries check",
			[]string{"http_batch/body: 11 events", "http_events/body: 110 channels"}},
		{"a body that is no JSON or not UTF-8 is a 400 with the reason, not a 500",
			[]string{"http_batch/body: bad json", "http_events/body: bad json",
				"http_events/body: invalid utf-8", "http_misc/Content-Type form"}},
		{"a body without what is required is a 422 that says so, not a 500",
			[]string{"http_batch/body: no channel but*", "http_events/body: channels with *",
				"http_events/body: empty body", "http_events/body: null",
				"http_events/body: number", "http_events/body: string"}},
		{"a 413 names both sizes and the variable, and the limit is on the body alone",
			[]string{"http_events/body larger than*", "http_events/body much larger*",
				"http_misc/headers too large"}},
		{"channel names have 1 to 200 bytes of Pusher's alphabet, and # is reserved: " +
			"anybody could read what is meant for one user", []string{
			"http_events/body: channel name with bad characters",
			"http_events/body: long channel name", "http_query/channel with encoded name",
			"http_query/channel with slash in name",
			"ws_subscribe/subscribe #server-to-user-1", "ws_subscribe/subscribe a b*",
			"ws_subscribe/subscribe: channel empty"}},
		{"clients can sign in, and what is wrong with a sign-in is said",
			[]string{"protocol/pusher:signin"}},
		{"a 401 says what is wrong with the signature",
			[]string{"http_misc/bad signature", "http_misc/empty signature",
				"http_misc/no signature", "http_misc/no auth params at all",
				"http_misc/signature as array", "http_misc/upper-case signature",
				"http_query/info as array query"}},
		{"auth_key, auth_timestamp, auth_version and body_md5 are checked: replay",
			[]string{"http_misc/auth_version 9.9", "http_misc/body_md5 *",
				"http_misc/old auth_timestamp",
				"http_misc/only auth_signature*", "http_misc/wrong auth_key, right signature"}},
		{"the name of a query parameter is signed as it is sent; PHP makes a.b into a_b",
			[]string{"http_misc/query key with dot"}},
		{"a parameter has no & in it, nor its name a =: the text that is signed escapes neither, " +
			"so a signature would be right for other parameters", []string{
			"http_misc/query value with special characters*"}},
		{"a malformed HTTP request is a 400: RFC 9112",
			[]string{"http_misc/Content-Length garbage", "http_misc/malformed request line",
				"http_misc/no Host header", "ws_connect/no Host header"}},
		{"the body of a request is what its headers say: RFC 9112 section 6",
			[]string{"http_misc/Content-Length too small", "http_misc/no Content-Length, with body",
				"http_misc/Transfer-Encoding chunked", "http_misc/real chunked body*"}},
		{"Expect: 100-continue is answered, HEAD has no body, " +
			"and a second request on the connection gets its answer: RFC 9110, RFC 9112", []string{
			"http_misc/Expect: 100-continue", "http_misc/HEAD *",
			"http_misc/GET /up twice pipelined"}},
		{"a request for the WebSocket that is none is told so with a 426, not a 500",
			[]string{"http_misc/GET /app/* without upgrade", "ws_connect/no Upgrade header"}},
		{"a failed handshake opens nothing: Reverb talks on after a 4xx",
			[]string{"ws_connect/HTTP/1.0 upgrade", "ws_connect/Sec-WebSocket-Version 8",
				"ws_connect/Upgrade: h2c",
				"ws_connect/missing Sec-WebSocket-*", "ws_connect/no Connection header",
				"ws_connect/short Sec-WebSocket-Key"}},
		{"an extension that cannot be accepted is declined, the handshake goes on: " +
			"RFC 7692 section 5.1", []string{
			"ws_connect/connect with invalid permessage-deflate offer"}},
		{"bytes that come with the handshake are the first frame",
			[]string{"ws_connect/frame in the same segment*",
				"ws_connect/pusher:ping in the same segment*"}},
		{"only the WebSocket is upgraded, elsewhere the wish is ignored: RFC 9110 section 7.8",
			[]string{"ws_connect/upgrade on /apps/*", "ws_connect/upgrade on /up"}},
		{"users of what is no presence channel are a 400 with the reason, occupied or not; " +
			"a presence channel that nobody is on has none: libraries raise at Reverb's 404",
			[]string{
				"http_query/channel users"}},
		{"a signature over the decoded path is right, too: libraries that leave the escaping to " +
			"their HTTP client sign it", []string{"http_misc/encoded path signed decoded"}},
		{"every connection counts, subscribed or not, against the limit too; " +
			"what is refused is closed", []string{"http_query/connections: unsubscribed*",
			"ws_origin_limit/connection limit frees after unsubscribe",
			"ws_origin_limit/over connection limit*", "ws_origin_limit/rejected origin*"}},
		{"hosts of origins compare without case (RFC 3986 section 3.2.2); " +
			"browsers send them in lower case",
			[]string{"ws_origin_limit/origin 'https://LARAVEL.com'"}},
		{"a channel named 0 has a name", []string{"http_query/numeric channel names"}},
		{"terminate_connections closes every connection of the user, " +
			"with 4009 so that clients stay away, and never fails",
			[]string{"http_query/terminate: *"}},
		{"the signed path may have the prefix or not: proxies and libraries differ",
			[]string{"path_prefix/events with prefix, signed with it"}},
		{"a member of a presence channel has a user_id, a string or a number",
			[]string{"http_query/channel users when a member*", "presence/channel_data absent",
				"presence/channel_data empty object",
				"presence/channel_data missing user_id", "presence/channel_data scalar*",
				"presence/user id float*"}},
		{"channel_data that is no JSON is told in pusher:subscription_error too, " +
			"for which .error() of Laravel Echo waits",
			[]string{"presence/channel_data invalid json"}},
		{"half a surrogate pair is JSON (RFC 8259 section 8.2) and passes unchanged",
			[]string{"protocol/lone surrogate escape"}},
		{"members have a user_id and a user_info and no more, and user_info is passed on unchanged",
			[]string{"presence/extra fields*", "presence/nested values*",
				"presence/user_info null*"}},
		{"a member without user_info is a member; in Reverb the channel breaks",
			[]string{"presence/one member without user_info*", "presence/without user_info"}},
		{"who subscribes again as another user has left as the first",
			[]string{"presence/same socket subscribes again with another user_id"}},
		{"pings do not count against the rate limit; the limit is told before the connection " +
			"is closed", []string{"rate_limit/*"}},
		{"each connection has its own clock: it is pinged after ping_interval of silence, " +
			"subscribed or not, and closed after activity_timeout more; Reverb looks once a minute",
			[]string{"slow_ping_prune/*"}},
		{"a cache channel remembers server events alone, also while nobody is subscribed: " +
			"Pusher's specification", []string{"ws_subscribe/cache channel: *",
			"ws_subscribe/presence-cache: *"}},
		{"channel_data of a public channel is not signed, so it says nothing",
			[]string{"ws_subscribe/public channel with channel_data"}},
		{"prefixes end with their dash, and cache- works below private-encrypted- too",
			[]string{"ws_subscribe/subscribe cachefoo",
				"ws_subscribe/subscribe private-encrypted-cache-a"}},
		{"the auth of a channel begins with the app's key: Pusher's specification",
			[]string{"ws_subscribe/subscribe * auth='otherkey'",
				"ws_subscribe/subscribe * auth='sigonly'"}},
		{"subscription_count is a number for each channel when it is asked for, " +
			"presence channels and unoccupied ones included: the acceptance tests of " +
			"pusher-http-php", []string{
			"http_query/channels", "http_query/channel",
			"http_query/channel info user_count on public*",
			"http_events/info user_count,subscription_count on presence and public",
			"http_batch/with info on unoccupied",
			"presence/same user on two sockets", "ws_subscribe/subscribe presence-* auth='*'"}},
	}
}
