package supervise

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestFindSupervisor lists surroundings of a first process, which is number 70 and was started by
// 60.
func TestFindSupervisor(t *testing.T) {
	const notify = "NOTIFY_SOCKET=/run/systemd/notify"
	for name, c := range map[string]struct {
		pid, ppid int
		environ   []string
		want      string
	}{
		"shell":            {70, 60, nil, "shell"},
		"orphan":           {70, 1, nil, "shell"},
		"systemd":          {70, 1, []string{notify, "SYSTEMD_EXEC_PID=70"}, "systemd"},
		"of a user":        {70, 60, []string{notify, "SYSTEMD_EXEC_PID=70"}, "systemd"},
		"below its script": {70, 60, []string{notify, "SYSTEMD_EXEC_PID=60"}, "shell"},
		"no notifications": {70, 1, []string{"SYSTEMD_EXEC_PID=70"},
			"systemd without notifications"},
		"a desktop's shell": {70, 60, []string{"SYSTEMD_EXEC_PID=9"}, "shell"},
		"old systemd":       {70, 1, []string{notify}, "systemd"},
		"old, of a user":    {70, 60, []string{notify, "MANAGERPID=60"}, "systemd"},
		"old, below a script": {70, 61, []string{notify, "MANAGERPID=60"},
			"shell"},
		"podman, tini":    {70, 1, []string{notify, "container=podman"}, "shell"},
		"podman":          {1, 0, []string{notify, "container=podman"}, "container init"},
		"docker":          {1, 0, nil, "container init"},
		"its own process": {1, 0, []string{notify, "SYSTEMD_EXEC_PID=1"}, "container init"},
		"supervisor":      {70, 60, []string{"SUPERVISOR_ENABLED=1"}, "supervisor"},
		"supervisor in systemd": {70, 60, []string{notify, "SYSTEMD_EXEC_PID=60",
			"SUPERVISOR_ENABLED=1"}, "supervisor"},
	} {
		if got := find(lookup(c.environ), c.pid, c.ppid); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// TestKeeper lists what has started a first process and starts another one at its end.
func TestKeeper(t *testing.T) {
	for _, c := range []struct {
		parent  string
		ppid    int
		environ []string
		want    string
	}{
		{"bash", 60, nil, "shell"}, {"", 1, nil, "shell"}, {"runsv", 60, nil, "runit"},
		{"s6-supervise", 60, nil, "s6"}, {"supervise", 60, nil, "daemontools"},
		{"supervise-daemo", 60, nil, "OpenRC"}, {"tini", 1, nil, "container init"},
		{"tini", 60, nil, "shell"}, {"docker-init", 1, nil, "container init"},
		{"", 1, []string{"XPC_SERVICE_NAME=homebrew.mxcl.reverb"}, "launchd"},
		{"", 1, []string{"XPC_SERVICE_NAME=0"}, "shell"},
		{"zsh", 60, []string{"XPC_SERVICE_NAME=x"}, "shell"},
		{"node", 60, []string{"pm_id=0"}, "PM2"},
	} {
		got := keeper(lookup(c.environ), c.parent, c.ppid)
		r := Role{found: got}
		if _, known := r.Restarts(); got != c.want || known != (c.want != "shell") {
			t.Errorf("%s, %q: got %s, %v, want %s", c.parent, c.environ, got, known, c.want)
		}
	}
}

// TestNew takes out of the environment what a predecessor has left, also if a stranger has.
func TestNew(t *testing.T) {
	environ := []string{"A=1", "REVERB_HANDOVER_PROGRAM=/bin/other", "LISTEN_FDS=1",
		"REVERB_HANDOVER_FOUND=systemd", "NOTIFY_SOCKET=", "WATCHDOG_USEC=9", "WATCHDOG_PID=8"}
	r, rest, err := New(os.Args, environ)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"A=1", "LISTEN_FDS=1", "NOTIFY_SOCKET=", "WATCHDOG_USEC=9", "WATCHDOG_PID=8"}
	if !slices.Equal(rest, want) {
		t.Errorf("got %q, want %q", rest, want)
	}
	want = []string{"A=1", "NOTIFY_SOCKET=", "WATCHDOG_USEC=9"}
	if !slices.Equal(r.environ, want) {
		t.Errorf("a successor would get %q, want %q", r.environ, want)
	}
	if r.Found() == "systemd" || r.program == "/bin/other" || r.Predecessor() != nil {
		t.Errorf("got %s, %s, %v", r.Found(), r.program, r.Predecessor())
	}
	if _, rest, err = New(os.Args, []string{"REVERB_HANDOVER_FD=x", "A=1"}); err == nil {
		t.Errorf("a wrong descriptor is taken, and left is %q", rest)
	}
}

// TestEchoes sends signals at times.
func TestEchoes(t *testing.T) {
	var e echoes
	begin := time.Now()
	for _, c := range []struct {
		after time.Duration
		s     os.Signal
		again bool
	}{
		{0, syscall.SIGHUP, false},
		{time.Millisecond, syscall.SIGHUP, true},
		{2 * time.Millisecond, syscall.SIGTERM, false},
		{900 * time.Millisecond, syscall.SIGHUP, true}, // the first still counts
		{time.Second, syscall.SIGHUP, false},
		{time.Second + time.Millisecond, syscall.SIGTERM, true},
		{1999 * time.Millisecond, syscall.SIGHUP, true},
	} {
		if got := e.again(c.s, begin.Add(c.after)); got != c.again {
			t.Errorf("%v after %v: got %v", c.s, c.after, got)
		}
	}
}
