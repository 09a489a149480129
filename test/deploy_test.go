package test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pusher/pusher-http-go/v5"
)

// background runs a program of the system until the test ends.
func background(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := command(name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("%s: %.4000s", name, out.String())
		}
	})
}

// oddPort finds a free port below the range from which the kernel chooses ports for outgoing
// connections and for port 0. It returns each port only once.
func oddPort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := nextPort.Add(2)
		if port > 32700 {
			break
		}
		if ln, err := net.Listen("tcp", ":"+strconv.Itoa(int(port))); err == nil {
			ln.Close()
			return strconv.Itoa(int(port))
		}
	}
	t.Fatal("no free port")
	return ""
}

var nextPort = func() (n atomic.Int32) { n.Store(20001 + 2*int32(os.Getpid()%2000)); return }()

// answers waits until a server accepts connections there.
func answers(t *testing.T, addr string) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nobody listens on %s", addr)
		}
	}
}

// need skips a test whose program is missing, unless CI must have it.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing; test/run installs it, or test/long", program)
		}
		t.Skipf("%s is not installed", program)
	}
}

// startNginx puts nginx with deploy/nginx.conf in front of a server. silence is after how much
// silence nginx gives up a connection.
func startNginx(t *testing.T, upstream, prefix, silence string) (addr string) {
	conf, err := os.ReadFile("../deploy/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), oddPort(t)
	site := strings.NewReplacer("server 127.0.0.1:8080;", "server "+upstream+";", "listen 80;",
		"listen 127.0.0.1:"+port+" backlog=4096;", "    listen [::]:80;\n", "",
		"location /app/", "location "+prefix+"/app/", "location /apps/",
		"location "+prefix+"/apps/", "proxy_read_timeout 300s",
		"proxy_read_timeout "+silence).Replace(string(conf))
	path := write(t, dir, "nginx.conf", []byte(`daemon off; user root; pid `+dir+
		`/pid; error_log stderr; worker_processes 2; worker_rlimit_nofile 20000;
events { worker_connections 9000; }
http { access_log off; client_body_temp_path `+dir+`/b;
proxy_temp_path `+dir+`/p; fastcgi_temp_path `+dir+`/f; uwsgi_temp_path `+dir+`/u;
scgi_temp_path `+dir+`/s;
`+site+"}\n"))
	if out, err := exec.Command("nginx", "-t", "-c", path, "-e",
		"stderr").CombinedOutput(); err != nil {
		t.Fatalf("nginx -t: %s", out)
	}
	background(t, "nginx", "-c", path, "-e", "stderr")
	addr = "127.0.0.1:" + port
	answers(t, addr)
	return addr
}

// startHAProxy does the same with HAProxy. server is the rest of the line after the address.
func startHAProxy(t *testing.T, upstream, prefix, silence, server string) (addr string) {
	conf, err := os.ReadFile("../deploy/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	port := oddPort(t)
	text := strings.NewReplacer("    log stdout format raw daemon\n", "", "    user haproxy\n", "",
		"    group haproxy\n", "", "bind :80\n", "bind 127.0.0.1:"+port+" backlog 4096\n",
		"server node1 127.0.0.1:8080 check\n", "server node1 "+upstream+" "+server+"\n",
		"path_beg /app/ /apps/", "path_beg "+prefix+"/app/ "+prefix+"/apps/",
		"uri /up", "uri "+prefix+"/up", "timeout tunnel 1h", "timeout tunnel "+silence, "global\n",
		"global\n    maxconn 9000\n").Replace(string(conf))
	path := write(t, t.TempDir(), "haproxy.cfg", []byte(text))
	if out, err := exec.Command("haproxy", "-c", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("haproxy -c: %s", out)
	}
	background(t, "haproxy", "-db", "-f", path)
	addr = "127.0.0.1:" + port
	answers(t, addr)
	return addr
}

// dialPath opens a WebSocket at a path from an address.
func dialPath(addr, path, from, first string) (net.Conn, *bufio.Reader, error) {
	d := net.Dialer{Timeout: 20 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	nc.SetDeadline(time.Now().Add(60 * time.Second))
	io.WriteString(nc, first+"GET "+path+" HTTP/1.1\r\nHost: ws.example.com\r\nUpgrade: "+
		"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
		"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	r := bufio.NewReaderSize(nc, 512)
	return nc, r, skipTo(r, "connection_established")
}

// behind checks what must hold behind every proxy: the prefix, silence longer than its time-out,
// the client's address, the signed API, 5,000 connections. brief is a proxy with a time-out of 3 s,
// in which not all connections need to come.
func behind(t *testing.T, s *server, brief, addr string) {
	t.Helper()
	silent, r, err := dialPath(brief, "/ws/app/app-key", "127.0.0.7", "")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s.says(" remote=127.0.0.7\n")
	began := time.Now()
	for range 5 { // pinged every second by the server; the proxy gives up after 3
		if err := skipTo(r, "pusher:ping"); err != nil {
			t.Fatalf("after %v of silence: %v", time.Since(began), err)
		}
		silent.Write(clientFrame([]byte(`{"event":"pusher:pong"}`), 1))
	}
	t.Logf("a client that only answers pings lives through %v, with a time-out of 3 s in the proxy",
		time.Since(began).Round(100*time.Millisecond))
	const n = 5000
	conns, readers := make([]net.Conn, n), make([]*bufio.Reader, n)
	each(n, 32, func(i int) {
		nc, r, err := dialPath(addr, "/ws/app/app-key", "127.0.0."+strconv.Itoa(2+i%4), "")
		if err != nil {
			t.Error(err)
			return
		}
		nc.Write(clientFrame([]byte(`{"event":"pusher:subscribe","data":{"channel":"load"}}`), 1))
		if err := skipTo(r, "subscription_succeeded"); err != nil {
			t.Error(err)
		}
		conns[i], readers[i] = nc, r
	})
	if t.Failed() {
		return
	}
	if err := signedTrigger(addr, "/ws", "load", "the-event"); err != nil {
		t.Fatal(err)
	}
	received := atomic.Int64{}
	each(n, 8, func(i int) {
		if skipTo(readers[i], "the-event") == nil {
			received.Add(1)
		}
		conns[i].Close()
	})
	t.Logf("%d connections through the proxy, %d have received the event", n, received.Load())
	if received.Load() != n {
		t.Errorf("%d of %d have received the event", received.Load(), n)
	}
}

// signedTrigger publishes below a prefix, which pusher-http-go does not support.
func signedTrigger(addr, prefix, channel, event string) error {
	p := pusher.Client{AppID: "app-id", Key: "app-key", Secret: "app-secret", Host: addr,
		HTTPClient: &http.Client{Timeout: 20 * time.Second, Transport: prefixed(prefix)}}
	return p.Trigger(channel, event, "x")
}

// prefixed sends requests below a prefix. Their signature covers the path without the prefix, which
// the server accepts too.
type prefixed string

func (p prefixed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Path = string(p) + r.URL.Path
	r.Host = "ws.example.com"
	return http.DefaultTransport.RoundTrip(r)
}

func proxied() []string {
	return append(oneApp(), "REVERB_SERVER_PATH=/ws", "REVERB_TRUSTED_PROXIES=127.0.0.1",
		"REVERB_LOG_LEVEL=debug", "REVERB_APP_PING_INTERVAL=1", "REVERB_APP_ACTIVITY_TIMEOUT=60")
}

func TestNginx(t *testing.T) {
	need(t, "nginx")
	s := start(t, proxied()...)
	behind(t, s, startNginx(t, s.addr, "/ws", "3s"), startNginx(t, s.addr, "/ws", "60s"))
	// The server does not believe a peer that is not a proxy.
	nc, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}).Dial("tcp",
		s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "GET /ws/app/wrong HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: "+
		"192.0.2.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
		"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	s.says(" remote=127.0.0.9:")
}

func TestHAProxy(t *testing.T) {
	need(t, "haproxy")
	s := start(t, proxied()...)
	behind(t, s, startHAProxy(t, s.addr, "/ws", "3s", "check"),
		startHAProxy(t, s.addr, "/ws", "60s", "check"))
}

func TestProxyProtocol(t *testing.T) {
	need(t, "haproxy")
	env := append(oneApp(), "REVERB_PROXY_PROTOCOL=true", "REVERB_LOG_LEVEL=debug")
	s := start(t, env...)
	addr := startHAProxy(t, s.addr, "", "60s", "send-proxy-v2 check check-send-proxy")
	nc, _, err := dialPath(addr, "/app/app-key", "127.0.0.7", "")
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	s.says(" remote=127.0.0.7\n")
	if nc, _, err = dialPath(s.addr, "/app/app-key", "",
		"PROXY TCP4 192.0.2.33 192.0.2.1 1234 80\r\n"); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	s.says(" remote=192.0.2.33\n")
	if nc, _, err = dialPath(s.addr, "/app/app-key", "", ""); err == nil {
		t.Error("a connection without the header was let in")
	}
	nc.Close()
	health := command(program, "health")
	_, port, _ := net.SplitHostPort(s.addr)
	health.Env = append(env, "REVERB_ENV_FILE=/dev/null", "REVERB_SERVER_HOST=127.0.0.1",
		"REVERB_SERVER_PORT="+port)
	if out, err := health.CombinedOutput(); err != nil {
		t.Errorf("health: %v, %s", err, out)
	}
	// The same below TLS.
	dir, ca := t.TempDir(), newAuthority(t)
	c := ca.issue("ws.test", -1, 90)
	s = start(t, append(env, "REVERB_TLS_CERT="+write(t, dir, "both.pem", c.cert, c.key))...)
	raw, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	io.WriteString(raw, "PROXY TCP6 2001:db8::7 2001:db8::1 4321 443\r\n")
	over := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	io.WriteString(over, "GET /app/app-key HTTP/1.1\r\nHost: x\r\nUpgrade: "+
		"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
		"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	if err := skipTo(bufio.NewReader(over), "connection_established"); err != nil {
		t.Error(err)
	}
	s.says(" remote=2001:db8::7\n")
}

// imageStore is a place for images of this test alone. The function runs buildah there and
// gives what it printed.
func imageStore(t *testing.T) (buildah func(args ...string) string, store []string) {
	t.Helper()
	need(t, "buildah")
	dir := t.TempDir()
	store = []string{"--storage-driver", "vfs", "--root", filepath.Join(dir, "root"), "--runroot",
		filepath.Join(dir, "run")}
	return func(args ...string) string {
		t.Helper()
		out, err := command("buildah", slices.Concat(store, args)...).CombinedOutput()
		if err != nil {
			t.Fatalf("buildah %s: %v\n%s", args[0], err, out)
		}
		return strings.TrimSpace(string(out))
	}, store
}

// runsInside starts the server in a container, asks for its health and publishes from inside.
func runsInside(t *testing.T, store []string, container string) {
	t.Helper()
	port := oddPort(t)
	inside := func(args ...string) *exec.Cmd {
		all := slices.Concat(store, []string{"run", "--isolation", "chroot", "--user",
			"65532:65532"})
		for _, e := range append(oneApp(), "REVERB_SERVER_PORT="+port, "REVERB_SHUTDOWN_GRACE=0") {
			all = append(all, "--env", e)
		}
		return command("buildah", append(append(all, container, "--", "/reverb"), args...)...)
	}
	server := inside("start")
	var log bytes.Buffer
	server.Stderr = &log
	server.SysProcAttr.Setpgid = true
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		syscall.Kill(-server.Process.Pid, syscall.SIGTERM)
		server.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	answers(t, "127.0.0.1:"+port)
	if out, err := inside("health").CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "OK") {
		t.Errorf("health inside: %v, %s", err, out)
	}
	if out, err := inside("status").CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "\nconnections ") {
		t.Errorf("status inside: %v, %s\n%s", err, out, log.String())
	}
	listener := subscriber(t, "127.0.0.1:"+port, "x")
	if out, err := inside("trigger", "x", "e", `{"from":"inside"}`).CombinedOutput(); err != nil {
		t.Errorf("trigger inside: %v, %s", err, out)
	}
	listener.nextText(t, "inside")
}

// TestImage builds the image from scratch and runs it.
func TestImage(t *testing.T) {
	buildah, store := imageStore(t)
	dir := t.TempDir()
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "reverb", b)
	os.Chmod(filepath.Join(dir, "reverb"), 0o755)
	roots, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		t.Skip(err)
	}
	write(t, dir, "ca-certificates.crt", roots)
	if err := os.Mkdir(filepath.Join(dir, "control"), 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := filepath.Abs("../deploy/Containerfile.binary")
	if err != nil {
		t.Fatal(err)
	}
	buildah("build", "--isolation", "chroot", "-f", file, "-t", "reverb-test", dir)
	archive := filepath.Join(dir, "image.tar")
	var image struct {
		OCIv1 struct {
			Config struct {
				User       string
				Entrypoint []string
			} `json:"config"`
		}
	}
	if err := json.Unmarshal([]byte(buildah("inspect", "--type", "image", "reverb-test")),
		&image); err != nil {
		t.Fatal(err)
	}
	buildah("push", "-q", "reverb-test", "oci-archive:"+archive)
	packed, err := os.Stat(archive)
	if err != nil {
		t.Fatal(err)
	}
	size := len(b) + len(roots)
	t.Logf("image: %d bytes of files, %d bytes packed; user %s, entry point %v", size,
		packed.Size(), image.OCIv1.Config.User, image.OCIv1.Config.Entrypoint)
	if size > 11_300_000 || image.OCIv1.Config.User != "65532:65532" {
		t.Errorf("%d bytes, user %s; want at most 11,300,000 and 65532:65532", size,
			image.OCIv1.Config.User)
	}
	container := buildah("from", "--pull-never", "reverb-test")
	t.Cleanup(func() { buildah("rm", container) })
	runsInside(t, store, container)
}

// TestMetrics compares every counter with what a client has counted.
func TestMetrics(t *testing.T) {
	s := start(t, append(oneApp(), "REVERB_ADMIN_LISTEN=127.0.0.1:0",
		"REVERB_METRICS_PREFIX=soketi_", "REVERB_ALLOWED_ORIGINS=example.com",
		"REVERB_MAX_REQUEST_SIZE=20000", "REVERB_APP_PING_INTERVAL=3600")...)
	admin := "http://" + adminAddr(t, s)
	const events, members = 10_000, 5
	var sent, sentBytes, received, receivedBytes int // by us
	var all []*rawConn
	take := func(c *rawConn, want string) {
		t.Helper()
		for {
			e := c.next()
			text, ok := e["text"].(string)
			if !ok && e["http"] == nil && e["handshake"] == nil && e["status"] == nil {
				if e == nil || e["tcp"] != nil {
					t.Fatalf("waiting for %s: %v", want, e)
				}
				continue
			}
			if ok {
				received++
				receivedBytes += len(text)
				if strings.Contains(text, want) {
					return
				}
			}
		}
	}
	say := func(c *rawConn, text string) {
		c.send(text)
		sent++
		sentBytes += len(text)
	}
	for range members {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		c := &rawConn{nc: nc, app: recordedApp("main")}
		c.arrived = sync.NewCond(&c.mu)
		io.WriteString(nc, "GET /app/app-key HTTP/1.1\r\nHost: x\r\nOrigin: "+
			"http://example.com\r\nUpgrade: websocket\r\nConnection: "+
			"Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: "+
			"13\r\n\r\n")
		go c.readLoop()
		take(c, "connection_established")
		say(c, `{"event":"pusher:subscribe","data":{"channel":"public"}}`)
		take(c, "subscription_succeeded")
		all = append(all, c)
	}
	say(all[0], `{"event":"pusher:subscribe","data":{"channel":"cache-x"}}`)
	take(all[0], "cache_miss")
	say(all[0], `{"event":"client-hello","channel":"public","data":{"a":1}}`)
	for _, c := range all[1:] {
		take(c, "client-hello")
	}
	say(all[0], `{"event":"pusher:subscribe",`+
		`"data":{"channel":"private-x","auth":"app-key:wrong"}}`)
	take(all[0], "subscription_error")
	p := publisher(s.addr)
	each(events/10, 4, func(i int) {
		var batch []pusher.Event
		for k := range 10 {
			batch = append(batch, pusher.Event{Channel: "public", Name: "e",
				Data: strconv.Itoa(10*i + k)})
		}
		if _, err := p.TriggerBatch(batch); err != nil {
			t.Error(err)
		}
	})
	for _, c := range all {
		for range events {
			take(c, `"event":"e"`)
		}
	}
	say(all[1], `{"event":"pusher:unsubscribe","data":{"channel":"public"}}`)
	say(all[1], `{"event":"pusher:ping"}`)
	take(all[1], "pusher:pong")
	wrong := *p
	wrong.Secret = "wrong"
	if err := wrong.Trigger("public", "e", "x"); err == nil {
		t.Error("a wrong secret was taken")
	}
	refused := dialKey(t, s.addr, "no-such-key")
	refused.nextText(t, `"code":4001`)
	origin := dialKey(t, s.addr, "app-key")
	origin.nextText(t, `"code":4009`)
	all[2].send(strings.Repeat("x", 20_000)) // too big, so its message is never complete
	for e := all[2].next(); e["close"] != 1009; e = all[2].next() {
		if e == nil {
			t.Fatal("no close frame")
		}
	}
	// Messages of a refusal count as sent too: the errors above.
	text := ""
	value := func(name string) float64 {
		t.Helper()
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(line, "soketi_"+name+" "); ok {
				f, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
		}
		t.Errorf("there is no %s", name)
		return -1
	}
	_, port, _ := net.SplitHostPort(s.addr)
	app := `{app_id="app-id",port="` + port + `"}`
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, text = get(t, admin+"/metrics")
		if value("connections_closed_total{reason=\"too_big\"}") == 1 &&
			value("new_disconnections_total"+app) == 1 || time.Now().After(end) {
			break
		}
	}
	originError := len(
		`{"event":"pusher:error","data":{"code":4009,"message":"Origin not allowed"}}`)
	for name, want := range map[string]float64{
		"connected" + app: members - 1, "new_connections_total" + app: members,
		"new_disconnections_total" + app:   1,
		"ws_messages_received_total" + app: float64(sent),
		"socket_received_bytes" + app:      float64(sentBytes),
		"ws_messages_sent_total" + app:     float64(received + 1),
		"socket_transmitted_bytes" + app:   float64(receivedBytes + originError),
		"client_events_total" + app:        1, "rate_limit_triggered_total" + app: 0,
		"http_calls_received_total" + app: events / 10, "published_events_total" + app: events,
		`active_channels{app_id="app-id",channel_type="public"}`:               1,
		`active_subscriptions{app_id="app-id",channel_type="public"}`:          members - 2,
		`active_channels{app_id="app-id",channel_type="cache"}`:                1,
		`channel_subscriptions_total{app_id="app-id",channel_type="public"}`:   members,
		`channel_unsubscriptions_total{app_id="app-id",channel_type="public"}`: 2,
		`connections_closed_total{reason="too_big"}`:                           1,
		`connections_closed_total{reason="unknown_app"}`:                       1,
		`connections_closed_total{reason="origin_not_allowed"}`:                1,
		`refused_total{reason="unknown_app"}`:                                  1,
		`refused_total{reason="origin_not_allowed"}`:                           1,
		`refused_total{reason="unauthorized"}`:                                 1,
		`refused_total{reason="subscription_unauthorized"}`:                    1,
		"send_queue_bytes": 0, "draining": 0,
	} {
		if got := value(name); got != want {
			t.Errorf("%s is %v, the client has counted %v", name, got, want)
		}
	}
	if n := value("publish_to_socket_seconds_count"); n < events || n > 2*events+10 {
		t.Errorf("%v latencies for %d events on two loops", n, events)
	}
	t.Logf("%d events to %d members: %d messages of %d bytes received, %d sent; all counters agree",
		events, members, received, receivedBytes, sent)
	need(t, "promtool")
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// TestLogFlood checks that an attacker cannot fill the disk.
func TestLogFlood(t *testing.T) {
	s := start(t, append(oneApp(), "REVERB_LOG_FORMAT=json")...)
	each(2000, 16, func(i int) {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		io.WriteString(nc, "GET /app/wrong HTTP/1.1\r\nHost: x\r\nUpgrade: "+
			"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
			"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
		skipTo(bufio.NewReader(nc), "4001")
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		// until a line is allowed again
		c := dialKey(t, s.addr, "wrong")
		c.nextText(t, "4001")
		s.mu.Lock()
		text := strings.Join(s.log, "\n")
		s.mu.Unlock()
		if strings.Contains(text, `"left_out":`) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing says how many lines were left out")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := 0
	for _, line := range s.log {
		if !strings.HasPrefix(line, "{") {
			continue // what is in force
		}
		lines++
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil || v["msg"] == nil {
			t.Errorf("%s: %v", line, err)
		}
		if strings.Contains(line, "app-secret") {
			t.Error("the secret shows")
		}
	}
	if lines > 100 {
		t.Errorf("%d lines", lines)
	}
	t.Logf("2,000 refused connections, %d lines", lines)
}

// TestCheck runs reverb check.
func TestCheck(t *testing.T) {
	s := start(t, oneApp()...)
	_, port, _ := net.SplitHostPort(s.addr)
	base := append(oneApp(), "REVERB_ENV_FILE=/dev/null", "REVERB_SERVER_HOST=127.0.0.1",
		"REVERB_SERVER_PORT="+port, "REVERB_HOST=127.0.0.1")
	for _, tt := range []struct {
		before string
		env    []string
		code   int
		want   []string
	}{
		{"", []string{"REVERB_PORT=" + port, "REVERB_SCHEME=http"}, 0,
			[]string{"ok   listening: reverb is running on", "an event came back in",
				"ok   clock"}},
		{"", []string{"REVERB_PORT=1", "REVERB_SCHEME=http"}, 1,
			[]string{"FAIL public address", "a proxy must forward port 1 to " + port}},
		{"", []string{"REVERB_PORT=" + port, "REVERB_SCHEME=https"}, 1,
			[]string{"FAIL public address", "set REVERB_SCHEME=http"}},
		{"ulimit -n 200; ", []string{"REVERB_PORT=" + port, "REVERB_SCHEME=http"}, 1,
			[]string{"FAIL descriptors: 200", "ulimit -n 65536"}},
		{"", []string{"REVERB_APP_KEY=other", "REVERB_PORT=" + port, "REVERB_SCHEME=http"}, 1,
			[]string{"FAIL public address", "4001"}},
		{"", []string{"REVERB_APP_SECRET=other", "REVERB_PORT=" + port, "REVERB_SCHEME=http"}, 1,
			[]string{"publishing is answered 401", "REVERB_APP_SECRET"}},
	} {
		cmd := command("sh", "-c", tt.before+`exec "$0" check`, program)
		cmd.Env = append(append([]string{}, base...), tt.env...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != tt.code {
			t.Errorf("%v: exit code %d, want %d", tt.env, code, tt.code)
		}
		for _, want := range tt.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%v: %q is missing in\n%s", tt.env, want, out)
			}
		}
		if strings.Contains(string(out), "app-secret") {
			t.Error("the secret shows")
		}
	}
}
