package test

import (
	"os"
	"os/exec"
	"path/filepath"
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
		if err := os.WriteFile(scripts[shell], []byte(printed(t, "completion", shell)), 0o600); err != nil {
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
		"st":                       "start",
		"--dev tr":                 "trigger",
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
		out, err := exec.Command("bash", append([]string{"-c", completed, "bash", scripts["bash"]}, words...)...).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("bash: %s: got %q, %v, want %q", line, got, err, want)
		}
	}
	if scripts["fish"] == "" {
		return
	}
	for line, want := range map[string]string{"reverb sta": "start\tserve", "reverb start --po": "--port\tport", "reverb completion z": "zsh", "reverb check --env-file " + file[:len(file)-1]: file} {
		out, err := exec.Command("fish", "-c", "source "+scripts["fish"]+"; complete -C '"+line+"'").CombinedOutput()
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
	if got := strings.TrimSpace(string(out)); strings.Contains(got, "\n") || !strings.Contains(got, "missing date") {
		t.Errorf("got\n%s", got)
	}
}
