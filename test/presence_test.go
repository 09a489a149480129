package test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// openApp opens a WebSocket of an app and returns its socket ID.
func openApp(addr, key string) (nc net.Conn, br *bufio.Reader, id string, err error) {
	if nc, err = net.DialTimeout("tcp", addr, 60*time.Second); err != nil {
		return nil, nil, "", err
	}
	nc.SetDeadline(time.Now().Add(60 * time.Second))
	nc.(*net.TCPConn).SetReadBuffer(4 << 10) // or the kernel takes megabytes for those who do not read
	io.WriteString(nc, "GET /app/"+key+" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	br = bufio.NewReaderSize(nc, 512)
	if err = skipTo(br, `socket_id\":\"`); err == nil {
		id, err = br.ReadString('\\')
		id = strings.TrimSuffix(id, `\`)
	}
	return nc, br, id, err
}

// joinPresence asks for a presence channel as a user, with an info of so many bytes.
func joinPresence(nc net.Conn, key, secret, id, channel, user string, info int) error {
	data := fmt.Sprintf(`{"user_id":"%s","user_info":"%s"}`, user, strings.Repeat("i", info))
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, id+":"+channel+":"+data)
	b, _ := json.Marshal(map[string]any{"event": "pusher:subscribe", "data": map[string]string{
		"channel": channel, "channel_data": data, "auth": fmt.Sprintf("%s:%x", key, mac.Sum(nil))}})
	_, err := nc.Write(clientFrame(b, 1))
	return err
}

func twoApps(t *testing.T) *server {
	apps := write(t, t.TempDir(), "apps.json", []byte(`[{"app_id":"app-id","key":"app-key","secret":"app-secret","allowed_origins":["*"]},
		{"app_id":"other","key":"other-key","secret":"other-secret","allowed_origins":["*"]}]`))
	return start(t, "REVERB_APPS_FILE="+apps)
}

// TestPresenceRush has very many join a presence channel at once, some of whom never
// read, and looks at the memory of the server and at another client's pings. The figures
// of issue 15 are those with REVERB_TEST_LONG; REVERB_TEST_PROGRAM names another program
// to measure.
func TestPresenceRush(t *testing.T) {
	useOtherProgram(t)
	for _, c := range []struct {
		name          string
		members, long int
		info          int
		reading       bool
		maxMiB        int
		maxPing       time.Duration
	}{
		{"they do not read", 300, 1500, 8000, false, 150, 0},
		{"they read", 300, 3000, 20, true, 0, 500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.members = map[bool]int{true: c.long, false: c.members}[long()]; testing.Short() {
				t.Skip()
			}
			s := twoApps(t)
			defer func() {
				if t.Failed() { // one that hangs is not waited for
					s.cmd.Process.Kill()
					s.wait(10 * time.Second)
				}
			}()
			conns, readers, ids := make([]net.Conn, c.members), make([]*bufio.Reader, c.members), make([]string, c.members)
			for i := range conns {
				var err error
				if conns[i], readers[i], ids[i], err = openApp(s.addr, "app-key"); err != nil {
					t.Fatal(err)
				}
				defer conns[i].Close()
			}
			by, br, _, err := openApp(s.addr, "other-key")
			if err != nil {
				t.Fatal(err)
			}
			defer by.Close()
			over, most := make(chan struct{}), 0
			var watching, joining sync.WaitGroup
			var pings []time.Duration
			watching.Go(func() {
				for {
					begin := time.Now()
					by.SetDeadline(begin.Add(30 * time.Second))
					by.Write(clientFrame([]byte(`{"event":"pusher:ping"}`), 1))
					err := skipTo(br, `"pusher:pong","data":"{}"}`)
					if pings = append(pings, time.Since(begin)); err != nil {
						t.Errorf("no pong: %v", err)
						return
					}
					most = max(most, memory(t, s.cmd.Process.Pid))
					select {
					case <-over:
						return
					case <-time.After(5 * time.Millisecond): // a pace, not a wait
					}
				}
			})
			began := time.Now()
			for i, nc := range conns {
				if err := joinPresence(nc, "app-key", "app-secret", ids[i], "presence-x", fmt.Sprint("u", i), c.info); err != nil {
					t.Fatal(err)
				}
				if c.reading {
					joining.Go(func() {
						if err := skipTo(readers[i], `subscription_succeeded"`); err != nil {
							t.Errorf("joiner %d has no list: %v", i, err)
							return
						}
						go io.Copy(io.Discard, nc)
					})
				}
			}
			joining.Wait()
			took := time.Since(began)
			if !c.reading {
				time.Sleep(time.Second) // what it takes while nobody reads
			}
			close(over)
			watching.Wait()
			slices.Sort(pings)
			p99 := pings[(len(pings)-1)*99/100]
			t.Logf("%d joined in %v; at most %d MiB were resident; %d pings of another app: p99 %v, max %v",
				c.members, took.Round(time.Millisecond), most>>20, len(pings), p99.Round(time.Millisecond), pings[len(pings)-1].Round(time.Millisecond))
			if c.maxMiB > 0 && most > c.maxMiB<<20 {
				t.Errorf("%d MiB were resident; at most %d are allowed", most>>20, c.maxMiB)
			}
			if c.maxPing > 0 && p99 > c.maxPing {
				t.Errorf("the pings' p99 is %v; at most %v are allowed", p99, c.maxPing)
			}
		})
	}
}

// TestPresenceSlowReaders has five clients of one app take a list of several MB at a
// byte in nine seconds, and looks how long a joiner of another app waits.
func TestPresenceSlowReaders(t *testing.T) {
	useOtherProgram(t)
	s := twoApps(t)
	var joining sync.WaitGroup
	for i := range 400 + 5 {
		nc, br, id, err := openApp(s.addr, "app-key")
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if err := joinPresence(nc, "app-key", "app-secret", id, "presence-x", fmt.Sprint("u", i), 8000); err != nil {
			t.Fatal(err)
		}
		if i < 400 {
			joining.Go(func() {
				if err := skipTo(br, `subscription_succeeded"`); err != nil {
					t.Error(err)
				}
				nc.SetDeadline(time.Time{})
				go io.Copy(io.Discard, nc) // it stays a member
			})
			continue
		}
		joining.Wait()
		go func() { // a byte in nine seconds; the first few have been read
			for _, err := br.ReadByte(); err == nil; _, err = br.ReadByte() {
				time.Sleep(9 * time.Second)
			}
		}()
	}
	begin := time.Now()
	nc, br, id, err := openApp(s.addr, "other-key")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := joinPresence(nc, "other-key", "other-secret", id, "presence-x", "u", 10); err == nil {
		err = skipTo(br, `subscription_succeeded"`)
	}
	if took := time.Since(begin); err != nil || took > time.Second {
		t.Errorf("a joiner of another app has its list after %v (%v)", took, err)
	} else {
		t.Logf("a joiner of another app has its list after %v", took.Round(time.Microsecond))
	}
}
