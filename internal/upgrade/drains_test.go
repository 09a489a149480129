package upgrade

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"reverb/internal/admin"
	"reverb/internal/relay"
	"reverb/internal/supervise"
)

// holding makes drains of a process whose connections have these relays.
func holding(number uint8, relays ...uint8) *drains {
	d := &drains{held: new(relay.Held), number: number, since: map[uint8]time.Time{}}
	for _, n := range relays {
		d.held.Came(n)
	}
	return d
}

// Every relay stands for its time; when there are too many, the oldest are drained now, and so is
// one that nobody has told of.
func TestDue(t *testing.T) {
	now, keep := time.Unix(1000, 0), time.Hour
	for _, c := range []struct {
		relays []uint8
		ages   map[uint8]time.Duration
		want   string // relays, and in how many minutes each is drained
	}{
		{nil, nil, "[]"},
		{[]uint8{1}, map[uint8]time.Duration{1: 0}, "[1 in 60]"},
		{[]uint8{1}, map[uint8]time.Duration{1: 90 * time.Minute}, "[1 in -30]"},
		{[]uint8{1, 2}, map[uint8]time.Duration{1: 20 * time.Minute, 2: 0}, "[1 in 40 2 in 60]"},
		{[]uint8{2, 255, 1},
			map[uint8]time.Duration{255: 20 * time.Minute, 1: 9 * time.Minute, 2: 0},
			"[255 in 0 1 in 51 2 in 60]"},
		{[]uint8{4, 3, 2, 1}, map[uint8]time.Duration{1: 4 * time.Minute, 2: 3 * time.Minute,
			3: 2 * time.Minute, 4: time.Minute}, "[1 in 0 2 in 0 3 in 58 4 in 59]"},
		{[]uint8{1}, map[uint8]time.Duration{1: 1, 2: 2, 3: 3}, "[1 in 59]"}, // 2 and 3 have ended
	} {
		d := holding(0, c.relays...)
		for n, age := range c.ages {
			d.since[n] = now.Add(-age)
		}
		got := []string{}
		for _, v := range d.due(now, keep) {
			got = append(got, fmt.Sprintf("%d in %d", v.relay, int(v.at.Sub(now).Minutes())))
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%v: got %v, want %s", c.ages, got, c.want)
		}
	}
	unknown := holding(0, 7).due(now, keep)
	if len(unknown) != 1 || unknown[0].at.After(now) {
		t.Errorf("a relay that nobody has told of is drained at %v", unknown)
	}
}

// The ages of relays go on in the successor, for which this process becomes one; those that have
// ended are forgotten, and a number is not used while a relay has it.
func TestRelaysPassOn(t *testing.T) {
	now := time.Unix(1000, 0)
	later := now.Add(time.Second)
	for _, c := range []struct {
		number uint8
		relays map[uint8]time.Duration
		next   uint8
	}{
		{0, nil, 2}, {1, nil, 2}, {2, map[uint8]time.Duration{1: time.Minute}, 3},
		{255, map[uint8]time.Duration{1: time.Minute, 2: time.Second}, 3},
		{254, map[uint8]time.Duration{255: time.Hour, 1: time.Minute}, 2},
	} {
		d := holding(c.number)
		want := map[uint8]time.Time{d.own(): later}
		for n, age := range c.relays {
			d.held.Came(n)
			d.since[n], want[n] = now.Add(-age), later.Add(-age)
		}
		d.since[99] = now // it has no connections
		next := holding(0)
		if err := next.setState(d.state(now), later); err != nil {
			t.Errorf("%d: %v", c.number, err)
		}
		if next.number != c.next || !reflect.DeepEqual(next.since, want) {
			t.Errorf("%d: got the number %d and %v, want %d and %v", c.number, next.number,
				next.since, c.next, want)
		}
	}
	for _, bad := range []string{"", "\x00", "\x80\x02", "\x01\x00\x05", "\x01\x80\x02\x05",
		"\x01\x02", "\x01\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		if holding(0).setState([]byte(bad), now) == nil {
			t.Errorf("%q makes sense", bad)
		}
	}
}

// The figures go on in the successor, which counts the upgrade that has made it.
func TestFiguresPassOn(t *testing.T) {
	f := admin.Upgrades{Done: 3, Refused: 2, Failed: 1, Moved: 1 << 40, Told: 5}
	add(&f, report{Given: relay.Given{Plain: 10, Relayed: 4, Told: 2}})
	want := admin.Upgrades{Done: 4, Refused: 2, Failed: 1, Moved: 1<<40 + 14, Told: 7,
		Took: 2 * time.Second, Silent: time.Millisecond}
	var got admin.Upgrades
	err := setFigures(&got, figuresState(&f, want.Took, want.Silent))
	if err != nil || got != want {
		t.Errorf("got %+v and %v, want %+v", got, err, want)
	}
	state := figuresState(&f, want.Took, want.Silent)
	for n := range state {
		if setFigures(&got, state[:n]) == nil {
			t.Errorf("%d of %d bytes make sense", n, len(state))
		}
	}
	if err := setFigures(&got, append(state, "later"...)); err != nil {
		t.Errorf("figures of a later version: %v", err)
	}
}

// A process that knows of as many relays as a successor takes refuses an upgrade; with one less the
// successor takes them over.
func TestStanding(t *testing.T) {
	now := time.Unix(1000, 0)
	d := holding(0)
	for n := range uint8(mostKnown + 9) { // some have ended
		if d.since[n+2] = now; n < mostKnown {
			d.held.Came(n + 2)
		}
	}
	u := &Upgrades{drains: *d, role: new(supervise.Role), host: fit{}}
	const want = "64 processes from earlier upgrades relay TLS connections still"
	if err := u.unfit(); err == nil || !strings.HasPrefix(err.Error(), want) || !hopeless(err) {
		t.Errorf("got %v, want %s", err, want)
	}
	u.held.Gone(2)
	if err := u.unfit(); err != nil {
		t.Error(err)
	}
	if err := holding(0).setState(u.drains.state(now), now); err != nil {
		t.Error(err)
	}
}

// fit is a host that can be handed over.
type fit struct{ Host }

func (fit) Unfit() string { return "" }

// A predecessor cannot use up the numbers of relays.
func TestTooManyRelays(t *testing.T) {
	state := []byte{1}
	for n := range uint64(255) {
		state = binary.AppendUvarint(binary.AppendUvarint(state, n+1), 1)
	}
	d := &drains{held: new(relay.Held)}
	if err := d.setState(state, time.Now()); err == nil {
		t.Error("they are taken over")
	}
}

// FuzzRelays checks that what is read of relays is sound, and comes back.
func FuzzRelays(f *testing.F) {
	rng := rand.New(rand.NewPCG(21, 4))
	now := time.Unix(1000, 0)
	for range 5 {
		d := holding(uint8(rng.UintN(256)))
		for range rng.IntN(4) {
			n := uint8(1 + rng.UintN(255))
			d.held.Came(n)
			d.since[n] = now.Add(-time.Duration(rng.Int64N(int64(time.Hour))))
		}
		f.Add(d.state(now))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d := holding(0)
		if d.setState(b, now) != nil {
			return
		}
		if _, used := d.since[d.number]; d.number == 0 || used {
			t.Fatalf("the number %d is used: %v", d.number, d.since)
		}
		for n := range d.since {
			d.held.Came(n)
		}
		if all := d.due(now, time.Hour); len(all) != len(d.since) {
			t.Fatalf("%d of %d are due", len(all), len(d.since))
		}
		next := holding(0)
		if err := next.setState(d.state(now), now); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzFigures checks that figures come back.
func FuzzFigures(f *testing.F) {
	f.Add(figuresState(&admin.Upgrades{Done: 3, Moved: 1 << 50}, time.Second, time.Millisecond))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, again admin.Upgrades
		if setFigures(&v, b) != nil {
			return
		}
		if err := setFigures(&again, figuresState(&v, v.Took, v.Silent)); err != nil || v != again {
			t.Fatalf("%+v became %+v, %v", v, again, err)
		}
	})
}
