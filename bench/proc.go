//go:build linux

package main

// Processes: the measured servers, the client, and their figures in /proc.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// --- What a process uses ---

// cpuTime is the processor time that all threads of a process have used, ended ones
// included. Process 0 has used none.
func cpuTime(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	var t unix.Timespec
	clock := int32(^pid<<3 | 2) // clock_getcpuclockid(3): CPUCLOCK_SCHED of the process
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// rss is the resident memory of a process in bytes.
func rss(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm: %q", pid, b)
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// kernelMemory is how many bytes the kernel holds for all sockets of the machine: the slabs that a
// socket needs, and the pages of socket buffers.
func kernelMemory() (int64, error) {
	total := int64(0)
	b, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		return 0, err
	}
	// name active_objs num_objs objsize objperslab pagesperslab : tunables … : slabdata
	// active_slabs num_slabs sharedavail
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 15 {
			continue
		}
		switch f[0] {
		case "TCP", "TCPv6", "sock_inode_cache", "filp", "dentry", "eventpoll_epi", "eventpoll_pwq",
			"ep_head",
			"tcp_bind_bucket", "tcp_bind2_bucket", "skbuff_head_cache", "skbuff_fclone_cache",
			"skbuff_small_head", "lsm_file_cache", "lsm_inode_cache":
			pages, err1 := strconv.ParseInt(f[5], 10, 64)
			slabs, err2 := strconv.ParseInt(f[14], 10, 64)
			if err := errors.Join(err1, err2); err != nil {
				return 0, fmt.Errorf("/proc/slabinfo: %w", err)
			}
			total += pages * slabs * int64(os.Getpagesize())
		}
	}
	b, err = os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(b), "TCP:")
	_, after, ok := strings.Cut(after, " mem ")
	if !ok {
		return 0, fmt.Errorf("/proc/net/sockstat: %q", b)
	}
	after, _, _ = strings.Cut(after, "\n")
	pages, err := strconv.ParseInt(strings.TrimSpace(after), 10, 64)
	return total + pages*int64(os.Getpagesize()), err
}

// busy is the processor time that the whole machine has used since it started.
func busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	ticks := int64(0)
	for i, s := range strings.Fields(line)[1:] {
		if i == 3 || i == 4 || i >= 8 { // idle, waiting for a disk; guests are counted as users
			continue
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil
}

// --- Servers ---

// server is a measured process.
type server struct {
	name  string
	addr  string
	admin string
	pid   int
	cmd   *exec.Cmd // nil when it was running before
	log   *tail
}

// tail keeps the end of the output of a process.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - 4096; n > 0 {
		t.b = t.b[n:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}

// startProcess starts a server and waits until it prints its address.
func startProcess(name, path string, args, env []string) (*server, error) {
	s := &server{name: name, cmd: exec.Command(path, args...), log: &tail{}}
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	for _, v := range []string{"GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG"} {
		if value, ok := os.LookupEnv(v); ok {
			s.cmd.Env = append(s.cmd.Env, v+"="+value)
		}
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.pid = s.cmd.Process.Pid
	r := bufio.NewReader(io.TeeReader(stderr, s.log))
	for s.addr == "" {
		line, err := r.ReadString('\n')
		if err != nil {
			s.stop()
			return nil, fmt.Errorf("%s does not listen: %s", name, s.log)
		}
		if _, after, ok := strings.Cut(line, "listening on "); ok {
			s.addr = strings.TrimSpace(after)
			if i := strings.IndexAny(s.addr, "\" /,"); i >= 0 {
				s.addr = s.addr[:i]
			}
		}
	}
	go io.Copy(io.Discard, r) // ends with the process
	return s, nil
}

// reverbEnv is the environment of a reverb to be measured.
func reverbEnv(extra ...string) []string {
	return append([]string{
		"REVERB_ENV_FILE=/dev/null", "REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT=0",
		"REVERB_SHUTDOWN_GRACE=0",
		"REVERB_APP_ID=" + appID, "REVERB_APP_KEY=" + appKey, "REVERB_APP_SECRET=" + appSecret,
		"REVERB_LOG_LEVEL=info",
	}, extra...)
}

// stop ends a server that was started here.
func (s *server) stop() {
	if s == nil || s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// buildReverb builds the server from the folder above.
func buildReverb(dir string) (string, error) {
	path := filepath.Join(dir, "reverb")
	args := []string{"build", "-trimpath", "-tags", "nethttpomithttp2",
		"-ldflags", "-s -w -funcalign=16"}
	cold, err := os.ReadFile("../deploy/packaging/cold")
	if err != nil {
		return "", err
	}
	for _, of := range strings.Fields(string(cold)) { // as deploy/release does
		args = append(args, "-gcflags="+of+"=-l")
	}
	cmd := exec.Command("go", append(args, "-o", path, ".")...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build in the folder above: %w\n%s", err, bytes.TrimSpace(out))
	}
	return path, nil
}

func freeAddr() (string, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// --- The client process ---

type clientProcess struct {
	cmd *exec.Cmd
	rpc *rpc.Client
}

func startClient() (*clientProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &clientProcess{cmd: exec.Command(self, "client")}
	c.cmd.Env = append(os.Environ(), commandVariable+"=1")
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the client: %w", err)
	}
	c.rpc = rpc.NewClient(struct {
		io.Reader
		io.WriteCloser
	}{out, in})
	return c, nil
}

func (c *clientProcess) stop() {
	c.rpc.Close()
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// open opens connections, all of which must succeed.
func (c *clientProcess) open(args OpenArgs) (OpenReply, error) {
	var r OpenReply
	if err := c.rpc.Call("Client.Open", args, &r); err != nil {
		return r, err
	}
	return r, r.err()
}

// run publishes; every event must arrive once and in order.
func (c *clientProcess) run(args RunArgs) (RunReply, error) {
	var r RunReply
	if err := c.rpc.Call("Client.Run", args, &r); err != nil {
		return r, err
	}
	members := args.Members
	return r, r.err(members)
}

func (c *clientProcess) closeAll() error {
	return c.rpc.Call("Client.CloseAll", struct{}{}, &struct{}{})
}
