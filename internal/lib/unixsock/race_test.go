//go:build linux

package unixsock_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"reverb/internal/lib/control"
	"reverb/internal/lib/unixsock"
)

// attacker is a user without any right, raw: it need not exist.
const attacker = 12002

func TestMain(m *testing.M) {
	if dir := os.Getenv("UNIXSOCK_TEST_SQUAT"); dir != "" {
		squat(dir, os.Getenv("UNIXSOCK_TEST_VICTIM"))
		return
	}
	if path := os.Getenv("UNIXSOCK_TEST_ATTACK"); path != "" {
		attack(path, os.Getenv("UNIXSOCK_TEST_VICTIM"))
		return
	}
	os.Exit(m.Run())
}

// attack renames a link to victim over whatever socket shows at path, for ever.
func attack(path, victim string) {
	fmt.Println("ready")
	link := path + ".link"
	for {
		os.Symlink(victim, link) // or it is there still
		var st syscall.Stat_t
		for syscall.Lstat(path, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
			if os.Getppid() == 1 {
				return
			}
		}
		os.Rename(link, path)
	}
}

// TestRace opens a socket again and again as root, in a folder of another user who
// renames links over it meanwhile: for an ordinary socket and for the control socket.
// The calls of the first version show that the attack hits.
func TestRace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for two users")
	}
	rounds := 300
	if os.Getenv("REVERB_TEST_LONG") != "" {
		rounds = 10_000
	}
	for _, c := range []struct {
		name string
		open func(path string) (net.Listener, error)
		hits bool
	}{
		{"by name", byName, true},
		{"Listen", func(path string) (net.Listener,
			error) {
			return unixsock.Listen(path, 0o660, attacker, attacker)
		}, false},
		{"control", func(path string) (net.Listener,
			error) {
			return control.Listen([]string{path})
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := rounds
			if c.hits {
				n = 300 // enough to see that it does
			}
			hits, opened := race(t, n, c.open)
			t.Logf("%d rounds: %d times a file that was not ours was changed, "+
				"%d sockets were opened", n, hits, opened)
			if c.hits && hits == 0 {
				t.Log("the attack has not hit; this machine is too slow for the test to mean much")
			}
			if !c.hits && hits != 0 {
				t.Errorf("%d of %d", hits, n)
			}
		})
	}
}

// byName is how sockets were opened once: mode and owner are set by name.
func byName(path string) (net.Listener, error) {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(path, 0o660), os.Chown(path, attacker, attacker)); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

func race(t *testing.T, rounds int, open func(string) (net.Listener, error)) (hits, opened int) {
	top := t.TempDir()
	victim, dir := filepath.Join(top, "victim"), filepath.Join(top, "app")
	path := filepath.Join(dir, "s")
	if err := errors.Join(os.Chmod(filepath.Dir(top), 0o755), os.Chmod(top, 0o755),
		os.WriteFile(victim, []byte("root's"), 0o600),
		os.Mkdir(dir, 0o700), os.Chown(dir, attacker, attacker)); err != nil {
		t.Fatal(err)
	}
	asAttacker(t, "UNIXSOCK_TEST_ATTACK="+path, "UNIXSOCK_TEST_VICTIM="+victim)
	for range rounds {
		ln, err := open(path)
		if err == nil {
			opened++
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(victim, &st); err != nil {
			t.Fatal(err)
		}
		if st.Uid != 0 || st.Gid != 0 || st.Mode != syscall.S_IFREG|0o600 {
			hits++
			if err := errors.Join(os.Chown(victim, 0, 0), os.Chmod(victim, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if ln != nil {
			ln.Close()
		}
		os.Remove(path)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "root's" {
		t.Errorf("the victim holds %q, %v", b, err)
	}
	return hits, opened
}

// asAttacker starts this program as the attacker, until the test ends.
func asAttacker(t *testing.T, env ...string) {
	t.Helper()
	// by this name, since others may not look into the folder of the test
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: attacker,
		Gid: attacker}, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal("the attacker does not start:", err)
	}
}

// squat makes a folder and a link to another folder at dir, in turn, for ever.
func squat(dir, other string) {
	fmt.Println("ready")
	for os.Getppid() != 1 {
		os.Symlink(other, dir)
		os.Remove(dir)
		os.Mkdir(dir, 0o777)
		os.Remove(dir)
	}
}

// TestRaceForFolder opens the control socket of root again and again in a folder like
// /tmp, where another user makes root's folder first, or a link to a folder of root's.
func TestRaceForFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for two users")
	}
	rounds := 300
	if os.Getenv("REVERB_TEST_LONG") != "" {
		rounds = 10_000
	}
	top := t.TempDir()
	tmp, victim := filepath.Join(top, "tmp"), filepath.Join(top, "victim")
	if err := errors.Join(os.Chmod(filepath.Dir(top), 0o755), os.Chmod(top, 0o755),
		os.Mkdir(victim, 0o755), os.Mkdir(tmp, 0o700),
		os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	own := filepath.Join(tmp, "reverb-0")
	path := filepath.Join(own, "s")
	asAttacker(t, "UNIXSOCK_TEST_SQUAT="+own, "UNIXSOCK_TEST_VICTIM="+victim)
	opened := 0
	for range rounds {
		ln, err := control.Listen([]string{path})
		if err == nil {
			opened++
			if uid, known := unixsock.Owner(filepath.Dir(ln.Addr().String())); !known || uid != 0 {
				t.Errorf("a control socket in a folder of uid %d", uid)
			}
			ln.Close()
		}
		if left, err := os.ReadDir(victim); err != nil || len(left) != 0 {
			t.Fatalf("in the other folder are %v, %v", left, err)
		}
		os.Remove(own)
	}
	if fi, err := os.Lstat(victim); err != nil || fi.Mode() != os.ModeDir|0o755 {
		t.Errorf("the other folder has become %v, %v", fi, err)
	}
	t.Logf("%d rounds, %d sockets were opened", rounds, opened)
}
