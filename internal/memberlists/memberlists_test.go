package memberlists

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// house is loops, channels and joiners whose time and turns are the test's.
type house struct {
	t     *testing.T
	now   time.Duration
	loops []*fakeLoop
	lists *Lists[int]
	all   []*guest
}

type fakeLoop struct {
	house *house
	tasks []func()
	later []timer
}

type timer struct {
	at   time.Duration
	task func()
}

func (l *fakeLoop) Post(task func()) { l.tasks = append(l.tasks, task) }
func (l *fakeLoop) After(d time.Duration, task func()) {
	l.later = append(l.later, timer{l.house.now + d, task})
}
func (l *fakeLoop) Now() time.Duration { return l.house.now }

// step runs the first task that waits.
func (l *fakeLoop) step() bool {
	if len(l.tasks) == 0 {
		return false
	}
	task := l.tasks[0]
	l.tasks = l.tasks[1:]
	task()
	return true
}

func newHouse(t *testing.T, size int64, loops int) *house {
	h := &house{t: t, now: time.Hour}
	var all []Loop
	for range loops {
		h.loops = append(h.loops, &fakeLoop{house: h})
		all = append(all, h.loops[len(all)])
	}
	h.lists = New[int](size, all)
	return h
}

// pass lets time go by.
func (h *house) pass(d time.Duration) {
	h.now += d
	for _, l := range h.loops {
		l.later = slices.DeleteFunc(l.later, func(due timer) bool {
			if due.at > h.now {
				return false
			}
			l.Post(due.task)
			return true
		})
	}
}

// settle runs every task that waits.
func (h *house) settle() {
	for ran := true; ran; {
		ran = false
		for _, l := range h.loops {
			ran = l.step() || ran
		}
	}
}

// room is a channel. Its moments are numbered; a list is the text of its members.
type room struct {
	mu      sync.Mutex
	owner   string
	last    Last
	moment  int
	version uint64
	text    string
	change  func() // nil, or called before a list is made
}

func (r *room) Last() *Last { return &r.last }
func (r *room) Owner() any  { return r.owner }
func (r *room) Look(encode bool) Look[int] {
	if encode && r.change != nil {
		r.change()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	look, text := Look[int]{Version: r.version, Size: len(r.text), At: r.moment}, r.text
	if encode {
		look.Encode = func() []byte { return []byte(text) }
	}
	return look
}

// set changes the members; happen is anything else, such as an event.
func (r *room) set(text string) { r.moment, r.version, r.text = r.moment+1, r.version+1, text }
func (r *room) happen()         { r.moment++ }

// guest is a joiner.
type guest struct {
	Claim[int]
	h      *house
	desk   *Desk[int]
	ch     *room
	got    *List // nil: it waits, or has gone
	packs  bool
	left   int
	open   bool
	closed bool // for being too slow
}

func (h *house) ask(loop int, ch *room) *guest {
	g := &guest{h: h, desk: h.lists.Desk(loop), ch: ch, open: true}
	h.all = append(h.all, g)
	g.desk.Ask(&g.Claim, ch, g)
	return g
}

func (g *guest) Give(l *List, at int) int {
	if g.got != nil || !g.open || at != g.ch.moment || string(l.Plain()) != g.ch.text {
		g.h.t.Errorf("given %.20q of moment %d; it is %.20q at %d", l.Plain(), at, g.ch.text,
			g.ch.moment)
	}
	g.got, g.left = l, len(l.Plain())
	if g.packs {
		g.left = len(l.Packed(func(plain []byte) []byte {
			return plain[: len(plain)/2 : len(plain)/2]
		}))
	}
	return g.left
}
func (g *guest) Left() (int, bool) { return g.left, g.open }
func (g *guest) TooSlow()          { g.closed = true }

func (g *guest) drop() {
	g.open = false
	g.desk.Drop(&g.Claim)
}

// check recomputes the count of the pool, and looks for claims that are left behind.
func (h *house) check() {
	h.t.Helper()
	held, holders := int64(0), map[*List]int{}
	for _, g := range h.all {
		if g.open && g.got != nil {
			holders[g.got]++
		}
	}
	for l, n := range holders {
		if held += l.bytes; n != l.holders {
			h.t.Errorf("a list has %d holders, counts %d", n, l.holders)
		}
	}
	asked := 0
	for i := range h.loops {
		for _, g := range h.lists.Desk(i).listings {
			if len(g.ready) == 0 || !g.due || g.over {
				h.t.Errorf("a listing of %d is not to be served", len(g.ready))
			}
			asked++
		}
	}
	if used := h.lists.Used(); used < held {
		h.t.Errorf("%d bytes are counted, %d are held", used, held)
	} else if asked == 0 && (used != held || h.lists.Waiting() > 0) {
		h.t.Errorf("%d bytes are counted, %d are held, %d wait, and nobody has asked", used, held,
			h.lists.Waiting())
	}
}

// Each joiner gets the channel as it is at one moment, once, whatever else happens: members and
// events come, joiners go at any time, loops take turns, time passes. What is held is what is
// counted, and it is bounded.
func TestModel(t *testing.T) {
	for seed := range uint64(30) {
		if model(t, seed); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func model(t *testing.T, seed uint64) {
	const size, most = 40_000, 30_000
	random := rand.New(rand.NewPCG(seed, 1))
	h := newHouse(t, size, 3)
	rooms := []*room{{owner: "a", text: "-"}, {owner: "a", text: "-"}, {owner: "b", text: "-"}}
	set := func(ch *room) {
		ch.set(strings.Repeat(string(rune('a'+random.IntN(26))), 1+random.IntN(most)))
	}
	for _, ch := range rooms { // a member may come while a list is about to be made
		ch.change = func() {
			if random.IntN(4) == 0 {
				set(ch)
			}
		}
	}
	drop := func() {
		if len(h.all) > 0 {
			i := random.IntN(len(h.all))
			h.all[i].drop()
			h.all = slices.Delete(h.all, i, i+1)
		}
	}
	for range 2000 {
		switch ch, step := rooms[random.IntN(len(rooms))], random.IntN(100); {
		case step < 25:
			h.ask(random.IntN(3), ch).packs = random.IntN(2) == 0
		case step < 35:
			set(ch)
		case step < 40:
			ch.happen()
		case step < 65:
			drop()
		case step < 95:
			h.loops[random.IntN(3)].step()
		default:
			h.pass(time.Duration(random.IntN(int(time.Millisecond))))
		}
		if h.check(); h.lists.Used() > size+2*(most+most/2) {
			t.Fatalf("%d bytes are held", h.lists.Used())
		}
	}
	for range 500 { // a joiner with a list goes, until every joiner has had one
		h.settle()
		for i := len(h.all) - 1; i >= 0; i-- {
			if h.all[i].got != nil {
				h.all[i].drop()
				h.all = slices.Delete(h.all, i, i+1)
			}
		}
		h.pass(time.Millisecond)
	}
	if h.check(); len(h.all) > 0 || h.lists.Used() > 0 {
		t.Errorf("%d joiners have no list, %d bytes are held", len(h.all), h.lists.Used())
	}
}

// Joiners of one turn share a list, on all loops, as long as the members are the same; an event
// does not make another one. A list without holders costs nothing.
func TestListsAreShared(t *testing.T) {
	h, ch := newHouse(t, 1<<20, 2), &room{text: "members"}
	for i := range 200 {
		h.ask(i%2, ch).packs = i%4 > 1
	}
	if h.lists.Encoded() != 0 || h.lists.Used() != 0 {
		t.Errorf("%d lists were made before a loop has run", h.lists.Encoded())
	}
	h.settle()
	ch.happen()
	h.ask(0, ch)
	h.settle()
	if want := int64(cap(h.all[0].got.Plain()) + len("members")/2); h.lists.Encoded() != 1 ||
		h.lists.Used() != want {
		t.Errorf("%d lists of %d bytes were made, want 1 of %d", h.lists.Encoded(), h.lists.Used(),
			want)
	}
	ch.set("others")
	h.ask(1, ch)
	h.settle()
	if n := h.lists.Encoded(); n != 2 {
		t.Errorf("%d lists were made for two versions", n)
	}
	for _, g := range h.all {
		g.drop()
	}
	if h.check(); h.lists.Used() != 0 {
		t.Errorf("%d bytes are held by nobody", h.lists.Used())
	}
}

// After a long list the channel's next is not made at once, on whatever loop it is asked
// for; a short one is.
func TestPause(t *testing.T) {
	for size, want := range map[int]uint64{shortBytes: 11, shortBytes + 1: 1} {
		h, ch := newHouse(t, 64<<20, 2), &room{}
		for i := range 11 {
			ch.set(strings.Repeat("x", size-i%2))
			h.ask(i%2, ch)
			h.settle()
		}
		if n := h.lists.Encoded(); n != want {
			t.Errorf("%d lists of %d bytes were made at once, want %d", n, size, want)
		}
		h.pass(time.Duration(size)*pausePerByte - 1)
		if h.settle(); h.lists.Encoded() != want {
			t.Errorf("the next list of %d bytes comes early", size)
		}
		h.pass(1)
		if h.settle(); h.all[1].got == nil || h.all[2].got == nil {
			t.Errorf("the next list of %d bytes does not come", size)
		}
		for _, g := range h.all {
			g.drop()
		}
		again := h.ask(0, ch)
		if h.settle(); again.got != h.all[10].got {
			t.Errorf("a list of %d bytes that is still in memory is not given", size)
		}
	}
}

// A joiner that takes a list slowly is closed, the slowest first, but only while others wait.
func TestSlow(t *testing.T) {
	const size = 20 * slowBytes
	h := newHouse(t, 1, 2) // one list at a time for each owner
	one, other := &room{owner: "a"}, &room{owner: "a"}
	one.set(strings.Repeat("x", size))
	other.set("y")
	slow, slower, quick := h.ask(0, one), h.ask(0, one), h.ask(0, one)
	gone := h.ask(1, one)
	h.settle()
	gone.open = false // is being closed
	pass := func(seconds int) {
		for range seconds {
			if slow.left -= slowBytes / 2; quick.left > slowBytes {
				quick.left -= slowBytes
			}
			h.pass(time.Second)
			h.settle()
		}
	}
	if pass(12); slow.closed || slower.closed {
		t.Fatal("a joiner is closed, and nobody waits")
	}
	next := h.ask(1, other)
	h.settle()
	if next.got != nil || h.lists.Waiting() != 1 {
		t.Fatalf("%d listings wait, want one", h.lists.Waiting())
	}
	if pass(1); slow.closed || !slower.closed || quick.closed || gone.closed {
		t.Errorf("the slowest alone is to be closed: %v %v %v %v", slow.closed, slower.closed,
			quick.closed, gone.closed)
	}
	slower.drop()
	if pass(1); !slow.closed || quick.closed {
		t.Error("the next slowest is to be closed then")
	}
	quick.left = 0
	if pass(9); quick.closed {
		t.Error("a joiner that was quick until now is closed")
	}
	for _, g := range []*guest{slow, quick, gone} {
		g.desk.Drop(&g.Claim)
	}
	h.settle()
	if next.got == nil {
		t.Error("nobody holds a list, and the one that waits has none")
	}
	pass(2)
	if len(h.loops[0].later)+len(h.loops[1].later) > 0 {
		t.Error("slow joiners are looked for, and nobody waits")
	}
}

// busyLoop is a loop with a goroutine.
type busyLoop struct {
	tasks chan func()
	ended chan struct{}
}

func (l busyLoop) Post(task func()) {
	select {
	case l.tasks <- task:
	case <-l.ended:
	}
}
func (l busyLoop) After(d time.Duration, task func()) { time.AfterFunc(d, func() { l.Post(task) }) }
func (l busyLoop) Now() time.Duration                 { return time.Since(start) }

var start = time.Now()

// busyGuest drops its list as soon as it has one.
type busyGuest struct {
	Claim[int]
	desk *Desk[int]
	loop busyLoop
	done *sync.WaitGroup
}

func (g *busyGuest) Give(l *List, _ int) int {
	b := l.Packed(func(plain []byte) []byte { return plain })
	g.loop.Post(func() {
		g.desk.Drop(&g.Claim)
		g.done.Done()
	})
	return len(b)
}
func (g *busyGuest) Left() (int, bool) { return 0, true }
func (g *busyGuest) TooSlow()          {}

// Loops that run at once share lists, and leave nothing. The race detector looks on.
func TestLoopsAtOnce(t *testing.T) {
	const guests = 2000
	ended := make(chan struct{})
	loops := []Loop{busyLoop{make(chan func(), 4*guests), ended},
		busyLoop{make(chan func(), 4*guests), ended}}
	lists, rooms := New[int](1000, loops),
		[]*room{{owner: "a", text: "x"}, {owner: "a", text: "x"}, {owner: "b", text: "x"}}
	var done, running sync.WaitGroup
	done.Add(2 * guests)
	for i, l := range loops {
		l := l.(busyLoop)
		running.Go(func() {
			for {
				select {
				case task := <-l.tasks:
					task()
				case <-ended:
					return
				}
			}
		})
		running.Go(func() {
			for n := range guests {
				l.Post(func() {
					ch := rooms[n%len(rooms)]
					if n%5 == 0 {
						ch.mu.Lock()
						ch.set(fmt.Sprint(strings.Repeat("y", 400), i, n))
						ch.mu.Unlock()
					}
					g := &busyGuest{desk: lists.Desk(i), loop: l, done: &done}
					g.desk.Ask(&g.Claim, ch, g)
				})
			}
		})
	}
	done.Wait()
	if lists.Used() != 0 || lists.Waiting() != 0 {
		t.Errorf("%d bytes are held, %d listings wait", lists.Used(), lists.Waiting())
	}
	close(ended)
	running.Wait()
}
