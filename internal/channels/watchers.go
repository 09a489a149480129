package channels

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// maxWatchers bounds who watches at a time: each costs every message a comparison and a
	// queue. Above it no more may watch.
	maxWatchers = 64
	// watcherQueue is how many messages wait for one watcher. Those beyond are not shown.
	watcherQueue = 256
)

// Watchers are those who watch channels without being subscribed. A K names a channel, an M
// is what is shown. The zero Watchers are ready. Everybody may call its methods.
type Watchers[K comparable, M any] struct {
	mu  sync.Mutex                       // held by who replaces all
	all atomic.Pointer[[]*watcher[K, M]] // replaced as a whole; nil: nobody watches
}

type watcher[K comparable, M any] struct {
	channel K
	out     chan M
}

// Watch puts on out what is shown of a channel from now on, until stop is called. ok is
// false where too many watch: then nothing is shown, and stop need not be called.
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
	list := slices.DeleteFunc(w.copyLocked(), func(other *watcher[K, M]) bool { return other == one })
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

// Any says whether anybody watches anything.
func (w *Watchers[K, M]) Any() bool { return w.all.Load() != nil }

// Show gives m to those who watch the channel. It does not block: a watcher whose queue is
// full misses m.
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
