package recordlog

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lookAt checks that Look changes nothing, and returns its error.
func lookAt(t testing.TB, dir string) error {
	t.Helper()
	state := func() (all []string) {
		filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err != nil {
				all = append(all, "missing")
				return nil
			}
			all = append(all, path, info.Mode().String(), info.ModTime().String())
			return nil
		})
		return all
	}
	before := state()
	_, _, used, err := Look(dir, options(), func([]byte) {})
	if used {
		t.Errorf("%s is used", dir)
	}
	if after := state(); !slices.Equal(after, before) {
		t.Errorf("Look changes %q to %q", before, after)
	}
	return err
}

// Look reads what is there, says whether it is used, and does not keep a process from it.
func TestLook(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	var all []string
	look := func() (found Found, size int64, used bool) {
		t.Helper()
		all = nil
		found, size, used, err := Look(dir, options(), func(r []byte) {
			all = append(all, string(r))
		})
		if err != nil {
			t.Error(err)
		}
		return found, size, used
	}
	if found, size, used := look(); found != (Found{}) || size != 0 || used || all != nil {
		t.Errorf("of nothing: %+v, %d, %v, %q", found, size, used, all)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("Look makes the folder")
	}
	l, _, _ := open(t, dir, options())
	l.Append([]byte("a"))
	synced(l)
	if found, size, used := look(); found != (Found{Records: 1}) || size != 25 || !used ||
		!slices.Equal(all, []string{"a"}) {
		t.Errorf("of what is used: %+v, %d, %v, %q", found, size, used, all)
	}
	l.Close()
	torn, err := os.OpenFile(filepath.Join(dir, fileName), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := torn.WriteString("torn"); err != nil {
		t.Fatal(err)
	}
	torn.Close()
	for range 2 { // it is not cut
		if found, size, used := look(); found != (Found{Records: 1, Cut: 4}) || size != 29 ||
			used || !slices.Equal(all, []string{"a"}) {
			t.Errorf("of what is torn: %+v, %d, %v, %q", found, size, used, all)
		}
	}
	// Another Look has the lock for a moment.
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock(f, false); err != nil {
		t.Fatal(err)
	}
	if _, _, used := look(); used {
		t.Error("two looks are in each other's way")
	}
	o, tries := options(), 0
	o.After = func(d time.Duration) <-chan time.Time {
		if tries++; tries == 2 {
			f.Close()
		}
		return time.After(0)
	}
	l, _, _ = open(t, dir, o)
	l.Close()
}

// Where nothing can be written Look says so, as Open does.
func TestLookWithoutRights(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	base := t.TempDir()
	if err := os.Chmod(base, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := lookAt(t, filepath.Join(base, "spool")); err == nil ||
		!strings.HasSuffix(err.Error(), "spool: "+syscall.EACCES.Error()) {
		t.Error(err)
	}
	if err := lookAt(t, base); err == nil || !strings.HasSuffix(err.Error(),
		"lock: "+syscall.EACCES.Error()) {
		t.Error(err)
	}
}
