package hooks

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"reverb/internal/hookevents"
	"reverb/internal/lib/destinations"
	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/nearest"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
	"reverb/internal/webhooks"
)

// --- Parts, also of variables ---

// ParseURL judges where requests are sent to. The error does not show a password or a query.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil: // its text has the URL
		return nil, errors.New("not a URL; give one such as https://app.example/webhooks")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, fmt.Errorf("%s is not an http or https URL, such as "+
			"https://app.example/webhooks", show.Quoted(redact.URL(text)))
	}
	if _, port, _ := strings.Cut(u.Host[strings.LastIndexByte(u.Host, ']')+1:], ":"); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65_535 {
			return nil, fmt.Errorf("%s has a port that is not from 1 to 65535",
				show.Quoted(redact.Parsed(u)))
		}
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// Guard judges where requests go to. Its error names the variable that allows an address, if one
// does.
func Guard(linkLocal bool) destinations.Guard {
	return destinations.Guard{LinkLocal: linkLocal,
		Advice: "REVERB_WEBHOOK_ALLOW_LINK_LOCAL=true allows it"}
}

// JudgeAddress says why every request to a URL would be refused. For a URL with a name there is no
// error, since DNS decides at each request, and none without a URL.
func JudgeAddress(u *url.URL, linkLocal bool) error {
	if u == nil {
		return nil
	}
	to, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil
	}
	return Guard(linkLocal).Check(to)
}

// ParseProxy reads the URL of a proxy. The error does not show it.
func ParseProxy(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("not the URL of a proxy, such as http://proxy.example:3128")
	}
	return u, nil
}

// ParseKinds makes a set of the names that Pusher gives to kinds. No names are DefaultKinds.
func ParseKinds(names []string) (set webhooks.Kinds, err error) {
	var known []string
	for k := webhooks.Kind(0); k <= webhooks.SubscriptionCount; k++ {
		known = append(known, k.String())
	}
	for _, name := range names {
		i := slices.Index(known, strings.TrimSpace(name))
		if i < 0 {
			meant := nearest.Guess(name, known)
			if meant != "" {
				meant = "; is " + meant + " meant?"
			}
			return 0, fmt.Errorf("%s is not one of %s%s", show.Quoted(name),
				strings.Join(known, ", "), meant)
		}
		set |= webhooks.KindsOf(webhooks.Kind(i))
	}
	if set == 0 {
		set = hookevents.DefaultKinds
	}
	return set, nil
}

// ParseHeaders reads a JSON object of headers, whose values are texts. Errors show no value.
func ParseHeaders(b []byte) (http.Header, error) {
	headers := http.Header{}
	if isEmptyList(b) {
		return headers, nil
	}
	var bad error
	if jsonraw.Object(b, func(key, value []byte) {
		name := http.CanonicalHeaderKey(string(key))
		text, ok := jsonraw.Scalar(value)
		switch quoted := show.Quoted(string(key)); {
		case bad != nil:
		case !isToken(name):
			bad = fmt.Errorf("%s is not the name of a header", quoted)
		case isOurs(name):
			bad = fmt.Errorf("%s cannot be set: the server or HTTP sets it", quoted)
		case headers[name] != nil:
			bad = fmt.Errorf("%s is there twice", quoted)
		case !ok, strings.ContainsFunc(text, isControl), len(text) > maxHeaderBytes:
			bad = fmt.Errorf("the value of %s is not a text in one line of at most %d bytes",
				quoted, maxHeaderBytes)
		case len(headers) == maxHeaders:
			bad = fmt.Errorf("more than %d headers", maxHeaders)
		default:
			headers[name] = []string{text}
		}
	}) != nil {
		bad = errors.New(`not an object of headers, such as {"Authorization":"Bearer …"}`)
	}
	return headers, bad
}

// isToken says whether a text can be the name of a header (RFC 9110 §5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}

// isControl says whether a character must not stand in the value of a header (RFC 9110 §5.5).
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// isOurs says whether a header belongs to the form, or to the connection (RFC 9110 §7.6.1).
func isOurs(name string) bool {
	return strings.HasPrefix(name, "Content-") || strings.HasPrefix(name, "X-Pusher-") ||
		strings.HasPrefix(name, "Proxy-") || strings.HasPrefix(name, "X-Reverb-") ||
		slices.Contains([]string{"Host", "Transfer-Encoding", "Connection", "Keep-Alive", "Te",
			"Trailer", "Upgrade", "Expect"}, name)
}
