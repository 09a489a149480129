package limits

import "testing"

func TestRaiseFiles(t *testing.T) {
	got := RaiseFiles()
	soft, hard := Files()
	if got != soft || soft > hard {
		t.Errorf("got %d, want the soft limit %d, at most %d", got, soft, hard)
	}
}
