//go:build unix

package systemd

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pass gives copies of files consecutive descriptors, as a service manager does, and returns the
// first of them.
func pass(t *testing.T, files ...*os.File) (first int) {
	t.Helper()
	const high = 200 // above what a test process uses
	for i, f := range files {
		fd, err := unix.FcntlInt(f.Fd(), syscall.F_DUPFD, high)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = fd
		} else if fd != first+i {
			t.Fatalf("got descriptor %d, want %d", fd, first+i)
		}
	}
	return first
}

// TestListeners takes over a TCP socket and a Unix socket.
func TestListeners(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	path := filepath.Join(t.TempDir(), "s")
	unixSocket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unixSocket.Close()
	files := make([]*os.File, 2)
	for i, ln := range []interface{ File() (*os.File, error) }{
		tcp.(*net.TCPListener), unixSocket.(*net.UnixListener),
	} {
		if files[i], err = ln.File(); err != nil {
			t.Fatal(err)
		}
		defer files[i].Close()
	}
	vars := map[string]string{"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web"}
	all, names, err := listeners(env(vars), 7, pass(t, files...))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(names, []string{"web", ""}) {
		t.Errorf("got the names %q, want web and an empty one", names)
	}
	for i, want := range []net.Addr{tcp.Addr(), unixSocket.Addr()} {
		if got := all[i].Addr(); got.String() != want.String() {
			t.Errorf("socket %d: got the address %v, want %v", i, got, want)
		}
		all[i].Close()
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file of the service manager's socket is gone: %v", err)
	}
}

// TestListenersWrong is passed a descriptor that is not a socket.
func TestListenersWrong(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := pass(t, f)
	vars := map[string]string{"LISTEN_PID": strconv.Itoa(os.Getpid()), "LISTEN_FDS": "1"}
	if all, _, err := listeners(env(vars), os.Getpid(), first); err == nil {
		t.Errorf("got %v and no error", all)
	}
	if _, err := unix.FcntlInt(uintptr(first), syscall.F_GETFD, 0); err == nil {
		t.Errorf("descriptor %d is still open", first)
	}
}

// TestNotifyGone notifies a service manager that has ended.
func TestNotifyGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	c.Close() // the file stays
	n := NewNotifier(env(map[string]string{"NOTIFY_SOCKET": path}))
	if err := n.Send("READY=1"); err == nil {
		t.Error("no error")
	}
}
