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
		return newTable(out, channelColumns())
	case "users":
		return newTable(out, memberColumns())
	}
	return newTable(out, connectionColumns(time.Now))
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

// column is a column of a table whose rows are T.
type column[T any] struct {
	title string
	right bool // numbers are
	cell  func(*T) string
}

// tableLookahead is how many rows decide how wide the columns are. The others are printed as
// they come, so that a server with very many connections costs no memory here.
const tableLookahead = 2000

// table prints rows in columns.
type table[T any] struct {
	out     *bufio.Writer
	columns []column[T]
	widths  []int
	rows    [][]string // that wait for the widths
	begun   bool       // the widths are known
}

func newTable[T any](out *bufio.Writer, columns []column[T]) *table[T] {
	t := &table[T]{out: out, columns: columns, widths: make([]int, len(columns))}
	return t
}

func (t *table[T]) print(row []byte) error {
	var v T
	if json.Unmarshal(row, &v) != nil {
		return errRow
	}
	t.add(&v)
	return nil
}

func (t *table[T]) add(v *T) {
	cells := make([]string, len(t.columns))
	for i, c := range t.columns {
		if cells[i] = show.Line(c.cell(v)); cells[i] == "" {
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
func (t *table[T]) begin() {
	titles := make([]string, len(t.columns))
	for i, c := range t.columns {
		titles[i] = c.title
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

func (t *table[T]) write(cells []string) {
	for i, cell := range cells {
		pad := strings.Repeat(" ", max(t.widths[i]-utf8.RuneCountInString(cell), 0))
		switch {
		case t.columns[i].right:
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

func (t *table[T]) finish() error {
	if !t.begun && len(t.rows) > 0 {
		t.begin()
	}
	return t.out.Flush()
}

// connectionColumns are those of connections and kick.
func connectionColumns(now func() time.Time) []column[Connection] {
	return []column[Connection]{
		{"APP", false, func(c *Connection) string { return c.App }},
		{"SOCKET", false, func(c *Connection) string { return c.Socket }},
		{"ADDRESS", false, func(c *Connection) string { return c.Address }},
		{"USER", false, func(c *Connection) string { return c.User }},
		{"SINCE", true, func(c *Connection) string { return since(now().Sub(c.Since)) }},
		{
			"IDLE",
			true,
			func(c *Connection) string {
				return since(time.Duration(min(c.Idle,
					1<<31)) * time.Second)
			},
		},
		{"IN", true, func(c *Connection) string { return size(c.In) }},
		{"OUT", true, func(c *Connection) string { return size(c.Out) }},
		{"WAITING", true, func(c *Connection) string { return size(c.Waiting) }},
		{"CHANNELS", true, func(c *Connection) string { return strconv.Itoa(c.Subscriptions) }},
		{"LIBRARY", false, func(c *Connection) string { return c.Library }},
	}
}

func channelColumns() []column[Channel] {
	return []column[Channel]{
		{"APP", false, func(c *Channel) string { return c.App }},
		{"CHANNEL", false, func(c *Channel) string { return c.Name }},
		{"SUBSCRIPTIONS", true, func(c *Channel) string { return strconv.Itoa(c.Subscriptions) }},
		{"USERS", true, func(c *Channel) string { return strconv.Itoa(c.Users) }},
		{"EVENTS", true, func(c *Channel) string { return strconv.FormatUint(c.Events, 10) }},
	}
}

func memberColumns() []column[Member] {
	return []column[Member]{
		{"APP", false, func(m *Member) string { return m.App }},
		{"USER", false, func(m *Member) string { return m.User }},
		{"INFO", false, func(m *Member) string { return m.Info }},
	}
}

func appColumns() []column[appRow] {
	return []column[appRow]{
		{"APP", false, func(a *appRow) string { return a.ID }},
		{
			"CONNECTIONS",
			true,
			func(a *appRow) string { return strconv.FormatInt(a.Connections, 10) },
		},
		{"CHANNELS", true, func(a *appRow) string { return strconv.FormatUint(a.Channels, 10) }},
		{"PUBLISHED", true, func(a *appRow) string { return strconv.FormatUint(a.Published, 10) }},
		{"CLIENT EVENTS", true, func(a *appRow) string { return strconv.FormatUint(a.Events, 10) }},
		{"RECEIVED", true, func(a *appRow) string { return strconv.FormatUint(a.Received, 10) }},
		{"SENT", true, func(a *appRow) string { return strconv.FormatUint(a.Sent, 10) }},
		{"IN", true, func(a *appRow) string { return size(a.BytesIn) }},
		{"OUT", true, func(a *appRow) string { return size(a.BytesOut) }},
	}
}

// --- Status ---

// statusPrinter prints the row of a server, and a table of its apps.
type statusPrinter struct {
	out  *bufio.Writer
	apps *table[appRow] // nil: the row of the server has not come
}

func (p *statusPrinter) print(row []byte) error {
	if p.apps != nil {
		return p.apps.print(row)
	}
	var f figures
	if json.Unmarshal(row, &f) != nil {
		return errRow
	}
	p.apps = newTable(p.out, appColumns())
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
		say("memory", "%s of %s", size(f.MemoryUsed), size(f.MemoryLimit))
	}
	say("loops", "lag %s, %s wait for loops, %s for clients",
		time.Duration(f.Lag*1e9).Round(10*time.Microsecond), size(f.Backlog), size(f.Queued))
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
	channels := newTable(p.out, append([]column[busy]{
		{"EVENTS/S", true, func(b *busy) string { return fmt.Sprintf("%.1f", b.Rate) }},
		{"DELIVERIES/S", true, func(b *busy) string { return fmt.Sprintf("%.0f", b.Deliveries) }},
	}, within(channelColumns(), func(b *busy) *Channel { return &b.Channel })...))
	for i := range v.Channels {
		channels.add(&v.Channels[i])
	}
	channels.finish()
	p.out.WriteByte('\n')
	clients := newTable(p.out, append([]column[busyClient]{
		{"IN/S", true, func(b *busyClient) string { return size(b.InRate) }},
		{"OUT/S", true, func(b *busyClient) string { return size(b.OutRate) }},
	}, within(connectionColumns(time.Now), func(b *busyClient) *Connection {
		return &b.Connection
	})...))
	for i := range v.Busiest {
		clients.add(&v.Busiest[i])
	}
	return clients.finish()
}

func (p *topPrinter) finish() error { return p.out.Flush() }

// within are the columns of a part of a row.
func within[T, P any](columns []column[P], part func(*T) *P) (all []column[T]) {
	for _, c := range columns {
		all = append(all, column[T]{c.title, c.right, func(v *T) string { return c.cell(part(v)) }})
	}
	return all
}

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
