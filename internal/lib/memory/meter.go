package memory

import (
	"errors"
	"math"
	"math/bits"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Off is the limit that ParseSize reads from "off".
const Off = math.MaxUint64

// minLimit is the smallest limit that ParseSize takes. Smaller: an idle process may be over its
// limit. Larger: small containers are refused.
const minLimit = 16 << 20

// ParseSize reads a size: digits and a unit, B, K, M, G or T; B or iB may follow. All units are
// powers of 1024, as in GOMEMLIMIT, PHP and Docker. off means no limit.
func ParseSize(s string) (uint64, error) {
	if strings.EqualFold(s, "off") {
		return Off, nil
	}
	digits := strings.TrimRight(s, "BKMGTbkmgti")
	n, err := strconv.ParseUint(digits, 10, 64)
	power := 0
	if unit := strings.ToUpper(s[len(digits):]); unit != "" && unit != "B" {
		power = strings.IndexByte("_KMGT", unit[0])
		if rest := unit[1:]; power < 1 || rest != "" && rest != "B" && rest != "IB" {
			err = errors.New("unknown unit")
		}
	}
	if err != nil || n == 0 || bits.Len64(n)+10*power > 63 {
		return 0, errors.New("not a size, such as 512MiB, nor off")
	}
	if n <<= 10 * power; n < minLimit {
		return 0, errors.New("too small; give 16MiB at least, such as 512MiB, or off")
	}
	return n, nil
}

// ParseRoom reads the size of what is kept within a bound: as ParseSize, but not off.
func ParseRoom(s string) (int64, error) {
	n, err := ParseSize(s)
	if err != nil || n == Off {
		return 0, errors.New("not a size of at least 16MiB, such as 64MiB")
	}
	return int64(n), nil
}

// Limit is how much memory the process may use: the configured limit, else GOMEMLIMIT, else the
// limit of the control group, else the memory of the machine. 0 stands for an unknown limit, also
// as the result.
func Limit(configured, group, machine uint64) uint64 {
	switch goLimit := debug.SetMemoryLimit(-1); {
	case configured == Off:
		return 0
	case configured > 0:
		return configured
	case goLimit != math.MaxInt64:
		return uint64(goLimit)
	case group > 0:
		return group
	}
	return machine
}

// Level says how near to its limit the process is.
type Level int32

const (
	Ample    Level = iota
	Short          // above 85 %
	Critical       // above 95 %
)

// Reading has the figures of the runtime.
type Reading struct {
	Live        uint64 // bytes of the heap that the last collection has marked
	Stacks      uint64 // bytes of stacks, and of the runtime's notes about the heap
	Collections uint64 // since the start
}

// Meter measures live memory against a limit. Garbage does not count, nor does memory of the system
// for the process. The zero Meter has no limit. One goroutine calls Look; any goroutine may call
// the other methods.
type Meter struct {
	// constant after Begin
	limit   uint64
	read    func() Reading
	collect func()
	queued  func() int64 // bytes that the queues hold

	// owned by the goroutine that calls Look
	last      Reading
	previous  int64     // queued at the last look
	base      int64     // queued at the last collection
	next      time.Time // no collection is asked for before that
	collected time.Time

	used  atomic.Uint64
	level atomic.Int32
}

// Begin sets the limit; 0: no limit. queued tells how many bytes the queues hold now. Look adds
// what they have taken since the last collection to what the collection has marked. With a limit,
// Begin measures a first time.
func (m *Meter) Begin(limit uint64, queued func() int64) {
	m.limit, m.read, m.collect, m.queued = limit, readRuntime, runtime.GC, queued
	if limit > 0 {
		r := m.read()
		m.used.Store(r.Live + r.Stacks)
	}
}

func readRuntime() Reading {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/memory/classes/heap/stacks:bytes"},
		{Name: "/memory/classes/metadata/mspan/inuse:bytes"},
		{Name: "/memory/classes/metadata/other:bytes"}, {Name: "/memory/classes/other:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	r := Reading{Live: samples[0].Value.Uint64(), Collections: samples[1].Value.Uint64()}
	last := len(samples) - 1
	if r.Collections == 0 { // as in a successor, which has just taken over: all that was made
		r.Live = samples[last].Value.Uint64()
	}
	for _, s := range samples[2:last] {
		r.Stacks += s.Value.Uint64()
	}
	return r
}

// Limit is the limit; 0: no limit.
func (m *Meter) Limit() uint64 { return m.limit }

// Used is the live memory at the last look.
func (m *Meter) Used() uint64 { return m.used.Load() }

// Level is the level at the last look.
func (m *Meter) Level() Level { return Level(m.level.Load()) }

// lookOften is the time between two looks when more than half of the limit is used, lookSeldom the
// time otherwise. Larger: memory may run out between two looks. Smaller: looking costs more.
const (
	lookOften  = 50 * time.Millisecond
	lookSeldom = 250 * time.Millisecond
)

// Interval is how long to wait before the next look.
func (m *Meter) Interval() time.Duration {
	if m.Used() > m.limit/2 {
		return lookOften
	}
	return lookSeldom
}

// Room is how many bytes were left at the last look before the level is Critical.
func (m *Meter) Room() int64 { return int64(m.limit/100*95) - int64(m.Used()) }

// staleAfter is how old a collection may be when memory seems to be short; only the next one shows
// what was freed since. Larger: subscriptions are refused for longer without need. Smaller: more
// collections.
const staleAfter = 5 * time.Second

// Look measures. If memory seems to be short and the last collection does not show it, Look runs a
// collection, as long as collections take at most a tenth of the time.
func (m *Meter) Look(now time.Time) Level {
	used, fresh := m.measure(now)
	if m.judge(used) > Ample && !fresh && !now.Before(m.next) {
		begin := time.Now()
		m.collect()
		m.next = now.Add(max(10*time.Since(begin), time.Second/2))
		used, _ = m.measure(now)
	}
	m.used.Store(used)
	m.level.Store(int32(m.judge(used)))
	return m.Level()
}

// measure returns the bytes in use. fresh says that the last collection has seen nearly all of
// them.
func (m *Meter) measure(now time.Time) (used uint64, fresh bool) {
	r, q := m.read(), m.queued()
	if r.Collections != m.last.Collections {
		m.base, m.collected = min(m.previous, q), now
	}
	m.last, m.previous = r, q
	sum := int64(min(r.Live+r.Stacks, math.MaxInt64/2)) + q - m.base
	grown := max(q-m.base, m.base-q)
	return uint64(max(sum, 0)), uint64(grown) < m.limit/64 && now.Sub(m.collected) < staleAfter
}

func (m *Meter) judge(used uint64) Level {
	switch {
	case m.limit == 0:
		return Ample
	case used > m.limit/100*95:
		return Critical
	case used > m.limit/100*85:
		return Short
	}
	return Ample
}
