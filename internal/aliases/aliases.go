// Package aliases has the variables of other servers of the Pusher protocol, and what each of them
// means here: those of an application for Pusher, of soketi, and of laravel-websockets; and it
// turns soketi's file of apps into the form of config/reverb.php.
//
// A Table belongs to one server. It finds the value of a variable of ours under the names of that
// server, tells which of the server's variables have no counterpart, and translates an environment.
// The package reads no environment and no file: Lookup does.
package aliases

import (
	"fmt"
	"slices"
	"strings"
)

// Lookup finds a variable that is set and not empty, and where its value stands.
type Lookup func(name string) (value, origin string, ok bool)

// Table has the variables of one server.
type Table struct {
	server string
	rows   []row
	idle   []string // NAME or NAME=value of variables that need no counterpart
}

// row is one variable of the other server. A variable may stand in several rows.
type row struct {
	ours    string
	theirs  string
	convert func(string) (string, error) // nil: the value means the same here
	absent  string                       // the other server's default, where it is not ours
}

// counts says whether a row counts. The address of Pusher itself would be wrong here, and so would
// the port and the scheme that Laravel's .env.example has beside an empty PUSHER_HOST.
func (r row) counts(lookup Lookup) bool {
	if !slices.Contains([]string{"PUSHER_HOST", "PUSHER_PORT", "PUSHER_SCHEME"}, r.theirs) {
		return true
	}
	host, _, set := lookup("PUSHER_HOST")
	return set && host != "pusher.com" && !strings.HasSuffix(host, ".pusher.com")
}

// Setting is the value of a variable of ours.
type Setting struct {
	Value  string
	Origin string // where the value stands, and the other name
	Theirs string // the other name; empty: the value is the other server's default
	Err    error  // why the value means nothing here
}

// Of returns the table of a server: pusher, soketi or websockets. It is nil for another name.
func Of(server string) *Table {
	switch server {
	case "pusher":
		return &Table{server: server, rows: pusher()}
	case "soketi":
		return &Table{server: server, rows: soketi(), idle: soketiIdle}
	case "websockets":
		return &Table{server: server, rows: append(pusher(), websockets()...)}
	}
	return nil
}

// Credentials are the variables of an app that a table must have all of: an app that is made of
// parts of two is wrong.
func Credentials() []string {
	return []string{"REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET"}
}

// Find finds the value of a variable of ours. Where the other server's variable is not set, its
// default counts if it is not ours.
func (t *Table) Find(ours string, lookup Lookup) (s Setting, ok bool) {
	for _, r := range t.rows {
		if r.ours != ours || !r.counts(lookup) {
			continue
		}
		value, origin, set := lookup(r.theirs)
		if !set && r.absent == "" {
			continue
		}
		if !set {
			return Setting{Value: r.absent, Origin: "default of " + t.server}, true
		}
		s = Setting{Value: value, Origin: origin + ", " + r.theirs, Theirs: r.theirs}
		if r.convert != nil {
			s.Value, s.Err = r.convert(value)
		}
		return s, s.Value != "" || s.Err != nil
	}
	return s, false
}

// Unknown returns those of the names that look like the server's and have no counterpart, in
// order. A variable that asks for nothing, or for what is always so here, is not among them.
func (t *Table) Unknown(names []string, lookup Lookup) (unknown []string) {
	prefix := strings.ToUpper(t.server) + "_"
	for _, name := range names {
		value, _, set := lookup(name)
		known := slices.ContainsFunc(t.rows, func(r row) bool {
			return r.theirs == name && r.counts(lookup)
		}) ||
			slices.Contains(t.idle, name) || slices.Contains(t.idle, name+"="+value)
		if set && strings.HasPrefix(name, prefix) && !known {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return slices.Compact(unknown)
}

// Translate returns the lines of .env that mean here what the environment means for the server.
// What has no counterpart is a comment. There are no lines if the environment has no variable of
// the server.
func (t *Table) Translate(names []string, lookup Lookup) (lines []string) {
	var done []string
	if !slices.ContainsFunc(t.rows, func(r row) bool {
		_, _, set := lookup(r.theirs)
		return set
	}) && len(t.Unknown(names, lookup)) == 0 {
		return nil
	}
	for _, r := range t.rows {
		s, ok := t.Find(r.ours, lookup)
		if !ok || slices.Contains(done, r.ours) {
			continue
		}
		done = append(done, r.ours)
		if s.Err != nil {
			lines = append(lines, fmt.Sprintf("# %s: %v", s.Theirs, s.Err))
			continue
		}
		lines = append(lines, r.ours+"="+quoted(s.Value))
	}
	for _, name := range t.Unknown(names, lookup) {
		lines = append(lines, "# "+name+" has no counterpart")
	}
	return lines
}

// quoted writes a value so that Laravel's .env gives it back.
func quoted(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,:/*"
	switch {
	case strings.Trim(s, plain) == "":
		return s
	case !strings.ContainsAny(s, "'"):
		return "'" + s + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "\n", `\n`).Replace(s) + `"`
}
