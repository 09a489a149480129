// Package systemd speaks to the service manager: it notifies it (sd_notify(3)) and
// takes over the sockets that it has opened (sd_listen_fds(3)). Everything is told
// by environment variables, which the caller looks up.
package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Notifier tells the service manager how the service is. Its methods do nothing
// where there is no service manager.
type Notifier struct{ addr *net.UnixAddr }

// NewNotifier returns a Notifier for what NOTIFY_SOCKET says.
func NewNotifier(getenv func(string) string) *Notifier {
	name := getenv("NOTIFY_SOCKET")
	if !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "@") {
		return &Notifier{}
	}
	return &Notifier{&net.UnixAddr{Name: name, Net: "unixgram"}}
}

// Send sends assignments such as READY=1, one each.
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

// WatchdogInterval is how often the service manager wants to hear WATCHDOG=1; 0 if
// it does not.
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

// firstFD is the first descriptor that is passed.
const firstFD = 3

// Listeners returns the sockets that the service manager has passed to this process,
// in order, and their names. It may be called once.
func Listeners(getenv func(string) string, pid int) (all []net.Listener, names []string, err error) {
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > 64 {
		return nil, nil, fmt.Errorf("LISTEN_FDS=%q is not a number of sockets", getenv("LISTEN_FDS"))
	}
	names = strings.Split(getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		f := os.NewFile(uintptr(firstFD+i), "socket")
		ln, err := net.FileListener(f)
		f.Close() // the listener has a copy
		if err != nil {
			return nil, nil, fmt.Errorf("socket %d from the service manager: %w", i, err)
		}
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // it is the service manager's, and outlives us
		}
		all = append(all, ln)
	}
	for len(names) < n {
		names = append(names, "")
	}
	return all, names[:n], nil
}
