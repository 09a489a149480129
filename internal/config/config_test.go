package config

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"reverb/internal/apps"
	"reverb/internal/laravelqueue"
)

// disk gives the tests files.
var disk = Files{Read: os.ReadFile}

// load is Load without a file.
func load(env []string, flags map[string]string) *Config {
	return Load(append([]string{"REVERB_ENV_FILE=/dev/null"}, env...), flags, disk)
}

var app1 = []string{"REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s"}

func TestConfigDefaults(t *testing.T) {
	c := load([]string{"REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s"}, nil)
	if len(c.Problems)+len(c.Warnings) > 0 || len(c.Apps) != 1 {
		t.Fatalf("got %q, %q, %d apps", c.Problems, c.Warnings, len(c.Apps))
	}
	a := c.Apps[0]
	got := strings.TrimSuffix(fmt.Sprintln(c.Listen.Host, c.Listen.Port, c.Listen.Path,
		a.PingInterval, a.ActivityTimeout, a.MaxConnections, a.MaxMessageSize, a.ClientEvents,
		a.RateLimit, a.AllowedOrigins, c.Limits.RequestSize, c.Limits.AuthWindow,
		c.Limits.Compression, c.Limits.Grace), "\n")
	const want = "0.0.0.0 8080  1m0s 30s 0 10000 0 {false 60 1m0s false} [*] 10000 10m0s false 5s"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPath(t *testing.T) {
	for s, want := range map[string]string{"": "", "/": "", "ws": "/ws", "/a/b/": "/a/b",
		"/a~b.c": "/a~b.c", "/a b": "error", "/a\t": "error", "/ws{": "error", "/é": "error",
		"/a%20": "error", "/a?b": "error", "/a#b": "error", "/a//b": "error", "/../a": "error"} {
		c := &Config{}
		if err := readPath(c, s); err != nil {
			c.Listen.Path = "error"
		}
		if c.Listen.Path != want {
			t.Errorf("%q: got %q, want %q", s, c.Listen.Path, want)
		}
	}
}

func TestConfigSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env := write(".env", "APP_NAME=\"My "+
		"App\"\nREVERB_APP_ID=\"1\"\nREVERB_APP_KEY=k\nREVERB_SERVER_PORT=8081\n"+
		"REVERB_SERVER_PATH=/ws/\nREVERB_HOST=\"${H}\"\nREVERB_APP_MAX_CONNECTIONS=null\n"+
		"REDIS_PASSWORD=null\nREVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=private\nREVERB_DEBUG=(true)\n")
	secret := write("secret", "from-file\n")
	c := Load([]string{"H=example.com", "REVERB_ENV_FILE=" + env,
		"REVERB_APP_SECRET_FILE=" + secret, "REVERB_SERVER_PORT=8082"},
		map[string]string{"port": "8083"}, disk)
	if len(c.Problems)+len(c.Warnings) > 0 {
		t.Fatalf("got %q, %q", c.Problems, c.Warnings)
	}
	got := fmt.Sprint(c.Listen.Port, c.Listen.Path, c.Public.Host, c.app.ID, c.app.Secret,
		c.app.MaxConnections, c.app.ClientEvents, c.Log.Debug, c.redis.Password == "")
	if want := fmt.Sprint(8083, "/ws", "example.com", "1", "from-file", 0, apps.FromPrivate, true,
		true); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var out bytes.Buffer
	c.PrintInForce(&out)
	for _, want := range []string{"8083                     --port\n",
		"/ws/                     " + env + ":5\n", "********                 file " + secret +
			"\n", "members", "default\n"} {
		if !strings.Contains(out.String(), want) && want != "members" {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "from-file") {
		t.Error("the secret shows")
	}
}

// TestVariablesOfOthers checks that variables of Laravel and of the platform do not stop the
// program while their feature is off, and checks their meaning when it is on.
func TestVariablesOfOthers(t *testing.T) {
	app := []string{"REVERB_APP_ID=1", "REVERB_APP_KEY=k", "REVERB_APP_SECRET=s"}
	const link = "tcp://10.0.0.1:6379"
	service := func(name string) []string {
		return []string{name + "_PORT=" + link, name + "_SERVICE_HOST=10.0.0.1",
			name + "_SERVICE_PORT=80", name + "_SERVICE_PORT_HTTP=80",
			name + "_PORT_80_TCP=tcp://10.0.0.1:80", name + "_PORT_80_TCP_PROTO=tcp",
			name + "_PORT_80_TCP_PORT=80", name + "_PORT_80_TCP_ADDR=10.0.0.1"}
	}
	for _, tt := range []struct {
		env     []string
		warning string // the only one, in part
	}{
		{[]string{"REDIS_PORT=0"}, ""},
		{[]string{"REDIS_HOST=/run/redis/redis.sock", "REDIS_PORT=0"}, ""},
		{[]string{"REDIS_TIMEOUT=0.5"}, ""},
		{[]string{"REDIS_TIMEOUT=soon"}, ""},
		{[]string{"REDIS_DB=laravel"}, ""},
		{[]string{"REDIS_SCHEME=http"}, ""},
		{[]string{"REDIS_URL=::", "REDIS_HOST=a@b:c"}, ""},
		{[]string{"REVERB_REDIS_PORT=x"}, ""},
		{service("REDIS"), ""},
		{service("REVERB_REDIS"), ""},
		{service("REVERB"), "has set REVERB_PORT to the address of a service, " +
			"which is taken as not given; set enableServiceLinks: false"},
		{service("REVERB_SERVER"), "has set REVERB_SERVER_PORT to the"},
		{service("REVERB_ADMIN"), ""},
		{append(service("REVERB"), service("REVERB_SERVER")...),
			"has set REVERB_SERVER_PORT and REVERB_PORT to the"},
		{[]string{"REVERB_NAME=/web/reverb", "REVERB_ENV_PATH=/bin",
			"REVERB_PORT_80_TCP_START=tcp://10.0.0.1:80"}, ""},
		{[]string{"REVERB_HOST=" + link}, "REVERB_HOST="},
	} {
		c := load(append(tt.env, app...), nil)
		if len(c.Problems) > 0 || len(c.Warnings) > 1 ||
			tt.warning == "" != (len(c.Warnings) == 0) ||
			!strings.Contains(strings.Join(c.Warnings, ""), tt.warning) || c.Listen.Port != 8080 ||
			c.Public.Port != 0 {
			t.Errorf("%q: got %q, %q", tt.env, c.Problems, c.Warnings)
		}
	}
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte("REVERB_SERVER_PORT=81\nREDIS_PORT=82\nREDIS_HOST=h\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	c := Load([]string{"REVERB_ENV_FILE=" + file, "REVERB_SCALING_ENABLED=true",
		"REDIS_PORT=" + link, "REVERB_SERVER_PORT=" + link}, nil, disk)
	if len(c.Problems) > 0 || len(c.Warnings) != 1 || c.Listen.Port != 81 ||
		c.Redis.At.Address != "h:82" {
		t.Errorf("behind a link: got %q, %q, %d, %+v", c.Problems, c.Warnings, c.Listen.Port,
			c.Redis)
	}
}

// TestRedisOfLaravel checks the meaning of Laravel's variables when scaling is on.
func TestRedisOfLaravel(t *testing.T) {
	const sock = "/run/redis/redis.sock"
	for _, tt := range []struct {
		env  string
		want string // the address, or a problem that begins so
	}{
		{"", "tcp 127.0.0.1:6379   0 false 1m0s"},
		{"REDIS_HOST=" + sock + " REDIS_PORT=0", "unix " + sock + "   0 false 1m0s"},
		{"REDIS_HOST=" + sock + " REDIS_PORT=null REDIS_DB=3", "unix " + sock + "   3 false 1m0s"},
		{"REDIS_HOST=unix://" + sock + " REDIS_PORT=x", "unix " + sock + "   0 false 1m0s"},
		{"REDIS_SCHEME=unix REDIS_PATH=" + sock + " REDIS_PASSWORD=p",
			"unix " + sock + "  p 0 false 1m0s"},
		{"REDIS_SCHEME=unix REDIS_HOST=" + sock, "unix " + sock + "   0 false 1m0s"},
		{"REDIS_PATH=" + sock, "tcp 127.0.0.1:6379   0 false 1m0s"},
		{"REDIS_SCHEME=unix",
			`REDIS_SCHEME="unix" (environment, REDIS_SCHEME): with the scheme unix the path`},
		{"REDIS_SCHEME=tls REDIS_HOST=h", "tcp h:6379   0 true 1m0s"},
		{"REDIS_SCHEME=rediss", "tcp 127.0.0.1:6379   0 true 1m0s"},
		{"REDIS_SCHEME=TLS REDIS_URL=redis://h", "tcp h:6379   0 true 1m0s"},
		{"REDIS_SCHEME=tls REDIS_URL=tcp://h", "tcp h:6379   0 false 1m0s"},
		{"REDIS_SCHEME=http", `REDIS_SCHEME="http" (environment, REDIS_SCHEME): not one of tcp`},
		{"REDIS_TIMEOUT=0.5", "tcp 127.0.0.1:6379   0 false 500ms"},
		{"REDIS_TIMEOUT=2.0", "tcp 127.0.0.1:6379   0 false 2s"},
		{"REDIS_TIMEOUT=0", "tcp 127.0.0.1:6379   0 false 1m0s"},
		{"REDIS_TIMEOUT=0.0", "tcp 127.0.0.1:6379   0 false 1m0s"},
		{"REDIS_TIMEOUT=1e-9", "tcp 127.0.0.1:6379   0 false 1ms"},
		{"REDIS_TIMEOUT=NaN", `REDIS_TIMEOUT="NaN" (environment, REDIS_TIMEOUT): not a number of ` +
			`seconds from 0 to 86400, such as 60`},
		{"REVERB_REDIS_TIMEOUT=-1", `REVERB_REDIS_TIMEOUT="-1" (environment): not a number`},
		{"REDIS_PORT=0", `REDIS_PORT="0" (environment, REDIS_PORT): Redis on a host has a port`},
		{"REDIS_PORT=six", `REDIS_PORT="six" (environment, REDIS_PORT): not a whole number`},
		{"REVERB_REDIS_PORT=six", `REVERB_REDIS_PORT="six" (environment): not a whole number`},
		{"REDIS_PORT=six REDIS_DB=x REDIS_SCHEME=http REDIS_URL=redis://h:1/2",
			"tcp h:1   2 false 1m0s"},
		{"REDIS_PORT=tcp://10.0.0.1:6379 REDIS_HOST=h", "tcp h:6379   0 false 1m0s"},
		{"REDIS_DB=laravel", `REDIS_DB="laravel" (environment, REDIS_DB): not a whole number`},
		{"REDIS_HOST=tcp://10.0.0.1:7", "tcp 10.0.0.1:7   0 false 1m0s"},
		{"REDIS_HOST=tls://::1", "tcp [::1]:6379   0 true 1m0s"},
		{"REDIS_HOST=rediss://u:p@h/4 REDIS_PORT=7", "tcp h:7 u p 4 true 1m0s"},
		{"REDIS_HOST=u:p@h REDIS_USERNAME=x", "tcp h:6379 u p 0 false 1m0s"},
		{"REDIS_HOST=tls://", `REDIS_HOST="tls://" (environment, REDIS_HOST): the host is missing`},
		{"REDIS_PORT=0 REVERB_REDIS_SENTINELS=s:1 REDIS_SCHEME=unix REDIS_PASSWORD=p",
			"tcp 127.0.0.1:6379  p 0 false 1m0s"},
		{"REDIS_DB=x REVERB_REDIS_CLUSTER=s:1", "tcp 127.0.0.1:6379   0 false 1m0s"},
		{"REDIS_DB=1 REVERB_REDIS_CLUSTER=s:1", "tcp 127.0.0.1:6379   1 false 1m0s"},
		{"REVERB_SCALING_CHANNEL=a{b} REVERB_REDIS_CLUSTER=s:1",
			`REVERB_SCALING_CHANNEL="a{b}": with a Redis Cluster it cannot hold braces`},
		{"REVERB_REDIS_SENTINELS=s:1 REVERB_REDIS_CLUSTER=s:1",
			"REVERB_REDIS_CLUSTER, REVERB_REDIS_SENTINELS: a Redis is found by one of them"},
		{"REVERB_REDIS_DB=1 REVERB_REDIS_CLUSTER=s:1",
			`REVERB_REDIS_DB="1": a Redis Cluster has the database 0 alone`},
	} {
		c := load(append([]string{"REVERB_SCALING_ENABLED=true"}, strings.Fields(tt.env)...), nil)
		a := c.Redis.At
		got := fmt.Sprint(a.Network, " ", a.Address, " ", a.Username, " ", a.Password, " ", a.DB,
			" ", a.TLS, " ", c.Scaling.Patience)
		if len(c.Problems) > 0 {
			got = strings.Join(c.Problems, "\n")
		}
		if !strings.HasPrefix(got, tt.want) || strings.Contains(got, "\n") {
			t.Errorf("%s: got %s, want %s", tt.env, got, tt.want)
		}
	}
}

// TestDumpOfServer warns if a dump of config('reverb') has settings of the server: they do not
// count.
func TestDumpOfServer(t *testing.T) {
	dump := func(server string) string {
		return `{"servers":{"reverb":{` + server +
			`}},"apps":{"apps":[{"app_id":"1","key":"k","secret":"s"}]}}`
	}
	c := load([]string{"REVERB_APPS=" + dump(`"host":"0.0.0.0","port":8080,"path":"",`+
		`"max_request_size":10000,"options":{"tls":[]},"scaling":{"enabled":false}`)}, nil)
	if len(c.Warnings)+len(c.Problems) > 0 {
		t.Errorf("got %q, %q", c.Warnings, c.Problems)
	}
	c = load([]string{"REVERB_APPS=" + dump(`"host":"127.0.0.1","port":"9000","path":"ws",`+
		`"max_request_size":1,"scaling":{"enabled":true}`)}, nil)
	const differs = "REVERB_APPS says %s, but %s counts; set the variable if the list is right\n"
	want := fmt.Sprintf(differs+differs+differs+differs, "127.0.0.1", "REVERB_SERVER_HOST=0.0.0.0",
		"9000", "REVERB_SERVER_PORT=8080", "ws", "REVERB_SERVER_PATH=", "1",
		"REVERB_MAX_REQUEST_SIZE=10000") + "REVERB_APPS says that scaling is enabled, " +
		"but REVERB_SCALING_ENABLED, which counts, is not true"
	if got := strings.Join(c.Warnings, "\n"); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// TestReadmeTable holds the table in the README to the one in the code.
func TestReadmeTable(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range Variables() {
		row := "| `" + v.Name + "` | " + strings.TrimSuffix("`"+v.Default+"`", "``") + " | " +
			v.Help + " |"
		if row = strings.ReplaceAll(row, "|  |", "| |"); !strings.Contains(string(b), row) {
			t.Errorf("the README lacks the row\n%s", row)
		}
	}
}

// TestEnvFile holds which file is read (Laravel: LoadEnvironmentVariables).
func TestEnvFile(t *testing.T) {
	exists := map[string]bool{".env": true, ".env.staging": true, ".env.other": true, "x.env": true}
	read := func(name string) ([]byte, error) {
		if !exists[name] {
			return nil, fs.ErrNotExist
		}
		return []byte("REVERB_APP_ID=" + name + "\n"), nil
	}
	files := Files{Read: read, Exists: func(name string) bool { return exists[name] }}
	for _, tt := range []struct {
		args, env, want string
	}{
		{"", "", ".env default"},
		{"--env=staging", "", ".env.staging --env"},
		{"--env=staging", "APP_ENV=other", ".env.staging --env"},
		{"--env=none", "APP_ENV=other", ".env.other environment, APP_ENV"},
		{"--env=none", "", ".env default"},
		{"--env=", "", ".env default"},
		{"", "APP_ENV=staging", ".env.staging environment, APP_ENV"},
		{"", "APP_ENV=production", ".env default"},
		{"", "APP_ENV=null", ".env default"},
		{"--env=staging", "REVERB_ENV_FILE=x.env", "x.env environment"},
		{"--env=staging --env-file=x.env", "", "x.env --env-file"},
	} {
		flags := map[string]string{}
		for _, arg := range strings.Fields(tt.args) {
			name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			flags[name] = value
		}
		c := Load(strings.Fields(tt.env), flags, files)
		s := c.Setting("REVERB_ENV_FILE")
		if got := s.Value + " " + s.Origin; got != tt.want || c.app.ID != s.Value {
			t.Errorf("%s %s: got %s and the app of %s, want %s", tt.args, tt.env, got, c.app.ID,
				tt.want)
		}
	}
}

// TestHosts checks the forms of the host to listen on, and of the public host.
func TestHosts(t *testing.T) {
	for value, want := range map[string]string{"0.0.0.0": "0.0.0.0", "[::1]": "::1", "::": "::",
		"fe80::1%eth0": "fe80::1%eth0", "localhost": "localhost", "unix:/a b": "unix:/a b",
		"unix:/a]":       "unix:/a]",
		"127.0.0.1:8080": "", "http://x": "", "a b": "", "unix:": "", "${HOST}": ""} {
		c := load([]string{"REVERB_SERVER_HOST=" + value}, nil)
		if want == "" && len(c.Problems) == 0 ||
			want != "" && (c.Listen.Host != want || len(c.Problems) > 0) {
			t.Errorf("%s: got %s, %q", value, c.Listen.Host, c.Problems)
		}
	}
	for value, good := range map[string]bool{"ws.example.com": true, "localhost": true, "::1": true,
		"[::1]": true, "10.0.0.1": true,
		"https://ws.example.com": false, "ws.example.com:443": false, "ws.example.com/": false,
		"${APP_HOST}": false, "0.0.0.0": false} {
		if c := load([]string{"REVERB_HOST=" + value}, nil); len(c.Warnings) == 0 != good {
			t.Errorf("%s: got %q", value, c.Warnings)
		}
	}
	if c := load([]string{"REVERB_ADMIN_LISTEN=9090"}, nil); c.Admin.Listen != "127.0.0.1:9090" {
		t.Errorf("a port alone: got %s", c.Admin.Listen)
	}
}

func TestHostsOfOperators(t *testing.T) {
	c := load(append([]string{"REVERB_ALLOWED_ORIGINS=Example.COM, " +
		"*.münchen.de,[::1],https://example.org:8443/x", "REVERB_HOST=WS.münchen.de"}, app1...),
		nil)
	if got, want := fmt.Sprint(c.app.AllowedOrigins, c.Public.Host),
		"[example.com *.xn--mnchen-3ya.de ::1 example.org]ws.xn--mnchen-3ya.de"; got != want ||
		len(c.Problems) > 0 {
		t.Errorf("got %s, %q, want %s", got, c.Problems, want)
	}
	if got := strings.Join(c.Warnings, "\n"); got != `REVERB_ALLOWED_ORIGINS: `+
		`"https://example.org:8443/x": of an origin only the host counts, not scheme, port or `+
		`path; write it as example.org` {
		t.Errorf("got %s", got)
	}
	if c := load(append([]string{"REVERB_HOST=[::1]"}, app1...), nil); c.Public.Host != "::1" ||
		len(c.Warnings) > 0 {
		t.Errorf("got %q, %q", c.Public.Host, c.Warnings)
	}
}

// TestEachVariableHasItsField reads each variable alone: it changes one field, and no other
// variable changes that one.
func TestEachVariableHasItsField(t *testing.T) {
	candidates := []string{"7", "true", "http", "debug", "json", "private", "unix", "0640",
		"10.0.0.0/8", "512MiB", "127.0.0.1:7000", "https://a.example/x", `{"A":"b"}`,
		"member_added", "text", "drain"}
	owner := map[string]string{}
	for _, v := range Variables() {
		// are read before all others
		if v.Name == "REVERB_ENV_FILE" || v.Name == "REVERB_CONFIG_FILE" {
			continue
		}
		var changed []string
		for _, value := range candidates {
			before, after := fieldsOf(&Config{}), &Config{}
			if v.read(after, value) == nil {
				for path, text := range fieldsOf(after) {
					if before[path] != text {
						changed = append(changed, path)
					}
				}
			}
			if len(changed) > 0 {
				break
			}
		}
		if len(changed) != 1 {
			t.Errorf("%s changes %q, want one field", v.Name, changed)
			continue
		}
		if other := owner[changed[0]]; other != "" {
			t.Errorf("%s and %s change %s", v.Name, other, changed[0])
		}
		owner[changed[0]] = v.Name
	}
	if len(owner) < 60 {
		t.Errorf("only %d variables were read", len(owner))
	}
}

// fieldsOf is every field of a Config that is no struct of this package, of apps or of redisurl,
// and no queue, by its path.
func fieldsOf(c *Config) map[string]string {
	all := map[string]string{}
	ours := []string{reflect.TypeFor[Config]().PkgPath(), reflect.TypeFor[App]().PkgPath(),
		reflect.TypeFor[RedisAddress]().PkgPath()}
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		if v.Kind() != reflect.Struct || !slices.Contains(ours, v.Type().PkgPath()) &&
			v.Type() != reflect.TypeFor[laravelqueue.Queue]() {
			all[path] = fmt.Sprintf("%#v", v)
			return
		}
		for i := range v.NumField() {
			walk(path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	}
	walk("", reflect.ValueOf(*c))
	return all
}

// TestDevApp keeps an app for listen and trigger, in a folder of the user's own.
func TestDevApp(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "cache")
	dir := func() (string, error) { return folder, nil }
	listener := load(nil, map[string]string{"dev": "true"})
	if err := listener.JoinDev(dir); err == nil ||
		!strings.Contains(err.Error(), "is it running?") {
		t.Errorf("before the start: got %v", err)
	}
	server := load([]string{"REVERB_SERVER_PORT=4711", "REVERB_SERVER_PATH=ws",
		"REVERB_APP_SECRET=other"}, map[string]string{"dev": "true"})
	if err := server.StartDev(dir); err != nil {
		t.Fatal(err)
	}
	if err := server.StartDev(dir); err != nil { // a second start takes the file over
		t.Fatal(err)
	}
	if err := listener.JoinDev(dir); err != nil || len(listener.Problems) > 0 ||
		len(listener.Apps) != 1 {
		t.Fatalf("got %v, %q, %d apps", err, listener.Problems, len(listener.Apps))
	}
	a, b := server.Apps[0], listener.Apps[0]
	if a.ID != b.ID || a.Key != b.Key || a.Secret != b.Secret || a.Secret == "other" ||
		len(a.Secret) != 20 || server.Listen.Host != "127.0.0.1" {
		t.Errorf("got %+v, want %+v on 127.0.0.1, not %s", b, a, server.Listen.Host)
	}
	if listener.Address() != "127.0.0.1:4711" || listener.Listen.Path != "/ws" {
		t.Errorf("got %s%s", listener.Address(), listener.Listen.Path)
	}
	if s := server.Setting("REVERB_APP_SECRET"); s.Origin != "--dev" || s.Shown() != "********" {
		t.Errorf("got %+v, shown as %s", s, s.Shown())
	}
	again := server.Again()
	for _, v := range Variables() {
		if got, want := again.Setting(v.Name), server.Setting(v.Name); got != want {
			t.Errorf("read again: got %+v, want %+v", got, want)
		}
	}
	if again.Address() != server.Address() || len(again.Apps) != 1 || again.Apps[0] != a {
		t.Errorf("read again: %s, %d apps", again.Address(), len(again.Apps))
	}
}

// TestReports prints problems and the settings in force, without a secret.
func TestReports(t *testing.T) {
	c := load(append(app1, "REVERB_SERVER_PORT=x", "REVERB_HOST=a/b", "REVERB_SERVR_PORT=1",
		"REVERB_REDIS_URL=redis://u:geheim@h"),
		map[string]string{"verbosity": "quiet", "hostname": "ws.test"})
	c.Problem("", "something of redis://u:geheim@h")
	var out bytes.Buffer
	c.Report(&out)
	c.PrintInForce(&out)
	fmt.Fprint(&out, c.InForceJSON())
	for _, want := range []string{
		`reverb: REVERB_SERVER_PORT="x" (environment): not a whole number`,
		"the nearest is REVERB_SERVER_PORT (environment)",
		"reverb: something of redis://", "  app 1, key k: origins *\n",
		"REVERB_LOG_LEVEL                      error                    --quiet\n",
		"map[from:default name:REVERB_LOG_FORMAT value:text]"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "geheim") || !c.Log.Quiet {
		t.Errorf("got %v and\n%s", c.Log.Quiet, out.String())
	}
	if host := c.Setting("REVERB_HOST"); host.Value != "ws.test" || host.Origin != "--hostname" ||
		c.Getenv("REVERB_APP_KEY") != "k" ||
		c.Again().Setting("REVERB_SERVER_PORT") != c.Setting("REVERB_SERVER_PORT") {
		t.Error("flags, environment or another reading differ")
	}
	if s := c.Setting("REVERB_APPS"); s != (Setting{Name: "REVERB_APPS"}) {
		t.Errorf("not set: got %+v", s)
	}
	if c := load([]string{"REVERB_SERVER_HOST=unix:/x"}, nil); c.Address() != "unix:/x" {
		t.Errorf("got %s", c.Address())
	}
}

// TestPasted gives contents where names of files belong. No text shows them.
func TestPasted(t *testing.T) {
	key := "-----BEGIN PRIVATE KEY-----\nMIGHgeheim\n-----END PRIVATE KEY-----\n"
	for _, name := range []string{"REVERB_TLS_CERT", "REVERB_TLS_KEY", "REVERB_TLS_CA",
		"REVERB_REDIS_CA", "REVERB_REDIS_CERT", "REVERB_REDIS_KEY", "REVERB_APPS_FILE",
		"REVERB_ENV_FILE", "REVERB_CONFIG_FILE", "REVERB_REDIS_PASSWORD_FILE"} {
		for value, want := range map[string]string{key: "holds a private key, not the name",
			`[{"id":"1","secret":"geheim"}]`: "holds JSON, not the name of a file"} {
			c := load(append(app1, "REVERB_SCALING_ENABLED=1", name+"="+value), nil)
			var out bytes.Buffer
			c.Report(&out)
			if got := out.String(); strings.Count(got, "\n") != 1 ||
				!strings.HasPrefix(got, "reverb: "+name+"=\"********\"") ||
				!strings.Contains(got, want) {
				t.Errorf("%s: got %s", name, got)
			}
			c.PrintInForce(&out)
			fmt.Fprint(&out, c.InForceJSON())
			if strings.Contains(out.String(), "geheim") {
				t.Errorf("%s shows in\n%s", name, out.String())
			}
		}
	}
	c := load([]string{`REVERB_APPS={"servers":{"reverb":{"options":{"tls":{"local_cert":"c.pem",` +
		`"local_pk":"-----BEGIN PRIVATE KEY-----geheim"}}}},"apps":{"apps":[]}}`}, nil)
	var out bytes.Buffer
	if c.Report(&out); !strings.Contains(out.String(), "holds a private key, not the name") ||
		strings.Contains(out.String(), "geheim") {
		t.Errorf("a dump: got %s", out.String())
	}
}

// TestFilesOfSecrets reads secrets and apps from files, or says why not.
func TestFilesOfSecrets(t *testing.T) {
	files := map[string]string{"secret": "s\r\n", "blank": "\n",
		"apps": `[{"app_id":"1","key":"k","secret":"s"}]`,
		".env": "REVERB_APP_ID=1\nREVERB_APP_KEY=k\n", "broken": "A B\n"}
	read := func(name string) ([]byte, error) {
		if text, ok := files[name]; ok {
			return []byte(text), nil
		}
		cause := os.ErrNotExist
		if name == "locked" {
			cause = os.ErrPermission
		}
		return nil, &os.PathError{Op: "open", Path: name, Err: cause}
	}
	for _, tt := range []struct{ env, want string }{
		{"REVERB_ENV_FILE=blank REVERB_APPS_FILE=apps", "1 apps []"},
		{"REVERB_ENV_FILE=broken", "0 apps [broken: line 1: "},
		{"REVERB_ENV_FILE=blank REVERB_APPS_FILE=none",
			`0 apps [REVERB_APPS_FILE="none": file does not exist; name a JSON file of apps]`},
		{"REVERB_ENV_FILE=blank REVERB_APPS_FILE=apps REVERB_APPS=[]",
			`REVERB_APPS is set too; keep one of the two]`},
		{"REVERB_ENV_FILE=none", `0 apps [REVERB_ENV_FILE="none": file does not exist; name ` +
			`Laravel's .env, or /dev/null for none]`},
		{"REVERB_ENV_FILE=locked",
			"permission denied for this user (uid 7); give it the right to read the file, or name"},
		{"REVERB_APP_SECRET_FILE=secret", "1 apps []"},
		{"REVERB_APP_SECRET_FILE=blank", "the file is empty; it must hold the secret alone"},
		{"REVERB_APP_SECRET_FILE=none",
			"file does not exist; name a file that holds the secret alone"},
		{"REVERB_APP_SECRET_FILE=secret REVERB_APP_SECRET=s",
			"REVERB_APP_SECRET is set too; keep one of the two"},
	} {
		c := Load(strings.Fields(tt.env), nil, Files{Read: read, User: 7})
		if got := fmt.Sprint(len(c.Apps), " apps ", c.Problems); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s, want %s", tt.env, got, tt.want)
		}
	}
}

// TestDumpOfTLS takes the TLS options of PHP from a dump of config('reverb').
func TestDumpOfTLS(t *testing.T) {
	dump := func(tls string) []string {
		return []string{`REVERB_APPS={"servers":{"reverb":{"options":{"tls":` + tls +
			`}}},"apps":{"apps":[{"app_id":"1","key":"k","secret":"s"}]}}`}
	}
	c := load(dump(`{"local_cert":"c","local_pk":"k","passphrase":"p","cafile":"a","ciphers":"x",`+
		`"verify_peer":true,"crypto_method":96,"other":1}`), nil)
	if want := (TLS{CertFile: "c", KeyFile: "k", Passphrase: "p", CAFile: "a", MinVersion: "1.2",
		Ciphers: "x"}); c.TLS != want || len(c.Warnings) != 1 || len(c.Notes) != 1 {
		t.Errorf("got %+v, %q, %q", c.TLS, c.Warnings, c.Notes)
	}
	c = load(append(dump(`{"local_cert":"c","cafile":"a","verify_peer":false,"crypto_method":64}`),
		"REVERB_TLS_MIN_VERSION=1.2"), nil)
	if c.TLS.CAFile != "" || c.TLS.MinVersion != "1.3" {
		t.Errorf("got %+v", c.TLS)
	}
	if c = load(append(dump(`{"local_cert":"c"}`), "REVERB_TLS_CERT=mine"),
		nil); c.TLS.CertFile != "mine" {
		t.Errorf("got %+v", c.TLS)
	}
	if c = load(dump(`{"crypto_method":8}`), nil); !strings.Contains(fmt.Sprint(c.Problems),
		"tls.crypto_method=8 allows only TLS 1.0 and 1.1") {
		t.Errorf("got %q", c.Problems)
	}
}

// TestVerbosity holds what artisan's -q and -vvv do here.
func TestVerbosity(t *testing.T) {
	for flag, want := range map[string]string{
		"":          "INFO info default",
		"quiet":     "ERROR error --quiet",
		"verbose=3": "DEBUG debug --verbose=3",
	} {
		c := load(nil, map[string]string{"verbosity": flag})
		s := c.Setting("REVERB_LOG_LEVEL")
		if got := fmt.Sprint(c.Log.Level, " ", s.Value, " ", s.Origin); got != want {
			t.Errorf("%s: got %s, want %s", flag, got, want)
		}
	}
}

// TestGroups has every variable in a group that help shows, and no group empty.
func TestGroups(t *testing.T) {
	used := map[string]int{}
	for _, v := range Variables() {
		used[v.Group]++
	}
	for _, g := range Groups() {
		if used[g] == 0 {
			t.Errorf("no variable is in the group %q", g)
		}
		delete(used, g)
	}
	if len(used) > 0 {
		t.Errorf("help does not show the groups of %v", used)
	}
}

// TestPasswordsDoNotShow puts URLs where they belong and where they do not.
func TestPasswordsDoNotShow(t *testing.T) {
	values := []string{"redis://u:PASS@127.0.0.1:1", "tls://:PASS@127.0.0.1:1",
		"rediss://PASS@127.0.0.1:1/0", "redis://u:PASS@127.0.0.1:1/0?password=PASS",
		"u:PASS@127.0.0.1", "u:PASS@127.0.0.1:1", "PASS@127.0.0.1:1",
		"redis://u:7?PASS@127.0.0.1", "redis://u:7#PASS@127.0.0.1", "redis://u:7/PASS@127.0.0.1",
		"redis://u:/PASS@127.0.0.1", "redis://u:%PASS@127.0.0.1", "unix://u:PASS@/none",
		"unix:/none?password=PASS", "/none?password=PASS", "127.0.0.1?password=PASS", "u:PASS"}
	names := []string{"REVERB_REDIS_HOST", "REDIS_HOST", "REVERB_REDIS_URL", "REDIS_URL",
		"REVERB_REDIS_SENTINELS", "REVERB_REDIS_CLUSTER"}
	needed := []string{"REVERB_SCALING_ENABLED", "REVERB_APP_ID", "REVERB_APP_KEY"}
	for _, v := range Variables() {
		if !v.Secret && !slices.Contains(names, v.Name) && !slices.Contains(needed, v.Name) {
			names = append(names, v.Name)
		}
	}
	for _, name := range names {
		for _, value := range values {
			if value == "u:PASS" && !strings.HasSuffix(name, "REDIS_URL") {
				continue // user:password without a host is not the form of anything
			}
			c := load(append([]string{"REVERB_SCALING_ENABLED=true", "REDIS_PORT=1",
				name + "=" + value}, app1...), nil)
			var out bytes.Buffer
			c.Report(&out)
			c.PrintInForce(&out)
			fmt.Fprint(&out, c.InForceJSON(), c.Notes)
			for line := range strings.Lines(out.String()) {
				if strings.Contains(line, "PASS") {
					t.Errorf("%s=%s shows in\n%s", name, value, line)
				}
			}
		}
	}
}
