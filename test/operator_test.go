package test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestAccessLog has a line for each request, without the signature, however many there are
// and whatever the level of the log is.
func TestAccessLog(t *testing.T) {
	s := start(t, append(oneApp(), "REVERB_ACCESS_LOG=true")...)
	for range 30 {
		resp, err := http.Get("http://" + s.addr + "/apps/app-id/channels?auth_signature=hidden")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	resp, err := http.Get("http://" + s.addr + "/up")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	s.says("msg=request method=GET path=/up remote=127.0.0.1:")
	s.mu.Lock()
	defer s.mu.Unlock()
	log := strings.Join(s.log, "\n")
	if n := strings.Count(log, "msg=request method=GET path=/apps/app-id/channels app=app-id "+
		"remote=127.0.0.1:"); n != 30 {
		t.Errorf("%d requests, want 30:\n%s", n, log)
	}
	if strings.Contains(log, "hidden") {
		t.Errorf("a signature is told:\n%s", log)
	}
}

// operated starts a server that its operators find on a control socket of its own.
func operated(t *testing.T, env ...string) (s *server, control string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	control = filepath.Join(dir, "control")
	return start(t, append(append(oneApp(), "REVERB_CONTROL_SOCKET="+control), env...)...), control
}

// operate is a command of an operator.
func operate(control string, args ...string) *exec.Cmd {
	cmd := command(program, args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"REVERB_ENV_FILE=/dev/null",
		"REVERB_CONTROL_SOCKET=" + control,
	}
	return cmd
}

// asked runs a command of an operator and returns what it prints, on both outputs.
func asked(t *testing.T, control string, code int, args ...string) (out, errOut string) {
	t.Helper()
	cmd := operate(control, args...)
	var said strings.Builder
	cmd.Stderr = &said
	b, err := cmd.Output()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%v: exit code %d, want %d: %s%s", args, got, code, b, said.String())
	}
	return string(b), said.String()
}

// jsonRows are the rows of a command with --json.
func jsonRows(t *testing.T, text string) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		row := map[string]any{}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, row)
	}
	return all
}

// TestOperators looks at a server with a few clients, and kicks them.
func TestOperators(t *testing.T) {
	s, control := operated(t, "REVERB_LOG_LEVEL=debug")
	nc, r, err := dialPath(
		s.addr,
		"/app/app-key?protocol=7&client=js&version=8.4.0",
		"127.0.0.9",
		"",
	)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.Write(clientFrame([]byte(`{"event":"pusher:subscribe","data":{"channel":"news"}}`), 1))
	if err := skipTo(r, "subscription_succeeded"); err != nil {
		t.Fatal(err)
	}
	member, mr := joinPresence(t, s.addr, "app-key", "presence-room", "u1", "A", 0)
	defer member.Close()
	if err := skipTo(mr, "subscription_succeeded"); err != nil {
		t.Fatal(err)
	}
	out, _ := asked(t, control, 0, "connections", "--json", "--address", "127.0.0.8/30")
	rows := jsonRows(t, out)
	if len(rows) != 1 || rows[0]["library"] != "js 8.4.0" ||
		!strings.HasPrefix(rows[0]["address"].(string), "127.0.0.9:") ||
		rows[0]["subscriptions"] != 1.0 ||
		rows[0]["bytes_in"].(float64) < 100 ||
		rows[0]["bytes_out"].(float64) < 100 ||
		rows[0]["app"] != "app-id" {
		t.Fatalf("got %v", rows)
	}
	socket := rows[0]["socket"].(string)
	for want, args := range map[string][]string{
		"u1": {"connections", "--channel", "presence-room"}, "js 8.4.0": {"connections", "--socket",
			socket}, "presence-room": {"channels", "presence-"},
		"{name:A}": {"users", "presence-room"}, "connections  2 of": {"status"},
		"each second": {"top"},
	} {
		if want == "{name:A}" {
			want = `u1    "A"`
		}
		if out, _ := asked(t, control, 0, args...); !strings.Contains(out, want) {
			t.Errorf("%v lacks %q:\n%s", args, want, out)
		}
	}
	asked(t, control, 0, "connections", "--user", "nobody")
	if _, said := asked(t, control, 1, "kick", "1.1"); !strings.Contains(
		said,
		"no connection of socket 1.1 is here",
	) {
		t.Errorf("got %q", said)
	}
	if out, said := asked(t, control, 0, "kick", socket); !strings.Contains(out, "127.0.0.9") ||
		!strings.Contains(said, "kicked 1 of 1 with code 4009") {
		t.Errorf("got %q, %q", out, said)
	}
	if err := skipTo(r, `"code":4009`); err != nil {
		t.Error(err)
	}
	if _, said := asked(t, control, 0, "kick", "--user", "u1", "--reconnect"); !strings.Contains(
		said,
		"with code 4200",
	) {
		t.Errorf("got %q", said)
	}
	if err := skipTo(mr, `"code":4200`); err != nil {
		t.Error(err)
	}
	s.says(
		fmt.Sprintf(
			`msg="kicked connections, as an operator asks" uid=%d of="socket %s" connections=1 `+
				`reconnect=false`,
			os.Geteuid(),
			socket,
		),
	)
	s.says("msg=connected app=app-id socket=" + socket + " remote=127.0.0.9:")
	s.says("msg=disconnected app=app-id socket=" + socket + " remote=127.0.0.9:")
	s.says("code=4009 reason=kicked age=")
}

// talkative is a command that runs and prints.
type talkative struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner // of what it prints
	notes *bufio.Scanner // of what it says on standard error; nil: the test has set it
}

// startTalking starts a command, which ends with the test.
func startTalking(t *testing.T, cmd *exec.Cmd) *talkative {
	t.Helper()
	c := &talkative{t: t, cmd: cmd}
	if cmd.Stderr == nil {
		said, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		c.notes = bufio.NewScanner(said)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return c
}

// startTrace starts a trace on so many nodes, and waits until all of them trace.
func startTrace(t *testing.T, control string, nodes int, args ...string) *talkative {
	t.Helper()
	tr := startTalking(t, operate(control, append([]string{"trace"}, args...)...))
	for range nodes {
		if !tr.notes.Scan() || !strings.Contains(tr.notes.Text(), "tracing") {
			t.Fatalf("trace says %q", tr.notes.Text())
		}
	}
	go func() {
		for tr.notes.Scan() { // what comes later is not looked at
		}
	}()
	return tr
}

// says waits for a line that has all of the texts, and returns the lines until then.
func (tr *talkative) says(texts ...string) (before string) {
	tr.t.Helper()
	for tr.lines.Scan() {
		line := tr.lines.Text()
		before += line + "\n"
		if !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(line, s) }) {
			return before
		}
	}
	tr.t.Fatalf("%v has ended without %q:\n%s", tr.cmd.Args, texts, before)
	return ""
}

// stop interrupts the command, as Ctrl+C does.
func (tr *talkative) stop() {
	tr.t.Helper()
	tr.cmd.Process.Signal(os.Interrupt)
	if err := tr.cmd.Wait(); err != nil {
		tr.t.Errorf("%v, interrupted, ends with %v", tr.cmd.Args, err)
	}
}

// TestTraces watches a client, a user and a channel. No secret is shown.
func TestTraces(t *testing.T) {
	s, control := operated(t)
	byAddress := startTrace(t, control, 1, "--address", "127.0.0.9")
	byUser := startTrace(t, control, 1, "--user", "u1")
	byChannel := startTrace(t, control, 1, "news", "--channel", "old", "--json")
	nc, r, err := dialPath(s.addr, "/app/app-key", "127.0.0.9", "")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.Write(
		clientFrame(
			[]byte(
				`{"event":"pusher:subscribe","data":{"channel":"private-x",`+
					`"auth":"app-key:5ecret"}}`,
			),
			1,
		),
	)
	if err := skipTo(r, "subscription_error"); err != nil {
		t.Fatal(err)
	}
	nc.Write(clientFrame([]byte(`{"event":"pusher:subscribe","data":{"channel":"news"}}`), 1))
	if err := skipTo(r, "subscription_succeeded"); err != nil {
		t.Fatal(err)
	}
	member, mr := joinPresence(t, s.addr, "app-key", "presence-room", "u1", "A", 0)
	if err := skipTo(mr, "subscription_succeeded"); err != nil {
		t.Fatal(err)
	}
	for _, channel := range []string{"news", "presence-room"} {
		if err := publisher(s.addr).Trigger(channel, "an-event", "x"); err != nil {
			t.Fatal(err)
		}
	}
	byAddress.says("connected")
	before := byAddress.says("in ", `"channel":"private-x","auth":"********"`)
	before += byAddress.says("out", "subscription_error")
	before += byAddress.says("out", "an-event")
	if strings.Contains(before, "5ecret") || strings.Contains(before, "presence-room") {
		t.Errorf("a secret, or another client, shows in\n%s", before)
	}
	byUser.says("out", "subscription_succeeded", "presence-room")
	byUser.says("out", "an-event")
	member.Close()
	byUser.says("ended", "peer_gone")
	byChannel.says(`"what":"subscribed"`, `"channel":"news"`)
	byChannel.says(`"what":"event"`, `"receivers":1`, `an-event`)
	nc.Close()
	byChannel.says(`"what":"unsubscribed"`)
	byAddress.says("ended", "peer_gone")
	if err := publisher(s.addr).Trigger("old", "an-event", "x"); err != nil {
		t.Fatal(err)
	}
	byChannel.says(`"what":"event"`, `"channel":"old"`)
	s.says(fmt.Sprintf(`msg="an operator traces" uid=%d what="user u1"`, os.Geteuid()))
	for _, tr := range []*talkative{byAddress, byUser, byChannel} {
		tr.stop()
	}
	s.says(`msg="a trace has ended"`)
}

// TestOperatorsOfAllNodes asks three nodes, of which one is frozen and one is killed then.
func TestOperatorsOfAllNodes(t *testing.T) {
	r := startRedis(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	control := func(i int) string { return filepath.Join(dir, strconv.Itoa(i)) }
	var nodes []*clusterNode
	var names []string
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		n := startNode(t, r.env(), "REVERB_CONTROL_SOCKET="+control(i))
		nodes, names = append(nodes, n), append(names, host+n.addr[strings.LastIndex(n.addr,
			":"):])
	}
	for _, n := range nodes {
		eventually(t, 20*time.Second, n.notReady)
	}
	join := func(i int, user string) (net.Conn, *bufio.Reader) {
		nc, r := joinPresence(t, nodes[i].addr, "app-key", "presence-room", user, "A", 0)
		if err := skipTo(r, "subscription_succeeded"); err != nil {
			t.Fatal(err)
		}
		return nc, r
	}
	var readers []*bufio.Reader
	for i, user := range []string{"u0", "u1", "u1"} {
		nc, r := join(i, user)
		defer nc.Close()
		readers = append(readers, r)
	}
	out, _ := asked(t, control(0), 0, "connections", "--all", "--json")
	found := map[any]bool{}
	for _, row := range jsonRows(t, out) {
		found[row["node"]] = true
	}
	if len(found) != 3 || !found[names[0]] || !found[names[1]] || !found[names[2]] {
		t.Errorf("got %v, want %v", found, names)
	}
	for _, command := range [][]string{{"status"}, {"top"}, {"channels", "presence-"}} {
		out, _ := asked(t, control(1), 0, append(command, "--all")...)
		for _, name := range names {
			if !strings.Contains(out, name) {
				t.Errorf("%s lacks %s:\n%s", command, name, out)
			}
		}
	}
	if out, _ := asked(t, control(2), 0, "users", "presence-room", "--all"); strings.Count(out,
		"u1") != 1 || strings.Count(out, "u0") != 1 {
		t.Errorf("got\n%s", out)
	}
	tr := startTrace(t, control(0), 3, "--user", "u1", "--all")
	if err := publisher(nodes[0].addr).Trigger("presence-room", "an-event", "x"); err != nil {
		t.Fatal(err)
	}
	first, second := tr.says("an-event"), tr.says("an-event")
	if both := first + second; strings.Contains(both, names[0]) ||
		!strings.Contains(both, names[1]) || !strings.Contains(both, names[2]) {
		t.Errorf("got\n%s", both)
	}

	// A frozen node delays nobody for long, and does nothing late.
	nodes[1].freeze()
	began := time.Now()
	_, said := asked(t, control(0), 1, "kick", "--user", "u1", "--all", "--yes")
	if took := time.Since(began); took > 6*time.Second || // the machine may be busy
		!strings.Contains(said, "node "+names[1]+": it has not answered for 2 s") ||
		!strings.Contains(said, "kicked 1 of 1 with code 4009") {
		t.Errorf("got %q after %v", said, took)
	}
	if err := skipTo(readers[2], `"code":4009`); err != nil {
		t.Error(err)
	}
	nodes[2].says(fmt.Sprintf(`msg="kicked connections, as an operator asks" uid=%d asked_on=%s `+
		`of="user u1" connections=1 reconnect=false`, os.Geteuid(), names[0]))
	nodes[1].thaw()
	eventually(t, 20*time.Second, nodes[1].notReady)
	out, _ = asked(t, control(1), 0, "connections", "--user", "u1")
	if !strings.Contains(out, "u1") {
		t.Error("a node that was frozen has kicked late")
	}

	// A killed node is missing until the others have buried it. Its traces elsewhere end.
	nodes[2].says(`msg="an operator traces" uid=`)
	nodes[0].kill()
	nodes[2].says(`msg="a trace has ended" uid=`)
	_, said = asked(t, control(1), 1, "status", "--all")
	if !strings.Contains(said, "node "+names[0]+": it is not connected any more") {
		t.Errorf("got %q", said)
	}
	eventually(t, 40*time.Second, func() string {
		if out, err := operate(control(1), "status", "--all").CombinedOutput(); err != nil {
			return string(out)
		}
		return ""
	})
	asked(t, control(1), 0, "kick", "--user", "u1", "--all")
	if err := skipTo(readers[1], `"code":4009`); err != nil {
		t.Error(err)
	}
}

// TestListenUnseen watches a presence channel without joining it, and says where that cannot be.
func TestListenUnseen(t *testing.T) {
	s, control := operated(t)
	port := s.addr[strings.LastIndexByte(s.addr, ':')+1:]
	listen := func(control string, args ...string) *exec.Cmd {
		cmd := operate(control, append([]string{"listen", "--json"}, args...)...)
		cmd.Env = append(cmd.Env, append(oneApp(), "REVERB_SERVER_HOST=127.0.0.1",
			"REVERB_SERVER_PORT="+port)...)
		return cmd
	}
	watch := startTalking(t, listen(control, "presence-room", "private-x"))
	for range 2 {
		watch.says("subscription_succeeded")
	}
	member, mr := joinPresence(t, s.addr, "app-key", "presence-room", "u1", "A", 0)
	watch.says(`"event":"pusher_internal:member_added"`, `"user_id":"u1"`)
	if err := skipTo(mr, `{\"presence\":{\"count\":1,`); err != nil {
		t.Error(err)
	}
	for _, channel := range []string{"presence-room", "private-x"} {
		if err := publisher(s.addr).Trigger(channel, "an-event", "x"); err != nil {
			t.Fatal(err)
		}
		watch.says(`"channel":"`+channel+`"`, "an-event")
	}
	joined := startTalking(t, listen(control, "--join", "presence-room"))
	joined.says("subscription_succeeded", `"user_id":"listen-`, `"count":2`)
	watch.says("member_added", "listen-")
	joined.stop()
	watch.says("member_removed", "listen-")
	member.Close()
	watch.says("member_removed", `"user_id":"u1"`)
	watch.stop()

	refused := listen(filepath.Join(t.TempDir(), "none"), "presence-room")
	out, _ := refused.CombinedOutput()
	if code := refused.ProcessState.ExitCode(); code != 1 ||
		strings.Count(string(out), "\n") != 1 ||
		!strings.Contains(string(out), "reverb: presence-room cannot be watched without joining "+
			"it: no running server was found") ||
		!strings.Contains(string(out), "reverb listen --join joins it") {
		t.Errorf("got %d, %s", code, out)
	}
}

// TestOperatorsOfAnotherUser has a user that is neither the server's nor root ask: over the
// socket as it is, and over one that everybody may open.
func TestOperatorsOfAnotherUser(t *testing.T) {
	dir, copied := sharedFolder(t)
	number := freePort(t)
	server := as(serverUser, dir, copied, "start")
	server.Env = append(server.Env, "REVERB_SERVER_PORT="+number)
	stderr, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The server ends with the thread that starts it, and threads of rawCommand end.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { server.Process.Signal(syscall.SIGTERM); server.Wait() }()
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "listening on") {
	}
	refused := make(chan string, 100)
	go func() {
		for lines.Scan() {
			if strings.Contains(lines.Text(), "another user asked on the control socket") {
				refused <- lines.Text()
			}
		}
	}()
	nc, r, err := dialPath("127.0.0.1:"+number, "/app/app-key", "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	socket := filepath.Join(dir, fmt.Sprintf("reverb-%d", serverUser), "reverb-"+number+".sock")
	run := func(uid uint32, env string, args ...string) (string, error) {
		cmd := as(uid, dir, copied, args...)
		cmd.Env = append(cmd.Env, "REVERB_SERVER_PORT="+number, env)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{{"kick", "--address", "127.0.0.0/8", "--yes"}, {"trace",
		"--address", "127.0.0.0/8"}, {"connections"}} {
		for _, env := range []string{"A=b", "REVERB_CONTROL_SOCKET=" + socket} {
			if out, err := run(anotherUser, env, args...); err == nil ||
				strings.Contains(out, "app-id") || !strings.Contains(out, "is of user") ||
				!strings.Contains(out, "run this as root or as the user that it runs as") {
				t.Errorf("%v, %s: got %v, %s", args, env, err, out)
			}
		}
	}
	// The system tells who asks, whatever the modes of files are.
	if err := errors.Join(os.Chmod(filepath.Dir(socket), 0o755), os.Chmod(socket,
		0o666)); err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[int]bool{anotherUser: false, serverUser: true, 0: true} {
		said := rawCommand(t, uid, socket)
		if told := strings.Contains(said, `"row"`); told != want || !want && said != "" {
			t.Errorf("uid %d: got %q", uid, said)
		}
	}
	select {
	case line := <-refused:
		if want := fmt.Sprintf("uid=%d pid=", anotherUser); !strings.Contains(line, want) {
			t.Errorf("got %q, want %s in it", line, want)
		}
	case <-time.After(20 * time.Second):
		t.Error("the server does not log that it has refused another user")
	}
	// Root and the server's own user may.
	if out, err := run(serverUser, "A=b", "connections"); err != nil ||
		!strings.Contains(out, "app-id") {
		t.Errorf("the server's user: got %v, %s", err, out)
	}
	if out, err := run(0, "A=b", "kick", "--address", "127.0.0.0/8"); err != nil ||
		!strings.Contains(out, "kicked 1 of 1") {
		t.Errorf("root: got %v, %s", err, out)
	}
	if err := skipTo(r, `"code":4009`); err != nil {
		t.Error(err)
	}
}

// rawCommand asks over a control socket as a user, whatever that user's folders are, and
// returns all that the server says.
func rawCommand(t *testing.T, uid int, socket string) (said string) {
	t.Helper()
	done := make(chan error)
	go func() {
		// for ever: the thread ends with this goroutine, and nobody else becomes the user
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid),
			uintptr(uid)); errno != 0 {
			done <- errno
			return
		}
		nc, err := net.Dial("unix", socket)
		if err != nil {
			done <- err
			return
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(nc, "commands 1\n")
		r := bufio.NewReader(nc)
		said, _ = r.ReadString('\n')
		io.WriteString(nc, `{"command":"connections"}`+"\n")
		rest, _ := io.ReadAll(r) // a server that does not want to hear it closes
		said += string(rest)
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return said
}

// listenAsServer listens on a control socket, in a folder of this user alone.
func listenAsServer(t *testing.T) (control string, ln net.Listener) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	control = filepath.Join(dir, "control")
	ln, err := net.Listen("unix", control)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return control, ln
}

// TestVersionsOfOperators has servers answer that are older and newer than this program.
func TestVersionsOfOperators(t *testing.T) {
	control, ln := listenAsServer(t)
	answer := make(chan string, 1)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			bufio.NewReader(c).ReadString('\n')
			io.WriteString(c, <-answer+"\n")
			c.Close()
		}
	}()
	for want, says := range map[string]string{
		"reverb: this server is older (version reverb 1.0.0): it does not know kick; restart it " +
			"with this program\n": `{"pid":1,"version":"reverb 1.0.0",` +
			`"listening":"x","connections":3}`,
		"reverb: this program is older than the server (version reverb 9), and does not know " +
			"how to ask it; use the server's program\n": `{"protocol":2,"pid":1,` +
			`"version":"reverb 9","commands":["status"]}`,
	} {
		answer <- says
		if _, said := asked(t, control, 1, "kick", "1.2"); said != want {
			t.Errorf("got %q, want %q", said, want)
		}
	}
}

// TestOperatorsAmongMany asks a server with 15,000 connections, all of which get events
// meanwhile: each command answers within a second, and the events of others take as long as
// without.
func TestOperatorsAmongMany(t *testing.T) {
	const n, most = 15_000, time.Second
	s, control := operated(t)
	lines := manyClients(t, s, n)
	watch := subscriber(t, s.addr, "busy")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // 15,000 deliveries, once a second
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
				publisher(s.addr).Trigger("load", "the-event", "x")
			}
		}
	}()
	if !lines.Scan() || lines.Text() != fmt.Sprint("received ", n) {
		t.Fatalf("the clients say %q", lines.Text())
	}
	pace := time.NewTicker(
		10 * time.Millisecond,
	) // or fast moments would count for more than slow ones
	defer pace.Stop()
	during := func(done <-chan struct{}) (all []time.Duration) {
		for {
			select {
			case <-done:
				slices.Sort(all)
				return all
			case <-pace.C:
				all = append(all, latencies(t, s.addr, watch, 1, "x")...)
			}
		}
	}
	quiet := make(chan struct{})
	time.AfterFunc(4*time.Second, func() { close(quiet) })
	without := during(quiet)
	took := map[string]time.Duration{}
	// the others are those of a machine that does more than this
	timed := func(want int, args ...string) {
		began := time.Now()
		out, _ := asked(t, control, 0, args...)
		name, d := strings.Join(args[:min(len(args), 2)], " "), time.Since(began)
		if strings.Count(out, "\n") < want {
			t.Errorf("%v: %d lines, want %d", args, strings.Count(out, "\n"), want)
		}
		if best, known := took[name]; !known || d < best {
			took[name] = d
		}
	}
	byChannel := startTrace(t, control, 1, "load")
	startTrace(t, control, 1, "--address", "127.0.0.3") // a quarter; nobody reads what it prints
	asking := make(chan struct{})
	go func() {
		defer close(asking)
		for range 3 {
			timed(n, "connections")
			timed(n, "connections", "--json")
			timed(n/4+1, "connections", "--address", "127.0.0.2")
			timed(n, "connections", "--channel", "load")
			timed(1, "channels")
			timed(1, "status")
			timed(1, "top", "--once")
		}
	}()
	with := during(asking)
	byChannel.says("event", "to 15000", "the-event")
	for _, address := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"} {
		timed(n/4, "kick", "--address", address, "--yes")
	}
	close(stop)
	<-stopped
	q := func(l []time.Duration, p float64) time.Duration { return l[int(float64(len(l)-1)*p)] }
	t.Logf(
		"publish to receipt without and with commands: median %v and %v, 90 %% %v and %v, 99 %% "+
			"%v and %v",
		q(without, .5),
		q(with, .5),
		q(without, .9),
		q(with, .9),
		q(without, .99),
		q(with, .99),
	)
	for name, d := range took {
		t.Logf("%-36s %v", name, d)
		if name == "top --once" {
			d -= 2 * time.Second // that it measures
		}
		if d >= most && os.Getenv("REVERB_TEST_RACE") == "" { // it adds a second
			t.Errorf("%s took %v", name, d)
		}
	}
	if q(with, .5) > 3*q(without, .5)+5*time.Millisecond {
		t.Errorf("the median grows from %v to %v", q(without, .5), q(with, .5))
	}
}

// manyClients opens so many connections in a process of its own, see runHelper, and returns
// what that says.
func manyClients(t *testing.T, s *server, n int) *bufio.Scanner {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	helper := command(self)
	helper.Env = append(
		os.Environ(),
		"REVERB_TEST_DIAL="+s.addr,
		"REVERB_TEST_CONNECTIONS="+strconv.Itoa(n),
		"REVERB_TEST_READ_ON=1",
	)
	stdin, err := helper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); helper.Wait() })
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the clients say %q", lines.Text())
	}
	return lines
}
