// Package tallies counts what becomes of things that are sent to several places: how many arrive,
// how many are lost and why, and how many wait.
package tallies

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"reverb/internal/lib/recordlog"
)

// Tallies has the counts of all places. Its methods need a lock of the caller.
type Tallies struct {
	reasons []string // constant
	all     []*Tally // in the order in which they came
}

// Tally is the count of a place. Any goroutine may call its methods.
type Tally struct {
	kind, to           string // constant
	delivered, retried atomic.Int64
	lost               []atomic.Int64 // by reason
}

// Figures are what a place has come to.
type Figures struct {
	Kind, To  string    // what sort of place it is, and its name
	Queued    int       // things that wait, or are under way; a gauge
	Oldest    time.Time // since when the oldest of them waits; zero: there is none
	Delivered int64
	Retried   int64
	Lost      map[string]int64 // by the word of the reason
}

// New makes counts with the words of the reasons why a thing can be lost.
func New(reasons ...string) *Tallies { return &Tallies{reasons: reasons} }

// At returns the count of a place. It stays when nothing goes there any more, since a counter never
// goes back.
func (t *Tallies) At(kind, to string) *Tally {
	for _, v := range t.all {
		if v.kind == kind && v.to == to {
			return v
		}
	}
	v := &Tally{kind: kind, to: to, lost: make([]atomic.Int64, len(t.reasons))}
	t.all = append(t.all, v)
	return v
}

// Deliver counts things that have arrived.
func (t *Tally) Deliver(n int) { t.delivered.Add(int64(n)) }

// Retry counts an attempt that was not the first.
func (t *Tally) Retry() { t.retried.Add(1) }

// Lose counts things that were lost. why is the number of the reason.
func (t *Tally) Lose(why, n int) { t.lost[why].Add(int64(n)) }

// Figures returns the figures of all places, in the order in which they came. wait adds what waits
// for one.
func (t *Tallies) Figures(wait func(of *Tally, f *Figures)) (all []Figures) {
	for _, v := range t.all {
		f := Figures{Kind: v.kind, To: v.to, Delivered: v.delivered.Load(),
			Retried: v.retried.Load(), Lost: map[string]int64{}}
		for i, word := range t.reasons {
			f.Lost[word] = v.lost[i].Load()
		}
		wait(v, &f)
		all = append(all, f)
	}
	return all
}

// State is what was counted, for SetState in another process.
func (t *Tallies) State() (b []byte) {
	for _, v := range t.all {
		b = recordlog.AppendField(recordlog.AppendField(b, v.kind), v.to)
		b = binary.AppendUvarint(b, uint64(v.delivered.Load()))
		b = binary.AppendUvarint(b, uint64(v.retried.Load()))
		b = binary.AppendUvarint(b, uint64(len(v.lost)))
		for i := range v.lost {
			b = binary.AppendUvarint(b, uint64(v.lost[i].Load()))
		}
	}
	return b
}

// SetState adds what State has told. Of reasons that it does not know it counts nothing. ok is
// false if b makes no sense.
func (t *Tallies) SetState(b []byte) (ok bool) {
	f := recordlog.Fields{B: b}
	for len(f.B) > 0 {
		kind, to := f.Text(), f.Text()
		delivered, retried, reasons := f.Number(), f.Number(), f.Number()
		if f.Bad || reasons > uint64(len(f.B)) {
			return false
		}
		v := t.At(kind, to)
		v.delivered.Add(int64(delivered))
		v.retried.Add(int64(retried))
		for i := range reasons {
			if n := f.Number(); i < uint64(len(v.lost)) {
				v.lost[i].Add(int64(n))
			}
		}
	}
	return !f.Bad
}

// Wait adds things that wait. Without since it is not known how long the oldest waits.
func (f *Figures) Wait(n int, since time.Time) {
	f.Queued += n
	if !since.IsZero() && (f.Oldest.IsZero() || since.Before(f.Oldest)) {
		f.Oldest = since
	}
}

// Add adds the figures of another place.
func (f *Figures) Add(o *Figures) {
	f.Wait(o.Queued, o.Oldest)
	f.Delivered += o.Delivered
	f.Retried += o.Retried
	if f.Lost == nil {
		f.Lost = map[string]int64{}
	}
	for why, n := range o.Lost {
		f.Lost[why] += n
	}
}

// Age is for how long the oldest has waited.
func (f *Figures) Age(now time.Time) time.Duration {
	if f.Oldest.IsZero() {
		return 0
	}
	return max(now.Sub(f.Oldest), 0)
}
