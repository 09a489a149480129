package cluster

import (
	"slices"
	"testing"

	"reverb/internal/cluster/redismodel"
	"reverb/internal/cluster/scripts"
)

// TestModelKnowsScripts holds that the model takes the scripts for what they are.
func TestModelKnowsScripts(t *testing.T) {
	var names []string
	for _, s := range scripts.New(false).All() {
		names = append(names, s.Name)
	}
	if !slices.Equal(names, redismodel.Scripts) {
		t.Errorf("the model knows the scripts %q, want %q", redismodel.Scripts, names)
	}
}
