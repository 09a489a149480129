package upgrade

import (
	"slices"
	"testing"
	"time"

	"reverb/internal/relay"
)

// One connection is one, in what is said of upgrades.
func TestWords(t *testing.T) {
	r := report{PID: 7, Silent: time.Millisecond, Took: time.Second}
	for _, c := range []struct {
		plan  plan
		given relay.Given
		want  [2]string
	}{
		{plan{}, relay.Given{},
			[2]string{"0 connections would go on", "0 connections have moved"}},
		{plan{plain: 1}, relay.Given{Plain: 1},
			[2]string{"1 connection would go on", "1 connection has moved"}},
		{plan{plain: 1, encrypted: 2, relayed: 1, short: 1}, relay.Given{Plain: 2, Relayed: 1,
			Told: 1}, [2]string{"4 connections would go on, 2 of them encrypted, relayed by this " +
			"process, 1 of them relayed by a process before it, 1 would be told to reconnect, " +
			"for want of descriptors",
			"3 connections have moved, 1 of them encrypted, relayed by the old process, 1 was " +
				"told to reconnect"}},
		{plan{short: 2}, relay.Given{Told: 2}, [2]string{"0 connections would go " +
			"on, 2 would be told to reconnect, for want of descriptors",
			"0 connections have moved, 2 were told to reconnect"}},
	} {
		if got := c.plan.String(); got != "upgrade: "+c.want[0] {
			t.Errorf("got %s, want %s", got, c.want[0])
		}
		r.Given = c.given
		want := "process 7 serves now: " + c.want[1] + "; silent for 1ms, took 1s"
		if got := r.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// What is said before an upgrade is what happens then: who is told to reconnect for lack of
// descriptors, because a relay would be one too many or its time is over, or because of its app.
func TestPlanned(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name     string
		keep     time.Duration
		relays   map[uint8]int // connections of relays, 0: plain, 9: encrypted
		strange  map[uint8]int // the same, of another app
		files    int
		want     plan
		told     int // by the successor at once
		relaying int // of them by this process
	}{
		{"all go on", time.Hour, map[uint8]int{0: 5, 9: 4, 7: 2}, nil, 4,
			plan{plain: 5, encrypted: 4, relayed: 2}, 0, 0},
		{"no descriptors", time.Hour, map[uint8]int{0: 5, 9: 4}, nil, 3,
			plan{plain: 5, encrypted: 3, short: 1}, 0, 0},
		{"a third relay", time.Hour, map[uint8]int{0: 5, 9: 4, 7: 2, 8: 3}, nil, 9,
			plan{plain: 5, encrypted: 4, relayed: 3, aged: 2}, 2, 0},
		{"no third relay", time.Hour, map[uint8]int{0: 5, 7: 2, 8: 3}, nil, 9,
			plan{plain: 5, relayed: 5}, 0, 0},
		{"REVERB_UPGRADE_DRAIN=0", 0, map[uint8]int{0: 5, 9: 4, 8: 2}, nil, 9,
			plan{plain: 5, aged: 6}, 6, 4},
		{"an app less", time.Hour, map[uint8]int{0: 5, 9: 4}, map[uint8]int{0: 1, 9: 2}, 9,
			plan{plain: 5, encrypted: 4, strange: 3}, 3, 2},
		{"an app less, and no time", 0, map[uint8]int{9: 4}, map[uint8]int{0: 1, 9: 2}, 9,
			plan{aged: 4, strange: 3}, 7, 6},
	} {
		before, next := holding(9), holding(0)
		before.since = map[uint8]time.Time{7: now.Add(-2 * time.Minute), 8: now.Add(-time.Minute)}
		of := terms{c.keep, "v", []string{"a", "b"}}
		first, second := newLeaving(of), newLeaving(of)
		for app, all := range map[string]map[uint8]int{"b": c.relays, "gone": c.strange} {
			for n, size := range all {
				for range size {
					first.add(app, n)
					second.add(app, n)
					if n != 0 {
						next.held.Came(n)
					}
					if n != 0 && n != 9 {
						before.held.Came(n)
					}
				}
			}
		}
		if got := planned(first, before, c.files, now); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
		if err := next.setState(before.state(now), now); err != nil {
			t.Error(err)
		}
		told, own := second.told(next.due(now, c.keep), next.before, now)
		if told != c.told || own != c.relaying {
			t.Errorf("%s: %d and %d are told, want %d and %d", c.name, told, own, c.told,
				c.relaying)
		}
	}
	got := less(relay.Given{Plain: 5, Relayed: 4, Told: 1}, 3, 2)
	if got != (relay.Given{Plain: 4, Relayed: 2, Told: 4}) {
		t.Errorf("got %+v", got)
	}
}

// FuzzTerms checks that terms come back.
func FuzzTerms(f *testing.F) {
	f.Add(terms{time.Hour, "v", []string{"app", ""}}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := parseTerms(b)
		if again := parseTerms(v.append(nil)); v.keep != again.keep || v.version != again.version ||
			len(b) < maxTerms && !slices.Equal(v.apps, again.apps) {
			t.Fatalf("%+v became %+v", v, again)
		}
	})
}
