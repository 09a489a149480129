package retries

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// bench is a table under a clock of the test.
type bench struct {
	*Table
	t    *testing.T
	now  time.Time
	due  time.Time // of the next sweep
	call func(now time.Time)
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, now: time.Unix(1_000_000_000, 0)}
	b.Table = New(7, func(d time.Duration, sweep func(time.Time)) {
		if b.call != nil {
			t.Error("a second sweep is planned")
		}
		b.due, b.call = b.now.Add(d), sweep
	})
	return b
}

// pass lets time pass, with the sweeps that are due.
func (b *bench) pass(d time.Duration) {
	for end := b.now.Add(d); ; {
		if b.call == nil || b.due.After(end) {
			b.now = end
			return
		}
		call := b.call
		b.now, b.call = b.due, nil
		call(b.now)
	}
}

func event(app, key, body string) Request {
	return Request{App: app, Key: key, Path: "/events", Body: []byte(body), Channels: 1,
		Channel: "c"}
}

// begin claims a key, and describes what came of it.
func (b *bench) begin(r Request) (c *Claim, what string) {
	c, earlier, err := b.Begin(r, 120*time.Second, b.now)
	switch {
	case (c != nil) == (earlier != nil || err != nil):
		b.t.Fatalf("%q: got %v, %v, %v", r.Key, c, earlier, err)
	case err != nil:
		return nil, err.Error()
	case earlier != nil:
		return nil, fmt.Sprintf("%s %v", earlier.Body, earlier.Long)
	}
	return c, "claimed"
}

// want checks what comes of a request.
func (b *bench) want(r Request, want string) *Claim {
	b.t.Helper()
	c, got := b.begin(r)
	if got != want {
		b.t.Errorf("%q with %q: got %q, want %q", r.Key, r.Body, got, want)
	}
	return c
}

func (b *bench) done(c *Claim, answer string) {
	c.Settle([]byte(answer))
	b.End(c, false, b.now)
}

func TestRequests(t *testing.T) {
	b := newBench(t)
	c := b.want(event("a", "k", "1"), "claimed")
	b.want(event("a", "k", "1"), ErrBusy.Error())
	b.want(event("a", "k", "2"), ErrOther.Error())
	b.want(event("b", "k", "2"), "claimed")
	b.done(c, "{1}")
	b.want(event("a", "k", "1"), "{1} false")
	path := event("a", "k", "1")
	path.Path = "/batch_events"
	b.want(path, ErrOther.Error())
	if f, want := b.Figures("a"), (Figures{1, claimCost + 3, 1, 0}); f != want {
		t.Errorf("got the figures %+v, want %+v", f, want)
	}
	c = b.want(event("a", "fails", "1"), "claimed")
	b.End(c, true, b.now)
	c = b.want(event("a", "fails", "2"), "claimed")
	b.done(c, strings.Repeat("x", maxAnswer+1))
	b.want(event("a", "fails", "2"), " true")
	b.pass(120*time.Second - 1)
	b.want(event("a", "k", "1"), "{1} false")
	b.pass(1)
	b.want(event("a", "k", "2"), "claimed")
	if f := b.Figures("none"); f != (Figures{}) {
		t.Errorf("an app without claims has %+v", f)
	}
}

// TestExpiredBeforeSweep finds a claim whose time is over, and that nobody has dropped yet.
func TestExpiredBeforeSweep(t *testing.T) {
	b := newBench(t)
	for i := range 10 {
		b.done(b.want(event("a", fmt.Sprint(i), "1"), "claimed"), "{}")
	}
	b.now = b.now.Add(120 * time.Second) // without sweeps
	b.done(b.want(event("a", "9", "2"), "claimed"), "{2}")
	b.want(event("a", "9", "2"), "{2} false")
	for i := range 9 {
		b.want(event("a", fmt.Sprint(i), "2"), "claimed")
	}
	b.check(0)
	if f := b.Figures("a"); f.Claims != 10 || f.Dropped != 0 {
		t.Errorf("got %+v", f)
	}
}

// TestPerChannel checks for what a key counts.
func TestPerChannel(t *testing.T) {
	b := newBench(t)
	r := event("a", "k", "1")
	b.want(r, "claimed")
	r.Channel = "d"
	b.want(r, ErrBusy.Error())
	r.PerChannel = true
	b.want(r, "claimed")
	r.Body = []byte("2")
	b.want(r, ErrOther.Error())
	r.Channels = 2
	b.want(r, ErrOther.Error())
}

// TestBounds fills one app, and looks at another.
func TestBounds(t *testing.T) {
	b := newBench(t)
	b.done(b.want(event("other", "k", ""), "claimed"), "{}")
	first := b.want(event("a", "first", ""), "claimed") // stays in progress
	for i := range maxClaims - 1 {
		b.done(b.want(event("a", fmt.Sprint(i), ""), "claimed"), "")
	}
	if f := b.Figures("a"); f.Claims != maxClaims || f.Dropped != 0 {
		t.Errorf("got %+v", f)
	}
	b.want(event("a", "more", ""), "claimed")
	if f := b.Figures("a"); f.Claims != maxClaims || f.Dropped != 1 {
		t.Errorf("one more: got %+v", f)
	}
	b.want(event("a", "first", ""), ErrBusy.Error())
	b.want(event("a", "1", ""), " false")
	b.want(event("other", "k", ""), "{} false")
	b.done(first, "{}")
	b.pass(time.Hour)
	if f := b.Figures("a"); f.Claims != 1 || f.Bytes != claimCost {
		t.Errorf("an hour later: got %+v, want the one in progress", f)
	}
	// answers fill the bytes
	for i := range 2 * maxBytes / maxAnswer {
		b.done(b.want(event("long", fmt.Sprint(i), ""), "claimed"), strings.Repeat("x", maxAnswer))
	}
	f := b.Figures("long")
	if f.Bytes > maxBytes || f.Bytes < maxBytes-maxAnswer-claimCost ||
		f.Claims*(maxAnswer+claimCost) != f.Bytes || f.Dropped == 0 {
		t.Errorf("long answers: got %+v", f)
	}
	b.want(event("other", "k", ""), "claimed") // its time is over
}

// TestFull fills an app with requests in progress.
func TestFull(t *testing.T) {
	b := newBench(t)
	var all []*Claim
	for i := range maxClaims {
		all = append(all, b.want(event("a", fmt.Sprint(i), ""), "claimed"))
	}
	b.want(event("a", "more", ""), ErrFull.Error())
	b.want(event("b", "more", ""), "claimed")
	b.End(all[0], true, b.now)
	b.want(event("a", "more", ""), "claimed")
	for _, c := range all[1:] {
		b.End(c, true, b.now)
	}
	if f := b.Figures("a"); f.Claims != 1 || f.Bytes != claimCost {
		t.Errorf("got %+v, want one claim", f)
	}
}

// oracle is the plain version of a Table: a list.
type oracle struct {
	claims []oracleClaim // those with an answer in the order of their Ends
}

type oracleClaim struct {
	app, key, body, answer string
	until                  time.Time // zero: in progress
}

func (o *oracle) find(app, key string, now time.Time) int {
	o.claims = slices.DeleteFunc(o.claims, func(c oracleClaim) bool {
		return !c.until.IsZero() && !now.Before(c.until)
	})
	return slices.IndexFunc(o.claims, func(c oracleClaim) bool {
		return c.app == app && c.key == key
	})
}

// TestRandom gives the same random requests to a Table and to the plain version.
func TestRandom(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		b, o := newBench(t), &oracle{}
		type running struct {
			c      *Claim
			app, k string
		}
		var open []running
		for range 3000 {
			switch rng.IntN(8) {
			case 0:
				b.pass(time.Duration(rng.IntN(40_000)) * time.Millisecond)
			case 1, 2, 3:
				if len(open) == 0 {
					break
				}
				i := rng.IntN(len(open))
				r := open[i]
				open = slices.Delete(open, i, i+1)
				at := o.find(r.app, r.k, b.now)
				claim := o.claims[at]
				o.claims = slices.Delete(o.claims, at, at+1)
				if rng.IntN(3) == 0 {
					b.End(r.c, true, b.now)
					break
				}
				claim.answer = strings.Repeat("y", rng.IntN(9))
				claim.until = b.now.Add(120 * time.Second)
				b.done(r.c, claim.answer)
				o.claims = append(o.claims, claim)
			default:
				app, k := string(rune('a'+rng.IntN(3))), fmt.Sprint(rng.IntN(12))
				body := fmt.Sprint(rng.IntN(8) / 7)
				want := "claimed"
				if i := o.find(app, k, b.now); i < 0 {
					o.claims = append(o.claims, oracleClaim{app: app, key: k, body: body})
				} else if c := o.claims[i]; c.body != body {
					want = ErrOther.Error()
				} else if c.until.IsZero() {
					want = ErrBusy.Error()
				} else {
					want = c.answer + " false"
				}
				c, got := b.begin(event(app, k, body))
				if got != want {
					t.Fatalf("seed %d, %s/%s: got %q, want %q", seed, app, k, got, want)
				}
				if c != nil {
					open = append(open, running{c, app, k})
				}
			}
			b.check(seed)
		}
		for _, r := range open {
			b.End(r.c, true, b.now)
		}
		b.pass(time.Hour)
		for app := range b.apps {
			if f := b.Figures(app); f.Claims != 0 || f.Bytes != 0 || b.apps[app].claims != nil {
				t.Errorf("seed %d: %s has %+v in the end", seed, app, f)
			}
		}
		if b.call != nil {
			t.Errorf("seed %d: a sweep is planned, and there is nothing to sweep", seed)
		}
	}
}

// check compares what is counted with what is there.
func (b *bench) check(seed uint64) {
	b.t.Helper()
	for name, a := range b.apps {
		bytes, listed := 0, map[*entry]bool{}
		for _, e := range a.claims {
			bytes += claimCost + len(e.answer.Body)
		}
		last := (*entry)(nil)
		for e := a.oldest; e != nil; e = e.next {
			listed[e], last = true, e
		}
		for _, e := range a.claims {
			if e.done != listed[e] {
				b.t.Fatalf("seed %d, %s: a claim is done: %v, and in the list: %v", seed, name,
					e.done, listed[e])
			}
		}
		if bytes != a.bytes || last != a.newest {
			b.t.Fatalf("seed %d, %s: counted %d bytes, want %d", seed, name, a.bytes, bytes)
		}
	}
}

// TestSteps checks what steps say to Redis, and what they take from its answers.
func TestSteps(t *testing.T) {
	b := newBench(t)
	if s := (*Claim)(nil).Publish(); s != nil {
		t.Errorf("a request without a key has the step %+v", s)
	}
	one := b.want(event("a", "k", "1"), "claimed")
	name := fmt.Sprintf("%x", sha256.Sum256([]byte("k")))
	s := one.Publish()
	args := s.Args()
	if one.Several() || s.Key() != "a:"+name || s.Home() != "c" ||
		len(args[0]) != 32 || len(args[1]) != 16 || args[2] != "p" || args[3] != "120000" ||
		args[4] != "10000" {
		t.Errorf("one channel: key %s, home %s, arguments %q", s.Key(), s.Home(), args)
	}
	one.Settle([]byte("{}"))
	for _, s := range []*Step{s, one.Store()} {
		if got := s.Args()[2]; got != "d{}" || s.Key() != "a:"+name {
			t.Errorf("with an answer: got the state %q of %s", got, s.Key())
		}
	}
	if got := one.Free().Args()[2]; got != "" {
		t.Errorf("free: got the state %q", got)
	}

	r := event("a", "many", "1")
	r.Channels, r.Channel = 2, ""
	many := b.want(r, "claimed")
	name = fmt.Sprintf("%x", sha256.Sum256([]byte("many")))
	take, x, y := many.Take(), many.Publish(), many.Publish()
	if !many.Several() || take.Key() != "a:"+name || x.Key() != "a:"+name+":1" ||
		y.Key() != "a:"+name+":2" || take.Home() != name || x.Args()[2] != "d" ||
		take.Args()[2] != "p" || take.Args()[1] == args[1] {
		t.Errorf("two channels: keys %s, %s, %s, home %s", take.Key(), x.Key(), y.Key(),
			take.Home())
	}
	for _, c := range []struct {
		step  *Step
		reply string
		want  error
	}{{take, "k", nil}, {take, "p", ErrBusy}, {take, "x", ErrOther},
		{s, "", nil}, {s, "p", ErrBusy}, {s, "x", ErrOther}, {x, "d", nil},
		{x, "x", ErrOther}, {many.Store(), "d{}", nil}, {many.Free(), "p", nil}} {
		if err := c.step.Heard(c.reply); !errors.Is(err, c.want) {
			t.Errorf("%+v hears %q: got %v, want %v", c.step.kind, c.reply, err, c.want)
		}
		if got, ok := c.step.claim.Earlier(); ok {
			t.Errorf("%+v hears %q, and knows the answer %+v", c.step.kind, c.reply, got)
		}
	}
	if err := take.Heard("d{1}"); err != nil {
		t.Error(err)
	}
	if got, ok := many.Earlier(); !ok || got != (Answer{Body: "{1}"}) {
		t.Errorf("Redis' answer is %+v, %v", got, ok)
	}
	b.End(many, false, b.now)
	b.want(r, "{1} false")
	if err := s.Heard("d"); err != nil {
		t.Error(err)
	}
	if got, _ := one.Earlier(); !got.Long {
		t.Errorf("a long answer is %+v", got)
	}
}

func BenchmarkRequest(b *testing.B) {
	table := New(7, func(time.Duration, func(time.Time)) {})
	now, body := time.Unix(1_000_000_000, 0), make([]byte, 200)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := Request{App: "a", Key: fmt.Sprint(i), Path: "/events", Body: body, Channels: 1}
		c, _, _ := table.Begin(r, time.Minute, now)
		c.Settle([]byte("{}"))
		table.End(c, false, now)
	}
}

// sound checks what is kept twice.
func (b *bench) sound(t *testing.T) {
	t.Helper()
	for id, a := range b.apps {
		bytes, listed := 0, 0
		for e := a.oldest; e != nil; e = e.next {
			if a.claims[e.name] == e {
				bytes, listed = bytes+claimCost+len(e.answer.Body), listed+1
			}
		}
		if bytes != a.bytes || listed != len(a.claims) || bytes > maxBytes {
			t.Errorf("app %q: %d bytes and %d claims are listed, counted %d and %d", id, bytes,
				listed, a.bytes, len(a.claims))
		}
	}
}

// takeFrom has b take over what another process has.
func (b *bench) takeFrom(t *testing.T, from *bench) {
	t.Helper()
	for _, record := range from.State() {
		if len(record) > recordBytes+2*maxAnswer {
			t.Errorf("a record of %d bytes", len(record))
		}
		if !b.SetState(record) {
			t.Fatal("the state makes no sense")
		}
	}
}

// However many claims there are, a record of them is bounded, and none is lost.
func TestStateInRecords(t *testing.T) {
	from, to := newBench(t), newBench(t)
	begin := func(b *bench, key int) (*Claim, *Answer) {
		r := Request{App: fmt.Sprint("a", key%3), Key: fmt.Sprint(key)}
		c, earlier, err := b.Begin(r, time.Hour, b.now)
		if err != nil {
			t.Fatal(err)
		}
		return c, earlier
	}
	const claims = 12_000
	for i := range claims {
		c, _ := begin(from, i)
		from.End(c, false, from.now)
		begin(from, i) // repeated
	}
	if n := len(from.State()); n < 3 {
		t.Errorf("%d records", n)
	}
	to.takeFrom(t, from)
	to.sound(t)
	for i := range 3 {
		id := fmt.Sprint("a", i)
		if got, want := to.Figures(id), from.Figures(id); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	for i := range claims {
		if c, earlier := begin(to, i); c != nil || earlier == nil {
			t.Fatalf("claim %d is lost", i)
		}
	}
}

// A claim that was used again after its time goes on once.
func TestStateOfAClaimUsedAgain(t *testing.T) {
	from, to := newBench(t), newBench(t)
	for _, v := range []struct {
		key  string
		keep time.Duration
	}{{"first", time.Hour}, {"second", time.Second}, {"second", time.Hour}} {
		c, _, err := from.Begin(Request{App: "a", Key: v.key}, v.keep, from.now)
		if err != nil || c == nil {
			t.Fatal(c, err)
		}
		from.End(c, false, from.now)
		from.now = from.now.Add(2 * time.Second)
	}
	if n := len(from.apps["a"].claims); n != 2 {
		t.Fatalf("%d claims", n)
	}
	to.takeFrom(t, from)
	to.sound(t)
	if got, want := to.Figures("a"), from.Figures("a"); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// FuzzState checks that what is taken over is sound, and goes on as it is.
func FuzzState(f *testing.F) {
	from := newBench(nil)
	for i := range 5 {
		r := Request{App: fmt.Sprint("a", i%2), Key: fmt.Sprint(i)}
		c, _, err := from.Begin(r, time.Hour, from.now)
		if err != nil {
			f.Fatal(err)
		}
		from.End(c, false, from.now)
	}
	f.Add(slices.Concat(from.State()...))
	f.Fuzz(func(t *testing.T, state []byte) {
		b, again := newBench(t), newBench(t)
		if !b.SetState(state) {
			return
		}
		b.sound(t)
		again.takeFrom(t, b)
		for id := range b.apps {
			if got, want := again.Figures(id), b.Figures(id); got != want {
				t.Fatalf("%q: %+v became %+v", id, want, got)
			}
		}
		b.pass(time.Hour)
		b.sound(t)
	})
}
