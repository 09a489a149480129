// Package inbox passes work from any goroutine to the goroutine that owns an event loop. Goroutines
// put items in; once a turn, the owner takes all of them, in order. The inbox does not wake the
// owner, and it has no bound: the goroutines that put items in must bound them.
package inbox

import "sync"

// keepRoom bounds, in items, the memory that is kept for later items. Larger: after a burst more
// memory stays. Smaller: busy turns allocate.
const keepRoom = 4096

// Inbox holds the items that were put in and not taken yet. The zero Inbox is empty.
type Inbox[T any] struct {
	// guarded by mu
	mu      sync.Mutex
	waiting []T
	ended   bool

	taken []T // owned by the owner
}

// Put puts x behind the items that wait. Any goroutine may call it. first says that no item waited,
// so the owner may be asleep. If the inbox has ended, ok is false and x is not put in.
func (b *Inbox[T]) Put(x T) (first, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return false, false
	}
	b.waiting = append(b.waiting, x)
	return len(b.waiting) == 1, true
}

// Take calls do with all items that wait, in order, and without a lock. Items that come meanwhile
// wait for the next Take. Only the owner calls Take, and never from within do.
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

// End refuses further items. The items that wait can still be taken.
func (b *Inbox[T]) End() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
}

// Hold makes all callers of Put wait until release is called. Only tests of the program use it,
// to see what the caller of Put has locked.
func (b *Inbox[T]) Hold() (release func()) {
	b.mu.Lock()
	return b.mu.Unlock
}

// Len returns how many items wait.
func (b *Inbox[T]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}
