package config

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"reverb/internal/hooks"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
)

// Shown is the value as texts may show it.
func (s Setting) Shown() string { return show.Line(s.hidden()) }

// hidden is the value without what nobody may see. Where the host of a webhook ends is known, so a
// path may have an @.
func (s Setting) hidden() string {
	u, err := hooks.ParseURL(s.Value)
	switch {
	case s.secret:
		return "********"
	case s.Name == "REVERB_WEBHOOK_URL" && err == nil:
		return redact.Parsed(u)
	}
	return redact.URL(s.Value)
}

// assignment is the variable that was set, and its value, for a problem.
func (s Setting) assignment() string {
	return cmp.Or(s.given, s.Name) + "=" + show.Quoted(s.hidden())
}

// Problem notes something that keeps the server from starting. given says which variable was set,
// with its value unless the value is secret. If it is empty, what may begin with the variable and a
// colon; a variable that was set under another name is told by that name and its place.
func (c *Config) Problem(given, what string) {
	if given != "" {
		given += ": "
	} else if name, rest, _ := strings.Cut(what, ": "); strings.Contains(c.Setting(name).Origin,
		", ") {
		what = c.Setting(name).Origin + ": " + rest
	}
	c.Problems = append(c.Problems, given+c.hide(what))
}

// Warn notes something that works, but probably not as meant.
func (c *Config) Warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

// hide takes passwords out of an error that quotes a value, such as the name of a file
// that is a URL.
func (c *Config) hide(text string) string {
	between := func(r rune) bool { return strings.ContainsRune(",: ", r) }
	for _, s := range c.inForce {
		items := strings.FieldsFunc(s.Value, between) // of any list in it
		for _, part := range append([]string{s.Value}, items...) {
			hidden := redact.URL(part)
			if hidden != part && (part == s.Value || redact.Pasted(part) == "") {
				text = strings.ReplaceAll(text, part, hidden)
			}
		}
	}
	return text
}

// Report prints problems and warnings, one line each.
func (c *Config) Report(w io.Writer) {
	for _, s := range c.Warnings {
		fmt.Fprintln(w, "reverb: warning:", s)
	}
	for _, s := range c.Problems {
		fmt.Fprintln(w, "reverb:", s)
	}
}

// PrintInForce prints every variable that has a value, and where it comes from.
func (c *Config) PrintInForce(w io.Writer) {
	for _, s := range c.inForce {
		fmt.Fprintf(w, "  %-37s %-24s %s\n", s.Name, s.Shown(), s.Origin)
	}
	for _, a := range c.Apps {
		origins := cmp.Or(show.Text(redact.URL(strings.Join(a.AllowedOrigins, ","))), "none")
		fmt.Fprintf(w, "  app %s, key %s: origins %s\n", show.Text(a.ID), show.Text(a.Key), origins)
	}
}

// Set has the variables whose values are no defaults, in the order of the table.
func (c *Config) Set() (all []Setting) {
	for _, s := range c.inForce {
		if s.Origin != "default" {
			all = append(all, s)
		}
	}
	return all
}

// InForceJSON has what PrintInForce prints, for machines.
func (c *Config) InForceJSON() (all []map[string]string) {
	for _, s := range c.inForce {
		all = append(all, map[string]string{"name": s.Name, "value": s.Shown(), "from": s.Origin})
	}
	return all
}
