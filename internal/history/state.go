package history

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"reverb/internal/lib/recordlog"
	"reverb/internal/protocol"
)

// recordBytes is about how long a record of State is. An event is in one.
const recordBytes = 256 << 10

// What an entry of a State is.
const (
	stateRing = iota
	stateEvent
)

// State gives send everything that is kept, in records of whole entries, for SetState of another
// process. payload is the message of an event. Nothing changes meanwhile.
func (r *Rings[E]) State(now time.Time, payload func(E) []byte,
	send func([]byte) error) error {
	var b []byte
	for id, a := range r.apps {
		told := map[*ring[E]]uint64{} // the last event
		for n := a.oldest; n != nil; n = n.newer {
			g := n.ring
			b = recordlog.AppendField(recordlog.AppendField(b, id), g.channel)
			b = binary.BigEndian.AppendUint64(b, g.epoch)
			b = binary.AppendUvarint(b, uint64(max(0, now.UnixNano()-n.at)))
			if n == &g.own {
				last, occupied := g.last, uint64(0)
				if g.count > 0 && told[g] != last {
					last-- // the last event comes after its ring
				}
				if g.occupied {
					occupied = 1
				}
				b = binary.AppendUvarint(binary.AppendUvarint(append(b, stateRing), last), occupied)
			} else {
				told[g] = n.number
				b = binary.AppendUvarint(append(b, stateEvent), n.number)
				b = binary.AppendUvarint(b, n.event.Except().Number())
				b = recordlog.AppendField(b, payload(n.event))
			}
			if len(b) >= recordBytes {
				if err := send(b); err != nil {
					return err
				}
				b = b[:0]
			}
		}
	}
	if len(b) == 0 {
		return nil
	}
	return send(b)
}

// SetState takes a record of State over. event makes an event of an app that keeps some. ok is
// false if the record makes no sense.
func (r *Rings[E]) SetState(b []byte, now time.Time,
	event func(app string, payload []byte, except protocol.SocketID) E) (ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := recordlog.Fields{B: b}
	for len(f.B) > 0 {
		id, channel, epoch := f.Text(), f.Text(), f.Bytes(8)
		age, kind := f.Number(), f.Bytes(1)
		number, more := f.Number(), f.Number()
		var message []byte
		if !f.Bad && kind[0] == stateEvent {
			message = f.Bytes(f.Number())
		}
		if f.Bad || kind[0] > stateEvent || age > 1<<62 {
			return false
		}
		a := r.apps[id]
		if a == nil || !a.Keeps(channel) {
			continue
		}
		at := now.Add(-time.Duration(age))
		g := r.inheritLocked(a, channel, binary.BigEndian.Uint64(epoch), at)
		switch {
		case kind[0] == stateRing:
			if g.count > 0 && number != g.last {
				return false
			}
			g.last, g.occupied = number, more == 1
			r.touchLocked(g, at)
		case g.count > 0 && number != g.last+1 || number == 0:
			return false
		default:
			g.last = number
			r.keepLocked(g, event(id, message, protocol.SocketIDOf(more)), at)
		}
		r.shrinkLocked()
	}
	return !f.Bad
}

// inheritLocked returns the ring of an epoch of a channel, which it makes where there is none.
func (r *Rings[E]) inheritLocked(a *App[E], channel string, epoch uint64, at time.Time) *ring[E] {
	p := a.policy.Load()
	if g := a.rings[channel]; g != nil && g.epoch != epoch {
		r.dropLocked(&g.own)
	}
	if g := a.rings[channel]; g != nil {
		return g
	}
	return r.openLocked(a, p, channel, epoch, at)
}

// State is what was counted, for SetState of another process.
func (f *Figures) State() (b []byte) {
	for _, n := range f.all() {
		b = binary.AppendUvarint(b, n.Load())
	}
	return b
}

// SetState adds what another process has counted. ok is false if b makes no sense.
func (f *Figures) SetState(b []byte) (ok bool) {
	r := recordlog.Fields{B: b}
	for _, n := range f.all() {
		if len(r.B) == 0 {
			break // an earlier version counts less
		}
		n.Add(r.Number())
	}
	return !r.Bad
}

// all are the counters, in an order that does not change: new ones come at the end.
func (f *Figures) all() []*atomic.Uint64 {
	return []*atomic.Uint64{&f.Recovered, &f.Replayed, &f.not[unknown], &f.not[expired],
		&f.not[forged], &f.not[crowded]}
}
