package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverb/internal/aliases"
	"reverb/internal/laravel"
	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/origin"
	"reverb/internal/lib/php"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
)

// Policy says whose client events are relayed, and on which channels.
type Policy uint8

const (
	FromMembers Policy = iota // of subscribers, on any channel
	FromAll                   // of every client, on any channel
	FromNone
	FromPrivate // of subscribers, on private and presence channels
)

// RateLimit bounds the messages of one connection: at most MaxAttempts in Decay, counted from the
// first message. Pings, pongs and control frames are free.
type RateLimit struct {
	Enabled     bool
	MaxAttempts int
	Decay       time.Duration
	Terminate   bool // close instead of answering with an error
}

// maxGrace bounds DisconnectGrace in milliseconds. Larger: a user who has gone counts as online for
// longer than anybody would believe. Smaller: applications with slow page changes cannot hide them.
const maxGrace = 60_000

// App is the configuration of one application. It never changes.
type App struct {
	ID, Key, Secret  string
	AllowedOrigins   []string // as origin.Parse returns them; "*" allows every origin and none
	PingInterval     time.Duration
	ActivityTimeout  time.Duration
	MaxConnections   int // 0: no limit
	MaxMessageSize   int // bytes
	MaxSubscriptions int // of one connection
	MaxMembers       int // of a presence channel; 0: no limit
	MaxMemberSize    int // bytes of channel_data; 0: only MaxMessageSize counts
	// DisconnectGrace is how long a user whose last socket has vanished still counts as online.
	DisconnectGrace time.Duration
	ClientEvents    Policy
	// AuthorizationTimeout is how long a connection may be neither signed in nor subscribed to a
	// channel that needs a signature; 0: for ever.
	AuthorizationTimeout time.Duration
	SubscriptionCount    bool // subscribers are told how many they are
	RateLimit            RateLimit
}

// AnyOrigin returns one host that may connect.
func (a *App) AnyOrigin() string {
	if len(a.AllowedOrigins) == 0 {
		return "localhost"
	}
	return strings.ReplaceAll(a.AllowedOrigins[0], "*", "localhost")
}

func parsePolicy(s string) (Policy, error) {
	switch s {
	case "members":
		return FromMembers, nil
	case "all":
		return FromAll, nil
	case "none":
		return FromNone, nil
	case "private":
		return FromPrivate, nil
	}
	return 0, errors.New("not one of members, all, none and private")
}

// loadApps makes the apps from REVERB_APPS, REVERB_APPS_FILE or REVERB_APP_*.
func (c *Config) loadApps() {
	switch {
	case redact.NoName(c.Setting("REVERB_APPS_FILE").Value) != nil: // a problem already
	case c.appsJSON != "" && c.appsFile != "":
		c.Problem("REVERB_APPS_FILE="+Masked(c.appsFile),
			"REVERB_APPS is set too; keep one of the two")
	case c.appsJSON != "":
		c.addApps("REVERB_APPS", []byte(c.appsJSON))
	case strings.HasSuffix(c.appsFile, ".php"):
		c.addPHPApps()
	case c.appsFile != "":
		b, err := c.files.Read(c.at(c.appsFile))
		if err != nil {
			c.Problem("REVERB_APPS_FILE="+Masked(c.appsFile),
				c.fileHint(err, "name a JSON file of apps"))
			return
		}
		c.addApps("REVERB_APPS_FILE="+Masked(c.appsFile), b)
	case c.application.apps != nil:
		c.addApps(c.application.origin, c.application.apps)
	default:
		c.addApp()
	}
}

// addApp adds the app of REVERB_APP_ID, _KEY and _SECRET.
func (c *Config) addApp() {
	a := &c.app
	missing := []string{}
	parts := map[string]string{"REVERB_APP_ID": a.ID, "REVERB_APP_KEY": a.Key,
		"REVERB_APP_SECRET": a.Secret}
	for name, value := range parts {
		if value == "" {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	switch len(missing) {
	case 0:
		c.Apps = append(c.Apps, a)
	case 3: // then there is no app; start says what to do
		if f := c.application.reverb; f.Kind == php.Array && !c.Dev && len(c.Problems) == 0 {
			c.Warn("%s was read, and no app in it has an app_id, a key and a secret", f.File)
		}
	default:
		c.Problem(strings.Join(missing, ", "),
			"not set, while the rest of the app is; an app needs REVERB_APP_ID, REVERB_APP_KEY "+
				"and REVERB_APP_SECRET")
	}
}

// addApps reads a list of apps and says what is wrong with it.
func (c *Config) addApps(given string, b []byte) {
	apps, problems, warnings := parseApps(b)
	for _, p := range problems {
		c.Problem(given, p)
	}
	for _, w := range warnings {
		c.Warn("%s: %s", given, w)
	}
	c.Apps = apps
	c.readDumpTLS(given, b)
	c.compareDump(given, b)
	ours := func(a *App) bool { return a.ID == c.app.ID }
	if c.app.ID != "" && !slices.ContainsFunc(apps, ours) && len(problems) == 0 {
		c.Warn("REVERB_APP_ID=%q is not in the list of apps, so it is not served; %s decides",
			show.Text(c.app.ID), strings.SplitN(given, "=", 2)[0])
	}
}

// compareDump compares a dump of config('reverb') with the variables of the server itself, and
// warns of differences. The variables count.
func (c *Config) compareDump(given string, b []byte) {
	for _, name := range []string{"servers", "reverb"} {
		b = laravel.Member(b, name)
	}
	compare := func(value []byte, name, counts string) {
		s, ok := jsonraw.Scalar(value)
		if ok && s != "" && strings.Trim(s, "/") != strings.Trim(counts, "/") {
			c.Warn("%s says %s, but %s=%s counts; set the variable if the list is right", given,
				show.Text(redact.URL(s)), name, show.Text(redact.URL(counts)))
		}
	}
	compare(laravel.Member(b, "host"), "REVERB_SERVER_HOST", c.Listen.Host)
	compare(laravel.Member(b, "port"), "REVERB_SERVER_PORT", strconv.Itoa(c.Listen.Port))
	compare(laravel.Member(b, "path"), "REVERB_SERVER_PATH", c.Listen.Path)
	compare(laravel.Member(b, "max_request_size"), "REVERB_MAX_REQUEST_SIZE",
		strconv.Itoa(c.Limits.RequestSize))
	enabled := string(laravel.Member(laravel.Member(b, "scaling"), "enabled")) == "true"
	if enabled && !c.Scaling.Enabled {
		c.Warn("%s says that scaling is enabled, but REVERB_SCALING_ENABLED, which counts, is "+
			"not true", given)
	}
}

// parseApps reads a JSON array of apps with the keys of config/reverb.php, or the output of
// json_encode(config('reverb')), which holds such an array.
func parseApps(b []byte) (apps []*App, problems, warnings []string) {
	if err := jsonraw.Check(b); err != nil {
		const form = `[{"app_id":"1","key":"k","secret":"s"}]`
		return nil, []string{err.Error() + "; give an array like " + form}, nil
	}
	if theirs, unknown, ok := aliases.SoketiApps(b); ok {
		b = theirs
		for _, key := range unknown {
			warnings = append(warnings, "the key "+show.Quoted(key)+" of soketi has no "+
				"counterpart here")
		}
	}
	for range 3 { // {"apps":{"apps":[…]}}
		if inner := laravel.Member(b, "apps"); inner != nil && !laravel.IsAppList(b) {
			b = inner
		}
	}
	list := laravel.List
	if laravel.IsApp(b) { // one app in the place of a list
		list = func(b []byte, element func([]byte)) error { element(b); return nil }
	} else if !laravel.IsAppList(b) {
		list = jsonraw.Array
	}
	n := 0
	if err := list(b, func(value []byte) {
		a, bad, odd := parseApp(value)
		if laravel.Member(value, "id") != nil && a.ID == "" {
			bad, odd = []string{"no app_id, but soketi's key id; give soketi's whole file, " +
				`{"appManager.array.apps":[…]}, or the keys of config/reverb.php`}, nil
		}
		for _, p := range bad {
			problems = append(problems, fmt.Sprintf("app %d: %s", n, p))
		}
		for _, w := range odd {
			warnings = append(warnings, fmt.Sprintf("app %d: %s", n, w))
		}
		for _, other := range apps {
			if a.ID == other.ID || a.Key == other.Key {
				problems = append(problems,
					fmt.Sprintf("app %d: another app has the same app_id or key", n))
			}
		}
		apps = append(apps, a)
		n++
	}); err != nil {
		return nil, []string{"neither an array of apps nor a dump of config('reverb')"}, nil
	}
	if n == 0 {
		problems = append(problems, "the list is empty; an app needs app_id, key and secret")
	}
	return apps, problems, warnings
}

// appReader reads one app, and collects its problems and warnings.
type appReader struct {
	*App
	problems, warnings []string
}

// parseApp reads one app. A missing key has Reverb's default.
func parseApp(b []byte) (a *App, problems, warnings []string) {
	r := appReader{App: &App{AllowedOrigins: []string{"*"}, PingInterval: 60 * time.Second,
		ActivityTimeout: 30 * time.Second, MaxMessageSize: 10_000, MaxSubscriptions: 10_000,
		DisconnectGrace: 3 * time.Second,
		RateLimit:       RateLimit{MaxAttempts: 60, Decay: 60 * time.Second}}}
	if jsonraw.Object(b, func(key, value []byte) { r.member(string(key), value) }) != nil {
		return r.App, []string{"not an object"}, nil
	}
	for name, value := range map[string]string{"app_id": r.ID, "key": r.Key, "secret": r.Secret} {
		if value == "" {
			r.bad(name, "missing or empty")
		}
	}
	slices.Sort(r.problems)
	return r.App, r.problems, r.warnings
}

func (r *appReader) bad(key, format string, args ...any) {
	r.problems = append(r.problems, key+": "+fmt.Sprintf(format, args...))
}

// member reads one key of config/reverb.php. A key of rate_limiting stands after a dot.
func (r *appReader) member(key string, value []byte) {
	if string(value) == "null" && key != "accept_client_events_from" {
		return
	}
	switch key {
	case "app_id":
		r.ID, _ = jsonraw.Scalar(value)
	case "key":
		r.Key, _ = jsonraw.Scalar(value)
	case "secret":
		r.Secret, _ = jsonraw.Scalar(value)
	case "allowed_origins":
		r.origins(key, value)
	case "ping_interval":
		r.seconds(key, value, &r.PingInterval)
	case "activity_timeout":
		r.seconds(key, value, &r.ActivityTimeout)
	case "max_connections":
		r.whole(key, value, math.MaxInt32, &r.MaxConnections)
	case "presence_max_members":
		r.whole(key, value, math.MaxInt32, &r.MaxMembers)
	case "presence_max_member_size":
		r.whole(key, value, 64<<20, &r.MaxMemberSize)
	case "disconnect_grace_ms":
		n := int(r.DisconnectGrace / time.Millisecond)
		r.between(key, value, 0, maxGrace, &n)
		r.DisconnectGrace = time.Duration(n) * time.Millisecond
	case "max_message_size":
		r.whole(key, value, 64<<20, &r.MaxMessageSize)
	case "max_subscriptions":
		r.whole(key, value, math.MaxInt32, &r.MaxSubscriptions)
	case "accept_client_events_from":
		r.policy(key, value)
	case "authorization_timeout":
		r.seconds(key, value, &r.AuthorizationTimeout)
	case "subscription_count":
		r.yesNo(key, value, &r.SubscriptionCount)
	case "rate_limiting":
		r.rateLimit(key, value)
	case "rate_limiting.enabled":
		r.yesNo(key, value, &r.RateLimit.Enabled)
	case "rate_limiting.terminate_on_limit":
		r.yesNo(key, value, &r.RateLimit.Terminate)
	case "rate_limiting.max_attempts":
		r.whole(key, value, math.MaxInt32, &r.RateLimit.MaxAttempts)
	case "rate_limiting.decay_seconds":
		r.seconds(key, value, &r.RateLimit.Decay)
	case "options", "name": // Laravel needs these to publish
	default:
		r.warnings = append(r.warnings, "the key "+show.Quoted(key)+" means nothing here")
	}
}

// whole reads a whole number from 1 to hi.
func (r *appReader) whole(key string, value []byte, hi int, to *int) {
	r.between(key, value, 1, hi, to)
}

func (r *appReader) between(key string, value []byte, lo, hi int, to *int) {
	s, _ := jsonraw.Scalar(value)
	n, err := strconv.Atoi(s)
	if err != nil || n < lo || n > hi {
		r.bad(key, "not a whole number from %d to %d", lo, hi)
		return
	}
	*to = n
}

func (r *appReader) seconds(key string, value []byte, to *time.Duration) {
	n := int(*to / time.Second)
	r.whole(key, value, 86_400, &n)
	*to = time.Duration(n) * time.Second
}

// yesNo reads true or false in the forms that PHP accepts.
func (r *appReader) yesNo(key string, value []byte, to *bool) {
	s, _ := jsonraw.Scalar(value)
	if string(value) == "false" {
		s = "false"
	}
	b, err := strconv.ParseBool(strings.ToLower(s))
	if err != nil {
		r.bad(key, "neither true nor false")
		return
	}
	*to = b
}

func (r *appReader) origins(key string, value []byte) {
	r.AllowedOrigins = nil
	if laravel.List(value, func(v []byte) {
		s, _ := jsonraw.String(v)
		pattern, warning, err := origin.Parse(s)
		if err != nil {
			r.bad(key, "%s: %v", Masked(s), err)
		}
		if warning != "" {
			r.warnings = append(r.warnings, key+": "+Masked(s)+": "+warning)
		}
		r.AllowedOrigins = append(r.AllowedOrigins, pattern)
	}) != nil {
		r.bad(key, "not an array of hosts")
	}
}

// policy reads whose client events are relayed. In Reverb null checks nothing.
func (r *appReader) policy(key string, value []byte) {
	if r.ClientEvents = FromAll; string(value) == "null" {
		return
	}
	s, _ := jsonraw.String(value)
	p, err := parsePolicy(s)
	if r.ClientEvents = p; err != nil {
		r.bad(key, "%v", err)
	}
}

// rateLimit reads the keys of rate_limiting. PHP's empty array, [], sets none.
func (r *appReader) rateLimit(key string, value []byte) {
	empty := strings.Join(strings.Fields(string(value)), "") == "[]"
	member := func(k, v []byte) { r.member(key+"."+string(k), v) }
	if !empty && jsonraw.Object(value, member) != nil {
		r.bad(key, "not an object")
	}
}
