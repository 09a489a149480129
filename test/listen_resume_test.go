package test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
)

// cutter is a proxy that cuts what it carries.
type cutter struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]bool
	away bool // it takes no connection
}

func startCutter(t *testing.T, upstream string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, open: map[net.Conn]bool{}}
	var running sync.WaitGroup
	t.Cleanup(func() { l.Close(); c.cut(true); running.Wait() })
	running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { c.carry(near, upstream) })
		}
	})
	return c
}

func (c *cutter) carry(near net.Conn, upstream string) {
	defer near.Close()
	far, err := net.Dial("tcp", upstream)
	if err != nil {
		return
	}
	defer far.Close()
	c.mu.Lock()
	if c.away {
		c.mu.Unlock()
		return
	}
	c.open[near], c.open[far] = true, true
	c.mu.Unlock()
	go func() {
		io.Copy(far, near)
		far.Close()
	}()
	io.Copy(near, far)
	c.mu.Lock()
	delete(c.open, near)
	delete(c.open, far)
	c.mu.Unlock()
}

// cut cuts all connections. away: from now on none is taken.
func (c *cutter) cut(away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
	for nc := range c.open {
		nc.Close()
	}
}

// listens starts a listen over the proxy that resumes.
func (c *cutter) listens(t *testing.T, args ...string) *talkative {
	t.Helper()
	_, port, _ := net.SplitHostPort(c.Addr().String())
	cmd := command(program, append([]string{"listen", "--resume"}, args...)...)
	cmd.Env = append(oneApp(), "REVERB_ENV_FILE=/dev/null", "REVERB_SERVER_HOST=127.0.0.1",
		"REVERB_SERVER_PORT="+port)
	return startTalking(t, cmd)
}

func publishOne(t *testing.T, s *server, channel string, n int) {
	t.Helper()
	if err := publisher(s.addr).Trigger(channel, "e", n); err != nil {
		t.Fatal(err)
	}
}

// TestListenResumes has every event printed once and in order by a listen whose connection is cut
// at random moments.
func TestListenResumes(t *testing.T) {
	const events = 300
	s := start(t, append(oneApp(), "REVERB_RESUME_SECONDS=60", "REVERB_RESUME_EVENTS=1000")...)
	proxy := startCutter(t, s.addr)
	channels := []string{"news", "private-news", "presence-news"}
	l := proxy.listens(t, append(channels, "--join")...)
	var notes sync.WaitGroup
	cuts, wrong := 0, ""
	notes.Go(func() {
		for l.notes.Scan() {
			switch line := l.notes.Text(); {
			case strings.HasSuffix(line, "; connecting again"):
				cuts++
			case !strings.Contains(line, "others see this command as the member"):
				wrong += line + "\n"
			}
		}
	})
	got := map[string][]string{}
	next := func() {
		if !l.lines.Scan() {
			t.Fatal("nothing more is printed")
		}
		if f := strings.Fields(l.lines.Text()); f[0] != "listening" && f[1] == "e" {
			got[f[0]] = append(got[f[0]], f[2])
		}
	}
	for range channels {
		next()
	}
	random := rand.New(rand.NewPCG(seed(t), 1))
	for n := range events {
		for _, channel := range channels {
			publishOne(t, s, channel, n)
		}
		if random.IntN(10) == 0 {
			proxy.cut(false)
		}
	}
	for _, channel := range channels {
		for len(got[channel]) < events {
			next()
		}
		for n, text := range got[channel] {
			if text != fmt.Sprint(n) {
				t.Fatalf("%s: event %d is %s", channel, n, text)
			}
		}
	}
	l.cmd.Process.Signal(os.Interrupt)
	if l.lines.Scan() {
		t.Errorf("more is printed: %s", l.lines.Text())
	}
	notes.Wait()
	if err := l.cmd.Wait(); err != nil || wrong != "" || cuts == 0 {
		t.Errorf("it ends with %v after %d cuts, and says %q", err, cuts, wrong)
	}
}

// TestListenSaysWhatIsMissing has a listen say on standard error what it cannot print.
func TestListenSaysWhatIsMissing(t *testing.T) {
	s := start(t, append(oneApp(), "REVERB_RESUME_SECONDS=60", "REVERB_RESUME_EVENTS=2",
		"REVERB_RESUME_CHANNELS=news")...)
	proxy := startCutter(t, s.addr)
	l := proxy.listens(t, "news", "other", "--user", "7")
	says := func(text string) {
		t.Helper()
		if !l.notes.Scan() || !strings.Contains(l.notes.Text(), text) {
			t.Errorf("it says %q, want %q", l.notes.Text(), text)
		}
	}
	prints := func(want ...string) {
		t.Helper()
		for _, line := range want {
			if !l.lines.Scan() || l.lines.Text() != line {
				t.Errorf("it prints %q, want %q", l.lines.Text(), line)
			}
		}
	}
	const signedIn = "signed in, listening to what is sent to the user"
	prints(signedIn, "listening on news", "listening on other")
	says("#server-to-user-7: the server keeps nothing of this channel")
	says("other: the server keeps nothing of this channel")
	publishOne(t, s, "news", 1)
	prints("news e 1")
	proxy.cut(true)
	says("; connecting again")
	for n := range 3 {
		publishOne(t, s, "news", n)
	}
	proxy.cut(false)
	prints(signedIn, "listening on news", "listening on other")
	says("news: events are missing")
	publishOne(t, s, "news", 2)
	prints("news e 2")
}
