package laravelqueue

import (
	"crypto/sha512"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/webhooks"
)

// --- A job (Laravel: Queue\Queue::createStringPayload, Queue\RedisQueue::createPayloadArray) ---

const (
	callQueued = `Illuminate\Events\CallQueuedListener`
	// prefix begins the names of the events that Laravel's dispatcher gets.
	prefix = "reverb."
	// letters are what Laravel's Str::random draws from.
	letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// appendJob appends the payload of the job for an event. name is different for every event.
func appendJob(b []byte, l Listener, name, app string, at time.Time, e *webhooks.Event) []byte {
	uuid, id := identify(name)
	return appendPayload(b, l, e.Kind.String(), uuid, id, at.Unix(),
		appendArray(nil, name, app, at, e))
}

// identify makes the uuid and the id of a job: always the same ones for a name. Laravel's are
// random (RFC 9562 §5.8: version 8 is for UUIDs that are made otherwise).
func identify(name string) (uuid, id string) {
	sum := sha512.Sum512([]byte(name))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	random := make([]byte, 32)
	for i := range random {
		random[i] = letters[int(sum[32+i])%len(letters)]
	}
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-"), string(random)
}

// appendPayload appends a payload. array is what the listener gets, serialized. A job without uuid,
// id or attempts vanishes at the first trouble.
func appendPayload(b []byte, l Listener, kind, uuid, id string, created int64,
	array []byte) []byte {
	display, class, method := l.class, l.class, l.method
	var arguments []byte
	if class == "" {
		display, class, method = prefix+kind, "events", "dispatch"
		arguments = appendText(append(arguments, "a:2:{i:0;"...), display)
		arguments = append(append(append(arguments, "i:1;a:1:{i:0;"...), array...), "}}"...)
	} else {
		arguments = append(append(append(arguments, "a:1:{i:0;"...), array...), '}')
	}
	command := append(make([]byte, 0, len(arguments)+256), `O:36:"`+callQueued+`":3:{`...)
	command = appendText(appendText(command, "class"), class)
	command = appendText(appendText(command, "method"), method)
	command = append(append(appendText(command, "data"), arguments...), '}')

	b = jsonraw.AppendString(append(b, `{"uuid":`...), uuid)
	b = jsonraw.AppendString(append(b, `,"displayName":`...), display)
	b = append(b, `,"job":"Illuminate\\Queue\\CallQueuedHandler@call","maxTries":null,`+
		`"maxExceptions":null,"failOnTimeout":false,"backoff":null,"timeout":null,`+
		`"retryUntil":null,"data":{"commandName":`...)
	b = jsonraw.AppendString(b, callQueued)
	b = jsonraw.AppendString(append(b, `,"command":`...), command)
	b = strconv.AppendInt(append(b, `,"batchId":null},"createdAt":`...), created, 10)
	b = jsonraw.AppendString(append(b, `,"id":`...), id)
	return append(b, `,"attempts":0,"delay":null}`...)
}

// --- Serialized values (PHP manual: serialize) ---

// appendArray appends what the listener gets.
func appendArray(b []byte, name, app string, at time.Time, e *webhooks.Event) []byte {
	n, fields := 0, make([]byte, 0, 256+len(e.Data))
	key := func(s string) {
		n++
		fields = appendText(fields, s)
	}
	text := func(s, value string) {
		key(s)
		fields = appendText(fields, value)
	}
	number := func(s string, value int64) {
		key(s)
		fields = append(strconv.AppendInt(append(fields, "i:"...), value, 10), ';')
	}
	text("name", e.Kind.String())
	text("channel", e.Channel.String())
	if e.Kind == webhooks.ClientEvent {
		text("event", e.Event)
		text("data", string(e.Data))
		text("socket_id", e.Socket.String())
	}
	if e.User != "" {
		text("user_id", e.User)
	}
	if e.Kind == webhooks.SubscriptionCount {
		number("subscription_count", int64(e.Count))
	}
	text("app_id", app)
	number("time_ms", at.UnixMilli())
	text("id", name)
	b = append(strconv.AppendInt(append(b, "a:"...), int64(n), 10), ":{"...)
	return append(append(b, fields...), '}')
}

// appendText appends a string. Bytes that are not UTF-8 become U+FFFD here: in the JSON around it
// that would be too late, since the length counts bytes.
func appendText(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\uFFFD")
	b = strconv.AppendInt(append(b, "s:"...), int64(len(s)), 10)
	b = append(append(append(b, `:"`...), s...), `";`...)
	return b
}
