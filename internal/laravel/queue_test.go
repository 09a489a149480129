//go:build unix

package laravel

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// queueSkeleton writes the options of queues in a new application that matter.
func queueSkeleton(t testing.TB, folder string) {
	write(t, folder, "config/queue.php", `<?php
return [
	'default' => env('QUEUE_CONNECTION', 'database'),
	'connections' => [
		'sync' => ['driver' => 'sync'],
		'database' => ['driver' => 'database', 'connection' => env('DB_QUEUE_CONNECTION'),
			'table' => env('DB_QUEUE_TABLE', 'jobs'), 'queue' => env('DB_QUEUE', 'default'),
			'retry_after' => (int) env('DB_QUEUE_RETRY_AFTER', 90), 'after_commit' => false],
		'redis' => ['driver' => 'redis', 'connection' => env('REDIS_QUEUE_CONNECTION', 'default'),
			'queue' => env('REDIS_QUEUE', 'default'),
			'retry_after' => (int) env('REDIS_QUEUE_RETRY_AFTER', 90), 'block_for' => null,
			'after_commit' => false],
	],
];`)
}

// database is the database of a connection, as a text.
func (k *RedisKey) database() string {
	if k.URL != "" {
		return k.URL[strings.LastIndex(k.URL, "/")+1:]
	}
	return k.DatabaseName
}

// TestQueueKeys compares the keys with those that Laravel has used with 18 settings.
func TestQueueKeys(t *testing.T) {
	var settings []struct {
		Config string
		Env    map[string]string
		Keys   []string
	}
	if err := json.Unmarshal([]byte(read(t, "testdata/keys.json")), &settings); err != nil ||
		len(settings) != 18 {
		t.Fatal(err)
	}
	for _, s := range settings {
		env := "QUEUE_CONNECTION=redis\n"
		for name, value := range s.Env {
			env += name + `="` + value + "\"\n"
		}
		app := application(t, env)
		skeleton(t, app.Folder, strings.HasPrefix(s.Config, "Laravel 12"))
		database := read(t, app.Folder+"/config/database.php")
		write(t, app.Folder, "config/database.php", strings.Replace(database,
			"'cache' => ['backoff",
			`'default' => ['url' => env('REDIS_URL'), 'host' => env('REDIS_HOST', '127.0.0.1'),
			'username' => env('REDIS_USERNAME'), 'password' => env('REDIS_PASSWORD'),
			'port' => env('REDIS_PORT', '6379'), 'database' => env('REDIS_DB', '0')],
			'cache' => ['backoff`, 1))
		for _, files := range []bool{true, false} {
			if files {
				queueSkeleton(t, app.Folder)
			}
			p, err := app.Open().QueuePlace("")
			if err != nil || p.Default != "" || "db"+p.Redis.database()+" "+p.Key != s.Keys[0] {
				t.Errorf("%s %v: got %+v, %+v, %v, want %s", s.Config, s.Env, p, p.Redis, err,
					s.Keys[0])
			}
			p, err = app.Open().QueuePlace("own")
			if err != nil || !strings.HasSuffix(p.Key, "queues:own") {
				t.Errorf("%s %v: got %+v, %v", s.Config, s.Env, p, err)
			}
		}
		// without the files of the application the prefix must be set
		p, err := OpenVariables(app.Env).QueuePlace("")
		if _, set := s.Env["REDIS_PREFIX"]; set {
			if err != nil || "db"+p.Redis.database()+" "+p.Key != s.Keys[0] {
				t.Errorf("%v: got %+v, %v, want %s", s.Env, p, err, s.Keys[0])
			}
		} else if err == nil || !strings.Contains(err.Error(), `"`+strings.TrimPrefix(
			s.Keys[0][:strings.Index(s.Keys[0], "queues:")], s.Keys[0][:4])+`"`) {
			t.Errorf("%v: got %+v, %v", s.Env, p, err)
		}
	}
}

// TestQueuePlaces has configurations of all kinds, and what is wrong with some.
func TestQueuePlaces(t *testing.T) {
	const redis = `<?php return ['redis' => ['options' => ['prefix' => 'all:'],
		'default' => ['host' => 'h'], 'own' => ['host' => 'o', 'prefix' => 'own:'],
		'clusters' => ['many' => [['host' => 'a']]]]];`
	connections := func(fallback, text string) string {
		return "<?php return ['default' => '" + fallback + "', 'connections' => [" + text + "]];"
	}
	for queue, want := range map[string]string{
		connections("r", "'r' => ['driver' => 'redis']"): "h all:queues:default ",
		connections("r", "'r' => ['driver' => 'redis', 'connection' => 'own', "+
			"'queue' => 'q']"): "o own:queues:q ",
		connections("sync", "'sync' => ['driver' => 'sync'], 'redis' => ['driver' => 'redis', "+
			"'queue' => '{q}']"): "h all:queues:{q} sync",
		connections("f", "'f' => ['driver' => 'failover', 'connections' => ['r', 'sync']], "+
			"'r' => ['driver' => 'redis', 'connection' => 'own', 'queue' => 'q']"): "o " +
			"own:queues:default ",
		connections("f", "'f' => ['driver' => 'failover', 'connections' => ['sync', 'redis']], "+
			"'redis' => ['driver' => 'redis', 'queue' => 'q']"): "h all:queues:q sync",
		connections("f", "'f' => ['driver' => 'failover', 'connections' => ['f']], 'redis' => "+
			"['driver' => 'redis']"): "h all:queues:default f",
		connections("sync", "'redis' => ['driver' => 'sqs']"): "the configuration has no queue " +
			"connection redis",
		connections("r", "'r' => ['driver' => 'redis', 'connection' => 'many']"): "the Redis " +
			`connection "many" leads to a Redis Cluster`,
		connections("r", "'r' => ['driver' => 'redis', 'connection' => 'x']"): "the " +
			`configuration has no Redis connection "x"`,
		connections("r", "'r' => ['driver' => 'redis', 'queue' => fn () => 1]"): "config/queue." +
			"php:1:91: fn is not known here",
		"<?php return ['default' => []];": "queue.default is an array",
		"<?php $x = 1; return [];":        "config/queue.php:1:7: a variable begins a statement",
	} {
		app := application(t, "QUEUE_CONNECTION=x")
		write(t, app.Folder, "config/queue.php", queue)
		write(t, app.Folder, "config/database.php", redis)
		p, err := app.Open().QueuePlace("")
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = p.Redis.Host + " " + p.Key + " " + p.Default
		}
		if !strings.HasPrefix(got, want) || strings.HasSuffix(want, " ") && got != want {
			t.Errorf("%s\n got %s\nwant %s", queue, got, want)
		}
	}
	app := application(t, "QUEUE_CONNECTION=sync") // the cached configuration counts alone
	write(t, app.Folder, "bootstrap/cache/config.php", `<?php return array('queue' => array(
		'default' => 'redis', 'connections' => array('redis' => array('driver' => 'redis',
		'connection' =>
		'default', 'queue' => 'cached'))), 'database' => array('redis' => array('options' =>
		array('prefix' => 'c:'), 'default' => array('host' => 'h'))));`)
	if p, err := app.Open().QueuePlace(""); err != nil || p.Key != "c:queues:cached" ||
		p.Default != "" || p.Redis.Host != "h" {
		t.Errorf("got %+v, %v", p, err)
	}
	// Who says that the application's own jobs go elsewhere, and what runs those of the queue.
	const files = `<?php return ['default' => %s, 'connections' => ['sync' => ['driver' => 'sync'],
		'jobs' => ['driver' => 'redis', 'queue' => 'j'], 'redis' => ['driver' => 'redis']]];`
	for _, c := range []struct{ env, file, artisan, name, want string }{
		{"QUEUE_CONNECTION=sync", "", "", "", "sync|QUEUE_CONNECTION|redis"},
		{"QUEUE_CONNECTION=redis", "", "yes", "", "||"},
		{"QUEUE_CONNECTION=redis", "", "yes", "hooks", "||--queue=hooks"},
		{"", "", "yes", "default", "database|Laravel's default of QUEUE_CONNECTION|redis"},
		{"", "", "", "", "||redis"},
		{"QUEUE_CONNECTION=sync", "'redis'", "yes", "default", "||"},
		{"QUEUE_CONNECTION=redis", "'sync'", "", "j",
			"sync|queue.default of config/queue.php|redis --queue=j"},
		{"QUEUE_CONNECTION=sync", "env('JOBS', 'jobs')", "yes", "", "||"},
		{"QUEUE_CONNECTION=sync", "env('JOBS', 'jobs')", "yes", "j", "||"},
		{"QUEUE_CONNECTION=sync", "env('JOBS', 'jobs')", "yes", "default", "||--queue=default"},
	} {
		app := application(t, c.env)
		if c.artisan != "" {
			write(t, app.Folder, "artisan", "")
		}
		write(t, app.Folder, "config/database.php", redis)
		if c.file != "" {
			write(t, app.Folder, "config/queue.php", fmt.Sprintf(files, c.file))
		}
		p, err := app.Open().QueuePlace(c.name)
		got := p.Default + "|" + p.Says + "|" + strings.TrimSpace(strings.TrimPrefix(p.Worker,
			"php artisan queue:work"))
		if err != nil || got != c.want {
			t.Errorf("%+v: got %s, %v", c, got, err)
		}
	}
	app = application(t, "REDIS_PREFIX=\nREDIS_HOST=h") // a container with variables alone
	p, err := OpenVariables(app.Env).QueuePlace("q")
	if err != nil || p.Key != "queues:q" || p.Redis.Host != "h" || p.Default != "" {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestIsQueueName(t *testing.T) {
	for name, want := range map[string]bool{"default": true, "{default}": true, "Größe": true,
		"": false, "a b": false, "a\n": false, "\xff": false, strings.Repeat("a", 513): false} {
		if IsQueueName(name) != want {
			t.Errorf("%q: got %v", name, !want)
		}
	}
}
