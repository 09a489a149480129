package watchers

import "testing"

// At most maxWatchers watch at a time, and one that goes makes room.
func TestWatchersAreBounded(t *testing.T) {
	var w Set[string, int]
	var stops []func()
	for range maxWatchers {
		_, stop, ok := w.Watch("news")
		if !ok {
			t.Fatalf("%d watch, and one more may not", len(stops))
		}
		stops = append(stops, stop)
	}
	if _, stop, ok := w.Watch("news"); ok {
		t.Errorf("%d watch", maxWatchers+1)
	} else {
		stop() // changes nothing
	}
	stops[0]()
	stops[0]()
	_, stop, ok := w.Watch("other")
	if !ok {
		t.Error("one has gone, and another may not watch")
	}
	for _, stop := range append(stops[1:], stop) {
		if w.all.Load() == nil {
			t.Error("somebody watches, and there is no list")
		}
		stop()
	}
	if w.all.Load() != nil {
		t.Error("nobody watches, and there is a list of those who do")
	}
}

// A watcher gets the messages of its key, in order. It misses messages that do not fit, and nobody
// waits for it.
func TestWatchersGetWhatTheyWatch(t *testing.T) {
	var w Set[string, int]
	w.Show("news", 0)
	out, stop, _ := w.Watch("news")
	for i := range watcherQueue + 10 {
		w.Show("news", i)
		w.Show("other", -1)
	}
	stop()
	w.Show("news", -2)
	if len(out) != watcherQueue {
		t.Fatalf("%d messages wait, want %d", len(out), watcherQueue)
	}
	for i := range watcherQueue {
		if got := <-out; got != i {
			t.Fatalf("message %d is %d", i, got)
		}
	}
}

// Without watchers, Show allocates nothing.
func TestShowDoesNotAllocate(t *testing.T) {
	var w Set[string, []byte]
	m := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() { w.Show("news", m) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
