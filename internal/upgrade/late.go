package upgrade

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"reverb/internal/handover"
	"reverb/internal/lib/accept"
	"reverb/internal/lib/descriptors"
	"reverb/internal/lib/recordlog"
)

// sectionHTTP is the name of an HTTP connection that has no request, a late section. Its state is
// the role of its listener, whether its client is known, the client that a proxy has told, and the
// time until a request must come in ms.
const sectionHTTP = "http"

// maxLeft bounds that time. Larger: a wrong number keeps a silent connection for longer. Smaller: a
// connection is closed too early.
const maxLeft = time.Hour

// move gives the successor the HTTP connections that have no request, but for those over TLS. What
// it does not take is closed when this process leaves.
func (u *Upgrades) move(g *handover.Giver) {
	gate, _ := u.host.HTTP()
	n := 0
	err := gate.Move(func(m *accept.Moved) error {
		var one descriptors.Set
		defer one.Close()
		if one.Add(m.Conn) != nil {
			return nil // it has ended
		}
		n++
		return g.Section(sectionHTTP, appendMoved(nil, m), one.FDs...)
	})
	if err != nil {
		u.log.Info("HTTP connections without a request are closed, as the successor does not take "+
			"them", "moved", n, "why", err)
	}
}

func appendMoved(b []byte, m *accept.Moved) []byte {
	told, peer := uint64(0), ""
	if m.Told {
		told = 1
	}
	if m.Peer.IsValid() {
		peer = m.Peer.String()
	}
	b = binary.AppendUvarint(recordlog.AppendField(b, m.Name), told)
	return binary.AppendUvarint(recordlog.AppendField(b, peer), uint64(m.Left.Milliseconds()))
}

// parseMoved is the reverse of appendMoved. What follows is of a later version.
func parseMoved(b []byte) (m accept.Moved, ok bool) {
	r := recordlog.Fields{B: b}
	m.Name, m.Told = r.Text(), r.Number() == 1
	peer, left := r.Text(), r.Number()
	if peer != "" {
		var err error
		if m.Peer, err = netip.ParseAddrPort(peer); err != nil || m.Peer.Addr().Zone() != "" {
			r.Fail()
		}
	}
	m.Left = time.Duration(min(left, uint64(maxLeft.Milliseconds()))) * time.Millisecond
	return m, !r.Bad
}

// takeLate takes a late section. It owns the descriptors.
func (u *Upgrades) takeLate(name string, state []byte, fds []int) error {
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), name)
		defer files[i].Close() // a connection has a copy
	}
	if name != sectionHTTP {
		return nil
	}
	m, ok := parseMoved(state)
	if !ok || len(files) != 1 {
		return errors.New("it makes no sense")
	}
	nc, err := net.FileConn(files[0])
	if err != nil {
		return err
	}
	m.Conn = nc
	gate, server := u.host.HTTP()
	ln, ok := gate.Adopt(&m)
	if _, packets := nc.(net.PacketConn); !ok || packets && nc.LocalAddr().Network() != "unix" {
		nc.Close()
		return errors.New("no address here has accepted it")
	}
	server.Serve(ln) // returns at once, when it knows the connection
	return nil
}
