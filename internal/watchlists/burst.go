package watchlists

import (
	"slices"
	"time"
)

const (
	// gatherTime is how long ago a watcher must have been told of a change to be told of the next
	// one at once; otherwise that one waits as long for others. Larger: in a storm, clients learn
	// later of some users. Smaller: they get more messages.
	gatherTime = 200 * time.Millisecond
	// burstsAtOnce bounds the watchers that one task tells. Larger: other work of the loop waits
	// longer. Smaller: more tasks.
	burstsAtOnce = 64
)

// burst has the changes that are gathered for a watcher.
type burst struct {
	changes []uint32 // a place in the table, which is there once, and below it a bit: online
}

// bursts has the watchers for which changes are gathered, in the order of time.
type bursts[A comparable, C any] struct {
	queue []gathering[A, C]
	armed bool // a task comes when the first of queue is due
}

type gathering[A comparable, C any] struct {
	due time.Duration
	w   *Watcher[A, C]
	of  *burst // w has none if it has ended
}

// gather keeps a change for a watcher that was told of another change a moment ago. A change that
// undoes one that is kept removes that one instead, as if there were a grace. gather returns false
// if the watcher is to be told at once.
func (d *Desk[A, C]) gather(w *Watcher[A, C], s *subject[A, C], online bool,
	now time.Duration) bool {
	if w.burst == nil {
		if w.told == 0 || moment(now)-w.told >= moment(gatherTime) {
			return false
		}
		w.burst = new(burst)
		d.bursts.queue = append(d.bursts.queue, gathering[A, C]{now + gatherTime, w, w.burst})
		d.armBursts()
	}
	all := w.burst.changes
	if i := slices.IndexFunc(all, func(v uint32) bool { return v>>1 == s.at }); i >= 0 {
		w.burst.changes = slices.Delete(all, i, i+1)
		return true
	}
	change := s.at << 1
	if online {
		change++
	}
	w.burst.changes = append(all, change)
	return true
}

// moment is a time in milliseconds, never 0. It comes again after 49 days; then a change may wait
// for others once more than it has to.
func moment(at time.Duration) uint32 { return max(uint32(at/time.Millisecond), 1) }

// tellBurst hands over what was gathered for a watcher.
func (d *Desk[A, C]) tellBurst(w *Watcher[A, C]) {
	online, offline := split(len(w.burst.changes), slices.Values(w.burst.changes),
		func(change uint32) (id string, online bool) {
			return d.table[change>>1].of.id, change&1 != 0
		})
	if w.burst = nil; len(online)+len(offline) > 0 {
		w.told = moment(d.loop.Now())
		d.host.Gathered(w.conn, online, offline)
	}
}

// armBursts asks for a task at the time at which the first watcher is to be told.
func (d *Desk[A, C]) armBursts() {
	if q := d.bursts.queue; !d.bursts.armed && len(q) > 0 {
		d.bursts.armed = true
		d.loop.After(max(q[0].due-d.loop.Now(), 0), d.endBursts)
	}
}

// endBursts tells the watchers whose time has come.
func (d *Desk[A, C]) endBursts() {
	now := d.loop.Now()
	for told := 0; len(d.bursts.queue) > 0 && d.bursts.queue[0].due <= now; {
		if told == burstsAtOnce {
			d.loop.Post(d.endBursts)
			return
		}
		first := d.bursts.queue[0]
		d.bursts.queue[0] = gathering[A, C]{}
		d.bursts.queue = d.bursts.queue[1:]
		if first.w.burst == first.of {
			d.tellBurst(first.w)
			told++
		}
	}
	if len(d.bursts.queue) == 0 {
		d.bursts.queue = nil
	}
	d.bursts.armed = false
	d.armBursts()
}
