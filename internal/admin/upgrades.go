package admin

import (
	"fmt"
	"time"

	"reverb/internal/lib/metrics"
)

// Upgrades are the upgrades of the server since its first process, and what relays have of its
// connections.
type Upgrades struct {
	Done, Refused, Failed uint64        // Refused: before anything was touched
	Moved, Told           uint64        // connections: that stayed open, and that had to reconnect
	Took, Silent          time.Duration // the last one, and how long nothing was read; gauges

	Relays  int   // processes that relay connections of this one; a gauge
	Relayed int64 // these connections; a gauge
}

// String says it in a line; empty: there was none.
func (u *Upgrades) String() string {
	if u.Done+u.Refused+u.Failed == 0 {
		return ""
	}
	line := fmt.Sprintf("%d done", u.Done)
	if n := u.Refused + u.Failed; n > 0 {
		line += fmt.Sprintf(", %d refused or failed", n)
	}
	if u.Done > 0 {
		line += fmt.Sprintf(", the last one was silent for %v",
			u.Silent.Round(100*time.Microsecond))
	}
	if u.Relayed > 0 {
		line += fmt.Sprintf("; %d TLS connections are relayed by %d earlier processes", u.Relayed,
			u.Relays)
	}
	return line
}

func writeUpgrades(m *metrics.Writer, u *Upgrades) {
	m.Family("upgrades_total", "counter", "Hand-overs of the running server to another process, "+
		"by their outcome; refused: before anything was touched.")
	m.Sample(float64(u.Done), "outcome", "done")
	m.Sample(float64(u.Refused), "outcome", "refused")
	m.Sample(float64(u.Failed), "outcome", "failed")
	writeAll(m, []figure{
		{"upgrade_connections_passed_total", "counter",
			"Connections that have moved to another process without closing.", float64(u.Moved)},
		{"upgrade_connections_left_total", "counter",
			"Connections that were told to reconnect instead.", float64(u.Told)},
		{"upgrade_duration_seconds", "gauge", "How long the last upgrade took.",
			u.Took.Seconds()},
		{"upgrade_silence_seconds", "gauge", "How long the last upgrade has read nothing.",
			u.Silent.Seconds()},
		{"upgrade_relays", "gauge", "Earlier processes that relay TLS connections of this one.",
			float64(u.Relays)},
		{"upgrade_relayed_connections", "gauge", "These TLS connections.", float64(u.Relayed)},
	})
}
