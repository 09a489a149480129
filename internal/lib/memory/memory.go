// Package memory keeps a process within its memory. It finds the limit and tells the Go runtime,
// gives back to the system what a burst has left behind, and measures live memory against the
// limit. When memory is nearly used up, it sheds the peers for which most bytes wait, and holds
// those for whose peers most waits.
//
// Files: memory.go gives back, meter.go has the limit and measures, relief.go has the survey of
// peers, what it leads to, and the course of levels.
package memory

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// SetLimit gives the runtime the limit that Limit has found; 0: no limit. Near the limit the
// runtime collects garbage more often. GOMEMLIMIT counts before it.
func SetLimit(system uint64) {
	if system > 0 && os.Getenv("GOMEMLIMIT") == "" && debug.SetMemoryLimit(-1) == math.MaxInt64 {
		// the rest is for stacks of the system, the binary, and its page tables
		debug.SetMemoryLimit(int64(min(system, math.MaxInt64) / 10 * 9))
	}
}

const (
	// interval is the time between two looks. Larger: memory goes back later. Smaller: looking
	// costs more.
	interval = 500 * time.Millisecond
	// least is how many bytes are worth a collection. Larger: more memory stays. Smaller: more
	// collections.
	least = 1 << 18
)

// usage is the memory of the runtime, in bytes.
type usage struct {
	allocated uint64 // since the start of the process
	live      uint64 // after the last collection
	objects   uint64 // with the garbage since then
	free      uint64 // free bytes of the heap that the system has not got back
	users     int64  // for whom most of the memory is
	most      int64  // the most users since the last collection; at least users
}

// worthwhile says whether a collection would give back much, and whether it will take long until as
// much has gathered again. before is the usage an interval earlier.
func (u usage) worthwhile(before usage) bool {
	live := min(u.live, u.objects)
	spare := u.free + u.objects - live
	if u.most > 0 { // the memory of users that have gone seems live until it is collected
		spare += uint64(float64(live) * float64(u.most-u.users) / float64(u.most))
	}
	return spare > least && spare > u.objects/8 && (u.allocated-before.allocated)*64 < spare
}

// GiveBack gives memory back whenever the program has become quiet, until ctx is done. users tells
// the number of users for whom most of the memory is, such as connections. Without this, the
// runtime keeps twice the live memory, and keeps the memory of a burst of connections for minutes.
func GiveBack(ctx context.Context, users func() int64) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	most := int64(0)
	look := func() usage {
		metrics.Read(samples)
		n := users()
		most = max(most, n)
		return usage{samples[0].Value.Uint64(), samples[1].Value.Uint64(),
			samples[2].Value.Uint64(), samples[3].Value.Uint64(), n, most}
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for before := look(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := look()
		if now.worthwhile(before) {
			debug.FreeOSMemory()
			most = 0
			now = look()
		}
		before = now
	}
}
