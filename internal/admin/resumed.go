package admin

import (
	"fmt"
	"maps"
	"slices"

	"reverb/internal/lib/metrics"
	"reverb/internal/lib/show"
)

// Resumed are the subscribers that came back, and what is kept for them.
type Resumed struct {
	Recovered uint64            // they got what they had missed
	Replayed  uint64            // events that they got so
	Not       map[string]uint64 // those that did not, by the reason
	Bytes     int               // what is kept; a gauge
}

// String says it in a line; empty: nothing is kept, and nobody has come back.
func (r *Resumed) String() string {
	not := uint64(0)
	for _, n := range r.Not {
		not += n
	}
	if uint64(r.Bytes)+r.Recovered+not == 0 {
		return ""
	}
	return fmt.Sprintf("%s are kept; of subscriptions that came back, %d got all that they had "+
		"missed, %d did not", show.Bytes(float64(r.Bytes)), r.Recovered, not)
}

func writeResumed(m *metrics.Writer, r *Resumed) {
	writeAll(m, []figure{
		{"resume_recovered_total", "counter",
			"Subscriptions of clients that came back and got all that they had missed.",
			float64(r.Recovered)},
		{"resume_replayed_events_total", "counter", "Events that were sent for that.",
			float64(r.Replayed)},
		{"resume_kept_bytes", "gauge", "Bytes of events that are kept for clients that come back.",
			float64(r.Bytes)},
	})
	m.Family("resume_not_recovered_total", "counter", "Subscriptions of clients that came back "+
		"and were told that something is missing, by the reason.")
	for _, why := range slices.Sorted(maps.Keys(r.Not)) {
		m.Sample(float64(r.Not[why]), "reason", why)
	}
}
