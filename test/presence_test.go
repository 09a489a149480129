package test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// twoApps are the variables of a server with the apps app-key and other-key, whose
// messages may have 10,000 bytes.
func twoApps(t *testing.T) []string {
	return []string{"REVERB_APPS_FILE=" + write(t, t.TempDir(), "apps.json",
		[]byte(`[{"app_id":"app-id","key":"app-key","secret":"app-secret","allowed_origins":["*"]},
		{"app_id":"other","key":"other-key","secret":"app-secret","allowed_origins":["*"]}]`))}
}

// joinPresence connects and asks for a presence channel, see readyToJoin.
func joinPresence(t *testing.T, addr, key, channel, user, info string, buffer int) (net.Conn,
	*bufio.Reader) {
	t.Helper()
	nc, r, message := readyToJoin(t, addr, key, channel, user, info, buffer)
	if _, err := nc.Write(message); err != nil {
		t.Fatal(err)
	}
	return nc, r
}

// readyToJoin connects and returns the message that asks for a presence channel. It reads nothing
// after the socket ID. buffer is the size of the socket's receive buffer; 0: that of the system.
func readyToJoin(t *testing.T, addr, key, channel, user, info string, buffer int) (net.Conn,
	*bufio.Reader, []byte) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", addr, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if buffer > 0 {
		nc.(*net.TCPConn).SetReadBuffer(buffer)
	}
	nc.SetDeadline(time.Now().Add(60 * time.Second))
	io.WriteString(nc, "GET /app/"+key+" HTTP/1.1\r\nHost: x\r\nUpgrade: "+
		"websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
		"dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
	r := bufio.NewReaderSize(nc, 4096)
	if err := skipTo(r, `\"socket_id\":\"`); err != nil {
		t.Fatal(err)
	}
	socket, err := r.ReadString('\\')
	if err != nil {
		t.Fatal(err)
	}
	socket = strings.TrimSuffix(socket, `\`)
	data := `{"user_id":"` + user + `","user_info":"` + info + `"}`
	mac := hmac.New(sha256.New, []byte("app-secret"))
	io.WriteString(mac, socket+":"+channel+":"+data)
	quoted, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	message := `{"event":"pusher:subscribe","data":{"channel":"` + channel + `","auth":"` + key +
		":" + hex.EncodeToString(mac.Sum(nil)) + `","channel_data":` + string(quoted) + `}}`
	nc.SetDeadline(time.Time{})
	return nc, r, clientFrame([]byte(message), 1)
}

// TestListsThatNobodyReads lets members with large user_info join a channel without reading. Each
// waits for a list of all the others. REVERB_TEST_PROGRAM names another program to measure.
func TestListsThatNobodyReads(t *testing.T) {
	useOtherProgram(t)
	members, limit := 300, 60<<20
	if long() {
		members, limit = 1500, 150<<20
	}
	s := start(t, twoApps(t)...)
	info := strings.Repeat("x", 8000)
	for i := range members {
		joinPresence(t, s.addr, "app-key", "presence-x", strconv.Itoa(i), info, 4096)
	}
	nc, err := dialApp(s.addr, "other-key", "quiet") // after all their questions
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	most := memory(t, s.cmd.Process.Pid)
	t.Logf("%d joiners with 8 kB each that do not read: %d MB resident", members, most>>20)
	if most > limit {
		t.Errorf("at most %d MB are allowed", limit>>20)
	}
}

// TestManyJoinAtOnce lets very many members join one channel at once, and measures the pings of
// another app.
func TestManyJoinAtOnce(t *testing.T) {
	useOtherProgram(t)
	members := 600
	if long() {
		members = 3000
	}
	s := start(t, twoApps(t)...)
	bystander := pingBeside(t, s.addr)
	var joining sync.WaitGroup
	all := make(chan struct{})
	for i := range members {
		nc, r, message := readyToJoin(t, s.addr, "app-key", "presence-x", strconv.Itoa(i),
			strings.Repeat("x", 100), 0)
		joining.Go(func() {
			<-all
			nc.SetDeadline(time.Now().Add(60 * time.Second))
			nc.Write(message) // an error shows when the answer is read
			if err := skipTo(r, `subscription_succeeded`); err != nil {
				t.Errorf("a joiner is not answered: %v", err)
				return
			}
			go io.Copy(io.Discard, r)
		})
	}
	begin := time.Now()
	close(all)
	joining.Wait()
	took := time.Since(begin)
	pings := bystander()
	t.Logf("%d joined in %v; another app's %d pings: p50 %v, p99 %v, max %v", members,
		took.Round(time.Millisecond), len(pings), quantile(pings, 0.5), quantile(pings, 0.99),
		quantile(pings, 1))
	if p99 := quantile(pings, 0.99); p99 > 500*time.Millisecond {
		t.Errorf("the p99 of others is %v; at most 500 ms are allowed", p99)
	}
}

// TestSlowTakersKeepNobodyWaiting lets five peers of one app take large lists very slowly.
// Meanwhile a joiner of another app must get its list.
func TestSlowTakersKeepNobodyWaiting(t *testing.T) {
	useOtherProgram(t)
	members, rounds := 300, 1
	if long() {
		members, rounds = 1500, 2
	}
	s := start(t, twoApps(t)...)
	info := strings.Repeat("x", 8000)
	for i := range members {
		joinPresence(t, s.addr, "app-key", "presence-x", strconv.Itoa(i), info, 4096)
	}
	var slow []*bufio.Reader
	for i := range 5 {
		_, r := joinPresence(t, s.addr, "app-key", "presence-x", "slow-"+strconv.Itoa(i), info,
			4096)
		slow = append(slow, r)
	}
	for round := range rounds {
		for _, r := range slow {
			r.ReadByte() // one byte in 9 s; it may be closed
		}
		begin := time.Now()
		nc, r := joinPresence(t, s.addr, "other-key", "presence-y", "first", info, 0)
		nc.SetReadDeadline(begin.Add(30 * time.Second))
		if err := skipTo(r, "subscription_succeeded"); err != nil {
			t.Fatalf("the joiner of another app is not answered: %v", err)
		}
		took := time.Since(begin)
		nc.Close()
		t.Logf("round %d: a joiner of another app waits %v", round,
			took.Round(100*time.Microsecond))
		if took > time.Second {
			t.Errorf("at most 1 s is allowed")
		}
		if round+1 < rounds {
			time.Sleep(9 * time.Second) // the slow ones' pace
		}
	}
}
