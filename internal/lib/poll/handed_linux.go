package poll

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Take takes a socket over by its descriptor, which another process has passed on. The socket does
// not block. Take is as Add otherwise; after an error the caller still owns the descriptor. Until
// the first Wait any one goroutine may call it.
func (p *Poller) Take(fd int, token uint64) (Socket, error) {
	if p.kernel == nil {
		return Socket{}, fmt.Errorf("poll: no kernel poller takes a descriptor")
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP}
	setToken(&ev, token)
	if err := unix.EpollCtl(p.kernel.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return Socket{}, os.NewSyscallError("epoll_ctl", err)
	}
	return Socket{fd: int32(fd)}, nil
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
