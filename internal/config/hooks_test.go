package config

import (
	"fmt"
	"slices"
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
		"REVERB_WEBHOOK_URL=http://u:PASS@169.254.169.254/@in?t=PASS": `REVERB_WEBHOOK_URL=` +
			`"http://********@169.254.169.254/@in?********": 169.254.169.254 is a metadata ` +
			"service of a cloud; REVERB_WEBHOOK_ALLOW_LINK_LOCAL=true allows it",
		"REVERB_WEBHOOK_URL=http://[fe80::1%25eth0]:80/": "fe80::1%eth0 is a link-local address; " +
			"REVERB_WEBHOOK_ALLOW_LINK_LOCAL=true allows it",
		"REVERB_WEBHOOK_URL=http://0.0.0.0:80/": `REVERB_WEBHOOK_URL="http://0.0.0.0:80/": ` +
			"0.0.0.0 is the unspecified address",
		"REVERB_WEBHOOK_PROXY=http://169.254.0.1:3128": "REVERB_WEBHOOK_PROXY=\"********\": " +
			"169.254.0.1 is a link-local address; REVERB_WEBHOOK_ALLOW_LINK_LOCAL=true allows it",
		`REVERB_APPS=[{"app_id":"5","key":"k","secret":"s","webhooks":` +
			`{"url":"http://100.100.100.200"}}]`: "app 5: webhooks: 100.100.100.200 is a " +
			"metadata service of a cloud; REVERB_WEBHOOK_ALLOW_LINK_LOCAL=true allows it",
	} {
		c := load(append([]string{variable}, app1...), nil)
		if got := strings.Join(c.Problems, "\n"); !strings.Contains(got, want) ||
			strings.Contains(got, "PASS") || strings.Contains(got, "\n") {
			t.Errorf("%s: got %s", variable, got)
		}
	}
	for _, allowed := range []string{"REVERB_WEBHOOK_ALLOW_LINK_LOCAL=true", "REVERB_DEBUG=false"} {
		c := load(append([]string{"REVERB_WEBHOOK_URL=http://169.254.169.254/", allowed}, app1...),
			nil)
		if (len(c.Problems) == 0) != strings.Contains(allowed, "LINK_LOCAL") {
			t.Errorf("%s: %q", allowed, c.Problems)
		}
	}
}

// TestHookNotes says which events of which apps go where, and shows the host of a URL with an @ in
// its path.
func TestHookNotes(t *testing.T) {
	apps := "REVERB_APPS=["
	for i := range 11 {
		apps += fmt.Sprintf(`{"app_id":"%d","key":"k%[1]d","secret":"s"},`, i)
	}
	c := load([]string{apps + `{"app_id":"own","key":"k","secret":"s","webhooks":[` +
		`{"url":"http://o.example/a"},{"url":"http://o.example/a?TOKEN","filter":` +
		`{"channel_prefix":"private-","channel_suffix":".x"}}]}]`,
		"REVERB_WEBHOOK_URL=https://u:PASS@app.example/@hooks/in?t=PASS",
		"REVERB_WEBHOOK_EVENTS=member_added"}, nil)
	const usual = "channel_occupied, channel_vacated, member_added, member_removed, cache_miss"
	want := "events of the apps 0, 1, 2, 3, 4, 5, 6, 7 and 3 more are posted to " +
		"https://********@app.example/@hooks/in?********: member_added\n" +
		"events of the app own are posted to http://o.example/a: " + usual + "\n" +
		"events of the app own are posted to http://o.example/a?********: " + usual +
		", of channels that begin with private-, of channels that end with .x"
	if got := strings.Join(c.Notes, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := c.Setting("REVERB_WEBHOOK_URL").Shown(),
		"https://********@app.example/@hooks/in?********"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c = loadIn(t.TempDir(), map[string]string{"dev": "true"}, "REVERB_WEBHOOK_URL=http://h/")
	dir := t.TempDir()
	if err := c.StartDev(func() (string, error) { return dir, nil }); err != nil {
		t.Fatal(err)
	}
	dev := []string{"events of the app " + c.Apps[0].ID + " are posted to http://h/: " + usual}
	if again := c.Again(); !slices.Equal(c.Notes, dev) || !slices.Equal(again.Notes, dev) {
		t.Errorf("got %q and %q, want %q", c.Notes, again.Notes, dev)
	}
}
