package resplink

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"reverb/internal/lib/resp"
)

// A burst to Redis leaves no large buffer, although two buffers take turns.
func TestBuffer(t *testing.T) {
	var writing, waiting Buffer
	waiting.B = make([]byte, 32<<20)
	for range 3 * keptUses {
		writing, waiting = waiting, writing
		waiting.B = append(waiting.B, "PING"...)
		writing.Done()
	}
	if n := cap(writing.B) + cap(waiting.B); n > 2*keptBuffer {
		t.Errorf("%d bytes are kept", n)
	}
}

// reading is a link that is read in a goroutine of its own.
type reading struct {
	*Link
	got    chan int64
	failed chan struct{}
	end    chan error
}

func read(nc net.Conn, rest []byte) *reading {
	v := &reading{New(nc, rest), make(chan int64, 8), make(chan struct{}), make(chan error, 1)}
	go func() {
		v.end <- v.Read(v.failed, func(replies []resp.Reply) bool {
			for _, r := range replies {
				v.got <- r.N
			}
			return true
		})
	}()
	return v
}

// stands makes it stand still, and returns what came meanwhile.
func (v *reading) stands() (got []int64) {
	for v.Hold(); !v.Held() || len(v.got) > 0; {
		select {
		case n := <-v.got:
			got = append(got, n)
		default:
			runtime.Gosched()
		}
	}
	return got
}

// TestHold passes a connection from one link to the next, while numbers come in pieces of any
// size: each number comes once, and in order.
func TestHold(t *testing.T) {
	const numbers = 5000
	here, there := net.Pipe()
	defer here.Close()
	var all []byte
	for i := range numbers {
		all = append(all, ":"+strconv.Itoa(i)+"\r\n"...)
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		rng := rand.New(rand.NewPCG(1, 1))
		for len(all) > 0 {
			n := min(1+rng.IntN(40), len(all))
			there.Write(all[:n])
			all = all[n:]
		}
	})
	rng, next, hands := rand.New(rand.NewPCG(1, 2)), int64(0), 0
	for v := read(here, nil); next < numbers; {
		came := []int64{<-v.got}
		came = append(came, v.stands()...)
		for _, n := range came {
			if n != next {
				t.Fatalf("got %d, want %d", n, next)
			}
			next++
		}
		if rng.IntN(3) == 0 {
			v.Release()
			v.Release()
			continue
		}
		rest := v.Rest()
		close(v.failed)
		if err := <-v.end; err != nil {
			t.Fatal(err)
		}
		hands++
		v = read(here, rest)
	}
	if hands < 50 {
		t.Errorf("%d times from one to the next", hands)
	}
	writing.Wait()
}

// TestHoldInside holds a link that has begun with a reply: it stands still when that has come.
func TestHoldInside(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	v := read(here, []byte(":"))
	there.Write([]byte("2"))
	v.Hold()
	if v.Held() {
		t.Error("it stands still inside of a reply")
	}
	there.Write([]byte("\r\n:3\r\n"))
	if got := v.stands(); !slices.Equal(got, []int64{2}) {
		t.Errorf("got %d, want 2", got)
	}
	if rest := v.Rest(); !bytes.Equal(rest, []byte(":3\r\n")) {
		t.Errorf("the rest is %q", rest)
	}
	v.Release()
	if n := <-v.got; n != 3 {
		t.Errorf("got %d, want 3", n)
	}
	there.Close()
	if err := <-v.end; !errors.Is(err, io.EOF) {
		t.Errorf("got the error %v, want the end", err)
	}
}

// TestWrite sends what is queued, and fails on a peer that does not read.
func TestWrite(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	l, end := New(here, nil), make(chan error, 1)
	if n := l.Send([]byte("PING")); n != 4 {
		t.Errorf("%d bytes wait, want 4", n)
	}
	go func() { end <- l.Write(nil, 50*time.Millisecond) }()
	b := make([]byte, 4)
	if io.ReadFull(there, b); string(b) != "PING" {
		t.Errorf("got %q", b)
	}
	l.Send([]byte("PONG"))
	if err := <-end; err == nil {
		t.Error("nobody reads, and nothing is said")
	}
	l.Close()
}
