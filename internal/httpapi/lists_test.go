package httpapi

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestLists has an app ask for one list after the other, and bounds those of all apps.
func TestLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLists()
		begin := func(app string) *list {
			t.Helper()
			v, bad := l.begin(t.Context(), app)
			if bad != nil {
				t.Fatalf("%s: %v", app, bad)
			}
			return v
		}
		refused := func(app string, after time.Duration) {
			t.Helper()
			from := time.Now()
			if v, bad := l.begin(t.Context(), app); v != nil || bad.Status != 503 ||
				time.Since(from) != after {
				t.Errorf("%s: got %v and %v after %v", app, v, bad, time.Since(from))
			}
		}
		first := begin("a")
		refused("a", listPatience) // one at a time
		second := begin("b")
		refused("c", listPatience) // as many as are made at once
		if bad := first.finished(largeList-1, true); bad != nil {
			t.Errorf("a short list: %v", bad)
		}
		first = begin("a") // a short list is not waited for
		if bad := first.finished(largeList, true); bad == nil || bad.Status != 503 {
			t.Errorf("memory is short: got %v", bad)
		}
		first.release()
		if bad := second.finished(largeList, false); bad != nil {
			t.Error(bad)
		}
		refused("b", listPatience) // its list is on its way
		on := []*list{second}
		for _, app := range []string{"c", "d", "e", "f"} {
			v := begin(app)
			bad := v.finished(largeList, false)
			if (bad == nil) != (len(on) < maxListsSent) {
				t.Errorf("%d on their way: got %v", len(on), bad)
			}
			if on = append(on, v); bad != nil {
				v.release()
			}
		}
		waits := make(chan *list)
		go func() { waits <- begin("b") }()
		synctest.Wait()
		second.release()
		second.release()
		(<-waits).release()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		v := begin("x")
		if _, bad := l.begin(ctx, "x"); bad == nil || bad.Status != 503 {
			t.Errorf("given up: got %v", bad)
		}
		v.release()
		for _, v := range on {
			v.release()
		}
		if len(l.made) != 0 || len(l.sent) != 0 {
			t.Errorf("%d are made and %d sent at the end", len(l.made), len(l.sent))
		}
	})
}
