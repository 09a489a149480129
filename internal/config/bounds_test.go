package config

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// bounds are the least and the largest number that a variable takes.
var bounds = map[string][2]int{
	"REVERB_SERVER_PORT":                  {0, 65535},
	"REVERB_PORT":                         {1, 65535},
	"REVERB_REDIS_PORT":                   {0, 65535},
	"REVERB_REDIS_DB":                     {0, 65535},
	"REVERB_APP_PING_INTERVAL":            {1, 86_400},
	"REVERB_APP_ACTIVITY_TIMEOUT":         {1, 86_400},
	"REVERB_APP_RATE_LIMIT_DECAY_SECONDS": {1, 86_400},
	"REVERB_AUTH_WINDOW":                  {0, 86_400},
	"REVERB_REDIS_TIMEOUT":                {0, 86_400},
	"REVERB_SHUTDOWN_GRACE":               {0, 3600},
	"REVERB_IDEMPOTENCY_SECONDS":          {0, 86_400},
	"REVERB_APP_MAX_CONNECTIONS":          {1, 1<<31 - 1},
	"REVERB_APP_PRESENCE_MAX_MEMBERS":     {1, 1<<31 - 1},
	"REVERB_APP_MAX_SUBSCRIPTIONS":        {1, 1<<31 - 1},
	"REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS":  {1, 1<<31 - 1},
	"REVERB_APP_AUTHORIZATION_TIMEOUT":    {1, 86_400},
	"REVERB_MAX_CONNECTIONS_PER_ADDRESS":  {0, 1<<31 - 1},
	"REVERB_APP_PRESENCE_MAX_MEMBER_SIZE": {1, 64 << 20},
	"REVERB_APP_DISCONNECT_GRACE_MS":      {0, 60_000},
	"REVERB_APP_MAX_MESSAGE_SIZE":         {1, 64 << 20},
	"REVERB_MAX_REQUEST_SIZE":             {1, 64 << 20},
}

// TestBounds gives each variable the numbers at its bounds and beyond. A problem names the bounds.
func TestBounds(t *testing.T) {
	for _, v := range Variables() {
		b, bounded := bounds[v.Name]
		if err := v.read(new(Config), "no number"); bounded != (err != nil &&
			strings.HasPrefix(err.Error(), "not a ") && strings.Contains(err.Error(), " from ")) {
			t.Errorf("%s: bounds are known: %v; of what is no number it says %v", v.Name, bounded,
				err)
		}
		if !bounded {
			continue
		}
		for n, good := range map[int]bool{b[0]: true, b[1]: true, b[0] - 1: false,
			b[1] + 1: false} {
			err := v.read(new(Config), strconv.Itoa(n))
			if (err == nil) != good || err != nil &&
				!strings.HasSuffix(err.Error(), fmt.Sprintf(" from %d to %d", b[0], b[1])) {
				t.Errorf("%s=%d: got %v, want %d to %d", v.Name, n, err, b[0], b[1])
			}
		}
	}
}

// TestLive lists the variables that take effect without a restart.
func TestLive(t *testing.T) {
	const live = `
REVERB_APP_ID REVERB_APP_KEY REVERB_APP_SECRET REVERB_APPS REVERB_APPS_FILE REVERB_ALLOWED_ORIGINS
REVERB_APP_PING_INTERVAL REVERB_APP_ACTIVITY_TIMEOUT REVERB_APP_MAX_CONNECTIONS
REVERB_APP_PRESENCE_MAX_MEMBERS REVERB_APP_PRESENCE_MAX_MEMBER_SIZE REVERB_APP_DISCONNECT_GRACE_MS
REVERB_APP_MAX_MESSAGE_SIZE REVERB_APP_MAX_SUBSCRIPTIONS REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM
REVERB_APP_AUTHORIZATION_TIMEOUT REVERB_APP_SUBSCRIPTION_COUNT REVERB_APP_RATE_LIMITING_ENABLED
REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS REVERB_APP_RATE_LIMIT_DECAY_SECONDS
REVERB_APP_RATE_LIMIT_TERMINATE REVERB_MAX_CONNECTIONS_PER_ADDRESS REVERB_MAX_REQUEST_SIZE
REVERB_AUTH_WINDOW REVERB_IDEMPOTENCY_SECONDS REVERB_COMPRESSION REVERB_SHUTDOWN_GRACE
REVERB_TLS_CERT REVERB_TLS_KEY REVERB_TLS_PASSPHRASE REVERB_TLS_CA REVERB_TLS_MIN_VERSION
REVERB_TLS_CIPHERS
REVERB_CONFIG_FILE REVERB_ENV_FILE`
	const secret = "REVERB_APP_SECRET REVERB_APPS REVERB_REDIS_URL REVERB_REDIS_PASSWORD " +
		"REVERB_TLS_PASSPHRASE"
	var gotLive, gotSecret []string
	for _, v := range Variables() {
		if v.Live {
			gotLive = append(gotLive, v.Name)
		}
		if v.Secret {
			gotSecret = append(gotSecret, v.Name)
		}
	}
	if got, want := strings.Join(gotLive, " "),
		strings.Join(strings.Fields(live), " "); got != want {
		t.Errorf("live: got %s, want %s", got, want)
	}
	if got := strings.Join(gotSecret, " "); got != secret {
		t.Errorf("secret: got %s, want %s", got, secret)
	}
}

// TestKeysOfAnApp gives each key of an app values that are right and values that are wrong.
func TestKeysOfAnApp(t *testing.T) {
	const (
		short   = `not a whole number from 1 to 2147483647`
		bytes   = `not a whole number from 1 to 67108864`
		seconds = `not a whole number from 1 to 86400`
	)
	for _, c := range []struct{ key, good, bad, problem string }{
		{"ping_interval", `1 "86400" null`, `0 86401 "x" 1.5 [] -1`, seconds},
		{"activity_timeout", `1 "86400" null`, `0 86401`, seconds},
		{"authorization_timeout", `1 "86400" null`, `0 86401 "x"`, seconds},
		{"subscription_count", `true false "1" null`, `"x" 2`, `neither true nor false`},
		{"max_connections", `1 "2147483647" null`, `0 2147483648`, short},
		{"presence_max_members", `1 2147483647 null`, `0 2147483648`, short},
		{"presence_max_member_size", `1 67108864 null`, `0 67108865`, bytes},
		{"max_message_size", `1 67108864 null`, `0 67108865`, bytes},
		{"max_subscriptions", `1 2147483647 null`, `0 2147483648`, short},
		{"accept_client_events_from", `"members" "all" "none" "private" null`, `"ALL" 1 ""`,
			"not one of members, all, none and private"},
		{"rate_limiting", `{} [] null {"enabled":null}`, `5 "x" [1] true`, "not an object"},
		{"rate_limiting.enabled", `true "FALSE" 0 "1"`, `"yes" 2 []`, "neither true nor false"},
		{"rate_limiting.terminate_on_limit", `true "FALSE" 0 "1"`, `"yes" 2 []`,
			"neither true nor false"},
		{"rate_limiting.max_attempts", `1 2147483647`, `0 2147483648`, short},
		{"rate_limiting.decay_seconds", `1 86400`, `0 86401`, seconds},
		{"allowed_origins", `["a.b"] ["*"] {"1":"a.b"} [] null`, `5 "a.b" true`,
			"not an array of hosts"},
	} {
		app := func(value string) string {
			name, inner, nested := strings.Cut(c.key, ".")
			if nested {
				value = `{"` + inner + `":` + value + `}`
			}
			return `[{"app_id":"1","key":"k","secret":"s","` + name + `":` + value + `}]`
		}
		for _, value := range strings.Fields(c.good) {
			if apps, problems, warnings := parseApps([]byte(app(value))); len(apps) != 1 ||
				len(problems)+len(warnings) > 0 {
				t.Errorf("%s: %s: got %q, %q", c.key, value, problems, warnings)
			}
		}
		for _, value := range strings.Fields(c.bad) {
			want := "app 0: " + c.key + ": " + c.problem
			if _, problems, _ := parseApps([]byte(app(value))); len(problems) != 1 ||
				problems[0] != want {
				t.Errorf("%s: %s: got %q, want %q", c.key, value, problems, want)
			}
		}
	}
	_, problems, warnings := parseApps([]byte(`[{"app_id":"1","key":"k","secret":"s",` +
		`"allowed_origins":["a b","https://c.d:1"],"strange":1,"options":{},"name":"x"}]`))
	got := fmt.Sprintf("%q %q", problems, warnings)
	if want := `["app 0: allowed_origins: \"a b\": an origin is a host alone, without port or ` +
		`path, such as example.com or *.example.com"] ["app 0: allowed_origins: ` +
		`\"https://c.d:1\": of an origin only the host counts, not scheme, port or path; write ` +
		`it as c.d" "app 0: the key \"strange\" means nothing here"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestAddresses checks the forms of an address to listen on.
func TestAddresses(t *testing.T) {
	for value, want := range map[string]string{
		"127.0.0.1:9090": "127.0.0.1:9090", ":9090": ":9090", "[::1]:0": "[::1]:0",
		"h:65535": "h:65535", "9090": "127.0.0.1:9090", "unix:/run/x": "unix:/run/x",
		"h:65536": "", "h:-1": "", "h:x": "", "h": "", "unix:": "", "a@h:1": "", "http://h:1": "",
		"h/x:1": "",
	} {
		c := load(append([]string{"REVERB_ADMIN_LISTEN=" + value}, app1...), nil)
		if c.Admin.Listen != want || (want == "") != (len(c.Problems) == 1) {
			t.Errorf("%s: got %s, %q, want %s", value, c.Admin.Listen, c.Problems, want)
		}
	}
}
