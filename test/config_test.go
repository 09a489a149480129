package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWrongConfiguration holds what is printed for each kind of mistake to
// testdata/config. Credentials that are offered are drawn at random, so they are
// masked.
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
		{name: "several-at-once", env: append([]string{"REVERB_SCHEME=ftp", "REVERB_APP_PING_INTERVAL=0", "REVERB_APP_MAX_CONNECTIONS=many", "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=everyone", "REVERB_LOG_LEVEL=loud"}, app...)},
		{name: "misspelt-name", env: append([]string{"REVERB_SERVR_PORT=8080", "REVERB_ALOWED_ORIGINS=x", "REVERB_SERVER_PORT=x"}, app...)},
		{name: "origin-with-scheme", env: append([]string{"REVERB_ALLOWED_ORIGINS=example.com,https://example.org"}, app...)},
		{name: "dotenv-space", dot: "APP_NAME=My App\nREVERB_APP_ID=1\n"},
		{name: "dotenv-value", dot: "REVERB_APP_ID=1\nREVERB_APP_KEY=key\nREVERB_APP_SECRET=" + secret + "\nREVERB_MAX_REQUEST_SIZE=10k\n"},
		{name: "secret-file", env: []string{"REVERB_APP_ID=1", "REVERB_APP_KEY=key", "REVERB_APP_SECRET_FILE=/run/secrets/none"}},
		{name: "secret-twice", env: append([]string{"REVERB_APP_SECRET_FILE=/run/secrets/none"}, app...)},
		{name: "apps-json", env: []string{"REVERB_APPS=[{\"app_id\":\"1\",\"key\":\"key\",\"secret\":\"" + secret + "\""}},
		{name: "apps-file", env: []string{"REVERB_APPS_FILE=apps.json"}, file: `[{"app_id":"1","key":"a","secret":"` + secret + `","ping_interval":"soon","colour":"red"},{"app_id":"1","key":"b"}]`},
		{name: "apps-file-missing", env: []string{"REVERB_APPS_FILE=nowhere.json"}},
		{name: "tls", env: append([]string{"REVERB_TLS_CERT=missing.pem"}, app...)},
		{name: "scaling", env: append([]string{"REVERB_SCALING_ENABLED=true", "REDIS_URL=http://user:" + secret + "@redis"}, app...)},
		{name: "flag", args: []string{"start", "--prot", "8080"}},
		{name: "command", args: []string{"restrat"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{".env": c.dot, "apps.json": c.file} {
				if text != "" {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			cmd := exec.Command(program, c.args...)
			cmd.Dir, cmd.Env = dir, c.env
			if cmd.Env == nil {
				cmd.Env = []string{"NONE="}
			}
			var out bytes.Buffer
			cmd.Stderr = &out
			stdout, _ := cmd.Output()
			if code := cmd.ProcessState.ExitCode(); code != 2 || len(stdout) > 0 {
				t.Errorf("got exit code %d and %q on standard output, want 2 and nothing", code, stdout)
			}
			if strings.Contains(out.String(), secret) {
				t.Error("the secret shows")
			}
			got := regexp.MustCompile(`(?m)^(REVERB_APP_(?:ID|KEY|SECRET))=[a-z0-9]+$`).ReplaceAllString(out.String(), "$1=(random)")
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
