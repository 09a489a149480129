package test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// printed is what the program prints of a command.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(program, args...).Output()
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return string(out)
}

// completed is what bash offers for a line.
const completed = `source "$1"; shift
COMP_WORDS=(reverb "$@"); COMP_CWORD=$#; _reverb 2>/dev/null; echo "${COMPREPLY[@]}"`

// TestCompletion has the shells complete what is typed. Those that are not installed are
// left out; bash is everywhere.
func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	scripts := map[string]string{}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		scripts[shell] = filepath.Join(dir, "reverb."+shell)
		script := []byte(printed(t, "completion", shell))
		if err := os.WriteFile(scripts[shell], script, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := exec.LookPath(shell); err != nil {
			t.Logf("%s is not installed", shell)
			delete(scripts, shell)
			continue
		}
		if out, err := exec.Command(shell, "-n", scripts[shell]).CombinedOutput(); err != nil {
			t.Errorf("%s -n: %v\n%s", shell, err, out)
		}
	}
	file := filepath.Join(dir, "some.env")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"star":                     "start",
		"--dev tr":                 "trigger trace",
		"start --por":              "--port",
		"start --port =":           "",
		"start --host ":            "",
		"env --a":                  "--app",
		"help REVERB_TLS_K":        "REVERB_TLS_KEY",
		"completion ":              "bash zsh fish --help",
		"check --env-file " + file: file,
		"--env-file = " + file:     file,
	} {
		words := strings.Split(line, " ")
		args := append([]string{"-c", completed, "bash", scripts["bash"]}, words...)
		out, err := exec.Command("bash", args...).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("bash: %s: got %q, %v, want %q", line, got, err, want)
		}
	}
	if scripts["fish"] == "" {
		return
	}
	for line, want := range map[string]string{
		"reverb sta": "start\tserve", "reverb start --po": "--port\tport",
		"reverb completion z": "zsh", "reverb check --env-file " + file[:len(file)-1]: file} {
		asked := "source " + scripts["fish"] + "; complete -C '" + line + "'"
		out, err := exec.Command("fish", "-c", asked).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("fish: %s: got %q, %v, want %q", line, out, err, want)
		}
	}
}

// TestManual has the page of the manual read by a strict formatter. The page has no date, so
// that two builds of a version print the same.
func TestManual(t *testing.T) {
	if _, err := exec.LookPath("mandoc"); err != nil {
		t.Skip("mandoc is not installed")
	}
	cmd := exec.Command("mandoc", "-T", "lint")
	cmd.Stdin = strings.NewReader(printed(t, "man"))
	out, _ := cmd.CombinedOutput() // its exit code tells of the missing date
	if got := strings.TrimSpace(string(out)); strings.Contains(got, "\n") ||
		!strings.Contains(got, "missing date") {
		t.Errorf("got\n%s", got)
	}
}

// terminal starts a shell command on a terminal of the given width, and reads what is shown
// until last is in a line. typed is what is typed on it.
func terminal(t *testing.T, width int, env []string, line, last string) (shown string,
	typed func(string)) {
	t.Helper()
	need(t, "script")
	cmd := command("script", "-qec", fmt.Sprintf("stty cols %d rows 40; exec %s", width, line),
		"/dev/null")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TERM=xterm-256color"}, env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = io.Discard // script shows both on the terminal
	lines := startTalking(t, cmd).lines
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	})
	for !strings.Contains(shown, last) && lines.Scan() {
		shown += strings.TrimRight(lines.Text(), "\r") + "\n"
	}
	if !strings.Contains(shown, last) {
		t.Errorf("%s shows\n%s", line, shown)
	}
	go func() {
		for lines.Scan() { // what comes later is not looked at
		}
	}()
	return shown, func(s string) { in.Write([]byte(s)) }
}

// TestFirstMinute is a person in front of a terminal: the greeting of start --dev, the status
// page behind its link, a second terminal.
func TestFirstMinute(t *testing.T) {
	port, cache := freePort(t), t.TempDir()
	env := []string{"HOME=" + cache, "XDG_CACHE_HOME=" + cache, "REVERB_ENV_FILE=/dev/null",
		"REVERB_SHUTDOWN_GRACE=0"}
	shown, typed := terminal(t, 80, env, program+" start --dev --port "+port, "Ctrl+C stops it.")
	defer typed("\x03")
	plain := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(shown, "")
	for _, want := range []string{"\nreverb ", "\n  listening  127.0.0.1:" + port + " (plain)\n",
		"\n  connect    ws://127.0.0.1:" + port + "/app/",
		"\n  try        reverb listen --dev my-channel\n", "\n  REVERB_SERVER_PORT     " + port} {
		if !strings.Contains(plain, want) {
			t.Errorf("the greeting lacks %q:\n%s", want, plain)
		}
	}
	if plain == shown || strings.Contains(plain, "level=") ||
		strings.Contains(plain, "REVERB_LOG_LEVEL") {
		t.Errorf("no colours, or the log, or defaults:\n%q", shown)
	}
	run := func(args ...string) string {
		cmd := command(program, args...)
		cmd.Env = append(env, "PATH="+os.Getenv("PATH"))
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return string(out)
	}
	got := run("trigger", "--dev", "my-channel", "my-event", `{"n":1}`)
	if got != "sent my-event to my-channel\n" {
		t.Errorf("got %s", got)
	}
	lines := run("env", "--dev")
	secret := regexp.MustCompile(`(?m)^REVERB_APP_SECRET=(.+)$`).FindStringSubmatch(lines)
	link := regexp.MustCompile(`http://127\.0\.0\.1:\d+/#t=[A-Z2-7]{26}`).FindString(plain)
	if secret == nil || link == "" || !strings.Contains(lines, "\nREVERB_PORT="+port+"\n") ||
		strings.Contains(plain, secret[1]) {
		t.Fatalf("no secret, no link %q, or the secret is shown:\n%s%s", link, lines, plain)
	}
	needNode(t)
	cmd := command("node", "--test", "--test-force-exit", "clients/link.browser.mjs")
	cmd.Env = append(os.Environ(), "REVERB_LINK="+link, "REVERB_SECRET="+secret[1])
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPlainTerminal has no colours where none are wanted, and the log where -q or JSON is.
func TestPlainTerminal(t *testing.T) {
	env := append(oneApp(), "REVERB_ENV_FILE=/dev/null", "REVERB_SERVER_HOST=127.0.0.1",
		"REVERB_SERVER_PORT=0", "REVERB_SHUTDOWN_GRACE=0")
	for _, tt := range []struct {
		line, env, last, without string
	}{
		{program + " start", "NO_COLOR=1", "Ctrl+C stops it.", "\x1b"},
		{program + " start --no-ansi", "A=", "Ctrl+C stops it.", "\x1b"},
		{program + " start", "TERM=dumb", "Ctrl+C stops it.", "\x1b"},
		{program + " start", "REVERB_LOG_FORMAT=json", `"msg":"listening on 127.0.0.1:`, "Ctrl+C"},
	} {
		shown, typed := terminal(t, 140, append(env, tt.env), tt.line, tt.last)
		typed("\x03")
		if strings.Contains(shown, tt.without) {
			t.Errorf("%s with %s shows %q:\n%q", tt.line, tt.env, tt.without, shown)
		}
	}
}

// TestListenAndTrigger has one event from standard input arrive on two channels, as JSON, and
// one from a file not at the connection that is left out.
func TestListenAndTrigger(t *testing.T) {
	s := start(t, oneApp()...)
	env := append(oneApp(), "REVERB_ENV_FILE=/dev/null", "REVERB_SERVER_HOST=127.0.0.1",
		"REVERB_SERVER_PORT="+s.addr[strings.LastIndexByte(s.addr, ':')+1:])
	listen := command(program, "listen", "--json", "--join", "presence-a", "private-b")
	listen.Env = env
	var notes strings.Builder
	listen.Stderr = &notes
	lines := startTalking(t, listen).lines
	type event struct {
		At, Channel, Event string
		UserID             string `json:"user_id"`
		Data               json.RawMessage
	}
	next := func() (e event) {
		if !lines.Scan() {
			t.Fatal("nothing more is printed")
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		return e
	}
	trigger := func(stdin string, args ...string) string {
		cmd := command(program, append([]string{"trigger"}, args...)...)
		cmd.Env, cmd.Stdin = env, strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	joined := next()
	if other := next(); joined.Channel != "presence-a" ||
		!strings.HasPrefix(joined.UserID, "listen-") ||
		other.Channel != "private-b" || other.UserID != "" {
		t.Errorf("got %+v, %+v", joined, other)
	}
	got := trigger("{\"n\": 1}\n", "presence-a", "my-event", "-", "--channel", "private-b")
	if got != "sent my-event to presence-a, private-b\n" {
		t.Errorf("got %s", got)
	}
	for _, channel := range []string{"presence-a", "private-b"} {
		if e := next(); e.Channel != channel || e.Event != "my-event" ||
			string(e.Data) != `{"n": 1}` || !strings.HasSuffix(e.At, "Z") {
			t.Errorf("got %+v, want it on %s", e, channel)
		}
	}
	file := write(t, t.TempDir(), "data.json", []byte("2"))
	trigger("", "private-b", "left-out", "@"+file,
		"--except="+strings.TrimPrefix(joined.UserID, "listen-"))
	trigger("", "private-b", "last", "@"+file)
	if e := next(); e.Event != "last" || string(e.Data) != "2" {
		t.Errorf("got %+v", e)
	}
	listen.Process.Signal(os.Interrupt)
	if err := listen.Wait(); err != nil {
		t.Errorf("listen ends with %v", err)
	}
	want := "reverb: on presence-a others see this command as the member " + joined.UserID + "\n"
	if notes.String() != want {
		t.Errorf("got %q, want %q", notes.String(), want)
	}
}
