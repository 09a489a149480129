// Package held keeps senders from whom nothing is read while there is no room for what they send,
// with the bytes that were read already. When there is room again, it lets them go on one by one,
// in the order in which they came.
//
// The package reads nothing and starts no goroutine. Lines and each Line belong to one goroutine.
package held

import (
	"bytes"
	"slices"
)

// keepSenders bounds the memory that an empty Line keeps. Larger: more memory stays after a burst.
// Smaller: bursts allocate.
const keepSenders = 64

// Line has the senders that wait for the same room. A Line whose Full is set is empty.
type Line[S any] struct {
	Full func() bool // there is no room; constant

	senders []sender[S]
	swept   uint32
}

// sender is a sender, and what was read from it already.
type sender[S any] struct {
	of   S
	rest []byte
}

// Lines are the lines in which a sender waits. The zero Lines has none.
type Lines[S any] struct{ all []*Line[S] }

// Len returns the number of lines in which a sender waits.
func (ls *Lines[S]) Len() int { return len(ls.all) }

// Hold puts a sender at the end of a line. rest was read already; Hold copies it. A sender waits in
// one line at most. The caller reads nothing from it until Release lets it go on.
func (ls *Lines[S]) Hold(l *Line[S], s S, rest []byte) {
	if len(l.senders) == 0 {
		ls.all = append(ls.all, l)
	}
	l.senders = append(l.senders, sender[S]{s, bytes.Clone(rest)})
}

// All calls yield for every sender, with the bytes that were read already, until yield returns
// false.
func (ls *Lines[S]) All(yield func(s S, rest []byte) bool) {
	for _, l := range ls.all {
		for _, w := range l.senders {
			if !yield(w.of, w.rest) {
				return
			}
		}
	}
}

// Release lets senders go on, until their lines are full or enough returns true; each line lets at
// least one go on for which there is room. resume handles the bytes that were read already; it may
// hold the sender again. gone says that a sender is no more; Release asks once for each value of
// now, and forgets those senders.
func (ls *Lines[S]) Release(now uint32, enough func() bool, gone func(S) bool,
	resume func(s S, rest []byte)) {
	for _, l := range ls.all {
		if l.swept != now {
			l.swept = now
			l.senders = slices.DeleteFunc(l.senders, func(w sender[S]) bool { return gone(w.of) })
		}
		next := 0
		for next < len(l.senders) && !l.Full() && (next == 0 || !enough()) {
			w := l.senders[next]
			l.senders[next] = sender[S]{}
			next++
			resume(w.of, w.rest)
		}
		l.senders = slices.Delete(l.senders, 0, next)
		if len(l.senders) == 0 && cap(l.senders) > keepSenders {
			l.senders = nil
		}
	}
	ls.all = slices.DeleteFunc(ls.all, func(l *Line[S]) bool { return len(l.senders) == 0 })
}
