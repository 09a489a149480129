// Package build tells the version and the revision of the running program.
//
// The build may give them in variables that the linker sets (-ldflags -X). If it does not, they
// come from what Go notes in the binary (debug/buildinfo). The package keeps nothing and reads no
// file.
package build

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// unknown stands for a fact that nothing tells.
const unknown = "unknown"

// Info identifies the build of a program. No field is empty.
type Info struct {
	Program  string // its name
	Version  string // such as 1.1.0
	Revision string // of the repository; -dirty: with changes that are not committed
	Go       string // the version of Go, such as go1.25.0
	Platform string // such as linux/amd64
}

// Of identifies this program. version and revision come from the build; either may be empty. An
// empty version is replaced by that of the module, which Go makes of the tag or the commit of a
// checkout, or else by the revision.
func Of(program, version, revision string) Info {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		b = &debug.BuildInfo{}
	}
	return of(program, version, revision, b)
}

func of(program, version, revision string, b *debug.BuildInfo) Info {
	noted, dirty := "", ""
	for _, s := range b.Settings {
		switch {
		case s.Key == "vcs.revision":
			noted = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if noted != "" {
		noted += dirty
	}
	module := b.Main.Version
	if module == "(devel)" {
		module = ""
	}
	return Info{program, cmp.Or(version, module, noted, unknown), cmp.Or(revision, noted, unknown),
		runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
}

// String has everything but the revision: reverb 1.1.0 (go1.25.0, linux/amd64).
func (i Info) String() string {
	return fmt.Sprintf("%s %s (%s, %s)", i.Program, i.Version, i.Go, i.Platform)
}
