package poll

import (
	"fmt"
	"golang.org/x/sys/unix"
)

// Hold takes a socket over by its descriptor, which another process has passed on. The socket does
// not block. It is not reported before Watch. After an error the caller still owns the descriptor.
// Any goroutine may call it.
func (p *Poller) Hold(fd int) (Socket, error) {
	if p.kernel == nil {
		return Socket{}, fmt.Errorf("poll: no kernel poller takes a descriptor")
	}
	return Socket{fd: int32(fd), out: true}, nil
}

// Forget gives up a socket without a layer that another process has taken over: its connection
// stays open there, and nothing is told to the peer.
func (s *Socket) Forget(p *Poller) error {
	if s.over != nil {
		return fmt.Errorf("poll: a socket with a layer cannot be forgotten")
	}
	// without this the set would report a socket that is open in the other process
	unix.EpollCtl(p.kernel.epfd, unix.EPOLL_CTL_DEL, int(s.fd), nil)
	return unix.Close(int(s.fd))
}
