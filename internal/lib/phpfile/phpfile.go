// Package phpfile reads a PHP file that returns one value, without PHP. Examples are the
// configuration files of PHP frameworks and the output of var_export.
//
// Read computes the value of the one expression that the file returns. It knows literals,
// nested arrays, constants, operators, casts, and functions that turn values into values. It
// runs nothing: there are no variables, no loops, no closures and no objects. It touches no
// file, no network and no process. Depth, steps and the size of results are bounded.
//
// An expression that the reader does not know becomes an Unknown value if it is an element of an
// array; anywhere else it is an error of Read. A file that PHP itself would refuse is always an
// error. Errors give file, line, column and the kind of a token, never the text of a literal.
//
// The files of the package: phpfile.go has the door, lex.go the tokens, parse.go the
// statements and expressions, array.go arrays and calls, functions.go the functions of PHP.
package phpfile

import (
	"fmt"
	"strings"

	"reverb/internal/lib/php"
)

// Options say what a file may see, and how much it may cost. A bound of 0 allows nothing.
type Options struct {
	File      string                // the name of the file in errors, and of __FILE__
	Folder    string                // __DIR__
	Keep      func(key string) bool // which keys of the outermost array are read; nil: all
	Functions map[string]Function   // in addition to PHP's own; see Function
	MaxDepth  int                   // of nested expressions
	MaxSteps  int                   // operators, literals, elements and calls
	// bytes of all values that are computed; an element of an array counts elementSize more
	MaxResult int
}

// Function computes the result of a call. Its name in Options.Functions is in lower case: "env", or
// "illuminate\support\str::slug" for a static method. A result must not be larger than a small
// multiple of the arguments. An error says why the reader cannot compute the call, without the text
// of an argument; it makes the call Unknown.
type Function func(Args) (php.Value, error)

// Args are the arguments of a call.
type Args struct {
	Values []php.Value
	Named  map[string]php.Value // nil where no argument has a name
	reader *reader
}

// At returns the argument number i; the call may give it by its name instead. ok is false if it is
// missing.
func (a Args) At(i int, name string) (v php.Value, ok bool) {
	if i < len(a.Values) {
		return a.Values[i], true
	}
	v, ok = a.Named[name]
	return v, ok
}

// Error says where and why a file, or a part of it, cannot be read.
type Error struct {
	File         string
	Line, Column int // in bytes, from 1
	Reason       string
	fatal        bool // the whole file cannot be read
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
}

// Read computes what the file returns. The error is an *Error.
func Read(text string, o Options) (php.Value, error) {
	r := &reader{o: o, functions: functions(), uses: map[string]string{}}
	r.src = strings.TrimPrefix(text, "\ufeff")
	r.line = 1
	v, err := r.file()
	if err != nil {
		return php.Value{}, err
	}
	return v, nil
}

// reader reads one file.
type reader struct {
	lexer
	o         Options
	functions map[string]function
	uses      map[string]string // the full name of a class by its short name in lower case
	namespace string
	depth     int
	steps     int
	result    int
	outermost bool // the outermost array has been opened
}

func (r *reader) error(at token, fatal bool, format string, args ...any) *Error {
	return &Error{r.o.File, at.line, at.column, fmt.Sprintf(format, args...), fatal}
}

// unknown is the error for a construct that PHP allows and the reader does not know.
func (r *reader) unknown(at token, format string, args ...any) *Error {
	return r.error(at, false, format, args...)
}

// syntax is the error for a file that PHP does not allow.
func (r *reader) syntax(at token, format string, args ...any) *Error {
	if at.kind == tokenBroken {
		format, args = "%s", []any{at.text}
	}
	return r.error(at, true, format, args...)
}

// step counts n steps.
func (r *reader) step(n int) *Error {
	if r.steps += n; r.steps > r.o.MaxSteps {
		return r.error(r.tok, true, "the file takes more than %d steps to compute", r.o.MaxSteps)
	}
	return nil
}

// charge counts n bytes of results.
func (r *reader) charge(n int) *Error {
	if n > r.o.MaxResult-r.result {
		return r.error(r.tok, true, "the values of the file are larger than %d bytes",
			r.o.MaxResult)
	}
	r.result += n
	return nil
}

// chargeValue counts a value that was computed: the bytes of a text, the elements of an array and
// their texts.
func (r *reader) chargeValue(v php.Value) *Error {
	size := v.Size()
	for _, e := range v.Elements() {
		size += elementSize + len(e.Key.String()) + e.Value.Size()
	}
	if err := r.step(len(v.Elements())); err != nil {
		return err
	}
	return r.charge(size)
}
