package poll

import "errors"

// Interest says for what a socket is reported.
type Interest uint8

const (
	Reading Interest = 1 << iota // Read will return bytes, an error or io.EOF
	Writing                      // Write will take bytes or return an error
	// Ending: both directions have ended, or the connection has broken. Reading and Writing include
	// it.
	Ending
)

// Watch replaces what Add and WantWrite have said. From now on the socket is reported under
// token, for what is in w; with 0, not at all. An event for Ending alone is readable and writable.
// It comes again and again, until Watch is called with 0. Streams cannot be watched so.
func (s *Socket) Watch(p *Poller, token uint64, w Interest) error {
	if s.over != nil {
		l, ok := s.over.transport.(*layered)
		if !ok {
			return errors.New("poll: a stream is reported for everything")
		}
		l.watch(token, w&Reading != 0)
	}
	if err := p.kernel.watch(int(s.fd), token, s.out, w); err != nil {
		return err
	}
	s.out, s.write = w == 0, w&Writing != 0
	return nil
}

// watch gives l another token, and says whether the bytes that it holds are reported.
func (l *layered) watch(token uint64, reading bool) {
	if l.token, l.deaf = token, !reading; reading && l.holds {
		l.list()
	}
}
