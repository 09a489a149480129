package terminal

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// env is an environment.
func env(pairs ...string) func(string) string {
	all := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return all[name] }
}

// What is not a terminal has no width, and colours only by force.
func TestNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	closed, _, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	defer w.Close()
	for name, to := range map[string]io.Writer{"a buffer": &bytes.Buffer{}, "a pipe": w,
		"a closed file": closed} {
		if got := Of(to, env("TERM", "xterm-256color", "COLORTERM", "truecolor")); got != (Look{}) {
			t.Errorf("%s: got %+v", name, got)
		}
		if got := Of(to, env("CLICOLOR_FORCE", "1")); !got.Color || got.Terminal {
			t.Errorf("%s, by force: got %+v", name, got)
		}
		if got := Of(to, env("CLICOLOR_FORCE", "1", "NO_COLOR", "1")); got.Color {
			t.Errorf("%s, NO_COLOR above all: got %+v", name, got)
		}
		if got := Of(to, env("CLICOLOR_FORCE", "0")); got.Color {
			t.Errorf("%s, not by force: got %+v", name, got)
		}
	}
}

// A program on PATH is called by its name, another one as it was called.
func TestCalled(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("programs have an extension")
	}
	dir, other := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "reverb")
	for _, p := range []string{path, filepath.Join(other, "reverb")} {
		if err := os.WriteFile(p, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for folder, want := range map[string]string{dir: "reverb", other: path, t.TempDir(): path} {
		t.Setenv("PATH", folder)
		if got := Called(path); got != want {
			t.Errorf("with %s on PATH: got %s, want %s", folder, got, want)
		}
	}
	t.Setenv("PATH", dir)
	if got := Called("reverb"); got != "reverb" {
		t.Errorf("a bare name: got %s", got)
	}
}
