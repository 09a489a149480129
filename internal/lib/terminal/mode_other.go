//go:build unix && !darwin && !dragonfly && !freebsd && !netbsd && !openbsd

package terminal

import "golang.org/x/sys/unix" // the calls for the mode of a terminal

const getMode, setMode = unix.TCGETS, unix.TCSETS
