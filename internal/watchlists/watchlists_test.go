package watchlists

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// bench is a set of loops in the time of a test. Each loop has an inbox, from which the test lets
// it take tasks.
type bench struct {
	now    time.Duration
	loops  []*testLoop
	lists  *Lists[string, *watching]
	grace  time.Duration
	flows  [][]*Change[string, *watching] // by loop
	peers  *testPeers                     // nil: there are none
	random *rand.Rand
}

type testLoop struct {
	b     *bench
	inbox []func()
	after []timer
}

type timer struct {
	at   time.Duration
	task func()
}

func (l *testLoop) Post(task func())   { l.inbox = append(l.inbox, task) }
func (l *testLoop) Now() time.Duration { return l.b.now }

func (l *testLoop) After(d time.Duration, task func()) {
	l.after = append(l.after, timer{l.b.now + d, task})
}

// watching is a connection, and what it has been told.
type watching struct {
	loop    int
	w       *Watcher[string, *watching]
	started bool
	told    map[string]bool // by user, what it believes
	list    []string
	self    string   // the user that it is itself
	frames  []string // what was gathered, and when
}

func (b *bench) Grace(app string) time.Duration {
	if app == "slow" {
		return 60 * time.Second
	}
	return b.grace
}

func (b *bench) Changed(loop int, _ string, c *Change[string, *watching]) {
	b.flows[loop] = append(b.flows[loop], c)
}

// testPeers answers a question when the test lets it.
type testPeers struct {
	b      *bench
	asked  []question
	joined map[string]bool // the users who are watched
}

type question struct {
	user  string
	ready func()
}

func (p *testPeers) Watch(_, user string, ready func()) {
	if p.joined[user] {
		panic("a user is watched twice")
	}
	p.joined[user] = true
	p.asked = append(p.asked, question{user, ready})
}

func (p *testPeers) Unwatch(_, user string) {
	if !p.joined[user] {
		panic("a user is unwatched who is not watched")
	}
	delete(p.joined, user)
}

func newBench(loops int, seed uint64, among bool) *bench {
	b := &bench{now: time.Second, grace: 3 * time.Second,
		flows:  make([][]*Change[string, *watching], loops),
		random: rand.New(rand.NewPCG(seed, 1))}
	var all []Loop
	for range loops {
		l := &testLoop{b: b}
		b.loops, all = append(b.loops, l), append(all, l)
	}
	var peers Peers[string]
	if among {
		b.peers = &testPeers{b: b, joined: map[string]bool{}}
		peers = b.peers
	}
	b.lists = New[string, *watching](all, b, peers)
	return b
}

// begin makes a watcher that starts as soon as it can.
func (b *bench) begin(loop int, users ...string) *watching {
	c := &watching{loop: loop, told: map[string]bool{}, list: users}
	start := func() {
		c.started = true
		online, offline := b.lists.Desk(loop).Start(c.w, c.self)
		if got := len(online) + len(offline); got != len(users) {
			panic(fmt.Sprintf("%d users are told of %d", got, len(users)))
		}
		for _, id := range online {
			c.told[id] = true
		}
		for _, id := range offline {
			c.told[id] = false
		}
	}
	w, known := b.lists.Desk(loop).Begin("app", c, users, start)
	if c.w = w; known {
		start()
	}
	return c
}

// run lets a loop do up to n pieces of work: tasks, and parts of changes.
func (b *bench) run(t *testing.T, loop, n int) {
	t.Helper()
	l := b.loops[loop]
	for ; n > 0; n-- {
		switch {
		case len(b.flows[loop]) > 0 && b.random.IntN(2) == 0, len(l.inbox) == 0:
			if len(b.flows[loop]) == 0 {
				return
			}
			b.walk(t, loop, 1+b.random.IntN(3))
		default:
			task := l.inbox[0]
			l.inbox = l.inbox[1:]
			task()
		}
	}
}

// walk lets a loop tell the next watchers of its first change.
func (b *bench) walk(t *testing.T, loop, most int) {
	t.Helper()
	c := b.flows[loop][0]
	part, looked, done := c.Next(most)
	if looked > most || looked < len(part) {
		t.Fatalf("%d watchers of at most %d were looked at, %d are told", looked, most, len(part))
	}
	for _, to := range part {
		if to.loop != loop {
			t.Fatalf("a watcher on loop %d is told on loop %d", to.loop, loop)
		}
		to.tell(c.User(), c.Online())
	}
	if done {
		b.flows[loop] = b.flows[loop][1:]
	}
}

func (b *bench) Gathered(to *watching, online, offline []string) {
	for _, id := range online {
		to.tell(id, true)
	}
	for _, id := range offline {
		to.tell(id, false)
	}
	to.frames = append(to.frames, fmt.Sprint(b.now, online, offline))
}

func (c *watching) tell(id string, online bool) {
	if was, watched := c.told[id]; !watched || was == online {
		panic(fmt.Sprintf("a watcher of %v is told that %s is online: %v", c.told, id, online))
	}
	c.told[id] = online
}

// pass lets time pass, and posts the tasks that are due.
func (b *bench) pass(d time.Duration) {
	b.now += d
	for _, l := range b.loops {
		l.after = slices.DeleteFunc(l.after, func(v timer) bool {
			if v.at <= b.now {
				l.Post(v.task)
			}
			return v.at <= b.now
		})
	}
}

// settle lets everything happen that is to happen by now.
func (b *bench) settle(t *testing.T) {
	t.Helper()
	for busy := true; busy; {
		busy = false
		if b.peers != nil {
			for len(b.peers.asked) > 0 {
				b.answer()
			}
		}
		for i := range b.loops {
			busy = busy || len(b.loops[i].inbox)+len(b.flows[i]) > 0
			b.run(t, i, 1000)
		}
		b.pass(0)
	}
}

// answer lets the peers answer their oldest question.
func (b *bench) answer() {
	q := b.peers.asked[0]
	b.peers.asked = b.peers.asked[1:]
	q.ready()
}

// check compares all redundant figures of the desks.
func (b *bench) check(t *testing.T) {
	t.Helper()
	for i, d := range b.lists.desks {
		named, subjects := make(map[uint32]int), 0
		for s := range d.subjects.All {
			subjects++
			dead := 0
			for place := range s.watchers.All {
				if named[place]++; d.watchers[place].Watcher == nil {
					dead++
				}
			}
			if dead != int(s.dead) || dead == s.watchers.Len() || d.table[s.at] != s ||
				!s.walked && 2*dead > s.watchers.Len() {
				t.Fatalf("loop %d, user %s: %d of %d have ended, noted are %d", i, s.of.id, dead,
					s.watchers.Len(), s.dead)
			}
			if s.of.watching == 0 || s.of.loops&(1<<i) == 0 {
				t.Fatalf("loop %d watches %s, which nobody knows", i, s.of.id)
			}
		}
		if subjects+len(d.noUser) != len(d.table) {
			t.Fatalf("loop %d: %d users, %d free places of %d", i, subjects, len(d.noUser),
				len(d.table))
		}
		for at, w := range d.watchers {
			if int(w.named) != named[uint32(at)] {
				t.Fatalf("loop %d: place %d is named %d times, noted are %d", i, at,
					named[uint32(at)], w.named)
			}
			unused := w.Watcher == nil && w.named == 0
			if free := slices.Contains(d.noWatch, uint32(at)); free != unused {
				t.Fatalf("loop %d: place %d is free: %v", i, at, free)
			}
		}
	}
}

// TestModel lets users come and go, and watchers begin and end, in an order that the seed decides.
// Each watcher is told once of each change. At the end each watcher believes what is true, and when
// all watchers have ended nothing is left.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		for _, among := range []bool{false, true} {
			t.Run(fmt.Sprint(seed, among), func(t *testing.T) {
				b := newBench(1+int(seed%3), seed, among)
				count := make(map[string]int)
				var all []*watching
				user := func() string { return strconv.Itoa(b.random.IntN(8)) }
				for range 600 {
					switch b.random.IntN(8) {
					case 0, 1:
						id := user()
						count[id]++
						b.come(id, count[id])
					case 2, 3:
						if id := user(); count[id] > 0 {
							count[id]--
							b.leave(id, count[id])
						}
					case 4:
						ids := []string{user(), user(), user(), user()}
						slices.Sort(ids)
						all = append(all, b.begin(b.random.IntN(len(b.loops)),
							slices.Compact(ids)...))
					case 5:
						if len(all) > 0 {
							i := b.random.IntN(len(all))
							b.lists.Desk(all[i].loop).End(all[i].w)
							all = slices.Delete(all, i, i+1)
						}
					case 6:
						b.run(t, b.random.IntN(len(b.loops)), b.random.IntN(12))
						if among && len(b.peers.asked) > 0 {
							b.answer()
						}
					case 7:
						b.pass(time.Duration(b.random.IntN(1500)) * time.Millisecond)
					}
					b.check(t)
				}
				b.settle(t)
				for range 2 { // the end of a grace, and then of what was gathered
					b.pass(4 * time.Second)
					b.settle(t)
				}
				for _, c := range all {
					if !c.started {
						t.Fatal("a watcher has not started")
					}
					for id, online := range c.told {
						if online != (count[id] > 0) {
							t.Errorf("a watcher believes that %s is online: %v", id, online)
						}
					}
					b.lists.Desk(c.loop).End(c.w)
				}
				b.settle(t)
				b.check(t)
				left := b.lists.people.Len()
				for _, n := range count {
					if n > 0 {
						left--
					}
				}
				for _, d := range b.lists.desks {
					left += len(d.table) + len(d.watchers) + len(d.leaving) + d.subjects.Len() +
						len(d.bursts.queue)
				}
				if b.peers != nil {
					left += len(b.peers.joined)
				}
				if left != 0 {
					t.Errorf("%d entries are left", left)
				}
			})
		}
	}
}

// come and leave tell of a connection of a user, of which the user has n now.
func (b *bench) come(id string, n int) {
	if b.peers == nil {
		b.lists.SignedIn("app", id)
	} else if n == 1 || b.random.IntN(4) == 0 { // it may be told again
		b.lists.Set("app", id, true)
	}
}

func (b *bench) leave(id string, n int) {
	if b.peers == nil {
		b.lists.SignedOut("app", id)
	} else if n == 0 {
		b.lists.Set("app", id, false)
	}
}

// TestGrace checks the moments at which a watcher is told.
func TestGrace(t *testing.T) {
	b := newBench(2, 1, false)
	b.lists.SignedIn("app", "a")
	c := b.begin(1, "a", "b")
	told := func(want ...string) {
		t.Helper()
		for i := range b.loops {
			b.run(t, i, 100)
		}
		var got []string
		for _, id := range c.list {
			if c.told[id] {
				got = append(got, id)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("at %v: got %q online, want %q", b.now, got, want)
		}
	}
	told("a")
	b.lists.SignedIn("app", "b")
	told("a", "b")
	b.lists.SignedOut("app", "a") // and the loop learns of it later
	b.pass(time.Second)
	told("a", "b")
	b.pass(2*time.Second - 1)
	told("a", "b")
	b.pass(1)
	told("b")
	b.lists.SignedOut("app", "b")
	told("b")
	b.pass(2 * time.Second)
	b.lists.SignedIn("app", "b") // a page change is silent
	told("b")
	b.lists.SignedOut("app", "b")
	told("b")
	b.pass(2 * time.Second) // the first grace ends in between
	told("b")
	b.pass(time.Second)
	told()
	b.grace = 0
	b.lists.SignedIn("app", "b")
	told() // a moment ago b has gone
	b.pass(gatherTime)
	told("b")
	b.lists.SignedOut("app", "b")
	told("b")
	b.pass(gatherTime)
	told()
	b.pass(gatherTime)
	b.grace = time.Second
	b.lists.SignedIn("app", "b")
	told("b")
	b.lists.SignedOut("app", "b")
	b.pass(5 * time.Second) // the loop was busy for longer than the grace
	told()
	if n := len(b.loops[1].after); n > 1 {
		t.Errorf("%d timers run, want one at most", n)
	}
}

// TestBurst checks that a watcher that was told a moment ago is told of the next changes together.
func TestBurst(t *testing.T) {
	b := newBench(1, 1, false)
	b.grace = 0
	c := b.begin(0, "a", "b", "c", "d")
	other := b.begin(0, "d")
	run := func() { b.run(t, 0, 100) }
	b.lists.SignedIn("app", "a")
	run()
	if !c.told["a"] || c.frames != nil {
		t.Fatalf("the first change: told %v, gathered %q", c.told, c.frames)
	}
	b.pass(gatherTime / 2)
	b.lists.SignedIn("app", "b")
	b.lists.SignedOut("app", "a")
	run()
	b.pass(gatherTime / 4)
	b.lists.SignedIn("app", "d")
	run()
	if c.told["b"] || !c.told["a"] || c.told["d"] || !other.told["d"] {
		t.Fatalf("told at once: %v; to another one %v", c.told, other.told)
	}
	b.pass(gatherTime*3/4 - 1)
	run()
	if c.frames != nil {
		t.Fatalf("gathered %q", c.frames)
	}
	b.pass(1)
	run()
	b.lists.SignedIn("app", "c")  // to be told later, since c was told of others just now
	b.lists.SignedOut("app", "c") // and that is undone
	run()
	b.lists.SignedIn("app", "a")
	run()
	b.lists.SignedOut("app", "a")
	run()
	b.pass(gatherTime)
	run() // there is nothing to tell
	b.lists.Desk(0).End(other.w)
	b.lists.SignedOut("app", "d")
	run() // at once: c was not told of anything in the last time
	if c.told["d"] {
		t.Error("d is not told at once")
	}
	b.lists.SignedIn("app", "c")
	run()
	b.pass(gatherTime)
	run()
	if want := []string{"1.3s [b d] [a]", "1.7s [c] []"}; !slices.Equal(c.frames, want) {
		t.Errorf("got %q, want %q", c.frames, want)
	}
	b.pass(gatherTime)
	b.lists.SignedIn("app", "a")
	run()
	b.lists.SignedOut("app", "a")
	run()
	b.lists.Desk(0).End(c.w) // nobody is told any more
	b.pass(gatherTime)
	run()
	if len(c.frames) != 2 || !c.told["a"] || len(b.loops[0].after) > 0 {
		t.Errorf("got %q, told %v, %d timers", c.frames, c.told, len(b.loops[0].after))
	}
}

// TestStorm tells many watchers at once, which takes several tasks.
func TestStorm(t *testing.T) {
	b := newBench(1, 1, false)
	var all []*watching
	for range 3*burstsAtOnce + 1 {
		all = append(all, b.begin(0, "a", "b"))
	}
	b.lists.SignedIn("app", "a")
	b.run(t, 0, 1000)
	b.lists.SignedIn("app", "b")
	b.run(t, 0, 1000)
	b.pass(gatherTime)
	for tasks := 0; len(b.loops[0].inbox) > 0; tasks++ {
		told := 0
		for _, c := range all {
			told += len(c.frames)
		}
		if told != burstsAtOnce*tasks {
			t.Fatalf("%d are told after %d tasks", told, tasks)
		}
		b.run(t, 0, 1)
	}
	for _, c := range all {
		if len(c.frames) != 1 || !c.told["b"] {
			t.Fatalf("got %q", c.frames)
		}
	}
}

// TestFlaps has a user come and go very often while many watch. Little waits for the watchers.
func TestFlaps(t *testing.T) {
	b := newBench(1, 1, false)
	b.grace = 0
	var all []*watching
	for range 100 {
		all = append(all, b.begin(0, "a"))
	}
	for i := range 200 {
		b.lists.SignedIn("app", "a")
		b.run(t, 0, 1000)
		b.lists.SignedOut("app", "a")
		b.run(t, 0, 1000)
		if n := len(b.lists.Desk(0).bursts.queue); n > len(all) {
			t.Fatalf("after %d flips, %d watchers wait to be told", i, n)
		}
	}
	b.pass(gatherTime)
	b.settle(t)
	for _, c := range all {
		if c.told["a"] || len(c.frames) > 1 {
			t.Fatalf("told %v, in %q", c.told, c.frames)
		}
	}
}

// TestGraces has apps with two graces: the longer one does not delay the shorter one.
func TestGraces(t *testing.T) {
	b := newBench(1, 1, false)
	slow, _ := b.lists.Desk(0).Begin("slow", &watching{told: map[string]bool{"a": false}},
		[]string{"a"}, nil)
	b.lists.Desk(0).Start(slow, "")
	c := b.begin(0, "a")
	for range 5 {
		for _, app := range []string{"slow", "app"} {
			b.lists.SignedIn(app, "a")
			b.run(t, 0, 100)
			b.lists.SignedOut(app, "a")
			b.run(t, 0, 100)
		}
		b.pass(b.grace - 1)
		if b.run(t, 0, 100); !c.told["a"] {
			t.Fatal("told before the grace is over")
		}
		b.pass(gatherTime)
		if b.run(t, 0, 100); c.told["a"] {
			t.Fatal("not told when the grace is over")
		}
		b.pass(gatherTime)
	}
	if n := len(b.loops[0].after); n > 4 {
		t.Errorf("%d timers run", n)
	}
}

// TestWithinGrace has watchers begin within the grace of a user who has gone: on the loop that
// knows the user, on another one, and when nobody watches any more. The user is online for all.
func TestWithinGrace(t *testing.T) {
	for _, among := range []bool{false, true} {
		b := newBench(2, 1, among)
		first := b.begin(0, "a")
		b.settle(t)
		b.come("a", 1)
		b.settle(t)
		if !first.told["a"] {
			t.Fatal("the user is not online")
		}
		b.leave("a", 0)
		b.pass(time.Second)
		b.settle(t)
		second := b.begin(1, "a")
		b.settle(t)
		b.lists.Desk(0).End(first.w)
		b.lists.Desk(1).End(second.w)
		third := b.begin(0, "a")
		b.settle(t)
		if !second.told["a"] || !third.told["a"] {
			t.Errorf("among %v: within the grace, told %v and %v", among, second.told, third.told)
		}
		b.pass(2*time.Second - 1)
		b.settle(t)
		if !third.told["a"] {
			t.Error("offline before the grace is over")
		}
		b.pass(1)
		b.settle(t)
		if third.told["a"] {
			t.Error("online after the grace")
		}
		b.lists.Desk(0).End(third.w)
		for range 3 { // whoever went is forgotten
			b.pass(4 * time.Second)
			b.settle(t)
		}
		if n := b.lists.people.Len(); n > 0 {
			t.Errorf("%d users are kept", n)
		}
	}
}

// TestSelf has users who watch themselves: they are online for themselves, and hear no more of it.
func TestSelf(t *testing.T) {
	b := newBench(1, 1, false)
	c := &watching{told: map[string]bool{}, self: "a"}
	w, _ := b.lists.Desk(0).Begin("app", c, []string{"b", "a"}, nil)
	online, offline := b.lists.Desk(0).Start(w, "a")
	if !slices.Equal(online, []string{"a"}) || !slices.Equal(offline, []string{"b"}) {
		t.Errorf("got %q online, %q offline", online, offline)
	}
	c.told["a"] = true // so that one more would be an error
	b.lists.SignedIn("app", "a")
	b.settle(t)
}

// TestForever moves the counters by as much as they can hold, which years do.
func TestForever(t *testing.T) {
	b := newBench(1, 1, true)
	b.lists.questions = 1<<32 - 2
	c := b.begin(0, "a")
	b.settle(t)
	d := b.lists.Desk(0)
	d.posted, d.applied, d.steps = d.posted+1<<40, d.applied+1<<40, d.steps+1<<40
	b.lists.Set("app", "a", true)
	b.settle(t)
	other := b.begin(0, "b", "a")
	b.settle(t)
	if !c.told["a"] || !other.told["a"] || !other.started {
		t.Errorf("told %v and %v", c.told, other.told)
	}
}

// TestApps checks that a user of an app is nobody in another app.
func TestApps(t *testing.T) {
	b := newBench(1, 1, false)
	b.lists.SignedIn("other", "a")
	c := b.begin(0, "a")
	if c.told["a"] {
		t.Error("a user of another app is online")
	}
	b.lists.SignedIn("app", "a")
	b.lists.SignedOut("other", "a")
	b.settle(t)
	b.pass(4 * time.Second)
	b.settle(t)
	if !c.told["a"] {
		t.Error("the user is not online")
	}
	defer func() {
		if recover() == nil {
			t.Error("a user signed out who was not signed in")
		}
	}()
	b.lists.SignedOut("app", "b")
}

// TestEarly checks that what was posted before a watch began does not count, and that an answer to
// a question of an earlier watch does not either.
func TestEarly(t *testing.T) {
	b := newBench(2, 1, false)
	b.begin(1, "a") // so that the user is known all the time
	c := b.begin(0, "a")
	b.lists.SignedIn("app", "a")
	b.lists.SignedOut("app", "a")
	b.lists.Desk(0).End(c.w)
	b.lists.SignedIn("app", "a") // not posted to the loop: nobody there watches
	c = b.begin(0, "a")
	b.settle(t)
	b.pass(4 * time.Second)
	b.settle(t)
	if !c.told["a"] {
		t.Error("a change from before the watch was told")
	}

	b = newBench(1, 1, true)
	b.lists.Set("app", "a", true) // so that the user is known all the time
	c = b.begin(0, "a")
	b.lists.Desk(0).End(c.w) // before it could start
	c = b.begin(0, "a")
	b.answer()
	b.run(t, 0, 100)
	if c.started {
		t.Error("an answer to an earlier question counts")
	}
	b.answer()
	b.run(t, 0, 100)
	if !c.started || !c.told["a"] {
		t.Errorf("got %+v", c)
	}
}

// TestCost checks what a watchlist of 100 users costs, and that the end of a watcher is cheap when
// very many watch the same users.
func TestCost(t *testing.T) {
	if got := unsafe.Sizeof(subject[string, *watching]{}); got > 64 {
		t.Errorf("a subject has %d bytes", got)
	}
	if got := unsafe.Sizeof(person[*int]{}); got > 64 {
		t.Errorf("a person has %d bytes", got)
	}
	b := newBench(1, 1, false)
	ids := strings.Fields(strings.Repeat("u ", 100))
	for i := range ids {
		ids[i] += strconv.Itoa(i)
	}
	var all []*watching
	for range 2000 {
		all = append(all, b.begin(0, ids...))
	}
	bytes := 0
	d := b.lists.Desk(0)
	for s := range d.subjects.All {
		bytes += s.watchers.Size()
	}
	if per := bytes/len(all) + all[0].w.users.Size(); per > 300 {
		t.Errorf("a watchlist of 100 takes %d bytes", per)
	}
	looked := 0
	for i, c := range all {
		before := 0
		for s := range d.subjects.All {
			before += s.watchers.Len()
		}
		d.End(c.w)
		for s := range d.subjects.All {
			if s.watchers.Len() != 2000 && i == 0 {
				t.Fatal("one ended watcher compacts a long list")
			}
			before -= s.watchers.Len()
		}
		if before > 0 {
			looked++
		}
	}
	if looked > 12 { // half of what is left each time
		t.Errorf("the lists were compacted %d times", looked)
	}
	b.check(t)
}

// FuzzState checks that who has gone a moment ago is known in the successor, and nobody else.
func FuzzState(f *testing.F) {
	find := func(id string) (string, bool) { return id, id != "no" }
	self := func(id string) string { return id }
	f.Add([]byte("\x01a\x04anna\x05\x02no\x03bob\x07"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, again := newBench(1, 1, false), newBench(1, 1, false)
		if !v.lists.SetState(b, find) {
			return
		}
		state := v.lists.State(self)
		if !again.lists.SetState(state, find) || len(again.lists.State(self)) != len(state) {
			t.Fatalf("%q became %q", state, again.lists.State(self))
		}
	})
}
