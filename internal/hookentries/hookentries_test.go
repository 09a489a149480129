package hookentries

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"reverb/internal/hookevents"
	"reverb/internal/lib/recordlog"
	"reverb/internal/protocol"
)

func name(s string) protocol.Name {
	n, err := protocol.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func dump(f *Fold) string {
	var b strings.Builder
	for _, no := range slices.Sorted(maps.Keys(f.lanes)) {
		l := f.lanes[no]
		fmt.Fprintf(&b, "lane %d %q %x %+v:", no, l.app, l.hash, l.batch)
		for _, e := range l.items {
			if e.bytes != nil {
				fmt.Fprintf(&b, " %d %q", e.number, e.bytes)
			}
		}
		b.WriteByte('\n')
	}
	for _, app := range slices.Sorted(maps.Keys(f.apps)) {
		fmt.Fprintf(&b, "app %q: %q\n", app, slices.Sorted(maps.Keys(f.apps[app])))
	}
	return b.String()
}

func appendOne(b []byte, e Entry) []byte { return AppendEntry(b, e.Kind, e.AppendBody(nil)) }

// Whatever a record says, reading it does not fail, and what was read is the same after a
// rewriting.
func FuzzFold(f *testing.F) {
	at := time.UnixMilli(1_795_709_778_123)
	some := hookevents.Event{Kind: hookevents.ClientEvent, Channel: name("private-x"),
		Event: "client-x", Data: []byte("{}"), Socket: protocol.SocketIDOf(1<<32 | 2)}
	lane := recordlog.AppendField([]byte{1}, "app") // without a place
	lane = append(lane, bytes.Repeat([]byte{7}, HashSize)...)
	record := AppendEntry(nil, EntryLane, lane)
	record = appendOne(record, Entry{Kind: EntryCame, App: "app", Event: hookevents.Event{
		Kind: hookevents.MemberAdded, Channel: name("presence-x"), User: "7"}})
	for _, n := range []uint64{1, 2, 5} {
		record = appendOne(record, Entry{Kind: EntryPut, Lane: 1, Number: n, At: at, Event: some})
	}
	record = appendOne(record, Entry{Kind: EntryBatch, Lane: 1, Batch: Batch{"id", 5, 2}})
	f.Add(record)
	f.Add(appendOne(bytes.Clone(record), Entry{Kind: EntryDone, Lane: 1, Number: 1}))
	f.Add(appendOne(bytes.Clone(record), Entry{Kind: EntryLost, Lane: 1, Number: 2}))
	f.Add(appendOne(bytes.Clone(record), Entry{Kind: EntryEnded, Lane: 1}))
	f.Add(AppendEntry(bytes.Clone(record), 99, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		f, again := NewFold(), NewFold()
		f.Add(b)
		for r := range f.Records() {
			again.Add(r)
		}
		if got, want := dump(&again), dump(&f); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		for _, p := range f.Past() {
			for _, l := range p.Lanes {
				for i, it := range l.Items {
					if it.Number > l.Last || i > 0 && it.Number <= l.Items[i-1].Number {
						t.Errorf("%d after %d", it.Number, l.Items[max(i, 1)-1].Number)
					}
				}
			}
		}
	})
}

// What is away comes back as it was, and nothing else is taken.
func TestAway(t *testing.T) {
	for _, a := range []Away{
		{"app", hookevents.Event{Kind: hookevents.ChannelVacated, Channel: name("a")}, 0, false},
		{"app", hookevents.Event{Kind: hookevents.MemberRemoved, Channel: name("presence-x"),
			User: "7"}, 1234 * time.Millisecond, true},
	} {
		body := a.AppendBody(nil)
		if got, ok := ReadAway(body); !ok || fmt.Sprint(got) != fmt.Sprint(a) {
			t.Errorf("got %v, %v, want %v", got, ok, a)
		}
		for n := range body {
			if got, ok := ReadAway(body[:n]); ok {
				t.Errorf("%q is %v", body[:n], got)
			}
		}
	}
	late := Away{App: "app", Event: hookevents.Event{Kind: hookevents.ChannelVacated,
		Channel: name("a")}, Left: -time.Second}
	if got, ok := ReadAway(late.AppendBody(nil)); !ok || got.Left != 0 {
		t.Errorf("%v, %v", got, ok)
	}
	late.Left = mostLeft + time.Millisecond
	if got, ok := ReadAway(late.AppendBody(nil)); ok {
		t.Errorf("a grace of %v", got.Left)
	}
}
