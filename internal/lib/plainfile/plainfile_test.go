//go:build unix

package plainfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("ten"), []byte("0123456789"), 0o600))
	must(os.WriteFile(at("empty"), nil, 0o600))
	must(os.Symlink("ten", at("link")))
	must(os.Symlink("loop", at("loop")))
	must(os.Symlink("/dev/zero", at("zero")))
	must(unix.Mkfifo(at("pipe"), 0o600))
	must(os.Mkdir(at("folder"), 0o700))

	for name, want := range map[string]string{"ten": "0123456789", "link": "0123456789",
		"empty": ""} {
		if b, err := Read(at(name), 10); err != nil || string(b) != want {
			t.Errorf("%s: got %q and %v, want %q", name, b, err, want)
		}
	}
	for _, name := range []string{"pipe", "zero", "/dev/tty", "/dev/null"} {
		if !filepath.IsAbs(name) {
			name = at(name)
		}
		if _, err := Read(name, 10); !errors.Is(err, ErrNotRegular) &&
			!errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	must(os.WriteFile(at("marked"), []byte("\ufeffa\ufeff"), 0o600))
	for name, want := range map[string]string{"marked": "a\ufeff", "ten": "0123456789"} {
		if b, err := Text(at(name), 10); err != nil || string(b) != want {
			t.Errorf("%s: got %q and %v, want %q", name, b, err, want)
		}
	}
	if _, err := Text(at("none"), 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that there is no such file", err)
	}
	for name, want := range map[string]bool{"ten": true, "empty": true, "link": true, "loop": false,
		"zero": false, "pipe": false, "folder": false, "none": false} {
		if Exists(at(name)) != want {
			t.Errorf("%s: got %v", name, !want)
		}
	}
	if _, err := Read(at("folder"), 10); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("a folder: got %v, want %v", err, syscall.EISDIR)
	}
	if _, err := Read(at("none"), 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that there is no such file", err)
	}
	if _, err := Read(at("loop"), 10); err == nil {
		t.Error("a link to itself is read")
	}
	if _, err := Read(at("ten"), 9); err == nil ||
		!strings.HasSuffix(err.Error(), "ten: the file is larger than 9 bytes") {
		t.Errorf("got %v, want that it is too large", err)
	}

	// A file of /proc says that it is empty, and may make its readers wait.
	if b, err := Read("/proc/self/environ", 10); err == nil && len(b) > 0 {
		t.Errorf("got %q of /proc", b)
	}

	// The name changes between the two looks at it: opening neither waits nor succeeds.
	if _, err := openSoon(at("pipe")); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a pipe in the place of a file: got %v", err)
	}
	if _, err := openSoon(at("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that has gone: got %v", err)
	}
}
