//go:build darwin || freebsd

package unixsock

import "golang.org/x/sys/unix" // LOCAL_PEERCRED

func peerOf(fd int) (p Peer, ok bool) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return p, false
	}
	return Peer{UID: int(cred.Uid)}, true
}
