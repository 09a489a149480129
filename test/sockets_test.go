package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	pretender   = 12000 // user IDs that need no account; the folder of this one comes first
	serverUser  = 12001
	anotherUser = 12002
)

// sharedFolder is a folder like /tmp, and holds a copy of the program that every user
// can start.
func sharedFolder(t *testing.T) (dir, copied string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for several users")
	}
	top, err := os.MkdirTemp("", "reverb-shared")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	dir, copied = filepath.Join(top, "tmp"), filepath.Join(top, "reverb")
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(top, 0o755), os.WriteFile(copied, b, 0o755),
		os.Chmod(copied, 0o755),
		os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	return dir, copied
}

// as runs a command as a user, with tmp for its temporary files.
func as(uid uint32, tmp, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Env = append(oneApp(), "TMPDIR="+tmp, "HOME="+tmp, "REVERB_ENV_FILE=/dev/null",
		"REVERB_SERVER_HOST=127.0.0.1", "REVERB_SHUTDOWN_GRACE=0", "REVERB_RESTART=drain")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid},
		Pdeathsig: syscall.SIGKILL}
	return cmd
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// TestForeignControlFolder warns of a folder that another user may have made.
func TestForeignControlFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s := start(t, append(oneApp(), "REVERB_CONTROL_SOCKET="+filepath.Join(dir, "s"))...)
	s.says("level=WARN msg=\"no control socket, so reverb restart, status and the like")
}

// TestRestartByRoot checks that root finds the server of another user, and does not believe a third
// user, who has only a control socket.
func TestRestartByRoot(t *testing.T) {
	dir, copied := sharedFolder(t)
	number := freePort(t)
	port := "REVERB_SERVER_PORT=" + number
	fakeControl(t, filepath.Join(dir, fmt.Sprintf("reverb-%d", pretender)), pretender, number)
	server := as(serverUser, dir, copied, "start")
	server.Env = append(server.Env, port)
	var log bytes.Buffer
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	socket := filepath.Join(dir, fmt.Sprintf("reverb-%d", serverUser), "reverb-"+number+".sock")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			server.Process.Kill()
			<-ended
			t.Fatalf("no control socket:\n%s", log.String())
		}
	}
	want := fmt.Sprintf("(pid %d, user %d", server.Process.Pid, serverUser)
	check := as(0, dir, copied, "check")
	check.Env = append(check.Env, port)
	if out, _ := check.CombinedOutput(); !strings.Contains(string(out), "reverb is running") ||
		!strings.Contains(string(out), want) {
		t.Errorf("check: %s", out)
	}
	stranger := as(anotherUser, dir, copied, "restart")
	stranger.Env = append(stranger.Env, port)
	if out, err := stranger.CombinedOutput(); err == nil {
		t.Errorf("a stranger may restart: %s", out)
	}
	restart := as(0, dir, copied, "restart")
	restart.Env = append(restart.Env, port)
	if out, err := restart.CombinedOutput(); err != nil || !strings.Contains(string(out), want) ||
		!strings.Contains(string(out), "stopped") {
		t.Errorf("restart: %v, %s", err, out)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		server.Process.Kill()
		t.Error("the server has not ended")
	}
	again := as(0, dir, copied, "restart")
	again.Env = append(again.Env, port)
	passed := fmt.Sprintf("of user %d was not asked", pretender)
	if out, err := again.CombinedOutput(); err == nil || strings.Contains(string(out), "FAKE") ||
		!strings.Contains(string(out), passed) {
		t.Errorf("a second restart: %v, %s", err, out)
	}
}

// fakeControl answers on the control socket of port, in a folder that belongs to owner.
func fakeControl(t *testing.T, folder string, owner int, port string) net.Listener {
	t.Helper()
	if err := errors.Join(os.Mkdir(folder, 0o755), os.Chown(folder, owner, owner)); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(folder, "reverb-"+port+".sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	if err := os.Chmod(ln.Addr().String(), 0o777); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, `{"pid":1,"version":"x","listening":"\u001b]0;owned\u0007FAKE",`+
				`"connections":0}`+"\n")
			c.Close()
		}
	}()
	return ln
}

// TestControlOfAnother lets another user make the folder of a user's control socket first. The
// program must open nothing there, and believe nothing from there.
func TestControlOfAnother(t *testing.T) {
	dir, copied := sharedFolder(t)
	for _, uid := range []uint32{0, serverUser} {
		folder := filepath.Join(dir, fmt.Sprintf("reverb-%d", uid))
		port := freePort(t)
		ln := fakeControl(t, folder, anotherUser, port)
		for _, command := range []string{"restart", "check"} {
			cmd := as(uid, dir, copied, command)
			cmd.Env = append(cmd.Env, "REVERB_SERVER_PORT="+port, "XDG_RUNTIME_DIR=")
			if out, _ := cmd.CombinedOutput(); strings.Contains(string(out), "FAKE") ||
				strings.Contains(string(out), "\x1b") {
				t.Errorf("uid %d, %s believes another user's server: %q", uid, command, out)
			}
		}
		ln.Close()
	}
}

// TestAdminSocketMode checks that the socket of admin has the mode of the others.
func TestAdminSocketMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	s := start(t, append(oneApp(), "REVERB_ADMIN_LISTEN=unix:"+path,
		"REVERB_SERVER_SOCKET_MODE=0620")...)
	s.says("metrics and status on")
	if fi, err := os.Lstat(path); err != nil || fi.Mode().Perm() != 0o620 {
		t.Errorf("got %v, %v; want permissions 0620", fi, err)
	}
}

// TestReaderOfLogGone closes the other end of standard error and output. The server goes on, also
// if SIGPIPE was ignored at its start, and ends when it is told to.
func TestReaderOfLogGone(t *testing.T) {
	for _, how := range []string{`exec "$0" start`, `exec "$0" start --debug`,
		`trap '' PIPE; exec "$0" start`} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		port := freePort(t)
		cmd := exec.Command("sh", "-c", how, program)
		cmd.Env = append(oneApp(), "REVERB_ENV_FILE=/dev/null", "REVERB_SERVER_HOST=127.0.0.1",
			"REVERB_SERVER_PORT="+port, "REVERB_SHUTDOWN_GRACE=0", "REVERB_LOG_LEVEL=debug")
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		r.Read(make([]byte, 1)) // as head -1 would
		r.Close()
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		up := false
		for deadline := time.Now().Add(10 * time.Second); !up &&
			time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			nc, err := net.Dial("tcp", "127.0.0.1:"+port)
			if up = err == nil; up {
				nc.Close()
			}
		}
		if !up {
			t.Errorf("%s: it does not listen", how)
		} else {
			// traces and logs go nowhere
			subscriber(t, "127.0.0.1:"+port, "x").nc.Close()
		}
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s: the server ended with %v", how, err)
			}
		case <-time.After(20 * time.Second):
			cmd.Process.Kill()
			t.Errorf("%s: it does not end", how)
		}
	}
	// Other commands still end with their reader.
	out, _ := exec.Command("sh", "-c", `("$0" help; echo $? >&2) | true`, program).CombinedOutput()
	t.Logf("help to nobody ends with %s", bytes.TrimSpace(out))
}
