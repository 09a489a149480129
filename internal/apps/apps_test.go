package apps

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseApps(t *testing.T) {
	one := `{"app_id":1,"key":"k","secret":"s","allowed_origins":["*.a.b"],"ping_interval":5,` +
		`"activity_timeout":"7","max_connections":null,"max_message_size":99,` +
		`"accept_client_events_from":null,"rate_limiting":{"enabled":true,"max_attempts":3,` +
		`"decay_seconds":9,"terminate_on_limit":true},"options":{"host":"x"}}`
	want := "1 k s [*.a.b] 5s 7s 0 99 1 {true 3 9s true}"
	for _, form := range []string{"[" + one + "]", `{"apps":[` + one + `]}`,
		`{"default":"reverb","servers":{},"apps":{"provider":"config","apps":[` + one + `]}}`} {
		apps, problems, warnings := ParseList([]byte(form))
		if len(apps) != 1 || len(problems)+len(warnings) > 0 {
			t.Fatalf("%.30s: got %d apps, %q, %q", form, len(apps), problems, warnings)
		}
		a := apps[0]
		if got := fmt.Sprint(a.ID, " ", a.Key, " ", a.Secret, " ", a.AllowedOrigins, a.PingInterval,
			a.ActivityTimeout, a.MaxConnections, a.MaxMessageSize, a.ClientEvents,
			a.RateLimit); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	const good = `{"app_id":"1","key":"k","secret":"s",`
	for form, want := range map[string]string{
		"{":                                  "invalid JSON",
		"5":                                  "neither an array",
		"[]":                                 "the list is empty",
		"[5]":                                "app 0: not an object",
		`[{"key":"k"}]`:                      "app 0: app_id: missing",
		"[" + one + "," + one + "]":          "app 1: another app has the same",
		"[" + good + `"ping_interval":"x"}]`: "app 0: ping_interval: not a whole number",
		"[" + good +
			`"rate_limiting":{"enabled":"soon"}}]`: "rate_limiting.enabled: neither true nor",
		"[" + good + `"accept_client_events_from":"some"}]`: "events_from: not one of members",
	} {
		if _, problems, _ := ParseList([]byte(form)); !strings.Contains(strings.Join(problems,
			"\n"), want) {
			t.Errorf("%.40s: got %q, want %q", form, problems, want)
		}
	}
}

// TestPHPBooleans reads the forms of true in PHP.
func TestPHPBooleans(t *testing.T) {
	for value, want := range map[string]bool{"true": true, "1": true, `"1"`: true, `"true"`: true,
		"false": false, "0": false, `"false"`: false, "null": false} {
		apps, problems, _ := ParseList([]byte(
			`[{"app_id":"1","key":"k","secret":"s","rate_limiting":{"enabled":` + value + `}}]`))
		if len(problems) > 0 || apps[0].RateLimit.Enabled != want {
			t.Errorf("%s: got %v, %q", value, apps[0].RateLimit.Enabled, problems)
		}
	}
}

func FuzzParseApps(f *testing.F) {
	f.Add([]byte(`[{"app_id":"1","key":"k","secret":"s","rate_limiting":{"enabled":true}}]`))
	f.Add([]byte(`{"apps":{"apps":[{"app_id":1}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		apps, problems, _ := ParseList(b)
		if len(problems) > 0 {
			return
		}
		for _, a := range apps {
			if a.ID == "" || a.Key == "" || a.Secret == "" || a.PingInterval <= 0 ||
				a.MaxMessageSize <= 0 {
				t.Fatalf("%q gave %+v", b, a.ID)
			}
		}
	})
}

// TestListsOfPHP: PHP's arrays are objects in JSON where their keys are not 0, 1, 2.
func TestListsOfPHP(t *testing.T) {
	one, two := `{"app_id":"1","key":"k1","secret":"s","allowed_origins":{"1":"A.com",`+
		`"3":"b.com"},"rate_limiting":[]}`, `{"app_id":"2","key":"k2","secret":"s"}`
	for form, want := range map[string]int{
		`{"apps":{"apps":{"0":` + one + `,"main":` + two + `}}}`:                        2,
		`{"default":"reverb","apps":{"provider":"config","apps":{"main":` + one + `}}}`: 1,
		`{"2":` + two + `,"1":` + one + `}`:                                             2,
		`{"apps":` + one + `}`:                                                          1, one: 1,
		`{"apps":` + two + `,"other":` + one + `}`:                 2,
		`{"apps":{"apps":{"apps":` + one + `,"key":` + two + `}}}`: 2,
	} {
		apps, problems, warnings := ParseList([]byte(form))
		if len(problems)+len(warnings) > 0 || len(apps) != want {
			t.Errorf("%s: got %d apps, %q, %q", form, len(apps), problems, warnings)
			continue
		}
		for _, a := range apps {
			if want := map[string]string{"1": "[a.com b.com]",
				"2": "[*]"}[a.ID]; fmt.Sprint(a.AllowedOrigins) != want {
				t.Errorf("%s: app %s: got %v, want %s", form, a.ID, a.AllowedOrigins, want)
			}
		}
	}
	for _, form := range []string{`{"servers":{"reverb":{"host":"x"}}}`,
		`{"apps":{"main":` + one + `,"x":1}}`, `{"apps":"x"}`} {
		if apps, problems, _ := ParseList([]byte(form)); len(problems) != 1 {
			t.Errorf("%s: got %d apps, %q", form, len(apps), problems)
		}
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
		{"resume_seconds", `0 1 "86400" null`, `-1 86401 "x" 1.5 []`,
			`not a whole number from 0 to 86400`},
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
			if apps, problems, warnings := ParseList([]byte(app(value))); len(apps) != 1 ||
				len(problems)+len(warnings) > 0 {
				t.Errorf("%s: %s: got %q, %q", c.key, value, problems, warnings)
			}
		}
		for _, value := range strings.Fields(c.bad) {
			want := "app 0: " + c.key + ": " + c.problem
			if _, problems, _ := ParseList([]byte(app(value))); len(problems) != 1 ||
				problems[0] != want {
				t.Errorf("%s: %s: got %q, want %q", c.key, value, problems, want)
			}
		}
	}
	_, problems, warnings := ParseList([]byte(`[{"app_id":"1","key":"k","secret":"s",` +
		`"allowed_origins":["a b","https://c.d:1"],"strange":1,"options":{},"name":"x"}]`))
	got := fmt.Sprintf("%q %q", problems, warnings)
	if want := `["app 0: allowed_origins: \"a b\": an origin is a host alone, without port or ` +
		`path, such as example.com or *.example.com"] ["app 0: allowed_origins: ` +
		`\"https://c.d:1\": of an origin only the host counts, not scheme, port or path; write ` +
		`it as c.d" "app 0: the key \"strange\" means nothing here"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAnyOrigin(t *testing.T) {
	for a, want := range map[*App]string{{}: "localhost",
		{AllowedOrigins: []string{"*.a.b"}}: "localhost.a.b"} {
		if got := a.AnyOrigin(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
