package test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestWrongConfiguration compares the output for each kind of mistake with testdata/config. Offered
// credentials are random, so they are masked.
func TestWrongConfiguration(t *testing.T) {
	const secret = "s3cr3t-of-the-app"
	app := []string{"REVERB_APP_ID=1", "REVERB_APP_KEY=key", "REVERB_APP_SECRET=" + secret}
	for _, c := range []struct {
		name string
		env  []string
		dot  string // .env
		args []string
		file string // apps.json
	}{
		{name: "no-app"},
		{name: "half-an-app", env: []string{"REVERB_APP_ID=1", "REVERB_APP_SECRET=" + secret}},
		{name: "port", env: append([]string{"REVERB_SERVER_PORT=80a0"}, app...)},
		{name: "several-at-once", env: append([]string{"REVERB_SCHEME=ftp",
			"REVERB_APP_PING_INTERVAL=0", "REVERB_APP_MAX_CONNECTIONS=many",
			"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=everyone", "REVERB_LOG_LEVEL=loud"}, app...)},
		{name: "misspelt-name", env: append([]string{"REVERB_SERVR_PORT=8080",
			"REVERB_ALOWED_ORIGINS=x", "REVERB_SERVER_PORT=x"}, app...)},
		{name: "origin-with-scheme", env: append(
			[]string{"REVERB_ALLOWED_ORIGINS=example.com,https://example.org:443/x",
				"REVERB_PORT=x"}, app...)},
		{name: "dotenv-space", dot: "APP_NAME=My App\nREVERB_APP_ID=1\n"},
		{name: "dotenv-value", dot: "REVERB_APP_ID=1\nREVERB_APP_KEY=key\nREVERB_APP_SECRET=" +
			secret + "\nREVERB_MAX_REQUEST_SIZE=10k\n"},
		{name: "secret-file", env: []string{"REVERB_APP_ID=1", "REVERB_APP_KEY=key",
			"REVERB_APP_SECRET_FILE=/run/secrets/none"}},
		{name: "secret-twice", env: append([]string{"REVERB_APP_SECRET_FILE=/run/secrets/none"},
			app...)},
		{name: "apps-json", env: []string{
			"REVERB_APPS=[{\"app_id\":\"1\",\"key\":\"key\",\"secret\":\"" + secret + "\""}},
		{name: "apps-file", env: []string{"REVERB_APPS_FILE=apps.json"},
			file: `[{"app_id":"1","key":"a","secret":"` + secret +
				`","ping_interval":"soon","colour":"red"},{"app_id":"1","key":"b"}]`},
		{name: "apps-file-missing", env: []string{"REVERB_APPS_FILE=nowhere.json"}},
		{name: "tls", env: append([]string{"REVERB_TLS_CERT=missing.pem"}, app...)},
		{name: "scaling", env: append([]string{"REVERB_SCALING_ENABLED=true",
			"REDIS_URL=http://user:" + secret + "@redis"}, app...)},
		{name: "redis-of-laravel", env: append([]string{"REVERB_SCALING_ENABLED=true",
			"REDIS_PORT=0", "REDIS_DB=laravel", "REDIS_TIMEOUT=soon", "REDIS_SCHEME=http",
			"REVERB_REDIS_SENTINELS="}, app...)},
		{name: "redis-host-url", env: append([]string{"REVERB_SCALING_ENABLED=true",
			"REVERB_REDIS_HOST=redis://user:" + secret + "@redis:port"}, app...)},
		{name: "service-links", env: append([]string{"REVERB_PORT=tcp://10.0.0.1:8080",
			"REVERB_PORT_8080_TCP_ADDR=10.0.0.1", "REVERB_SERVICE_HOST=10.0.0.1",
			"REVERB_SERVER_PORT=tcp://10.0.0.2:80", "REDIS_PORT=tcp://10.0.0.3:6379",
			"REVERB_SCHEME=ftp"}, app...)},
		{name: "env", args: []string{"reverb:start", "--no-interaction", "--env"}},
		{name: "listen-url", env: append([]string{"REVERB_SERVER_HOST=https://ws.example.com:8080"},
			app...)},
		{name: "public-url", env: append([]string{"REVERB_HOST=https://ws.example.com",
			"REVERB_PORT=x"}, app...)},
		{name: "unresolved-variable", dot: "REVERB_HOST=\"${APP_HOST}\"\nREVERB_APP_ID=1\n"},
		{name: "dump-of-another-server",
			env: []string{"REVERB_APPS_FILE=apps.json", "REVERB_PORT=x"},
			file: `{"servers":{"reverb":{"host":"0.0.0.0","port":9000,"path":"",` +
				`"options":{"tls":[]},"scaling":{"enabled":true}}},"apps":{"provider":"config",` +
				`"apps":[{"app_id":"1","key":"k","secret":"` + secret +
				`","max_connections":null}]}}`},
		{name: "dotenv-utf16", dot: "\xff\xfeR\x00E\x00V\x00=\x001\x00"},
		{name: "dotenv-conflict", dot: "REVERB_APP_ID=1\n<<<<<<< HEAD\nREVERB_APP_KEY=" + secret +
			"\n"},
		{name: "short-flag", args: []string{"-p", "8080"}},
		{name: "flag-without-value", args: []string{"--host", "--port=80"}},
		{name: "argument", args: []string{"health", "8080"}},
		{name: "flag", args: []string{"start", "--prot", "8080"}},
		{name: "command", args: []string{"restrat"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{".env": c.dot, "apps.json": c.file} {
				if text != "" {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text),
						0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			cmd := command(program, c.args...)
			cmd.Dir, cmd.Env = dir, c.env
			if cmd.Env == nil {
				cmd.Env = []string{"NONE="}
			}
			var out bytes.Buffer
			cmd.Stderr = &out
			stdout, _ := cmd.Output()
			if code := cmd.ProcessState.ExitCode(); code != 2 || len(stdout) > 0 {
				t.Errorf("got exit code %d and %q on standard output, want 2 and nothing", code,
					stdout)
			}
			if strings.Contains(out.String(), secret) {
				t.Error("the secret shows")
			}
			got := regexp.MustCompile(
				`(?m)^(REVERB_APP_(?:ID|KEY|SECRET))=[a-z0-9]+$`).ReplaceAllString(out.String(),
				"$1=(random)")
			golden := filepath.Join("testdata/config", c.name+".txt")
			if *update {
				os.MkdirAll("testdata/config", 0o755)
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestMistakes checks what the commands print if the server is not as they expect: one line that
// says what to do, and never a secret.
func TestMistakes(t *testing.T) {
	s := start(t, oneApp()...)
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	tlsPort := func() string {
		ca := newAuthority(t)
		made := ca.issue("localhost", -1, 90)
		dir := t.TempDir()
		_, port, err := net.SplitHostPort(start(t,
			append(oneApp(), "REVERB_TLS_CERT="+write(t, dir, "tls.pem", made.cert,
				made.key))...).addr)
		if err != nil {
			t.Fatal(err)
		}
		return port
	}()
	page := httptest.NewServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<!doctype html>") }))
	defer page.Close()
	_, pagePort, err := net.SplitHostPort(page.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	base := append(oneApp(), "REVERB_ENV_FILE=/dev/null", "REVERB_SERVER_HOST=127.0.0.1",
		"REVERB_SERVER_PORT="+port)
	for _, tt := range []struct {
		args string
		env  []string
		want string // in the only line
	}{
		{"start", nil, "reverb is running there already (pid "},
		{"start", []string{"REVERB_SERVER_PORT=" + pagePort}, "(pid " + strconv.Itoa(os.Getpid()) +
			") holds it; stop it, or choose another port"},
		{"start", []string{"REVERB_SERVER_PORT=0", "REVERB_ADMIN_LISTEN=127.0.0.1:" + pagePort},
			"REVERB_ADMIN_LISTEN says where"},
		{"start", []string{"REVERB_SERVER_HOST=192.0.2.1", "REVERB_SERVER_PORT=0"},
			"no address of this machine; listen on 0.0.0.0"},
		{"start", []string{"REVERB_SERVER_HOST=unix:" + dir + "/none/r.sock"},
			"there is no folder " + dir + "/none; create it"},
		{"start", []string{"REVERB_SERVER_HOST=unix:" + dir + "/" + strings.Repeat("x", 120)},
			"the path is too long for a socket"},
		{"health", []string{"REVERB_SERVER_PORT=1"},
			"is the server running, and on this REVERB_SERVER_HOST and REVERB_SERVER_PORT?"},
		{"health", []string{"REVERB_SERVER_PATH=/ws"}, "compare REVERB_SERVER_PATH"},
		{"health", []string{"REVERB_SERVER_PORT=" + tlsPort},
			"it serves TLS; set REVERB_TLS_CERT here too"},
		{"listen x", []string{"REVERB_SERVER_PORT=" + pagePort},
			"another program is listening there"},
		{"listen x", []string{"REVERB_APP_KEY=other"}, "compare REVERB_APP_KEY with the server's"},
		{"listen private-x", []string{"REVERB_APP_SECRET=other"},
			"compare REVERB_APP_SECRET with the server's"},
		{"listen x!", nil, "cannot stand in a channel name"},
		{"trigger x y {}", []string{"REVERB_APP_SECRET=other"},
			"compare REVERB_APP_SECRET on both sides"},
		{"trigger x y {}", []string{"REVERB_APP_ID=other"},
			"No matching application for ID [other]."},
		{"trigger x y {", nil, "quote it for the shell"},
		{"restart", []string{"REVERB_SERVER_PORT=1"},
			"run this as root or as the user that it runs as"},
	} {
		cmd := command(program, strings.Fields(tt.args)...)
		cmd.Env = append(append([]string{}, base...), tt.env...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if got := errs.String(); err == nil || len(out) > 0 || strings.Count(got, "\n") != 1 ||
			!strings.HasPrefix(got, "reverb: ") || !strings.Contains(got, tt.want) ||
			strings.Contains(got, "app-secret") {
			t.Errorf("%s %v: got %v, %q and\n%s\nwant one line with %q", tt.args, tt.env, err, out,
				got, tt.want)
		}
	}
}
