package listen

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/control"
)

// in is how sockets are opened and found, with the control socket at the place for services
// in a folder of the test's own.
func in(t *testing.T) (s Sockets, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	getenv := func(name string) string {
		if name == "RUNTIME_DIRECTORY" {
			return dir
		}
		return ""
	}
	return Sockets{Getenv: getenv, Mode: 0o620}, dir
}

// TestUnixAddresses gives each Unix socket that is listened on the mode that is set, and
// names the variable where its owner is unknown.
func TestUnixAddresses(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("sockets have no mode")
	}
	s, dir := in(t)
	at := func(name string) string { return "unix:" + filepath.Join(dir, name) }
	ln, plain, admin, err := s.OpenAll(at("main"), at("plain"), at("admin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{ln, plain, admin} {
		if fi, err := os.Lstat(l.Addr().String()); err != nil || fi.Mode() != os.ModeSocket|0o620 {
			t.Errorf("%s: got %v, %v; want a socket with permissions 0620", l.Addr(), fi, err)
		}
		l.Close()
	}
	s.Owner = "no-such-user"
	_, err = s.Open(at("main"))
	want := `REVERB_SERVER_SOCKET_OWNER="no-such-user": there is no user "no-such-user"`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestOpenAllOrNone checks that, if one address cannot be opened, all are closed. The error names
// the variables of that address.
func TestOpenAllOrNone(t *testing.T) {
	s, _ := in(t)
	ln, plain, admin, err := s.OpenAll("127.0.0.1:0", "", "")
	if err != nil || plain != nil || admin != nil {
		t.Fatalf("got %v, %v, %v", plain, admin, err)
	}
	free, taken := ln.Addr().String(), "127.0.0.1:x"
	ln.Close()
	for _, addresses := range [][3]string{{taken, "", ""}, {free, taken, ""}, {free, "", taken}} {
		_, _, _, err := s.OpenAll(addresses[0], addresses[1], addresses[2])
		i := slices.Index(addresses[:], taken)
		want := "listen 127.0.0.1:x: the port is not a number; " + []string{
			"REVERB_SERVER_HOST and REVERB_SERVER_PORT say where to listen",
			"REVERB_PLAIN_LISTEN says where", "REVERB_ADMIN_LISTEN says where"}[i]
		if err == nil || err.Error() != want {
			t.Errorf("%v: got %v", addresses, err)
		}
		if ln, err := net.Listen("tcp4", free); err != nil {
			t.Errorf("%v: the main address stays open: %v", addresses, err)
		} else {
			ln.Close()
		}
	}
}

// TestByName has the sockets that systemd may pass.
func TestByName(t *testing.T) {
	all := []net.Listener{&net.TCPListener{}, &net.UnixListener{}, &net.TCPListener{}}
	for names, want := range map[string][3]int{ // which of all is the main one, plain, admin
		"":                    {-1, -1, -1},
		"x":                   {0, -1, -1},
		"admin":               {-1, -1, 0},
		"plain reverb.socket": {1, 0, -1},
		"a plain admin":       {0, 1, 2},
	} {
		split := strings.Fields(names)
		ln, plain, admin, err := byName(all[:len(split)], split)
		got := [3]int{slices.Index(all, ln), slices.Index(all, plain), slices.Index(all, admin)}
		if got != want || err != nil {
			t.Errorf("%q: got %v, %v, want %v", names, got, err, want)
		}
	}
	_, _, _, err := byName(all, []string{"a", "admin", "b"})
	if err == nil || !strings.Contains(err.Error(), "FileDescriptorName=plain or admin") {
		t.Errorf("got %v", err)
	}
}

func TestHints(t *testing.T) {
	s, _ := in(t)
	for _, c := range []struct {
		err           error
		address, want string
	}{
		{syscall.ENOENT, "unix:/a/b", ": there is no folder /a; create it"},
		{syscall.EINVAL, "unix:/a/b", ": the path is too long"},
		{syscall.EPERM, "unix:/a/b", "change REVERB_SERVER_SOCKET_OWNER"},
		{syscall.EACCES, "unix:/a/b", "may not write to /a;"},
		{syscall.EACCES, "0.0.0.0:80", ": ports below 1024 are the administrator's"},
		{syscall.EADDRNOTAVAIL, "192.0.2.1:80", ": no address of this machine"},
		{&net.DNSError{}, "nope.invalid:80", ": no address of this machine"},
		{syscall.EADDRINUSE, "unix:/a/b", ": another process holds it"},
		{syscall.ENOENT, "0.0.0.0:80", ""},
		{errors.New("?"), "unix:/a/b", ""},
	} {
		got := s.hint(fmt.Errorf("listen: %w", c.err), c.address)
		if !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%v at %s: got %q, want %q", c.err, c.address, got, c.want)
		}
	}
	for _, address := range []string{"x", "127.0.0.1:80000", "unix:@x", "[::1]:-1"} {
		if ln, err := s.Open(address); err == nil {
			t.Errorf("%s is listened on as %s", address, ln.Addr())
		}
	}
}

// TestHolder names the process that holds a port, and reverb where it is reverb.
func TestHolder(t *testing.T) {
	s, _ := in(t)
	ln, err := s.Open("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	address := ln.Addr().String()
	_, err = s.Open(address)
	want := " holds it; stop it, or choose another port"
	if runtime.GOOS == "linux" {
		want = fmt.Sprintf(" (pid %d)", os.Getpid()) + want
	}
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	serve(t, s, address, Status{PID: 7, Listening: "0.0.0.0:1", Connections: 3}, nil)
	if _, err = s.Open(address); strings.Contains(err.Error(), "reverb is running") {
		t.Errorf("got %v of a server on another port", err)
	}
	s.ControlPath = filepath.Join(t.TempDir(), "c")
	serve(t, s, address, Status{PID: 7, Listening: address, Connections: 3}, nil)
	want = ": reverb is running there already (pid 7, 3 connections); " +
		"reverb restart asks it to stop"
	if _, err = s.Open(address); !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestMain runs a stand-in for php artisan in the place of the tests, where TestArtisan has started
// this program.
func TestMain(m *testing.M) {
	if os.Getenv("LISTEN_TEST_ARTISAN") == "" {
		os.Exit(m.Run())
	}
	if slices.Contains(os.Args, "dev") { // starts another command, and waits for it
		cmd := artisanCommand("reverb:start")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Run()
		return
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(ln.Addr())
	io.Copy(io.Discard, os.Stdin) // until the test ends
}

// artisanCommand is this program with the command line of php artisan.
func artisanCommand(args ...string) *exec.Cmd {
	return &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"/usr/bin/php8.3", "-d",
		"memory_limit=1G", "/srv/app/artisan"}, args...),
		Env: append(os.Environ(), "LISTEN_TEST_ARTISAN=1")}
}

// TestArtisan names php artisan reverb:start where it holds the port, and says what to do.
func TestArtisan(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	s, _ := in(t)
	const stop = " holds it; stop it, and let this program take its place in Supervisor or " +
		"whatever else starts it"
	for command, want := range map[string]string{
		"reverb:start --host=0.0.0.0": stop,
		"-n reverb:start":             stop,
		"dev": " of php artisan dev holds it; DevCommands::register('reverb start', 'reverb'); " +
			"in AppServiceProvider::boot makes artisan dev start this program instead",
		"serve": " holds it; stop it, or choose another port",
	} {
		cmd := artisanCommand(strings.Fields(command)...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		address, err := bufio.NewReader(out).ReadString('\n')
		if err == nil {
			_, err = s.Open(strings.TrimSpace(address))
		}
		if err == nil || !strings.HasSuffix(err.Error(), ")"+want) ||
			strings.Contains(err.Error(), ": php artisan reverb:start (") == (command == "serve") {
			t.Errorf("%s: got %v, want %s", command, err, want)
		}
		in.Close()
		cmd.Wait()
	}
}

// serve answers on the control socket of a server on address until the test ends. What a restart
// closes is the end; nil: there is no restart.
func serve(t *testing.T, s Sockets, address string, status Status, ended chan struct{}) {
	t.Helper()
	ln, err := s.Control(address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		Serve(ln, func() Status { return status }, doer{ended}, ended, nil, talker{})
		close(done)
	}()
	t.Cleanup(func() { ln.Close(); <-done })
}

// doer refuses all but a look at an upgrade and, with ended, a restart, which closes it.
type doer struct{ ended chan struct{} }

func (d doer) Restart(_ context.Context, who string, tell func(string, error)) {
	if d.ended == nil {
		tell("", errors.New("not\x1bnow"))
		return
	}
	tell(who[:len("reverb restart")], nil)
	close(d.ended)
}

func (d doer) Upgrade(_ context.Context, _ string, dry bool, tell func(string, error)) {
	if dry {
		tell("well", nil)
	} else {
		tell("", errors.New("not now"))
	}
}

// patient waits until the asker has gone.
type patient struct {
	doer
	gone chan string
}

func (p patient) Upgrade(ctx context.Context, who string, _ bool, _ func(string, error)) {
	<-ctx.Done()
	p.gone <- who
}

// What is done for an asker knows who it is, and when it has gone.
func TestAskerGoes(t *testing.T) {
	s, _ := in(t)
	ln, err := s.Control("127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := patient{gone: make(chan string, 1)}
	go Serve(ln, func() Status { return Status{} }, p, nil, nil, nil)
	r, err := s.Upgrade("127.0.0.1:7", false)
	if err != nil {
		t.Fatal(err)
	}
	r.nc.Close()
	who, want := <-p.gone, "reverb upgrade"
	if runtime.GOOS == "linux" {
		want = fmt.Sprintf("reverb upgrade (pid %d, uid %d)", os.Getpid(), os.Geteuid())
	}
	if !strings.HasPrefix(who, want) {
		t.Errorf("got %s, want %s", who, want)
	}
}

// check says that a configuration with problems refuses an upgrade, and does not ask.
func TestCheckBroken(t *testing.T) {
	s, _ := in(t)
	serve(t, s, "127.0.0.1:7", Status{PID: 7}, make(chan struct{}))
	for broken, want := range map[bool]string{false: "ok well",
		true: "note upgrade: it would be refused with this configuration"} {
		last := ""
		if !s.Check("127.0.0.1:7", "", broken, func(verdict, format string, args ...any) {
			last = verdict + " " + fmt.Sprintf(format, args...)
		}) || last != want {
			t.Errorf("%v: got %s, want %s", broken, last, want)
		}
	}
}

// check asks whether a server could be upgraded, and Upgrade asks for it.
func TestUpgrade(t *testing.T) {
	s, _ := in(t)
	serve(t, s, "127.0.0.1:7", Status{PID: 7}, make(chan struct{}))
	var said []string
	s.checkUpgrade("127.0.0.1:7", func(verdict, format string, args ...any) {
		said = append(said, verdict+" "+fmt.Sprintf(format, args...))
	})
	if len(said) != 1 || said[0] != "ok well" {
		t.Errorf("check says %q", said)
	}
	r, err := s.Upgrade("127.0.0.1:7", false)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := r.Outcome(t.Context(), time.Now().Add(time.Minute)); err == nil ||
		err.Error() != "not now" {
		t.Errorf("got %q, %v", text, err)
	}
}

// TestControlPaths checks that restart finds the server by its address.
func TestControlPaths(t *testing.T) {
	s, dir := in(t)
	name := func(address string) string { return s.controlPaths(address)[0] }
	want := filepath.Join(dir, "reverb-8080.sock")
	if got := name("0.0.0.0:8080"); got != want || got != name("[::1]:8080") {
		t.Errorf("got %s, want %s", got, want)
	}
	here, err := filepath.Abs("x.sock")
	if err != nil {
		t.Fatal(err)
	}
	if name("unix:x.sock") != name("unix:"+here) || name("unix:/a") == name("unix:/b") {
		t.Error("paths are not told apart, or not the same")
	}
	if s.ControlPath = "/c"; name("0.0.0.0:8080") != "/c" {
		t.Error("the path that is set does not count")
	}
}

// TestRestart asks a server how it is and then to end, and waits for the end.
func TestRestart(t *testing.T) {
	s, _ := in(t)
	const address = "127.0.0.1:1"
	if r, ok := s.Find(address); ok {
		t.Fatalf("found %+v, and none runs", r)
	}
	if _, err := s.Restart(address); err == nil || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got %v", err)
	}
	status := Status{PID: 7, Version: "v", Listening: address, Connections: 3}
	serve(t, s, address, status, make(chan struct{}))
	if r, ok := s.Find(address); !ok || r.Status != status || r.Who != "pid 7" {
		t.Fatalf("got %+v, %v", r, ok)
	}
	r, err := s.Restart("[::1]:1") // the same port
	if err != nil || r.Status != status {
		t.Fatalf("got %+v, %v", r, err)
	}
	said := ""
	if err := r.Wait(t.Context(), time.Minute,
		func(text string) { said += text }); err != nil || said != "reverb restart" {
		t.Errorf("got %q, %v", said, err)
	}
	serve(t, s, "127.0.0.1:2", status, nil)
	if r, err = s.Restart("127.0.0.1:2"); err != nil {
		t.Fatal(err)
	}
	err = r.Wait(t.Context(), time.Minute, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "not") ||
		strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %v", err)
	}
}

// silent is asked for a restart, and nothing happens.
type silent struct{ doer }

func (silent) Restart(context.Context, string, func(string, error)) {}

// TestWaitEnds gives a server up that does not end, at the deadline or when ctx is done.
func TestWaitEnds(t *testing.T) {
	s, _ := in(t)
	const address = "unix:/none"
	ln, err := s.Control(address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ended := make(chan struct{})
	defer close(ended)
	go Serve(ln, func() Status { return Status{} }, silent{}, ended, nil, talker{})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for ctx, patience := range map[context.Context]time.Duration{
		t.Context(): 0, over: time.Minute,
	} {
		r, err := s.Restart(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Wait(ctx, patience, nil); err == nil {
			t.Error("a server that runs counts as ended")
		}
	}
}

// A server that waits for others says so, and then that it still waits: nobody gives it up then.
func TestWaitGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			pause time.Duration
			said  string
		}{{59 * time.Second, "waiting|"}, {61 * time.Second, ""}} {
			ours, theirs := net.Pipe()
			var server sync.WaitGroup
			server.Go(func() {
				for _, line := range []string{`{"text":"waiting"}`, "{}", "{}", "{}"} {
					time.Sleep(c.pause)
					io.WriteString(theirs, line+"\n")
				}
				theirs.Close()
			})
			said := ""
			err := Running{nc: ours}.Wait(t.Context(), time.Minute, func(text string) {
				said += text + "|"
			})
			if said != c.said || (err == nil) != (said != "") {
				t.Errorf("a word each %v: heard %q, then %v", c.pause, said, err)
			}
			server.Wait()
		}
	})
}

// A server of another user is named with both users.
func TestOfAnother(t *testing.T) {
	const nobody = 1 << 30 // has no name
	for owner, want := range map[int]string{
		0: "the server on [::]:80 is of user " + userName(0) + " (uid 0), and you are user " +
			"1073741824 (uid 1073741824): run this as root",
		nobody + 1: "the server on [::]:80 is of user 1073741825 (uid 1073741825), and you are " +
			"user 1073741824 (uid 1073741824): run this as root or as the user that it runs " +
			"as",
	} {
		if got := ofAnother("[::]:80", owner, nobody); got.Error() != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}

// talker answers the question talk.
type talker struct{}

func (talker) Greet(question string) (any, bool) {
	return map[string]int{"protocol": 1}, question == "talk"
}

func (talker) Talk(nc net.Conn, asker int, known bool) {
	nc.Read(make([]byte, 1))
	fmt.Fprint(nc, asker == os.Geteuid() || !known)
}

// TestTalk goes on with a connection, and has a server answer with its status that does not
// know the question.
func TestTalk(t *testing.T) {
	s, _ := in(t)
	const address = "unix:/none"
	serve(t, s, address, Status{PID: 7}, make(chan struct{}))
	for question, want := range map[string]string{
		"talk":  "map[protocol:1]true",
		"dance": "map[connections:0 listening: pid:7 version:]",
	} {
		greeting := map[string]any{}
		nc, err := s.Talk(address, question, &greeting)
		if err != nil {
			t.Fatal(err)
		}
		if question == "talk" { // else the server does not read it, and the answer may be lost
			nc.Write([]byte("?"))
		}
		rest, err := io.ReadAll(nc)
		if got := fmt.Sprint(greeting) + string(rest); got != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", question, got, err, want)
		}
		nc.Close()
	}
	if _, err := s.Talk("unix:/another", "talk", new(any)); err == nil {
		t.Error("nobody is there, and no error")
	}
}

// TestAnswerIsText has a process answer on the control socket with what a terminal would
// obey.
func TestAnswerIsText(t *testing.T) {
	s, dir := in(t)
	s.ControlPath = filepath.Join(dir, "c")
	status := Status{Version: "\x1b[31m", Listening: "\x1b]0;x\a\u009b31m\u202eFAKE\r\n"}
	serve(t, s, "", status, make(chan struct{}))
	found, ok := s.Find("")
	asked, err := s.Restart("")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	asked.nc.Close()
	for _, r := range []Running{found, asked} {
		if r.Version != "?[31m" || r.Listening != "?]0;x??31m?FAKE??" {
			t.Errorf("got %q, %q", r.Version, r.Listening)
		}
	}
}

// TestErrorIsText lets a process answer with text that is not an answer.
func TestErrorIsText(t *testing.T) {
	s, dir := in(t)
	s.ControlPath = filepath.Join(dir, "c\x1b")
	ln, err := control.Listen([]string{s.ControlPath})
	if err != nil {
		t.Skip(err)
	}
	defer ln.Close()
	answer := control.Answer{Value: []int{1}}
	go control.Serve(ln, nil, nil, func(string) control.Answer { return answer })
	if _, err := s.Restart(""); err == nil || !strings.Contains(err.Error(), "c?: json") {
		t.Errorf("got %q, want an error whose path has no control character", err)
	}
}

// TestServingUser finds this user behind the addresses that this process listens on.
func TestServingUser(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("Linux only")
	}
	s, dir := in(t)
	for _, address := range []string{"127.0.0.1:0", "unix:" + filepath.Join(dir, "s")} {
		ln, err := s.Open(address)
		if err != nil {
			t.Fatal(err)
		}
		if ln.Addr().Network() == "tcp" {
			address = ln.Addr().String()
		}
		if got := servingUser(address); got != os.Geteuid() {
			t.Errorf("%s: got %d", address, got)
		}
		ln.Close()
		if got := servingUser(address); got != -1 {
			t.Errorf("%s: got %d, and nobody listens", address, got)
		}
	}
	if got := userName(1 << 30); got != "1073741824" {
		t.Errorf("got %s", got)
	}
	if got := userName(0); got != "root" {
		t.Errorf("got %s", got)
	}
}

func TestOpenNear(t *testing.T) {
	var s Sockets
	one, err := s.OpenNear("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	other, err := s.OpenNear(one.Addr().String())
	if err != nil || other.Addr().String() == one.Addr().String() ||
		!strings.HasPrefix(other.Addr().String(), "127.0.0.1:") {
		t.Fatalf("got %v, %v", other, err)
	}
	other.Close()
	if ln, err := s.OpenNear("unix:/no/such/folder/x"); err == nil {
		ln.Close()
		t.Error("a folder that does not exist is no error")
	}
}

// What the log says of a stray connection names the variable that mends it.
func TestStrayHints(t *testing.T) {
	for _, tt := range []struct {
		secure, beside, proxies bool
		want                    [3]string // of a PROXY header, TLS, HTTP
	}{
		{false, false, false, [3]string{"set REVERB_PROXY_PROTOCOL=true", "with REVERB_TLS_CERT",
			""}},
		{true, false, false, [3]string{"set REVERB_PROXY_PROTOCOL=true", "",
			"REVERB_SCHEME=https"}},
		{false, true, true, [3]string{"in REVERB_TRUSTED_PROXIES", "use REVERB_SERVER_PORT", ""}},
	} {
		h := StrayHints(tt.secure, tt.beside, tt.proxies)
		for i, got := range []string{h.Proxy, h.TLS, h.HTTP} {
			if !strings.Contains(got, tt.want[i]) || (got == "") != (tt.want[i] == "") {
				t.Errorf("%v: got %q, want %q", tt, got, tt.want[i])
			}
		}
	}
}
