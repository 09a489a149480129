//go:build linux

package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are at most 1/64 of their value wide.
type histogram struct {
	Counts []uint32
	N      int64
	Max    int64
}

const subBits = 6

func bucket(ns int64) int {
	if ns < 1<<subBits {
		return int(max(ns, 0))
	}
	e := bits.Len64(uint64(ns)) - subBits - 1
	return e<<subBits + int(ns>>e)
}

// bucketTop is the largest value of a bucket.
func bucketTop(i int) int64 {
	if i < 2<<subBits {
		return int64(i)
	}
	e := i>>subBits - 1
	return int64(i-e<<subBits+1)<<e - 1
}

func (h *histogram) add(ns int64) {
	i := bucket(ns)
	if i >= len(h.Counts) {
		h.Counts = append(h.Counts, make([]uint32, i+1-len(h.Counts))...)
	}
	h.Counts[i]++
	h.N++
	h.Max = max(h.Max, ns)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.Counts {
		if n > 0 {
			if i >= len(h.Counts) {
				h.Counts = append(h.Counts, make([]uint32, i+1-len(h.Counts))...)
			}
			h.Counts[i] += n
		}
	}
	h.N += o.N
	h.Max = max(h.Max, o.Max)
}

// at is the value that the given share of all do not exceed.
func (h *histogram) at(share float64) time.Duration {
	want := int64(share*float64(h.N) + 0.5)
	for i, n := range h.Counts {
		if want -= int64(n); want <= 0 && n > 0 {
			return time.Duration(min(bucketTop(i), h.Max))
		}
	}
	return time.Duration(h.Max)
}
