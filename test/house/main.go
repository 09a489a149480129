// House prints how large the parts of reverb are, and their bounds: files, functions, sections,
// rooms, lines that are too wide, coverage, and the crossings between root files. Run it in test/:
//
//	go run ./house                 everything; the coverage takes a minute
//	go run ./house -cover=false    without the coverage
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"text/tabwriter"

	"reverb/test/house/plan"
)

const (
	root      = ".."
	crossings = "testdata/house/crossings.txt"

	maxRoom     = 2500 // lines of a room
	maxExported = 40   // exported names and methods of a room; maxProtocol for the protocol
	maxProtocol = 80
	minCover    = 85 // percent of the statements of a room, without a process started
)

// aims has the bounds of the lines of root files.
func aims() map[string]int {
	return map[string]int{"main.go": 1300, "pusher.go": 1800, "ws.go": 1500, "redis.go": 1000,
		"tls.go": 500, "main_test.go": 2000}
}

func main() {
	cover := flag.Bool("cover", true, "run the tests of the rooms for their coverage")
	flag.Parse()
	if err := report(os.Stdout, *cover); err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		os.Exit(1)
	}
}

func report(w io.Writer, cover bool) error {
	files, err := plan.Root(root)
	if err != nil {
		return err
	}
	rooms, err := plan.Rooms(root)
	if err != nil {
		return err
	}
	covered := map[string]string{}
	if cover {
		if covered, err = coverage(); err != nil {
			return err
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	printFiles(t, files)
	printLong(t, files, rooms)
	printSections(t, files)
	printRooms(t, rooms, covered)
	if err := printCrossings(t); err != nil {
		return err
	}
	return t.Flush()
}

func printFiles(w io.Writer, files []plan.File) {
	fmt.Fprintf(w, "file\tlines\tat most\t\tover %d columns\n", plan.MaxColumns)
	for _, f := range files {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%d\n", f.Name, f.Lines, aims()[f.Name],
			mark(f.Lines > aims()[f.Name]), f.Wide)
	}
}

func printLong(w io.Writer, files []plan.File, rooms []plan.Room) {
	fmt.Fprintf(w, "\nfunction over %d lines\tlines\tfile\n", plan.MaxFunction)
	var all []plan.Span
	for _, f := range files {
		if !strings.HasSuffix(f.Name, "_test.go") {
			all = append(all, f.Functions...)
		}
	}
	for _, r := range rooms {
		all = append(all, r.Long...)
	}
	for _, s := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", s.Name, s.Lines, s.File,
			map[bool]string{true: "flat", false: mark(true)}[s.Flat])
	}
	if len(all) == 0 {
		fmt.Fprintln(w, "none")
	}
}

func printSections(w io.Writer, files []plan.File) {
	fmt.Fprintf(w, "\nsection over %d lines\tlines\tfile\n", plan.MaxSection)
	found := false
	for _, f := range files {
		for _, s := range f.Sections {
			if s.Lines > plan.MaxSection && !strings.HasSuffix(f.Name, "_test.go") {
				found = true
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", s.Name, s.Lines, s.File, mark(true))
			}
		}
	}
	if !found {
		fmt.Fprintln(w, "none")
	}
}

func printRooms(w io.Writer, rooms []plan.Room, covered map[string]string) {
	for _, leaf := range []bool{false, true} {
		fmt.Fprintf(w, "\n%s\tlines\texported\tcovered\tover %d columns\n",
			map[bool]string{false: "room", true: "leaf"}[leaf], plan.MaxColumns)
		for _, r := range rooms {
			if r.Leaf != leaf {
				continue
			}
			limit := maxExported
			if r.Name == "internal/protocol" {
				limit = maxProtocol
			}
			var percent float64
			fmt.Sscanf(covered[r.Name], "%f", &percent) // 0 where there is none
			over := r.Lines > maxRoom || len(r.Exported) > limit ||
				len(covered) > 0 && !leaf && percent < minCover
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%d\t%s\n", r.Name, r.Lines, len(r.Exported),
				covered[r.Name], r.Wide, mark(over))
		}
	}
}

func printCrossings(w io.Writer) error {
	all, err := plan.Crossings(crossings)
	if err != nil {
		return err
	}
	fmt.Fprint(w, "\nuses\tnames\tmethods\tfields\n")
	for _, c := range all {
		fmt.Fprintf(w, "%s of %s\t%d\t%d\t%d\n", c.From, c.To, c.Names, c.Methods, c.Fields)
	}
	return nil
}

// mark follows a figure that is over its bound.
func mark(over bool) string {
	if over {
		return "OVER"
	}
	return ""
}

var coverLine = regexp.MustCompile(`^ok\s+reverb/(\S+)\s.*coverage: (\S+) of`)

// coverage runs the tests of the rooms and leaves; the percentage by the name of the room.
func coverage() (map[string]string, error) {
	test := exec.Command("go", "test", "-cover", "./internal/...")
	test.Dir, test.Stderr = root, os.Stderr
	out, err := test.Output()
	if err != nil {
		return nil, fmt.Errorf("go test -cover: %w\n%s", err, out)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if m := coverLine.FindStringSubmatch(line); m != nil {
			all[m[1]] = m[2]
		}
	}
	return all, nil
}
