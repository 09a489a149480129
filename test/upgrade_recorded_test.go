package test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reverb/internal/handover"
)

// Recorded sections lie in testdata/handover, as sections-N.txt for format N: each line is a name
// and a state. REVERB_TEST_WRITE=1 writes them anew, which is for a new format.
const recordedSections = "testdata/handover/sections-1.txt"

// TestUpgradeRecord writes the sections of a server in which every part has something to tell.
func TestUpgradeRecord(t *testing.T) {
	if os.Getenv("REVERB_TEST_WRITE") == "" {
		t.Skip("writes testdata: needs REVERB_TEST_WRITE")
	}
	s := standingServer(t)
	s.join(4)
	w := s.before.all[0]
	user := `{"id":"ann","user_info":{"name":"Ann"},"watchlist":["bob"]}`
	sign := func(w *walker, user string) {
		auth := w.sign(":user::"+user, "")
		w.nc.Write(clientFrame([]byte(fmt.Sprintf(
			`{"event":"pusher:signin","data":{"auth":%q,"user_data":%q}}`, auth, user)), 1))
		s.answers(w)
	}
	sign(w, user)
	sign(s.before.all[1], `{"id":"bob"}`)
	s.before.all[1].nc.Close() // bob is leaving
	s.before.all = s.before.all[:1]
	nc, err := net.Dial("tcp", s.plain)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(nc, "GET /app/wrong-key HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Sec-WebSocket-Version: 13\r\n\r\n")
	io.ReadAll(nc)
	publishRecorded(t, s.plain)
	s.within("bob has gone", func() bool {
		return regexp.MustCompile(`new_disconnections_total\S* [1-9]`).MatchString(s.figures())
	})
	figures := s.figures()
	save := filepath.Join(t.TempDir(), "frames")
	s.setDeed(t, deed{Save: save})
	if out, code := s.ask(); code != 0 {
		t.Fatal(out)
	}
	b, err := os.ReadFile(save)
	if err != nil {
		t.Fatal(err)
	}
	err = os.WriteFile(recordedSections, []byte(sectionsOf(b)+"figures\n"+figures), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	s.hangUp()
}

// sectionsOf turns frames into lines. The head of a section begins with 3, the length of the name,
// and the name.
func sectionsOf(b []byte) (text string) {
	for len(b) > 0 {
		n := 5 + binary.BigEndian.Uint32(b[1:])
		if payload := b[5:n]; b[0] == 5 {
			text += "\n" + string(payload[2:2+payload[1]]) + " "
		} else {
			text += hex.EncodeToString(payload)
		}
		b = b[n:]
	}
	return strings.TrimLeft(text, "\n") + "\n"
}

// figures are those of /metrics that must go on.
func (s *standing) figures() string {
	_, text := get(s.t, "http://"+s.admin+"/metrics")
	return figuresOf(text)
}

func figuresOf(metrics string) (text string) {
	port := regexp.MustCompile(`,?port="\d+"`)
	for _, line := range strings.Split(metrics, "\n") {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "reverb_"), "{")
		if slices.Contains(strings.Fields("connections_closed_total refused_total "+
			"new_disconnections_total http_calls_received_total published_events_total "+
			"channel_unsubscriptions_total"), name) && !strings.HasSuffix(line, " 0") {
			text += port.ReplaceAllString(line, "") + "\n"
		}
	}
	return text
}

// publishRecorded publishes an event that is cached, with a key.
func publishRecorded(t *testing.T, addr string) {
	t.Helper()
	p := publisher(addr)
	p.HTTPClient = &http.Client{Transport: withKey{&http.Transport{DisableKeepAlives: true}}}
	if err := p.Trigger("cache-faults", "n", "the last one"); err != nil {
		t.Error(err)
	}
}

// withKey gives each request the same idempotency key.
type withKey struct{ http.RoundTripper }

func (k withKey) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("Idempotency-Key", "recorded")
	return k.RoundTripper.RoundTrip(r)
}

// TestUpgradeFromRecorded has today's program take over a recorded state: the test is its
// predecessor.
func TestUpgradeFromRecorded(t *testing.T) {
	text, err := os.ReadFile(recordedSections)
	if err != nil {
		t.Fatal(err)
	}
	main, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer main.Close()
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	pair := func() (ours *net.UnixConn, theirs *os.File) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fds[0]), "ours")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		return c.(*net.UnixConn), os.NewFile(uintptr(fds[1]), "theirs")
	}
	pipe, theirs := pair()
	line, parent := pair()
	defer line.Close()
	cmd := command(program, "start")
	cmd.Env = append(oneApp(), "REVERB_ENV_FILE=/dev/null", "REVERB_SERVER_HOST=127.0.0.1",
		"REVERB_SERVER_PORT=0", "REVERB_SHUTDOWN_GRACE=0", "REVERB_ADMIN_LISTEN=127.0.0.1:0",
		"REVERB_HANDOVER_FD=3", "REVERB_HANDOVER_PARENT=4", "REVERB_HANDOVER_PROGRAM="+program,
		"REVERB_HANDOVER_FOUND=shell")
	cmd.ExtraFiles = []*os.File{theirs, parent}
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	parent.Close()
	client, err := net.Dial("tcp", main.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := main.Accept()
	if err != nil {
		t.Fatal(err)
	}
	sections, figures, _ := strings.Cut(string(text), "figures\n")
	if err := giveRecorded(handover.NewGiver(pipe), sections, main, admin, server); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("%v\n%s", err, &log)
	}
	server.Close() // it has its own
	addr := main.Addr().String()
	c := &throng{t: t}
	w := c.walk(addr, "cache-faults", 0)
	w.subscribe("cache-faults", "")
	if b := w.frame(); !bytes.Contains(b, []byte(`subscription_succeeded`)) {
		t.Errorf("got %s", b)
	}
	if b := w.frame(); !bytes.Contains(b, []byte(`the last one`)) {
		t.Errorf("the cached event is %s", b)
	}
	// the connection, in the middle of a frame
	ping := clientFrame([]byte(`{"event":"pusher:ping","data":{}}`), 1)
	client.Write(ping[1:])
	old := &walker{of: c, nc: client, in: bufio.NewReader(client)}
	if b := old.frame(); !bytes.Contains(b, []byte("unsent")) {
		t.Errorf("got %s, want what was not sent", b)
	}
	if b := old.frame(); !bytes.Contains(b, []byte("pusher:pong")) {
		t.Errorf("got %s, want a pong", b)
	}
	_, metrics := get(t, "http://"+admin.Addr().String()+"/metrics")
	if got := figuresOf(metrics); got != figures {
		t.Errorf("got the figures\n%s\nwant\n%s", got, figures)
	}
	if !strings.Contains(metrics, `upgrades_total{outcome="done"} 1`) {
		t.Error("the upgrade is not counted")
	}
	publishRecorded(t, addr)
	client.Close()
	w.nc.Close()
	cmd.Process.Signal(unix.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &log)
	}
}

// giveRecorded plays the predecessor, which has a connection beside the recorded sections: a ping
// has come in part, and an event was not written.
func giveRecorded(g *handover.Giver, text string, main, admin, server any) (err error) {
	defer g.Close()
	var fds []int
	for _, v := range []any{main, admin, server} {
		f, err := v.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			return err
		}
		defer f.Close()
		unix.SetNonblock(int(f.Fd()), true) // Fd makes it block, for all who have it
		fds = append(fds, int(f.Fd()))
	}
	until := time.Now().Add(20 * time.Second)
	offer := handover.Offer{Listeners: []handover.Listener{{Role: "main", FD: fds[0]},
		{Role: "admin", FD: fds[1]}}, Began: time.Now().Add(-time.Minute)}
	if _, err := g.Meet(offer, until); err != nil {
		return err
	}
	g.Begin(until, 20*time.Second)
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		name, state, _ := strings.Cut(line, " ")
		b, err := hex.DecodeString(state)
		if err == nil {
			err = g.Section(name, b)
		}
		if err != nil {
			return err
		}
	}
	batch := g.Batch()
	err = batch.Add(&handover.Connection{App: "app-id", Socket: 1<<32 + 1, MaxMessage: 10_000,
		Authorized: true, Seen: 60, Partial: handover.Partial{Head: []byte{0x81}},
		Pieces:        []handover.Piece{{Bytes: []byte("\x81\x06unsent")}},
		Subscriptions: []handover.Subscription{{Channel: "cache-faults"}}}, fds[2])
	finish := func() error {
		_, _, err := g.Finish()
		return err
	}
	for _, step := range []func() error{batch.Flush, finish, g.Yours} {
		if err == nil {
			err = step()
		}
	}
	if err == nil {
		_, err = g.Serving()
	}
	return err
}
