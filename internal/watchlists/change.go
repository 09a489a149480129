package watchlists

import "reverb/internal/lib/numbers"

// Change is a user's coming or going, on its way to the watchers of one loop. Only the loop calls
// its methods.
type Change[A comparable, C any] struct {
	desk   *Desk[A, C]
	of     *subject[A, C]
	online bool
	begun  uint64         // the step; watchers that have started since know. 0: not begun
	next   numbers.Cursor // in the list of watchers
	left   int            // how many of them follow; those behind them have come since
}

// change hands over a change of a user.
func (d *Desk[A, C]) change(s *subject[A, C], online bool) {
	s.online = online
	d.host.Changed(d.index, s.of.app, &Change[A, C]{desk: d, of: s, online: online})
}

// User is who has come or gone.
func (c *Change[A, C]) User() string { return c.of.of.id }

// Online says that the user has come.
func (c *Change[A, C]) Online() bool { return c.online }

// Watchers is how many watchers the user has on the loop, some of whom may have ended.
func (c *Change[A, C]) Watchers() int { return c.of.watchers.Len() }

// Lists is the change in the form of Host.Gathered.
func (c *Change[A, C]) Lists() (online, offline []string) {
	if c.online {
		return []string{c.User()}, nil
	}
	return nil, []string{c.User()}
}

// Next continues the walk through the watchers. It looks at most at most of them, and returns how
// many it has looked at, and those that are to be told now; part is valid until the next call for
// any change of the loop. done says that these are the last. Watchers may begin and end between two
// calls, but not while part is in use.
func (c *Change[A, C]) Next(most int) (part []C, looked int, done bool) {
	d, s := c.desk, c.of
	if c.begun == 0 {
		d.steps++
		c.begun, c.left = d.steps, s.watchers.Len()
		s.shown, s.walked = c.online, true
	}
	clear(d.part)
	part = d.part[:0]
	for now := d.loop.Now(); looked < most && c.left > 0; looked++ {
		place, ok := s.watchers.Next(&c.next)
		if c.left--; !ok { // the list is empty: the watch has ended
			c.left = 0
		} else if w := d.watchers[place].Watcher; w != nil && c.concerns(w) &&
			!d.gather(w, s, c.online, now) {
			w.told = moment(now)
			part = append(part, w.conn)
		}
	}
	d.part = part
	if c.left > 0 {
		return part, looked, false
	}
	s.walked = false
	d.compact(s)
	return part, looked, true
}

// concerns says that a watcher is to be told.
func (c *Change[A, C]) concerns(w *Watcher[A, C]) bool {
	return w.started != 0 && w.started < c.begun && w.self != c.of.at+1
}
