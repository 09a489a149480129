package supervise

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// helping is the variable that makes the test program a server: so many upgrades it goes through.
const helping = "SUPERVISE_TEST"

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(helping)); err == nil {
		os.Exit(serve(n))
	}
	if os.Getenv(helping) == "orphan" {
		orphan()
		return
	}
	os.Exit(m.Run())
}

// say writes a line in one piece: several processes write to one pipe.
func say(format string, args ...any) {
	os.Stdout.WriteString(fmt.Sprintf(format, args...) + "\n")
}

// serve is a server that goes through upgrades. It says
//
//	up GENERATION PID PPID FOUND WATCHDOG NAME    it is ready
//	signal NAME                                   SIGHUP, SIGUSR1 or SIGUSR2 has come
//	stopping                                      it has been asked to end
//	holds BYTES                                   the memory that it has as the server
//	parent PID                                    it is the thin parent now
//	passed SIGNAL                                 the thin parent has passed a signal on
//	ended PID                                     the thin parent has reaped a process
//
// A newest takes lines of the test on its standard input. At the end of the input it ends with code
// 7.
func serve(upgrades int) (code int) {
	r, rest, err := New(os.Args, os.Environ())
	if err != nil {
		say("new: %v", err)
		return 99
	}
	generation := 0
	if c := r.Predecessor(); c != nil {
		if _, err := fmt.Fscanln(c, &generation); err != nil {
			return 95
		}
		generation++
	}
	ctx := r.Context(context.Background())
	hup := make(chan os.Signal, 4)
	r.Notify(hup, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	name, _ := os.ReadFile("/proc/self/comm")
	getenv := lookup(rest)
	say("up %d %d %d %s %q %s", generation, os.Getpid(), os.Getppid(), r.Found(),
		getenv("WATCHDOG_PID")+getenv("LISTEN_FDS")+getenv("SYSTEMD_EXEC_PID"),
		strings.TrimSpace(string(name)))
	if c := r.Predecessor(); c != nil {
		if _, err := r.Start(); err == nil || !strings.HasSuffix(err.Error(), "in a moment") {
			say("a start before its time: %v", err)
		}
		fmt.Fprintln(c, "ready")
		var yours string
		if _, err := fmt.Fscanln(c, &yours); err != nil {
			return 96
		}
		r.Settle()
	}
	if generation < upgrades {
		return upgrade(ctx, r, generation)
	}
	go func() {
		for s := range hup {
			say("signal %v", s)
		}
	}()
	go func() {
		<-ctx.Done()
		say("stopping")
	}()
	return obey()
}

func upgrade(ctx context.Context, r *Role, generation int) (code int) {
	c, err := r.Start()
	if err != nil {
		say("start: %v", err)
		return 98
	}
	if _, err := r.Start(); err == nil || !strings.HasSuffix(err.Error(), "wait for it") {
		say("a second start: %v", err)
	}
	fmt.Fprintln(c.Conn, generation)
	var ready string
	if _, err := fmt.Fscanln(c.Conn, &ready); err != nil {
		say("not ready: %v", err)
	}
	stay, err := r.PassOn(c)
	if err != nil {
		say("pass on: %v", err)
		return 97
	}
	if _, err := r.Start(); err == nil || !strings.HasSuffix(err.Error(), "ask that one") {
		say("a start after the end: %v", err)
	}
	fmt.Fprintln(c.Conn, "yours")
	if stay != (generation == 0 && r.Found() != foundSystemd) {
		say("stay: %v", stay)
	}
	if !stay && generation == 1 && os.Getenv(before) == "relaying" {
		<-r.orphaned // a relay outlives its successors
	}
	if !stay {
		return 0
	}
	switch os.Getenv(before) {
	case "holding":
		b := bytes.Repeat([]byte("x"), 64<<20)
		say("holds %d", resident("self"))
		runtime.KeepAlive(b)
	case "stopping":
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
		<-ctx.Done()
	}
	return r.Parent(ctx, c, slog.New(sayer{}))
}

// before is the variable that says what a process does before it becomes the thin parent: it uses
// 64 MiB (holding), or gets SIGTERM (stopping). With relaying, the first successor does not end
// when it has passed its place on.
const before = "SUPERVISE_TEST_BEFORE"

// resident is how many bytes of memory a process has.
func resident(pid string) (n int) {
	b, _ := os.ReadFile("/proc/" + pid + "/statm")
	if f := strings.Fields(string(b)); len(f) > 1 {
		n, _ = strconv.Atoi(f[1])
	}
	return n * os.Getpagesize()
}

// sayer is a log that says what the test waits for.
type sayer struct{ slog.Handler }

func (sayer) Enabled(context.Context, slog.Level) bool { return true }

func (sayer) Handle(_ context.Context, record slog.Record) error {
	attrs := map[string]string{}
	record.Attrs(func(a slog.Attr) bool {
		attrs[a.Key] = a.Value.String()
		return true
	})
	switch record.Message {
	case "this process stays as the parent of its successors":
		say("parent %s", attrs["pid"])
	case "passed a signal on":
		say("passed %s", attrs["signal"])
	case "a process has ended":
		say("ended %s", attrs["pid"])
	default:
		say("log: %s %v", record.Message, attrs)
	}
	return nil
}

// obey does what the test says.
func obey() (code int) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "exit":
			code, _ = strconv.Atoi(rest)
			return code
		case "orphan": // a process that starts another one and ends
			h := exec.Command("/proc/self/exe")
			h.Env = []string{helping + "=orphan", "GORACE=atexit_sleep_ms=0"}
			h.Stdout = os.Stdout
			if err := h.Run(); err != nil {
				say("orphan: %v", err)
			}
		}
	}
	return 7
}

// orphan starts a process and ends. That process waits until it has another parent, says who that
// is, and ends.
func orphan() {
	if len(os.Args) == 1 {
		h := exec.Command("/proc/self/exe", strconv.Itoa(os.Getpid()))
		h.Env, h.Stdout = os.Environ(), os.Stdout
		if err := h.Start(); err != nil {
			say("orphan: %v", err)
		}
		return
	}
	for strconv.Itoa(os.Getppid()) == os.Args[1] {
		runtime.Gosched()
	}
	say("orphan %d %d", os.Getpid(), os.Getppid())
}

// run is a server that a test has started.
type run struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *os.File
	lines *bufio.Reader  // of out
	early []string       // lines that no test has waited for yet
	count map[string]int // all lines, by the first word
}

// begin starts a copy of this program as a server that goes through upgrades.
func begin(t *testing.T, upgrades int, change func(cmd *exec.Cmd)) *run {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "reverb")
	text, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(program, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, cmd: exec.Command(program, "start"), count: map[string]int{}}
	r.cmd.Env = []string{helping + "=" + strconv.Itoa(upgrades), "GORACE=atexit_sleep_ms=0"}
	r.cmd.Stderr = os.Stderr
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if change(r.cmd); r.cmd.Path != program && r.cmd.Path != "/bin/sh" {
		t.Fatal("another program")
	}
	out, to, err := os.Pipe() // of all generations, while Wait waits for the first
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout, r.out, r.lines = to, out, bufio.NewReader(out)
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	to.Close()
	t.Cleanup(func() {
		syscall.Kill(-r.cmd.Process.Pid, syscall.SIGKILL)
		r.cmd.Wait()
		out.Close()
	})
	return r
}

func plain(*exec.Cmd) {}

// expect waits for a line that begins so, and returns the rest. Lines of several processes come in
// any order: those that are not wanted yet are kept.
func (r *run) expect(prefix string) string {
	r.t.Helper()
	for i, line := range r.early {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			r.early = slices.Delete(r.early, i, i+1)
			return rest
		}
	}
	for {
		line, err := r.line()
		if err != nil {
			r.t.Fatalf("waiting for %q: %v", prefix, err)
		}
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return rest
		}
		r.early = append(r.early, line)
	}
}

// patience bounds the wait for a line of a server, so that a test fails that would wait for ever.
const patience = 20 * time.Second

// line reads a line.
func (r *run) line() (line string, err error) {
	r.t.Helper()
	r.out.SetReadDeadline(time.Now().Add(patience))
	line, err = r.lines.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	word, _, _ := strings.Cut(line, " ")
	r.count[word]++
	switch word {
	case "up", "signal", "stopping", "holds", "parent", "passed", "ended", "orphan", "pass":
	default:
		r.t.Errorf("a server says: %s", line)
	}
	return line, nil
}

// up waits until a generation is up.
func (r *run) up(generation int) (pid, ppid int, rest string) {
	r.t.Helper()
	line := r.expect(fmt.Sprint("up ", generation, " "))
	f := strings.SplitN(line, " ", 3)
	pid, _ = strconv.Atoi(f[0])
	ppid, _ = strconv.Atoi(f[1])
	return pid, ppid, f[2]
}

// wait waits for the end of the first process and of everybody who writes, and returns the code.
func (r *run) wait() (code int) {
	r.t.Helper()
	for err := error(nil); err != io.EOF; {
		if _, err = r.line(); errors.Is(err, os.ErrDeadlineExceeded) {
			r.t.Fatal("a server does not end")
		}
	}
	r.cmd.Wait()
	state := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if state.Signaled() {
		return -int(state.Signal())
	}
	return state.ExitStatus()
}

func (r *run) kill(pid int, s syscall.Signal) {
	r.t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		r.t.Fatal(err)
	}
}

// TestThinParent goes through two upgrades, and sends a signal to the first process.
func TestThinParent(t *testing.T) {
	r := begin(t, 2, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "LISTEN_FDS=x", "WATCHDOG_PID=y", "SYSTEMD_EXEC_PID=z")
	})
	first, ppid, what := r.up(0)
	if first != r.cmd.Process.Pid || ppid != os.Getpid() || what != `shell "yxz" reverb` {
		t.Errorf("the first: got %d, %d, %s", first, ppid, what)
	}
	second, ppid, what := r.up(1)
	if ppid != first || what != `shell "" reverb` {
		t.Errorf("the second: got the parent %d and %s, want %d", ppid, what, first)
	}
	third, ppid, what := r.up(2)
	if ppid != first || what != `shell "" reverb` {
		t.Errorf("the third: got the parent %d and %s, want %d", ppid, what, first)
	}
	r.expect(fmt.Sprint("ended ", second)) // reaped, and the first goes on
	r.kill(first, syscall.SIGHUP)
	r.expect("passed hangup")
	r.expect("signal hangup")
	r.kill(first, syscall.SIGTERM)
	r.expect("stopping")
	if r.in.Close(); r.wait() != 7 {
		t.Errorf("got %v, want the code 7 of process %d", r.cmd.ProcessState, third)
	}
	if r.count["signal"] != 1 || r.count["passed"] != 2 || r.count["stopping"] != 1 {
		t.Errorf("got %v", r.count)
	}
}

// TestRelay has a successor that stays after an upgrade, as a relay does. So nothing but the end of
// its own successor tells the thin parent of the next upgrade.
func TestRelay(t *testing.T) {
	r := begin(t, 3, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, before+"=relaying") })
	first, _, _ := r.up(0)
	r.up(1)
	second, _, _ := r.up(2)
	r.up(3)
	r.expect(fmt.Sprint("ended ", second))
	r.kill(first, syscall.SIGTERM)
	r.expect("stopping")
	if r.in.Close(); r.wait() != 7 {
		t.Errorf("got %v, want the code 7 of the third successor", r.cmd.ProcessState)
	}
}

// TestCodes ends the newest in several ways, the first successor and the second.
func TestCodes(t *testing.T) {
	for _, upgrades := range []int{1, 2} {
		for name, c := range map[string]struct {
			end  func(r *run, newest int)
			code int
		}{
			"code 0":  {func(r *run, _ int) { fmt.Fprintln(r.in, "exit 0") }, 0},
			"code 3":  {func(r *run, _ int) { fmt.Fprintln(r.in, "exit 3") }, 3},
			"SIGKILL": {func(r *run, pid int) { r.kill(pid, syscall.SIGKILL) }, 137},
			"two different signals": {func(r *run, _ int) {
				r.kill(r.cmd.Process.Pid, syscall.SIGTERM)
				r.expect("stopping")
				r.kill(r.cmd.Process.Pid, syscall.SIGINT)
			}, 130},
		} {
			t.Run(fmt.Sprint(name, upgrades), func(t *testing.T) {
				r := begin(t, upgrades, plain)
				newest, _, _ := r.up(upgrades)
				r.settled(upgrades)
				c.end(r, newest)
				if code := r.wait(); code != c.code {
					t.Errorf("got the code %d, want %d", code, c.code)
				}
			})
		}
	}
}

// settled waits until the first process is the thin parent of the newest.
func (r *run) settled(upgrades int) {
	r.t.Helper()
	if upgrades > 1 {
		r.expect("ended ")
	} else {
		r.expect("parent ")
	}
	r.kill(r.cmd.Process.Pid, syscall.SIGHUP)
	r.expect("passed hangup")
	r.expect("signal hangup")
}

// TestGroup sends signals to the whole group, as Supervisor's stopasgroup and a terminal do. Both
// the thin parent and the newest get them, and each counts once.
func TestGroup(t *testing.T) {
	r := begin(t, 2, plain)
	r.up(2)
	r.expect("ended ")
	group := -r.cmd.Process.Pid
	r.kill(group, syscall.SIGHUP)
	r.expect("passed hangup")
	r.expect("signal hangup")
	r.kill(group, syscall.SIGTERM)
	r.expect("passed terminated")
	r.expect("stopping")
	fmt.Fprintln(r.in, "exit 4")
	if code := r.wait(); code != 4 {
		t.Errorf("got the code %d, want 4: the second SIGTERM has counted", code)
	}
	if r.count["signal"] != 1 || r.count["passed"] != 2 || r.count["stopping"] != 1 {
		t.Errorf("got %v", r.count)
	}
}

// TestEcho sends the same signal to the newest and then to its parent. Others follow, so that the
// newest has seen the second one.
func TestEcho(t *testing.T) {
	r := begin(t, 1, plain)
	newest, _, _ := r.up(1)
	r.settled(1)
	r.kill(newest, syscall.SIGTERM)
	r.expect("stopping")
	r.kill(r.cmd.Process.Pid, syscall.SIGTERM)
	r.expect("passed terminated")
	for _, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2} {
		r.kill(newest, s)
		r.expect("signal " + s.String())
	}
	fmt.Fprintln(r.in, "exit 4")
	if code := r.wait(); code != 4 {
		t.Errorf("got the code %d, want 4: the echo has counted", code)
	}
}

// TestSignalBefore sends SIGTERM to a process that is about to become the thin parent: the
// successor gets it.
func TestSignalBefore(t *testing.T) {
	r := begin(t, 1, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, before+"=stopping") })
	r.expect("passed terminated")
	r.expect("stopping")
	r.in.Close()
	if code := r.wait(); code != 7 {
		t.Errorf("got the code %d, want 7", code)
	}
}

// TestParentKilled kills the thin parent: the newest ends, and so does everything.
func TestParentKilled(t *testing.T) {
	for _, upgrades := range []int{1, 2} {
		r := begin(t, upgrades, plain)
		r.up(upgrades)
		r.settled(upgrades)
		r.kill(r.cmd.Process.Pid, syscall.SIGKILL)
		r.expect("stopping")
		r.in.Close()
		if code := r.wait(); code != -9 { // it returns when nobody has the pipe any more
			t.Errorf("got %d", code)
		}
	}
}

// TestParentKilledWhileStopping kills the thin parent of a newest that does not end.
func TestParentKilledWhileStopping(t *testing.T) {
	r := begin(t, 1, plain)
	r.up(1)
	r.settled(1)
	r.kill(r.cmd.Process.Pid, syscall.SIGTERM)
	r.expect("stopping")
	r.kill(r.cmd.Process.Pid, syscall.SIGKILL)
	r.wait() // in would keep it
}

// TestOrphans makes an orphan below the newest: it becomes a child of the thin parent, which reaps
// it.
func TestOrphans(t *testing.T) {
	r := begin(t, 1, plain)
	r.up(1)
	r.settled(1)
	fmt.Fprintln(r.in, "orphan")
	var pid, ppid int
	fmt.Sscan(r.expect("orphan "), &pid, &ppid)
	if ppid != r.cmd.Process.Pid {
		t.Errorf("the parent of the orphan is %d, want %d", ppid, r.cmd.Process.Pid)
	}
	r.expect(fmt.Sprint("ended ", pid))
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("the orphan is still there: %v", err)
	}
	r.in.Close()
	if code := r.wait(); code != 7 {
		t.Errorf("got %d", code)
	}
}

// TestMemory lets a process with much memory become a thin parent: it gives the memory back.
func TestMemory(t *testing.T) {
	r := begin(t, 1, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, before+"=holding") })
	held, err := strconv.Atoi(r.expect("holds "))
	if err != nil {
		t.Fatal(err)
	}
	r.settled(1)
	left := resident(strconv.Itoa(r.cmd.Process.Pid))
	if held-left < 60<<20 {
		t.Errorf("the parent has %d KiB, the server had %d", left>>10, held>>10)
	}
	t.Logf("the parent has %d KiB, the server had %d", left>>10, held>>10)
	r.in.Close()
	r.wait()
}

// TestInit lets the first process be process 1 of a namespace, as in a container.
func TestInit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a namespace")
	}
	r := begin(t, 2, func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	})
	if pid, ppid, what := r.up(0); pid != 1 || ppid != 0 || what != `container init "" reverb` {
		t.Errorf("got %d, %d, %s", pid, ppid, what)
	}
	if _, ppid, what := r.up(2); ppid != 1 || what != `container init "" reverb` {
		t.Errorf("got %d, %s", ppid, what)
	}
	r.settled(2)
	fmt.Fprintln(r.in, "orphan")
	var pid, ppid int
	fmt.Sscan(r.expect("orphan "), &pid, &ppid)
	if ppid != 1 {
		t.Errorf("the parent of the orphan is %d", ppid)
	}
	r.expect(fmt.Sprint("ended ", pid))
	r.kill(r.cmd.Process.Pid, syscall.SIGTERM)
	r.expect("stopping")
	r.in.Close()
	if code := r.wait(); code != 7 {
		t.Errorf("got %d", code)
	}
}

// TestSupervisor is told by Supervisor's variable.
func TestSupervisor(t *testing.T) {
	r := begin(t, 1, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "SUPERVISOR_ENABLED=1") })
	first, _, _ := r.up(0)
	if _, ppid, what := r.up(1); ppid != first || what != `supervisor "" reverb` {
		t.Errorf("got %d, %s", ppid, what)
	}
	r.in.Close()
	if code := r.wait(); code != 7 {
		t.Errorf("got %d", code)
	}
}

// TestSystemd plays systemd: it has started the first process, and it is told of each next one,
// which is its own child.
func TestSystemd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	r := begin(t, 2, func(cmd *exec.Cmd) {
		// systemd says the number of the process, which only the process itself knows here
		cmd.Args = []string{"sh", "-c", `SYSTEMD_EXEC_PID=$$ exec "$0" start`, cmd.Path}
		cmd.Path = "/bin/sh"
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+socket)
	})
	first, _, what := r.up(0)
	if want := fmt.Sprintf(`systemd "%d" reverb`, first); what != want {
		t.Errorf("the first: got %s, want %s", what, want)
	}
	second, ppid, what := r.up(1)
	if ppid != os.Getpid() || what != `systemd "" reverb` {
		t.Errorf("the second: got the parent %d and %s, want %d", ppid, what, os.Getpid())
	}
	third, ppid, what := r.up(2)
	if ppid != os.Getpid() || what != `systemd "" reverb` {
		t.Errorf("the third: got the parent %d and %s, want %d", ppid, what, os.Getpid())
	}
	for _, pid := range []int{second, third} {
		b := make([]byte, 100)
		n, err := notify.Read(b)
		if want := fmt.Sprint("MAINPID=", pid); err != nil || string(b[:n]) != want {
			t.Errorf("got %q, %v, want %s", b[:n], err, want)
		}
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(second, &status, 0, nil); err != nil || status != 0 {
		t.Errorf("the second: got %v, %v", status, err)
	}
	r.kill(third, syscall.SIGTERM)
	r.expect("stopping")
	r.in.Close()
	if _, err := syscall.Wait4(third, &status, 0, nil); err != nil || status.ExitStatus() != 7 {
		t.Errorf("the third: got %v, %v", status, err)
	}
	if code := r.wait(); code != 0 {
		t.Errorf("the first: got %d", code)
	}
}

// TestSystemdGone cannot tell systemd of the successor: the process keeps its place.
func TestSystemdGone(t *testing.T) {
	r := begin(t, 1, func(cmd *exec.Cmd) {
		cmd.Args = []string{"sh", "-c", `SYSTEMD_EXEC_PID=$$ exec "$0" start`, cmd.Path}
		cmd.Path = "/bin/sh"
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET=/nowhere/notify")
	})
	second, _, _ := r.up(1)
	if why := r.expect("pass on: "); !strings.Contains(why, ": notify the service manager: ") {
		t.Errorf("got %s", why)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(second, &status, 0, nil); err != nil || status.ExitStatus() != 96 {
		t.Errorf("the second: got %v, %v", status, err)
	}
	if code := r.wait(); code != 97 {
		t.Errorf("got %d", code)
	}
}

// TestStartFails starts nothing that works: the process keeps its place, and may try again.
func TestStartFails(t *testing.T) {
	dir := t.TempDir()
	r := &Role{found: foundShell, args: []string{"reverb"}, program: filepath.Join(dir, "reverb"),
		environ: []string{helping + "=x"}}
	before := open(t)
	for _, c := range []struct{ text, want string }{
		{"", "reverb is empty: put the new version there once more"},
		{"\x7fELF", "reverb is not a program for this machine: take the one for its processor"},
	} {
		if err := os.WriteFile(r.program, []byte(c.text), 0o755); err != nil {
			t.Fatal(err)
		}
		child, err := r.Start()
		if err == nil || child != nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("got %v, %v", child, err)
		}
	}
	if err := r.Judge(); err != nil {
		t.Error(err)
	}
	// A successor that ends at once: the next start finds the place free.
	text, err := os.ReadFile("/bin/true")
	if err == nil {
		err = os.WriteFile(r.program, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		child, err := r.Start()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := child.Conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %d bytes, %v, want the end", n, err)
		}
		if code, known := child.Code(); code != 0 || !known {
			t.Errorf("got %d, %v", code, known)
		}
		if _, err := r.PassOn(child); err == nil || !strings.HasSuffix(err.Error(), "has ended") {
			t.Errorf("the place is passed on to a process that has ended: %v", err)
		}
	}
	if r.child.Kill(); open(t) > before {
		t.Errorf("%d descriptors are open, before it were %d", open(t), before)
	}
	if _, err := r.PassOn(&Child{}); err == nil {
		t.Error("another process has the place")
	}
	r.unknown, r.program = os.ErrNotExist, ""
	if err := r.Judge(); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// open counts open descriptors.
func open(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestHear tells a thin parent what is no line of a successor, and what is not its child.
func TestHear(t *testing.T) {
	for line, over := range map[string]bool{"": false, "newest": false, "newest x": false,
		"newest 0": false, "newest -1": false, "newest 1": false, "newest 99999999999999999": false,
		"oldest 70": false, fmt.Sprint("newest ", os.Getpid()): true} {
		p := &thin{newest: 5, log: slog.New(slog.DiscardHandler)}
		p.hear(line)
		if p.over != over || !over && p.newest != 5 || over && p.code != 1 {
			t.Errorf("%q: got %+v", line, p)
		}
	}
}

// TestNotifyWithoutParent sends a signal twice to a process without a thin parent: both count.
func TestNotifyWithoutParent(t *testing.T) {
	r := &Role{}
	c := make(chan os.Signal, 4)
	stop := r.Notify(c, unix.SIGWINCH)
	defer signal.Reset(unix.SIGWINCH)
	for range 2 {
		if err := syscall.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
			t.Fatal(err)
		}
		if s := <-c; s != unix.SIGWINCH {
			t.Errorf("got %v", s)
		}
	}
	stop()
}
