package upgrade

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"reverb/internal/admin"
	"reverb/internal/lib/recordlog"
	"reverb/internal/lib/show"
	"reverb/internal/relay"
)

// plan is how many connections would go on, by their kind, and how many would be told to reconnect,
// by the reason.
type plan struct {
	plain, encrypted, relayed int
	short, aged, strange      int // no descriptors; the relay is drained; no app
}

// planned judges connections by what is known of them and of the successor. own is the relay that
// this process would be, for which there are so many descriptors.
func planned(l *leaving, d *drains, files int, now time.Time) (p plan) {
	own := d.own()
	p.short = min(max(l.known[own]+l.strange[own]-files, 0), l.known[own])
	l.known[own] -= p.short
	for relay, n := range l.known {
		switch uint8(relay) {
		case 0:
			p.plain += n
		case own:
			p.encrypted += n
		default:
			p.relayed += n
		}
	}
	all := d.after(now, int64(l.known[own]+l.strange[own])).due(now, l.keep)
	for _, n := range l.strange {
		p.strange += n
	}
	told, relayed := l.told(all, own, now)
	relayed -= l.strange[own]
	p.aged = told - p.strange
	p.encrypted -= relayed
	p.relayed -= p.aged - relayed
	return p
}

func (p plan) String() string {
	on := int64(p.plain + p.encrypted + p.relayed)
	return "upgrade: " + show.Count(on, "connection") + " would go on" + words(
		part{p.encrypted, "of them encrypted, relayed by this process"},
		part{p.relayed, "of them relayed by a process before it"},
		part{p.short, "would be told to reconnect, for want of descriptors"},
		part{p.aged, "would be told to reconnect, as REVERB_UPGRADE_DRAIN is over or too many " +
			"relays would stand"},
		part{p.strange, "would be closed, as their app is configured no more"})
}

// part is a part of a sentence about so many connections; it is left out if there are none.
type part struct {
	n    int
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
	Version      string        // its own
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
			part{r.Relayed, "of them encrypted, relayed by the old process"},
			part{r.Told, told}),
		r.Silent.Round(10*time.Microsecond), r.Took.Round(10*time.Microsecond))
}

// figures are those of f that are handed over, in the order of their bytes. New ones come last.
func figures(f *admin.Upgrades) []*uint64 {
	return []*uint64{&f.Done, &f.Refused, &f.Failed, &f.Moved, &f.Told}
}

// less is given without those that the successor tells to reconnect; relayed of them are relayed.
func less(given relay.Given, told, relayed int) relay.Given {
	relayed = min(relayed, given.Relayed)
	given.Relayed -= relayed
	plain := min(told-relayed, given.Plain)
	given.Plain -= plain
	given.Told += plain + relayed
	return given
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
