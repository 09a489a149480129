// Package inbox is how goroutines give work to the one that owns an event loop: they put it
// in, in order, and the owner takes all that is there, once a turn. It wakes nobody itself
// and has no bound: what may wait is for those who put it in.
package inbox

import "sync"

// keepRoom is the largest room that is kept for what comes next, in items: after a burst the
// rest goes, since most turns have a handful.
const keepRoom = 4096

// Inbox holds what was put in and not taken. The zero Inbox is empty.
type Inbox[T any] struct {
	// guarded by mu
	mu      sync.Mutex
	waiting []T
	ended   bool

	taken []T // owned by the owner
}

// Put puts x behind what waits. Anybody may call it. first says that nothing waited: the
// owner may be asleep. ok is false, and x is not put in, when the inbox has ended.
func (b *Inbox[T]) Put(x T) (first, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return false, false
	}
	b.waiting = append(b.waiting, x)
	return len(b.waiting) == 1, true
}

// Take calls do with all that waits, in order, and without a lock. What is put in meanwhile
// waits for the next Take. Only the owner calls it, and not from within do.
func (b *Inbox[T]) Take(do func(x T)) {
	b.mu.Lock()
	b.waiting, b.taken = b.taken[:0], b.waiting
	b.mu.Unlock()
	for i, x := range b.taken {
		do(x)
		clear(b.taken[i : i+1])
	}
	if cap(b.taken) > keepRoom {
		b.taken = nil
	}
}

// End lets nothing more in. What waits can still be taken.
func (b *Inbox[T]) End() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
}

// Hold keeps everybody waiting in Put until release is called: a test sees then what the
// caller of Put has locked.
func (b *Inbox[T]) Hold() (release func()) {
	b.mu.Lock()
	return b.mu.Unlock
}

// Len returns how much waits.
func (b *Inbox[T]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}
