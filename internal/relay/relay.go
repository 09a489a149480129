// Package relay keeps TLS connections open while their server is replaced. A session of crypto/tls
// cannot leave its process. So the old process keeps the encryption and nothing else: the successor
// gets one end of a pair of Unix sockets for each connection, as if it were the client's socket,
// and the old process passes the plaintext bytes.
//
//	client ◀── TLS ──▶ old process ◀── pair of sockets ──▶ successor
//
// The state of a connection has one owner, the successor. It also decides when the connection ends.
// A relay passes on what happens at either end:
//
//	close_notify or the end of TCP  ─▶ the pair's direction ends, after all bytes
//	the client's connection breaks  ─▶ both are closed
//	the successor ends a direction  ─▶ close_notify and the end of TCP, after all bytes
//	the successor closes the pair   ─▶ the same, then TCP is closed, at the latest after patience
//
// A connection whose socket cannot be passed on ends in the successor, as if the client had
// vanished: the successor gets its state with a socket that has ended. The client gets a farewell,
// at a time of its own within Spread, so that not all return at once. Until then it is not read.
//
// Bytes that were decrypted and not read, parts of records, and ciphertext that the client has not
// taken stay with crypto/tls and package poll. They go first.
//
// A relay is as bounded as an event loop. One goroutine serves all connections of a [poll.Poller],
// with one buffer. A socket is not read while the other one does not take what it was given, so at
// most turnBytes wait in each direction beside the system's buffers.
//
// Files:
//
//	relay.go   this contract, and all relays of a process
//	link.go    one connection: which bytes and which ends go where
//	held.go    the other side: how many connections of this process are relayed
//	pair_*.go  the pair of sockets
package relay

import (
	"context"
	"math/rand/v2"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"reverb/internal/lib/poll"
)

const (
	// turnBytes bounds what is read from a socket in one turn, and what waits in one direction of a
	// connection. Larger: slow peers take more memory, and the others wait longer. Smaller: more
	// system calls.
	turnBytes = 16 << 10
	// batch is how many ends of pairs are kept open until they are sent. Larger: more descriptors
	// at that moment. Smaller: more messages between the processes.
	batch = 200
	// turnEvents bounds the events of one turn. Larger: more memory for each relay. Smaller: more
	// system calls.
	turnEvents = 256
	// patience is how long a client gets to take what is left when the successor has closed.
	// Larger: clients that do not read keep the old process longer. Smaller: slow clients miss the
	// end.
	patience = 10 * time.Second
)

// Relays are the relays of a process. The zero Relays has none.
type Relays struct {
	Number uint8         // tells a process from those before it and after it; not 0
	Spread time.Duration // of farewells

	connections atomic.Int64
	in, out     atomic.Int64
	running     sync.WaitGroup

	mu  sync.Mutex
	all []*Relay // that New has made, and End has not given up
}

// Connections is how many connections are relayed now. Any goroutine may call it.
func (g *Relays) Connections() int64 { return g.connections.Load() }

// Bytes is how many bytes of plaintext have come from the clients and from the successor. Any
// goroutine may call it.
func (g *Relays) Bytes() (in, out int64) { return g.in.Load(), g.out.Load() }

// Wait waits until no relay that was started has a connection. If ctx ends before, the connections
// that the successor does not close within grace are closed here.
func (g *Relays) Wait(ctx context.Context, grace time.Duration) {
	defer context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, r := range g.all {
			r.Stop(time.Now().Add(grace))
		}
	})()
	g.running.Wait()
}

// Relay is the relay of the connections of one Poller. One goroutine at a time calls the methods,
// except Stop.
type Relay struct {
	group  *Relays
	poller *poll.Poller
	links  []link
	fds    map[int32]bool // of the clients' sockets; true: there is a pair for it; nil after End
	given  int            // pairs, of the first links, whose other end is closed here
	ended  int            // see Pass; until End
	open   int            // links that are not closed
	late   []deadline     // the next first
	byes   []deadline     // when the rest of a link is written; the next first
	passed Given
	turns  uint8 // begins again at 0
	buf    []byte
	events []poll.Event
	stop   atomic.Int64 // when the rest is closed, in Unix nanoseconds; 0: not known
}

// Given is how many connections another process gets: as they are, or by a relay. It gets no others
// that were to be passed on; they are told to reconnect.
type Given struct{ Plain, Relayed, Told int }

// Given is what the Pass of all relays was asked for. No Pass may be under way.
func (g *Relays) Given() (all Given) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.all {
		all.Plain += r.passed.Plain
		all.Relayed += r.passed.Relayed
		all.Told += r.passed.Told
	}
	return all
}

// deadline is when something is done with a link.
type deadline struct {
	link int
	at   time.Time
}

// New makes a relay of sockets of p. Until End, p and the sockets are the caller's.
func (g *Relays) New(p *poll.Poller) *Relay {
	r := &Relay{group: g, poller: p, fds: make(map[int32]bool), ended: -1}
	if ours, theirs, err := pair(); err == nil {
		closeFD(ours)
		r.ended = theirs
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, r)
	return r
}

// Pass returns the descriptor that another process gets for a socket: the socket's own, or, if TLS
// is over it, one end of a pair, which Sent closes here. ok is false if it cannot be passed on, or
// if it is being closed; then fd is that of a socket that has ended, or -1. Where descriptors are
// short, Pass calls flush, as Sent does.
func (r *Relay) Pass(sock poll.Socket, closing bool, flush func() error) (fd int, relayed,
	ok bool) {
	if closing {
		return r.ended, false, false
	}
	own, plain := sock.Plain()
	if plain {
		r.fds[own] = false
		r.passed.Plain++
		return int(own), false, true
	}
	ours, theirs, err := -1, -1, error(nil)
	if own >= 0 {
		ours, theirs, err = pair()
		if err != nil && r.given < len(r.links) && r.Sent(flush, true) == nil {
			ours, theirs, err = pair()
		}
	}
	if ours < 0 || err != nil { // a stream, or no descriptors are left
		r.passed.Told++
		return r.ended, false, false
	}
	r.passed.Relayed++
	l := link{ours: ours, theirs: theirs}
	l.client.sock = sock
	r.links = append(r.links, l)
	r.fds[own] = true
	return theirs, true, true
}

// Sent closes the ends of pairs that are not needed here any more, after flush has sent them. It
// does nothing while they are few, unless all is set.
func (r *Relay) Sent(flush func() error, all bool) error {
	if !all && len(r.links)-r.given < batch {
		return nil
	}
	if err := flush(); err != nil {
		return err
	}
	r.closeGiven()
	return nil
}

func (r *Relay) closeGiven() {
	for ; r.given < len(r.links); r.given++ {
		if r.links[r.given].ours >= 0 {
			closeFD(r.links[r.given].theirs)
		}
	}
}

// Leave gives up a socket that another process has. It returns false if no other process has it.
func (r *Relay) Leave(sock poll.Socket) (left bool) {
	fd, _ := sock.Plain()
	relayed, left := r.fds[fd]
	if left && !relayed && sock.Forget(r.poller) != nil {
		sock.Close(r.poller) // an error changes nothing
	}
	return left
}

// Farewell takes over a socket that no other process has. The relay writes b, soon or, with spread,
// at a time within Spread, and closes the socket when the client has.
func (r *Relay) Farewell(sock poll.Socket, b []byte, spread bool) {
	at := time.Now()
	if most := int64(r.group.Spread); spread && most > 0 {
		at = at.Add(time.Duration(rand.Int64N(most)))
	}
	r.byes = append(r.byes, deadline{len(r.links), at})
	l := link{ours: -1}
	l.client.sock, l.client.rest = sock, b
	l.successor.sink, l.successor.ended, l.successor.told = true, true, true
	r.links = append(r.links, l)
}

// End begins to relay, with leave, or gives the pairs up; then the sockets are as they were before.
// The relay has a goroutine of its own, for which Relays.Wait waits. The Poller and the sockets for
// which there is a pair are the relay's. It closes the Poller when no connection is left.
func (r *Relay) End(leave bool) {
	r.closeGiven()
	if r.ended >= 0 {
		closeFD(r.ended)
	}
	if r.fds = nil; leave {
		r.start()
		return
	}
	for i := range r.links {
		closeFD(r.links[i].ours)
	}
	r.links = nil
	r.group.mu.Lock()
	defer r.group.mu.Unlock()
	r.group.all = nil // they end together
}

func (r *Relay) start() {
	g := r.group
	g.connections.Add(int64(len(r.links)))
	g.running.Go(r.run)
}

// Stop closes at a time the connections that are left then. Any goroutine may call it.
func (r *Relay) Stop(at time.Time) {
	r.stop.Store(at.UnixNano())
	r.poller.Wake()
}

func (r *Relay) run() {
	for r.begin(); r.open > 0; {
		r.turn(r.timeout(time.Now()))
		r.expire(time.Now())
	}
	r.poller.Close() // there is nothing in it
}

// begin takes the sockets over.
func (r *Relay) begin() {
	r.buf, r.events = make([]byte, turnBytes), make([]poll.Event, turnEvents)
	sort.Slice(r.byes, func(i, k int) bool { return r.byes[i].at.Before(r.byes[k].at) })
	for i := range r.links {
		r.open++
		r.take(i)
	}
}

// turn waits for sockets, and serves those that are ready. It returns how many it has served.
func (r *Relay) turn(timeout time.Duration) int {
	r.turns++
	n, err := r.poller.Wait(r.events, timeout)
	if err != nil {
		panic("internal error: poller: " + err.Error()) // the poller's own descriptor is broken
	}
	for _, ev := range r.events[:n] {
		r.handle(ev)
	}
	return n
}

// timeout is how long the relay may sleep.
func (r *Relay) timeout(now time.Time) time.Duration {
	wait := time.Duration(-1)
	for _, first := range [][]deadline{r.late, r.byes} {
		if len(first) > 0 {
			if left := max(first[0].at.Sub(now), 0); wait < 0 || left < wait {
				wait = left
			}
		}
	}
	if stop := r.stop.Load(); stop != 0 {
		if left := max(time.Unix(0, stop).Sub(now), 0); wait < 0 || left < wait {
			wait = left
		}
	}
	return wait
}

// expire closes the links whose time is over, and says farewell.
func (r *Relay) expire(now time.Time) {
	for len(r.byes) > 0 && !now.Before(r.byes[0].at) {
		r.sayGoodbye(r.byes[0].link, now)
		r.byes = r.byes[1:]
	}
	for len(r.late) > 0 && !now.Before(r.late[0].at) {
		r.close(&r.links[r.late[0].link])
		r.late = r.late[1:]
	}
	if stop := r.stop.Load(); stop != 0 && !now.Before(time.Unix(0, stop)) {
		for _, v := range r.byes { // whose time has not come
			r.sayGoodbye(v.link, now)
		}
		r.byes = nil
		for i := range r.links {
			r.close(&r.links[i])
		}
	}
}
