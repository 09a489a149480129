// Package addresses counts connections by the address of the peer, and keeps addresses small.
package addresses

import (
	"net/netip"
	"sync"
)

// Parse reads an address with or without a port. ok is false for any other text: the peer of a Unix
// socket has no address.
func Parse(client string) (a netip.Addr, ok bool) {
	a, err := netip.ParseAddr(client)
	if err == nil {
		return a, true
	}
	ap, err := netip.ParseAddrPort(client)
	return ap.Addr(), err == nil
}

// Of returns the address by which the connections of one peer count: the IPv4 address, or the first
// 64 bits of the IPv6 address, since one customer of a provider gets all addresses behind them (RFC
// 6177). client and ok are those of Parse.
func Of(client string) (a netip.Addr, ok bool) {
	if a, ok = Parse(client); !ok {
		return a, false
	}
	if a = a.Unmap().WithZone(""); a.Is6() {
		p, err := a.Prefix(64)
		return p.Addr(), err == nil
	}
	return a, true
}

// Packed is an address in 16 bytes: IPv6 without a zone, or mapped IPv4.
type Packed [16]byte

// Pack packs an address with or without a port; nil: the text is no address.
func Pack(client string) *Packed {
	a, ok := Parse(client)
	if !ok {
		return nil
	}
	p := Packed(a.As16())
	return &p
}

// String is the address without a port.
func (p *Packed) String() string { return netip.AddrFrom16(*p).Unmap().String() }

// Counter knows how many connections each address has. The zero Counter has no connections. An
// address without connections takes no memory.
type Counter struct {
	mu sync.Mutex
	n  map[netip.Addr]int
}

// Enter counts a connection of an address. It returns false if the address has limit connections.
func (c *Counter) Enter(a netip.Addr, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[a] >= limit {
		return false
	}
	if c.n == nil {
		c.n = make(map[netip.Addr]int)
	}
	c.n[a]++
	return true
}

// Leave removes a connection that has entered.
func (c *Counter) Leave(a netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[a]--; c.n[a] <= 0 {
		delete(c.n, a)
	}
}

// Len is how many addresses have connections.
func (c *Counter) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.n)
}
