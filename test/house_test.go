package test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"

	"reverb/test/house/plan"
)

// crossings is the list of what the root files use of each other, one a line: "main.go pusher.go
// field app.settings". It may only shrink.
const crossings = "testdata/house/crossings.txt"

// rooms has the parts of this program below internal, and which other rooms each of them may
// import. Below internal/lib are the leaves, which may import only other leaves. The folders of a
// room belong to it.
func rooms() map[string][]string {
	return map[string][]string{
		"protocol": nil, "memberlists": nil, "watchlists": nil, "envelopes": nil, "listen": nil,
		"journal": nil, "laravel": nil, "aliases": nil, "handover": nil, "acme": nil,
		"channels": {"protocol", "memberlists"}, "supervise": nil, "relay": nil, "shortage": nil,
		"reports": {"journal", "operator", "protocol"},
		"upgrade": {"handover", "supervise", "relay", "admin"},
		"engine":  {"channels", "protocol", "topics"},
		"httpapi": {"protocol"}, "admin": {"protocol"}, "client": {"protocol"},
		"history": {"protocol"}, "topics": {"protocol"}, "operator": {"admin", "protocol"},
		"signins":       {"protocol", "watchlists"},
		"subscriptions": {"channels", "handover", "protocol"},
		"cluster":       {"envelopes"}, "census": {"envelopes"},
		"config": {"apps", "laravel", "aliases", "hooks", "hookevents", "webhooks",
			"laravelqueue"},
		"apps":         {"aliases", "laravel", "hooks", "webhooks"},
		"posts":        {"protocol"},
		"spoolfolder":  nil,
		"hookevents":   {"protocol"},
		"hookentries":  {"hookevents", "posts", "protocol"},
		"webhooks":     {"hookentries", "hookevents", "protocol", "posts", "spoolfolder"},
		"laravelqueue": {"webhooks"},
		"outbox":       {"webhooks", "posts", "envelopes", "protocol", "topics"},
		"hooks":        {"hookevents", "webhooks", "posts"},
		"commands":     {"config", "client", "aliases"},
		"calls":        {"config", "client", "commands", "operator"},
	}
}

// TestRootFiles checks in which direction the root files know each other, that the methods of a
// type are in the type's file, and that only newEnding makes an ending.
func TestRootFiles(t *testing.T) {
	allowed := map[string][]string{
		"main.go":   {"ws.go", "pusher.go", "redis.go", "tls.go"},
		"pusher.go": {"ws.go"},
		"ws.go":     nil, "redis.go": nil, "tls.go": nil,
	}
	root := load(t, ".")[0]
	for line := range uses(root) {
		if f := strings.Fields(line); !slices.Contains(allowed[f[0]], f[1]) {
			t.Errorf("%s must not know %s", f[0], line[len(f[0])+1:])
		}
	}
	for _, f := range root.Syntax {
		file := fileOf(root, f.Package)
		if _, ok := allowed[file]; !ok {
			t.Errorf("%s must not stand at the root", file)
		}
		for _, g := range f.Comments {
			if strings.Contains(g.Text(), "//go:build") {
				t.Errorf("%s has a build tag", file)
			}
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && fn.Name.Name == "newEnding" {
				continue
			}
			if ok && fn.Recv != nil {
				recv := typeName(root.TypesInfo.TypeOf(fn.Recv.List[0].Type))
				if of := fileOf(root, root.Types.Scope().Lookup(recv).Pos()); of != file {
					t.Errorf("%s has a method of %s, which is in %s", file, recv, of)
				}
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if lit, ok := n.(*ast.CompositeLit); ok &&
					typeName(root.TypesInfo.TypeOf(lit)) == "ending" {
					t.Errorf("%s: an ending is made without being registered",
						root.Fset.Position(lit.Pos()))
				}
				return true
			})
		}
	}
}

// TestModuleRequirements checks that the root module requires only allowed modules.
func TestModuleRequirements(t *testing.T) {
	b, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(strings.TrimPrefix(line, "require"))
		if len(f) >= 2 && strings.Contains(f[0], ".") && f[0] != "golang.org/x/net" &&
			f[0] != "golang.org/x/sys" {
			t.Errorf("go.mod requires %s", strings.TrimSpace(line))
		}
	}
}

// TestReadmeLayout checks that the README has every room, every leaf and every root file.
func TestReadmeLayout(t *testing.T) {
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"../internal/*", "../internal/lib/*", "../*.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !strings.Contains(string(b), "`"+filepath.Base(name)+"`") {
				t.Errorf("the README lacks %s", name)
			}
		}
	}
}

// TestCrossings compares the names, methods and fields that root files use of each other with the
// list. REVERB_TEST_WRITE=1 writes the list again.
func TestCrossings(t *testing.T) {
	found := uses(load(t, ".")[0])
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

// uses lists what the root files use of each other, in the form of the list.
func uses(root *packages.Package) map[string]bool {
	found := map[string]bool{}
	for _, f := range root.Syntax {
		from := fileOf(root, f.Package)
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			obj := root.TypesInfo.Uses[id]
			if obj == nil || obj.Pkg() != root.Types {
				return true
			}
			if to, what := fileOf(root, obj.Pos()), describe(root.Types, obj); to != from &&
				what != "" {
				found[from+" "+to+" "+what] = true
			}
			return true
		})
	}
	return found
}

func fileOf(p *packages.Package, pos token.Pos) string {
	return filepath.Base(p.Fset.Position(pos).Filename)
}

// describe names an object in the form of the list; empty for a local variable.
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

// fieldOwner finds the type that declares a field.
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

// TestArrows compares every import between the packages of this program with rooms.
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
			case inside && toRoom && from != to &&
				(!fromRoom || !slices.Contains(allowed[from], to)):
				t.Errorf("%s imports %s: the house has no such arrow", p.PkgPath, path)
			}
		}
	}
}

// bounds has the bounds of parts of the house: the lines of a root file, of a room and of a leaf,
// the exported names and methods of a room (room exported), and the lines of a long function or
// section (file name). A part that is not in the table has the bound of its kind, see other. If a
// part has not reached its aim, which is in a comment, the bound is its last figure. A bound may
// only shrink.
func bounds() map[string]int {
	return map[string]int{
		"main.go":      1300,
		"pusher.go":    1800,
		"ws.go":        1500,
		"redis.go":     1000,
		"tls.go":       500,
		"main_test.go": 2000,

		"internal/protocol exported": 80,
	}
}

// TestBounds compares the house with bounds. With REVERB_TEST_WRITE=1 it tells the parts that are
// below their bounds, so that the bounds can be tightened.
func TestBounds(t *testing.T) {
	// lines, names and methods of parts that are not in the table
	const other, otherExported = 2500, 40
	left := bounds()
	judge := func(name string, size, limit int) {
		bound, listed := left[name]
		delete(left, name)
		if !listed {
			bound = limit
		}
		if size > bound {
			t.Errorf("%s has %d, want at most %d", name, size, bound)
		} else if listed && size < bound && os.Getenv("REVERB_TEST_WRITE") != "" {
			t.Logf("%s has %d; the bound is %d", name, size, bound)
		}
	}
	files, err := plan.Root("..")
	if err != nil {
		t.Fatal(err)
	}
	var long []plan.Span
	for _, f := range files {
		judge(f.Name, f.Lines, 0)
		if !strings.HasSuffix(f.Name, "_test.go") {
			long = append(long, f.Functions...)
			for _, s := range f.Sections {
				judge(s.File+" "+s.Name, s.Lines, plan.MaxSection)
			}
		}
	}
	all, err := plan.Rooms("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		judge(r.Name, r.Lines, other)
		judge(r.Name+" exported", len(r.Exported), otherExported)
		long = append(long, r.Long...)
	}
	for _, f := range long {
		if !f.Flat {
			judge(f.File+" "+f.Name, f.Lines, plan.MaxFunction)
		}
	}
	if os.Getenv("REVERB_TEST_WRITE") != "" {
		for _, name := range slices.Sorted(maps.Keys(left)) {
			t.Logf("%s is within the bounds of the others or gone; it needs no row", name)
		}
	}
}

// wideLines bounds the lines of more than plan.MaxColumns columns, by tree: a file of the root, or
// a folder. Every other tree has none. A bound may only shrink.
func wideLines() map[string]int {
	return map[string]int{}
}

// TestColumns counts the lines that are too long to read beside another file.
func TestColumns(t *testing.T) {
	found, err := plan.Wide("..")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 4 {
		t.Fatalf("found only the trees %v", found)
	}
	bounds := wideLines()
	for tree, n := range found {
		switch bound := bounds[tree]; {
		case n > bound:
			t.Errorf("%s has %d lines of more than %d columns, want at most %d", tree, n,
				plan.MaxColumns, bound)
		case n < bound && os.Getenv("REVERB_TEST_WRITE") != "":
			t.Logf("%s has %d lines of more than %d columns; the bound is %d", tree, n,
				plan.MaxColumns, bound)
		}
		delete(bounds, tree)
	}
	for tree := range bounds {
		t.Errorf("%s is gone; it needs no bound", tree)
	}
}

// TestFlat checks that plan distinguishes tables and switches from other long functions.
func TestFlat(t *testing.T) {
	dir := t.TempDir()
	rows := strings.Repeat("\t\t1,\n", 70)
	cases := strings.Repeat("\tcase 1:\n\t\treturn 2\n", 40)
	write(t, dir, "a.go", []byte("package a\n\n// --- One ---\n\nfunc table() []int {\n\treturn "+
		"[]int{\n"+rows+"\t}\n}\n\n"+
		"// --- Two ---\n\nfunc (x *T[int]) choose(i int) int {\n\tx.f()\n\tswitch i {\n"+cases+
		"\t}\n\treturn 0\n}\n\n"+
		"func work() {\n"+strings.Repeat("\tf()\n", 59)+"}\n\nfunc short() {\n"+
		strings.Repeat("\tf()\n", 58)+"}\n"))
	files, err := plan.Root(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []plan.Span{{File: "a.go", Name: "table", Lines: 74, Flat: true},
		{File: "a.go", Name: "T.choose", Lines: 86, Flat: true},
		{File: "a.go", Name: "work", Lines: 61}}
	if got := files[0]; !slices.Equal(got.Functions, want) || len(got.Sections) != 2 ||
		got.Sections[0].Lines != 77 {
		t.Errorf("got %+v", got)
	}
}

// load type-checks packages of the program, without their tests.
func load(t *testing.T, pattern string) []*packages.Package {
	t.Helper()
	loaded, err := packages.Load(&packages.Config{Dir: "..",
		Env: append(os.Environ(), "CGO_ENABLED=0"),
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes |
			packages.NeedTypesInfo | packages.NeedImports | packages.NeedDeps |
			packages.NeedExportFile}, pattern)
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
