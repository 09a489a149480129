package portowner

import (
	"net"
	"os"
	"runtime"
	"testing"
)

func TestFind(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if pid, name, ok := Find(port); !ok || pid != os.Getpid() || name == "" {
		t.Errorf("got %d %q %v, want this process, %d", pid, name, ok, os.Getpid())
	}
	if uid, ok := User(port); !ok || uid != os.Geteuid() {
		t.Errorf("got user %d, %v, want %d", uid, ok, os.Geteuid())
	}
	ln.Close()
	if uid, ok := User(port); ok {
		t.Errorf("got user %d for a port on which nobody listens", uid)
	}
	if pid, _, ok := Find(port); ok {
		t.Errorf("got %d for a port on which nobody listens", pid)
	}
}
