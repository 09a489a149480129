package admin

import "sync/atomic"

// Traffic counts what the connections of one app on one event loop have seen, as AppFigures
// has it. The loop adds; everybody may read.
type Traffic struct {
	Connected, Disconnected atomic.Uint64
	Received, ReceivedBytes atomic.Uint64
	Sent, SentBytes         atomic.Uint64
	ClientEvents, Limited   atomic.Uint64
}

// Requests counts the requests of one app with a right signature: the bytes of their bodies
// and of the answers, and the events that they have published. Everybody may add and read.
type Requests struct{ Signed, ReceivedBytes, SentBytes, Events atomic.Uint64 }

// AddTraffic adds what t has counted.
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

// AddRequests adds what r has counted.
func (f *AppFigures) AddRequests(r *Requests) {
	f.Requests += r.Signed.Load()
	f.RequestBytes += r.ReceivedBytes.Load()
	f.ResponseBytes += r.SentBytes.Load()
	f.Published += r.Events.Load()
}
