// Package reports tells what happens to the clients, to four audiences at once: the log (package
// journal), the traces of operators (package operator), the counters of endings and refusals, and
// the terminal on which reverb start --debug shows the traffic. The program says once what has
// happened, and the package decides who hears of it and in which words.
//
// The package keeps the counters and the running traces, and nothing of a client. An audience that
// is not there costs one comparison. Any goroutine may call the methods; those with a Peer only the
// peer's loop.
package reports

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"reverb/internal/journal"
	"reverb/internal/lib/metrics"
	"reverb/internal/operator"
	"reverb/internal/protocol"
)

// Reports tells. The zero Reports counts, and has no other audience.
type Reports struct {
	operator.Traces
	Closed   metrics.Tally // ended connections, by the word of the ending
	Refusals metrics.Tally // by the word of the reason

	// constant after Open
	log  journal.Journal
	show func(what, who, message string) // on the terminal; nil: nobody looks
}

// Open sets what is written: to log, with a line for each request if requests is set, and to the
// terminal; nil: the traffic is not shown. It is called before the other methods.
func (r *Reports) Open(log *slog.Logger, requests bool, terminal io.Writer) {
	r.log = journal.New(log, requests)
	if terminal != nil {
		r.show = journal.Tracer(terminal)
	}
}

// Expect makes counters of refusals begin at zero: those of the errors of the protocol, and others.
func (r *Reports) Expect(others []string) {
	for _, e := range protocol.Errors() {
		r.Refusals.Of(e.Word)
	}
	for _, word := range others {
		r.Refusals.Of(word)
	}
}

// Log is the log of the reports.
func (r *Reports) Log() *journal.Journal { return &r.log }

// Peer is a client.
type Peer interface {
	operator.Peer
	Age() time.Duration // since the connection was opened
}

// about is what the log tells of a client.
func about(p Peer, channel string, code int) journal.About {
	return journal.About{App: p.AppID(), Socket: p.ID().String(), Remote: p.Address(),
		Channel: channel, Code: code}
}

// Connected tells that a client has come, and finds the traces that watch it. library is what the
// client calls itself.
func (r *Reports) Connected(p Peer, library string) {
	if r.log.Detailed() {
		r.log.Connected(about(p, "", 0), library)
	}
	r.Look(p)
	r.Trace(p, "connected", library, nil)
}

// Ended tells that a client has gone. word and code are those of the ending. accepted says that
// Connected has told of the client.
func (r *Reports) Ended(p Peer, word string, code int, accepted bool) {
	if accepted && r.log.Detailed() {
		in, out := p.Bytes()
		r.log.Disconnected(about(p, "", code), word, p.Age(), in, out)
	}
	r.Trace(p, "ended", word, nil)
	r.Closed.Of(word).Add(1)
	r.Show(p, "Connection Closed", word)
}

// Look finds the traces that watch a client: it has come, or has got a user.
func (r *Reports) Look(p Peer) {
	if r.On() {
		*p.Traced() |= uint8(r.OfPeer(p))
	}
}

// Trace tells the operators who trace a client of something.
func (r *Reports) Trace(p Peer, what, note string, message []byte) {
	if marks := *p.Traced(); marks != 0 {
		r.Traces.Show(operator.Marks(marks), operator.Event{What: what, App: p.AppID(),
			Socket: p.ID(), Note: note, Message: message})
	}
}

// Show shows on the terminal what happens to a client.
func (r *Reports) Show(p Peer, what, message string) {
	if r.show != nil {
		r.show(what, p.ID().String(), message)
	}
}

// Received shows a message of a client on the terminal.
func (r *Reports) Received(p Peer, message []byte) {
	if r.show != nil {
		r.Show(p, "Message Received", protocol.WithoutAuth(message))
	}
}

// Complained tells of a pusher:error for a client. It counts an error that leaves the connection
// open; Ended counts the others.
func (r *Reports) Complained(p Peer, e *protocol.Error) {
	r.Show(p, "Message Sent", e.Message)
	if e.Close == 0 {
		r.Refusals.Of(e.Word).Add(1)
	}
}

// Moved tells the operators who trace a channel that a client has come or gone.
func (r *Reports) Moved(p Peer, what, channel string) {
	if r.On() {
		r.ShowChannel(operator.Event{What: what, App: p.AppID(), Socket: p.ID(), Channel: channel})
	}
}

// Delivered tells the operators who trace a channel of an event for so many receivers.
func (r *Reports) Delivered(app, channel string, receivers int, message []byte) {
	r.ShowChannel(operator.Event{What: "event", App: app, Channel: channel, Receivers: receivers,
		Message: message, Constant: true})
}

// Said tells of an event that a client has sent to a channel.
func (r *Reports) Said(p Peer, channel string, event, message []byte) {
	if r.log.Detailed() {
		r.log.Published(about(p, channel, 0), event, len(message))
	}
}

// Published tells of an event that came to a channel by the HTTP API.
func (r *Reports) Published(app, channel string, event, message []byte) {
	if r.log.Detailed() {
		r.log.Published(journal.About{App: app, Channel: channel}, event, len(message))
	}
	if r.show != nil {
		r.show("Broadcasting To", channel, string(message))
	}
}

// Refused tells the log that a client does not get something; Complained counts it.
func (r *Reports) Refused(p Peer, word, channel string, code int, why string) {
	r.log.Refused(word, about(p, channel, code), why)
}

// TurnedAway counts a refusal that Complained does not tell of, and tells the log.
func (r *Reports) TurnedAway(word string, about journal.About, why string) {
	r.Refusals.Of(word).Add(1)
	r.log.Refused(word, about, why)
}

// OverQuota tells that a client is one too many for its app, which may have most.
func (r *Reports) OverQuota(p Peer, most int) {
	e := protocol.ErrOverQuota
	r.TurnedAway(e.Word, about(p, "", e.Code), fmt.Sprintf("the app has %d connections", most))
}

// Crowd tells that a client is one too many for its address, which may have most.
func (r *Reports) Crowd(app, address string, most int) {
	e := protocol.ErrAddressLimit
	r.TurnedAway(e.Word, journal.About{App: app, Remote: address, Code: e.Code},
		fmt.Sprintf("the address has %d connections; "+
			"REVERB_MAX_CONNECTIONS_PER_ADDRESS allows no more", most))
}
