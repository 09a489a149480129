//go:build !linux

package poll

import "errors"

var errNoDescriptors = errors.New("poll: this system passes no sockets on")

// Hold works on Linux only.
func (p *Poller) Hold(int) (Socket, error) { return Socket{}, errNoDescriptors }

// Forget works on Linux only.
func (s *Socket) Forget(*Poller) error { return errNoDescriptors }
