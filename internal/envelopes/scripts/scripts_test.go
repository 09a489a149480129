package scripts

import (
	"crypto/sha1"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestScripts checks each script: its digest, the channels on which it publishes, the errors that
// name a key, and the fence.
func TestScripts(t *testing.T) {
	for i := range 4 {
		sharded, telling := i%2 == 1, i >= 2
		set := New(sharded, telling)
		texts, seen := set.Texts(), map[string]bool{}
		for i, s := range set.All() {
			if s.Name == "" || seen[s.Name] || texts[i] != s.Text {
				t.Errorf("script %d is called %q, and its text is %q", i, s.Name, texts[i])
			}
			seen[s.Name] = true
			if want := fmt.Sprintf("%x", sha1.Sum([]byte(s.Text))); s.SHA != want {
				t.Errorf("%s: got the digest %s, want %s", s.Name, s.SHA, want)
			}
			if got := strings.Contains(s.Text, "'PUBLISH'"); sharded && got {
				t.Errorf("%s publishes on a channel that is not sharded", s.Name)
			}
			if strings.Contains(s.Text, "$BODY") || strings.Contains(s.Text, "$KINDS") {
				t.Errorf("%s: naming has left a gap in %s", s.Name, s.Text)
			}
			// the commands of the others fail on no type
			names := !slices.Contains([]string{"cached", "forget", "claim"}, s.Name)
			if got := strings.Contains(s.Text, "WRONGTYPE the key"); got != names {
				t.Errorf("%s: an error names the key: %v, want %v", s.Name, got, names)
			}
			// A dead node's scripts about a topic are refused, but others must bury it.
			fence := s.OfTopic && s.Name != "bury" && s.Name != "tell"
			if got := strings.Contains(s.Text, "== 1 then return fenced()"); got != fence {
				t.Errorf("%s has a fence: %v, want %v", s.Name, got, fence)
			}
			// Nobody pays for hooks that are off.
			tells := telling && s.OfTopic && s.Name != "tell" && s.Name != "lane"
			if got := strings.Contains(s.Text, "local function tell"); got != tells ||
				strings.Contains(s.Text, ofHooks) ||
				!telling && strings.Contains(s.Text, "tell(") {
				t.Errorf("%s tells of transitions: %v, want %v", s.Name, got, tells)
			}
		}
		if publish := "'" + map[bool]string{true: "S"}[sharded] + "PUBLISH'"; !strings.Contains(
			set.Cached.Text, publish) {
			t.Errorf("sharded %v: cached does not use %s", sharded, publish)
		}
	}
}
