package test

import (
	"bufio"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// resetLimit bounds the time until a new client gets in after the others were reset. Larger: the
// test misses a server that stands still. Smaller: it fails on a busy machine.
const resetLimit = 500 * time.Millisecond

// TestResetWithLongQueues resets subscribers for which very many small events wait. It measures how
// long a new client takes to get in, while the events come and afterwards. REVERB_TEST_PROGRAM
// names another program to measure.
func TestResetWithLongQueues(t *testing.T) {
	useOtherProgram(t)
	counts := []int{200}
	if long() {
		counts = append(counts, 1000)
	}
	for _, n := range counts {
		for _, way := range []string{"clients", "API", "TLS"} {
			t.Run(fmt.Sprintf("%s/%d", way, n),
				func(t *testing.T) { resetWithLongQueues(t, way, n) })
		}
	}
}

func useOtherProgram(t *testing.T) {
	if other := os.Getenv("REVERB_TEST_PROGRAM"); other != "" {
		own := program
		program = other
		t.Cleanup(func() { program = own })
	}
}

func resetWithLongQueues(t *testing.T, way string, n int) {
	env := append(oneApp(), "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=all")
	open := func(addr string) (net.Conn, error) { return dialPlain(addr, "z") }
	if way == "TLS" {
		dir, c := t.TempDir(), newAuthority(t).issue("ws.test", -1, 90)
		write(t, dir, "cert.pem", c.cert)
		write(t, dir, "key.pem", c.key)
		env = append(env, "REVERB_TLS_CERT="+filepath.Join(dir, "cert.pem"),
			"REVERB_TLS_KEY="+filepath.Join(dir, "key.pem"))
		open = func(addr string) (net.Conn, error) {
			nc, _, err := dialTLS(addr, "z", "", &tls.Config{InsecureSkipVerify: true})
			return nc, err
		}
	}
	s := start(t, env...)
	defer func() { // do not wait for a program that hangs
		if t.Failed() {
			s.cmd.Process.Kill()
			s.wait(10 * time.Second)
		}
	}()
	subscribers := make([]net.Conn, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range subscribers {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			nc, err := open(s.addr)
			if err != nil {
				t.Error(err)
				return
			}
			subscribers[i] = nc // it does not read any more
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	getsIn := func() time.Duration {
		begin := time.Now()
		in := make(chan struct{})
		go func() {
			for time.Since(begin) < 30*time.Second {
				nc, err := open(s.addr)
				if err == nil {
					nc.Close()
					close(in)
					return
				}
			}
		}()
		select {
		case <-in:
		case <-time.After(30 * time.Second):
		}
		return time.Since(begin)
	}

	var over atomic.Bool
	senders, batch := 40, strings.Repeat(
		string(clientFrame([]byte(`{"event":"client-","channel":"z"}`), 1)), 100)
	if way != "clients" {
		senders = 4
	}
	var sending []net.Conn
	for range senders { // all are in before the first sends
		if way == "clients" {
			nc, err := open(s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			sending = append(sending, nc)
		}
	}
	for _, nc := range sending {
		go io.Copy(io.Discard, nc) // a connection that does not read is soon closed as too slow
		wg.Go(func() {
			for !over.Load() {
				nc.SetWriteDeadline(time.Now().Add(3 * time.Second))
				if _, err := io.WriteString(nc, batch); err != nil {
					return
				}
			}
		})
	}
	accepted := new(atomic.Int64) // events of the API
	for range senders - len(sending) {
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if way == "TLS" {
			nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
		}
		wg.Go(func() { publishRaw(nc, &over, accepted) })
	}
	flood := time.After(2 * time.Second)
	time.Sleep(time.Second) // the load, not a wait for something
	during := make(chan time.Duration, 1)
	go func() { during <- getsIn() }()
	<-flood
	over.Store(true)
	for _, nc := range subscribers {
		raw := nc
		if layer, ok := nc.(*tls.Conn); ok {
			raw = layer.NetConn()
		}
		raw.(*net.TCPConn).SetLinger(0)
		raw.Close()
	}
	after := getsIn()
	t.Logf("%s, %d subscribers, %d events by the API: a new client is in after %v during the "+
		"events, %v after the reset",
		way, n, accepted.Load(), (<-during).Round(time.Millisecond), after.Round(time.Millisecond))
	if after > resetLimit {
		t.Errorf("a new client is in %v after the reset; at most %v are allowed", after, resetLimit)
		s.cmd.Process.Kill() // it would hang on
	}
	wg.Wait()
}

// publishRaw publishes small events in batches of ten as fast as one connection takes them, until
// over, and counts the accepted ones. All requests have one signature.
func publishRaw(nc net.Conn, over *atomic.Bool, accepted *atomic.Int64) {
	body := `{"batch":[` + strings.TrimSuffix(
		strings.Repeat(`{"channel":"z","name":"e","data":"x"},`, 10), ",") + `]}`
	query := fmt.Sprintf("auth_key=app-key&auth_timestamp=%d&auth_version=1.0&body_md5=%x",
		time.Now().Unix(), md5.Sum([]byte(body)))
	mac := hmac.New(sha256.New, []byte("app-secret"))
	io.WriteString(mac, "POST\n/apps/app-id/batch_events\n"+query)
	request := fmt.Appendf(nil, "POST /apps/app-id/batch_events?%s&auth_signature=%x "+
		"HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		query, mac.Sum(nil), len(body), body)
	br := bufio.NewReader(nc)
	for !over.Load() {
		nc.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := nc.Write(request); err != nil {
			return
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return
		}
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode == http.StatusOK {
			accepted.Add(10)
		}
	}
}

// dialPlain opens a WebSocket and subscribes it to a channel.
func dialPlain(addr, channel string) (net.Conn, error) { return dialApp(addr, "app-key", channel) }

func dialApp(addr, key, channel string) (net.Conn, error) {
	nc, err := net.DialTimeout("tcp", addr, 30*time.Second)
	if err != nil {
		return nil, err
	}
	nc.SetReadDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(nc, "GET /app/"+key+" HTTP/1.1\r\nHost: x\r\nUpgrade: "+
		"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
		"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	nc.Write(clientFrame([]byte(`{"event":"pusher:subscribe","data":{"channel":"`+channel+`"}}`),
		1))
	defer nc.SetReadDeadline(time.Time{})
	if err := skipTo(bufio.NewReaderSize(nc, 512),
		`subscription_succeeded","data":"{}","channel":"`+channel+`"}`); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}
