package handover

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
	"unsafe"

	"reverb/internal/lib/recordlog"
)

// Giver is the side that gives. Meet comes first, then the sections and the batches, then Finish.
type Giver struct {
	pipe
	sections, connections int

	after     time.Duration // see Begin
	acks      chan struct{} // a token for each batch that may be sent
	installed chan [2]int   // the taker has said so, and what Finish returns
	mine      chan struct{} // the taker has said so
	serving   chan string   // what it has told
	over      chan struct{} // closed when the taker says nothing more
	end       error         // why; constant once over is closed

	sharing sync.Mutex
	shared  map[sliceID]uint64 // the slices that have travelled
}

// sliceID names a slice. A slice that is shared by many queues is the same memory in all.
type sliceID struct {
	at  *byte
	len int
}

// NewGiver makes the giver of one end of a pair, which Close closes.
func NewGiver(c *net.UnixConn) *Giver {
	return &Giver{pipe: pipe{c: c}, acks: make(chan struct{}, window),
		installed: make(chan [2]int, 1), mine: make(chan struct{}, 1),
		serving: make(chan string, 1), shared: make(map[sliceID]uint64)}
}

// Close closes the pipe. A taker that waits for the last word serves then what it has, so the
// caller ends the taker before, unless all is the taker's.
func (g *Giver) Close() error {
	err := g.c.Close()
	if g.over != nil {
		<-g.over
	}
	return err
}

// Meet greets the taker, makes the offer, and waits until the taker could serve. terms are those of
// Take. A Refusal says why it cannot.
func (g *Giver) Meet(o Offer, until time.Time) (terms []byte, err error) {
	g.until(until)
	hello, _, err := g.expect(kindHello, "hello", false)
	if err != nil {
		return nil, err
	}
	f := recordlog.Fields{B: hello}
	first, last := f.Number(), f.Number()
	if f.Bad {
		return nil, fmt.Errorf("%w: a greeting that makes no sense", ErrForeign)
	}
	format := min(last, LastFormat)
	if format < first || format < FirstFormat {
		return nil, Refusal{fmt.Sprintf("the successor reads the formats %d to %d of a "+
			"hand-over, and this program writes %d to %d; stop and start instead", first, last,
			FirstFormat, LastFormat), true}
	}
	offer := binary.AppendUvarint(nil, format)
	offer = addNumber(offer, tagBegan, uint64(monotonic()-time.Since(o.Began)))
	var fds []int
	for _, l := range o.Listeners {
		offer, fds = addText(offer, tagRole, l.Role), append(fds, l.FD)
	}
	sent := g.send(kindOffer, offer, fds...)
	if terms, _, err = g.expect(kindReady, "ready", false); err != nil {
		return nil, err // the taker's reason, also where sending has failed
	}
	return terms, sent
}

// Begin says that sections and batches follow until a time, after which nothing arrives any more.
// If the taker has installed everything by then, the rest does not fail because of that time: each
// of its next two words, mine and serving, may take as long as after, and so may late sections.
func (g *Giver) Begin(until time.Time, after time.Duration) {
	g.until(until)
	g.after = after
	for range window {
		g.acks <- struct{}{}
	}
	g.over = make(chan struct{})
	go func() {
		defer close(g.over)
		for g.end == nil {
			g.end = g.hear()
		}
	}()
}

// hear takes one frame of the taker. The error ends the conversation.
func (g *Giver) hear() error {
	k, payload, fds, err := g.receive()
	closeFiles(fds)
	if err != nil {
		return err
	}
	ok := true
	switch k {
	case kindNo, kindStop:
		return refused(k, payload)
	case kindTook:
		ok = put(g.acks, struct{}{})
	case kindInstalled: // here, so that the old time cannot run out meanwhile
		g.until(time.Now().Add(g.after))
		f := recordlog.Fields{B: payload}
		all, relayed := f.Number(), f.Number()
		if f.Bad && len(payload) > 0 || relayed > all {
			return errFrame(k, "an answer")
		}
		ok = put(g.installed, [2]int{int(all), int(relayed)})
	case kindMine:
		g.until(time.Now().Add(g.after))
		ok = put(g.mine, struct{}{})
	case kindServing:
		g.until(time.Now().Add(g.after))
		ok = put(g.serving, string(payload))
	default:
		ok = false
	}
	if !ok {
		return errFrame(k, "an answer")
	}
	return nil
}

// put puts v into c if there is room.
func put[T any](c chan T, v T) (ok bool) {
	select {
	case c <- v:
		return true
	default: // the taker says it too often
		return false
	}
}

// push is send after Begin. Its error is the taker's reason, if it has said no.
func (g *Giver) push(k kind, payload []byte, fds ...int) error {
	err := g.send(k, payload, fds...)
	if err == nil {
		return nil
	}
	<-g.over // the pipe has ended, or its time is up
	if no, ok := errors.AsType[Refusal](g.end); ok {
		return no
	}
	return err
}

// Section sends some state by its name, with copies of descriptors, at most 250. One goroutine at a
// time calls it. After Serving it sends a late section of at most 4 KiB; a taker that wants none
// has hung up, which is an error.
func (g *Giver) Section(name string, state []byte, fds ...int) error {
	if len(fds) > batchFiles {
		return fmt.Errorf("hand-over: section %q has %d descriptors", name, len(fds))
	}
	g.sections++
	head := addNumber(addText(nil, tagName, name), tagLen, len(state))
	if err := g.push(kindSection, head, fds...); err != nil {
		return err
	}
	return g.more(state)
}

// more sends bytes in pieces.
func (g *Giver) more(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), maxFrame)
		if err := g.push(kindMore, b[:n]); err != nil {
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
	if err := g.push(kindShared, binary.AppendUvarint(nil, uint64(len(b)))); err != nil {
		return 0, err
	}
	return n, g.more(b)
}

// Batch collects connections. Each goroutine that gives has its own; Flush ends it.
type Batch struct {
	giver  *Giver
	b      []byte
	fds    []int
	record []byte // the last one; its memory is used again
}

// Batch makes an empty batch.
func (g *Giver) Batch() *Batch { return &Batch{giver: g} }

// Add adds a connection and its descriptor, which stays the caller's.
func (v *Batch) Add(c *Connection, fd int) error {
	long := sharer{share: v.giver.share}
	record := c.append(v.record[:0], &long)
	v.record = record
	if len(record) > maxFrame-batchBytes { // very much waits for it, or it has very many places
		n, err := v.giver.share(bytes.Clone(record))
		long.err = cmp.Or(long.err, err)
		record = appendWhole(nil, n)
	}
	if long.err != nil {
		return long.err
	}
	v.b = recordlog.AppendField(v.b, record)
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
	case <-v.giver.over:
		return v.giver.end
	}
	v.giver.sharing.Lock() // also while another loop shares a slice, whose pieces follow its head
	defer v.giver.sharing.Unlock()
	v.giver.connections += len(v.fds)
	err := v.giver.push(kindBatch, v.b, v.fds...)
	v.b, v.fds = v.b[:0], v.fds[:0]
	return err
}

// Finish says that this was all, and waits until the taker has installed it. told is how many of
// the connections the taker tells to reconnect at once, and relayed those of them that this process
// relays.
func (g *Giver) Finish() (told, relayed int, err error) {
	b := binary.AppendUvarint(nil, uint64(g.sections))
	b = binary.AppendUvarint(b, uint64(g.connections))
	if err := g.push(kindAll, b); err != nil {
		return 0, 0, err
	}
	select {
	case n := <-g.installed:
		if n[0] < 0 || n[0] > g.connections {
			return 0, 0, errFrame(kindInstalled, "an answer")
		}
		return n[0], n[1], nil
	case <-g.over:
		return 0, 0, g.end
	}
}

// Yours says that everything is the taker's from now on, and waits until the taker knows. After an
// error it may know all the same, see Taken.
func (g *Giver) Yours() error {
	if err := g.push(kindYours, nil); err != nil {
		return err
	}
	select {
	case <-g.mine:
		return nil
	case <-g.over:
	}
	select {
	case <-g.mine: // and then it has told that it serves, and closed the pipe
		return nil
	default:
		return g.end
	}
}

// leftLimit bounds the time in which Taken reads what has come before the end of the pipe, which a
// taker that has ended has closed. Larger: no use. Smaller: a busy machine does not get there.
const leftLimit = time.Second

// Taken says, after an error of Yours, whether the taker, which has ended, has
// known that everything is its own. If not, it has touched nothing.
func (g *Giver) Taken() bool {
	<-g.over
	g.until(time.Now().Add(leftLimit)) // what it has said too late for Yours
	for g.hear() == nil {
	}
	return len(g.mine) > 0
}

// Serving waits until the taker serves, and returns what it has to tell.
func (g *Giver) Serving() (told string, err error) {
	select {
	case told = <-g.serving:
		return told, nil
	case <-g.over:
	}
	select {
	case told = <-g.serving: // and then it has closed the pipe
		return told, nil
	default:
		return "", g.end
	}
}
