//go:build linux

package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"hash/fnv"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// drawnFrom are the parts that defects are drawn from, in proportion to their lines:
// files of the root, and packages. A part that does not exist is left out.
var drawnFrom = []string{"ws.go", "pusher.go", "redis.go", "internal/cluster", "internal/envelopes",
	"internal/channels", "internal/topics", "internal/config", "internal/admin", "internal/httpapi"}

var kinds = []string{"negate", "drop", "constant", "swap"}

// candidate is a defect that could be drawn.
type candidate struct {
	defect
	kind     string
	rank     uint64 // the order of drawing: a hash of seed and name
	at, size int    // the bytes of the file that it replaces
	by       string
}

// part is one of drawnFrom.
type part struct {
	lines      int
	candidates map[string][]*candidate // by kind, in the order of drawing
	compiles   func(c *candidate, text []byte) bool
}

// draw chooses defects. Within a part the kinds take turns.
func draw(seed uint64, count int) ([]*defect, error) {
	lookup, err := exports()
	if err != nil {
		return nil, err
	}
	var parts []*part
	lines := 0
	for _, name := range drawnFrom {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			continue
		}
		p, err := readPart(name, seed, lookup)
		if err != nil {
			return nil, err
		}
		parts, lines = append(parts, p), lines+p.lines
	}
	var all []*defect
	passed := 0
	for _, p := range parts {
		begin := (count*passed + lines/2) / lines
		passed += p.lines
		for i := begin; i < (count*passed+lines/2)/lines; i++ {
			if c := p.next(i); c != nil {
				all = append(all, &c.defect)
			}
		}
	}
	return all, nil
}

// next takes the next candidate that compiles, of kind i or else of a later one.
func (p *part) next(i int) *candidate {
	for k := range kinds {
		kind := kinds[(i+k)%len(kinds)]
		for len(p.candidates[kind]) > 0 {
			c := p.candidates[kind][0]
			p.candidates[kind] = p.candidates[kind][1:]
			source, err := os.ReadFile(filepath.Join(root, c.file))
			if err != nil {
				panic(err) // it was read a moment ago
			}
			c.text = slices.Concat(source[:c.at], []byte(c.by), source[c.at+c.size:])
			if p.compiles(c, c.text) {
				return c
			}
		}
	}
	return nil
}

// exports finds the export data of everything that the root module imports.
func exports() (func(path string) (io.ReadCloser, error), error) {
	out, err := output("go", "list", "-deps", "-export", "-f", "{{.ImportPath}}|{{.Export}}",
		"./...")
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		p, file, _ := strings.Cut(strings.TrimSpace(line), "|")
		files[p] = file
	}
	return func(p string) (io.ReadCloser, error) { return os.Open(files[p]) }, nil
}

// readPart parses a part and finds its candidates.
func readPart(name string, seed uint64, lookup func(string) (io.ReadCloser, error)) (*part, error) {
	dir := name
	if strings.HasSuffix(name, ".go") {
		dir = "."
	}
	names, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	sources, files := map[string][]byte{}, map[string]*ast.File{}
	for _, n := range names {
		if strings.HasSuffix(n, "_test.go") {
			continue
		}
		if sources[n], err = os.ReadFile(n); err != nil {
			return nil, err
		}
		if files[n], err = parser.ParseFile(fset, n, sources[n],
			parser.SkipObjectResolution); err != nil {
			return nil, err
		}
	}
	imports := importer.ForCompiler(fset, "gc", lookup)
	check := func(files map[string]*ast.File, info *types.Info) error {
		var ordered []*ast.File
		for _, n := range names {
			if files[n] != nil {
				ordered = append(ordered, files[n])
			}
		}
		_, err := (&types.Config{Importer: imports}).Check(path.Join("reverb", dir), fset, ordered,
			info)
		return err
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{},
		Uses: map[*ast.Ident]types.Object{}}
	if err := check(files, info); err != nil {
		return nil, fmt.Errorf("%s does not compile: %w", name, err)
	}
	p := &part{candidates: map[string][]*candidate{}}
	p.compiles = func(c *candidate, text []byte) bool {
		n := filepath.Join(root, c.file)
		changed, err := parser.ParseFile(fset, n, text, parser.SkipObjectResolution)
		if err != nil {
			return false
		}
		others := map[string]*ast.File{n: changed}
		for k, f := range files {
			if k != n {
				others[k] = f
			}
		}
		return check(others, nil) == nil
	}
	for _, n := range names {
		if files[n] == nil || dir == "." && filepath.Base(n) != name {
			continue
		}
		p.lines += bytes.Count(sources[n], []byte("\n"))
		f := &finder{file: filepath.ToSlash(filepath.Join(dir, filepath.Base(n))), fset: fset,
			source: sources[n], info: info, seen: map[string]int{}, seed: seed}
		f.find(files[n])
		for _, c := range f.found {
			p.candidates[c.kind] = append(p.candidates[c.kind], c)
		}
	}
	for _, list := range p.candidates {
		slices.SortFunc(list, func(a, b *candidate) int {
			return cmp.Or(cmp.Compare(a.rank, b.rank),
				cmp.Compare(a.name, b.name))
		})
	}
	return p, nil
}

// finder finds the candidates of one file.
type finder struct {
	file     string
	fset     *token.FileSet
	source   []byte
	info     *types.Info
	seed     uint64
	function string
	seen     map[string]int // names given, to tell like ones apart
	found    []*candidate
}

func (f *finder) find(file *ast.File) {
	for _, d := range file.Decls {
		f.function = "-"
		if fn, ok := d.(*ast.FuncDecl); ok {
			f.function = fn.Name.Name
			if fn.Recv != nil && len(fn.Recv.List) == 1 {
				f.function = strings.TrimLeft(f.text(fn.Recv.List[0].Type), "*") + "." + f.function
			}
		}
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.IMPORT {
			continue
		}
		var line ast.Node // the smallest statement or specification around a node
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Field: // its tag
				return false
			case *ast.CallExpr:
				if f.said(n) {
					return false
				}
				f.swaps(n)
			case *ast.IfStmt:
				f.add("negate", n.Cond, "!("+f.text(n.Cond)+")", n.Cond)
			case *ast.ForStmt:
				if n.Cond != nil {
					f.add("negate", n.Cond, "!("+f.text(n.Cond)+")", n.Cond)
				}
			case *ast.ExprStmt:
				if call, ok := n.X.(*ast.CallExpr); ok && !f.said(call) {
					f.add("drop", n, "", n)
				}
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE && f.text(n.Lhs[0]) != "_" {
					f.add("drop", n, "", n)
				}
			case *ast.IncDecStmt, *ast.DeferStmt:
				f.add("drop", n, "", n)
			case *ast.BasicLit:
				if n.Kind == token.INT {
					if v, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
						f.add("constant", n, strconv.FormatInt(v+1, 10), line)
					}
				}
			case *ast.Ident:
				if other := map[string]string{"true": "false",
					"false": "true"}[n.Name]; other != "" &&
					f.info.Uses[n] == types.Universe.Lookup(n.Name) {
					f.add("constant", n, other, line)
				}
			}
			switch n.(type) {
			case ast.Stmt, ast.Spec:
				line = n
			}
			return true
		})
	}
}

// said is true of what only a reader of the log or of a stack would miss.
func (f *finder) said(call *ast.CallExpr) bool {
	if name, ok := call.Fun.(*ast.Ident); ok {
		return name.Name == "panic"
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	t := f.info.Types[method.X].Type
	return t != nil && t.String() == "*log/slog.Logger"
}

// swaps adds the neighbouring arguments of one type that can be swapped.
func (f *finder) swaps(call *ast.CallExpr) {
	switch name := f.text(call.Fun); name {
	case "min", "max", "swap", "bytes.Equal", "subtle.ConstantTimeCompare", "strings.EqualFold",
		"strings.ContainsAny":
		// symmetric
		return
	}
	for i := range len(call.Args) - 1 {
		a, b := call.Args[i], call.Args[i+1]
		ta, tb := f.info.Types[a].Type, f.info.Types[b].Type
		if ta == nil || tb == nil || !types.Identical(ta, tb) || f.text(a) == f.text(b) ||
			call.Ellipsis.IsValid() && i == len(call.Args)-2 {
			continue
		}
		between := string(f.source[f.offset(a.End()):f.offset(b.Pos())])
		f.addRange("swap", f.offset(a.Pos()), f.offset(b.End()), f.text(b)+between+f.text(a), call)
	}
}

func (f *finder) offset(p token.Pos) int { return f.fset.Position(p).Offset }

func (f *finder) text(n ast.Node) string {
	return string(f.source[f.offset(n.Pos()):f.offset(n.End())])
}

func (f *finder) add(kind string, n ast.Node, by string, shown ast.Node) {
	f.addRange(kind, f.offset(n.Pos()), f.offset(n.End()), by, shown)
}

// addRange adds a candidate that replaces the bytes from begin to end. Its name shows a
// line of the node around it, and for a constant and a swap what comes in its place.
func (f *finder) addRange(kind string, begin, end int, by string, shown ast.Node) {
	text, _, _ := strings.Cut(f.text(shown), "\n")
	if kind == "constant" || kind == "swap" {
		text = string(f.source[begin:end]) + " -> " + by + " in " + text
	}
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > 100 {
		text = string(runes[:100]) + "..."
	}
	name := f.file + ":" + f.function + ":" + kind + ":" + text
	if f.seen[name]++; f.seen[name] > 1 {
		name += " #" + strconv.Itoa(f.seen[name])
	}
	h := fnv.New64a()
	h.Write(binary.LittleEndian.AppendUint64(nil, f.seed))
	io.WriteString(h, name)
	f.found = append(f.found, &candidate{defect: defect{name: name, file: f.file}, kind: kind,
		rank: mix(h.Sum64()), at: begin, size: end - begin, by: by})
}

// mix spreads the bits of FNV, whose last bytes change little (MurmurHash3's finalizer).
func mix(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
