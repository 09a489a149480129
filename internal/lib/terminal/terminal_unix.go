//go:build unix

package terminal

import "golang.org/x/sys/unix" // TIOCGWINSZ, which only a terminal answers; its mode

// ask says whether fd is a terminal, and how wide it is.
func ask(fd uintptr) (terminal bool, width int, capable bool) {
	size, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
	if err != nil {
		return false, 0, false
	}
	return true, int(size.Col), true
}

// byKey makes the terminal fd hand over each key at once, without showing it. Ctrl+C stays a
// signal. A process in the background would be stopped for this, so there ok is false.
func byKey(fd uintptr) (restore func(), ok bool) {
	group, err := unix.IoctlGetInt(int(fd), unix.TIOCGPGRP)
	if err != nil || group != unix.Getpgrp() {
		return nil, false
	}
	before, err := unix.IoctlGetTermios(int(fd), getMode)
	if err != nil {
		return nil, false
	}
	mode := *before
	mode.Lflag &^= unix.ICANON | unix.ECHO
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(int(fd), setMode, &mode) != nil {
		return nil, false
	}
	return func() { unix.IoctlSetTermios(int(fd), setMode, before) }, true // or it has gone
}
