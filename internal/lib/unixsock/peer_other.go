//go:build !linux && !darwin

package unixsock

import "net"

// PeerOf tells nothing on this system.
func PeerOf(net.Conn) (p Peer, ok bool) { return p, false }
