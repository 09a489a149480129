package shortage

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reverb/internal/lib/memory"
)

// world is a program with one app and one connection, for which much waits.
type world struct {
	log         bytes.Buffer
	used        uint64
	room        int64
	short, held bool
	shed        int
}

func (w *world) Interval() time.Duration { return 250 * time.Millisecond }
func (w *world) Used() uint64            { return w.used }
func (w *world) Limit() uint64           { return 100 }
func (w *world) Room() int64             { return 95 - int64(w.used) }

func (w *world) Look(time.Time) memory.Level {
	switch {
	case w.used > 95:
		return memory.Critical
	case w.used > 85:
		return memory.Short
	}
	return memory.Ample
}

func (w *world) Claimed() int64        { return 0 }
func (w *world) SetRoom(_, room int64) { w.room = room }
func (w *world) told(text string) bool { return strings.Contains(w.log.String(), text) }
func (w *world) shortage() *Shortage[int, int] {
	return &Shortage[int, int]{Meter: w, Claims: w,
		Short: func(short bool) { w.short = short },
		Log:   slog.New(slog.NewTextHandler(&w.log, nil)),
		Relief: memory.Relief[int, int]{Loops: 1,
			Post:   func(_ int, task func()) { task() },
			Look:   func(_ int, add func(int, int, int)) { add(1, 1, 1<<30) },
			Owners: func(yield func(int) bool) { yield(1) },
			Late:   func(int) bool { return false },
			Hold:   func(_ int, held bool) { w.held = held },
			Shed:   func(int) { w.shed++ }}}
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
			w.used = used
			time.Sleep(250 * time.Millisecond) // in the bubble: no time passes
			synctest.Wait()
			if w.short != short || w.held != held || w.shed != shed || !w.told(told) {
				t.Errorf("got short %v, held %v, %d shed, the log\n%s", w.short, w.held, w.shed,
					&w.log)
			}
			w.log.Reset()
		}
		step(0, false, false, 0, "")
		if w.room <= 0 {
			t.Errorf("the room is %d", w.room)
		}
		step(90, true, false, 0, "memory is short: new subscriptions are refused")
		step(97, true, true, 1, "nearly used up")
		if w.room >= 0 {
			t.Errorf("the room is %d", w.room)
		}
		step(90, true, false, 1, "")
		step(0, false, false, 1, "no longer short")
		w.used = 100
		time.Sleep(time.Second)
		cancel()
		if synctest.Wait(); w.held || w.shed != 2 {
			t.Error("an app is held although nobody watches")
		}
	})
}
