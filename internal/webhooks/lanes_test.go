package webhooks

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// shelf is an Outbox that keeps what it is told.
type shelf struct{ told []string }

func (s *shelf) Configure(app string, hooks []*Hook, grace time.Duration, to Courier) {
	s.told = append(s.told, fmt.Sprint(app, " ", len(hooks), " ", grace, " ", to != nil))
}

func (s *shelf) Put(app string, h *Hook, e *Event) {
	s.told = append(s.told, fmt.Sprint(app, " ", h.URL.Host, " ", e.Kind, " ", e.Channel, " ",
		string(e.Data)))
}

// TestOutbox has an outbox in place of the queues: transitions are decided elsewhere.
func TestOutbox(t *testing.T) {
	s := &shelf{}
	play(t, func(o *Options) { o.Outbox, o.ClientEvents = s, 1 }, func(st *stage) {
		presence := hook("https://two")
		presence.Prefix = "presence-"
		with := account("a", hook("https://one"), presence)
		with.Grace = 3 * time.Second
		a := st.App(with)
		data := []byte(`"x"`)
		a.tell(Event{Kind: ChannelOccupied, Channel: name("news")})
		a.tellGone(Event{Kind: ChannelVacated, Channel: name("news")}, time.Second)
		a.tell(Event{Kind: CacheMiss, Channel: name("presence-cache-c")})
		a.tell(Event{Kind: ClientEvent, Channel: name("private-p"), Data: data})
		a.tell(Event{Kind: ClientEvent, Channel: name("private-p"), Data: data})
		data[1] = 'y' // it was copied
		time.Sleep(time.Minute)
		want := "a 2 3s true|a one cache_miss presence-cache-c |" +
			`a two cache_miss presence-cache-c |a one client_event private-p "x"`
		if got := strings.Join(s.told, "|"); got != want {
			t.Errorf("the outbox is told %q, want %q", got, want)
		}
		if f := sum(a); f.Lost["rate"] != 1 || len(st.all(t)) != 0 {
			t.Errorf("figures %+v, requests %q", f, st.all(t))
		}
	})
}

// batchOf makes a batch that notes its end: 0 before, 1 settled, 2 not.
func batchOf(id string, held *atomic.Bool, events ...Event) (b *Batch, end *atomic.Int32) {
	end = new(atomic.Int32)
	b = &Batch{ID: id, Events: events, Times: make([]time.Time, len(events)), Held: held.Load}
	b.Done = func(settled bool) {
		end.Add(2)
		if settled {
			end.Add(-1)
		}
	}
	return b, end
}

// TestDeliver delivers batches of lanes: two at once, tried again with the same ID, given up, and
// left to another node.
func TestDeliver(t *testing.T) {
	play(t, func(o *Options) { o.Outbox = &shelf{} }, func(st *stage) {
		st.say = func(r *request, n int) (*http.Response, error) {
			switch id := r.header.Get("X-Reverb-Webhook-Id"); {
			case id == "slow":
				return after(4*time.Second, 200)
			case id == "gone":
				return status(410), nil
			case id == "again" && n > 3, id == "fine":
				return status(200), nil
			}
			return status(500), nil
		}
		a := courier{st.App(account("a", hook("https://one")))}
		var held, lost atomic.Bool
		held.Store(true)
		occupied := Event{Kind: ChannelOccupied, Channel: name("news")}
		removed := Event{Kind: MemberRemoved, Channel: name("presence-p"), User: "u"}
		slow, slowEnd := batchOf("slow", &held, occupied, removed)
		again, againEnd := batchOf("again", &held, occupied)
		gone, goneEnd := batchOf("gone", &held, occupied, removed)
		away, awayEnd := batchOf("away", &lost, occupied)
		fails, failsEnd := batchOf("fails", &held, occupied)
		for _, b := range []*Batch{slow, away, gone} {
			if !a.Deliver("https://one", b) {
				t.Errorf("%s is not taken", b.ID)
			}
		}
		synctest.Wait()
		if slowEnd.Load() != 0 || goneEnd.Load() != 1 || awayEnd.Load() != 2 {
			t.Errorf("slow %d, gone %d, away %d", slowEnd.Load(), goneEnd.Load(), awayEnd.Load())
		}
		a.Deliver("https://one", again)
		a.Deliver("https://one", fails)
		time.Sleep(time.Minute)
		if slowEnd.Load() != 1 || againEnd.Load() != 1 || failsEnd.Load() != 0 {
			t.Errorf("slow %d, again %d, fails %d", slowEnd.Load(), againEnd.Load(),
				failsEnd.Load())
		}
		time.Sleep(patience)
		if failsEnd.Load() != 1 {
			t.Errorf("a batch that fails for long ends with %d", failsEnd.Load())
		}
		if first := st.all(t)[:2]; !slices.Contains(first,
			"channel_occupied news,member_removed presence-p") {
			t.Errorf("the first requests have %q", first)
		}
		if a.Deliver("https://other", again) {
			t.Error("a batch for a URL that is not configured is taken")
		}
		a.Refused("https://one", 1, 2, 0)
		a.Refused("https://one", 1, 0, 6)
		a.Untold("https://one", 5)
		a.Waiting("https://one", 7, 3, time.Now().Add(-time.Minute))
		a.Waiting("https://other", 9, 9, time.Now()) // is gone
		f := sum(a.App)
		if f.Delivered != 3 || f.Lost["refused"] != 2 || f.Lost["failed"] != 1 ||
			f.Lost["full"] != 4 || f.Lost["undone"] != 6 || f.Lost["away"] != 5 ||
			f.Queued != 7 || f.Absent != 3 ||
			time.Since(f.Oldest) != time.Minute {
			t.Errorf("figures %+v", f)
		}
		if n := strings.Count(st.log.String(), "Redis holds as many"); n != 1 {
			t.Errorf("the log says %d times that there is no room:\n%s", n, &st.log)
		}
	})
}

// TestStopsDelivering closes the Sender while a batch waits for its next attempt: it stays in its
// lane, and nobody waits for it.
func TestStopsDelivering(t *testing.T) {
	play(t, func(o *Options) { o.Outbox = &shelf{} }, func(st *stage) {
		st.say = func(r *request, n int) (*http.Response, error) { return status(500), nil }
		a := courier{st.App(account("a", hook("https://one")))}
		var held atomic.Bool
		held.Store(true)
		b, end := batchOf("b", &held, Event{Kind: ChannelOccupied, Channel: name("news")})
		a.Deliver("https://one", b)
		synctest.Wait()
		begin := time.Now()
		untold := st.Close(context.Background())
		if end.Load() != 2 || time.Since(begin) > 0 || untold != 0 || len(st.requests()) != 1 {
			t.Errorf("the batch ends with %d after %v; %d events untold, %d requests", end.Load(),
				time.Since(begin), untold, len(st.requests()))
		}
		if a.Deliver("https://one", b) {
			t.Error("a closed Sender takes a batch")
		}
	})
}
