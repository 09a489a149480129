package test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
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

func publisher(addr string) *pusher.Client {
	return &pusher.Client{AppID: "app-id", Key: "app-key", Secret: "app-secret", Host: addr}
}

// dial opens a simple connection for tests that count or stall. The handshake is over, and the
// connection knows its socket ID.
func dial(t testing.TB, addr string, from string) *rawConn {
	t.Helper()
	return dialAs(t, addr, recordedApp("main"), from)
}

// dialAs is dial for another app.
func dialAs(t testing.TB, addr string, app credentials, from string) *rawConn {
	t.Helper()
	d := net.Dialer{Timeout: 10 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &rawConn{nc: nc, app: app}
	c.arrived = sync.NewCond(&c.mu)
	io.WriteString(nc, "GET /app/"+app.key+" HTTP/1.1\r\nHost: x\r\nUpgrade: "+
		"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
		"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	return c
}

func (c *rawConn) send(text string) { c.nc.Write(clientFrame([]byte(text), 1)) }

// next waits for one more event and returns it.
func (c *rawConn) next() map[string]any {
	late := false
	timer := time.AfterFunc(10*time.Second, func() {
		c.mu.Lock()
		late = true
		c.arrived.Broadcast()
		c.mu.Unlock()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.events) == 0 && !c.eof && !late {
		c.arrived.Wait()
	}
	if len(c.events) == 0 {
		return nil
	}
	e := c.events[0]
	c.events = c.events[1:]
	return e
}

// nextText waits for the next message whose text holds s.
func (c *rawConn) nextText(t testing.TB, s string) string {
	t.Helper()
	for {
		e := c.next()
		if e == nil || e["tcp"] != nil {
			t.Fatalf("waiting for %q: got %v", s, e)
		}
		if text, _ := e["text"].(string); strings.Contains(text, s) {
			return text
		}
	}
}

func subscriber(t testing.TB, addr, channel string) *rawConn {
	t.Helper()
	c := dial(t, addr, "")
	go c.readLoop()
	c.nextText(t, "connection_established")
	c.send(`{"event":"pusher:subscribe","data":{"channel":"` + channel + `"}}`)
	c.nextText(t, "subscription_succeeded")
	t.Cleanup(func() { c.nc.Close() })
	return c
}

// memory is the resident memory of a process in bytes.
func memory(t *testing.T, pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// threads is how many threads a process has.
func threads(t *testing.T, pid int) int {
	d, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Skip(err)
	}
	return len(d)
}

func TestSizeAndStart(t *testing.T) {
	fi, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	const most = 11_010_048 // how large the program may become with all planned features
	if fi.Size() > most {
		t.Errorf("the binary has %d bytes; at most %d are allowed", fi.Size(), most)
	}
	var took []time.Duration
	rss := 0
	for range 10 {
		s := start(t, oneApp()...)
		took = append(took, s.took)
		rss = max(rss, memory(t, s.cmd.Process.Pid))
		s.stop()
	}
	slices.Sort(took)
	t.Logf("binary %d bytes; start to listening %v (median of 10, %v to %v); resident idle %d KiB",
		fi.Size(), took[5], took[0], took[9], rss>>10)
	if took[0] > 50*time.Millisecond {
		// the slow ones come from a machine that runs other tests too
		t.Errorf("starting takes %v; at most 50ms are allowed", took[0])
	}
	if rss > 15_000_000 {
		t.Errorf("idle it holds %d bytes; at most 15,000,000 are allowed", rss)
	}
}

// runHelper is the client side of TestManyConnections. It is a process of its own, because of its
// descriptors. It opens connections, prints "ready", and prints how many of them have received the
// event that is published then. REVERB_TEST_READ_ON makes them go on reading.
func runHelper() bool {
	addr, n := os.Getenv("REVERB_TEST_DIAL"), 0
	if addr == "" {
		return false
	}
	n, _ = strconv.Atoi(os.Getenv("REVERB_TEST_CONNECTIONS"))
	var ready, received atomic.Int64
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	all := make(chan struct{})
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			err := func() error {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%4))}}
				nc, err := d.Dial("tcp", addr)
				if err != nil {
					return err
				}
				io.WriteString(nc, "GET /app/app-key HTTP/1.1\r\nHost: x\r\nUpgrade: "+
					"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
					"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
				nc.Write(clientFrame([]byte(
					`{"event":"pusher:subscribe","data":{"channel":"load"}}`), 1))
				r := bufio.NewReaderSize(nc, 512)
				if err := skipTo(r,
					`subscription_succeeded","data":"{}","channel":"load"}`); err != nil {
					return err
				}
				<-slots
				if ready.Add(1) == int64(n) {
					fmt.Println("ready")
					close(all)
				}
				<-all
				if err := skipTo(r, "the-event"); err != nil {
					return err
				}
				received.Add(1)
				if os.Getenv("REVERB_TEST_READ_ON") != "" {
					go io.Copy(io.Discard, r)
				}
				return nil
			}()
			if err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
		})
	}
	wg.Wait()
	fmt.Println("received", received.Load())
	io.Copy(io.Discard, os.Stdin) // until the test is done with the connections
	return true
}

// skipTo reads until s has gone by.
func skipTo(r *bufio.Reader, s string) error {
	for at := 0; at < len(s); {
		b, err := r.ReadByte()
		switch {
		case err != nil:
			return err
		case b == s[at]:
			at++
		case b == s[0]:
			at = 1
		default:
			at = 0
		}
	}
	return nil
}

func TestManyConnections(t *testing.T) {
	const n = 15_000
	s := start(t, append(oneApp(), "REVERB_SHUTDOWN_GRACE=1")...)
	pid := s.cmd.Process.Pid
	before, threadsBefore := memory(t, pid), threads(t, pid)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	helper := command(self)
	helper.Env = append(os.Environ(), "REVERB_TEST_DIAL="+s.addr,
		"REVERB_TEST_CONNECTIONS="+strconv.Itoa(n))
	stdin, err := helper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stdin.Close(); helper.Wait() }()
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the clients say %q", lines.Text())
	}
	opened := time.Since(begin)
	after, threadsAfter := memory(t, pid), threads(t, pid)
	per := float64(after-before) / n
	channel, err := publisher(s.addr).Channel("load",
		pusher.ChannelParams{Info: new("subscription_count")})
	if err != nil || channel.SubscriptionCount != n {
		t.Fatalf("got %+v, %v, want %d subscriptions", channel, err, n)
	}
	begin = time.Now()
	if err := publisher(s.addr).Trigger("load", "the-event", "x"); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || lines.Text() != fmt.Sprint("received ", n) {
		t.Fatalf("the clients say %q, want received %d", lines.Text(), n)
	}
	t.Logf("%d connections in %v: %.0f bytes of resident memory each (%d KiB before, %d after), "+
		"%d threads before, %d after; all had the event after %v",
		n, opened, per, before>>10, after>>10, threadsBefore, threadsAfter, time.Since(begin))
	if per > 2048 {
		t.Errorf("%.0f bytes each; at most 2048 are allowed", per)
	}
	if threadsAfter > threadsBefore+50 {
		t.Errorf("%d threads, %d before", threadsAfter, threadsBefore)
	}
}

// latencies publishes count events, waits for each at a subscriber, and returns how
// long each took.
func latencies(t *testing.T, addr string, watch *rawConn, count int, data string) []time.Duration {
	t.Helper()
	p := publisher(addr)
	var all []time.Duration
	for i := range count {
		begin := time.Now()
		if err := p.Trigger("busy", "e"+strconv.Itoa(i), data); err != nil {
			t.Fatal(err)
		}
		watch.nextText(t, `"event":"e`+strconv.Itoa(i)+`"`)
		all = append(all, time.Since(begin))
	}
	slices.Sort(all)
	return all
}

func TestSlowConsumer(t *testing.T) {
	s := start(t, oneApp()...)
	watch := subscriber(t, s.addr, "busy")
	data := strings.Repeat("x", 9000)
	without := latencies(t, s.addr, watch, 300, data)
	slow := dial(t, s.addr, "")
	defer slow.nc.Close()
	slow.send(`{"event":"pusher:subscribe","data":{"channel":"busy"}}`)
	var with []time.Duration
	closed := false
	for round := 0; round < 40 && !closed; round++ {
		with = append(with, latencies(t, s.addr, watch, 50, data)...)
		c, err := publisher(s.addr).Channel("busy",
			pusher.ChannelParams{Info: new("subscription_count")})
		if err != nil {
			t.Fatal(err)
		}
		closed = round > 0 && c.SubscriptionCount == 1
	}
	if !closed {
		t.Fatal("the client that does not read is still subscribed")
	}
	slices.Sort(with)
	q := func(l []time.Duration, p float64) time.Duration { return l[int(float64(len(l)-1)*p)] }
	t.Logf("publish to receipt, without and with a stalled subscriber: median %v and %v, "+
		"99th percentile %v and %v", q(without, .5), q(with, .5), q(without, .99), q(with, .99))
	if q(with, .5) > 5*q(without, .5)+5*time.Millisecond {
		t.Errorf("the median grows from %v to %v", q(without, .5), q(with, .5))
	}
	go slow.readLoop() // now it reads the reason
	for {
		e := slow.next()
		if e == nil || e["tcp"] != nil {
			t.Fatalf("got %v, want a close frame", e)
		}
		if e["close"] != nil {
			if e["close"] != 1013 || !strings.Contains(e["reason"].(string), "Too slow") {
				t.Errorf("got %v, want 1013", e)
			}
			return
		}
	}
}

func TestStalledRequests(t *testing.T) {
	s := start(t, oneApp()...)
	watch := subscriber(t, s.addr, "busy")
	without := latencies(t, s.addr, watch, 200, "x")
	for i := range 2000 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%4))}}
		nc, err := d.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if i%2 == 0 {
			io.WriteString(nc, "GET /app/app-key HTTP/1.1\r\nHost: x\r\nUpgrade: webso")
		} else {
			io.WriteString(nc,
				"POST /apps/app-id/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
		}
	}
	with := latencies(t, s.addr, watch, 200, "x")
	t.Logf("publish to receipt, without and with 2,000 stalled senders: median %v and %v, "+
		"99th percentile %v and %v", without[100], with[100], without[198], with[198])
	if with[100] > 5*without[100]+5*time.Millisecond {
		t.Errorf("the median grows from %v to %v", without[100], with[100])
	}
}

func TestShutdown(t *testing.T) {
	s := start(t, append(oneApp(), "REVERB_SHUTDOWN_GRACE=1")...)
	var clients []*rawConn
	for range 100 {
		clients = append(clients, subscriber(t, s.addr, "x"))
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	for _, c := range clients {
		c.nextText(t, `"code":4200`)
		if e := c.next(); e["close"] != 4200 {
			t.Fatalf("got %v, want close 4200", e)
		}
		if e := c.next(); e["tcp"] != "eof" {
			t.Fatalf("got %v, want the end", e)
		}
		c.nc.Close()
	}
	if err := s.wait(10 * time.Second); err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	s := start(t, append(oneApp(), "REVERB_SHUTDOWN_GRACE=600")...)
	subscriber(t, s.addr, "x")
	subscriber(t, s.addr, "x")
	s.cmd.Process.Signal(syscall.SIGTERM)
	for stopping := false; !stopping; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		stopping = strings.Contains(strings.Join(s.log, "\n"), "stopping")
		s.mu.Unlock()
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.wait(5 * time.Second); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("the server ended with %v, want the signal", err)
	}
}

// socketIDIn is the socket ID in connection_established.
func socketIDIn(t *testing.T, established string) string {
	t.Helper()
	_, rest, ok := strings.Cut(established, `socket_id\":\"`)
	id, _, _ := strings.Cut(rest, `\"`)
	if !ok {
		t.Fatalf("no socket ID in %s", established)
	}
	return id
}
