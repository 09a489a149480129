package aliases

import (
	"encoding/json"
	"maps"
	"os"
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
	b, err := os.ReadFile("testdata/find.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), " ", 3)
		if len(f) < 3 || f[0] == "#" {
			continue
		}
		theirs, given, _ := strings.Cut(f[1], "=")
		end := strings.IndexAny(f[2], "=:")
		s, ok := Of(f[0]).Find(f[2][:end], in(map[string]string{theirs: given}))
		got := f[2][:end] + "=" + s.Value
		if s.Err != nil {
			got = f[2][:end] + ": " + s.Err.Error()
		}
		if got != f[2] || ok != (s.Value != "" || s.Err != nil) {
			t.Errorf("%s: got %s and %v, want %s", f[1], got, ok, f[2])
		}
		if ok && (s.Theirs != theirs || s.Origin != "environment, "+theirs) {
			t.Errorf("%s: got the origin %s", theirs, s.Origin)
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
		"REVERB_APP_SECRET": secret, "REVERB_SERVER_PORT": "6001", "REVERB_TLS_CERT": "/c d.pem",
		"REVERB_HOST": "x"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %q and %v of %q", got, err, lines)
	}
	for host, want := range map[string]string{
		"ws.example": "REVERB_HOST=ws.example, REVERB_PORT=6001, REVERB_SCHEME=http",
		"api-eu.pusher.com": "# PUSHER_HOST has no counterpart, # PUSHER_PORT has no " +
			"counterpart, # PUSHER_SCHEME has no counterpart",
		"": "# PUSHER_PORT has no counterpart, # PUSHER_SCHEME has no counterpart"} {
		env = map[string]string{"PUSHER_HOST": host, "PUSHER_PORT": "6001",
			"PUSHER_SCHEME": "http"}
		lines = Of("pusher").Translate(slices.Collect(maps.Keys(env)), in(env))
		if got := strings.Join(lines, ", "); got != want {
			t.Errorf("PUSHER_HOST=%s: got %s, want %s", host, got, want)
		}
	}
	for _, server := range []string{"pusher", "soketi", "websockets"} {
		if lines := Of(server).Translate(nil, in(nil)); lines != nil {
			t.Errorf("%s: got %q of nothing", server, lines)
		}
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
			"max_attempts":"5","decay_seconds":1},"secret":"s","webhooks":[{"url":"https://x"}]},
		{"accept_client_events_from":"none","app_id":2,"key":"k2","max_message_size":102400,
			"presence_max_member_size":2048,"presence_max_members":100,"secret":"s2",
			"webhooks":[]}]`
	const apps = `[{"id":"1","key":"k","secret":"s","maxConnections":200,
		"enableClientMessages":true,"enabled":true,"maxBackendEventsPerSecond":7,
		"maxClientEventsPerSecond":"5","maxReadRequestsPerSecond":-1,
			"webhooks":[{"url":"https://x"}]},
		{"id":2,"key":"k2","secret":"s2","maxConnections":"-1","enableClientMessages":false,
			"maxClientEventsPerSecond":-1,"webhooks":[]},
		{"id":3,"key":"k3","secret":"s3","enabled":false,"odd":1}]`
	for file, beside := range map[string]string{`{"debug":true,"port":7000,"queue.driver":"sqs",` +
		`"appManager.driver":"array","appManager.array.apps":` + apps + `}`: "queue.driver",
		`{"port":6001,"host":"h","cluster":{"port":1},` +
			`"appManager":{"array":{"apps":` + apps + `}}}`: "cluster"} {
		b, unknown, ok := SoketiApps([]byte(file))
		var x, y any
		if err := json.Unmarshal(b, &x); err != nil || json.Unmarshal([]byte(want), &y) != nil ||
			!ok || !reflect.DeepEqual(x, y) {
			t.Errorf("got %s, %v and %v", b, ok, err)
		}
		if !slices.Equal(unknown, slices.Sorted(slices.Values([]string{beside,
			"maxBackendEventsPerSecond"}))) {
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

// TestSoketiSettings finds what stands beside the apps.
func TestSoketiSettings(t *testing.T) {
	got := SoketiSettings([]byte(`{"port":7000,"debug":false,"host":"h","odd":1}`))
	want := map[string]string{"SOKETI_PORT": "7000", "SOKETI_HOST": "h"}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := SoketiSettings([]byte("[1]")); len(got) > 0 {
		t.Errorf("got %q of an array", got)
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
