package commands

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reverb/internal/config"
	"reverb/internal/lib/dotenv"
)

// loaded is what the lines of a file put in force.
func loaded(t *testing.T, file string, environ ...string) *config.Config {
	t.Helper()
	return config.Load(environ, map[string]string{"env-file": file},
		config.Files{Read: os.ReadFile})
}

func write(t *testing.T, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// envOf is what reverb env prints of a configuration.
func envOf(t *testing.T, c *config.Config, args ...string) (out, note string, err error) {
	t.Helper()
	l, err := Parse(append([]string{"env"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	note, err = Env(&b, c, &l)
	return b.String(), note, err
}

const vite = `
VITE_REVERB_APP_KEY="${REVERB_APP_KEY}"
VITE_REVERB_HOST="${REVERB_HOST}"
VITE_REVERB_PORT="${REVERB_PORT}"
VITE_REVERB_SCHEME="${REVERB_SCHEME}"
`

func TestEnv(t *testing.T) {
	app := "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET='a b'\n"
	head := "BROADCAST_CONNECTION=reverb\n\n" + app
	for name, tt := range map[string]struct{ file, want string }{
		"nothing else": {app, head +
			"REVERB_HOST=localhost\nREVERB_PORT=8080\nREVERB_SCHEME=http\n" + vite},
		"public": {app + "REVERB_HOST=ws.example.com\nREVERB_PORT=444\nREVERB_SCHEME=https\n",
			head + "REVERB_HOST=ws.example.com\nREVERB_PORT=444\nREVERB_SCHEME=https\n" + vite},
		"proxied": {app + "REVERB_HOST=ws.example.com\nREVERB_SCHEME=https\n", head +
			"REVERB_HOST=ws.example.com\nREVERB_PORT=443\nREVERB_SCHEME=https\n" + vite},
		"elsewhere": {app + "REVERB_SERVER_PORT=9000\nREVERB_SERVER_PATH=/ws\n", head +
			"REVERB_HOST=localhost\nREVERB_PORT=9000\nREVERB_SCHEME=http\n" +
			"REVERB_SERVER_PORT=9000\nREVERB_SERVER_PATH=/ws\n" + vite},
		"a socket": {app + "REVERB_SERVER_HOST=unix:/run/r.sock\nREVERB_SERVER_PORT=0\n", head +
			"REVERB_HOST=localhost\nREVERB_PORT=8080\nREVERB_SCHEME=http\n" +
			"REVERB_SERVER_HOST=unix:/run/r.sock\nREVERB_SERVER_PORT=0\n" + vite},
		"with TLS": {app + "REVERB_TLS_CERT=c.pem\n", head +
			"REVERB_HOST=localhost\nREVERB_PORT=8080\nREVERB_SCHEME=https\n" + vite},
	} {
		c := loaded(t, write(t, tt.file))
		if got, note, err := envOf(t, c); got != tt.want || note != "" || err != nil {
			t.Errorf("%s: got\n%s%s%v\nwant\n%s", name, got, note, err, tt.want)
		}
	}
}

// TestEnvFrom translates the variables of other servers.
func TestEnvFrom(t *testing.T) {
	c := loaded(t, write(t, "PUSHER_APP_ID=1\nPUSHER_APP_KEY=k\nPUSHER_APP_SECRET='a b'\n"))
	const want = "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET='a b'\n"
	if got, note, err := envOf(t, c, "--from", "pusher"); got != want || note != "" || err != nil {
		t.Errorf("got %q, %q and %v, want %q", got, note, err, want)
	}
	for from, want := range map[string]string{
		"pusher": "no variable of pusher is set",
	} {
		got, _, err := envOf(t, loaded(t, write(t, "A=1\n")), "--from", from)
		if err == nil || err.Error() != want || got != "" {
			t.Errorf("%s: got %q and %v, want %s", from, got, err, want)
		}
	}
}

// A fresh app is made at random, and the lines put it in force.
func TestEnvFresh(t *testing.T) {
	c := loaded(t, write(t, "APP_NAME=x\n"))
	one, note, err := envOf(t, c)
	if note != "" || err != nil {
		t.Errorf("got %q, %v", note, err)
	}
	if other, _, _ := envOf(t, c); one == other {
		t.Errorf("the same app twice:\n%s", one)
	}
	again := loaded(t, write(t, one))
	if len(again.Problems)+len(again.Warnings) > 0 || len(again.Apps) != 1 ||
		len(again.Apps[0].Secret) != 20 {
		t.Errorf("%s\ngives %q, %q, %+v", one, again.Problems, again.Warnings, again.Apps)
	}
	entries, err := dotenv.Parse(one, func(string) (string, bool) { return "", false })
	if last := entries[len(entries)-4]; err != nil || last.Name != "VITE_REVERB_APP_KEY" ||
		last.Value != again.Apps[0].Key {
		t.Errorf("got %+v, %v", last, err)
	}
}

func TestEnvApps(t *testing.T) {
	c := loaded(t, write(t, `REVERB_APPS='[{"app_id":"1","key":"k","secret":"s"},`+
		`{"app_id":"2","key":"l","secret":"t"}]'`))
	got, note, err := envOf(t, c)
	first := "the lines are those of app 1, the first of 2; --app ID names another"
	if !strings.Contains(got, "REVERB_APP_ID=1\n") || note != first || err != nil {
		t.Errorf("got %s%s%v", got, note, err)
	}
	got, note, err = envOf(t, c, "--app", "2")
	if !strings.Contains(got, "REVERB_APP_SECRET=t\n") || note != "" || err != nil {
		t.Errorf("got %s%s%v", got, note, err)
	}
	if got, _, err = envOf(t, c, "--app=3"); got != "" || err == nil ||
		err.Error() != `there is no app "3"` {
		t.Errorf("got %s%v", got, err)
	}
}

// The file in force gets an app once, below what stands there already.
func TestEnvInto(t *testing.T) {
	file := write(t, "APP_NAME=x") // no line end
	add := func(c *config.Config) error {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = Env(f, c, &Line{})
		return err
	}
	if err := add(loaded(t, file)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	text := string(b)
	if err != nil || !strings.HasPrefix(text, "APP_NAME=x\nBROADCAST_CONNECTION=reverb\n") {
		t.Errorf("got %s, %v", text, err)
	}
	err = add(loaded(t, file))
	want := file + " has an app already (REVERB_APP_KEY on line 5), so nothing was added; " +
		"reverb env alone prints the lines"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if after, _ := os.ReadFile(file); string(after) != string(b) {
		t.Errorf("changed to %s", after)
	}
	has := write(t, "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s\n")
	if err := add(loaded(t, has)); err != nil {
		t.Errorf("another file than the one in force: %v", err)
	}
}
