package memberlists

import (
	"slices"
	"testing"

	"reverb/internal/lib/outqueue"
)

// seat is a joiner with a send queue.
type seat struct {
	queue    outqueue.Queue
	pool     *outqueue.Pool
	room     *room
	read     string
	closed   bool
	tooSlow  bool
	moments  []int
	supplied int
}

func (s *seat) Reserve(from outqueue.Supplier) *outqueue.Place {
	if s.closed {
		return nil
	}
	return s.queue.PushPlace(s.pool, from)
}

func (s *seat) Supply(at *outqueue.Place, b, more []byte) {
	s.supplied++
	s.queue.Supply(s.pool, at, b, more)
}

func (s *seat) Channel() Channel[int] { return s.room }
func (s *seat) Open() bool            { return !s.closed }
func (s *seat) TooSlow()              { s.tooSlow = true }

func (s *seat) Form(l *List, at int) (b, more []byte) {
	s.moments = append(s.moments, at)
	return l.Plain(), []byte(".")
}

// take lets the socket take all that is ready, up to n bytes.
func (s *seat) take(n int) {
	for n > 0 {
		place, ok := s.queue.Head(s.pool)
		if !ok {
			return
		}
		if place != nil && place.Waits() {
			place.Ask()
			return
		}
		b := s.queue.Next(nil)
		b = b[:min(n, len(b))]
		s.read, n = s.read+string(b), n-len(b)
		s.queue.Written(s.pool, len(b))
	}
}

func newSeats(t *testing.T, n int) (h *house, c *Counter[int, int], seats []*seat) {
	h = newHouse(t, 1000, 1)
	pool := outqueue.NewPool(1<<20, 10)
	r := &room{owner: "a", text: "members!", moment: 7}
	for range n {
		seats = append(seats, &seat{pool: &pool, room: r})
	}
	return h, Counters[int](h.lists)[0], seats
}

// waits has the keys that wait, in order.
func waits(c *Counter[int, int]) []int { return slices.Sorted(c.All) }

// A joiner gets the list when all before its place is written, and holds it until it has taken it.
func TestCounterGives(t *testing.T) {
	h, c, seats := newSeats(t, 2)
	s := seats[0]
	s.queue.Push(s.pool, []byte("before,"))
	c.Join(1, s)
	c.Join(1, s) // one list answers both
	s.queue.Push(s.pool, []byte("behind"))
	if h.settle(); !slices.Equal(waits(c), []int{1}) || h.lists.Encoded() != 0 {
		t.Errorf("%v wait, %d lists are made", waits(c), h.lists.Encoded())
	}
	s.take(1000)
	if s.read != "before," || !c.Waits(1) {
		t.Errorf("read %q", s.read)
	}
	h.settle()
	if c.Waits(1) || h.lists.Used() != 8 || !slices.Equal(s.moments, []int{7}) {
		t.Errorf("%v wait, %d bytes of lists are held, moments %v", waits(c), h.lists.Used(),
			s.moments)
	}
	if s.take(3); h.lists.Used() != 8 {
		t.Error("a list that is half taken is not held")
	}
	if s.take(1000); s.read != "before,members!.behind" || h.lists.Used() != 0 {
		t.Errorf("read %q, %d bytes are held", s.read, h.lists.Used())
	}
	seats[1].closed = true
	if c.Join(2, seats[1]); len(waits(c)) > 0 {
		t.Error("who is closed waits")
	}
}

// Whoever leaves, or ends, holds nothing and keeps nothing behind its place.
func TestCounterLeaves(t *testing.T) {
	h, c, seats := newSeats(t, 4)
	for i, s := range seats {
		c.Join(i, s)
		s.queue.Push(s.pool, []byte("behind"))
	}
	c.Leave(0) // before it has asked
	for _, s := range seats[:3] {
		s.take(1000)
	}
	c.Leave(1) // it has asked
	seats[2].queue.Clear(seats[2].pool)
	seats[3].queue.Clear(seats[3].pool) // before it has asked
	seats[1].take(1000)
	h.settle()
	if len(waits(c)) > 0 || h.lists.Encoded() != 0 || h.lists.Waiting() != 0 {
		t.Errorf("%v wait, %d lists are made", waits(c), h.lists.Encoded())
	}
	for i, want := range []string{"behind", "behind", "", ""} {
		if seats[i].read != want {
			t.Errorf("%d read %q, want %q", i, seats[i].read, want)
		}
	}
	c.Leave(9) // it never joined
}

// Whoever takes its list slowly is closed while others wait for theirs.
func TestCounterClosesTheSlow(t *testing.T) {
	h, c, seats := newSeats(t, 2)
	seats[0].room = &room{owner: "a", text: string(make([]byte, 900))}
	seats[1].room = &room{owner: "a", text: string(make([]byte, 900))}
	c.Join(0, seats[0])
	seats[0].take(1)
	h.settle()
	seats[0].take(1)
	c.Join(1, seats[1])
	seats[1].take(1)
	h.settle()
	for range 12 {
		h.pass(sweepPeriod)
		h.settle()
	}
	if !seats[0].tooSlow || seats[1].tooSlow {
		t.Errorf("slow: %v, %v", seats[0].tooSlow, seats[1].tooSlow)
	}
	seats[0].closed = true
	seats[0].queue.Clear(seats[0].pool)
	if h.settle(); c.Waits(1) || seats[1].supplied != 1 {
		t.Error("the other has no list then")
	}
}
