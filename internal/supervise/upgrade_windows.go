package supervise

import "context"

// OnUpgrade does nothing: Windows has no such signal, and no successor can be started.
func (r *Role) OnUpgrade(context.Context, func()) {}
