package admin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"reverb/internal/lib/metrics"
	"reverb/internal/lib/show"
	"reverb/internal/lib/tallies"
)

// Spool says how the folder fares that keeps what webhooks a crash would lose.
type Spool struct {
	Bytes   int64 // of its file; a gauge
	Cut     int64 // bytes that were cut away at the start
	Damaged bool  // they were more than what a crash leaves
	Errors  int64
	Failing bool  // nothing is kept
	Dropped int64 // events and entries that were not kept
}

// writeSpool writes the metrics of the spool.
func writeSpool(m *metrics.Writer, s *Spool) {
	writeAll(m, []figure{
		{"webhook_spool_bytes", "gauge", "Size of the file of the spool.", float64(s.Bytes)},
		{"webhook_spool_failing", "gauge", "Whether the spool cannot be written.",
			number(s.Failing)},
		{"webhook_spool_cut_bytes", "gauge", "Bytes that were cut away when the spool was opened.",
			float64(s.Cut)},
		{"webhook_spool_damaged", "gauge", "Whether they were more than what a crash leaves.",
			number(s.Damaged)},
		{"webhook_spool_errors_total", "counter", "Failures to write the spool.",
			float64(s.Errors)},
		{"webhook_spool_dropped_total", "counter", "Events that the spool could not keep, and " +
			"what it had of apps and URLs that are configured no more.", float64(s.Dropped)},
	})
}

// Webhooks says in a line how the webhooks of all apps stand, those for URLs and those for the
// Laravel queue apart; empty: no app has any.
func (s *Snapshot) Webhooks(now time.Time) string {
	var words []string
	for _, v := range [][2]string{{"url", "URLs of %d hosts"}, {"queue", "%d queues"}} {
		kind := v[0]
		var sum tallies.Figures
		to := map[string]bool{}
		for i := range s.Apps {
			for j := range s.Apps[i].Hooks {
				if f := &s.Apps[i].Hooks[j]; f.Kind == kind {
					sum.Add(f)
					to[f.To] = true
				}
			}
		}
		if len(to) == 0 {
			continue
		}
		name := fmt.Sprintf(v[1], len(to))
		for only := range to {
			if len(to) == 1 {
				name = kind + " " + show.Text(only)
			}
		}
		words = append(words, name+": "+stand(&sum, now))
	}
	return strings.Join(words, " | ")
}

// stand says how webhooks stand.
func stand(f *tallies.Figures, now time.Time) string {
	line := fmt.Sprintf("%d wait", f.Queued)
	if oldest := f.Age(now); oldest > 0 {
		line += ", the oldest for " + show.Duration(oldest)
	}
	line += fmt.Sprintf("; %d delivered, %d requests repeated", f.Delivered, f.Retried)
	var losses []string
	for _, why := range slices.Sorted(maps.Keys(f.Lost)) {
		if f.Lost[why] > 0 {
			losses = append(losses, fmt.Sprintf("%d (%s)", f.Lost[why], why))
		}
	}
	if len(losses) > 0 {
		line += "; dropped " + strings.Join(losses, ", ")
	}
	return line
}

// writeHooks writes the metrics of the apps that have webhooks.
func writeHooks(m *metrics.Writer, apps []AppFigures, now time.Time) {
	if !slices.ContainsFunc(apps, func(a AppFigures) bool { return a.Hooks != nil }) {
		return
	}
	each := func(name, kind, help string, sample func(f *tallies.Figures, labels []string)) {
		m.Family(name, kind, help)
		for i := range apps {
			for j := range apps[i].Hooks {
				f := &apps[i].Hooks[j]
				sample(f, []string{"app_id", apps[i].ID, "kind", f.Kind, "to", f.To})
			}
		}
	}
	each("webhook_waiting", "gauge", "Events that wait for a webhook, or are under way.",
		func(f *tallies.Figures, l []string) { m.Sample(float64(f.Queued), l...) })
	each("webhook_oldest_seconds", "gauge", "For how long the oldest of them has waited.",
		func(f *tallies.Figures, l []string) { m.Sample(f.Age(now).Seconds(), l...) })
	m.Family("webhook_grace", "gauge", "Events of vanished connections that are told if nobody "+
		"is back in time.")
	for i := range apps {
		if apps[i].Hooks != nil {
			m.Sample(float64(apps[i].Absent), "app_id", apps[i].ID)
		}
	}
	each("webhook_delivered_total", "counter", "Events that a receiver has taken.",
		func(f *tallies.Figures, l []string) { m.Count(uint64(f.Delivered), l...) })
	each("webhook_retried_total", "counter", "Requests that were sent again.",
		func(f *tallies.Figures, l []string) { m.Count(uint64(f.Retried), l...) })
	each("webhook_dropped_total", "counter", "Events that were not told, by why.",
		func(f *tallies.Figures, l []string) {
			for _, why := range slices.Sorted(maps.Keys(f.Lost)) {
				m.Count(uint64(f.Lost[why]), append(l, "reason", why)...)
			}
		})
}
