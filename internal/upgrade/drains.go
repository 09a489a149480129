package upgrade

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"sort"
	"time"

	"reverb/internal/lib/recordlog"
	"reverb/internal/relay"
)

const (
	// mostRelays bounds the relays with connections that stand beside a server. Larger: old
	// processes take memory and descriptors for longer. Smaller: upgrades in a row close
	// connections.
	mostRelays = 2
	// mostKnown bounds the relays of which a predecessor tells. There are mostRelays, and those
	// that are drained. Larger: the numbers of relays, from 1 to 255, may run out. Smaller:
	// upgrades in quick succession are refused.
	mostKnown = 64
	// drainStep is the time between two parts of a drain. Larger: more connections return at once.
	// Smaller: all connections are looked at more often.
	drainStep = 100 * time.Millisecond
)

// drains tell the connections of relays to reconnect when it is time: a relay stands for as long as
// the configuration says, and the oldest ones go first when there are too many. Methods are called
// by one goroutine.
type drains struct {
	held   *relay.Held         // connections of this process, by their relay
	number uint8               // of this process, when it is a relay
	before uint8               // of its predecessor; 0: there was none
	since  map[uint8]time.Time // when the relays before it began
}

// sectionRelays is the name of the state of drains.
const sectionRelays = "relays"

// own is the number of this process, when it is a relay.
func (d *drains) own() uint8 { return max(d.number, 1) }

// state is for setState in the successor: for it this process becomes a relay.
func (d *drains) state(now time.Time) []byte {
	b := binary.AppendUvarint(nil, uint64(d.own()))
	for n, since := range d.since {
		if d.held.Of(n) > 0 {
			age := max(now.Sub(since), 0)
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(n)), uint64(age))
		}
	}
	return b
}

func (d *drains) setState(b []byte, now time.Time) error {
	f := recordlog.Fields{B: b}
	was := f.Number()
	d.since = map[uint8]time.Time{uint8(was): now}
	for len(f.B) > 0 && !f.Bad {
		n, age := f.Number(), f.Number()
		if n == 0 || n > 255 || age > 1<<62 {
			f.Fail()
		}
		d.since[uint8(n)] = now.Add(-time.Duration(age))
	}
	if f.Bad || was == 0 || was > 255 || len(d.since) > mostKnown {
		return errors.New("relays: it makes no sense")
	}
	d.before = uint8(was)
	for d.number = uint8(was) + 1; d.number == 0 || !d.since[d.number].IsZero(); d.number++ {
	}
	return nil
}

// due are the relays that have connections, the oldest first, with the time at which each is
// drained. A relay that state did not tell of is drained now.
func (d *drains) due(now time.Time, keep time.Duration) (all []drain) {
	for n := uint8(255); n > 0; n-- {
		if d.held.Of(n) > 0 {
			all = append(all, drain{n, d.since[n].Add(keep), "REVERB_UPGRADE_DRAIN is over"})
		}
	}
	sort.SliceStable(all, func(i, k int) bool { return all[i].at.Before(all[k].at) })
	for i := range max(len(all)-mostRelays, 0) {
		if all[i].at.After(now) {
			all[i].at, all[i].why = now, "too many relays stand"
		}
	}
	return all
}

// after is what the successor will be for a process that gives it so many connections as a relay.
func (d *drains) after(now time.Time, relayed int64) *drains {
	next := &drains{held: new(relay.Held), since: maps.Clone(d.since)}
	for n := uint8(255); n > 0; n-- {
		if d.held.Of(n) > 0 {
			next.held.Came(n)
		}
	}
	if relayed > 0 {
		next.held.Came(d.own())
	}
	if next.since == nil {
		next.since = make(map[uint8]time.Time)
	}
	next.since[d.own()] = now
	return next
}

// standing is how many relays a successor would know of, beside this process.
func (d *drains) standing() (n int) {
	for relay := range d.since {
		if relay != d.own() && d.held.Of(relay) > 0 {
			n++
		}
	}
	return n
}

// drain is when the connections of a relay are told to reconnect.
type drain struct {
	relay uint8
	at    time.Time
	why   string
}

// FollowRelays drains the relays in their time, until ctx ends. keep is how long a relay stands,
// spread how long a drain takes.
func (u *Upgrades) FollowRelays(ctx context.Context, keep, spread time.Duration) {
	for _, next := range u.due(time.Now(), keep) {
		parts := max(int(spread/drainStep), 1)
		for part := range parts {
			select {
			case <-time.After(max(time.Until(next.at), 0)):
			case <-ctx.Done():
				return
			}
			if part == 0 {
				u.log.Info("told to reconnect (4200): the connections of a relay", "relay",
					next.relay, "connections", u.held.Of(next.relay), "as", next.why)
			}
			u.host.Tell(next.relay, part, parts)
			next.at = time.Now().Add(drainStep)
		}
	}
}
