// Package client is the other side of the protocol. It subscribes to channels of a running server,
// publishes an event, and sends an event on a round trip through both. With a round trip it checks
// the address that browsers and Laravel use.
//
// A Server says where the server is and which app to use there. The package dials it and speaks
// HTTP; the bytes of the protocol are package protocol's. WebSocket frames belong to the program:
// Server.Frames turns a connection into a Conn, which carries whole messages. Every function runs
// in the goroutine of its caller and leaves no goroutine behind.
//
// Events and errors contain text of the server as it came. The caller makes it safe for a terminal
// before printing, as Public.Check does.
package client

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
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
)

// timeout bounds a handshake, an HTTP request and a round trip. Larger: a command waits longer for
// a dead server. Smaller: a slow server counts as dead.
const timeout = 10 * time.Second

// Subscribed is the name of the event that says that a subscription has succeeded.
const Subscribed = "pusher_internal:subscription_succeeded"

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
}

// Conn is a WebSocket connection that carries whole messages.
type Conn interface {
	// ReadMessage returns the next text message. It answers pings by itself, and a
	// close frame of the server is an error that tells its code. The message is valid
	// until the next call.
	ReadMessage() ([]byte, error)

	// WriteMessage sends a text message. It does not retain it.
	WriteMessage(message []byte) error
}

// Event is one event as the server sent it. Data is the content of the string when data
// is a string, and else the JSON value.
type Event struct {
	Channel, Name, Data string
}

// Subscribe connects, subscribes to the channels, and calls heard with every event from then on,
// those named Subscribed too. It returns the first error of the connection, of the server
// (pusher:error) or of heard. When ctx is done it closes the connection.
func (s *Server) Subscribe(ctx context.Context, channels []string, heard func(Event) error) error {
	nc, r, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	return s.App.follow(s.Frames(nc, r), channels, heard)
}

// follow subscribes to the channels as soon as the server has told the socket ID.
func (a *App) follow(c Conn, channels []string, heard func(Event) error) error {
	for {
		message, err := c.ReadMessage()
		if err != nil {
			return err
		}
		m, err := protocol.ParseEvent(message)
		if err != nil {
			return fmt.Errorf("a message that is none: %w", err)
		}
		e := Event{string(m.Channel), string(m.Name), scalarText(m.Data)}
		switch {
		case e.Name == eventError && e.Channel == "":
			err = refused(e.Data)
		case e.Name == eventEstablished:
			err = a.subscribe(c, e.Data, channels)
		case e.Name == eventPing:
			err = c.WriteMessage([]byte(protocol.Pong))
		default:
			err = heard(e)
		}
		if err != nil {
			return err
		}
	}
}

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
	return fmt.Errorf("the server answers %s%s%s", code, message, hint)
}

// subscribe sends a subscription to each channel. established is the data of
// pusher:connection_established. Every subscription is signed: a public channel needs no
// signature and ignores one.
func (a *App) subscribe(c Conn, established string, channels []string) error {
	socket := ""
	if err := jsonraw.Object([]byte(established), func(key, value []byte) {
		if string(key) == "socket_id" {
			socket, _ = jsonraw.String(value)
		}
	}); err != nil {
		return fmt.Errorf("read connection_established: %w", err)
	}
	for _, channel := range channels {
		if err := c.WriteMessage(a.subscription(socket, channel)); err != nil {
			return err
		}
	}
	return nil
}

// subscription is the message that subscribes to a channel. On a presence channel the client is a
// user whose ID derives from the socket ID.
func (a *App) subscription(socket, channel string) []byte {
	data := jsonraw.AppendString([]byte(`{"channel":`), channel)
	signed := socket + ":" + channel
	if strings.HasPrefix(channel, "presence-") {
		member := `{"user_id":"listen-` + socket + `","user_info":{"name":"reverb listen"}}`
		signed += ":" + member
		data = jsonraw.AppendString(append(data, `,"channel_data":`...), member)
	}
	data = jsonraw.AppendString(append(data, `,"auth":`...),
		a.Key+":"+protocol.Sign(a.Secret, signed))
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

// publish sends one signed event. The body carries data as a string, as the server
// libraries do.
func (s *Server) publish(ctx context.Context, channel, event, data string, now time.Time) (answer,
	error) {
	body := jsonraw.AppendString([]byte(`{"name":`), event)
	body = jsonraw.AppendString(append(body, `,"data":`...), data)
	body = append(jsonraw.AppendString(append(body, `,"channel":`...), channel), '}')
	path := "/apps/" + s.App.ID + "/events"
	return s.request(ctx, http.MethodPost, path,
		s.App.signedQuery((&url.URL{Path: path}).EscapedPath(), body, now), body)
}

// Trigger publishes one event. The text of data goes out as it is. An answer other than 200 becomes
// an error with the text of the answer.
func (s *Server) Trigger(ctx context.Context, channel, event, data string, now time.Time) error {
	a, err := s.publish(ctx, channel, event, data, now)
	if err != nil {
		return err
	}
	return a.unexpected()
}

// RoundTrip connects, subscribes to a channel that nobody else uses, publishes on it, and waits
// until the event comes back. skew is how far the server's clock is ahead, to a second; 0 if the
// server does not tell the time.
func (s *Server) RoundTrip(ctx context.Context, now func() time.Time) (took, skew time.Duration,
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
	channel := "reverb-check-" + strings.ToLower(rand.Text())
	var begin time.Time
	arrived := errors.New("the event has come back")
	err = s.App.follow(c, []string{channel}, func(e Event) error {
		switch {
		case e.Channel != channel:
		case e.Name == event:
			return arrived
		case e.Name == Subscribed && begin.IsZero():
			begin = now()
			a, err := s.publish(ctx, channel, event, "{}", begin)
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
	})
	if err != arrived {
		return 0, 0, err
	}
	return now().Sub(begin), skew, nil
}
