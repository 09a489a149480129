package test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pusher/pusher-http-go/v5"
)

// installedAs is installed, but a script of the shell starts the program. In the script "$0" is the
// program, and the script ends with what executes it.
func installedAs(t *testing.T, script string, env ...string) (s *server) {
	t.Helper()
	path := install(t)
	start := write(t, t.TempDir(), "start", []byte("#!/bin/sh\nprogram="+path+"\n"+script+"\n"))
	os.Chmod(start, 0o700)
	s = startFrom(t, start, env...)
	s.cmd.Path = path // for upgrade
	return s
}

// install copies the program into a folder of its own, as an operator has it.
func install(t *testing.T) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("/root", "reverb-upgrade-")
	if err != nil {
		t.Skip("the folders of the program may not be writable by others: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b, err := os.ReadFile(program)
	if err == nil {
		path = filepath.Join(dir, "reverb")
		err = os.WriteFile(path, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ask runs a command for a server, and returns what it says and its code.
func (s *server) ask(args ...string) (out string, code int) {
	_, port, _ := net.SplitHostPort(s.addr)
	cmd := command(s.cmd.Path, append(args, "--port", port)...)
	cmd.Env = s.cmd.Env
	b, _ := cmd.CombinedOutput()
	return string(b), cmd.ProcessState.ExitCode()
}

// trusting is the TLS of clients that trust ca.
func trusting(ca *authority) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return &tls.Config{RootCAs: roots, ServerName: "ws.test"}
}

// lives says whether there is a process that has not ended.
func lives(pid int) bool {
	state, _ := parentOf(pid)
	return state != "" && state != "Z"
}

// parentOf is the state of a process, or empty if there is none, and the number of its parent.
func parentOf(pid int) (state string, parent int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(f[1])
	return f[0], parent
}

// newest is the number of the process that serves.
func (s *server) newest() int {
	s.t.Helper()
	all := s.successors()
	if len(all) == 0 {
		return s.cmd.Process.Pid
	}
	pid, err := strconv.Atoi(all[len(all)-1])
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// crowd connects walkers to a room, and waits until each has an event.
func (c *throng) crowd(s *server, addr, room string, size int) (all []*walker) {
	c.t.Helper()
	for range size {
		w := c.walk(addr, room, 0)
		w.subscribe(room, "")
		go w.run()
		all = append(all, w)
	}
	c.hear(s, all)
	return all
}

// hear waits until each has two more events.
func (c *throng) hear(s *server, all []*walker) {
	c.t.Helper()
	var before []int64
	for _, w := range all {
		before = append(before, w.heard.Load())
	}
	for i, w := range all {
		s.within(w.id+": events", func() bool {
			return w.heard.Load() > before[i]+1 || w.ended.Load()
		})
	}
}

// unhurt fails the test if one of them has ended, or has seen a fault.
func unhurt(t testing.TB, all []*walker) {
	t.Helper()
	for _, w := range all {
		if why := w.wrong.Load(); why != nil {
			t.Fatal(*why)
		} else if w.ended.Load() {
			t.Fatalf("%s in %s has ended", w.id, w.room)
		}
	}
}

// told waits until all have ended, and fails the test unless each was told 4200.
func told(t *testing.T, s *server, all []*walker) {
	t.Helper()
	for _, w := range all {
		s.within(w.id+": the end", w.ended.Load)
		why := w.wrong.Load()
		if why == nil || !strings.Contains(*why, `"code":4200`) {
			t.Fatalf("%s in %s: not told 4200, but %v", w.id, w.room, why)
		}
		w.nc.Close()
	}
}

// publishing publishes to rooms until the test calls stop.
func publishing(t *testing.T, addr string, gap time.Duration, rooms ...string) (stop func()) {
	done, last := make(chan struct{}), make(chan map[string]int)
	go func() { last <- publishNumbers(t, addr, rooms, gap, "", done) }()
	return func() {
		close(done)
		<-last
	}
}

// --- Supervisors ---

// note is a message to systemd.
type note struct {
	pid  int
	text string
}

// notes takes all messages until the socket is closed.
func (n *notifySocket) notes() <-chan note {
	n.t.Helper()
	raw, err := n.c.SyscallConn()
	if err != nil {
		n.t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PASSCRED, 1)
	})
	if err != nil {
		n.t.Fatal(err)
	}
	all := make(chan note, 10_000)
	go func() {
		defer close(all)
		for b, oob := make([]byte, 4096), make([]byte, 4096); ; {
			k, o, _, _, err := n.c.ReadMsgUnix(b, oob)
			if err != nil {
				return
			}
			got := note{text: string(b[:k])}
			if m, err := syscall.ParseSocketControlMessage(oob[:o]); err == nil && len(m) == 1 {
				if c, err := syscall.ParseUnixCredentials(&m[0]); err == nil {
					got.pid = int(c.Pid)
				}
			}
			all <- got
		}
	}()
	return all
}

// TestUpgradeSystemd plays systemd: it starts the program, and takes its messages.
func TestUpgradeSystemd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	n := listenNotify(t, name)
	all := n.notes()
	s := installedAs(t, `SYSTEMD_EXEC_PID=$$ WATCHDOG_PID=$$ exec "$program" "$@"`,
		append(oneApp(), "NOTIFY_SOCKET="+name, "WATCHDOG_USEC=150000")...)
	// from reads messages until one has the line; those before must be of these processes too
	from := func(pids ...int) func(line string) note {
		return func(line string) note {
			t.Helper()
			for end := time.After(20 * time.Second); ; {
				select {
				case got := <-all:
					if !slices.Contains(pids, got.pid) {
						t.Fatalf("process %d has said %q, not one of %v", got.pid, got.text, pids)
					}
					if slices.ContainsFunc(strings.Split(got.text, "\n"), func(l string) bool {
						return strings.HasPrefix(l, line)
					}) {
						return got
					}
				case <-end:
					t.Fatalf("nobody has said %s", line)
				}
			}
		}
	}
	old := s.cmd.Process.Pid
	from(old)("READY=1")
	from(old)("WATCHDOG=1")
	c := &throng{t: t}
	w := c.walk(s.addr, "x", 0)
	go w.run()
	for range 3 {
		s.upgrade(t)
		got := from(old)("MAINPID=")
		next, err := strconv.Atoi(strings.TrimPrefix(got.text, "MAINPID="))
		if err != nil || next < 2 {
			t.Fatalf("process %d has said %q", got.pid, got.text)
		}
		t.Cleanup(func() { syscall.Kill(next, syscall.SIGKILL) })
		s.within("the same number", func() bool { return s.newest() == next })
		if _, parent := parentOf(next); parent != os.Getpid() {
			t.Errorf("the successor %d is a child of %d, not of its manager %d", next, parent,
				os.Getpid())
		}
		got = from(next)("READY=1")
		if !strings.Contains(got.text, "\nSTATUS=1 connection on 127.0.0.1:") {
			t.Errorf("the successor says %q", got.text)
		}
		from(next)("WATCHDOG=1")
		from(next)("WATCHDOG=1")
		if old != s.cmd.Process.Pid {
			reaped(t, old)
		}
		old = next
	}
	unhurt(t, c.all)
	syscall.Kill(old, syscall.SIGTERM)
	from(old)("STOPPING=1")
	told(t, s, c.all)
	reaped(t, old)
	if err := s.wait(5 * time.Second); err != nil {
		t.Errorf("the first process has ended with %v", err)
	}
}

// reaped waits for the end of a child of this process, which must end well.
func reaped(t *testing.T, pid int) {
	t.Helper()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != 0 {
		t.Errorf("process %d has ended with %v, %v", pid, status.ExitStatus(), err)
	}
}

// supervisor is supervisord with one program, reverb.
type supervisor struct {
	*server // addr, log
	conf    string
}

// ctl runs supervisorctl.
func (s *supervisor) ctl(args ...string) string {
	s.t.Helper()
	out, _ := command("supervisorctl",
		append([]string{"-c", s.conf}, args...)...).CombinedOutput()
	return string(out)
}

var statusLine = regexp.MustCompile(`RUNNING +pid (\d+)`)

// pid waits until the program runs, as another process than was.
func (s *supervisor) pid(was int) (pid int) {
	s.t.Helper()
	s.within("another process under Supervisor", func() bool {
		if m := statusLine.FindStringSubmatch(s.ctl("status", "reverb")); m != nil {
			pid, _ = strconv.Atoi(m[1])
		}
		return pid != 0 && pid != was && s.listens()
	})
	return pid
}

func (s *supervisor) listens() bool {
	nc, err := net.Dial("tcp", s.addr)
	if err == nil {
		nc.Close()
	}
	return err == nil
}

// childrenOf are the children of a process, zombies too, by their numbers.
func childrenOf(parent int) (pids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, name := range tasks { // each thread has its own
		b, _ := os.ReadFile(name)
		for _, f := range strings.Fields(string(b)) {
			n, _ := strconv.Atoi(f)
			pids = append(pids, n)
		}
	}
	slices.Sort(pids)
	return pids
}

// supervised starts supervisord with deploy/supervisor.conf.
func supervised(t *testing.T, env ...string) *supervisor {
	t.Helper()
	need(t, "supervisord")
	dir, path, port := t.TempDir(), install(t), oddPort(t)
	b, err := os.ReadFile("../deploy/supervisor.conf")
	if err != nil {
		t.Fatal(err)
	}
	env = append(append(oneApp(), "REVERB_ENV_FILE=/dev/null", "REVERB_SERVER_HOST=127.0.0.1",
		"REVERB_CONTROL_SOCKET="+dir+"/control", "REVERB_SERVER_PORT="+port), env...)
	text := strings.NewReplacer("minfds=1048576", "minfds=1024\nnodaemon=true\nlogfile=/dev/null\n"+
		"logfile_maxbytes=0\npidfile="+dir+"/pid\nchildlogdir="+dir,
		"/usr/local/bin/reverb", path, "/var/www/html\n", dir+"\n", "user=www-data\n",
		"stopasgroup=true\nenvironment="+strings.ReplaceAll(strings.Join(env, "\","), "=", "=\"")+
			"\"\n",
		"/var/log/supervisor/reverb.log", dir+"/log").Replace(string(b)) +
		"[unix_http_server]\nfile=" + dir + "/ctl\n[supervisorctl]\nserverurl=unix://" + dir +
		"/ctl\n[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = " +
		"supervisor.rpcinterface:make_main_rpcinterface\n"
	s := &supervisor{&server{t: t, addr: "127.0.0.1:" + port}, write(t, dir, "conf", []byte(text))}
	s.cmd = exec.Command(path)
	s.cmd.Env = env
	background(t, "supervisord", "-c", s.conf)
	answers(t, s.addr)
	t.Cleanup(func() {
		if b, err := os.ReadFile(dir + "/log"); t.Failed() {
			t.Logf("%s%v", b, err)
		}
	})
	return s
}

// TestUpgradeSupervisor has Supervisor start, stop and restart a server that is upgraded, and kills
// processes of the server.
func TestUpgradeSupervisor(t *testing.T) {
	need(t, "supervisord")
	ca := newAuthority(t)
	issued := ca.issue("ws.test", -1, 90)
	s := supervised(t, "REVERB_PLAIN_LISTEN=127.0.0.1:"+oddPort(t), "REVERB_SHUTDOWN_GRACE=1",
		"REVERB_TLS_CERT="+write(t, t.TempDir(), "both.pem", issued.cert, issued.key))
	secure := trusting(ca)
	first := s.pid(0)
	c := &throng{t: t, secure: secure}
	join := func(n int) {
		t.Helper()
		c.all = nil
		for range n {
			w := c.walk(s.addr, "x", 0)
			go w.run()
		}
	}
	// up to here the process of Supervisor serves; from here on it is the parent of what serves
	join(20)
	for range 3 {
		s.server.upgrade(t)
	}
	if got := s.pid(0); got != first {
		t.Fatalf("process %d under Supervisor became %d by an upgrade", first, got)
	}
	unhurt(t, c.all)
	if out := s.ctl("stop", "reverb"); !strings.Contains(out, "stopped") {
		t.Errorf("stop: %s", out)
	}
	told(t, s.server, c.all)
	if all := childrenOf(first); lives(first) || len(all) > 0 {
		t.Errorf("after stop %d lives (%v), or children: %v", first, lives(first), all)
	}
	s.ctl("start", "reverb")
	second := s.pid(first)
	join(20)
	s.server.upgrade(t)
	s.ctl("restart", "reverb")
	third := s.pid(second)
	told(t, s.server, c.all)

	join(20)
	s.server.upgrade(t)
	syscall.Kill(childrenOf(third)[0], syscall.SIGKILL)
	fourth := s.pid(third)
	for _, w := range c.all {
		s.within(w.id+": the end", w.ended.Load)
	}

	join(20)
	s.server.upgrade(t)
	next := childrenOf(fourth)[0]
	syscall.Kill(fourth, syscall.SIGKILL)
	begun := time.Now()
	s.within("the end of the successor", func() bool { return !lives(next) })
	gone := time.Since(begun)
	fifth := s.pid(fourth)
	t.Logf("the parent killed: its successor ended after %v, Supervisor's next one serves after %v",
		gone.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	for _, w := range c.all {
		s.within(w.id+": the end", w.ended.Load)
	}
	join(5)
	s.server.upgrade(t)
	unhurt(t, c.all)
	if s.pid(0) != fifth {
		t.Error("not the process of Supervisor any more")
	}
	s.ctl("stop", "reverb")
	told(t, s.server, c.all)
}

// TestUpgradeInit upgrades a server that is process 1 of a namespace.
func TestUpgradeInit(t *testing.T) {
	need(t, "unshare")
	need(t, "nsenter")
	if out, err := command("unshare", "--pid", "--fork", "--mount-proc",
		"true").CombinedOutput(); err != nil {
		t.Skipf("no namespaces here: %s", out)
	}
	for how, code := range map[string]int{"SIGTERM": 0, "kill": 137} {
		t.Run(how, func(t *testing.T) { initEnds(t, how, code) })
	}
}

func initEnds(t *testing.T, how string, code int) {
	dir := t.TempDir()
	s := installedAs(t, `exec unshare --pid --fork --kill-child --mount-proc "$program" "$@"`,
		append(oneApp(), "REVERB_CONTROL_SOCKET="+dir+"/control")...)
	outside := s.cmd.Process.Pid
	one := childrenOf(outside)
	if len(one) != 1 {
		t.Fatalf("unshare has the children %v", one)
	}
	c := &throng{t: t}
	c.walk(s.addr, "x", 0)
	go c.all[0].run()
	s.upgrade(t)
	s.upgrade(t)
	s.says(`supervisor="container init"`)
	unhurt(t, c.all)
	var next []int
	s.within("process 1 has the newest alone", func() bool {
		next = childrenOf(one[0])
		return len(next) == 1
	})
	// a process whose parent ends comes to process 1, which reaps it
	enter := command("nsenter", "-t", strconv.Itoa(one[0]), "-p", "sh", "-c",
		"(sh -c 'sleep 0.05; exit 3' &); (exit 4 &)")
	if out, err := enter.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.within("process 1 has no zombies", func() bool {
		return slices.Equal(childrenOf(one[0]), next)
	})
	if how == "kill" {
		syscall.Kill(next[0], syscall.SIGKILL)
		s.within("the end", c.all[0].ended.Load)
	} else {
		syscall.Kill(one[0], syscall.SIGTERM)
		told(t, s, c.all)
	}
	s.wait(10 * time.Second)
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("the end of the newest with %s: exit code %d, want %d", how, got, code)
	}
	if lives(one[0]) || lives(next[0]) {
		t.Error("a process is left")
	}
}

// --- Relays ---

// TestUpgradeOldestRelay makes a third relay with connections: those of the oldest are told to
// reconnect, and no others. Then a relay is killed, and one is asked to end.
func TestUpgradeOldestRelay(t *testing.T) {
	const size, grace = 40, time.Second
	s, secure, plain := secureServer(t, "REVERB_SHUTDOWN_GRACE=1")
	c := &throng{t: t, secure: secure}
	rooms := []string{"private-first", "private-second", "private-third", "private-plain"}
	stop := publishing(t, plain, 2*time.Millisecond, rooms...)
	bare := (&throng{t: t}).crowd(s, plain, rooms[3], size)
	var groups [][]*walker
	var began time.Time
	for _, room := range rooms[:3] {
		groups = append(groups, c.crowd(s, s.addr, room, size))
		if len(groups) == 3 {
			s.foretells(size, "too many relays would stand")
		}
		began = time.Now()
		s.upgrade(t)
	}
	var fifths [5]int
	for left := slices.Clone(groups[0]); len(left) > 0; time.Sleep(time.Millisecond) {
		left = slices.DeleteFunc(left, func(w *walker) bool {
			if w.ended.Load() {
				fifths[min(int(5*time.Since(began)/grace), 4)]++
			}
			return w.ended.Load()
		})
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%d of the oldest relay were not told", len(left))
		}
	}
	s.says(fmt.Sprintf(" told=%d ", size))
	t.Logf("of the oldest relay were told, by fifths of %v: %v", grace, fifths)
	if told(t, s, groups[0]); slices.Max(fifths[:]) > size*3/4 || slices.Min(fifths[1:4]) == 0 {
		t.Errorf("not spread over %v", grace)
	}
	rest := slices.Concat(groups[1], groups[2], bare)
	c.hear(s, rest)
	unhurt(t, rest)

	second, third := s.successors()[0], s.successors()[1]
	for i, pid := range []string{second, third} {
		n, _ := strconv.Atoi(pid)
		if i == 0 {
			syscall.Kill(n, syscall.SIGKILL)
		} else {
			began = time.Now()
			syscall.Kill(n, syscall.SIGTERM)
		}
		if i == 1 { // it goes on for the time of a drain
			c.hear(s, groups[2])
			unhurt(t, groups[2])
		}
		for _, w := range groups[i+1] {
			s.within(w.id+": the end", w.ended.Load)
		}
		s.within("the end of relay "+pid, func() bool { return !lives(n) })
		c.hear(s, bare)
		unhurt(t, bare)
		unhurt(t, c.crowd(s, s.addr, rooms[i], 3)) // the newest serves
	}
	if took := time.Since(began); took < grace {
		t.Errorf("SIGTERM: the relay has ended after %v, before the %v of a drain", took, grace)
	}
	stop()
}

// TestUpgradeDrain lets relays stand for 0 s and 1 s.
func TestUpgradeDrain(t *testing.T) {
	for _, keep := range []int{0, 1} {
		t.Run(strconv.Itoa(keep), func(t *testing.T) {
			t.Parallel()
			s, secure, plain := secureServer(t, "REVERB_SHUTDOWN_GRACE=1",
				"REVERB_UPGRADE_DRAIN="+strconv.Itoa(keep))
			stop := publishing(t, plain, 2*time.Millisecond, "private-x", "private-plain")
			bare := (&throng{t: t}).crowd(s, plain, "private-plain", 20)
			c := &throng{t: t, secure: secure}
			all := c.crowd(s, s.addr, "private-x", 100)
			if keep == 0 {
				s.foretells(100, "REVERB_UPGRADE_DRAIN is over")
			}
			s.upgrade(t)
			began := time.Now()
			if keep == 0 {
				s.says(" told=100 ")
			} else {
				c.hear(s, all)
				unhurt(t, all)
			}
			told(t, s, all)
			took := time.Since(began)
			s.says("told to reconnect (4200): the connections of a relay\" relay=1 connections=100")
			t.Logf("all were told within %v", took.Round(time.Millisecond))
			if least := time.Duration(keep)*time.Second + 500*time.Millisecond; took < least {
				t.Errorf("all were told within %v, want more than %v", took, least)
			}
			c.hear(s, bare)
			unhurt(t, bare)
			unhurt(t, c.crowd(s, s.addr, "private-x", 3))
			stop()
		})
	}
}

// foretells checks that a dry run says how many would be told to reconnect, and why.
func (s *server) foretells(told int, why string) {
	s.t.Helper()
	want := fmt.Sprintf(", %d would be told to reconnect", told)
	out, code := s.ask("upgrade", "--dry-run")
	if code != 0 || !strings.Contains(out, want) || !strings.Contains(out, why) {
		s.t.Errorf("the dry run: want %q and %q, code %d: %s", want, why, code, out)
	}
}

var plannedText = regexp.MustCompile(`, (\d+) would be told to reconnect`)

// TestUpgradeFewDescriptors upgrades a server whose limit of descriptors is too low for the relay
// of all its TLS connections.
func TestUpgradeFewDescriptors(t *testing.T) {
	files, encrypted, plains, gap := 600, 350, 50, 5*time.Millisecond
	if os.Getenv("REVERB_TEST_LONG") != "" {
		files, encrypted, plains, gap = 20_000, 12_000, 1000, 500*time.Millisecond
	}
	s, secure, plain := secureServerAs(t, fmt.Sprintf(`ulimit -n %d; exec "$program" "$@"`, files),
		"REVERB_SHUTDOWN_GRACE=1", "REVERB_APP_PING_INTERVAL=3600")
	stop := publishing(t, plain, gap, "private-x", "private-plain")
	bare := (&throng{t: t}).crowd(s, plain, "private-plain", plains)
	c := &throng{t: t, secure: secure}
	all := c.crowd(s, s.addr, "private-x", encrypted)
	out, code := s.ask("upgrade", "--dry-run")
	planned := plannedText.FindStringSubmatch(out)
	if code != 0 || planned == nil {
		t.Fatalf("--dry-run: exit code %d, %s", code, out)
	}
	s.upgrade(t)
	var gone, stay []*walker
	s.within("the end of those that were told", func() bool {
		gone, stay = nil, nil
		for _, w := range all {
			if w.ended.Load() {
				gone = append(gone, w)
			} else {
				stay = append(stay, w)
			}
		}
		return len(s.successors()) > 0 && s.logs(fmt.Sprintf(" told=%d ", len(gone)))
	})
	told(t, s, gone)
	c.hear(s, slices.Concat(stay, bare))
	unhurt(t, stay)
	unhurt(t, bare)
	t.Logf("%d descriptors, %d TLS connections: %d stay, %d were told; the dry run said %s told",
		files, encrypted, len(stay), len(gone), planned[1])
	if n, _ := strconv.Atoi(planned[1]); max(n-len(gone), len(gone)-n) > 10 {
		t.Errorf("the dry run said %d, %d were told", n, len(gone))
	}
	if len(gone) == 0 || len(stay) < encrypted/2 {
		t.Errorf("%d stay and %d were told", len(stay), len(gone))
	}
	unhurt(t, c.crowd(s, s.addr, "private-x", 3))
	stop()
}

// TestUpgradeRelayCosts says what a relayed connection costs.
func TestUpgradeRelayCosts(t *testing.T) {
	size, events := 200, 200
	if os.Getenv("REVERB_TEST_LONG") != "" {
		size, events = 2000, 1000
	}
	s, secure, plain := secureServer(t)
	c := &throng{t: t, secure: secure}
	var all []*walker
	for range size {
		w := c.walk(s.addr, "private-x", 0)
		w.subscribe("private-x", "")
		go w.run()
		all = append(all, w)
	}
	p := publisher(plain)
	send := func(from int) (cpu time.Duration, kB int) {
		t.Helper()
		pids := []int{s.cmd.Process.Pid}
		if n := s.newest(); n != pids[0] {
			pids = append(pids, n)
		}
		for _, pid := range pids {
			cpu -= cpuTime(t, pid)
		}
		for n := range events {
			if err := p.Trigger("private-x", "n", numbered{N: from + n, At: 1}); err != nil {
				t.Fatal(err)
			}
		}
		for _, w := range all {
			s.within(w.id+": all events", func() bool {
				return w.heard.Load() == int64(from+events-1)
			})
		}
		for _, pid := range pids {
			cpu += cpuTime(t, pid)
		}
		_, kB = resources(t, pids[0])
		return cpu, kB
	}
	c.hearSubscribed(s, plain, all)
	direct, before := send(1)
	s.upgrade(t)
	relayed, after := send(1 + events)
	unhurt(t, all)
	deliveries := time.Duration(size * events)
	_, newest := resources(t, s.newest())
	t.Logf("%d TLS connections, %d events: a delivery costs %v of CPU, relayed %v; the server "+
		"had %d kB, the relay has %d kB (%d bytes a connection), the successor %d kB", size, events,
		direct/deliveries, relayed/deliveries, before, after, after*1024/size, newest)
}

// hearSubscribed waits until a channel has all of them.
func (c *throng) hearSubscribed(s *server, addr string, all []*walker) {
	c.t.Helper()
	p := publisher(addr)
	s.within("all subscriptions", func() bool {
		info := "subscription_count"
		got, err := p.Channel("private-x", pusher.ChannelParams{Info: &info})
		return err == nil && got.SubscriptionCount == len(all)
	})
}

// cpuTime is the CPU time of a process.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// logs says whether the server has logged a text.
func (s *server) logs(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(strings.Join(s.log, "\n"), text)
}

// --- Restarts ---

// TestUpgradeSignals upgrades by SIGUSR2 and by php artisan reverb:restart.
func TestUpgradeSignals(t *testing.T) {
	t.Parallel()
	const file = "storage/framework/cache/data/4f/e4/4fe44729b03e0a0a2586ebe0d445f50c083d0ff3"
	dir := t.TempDir()
	put(t, dir, "artisan", "#!/usr/bin/env php\n")
	put(t, dir, ".env", "APP_NAME=laravel\n")
	put(t, dir, file, laravelFiles(t)["file-after-1.bin"])
	s := installed(t, append(oneApp(), "REVERB_ENV_FILE="+filepath.Join(dir, ".env"),
		"CACHE_STORE=file")...)
	c := &throng{t: t}
	go c.walk(s.addr, "x", 0).run()
	for n := 1; n <= 2; n++ { // to the first process, then to the thin parent
		for begun := time.Now(); len(s.successors()) < n; {
			s.cmd.Process.Signal(syscall.SIGUSR2) // it has no effect at the very start
			time.Sleep(1100 * time.Millisecond)   // the same signal within a second counts once
			if time.Since(begun) > 20*time.Second {
				t.Fatal("SIGUSR2 has no effect")
			}
		}
	}
	was := len(s.successors())
	for n, end := 0, time.Now().Add(2*restartLimit); len(s.successors()) == was; n++ {
		if time.Now().After(end) {
			t.Fatal("php artisan reverb:restart is not seen")
		}
		put(t, dir, file, fmt.Sprintf("9999999999i:%d;", 1795711900+n))
		time.Sleep(time.Second)
	}
	s.says("upgrading, as php artisan reverb:restart was called")
	unhurt(t, c.all)
}

// --- Clients ---

// TestUpgradeBrowser upgrades a server with pages in Chromium, directly and through proxies.
func TestUpgradeBrowser(t *testing.T) {
	needNode(t)
	need(t, "chromium")
	s := installed(t, append(oneApp(), "REVERB_TRUSTED_PROXIES=127.0.0.1",
		"REVERB_COMPRESSION=true", "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=all")...)
	addrs := []string{s.addr}
	if _, err := exec.LookPath("nginx"); err == nil {
		addrs = append(addrs, startNginx(t, s.addr, "", "60s"))
	}
	if _, err := exec.LookPath("haproxy"); err == nil {
		addrs = append(addrs, startHAProxy(t, s.addr, "", "60s", "check"))
	}
	var ports []string
	for _, addr := range addrs {
		_, port, _ := net.SplitHostPort(addr)
		ports = append(ports, port)
	}
	upgrades := "3"
	if os.Getenv("REVERB_TEST_LONG") != "" {
		upgrades = "20"
	}
	cmd := command("node", "--test", "--test-force-exit", "clients/upgrade.browser.mjs")
	cmd.Env = append(os.Environ(), "REVERB_BINARY="+s.cmd.Path, "REVERB_UPGRADES="+upgrades,
		"REVERB_PORTS="+strings.Join(ports, ","), "REVERB_ENV_FILE=/dev/null",
		"REVERB_SERVER_HOST=127.0.0.1")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.Fatalf("%v\n%s\n%s", err, out, strings.Join(s.log, "\n"))
	}
	if n := len(s.successors()); strconv.Itoa(n) != upgrades {
		t.Errorf("%d upgrades, want %s", n, upgrades)
	}
}
