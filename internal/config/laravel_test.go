package config

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reverb/internal/laravel"
)

// published is config/reverb.php as the newest Reverb publishes it, in short.
//
//go:embed testdata/published.php
var published string

// folder makes a folder of an application, with these files by name.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700),
			os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// loadIn is Load in a folder.
func loadIn(dir string, flags map[string]string, env ...string) *Config {
	isFile := func(name string) bool {
		info, err := os.Stat(name)
		return err == nil && info.Mode().IsRegular()
	}
	return Load(env, flags, Files{Read: os.ReadFile, Exists: isFile, Folder: dir})
}

// TestPrecedence has, for every variable that has a counterpart in config/reverb.php: flag, real
// environment, file, .env and default, each above the next.
func TestPrecedence(t *testing.T) {
	// Five different values that each variable takes, and for those with two values as many as
	// there are.
	values := map[string][]string{
		"REVERB_SERVER_HOST":     {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"},
		"REVERB_SERVER_PORT":     {"7001", "7002", "7003", "7004"},
		"REVERB_SERVER_PATH":     {"/a", "/b", "/c", "/d"},
		"REVERB_HOST":            {"a.example", "b.example", "c.example", "d.example"},
		"REVERB_SCHEME":          {"https", "https", "http", "https"},
		"REVERB_SCALING_ENABLED": {"true", "true", "true", "true"},
		"REVERB_SCALING_CHANNEL": {"a", "b", "c", "d"},
		"REVERB_REDIS_URL":       {"redis://a", "redis://b", "redis://c", "redis://d"},
		"REVERB_REDIS_SCHEME":    {"tls", "rediss", "redis", "tcp"},
		"REVERB_REDIS_HOST":      {"a", "b", "c", "d"},
		"REVERB_REDIS_PATH":      {"/a", "/b", "/c", "/d"},
		"REVERB_REDIS_USERNAME":  {"a", "b", "c", "d"},
		"REVERB_REDIS_PASSWORD":  {"a", "b", "c", "d"},
		"REVERB_APP_ID":          {"a", "b", "c", "d"}, "REVERB_APP_KEY": {"ka", "kb", "kc", "kd"},
		"REVERB_APP_SECRET": {"sa", "sb", "sc", "sd"},
		"REVERB_ALLOWED_ORIGINS": {"a.example", "b.example", "c.example",
			"d.example"},
		"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM": {"all", "none", "private", "all"},
		"REVERB_APP_RATE_LIMITING_ENABLED":     {"true", "true", "true", "true"},
		"REVERB_APP_RATE_LIMIT_TERMINATE":      {"true", "true", "true", "true"},
		"REVERB_APP_SUBSCRIPTION_COUNT":        {"true", "true", "true", "true"},
	}
	paths := map[string]string{}
	for name, path := range laravel.ServerKeys() {
		paths[name] = "servers.reverb." + strings.Join(path, ".")
	}
	for name, key := range laravel.RedisKeys() {
		paths[name] = "servers.reverb.scaling.server." + key
	}
	for name, path := range laravel.AppKeys() {
		paths[name] = "apps.apps.0." + strings.Join(path, ".")
	}
	for name, key := range laravel.PublicKeys() {
		if name != "REVERB_HOST" { // hostname has it too; see TestPublicAddress
			paths[name] = "apps.apps.0.options." + key
		}
	}
	flags := map[string]string{}
	defaults := map[string]string{}
	for _, v := range Variables() {
		flags[v.Name], defaults[v.Name] = v.Flag, v.Default
	}
	tried := 0
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		v := values[name]
		if v == nil {
			v = []string{"71", "72", "73", "74"}
		}
		dotenv := fmt.Sprintf("REVERB_APP_ID=i\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s\n%s=%s\n",
			name, v[3])
		for _, in := range []string{"config/reverb.php", "bootstrap/cache/config.php"} {
			keys := strings.Split(paths[name], ".")
			php := "'" + v[2] + "'"
			if name == "REVERB_ALLOWED_ORIGINS" {
				php = "[" + php + "]"
			}
			for _, key := range slices.Backward(keys) {
				php = fmt.Sprintf("\n['%s' => %s]", key, php)
			}
			line := len(keys) + 1
			if strings.HasPrefix(in, "bootstrap") {
				php = "['reverb' => " + php + "]"
			}
			files := map[string]string{".env": dotenv, in: "<?php return " + php + ";\n"}
			check := func(what string, c *Config, want, origin string) {
				t.Helper()
				tried++
				s := c.Setting(name)
				if s.Value != want || s.Origin != origin || len(c.Problems) > 0 {
					t.Errorf("%s in %s: %s: got %q (%s), %q, want %q (%s)", name, in, what, s.Value,
						s.Origin, c.Problems, want, origin)
				}
			}
			fileOrigin := fmt.Sprintf("%s:%d", in, line)
			dir := folder(t, files)
			if flag := flags[name]; flag != "" {
				check("a flag", loadIn(dir, map[string]string{flag: v[0]}, name+"="+v[1]), v[0],
					"--"+flag)
			}
			check("the environment", loadIn(dir, nil, name+"="+v[1]), v[1], "environment")
			switch {
			case slices.Contains(laravel.OursAlone(), name): // .env is above the file
				check(".env", loadIn(dir, nil), v[3], ".env:4")
				files[".env"] = strings.Join(strings.SplitAfter(dotenv, "\n")[:3], "")
				check("the file", loadIn(folder(t, files), nil), v[2], fileOrigin)
			case v[2] == v[3]:
				check("the file and .env", loadIn(dir, nil), v[3], ".env:4")
			default:
				c := loadIn(dir, nil)
				check("the file", c, v[2], fileOrigin)
				if want := fmt.Sprintf("(%s) counts, not %s=", fileOrigin,
					name); !strings.Contains(strings.Join(c.Notes, "\n"), want) {
					t.Errorf("%s: got notes %q, want %q", name, c.Notes, want)
				}
			}
			delete(files, in)
			files[".env"] = dotenv
			if !strings.HasPrefix(name, "REVERB_APP_ID") &&
				!strings.HasPrefix(name, "REVERB_APP_KEY") &&
				!strings.HasPrefix(name, "REVERB_APP_SECRET") {
				check(".env alone", loadIn(folder(t, files), nil), v[3], ".env:4")
				delete(files, ".env")
				c := loadIn(folder(t, files), nil)
				if s := c.Setting(name); s.Value != defaults[name] || s.Value != "" &&
					s.Origin != "default" {
					t.Errorf("%s: got %q (%s) by default", name, s.Value, s.Origin)
				}
			}
		}
	}
	if tried < 200 {
		t.Errorf("only %d were tried", tried)
	}
}

// TestTLSOptions tells the place of a certificate that the application's file names.
func TestTLSOptions(t *testing.T) {
	dir := folder(t, map[string]string{".env": dotenv1, "config/reverb.php": strings.Replace(
		published, "'tls' => []", "'tls' => ['local_cert' => '/c.pem',\n'passphrase' => 'p',\n"+
			"'cafile' => '/ca.pem', 'verify_peer' => false]", 1)})
	c := loadIn(dir, nil)
	c.Problem("", "REVERB_TLS_CERT: /c.pem: gone")
	c.Problem("", "REVERB_TLS_KEY: /k.pem: gone")
	const want = "reverb: config/reverb.php:10, tls.local_cert: /c.pem: gone\n" +
		"reverb: REVERB_TLS_KEY: /k.pem: gone\n"
	if got := told(c); !strings.HasSuffix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	s, ca := c.Setting("REVERB_TLS_PASSPHRASE"), c.Setting("REVERB_TLS_CA")
	if s.Shown() != "********" || s.Origin != "config/reverb.php:11, tls.passphrase" ||
		ca.Value != "" {
		t.Errorf("got %s (%s) and %s", s.Shown(), s.Origin, ca.Value)
	}
}

// TestNamedCache shows a cached file elsewhere by its whole name.
func TestNamedCache(t *testing.T) {
	dir := folder(t, map[string]string{".env": dotenv1, "c/my.php": "<?php return ['reverb' => " +
		"['apps' => ['apps' => [['app_id' => 2]]]]];"})
	name := filepath.Join(dir, "c", "my.php")
	for given, want := range map[string]string{name: name + ":1", "c/my.php": "c/my.php:1"} {
		got := loadIn(dir, nil, "APP_CONFIG_CACHE="+given).Setting("REVERB_APP_ID")
		if got.Origin != want {
			t.Errorf("got %s, want %s", got.Origin, want)
		}
	}
}

// TestAskedNames warns of names that neither this program nor the application's files ask for.
func TestAskedNames(t *testing.T) {
	dir := folder(t, map[string]string{
		".env": dotenv1 + "REVERB_ORIGIN=a.example\nREVERB_ENC_KEY=e\n" +
			"REVERB_ORIGINS=b\n",
		"config/broadcasting.php": "<?php return ['key' => env('REVERB_ENC_KEY')];",
		"config/reverb.php": strings.Replace(published, "['*']",
			"[env('REVERB_ORIGIN', '*')]", 1)})
	c := loadIn(dir, nil)
	if len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], "REVERB_ORIGINS is not") ||
		c.Apps[0].AllowedOrigins[0] != "a.example" {
		t.Errorf("got %q, %v", c.Warnings, c.Apps[0].AllowedOrigins)
	}
}

// TestPublicAddress has the address at which clients find the first app, by the options of the file
// beside .env: a cached file with a stale .env, options that are written out, and those that the
// published file has where no variable is set.
func TestPublicAddress(t *testing.T) {
	const options = "'options' => ['host' => '%s', 'port' => %s, 'scheme' => '%s']"
	const app = "'app_id' => '1', 'key' => 'k', 'secret' => 's', " + options
	literal := func(host, port, scheme string) string {
		return fmt.Sprintf("['servers' => ['reverb' => ['hostname' => 'other.example']],\n"+
			"'apps' => ['apps' => [["+app+"]]]]", host, port, scheme)
	}
	const stale = "REVERB_HOST=stale.example\nREVERB_PORT=9999\nREVERB_SCHEME=https\n"
	const cached, file = "bootstrap/cache/config.php", "config/reverb.php"
	for name, tt := range map[string]struct {
		in, text, dotenv, env string
		want                  Public
		differ                int // lines that say what counts
	}{
		"a cached file and a stale .env": {cached,
			"['reverb' => " + literal("localhost", "8080", "http") + "]", stale, "",
			Public{"localhost", 8080, "http"}, 3},
		"options written out": {file, literal("localhost", "8080", "http"), stale, "",
			Public{"localhost", 8080, "http"}, 3},
		"and the real environment": {file, literal("a.example", "8443", "https"), "",
			"REVERB_HOST=b.example REVERB_PORT=80 REVERB_SCHEME=http",
			Public{"b.example", 80, "http"}, 3},
		"the same in .env": {file, literal("stale.example", "9999", "https"), stale, "",
			Public{"stale.example", 9999, "https"}, 0},
		"no host": {file, literal("", "8080", "http"), "", "",
			Public{"other.example", 8080, "http"}, 0},
		"what makes no sense": {file, literal("a.example", "'x'", "wss"), "", "",
			Public{"a.example", 0, ""}, 0},
		"the published file": {file, published[len("<?php return ") : len(published)-2],
			"REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s\n", "", Public{}, 0},
		"and a host": {file, published[len("<?php return ") : len(published)-2],
			dotenv1, "", Public{"ws.example", 443, "https"}, 0},
	} {
		dir := folder(t, map[string]string{".env": tt.dotenv,
			tt.in: "<?php return " + tt.text + ";\n"})
		c := loadIn(dir, nil, strings.Fields(tt.env)...)
		differ := 0
		for _, n := range c.Notes {
			differ += strings.Count(n, " counts, not ")
		}
		if c.Public != tt.want || differ != tt.differ || len(c.Problems) > 0 {
			t.Errorf("%s: got %v, %d lines, want %v, %d\n%s", name, c.Public, differ, tt.want,
				tt.differ, told(c))
		}
		if name == "what makes no sense" && len(c.Warnings) != 2 {
			t.Errorf("%s: got %q", name, c.Warnings)
		}
	}
}

// told has the texts of a start about its configuration, in short.
func told(c *Config) string {
	var b bytes.Buffer
	for _, a := range c.Apps {
		fmt.Fprintf(&b, "app %s, key %s, secret %s: origins %s\n", a.ID, a.Key, a.Secret,
			strings.Join(a.AllowedOrigins, ","))
	}
	for _, n := range c.Notes {
		if !strings.HasPrefix(n, "php artisan reverb:restart") { // see TestRestartNotes
			fmt.Fprintln(&b, "note:", n)
		}
	}
	c.Report(&b)
	return b.String()
}

const dotenv1 = "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s\n" +
	"REVERB_HOST=ws.example\nREDIS_HOST=10.0.0.9\nREDIS_PASSWORD=null\n"

// TestFolders starts in folders of all kinds.
func TestFolders(t *testing.T) {
	const app1 = "app 1, key k, secret s: origins *\n"
	several := strings.Replace(published, "'allowed_origins' => ['*'],",
		"'allowed_origins' => ['one.example'],\n\t], [\n\t\t'app_id' => 2, 'key' => 'k2', "+
			"'secret' => 's2', 'allowed_origins' => ['two.example'],", 1)
	cached := `<?php return array('reverb' => array('servers' => array('reverb' => array(` +
		`'host' => '0.0.0.0', 'port' => 8080,
	'scaling' => array('enabled' => false))), ` +
		`'apps' => array('provider' => 'config', 'apps' => array(array(
	'app_id' => '9', 'key' => 'k9', 'secret' => 's9', ` +
		`'allowed_origins' => array('nine.example'))))));`
	const wayOut = "; REVERB_CONFIG_FILE= leaves the file out, and REVERB_APPS_FILE takes the " +
		"apps as php artisan tinker " +
		"--execute 'echo json_encode(config(\"reverb\"));' > apps.json writes them\n"
	for name, tt := range map[string]struct {
		files map[string]string
		env   string
		want  string
	}{
		"published default": {map[string]string{".env": dotenv1, "config/reverb.php": published},
			"", app1},
		"no Laravel at all": {map[string]string{".env": dotenv1}, "", app1},
		"nothing set":       {map[string]string{"config/reverb.php": published}, "", ""},
		"half of it": {map[string]string{".env": "REVERB_APP_ID=1\n",
			"config/reverb.php": published}, "",
			"reverb: REVERB_APP_KEY, REVERB_APP_SECRET: not set, while the rest of the app is; " +
				"an app needs REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET\n"},
		"several apps": {map[string]string{".env": dotenv1, "config/reverb.php": several}, "",
			"app 1, key k, secret s: origins one.example\napp 2, key k2, secret s2: origins " +
				"two.example\n"},
		"several apps, and origins for one": {map[string]string{".env": dotenv1 +
			"REVERB_ALLOWED_ORIGINS=x.example", "config/reverb.php": several}, "",
			"app 1, key k, secret s: origins one.example\napp 2, key k2, secret s2: origins " +
				"two.example\n" +
				"reverb: warning: REVERB_ALLOWED_ORIGINS (.env:7) does not count: each app of " +
				"config/reverb.php:22 has origins of its own\n"},
		"origins": {map[string]string{".env": dotenv1,
			"config/reverb.php": strings.Replace(published, "['*']",
				"['shop.example', 'b.example']", 1)}, "",
			"app 1, key k, secret s: origins shop.example,b.example\n"},
		"no origins": {map[string]string{".env": dotenv1,
			"config/reverb.php": strings.Replace(published, "['*']", "[]", 1)}, "",
			"app 1, key k, secret s: origins \n"},
		"origins in .env": {map[string]string{".env": dotenv1 +
			"REVERB_ALLOWED_ORIGINS=env.example",
			"config/reverb.php": strings.Replace(published, "['*']", "['shop.example']", 1)}, "",
			"app 1, key k, secret s: origins env.example\nnote: " +
				"REVERB_ALLOWED_ORIGINS=\"env.example\" (.env:7) counts, not " +
				"REVERB_ALLOWED_ORIGINS=\"shop.example\" (config/reverb.php:27)\n"},
		"tls": {map[string]string{".env": dotenv1,
			"config/reverb.php": strings.Replace(published, "'tls' => []",
				"'tls' => ['local_cert' => base_path('c.pem'), 'verify_depth' => 1]", 1)}, "",
			app1 + "note: serving TLS with DIR/c.pem, as config/reverb.php says\nreverb: " +
				"warning: config/reverb.php: tls.verify_depth means nothing here\n"},
		"a folder in the place of .env": {map[string]string{".env/x": ""}, "",
			"reverb: REVERB_ENV_FILE=\".env\": is a directory; name Laravel's .env, or " +
				"/dev/null for none\n"},
		"a .env without end": {map[string]string{".env": strings.Repeat("#", 256<<10+1)}, "",
			"reverb: REVERB_ENV_FILE=\".env\": the file is larger than 262144 bytes; name " +
				"Laravel's .env, or /dev/null for none\n"},
		"broken PHP": {map[string]string{".env": dotenv1,
			"config/reverb.php": "<?php return ['apps' => [] 'x'];"}, "",
			app1 + "reverb: config/reverb.php:1:28: a text stands where , or ] is expected" +
				wayOut},
		"broken PHP beside a list": {map[string]string{".env": dotenv1,
			"config/reverb.php": "<?php return ['apps' => [] 'x'];"},
			`REVERB_APPS=[{"app_id":"1","key":"k","secret":"s"}]`,
			app1 + "reverb: warning: config/reverb.php:1:28: a text stands where , or ] is " +
				"expected; the file does not count\n"},
		"broken PHP left out": {map[string]string{".env": dotenv1,
			"config/reverb.php": "<?php return ['apps' => [] 'x'];"}, "REVERB_CONFIG_FILE=", app1},
		"broken PHP that is named": {map[string]string{".env": dotenv1,
			"other.php": "<?php return $x;"}, "REVERB_CONFIG_FILE=other.php",
			app1 + "reverb: REVERB_CONFIG_FILE=\"other.php\": DIR/other.php:1:14: a variable is " +
				"not known here\n"},
		"a named file that is not there": {map[string]string{".env": dotenv1},
			"REVERB_CONFIG_FILE=none.php",
			app1 + "reverb: REVERB_CONFIG_FILE=\"none.php\": no such file or directory; name " +
				"Laravel's config/reverb.php, or leave the value empty for none\n"},
		"a named file": {map[string]string{".env": dotenv1, "bootstrap/cache/config.php": cached,
			"other.php": strings.Replace(published, "'*'", "'o.example'", 1)},
			"REVERB_CONFIG_FILE=other.php",
			"app 1, key k, secret s: origins o.example\n"},
		"unknown in apps": {map[string]string{".env": dotenv1,
			"config/reverb.php": strings.Replace(published, "['*']", "Origins::all()", 1)}, "",
			app1 + "reverb: config/reverb.php:27:24: Origins::all() is not known here" + wayOut},
		"unknown elsewhere": {map[string]string{".env": dotenv1,
			"config/reverb.php": strings.Replace(published, "'options' => ['tls' => []]",
				"'options' => fn () => []", 1)}, "",
			app1 + "reverb: warning: config/reverb.php:10:16: fn is not known here; what stands " +
				"there does not count\n"},
		"unknown elsewhere in a named file": {map[string]string{".env": dotenv1,
			"o.php": strings.Replace(published, "'options' => ['tls' => []]",
				"'options' => fn () => []", 1)}, "REVERB_CONFIG_FILE=o.php",
			app1 + "reverb: REVERB_CONFIG_FILE=\"o.php\": DIR/o.php:10:16: fn is not known here\n"},
		"another provider": {map[string]string{".env": dotenv1,
			"config/reverb.php": strings.Replace(published, "'provider' => 'config'",
				"'provider' => 'database'", 1)}, "",
			app1 + "reverb: warning: config/reverb.php:22: the apps come from a provider that is " +
				"PHP; REVERB_APPS_FILE takes a list of them\n"},
		"wrong in the app": {map[string]string{".env": dotenv1,
			"config/reverb.php": strings.Replace(published, "['*']",
				"'*', 'max_subscriptions' => 'x', 'odd' => 1", 1)}, "",
			app1 + "reverb: warning: config/reverb.php:22: the app: the key \"odd\" means " +
				"nothing here\nreverb: config/reverb.php:22: the app: allowed_origins: not an " +
				"array of hosts\nreverb: config/reverb.php:22: the app: max_subscriptions: not a " +
				"whole number from 1 to 2147483647\n"},
		"not UTF-8": {map[string]string{".env": dotenv1,
			"config/reverb.php": strings.Replace(published, "env('REVERB_APP_SECRET')", `"\xff"`,
				1)}, "",
			app1 + "reverb: config/reverb.php:24: a text of an app is not UTF-8" + wayOut},
		"cached": {map[string]string{".env": "", "config/reverb.php": "<?php $broken;",
			"bootstrap/cache/config.php": cached}, "",
			"app 9, key k9, secret s9: origins nine.example\n"},
		"stale .env beside a cached configuration": {map[string]string{".env": dotenv1 +
			"REVERB_SERVER_PORT=9999", "bootstrap/cache/config.php": cached}, "",
			"app 9, key k9, secret s9: origins nine.example\n" +
				"note: REVERB_SERVER_PORT=\"8080\" (bootstrap/cache/config.php:1) counts, not " +
				"REVERB_SERVER_PORT=\"9999\" (.env:7)\n" +
				"note: REVERB_APP_ID=\"9\" (bootstrap/cache/config.php:3) counts, not " +
				"REVERB_APP_ID=\"1\" (.env:1)\n" +
				"note: REVERB_APP_KEY=\"k9\" (bootstrap/cache/config.php:3) counts, not " +
				"REVERB_APP_KEY=\"k\" (.env:2)\n" +
				"note: REVERB_APP_SECRET=\"********\" (bootstrap/cache/config.php:3) counts, not " +
				"REVERB_APP_SECRET=\"********\" (.env:3)\n"},
		"origins in .env beside a cached " +
			"configuration": {map[string]string{".env": "REVERB_ALLOWED_ORIGINS=env.example",
			"bootstrap/cache/config.php": cached}, "",
			"app 9, key k9, secret s9: origins env.example\nnote: " +
				"REVERB_ALLOWED_ORIGINS=\"env.example\" (.env:1) counts, not " +
				"REVERB_ALLOWED_ORIGINS=\"nine.example\" (bootstrap/cache/config.php:3)\n"},
		"broken cached configuration": {map[string]string{".env": dotenv1,
			"bootstrap/cache/config.php": cached[:200]}, "",
			app1 + "reverb: bootstrap/cache/config.php:2:90: the end of the file stands where , " +
				"or ) is expected; php artisan config:clear removes the " +
				"file, config:cache writes it again, and REVERB_CONFIG_FILE= leaves it out\n"},
		"no variable and no app": {map[string]string{"config/reverb.php": published}, "",
			"reverb: warning: config/reverb.php was read, and no app in it has an app_id, a key " +
				"and a secret\n"},
		"a wrong file that is named": {map[string]string{".env": dotenv1,
			"cache.php": "<?php return ['default' => 'x'];"}, "REVERB_CONFIG_FILE=cache.php",
			app1 + "reverb: REVERB_CONFIG_FILE=\"cache.php\": it has neither servers nor apps; " +
				"name Laravel's config/reverb.php, or leave the value empty for none\n"},
		"apps in PHP": {map[string]string{".env": "K=k3",
			"apps.php": "<?php return [['app_id' => '3', 'key' => env('K'), 'secret' => 's3']];"},
			"REVERB_APPS_FILE=apps.php", "app 3, key k3, secret s3: origins *\n"},
		"apps in another config/reverb.php": {map[string]string{"sub/config/reverb.php": several},
			"REVERB_APPS_FILE=sub/config/reverb.php REVERB_APP_ID=1 REVERB_APP_KEY=k " +
				"REVERB_APP_SECRET=s",
			"app 1, key k, secret s: origins one.example\napp 2, key k2, secret s2: origins " +
				"two.example\n"},
		"unknown in apps in PHP": {map[string]string{"apps.php": "<?php return [['app_id' " +
			"=> $x]];"}, "REVERB_APPS_FILE=apps.php",
			"reverb: REVERB_APPS_FILE=\"apps.php\": DIR/apps.php:1:28: a variable is not known " +
				"here\n"},
		"apps in PHP that is not there": {nil, "REVERB_APPS_FILE=apps.php",
			"reverb: REVERB_APPS_FILE=\"apps.php\": no such file or directory; name a file of " +
				"apps\n"},
	} {
		dir := folder(t, tt.files)
		c := loadIn(dir, nil, strings.Fields(tt.env)...)
		if got := strings.ReplaceAll(told(c), dir, "DIR"); got != tt.want &&
			(strings.HasSuffix(tt.want, "\n") || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tt.want)
		}
	}
}

// TestRedisOfApplication takes Redis from where Reverb takes it.
func TestRedisOfApplication(t *testing.T) {
	const database = `<?php return ['redis' => ['default' => ['host' => 'db.example',
		'port' => env('REDIS_PORT', 6380), 'password' => 'p', 'scheme' => 'tls',
		'database' => 3]]];`
	const cached = `<?php return array('database' => array('redis' => array('default' => array(
		'url' => null, 'host' => 'c', 'port' => '7', 'database' => '4'))),
		'reverb' => array('servers' => array('reverb' => array('scaling' => array(
		'enabled' => true, 'server' => array())))));`
	bare := strings.Replace(published, "'server' => [", "'other' => [", 1)
	for name, tt := range map[string]struct {
		files map[string]string
		env   string
		want  string
	}{
		"scaling.server": {map[string]string{".env": dotenv1,
			"config/reverb.php": published, "config/database.php": database}, "",
			"{tcp 10.0.0.9:6379   0 false}"},
		"database.php": {map[string]string{".env": dotenv1, "config/reverb.php": bare,
			"config/database.php": database}, "", "{tcp db.example:6380  p 3 true}"},
		"database.php and .env": {map[string]string{".env": dotenv1 + "REDIS_PORT=1",
			"config/reverb.php": bare, "config/database.php": database}, "",
			"{tcp db.example:1  p 3 true}"},
		"the environment": {map[string]string{".env": dotenv1, "config/reverb.php": bare,
			"config/database.php": database}, "REVERB_REDIS_HOST=real REDIS_DB=9",
			"{tcp real:6380  p 3 true}"},
		"neither": {map[string]string{".env": dotenv1, "config/reverb.php": bare},
			"", "{tcp 10.0.0.9:6379   0 false}"},
		"a URL": {map[string]string{".env": "REDIS_URL=redis://u:p@h:1/2",
			"config/reverb.php": published}, "", "{tcp h:1 u p 2 false}"},
		"an alias that is a link": {map[string]string{".env": dotenv1,
			"config/reverb.php": published}, "REDIS_PORT=tcp://10.0.0.1:6379",
			"{tcp 10.0.0.9:6379   0 false}"},
		"cached": {map[string]string{".env": dotenv1, "bootstrap/cache/config.php": cached},
			"REDIS_HOST=alias", "{tcp c:7   4 false}"},
	} {
		dir := folder(t, tt.files)
		c := loadIn(dir, nil, append(strings.Fields(tt.env), "REVERB_SCALING_ENABLED=true")...)
		if got := fmt.Sprint(c.Redis.At); got != tt.want || len(c.Problems) > 0 {
			t.Errorf("%s: got %s and %q, want %s", name, got, c.Problems, tt.want)
		}
	}
	dir := folder(t, map[string]string{"config/reverb.php": bare,
		"config/database.php": "<?php $x;"})
	if c := loadIn(dir, nil, "REVERB_SCALING_ENABLED=true"); !strings.Contains(strings.Join(
		c.Warnings, ""), "config/database.php:1:7: a variable begins a statement") {
		t.Errorf("got %q", c.Warnings)
	}
	if c := loadIn(dir, nil); strings.Contains(strings.Join(c.Warnings, ""), "database.php") {
		t.Errorf("Redis is told about while scaling is off: %q", c.Warnings)
	}
}

// TestRestartPlace finds where php artisan reverb:restart leaves its signal.
func TestRestartPlace(t *testing.T) {
	dir := folder(t, map[string]string{
		".env":    "CACHE_STORE=redis\nREDIS_HOST=/run/redis.sock\nREDIS_PASSWORD=p",
		"artisan": "#!/usr/bin/env php"})
	c := loadIn(dir, nil)
	p, at := c.Signal, c.SignalRedis
	if p.Redis == nil || p.Keys[0] != "laravel-database-laravel-cache-laravel:reverb:restart" {
		t.Fatalf("got %v", p)
	}
	if at != (RedisAddress{Network: "unix", Address: "/run/redis.sock", Password: "p", DB: 1}) {
		t.Errorf("got %+v", at)
	}
	for k, want := range map[laravel.RedisKey]string{
		{Connection: "c", Host: "h", Port: "x"}: "the Redis connection c: not a whole number " +
			"from 0 to 65535",
		{Connection: "c", Scheme: "odd"}: "the Redis connection c: not one of tcp, redis, " +
			"tls, rediss and unix",
		{Connection: "c", URL: "http://s3cret"}: "the Redis connection c: the scheme \"http\" is " +
			"not known; redis, rediss, tls and unix are",
	} {
		if _, err := addressOf(&k); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "s3cret") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for k, want := range map[laravel.RedisKey]string{
		{URL: "rediss://u:p@h:1", Username: "x", Password: "y", Port: "9",
			DatabaseName: "1"}: "{tcp h:1 u p 1 true}",
		{URL: "redis://h", Username: "u", Password: "p", DatabaseName: "1",
			Scheme: "tls"}: "{tcp h:6379 u p 1 false}",
		{URL: "redis://:p%40@h:1/3", DatabaseName: "1"}:   "{tcp h:1  p@ 3 false}",
		{URL: "redis://h/", Port: "7", DatabaseName: "2"}: "{tcp h:7   2 false}",
		{URL: "tls://h:1?database=4", DatabaseName: "2"}:  "{tcp h:1   4 true}",
		{Scheme: "tls", Host: "h", Port: "1", Username: "u",
			Password: "p"}: "{tcp h:1 u p 0 true}",
		{Host: "tls://h", Port: "1", DatabaseName: "1"}:       "{tcp h:1   1 true}",
		{Scheme: "unix", Path: "/s", DatabaseName: "1"}:       "{unix /s   1 false}",
		{Host: "/s", Port: "0", Username: "u", Password: "p"}: "{unix /s u p 0 false}",
		{Host: "unix:///s", DatabaseName: "2"}:                "{unix /s   2 false}",
		{Host: "::1", Port: "1"}:                              "{tcp [::1]:1   0 false}",
	} {
		if a, err := addressOf(&k); err != nil || fmt.Sprint(a) != want {
			t.Errorf("%+v: got %v and %v, want %s", k, a, err, want)
		}
	}
	if p := loadIn(folder(t, map[string]string{".env": "A=1"}), nil).Signal; p.String() != "" {
		t.Error("there is a Laravel application without artisan")
	}
	bad := folder(t, map[string]string{".env": "CACHE_STORE=redis\nREDIS_PORT=x", "artisan": ""})
	if p := loadIn(bad, nil).Signal; p.String() != "the Redis connection cache: not a whole "+
		"number from 0 to 65535" {
		t.Errorf("got %v", p)
	}
	if p := loadIn(dir, nil, "REVERB_CONFIG_FILE=").Signal; p.String() != "" {
		t.Error("the application is looked at although REVERB_CONFIG_FILE is empty")
	}
}

// TestDeployment follows the folder by its name.
func TestDeployment(t *testing.T) {
	old := folder(t, map[string]string{".env": dotenv1})
	next := folder(t, map[string]string{".env": strings.Replace(dotenv1, "=k", "=next", 1),
		"config/reverb.php": strings.Replace(published, "'*'", "'next.example'", 1)})
	link := filepath.Join(t.TempDir(), "current")
	if err := os.Symlink(old, link); err != nil {
		t.Fatal(err)
	}
	c := loadIn(link, nil)
	if err := errors.Join(os.Remove(link), os.Symlink(next, link), os.RemoveAll(old)); err != nil {
		t.Fatal(err)
	}
	if again := c.Again(); again.Apps[0].Key != "next" ||
		again.Apps[0].AllowedOrigins[0] != "next.example" || c.Apps[0].Key != "k" {
		t.Errorf("got %+v", again.Apps[0])
	}
}

// TestRestartNotes says at the start whether php artisan reverb:restart is seen.
func TestRestartNotes(t *testing.T) {
	const file = "storage/framework/cache/data/4f/e4/4fe44729b03e0a0a2586ebe0d445f50c083d0ff3"
	for env, want := range map[string]string{
		"CACHE_STORE=file": "php artisan reverb:restart puts a fresh process in the place of the " +
			"server: the file " + file + " is watched",
		"CACHE_STORE=file REVERB_RESTART=drain": "php artisan reverb:restart ends the server: " +
			"the file " + file + " is watched; only systemd, Supervisor or the like starts the " +
			"next one",
		"CACHE_STORE=file REVERB_RESTART=drain INVOCATION_ID=1": "php artisan reverb:restart " +
			"ends the server: the file " + file + " is watched",
		"DB_CONNECTION=mysql": "php artisan reverb:restart is not seen: the cache is in the " +
			"database \"mysql\", which cannot be read without PHP; reverb restart is " +
			"the command",
	} {
		dir := folder(t, map[string]string{"artisan": ""})
		c := loadIn(dir, nil, strings.Fields(env)...)
		if len(c.Notes) != 1 || c.Notes[0] != want {
			t.Errorf("%s: got %q, want %s", env, c.Notes, want)
		}
	}
}
