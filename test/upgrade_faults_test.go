package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// standing is a server with TLS and plain connections, which an upgrade must not disturb.
type standing struct {
	*server
	plain, admin               string  // addresses
	plans, path, real, between string  // paths
	env                        string  // path of the .env file, which is empty
	before, behind             *throng // plain, and over TLS
	events                     int
	published                  map[*walker]int // the events before it came
}

const faultRoom = "private-faults"

func standingServer(t *testing.T, env ...string) *standing {
	t.Helper()
	v := &standing{plans: t.TempDir(), published: map[*walker]int{}}
	v.env = write(t, t.TempDir(), "env", nil)
	s, secure, plain := secureServer(t, append(env, betweenVariable+"="+v.plans, "GOMAXPROCS=2",
		"REVERB_ADMIN_LISTEN=127.0.0.1:0", "REVERB_ENV_FILE="+v.env)...)
	v.server, v.plain, v.admin, v.path = s, plain, adminAddr(t, s), s.cmd.Path
	v.before, v.behind = &throng{t: t}, &throng{t: t, secure: secure}
	v.real, v.between = v.path+".real", v.path+".between"
	exe, err := os.Executable()
	var b []byte
	if err == nil {
		b, err = os.ReadFile(exe)
	}
	err = errors.Join(err, os.Link(v.path, v.real), os.WriteFile(v.between, b, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// join connects n more, half of them over TLS.
func (s *standing) join(n int) {
	s.t.Helper()
	for i := range n {
		c, addr := s.before, s.plain
		if i%2 == 1 {
			c, addr = s.behind, s.addr
		}
		w := c.walk(addr, faultRoom, 0)
		w.subscribe(faultRoom, "")
		w.subscribe("presence-faults", "u"+w.id)
		s.published[w] = s.events
		go w.run()
		s.answers(w)
	}
}

// answers waits until a connection answers a ping, after all that was sent before.
func (s *standing) answers(w *walker) {
	s.t.Helper()
	was := w.pongs.Load()
	w.nc.Write(clientFrame([]byte(`{"event":"pusher:ping","data":{}}`), 1))
	s.within(w.id+": a pong", func() bool { return w.pongs.Load() > was || w.ended.Load() })
	if w.ended.Load() {
		why := "nothing was said"
		if p := w.wrong.Load(); p != nil {
			why = *p
		}
		s.t.Errorf("%s (TLS: %v) has ended: %s", w.id, w.of.secure != nil, why)
	}
}

// serves checks that all of these connections go on, and get a new event once, and that another
// connection can come.
func (s *standing) serves(all ...*walker) {
	s.t.Helper()
	s.join(2)
	p := publisher(s.plain)
	p.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	s.events++
	if err := p.Trigger(faultRoom, "n", numbered{N: s.events}); err != nil {
		s.t.Error("publish:", err)
	}
	for _, w := range all {
		s.answers(w)
		if got, want := int(w.heard.Load()), s.events-s.published[w]; got != want {
			s.t.Errorf("%s has got %d events, not %d", w.id, got, want)
		}
		if why := w.wrong.Load(); why != nil {
			s.t.Error(*why)
		}
	}
}

func (s *standing) all() []*walker {
	return append(append([]*walker(nil), s.before.all...), s.behind.all...)
}

// ends closes all connections of the test.
func (s *standing) hangUp() {
	for _, w := range s.all() {
		w.nc.Close()
	}
	s.before.all, s.behind.all = nil, nil
}

// ask runs reverb upgrade.
func (s *standing) ask() (out string, code int) { return s.asks("upgrade") }

// asks runs a command, with another .env than the server's.
func (s *standing) asks(words ...string) (out string, code int) {
	_, port, _ := net.SplitHostPort(s.addr)
	cmd := command(program, append(words, "--port", port)...)
	for _, line := range s.cmd.Env {
		if !strings.HasPrefix(line, betweenVariable) {
			cmd.Env = append(cmd.Env, line)
		}
	}
	cmd.Env = append(cmd.Env, "REVERB_ENV_FILE=/dev/null")
	b, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.t.Error(err)
	}
	return strings.TrimSpace(string(b)), cmd.ProcessState.ExitCode()
}

// newest is the process that serves.
func (s *standing) newest() int {
	if all := s.successors(); len(all) > 0 {
		pid, _ := strconv.Atoi(all[len(all)-1])
		return pid
	}
	return s.cmd.Process.Pid
}

// family are the processes of the server, dead ones too, and whoever is between.
func (s *standing) family() (pids []int) {
	all, _ := os.ReadDir("/proc")
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		b, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && strings.Contains(string(b), betweenVariable+"="+s.plans) && runs(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// offspring are the processes whose parent is pid, zombies too.
func offspring(pid int) (pids []string) {
	all, _ := os.ReadDir("/proc")
	for _, e := range all {
		if parent, _, ok := processOf(e.Name()); ok && parent == pid {
			pids = append(pids, e.Name())
		}
	}
	return pids
}

func openFiles(pid int) int {
	all, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(all)
}

// counted is a figure of upgrades.
func (s *standing) counted(outcome string) string {
	s.t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + s.admin + "/metrics")
	if err != nil {
		s.t.Error(err)
		return ""
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	m := regexp.MustCompile(`upgrades_total\{outcome="` + outcome + `"\} (\d+)`).FindSubmatch(b)
	if m == nil {
		s.t.Errorf("no figure in %s", b)
		return ""
	}
	return string(m[1])
}

// still checks that an upgrade that was refused or has failed has changed nothing.
type still struct {
	s            *standing
	pid, files   int
	children     int
	outcome, was string
}

func (s *standing) still(outcome string) still {
	v := still{s: s, pid: s.newest(), outcome: outcome, was: s.counted(outcome)}
	s.serves(s.all()...)
	v.files, v.children = openFiles(v.pid), len(offspring(v.pid))
	return v
}

func (v still) check(counted int) {
	v.s.t.Helper()
	for _, w := range v.s.all() {
		v.s.answers(w)
	}
	v.s.within("the descriptors of before", func() bool { return openFiles(v.pid) == v.files })
	if n := len(offspring(v.pid)); n != v.children {
		v.s.t.Errorf("%d children are left", n-v.children)
	}
	was, _ := strconv.Atoi(v.was)
	if got := v.s.counted(v.outcome); got != strconv.Itoa(was+counted) {
		v.s.t.Errorf("%s upgrades: %s, then %s", v.outcome, v.was, got)
	}
	v.s.serves(v.s.all()...)
}

// TestUpgradeRefused has a server refuse one upgrade after the other: reverb upgrade says in one
// line why, and nothing was touched.
func TestUpgradeRefused(t *testing.T) {
	s := standingServer(t)
	dir := filepath.Dir(s.path)
	fresh := func() {
		if err := s.place(s.real); err != nil {
			t.Fatal(err)
		}
	}
	junk := func(text string, mode os.FileMode) {
		os.Remove(s.path)
		os.WriteFile(s.path, []byte(text), mode)
	}
	copyOf := func(name string) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Skip(err)
		}
		junk(string(b), 0o755)
	}
	ended := func(code string) string {
		return "PROGRAM was started and has ended with code " + code +
			" without a word: read what it has logged, and run PROGRAM check"
	}
	s.join(4)
	for _, c := range []struct {
		name string
		make func() (undo func())
		want string // DIR is the folder, PROGRAM the path
	}{
		{"owner", func() func() {
			copyOf(s.real)
			os.Chown(s.path, anotherUser, 0)
			return nil
		}, "PROGRAM belongs to another user (uid 12002), but must belong to root: " +
			"chown root PROGRAM"},
		{"writable", func() func() {
			copyOf(s.real)
			os.Chmod(s.path, 0o777)
			return nil
		}, "other users may write to PROGRAM (mode 0777): chmod go-w PROGRAM"},
		{"writable folder", func() func() {
			os.Chmod(dir, 0o777)
			return func() { os.Chmod(dir, 0o755) }
		}, "other users may write to the folder DIR (mode 0777) and so replace PROGRAM: " +
			"chmod go-w DIR"},
		{"link of a stranger", func() func() {
			os.Remove(s.path)
			os.Symlink(s.real, s.path)
			os.Lchown(s.path, anotherUser, 0)
			return nil
		}, "PROGRAM belongs to another user (uid 12002), but must belong to root: " +
			"chown -h root PROGRAM"},
		{"script", func() func() { junk("#!/bin/sh\n", 0o755); return nil },
			"PROGRAM is a script, and a program of its own is needed: " +
				"put the program that it starts there"},
		{"not ELF", func() func() { junk("MZ, for another system", 0o755); return nil },
			"PROGRAM is not a program for Linux (it does not begin with ELF): " +
				"put the new version there"},
		{"for another machine", func() func() {
			b, _ := os.ReadFile(s.real)
			b[18], b[19] = 0xf3, 0x7f // e_machine
			junk(string(b), 0o755)
			return nil
		}, "PROGRAM is not a program for this machine: take the one for its processor"},
		{"incomplete", func() func() {
			b, _ := os.ReadFile(s.real)
			junk(string(b[:len(b)/2]), 0o755)
			return nil
		}, "PROGRAM was started and crashed (SIGNAL): read what it has logged; the file may be " +
			"incomplete, or memory is short: put the new version there once more"},
		{"configuration", func() func() {
			os.WriteFile(s.env, []byte("REVERB_APP_PING_INTERVAL=soon\n"), 0o600)
			return func() { os.Truncate(s.env, 0) }
		}, "the successor says no: REVERB_APP_PING_INTERVAL=\"soon\" (ENV:1): not a whole number " +
			"of seconds from 1 to 86400, such as 60"},
		{"missing", func() func() { os.Remove(s.path); return nil },
			"PROGRAM is not there: put the new version at PROGRAM"},
		{"/bin/true", func() func() { copyOf("/bin/true"); return nil }, ended("0")},
		{"another format", func() func() { s.setDeed(t, deed{Mode: "format"}); return nil },
			"the successor reads the formats 9 to 12 of a hand-over, and this program writes 1 " +
				"to 1; stop and start instead"},
		{"no hello", func() func() { s.setDeed(t, deed{Mode: "stranger"}); return nil },
			"PROGRAM was started and is no program that can take over (the other process does " +
				"not know this hand-over: a frame of 1414811695 bytes): put the new version there"},
		{"no memory", func() func() { s.setDeed(t, deed{Mode: "memory"}); return nil }, ended("N")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t, s.server.t = t, t
			fresh()
			is := s.still("refused")
			undo := c.make()
			out, code := s.ask()
			if undo != nil {
				undo()
			}
			got := strings.NewReplacer(s.path, "PROGRAM", dir, "DIR", s.env, "ENV").Replace(out)
			if c.name == "no memory" { // the Go runtime, or the system, ends it
				got = regexp.MustCompile(`code \d+`).ReplaceAllString(got, "code N")
			}
			got = regexp.MustCompile(`crashed \([a-z ]+`).ReplaceAllString(got, "crashed (SIGNAL")
			if code != 1 || got != "reverb: "+c.want {
				t.Errorf("code %d\ngot  %s\nwant reverb: %s", code, got, c.want)
			}
			is.check(1)
		})
	}
	s.t, s.server.t = t, t
	fresh()
	if out, code := s.ask(); code != 0 {
		t.Errorf("code %d: %s", code, out)
	}
	s.serves(s.all()...)
	s.hangUp()
}

// refuses asks for an upgrade that is refused, and changes nothing.
func (s *standing) refuses(want string) {
	s.t.Helper()
	is := s.still("refused")
	if out, code := s.ask(); code != 1 || out != "reverb: "+want {
		s.t.Errorf("code %d\ngot  %s\nwant reverb: %s", code, out, want)
	}
	is.check(1)
}

// A successor that hangs is given up.
func TestUpgradeHangs(t *testing.T) {
	if os.Getenv("REVERB_TEST_LONG") == "" {
		t.Skip("takes 30 s: needs REVERB_TEST_LONG")
	}
	s := standingServer(t)
	s.join(4)
	s.setDeed(t, deed{Mode: "hang"})
	s.refuses(s.path + " was started and does not answer within 30s, or within 10s once it could " +
		"serve: read what it has logged, and run " + s.path + " check")
	s.hangUp()
}

// While a successor hangs the watchdog is told that the server lives, and a server that is asked to
// stop does not wait for it.
func TestUpgradeHangsAtStop(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	n := listenNotify(t, name)
	s := standingServer(t, "NOTIFY_SOCKET="+name, "WATCHDOG_USEC=900000")
	s.join(4)
	s.setDeed(t, deed{Mode: "hang"})
	answer := make(chan string, 1)
	go func() {
		out, _ := s.ask()
		answer <- out
	}()
	s.within("a successor", func() bool { return len(offspring(s.cmd.Process.Pid)) > 0 })
	for n.c.SetReadDeadline(time.Now()); ; { // what came before
		if _, err := n.c.Read(make([]byte, 4096)); err != nil {
			break
		}
	}
	for range 3 {
		n.await("WATCHDOG=1")
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	if out := <-answer; out != "reverb: the server is stopping" {
		t.Errorf("got %s", out)
	}
	if err := s.wait(15 * time.Second); err != nil { // a successor that hangs has 30 s
		t.Error(err)
	}
	s.hangUp()
}

// A successor without an app is refused, which is not the case at the start of a first process.
func TestUpgradeWithoutApp(t *testing.T) {
	env := write(t, t.TempDir(), "env", []byte(strings.Join(oneApp(), "\n")))
	s := &standing{server: installed(t, "REVERB_ENV_FILE="+env)}
	s.plain = s.addr
	w := (&throng{t: t}).walk(s.addr, faultRoom, 0)
	go w.run()
	os.WriteFile(env, nil, 0o600)
	const want = "reverb: the successor says no: there is no app: set REVERB_APP_ID, _KEY, _SECRET"
	if out, code := s.ask(); code != 1 || out != want {
		t.Errorf("code %d\ngot  %s\nwant %s", code, out, want)
	}
	s.answers(w)
	w.nc.Close()
}

// A request that does not end is cut by an upgrade, and is not in its way.
func TestUpgradeWhileRequestHangs(t *testing.T) {
	s := standingServer(t)
	s.join(4)
	nc := s.hang()
	defer nc.Close()
	if out, code := s.ask(); code != 0 {
		t.Errorf("code %d: %s", code, out)
	}
	if b, _ := io.ReadAll(nc); strings.HasPrefix(string(b), "HTTP/1.1 2") {
		t.Errorf("the request gets %q", b)
	}
	s.serves(s.all()...)
	s.hangUp()
}

// hang begins a request.
func (s *standing) hang() net.Conn {
	s.t.Helper()
	nc, err := net.Dial("tcp", s.plain)
	if err != nil {
		s.t.Fatal(err)
	}
	io.WriteString(nc, "POST /apps/app-id/events HTTP/1.1\r\nHost: x\r\n"+
		"Content-Length: 99\r\nExpect: 100-continue\r\n\r\n")
	want := "HTTP/1.1 100 Continue\r\n\r\n" // so its handler reads
	b := make([]byte, len(want))
	if _, err := io.ReadFull(nc, b); err != nil || string(b) != want {
		s.t.Errorf("got %q and %v", b, err)
	}
	return nc
}

// While one has asked and the successor is not ready, others are told so at once, and status and
// check answer. Nothing is made up for later: not for SIGUSR2, and not for who has gone.
func TestUpgradeAskedTwice(t *testing.T) {
	s := standingServer(t)
	s.join(4)
	s.setDeed(t, deed{Step: "before ready 0"})
	first := make(chan string, 1)
	go func() {
		out, code := s.ask()
		first <- fmt.Sprintf("%d: %s", code, out)
	}()
	s.held()
	const want = "reverb: an upgrade is under way: wait for its end"
	for _, words := range [][]string{{"upgrade"}, {"upgrade", "--dry-run"}, {"restart"}} {
		out, code := s.asks(words...)
		if code != 1 || !strings.HasSuffix(strings.TrimSpace(out), want) {
			t.Errorf("%q: code %d: %s", words, code, out)
		}
	}
	if out, code := s.asks("status"); code != 0 {
		t.Errorf("status: code %d: %s", code, out)
	}
	s.cmd.Process.Signal(syscall.SIGUSR2)
	s.says("no other one begins\" asked_by=SIGUSR2")
	s.place(s.real)
	s.resume(t)
	if out := <-first; out[0] != '0' {
		t.Errorf("got %q", out)
	}
	s.says(`msg="an upgrade is asked for" by="reverb upgrade (pid `)
	s.serves(s.all()...)
	if n := len(s.successors()); n != 1 {
		t.Errorf("%d upgrades were made", n)
	}
	s.hangUp()
}

// A look at an upgrade finds out that the program is none of ours, and what its configuration
// lacks; it changes and counts nothing. check says it, too.
func TestUpgradeDryRun(t *testing.T) {
	s := standingServer(t)
	s.join(2)
	try := func(failed string, words ...string) {
		t.Helper()
		is := s.still("refused")
		out, code := s.asks(words...)
		if (code == 0) != (failed == "" || words[0] == "check") || !strings.Contains(out, failed) {
			t.Errorf("%q: code %d, want %q:\n%s", words, code, failed, out)
		}
		is.check(0)
	}
	try("", "upgrade", "--dry-run")
	os.WriteFile(s.env, []byte("REVERB_APP_PING_INTERVAL=soon\n"), 0o600)
	try("the successor says no: REVERB_APP_PING_INTERVAL=\"soon\"", "upgrade", "--dry-run")
	os.Truncate(s.env, 0)
	b, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Skip(err)
	}
	os.Remove(s.path)
	os.WriteFile(s.path, b, 0o755)
	const ended = " was started and has ended with code 0 without a word"
	out, code := s.asks("upgrade", "--dry-run")
	if code != 1 || !strings.Contains(out, ended) {
		t.Errorf("code %d: %s", code, out)
	}
	if out, _ := s.asks("check"); !strings.Contains(out, "upgrade: not possible: "+s.path+
		ended) {
		t.Errorf("check: %s", out)
	}
	s.serves(s.all()...)
	s.hangUp()
}

// A successor that takes over is not asked for an upgrade, and a signal for one does not end it. A
// signal to read the configuration again does not, either.
func TestUpgradeWhileTakingOver(t *testing.T) {
	for _, step := range []string{"before hello 0", "before ready 0", "before section 1",
		"before yours 0", "before serving 0"} {
		t.Run(step, func(t *testing.T) {
			s := standingServer(t)
			s.join(4)
			s.setDeed(t, deed{Step: step})
			answer := make(chan int, 1)
			go func() {
				_, code := s.ask()
				answer <- code
			}()
			s.held()
			taker := 0
			for _, pid := range offspring(s.cmd.Process.Pid) {
				taker, _ = strconv.Atoi(pid)
			}
			for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR2} {
				if err := syscall.Kill(taker, signal); err != nil {
					t.Error(err)
				}
			}
			s.place(s.real)
			s.resume(t)
			if code := <-answer; code != 0 {
				t.Errorf("code %d", code)
			}
			s.serves(s.all()...)
			s.hangUp()
		})
	}
}

// held waits until the step of a deed.
func (s *standing) held() {
	s.t.Helper()
	if err := await(filepath.Join(s.plans, "held")); err != nil {
		s.t.Fatal(err)
	}
}

// A server that has few descriptors left refuses an upgrade, or makes it, and leaks none.
func TestUpgradeWithoutDescriptors(t *testing.T) {
	s := standingServer(t)
	s.join(4)
	var was unix.Rlimit
	pid, code := s.cmd.Process.Pid, 1
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		t.Fatal(err)
	}
	spare := 0
	for code != 0 {
		is, most, out := s.still("refused"), was, ""
		spare++
		most.Cur = uint64(is.files + spare)
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &most, nil); err != nil {
			t.Fatal(err)
		}
		if out, code = s.ask(); code == 0 {
			break
		}
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &was, nil); err != nil {
			t.Fatal(err)
		}
		if want := "reverb: " + s.path + " cannot be started, as no descriptor is left: raise " +
			"the limit of open files, or try again with fewer connections"; out != want ||
			code != 1 || spare > 30 {
			t.Fatalf("%d to spare: code %d\ngot  %s\nwant %s", spare, code, out, want)
		}
		is.check(1)
	}
	t.Logf("an upgrade needs %d descriptors", spare)
	s.serves(s.before.all...)
	for _, w := range s.behind.all {
		s.within(w.id+" stays or is told to return", func() bool {
			why := w.wrong.Load()
			return !w.ended.Load() || why != nil && strings.Contains(*why, `"code":4200`)
		})
	}
	s.hangUp()
}
