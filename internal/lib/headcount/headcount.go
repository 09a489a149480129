// Package headcount tells crowds how large they are, each time that this changes.
//
// A K names a crowd. People come and go on several loops. Each crowd has one loop as its home, and
// only its home tells it. So the crowd hears numbers in their order, and the last one is true:
//
//	loop ─▶ Changed ─▶ end of the turn ─▶ home ─▶ Host.Size ─▶ Host.Tell
//	Set ─▶ home ─▶ end of the turn ─▶ Host.Tell
//
// Many changes in one turn of a loop are told once. A crowd of more than few hears at most one
// number in each pause; the last number is never missing.
//
// The package keeps what has changed in this turn, and 100 bytes for each crowd of more than few
// that was told a number within the last pause. It has no lock, starts no goroutine, and reads no
// clock but that of the loops.
package headcount

import "time"

// Loop runs tasks one after the other. Any goroutine may call its methods. It is an alias, so that
// one slice of loops serves all packages with the same methods.
type Loop = interface {
	Post(task func())                   // runs task later, in the order of the calls, or never
	After(d time.Duration, task func()) // posts task when d has passed
	Now() time.Duration                 // since a moment that never changes
}

// Host has the crowds.
type Host[K comparable] interface {
	// Hash chooses the home of a crowd. Any goroutine may ask.
	Hash(crowd K) uint32
	// Size is how many are in a crowd now. The crowd's home asks.
	Size(crowd K) int
	// Tell tells everybody in a crowd how many they are. The crowd's home calls it.
	Tell(crowd K, size int)
}

// Counter tells crowds how large they are.
type Counter[K comparable] struct {
	host  Host[K]
	few   int
	pause time.Duration
	desks []*desk[K]
}

// desk is the part of a loop, which owns it.
type desk[K comparable] struct {
	*Counter[K]
	loop    Loop
	changed []K       // in this turn, each once
	sizes   map[K]int // of changed; unknown: the home asks
	large   map[K]*large
	told    []K  // the keys of large, in the order in which they were told
	waiting bool // endPause is to come
}

// large is a crowd of more than few, or one that was that within the last pause.
type large struct {
	at    time.Duration // when it was last told a number above few
	waits bool          // size is to be told when the pause is over
	size  int
}

// unknown stands for the size of a crowd in desk.sizes.
const unknown = -1

// New makes a Counter. Crowds of up to few hear every number at once, larger ones one in each
// pause.
func New[K comparable](loops []Loop, host Host[K], few int, pause time.Duration) *Counter[K] {
	c := &Counter[K]{host: host, few: few, pause: pause}
	for _, l := range loops {
		c.desks = append(c.desks, &desk[K]{Counter: c, loop: l, sizes: map[K]int{},
			large: map[K]*large{}})
	}
	return c
}

// Changed says that somebody has come to a crowd, or left it, on a loop. The loop calls it.
func (c *Counter[K]) Changed(loop int, crowd K) { c.desks[loop].note(crowd, unknown) }

// Set says that a crowd has a new size, which Host.Size does not know. It must be said in the order
// of the changes. Any goroutine may call it.
func (c *Counter[K]) Set(crowd K, size int) {
	d := c.home(crowd)
	d.loop.Post(func() { d.note(crowd, size) })
}

func (c *Counter[K]) home(crowd K) *desk[K] {
	return c.desks[c.host.Hash(crowd)%uint32(len(c.desks))]
}

// note keeps a change until the end of the turn.
func (d *desk[K]) note(crowd K, size int) {
	if len(d.changed) == 0 {
		d.loop.Post(d.endTurn)
	}
	if _, known := d.sizes[crowd]; !known {
		d.changed = append(d.changed, crowd)
	}
	d.sizes[crowd] = size
}

// endTurn gives the changes of a turn to the homes of the crowds.
func (d *desk[K]) endTurn() {
	for _, crowd := range d.changed {
		home := d.home(crowd)
		switch size := d.sizes[crowd]; {
		case size != unknown:
			home.look(crowd, size) // Set has found the home
		case home == d:
			d.look(crowd, d.host.Size(crowd))
		default:
			home.loop.Post(func() { home.look(crowd, d.host.Size(crowd)) })
		}
	}
	d.changed, d.sizes = nil, map[K]int{}
}

// look tells a crowd its size, now or when the pause is over.
func (d *desk[K]) look(crowd K, size int) {
	v, now := d.large[crowd], d.loop.Now()
	switch {
	case size <= d.few:
		if v != nil {
			v.waits = false
		}
		if size > 0 {
			d.host.Tell(crowd, size)
		}
	case v != nil:
		v.waits, v.size = true, size
	default:
		d.large[crowd] = &large{at: now}
		if d.told = append(d.told, crowd); !d.waiting {
			d.waiting = true
			d.loop.After(d.pause, d.endPause)
		}
		d.host.Tell(crowd, size)
	}
}

// endPause tells the crowds whose pause is over what has changed in it.
func (d *desk[K]) endPause() {
	now := d.loop.Now()
	for n := len(d.told); n > 0 && d.large[d.told[0]].at+d.pause <= now; n-- {
		crowd := d.told[0]
		v := d.large[crowd]
		d.told = d.told[1:]
		if delete(d.large, crowd); v.waits {
			d.look(crowd, v.size)
		}
	}
	if d.waiting = len(d.told) > 0; d.waiting {
		d.loop.After(d.large[d.told[0]].at+d.pause-now, d.endPause)
	} else {
		d.told, d.large = nil, map[K]*large{} // a map never shrinks
	}
}
