// Package heirs finds out what takes the place of what, when some things go and others come: of the
// things at one place, exactly one has gone, and exactly one has come. It has no state.
package heirs

// Find returns which of the things that come takes the place of which of those that go, by the
// latter. gone has their places; at is the place of one that comes.
func Find[K, V comparable](gone map[K]string, come []V, at func(V) string) map[K]V {
	new, old := map[string][]V{}, map[string]int{}
	for _, v := range come {
		new[at(v)] = append(new[at(v)], v)
	}
	for _, place := range gone {
		old[place]++
	}
	heirs := map[K]V{}
	for k, place := range gone {
		if old[place] == 1 && len(new[place]) == 1 {
			heirs[k] = new[place][0]
		}
	}
	return heirs
}
