package control

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/unixsock"
)

// refuseNobody is told of no asker in these tests: they all are of one user.
func refuseNobody(unixsock.Peer) { panic("an asker of the same user is refused") }

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
		Serve(ln, nil, refuseNobody, func(q string) Answer {
			switch q {
			case "restart":
				return Answer{Value: 2, Hold: hold}
			case "talk":
				return Answer{Value: 3, Talk: func(c net.Conn, asker unixsock.Peer, known bool) {
					line, _ := bufio.NewReader(c).ReadString('\n')
					fmt.Fprint(c, line, asker.UID, known)
				}}
			}
			return Answer{Value: 1}
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
	if c, _, err = Ask(paths, "talk", &got); err != nil || got != 3 {
		t.Fatalf("got %d, %v; want 3", got, err)
	}
	fmt.Fprintln(c, "more")
	said, err := io.ReadAll(c)
	want := fmt.Sprint("more\n", os.Geteuid(), true)
	if _, known := unixsock.PeerOf(c); !known {
		want = fmt.Sprint("more\n", 0, false)
	}
	if err != nil || string(said) != want {
		t.Errorf("got %q, %v, want %q", said, err, want)
	}
	ln.Close()
	<-served
	// The socket of a killed process is replaced.
	if err := os.Remove(paths[1]); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if ln, err = Listen(paths); err != nil {
		t.Fatal(err)
	}
	ln.Close()
}

// TestAskThenHear answers and goes on at once, before the asker has read the answer.
func TestAskThenHear(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := Listen([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		bufio.NewReader(c).ReadString('\n')
		fmt.Fprint(c, "1\nand then this")
	}()
	got := 0
	c, _, err := Ask([]string{path}, "status", &got)
	if err != nil || got != 1 {
		t.Fatal(got, err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || string(b) != "and then this" {
		t.Errorf("got %q, %v", b, err)
	}
}

// The answer is on its way before Then, which may end the process, and Then is called though nobody
// takes the answer.
func TestServeThen(t *testing.T) {
	for _, gone := range []bool{false, true} {
		client, server := net.Pipe() // a write waits for its reader
		then := make(chan string, 1)
		said := ""
		go func() {
			serveOne(server, func(string) Answer {
				return Answer{Value: 1, Then: func() { then <- "then" }}
			})
		}()
		fmt.Fprintln(client, "restart")
		if gone {
			client.Close()
		} else {
			select {
			case <-then:
				t.Error("Then is called before the answer is taken")
			default:
			}
			said, _ = bufio.NewReader(client).ReadString('\n')
		}
		if <-then; !gone && said != "1\n" {
			t.Errorf("got %q", said)
		}
		client.Close()
	}
}

// failing is a listener without descriptors, but for the connections in ready.
type failing struct {
	net.Listener
	ready chan net.Conn // closed: the listener is closed
	tries int
}

func (f *failing) Accept() (net.Conn, error) {
	f.tries++
	select {
	case c, open := <-f.ready:
		if !open {
			return nil, &net.OpError{Op: "accept", Err: net.ErrClosed}
		}
		return c, nil
	default:
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
}

// A server without descriptors tries again, more and more seldom, and answers when it has some.
func TestServeWithoutDescriptors(t *testing.T) {
	for name, end := range map[string]func(ln *failing, ended chan struct{}){
		"the listener is closed": func(ln *failing, _ chan struct{}) { close(ln.ready) },
		"the server ends":        func(_ *failing, ended chan struct{}) { close(ended) },
	} {
		synctest.Test(t, func(t *testing.T) {
			ln, ended := &failing{ready: make(chan net.Conn, 1)}, make(chan struct{})
			served := make(chan struct{})
			go func() {
				defer close(served)
				Serve(ln, ended, refuseNobody, func(q string) Answer { return Answer{Value: q} })
			}()
			time.Sleep(time.Minute)
			client, server := net.Pipe()
			ln.ready <- server
			fmt.Fprintln(client, "status")
			if got, err := io.ReadAll(client); err != nil || string(got) != "\"status\"\n" {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
			begin := time.Now()
			end(ln, ended)
			<-served
			if took := time.Since(begin); took > maxWait {
				t.Errorf("%s: the end took %v", name, took)
			}
			if ln.tries < 60 || ln.tries > 80 {
				t.Errorf("%s: %d tries within a minute", name, ln.tries)
			}
		})
	}
}

// Root asks in the folder of the serving user, and in no folder of other users.
func TestOthersPaths(t *testing.T) {
	const service, other = 12002, 12003
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	if os.Geteuid() != 0 {
		if all, foreign := OthersPaths("s", os.Geteuid()); all != nil || foreign != nil {
			t.Errorf("a user who is not root would ask %q", all)
		}
		t.Skip("the rest needs root, for other users")
	}
	folder := func(uid, owner int) string {
		dir := filepath.Join(tmp, fmt.Sprintf("reverb-%d", uid))
		path := filepath.Join(dir, "s")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(path, nil, 0o600),
			os.Chown(dir, owner, owner)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	served, another := folder(service, service), folder(other, other)
	folder(12004, other) // it belongs to another user, who pretends
	if err := os.Mkdir(filepath.Join(tmp, "reverb-12005"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		service int
		all     []string
		foreign []Foreign
	}{
		{service, []string{served}, []Foreign{{another, other}}},
		{other, []string{another}, []Foreign{{served, service}}},
		{-1, nil, []Foreign{{served, service}, {another, other}}},
		{0, nil, []Foreign{{served, service}, {another, other}}},
	} {
		all, foreign := OthersPaths("s", tt.service)
		if !slices.Equal(all, tt.all) || !slices.Equal(foreign, tt.foreign) {
			t.Errorf("service %d: got %q and %v, want %q and %v", tt.service, all, foreign, tt.all,
				tt.foreign)
		}
	}
}

// TestForeignFolder is told that others decide what is in a folder, whatever else fails.
func TestForeignFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := Listen([]string{filepath.Join(dir, "s"), filepath.Join(t.TempDir(), "none", "s")})
	if !errors.Is(err, unixsock.ErrForeign) ||
		!strings.HasPrefix(err.Error(), "other users may write to ") {
		t.Errorf("got %v", err)
	}
	if _, err := Listen([]string{filepath.Join(t.TempDir(), "none", "s")}); err == nil ||
		errors.Is(err, unixsock.ErrForeign) {
		t.Errorf("no folder: got %v", err)
	}
}

// A folder that the environment names counts as this user's only if it is.
func TestPaths(t *testing.T) {
	dir := t.TempDir()
	getenv := func(name string) string {
		return map[string]string{"XDG_RUNTIME_DIR": dir,
			"RUNTIME_DIRECTORY": "no/absolute/path"}[name]
	}
	path := filepath.Join(dir, "s")
	if all := Paths("s", getenv); !slices.Contains(all, path) ||
		slices.ContainsFunc(all, func(p string) bool { return !filepath.IsAbs(p) }) {
		t.Errorf("got %q", all)
	}
	if os.Chown(dir, 12002, 12002) != nil {
		return // needs root
	}
	if all := Paths("s", getenv); slices.Contains(all, path) {
		t.Errorf("the folder of another user is among %q", all)
	}
}
