package protocol

import (
	"fmt"
	"net/http"
)

// Error is a row of the table below: a cause for which a client gets an error, and how it is told.
// A row never changes.
type Error struct {
	Row   int    // the index in Errors; a copy with a reason keeps it
	Code  int    // in pusher:error; 0: null, and the connection stays open
	Close uint16 // the code with which the connection is closed; 0: it stays open
	// Message stands in pusher:error, and is the reason of the close frame. It has at most 123
	// bytes where Close is set (RFC 6455 §5.5).
	Message string
	Word    string // for logs and the labels of metrics
	Reverb  bool   // Reverb sends Code for the same cause

	Kind   string // type in pusher:subscription_error; empty: that event is not sent
	Status int    // in pusher:subscription_error
}

var table []*Error

// Errors lists every row of the table, by Row. The caller must not change it.
func Errors() []*Error { return table }

// newError adds a row to the table. No other function makes an Error.
func newError(code int, closes uint16, word, message string) *Error {
	e := &Error{Row: len(table), Code: code, Close: closes, Message: message, Word: word}
	table = append(table, e)
	return e
}

// asReverb says that Reverb sends the row's code for the same cause.
func (e *Error) asReverb() *Error { e.Reverb = true; return e }

// ofSubscription says that the row refuses a subscription. The client is told so in
// pusher:subscription_error too.
func (e *Error) ofSubscription(kind string, status int) *Error {
	e.Kind, e.Status = kind, status
	return e
}

// because returns a copy of e with a reason after its message.
func (e *Error) because(reason string) *Error {
	with := *e
	with.Message += ": " + reason
	return &with
}

// Refusal says how a subscription to a channel is refused with e for a reason; empty: there is
// nothing to add. told stands in pusher:error, with Reverb's text if Reverb has one. why is for the
// log, and stands in message, pusher:subscription_error.
func (e *Error) Refusal(channel, reason string) (told *Error, why string, message []byte) {
	told, why = e, e.Message
	if reason != "" {
		with := e.because(reason)
		if why = with.Message; !e.Reverb {
			told = with
		}
	}
	return told, why, encodeSubscriptionError(channel, e.Kind, why, e.Status)
}

// RateLimited is the error of a message beyond the rate limit, which ends the connection or does
// not.
func RateLimited(ends bool) *Error {
	if ends {
		return errRateLimitEnd
	}
	return errRateLimit
}

// NotAuthorized is the error of a connection that nothing has authorized for so many seconds.
func NotAuthorized(seconds uint32) *Error {
	with := *errNotAuthorized
	with.Message = fmt.Sprintf("Connection not authorized within %d seconds: "+
		"sign in, or subscribe to a private or presence channel", seconds)
	return &with
}

// The table. Codes tell clients what to do: after 4000 to 4099 a client stops for good, after 4200
// to 4299 it reconnects at once (Pusher Channels Protocol, Error Codes). So a row that leaves the
// connection open has no code, as hosted Pusher does it, unless Reverb sends one for the same
// cause. Texts are Reverb's where Reverb has one. 43xx is never a close code: pusher-js would not
// come back.
var (
	ErrUnknownApp = newError(4001, 4001, "unknown_app", "Application does not exist").asReverb()
	ErrOverQuota  = newError(4004, 4004, "over_quota",
		"Application is over connection quota").asReverb()
	ErrOrigin     = newError(4009, 4009, "origin_not_allowed", "Origin not allowed").asReverb()
	ErrTerminated = newError(4009, 4009, "terminated",
		"The application has closed this user's connections")
	errNotAuthorized = newError(4009, 4009, "not_authorized", "Connection not authorized in time: "+
		"sign in, or subscribe to a private or presence channel")
	ErrKicked       = newError(4009, 4009, "kicked", "An operator has closed this connection")
	ErrOverCapacity = newError(4100, 4100, "over_capacity",
		"The server is over capacity; try again shortly")
	ErrRestart      = newError(4200, 4200, "restart", "The server is restarting; reconnect")
	ErrMoved        = newError(4200, 4200, "kicked", "An operator asks this client to reconnect")
	ErrNoPong       = newError(4201, 4201, "no_pong", "Pong reply not received in time").asReverb()
	errRateLimit    = newError(4301, 0, "rate_limited", "Rate limit exceeded").asReverb()
	errRateLimitEnd = newError(4301, 1008, "rate_limited", "Rate limit exceeded").asReverb()
	ErrFormat       = newError(4200, 0, "invalid_message", "Invalid message format").asReverb()
	ErrNotMember    = newError(4009, 0, "not_a_member",
		"The client is not a member of the specified channel.").asReverb()
	ErrNoClientEvent = newError(4301, 0, "client_events_off",
		"The app does not have client messaging enabled.").asReverb()
	errEventName    = newError(0, 0, "invalid_event_name", "Invalid event name")
	errUnauthorized = newError(4009, 0, "subscription_unauthorized",
		"Connection is unauthorized").asReverb().
		ofSubscription("AuthError", http.StatusUnauthorized)
	errDataFormat = newError(4200, 0, "invalid_channel_data", "Invalid message format").
			asReverb().ofSubscription("InvalidChannelData", http.StatusBadRequest)
	errChannelData = newError(0, 0, "invalid_channel_data", "Invalid channel_data").
			ofSubscription("InvalidChannelData", http.StatusBadRequest)
	errChannelName = newError(0, 0, "invalid_channel", "Invalid channel name").
			ofSubscription("InvalidChannel", http.StatusBadRequest)
	ErrSubscriptions = newError(0, 0, "subscription_limit", "Too many subscriptions").
				ofSubscription("LimitReached", http.StatusTooManyRequests)
	ErrAddressLimit = newError(4100, 4100, "address_limit",
		"Too many connections from this address; try again later")
	ErrMemory = newError(0, 0, "memory", "The server is short of memory; try again later").
			ofSubscription("MemoryShort", http.StatusServiceUnavailable)
	ErrMembers = newError(0, 0, "member_limit", "Too many members").
			ofSubscription("LimitReached", http.StatusTooManyRequests)
	errSignIn = newError(0, 0, "signin_refused", "Sign-in refused")
	// the code and the text are Pusher's: the sign-in has succeeded
	errWatchlist = newError(4302, 0, "watchlist_limit",
		"Watchlist limit exceeded. Only the first 100 user IDs are accepted.")
	errMemberSize = newError(0, 0, "member_size", "channel_data is too large").
			ofSubscription("LimitReached", http.StatusRequestEntityTooLarge)
)
