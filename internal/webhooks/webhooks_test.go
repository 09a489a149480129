package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/hookevents"
	"reverb/internal/lib/tallies"
	"reverb/internal/posts"
	"reverb/internal/protocol"
	"reverb/internal/protocol/probe"
)

const (
	kinds    = SubscriptionCount + 1
	allKinds = Kinds(1<<kinds - 1)
)

// request is what a receiver has got.
type request struct {
	at     time.Time
	url    string
	header http.Header
	body   string
}

// events are the names and channels in the body, such as "channel_occupied a".
func (r *request) events(t testing.TB) (all []string) {
	t.Helper()
	var parsed struct {
		Events []struct{ Name, Channel, Event string }
	}
	if err := json.Unmarshal([]byte(r.body), &parsed); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	for _, e := range parsed.Events {
		all = append(all, strings.TrimSpace(e.Name+" "+e.Channel+" "+e.Event))
	}
	return all
}

// receiver plays all receivers, in memory. say says what it answers; nil: 200 at once.
type receiver struct {
	say func(r *request, n int) (*http.Response, error)

	mu  sync.Mutex
	got []*request
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	got := &request{time.Now(), req.URL.String(), req.Header, string(b)}
	r.mu.Lock()
	r.got = append(r.got, got)
	n := len(r.got)
	r.mu.Unlock()
	if r.say == nil {
		return status(200), nil
	}
	resp, err := r.say(got, n)
	if resp == nil && err == nil { // it hangs
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	return resp, err
}

// requests are those that have come until now.
func (r *receiver) requests() []*request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// all are the events of all requests, one list for each.
func (r *receiver) all(t testing.TB) (lists []string) {
	for _, got := range r.requests() {
		lists = append(lists, strings.Join(got.events(t), ","))
	}
	return lists
}

func status(code int, header ...string) *http.Response {
	resp := &http.Response{StatusCode: code, Header: http.Header{}, Body: http.NoBody}
	for i := 0; i+1 < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

func after(d time.Duration, code int) (*http.Response, error) {
	time.Sleep(d) // of a bubble
	return status(code), nil
}

// stage is a Sender with one receiver and one app, in a bubble.
type stage struct {
	t *testing.T
	*Sender
	*receiver
	log bytes.Buffer
	rnd sync.Mutex // of what several workers draw
}

// play runs a test in a bubble, and checks the Sender's counts at the end.
func play(t *testing.T, change func(*Options), do func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		st := &stage{t: t, receiver: &receiver{}}
		rnd := rand.New(rand.NewPCG(1, 2))
		draw := func(n int64) int64 {
			st.rnd.Lock()
			defer st.rnd.Unlock()
			return rnd.Int64N(n)
		}
		o := Options{QueueBytes: 64 << 20, ClientEvents: 100, Transport: st.receiver,
			Log: slog.New(slog.NewTextHandler(&st.log, nil)), Now: time.Now, After: time.After,
			Draw: draw}
		if change != nil {
			change(&o)
		}
		st.Sender = New(o)
		do(st)
		synctest.Wait()
		checkConsistency(t, st.Sender)
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		st.Close(ended)
	})
}

// checkConsistency counts again what waits.
func checkConsistency(t testing.TB, s *Sender) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	all, allBytes := 0, int64(0)
	for a := range s.crowd.All() {
		waiting, events, size := 0, 0, int64(0)
		for _, q := range a.queues {
			waiting += q.waiting()
			events += q.waiting() + len(q.taken)
			size += q.transitions.Bytes + q.others.Bytes
		}
		all, allBytes = all+a.events, allBytes+a.bytes
		// more: what the worker of a URL that is configured no more has
		if a.waiting != waiting || a.events < events || a.bytes < size {
			t.Errorf("app %s: %d wait, %d events, %d bytes; counted %d, %d, %d", a.id, a.waiting,
				a.events, a.bytes, waiting, events, size)
		}
		if first := s.crowd.First(); a.share() > first.share() {
			t.Errorf("app %s has more than the first one, %s", a.id, first.id)
		}
	}
	if s.events != all || s.bytes != allBytes {
		t.Errorf("%d events, %d bytes in all; the apps have %d, %d", s.events, s.bytes, all,
			allBytes)
	}
	if s.events > maxEvents || s.bytes > s.QueueBytes || s.events < 0 || s.bytes < 0 {
		t.Errorf("%d events and %d bytes", s.events, s.bytes)
	}
}

func address(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

func hook(at string) *Hook {
	return &Hook{URL: address(at), Kinds: allKinds, Timeout: 5 * time.Second}
}

func account(id string, hooks ...*Hook) Account {
	return Account{ID: id, Key: "key-" + id, Secret: "secret-" + id, Hooks: hooks}
}

func name(s string) protocol.Name {
	n, err := protocol.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func occupied(channel string) Event { return Event{Kind: ChannelOccupied, Channel: name(channel)} }

func clientEvent(channel, event string) Event {
	return Event{Kind: ClientEvent, Channel: name(channel), Event: event, Data: []byte("{}"),
		Socket: protocol.SocketIDOf(1<<32 | 2)}
}

// total is the sum of an app's figures.
type total struct {
	tallies.Figures
	Absent int
}

func sum(a *App) (all total) {
	each, absent := a.Figures()
	all.Absent = absent
	for i := range each {
		all.Add(&each[i])
	}
	return all
}

// pass lets time pass, until everybody waits.
func (s *stage) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// want compares lists of events.
func (s *stage) want(lists ...string) {
	s.t.Helper()
	synctest.Wait()
	if got := s.all(s.t); !slices.Equal(got, lists) {
		s.t.Errorf("got %q, want %q", got, lists)
	}
}

// --- Batches ---

// What waits while a request is under way is the next batch, and a first event waits for nothing.
func TestNaturalBatches(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return after(time.Second, 204) }
		begin := time.Now()
		a := s.App(account("1", hook("http://h/in")))
		a.tell(occupied("a"))
		synctest.Wait()
		for _, channel := range []string{"b", "private-encrypted-c", "private-encrypted-d", "e"} {
			a.tell(occupied(channel))
		}
		if f := sum(a); f.Queued != 5 || !f.Oldest.Equal(begin) || f.Delivered != 0 {
			t.Errorf("%+v", f)
		}
		s.pass(10 * time.Second)
		s.want("channel_occupied a", "channel_occupied b", "channel_occupied private-encrypted-c,"+
			"channel_occupied private-encrypted-d", "channel_occupied e")
		ids := map[string]bool{}
		for i, r := range s.requests() {
			if at := r.at.Sub(begin); at != time.Duration(i)*time.Second {
				t.Errorf("request %d was sent after %v", i, at)
			}
			ids[r.header.Get("X-Reverb-Webhook-Id")] = true
		}
		if len(ids) != 4 || ids[""] {
			t.Errorf("IDs %v", ids)
		}
		if f := sum(a); f.Queued != 0 || !f.Oldest.IsZero() || f.Delivered != 5 ||
			f.Retried != 0 {
			t.Errorf("%+v", f)
		}
	})
}

// A batch has at most 50 events and 256 KiB. A larger event travels alone.
func TestBatchBounds(t *testing.T) {
	play(t, func(o *Options) { o.ClientEvents = 1000 }, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return after(time.Second, 200) }
		a := s.App(account("1", hook("http://h/in")))
		a.tell(occupied("first"))
		synctest.Wait()
		for i := range 120 {
			a.tell(occupied(fmt.Sprint("c", i)))
		}
		large := clientEvent("private-x", "client-large")
		for _, size := range []int{100 << 10, 100 << 10, 100 << 10, 300 << 10, 1, 1} {
			large.Data = []byte(`"` + strings.Repeat("x", size) + `"`)
			a.tell(large)
		}
		s.pass(20 * time.Second)
		a.tell(occupied("last"))
		synctest.Wait()
		for range 4 { // 60 KiB each, and 100 KiB as a string in a body
			large.Data = []byte("[" + strings.Repeat(`"",`, 20<<10) + "0]")
			a.tell(large)
		}
		s.pass(20 * time.Second)
		var counts []int
		for i, r := range s.requests() {
			counts = append(counts, len(r.events(t)))
			if len(r.body) > posts.MaxBody && counts[i] > 1 {
				t.Errorf("%d bytes, %d events", len(r.body), counts[i])
			}
		}
		// 22 = 20 occupied channels and two of 100 KiB
		if want := []int{1, 50, 50, 22, 1, 1, 2, 1, 2, 2}; !slices.Equal(counts, want) {
			t.Errorf("got batches of %v, want %v", counts, want)
		}
	})
}

// Events of all kinds keep their order.
func TestOrder(t *testing.T) {
	play(t, func(o *Options) { o.ClientEvents = 1000 }, func(s *stage) {
		rnd, theirs := rand.New(rand.NewPCG(3, 4)), rand.New(rand.NewPCG(5, 6))
		s.say = func(*request, int) (*http.Response, error) {
			return after(time.Duration(theirs.IntN(50))*time.Millisecond, 200)
		}
		a := s.App(account("1", hook("http://h/in")))
		var want []string
		for i := range 2000 {
			e := occupied(fmt.Sprint("c", i))
			if e.Kind = Kind(rnd.IntN(int(kinds))); e.Kind == ClientEvent {
				e = clientEvent(fmt.Sprint("c", i), "client-x")
			}
			want = append(want, strings.TrimSpace(e.Kind.String()+" "+e.Channel.String()+" "+
				e.Event))
			a.tell(e)
			s.pass(time.Duration(rnd.IntN(15)) * time.Millisecond)
		}
		s.pass(time.Minute)
		var got []string
		for _, r := range s.requests() {
			got = append(got, r.events(t)...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %d events, want %d, or another order", len(got), len(want))
		}
	})
}

// A receiver that hangs keeps no other receiver waiting, of the app or of another.
func TestSlowReceiver(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(r *request, _ int) (*http.Response, error) {
			if r.url == "http://slow/" {
				return nil, nil
			}
			return status(200), nil
		}
		begin := time.Now()
		slow := s.App(account("1", hook("http://slow/"), hook("http://fast/")))
		other := s.App(account("2", hook("http://other/")))
		for i := range 3 {
			slow.tell(occupied(fmt.Sprint("c", i)))
			other.tell(occupied(fmt.Sprint("d", i)))
			synctest.Wait()
		}
		if !time.Now().Equal(begin) {
			s.t.Fatal("time has passed")
		}
		urls := map[string]int{}
		for _, r := range s.requests() {
			urls[r.url]++
		}
		if urls["http://slow/"] != 1 || urls["http://fast/"] != 3 || urls["http://other/"] != 3 {
			t.Errorf("%v", urls)
		}
		s.pass(6 * time.Second)
		if !strings.Contains(s.log.String(), `url=http://slow/ events=1 attempts=1 `+
			`why="no answer within 5s"`) {
			t.Errorf("log: %s", s.log.String())
		}
	})
}

// --- Retries ---

// Pauses grow, each attempt has the present time and a right signature, all have one ID.
func TestRetries(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(_ *request, n int) (*http.Response, error) {
			if n == 1 {
				return nil, errors.New("connection\nrefused")
			}
			return status([]int{301, 404, 500, 200, 200}[n-2]), nil
		}
		a := s.App(account("1", hook("http://h/in")))
		a.tell(occupied("a"))
		synctest.Wait()
		a.tell(occupied("b"))
		s.pass(10 * time.Minute)
		if len(s.got) != 6 {
			s.t.Fatalf("%d requests: %q", len(s.got), s.all(t))
		}
		s.want(append(slices.Repeat([]string{"channel_occupied a"}, 5), "channel_occupied b")...)
		for i, r := range s.requests()[:5] {
			if id := r.header.Get("X-Reverb-Webhook-Id"); id != s.got[0].header.Get(
				"X-Reverb-Webhook-Id") || id == s.got[5].header.Get("X-Reverb-Webhook-Id") {
				t.Errorf("attempt %d has the ID %s", i, id)
			}
			if want := fmt.Sprintf(`{"time_ms":%d,`, r.at.UnixMilli()); !strings.HasPrefix(r.body,
				want) {
				t.Errorf("attempt %d: %s, want %s", i, r.body, want)
			}
			if r.header.Get("X-Pusher-Signature") != protocol.Sign("secret-1", r.body) ||
				r.header.Get("X-Pusher-Key") != "key-1" {
				t.Errorf("attempt %d: %v", i, r.header)
			}
			if i == 0 {
				continue
			}
			pause, most := r.at.Sub(s.got[i-1].at), time.Second<<(i-1)
			if pause < most/2 || pause > most {
				t.Errorf("pause %d: %v, want %v to %v", i, pause, most/2, most)
			}
		}
		if f := sum(a); f.Retried != 4 || f.Delivered != 2 {
			t.Errorf("%+v", f)
		}
		log := s.log.String()
		for _, want := range []string{`why=connection?refused`,
			"status 301; redirects are not followed", `msg="webhooks are delivered again" app=1`} {
			if !strings.Contains(log, want) {
				t.Errorf("the log lacks %q: %s", want, log)
			}
		}
	})
}

// A batch that nobody takes is dropped after five minutes; the next one has its own five.
func TestPatience(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(r *request, _ int) (*http.Response, error) {
			if strings.Contains(r.body, "poison") {
				return status(422), nil
			}
			return status(200), nil
		}
		a := s.App(account("1", hook("https://user:PASS@h/in?token=TOKEN")))
		begin := time.Now()
		a.tell(occupied("poison"))
		synctest.Wait()
		a.tell(occupied("good"))
		s.pass(time.Hour)
		last := s.got[len(s.got)-1]
		if at := last.at.Sub(begin); at != 5*time.Minute || len(last.events(t)) != 1 ||
			s.got[len(s.got)-2].at != last.at {
			t.Errorf("the good one came after %v", at)
		}
		if n := len(s.got); n < 10 || n > 16 {
			t.Errorf("%d requests", n)
		}
		if f := sum(a); f.Lost["failed"] != 1 || f.Delivered != 1 {
			t.Errorf("%+v", f)
		}
		log := s.log.String()
		if !strings.Contains(log, "has not taken them") || strings.Contains(log, "PASS") ||
			strings.Contains(log, "TOKEN") || strings.Contains(log, "secret-1") {
			t.Error(log)
		}
	})
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		code       int
		retryAfter string
		pause      time.Duration // until the second attempt, at least; 0: there is none
		lost       string
	}{
		{200, "", 0, ""}, {201, "30", 0, ""}, {299, "", 0, ""},
		{410, "10", 0, "refused"},
		{429, "30", 30 * time.Second, ""}, {503, "3600", time.Minute, ""},
		{500, "", time.Second / 2, ""}, {300, "", time.Second / 2, ""},
		{100, "", time.Second / 2, ""}, {404, "x", time.Second / 2, ""},
		{600, "", time.Second / 2, ""},
	} {
		play(t, nil, func(s *stage) {
			s.say = func(_ *request, n int) (*http.Response, error) {
				if n > 1 {
					return status(200), nil
				}
				return status(c.code, "Retry-After", c.retryAfter), nil
			}
			a := s.App(account("1", hook("http://h/in")))
			a.tell(occupied("a"))
			s.pass(time.Hour)
			if want := min(c.pause, 1); int64(len(s.got)) != 1+int64(want) {
				s.t.Fatalf("%d: %d requests", c.code, len(s.got))
			}
			if c.pause > 0 {
				if d := s.got[1].at.Sub(s.got[0].at); d < c.pause || d > max(c.pause, time.Second) {
					t.Errorf("%d: a pause of %v, want %v", c.code, d, c.pause)
				}
			}
			f := sum(a)
			if c.lost != "" && f.Lost[c.lost] != 1 || c.lost == "" && f.Delivered != 1 {
				t.Errorf("%d: %+v", c.code, f)
			}
		})
	}
}

// --- Bounds ---

// Without room, what is no transition goes first, the oldest first, and then the oldest transition.
func TestFull(t *testing.T) {
	play(t, func(o *Options) { o.QueueBytes, o.ClientEvents = 20*(itemCost+8), 1000 },
		func(s *stage) {
			s.say = func(*request, int) (*http.Response, error) { return after(time.Minute, 200) }
			h := hook("http://h/in")
			h.Timeout = 2 * time.Minute
			a := s.App(account("1", h))
			a.tell(occupied("first"))
			synctest.Wait() // it is under way, and cannot be lost
			count := Event{Kind: SubscriptionCount, Channel: name("count")}
			miss := Event{Kind: CacheMiss, Channel: name("cache-m")}
			for _, e := range []Event{occupied("a"), miss, clientEvent("p", "client"), count} {
				a.tell(e)
			}
			for i := range 15 {
				a.tell(occupied(fmt.Sprint("c", i)))
			}
			if f := sum(a); f.Lost["full"] != 0 || f.Queued != 20 {
				s.t.Fatalf("%+v", f)
			}
			a.tell(occupied("d0"))
			a.tell(occupied("d1")) // these two cost cache_miss and client_event
			if f := sum(a); f.Lost["full"] != 2 || strings.Contains(s.log.String(), "room") {
				s.t.Fatalf("%+v %s", f, s.log.String())
			}
			a.tell(occupied("d2"))
			a.tell(occupied("d3")) // subscription_count, and a
			a.tell(count)          // itself: it is the only one that is no transition
			if f := sum(a); f.Lost["full"] != 5 || f.Queued != 20 {
				s.t.Fatalf("%+v", f)
			}
			s.pass(10 * time.Minute)
			want := "channel_occupied c0"
			for i := range 14 {
				want += fmt.Sprint(",channel_occupied c", i+1)
			}
			s.want("channel_occupied first", want+",channel_occupied d0,channel_occupied d1,"+
				"channel_occupied d2,channel_occupied d3")
			if log := s.log.String(); !strings.Contains(log, "level=WARN") ||
				!strings.Contains(log, "there is no room") || !strings.Contains(log,
				"transitions=1") {
				t.Error(log)
			}
		})
}

// No app costs another one an event: who has most loses, transitions too.
func TestFairness(t *testing.T) {
	play(t, func(o *Options) { o.QueueBytes, o.ClientEvents = 1000*itemCost, 10 },
		func(s *stage) {
			s.say = func(*request, int) (*http.Response, error) { return nil, nil }
			greedy := s.App(account("1", hook("http://h/1")))
			modest := s.App(account("2", hook("http://h/2"), hook("http://h/3")))
			greedy.tell(occupied("x"))
			modest.tell(occupied("x"))
			synctest.Wait()
			for i := range 2000 {
				greedy.tell(occupied(fmt.Sprint("a", i)))
			}
			for range 10 {
				modest.tell(clientEvent("b", "c"))
			}
			for i := range 2000 {
				greedy.tell(occupied(fmt.Sprint("b", i)))
			}
			if f := sum(modest); f.Queued != 22 || f.Lost["full"] != 0 {
				t.Errorf("modest: %+v", f)
			}
			f := sum(greedy)
			if f.Queued < 900 || int(f.Lost["full"])+f.Queued != 4001 {
				t.Errorf("greedy: %+v", f)
			}
			// Two that are greedy get a half each.
			for i := range 2000 {
				modest.tell(occupied(fmt.Sprint("a", i)))
			}
			a, b := sum(greedy).Queued, sum(modest).Queued
			if a < 450 || b < 450 || a > 550 || b > 550 {
				t.Errorf("greedy %d, modest %d", a, b)
			}
		})
}

// 100,000 events wait at most, however small, and one event cannot take the room of many.
func TestMostEvents(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return nil, nil }
		a := s.App(account("1", hook("http://h/1")))
		a.tell(occupied("a"))
		synctest.Wait()
		for i := range maxEvents + 9 {
			a.tell(occupied(strconv.Itoa(i)))
		}
		if f := sum(a); f.Queued != maxEvents || f.Lost["full"] != 10 {
			t.Errorf("%+v", f)
		}
		huge := clientEvent("p", "client-x")
		huge.Data = make([]byte, 8<<20)
		a.tell(huge)
		if f := sum(a); f.Lost["large"] != 1 || f.Lost["full"] != 10 {
			t.Errorf("%+v", f)
		}
	})
}

// What waits is counted right whatever happens.
func TestRandomLoad(t *testing.T) {
	for seed := range uint64(20) {
		play(t, func(o *Options) { o.QueueBytes, o.ClientEvents = 100*itemCost, 1000 },
			func(s *stage) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				theirs := rand.New(rand.NewPCG(seed, 2))
				s.say = func(*request, int) (*http.Response, error) {
					s.rnd.Lock()
					d := time.Duration(theirs.IntN(2000)) * time.Millisecond
					code := 200 + theirs.IntN(4)*100
					s.rnd.Unlock()
					return after(d, code)
				}
				var apps []*App
				told := int64(0)
				for i := range 5 {
					apps = append(apps, s.App(account(fmt.Sprint(i), hook("http://h/a"))))
				}
				for i := range 3000 {
					a := apps[min(rnd.IntN(5), rnd.IntN(5))]
					e := Event{Kind: Kind(rnd.IntN(int(kinds))), Channel: name("c"),
						Data: make([]byte, rnd.IntN(200))}
					pause := time.Duration(rnd.IntN(20)) * time.Millisecond
					if rnd.IntN(50) == 0 {
						a.Configure(account(a.id, hook(fmt.Sprint("http://h/", rnd.IntN(3)))))
					}
					a.tell(e)
					told++
					if s.pass(pause); i%100 == 0 {
						checkConsistency(t, s.Sender)
					}
				}
				s.pass(2 * time.Hour)
				for _, a := range apps {
					f := sum(a)
					told -= f.Delivered + int64(f.Queued)
					for _, n := range f.Lost {
						told -= n
					}
					if f.Queued != 0 {
						t.Errorf("seed %d: %+v", seed, f)
					}
				}
				if told != 0 || s.events != 0 || s.bytes != 0 || s.crowd.Len() != 0 {
					t.Errorf("seed %d: %d events are neither delivered nor counted; %d, %d", seed,
						told, s.events, s.bytes)
				}
			})
	}
}

// --- Which events ---

func TestClientEventsPerSecond(t *testing.T) {
	play(t, func(o *Options) { o.ClientEvents = 3 }, func(s *stage) {
		a := s.App(account("1", hook("http://h/1"), hook("http://h/2")))
		b := s.App(account("2", hook("http://h/3")))
		for second := range int64(2) {
			for range 5 {
				a.tell(clientEvent("c", "client-a"))
				a.tell(occupied("c"))
			}
			b.tell(clientEvent("c", "client-b"))
			if f := sum(a); f.Lost["rate"] != 2*2*(second+1) { // once for each URL
				t.Errorf("%+v", f)
			}
			s.pass(time.Second)
		}
		if f := sum(a); f.Delivered != 2*2*(3+5) {
			t.Errorf("%+v", f)
		}
		if f := sum(b); f.Delivered != 2 || f.Lost["rate"] != 0 {
			t.Errorf("%+v", f)
		}
	})
}

func TestWants(t *testing.T) {
	play(t, nil, func(s *stage) {
		h := hook("http://h/1")
		h.Kinds, h.Prefix, h.Suffix = KindsOf(ChannelOccupied, MemberAdded), "private-", ".x"
		a := s.App(account("1", h))
		all := s.App(account("2", hook("http://h/2")))
		for _, c := range []struct {
			kind     Kind
			channel  protocol.Name
			one, two bool
		}{
			{ChannelOccupied, name("private-1.x"), true, true},
			{MemberAdded, name("private-1.x"), true, true},
			{ChannelVacated, name("private-1.x"), false, true},
			{ChannelOccupied, name("private-1.y"), false, true},
			{ChannelOccupied, name("1.x"), false, true},
			{ChannelOccupied, protocol.UserChannel("private-1.x"), false, false},
			{SubscriptionCount, name("private-1.x"), false, true},
			{ChannelOccupied, name(probe.Channel()), false, false}, // of reverb check
			{SubscriptionCount, name(probe.Channel()), false, false},
			{ChannelOccupied, name("reverb-check-in"), false, true},
		} {
			if one, two := a.wants(c.kind, c.channel), all.wants(c.kind, c.channel); one != c.one ||
				two != c.two {
				t.Errorf("%v %v: got %v, %v, want %v, %v", c.kind, c.channel, one, two, c.one,
					c.two)
			}
			a.tell(Event{Kind: c.kind, Channel: c.channel})
		}
		s.pass(time.Minute)
		if f := sum(a); f.Delivered != 2 {
			t.Errorf("%+v", f)
		}
		before := len(s.requests())
		for _, gone := range []bool{false, true} {
			all.Changed(probe.Channel(), "", gone, false)
		}
		if s.pass(time.Minute); len(s.requests()) != before {
			t.Errorf("told of a probe: %q", s.all(t)[before:])
		}
	})
	if hookevents.DefaultKinds.Has(ClientEvent) || hookevents.DefaultKinds.Has(SubscriptionCount) ||
		hookevents.DefaultKinds != KindsOf(ChannelOccupied, ChannelVacated, MemberAdded,
			MemberRemoved,
			CacheMiss) {
		t.Error(hookevents.DefaultKinds)
	}
}

// Without webhooks, and for events that nobody wants, Tell costs nothing.
func TestNobodyPays(t *testing.T) {
	var off *App
	e := clientEvent("private-x", "client-y")
	if off.wants(ClientEvent, e.Channel) {
		t.Error("a nil App wants an event")
	}
	play(t, nil, func(s *stage) {
		h := hook("http://h/1")
		h.Kinds = hookevents.DefaultKinds
		for _, a := range []*App{off, s.App(account("1")), s.App(account("2", h))} {
			if n := testing.AllocsPerRun(100, func() {
				a.tell(e)
				a.wants(ClientEvent, e.Channel)
			}); n != 0 {
				t.Errorf("%v allocations", n)
			}
		}
	})
}

// Tell copies what belongs to the message of a client.
func TestTellCopies(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return after(time.Second, 200) }
		a := s.App(account("1", hook("http://h/1")))
		a.tell(occupied("a"))
		synctest.Wait()
		e := clientEvent("private-x", "client-y")
		e.Data = []byte(`{"a":1}`)
		a.tell(e)
		copy(e.Data, `{"b":2}`)
		s.pass(5 * time.Second)
		if body := s.got[1].body; !strings.Contains(body, `"{\"a\":1}"`) {
			t.Error(body)
		}
	})
}

// --- Changes and the end ---

func TestConfigure(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(r *request, n int) (*http.Response, error) {
			if r.header.Get("X-Pusher-Key") == "new" {
				return status(200), nil
			}
			return status(500), nil
		}
		old := hook("http://h/stays")
		a := s.App(account("1", old, hook("http://u:PASS@gone/goes?t=PASS")))
		a.tell(occupied("a"))
		synctest.Wait()
		a.tell(occupied("b"))
		if f := sum(a); f.Queued != 4 {
			t.Errorf("%+v", f)
		}
		stays := hook("http://h/stays")
		stays.Headers = http.Header{"x-team": {"t"}, "x-pusher-key": {"forged"},
			"Authorization": {"Bearer b"}, "User-Agent": {"mine"}}
		a.Configure(Account{ID: "1", Key: "new", Secret: "s", Hooks: []*Hook{stays,
			hook("http://h/comes")}})
		synctest.Wait()
		if f := sum(a); f.Queued != 2 || f.Lost["unconfigured"] != 2 {
			t.Errorf("%+v", f)
		}
		a.tell(occupied("c"))
		s.pass(time.Minute)
		byURL := map[string][]string{}
		for _, r := range s.requests() {
			if r.header.Get("X-Pusher-Key") != "new" {
				continue
			}
			byURL[r.url] = append(byURL[r.url], r.events(t)...)
			if r.header.Get("X-Pusher-Signature") != protocol.Sign("s", r.body) {
				t.Error("not signed with the new secret")
			}
			if h := r.header; r.url == "http://h/stays" && (h.Get("X-Team") != "t" ||
				h.Get("Authorization") != "Bearer b" || h.Get("User-Agent") != "mine") {
				t.Errorf("%v", h)
			}
		}
		if got, want := fmt.Sprint(byURL), "map[http://h/comes:[channel_occupied c] "+
			"http://h/stays:[channel_occupied a channel_occupied b channel_occupied c]]"; got !=
			want {
			t.Errorf("got %s, want %s", got, want)
		}
		a.Configure(account("1"))
		a.tell(occupied("d"))
		if f := sum(a); f.Queued != 0 || f.Lost["unconfigured"] != 2 {
			t.Errorf("%+v", f)
		}
		if log := s.log.String(); strings.Count(log, "their URL is configured no more; the "+
			"receiver's idea of who is where may be wrong\" app=1 "+
			"url=http://********@gone/goes?******** transitions=2") != 1 ||
			strings.Contains(log, "PASS") {
			t.Errorf("the log says\n%s", log)
		}
		var places []string
		each, _ := a.Figures()
		for _, f := range each {
			places = append(places, fmt.Sprint(f.Kind, " ", f.To, " ", f.Delivered, " ",
				f.Lost["unconfigured"]))
		}
		if got, want := strings.Join(places, ","), "url h 4 0,url gone 0 2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// A URL that takes the place of one of the same host gets what waits, the batch under way with its
// ID. Where it is not clear which one does, what waits is lost.
func TestConfigureSuccessor(t *testing.T) {
	for _, c := range []struct {
		before, after string
		moves         bool
	}{
		{"http://u:OLD@h/in?t=OLD", "http://u:NEW@h/in?t=NEW", true},
		{"http://h/a", "https://h/b", true},
		{"http://h/a http://i/a", "http://i/a http://h/b", true},
		{"http://h/a", "http://h/b http://h/c", false},
		{"http://h/a http://h/b", "http://h/c", false},
		{"http://h/a", "http://h:81/a", false},
		{"http://h/a", "http://i/a", false},
	} {
		play(t, nil, func(s *stage) {
			var changed atomic.Bool
			s.say = func(*request, int) (*http.Response, error) {
				if changed.Load() {
					return status(200), nil
				}
				return status(500), nil
			}
			of := func(urls string) (set Account) {
				set = account("1")
				for u := range strings.FieldsSeq(urls) {
					set.Hooks = append(set.Hooks, hook(u))
				}
				return set
			}
			a := s.App(of(c.before))
			a.tell(occupied("a"))
			s.pass(100 * time.Millisecond)
			first := ids(s.requests())[0]
			a.tell(vacated("a"))
			a.Configure(of(c.after))
			changed.Store(true)
			s.pass(time.Minute)
			lost := sum(a).Lost["unconfigured"]
			if (lost == 0) != c.moves || strings.Contains(s.log.String(), "configured no more") ==
				c.moves {
				t.Errorf("%s, then %s: %d lost\n%s", c.before, c.after, lost, &s.log)
			}
			if !c.moves || strings.Contains(c.before, " ") {
				return
			}
			all := s.requests()
			if u := address(c.after); u.User != nil {
				c.after = "http://h/in?t=NEW"
			}
			if len(all) != 3 || all[1].url != c.after || ids(all)[1] != first ||
				ids(all)[2] == first {
				t.Errorf("%s, then %s: %q %q", c.before, c.after, s.all(t), ids(all))
			}
		})
	}
}

// A URL may go while its queue is full, and what waited takes no room from then on.
func TestConfigureWhenFull(t *testing.T) {
	play(t, func(o *Options) { o.QueueBytes = 100 * itemCost }, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return nil, nil }
		a := s.App(account("1", hook("http://old/")))
		b := s.App(account("2", hook("http://b/")))
		a.tell(occupied("taken"))
		synctest.Wait()
		for i := range 200 {
			a.tell(occupied(fmt.Sprint(i)))
		}
		a.Configure(account("1", hook("http://new/")))
		checkConsistency(t, s.Sender)
		for i := range 30 {
			b.tell(occupied(fmt.Sprint(i)))
			a.tell(occupied(fmt.Sprint(i)))
		}
		if f := sum(b); f.Queued != 30 || f.Lost["full"] != 0 {
			t.Errorf("%+v", f)
		}
	})
}

// What Tell has seen of the settings may be old.
func TestTellAfterConfigure(t *testing.T) {
	play(t, nil, func(s *stage) {
		a := s.App(account("1", hook("http://h/goes")))
		q := a.queues["http://h/goes"]
		a.Configure(account("1"))
		e := occupied("a")
		s.put(q, &e, time.Now())
		if n := sum(a).Lost["unconfigured"]; n != 1 || q.waiting() != 0 {
			t.Errorf("%d lost, %d wait", n, q.waiting())
		}
	})
}

// Close delivers what waits, or says how much was not delivered.
func TestClose(t *testing.T) {
	for _, c := range []struct {
		grace  time.Duration
		untold int
		took   time.Duration
	}{
		{time.Minute, 0, 3 * time.Second},
		{1500 * time.Millisecond, 50 + 20, 1500 * time.Millisecond},
	} {
		play(t, nil, func(s *stage) {
			s.say = func(*request, int) (*http.Response, error) {
				select {
				case <-time.After(time.Second):
				case <-s.ctx.Done():
					return nil, s.ctx.Err()
				}
				return status(200), nil
			}
			a := s.App(account("1", hook("http://h/1")))
			a.tell(occupied("a"))
			synctest.Wait()
			for range 70 {
				a.tell(occupied("b"))
			}
			begin := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), c.grace)
			defer cancel()
			untold := s.Close(ctx)
			if took := time.Since(begin); untold != c.untold || took != c.took {
				t.Errorf("%d untold after %v, want %d, %v", untold, took, c.untold, c.took)
			}
			a.tell(occupied("c"))
			if f := sum(a); f.Lost["stopped"] != 1 || f.Queued != c.untold {
				t.Errorf("%+v", f)
			}
			if advice := strings.Contains(s.log.String(), "REVERB_WEBHOOK_SPOOL names a folder "+
				"that keeps them"); advice != (c.untold > 0) {
				t.Errorf("the log says\n%s", &s.log)
			}
		})
	}
}

// A receiver that hangs does not keep the room that another app needs.
func TestShareUnderWay(t *testing.T) {
	play(t, func(o *Options) { o.QueueBytes, o.ClientEvents = 4<<20, 1000 }, func(s *stage) {
		s.say = func(r *request, n int) (*http.Response, error) {
			if n == 1 {
				return after(time.Second, 200)
			}
			return nil, nil
		}
		bad := s.App(account("bad", hook("http://bad/")))
		good := s.App(account("good", hook("http://good/")))
		e := clientEvent("a", "client-a")
		e.Data = bytes.Repeat([]byte("1"), 80<<10)
		for range 52 {
			bad.tell(e)
		}
		s.pass(2 * time.Second)
		s.Sender.mu.Lock()
		taken := bad.queues["http://bad/"].taken
		s.Sender.mu.Unlock()
		if n := len(taken); n != 3 {
			t.Errorf("%d events are under way", n)
		}
		for i := range 1000 {
			good.tell(occupied(fmt.Sprint("g", i)))
		}
		if f := sum(good); f.Lost["full"] != 0 || f.Queued != 1000 {
			t.Errorf("%+v", f)
		}
	})
}

// A stop ends the pause: a receiver that is back gets what waits, and one that is back a little
// later, too.
func TestCloseEndsPause(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(_ *request, n int) (*http.Response, error) {
			if n < 4 {
				return status(503, "Retry-After", "30"), nil
			}
			return status(200), nil
		}
		a := s.App(account("1", hook("http://h/")))
		a.tell(occupied("a"))
		s.pass(time.Second)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if n := s.Close(ctx); n != 0 || len(s.got) != 4 || time.Since(begin) > 2*stopPause {
			t.Errorf("%d untold, %d requests after %v", n, len(s.got), time.Since(begin))
		}
	})
}

// Close does not wait for the end of a pause when its time is over.
func TestCloseInPause(t *testing.T) {
	play(t, nil, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) {
			return status(503, "Retry-After", "60"), nil
		}
		a := s.App(account("1", hook("http://h/1")))
		a.tell(occupied("a"))
		synctest.Wait()
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if untold := s.Close(ctx); untold != 1 || time.Since(begin) != 3*time.Second {
			t.Errorf("%d untold after %v", untold, time.Since(begin))
		}
	})
}
