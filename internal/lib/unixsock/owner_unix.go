//go:build unix

package unixsock

import (
	"os"
	"syscall"
)

func ownerOf(fi os.FileInfo) (uid int, known bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}
