package envelopes

import (
	"encoding/binary"

	"reverb/internal/lib/recordlog"
)

// maxSeen bounds the sequences whose last number is kept. With more, all are forgotten. Larger:
// more memory. Smaller: a stranger who invents nodes has late copies delivered sooner.
const maxSeen = 1 << 17

// sequence names the numbers of events: a node counts for each bucket apart.
type sequence struct {
	node   uint64
	bucket int
}

// Seen knows which events have come. The zero Seen knows of none.
type Seen struct{ last map[sequence]uint64 } // the highest number that has come

// New notes an event that has come. It says no if the event is a late copy: its sender could not
// know that it had arrived and has sent it again. Or the second copy has overtaken the first, on a
// connection that the sender gave up.
func (s *Seen) New(bucket int, e *Envelope) bool {
	from := sequence{e.Node, bucket}
	last, known := s.last[from]
	if e.Number <= last && last-e.Number <= maxBehind {
		return false
	}
	if s.last == nil || !known && len(s.last) >= maxSeen {
		s.last = map[sequence]uint64{} // most belonged to nodes that have gone, or to strangers
	}
	s.last[from] = e.Number
	return true
}

// Append appends what Parse reads.
func (s *Seen) Append(b []byte) []byte {
	for from, last := range s.last {
		b = binary.AppendUvarint(binary.BigEndian.AppendUint64(b, from.node), uint64(from.bucket))
		b = binary.AppendUvarint(b, last)
	}
	return b
}

// Parse adds what another Seen has noted. ok is false if the bytes make no sense.
func (s *Seen) Parse(b []byte) (ok bool) {
	f := recordlog.Fields{B: b}
	for len(f.B) > 0 {
		node, bucket, last := f.Bytes(8), f.Number(), f.Number()
		if f.Bad || bucket > 1<<16 || last > MaxNumber || len(s.last) >= maxSeen {
			return false
		}
		if s.last == nil {
			s.last = map[sequence]uint64{}
		}
		s.last[sequence{binary.BigEndian.Uint64(node), int(bucket)}] = last
	}
	return true
}
