package admin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"reverb/internal/lib/metrics"
	"reverb/internal/lib/show"
)

// Hooks are the figures of the webhooks of an app. Each event counts once for each URL.
type Hooks struct {
	Queued    int       // events that wait or are under way, without those in their grace; a gauge
	Absent    int       // events whose grace has not passed; a gauge
	Oldest    time.Time // when the oldest of Queued happened; zero: there is none
	Delivered int64
	Retried   int64            // requests that were sent again
	Lost      map[string]int64 // events, by the word of the reason
}

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

// age is for how long the oldest event has waited.
func (h *Hooks) age(now time.Time) time.Duration {
	if h.Oldest.IsZero() {
		return 0
	}
	return max(now.Sub(h.Oldest), 0)
}

// Webhooks says in a line how the webhooks of all apps stand; empty: no app has any.
func (s *Snapshot) Webhooks(now time.Time) string {
	var all Hooks
	any, oldest, dropped := false, time.Duration(0), map[string]int64{}
	for i := range s.Apps {
		h := s.Apps[i].Hooks
		if h == nil {
			continue
		}
		any = true
		all.Queued += h.Queued
		all.Delivered += h.Delivered
		all.Retried += h.Retried
		oldest = max(oldest, h.age(now))
		for why, n := range h.Lost {
			dropped[why] += n
		}
	}
	if !any {
		return ""
	}
	line := fmt.Sprintf("%d wait", all.Queued)
	if oldest > 0 {
		line += ", the oldest for " + show.Duration(oldest)
	}
	line += fmt.Sprintf("; %d delivered, %d requests repeated", all.Delivered, all.Retried)
	var losses []string
	for _, why := range slices.Sorted(maps.Keys(dropped)) {
		if dropped[why] > 0 {
			losses = append(losses, fmt.Sprintf("%d (%s)", dropped[why], why))
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
	each := func(name, kind, help string, sample func(h *Hooks, app string)) {
		m.Family(name, kind, help)
		for i := range apps {
			if h := apps[i].Hooks; h != nil {
				sample(h, apps[i].ID)
			}
		}
	}
	each("webhook_waiting", "gauge", "Events that wait for a webhook, or are under way.",
		func(h *Hooks, app string) { m.Sample(float64(h.Queued), "app_id", app) })
	each("webhook_oldest_seconds", "gauge", "For how long the oldest of them has waited.",
		func(h *Hooks, app string) { m.Sample(h.age(now).Seconds(), "app_id", app) })
	each("webhook_grace", "gauge", "Events of vanished connections that are told if nobody is "+
		"back in time.",
		func(h *Hooks, app string) { m.Sample(float64(h.Absent), "app_id", app) })
	each("webhook_delivered_total", "counter", "Events that a receiver has taken.",
		func(h *Hooks, app string) { m.Count(uint64(h.Delivered), "app_id", app) })
	each("webhook_retried_total", "counter", "Requests that were sent again.",
		func(h *Hooks, app string) { m.Count(uint64(h.Retried), "app_id", app) })
	each("webhook_dropped_total", "counter", "Events that were not told, by why.",
		func(h *Hooks, app string) {
			for _, why := range slices.Sorted(maps.Keys(h.Lost)) {
				m.Count(uint64(h.Lost[why]), "app_id", app, "reason", why)
			}
		})
}
