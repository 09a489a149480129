package webhooks

import (
	"net/url"
	"strings"

	"reverb/internal/lib/tallies"
)

// placeOf is where the hook with an address leads to, without a secret: "url" and the host, since a
// path may have a token, or "queue" and its name.
func placeOf(address string) string {
	if strings.HasPrefix(address, "queue ") {
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		return "url " // never: it was parsed before
	}
	return "url " + u.Host
}

// tallyLocked counts for a place.
func (a *App) tallyLocked(place string) *tallies.Tally {
	kind, to, _ := strings.Cut(place, " ")
	return a.tallies.At(kind, to)
}

// newTallies counts by reason.
func newTallies() *tallies.Tallies {
	var words []string
	for r := range reasons {
		words = append(words, r.String())
	}
	return tallies.New(words...)
}

// Figures returns what has become of the events since the app was made, by where they go, and how
// many wait for their grace to pass; nil: the app has never had hooks. An event for two URLs counts
// twice, whatever becomes of it.
func (a *App) Figures() (all []tallies.Figures, absent int) {
	if a == nil {
		return nil, 0
	}
	a.sender.mu.Lock() // an event is counted once: as waiting, delivered or lost
	defer a.sender.mu.Unlock()
	all = a.tallies.Figures(func(of *tallies.Tally, f *tallies.Figures) {
		for _, q := range a.queues {
			if q.tally != of {
				continue
			}
			f.Wait(len(q.taken)+q.waiting()+q.elsewhere.queued, q.elsewhere.oldest)
			if it := q.oldest(); it != nil {
				f.Wait(0, it.At)
			}
		}
	})
	absent = a.missing.Len()
	if !a.sender.held {
		absent += a.leaving.Len()
	}
	for _, q := range a.queues {
		absent += q.elsewhere.absent
	}
	return all, absent
}
