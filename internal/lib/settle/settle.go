// Package settle brings several goroutines that give each other work to a common rest.
package settle

import "sync"

// Meeting is a meeting of a fixed number of goroutines.
type Meeting struct {
	size int

	mu    sync.Mutex
	next  *sync.Cond
	here  int  // goroutines that wait for the end of the round
	busy  bool // one of them has found work in the round
	again bool // so there is another one
	round uint64
}

// New makes a meeting of so many goroutines.
func New(size int) *Meeting {
	m := &Meeting{size: size}
	m.next = sync.NewCond(&m.mu)
	return m
}

// Settle is called by each of the goroutines. It calls work, waits for the others, and begins again
// until no work has found anything to do in a whole round. What work gives to another goroutine
// must be found by the work of that one in the next round, at the latest.
func (m *Meeting) Settle(work func() (found bool)) {
	for {
		found := work()
		m.mu.Lock()
		m.busy = m.busy || found
		m.here++
		if round := m.round; m.here == m.size {
			m.again, m.busy, m.here = m.busy, false, 0
			m.round++
			m.next.Broadcast()
		} else {
			for m.round == round {
				m.next.Wait()
			}
		}
		again := m.again
		m.mu.Unlock()
		if !again {
			return
		}
	}
}

// Pause is one moment in which several goroutines stand still.
type Pause struct {
	meeting *Meeting
	still   sync.WaitGroup // those that do not stand still yet
	verdict chan struct{}  // closed when leave is known
	leave   bool
}

// NewPause makes the pause of so many goroutines.
func NewPause(size int) *Pause {
	p := &Pause{meeting: New(size), verdict: make(chan struct{})}
	p.still.Add(size)
	return p
}

// Add makes one more goroutine take part, before the first one stands still.
func (p *Pause) Add() {
	p.meeting.size++
	p.still.Add(1)
}

// Stand is called by each of the goroutines. It settles them, see Meeting, calls ready, and stands
// still until End, whose verdict it returns.
func (p *Pause) Stand(work func() (found bool), ready func()) (leave bool) {
	p.meeting.Settle(work)
	ready()
	p.still.Done()
	<-p.verdict
	return p.leave
}

// Wait waits until all stand still. What they own is the caller's then, until End.
func (p *Pause) Wait() { p.still.Wait() }

// End ends the pause.
func (p *Pause) End(leave bool) {
	p.leave = leave
	close(p.verdict)
}
