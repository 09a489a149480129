// Package settle brings several goroutines that give each other work to a common rest.
package settle

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Pause is one moment in which several goroutines stand still.
type Pause struct {
	mu      sync.Mutex
	changed *sync.Cond
	all     []guest
	here    int  // goroutines that wait for the end of the round
	busy    bool // one of them has found work in the round
	again   bool // so there is another one
	round   int
	still   int  // goroutines that stand still
	off     bool // Wait has given up
	over    bool // End was called, and leave is its verdict
	leave   bool
}

// guest is one of the goroutines.
type guest struct {
	name string
	here int // the round in which it came last; from 1 on
}

// NewPause makes the pause of so many goroutines, called name and a number if they do not come.
// Their seats, for Stand, are from 0 on.
func NewPause(name string, size int) *Pause {
	p := &Pause{round: 1}
	p.changed = sync.NewCond(&p.mu)
	for i := range size {
		p.Add(fmt.Sprint(name, " ", i+1))
	}
	return p
}

// Add makes one more goroutine take part, before the first one stands still.
func (p *Pause) Add(name string) (seat int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, guest{name: name})
	return len(p.all) - 1
}

// Stand is called by each of the goroutines. It calls work, waits for the others, and begins again
// until no work has found anything to do in a whole round. What work gives to another goroutine
// must be found by the work of that one in the next round, at the latest. Then Stand calls ready,
// and stands still until End, whose verdict it returns. stood is false if Wait has given up: the
// goroutine goes on, and ready was not called.
func (p *Pause) Stand(seat int, work func() (found bool), ready func()) (leave, stood bool) {
	if !p.settle(seat, work) {
		return false, false
	}
	ready()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.still++
	p.changed.Broadcast()
	for !p.over {
		p.changed.Wait()
	}
	return p.leave, true
}

// settle is the part of Stand until all rest.
func (p *Pause) settle(seat int, work func() (found bool)) (ok bool) {
	for {
		if p.isOff() {
			return false
		}
		found := work()
		p.mu.Lock()
		p.busy = p.busy || found
		p.here++
		round := p.round
		if p.all[seat].here = round; p.here == len(p.all) {
			p.again, p.busy, p.here = p.busy, false, 0
			p.round++
			p.changed.Broadcast()
		}
		for p.round == round && !p.off {
			p.changed.Wait()
		}
		off, again := p.off, p.again
		p.mu.Unlock()
		if off || !again {
			return !off
		}
	}
}

func (p *Pause) isOff() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.off
}

// Wait waits until all stand still. What they own is the caller's then, until End. If they do not
// within limit, they go on, and whoever comes yet does not stop. The error, a sentence for the
// operator, says who has not come.
func (p *Pause) Wait(limit time.Duration) error {
	late := false
	timer := time.AfterFunc(limit, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		late = true
		p.changed.Broadcast()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	settled := false
	for p.still < len(p.all) {
		// once all rest, each does no more than ready: nobody turns back
		if settled = settled || p.round > 1 && !p.again; late && !settled {
			p.off = true
			p.changed.Broadcast()
			return p.missing(limit)
		}
		p.changed.Wait()
	}
	return nil
}

// missing says who has not come.
func (p *Pause) missing(limit time.Duration) error {
	var names []string
	for _, g := range p.all {
		if g.here < p.round {
			names = append(names, g.name)
		}
	}
	who := strings.Join(names, ", ")
	if who == "" {
		who = "all give each other work"
	}
	return fmt.Errorf("the server does not come to rest within %v, because of: %s; try again when "+
		"it is less busy, or use reverb restart", limit, who)
}

// End ends the pause.
func (p *Pause) End(leave bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over, p.leave = true, leave
	p.changed.Broadcast()
}
