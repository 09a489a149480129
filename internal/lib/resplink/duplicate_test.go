//go:build !windows

package resplink

import (
	"syscall"
	"testing"
)

func duplicate(t *testing.T, fd int) int {
	t.Helper()
	fd, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
