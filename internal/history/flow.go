package history

import (
	"slices"

	"reverb/internal/lib/outqueue"
)

// ahead is how many bytes of a replay are made ready for a socket before it has taken what is
// before them. Larger: a client that does not read holds more. Smaller: more turns of its loop.
const ahead = 64 << 10

// Conn is the connection that gets a replay. Only its loop calls the methods, but Post.
type Conn[E Event] interface {
	Places
	// Frame is an event as the connection gets it. It is called once for each event that is sent.
	Frame(e E) []byte
	// Push puts frames at the end of the queue, as Queue.Push does.
	Push(frame []byte)
	// Reserve keeps a place at the end of the queue; nil: the queue takes nothing more.
	Reserve(from outqueue.Supplier) *outqueue.Place
	// TooSlow ends the connection: it does not read, and others get no replay for that.
	TooSlow()
}

// Places are those of a connection's queue.
type Places interface {
	// Post runs a task on the loop.
	Post(task func())
	// Behind keeps a place right behind a place of the queue.
	Behind(at *outqueue.Place, from outqueue.Supplier) *outqueue.Place
	// Supply gives a place its bytes, which count in the queue.
	Supply(at *outqueue.Place, b []byte)
}

// flow is a part of a replay in the queue of a connection: a place for the next bytes. What is
// behind the place waits.
type flow[E Event] struct {
	to     Conn[E]
	replay *missed[E] // nil: it is done, or the next flow has it
	at     *outqueue.Place
}

var _ outqueue.Supplier = (*flow[Event])(nil)

// Flow sends a replay at the end of a connection's queue or, if behind is not nil, behind this
// place of it. The replay belongs to Flow. What the connection is sent later comes after it.
func Flow[E Event](to Conn[E], replay *missed[E], behind *outqueue.Place) {
	if behind == nil {
		if size := replay.size(); size <= ahead {
			for _, e := range replay.next(size) {
				to.Push(to.Frame(e))
			}
			return
		}
	}
	f := &flow[E]{to: to, replay: replay}
	if behind != nil {
		f.at = to.Behind(behind, f)
	} else if f.at = to.Reserve(f); f.at == nil {
		replay.close()
		return
	}
	replay.waits(func() { to.Post(to.TooSlow) })
}

// Wanted is part of outqueue.Supplier.
func (f *flow[E]) Wanted() { f.to.Post(f.supply) }

// supply gives the place its bytes, and keeps the next place for the rest.
func (f *flow[E]) supply() {
	replay := f.replay
	if f.replay = nil; replay == nil {
		return // the connection has gone
	}
	var frames [][]byte
	for _, e := range replay.next(ahead) {
		frames = append(frames, f.to.Frame(e))
	}
	if !replay.done() {
		Flow(f.to, replay, f.at)
	}
	f.to.Supply(f.at, slices.Concat(frames...))
}

// Dropped is part of outqueue.Supplier.
func (f *flow[E]) Dropped() {
	if f.replay != nil {
		f.replay.close()
		f.replay = nil
	}
}

// Rest calls yield for the events of a place that are still to be sent, if it is one of Flow. They
// stay in the flow.
func Rest[E Event](from outqueue.Supplier, yield func(E)) {
	if f, is := from.(*flow[E]); is && f.replay != nil {
		for _, n := range f.replay.left {
			yield(n.event)
		}
	}
}

// Resent is the rest of a replay that another process has begun, as frames, in the queue of a
// connection again. It is ready as slowly as a flow, and counts as one.
type Resent struct {
	At   *outqueue.Place // of the frames; set by the caller
	to   Places
	left [][]byte
}

var _ outqueue.Supplier = (*Resent)(nil)

// Resend makes the supplier of frames, which it owns from now on.
func Resend(to Places, frames [][]byte) *Resent { return &Resent{to: to, left: frames} }

// Left are the frames that are still to be sent. They stay.
func (v *Resent) Left() [][]byte { return v.left }

// Wanted is part of outqueue.Supplier.
func (v *Resent) Wanted() { v.to.Post(v.supply) }

// supply gives the place its bytes, and keeps the next place for the rest.
func (v *Resent) supply() {
	n := 0
	for size := 0; n < len(v.left); n++ {
		if size += len(v.left[n]); size > ahead && n > 0 {
			break
		}
	}
	if n == 0 {
		return // the connection has gone
	}
	b := slices.Concat(v.left[:n]...)
	if n < len(v.left) {
		rest := Resend(v.to, v.left[n:])
		rest.At = v.to.Behind(v.At, rest)
	}
	v.left = nil
	v.to.Supply(v.At, b)
}

// Dropped is part of outqueue.Supplier.
func (v *Resent) Dropped() { v.left = nil }
