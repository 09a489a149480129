// Package protocol is the bytes of Pusher protocol 7 and of its HTTP bodies: how they
// are read, how they are judged, and how they are written, in both directions; the
// names of channels; and the signatures of channels and HTTP requests.
//
// The package has no state. It knows no connection, no frame, no subscriber and no
// clock: a decision by time is given the time. Everything it reads may come from a
// stranger; nothing that it reads makes it panic, and nothing makes it allocate more
// than a small multiple of what it was given. It never tells a secret or a right
// signature in an error.
//
// What a function is given stays with the caller, and what a result shares with it is
// said at the result: parts of a message are valid as long as the message is.
//
// A message is one JSON object, in one WebSocket message of text. From the server, data
// is a string that holds JSON, except in pusher:error, where it is an object:
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
//	{"event":"…","data":"…","channel":"…"}               an event of the HTTP API
//	{"event":"client-…","data":…,"channel":"…","user_id":"7"}
//
// From a client, data may be an object or a string that holds it:
//
//	{"event":"pusher:subscribe","data":{"channel":"…","auth":"key:hmac","channel_data":"…"}}
//	{"event":"pusher:unsubscribe","data":{"channel":"…"}}
//	{"event":"pusher:ping"}                               also pusher:pong
//	{"event":"client-…","channel":"…","data":…}
//
// The bodies of the HTTP API, of which socket_id and info may be missing:
//
//	{"name":"…","data":"…","channels":["…"],"socket_id":"1.2","info":"user_count,…"}   or channel
//	{"batch":[{"name":"…","data":"…","channel":"…","socket_id":"1.2","info":"…"}]}
//
// The signature of a request is the HMAC-SHA256 of three lines, in lower-case hex:
//
//	POST
//	/apps/3/events
//	auth_key=…&auth_timestamp=…&auth_version=1.0&body_md5=…      sorted by name
//
// and auth of a subscription is the key, a colon, and the HMAC-SHA256 of
//
//	socket_id:channel                 on private channels
//	socket_id:channel:channel_data    where channel_data was sent
package protocol

// MaxNameBytes bounds the name of a channel or of an event. Pusher's libraries check the
// same number, so a larger one would not help their users; a smaller one refuses names
// that they take.
const MaxNameBytes = 200

const (
	// maxParameters bounds the parameters of a request. Each is compared with all the
	// others before the signature is judged, so a larger number costs its square.
	maxParameters = 100
	// MaxUserIDBytes bounds user_id. A list of members holds each user_id twice, so a
	// larger bound makes long lists longer.
	MaxUserIDBytes = 200
	// maxEventChannels bounds the channels of one event. Each channel is a delivery of its
	// own; Pusher allows the same number.
	maxEventChannels = 100
	// maxBatch bounds the events of one batch. Pusher allows the same number.
	maxBatch = 10
)
