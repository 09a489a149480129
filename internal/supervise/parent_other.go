//go:build !linux

package supervise

import (
	"context"
	"log/slog"
	"os"
)

// Parent is for Linux: elsewhere Start has made no child.
func (r *Role) Parent(context.Context, *Child, *slog.Logger) (code int) {
	panic(noSuccessor)
}

func endNow(chan os.Signal, os.Signal) { panic(noSuccessor) }

const noSuccessor = "internal error: a thin parent, but there can be no successor on this system"
