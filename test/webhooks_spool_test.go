package test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// withSpool are hookOptions with a spool in dir.
func withSpool(r *hookReceiver, dir string) []string {
	return append(hookOptions(r), "REVERB_WEBHOOK_SPOOL="+dir,
		"REVERB_APP_DISCONNECT_GRACE_MS=500", "REVERB_SHUTDOWN_GRACE=1",
		"REVERB_APP_PING_INTERVAL=600")
}

// startSpool starts a server with the spool in dir.
func startSpool(t *testing.T, r *hookReceiver, dir string) *clusterNode {
	t.Helper()
	s := start(t, withSpool(r, dir)...)
	return &clusterNode{server: s, admin: "http://" + adminAddr(t, s), http: http.DefaultClient}
}

// TestWebhookSpool crashes and stops a lone server: of clients that are back in 2 seconds nothing
// is told; of clients that are not, each thing once, when 30 seconds and the grace have passed
// (with REVERB_TEST_LONG=1).
func TestWebhookSpool(t *testing.T) {
	t.Parallel()
	r := newHookReceiver(t, nil)
	dir := filepath.Join(t.TempDir(), "spool")
	n := startSpool(t, r, dir)
	join := func() *peer {
		p := n.open(t)
		for _, channel := range []string{"presence-x", "c"} {
			user := map[bool]string{true: "7"}[channel == "presence-x"]
			p.subscribe(channel, user, "{}")
			p.mustJoin(t, channel)
		}
		return p
	}
	told := []string{"channel_occupied presence-x", "member_added presence-x 7",
		"channel_occupied c"}
	join()
	r.told(5*time.Second, told...)
	for round := range 4 {
		if round%2 == 0 {
			n.kill()
		} else {
			n.stop()
		}
		n = startSpool(t, r, dir)
		p := join()
		// What comes after is told after what was before.
		channel := fmt.Sprint("new-", round)
		p.subscribe(channel, "", "")
		p.mustJoin(t, channel)
		p.unsubscribe(channel)
		told = append(told, "channel_occupied "+channel, "channel_vacated "+channel)
		r.told(5*time.Second, told...)
		if bytes := n.metric("webhook_spool_bytes"); bytes < 100 || bytes > 4<<20 {
			t.Errorf("the spool has %d bytes", bytes)
		}
	}
	// A second server is refused, in one line.
	out, err := startOnce(t, withSpool(r, dir)...)
	if err == nil || !strings.Contains(out, "REVERB_WEBHOOK_SPOOL: "+dir+": another process uses "+
		"it; each server needs a folder of its own") {
		t.Errorf("%v: %s", err, out)
	}
	if !long() {
		return
	}
	n.kill()
	begin := time.Now()
	n = startSpool(t, r, dir)
	told = append(told, "member_removed presence-x 7", "channel_vacated c",
		"channel_vacated presence-x")
	r.told(time.Minute, told...)
	if passed := time.Since(begin); passed < 30*time.Second || passed > 40*time.Second {
		t.Errorf("told after %v", passed)
	}
	n.kill()
	n = startSpool(t, r, dir)
	time.Sleep(35 * time.Second)
	r.told(time.Second, told...)
	n.stop()
}

// TestCheckSpool has reverb check beside a server with a spool, and after it: it says what the
// spool has, or what a start would say; its own channel is told to nobody.
func TestCheckSpool(t *testing.T) {
	t.Parallel()
	r := newHookReceiver(t, nil)
	dir := filepath.Join(t.TempDir(), "spool")
	n := startSpool(t, r, dir)
	_, port, err := net.SplitHostPort(n.addr)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want string, fails bool) {
		t.Helper()
		cmd := command(program, "check")
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "REVERB_ENV_FILE=/dev/null",
			"REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT=" + port, "REVERB_SCHEME=http",
			"REVERB_HOST=127.0.0.1", "REVERB_PORT=" + port}, withSpool(r, dir)...)
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), want) || strings.Contains(string(out), "FAIL "+want) !=
			fails || fails && err == nil {
			t.Errorf("%v, want %s in\n%s", err, want, out)
		}
	}
	n.open(t, "a")
	r.told(5*time.Second, "channel_occupied a")
	check("webhook spool: "+dir+" is used by the server that runs, and has 0 events that were not "+
		"delivered and 1 channels", false)
	check("an event came back in ", false) // it has tried its own channel
	n.open(t, "b")
	r.told(5*time.Second, "channel_occupied a", "channel_occupied b")
	n.stop()
	check("webhook spool: "+dir+" has 0 events that were not delivered and 2 channels and members "+
		"that were there, in ", false)
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	const why = ": other users can read or write it (mode 0750); chmod it to 0700"
	check("REVERB_WEBHOOK_SPOOL: "+dir+why, true)
	out, err := startOnce(t, withSpool(r, dir)...)
	if err == nil || !strings.Contains(out, "REVERB_WEBHOOK_SPOOL: "+dir+why) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestStopWithSpool stops a server whose receiver fails: the stop does not wait for it, and what is
// kept is said.
func TestStopWithSpool(t *testing.T) {
	t.Parallel()
	r := newHookReceiver(t, func() string { return "500" })
	dir := filepath.Join(t.TempDir(), "spool")
	s := start(t, append(hookOptions(r), "REVERB_WEBHOOK_SPOOL="+dir)...)
	p := (&clusterNode{server: s}).open(t, "a")
	eventually(t, 10*time.Second, func() string {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.requests) == 0 {
			return "no request"
		}
		return ""
	})
	p.close()
	begin := time.Now()
	s.stop()
	if passed := time.Since(begin); passed > 3*time.Second {
		t.Errorf("the stop took %v", passed)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if log := strings.Join(s.log, "\n"); !strings.Contains(log, `"webhooks were not delivered; `+
		`the spool keeps them for the next start" events=1 spool=`+dir) {
		t.Errorf("the log says\n%s", log)
	}
}

// startOnce runs a server that must not start, and returns what it says.
func startOnce(t *testing.T, env ...string) (string, error) {
	t.Helper()
	cmd := command(program, "start")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "REVERB_ENV_FILE=/dev/null",
		"REVERB_SERVER_HOST=127.0.0.1", "REVERB_SERVER_PORT=0"}, env...)
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// wanderer is a client that comes and goes on channels, as a user of its own.
type wanderer struct {
	user string
	rng  *rand.Rand
	is   map[string]bool // where it is, or has asked to be
}

func wanderChannels() (all []string) {
	for i := range 4 {
		all = append(all, fmt.Sprint("presence-", i), fmt.Sprint("c-", i))
	}
	return all
}

func (w *wanderer) enter(p *peer, channel string) bool {
	user := ""
	if strings.HasPrefix(channel, "presence-") {
		user = w.user
	}
	w.is[channel] = true
	p.subscribe(channel, user, "{}")
	return p.join(channel, 10*time.Second)
}

// wander comes and goes until the server is gone.
func (w *wanderer) wander(n *clusterNode) {
	for {
		p, err := n.connect(nil)
		if err != nil {
			return
		}
		for channel := range w.is { // most of those it was on
			if w.is[channel] = w.rng.IntN(4) > 0; w.is[channel] && !w.enter(p, channel) {
				return
			}
		}
		for range 2 + w.rng.IntN(20) {
			channel := wanderChannels()[w.rng.IntN(8)]
			if w.is[channel] {
				p.unsubscribe(channel)
				w.is[channel] = false
			} else if !w.enter(p, channel) {
				return
			}
		}
		p.close() // a page change, or the end
		time.Sleep(time.Duration(w.rng.IntN(700)) * time.Millisecond)
	}
}

// beliefs is what a receiver believes, from events without repeats. twice are transitions that came
// twice in a row.
func beliefs(all []hookEvent) (is map[string]bool, twice []string) {
	is = map[string]bool{}
	for i, e := range all {
		key := strings.TrimSpace(e.Channel + " " + e.User)
		here := e.Name == "channel_occupied" || e.Name == "member_added"
		if is[key] == here {
			twice = append(twice, fmt.Sprintf("event %d: %v", i, e))
		}
		is[key] = here
	}
	return is, twice
}

// TestWebhookSpoolKills kills a lone server at random moments while clients come and go: after
// dropping repeats by ID no transition is told twice in a row, and in the end the receiver's idea
// of who is where is the truth. 50 kills with REVERB_TEST_LONG=1.
func TestWebhookSpoolKills(t *testing.T) {
	t.Parallel()
	kills := 3
	if long() {
		kills = 50
	}
	rng := rand.New(rand.NewPCG(seed(t), 21))
	r := newHookReceiver(t, nil)
	r.mood = func() string { // a failure costs a second, and events pile up meanwhile
		return map[int]string{0: "500", 1: "closes"}[rng.IntN(20)]
	}
	dir := filepath.Join(t.TempDir(), "spool")
	var all []*wanderer
	for i := range 6 {
		all = append(all, &wanderer{fmt.Sprint("u", i), rand.New(rand.NewPCG(rng.Uint64(), 1)),
			map[string]bool{}})
	}
	for range kills {
		n := startSpool(t, r, dir)
		var wandering sync.WaitGroup
		for _, w := range all {
			wandering.Go(func() { w.wander(n) })
		}
		r.mu.Lock()
		pause := time.Duration(100+rng.IntN(1500)) * time.Millisecond
		r.mu.Unlock()
		time.Sleep(pause)
		n.kill()
		wandering.Wait()
	}
	// All come to all channels, so that nothing is missing that has to be told after 30 seconds;
	// or, in the long version, to every second one.
	n := startSpool(t, r, dir)
	truth := map[string]bool{}
	for i, w := range all {
		p := n.open(t)
		for j, channel := range wanderChannels() {
			if long() && (i+j/2)%2 == 0 {
				continue
			}
			if !w.enter(p, channel) {
				t.Fatal("no subscription")
			}
			truth[channel] = true
			if strings.HasPrefix(channel, "presence-") {
				truth[channel+" "+w.user] = true
			}
			if !long() && channel == "presence-1" {
				p.unsubscribe(channel)
				truth[channel+" "+w.user], truth[channel] = false, false
			}
		}
	}
	limit := 20 * time.Second
	if long() {
		limit = 5 * time.Minute
		time.Sleep(35 * time.Second)
	}
	differs := func() string {
		is, _ := beliefs(r.got("main"))
		for key := range is {
			if is[key] != truth[key] {
				return fmt.Sprintf("%s: is there: %v, believed: %v", key, truth[key], is[key])
			}
		}
		for key := range truth {
			if is[key] != truth[key] {
				return fmt.Sprintf("%s: is there: %v, believed: %v", key, truth[key], is[key])
			}
		}
		return ""
	}
	eventually(t, limit, differs)
	n.stop()
	if why := differs(); why != "" {
		t.Error(why)
	}
	if _, twice := beliefs(r.got("main")); twice != nil {
		t.Errorf("twice in a row: %.1000q", twice)
	}
	repeats := len(r.requests) - len(r.bodies)
	t.Logf("%d kills, %d events in %d requests, of which %d were repeats", kills,
		len(r.got("main")), len(r.requests), repeats)
	if n := len(r.got("main")); n < 100 {
		t.Errorf("only %d events", n)
	}
}
