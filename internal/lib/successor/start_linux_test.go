package successor

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// helping is the variable that makes the test program a helper: a process that a test starts.
const helping = "SUCCESSOR_TEST"

func TestMain(m *testing.M) {
	if what := os.Getenv(helping); what != "" {
		help(what)
		return
	}
	os.Exit(m.Run())
}

// help is the helper. It says on its standard output what it finds.
func help(what string) {
	switch what {
	case "open":
		for _, path := range os.Args[1:] {
			p, err := Open(path)
			if fmt.Println(err); err == nil {
				p.Close()
			}
		}
	case "find later":
		io.ReadAll(os.Stdin)
		fallthrough
	case "find":
		path, err := Find(os.Args[0])
		if err != nil {
			path = err.Error()
		}
		fmt.Println(path)
	case "successor":
		successor()
	case "between":
		between()
	case "full":
		full()
	}
}

// successor tells over the passed socket, SUCCESSOR_SOCKET, how it was started: its arguments, its
// environment, what is open, its number, that of its parent, its group and its name. Then it waits
// for a line: an exit code, or signal and a number.
func successor() {
	c, rest, err := Take(os.Environ(), "SUCCESSOR_SOCKET")
	if err != nil || c == nil {
		fmt.Println("no socket:", err)
		os.Exit(9)
	}
	if err := Name("/some/where/reverb"); err != nil {
		fmt.Println(err)
	}
	name, _ := os.ReadFile("/proc/self/comm")
	fmt.Fprintf(c, "%q\n%q\n%q\n%d %d %d %s", os.Args, rest, openFiles(), os.Getpid(), os.Getppid(),
		syscall.Getpgrp(), name)
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		os.Exit(8) // the predecessor has ended
	}
	if s, ok := strings.CutPrefix(line, "signal "); ok {
		n, _ := strconv.Atoi(strings.TrimSpace(s))
		unix.Kill(os.Getpid(), syscall.Signal(n))
		select {}
	}
	code, _ := strconv.Atoi(strings.TrimSpace(line))
	os.Exit(code)
}

// openFiles lists what is open: number and file. What the runtime has opened has no number, as it
// comes and goes.
func openFiles() (all []string) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		switch {
		case err != nil: // the folder itself
		case strings.HasPrefix(link, "anon_inode:[event"),
			strings.HasPrefix(link, "/sys/fs/cgroup/"):
		case strings.HasPrefix(link, "socket:"):
			all = append(all, "socket")
		default:
			all = append(all, e.Name()+" "+link)
		}
	}
	return all
}

// between starts a sibling for the test, and tells its end.
func between() {
	p, err := Open(os.Args[1])
	if err != nil {
		fmt.Println(err)
		return
	}
	ours, theirs, err := Pair()
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := p.Start(Options{Args: []string{"sibling"}, Sibling: true,
		Environ: []string{helping + "=successor"},
		Pass:    []Passed{{"SUCCESSOR_SOCKET", theirs}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	theirs.Close()
	go io.Copy(os.Stdout, ours)
	var code string
	fmt.Scanln(&code)
	fmt.Fprintln(ours, code)
	<-c.Done()
	fmt.Println(c.Code())
}

// full starts a program while no descriptor is left.
func full() {
	p, err := Open(os.Args[1])
	if err != nil {
		fmt.Println(err)
		return
	}
	var limit syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	limit.Cur = 20
	syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	for err == nil {
		_, err = unix.Dup(0)
	}
	_, err = p.Start(Options{Args: []string{"x"}})
	fmt.Println(err)
}

// helper is this program as a helper, without any other variable.
func (p place) helper(what string) *exec.Cmd {
	h := exec.Command("/proc/self/exe")
	h.Env = []string{helping + "=" + what, "GORACE=atexit_sleep_ms=0"}
	h.Stderr = os.Stderr
	return h
}

// copyProgram copies this program.
func (p place) copyProgram(name string) {
	p.t.Helper()
	in, err := os.Open(running)
	p.must(err)
	defer in.Close()
	out, err := os.OpenFile(p.at(name), os.O_CREATE|os.O_WRONLY, 0o755)
	p.must(err)
	_, err = io.Copy(out, in)
	p.must(err)
	p.must(out.Close())
	p.must(os.Chmod(p.at(name), 0o755))
}

// program is the path of a copy of this program.
func (p place) program() string {
	p.copyProgram("reverb")
	return p.at("reverb")
}

// asStranger makes a helper run as another user.
func asStranger(h *exec.Cmd) {
	h.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger,
		Gid: stranger}}
}

// inHelper returns what a helper says.
func inHelper(t *testing.T, what string, as func(*exec.Cmd), args ...string) string {
	t.Helper()
	h := place{t, ""}.helper(what)
	h.Args = append(h.Args, args...)
	as(h)
	out, err := h.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// begun is a successor that a test has started.
type begun struct {
	*Child
	conn  *net.UnixConn
	lines *bufio.Reader
}

// start starts a copy of this program.
func (p place) start(t *testing.T, change func(o *Options), meanwhile func()) begun {
	t.Helper()
	p.copyProgram("reverb")
	prog, err := Open(p.at("reverb"))
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	o := Options{Args: []string{"reverb", "start", "--port=1"},
		Environ: []string{helping + "=successor", "A=b=c", "SUCCESSOR_SOCKET=77"},
		Pass:    []Passed{{"SUCCESSOR_SOCKET", theirs}}}
	change(&o)
	meanwhile()
	c, err := prog.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Kill()
		ours.Close()
	})
	return begun{c, ours, bufio.NewReader(ours)}
}

func (b begun) line(t *testing.T) string {
	t.Helper()
	line, err := b.lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func nothing()           {}
func unchanged(*Options) {}

// TestStart looks at a process from within: arguments, environment, descriptors, group. The file is
// replaced by another one meanwhile, which changes nothing, and this process has descriptors that
// new programs would inherit.
func TestStart(t *testing.T) {
	p := newPlace(t)
	leak, err := os.Open("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	for range 3 {
		fd, err := unix.Dup(int(leak.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	b := p.start(t, unchanged, func() {
		p.file("new", "#!/bin/false\n", 0o777)
		p.must(os.Rename(p.at("new"), p.at("reverb")))
	})
	if got, want := b.line(t), `["reverb" "start" "--port=1"]`; got != want {
		t.Errorf("got the arguments %s, want %s", got, want)
	}
	if got, want := b.line(t), `["`+helping+`=successor" "A=b=c"]`; got != want {
		t.Errorf("got the environment %s, want %s", got, want)
	}
	var want []string
	for fd := range 3 {
		link, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprint(fd, " ", link))
	}
	if got, want := b.line(t), fmt.Sprintf("%q", append(want, "socket")); got != want {
		t.Errorf("open are %s, want %s", got, want)
	}
	if got, want := b.line(t), fmt.Sprint(b.PID, os.Getpid(), syscall.Getpgrp(),
		" reverb"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	select {
	case <-b.Done():
		t.Error("it has ended")
	default:
	}
	fmt.Fprintln(b.conn, 7)
	if code, known := b.Code(); code != 7 || !known {
		t.Errorf("got the code %d, %v, want 7", code, known)
	}
	if _, err := b.lines.ReadByte(); err != io.EOF {
		t.Errorf("got %v, want the end of the socket", err)
	}
}

// TestCloseOnExec marks a descriptor that new programs would inherit, with and without close_range.
func TestCloseOnExec(t *testing.T) {
	for name, mark := range map[string]func(){"range": closeOnExec, "each": closeEachOnExec} {
		fd, err := unix.Dup(1)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		mark()
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: got %d, %v", name, flags, err)
		}
		if flags, err = unix.FcntlInt(1, unix.F_GETFD, 0); err != nil || flags != 0 {
			t.Errorf("%s: the standard output has %d, %v", name, flags, err)
		}
	}
}

// TestEnds ends processes in several ways.
func TestEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(b begun)
		code int
	}{
		"success":     {func(b begun) { fmt.Fprintln(b.conn, 0) }, 0},
		"a signal":    {func(b begun) { fmt.Fprintln(b.conn, "signal 9") }, 137},
		"SIGTERM":     {func(b begun) { b.Signal(syscall.SIGTERM) }, 143},
		"Kill":        {func(b begun) { b.Kill() }, 137},
		"Kill, twice": {func(b begun) { b.Kill(); b.Kill() }, 137},
		"the predecessor is gone": {func(b begun) {
			b.line(t)
			b.conn.Close()
		}, 8},
	} {
		t.Run(name, func(t *testing.T) {
			b := newPlace(t).start(t, unchanged, nothing)
			b.line(t) // it runs
			c.end(b)
			if code, known := b.Code(); code != c.code || !known {
				t.Errorf("got %d, %v, want %d", code, known, c.code)
			}
		})
	}
}

// TestReaped lets the caller reap the process.
func TestReaped(t *testing.T) {
	c := &Child{done: make(chan struct{}), pidfd: -1}
	c.Reaped(3)
	c.Reaped(4)
	if code, known := c.Code(); code != 3 || !known {
		t.Errorf("got %d, %v", code, known)
	}
}

// TestSibling starts a process from another one, and reaps it here.
func TestSibling(t *testing.T) {
	p := newPlace(t)
	p.copyProgram("reverb")
	h := p.helper("between")
	h.Args = append(h.Args, p.at("reverb"))
	in, err := h.StdinPipe()
	p.must(err)
	out, err := h.StdoutPipe()
	p.must(err)
	p.must(h.Start())
	lines := bufio.NewReader(out)
	line := func() string {
		s, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(s, err)
		}
		return strings.TrimSpace(s)
	}
	for range 3 {
		line()
	}
	var pid, ppid, group int
	fmt.Sscan(line(), &pid, &ppid, &group)
	if ppid != os.Getpid() || pid == h.Process.Pid || group != syscall.Getpgrp() {
		t.Errorf("got the process %d with the parent %d in the group %d", pid, ppid, group)
	}
	fmt.Fprintln(in, 5)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || ExitCode(status) != 5 {
		t.Errorf("got %v, %v, want 5", status, err)
	}
	if got := line(); got != "-1 false" {
		t.Errorf("the other process has got %s", got)
	}
	p.must(h.Wait())
}

// TestStartFails lists files that are accepted and cannot be executed.
func TestStartFails(t *testing.T) {
	p := newPlace(t)
	p.file("garbage", elf, 0o755)
	p.copyProgram("busy")
	busy, err := os.OpenFile(p.at("busy"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, want := range map[string]string{
		"garbage": " is not a program for this machine: take the one for its processor",
		"busy": " is being written: wait until it was copied, or rename the finished file to " +
			"that name",
	} {
		for _, sibling := range []bool{false, true} {
			prog, err := Open(p.at(name))
			if err != nil {
				t.Fatal(err)
			}
			_, err = prog.Start(Options{Args: []string{"x"}, Sibling: sibling})
			if err == nil || err.Error() != p.at(name)+want {
				t.Errorf("%s: got %v", name, err)
			}
			prog.Close()
		}
	}
}

// The descriptor of the program keeps its number wherever those lie that are passed.
func TestStartWithNumbers(t *testing.T) {
	p := newPlace(t)
	for name, move := range map[string]int{"low": 0, "high": 200} {
		t.Run(name, func(t *testing.T) {
			var moved []*os.File
			defer func() {
				for _, f := range moved {
					f.Close()
				}
			}()
			b := p.start(t, func(o *Options) {
				for i := range 20 {
					fd, err := unix.FcntlInt(o.Pass[0].File.Fd(), unix.F_DUPFD_CLOEXEC, move)
					if err != nil {
						t.Fatal(err)
					}
					f := os.NewFile(uintptr(fd), "")
					moved = append(moved, f)
					o.Pass = append(o.Pass, Passed{fmt.Sprint("S", i), f})
				}
				slices.Reverse(o.Pass)
			}, nothing)
			b.line(t)
			if got := b.line(t); !strings.Contains(got, `"S0=`) {
				t.Errorf("got %s", got)
			}
		})
	}
}

// TestWithoutDescriptors starts a process while no descriptor is left.
func TestWithoutDescriptors(t *testing.T) {
	out := inHelper(t, "full", func(*exec.Cmd) {}, newPlace(t).program())
	if !strings.Contains(out, "/reverb cannot be started, as no descriptor is left: ") {
		t.Errorf("got %q", out)
	}
}

// TestTakeRefuses lists what a stranger may have put into the environment.
func TestTakeRefuses(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	alone, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	number := func(c syscall.Conn) (n string) {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { n = fmt.Sprint(fd) })
		return n
	}
	for name, v := range map[string]string{"no number": "x", "negative": "-1",
		"a standard stream": "2", "closed": "987654", "too large": "99999999999999999999",
		"a file": fmt.Sprint(file.Fd()), "TCP": number(tcp.(*net.TCPListener)),
		"a listener": number(ln.(*net.UnixListener)), "datagrams": fmt.Sprint(fds[0]),
		"not connected": fmt.Sprint(alone)} {
		c, rest, err := Take([]string{"V=4", "A=b", "V=" + v}, "V")
		if err == nil || c != nil || !slices.Equal(rest, []string{"A=b"}) ||
			!strings.HasPrefix(err.Error(), fmt.Sprintf("V=%q is not a socket ", v)) {
			t.Errorf("%s: got %v, %q, %v", name, c, rest, err)
		}
	}
	if _, err := file.Stat(); err != nil {
		t.Error("what is not a socket was closed:", err)
	}
	for _, environ := range [][]string{{"A=b", "VV=3"}, {"A=b", "V=", "VV=3"}} {
		c, rest, err := Take(environ, "V")
		if c != nil || !slices.Equal(rest, []string{"A=b", "VV=3"}) || err != nil {
			t.Errorf("without the variable: got %v, %q, %v", c, rest, err)
		}
	}
}

// TestShare shares a socket, which stays as it is.
func TestShare(t *testing.T) {
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	f, err := Share(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("the socket blocks: %v", err)
	}
	if flags, err = unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil ||
		flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("new programs inherit the copy: %v", err)
	}
	ours.Close()
	if _, err := Share(ours); err == nil {
		t.Error("a closed socket is shared")
	}
}
