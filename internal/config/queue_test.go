package config

import (
	"strings"
	"testing"
	"time"

	"reverb/internal/webhooks"
)

// to is what a Queue says, but for the listener.
type to struct {
	app, key string
	at       RedisAddress
	limit    int
}

// TestQueue has the ways to the queue of an application, and what is wrong with some.
func TestQueue(t *testing.T) {
	app := []string{"REVERB_APP_ID=7", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s"}
	variables := func(more ...string) []string { return append(more, app...) }
	laravel := folder(t, map[string]string{"artisan": "", ".env": "REVERB_APP_ID=7\n" +
		"REVERB_APP_KEY=k\nREVERB_APP_SECRET=s\nAPP_NAME=\"My Shop\"\nREDIS_QUEUE=hooks\n" +
		"REDIS_HOST=redis.internal\nREDIS_PASSWORD=p@ss\nREDIS_DB=3\n" +
		"REVERB_LARAVEL_LISTENER=App\\Listeners\\ReverbEvents\n",
		"config/database.php": `<?php return ['redis' => ['options' => ['prefix' =>
			Str::slug(env('APP_NAME', 'laravel')).'-database-'], 'default' => ['host' =>
			env('REDIS_HOST'), 'password' => env('REDIS_PASSWORD'), 'port' => env('REDIS_PORT',
			'6379'), 'database' => env('REDIS_DB')]]];`})
	for _, c := range []struct {
		dir     string
		env     []string
		want    to
		warning string
	}{
		{laravel, []string{"REVERB_LARAVEL_QUEUE=true", "QUEUE_CONNECTION=redis"},
			to{app: "7", key: "my-shop-database-queues:hooks", at: RedisAddress{Network: "tcp",
				Address: "redis.internal:6379", Password: "p@ss", DB: 3}, limit: 100_000}, ""},
		{laravel, []string{"REVERB_LARAVEL_QUEUE=default", "REVERB_LARAVEL_QUEUE_MAX=5"},
			to{app: "7", key: "my-shop-database-queues:default", at: RedisAddress{Network: "tcp",
				Address: "redis.internal:6379", Password: "p@ss", DB: 3}, limit: 5},
			`REVERB_LARAVEL_QUEUE="default": the application's own jobs go to the connection ` +
				`"database" (Laravel's default of QUEUE_CONNECTION), which is not Redis; php ` +
				`artisan queue:work redis --queue=default is the worker`},
		{laravel, []string{"REVERB_LARAVEL_QUEUE=off"}, to{limit: 100_000}, ""},
		{t.TempDir(), variables("REVERB_LARAVEL_QUEUE=q", "REDIS_PREFIX=p:", "REDIS_URL="+
			"redis://:secret@h:1/2", "REVERB_CONFIG_FILE="),
			to{app: "7", key: "p:queues:q", at: RedisAddress{Network: "tcp", Address: "h:1",
				Password: "secret", DB: 2}, limit: 100_000}, ""},
		{t.TempDir(), variables("REVERB_LARAVEL_QUEUE=q", "REDIS_PREFIX="),
			to{app: "7", key: "queues:q", at: RedisAddress{Network: "tcp",
				Address: "127.0.0.1:6379"}, limit: 100_000}, ""},
	} {
		got := loadIn(c.dir, nil, c.env...)
		q := got.Queue
		listener := q.To.Listener.String()
		if (to{q.App, q.To.Key, q.At, q.To.Limit}) != c.want || len(got.Problems) > 0 ||
			(listener == `App\Listeners\ReverbEvents@handle`) != (c.dir == laravel) {
			t.Errorf("%q: got %+v, %s, %q", c.env, got.Queue, listener, got.Problems)
		}
		if all := strings.Join(got.Warnings, "\n"); strings.Contains(all, "QUEUE") !=
			(c.warning != "") || !strings.Contains(all, c.warning) {
			t.Errorf("%q: warnings %q", c.env, all)
		}
		note := strings.Join(got.Notes, "\n")
		said := "events of the app 7 are pushed onto " + c.want.key + " for "
		if strings.Contains(note, said) != (c.want.key != "") ||
			strings.Contains(note, "p@ss") {
			t.Errorf("%q: notes %q", c.env, note)
		}
	}
	for env, want := range map[string]string{
		"REVERB_LARAVEL_QUEUE=q": `REVERB_LARAVEL_QUEUE="q": the prefix of the application's ` +
			`keys in Redis is not known; set REDIS_PREFIX, usually to "laravel-database-" ` +
			`(Laravel 12) or "laravel_database_" (11 and older), or run beside`,
		"REVERB_LARAVEL_QUEUE=a b": `REVERB_LARAVEL_QUEUE="a b" (environment): not the name of a ` +
			`queue, such as default`,
		"REVERB_LARAVEL_LISTENER=A;": `REVERB_LARAVEL_LISTENER="A;" (environment): not the name ` +
			`of a class of PHP`,
		"REVERB_LARAVEL_QUEUE_MAX=0": `REVERB_LARAVEL_QUEUE_MAX="0" (environment): not a whole ` +
			`number from 1`,
	} {
		got := loadIn(t.TempDir(), nil, variables(env)...)
		if len(got.Problems) != 1 || !strings.HasPrefix(got.Problems[0], want) {
			t.Errorf("%s: got %q, want %s", env, got.Problems, want)
		}
	}
	for env, want := range map[string]string{
		"REVERB_LARAVEL_LISTENER=A": "REVERB_LARAVEL_LISTENER means nothing without " +
			"REVERB_LARAVEL_QUEUE",
		"REVERB_LARAVEL_QUEUE_MAX=9": "REVERB_LARAVEL_QUEUE_MAX means nothing without " +
			"REVERB_LARAVEL_QUEUE",
		"REVERB_LARAVEL_QUEUE=off": "",
	} {
		if got := loadIn(t.TempDir(), nil, variables(env)...); len(got.Problems) > 0 ||
			strings.Join(got.Warnings, "|") != want {
			t.Errorf("%s: %q, %q", env, got.Problems, got.Warnings)
		}
	}
	got := loadIn(t.TempDir(), nil, "REVERB_LARAVEL_QUEUE=q", "REDIS_PREFIX=", "REDIS_PORT=x",
		"REVERB_APPS=[]")
	if all := strings.Join(got.Problems, "\n"); !strings.Contains(all, `REVERB_LARAVEL_QUEUE="q": `+
		"the Redis connection default: not a whole number") {
		t.Errorf("got %q", all)
	}
	got = loadIn(t.TempDir(), nil, "REVERB_LARAVEL_QUEUE=q", "REDIS_PREFIX=", "REVERB_APPS=[]")
	if all := strings.Join(got.Problems, "\n"); !strings.Contains(all, "set REVERB_APP_ID") {
		t.Errorf("got %q", all)
	}
}

// TestQueueDev checks that with --dev the events of its app are pushed.
func TestQueueDev(t *testing.T) {
	c := loadIn(t.TempDir(), map[string]string{"dev": "true"}, "REVERB_LARAVEL_QUEUE=q",
		"REDIS_PREFIX=")
	dir := t.TempDir()
	if err := c.StartDev(func() (string, error) { return dir, nil }); err != nil ||
		len(c.Problems) > 0 || c.Queue.App != c.Apps[0].ID ||
		len(c.Apps[0].Webhooks) != 1 || c.Again().Queue.App != c.Queue.App {
		t.Errorf("got %+v, %q, %v", c.Queue, c.Problems, err)
	}
}

// TestQueueHooks checks which apps get the hook of the queue, and that the variables of webhooks
// count for it.
func TestQueueHooks(t *testing.T) {
	env := []string{"REVERB_LARAVEL_QUEUE=q", "REDIS_PREFIX=", "REVERB_APP_ID=7", "REVERB_APPS=" +
		`[{"app_id":"7","key":"a","secret":"s","webhooks":{"url":"http://own/"}},` +
		`{"app_id":"8","key":"b","secret":"s"}]`, "REVERB_WEBHOOK_EVENTS=client_event",
		"REVERB_WEBHOOK_CHANNEL_PREFIX=private-", "REVERB_WEBHOOK_TIMEOUT=9"}
	for url, want := range map[string]int{"": 0, "http://all/": 1} {
		c := loadIn(t.TempDir(), nil, append([]string{"REVERB_WEBHOOK_URL=" + url}, env...)...)
		if len(c.Problems)+len(c.Warnings) > 0 || len(c.Apps) != 2 ||
			len(c.Apps[0].Webhooks) != 2 || len(c.Apps[1].Webhooks) != want {
			t.Fatalf("%q: %q, %q, %+v", url, c.Problems, c.Warnings, c.Apps)
		}
		h := c.Apps[0].Webhooks[1]
		if h.Queue != webhooks.Queue(&c.Queue.To) || h.URL != nil || h.Headers != nil ||
			h.Kinds != webhooks.KindsOf(webhooks.ClientEvent) || h.Prefix != "private-" ||
			h.Timeout != 9*time.Second || h.Queue.String() != "queues:q" {
			t.Errorf("%q: %+v", url, h)
		}
	}
}
