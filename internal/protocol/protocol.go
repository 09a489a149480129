// Package protocol has the bytes of Pusher protocol 7 and of its HTTP bodies. It reads, judges and
// writes them, in both directions. It also has the names of channels, and the signatures of
// channels and of HTTP requests.
//
// The package has no state. It knows no connection, no frame, no subscriber and no clock: a
// decision by time is given the time. Everything that it reads may come from a stranger; no input
// makes it panic, or allocate more than a small multiple of the input. An error never tells a
// secret or a right signature.
//
// The caller keeps the memory that it gives a function. Each result says which memory it shares:
// parts of a message are valid as long as the message is.
//
// Files:
//
//	protocol.go    this contract, and the bounds
//	names.go       names of channels, what is wrong with one, kinds; socket IDs
//	decode.go      messages of clients, and whether a client may subscribe; members
//	encode.go      messages to clients
//	users.go       how clients sign in as users; watchlists
//	errors.go      the errors of clients: codes, texts, words
//	api.go         bodies of the HTTP API, and what is wrong with one
//	problem.go     answers of the HTTP API other than 200
//	query.go       parameters and paths of requests
//	signatures.go  signatures of channels and of requests
//
// A message is one JSON object, in one WebSocket message of text. From the server, data is a string
// that holds JSON, with two exceptions. In pusher:error it is an object. In a client event it is
// the value that the client has sent:
//
//	{"event":"pusher:connection_established",
//	 "data":"{\"socket_id\":\"1.2\",\"activity_timeout\":30}"}
//	{"event":"pusher:error","data":{"code":4009,"message":"…"}}     code may be null
//	{"event":"pusher:ping","data":"{}"}                  also pusher:pong
//	{"event":"pusher_internal:subscription_succeeded","data":"{}","channel":"…"}
//	    on presence channels data is {"presence":{"count":1,"ids":["7"],"hash":{"7":{…}}}}
//	{"event":"pusher:subscription_error",
//	 "data":"{\"type\":…,\"error\":…,\"status\":…}","channel":"…"}
//	{"event":"pusher_internal:member_added",
//	 "data":"{\"user_id\":\"7\",\"user_info\":{…}}","channel":"…"}
//	{"event":"pusher_internal:member_removed","data":"{\"user_id\":\"7\"}","channel":"…"}
//	{"event":"pusher:cache_miss","data":"{}","channel":"…"}
//	{"event":"pusher:signin_success","data":"{\"user_data\":\"{…}\"}"}
//	{"event":"pusher_internal:watchlist_events",
//	 "data":"{\"events\":[{\"name\":\"online\",\"user_ids\":[\"7\"]}]}"}   also offline
//	{"event":"…","data":"…","channel":"…"}               an event of the HTTP API
//	{"event":"client-…","data":…,"channel":"…","user_id":"7"}
//
// From a client, data may be an object or a string that holds it:
//
//	{"event":"pusher:subscribe","data":{"channel":"…","auth":"key:hmac","channel_data":"…"}}
//	{"event":"pusher:unsubscribe","data":{"channel":"…"}}
//	{"event":"pusher:signin","data":{"auth":"key:hmac","user_data":"{\"id\":\"7\"}"}}
//	    user_data may hold user_info, any value, and watchlist, a list of user IDs
//	{"event":"pusher:ping"}                               also pusher:pong
//	{"event":"client-…","channel":"…","data":…}
//
// The bodies of the HTTP API, where socket_id and info may be missing, and channel may take the
// place of channels:
//
//	{"name":"…","data":"…","channels":["…"],"socket_id":"1.2","info":"user_count,…"}
//	{"batch":[{"name":"…","data":"…","channel":"…","socket_id":"1.2","info":"…"}]}
//
// The signature of a request is the HMAC-SHA256 of three lines, in lower-case hex:
//
//	POST
//	/apps/3/events
//	auth_key=…&auth_timestamp=…&auth_version=1.0&body_md5=…      sorted by name
//
// The auth of a subscription is the key, a colon, and the HMAC-SHA256 of
//
//	socket_id:channel                 on private channels
//	socket_id:channel:channel_data    if channel_data was sent
//
// The auth of a sign-in is the same of
//
//	socket_id::user::user_data
package protocol

// maxNameBytes bounds the name of a channel or of an event. Pusher's libraries check the same
// number. Larger: no use to their users. Smaller: names that they take are refused.
const maxNameBytes = 200

const (
	// maxParameters bounds the parameters of a request. Larger: a stranger's request costs the
	// square of it, since each parameter is compared with all others before the signature is
	// judged. Smaller: a library with many parameters is refused.
	maxParameters = 100
	// maxUserIDBytes bounds user_id. Larger: lists of members, which hold each user_id twice, are
	// longer. Smaller: users of applications with long identifiers are refused.
	maxUserIDBytes = 200
	// maxUserBytes bounds the ID of a user that signs in, as Pusher does. Larger: the names of
	// users' channels, which nodes tell each other, are longer. Smaller: users that Pusher takes
	// are refused.
	maxUserBytes = 128
	// maxWatched bounds the users of a watchlist, as Pusher does, whose error has the number.
	// Larger: a connection takes more memory, and a sign-in more time. Smaller: clients that rely
	// on Pusher's number miss users.
	maxWatched = 100
	// maxEventChannels bounds the channels of one event, as Pusher does. Larger: one request costs
	// more deliveries. Smaller: requests that Pusher takes are refused.
	maxEventChannels = 100
	// maxBatch bounds the events of one batch, as Pusher does. Larger: one request costs more.
	// Smaller: requests that Pusher takes are refused.
	maxBatch = 10
)
