package outqueue

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// entry is one slice or place of the plain queue that the tests compare with.
type entry struct {
	b        string
	place    *Place
	from     *supplier
	pong     bool
	cut      bool
	supplied bool
}

// supplier counts its calls.
type supplier struct{ wanted, dropped int }

func (s *supplier) Wanted()  { s.wanted++ }
func (s *supplier) Dropped() { s.dropped++ }

const limit = 100

// course plays the operations in the bytes of ops with a Queue and with a slice of entries.
type course struct {
	t    *testing.T
	pool Pool
	q    Queue
	want []entry
	over bool
	shut bool
	all  []*supplier
	gone []*supplier // whose places have left
}

func (c *course) bytes() (n int) {
	for _, e := range c.want {
		if e.from != nil {
			n += PlaceBytes
		} else {
			n += len(e.b)
		}
	}
	return n
}

// letsIn says whether the plain queue takes more.
func (c *course) letsIn() bool {
	c.over = c.over || !c.shut && c.bytes() > limit
	return !c.over && !c.shut
}

// remove takes entries out of the plain queue.
func (c *course) remove(from, to int) {
	for _, e := range c.want[from:to] {
		if e.from != nil {
			c.gone = append(c.gone, e.from)
		}
	}
	c.want = slices.Delete(c.want, from, to)
}

// write lets the socket take n of the bytes that can be written.
func (c *course) write(n int) {
	for n > 0 {
		place, ok := c.q.Head(&c.pool)
		for len(c.want) > 0 && c.want[0].supplied && c.want[0].b == "" {
			c.remove(0, 1)
		}
		if ok != (len(c.want) > 0) || ok && place != c.want[0].place {
			c.t.Fatalf("the head is %v, %v, want %+v", place, ok, c.want)
		}
		if !ok {
			return
		}
		if place != nil && place.Waits() {
			place.Ask()
			if place.Ask(); c.want[0].from.wanted != 1 {
				c.t.Fatalf("the supplier was told %d times that it is wanted",
					c.want[0].from.wanted)
			}
			return
		}
		b := c.q.Next(make([]byte, 64))
		b = b[:min(n, len(b))]
		c.q.Written(&c.pool, len(b))
		n -= len(b)
		for got := string(b); got != ""; {
			e := &c.want[0]
			k := min(len(got), len(e.b))
			if got[:k] != e.b[:k] {
				c.t.Fatalf("%q is written, want %q", got[:k], e.b[:k])
			}
			got = got[k:]
			if e.b = e.b[k:]; e.b != "" {
				e.cut = true
				break
			}
			c.remove(0, 1)
		}
	}
}

func (c *course) step(op, arg byte) {
	text := strings.Repeat(string('a'+rune(arg%26)), int(arg)%40+1)
	switch op % 10 {
	case 0, 1:
		if c.q.Push(&c.pool, []byte(text)); c.letsIn() {
			c.want = append(c.want, entry{b: text})
		}
	case 2:
		stuck := arg%2 == 0
		c.q.PushPong(&c.pool, []byte(text), stuck)
		last := len(c.want) - 1
		stuck = stuck || last >= 0 && c.want[0].from != nil && !c.want[0].supplied
		if last >= 0 && c.want[last].pong && !c.want[last].cut && stuck {
			c.want[last].b = text
		} else if c.letsIn() {
			c.want = append(c.want, entry{b: text, pong: true})
		}
	case 3:
		from := new(supplier)
		place := c.q.PushPlace(&c.pool, from)
		if letsIn := c.letsIn(); (place != nil) != letsIn {
			c.t.Fatalf("a place is let in: %v, want %v", place != nil, letsIn)
		} else if letsIn {
			c.all = append(c.all, from)
			c.want = append(c.want, entry{place: place, from: from})
		}
	case 4:
		for i := range c.want {
			e := &c.want[i]
			if e.place == nil || e.supplied {
				continue
			}
			if arg%3 == 0 {
				text = ""
			}
			more := []byte(nil)
			if arg%2 == 0 {
				more = []byte("more")
			}
			c.q.Supply(&c.pool, e.place, []byte(text), more)
			e.b, e.supplied = text, true
			if e.place.Left() != len(text) {
				c.t.Fatalf("%d bytes of a place are left, want %d", e.place.Left(), len(text))
			}
			if more != nil {
				c.want = slices.Insert(c.want, i+1, entry{b: "more"})
			}
			break
		}
	case 5, 6, 7:
		c.write(int(arg))
	case 8:
		switch arg % 16 {
		case 0, 1:
			if c.q.Shut(&c.pool); !c.q.Closed() {
				c.t.Fatal("it is not shut")
			}
			c.shut = true
			c.remove(0, len(c.want))
		case 2, 3:
			c.q.Clear(&c.pool)
			c.remove(0, len(c.want))
		case 4:
			c.q.Overflow()
			c.over = true
		default:
			c.q.PushAnyway(&c.pool, []byte(text))
			c.want = append(c.want, entry{b: text})
		}
	case 9:
		c.q.DropUnsent(&c.pool)
		if c.over = false; len(c.want) > 0 && c.want[0].cut {
			c.remove(1, len(c.want))
		} else {
			c.remove(0, len(c.want))
		}
	}
	c.check()
}

func (c *course) check() {
	var got, want []string
	for b := range c.q.All {
		got = append(got, string(b))
	}
	for _, e := range c.want {
		want = append(want, e.b)
	}
	if !slices.Equal(got, want) || c.q.Empty() != (len(want) == 0) {
		c.t.Fatalf("%q waits, want %q", got, want)
	}
	if n := c.bytes(); c.q.Bytes() != n || c.pool.Bytes() != n || c.pool.Links() != len(want) ||
		c.q.Over() != c.over {
		c.t.Fatalf("%d bytes, in all queues %d and %d links, over %v; want %d, %d, %v",
			c.q.Bytes(), c.pool.Bytes(), c.pool.Links(), c.q.Over(), n, len(want), c.over)
	}
	for _, s := range c.all {
		if left := slices.Contains(c.gone, s); left && s.dropped != 1 || !left && s.dropped != 0 {
			c.t.Fatalf("a supplier was told %d times that its place has left; it has: %v",
				s.dropped, left)
		}
	}
	for i := range c.want {
		if e := c.want[i]; e.place != nil && e.place.Left() != len(e.b) {
			c.t.Fatalf("%d bytes of a place are left, want %d", e.place.Left(), len(e.b))
		}
	}
}

func play(t *testing.T, ops []byte) {
	c := &course{t: t, pool: NewPool(limit, 8)}
	for len(ops) > 1 {
		c.step(ops[0], ops[1])
		ops = ops[2:]
	}
}

// A queue behaves like a plain slice of its entries, whatever is done with it.
func TestQueueAgainstSlice(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		ops := make([]byte, 400)
		for i := range ops {
			ops[i] = byte(random.UintN(256))
		}
		t.Logf("seed %d", seed)
		play(t, ops)
	}
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 5, 2, 4, 2, 6, 5, 3, 3, 0, 0, 1, 5, 200, 4, 2, 5, 200, 9, 0})
	f.Add([]byte{3, 0, 2, 1, 2, 3, 4, 3, 5, 255, 8, 0, 0, 1})
	f.Add([]byte{0, 39, 0, 39, 0, 39, 0, 39, 5, 1, 9, 0, 0, 1, 5, 255})
	f.Fuzz(func(t *testing.T, ops []byte) { play(t, ops[:min(len(ops), 2000)]) })
}

func TestLinkBytes(t *testing.T) {
	if n := unsafe.Sizeof(link{}); n != LinkBytes {
		t.Errorf("a link takes %d bytes, LinkBytes is %d", n, LinkBytes)
	}
	if n := unsafe.Sizeof(Queue{}); n != 16 {
		t.Errorf("a queue takes %d bytes in each connection, want 16", n)
	}
}

// A slice that is not joined with others is written without a copy.
func TestNextCopiesShortSlicesOnly(t *testing.T) {
	pool := NewPool(limit, 1)
	var q Queue
	long := bytes.Repeat([]byte("x"), 20)
	q.Push(&pool, long)
	q.Push(&pool, []byte("y"))
	if b := q.Next(make([]byte, 20)); &b[0] != &long[0] || len(b) != 20 {
		t.Error("a slice that does not fit with the next one was copied")
	}
	if b := q.Next(make([]byte, 21)); string(b) != string(long)+"y" {
		t.Errorf("got %q, want both", b)
	}
}

// A turn writes its share of supplied bytes, and all that was pushed.
func TestReady(t *testing.T) {
	pool := NewPool(limit, 4)
	var first, second, plain Queue
	from := new(supplier)
	ready := func(q *Queue, stuck, wantNow, wantLater bool) {
		t.Helper()
		if now, later := q.Ready(&pool, stuck); now != wantNow || later != wantLater {
			t.Errorf("got %v, %v, want %v, %v", now, later, wantNow, wantLater)
		}
	}
	ready(&first, false, false, false)
	place, other := first.PushPlace(&pool, from), second.PushPlace(&pool, new(supplier))
	plain.Push(&pool, []byte("x"))
	if ready(&first, true, false, false); from.wanted != 0 {
		t.Error("the bytes for a peer that is stuck are wanted")
	}
	if ready(&first, false, false, false); from.wanted != 1 {
		t.Error("the bytes are not wanted")
	}
	first.Supply(&pool, place, make([]byte, TurnBytes+1), nil)
	second.Supply(&pool, other, []byte("y"), nil)
	ready(&first, true, true, false)
	first.Written(&pool, TurnBytes-1)
	ready(&second, false, true, false)
	first.Written(&pool, 1)
	ready(&first, false, false, true)
	ready(&second, false, false, true)
	ready(&plain, false, true, false)
	pool.EndTurn()
	ready(&first, false, true, false)
	first.Written(&pool, 1)
	if ready(&first, false, false, false); from.dropped != 1 {
		t.Error("the place is there although all was written")
	}
	if second.Written(&pool, 1); pool.supplied != 2 {
		t.Errorf("%d bytes count in the turn, want 2", pool.supplied)
	}
}

func TestPushDoesNotAllocate(t *testing.T) {
	pool := NewPool(limit, 4)
	var q Queue
	b := make([]byte, 10)
	if n := testing.AllocsPerRun(100, func() {
		q.Push(&pool, b)
		q.Push(&pool, b)
		q.Written(&pool, 20)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	for range 9 {
		q.PushAnyway(&pool, b)
	}
	if q.Clear(&pool); pool.spares != 4 {
		t.Errorf("%d links are kept, want 4", pool.spares)
	}
}
