// Package redact removes passwords from a text that may be a URL or a list of URLs, before people
// see the text, and recognises a secret that was pasted where the name of a file belongs.
package redact

import (
	"fmt"
	"net/url"
	"strings"
)

// mask takes the place of a text that was removed.
const mask = "********"

// URL hides the user and the password of a URL, and its query, which may have a password too. The
// scheme may be missing (user:password@host), and the password may hold characters that RFC 3986
// §3.2.1 forbids there. So URL hides everything up to the last @; in a list, only the last host
// remains. A text without @ and ? stays as it is. Of what Pasted recognises nothing remains.
func URL(s string) string {
	if Pasted(s) != "" {
		return mask
	}
	start := 0
	if i := strings.Index(s, "://"); i >= 0 && isScheme(s[:i]) {
		start = i + len("://")
	}
	rest := s[start:]
	at, width := strings.LastIndexByte(rest, '@'), 1
	if i := strings.LastIndex(rest, "%40"); i > at { // @, percent-encoded
		at, width = i, 3
	}
	query := strings.IndexByte(rest, '?')
	switch {
	case query >= 0 && query < at: // either a password with ?, or a query with @
		return s[:start] + mask
	case at >= 0 && query >= 0:
		return s[:start] + mask + "@" + rest[at+width:query+1] + mask
	case at >= 0:
		return s[:start] + mask + "@" + rest[at+width:]
	case query >= 0:
		return s[:start] + rest[:query+1] + mask
	}
	return s
}

// Parsed is an http URL without its user, password and query. Unlike URL it knows where the host
// ends, so a path may have an @. What is in the path is shown.
func Parsed(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	s := shown.String()
	if u.User != nil {
		s = strings.Replace(s, "://", "://"+mask+"@", 1)
	}
	if u.RawQuery != "" {
		s += "?" + mask
	}
	return s
}

// isScheme says whether s can be a scheme (RFC 3986 §3.1), approximately.
func isScheme(s string) bool {
	return s != "" && strings.Trim(strings.ToLower(s),
		"abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}

// Pasted says what a text holds that can be no name: a private key, a certificate, JSON, several
// lines. It is empty for a text that may be a name, and for an address such as [::1]:80.
func Pasted(s string) string {
	begin := strings.TrimSpace(s)
	switch {
	case strings.Contains(s, "PRIVATE KEY"):
		return "a private key"
	case strings.Contains(s, "-----BEGIN"):
		return "a certificate or a key"
	case strings.HasPrefix(begin, "{"), strings.HasPrefix(begin, "[") &&
		strings.ContainsAny(begin, "{\""):
		return "JSON"
	case strings.ContainsAny(begin, "\r\n"):
		return "several lines"
	}
	return ""
}

// NoName is the error of a value that is no name of a file, but probably what the file should hold.
func NoName(value string) error {
	what := Pasted(value)
	if what == "" {
		return nil
	}
	return fmt.Errorf("the value holds %s, not the name of a file; write it into a file, and name "+
		"the file here", what)
}
