//go:build linux

package handover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair makes both ends of a pipe.
func pair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return ends[0], ends[1]
}

// drawn makes a connection in which every field may be set.
func drawn(rng *rand.Rand, shared [][]byte) *Connection {
	text := func(most int) string {
		b := make([]byte, rng.IntN(most+1))
		for i := range b {
			b[i] = byte(rng.IntN(256))
		}
		return string(b)
	}
	bytesOf := func(most int) []byte {
		if s := text(most); s != "" {
			return []byte(s)
		}
		return nil
	}
	yes := func() bool { return rng.IntN(2) == 0 }
	info := func() []byte {
		if yes() {
			return nil
		}
		return append([]byte{}, text(9)...)
	}
	c := &Connection{App: text(9), Socket: rng.Uint64(),
		Library: text(20), Remote: text(20), MaxMessage: rng.Uint32N(1 << 31),
		Since: rng.Uint32(), Seen: rng.Uint32(), PingTick: rng.Uint32(), LimitEnd: rng.Uint32(),
		Attempts: rng.Uint32(), Unread: bytesOf(900), Deflate: yes(), Control: yes(), Pinged: yes(),
		Authorized: yes(), Counted: yes()}
	if yes() {
		c.MaxMessage = 1 << 20
		p := &c.Partial
		*p = Partial{InFrame: yes(), Mask: rng.Uint32(), Fin: yes(), Deflated: yes(),
			Message: uint8(1 + rng.IntN(2)), UTF8: uint8(rng.IntN(9)), Body: bytesOf(900)}
		come := uint64(len(p.Body))
		switch p.Op = []uint8{0, p.Message, 8, 9, 10}[rng.IntN(5)]; {
		case !p.InFrame:
			p.Op, p.Fin, p.Ctl, p.Head = 0, false, bytesOf(125), bytesOf(13)
			if whole(p.Head) {
				p.Head = p.Head[:1]
			}
			come = 0
		case p.Op >= 8:
			p.Fin, p.Ctl = true, bytesOf(125)
			come = uint64(len(p.Ctl))
			p.Left = rng.Uint64N(126 - come)
		case p.Op == 0:
			come = rng.Uint64N(come + 1)
			p.Left = rng.Uint64N(1<<20 - 900)
		default:
			p.Left = rng.Uint64N(1<<20 - 900)
		}
		p.Length = p.Left + come
	}
	for range rng.IntN(4) {
		c.Subscriptions = append(c.Subscriptions, Subscription{Channel: "c" + text(9),
			User: text(9), Info: info(), Member: yes(), Listed: yes()})
	}
	for range rng.IntN(4) {
		v := Piece{Cut: yes(), Pong: yes()}
		switch n := rng.IntN(3); {
		case n == 0 && len(c.Subscriptions) > 0:
			if v.Place = 1 + rng.IntN(len(c.Subscriptions)); yes() {
				v.Resume = []byte("r" + text(99))
			}
		case n == 1:
			v.Bytes = shared[rng.IntN(len(shared))]
		default:
			v.Bytes = []byte("b" + text(99))
		}
		c.Pieces = append(c.Pieces, v)
	}
	if yes() {
		c.User = &User{ID: text(9), Info: info()}
		for range rng.IntN(3) {
			c.User.Watchlist = append(c.User.Watchlist, "w"+text(5))
		}
	}
	return c
}

// got is a Receiver that keeps what it gets.
type got struct {
	sections    map[string]string
	connections []Connection
	fds         []int
	refuse      error
}

func (g *got) Section(name string, state []byte, fds []int) error {
	g.fds = append(g.fds, fds...)
	if g.sections == nil {
		g.sections = map[string]string{}
	}
	g.sections[name] = string(state)
	return nil
}

func (g *got) Connection(c *Connection, fd int) error {
	g.fds = append(g.fds, fd)
	if g.refuse != nil {
		return g.refuse
	}
	g.connections = append(g.connections, *c)
	return nil
}

func (g *got) Told() (all, relayed int) { return len(g.connections), len(g.connections) / 2 }

func (g *got) close() { closeFiles(g.fds) }

// open counts the descriptors of this process.
func open(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// give plays a giver. It returns the first error.
func give(c *net.UnixConn, sections map[string]string, all []*Connection, fds []int) error {
	g, until := NewGiver(c), time.Now().Add(20*time.Second)
	defer g.Close()
	terms, err := g.Meet(Offer{[]Listener{{"main", fds[0]}}, time.Now().Add(-time.Hour)}, until)
	if err != nil {
		return err
	}
	if string(terms) != "terms" {
		return fmt.Errorf("terms %q", terms)
	}
	g.Begin(until, 20*time.Second)
	for name, state := range sections {
		if err := g.Section(name, []byte(state), fds[:min(len(name)%3, len(fds))]...); err != nil {
			return err
		}
	}
	failed := make(chan error, 2)
	for half := range 2 {
		go func() {
			b := g.Batch()
			for i := half; i < len(all); i += 2 {
				if err := b.Add(all[i], fds[i]); err != nil {
					failed <- err
					return
				}
			}
			failed <- b.Flush()
		}()
	}
	if err := errors.Join(<-failed, <-failed); err != nil {
		return err
	}
	if n, relayed, err := g.Finish(); err != nil || n != len(all) || relayed != len(all)/2 {
		return errors.Join(err, fmt.Errorf("told %d, relayed %d", n, relayed))
	}
	if err := g.Yours(); err != nil {
		return err
	}
	told, err := g.Serving()
	if err == nil && told != "well" {
		err = fmt.Errorf("told %q", told)
	}
	return err
}

// take plays a taker.
func take(c *net.UnixConn, r Receiver) (o Offer, orphan bool, err error) {
	t, o, err := Join(c, time.Now().Add(20*time.Second))
	if err != nil {
		return o, false, err
	}
	if orphan, err = t.Take(r, []byte("terms")); err != nil {
		t.Refuse(Refusal{Why: err.Error()})
	} else {
		t.Serving(context.Background(), "well", r.Section) // what a cut pipe has left is foreign
	}
	return o, orphan, err
}

// world is a drawn hand-over: connections, each with a descriptor.
func world(t testing.TB, rng *rand.Rand, n int) (all []*Connection, fds []int) {
	t.Helper()
	shared := [][]byte{bytes.Repeat([]byte("s"), sharedFrom), bytes.Repeat([]byte("l"), 3<<20)}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	for range n {
		all = append(all, drawn(rng, shared))
		fds = append(fds, int(null.Fd()))
	}
	return all, fds
}

// A peer that does not read has very many short slices in its queue, and another one is on very
// many channels, as a member; their sum is more than a frame holds.
func TestLargeConnections(t *testing.T) {
	all, fds := world(t, rand.New(rand.NewPCG(21, 5)), 3)
	for _, c := range all {
		c.Pieces, c.Subscriptions = nil, nil
	}
	for i := range 3 * maxFrame / (sharedFrom - 1) {
		piece := Piece{Bytes: fmt.Appendf(nil, "%*d", sharedFrom-1, i)}
		all[0].Pieces = append(all[0].Pieces, piece)
		at := Subscription{Channel: fmt.Sprint("presence-", i), User: "7", Member: true,
			Info: fmt.Appendf(nil, `{"n":%*d}`, i%(2*sharedFrom), i)}
		all[2].Subscriptions = append(all[2].Subscriptions, at)
	}
	a, b := pair(t)
	given := make(chan error, 1)
	go func() { given <- give(a, nil, all, fds) }()
	var r got
	o, orphan, err := take(b, &r)
	if gave := <-given; err != nil || orphan || gave != nil {
		t.Fatalf("taker: %v, orphan %v; giver: %v", err, orphan, gave)
	}
	came := map[uint64]*Connection{}
	for i := range r.connections {
		came[r.connections[i].Socket] = &r.connections[i]
	}
	for i, c := range all {
		if !reflect.DeepEqual(came[c.Socket], c) {
			t.Errorf("connection %d has not come, or another one", i)
		}
	}
	r.close()
	closeFiles([]int{o.Listeners[0].FD})
	a.Close()
	b.Close()
}

// What was given arrives, with one descriptor for each connection, and nothing is left open.
func TestHandOver(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 1))
	all, fds := world(t, rng, 1200)
	sections := map[string]string{"empty": "", "small": "state",
		"large": string(bytes.Repeat([]byte("x"), 3*maxFrame+7))}
	before := open(t)
	a, b := pair(t)
	given := make(chan error, 1)
	go func() { given <- give(a, sections, all, fds) }()
	var r got
	o, orphan, err := take(b, &r)
	if gave := <-given; err != nil || orphan || gave != nil {
		t.Fatalf("taker: %v, orphan %v; giver: %v", err, orphan, gave)
	}
	if age := time.Since(o.Began); len(o.Listeners) != 1 || o.Listeners[0].Role != "main" ||
		age < time.Hour || age > time.Hour+20*time.Second {
		t.Errorf("the offer is %+v", o)
	}
	if len(r.fds) != len(all)+3*2 { // see give
		t.Errorf("%d descriptors of %d connections and the sections", len(r.fds), len(all))
	}
	if !reflect.DeepEqual(r.sections, sections) {
		t.Errorf("%d sections differ", len(r.sections))
	}
	want := map[uint64]*Connection{}
	for _, c := range all {
		want[c.Socket] = c
	}
	for i := range r.connections {
		c := &r.connections[i]
		if w := want[c.Socket]; !reflect.DeepEqual(w, c) {
			t.Fatalf("gave %+v\ngot  %+v", w, c)
		}
		delete(want, c.Socket)
	}
	if len(want) > 0 {
		t.Errorf("%d connections did not arrive", len(want))
	}
	r.close()
	closeFiles([]int{o.Listeners[0].FD})
	a.Close()
	b.Close()
	if after := open(t); after != before {
		t.Errorf("%d descriptors were open, now %d", before, after)
	}
}

// Either side may end at any connection, and the taker may say no to one: the other side learns
// which it was, and no descriptor is left open. What the taker's own end or a refusal costs is no
// death of the giver.
func TestEnds(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 2))
	all, fds := world(t, rng, 600)
	before := open(t)
	for round := range 60 {
		a, b := pair(t)
		given := make(chan error, 1)
		go func() { given <- give(a, map[string]string{"a": "b"}, all, fds) }()
		r := got{}
		ended := &ender{got: &r, after: 1 + rng.IntN(len(all)), end: func() {}}
		what := [...]string{"giver", "taker", "no"}[round%3]
		switch what {
		case "giver":
			ended.end = func() { a.Close() }
		case "taker":
			ended.end = func() { b.Close() }
		case "no":
			r.refuse = errors.New("no room")
		}
		o, orphan, err := take(b, ended)
		gave, no := <-given, Refusal{}
		if orphan != (what == "giver") || (err == nil) != orphan || gave == nil ||
			errors.As(gave, &no) != (what == "no") {
			t.Errorf("%s: taker %v, orphan %v; giver %v", what, err, orphan, gave)
		}
		for _, l := range o.Listeners {
			closeFiles([]int{l.FD})
		}
		r.close()
		a.Close()
		b.Close()
	}
	if after := open(t); after != before {
		t.Errorf("%d descriptors were open, now %d", before, after)
	}
}

// A giver that sends what makes no sense is alive, so the taker must not serve what it has got.
func TestNonsense(t *testing.T) {
	for what, frame := range map[string][]byte{
		"too long":      {byte(kindSection), 0xff, 0, 0, 0},
		"not due":       {byte(kindTook), 0, 0, 0, 0},
		"of no kind":    {99, 0, 0, 0, 0},
		"without files": {byte(kindBatch), 0, 0, 0, 0},
		"torn":          {byte(kindAll), 0, 0, 0, 1, 0x80},
		"other counts":  {byte(kindAll), 0, 0, 0, 2, 9, 9},
	} {
		a, b := pair(t)
		go func() {
			a.Write([]byte{byte(kindSection), 0, 0, 0, 3, tagName<<1 | 1, 1, 'x'})
			a.Write(frame)
		}()
		taker := &Taker{pipe: pipe{c: b}}
		taker.until(time.Now().Add(20 * time.Second))
		if orphan, err := taker.Take(&got{}, nil); orphan || err == nil || errors.Is(err, ErrDied) {
			t.Errorf("%s: orphan %v, %v", what, orphan, err)
		}
	}
}

// ender calls end before the connection after so many.
type ender struct {
	*got
	after int
	end   func()
}

func (e *ender) Connection(c *Connection, fd int) error {
	if e.after--; e.after == 0 {
		e.end()
	}
	return e.got.Connection(c, fd)
}

// A taker that says no before it is ready tells why.
func TestRefuse(t *testing.T) {
	for _, says := range []Refusal{{"no REVERB_APP_ID", false}, {"the port has changed", true}} {
		a, b := pair(t)
		given := make(chan error, 1)
		offer := Offer{[]Listener{{"main", 0}}, time.Now()}
		go func() {
			_, err := NewGiver(a).Meet(offer, time.Time{})
			given <- err
		}()
		taker, o, err := Join(b, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		taker.Refuse(says)
		want := Refusal{"the successor says no: " + says.Why, says.Stop}
		if no, ok := errors.AsType[Refusal](<-given); !ok || no != want {
			t.Errorf("the giver learned %v", no)
		}
		closeFiles([]int{o.Listeners[0].FD})
	}
}

// A taker without a common format is refused before anything moves.
func TestFormats(t *testing.T) {
	for _, hello := range [][]byte{{9, 12}, {0, 0}, {}, {1}} {
		a, b := pair(t)
		given := make(chan error, 1)
		go func() {
			_, err := NewGiver(a).Meet(Offer{}, time.Now().Add(20*time.Second))
			given <- err
		}()
		p := pipe{c: b}
		if err := p.send(kindHello, hello); err != nil {
			t.Fatal(err)
		}
		if err := <-given; err == nil {
			t.Errorf("%v: no error", hello)
		}
	}
}

// playing is a giver that has given nothing, and a taker that the test plays, which should say now
// that it has installed everything.
func playing(t *testing.T, until time.Time, after time.Duration) (g *Giver, taker *pipe,
	finished chan error) {
	t.Helper()
	a, b := pair(t)
	g, taker, finished = NewGiver(a), &pipe{c: b}, make(chan error, 1)
	g.Begin(until, after)
	go func() {
		_, _, err := g.Finish()
		finished <- err
	}()
	if _, _, err := taker.expect(kindAll, "all", false); err != nil {
		t.Fatal(err)
	}
	return g, taker, finished
}

// The time for everything may be over once the taker has installed it: the last words have a time
// of their own.
func TestLastWords(t *testing.T) {
	until := time.Now().Add(100 * time.Millisecond)
	g, taker, finished := playing(t, until, 20*time.Second)
	if err := taker.send(kindInstalled, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-finished; err != nil {
		t.Skip("a busy machine: ", err)
	}
	<-time.After(time.Until(until))
	go func() {
		taker.expect(kindYours, "yours", false)
		taker.send(kindMine, nil)
		taker.send(kindServing, []byte("well"))
	}()
	if err := g.Yours(); err != nil {
		t.Error(err)
	}
	if told, err := g.Serving(); told != "well" || err != nil {
		t.Errorf("got %q and %v", told, err)
	}
	taker.c.Close()
	g.Close()
}

// A taker that serves at once closes the pipe before the giver has looked for its words.
func TestQuickTaker(t *testing.T) {
	for range 50 {
		g, taker, finished := playing(t, time.Now().Add(20*time.Second), 20*time.Second)
		taker.send(kindInstalled, nil)
		if err := <-finished; err != nil {
			t.Fatal(err)
		}
		go func() {
			taker.expect(kindYours, "yours", false)
			taker.send(kindMine, nil)
			taker.send(kindServing, []byte("well"))
			taker.c.Close()
		}()
		if err := g.Yours(); err != nil {
			t.Fatal(err)
		}
		if told, err := g.Serving(); told != "well" || err != nil {
			t.Errorf("got %q and %v", told, err)
		}
		g.Close()
	}
}

// A taker that ends before it says mine has taken nothing; one that ends later has, also if the
// giver hears it too late.
func TestTaken(t *testing.T) {
	for _, c := range []struct{ mine, late bool }{{false, false}, {true, false}, {true, true},
		{false, true}} {
		after := 20 * time.Second
		if c.late {
			after = time.Nanosecond
		}
		g, taker, finished := playing(t, time.Now().Add(20*time.Second), after)
		taker.send(kindInstalled, nil)
		if err := <-finished; err != nil && !c.late {
			t.Fatal(err)
		}
		if c.late {
			<-g.over
		}
		if c.mine {
			taker.send(kindMine, nil)
		}
		taker.c.Close()
		err := g.Yours()
		if taken := g.Taken(); taken != c.mine && err != nil || err == nil && !c.mine {
			t.Errorf("%+v: %v, taken %v", c, err, taken)
		}
		g.Close()
	}
}

// FuzzConnection checks that no record makes the reader read what is not there, and that what is
// read is sound.
func FuzzConnection(f *testing.F) {
	rng := rand.New(rand.NewPCG(21, 3))
	none := sharer{share: func([]byte) (uint64, error) { return 0, nil }}
	for range 20 {
		f.Add(drawn(rng, [][]byte{[]byte("s")}).append(nil, &none))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		shared := [][]byte{make([]byte, sharedFrom)}
		c, ok := connectionOf(recordIn(b, shared), shared)
		if !ok {
			return
		}
		again := c.append(nil, &none)
		if d, ok := connectionOf(again, shared); !ok || !reflect.DeepEqual(c, d) {
			t.Fatalf("%+v became %+v, %v", c, d, ok)
		}
	})
}

// FuzzTake checks that no bytes of a giver stop or bloat the taker.
func FuzzTake(f *testing.F) {
	f.Add([]byte{byte(kindSection), 0, 0, 0, 3, 3, 1, 97, byte(kindAll), 0, 0, 0, 2, 1, 0})
	f.Add([]byte{byte(kindShared), 0, 0, 0, 1, 1, byte(kindMore), 0, 0, 0, 1, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, c := pair(t)
		defer a.Close()
		defer c.Close()
		go func() {
			a.Write(b)
			a.CloseWrite()
		}()
		taker := &Taker{pipe: pipe{c: c}}
		var r got
		taker.until(time.Now().Add(20 * time.Second))
		taker.Take(&r, nil)
		r.close()
	})
}
