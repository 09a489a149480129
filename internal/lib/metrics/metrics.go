// Package metrics counts, and writes counts in the text format of Prometheus (exposition format
// 0.0.4).
package metrics

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverb/internal/lib/recordlog"
)

// Histogram counts durations in buckets whose bounds double, from 16 µs to 8.4 s. Any goroutine may
// call its methods. The zero Histogram is empty.
type Histogram struct {
	buckets [histogramBuckets + 1]atomic.Uint64 // the last one: longer than all bounds
	sum     atomic.Int64                        // nanoseconds
}

const (
	// histogramBuckets is how many bounds a Histogram has. Larger: longer durations are told apart,
	// and Prometheus keeps more series. Smaller: the reverse.
	histogramBuckets = 20
	// histogramFirst says that the first bound is 2 to its power in nanoseconds. Larger: short
	// durations look alike. Smaller: long ones do.
	histogramFirst = 14
)

// Observe counts one duration. A negative one counts as 0.
func (h *Histogram) Observe(d time.Duration) {
	n := max(int64(d), 0)
	i := max(bits.Len64(uint64(max(n-1, 0)))-histogramFirst, 0)
	h.buckets[min(i, histogramBuckets)].Add(1)
	h.sum.Add(n)
}

// bound is the upper bound of bucket i in seconds.
func bound(i int) float64 { return float64(uint64(1)<<(histogramFirst+i)) / 1e9 }

// Timed is a Histogram with a name, for a label.
type Timed struct {
	Name string
	Took *Histogram
}

// Tally counts by word. The words must be constants of the program, because the Tally keeps them
// for ever. Any goroutine may call its methods. The zero Tally is empty.
type Tally struct{ words sync.Map } // of *atomic.Uint64

// Of returns the counter of a word. From the first call on, Counts has the word.
func (t *Tally) Of(word string) *atomic.Uint64 {
	n, ok := t.words.Load(word)
	if !ok {
		n, _ = t.words.LoadOrStore(word, new(atomic.Uint64))
	}
	return n.(*atomic.Uint64)
}

// State has the counts, for SetState in another process.
func (t *Tally) State() (b []byte) {
	for word, n := range t.Counts() {
		b = binary.AppendUvarint(recordlog.AppendField(b, word), n)
	}
	return b
}

// SetState adds the counts of a State, of the words that are counted here. ok is false if it makes
// no sense.
func (t *Tally) SetState(b []byte) (ok bool) {
	f, known := recordlog.Fields{B: b}, t.Counts()
	for len(f.B) > 0 {
		word, n := f.Text(), f.Number()
		if _, is := known[word]; is && !f.Bad {
			t.Of(word).Add(n)
		}
	}
	return !f.Bad
}

// Counts returns the value of all counters.
func (t *Tally) Counts() map[string]uint64 {
	all := map[string]uint64{}
	t.words.Range(func(word, n any) bool {
		all[word.(string)] = n.(*atomic.Uint64).Load()
		return true
	})
	return all
}

// Writer writes families of metrics. Errors of the writer below are kept for Flush.
type Writer struct {
	w      *bufio.Writer
	prefix string
	name   string // of the family
}

// NewWriter returns a Writer that puts prefix in front of every name.
func NewWriter(w io.Writer, prefix string) *Writer {
	return &Writer{w: bufio.NewWriter(w), prefix: prefix}
}

// Flush writes the rest and returns the first error of the Writer.
func (w *Writer) Flush() error { return w.w.Flush() }

// Family begins a metric. kind is counter, gauge, histogram or untyped. Samples of
// one family must follow each other.
func (w *Writer) Family(name, kind, help string) {
	w.name = w.prefix + name
	w.w.WriteString("# HELP " + w.name + " " + strings.NewReplacer("\\", `\\`, "\n",
		`\n`).Replace(help) + "\n# TYPE " + w.name + " " + kind + "\n")
}

// Process begins a metric whose name has no prefix, because every program uses the same name:
// process_… and go_….
func (w *Writer) Process(name, kind, help string) {
	prefix := w.prefix
	w.prefix = ""
	w.Family(name, kind, help)
	w.prefix = prefix
}

// Sample writes one value of the family. labels are names and values in turn.
func (w *Writer) Sample(value float64, labels ...string) { w.sample("", value, labels) }

// Count is Sample for a counter.
func (w *Writer) Count(value uint64, labels ...string) { w.sample("", float64(value), labels) }

// Histograms writes the sum of several histograms as one.
func (w *Writer) Histograms(all []*Histogram, labels ...string) {
	total, sum := uint64(0), int64(0)
	for i := range histogramBuckets + 1 {
		le := "+Inf"
		if i < histogramBuckets {
			le = format(bound(i))
		}
		for _, h := range all {
			total += h.buckets[i].Load()
		}
		w.sample("_bucket", float64(total), append(slices.Clone(labels), "le", le))
	}
	for _, h := range all {
		sum += h.sum.Load()
	}
	w.sample("_sum", float64(sum)/1e9, labels)
	w.sample("_count", float64(total), labels)
}

func (w *Writer) sample(suffix string, value float64, labels []string) {
	w.w.WriteString(w.name + suffix)
	for i := 0; i+1 < len(labels); i += 2 {
		w.w.WriteByte("{,"[min(i, 1)])
		w.w.WriteString(labels[i] + `="` + escape(labels[i+1]) + `"`)
	}
	if len(labels) > 1 {
		w.w.WriteByte('}')
	}
	w.w.WriteString(" " + format(value) + "\n")
}

func format(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func escape(s string) string {
	return strings.NewReplacer("\\", `\\`, "\"", `\"`, "\n",
		`\n`).Replace(strings.ToValidUTF8(s, "?"))
}
