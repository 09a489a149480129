//go:build unix

package terminal

import "golang.org/x/sys/unix" // TIOCGWINSZ, which only a terminal answers

// ask says whether fd is a terminal, and how wide it is.
func ask(fd uintptr) (terminal bool, width int, capable bool) {
	size, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
	if err != nil {
		return false, 0, false
	}
	return true, int(size.Col), true
}
