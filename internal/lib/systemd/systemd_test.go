package systemd

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skip(err)
	}
	defer c.Close()
	if err := NewNotifier(env(map[string]string{"NOTIFY_SOCKET": path})).Send("READY=1",
		"STATUS=well"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	if got, want := string(b[:n]), "READY=1\nSTATUS=well"; err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	for _, name := range []string{"", "relative"} {
		if err := NewNotifier(env(map[string]string{"NOTIFY_SOCKET": name})).Send(
			"READY=1"); err != nil {
			t.Errorf("NOTIFY_SOCKET=%q: %v", name, err)
		}
	}
	if err := NewNotifier(env(map[string]string{"NOTIFY_SOCKET": path + "x"})).Send(
		"READY=1"); err == nil {
		t.Error("a socket that is not there: no error")
	}
}

func TestWatchdogInterval(t *testing.T) {
	for _, tt := range []struct {
		usec, pid string
		want      time.Duration
	}{{"30000000", "", 30 * time.Second}, {"30000000", "7", 30 * time.Second}, {"30000000", "8", 0},
		{"", "", 0}, {"x", "", 0}, {"-1", "", 0}} {
		if got := WatchdogInterval(env(map[string]string{"WATCHDOG_USEC": tt.usec,
			"WATCHDOG_PID": tt.pid}), 7); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

func TestListenersForOthers(t *testing.T) {
	all, _, err := Listeners(env(map[string]string{"LISTEN_PID": "1", "LISTEN_FDS": "1"}),
		os.Getpid()+1)
	if len(all) != 0 || err != nil {
		t.Errorf("got %v, %v; want none", all, err)
	}
	if _, _, err := Listeners(env(map[string]string{"LISTEN_PID": "9", "LISTEN_FDS": "many"}),
		9); err == nil {
		t.Error("LISTEN_FDS=many: no error")
	}
}
