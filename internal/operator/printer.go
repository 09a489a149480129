package operator

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverb/internal/lib/columns"
	"reverb/internal/lib/show"
)

// printer prints the rows of a command. Its output has no characters that a terminal would obey.
type printer interface {
	print(row []byte) error
	finish() error // prints the rows that wait
}

// printer makes the printer of a command.
func (c *Tool) printer(a *Asked) printer {
	out, room := bufio.NewWriter(c.Out), c.Look.Width
	if a.Has("json") {
		return &jsonLines{out, a.Command}
	}
	switch a.Command {
	case "status":
		return &statusPrinter{out: out, room: room}
	case "top":
		return &topPrinter{out: out, room: room, redraw: c.Look.Terminal && !a.Has("once")}
	case "trace":
		return &tracePrinter{out}
	case "channels":
		return &rows{kind: channelRows(), out: out, room: room}
	case "users":
		return &rows{kind: memberRows(), out: out, room: room}
	}
	return &rows{kind: connectionRows(), out: out, room: room}
}

var errRow = errors.New("the server has sent a row that is not the one that is expected")

// silent prints nothing.
type silent struct{}

func (silent) print([]byte) error { return nil }
func (silent) finish() error      { return nil }

// --- JSON ---

// jsonLines prints each row as a line of JSON, without its spaces.
type jsonLines struct {
	out     *bufio.Writer
	command string
}

func (p *jsonLines) print(row []byte) error {
	var compact bytes.Buffer
	if json.Compact(&compact, row) != nil {
		return errRow
	}
	p.out.WriteString(show.JSON(compact.String()) + "\n")
	if p.command == "trace" || p.command == "top" { // a person waits for each
		return p.out.Flush()
	}
	return nil
}

func (p *jsonLines) finish() error { return p.out.Flush() }

// --- Tables ---

// kind has the titles of a table, and turns a row into cells. A title that begins with > has a
// column of numbers.
type kind struct {
	titles []string
	cells  func(row []byte) (cells []string, err error)
}

// nodeOf is the node in a row of an answer about all nodes; empty: the answer is of one node.
func nodeOf(row []byte) string {
	var v struct {
		Node string `json:"node"`
	}
	if json.Unmarshal(row, &v) != nil {
		return ""
	}
	return v.Node
}

// rows prints rows as a table. The first row decides whether there is a column of nodes.
type rows struct {
	kind  kind
	out   *bufio.Writer
	room  int // see columns.New
	nodes bool
	table *columns.Table // nil: no row has come
}

func (t *rows) print(row []byte) error {
	cells, err := t.kind.cells(row)
	if err != nil {
		return errRow
	}
	node := nodeOf(row)
	if t.table == nil {
		titles := t.kind.titles
		if t.nodes = node != ""; t.nodes {
			titles = append([]string{"NODE"}, titles...)
		}
		t.table = columns.New(t.out, t.room, titles)
	}
	if t.nodes {
		cells = append([]string{node}, cells...)
	}
	t.table.Add(cells)
	return nil
}

func (t *rows) finish() error {
	if t.table != nil {
		t.table.Sort()
		t.table.Finish()
	}
	return t.out.Flush()
}

// connectionRows is the table of connections and kick.
func connectionRows() kind {
	return kind{connectionTitles(), func(row []byte) ([]string, error) {
		var c Connection
		err := json.Unmarshal(row, &c)
		return c.cells(), err
	}}
}

func connectionTitles() []string {
	return []string{"APP", "SOCKET", "ADDRESS", "USER", ">SINCE", ">IDLE", ">IN", ">OUT",
		">WAITING", ">CHANNELS", "LIBRARY"}
}

func (c *Connection) cells() []string {
	bytes := func(n int64) string { return show.Bytes(float64(n)) }
	return []string{c.App, c.Socket, c.Address, c.User, show.Duration(time.Since(c.Since)),
		show.Duration(time.Duration(min(c.Idle, 1<<31)) * time.Second), bytes(c.In), bytes(c.Out),
		bytes(int64(c.Waiting)), strconv.Itoa(c.Subscriptions), c.Library}
}

func channelRows() kind {
	return kind{channelTitles(), func(row []byte) ([]string, error) {
		var c Channel
		err := json.Unmarshal(row, &c)
		return c.cells(), err
	}}
}

func channelTitles() []string {
	return []string{"APP", "CHANNEL", ">SUBSCRIPTIONS", ">USERS", ">EVENTS"}
}

func (c *Channel) cells() []string {
	return []string{c.App, c.Name, strconv.Itoa(c.Subscriptions), strconv.Itoa(c.Users),
		strconv.FormatUint(c.Events, 10)}
}

func memberRows() kind {
	return kind{[]string{"APP", "USER", "INFO"}, func(row []byte) ([]string, error) {
		var m Member
		err := json.Unmarshal(row, &m)
		return []string{m.App, m.User, string(m.Info)}, err
	}}
}

func appRows() kind {
	return kind{[]string{"APP", ">CONNECTIONS", ">CHANNELS", ">PUBLISHED", ">CLIENT EVENTS",
		">RECEIVED", ">SENT", ">IN", ">OUT"}, func(row []byte) ([]string, error) {
		var a appRow
		err := json.Unmarshal(row, &a)
		cells := []string{a.ID, strconv.FormatInt(a.Connections, 10)}
		for _, n := range []uint64{a.Channels, a.Published, a.Events, a.Received, a.Sent} {
			cells = append(cells, strconv.FormatUint(n, 10))
		}
		return append(cells, show.Bytes(float64(a.BytesIn)), show.Bytes(float64(a.BytesOut))), err
	}}
}

// --- Status ---

// maxShownNodes bounds the nodes that status and top show. Larger: a wrong server takes more
// memory. Smaller: nodes of a large cluster are not shown.
const maxShownNodes = 1000

// statusPrinter prints the row of a server, and a table of its apps, for each node.
type statusPrinter struct {
	out   *bufio.Writer
	room  int
	nodes []*standing
}

// standing is how a node stands.
type standing struct {
	node string
	figures
	apps *columns.Table
}

func (p *statusPrinter) print(row []byte) error {
	node := nodeOf(row)
	i := slices.IndexFunc(p.nodes, func(s *standing) bool { return s.node == node })
	if i >= 0 {
		cells, err := appRows().cells(row)
		if err != nil {
			return errRow
		}
		p.nodes[i].apps.Add(cells)
		return nil
	}
	s := &standing{node: node}
	if json.Unmarshal(row, &s.figures) != nil || len(p.nodes) == maxShownNodes {
		return errRow
	}
	s.apps = columns.New(p.out, p.room, appRows().titles)
	p.nodes = append(p.nodes, s)
	return nil
}

func (p *statusPrinter) finish() error {
	for i, s := range p.nodes {
		if i > 0 {
			p.out.WriteByte('\n')
		}
		if s.node != "" {
			fmt.Fprintf(p.out, "node         %s\n", show.Line(s.node))
		}
		writeFigures(p.out, &s.figures)
		p.out.WriteByte('\n')
		s.apps.Finish()
	}
	return p.out.Flush()
}

// writeFigures writes how a server stands, a line each.
func writeFigures(w io.Writer, f *figures) {
	say := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, show.Line(fmt.Sprintf(format, args...)))
	}
	say("server", "%s, pid %d, on %s", f.Version, f.PID, f.Listening)
	say("up", "%s, since %s", show.Duration(f.Now.Sub(f.Started)),
		f.Started.Local().Format(time.DateTime))
	if len(f.State) == 0 {
		say("ready", "yes")
	}
	for _, why := range f.State {
		say("not ready", "%s", why)
	}
	if f.Limit > 0 && f.Limit < 1<<40 {
		say("connections", "%d of %d", f.Connections, f.Limit)
	} else {
		say("connections", "%d", f.Connections)
	}
	if f.MemoryLimit > 0 {
		say("memory", "%s of %s", show.Bytes(float64(f.MemoryUsed)),
			show.Bytes(float64(f.MemoryLimit)))
	}
	say("loops", "lag %s, %s wait for loops, %s for clients", show.Lag(f.Lag),
		show.Bytes(float64(f.Backlog)), show.Bytes(float64(f.Queued)))
	for _, v := range [][2]string{{"redis", f.Redis}, {"webhooks", f.Webhooks},
		{"resumed", f.Resumed}, {"upgrades", f.Upgrades}} {
		if v[1] != "" {
			say(v[0], "%s", v[1])
		}
	}
}

// --- Top ---

// topPrinter prints pictures. On a terminal, each takes the place of the one before.
type topPrinter struct {
	out    *bufio.Writer
	room   int
	redraw bool
	nodes  []*picture // the last of each, in the order in which they came first
}

func (p *topPrinter) print(row []byte) error {
	v := new(picture)
	if json.Unmarshal(row, v) != nil {
		return errRow
	}
	i := slices.IndexFunc(p.nodes, func(w *picture) bool { return w.Node == v.Node })
	switch {
	case i >= 0:
		p.nodes[i] = v
	case len(p.nodes) == maxShownNodes:
		return errRow
	default:
		p.nodes = append(p.nodes, v)
	}
	if !p.redraw {
		return nil
	}
	p.out.WriteString("\x1b[H\x1b[2J")
	return p.draw()
}

// finish prints the only picture where nothing is drawn anew.
func (p *topPrinter) finish() error {
	if p.redraw {
		return p.out.Flush()
	}
	return p.draw()
}

func (p *topPrinter) draw() error {
	var channels, clients []*ranked
	for _, v := range p.nodes {
		for _, b := range v.Channels {
			if b != nil {
				channels = append(channels, &ranked{append([]string{v.Node,
					fmt.Sprintf("%.1f", b.Rate), fmt.Sprintf("%.0f", b.Deliveries)},
					b.cells()...), b.Deliveries})
			}
		}
		for _, b := range v.Busiest {
			if b != nil {
				clients = append(clients, &ranked{append([]string{v.Node, show.Bytes(b.InRate),
					show.Bytes(b.OutRate)}, b.cells()...), b.InRate + b.OutRate})
			}
		}
	}
	many := len(p.nodes) > 0 && p.nodes[0].Node != ""
	if many {
		p.writeNodes()
	} else if len(p.nodes) > 0 {
		p.writeNode(p.nodes[0])
	}
	p.writeRanked(many, append([]string{"NODE", ">EVENTS/S", ">DELIVERIES/S"},
		channelTitles()...), channels)
	p.out.WriteByte('\n')
	p.writeRanked(many, append([]string{"NODE", ">IN/S", ">OUT/S"}, connectionTitles()...),
		clients)
	return p.out.Flush()
}

// ranked is a row of a table, and its rank.
type ranked struct {
	cells []string
	by    float64
}

// writeRanked writes the rows of the highest rank, with the first column if there are many nodes.
func (p *topPrinter) writeRanked(many bool, titles []string, rows []*ranked) {
	slices.SortFunc(rows, func(a, b *ranked) int {
		return cmp.Or(cmp.Compare(b.by, a.by), slices.Compare(a.cells, b.cells))
	})
	first := 1
	if many {
		first = 0
	}
	t := columns.New(p.out, p.room, titles[first:])
	for _, r := range rows[:min(len(rows), topRows)] {
		t.Add(r.cells[first:])
	}
	t.Finish()
}

// writeNode writes how the only node stands.
func (p *topPrinter) writeNode(v *picture) {
	writeFigures(p.out, &v.figures)
	fmt.Fprintf(p.out, "each second  %.0f published, %.0f client events, %.0f received, "+
		"%.0f sent, %s in, %s out\n\n", v.Published, v.Events, v.Received, v.Sent,
		show.Bytes(v.BytesIn), show.Bytes(v.BytesOut))
}

// writeNodes writes how the nodes stand, a line each. Rates are per second.
func (p *topPrinter) writeNodes() {
	t := columns.New(p.out, p.room, []string{"NODE", "READY", ">CONNECTIONS", ">LAG",
		">PUBLISHED/S", ">CLIENT EVENTS/S", ">RECEIVED/S", ">SENT/S", ">IN/S", ">OUT/S"})
	for _, v := range p.nodes {
		cells := []string{v.Node, cmp.Or(strings.Join(v.State, ", "), "yes"),
			strconv.FormatInt(v.Connections, 10), show.Lag(v.Lag)}
		for _, rate := range []float64{v.Published, v.Events, v.Received, v.Sent} {
			cells = append(cells, fmt.Sprintf("%.0f", rate))
		}
		t.Add(append(cells, show.Bytes(v.BytesIn), show.Bytes(v.BytesOut)))
	}
	t.Finish()
	p.out.WriteByte('\n')
}

// --- Trace ---

// tracePrinter prints the lines of a trace as they come.
type tracePrinter struct{ out *bufio.Writer }

func (p *tracePrinter) print(row []byte) error {
	var v traced
	if json.Unmarshal(row, &v) != nil {
		return errRow
	}
	parts := []string{v.At.Local().Format("15:04:05.000"), nodeOf(row),
		fmt.Sprintf("%-12s", v.What), v.Socket, v.Channel, v.Note}
	if v.Receivers > 0 {
		parts = append(parts, fmt.Sprintf("to %d", v.Receivers))
	}
	parts = append(parts, v.Message)
	line := ""
	for _, part := range parts {
		if part != "" {
			line += part + " "
		}
	}
	fmt.Fprintln(p.out, strings.TrimSuffix(show.Line(line), " "))
	return p.out.Flush()
}

func (p *tracePrinter) finish() error { return p.out.Flush() }
