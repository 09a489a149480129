// Package laravel reads a Laravel application's own files and bytes, without PHP: its
// configuration, where its queue is, and the signal of php artisan reverb:restart.
//
// An Application is a folder. Open looks at its configuration. If bootstrap/cache/config.php
// exists, it takes the place of all of config/, as in Laravel. Otherwise the package reads a file
// of config/ when somebody asks for its section. It runs nothing of the application. A Place tells
// where the signal lies, and a Watch tells which change of it is a restart.
//
// The package opens files only for reading, and assumes that another user may write to them. It
// opens no connection: for Redis, it tells the key and the server. It never shows the text of a
// literal.
//
// Source: laravel/framework, src/Illuminate/Foundation/Bootstrap/LoadConfiguration.php and
// LoadEnvironmentVariables.php, src/Illuminate/Cache, src/Illuminate/Redis; laravel/reverb,
// src/Servers/Reverb/Console/Commands/RestartServer.php.
package laravel

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"reverb/internal/lib/php"
	"reverb/internal/lib/phpfile"
	"reverb/internal/lib/plainfile"
)

const (
	// maxConfig is the size in bytes up to which a file of config/ is read. Configuration files
	// have a few kilobytes. A smaller bound would refuse files with long comments; a larger one
	// would let a wrong file take more memory.
	maxConfig = 256 << 10

	// maxCached is the size in bytes up to which bootstrap/cache/config.php is read. It holds all
	// files of config/ in one, with those of packages.
	maxCached = 4 << 20

	// maxDepth bounds nested arrays and expressions. Each level takes stack: a much larger bound
	// would let a file exhaust it. Real files have fewer than ten levels.
	maxDepth = 64

	// maxSteps bounds the steps that a file of config/ takes to compute, and maxResult the bytes of
	// the values that it returns. Without them a short file, such as one with str_repeat, could
	// occupy the processor and the memory. Real files stay far below both.
	maxSteps  = 100_000
	maxResult = 1 << 20

	// maxCachedSteps and maxCachedResult bound the same for the cached configuration. Only the
	// sections that are read count for the result.
	maxCachedSteps  = 2_000_000
	maxCachedResult = 8 << 20
)

// Env looks a variable up: in the real environment, then in .env. Its value is the text in PHP's
// $_ENV, before env() turns texts such as "true" and "null" into values.
type Env func(name string) (value string, ok bool)

// Application is the folder of a Laravel application.
type Application struct {
	// absolute, by the name under which it is known; links in it are followed anew at every look
	Folder string
	Env    Env // the real environment, then .env
	Real   Env // the real environment alone
}

// Config is the configuration of an application. It reads each section once.
type Config struct {
	app      Application
	cached   string // the name of the cached file, or empty
	whole    php.Value
	broken   error // why the cached file cannot be read
	sections map[string]Section
}

// Section is a part of the configuration by its name: the section reverb is the result of
// config('reverb'). Its Value is Null if the application has no such section.
type Section struct {
	php.Value
	File  string          // its file, relative to the folder of the application if it is below it
	asked map[string]bool // the variables that the file has asked env() for
	err   error           // why the file cannot be read
}

// Asks says whether the file has asked env() for a variable. A cached file asks for nothing.
func (s Section) Asks(name string) bool { return s.asked[name] }

// Open finds out which configuration counts: the cached one or the files of config/.
func (a Application) Open() *Config {
	c := &Config{app: a, sections: map[string]Section{}}
	name := "bootstrap/cache/config.php"
	if set, ok := a.Real("APP_CONFIG_CACHE"); ok && set != "" {
		name = set
	}
	b, err := plainfile.Read(a.path(name), maxCached)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return c
	}
	c.cached = name
	if err != nil {
		c.broken = unreadable(name, err)
		return c
	}
	o := phpfile.Options{File: name, Folder: filepath.Dir(a.path(name)),
		MaxDepth: maxDepth, MaxSteps: maxCachedSteps, MaxResult: maxCachedResult,
		Keep: func(key string) bool {
			return slices.Contains([]string{"app", "broadcasting", "cache", "database", "queue",
				"reverb"}, key)
		}}
	c.whole, c.broken = phpfile.Read(string(b), o)
	if c.broken == nil && c.whole.Kind != php.Array {
		c.broken = fmt.Errorf("%s:%d: the value that is returned is not an array", name,
			c.whole.Line)
	}
	return c
}

// path makes a name absolute that may be relative to the folder.
func (a Application) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(a.Folder, name)
}

// unreadable is the error of a file that cannot be read, with the name that operators know.
func unreadable(name string, err error) error {
	var p *fs.PathError
	if !errors.As(err, &p) {
		return err
	}
	return &fileError{name, p}
}

// fileError is an *fs.PathError with another name of the file.
type fileError struct {
	name string
	*fs.PathError
}

func (e *fileError) Error() string { return e.name + ": " + e.Err.Error() }
func (e *fileError) Unwrap() error { return e.PathError }

// IsThere says whether the folder is that of a Laravel application.
func (c *Config) IsThere() bool {
	f, err := plainfile.Open(c.app.path("artisan"))
	if err == nil {
		f.Close()
	}
	return err == nil || c.cached != ""
}

// Cached is the name of the cached configuration; empty if the files of config/ count.
func (c *Config) Cached() string { return c.cached }

// Section returns a section. The error says why its file cannot be read: it names the file, and the
// line if PHP would refuse the file too. The Problem of the section's Value is about the parts that
// the reader does not know.
func (c *Config) Section(name string) (Section, error) {
	if c.cached != "" {
		return Section{Value: c.whole.Get(name), File: c.cached}, c.broken
	}
	s, ok := c.sections[name]
	if !ok {
		s, s.err = c.app.ReadFile("config/" + name + ".php")
		if errors.Is(s.err, fs.ErrNotExist) {
			s.err = nil
		}
		c.sections[name] = s
	}
	return s, s.err
}

// ReadFile computes a file of PHP that returns an array, as a section. The name may be relative to
// the folder. The error wraps fs.ErrNotExist if there is no such file.
func (a Application) ReadFile(name string) (Section, error) {
	s := Section{File: name, asked: map[string]bool{}}
	b, err := plainfile.Read(a.path(name), maxConfig)
	if err != nil {
		return s, unreadable(name, err)
	}
	s.Value, err = a.compute(name, string(b), s.asked)
	return s, err
}

// compute computes the text of a file, and notes in asked the variables that the file asks for.
func (a Application) compute(name, text string, asked map[string]bool) (php.Value, error) {
	v, err := phpfile.Read(text, phpfile.Options{File: name, Folder: filepath.Dir(a.path(name)),
		Functions: a.functions(asked), MaxDepth: maxDepth, MaxSteps: maxSteps,
		MaxResult: maxResult})
	if err == nil && v.Kind != php.Array {
		err = fmt.Errorf("%s:%d: the value that is returned is not an array", name, v.Line)
	}
	return v, err
}

// value is the result of env() for the text of a variable (Laravel: Support\Env::get).
func value(text string) php.Value {
	switch strings.ToLower(text) {
	case "true", "(true)":
		return php.Of(true)
	case "false", "(false)":
		return php.Of(false)
	case "empty", "(empty)":
		return php.Of("")
	case "null", "(null)":
		return php.Of(nil)
	}
	if n := len(text); n >= 2 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] &&
		!strings.Contains(text, "\n") {
		text = text[1 : n-1]
	}
	return php.Of(text)
}
