package upgrade

import (
	"encoding/binary"
	"time"

	"reverb/internal/lib/recordlog"
	"reverb/internal/lib/show"
)

// terms are what a successor tells when it could serve: how long it lets relays stand, its version,
// and its apps, by their IDs.
type terms struct {
	keep    time.Duration
	version string
	apps    []string
}

// maxTerms bounds the bytes of terms. Larger: a frame does not hold them. Smaller: what becomes of
// the connections of apps is not said where there are many.
const maxTerms = 512 << 10

func (t terms) append(b []byte) []byte {
	b = recordlog.AppendField(binary.AppendUvarint(b, uint64(t.keep)), t.version)
	start := len(b)
	for _, app := range t.apps {
		b = recordlog.AppendField(b, app)
		if len(b) > maxTerms {
			return b[:start]
		}
	}
	return b
}

// parseTerms reads terms. Those that make no sense are of a version without: they say nothing.
func parseTerms(b []byte) (t terms) {
	f := recordlog.Fields{B: b}
	t.keep = time.Duration(f.Number())
	t.version = show.Line(f.Text())
	for len(f.B) > 0 && !f.Bad {
		t.apps = append(t.apps, f.Text())
	}
	if f.Bad || t.keep < 0 {
		return terms{keep: time.Hour}
	}
	return t
}

// leaving counts connections by the number of their relay, 0 for none. It finds out how many of
// them a successor tells to reconnect at once.
type leaving struct {
	keep      time.Duration
	apps      map[string]bool // that are configured; nil: not known
	known     [256]int        // connections of these apps
	strange   [256]int        // connections of other apps, which are closed
	strangers map[string]int  // the same, by app
}

func newLeaving(t terms) *leaving {
	l := &leaving{keep: t.keep, strangers: map[string]int{}}
	for _, app := range t.apps {
		if l.apps == nil {
			l.apps = map[string]bool{}
		}
		l.apps[app] = true
	}
	return l
}

// add counts a connection.
func (l *leaving) add(app string, relay uint8) {
	if l.apps == nil || l.apps[app] {
		l.known[relay]++
		return
	}
	l.strange[relay]++
	l.strangers[app]++
}

// told is how many are told to reconnect at once, if the relays are drained so, and how many of
// them the relay own has.
func (l *leaving) told(all []drain, own uint8, now time.Time) (told, relayed int) {
	for _, n := range l.strange {
		told += n
	}
	relayed = l.strange[own]
	for _, d := range all {
		if d.at.After(now) {
			continue
		}
		told += l.known[d.relay]
		if d.relay == own {
			relayed += l.known[own]
		}
	}
	return told, relayed
}
