// Package memory sets how much memory the Go runtime may take, and gives back to the
// system what a burst has left behind.
package memory

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// SetLimit tells the runtime of what Limit has found (0: there is none): near it garbage
// is collected more often. GOMEMLIMIT goes before.
func SetLimit(system uint64) {
	if system > 0 && os.Getenv("GOMEMLIMIT") == "" && debug.SetMemoryLimit(-1) == math.MaxInt64 {
		// the rest: stacks of the system, binary, its page tables
		debug.SetMemoryLimit(int64(min(system, math.MaxInt64) / 10 * 9))
	}
}

const (
	interval = 500 * time.Millisecond // between two looks
	least    = 1 << 18                // bytes that are worth a collection
)

// usage is what the runtime holds, in bytes.
type usage struct {
	allocated uint64 // since the start of the process
	live      uint64 // after the last collection
	objects   uint64 // with what has become garbage since
	free      uint64 // of the heap, not given back to the system
	users     int64  // whose memory it is
	most      int64  // of them since the last collection; not below users
}

// worthwhile says whether a collection gives back much, and whether it will be long
// before as much has gathered again. before is what was seen an interval earlier.
func (u usage) worthwhile(before usage) bool {
	live := min(u.live, u.objects)
	spare := u.free + u.objects - live
	if u.most > 0 { // what those had who are gone seems to live until it is collected
		spare += uint64(float64(live) * float64(u.most-u.users) / float64(u.most))
	}
	return spare > least && spare > u.objects/8 && (u.allocated-before.allocated)*64 < spare
}

// GiveBack gives memory back whenever the program has become quiet, until ctx is done.
// users tells how many there are for whom most of the memory is, such as connections.
// The runtime alone keeps twice what is live, and what a burst of connections has
// needed for minutes.
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
