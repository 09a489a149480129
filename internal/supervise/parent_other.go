//go:build !linux

package supervise

import (
	"context"
	"log/slog"
)

// Parent is for Linux: elsewhere Start has made no child.
func (r *Role) Parent(context.Context, *Child, *slog.Logger) (code int) {
	panic("internal error: a thin parent, but there can be no successor on this system")
}
