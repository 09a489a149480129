//go:build unix

package supervise

import (
	"context"
	"os"
	"syscall"
)

// OnUpgrade calls do at each SIGUSR2, until ctx ends.
func (r *Role) OnUpgrade(ctx context.Context, do func()) {
	c := make(chan os.Signal, 1)
	defer r.Notify(c, syscall.SIGUSR2)()
	for {
		select {
		case <-c:
			do()
		case <-ctx.Done():
			return
		}
	}
}
