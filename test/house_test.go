package test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// crossings is the list of what the root files use of one another, a line each:
// "main.go pusher.go field app.settings". It may only shrink.
const crossings = "testdata/house/crossings.txt"

// rooms are the parts of this program below internal, and which other rooms each of them
// may import: the picture of the house. Below internal/lib stand the leaves, which may
// import other leaves alone. A folder of a room belongs to it.
func rooms() map[string][]string {
	return map[string][]string{
		"protocol": nil, "channels": nil, "memberlists": nil, "cluster": nil, "laravel": nil, "handover": nil, "acme": nil,
		"httpapi": {"protocol"}, "admin": {"protocol"}, "client": {"protocol"}, "history": {"protocol"},
		"config": {"laravel"}, "hooks": {"protocol", "laravel"},
	}
}

// TestCrossings compares what the root files use of one another, names, methods and
// fields, with the list. REVERB_TEST_WRITE=1 writes the list anew.
func TestCrossings(t *testing.T) {
	root := load(t, ".")[0]
	found := map[string]bool{}
	for _, f := range root.Syntax {
		from := filepath.Base(root.Fset.Position(f.Package).Filename)
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			obj := root.TypesInfo.Uses[id]
			if obj == nil || obj.Pkg() != root.Types {
				return true
			}
			if to, what := filepath.Base(root.Fset.Position(obj.Pos()).Filename), describe(root.Types, obj); to != from && what != "" {
				found[from+" "+to+" "+what] = true
			}
			return true
		})
	}
	got := sorted(found)
	if os.Getenv("REVERB_TEST_WRITE") != "" {
		if err := os.WriteFile(crossings, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(crossings)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("a crossing that is not on the list: %s", line)
		}
	}
	for _, line := range want {
		if !found[line] {
			t.Errorf("a crossing that is gone; take it off the list: %s", line)
		}
	}
}

// describe names an object as the list does; empty for a local variable.
func describe(pkg *types.Package, obj types.Object) string {
	switch o := obj.(type) {
	case *types.Func:
		if recv := o.Signature().Recv(); recv != nil {
			return "method " + typeName(recv.Type()) + "." + o.Name()
		}
	case *types.Var:
		if o.IsField() {
			return "field " + fieldOwner(pkg, o) + "." + o.Name()
		}
	}
	if obj.Parent() != pkg.Scope() {
		return ""
	}
	return "name " + obj.Name()
}

func typeName(t types.Type) string {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := t.(*types.Named); ok {
		return n.Obj().Name()
	}
	return "interface"
}

// fieldOwner finds the type in whose declaration a field stands.
func fieldOwner(pkg *types.Package, field *types.Var) string {
	for _, name := range pkg.Scope().Names() {
		tn, ok := pkg.Scope().Lookup(name).(*types.TypeName)
		if !ok {
			continue
		}
		if s, ok := tn.Type().Underlying().(*types.Struct); ok {
			for f := range s.Fields() {
				if f.Origin() == field.Origin() {
					return name
				}
			}
		}
	}
	return "struct"
}

// TestArrows holds every import between the packages of this program against the picture
// of the house.
func TestArrows(t *testing.T) {
	const below = "reverb/internal/"
	allowed := rooms()
	for _, p := range load(t, "./...") {
		from, inside := strings.CutPrefix(p.PkgPath, below)
		if !inside {
			continue // the root knows every room
		}
		from, _, _ = strings.Cut(from, "/")
		_, fromRoom := allowed[from]
		if !fromRoom && from != "lib" {
			t.Errorf("%s is neither a room of the picture nor a leaf below internal/lib", p.PkgPath)
		}
		for path := range p.Imports {
			to, inside := strings.CutPrefix(path, below)
			to, _, _ = strings.Cut(to, "/")
			_, toRoom := allowed[to]
			switch {
			case path == "reverb":
				t.Errorf("%s imports the root", p.PkgPath)
			case inside && toRoom && from != to && (!fromRoom || !slices.Contains(allowed[from], to)):
				t.Errorf("%s imports %s: the house has no such arrow", p.PkgPath, path)
			}
		}
	}
}

// load type-checks packages of the program, without their tests.
func load(t *testing.T, pattern string) []*packages.Package {
	t.Helper()
	loaded, err := packages.Load(&packages.Config{Dir: "..", Env: append(os.Environ(), "CGO_ENABLED=0"),
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedImports | packages.NeedDeps | packages.NeedExportFile}, pattern)
	if err != nil {
		t.Fatal(err)
	}
	var problems bytes.Buffer
	for _, p := range loaded {
		for _, e := range p.Errors {
			fmt.Fprintln(&problems, e)
		}
	}
	if problems.Len() > 0 {
		t.Fatal(problems.String())
	}
	return loaded
}

func sorted(set map[string]bool) (all []string) {
	for s := range set {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}
