package control

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestAsk(t *testing.T) {
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "no", "such", "folder"), filepath.Join(dir, "s")}
	if _, _, err := Ask(paths, "status", new(int)); err == nil {
		t.Fatal("nobody is there, and no error")
	}
	ln, err := Listen(paths)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(paths); err == nil {
		t.Error("two may listen on one socket")
	}
	if fi, err := os.Stat(paths[1]); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; want permissions 0600", fi.Mode(), err)
	}
	hold, served := make(chan struct{}), make(chan struct{})
	go func() {
		Serve(ln, func(q string) (any, <-chan struct{}) {
			if q == "restart" {
				return 2, hold
			}
			return 1, nil
		})
		close(served)
	}()
	got := 0
	c, _, err := Ask(paths, "status", &got)
	if err != nil || got != 1 {
		t.Fatalf("got %d, %v; want 1", got, err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
	if c, _, err = Ask(paths, "restart", &got); err != nil || got != 2 {
		t.Fatalf("got %d, %v; want 2", got, err)
	}
	close(hold)
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
	ln.Close()
	<-served
	// What a killed process leaves is replaced.
	if err := os.Remove(paths[1]); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if ln, err = Listen(paths); err != nil {
		t.Fatal(err)
	}
	ln.Close()
}
