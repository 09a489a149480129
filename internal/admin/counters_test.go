package admin

import (
	"reflect"
	"testing"
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
