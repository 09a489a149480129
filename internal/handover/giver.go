package handover

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"
	"unsafe"
)

// Giver is the side that gives. Meet comes first, then the sections and the batches, then Finish.
type Giver struct {
	pipe
	sections, connections int

	acks    chan struct{} // a token for each batch that may be sent
	answers chan answer   // what the taker says after its confirmations
	reading sync.WaitGroup

	sharing sync.Mutex
	shared  map[sliceID]uint64 // the slices that have travelled
}

// answer is a frame of the taker, or the end of the pipe.
type answer struct {
	k       kind
	payload []byte
	err     error
}

// sliceID names a slice. A slice that is shared by many queues is the same memory in all.
type sliceID struct {
	at  *byte
	len int
}

// NewGiver makes the giver of one end of a pair, which Close closes.
func NewGiver(c *net.UnixConn) *Giver {
	return &Giver{pipe: pipe{c: c}, acks: make(chan struct{}, window),
		answers: make(chan answer, 1), shared: make(map[sliceID]uint64)}
}

// Close closes the pipe. A taker that waits for the last word serves then what it has, so the
// caller ends the taker before, unless all is the taker's.
func (g *Giver) Close() error {
	err := g.c.Close()
	g.reading.Wait()
	return err
}

// Meet greets the taker, makes the offer, and waits until the taker could serve. A Refusal says why
// it cannot.
func (g *Giver) Meet(o Offer, until time.Time) error {
	g.until(until)
	hello, _, err := g.expect(kindHello, "hello", false)
	if err != nil {
		return err
	}
	first, n := binary.Uvarint(hello)
	last, m := binary.Uvarint(hello[max(n, 0):])
	if n <= 0 || m <= 0 {
		return fmt.Errorf("the successor's greeting makes no sense")
	}
	format := min(last, LastFormat)
	if format < first || format < FirstFormat {
		return fmt.Errorf("the successor reads the formats %d to %d of a hand-over, and this "+
			"program writes %d to %d; stop and start instead", first, last, FirstFormat, LastFormat)
	}
	offer := binary.AppendUvarint(nil, format)
	offer = addNumber(offer, tagBegan, uint64(monotonic()-time.Since(o.Began)))
	var fds []int
	for _, l := range o.Listeners {
		offer, fds = addText(offer, tagRole, l.Role), append(fds, l.FD)
	}
	if err := g.send(kindOffer, offer, fds...); err != nil {
		return g.why(err)
	}
	_, _, err = g.expect(kindReady, "ready", false)
	return err
}

// why is the taker's reason, if it has said no, or err.
func (g *Giver) why(err error) error {
	if _, _, no := g.expect(kindReady, "ready", false); no != nil {
		return no
	}
	return err
}

// Begin says that sections and batches follow until a time, after which nothing arrives any more.
func (g *Giver) Begin(until time.Time) {
	g.until(until)
	for range window {
		g.acks <- struct{}{}
	}
	g.reading.Go(func() {
		defer close(g.answers)
		for {
			k, payload, fds, err := g.receive()
			closeFiles(fds)
			if err != nil || k != kindTook {
				g.answers <- answer{k, payload, err}
				if err != nil || k != kindInstalled {
					return
				}
				continue
			}
			select {
			case g.acks <- struct{}{}:
			default: // it confirms what was not sent
				g.answers <- answer{k: kindTook}
				return
			}
		}
	})
}

// Section sends some state by its name. One goroutine at a time calls it.
func (g *Giver) Section(name string, state []byte) error {
	g.sections++
	head := addText(nil, 1, name)
	head = addNumber(head, 2, len(state))
	if err := g.send(kindSection, head); err != nil {
		return err
	}
	return g.more(state)
}

// more sends bytes in pieces.
func (g *Giver) more(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), maxFrame)
		if err := g.send(kindMore, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// share sends a slice, unless it has travelled, and returns its number.
func (g *Giver) share(b []byte) (uint64, error) {
	g.sharing.Lock()
	defer g.sharing.Unlock()
	id := sliceID{unsafe.SliceData(b), len(b)}
	if n, ok := g.shared[id]; ok {
		return n, nil
	}
	n := uint64(len(g.shared))
	g.shared[id] = n
	if err := g.send(kindShared, binary.AppendUvarint(nil, uint64(len(b)))); err != nil {
		return 0, err
	}
	return n, g.more(b)
}

// Batch collects connections. Each goroutine that gives has its own; Flush ends it.
type Batch struct {
	giver *Giver
	b     []byte
	fds   []int
}

// Batch makes an empty batch.
func (g *Giver) Batch() *Batch { return &Batch{giver: g} }

// Add adds a connection and its descriptor, which stays the caller's.
func (v *Batch) Add(c *Connection, fd int) (err error) {
	record, err := c.append(nil, v.giver.share)
	if err != nil {
		return err
	}
	if len(record) > maxFrame-batchBytes {
		return fmt.Errorf("hand-over: the state of a connection takes %d bytes", len(record))
	}
	v.b = append(binary.AppendUvarint(v.b, uint64(len(record))), record...)
	if v.fds = append(v.fds, fd); len(v.fds) == batchFiles || len(v.b) > batchBytes {
		return v.Flush()
	}
	return nil
}

// Flush sends what has been added.
func (v *Batch) Flush() error {
	if len(v.fds) == 0 {
		return nil
	}
	select {
	case <-v.giver.acks:
	case a, ok := <-v.giver.answers:
		if ok {
			v.giver.answers <- a // for Finish and the other goroutines
		}
		return a.error("the confirmation of a batch")
	}
	v.giver.sharing.Lock()
	v.giver.connections += len(v.fds)
	v.giver.sharing.Unlock()
	err := v.giver.send(kindBatch, v.b, v.fds...)
	v.b, v.fds = v.b[:0], v.fds[:0]
	return err
}

// error is what an answer means where another one was due.
func (a answer) error(want string) error {
	switch {
	case a.err != nil:
		return a.err
	case a.k == kindNo:
		return Refusal{string(a.payload)}
	case a.k == 0:
		return ErrDied
	}
	return errFrame(a.k, want)
}

// Finish says that this was all, and waits until the taker has installed it.
func (g *Giver) Finish() error {
	b := binary.AppendUvarint(nil, uint64(g.sections))
	b = binary.AppendUvarint(b, uint64(g.connections))
	if err := g.send(kindAll, b); err != nil {
		return err
	}
	if a := <-g.answers; a.err != nil || a.k != kindInstalled {
		return a.error("installed")
	}
	return nil
}

// Yours says that everything is the taker's from now on. After an error too: the taker may have
// heard it.
func (g *Giver) Yours() error { return g.send(kindYours, nil) }

// Serving waits until the taker serves, and returns what it has to tell.
func (g *Giver) Serving() (told string, err error) {
	if a := <-g.answers; a.err != nil || a.k != kindServing {
		return "", a.error("serving")
	} else {
		return string(a.payload), nil
	}
}
