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
//	pair_*.go  the pair of sockets
package relay

import (
	"context"
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
	connections atomic.Int64
	in, out     atomic.Int64
	running     sync.WaitGroup

	mu  sync.Mutex
	all []*Relay // that were started
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
	fds    map[int32]bool // of the clients' sockets; nil after End
	given  int            // pairs, of the first links, whose other end is closed here
	open   int            // links that are not closed
	late   []deadline
	turns  uint8 // begins again at 0
	buf    []byte
	events []poll.Event
	stop   atomic.Int64 // when the rest is closed, in Unix nanoseconds; 0: not known
}

// deadline is when a link is closed, at the latest.
type deadline struct {
	link int
	at   time.Time
}

// New makes a relay of sockets of p. Until End, p and the sockets are the caller's.
func (g *Relays) New(p *poll.Poller) *Relay {
	return &Relay{group: g, poller: p, fds: make(map[int32]bool)}
}

// Pass returns the descriptor that another process gets for a socket: the socket's own, or, if TLS
// is over it, one end of a pair, which Sent closes here. ok is false if it cannot be passed on.
func (r *Relay) Pass(sock poll.Socket) (fd int, relayed, ok bool) {
	own, plain := sock.Plain()
	if plain || own < 0 {
		return int(own), false, plain
	}
	ours, theirs, err := pair()
	if err != nil { // no descriptors are left
		return -1, false, false
	}
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
		closeFD(r.links[r.given].theirs)
	}
}

// Leave gives up a socket that another process has, or closes one that it has not. A socket of
// which this relay has a pair stays.
func (r *Relay) Leave(sock poll.Socket) {
	if fd, _ := sock.Plain(); !r.fds[fd] && sock.Forget(r.poller) != nil {
		sock.Close(r.poller) // an error changes nothing
	}
}

// End begins to relay, with leave, or gives the pairs up; then the sockets are as they were before.
// The relay has a goroutine of its own, for which Relays.Wait waits. The Poller and the sockets for
// which there is a pair are the relay's. It closes the Poller when no connection is left.
func (r *Relay) End(leave bool) {
	r.closeGiven()
	if r.fds = nil; leave {
		r.start()
		return
	}
	for i := range r.links {
		closeFD(r.links[i].ours)
	}
	r.links = nil
}

func (r *Relay) start() {
	g := r.group
	g.mu.Lock()
	g.all = append(g.all, r)
	g.mu.Unlock()
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
	if len(r.late) > 0 {
		wait = max(r.late[0].at.Sub(now), 0)
	}
	if stop := r.stop.Load(); stop != 0 {
		if left := max(time.Unix(0, stop).Sub(now), 0); wait < 0 || left < wait {
			wait = left
		}
	}
	return wait
}

// expire closes the links whose time is over.
func (r *Relay) expire(now time.Time) {
	for len(r.late) > 0 && !now.Before(r.late[0].at) {
		r.close(&r.links[r.late[0].link])
		r.late = r.late[1:]
	}
	if stop := r.stop.Load(); stop != 0 && !now.Before(time.Unix(0, stop)) {
		for i := range r.links {
			r.close(&r.links[i])
		}
	}
}
