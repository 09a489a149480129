package poll

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	// epoll with an event's data as one 64-bit value, dup with close-on-exec
	"golang.org/x/sys/unix"
)

const hasKernel = true // of newKernel

// kernel is an epoll set that the Go runtime itself watches: to wait, the goroutine parks as if it
// read from the set. A thread blocked in epoll_wait would hold a processor until the runtime's
// monitor takes the processor away, and would keep that monitor awake.
type kernel struct {
	epfd int             // of file
	file *os.File        // the set
	conn syscall.RawConn // of file

	waiting atomic.Int32 // waitNot, waitParked, waitWoken

	// owned by the waiting goroutine
	raw      []unix.EpollEvent
	ready    int       // events in raw
	room     int       // events that fit
	err      error     // of epoll_wait
	deadline time.Time // of file; may have passed already
	looks    int       // in this Wait
	busy     int       // Waits in a row that had no need to wait
	writes   int       // to sockets, since the last Wait; negative: see pace
	look     func(fd uintptr) bool
}

// busyTurns is after how many turns without a pause the loop calls tell. Larger: other goroutines
// wait longer on a busy machine. Smaller: more system calls.
const busyTurns = 8

const (
	waitNot    = iota // Wait does not park
	waitParked        // it parks, or is about to: a deadline that has passed wakes it
	waitWoken         // wake was called: the next Wait does not park
)

func newKernel() (*kernel, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	if err := unix.SetNonblock(epfd, true); err != nil {
		// otherwise os would not use its poller for the file
		unix.Close(epfd)
		return nil, fmt.Errorf("fcntl: %w", err)
	}
	k := &kernel{epfd: epfd, file: os.NewFile(uintptr(epfd), "epoll")}
	k.look = func(uintptr) bool { return k.collect() != 0 }
	if err := k.file.SetReadDeadline(time.Time{}); err != nil {
		k.close()
		return nil, fmt.Errorf("the runtime does not watch an epoll set: %w", err)
	}
	if k.conn, err = k.file.SyscallConn(); err != nil {
		k.close()
		return nil, err
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
	if q, ok := c.(*quiet); ok {
		c = q.Conn
	}
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
	k.room, k.ready, k.looks, k.writes, k.err = len(events), 0, 0, min(k.writes, 0), nil
	if timeout == 0 || !k.waiting.CompareAndSwap(waitNot, waitParked) {
		// under load other goroutines run first, so that their work comes into the same turn
		runtime.Gosched()
		k.collect()
	} else if err := k.park(timeout); err != nil {
		return 0, err
	} else if k.waiting.Load() == waitWoken {
		// wake makes this goroutine run next, before other requests that came with the one that
		// called wake
		runtime.Gosched()
	}
	k.waiting.Store(waitNot)
	if k.looks != 1 {
		k.busy = 0
	} else if k.busy++; k.busy%busyTurns == 0 {
		k.tell()
	}
	if k.err != nil {
		return 0, fmt.Errorf("epoll_wait: %w", k.err)
	}
	for i := range k.raw[:k.ready] {
		ev := &k.raw[i]
		const in = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
		const ready = unix.EPOLLOUT | unix.EPOLLHUP | unix.EPOLLERR
		events[i] = Event{Token: token(ev), Readable: ev.Events&in != 0,
			Writable: ev.Events&ready != 0}
	}
	return k.ready, nil
}

// park waits until there are events, timeout has passed, or wake was called.
func (k *kernel) park(timeout time.Duration) error {
	const exact = time.Millisecond // deadlines that differ by less count as equal
	at := time.Time{}
	if timeout > 0 {
		at = time.Now().Add(timeout)
	}
	if at.IsZero() != k.deadline.IsZero() || at.Sub(k.deadline).Abs() > exact {
		if err := k.file.SetReadDeadline(at); err != nil {
			return err
		}
		if k.deadline = at; k.waiting.Load() == waitWoken {
			// SetReadDeadline may just have replaced the deadline of wake
			k.collect()
			return nil
		}
	}
	err := k.conn.Read(k.look)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		k.deadline = time.Unix(1, 0) // set anew before the next wait
		k.looks++                    // the goroutine has paused, see busyTurns
		return nil
	}
	return err
}

// tell makes a system call that the scheduler notices. The scheduler's monitor sleeps once the
// program is idle, and no other call of a loop wakes it. Without the monitor, other goroutines
// would not get a processor while all are busy with loops.
func (k *kernel) tell() { unix.Syscall(unix.SYS_GETPID, 0, 0, 0) }

// collect takes the ready events. It returns how many, or -1 after an error.
func (k *kernel) collect() int {
	k.looks++
	for {
		n, _, err := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(k.epfd),
			uintptr(unsafe.Pointer(unsafe.SliceData(k.raw))), uintptr(k.room), 0, 0, 0)
		switch err {
		case 0:
			k.ready = int(n)
			return k.ready
		case unix.EINTR:
		default:
			k.err = err
			return -1
		}
	}
}

// wake may be called by any goroutine.
func (k *kernel) wake() {
	if k.waiting.Swap(waitWoken) == waitParked {
		k.file.SetReadDeadline(time.Unix(1, 0)) // fails only once the set is closed
	}
}

func (k *kernel) close() error { return k.file.Close() }

func (k *kernel) read(fd int, b []byte) (int, error) { return receive(fd, b) }

func (k *kernel) write(fd int, b []byte) (int, error) {
	k.pace()
	return send(fd, b)
}

func (k *kernel) writeEach(fds []int32, b []byte, taken []int32) {
	for i, fd := range fds {
		k.pace()
		n, err := transfer(unix.SYS_SENDTO, int(fd), b, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if err != 0 {
			n = 0 // the event comes again when the rest is written
		}
		taken[i] = int32(n)
	}
}

// pace is called before each write. After 64 writes without a Wait, about half a millisecond, it
// lets a thread that waits for this processor run first. This is for a proxy or a peer on the same
// machine, which would otherwise begin to read only when all has been sent. A thread that computes
// takes its whole time slice; after that, pace leaves it to the scheduler for a while.
func (k *kernel) pace() {
	const burst, alone, slice = 64, 4096, time.Millisecond
	if k.writes++; k.writes > burst {
		began := time.Now()
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		if k.writes = 1; time.Since(began) > slice {
			k.writes = -alone
		}
	}
}

func (k *kernel) modify(fd int, tok uint64, out bool) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP}
	if out {
		ev.Events |= unix.EPOLLOUT
	}
	setToken(&ev, tok)
	return unix.EpollCtl(k.epfd, unix.EPOLL_CTL_MOD, fd, &ev)
}

// watch changes what a socket is reported for. out says that it is not in the set.
func (k *kernel) watch(fd int, tok uint64, out bool, w Interest) error {
	op, ev := unix.EPOLL_CTL_MOD, unix.EpollEvent{}
	switch {
	case w == 0 && out:
		return nil
	case w == 0:
		op = unix.EPOLL_CTL_DEL // a hang-up would be reported whatever the events
	case out:
		op = unix.EPOLL_CTL_ADD
	}
	if w&Reading != 0 {
		ev.Events |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if w&Writing != 0 {
		ev.Events |= unix.EPOLLOUT
	}
	setToken(&ev, tok)
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(k.epfd, op, fd, &ev))
}

func (k *kernel) closeWrite(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) }

func (k *kernel) closeSocket(fd int) error { return unix.Close(fd) }

func (k *kernel) remoteAddr(fd int) string {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return ""
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr).Unmap()
		if addr.Is6() && sa.ZoneId != 0 {
			addr = addr.WithZone(strconv.Itoa(int(sa.ZoneId)))
		}
		return netip.AddrPortFrom(addr, uint16(sa.Port)).String()
	case *unix.SockaddrUnix:
		return (&net.UnixAddr{Name: sa.Name, Net: "unix"}).String()
	}
	return ""
}

// bytes needs Linux 4.1, which counts them.
func (k *kernel) bytes(fd int) (in, out int64) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return -1, -1
	}
	return int64(info.Bytes_received), int64(info.Bytes_acked)
}
