// Package hooks is what an operator has set of webhooks, what is wrong with it, and what is said of
// it: an address, the names of events, headers, and webhooks of an app in the JSON of apps. It
// keeps nothing, and Check alone sends anything. No text shows a secret. Package webhooks does what
// is set.
//
// Files:
//
//	hooks.go  this contract; webhooks of an app
//	parts.go  what a variable can have, too
//	words.go  what a start says of it
//	check.go  what reverb check does with it
package hooks

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverb/internal/hookevents"
	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/nearest"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
	"reverb/internal/webhooks"
)

const (
	// DefaultTimeout is how long a request may take if nothing else is set. Larger: a receiver that
	// hangs holds up its events for longer. Smaller: slow applications get requests twice.
	DefaultTimeout = 5 * time.Second
	// MaxTimeout bounds what can be set.
	MaxTimeout = time.Minute
	// MaxGrace bounds the grace of an app. Larger: a user who has gone counts as online for longer
	// than anybody would believe. Smaller: applications with slow page changes cannot hide them.
	MaxGrace = time.Minute
	// maxHooks bounds the hooks of an app: each has a queue, and each event is queued for all that
	// want it. Larger: an event costs more. Smaller: an app has to pass events on itself.
	maxHooks = 16
	// maxHeaders and maxHeaderBytes bound the headers of a hook and the text of one. Larger:
	// servers refuse the request. Smaller: long tokens do not fit.
	maxHeaders     = 32
	maxHeaderBytes = 4 << 10
)

// Settings are what webhooks says in the JSON of an app.
type Settings struct {
	// Hooks have URLs. nil: nothing is said of webhooks; empty: there is a list, and nothing in it.
	Hooks []*webhooks.Hook
	// Grace is disconnect_smoothing_ms; nil: it is not there.
	Grace *time.Duration
	// Problems must be solved before the app can be served; Warnings need not. Each is one line
	// that begins with the key. None shows a value that may be a secret.
	Problems, Warnings []string
}

// ParseSettings reads webhooks in three spellings: that of Hypervel, one object; and those of
// soketi and sockudo, a list of objects, also as JSON in a string. b is valid JSON.
//
//	{"url":"…","events":["…"],"headers":{},"subscription_count":true,"timeout":5,
//	 "disconnect_smoothing_ms":3000,"enabled":true,"filter":{"channel_name_starts_with":"…",
//	 "channel_name_ends_with":"…"}}
//	[{"url":"…","event_types":["…"],"headers":{},"filter":{"channel_name_starts_with":"…"}}]
//	[{"url":"…","event_types":["…"],"request_timeout_ms":5000,"filter":{"channel_prefix":"…"}}]
//
// Any key may stand in any of them; a key that is none of them is a problem, since it may have been
// meant to choose what is told. Without events, and with an empty list, DefaultKinds are told.
// "enabled":false turns a hook off, as if it were not in the list. An empty string, which soketi's
// databases have, is a list without webhooks.
func ParseSettings(b []byte) (s Settings) {
	if text, ok := jsonraw.String(b); ok {
		if b = []byte(text); text == "" {
			b = []byte("[]")
		} else if jsonraw.Check(b) != nil {
			s.Problems = []string{"webhooks: the text is not JSON"}
			return s
		}
	}
	switch {
	case string(b) == "null":
	case isOne(b):
		switch r, off := s.read("webhooks", b); { // Hypervel's url is null until it is set
		case off:
			s.Hooks = []*webhooks.Hook{}
		case r.URL != nil:
			s.Hooks = append(s.Hooks, r)
		case len(s.Problems) == 0 && (r.Kinds != hookevents.DefaultKinds || len(r.Headers) > 0 ||
			r.Prefix+r.Suffix != ""):
			s.warn("webhooks.url", "missing, so the other keys mean nothing; REVERB_WEBHOOK_URL "+
				"counts if it is set")
		}
	default:
		n := 0
		s.Hooks = []*webhooks.Hook{}
		if jsonraw.List(b, func(value []byte) {
			key, before := fmt.Sprintf("webhooks[%d]", n), len(s.Problems)
			switch r, off := s.read(key, value); {
			case off:
			case r.URL != nil:
				s.Hooks = append(s.Hooks, r)
			case len(s.Problems) == before:
				s.bad(key+".url", "missing")
			}
			n++
		}) != nil {
			s.bad("webhooks", "neither an object with url nor a list of such objects")
		}
	}
	s.compare()
	return s
}

// isOne says whether b is one hook, and not a list, which PHP writes as {"0":…} at times.
func isOne(b []byte) bool {
	one := true
	err := jsonraw.Object(b, func(key, _ []byte) {
		one = one && (len(key) == 0 || len(bytes.Trim(key, "0123456789")) > 0)
	})
	return err == nil && one
}

// compare judges what the hooks have together.
func (s *Settings) compare() {
	if len(s.Hooks) > maxHooks {
		s.bad("webhooks", "%d URLs, at most %d can be told", len(s.Hooks), maxHooks)
	}
	seen := map[string]bool{}
	for _, h := range s.Hooks {
		if seen[h.URL.String()] {
			s.bad("webhooks", "%s is there twice; an app has each URL once",
				show.Quoted(redact.Parsed(h.URL)))
		}
		seen[h.URL.String()] = true
	}
}

func (s *Settings) bad(key, format string, args ...any) {
	s.Problems = append(s.Problems, key+": "+fmt.Sprintf(format, args...))
}

func (s *Settings) warn(key, text string) { s.Warnings = append(s.Warnings, key+": "+text) }

// supported are the keys of a hook. A few more are known to mean nothing here, see read.
func supported() []string {
	return []string{"url", "events", "event_types", "headers", "filter", "subscription_count",
		"timeout", "request_timeout_ms", "disconnect_smoothing_ms", "enabled"}
}

// read reads one hook, which may be turned off. Its URL is nil if there is none.
func (s *Settings) read(at string, b []byte) (h *webhooks.Hook, off bool) {
	h = &webhooks.Hook{Kinds: hookevents.DefaultKinds, Timeout: DefaultTimeout}
	counts, spelt := false, spellings{}
	if jsonraw.Object(b, func(k, value []byte) {
		key := at + "." + show.Text(string(k))
		if string(value) == "null" {
			return
		}
		switch string(k) {
		case "url":
			s.url(key, value, h)
		case "events", "event_types":
			s.once(spelt, "events", key)
			s.kinds(key, value, h)
		case "subscription_count":
			counts = s.yes(key, value)
		case "enabled":
			off = !s.yes(key, value)
		case "headers":
			headers, err := ParseHeaders(value)
			if h.Headers = headers; err != nil {
				s.bad(key, "%v", err)
			}
		case "filter":
			s.filter(key, value, h)
		case "timeout":
			s.once(spelt, "timeout", key)
			s.time(key, value, time.Second, time.Second, MaxTimeout, &h.Timeout)
		case "request_timeout_ms":
			s.once(spelt, "timeout", key)
			s.time(key, value, time.Millisecond, time.Millisecond, MaxTimeout, &h.Timeout)
		case "disconnect_smoothing_ms":
			var grace time.Duration
			s.time(key, value, time.Millisecond, 0, MaxGrace, &grace)
			if s.Grace != nil && *s.Grace != grace {
				s.warn(key, fmt.Sprintf("%v counts, not the %v before it: an app has one grace",
					grace, *s.Grace))
			}
			s.Grace = &grace
		case "retries", "retry_delay", "retry":
			s.warn(key, "means nothing here: a request is tried again for 5 minutes")
		case "batching":
			s.warn(key, "means nothing here: events that wait for a request travel together")
		case "lambda", "lambda_function":
			s.bad(key, "AWS Lambda functions cannot be called; give a url")
		default:
			s.unknown(key, string(k))
		}
	}) != nil {
		s.bad(at, "not an object with url")
	}
	if counts {
		h.Kinds |= webhooks.KindsOf(webhooks.SubscriptionCount)
	}
	return h, off
}

// unknown refuses a key that no spelling has. at is where it stands.
func (s *Settings) unknown(at, key string) {
	meant := nearest.Guess(key, supported())
	if meant != "" {
		meant = "; is " + meant + " meant?"
	}
	s.bad(at, "is not supported; %s are%s", strings.Join(supported(), ", "), meant)
}

// yes reads true or false.
func (s *Settings) yes(key string, value []byte) bool {
	yes, ok := jsonraw.YesNo(value)
	if !ok {
		s.bad(key, "neither true nor false")
	}
	return yes
}

// spellings are the keys under which a hook has something that has several names.
type spellings map[string]string

// once says that what a key is stands there already under another name: neither may win silently.
func (s *Settings) once(spelt spellings, what, key string) {
	if before, there := spelt[what]; there && before != key {
		s.bad(key, "means the same as %s; give one of them", before)
	}
	spelt[what] = key
}

// url reads an address. An empty one is none.
func (s *Settings) url(key string, value []byte, h *webhooks.Hook) {
	text, ok := jsonraw.String(value)
	if text == "" && ok {
		return
	}
	u, err := ParseURL(text)
	if h.URL = u; err != nil {
		s.bad(key, "%v", err)
	}
}

func (s *Settings) kinds(key string, value []byte, h *webhooks.Hook) {
	var names []string
	if jsonraw.List(value, func(v []byte) {
		name, _ := jsonraw.String(v)
		names = append(names, name)
	}) != nil {
		s.bad(key, "not a list of names")
		return
	}
	set, err := ParseKinds(names)
	if err != nil {
		s.bad(key, "%v", err)
	} else {
		h.Kinds = set
	}
}

// filter reads which channels are told.
func (s *Settings) filter(key string, value []byte, h *webhooks.Hook) {
	if isEmptyList(value) {
		return
	}
	spelt := spellings{}
	if jsonraw.Object(value, func(k, v []byte) {
		text, ok := jsonraw.String(v)
		switch at := key + "." + show.Text(string(k)); {
		case string(v) == "null", ok && text == "":
		case slices.Contains([]string{"channel_name_starts_with", "channel_prefix"}, string(k)):
			s.once(spelt, "prefix", at)
			if h.Prefix = text; !ok {
				s.bad(at, "not a text")
			}
		case slices.Contains([]string{"channel_name_ends_with", "channel_suffix"}, string(k)):
			s.once(spelt, "suffix", at)
			if h.Suffix = text; !ok {
				s.bad(at, "not a text")
			}
		case isEmptyList(v):
		default: // what is left out by mistake would tell of channels that nobody may hear of
			s.bad(at, "is not supported; channel_prefix and channel_suffix are")
		}
	}) != nil {
		s.bad(key, "not an object with channel_prefix or channel_suffix")
	}
}

// time reads a whole number of units from lo to hi.
func (s *Settings) time(key string, value []byte, unit, lo, hi time.Duration, to *time.Duration) {
	text, _ := jsonraw.Scalar(value)
	n, err := strconv.ParseInt(text, 10, 32)
	if d := time.Duration(n) * unit; err != nil || d < lo || d > hi {
		s.bad(key, "not a whole number from %d to %d", lo/unit, hi/unit)
	} else {
		*to = d
	}
}

// isEmptyList says whether a value is [], in which form PHP also writes an object without members.
func isEmptyList(value []byte) bool {
	empty := true
	return jsonraw.Array(value, func([]byte) { empty = false }) == nil && empty
}
