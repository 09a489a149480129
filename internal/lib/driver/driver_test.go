package driver

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/settle"
)

// link is a session of a test.
type link struct {
	pushes chan int
	done   chan struct{}
	held   bool
}

func (l *link) Fail(error) {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
}
func (l *link) Done() <-chan struct{}                 { return l.done }
func (l *link) Wait()                                 { <-l.done }
func (l *link) Batches() (replies, pushes <-chan int) { return nil, l.pushes }
func (l *link) Hold()                                 { l.held = true }
func (l *link) Held() bool                            { return l.held }
func (l *link) Release()                              { l.held = false }

// sum is a machine that adds up what comes. It is at rest while the sum is even.
type sum struct {
	d      *Driver[*link, int]
	l      *link
	n      int
	ticks  int
	stands []bool
	full   bool
}

func (m *sum) Link() (l *link, up bool) { return m.l, m.l != nil }
func (m *sum) Holds(time.Time) bool     { return m.full }
func (m *sum) Begin(time.Time)          {}
func (m *sum) Up(l *link)               { m.l = l }
func (m *sum) Replies(int)              {}
func (m *sum) Pushes(n int)             { m.n += n }
func (m *sum) Tick()                    { m.ticks++ }
func (m *sum) End()                     { m.d.Work() }
func (m *sum) AtRest() bool             { return m.n%2 == 0 }
func (m *sum) Stands(yes bool)          { m.stands = append(m.stands, yes) }

// standing is a pause of a machine alone.
type standing struct {
	*settle.Pause
	*Standing
}

func (m *sum) stand() standing {
	p := settle.NewPause("", 0)
	return standing{p, m.d.Stand(p)}
}

// still waits until it stands still.
func (s standing) still() error {
	s.Wait(time.Minute)
	return s.Err()
}

func start() *sum {
	m := new(sum)
	m.d = New[*link, int](m)
	m.d.Start(func(context.Context) (*link, error) {
		return &link{pushes: make(chan int, 9), done: make(chan struct{})}, nil
	}, func(error, bool, time.Time) {}, func(int64) int64 { return 0 })
	synctest.Wait()
	return m
}

// TestTurns lets everything happen once.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start()
		m.l.pushes <- 2
		m.d.Post(func() { m.n *= 10 })
		time.Sleep(3*tickTime + 1)
		synctest.Wait()
		if m.n != 20 && m.n != 2 || m.ticks != 3 || m.d.Waiting() != 0 {
			t.Errorf("the sum is %d, after %d ticks", m.n, m.ticks)
		}
		m.d.Post(func() { m.full, m.n = true, 0 })
		synctest.Wait()
		m.l.pushes <- 3
		time.Sleep(time.Second)
		if m.n != 0 {
			t.Error("it takes what it holds back")
		}
		m.d.Stop()
	})
}

// TestStand stands still when what was under way is over, goes on, and ends.
func TestStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := start()
		m.l.pushes <- 1
		synctest.Wait()
		s := m.stand()
		time.Sleep(100 * time.Millisecond)
		m.l.pushes <- 1
		if err := s.still(); err != nil || m.n != 2 || !m.l.held {
			t.Errorf("it stands still at %d with %v; held: %v", m.n, err, m.l.held)
		}
		m.l.pushes <- 5
		time.Sleep(time.Second)
		if m.n != 2 {
			t.Error("it stands still, and goes on")
		}
		s.End(false)
		synctest.Wait()
		if m.n != 7 || m.l.held {
			t.Errorf("it goes on with %d; held: %v", m.n, m.l.held)
		}
		begun := time.Now()
		s = m.stand()
		if err := s.still(); err == nil || time.Since(begun) > standTime+10*time.Millisecond {
			t.Errorf("it is not at rest, and stands still: %v, after %v", err, time.Since(begun))
		}
		s.End(false)
		m.l.pushes <- 1
		if s = m.stand(); s.still() != nil {
			t.Error(s.still())
		}
		s.End(true)
		m.d.Stop()
		if len(m.stands) != 5 {
			t.Errorf("it was told %v", m.stands)
		}
	})
}

// TestStandWithout does not stand still without a session.
func TestStandWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(sum)
		m.d = New[*link, int](m)
		m.d.Start(func(context.Context) (*link, error) { return nil, errors.New("no") },
			func(error, bool, time.Time) {}, func(int64) int64 { return 0 })
		s := m.stand()
		if s.still() == nil {
			t.Error("there is no session, and it stands still")
		}
		s.End(false)
		m.d.Stop()
	})
}
