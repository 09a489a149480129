package test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSilentConnections checks the limit of descriptors. Connections that send nothing, or are slow
// with a handshake or a head, must not keep others out: not the API, not REVERB_PLAIN_LISTEN, not a
// new WebSocket. WebSockets that are open stay.
func TestSilentConnections(t *testing.T) {
	hello := clientHello(t)
	for _, tt := range []struct {
		name   string
		tls    bool
		silent int
		say    string
	}{
		{"no byte", false, 200, ""}, {"half a head", false, 200,
			"POST /apps/app-id/events HTTP/1.1\r\nHos"},
		{"TLS, no byte", true, 200, ""}, {"TLS, half a record", true, 200, hello[:100]},
		{"TLS, half a handshake", true, 2000, hello},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := append(oneApp(), "REVERB_ADMIN_LISTEN=127.0.0.1:0")
			scheme := "http"
			if tt.tls {
				scheme = "https"
				dir, c := t.TempDir(), newAuthority(t).issue("ws.test", -1, 90)
				write(t, dir, "cert.pem", c.cert)
				write(t, dir, "key.pem", c.key)
				env = append(env, "REVERB_PLAIN_LISTEN=127.0.0.1:0",
					"REVERB_TLS_CERT="+filepath.Join(dir, "cert.pem"),
					"REVERB_TLS_KEY="+filepath.Join(dir, "key.pem"))
			}
			s := startShell(t, "ulimit -n 200; ", env...)
			plain := s.addr
			if tt.tls {
				s.says("with=plain")
				plain = plainAddr(s)
			}
			const sockets = 120
			subscribed := make([]*rawConn, sockets)
			for i := range subscribed {
				subscribed[i] = subscriber(t, plain, "x")
				defer subscribed[i].nc.Close()
			}
			for range tt.silent {
				nc, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				io.WriteString(nc, tt.say)
			}
			for _, base := range []string{scheme + "://" + s.addr, "http://" + plain} {
				client := http.Client{Timeout: 5 * time.Second,
					Transport: &http.Transport{DisableKeepAlives: true,
						TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
				begin := time.Now()
				resp, err := client.Get(base + "/up")
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				t.Logf("%s has answered %d after %v", base[:strings.Index(base, ":")],
					resp.StatusCode, time.Since(begin).Round(time.Millisecond))
				if resp.StatusCode != 200 {
					t.Errorf("%s: got %d", base, resp.StatusCode)
				}
			}
			last := subscriber(t, plain, "x")
			defer last.nc.Close()
			if err := publisher(plain).Trigger("x", "e", "all are here"); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for _, c := range append(subscribed, last) {
				all.Go(func() { c.nextText(t, "all are here") })
			}
			all.Wait()
			admin := "http://" + adminAddr(t, s)
			if code, body := get(t, admin+"/ready"); code != 200 {
				t.Errorf("/ready: %d %s", code, body)
			}
			_, metrics := get(t, admin+"/metrics")
			if m := regexp.MustCompile(
				`(?m)^\w*connections_closed_for_room_total (\d+)$`).FindStringSubmatch(
				metrics); m == nil {
				t.Error("no metric of the closed connections")
			} else if n, _ := strconv.Atoi(m[1]); n < tt.silent-100 || n > tt.silent+20 {
				t.Errorf("%d connections were closed to make room for %d", n, tt.silent)
			}
			const want = "tls_buffers_shared 1"
			if strings.Contains(metrics, want) != tt.tls {
				t.Errorf("the metrics have, or lack, %q", want)
			}
		})
	}
}

// clientHello is the beginning of a TLS handshake.
func clientHello(t *testing.T) string {
	t.Helper()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		tls.Client(ours, &tls.Config{InsecureSkipVerify: true}).Handshake()
		ours.Close()
	}()
	b := make([]byte, 4096)
	n, err := theirs.Read(b)
	if err != nil || n < 200 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	return string(b[:n])
}
