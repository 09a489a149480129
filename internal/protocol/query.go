package protocol

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"reverb/internal/lib/show"
)

// --- Parameters of requests ---

// param is one parameter, decoded. The names name[0], name[1] and name[] are the
// elements of one list, the value of name.
type param struct {
	names [3]string // by nameForm
	value string
}

// nameForm is a form in which libraries sign the name of a parameter.
type nameForm int

const (
	// nameLower is the name in lower case; a list is joined by commas. It is the form of Pusher's
	// specification, and that of Get.
	nameLower nameForm = iota
	// nameAsIs is the name as it came; a list is joined by commas. It is the form of
	// pusher-http-php (Reverb: src/Protocols/Pusher/Http/Controllers/Controller.php).
	nameAsIs
	// nameSent is the name with its brackets; a list is several parameters. It is the form of
	// pusher-signature, in Ruby.
	nameSent
)

// Params are the parameters of a request. No two of them are the same, see add.
type Params []param

// ParseQuery decodes the query of a request and adds its parameters to q, in the memory of q. A
// semicolon is a character like any other: names of channels may have it, and not every library
// escapes it. The error has one line and may be shown.
func ParseQuery(q Params, raw string) (Params, error) {
	for n := 0; raw != ""; {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		if n++; n > maxParameters {
			return q, fmt.Errorf("more than %d parameters", maxParameters)
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		err := cmp.Or(err1, err2)
		if err == nil {
			q, err = q.add(name, value)
		}
		if err != nil {
			return q, err
		}
	}
	return q, nil
}

// add adds a parameter. If two names are spelled alike, the last one counts, as in PHP; the
// elements of a list keep their order. Two spellings of one name are an error: the signature could
// cover the one, and Get find the other. A character that separates parameters is an error too. The
// text that is signed escapes nothing, so the signature of a=1&b=2 would be right for a=1%26b%3D2.
func (q Params) add(name, value string) (Params, error) {
	if i := strings.IndexAny(name, "&="); i >= 0 {
		return q, fmt.Errorf("the name of the parameter %s has a %c", show.Quoted(name), name[i])
	}
	if strings.Contains(value, "&") {
		return q, fmt.Errorf("the value of the parameter %s has a &", show.Quoted(name))
	}
	plain := cutBrackets(name)
	p := param{[...]string{strings.ToLower(plain), plain, name}, value}
	for i := range q {
		switch old := &q[i].names; {
		case old[nameSent] == name && !strings.HasSuffix(name, "[]"):
			q[i].value = value
			return q, nil
		case old[nameLower] == p.names[nameLower] &&
			(old[nameAsIs] != plain || (old[nameSent] == plain) != (name == plain)):
			return q, fmt.Errorf("%s and %s are one parameter", show.Quoted(old[nameSent]),
				show.Quoted(name))
		}
	}
	return append(q, p), nil
}

// cutBrackets returns info for info[0] and info[]. A name that is not an element of a list stays as
// it is.
func cutBrackets(name string) string {
	if i := strings.IndexByte(name, '['); i > 0 &&
		strings.IndexAny(name[i+1:], "[]") == len(name)-i-2 && name[len(name)-1] == ']' {
		return name[:i]
	}
	return name
}

// Get is the value of a parameter by its name in lower case; empty if there is none.
func (q Params) Get(name string) (value string) {
	found := false
	for i := range q {
		switch {
		case q[i].names[nameLower] != name:
		case found:
			value += "," + q[i].value
		default:
			value, found = q[i].value, true
		}
	}
	return value
}

// spelled says whether a form of the names differs from the form before it.
func (q Params) spelled(form nameForm) bool {
	return slices.ContainsFunc(q, func(p param) bool { return p.names[form] != p.names[form-1] })
}

// setText sets s.text to the text that the signature of a request covers: the method, the path and
// all parameters but the signature, decoded, sorted by name. It sorts query.
func (s *signer) setText(method, prefix, path string, query Params, form nameForm) {
	// The order is that of names, not of lines: "a-b=" comes before "a=" as a line, after it as a
	// name.
	// Parameters are few, and mostly in order already; parameters of one name keep their order.
	for i := range query {
		for j := i; j > 0 && query[j].names[form] < query[j-1].names[form]; j-- {
			query[j], query[j-1] = query[j-1], query[j]
		}
	}
	s.text = append(append(append(append(append(s.text[:0], strings.ToUpper(method)...), '\n'),
		prefix...), path...), '\n')
	last, from := "", len(s.text)
	for i := range query {
		p := &query[i]
		name := p.names[form]
		if p.names[nameLower] == "auth_signature" {
			continue
		}
		if form != nameSent && name == last && len(s.text) > from { // the next element of a list
			s.text = append(append(s.text, ','), p.value...)
			continue
		}
		if len(s.text) > from {
			s.text = append(s.text, '&')
		}
		s.text = append(append(append(s.text, name...), '='), p.value...)
		last = name
	}
}

// StringToSign is the text that Pusher's specification signs. It sorts query.
func StringToSign(method, path string, query Params) string {
	var s signer
	s.setText(method, "", path, query, nameLower)
	return string(s.text)
}

// --- Paths of requests ---

// RequestPath is the path of a request of the HTTP API, in the forms that the sender may have
// signed.
type RequestPath struct {
	Prefix string // of the server: empty, or with a slash in front
	// Rest follows the prefix. It is escaped as it came, with one slash in front and valid escapes.
	Rest string
	Sent string // the whole path as it came
}

// more lists the rarer forms of the path. It is decoded when a library leaves the escaping to its
// HTTP client. It is escaped when a proxy on the way has unescaped it. It has more slashes when the
// sender has put them there. These forms serve signatures only: Rest says what a request is about.
func (p *RequestPath) more() []string {
	forms := []string{p.Rest, p.Prefix + p.Rest}
	add := func(form string) {
		if !slices.Contains(forms, form) {
			forms = append(forms, form)
		}
	}
	add(p.Sent)
	parts := strings.Split(p.Rest, "/")
	for i, part := range parts {
		part, _ = url.PathUnescape(part) // Rest has valid escapes
		parts[i] = strings.ReplaceAll(url.QueryEscape(part), "+", "%20")
	}
	escaped := strings.Join(parts, "/")
	add(escaped)
	add(p.Prefix + escaped)
	// A text that can be decoded once more belongs to another request. So does a text that holds
	// a line feed, which stands between the path and the parameters.
	decoded, _ := url.PathUnescape(p.Rest)
	if again, err := url.PathUnescape(decoded); (err != nil || again == decoded) &&
		!strings.Contains(decoded, "\n") {
		add(decoded)
		add(p.Prefix + decoded)
	}
	return forms[2:]
}
