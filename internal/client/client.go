// Package client is the other side of the protocol. It subscribes to channels of a running server,
// publishes an event, and sends an event on a round trip through both. With a round trip it checks
// the address that browsers and Laravel use, and compares the clock there with the clock of this
// machine.
//
// A Server says where the server is and which app to use there. The package dials it and speaks
// HTTP; the bytes of the protocol are package protocol's. WebSocket frames belong to the program:
// Server.Frames turns a connection into a Conn, which carries whole messages. Every function runs
// in the goroutine of its caller and leaves no goroutine behind.
//
// Events and errors contain text of the server as it came. The caller makes it safe for a terminal
// before printing, as Public.Check does.
//
// Files:
//
//	client.go  subscribing, publishing, the round trip
//	resume.go  coming back after a cut, with what was missed
//	server.go  dialing, the handshake, requests, and what to do about their errors
//	public.go  what reverb check finds at the public address, the clock included
package client

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"reverb/internal/lib/jsonraw"
	"reverb/internal/protocol"
	"reverb/internal/protocol/probe"
)

// timeout bounds a handshake, an HTTP request and a round trip. Larger: a command waits longer for
// a dead server. Smaller: a slow server counts as dead.
const timeout = 10 * time.Second

// The names of the events that say that a subscription, or the sign-in, has succeeded.
const (
	Subscribed = "pusher_internal:subscription_succeeded"
	SignedIn   = "pusher:signin_success"
)

// Events of the protocol that a client handles or sends
// (Pusher Channels protocol, version 7).
const (
	eventEstablished = "pusher:connection_established"
	eventError       = "pusher:error"
	eventPing        = "pusher:ping"
)

// App is the app to use, with the values of the server's configuration.
type App struct {
	ID, Key, Secret string
	Origin          string // a host that may connect
	User            string // Subscribe signs in as this user; empty: it does not
}

// Conn is a WebSocket connection that carries whole messages.
type Conn interface {
	// ReadMessage returns the next text message. It answers pings by itself, and a
	// close frame of the server is the error *Closed. The message is valid until the next
	// call.
	ReadMessage() ([]byte, error)

	// WriteMessage sends a text message. It does not retain it.
	WriteMessage(message []byte) error
}

// Event is one event as the server sent it. Data is the content of the string when data
// is a string, and else the JSON value. On a presence channel UserID is the sender of a client
// event; with Subscribed it is the user as which this client appears there.
type Event struct {
	Channel, Name, Data string
	UserID              string
}

// Subscribe connects, subscribes to the channels, and calls heard with every event from then on,
// those named Subscribed too. It returns the first error of the connection, of the server
// (pusher:error) or of heard. When ctx is done it closes the connection. With App.User it signs
// in first, and what is sent to the user is heard too.
func (s *Server) Subscribe(ctx context.Context, channels []string, heard func(Event) error) error {
	return s.subscribe(ctx, channels, heard, nil)
}

// subscribe is Subscribe, once, of a client with these positions. An error of the connection has a
// *cut in its chain.
func (s *Server) subscribe(ctx context.Context, channels []string, heard func(Event) error,
	p *positions) error {
	nc, r, err := s.open(ctx)
	if err != nil {
		return mark(err)
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	return s.App.follow(marked{s.Frames(nc, r)}, channels, heard, p)
}

// follow subscribes to the channels as soon as the server has told the socket ID.
func (a *App) follow(c Conn, channels []string, heard func(Event) error, p *positions) error {
	socket := ""
	for {
		message, err := c.ReadMessage()
		if err != nil {
			return err
		}
		m, err := protocol.ParseEvent(message)
		if err != nil {
			return fmt.Errorf("a message that is none: %w", err)
		}
		x := extrasOf(message)
		e := Event{string(m.Channel), string(m.Name), scalarText(m.Data), x.user}
		switch {
		case e.Name == eventError && e.Channel == "":
			err = refused(e.Data)
		case e.Name == eventEstablished:
			socket, err = a.subscribe(c, e.Data, channels, p)
		case e.Name == eventPing:
			err = c.WriteMessage(pong())
		default:
			if e.Name == Subscribed && isPresence(e.Channel) {
				e.UserID = userID(socket)
			}
			if err = heard(e); err == nil {
				p.handled(&e, &x, a.User)
			}
		}
		if err != nil {
			return err
		}
	}
}

func pong() []byte { return protocol.AppendEvent(nil, "pusher:pong", []byte(`"{}"`), "", "") }

// extras are what the server adds to a message.
type extras struct {
	user   string // user_id: who sends a client event on a presence channel
	offset string // the position behind an event, see positions
	resume []byte // in the answer to a subscription, see positions.answered
}

func extrasOf(message []byte) (x extras) {
	jsonraw.Object(message, func(key, value []byte) { // it is an object, or ParseEvent has told
		switch string(key) {
		case "user_id":
			x.user, _ = jsonraw.Scalar(value)
		case "offset":
			x.offset, _ = jsonraw.String(value)
		case "resume":
			x.resume = value
		}
	})
	return x
}

func isPresence(channel string) bool { return strings.HasPrefix(channel, "presence-") }

// userID is the user that a client appears as on presence channels.
func userID(socket string) string { return "listen-" + socket }

// scalarText is the content of a JSON string, or the text of another value.
func scalarText(value []byte) string {
	if s, quoted := jsonraw.String(value); quoted {
		return s
	}
	return string(value)
}

// refused is the error in the data of pusher:error. If data is not an object with a message, the
// error has data as it came.
func refused(data string) error {
	code, message := "", data
	jsonraw.Object([]byte(data), func(key, value []byte) { // an error leaves message as it is
		switch string(key) {
		case "code":
			if code = ""; string(value) != "null" {
				code = scalarText(value) + " "
			}
		case "message":
			message = scalarText(value)
		}
	})
	hint := ""
	switch message {
	case "Application does not exist":
		// Reverb: src/Protocols/Pusher/Exceptions/InvalidApplication.php
		hint = "; compare REVERB_APP_KEY with the server's"
	case "Connection is unauthorized":
		// Reverb: src/Protocols/Pusher/Exceptions/ConnectionUnauthorized.php
		hint = "; compare REVERB_APP_SECRET with the server's"
	}
	return &refusal{strings.TrimSpace(code), code + message + hint}
}

// subscribe sends a subscription to each channel. established is the data of
// pusher:connection_established, which tells the socket ID. Every subscription is signed: a
// public channel needs no signature and ignores one.
func (a *App) subscribe(c Conn, established string, channels []string, p *positions) (
	socket string, err error) {
	if err := jsonraw.Object([]byte(established), func(key, value []byte) {
		if string(key) == "socket_id" {
			socket, _ = jsonraw.String(value)
		}
	}); err != nil {
		return "", fmt.Errorf("read connection_established: %w", err)
	}
	p.connected(socket)
	if a.User != "" {
		if err := c.WriteMessage(a.signIn(socket)); err != nil {
			return socket, err
		}
	}
	for _, channel := range channels {
		if err := c.WriteMessage(a.subscription(socket, channel, p)); err != nil {
			return socket, err
		}
	}
	return socket, nil
}

// signIn is the message that signs in as the user of a.
func (a *App) signIn(socket string) []byte {
	user := string(append(jsonraw.AppendString([]byte(`{"id":`), a.User), '}'))
	data := jsonraw.AppendString([]byte(`{"user_data":`), user)
	data = jsonraw.AppendString(append(data, `,"auth":`...),
		a.Key+":"+protocol.Sign(a.Secret, socket+"::user::"+user))
	return protocol.AppendEvent(nil, "pusher:signin", append(data, '}'), "", "")
}

// subscription is the message that subscribes to a channel. On a presence channel the client is a
// user whose ID derives from the socket ID.
func (a *App) subscription(socket, channel string, p *positions) []byte {
	data := jsonraw.AppendString([]byte(`{"channel":`), channel)
	signed := socket + ":" + channel
	if isPresence(channel) {
		member := `{"user_id":"` + userID(socket) + `","user_info":{"name":"reverb listen"}}`
		signed += ":" + member
		data = jsonraw.AppendString(append(data, `,"channel_data":`...), member)
	}
	data = jsonraw.AppendString(append(data, `,"auth":`...),
		a.Key+":"+protocol.Sign(a.Secret, signed))
	data = p.appendResume(data, channel)
	return protocol.AppendEvent(nil, "pusher:subscribe", append(data, '}'), "", "")
}

// signedQuery is the query of a signed POST request. path is the escaped path without the
// server's prefix (Pusher's specification of the HTTP API, "Authentication").
func (a *App) signedQuery(path string, body []byte, now time.Time) string {
	sum := md5.Sum(body)
	q := url.Values{"auth_key": {a.Key}, "auth_timestamp": {strconv.FormatInt(now.Unix(), 10)},
		"auth_version": {"1.0"}, "body_md5": {hex.EncodeToString(sum[:])}}
	params, _ := protocol.ParseQuery(nil, q.Encode()) // no error: the text was just encoded
	q.Set("auth_signature", protocol.Sign(a.Secret,
		protocol.StringToSign(http.MethodPost, path, params)))
	return q.Encode()
}

// Publication is an event for the subscribers of some channels. If Except is not empty, the
// connection with that socket ID does not get the event. Data is JSON.
type Publication struct {
	Channels    []string
	Event, Data string
	Except      string
}

// body is the body of the request. It has data as a string, like the bodies of server libraries.
func (p *Publication) body() []byte {
	b := jsonraw.AppendString([]byte(`{"name":`), p.Event)
	b = jsonraw.AppendString(append(b, `,"data":`...), p.Data)
	if len(p.Channels) == 1 {
		b = jsonraw.AppendString(append(b, `,"channel":`...), p.Channels[0])
	} else {
		b = append(b, `,"channels":`...)
		for i, channel := range p.Channels {
			b = jsonraw.AppendString(append(b, "[,"[min(i, 1)]), channel)
		}
		b = append(b, ']')
	}
	if p.Except != "" {
		b = jsonraw.AppendString(append(b, `,"socket_id":`...), p.Except)
	}
	return append(b, '}')
}

// publish sends one signed event.
func (s *Server) publish(ctx context.Context, p *Publication, now time.Time) (answer, error) {
	body := p.body()
	path := "/apps/" + s.App.ID + "/events"
	return s.request(ctx, http.MethodPost, path,
		s.App.signedQuery((&url.URL{Path: path}).EscapedPath(), body, now), body)
}

// Trigger publishes one event. Its data goes out as the text that it is. An answer other
// than 200 is an error that tells it.
func (s *Server) Trigger(ctx context.Context, p *Publication, now time.Time) error {
	a, err := s.publish(ctx, p, now)
	if err != nil {
		return err
	}
	return a.unexpected()
}

// measure connects, subscribes to a channel that nobody else uses, publishes on it, and waits
// until the event comes back. skew is how far the server's clock is ahead, to a second; 0 if the
// server does not tell the time.
func (s *Server) measure(ctx context.Context, now func() time.Time) (took, skew time.Duration,
	err error) {
	nc, r, err := s.open(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(timeout))
	return s.roundTrip(ctx, s.Frames(nc, r), now)
}

func (s *Server) roundTrip(ctx context.Context, c Conn, now func() time.Time) (took,
	skew time.Duration, err error) {
	const event = "check"
	channel := probe.Channel()
	var begin time.Time
	arrived := errors.New("the event has come back")
	err = s.App.follow(c, []string{channel}, func(e Event) error {
		switch {
		case e.Channel != channel:
		case e.Name == event:
			return arrived
		case e.Name == Subscribed && begin.IsZero():
			begin = now()
			a, err := s.publish(ctx,
				&Publication{Channels: []string{channel}, Event: event, Data: "{}"}, begin)
			if err != nil {
				return err
			}
			if a.status != http.StatusOK {
				return fmt.Errorf("subscribing works, publishing is answered %d: %s", a.status,
					bytes.TrimSpace(a.body))
			}
			if !a.date.IsZero() {
				skew = a.date.Sub(begin.Truncate(time.Second))
			}
		}
		return nil
	}, nil)
	if err != arrived {
		return 0, 0, err
	}
	return now().Sub(begin), skew, nil
}
