//go:build unix

package supervise

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// notYet are the signals that somebody may send to all processes of a server. A successor ignores
// them while it starts: it reads its configuration anyway, and cannot be upgraded yet.
func notYet() []syscall.Signal { return []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR2} }

// OnUpgrade calls do at each SIGUSR2, until ctx ends. From then on the signal has no effect: it
// must not end a process that stops, or that relays.
func (r *Role) OnUpgrade(ctx context.Context, do func()) {
	c := make(chan os.Signal, 1)
	defer r.Notify(c, syscall.SIGUSR2)()
	defer signal.Ignore(syscall.SIGUSR2) // before the end of Notify
	for {
		select {
		case <-c:
			do()
		case <-ctx.Done():
			return
		}
	}
}
