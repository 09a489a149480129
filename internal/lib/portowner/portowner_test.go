package portowner

import (
	"net"
	"os"
	"runtime"
	"slices"
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
	p, ok := Find(port)
	if !ok || p.PID != os.Getpid() || p.Name == "" || !slices.Equal(p.Args, os.Args) {
		t.Errorf("got %+v, %v, want this process, %d %q", p, ok, os.Getpid(), os.Args)
	}
	if parent, ok := p.Parent(); !ok || parent.PID != os.Getppid() {
		t.Errorf("got the parent %+v, %v, want %d", parent, ok, os.Getppid())
	}
	if p, ok := (Process{PID: 1}).Parent(); ok {
		t.Errorf("the first process has the parent %+v", p)
	}
	if p, ok := process(1 << 30); ok {
		t.Errorf("got %+v for a process that does not exist", p)
	}
	if uid, ok := User(port); !ok || uid != os.Geteuid() {
		t.Errorf("got user %d, %v, want %d", uid, ok, os.Geteuid())
	}
	ln.Close()
	if uid, ok := User(port); ok {
		t.Errorf("got user %d for a port on which nobody listens", uid)
	}
	if p, ok := Find(port); ok {
		t.Errorf("got %+v for a port on which nobody listens", p)
	}
}
