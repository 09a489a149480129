package envelopes

import (
	"slices"
	"testing"

	"reverb/internal/lib/resp"
)

func hashOf(pairs ...string) (hash []resp.Reply) {
	for _, s := range pairs {
		hash = append(hash, resp.Reply{Kind: resp.Text, Text: s})
	}
	return hash
}

func TestSumOfProcesses(t *testing.T) {
	hash := hashOf("aa-2", "5", "aa-1", "3", "bb-9", "1", "bb-10", "2", "stranger", "7",
		"cc-1", "nonsense")
	if got := SumOfProcesses(hash); got != 5+2+7 {
		t.Errorf("got %d, want 14", got)
	}
}

func TestIncarnation(t *testing.T) {
	id := Incarnation(0xab, 12)
	if id != "00000000000000ab-12" || ProcessOf(id) != "00000000000000ab" {
		t.Errorf("got %s of %s", id, ProcessOf(id))
	}
}

func TestUsers(t *testing.T) {
	got := Users(hashOf("c", "10:{}", "a", "9:", "strange", "foo", "b", `11:{"x":1}`))
	if want := []string{"strange", "a", "c", "b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
