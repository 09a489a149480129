//go:build unix

package terminal

import "golang.org/x/sys/unix" // TIOCGWINSZ, which only a terminal answers

// ask tells whether fd is a terminal, and its width.
func ask(fd uintptr) (terminal bool, width int, capable bool) {
	size, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
	if err != nil {
		return false, 0, false
	}
	return true, int(size.Col), true
}
