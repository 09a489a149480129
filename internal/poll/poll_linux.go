package poll

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix" // epoll with an event's data as one 64-bit value, eventfd, dup with close-on-exec
)

// wakeToken marks the eventfd in the epoll set. No socket has it.
const wakeToken = ^uint64(0)

// kernel is an epoll set with an eventfd in it for Wake.
type kernel struct {
	epfd   int
	wakefd int
	raw    []unix.EpollEvent // owned by the waiting goroutine
}

func newKernel() (*kernel, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	k := &kernel{epfd: epfd, wakefd: wakefd}
	ev := unix.EpollEvent{Events: unix.EPOLLIN}
	setToken(&ev, wakeToken)
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, wakefd, &ev); err != nil {
		k.close()
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	return k, nil
}

// The kernel hands the 8 bytes of data back as they are; x/sys declares them as
// two 32-bit fields.
func setToken(ev *unix.EpollEvent, token uint64) {
	ev.Fd, ev.Pad = int32(token), int32(token>>32)
}

func token(ev *unix.EpollEvent) uint64 {
	return uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
}

// add duplicates the descriptor of c into the set and closes c, which takes the
// socket out of the Go runtime's own poller. ok is false when c is not a plain
// socket.
func (k *kernel) add(c net.Conn, tok uint64) (fd int, ok bool, err error) {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return 0, false, nil
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, false, err
	}
	var dupErr error
	if err := raw.Control(func(old uintptr) {
		fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return 0, false, err
	}
	if dupErr != nil {
		return 0, false, fmt.Errorf("dup: %w", dupErr)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP}
	setToken(&ev, tok)
	if err := unix.EpollCtl(k.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		unix.Close(fd)
		return 0, false, fmt.Errorf("epoll_ctl: %w", err)
	}
	c.Close() // the duplicate keeps the socket open, and nothing can fail that matters
	return fd, true, nil
}

func (k *kernel) wait(events []Event, timeout time.Duration) (int, error) {
	if len(k.raw) < len(events) {
		k.raw = make([]unix.EpollEvent, len(events))
	}
	ms := -1
	if timeout >= 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := unix.EpollWait(k.epfd, k.raw[:len(events)], ms)
	if err == unix.EINTR {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("epoll_wait: %w", err)
	}
	out := 0
	for i := range k.raw[:n] {
		ev := &k.raw[i]
		t := token(ev)
		if t == wakeToken {
			var b [8]byte
			unix.Read(k.wakefd, b[:]) // resets the counter; it cannot fail usefully
			continue
		}
		const in = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
		const ready = unix.EPOLLOUT | unix.EPOLLHUP | unix.EPOLLERR
		events[out] = Event{Token: t, Readable: ev.Events&in != 0, Writable: ev.Events&ready != 0}
		out++
	}
	return out, nil
}

func (k *kernel) wake() {
	one := [8]byte{1} // any non-zero value in either byte order
	unix.Write(k.wakefd, one[:])
}

func (k *kernel) close() error {
	unix.Close(k.wakefd)
	return unix.Close(k.epfd)
}

func (k *kernel) read(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, ErrAgain
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func (k *kernel) write(fd int, b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.SendmsgN(fd, b[done:], nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return done, ErrAgain
		case err != nil:
			return done, err
		}
		done += n
	}
	return done, nil
}

func (k *kernel) modify(fd int, tok uint64, out bool) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP}
	if out {
		ev.Events |= unix.EPOLLOUT
	}
	setToken(&ev, tok)
	return unix.EpollCtl(k.epfd, unix.EPOLL_CTL_MOD, fd, &ev)
}

func (k *kernel) closeWrite(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) }

func (k *kernel) closeSocket(fd int) error { return unix.Close(fd) }
