package relay

import (
	"bytes"
	"io"
	"time"

	"reverb/internal/lib/poll"
)

// end is one of the two sockets of a link. A direction of the link leads from one end to the other.
type end struct {
	sock    poll.Socket
	rest    []byte        // for this end; the socket has not taken it
	watch   poll.Interest // for what the poller reports it
	since   uint8         // Relay.turns when watch was set
	blocked bool          // bytes wait until the socket is writable
	ended   bool          // no more comes from this end, and all of it was read
	told    bool          // this end was told that no more comes
	gone    bool          // this end takes nothing any more
	sink    bool          // there is no socket: what this end is given is dropped
}

// link is one connection. The zero link is closed.
type link struct {
	client, successor end
	ours, theirs      int  // the ends of the pair, until successor.sock has ours
	open              bool // the relay has taken both sockets
	late              bool // it is on Relay.late
}

// The tokens of a link are twice its number, for the client, and one more, for the successor.

func (r *Relay) handle(ev poll.Event) {
	l := &r.links[ev.Token>>1]
	if !l.open {
		return
	}
	from, to, count := &l.client, &l.successor, &r.group.in
	if ev.Token&1 == 1 {
		from, to, count = to, from, &r.group.out
	}
	if from.watch == poll.Ending {
		// an event of the turn in which watch was set may tell of bytes
		from.gone = from.gone || from.since != r.turns
	}
	if ev.Writable && from.blocked {
		r.write(from, from.rest)
	}
	if ev.Readable && from.watch&poll.Reading != 0 && !to.blocked {
		count.Add(int64(r.pass(from, to)))
	}
	r.settle(int(ev.Token >> 1))
}

// take begins to relay a link.
func (r *Relay) take(i int) {
	l := &r.links[i]
	l.open = true
	if l.successor.sink { // until its time it is not reported
		if l.client.sock.Watch(r.poller, uint64(i)<<1, 0) != nil {
			r.close(l)
		}
		return
	}
	var err error
	if l.successor.sock, err = r.poller.Hold(l.ours); err != nil {
		closeFD(l.ours)
		l.client.gone = true
	} else {
		r.write(&l.client, nil) // what the layer has made earlier
	}
	r.settle(i)
}

// sayGoodbye writes the farewell of a link, and waits for the client to close.
func (r *Relay) sayGoodbye(i int, now time.Time) {
	if l := &r.links[i]; l.open {
		l.late = true
		r.late = append(r.late, deadline{i, now.Add(patience)})
		r.write(&l.client, l.client.rest)
		r.settle(i)
	}
}

// pass reads once from one end, and gives the n bytes to the other, for which nothing waits.
func (r *Relay) pass(from, to *end) (n int) {
	n, err := from.sock.Read(r.poller, r.buf)
	if n > 0 && !to.gone {
		r.write(to, r.buf[:n])
		to.rest = bytes.Clone(to.rest) // r.buf is used for all
	}
	if err == nil || err == poll.ErrAgain {
		if !from.blocked {
			r.write(from, nil) // a layer may answer by itself, as TLS does to a change of keys
		}
		return n
	}
	from.ended = true
	from.gone = from.gone || err != io.EOF
	return n
}

// write gives b to an end, and keeps in e.rest what it does not take.
func (r *Relay) write(e *end, b []byte) {
	if e.sink {
		return
	}
	n, err := e.sock.Write(r.poller, b)
	e.blocked = err == poll.ErrAgain
	e.gone = e.gone || err != nil && !e.blocked
	if e.rest = b[n:]; len(e.rest) == 0 || e.gone {
		e.rest = nil
	}
}

// tell says to an end that no more comes, when it has taken all.
func (r *Relay) tell(e *end) {
	if e.told || e.blocked || e.gone {
		return
	}
	if err := e.sock.CloseWrite(r.poller); err != nil {
		e.gone = true
		return
	}
	r.write(e, nil)
	e.told = !e.blocked // else CloseWrite did not reach below the layer
}

// settle does what follows from the state of a link, and asks for the events that it needs.
func (r *Relay) settle(i int) {
	l := &r.links[i]
	c, s := &l.client, &l.successor
	if s.ended {
		r.tell(c)
	}
	if c.ended {
		r.tell(s)
	}
	if c.gone || s.ended && c.told && (s.gone || c.ended && s.told) {
		r.close(l)
		return
	}
	if s.gone && !l.late {
		l.late = true
		r.late = append(r.late, deadline{i, time.Now().Add(patience)})
	}
	r.watch(l, c, s, uint64(i)<<1)
	if l.open {
		r.watch(l, s, c, uint64(i)<<1|1)
	}
}

// watch asks for the events of one end that matter now.
func (r *Relay) watch(l *link, e, other *end, token uint64) {
	var w poll.Interest
	if !e.ended && !other.blocked && !other.gone {
		w |= poll.Reading
	}
	if e.blocked && !e.gone {
		w |= poll.Writing
	}
	// A successor that closes is noticed while nothing is read from it. The client's bytes come
	// before its end, so its end waits for them.
	if w == 0 && e == &l.successor && !e.gone && !e.sink {
		w = poll.Ending
	}
	if w == e.watch {
		return
	}
	e.watch, e.since = w, r.turns
	if e.sock.Watch(r.poller, token, w) != nil { // the system has no memory for it
		r.close(l)
	}
}

// close closes both sockets.
func (r *Relay) close(l *link) {
	if !l.open {
		return
	}
	l.client.sock.Close(r.poller) // an error changes nothing
	if l.successor.sock != (poll.Socket{}) && !l.successor.sink {
		l.successor.sock.Close(r.poller)
	}
	*l = link{}
	r.open--
	r.group.connections.Add(-1)
}
