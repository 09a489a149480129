// Package destinations judges the addresses to which a program connects because a configured URL
// says so. It keeps such a URL, or a name in DNS that has changed, from reaching what only the
// machine itself should reach: the metadata service of a cloud, which hands out credentials, and
// whatever else answers on link-local addresses.
//
// Addresses of private networks and of the machine itself are fine: the application usually
// runs there.
//
// A Guard judges addresses, not names: it is the Control of a net.Dialer, which calls it after
// DNS, for each address that is tried, before it is tried. So a name that is harmless when it is
// looked up and harmful when it is connected to gains nothing. An IPv4 address inside an IPv6
// address counts as what it reaches: mapped (RFC 4291 §2.5.5.2), compatible (§2.5.5.1), NAT64
// (RFC 6052, RFC 8215) and 6to4 (RFC 3056).
package destinations

import (
	"fmt"
	"net/netip"
	"syscall"
)

// Guard refuses addresses. The zero Guard refuses all that the package knows.
type Guard struct {
	// LinkLocal allows link-local addresses and metadata services. All others stay refused.
	LinkLocal bool
	// Advice ends the error about an address that only LinkLocal allows. It says how to set that.
	Advice string
}

// Control is for net.Dialer: an error keeps the dialer from connecting to address.
func (g Guard) Control(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%s %q is not an IP address with a port", network, address)
	}
	return g.Check(to.Addr())
}

// Check says why nothing may connect to an address; nil if it may. The error is one line that names
// the address and what it is.
func (g Guard) Check(to netip.Addr) error {
	plain := to.Unmap().WithZone("")
	what := g.refused(plain)
	if what == "" {
		return nil
	}
	if g.Advice != "" && (Guard{LinkLocal: true}).refused(plain) == "" {
		what += "; " + g.Advice
	}
	return fmt.Errorf("%s is %s", to, what)
}

// refused names what an address is that is refused; empty if it is allowed.
func (g Guard) refused(to netip.Addr) string {
	if what := g.plain(to); what != "" {
		return what
	}
	for _, form := range embeddings() {
		if !form.within.Contains(to) {
			continue
		}
		inner := form.inner(to)
		if what := g.plain(inner); what != "" && (form.certain || !isThisNetwork(inner)) {
			return what + ", as " + inner.String()
		}
	}
	return ""
}

// plain judges an address without looking for another one inside.
func (g Guard) plain(to netip.Addr) string {
	switch {
	case isThisNetwork(to), to.IsUnspecified():
		return "the unspecified address"
	case to.IsMulticast():
		return "a multicast address"
	case to == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address"
	case g.LinkLocal:
		return ""
	case isMetadata(to):
		return "a metadata service of a cloud"
	case to.IsLinkLocalUnicast():
		return "a link-local address"
	}
	return ""
}

// isThisNetwork says whether an address is in 0.0.0.0/8 (RFC 6890): Linux takes 0.0.0.0 for the
// machine itself.
func isThisNetwork(to netip.Addr) bool { return to.Is4() && to.As4()[0] == 0 }

// isMetadata says whether a cloud has its metadata service, or an agent that hands out secrets, at
// an address. Amazon's and Google's common one, 169.254.169.254, is among them; so are those
// outside link-local ranges: Amazon over IPv6, Alibaba, Oracle, Azure, and over IPv6 Google,
// Oracle, Alibaba, Akamai (Linode) and Scaleway (cloud-init: sources/DataSource*.py).
func isMetadata(to netip.Addr) bool {
	switch to.String() {
	case "169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fd00:ec2::23", "100.100.100.200",
		"192.0.0.192", "168.63.129.16", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:100::100:200",
		"fd00:a9fe:a9fe::1", "fd00:42::42":
		return true
	}
	return false
}

// embedding is a form in which an IPv6 address holds an IPv4 address.
type embedding struct {
	within netip.Prefix
	at     [4]int // the bytes of the IPv4 address
	// certain says that each address of within holds an IPv4 address. Otherwise it may be anything
	// else, and what looks like 0.x.x.x is not judged: ::1 is the machine itself.
	certain bool
}

// inner is the IPv4 address in an address of within.
func (e *embedding) inner(to netip.Addr) netip.Addr {
	b := to.As16()
	return netip.AddrFrom4([4]byte{b[e.at[0]], b[e.at[1]], b[e.at[2]], b[e.at[3]]})
}

// embeddings are all forms. The prefix of RFC 8215 is divided by its network as it likes, so each
// length of RFC 6052 §2.2 is tried there; byte 8 is left out by all of them.
func embeddings() []embedding {
	local := netip.MustParsePrefix("64:ff9b:1::/48")
	return []embedding{
		{netip.MustParsePrefix("64:ff9b::/96"), [4]int{12, 13, 14, 15}, true},
		{local, [4]int{12, 13, 14, 15}, false},
		{local, [4]int{6, 7, 9, 10}, false},
		{local, [4]int{7, 9, 10, 11}, false},
		{local, [4]int{9, 10, 11, 12}, false},
		{netip.MustParsePrefix("2002::/16"), [4]int{2, 3, 4, 5}, true},
		{netip.MustParsePrefix("::/96"), [4]int{12, 13, 14, 15}, false},
	}
}
