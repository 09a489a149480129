package test

import (
	"encoding/json"
	"strings"
)

// rule is a deliberate difference that shows in many scenarios: it turns what Reverb
// does into what this server must do, and everything else is still compared.
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
		{"data of pusher:error is an object: Pusher's specification; Swift and .NET drop a string", func(_ *step, o *outcome) {
			eachMessage(o, func(m map[string]any) {
				if s, ok := m["data"].(map[string]any); ok && m["event"] == "pusher:error" {
					m["data"] = s["string of"]
				}
			})
		}},
		{"pusher:ping, pusher:pong and pusher:cache_miss carry data: the Java client throws without it", func(_ *step, o *outcome) {
			eachMessage(o, func(m map[string]any) {
				if e := m["event"]; (e == "pusher:ping" || e == "pusher:pong" || e == "pusher:cache_miss") && m["data"] == nil {
					m["data"] = map[string]any{"string of": map[string]any{}}
				}
			})
		}},
		{"user IDs are strings, also when signed as numbers: Pusher's specification", func(_ *step, o *outcome) {
			eachMessage(o, func(m map[string]any) {
				if n, ok := m["user_id"].(json.Number); ok {
					m["user_id"] = n.String()
				}
				data, _ := m["data"].(map[string]any)
				data, _ = data["string of"].(map[string]any)
				if n, ok := data["user_id"].(json.Number); ok && strings.HasPrefix(m["event"].(string), "pusher_internal:") {
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
		{"a refused subscription also sends pusher:subscription_error, for which .error() of Laravel Echo waits", func(st *step, o *outcome) {
			for c, events := range o.Got {
				for i, e := range events {
					m, _ := e.(map[string]any)
					data, _ := m["data"].(map[string]any)
					if m["event"] == "pusher:error" && data["message"] == "Connection is unauthorized" {
						more := map[string]any{"event": "pusher:subscription_error", "channel": subscribedChannel(st), "data": map[string]any{"string of": map[string]any{
							"type": "AuthError", "error": "Connection is unauthorized", "status": json.Number("401")}}}
						o.Got[c] = append(append(append([]any{}, events[:i+1]...), more), events[i+1:]...)
					}
				}
			}
		}},
		{"a connection that is refused or has not answered a ping is closed with a close frame that has the code: clients decide by it", func(_ *step, o *outcome) {
			for c, events := range o.Got {
				for i, e := range events {
					m, _ := e.(map[string]any)
					data, _ := m["data"].(map[string]any)
					code, _ := data["code"].(json.Number)
					refused := data["message"] == "Origin not allowed" || code == "4001" || code == "4004" || code == "4201"
					if m["event"] == "pusher:error" && refused {
						o.Got[c] = append(append([]any{}, events[:i+1]...), map[string]any{"close": code, "reason": data["message"]}, map[string]any{"tcp": "eof"})
						break
					}
				}
			}
		}},
		{"the reason of a close frame for broken frames is our own sentence", func(_ *step, o *outcome) {
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
		{"an empty list of channels is {}, not []: pusher-http-php throws at []", func(_ *step, o *outcome) {
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
					if s, _ := first["handshake"].(string); strings.HasPrefix(s, "4") && last["tcp"] == "eof" {
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

// closeReasons pairs the sentences of Ratchet with ours.
func closeReasons() map[string]string {
	return map[string]string{
		"Ratchet detected a mismatch between final bit and indicated payload length": "Control frames are short and whole",
		"Ratchet detected an invalid close code":                                     "Invalid close frame",
		"Ratchet detected an invalid UTF-8 payload in the close reason":              "Text is not UTF-8",
		"Ratchet detected an invalid UTF-8 payload":                                  "Text is not UTF-8",
		"Ratchet detected the first frame of a message was a continue":               "Fragments out of order",
		"Ratchet detected invalid OP code when expecting continue frame":             "Fragments out of order",
		"Ratchet detected an incorrect frame mask":                                   "Client frames must be masked",
		"Ratchet detected an invalid reserve code":                                   "Reserved bit or opcode",
		"Ratchet detected an invalid OP code":                                        "Reserved bit or opcode",
		"Invalid frame length":                                                       "Length not in its shortest form",
	}
}

// difference is a reason for which scenarios come out otherwise than recorded. What
// comes out instead stands in golden/accepted.json, step by step. In patterns * and ?
// stand for characters, / included.
type difference struct {
	reason    string
	scenarios []string
}

func differences() []difference {
	return []difference{}
}
