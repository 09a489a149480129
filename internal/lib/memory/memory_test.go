package memory

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWorthwhile(t *testing.T) {
	const mb = 1 << 20
	for _, tt := range []struct {
		name      string
		now       usage
		allocated uint64 // since the last look
		want      bool
	}{
		{"little is held", usage{live: 3 * mb, objects: 3*mb + mb/8, free: mb / 16}, 0, false},
		{"garbage after a burst", usage{live: 10 * mb, objects: 18 * mb}, 0, true},
		{"free pages after a burst", usage{live: 10 * mb, objects: 10 * mb, free: 8 * mb}, 0, true},
		{"the burst goes on", usage{live: 10 * mb, objects: 18 * mb}, mb, false},
		{"a trickle", usage{live: 10 * mb, objects: 18 * mb}, mb / 16, true},
		{"little beside what is live", usage{live: 400 * mb, objects: 440 * mb}, 0, false},
		{"all who had it are gone", usage{live: 10 * mb, objects: 10 * mb, most: 1000}, 0, true},
		{"half of them are", usage{live: 10 * mb, objects: 10 * mb, users: 500, most: 1000}, 0,
			true},
		{"a few of them are", usage{live: 10 * mb, objects: 10 * mb, users: 900, most: 1000}, 0,
			false},
		{"freed since the last collection", usage{live: 10 * mb, objects: 2 * mb}, 0, false},
	} {
		before := usage{allocated: 1000 * mb}
		tt.now.allocated = before.allocated + tt.allocated
		if got := tt.now.worthwhile(before); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Memory that was needed for a moment is given back soon.
func TestGiveBack(t *testing.T) {
	released := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var users atomic.Int64
		users.Store(64)
		go GiveBack(ctx, users.Load)
		time.Sleep(time.Minute) // in the bubble: no time passes
		burst := make([][]byte, 64)
		for i := range burst {
			burst[i] = make([]byte, 1<<20)
			for j := 0; j < len(burst[i]); j += 4096 {
				burst[i][j] = 1
			}
		}
		before := released()
		clear(burst)
		// otherwise the memory of the last collection seems live: the runtime decides when that was
		users.Store(0)
		time.Sleep(10 * time.Second)
		if now := released(); now < before+48<<20 {
			t.Errorf("of 64 MiB %d bytes were given back within 10 s", int64(now-before))
		}
	})
}

func TestSetLimit(t *testing.T) {
	old := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(old)
	t.Setenv("GOMEMLIMIT", "off")
	SetLimit(1 << 30)
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("with GOMEMLIMIT=off: got %d", got)
	}
	t.Setenv("GOMEMLIMIT", "")
	SetLimit(0)
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("without a limit of the system: got %d", got)
	}
	SetLimit(1000 << 20)
	if got := debug.SetMemoryLimit(-1); got != 900<<20 {
		t.Errorf("got %d, want 900 MiB", got)
	}
	SetLimit(2000 << 20)
	if got := debug.SetMemoryLimit(-1); got != 900<<20 {
		t.Errorf("a limit that was set before has been replaced by %d", got)
	}
}
