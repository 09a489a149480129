package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"reverb/internal/apps"
	"reverb/internal/laravel"
	"reverb/internal/lib/dotenv"
	"reverb/internal/lib/php"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/show"
)

// application has the settings of a Laravel application's own configuration that count here. They
// stand between the real environment and .env.
type application struct {
	conf     *laravel.Config    // nil: there is none
	reverb   laravel.Section    // what config('reverb') returns
	settings map[string]Setting // of the variables that have a counterpart, by name
	tls      []byte             // the section as JSON, for its TLS options
	apps     []byte             // JSON of the apps, if there are several
	origin   string             // where the apps stand
}

// wayOut tells an operator how to start although a file cannot be read here.
const wayOut = "; REVERB_CONFIG_FILE= leaves the file out, " +
	"and REVERB_APPS_FILE takes the apps as " +
	"php artisan tinker --execute 'echo json_encode(config(\"reverb\"));' > apps.json writes them"

// wayOutOfBroken is wayOut for a file that is no PHP. Nothing of Laravel runs beside such a cached
// file, but the commands that remove or replace it.
func (c *Config) wayOutOfBroken() string {
	if c.application.conf.Cached() != "" {
		return "; php artisan config:clear removes the file, config:cache writes it again, and " +
			"REVERB_CONFIG_FILE= leaves it out"
	}
	return wayOut
}

// readApplication reads the configuration of the Laravel application in the folder of .env.
func (c *Config) readApplication(src *source) {
	c.phpEnv = src.phpEnv
	name, named := src.configFile()
	folder := filepath.Dir(c.at(src.fileName))
	if named && (name == "" || redact.NoName(name) != nil) || !filepath.IsAbs(folder) {
		return
	}
	a := laravel.Application{Folder: folder, Env: c.phpEnv, Real: func(name string) (string, bool) {
		v, ok := src.env[name]
		return v, ok
	}}
	c.application.conf = a.Open()
	var err error
	if named {
		c.application.reverb, err = a.ReadFile(c.at(name))
		c.application.reverb.File = name
	} else {
		c.application.reverb, err = c.application.conf.Section("reverb")
		c.application.reverb.File = src.beside(c.application.reverb.File)
	}
	if c.judgeApplication(src, name, err); err == nil {
		c.takeServer(src)
		c.takePublic()
		c.takeApps(src)
	}
}

// judgeApplication reports the parts of the application's configuration that cannot be read. A part
// that may hold credentials, origins or limits stops the start, unless the apps stand elsewhere.
func (c *Config) judgeApplication(src *source, named string, err error) {
	reverb := c.application.reverb
	elsewhere := false
	for _, name := range []string{"REVERB_APPS", "REVERB_APPS_FILE"} {
		_, _, ok := src.lookup(name)
		elsewhere = elsewhere || ok
	}
	var path *fs.PathError
	given := "REVERB_CONFIG_FILE=" + Masked(named)
	switch {
	case named != "" && errors.As(err, &path):
		c.Problem(given, c.fileHint(err, "name Laravel's config/reverb.php, or leave the value "+
			"empty for none"))
	case err != nil && named != "":
		c.Problem(given, err.Error())
	case err != nil && elsewhere:
		c.Warn("%v; the file does not count", err)
	case err != nil:
		c.Problem("", err.Error()+c.wayOutOfBroken())
	}
	if err != nil {
		return
	}
	if named != "" && !reverb.Has("servers") && !reverb.Has("apps") {
		c.Problem(given, "it has neither servers nor apps; name Laravel's config/reverb.php, or "+
			"leave the value empty for none")
		return
	}
	if err := reverb.Get("apps").Problem(); err != nil && !elsewhere {
		c.Problem("", err.Error()+wayOut)
	}
	reverb.Each(func(key string, v php.Value) {
		if err := v.Problem(); err != nil && key != "apps" && named != "" {
			c.Problem("REVERB_CONFIG_FILE="+Masked(named), err.Error())
		} else if err != nil && key != "apps" {
			c.Warn("%v; what stands there does not count", err)
		}
	})
}

// takeServer takes the settings of the server.
func (c *Config) takeServer(src *source) {
	a := &c.application
	name := a.reverb.Get("default").Text()
	server := a.reverb.Get("servers", name)
	if server.Kind != php.Array {
		server = a.reverb.Get("servers", "reverb")
	}
	for variable, path := range laravel.ServerKeys() {
		c.take(variable, server.Get(path...), a.reverb.File)
	}
	redis, file := server.Get("scaling", "server"), a.reverb.File
	if !redis.Truth() { // Reverb: Servers\Reverb\Publishing\RedisClient, redisUrl
		database, err := a.conf.Section("database")
		redis, file = database.Get("redis", "default"), src.beside(database.File)
		if enabled, _, _ := src.lookup("REVERB_SCALING_ENABLED"); err != nil &&
			(enabled != "" || server.Get("scaling", "enabled").Truth()) {
			c.Warn("%v; what stands there does not count", err)
		}
	}
	for variable, key := range laravel.RedisKeys() {
		c.take(variable, redis.Get(key), file)
	}
	a.tls = a.reverb.AppendJSON(nil)
}

// takePublic takes the address at which clients find the first app; its host counts before the
// hostname of the server. What makes no sense there does not keep the server from starting.
func (c *Config) takePublic() {
	a := &c.application
	apps := a.reverb.Get("apps", "apps").Elements()
	if len(apps) == 0 {
		return
	}
	for _, v := range Variables() {
		key, ok := laravel.PublicKeys()[v.Name]
		value := apps[0].Value.Get("options", key)
		if !ok || value.Text() == "" {
			continue
		}
		if err := v.read(&Config{}, value.Text()); err != nil {
			c.Warn("%s:%d: options.%s is %v; it does not count", a.reverb.File, value.Line, key,
				err)
			continue
		}
		c.take(v.Name, value, a.reverb.File)
	}
}

// take takes a value of the application's configuration for a variable. Null says nothing.
func (c *Config) take(variable string, v php.Value, file string) {
	text := v.Text()
	switch v.Kind {
	case php.Null, php.Unknown:
		return
	case php.Bool:
		text = fmt.Sprint(v.Truth())
	case php.Array:
		var parts []string
		v.Each(func(_ string, element php.Value) { parts = append(parts, element.Text()) })
		text = strings.Join(parts, ",")
	}
	if c.application.settings == nil {
		c.application.settings = map[string]Setting{}
	}
	c.application.settings[variable] = Setting{Name: variable, Value: text, given: variable,
		Origin: fmt.Sprintf("%s:%d", file, v.Line)}
}

// takeApps takes the apps of the file. A single app fills the variables REVERB_APP_*, so that the
// real environment counts before it. Several apps are a list.
func (c *Config) takeApps(src *source) {
	a := &c.application
	list := a.reverb.Get("apps", "apps")
	a.origin = fmt.Sprintf("%s:%d", a.reverb.File, list.Line)
	if provider := a.reverb.Get("apps", "provider"); provider.Truth() &&
		provider.Text() != "config" {
		c.Warn("%s:%d: the apps come from a provider that is PHP; REVERB_APPS_FILE takes a list "+
			"of them",
			a.reverb.File, provider.Line)
		return
	}
	if list.Kind != php.Array || list.Problem() != nil || !list.Truth() {
		return
	}
	if line := laravel.NotUTF8(list); line > 0 {
		c.Problem("", fmt.Sprintf("%s:%d: a text of an app is not UTF-8%s", a.reverb.File, line,
			wayOut))
		return
	}
	var only php.Value
	list.Each(func(_ string, v php.Value) { only = v })
	if len(list.Elements()) > 1 {
		a.apps = list.AppendJSON(nil)
		if _, origin, ok := src.lookup("REVERB_ALLOWED_ORIGINS"); ok &&
			!a.reverb.Asks("REVERB_ALLOWED_ORIGINS") {
			c.Warn("REVERB_ALLOWED_ORIGINS (%s) does not count: each app of %s has origins of "+
				"its own", origin, a.origin)
		}
		return
	}
	if only.Kind != php.Array {
		c.Problem("", a.origin+": an app is not an array")
		return
	}
	app, problems, warnings := apps.Parse(only.AppendJSON(nil))
	for _, p := range problems {
		if !strings.HasSuffix(p, ": missing or empty") { // the variables may have it
			c.Problem(a.origin, "the app: "+p)
		}
	}
	for _, w := range warnings {
		c.Warn("%s: the app: %s", a.origin, w)
	}
	c.app = *app
	if v := only.Get("accept_client_events_from"); v.Kind == php.Null &&
		only.Has("accept_client_events_from") {
		// as apps.Parse has read it
		c.take("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", php.Of("all"), a.reverb.File)
	}
	for variable, path := range laravel.AppKeys() {
		c.take(variable, only.Get(path...), a.reverb.File)
	}
}

// addPHPApps adds the apps of a file of PHP: a list of apps, or all of config/reverb.php.
func (c *Config) addPHPApps() {
	given := "REVERB_APPS_FILE=" + Masked(c.appsFile)
	a := laravel.Application{Folder: filepath.Dir(filepath.Dir(c.at(c.appsFile))), Env: c.phpEnv,
		Real: c.phpEnv}
	file, err := a.ReadFile(c.at(c.appsFile))
	if err == nil {
		err = file.Problem()
	}
	var path *fs.PathError
	switch line := laravel.NotUTF8(file.Value); {
	case errors.As(err, &path):
		c.Problem(given, c.fileHint(err, "name a file of apps"))
	case err != nil:
		c.Problem(given, err.Error())
	case line > 0:
		c.Problem(given, fmt.Sprintf("line %d: a text is not UTF-8", line))
	default:
		c.addApps(given, file.AppendJSON(nil))
	}
}

// applicationSetting is the setting of a variable that counts. given is the setting of flags, the
// environment and .env, if ok. decided says that the application's configuration counts.
func (c *Config) applicationSetting(v *Variable, given Setting, ok bool, src *source) (s Setting,
	decided bool) {
	s, found := c.application.settings[v.Name]
	_, isApp := laravel.AppKeys()[v.Name]
	if !found || s.Value == "" && !isApp || !ok && s.Value == v.Default || ok &&
		s.Value == given.Value {
		return given, false // the file does not set it, or sets the same
	}
	s.secret, s.computed = v.Secret, isApp
	// not by an alias
	named := ok && given.given == v.Name && !strings.HasPrefix(given.Origin, "default of ")
	published := v.Name == "REVERB_PORT" && s.Value == "443" ||
		v.Name == "REVERB_SCHEME" && s.Value == "https"
	if published && !named && c.Setting("REVERB_HOST").given != "REVERB_HOST" {
		return given, false // what the file says where no host is set
	}
	ours := slices.Contains(laravel.OursAlone(), v.Name) && !c.application.reverb.Asks(v.Name)
	differ := func(counts, not Setting) {
		c.Notes = append(c.Notes, fmt.Sprintf("%s (%s) counts, not %s (%s)", counts.assignment(),
			counts.Origin, not.assignment(), not.Origin))
	}
	switch flag := strings.HasPrefix(given.Origin, "--"); {
	case named && flag:
		return given, false
	case named && (ours || !src.inFile(given.Origin)):
		differ(given, s)
		return given, false
	case named:
		differ(s, given)
	}
	return s, true
}

// configFile is REVERB_CONFIG_FILE. Set and empty, it names no file.
func (s *source) configFile() (name string, set bool) {
	raw, found := s.env["REVERB_CONFIG_FILE"]
	if !found {
		e, inFile := s.file["REVERB_CONFIG_FILE"]
		raw, found = e.Value, inFile
	}
	value, null := dotenv.Value(raw)
	return value, found && !null
}

// beside is the name of a file of the application: relative to the working folder, unless it is
// absolute.
func (s *source) beside(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(s.fileName), name)
}

// phpEnv is a variable as PHP sees it: from the real environment, or else from .env.
func (s *source) phpEnv(name string) (value string, ok bool) {
	if v, found := s.env[name]; found && !s.linked(name) {
		return v, true
	}
	e, ok := s.file[name]
	return e.Value, ok
}

// inFile says whether a value stands in .env.
func (s *source) inFile(origin string) bool { return strings.HasPrefix(origin, s.fileName+":") }

// findRestart finds where php artisan reverb:restart of the application leaves its signal.
func (c *Config) findRestart() {
	conf := c.application.conf
	if conf == nil || !conf.IsThere() {
		return
	}
	c.Signal = conf.RestartPlace()
	if c.Signal.Redis != nil {
		var err error
		if c.SignalRedis, err = addressOf(c.Signal.Redis); err != nil {
			c.Signal = laravel.Place{Reason: err.Error()}
		}
	}
	if c.Signal.Reason != "" {
		c.Notes = append(c.Notes, "php artisan reverb:restart is not seen: "+
			show.Line(c.Signal.Reason)+"; reverb restart is the command")
		return
	}
	does, after := "puts a fresh process in the place of the server", ""
	if c.Limits.Restart == "drain" {
		does = "ends the server"
		if c.env["INVOCATION_ID"] == "" && c.env["SUPERVISOR_ENABLED"] == "" {
			after = "; only systemd, Supervisor or the like starts the next one"
		}
	}
	c.Notes = append(c.Notes, "php artisan reverb:restart "+does+": "+
		show.Line(c.Signal.String())+" is watched"+after)
}

// addressOf is the address of a connection of config/database.php. The parts that its URL lacks
// count beside the URL (Laravel: Support\ConfigurationUrlParser).
func addressOf(k *laravel.RedisKey) (a RedisAddress, err error) {
	read := &Config{}
	for _, part := range []struct {
		value string
		read  func(*Config, string) error
	}{
		{k.Scheme, readRedisScheme},
		{k.Host, text(func(c *Config) *string { return &c.redis.Host })},
		{k.Path, text(func(c *Config) *string { return &c.redis.Path })},
		{k.Port, number(0, 65535, func(c *Config) *int { return &c.redis.Port })},
		{k.DatabaseName, number(0, 65535, func(c *Config) *int { return &c.redis.DB })},
	} {
		if part.value != "" && err == nil {
			err = part.read(read, part.value)
		}
	}
	parts := read.redis.Parts
	parts.Username, parts.Password = k.Username, k.Password
	switch {
	case err != nil:
	case k.URL != "":
		parts.Scheme = "" // that of the URL decides
		parts.Port = cmp.Or(parts.Port, 6379)
		a, err = parts.ParseURL(k.URL)
	default:
		a, err = parts.Parse()
	}
	if err != nil {
		err = fmt.Errorf("the Redis connection %s: %w", show.Text(k.Connection), err)
	}
	return a, err
}
