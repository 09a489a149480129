// Package profiles serves the profiles of this process over HTTP, as go tool pprof and go tool
// trace read them. It has the parts of net/http/pprof that operators use. The other parts would add
// 250 kB to the binary. It registers no handler by itself. It reads the query of a request, and no
// form in the body: the parsers of forms would add 35 kB.
package profiles

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSeconds bounds a recording. Larger: a forgotten one costs CPU for longer. Smaller: a recording
// misses events that happen once in some minutes.
const maxSeconds = 600

// Handler serves the profiles below prefix, which ends with a slash:
//
//	GET PREFIX                   their names and sizes
//	GET PREFIX profile?seconds=N CPU time by function for so long; without N: 30
//	GET PREFIX trace?seconds=N   events of the runtime for so long; without N: 1
//	GET PREFIX cmdline           the command line, with NUL between words
//	GET PREFIX NAME?debug=N&gc=1 heap, goroutine, … (runtime/pprof.Profile); debug: as text;
//	                             gc: after a garbage collection; seconds: refused
//
// A recording ends early when its client goes, or when ended is closed. The runtime makes one of a
// kind at a time; a second is a 500.
func Handler(prefix string, ended <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		switch name := strings.TrimPrefix(r.URL.Path, prefix); name {
		case "":
			index(w)
		case "cmdline":
			io.WriteString(w, strings.Join(os.Args, "\x00"))
		case "profile":
			record(w, r, 30, ended, pprof.StartCPUProfile, pprof.StopCPUProfile)
		case "trace":
			record(w, r, 1, ended, trace.Start, trace.Stop)
		default:
			look(w, r, name)
		}
	})
}

func index(w io.Writer) {
	all := pprof.Profiles()
	byName := func(a, b *pprof.Profile) int { return strings.Compare(a.Name(), b.Name()) }
	slices.SortFunc(all, byName)
	for _, p := range all {
		fmt.Fprintf(w, "%d\t%s\n", p.Count(), p.Name())
	}
	io.WriteString(w, "\tcmdline\n\tprofile\n\ttrace\n")
}

// look writes a profile as it is now.
func look(w http.ResponseWriter, r *http.Request, name string) {
	p := pprof.Lookup(name)
	if p == nil {
		http.Error(w, "Unknown profile.", http.StatusNotFound)
		return
	}
	query := r.URL.Query()
	if query.Get("seconds") != "" {
		http.Error(w, "seconds: only profile and trace last for a time; ask for "+name+
			" twice, and give the first to go tool pprof as -diff_base.", http.StatusBadRequest)
		return
	}
	if query.Get("gc") != "" && name == "heap" {
		runtime.GC()
	}
	debug, _ := strconv.Atoi(query.Get("debug"))
	if debug == 0 {
		binary(w, name)
	}
	p.WriteTo(w, debug) // an error says that the client has gone
}

// record writes the recording between start and stop.
func record(w http.ResponseWriter, r *http.Request, seconds float64, ended <-chan struct{},
	start func(io.Writer) error, stop func()) {
	if text := r.URL.Query().Get("seconds"); text != "" {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n > 0 && n <= maxSeconds) {
			http.Error(w, fmt.Sprintf("seconds: not a number from 0 to %d.", maxSeconds),
				http.StatusBadRequest)
			return
		}
		seconds = n
	}
	length := time.Duration(seconds * float64(time.Second))
	deadline := time.Now().Add(length + 10*time.Second)
	http.NewResponseController(w).SetWriteDeadline(deadline) // replaces the server's own deadline
	binary(w, "profile")
	if err := start(w); err != nil {
		w.Header().Del("Content-Disposition")
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer stop()
	ctx, cancel := context.WithTimeout(r.Context(), length)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-ended:
	}
}

// binary says that the answer is a file.
func binary(w http.ResponseWriter, name string) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
}
