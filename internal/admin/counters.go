package admin

import (
	"encoding/binary"
	"sync/atomic"

	"reverb/internal/lib/recordlog"
	"reverb/internal/protocol"
)

// Traffic counts the traffic of the connections of one app on one event loop, see Counters. The
// loop adds; any goroutine may read.
type Traffic struct {
	Connected, Disconnected atomic.Uint64
	Received, ReceivedBytes atomic.Uint64
	Sent, SentBytes         atomic.Uint64
	ClientEvents, Limited   atomic.Uint64
}

// Requests counts the requests of one app with a right signature: the bytes of their bodies and of
// the answers, and the events that they have published. Any goroutine may add and read.
type Requests struct{ Signed, ReceivedBytes, SentBytes, Events atomic.Uint64 }

// CountReceived counts a message of so many bytes.
func (t *Traffic) CountReceived(bytes int) {
	t.Received.Add(1)
	t.ReceivedBytes.Add(uint64(bytes))
}

// CountSent counts a message of so many bytes for so many receivers.
func (t *Traffic) CountSent(receivers, bytes int) {
	t.Sent.Add(uint64(receivers))
	t.SentBytes.Add(uint64(receivers) * uint64(bytes))
}

// CountSigned counts a request by the bytes of its body and of its answer.
func (r *Requests) CountSigned(received, sent int) {
	r.Signed.Add(1)
	r.ReceivedBytes.Add(uint64(received))
	r.SentBytes.Add(uint64(sent))
}

// Counters counts for one app. K is KindFigures, as another package may name it.
type Counters[K kindCounts] struct {
	Loops []Traffic // by loop
	Requests
	// Channels returns what has happened to the app's channels, and adds to it what it is given.
	Channels func(...[protocol.Kinds]K) [protocol.Kinds]K
}

// Add adds the counts to f.
func (c *Counters[K]) Add(f *AppFigures) {
	for i := range c.Loops {
		t := &c.Loops[i]
		f.Connected += t.Connected.Load()
		f.Disconnected += t.Disconnected.Load()
		f.Received += t.Received.Load()
		f.ReceivedBytes += t.ReceivedBytes.Load()
		f.Sent += t.Sent.Load()
		f.SentBytes += t.SentBytes.Load()
		f.ClientEvents += t.ClientEvents.Load()
		f.Limited += t.Limited.Load()
	}
	r := &c.Requests
	f.Requests += r.Signed.Load()
	f.RequestBytes += r.ReceivedBytes.Load()
	f.ResponseBytes += r.SentBytes.Load()
	f.Published += r.Events.Load()
	for i, k := range c.Channels() {
		f.Kinds[i] = KindFigures(k)
	}
}

// all are the counters in an order that never changes; more may come at the end.
func (t *Traffic) all() []*atomic.Uint64 {
	return []*atomic.Uint64{&t.Connected, &t.Disconnected, &t.Received, &t.ReceivedBytes, &t.Sent,
		&t.SentBytes, &t.ClientEvents, &t.Limited}
}

func (r *Requests) all() []*atomic.Uint64 {
	return []*atomic.Uint64{&r.Signed, &r.ReceivedBytes, &r.SentBytes, &r.Events}
}

// kindCounts is KindFigures, as another package may name it.
type kindCounts interface {
	~struct{ Subscribed, Unsubscribed, Occupied, Vacated uint64 }
}

// State has the counts, for SetState in another process: the traffic of the loops together, the
// requests, and what has happened to the channels.
func (c *Counters[K]) State() (b []byte) {
	var sum Traffic
	for i := range c.Loops {
		for k, n := range c.Loops[i].all() {
			sum.all()[k].Add(n.Load())
		}
	}
	for _, n := range append(sum.all(), c.Requests.all()...) {
		b = binary.AppendUvarint(b, n.Load())
	}
	for _, counted := range c.Channels() {
		k := KindFigures(counted)
		for _, n := range []uint64{k.Subscribed, k.Unsubscribed, k.Occupied, k.Vacated} {
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

// SetState adds what another process has counted. ok is false if it makes no sense.
func (c *Counters[K]) SetState(b []byte) (ok bool) {
	f, kinds := recordlog.Fields{B: b}, [protocol.Kinds]K{}
	for _, n := range append(c.Loops[0].all(), c.Requests.all()...) {
		n.Add(f.Number())
	}
	for i := range kinds {
		var k KindFigures
		for _, n := range []*uint64{&k.Subscribed, &k.Unsubscribed, &k.Occupied, &k.Vacated} {
			*n = f.Number()
		}
		kinds[i] = K(k)
	}
	c.Channels(kinds)
	return !f.Bad
}
