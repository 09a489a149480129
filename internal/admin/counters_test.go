package admin

import (
	"reflect"
	"testing"

	"reverb/internal/protocol"
)

// The counts of several loops and of requests are added up, each figure separately.
func TestCountersAreAddedUp(t *testing.T) {
	f := AppFigures{ID: "a", Connections: 1}
	for i := range uint64(2) {
		var l Traffic
		l.Connected.Add(10 + i)
		l.Disconnected.Add(20 + i)
		l.Received.Add(29 + i)
		l.CountReceived(int(40 + i))
		l.Sent.Add(48 + i)
		l.SentBytes.Add(40 + i)
		l.CountSent(2, 10)
		l.ClientEvents.Add(70 + i)
		l.Limited.Add(80 + i)
		f.AddTraffic(&l)
	}
	var r Requests
	r.CountSigned(2, 3)
	r.Events.Add(4)
	f.AddRequests(&r)
	want := AppFigures{ID: "a", Connections: 1, Connected: 21, Disconnected: 41, Received: 61,
		ReceivedBytes: 81, Sent: 101, SentBytes: 121, ClientEvents: 141, Limited: 161,
		Requests: 1, RequestBytes: 2, ResponseBytes: 3, Published: 4}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got %+v, want %+v", f, want)
	}
}

// What a process has counted is added to what its successor has counted.
func TestCountersState(t *testing.T) {
	type counts struct{ Subscribed, Unsubscribed, Occupied, Vacated uint64 }
	var loops [2]Traffic
	var requests, more Requests
	for i := range loops {
		for k, n := range loops[i].all() {
			n.Add(uint64(100*i + k))
		}
	}
	for k, n := range requests.all() {
		n.Add(uint64(1000 + k))
	}
	each := func(yield func(*Traffic) bool) { _ = yield(&loops[0]) && yield(&loops[1]) }
	kinds := [protocol.Kinds]counts{{1, 2, 3, 4}, {5, 6, 7, 8}}
	b := CountersState(each, &requests, kinds)
	got, ok := SetCounters[counts](b, &loops[0], &more)
	if !ok || got != kinds {
		t.Errorf("got %v %v, want %v", got, ok, kinds)
	}
	if f := Kinds(kinds); f[1] != (KindFigures{5, 6, 7, 8}) {
		t.Errorf("got %v", f)
	}
	for k, n := range loops[0].all() { // it had k, and gets those of both
		if n.Load() != uint64(k+100+2*k) {
			t.Errorf("counter %d: got %d", k, n.Load())
		}
	}
	for k, n := range more.all() {
		if n.Load() != uint64(1000+k) {
			t.Errorf("counter %d of requests: got %d", k, n.Load())
		}
	}
	if _, ok = SetCounters[counts](b[:len(b)-1], new(Traffic), new(Requests)); ok {
		t.Error("a record that ends too soon is taken")
	}
}

// FuzzSetCounters checks that counts go on as they are.
func FuzzSetCounters(f *testing.F) {
	type counts struct{ Subscribed, Unsubscribed, Occupied, Vacated uint64 }
	state := func(l *Traffic, r *Requests, kinds [protocol.Kinds]counts) []byte {
		return CountersState(func(yield func(*Traffic) bool) { yield(l) }, r, kinds)
	}
	f.Add(state(new(Traffic), new(Requests), [protocol.Kinds]counts{{1, 2, 3, 1 << 40}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var l, l2 Traffic
		var r, r2 Requests
		kinds, ok := SetCounters[counts](b, &l, &r)
		if !ok {
			return
		}
		b = state(&l, &r, kinds)
		again, ok := SetCounters[counts](b, &l2, &r2)
		if !ok || again != kinds || string(state(&l2, &r2, again)) != string(b) {
			t.Fatalf("%v became %v", kinds, again)
		}
	})
}
