package hooks

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
	"reverb/internal/webhooks"
)

const (
	// maxToldLines bounds the lines of Told, and maxToldApps the apps that a line names. Larger:
	// the log of a start is longer. Smaller: it says less.
	maxToldLines = 16
	maxToldApps  = 8
)

// Told says which events of which apps go where: a line for each destination and choice of events.
// onto is said of the Laravel queue.
func Told(apps iter.Seq2[string, []*webhooks.Hook], onto string) (lines []string) {
	var order []string
	of := map[string][]string{} // IDs of apps
	for id, all := range apps {
		for _, h := range all {
			to := onto
			if h.URL != nil {
				to = "are posted to " + show.Text(redact.Parsed(h.URL))
			}
			to += ": " + choice(h)
			if id = show.Text(id); of[to] == nil {
				order = append(order, to)
			}
			if !slices.Contains(of[to], id) { // two URLs can differ in what is hidden
				of[to] = append(of[to], id)
			}
		}
	}
	for i, to := range order {
		if i == maxToldLines {
			return append(lines, fmt.Sprintf("events go to %d other places", len(order)-i))
		}
		ids, word, more := of[to], "app", ""
		if len(ids) > maxToldApps {
			more = fmt.Sprintf(" and %d more", len(ids)-maxToldApps)
			ids = ids[:maxToldApps]
		}
		if len(ids) > 1 {
			word = "apps"
		}
		lines = append(lines, "events of the "+word+" "+strings.Join(ids, ", ")+more+" "+to)
	}
	return lines
}

// choice says which events a hook is told, and of which channels.
func choice(h *webhooks.Hook) string {
	var names []string
	for k := webhooks.Kind(0); k <= webhooks.SubscriptionCount; k++ {
		if h.Kinds.Has(k) {
			names = append(names, k.String())
		}
	}
	s := strings.Join(names, ", ")
	if h.Prefix != "" {
		s += ", of channels that begin with " + show.Text(h.Prefix)
	}
	if h.Suffix != "" {
		s += ", of channels that end with " + show.Text(h.Suffix)
	}
	return s
}

// Idle warns of variables that mean nothing, because what they describe is not there. set says
// whether a variable has a value. queue says that there is a Laravel queue.
func Idle(set func(name string) bool, queue bool) (warnings []string) {
	idle := func(of string, names ...string) {
		for _, name := range names {
			if set(name) && !set(of) {
				warnings = append(warnings, name+" means nothing without "+of)
			}
		}
	}
	if !queue {
		idle("REVERB_WEBHOOK_URL", "REVERB_WEBHOOK_EVENTS", "REVERB_WEBHOOK_CHANNEL_PREFIX",
			"REVERB_WEBHOOK_CHANNEL_SUFFIX", "REVERB_WEBHOOK_TIMEOUT")
	}
	idle("REVERB_WEBHOOK_URL", "REVERB_WEBHOOK_HEADERS")
	idle("REVERB_LARAVEL_QUEUE", "REVERB_LARAVEL_LISTENER", "REVERB_LARAVEL_QUEUE_MAX")
	return warnings
}
