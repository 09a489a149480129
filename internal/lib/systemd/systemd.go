// Package systemd speaks to the service manager. It notifies the manager (sd_notify(3)) and takes
// over the sockets that the manager has opened (sd_listen_fds(3)). The manager says everything in
// environment variables, which the caller looks up.
package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Notifier tells the service manager how the service is. Without a service manager its methods do
// nothing.
type Notifier struct{ addr *net.UnixAddr }

// NewNotifier makes a Notifier that sends to the socket of NOTIFY_SOCKET.
func NewNotifier(getenv func(string) string) *Notifier {
	name := getenv("NOTIFY_SOCKET")
	if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "@") {
		return &Notifier{}
	}
	return &Notifier{&net.UnixAddr{Name: name, Net: "unixgram"}}
}

// Send sends assignments, each like READY=1, in one message.
func (n *Notifier) Send(assignments ...string) error {
	if n.addr == nil {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, n.addr)
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(strings.Join(assignments, "\n"))); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// WatchdogInterval is how often the service manager wants WATCHDOG=1 from the process pid; 0 if the
// manager does not want it.
func WatchdogInterval(getenv func(string) string, pid int) time.Duration {
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return 0
	}
	if p := getenv("WATCHDOG_PID"); p != "" && p != strconv.Itoa(pid) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}

const (
	// firstFD is the first descriptor that the service manager passes (sd_listen_fds(3)).
	firstFD = 3
	// maxFDs bounds the sockets that are taken over. Larger: a wrong number has unrelated
	// descriptors taken for sockets. Smaller: a unit with many sockets does not start.
	maxFDs = 64
)

// Listeners returns the sockets that the service manager has passed to the process pid, in order,
// and their names. It takes the descriptors over, so it may be called once.
func Listeners(getenv func(string) string, pid int) ([]net.Listener, []string, error) {
	return listeners(getenv, pid, firstFD)
}

// listeners is Listeners for descriptors that begin with first.
func listeners(getenv func(string) string, pid, first int) (all []net.Listener, names []string,
	err error) {
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > maxFDs {
		return nil, nil, fmt.Errorf("LISTEN_FDS=%q is not a number of sockets",
			getenv("LISTEN_FDS"))
	}
	names = strings.Split(getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		f := os.NewFile(uintptr(first+i), "socket")
		ln, err := net.FileListener(f)
		f.Close() // the listener has a copy
		if err != nil {
			return nil, nil, fmt.Errorf("socket %d from the service manager: %w", i, err)
		}
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // the file belongs to the service manager, and outlives us
		}
		all = append(all, ln)
	}
	for len(names) < n {
		names = append(names, "")
	}
	return all, names[:n], nil
}
