package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reverb/internal/lib/destinations"
	"reverb/internal/lib/outbound"
	"reverb/internal/posts"
	"reverb/internal/protocol"
)

// sender is a Sender with sockets, whose pauses are over at once.
func sender(t *testing.T, transport *outbound.Transport, log io.Writer) *Sender {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	return New(Options{QueueBytes: 64 << 20, ClientEvents: 1 << 30, Transport: transport,
		Log: slog.New(slog.NewTextHandler(log, nil)), Now: time.Now,
		After: func(time.Duration) <-chan time.Time { return time.After(0) }, Draw: rand.Int64N})
}

// finish closes s when all is delivered.
func finish(t *testing.T, s *Sender) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if n := s.Close(ctx); n != 0 {
		t.Errorf("%d events were not delivered", n)
	}
}

// Receivers answer 200, 500, hang, redirect and close at random. Each event arrives once after
// dropping repeats by ID, in order for each app, and each body is signed right.
func TestReceivers(t *testing.T) {
	for seed := range uint64(3) {
		const apps, events = 2, 1000
		var mu sync.Mutex
		rnd := rand.New(rand.NewPCG(seed, 9))
		seen, got := map[string]string{}, map[string][]string{}
		repeats := 0
		take := func(r *http.Request, b []byte) {
			app := strings.TrimPrefix(r.URL.Path, "/hook/")
			if r.Header.Get("X-Pusher-Key") != "key-"+app || r.Header.Get("X-Pusher-Signature") !=
				protocol.Sign("secret-"+app, string(b)) || r.Method != http.MethodPost {
				t.Errorf("%s %s: %v", r.Method, r.URL, r.Header)
			}
			var body struct {
				TimeMS int64 `json:"time_ms"`
				Events json.RawMessage
			}
			var list []struct{ Channel string }
			if json.Unmarshal(b, &body) != nil || json.Unmarshal(body.Events, &list) != nil {
				t.Errorf("%s", b)
			}
			id := r.Header.Get("X-Reverb-Webhook-Id")
			if was, again := seen[id]; again {
				if repeats++; was != string(body.Events) {
					t.Errorf("%s: %s and %s", id, was, body.Events)
				}
				return
			}
			seen[id] = string(body.Events)
			for _, e := range list {
				got[app] = append(got[app], e.Channel)
				if apart := strings.HasPrefix(e.Channel, "private-encrypted-"); apart !=
					strings.HasPrefix(list[0].Channel, "private-encrypted-") {
					t.Errorf("%s shares a request with %s", e.Channel, list[0].Channel)
				}
			}
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			if r.URL.Path == "/elsewhere" {
				t.Error("a redirect was followed")
			}
			what, redirect := rnd.IntN(12), 301+rnd.IntN(2)*6
			if what > 4 || rnd.IntN(2) == 0 { // it may take events and answer that it has failed
				take(r, b)
			}
			mu.Unlock()
			switch what {
			case 0:
				w.WriteHeader(http.StatusInternalServerError)
			case 1:
				<-r.Context().Done()
			case 2:
				http.Redirect(w, r, "/elsewhere", redirect)
			case 3:
				panic(http.ErrAbortHandler)
			case 4:
				w.Header().Set("Retry-After", "3")
				w.WriteHeader(http.StatusTooManyRequests)
			default:
				fmt.Fprintln(w, "taken")
			}
		}))
		s := sender(t, outbound.New(destinations.Guard{}, nil, nil), io.Discard)
		want := map[string][]string{}
		var all []*App
		for i := range apps {
			h := hook(fmt.Sprint(server.URL, "/hook/", i))
			h.Timeout = 50 * time.Millisecond
			all = append(all, s.App(account(fmt.Sprint(i), h)))
		}
		for i := range events {
			for j, a := range all {
				prefixes := []string{"", "", "presence-", "private-encrypted-"}
				channel := fmt.Sprint(prefixes[i/20%4], i)
				want[fmt.Sprint(j)] = append(want[fmt.Sprint(j)], channel)
				a.tell(Event{Kind: Kind(i % int(kinds)), Channel: name(channel), Data: []byte("1")})
			}
		}
		finish(t, s)
		server.Close()
		for app, channels := range want {
			if !slices.Equal(got[app], channels) {
				t.Errorf("seed %d: app %s: got %d events, want %d, or another order", seed, app,
					len(got[app]), len(channels))
			}
		}
		if repeats == 0 || len(seen) < apps*events/posts.MaxEvents {
			t.Errorf("seed %d: %d batches, %d repeats", seed, len(seen), repeats)
		}
	}
}

// 200 receivers hang, and one answers. No more than half as many requests are under way as
// descriptors are reserved. A request that waits for others does not fail for that.
func TestManyReceivers(t *testing.T) {
	var under, most atomic.Int64
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		for n := under.Add(1); ; {
			if was := most.Load(); n <= was || most.CompareAndSwap(was, n) {
				break
			}
		}
		defer under.Add(-1)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		if r.URL.Path != "/fine" {
			<-end
		}
	}))
	defer server.Close()
	transport := outbound.New(destinations.Guard{}, nil, nil)
	s := sender(t, transport, io.Discard)
	var queues []*queue
	for i := range 200 {
		h := hook(fmt.Sprint(server.URL, "/hangs/", i))
		h.Timeout = time.Minute
		a := s.App(account(fmt.Sprint(i), h))
		queues = append(queues, a.set.Load().queues[0])
	}
	fine := hook(server.URL + "/fine")
	fine.Timeout = time.Second
	queues = append(queues, s.App(account("fine", fine)).set.Load().queues[0])
	var asking sync.WaitGroup
	got := make([]answer, len(queues))
	for i, q := range queues {
		asking.Go(func() { got[i] = s.post(q, "id", nil) })
	}
	const most64 = outbound.MaxConnections / 2
	for under.Load() < most64 {
		runtime.Gosched()
	}
	close(end)
	asking.Wait()
	for i := range got {
		if !got[i].ok() {
			t.Errorf("%d: %s", i, got[i].Why())
		}
	}
	if n := most.Load(); n != most64 {
		t.Errorf("%d requests were under way, want %d", n, most64)
	}
	finish(t, s)
}
