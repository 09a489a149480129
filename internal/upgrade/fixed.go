package upgrade

import (
	"cmp"
	"encoding/json"
	"fmt"
)

// Fixed is a setting that an upgrade cannot change, since the successor gets the listeners and the
// connections to Redis as they are: the variables that set it, and its value, which is no secret.
type Fixed [2]string

// Keep judges the settings of this process by those of its predecessor, and leaves them to its
// successor. The error names the first one that has changed.
func (h *Heritage) Keep(all []Fixed) error {
	if h.Role == nil {
		return nil
	}
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	h.Role.Keep(string(b))
	if !h.Heir() {
		return nil
	}
	return compare(h.Role.Kept(), all)
}

// changed is the error of a setting that has changed.
type changed struct{ error }

// compare compares settings with what Keep has left. A predecessor that has left nothing, or that
// does not know a setting, is of another version: what it does not tell counts as unchanged.
func compare(kept string, all []Fixed) error {
	var was []Fixed
	if err := json.Unmarshal([]byte(kept), &was); err != nil {
		return nil
	}
	old := make(map[string]string, len(was))
	for _, v := range was {
		old[v[0]] = v[1]
	}
	for _, v := range all {
		if before, known := old[v[0]]; known && before != v[1] {
			return changed{fmt.Errorf("%s has changed: %s → %s, which an upgrade cannot do: "+
				"stop and start instead", v[0], cmp.Or(before, "none"), cmp.Or(v[1], "none"))}
		}
	}
	return nil
}
