package unixsock

import (
	"net"

	"golang.org/x/sys/unix" // LOCAL_PEERCRED
)

// PeerOf says who is at the other end of a Unix socket; PID is 0. ok is false where the
// system does not tell.
func PeerOf(c net.Conn) (p Peer, ok bool) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return p, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return p, false
	}
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		if ok = err == nil; ok {
			p.UID = int(cred.Uid)
		}
	})
	return p, ok && err == nil
}
