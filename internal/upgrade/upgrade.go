// Package upgrade has a running server give everything to its successor, the program that lies at
// its path now, without closing a connection. It decides what happens in which order, and what is
// undone when something fails; Host does it.
//
// All connections are silent for one moment, which costs about 5 µs for each: nothing is read, what
// is under way takes effect, and all state goes to the successor. Until the successor has confirmed
// all of it, every step can be undone. A hand-over bit by bit would make the moment shorter, but
// for its time two processes would own the state of a channel.
//
// A process that has given TLS connections stays until they have ended, and relays their bytes, see
// package relay.
//
//	ask ─▶ start the successor ─▶ it could serve ─▶ no request is answered any more
//	    ─▶ all loops stand still ─▶ state, connections ─▶ it has all ─▶ yours ─▶ mine
//	    ─▶ it serves ─▶ HTTP connections, which have no request
//
// Files:
//
//	upgrade.go   the side that gives
//	heir.go      the side that takes
//	late.go      HTTP connections, which go from one to the other at the end
//	fixed.go     settings that the two must have in common
//	leaving.go   connections that the successor tells to reconnect at once
//	sections.go  state that is no connection, by names
//	drains.go    when the connections of relays are told to reconnect
//	figures.go   what is said of upgrades
//	restarts.go  when a restart, which may be an upgrade, begins
package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"reverb/internal/admin"
	"reverb/internal/handover"
	"reverb/internal/lib/accept"
	"reverb/internal/lib/descriptors"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/successor"
	"reverb/internal/relay"
	"reverb/internal/supervise"
)

const (
	// patience bounds the time until a successor could serve. Larger: a successor that hangs is
	// noticed later. Smaller: one that waits for Redis is given up.
	patience = 30 * time.Second
	// standLimit bounds the time until all loops stand still. Larger: connections are silent for
	// longer if a loop hangs. Smaller: a busy server is not upgraded.
	standLimit = 3 * time.Second
	// Limit bounds the time in which nothing is read. Larger: connections are silent for longer if
	// the successor hangs. Smaller: very many connections do not pass.
	Limit = 10 * time.Second
	// wordLimit bounds the time until the successor says that it knows that everything is its own,
	// then the time until it says that it serves, and then the time in which it takes HTTP
	// connections. Larger: connections are silent for longer if it hangs. Smaller: what a slow one
	// has installed already is thrown away.
	wordLimit = 5 * time.Second
	// requestLimit bounds the wait for answers to requests, and then the wait until those that are
	// left do nothing. Larger: new connections wait longer for a slow request. Smaller: its peer
	// gets no answer.
	requestLimit = time.Second
	// lateLimit is how long an upgrade waits at most for HTTP connections that the one before has
	// left on their way; package handover bounds it.
	lateLimit = 5 * time.Second
	// Longest is how long an upgrade takes at most, whether it is made or not: the sum of all that
	// it waits for.
	Longest = patience + 2*requestLimit + standLimit + Limit + 3*wordLimit + lateLimit
	// beatTime is how often the host may tell that it lives while the successor starts. Larger: a
	// short watchdog ends the server. Smaller: the loops have more to do.
	beatTime = 100 * time.Millisecond
	// lastBytes bounds the time in which a relay passes on what a successor has left that has
	// ended. Larger: the supervisor waits longer. Smaller: slow clients miss the end.
	lastBytes = time.Second
)

// Host is the server that gives. One goroutine calls the methods, except Give.
type Host interface {
	// Unfit says why the server cannot be handed over; empty: it can.
	Unfit() string
	// Listeners are its listeners by role, see package listen.
	Listeners() map[string]net.Listener
	Began() time.Time // see handover.Offer
	Version() string  // of the program
	// Beat tells whoever watches the server that it lives. It is called every beatTime while the
	// successor starts.
	Beat()
	// HTTP is what stands before the server of the HTTP API, and that server.
	HTTP() (*accept.Gate, *http.Server)
	// Stand makes all loops stand still, until end is called. With leave they end, without a word
	// to the connections that were given. After an error end(false) must be called. If a loop does
	// not stand still within limit, the error says which.
	Stand(limit time.Duration) (end func(leave bool), err error)
	// State gives send all state but that of connections, and the descriptors that belong to it.
	State(send func(name string, state []byte, fds ...int) error) error
	// Loops is how many loops there are. Give gives the connections of one of them; any goroutine
	// may call it, but one for each loop.
	Loops() int
	Give(loop int, to *handover.Batch) error
	// Relays are where a loop leaves what it cannot pass on. Grace is the time over which
	// connections are told to reconnect.
	Relays() *relay.Relays
	Grace() time.Duration
	// Files is how many descriptors are left.
	Files() int
	// Each calls visit for every connection, with its app and the relay that has its socket, or 0,
	// and done for each loop at its end. The loops call them, while they serve.
	Each(visit func(app string, sock *poll.Socket, relay uint8), done func())
	// Tell tells a part, of so many parts, of the connections of a relay to reconnect.
	Tell(relay uint8, part, parts int)
}

// Upgrades are the upgrades of one server.
type Upgrades struct {
	drains // of the relays before this process

	host  Host
	role  *supervise.Role // nil: no successor can be started
	log   *slog.Logger
	asked chan request
	ended <-chan struct{}

	underWay  atomic.Bool // a successor was started, and its start is not over
	mu        sync.Mutex
	figures   admin.Upgrades
	successor *supervise.Child
	stay      bool          // the supervisor knows this process alone
	relays    *relay.Relays // of the TLS connections that the successor has
	late      chan struct{} // closed when the predecessor has sent all; nil: there is none
}

// request asks for an upgrade, or what one would do. tell gets the answer. ctx ends when who asks
// has gone.
type request struct {
	ctx  context.Context
	who  string
	dry  bool
	tell func(text string, err error)
}

// errUnderWay is the answer to who asks while an upgrade, or a look at one, is under way.
var errUnderWay = errors.New("an upgrade is under way: wait for its end")

// errGone is the answer to who has gone.
var errGone = errors.New("who has asked has gone")

// New makes the upgrades of a server, which ends when ended is closed. held counts its connections
// that relays have.
func New(host Host, role *supervise.Role, held *relay.Held, ended <-chan struct{},
	log *slog.Logger) *Upgrades {
	return &Upgrades{drains: drains{held: held}, host: host, role: role, log: log,
		relays: host.Relays(), asked: make(chan request), ended: ended}
}

// Figures are what has been counted. Any goroutine may call it.
func (u *Upgrades) Figures() admin.Upgrades {
	u.mu.Lock()
	f := u.figures
	u.mu.Unlock()
	f.Relays, f.Relayed = u.held.Count()
	return f
}

// ask asks for an upgrade or, with dry, what one would do; who asks is for the log. tell gets the
// answer, a sentence, before Ask returns; while another upgrade is under way, that is errUnderWay,
// at once. If ctx ends before the upgrade begins, there is none. Any goroutine may call it.
func (u *Upgrades) ask(ctx context.Context, who string, dry bool,
	tell func(text string, err error)) {
	told := make(chan struct{})
	select {
	case u.asked <- request{ctx, who, dry, func(text string, err error) {
		tell(text, err)
		close(told)
	}}:
		<-told
	case <-ctx.Done():
		tell("", errGone)
	case <-u.ended:
		why := "the server is stopping"
		if u.Succeeded() {
			why = fmt.Sprintf("process %d serves now, as somebody else has asked for that at this "+
				"moment: ask again for another upgrade", u.successor.PID)
		}
		tell("", errors.New(why))
	}
}

// Asked brings what Ask was called with. Its receiver calls Make with it.
func (u *Upgrades) Asked() <-chan request { return u.asked }

// FollowSignals asks for an upgrade at each SIGUSR2, until ctx ends.
func (u *Upgrades) FollowSignals(ctx context.Context) {
	if u.role != nil {
		u.role.OnUpgrade(ctx, func() { u.ask(ctx, "SIGUSR2", false, func(string, error) {}) })
	}
}

// Make does what was asked for. done says that the successor serves, and this process nothing any
// more; otherwise it serves as before. A successor that starts when ctx ends is given up.
func (u *Upgrades) Make(ctx context.Context, r request) (done bool) {
	if r.ctx.Err() != nil {
		r.tell("", errGone)
		return false
	}
	if r.dry {
		r.tell(u.plan(ctx, r.ctx))
		return false
	}
	u.log.Info("an upgrade is asked for", "by", r.who)
	report, err := u.make(ctx)
	if err != nil {
		u.log.Error("no upgrade: this process serves on", "asked_by", r.who, "why", err)
		r.tell("", err)
		return false
	}
	u.say(report)
	r.tell(report.String(), report.Silence)
	return true
}

// alone answers everybody else who asks, until over is called.
func (u *Upgrades) alone() (over func()) {
	u.underWay.Store(true)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case r := <-u.asked:
				if !r.dry {
					u.log.Warn("an upgrade is under way, so no other one begins", "asked_by", r.who)
				}
				r.tell("", errUnderWay)
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		u.underWay.Store(false)
	}
}

func (u *Upgrades) say(report report) {
	if report.Silence != nil {
		u.log.Error("no word of the successor", "why", report.Silence)
		return
	}
	u.log.Info("the successor serves", "pid", report.PID, "version",
		u.host.Version()+" → "+report.Version, "supervisor", u.role.Found(),
		"moved", report.Plain+report.Relayed, "relayed", report.Relayed, "told", report.Told,
		"silent", report.Silent.Round(time.Microsecond).String(),
		"took", report.Took.Round(time.Microsecond).String(), "now", report.Now)
}

// Restart upgrades, if mode is auto or upgrade. If no upgrade is possible, the server stops where
// mode is auto, the next process would start, see hopeless, and somebody is known who starts it;
// else it serves on, and serveOn says why. Who has asked is told what happens. ctx is as in Make.
func (u *Upgrades) Restart(ctx context.Context, mode string, r *restart) (serveOn error) {
	if r.gone() {
		u.log.Info("no restart, as who has asked has gone", "asked", r.Why)
		return errGone
	}
	if mode == "drain" {
		r.say("every connection is told to reconnect, as REVERB_RESTART=drain says")
		return nil
	}
	u.log.Info("upgrading, as " + r.Why)
	report, err := u.make(ctx)
	if err == nil {
		u.say(report)
		r.say(report.String())
		return nil
	}
	starter, known := "", false
	if u.role != nil {
		starter, known = u.role.Restarts()
	}
	switch no := hopeless(err); {
	case mode == "auto" && !no:
		err = fmt.Errorf("%w; so the server serves on, with the old program and configuration",
			err)
	case mode == "auto" && known:
		u.log.Warn("no upgrade, so all connections are told to reconnect, and the next process is "+
			"left to who supervises", "supervisor", starter, "why", err)
		r.say("no upgrade: " + err.Error() + "; so every connection is told to reconnect, and " +
			"the next process is left to who supervises: " + starter)
		return nil
	case mode == "auto":
		err = fmt.Errorf("%w; and nobody is known who would start the next process, so this one "+
			"serves on, with the old program and configuration: stop and start it, or, if "+
			"something starts it again, set REVERB_RESTART=drain", err)
	}
	u.log.Error("no restart: this process serves on", "asked", r.Why, "why", err)
	return err
}

// never is why there is no upgrade, though the next process would start after a stop.
type never struct{ error }

// hopeless says whether the next process would start after a stop, as far as is known, though
// there was no upgrade for the reason err. It is not so where the program or its configuration is
// broken, or where that was not found out.
func hopeless(err error) bool {
	_, no := errors.AsType[never](err)
	says, _ := errors.AsType[handover.Refusal](err)
	return no || says.Stop || errors.Is(err, successor.ErrSystem)
}

// plan says what an upgrade would do, or why there would be none. It starts the successor, and ends
// it when that could serve.
func (u *Upgrades) plan(ctx, asker context.Context) (string, error) {
	t, err := u.rehearse(ctx, asker)
	if err != nil {
		return "", err
	}
	l := newLeaving(t)
	var mu sync.Mutex
	var loops sync.WaitGroup
	loops.Add(u.host.Loops())
	u.host.Each(func(app string, sock *poll.Socket, relay uint8) {
		if _, plain := sock.Plain(); !plain {
			relay = u.own()
		}
		mu.Lock()
		defer mu.Unlock()
		l.add(app, relay)
	}, loops.Done)
	loops.Wait()
	files := u.host.Files() - startFiles - 2*u.host.Loops()
	return planned(l, &u.drains, files, time.Now()).String(), nil
}

// startFiles is how many descriptors an upgrade takes, beside two for each loop and one for each
// connection that is relayed: of the successor, and its sockets.
const startFiles = 3

// rehearse starts a successor, as an upgrade does, and ends it when it could serve.
func (u *Upgrades) rehearse(ctx, asker context.Context) (t terms, err error) {
	if err := u.unfit(); err != nil {
		return t, err
	}
	defer u.alone()()
	child, err := u.role.Start()
	if err != nil {
		return t, err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(asker, end)() // nobody waits for it
	g := handover.NewGiver(child.Conn)
	defer g.Close()
	t, err = u.await(ctx, g, child)
	if child.Kill(); err != nil {
		return t, u.explain(err, child)
	}
	return t, nil
}

// unfit says why the server cannot be handed over.
func (u *Upgrades) unfit() error {
	if u.role == nil {
		return never{errors.New("this process cannot start a successor")}
	}
	if why := u.host.Unfit(); why != "" {
		return never{errors.New(why + ": use reverb restart")}
	}
	if n := u.standing(); n >= mostKnown {
		return never{fmt.Errorf("%d processes from earlier upgrades relay TLS connections still, "+
			"and there may be %d: they end when their connections were told to reconnect, each "+
			"within REVERB_SHUTDOWN_GRACE; wait for that, or use reverb restart", n, mostKnown-1)}
	}
	return nil
}

func (u *Upgrades) make(ctx context.Context) (r report, err error) {
	counted := &u.figures.Refused
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if err != nil {
			*counted++
		}
	}()
	if err := u.unfit(); err != nil {
		return r, err
	}
	defer u.alone()()
	began := time.Now()
	child, err := u.role.Start()
	if err != nil {
		return r, err
	}
	g := handover.NewGiver(child.Conn)
	defer g.Close()
	t, end, stood, err := u.meet(ctx, g, child)
	if err != nil {
		child.Kill()
		return r, u.explain(err, child)
	}
	counted = &u.figures.Failed
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // while all wait
	if r.Given, err = u.give(g, began, stood); err == nil {
		err = u.part(g, child)
	}
	if err != nil {
		child.Kill() // before anything is read again: it must not serve what is served here
		end(false)
		return r, u.explain(err, child)
	}
	r.Version, r.PID, r.Silent = t.version, child.PID, time.Since(stood)
	relays := u.relays.Given().Relayed > 0
	if relays {
		end(true) // at once, since they begin then
	}
	r.Now, err = g.Serving()
	u.move(g)
	if !relays {
		end(true) // now, since it takes time that the successor needed
	}
	if err != nil {
		r.Silence = fmt.Errorf("process %d has taken over everything, but does not say that it "+
			"serves (%w): read what it has logged, and ask reverb status", child.PID, err)
	}
	r.Took = time.Since(began)
	u.successor = child
	return r, nil
}

// explain turns what package handover says of a successor, which has been ended, into a sentence
// for the operator.
func (u *Upgrades) explain(err error, child *supervise.Child) error {
	switch {
	case errors.Is(err, handover.ErrDied) && u.role.Old():
		return never{fmt.Errorf("%s is a version from before 1.1.0, which cannot take over: use "+
			"reverb restart", child.Path)}
	case errors.Is(err, handover.ErrDied):
		code, known := child.Code()
		if n := code - 128; known && n > 0 && n < 65 { // else it has ended itself
			return fmt.Errorf("%s was started and crashed (%v): read what it has logged; the "+
				"file may be incomplete, or memory is short: put the new version there once more",
				child.Path, syscall.Signal(n))
		}
		ended := "has ended"
		if known {
			ended += fmt.Sprintf(" with code %d", code)
		}
		return fmt.Errorf("%s was started and %s without a word: read what it has logged, and "+
			"run %[1]s check", child.Path, ended)
	case errors.Is(err, handover.ErrLate):
		return fmt.Errorf("%s was started and does not answer within %v, or within %v once it "+
			"could serve: read what it has logged, and run %[1]s check", child.Path, patience,
			Limit)
	case errors.Is(err, handover.ErrForeign):
		return fmt.Errorf("%s was started and is no program that can take over (%w): put the "+
			"new version there", child.Path, err)
	}
	return err
}

// meet waits until the successor could serve, and makes everything stand still, since stood. end
// ends that; with leave, all is the successor's.
func (u *Upgrades) meet(ctx context.Context, g *handover.Giver, child *supervise.Child) (
	t terms, end func(leave bool), stood time.Time, err error) {
	gate, _ := u.host.HTTP()
	gate.Loosen(true)
	if t, err = u.await(ctx, g, child); err != nil {
		gate.Loosen(false)
		return t, nil, stood, err
	}
	u.relays.Number, u.relays.Spread = u.own(), u.host.Grace()
	if u.late != nil {
		<-u.late // a pause waits for connections that have come
	}
	pause, quiet := gate.Pause(requestLimit)
	resume := func(leave bool) {
		gate.Loosen(leave)
		pause(leave)
	}
	if !quiet {
		resume(false)
		err := errors.New("a request of the HTTP API takes too long: try again")
		return t, nil, stood, never{err}
	}
	stood = time.Now()
	goOn, err := u.host.Stand(standLimit)
	end = func(leave bool) {
		goOn(leave)
		resume(leave)
	}
	if err != nil {
		end(false)
		err = never{err}
	}
	return t, end, stood, err
}

// await waits until the successor could serve. The server serves meanwhile, and is seen to live.
func (u *Upgrades) await(ctx context.Context, g *handover.Giver, child *supervise.Child) (
	t terms, err error) {
	offer, done, err := u.offer()
	if err != nil {
		return t, err
	}
	defer done()
	met := make(chan error, 1)
	go func() {
		b, err := g.Meet(offer, time.Now().Add(patience))
		t = parseTerms(b)
		met <- err
	}()
	beat := time.NewTicker(beatTime)
	defer beat.Stop()
	for {
		select {
		case err := <-met:
			return t, err
		case <-beat.C:
			u.host.Beat()
		case <-ctx.Done():
			child.Kill()
			<-met
			return t, errors.New("the server is stopping")
		}
	}
}

// give sends all state and all connections, and waits until the successor has them. given has what
// becomes of them there.
func (u *Upgrades) give(g *handover.Giver, began, stood time.Time) (given relay.Given, err error) {
	g.Begin(time.Now().Add(Limit), wordLimit)
	if err := u.host.State(g.Section); err != nil {
		return given, err
	}
	if err := g.Section(sectionRelays, u.drains.state(time.Now())); err != nil {
		return given, err
	}
	if err := u.giveConnections(g); err != nil {
		return given, err
	}
	u.mu.Lock()
	next := u.figures
	u.mu.Unlock()
	given = u.relays.Given()
	add(&next, report{Given: given})
	state := figuresState(&next, time.Since(began), time.Since(stood))
	if err := g.Section(sectionFigures, state); err != nil {
		return given, err
	}
	told, relayed, err := g.Finish()
	return less(given, told, relayed), err
}

// part gives the successor, which has everything, the place under the supervisor, before it can
// start a successor of its own, and then everything for its own. After an error all is still this
// process's, and the successor has ended.
//
// A successor that ends before it knows that all is its own has touched nothing, so this process
// could serve on. It does, where the supervisor knows this process alone. Others have been told of
// the successor, and may have seen its end: then they end the service, whatever is said to them.
func (u *Upgrades) part(g *handover.Giver, child *supervise.Child) (err error) {
	if u.stay, err = u.role.PassOn(child); err != nil {
		return err
	}
	if err = g.Yours(); err == nil || !u.stay {
		return nil // Serving says what is wrong
	}
	if child.Child.Kill(); g.Taken() { // the pipe stays open
		return nil
	}
	u.role.TakeBack()
	u.stay = false
	return err
}

// giveConnections sends the connections of all loops at once.
func (u *Upgrades) giveConnections(g *handover.Giver) error {
	loops := u.host.Loops()
	failed := make(chan error, loops)
	for i := range loops {
		go func() {
			batch := g.Batch()
			err := u.host.Give(i, batch)
			failed <- cmp.Or(err, batch.Flush())
		}()
	}
	var err error
	for range loops {
		err = cmp.Or(err, <-failed)
	}
	return err
}

// offer has the listeners, until done is called.
func (u *Upgrades) offer() (o handover.Offer, done func(), err error) {
	var all descriptors.Set
	o.Began = u.host.Began()
	for role, ln := range u.host.Listeners() {
		err := all.Add(ln)
		if errors.Is(err, descriptors.ErrNone) {
			continue
		}
		if err != nil {
			all.Close()
			return o, nil, err
		}
		fd := all.FDs[len(all.FDs)-1]
		o.Listeners = append(o.Listeners, handover.Listener{Role: role, FD: fd})
	}
	return o, all.Close, nil
}

// Succeeded says whether a successor serves.
func (u *Upgrades) Succeeded() bool { return u.successor != nil }

// End is the end of a process that has a successor. It returns when no connection is relayed any
// more, and, where the supervisor knows this process alone, at the end of the newest successor. If
// ctx ends before, it waits for what is relayed for the time in which farewells are spread. code is
// for the end of this process.
func (u *Upgrades) End(ctx context.Context) (code int) {
	u.host = nil // with what the connections needed
	if !u.stay {
		debug.FreeOSMemory()
		u.relay(ctx, u.relays.Spread, "this process was asked to stop")
		return 0
	}
	over, end := context.WithCancel(context.Background())
	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		u.relay(over, lastBytes, "the process that serves has ended")
	}()
	code = u.role.Parent(ctx, u.successor, u.log)
	end()
	<-relayed
	return code
}

// relay waits for what is relayed, as relay.Relays.Wait, and logs what was. cut says why ctx ends.
func (u *Upgrades) relay(ctx context.Context, grace time.Duration, cut string) {
	n, began := u.relays.Connections(), time.Now()
	if n == 0 {
		return
	}
	u.log.Info("this process stays as the relay of TLS connections", "connections", n,
		"pid", os.Getpid())
	u.relays.Wait(ctx, grace)
	why := "every connection has ended"
	if ctx.Err() != nil {
		why = cut
	}
	in, out := u.relays.Bytes()
	u.log.Info("the relay of TLS connections has ended, as "+why, "connections", n,
		"pid", os.Getpid(), "bytes_from_clients", in, "bytes_to_clients", out,
		"after", time.Since(began).Round(time.Second).String())
}
