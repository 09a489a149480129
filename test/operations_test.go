package test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// notifySocket plays the service manager's end of sd_notify.
type notifySocket struct {
	t *testing.T
	c *net.UnixConn
}

func listenNotify(t *testing.T, name string) *notifySocket {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &notifySocket{t, c}
}

// await reads until a message has this line.
func (n *notifySocket) await(line string) string {
	n.t.Helper()
	b := make([]byte, 4096)
	n.c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		k, err := n.c.Read(b)
		if err != nil {
			n.t.Fatalf("waiting for %s: %v", line, err)
		}
		if slices.Contains(strings.Split(string(b[:k]), "\n"), line) {
			return string(b[:k])
		}
	}
}

func TestNotify(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"),
		fmt.Sprintf("@reverb-test-%d", os.Getpid())} {
		n := listenNotify(t, name)
		s := start(t, append(oneApp(), "NOTIFY_SOCKET="+name, "WATCHDOG_USEC=300000")...)
		if got := n.await("READY=1"); !strings.Contains(got, "STATUS=0 connections on 127.0.0.1:") {
			t.Errorf("got %q, want a status", got)
		}
		for range 3 {
			n.await("WATCHDOG=1")
		}
		s.cmd.Process.Signal(syscall.SIGHUP)
		n.await("RELOADING=1")
		n.await("READY=1")
		s.cmd.Process.Signal(syscall.SIGTERM)
		n.await("STOPPING=1")
		if err := s.wait(10 * time.Second); err != nil {
			t.Error(err)
		}
	}
}

// activated starts the program and passes sockets as the service manager does.
func activated(t *testing.T, files []*os.File, names string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := command("sh", "-c", `LISTEN_PID=$$ exec "$0" start`, program)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "REVERB_ENV_FILE=/dev/null",
		"REVERB_SHUTDOWN_GRACE=0", "LISTEN_FDS=" + strconv.Itoa(len(files)),
		"LISTEN_FDNAMES=" + names}, env...)
	cmd.ExtraFiles = files
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestSocketActivation restarts the server 200 times while clients connect all the time. The socket
// is never closed, so no client may be refused.
func TestSocketActivation(t *testing.T) {
	const restarts = 200
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close() // f keeps it open
	var refused, established, cut atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				nc, err := net.DialTimeout("tcp", addr, 20*time.Second)
				if err != nil {
					refused.Add(1)
					continue
				}
				nc.SetDeadline(time.Now().Add(20 * time.Second))
				io.WriteString(nc, "GET /app/app-key HTTP/1.1\r\nHost: x\r\nUpgrade: "+
					"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
					"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
				if skipTo(bufio.NewReaderSize(nc, 512), "connection_established") == nil {
					established.Add(1)
				} else {
					cut.Add(1) // the server stopped between accepting and answering
				}
				nc.Close()
			}
		})
	}
	for i := range restarts {
		cmd := activated(t, []*os.File{f}, "main", oneApp()...)
		for before, end := established.Load(),
			time.Now().Add(20*time.Second); established.Load() < before+
			3; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("start %d: nobody gets through", i)
			}
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
	}
	last := activated(t, []*os.File{f}, "main", oneApp()...) // for clients that wait
	close(stop)
	wg.Wait()
	last.Process.Signal(syscall.SIGTERM)
	last.Wait()
	f.Close()
	t.Logf("%d restarts: %d connections established, %d cut while the server stopped, %d refused",
		restarts, established.Load(), cut.Load(), refused.Load())
	if refused.Load() != 0 || cut.Load() != 0 {
		t.Errorf("%d connections were refused, %d were cut", refused.Load(), cut.Load())
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	for _, where := range []string{"REVERB_CONTROL_SOCKET=" + filepath.Join(dir, "control"),
		"XDG_RUNTIME_DIR=" + dir} {
		env := append(oneApp(), where, "REVERB_SHUTDOWN_GRACE=1", "REVERB_ENV_FILE=/dev/null",
			"REVERB_RESTART=drain")
		s := start(t, env...)
		_, port, _ := net.SplitHostPort(s.addr)
		c := subscriber(t, s.addr, "x")
		run := func(args ...string) (string, int) {
			cmd := command(program, args...)
			cmd.Env = append(env, "REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT="+port)
			out, _ := cmd.CombinedOutput()
			return string(out), cmd.ProcessState.ExitCode()
		}
		pid := "(pid " + strconv.Itoa(s.cmd.Process.Pid)
		if out, code := run("start"); code != 1 ||
			!strings.Contains(out, "reverb is running there already "+pid) {
			t.Errorf("start on its port: exit code %d, %s", code, out)
		}
		out, code := run("restart")
		if code != 0 || !strings.Contains(out, "reverb "+pid) || !strings.Contains(out, "stopped") {
			t.Errorf("restart: exit code %d, %s", code, out)
		}
		c.nextText(t, `"code":4200`)
		if err := s.wait(5 * time.Second); err != nil {
			t.Errorf("the server ended with %v", err)
		}
		if out, code := run("restart"); code != 1 ||
			!strings.Contains(out, "no running server was found") ||
			!strings.Contains(out, "REVERB_CONTROL_SOCKET and TMPDIR") {
			t.Errorf("restart of nothing: exit code %d, %s", code, out)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Skip(err)
		}
		if out, code := run("start"); code != 1 ||
			!strings.Contains(out, fmt.Sprintf("(pid %d) holds it", os.Getpid())) {
			t.Errorf("start on our port: exit code %d, %s", code, out)
		}
		ln.Close()
	}
}

// TestDrain tells 10,000 connections to go elsewhere, spread over the configured time: once by a
// signal, once by reverb restart.
func TestDrain(t *testing.T) {
	const n, grace = 10_000, 4 * time.Second
	for _, how := range []string{"SIGTERM", "restart"} {
		env := append(oneApp(), "REVERB_SHUTDOWN_GRACE=4",
			"REVERB_CONTROL_SOCKET="+filepath.Join(t.TempDir(), "c"), "REVERB_ENV_FILE=/dev/null",
			"REVERB_RESTART=drain")
		s := start(t, env...)
		conns := make([]net.Conn, n)
		readers := make([]*bufio.Reader, n)
		each(n, 32, func(i int) {
			d := net.Dialer{Timeout: 20 * time.Second,
				LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%4))}}
			nc, err := d.Dial("tcp", s.addr)
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(nc, "GET /app/app-key HTTP/1.1\r\nHost: x\r\nUpgrade: "+
				"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
				"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
			conns[i], readers[i] = nc, bufio.NewReaderSize(nc, 256)
			if err := skipTo(readers[i], "connection_established"); err != nil {
				t.Error(err)
			}
		})
		if t.Failed() {
			return
		}
		var told, closed, cut atomic.Int64
		var fifths [6]atomic.Int64
		begin := time.Now()
		if how == "SIGTERM" {
			s.cmd.Process.Signal(syscall.SIGTERM)
		} else {
			cmd := command(program, "restart")
			cmd.Env = env
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := cmd.Wait(); err != nil {
					t.Errorf("reverb restart: %v", err)
				}
			}()
		}
		each(n, n, func(i int) {
			defer conns[i].Close()
			conns[i].SetReadDeadline(begin.Add(30 * time.Second))
			if skipTo(readers[i], `"code":4200`) != nil {
				cut.Add(1)
				return
			}
			fifths[min(int(5*time.Since(begin)/grace), 5)].Add(1)
			told.Add(1)
			// The close frame: 0x88, its length, 4200 = 0x1068.
			if skipTo(readers[i], "\x10\x68") == nil {
				closed.Add(1)
			}
		})
		if err := s.wait(20 * time.Second); err != nil {
			t.Errorf("%s: the server ended with %v", how, err)
		}
		spread := make([]int64, len(fifths))
		for i := range fifths {
			spread[i] = fifths[i].Load()
		}
		t.Logf("%s: %d told 4200, %d with a close frame, %d cut; by fifths of the %v: "+
			"%v (and later); ended after %v", how, told.Load(), closed.Load(), cut.Load(), grace,
			spread, time.Since(begin).Round(10*time.Millisecond))
		if told.Load() != n || closed.Load() != n || cut.Load() != 0 {
			t.Errorf("%s: %d told, %d closed, %d cut; want %d, %d and 0", how, told.Load(),
				closed.Load(), cut.Load(), n, n)
		}
		for i, k := range spread[:5] {
			if k < n/20 || k > n/2 {
				t.Errorf("%s: in fifth %d of the time %d were told, want about %d", how, i+1, k,
					n/5)
			}
		}
	}
}

// each calls f for 0 to n-1, some at once.
func each(n, atOnce int, f func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() { f(i); <-slots })
	}
	wg.Wait()
}

func TestDrainEndsEarly(t *testing.T) {
	s := start(t, append(oneApp(), "REVERB_SHUTDOWN_GRACE=600")...)
	c := subscriber(t, s.addr, "x")
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.says("stopping")
	c.nc.Close() // as if it had been told
	if err := s.wait(10 * time.Second); err != nil {
		t.Error(err)
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	apps := func(list string) { write(t, dir, "apps.json", []byte(list)) }
	one := `{"app_id":"app-id","key":"app-key","secret":"app-secret"`
	two := `{"app_id":"two","key":"key-two","secret":"secret-two"}`
	apps("[" + one + "}]")
	dot := write(t, dir, ".env", []byte("REVERB_MAX_REQUEST_SIZE=100\nREVERB_REDIS_PASSWORD=one\n"))
	s := start(t, "REVERB_APPS_FILE="+filepath.Join(dir, "apps.json"), "REVERB_ENV_FILE="+dot)
	stays := subscriber(t, s.addr, "x")
	reload := func(says string) {
		t.Helper()
		s.mu.Lock()
		s.log = nil
		s.mu.Unlock()
		s.cmd.Process.Signal(syscall.SIGHUP)
		s.says(says)
	}
	if err := publisher(s.addr).Trigger("x", "e", strings.Repeat("y", 200)); err == nil {
		t.Error("a body over REVERB_MAX_REQUEST_SIZE was taken")
	}
	apps("[" + one + `,"max_connections":2},` + two + "]")
	write(t, dir, ".env",
		[]byte("REVERB_MAX_REQUEST_SIZE=1000\nREVERB_SERVER_PORT=1\n"+
			"REVERB_SERVER_PATH=/elsewhere\nREVERB_REDIS_PASSWORD=two\n"+
			"REDIS_PORT=0\nREDIS_TIMEOUT=0.5\nREDIS_HOST=redis://u:password@h\n"))
	reload(`msg=reloaded apps=2`) // Redis is off, so its variables are not judged
	s.says("variable=REVERB_REDIS_HOST in_force=127.0.0.1 new=redis://********@h")
	s.says("variable=REVERB_SERVER_PATH")
	s.says("variable=REVERB_REDIS_PASSWORD in_force=******** new=********")
	if err := publisher(s.addr).Trigger("x", "e", strings.Repeat("y", 200)); err != nil {
		t.Error(err)
	}
	stays.nextText(t, `"event":"e"`)
	second := *publisher(s.addr)
	second.AppID, second.Key, second.Secret = "two", "key-two", "secret-two"
	if err := second.Trigger("x", "e", "y"); err != nil {
		t.Errorf("the new app: %v", err)
	}
	leaves := dial(t, s.addr, "")
	leaves.nc.Close()
	leaves = dialKey(t, s.addr, "key-two")
	leaves.nextText(t, "connection_established")
	var ok *rawConn
	eventually(t, 10*time.Second, func() string { // the one that left may still be counted
		ok = dial(t, s.addr, "")
		go ok.readLoop()
		ok.next() // the handshake
		if first := fmt.Sprint(ok.next()); !strings.Contains(first, "connection_established") {
			return first
		}
		return ""
	})
	full := dial(t, s.addr, "")
	go full.readLoop()
	full.nextText(t, `"code":4004`)
	full.nc.Close()
	apps("[" + one + "}")
	reload("not reloaded")
	apps("[" + one + `,"allowed_origins":["example.com"]}]`)
	reload(`msg=reloaded apps=1`)
	leaves.nextText(t, `"code":4001`)
	refused := dial(t, s.addr, "")
	go refused.readLoop()
	refused.nextText(t, `"code":4009`)
	stays.send(`{"event":"pusher:ping"}`)
	stays.nextText(t, "pusher:pong")
}

// dialKey is dial for another app.
func dialKey(t *testing.T, addr, key string) *rawConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := &rawConn{nc: nc, app: recordedApp("main")}
	c.arrived = sync.NewCond(&c.mu)
	io.WriteString(nc, "GET /app/"+key+" HTTP/1.1\r\nHost: x\r\nUpgrade: "+
		"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
		"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	go c.readLoop()
	return c
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reverb.sock")
	env := append(oneApp(), "REVERB_SERVER_HOST=unix:"+path, "REVERB_SERVER_SOCKET_MODE=0600",
		"REVERB_SERVER_SOCKET_OWNER="+strconv.Itoa(os.Getuid())+":"+strconv.Itoa(os.Getgid()),
		"REVERB_ENV_FILE=/dev/null")
	for range 2 { // the second finds what the first, killed, has left
		s := start(t, env...)
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("got %v, %v; want permissions 0600", fi.Mode(), err)
		}
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, "GET /app/app-key HTTP/1.1\r\nHost: x\r\nUpgrade: "+
			"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
			"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
		if err := skipTo(bufio.NewReader(nc), "connection_established"); err != nil {
			t.Error(err)
		}
		nc.Close()
		health := command(program, "health")
		health.Env = env
		if out, err := health.CombinedOutput(); err != nil {
			t.Errorf("health: %v, %s", err, out)
		}
		s.cmd.Process.Kill()
		<-s.done
		s.done <- nil
	}
}

// adminAddr is the address that REVERB_ADMIN_LISTEN=127.0.0.1:0 got.
func adminAddr(t *testing.T, s *server) string {
	t.Helper()
	s.says("metrics and status on")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.log {
		if _, rest, ok := strings.Cut(line, "metrics and status on "); ok {
			return strings.Trim(rest, `"`)
		}
	}
	t.Fatal("no address")
	return ""
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestAdmin(t *testing.T) {
	s := start(t, append(oneApp(), "REVERB_ADMIN_LISTEN=127.0.0.1:0",
		"REVERB_SHUTDOWN_GRACE=600")...)
	admin := "http://" + adminAddr(t, s)
	for path, want := range map[string]int{"/live": 200, "/ready": 200, "/metrics": 200,
		"/status.json": 200, "/debug/pprof/": 200, "/": 200, "/nothing": 404, "/publish": 405} {
		if code, body := get(t, admin+path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
	resp, err := http.Get(admin + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if policy := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy,
		"default-src 'none'") || resp.Header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("headers %v", resp.Header)
	}
	post := func(path, contentType, body string, header ...string) int {
		r, err := http.NewRequest("POST", admin+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", contentType)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	right := `{"app":"app-id","secret":"app-secret","channel":"x","event":"e","data":"{}"}`
	for _, tt := range []struct {
		contentType, body, site string
		want                    int
	}{
		{"application/json", right, "", 200}, {"application/json", right, "same-origin", 200},
		{"application/json", right, "cross-site", 403}, {"text/plain", right, "", 403},
		{"application/json", strings.Replace(right, "app-secret", "x", 1), "", 401},
		{"application/json", strings.Replace(right, "app-id", "x", 1), "", 401},
		{"application/json", "{", "", 400},
		{"application/json", strings.Replace(right, `"x"`, `"a b"`, 1), "", 400},
		{"application/json", strings.Replace(right, `"e"`, `""`, 1), "", 400},
	} {
		if got := post("/publish", tt.contentType, tt.body, "Sec-Fetch-Site",
			tt.site); got != tt.want {
			t.Errorf("%+v: got %d", tt, got)
		}
	}
	subscriber(t, s.addr, "x")
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.says("stopping")
	if code, body := get(t, admin+"/ready"); code != 503 || !strings.Contains(body, "stopping") {
		t.Errorf("/ready while stopping: %d %s", code, body)
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.done
	s.done <- nil
}

// TestDescriptors checks that, before descriptors run out, newcomers are told so and /ready says
// why.
func TestDescriptors(t *testing.T) {
	s := startShell(t, "ulimit -n 400; ", append(oneApp(), "REVERB_ADMIN_LISTEN=127.0.0.1:0")...)
	admin := "http://" + adminAddr(t, s)
	for i := range 400 {
		c := dial(t, s.addr, "")
		defer c.nc.Close()
		go c.readLoop()
		if strings.Contains(c.nextText(t, "pusher:"), `"code":4100`) {
			if i < 250 {
				t.Errorf("connection %d was refused already", i)
			}
			code, body := get(t, admin+"/ready")
			if code != 503 || !strings.Contains(body, "connections are taken") {
				t.Errorf("/ready: %d %s", code, body)
			}
			return
		}
	}
	t.Error("400 connections with 400 descriptors")
}

// startShell is start, after a command of the shell.
func startShell(t *testing.T, before string, env ...string) *server {
	t.Helper()
	script := write(t, t.TempDir(), "start",
		[]byte("#!/bin/sh\n"+before+"exec "+program+" \"$@\"\n"))
	os.Chmod(script, 0o700)
	old := program
	program = script
	defer func() { program = old }()
	return start(t, env...)
}

func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	for _, upgrade := range []bool{false, true} {
		unitVerified(t, upgrade)
	}
}

// unitVerified has systemd look at the unit, with or without deploy/reverb-upgrade.conf.
func unitVerified(t *testing.T, upgrade bool) {
	t.Helper()
	unit, err := os.ReadFile("../deploy/reverb.service")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := os.ReadFile("../deploy/reverb.socket")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var lines []string
	for line := range strings.Lines(string(unit)) {
		if strings.HasPrefix(line, "ExecStart=") {
			line = "ExecStart=" + program + " start\n"
		}
		lines = append(lines, line)
	}
	path := write(t, dir, "reverb.service", []byte(strings.Join(lines, "")))
	write(t, dir, "reverb.socket", socket)
	if upgrade {
		b, err := os.ReadFile("../deploy/reverb-upgrade.conf")
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.ReplaceAll(b, []byte("=/usr/local/bin/reverb "), []byte("="+program+" "))
		write(t, dir+"/reverb.service.d", "upgrade.conf", b)
	}
	if out, err := exec.Command("systemd-analyze", "verify", path).CombinedOutput(); err != nil ||
		bytes.Contains(out, []byte("reverb")) {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20",
		"--no-pager", path).CombinedOutput()
	if err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
	last := strings.TrimSpace(string(out))
	t.Log(last[strings.LastIndexByte(last, '\n')+1:])
}
