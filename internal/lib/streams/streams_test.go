package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// network is a bus between processes with names. Each message arrives in a goroutine of its
// receiver, in order.
type network struct {
	mu    sync.Mutex
	boxes map[string]*box
	lose  func(text string) bool // nil: nothing is lost
}

// box has the messages for a process.
type box struct {
	of     *Streams
	mu     sync.Mutex
	mail   []func()
	frozen bool
	busy   bool
}

// end is the bus as one process sees it.
type end struct {
	n    *network
	name string
}

func (e end) Tell(to, text string, done func(bool, error)) {
	e.n.mu.Lock()
	b, lose := e.n.boxes[to], e.n.lose
	from := e.n.boxes[e.name]
	e.n.mu.Unlock()
	if b != nil && (lose == nil || !lose(text)) {
		b.put(func() { b.of.Told(e.name, text) })
	}
	from.put(func() { done(b != nil, nil) })
}

// put leaves something in a box, and has it done unless the process is frozen.
func (b *box) put(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mail = append(b.mail, f)
	if !b.busy && !b.frozen {
		b.busy = true
		go b.work()
	}
}

func (b *box) work() {
	for {
		b.mu.Lock()
		if len(b.mail) == 0 || b.frozen {
			b.busy = false
			b.mu.Unlock()
			return
		}
		f := b.mail[0]
		b.mail = b.mail[1:]
		b.mu.Unlock()
		f()
	}
}

func (b *box) freeze(on bool) {
	b.mu.Lock()
	b.frozen = on
	b.mu.Unlock()
	b.put(func() {})
}

// join adds a process that answers with a.
func (n *network) join(name string, a Answer) *Streams {
	s := New(end{n, name}, name+"'s name", a)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.boxes == nil {
		n.boxes = map[string]*box{}
	}
	n.boxes[name] = &box{of: s}
	return s
}

// open are the streams that a process has open, in both directions.
func (s *Streams) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked) + len(s.answering)
}

func echo(_ context.Context, from, question string, w io.Writer) error {
	_, err := io.WriteString(w, from+" asks "+question)
	return err
}

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		long := strings.Repeat("x", 10*window*maxPart+1)
		a := n.join("a", nil)
		b := n.join("b", func(ctx context.Context, from, question string, w io.Writer) error {
			if question == "long" {
				_, err := io.WriteString(w, long)
				return err
			}
			if question == "bad" {
				io.WriteString(w, "half")
				return errors.New("this went wrong")
			}
			return echo(ctx, from, question, w)
		})
		for question, want := range map[string]string{"why": "a asks why", "long": long,
			"bad": "half"} {
			st := a.Ask("b", question)
			text, err := io.ReadAll(st)
			if string(text) != want || st.Name() != "b's name" ||
				(err != nil) != (question == "bad") ||
				err != nil && err.Error() != "this went wrong" {
				t.Errorf("%s: got %.60q of %q, %v", question, text, st.Name(), err)
			}
			st.Close()
		}
		synctest.Wait()
		if a.open()+b.open() != 0 {
			t.Errorf("%d and %d streams are left", a.open(), b.open())
		}
	})
}

// TestNobodyAnswers has processes that are not there, are frozen, or do not understand.
func TestNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		a, acted := n.join("a", nil), false
		b := n.join("b", func(context.Context, string, string, io.Writer) error {
			acted = true
			return nil
		})
		began := time.Now()
		if _, err := io.ReadAll(a.Ask("nobody", "")); err != ErrNobody || time.Since(began) > 0 {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		n.boxes["b"].freeze(true)
		if _, err := io.ReadAll(a.Ask("b", "")); err != ErrSilent ||
			time.Since(began) != silence {
			t.Errorf("frozen: got %v after %v", err, time.Since(began))
		}
		// What it thaws for is over.
		n.boxes["b"].freeze(false)
		time.Sleep(2 * lease)
		if acted || b.open()+a.open() != 0 {
			t.Errorf("it has acted late: %v; %d and %d streams", acted, a.open(), b.open())
		}
	})
}

// TestStalls has a reader that does not read, an asker that dies, and one that wants no more.
func TestStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		sent, gone := 0, make(chan error, 1)
		a := n.join("a", nil)
		b := n.join("b", func(ctx context.Context, _, _ string, w io.Writer) error {
			for sent = 0; ; sent++ {
				if _, err := w.Write(make([]byte, maxPart)); err != nil {
					gone <- err
					return err
				}
			}
		})
		st := a.Ask("b", "")
		time.Sleep(time.Hour)
		if sent != window || len(gone) > 0 {
			t.Errorf("%d parts were sent to a reader that stalls, want %d", sent, window)
		}
		part := make([]byte, maxPart)
		for range 10 {
			if _, err := io.ReadFull(st, part); err != nil {
				t.Fatal(err)
			}
		}
		st.Close()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if _, err := io.ReadAll(st); err != io.ErrClosedPipe {
			t.Errorf("a closed stream: got %v", err)
		}
		a.Ask("b", "")
		synctest.Wait()
		began := time.Now()
		n.mu.Lock()
		n.lose = func(text string) bool { return strings.HasPrefix(text, "go ") }
		n.mu.Unlock()
		<-gone
		if d := time.Since(began); d > lease || d < lease-goInterval {
			t.Errorf("the answerer goes on for %v after the asker's last sign", d)
		}
		synctest.Wait()
		if b.open() != 0 {
			t.Error("an answer is left")
		}
		time.Sleep(silence)
	})
}

// TestDeath has the answerer fall silent in the middle, and messages get lost.
func TestDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		a := n.join("a", nil)
		n.join("b", func(ctx context.Context, _, _ string, w io.Writer) error {
			io.WriteString(w, "one")
			io.WriteString(w, "two")
			time.Sleep(time.Hour) // and beats
			return ctx.Err()
		})
		st := a.Ask("b", "")
		two := make([]byte, 6)
		if _, err := io.ReadFull(st, two); err != nil || string(two) != "onetwo" {
			t.Fatalf("got %q, %v", two, err)
		}
		time.Sleep(30 * time.Minute)
		began := time.Now()
		n.boxes["b"].freeze(true)
		n.mu.Lock()
		n.lose = func(text string) bool { return strings.HasPrefix(text, "beat ") }
		n.mu.Unlock()
		if _, err := st.Read(two); err != ErrSilent || time.Since(began) > silence {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		n.boxes["b"].freeze(false)
		time.Sleep(time.Hour) // the answer ends, though it does not look at its context
		for lost, want := range map[string]error{"part": ErrLost, "here": ErrSilent,
			"last": ErrSilent} {
			n := &network{lose: func(text string) bool { return strings.HasPrefix(text, lost) }}
			a := n.join("a", nil)
			n.join("b", func(ctx context.Context, _, q string, w io.Writer) error {
				return echo(ctx, "", q, w)
			})
			if _, err := io.ReadAll(a.Ask("b", "q")); err != want {
				t.Errorf("%s is lost: got %v, want %v", lost, err, want)
			}
			time.Sleep(2 * lease)
		}
	})
}

// TestManyAnswers refuses what is too much.
func TestManyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		a := n.join("a", nil)
		b := n.join("b", func(ctx context.Context, _, _ string, _ io.Writer) error {
			<-ctx.Done()
			return nil
		})
		var all []*Stream
		for range maxAnswers {
			all = append(all, a.Ask("b", ""))
		}
		synctest.Wait()
		if _, err := io.ReadAll(a.Ask("b", "")); err == nil ||
			!strings.Contains(err.Error(), "too many") {
			t.Errorf("got %v", err)
		}
		if b.open() != maxAnswers {
			t.Errorf("%d answers, want %d", b.open(), maxAnswers)
		}
		for _, st := range all {
			st.Close()
		}
	})
}

// TestStrangers has messages that nobody has waited for.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		a := n.join("a", nil)
		n.join("b", nil)
		n.boxes["b"].freeze(true)
		st := a.Ask("b", "")
		for _, m := range []message{{"here", st.token, 0, "c"}, {"part", st.token, 1, "x"}} {
			a.Told("c", m.text())
		}
		a.Told("b", message{"part", strings.Repeat("A", tokenLength), 1, "x"}.text())
		a.Told("b", message{"go", st.token, 1 << 30, ""}.text())
		a.Told("b", "nonsense")
		if st.Name() != "" || len(st.parts) > 0 {
			t.Errorf("a stranger's message counts: %q, %d parts", st.Name(), len(st.parts))
		}
		for _, bad := range []message{{"part", st.token, 2, "x"}, {"part", st.token, 1,
			strings.Repeat("x", maxPart+1)}} {
			st := a.Ask("b", "")
			bad.token = st.token
			a.Told("b", bad.text())
			if _, err := io.ReadAll(st); err != ErrLost {
				t.Errorf("part %d of %d bytes: got %v", bad.number, len(bad.body), err)
			}
		}
		st = a.Ask("b", "")
		for i := range window + 1 {
			a.Told("b", message{"part", st.token, i + 1, "x"}.text())
		}
		if text, err := io.ReadAll(st); err != ErrLost || len(text) != window {
			t.Errorf("more than was asked for: got %q, %v", text, err)
		}
		time.Sleep(silence)
	})
}

func TestMessages(t *testing.T) {
	token := strings.Repeat("A", tokenLength)
	for text, want := range map[string]bool{
		"part " + token + " 7\nbytes\nand more": true, "go " + token + " 0\n": true,
		"go " + token + " 0": false, "go " + token + " 00\n": false, "go " + token + " -1\n": false,
		"go " + token + " 4294967296\n": false, "go A 0\n": false, "stop " + token + " 0\n": false,
		"go  " + token + " 0\n": false, "": false,
		"part " + token + " 1\n" + strings.Repeat("x", maxMessage): false,
	} {
		m, ok := parse(text)
		if ok != want || ok && m.text() != text {
			t.Errorf("%.60q: got %+v, %v", text, m, ok)
		}
	}
}

// FuzzMessage holds that a message that is read is written as it was, and that no message hurts
// streams that are open.
func FuzzMessage(f *testing.F) {
	token := strings.Repeat("A", tokenLength)
	for _, verb := range verbs() {
		f.Add(verb+" "+token+" 1\nbody", "b")
	}
	f.Fuzz(func(t *testing.T, text, from string) {
		if m, ok := parse(text); ok {
			if again, ok := parse(m.text()); !ok || !reflect.DeepEqual(again, m) ||
				m.text() != text {
				t.Fatalf("got %+v, want %+v", again, m)
			}
		}
		n := new(network)
		a := n.join("a", echo)
		n.join("b", echo)
		a.Ask("b", fmt.Sprint(len(text)))
		a.mu.Lock()
		for old, st := range a.asked { // with the token of the messages above
			delete(a.asked, old)
			st.token = token
			a.asked[token] = st
		}
		a.mu.Unlock()
		a.Told(from, text)
		a.Told(from, text)
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, st := range a.asked {
			st.endLocked(io.EOF)
		}
		for _, one := range a.answering {
			one.end()
		}
	})
}
