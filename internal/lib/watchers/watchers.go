// Package watchers shows messages to watchers. The code that shows a message never waits for a
// watcher, and pays nearly nothing if there is none.
//
// The number of watchers is bounded, and so are the messages that wait for each: a slow watcher
// misses messages that do not fit.
package watchers

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxWatchers bounds the watchers; further ones are refused. Larger: each message costs more
	// comparisons. Smaller: fewer people can watch.
	maxWatchers = 64
	// watcherQueue bounds the messages that wait for one watcher; further ones are not shown.
	// Larger: more memory for a slow watcher. Smaller: a burst is shown with gaps.
	watcherQueue = 256
)

// Set is a set of watchers. A K is a key to watch; an M is a message to watchers. The zero Set is
// empty. Any goroutine may call its methods.
type Set[K comparable, M any] struct {
	mu  sync.Mutex                       // guards the replacement of all
	all atomic.Pointer[[]*watcher[K, M]] // replaced as a whole; nil: nobody watches
}

type watcher[K comparable, M any] struct {
	key K
	out chan M
}

// Watch sends the messages under a key to out, from now until the caller calls stop. ok is false if
// there are too many watchers. Then nothing is sent, and stop need not be called.
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
	list := slices.DeleteFunc(w.copyLocked(),
		func(other *watcher[K, M]) bool { return other == one })
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

// Show gives m to the watchers of a key. It does not block: a watcher whose queue is full misses m.
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
