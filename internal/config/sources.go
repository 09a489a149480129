package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"

	"reverb/internal/aliases"
	"reverb/internal/lib/dotenv"
	"reverb/internal/lib/nearest"
	"reverb/internal/lib/php"
	"reverb/internal/lib/plainfile"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/servicelinks"
	"reverb/internal/lib/show"
)

// source is where values come from: the flags, then the environment, then the file.
type source struct {
	flags      map[string]string
	env        map[string]string
	file       map[string]dotenv.Entry
	fileName   string
	others     *aliases.Table    // variables of another server, or nil
	settings   map[string]string // of soketi's file, by soketi's variables
	settingsOf string            // the variable that has or names that file
	fileOrigin string            // the variable or flag that has chosen the file
}

// linked says whether the platform has set a name in the environment. Such a variable does not
// count: .env does.
func (s *source) linked(name string) bool { return servicelinks.IsPort(name, s.env[name]) }

// lookup returns the value of a name and where it stands, by Laravel's env() rules. ok is false if
// the name is not set, null or empty.
func (s *source) lookup(name string) (value, origin string, ok bool) {
	raw, found := s.env[name]
	origin = "environment"
	if !found || s.linked(name) {
		e, inFile := s.file[name]
		if !inFile {
			return "", "", false
		}
		raw, origin = e.Value, fmt.Sprintf("%s:%d", s.fileName, e.Line)
	}
	value, null := dotenv.Value(raw)
	return value, origin, !null && value != ""
}

// maxEnvFile bounds a .env that no variable names. A larger one is refused.
const maxEnvFile = 256 << 10

// readEnvFile reads Laravel's .env. The usual file may be missing. /dev/null is no file.
func (c *Config) readEnvFile(src *source) {
	asked := c.chooseEnvFile(src)
	read := c.files.Read
	if !asked && c.files.Folder != "" { // the folder's owner may replace the file
		read = func(name string) ([]byte, error) { return plainfile.Read(name, maxEnvFile) }
	}
	if src.fileName == os.DevNull || redact.NoName(src.fileName) != nil { // readVariable reports it
		return
	}
	b, err := read(c.at(src.fileName))
	if err != nil {
		if asked || !errors.Is(err, fs.ErrNotExist) {
			c.Problem("REVERB_ENV_FILE="+Masked(src.fileName),
				c.fileHint(err, "name Laravel's .env, or /dev/null for none"))
		}
		return
	}
	known := func(name string) (string, bool) { v, ok := src.env[name]; return v, ok }
	entries, err := dotenv.Parse(string(b), known)
	if err != nil {
		c.Problem(src.fileName, err.Error())
	}
	for _, e := range entries {
		src.file[e.Name] = e
	}
}

// chooseEnvFile says which file is read: the file that a variable names; or .env.NAME, if it
// exists, for the NAME of --env or of APP_ENV; or else .env (Laravel: Illuminate\
// Foundation\Bootstrap\LoadEnvironmentVariables). asked says that the file must exist.
func (c *Config) chooseEnvFile(src *source) (asked bool) {
	if name := src.flags["env-file"]; name != "" {
		src.fileName, src.fileOrigin = name, "--env-file"
		return true
	}
	if name, origin, ok := src.lookup("REVERB_ENV_FILE"); ok {
		src.fileName, src.fileOrigin = name, origin
		return true
	}
	appEnv, _, _ := src.lookup("APP_ENV")
	for _, by := range []struct{ name, origin string }{{src.flags["env"], "--env"},
		{appEnv, "environment, APP_ENV"}} {
		if by.name != "" && c.files.Exists(c.at(".env."+by.name)) {
			src.fileName, src.fileOrigin = ".env."+by.name, by.origin
			return false
		}
	}
	if name := src.flags["env"]; name != "" {
		c.Notes = append(c.Notes,
			"there is no file "+show.Text(".env."+name)+", so --env changes nothing")
	}
	src.fileName, src.fileOrigin = ".env", "default"
	return false
}

// heedVerbosity applies -q and -vvv; Flags has them as verbosity.
func (c *Config) heedVerbosity() {
	level := slog.LevelDebug
	switch c.flags["verbosity"] {
	case "":
		return
	case "quiet":
		level, c.Log.Quiet = slog.LevelError, true
	}
	c.Log.Level = level
	for i := range c.inForce {
		if s := &c.inForce[i]; s.Name == "REVERB_LOG_LEVEL" {
			s.Value, s.Origin = strings.ToLower(level.String()), "--"+c.flags["verbosity"]
		}
	}
}

// fileHint says why a file cannot be read, and what to do.
func (c *Config) fileHint(err error, remedy string) string {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Sprintf("%s for this user (uid %d); give it the right to read the file, or %s",
			errorText(err), c.files.User, remedy)
	}
	return errorText(err) + "; " + remedy
}

// errorText is an error without the name of the file, because the sentence around it has the name.
func errorText(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// readVariable finds the value of one variable and reads it.
func (c *Config) readVariable(v *Variable, src *source) {
	s, ok := c.findSetting(v, src)
	if !ok {
		return
	}
	c.inForce = append(c.inForce, s)
	if s.computed {
		return
	}
	err := v.read(c, s.Value)
	if err == nil {
		return
	}
	if v.Default != "" && !strings.Contains(err.Error(), "such as") {
		err = fmt.Errorf("%w, such as %s", err, v.Default)
	}
	if v.late {
		c.late[v.Name] = err
		return
	}
	c.Problem(s.assignment()+" ("+s.Origin+")", err.Error())
}

// findSetting finds the value of one variable: that of its flag, its own, that of Laravel's
// variable, or the default.
func (c *Config) findSetting(v *Variable, src *source) (s Setting, ok bool) {
	s = Setting{Name: v.Name, given: v.Name, secret: v.Secret}
	if f, given := src.flags[v.Flag]; v.Flag != "" && given {
		s.Value, s.Origin, ok = f, "--"+v.Flag, true
	} else {
		s.Value, s.Origin, ok = src.lookup(v.Name)
		c.noteLink(v, v.Name, src)
	}
	if v.Secret {
		if fileValue, fileOrigin, fileOK := c.readSecretFile(v.Name, ok, src); fileOK {
			s.Value, s.Origin, ok = fileValue, fileOrigin, true
		}
	}
	if !ok {
		s, ok = c.findAlias(v, s, src)
	}
	if counts, decided := c.applicationSetting(v, s, ok, src); decided {
		return counts, counts.Value != ""
	}
	switch {
	case ok:
	case v.Name == "REVERB_ENV_FILE":
		s.Value, s.Origin = src.fileName, src.fileOrigin
	case v.Name == "REVERB_CONFIG_FILE" && c.application.reverb.Kind != php.Null:
		s.Value, s.Origin = c.application.reverb.File, "default"
	default:
		s.Value, s.Origin = v.Default, "default"
	}
	return s, s.Value != ""
}

// noteLink notes that the platform has set a variable that would count. A variable that is judged
// late matters only with scaling.
func (c *Config) noteLink(v *Variable, name string, src *source) {
	if src.linked(name) && (c.Scaling.Enabled || !v.late) {
		c.links = append(c.links, name)
	}
}

// warnLinks warns, once, of the variables that the platform has set.
func (c *Config) warnLinks() {
	if len(c.links) > 0 {
		c.Warn("Kubernetes or Docker has set %s to the address of a service, which is taken as "+
			"not given; set enableServiceLinks: false in the pod's spec, or rename the service",
			strings.Join(c.links, " and "))
	}
}

// readSecretFile reads NAME_FILE, the file that holds a secret. REVERB_APPS_FILE is
// a variable of its own.
func (c *Config) readSecretFile(name string, alreadySet bool, src *source) (value,
	origin string, ok bool) {
	if name == "REVERB_APPS" {
		return "", "", false
	}
	path, _, ok := src.lookup(name + "_FILE")
	if !ok {
		return "", "", false
	}
	bad := redact.NoName(path)
	if alreadySet {
		bad = errors.New(name + " is set too; keep one of the two")
	}
	if bad != nil {
		c.Problem(name+"_FILE="+Masked(path), bad.Error())
		return "", "", false
	}
	b, err := c.files.Read(c.at(path))
	if err != nil {
		c.Problem(name+"_FILE="+Masked(path),
			c.fileHint(err, "name a file that holds the secret alone"))
		return "", "", false
	}
	value = strings.TrimRight(string(b), "\r\n")
	if value == "" {
		c.Problem(name+"_FILE="+Masked(path), "the file is empty; it must hold the secret alone")
	}
	return value, "file " + path, value != ""
}

// laravelOnly are variables of Laravel Reverb that mean nothing here.
func laravelOnly() []string {
	return []string{"REVERB_SERVER", "REVERB_PULSE_INGEST_INTERVAL",
		"REVERB_TELESCOPE_INGEST_INTERVAL"}
}

// warnUnknown warns of names that look like variables of this program but are not. What the
// application's own files ask for is the application's.
func (c *Config) warnUnknown(src *source) {
	known := laravelOnly()
	for _, v := range Variables() {
		known = append(known, v.Name, v.fallback)
		if v.Secret {
			known = append(known, v.Name+"_FILE")
		}
	}
	names := map[string]string{}
	for name, value := range src.env {
		if !servicelinks.IsLink(name, value, c.Getenv) {
			names[name] = "environment"
		}
	}
	for name, e := range src.file {
		names[name] = fmt.Sprintf("%s:%d", src.fileName, e.Line)
	}
	for name, origin := range names {
		if strings.HasPrefix(name, "REVERB_") && !slices.Contains(known, name) && !c.asks(name) {
			best, _ := nearest.Of(name, known)
			c.Warn("%s is not a variable of this program; the nearest is %s (%s)", show.Text(name),
				best, origin)
		}
	}
	slices.Sort(c.Warnings)
}

// asks says whether the application's configuration of this server or of broadcasting asks env()
// for a variable.
func (c *Config) asks(name string) bool {
	if c.application.conf == nil || c.application.reverb.Asks(name) {
		return c.application.reverb.Asks(name)
	}
	s, _ := c.application.conf.Section("broadcasting") // an error of it matters to Laravel alone
	return s.Asks(name)
}
