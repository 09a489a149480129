// Package laravel reads a Laravel application's own files and bytes, without PHP: its
// configuration, and the signal of php artisan reverb:restart.
//
// An Application is a folder. Open looks at its configuration: at bootstrap/cache/config.php if
// that is there, which takes the place of all of config/, as in Laravel, or else at the files
// of config/, each of them when it is asked for. Nothing of the application is run. A Place is
// where the signal lies, and a Watch tells which change of it is a restart.
//
// The package opens files for reading alone, as files that somebody else may write to. It opens
// no connection: of Redis it says which key stands where. It never shows the text of a literal.
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
	maxConfig = 256 << 10 // bytes of a file of config/; larger ones are refused
	maxCached = 4 << 20   // bytes of bootstrap/cache/config.php; larger ones are refused

	maxDepth        = 64      // of nested arrays and expressions
	maxSteps        = 100_000 // to compute a file of config/; beyond, it is refused
	maxResult       = 1 << 20 // bytes of what a file of config/ returns; beyond, it is refused
	maxCachedSteps  = 2_000_000
	maxCachedResult = 8 << 20 // of the sections that are read
)

// Env looks a variable up: in the real environment, then in .env, as PHP's $_ENV has it, before
// env() makes true, null and the like of it.
type Env func(name string) (value string, ok bool)

// Application is the folder of a Laravel application.
type Application struct {
	// absolute, by the name under which it is known; links in it are followed anew at every look
	Folder string
	Env    Env // the real environment, then .env
	Real   Env // the real environment alone
}

// Config is the configuration of an application. Its sections are read once.
type Config struct {
	app      Application
	cached   string // the name of the cached file, or empty
	whole    php.Value
	broken   error // why the cached file cannot be read
	sections map[string]Section
}

// Section is a part of the configuration by its name, such as reverb: what config('reverb')
// returns. Its Value is Null where the application has none.
type Section struct {
	php.Value
	File  string          // where it stands, below the folder of the application if it is there
	asked map[string]bool // the variables that the file has asked env() for
	err   error           // why the file cannot be read
}

// Asks says whether the file has asked env() for a variable. A cached file asks for nothing.
func (s Section) Asks(name string) bool { return s.asked[name] }

// Open finds out which configuration counts.
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

// path is where a name leads to that is relative to the folder.
func (a Application) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(a.Folder, name)
}

// unreadable says why a file cannot be read, by the name by which it is known.
func unreadable(name string, err error) error {
	var p *fs.PathError
	if !errors.As(err, &p) {
		return err
	}
	return &fileError{name, p}
}

// fileError is an *fs.PathError under the name by which a file is known.
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

// Cached is the name of the cached configuration that counts, or empty.
func (c *Config) Cached() string { return c.cached }

// Section returns a section. The error says why its file cannot be read: it names the file, and
// the line if PHP would be refused. What the reader does not know inside of it is in the Problem of
// its Value.
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
// the folder. The error wraps fs.ErrNotExist where there is no such file.
func (a Application) ReadFile(name string) (Section, error) {
	s := Section{File: name, asked: map[string]bool{}}
	b, err := plainfile.Read(a.path(name), maxConfig)
	if err != nil {
		return s, unreadable(name, err)
	}
	s.Value, err = a.compute(name, string(b), s.asked)
	return s, err
}

// compute computes the text of a file. asked gets the variables that it asks for.
func (a Application) compute(name, text string, asked map[string]bool) (php.Value, error) {
	v, err := phpfile.Read(text, phpfile.Options{File: name, Folder: filepath.Dir(a.path(name)),
		Functions: a.functions(asked), MaxDepth: maxDepth, MaxSteps: maxSteps,
		MaxResult: maxResult})
	if err == nil && v.Kind != php.Array {
		err = fmt.Errorf("%s:%d: the value that is returned is not an array", name, v.Line)
	}
	return v, err
}

// value is what env() makes of the text of a variable (Laravel: Support\Env::get).
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
