package places

import (
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// conn is a connection that frees its place when it is closed.
type conn struct {
	Guest
	places *Places
	name   int
	once   sync.Once
	ended  func(name int)
}

func (c *conn) Close() error {
	c.once.Do(func() {
		c.places.Add(-1)
		c.ended(c.name)
	})
	return nil
}

func ignore(io.Closer) {}

// At the limit the connection that has been without a request for the longest goes, and
// none that is being served.
func TestTheLongestSilentMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ended := New(5), []int(nil)
		var all []*conn
		come := func() {
			t.Helper()
			if !p.Take(nil, ignore) {
				t.Fatal("no place was taken")
			}
			c := &conn{places: p, name: len(all),
				ended: func(name int) { ended = append(ended, name) }}
			all = append(all, c)
			p.Wait(&c.Guest, c)
		}
		for range 5 {
			come()
		}
		p.Serve(&all[0].Guest)
		p.Serve(&all[2].Guest)
		p.Wait(&all[2].Guest, all[2]) // idle again: the youngest
		if n := p.Busy(); n != 1 {
			t.Errorf("%d places cannot be freed, want 1", n)
		}
		for range 4 {
			come()
		}
		if want := []int{1, 3, 4, 2}; !slices.Equal(ended, want) {
			t.Errorf("got %v closed, want %v", ended, want)
		}
		if p.Serve(&all[1].Guest) {
			t.Error("a connection that was closed to make room is served")
		}
		if p.Wait(&all[1].Guest, all[1]); p.Busy() != 1 || p.Load() != 5 || p.Closed() != 4 {
			t.Errorf("got %d busy of %d, %d closed", p.Busy(), p.Load(), p.Closed())
		}
	})
}

// A guest has a while for its request before it is closed, and is not closed if it comes.
func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, began := New(1), time.Now()
		c := &conn{places: p, ended: func(int) {}}
		p.Take(nil, ignore)
		p.Wait(&c.Guest, c)
		took := make(chan bool, 1)
		go func() {
			took <- p.Take(nil, func(guest io.Closer) {
				if guest == nil {
					t.Log("waits for good")
				}
			})
		}()
		time.Sleep(grace - 1)
		if synctest.Wait(); len(took) > 0 {
			t.Fatal("the guest was closed before its time")
		}
		p.Serve(&c.Guest)
		time.Sleep(time.Minute)
		if synctest.Wait(); len(took) > 0 {
			t.Fatal("the guest was closed while it was served")
		}
		p.Wait(&c.Guest, c)
		<-took
		if d := time.Since(began); d != time.Minute+2*grace-1 || p.Closed() != 1 {
			t.Errorf("%d closed after %v", p.Closed(), d)
		}
	})
}

// Where nobody can make room a newcomer waits until a place is free, a connection is
// without a request, or the listener is closed.
func TestWaitingForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, told := New(1), 0
		c := &conn{places: p, ended: func(int) {}}
		took := make(chan bool, 4)
		take := func(stop <-chan struct{}) {
			go func() {
				took <- p.Take(stop, func(guest io.Closer) {
					if guest == nil {
						told++
					}
				})
			}()
			synctest.Wait()
		}
		take(nil)
		if !<-took {
			t.Fatal("the first got no place")
		}
		take(nil)
		if len(took) > 0 || told != 1 {
			t.Fatalf("a place beyond the limit was taken, told %d times", told)
		}
		p.Wait(&c.Guest, c)
		if !<-took || p.Closed() != 1 {
			t.Errorf("the idle connection made no room: %d closed", p.Closed())
		}
		take(nil)
		take(nil)
		p.Add(-1)
		if <-took; len(took) > 0 {
			t.Error("one place was taken twice")
		}
		p.Add(-1)
		<-took
		stop := make(chan struct{})
		take(stop)
		close(stop)
		if <-took {
			t.Error("a place was taken after the end")
		}
		if p.Load() != 1 {
			t.Errorf("%d places are taken, want 1", p.Load())
		}
	})
}

// Many calls at once: the limit holds, the list stays whole, and no call waits for ever.
func TestPlacesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(8)
		var all sync.WaitGroup
		for seed := range uint64(8) {
			all.Go(func() {
				r := rand.New(rand.NewPCG(seed, 1))
				for range 2000 {
					p.Take(nil, ignore)
					if n := p.Load(); n > 8 {
						t.Errorf("%d places are taken", n)
					}
					c := &conn{places: p, ended: func(int) {}}
					p.Wait(&c.Guest, c)
					if r.IntN(2) == 0 && p.Serve(&c.Guest) && r.IntN(2) == 0 {
						p.Wait(&c.Guest, c)
					}
					if r.IntN(4) > 0 {
						p.Serve(&c.Guest)
						c.Close()
						continue
					}
					p.Wait(&c.Guest, c)
				}
			})
		}
		all.Wait()
		n := 0
		for g := p.first; g != nil; g = g.next {
			n++
		}
		if int64(n) != p.Load() || p.Busy() != 0 {
			t.Errorf("%d on the list, %d places taken, %d busy", n, p.Load(), p.Busy())
		}
	})
}
