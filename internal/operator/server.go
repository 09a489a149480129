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
	"slices"
	"sync"
	"time"

	"reverb/internal/admin"
	"reverb/internal/lib/hide"
	"reverb/internal/lib/streams"
	"reverb/internal/protocol"
)

const (
	// requestPatience is how long a client has for its request. Larger: a client that sends nothing
	// keeps its place for longer. Smaller: a slow client is refused.
	requestPatience = 10 * time.Second
	// writePatience is how long a client may take to read one write. After that the server closes
	// the stream. Larger: a client that stalls keeps its place for longer. Smaller: a slow terminal
	// loses its answer. A trace loses lines instead.
	writePatience = 10 * time.Second
	// maxStreams bounds the streams at a time. Larger: the loops look at connections for more of
	// their time. Smaller: operators wait for each other.
	maxStreams = 16
	// rowsAtOnce is how many rows are made before other goroutines have their turn: some 50 µs of
	// work. Larger: loops wait longer. Smaller: an answer takes longer.
	rowsAtOnce = 16
)

// Options are the parts of a Server besides the Source.
type Options struct {
	Version   string    // of the program
	PID       int       // of the process
	Name      string    // of this node, as operators of others see it
	Listening string    // the main address
	Started   time.Time // when the program started

	// Snapshot returns the figures of the server.
	Snapshot func(now time.Time) admin.Snapshot

	Nodes  Nodes           // the other nodes; nil: there is no cluster
	Traces *Traces         // the Source tells them of the traffic
	Ended  <-chan struct{} // is closed when the server is about to end: every stream ends
	Log    *slog.Logger
}

// Server answers operators. It is safe for use by many goroutines.
type Server struct {
	Options
	source Source
	places chan struct{} // of streams
	remote *streams.Streams
	names  names // of other nodes
}

// NewServer makes a Server.
func NewServer(s Source, o Options) *Server {
	server := &Server{Options: o, source: s, places: make(chan struct{}, maxStreams)}
	server.remote = streams.New(o.Nodes, o.Name, server.answerNode)
	return server
}

// command is a command that the server knows.
type command struct {
	name string
	run  func(*talk) error
}

// served are the commands that the server knows, in the order of its greeting. Nobody types the
// last: listen sends it.
func served() []command {
	return []command{
		{"status", (*talk).status}, {"connections", (*talk).connections},
		{"channels", (*talk).channels}, {"users", (*talk).users}, {"top", (*talk).top},
		{"kick", (*talk).kick}, {"trace", (*talk).trace}, {"watch", (*talk).watch},
	}
}

// Greet answers the first line of a stream; ok is false if the line does not begin a stream. Talk
// goes on with the stream.
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

// Talk goes on with a stream that Greet has begun, and returns when it is over. The caller closes
// nc. asker is the user who asks. known is false if the system does not tell the user; then Talk
// answers nothing.
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
	node  string   // the node that asks for asker, if it is another
	part  bool     // the answer is a part of one about all nodes
	nc    net.Conn // nil: a part
	out   *bufio.Writer
	req   request
	end   end
	ctx   context.Context // of the command

	writePatience time.Duration // of one write
}

// timedWriter writes to the connection of a talk, and fails if a write takes too long.
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
	leave, err := t.enter()
	if err != nil {
		return err
	}
	defer leave()
	return t.run()
}

// enter takes a place for the answer. leave gives it back.
func (s *Server) enter() (leave func(), err error) {
	select {
	case s.places <- struct{}{}:
		return func() { <-s.places }, nil
	default:
		return nil, errors.New("too many commands are running; try again when one of them has " +
			"ended")
	}
}

// run runs the command until it is done, the client closes the stream or the server ends.
func (t *talk) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	t.nc.SetReadDeadline(time.Time{})
	var watching sync.WaitGroup
	watching.Go(func() {
		defer cancel()
		t.nc.Read(make([]byte, 1)) // the client says nothing more; it closes
	})
	defer watching.Wait()
	defer t.nc.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	defer cancel()
	return t.perform(ctx)
}

// perform runs the command until it is done, or ctx or the server ends.
func (t *talk) perform(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-ctx.Done():
		case <-t.Ended:
			cancel()
		}
	})
	defer watching.Wait()
	defer cancel()
	t.ctx = ctx
	if err := t.req.judge(); err != nil {
		return err
	}
	all := served()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == t.req.Command })
	if i < 0 {
		return fmt.Errorf("this server (version %s) does not know the command %q", t.Version,
			bounded(t.req.Command, 80))
	}
	command := all[i].run
	if t.req.All && t.Nodes != nil {
		command = (*talk).all
	}
	if err := command(t); err != nil {
		return err
	}
	return t.say(line{End: &t.end})
}

// who is the person who asks, for the log.
func (t *talk) who() *slog.Logger {
	if t.node == "" {
		return t.Log.With("uid", t.asker)
	}
	return t.Log.With("uid", t.asker, "asked_on", t.node)
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
	if t.part && t.end.Rows == maxPartRows && !t.req.lasts() {
		return errCut
	}
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
	name, err := protocol.ParseName(t.req.Filter.Channels[0])
	if err != nil {
		return err
	}
	var all []Member
	t.source.Members(t.req.Filter.App, name, func(app string, members []*protocol.Member) {
		for _, m := range members {
			all = append(all, Member{App: app, User: bounded(m.ID, maxTextBytes),
				Info: bounded(string(m.Info), maxTextBytes)})
		}
	})
	if len(all) == 0 && !t.part {
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

// kick ends the connections that the filter selects, and lists them. If there are several and the
// client is not sure, it only lists them.
func (t *talk) kick() error {
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
	if err != nil || len(hit) == 0 || t.req.Look || len(hit) > 1 && !t.req.Sure {
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
	t.who().Info("kicked connections, as an operator asks", "of", t.req.Filter.String(),
		"connections", t.end.Kicked, "reconnect", t.req.Reconnect)
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

// trace shows the traffic of a channel, or of the clients that the filter selects.
func (t *talk) trace() error {
	f := t.req.Filter
	one, err := t.Traces.begin(f, false)
	if err != nil {
		return err
	}
	defer t.logTrace("an operator traces", "a trace has ended")()
	defer t.Traces.giveBack(one)
	if len(f.Channels) == 0 {
		defer t.mark(context.Background(), one, false) // until all loops have, or have ended
	}
	defer t.Traces.stop(one)
	if len(f.Channels) == 0 {
		if err := t.mark(t.ctx, one, true); err != nil {
			return err
		}
	}
	if err := t.say(line{Note: "tracing " + f.String()}); err != nil {
		return err
	}
	err = t.follow(one, traceTime, func(e *tracedEvent) error { return t.row(t.traced(e)) },
		func() error { return nil })
	if err != nil {
		return err
	}
	return t.say(line{Note: "10 minutes are over, so the trace ends"})
}

// logTrace logs that the work begins, and how it has ended.
func (t *talk) logTrace(begins, ended string) (end func()) {
	began, log := time.Now(), t.who().With("what", t.req.Filter.String())
	log.Info(begins)
	return func() {
		log.Info(ended, "lines", t.end.Rows, "left_out", t.end.Dropped,
			"after", time.Since(began).Round(time.Second).String())
	}
}

// mark sets the bit of a trace in the connections that its filter selects, or clears it in all.
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

// follow gives each the events of a trace until the time life is over. While the reader stalls, it
// drops events. tick is called each second.
func (t *talk) follow(one *trace, life time.Duration, each func(*tracedEvent) error,
	tick func() error) error {
	over, second := time.NewTimer(life), time.NewTicker(time.Second)
	defer over.Stop()
	defer second.Stop()
	t.writePatience = traceTime
	for {
		if len(one.Items()) == 0 {
			if err := t.out.Flush(); err != nil {
				return err
			}
		}
		var err error
		select {
		case e := <-one.Items():
			one.Taken(len(e.Message))
			err = each(&e)
		case <-second.C:
			if err = t.tellDropped(one); err == nil {
				err = tick()
			}
		case <-over.C:
			return t.tellDropped(one)
		case <-t.ctx.Done():
			t.end.Dropped += one.Dropped()
			err = t.ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// tellDropped reports how many lines were dropped since the last call.
func (t *talk) tellDropped(one *trace) error {
	n := one.Dropped()
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

// maxShownBytes is the length at which a message is cut. Larger: a line fills the terminal.
// Smaller: less of a message is seen.
const maxShownBytes = 8 << 10

// shown is a message without the values that open channels, or identify a person.
func shown(message []byte) string {
	text, ok := hide.Keys{"auth", "ticket", "tickets", "shared_secret", "user_data"}.JSON(message)
	if !ok {
		return fmt.Sprintf("(%d bytes that are not JSON)", len(message))
	}
	return bounded(text, maxShownBytes)
}
