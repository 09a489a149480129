package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pusher/pusher-http-go/v5"
)

// received is a request that the library for Node judges, see clients/webhooks.mjs.
type received struct {
	App     string            `json:"app"`
	Headers map[string]string `json:"headers"` // in lower case, as Node has them
	Body    string            `json:"body"`
}

// hookEvent is an event as a receiver reads it.
type hookEvent struct {
	Name, Channel, Event, Data string
	User                       string `json:"user_id"`
	Count                      int    `json:"subscription_count"`
}

func (e hookEvent) String() string {
	return strings.Join(strings.Fields(fmt.Sprint(e.Name, " ", e.Channel, " ", e.User)), " ")
}

// hookReceiver takes webhooks as an application does, at a path for each app, whose key and secret
// are those of recordedApp.
type hookReceiver struct {
	*httptest.Server
	t testing.TB
	// mood decides, for each request, what happens to it; nil: it is answered with 200.
	mood func() string

	mu       sync.Mutex
	requests []received             // each attempt
	bodies   map[string]string      // the events of a request, by its ID
	events   map[string][]hookEvent // by app, without repeats, in the order in which they came
	answers  map[string]int         // by mood
}

func newHookReceiver(t testing.TB, mood func() string) *hookReceiver {
	r := &hookReceiver{t: t, mood: mood, bodies: map[string]string{},
		events: map[string][]hookEvent{}, answers: map[string]int{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *hookReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
		return
	}
	r.note(req, b)
	mood := "200"
	r.mu.Lock()
	if r.mood != nil {
		mood = r.mood()
	}
	r.answers[mood]++
	r.mu.Unlock()
	switch mood {
	case "500":
		w.WriteHeader(500)
	case "hangs":
		<-req.Context().Done()
	case "redirects":
		http.Redirect(w, req, "/elsewhere", http.StatusFound)
	case "closes":
		panic(http.ErrAbortHandler)
	}
}

// readHook verifies a request of an app with the library for Go, and reads its events; raw are
// their bytes. ok is false if they are not in order, which the test is told.
func readHook(t testing.TB, app credentials, header http.Header, text []byte) (raw json.RawMessage,
	events []hookEvent, ok bool) {
	library := pusher.Client{Key: app.key, Secret: app.secret}
	_, err := library.Webhook(header, text)
	encrypted := bytes.Contains(text, []byte(`"private-encrypted-`))
	// The library throws away the whole request that has an encrypted channel, as that for PHP
	// does: this is why such events travel apart. The signature can be right nevertheless.
	if encrypted && (err == nil || !strings.Contains(err.Error(), "master encryption key")) ||
		!encrypted && err != nil {
		t.Errorf("%.200s: %v", text, err)
		return nil, nil, false
	}
	var body struct{ Events json.RawMessage }
	if json.Unmarshal(text, &body) != nil || json.Unmarshal(body.Events, &events) != nil {
		t.Errorf("%.200s: not the form of a webhook", text)
		return nil, nil, false
	}
	return body.Events, events, true
}

// note verifies a request, and keeps its events.
func (r *hookReceiver) note(req *http.Request, b []byte) {
	app := strings.Trim(req.URL.Path, "/")
	raw, events, ok := readHook(r.t, recordedApp(app), req.Header, b)
	if !ok {
		return
	}
	stranger := pusher.Client{Key: recordedApp(app).key, Secret: "secret-of-another"}
	if _, err := stranger.Webhook(req.Header, b); err == nil {
		r.t.Errorf("%.200s: another secret verifies it", b)
	}
	headers := map[string]string{}
	for name := range req.Header {
		headers[strings.ToLower(name)] = req.Header.Get(name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, received{app, headers, string(b)})
	id := app + " " + req.Header.Get("X-Reverb-Webhook-Id")
	switch before, repeated := r.bodies[id]; {
	case !repeated:
		r.bodies[id] = string(raw)
		r.events[app] = append(r.events[app], events...)
	case before != string(raw):
		r.t.Errorf("the request %s comes again with other events", id)
	}
}

// got are the events of an app until now.
func (r *hookReceiver) got(app string) []hookEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events[app])
}

// verifyInNode has the library for Node verify and read all requests.
func (r *hookReceiver) verifyInNode() {
	r.t.Helper()
	needNode(r.t.(*testing.T))
	events := 0
	for _, v := range r.requests {
		events += strings.Count(v.Body, `{"name":"`)
	}
	b, err := json.Marshal(r.requests)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := command("node", "clients/webhooks.mjs")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.CombinedOutput()
	if line := fmt.Sprintf("%d requests, %d events\n", len(r.requests), events); err != nil ||
		string(out) != line {
		r.t.Errorf("%v: %s, want %s", err, out, line)
	}
}

// hookApp is app 1 or 2 in REVERB_APPS, with its hook.
func hookApp(app, url string) string {
	return fmt.Sprintf(`{"app_id":"%[1]s","key":"key-%[1]s","secret":"secret-%[1]s",`+
		`"accept_client_events_from":"members","subscription_count":true,`+
		`"webhooks":{"url":"%[2]s/%[1]s",`+
		`"events":["channel_occupied","channel_vacated","member_added","member_removed",`+
		`"client_event","cache_miss","subscription_count"],"timeout":1}}`, app, url)
}

// playHooks makes one connection of an app come and go on channels of all kinds, and returns what
// the application is told of it: the transitions in their order, and of the other events how many.
func playHooks(t *testing.T, addr, app string, rounds int) (transitions []string,
	others map[string]int) {
	c := dialAs(t, addr, credentials{id: app, key: "key-" + app, secret: "secret-" + app}, "")
	go c.readLoop()
	id := socketIDIn(t, c.nextText(t, "connection_established"))
	others = map[string]int{}
	told := func(words ...string) { transitions = append(transitions, strings.Join(words, " ")) }
	for i := range rounds {
		prefix := []string{"presence-cache-", "cache-", "private-encrypted-", "private-"}[i/8%4]
		channel, user := fmt.Sprint(prefix, i), ""
		data := map[string]string{"channel": channel}
		told("channel_occupied", channel)
		if strings.HasPrefix(prefix, "presence-") {
			user = fmt.Sprint("Müller-", i)
			data["channel_data"] = `{"user_id":"` + user + `"}`
			told("member_added", channel, user)
		} else {
			others["subscription_count"]++
		}
		if strings.Contains(prefix, "cache") {
			others["cache_miss"]++
		}
		if strings.HasPrefix(prefix, "p") {
			signed := id + ":" + channel
			if user != "" {
				signed += ":" + data["channel_data"]
			}
			data["auth"] = "key-" + app + ":" + c.app.sign(signed)
		}
		b, err := json.Marshal(map[string]any{"event": "pusher:subscribe", "data": data})
		if err != nil {
			t.Fatal(err)
		}
		c.send(string(b))
		c.nextText(t, "subscription_succeeded")
		if user == "" { // its own count comes before it goes
			c.nextText(t, "subscription_count")
		}
		others["client_event"]++
		c.send(`{"event":"client-x","channel":"` + channel + `","data":{"i":` + fmt.Sprint(i) +
			`,"half":"\ud83d"}}`)
		c.send(`{"event":"pusher:unsubscribe","data":{"channel":"` + channel + `"}}`)
		if user != "" {
			told("member_removed", channel, user)
		}
		told("channel_vacated", channel)
	}
	return transitions, others
}

// TestWebhooks runs two apps whose receiver answers 200, 500, hangs, redirects and closes at
// random: each transition is told exactly once after dropping repeats, in order for each app, and
// Pusher's libraries for Go and for Node verify every request.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	rounds, limit := 32, time.Minute
	if long() {
		rounds, limit = 1100, 10*time.Minute // more than 10,000 events of both apps
	}
	rng := rand.New(rand.NewPCG(seed(t), 20))
	r := newHookReceiver(t, func() string {
		return []string{"200", "200", "200", "200", "200", "200", "200", "500", "500", "hangs",
			"redirects", "closes"}[rng.IntN(12)]
	})
	s := start(t, "REVERB_APPS=["+hookApp("1", r.URL)+","+hookApp("2", r.URL)+"]",
		"REVERB_WEBHOOK_CLIENT_EVENTS_PER_SECOND=100000", "REVERB_SHUTDOWN_GRACE=5")
	want, more := map[string][]string{}, map[string]map[string]int{}
	var mu sync.Mutex
	var talking sync.WaitGroup
	for _, app := range []string{"1", "2"} {
		talking.Go(func() {
			transitions, others := playHooks(t, s.addr, app, rounds)
			mu.Lock()
			defer mu.Unlock()
			want[app], more[app] = transitions, others
		})
	}
	talking.Wait()
	total := 0
	for app := range want {
		all := len(want[app])
		for _, n := range more[app] {
			all += n
		}
		total += all
		eventually(t, limit, func() string {
			if n := len(r.got(app)); n < all {
				return fmt.Sprintf("app %s has heard of %d events, want %d", app, n, all)
			}
			return ""
		})
	}
	s.stop()
	for app := range want {
		var transitions []string
		others := map[string]int{}
		for _, e := range r.got(app) {
			switch e.Name {
			case "client_event", "cache_miss", "subscription_count":
				others[e.Name]++
			default:
				transitions = append(transitions, e.String())
			}
		}
		if !slices.Equal(transitions, want[app]) {
			t.Errorf("app %s: got %d transitions, want %d, or in another order", app,
				len(transitions), len(want[app]))
		}
		if !maps.Equal(others, more[app]) {
			t.Errorf("app %s: got %v, want %v", app, others, more[app])
		}
	}
	r.verifyInNode()
	t.Logf("%d events in %d requests, of which %d were repeats: %v", total, len(r.requests),
		len(r.requests)-len(r.bodies), r.answers)
}

// hookOptions are an app whose webhooks go to r.
func hookOptions(r *hookReceiver) []string {
	return []string{"REVERB_APP_ID=app-id", "REVERB_APP_KEY=app-key",
		"REVERB_APP_SECRET=app-secret", "REVERB_WEBHOOK_URL=" + r.URL + "/main",
		"REVERB_ADMIN_LISTEN=127.0.0.1:0", "REVERB_SHUTDOWN_GRACE=5"}
}

// told compares the transitions of the app main, without repeats, with what is wanted.
func (r *hookReceiver) told(limit time.Duration, want ...string) {
	r.t.Helper()
	got := func() (all []string) {
		for _, e := range r.got("main") {
			all = append(all, e.String())
		}
		return all
	}
	eventually(r.t, limit, func() string {
		if all := got(); len(all) < len(want) {
			return fmt.Sprintf("told %d events, want %d: %.1000q", len(all), len(want), all)
		}
		return ""
	})
	if all := got(); !slices.Equal(all, want) {
		r.t.Errorf("told %.1000q, want %.1000q", all, want)
	}
}

// TestWebhookGrace: what a vanished connection causes is told after the grace, and not at all if
// the user is back; an unsubscription is told at once, and so is a stop.
func TestWebhookGrace(t *testing.T) {
	t.Parallel()
	r := newHookReceiver(t, nil)
	env := hookOptions(r)
	const grace, atOnce = 5 * time.Second, 4900 * time.Millisecond
	s := start(t, append(env, "REVERB_APP_DISCONNECT_GRACE_MS=5000")...)
	n := &clusterNode{server: s}
	join := func() *peer {
		p := n.open(t)
		p.subscribe("presence-x", "7", "{}")
		p.mustJoin(t, "presence-x")
		return p
	}
	told := []string{"channel_occupied presence-x", "member_added presence-x 7"}
	p := join()
	r.told(atOnce, told...)
	for range 3 { // page changes
		p.close()
		p = join()
	}
	p.unsubscribe("presence-x")
	told = append(told, "member_removed presence-x 7", "channel_vacated presence-x")
	r.told(atOnce, told...)
	p = join()
	told = append(told, told[:2]...)
	r.told(atOnce, told...)
	gone := time.Now()
	p.close()
	told = append(told, "member_removed presence-x 7", "channel_vacated presence-x")
	r.told(20*time.Second, told...)
	if passed := time.Since(gone); passed < grace {
		t.Errorf("told after %v", passed)
	}
	// Who is there at a stop is told as gone.
	join()
	told = append(told, told[:2]...)
	r.told(atOnce, told...)
	s.stop()
	r.told(atOnce, append(told, "member_removed presence-x 7",
		"channel_vacated presence-x")...)
}

// TestStopWithDeafReceiver: connections and webhooks share REVERB_SHUTDOWN_GRACE, of which webhooks
// get at least a second, so that a stop is over before containers are killed.
func TestStopWithDeafReceiver(t *testing.T) {
	t.Parallel()
	r := newHookReceiver(t, func() string { return "hangs" })
	s := start(t, append(hookOptions(r), "REVERB_WEBHOOK_TIMEOUT=60")...)
	n := &clusterNode{server: s}
	for i := range 200 { // so many that they are told until the grace is nearly over
		n.open(t, fmt.Sprint("c-", i))
	}
	begin := time.Now()
	s.stop()
	passed := time.Since(begin)
	t.Logf("the stop took %v", passed)
	if passed < 2*time.Second || passed > 9*time.Second {
		t.Errorf("the stop took %v", passed)
	}
}

// TestReceiverAway takes the receiver away while events go on: memory stays within its bound,
// nothing is lost, order is kept, and another client joins as fast as ever. 4 minutes at 200 events
// a second with REVERB_TEST_LONG=1.
func TestReceiverAway(t *testing.T) {
	t.Parallel()
	const perSecond = 200
	seconds := 3
	if long() {
		seconds = 240
	}
	away := true
	r := newHookReceiver(t, nil)
	r.mood = func() string { return map[bool]string{true: "500", false: "200"}[away] }
	s := start(t, append(hookOptions(r), "REVERB_SHUTDOWN_GRACE=60",
		"REVERB_WEBHOOK_EVENTS=channel_occupied,channel_vacated")...)
	n := &clusterNode{server: s, admin: "http://" + adminAddr(t, s), http: http.DefaultClient}
	p, other := n.open(t), n.open(t)
	before := memory(t, s.cmd.Process.Pid)
	var want []string
	var slow []time.Duration // joins of the other client, on a channel that stays occupied
	keep := n.open(t, "calm")
	defer keep.close()
	want = append(want, "channel_occupied calm")
	tick := time.NewTicker(time.Second / (perSecond / 2))
	defer tick.Stop()
	for i := range seconds * perSecond / 2 {
		<-tick.C
		channel := fmt.Sprint("c-", i)
		p.subscribe(channel, "", "")
		p.mustJoin(t, channel)
		p.unsubscribe(channel)
		begin := time.Now()
		other.subscribe("calm", "", "")
		other.mustJoin(t, "calm")
		slow = append(slow, time.Since(begin))
		other.unsubscribe("calm")
		want = append(want, "channel_occupied "+channel, "channel_vacated "+channel)
	}
	// 352 bytes and two texts an event, twice for the garbage collector, beside what any process
	// grows by.
	grown, bound := memory(t, s.cmd.Process.Pid)-before, 8<<20+len(want)*1<<10
	if grown > bound {
		t.Errorf("the process has grown by %d bytes, at most %d are fine", grown, bound)
	}
	slices.Sort(slow)
	usual, slowest := slow[len(slow)/2], slow[len(slow)-1]
	if usual > 20*time.Millisecond || slowest > 2*time.Second {
		t.Errorf("another client joins in %v as a rule, and in %v at most", usual, slowest)
	}
	r.mu.Lock()
	away = false
	r.mu.Unlock()
	r.told(2*time.Minute, want...)
	t.Logf("%d events while the receiver was away; %d bytes more; another client joins in %v, "+
		"at most %v", len(want), grown, usual, slowest)
}

// TestWebhookReload: SIGHUP takes another receiver, and what waits for one that stays is sent.
func TestWebhookReload(t *testing.T) {
	t.Parallel()
	one, two := newHookReceiver(t, nil), newHookReceiver(t, nil)
	file := filepath.Join(t.TempDir(), "env")
	to := func(url string) {
		if err := os.WriteFile(file, []byte("REVERB_WEBHOOK_URL="+url+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	to(one.URL + "/main")
	s := start(t, append(oneApp(), "REVERB_ENV_FILE="+file, "REVERB_SHUTDOWN_GRACE=5")...)
	p := (&clusterNode{server: s}).open(t, "a")
	one.told(10*time.Second, "channel_occupied a")
	to(two.URL + "/main")
	s.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, 10*time.Second, func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !strings.Contains(strings.Join(s.log, "\n"), "msg=reloaded") {
			return "no reload"
		}
		for _, url := range []string{one.URL, two.URL} {
			if !strings.Contains(strings.Join(s.log, "\n"), "events of the app app-id are posted "+
				"to "+url+"/main: channel_occupied, channel_vacated, ") {
				return "nothing is said of " + url
			}
		}
		return ""
	})
	p.subscribe("b", "", "")
	p.mustJoin(t, "b")
	p.unsubscribe("a")
	two.told(10*time.Second, "channel_occupied b", "channel_vacated a")
	one.told(0, "channel_occupied a")
}
