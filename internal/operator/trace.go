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

	"reverb/internal/lib/ration"
	"reverb/internal/protocol"
)

const (
	// maxTraces bounds the traces at a time; Marks has a bit for each. Larger: every message of a
	// traced connection costs more comparisons. Smaller: operators wait for each other.
	maxTraces = 4
	// traceTime is how long a trace runs. Larger: a forgotten trace costs work for longer. Smaller:
	// operators have to start it again.
	traceTime = 10 * time.Minute
	// traceRate is how many lines a trace shows in a second; further lines are only counted.
	// Larger: a busy channel costs more processor. Smaller: more lines are missing.
	traceRate = 1000
	// traceQueue is how many lines, and traceQueueBytes how many bytes of messages, wait for the
	// reader of a trace; further lines are dropped and counted. Larger: a reader that stalls costs
	// more memory. Smaller: a burst loses lines.
	traceQueue      = 1024
	traceQueueBytes = 4 << 20
	// maxTracedBytes is the length of the longest message that is shown. Larger: the copy costs a
	// loop more. Smaller: more messages are not shown.
	maxTracedBytes = 64 << 10
)

// Marks are the traces that see a connection or a channel: a bit each.
type Marks uint8

// Event is an event for traces.
type Event struct {
	// in, out: messages of a client; event, subscribed, unsubscribed; connected, ended, refused
	What      string
	App       string
	Socket    protocol.SocketID // the zero one: it concerns no client
	Channel   string            // empty: it concerns no channel
	Note      string            // an addition to the message
	Receivers int               // of an event
	Message   []byte            // nil: there is none
	Constant  bool              // the message never changes; otherwise it is copied
}

// Traces are the running traces. The zero Traces are ready. Any goroutine may call the methods.
// While no trace runs, a message costs one load, see On.
type Traces struct {
	mu      sync.Mutex
	taken   Marks                    // bits of traces that run, or that connections may still have
	running atomic.Pointer[[]*trace] // replaced as a whole; nil: no trace runs
}

// trace is the trace of one operator. Its bit in Marks stands for it.
type trace struct {
	filter Filter // constant
	bit    Marks  // constant
	*ration.Queue[tracedEvent]
}

// tracedEvent is an Event and when it was.
type tracedEvent struct {
	Event
	at time.Time
}

// On says whether a trace runs.
func (t *Traces) On() bool { return t.running.Load() != nil }

// ShowChannel gives an event to the traces that watch its channel.
func (t *Traces) ShowChannel(e Event) {
	for _, one := range t.all() {
		if f := &one.filter; slices.Contains(f.Channels, e.Channel) &&
			(f.App == "" || f.App == e.App) {
			one.show(e)
		}
	}
}

// OfPeer are the traces that watch a connection. The loop calls it when the connection has opened,
// and when it has got a user.
func (t *Traces) OfPeer(p Peer) (m Marks) {
	for _, one := range t.all() {
		if len(one.filter.Channels) == 0 && one.filter.Match(p) {
			m |= one.bit
		}
	}
	return m
}

// Show gives an event to traces. It does not wait: it drops lines for which there is no room, and
// counts them.
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
	now := time.Now()
	if n := len(e.Message); n > maxTracedBytes {
		e.Note = fmt.Sprintf("(%d bytes)", n)
		e.Message = nil
	}
	one.Put(now, len(e.Message), func() tracedEvent {
		if !e.Constant {
			e.Message = bytes.Clone(e.Message)
		}
		return tracedEvent{e, now}
	})
}

// begin makes a trace. It sees a connection once the connection has its bit; it sees a channel at
// once. A watch of a channel has no bit, and does not count as a trace.
func (t *Traces) begin(f Filter, watch bool) (*trace, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := &trace{filter: f,
		Queue: ration.New[tracedEvent](traceQueue, traceQueueBytes, traceRate)}
	if !watch && bits.OnesCount8(uint8(t.taken)) >= maxTraces {
		return nil, errors.New("4 traces are running, and no more may at a time")
	}
	if !watch {
		one.bit = ^t.taken & (t.taken + 1)
		t.taken |= one.bit
	}
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
