// Package test drives the binary as a process, with real clients.
package test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	program  string // the path of the program under test
	releases string // a folder for what deploy/release makes
)

func TestMain(m *testing.M) {
	if runHelper() || runBetween() { // this process is a part of a test
		return
	}
	dir, err := os.MkdirTemp("", "reverb-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program, releases = filepath.Join(dir, "reverb"), dir
	build := exec.Command("go", append(asReleased(), "-o", program, ".")...)
	build.Dir, build.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if os.Getenv("REVERB_TEST_RACE") != "" { // a process that has seen a race ends with status 66
		build = exec.Command("go", "build", "-race", "-o", program, ".")
		build.Dir = ".."
	}
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// asReleased are the arguments of go that make the program as deploy/release makes it.
func asReleased() []string {
	args := []string{"build", "-trimpath", "-tags", "nethttpomithttp2",
		"-ldflags", "-s -w -funcalign=16"}
	b, err := os.ReadFile("../deploy/packaging/cold")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, of := range strings.Fields(string(b)) {
		args = append(args, "-gcflags="+of+"=-l")
	}
	return args
}

// command is exec.Command for a process that the kernel ends when this process ends, however it
// ends: a test that runs into its time-out calls no cleanup.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// seed is the seed of a test that draws at random. A failed test prints it, and REVERB_TEST_SEED
// sets it.
func seed(t testing.TB) uint64 {
	t.Helper()
	n := rand.Uint64()
	if s := os.Getenv("REVERB_TEST_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("REVERB_TEST_SEED: %v", err)
		}
	}
	t.Logf("REVERB_TEST_SEED=%d repeats what this test draws", n)
	return n
}

// needNode skips a test that runs JavaScript if npm ci was not run in test/.
func needNode(t *testing.T) {
	t.Helper()
	need(t, "node")
	if _, err := os.Stat("node_modules"); err == nil {
		return
	}
	const missing = "test/node_modules is missing; run npm ci in test/ first"
	if os.Getenv("CI") != "" {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// server is a running process of the program under test.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string        // host:port
	took time.Duration // from start to listening
	done chan error    // the process has ended

	mu  sync.Mutex
	log []string
}

// start runs the program with the given variables and waits until it listens.
func start(t *testing.T, env ...string) *server {
	t.Helper()
	return startFrom(t, program, env...)
}

// startFrom is start, for the program at a path.
func startFrom(t *testing.T, program string, env ...string) *server {
	t.Helper()
	s := &server{t: t, done: make(chan error, 1)}
	s.cmd = command(program, "start")
	s.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "REVERB_ENV_FILE=/dev/null",
		"REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT=0", "REVERB_SHUTDOWN_GRACE=0"}, env...)
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	lines := bufio.NewScanner(stderr)
	for s.addr == "" && lines.Scan() {
		s.log = append(s.log, lines.Text())
		if _, after, ok := strings.Cut(lines.Text(), "listening on "); ok {
			s.took = time.Since(begin)
			s.addr = after[:strings.IndexAny(after, `" `)]
			if !strings.HasPrefix(after, "/") { // a Unix socket
				s.addr, _, _ = strings.Cut(s.addr, "/")
			}
		}
	}
	go func() {
		for lines.Scan() {
			s.mu.Lock()
			s.log = append(s.log, lines.Text())
			s.mu.Unlock()
		}
		io.Copy(io.Discard, stderr)
		s.done <- s.cmd.Wait()
	}()
	if s.addr == "" {
		t.Fatalf("the server does not listen:\n%s", strings.Join(s.log, "\n"))
	}
	return s
}

// logged is how many lines the log has.
func (s *server) logged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.log)
}

// stop ends the process and fails the test unless it ends well.
func (s *server) stop() {
	if s.cmd.ProcessState != nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.wait(20 * time.Second); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.t.Errorf("the server ended with %v:\n%s", err, strings.Join(s.log, "\n"))
	}
}

func (s *server) wait(limit time.Duration) error {
	select {
	case err := <-s.done:
		s.done <- err
		return err
	case <-time.After(limit):
		s.cmd.Process.Kill()
		return fmt.Errorf("no end after %v", limit)
	}
}

// oneApp is the app of most tests.
func oneApp() []string {
	return []string{"REVERB_APP_ID=app-id", "REVERB_APP_KEY=app-key",
		"REVERB_APP_SECRET=app-secret"}
}
