package relay

import (
	"fmt"

	"golang.org/x/sys/unix" // socketpair, SO_SNDBUF
)

// pairBytes is what the system is asked to hold in one direction of a pair. It holds at most twice
// as much, with its own overhead. Larger: more memory for a slow peer, which is noticed later.
// Smaller: more turns.
const pairBytes = 16 << 10

// pair makes two connected sockets that do not block. Both are closed on exec.
func pair() (ours, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX,
		unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("make a pair of sockets: %w", err)
	}
	for _, fd := range fds {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, pairBytes); err != nil {
			closeFD(fds[0])
			closeFD(fds[1])
			return -1, -1, fmt.Errorf("bound a pair of sockets: %w", err)
		}
	}
	return fds[0], fds[1], nil
}

func closeFD(fd int) { unix.Close(fd) } // it is open, and no other error matters
