// Package dotenv reads .env files as Laravel does (vlucas/phpdotenv 5): one NAME=value a line, with
// comments, three forms of quoting, values of several lines, and ${NAME}.
package dotenv

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Entry is one NAME=value. Line is the line on which the entry begins, counted from 1.
type Entry struct {
	Name, Value string
	Line        int
}

// Error says which line cannot be read, and why. It never quotes a value, or a text that may be
// one: the second line of a secret without quotes, or NAME: value.
type Error struct {
	Line   int
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// Parse reads a file. lookup is the real environment. ${NAME} is replaced by the value in the
// environment, or else by that of an earlier line; an unknown name stays as it is. If a name occurs
// twice, the last one counts.
func Parse(text string, lookup func(name string) (string, bool)) ([]Entry, error) {
	p := parser{rest: lineEnds.Replace(strings.TrimPrefix(text, "\ufeff")), line: 1, lookup: lookup,
		seen: map[string]string{}}
	var entries []Entry
	for p.rest != "" {
		e, ok, err := p.entry()
		if err != nil {
			return nil, err
		}
		if ok {
			p.seen[e.Name] = e.Value
			entries = append(entries, e)
		}
		if p.size += len(e.Value); p.size > maxValues {
			return nil, p.fail(e.Line, "the values up to here are larger than %d bytes", maxValues)
		}
	}
	return entries, nil
}

// Quote writes a value in a form that Parse and phpdotenv read as the same value. It adds quotes
// only where the value needs them.
func Quote(value string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("_-+/:=.,@*", r)
	}
	switch {
	case strings.TrimFunc(value, plain) == "":
		return value
	case !strings.ContainsAny(value, "'\n\r"):
		return "'" + value + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "\n", `\n`, "\r", `\r`).
		Replace(value) + `"`
}

// lineEnds replaces every end of a line by a line feed. A carriage return alone ends a line too, as
// in phpdotenv (src/Parser/Parser.php), also inside quotes.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// maxValues bounds the bytes of all values together. Without a bound, ${NAME} in a few lines, each
// twice the line before, could take all memory; a much smaller one would refuse a file with
// certificates.
const maxValues = 4 << 20

// maxName bounds the bytes of ${NAME}; a longer one is not replaced. Larger: a file of nothing but
// dollar signs takes longer to read. Smaller: a long name is not replaced.
const maxName = 1 << 10

type parser struct {
	rest   string // not read yet
	size   int    // bytes of the values so far
	line   int    // the line on which rest begins
	lookup func(string) (string, bool)
	seen   map[string]string
}

func (p *parser) fail(line int, format string, args ...any) error {
	return &Error{line, fmt.Sprintf(format, args...)}
}

// take removes n bytes from rest and keeps count of the lines.
func (p *parser) take(n int) string {
	s := p.rest[:n]
	p.rest = p.rest[n:]
	p.line += strings.Count(s, "\n")
	return s
}

func (p *parser) restOfLine() string {
	n := strings.IndexByte(p.rest, '\n')
	if n < 0 {
		return p.take(len(p.rest))
	}
	return strings.TrimSuffix(p.take(n+1), "\n")
}

// entry reads one line, or more if a quoted value has more. ok is false for blank lines, comments
// and names without a value.
func (p *parser) entry() (e Entry, ok bool, err error) {
	line := p.line
	end := strings.IndexByte(p.rest, '\n')
	if end < 0 {
		end = len(p.rest)
	}
	head := p.rest[:end]
	trimmed := strings.TrimSpace(head)
	if trimmed == "" || trimmed[0] == '#' {
		p.restOfLine()
		return e, false, nil
	}
	name, _, hasValue := strings.Cut(head, "=")
	name = strings.TrimSpace(name)
	if rest, exported := strings.CutPrefix(name, "export "); exported {
		name = strings.TrimSpace(rest)
	}
	if len(name) >= 2 && (name[0] == '"' || name[0] == '\'') && name[len(name)-1] == name[0] {
		name = name[1 : len(name)-1]
	}
	if !validName(name) {
		return e, false, p.fail(line, "%s", whyNoName(head))
	}
	if !hasValue {
		p.restOfLine() // a name without a value
		return e, false, nil
	}
	p.take(strings.IndexByte(p.rest, '=') + 1)
	value, err := p.value(name)
	return Entry{name, value, line}, err == nil, err
}

// whyNoName says what is wrong with a line that does not begin with a name.
func whyNoName(line string) string {
	has := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes,
			func(p string) bool { return strings.HasPrefix(line, p) })
	}
	switch {
	case has("\xff\xfe", "\xfe\xff"):
		return "the file is UTF-16; save it as UTF-8"
	case has("<<<<<<<", "=======", ">>>>>>>"):
		return "a merge conflict is not resolved"
	}
	return "what begins it is not a name; a line is NAME=value"
}

// validName says whether s is a name: letters of any alphabet, digits, and _ . -
func validName(s string) bool {
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) &&
			!strings.ContainsRune("_.-", r) {
			return false // also bytes that are not UTF-8
		}
	}
	return s != ""
}

// value reads the text after the equals sign, to the end of its last line.
func (p *parser) value(name string) (string, error) {
	n := len(p.rest) - len(strings.TrimLeft(p.rest, " \t\v\f\r"))
	p.take(n)
	if p.rest == "" {
		return "", nil
	}
	var b strings.Builder
	switch p.rest[0] {
	case '\'':
		return p.single(name)
	case '"':
		return p.double(name)
	}
	line := p.line
	text := strings.TrimRight(p.restOfLine(), " \t\v\f\r")
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '#':
			return b.String(), nil
		case ' ', '\t', '\v', '\f', '\r':
			if strings.HasPrefix(strings.TrimLeft(text[i:], " \t\v\f\r"), "#") {
				return b.String(), nil
			}
			return "", p.fail(line, "the value of %s holds a space; put it in quotes: %s=\"...\"",
				name, name)
		case '$':
			n := p.variable(&b, text[i:])
			i += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// single reads a value in single quotes, which has no escapes.
func (p *parser) single(name string) (string, error) {
	line := p.line
	end := strings.IndexByte(p.rest[1:], '\'')
	if end < 0 {
		return "", p.fail(line, "the value of %s has no closing quote", name)
	}
	value := p.take(end + 2)
	return value[1 : len(value)-1], p.endOfQuoted(name)
}

// double reads a value in double quotes: escapes and ${NAME} are replaced.
func (p *parser) double(name string) (string, error) {
	line := p.line
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '"':
			p.take(i + 1)
			return b.String(), p.endOfQuoted(name)
		case '\\':
			i++
			if i == len(p.rest) {
				break
			}
			at := strings.IndexByte(`"\$fnrtv`, p.rest[i])
			if at < 0 {
				return "", p.fail(line,
					"the value of %s holds an unknown escape; write \\\\ for a backslash", name)
			}
			b.WriteByte("\"\\$\f\n\r\t\v"[at])
		case '$':
			n := p.variable(&b, p.rest[i:])
			i += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail(line, "the value of %s has no closing quote", name)
}

// endOfQuoted reads the rest of the line after a closing quote, which is empty or a comment.
func (p *parser) endOfQuoted(name string) error {
	line := p.line
	if rest := strings.TrimSpace(p.restOfLine()); rest != "" && rest[0] != '#' {
		return p.fail(line, "something follows the closing quote of %s", name)
	}
	return nil
}

// variable appends the value of the ${NAME} at the start of s, and returns how many bytes of s it
// took. A dollar sign without a name is itself.
func (p *parser) variable(b *strings.Builder, s string) int {
	if strings.HasPrefix(s, "${") {
		end := strings.IndexByte(s[:min(len(s), maxName)], '}')
		if end > 0 && validName(s[2:end]) {
			name := s[2:end]
			value, ok := p.lookup(name)
			if !ok {
				value, ok = p.seen[name]
			}
			if !ok {
				value = s[:end+1]
			}
			if p.size += len(value); p.size <= maxValues { // else Parse fails
				b.WriteString(value)
			}
			return end + 1
		}
	}
	b.WriteByte('$')
	return 1
}

// Value applies the rules of Laravel's env() to a value from a file or the environment. null says
// that the value means null, which differs from empty.
func Value(s string) (value string, null bool) {
	switch strings.ToLower(s) {
	case "true", "(true)":
		return "true", false
	case "false", "(false)":
		return "false", false
	case "empty", "(empty)":
		return "", false
	case "null", "(null)":
		return "", true
	}
	if n := len(s); n >= 2 && (s[0] == '"' || s[0] == '\'') && s[n-1] == s[0] {
		return s[1 : n-1], false
	}
	return s, false
}
