// Package findings prints what a check finds, one line each: a verdict and a sentence.
package findings

import (
	"fmt"
	"io"
)

// The verdicts.
const (
	OK   = "ok"
	Note = "note" // worth a look
	Fail = "FAIL" // it does not work
)

// Findings prints findings to W. One goroutine uses it.
type Findings struct {
	W      io.Writer
	Failed bool // something does not work
}

// Add prints one finding. An error of the writer changes nothing.
func (f *Findings) Add(verdict, format string, args ...any) {
	f.Failed = f.Failed || verdict == Fail
	fmt.Fprintf(f.W, "%-4s %s\n", verdict, fmt.Sprintf(format, args...))
}
