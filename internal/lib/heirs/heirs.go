// Package heirs finds out what takes the place of what, when some things go and others come: of the
// things at one place, exactly one has gone, and exactly one has come. It has no state.
package heirs

// Find returns which of the things that come takes the place of which of those that go, by the
// latter. gone has their places; at is the place of one that comes.
func Find(gone map[string]string, come []string, at func(string) string) map[string]string {
	new, old := map[string][]string{}, map[string]int{}
	for _, v := range come {
		new[at(v)] = append(new[at(v)], v)
	}
	for _, place := range gone {
		old[place]++
	}
	heirs := map[string]string{}
	for k, place := range gone {
		if old[place] == 1 && len(new[place]) == 1 {
			heirs[k] = new[place][0]
		}
	}
	return heirs
}
