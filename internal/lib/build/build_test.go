package build

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestOf(t *testing.T) {
	vcs := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"},
		{Key: "vcs.modified", Value: "true"}}
	for _, c := range []struct {
		version, revision, module string
		settings                  []debug.BuildSetting
		want                      string
	}{
		{"", "", "", nil, "unknown unknown"},
		{"", "", "(devel)", vcs[1:], "unknown unknown"},
		{"", "", "(devel)", vcs, "0123456789ab-dirty 0123456789ab-dirty"},
		{"", "", "", vcs[:1], "0123456789ab 0123456789ab"},
		{"", "", "v1.0.1", vcs[:1], "v1.0.1 0123456789ab"},
		{"1.1.0", "fedc", "v1.0.1", vcs, "1.1.0 fedc"},
	} {
		b := &debug.BuildInfo{Main: debug.Module{Version: c.module}, Settings: c.settings}
		i := of("p", c.version, c.revision, b)
		if got := i.Version + " " + i.Revision; got != c.want || i.Go != runtime.Version() {
			t.Errorf("got %s, %s, want %s", got, i.Go, c.want)
		}
	}
}

// TestThis has the build of this test, where only the given values are certain.
func TestThis(t *testing.T) {
	i := Of("reverb", "1.1.0", "")
	if i.Version != "1.1.0" || i.Revision == "" {
		t.Errorf("got %+v", i)
	}
	want := "reverb 1.1.0 (" + runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH + ")"
	if got := i.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
