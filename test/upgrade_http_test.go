package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	pusher "github.com/pusher/pusher-http-go/v5"
)

// posts are publishers that keep their connections, and what became of each event.
type posts struct {
	mu     sync.Mutex
	heard  map[string]int
	failed map[string]error
	sent   int
}

// hear counts what a connection hears.
func (p *posts) hear(message []byte) {
	var e struct{ Event, Data string }
	if json.Unmarshal(message, &e) == nil && e.Event == "post" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.heard[e.Data]++
	}
}

// publish publishes until stop is closed.
func (p *posts) publish(c *pusher.Client, who int, stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-time.After(300 * time.Microsecond):
		}
		name := fmt.Sprintf("%d-%d", who, i)
		err := c.Trigger("private-posts", "post", name)
		p.mu.Lock()
		if p.sent++; err != nil {
			p.failed[name] = err
		}
		p.mu.Unlock()
	}
}

// whole says that every event that was answered was heard once, and every other one never.
func (p *posts) whole() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.heard) == p.sent-len(p.failed)
}

// TestUpgradeHTTP upgrades a server while publishers keep their connections: every request gets its
// answer, and every event comes once. Over TLS connections end, but none between a request that has
// taken effect and its answer.
func TestUpgradeHTTP(t *testing.T) {
	for _, how := range []string{"plain", "nginx", "TLS"} {
		t.Run(how, func(t *testing.T) {
			if how == "nginx" {
				need(t, "nginx")
			}
			upgradeHTTP(t, how)
		})
	}
}

func upgradeHTTP(t *testing.T, how string) {
	publishers, upgrades := 4, 12
	if os.Getenv("REVERB_TEST_LONG") != "" {
		publishers, upgrades = 8, 60
	}
	s, secure, plain := secureServer(t)
	to := map[string]string{"plain": plain, "TLS": s.addr}[how]
	if how == "nginx" {
		to = startNginx(t, plain, "", "60s")
	}
	p := &posts{heard: map[string]int{}, failed: map[string]error{}}
	c := &throng{t: t}
	w := c.walk(plain, "private-posts", 0)
	w.other = p.hear
	go w.run()
	w.subscribe(w.room, "")
	stop := make(chan struct{})
	var ends sync.WaitGroup
	for i := range publishers {
		one := publisher(to)
		one.Secure = how == "TLS"
		one.HTTPClient = &http.Client{Transport: &http.Transport{TLSClientConfig: secure},
			Timeout: 20 * time.Second}
		ends.Go(func() { p.publish(one, i, stop) })
	}
	some := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.heard) > publishers
	}
	s.within("events", some)
	for range upgrades {
		s.upgrade(t)
		p.mu.Lock()
		sent := p.sent
		p.mu.Unlock()
		s.within("more events", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.sent > sent+100
		})
	}
	close(stop)
	ends.Wait()
	s.within("every event that was answered", p.whole)
	unhurt(t, c.all)
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Logf("%d requests, %d failed", p.sent, len(p.failed))
	for name, n := range p.heard {
		if err := p.failed[name]; err != nil || n != 1 {
			t.Errorf("event %s was heard %d times, its publisher got %v", name, n, err)
		}
	}
	for name, err := range p.failed {
		if how != "TLS" {
			t.Errorf("event %s: %v", name, err)
		}
	}
}

// TestUpgradeSilentHTTP upgrades a server that has HTTP connections without a request: they stay
// open, also those that never had one, or whose proxy has told of their client; and they delay
// nothing.
func TestUpgradeSilentHTTP(t *testing.T) {
	for _, env := range [][]string{nil, {"REVERB_PROXY_PROTOCOL=true"}} {
		s := installed(t, append(append(oneApp(), "REVERB_ACCESS_LOG=true"), env...)...)
		first := ""
		if env != nil {
			first = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"
		}
		dial := func(sent string) net.Conn {
			nc, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { nc.Close() })
			io.WriteString(nc, sent)
			return nc
		}
		ask := func(nc net.Conn, sent string) {
			t.Helper()
			io.WriteString(nc, sent+"GET /up HTTP/1.1\r\nHost: x\r\n\r\n")
			r, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil || r.StatusCode != http.StatusOK {
				t.Fatalf("%v: got %v and %v", env, r, err)
			}
			io.Copy(io.Discard, r.Body)
		}
		silent, told, used := dial(""), dial(first), dial("")
		ask(used, first)
		for range 2 {
			s.upgrade(t)
		}
		ask(silent, first)
		ask(told, "")
		ask(used, "")
		s.upgrade(t)
		for _, nc := range []net.Conn{silent, told, used} {
			ask(nc, "")
		}
	}
}
