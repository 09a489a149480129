package supervise

import (
	"context"
	"syscall"
)

func notYet() []syscall.Signal { return nil }

// OnUpgrade does nothing: Windows has no such signal, and no successor can be started.
func (r *Role) OnUpgrade(context.Context, func()) {}
