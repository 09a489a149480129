package credentials

import (
	"regexp"
	"testing"
)

func TestNew(t *testing.T) {
	id, key, secret := New()
	again, other, third := New()
	for _, v := range []struct{ pattern, text string }{
		{`^[1-9][0-9]{5}$`, id}, {`^[a-z2-7]{20}$`, key}, {`^[a-z2-7]{20}$`, secret},
	} {
		if !regexp.MustCompile(v.pattern).MatchString(v.text) {
			t.Errorf("got %q, want %s", v.text, v.pattern)
		}
	}
	if key == secret || key == other || secret == third || id == again && key == other {
		t.Errorf("drawn twice: %s %s %s, %s %s %s", id, key, secret, again, other, third)
	}
}
