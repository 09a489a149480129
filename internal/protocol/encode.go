package protocol

import (
	"bytes"
	"fmt"
	"strconv"

	"reverb/internal/lib/jsonraw"
)

// --- Messages to clients ---

// AppendEvent appends a message to b. data is a JSON value and is appended as it stands; nil: null.
// An empty channel or user is left out.
func AppendEvent[T string | []byte](b []byte, event T, data []byte, channel, user string) []byte {
	b = append(b, `{"event":`...)
	b = jsonraw.AppendString(b, event)
	b = append(b, `,"data":`...)
	if data == nil {
		data = []byte("null")
	}
	b = append(b, data...)
	if channel != "" {
		b = append(b, `,"channel":`...)
		b = jsonraw.AppendString(b, channel)
	}
	if user != "" {
		b = append(b, `,"user_id":`...)
		b = jsonraw.AppendString(b, user)
	}
	return append(b, '}')
}

// encodeEvent makes a message whose data is a string that holds the JSON text data.
func encodeEvent(event string, data []byte, channel string) []byte {
	quoted := jsonraw.AppendString(make([]byte, 0, quotedSize(data)), data)
	room := len(`{"event":"","data":,"channel":""}`) + len(event) + len(quoted) + len(channel)
	return AppendEvent(make([]byte, 0, room), event, quoted, channel, "")
}

// quotedSize is the size of a JSON text as a JSON string, without escapes that are rare in it.
func quotedSize(text []byte) int {
	return len(text) + bytes.Count(text, []byte{'"'}) + bytes.Count(text, []byte{'\\'}) + 2
}

// EncodeSucceeded makes pusher_internal:subscription_succeeded for a channel without members.
func EncodeSucceeded(channel string) []byte {
	return encodeEvent("pusher_internal:subscription_succeeded", []byte("{}"), channel)
}

// EncodeCacheMiss makes pusher:cache_miss.
func EncodeCacheMiss(channel string) []byte {
	return encodeEvent("pusher:cache_miss", []byte("{}"), channel)
}

// EncodeEstablished makes pusher:connection_established. timeout is the activity timeout
// in seconds.
func EncodeEstablished(id SocketID, timeout uint32) []byte {
	return encodeEvent("pusher:connection_established",
		fmt.Appendf(nil, `{"socket_id":"%s","activity_timeout":%d}`, id, timeout), "")
}

// EncodeError makes pusher:error.
func EncodeError(e *Error) []byte {
	data := []byte(`{"code":null,"message":`)
	if e.Code != 0 {
		data = fmt.Appendf(nil, `{"code":%d,"message":`, e.Code)
	}
	data = append(jsonraw.AppendString(data, e.Message), '}')
	return AppendEvent(nil, "pusher:error", data, "", "")
}

// encodeSubscriptionError makes pusher:subscription_error, which calls .error() of Laravel Echo.
func encodeSubscriptionError(channel, kind, text string, status int) []byte {
	data := append([]byte(`{"type":`), jsonraw.AppendString(nil, kind)...)
	data = jsonraw.AppendString(append(data, `,"error":`...), text)
	data = fmt.Appendf(data, `,"status":%d}`, status)
	return encodeEvent("pusher:subscription_error", data, channel)
}

// EncodeMemberAdded makes pusher_internal:member_added. It has no user_info if the member has none.
func EncodeMemberAdded(channel string, m *Member) []byte {
	data := jsonraw.AppendString([]byte(`{"user_id":`), m.ID)
	if m.Info != nil {
		data = append(append(data, `,"user_info":`...), m.Info...)
	}
	return encodeEvent("pusher_internal:member_added", append(data, '}'), channel)
}

// EncodeMemberRemoved makes pusher_internal:member_removed.
func EncodeMemberRemoved(channel, user string) []byte {
	data := jsonraw.AppendString([]byte(`{"user_id":`), user)
	return encodeEvent("pusher_internal:member_removed", append(data, '}'), channel)
}

// AppendMembers appends pusher_internal:subscription_succeeded of a presence channel, with the
// members in their order. The list is JSON in a string. AppendMembers escapes it on the way, so
// that it is built only once.
func AppendMembers(b []byte, channel string, members []*Member) []byte {
	b = append(b,
		`{"event":"pusher_internal:subscription_succeeded","data":"{\"presence\":{\"count\":`...)
	b = append(strconv.AppendInt(b, int64(len(members)), 10), `,\"ids\":[`...)
	var scratch [maxUserIDBytes + 64]byte
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = jsonraw.AppendEscaped(b, jsonraw.AppendString(scratch[:0], m.ID))
	}
	b = append(b, `],\"hash\":{`...)
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsonraw.AppendEscaped(b, jsonraw.AppendString(scratch[:0], m.ID)), ':')
		if m.Info == nil {
			b = append(b, "null"...)
		} else {
			b = jsonraw.AppendEscaped(b, m.Info)
		}
	}
	b = append(b, `}}}","channel":`...)
	return append(jsonraw.AppendString(b, channel), '}')
}

// ListedBytes is how many bytes the member adds to AppendMembers. It is exact as long as user_info
// has at least 4 bytes and the ID needs no escapes. A shorter user_info counts 4 bytes.
func (m *Member) ListedBytes() int {
	n := 2*len(m.ID) + len(`\"\",\"\":,`) + max(len(m.Info), len("null"))
	for _, c := range m.Info {
		if c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t' {
			n++
		}
	}
	return n
}
