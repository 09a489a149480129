package test

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestMemoryLimit fills a server of 40 MiB with events for readers that do not read. The server
// goes on: it refuses subscriptions, says so, closes the readers that hold most, and is ready again
// when they have gone.
func TestMemoryLimit(t *testing.T) {
	const limit = 40 << 20
	s := start(t, append(oneApp(), "REVERB_ADMIN_LISTEN=127.0.0.1:0",
		"REVERB_MEMORY_LIMIT=40MiB")...)
	admin := "http://" + adminAddr(t, s)
	metric := func(name string) string {
		_, text := get(t, admin+"/metrics")
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, "reverb_"+name+" "); ok {
				return strings.TrimSpace(value)
			}
		}
		return "none"
	}
	if got := metric("memory_limit_bytes"); got != "41943040" {
		t.Errorf("memory_limit_bytes %s", got)
	}
	const readers = 300
	var slow []*rawConn
	for range readers {
		c := dial(t, s.addr, "")
		defer c.nc.Close()
		if err := c.nc.(*net.TCPConn).SetReadBuffer(2048); err != nil {
			// otherwise the kernel's buffers take much first
			t.Fatal(err)
		}
		c.send(`{"event":"pusher:subscribe","data":{"channel":"slow"}}`)
		slow = append(slow, c)
	}
	spare := dial(t, s.addr, "")
	defer spare.nc.Close()
	go spare.readLoop()
	spare.nextText(t, "connection_established")

	for data := strings.Repeat("x", 9000); metric("send_queue_bytes") == "0"; {
		// the share of the kernel's buffers
		if err := publisher(s.addr).Trigger("slow", "e", data); err != nil {
			t.Fatal(err)
		}
	}
	var over atomic.Bool
	published := make(chan error, 2)
	for range cap(published) {
		go func() {
			client := publisher(s.addr)
			client.HTTPClient = &http.Client{Timeout: 20 * time.Second}
			for !over.Load() {
				client.Trigger("slow", "e", "x") // refused now and then
			}
			published <- nil
		}()
	}
	deadline := time.Now().Add(60 * time.Second)
	most, refused, tries := 0, false, 0
	for closed := "0"; closed == "0" || closed == "none" ||
		!refused; closed = metric(`connections_closed_total{reason="memory"}`) {
		if time.Now().After(deadline) {
			t.Fatalf("%s connections were closed for want of memory, a subscription was refused: "+
				"%v; %s of %d bytes are used", closed, refused, metric("memory_used_bytes"), limit)
		}
		most = max(most, memory(t, s.cmd.Process.Pid))
		if code, why := get(t, admin+"/ready"); !refused && code == 503 &&
			strings.Contains(why, "bytes of memory are used") {
			tries++
			channel := "one-more-" + strconv.Itoa(tries)
			spare.send(`{"event":"pusher:subscribe","data":{"channel":"` + channel + `"}}`)
			// otherwise memory has become ample meanwhile
			refused = strings.Contains(spare.nextText(t, channel), "short of memory")
		}
	}
	over.Store(true)
	for range cap(published) {
		<-published
	}
	t.Logf("at most %d MiB were resident", most>>20)
	if most > 3*limit {
		t.Errorf("%d bytes were resident, of a limit of %d", most, limit)
	}
	for _, c := range slow {
		c.nc.Close()
	}
	for {
		code, why := get(t, admin+"/ready")
		if code == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server is not ready again: %s", why)
		}
		time.Sleep(50 * time.Millisecond)
	}
	subscriber(t, s.addr, "afterwards")
	if got := metric(`refused_total{reason="memory"}`); got == "0" || got == "none" {
		t.Errorf("refused for want of memory: %s", got)
	}
}
