package test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// slowly puts a receiver that is slow at times before r, and returns its address.
func slowly(t *testing.T, r *hookReceiver, rng *rand.Rand) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return // the process before has ended the request
		}
		req.Body = io.NopCloser(bytes.NewReader(b))
		r.mu.Lock()
		pause := time.Duration(rng.IntN(10)*rng.IntN(40)) * time.Millisecond
		r.mu.Unlock()
		time.Sleep(pause)
		r.ServeHTTP(w, req)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// stroll comes and goes until stop is closed, and then goes.
func (w *wanderer) stroll(t *testing.T, n *clusterNode, stop <-chan struct{}) {
	for {
		p, err := n.connect(nil)
		if err != nil {
			t.Error(err)
			return
		}
		clear(w.is)
		for range 2 + w.rng.IntN(20) {
			channel := wanderChannels()[w.rng.IntN(8)]
			if w.is[channel] {
				p.unsubscribe(channel)
				w.is[channel] = false
			} else if !w.enter(p, channel) {
				t.Errorf("%s cannot enter %s", w.user, channel)
				return
			}
			select {
			case <-stop:
				p.close()
				return
			case <-time.After(time.Duration(w.rng.IntN(20)) * time.Millisecond):
			}
		}
		p.close() // a page change
		time.Sleep(time.Duration(w.rng.IntN(700)) * time.Millisecond)
	}
}

// TestUpgradeHooks upgrades a server again and again while members come and go, and the receiver
// is slow and fails: after dropping repeats by ID no transition is told twice in a row, client
// events come once and in order, in the end the receiver's idea of who is where is the truth, and
// of those who stay nothing is told.
func TestUpgradeHooks(t *testing.T) {
	for _, keeps := range []string{"memory", "spool", "Redis"} {
		t.Run(keeps, func(t *testing.T) { upgradeHooks(t, keeps) })
	}
}

func upgradeHooks(t *testing.T, keeps string) {
	upgrades := 3
	if long() {
		upgrades = 10
	}
	rng := rand.New(rand.NewPCG(seed(t), 22))
	r := newHookReceiver(t, nil)
	r.mood = func() string { return map[int]string{0: "500", 1: "closes"}[rng.IntN(20)] }
	env := append(hookOptions(r), "REVERB_WEBHOOK_URL="+slowly(t, r, rng)+"/main",
		"REVERB_APP_DISCONNECT_GRACE_MS=500", "REVERB_APP_PING_INTERVAL=600",
		"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=all",
		"REVERB_WEBHOOK_CLIENT_EVENTS_PER_SECOND=100000", "REVERB_WEBHOOK_EVENTS=channel_occupied,"+
			"channel_vacated,member_added,member_removed,client_event")
	switch keeps {
	case "spool":
		env = append(env, "REVERB_WEBHOOK_SPOOL="+filepath.Join(t.TempDir(), "spool"))
	case "Redis":
		env = append(append(env, "REVERB_SCALING_ENABLED=true"), startRedis(t).env()...)
	}
	s := installed(t, env...)
	n := &clusterNode{server: s, admin: "http://" + adminAddr(t, s), http: &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true}}}
	stays := n.open(t, "stays", "private-stays")
	stays.subscribe("presence-stays", "stays", "{}")
	stays.mustJoin(t, "presence-stays")
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 6 {
		w := &wanderer{fmt.Sprint("u", i), rand.New(rand.NewPCG(rng.Uint64(), 1)),
			map[string]bool{}}
		all.Go(func() { w.stroll(t, n, stop) })
	}
	said := 0
	all.Go(func() {
		for ; ; said++ {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			stays.send(fmt.Sprintf(`{"event":"client-%d","channel":"private-stays","data":"x"}`,
				said))
		}
	})
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.Failed() {
			t.Log(strings.Join(s.log, "\n"))
		}
	})
	counted := 0
	for range upgrades {
		r.mu.Lock()
		pause := time.Duration(200+rng.IntN(1200)) * time.Millisecond
		r.mu.Unlock()
		time.Sleep(pause)
		took := s.upgrade(t)
		now := delivered(n)
		if t.Logf("upgraded in %v; %d events were delivered", took, now); now < counted {
			t.Errorf("%d events were delivered, then %d", counted, now)
		}
		counted = now
	}
	time.Sleep(300 * time.Millisecond)
	close(stop)
	all.Wait()
	check := func() string { return upgradedBeliefs(r.got("main"), said) }
	eventually(t, 60*time.Second, check)
	time.Sleep(time.Second)
	if why := check(); why != "" {
		t.Error(why)
	}
	got := r.got("main")
	if _, twice := beliefs(transitionsOf(got)); twice != nil {
		t.Errorf("twice in a row: %.1000q", twice)
	}
	for _, e := range transitionsOf(got)[4:] {
		if strings.Contains(e.Channel, "stays") {
			t.Errorf("told of one who stays: %v", e)
		}
	}
	s.mu.Lock()
	for _, line := range s.log {
		if strings.Contains(line, "dropped") || strings.Contains(line, "cannot be written") {
			t.Error(line)
		}
	}
	s.mu.Unlock()
	// a node that ends before Redis knows that a batch is settled counts it, and so does the next
	if now := delivered(n); now != len(got) && (keeps != "Redis" || now < len(got)) {
		t.Errorf("%d events were delivered, and %d have come", now, len(got))
	}
	t.Logf("%d upgrades, %d events in %d requests, of which %d were repeats", upgrades, len(got),
		len(r.requests), len(r.requests)-len(r.bodies))
}

// delivered is how many events the server has delivered.
func delivered(n *clusterNode) (sum int) {
	n.t.Helper()
	var b []byte
	eventually(n.t, 5*time.Second, func() string { // the process before may have the connection
		resp, err := n.http.Get(n.admin + "/metrics")
		if err == nil {
			b, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err != nil {
			return err.Error()
		}
		return ""
	})
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "reverb_webhook_delivered_total{") {
			f := strings.Fields(line)
			v, _ := strconv.ParseFloat(f[len(f)-1], 64)
			sum += int(v)
		}
	}
	return sum
}

func transitionsOf(all []hookEvent) (some []hookEvent) {
	for _, e := range all {
		if e.Name != "client_event" {
			some = append(some, e)
		}
	}
	return some
}

// upgradedBeliefs says what a receiver believes wrongly: only those who stay are there. It has
// heard of so many client events.
func upgradedBeliefs(all []hookEvent, said int) string {
	next := 0
	for _, e := range all {
		if e.Name != "client_event" {
			continue
		}
		if want := fmt.Sprint("client-", next); e.Event != want {
			return fmt.Sprintf("got %s, want %s", e.Event, want)
		}
		next++
	}
	if next != said {
		return fmt.Sprintf("%d client events, want %d", next, said)
	}
	truth := map[string]bool{"stays": true, "private-stays": true, "presence-stays": true,
		"presence-stays stays": true}
	is, _ := beliefs(transitionsOf(all))
	for key := range is {
		if is[key] != truth[key] {
			return fmt.Sprintf("%s: is there: %v, believed: %v", key, truth[key], is[key])
		}
	}
	for key := range truth {
		if !is[key] {
			return key + " is not there"
		}
	}
	return ""
}

// TestUpgradeLaravelQueue upgrades a server that pushes events onto the queue of a Laravel
// application, which is away at times: each comes, in order, the same job twice at most with the
// same bytes.
func TestUpgradeLaravelQueue(t *testing.T) {
	r := startRedis(t)
	s := installed(t, laravelShop(t, r, "REVERB_WEBHOOK_EVENTS=client_event",
		"REVERB_LARAVEL_QUEUE_MAX=200000", "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=all",
		"REVERB_WEBHOOK_CLIENT_EVENTS_PER_SECOND=1000000")...)
	p := (&clusterNode{server: s}).open(t, "private-a")
	said := 0
	say := func() {
		for range 200 {
			p.send(fmt.Sprintf(`{"event":"client-x","channel":"private-a","data":"<%d>"}`, said))
			said++
		}
	}
	for round := range 3 {
		say()
		if round == 1 { // it does not answer while the server is upgraded
			if _, err := r.do("CLIENT", "PAUSE", 1500); err != nil {
				t.Fatal(err)
			}
			say()
		}
		s.upgrade(t)
		say()
	}
	id, number := regexp.MustCompile(`"uuid":"([^"]*)"`), regexp.MustCompile(`<(\d+)>`)
	eventually(t, 30*time.Second, func() string {
		payloads, err := redis.Strings(r.do("LRANGE", jobs, 0, -1))
		if err != nil {
			return err.Error()
		}
		seen, next := map[string]string{}, 0
		for _, payload := range payloads {
			of := id.FindStringSubmatch(payload)
			no := number.FindStringSubmatch(payload)
			if of == nil || no == nil {
				t.Fatalf("%s is no job of ours", payload)
			}
			if was, again := seen[of[1]]; again {
				if was != payload {
					t.Fatalf("%s comes again as %s", was, payload)
				}
				continue
			}
			seen[of[1]] = payload
			if want := strconv.Itoa(next); no[1] != want {
				t.Fatalf("got %s, want %s", no[1], want)
			}
			next++
		}
		if next != said {
			return fmt.Sprintf("%d jobs, want %d", next, said)
		}
		return ""
	})
}
