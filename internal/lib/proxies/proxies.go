// Package proxies knows which peers are trusted proxies, and reads the address of their client from
// X-Forwarded-For.
package proxies

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Trusted is a set of proxies. The zero Trusted is empty.
type Trusted struct {
	networks []netip.Prefix
	unix     bool // the peers of Unix sockets, which have no address
}

// Parse reads addresses, networks, unix or * (every peer), separated by commas.
func Parse(list string) (t Trusted, err error) {
	for word := range strings.SplitSeq(list, ",") {
		word = strings.TrimSpace(word)
		prefix, err := netip.ParsePrefix(word)
		if addr, bad := netip.ParseAddr(word); bad == nil {
			prefix, err = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
		}
		switch {
		case word == "*" || word == "**": // as in Laravel's TrustProxies
			t.networks = append(t.networks, netip.PrefixFrom(netip.IPv4Unspecified(), 0),
				netip.PrefixFrom(netip.IPv6Unspecified(), 0))
			t.unix = true
		case word == "unix":
			t.unix = true
		case err != nil:
			return t, fmt.Errorf("%s is neither an address nor a network; "+
				"give them such as 10.0.0.1, 10.0.0.0/8 or unix", strconv.QuoteToASCII(word))
		default:
			t.networks = append(t.networks, prefix.Masked())
		}
	}
	return t, nil
}

// Nobody says that the set is empty.
func (t Trusted) Nobody() bool { return !t.unix && len(t.networks) == 0 }

// Contains says whether a peer is trusted. peer is host:port, or any other text for a peer without
// an address.
func (t Trusted) Contains(peer string) bool {
	ap, err := netip.ParseAddrPort(peer)
	if err != nil {
		return t.unix
	}
	return t.containsAddr(ap.Addr())
}

func (t Trusted) containsAddr(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(t.networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Client is the address of the client behind peer. If peer is a trusted proxy, it is the last
// address in the values of X-Forwarded-For that is not a trusted proxy. The addresses before that
// one are not reliable: any client can write them.
func (t Trusted) Client(peer string, forwarded []string) string {
	if !t.Contains(peer) {
		return peer
	}
	hops := strings.Split(strings.Join(forwarded, ","), ",")
	for _, hop := range slices.Backward(hops) {
		hop = strings.TrimSpace(hop)
		addr, err := netip.ParseAddr(strings.Trim(hop, "[]"))
		if err != nil {
			ap, err := netip.ParseAddrPort(hop) // some proxies add the port
			if err != nil {
				return peer
			}
			addr = ap.Addr()
		}
		if peer = addr.Unmap().String(); !t.containsAddr(addr) {
			return peer
		}
	}
	return peer
}
