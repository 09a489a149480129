package unixsock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// folderOf makes a folder that passes Private whatever the umask is.
func folderOf(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestListen(t *testing.T) {
	path := filepath.Join(folderOf(t), "s")
	ln, err := Listen(path, 0o640, os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(path); err != nil ||
		runtime.GOOS != "windows" && fi.Mode() != os.ModeSocket|0o640 {
		t.Errorf("got %v, %v; want a socket with permissions 0640", fi.Mode(), err)
	}
	if ln.Addr().String() != path {
		t.Errorf("the address is %s; want %s", ln.Addr(), path)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ln.Accept() // the first that comes is c, not our own probe
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	a.Write([]byte("x"))
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
	if p, ok := PeerOf(a); ok && p.UID != os.Geteuid() {
		t.Errorf("the peer is %v", p)
	}
	a.Close()
	c.Close()
	if _, err := Listen(path, 0o600, -1, -1); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("two on one path: got %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file stays: %v", err)
	}
	if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

// TestAdopt passes a listener on, as to another process: the file goes when the last of those that
// listen closes, and stays when another socket is there by then.
func TestAdopt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no listener is passed on")
	}
	path := filepath.Join(folderOf(t), "s")
	ln, err := Listen(path, 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	heirs := make([]net.Listener, 3)
	for i := range heirs {
		f, err := ln.(*listener).File()
		if err != nil {
			t.Fatal(err)
		}
		if heirs[i], err = net.FileListener(f); err != nil {
			t.Fatal(err)
		}
		heirs[i] = Adopt(heirs[i])
		f.Close()
	}
	there := func() bool { _, err := os.Lstat(path); return err == nil }
	if heirs[0].Close(); !there() {
		t.Fatal("an heir that is given up removes the file")
	}
	Abandon(ln)
	if Abandon(heirs[1]); !there() {
		t.Fatal("an heir with an heir of its own removes the file")
	}
	if err := heirs[2].Close(); err != nil || there() {
		t.Errorf("the file of the last one stays, and %v", err)
	}
	first, err := Listen(path, 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := first.(*listener).File()
	heir, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	heir = Adopt(heir)
	f.Close()
	Abandon(first)
	os.Remove(path)
	second, err := Listen(path, 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if heir.Close(); !there() {
		t.Error("the file of another socket was removed")
	}
}

// TestListenModeBefore looks at the file before its mode is set.
func TestListenModeBefore(t *testing.T) {
	path := filepath.Join(folderOf(t), "s")
	ln, err := bind(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if fi, err := os.Lstat(path); err != nil ||
		runtime.GOOS != "windows" && fi.Mode().Perm()&0o177 != 0 {
		t.Errorf("got %v, %v; want no more than 0600", fi.Mode(), err)
	}
}

// TestListenOnOthers puts a file in the way that is not a stale socket of this user, and finds it
// unchanged.
func TestListenOnOthers(t *testing.T) {
	dir := folderOf(t)
	file, link, old := filepath.Join(dir, "file"), filepath.Join(dir, "link"),
		filepath.Join(dir, "old")
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o644),
		os.Symlink(file, link)); err != nil {
		t.Skip(err)
	}
	for _, path := range []string{file, link} {
		if ln, err := Listen(path, 0o600, -1, -1); err == nil {
			ln.Close()
			t.Errorf("%s: no error", path)
		}
	}
	if fi, err := os.Lstat(file); err != nil || fi.Mode() != 0o644 {
		t.Errorf("the file: %v, %v", fi, err)
	}
	if _, err := os.Readlink(link); err != nil {
		t.Error(err)
	}
	if _, err := Listen(filepath.Join(dir, "none", "s"), 0o600, -1, -1); !errors.Is(err,
		syscall.ENOENT) {
		t.Errorf("no folder: %v", err)
	}
	if _, err := Listen("@abstract", 0o600, -1, -1); err == nil {
		t.Error("abstract: no error")
	}
	// A killed process has left its socket.
	stale, err := net.Listen("unix", old)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	ln, err := Listen(old, 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	// Another file takes its place; it is not ours to remove.
	if err := errors.Join(os.Rename(file, old), ln.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(old); err != nil {
		t.Error("the file of another was removed:", err)
	}
}

// TestSettleReplaced puts other files in the place of the socket before mode and owner
// are set.
func TestSettleReplaced(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a socket is known by its name alone")
	}
	dir := folderOf(t)
	path, victim := filepath.Join(dir, "s"), filepath.Join(dir, "victim")
	other, err := net.Listen("unix", filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for name, replace := range map[string]func() error{
		"file": func() error { return os.WriteFile(path, nil, 0o644) },
		"link": func() error { return os.Symlink(victim, path) },
		// of the same user, even the same process
		"socket":  func() error { return os.Link(filepath.Join(dir, "other"), path) },
		"nothing": func() error { return nil },
	} {
		if err := os.WriteFile(victim, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		ln, err := bind(path)
		if err != nil {
			t.Fatal(err)
		}
		ln.(*net.UnixListener).SetUnlinkOnClose(false)
		if err := errors.Join(os.Remove(path), replace()); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(filepath.Join(dir, "other"))
		f, err := openFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.settle("s", ln.(*net.UnixListener), 0o666, -1, -1); !errors.Is(err,
			errReplaced) {
			t.Errorf("%s: got %v", name, err)
		}
		f.close()
		ln.Close()
		os.Remove(path)
		if fi, err := os.Lstat(victim); err != nil || fi.Mode() != 0o644 {
			t.Errorf("%s: the victim has become %v, %v", name, fi, err)
		}
		if fi, _ := os.Lstat(filepath.Join(dir, "other")); fi.Mode() != before.Mode() {
			t.Errorf("%s: the other socket has become %v", name, fi.Mode())
		}
	}
}

func TestLookupOwner(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no owners")
	}
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	for owner, want := range map[string]string{
		"": "-1 -1", ":": "-1 -1", me.Uid: me.Uid + " -1", me.Username + ":": me.Uid + " -1",
		":" + me.Gid: "-1 " + me.Gid, me.Uid + ":" + me.Gid: me.Uid + " " + me.Gid,
	} {
		if uid, gid, err := LookupOwner(owner); err != nil || fmt.Sprint(uid, " ", gid) != want {
			t.Errorf("%q: got %d %d, %v, want %s", owner, uid, gid, err, want)
		}
	}
	for owner, want := range map[string]string{"no-such-user": `there is no user "no-such-user"`,
		me.Uid + ":no-such-group": `there is no group "no-such-group"`} {
		if _, _, err := LookupOwner(owner); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", owner, err, want)
		}
	}
}

func TestPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no owners")
	}
	top := folderOf(t)
	mk := func(name string, mode os.FileMode) string {
		dir := filepath.Join(top, name)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	mk("open", 0o777)
	mk("sticky", 0o777|os.ModeSticky)
	mk("own", 0o755)
	mk("group", 0o770)
	mk("open/below", 0o700)
	mk("sticky/below", 0o700)
	if err := errors.Join(os.Symlink("sticky/below", filepath.Join(top, "link")),
		os.Symlink("open/below", filepath.Join(top, "bad")),
		os.WriteFile(filepath.Join(top, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"own": "", "sticky/below": "", "link": "",
		"open": "other users may write to", "sticky": "other users may write to",
		"group":      "other users may write to",
		"open/below": "other users may write to", "bad": "other users may write to",
		"file": "is not a folder", "none": "no such file",
	} {
		real, err := Private(filepath.Join(top, name), os.Geteuid())
		switch {
		case want == "" && err != nil, want != "" &&
			(err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v; want %q", name, err, want)
		case err == nil && name == "link" && filepath.Base(real) != "below":
			t.Errorf("%s: resolved to %s", name, real)
		}
	}
	if os.Geteuid() != 0 {
		if _, err := Private(top, os.Geteuid()+1); err == nil {
			t.Error("a folder of ours passes as another's")
		}
		return
	}
	if err := os.Lchown(filepath.Join(top, "link"), 12002, 12002); err != nil {
		t.Fatal(err)
	}
	if _, err := Private(filepath.Join(top, "link"), 0); err == nil {
		t.Error("a link of another user passes")
	}
	if err := os.Chown(filepath.Join(top, "own"), 12002, 12002); err != nil {
		t.Fatal(err)
	}
	if _, err := Private(filepath.Join(top, "own"), 0); err == nil {
		t.Error("a folder of another user passes")
	}
	if _, err := Private(filepath.Join(top, "own"), 12002); err != nil {
		t.Error(err)
	}
}
