package handover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"reverb/internal/lib/recordlog"
)

// Receiver gets what was given. The taker's goroutine calls it.
type Receiver interface {
	// Section gets state by its name, and the descriptors that belong to it, which the receiver
	// owns, also after an error. A name that it does not know changes nothing.
	Section(name string, state []byte, fds []int) error
	// Connection gets a connection, and its descriptor, which the receiver owns, also after an
	// error.
	Connection(c *Connection, fd int) error
	// Told is asked when all have come: how many of the connections the receiver tells to reconnect
	// at once, and those of them that the giver relays.
	Told() (all, relayed int)
}

// Taker is the side that takes.
type Taker struct {
	pipe
	shared                [][]byte
	sections, connections uint64
}

// Join greets the giver at the other end of a pair, and returns its offer. The caller owns the
// descriptors. The error of Join is not told to the giver, see Refuse.
func Join(c *net.UnixConn, until time.Time) (t *Taker, o Offer, err error) {
	t = &Taker{pipe: pipe{c: c}}
	t.until(until)
	hello := binary.AppendUvarint(binary.AppendUvarint(nil, FirstFormat), LastFormat)
	if err := t.send(kindHello, hello); err != nil {
		return t, o, err
	}
	offer, fds, err := t.expect(kindOffer, "offer", true)
	if err != nil {
		return t, o, err
	}
	r, age := readerOf(offer), time.Duration(-1)
	format := r.Number()
	for f, more := r.next(); more; f, more = r.next() {
		switch {
		case f.tag == tagBegan:
			age = monotonic() - time.Duration(f.n)
		case f.tag == tagRole && len(o.Listeners) < len(fds):
			o.Listeners = append(o.Listeners, Listener{f.text(), fds[len(o.Listeners)]})
		}
	}
	if r.Bad || len(o.Listeners) != len(fds) || len(fds) == 0 ||
		len(fds) > maxListeners || format < FirstFormat || format > LastFormat || age < 0 {
		closeFiles(fds)
		return t, Offer{}, errors.New("hand-over: the offer makes no sense")
	}
	// a moment earlier, so that no tick of the giver is in the future here
	o.Began = time.Now().Add(-age - time.Millisecond)
	t.until(time.Time{})
	return t, o, nil
}

// The tags of an offer, and of the head of a section.
const (
	tagRole = iota + 1
	tagBegan
)

const (
	tagName = iota + 1
	tagLen
)

// Refuse tells the giver why this process cannot serve, and ends the hand-over.
func (t *Taker) Refuse(r Refusal) {
	k := kindNo
	if r.Stop {
		k = kindStop
	}
	t.send(k, []byte(r.Why[:min(len(r.Why), maxFrame)])) // the giver may be gone
	t.c.Close()
}

// Take says that this process could serve, and receives everything. terms, of less than 1 MiB, are
// for the giver. After a nil error all that r
// got is this process's. orphan says that the giver has died before its last word, so that r may
// not have got all. A giver that dies before the first section has left nothing; that is an error.
func (t *Taker) Take(r Receiver, terms []byte) (orphan bool, err error) {
	if err := t.send(kindReady, terms); err != nil {
		return false, err
	}
	for installed, over := false, false; !over && err == nil; {
		installed, over, err = t.next(r, installed)
	}
	if errors.Is(err, ErrDied) && t.sections > 0 {
		return true, nil
	}
	return false, err
}

// next takes one frame. was says that everything was installed before; over, that this was the
// last word.
func (t *Taker) next(r Receiver, was bool) (installed, over bool, err error) {
	k, payload, fds, err := t.receive()
	if err == nil {
		err = t.judge(k, fds, was)
	}
	if err != nil {
		return was, false, err
	}
	switch k {
	case kindYours:
		t.send(kindMine, nil) // the giver may be gone, and has given everything
		return was, true, nil
	case kindSection:
		err = t.section(payload, fds, maxState, r.Section)
	case kindShared:
		err = t.share(payload)
	case kindBatch:
		err = t.batch(payload, fds, r)
	case kindAll:
		return true, false, t.all(payload, r)
	}
	return was, false, err
}

// judge says whether a frame may come now. It closes its descriptors if not.
func (t *Taker) judge(k kind, fds []int, installed bool) error {
	batch := k == kindBatch
	switch {
	case installed != (k == kindYours),
		k != kindYours && k != kindSection && k != kindShared && !batch && k != kindAll:
		closeFiles(fds)
		return errFrame(k, "state")
	case batch != (len(fds) > 0) && k != kindSection:
		closeFiles(fds)
		return errors.New("hand-over: descriptors do not match their frame")
	}
	return nil
}

// maxState bounds a section, and a shared slice. Larger: the taker takes more memory for a wrong
// length. Smaller: larger state does not pass.
const maxState = 256 << 20

// rest receives the bytes that follow in pieces, at most so many.
func (t *Taker) rest(size, most uint64) (b []byte, err error) {
	if size > most {
		return nil, fmt.Errorf("hand-over: a state of %d bytes", size)
	}
	for uint64(len(b)) < size {
		piece, _, err := t.expect(kindMore, "more", false)
		if err != nil {
			return nil, err
		}
		if len(piece) == 0 || uint64(len(b)+len(piece)) > size {
			return nil, errors.New("hand-over: the pieces of a state do not fit")
		}
		if b == nil && uint64(len(piece)) == size {
			return piece, nil
		}
		b = append(b, piece...)
	}
	return b, nil
}

func (t *Taker) section(head []byte, fds []int, most uint64,
	take func(name string, state []byte, fds []int) error) error {
	name, size, in := "", uint64(0), readerOf(head)
	for f, more := in.next(); more; f, more = in.next() {
		switch f.tag {
		case tagName:
			name = f.text()
		case tagLen:
			size = f.n
		}
	}
	if in.Bad {
		closeFiles(fds)
		return errors.New("hand-over: a section makes no sense")
	}
	state, err := t.rest(size, most)
	if err != nil {
		closeFiles(fds)
		return err
	}
	t.sections++
	if err := take(name, state, fds); err != nil {
		return fmt.Errorf("hand-over: section %q: %w", name, err)
	}
	return nil
}

func (t *Taker) share(head []byte) error {
	f := recordlog.Fields{B: head}
	size := f.Number()
	if f.Bad || len(f.B) > 0 {
		return errors.New("hand-over: a slice makes no sense")
	}
	b, err := t.rest(size, maxState)
	t.shared = append(t.shared, b)
	return err
}

func (t *Taker) batch(b []byte, fds []int, r Receiver) error {
	f := recordlog.Fields{B: b}
	for i, fd := range fds {
		c, ok := connectionOf(recordIn(f.Bytes(f.Number()), t.shared), t.shared)
		if f.Bad || !ok {
			closeFiles(fds[i:])
			return errors.New("hand-over: a connection makes no sense")
		}
		t.connections++
		if err := r.Connection(&c, fd); err != nil {
			closeFiles(fds[i+1:])
			return fmt.Errorf("hand-over: a connection: %w", err)
		}
	}
	if len(f.B) > 0 {
		return errors.New("hand-over: a batch is too long")
	}
	return t.send(kindTook, nil)
}

// all compares the counts of the giver.
func (t *Taker) all(b []byte, r Receiver) error {
	f := recordlog.Fields{B: b}
	sections, connections := f.Number(), f.Number()
	if f.Bad || sections != t.sections || connections != t.connections {
		return fmt.Errorf("hand-over: %d sections and %d connections have come, not %d and %d",
			t.sections, t.connections, sections, connections)
	}
	t.shared = nil
	told, relayed := r.Told()
	return t.send(kindInstalled, binary.AppendUvarint(binary.AppendUvarint(nil, uint64(told)),
		uint64(relayed)))
}

// Serving tells the giver that this process serves. Then it calls late with each late section, as
// Receiver.Section, until the giver has no more or has died, or ctx ends. It closes the pipe.
func (t *Taker) Serving(ctx context.Context, told string,
	late func(name string, state []byte, fds []int) error) error {
	defer t.c.Close()
	defer context.AfterFunc(ctx, func() { t.c.Close() })()
	t.until(time.Now().Add(lateLimit))
	t.send(kindServing, []byte(told)) // the giver may be gone
	for {
		k, payload, fds, err := t.receive()
		if err == nil && k != kindSection {
			closeFiles(fds)
			err = errFrame(k, "a late section")
		}
		if err == nil {
			err = t.section(payload, fds, maxLate, late)
		}
		if errors.Is(err, ErrDied) || err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
