// Package watchers shows what passes by to those that watch it. Who passes something does not
// wait for anybody, and pays nearly nothing where nobody watches.
//
// Watchers are few and bounded, and so is what waits for each: a watcher that is slow misses
// what does not fit.
package watchers

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxWatchers bounds the watchers: each costs every message a comparison and a queue. Above
	// it no more may watch.
	maxWatchers = 64
	// watcherQueue is how many messages wait for one watcher. Those beyond are not shown.
	watcherQueue = 256
)

// Set is a set of watchers. A K says what is watched, an M is what is shown. The zero Set is
// ready. Everybody may call its methods.
type Set[K comparable, M any] struct {
	mu  sync.Mutex                       // held to replace all
	all atomic.Pointer[[]*watcher[K, M]] // replaced as a whole; nil: nobody watches
}

type watcher[K comparable, M any] struct {
	key K
	out chan M
}

// Watch puts on out what is shown under a key from now on, until stop is called. ok is false
// where too many watch: then nothing is shown, and stop need not be called.
func (w *Set[K, M]) Watch(key K) (out <-chan M, stop func(), ok bool) {
	one := &watcher[K, M]{key, make(chan M, watcherQueue)}
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.copyLocked()
	if len(list) >= maxWatchers {
		return nil, func() {}, false
	}
	list = append(list, one)
	w.all.Store(&list)
	return one.out, func() { w.stop(one) }, true
}

func (w *Set[K, M]) stop(one *watcher[K, M]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := slices.DeleteFunc(w.copyLocked(), func(other *watcher[K, M]) bool { return other == one })
	if len(list) == 0 {
		w.all.Store(nil)
	} else {
		w.all.Store(&list)
	}
}

func (w *Set[K, M]) copyLocked() []*watcher[K, M] {
	if all := w.all.Load(); all != nil {
		return slices.Clone(*all)
	}
	return nil
}

// Any says whether anybody watches anything.
func (w *Set[K, M]) Any() bool { return w.all.Load() != nil }

// Show gives m to those that watch the key. It does not block: a watcher whose queue is
// full misses m.
func (w *Set[K, M]) Show(key K, m M) {
	all := w.all.Load()
	if all == nil {
		return
	}
	for _, one := range *all {
		if one.key == key {
			select {
			case one.out <- m:
			default:
			}
		}
	}
}
