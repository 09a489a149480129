package admin

import (
	"reflect"
	"testing"

	"reverb/internal/protocol"
)

type counts struct{ Subscribed, Unsubscribed, Occupied, Vacated uint64 }

// newCounters counts for an app on so many loops, to whose channels kinds has happened.
func newCounters(loops int, kinds *[protocol.Kinds]counts) *Counters[counts] {
	return &Counters[counts]{Loops: make([]Traffic, loops),
		Channels: func(add ...[protocol.Kinds]counts) [protocol.Kinds]counts {
			for _, more := range add {
				*kinds = more
			}
			return *kinds
		}}
}

// The counts of several loops and of requests are added up, each figure separately.
func TestCountersAreAddedUp(t *testing.T) {
	f := AppFigures{ID: "a", Connections: 1}
	kinds := [protocol.Kinds]counts{{1, 2, 3, 4}, {5, 6, 7, 8}}
	c := newCounters(2, &kinds)
	for n := range c.Loops {
		l, i := &c.Loops[n], uint64(n)
		l.Connected.Add(10 + i)
		l.Disconnected.Add(20 + i)
		l.Received.Add(29 + i)
		l.CountReceived(int(40 + i))
		l.Sent.Add(48 + i)
		l.SentBytes.Add(40 + i)
		l.CountSent(2, 10)
		l.ClientEvents.Add(70 + i)
		l.Limited.Add(80 + i)
	}
	c.CountSigned(2, 3)
	c.Events.Add(4)
	c.Add(&f)
	want := AppFigures{ID: "a", Connections: 1, Connected: 21, Disconnected: 41, Received: 61,
		ReceivedBytes: 81, Sent: 101, SentBytes: 121, ClientEvents: 141, Limited: 161,
		Requests: 1, RequestBytes: 2, ResponseBytes: 3, Published: 4,
		Kinds: [protocol.Kinds]KindFigures{{1, 2, 3, 4}, {5, 6, 7, 8}}}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got %+v, want %+v", f, want)
	}
}

// What a process has counted is added to what its successor has counted.
func TestCountersState(t *testing.T) {
	kinds, taken := [protocol.Kinds]counts{{1, 2, 3, 4}, {5, 6, 7, 8}}, [protocol.Kinds]counts{}
	from, to := newCounters(2, &kinds), newCounters(2, &taken)
	for i := range from.Loops {
		for k, n := range from.Loops[i].all() {
			n.Add(uint64(100*i + k))
		}
	}
	for k, n := range from.Requests.all() {
		n.Add(uint64(1000 + k))
	}
	for k, n := range to.Loops[0].all() {
		n.Add(uint64(k))
	}
	if ok := to.SetState(from.State()); !ok || taken != kinds {
		t.Errorf("got %v %v, want %v", taken, ok, kinds)
	}
	for k, n := range to.Loops[0].all() { // it had k, and gets those of both
		if n.Load() != uint64(k+100+2*k) {
			t.Errorf("counter %d: got %d", k, n.Load())
		}
	}
	for k, n := range to.Requests.all() {
		if n.Load() != uint64(1000+k) {
			t.Errorf("counter %d of requests: got %d", k, n.Load())
		}
	}
	if b := from.State(); newCounters(1, &taken).SetState(b[:len(b)-1]) {
		t.Error("a record that ends too soon is taken")
	}
}

// FuzzSetState checks that counts go on as they are.
func FuzzSetState(f *testing.F) {
	f.Add(newCounters(1, &[protocol.Kinds]counts{{1, 2, 3, 1 << 40}}).State())
	f.Fuzz(func(t *testing.T, b []byte) {
		var kinds, again [protocol.Kinds]counts
		first, second := newCounters(1, &kinds), newCounters(1, &again)
		if !first.SetState(b) {
			return
		}
		b = first.State()
		if !second.SetState(b) || again != kinds || string(second.State()) != string(b) {
			t.Fatalf("%v became %v", kinds, again)
		}
	})
}
