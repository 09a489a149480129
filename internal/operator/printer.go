package operator

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"reverb/internal/lib/show"
)

// printer prints the rows of a command. What it prints is fit for a terminal.
type printer interface {
	print(row []byte) error
	finish() error // prints what is left
}

// printer makes the one for what was asked.
func (c *Tool) printer(a *Asked) printer {
	out := bufio.NewWriter(c.Out)
	if a.Has("json") {
		return &jsonLines{out, a.Command}
	}
	switch a.Command {
	case "status":
		return &statusPrinter{out: out}
	case "top":
		return &topPrinter{out: out, redraw: c.Look.Terminal && !a.Has("once")}
	case "trace":
		return &tracePrinter{out}
	case "channels":
		return newTable(out, channelRows())
	case "users":
		return newTable(out, memberRows())
	}
	return newTable(out, connectionRows())
}

var errRow = errors.New("the server has sent a row that is not the one that is expected")

// silent prints nothing.
type silent struct{}

func (*silent) print([]byte) error { return nil }
func (*silent) finish() error      { return nil }

// --- JSON ---

// jsonLines prints each row as a line of JSON, as it has come but for its spaces.
type jsonLines struct {
	out     *bufio.Writer
	command string
}

func (p *jsonLines) print(row []byte) error {
	line, err := plainJSON(row)
	if err != nil {
		return errRow
	}
	p.out.WriteString(line)
	p.out.WriteByte('\n')
	if p.command == "trace" || p.command == "top" { // a person waits for each
		return p.out.Flush()
	}
	return nil
}

func (p *jsonLines) finish() error { return p.out.Flush() }

// plainJSON is a valid JSON text in one line in which a terminal finds nothing to obey:
// characters that cannot be printed are escapes.
func plainJSON(text []byte) (string, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return "", err
	}
	b := make([]byte, 0, compact.Len())
	for _, r := range compact.String() {
		switch {
		case strconv.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return string(b), nil
}

// --- Tables ---

// kind is what the rows of a table are. A title that begins with > is that of a column of numbers.
type kind struct {
	titles []string
	cells  func(row []byte) (cells []string, err error)
}

// tableLookahead is how many rows decide how wide the columns are. The others are printed as they
// come, so that a server with very many connections costs no memory here.
const tableLookahead = 2000

// table prints rows in columns.
type table struct {
	out    *bufio.Writer
	kind   kind
	widths []int
	rows   [][]string // that wait for the widths
	begun  bool       // the widths are known
}

func newTable(out *bufio.Writer, k kind) *table {
	return &table{out: out, kind: k, widths: make([]int, len(k.titles))}
}

func (t *table) print(row []byte) error {
	cells, err := t.kind.cells(row)
	if err != nil {
		return errRow
	}
	t.add(cells)
	return nil
}

func (t *table) add(cells []string) {
	for i, cell := range cells {
		if cells[i] = show.Line(cell); cell == "" {
			cells[i] = "-"
		}
	}
	if t.begun {
		t.write(cells)
	} else if t.rows = append(t.rows, cells); len(t.rows) >= tableLookahead {
		t.begin()
	}
}

// begin prints the titles and what has waited.
func (t *table) begin() {
	titles := make([]string, len(t.kind.titles))
	for i, title := range t.kind.titles {
		titles[i] = strings.TrimPrefix(title, ">")
	}
	rows := append([][]string{titles}, t.rows...)
	for _, cells := range rows {
		for i, cell := range cells {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	t.begun, t.rows = true, nil
	for _, cells := range rows {
		t.write(cells)
	}
}

func (t *table) write(cells []string) {
	for i, cell := range cells {
		pad := strings.Repeat(" ", max(t.widths[i]-utf8.RuneCountInString(cell), 0))
		switch {
		case t.kind.titles[i][0] == '>':
			cell = pad + cell
		case i < len(cells)-1:
			cell += pad
		}
		if i > 0 {
			t.out.WriteString("  ")
		}
		t.out.WriteString(cell)
	}
	t.out.WriteByte('\n')
}

func (t *table) finish() error {
	if !t.begun && len(t.rows) > 0 {
		t.begin()
	}
	return t.out.Flush()
}

// connectionRows are those of connections and kick.
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
	return []string{c.App, c.Socket, c.Address, c.User, since(time.Since(c.Since)),
		since(time.Duration(min(c.Idle, 1<<31)) * time.Second), size(float64(c.In)),
		size(float64(c.Out)), size(float64(c.Waiting)), strconv.Itoa(c.Subscriptions), c.Library}
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
		return []string{m.App, m.User, m.Info}, err
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
		return append(cells, size(float64(a.BytesIn)), size(float64(a.BytesOut))), err
	}}
}

// --- Status ---

// statusPrinter prints the row of a server, and a table of its apps.
type statusPrinter struct {
	out  *bufio.Writer
	apps *table // nil: the row of the server has not come
}

func (p *statusPrinter) print(row []byte) error {
	if p.apps != nil {
		return p.apps.print(row)
	}
	var f figures
	if json.Unmarshal(row, &f) != nil {
		return errRow
	}
	p.apps = newTable(p.out, appRows())
	writeFigures(p.out, &f)
	p.out.WriteByte('\n')
	return nil
}

// writeFigures writes how a server stands, a line each.
func writeFigures(w io.Writer, f *figures) {
	say := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, show.Line(fmt.Sprintf(format, args...)))
	}
	say("server", "%s, pid %d, on %s", f.Version, f.PID, f.Listening)
	say("up", "%s, since %s", since(f.Now.Sub(f.Started)), f.Started.Local().Format(time.DateTime))
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
		say("memory", "%s of %s", size(float64(f.MemoryUsed)), size(float64(f.MemoryLimit)))
	}
	say("loops", "lag %s, %s wait for loops, %s for clients",
		time.Duration(f.Lag*1e9).Round(10*time.Microsecond), size(float64(f.Backlog)),
		size(float64(f.Queued)))
	if f.Redis != "" {
		say("redis", "%s", f.Redis)
	}
}

func (p *statusPrinter) finish() error {
	if p.apps == nil {
		return p.out.Flush()
	}
	return p.apps.finish()
}

// --- Top ---

// topPrinter prints pictures, each in the place of the one before where it can draw anew.
type topPrinter struct {
	out    *bufio.Writer
	redraw bool
}

func (p *topPrinter) print(row []byte) error {
	var v picture
	if json.Unmarshal(row, &v) != nil {
		return errRow
	}
	if p.redraw {
		p.out.WriteString("\x1b[H\x1b[2J")
	}
	writeFigures(p.out, &v.figures)
	fmt.Fprintf(
		p.out,
		"%-12s %.0f published, %.0f client events, %.0f received, %.0f sent, %s in, %s out\n\n",
		"each second",
		v.Published,
		v.Events,
		v.Received,
		v.Sent,
		size(v.BytesIn),
		size(v.BytesOut),
	)
	channels := newTable(p.out, kind{titles: append([]string{">EVENTS/S", ">DELIVERIES/S"},
		channelTitles()...)})
	for _, b := range v.Channels {
		channels.add(append([]string{fmt.Sprintf("%.1f", b.Rate),
			fmt.Sprintf("%.0f", b.Deliveries)}, b.cells()...))
	}
	channels.finish()
	p.out.WriteByte('\n')
	clients := newTable(p.out, kind{titles: append([]string{">IN/S", ">OUT/S"},
		connectionTitles()...)})
	for _, b := range v.Busiest {
		clients.add(append([]string{size(b.InRate), size(b.OutRate)}, b.cells()...))
	}
	return clients.finish()
}

func (p *topPrinter) finish() error { return p.out.Flush() }

// --- Trace ---

// tracePrinter prints the lines of a trace as they come.
type tracePrinter struct{ out *bufio.Writer }

func (p *tracePrinter) print(row []byte) error {
	var v traced
	if json.Unmarshal(row, &v) != nil {
		return errRow
	}
	parts := []string{
		v.At.Local().Format("15:04:05.000"),
		fmt.Sprintf("%-12s", v.What),
		v.Socket,
		v.Channel,
		v.Note,
	}
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
