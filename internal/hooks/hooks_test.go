package hooks

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"reverb/internal/hookevents"
	"reverb/internal/lib/jsonraw"
	"reverb/internal/webhooks"
)

// line is a hook in one line, without what is not set.
func line(h *webhooks.Hook) string {
	s := fmt.Sprint(h.URL, " ", kindsOf(h.Kinds))
	if h.Prefix+h.Suffix != "" {
		s += " " + h.Prefix + "*" + h.Suffix
	}
	if h.Timeout != DefaultTimeout {
		s += " " + h.Timeout.String()
	}
	for name, values := range h.Headers {
		s += " " + name + "=" + values[0]
	}
	return s
}

func kindsOf(set webhooks.Kinds) string {
	switch set {
	case hookevents.DefaultKinds:
		return "default"
	case webhooks.Kinds(0x7f):
		return "all"
	}
	var names []string
	for k := range webhooks.Kind(7) {
		if set.Has(k) {
			names = append(names, k.String())
		}
	}
	return strings.Join(names, ",")
}

func TestParseSettings(t *testing.T) {
	const retried = "means nothing here: a request is tried again for 5 minutes"
	const keys = "is not supported; url, events, event_types, headers, filter, " +
		"subscription_count, timeout, request_timeout_ms, disconnect_smoothing_ms, enabled are"
	for _, c := range []struct{ in, hooks, problems, warnings string }{
		{in: `null`}, {in: `{}`}, {in: `{"url":null}`}, {in: `{"url":""}`},
		{in: `[]`, hooks: "none"}, {in: `[ ]`, hooks: "none"}, {in: `"[]"`, hooks: "none"},
		{in: `""`, hooks: "none"}, {in: `"{\"url\":null}"`},
		{in: `{"url":null,"events":[],"headers":[],"filter":[],"timeout":5}`},
		{in: `{"url":"","events":["member_added"]}`, warnings: "webhooks.url: missing, so the " +
			"other keys mean nothing; REVERB_WEBHOOK_URL counts if it is set"},
		// Hypervel
		{in: `{"url":"https://app.example/hooks","events":[],"headers":[],"filter":[],
			"subscription_count":false,"disconnect_smoothing_ms":2500,"timeout":7,"retries":3,
			"retry_delay":1,"batching":{"enabled":false}}`,
			hooks: "https://app.example/hooks default 7s grace 2.5s",
			warnings: "webhooks.retries: " + retried + "|webhooks.retry_delay: " + retried +
				"|webhooks.batching: means nothing here: events that wait for a request travel " +
				"together"},
		{in: `{"url":"http://10.0.0.1:8000","events":{"0":"channel_occupied","2":"client_event"},
			"headers":{"authorization":"Bearer x"},"subscription_count":true,"filter":
			{"channel_name_starts_with":"presence-","channel_name_ends_with":null}}`,
			hooks: "http://10.0.0.1:8000 channel_occupied,client_event,subscription_count " +
				"presence-* Authorization=Bearer x"},
		// soketi
		{in: `[{"url":"http://a/","event_types":["member_added","member_removed"],"filter":
			{"channel_name_ends_with":".x"}},{"url":"http://b/#part"}]`,
			hooks: "http://a/ member_added,member_removed *.x|http://b/ default"},
		{in: `"[{\"url\":\"http://a/\"}]"`, hooks: "http://a/ default"},
		{in: `[{"lambda_function":"f","event_types":["channel_occupied"]}]`,
			problems: "webhooks[0].lambda_function: AWS Lambda functions cannot be called; " +
				"give a url"},
		{in: `[{"url":"http://a","lambda":{"async":true}}]`,
			problems: "webhooks[0].lambda: AWS Lambda functions cannot be called; give a url"},
		// sockudo
		{in: `[{"url":"https://[::1]:443/a?b=1","event_types":["cache_miss"],"headers":{},
			"request_timeout_ms":1500,"retry":{"enabled":true},"filter":{"channel_prefix":"a",
			"channel_suffix":"b","channel_pattern":"","channel_namespaces":[]}}]`,
			hooks:    "https://[::1]:443/a?b=1 cache_miss a*b 1.5s",
			warnings: "webhooks[0].retry: " + retried},
		{in: `[{"url":"http://a","filter":{"channel_pattern":"^x","channel_namespaces":["n"]}}]`,
			problems: "webhooks[0].filter.channel_pattern: is not supported; channel_prefix and " +
				"channel_suffix are|webhooks[0].filter.channel_namespaces: is not supported; " +
				"channel_prefix and channel_suffix are"},
		// PHP's lists with holes, and what is wrong
		{in: `{"1":{"url":"http://a"},"3":{"url":"http://b"}}`,
			hooks: "http://a default|http://b default"},
		{in: `7`, problems: "webhooks: neither an object with url nor a list of such objects"},
		{in: `"x"`, problems: "webhooks: the text is not JSON"},
		{in: `[7]`, problems: "webhooks[0]: not an object with url"},
		{in: `[{}]`, problems: "webhooks[0].url: missing"},
		{in: `[{"url":7},{"url":"http://u:PASS@a"},{}]`,
			problems: `webhooks[0].url: "" is not an http or https URL, such as ` +
				"https://app.example/webhooks|webhooks[2].url: missing"},
		{in: `[{"url":"http://u:PASS@a?T=1"},{"url":"http://u:PASS@a?T=1"}]`,
			problems: `webhooks: "http://********@a?********" is there twice; an app has each ` +
				"URL once"},
		{in: `{"url":"http://a","timeout":61,"request_timeout_ms":0,"disconnect_smoothing_ms":-1,
			"filter":7,"events":7,"headers":7,"new\nkey":1}`,
			problems: "webhooks.timeout: not a whole number from 1 to 60|" +
				"webhooks.request_timeout_ms: means the same as webhooks.timeout; give one of " +
				"them|webhooks.request_timeout_ms: not a whole number from 1 to 60000|" +
				"webhooks.disconnect_smoothing_ms: not a whole number from 0 to 60000|" +
				"webhooks.filter: not an object with channel_prefix or channel_suffix|" +
				"webhooks.events: not a list of names|webhooks.headers: not an object of " +
				`headers, such as {"Authorization":"Bearer …"}|webhooks.new\u000akey: ` + keys},
		// keys that nobody knows, which may have been meant to choose what is told
		{in: `{"url":"http://a","event_type":["member_added"],"channels":["x"],"Url":null}`,
			problems: "webhooks.event_type: " + keys + "; is event_types meant?|" +
				"webhooks.channels: " + keys},
		// hooks that are turned off
		{in: `{"enabled":false,"url":"http://a"}`, hooks: "none"},
		{in: `{"enabled":false}`, hooks: "none"},
		{in: `[{"url":"http://a","enabled":false},{"url":"http://b","enabled":true},
			{"url":"http://c","enabled":"0"}]`, hooks: "http://b default"},
		{in: `[{"url":"http://a","enabled":"no"}]`,
			problems: "webhooks[0].enabled: neither true nor false"},
		{in: `{"url":"http://a","filter":{"channel_prefix":1,"channel_suffix":[]}}`,
			problems: "webhooks.filter.channel_prefix: not a text|" +
				"webhooks.filter.channel_suffix: not a text"},
		// what several keys say, and what is not true or false
		{in: `{"url":"http://a","subscription_count":"true"}`,
			hooks: "http://a " + "channel_occupied,channel_vacated,member_added,member_removed," +
				"cache_miss,subscription_count"},
		{in: `{"url":"http://a","subscription_count":0}`, hooks: "http://a default"},
		{in: `{"url":"http://a","subscription_count":"yes"}`,
			problems: "webhooks.subscription_count: neither true nor false"},
		{in: `{"url":"http://a","events":["cache_miss"],"event_types":["member_added"],
			"filter":{"channel_prefix":"a","channel_name_starts_with":"b"}}`,
			problems: "webhooks.event_types: means the same as webhooks.events; give one of them|" +
				"webhooks.filter.channel_name_starts_with: means the same as " +
				"webhooks.filter.channel_prefix; give one of them"},
		{in: `{"url":"http://a","events":null,"event_types":["member_added"],"filter":
			{"channel_prefix":"a","channel_name_starts_with":""}}`,
			hooks: "http://a member_added a*"},
		{in: `[{"url":"http://a","disconnect_smoothing_ms":100},{"url":"http://b",
			"disconnect_smoothing_ms":100},{"url":"http://c","disconnect_smoothing_ms":70}]`,
			hooks: "http://a default|http://b default|http://c default grace 70ms",
			warnings: "webhooks[2].disconnect_smoothing_ms: 70ms counts, not the 100ms before " +
				"it: an app has one grace"},
		{in: `[{"url":"https://u:PASS@a/@in"},{"url":"https://u:PASS@a/@in"}]`,
			problems: `webhooks: "https://********@a/@in" is there twice; an app has each ` +
				"URL once"},
		{in: `{"url":"http://a","events":["chanel_occupied"]}`,
			problems: `webhooks.events: "chanel_occupied" is not one of channel_occupied, ` +
				"channel_vacated, member_added, member_removed, client_event, cache_miss, " +
				"subscription_count; is channel_occupied meant?"},
	} {
		s := ParseSettings([]byte(c.in))
		var hooks []string
		if s.Hooks != nil && len(s.Hooks) == 0 {
			hooks = []string{"none"}
		}
		for _, h := range s.Hooks {
			if h.URL == nil {
				t.Fatalf("%s: a hook without URL", c.in)
			}
			hooks = append(hooks, line(h))
		}
		got := strings.Join(hooks, "|")
		if s.Grace != nil {
			got += " grace " + s.Grace.String()
		}
		if problems := strings.Join(s.Problems, "|"); problems != c.problems {
			t.Errorf("%s:\ngot  %s\nwant %s", c.in, problems, c.problems)
		} else if problems == "" && got != c.hooks {
			t.Errorf("%s:\ngot  %s\nwant %s", c.in, got, c.hooks)
		}
		if warnings := strings.Join(s.Warnings, "|"); warnings != c.warnings {
			t.Errorf("%s:\ngot  %s\nwant %s", c.in, warnings, c.warnings)
		}
	}
	many := "[" + strings.Repeat(`{"url":"http://a"},`, 16) + `{"url":"http://a"}]`
	for i := range 17 {
		many = strings.Replace(many, `"http://a"`, fmt.Sprintf(`"http://a/%d"`, i), 1)
	}
	if s := ParseSettings([]byte(many)); !slices.Equal(s.Problems,
		[]string{"webhooks: 17 URLs, at most 16 can be told"}) {
		t.Errorf("%q", s.Problems)
	}
}

func TestParseURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://h/a":      "https://h/a",
		"HTTP://H:80/#f":   "http://H:80/",
		"http://[fe80::1]": "http://[fe80::1]",
		"http://u:p@h/":    "http://u:p@h/",
		"":                 `! "" is not an http`,
		"h/a":              `! "h/a" is not an http`,
		"ftp://u:PASS@h":   `! "ftp://********@h" is not an http`,
		"http:///a":        `! "http:///a" is not an http`,
		"http://:80":       `! "http://:80" is not an http`,
		"http://h:0":       `! "http://h:0" has a port`,
		"http://[::1]:70000": `! "http://[::1]:70000" has a port that is not from 1 to ` +
			"65535",
		"http://u:PASS@h:x/": "! not a URL;", "http://h\x7f": "! not a URL;",
		"http://%zz": "! not a URL;",
	} {
		u, err := ParseURL(in)
		got := fmt.Sprint(u)
		if err != nil {
			got = "! " + err.Error()
			if strings.Contains(got, "PASS") {
				t.Errorf("%q: %s", in, got)
			}
		}
		if err == nil && got != want || err != nil && !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestParseHeaders(t *testing.T) {
	const noObject = `! not an object of headers, such as {"Authorization":"Bearer …"}`
	const ours = " cannot be set: the server or HTTP sets it"
	const noText = " is not a text in one line of at most 4096 bytes"
	many := `{"H0":"x"`
	for i := range 32 {
		many += fmt.Sprintf(`,"H%d":"x"`, i+1)
	}
	for in, want := range map[string]string{
		`{}`: "map[]", `[]`: "map[]",
		`{"x-team":"a b","N":1}`:          "map[N:[1] X-Team:[a b]]",
		`{"X-T":"tab\tand é"}`:            "map[X-T:[tab\tand é]]",
		`{"host":"SECRET"}`:               `! "host"` + ours,
		`{"Content-Length":"1"}`:          `! "Content-Length"` + ours,
		`{"x-pusher-KEY":"1"}`:            `! "x-pusher-KEY"` + ours,
		`{"X-Reverb-Webhook-Id":"1"}`:     `! "X-Reverb-Webhook-Id"` + ours,
		`{"transfer-encoding":"1"}`:       `! "transfer-encoding"` + ours,
		`{"CONNECTION":"1"}`:              `! "CONNECTION"` + ours,
		`{"a b":"1"}`:                     `! "a b" is not the name of a header`,
		`{"":"1"}`:                        `! "" is not the name of a header`,
		`{"a\r\nb":"1"}`:                  `! "a\u000d\u000ab" is not the name of a header`,
		`{"é":"1"}`:                       `! "é" is not the name of a header`,
		`{"a":"SECRET\r\nb"}`:             `! the value of "a"` + noText,
		`{"a":["SECRET"]}`:                `! the value of "a"` + noText,
		`{"a":"1","A":"2"}`:               `! "A" is there twice`,
		`7`:                               noObject,
		`{"a":"` + long(4097) + `"}`:      `! the value of "a"` + noText,
		many + `}`:                        `! more than 32 headers`,
		`{"a b":"1","host":"later ones"}`: `! "a b" is not the name of a header`,
	} {
		headers, err := ParseHeaders([]byte(in))
		got := fmt.Sprint(headers)
		if err != nil {
			got = "! " + err.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

// What is accepted can be sent; errors are lines without secrets.
func FuzzParseSettings(f *testing.F) {
	f.Add(`[{"url":"http://u:p@h","event_types":["cache_miss"],"headers":{"a":"b"},"filter":{}}]`)
	f.Add(`{"url":"https://h","events":{"1":"client_event"},"timeout":5,"retry":{"a":[]}}`)
	f.Add(`"{\"0\":{\"url\":\"http://a\",\"filter\":[]}}"`)
	f.Fuzz(func(t *testing.T, in string) {
		if jsonraw.Check([]byte(in)) != nil {
			return
		}
		s := ParseSettings([]byte(in))
		for _, text := range append(slices.Clone(s.Problems), s.Warnings...) {
			if !strings.HasPrefix(text, "webhooks") || strings.ContainsAny(text, "\r\n") {
				t.Fatalf("%s: %q", in, text)
			}
		}
		if len(s.Problems) > 0 {
			return
		}
		for _, h := range s.Hooks {
			if h.URL == nil || h.URL.Hostname() == "" || h.Kinds == 0 || h.Timeout <= 0 ||
				h.Timeout > time.Minute || len(s.Hooks) > maxHooks {
				t.Fatalf("%s: %+v", in, h)
			}
			for name, values := range h.Headers {
				if strings.ContainsAny(name+values[0], "\r\n") || isOurs(name) {
					t.Fatalf("%s: %q", in, h.Headers)
				}
			}
		}
	})
}

// TestTold bounds the lines and the apps that a line names.
func TestTold(t *testing.T) {
	told := func(apps, hooks int, onto string) []string {
		return Told(func(yield func(string, []*webhooks.Hook) bool) {
			for i := range apps {
				var all []*webhooks.Hook
				for j := range hooks {
					all = append(all, &webhooks.Hook{Kinds: webhooks.KindsOf(webhooks.CacheMiss),
						URL: address(t, fmt.Sprintf("http://h/%d", j))})
				}
				if onto != "" {
					all = append(all, &webhooks.Hook{Kinds: webhooks.KindsOf(webhooks.CacheMiss)})
				}
				if !yield(fmt.Sprintf("a\n%d", i), all) {
					return
				}
			}
		}, onto)
	}
	for _, c := range []struct {
		got  []string
		n    int
		last string
	}{
		{told(0, 3, ""), 0, ""}, {told(3, 0, ""), 0, ""},
		{told(1, 17, ""), 17, "events go to 1 other places"},
		{told(2, 0, "are pushed onto q"), 1,
			`events of the apps a\u000a0, a\u000a1 are pushed onto q: cache_miss`},
		{told(9, 1, ""), 1, `events of the apps a\u000a0, a\u000a1, a\u000a2, a\u000a3, ` +
			`a\u000a4, a\u000a5, a\u000a6, a\u000a7 and 1 more are posted to http://h/0: ` +
			"cache_miss"},
	} {
		if len(c.got) != c.n || c.n > 0 && c.got[c.n-1] != c.last {
			t.Errorf("got %q, want %d lines, at the end %s", c.got, c.n, c.last)
		}
	}
}

// TestSamples reads the samples of deploy/webhooks.md.
func TestSamples(t *testing.T) {
	b, err := os.ReadFile("../../deploy/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	samples := strings.Split(string(b), "```json\n")[1:]
	for _, rest := range samples {
		sample, _, _ := strings.Cut(rest, "```")
		if s := ParseSettings([]byte(sample)); len(s.Hooks) != 1 || len(s.Problems) > 0 ||
			len(s.Warnings) > 0 {
			t.Errorf("%s: %+v", sample, s)
		}
	}
	if len(samples) != 3 {
		t.Errorf("%d samples", len(samples))
	}
}
