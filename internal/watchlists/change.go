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

// Lists is the change in the form of Host.Gathered.
func (c *Change[A, C]) Lists() (online, offline []string) {
	if c.online {
		return []string{c.User()}, nil
	}
	return nil, []string{c.User()}
}

// Next continues the walk through the watchers. It looks at most at most of them, and returns those
// that are to be told now; part is valid until the next call for any change of the loop. done says
// that these are the last. Watchers may begin and end between two calls, but not while part is in
// use.
func (c *Change[A, C]) Next(most int) (part []C, done bool) {
	d, s := c.desk, c.of
	if c.begun == 0 {
		d.steps++
		c.begun, c.left = d.steps, s.watchers.Len()
		s.shown, s.walked = c.online, true
	}
	clear(d.part)
	part = d.part[:0]
	for now := d.loop.Now(); most > 0 && c.left > 0; most-- {
		place, ok := s.watchers.Next(&c.next)
		if c.left--; !ok { // the list is empty: the watch has ended
			c.left = 0
		} else if w := d.watchers[place].Watcher; w != nil && w.started != 0 &&
			w.started < c.begun && !d.gather(w, s, c.online, now) {
			w.told = now
			part = append(part, w.conn)
		}
	}
	d.part = part
	if c.left > 0 {
		return part, false
	}
	s.walked = false
	d.compact(s)
	return part, true
}
