package webhooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/hookentries"
)

// heirOf makes another process take over what s has, with an app 1 and its hooks, and tells it what
// else is there. It has the receiver of s.
func heirOf(s *stage, dir string, orphan bool, hooks []*Hook, there ...Event) (*Sender, *App) {
	s.t.Helper()
	end := s.Stand()
	var records [][]byte
	err := s.State(func(b []byte) error {
		records = append(records, bytes.Clone(b))
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	next, a := newHeir(s, dir, hooks)
	for _, b := range records {
		if !next.SetState(b) {
			s.t.Errorf("%q makes no sense", b)
		}
	}
	for _, e := range there {
		a.Restored(e.Channel.String(), e.User)
	}
	end(true)
	next.Settle(orphan)
	return next, a
}

func newHeir(s *stage, dir string, hooks []*Hook) (*Sender, *App) {
	s.t.Helper()
	o := s.Options
	boot := o.Draw(1 << 62)
	o.Draw = func(int64) int64 { return boot + 1 }
	next := New(o)
	next.Draw = s.Draw
	if err := next.Keep(dir, true); err != nil {
		s.t.Fatal(err)
	}
	set := account("1", hooks...)
	set.Grace = 3 * time.Second
	return next, next.App(set)
}

// end closes a Sender at once.
func (s *stage) end(next *Sender) {
	synctest.Wait()
	if next.spool != nil && !next.closed {
		checkFold(s.t, next)
	}
	checkConsistency(s.t, next)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	next.Close(ended)
	s.Close(ended)
}

// spools are a folder and none.
func spools(t *testing.T) []string { return []string{"", filepath.Join(t.TempDir(), "spool")} }

// What waits and what is under way goes on in the next process, in order; the batch under way comes
// again with its ID, and the figures go on. The old process tells nothing, and says nothing.
func TestHandOver(t *testing.T) {
	for _, dir := range spools(t) {
		play(t, nil, func(s *stage) {
			if err := s.Keep(dir, false); err != nil {
				t.Fatal(err)
			}
			hangs := true
			s.say = func(r *request, n int) (*http.Response, error) {
				if n == 1 || !hangs {
					return status(200), nil
				}
				return nil, nil
			}
			h := []*Hook{hook("http://h/"), hook("http://h/2")}
			h[1].Kinds = KindsOf(ClientEvent)
			a := s.app(h...)
			a.tell(occupied("first"))
			synctest.Wait()
			a.tell(occupied("a"))
			synctest.Wait() // under way
			a.tell(clientEvent("private-x", "client-1"))
			synctest.Wait() // under way to the second URL
			a.tell(occupied("b"))
			a.tell(vacated("a"))
			a.tell(clientEvent("private-x", "client-2"))
			synctest.Wait()
			before := sum(a)
			hangs = false
			next, b := heirOf(s, dir, false, h)
			a.tell(occupied("of-the-old-process"))
			s.pass(10 * time.Second)
			got := s.requests()
			under := map[string]string{} // by ID
			var lists []string
			for i, r := range got {
				id, list := r.header.Get("X-Reverb-Webhook-Id"), strings.Join(r.events(t), ",")
				if was, again := under[id]; again && was != list {
					t.Errorf("%s: %s after %s", id, list, was)
				}
				under[id] = list
				if r.url == "http://h/" && i > 0 {
					lists = append(lists, list)
				}
			}
			if want := []string{"channel_occupied a", "channel_occupied a",
				"client_event private-x client-1,channel_occupied b,channel_vacated a," +
					"client_event private-x client-2"}; !slices.Equal(lists, want) {
				t.Errorf("spool %q: got %q, want %q", dir, lists, want)
			}
			if len(under) != 5 { // first, a, the rest; client-1, client-2
				t.Errorf("%v", under)
			}
			after := sum(b)
			if after.Delivered != before.Delivered+int64(before.Queued) || after.Queued != 0 {
				t.Errorf("%+v, then %+v", before, after)
			}
			if s.log.Len() > 0 {
				t.Errorf("the log says %s", &s.log)
			}
			s.end(next)
			if s.log.Len() > 0 {
				t.Errorf("the log says %s", &s.log)
			}
		})
	}
}

// A hand-over that fails changes nothing, whatever has happened meanwhile.
func TestHandOverFails(t *testing.T) {
	for _, dir := range spools(t) {
		play(t, nil, func(s *stage) {
			if err := s.Keep(dir, false); err != nil {
				t.Fatal(err)
			}
			answer := make(chan bool)
			s.say = func(*request, int) (*http.Response, error) {
				<-answer
				return status(200), nil
			}
			a := s.app(hook("http://h/"))
			a.tell(occupied("a"))
			a.tellGone(vacated("x"), 5*time.Second)
			synctest.Wait()
			a.tell(occupied("b"))
			end := s.Stand()
			failure := errors.New("the pipe has broken")
			if err := s.State(func([]byte) error { return failure }); err != failure {
				t.Errorf("got %v", err)
			}
			close(answer) // nobody can wait here: a worker waits for the lock, which is no sleep
			end(false)
			s.pass(time.Second)
			s.want("channel_occupied a", "channel_occupied b")
			s.pass(10 * time.Second)
			s.want("channel_occupied a", "channel_occupied b", "channel_vacated x")
			if s.spool != nil {
				checkFold(t, s.Sender)
			}
		})
	}
}

// A grace goes on: what is back in time is never told, what is not is told when it is due.
func TestHandOverGrace(t *testing.T) {
	for _, dir := range spools(t) {
		play(t, nil, func(s *stage) {
			if err := s.Keep(dir, false); err != nil {
				t.Fatal(err)
			}
			h := []*Hook{hook("http://h/")}
			a := s.app(h...)
			presence := "presence-x"
			for _, e := range []Event{occupied("a"), occupied("b"), occupied(presence),
				{Kind: MemberAdded, Channel: name(presence), User: "7"}, occupied("stays")} {
				a.tell(e)
				synctest.Wait()
			}
			was := len(s.requests())
			a.tellGone(vacated("a"), 3*time.Second)
			a.tellGone(vacated("b"), 3*time.Second)
			a.tellGone(Event{Kind: MemberRemoved, Channel: name(presence), User: "7"},
				3*time.Second)
			a.tellGone(vacated(presence), 3*time.Second)
			s.pass(time.Second)
			next, b := heirOf(s, dir, false, h, vacated("stays"))
			if f := sum(b); f.Absent != 4 {
				t.Errorf("%+v", f)
			}
			s.pass(time.Second)
			b.tell(occupied("b"))
			s.pass(900 * time.Millisecond)
			if n := len(s.requests()); n != was {
				t.Errorf("%d requests, want %d", n, was)
			}
			s.pass(100 * time.Millisecond)
			if n := len(s.requests()); n == was {
				t.Error("nothing is told when the grace is over")
			}
			s.pass(time.Minute) // what stays is not missing
			var told []string
			for _, list := range s.all(t)[was:] {
				told = append(told, strings.Split(list, ",")...)
			}
			if want := []string{"channel_vacated a", "member_removed presence-x",
				"channel_vacated presence-x"}; !slices.Equal(told, want) {
				t.Errorf("spool %q: got %q, want %q", dir, told, want)
			}
			if dir != "" {
				if got := dump(&next.spool.fold); !strings.Contains(got, "stays") ||
					strings.Contains(got, presence) {
					t.Errorf("the spool says %s", got)
				}
			}
			s.end(next)
		})
	}
}

// What is missing since a start stays missing, and is told in its time.
func TestHandOverMissing(t *testing.T) {
	d := newDisk(t)
	h := []*Hook{hook("http://h/")}
	d.run(nil, func(s *stage) {
		a := s.app(h...)
		a.tell(occupied("a"))
		a.tell(occupied("b"))
		d.crash()
	})
	d.run(nil, func(s *stage) {
		s.app(h...)
		s.pass(20 * time.Second)
		next, b := heirOf(s, d.dir, false, h)
		if f := sum(b); f.Absent != 2 {
			t.Errorf("%+v", f)
		}
		b.tell(occupied("a"))
		s.pass(12 * time.Second)
		s.want()
		s.pass(2 * time.Second) // 33 s after the start
		s.want("channel_vacated b")
		s.end(next)
	})
}

// An app that gets its hooks after the hand-over has what waited, as after a start; what waits for
// a URL that is gone is lost, counted and said.
func TestHandOverUnconfigured(t *testing.T) {
	for _, dir := range spools(t) {
		play(t, nil, func(s *stage) {
			if err := s.Keep(dir, false); err != nil {
				t.Fatal(err)
			}
			s.say = func(_ *request, n int) (*http.Response, error) {
				if n < 4 {
					return nil, nil
				}
				return status(200), nil
			}
			h := []*Hook{hook("http://h/"), hook("http://moves/old"), hook("http://gone/")}
			a := s.app(h...)
			a.tell(occupied("a"))
			a.tellGone(vacated("x"), time.Second)
			next, b := heirOf(s, dir, false, []*Hook{hook("http://h/"), hook("http://moves/new")})
			s.pass(time.Minute)
			var urls []string
			for _, r := range s.requests()[3:] {
				urls = append(urls, r.url+" "+strings.Join(r.events(t), ","))
			}
			slices.Sort(urls)
			if want := []string{"http://h/ channel_occupied a", "http://h/ channel_vacated x",
				"http://moves/new channel_occupied a",
				"http://moves/new channel_vacated x"}; !slices.Equal(urls, want) {
				t.Errorf("got %q, want %q", urls, want)
			}
			if f := sum(b); f.Lost["unconfigured"] != 1 || f.Delivered != 4 {
				t.Errorf("%+v", f)
			}
			if log := s.log.String(); !strings.Contains(log, "their URL is configured no more") {
				t.Error(log)
			}
			s.end(next)
		})
	}
}

// The predecessor has died in the midst: the spool has what waited, and what was restored is there.
func TestHandOverOrphan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	play(t, nil, func(s *stage) {
		if err := s.Keep(dir, false); err != nil {
			t.Fatal(err)
		}
		h := []*Hook{hook("http://h/")}
		a := s.app(h...)
		for _, e := range []Event{occupied("a"), occupied("b")} {
			a.tell(e)
			synctest.Wait()
		}
		s.say = func(*request, int) (*http.Response, error) { return nil, nil }
		a.tell(occupied("c"))
		synctest.Wait()
		s.Stand()(true) // it is dead
		synctest.Wait()
		s.say = nil
		next, b := newHeir(s, dir, h)
		b.Restored("a", "")
		b.Restored("new", "") // the disk did not know it
		next.Settle(true)
		s.pass(10 * time.Second)
		b.tell(occupied("c")) // is back
		s.pass(time.Minute)
		if got := s.all(t)[2:]; !slices.Equal(got, []string{"channel_occupied c",
			"channel_occupied c", "channel_occupied new", "channel_vacated b"}) {
			t.Errorf("got %q", got)
		}
		if r := s.requests(); ids(r)[2] != ids(r)[3] {
			t.Errorf("IDs %q", ids(r))
		}
		s.end(next)
	})
}

// While the old process has the folder the new one tells nothing that the disk does not know, for
// as long as a slow disk may take; then it writes what is so. Its refusals come before all else.
func TestHandOverLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	play(t, nil, func(s *stage) {
		if err := s.Keep(dir, false); err != nil {
			t.Fatal(err)
		}
		h := []*Hook{hook("http://h/")}
		s.app(h...)
		synctest.Wait()
		next, b := newHeir(s, dir, h)
		b.Restored("there", "")
		next.Settle(false)
		b.tell(occupied("a"))
		s.pass(time.Second)
		s.want()
		s.Stand()(true)
		s.pass(100 * time.Millisecond)
		s.want("channel_occupied a")
		if f := next.SpoolFigures(); f.Failing || f.Errors != 0 || f.Bytes < 50 {
			t.Errorf("%+v", f)
		}
		s.end(next)
		o := s.Options
		o.QueueBytes = 1 << 40
		if err := New(o).Keep(dir, true); err == nil {
			t.Error("more may wait than the folder can keep")
		}
	})
	// One that cannot be opened is a disk that fails.
	play(t, nil, func(s *stage) {
		if err := s.Keep(dir, false); err != nil {
			t.Fatal(err)
		}
		s.app(hook("http://h/"))
		next, b := newHeir(s, dir, []*Hook{hook("http://h/")})
		next.Settle(false)
		b.tell(occupied("a"))
		s.pass(20 * time.Second)
		s.want("channel_occupied a")
		if f := next.SpoolFigures(); !f.Failing {
			t.Errorf("%+v", f)
		}
		s.Stand()(true)
		s.pass(time.Minute)
		if f := next.SpoolFigures(); f.Failing || f.Errors == 0 ||
			!strings.Contains(s.log.String(), "another process uses it") {
			t.Errorf("%+v, %s", f, &s.log)
		}
		s.end(next)
	})
}

// A batch gets its ID before it is sent, and not while all stands still.
func TestHandOverBegin(t *testing.T) {
	play(t, nil, func(s *stage) {
		h := []*Hook{hook("http://h/")}
		a := s.app(h...)
		s.Sender.mu.Lock()
		s.queueLocked(a, &Event{Kind: ChannelOccupied, Channel: name("a")})
		s.Sender.mu.Unlock()
		next, _ := heirOf(s, "", false, h) // perhaps before the worker has begun
		s.pass(time.Second)
		once := map[string]bool{}
		for _, id := range ids(s.requests()) {
			once[id] = true
		}
		if len(once) != 1 {
			t.Errorf("IDs %v", once)
		}
		s.end(next)
	})
}

// A chain of processes with a receiver that is slow and fails: everything arrives, once and in
// order, but for repeats of a batch.
func TestHandOverChain(t *testing.T) {
	for _, dir := range spools(t) {
		for seed := range uint64(10) {
			play(t, nil, func(s *stage) {
				rnd := rand.New(rand.NewPCG(seed, 5))
				if err := s.Keep(dir, false); err != nil {
					t.Fatal(err)
				}
				s.say = func(*request, int) (*http.Response, error) {
					s.rnd.Lock()
					defer s.rnd.Unlock()
					pause, code := time.Duration(rnd.IntN(300))*time.Millisecond, 200
					if rnd.IntN(5) == 0 {
						code = 500
					}
					s.rnd.Unlock()
					defer s.rnd.Lock()
					return after(pause, code)
				}
				h := []*Hook{hook("http://h/")}
				a, now := s.app(h...), s.Sender
				told := 0
				for range 6 {
					for range 20 {
						a.tell(clientEvent("private-x", fmt.Sprint("client-", told)))
						told++
						s.rnd.Lock()
						pause := time.Duration(rnd.IntN(50)) * time.Millisecond
						s.rnd.Unlock()
						s.pass(pause)
					}
					old := &stage{t: t, Sender: now, receiver: s.receiver}
					next, b := heirOf(old, dir, false, h)
					defer old.end(next)
					a, now = b, next
				}
				s.pass(10 * time.Minute)
				seen, n := map[string]bool{}, 0
				for _, r := range s.requests() {
					id := r.header.Get("X-Reverb-Webhook-Id")
					if !seen[id] {
						for _, e := range r.events(t) {
							if want := fmt.Sprint("client_event private-x client-", n); e != want {
								t.Fatalf("seed %d: got %s, want %s", seed, e, want)
							}
							n++
						}
					}
					seen[id] = true
				}
				if f := sum(a); n != told || f.Delivered != int64(told) || f.Queued != 0 {
					t.Errorf("seed %d: %d of %d; %+v", seed, n, told, f)
				}
			})
		}
	}
}

// FuzzHandOver checks that no record breaks the Sender, and that what it has taken it gives again.
func FuzzHandOver(f *testing.F) {
	body := func(e hookentries.Entry) []byte {
		return hookentries.AppendEntry(nil, e.Kind, e.AppendBody(nil))
	}
	at := time.UnixMilli(1_795_709_778_123)
	lane := hookentries.Entry{Kind: hookentries.EntryLane, App: "1", Lane: 1,
		Hash: hookentries.HashOf("http://h/"), Place: "url h"}
	put := hookentries.Entry{Kind: hookentries.EntryPut, Lane: 1, Number: 1, At: at,
		Event: occupied("a")}
	away := hookentries.Away{App: "1", Event: vacated("b"), Left: time.Second}
	b := append(body(lane), body(put)...)
	b = append(b, body(hookentries.Entry{Kind: hookentries.EntryBatch, Lane: 1,
		Batch: hookentries.Batch{ID: "id", Last: 1, N: 1}})...)
	b = append(b, body(hookentries.Entry{Kind: hookentries.EntryCame, App: "2",
		Event: occupied("c")})...)
	b = hookentries.AppendEntry(b, hookentries.EntryAway, away.AppendBody(nil))
	figures := []byte("\x011\x03url\x01h\x01\x02\x01\x03")
	f.Add(hookentries.AppendEntry(b, hookentries.EntryFigures, figures))
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			rec := &receiver{say: func(*request, int) (*http.Response, error) { return nil, nil }}
			rnd := rand.New(rand.NewPCG(1, 2))
			s := New(Options{QueueBytes: 1 << 20, ClientEvents: 100, Transport: rec,
				Log: slog.New(slog.DiscardHandler), Now: time.Now, After: time.After,
				Draw: rnd.Int64N})
			if err := s.Keep("", true); err != nil {
				t.Fatal(err)
			}
			s.App(account("1", hook("http://h/")))
			if s.SetState(b) {
				s.Settle(false)
				synctest.Wait()
				checkConsistency(t, s)
				end := s.Stand()
				again := New(s.Options)
				if err := again.Keep("", true); err != nil {
					t.Fatal(err)
				}
				err := s.State(func(b []byte) error {
					if !again.SetState(b) {
						t.Errorf("%q makes no sense", b)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				end(true)
			}
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			s.Close(ended)
		})
	})
}
