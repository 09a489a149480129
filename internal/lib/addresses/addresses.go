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

// Entry is the address of one connection, and whether a Counter counts the connection. The zero
// Entry has no address. An address takes 16 bytes besides: IPv6 without a zone, or mapped IPv4.
type Entry struct {
	address *[16]byte // nil: there is none
	counted bool
}

// NewEntry has an address with or without a port; none: the text is no address.
func NewEntry(client string) (e Entry) {
	if a, ok := Parse(client); ok {
		packed := a.As16()
		e.address = &packed
	}
	return e
}

// String is the address without a port; empty: there is none.
func (e *Entry) String() string {
	if e.address == nil {
		return ""
	}
	return netip.AddrFrom16(*e.address).Unmap().String()
}

// Empty says that there is no address.
func (e *Entry) Empty() bool { return e.address == nil }

// Counted says whether the connection is counted.
func (e *Entry) Counted() bool { return e.counted }

// Enter counts the connection. It returns false if its address has limit connections. Without an
// address it counts nothing.
func (e *Entry) Enter(c *Counter, limit int) (ok bool) {
	a, known := Of(e.String())
	e.counted = known && c.Enter(a, limit)
	return e.counted || !known
}

// Leave removes the connection, if it is counted.
func (e *Entry) Leave(c *Counter) {
	if e.counted {
		a, _ := Of(e.String())
		c.Leave(a)
		e.counted = false
	}
}

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
