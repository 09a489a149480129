//go:build unix

package laravel

import (
	"archive/tar"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var today = time.Unix(1795711900, 0) // when the fixtures were made

// unpack returns the files of testdata/restart.tar.gz by name.
func unpack(t testing.TB) map[string][]byte {
	t.Helper()
	f, err := os.Open("testdata/restart.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		b, err2 := io.ReadAll(r)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(h.Name)] = b
	}
}

// skeleton writes the options of a new application that matter, as Laravel 12, or 11 and earlier,
// have them.
func skeleton(t testing.TB, folder string, twelve bool) {
	cache, redis := `Str::slug((string) env('APP_NAME', 'laravel')).'-cache-'`,
		`Str::slug((string) env('APP_NAME', 'laravel')).'-database-'`
	if !twelve {
		cache, redis = `Str::slug(env('APP_NAME', 'laravel'), '_').'_cache_'`,
			`Str::slug(env('APP_NAME', 'laravel'), '_').'_database_'`
	}
	write(t, folder, "config/cache.php", `<?php
use Illuminate\Support\Str;
return [
	'default' => env('CACHE_STORE', 'database'),
	'stores' => [
		'database' => ['driver' => 'database', 'connection' => env('DB_CACHE_CONNECTION'),
			'table' => env('DB_CACHE_TABLE', 'cache')],
		'file' => ['driver' => 'file', 'path' => storage_path('framework/cache/data')],
		'redis' => ['driver' => 'redis', 'connection' => env('REDIS_CACHE_CONNECTION', 'cache')],
	],
	'prefix' => env('CACHE_PREFIX', `+cache+`),
];`)
	write(t, folder, "config/database.php", `<?php
use Illuminate\Support\Str;
return [
	'default' => env('DB_CONNECTION', 'sqlite'),
	'connections' => [
		'sqlite' => ['driver' => 'sqlite', 'url' => env('DB_URL'), 'database' => env('DB_DATABASE',
			database_path('database.sqlite')), 'prefix' => ''],
		'mysql' => ['driver' => 'mysql', 'url' => env('DB_URL'),
			'options' => extension_loaded('pdo_mysql') ? array_filter([
			PDO::MYSQL_ATTR_SSL_CA => env('MYSQL_ATTR_SSL_CA'),
		]) : []],
	],
	'redis' => [
		'client' => env('REDIS_CLIENT', 'phpredis'),
		'options' => ['cluster' => env('REDIS_CLUSTER', 'redis'), 'prefix' => env('REDIS_PREFIX',
			`+redis+`), 'persistent' => env('REDIS_PERSISTENT', false)],
		'cache' => ['backoff' => Redis::BACKOFF,
			'url' => env('REDIS_URL'), 'host' => env('REDIS_HOST', '127.0.0.1'),
			'username' => env('REDIS_USERNAME'),
			'password' => env('REDIS_PASSWORD'), 'port' => env('REDIS_PORT', '6379'),
				'database' => env('REDIS_CACHE_DB', '1')],
	],
];`)
}

// TestRestartFile follows the steps that a real application has gone.
func TestRestartFile(t *testing.T) {
	var steps struct {
		Steps []struct {
			Step  string
			Files map[string]struct{ Bytes string }
		}
	}
	if err := json.Unmarshal(unpack(t)["file.json"], &steps); err != nil || len(steps.Steps) != 5 {
		t.Fatal(err)
	}
	for _, with := range []string{"files of Laravel 12", "files of Laravel 11", "no files",
		"cached"} {
		app := application(t, "CACHE_STORE=file")
		switch with {
		case "files of Laravel 12", "files of Laravel 11":
			skeleton(t, app.Folder, with == "files of Laravel 12")
		case "cached":
			write(t, app.Folder, "bootstrap/cache/config.php", `<?php return array('cache' =>
				array('default' => 'f', 'stores' => array(
				'f' => array('driver' => 'file',
					'path' => '`+app.Folder+`/storage/framework/cache/data'))));`)
		}
		p := app.Open().RestartPlace()
		const want = "the file storage/framework/cache/data/4f/e4/" +
			"4fe44729b03e0a0a2586ebe0d445f50c083d0ff3"
		if p.String() != want {
			t.Fatalf("%s: got %s, want %s", with, p, want)
		}
		var w Watch
		var got []bool
		for _, step := range steps.Steps {
			if err := os.RemoveAll(filepath.Join(app.Folder, "storage")); err != nil {
				t.Fatal(err)
			}
			for name, f := range step.Files {
				write(t, app.Folder, name, f.Bytes)
			}
			seen, err := p.Look(today)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, w.Saw(seen))
		}
		if want := []bool{false, true, true, false, true}; !slices.Equal(got, want) {
			t.Errorf("%s: got restarts %v, want %v", with, got, want)
		}
	}
}

// TestRestartRedis has the keys of 28 applications that were run.
func TestRestartRedis(t *testing.T) {
	var settings []struct {
		Config string
		Env    map[string]string
		Keys   map[string]any
	}
	if err := json.Unmarshal(unpack(t)["redis.json"], &settings); err != nil ||
		len(settings) != 28 {
		t.Fatal(err)
	}
	for _, s := range settings {
		env := "CACHE_STORE=redis\n"
		for name, value := range s.Env {
			env += name + `="` + value + "\"\n"
		}
		app := application(t, env)
		unset := app.Open().RestartPlace()
		skeleton(t, app.Folder, strings.HasPrefix(s.Config, "Laravel 12"))
		p := app.Open().RestartPlace()
		for where := range s.Keys {
			database, key, _ := strings.Cut(strings.TrimPrefix(where, "db"), " ")
			if p.Redis == nil || p.Keys[0] != key {
				t.Fatalf("%s %v: got %v, want %s", s.Config, s.Env, p, key)
			}
			got := p.Redis.DatabaseName
			if p.Redis.URL != "" {
				got = p.Redis.URL[strings.LastIndex(p.Redis.URL, "/")+1:]
			}
			if got != database || p.Redis.Connection != "cache" {
				t.Errorf("%s %v: got database %s of %s, want %s", s.Config, s.Env, got,
					p.Redis.Connection, database)
			}
			if unset.Redis == nil || !slices.Contains(unset.Keys, key) {
				t.Errorf("%s %v: without files of configuration got %v, want %s among them",
					s.Config, s.Env, unset.Keys, key)
			}
		}
	}
}

// TestRestartSQLite follows the databases of real applications, step by step.
func TestRestartSQLite(t *testing.T) {
	files := unpack(t)
	var steps []struct {
		Set, Step string
		Rows      [][]any `json:"rows_for_restart"`
	}
	if err := json.Unmarshal(files["sqlite.json"], &steps); err != nil || len(steps) < 20 {
		t.Fatal(err)
	}
	sets := map[string][]int{}
	for i, s := range steps {
		sets[s.Set] = append(sets[s.Set], i)
	}
	for set, numbers := range sets {
		app := application(t, "CACHE_STORE=database")
		if skeleton(t, app.Folder, strings.Contains(set, "l12")); len(numbers)%2 == 0 {
			os.RemoveAll(filepath.Join(app.Folder, "config")) // the framework's own
		}
		p := app.Open().RestartPlace()
		if want := "the table cache in database/database.sqlite"; p.String() != want {
			t.Fatalf("%s: got %s, want %s", set, p, want)
		}
		var w Watch
		before := ""
		for _, i := range numbers {
			s := steps[i]
			path := filepath.Join(app.Folder, "database/database.sqlite")
			os.Remove(path + "-wal")
			write(t, app.Folder, "database/database.sqlite", string(files[set+"-"+s.Step+".db"]))
			if log, ok := files[set+"-"+s.Step+".db-wal"]; ok {
				write(t, app.Folder, "database/database.sqlite-wal", string(log))
			}
			seen, err := p.Look(today)
			if err != nil {
				t.Fatalf("%s %s: %v", set, s.Step, err)
			}
			now := ""
			if len(s.Rows) > 0 {
				now = s.Rows[0][1].(string)
			}
			if strings.Join(seen, "") != now {
				t.Errorf("%s %s: got %q, want %q", set, s.Step, seen, now)
			}
			want := now != "" && now != before && s.Step != "0-before"
			if got := w.Saw(seen); got != want {
				t.Errorf("%s %s: got restart %v, want %v", set, s.Step, got, want)
			}
			if now != "" {
				before = now
			}
		}
	}
}

// TestPlaces has configurations of all kinds, and the texts about their places.
func TestPlaces(t *testing.T) {
	for text, want := range map[string]string{
		"<?php return ['default' => 'memcached', 'stores' => ['memcached' => ['driver' => " +
			"'memcached']]];": `the cache ` +
			`store "memcached" is "memcached", which cannot be read without PHP`,
		"<?php return ['default' => 'none'];": `the configuration has no cache store "none"`,
		"<?php return ['default' => 'failover', 'prefix' => 'p:'];": "the table cache in " +
			"database/database.sqlite",
		"<?php return ['default' => 'r', 'stores' => ['r' => ['driver' => 'redis', 'prefix' => " +
			"'own:']]];": "the key " +
			"r:own:laravel:reverb:restart of the Redis connection default",
		"<?php return ['default' => 'r', 'prefix' => 'p', 'stores' => ['r' => ['driver' => " +
			"'redis', 'connection' => 'x']]];": `the configuration has no Redis connection "x"`,
		"<?php return ['default' => 'r', 'prefix' => fn () => 1, 'stores' => ['r' => ['driver' " +
			"=> 'redis']]];": "config/cache.php:1:45: fn is " +
			"not known here",
		"<?php return ['default' => 'd', 'stores' => ['d' => ['driver' => 'database', " +
			"'connection' => 'other', 'table' => 't']], 'prefix' => ''];": "the table pre_t in " +
			"/data/x.sqlite",
		"<?php return ['default' => 'd', 'stores' => ['d' => ['driver' => 'database', " +
			"'connection' => 'mysql']]];": `the ` +
			`cache is in the database "mysql", which cannot be read without PHP`,
		"<?php return ['default' => 'd', 'stores' => ['d' => ['driver' => 'database', " +
			"'connection' => 'url']]];": "the table cache in " +
			"/data/y.sqlite",
		"<?php return ['default' => 'd', 'stores' => ['d' => ['driver' => 'database', " +
			"'connection' => 'memory']]];": `the database "memory" is not in a file`,
		"<?php return ['default' => 'f', 'stores' => ['f' => ['driver' => 'file', 'path' => " +
			"'x']]];": `the cache store "f" keeps its files in a folder that is not known here`,
		"<?php return ['default' => ['x']];": "cache.default is an array",
		"<?php $x = 1; return [];": "config/cache.php:1:7: a variable begins a " +
			"statement, and the one that is read is return",
	} {
		app := application(t, "")
		write(t, app.Folder, "config/cache.php", text)
		write(t, app.Folder, "config/database.php", `<?php return ['connections' => [
			'other' => ['driver' => 'sqlite', 'database' => '/data/x.sqlite', 'prefix' => 'pre_'],
			'url' => ['driver' => 'mysql', 'url' => 'sqlite:////data/y.sqlite'], 'memory' =>
				['driver' => 'sqlite', 'database' => ':memory:'],
		], 'redis' => ['options' => ['prefix' => 'all:'], 'default' => ['host' => 'h', 'options' =>
			['prefix' => 'r:']]]];`)
		if got := app.Open().RestartPlace().String(); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
	app := application(t, "CACHE_STORE=redis\nAPP_NAME=Привет")
	if got, want := app.Open().RestartPlace().String(),
		"APP_NAME has a letter that is not known here; set "+
			"REDIS_PREFIX"; got != strings.Replace(want, "REDIS", "CACHE", 1) {
		t.Errorf("got %s", got)
	}
	app = application(t, "CACHE_STORE=file") // the cached configuration counts alone
	write(t, app.Folder, "bootstrap/cache/config.php", read(t, "testdata/cached/config.php"))
	p := app.Open().RestartPlace()
	if p.Redis == nil || p.Keys[0] != "shop-database-shop-cache-laravel:reverb:restart" ||
		p.Redis.Host != "10.0.0.5" || p.Redis.Port != "6380" || p.Redis.Password != "p'w\x00d" {
		t.Errorf("got %v and %+v", p, p.Redis)
	}
}

// TestRedisConnections has connections of all kinds, with the clients phpredis and predis.
func TestRedisConnections(t *testing.T) {
	const several = `the Redis connection "r" leads to several servers, such as sentinels`
	for text, want := range map[string]string{
		"'r' => 'redis://h:1/2'": "redis://h:1/2       ",
		"'r' => ['host' => 'h', 'scheme' => 'tls', 'username' => 'u', 'password' => 'p']": " tls " +
			"h   u p ",
		"'r' => ['path' => '/s', 'scheme' => 'unix', 'database' => 3]":  " unix   /s   3",
		"'r' => ['host' => '/run/redis.sock', 'port' => 0]":             "  /run/redis.sock 0    ",
		"'options' => ['password' => 'o'], 'r' => ['password' => 'p']":  "      o ",
		"'options' => ['parameters' => ['password' => 'o']], 'r' => []": "       ",
		"'client' => 'predis', 'options' => ['parameters' => ['password' => 'o', 'scheme' => " +
			"'tls']], 'r' => ['host' => 'h']": " tls h    o ",
		"'client' => 'predis', 'options' => ['password' => 'o'], 'r' => ['password' => null, " +
			"'options' => ['parameters' => ['password' => 'x', 'username' => 'u']]]": "     u  ",
		"'client' => 'predis', 'r' => ['tcp://a', 'tcp://b', 'options' => ['replication' => " +
			"'sentinel', 'service' => 's']]": several,
		"'client' => 'predis', 'options' => ['replication' => 'sentinel'], 'r' => []": several,
		"'client' => 'phpredis-sentinel', 'r' => ['sentinel_host' => 'h']": `the Redis client ` +
			`"phpredis-sentinel" is not known here`,
		"'clusters' => ['r' => [['host' => 'a'], ['host' => 'b']]]": `the Redis ` +
			`connection "r" leads to a Redis Cluster`,
		"'clusters' => ['r' => [['host' => 'a']]], 'r' => ['host' => 'b']": "  b     ",
		"'r' => ['prefix' => '" + strings.Repeat("p", 513) + "']": "a prefix of keys has 513 " +
			"bytes, and 512 are read here",
		"'r' => 5": `the configuration has no Redis connection "r"`,
	} {
		app := application(t, "CACHE_STORE=redis\nREDIS_CACHE_CONNECTION=r")
		write(t, app.Folder, "config/database.php", "<?php return ['redis' => ["+text+"]];")
		p := app.Open().RestartPlace()
		got := p.Reason
		if k := p.Redis; k != nil {
			got = strings.Join([]string{k.URL, k.Scheme, k.Host, k.Port, k.Path, k.Username,
				k.Password, k.DatabaseName}, " ")
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

// TestFalseAlarms has changes of a signal that are no restart. Each case has the result of a look
// between two looks that see the same signal.
func TestFalseAlarms(t *testing.T) {
	files := unpack(t)
	const name = "storage/framework/cache/data/4f/e4/4fe44729b03e0a0a2586ebe0d445f50c083d0ff3"
	const before = "9999999999i:1795711802;"
	file := func(text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { write(t, dir, name, text) }
	}
	replace := func(make func(path string) error) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.Remove(path), make(path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	inFile := map[string]func(t *testing.T, dir string){
		"cache:clear":               replace(func(string) error { return nil }),
		"the same signal once more": file(before),
		"just being written":        file(""),
		"cut off in its expiry":     file("99999"),
		"cut off behind its expiry": file("9999999999"),
		"cut off in its value":      file("9999999999i:17957"),
		"cut off before its end":    file("9999999999i:1795711803"),
		"expired":                   file("1795711899i:1795711899;"),
		"something else":            file("9999999999s:1:\"x\";"),
		"no number":                 file("9999999999i:x;"),
		"no expiry":                 file("xxxxxxxxxxi:1795711803;"),
		"very long":                 file("9999999999i:" + strings.Repeat("1", 5000) + ";"),
		"a pipe that nobody writes to": replace(func(path string) error {
			return unix.Mkfifo(path, 0o600)
		}),
		"a folder":          replace(func(path string) error { return os.Mkdir(path, 0o700) }),
		"a link to nothing": replace(func(path string) error { return os.Symlink("none", path) }),
		"a link to itself":  replace(func(path string) error { return os.Symlink(path, path) }),
		"touched": func(t *testing.T, dir string) {
			if err := os.Chtimes(filepath.Join(dir, name), time.Time{},
				today.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		},
		"other keys": func(t *testing.T, dir string) {
			write(t, dir, filepath.Dir(name)+"/4fe40000b03e0a0a2586ebe0d445f50c083d0ff3",
				"9999999999i:1795711999;")
		},
	}
	for what, happens := range inFile {
		app := application(t, "CACHE_STORE=file")
		write(t, app.Folder, name, before)
		alarm(t, what, app, happens, func(t *testing.T, dir string) {
			os.RemoveAll(filepath.Join(dir, name))
			write(t, dir, name, before)
		})
	}
	const main = "database/database.sqlite"
	database := func(set string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, main+"-wal"))
			os.Remove(filepath.Join(dir, main+"-journal"))
			write(t, dir, main, string(files["sqlite-l12-"+set+".db"]))
			if log, ok := files["sqlite-l12-"+set+".db-wal"]; ok {
				write(t, dir, main+"-wal", string(log))
			}
		}
	}
	then := func(set, name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			database(set)(t, dir)
			write(t, dir, name, text)
		}
	}
	journal := string(binary.BigEndian.AppendUint64(nil, 0xd9d505f920a163d7))
	whole := string(files["sqlite-l12-delete-1-restart.db"])
	inSQLite := map[string]func(*testing.T, string){
		"cache:clear":                    database("delete-3-cache-clear"),
		"a database without the row":     database("delete-0-before"),
		"a transaction is being written": then("delete-2-restart", main+"-journal", journal),
		"an empty file":                  then("delete-1-restart", main, ""),
		"cut off":                        then("delete-1-restart", main, whole[:10000]),
		"text":                           then("delete-1-restart", main, strings.Repeat("x", 9999)),
		"gone": func(_ *testing.T, dir string) {
			os.RemoveAll(filepath.Join(dir, "database"))
		},
		"a log of another time": then("delete-1-restart", main+"-wal",
			string(files["sqlite-l12-wal-2-restart.db-wal"])),
		"the prefix of another application": then("delete-2-restart", main, strings.ReplaceAll(
			string(files["sqlite-l12-delete-2-restart.db"]), "laravel-cache-", "laravel_cache_")),
	}
	for what, happens := range inSQLite {
		app := application(t, "CACHE_STORE=database")
		skeleton(t, app.Folder, true)
		database("delete-1-restart")(t, app.Folder)
		alarm(t, what, app, happens, database("delete-1-restart"))
	}
	// old frames in the log, and a checkpoint
	app := application(t, "CACHE_STORE=database")
	skeleton(t, app.Folder, true)
	database("wal-4-restart-again")(t, app.Folder)
	alarm(t, "a checkpoint", app, database("wal-5-closed"), database("wal-4-restart-again"))
}

// alarm looks before something happens, afterwards, and when all is as before: nothing of that
// may be a restart.
func alarm(t *testing.T, what string, app Application, happens, back func(*testing.T, string)) {
	t.Helper()
	p := app.Open().RestartPlace()
	var w Watch
	seen, err := p.Look(today)
	if err != nil || strings.Join(seen, "") == "" {
		t.Fatalf("%s: got %q and %v at first", what, seen, err)
	}
	w.Saw(seen)
	happens(t, app.Folder)
	if seen, err := p.Look(today); err == nil && w.Saw(seen) {
		t.Errorf("%s is taken for a restart: %q", what, seen)
	}
	back(t, app.Folder)
	if seen, err := p.Look(today); err != nil || w.Saw(seen) {
		t.Errorf("%s: that all is as before is taken for a restart: %q and %v", what, seen, err)
	}
}

// TestWatch has answers of Redis over time.
func TestWatch(t *testing.T) {
	var w Watch
	for i, step := range []struct {
		a, b string
		want bool
	}{
		{"", "", false}, {"", "", false}, {"1795711802", "", true}, {"1795711802", "", false},
		{"", "", false},
		{"1795711802", "", false}, {"\x00\x00\x00\x02", "", true},
		{"\x00\x00\x00\x02", "old", true}, {"", "old", false}, {"2", "old", true},
	} {
		if got := w.Saw([]string{step.a, step.b}); got != step.want {
			t.Errorf("step %d: got %v", i, got)
		}
	}
	if w.Saw([]string{"other"}) {
		t.Error("another place is taken for a restart")
	}
}

// TestFollows has a deployment move current to a new folder, and prune the old one. A cached
// configuration has the path of its release.
func TestFollows(t *testing.T) {
	for _, cached := range []bool{false, true} {
		dir := t.TempDir()
		link := filepath.Join(dir, "current")
		app := application(t, "CACHE_STORE=file")
		app.Folder = link
		const name = "framework/cache/data/4f/e4/4fe44729b03e0a0a2586ebe0d445f50c083d0ff3"
		signal := func(value string) { write(t, dir, "shared/"+name, "9999999999i:"+value+";") }
		release := func(number string) {
			folder := filepath.Join(dir, "releases", number)
			write(t, folder, "artisan", "")
			if cached {
				write(t, folder, "bootstrap/cache/config.php", `<?php return array('cache' =>
					array('default' => 'f', 'stores' => array('f' => array('driver' => 'file',
					'path' => '`+folder+`/storage/framework/cache/data'))));`)
			}
			if err := errors.Join(os.Symlink("../../shared", folder+"/storage"),
				os.Symlink(folder, link+".new"), os.Rename(link+".new", link)); err != nil {
				t.Fatal(err)
			}
		}
		signal("1795711802")
		release("41")
		p := app.Open().RestartPlace()
		var w Watch
		look := func() bool {
			seen, err := p.Look(today)
			if err != nil {
				t.Fatal(err)
			}
			return w.Saw(seen)
		}
		if look() {
			t.Error("the first look is a restart")
		}
		release("42")
		os.RemoveAll(filepath.Join(dir, "releases/41"))
		if look() {
			t.Error("a deployment is a restart without the command")
		}
		if again := app.Open().RestartPlace(); !reflect.DeepEqual(again, p) {
			t.Errorf("a reload finds another place: %+v, want %+v", again, p)
		}
		release("43")
		os.RemoveAll(filepath.Join(dir, "releases/42"))
		signal("1795711855")
		if !look() {
			t.Errorf("cached %v: the restart of a deployment is not seen", cached)
		}
	}
}
