// Package operator lets a person look into a running server and steer it. It shows connections,
// channels and their members, the busiest of them, and the traffic of one channel or one client. It
// ends connections.
//
// It has both ends of a stream over the control socket. Server answers for the program, which is a
// Source. Tool runs the command that a person has typed, and prints the answers as a table or as
// lines of JSON. Traces choose the messages that operators watch.
//
//	client  commands 1
//	server  {"protocol":1,"version":"…","pid":1,"commands":["status",…]}
//	client  {"command":"connections","filter":{"app":"1"}}
//	server  {"row":{…}}      as many as there are
//	server  {"note":"…"}     a sentence for the person
//	server  {"end":{…}}      the last line; or {"error":"…"}
//
// An older server answers the first line with a Status, which has no protocol. A server of a later
// protocol says so in its answer. A server refuses a request with a field that it does not know: it
// must not ignore a filter. A client that closes the stream ends the work. Both ends bound the
// length of every line.
//
// The server's connections belong to its loops. A loop looks at them in slices. The next slice
// waits until the rows of the slice before are written, so that a reader that stalls delays nobody
// else. The caller of Server decides which users may ask. Server logs each kick and each trace with
// the user. The client's end distrusts the server: it prints no characters that a terminal would
// obey.
//
// The package opens no socket, knows no loop and no registry, and keeps no message while no trace
// runs.
package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"reverb/internal/protocol"
)

// Question is the first line of a stream.
const Question = "commands 1"

const (
	// protocolVersion is the version of the protocol that this program speaks.
	protocolVersion = 1
	// maxRequestBytes bounds the client's line. Larger: a client can take more memory. Smaller: a
	// filter with long names is refused.
	maxRequestBytes = 64 << 10
	// maxLineBytes bounds each line of the server. Rows are cut so that they fit. Larger: a client
	// reads more before it gives up a wrong server. Smaller: messages of traces do not fit.
	maxLineBytes = 64 << 10
	// maxTextBytes is the length at which a text of a row is cut: a user ID can be as long as a
	// message. Larger: rows are harder to read. Smaller: texts are cut that operators need.
	maxTextBytes = 512
)

// greeting is the first line of the server.
type greeting struct {
	Protocol int      `json:"protocol"` // 0: a server that knows no commands
	Version  string   `json:"version"`
	PID      int      `json:"pid"`
	Commands []string `json:"commands"`
}

// request is the line of the client.
type request struct {
	Command   string `json:"command"`
	Filter    Filter `json:"filter,omitzero"`
	Prefix    string `json:"prefix,omitempty"`    // channels: their names begin with it
	Reconnect bool   `json:"reconnect,omitempty"` // kick: the clients shall connect again
	Sure      bool   `json:"sure,omitempty"`      // kick: however many there are
	Look      bool   `json:"look,omitempty"`      // kick: nobody, only list them
	Once      bool   `json:"once,omitempty"`      // top: only one picture
	All       bool   `json:"all,omitempty"`       // ask every node of the cluster
}

// judge says what is wrong with a request, beyond what its filter says.
func (r *request) judge() error {
	f := &r.Filter
	switch one := len(f.Channels) == 1; r.Command {
	case "kick":
		if f.everybody() {
			return errors.New("kick needs a socket, a user, an address or a channel")
		}
	case "trace":
		if f.everybody() {
			return errors.New("trace needs a channel, a socket, a user or an address")
		}
		if len(f.Channels) > 0 && f.Socket+f.User+f.Address != "" {
			return errors.New("trace takes channels, or a socket, a user or an address; not both")
		}
	case "users", "watch":
		if !one || f.Socket+f.User+f.Address != "" {
			return fmt.Errorf("%s takes one channel", r.Command)
		}
		name, err := protocol.ParseName(f.Channels[0])
		if err != nil {
			return err
		}
		if !name.Kind().Presence {
			return fmt.Errorf("%s is not a presence channel, so its subscribers have no users; "+
				"reverb connections --channel lists the connections", name)
		}
	}
	return nil
}

// line is a line of the server. It has one of these fields.
type line struct {
	Row   any    `json:"row,omitempty"`
	Note  string `json:"note,omitempty"`
	End   *end   `json:"end,omitempty"`
	Error string `json:"error,omitempty"`
}

// end has the totals of an answer, after its last row.
type end struct {
	Rows    int   `json:"rows"`
	Kicked  int   `json:"kicked,omitempty"`
	Dropped int64 `json:"dropped,omitempty"` // trace: lines that were left out
	// of all nodes: how many were asked, and how many have not answered, or not to the end
	Nodes   int `json:"nodes,omitempty"`
	Missing int `json:"missing,omitempty"`
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

// Filter selects the connections that match all its fields. An empty field matches all.
type Filter struct {
	App      string   `json:"app,omitempty"`
	Channels []string `json:"channels,omitempty"` // they are subscribed to one of them
	User     string   `json:"user,omitempty"`     // they are the user, see Peer.IsUser
	Address  string   `json:"address,omitempty"`  // an address, or a network such as 10.0.0.0/8
	Socket   string   `json:"socket,omitempty"`   // the socket ID

	network netip.Prefix      // of Address
	socket  protocol.SocketID // of Socket
}

// maxChannels bounds the channels of a filter. Larger: every connection costs more comparisons.
// Smaller: operators ask several times.
const maxChannels = 100

// parse checks f, and sets network and socket from Address and Socket.
func (f *Filter) parse() error {
	if n := len(f.Channels); n > maxChannels {
		return fmt.Errorf("%d channels are too many; at most %d", n, maxChannels)
	}
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

// Match says whether f selects a connection. The loop of the connection calls it.
func (f *Filter) Match(p Peer) bool {
	switch {
	case f.App != "" && p.AppID() != f.App,
		f.Socket != "" && p.ID() != f.socket,
		len(f.Channels) > 0 && !slices.ContainsFunc(f.Channels, p.SubscribedTo),
		f.User != "" && !p.IsUser(f.User),
		f.Address != "" && !f.from(p.Address()):
		return false
	}
	return true
}

// from says whether an address, with or without a port, is in the network of f.
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

// everybody says that f does not restrict the clients of its app.
func (f *Filter) everybody() bool {
	return len(f.Channels) == 0 && f.User == "" && f.Address == "" && f.Socket == ""
}

// String is f for the log.
func (f Filter) String() string {
	var all []string
	for _, part := range [][2]string{{"app", f.App}, {"channel", strings.Join(f.Channels, " or ")},
		{"user", f.User}, {"address", f.Address}, {"socket", f.Socket}} {
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
