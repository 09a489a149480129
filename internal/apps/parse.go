package apps

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"reverb/internal/aliases"
	"reverb/internal/hooks"
	"reverb/internal/laravel"
	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/origin"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
)

// ParseList reads a JSON array of apps with the keys of config/reverb.php, or the output of
// json_encode(config('reverb')), which holds such an array, or the apps of soketi. problems must be
// solved, warnings need not. Each is one line.
func ParseList(b []byte) (apps []*App, problems, warnings []string) {
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
	list := jsonraw.List
	if laravel.IsApp(b) { // one app in the place of a list
		list = func(b []byte, element func([]byte)) error { element(b); return nil }
	} else if !laravel.IsAppList(b) {
		list = jsonraw.Array
	}
	n := 0
	if err := list(b, func(value []byte) {
		a, bad, odd := Parse(value)
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
	smoothing          *time.Duration // disconnect_smoothing_ms of webhooks; nil: it is not there
	graced             bool           // disconnect_grace_ms is there
}

// Parse reads one app. A missing key has Reverb's default.
func Parse(b []byte) (a *App, problems, warnings []string) {
	r := appReader{App: &App{AllowedOrigins: []string{"*"}, PingInterval: 60 * time.Second,
		ActivityTimeout: 30 * time.Second, MaxMessageSize: 10_000, MaxSubscriptions: 10_000,
		DisconnectGrace: 3 * time.Second,
		RateLimit:       RateLimit{MaxAttempts: 60, Decay: 60 * time.Second}}}
	if jsonraw.Object(b, func(key, value []byte) { r.member(string(key), value) }) != nil {
		return r.App, []string{"not an object"}, nil
	}
	if r.smoothing != nil && !r.graced {
		r.DisconnectGrace = *r.smoothing
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
		r.between(key, value, 0, MaxGrace, &n)
		r.graced = true
		r.DisconnectGrace = time.Duration(n) * time.Millisecond
	case "resume_seconds":
		n := int(r.ResumeLife / time.Second)
		r.between(key, value, 0, 86_400, &n)
		r.ResumeLife = time.Duration(n) * time.Second
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
	case "webhooks":
		r.hooks(value)
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
	if b, ok := jsonraw.YesNo(value); ok {
		*to = b
	} else {
		r.bad(key, "neither true nor false")
	}
}

func (r *appReader) origins(key string, value []byte) {
	r.AllowedOrigins = nil
	if jsonraw.List(value, func(v []byte) {
		s, _ := jsonraw.String(v)
		pattern, warning, err := origin.Parse(s)
		if err != nil {
			r.bad(key, "%s: %v", masked(s), err)
		}
		if warning != "" {
			r.warnings = append(r.warnings, key+": "+masked(s)+": "+warning)
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
	p, err := ParsePolicy(s)
	if r.ClientEvents = p; err != nil {
		r.bad(key, "%v", err)
	}
}

// hooks reads webhooks. An empty list says that the app has none, whatever the variables say.
func (r *appReader) hooks(value []byte) {
	s := hooks.ParseSettings(value)
	r.Webhooks, r.smoothing = s.Hooks, s.Grace
	r.problems = append(r.problems, s.Problems...)
	r.warnings = append(r.warnings, s.Warnings...)
}

// rateLimit reads the keys of rate_limiting. PHP's empty array, [], sets none.
func (r *appReader) rateLimit(key string, value []byte) {
	empty := strings.Join(strings.Fields(string(value)), "") == "[]"
	member := func(k, v []byte) { r.member(key+"."+string(k), v) }
	if !empty && jsonraw.Object(value, member) != nil {
		r.bad(key, "not an object")
	}
}

// masked shows a value without passwords.
func masked(value string) string { return show.Quoted(redact.URL(value)) }
