package cluster

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/envelopes"
	"reverb/internal/lib/resp"
)

// drivenLink is a fakeLink with the channels that a node's goroutine listens to.
type drivenLink struct {
	fakeLink
	replies, pushes chan Batch
	once            sync.Once
	done            chan struct{} // closed when why is there
	answered        int           // of the commands
}

func newDrivenLink() *drivenLink {
	return &drivenLink{replies: make(chan Batch), pushes: make(chan Batch), done: make(chan struct{})}
}

func (l *drivenLink) Batches() (replies, pushes <-chan Batch) { return l.replies, l.pushes }
func (l *drivenLink) Done() <-chan struct{}                   { return l.done }
func (l *drivenLink) Fail(why error) {
	l.once.Do(func() {
		l.why = why
		close(l.done)
	})
}
func (l *drivenLink) Err() error {
	select {
	case <-l.done:
		return l.why
	default:
		return nil
	}
}

// dials are what a node's attempts to reach Redis come to, one after the other: links, or nil.
type dials struct {
	links []*drivenLink
	at    []time.Time // of the attempts
}

func (d *dials) Dial(ctx context.Context, scripts []string) (Link, error) {
	d.at = append(d.at, time.Now())
	if len(d.at) > len(d.links) || d.links[len(d.at)-1] == nil {
		return nil, io.EOF
	}
	return d.links[len(d.at)-1], nil
}

// lazyReplica is a scribe that takes no more for a while.
type lazyReplica struct {
	scribe
	overloaded atomic.Bool
}

func (r *lazyReplica) Overloaded() bool { return r.overloaded.Load() }

// play answers what is said on a link until nothing more is: with a lease.
func (l *drivenLink) play() {
	for synctest.Wait(); l.answered < len(l.commands); synctest.Wait() {
		batch := Batch{Replies: slices.Repeat([]resp.Reply{lease}, len(l.commands)-l.answered)}
		l.answered = len(l.commands)
		l.replies <- batch
	}
}

// TestNodeDrives is the life of a node's goroutines: Redis is away at first, comes, is too fast
// for the replica, goes, and the node leaves.
func TestNodeDrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := new(lazyReplica), &dials{links: []*drivenLink{nil, newDrivenLink(), newDrivenLink()}}
		n := New(Options{Prefix: "p", Patience: time.Minute}, d, r, slog.New(slog.DiscardHandler))
		let := false
		n.Join("a:x", "", "", false, func() { let = true })
		n.Start()
		if synctest.Wait(); !let {
			t.Fatal("nobody is let in when the first attempt has failed")
		}
		time.Sleep(backoffLow)
		l := d.links[1]
		if l.play(); !n.Counters.Up.Load() {
			t.Fatal("the node is not up")
		}
		l.pushes <- Batch{Replies: []resp.Reply{pushed("subscribe", "p:a:x", "1")}}
		if l.play(); !strings.Contains(strings.Join(l.commands[len(l.commands)-1], " "), n.scripts.Sync.SHA) {
			t.Errorf("said %q at last, want a sync", l.commands[len(l.commands)-1])
		}
		r.overloaded.Store(true)
		time.Sleep(time.Second) // for the goroutine to look
		event := envelopes.Envelope{Kind: envelopes.Event, Node: 1, Number: 1, Payload: "e"}
		pushes := Batch{Replies: []resp.Reply{pushed("message", "p:a:x", event.Encode())}}
		took := make(chan time.Time)
		go func() {
			l.pushes <- pushes
			took <- time.Now()
		}()
		time.Sleep(time.Second)
		r.overloaded.Store(false)
		free := time.Now()
		if late := (<-took).Sub(free); late > 2*time.Millisecond {
			t.Errorf("what was held back is taken %v after there is room", late)
		}
		synctest.Wait()
		if want := "deliver a:x e 0 false"; !slices.Contains(r.told, want) {
			t.Errorf("told %q, want %q", r.told, want)
		}
		l.Fail(errors.New("over"))
		if synctest.Wait(); n.Counters.Up.Load() {
			t.Error("the node does not notice that Redis has gone")
		}
		time.Sleep(backoffHigh)
		l = d.links[2]
		l.play()
		left := make(chan time.Duration)
		begun := time.Now()
		go func() {
			n.Close()
			left <- time.Since(begun)
		}()
		l.play()
		if took := <-left; took > 0 || l.Err() == nil {
			t.Errorf("closed after %v; the session ends with %v", took, l.Err())
		}
	})
}

// TestNodeBacksOff tries to reach a Redis that is away, with pauses that double up to a limit,
// and ends at once when it is told to.
func TestNodeBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(dials)
		n := New(Options{Prefix: "p", Patience: time.Minute}, d, new(scribe), slog.New(slog.DiscardHandler))
		n.Start()
		time.Sleep(5 * time.Second)
		begun := time.Now()
		if n.Close(); time.Since(begun) > 0 {
			t.Errorf("closed after %v", time.Since(begun))
		}
		most := 50 * time.Millisecond
		for i := range len(d.at) - 1 {
			if pause := d.at[i+1].Sub(d.at[i]); pause < most/2 || pause >= most {
				t.Errorf("pause %d: %v, want %v to %v", i, pause, most/2, most)
			}
			most = min(2*most, 500*time.Millisecond)
		}
		if len(d.at) < 12 {
			t.Errorf("%d attempts in five seconds", len(d.at))
		}
	})
}
