package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"reverb/internal/lib/backoff"
	"reverb/internal/lib/jsonraw"
)

const (
	// firstPause and maxPause are the pauses before the connection is made again. Larger: events
	// come later, and the server may have forgotten them. Smaller: a server that starts is
	// hammered on.
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
	// steady is how long a connection must last for the pauses to begin with firstPause again.
	steady = 5 * time.Second
	// maxSockets is how many former socket IDs are told. The server takes no more.
	maxSockets = 8
)

// Listener is told what comes of Resume. Its methods are called one after the other.
type Listener interface {
	// Heard gets an event, as with Subscribe. The event counts as handled when Heard has returned
	// nil, and then the server is not asked for it again.
	Heard(e Event) error
	// Cut is told that the connection is gone. Resume connects again.
	Cut(why error)
	// Missed is told that events of a channel may be missing. kept: the server does not have all
	// of them. Not kept: it has none for those who come back, which is told when it is found out.
	Missed(channel string, kept bool)
}

// Closed is a close frame of the server.
type Closed struct {
	Code   uint16
	Reason string
}

func (c *Closed) Error() string {
	return fmt.Sprintf("the server closes the connection: %d %s", c.Code, c.Reason)
}

// refusal is pusher:error of the server.
type refusal struct {
	code, text string
}

func (r *refusal) Error() string { return "the server answers " + r.text }

// cut is an error of the connection.
type cut struct{ error }

func (c *cut) Unwrap() error { return c.error }

// marked is a Conn that marks errors of the connection.
type marked struct{ Conn }

func (m marked) ReadMessage() ([]byte, error) {
	message, err := m.Conn.ReadMessage()
	return message, mark(err)
}

func (m marked) WriteMessage(message []byte) error { return mark(m.Conn.WriteMessage(message)) }

func mark(err error) error {
	if err == nil {
		return nil
	}
	return &cut{err}
}

// final says that the client must not come back after err: the server forbids it, or something
// else than the connection has failed. The codes 4100 to 4299 ask the client to come back, those
// from 4000 to 4099 forbid it (Pusher Channels protocol, "Error codes").
func final(err error) bool {
	if told := (*refusal)(nil); errors.As(err, &told) {
		return len(told.code) != 4 || told.code < "4100" || told.code > "4299"
	}
	if closed := (*Closed)(nil); errors.As(err, &closed) {
		return closed.Code >= 4000 && closed.Code < 4100
	}
	return !errors.As(err, new(*cut))
}

// Resume is Subscribe that comes back when the connection is cut, and asks for what was sent
// meanwhile. It returns the error of the first attempt to connect, of l.Heard or of ctx, or the
// one with which the server forbids to come back.
func (s *Server) Resume(ctx context.Context, channels []string, l Listener) error {
	p := newPositions(l)
	pauses := backoff.Pauses{First: firstPause, Max: maxPause}
	for failures := 1; ; failures++ {
		began, known := time.Now(), p.connections
		err := s.subscribe(ctx, channels, l.Heard, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p.connections == 0 || final(err) {
			return err
		}
		if p.connections > known {
			l.Cut(err)
		}
		if time.Since(began) > steady {
			failures = 1
		}
		timer := time.NewTimer(pauses.Pause(failures, rand.Int64N))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// position is where a client is in a channel, in the server's words.
type position struct{ epoch, offset string }

// positions are those of a client that comes back; nil: it does not. For the wire see appendResume,
// and answered and handled.
type positions struct {
	to          Listener
	connections int                 // so far
	sockets     []string            // the last socket IDs; the last one is that of the connection
	live        map[string]bool     // channels that this connection has answered for
	of          map[string]position // by channel: behind the last event that was handled
	told        map[string]bool     // channels of which it was told that nothing is kept
}

func newPositions(to Listener) *positions {
	return &positions{to: to, live: map[string]bool{}, of: map[string]position{},
		told: map[string]bool{}}
}

// connected notes a new connection.
func (p *positions) connected(socket string) {
	if p == nil {
		return
	}
	p.connections++
	clear(p.live)
	if p.sockets = append(p.sockets, socket); len(p.sockets) > maxSockets+1 {
		p.sockets = p.sockets[1:]
	}
}

// appendResume adds to the data of a subscription that the client resumes, and where it was:
//
//	"resume":{"epoch":"…","offset":"…","sockets":["1.2"]}    a position, if it has one, and what
//	                                                         it was called before
func (p *positions) appendResume(data []byte, channel string) []byte {
	if p == nil {
		return data
	}
	data = append(data, `,"resume":{`...)
	if at, ok := p.of[channel]; ok {
		data = jsonraw.AppendString(append(data, `"epoch":`...), at.epoch)
		data = jsonraw.AppendString(append(data, `,"offset":`...), at.offset)
		data = append(data, ',')
	}
	data = append(data, `"sockets":[`...)
	for i, socket := range p.sockets[:len(p.sockets)-1] {
		if i > 0 {
			data = append(data, ',')
		}
		data = jsonraw.AppendString(data, socket)
	}
	return append(data, "]}"...)
}

// handled notes that an event has been handled. user is as whom the client is signed in.
func (p *positions) handled(e *Event, x *extras, user string) {
	switch {
	case p == nil:
	case e.Name == SignedIn:
		p.unkept("#server-to-user-" + user)
	case e.Name == Subscribed:
		if !p.live[e.Channel] {
			p.live[e.Channel] = true
			p.answered(e.Channel, x.resume)
		}
	case x.offset != "" && p.live[e.Channel]:
		if at, ok := p.of[e.Channel]; ok {
			at.offset = x.offset
			p.of[e.Channel] = at
		}
	}
}

// answered reads the answer to a subscription that resumes:
//
//	"resume":{"epoch":"…","offset":"…","recovered":true}    all that was missed comes now; the
//	                                                        position stays
//	"resume":{"epoch":"…","offset":"…","recovered":false}   the client begins with this position
//
// Without it the server keeps nothing of the channel.
func (p *positions) answered(channel string, resume []byte) {
	var at position
	recovered := false
	err := jsonraw.Object(resume, func(key, value []byte) {
		switch string(key) {
		case "epoch":
			at.epoch, _ = jsonraw.String(value)
		case "offset":
			at.offset, _ = jsonraw.String(value)
		case "recovered":
			recovered = string(value) == "true"
		}
	})
	if err == nil && recovered {
		return
	}
	_, was := p.of[channel]
	delete(p.of, channel)
	switch {
	case err != nil || at.epoch == "" || at.offset == "":
		if was {
			delete(p.told, channel)
		}
		p.unkept(channel)
	default:
		p.of[channel] = at
		if was {
			p.to.Missed(channel, true)
		}
	}
}

// unkept tells once that a channel keeps nothing.
func (p *positions) unkept(channel string) {
	if !p.told[channel] {
		p.told[channel] = true
		p.to.Missed(channel, false)
	}
}
