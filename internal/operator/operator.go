// Package operator is how a person looks into a running server and steers it: who is
// connected, which channels there are, who is on them, what is busy, what goes over one
// channel or to one client, and who has to go.
//
// It has both ends of a stream over the control socket. Server answers for the program,
// which is a Source. Tool is what a person has typed, and prints the answers as a table or
// as lines of JSON. Traces are what is shown of the traffic while somebody wants to see it.
//
//	client  commands 1
//	server  {"protocol":1,"version":"…","pid":1,"commands":["status",…]}
//	client  {"command":"connections","filter":{"app":"1"}}
//	server  {"row":{…}}      as many as there are
//	server  {"note":"…"}     a sentence for the person
//	server  {"end":{…}}      all has been said; or {"error":"…"}
//
// A server that is older answers the first line with a Status, which has no protocol. A
// server of a later protocol says so in its answer. A request has no fields that the server
// does not know: a filter that it does not understand must not be left out. A client that
// closes the stream ends the work. Every line is bounded, on both ends.
//
// The server's connections belong to its loops. They are looked at in slices, each when the
// rows of the one before have been written, so that a reader that stalls keeps nobody else
// waiting. Who may ask is decided before Server is called; it writes down in the log who has
// kicked and traced whom. The client's end distrusts what it reads: nothing is printed that
// a terminal would obey.
//
// The package opens no socket, knows no loop and no registry, and keeps nothing of the
// traffic while nothing is traced.
package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"reverb/internal/protocol"
)

// Question is the first line of a stream.
const Question = "commands 1"

const (
	// protocolVersion is what this program speaks.
	protocolVersion = 1
	// maxRequestBytes bounds the client's line.
	maxRequestBytes = 64 << 10
	// maxLineBytes bounds each line of the server. Rows are cut so that they fit.
	maxLineBytes = 64 << 10
	// maxTextBytes is where a text of a row is cut: a user ID can be as long as a message.
	maxTextBytes = 512
)

// greeting is what the server says first.
type greeting struct {
	Protocol int      `json:"protocol"` // 0: a server that knows no commands
	Version  string   `json:"version"`
	PID      int      `json:"pid"`
	Commands []string `json:"commands"`
}

// request is what the client asks for.
type request struct {
	Command   string `json:"command"`
	Filter    Filter `json:"filter,omitzero"`
	Prefix    string `json:"prefix,omitempty"`    // channels: what their names begin with
	Reconnect bool   `json:"reconnect,omitempty"` // kick: they shall come back
	Sure      bool   `json:"sure,omitempty"`      // kick: however many there are
	Once      bool   `json:"once,omitempty"`      // top: one picture alone
}

// line is what the server says, one of its fields.
type line struct {
	Row   any    `json:"row,omitempty"`
	Note  string `json:"note,omitempty"`
	End   *end   `json:"end,omitempty"`
	Error string `json:"error,omitempty"`
}

// end is what there is to say when all has been said.
type end struct {
	Rows    int   `json:"rows"`
	Kicked  int   `json:"kicked,omitempty"`
	Dropped int64 `json:"dropped,omitempty"` // trace: lines that were left out
}

// readRequest reads the client's line.
func readRequest(b []byte) (r request, err error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return r, fmt.Errorf("this server does not know %s of a request; it is older than "+
				"the program that asks", field)
		}
		return r, errors.New("the request is not the line of JSON that is expected")
	}
	if d.More() {
		return r, errors.New("a request is one line of JSON")
	}
	return r, r.Filter.parse()
}

// Filter says which connections are meant: those with all that it names. An empty field
// names nothing.
type Filter struct {
	App     string `json:"app,omitempty"`
	Channel string `json:"channel,omitempty"` // they are subscribed to it
	User    string `json:"user,omitempty"`    // they have joined a presence channel as this user
	Address string `json:"address,omitempty"` // an address, or a network such as 10.0.0.0/8
	Socket  string `json:"socket,omitempty"`  // the socket ID

	network netip.Prefix      // of Address
	socket  protocol.SocketID // of Socket
}

// parse judges f and makes of Address and Socket what is compared.
func (f *Filter) parse() error {
	if f.Socket != "" {
		x, y, _ := strings.Cut(f.Socket, ".")
		high, err := strconv.ParseUint(x, 10, 32)
		low, bad := strconv.ParseUint(y, 10, 32)
		if f.socket = protocol.SocketIDOf(high<<32 | low); err != nil || bad != nil {
			return fmt.Errorf("%q is not a socket ID such as 123.456", bounded(f.Socket, 80))
		}
	}
	if f.Address == "" {
		return nil
	}
	network, err := netip.ParsePrefix(f.Address)
	if err != nil {
		addr, bad := netip.ParseAddr(f.Address)
		if bad != nil {
			return fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8",
				bounded(f.Address, 80))
		}
		addr = addr.Unmap().WithZone("")
		network = netip.PrefixFrom(addr, addr.BitLen())
	}
	f.network = network.Masked()
	return nil
}

// Match says whether a connection is meant. Its loop calls it.
func (f *Filter) Match(p Peer) bool {
	switch {
	case f.App != "" && p.AppID() != f.App,
		f.Socket != "" && p.ID() != f.socket,
		f.Channel != "" && !p.SubscribedTo(f.Channel),
		f.User != "" && !p.IsUser(f.User),
		f.Address != "" && !f.from(p.Address()):
		return false
	}
	return true
}

// from says whether an address, with or without a port, is in the network that is meant.
func (f *Filter) from(address string) bool {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return false
		}
		addr = ap.Addr()
	}
	return f.network.Contains(addr.Unmap().WithZone(""))
}

// everybody says that f names nothing that a single client has.
func (f *Filter) everybody() bool {
	return f.Channel == "" && f.User == "" && f.Address == "" && f.Socket == ""
}

// String is f for the log.
func (f Filter) String() string {
	var all []string
	for _, part := range [][2]string{{"app", f.App}, {"channel", f.Channel}, {"user", f.User},
		{"address", f.Address}, {"socket", f.Socket}} {
		if part[1] != "" {
			all = append(all, part[0]+" "+bounded(part[1], 200))
		}
	}
	return strings.Join(all, ", ")
}

// bounded is s, or its beginning in at most n bytes and three dots.
func bounded(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}
