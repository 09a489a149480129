package config

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// bounds are the least and the largest number that a variable takes.
var bounds = map[string][2]int{
	"REVERB_SERVER_PORT":                      {0, 65535},
	"REVERB_PORT":                             {1, 65535},
	"REVERB_REDIS_PORT":                       {0, 65535},
	"REVERB_REDIS_DB":                         {0, 65535},
	"REVERB_APP_PING_INTERVAL":                {1, 86_400},
	"REVERB_APP_ACTIVITY_TIMEOUT":             {1, 86_400},
	"REVERB_APP_RATE_LIMIT_DECAY_SECONDS":     {1, 86_400},
	"REVERB_AUTH_WINDOW":                      {0, 86_400},
	"REVERB_REDIS_TIMEOUT":                    {0, 86_400},
	"REVERB_SHUTDOWN_GRACE":                   {0, 3600},
	"REVERB_UPGRADE_DRAIN":                    {0, 604_800},
	"REVERB_WEBHOOK_TIMEOUT":                  {1, 60},
	"REVERB_WEBHOOK_CLIENT_EVENTS_PER_SECOND": {1, 1_000_000},
	"REVERB_IDEMPOTENCY_SECONDS":              {0, 86_400},
	"REVERB_RESUME_SECONDS":                   {0, 86_400},
	"REVERB_RESUME_EVENTS":                    {1, 100_000},
	"REVERB_APP_MAX_CONNECTIONS":              {1, 1<<31 - 1},
	"REVERB_APP_PRESENCE_MAX_MEMBERS":         {1, 1<<31 - 1},
	"REVERB_APP_MAX_SUBSCRIPTIONS":            {1, 1<<31 - 1},
	"REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS":      {1, 1<<31 - 1},
	"REVERB_APP_AUTHORIZATION_TIMEOUT":        {1, 86_400},
	"REVERB_MAX_CONNECTIONS_PER_ADDRESS":      {0, 1<<31 - 1},
	"REVERB_APP_PRESENCE_MAX_MEMBER_SIZE":     {1, 64 << 20},
	"REVERB_APP_DISCONNECT_GRACE_MS":          {0, 60_000},
	"REVERB_APP_MAX_MESSAGE_SIZE":             {1, 64 << 20},
	"REVERB_MAX_REQUEST_SIZE":                 {1, 64 << 20},
	"REVERB_LARAVEL_QUEUE_MAX":                {1, 100_000_000},
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
REVERB_AUTH_WINDOW REVERB_IDEMPOTENCY_SECONDS REVERB_COMPRESSION REVERB_RESUME_SECONDS
REVERB_SHUTDOWN_GRACE
REVERB_TLS_CERT REVERB_TLS_KEY REVERB_TLS_PASSPHRASE REVERB_TLS_CA REVERB_TLS_MIN_VERSION
REVERB_TLS_CIPHERS
REVERB_WEBHOOK_URL REVERB_WEBHOOK_EVENTS REVERB_WEBHOOK_CHANNEL_PREFIX
REVERB_WEBHOOK_CHANNEL_SUFFIX REVERB_WEBHOOK_TIMEOUT REVERB_WEBHOOK_HEADERS
REVERB_LARAVEL_QUEUE REVERB_LARAVEL_LISTENER REVERB_LARAVEL_QUEUE_MAX
REVERB_CONFIG_FILE REVERB_ENV_FILE`
	const secret = "REVERB_APP_SECRET REVERB_APPS REVERB_REDIS_URL REVERB_REDIS_PASSWORD " +
		"REVERB_TLS_PASSPHRASE REVERB_WEBHOOK_HEADERS REVERB_WEBHOOK_PROXY"
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
