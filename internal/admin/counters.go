package admin

import (
	"encoding/binary"
	"iter"
	"sync/atomic"

	"reverb/internal/lib/recordlog"
	"reverb/internal/protocol"
)

// Traffic counts the traffic of the connections of one app on one event loop, for AppFigures. The
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

// AddTraffic adds the counts of t.
func (f *AppFigures) AddTraffic(t *Traffic) {
	f.Connected += t.Connected.Load()
	f.Disconnected += t.Disconnected.Load()
	f.Received += t.Received.Load()
	f.ReceivedBytes += t.ReceivedBytes.Load()
	f.Sent += t.Sent.Load()
	f.SentBytes += t.SentBytes.Load()
	f.ClientEvents += t.ClientEvents.Load()
	f.Limited += t.Limited.Load()
}

// AddRequests adds the counts of r.
func (f *AppFigures) AddRequests(r *Requests) {
	f.Requests += r.Signed.Load()
	f.RequestBytes += r.ReceivedBytes.Load()
	f.ResponseBytes += r.SentBytes.Load()
	f.Published += r.Events.Load()
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

// Kinds are the figures of the kinds of channels.
func Kinds[K kindCounts](all [protocol.Kinds]K) (figures [protocol.Kinds]KindFigures) {
	for i, k := range all {
		figures[i] = KindFigures(k)
	}
	return figures
}

// CountersState has what was counted of an app, for SetCounters in another process: the traffic of
// its loops together, its requests, and what has happened to its channels.
func CountersState[K kindCounts](loops iter.Seq[*Traffic], r *Requests,
	kinds [protocol.Kinds]K) (b []byte) {
	var sum Traffic
	for t := range loops {
		for i, n := range t.all() {
			sum.all()[i].Add(n.Load())
		}
	}
	for _, n := range append(sum.all(), r.all()...) {
		b = binary.AppendUvarint(b, n.Load())
	}
	for _, k := range Kinds(kinds) {
		for _, n := range []uint64{k.Subscribed, k.Unsubscribed, k.Occupied, k.Vacated} {
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

// SetCounters adds what another process has counted. ok is false if it makes no sense.
func SetCounters[K kindCounts](b []byte, t *Traffic,
	r *Requests) (kinds [protocol.Kinds]K, ok bool) {
	f := recordlog.Fields{B: b}
	for _, n := range append(t.all(), r.all()...) {
		n.Add(f.Number())
	}
	for i := range kinds {
		var k KindFigures
		for _, n := range []*uint64{&k.Subscribed, &k.Unsubscribed, &k.Occupied, &k.Vacated} {
			*n = f.Number()
		}
		kinds[i] = K(k)
	}
	return kinds, !f.Bad
}
