// Package upgrade has a running server give everything to its successor, the program that lies at
// its path now, without closing a connection. It decides what happens in which order, and what is
// undone when something fails; Host does it.
//
// All connections are silent for one moment, which costs about 6 µs for each: nothing is read, what
// is under way takes effect, and all state goes to the successor. Until the successor has confirmed
// all of it, every step can be undone. A hand-over bit by bit would make the moment shorter, but
// for its time two processes would own the state of a channel.
//
// A process that has given TLS connections stays until they have ended, and relays their bytes, see
// package relay.
//
//	ask ─▶ start the successor ─▶ it could serve ─▶ no request is answered any more
//	    ─▶ all loops stand still ─▶ state, connections ─▶ it has all ─▶ yours
//
// Files:
//
//	upgrade.go   the side that gives
//	heir.go      the side that takes
//	sections.go  state that is no connection, by names
package upgrade

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"time"

	"reverb/internal/handover"
	"reverb/internal/relay"
	"reverb/internal/supervise"
)

const (
	// Patience bounds the time until a successor could serve. Larger: a successor that hangs is
	// noticed later. Smaller: one that waits for Redis is given up.
	Patience = 30 * time.Second
	// Limit bounds the time in which nothing is read. Larger: connections are silent for longer if
	// the successor hangs. Smaller: very many connections do not pass.
	Limit = 10 * time.Second
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
	// Pause makes new connections wait in the system, and waits for the answers to requests. resume
	// undoes it. ok is false if a request goes on.
	Pause() (resume func(), ok bool)
	// Stand makes all loops stand still, until end is called. With leave they end, without a word
	// to the connections that were given.
	Stand() (end func(leave bool))
	// State gives send all state but that of connections.
	State(send func(name string, state []byte) error) error
	// Loops is how many loops there are. Give gives the connections of one of them; any goroutine
	// may call it, but one for each loop.
	Loops() int
	Give(loop int, to *handover.Batch) error
}

// Upgrades are the upgrades of one server.
type Upgrades struct {
	host      Host
	role      *supervise.Role // nil: no successor can be started
	log       *slog.Logger
	asked     chan func(error)
	ended     <-chan struct{}
	successor *supervise.Child
	stay      bool          // the supervisor knows this process alone
	relays    *relay.Relays // of the TLS connections that the successor has; nil: not known
	grace     time.Duration
}

// New makes the upgrades of a server, which ends when ended is closed.
func New(host Host, role *supervise.Role, ended <-chan struct{}, log *slog.Logger) *Upgrades {
	return &Upgrades{host: host, role: role, log: log, asked: make(chan func(error)), ended: ended}
}

// Ask asks for an upgrade. tell gets the outcome. Any goroutine may call it.
func (u *Upgrades) Ask(tell func(error)) {
	told := make(chan struct{})
	select {
	case u.asked <- func(err error) {
		tell(err)
		close(told)
	}:
		<-told
	case <-u.ended:
		tell(errors.New("the server is stopping"))
	}
}

// Asked brings what Ask was called with. Its receiver calls Make with it.
func (u *Upgrades) Asked() <-chan func(error) { return u.asked }

// FollowSignals asks for an upgrade at each SIGUSR2, until ctx ends.
func (u *Upgrades) FollowSignals(ctx context.Context) {
	if u.role != nil {
		u.role.OnUpgrade(ctx, func() { u.Ask(func(error) {}) })
	}
}

// Make upgrades, and tells the outcome. done says that the successor serves, and this process
// nothing any more; otherwise it serves as before.
func (u *Upgrades) Make(tell func(error)) (done bool) {
	err := u.make()
	if err != nil {
		u.log.Error("no upgrade: this process serves on", "why", err)
	}
	tell(err)
	return err == nil
}

func (u *Upgrades) make() error {
	if u.role == nil {
		return errors.New("this process cannot start a successor")
	}
	if why := u.host.Unfit(); why != "" {
		return errors.New(why + "; use reverb restart")
	}
	child, err := u.role.Start()
	if err != nil {
		return err
	}
	began := time.Now()
	told, silent, err := u.handOver(child)
	if err != nil {
		return err
	}
	u.successor = child
	u.log.Info("the successor serves", "pid", child.PID, "now", told, "silent",
		silent.Round(time.Microsecond).String(), "took", time.Since(began).Round(
			time.Microsecond).String())
	return nil
}

// handOver gives everything to the successor. silent is how long nothing was read.
func (u *Upgrades) handOver(child *supervise.Child) (told string, silent time.Duration, err error) {
	g := handover.NewGiver(child.Conn)
	defer g.Close()
	offer, done, err := u.offer()
	if err == nil {
		defer done()
		err = g.Meet(offer, time.Now().Add(Patience))
	}
	if err != nil {
		child.Kill()
		return "", 0, err
	}
	resume, quiet := u.host.Pause()
	if !quiet {
		child.Kill()
		resume()
		return "", 0, errors.New("a request of the HTTP API takes too long; try again")
	}
	stood := time.Now()
	end := u.host.Stand()
	g.Begin(stood.Add(Limit))
	if err = u.giveAll(g); err == nil {
		u.stay, err = u.role.PassOn(child) // before the successor can start one of its own
	}
	if err != nil {
		child.Kill() // before anything is read again: it must not serve what is served here
		end(false)
		resume()
		return "", 0, err
	}
	err = g.Yours()
	silent = time.Since(stood)
	if end(true); err == nil {
		told, err = g.Serving()
	}
	if err != nil {
		u.log.Error("the successor has everything, but does not say that it serves", "why", err)
	}
	return told, silent, nil
}

// giveAll sends all state and all connections, and waits until the successor has them.
func (u *Upgrades) giveAll(g *handover.Giver) error {
	if err := u.host.State(g.Section); err != nil {
		return err
	}
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
	if err != nil {
		return err
	}
	return g.Finish()
}

// offer has the listeners, until done is called.
func (u *Upgrades) offer() (o handover.Offer, done func(), err error) {
	var files []*os.File
	done = func() {
		for _, f := range files {
			f.Close()
		}
	}
	o.Began = u.host.Began()
	for role, ln := range u.host.Listeners() {
		file, ok := ln.(interface{ File() (*os.File, error) })
		if !ok {
			continue
		}
		f, err := file.File()
		if err == nil {
			files = append(files, f)
			var raw interface{ Control(func(uintptr)) error }
			if raw, err = f.SyscallConn(); err == nil { // not Fd, which makes accepting block
				err = raw.Control(func(fd uintptr) {
					o.Listeners = append(o.Listeners, handover.Listener{Role: role, FD: int(fd)})
				})
			}
		}
		if err != nil {
			done()
			return o, nil, err
		}
	}
	return o, done, nil
}

// Succeeded says whether a successor serves.
func (u *Upgrades) Succeeded() bool { return u.successor != nil }

// Keep says which connections are relayed to the successor, and how long they may go on when this
// process is asked to end. Make has returned true.
func (u *Upgrades) Keep(relays *relay.Relays, grace time.Duration) {
	u.relays, u.grace = relays, grace
}

// End is the end of a process that has a successor. It returns when no connection is relayed any
// more, and, where the supervisor knows this process alone, at the end of the newest successor. If
// ctx ends before, it waits for what is relayed for the grace time of Keep. code is for the end of
// this process.
func (u *Upgrades) End(ctx context.Context) (code int) {
	u.host = nil // with what the connections needed
	if n := u.relays.Connections(); n > 0 {
		u.log.Info("this process stays as the relay of TLS connections", "connections", n)
	}
	if !u.stay {
		debug.FreeOSMemory()
		u.relays.Wait(ctx, u.grace)
		return 0
	}
	code = u.role.Parent(ctx, u.successor, u.log)
	over, end := context.WithCancel(ctx)
	end()
	u.relays.Wait(over, lastBytes)
	return code
}
