package operator

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"reverb/internal/protocol"
)

const (
	// maxTraces bounds who watches at a time. Each costs every message that it may concern
	// a comparison.
	maxTraces = 4
	// traceTime bounds a trace: one that was forgotten ends.
	traceTime = 10 * time.Minute
	// traceRate is how many lines of a second are shown. Those beyond are counted.
	traceRate = 1000
	// traceQueue is how many lines, and traceQueueBytes how many bytes of messages, wait for
	// the reader of a trace. Those beyond are counted as left out.
	traceQueue      = 1024
	traceQueueBytes = 4 << 20
	// maxTracedBytes is the longest message that is shown.
	maxTracedBytes = 64 << 10
)

// Marks are the traces by which a connection, or a channel, is seen: a bit each.
type Marks uint8

// Event is something that is traced.
type Event struct {
	// in, out: messages of a client; event, subscribed, unsubscribed; connected, ended, refused
	What      string
	App       string
	Socket    protocol.SocketID // the zero one: it concerns no client
	Channel   string            // empty: it concerns no channel
	Note      string            // what there is to say beside the message
	Receivers int               // of an event
	Message   []byte            // nil: there is none
	Constant  bool              // the message never changes; otherwise it is copied
}

// Traces are who watches what of the traffic. The zero Traces are ready. All methods may be
// called by everybody. While nobody watches, a message costs one load, see On.
type Traces struct {
	mu      sync.Mutex
	taken   Marks                    // bits of traces that run, or that connections may still have
	running atomic.Pointer[[]*trace] // replaced as a whole; nil: nobody watches
}

// trace is what one operator watches. It is seen by its bit.
type trace struct {
	filter Filter // constant
	bit    Marks  // constant

	lines   chan tracedEvent
	window  atomic.Uint64 // a second, in the upper half, and how many lines it has had
	waiting atomic.Int64  // bytes of messages in lines
	dropped atomic.Int64
}

// tracedEvent is an Event and when it was.
type tracedEvent struct {
	Event
	at time.Time
}

// On says whether anybody watches anything.
func (t *Traces) On() bool { return t.running.Load() != nil }

// ShowChannel gives an event to the traces that watch its channel.
func (t *Traces) ShowChannel(e Event) {
	for _, one := range t.all() {
		if f := &one.filter; f.Channel != "" && f.Channel == e.Channel &&
			(f.App == "" || f.App == e.App) {
			one.show(e)
		}
	}
}

// OfPeer are the traces that watch a connection. Its loop calls it when the connection has
// come, and when it has got a user.
func (t *Traces) OfPeer(p Peer) (m Marks) {
	for _, one := range t.all() {
		if one.filter.Channel == "" && one.filter.Match(p) {
			m |= one.bit
		}
	}
	return m
}

// Show gives an event to traces. It does not wait: what is too much is left out and counted.
func (t *Traces) Show(to Marks, e Event) {
	if to == 0 {
		return
	}
	for _, one := range t.all() {
		if one.bit&to != 0 {
			one.show(e)
		}
	}
}

func (t *Traces) all() []*trace {
	if all := t.running.Load(); all != nil {
		return *all
	}
	return nil
}

func (one *trace) show(e Event) {
	now, n := time.Now(), int64(len(e.Message))
	if n > maxTracedBytes {
		e.Note = fmt.Sprintf("(%d bytes)", n)
		e.Message, n = nil, 0
	}
	if !one.take(uint32(now.Unix())) || one.waiting.Load()+n > traceQueueBytes {
		one.dropped.Add(1)
		return
	}
	if !e.Constant {
		e.Message = bytes.Clone(e.Message)
	}
	one.waiting.Add(n)
	select {
	case one.lines <- tracedEvent{e, now}:
	default:
		one.waiting.Add(-n)
		one.dropped.Add(1)
	}
}

// take says whether another line of a second may be shown.
func (one *trace) take(second uint32) bool {
	for {
		was := one.window.Load()
		now := uint64(second)<<32 | 1
		if uint32(was>>32) == second {
			now = was + 1
		}
		if uint32(now) > traceRate {
			return false
		}
		if one.window.CompareAndSwap(was, now) {
			return true
		}
	}
}

// begin makes a trace. It is seen once connections have its bit; a channel is seen at once.
func (t *Traces) begin(f Filter) (*trace, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if bits.OnesCount8(uint8(t.taken)) >= maxTraces {
		return nil, errors.New("4 traces are running, and no more may at a time")
	}
	one := &trace{
		filter: f,
		bit:    ^t.taken & (t.taken + 1),
		lines:  make(chan tracedEvent, traceQueue),
	}
	t.taken |= one.bit
	all := append(slices.Clone(t.all()), one)
	t.running.Store(&all)
	return one, nil
}

// stop ends a trace. Connections may have its bit until it is given back.
func (t *Traces) stop(one *trace) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(t.all()), func(other *trace) bool { return other == one })
	if len(all) == 0 {
		t.running.Store(nil)
	} else {
		t.running.Store(&all)
	}
}

// giveBack lets the next trace have the bit of one that was stopped.
func (t *Traces) giveBack(one *trace) {
	t.mu.Lock()
	t.taken &^= one.bit
	t.mu.Unlock()
}
