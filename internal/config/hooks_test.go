package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestHooks has what the variables give to apps that say nothing of webhooks.
func TestHooks(t *testing.T) {
	const secret = `"key":"k%d","secret":"s"`
	app := func(n int, more string) string {
		return fmt.Sprintf(`{"app_id":"%d",`+secret+`%s}`, n, n, more)
	}
	all := "REVERB_APPS=[" + strings.Join([]string{app(1, ""), app(2, `,"webhooks":[]`),
		app(3, `,"webhooks":{"url":"http://own.example","disconnect_smoothing_ms":700}`),
		app(4, `,"webhooks":{"url":null},"disconnect_grace_ms":5`),
		app(5, `,"webhooks":{"url":"http://own.example","events":["subscription_count"],`+
			`"disconnect_smoothing_ms":700},"disconnect_grace_ms":5`),
		app(6, `,"webhooks":"[]"`), app(7, `,"webhooks":""`), app(8, `,"webhooks":null`)}, ",") +
		"]"
	c := load([]string{all, "REVERB_WEBHOOK_URL=http://app.example/hooks?t=TOKEN",
		"REVERB_WEBHOOK_EVENTS=member_added, member_removed", "REVERB_WEBHOOK_TIMEOUT=9",
		"REVERB_WEBHOOK_CHANNEL_PREFIX=presence-", "REVERB_WEBHOOK_CHANNEL_SUFFIX=.x",
		`REVERB_WEBHOOK_HEADERS={"Authorization":"Bearer TOKEN"}`}, nil)
	if len(c.Problems) > 0 {
		t.Fatal(c.Problems)
	}
	const ours = " http://app.example/hooks?t=TOKEN 12 9s presence-*.x Bearer TOKEN"
	for i, want := range []string{"3s" + ours, "3s none", "700ms http://own.example 47 5s * ",
		"5ms" + ours,
		"5ms http://own.example 64 5s * ", "3s none", "3s none", "3s" + ours} {
		a := c.Apps[i]
		got := a.DisconnectGrace.String()
		if len(a.Webhooks) == 0 {
			got += " none"
		}
		for _, h := range a.Webhooks {
			got += fmt.Sprint(" ", h.URL, " ", uint8(h.Kinds), " ", h.Timeout, " ", h.Prefix, "*",
				h.Suffix, " ", h.Headers.Get("Authorization"))
		}
		if got != want {
			t.Errorf("app %s: got %s, want %s", a.ID, got, want)
		}
	}
	if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], "app 5: subscription_count") {
		t.Errorf("got %q", c.Warnings)
	}
	var out strings.Builder
	c.PrintInForce(&out)
	if strings.Contains(out.String(), "TOKEN") {
		t.Errorf("a token shows in\n%s", out.String())
	}
}

// TestHooksWithoutURL warns of what has no effect, and reads the grace under its other name.
func TestHooksWithoutURL(t *testing.T) {
	c := load(append([]string{"REVERB_WEBHOOK_EVENTS=cache_miss",
		"REVERB_WEBHOOK_DISCONNECT_SMOOTHING_MS=250"}, app1...), nil)
	if len(c.Apps[0].Webhooks) > 0 || c.Apps[0].DisconnectGrace != 250*time.Millisecond ||
		strings.Join(c.Warnings, "") !=
			"REVERB_WEBHOOK_EVENTS means nothing without REVERB_WEBHOOK_URL" {
		t.Errorf("got %d hooks, %v, %q", len(c.Apps[0].Webhooks), c.Apps[0].DisconnectGrace,
			c.Warnings)
	}
	for variable, want := range map[string]string{
		"REVERB_WEBHOOK_URL=ftp://x":          "not an http or https URL",
		"REVERB_WEBHOOK_EVENTS=member_aded":   "is member_added meant?",
		"REVERB_WEBHOOK_HEADERS={\"Host\":1}": `"Host" cannot be set`,
		"REVERB_WEBHOOK_PROXY=proxy:3128":     "not the URL of a proxy",
		"REVERB_WEBHOOK_QUEUE_BYTES=1MiB":     "not a size of at least 16MiB",
		"REVERB_WEBHOOK_QUEUE_BYTES=off":      "not a size of at least 16MiB",
	} {
		c := load(append([]string{variable}, app1...), nil)
		if got := strings.Join(c.Problems, "\n"); !strings.Contains(got, want) {
			t.Errorf("%s: got %s", variable, got)
		}
	}
}
