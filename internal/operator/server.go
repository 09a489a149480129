package operator

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"reverb/internal/admin"
	"reverb/internal/protocol"
)

const (
	// requestPatience is how long a client has for its request.
	requestPatience = 10 * time.Second
	// writePatience is how long the client has to take what is written at once. One that
	// takes longer is given up. A trace loses lines instead.
	writePatience = 10 * time.Second
	// maxStreams bounds who asks at a time: each visits every connection.
	maxStreams = 16
	// rowsAtOnce is how many rows are made before others have their turn: some 50 µs of work.
	rowsAtOnce = 16
)

// Options are what a Server needs to know besides the Source.
type Options struct {
	Version   string    // of the program
	PID       int       // of the process
	Listening string    // the main address
	Started   time.Time // when the program started

	// Snapshot is what has been counted and measured.
	Snapshot func(now time.Time) admin.Snapshot

	Traces *Traces         // the Source tells them of the traffic
	Ended  <-chan struct{} // is closed when the server is about to end: every stream ends
	Log    *slog.Logger
}

// Server answers what operators ask. It is safe for use by many goroutines.
type Server struct {
	Options
	source Source
	places chan struct{} // of streams
}

// NewServer is a Server.
func NewServer(s Source, o Options) *Server {
	return &Server{Options: o, source: s, places: make(chan struct{}, maxStreams)}
}

// command is one that the server knows.
type command struct {
	name string
	run  func(*talk) error
}

// served are the commands that the server knows, in the order of its greeting.
func served() []command {
	return []command{
		{"status", (*talk).status}, {"connections", (*talk).connections},
		{"channels", (*talk).channels}, {"users", (*talk).users}, {"top", (*talk).top},
		{"kick", (*talk).kick}, {"trace", (*talk).trace},
	}
}

// Greet is what the server says to the first line of a stream; ok is false where the line
// begins none. After it the stream goes on with Talk.
func (s *Server) Greet(question string) (v any, ok bool) {
	if len(question) < len("commands ") || question[:len("commands ")] != "commands " {
		return nil, false
	}
	g := greeting{Protocol: protocolVersion, Version: s.Version, PID: s.PID}
	for _, c := range served() {
		g.Commands = append(g.Commands, c.name)
	}
	return g, true
}

// Talk goes on with a stream that Greet has begun, and returns when it is over. The caller
// closes nc. asker is the user who asks; known is false where the system does not tell who
// that is, and then nothing is answered.
func (s *Server) Talk(nc net.Conn, asker int, known bool) {
	t := &talk{Server: s, asker: asker, writePatience: writePatience, nc: nc}
	t.out = bufio.NewWriterSize(timedWriter{t}, 32<<10)
	if err := t.serve(known); err != nil {
		t.say(line{Error: bounded(err.Error(), maxTextBytes)})
	}
	t.out.Flush() // the client may be gone; nobody is left to be told
}

// talk is one stream.
type talk struct {
	*Server
	asker int
	nc    net.Conn
	out   *bufio.Writer
	req   request
	end   end
	ctx   context.Context // of the command

	writePatience time.Duration // of one write
}

// timedWriter is the connection of a talk, which is given up when it takes too long.
type timedWriter struct{ t *talk }

func (w timedWriter) Write(b []byte) (int, error) {
	w.t.nc.SetWriteDeadline(time.Now().Add(w.t.writePatience))
	return w.t.nc.Write(b)
}

// serve reads the request and answers it. The error is for the client.
func (t *talk) serve(known bool) error {
	t.nc.SetReadDeadline(time.Now().Add(requestPatience))
	text, err := bufio.NewReaderSize(io.LimitReader(t.nc, maxRequestBytes), 4<<10).ReadBytes('\n')
	if err != nil {
		return errors.New("the request has not come, or is too long")
	}
	if !known {
		return errors.New("this system does not tell the server which user asks, so it answers " +
			"no command")
	}
	if t.req, err = readRequest(text); err != nil {
		return err
	}
	select {
	case t.places <- struct{}{}:
		defer func() { <-t.places }()
	default:
		return errors.New("too many commands are running; try again when one of them has ended")
	}
	for _, c := range served() {
		if c.name == t.req.Command {
			return t.run(c.run)
		}
	}
	return fmt.Errorf("this server (version %s) does not know the command %q", t.Version,
		bounded(t.req.Command, 80))
}

// run runs a command until it is done, the client closes the stream or the server ends.
func (t *talk) run(command func(*talk) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	t.nc.SetReadDeadline(time.Time{})
	var watching sync.WaitGroup
	watching.Go(func() {
		defer cancel()
		t.nc.Read(make([]byte, 1)) // the client says nothing more; it closes
	})
	watching.Go(func() {
		select {
		case <-ctx.Done():
		case <-t.Ended:
			cancel()
		}
	})
	defer watching.Wait()
	defer t.nc.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	defer cancel()
	t.ctx = ctx
	if err := command(t); err != nil {
		return err
	}
	return t.say(line{End: &t.end})
}

// say writes one line.
func (t *talk) say(l line) error {
	b, err := json.Marshal(l)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	if len(b) >= maxLineBytes {
		b = []byte(`{"note":"a line was too long and is left out"}`)
	}
	_, err = t.out.Write(append(b, '\n'))
	return err
}

// row writes a row. Now and then it lets the loops go first: they would wait for the scheduler
// until this goroutine has been at it for 10 ms.
func (t *talk) row(v any) error {
	if t.end.Rows++; t.end.Rows%rowsAtOnce == 0 {
		runtime.Gosched()
	}
	return t.say(line{Row: v})
}

// --- Looking ---

// status is a row of the server, and one of each app.
func (t *talk) status() error {
	f := t.figures(time.Now())
	apps := f.Apps
	f.Apps = nil
	if err := t.row(&f); err != nil {
		return err
	}
	for i := range apps {
		if err := t.row(&apps[i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *talk) connections() error {
	return collect(t.ctx, t.Server, func(p Peer) (*Connection, bool) {
		if !t.req.Filter.Match(p) {
			return nil, false
		}
		row := p.Describe()
		return &row, true
	}, t.rowsOfConnections)
}

func (t *talk) rowsOfConnections(all []*Connection) error {
	for i := range all {
		all[i].cut(maxTextBytes)
		if err := t.row(&all[i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *talk) channels() (err error) {
	t.occupied(t.req.Filter.App, t.req.Prefix, func(c Channel) bool {
		if err = t.row(&c); err == nil {
			err = t.ctx.Err()
		}
		return err == nil
	})
	return err
}

func (t *talk) users() error {
	name, err := protocol.ParseName(t.req.Filter.Channel)
	if err != nil {
		return err
	}
	if !name.Kind().Presence {
		return fmt.Errorf("%s is not a presence channel, so its subscribers have no users; "+
			"reverb connections --channel lists the connections", name)
	}
	var all []Member
	t.source.Members(t.req.Filter.App, name, func(app string, members []*protocol.Member) {
		for _, m := range members {
			all = append(all, Member{App: app, User: bounded(m.ID, maxTextBytes),
				Info: bounded(string(m.Info), maxTextBytes)})
		}
	})
	if len(all) == 0 {
		return fmt.Errorf("nobody is subscribed to %s here", name)
	}
	for i := range all {
		if err := t.row(&all[i]); err != nil {
			return err
		}
	}
	return nil
}

// --- Kicking ---

// kick ends the connections that the filter means, and tells which. Where there are several
// and the client is not sure, it tells alone.
func (t *talk) kick() error {
	if t.req.Filter.everybody() {
		return errors.New("kick needs a socket, a user, an address or a channel")
	}
	type found struct {
		id  protocol.SocketID
		row Connection
	}
	hit := map[protocol.SocketID]bool{}
	err := collect(t.ctx, t.Server, func(p Peer) (*found, bool) {
		if !t.req.Filter.Match(p) {
			return nil, false
		}
		return &found{p.ID(), p.Describe()}, true
	}, func(all []*found) error {
		for _, one := range all {
			hit[one.id] = true
			one.row.cut(maxTextBytes)
			if err := t.row(&one.row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(hit) == 0 || len(hit) > 1 && !t.req.Sure {
		return err
	}
	why := protocol.ErrKicked
	if t.req.Reconnect {
		why = protocol.ErrMoved
	}
	err = collect(t.ctx, t.Server, func(p Peer) (*found, bool) {
		if !hit[p.ID()] {
			return nil, false
		}
		p.Kick(why)
		return nil, true
	}, func(all []*found) error { t.end.Kicked += len(all); return nil })
	t.Log.Info("kicked connections, as an operator asks", "uid", t.asker,
		"of", t.req.Filter.String(), "connections", t.end.Kicked, "reconnect", t.req.Reconnect)
	return err
}

// --- Tracing ---

// traced is a line of a trace.
type traced struct {
	At        time.Time `json:"at"`
	What      string    `json:"what"`
	App       string    `json:"app,omitempty"`
	Socket    string    `json:"socket,omitempty"`
	Channel   string    `json:"channel,omitempty"`
	Note      string    `json:"note,omitempty"`
	Receivers int       `json:"receivers,omitempty"`
	Bytes     int       `json:"bytes,omitempty"`
	Message   string    `json:"message,omitempty"` // without secrets
}

// trace shows the traffic of a channel, or of the clients that the filter means.
func (t *talk) trace() error {
	f := t.req.Filter
	if f.everybody() {
		return errors.New("trace needs a channel, a socket, a user or an address")
	}
	if f.Channel != "" && f.Socket+f.User+f.Address != "" {
		return errors.New("trace takes a channel, or a socket, a user or an address; not both")
	}
	one, err := t.Traces.begin(f)
	if err != nil {
		return err
	}
	began := time.Now()
	t.Log.Info("an operator traces", "uid", t.asker, "what", f.String())
	defer func() {
		t.Log.Info("a trace has ended", "uid", t.asker, "what", f.String(), "lines", t.end.Rows,
			"left_out", t.end.Dropped, "after", time.Since(began).Round(time.Second).String())
	}()
	defer t.Traces.giveBack(one)
	if f.Channel == "" {
		defer t.mark(context.Background(), one, false) // until all loops have, or have ended
	}
	defer t.Traces.stop(one)
	if f.Channel == "" {
		if err := t.mark(t.ctx, one, true); err != nil {
			return err
		}
	}
	return t.follow(one)
}

// mark gives the connections that a trace means its bit, or takes the bit from all.
func (t *talk) mark(ctx context.Context, one *trace, on bool) error {
	return collect(ctx, t.Server, func(p Peer) (*Connection, bool) {
		if marks := p.Traced(); !on {
			*marks &^= uint8(one.bit)
		} else if one.filter.Match(p) {
			*marks |= uint8(one.bit)
		}
		return nil, false
	}, nil)
}

// follow writes what a trace has seen until its time is over. While the reader stalls, lines
// are left out.
func (t *talk) follow(one *trace) error {
	over, tick := time.NewTimer(traceTime), time.NewTicker(time.Second)
	defer over.Stop()
	defer tick.Stop()
	t.writePatience = traceTime
	if err := t.say(line{Note: "tracing " + one.filter.String()}); err != nil {
		return err
	}
	for {
		if len(one.lines) == 0 {
			if err := t.out.Flush(); err != nil {
				return err
			}
		}
		select {
		case e := <-one.lines:
			one.waiting.Add(-int64(len(e.Message)))
			if err := t.row(t.traced(&e)); err != nil {
				return err
			}
		case <-tick.C:
			if err := t.tellDropped(one); err != nil {
				return err
			}
		case <-over.C:
			t.tellDropped(one)
			return t.say(line{Note: "10 minutes are over, so the trace ends"})
		case <-t.ctx.Done():
			t.end.Dropped += one.dropped.Swap(0)
			return t.ctx.Err()
		}
	}
}

// tellDropped says how many lines were left out since it was last called.
func (t *talk) tellDropped(one *trace) error {
	n := one.dropped.Swap(0)
	if t.end.Dropped += n; n == 0 {
		return nil
	}
	return t.say(line{Note: fmt.Sprintf("%d lines are left out here", n)})
}

func (t *talk) traced(e *tracedEvent) *traced {
	row := &traced{At: e.at, What: e.What, App: e.App, Channel: e.Channel, Note: e.Note,
		Receivers: e.Receivers, Bytes: len(e.Message)}
	if e.Socket != (protocol.SocketID{}) {
		row.Socket = e.Socket.String()
	}
	for _, s := range []*string{&row.App, &row.Channel, &row.Note} {
		*s = bounded(*s, maxTextBytes)
	}
	if e.Message != nil {
		row.Message = shown(e.Message)
	}
	return row
}
