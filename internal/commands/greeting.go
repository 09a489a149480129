package commands

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"

	"reverb/internal/config"
	"reverb/internal/lib/show"
)

// Serving is what Greet must know of a server beside its configuration.
type Serving struct {
	Build     string   // what the program is a build of
	Listening []string // where it listens, and what is spoken there
	Port      int      // of the main address; 0: it has none
	Status    string   // URL of the status page; empty: there is none
	Limit     int64    // of connections; math.MaxInt64: it is not known
}

// Greets says whether a server with this configuration greets on w: a person reads it there,
// and has not asked for less.
func (l *Line) Greets(w io.Writer, c *config.Config) bool {
	return c.Log.Format == "text" && !c.Log.Quiet && l.look(w, c.Getenv).Terminal
}

// Greet tells a person what is served and what to do with it.
func (l *Line) Greet(w io.Writer, c *config.Config, s *Serving) {
	look := l.look(w, c.Getenv)
	p := page{look: look, width: cmp.Or(look.Width, usualWidth)}
	p.greet(l, c, s)
	io.WriteString(w, p.text.String()) // the reader may be gone; the server goes on
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
	label("listening", strings.Join(s.Listening, ", "))
	connect, publish := urls(c, s.Port)
	label("connect", connect)
	label("publish", publish)
	label("status", s.Status)
	label("try", "reverb listen"+l.again()+" my-channel")
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

// settings adds what was set, and where: three columns, of which the value gives way.
func (p *page) settings(all []config.Setting) {
	names, places := 0, 0
	var shown []config.Setting
	for _, s := range all {
		if s.Origin == "--dev" {
			continue // --dev sets the same every time, and the lines above tell it
		}
		shown = append(shown, s)
		names = max(names, len(s.Name))
		places = max(places, utf8.RuneCountInString(show.Text(s.Origin)))
	}
	values := 0
	for _, s := range shown {
		values = max(values, utf8.RuneCountInString(s.Shown()))
	}
	values = min(values, max(p.width-names-places-7, 12))
	for i, s := range shown {
		if i == 0 {
			p.line("")
		}
		p.line(fmt.Sprintf("  %-*s  %-*s  %s", names, s.Name, values, shorten(s.Shown(), values),
			show.Text(s.Origin)))
	}
}

// accent is text that leads the eye, in a colour that can be read on black and on white: of
// the palette's the one with a contrast above 4.3 to both.
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

// thousands is a number with a comma after every third digit from the right.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// urls are where clients connect, and where servers publish, with the first app. port is the
// main address's; 0: it has none. They are empty where no URL leads to the server.
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

// again are the flags with which other commands find the server that this line has started.
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

// shellWord is a value as a shell takes it.
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
