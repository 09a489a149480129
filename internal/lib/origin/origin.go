// Package origin compares the Origin header of browsers with patterns of hosts.
//
// A pattern is a host in which * stands for any characters, dots included. Parse brings
// it into the form that browsers send (WHATWG URL §3.5, host parsing): lower case, IDNA
// in ASCII, IPv6 compressed and without brackets.
package origin

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"reverb/internal/lib/punycode"
)

// fullStops makes full stops of the full stops of other scripts (UTS #46 §2.3).
var fullStops = strings.NewReplacer("。", ".", "．", ".", "｡", ".")

// forbidden has the characters that are not allowed in a host (WHATWG URL §3.1, forbidden domain
// code points), and three more that net/url refuses there.
const forbidden = " #/:<>?@[\\]^|%\x7f`{}"

// Parse turns one entry of allowed origins into a pattern. warning says which part of the entry
// does not count. err says why no browser could match the entry.
func Parse(entry string) (pattern, warning string, err error) {
	host, whole := hostOf(entry)
	if whole {
		warning = "of an origin only the host counts, not scheme, port or path; write it as "
	}
	switch inside, bracketed := brackets(host); {
	case host == "":
		return "", "", errors.New("an empty origin; give a host such as example.com or " +
			"*.example.com, or * for all")
	case bracketed:
		pattern, err = ipv6(inside)
	case isIPv6(host):
		pattern, err = ipv6(host)
	case strings.ContainsAny(host, "/:[]@ \t"):
		err = errors.New(
			"an origin is a host alone, without port or path, such as example.com or *.example.com")
	default:
		pattern, err = ASCII(host)
	}
	if err != nil {
		return "", "", err
	}
	if whole {
		warning += pattern
	}
	return pattern, warning, nil
}

// hostOf returns the host of a URL, or entry itself. whole says that entry is a URL.
func hostOf(entry string) (host string, whole bool) {
	_, rest, whole := strings.Cut(entry, "://")
	if !whole {
		return entry, false
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') &&
		strings.Trim(rest[i+1:], "0123456789*") == "" {
		rest = rest[:i]
	}
	return rest, true
}

// brackets takes the brackets off [::1].
func brackets(host string) (inside string, ok bool) {
	inside, ok = strings.CutPrefix(host, "[")
	if !ok {
		return host, false
	}
	return strings.CutSuffix(inside, "]")
}

func isIPv6(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is6()
}

// ipv6 brings an address into the form of WHATWG URL §3.6. An address with a * is a pattern.
func ipv6(s string) (string, error) {
	if strings.Contains(s, "*") && strings.Trim(s, "0123456789abcdefABCDEF:*") == "" {
		return lower(s), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is6() || a.Zone() != "" {
		return "", errors.New(
			"the text in brackets is not an IPv6 address without a zone, such as [::1]")
	}
	if b := a.As16(); a.Is4In6() { // netip writes the end of such an address as IPv4
		return fmt.Sprintf("::ffff:%x:%x", int(b[12])<<8|int(b[13]), int(b[14])<<8|int(b[15])), nil
	}
	return a.String(), nil
}

// ASCII brings a host, or a pattern of hosts, into the form that browsers send, label by
// label.
func ASCII(host string) (string, error) {
	labels := strings.Split(fullStops.Replace(host), ".")
	for i, label := range labels {
		ascii, err := asciiLabel(label)
		if err != nil {
			return "", err
		}
		labels[i] = ascii
	}
	host = strings.Join(labels, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if _, err := netip.ParseAddr(host); err != nil && last != "" &&
		strings.Trim(last, "0123456789") == "" && !strings.Contains(host, "*") {
		return "", errors.New("it ends in a number but is not an IPv4 address such as 127.0.0.1, " +
			"so no browser sends it")
	}
	return host, nil
}

func asciiLabel(label string) (string, error) {
	if !isASCII(label) {
		if strings.Contains(label, "*") {
			return "", errors.New("a * beside letters outside ASCII, in one label, " +
				"can match no host; browsers send such a label in its xn-- form: " +
				"write the label whole, or * alone, such as *.example.com")
		}
		ascii, err := punycode.ToASCII(label)
		if err != nil {
			return "", errors.New("it is not a host name that a browser takes; " +
				"give its form in ASCII, such as xn--mnchen-3ya.de")
		}
		label = ascii
	}
	if i := strings.IndexFunc(label, func(r rune) bool {
		return r < ' ' ||
			strings.ContainsRune(forbidden, r)
	}); i >= 0 {
		return "", fmt.Errorf("it holds %q, which no host has; "+
			"give a host such as example.com or *.example.com", label[i])
	}
	return lower(label), nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// lower is s with ASCII letters in lower case. It allocates only if s has a letter in upper case.
func lower(s string) string {
	isUpper := func(r rune) bool { return r >= 'A' && r <= 'Z' }
	if !strings.ContainsFunc(s, isUpper) {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if isUpper(rune(c)) {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// Match says whether origin, the value of the header, may connect. It compares patterns, as Parse
// returns them, with the host of origin only (Reverb: src/Protocols/Pusher/Server.php). The pattern
// * allows a missing header too.
func Match(patterns []string, origin string) bool {
	if slices.Contains(patterns, "*") {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Hostname() == "" {
		return false
	}
	host := lower(u.Hostname())
	return slices.ContainsFunc(patterns, func(p string) bool { return matchGlob(p, host) })
}

// matchGlob matches s against pattern, in which * stands for any characters, dots
// included.
func matchGlob(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return s == pattern
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		part, more, star := strings.Cut(rest, "*")
		if !star {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part) // the leftmost match leaves most of s for the rest
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], more
	}
}
