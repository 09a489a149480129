// Package proxyproto reads the header by which a proxy tells the address of its client in front of
// a connection: the PROXY protocol, versions 1 and 2 (haproxy/haproxy: doc/proxy-protocol.txt).
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// Local is a header without an address: the sender itself is the client.
const Local = "PROXY UNKNOWN\r\n"

const (
	// maxLine bounds a header of version 1, with CR LF; the specification says so.
	maxLine = 107
	// maxBinary bounds a header of version 2. Larger: a peer makes the server read more before it
	// is refused. Smaller: headers with many fields are refused.
	maxBinary = 2048
	signature = "\r\n\r\n\x00\r\nQUIT\n"
)

var errHeader = errors.New("no PROXY protocol header")

// Read reads a header from r and not a byte more. The address is invalid (the zero value) if the
// header has none. Read skips the fields after the address in version 2 (TLV).
func Read(r io.Reader) (netip.AddrPort, error) {
	var b [maxLine]byte
	if _, err := io.ReadFull(r, b[:len(signature)]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("read PROXY header: %w", err)
	}
	if string(b[:len(signature)]) == signature {
		return readBinary(r)
	}
	if !bytes.HasPrefix(b[:], []byte("PROXY ")) {
		return netip.AddrPort{}, errHeader
	}
	n := len(signature)
	for b[n-1] != '\n' {
		if n == maxLine {
			return netip.AddrPort{}, errHeader
		}
		if _, err := io.ReadFull(r, b[n:n+1]); err != nil {
			return netip.AddrPort{}, fmt.Errorf("read PROXY header: %w", err)
		}
		n++
	}
	return parseLine(string(b[:n]))
}

// parseLine reads version 1: PROXY TCP4 192.0.2.1 192.0.2.2 56324 443.
func parseLine(line string) (netip.AddrPort, error) {
	line, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		return netip.AddrPort{}, errHeader
	}
	f := strings.Split(line, " ")
	if len(f) >= 2 && f[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return netip.AddrPort{}, errHeader
	}
	addr, err := netip.ParseAddr(f[2])
	if err != nil || addr.Zone() != "" || addr.Is4() != (f[1] == "TCP4") {
		return netip.AddrPort{}, errHeader
	}
	port, err := strconv.ParseUint(f[4], 10, 16)
	if err != nil {
		return netip.AddrPort{}, errHeader
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// readBinary reads the header of version 2 after its signature.
func readBinary(r io.Reader) (netip.AddrPort, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("read PROXY header: %w", err)
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	command := head[0] & 15
	if head[0]>>4 != 2 || command > 1 || size > maxBinary {
		return netip.AddrPort{}, errHeader
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return netip.AddrPort{}, fmt.Errorf("read PROXY header: %w", err)
	}
	if command == 0 { // LOCAL: a health check of the proxy itself
		return netip.AddrPort{}, nil
	}
	switch family := head[1] >> 4; {
	case family == 1 && size >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)),
			binary.BigEndian.Uint16(body[8:])), nil
	case family == 2 && size >= 36:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)).Unmap(),
			binary.BigEndian.Uint16(body[32:])), nil
	case family == 0 || family == 3: // unspecified, Unix
		return netip.AddrPort{}, nil
	}
	return netip.AddrPort{}, errHeader
}
