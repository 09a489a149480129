package findings

import (
	"strings"
	"testing"
)

func TestFindings(t *testing.T) {
	var b strings.Builder
	f := &Findings{W: &b}
	f.Add(OK, "apps: %d", 2)
	f.Add(Note, "100 %%")
	if f.Failed {
		t.Error("a note is no failure")
	}
	f.Add(Fail, "Redis: %s", "gone")
	f.Add(OK, "the rest")
	want := "ok   apps: 2\nnote 100 %\nFAIL Redis: gone\nok   the rest\n"
	if b.String() != want || !f.Failed {
		t.Errorf("failed: %v; got\n%swant\n%s", f.Failed, b.String(), want)
	}
}
