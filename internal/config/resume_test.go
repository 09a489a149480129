package config

import (
	"strings"
	"testing"
	"time"
)

// TestResume reads what channels keep for clients that come back: what is kept without a variable,
// for the app of the variables, and for the apps of a list.
func TestResume(t *testing.T) {
	c := load(app1, nil)
	if got := c.Resume; c.Apps[0].ResumeLife != 0 || got.Events != 100 || got.Bytes != 64<<20 ||
		!got.Channels.Match("any") {
		t.Errorf("by default: got %v, %+v", c.Apps[0].ResumeLife, got)
	}
	c = load(append([]string{"REVERB_RESUME_SECONDS=120", "REVERB_RESUME_EVENTS=7",
		"REVERB_RESUME_BYTES=1G", "REVERB_RESUME_CHANNELS=news, chat-*"}, app1...), nil)
	got := c.Resume
	if c.Apps[0].ResumeLife != 2*time.Minute || got.Events != 7 || got.Bytes != 1<<30 {
		t.Errorf("got %v, %+v", c.Apps[0].ResumeLife, got)
	}
	for name, want := range map[string]bool{"news": true, "chat-1": true, "chat": false,
		"news-1": false} {
		if got.Channels.Match(name) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
	list := `REVERB_APPS=[{"app_id":"5","key":"a","secret":"s","resume_seconds":60},` +
		`{"app_id":"6","key":"b","secret":"s"}]`
	for value, want := range map[string]string{"0": "",
		"120": "REVERB_RESUME_SECONDS=\"120\" (environment) does not count: each app of the list " +
			"has resume_seconds of its own"} {
		c = load([]string{list, "REVERB_RESUME_SECONDS=" + value}, nil)
		if c.Apps[0].ResumeLife != time.Minute || c.Apps[1].ResumeLife != 0 ||
			strings.Join(c.Warnings, "\n") != want {
			t.Errorf("got %v, %v, %q", c.Apps[0].ResumeLife, c.Apps[1].ResumeLife, c.Warnings)
		}
	}
}

// TestResumeProblems has values that are wrong, and what is said of them.
func TestResumeProblems(t *testing.T) {
	for variable, want := range map[string]string{
		"REVERB_RESUME_SECONDS=86401": `REVERB_RESUME_SECONDS="86401" (environment): not a whole ` +
			"number of seconds from 0 to 86400, such as 0",
		"REVERB_RESUME_EVENTS=0": `REVERB_RESUME_EVENTS="0" (environment): not a whole number ` +
			"from 1 to 100000, such as 100",
		"REVERB_RESUME_BYTES=off": `REVERB_RESUME_BYTES="off" (environment): not a size of at ` +
			"least 16MiB, such as 64MiB",
		"REVERB_RESUME_CHANNELS=a,*-b": `REVERB_RESUME_CHANNELS="a,*-b" (environment): "*-b": * ` +
			"can stand only at the end of a name, such as news-*",
	} {
		c := load(append([]string{variable}, app1...), nil)
		if got := strings.Join(c.Problems, "\n"); got != want {
			t.Errorf("%s: got %s, want %s", variable, got, want)
		}
	}
}

// TestResumeMeansNothing has what is kept nowhere, and what is said of it.
func TestResumeMeansNothing(t *testing.T) {
	list := `REVERB_APPS=[{"app_id":"5","key":"a","secret":"s","resume_seconds":60}]`
	const scaling = "REVERB_SCALING_ENABLED=true"
	const does = " does nothing yet with REVERB_SCALING_ENABLED=true: nodes keep no events for " +
		"clients that come back; leave it out, or run one server without scaling"
	const nothing = ": nothing is kept without REVERB_RESUME_SECONDS, such as 120, or " +
		"resume_seconds of an app in a list"
	for _, tt := range []struct {
		env  []string
		want string
	}{
		{append(app1, "REVERB_RESUME_SECONDS=120", "REVERB_RESUME_EVENTS=7"), ""},
		{append(app1, scaling), ""},
		{append(app1, scaling, "REVERB_RESUME_SECONDS=120"),
			`REVERB_RESUME_SECONDS="120" (environment)` + does},
		{[]string{list, scaling}, "resume_seconds of app 5" + does},
		{[]string{list, "REVERB_RESUME_CHANNELS=a"}, ""},
		{[]string{"REVERB_RESUME_SECONDS=120", "REVERB_RESUME_CHANNELS=a"}, ""},
		{append(app1, "REVERB_RESUME_EVENTS=7", "REVERB_RESUME_SECONDS=0",
			"REVERB_RESUME_CHANNELS="), `REVERB_RESUME_EVENTS="7"` + nothing},
		{append(app1, "REVERB_RESUME_BYTES=1G", "REVERB_RESUME_CHANNELS=a"),
			`REVERB_RESUME_BYTES="1G", REVERB_RESUME_CHANNELS="a"` + nothing},
	} {
		env := append([]string{"REDIS_HOST=127.0.0.1"}, tt.env...)
		if got := strings.Join(load(env, nil).Warnings, "\n"); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.env, got, tt.want)
		}
	}
}
