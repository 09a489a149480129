package resplink

import (
	"encoding/binary"
	"errors"

	"reverb/internal/lib/recordlog"
)

// Passed is what another process learns of a session, besides the sockets: two links to each
// master.
type Passed struct {
	Where    string // which Redis it is, in words that are compared
	Masters  []Master
	ByBucket []int // index in Masters
}

// Master is one server.
type Master struct {
	Address, Version string
	Rests            [2][]byte // of the two links, see Link.Rest
}

// maxBuckets bounds ByBucket. Larger: more memory for a wrong length. Smaller: the buckets of a
// Redis Cluster do not fit.
const maxBuckets = 1 << 14

// Append appends the bytes of p.
func (p *Passed) Append(b []byte) []byte {
	b = binary.AppendUvarint(recordlog.AppendField(b, p.Where), uint64(len(p.Masters)))
	for _, m := range p.Masters {
		b = recordlog.AppendField(recordlog.AppendField(b, m.Address), m.Version)
		b = recordlog.AppendField(recordlog.AppendField(b, m.Rests[0]), m.Rests[1])
	}
	for _, i := range p.ByBucket {
		b = binary.AppendUvarint(b, uint64(i))
	}
	return b
}

// ParsePassed reads the bytes of a session with so many sockets.
func ParsePassed(b []byte, sockets int) (p Passed, err error) {
	f := recordlog.Fields{B: b}
	p.Where = f.Text()
	masters := f.Number()
	for i := uint64(0); i < masters && !f.Bad; i++ {
		m := Master{Address: f.Text(), Version: f.Text()}
		for k := range m.Rests {
			m.Rests[k] = f.Bytes(f.Number())
		}
		p.Masters = append(p.Masters, m)
	}
	for len(f.B) > 0 && len(p.ByBucket) < maxBuckets {
		i := f.Number()
		if i >= masters {
			f.Fail()
		}
		p.ByBucket = append(p.ByBucket, int(i))
	}
	if f.Bad || len(f.B) > 0 || len(p.ByBucket) == 0 || masters == 0 ||
		uint64(sockets) != 2*masters {
		return Passed{}, errors.New("the session with Redis makes no sense")
	}
	return p, nil
}
