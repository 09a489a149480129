package aliases

import (
	"cmp"
	"encoding/json"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
)

// pusher are the variables of an application for Pusher, in Laravel and elsewhere.
func pusher() []row {
	return []row{
		{ours: "REVERB_APP_ID", theirs: "PUSHER_APP_ID"},
		{ours: "REVERB_APP_KEY", theirs: "PUSHER_APP_KEY"},
		{ours: "REVERB_APP_SECRET", theirs: "PUSHER_APP_SECRET"},
		{ours: "REVERB_HOST", theirs: "PUSHER_HOST"},
		{ours: "REVERB_PORT", theirs: "PUSHER_PORT"},
		{ours: "REVERB_SCHEME", theirs: "PUSHER_SCHEME"},
	}
}

// websockets are the variables of laravel-websockets beside Pusher's (config/websockets.php).
func websockets() []row {
	return []row{
		{"REVERB_SERVER_PORT", "LARAVEL_WEBSOCKETS_PORT", nil, "6001"},
		{ours: "REVERB_SERVER_HOST", theirs: "LARAVEL_WEBSOCKETS_HOST"},
		{ours: "REVERB_TLS_CERT", theirs: "LARAVEL_WEBSOCKETS_SSL_LOCAL_CERT"},
		{ours: "REVERB_TLS_KEY", theirs: "LARAVEL_WEBSOCKETS_SSL_LOCAL_PK"},
		{ours: "REVERB_TLS_PASSPHRASE", theirs: "LARAVEL_WEBSOCKETS_SSL_PASSPHRASE"},
	}
}

// soketi are the variables of soketi 1.6 (src/cli/cli.ts, src/server.ts). Of SOKETI_DEFAULT_APP_ID
// and its neighbours, the defaults are no secrets and never count.
func soketi() []row {
	const perSecond = "SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC"
	return []row{
		{ours: "REVERB_APP_ID", theirs: "SOKETI_DEFAULT_APP_ID"},
		{ours: "REVERB_APP_KEY", theirs: "SOKETI_DEFAULT_APP_KEY"},
		{ours: "REVERB_APP_SECRET", theirs: "SOKETI_DEFAULT_APP_SECRET"},
		{"REVERB_APP_MAX_CONNECTIONS", "SOKETI_DEFAULT_APP_MAX_CONNS", limit(""), ""},
		{"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", "SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES",
			clientMessages, "none"},
		{"REVERB_APP_RATE_LIMITING_ENABLED", perSecond, limit("true"), ""},
		{"REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", perSecond, limit(""), ""},
		{"REVERB_APP_RATE_LIMIT_DECAY_SECONDS", perSecond, limit("1"), ""},
		{"REVERB_APP_AUTHORIZATION_TIMEOUT", "SOKETI_USER_AUTHENTICATION_TIMEOUT", timeout,
			""},
		{"REVERB_WEBHOOK_URL", "SOKETI_DEFAULT_APP_WEBHOOKS", webhook(
			func(w *soketiWebhook) string { return w.URL }), ""},
		{"REVERB_WEBHOOK_EVENTS", "SOKETI_DEFAULT_APP_WEBHOOKS", webhook(
			func(w *soketiWebhook) string { return strings.Join(w.Events, ",") }), ""},
		{ours: "REVERB_SERVER_HOST", theirs: "SOKETI_HOST"},
		{"REVERB_SERVER_PORT", "SOKETI_PORT", nil, "6001"},
		{ours: "REVERB_SERVER_PATH", theirs: "SOKETI_PATH_PREFIX"},
		{ours: "REVERB_TLS_CERT", theirs: "SOKETI_SSL_CERT"},
		{ours: "REVERB_TLS_KEY", theirs: "SOKETI_SSL_KEY"},
		{ours: "REVERB_TLS_PASSPHRASE", theirs: "SOKETI_SSL_PASS"},
		{ours: "REVERB_TLS_CA", theirs: "SOKETI_SSL_CA"},
		{"REVERB_SCALING_ENABLED", "SOKETI_ADAPTER_DRIVER", adapter, ""},
		{ours: "REVERB_SCALING_CHANNEL", theirs: "SOKETI_ADAPTER_REDIS_PREFIX"},
		{ours: "REVERB_REDIS_HOST", theirs: "SOKETI_DB_REDIS_HOST"},
		{ours: "REVERB_REDIS_PORT", theirs: "SOKETI_DB_REDIS_PORT"},
		{ours: "REVERB_REDIS_USERNAME", theirs: "SOKETI_DB_REDIS_USERNAME"},
		{ours: "REVERB_REDIS_PASSWORD", theirs: "SOKETI_DB_REDIS_PASSWORD"},
		{ours: "REVERB_REDIS_DB", theirs: "SOKETI_DB_REDIS_DB"},
		{"REVERB_REDIS_SENTINELS", "SOKETI_DB_REDIS_SENTINELS", addressList, ""},
		{ours: "REVERB_REDIS_SERVICE", theirs: "SOKETI_DB_REDIS_INSTANCE_NAME"},
		{"REVERB_REDIS_CLUSTER", "SOKETI_DB_REDIS_CLUSTER_NODES", addressList, ""},
		{"REVERB_APP_MAX_MESSAGE_SIZE", "SOKETI_EVENT_MAX_SIZE_IN_KB", times(1 << 10), "102400"},
		// a batch has 10 events
		{"REVERB_MAX_REQUEST_SIZE", "SOKETI_EVENT_MAX_SIZE_IN_KB", times(10 << 10), "1024000"},
		{"REVERB_APP_PRESENCE_MAX_MEMBERS", "SOKETI_PRESENCE_MAX_MEMBERS", nil, "100"},
		{"REVERB_APP_PRESENCE_MAX_MEMBER_SIZE", "SOKETI_PRESENCE_MAX_MEMBER_SIZE", times(1 << 10),
			"2048"},
		{"REVERB_ADMIN_LISTEN", "SOKETI_METRICS_SERVER_PORT", metricsAddress, ""},
		{"REVERB_ADMIN_LISTEN", "SOKETI_METRICS_ENABLED", metricsDefault, ""},
		{"REVERB_METRICS_PREFIX", "SOKETI_METRICS_PROMETHEUS_PREFIX", nil, "soketi_"},
		{"REVERB_SHUTDOWN_GRACE", "SOKETI_SHUTDOWN_GRACE_PERIOD", seconds, "3"},
		{"REVERB_LOG_LEVEL", "SOKETI_DEBUG", debugLevel, ""},
	}
}

// soketiIdle are variables of soketi that ask for nothing, or for what is always so here.
var soketiIdle = []string{"SOKETI_APP_MANAGER_DRIVER=array",
	"SOKETI_METRICS_DRIVER=prometheus", "SOKETI_MODE=full", "SOKETI_QUEUE_DRIVER=sync",
	"SOKETI_CACHE_DRIVER=memory", "SOKETI_RATE_LIMITER_DRIVER=local",
	"SOKETI_ADAPTER_REDIS_CLUSTER_MODE",
	"SOKETI_DEFAULT_APP_USER_AUTHENTICATION=false",
	"SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC=-1",
	"SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC=-1", "SOKETI_WEBHOOKS_BATCHING",
	"SOKETI_WEBHOOKS_BATCHING_DURATION"}

// soketiWebhook is what SOKETI_DEFAULT_APP_WEBHOOKS may have here.
type soketiWebhook struct {
	URL    string   `json:"url"`
	Events []string `json:"event_types"`
}

// webhook takes a part of the only webhook in a list; empty: there is none.
func webhook(part func(*soketiWebhook) string) func(string) (string, error) {
	return func(s string) (string, error) {
		var list []*soketiWebhook
		d := json.NewDecoder(strings.NewReader(s))
		d.DisallowUnknownFields()
		err := d.Decode(&list)
		switch {
		case err == nil && len(list) == 0:
			return "", nil
		case err != nil, len(list) > 1, list[0] == nil, list[0].URL == "":
			return "", errors.New("not a list of one object with url and event_types alone; " +
				"give webhooks in the app's object in REVERB_APPS")
		}
		return part(list[0]), nil
	}
}

// limit takes a whole number, which is the value itself, or then where that is not empty. -1 is no
// limit.
func limit(then string) func(string) (string, error) {
	return func(s string) (string, error) {
		n, err := strconv.Atoi(s)
		switch {
		case err != nil:
			return "", errors.New("not a whole number")
		case n < 0:
			return "", nil
		}
		return cmp.Or(then, s), nil
	}
}

// times takes a number of units of so many bytes, which may have decimals.
func times(unit float64) func(string) (string, error) {
	return func(s string) (string, error) {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n > 0 && n < 1<<20) {
			return "", errors.New("not a number of kilobytes")
		}
		return strconv.Itoa(int(n * unit)), nil
	}
}

// seconds takes milliseconds.
func seconds(s string) (string, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return "", errors.New("not a whole number of milliseconds")
	}
	return strconv.Itoa((n + 999) / 1000), nil
}

// timeout takes milliseconds; 0 is no limit.
func timeout(s string) (string, error) {
	if s == "0" {
		return "", nil
	}
	return seconds(s)
}

// clientMessages takes whether clients may send events. soketi relays the events of members of
// private and presence channels.
func clientMessages(s string) (string, error) {
	switch strings.ToLower(s) {
	case "true", "1":
		return "private", nil
	case "false", "0":
		return "none", nil
	}
	return "", errors.New("neither true nor false")
}

func debugLevel(s string) (string, error) {
	if s == "1" || strings.EqualFold(s, "true") {
		return "debug", nil
	}
	return "", nil
}

func adapter(s string) (string, error) {
	switch s {
	case "redis":
		return "true", nil
	case "local":
		return "false", nil
	}
	return "", errors.New("nodes find one another through Redis here; set redis or local")
}

// metricsAddress takes the port of soketi's metrics. They are served on the loopback address alone,
// since the status page and the profiles are there too.
func metricsAddress(s string) (string, error) { return net.JoinHostPort("127.0.0.1", s), nil }

// metricsDefault takes whether soketi serves metrics.
func metricsDefault(s string) (string, error) {
	if s == "1" || strings.EqualFold(s, "true") {
		return metricsAddress("9601")
	}
	return "", nil
}

// addressList takes [{"host":"a","port":6379}].
func addressList(s string) (string, error) {
	var list []struct {
		Host string
		Port json.Number
	}
	if json.Unmarshal([]byte(s), &list) != nil {
		return "", errors.New(`not a list such as [{"host":"10.0.0.1","port":6379}]`)
	}
	var found []string
	for _, a := range list {
		found = append(found, net.JoinHostPort(a.Host, cmp.Or(a.Port.String(), "6379")))
	}
	return strings.Join(found, ","), nil
}

// SoketiApps turns soketi's file, {"appManager.array.apps":[…]}, into a list with the keys of
// config/reverb.php. unknown are the keys of apps and beside the apps that have no counterpart, in
// order, each once. ok is false for anything else.
func SoketiApps(b []byte) (apps []byte, unknown []string, ok bool) {
	var file struct {
		Apps   []map[string]json.RawMessage `json:"appManager.array.apps"`
		Nested struct {
			Array struct {
				Apps []map[string]json.RawMessage
			}
		} `json:"appManager"`
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(b, &file) != nil || json.Unmarshal(b, &all) != nil {
		return nil, nil, false
	}
	list := append(file.Apps, file.Nested.Array.Apps...)
	if len(list) == 0 {
		return nil, nil, false
	}
	ours := []map[string]any{}
	for _, theirs := range list {
		app, odd := appOf(theirs)
		if app != nil {
			ours = append(ours, app)
		}
		unknown = append(unknown, odd...)
	}
	for name, value := range all {
		_, known := soketiKeys[name]
		if !known && !strings.HasPrefix(name, "appManager") && asksForSomething(value) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	apps, err := json.Marshal(ours)
	return apps, slices.Compact(unknown), err == nil
}

// soketiKeys are keys of soketi's file, and the variables of soketi that mean the same.
var soketiKeys = map[string]string{"debug": "SOKETI_DEBUG", "host": "SOKETI_HOST",
	"pathPrefix": "SOKETI_PATH_PREFIX", "port": "SOKETI_PORT",
	"shutdownGracePeriod": "SOKETI_SHUTDOWN_GRACE_PERIOD"}

// SoketiSettings has the values beside the apps in soketi's file, by the variables of soketi that
// mean the same. In soketi they count before the variables.
func SoketiSettings(b []byte) map[string]string {
	var all map[string]json.RawMessage
	found := map[string]string{}
	if json.Unmarshal(b, &all) != nil {
		return found
	}
	for key, variable := range soketiKeys {
		if value := all[key]; asksForSomething(value) {
			found[variable] = strings.Trim(string(value), `"`)
		}
	}
	return found
}

// appOf turns one app of soketi's. It is nil for an app that is switched off. unknown are the keys
// that ask for something and have no counterpart.
func appOf(theirs map[string]json.RawMessage) (app map[string]any, unknown []string) {
	app = map[string]any{"accept_client_events_from": "none", "max_message_size": 100 << 10,
		"presence_max_members": 100, "presence_max_member_size": 2 << 10}
	for name, value := range theirs {
		text := strings.Trim(string(value), `"`)
		switch name {
		case "id":
			app["app_id"] = value
		case "key", "secret":
			app[name] = value
		case "webhooks":
			// An empty list says that the app has none, whatever the variables say.
			if text == "" || text == "[]" || asksForSomething(value) {
				app[name] = value
			}
		case "enabled":
			if text == "false" || text == "0" {
				return nil, nil
			}
		case "maxConnections":
			if n, _ := limit("")(text); n != "" {
				app["max_connections"] = n
			}
		case "enableClientMessages":
			app["accept_client_events_from"], _ = clientMessages(text)
		case "maxClientEventsPerSecond":
			if n, _ := limit("")(text); n != "" {
				app["rate_limiting"] = map[string]any{"enabled": true, "max_attempts": n,
					"decay_seconds": 1}
			}
		default:
			if asksForSomething(value) {
				unknown = append(unknown, name)
			}
		}
	}
	return app, unknown
}

// asksForSomething says whether a value is neither empty nor one that switches something off.
func asksForSomething(value json.RawMessage) bool {
	off := []string{"", "-1", "false", "null", "[]", "{}"}
	return !slices.Contains(off, strings.Trim(string(value), `"`))
}
