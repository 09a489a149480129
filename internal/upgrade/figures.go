package upgrade

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"reverb/internal/admin"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/recordlog"
	"reverb/internal/lib/show"
	"reverb/internal/relay"
)

// Plan is how many connections there are of each kind, and how many of the encrypted ones would be
// told to reconnect, because there are no descriptors for their relay.
type Plan struct{ Plain, Encrypted, Relayed, Told int64 }

// count counts a connection; relay is that of its socket, or 0.
func (p *Plan) count(sock *poll.Socket, relay uint8) {
	switch _, plain := sock.Plain(); {
	case relay != 0:
		p.Relayed++
	case plain:
		p.Plain++
	default:
		p.Encrypted++
	}
}

// limit judges how many of the encrypted connections this process could relay, if it has
// descriptors for so many connections: each takes another one.
func (p *Plan) limit(connections int64) {
	room := max(connections-p.Plain-p.Relayed-p.Encrypted, 0)
	p.Told = max(p.Encrypted-room, 0)
}

func (p Plan) String() string {
	on := p.Plain + p.Encrypted + p.Relayed - p.Told
	return "upgrade: " + show.Count(on, "connection") + " would go on" + words(
		part{p.Encrypted - p.Told, "of them encrypted, relayed by this process"},
		part{p.Relayed, "of them relayed by a process before it"},
		part{p.Told, "would be told to reconnect, for want of descriptors"})
}

// part is a part of a sentence about so many connections; it is left out if there are none.
type part struct {
	n    int64
	what string
}

func words(all ...part) (text string) {
	for _, p := range all {
		if p.n > 0 {
			text += fmt.Sprintf(", %d %s", p.n, p.what)
		}
	}
	return text
}

// report says what an upgrade has done.
type report struct {
	relay.Given
	Silent, Took time.Duration // how long nothing was read; how long all took
	PID          int           // of the successor
	Now          string        // what it says of itself
	Silence      error         // why it has not said that it serves; it has everything all the same
}

func (r report) String() string {
	moved, have := r.Plain+r.Relayed, "have"
	if moved == 1 {
		have = "has"
	}
	told := "were told to reconnect"
	if r.Told == 1 {
		told = "was told to reconnect"
	}
	return fmt.Sprintf("process %d serves now: %s %s moved%s; silent for %v, took %v", r.PID,
		show.Count(int64(moved), "connection"), have, words(
			part{int64(r.Relayed), "of them encrypted, relayed by the old process"},
			part{int64(r.Told), told}),
		r.Silent.Round(10*time.Microsecond), r.Took.Round(10*time.Microsecond))
}

// figures are those of f that are handed over, in the order of their bytes. New ones come last.
func figures(f *admin.Upgrades) []*uint64 {
	return []*uint64{&f.Done, &f.Refused, &f.Failed, &f.Moved, &f.Told}
}

// add counts an upgrade.
func add(f *admin.Upgrades, r report) {
	f.Done++
	f.Moved += uint64(r.Plain + r.Relayed)
	f.Told += uint64(r.Told)
}

// sectionFigures is the name of the state of the figures.
const sectionFigures = "upgrades"

// figuresState is for setFigures in the successor. took and silent are how long this upgrade has
// lasted until now.
func figuresState(f *admin.Upgrades, took, silent time.Duration) (b []byte) {
	for _, n := range figures(f) {
		b = binary.AppendUvarint(b, *n)
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(took)), uint64(silent))
}

func setFigures(f *admin.Upgrades, b []byte) error {
	r := recordlog.Fields{B: b}
	for _, n := range figures(f) {
		*n = r.Number()
	}
	f.Took, f.Silent = time.Duration(r.Number()), time.Duration(r.Number())
	if r.Bad || f.Took < 0 || f.Silent < 0 {
		return errors.New("figures of upgrades: they make no sense")
	}
	return nil
}
