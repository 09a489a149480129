package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"reverb/internal/lib/outqueue"
)

// taker is a connection with a queue, and a loop that runs what was posted.
type taker struct {
	pool  outqueue.Pool
	q     outqueue.Queue
	tasks []func()
	got   strings.Builder
	slow  bool
}

func (c *taker) Post(task func())      { c.tasks = append(c.tasks, task) }
func (c *taker) Frame(e *event) []byte { return fmt.Appendf(nil, "%d%s;", e.name, pad(e)) }
func (c *taker) Push(b []byte)         { c.q.Push(&c.pool, b) }
func (c *taker) Reserve(from outqueue.Supplier) *outqueue.Place {
	return c.q.PushPlace(&c.pool, from)
}
func (c *taker) Behind(at *outqueue.Place, from outqueue.Supplier) *outqueue.Place {
	return c.q.PlaceBehind(&c.pool, at, from)
}
func (c *taker) Supply(at *outqueue.Place, b []byte) { c.q.SupplyCounted(&c.pool, at, b) }
func (c *taker) TooSlow()                            { c.slow = true }

func pad(e *event) string { return strings.Repeat(".", e.size) }

// write lets the socket take up to n bytes.
func (c *taker) write(n int) {
	for n > 0 {
		place, ok := c.q.Head(&c.pool)
		if !ok {
			return
		}
		if place != nil && place.Waits() {
			place.Ask()
			return
		}
		b := c.q.Next(nil)
		b = b[:min(len(b), n)]
		c.got.Write(b)
		n -= len(b)
		c.q.Written(&c.pool, len(b))
	}
}

func (c *taker) run() {
	for len(c.tasks) > 0 {
		task := c.tasks[0]
		c.tasks = c.tasks[1:]
		task()
	}
}

// A replay comes whole and in order, before what is sent after it, and holds no more than is ahead,
// however the socket takes it; what a closed connection leaves is given back.
func TestFlow(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		r := New[*event](Limits{Events: 1000, Bytes: 1 << 30})
		a := newTestApp(r, "a")
		first := &event{}
		a.Append("x", first, true, start)
		var want []string
		for i := range random.IntN(60) {
			e := &event{name: i, size: random.IntN(1 + 40<<(seed%9))}
			a.Append("x", e, true, start)
			want = append(want, fmt.Sprint(i, pad(e), ";"))
		}
		w := &Wish[*event]{asked: asked{Epoch: epochOf(r, a, "x"), Offset: first.at}, app: a,
			channel: "x"}
		w.Moment(start)
		answer, replay := a.resume("x", &w.asked, start)
		if !answer.Recovered {
			t.Fatal("not recovered")
		}
		c := &taker{pool: outqueue.NewPool(1<<30, 10)}
		c.Push([]byte("answer;"))
		var behind *outqueue.Place
		if seed%3 == 0 {
			behind = c.Reserve(&flow[*event]{to: c, replay: &missed[*event]{app: a}})
			c.Push([]byte("live;"))
		}
		if replay != nil {
			Flow(c, replay, behind)
		}
		if behind == nil {
			c.Push([]byte("live;"))
		} else {
			c.Supply(behind, []byte("list;"))
			want = slices.Insert(want, 0, "list;")
		}
		want = append(slices.Insert(want, 0, "answer;"), "live;")
		closed := random.IntN(4) == 0
		for steps := random.IntN(20); ; steps-- {
			if closed && steps == 0 {
				c.q.Shut(&c.pool)
				c.run()
				break
			}
			c.write(1 + random.IntN(100_000))
			if random.IntN(2) == 0 {
				c.run()
			}
			if c.q.Empty() && len(c.tasks) == 0 {
				break
			}
			made := 0
			c.q.Pieces(func(v outqueue.Piece) bool { made += len(v.Bytes); return true })
			if most := ahead + 40<<(seed%9) + 100; made > most && steps < 100 {
				t.Fatalf("seed %d: %d bytes are ready, of %d at most", seed, made, most)
			}
		}
		if all := strings.Join(want, ""); !strings.HasPrefix(all, c.got.String()) ||
			!closed && c.got.Len() != len(all) {
			t.Fatalf("seed %d: got %.300q, want %.300q", seed, c.got.String(), all)
		}
		if r.pinned != 0 {
			t.Fatalf("seed %d: %d bytes stay pinned", seed, r.pinned)
		}
	}
}

// Frames of another process come whole and in order, and no more than is ahead is ready; what is
// left for a third process is what has not come.
func TestResend(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 4))
		c := &taker{pool: outqueue.NewPool(1000, 10)}
		c.Push([]byte(strings.Repeat("a", 2000))) // more than the limit
		var frames [][]byte
		all := strings.Repeat("a", 2000)
		for i := range 1 + random.IntN(50) {
			frame := fmt.Sprintf("%d%s;", i, strings.Repeat(".", random.IntN(1+40<<(seed%12))))
			frames, all = append(frames, []byte(frame)), all+frame
		}
		v := Resend(c, frames)
		v.At = c.q.Restore(&c.pool, outqueue.Piece{From: v})
		cut := random.IntN(4)
		for steps := 0; !c.q.Empty() || len(c.tasks) > 0; steps++ {
			if cut == 0 && steps == 5 {
				left := c.got.String()
				c.q.Pieces(func(v outqueue.Piece) bool {
					if left += string(v.Bytes); v.From != nil {
						for _, b := range v.From.(*Resent).Left() {
							left += string(b)
						}
					}
					return true
				})
				if left != all {
					t.Fatalf("seed %d: %d bytes go on, of %d", seed, len(left), len(all))
				}
			}
			if cut == 1 && steps == 5 {
				c.q.Shut(&c.pool)
				c.run()
				break
			}
			c.write(1 + random.IntN(100_000))
			if random.IntN(2) == 0 {
				c.run()
			}
			if most := ahead + 40<<(seed%12) + 2100 + 2*outqueue.PlaceBytes; c.q.Bytes() > most {
				t.Fatalf("seed %d: a replay counts %d bytes", seed, c.q.Bytes())
			}
		}
		if got := c.got.String(); !strings.HasPrefix(all, got) || cut != 1 && got != all {
			t.Fatalf("seed %d: got %d bytes, want %d", seed, len(got), len(all))
		}
	}
}
