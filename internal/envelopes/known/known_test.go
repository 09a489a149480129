package known

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/envelopes/legacy"
)

// TestTopic leaves a topic to another process, where its members come again.
func TestTopic(t *testing.T) {
	topic := &Topic{Name: "a:presence-x", Bucket: 3, Members: 2, Total: 5, State: Active}
	if !topic.Rests() || topic.Lingers() {
		t.Error("it does not rest")
	}
	topic.Users.Put("7", &User{Info: "{}", Subscriptions: 2, Told: true})
	if topic.Rests() {
		t.Error("it rests, and Redis has not confirmed a user")
	}
	topic.Users.Get("7").Present = true
	topic.View.Add("7", "{}")
	topic.View.Add("8", "")
	topic.Wait().Waiting = append(topic.Wait().Waiting, Waiter{User: "9"})
	if topic.Rests() || topic.Late() {
		t.Error("it rests, and a member waits")
	}
	if got := topic.Release(); len(got) != 1 || !topic.Rests() {
		t.Errorf("%v waited", got)
	}
	v := topic.Legacy(0)
	next := TopicOf(&v, 3)
	if next.Members != 0 || next.Bucket != 3 || next.Users.Get("7").Subscriptions != 0 ||
		!next.Rests() {
		t.Errorf("%+v became %+v", topic, next)
	}
	want := legacy.Topic{Name: "a:presence-x", Members: 2, Total: 5,
		Users: []legacy.User{{ID: "7", Info: "{}"}},
		View:  []*envelopes.Member{{User: "7", Info: "{}", Order: 1}, {User: "8", Order: 2}}}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("got %+v, want %+v", v, want)
	}
	next.Members = 2
	if again := next.Legacy(0); !reflect.DeepEqual(again, want) {
		t.Errorf("got %+v, want %+v", again, want)
	}
}

// TestLine settles events in their order, keeps the recent ones, and leaves those to another
// process.
func TestLine(t *testing.T) {
	now := time.Unix(1000, 0)
	var b Line
	for i := range 6 {
		b.Pending = append(b.Pending, &Event{Topic: "a:x", Number: uint64(i + 1), Echoes: true,
			Echoed: i < 4, Accepted: i != 3, Sent: now.Add(-time.Duration(9-i) * time.Second)})
	}
	numbers := func(all []*Event) (n []uint64) {
		for _, o := range all {
			n = append(n, o.Number)
		}
		return n
	}
	if b.Settle(2); !slices.Equal(numbers(b.Pending), []uint64{4, 5, 6}) ||
		!slices.Equal(numbers(b.All()), []uint64{1, 2, 3, 4, 5, 6}) {
		t.Errorf("%d pending, %d in all", numbers(b.Pending), numbers(b.All()))
	}
	if b.Find(5).Number != 5 || b.Find(3) != nil || b.Find(9) != nil {
		t.Error("another event is found")
	}
	b.Find(4).Accepted = true
	b.Leave("a:y")
	if b.Settle(2); len(b.Pending) != 2 {
		t.Errorf("%d pending", numbers(b.Pending))
	}
	b.Leave("a:x")
	if b.Settle(9); b.Pending != nil {
		t.Errorf("%d pending", numbers(b.Pending))
	}
	left := b.Legacy(nil, now, 5*time.Second)
	if len(left) != 2 || left[0].Number != 5 || left[1].Age != 4*time.Second {
		t.Errorf("left: %+v", left)
	}
	o := EventOf(&left[1], 7, now)
	if !o.Settled() || !o.Sent.Equal(now.Add(-4*time.Second)) || o.Bucket != 7 || o.Number != 6 {
		t.Errorf("got %+v", o)
	}
	b.Turn()
	if b.Turn(); len(b.All()) != 0 {
		t.Errorf("%d are kept", numbers(b.All()))
	}
}
