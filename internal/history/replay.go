package history

import (
	"bytes"
	"encoding/json"
	"time"

	"reverb/internal/lib/outqueue"
	"reverb/internal/protocol"
)

// maxSockets is how many former socket IDs a client may tell, and maxAskText how long each text of
// an ask may be.
const (
	maxSockets = 8
	maxAskText = 64
)

// asked is what a client says of itself when it subscribes: that it can resume, and where it was.
type asked struct {
	Epoch   string              // empty: the client begins
	Offset  string              // of the last event that it has handled
	Sockets []protocol.SocketID // what it was called before: it has not got what excluded these
	Mark    Mark                // set by the caller, see App.Mark
	bad     bool
}

// Wish is what a subscriber to a channel asks, and what it gets. It is an engine.Ask. The loop of
// the subscriber owns it, but for Moment.
type Wish[E Event] struct {
	asked
	Value     []byte // that the wish was read from
	app       *App[E]
	channel   string
	Recovered bool       // known after Answer: it gets all that it has missed
	replay    *missed[E] // that; nil: nothing, or Flow has it
}

// Wish reads the value of resume in the subscription of a socket to a channel, see parseAsk; nil:
// the subscriber does not resume, or the channel keeps nothing.
func (a *App[E]) Wish(channel string, value []byte, own protocol.SocketID) *Wish[E] {
	if value == nil || !a.Keeps(channel) {
		return nil
	}
	ask := parseAsk(value)
	if ask == nil {
		return nil
	}
	ask.Sockets = append(ask.Sockets, own) // between connecting and subscribing
	return &Wish[E]{asked: *ask, Value: value, app: a, channel: channel}
}

// Look is a wish that only gets the moment; nil: the channel keeps nothing.
func (a *App[E]) Look(channel string) *Wish[E] {
	if !a.Keeps(channel) {
		return nil
	}
	return &Wish[E]{app: a, channel: channel}
}

// Moment notes the moment of the subscriber's place.
func (w *Wish[E]) Moment(now time.Time) { w.Mark = w.app.Mark(w.channel, now) }

// Answer puts the answer into a message, which is that to a subscriber that does not resume. It is
// called once, and Flow after it. If nothing is kept since this moment, the message is the answer.
func (w *Wish[E]) Answer(message []byte, now time.Time) []byte {
	answer, replay := w.app.resume(w.channel, &w.asked, now)
	if w.Recovered, w.replay = answer.Recovered, replay; answer.Epoch == "" {
		return message
	}
	return answer.append(bytes.Clone(message[:len(message)-1]))
}

// Flow sends what the subscriber has missed, see the function Flow.
func (w *Wish[E]) Flow(to Conn[E], behind *outqueue.Place) {
	if w.replay != nil {
		Flow(to, w.replay, behind)
		w.replay = nil
	}
}

// parseAsk reads the value of resume in the data of pusher:subscribe; nil: the client does not
// resume. What makes no sense is answered as a forged position is.
func parseAsk(value []byte) *asked {
	if len(value) == 0 || value[0] != '{' {
		return nil
	}
	var v struct {
		Epoch, Offset *string
		Sockets       []string
	}
	a := new(asked)
	if json.Unmarshal(value, &v) != nil || len(v.Sockets) > maxSockets ||
		(v.Epoch == nil) != (v.Offset == nil) {
		a.bad = true
		return a
	}
	if v.Epoch != nil {
		a.Epoch, a.Offset = *v.Epoch, *v.Offset
		a.bad = a.Epoch == "" || a.Offset == "" || max(len(a.Epoch), len(a.Offset)) > maxAskText
	}
	for _, s := range v.Sockets {
		id := protocol.ParseSocketID(s)
		a.bad = a.bad || id == (protocol.SocketID{})
		a.Sockets = append(a.Sockets, id)
	}
	return a
}

// excludes says that an event was not for the client, whatever it was called then.
func (a *asked) excludes(e protocol.SocketID) bool {
	if e == (protocol.SocketID{}) {
		return false
	}
	for _, id := range a.Sockets {
		if id == e {
			return true
		}
	}
	return false
}

// reply is what a client is told.
type reply struct {
	Epoch, Offset string
	Recovered     bool
}

// append appends a as the last member of a JSON object: from the comma on, with the brace.
func (a *reply) append(b []byte) []byte {
	b = append(append(b, `,"resume":{"epoch":"`...), a.Epoch...)
	b = append(append(b, `","offset":"`...), a.Offset...)
	if a.Recovered {
		return append(b, `","recovered":true}}`...)
	}
	return append(b, `","recovered":false}}`...)
}

// missed has the events that a client has missed, the next one first. Its owner must call close.
type missed[E Event] struct {
	app  *App[E]
	left []*entry[E]
	at   time.Time // when it was begun
	slow func()    // ends a connection that does not read; nil: it has taken everything at once
}

// slowTime is how long a client may take for its replay when others get none for that. Larger: a
// client that does not read keeps others from recovering for longer. Smaller: clients on slow
// networks are closed when memory is short.
const slowTime = 30 * time.Second

// resume answers a client whose ask has its Mark. The replay has all that the client has missed
// before the mark; nil: nothing, or nothing can be recovered.
func (a *App[E]) resume(channel string, ask *asked, now time.Time) (answer reply,
	replay *missed[E]) {
	r := a.all
	r.mu.Lock()
	defer r.mu.Unlock()
	p := a.policy.Load()
	if p.life == 0 || ask.Mark == (Mark{}) { // it was switched off this moment
		return reply{}, nil
	}
	mark := p.mark(channel, ask.Mark.epoch)
	offset := p.offset(mark, ask.Mark.number)
	answer = reply{Epoch: epochText(ask.Mark.epoch), Offset: string(offset[:])}
	why, from := r.judgeLocked(a, p, channel, ask, mark, now)
	if answer.Recovered = why == recovered; !answer.Recovered {
		r.not[why].Add(1)
		return answer, nil
	}
	r.Recovered.Add(1)
	g := a.rings[channel]
	if g == nil || from == ask.Mark.number {
		return answer, nil
	}
	replay = &missed[E]{app: a, at: now}
	for n := g.first; n != nil && n.number <= ask.Mark.number; n = n.next {
		if n.number > from && !ask.excludes(n.event.Except()) {
			if n.pins++; n.pins == 1 {
				r.holdLocked(a, entryBytes+n.event.Size())
			}
			replay.left = append(replay.left, n)
		}
	}
	if len(replay.left) == 0 {
		return answer, nil
	}
	r.Replayed.Add(uint64(len(replay.left)))
	r.holdLocked(a, 8*len(replay.left))
	r.pinned += 8 * len(replay.left)
	a.replays[replay] = true
	r.shrinkLocked()
	return answer, replay
}

// judgeLocked says whether everything after the position of ask is known, and which number it has.
func (r *Rings[E]) judgeLocked(a *App[E], p *policy, channel string, ask *asked, mark uint64,
	now time.Time) (why reason, from uint64) {
	switch {
	case ask.bad:
		return forged, 0
	case ask.Epoch == "":
		return started, 0
	case ask.Epoch != epochText(ask.Mark.epoch):
		return unknown, 0
	}
	from, ok := p.number(mark, ask.Offset)
	r.expireLocked(a, p, now)
	g := a.rings[channel]
	switch {
	case !ok || from > ask.Mark.number:
		return forged, 0
	case from == ask.Mark.number:
		return recovered, from
	case int64(a.held) > r.limits.Bytes/2-int64(r.held): // half of what others leave
		a.endSlowLocked(now)
		return crowded, 0
	case g == nil || g.epoch != ask.Mark.epoch || from < g.last-uint64(g.count):
		return expired, 0
	}
	return recovered, from
}

// endSlowLocked ends the connections that have not taken their replays for long.
func (a *App[E]) endSlowLocked(now time.Time) {
	for v := range a.replays {
		if v.slow != nil && now.Sub(v.at) > slowTime {
			v.slow()
			v.slow = nil
		}
	}
}

// next takes the next events, of at most size bytes together, but at least one.
func (v *missed[E]) next(size int) (all []E) {
	for i, e := range v.left {
		if size -= e.event.Size(); size < 0 && i > 0 {
			break
		}
		all = append(all, e.event)
	}
	v.release(len(all))
	return all
}

// size is how many bytes are left.
func (v *missed[E]) size() (n int) {
	for _, e := range v.left {
		n += e.event.Size()
	}
	return n
}

// done says that no event is left.
func (v *missed[E]) done() bool { return len(v.left) == 0 }

// close gives up what is left.
func (v *missed[E]) close() { v.release(len(v.left)) }

// release ends the wait of the next n events. From now on they belong to the caller.
func (v *missed[E]) release(n int) {
	r := v.app.all
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range v.left[:n] {
		if e.pins--; e.pins == 0 {
			size := entryBytes + e.event.Size()
			r.holdLocked(v.app, -size)
			if e.gone {
				r.pinned -= size
			}
		}
		v.left[i] = nil
	}
	r.holdLocked(v.app, -8*n)
	r.pinned -= 8 * n
	if v.left = v.left[n:]; len(v.left) == 0 {
		delete(v.app.replays, v)
	}
}

// waits says that slow ends the connection which has to take the rest.
func (v *missed[E]) waits(slow func()) {
	v.app.all.mu.Lock()
	defer v.app.all.mu.Unlock()
	v.slow = slow
}
