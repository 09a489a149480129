package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUpgradeFixed changes what an upgrade cannot change, one after the other: the successor says
// no, and what it is, and the old process serves on. Then the socket files go with the last
// process.
func TestUpgradeFixed(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	c := newAuthority(t).issue("ws.test", -1, 90)
	pem := write(t, dir, "both.pem", c.cert, c.key)
	admin, control := filepath.Join(dir, "admin"), filepath.Join(dir, "control")
	base := strings.Join(append(oneApp(), "REVERB_ADMIN_LISTEN=unix:"+admin,
		"REVERB_CONTROL_SOCKET="+control), "\n") + "\n"
	env := write(t, dir, "env", []byte(base))
	s := installed(t, "REVERB_ENV_FILE="+env)
	for change, want := range map[string]string{
		"REVERB_ADMIN_LISTEN=127.0.0.1:9": "REVERB_ADMIN_LISTEN has changed: unix:" + admin +
			" → 127.0.0.1:9",
		"REVERB_TLS_CERT=" + pem:         "REVERB_TLS_CERT has changed: none → TLS",
		"REVERB_SERVER_SOCKET_MODE=0666": "REVERB_SERVER_SOCKET_MODE has changed: 0660 → 0666",
		"REVERB_CONTROL_SOCKET=/run/none": "REVERB_CONTROL_SOCKET has changed: " + control +
			" → /run/none",
	} {
		os.WriteFile(env, []byte(base+change+"\n"), 0o600)
		cmd := command(s.cmd.Path, "upgrade")
		cmd.Env = append(oneApp(), "REVERB_ENV_FILE=/dev/null", "REVERB_CONTROL_SOCKET="+control)
		b, _ := cmd.CombinedOutput()
		want = "reverb: the successor says no: " + want + ", which an upgrade cannot do: stop " +
			"and start instead\n"
		if string(b) != want || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%s: code %d\ngot  %swant %s", change, cmd.ProcessState.ExitCode(), b, want)
		}
	}
	os.WriteFile(env, []byte(base), 0o600)
	s.upgrade(t)
	s.upgrade(t)
	for _, name := range []string{admin, control} {
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
	s.stop()
	for _, name := range []string{admin, control} {
		if _, err := os.Lstat(name); err == nil {
			t.Error(fmt.Sprint("the file stays: ", name))
		}
	}
}

// TestUpgradeAppLess upgrades to a configuration without an app: its connections are closed, which
// the dry run, the answer and the log say.
func TestUpgradeAppLess(t *testing.T) {
	const app = `{"app_id": %q, "key": %q, "secret": "app-secret"}`
	one, two := fmt.Sprintf(app, "app-id", "app-key"), fmt.Sprintf(app, "second", "second-key")
	file := write(t, t.TempDir(), "apps.json", []byte("["+one+","+two+"]"))
	s := installed(t, "REVERB_APPS_FILE="+file)
	c := &throng{t: t}
	for range 3 {
		go c.walk(s.addr, "x", 0).run()
	}
	os.WriteFile(file, []byte("["+two+"]"), 0o600)
	out, _ := s.ask("upgrade", "--dry-run")
	if want := "0 connections would go on, 3 would be closed, as their app is configured no " +
		"more"; !strings.Contains(out, want) {
		t.Errorf("the dry run: want %q in %s", want, out)
	}
	const want = "0 connections have moved, 3 were told to reconnect"
	if out, code := s.ask("upgrade"); code != 0 || !strings.Contains(out, want) {
		t.Errorf("want %q in %s", want, out)
	}
	s.says(" told=3 ")
	s.says("closed (4001): the connections of an app that is configured no more\" app=app-id " +
		"connections=3")
	for _, w := range c.all {
		s.within(w.id+": the end", w.ended.Load)
		if why := w.wrong.Load(); why == nil || !strings.Contains(*why, "4001") {
			t.Errorf("%s was told %v", w.id, why)
		}
	}
	if out, _ := s.ask("status"); !strings.Contains(out, "1 done") {
		t.Error(out)
	}
}

// TestUpgradeFixedRedis changes what a node has in common with others: the successor says no, with
// the old value and the new one, before anything stands still.
func TestUpgradeFixedRedis(t *testing.T) {
	r := startRedis(t)
	base := strings.Join(append(append(oneApp(), "REVERB_SCALING_ENABLED=true"), r.env()...), "\n")
	env := write(t, t.TempDir(), "env", []byte(base+"\n"))
	s := installed(t, "REVERB_ENV_FILE="+env)
	s.says("connected to Redis")
	for change, want := range map[string]string{
		"REVERB_SCALING_ENABLED=false": "REVERB_SCALING_ENABLED has changed: true → false",
		"REVERB_SCALING_CHANNEL=other": "REVERB_SCALING_CHANNEL has changed: reverb → other",
		"REVERB_REDIS_URL=redis://10.0.0.7:1/2": "where Redis is (REDIS_HOST and the like) has " +
			"changed: " + r.addr() + ", database 0 → 10.0.0.7:1, database 2",
	} {
		os.WriteFile(env, []byte(base+"\n"+change+"\n"), 0o600)
		want = "reverb: the successor says no: " + want + ", which an upgrade cannot do: stop " +
			"and start instead"
		s.within(want, func() bool { // once the node is in step with Redis
			out, code := s.ask("upgrade")
			if strings.Contains(out, "Redis is away") {
				return false
			}
			if strings.TrimSpace(out) != want || code != 1 {
				t.Fatalf("%s: code %d\ngot  %swant %s", change, code, out, want)
			}
			return true
		})
	}
}

// TestUpgradeSaid counts the same connections in each place, and says in the log which process
// relays, and which version follows which.
func TestUpgradeSaid(t *testing.T) {
	s, secure, plain := secureServer(t)
	all := (&throng{t: t, secure: secure})
	for range 3 {
		go all.walk(s.addr, "x", 0).run()
	}
	answer, err := http.Get("http://" + plain + "/up") // and the connection stays
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	s.says("listening on")
	out, code := s.ask("restart")
	if code != 0 || !strings.Contains(out, "restarts, with 3 connections") ||
		!strings.Contains(out, ": 3 connections have moved") ||
		!strings.Contains(out, "serves, with 3 connections") {
		t.Errorf("code %d: %s", code, out)
	}
	s.says(" → ")
	s.says(fmt.Sprintf("stays as the relay of TLS connections\" connections=3 pid=%d",
		s.cmd.Process.Pid))
	if out, _ := s.ask("status"); strings.Contains(out, "memory       0 B") {
		t.Errorf("no memory is used: %s", out)
	}
}
