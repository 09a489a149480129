package operator

import (
	"context"
	"encoding/json"
	"time"

	"reverb/internal/lib/rounds"
	"reverb/internal/protocol"
)

// Source is the program that operators look at. Many goroutines call its methods at once.
type Source interface {
	rounds.Source[Peer] // the open connections
	// Channels gives yield the occupied channels of an app, or of all apps if app is empty, whose
	// names begin with prefix, until yield returns false. events is how many a channel has had
	// since it was occupied.
	Channels(app, prefix string,
		yield func(app, name string, s protocol.Stats, events uint64) bool)
	// Members gives yield the members of a presence channel, of an app or, if app is empty, of
	// each app.
	Members(app string, channel protocol.Name, yield func(app string, all []*protocol.Member))
}

// Peer is an open connection. Only its loop may call the methods. So the package calls them only in
// visit, see Source.Slice.
type Peer interface {
	AppID() string
	ID() protocol.SocketID
	Address() string               // of the client, with or without a port; empty: not known
	SubscribedTo(name string) bool // whether the client is subscribed to the channel
	IsUser(id string) bool         // signed in or on a presence channel as the user, or asks to be
	Bytes() (in, out int64)        // received and sent; -1: not known
	Describe() Connection          // everything about it
	Kick(e *protocol.Error)        // tells the client why, and ends the connection
	Traced() *uint8                // the traces that see it, a bit each, see Traces
}

// figures are the figures of a server. A figure that is not a gauge counts from the start.
type figures struct {
	Kind        string    `json:"kind,omitempty"` // server, in the rows of status
	Version     string    `json:"version"`
	PID         int       `json:"pid"`
	Listening   string    `json:"listening"`
	Started     time.Time `json:"started"`
	Now         time.Time `json:"now"`
	State       []string  `json:"state,omitempty"` // why it is not ready; nil: it is
	Connections int64     `json:"connections"`
	Limit       int64     `json:"connection_limit"`
	MemoryUsed  uint64    `json:"memory_used"`        // bytes; 0 without a limit
	MemoryLimit uint64    `json:"memory_limit"`       // bytes; 0: none
	Redis       string    `json:"redis"`              // empty: there is no cluster
	Webhooks    string    `json:"webhooks,omitempty"` // in words
	Resumed     string    `json:"resumed,omitempty"`  // in words
	Upgrades    string    `json:"upgrades,omitempty"` // in words
	Lag         float64   `json:"lag_seconds"`        // the longest turn of a loop of late
	Backlog     int64     `json:"backlog"`            // bytes that wait for loops
	Queued      int64     `json:"queued"`             // bytes that wait for peers
	Apps        []appRow  `json:"apps,omitempty"`
}

// appRow has the figures of an app. Bytes are those of messages.
type appRow struct {
	Kind        string `json:"kind"` // app
	ID          string `json:"app"`
	Connections int64  `json:"connections"`
	Channels    uint64 `json:"channels"`
	Published   uint64 `json:"published"`     // events, through the HTTP API
	Events      uint64 `json:"client_events"` // of clients
	Received    uint64 `json:"received"`      // messages
	Sent        uint64 `json:"sent"`          // messages, each receiver counted
	BytesIn     uint64 `json:"bytes_in"`
	BytesOut    uint64 `json:"bytes_out"`
}

// figures returns the figures of the source.
func (s *Server) figures(now time.Time) figures {
	snap := s.Snapshot(now)
	f := figures{Version: s.Version, PID: s.PID, Listening: s.Listening, Started: s.Started,
		Now: now, State: snap.NotReady(), Connections: snap.Connections, Limit: snap.Limit,
		MemoryUsed: snap.Memory.Used, MemoryLimit: snap.Memory.Limit, Webhooks: snap.Webhooks(now),
		Resumed: snap.Resumed.String(), Upgrades: snap.Upgrades.String()}
	for _, l := range snap.Loops {
		f.Lag = max(f.Lag, l.Lag.Seconds())
		f.Backlog, f.Queued = f.Backlog+l.Backlog, f.Queued+l.Queued
	}
	f.Redis = snap.Cluster.String()
	for _, a := range snap.Apps {
		row := appRow{ID: a.ID, Connections: a.Connections, Published: a.Published,
			Events: a.ClientEvents, Received: a.Received, Sent: a.Sent,
			BytesIn: a.ReceivedBytes, BytesOut: a.SentBytes}
		for _, k := range a.Kinds {
			row.Channels += k.Occupied - k.Vacated
		}
		f.Apps = append(f.Apps, row)
	}
	return f
}

// Connection is a connection in a row.
type Connection struct {
	App     string    `json:"app"`
	Socket  string    `json:"socket"`
	Address string    `json:"address"`
	User    string    `json:"user,omitempty"` // signed in, or else on a presence channel
	Since   time.Time `json:"since"`
	Idle    int64     `json:"idle_seconds"` // since something came
	// as the system counts them, TLS included; -1: it does not
	In            int64  `json:"bytes_in"`
	Out           int64  `json:"bytes_out"`
	Waiting       int    `json:"waiting"` // bytes that the client has not taken
	Subscriptions int    `json:"subscriptions"`
	Library       string `json:"library,omitempty"` // of the client, as it names itself
}

// Channel is a channel in a row.
type Channel struct {
	App           string `json:"app"`
	Name          string `json:"channel"`
	Subscriptions int    `json:"subscriptions"`
	Users         int    `json:"users"`  // of a presence channel
	Events        uint64 `json:"events"` // since the channel was occupied
}

// Member is a user of a presence channel in a row.
type Member struct {
	App  string          `json:"app"`
	User string          `json:"user"`
	Info json.RawMessage `json:"info,omitempty"` // a string if it was too long
}

// cut bounds the texts of a row, each to n bytes.
func (c *Connection) cut(n int) {
	for _, s := range []*string{&c.App, &c.Socket, &c.Address, &c.User, &c.Library} {
		*s = bounded(*s, n)
	}
}

// occupied is Channels of the source, in rows.
func (s *Server) occupied(app, prefix string, yield func(Channel) bool) {
	s.source.Channels(app, prefix,
		func(app, name string, now protocol.Stats, events uint64) bool {
			return yield(Channel{App: app, Name: name, Subscriptions: now.Subscriptions,
				Users: now.Users, Events: events})
		})
}

// collect visits every open connection, see rounds.Collect.
func collect[T any](ctx context.Context, s *Server, look func(Peer) (T, bool),
	keep func([]T) error) error {
	return rounds.Collect(ctx, rounds.Source[Peer](s.source), s.Ended, look, keep)
}
