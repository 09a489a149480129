package config

import (
	"strings"
	"testing"

	"reverb/internal/aliases"
	"reverb/internal/apps"
)

// TestAliases starts with the variables of other servers.
func TestAliases(t *testing.T) {
	const pusher = "PUSHER_APP_ID=1 PUSHER_APP_KEY=k PUSHER_APP_SECRET=s "
	const soketi = "SOKETI_DEFAULT_APP_ID=1 SOKETI_DEFAULT_APP_KEY=k SOKETI_DEFAULT_APP_SECRET=s "
	for name, tt := range map[string]struct {
		env  string
		want string
	}{
		"Pusher": {pusher, "app 1, key k, secret s: origins *\n"},
		"Pusher beside our app": {pusher +
			"REVERB_APP_ID=2 REVERB_APP_KEY=k2 REVERB_APP_SECRET=s2",
			"app 2, key k2, secret s2: origins *\n"},
		"Pusher beside a part of it": {pusher + "REVERB_APP_ID=2",
			"reverb: REVERB_APP_KEY, REVERB_APP_SECRET: not set, while the rest of the app is; " +
				"an app needs REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET\n"},
		"a part of Pusher": {"PUSHER_APP_ID=1 PUSHER_APP_KEY=k",
			"reverb: REVERB_APP_SECRET: not set, while the rest of the app is; an app needs " +
				"REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET\n"},
		"soketi": {soketi, "app 1, key k, secret s: origins *\n"},
		"soketi and Pusher": {soketi +
			"PUSHER_APP_ID=3 PUSHER_APP_KEY=k3 PUSHER_APP_SECRET=s3",
			"app 1, key k, secret s: origins *\n"},
		"soketi that asks for more": {soketi + "SOKETI_CHANNEL_CACHE_TTL=5 SOKETI_MODE=full",
			"app 1, key k, secret s: origins *\n" +
				"reverb: warning: SOKETI_CHANNEL_CACHE_TTL (environment) has no counterpart here " +
				"and " +
				"changes nothing\n"},
		"soketi with NATS": {soketi + "SOKETI_ADAPTER_DRIVER=nats",
			"app 1, key k, secret s: origins *\n" +
				"reverb: SOKETI_ADAPTER_DRIVER=\"nats\" (environment, SOKETI_ADAPTER_DRIVER): " +
				"nodes " +
				"find one another through Redis here; set redis or local\n"},
		"soketi with a wrong port": {soketi + "SOKETI_PORT=x",
			"app 1, key k, secret s: origins *\nreverb: SOKETI_PORT=\"x\" (environment, " +
				"SOKETI_PORT): not a whole number from 0 to 65535, such as 8080\n"},
		"soketi's variables without": {"SOKETI_PORT=7 SOKETI_CHANNEL_CACHE_TTL=5", ""},
		"soketi's list alone": {`REVERB_APPS=[{"id":"1","key":"k","secret":"s","enabled":true}]`,
			"app , key k, secret s: origins *\nreverb: REVERB_APPS: app 0: no app_id, but " +
				"soketi's key id; give soketi's whole file, {\"appManager.array.apps\":[…]}, or " +
				"the keys of config/reverb.php\n"},
		"soketi's file": {`REVERB_APPS={"appManager.array.apps":[` +
			`{"id":"1","key":"k","secret":"s","maxReadRequestsPerSecond":5}]}`,
			"app 1, key k, secret s: origins *\nreverb: warning: REVERB_APPS: the key " +
				"\"maxReadRequestsPerSecond\" of soketi has no counterpart here\n"},
	} {
		if got := told(loadIn(t.TempDir(), nil, strings.Fields(tt.env)...)); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tt.want)
		}
	}
	// the address of a server of one's own, but not Pusher's
	for env, want := range map[string]Public{
		"PUSHER_HOST=ws.example PUSHER_PORT=443 PUSHER_SCHEME=https": {"ws.example", 443, "https"},
		"PUSHER_HOST=api-eu.pusher.com PUSHER_PORT=443":              {},
		"PUSHER_PORT=443 PUSHER_SCHEME=https":                        {},
	} {
		for in, php := range map[string]string{"x.php": "", "config/reverb.php": published} {
			dir := folder(t, map[string]string{in: php})
			if c := loadIn(dir, nil, strings.Fields(pusher+env)...); c.Public != want {
				t.Errorf("%s beside %s: got %v, want %v", env, in, c.Public, want)
			}
		}
	}
	const list = `"appManager.array.apps":[{"id":"1","key":"k","secret":"s"}]`
	dir := folder(t, map[string]string{"soketi.json": `{"port":7000,"debug":false,` + list + "}"})
	c := loadIn(dir, nil, "REVERB_APPS_FILE=soketi.json", "SOKETI_METRICS_ENABLED=1")
	const want = "app 1, key k, secret s: origins *\nnote: metrics are at 127.0.0.1:9601 alone, " +
		"where soketi serves them on every address: the status page is there too; " +
		"REVERB_ADMIN_LISTEN names another address\n"
	if got := told(c); got != want || c.Listen.Port != 7000 || c.Admin.Listen != "127.0.0.1:9601" {
		t.Errorf("soketi's file and variables:\n got %s and %+v\nwant %s", got, c.Listen, want)
	}
	c = loadIn(t.TempDir(), nil, strings.Fields(soketi+"SOKETI_METRICS_ENABLED=1 "+
		"SOKETI_SSL_CERT=c.pem REVERB_SERVER_HOST=10.0.0.1 SOKETI_HOST=10.0.0.2")...)
	for name, want := range map[string]string{"REVERB_SERVER_PORT": "6001 default of soketi",
		"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM": "none default of soketi",
		"REVERB_ADMIN_LISTEN": "127.0.0.1:9601 environment, " +
			"SOKETI_METRICS_ENABLED",
		"REVERB_TLS_CERT":         "c.pem environment, SOKETI_SSL_CERT",
		"REVERB_SERVER_HOST":      "10.0.0.1 environment",
		"REVERB_MAX_REQUEST_SIZE": "1024000 default of soketi",
		"REVERB_APP_SECRET":       "s environment, SOKETI_DEFAULT_APP_SECRET"} {
		if s := c.Setting(name); s.Value+" "+s.Origin != want {
			t.Errorf("%s: got %s %s, want %s", name, s.Value, s.Origin, want)
		}
	}
	if c.Listen.Port != 6001 || c.app.ClientEvents != apps.FromNone || c.app.MaxMembers != 100 ||
		c.Setting("REVERB_APP_SECRET").Shown() != "********" {
		t.Errorf("got %+v, %+v", c.Listen, c.app)
	}
	dir = folder(t, map[string]string{".env": strings.ReplaceAll(pusher, " ", "\n") +
		"SOKETI_PORT=1", "config/reverb.php": published})
	// the file asks for REVERB_APP_ID, which is not there
	if got := told(loadIn(dir, nil)); got != "app 1, key k, secret s: origins *\n" {
		t.Errorf("beside config/reverb.php: got %s", got)
	}
	asked := folder(t, map[string]string{".env": strings.ReplaceAll(pusher, " ", "\n"),
		"config/reverb.php": strings.ReplaceAll(published, "env('REVERB_APP_", "env('PUSHER_APP_")})
	if got := told(loadIn(asked, nil)); got != "app 1, key k, secret s: origins *\n" {
		t.Errorf("a file that asks for Pusher's variables: got %s", got)
	}
	c = loadIn(dir, nil)
	if lines := aliases.Of("pusher").Translate(c.Names, c.Lookup); strings.Join(lines,
		" ") != "REVERB_APP_ID=1 REVERB_APP_KEY=k REVERB_APP_SECRET=s" {
		t.Errorf("got %q", lines)
	}
}
