package config

import (
	"slices"
	"strings"
	"testing"
)

// TestSpool has what the folder of webhooks goes together with.
func TestSpool(t *testing.T) {
	app := []string{"REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s"}
	const url = "REVERB_WEBHOOK_URL=http://app.example/hooks"
	for _, c := range []struct {
		env           string
		folder        string
		problem, warn string
	}{
		{url + " REVERB_WEBHOOK_SPOOL=/var/lib/x", "/var/lib/x", "", ""},
		{url, "", "", ""},
		{"REVERB_WEBHOOK_SPOOL=/var/lib/x", "", "",
			"REVERB_WEBHOOK_SPOOL means nothing: no app has webhooks"},
		{url + " REVERB_SCALING_ENABLED=true REVERB_WEBHOOK_SPOOL=/var/lib/x", "/var/lib/x",
			`REVERB_WEBHOOK_SPOOL="/var/lib/x" (environment): is for one server alone; with ` +
				"REVERB_SCALING_ENABLED=true Redis keeps what was not delivered, so leave it out",
			""},
	} {
		got := load(append(slices.Clone(app), strings.Fields(c.env)...), nil)
		if got.Hooks.Spool != c.folder || strings.Join(got.Problems, "|") != c.problem ||
			strings.Join(got.Warnings, "|") != c.warn {
			t.Errorf("%s: %q, %q, %q", c.env, got.Hooks.Spool, got.Problems, got.Warnings)
		}
	}
}
