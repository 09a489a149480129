// Package plan measures the source of reverb: files, functions, sections, rooms and their exported
// names, and the crossings between root files. It reads only text. The program house prints its
// figures, and a test compares them with bounds.
package plan

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// MaxFunction bounds the lines of a function that is not flat.
	MaxFunction = 60
	// MaxSection bounds the lines of a section of a root file.
	MaxSection = 300
	// MaxColumns bounds the columns of a line; a tab counts tabColumns.
	MaxColumns = 100

	tabColumns = 4
	// flatFrame bounds the lines of a flat function outside of its one switch or table. Larger: a
	// function that is called flat may hide other work. Smaller: a table with a few lines of code
	// around it is not flat.
	flatFrame = 6
)

// Span is a part of a file.
type Span struct {
	File  string // relative to the root module
	Name  string
	Lines int
	Flat  bool // of a function: it is one switch or one composite literal
}

// File is a Go file.
type File struct {
	Name      string // relative to the root module
	Lines     int
	Wide      int    // lines of more than MaxColumns
	Functions []Span // each of more than MaxFunction lines
	Sections  []Span // all sections; the lines before the first mark are in none
}

// Room is a package below internal, or a leaf, with the packages below it that the program
// is built of.
type Room struct {
	Name     string // internal/cluster
	Leaf     bool
	Lines    int      // without tests
	Wide     int      // lines of more than MaxColumns, without tests
	Exported []string // names, and methods of exported types, of the room's own package
	Long     []Span   // functions of more than MaxFunction lines
}

// Root measures the Go files of the root, in order of their names, tests included.
func Root(root string) ([]File, error) {
	names, err := filepath.Glob(filepath.Join(root, "*.go"))
	if err != nil {
		return nil, err
	}
	var all []File
	for _, name := range names {
		f, _, err := measure(root, name)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// measure reads one file.
func measure(root, name string) (f File, tree *ast.File, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return f, nil, err
	}
	if f.Name, err = filepath.Rel(root, name); err != nil {
		return f, nil, err
	}
	section := -1
	for line := range strings.Lines(string(text)) {
		f.Lines++
		line = strings.TrimRight(line, "\r\n")
		if wide(line) {
			f.Wide++
		}
		if title, ok := strings.CutPrefix(line, "// --- "); ok {
			f.Sections = append(f.Sections,
				Span{File: f.Name, Name: strings.TrimSuffix(title, " ---")})
			section++
		}
		if section >= 0 {
			f.Sections[section].Lines++
		}
	}
	fset := token.NewFileSet()
	if tree, err = parser.ParseFile(fset, name, text, parser.SkipObjectResolution); err != nil {
		return f, nil, err
	}
	for _, d := range tree.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		if n := lines(fset, fn); n > MaxFunction {
			f.Functions = append(f.Functions,
				Span{f.Name, receiver(fn) + fn.Name.Name, n, flat(fset, fn)})
		}
	}
	return f, tree, nil
}

// wide says whether a line has more than MaxColumns columns.
func wide(line string) bool {
	tabs := strings.Count(line, "\t")
	return utf8.RuneCountInString(line)+tabs*(tabColumns-1) > MaxColumns
}

// Wide counts the lines of more than MaxColumns columns in the Go files of the root, each by its
// name, and in those below each folder of the root, by the name of the folder. Packages of npm,
// and folders whose names begin with a dot, do not count.
func Wide(root string) (byTree map[string]int, err error) {
	byTree = map[string]int{}
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			hidden := strings.HasPrefix(d.Name(), ".") && name != root
			if hidden || d.Name() == "node_modules" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		tree, _, _ := strings.Cut(filepath.ToSlash(relative), "/")
		byTree[tree] += 0 // the tree is listed also without such a line
		for line := range strings.Lines(string(text)) {
			if wide(strings.TrimRight(line, "\r\n")) {
				byTree[tree]++
			}
		}
		return nil
	})
	return byTree, err
}

func lines(fset *token.FileSet, n ast.Node) int {
	return fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1
}

// receiver is the type of a method and a point; empty for a function.
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	name := ""
	ast.Inspect(fn.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return name == ""
	})
	return name + "."
}

// flat says whether a function is one switch or one composite literal, with few other lines.
func flat(fset *token.FileSet, fn *ast.FuncDecl) bool {
	largest := 0
	for _, s := range fn.Body.List {
		switch s := s.(type) {
		case *ast.SwitchStmt, *ast.TypeSwitchStmt:
			largest = max(largest, lines(fset, s))
		case *ast.ReturnStmt:
			for _, e := range s.Results {
				largest = max(largest, table(fset, e))
			}
		case *ast.AssignStmt:
			for _, e := range s.Rhs {
				largest = max(largest, table(fset, e))
			}
		case *ast.RangeStmt: // over a table
			largest = max(largest, table(fset, s.X))
		}
	}
	return lines(fset, fn)-largest <= 2+flatFrame
}

func table(fset *token.FileSet, e ast.Expr) int {
	if u, ok := e.(*ast.UnaryExpr); ok {
		e = u.X
	}
	if c, ok := e.(*ast.CompositeLit); ok {
		return lines(fset, c)
	}
	return 0
}

// Rooms measures every package below internal that the program is built of.
func Rooms(root string) ([]Room, error) {
	list := exec.Command("go", "list", "-deps", "-f",
		"{{if not .Standard}}{{.ImportPath}}|{{.Dir}}|{{join .GoFiles \" \"}}{{end}}", ".")
	list.Dir, list.Stderr = root, os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	top, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	byName := map[string]*Room{}
	scan := bufio.NewScanner(bytes.NewReader(out))
	for scan.Scan() {
		f := strings.SplitN(scan.Text(), "|", 3)
		path, inside := strings.CutPrefix(f[0], "reverb/internal/")
		if !inside {
			continue
		}
		parts := strings.Split(path, "/")
		depth := 1
		if parts[0] == "lib" {
			depth = 2
		}
		name := "internal/" + strings.Join(parts[:depth], "/")
		r := byName[name]
		if r == nil {
			r = &Room{Name: name, Leaf: depth == 2}
			byName[name] = r
		}
		for _, file := range strings.Fields(f[2]) {
			m, tree, err := measure(top, filepath.Join(f[1], file))
			if err != nil {
				return nil, err
			}
			r.Lines, r.Wide, r.Long = r.Lines+m.Lines, r.Wide+m.Wide, append(r.Long, m.Functions...)
			if len(parts) == depth {
				r.Exported = append(r.Exported, exported(tree)...)
			}
		}
	}
	var all []Room
	for _, r := range byName {
		slices.Sort(r.Exported)
		all = append(all, *r)
	}
	slices.SortFunc(all, func(x, y Room) int { return cmp.Compare(x.Name, y.Name) })
	return all, scan.Err()
}

// exported lists the exported names of a file, and the methods of exported types.
func exported(tree *ast.File) (all []string) {
	add := func(prefix string, names ...*ast.Ident) {
		for _, n := range names {
			if n.IsExported() {
				all = append(all, prefix+n.Name)
			}
		}
	}
	for _, d := range tree.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if r := receiver(d); r == "" || ast.IsExported(r) {
				add(r, d.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					add("", s.Name)
				case *ast.ValueSpec:
					add("", s.Names...)
				}
			}
		}
	}
	return all
}

// Crossing is how many names, methods and fields of another root file one root file uses.
type Crossing struct {
	From, To               string
	Names, Methods, Fields int
}

// Crossings counts the lines of the list that TestCrossings holds.
func Crossings(list string) ([]Crossing, error) {
	text, err := os.ReadFile(list)
	if err != nil {
		return nil, err
	}
	var all []Crossing
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 4 {
			return nil, fmt.Errorf("%s: %q is not two files, a kind and a name", list, line)
		}
		i := slices.IndexFunc(all, func(c Crossing) bool { return c.From == f[0] && c.To == f[1] })
		if i < 0 {
			i, all = len(all), append(all, Crossing{From: f[0], To: f[1]})
		}
		switch f[2] {
		case "name":
			all[i].Names++
		case "method":
			all[i].Methods++
		case "field":
			all[i].Fields++
		default:
			return nil, fmt.Errorf("%s: %q is no kind of crossing", list, f[2])
		}
	}
	return all, nil
}
