package test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A throng is many plain connections whose events have numbers. Each notes what is missing, doubled
// or out of order, and how late an event was.
type throng struct {
	t      testing.TB
	secure *tls.Config // nil: without TLS
	all    []*walker
	late   sync.Mutex
	latest []time.Duration // of each event, while timing
	timing atomic.Bool
}

// walker is one connection of a throng.
type walker struct {
	of    *throng
	nc    net.Conn
	in    *bufio.Reader
	id    string
	room  string
	next  atomic.Int64 // the number of the next event of its room; 0: any
	pongs atomic.Int64
	heard atomic.Int64           // numbered events
	wrong atomic.Pointer[string] // what was not as it should be
	ended atomic.Bool
	other func(message []byte) // gets what is not a numbered event; nil: nobody does
}

func (w *walker) fault(format string, args ...any) {
	text := w.id + " in " + w.room + ": " + fmt.Sprintf(format, args...)
	w.wrong.CompareAndSwap(nil, &text)
}

// walk connects one more to a server; the caller reads with run.
func (c *throng) walk(addr, room string, buffer int) *walker {
	c.t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		c.t.Fatal(err)
	}
	if buffer > 0 {
		nc.(*net.TCPConn).SetReadBuffer(buffer)
	}
	if c.secure != nil {
		nc = tls.Client(nc, c.secure)
	}
	c.t.Cleanup(func() { nc.Close() })
	w := &walker{of: c, nc: nc, in: bufio.NewReaderSize(nc, 2048), room: room}
	io.WriteString(nc, "GET /app/app-key HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Sec-WebSocket-Version: 13\r\n\r\n")
	for line := "."; line != "\r\n"; {
		if line, err = w.in.ReadString('\n'); err != nil {
			c.t.Fatal(err)
		}
	}
	var hello struct{ Data string }
	var data struct {
		ID string `json:"socket_id"`
	}
	json.Unmarshal(w.frame(), &hello)
	json.Unmarshal([]byte(hello.Data), &data)
	if w.id = data.ID; w.id == "" {
		c.t.Fatal("no welcome")
	}
	c.all = append(c.all, w)
	return w
}

// frame reads a message; nil at the end.
func (w *walker) frame() []byte {
	var head [2]byte
	if _, err := io.ReadFull(w.in, head[:]); err != nil {
		return nil
	}
	size := int(head[1] & 127)
	if size == 126 {
		var b [2]byte
		io.ReadFull(w.in, b[:])
		size = int(binary.BigEndian.Uint16(b[:]))
	} else if size == 127 {
		var b [8]byte
		io.ReadFull(w.in, b[:])
		size = int(binary.BigEndian.Uint64(b[:]))
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(w.in, payload); err != nil {
		return nil
	}
	if head[0]&15 == 8 {
		w.fault("closed with %q", payload)
		return nil
	}
	return payload
}

// sign signs a subscription.
func (w *walker) sign(channel, data string) string {
	mac := hmac.New(sha256.New, []byte("app-secret"))
	text := w.id + ":" + channel
	if data != "" {
		text += ":" + data
	}
	io.WriteString(mac, text)
	return "app-key:" + hex.EncodeToString(mac.Sum(nil))
}

// subscribe subscribes and does not wait for the answer.
func (w *walker) subscribe(channel, user string) {
	data := ""
	if user != "" {
		data = fmt.Sprintf(`{"user_id":%q}`, user)
	}
	b, _ := json.Marshal(map[string]any{"event": "pusher:subscribe", "data": map[string]string{
		"channel": channel, "auth": w.sign(channel, data), "channel_data": data}})
	w.nc.Write(clientFrame(b, 1))
}

// numbered is the data of an event of a room.
type numbered struct {
	N  int
	At int64 // Unix nanoseconds
}

// run reads until the connection ends.
func (w *walker) run() {
	defer w.ended.Store(true)
	defer w.nc.Close()
	for {
		b := w.frame()
		if b == nil {
			return
		}
		if bytes.Contains(b, []byte(`"pusher:pong"`)) {
			w.pongs.Add(1)
			continue
		}
		if bytes.Contains(b, []byte(`"pusher:error"`)) {
			w.fault("%s", b)
		}
		if !bytes.HasPrefix(b, []byte(`{"event":"n"`)) {
			if w.other != nil {
				w.other(b)
			}
			continue
		}
		var e struct{ Data string }
		var n numbered
		if json.Unmarshal(b, &e) != nil || json.Unmarshal([]byte(e.Data), &n) != nil {
			w.fault("cannot be read: %.80s", b)
			continue
		}
		if next := w.next.Load(); next != 0 && int64(n.N) != next {
			w.fault("event %d came instead of %d", n.N, next)
		}
		w.next.Store(int64(n.N) + 1)
		w.heard.Add(1)
		if w.of.timing.Load() {
			w.of.late.Lock()
			w.of.latest = append(w.of.latest, time.Since(time.Unix(0, n.At)))
			w.of.late.Unlock()
		}
	}
}

// publish publishes numbered events to rooms in turn, until stop is closed, and returns the number
// of the last event of each room.
func publishNumbers(t testing.TB, addr string, rooms []string, gap time.Duration, extra string,
	stop <-chan struct{}) (last map[string]int) {
	p := publisher(addr)
	p.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	last = make(map[string]int)
	tick := time.NewTicker(gap)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return last
		case <-tick.C:
		}
		room := rooms[i%len(rooms)]
		n := last[room] + 1
		data, _ := json.Marshal(struct {
			numbered
			Extra string
		}{numbered{n, time.Now().UnixNano()}, extra})
		if err := p.Trigger(room, "n", json.RawMessage(data)); err != nil {
			t.Errorf("event %d of %s: %v", n, room, err)
			return last
		}
		last[room] = n
	}
}

// installed copies the program into a folder of its own, as an operator has it, and starts it.
func installed(t *testing.T, env ...string) *server {
	t.Helper()
	return startFrom(t, install(t), env...)
}

// upgrade runs the command, and returns how long it took.
func (s *server) upgrade(t *testing.T) time.Duration {
	t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	cmd := command(s.cmd.Path, "upgrade", "--port", port)
	cmd.Env = s.cmd.Env
	begun := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.Fatalf("%v\n%s\n%s", err, out, strings.Join(s.log, "\n"))
	}
	return time.Since(begun)
}

// TestUpgrade upgrades a server under load: nobody is closed, every event comes once and in order,
// half-sent frames and unsent bytes go on.
func TestUpgrade(t *testing.T) {
	size, rooms, upgrades := 2000, 50, 5
	if os.Getenv("REVERB_TEST_LONG") != "" {
		size, rooms, upgrades = 15_000, 150, 20
	}
	s := installed(t, append(oneApp(), "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=all")...)
	c := &throng{t: t}
	var names []string
	for i := range rooms {
		names = append(names, fmt.Sprintf("private-room-%d", i))
	}
	for i := range size {
		w := c.walk(s.addr, names[i%rooms], 0)
		w.subscribe(w.room, "")
		if i%2 == 0 {
			w.subscribe(fmt.Sprintf("presence-p%d", i%97), fmt.Sprintf("u%d", i))
		}
		w.subscribe("private-cache-x", "")
		go w.run()
	}
	stop, published := make(chan struct{}), make(chan map[string]int)
	go func() { published <- publishNumbers(t, s.addr, names, 5*time.Millisecond, "", stop) }()
	c.hear(s, c.all)
	ping := clientFrame([]byte(`{"event":"pusher:ping","data":{}}`), 1)
	for range upgrades {
		before := make([]int64, size)
		for i, w := range c.all {
			if before[i] = w.pongs.Load(); i%2 == 0 {
				w.nc.Write(ping[:i%len(ping)])
			}
		}
		c.timing.Store(true)
		took := s.upgrade(t)
		c.hear(s, c.all)
		c.timing.Store(false)
		for i, w := range c.all {
			if i%2 == 0 {
				w.nc.Write(ping[i%len(ping):])
			}
		}
		for i, w := range c.all {
			s.within(w.id+": a pong", func() bool { return i%2 != 0 || w.pongs.Load() > before[i] })
		}
		c.report(took)
	}
	close(stop)
	last := <-published
	c.whole(s, last)
	for _, w := range c.all {
		w.nc.Close()
	}
	t.Logf("%d events of the first room", last[names[0]])
}

// report tells how late events were since the last report.
func (c *throng) report(took time.Duration) {
	c.late.Lock()
	defer c.late.Unlock()
	slices.Sort(c.latest)
	if n := len(c.latest); n > 0 {
		c.t.Logf("%d connections in %v; %d events: p50 %v, p99 %v, latest %v", len(c.all), took, n,
			c.latest[n/2], c.latest[n*99/100], c.latest[n-1])
	}
	c.latest = nil
}

// whole waits until each has the last event of its room, and fails the test if one has ended or
// has seen a fault. last are the numbers of these events.
func (c *throng) whole(s *server, last map[string]int) {
	c.t.Helper()
	for _, w := range c.all {
		s.within(w.id+": the last event of "+w.room, func() bool {
			return w.next.Load() == int64(last[w.room])+1 || w.wrong.Load() != nil || w.ended.Load()
		})
	}
	unhurt(c.t, c.all)
}

// resources are the descriptors of a process and its memory in kB.
func resources(t *testing.T, pid int) (files, kB int) {
	t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "RssAnon:")
	if f := strings.Fields(rest); len(f) > 0 {
		kB, _ = strconv.Atoi(f[0])
	}
	return len(all), kB
}

// within waits until something is so.
func (s *server) within(what string, so func() bool) {
	s.t.Helper()
	for begun := time.Now(); !so(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.t.Fatalf("not within 20 s: %s\n%s", what, strings.Join(s.log, "\n"))
		}
	}
}

// successors are the numbers of the processes that have taken over, in order.
func (s *server) successors() (pids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.log {
		if _, rest, ok := strings.Cut(line, `msg="the successor serves" pid=`); ok {
			pid, _, _ := strings.Cut(rest, " ")
			pids = append(pids, pid)
		}
	}
	return pids
}

// secureServer starts a server with TLS, which also listens without at plain.
func secureServer(t *testing.T, env ...string) (s *server, secure *tls.Config, plain string) {
	t.Helper()
	return secureServerAs(t, `exec "$program" "$@"`, env...)
}

// secureServerAs is secureServer, by a script as for installedAs.
func secureServerAs(t *testing.T, script string, env ...string) (s *server, secure *tls.Config,
	plain string) {
	t.Helper()
	ca := newAuthority(t)
	c := ca.issue("ws.test", -1, 90)
	s = installedAs(t, script, append(append(oneApp(), "REVERB_PLAIN_LISTEN=127.0.0.1:0",
		"REVERB_TLS_CERT="+write(t, t.TempDir(), "both.pem", c.cert, c.key)), env...)...)
	s.says("with=plain")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range s.log {
		if _, rest, ok := strings.Cut(line, "listening on "); ok &&
			strings.Contains(line, "with=plain") {
			plain = rest[:strings.IndexAny(rest, "\" ")]
		}
	}
	return s, trusting(ca), plain
}

// TestUpgradeTLS upgrades a server with TLS connections three times: nobody is closed, every event
// comes once and in order, half-sent frames go on. Then the last process stops, and tells all.
func TestUpgradeTLS(t *testing.T) {
	size, rooms := 200, 10
	if os.Getenv("REVERB_TEST_LONG") != "" {
		size, rooms = 2000, 50
	}
	s, secure, plain := secureServer(t, "REVERB_SHUTDOWN_GRACE=1")
	c := &throng{t: t, secure: secure}
	var names []string
	for i := range rooms {
		names = append(names, fmt.Sprintf("private-room-%d", i))
	}
	for i := range size {
		w := c.walk(s.addr, names[i%rooms], 0)
		w.subscribe(w.room, "")
		w.subscribe(fmt.Sprintf("presence-p%d", i%7), fmt.Sprintf("u%d", i))
		go w.run()
	}
	stop, published := make(chan struct{}), make(chan map[string]int)
	go func() { published <- publishNumbers(t, plain, names, time.Millisecond, "", stop) }()
	ping := clientFrame([]byte(`{"event":"pusher:ping","data":{}}`), 1)
	for round := range 3 {
		before := make([][2]int64, len(c.all))
		for i, w := range c.all {
			before[i] = [2]int64{w.pongs.Load(), w.heard.Load()}
			w.nc.Write(ping[:i%len(ping)])
		}
		took := s.upgrade(t)
		for i, w := range c.all {
			w.nc.Write(ping[i%len(ping):])
		}
		for i, w := range c.all {
			s.within(w.id+": a pong and events", func() bool {
				return w.pongs.Load() > before[i][0] && w.heard.Load() > before[i][1]+1
			})
		}
		files, kB := resources(t, s.cmd.Process.Pid)
		t.Logf("upgrade %d of %d connections in %v; the relay has %d descriptors and %d kB",
			round+1, len(c.all), took, files, kB)
		if files < 2*size || files > 2*size+32 {
			t.Errorf("the relay of %d connections has %d descriptors", size, files)
		}
		if round == 0 { // one that the second process will relay
			w := c.walk(s.addr, names[0], 0)
			w.subscribe(w.room, "")
			go w.run()
		}
	}
	close(stop)
	last := <-published
	c.whole(s, last)
	t.Logf("%d events of the first room", last[names[0]])
	second := s.successors()[0]
	if _, err := os.Stat("/proc/" + second); err != nil {
		t.Errorf("the second process relays no more: %v", err)
	}
	c.all[size].nc.Close()
	c.all = c.all[:size]
	s.within("the end of the second process", func() bool {
		_, err := os.Stat("/proc/" + second)
		return err != nil
	})
	s.says("the relay of TLS connections has ended, as every connection has ended\" connections=")
	s.cmd.Process.Signal(syscall.SIGTERM)
	for _, w := range c.all {
		s.within(w.id+": the end", w.ended.Load)
		told := "nothing"
		if why := w.wrong.Load(); why != nil {
			told = *why
		}
		if !strings.Contains(told, `"code":4200`) {
			t.Fatalf("%s: not told 4200, but %s", w.id, told)
		}
		w.nc.Close()
	}
	if err := s.wait(10 * time.Second); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}
