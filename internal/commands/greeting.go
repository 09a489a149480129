package commands

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"

	"reverb/internal/client"
	"reverb/internal/config"
	"reverb/internal/lib/show"
)

// Serving describes a server that has begun to serve.
type Serving struct {
	Build    string   // program and version
	Called   string   // what to type to call the program; empty: reverb
	Main     net.Addr // the main address
	Plain    net.Addr // the second address, without TLS; nil: there is no second address
	Admin    net.Addr // the address of the status page; nil: there is no status page
	TLS      bool     // Main has TLS
	Fragment string   // the fragment that opens the console of the status page; may be empty
	Advice   string   // how TLS would need less memory; may be empty
	Loops    int      // the number of event loops
	Limit    int64    // the number of possible connections; math.MaxInt64: it is not known
}

// Greets says whether a server with this configuration greets on w: w is a terminal, and neither
// -q nor JSON was asked for.
func (l *Line) Greets(w io.Writer, c *config.Config) bool {
	return c.Log.Format == "text" && !c.Log.Quiet && l.look(w, c.Getenv).Terminal
}

// Announce says where the server listens: on w, if the server greets there, and else in the log.
// Warnings go to the log in both cases.
func (l *Line) Announce(w io.Writer, log *slog.Logger, c *config.Config, s *Serving) {
	if l.Greets(w, c) {
		look := l.look(w, c.Getenv)
		p := page{look: look, width: cmp.Or(look.Width, usualWidth)}
		p.greet(l, c, s)
		io.WriteString(w, p.text.String()) // the reader may be gone; the server goes on
		if s.Advice != "" {
			log.Warn(s.Advice)
		}
	} else {
		s.log(log, c)
	}
	if a, ok := s.Admin.(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		log.Warn("metrics and status can be reached from other machines, without a password; " +
			"keep outsiders away with a firewall, or set REVERB_ADMIN_LISTEN=127.0.0.1:" +
			strconv.Itoa(a.Port))
	}
}

// log writes to the log where the server listens.
func (s *Serving) log(log *slog.Logger, c *config.Config) {
	for _, note := range c.Notes {
		log.Info(note)
	}
	if s.Advice != "" {
		log.Warn(s.Advice)
	}
	log.Info("listening on "+s.Main.String()+c.Listen.Path, "with", spoken(s.TLS), "apps",
		len(c.Apps), "loops", s.Loops, "connections", s.Limit)
	if s.Plain != nil {
		log.Info("listening on "+s.Plain.String()+c.Listen.Path, "with", spoken(false))
	}
	if s.Admin != nil {
		log.Info("metrics and status on " + s.Admin.String())
	}
	if url := s.page(); url != "" && s.Fragment != "" {
		log.Info("the status page opens once without the secret, within 10 minutes", "url", url)
	}
}

// Reloads tells the log what is said of a configuration that was read again, and whether it takes
// the place of the one in force.
func Reloads(log *slog.Logger, c *config.Config) bool {
	for _, w := range c.Warnings {
		log.Warn(w)
	}
	for _, p := range c.Problems {
		log.Error("not reloaded: " + p)
	}
	if len(c.Apps) == 0 {
		log.Error("not reloaded: there is no app")
	}
	if len(c.Problems) > 0 || len(c.Apps) == 0 {
		return false
	}
	for _, note := range c.Notes {
		log.Info(note)
	}
	return true
}

// spoken names the protocol below HTTP on an address.
func spoken(tls bool) string {
	if tls {
		return "TLS"
	}
	return "plain"
}

// page is the URL of the status page for a browser on this machine; empty: there is no page, or it
// is on a Unix socket, which no browser opens.
func (s *Serving) page() string {
	a, ok := s.Admin.(*net.TCPAddr)
	if !ok {
		return ""
	}
	_, at := client.Local(a.String())
	return "http://" + at + "/" + s.Fragment
}

func (p *page) greet(l *Line, c *config.Config, s *Serving) {
	p.line("\n" + bold(p.look, s.Build) + "\n")
	label := func(name, value string) {
		if value != "" {
			p.line("  " + p.accent(fmt.Sprintf("%-9s", name)) + "  " + value)
		}
	}
	var ids []string
	for _, a := range c.Apps {
		ids = append(ids, show.Text(a.ID))
	}
	label("app", shorten(strings.Join(ids, ", "), p.width-14))
	listens := s.Main.String() + c.Listen.Path + " (" + spoken(s.TLS) + ")"
	if s.Plain != nil {
		listens += ", " + s.Plain.String() + c.Listen.Path + " (" + spoken(false) + ")"
	}
	label("listening", listens)
	port := 0
	if a, ok := s.Main.(*net.TCPAddr); ok {
		port = a.Port
	}
	connect, publish := urls(c, port)
	label("connect", connect)
	label("publish", publish)
	label("status", s.page())
	label("try", shellWord(cmp.Or(s.Called, "reverb"))+" listen"+l.again()+" my-channel")
	for _, note := range c.Notes {
		for i, line := range wrap(show.Line(note), max(p.width-14, narrowest)) {
			label([]string{"note", ""}[min(i, 1)], line)
		}
	}
	p.settings(c.Set())
	ready := "Ready."
	if s.Limit < math.MaxInt64 {
		ready = "Ready for " + thousands(s.Limit) + " connections."
	}
	p.line("\n" + bold(p.look, ready) + " Ctrl+C stops it.\n")
}

// maxAligned is the width of the column of values. With a larger width one long value moves the
// places of all variables far to the right; with a smaller one the places form no column.
const maxAligned = 32

// settings adds a table of variables, their values and the places where they were set. Values are
// cut so that the lines fit the width.
func (p *page) settings(all []config.Setting) {
	var shown [][3]string
	var widths [3]int
	for _, s := range all {
		if s.Origin == "--dev" {
			continue // the URLs show the app that --dev has made
		}
		row := [3]string{s.Name, s.Shown(), show.Text(s.Origin)}
		for i := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		shown = append(shown, row)
	}
	room := max(p.width-widths[0]-widths[2]-7, 12)
	for i, row := range shown {
		if i == 0 {
			p.line("")
		}
		p.line(fmt.Sprintf("  %-*s  %-*s  %s", widths[0], row[0], min(widths[1], maxAligned, room),
			shorten(row[1], room), row[2]))
	}
}

// accent colours text. The contrast of the colour, #008787, to black and to white is above 4.3.
func (p *page) accent(s string) string {
	if !p.look.Palette {
		return s
	}
	return "\x1b[38;5;30m" + s + "\x1b[0m"
}

// shorten cuts a text that is longer than n characters.
func shorten(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:max(n-3, 0)]) + "..."
}

// thousands writes a number with commas between groups of three digits.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// urls has the URLs at which clients connect and servers publish, for the first app. port is the
// port of the main address; 0: it is a Unix socket. They are empty if no URL leads to the server.
func urls(c *config.Config, port int) (connect, publish string) {
	if port == 0 && c.Public.Host == "" {
		return "", ""
	}
	host, portText, scheme := public(c, port)
	at := net.JoinHostPort(host, portText)
	if scheme == "http" && portText == "80" || scheme == "https" && portText == "443" {
		at = strings.TrimSuffix(at, ":"+portText)
	}
	at = show.Line(at) + c.Listen.Path
	ws := map[string]string{"http": "ws", "https": "wss"}[scheme]
	a := c.Apps[0]
	return ws + "://" + at + "/app/" + show.Line(a.Key),
		scheme + "://" + at + "/apps/" + show.Line(a.ID) + "/events"
}

// again has the flags with which other commands find the server that this line has started.
func (l *Line) again() (flags string) {
	if l.Flags["dev"] == "true" {
		return " --dev"
	}
	for _, name := range []string{"host", "port", "path", "env-file", "env"} {
		if value, given := l.Flags[name]; given {
			flags += " --" + name + "=" + shellWord(value)
		}
	}
	return flags
}

// shellWord quotes a value for a shell if the value needs it.
func shellWord(s string) string {
	odd := strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("_-+/:=.,@%", r))
	})
	if !odd {
		return s
	}
	return "'" + strings.ReplaceAll(show.Line(s), "'", `'\''`) + "'"
}
