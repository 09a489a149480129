package operator

import (
	"context"
	"time"

	"reverb/internal/protocol"
)

// Source is the program that operators look at. Many goroutines call its methods at once.
type Source interface {
	// Loops is how many loops there are. Every connection belongs to one.
	Loops() int
	// Slice has a loop call visit for its open connections, in the places from the place from on,
	// until visit returns false, and then done with the place with which to go on; -1: all have
	// been visited. The loop calls both between other work, so they must be short. Slice does not
	// wait. It returns false if the loop has ended, and its connections; then nothing is called.
	Slice(loop, from int, visit func(Peer) bool, done func(next int)) bool
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
	IsUser(id string) bool         // signed in as the user, or on a presence channel as such
	Bytes() (in, out int64)        // received and sent; -1: not known
	Describe() Connection          // everything about it
	Kick(e *protocol.Error)        // tells the client why, and ends the connection
	Traced() *uint8                // the traces that see it, a bit each, see Traces
}

// figures are the figures of a server. A figure that is not a gauge counts from the start.
type figures struct {
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	Listening string    `json:"listening"`
	Started   time.Time `json:"started"`
	Now       time.Time `json:"now"`
	// why no more connections should come; nil: it is ready
	State       []string `json:"state,omitempty"`
	Connections int64    `json:"connections"`
	Limit       int64    `json:"connection_limit"`
	MemoryUsed  uint64   `json:"memory_used"`  // bytes; 0 without a limit
	MemoryLimit uint64   `json:"memory_limit"` // bytes; 0: none
	// the node's state with Redis; empty: there is no cluster
	Redis   string   `json:"redis"`
	Lag     float64  `json:"lag_seconds"` // the longest turn of a loop of late
	Backlog int64    `json:"backlog"`     // bytes that wait for loops
	Queued  int64    `json:"queued"`      // bytes that wait for peers
	Apps    []appRow `json:"apps,omitempty"`
}

// appRow has the figures of an app. Bytes are those of messages.
type appRow struct {
	ID          string `json:"id"`
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
	f := figures{
		Version:     s.Version,
		PID:         s.PID,
		Listening:   s.Listening,
		Started:     s.Started,
		Now:         now,
		State:       snap.NotReady(),
		Connections: snap.Connections,
		Limit:       snap.Limit,
		MemoryUsed:  snap.Memory.Used,
		MemoryLimit: snap.Memory.Limit,
	}
	for _, l := range snap.Loops {
		f.Lag = max(f.Lag, l.Lag.Seconds())
		f.Backlog, f.Queued = f.Backlog+l.Backlog, f.Queued+l.Queued
	}
	if c := snap.Cluster; c != nil {
		if f.Redis = "away, or not in step yet"; c.Live {
			f.Redis = "in step"
		}
	}
	for i := range snap.Apps {
		a := &snap.Apps[i]
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
	App  string `json:"app"`
	User string `json:"user"`
	Info string `json:"info,omitempty"`
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

const (
	// sliceTime is for how long a loop looks at connections between its other work. Larger: others
	// wait longer. Smaller: it takes longer, since a loop that is busy comes round late.
	sliceTime = time.Millisecond
	// sliceStep is how many connections a loop looks at between two looks at the clock. Larger:
	// slices may be longer. Smaller: more looks.
	sliceStep = 16
)

// slice calls visit for some open connections of a loop, see Source.Slice. ok is false if ctx or
// the server has ended before: then visit may still be called.
func (s *Server) slice(ctx context.Context, loop, from int, visit func(Peer)) (next int, ok bool) {
	done, n, begun := make(chan int, 1), 0, time.Time{}
	if !s.source.Slice(loop, from, func(p Peer) bool {
		if n == 0 {
			begun = time.Now()
		}
		visit(p)
		n++
		return n%sliceStep > 0 || time.Since(begun) < sliceTime
	}, func(next int) { done <- next }) {
		return -1, true
	}
	select {
	case next := <-done:
		return next, true
	case <-ctx.Done():
	case <-s.Ended:
	}
	return 0, false
}

// collect visits every open connection. The connections' loops call look, several at once; its
// result is kept of a connection. keep gets the results in the caller's goroutine, a slice at a
// time. The next slice of a loop waits until keep has taken the slice before. If ctx has not ended,
// the error is keep's.
func collect[T any](
	ctx context.Context,
	s *Server,
	look func(Peer) (T, bool),
	keep func([]T) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, ended := make(chan []T), make(chan struct{})
	loops := s.source.Loops()
	for loop := range loops {
		go func() {
			defer func() { ended <- struct{}{} }()
			for from := 0; from >= 0; {
				var batch []T
				next, ok := s.slice(ctx, loop, from, func(p Peer) {
					if v, wanted := look(p); wanted {
						batch = append(batch, v)
					}
				})
				if !ok {
					return // the batch may still be written to
				}
				if from = next; len(batch) == 0 {
					continue
				}
				select {
				case out <- batch:
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	var err error
	for loops > 0 {
		select {
		case batch := <-out:
			if err == nil {
				if err = keep(batch); err != nil {
					cancel()
				}
			}
		case <-ended:
			loops--
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}
