package aliases

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"reverb/internal/lib/dotenv"
)

// in is a Lookup in an environment.
func in(env map[string]string) Lookup {
	return func(name string) (value, origin string, ok bool) {
		value = env[name]
		return value, "environment", value != ""
	}
}

// TestFind gives each variable of each server what it takes, and what it does not take.
func TestFind(t *testing.T) {
	for _, tt := range []struct {
		server, theirs, value string
		want                  string // NAME=value of ours, or the error
	}{
		{"pusher", "PUSHER_APP_ID", "1", "REVERB_APP_ID=1"},
		{"pusher", "PUSHER_APP_KEY", "k", "REVERB_APP_KEY=k"},
		{"pusher", "PUSHER_APP_SECRET", "s", "REVERB_APP_SECRET=s"},
		{"websockets", "PUSHER_APP_SECRET", "s", "REVERB_APP_SECRET=s"},
		{"websockets", "LARAVEL_WEBSOCKETS_PORT", "7000", "REVERB_SERVER_PORT=7000"},
		{"websockets", "LARAVEL_WEBSOCKETS_SSL_LOCAL_PK", "k.pem", "REVERB_TLS_KEY=k.pem"},
		{"soketi", "SOKETI_DEFAULT_APP_ID", "1", "REVERB_APP_ID=1"},
		{"soketi", "SOKETI_DEFAULT_APP_MAX_CONNS", "5", "REVERB_APP_MAX_CONNECTIONS=5"},
		{"soketi", "SOKETI_DEFAULT_APP_MAX_CONNS", "-1", "REVERB_APP_MAX_CONNECTIONS="},
		{"soketi", "SOKETI_DEFAULT_APP_MAX_CONNS", "x", "not a whole number"},
		{"soketi", "SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "true",
			"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=private"},
		{"soketi", "SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "0",
			"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=none"},
		{"soketi", "SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", "yes", "neither true nor false"},
		{"soketi", "SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "9",
			"REVERB_APP_RATE_LIMITING_ENABLED=true"},
		{"soketi", "SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "9",
			"REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS=9"},
		{"soketi", "SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "9",
			"REVERB_APP_RATE_LIMIT_DECAY_SECONDS=1"},
		{"soketi", "SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", "-1",
			"REVERB_APP_RATE_LIMITING_ENABLED="},
		{"soketi", "SOKETI_ADAPTER_DRIVER", "redis", "REVERB_SCALING_ENABLED=true"},
		{"soketi", "SOKETI_ADAPTER_DRIVER", "local", "REVERB_SCALING_ENABLED=false"},
		{"soketi", "SOKETI_ADAPTER_DRIVER", "nats",
			"nodes find one another through Redis here; set redis or local"},
		{"soketi", "SOKETI_DB_REDIS_SENTINELS", `[{"host":"a","port":26379},{"host":"::1"}]`,
			"REVERB_REDIS_SENTINELS=a:26379,[::1]:6379"},
		{"soketi", "SOKETI_DB_REDIS_CLUSTER_NODES", `[{"host":"a","port":"7000"}]`,
			"REVERB_REDIS_CLUSTER=a:7000"},
		{"soketi", "SOKETI_DB_REDIS_CLUSTER_NODES", `a:7000`,
			`not a list such as [{"host":"10.0.0.1","port":6379}]`},
		{"soketi", "SOKETI_EVENT_MAX_SIZE_IN_KB", "0.5", "REVERB_APP_MAX_MESSAGE_SIZE=512"},
		{"soketi", "SOKETI_EVENT_MAX_SIZE_IN_KB", "0.5", "REVERB_MAX_REQUEST_SIZE=5120"},
		{"soketi", "SOKETI_EVENT_MAX_SIZE_IN_KB", "-1", "not a number of kilobytes"},
		{"soketi", "SOKETI_PRESENCE_MAX_MEMBER_SIZE", "4",
			"REVERB_APP_PRESENCE_MAX_MEMBER_SIZE=4096"},
		{"soketi", "SOKETI_METRICS_ENABLED", "1", "REVERB_ADMIN_LISTEN=127.0.0.1:9601"},
		{"soketi", "SOKETI_METRICS_ENABLED", "0", "REVERB_ADMIN_LISTEN="},
		{"soketi", "SOKETI_METRICS_SERVER_PORT", "9", "REVERB_ADMIN_LISTEN=127.0.0.1:9"},
		{"soketi", "SOKETI_SHUTDOWN_GRACE_PERIOD", "3001", "REVERB_SHUTDOWN_GRACE=4"},
		{"soketi", "SOKETI_SHUTDOWN_GRACE_PERIOD", "soon", "not a whole number of milliseconds"},
		{"soketi", "SOKETI_USER_AUTHENTICATION_TIMEOUT", "30000",
			"REVERB_APP_AUTHORIZATION_TIMEOUT=30"},
		{"soketi", "SOKETI_USER_AUTHENTICATION_TIMEOUT", "0", "REVERB_APP_AUTHORIZATION_TIMEOUT="},
		{"soketi", "SOKETI_USER_AUTHENTICATION_TIMEOUT", "-1",
			"not a whole number of milliseconds"},
		{"soketi", "SOKETI_DEBUG", "1", "REVERB_LOG_LEVEL=debug"},
		{"soketi", "SOKETI_DEBUG", "0", "REVERB_LOG_LEVEL="},
	} {
		name, want, isValue := strings.Cut(tt.want, "=")
		if !strings.HasPrefix(name, "REVERB_") {
			isValue = false
			for _, r := range Of(tt.server).rows {
				if r.theirs == tt.theirs {
					name = r.ours
				}
			}
		}
		s, ok := Of(tt.server).Find(name, in(map[string]string{tt.theirs: tt.value}))
		switch {
		case !isValue && (s.Err == nil || s.Err.Error() != tt.want || !ok):
			t.Errorf("%s=%s: got %v, want %s", tt.theirs, tt.value, s.Err, tt.want)
		case isValue && (s.Err != nil || s.Value != want || ok != (want != "")):
			t.Errorf("%s=%s: got %s=%s and %v, want %s", tt.theirs, tt.value, name, s.Value, s.Err,
				tt.want)
		case ok && (s.Theirs != tt.theirs || s.Origin != "environment, "+tt.theirs):
			t.Errorf("%s: got the origin %s", tt.theirs, s.Origin)
		}
	}
	if s, ok := Of("soketi").Find("REVERB_SERVER_PORT", in(nil)); !ok ||
		s != (Setting{Value: "6001", Origin: "default of soketi"}) {
		t.Errorf("got %+v by default", s)
	}
	for _, name := range Credentials() { // soketi's defaults are no secrets
		if s, ok := Of("soketi").Find(name, in(nil)); ok {
			t.Errorf("%s: got %+v by default", name, s)
		}
	}
	if Of("other") != nil {
		t.Error("there is a table of another server")
	}
}

// TestUnknown tells which variables have no counterpart, and no others.
func TestUnknown(t *testing.T) {
	env := map[string]string{"SOKETI_CHANNEL_CACHE_TTL": "5", "SOKETI_ADAPTER_NATS_PREFIX": "x",
		"SOKETI_EMPTY": "", "OTHER": "x",
		"SOKETI_DEFAULT_APP_ID": "1", "SOKETI_MODE": "full", "SOKETI_QUEUE_DRIVER": "sqs",
		"PUSHER_X": "1", "SOKETI_DEFAULT_APP_WEBHOOKS": "[]"}
	names := slices.Collect(maps.Keys(env))
	want := []string{"SOKETI_ADAPTER_NATS_PREFIX", "SOKETI_CHANNEL_CACHE_TTL",
		"SOKETI_QUEUE_DRIVER"}
	if got := Of("soketi").Unknown(append(names, names...), in(env)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestTranslate has lines that Laravel's .env gives back as they were.
func TestTranslate(t *testing.T) {
	secret := `s'e"c $r\e` + "\nt"
	env := map[string]string{"PUSHER_APP_ID": "1", "PUSHER_APP_KEY": "k y",
		"PUSHER_APP_SECRET": secret, "PUSHER_HOST": "x",
		"LARAVEL_WEBSOCKETS_SSL_LOCAL_CERT": "/c d.pem"}
	lines := Of("websockets").Translate(slices.Collect(maps.Keys(env)), in(env))
	entries, err := dotenv.Parse(strings.Join(lines, "\n"),
		func(string) (string, bool) { return "", false })
	got := map[string]string{}
	for _, e := range entries {
		got[e.Name] = e.Value
	}
	want := map[string]string{"REVERB_APP_ID": "1", "REVERB_APP_KEY": "k y",
		"REVERB_APP_SECRET": secret, "REVERB_SERVER_PORT": "6001", "REVERB_TLS_CERT": "/c d.pem"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %q and %v of %q", got, err, lines)
	}
	env = map[string]string{"SOKETI_ADAPTER_DRIVER": "nats", "SOKETI_MODE": "worker",
		"SOKETI_PORT": "1"}
	lines = Of("soketi").Translate(slices.Collect(maps.Keys(env)), in(env))
	for _, want := range []string{"REVERB_SERVER_PORT=1", "REVERB_METRICS_PREFIX=soketi_",
		"# SOKETI_MODE has no counterpart",
		"# SOKETI_ADAPTER_DRIVER: nodes find one another through Redis here; set redis or local"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is missing in %q", want, lines)
		}
	}
}

// TestSoketiApps turns files as soketi takes them.
func TestSoketiApps(t *testing.T) {
	const want = `[{"accept_client_events_from":"private","app_id":"1","key":"k",
		"max_connections":"200","max_message_size":102400,
		"presence_max_member_size":2048,"presence_max_members":100,"rate_limiting":{"enabled":true,
			"max_attempts":"5","decay_seconds":1},"secret":"s"},
		{"accept_client_events_from":"none","app_id":2,"key":"k2","max_message_size":102400,
			"presence_max_member_size":2048,"presence_max_members":100,"secret":"s2"}]`
	const apps = `[{"id":"1","key":"k","secret":"s","maxConnections":200,
		"enableClientMessages":true,"enabled":true,"maxBackendEventsPerSecond":7,
		"maxClientEventsPerSecond":"5","maxReadRequestsPerSecond":-1,
			"webhooks":[{"url":"https://x"}]},
		{"id":2,"key":"k2","secret":"s2","maxConnections":"-1","enableClientMessages":false,
			"maxClientEventsPerSecond":-1,"webhooks":[]},
		{"id":3,"key":"k3","secret":"s3","enabled":false,"odd":1}]`
	for _, file := range []string{`{"debug":true,"port":6001,"appManager.array.apps":` + apps + `}`,
		`{"appManager":{"array":{"apps":` + apps + `}}}`} {
		b, unknown, ok := SoketiApps([]byte(file))
		var x, y any
		if err := json.Unmarshal(b, &x); err != nil || json.Unmarshal([]byte(want), &y) != nil ||
			!ok || !reflect.DeepEqual(x, y) {
			t.Errorf("got %s, %v and %v", b, ok, err)
		}
		if !slices.Equal(unknown, []string{"maxBackendEventsPerSecond", "webhooks"}) {
			t.Errorf("got %q without a counterpart", unknown)
		}
	}
	for _, other := range []string{"", "[]", `{"apps":[{"id":"1"}]}`,
		`[{"app_id":"1","key":"k","secret":"s"}]`, `{"appManager.array.apps":[]}`,
		`{"appManager.array.apps":5}`} {
		if b, _, ok := SoketiApps([]byte(other)); ok {
			t.Errorf("%s: got %s", other, b)
		}
	}
}

// FuzzSoketiApps turns anything into JSON or nothing.
func FuzzSoketiApps(f *testing.F) {
	f.Add([]byte(`{"appManager.array.apps":[{"id":"1","key":"k","secret":"s","maxConnections":-1,
		"enableClientMessages":true}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if apps, _, ok := SoketiApps(b); ok && !json.Valid(apps) {
			t.Errorf("got %s", apps)
		}
	})
}
