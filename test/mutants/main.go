//go:build linux

// Mutants judges the tests: it plants one defect at a time and runs the tests that
// should notice it. Run it in test/, while the machine has nothing else to do:
//
//	go run ./mutants                 all defects, some minutes on two cores
//	go run ./mutants -list           their names
//	go run ./mutants -run 'R1|P[0-9]' those whose name or text matches
//
// Some defects were chosen by a person (named.txt). The others are drawn from the source
// (draw.go): the same seed draws the same defects from the same functions, so that an edit
// elsewhere changes nothing. No file is changed: the compiler reads the defect through
// -overlay. A defect is killed when a fast test of a package that contains or imports the
// changed file fails, or when it does not end.
package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	root          = ".." // the root module
	drawnByItself = 40   // how many defects are drawn
	maxEquivalent = 6    // defects that may be marked as changing nothing
	maxNamed      = 2    // named defects that may survive
	maxDrawn      = 10   // percent of the drawn ones that may survive
	testTimeout   = "60s"
	// Redis alone can run these: TestRedisModel of test/ compares them with the model
	redisScripts = "internal/envelopes/scripts/"
	maxMemoryKiB = 6 << 20 // address space of a test: a defect may ask for memory without end
)

//go:embed named.txt
var namedText string

//go:embed equivalent.txt
var equivalentText string

// defect is one change of the program.
type defect struct {
	name string // of a drawn one: file:function:kind:text
	what string // for named ones
	file string // relative to the root module
	text []byte // of the whole file, changed
}

// result is what the tests said.
type result struct {
	*defect
	word string // killed, survived, equivalent, broken (does not compile)
	by   string // the test that killed it
	took time.Duration
}

func main() {
	pattern := flag.String("run", "",
		"only the defects whose name or text matches this `regexp`; then none may survive")
	seed := flag.Uint64("seed", 1, "what the drawn defects are drawn with")
	count := flag.Int("drawn", drawnByItself, "how many are drawn")
	jobs := flag.Int("jobs", 2, "how many are tried at the same time")
	list := flag.Bool("list", false, "print the defects and try none")
	flag.Parse()
	ok, err := run(*pattern, *seed, *count, *jobs, *list)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// run says whether few enough defects have survived.
func run(pattern string, seed uint64, count, jobs int, list bool) (bool, error) {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return false, err
	}
	all, err := parseNamed(namedText, match)
	if err != nil {
		return false, err
	}
	drawn, err := draw(seed, count)
	if err != nil {
		return false, err
	}
	equivalent, err := parseEquivalent(equivalentText)
	if err != nil {
		return false, err
	}
	all = append(all, slices.DeleteFunc(drawn,
		func(d *defect) bool { return !match.MatchString(d.name) })...)
	if list {
		for _, d := range all {
			fmt.Println(strings.TrimSpace(d.name + " " + d.what))
		}
		return true, nil
	}
	packages, err := listPackages()
	if err != nil {
		return false, err
	}
	if why := test(packages, "", nil); why != "" {
		return false, fmt.Errorf("the tests fail without a defect: %s", why)
	}
	begin := time.Now()
	results := try(all, packages, equivalent, jobs)
	ok := summarize(results, pattern != "")
	fmt.Printf("%v\n", time.Since(begin).Round(time.Second))
	return ok, nil
}

// parseNamed reads the defects of named.txt that match. A defect whose old text does not
// occur exactly once is stale: all stale ones are reported together.
func parseNamed(text string, match *regexp.Regexp) ([]*defect, error) {
	var all []*defect
	var stale []error
	for _, block := range strings.Split(text, "\n\n") {
		lines := slices.DeleteFunc(strings.Split(strings.Trim(block, "\n"), "\n"),
			func(l string) bool { return strings.HasPrefix(l, "#") })
		if len(lines) == 0 {
			continue
		}
		if len(lines) < 3 {
			return nil, fmt.Errorf(
				"named.txt: %q is not a name, a file and lines that begin with - and +", block)
		}
		d := &defect{file: lines[1]}
		d.name, d.what, _ = strings.Cut(lines[0], " ")
		if !match.MatchString(lines[0]) {
			continue
		}
		var before, after []string
		for _, l := range lines[2:] {
			if old, ok := strings.CutPrefix(l, "-"); ok {
				before = append(before, old)
			} else if now, ok := strings.CutPrefix(l, "+"); ok {
				after = append(after, now)
			} else {
				return nil, fmt.Errorf("named.txt: %s: the line %q begins with neither - nor +",
					d.name, l)
			}
		}
		source, err := os.ReadFile(filepath.Join(root, d.file))
		if err != nil {
			return nil, fmt.Errorf("named.txt: %s: %w", d.name, err)
		}
		old := []byte(strings.Join(before, "\n"))
		if n := bytes.Count(source, old); n != 1 {
			stale = append(stale, fmt.Errorf("named.txt: %s is stale: "+
				"its text occurs %d times in %s, want once", d.name, n, d.file))
		}
		d.text = bytes.Replace(source, old, []byte(strings.Join(after, "\n")), 1)
		all = append(all, d)
	}
	return all, errors.Join(stale...)
}

// parseEquivalent reads equivalent.txt: reasons by name.
func parseEquivalent(text string) (map[string]string, error) {
	reasons := map[string]string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, reason, ok := strings.Cut(line, "\t")
		if !ok {
			return nil, fmt.Errorf("equivalent.txt: %q has no tab and reason", line)
		}
		reasons[name] = reason
	}
	if len(reasons) > maxEquivalent {
		return nil, fmt.Errorf("equivalent.txt: %d defects are marked, at most %d may be",
			len(reasons), maxEquivalent)
	}
	return reasons, nil
}

// pkg is a package of the root module that has tests.
type pkg struct {
	path, dir string   // dir is relative to the root module
	needs     []string // paths of packages that it or its tests import, also indirectly
}

func listPackages() ([]pkg, error) {
	out, err := output("go", "list", "-f", `{{if or .TestGoFiles `+
		`.XTestGoFiles}}{{.ImportPath}}|{{.Dir}}|{{join .Deps " "}} {{join .TestImports " "}} `+
		`{{join .XTestImports " "}}{{end}}`, "./...")
	if err != nil {
		return nil, err
	}
	top, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	var all []pkg
	for line := range strings.Lines(string(out)) {
		fields := strings.SplitN(strings.TrimSpace(line), "|", 3)
		if len(fields) != 3 {
			continue
		}
		dir, err := filepath.Rel(top, fields[1])
		if err != nil {
			return nil, err
		}
		all = append(all, pkg{fields[0], dir, strings.Fields(fields[2])})
	}
	return all, nil
}

// testing returns the packages that contain the file or import it, its own first.
func testing(packages []pkg, file string) []pkg {
	dir := filepath.Dir(file)
	path := "reverb/" + filepath.ToSlash(dir)
	var own, others []pkg
	for _, p := range packages {
		if p.dir == dir {
			own = append(own, p)
		} else if slices.Contains(p.needs, path) {
			others = append(others, p)
		}
	}
	return append(own, others...)
}

// try tries every defect, so many at a time. A result is printed when it is there.
func try(all []*defect, packages []pkg, equivalent map[string]string, jobs int) []result {
	results := make([]result, len(all))
	next := make(chan int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range jobs {
		wg.Go(func() {
			for i := range next {
				r := judge(all[i], packages, equivalent)
				mu.Lock()
				results[i] = r
				fmt.Println(strings.TrimSpace(fmt.Sprintf("%-10s %3.0fs %s %s", r.word,
					r.took.Seconds(), strings.TrimSpace(r.name+" "+r.what), r.by)))
				mu.Unlock()
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	wg.Wait()
	return results
}

func judge(d *defect, packages []pkg, equivalent map[string]string) result {
	if reason := equivalent[d.name]; reason != "" {
		return result{d, "equivalent", "[" + reason + "]", 0}
	}
	begin := time.Now()
	why := test(testing(packages, d.file), d.file, d.text)
	r := result{d, "killed", "[" + why + "]", time.Since(begin)}
	switch why {
	case "":
		r.word, r.by = "survived", ""
	case notCompiled:
		r.word = "broken"
	}
	return r
}

const notCompiled = "it does not compile"

// test runs the tests of packages with the file's text replaced, and says which test
// failed. It returns "" when all pass.
func test(packages []pkg, file string, text []byte) (why string) {
	dir, err := os.MkdirTemp("", "reverb-mutant")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	args := []string{"test", "-failfast", "-timeout", testTimeout}
	if file != "" {
		overlay, err := writeOverlay(dir, file, text)
		if err != nil {
			return err.Error()
		}
		args = append(args, "-overlay", overlay)
	}
	limited := func(args ...string) string {
		out, err := output("sh", append([]string{"-c",
			fmt.Sprintf(`ulimit -v %d; exec go "$@"`, maxMemoryKiB), "go"}, args...)...)
		if err != nil {
			return killer(out)
		}
		return ""
	}
	if strings.HasPrefix(file, redisScripts) {
		if why := limited(append(append([]string{"-C", "test"}, args...), "-count", "1", "-run",
			"^TestRedisModel$", ".")...); why != "" {
			return why
		}
	}
	for _, p := range packages {
		if why := limited(append(args, p.path)...); why != "" {
			return why
		}
	}
	return ""
}

// writeOverlay writes what go test -overlay reads, and returns its name.
func writeOverlay(dir, file string, text []byte) (string, error) {
	original, err := filepath.Abs(filepath.Join(root, file))
	if err != nil {
		return "", err
	}
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(os.WriteFile(changed, text, 0o600), os.WriteFile(overlay, b, 0o600))
}

// killer finds in the output of go test what failed.
func killer(out []byte) string {
	first := ""
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if name, ok := strings.CutPrefix(line, "--- FAIL: "); ok {
			name, _, _ = strings.Cut(name, " ")
			return name
		}
		switch {
		case strings.Contains(line, "[build failed]"):
			return notCompiled
		case strings.HasPrefix(line, "panic: test timed out"):
			first = "time-out"
		case first == "time-out" && strings.HasPrefix(line, "Test"):
			return first + " in " + line
		case first == "" && (strings.HasPrefix(line, "panic: ") ||
			strings.HasPrefix(line, "fatal error: ")):
			first = line
		}
	}
	if first == "" {
		first = "go test ends with an error"
	}
	return first
}

// output runs a program in the root module and returns what it prints.
func output(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = root
	cmd.WaitDelay = time.Second // a test that was killed may have left a process with its output
	out, err := cmd.CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w: %s", name, args[0], err, bytes.TrimSpace(out))
	}
	return out, nil
}

// summarize prints how many were killed and says whether that is enough.
func summarize(results []result, chosen bool) bool {
	var total, survived [2]int // named, drawn
	kinds := map[string]int{}
	for _, r := range results {
		kinds[r.word]++
		drawn := 0
		if r.what == "" {
			drawn = 1
		}
		if r.word == "killed" || r.word == "survived" {
			total[drawn]++
		}
		if r.word == "survived" {
			survived[drawn]++
			if kinds["survived"] == 1 {
				fmt.Println("\nsurvivors:")
			}
			fmt.Println(" ", strings.TrimSpace(r.name+" "+r.what))
		}
	}
	fmt.Printf("\nnamed: %d of %d killed; drawn: %d of %d killed; marked as equivalent: %d; "+
		"do not compile: %d\n",
		total[0]-survived[0], total[0], total[1]-survived[1], total[1], kinds["equivalent"],
		kinds["broken"])
	if chosen {
		return survived == [2]int{}
	}
	return survived[0] <= maxNamed && survived[1]*100 <= total[1]*maxDrawn
}
