package channels

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxWatchers bounds the watchers at one time; further ones are refused. Larger: each message
	// costs more comparisons. Smaller: fewer people can look at a status page.
	maxWatchers = 64
	// watcherQueue bounds the messages that wait for one watcher; further ones are not shown to it.
	// Larger: more memory for a slow watcher. Smaller: a burst is shown with gaps.
	watcherQueue = 256
)

// Watchers see channels without a subscription. A K names a channel; an M is what they see. The
// zero Watchers has no watcher. Any goroutine may call its methods.
type Watchers[K comparable, M any] struct {
	mu  sync.Mutex                       // guards the replacement of all
	all atomic.Pointer[[]*watcher[K, M]] // replaced as a whole; nil: nobody watches
}

type watcher[K comparable, M any] struct {
	channel K
	out     chan M
}

// Watch sends on out what is shown of a channel from now on, until stop is called. ok is false if
// there are too many watchers. Then nothing is sent, and stop need not be called.
func (w *Watchers[K, M]) Watch(channel K) (out <-chan M, stop func(), ok bool) {
	one := &watcher[K, M]{channel, make(chan M, watcherQueue)}
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

func (w *Watchers[K, M]) stop(one *watcher[K, M]) {
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

func (w *Watchers[K, M]) copyLocked() []*watcher[K, M] {
	if all := w.all.Load(); all != nil {
		return slices.Clone(*all)
	}
	return nil
}

// Any says whether there is a watcher.
func (w *Watchers[K, M]) Any() bool { return w.all.Load() != nil }

// Show gives m to the watchers of a channel. It does not block: a watcher whose queue is full
// misses m.
func (w *Watchers[K, M]) Show(channel K, m M) {
	all := w.all.Load()
	if all == nil {
		return
	}
	for _, one := range *all {
		if one.channel == channel {
			select {
			case one.out <- m:
			default:
			}
		}
	}
}
