package shortage

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/memory"
)

// world is a program with one app and one connection, for which much waits.
type world struct {
	mu          sync.Mutex
	log         strings.Builder
	used        uint64
	room        int64
	short, held bool
	shed        int
}

// note changes or reads the world.
func (w *world) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) Interval() time.Duration { return 250 * time.Millisecond }
func (w *world) Limit() uint64           { return 100 }
func (w *world) Room() int64             { return 95 - int64(w.Used()) }

func (w *world) Used() (n uint64) {
	w.note(func() { n = w.used })
	return n
}

func (w *world) Look(time.Time) memory.Level {
	switch used := w.Used(); {
	case used > 95:
		return memory.Critical
	case used > 85:
		return memory.Short
	}
	return memory.Ample
}

func (w *world) Claimed() int64        { return 0 }
func (w *world) SetRoom(_, room int64) { w.note(func() { w.room = room }) }

// Write is the log.
func (w *world) Write(b []byte) (n int, err error) {
	w.note(func() { n, err = w.log.Write(b) })
	return n, err
}

func (w *world) shortage() *Shortage[int, int] {
	return &Shortage[int, int]{Meter: w, Claims: w,
		Short: func(short bool) { w.note(func() { w.short = short }) },
		Log:   slog.New(slog.NewTextHandler(w, nil)),
		Relief: memory.Relief[int, int]{Loops: 1,
			Post:   func(_ int, task func()) { task() },
			Look:   func(_ int, add func(int, int, int)) { add(1, 1, 1<<30) },
			Owners: func(yield func(int) bool) { yield(1) },
			Late:   func(int) bool { return false },
			Hold:   func(_ int, held bool) { w.note(func() { w.held = held }) },
			Shed:   func(int) { w.note(func() { w.shed++ }) }}}
}

// Memory becomes short, is nearly used up, and is there again: each has its consequence and its
// line, once.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(world)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.shortage().Watch(ctx)
		step := func(used uint64, short, held bool, shed int, told string) {
			t.Helper()
			w.note(func() { w.used = used })
			time.Sleep(250 * time.Millisecond) // in the bubble: no time passes
			synctest.Wait()
			w.note(func() {
				if w.short != short || w.held != held || w.shed != shed ||
					w.room != 95-int64(used) || !strings.Contains(w.log.String(), told) {
					t.Errorf("%d are used: got short %v, held %v, %d shed, room %d, the log\n%s",
						used, w.short, w.held, w.shed, w.room, &w.log)
				}
				w.log.Reset()
			})
		}
		step(0, false, false, 0, "")
		step(90, true, false, 0, "memory is short: new subscriptions are refused")
		step(97, true, true, 1, "nearly used up")
		step(90, true, false, 1, "")
		step(0, false, false, 1, "no longer short")
		w.note(func() { w.used = 100 })
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		if w.held || w.shed != 2 {
			t.Error("an app is held although nobody watches")
		}
	})
}
