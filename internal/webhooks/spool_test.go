package webhooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/hookentries"
	"reverb/internal/lib/pairs"
	"reverb/internal/lib/recordlog"
)

// disk is the folder of a spool, whose file a test may cut.
type disk struct {
	t     testing.TB
	dir   string
	last  []byte // see crash
	boots uint64
}

func newDisk(t testing.TB) *disk { return &disk{t: t, dir: filepath.Join(t.TempDir(), "spool")} }

func (d *disk) name() string { return filepath.Join(d.dir, "records") }

func (d *disk) bytes() []byte {
	b, err := os.ReadFile(d.name())
	if err != nil {
		d.t.Error(err)
	}
	return b
}

// crash notes what is on the disk now. What the process does until it ends has not happened.
func (d *disk) crash() {
	synctest.Wait()
	d.last = d.bytes()
}

// run plays a process with the spool in d. If it crashes, the next one finds what was there then.
func (d *disk) run(change func(*Options), do func(*stage)) {
	d.t.Helper()
	if d.last != nil {
		if err := os.WriteFile(d.name(), d.last, 0o600); err != nil {
			d.t.Fatal(err)
		}
		d.last = nil
	}
	play(d.t.(*testing.T), func(o *Options) {
		d.boots++
		bootOf := rand.New(rand.NewPCG(d.boots, 77))
		old, first := o.Draw, true
		o.Draw = func(n int64) int64 { // each process has another boot ID
			if first {
				first = false
				return bootOf.Int64N(n)
			}
			return old(n)
		}
		if change != nil {
			change(o)
		}
	}, func(s *stage) {
		if err := s.Keep(d.dir, false); err != nil {
			d.t.Fatal(err)
		}
		do(s)
		synctest.Wait()
		checkFold(d.t, s.Sender)
	})
}

// app makes an app with a hook and a grace of 3 seconds, as the program does.
func (s *stage) app(hooks ...*Hook) *App {
	a := s.App(Account{ID: "1"})
	synctest.Wait()
	set := account("1", hooks...)
	set.Grace = 3 * time.Second
	a.Configure(set)
	return a
}

// checkFold compares what the spool says with what the Sender has. Nothing may be under way.
func checkFold(t testing.TB, s *Sender) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	f := &s.spool.fold
	for id, p := range f.Past() {
		if s.past[id] != nil {
			continue
		}
		for _, l := range p.Lanes {
			var q *queue
			for a := range allApps(s) {
				for _, x := range a.queues {
					if a.id == id && x.lane == l.Number {
						q = x
					}
				}
			}
			if q == nil {
				continue // of an app that has nothing that waits
			}
			var want, got []string
			for i := range q.taken {
				want = append(want, describe(&q.taken[i]))
			}
			var waiting []string
			for _, f := range []*pairs.Queue[thing, item]{&q.transitions, &q.others} {
				for it := range f.All() {
					waiting = append(waiting, describe(it))
				}
			}
			slices.Sort(waiting) // by number
			want = append(want, waiting...)
			for i := range l.Items {
				got = append(got, describe(&item{l.Items[i], 0}))
			}
			if !slices.Equal(got, want) {
				t.Errorf("the spool has %q, want %q", got, want)
			}
		}
	}
	// What the spool says survives a rewriting.
	again := hookentries.NewFold()
	for r := range f.Records() {
		again.Add(r)
	}
	if got, want := dump(&again), dump(f); got != want || again.Bad+f.Bad > 0 {
		t.Errorf("rewritten: %s, want %s; %d and %d entries are bad", got, want, again.Bad, f.Bad)
	}
}

// allApps are those that have something that waits, or that is gone.
func allApps(s *Sender) map[*App]bool {
	all := maps.Clone(s.leavers)
	for a := range s.crowd.All() {
		all[a] = true
	}
	return all
}

func describe(it *item) string {
	return fmt.Sprintf("%08d %v %v %s %s %s %v %d %d", it.Number, it.Kind, it.Channel, it.User,
		it.Event.Event, it.Data, it.Socket, it.Count, it.At.UnixMilli())
}

// dump has all that a fold says, in an order that is always the same.
func dump(f *hookentries.Fold) string {
	var b strings.Builder
	past := f.Past()
	for _, app := range slices.Sorted(maps.Keys(past)) {
		p := past[app]
		fmt.Fprintf(&b, "app %q: %v\n", app, p.There)
		for _, hash := range slices.SortedFunc(maps.Keys(p.Lanes), func(a, b [16]byte) int {
			return bytes.Compare(a[:], b[:])
		}) {
			l := p.Lanes[hash]
			fmt.Fprintf(&b, "lane %d %x %s %+v:", l.Number, hash, l.Place, l.Batch)
			for i := range l.Items {
				fmt.Fprintf(&b, " %s", describe(&item{l.Items[i], 0}))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func ids(all []*request) (list []string) {
	for _, r := range all {
		list = append(list, r.header.Get("X-Reverb-Webhook-Id"))
	}
	return list
}

// --- What was not delivered ---

// What a crash has cut off is sent again, in order; a batch that may have been delivered has its
// ID.
func TestSpoolCrash(t *testing.T) {
	d := newDisk(t)
	all := clientEvent("private-x", "client-y")
	all.User, all.Data = "7", []byte(`{"a":1}`)
	var first []*request
	d.run(nil, func(s *stage) {
		s.say = func(r *request, _ int) (*http.Response, error) {
			if strings.Contains(r.body, "zero") {
				return status(200), nil
			}
			return nil, nil
		}
		a := s.app(hook("http://h/"), hook("http://user:PASS@h/2"))
		a.tell(occupied("zero"))
		synctest.Wait()
		for _, e := range []Event{occupied("a"), all, {Kind: SubscriptionCount, Channel: name("a"),
			Count: 5}, member(MemberAdded, "8"), vacated("a")} {
			a.tell(e)
			synctest.Wait()
		}
		d.crash()
		for _, r := range s.requests() {
			if r.url == "http://h/" {
				first = append(first, r)
			}
		}
		if b := d.bytes(); bytes.Contains(b, []byte("PASS")) || bytes.Contains(b,
			[]byte("secret")) || bytes.Contains(b, []byte("http")) {
			t.Error("the spool has a secret")
		}
	})
	d.run(nil, func(s *stage) {
		a := s.app(hook("http://h/"), hook("http://user:PASS@h/2"))
		s.pass(time.Second)
		if f := sum(a); f.Queued != 0 || f.Delivered < 10 {
			t.Errorf("%+v", f)
		}
		var again []*request
		for _, r := range s.requests() {
			if r.url == "http://h/" {
				again = append(again, r)
			}
		}
		if len(again) != 2 || len(first) != 2 || ids(again)[0] != ids(first)[1] ||
			!slices.Equal(again[0].events(t), first[1].events(t)) ||
			ids(again)[1] == ids(again)[0] {
			t.Fatalf("%q %q, before: %q", s.all(t), ids(again), ids(first))
		}
		if got := strings.Join(again[1].events(t), ","); got != "client_event private-x client-y,"+
			"subscription_count a,member_added presence-x,channel_vacated a" {
			t.Error(got)
		}
		for _, want := range []string{`"data":"{\"a\":1}","socket_id":"1.2","user_id":"7"}`,
			`"subscription_count":5}`} {
			if !strings.Contains(again[1].body, want) {
				t.Errorf("%s lacks %s", again[1].body, want)
			}
		}
		d.crash()
	})
	d.run(nil, func(s *stage) { // all of it was delivered
		s.app(hook("http://h/"), hook("http://user:PASS@h/2"))
		s.pass(time.Second)
		s.want()
	})
}

// Close waits for the attempt that is under way, and not for a pause or another attempt; what is
// left comes after the next start. So does a second crash.
func TestSpoolStop(t *testing.T) {
	d := newDisk(t)
	var id string
	d.run(nil, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return status(500), nil }
		a := s.app(hook("http://h/"))
		a.tell(occupied("a"))
		synctest.Wait()
		a.tell(occupied("b"))
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		begin := time.Now()
		if n := s.Close(ctx); n != 2 || time.Since(begin) != 0 || len(s.requests()) != 1 {
			t.Errorf("%d untold after %v, %q", n, time.Since(begin), s.all(t))
		}
		if want := `the spool keeps them for the next start" events=2 spool=` + d.dir; !strings.
			Contains(s.log.String(), want) || strings.Contains(s.log.String(), "dropped") {
			t.Errorf("the log says\n%s", &s.log)
		}
		id = ids(s.requests())[0]
		a.tell(vacated("a")) // too late: a stop has caused it
	})
	for range 2 {
		d.run(nil, func(s *stage) {
			s.say = func(*request, int) (*http.Response, error) { return nil, nil }
			s.app(hook("http://h/"))
			synctest.Wait()
			s.want("channel_occupied a")
			if got := ids(s.requests()); got[0] != id {
				t.Errorf("%q, want %s", got, id)
			}
			d.crash()
		})
	}
}

// A receiver that takes events gets what it can at a stop; the first failure ends that, and so does
// a receiver that hangs. What a failing spool does not keep is tried as without one.
func TestSpoolStopUnderWay(t *testing.T) {
	const ok, fails, hangs = "ok", "fails", "hangs"
	for _, c := range []struct {
		first, then string
		failing     bool // the spool
		took        time.Duration
		untold      int
		requests    int
	}{
		{ok, ok, false, 3 * time.Second, 0, 3},
		{ok, fails, false, 2 * time.Second, 70, 2},
		{fails, ok, false, time.Second, 71, 1},
		{hangs, ok, false, 4 * time.Second, 71, 1},
		{fails, ok, true, 4 * time.Second, 20, 4},
	} {
		d := newDisk(t)
		d.run(nil, func(s *stage) {
			say := func(what string, end <-chan struct{}) (*http.Response, error) {
				wait := time.Second
				if what == hangs {
					wait = time.Hour
				}
				select {
				case <-time.After(wait):
				case <-end:
					return nil, context.Canceled
				}
				return status(map[string]int{ok: 200, fails: 500}[what]), nil
			}
			s.say = func(_ *request, n int) (*http.Response, error) {
				if n == 1 {
					return say(c.first, s.ctx.Done())
				}
				return say(c.then, s.ctx.Done())
			}
			h := hook("http://h/")
			h.Timeout = time.Hour
			a := s.app(h)
			a.tell(occupied("a"))
			synctest.Wait()
			for i := range 70 {
				a.tell(occupied(fmt.Sprint(i)))
			}
			synctest.Wait()
			if c.failing {
				s.spool.log.Log.Rewrite(func(yield func([]byte) bool) {
					for yield(make([]byte, 1<<20)) {
					}
				})
				synctest.Wait()
			}
			ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
			defer cancel()
			begin := time.Now()
			untold := s.Close(ctx)
			if took := time.Since(begin); untold != c.untold || took != c.took ||
				len(s.requests()) != c.requests {
				t.Errorf("%+v: %d untold after %v, %d requests", c, untold, took,
					len(s.requests()))
			}
			if lost := strings.Contains(s.log.String(), "the server stops"); lost != (c.failing &&
				c.untold > 0) {
				t.Errorf("%+v: the log says\n%s", c, &s.log)
			}
		})
	}
}

// What waited for a URL goes to the one that has taken its place, after a restart, too, and for
// good.
func TestSpoolSuccessor(t *testing.T) {
	d := newDisk(t)
	var id string
	d.run(nil, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return status(500), nil }
		a := s.app(hook("http://h/?t=1"), hook("http://i/"), hook("http://j/1"), hook("http://j/2"))
		a.tell(occupied("a"))
		synctest.Wait()
		for _, r := range s.requests() {
			if r.url == "http://h/?t=1" {
				id = r.header.Get("X-Reverb-Webhook-Id")
			}
		}
		a.Configure(account("1", hook("http://h/?t=2"), hook("http://i/"), hook("http://j/1"),
			hook("http://j/2")))
		synctest.Wait()
		d.crash()
	})
	kept := d.last
	d.run(nil, func(s *stage) { // the spool knows which URL it was
		s.app(hook("http://h/?t=2"), hook("http://h/?t=5"))
		synctest.Wait()
		if all := s.requests(); len(all) != 1 || all[0].url != "http://h/?t=2" ||
			ids(all)[0] != id {
			t.Errorf("%q %q, want %s", s.all(t), ids(all), id)
		}
	})
	d.last = kept
	for _, token := range []string{"3", "4"} {
		d.run(nil, func(s *stage) {
			s.say = func(*request, int) (*http.Response, error) { return status(500), nil }
			a := s.app(hook("http://h/?t="+token), hook("http://i/"), hook("http://j/3"))
			synctest.Wait()
			got := map[string]string{}
			for _, r := range s.requests() {
				got[r.url] = r.header.Get("X-Reverb-Webhook-Id")
			}
			if got["http://h/?t="+token] != id || len(got) != 2 {
				t.Errorf("%s: %v, want %s", token, got, id)
			}
			each, _ := a.Figures()
			lost := map[string]int64{}
			for _, f := range each {
				lost[f.To] = f.Lost["unconfigured"]
			}
			first := token == "3"
			if want := map[bool]int64{true: 2}[first]; lost["j"] != want || lost["h"] != 0 {
				t.Errorf("%s: lost %v", token, lost)
			}
			if n := strings.Count(s.log.String(), "their URL is configured no more; the "+
				"receiver's idea of who is where may be wrong\" app=1 to=\"url j\" events=1"); n !=
				map[bool]int{true: 2}[first] {
				t.Errorf("%s: the log says\n%s", token, &s.log)
			}
			d.crash()
		})
	}
}

// A push whose answer was lost comes again as it was, also from the next process, and although more
// waits by then.
func TestSpoolQueueAgain(t *testing.T) {
	d := newDisk(t)
	var first string
	var times []time.Time
	d.run(nil, func(s *stage) {
		q := &fakeQueue{}
		a := s.app(queueHook(q))
		a.tell(occupied("before"))
		synctest.Wait()
		q.lost = func() error { return errors.New("the answer is lost") }
		for _, e := range []Event{occupied("a"), member(MemberAdded, "7"),
			clientEvent("private-x", "client-y")} {
			a.tell(e)
		}
		s.pass(10 * time.Second)
		if n := len(q.ids); n < 3 || q.ids[1] != q.ids[n-1] || q.ids[0] == q.ids[1] {
			t.Fatalf("IDs %q", q.ids)
		}
		for _, again := range q.pushed[1:] {
			if again != q.pushed[1] {
				t.Errorf("pushed %q", q.pushed)
			}
		}
		first, times = q.ids[1]+" "+q.pushed[1], q.times[1:1+strings.Count(q.pushed[1], ",")+1]
		for i := range 100 {
			a.tell(occupied(fmt.Sprint(i)))
		}
		synctest.Wait()
		d.crash()
	})
	d.run(nil, func(s *stage) {
		q := &fakeQueue{}
		s.app(queueHook(q))
		s.pass(time.Second)
		if len(q.pushed) < 3 || q.ids[0]+" "+q.pushed[0] != first || q.ids[1] == q.ids[0] {
			t.Fatalf("%q %q, before: %s", q.ids, q.pushed, first)
		}
		for i, at := range times {
			if !q.times[i].Equal(at) {
				t.Errorf("event %d happened at %v, and before at %v", i, q.times[i], at)
			}
		}
		d.crash()
	})
	d.run(nil, func(s *stage) { // it was settled
		q := &fakeQueue{}
		s.app(queueHook(q))
		s.pass(time.Second)
		if len(q.pushed) > 0 {
			t.Errorf("pushed %q", q.pushed)
		}
	})
}

// Look counts what waits and what is there, while a process has the folder and after it.
func TestSpoolLook(t *testing.T) {
	d := newDisk(t)
	const want = "3 events that were not delivered and 2 channels and members that were there, in "
	d.run(nil, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return nil, nil }
		a := s.app(hook("http://h/"))
		for _, e := range []Event{occupied("presence-x"), member(MemberAdded, "7"),
			clientEvent("private-x", "client-y")} {
			a.tell(e)
		}
		synctest.Wait()
		if kept, used, err := s.Look(d.dir); !strings.HasPrefix(kept, want) || !used ||
			!errors.Is(err, recordlog.ErrLocked) {
			t.Errorf("%s, %v, %v", kept, used, err)
		}
	})
	if kept, used, err := new(Sender).Look(d.dir); !strings.HasPrefix(kept, want) || used ||
		err != nil {
		t.Errorf("%s, %v, %v", kept, used, err)
	}
	whole := d.bytes()
	for end, more := range map[string]string{"torn": "; 4 bytes at its end are torn",
		"of something else": "; it is damaged: 17 bytes at its end are lost"} {
		if err := os.WriteFile(d.name(), append(whole, end...), 0o600); err != nil {
			t.Fatal(err)
		}
		if kept, _, err := new(Sender).Look(d.dir); !strings.HasPrefix(kept, want) ||
			!strings.HasSuffix(kept, more) || err != nil {
			t.Errorf("%s, %v", kept, err)
		}
	}
}

// What was lost for want of room does not come back, and what waits keeps the bounds of the queue.
func TestSpoolFull(t *testing.T) {
	d := newDisk(t)
	hang := func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return nil, nil }
	}
	small := func(o *Options) { o.QueueBytes = 20 * (itemCost + 8) }
	d.run(small, func(s *stage) {
		hang(s)
		a := s.app(hook("http://h/"))
		for i := range 100 {
			a.tell(occupied(fmt.Sprint("c", i)))
			if i%10 == 0 {
				synctest.Wait()
			}
		}
		d.crash()
	})
	d.run(small, func(s *stage) {
		a := s.app(hook("http://h/"))
		s.pass(time.Second)
		if f := sum(a); f.Delivered != 20 || f.Lost["full"] != 0 {
			t.Errorf("%+v", f)
		}
		all := strings.Split(strings.Join(s.all(t), ","), ",")
		if all[0] != "channel_occupied c0" || all[19] != "channel_occupied c99" {
			t.Errorf("%q", all)
		}
	})
	d = newDisk(t)
	d.run(nil, func(s *stage) {
		hang(s)
		a := s.app(hook("http://h/"))
		for i := range 100 {
			a.tell(occupied(fmt.Sprint("c", i)))
		}
		synctest.Wait()
		d.crash()
	})
	d.run(small, func(s *stage) { // less room than before, so the batch is another one
		hang(s)
		a := s.app(hook("http://h/"))
		synctest.Wait()
		if f := sum(a); f.Queued != 20 || f.Lost["full"] != 80 {
			t.Errorf("%+v", f)
		}
	})
}

// --- What was there ---

// What was there is told as gone, members first, if it is not back within the grace and 30 seconds.
func TestSpoolMissing(t *testing.T) {
	for _, stop := range []bool{false, true} {
		d := newDisk(t)
		d.run(nil, func(s *stage) {
			a := s.app(hook("http://h/"))
			for _, e := range []Event{occupied("presence-x"), member(MemberAdded, "7"),
				member(MemberAdded, "8"), member(MemberAdded, "9"), occupied("a"), occupied("b"),
				occupied("c"), vacated("c"), occupied("d")} {
				a.tell(e)
			}
			a.tell(clientEvent("private-x", "client-x"))
			s.pass(time.Second)
			// In their grace, they count as there.
			a.tellGone(member(MemberRemoved, "9"), 3*time.Second)
			a.tellGone(vacated("d"), 3*time.Second)
			a.tell(occupied("d"))
			if stop {
				s.Hold()
				a.tellGone(vacated("a"), 3*time.Second)
				a.tellGone(vacated("b"), 0)
				s.pass(10 * time.Second)
				if f := sum(a); f.Delivered != 10 || f.Absent != 0 {
					t.Errorf("%+v", f)
				}
			} else {
				d.crash()
			}
		})
		d.run(nil, func(s *stage) { // again, before anything is due
			a := s.app(hook("http://h/"))
			s.pass(10 * time.Second)
			a.tell(occupied("a"))
			s.want()
			d.crash()
		})
		d.run(nil, func(s *stage) {
			begin := time.Now()
			a := s.app(hook("http://h/"))
			s.pass(2 * time.Second)
			a.tell(occupied("a"))
			a.tell(occupied("presence-x"))
			a.tell(member(MemberAdded, "8"))
			a.tell(occupied("new"))
			s.pass(time.Second)
			a.tellGone(vacated("a"), 3*time.Second) // does not wait for what is missing
			s.pass(3 * time.Second)
			s.want("channel_occupied new", "channel_vacated a")
			s.pass(time.Hour)
			s.want("channel_occupied new", "channel_vacated a", "member_removed presence-x,"+
				"member_removed presence-x,channel_vacated b,channel_vacated d")
			if got := s.requests()[2]; got.at.Sub(begin) != 33*time.Second ||
				!strings.Contains(got.body, `"user_id":"7"`) {
				t.Errorf("after %v: %s", got.at.Sub(begin), got.body)
			}
			if f := sum(a); f.Absent != 0 || a.absences.Load() != 0 {
				t.Errorf("%+v %d", f, a.absences.Load())
			}
			d.crash()
		})
		d.run(nil, func(s *stage) { // each was told once
			s.app(hook("http://h/"))
			s.pass(time.Hour)
			s.want("member_removed presence-x,channel_vacated new,channel_vacated presence-x")
		})
	}
}

// Very many are told no faster than they are delivered, so that none is lost.
func TestSpoolManyMissing(t *testing.T) {
	const many, room = 3000, 2000
	d := newDisk(t)
	d.run(nil, func(s *stage) {
		a := s.app(hook("http://h/"))
		for i := range many {
			a.tell(occupied(fmt.Sprint("c", i)))
		}
		s.pass(time.Second)
		d.crash()
	})
	d.run(func(o *Options) { o.QueueBytes = room * (itemCost + 5) }, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) {
			return after(10*time.Millisecond, 200)
		}
		a := s.app(hook("http://h/"))
		s.pass(33*time.Second + 5*time.Millisecond)
		if f := sum(a); f.Queued > room/2+1 || f.Absent < many-room/2-1 || f.Absent == many {
			t.Errorf("%+v", f)
		}
		s.pass(time.Hour)
		if f := sum(a); f.Delivered != many || f.Lost["full"] != 0 {
			t.Errorf("%+v", f)
		}
	})
}

// Records of apps, URLs and channels that are configured no more are dropped and counted.
func TestSpoolUnconfigured(t *testing.T) {
	d := newDisk(t)
	narrow := hook("http://h/")
	narrow.Prefix = "b"
	d.run(nil, func(s *stage) {
		s.say = func(*request, int) (*http.Response, error) { return nil, nil }
		a, b := s.app(hook("http://h/"), hook("http://goes/")), s.App(account("2",
			hook("http://h/")))
		s.App(account("3")).tell(occupied("c")) // nobody wants it
		a.tell(occupied("a"))
		synctest.Wait()
		a.tell(occupied("b"))
		b.tell(occupied("a"))
		leaves := hook("http://leaves/")
		leaves.Kinds = KindsOf(ChannelVacated)
		c := s.App(account("4", leaves))
		c.tell(occupied("quiet")) // not told, but its leaving would be
		synctest.Wait()
		c.Configure(account("4"))
		c.tell(occupied("later"))
		d.crash()
		if f := dump(&s.spool.fold); strings.Contains(f, "quiet") {
			t.Error(f)
		}
	})
	d.run(nil, func(s *stage) {
		a := s.app(narrow)
		s.App(account("2")) // no hooks any more
		s.pass(31 * time.Second)
		// Two of goes, one channel that is not told any more, and the event and the channel of 2.
		if f := s.SpoolFigures(); f.Dropped != 2+1+2 {
			t.Errorf("%+v", f)
		}
		if f := sum(a); f.Lost["unconfigured"] != 2 {
			t.Errorf("%+v", f)
		}
		s.pass(time.Minute)
		s.want("channel_occupied a", "channel_occupied b", "channel_vacated b")
		if log := s.log.String(); !strings.Contains(log, "webhooks of the process before this one "+
			"were dropped: their apps have none any more\" records=2") {
			t.Error(log)
		}
		d.crash()
	})
	d.run(nil, func(s *stage) {
		if len(s.past) != 1 || len(s.past["1"].There) != 0 { // a lane
			t.Errorf("%v", s.past)
		}
	})
	// What lies around keeps nobody from stopping, and is there after it.
	d.run(nil, func(s *stage) {})
}

// --- The file ---

// A file that has grown is rewritten with what is needed.
func TestSpoolRewritten(t *testing.T) {
	d := newDisk(t)
	d.run(func(o *Options) { o.ClientEvents = 10_000 }, func(s *stage) {
		a := s.app(hook("http://h/"))
		a.tell(occupied("a"))
		e := clientEvent("private-x", "client-x")
		e.Data = []byte(`"` + strings.Repeat("x", 100_000) + `"`)
		for range 100 {
			a.tell(e)
			synctest.Wait()
		}
		e.Data = []byte(`"` + strings.Repeat("x", maxEntry) + `"`)
		a.tell(e) // is told, but not kept
		synctest.Wait()
		f := s.SpoolFigures()
		if f.Bytes > 5<<20 || f.Errors > 0 || f.Dropped != 1 {
			t.Errorf("%+v", f)
		}
		d.crash()
	})
	d.run(nil, func(s *stage) {
		s.app(hook("http://h/"))
		s.pass(time.Minute)
		s.want("channel_vacated a")
		s.spool.log.Rewrite(s.spool.fold.Records())
	})
}

// A second process is refused, and so is a folder of others.
func TestSpoolRefused(t *testing.T) {
	d := newDisk(t)
	d.run(nil, func(s *stage) {
		other := New(s.Options)
		if err := other.Keep(d.dir, false); err == nil || err.Error() !=
			"REVERB_WEBHOOK_SPOOL: "+d.dir+
				": another process uses it; each server needs a folder of its own" {
			t.Error(err)
		}
		if err := other.Keep("", false); err != nil || other.SpoolFigures() != nil {
			t.Error(err, other.SpoolFigures())
		}
	})
	var off *Sender
	off.Hold()
	if off.SpoolFigures() != nil {
		t.Error("figures without a sender")
	}
}

// belief is what a receiver knows that drops requests whose ID it knows.
type belief struct {
	t    testing.TB
	seen map[string]bool
	is   map[string]bool
}

// hear takes requests, in the order in which they have come.
func (b *belief) hear(about string, all []*request) {
	for _, r := range all {
		id := r.header.Get("X-Reverb-Webhook-Id")
		if b.seen[id] {
			continue
		}
		b.seen[id] = true
		for _, e := range r.events(b.t) {
			kind, channel, _ := strings.Cut(e, " ")
			if is := kind == "channel_occupied"; b.is[channel] == is {
				b.t.Errorf("%s: %s twice in a row", about, e)
			} else {
				b.is[channel] = is
			}
		}
	}
}

func (b *belief) check(about string, truth map[string]bool) {
	for channel := range b.is {
		if b.is[channel] != truth[channel] {
			b.t.Errorf("%s: %s: occupied %v, believed %v", about, channel, truth[channel],
				b.is[channel])
		}
	}
	for channel := range truth {
		if _, heard := b.is[channel]; truth[channel] && !heard {
			b.t.Errorf("%s: %s is occupied, and nobody was told", about, channel)
		}
	}
}

// Wherever the file ends, and whichever byte of it has changed, the next process starts; where only
// the end is missing, a receiver that drops repeats believes what is so in the end.
func TestSpoolEveryCut(t *testing.T) {
	type told struct {
		*request
		size int // of the file when it came
	}
	var got []told
	d := newDisk(t)
	truths := map[int]map[string]bool{} // by the size of the file
	d.run(nil, func(s *stage) {
		s.say = func(r *request, n int) (*http.Response, error) {
			got = append(got, told{r, len(d.bytes())})
			if n%3 == 0 {
				return status(500), nil
			}
			return after(time.Second, 200)
		}
		rnd := rand.New(rand.NewPCG(5, 6))
		a := s.app(hook("http://h/"))
		truth := map[string]bool{}
		for range 40 {
			channel := fmt.Sprint("c", rnd.IntN(5))
			switch truth[channel] = !truth[channel]; {
			case truth[channel]:
				a.tell(occupied(channel))
			case rnd.IntN(3) == 0:
				a.tell(vacated(channel))
			default:
				a.tellGone(vacated(channel), 3*time.Second)
			}
			s.pass(time.Duration(rnd.IntN(1500)) * time.Millisecond)
			truths[len(d.bytes())] = maps.Clone(truth)
		}
		d.crash()
	})
	whole := d.last
	if len(got) < 10 || len(whole) < 1000 {
		t.Fatalf("%d requests, %d bytes", len(got), len(whole))
	}
	const step = 7
	for n := 0; n <= len(whole); n += step {
		d.last = whole[:n:n]
		about := fmt.Sprint("cut at ", n)
		b := belief{t, map[string]bool{}, map[string]bool{}}
		for _, r := range got {
			if r.size <= n {
				b.hear(about, []*request{r.request})
			}
		}
		back := map[string]bool{}
		if n%2 == 0 { // those who were there come back
			if truth := truths[n]; truth != nil {
				back = truth
			}
		}
		d.run(nil, func(s *stage) {
			a := s.app(hook("http://h/"))
			s.pass(2 * time.Second)
			for channel, is := range back {
				if is {
					a.tell(occupied(channel))
				}
			}
			s.pass(time.Minute)
			b.hear(about, s.requests())
			b.check(about, back)
		})
	}
	rnd := rand.New(rand.NewPCG(7, 8))
	for i := range 300 / step {
		d.last = bytes.Clone(whole)
		at := rnd.IntN(len(whole))
		d.last[at] ^= byte(1 + rnd.IntN(255))
		d.run(nil, func(s *stage) {
			s.app(hook("http://h/"))
			s.pass(time.Minute)
			f := s.SpoolFigures()
			if f.Cut == 0 || f.Cut > int64(len(whole)) || f.Dropped > 0 {
				t.Errorf("change %d at %d: %+v", i, at, f)
			}
			if f.Damaged != strings.Contains(s.log.String(), "spool of webhooks is damaged") {
				t.Error(s.log.String())
			}
		})
	}
}

// Many crashes and stops in a row: a receiver that drops repeats by ID never hears a transition
// twice in a row, and believes what is so once everybody has settled. So it is if more happens than
// there is room for: what was undone before a crash does not come back.
func TestSpoolModel(t *testing.T) {
	undone := int64(0)
	for seed := range uint64(8) {
		changes, pause := 60, 1500
		var change func(*Options)
		if seed%2 == 1 {
			changes, pause = 400, 60
			change = func(o *Options) { o.QueueBytes = 70 * (itemCost + 2) }
		}
		d := newDisk(t)
		rnd := rand.New(rand.NewPCG(seed, 9))
		b := belief{t, map[string]bool{}, map[string]bool{}}
		truth := map[string]bool{}
		about := fmt.Sprint("seed ", seed)
		for round := range 8 {
			var heard []*request
			synced := 0
			ended := false
			d.run(change, func(s *stage) {
				theirs := rand.New(rand.NewPCG(seed, uint64(round)))
				s.say = func(r *request, _ int) (*http.Response, error) {
					if ended { // after the crash
						return nil, nil
					}
					heard, synced = append(heard, r), len(d.bytes())
					code := 200 + theirs.IntN(2)*300
					return after(time.Duration(theirs.IntN(2000))*time.Millisecond, code)
				}
				a := s.app(hook("http://h/"))
				s.pass(time.Duration(rnd.IntN(3000)) * time.Millisecond)
				for channel := range truth { // those who come back
					if truth[channel] = rnd.IntN(2) == 0; truth[channel] {
						a.tell(occupied(channel))
					}
				}
				for range rnd.IntN(changes) {
					channel := fmt.Sprint("c", rnd.IntN(6))
					switch truth[channel] = !truth[channel]; {
					case truth[channel]:
						a.tell(occupied(channel))
					case rnd.IntN(3) == 0:
						a.tell(vacated(channel))
					default:
						a.tellGone(vacated(channel), 3*time.Second)
					}
					s.pass(time.Duration(rnd.IntN(pause)) * time.Millisecond)
				}
				f := sum(a)
				if undone += f.Lost["undone"]; f.Lost["full"] > 0 {
					t.Errorf("%s: %+v", about, f)
				}
				switch {
				case round == 7:
					s.pass(20 * time.Minute)
					b.hear(about, heard)
					b.check(about, truth)
				case rnd.IntN(3) == 0: // a stop
					s.Hold()
					for channel := range truth {
						if truth[channel] {
							a.tellGone(vacated(channel), time.Second)
						}
					}
					ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
					s.Close(ctx)
					cancel()
					b.hear(about, heard)
				default: // a kill, or a loss of power that costs some of what nobody was sent
					d.crash()
					if n := len(d.last) - synced; rnd.IntN(2) == 0 && n > 0 {
						d.last = d.last[:len(d.last)-rnd.IntN(n+1)]
					}
					ended = true
					b.hear(about, heard)
				}
			})
		}
	}
	if undone < 50 {
		t.Errorf("%d are undone", undone)
	}
}

// What another process may have delivered is not undone by what comes later.
func TestSpoolUndone(t *testing.T) {
	d := newDisk(t)
	hang := func(s *stage) *App {
		s.say = func(*request, int) (*http.Response, error) { return nil, nil }
		return s.app(hook("http://h/"))
	}
	d.run(nil, func(s *stage) {
		a := hang(s)
		a.tell(occupied("aa"))
		synctest.Wait()
		for range 10 {
			a.tell(vacated("aa"))
			a.tell(occupied("aa"))
		}
		for i := range 8 {
			a.tell(occupied(fmt.Sprint("c", i)))
		}
		d.crash()
	})
	for range 2 { // the second one has nothing to undo
		d.run(func(o *Options) { o.QueueBytes = 9 * (itemCost + 2) }, func(s *stage) {
			hang(s)
			synctest.Wait()
			s.want("channel_occupied aa")
			if n, _ := s.spool.fold.Count(); n != 9 {
				t.Errorf("%d items", n)
			}
			d.crash()
		})
	}
	d.run(nil, func(s *stage) {
		s.app(hook("http://h/"))
		s.pass(time.Second)
		var rest []string
		for i := range 8 {
			rest = append(rest, fmt.Sprint("channel_occupied c", i))
		}
		s.want("channel_occupied aa", strings.Join(rest, ","))
		if f := s.SpoolFigures(); f.Dropped != 0 {
			t.Errorf("%+v", f)
		}
	})
}

// --- Sizes ---

// The sizes fit together: what belongs together fits into one record.
func TestSpoolSizes(t *testing.T) {
	const hooks = 16 // see the room hooks
	put := hookentries.Entry{Kind: hookentries.EntryPut, Lane: 1 << 60, Number: 1 << 60,
		At: time.Now(), Event: Event{Kind: MemberAdded, Channel: name(strings.Repeat("c", 200)),
			User: strings.Repeat("u", 1000)}}
	large := put.AppendBody(nil)
	if n := hookentries.RecordSize + maxEntry + (hooks+1)*len(large); n > 2*maxEntry {
		t.Error(n)
	}
}
