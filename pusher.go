package main

// The Pusher protocol, version 7, and its HTTP API. It knows messages, not frames,
// and connections only as something that takes messages (ws.go).
//
// Server to client, one JSON object a message; data is a string that holds JSON,
// except in pusher:error, where it is an object:
//
//	{"event":"pusher:connection_established","data":"{\"socket_id\":\"1.2\",\"activity_timeout\":30}"}
//	{"event":"pusher:error","data":{"code":4009,"message":"…"}}     code may be null
//	{"event":"pusher:ping","data":"{}"}                  also pusher:pong
//	{"event":"pusher_internal:subscription_succeeded","data":"{}","channel":"…"}
//	    on presence channels data is {"presence":{"count":1,"ids":["7"],"hash":{"7":{…}}}}
//	{"event":"pusher:subscription_error","data":"{\"type\":…,\"error\":…,\"status\":…}","channel":"…"}
//	{"event":"pusher_internal:member_added","data":"{\"user_id\":\"7\",\"user_info\":{…}}","channel":"…"}
//	{"event":"pusher_internal:member_removed","data":"{\"user_id\":\"7\"}","channel":"…"}
//	{"event":"pusher:cache_miss","data":"{}","channel":"…"}
//	{"event":"…","data":"…","channel":"…"}               what the HTTP API was given
//	{"event":"client-…","data":…,"channel":"…","user_id":"7"}
//
// Client to server; data may be an object or a string that holds it:
//
//	{"event":"pusher:subscribe","data":{"channel":"…","auth":"key:hmac","channel_data":"…"}}
//	{"event":"pusher:unsubscribe","data":{"channel":"…"}}
//	{"event":"pusher:ping"}                               also pusher:pong
//	{"event":"client-…","channel":"…","data":…}
//
// Sections:
//
//	Apps            what is configured
//	Errors          the table of what a client is told off for, and how
//	Encoding        messages to bytes
//	Decoding        bytes to messages
//	Signatures      channels and HTTP requests
//	Channels        names and kinds
//	Registry        who is subscribed to what; presence; cached events
//	Client          one connection: subscribe, client events, heartbeat
//	Hub             all of it; the upgrade of a connection
//	HTTP API        routes, requests, answers

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
	"weak"

	"reverb/internal/addresses"
	"reverb/internal/buckets"
	"reverb/internal/fairpool"
	"reverb/internal/jsonraw"
	"reverb/internal/lastevents"
	"reverb/internal/origin"
)

const (
	maxNameBytes     = 200     // of a channel's or an event's name; what the Pusher libraries check
	maxUserIDBytes   = 200     //
	maxParameters    = 100     // of a request
	maxChannelsEvent = 100     // one event goes to
	maxEventsBatch   = 10      //
	maxCachedEvents  = 1 << 16 // on this node
	maxCachedBytes   = 64 << 20
	cachedEventLife  = 30 * time.Minute
	registryShards   = 64

	// maxUndelivered bounds what the events of one app still have to be delivered, on all
	// loops together: bytes and messageCost for each delivery, so about 100,000 small ones.
	// Above it its publishers wait; an event that alone is more is delivered all the same.
	maxUndelivered = 16 << 20
	roomPatience   = 5 * time.Second      // of a request that waits; then 503
	roomPause      = 2 * time.Millisecond // between looks at whether there is room

	maxListBytes     = 64 << 20             // of the member lists that wait for peers; beyond, joiners wait for theirs
	maxListDeflated  = 1 << 20              // a longer list is sent uncompressed: compressing it would stop the loop for long
	listPause        = 20 * time.Nanosecond // for each byte of a list, until the channel's next is made: a fifth of a processor at most
	shortListBytes   = 16 << 10             // a list up to this size costs no more than the message that asks for it: no pause follows
	slowListTicks    = 10                   // a list is taken before its connection can be called slow
	slowListBytes    = 16 << 10             // a second; who takes less may be closed while others wait
	sweepListsPeriod = time.Second          // one slow connection of a loop is closed in each
)

// --- Apps ---

// clientEventPolicy says whose client events are relayed, and where.
type clientEventPolicy uint8

const (
	clientEventsMembers clientEventPolicy = iota // of subscribers, on any channel
	clientEventsAll                              // of everybody, on any channel
	clientEventsNone
	clientEventsPrivate // of subscribers, on private and presence channels
)

// rateLimit bounds the messages of one connection: maxAttempts in decay, counted
// from the first. Pings, pongs and control frames are free.
type rateLimit struct {
	enabled     bool
	maxAttempts int
	decay       time.Duration
	terminate   bool // close instead of answering with an error
}

// appSettings is what is configured of one application. It is constant once made.
type appSettings struct {
	id, key, secret string
	allowedOrigins  []string // as origin.Parse returns them; "*" allows every origin and none
	pingInterval    time.Duration
	activityTimeout time.Duration
	maxConnections  int // 0: no limit
	maxMessageSize  int // bytes
	maxSubscribed   int // subscriptions of one connection
	maxMembers      int // of a presence channel; 0: no limit
	maxMemberSize   int // bytes of channel_data; 0: as a message
	clientEvents    clientEventPolicy
	limit           rateLimit

	signers sync.Pool // of *signer
}

// anyOrigin is a host that may connect.
func (a *appSettings) anyOrigin() string {
	if len(a.allowedOrigins) == 0 {
		return "localhost"
	}
	return strings.ReplaceAll(a.allowedOrigins[0], "*", "localhost")
}

// app is one application while the server runs; its settings can be replaced.
type app struct {
	id          string // constant
	salt        uint32 // constant; see registry.place
	settings    atomic.Pointer[appSettings]
	gone        atomic.Bool  // configured no more
	held        atomic.Bool  // memory is short, and its connections do not read what it sends: nothing is published
	connections atomic.Int64 // open ones, subscribed or not
	perLoop     []perLoop    // each loop's own
	api         apiTraffic

	undelivered atomic.Int64  // see maxUndelivered
	turnstile   chan struct{} // taken by the request that may publish next, when there is room
}

// perLoop is what an app has on one loop. Its traffic is read by everybody, the rest is
// the loop's.
type perLoop struct {
	traffic
	flow    flow     // the app's events for subscribers on this loop
	fanning *channel // whose event is on its way to them; nil: none is
	told    int      // the first of fanning's subscribers, who have been sent it
}

// newApp makes an app that has nothing yet.
func (h *hub) newApp(id string) *app {
	a := &app{id: id, salt: uint32(maphash.String(h.registry.seed, id)), perLoop: make([]perLoop, len(h.loops.all)), turnstile: make(chan struct{}, 1)}
	for i := range a.perLoop {
		a.perLoop[i].flow.full = func() bool { return h.behind(a) }
	}
	return a
}

// behind says that those who publish for a should wait. While a loop has more than fits,
// those apps wait that have something to do with it; while Redis has, or memory is short,
// all do.
func (h *hub) behind(a *app) bool {
	n := a.undelivered.Load()
	return n > maxUndelivered || n > maxUndelivered/16 && h.loops.overloaded() ||
		a.held.Load() || h.loops.crowded() || h.loops.behind != nil && h.loops.behind()
}

// traffic counts what the connections of one app on one loop have seen. Bytes are
// those of messages, without frame headers.
type traffic struct {
	connected, disconnected, received, receivedBytes, sent, sentBytes, clientEvents, limited atomic.Uint64

	kinds [channelKinds]kindTraffic
}

// kindTraffic counts what happened to channels of one kind.
type kindTraffic struct{ subscribed, unsubscribed, occupied, vacated atomic.Uint64 }

// apiTraffic counts signed requests.
type apiTraffic struct{ calls, receivedBytes, sentBytes, events atomic.Uint64 }

// --- Errors ---

// pusherError is a cause for which a client is told off: a row of the table below.
type pusherError struct {
	code    int     // in pusher:error; 0: null, and the client goes on
	message string  // in pusher:error, and the reason of the close frame: at most 123 bytes then
	word    string  // for the log and metric labels
	reverb  bool    // Reverb sends this code for this cause
	ending  *ending // how the connection ends; nil: it stays open

	kind   string // type in pusher:subscription_error; empty: none is sent
	status int    // in pusher:subscription_error
}

// pusherErrors lists every row of the table. It is complete once the package's
// variables are initialized and never changes afterwards.
var pusherErrors []*pusherError

// newPusherError enters a row in the table. closes is the close code; 0 leaves the
// connection open.
func newPusherError(code int, closes uint16, word, message string) *pusherError {
	e := &pusherError{code: code, message: message, word: word}
	if closes != 0 {
		e.ending = newEnding(closes, message, word)
	}
	pusherErrors = append(pusherErrors, e)
	return e
}

// asReverb says that Reverb sends the row's code for the same cause.
func (e *pusherError) asReverb() *pusherError { e.reverb = true; return e }

// ofSubscription says that the row refuses a subscription, which is told in
// pusher:subscription_error too.
func (e *pusherError) ofSubscription(kind string, status int) *pusherError {
	e.kind, e.status = kind, status
	return e
}

// because is e with a reason behind its message.
func (e *pusherError) because(reason string) *pusherError {
	with := *e
	with.message += ": " + reason
	return &with
}

// The table. Codes tell clients what to do: after 4000 to 4099 they stop for good,
// after 4200 to 4299 they reconnect at once (Pusher Channels Protocol, Error Codes).
// So a row that leaves the connection open has no code, as hosted Pusher does it,
// unless Reverb sends one for the same cause. Texts are Reverb's where Reverb has one.
// 43xx is never a close code: pusher-js would not come back.
var (
	errUnknownApp    = newPusherError(4001, 4001, "unknown_app", "Application does not exist").asReverb()
	errOverQuota     = newPusherError(4004, 4004, "over_quota", "Application is over connection quota").asReverb()
	errOrigin        = newPusherError(4009, 4009, "origin_not_allowed", "Origin not allowed").asReverb()
	errTerminated    = newPusherError(4009, 4009, "terminated", "The application has closed this user's connections")
	errOverCapacity  = newPusherError(4100, 4100, "over_capacity", "The server is over capacity; try again shortly")
	errRestart       = newPusherError(4200, 4200, "restart", "The server is restarting; reconnect")
	errNoPong        = newPusherError(4201, 4201, "no_pong", "Pong reply not received in time").asReverb()
	errRateLimit     = newPusherError(4301, 0, "rate_limited", "Rate limit exceeded").asReverb()
	errRateLimitEnd  = newPusherError(4301, 1008, "rate_limited", "Rate limit exceeded").asReverb()
	errFormat        = newPusherError(4200, 0, "invalid_message", "Invalid message format").asReverb()
	errNotMember     = newPusherError(4009, 0, "not_a_member", "The client is not a member of the specified channel.").asReverb()
	errNoClientEvent = newPusherError(4301, 0, "client_events_off", "The app does not have client messaging enabled.").asReverb()
	errEventName     = newPusherError(0, 0, "invalid_event_name", "Invalid event name")
	errUnauthorized  = newPusherError(4009, 0, "subscription_unauthorized", "Connection is unauthorized").asReverb().ofSubscription("AuthError", http.StatusUnauthorized)
	errDataFormat    = newPusherError(4200, 0, "invalid_channel_data", "Invalid message format").asReverb().ofSubscription("InvalidChannelData", http.StatusBadRequest)
	errChannelData   = newPusherError(0, 0, "invalid_channel_data", "Invalid channel_data").ofSubscription("InvalidChannelData", http.StatusBadRequest)
	errChannelName   = newPusherError(0, 0, "invalid_channel", "Invalid channel name").ofSubscription("InvalidChannel", http.StatusBadRequest)
	errSubscriptions = newPusherError(0, 0, "subscription_limit", "Too many subscriptions").ofSubscription("LimitReached", http.StatusTooManyRequests)
	errAddressLimit  = newPusherError(4100, 4100, "address_limit", "Too many connections from this address; try again later")
	errMemory        = newPusherError(0, 0, "memory", "The server is short of memory; try again later").ofSubscription("MemoryShort", http.StatusServiceUnavailable)
	errMembers       = newPusherError(0, 0, "member_limit", "Too many members").ofSubscription("LimitReached", http.StatusTooManyRequests)
	errMemberSize    = newPusherError(0, 0, "member_size", "channel_data is too large").ofSubscription("LimitReached", http.StatusRequestEntityTooLarge)
)

// --- Encoding ---

var (
	messagePing = []byte(`{"event":"pusher:ping","data":"{}"}`)
	messagePong = []byte(`{"event":"pusher:pong","data":"{}"}`)
)

// appendEvent appends a message. data is a JSON value; user and channel are left
// out when they are empty.
func appendEvent[T string | []byte](b []byte, event T, data []byte, channel, user string) []byte {
	b = append(b, `{"event":`...)
	b = jsonraw.AppendString(b, event)
	b = append(b, `,"data":`...)
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

// encodeEvent is appendEvent with data as a string that holds JSON.
func encodeEvent(event string, data []byte, channel string) []byte {
	return appendEvent(nil, event, jsonraw.AppendString(nil, data), channel, "")
}

func encodeError(e *pusherError) []byte {
	data := []byte(`{"code":null,"message":`)
	if e.code != 0 {
		data = fmt.Appendf(nil, `{"code":%d,"message":`, e.code)
	}
	return appendEvent(nil, "pusher:error", append(jsonraw.AppendString(data, e.message), '}'), "", "")
}

// encodeSubscriptionError is what makes .error() of Laravel Echo fire.
func encodeSubscriptionError(channel, kind, text string, status int) []byte {
	data := append([]byte(`{"type":`), jsonraw.AppendString(nil, kind)...)
	data = jsonraw.AppendString(append(data, `,"error":`...), text)
	data = fmt.Appendf(data, `,"status":%d}`, status)
	return encodeEvent("pusher:subscription_error", data, channel)
}

func encodeMemberAdded(channel string, m *member) []byte {
	data := jsonraw.AppendString([]byte(`{"user_id":`), m.id)
	if m.info != nil {
		data = append(append(data, `,"user_info":`...), m.info...)
	}
	return encodeEvent("pusher_internal:member_added", append(data, '}'), channel)
}

func encodeMemberRemoved(channel, user string) []byte {
	data := jsonraw.AppendString([]byte(`{"user_id":`), user)
	return encodeEvent("pusher_internal:member_removed", append(data, '}'), channel)
}

// encodeMembers is the frame of subscription_succeeded on a presence channel. size is
// about what it takes, see presence.size. The list is JSON in a string: everything in
// it is escaped on the way, so that it is built once.
func encodeMembers(channel string, members []*member, size int) []byte {
	b := append(beginFrame(size), `{"event":"pusher_internal:subscription_succeeded","data":"{\"presence\":{\"count\":`...)
	b = append(strconv.AppendInt(b, int64(len(members)), 10), `,\"ids\":[`...)
	var scratch [maxUserIDBytes + 64]byte
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = jsonraw.AppendEscaped(b, jsonraw.AppendString(scratch[:0], m.id))
	}
	b = append(b, `],\"hash\":{`...)
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsonraw.AppendEscaped(b, jsonraw.AppendString(scratch[:0], m.id)), ':')
		if m.info == nil {
			b = append(b, "null"...)
		} else {
			b = jsonraw.AppendEscaped(b, m.info)
		}
	}
	b = append(b, `}}}","channel":`...)
	return endFrame(append(jsonraw.AppendString(b, channel), '}'))
}

// listedBytes is what a member takes of encodeMembers, exactly as long as its user_info
// is JSON and its ID needs few escapes.
func listedBytes(m *member) int {
	n := 2*len(m.id) + len(`\"\",\"\":,`) + max(len(m.info), len("null"))
	for _, c := range m.info {
		if c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t' {
			n++
		}
	}
	return n
}

// --- Decoding ---

// event is a message of a client, taken apart. Its parts are parts of the message
// and valid as long as it is.
type event struct {
	name    []byte
	channel []byte
	data    []byte // the JSON value as it stands; nil when absent
	named   bool   // a channel that can be one was given
}

// parseEvent takes a client's message apart (Reverb:
// src/Protocols/Pusher/Server.php). Unknown members are ignored; of members that
// occur twice the last counts.
func parseEvent(message []byte) (e event, err error) {
	var name, channel []byte
	err = jsonraw.Object(message, func(key, value []byte) {
		switch string(key) {
		case "event":
			name = value
		case "channel":
			channel = value
		case "data":
			e.data = value
		}
	})
	if err != nil {
		return e, err
	}
	e.name, _ = jsonraw.Bytes(name)
	if len(e.name) == 0 {
		return e, errors.New("no event name")
	}
	e.channel, e.named = jsonraw.Bytes(channel)
	e.named = e.named && len(e.channel) > 0
	return e, nil
}

// subscription request: the data of pusher:subscribe and pusher:unsubscribe.
type subscribeData struct {
	channel     string
	auth        string
	channelData []byte // what the string holds; nil when absent or empty
	badData     string // what is wrong with channel_data; empty when it is JSON or absent
}

// parseSubscribe reads the data of pusher:subscribe, an object or a string that
// holds one. A number or true as channel is taken as its text, as PHP does.
func parseSubscribe(data []byte) (d subscribeData, ok bool) {
	if s, quoted := jsonraw.String(data); quoted {
		data = []byte(s)
	}
	if data == nil || !utf8.Valid(data) {
		return d, false
	}
	var channel, auth, channelData []byte
	err := jsonraw.Object(data, func(key, value []byte) {
		switch string(key) {
		case "channel":
			channel = value
		case "auth":
			auth = value
		case "channel_data":
			channelData = value
		}
	})
	if err != nil || !validAuth(auth) {
		return d, false
	}
	d.channel, ok = scalarText(channel)
	d.auth, _ = scalarText(auth)
	d.setChannelData(channelData)
	return d, ok
}

func (d *subscribeData) setChannelData(value []byte) {
	if value == nil || string(value) == "null" {
		return
	}
	s, ok := jsonraw.String(value)
	switch {
	case !ok && value[0] == '"':
		d.badData = "channel_data holds half of a surrogate pair"
	case !ok:
		d.badData = "channel_data must be a string that holds JSON"
	case s != "":
		d.channelData = []byte(s)
		if err := jsonraw.Check(d.channelData); err != nil {
			d.badData = "channel_data must hold JSON: " + err.Error()
		}
	}
}

func validAuth(auth []byte) bool { return len(auth) == 0 || auth[0] != '[' && auth[0] != '{' }

// scalarText is the text of a string, number or true.
func scalarText(value []byte) (string, bool) {
	if s, ok := jsonraw.String(value); ok {
		return s, true
	}
	switch {
	case len(value) == 0, value[0] == '"', value[0] == '[', value[0] == '{', value[0] == 'n', value[0] == 'f':
		return "", false
	case value[0] == 't':
		return "1", true
	}
	return string(value), true
}

// member is a user of a presence channel, or the signed user of a private one.
// It never changes once it is published.
type member struct {
	id   string
	info []byte // user_info as JSON; nil when absent
}

// parseMember reads channel_data, a JSON text. id is empty when there is none; a
// number counts as its text.
func parseMember(channelData []byte) (m *member, err error) {
	m = new(member)
	err = jsonraw.Object(channelData, func(key, value []byte) {
		switch string(key) {
		case "user_id":
			if m.id = ""; len(value) > 0 && value[0] != 't' {
				m.id, _ = scalarText(value)
			}
		case "user_info":
			m.info = value
		}
	})
	return m, err
}

// parsePresent is parseMember for a presence channel. bad is nil when the member can
// be one; reason says what is wrong. Reverb takes lists and objects without a user_id
// (Reverb: src/Protocols/Pusher/Channels/Concerns/InteractsWithPresenceChannels.php).
func parsePresent(channelData []byte) (m *member, bad *pusherError, reason string) {
	if channelData == nil {
		return nil, errChannelData, "none was sent; a presence channel needs an object with a user_id"
	}
	m, err := parseMember(channelData)
	odd := false // an array or an object, at which Reverb fails
	jsonraw.Object(channelData, func(key, value []byte) {
		if string(key) == "user_id" {
			odd = value[0] == '[' || value[0] == '{'
		}
	})
	switch {
	case err != nil && bytes.TrimLeft(channelData, " \t\r\n")[0] != '[':
		return nil, errDataFormat, "channel_data of a presence channel must be an object with a user_id"
	case err != nil:
		return nil, errChannelData, "it must be an object with a user_id, not a list"
	case odd:
		return nil, errDataFormat, "user_id of channel_data must be a number or a string"
	case m.id == "":
		return nil, errChannelData, "user_id must be a number or a string of 1 to " + strconv.Itoa(maxUserIDBytes) + " bytes"
	case len(m.id) > maxUserIDBytes:
		return nil, errChannelData, fmt.Sprintf("user_id has %d bytes; %d are allowed", len(m.id), maxUserIDBytes)
	}
	return m, nil, ""
}

// --- Signatures ---

// sign is the lower-case hex HMAC-SHA256 of message.
func sign(secret, message string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, message)
	return hex.EncodeToString(mac.Sum(nil))
}

// signer makes signatures with one secret and the memory of the last.
type signer struct {
	mac  hash.Hash
	text []byte
	sum  []byte
	hex  [2 * sha256.Size]byte
}

// signer lends a signer. It goes back to a.signers.
func (a *appSettings) signer() *signer {
	if s, ok := a.signers.Get().(*signer); ok {
		return s
	}
	return &signer{mac: hmac.New(sha256.New, []byte(a.secret))}
}

// sign is sign of s.text. It is valid until the next call.
func (s *signer) sign() []byte {
	s.mac.Reset()
	s.mac.Write(s.text)
	s.sum = s.mac.Sum(s.sum[:0])
	hex.Encode(s.hex[:], s.sum)
	return s.hex[:]
}

// checkChannelAuth verifies auth, "key:signature", for a subscription.
func checkChannelAuth(a *appSettings, socketID, channel string, channelData []byte, auth string) bool {
	key, signature, _ := strings.Cut(auth, ":")
	s := a.signer()
	defer a.signers.Put(s)
	s.text = append(append(append(s.text[:0], socketID...), ':'), channel...)
	if channelData != nil {
		s.text = append(append(s.text, ':'), channelData...)
	}
	sameKey := subtle.ConstantTimeCompare([]byte(key), []byte(a.key))
	return sameKey&subtle.ConstantTimeCompare([]byte(signature), s.sign()) == 1
}

// channelAuthFault says why checkChannelAuth has refused, as far as can be told. It
// costs one signature at most and tells neither the secret nor a signature.
func channelAuthFault(a *appSettings, socketID, channel string, channelData []byte, auth string) string {
	key, signature, found := strings.Cut(auth, ":")
	switch {
	case auth == "":
		return "no auth was given; the application's auth endpoint makes it"
	case !found:
		return "auth must be the app's key, a colon and a signature"
	case key != a.key && strings.Contains(key, a.secret):
		return fmt.Sprintf("auth is not for this app's key %s; it must begin with the key", quoted(a.key))
	case key != a.key:
		return fmt.Sprintf("auth is for the key %s, this app's is %s; compare REVERB_APP_KEY on both sides", quoted(key), quoted(a.key))
	case len(signature) != 2*sha256.Size || strings.Trim(signature, "0123456789abcdef") != "":
		return "the signature must have 64 hexadecimal digits in lower case"
	case channelData != nil && checkChannelAuth(a, socketID, channel, nil, auth):
		return "the signature was made without channel_data, but channel_data was sent"
	case channelData == nil && strings.HasPrefix(channel, "presence-"):
		return "channel_data is missing, and the signature was made over one or with another secret; compare REVERB_APP_SECRET on both sides"
	case channelData == nil:
		return "the signature was made with another secret, or over another socket_id or channel, or over channel_data that was not sent; compare REVERB_APP_SECRET on both sides"
	}
	return "the signature was made with another secret, or over another socket_id, channel or channel_data; compare REVERB_APP_SECRET on both sides"
}

// param is one parameter of a request, decoded. The names name[0], name[1] and name[]
// are the elements of one list, the value of name.
type param struct {
	names [3]string // by nameForm
	value string
}

// nameForm is a way in which libraries sign the name of a parameter.
type nameForm int

const (
	nameLower nameForm = iota // lower case, a list joined by commas: Pusher's specification; look-ups use it
	nameAsIs                  // a list joined by commas: pusher-http-php; Reverb: src/Protocols/Pusher/Http/Controllers/Controller.php
	nameSent                  // with brackets, a list as several parameters: pusher-signature, in Ruby
)

// params are the parameters of a request. No two of them are the same, see add.
type params []param

// parseQuery decodes the query of a request and adds its parameters to q. A semicolon
// is a character like any other: it is legal in names of channels, and not every
// library escapes it.
func parseQuery(q params, raw string) (params, error) {
	for n := 0; raw != ""; {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		if n++; n > maxParameters { // each is compared with all before the signature is known to be right
			return q, fmt.Errorf("more than %d parameters", maxParameters)
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		err := cmp.Or(err1, err2)
		if err == nil {
			q, err = q.add(name, value)
		}
		if err != nil {
			return q, err
		}
	}
	return q, nil
}

// add adds a parameter. Of parameters whose names are spelled alike the last counts, as
// in PHP; the elements of a list keep their order. Two spellings of one name are an
// error: the signature may be made over the one and the look-up find the other.
func (q params) add(name, value string) (params, error) {
	plain := cutBrackets(name)
	p := param{[...]string{strings.ToLower(plain), plain, name}, value}
	for i := range q {
		switch old := &q[i].names; {
		case old[nameSent] == name && !strings.HasSuffix(name, "[]"):
			q[i].value = value
			return q, nil
		case old[nameLower] == p.names[nameLower] && (old[nameAsIs] != plain || (old[nameSent] == plain) != (name == plain)):
			return q, fmt.Errorf("%s and %s are one parameter", quoted(old[nameSent]), quoted(name))
		}
	}
	return append(q, p), nil
}

// cutBrackets is info for info[0] and info[], and name itself for what is no element of
// a list.
func cutBrackets(name string) string {
	if i := strings.IndexByte(name, '['); i > 0 && strings.IndexAny(name[i+1:], "[]") == len(name)-i-2 && name[len(name)-1] == ']' {
		return name[:i]
	}
	return name
}

// get is the value of a parameter whose name is given in lower case, empty if there is
// none.
func (q params) get(name string) (value string) {
	found := false
	for i := range q {
		switch {
		case q[i].names[nameLower] != name:
		case found:
			value += "," + q[i].value
		default:
			value, found = q[i].value, true
		}
	}
	return value
}

// spelled says whether a form of the names differs from the form before it.
func (q params) spelled(form nameForm) bool {
	return slices.ContainsFunc(q, func(p param) bool { return p.names[form] != p.names[form-1] })
}

// setText makes what the signature of a request covers the text to be signed: the
// method, the path and all parameters but the signature, decoded, sorted by name. It
// sorts query.
func (s *signer) setText(method, prefix, path string, query params, form nameForm) {
	// By name, not by line: "a-b=" sorts before "a=" as a line, after it as a name.
	slices.SortStableFunc(query, func(x, y param) int { return strings.Compare(x.names[form], y.names[form]) })
	s.text = append(append(append(append(append(s.text[:0], strings.ToUpper(method)...), '\n'), prefix...), path...), '\n')
	last, from := "", len(s.text)
	for i := range query {
		p := &query[i]
		name := p.names[form]
		if p.names[nameLower] == "auth_signature" {
			continue
		}
		if form != nameSent && name == last && len(s.text) > from { // the next element of a list
			s.text = append(append(s.text, ','), p.value...)
			continue
		}
		if len(s.text) > from {
			s.text = append(s.text, '&')
		}
		s.text = append(append(append(s.text, name...), '='), p.value...)
		last = name
	}
}

// requestPath is the path of a request of the HTTP API, in the forms that the sender
// may have signed.
type requestPath struct {
	prefix string // of the server
	rest   string // what follows the prefix, escaped as it came, with one slash in front
	sent   string // the whole, as it came
}

// more lists the rarer forms of the path: decoded, as libraries sign that leave the
// escaping to their HTTP client; escaped, as others sign when a proxy on the way
// unescapes; with all of its slashes. Only the text of a signature is made of them:
// what a request is about stands in rest alone.
func (p *requestPath) more() []string {
	forms := []string{p.rest, p.prefix + p.rest}
	add := func(form string) {
		if !slices.Contains(forms, form) {
			forms = append(forms, form)
		}
	}
	add(p.sent)
	parts := strings.Split(p.rest, "/")
	for i, part := range parts {
		part, _ = url.PathUnescape(part) // ServeHTTP has seen that it can be
		parts[i] = strings.ReplaceAll(url.QueryEscape(part), "+", "%20")
	}
	escaped := strings.Join(parts, "/")
	add(escaped)
	add(p.prefix + escaped)
	// A text that can be decoded once more, or that holds the line feed between the path
	// and the parameters, is that of another request.
	decoded, _ := url.PathUnescape(p.rest)
	if again, err := url.PathUnescape(decoded); (err != nil || again == decoded) && !strings.Contains(decoded, "\n") {
		add(decoded)
		add(p.prefix + decoded)
	}
	return forms[2:]
}

// checkRequestAuth verifies a request of the HTTP API. The answer to a request that is
// not signed with the app's secret tells nothing that the sender did not send.
func checkRequestAuth(a *appSettings, method string, path *requestPath, query params, body []byte, now time.Time, window time.Duration) *apiError {
	for _, name := range []string{"auth_key", "auth_timestamp", "auth_version", "auth_signature"} {
		if query.get(name) == "" {
			return unauthorized("the parameter %s is missing", name)
		}
	}
	if key := query.get("auth_key"); subtle.ConstantTimeCompare([]byte(key), []byte(a.key)) != 1 {
		return unauthorized("auth_key %s is not the key of app %q; compare REVERB_APP_KEY on both sides", quoted(key), a.id)
	}
	if version := query.get("auth_version"); version != "1.0" {
		return unauthorized("auth_version is %s; only 1.0 is known", quoted(version))
	}
	var digest [2 * md5.Size]byte
	sum := md5.Sum(body)
	hex.Encode(digest[:], sum[:])
	if got := query.get("body_md5"); (got != "" || len(body) > 0) && subtle.ConstantTimeCompare([]byte(got), digest[:]) != 1 {
		return unauthorized("body_md5 %s is not the MD5 of the %d bytes of body that arrived", quoted(got), len(body))
	}
	if !validSignature(a, method, path, query) {
		return unauthorized("it was not made with the secret of app %q (compare REVERB_APP_SECRET on both sides) over %s", a.id,
			quoted(strings.ToUpper(method)+" "+path.rest))
	}
	timestamp := query.get("auth_timestamp")
	sent, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return unauthorized("auth_timestamp %s is not a Unix time", quoted(timestamp))
	}
	if at, allowed := now.Unix(), int64(window/time.Second); allowed > 0 && (sent < at-allowed || sent > at+allowed) {
		return unauthorized("auth_timestamp is %d seconds off this server's clock; REVERB_AUTH_WINDOW allows %d. Check both clocks", at-sent, allowed)
	}
	return nil
}

func validSignature(a *appSettings, method string, path *requestPath, query params) bool {
	s := a.signer()
	defer a.signers.Put(s)
	var given [2 * sha256.Size]byte
	if signature := query.get("auth_signature"); len(signature) != copy(given[:], signature) {
		return false
	}
	var rare []string
	for form := nameLower; form <= nameSent; form++ { // the last one takes lists out of order
		if form > nameLower && !query.spelled(form) {
			continue
		}
		signed := func(prefix, path string) bool {
			s.setText(method, prefix, path, query, form)
			return subtle.ConstantTimeCompare(given[:], s.sign()) == 1
		}
		if signed("", path.rest) || path.prefix != "" && signed(path.prefix, path.rest) {
			return true
		}
		if rare == nil {
			rare = path.more()
		}
		if slices.ContainsFunc(rare, func(path string) bool { return signed("", path) }) {
			return true
		}
	}
	return false
}

func unauthorized(format string, args ...any) *apiError {
	return &apiError{status: http.StatusUnauthorized, text: "Authentication signature invalid: " + fmt.Sprintf(format, args...) + "."}
}

// --- Channels ---

// channelKind says what a channel's name makes of it.
type channelKind struct {
	private   bool // needs a signature; so does presence
	encrypted bool // and private
	presence  bool
	cache     bool
}

const channelKinds = 8

// index numbers the kinds, see kindNames.
func (k channelKind) index() int {
	i := 0
	switch {
	case k.encrypted:
		i = 3
	case k.presence:
		i = 2
	case k.private:
		i = 1
	}
	if k.cache {
		i += channelKinds / 2
	}
	return i
}

func kindNames() [channelKinds]string {
	return [...]string{"public", "private", "presence", "private-encrypted", "cache", "private-cache", "presence-cache", "private-encrypted-cache"}
}

// parseChannelName judges a name and reads its kind off its prefixes, which are
// anchored: private-, private-encrypted- or presence-, then cache-. '#' is
// reserved for channels of the server's own.
func parseChannelName(name string) (kind channelKind, err error) {
	if name == "" || len(name) > maxNameBytes {
		return kind, fmt.Errorf("a channel name has 1 to %d bytes, this one %d", maxNameBytes, len(name))
	}
	for i := 0; i < len(name); i++ {
		if !channelAlphabet(name[i]) {
			_, n := utf8.DecodeRuneInString(name[i:])
			return kind, fmt.Errorf("%s cannot stand in a channel name; letters, digits and _ - = @ , . ; can", quoted(name[i:i+n]))
		}
	}
	rest := name
	if r, ok := strings.CutPrefix(name, "presence-"); ok {
		kind.presence, rest = true, r
	} else if r, ok := strings.CutPrefix(name, "private-"); ok {
		kind.private = true
		rest, kind.encrypted = strings.CutPrefix(r, "encrypted-")
	}
	kind.cache = strings.HasPrefix(rest, "cache-")
	return kind, nil
}

func channelAlphabet(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-=@,.;", c) >= 0
}

// socketID identifies a connection: two numbers with a dot in between, each below
// 2^32, so that JavaScript can hold them. The zero socketID is nobody's.
type socketID struct{ a, b uint32 }

// newSocketID draws from a cryptographic source: knowing one says nothing of others.
func newSocketID() (id socketID) {
	var b [8]byte
	for id.a == 0 || id.b == 0 {
		rand.Read(b[:]) // never fails
		id = socketID{binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[4:])}
	}
	return id
}

// number is the socket ID as the cluster knows it.
func (id socketID) number() uint64 { return uint64(id.a)<<32 | uint64(id.b) }

func socketIDOf(n uint64) socketID { return socketID{uint32(n >> 32), uint32(n)} }

func (id socketID) String() string {
	return strconv.FormatUint(uint64(id.a), 10) + "." + strconv.FormatUint(uint64(id.b), 10)
}

// parseSocketID returns the zero socketID for what cannot be one of ours.
func parseSocketID(s string) socketID {
	x, y, _ := strings.Cut(s, ".")
	a, err1 := strconv.ParseUint(x, 10, 32)
	b, err2 := strconv.ParseUint(y, 10, 32)
	if err1 != nil || err2 != nil {
		return socketID{}
	}
	return socketID{uint32(a), uint32(b)}
}

// --- Registry ---

// channel is one occupied channel of one app. A client can have very many to itself, so
// each field is as small as it can be.
type channel struct {
	// constant
	app     *app
	name    string
	present *presence // presence channels only; what it points to is guarded by the shard's mu
	hash    uint32    // see registry.place
	kind    channelKind

	// guarded by the shard's mu
	home  int16    // the loop of the first place, plus one; set once
	count int32    // places: subscriptions, and those that are being made
	seq   uint64   // of the last event published
	next  *channel // in shard.channels

	// The members, see members. While there is one place, only is the list of home and
	// by is nil. Both are set under mu; a list is owned by its loop.
	only [1]subscriber
	by   atomic.Pointer[[]loopMembers]
}

func (ch *channel) Hash() uint32    { return ch.hash }
func (ch *channel) Next() **channel { return &ch.next }

// loopMembers are the members of a channel on one loop.
type loopMembers struct {
	count int32        // places; guarded by the shard's mu
	list  []subscriber // owned by the loop, changed under mu too
}

// members are the subscribers on a loop. Only the loop calls it, and only while it has
// places or has been given something for them.
func (ch *channel) members(loop int) []subscriber {
	if by := ch.by.Load(); by != nil {
		return (*by)[loop].list
	}
	if int(ch.home) != loop+1 || ch.only[0].client == nil {
		return nil
	}
	return ch.only[:]
}

// placesLocked is how many places are on a loop.
func (ch *channel) placesLocked(loop int) int32 {
	if by := ch.by.Load(); by != nil {
		return (*by)[loop].count
	}
	if int(ch.home) == loop+1 {
		return ch.count
	}
	return 0
}

// reserveLocked makes a place on one of so many loops.
func (ch *channel) reserveLocked(loop, loops int) {
	by := ch.by.Load()
	if by == nil && ch.home == 0 {
		ch.home = int16(loop + 1)
	}
	if by == nil && (ch.count > 0 || int(ch.home) != loop+1) {
		all := make([]loopMembers, loops)
		home := &all[ch.home-1]
		if home.count = ch.count; ch.only[0].client != nil {
			home.list = ch.only[:1:1]
		}
		by = &all
		ch.by.Store(by)
	}
	if ch.count++; by != nil {
		(*by)[loop].count++
	}
}

// addLocked fills a place on a loop and returns the index in its list. Only the loop
// calls it.
func (ch *channel) addLocked(loop int, s subscriber) (index int32) {
	by := ch.by.Load()
	if by == nil {
		ch.only[0] = s
		return 0
	}
	list := &(*by)[loop].list
	if *list = append(*list, s); len(*list) == 2 && int(ch.home) == loop+1 {
		ch.only[0] = subscriber{} // has moved, or was not there
	}
	return int32(len(*list) - 1)
}

// removeLocked gives up the place of the subscriber at index. Only the loop calls it.
func (ch *channel) removeLocked(loop int, index int32) {
	ch.count--
	by := ch.by.Load()
	if by == nil {
		ch.only[0] = subscriber{}
		return
	}
	m := &(*by)[loop]
	m.list = ch.app.perLoop[loop].remove(ch, m.list, int(index))
	m.count--
}

// remove takes the subscriber at a place off the loop's list of ch. Those who have been
// sent the event that is on its way stay before the others: the last of them takes the
// place, and the last of all takes its.
func (t *perLoop) remove(ch *channel, list []subscriber, at int) []subscriber {
	move := func(from, to int) {
		list[to] = list[from]
		list[to].sub.index = int32(to)
	}
	if t.fanning == ch && at < t.told {
		t.told--
		move(t.told, at)
		at = t.told
	}
	last := len(list) - 1
	if at < last { // else a copy of the one that was moved stands there
		move(last, at)
	}
	list[last] = subscriber{}
	return shrink(list[:last])
}

// subscription ties one client to one channel. It is owned by the client's loop.
type subscription struct {
	ch     *channel
	member *member       // signed user; nil when there is none
	next   *subscription // of the client; see client.subscriptions
	index  int32         // in ch.members(loop)
}

func (s *subscription) Hash() uint32         { return s.ch.hash }
func (s *subscription) Next() **subscription { return &s.next }

// subscriber is the other end of a subscription. The channel's list holds it by value,
// with what a delivery looks at: a walk through the list reads memory in order.
type subscriber struct {
	client *client
	since  uint64 // events up to this one are not for it; neverYet: none is before its list of members
	sub    *subscription
}

// presence is who is on a presence channel, each user once.
type presence struct {
	users   map[string]*presentUser
	order   []*presentUser // as they came; nil where one has left
	version uint64         // counts the changes of what list returns
	bytes   int            // that the members take of encodeMembers
	last    weak.Pointer[memberList]
	pause   time.Time // the next list is not made before
}

// size is about what encodeMembers makes of the members, for a channel of that name.
func (p *presence) size(channel string) int { return p.bytes + 2*len(channel) + 160 }

type presentUser struct {
	member      *member // as the first of the user's connections gave it
	connections int
	position    int // in order
}

// add counts one more connection of m's user; first says that it is the only one.
func (p *presence) add(m *member) (first bool) {
	if u := p.users[m.id]; u != nil {
		u.connections++
		return false
	}
	if p.users == nil {
		p.users = make(map[string]*presentUser)
	}
	u := &presentUser{member: m, connections: 1, position: len(p.order)}
	p.users[m.id] = u
	p.order = append(p.order, u)
	p.version++
	p.bytes += listedBytes(m)
	return true
}

// replace gives u another user_info.
func (p *presence) replace(u *presentUser, m *member) {
	if !bytes.Equal(u.member.info, m.info) || (u.member.info == nil) != (m.info == nil) {
		p.version++
		p.bytes += listedBytes(m) - listedBytes(u.member)
		u.member = m
	}
}

// clear forgets everybody.
func (p *presence) clear() {
	p.version++
	p.users, p.order, p.bytes = nil, nil, 0
}

// remove counts one connection less; last says that the user is gone.
func (p *presence) remove(m *member) (last bool) {
	u := p.users[m.id]
	if u.connections--; u.connections > 0 {
		return false
	}
	delete(p.users, m.id)
	p.version++
	p.bytes -= listedBytes(u.member)
	p.order[u.position] = nil
	if len(p.order) > 2*len(p.users)+16 {
		p.order = slices.DeleteFunc(p.order, func(u *presentUser) bool { return u == nil })
		for i, u := range p.order {
			u.position = i
		}
	}
	return true
}

// find returns a user, or nil; p may be nil.
func (p *presence) find(id string) *presentUser {
	if p == nil {
		return nil
	}
	return p.users[id]
}

// len is how many users are there; p may be nil.
func (p *presence) len() int {
	if p == nil {
		return 0
	}
	return len(p.users)
}

// list is a copy of the members, in the order in which they came; p may be nil.
func (p *presence) list() []*member {
	if p == nil {
		return nil
	}
	members := make([]*member, 0, len(p.users))
	for _, u := range p.order {
		if u != nil {
			members = append(members, u.member)
		}
	}
	return members
}

// shard is a part of the registry.
type shard struct {
	mu       sync.Mutex
	channels buckets.Set[channel, *channel]
}

// findLocked returns a channel, or nil. hash is what place says.
func (sh *shard) findLocked(hash uint32, a *app, name string) *channel {
	for ch := sh.channels.First(hash); ch != nil; ch = ch.next {
		if ch.hash == hash && ch.app == a && ch.name == name {
			return ch
		}
	}
	return nil
}

// peers are what connects this node to the others, see cluster.Node. A topic is a channel of an app,
// see topicName. ready is called when a new member is to hear of everything from now
// on, done when an event has been accepted; both by one goroutine, which also calls
// the methods of registry that change what all nodes share, in one order.
type peers interface {
	Join(topic, user, info string, cache bool, ready func())
	Leave(topic, user string)
	CatchUp(topic string, ready func()) // ready is called behind what was accepted before
	Publish(topic, payload string, except uint64, remember bool, done func(error))
	TerminateAll(app, user string, done func(error))
	SetCount(app string)
	Count(app string, own int64, done func(total int64, err error))
	Stats(ctx context.Context, topics []string) (subscriptions, users []int, cached []string, err error)
	OccupiedTopics(ctx context.Context) ([]string, error)
	Members(ctx context.Context, topic string) ([]string, error)
}

// topicName names a channel of an app to the cluster. A channel's name has no colon.
func topicName(a *app, channel string) string { return a.id + ":" + channel }

// cutTopic is the reverse of topicName.
func cutTopic(topic string) (app, channel string) {
	i := strings.LastIndexByte(topic, ':')
	return topic[:max(i, 0)], topic[i+1:]
}

// registry knows every channel that has a subscriber, and every cached event.
type registry struct {
	loops   *loops
	hub     *hub  // whose apps the topics are of
	cluster peers // nil: this is the only node
	lists   *lists
	seed    maphash.Seed
	shards  [registryShards]shard
	cached  *lastevents.Store[*frames] // the last events of cache channels, by ID of the app
	taps    taps
}

// taps are those who watch channels without being subscribed.
type taps struct {
	mu  sync.Mutex
	all atomic.Pointer[[]*tap] // replaced as a whole; nil: nobody watches
}

type tap struct {
	app     *app
	channel string
	out     chan tapped // what does not fit is not shown
}

// tapped is a message and when it was published.
type tapped struct {
	message []byte
	at      time.Time
}

const maxTaps = 64

// tap shows what is sent on a channel from now on, until remove is called.
func (r *registry) tap(a *app, channel string) (out <-chan tapped, remove func(), ok bool) {
	t := &tap{a, channel, make(chan tapped, 256)}
	replace := func(edit func([]*tap) []*tap) {
		var list []*tap
		if old := r.taps.all.Load(); old != nil {
			list = slices.Clone(*old)
		}
		if list = edit(list); len(list) == 0 {
			r.taps.all.Store(nil)
		} else {
			r.taps.all.Store(&list)
		}
	}
	r.taps.mu.Lock()
	defer r.taps.mu.Unlock()
	replace(func(list []*tap) []*tap {
		if ok = len(list) < maxTaps; ok {
			list = append(list, t)
		}
		return list
	})
	return t.out, func() {
		r.taps.mu.Lock()
		defer r.taps.mu.Unlock()
		replace(func(list []*tap) []*tap { return slices.DeleteFunc(list, func(other *tap) bool { return other == t }) })
	}, ok
}

// show gives a message to those who watch the channel.
func (r *registry) show(a *app, channel string, b *broadcast) {
	all := r.taps.all.Load()
	if all == nil {
		return
	}
	for _, t := range *all {
		if t.app == a && t.channel == channel {
			select {
			case t.out <- tapped{b.payload(), b.at}:
			default:
			}
		}
	}
}

func newRegistry(ls *loops) *registry {
	r := &registry{loops: ls, seed: maphash.MakeSeed(), cached: lastevents.New[*frames](maxCachedEvents, maxCachedBytes)}
	r.lists = newLists(r, ls)
	return r
}

// place says in which shard a channel is, and by which hash it is found there and by
// clients. The salt keeps apart what several apps call by the same name.
func (r *registry) place(a *app, name string) (sh *shard, hash uint32) {
	h := maphash.String(r.seed, name)
	return &r.shards[h%registryShards], uint32(h>>32) ^ a.salt
}

// broadcast is the task that gives one event to a loop's subscribers of a channel, and
// the delivery of it. One broadcast serves all loops.
type broadcast struct {
	frames
	ch     *channel
	seq    uint64
	except socketID
	share  int64     // of its deliveries that each loop with members counts as pending
	at     time.Time // when it was asked for

	cost int64        // of what it counts for in app.undelivered
	left atomic.Int32 // loops that have it still to be delivered
}

// run puts the event behind the others of its app. Only events wait: a subscriber who
// comes meanwhile does not get earlier ones, see subscriber.since.
func (b *broadcast) run(l *loop) { l.enqueue(&b.ch.app.perLoop[l.index].flow, b) }

const weighedBytes = 2 << 10 // so many bytes of an event make its delivery count for one more

// deliver goes on with the event. Of an app one event at a time is on its way on a loop,
// so perLoop knows how far it has come.
func (b *broadcast) deliver(l *loop, share int) (used int, done bool) {
	t, list := &b.ch.app.perLoop[l.index], b.ch.members(l.index)
	weight, from := 1+len(b.plain)/weighedBytes, t.told
	end := min(from+max(share/weight, maxTogether), len(list))
	b.send(l, list[from:end])
	if used = (end - from) * weight; end < len(list) {
		t.fanning, t.told = b.ch, end
		return used, false
	}
	t.fanning, t.told = nil, 0
	l.note() // before it is off owed: claimed would dip
	b.delivered(l)
	l.measure(b.at)
	return used, true
}

// delivered takes note that one loop is done with the event, or that the loop has ended
// and does not take it: then whoever publishes calls this, so it touches only counters.
func (b *broadcast) delivered(l *loop) {
	l.backlog.Add(-int64(len(b.plain) + messageCost))
	l.owed.Add(-b.share)
	if b.left.Add(-1) == 0 {
		b.ch.app.undelivered.Add(-b.cost)
	}
}

// send gives the event to some of a loop's subscribers.
func (b *broadcast) send(l *loop, list []subscriber) {
	var to [maxTogether]*conn
	n, total := 0, uint64(0)
	for _, s := range list {
		if s.since >= b.seq || b.except != (socketID{}) && s.client.id == b.except {
			continue
		}
		to[n] = &s.client.conn
		if n++; n == len(to) {
			l.sendEach(to[:], &b.frames)
			n, total = 0, total+uint64(n)
		}
	}
	l.sendEach(to[:n], &b.frames)
	total += uint64(n)
	t := &b.ch.app.perLoop[l.index]
	t.sent.Add(total)
	t.sentBytes.Add(total * uint64(len(b.payload())))
}

// postLocked gives b to every loop that has subscribers. Posting under the lock is
// what keeps events in the order of their numbers.
func (r *registry) postLocked(ch *channel, b *broadcast) {
	r.show(ch.app, ch.name, b)
	ch.seq++
	b.ch, b.seq, b.share = ch, ch.seq, int64(ch.count)/int64(len(r.loops.all))+1
	loops := int32(0)
	for i := range r.loops.all {
		if ch.placesLocked(i) > 0 {
			loops++
		}
	}
	b.left.Store(loops)
	b.cost = int64(ch.count) * int64(len(b.plain)+messageCost)
	if loops > 0 {
		ch.app.undelivered.Add(b.cost)
	}
	for i, l := range r.loops.all {
		if ch.placesLocked(i) > 0 {
			l.backlog.Add(int64(len(b.plain) + messageCost))
			l.owed.Add(b.share)
			if !l.post(b) {
				b.delivered(l)
			}
		}
	}
}

func newBroadcast(message []byte, except socketID, now time.Time) *broadcast {
	b := &broadcast{except: except, at: now}
	b.plain = endFrame(append(beginFrame(len(message)), message...))
	return b
}

// newEventBroadcast is newBroadcast of what appendEvent makes.
func newEventBroadcast(name, data []byte, channel, user string, except socketID, now time.Time) *broadcast {
	b := &broadcast{except: except, at: now}
	b.plain = endFrame(appendEvent(beginFrame(len(data)+len(name)+len(channel)+len(user)+64), name, data, channel, user))
	return b
}

// stats is what the HTTP API tells about a channel.
type stats struct {
	kind          channelKind
	occupied      bool
	subscriptions int
	users         int
	cached        *frames
}

// statsLocked tells how a channel stands; ch is nil where nobody is on it.
func (r *registry) statsLocked(ch *channel, a *app, name string, kind channelKind, now time.Time) stats {
	s := stats{kind: kind}
	if ch != nil {
		s.occupied, s.subscriptions, s.users = ch.count > 0, int(ch.count), ch.present.len()
	}
	if kind.cache {
		s.cached = r.lastEvent(a, name, now)
	}
	return s
}

// publish gives b to all subscribers of a channel, remembers it if it is to be
// remembered, and tells how the channel stands.
func (r *registry) publish(a *app, name string, b *broadcast, remember bool) stats {
	kind, err := parseChannelName(name)
	if err != nil {
		return stats{} // nobody can be subscribed
	}
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ch := sh.findLocked(hash, a, name)
	if ch != nil {
		r.postLocked(ch, b)
	} else {
		r.show(a, name, b)
	}
	if kind.cache && remember {
		r.rememberEvent(a, name, &b.frames, b.at, cachedEventLife)
	}
	return r.statsLocked(ch, a, name, kind, b.at)
}

// occupied says whether anybody is subscribed.
func (r *registry) occupied(a *app, name string) bool {
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.findLocked(hash, a, name) != nil
}

// rememberEvent keeps the last event of a cache channel. The caller holds the shard's
// lock, so that it is the last.
func (r *registry) rememberEvent(a *app, name string, f *frames, now time.Time, life time.Duration) {
	r.cached.Put(a.id, name, f, len(f.plain), now, now.Add(life))
}

// lastEvent returns the event that a cache channel remembers, or nil.
func (r *registry) lastEvent(a *app, name string, now time.Time) *frames {
	f, _ := r.cached.Get(a.id, name, now)
	return f
}

// joined is what a new subscriber is told, see sendJoined. Subscribers of presence
// channels are told by what their claim gets.
type joined struct {
	cached *frames // cache channels only; nil: nothing is remembered
}

// reservation is a place on a channel for a client. It is a task too: what the
// cluster has granted is handed to the client's loop.
type reservation struct {
	client    *client
	name      string
	kind      channelKind
	member    *member
	cancelled bool // owned by the client's loop: unsubscribed meanwhile

	ch    *channel
	since uint64
	joined
}

// reserveLocked counts a subscription and says from which event on it counts. Whoever
// calls it sees to it that attach or release follows.
func (r *registry) reserveLocked(sh *shard, v *reservation, now time.Time) {
	loop := v.client.loop.index
	ch := r.channelLocked(sh, v.client.app, v.name, v.kind)
	if v.kind.cache && !v.kind.presence {
		v.cached = r.lastEvent(v.client.app, v.name, now)
	}
	if ch.count == 0 {
		ch.app.perLoop[loop].kinds[v.kind.index()].occupied.Add(1)
	}
	ch.app.perLoop[loop].kinds[v.kind.index()].subscribed.Add(1)
	ch.reserveLocked(loop, len(r.loops.all))
	if v.ch, v.since = ch, ch.seq; v.kind.presence {
		v.since = neverYet
	}
}

// channelLocked returns a channel, made if there is none.
func (r *registry) channelLocked(sh *shard, a *app, name string, kind channelKind) *channel {
	_, hash := r.place(a, name)
	ch := sh.findLocked(hash, a, name)
	if ch == nil {
		ch = &channel{app: a, name: name, kind: kind, hash: hash}
		if kind.presence {
			ch.present = new(presence)
		}
		sh.channels.Add(ch)
	}
	return ch
}

// attachLocked makes a subscription of a reservation. Only the client's loop calls it.
func (r *registry) attachLocked(v *reservation) *subscription {
	s := &subscription{ch: v.ch, member: v.member}
	s.index = v.ch.addLocked(v.client.loop.index, subscriber{v.client, v.since, s})
	return s
}

// room says whether a presence channel, as this node knows it, takes one more user. In
// a cluster, a node knows the members of a topic while it has a subscriber to it.
func (r *registry) room(a *app, name string, m *member) bool {
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ch := sh.findLocked(hash, a, name)
	return ch == nil || ch.present.room(m, a.settings.Load().maxMembers)
}

// room says whether m is there already or is not one too many. 0 is no limit.
func (p *presence) room(m *member, limit int) bool {
	return limit == 0 || len(p.users) < limit || p.users[m.id] != nil
}

// join subscribes c on the only node; s is nil where a presence channel is full. Only
// c's loop calls it.
func (r *registry) join(c *client, name string, kind channelKind, m *member, now time.Time) (s *subscription, j joined) {
	v := &reservation{client: c, name: name, kind: kind, member: m}
	sh, hash := r.place(c.app, name)
	var added *broadcast
	if kind.presence {
		added = newBroadcast(encodeMemberAdded(name, m), socketID{}, now)
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if kind.presence {
		if ch := sh.findLocked(hash, c.app, name); ch != nil && !ch.present.room(m, c.app.settings.Load().maxMembers) {
			return nil, joined{}
		}
		ch := r.channelLocked(sh, c.app, name, kind)
		if ch.present.add(m) && ch.count > 0 {
			r.postLocked(ch, added)
		}
	}
	r.reserveLocked(sh, v, now)
	return r.attachLocked(v), v.joined
}

// joinCluster asks the cluster to let c in. Once it has, the reservation is handed to
// c's loop, behind everything that c shall not hear and before everything it shall.
func (r *registry) joinCluster(v *reservation) {
	user, info := "", ""
	if v.kind.presence {
		user, info = v.member.id, string(v.member.info)
	}
	r.cluster.Join(topicName(v.client.app, v.name), user, info, v.kind.cache, func() {
		sh, _ := r.place(v.client.app, v.name)
		sh.mu.Lock()
		r.reserveLocked(sh, v, time.Now())
		v.client.loop.post(v)
		sh.mu.Unlock()
	})
}

// run completes a subscription that the cluster has granted.
func (v *reservation) run(*loop) {
	c := v.client
	if c.pending(v.name) == v {
		c.notPending(v.name)
	}
	sh, _ := c.hub.registry.place(c.app, v.name)
	sh.mu.Lock()
	s := c.hub.registry.attachLocked(v)
	sh.mu.Unlock()
	if v.cancelled || c.state != connOpen {
		c.hub.registry.leave(c, s)
		return
	}
	c.addSubscription(s)
	c.sendJoined(s, v.joined)
}

// leave ends a subscription of c. Only c's loop calls it.
func (r *registry) leave(c *client, s *subscription) {
	ch, loop := s.ch, c.loop.index
	sh, _ := r.place(ch.app, ch.name)
	if ch.kind.presence {
		r.lists.desks[loop].leave(s)
	}
	var removed *broadcast
	if r.cluster != nil {
		user := ""
		if ch.kind.presence {
			user = s.member.id
		}
		defer r.cluster.Leave(topicName(ch.app, ch.name), user)
	} else if ch.kind.presence {
		removed = newBroadcast(encodeMemberRemoved(ch.name, s.member.id), socketID{}, time.Now())
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ch.removeLocked(loop, s.index)
	gone := r.cluster == nil && ch.kind.presence && ch.present.remove(s.member)
	counted := &ch.app.perLoop[loop].kinds[ch.kind.index()]
	counted.unsubscribed.Add(1)
	if ch.count == 0 {
		counted.vacated.Add(1)
	}
	switch {
	case r.cluster != nil: // see Dropped
	case ch.count == 0:
		sh.channels.Remove(ch)
	case gone:
		r.postLocked(ch, removed)
	}
}

// shrink gives back the memory of a list that has lost most of its elements.
func shrink[T any](list []T) []T {
	if cap(list) >= 64 && len(list) < cap(list)/4 {
		return append(make([]T, 0, 2*len(list)), list...)
	}
	return list
}

// rejoin takes the new user_info of a member that subscribes again. A user with other
// connections keeps what the first of them gave.
func (r *registry) rejoin(s *subscription, m *member, now time.Time) (j joined) {
	ch := s.ch
	sh, _ := r.place(ch.app, ch.name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if ch.kind.presence {
		if u := ch.present.users[m.id]; u != nil && u.connections == 1 && r.cluster == nil {
			ch.present.replace(u, m)
		}
	}
	s.member = m
	if ch.kind.cache && !ch.kind.presence {
		j.cached = r.lastEvent(ch.app, ch.name, now)
	}
	return j
}

// rejoining is the task that answers a client that has subscribed to a cache channel again,
// once this node has caught up with the cluster.
type rejoining struct {
	client *client
	sub    *subscription
	member *member
}

func (v *rejoining) run(*loop) {
	if c := v.client; c.state == connOpen && c.find([]byte(v.sub.ch.name)) == v.sub {
		c.sendJoined(v.sub, c.hub.registry.rejoin(v.sub, v.member, time.Now()))
	}
}

// channelStats tells how one channel stands.
func (r *registry) channelStats(a *app, name string, now time.Time) stats {
	kind, err := parseChannelName(name)
	if err != nil {
		return stats{}
	}
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return r.statsLocked(sh.findLocked(hash, a, name), a, name, kind, now)
}

// all lists the occupied channels of an app whose name begins with prefix.
func (r *registry) all(a *app, prefix string, now time.Time) map[string]stats {
	found := make(map[string]stats)
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		for ch := range sh.channels.All {
			if ch.app == a && ch.count > 0 && strings.HasPrefix(ch.name, prefix) {
				found[ch.name] = r.statsLocked(ch, a, ch.name, ch.kind, now)
			}
		}
		sh.mu.Unlock()
	}
	return found
}

// users lists the members of a presence channel. A channel that nobody is on has none.
func (r *registry) users(a *app, name string) []*member {
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if ch := sh.findLocked(hash, a, name); ch != nil {
		return ch.present.list()
	}
	return nil
}

// --- Lists of members ---
//
// The answer to a subscription to a presence channel is the list of its members, which
// is large where there are many. So a joiner is a member at once, and gets a claim: a
// place in its send queue. When everything before it has been written, the claim is
// ready. Ready claims of one loop to one channel get one list, encoded once:
//
//	join ─▶ claim ─▶ (socket is ready) ─▶ listing ─▶ room in the pool ─▶ list ─▶ socket
//
// A joiner is subscribed from the moment of its list on: what is before is in it. All
// lists that somebody holds are counted in one pool, each once, however many hold it.

// endSlowList ends the connection that keeps others waiting for their lists.
var endSlowList = newEnding(1013, "Too slow: less than 16384 bytes a second of a list of members, and others wait for theirs", "slow_list")

// neverYet is the number of no event.
const neverYet = ^uint64(0)

// memberList is one encoded list. Its frames never change.
type memberList struct {
	frames
	app     *app
	version uint64 // of the presence that it shows

	// guarded by mu
	mu      sync.Mutex
	holders int   // claims that have it and are not written
	bytes   int64 // counted in the pool, while there are holders
	both    bool  // the deflated form is counted too
}

// hold adds n holders to a list that has some.
func (m *memberList) hold(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holders == 0 {
		return false
	}
	m.holders += n
	return true
}

// lists is what all loops share of the lists of members.
type lists struct {
	pool     *fairpool.Pool[*app]
	desks    []*desk // by loop
	sweeping atomic.Bool
	encoded  atomic.Uint64 // how many were made
}

func newLists(r *registry, ls *loops) *lists {
	all := &lists{pool: fairpool.New[*app](maxListBytes)}
	for _, l := range ls.all {
		all.desks = append(all.desks, &desk{lists: all, registry: r, loop: l,
			claims: make(map[*subscription]*claim), listings: make(map[*channel]*listing)})
	}
	return all
}

// take makes n more holders of m, for which c has got room.
func (ls *lists) take(m *memberList, n int, c *fairpool.Claim[*app]) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holders += n; m.holders > n { // another loop was first
		ls.pool.GiveUp(c)
		return
	}
	ls.pool.Keep(c, m.bytes)
}

func (ls *lists) release(m *memberList) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holders--; m.holders == 0 {
		ls.pool.Give(m.app, m.bytes)
	}
}

// forConn is the form that c reads. c is a holder.
func (ls *lists) forConn(m *memberList, c *conn) []byte {
	if !m.deflates(c) || len(m.plain) > maxListDeflated {
		return m.plain
	}
	b := m.frames.forConn(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.both {
		m.both = true
		m.bytes += int64(len(b))
		ls.pool.Add(m.app, int64(len(b)))
	}
	return b
}

// sweep sees to it that slow connections are looked for as long as anybody waits.
func (ls *lists) sweep() {
	if !ls.sweeping.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(sweepListsPeriod, func() {
		ls.sweeping.Store(false)
		if ls.pool.Waiting() == 0 {
			return
		}
		for _, d := range ls.desks {
			d.loop.post(d)
		}
		ls.sweep()
	})
}

// desk is where the claims of one loop stand. Only the loop uses it. It is a task too:
// looking for the slowest.
type desk struct {
	// constant
	*lists
	registry *registry
	loop     *loop

	// owned by the loop
	claims   map[*subscription]*claim // that have no list yet
	listings map[*channel]*listing
	sending  []*claim // that have one, and are not written
}

// claim is a subscriber's place in its send queue for a list.
type claim struct {
	desk    *desk
	client  *client
	sub     *subscription
	place   *segment // nil: it has left the queue
	listing *listing // nil: it is not ready, or is over

	list  *memberList // nil: it has none yet
	bytes int         // of the form that it got
	index int         // in desk.sending
	base  int         // bytes taken at baseTick, from which its speed is reckoned
	since uint32      // tick
}

// listing is the ready claims of one loop to one channel. It is a task: serving them.
type listing struct {
	desk   *desk
	ch     *channel
	ready  []*claim
	room   fairpool.Claim[*app]
	posted bool
	waits  bool // for room, or for the end of the pause
	roomy  bool // has got room
	over   bool // nobody is left
}

// claim gives c a place for the list. A subscription that has one, and no list yet, is
// answered once.
func (d *desk) claim(c *client, s *subscription) {
	if d.claims[s] != nil {
		return
	}
	v := &claim{desk: d, client: c, sub: s}
	if v.place = c.queueSupply(v); v.place != nil {
		d.claims[s] = v
	}
}

// leave gives up the claim of a subscription that ends.
func (d *desk) leave(s *subscription) {
	if v := d.claims[s]; v != nil {
		d.giveUp(v)
		v.client.supply(v.place, nil, nil)
	}
}

// giveUp forgets a claim that has no list.
func (d *desk) giveUp(v *claim) {
	if d.claims[v.sub] != v {
		return
	}
	delete(d.claims, v.sub)
	if g := v.listing; g != nil {
		v.listing = nil
		if g.ready = slices.DeleteFunc(g.ready, func(other *claim) bool { return other == v }); len(g.ready) == 0 {
			g.end()
		}
	}
}

// wanted is called when the socket is ready for the list.
func (v *claim) wanted() {
	d, ch := v.desk, v.sub.ch
	g := d.listings[ch]
	if g == nil {
		g = &listing{desk: d, ch: ch}
		g.room.Ready = func() { d.loop.post(roomForListing{g}) }
		d.listings[ch] = g
	}
	v.listing = g
	if g.ready = append(g.ready, v); !g.posted && !g.waits {
		g.posted = true
		d.loop.post(g)
	}
}

// dropped is called when the place has left the queue.
func (v *claim) dropped() {
	d := v.desk
	v.place = nil
	if v.list == nil {
		d.giveUp(v)
		return
	}
	last := len(d.sending) - 1
	d.sending[v.index] = d.sending[last]
	d.sending[v.index].index = v.index
	d.sending[last] = nil
	d.sending = shrink(d.sending[:last])
	d.release(v.list)
}

// roomForListing is the task that tells a listing that the pool has room for it.
type roomForListing struct{ g *listing }

func (t roomForListing) run(l *loop) {
	if !t.g.over {
		t.g.roomy, t.g.waits = true, false
		t.g.run(l)
	}
}

// listingDue is the task that tells a listing that the pause is over.
type listingDue struct{ g *listing }

func (t listingDue) run(l *loop) {
	if !t.g.over {
		t.g.waits = false
		t.g.run(l)
	}
}

// end forgets a listing without claims.
func (g *listing) end() {
	g.over = true
	delete(g.desk.listings, g.ch)
	g.desk.pool.GiveUp(&g.room)
}

// run gives the ready claims a list: one that is still there, if nothing has changed
// since, or a new one.
//
// Every claim gets what the channel is at this moment. The events of before that still
// wait in this loop's inbox are left out; those of after come behind the list.
func (g *listing) run(l *loop) {
	g.posted = false
	if g.over || g.waits {
		return
	}
	d, ch, now := g.desk, g.ch, time.Now()
	sh, _ := d.registry.place(ch.app, ch.name)
	p := ch.present
	sh.mu.Lock()
	list := p.last.Value()
	if list != nil && list.version != p.version {
		list = nil
	}
	held := list != nil && list.hold(len(g.ready))
	if !held && !g.mayHold(list == nil, now) {
		sh.mu.Unlock()
		return
	}
	since, behind := ch.seq, (*frames)(nil)
	if ch.kind.cache {
		behind = d.registry.lastEvent(ch.app, ch.name, now)
	}
	size, made := p.size(ch.name), list == nil
	var members []*member
	if made {
		list = &memberList{app: ch.app, version: p.version}
		members = p.list()
		if size > shortListBytes {
			p.pause = now.Add(time.Duration(size) * listPause)
		}
	}
	sh.mu.Unlock()
	if made {
		list.plain = encodeMembers(ch.name, members, size)
		list.bytes = int64(cap(list.plain))
		d.encoded.Add(1)
	}
	if !held {
		d.take(list, len(g.ready), &g.room)
		g.roomy = false
	}
	if made {
		sh.mu.Lock()
		if last := p.last.Value(); last == nil || last.version < list.version {
			p.last = weak.Make(list)
		}
		sh.mu.Unlock()
	}
	if ch.kind.cache && behind == nil {
		behind = newFrames(encodeCacheMiss(ch.name))
	}
	for _, v := range g.ready {
		v.resolve(list, since, behind)
	}
	g.ready = nil
	g.end()
}

// mayHold says whether the listing may hold a list now, which is to be made first or
// not. Where it may not, it is run again. The caller holds the shard's lock.
func (g *listing) mayHold(make bool, now time.Time) bool {
	d, p := g.desk, g.ch.present
	if wait := p.pause.Sub(now); make && wait > 0 {
		g.waits = true
		time.AfterFunc(wait, func() { d.loop.post(listingDue{g}) })
	} else if !g.roomy {
		g.roomy = d.pool.Take(g.ch.app, int64(p.size(g.ch.name)), &g.room)
		if g.waits = !g.roomy; g.waits {
			d.sweep()
		}
	}
	return !g.waits
}

// resolve gives the claim its list, of which it is a holder, and what comes behind it.
// From event since on the subscriber hears everything.
func (v *claim) resolve(list *memberList, since uint64, behind *frames) {
	d, c := v.desk, v.client
	delete(d.claims, v.sub)
	if at := &v.sub.ch.members(d.loop.index)[v.sub.index].since; *at == neverYet {
		*at = since
	}
	v.listing, v.list, v.since, v.index = nil, list, d.loop.now, len(d.sending)
	d.sending = append(d.sending, v)
	b, more := d.forConn(list, &c.conn), []byte(nil)
	v.bytes = len(b)
	c.countSent(len(list.payload()))
	if behind != nil {
		more = behind.forConn(&c.conn)
		c.countSent(len(behind.payload()))
	}
	c.supply(v.place, b, more)
}

// run closes the connection of this loop that takes its list slowest, if it is slow.
func (d *desk) run(l *loop) {
	slowest, least := (*claim)(nil), slowListBytes
	for _, v := range d.sending {
		age := l.now - v.since
		if v.client.state != connOpen || age < slowListTicks {
			continue
		}
		taken := v.bytes - len(v.place.b)
		speed := (taken - v.base) / int(age)
		if speed >= slowListBytes {
			v.base, v.since = taken, l.now // what it did before excuses nothing
		} else if speed < least {
			slowest, least = v, speed
		}
	}
	if slowest != nil {
		slowest.client.close(endSlowList)
	}
}

// --- Cluster ---

// topicChannel finds what a topic names. ok is false where it is none of ours.
func (r *registry) topicChannel(topic string) (a *app, name string, kind channelKind, ok bool) {
	app, name := cutTopic(topic)
	a = r.hub.tables.Load().known(app)
	kind, err := parseChannelName(name)
	return a, name, kind, a != nil && err == nil
}

// Deliver gives an event that the cluster has put in order to the subscribers here.
func (r *registry) Deliver(topic, payload string, except uint64, remember bool) {
	if a, name, _, ok := r.topicChannel(topic); ok {
		r.publish(a, name, newBroadcast([]byte(payload), socketIDOf(except), time.Now()), remember)
	}
}

// Remember keeps an event that was delivered before as the last of a cache channel.
func (r *registry) Remember(topic, payload string) {
	r.changePresence(topic, false, func(ch *channel) *broadcast {
		if now := time.Now(); ch.kind.cache {
			r.rememberEvent(ch.app, ch.name, newFrames([]byte(payload)), now, cachedEventLife)
		}
		return nil
	})
}

// Added takes note of a user who has come to a presence channel, and tells the
// subscribers here.
func (r *registry) Added(topic, user, info string) {
	r.changePresence(topic, true, func(ch *channel) *broadcast {
		m := newMember(user, info)
		if ch.present == nil || ch.present.find(user) != nil {
			return nil
		}
		ch.present.add(m)
		return newBroadcast(encodeMemberAdded(ch.name, m), socketID{}, time.Now())
	})
}

// Removed takes note of a user who has left.
func (r *registry) Removed(topic, user string) {
	r.changePresence(topic, false, func(ch *channel) *broadcast {
		u := ch.present.find(user)
		if u == nil {
			return nil
		}
		ch.present.remove(u.member)
		return newBroadcast(encodeMemberRemoved(ch.name, user), socketID{}, time.Now())
	})
}

// Snapshot replaces what is known of a topic. life is for how long the cached event is
// still to be kept.
func (r *registry) Snapshot(topic string, users, infos []string, cached string, life time.Duration) {
	r.changePresence(topic, true, func(ch *channel) *broadcast {
		if ch.present != nil {
			ch.present.clear()
			for i, user := range users {
				ch.present.add(newMember(user, infos[i]))
			}
		}
		if cached == "" {
			r.cached.Forget(ch.app.id, ch.name)
		} else if ch.kind.cache {
			r.rememberEvent(ch.app, ch.name, newFrames([]byte(cached)), time.Now(), min(life, cachedEventLife))
		}
		return nil
	})
}

// changePresence lets change work on a channel under its shard's lock, and posts what
// it returns.
func (r *registry) changePresence(topic string, create bool, change func(ch *channel) *broadcast) {
	a, name, kind, ok := r.topicChannel(topic)
	if !ok {
		return
	}
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ch := sh.findLocked(hash, a, name)
	if ch == nil && create {
		ch = r.channelLocked(sh, a, name, kind)
	}
	if ch == nil {
		return
	}
	if b := change(ch); b != nil {
		r.postLocked(ch, b)
	}
}

func newMember(user, info string) *member {
	m := &member{id: user}
	if info != "" {
		m.info = []byte(info)
	}
	return m
}

// TerminateUser closes the connections of a user here.
func (r *registry) TerminateUser(app, user string) {
	if a := r.hub.tables.Load().known(app); a != nil {
		for _, l := range r.loops.all {
			l.post(&terminate{a, user})
		}
	}
}

// Dropped forgets a channel in which nobody is here any more. Until then the cluster
// may let in somebody else.
func (r *registry) Dropped(topic string) {
	a, name, _, ok := r.topicChannel(topic)
	if !ok {
		return
	}
	sh, hash := r.place(a, name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if ch := sh.findLocked(hash, a, name); ch != nil && ch.count == 0 {
		sh.channels.Remove(ch)
	}
	r.cached.Forget(a.id, name) // others may publish, and we will not hear it
}

func (r *registry) Overloaded() bool { return r.loops.overloaded() || r.loops.crowded() }

// Connections is how many of an app are open here.
func (r *registry) Connections(app string) int64 {
	if a := r.hub.tables.Load().known(app); a != nil {
		return a.connections.Load()
	}
	return 0
}

// --- Client ---

// client is one connection of one app.
type client struct {
	conn

	// constant after the handshake
	hub *hub
	app *app // nil when the connection is refused for want of one
	id  socketID

	// owned by the loop
	subscriptions *subscription // the latest first; nil when rare.many has them
	rare          *rareState    // nil as long as there is none
	pingTick      uint32
	control       bool // has used control frames: is pinged with one
	pinged        bool // and has not answered since pingTick
	counted       bool // in app.connections
	admitted      bool // and was told so
}

// rareState is what most clients do not have. It is owned by the loop.
type rareState struct {
	refuse   *pusherError            // told and closed as soon as it is open; constant after the handshake
	remote   *[16]byte               // the client's IPv6 or mapped IPv4 address, if the socket does not tell it or connections of an address are limited; constant after the handshake
	many     *subscriptionSet        // made when there are many
	pending  map[string]*reservation // asked of the cluster; nil when there are none
	limitEnd uint32                  // tick at which the rate limit's window ends
	attempts int32                   // in this window
	entered  bool                    // counted in hub.addresses
}

// needRare returns c.rare, made if there is none.
func (c *client) needRare() *rareState {
	if c.rare == nil {
		c.rare = new(rareState)
	}
	return c.rare
}

// setRemote keeps the address of a client behind a proxy, host or host:port, since the
// socket does not know it. Without a proxy nothing is kept: 64 bytes of a connection.
func (c *client) setRemote(remote string) {
	addr, err := netip.ParseAddr(remote)
	if err != nil {
		ap, err := netip.ParseAddrPort(remote)
		if err != nil {
			return
		}
		addr = ap.Addr()
	}
	b := addr.As16()
	c.needRare().remote = &b
}

// address is the client's address, for the log. Only the loop may ask.
func (c *client) address() string {
	if c.rare != nil && c.rare.remote != nil {
		return netip.AddrFrom16(*c.rare.remote).Unmap().String()
	}
	return c.remoteAddr()
}

// subscriptionSet finds subscriptions by the hash of their channels.
type subscriptionSet = buckets.Set[subscription, *subscription]

// many is where the subscriptions are when there are many, else nil.
func (c *client) many() *subscriptionSet {
	if c.rare == nil {
		return nil
	}
	return c.rare.many
}

// all calls yield for every subscription until it returns false.
func (c *client) all(yield func(*subscription) bool) {
	if many := c.many(); many != nil {
		many.All(yield)
		return
	}
	for s := c.subscriptions; s != nil; s = s.next {
		if !yield(s) {
			return
		}
	}
}

// pending returns the reservation for a channel that the cluster has not granted yet.
func (c *client) pending(channel string) *reservation {
	if c.rare == nil {
		return nil
	}
	return c.rare.pending[channel]
}

func (c *client) addPending(v *reservation) {
	r := c.needRare()
	if r.pending == nil {
		r.pending = make(map[string]*reservation)
	}
	r.pending[v.name] = v
}

func (c *client) notPending(channel string) {
	r := c.rare
	if delete(r.pending, channel); len(r.pending) > 0 {
		return
	}
	if r.pending = nil; r.many == nil && r.refuse == nil && r.remote == nil && r.attempts == 0 {
		c.rare = nil
	}
}

// manySubscriptions is from where on they are found by hash.
const manySubscriptions = 16

func (c *client) find(name []byte) *subscription {
	s, many := c.subscriptions, c.many()
	if many != nil {
		s = many.First(uint32(maphash.Bytes(c.hub.registry.seed, name)>>32) ^ c.app.salt)
	}
	for s != nil && s.ch.name != string(name) {
		s = s.next
	}
	return s
}

// countSubscriptions includes what has been asked of the cluster.
func (c *client) countSubscriptions() (n int) {
	if c.rare != nil {
		n = len(c.rare.pending)
	}
	if many := c.many(); many != nil {
		return n + many.Len()
	}
	for s := c.subscriptions; s != nil; s = s.next {
		n++
	}
	return n
}

func (c *client) addSubscription(s *subscription) {
	if many := c.many(); many != nil {
		many.Add(s)
		return
	}
	if s.next, c.subscriptions = c.subscriptions, s; c.countSubscriptions() <= manySubscriptions {
		return
	}
	many := new(subscriptionSet)
	for s := c.subscriptions; s != nil; {
		next := s.next
		many.Add(s)
		s = next
	}
	c.subscriptions, c.needRare().many = nil, many
}

// removeSubscription takes the same time however many there are.
func (c *client) removeSubscription(s *subscription) {
	c.hub.registry.leave(c, s)
	if many := c.many(); many != nil {
		many.Remove(s)
		return
	}
	at := &c.subscriptions
	for *at != s {
		at = &(*at).next
	}
	*at, s.next = s.next, nil
}

// traffic is where c is counted; nil when there is no app.
func (c *client) traffic() *traffic {
	if c.app == nil {
		return nil
	}
	return &c.app.perLoop[c.loop.index].traffic
}

// holdBack is called when c has given its app something to deliver. If that is too much
// for now, nothing more is read of c until it is less. Who only listens is never held.
func (c *client) holdBack() {
	if c.hub.behind(c.app) {
		c.loop.holder = &c.app.perLoop[c.loop.index].flow
	}
}

// sendText queues a text message and counts it.
func (c *client) sendText(message []byte) {
	c.countSent(len(message))
	c.conn.sendText(message)
}

func (c *client) countSent(n int) {
	if t := c.traffic(); t != nil && c.state == connOpen {
		t.sent.Add(1)
		t.sentBytes.Add(uint64(n))
	}
}

// sendError tells the client off. If the row says so, the connection ends: the error
// goes out before the close frame.
func (c *client) sendError(e *pusherError) {
	c.sendText(encodeError(e))
	c.hub.trace("Message Sent", c, e.message)
	if e.ending != nil {
		c.close(e.ending)
	} else {
		c.hub.refused.of(e.word).Add(1)
	}
}

func (c *client) handleOpen(now uint32) {
	switch {
	case c.rare != nil && c.rare.refuse != nil:
		c.sendError(c.rare.refuse)
		return
	case c.app.gone.Load(): // between the handshake and now
		c.sendError(errUnknownApp)
		return
	case !c.enterAddress():
		c.sendError(errAddressLimit)
		return
	}
	c.counted = true
	n, limit := c.app.connections.Add(1), int64(c.app.settings.Load().maxConnections)
	cluster := c.hub.registry.cluster
	switch {
	case cluster == nil:
		c.admit(now, limit == 0 || n <= limit)
	case limit == 0:
		cluster.SetCount(c.app.id)
		c.admit(now, true)
	default:
		cluster.Count(c.app.id, n, func(total int64, err error) {
			if err != nil {
				total = n // the others cannot be asked
			}
			c.loop.post(&admission{c, total <= limit})
		})
	}
}

// enterAddress counts c among the connections of its address, if these are limited, and
// says whether it may be there.
func (c *client) enterAddress() bool {
	limit := c.hub.tables.Load().maxPerAddress
	if c.rare == nil || c.rare.remote == nil || limit == 0 {
		return true
	}
	a, _ := addresses.Of(c.address())
	if c.rare.entered = c.hub.addresses.Enter(a, limit); c.rare.entered {
		return true
	}
	c.hub.refuse(errAddressLimit.word, a.String(), fmt.Sprintf("the address has %d connections; REVERB_MAX_CONNECTIONS_PER_ADDRESS allows no more", limit))
	return false
}

// admission is the task that lets in a client, or not, after the cluster was asked.
type admission struct {
	client *client
	ok     bool
}

func (a *admission) run(l *loop) {
	if a.client.state == connOpen {
		a.client.admit(l.now, a.ok)
	}
}

// admit welcomes the client or tells it that there are too many.
func (c *client) admit(now uint32, ok bool) {
	if !ok {
		c.hub.refuse(errOverQuota.word, c.address(), fmt.Sprintf("app %s has %d connections", c.app.id, c.app.settings.Load().maxConnections))
		c.sendError(errOverQuota)
		return
	}
	c.admitted = true
	c.traffic().connected.Add(1)
	c.sendEstablished()
	c.hub.trace("Connection Established", c, "")
	c.setDeadline(now + seconds(c.app.settings.Load().pingInterval))
}

func (c *client) sendEstablished() {
	data := fmt.Appendf(nil, `{"socket_id":"%s","activity_timeout":%d}`, c.id, seconds(c.app.settings.Load().activityTimeout))
	c.sendText(encodeEvent("pusher:connection_established", data, ""))
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

func (c *client) handleMessage(op opcode, message []byte) {
	if t := c.traffic(); t != nil {
		t.received.Add(1)
		t.receivedBytes.Add(uint64(len(message)))
	}
	e, err := event{}, error(nil)
	if op == opBinary && !utf8.Valid(message) {
		err = errors.New("binary message is not UTF-8")
	} else {
		e, err = parseEvent(message)
	}
	heartbeat := err == nil && (string(e.name) == "pusher:ping" || string(e.name) == "pusher:pong")
	if !heartbeat && c.limited() {
		return
	}
	c.hub.traceMessage("Message Received", c, message)
	switch {
	case err != nil:
		c.sendError(errFormat)
	case bytes.HasPrefix(e.name, []byte("pusher:")):
		c.handleEvent(e)
	case bytes.HasPrefix(e.name, []byte("client-")) && e.named:
		c.handleClientEvent(e)
	case !e.named:
		c.sendError(errFormat)
	}
	// Any other event is no business of the server; Reverb is silent too.
}

// limited counts a message against the rate limit and says whether it was one too
// many (Laravel: Illuminate\Cache\RateLimiter, a window that begins with the first).
func (c *client) limited() bool {
	limit := &c.app.settings.Load().limit
	if !limit.enabled {
		return false
	}
	r := c.needRare()
	if now := c.loop.now; int32(now-r.limitEnd) >= 0 || r.attempts == 0 {
		r.limitEnd, r.attempts = now+seconds(limit.decay), 0
	}
	if int(r.attempts) < limit.maxAttempts {
		r.attempts++
		return false
	}
	c.traffic().limited.Add(1)
	if limit.terminate {
		c.sendError(errRateLimitEnd)
	} else {
		c.sendError(errRateLimit)
	}
	return true
}

// handleEvent handles a pusher: event.
//
// The data of a heartbeat is never looked at: libraries send nothing, "", null, lists
// and objects, and a client that gets an error for its ping may reconnect for ever.
// Data that PHP calls empty names no channel, so a subscription with it is refused,
// as in Reverb.
func (c *client) handleEvent(e event) {
	switch string(e.name) {
	case "pusher:subscribe":
		if d, ok := parseSubscribe(e.data); ok {
			c.subscribe(d)
			return
		}
		c.sendError(errFormat)
	case "pusher:unsubscribe":
		d, ok := parseSubscribe(e.data)
		if !ok {
			c.sendError(errFormat)
		} else if s := c.find([]byte(d.channel)); s != nil {
			presence := s.ch.kind.presence
			if c.removeSubscription(s); presence {
				c.holdBack()
			}
		} else {
			c.cancelPending(d.channel)
		}
	case "pusher:ping":
		c.sendText(messagePong)
	case "pusher:pong":
	case "pusher:connection_established":
		c.sendEstablished() // Reverb: src/Protocols/Pusher/EventHandler.php
	default:
		c.sendError(errFormat)
	}
}

// subscribe handles pusher:subscribe. Causes are judged in Reverb's order.
func (c *client) subscribe(d subscribeData) {
	kind, err := parseChannelName(d.channel)
	if err != nil {
		c.refuseSubscription(d.channel, errChannelName, err.Error())
		return
	}
	signed := kind.private || kind.presence
	if a := c.app.settings.Load(); signed && !checkChannelAuth(a, c.id.String(), d.channel, d.channelData, d.auth) {
		c.refuseSubscription(d.channel, errUnauthorized, channelAuthFault(a, c.id.String(), d.channel, d.channelData, d.auth))
		return
	}
	var m *member
	var bad *pusherError
	reason := ""
	switch {
	case d.badData != "" && !signed:
		c.sendError(errFormat)
		return
	case d.badData != "":
		bad, reason = errDataFormat, d.badData
	case kind.presence:
		m, bad, reason = parsePresent(d.channelData)
	case d.channelData != nil && signed: // nobody vouches for it on a public channel
		m, _ = parseMember(d.channelData)
	}
	if bad != nil {
		c.refuseSubscription(d.channel, bad, reason)
		return
	}
	if limit := c.app.settings.Load().maxMemberSize; kind.presence && limit > 0 && len(d.channelData) > limit {
		c.refuseSubscription(d.channel, errMemberSize, fmt.Sprintf("it has %d bytes, %d are allowed", len(d.channelData), limit))
		return
	}
	s := c.find([]byte(d.channel))
	if s != nil && kind.presence && s.member.id != m.id {
		c.removeSubscription(s)
		s = nil
	}
	var j joined
	switch {
	case s != nil && kind.cache && c.hub.registry.cluster != nil:
		v := &rejoining{c, s, m}
		c.hub.registry.cluster.CatchUp(topicName(c.app, d.channel), func() { c.loop.post(v) })
		return
	case s != nil:
		j = c.hub.registry.rejoin(s, m, time.Now())
	case c.pending(d.channel) != nil && !kind.presence:
		return // asked for already; it is answered once
	case c.countSubscriptions() >= c.app.settings.Load().maxSubscribed:
		c.refuseSubscription(d.channel, errSubscriptions, fmt.Sprintf("a connection can hold %d", c.app.settings.Load().maxSubscribed))
		return
	case c.hub.short.Load():
		c.refuseSubscription(d.channel, errMemory, "")
		return
	case c.hub.registry.cluster != nil && kind.presence && !c.hub.registry.room(c.app, d.channel, m):
		c.refuseMember(d.channel)
		return
	case c.hub.registry.cluster != nil:
		c.cancelPending(d.channel) // as another user, perhaps
		v := &reservation{client: c, name: d.channel, kind: kind, member: m}
		c.addPending(v)
		c.hub.registry.joinCluster(v)
		return
	default:
		if s, j = c.hub.registry.join(c, d.channel, kind, m, time.Now()); s == nil {
			c.refuseMember(d.channel)
			return
		}
		c.addSubscription(s)
	}
	if kind.presence {
		c.holdBack()
	}
	c.sendJoined(s, j)
}

// refuseMember tells that a presence channel is full.
func (c *client) refuseMember(channel string) {
	c.refuseSubscription(channel, errMembers, fmt.Sprintf("a presence channel of this app can have %d", c.app.settings.Load().maxMembers))
}

// cancelPending gives up a subscription that the cluster has not granted yet.
func (c *client) cancelPending(channel string) {
	if v := c.pending(channel); v != nil {
		v.cancelled = true
		c.notPending(channel)
	}
}

// refuseSubscription tells of a failed subscription three times: pusher:error as
// Reverb does, with its text where it has one; the event for which Laravel Echo's
// .error() waits, with the reason; and the log.
func (c *client) refuseSubscription(channel string, e *pusherError, reason string) {
	why, told := e, e
	if reason != "" {
		why = e.because(reason)
		if told = why; e.reverb {
			told = e
		}
	}
	c.hub.logf(e.word, c.address(), fmt.Sprintf("app %s, channel %s, socket %s: %s", c.app.id, quoted(channel), c.id, why.message))
	c.sendError(told)
	c.sendText(encodeSubscriptionError(channel, e.kind, why.message, e.status))
}

func (c *client) sendJoined(s *subscription, j joined) {
	ch := s.ch
	if ch.kind.presence {
		c.hub.registry.lists.desks[c.loop.index].claim(c, s)
		return
	}
	c.sendText(encodeEvent("pusher_internal:subscription_succeeded", []byte("{}"), ch.name))
	switch {
	case j.cached != nil:
		c.countSent(len(j.cached.payload()))
		c.sendFrames(j.cached)
	case ch.kind.cache:
		c.sendText(encodeCacheMiss(ch.name))
	}
}

func encodeCacheMiss(channel string) []byte {
	return encodeEvent("pusher:cache_miss", []byte("{}"), channel)
}

// handleClientEvent relays a client-… event.
func (c *client) handleClientEvent(e event) {
	s, user := c.find(e.channel), ""
	switch policy := c.app.settings.Load().clientEvents; {
	case policy == clientEventsNone:
		c.sendError(errNoClientEvent)
		return
	case policy != clientEventsAll && s == nil:
		c.sendError(errNotMember)
		return
	case policy == clientEventsPrivate && !s.ch.kind.private && !s.ch.kind.presence:
		c.sendError(errNoClientEvent)
		return
	case c.app.held.Load():
		c.hub.logf(errMemory.word, c.address(), fmt.Sprintf("app %s, socket %s: a client event", c.app.id, c.id))
		c.sendError(errMemory)
		return
	case len(e.name) > maxNameBytes:
		c.sendError(errEventName.because(fmt.Sprintf("it has %d bytes, %d are allowed", len(e.name), maxNameBytes)))
		return
	}
	channel := ""
	if s == nil {
		channel = string(e.channel)
	} else if channel = s.ch.name; s.member != nil {
		user = s.member.id
	}
	cluster := c.hub.registry.cluster
	if cluster == nil && !c.hub.registry.occupied(c.app, channel) {
		return
	}
	c.traffic().clientEvents.Add(1)
	data := e.data
	if data == nil {
		data = []byte("null")
	}
	b := newEventBroadcast(e.name, data, channel, user, c.id, time.Now())
	defer c.holdBack()
	if _, err := parseChannelName(channel); cluster != nil && err == nil {
		cluster.Publish(topicName(c.app, channel), string(b.payload()), c.id.number(), false, nil)
		return
	}
	c.hub.registry.publish(c.app, channel, b, false)
}

// handleControl notes that the client speaks in control frames, as some do that
// never answer pusher:ping.
func (c *client) handleControl(op opcode) { c.control = true }

// handleDeadline is the heartbeat: after ping_interval of silence the client is
// pinged, after activity_timeout more it is closed.
func (c *client) handleDeadline(now uint32) {
	settings := c.app.settings.Load()
	interval, timeout := seconds(settings.pingInterval), seconds(settings.activityTimeout)
	if c.pinged && now-c.pingTick >= timeout {
		if c.loop.read(&c.conn); c.state != connOpen { // after a pause of the whole process the answer may be waiting
			return
		}
	}
	if c.pinged && int32(c.seen-c.pingTick) >= 0 {
		c.pinged = false
	}
	switch {
	case c.pinged && now-c.pingTick >= timeout:
		c.hub.trace("Connection Pruned", c, "")
		c.sendError(errNoPong)
	case c.pinged:
		c.setDeadline(c.pingTick + timeout)
	case now-c.seen < interval:
		c.setDeadline(c.seen + interval)
	default:
		c.pinged, c.pingTick = true, now
		if c.control {
			c.sendPing()
		} else {
			c.sendText(messagePing)
		}
		c.hub.trace("Connection Pinged", c, "")
		c.setDeadline(now + min(timeout, interval)) // the answer may have come long before the time is up
	}
}

func (c *client) handleDrain() { c.sendError(errRestart) }

// handleClosed takes the client out of everything that knows it.
func (c *client) handleClosed(e *ending) {
	for s := range c.all {
		c.hub.registry.leave(c, s)
	}
	c.subscriptions = nil
	if c.rare != nil {
		c.rare.many = nil
		if c.rare.entered {
			a, _ := addresses.Of(c.address())
			c.hub.addresses.Leave(a)
			c.rare.entered = false
		}
	}
	if c.counted {
		c.app.connections.Add(-1)
		if c.hub.registry.cluster != nil {
			c.hub.registry.cluster.SetCount(c.app.id)
		}
		if c.admitted {
			c.traffic().disconnected.Add(1)
		}
	}
	c.hub.closed.of(e.word).Add(1)
	c.hub.traceEnding(c, e)
}

// terminate is the task that closes every connection of a user, known by the
// presence channels it has joined.
type terminate struct {
	app  *app
	user string
}

func (t *terminate) run(l *loop) {
	for _, c := range l.conns {
		if c == nil || c.state != connOpen {
			continue
		}
		if c, ok := c.handler.(*client); ok && c.app == t.app && c.isUser(t.user) {
			c.sendError(errTerminated)
		}
	}
}

func (c *client) isUser(id string) bool {
	for s := range c.all {
		if s.ch.kind.presence && s.member.id == id {
			return true
		}
	}
	return false
}

// --- Hub ---

// hub serves a set of apps.
type hub struct {
	// constant after newHub
	registry *registry
	loops    *loops
	prefix   string                               // of every path; begins with a slash, or is empty
	full     func() bool                          // no descriptors are left for another connection
	detach   func(net.Conn) net.Conn              // takes off what the listener has put around a connection
	remote   func(*http.Request) string           // the client's address
	tracef   func(what, socketID, message string) // nil: nothing is traced
	logf     func(what, who, why string)          // tells of somebody who was refused
	openedf  func(who, app, socketID string)      // tells of an accepted connection; nil: nobody asks
	closed   tally                                // connections that ended, by the word of how
	refused  tally                                // who or what was turned away, by the word of why

	tables    atomic.Pointer[tables] // replaced as a whole by configure
	requests  sync.Pool              // of *apiRequest
	addresses addresses.Counter      // of connections that are limited by address
	short     atomic.Bool            // memory is short: no new subscriptions
}

// tables is what can be configured anew while the server runs. It is constant once
// made.
type tables struct {
	byKey, byID    map[string]*app
	former         map[string]*app // by ID: configured no more
	maxRequestSize int64           // bytes of a body
	authWindow     time.Duration   // 0: timestamps are not checked
	compression    bool
	maxPerAddress  int // connections of one address; 0: no limit
}

// known finds an app, even one that is configured no more: its channels go one by one.
func (t *tables) known(id string) *app {
	if a := t.byID[id]; a != nil {
		return a
	}
	return t.former[id]
}

// tally counts by word. Whatever is counted is there; words are constants of this
// program, so there are few.
type tally struct{ m sync.Map } // of *atomic.Uint64

// of is the counter of a word.
func (t *tally) of(word string) *atomic.Uint64 {
	n, ok := t.m.Load(word)
	if !ok {
		n, _ = t.m.LoadOrStore(word, new(atomic.Uint64))
	}
	return n.(*atomic.Uint64)
}

// counts are all counters as they stand.
func (t *tally) counts() map[string]uint64 {
	all := map[string]uint64{}
	t.m.Range(func(word, n any) bool {
		all[word.(string)] = n.(*atomic.Uint64).Load()
		return true
	})
	return all
}

// all calls yield for every app, those configured no more included.
func (t *tables) all(yield func(*app) bool) {
	for _, apps := range []map[string]*app{t.byID, t.former} {
		for _, a := range apps {
			if !yield(a) {
				return
			}
		}
	}
}

func newHub(apps []*appSettings, ls *loops) *hub {
	h := &hub{registry: newRegistry(ls), loops: ls, full: func() bool { return false },
		detach: func(nc net.Conn) net.Conn { return nc }, remote: func(r *http.Request) string { return r.RemoteAddr },
		logf: func(_, _, _ string) {}}
	for _, e := range endings { // metrics begin at zero
		h.closed.of(e.word)
	}
	for _, e := range pusherErrors {
		h.refused.of(e.word)
	}
	for _, word := range append(apiWords(), "handshake") {
		h.refused.of(word)
	}
	h.registry.hub = h
	h.tables.Store(&tables{})
	h.configure(apps, tables{maxRequestSize: 10_000, authWindow: 600 * time.Second})
	return h
}

// configure puts apps and t in force. An app that was there keeps its connections,
// one that is no more loses them.
func (h *hub) configure(apps []*appSettings, t tables) {
	old := h.tables.Load()
	t.byKey, t.byID, t.former = map[string]*app{}, map[string]*app{}, map[string]*app{}
	maps.Copy(t.former, old.former)
	maps.Copy(t.former, old.byID)
	for _, settings := range apps {
		a := old.known(settings.id)
		if a == nil {
			a = h.newApp(settings.id)
		}
		a.settings.Store(settings)
		a.gone.Store(false)
		delete(t.former, a.id)
		t.byID[settings.id], t.byKey[settings.key] = a, a
	}
	h.tables.Store(&t)
	for id, a := range t.former {
		if old.byID[id] != nil {
			a.gone.Store(true)
			for _, l := range h.loops.all {
				l.post(&dismissal{a})
			}
		}
	}
}

// survey is the task that finds the connections of a loop whose send queues hold most.
type survey struct {
	most int // so many at most
	out  chan<- surveyed
}

// surveyed is what survey has found.
type surveyed struct {
	queues []queueSize    // the longest first
	byApp  map[*app]int64 // bytes in all queues
}

type queueSize struct {
	client *client
	bytes  int32
}

// worthShedding is the shortest send queue for which a connection is closed when memory
// is short, in bytes.
const worthShedding = 16 << 10

func (s *survey) run(l *loop) {
	found := surveyed{byApp: map[*app]int64{}}
	for _, c := range l.conns {
		if c == nil || c.state != connOpen || c.queued == 0 {
			continue
		}
		cl, ok := c.handler.(*client)
		if !ok || cl.app == nil {
			continue
		}
		found.byApp[cl.app] += int64(c.queued)
		if c.queued >= worthShedding {
			found.queues = append(found.queues, queueSize{cl, c.queued})
		}
	}
	found.queues = longest(found.queues, s.most)
	s.out <- found
}

// longest returns the n longest queues.
func longest(queues []queueSize, n int) []queueSize {
	slices.SortFunc(queues, func(a, b queueSize) int { return cmp.Compare(b.bytes, a.bytes) })
	return queues[:min(n, len(queues))]
}

// shedding is the task that closes a connection that holds much.
type shedding struct{ client *client }

func (s *shedding) run(*loop) {
	if s.client.queued >= worthShedding { // it may have read meanwhile
		s.client.shed(endMemory)
	}
}

const (
	maxShed   = 10      // connections that one relief closes
	worthHold = 1 << 20 // bytes in the queues of an app that is held
)

// relieve makes room when memory is nearly used up: it closes the connections for which
// most waits, and holds the apps whose connections hold most, at least half as much as
// the first, until unhold. It waits for the loops as long as ctx allows.
func (h *hub) relieve(ctx context.Context) (closed int) {
	out := make(chan surveyed, len(h.loops.all))
	for _, l := range h.loops.all {
		l.post(&survey{maxShed, out})
	}
	var queues []queueSize
	byApp := map[*app]int64{}
	late := func(a *app) bool { return a.undelivered.Load() > maxUndelivered/16 } // a loop may be far behind with its events
	for a := range h.tables.Load().all {
		if late(a) {
			a.held.Store(true) // until the loops have told
		}
	}
	answers := 0
	for range h.loops.all {
		select {
		case found := <-out:
			answers++
			queues = append(queues, found.queues...)
			for a, n := range found.byApp {
				byApp[a] += n
			}
		case <-ctx.Done(): // one loop is far behind; the others' connections are known
		}
	}
	most := int64(worthHold)
	for _, n := range byApp {
		most = max(most, n)
	}
	for a := range h.tables.Load().all {
		a.held.Store(answers < len(h.loops.all) && late(a) || byApp[a] >= max(worthHold, most/2))
	}
	queues = longest(queues, maxShed)
	for _, q := range queues {
		q.client.loop.post(&shedding{q.client})
	}
	return len(queues)
}

// unhold lets every app publish again.
func (h *hub) unhold() {
	for a := range h.tables.Load().all {
		a.held.Store(false)
	}
}

// dismissal is the task that closes every connection of an app that is configured no
// more.
type dismissal struct{ app *app }

func (d *dismissal) run(l *loop) {
	if !d.app.gone.Load() {
		return // configured anew meanwhile
	}
	for _, c := range l.conns {
		if c == nil || c.state != connOpen {
			continue
		}
		if c, ok := c.handler.(*client); ok && c.app == d.app {
			c.sendError(errUnknownApp)
		}
	}
}

// refuse counts somebody who is turned away and tells the log.
func (h *hub) refuse(word, who, why string) {
	h.refused.of(word).Add(1)
	h.logf(word, who, why)
}

func (h *hub) trace(what string, c *client, message string) {
	if h.tracef != nil {
		h.tracef(what, c.id.String(), message)
	}
}

func (h *hub) traceMessage(what string, c *client, message []byte) {
	if h.tracef != nil {
		h.tracef(what, c.id.String(), withoutAuth(message))
	}
}

func (h *hub) traceEnding(c *client, e *ending) {
	if h.tracef != nil {
		h.tracef("Connection Closed", c.id.String(), e.word)
	}
}

// withoutAuth is a message fit to be shown: signatures open channels, so they are
// left out.
func withoutAuth(message []byte) string {
	s := string(message)
	if !strings.Contains(s, `"auth`) && !strings.Contains(s, `\u00`) {
		return s
	}
	e, err := parseEvent(message)
	switch {
	case err != nil:
		return fmt.Sprintf("%d bytes that hold a signature and are no message: %v", len(message), err)
	case string(e.name) == "pusher:subscribe":
		d, _ := parseSubscribe(e.data)
		return `{"event":"pusher:subscribe","data":{"channel":` + string(jsonraw.AppendString(nil, d.channel)) +
			`,"auth":"********","channel_data":` + string(jsonraw.AppendString(nil, d.channelData)) + `}}`
	case bytes.HasPrefix(e.name, []byte("pusher:")):
		return string(appendEvent(nil, e.name, []byte(`"********"`), "", ""))
	}
	return s
}

// serveWebSocket handles GET {prefix}/app/{key}: it upgrades the connection and
// gives it to a loop. Whether the client is welcome is told over the WebSocket,
// because that is where its library looks.
func (h *hub) serveWebSocket(w http.ResponseWriter, r *http.Request, key string) {
	if bad := checkHandshake(r); bad != nil {
		for name, value := range bad.header {
			w.Header().Set(name, value)
		}
		h.refuse("handshake", h.remote(r), bad.text)
		(&apiError{status: bad.status, text: bad.text}).write(w)
		return
	}
	t := h.tables.Load()
	c := &client{hub: h, app: t.byKey[key], id: newSocketID()}
	c.handler = c
	var refuse *pusherError
	switch {
	case h.full():
		refuse = errOverCapacity
	case c.app == nil:
		refuse = errUnknownApp
	case !origin.Match(c.app.settings.Load().allowedOrigins, r.Header.Get("Origin")):
		refuse = errOrigin
	}
	if refuse != nil {
		c.needRare().refuse = refuse
		h.refuse(refuse.word, h.remote(r), "key "+printable(key)+", origin "+printable(r.Header.Get("Origin")))
	} else if h.openedf != nil {
		h.openedf(h.remote(r), c.app.id, c.id.String())
	}
	if c.app != nil {
		c.maxMessage = int32(c.app.settings.Load().maxMessageSize) // at most 64 MiB
	}
	c.deflate = t.compression && acceptsDeflate(r.Header["Sec-Websocket-Extensions"])
	first := appendHandshake(nil, r.Header.Get("Sec-WebSocket-Key"), c.deflate, "X-Powered-By: Laravel Reverb\r\n")
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		(&apiError{status: http.StatusInternalServerError, text: "This connection cannot be upgraded."}).write(w)
		return
	}
	nc = h.detach(nc) // what the listener has wrapped; see loops.sockets
	if remote := h.remote(r); t.maxPerAddress > 0 || remote != socketAddr(nc) {
		c.setRemote(remote)
	}
	early := make([]byte, buffered.Reader.Buffered())
	io.ReadFull(buffered.Reader, early) // from memory
	h.loops.adopt(&c.conn, nc, first, early)
}

// --- HTTP API ---
//
//	GET  {prefix}/up
//	GET  {prefix}/app/{key}                                      the WebSocket
//	POST {prefix}/apps/{id}/events
//	POST {prefix}/apps/{id}/batch_events
//	GET  {prefix}/apps/{id}/connections
//	GET  {prefix}/apps/{id}/channels                             ?info=…&filter_by_prefix=…
//	GET  {prefix}/apps/{id}/channels/{channel}                   ?info=…
//	GET  {prefix}/apps/{id}/channels/{channel}/users
//	POST {prefix}/apps/{id}/users/{user}/terminate_connections

// apiError is an answer other than 200. Laravel shows text as "Pusher error: …".
type apiError struct {
	status int
	text   string
	allow  string
	fields []fieldError // 422: in place of text
}

// fieldError is a complaint about one field of a body, worded as Laravel's validator
// does.
type fieldError struct{ field, text string }

// apiWords are the words of refused requests.
func apiWords() (words []string) {
	for status := 400; status < 600; status++ {
		if word := (&apiError{status: status}).word(); !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words
}

// word names the refusal for the log and metrics.
func (e *apiError) word() string {
	switch e.status {
	case http.StatusUnauthorized:
		return "unauthorized"
	case http.StatusNotFound:
		return "not_found"
	case http.StatusMethodNotAllowed:
		return "method_not_allowed"
	case http.StatusRequestEntityTooLarge:
		return "payload_too_large"
	case http.StatusUnprocessableEntity:
		return "unprocessable"
	case http.StatusServiceUnavailable, http.StatusInternalServerError:
		return "unavailable"
	}
	return "bad_request"
}

// line is the refusal in one line, for the log.
func (e *apiError) line() string {
	if len(e.fields) > 0 {
		return e.fields[0].text
	}
	return e.text
}

func (e *apiError) write(w http.ResponseWriter) {
	if e.allow != "" {
		w.Header().Set("Allow", e.allow)
	}
	if e.fields == nil {
		writeBody(w, e.status, headerText, []byte(e.text))
		return
	}
	b := []byte{'{'}
	for i := 0; i < len(e.fields); {
		if i > 0 {
			b = append(b, ',')
		}
		field := e.fields[i].field
		b = append(jsonraw.AppendString(b, field), ":["...)
		for n := 0; i < len(e.fields) && e.fields[i].field == field; i, n = i+1, n+1 {
			if n > 0 {
				b = append(b, ',')
			}
			b = jsonraw.AppendString(b, e.fields[i].text)
		}
		b = append(b, ']')
	}
	writeJSON(w, e.status, append(b, '}'))
}

// Values of headers, which net/http does not change.
var (
	headerJSON    = []string{"application/json"}
	headerText    = []string{"text/plain; charset=utf-8"}
	headerNoCache = []string{"no-cache, private"}
	headerNoSniff = []string{"nosniff"}
)

var emptyObject = []byte("{}")

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	writeBody(w, status, headerJSON, body)
}

func writeBody(w http.ResponseWriter, status int, contentType []string, body []byte) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h["Cache-Control"] = headerNoCache
	h["X-Content-Type-Options"] = headerNoSniff
	w.WriteHeader(status)
	w.Write(body) // the client may be gone; nobody is left to be told
}

// apiRequest is a request whose signature has been verified. Its memory is used again
// for another: nothing of it is kept, strings excepted.
type apiRequest struct {
	app   *app
	query params
	body  []byte
	now   time.Time
	args  []string // what stands in the path: a channel, a user
}

// maxKeptBody is the largest body whose memory is used again.
const maxKeptBody = 64 << 10

func (h *hub) takeRequest() *apiRequest {
	if r, ok := h.requests.Get().(*apiRequest); ok {
		return r
	}
	return &apiRequest{}
}

func (h *hub) giveRequest(r *apiRequest) {
	clear(r.query)
	body := r.body[:0]
	if cap(body) > maxKeptBody {
		body = nil
	}
	*r = apiRequest{query: r.query[:0], body: body}
	h.requests.Put(r)
}

// route is one address of the API below /apps/{id}. In path, * stands for one
// argument.
type route struct {
	method string
	path   []string
	handle func(h *hub, ctx context.Context, r *apiRequest) ([]byte, *apiError)
}

var apiRoutes = [...]route{
	{"POST", []string{"events"}, (*hub).handleEvents},
	{"POST", []string{"batch_events"}, (*hub).handleBatch},
	{"GET", []string{"connections"}, (*hub).handleConnections},
	{"GET", []string{"channels"}, (*hub).handleChannels},
	{"GET", []string{"channels", "*"}, (*hub).handleChannel},
	{"GET", []string{"channels", "*", "users"}, (*hub).handleUsers},
	{"POST", []string{"users", "*", "terminate_connections"}, (*hub).handleTerminate},
}

// match returns the arguments in path if the route is meant.
func (rt *route) match(path []string) (args []string, ok bool) {
	if len(path) != len(rt.path) {
		return nil, false
	}
	for i, want := range rt.path {
		if want == "*" && path[i] != "" {
			args = append(args, path[i])
		} else if want != path[i] {
			return nil, false
		}
	}
	return args, true
}

var errNotFound = &apiError{status: http.StatusNotFound, text: "Not found."}

// ServeHTTP serves the API and the WebSocket.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sent := cmp.Or(r.URL.RawPath, r.URL.EscapedPath()) // EscapedPath escapes anew what it finds escaped wrongly
	raw, ok := strings.CutPrefix(oneSlash(sent), h.prefix)
	if !ok || !strings.HasPrefix(raw, "/") {
		errNotFound.write(w)
		return
	}
	raw = oneSlash(raw)
	path := make([]string, 0, 8) // no address has more
	for rest, more := raw[1:], true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		part, err := url.PathUnescape(part)
		if err != nil || strings.Contains(part, "/") || len(path) == cap(path) {
			errNotFound.write(w)
			return
		}
		path = append(path, part)
	}
	switch {
	case len(path) == 1 && path[0] == "up":
		if e := checkMethod(r.Method, http.MethodGet); e != nil {
			e.write(w)
			return
		}
		writeJSON(w, http.StatusOK, []byte(`{"health":"OK"}`))
	case len(path) == 2 && path[0] == "app" && path[1] != "":
		h.serveWebSocket(w, r, path[1])
	case len(path) > 2 && path[0] == "apps":
		h.serveAPI(w, r, &requestPath{h.prefix, raw, sent}, path[1], path[2:])
	default:
		errNotFound.write(w)
	}
}

// oneSlash is path with exactly one slash in front: clients put a base that ends in one
// before paths that begin with one.
func oneSlash(path string) string {
	if strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") {
		return path
	}
	return "/" + strings.TrimLeft(path, "/")
}

func checkMethod(got, want string) *apiError {
	if got = strings.ToUpper(got); got == want || got == http.MethodHead && want == http.MethodGet {
		return nil
	}
	return &apiError{status: http.StatusMethodNotAllowed, text: "Method not allowed.", allow: want}
}

func (h *hub) serveAPI(w http.ResponseWriter, r *http.Request, whole *requestPath, id string, path []string) {
	for i := range apiRoutes {
		rt := &apiRoutes[i]
		args, ok := rt.match(path)
		if !ok {
			continue
		}
		body, fail := []byte(nil), checkMethod(r.Method, rt.method)
		if fail == nil {
			req := h.takeRequest()
			if fail = h.admit(w, r, whole, id, req); fail == nil {
				req.args = args
				body, fail = rt.handle(h, r.Context(), req)
				api := &req.app.api
				api.calls.Add(1)
				api.receivedBytes.Add(uint64(len(req.body)))
				api.sentBytes.Add(uint64(len(body)))
			}
			h.giveRequest(req)
		}
		if fail != nil {
			h.refuse(fail.word(), h.remote(r), r.Method+" "+printable(whole.rest)+": "+fail.line())
			fail.write(w)
			return
		}
		writeJSON(w, http.StatusOK, body)
		return
	}
	errNotFound.write(w)
}

// admit reads a request into req and verifies its signature.
func (h *hub) admit(w http.ResponseWriter, r *http.Request, path *requestPath, id string, req *apiRequest) *apiError {
	t := h.tables.Load()
	if req.app = t.byID[id]; req.app == nil {
		return &apiError{status: http.StatusNotFound, text: "No matching application for ID [" + printable(id) + "]."}
	}
	if r.ContentLength > t.maxRequestSize {
		return &apiError{status: http.StatusRequestEntityTooLarge,
			text: fmt.Sprintf("Payload too large: the body has %d bytes, REVERB_MAX_REQUEST_SIZE allows %d.", r.ContentLength, t.maxRequestSize)}
	}
	var err error
	if req.body, err = readBody(req.body, w, r, t.maxRequestSize); err != nil {
		if over := (*http.MaxBytesError)(nil); errors.As(err, &over) {
			return &apiError{status: http.StatusRequestEntityTooLarge, text: fmt.Sprintf("Payload too large: REVERB_MAX_REQUEST_SIZE allows %d bytes.", t.maxRequestSize)}
		}
		return &apiError{status: http.StatusBadRequest, text: "Bad request: the body ended before it was complete."}
	}
	if req.query, err = parseQuery(req.query, r.URL.RawQuery); err != nil {
		return badRequest("the query cannot be decoded: %v", err)
	}
	req.now = time.Now()
	return checkRequestAuth(req.app.settings.Load(), r.Method, path, req.query, req.body, req.now, t.authWindow)
}

// readBody reads the body of a request, of at most limit bytes, into b if it fits.
func readBody(b []byte, w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength < 0 {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	}
	if r.ContentLength > maxKeptBody { // no more memory at once than has come, doubled
		return io.ReadAll(io.LimitReader(r.Body, limit))
	}
	b = slices.Grow(b[:0], int(r.ContentLength))[:r.ContentLength]
	_, err := io.ReadFull(r.Body, b)
	return b, err
}

// apiEvent is one event to be published.
type apiEvent struct {
	name     []byte // part of the body; so is data
	data     []byte // a JSON string, as it stood in the body
	channels []string
	except   socketID
	info     []string
}

// blank says whether Laravel's rule "required" fails: absent, null, a string of
// spaces, an empty list or object.
func blank(value []byte) bool {
	if len(value) > 1 && value[0] == '"' {
		if c := value[1]; c > ' ' && c < utf8.RuneSelf && c != '\\' && c != '"' {
			return false // it begins with something: most do, and data can be long
		}
		s, ok := jsonraw.Bytes(value)
		return ok && len(bytes.TrimSpace(s)) == 0
	}
	empty := true
	switch {
	case len(value) == 0 || value[0] == 'n':
	case value[0] == '[':
		jsonraw.Array(value, func([]byte) { empty = false }) // valid: it is part of a valid text
	case value[0] == '{':
		jsonraw.Object(value, func(_, _ []byte) { empty = false })
	default:
		return false
	}
	return empty
}

// apiFields are the values of an event as they stand in a body; nil when absent.
type apiFields struct{ name, data, channel, channels, socketID, info []byte }

// parseAPIEvent reads one event of a body. field prefixes the names in complaints.
// batch says that the event goes to one channel, as in a batch.
func parseAPIEvent(body []byte, field string, batch bool) (e apiEvent, fields []fieldError, err error) {
	var v apiFields
	err = jsonraw.Object(body, func(key, value []byte) {
		switch string(key) {
		case "name":
			v.name = value
		case "data":
			v.data = value
		case "channel":
			v.channel = value
		case "channels":
			v.channels = value
		case "socket_id":
			v.socketID = value
		case "info":
			v.info = value
		}
	})
	if errors.Is(err, jsonraw.ErrNotObject) {
		err = nil // then everything required is missing
	}
	complain := func(name, text string) {
		label := strings.ReplaceAll(field+name, "_", " ")
		fields = append(fields, fieldError{field + name, "The " + label + " field " + text})
	}
	required := func(name string, value []byte) {
		if blank(value) {
			complain(name, "is required.")
		} else if value[0] != '"' {
			complain(name, "must be a string.")
		}
	}
	decodable := func(name string, value []byte) {
		if _, ok := jsonraw.Bytes(value); !ok && len(value) > 0 && value[0] == '"' {
			complain(name, "must not hold half of a surrogate pair.")
		}
	}
	required("name", v.name)
	decodable("name", v.name)
	required("data", v.data)
	e.name, _ = jsonraw.Bytes(v.name)
	e.data = v.data
	if batch { // only channel counts
		if v.channels = nil; blank(v.channel) {
			complain("channel", "is required when channels is not present.")
		} else {
			required("channel", v.channel)
		}
	}
	e.channels = v.channelNames()
	if !batch {
		v.checkChannels(len(e.channels), complain)
	}
	decodable("channel", v.channel)
	if v.socketID != nil && v.socketID[0] != '"' {
		complain("socket_id", "must be a string.")
	}
	decodable("socket_id", v.socketID)
	if v.info != nil && v.info[0] != '"' {
		complain("info", "must be a string.")
	}
	decodable("info", v.info)
	if len(fields) > 0 || err != nil {
		return e, fields, err
	}
	if v.socketID != nil {
		id, _ := jsonraw.String(v.socketID)
		e.except = parseSocketID(id)
	}
	if info, ok := jsonraw.String(v.info); ok {
		e.info = strings.Split(info, ",")
	}
	return e, nil, nil
}

// checkChannels judges channels and channel, of which names were read.
func (v *apiFields) checkChannels(names int, complain func(name, text string)) {
	if blank(v.channels) && blank(v.channel) {
		complain("channels", "is required when channel is not present.")
		complain("channel", "is required when channels is not present.")
		return
	}
	if len(v.channels) > 0 && v.channels[0] != '[' && v.channels[0] != '{' {
		complain("channels", "must be an array.")
	} else if !blank(v.channels) && names == 0 {
		complain("channels", "must be an array of strings.")
	}
	if len(v.channel) > 0 && v.channel[0] != '"' {
		complain("channel", "must be a string.")
	}
}

// channelNames are the names in channels, or else the one in channel. There are none
// if one of them is no name.
func (v *apiFields) channelNames() (names []string) {
	bad := false
	add := func(value []byte) {
		s, ok := scalarText(value)
		names, bad = append(names, s), bad || !ok
	}
	if !blank(v.channels) {
		jsonraw.Array(v.channels, add)
		jsonraw.Object(v.channels, func(_, value []byte) { add(value) }) // one of the two finds nothing
	} else {
		add(v.channel)
	}
	if bad {
		return nil
	}
	return names
}

// checkAPIEvent judges what the rules of the body cannot.
func checkAPIEvent(e *apiEvent) *apiError {
	switch {
	case len(e.channels) > maxChannelsEvent:
		return badRequest("the event is for %d channels; %d are allowed", len(e.channels), maxChannelsEvent)
	case len(e.name) > maxNameBytes:
		return badRequest("the event's name has %d bytes; %d are allowed", len(e.name), maxNameBytes)
	}
	for _, name := range e.channels {
		if _, err := parseChannelName(strings.TrimPrefix(name, "#")); err != nil {
			return badRequest("channel %s: %v", quoted(name), err)
		}
	}
	return nil
}

func badRequest(format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, text: "Bad request: " + fmt.Sprintf(format, args...) + "."}
}

// bodyError is what a body that is no JSON is answered with.
func bodyError(body []byte, err error) *apiError {
	if !utf8.Valid(body) {
		return badRequest("the body is not UTF-8")
	}
	return badRequest("the body is not JSON: %v", err)
}

// publish sends an event to its channels, waits until it is accepted, and tells how
// each channel stands if info is wanted.
func (h *hub) publish(ctx context.Context, a *app, e *apiEvent, now time.Time) ([]stats, *apiError) {
	o := outcome{room: len(e.channels)}
	all := h.send(a, e, now, &o)
	if fail := o.wait(ctx); fail != nil {
		return nil, fail
	}
	return h.statsOf(ctx, a, e, all, now), nil
}

// outcome is what becomes of events that were given to the cluster.
type outcome struct {
	accepted chan error // made when it is needed
	room     int        // for all of them
	sent     int
}

// send gives an event to its channels. In a cluster it is on its way then; else it is
// delivered, and send tells how each channel stands if info is wanted.
func (h *hub) send(a *app, e *apiEvent, now time.Time, o *outcome) (all []stats) {
	a.api.events.Add(1)
	if e.info != nil {
		all = make([]stats, len(e.channels))
	}
	for i, name := range e.channels {
		b := newEventBroadcast(e.name, e.data, name, "", e.except, now)
		kind, err := parseChannelName(name)
		if h.registry.cluster == nil || err != nil {
			if st := h.registry.publish(a, name, b, true); all != nil {
				all[i] = st
			}
		} else {
			if o.accepted == nil {
				o.accepted = make(chan error, o.room)
			}
			accepted := o.accepted
			h.registry.cluster.Publish(topicName(a, name), string(b.payload()), e.except.number(), kind.cache, func(err error) { accepted <- err })
			o.sent++
		}
		if h.tracef != nil {
			h.tracef("Broadcasting To", name, string(b.payload()))
		}
	}
	return all
}

// wait waits until everything that was sent is accepted.
func (o *outcome) wait(ctx context.Context) *apiError {
	for range o.sent {
		select {
		case err := <-o.accepted:
			if err != nil {
				return &apiError{status: http.StatusServiceUnavailable, text: err.Error()}
			}
		case <-ctx.Done():
			return &apiError{status: http.StatusServiceUnavailable, text: "The request was given up."}
		}
	}
	return nil
}

// statsOf tells how the channels of an event stand, if info is wanted. here is what
// send has told.
func (h *hub) statsOf(ctx context.Context, a *app, e *apiEvent, here []stats, now time.Time) []stats {
	if h.registry.cluster == nil || e.info == nil {
		return here
	}
	return h.stats(ctx, a, e.channels, now)
}

// stats tells how channels stand, in the whole cluster if there is one and it can be
// asked.
func (h *hub) stats(ctx context.Context, a *app, names []string, now time.Time) []stats {
	all, topics := make([]stats, len(names)), []string(nil)
	for i, name := range names {
		all[i] = h.registry.channelStats(a, name, now)
		topics = append(topics, topicName(a, name))
	}
	if h.registry.cluster == nil {
		return all
	}
	subscriptions, users, cached, err := h.registry.cluster.Stats(ctx, topics)
	if err != nil {
		return all
	}
	for i := range all {
		if subscriptions[i] < 0 {
			continue // what is known here
		}
		all[i].kind, _ = parseChannelName(names[i])
		all[i].subscriptions, all[i].users, all[i].occupied = subscriptions[i], users[i], subscriptions[i] > 0
		if all[i].cached = nil; all[i].kind.cache && cached[i] != "" {
			all[i].cached = newFrames([]byte(cached[i]))
		}
	}
	return all
}

// occupied lists the occupied channels of an app whose name begins with prefix.
func (h *hub) occupied(ctx context.Context, a *app, prefix string, info bool, now time.Time) map[string]stats {
	if h.registry.cluster == nil {
		return h.registry.all(a, prefix, now)
	}
	topics, err := h.registry.cluster.OccupiedTopics(ctx)
	if err != nil {
		return h.registry.all(a, prefix, now)
	}
	var names []string
	for _, topic := range topics {
		if app, name := cutTopic(topic); app == a.id && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	found := make(map[string]stats, len(names))
	all := make([]stats, len(names))
	if info {
		all = h.stats(ctx, a, names, now)
	}
	for i, name := range names {
		if !info || all[i].occupied { // between the two questions it may have emptied
			found[name] = all[i]
			if !info {
				kind, _ := parseChannelName(name)
				found[name] = stats{kind: kind, occupied: true}
			}
		}
	}
	return found
}

// awaitRoom waits until the app's events can be delivered, so that a publisher who is
// faster than the network fills its own queue and not this server's memory. Requests that
// wait go on one after the other: the next when what the one before has published is
// counted, which it says with done.
func (h *hub) awaitRoom(ctx context.Context, a *app) (done func(), fail *apiError) {
	if len(a.turnstile) == 0 && !h.behind(a) {
		return func() {}, nil
	}
	patience := time.NewTimer(roomPatience)
	defer patience.Stop()
	wait := func(c <-chan time.Time, turn chan<- struct{}) *apiError {
		select {
		case <-c:
		case turn <- struct{}{}:
		case <-ctx.Done():
			return &apiError{status: http.StatusServiceUnavailable, text: "The request was given up."}
		case <-patience.C:
			return &apiError{status: http.StatusServiceUnavailable, text: "The server is behind with delivering; send again shortly."}
		}
		return nil
	}
	if fail := wait(nil, a.turnstile); fail != nil {
		return nil, fail
	}
	done = func() { <-a.turnstile }
	for h.behind(a) {
		if fail := wait(time.After(roomPause), nil); fail != nil {
			done()
			return nil, fail
		}
	}
	if h.registry.cluster != nil { // what is published is counted when it comes back
		done()
		done = func() {}
	}
	return done, nil
}

func (h *hub) handleEvents(ctx context.Context, r *apiRequest) ([]byte, *apiError) {
	if !utf8.Valid(r.body) {
		return nil, bodyError(r.body, nil)
	}
	e, fields, err := parseAPIEvent(r.body, "", false)
	if err != nil && len(r.body) > 0 {
		return nil, bodyError(r.body, err)
	}
	if fields != nil {
		return nil, &apiError{status: http.StatusUnprocessableEntity, fields: fields}
	}
	if fail := checkAPIEvent(&e); fail != nil {
		return nil, fail
	}
	done, fail := h.awaitRoom(ctx, r.app)
	if fail != nil {
		return nil, fail
	}
	defer done()
	all, fail := h.publish(ctx, r.app, &e, r.now)
	if fail != nil {
		return nil, fail
	}
	if e.info == nil {
		return emptyObject, nil
	}
	b := []byte(`{"channels":{`)
	for i, name := range e.channels {
		if slices.Contains(e.channels[:i], name) {
			continue
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsonraw.AppendString(b, name), ':')
		b = appendStats(b, all[i], e.info)
	}
	return append(b, "}}"...), nil
}

func (h *hub) handleBatch(ctx context.Context, r *apiRequest) ([]byte, *apiError) {
	if !utf8.Valid(r.body) {
		return nil, bodyError(r.body, nil)
	}
	events, fields, err := parseBatch(r.body)
	if err != nil && len(r.body) > 0 {
		return nil, bodyError(r.body, err)
	}
	if fields != nil {
		return nil, &apiError{status: http.StatusUnprocessableEntity, fields: fields}
	}
	if len(events) > maxEventsBatch {
		return nil, badRequest("the batch has %d events; %d are allowed", len(events), maxEventsBatch)
	}
	info := false
	var o outcome
	for i := range events {
		if fail := checkAPIEvent(&events[i]); fail != nil {
			return nil, fail
		}
		info = info || events[i].info != nil
		o.room += len(events[i].channels)
	}
	done, fail := h.awaitRoom(ctx, r.app)
	if fail != nil {
		return nil, fail
	}
	defer done()
	here := make([][]stats, len(events))
	for i := range events { // all are on their way before the first is waited for
		here[i] = h.send(r.app, &events[i], r.now, &o)
	}
	if fail := o.wait(ctx); fail != nil {
		return nil, fail
	}
	if !info {
		return emptyObject, nil
	}
	b := []byte(`{"batch":[`)
	for i := range events {
		if i > 0 {
			b = append(b, ',')
		}
		st := stats{}
		if all := h.statsOf(ctx, r.app, &events[i], here[i], r.now); all != nil {
			st = all[0]
		}
		b = appendStats(b, st, events[i].info)
	}
	return append(b, "]}"...), nil
}

// parseBatch reads the body of batch_events.
func parseBatch(body []byte) (events []apiEvent, fields []fieldError, err error) {
	var batch []byte
	err = jsonraw.Object(body, func(key, value []byte) {
		if string(key) == "batch" {
			batch = value
		}
	})
	if err != nil && !errors.Is(err, jsonraw.ErrNotObject) {
		return nil, nil, err
	}
	if blank(batch) {
		return nil, []fieldError{{"batch", "The batch field is required."}}, nil
	}
	each := func(value []byte) {
		e, bad, _ := parseAPIEvent(value, fmt.Sprintf("batch.%d.", len(events)), true) // part of a valid text
		events, fields = append(events, e), append(fields, bad...)
	}
	if batch[0] == '{' {
		jsonraw.Object(batch, func(_, value []byte) { each(value) })
	} else if jsonraw.Array(batch, each) != nil {
		return nil, []fieldError{{"batch", "The batch field must be an array."}}, nil
	}
	return events, fields, nil
}

// appendStats appends what info asks for, as far as the channel has it.
func appendStats(b []byte, s stats, info []string) []byte {
	b = append(b, '{')
	from := len(b)
	member := func(name string) {
		if len(b) > from {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), `":`...)
	}
	for _, name := range []string{"occupied", "user_count", "subscription_count", "cache"} {
		if !slices.Contains(info, name) {
			continue
		}
		switch {
		case name == "occupied":
			member(name)
			b = strconv.AppendBool(b, s.occupied)
		case name == "user_count" && s.kind.presence:
			member(name)
			b = strconv.AppendInt(b, int64(s.users), 10)
		case name == "subscription_count":
			member(name)
			b = strconv.AppendInt(b, int64(s.subscriptions), 10)
		case name == "cache" && s.cached != nil:
			member(name)
			b = append(b, s.cached.payload()...)
		}
	}
	return append(b, '}')
}

func (h *hub) handleConnections(ctx context.Context, r *apiRequest) ([]byte, *apiError) {
	n := r.app.connections.Load()
	if h.registry.cluster != nil {
		total := make(chan int64, 1)
		h.registry.cluster.Count(r.app.id, n, func(all int64, err error) {
			if err != nil {
				all = n
			}
			total <- all
		})
		select {
		case n = <-total:
		case <-ctx.Done():
		}
	}
	return fmt.Appendf(nil, `{"connections":%d}`, n), nil
}

func (h *hub) handleChannels(ctx context.Context, r *apiRequest) ([]byte, *apiError) {
	found := h.occupied(ctx, r.app, r.query.get("filter_by_prefix"), r.query.get("info") != "", r.now)
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	b, info := []byte(`{"channels":{`), strings.Split(r.query.get("info"), ",")
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsonraw.AppendString(b, name), ':')
		b = appendStats(b, found[name], info)
	}
	return append(b, "}}"...), nil
}

func (h *hub) handleChannel(ctx context.Context, r *apiRequest) ([]byte, *apiError) {
	info := append(strings.Split(r.query.get("info"), ","), "occupied")
	return appendStats(nil, h.stats(ctx, r.app, r.args[:1], r.now)[0], info), nil
}

func (h *hub) handleUsers(ctx context.Context, r *apiRequest) ([]byte, *apiError) {
	name := r.args[0]
	kind, err := parseChannelName(name)
	if err != nil {
		return nil, badRequest("channel %s: %v", quoted(name), err)
	}
	if !kind.presence {
		return nil, badRequest("only presence channels have users; %s is not a presence channel", quoted(name))
	}
	members := h.registry.users(r.app, name)
	if h.registry.cluster != nil {
		if ids, err := h.registry.cluster.Members(ctx, topicName(r.app, name)); err == nil {
			members = nil
			for _, id := range ids {
				members = append(members, &member{id: id})
			}
		}
	}
	b := []byte(`{"users":[`)
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsonraw.AppendString(append(b, `{"id":`...), m.id), '}')
	}
	return append(b, "]}"...), nil
}

func (h *hub) handleTerminate(ctx context.Context, r *apiRequest) ([]byte, *apiError) {
	if h.registry.cluster != nil {
		done := make(chan struct{})
		h.registry.cluster.TerminateAll(r.app.id, r.args[0], func(error) { close(done) }) // without Redis, here alone
		select {
		case <-done:
		case <-ctx.Done():
		}
		return []byte("{}"), nil
	}
	for _, l := range h.loops.all {
		l.post(&terminate{r.app, r.args[0]})
	}
	return []byte("{}"), nil
}
