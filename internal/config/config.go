// Package config knows what the operator has set, where each value stands, and all that is wrong
// with the values. One table of variables drives parsing, the texts of errors, reverb help and the
// table of the README. An app of REVERB_APPS is not in the table: apps.go has its keys and their
// defaults.
//
// Load takes the environment, the flags and a way to read files, and tries everything at once, so
// that all problems are told together. A Config is complete when Load returns it, and only the
// commands take a whole Config. The package opens no socket, dials no address and judges no
// certificate; the commands add what they find with Problem and Warn. It reads files only through
// Files, except that StartDev and JoinDev keep an app in the folder that they are given. No text of
// the package shows a secret.
//
// Files:
//
//	config.go     the Config, Load, what is judged together
//	variables.go  the table of variables, and how a value is read
//	sources.go    flags, environment, .env and files of secrets, and which of them counts
//	apps.go       an app's settings, and lists of apps
//	redis.go      where Redis is
//	queue.go      where the queue of the Laravel application is
//	tls.go        the settings of TLS, also in PHP's words
//	hooks.go      webhooks of apps that have none of their own
//	dev.go        the app of --dev
//	report.go     problems and warnings, and what is in force, without secrets
package config

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"reverb/internal/aliases"
	"reverb/internal/laravel"
	"reverb/internal/lib/dotenv"
	"reverb/internal/lib/names"
	"reverb/internal/lib/origin"
	"reverb/internal/lib/proxies"
	"reverb/internal/webhooks"
)

// Config has everything that can be set. Load makes it. Afterwards only Problem, Warn, and a caller
// that adds to Notes change it.
type Config struct {
	Listen  Listen
	Public  Public
	Limits  Limits
	Resume  Resume
	Scaling Scaling
	Redis   Redis
	TLS     TLS
	Admin   Admin
	Log     Log
	Hooks   Hooks
	Dev     bool   // start, listen and trigger use an app made for trying things out
	Apps    []*App // no two have the same ID or key

	Signal      laravel.Place // of php artisan reverb:restart; its String is empty without Laravel
	SignalRedis RedisAddress  // where Signal is in Redis

	Queue Queue // of the Laravel application; see there

	Lookup aliases.Lookup // a variable in the environment or .env, by the rules of env()
	Names  []string       // the variables there, in order

	Notes    []string // what Load found or decided, for the log
	Problems []string // what keeps the server from starting, one line each
	Warnings []string // what works, but probably not as meant, one line each

	app      App      // the app of REVERB_APP_*
	appsJSON string   // of REVERB_APPS
	appsFile string   // of REVERB_APPS_FILE
	redis    redisSet // the way to Redis
	queue    string   // of REVERB_LARAVEL_QUEUE
	onto     string   // what is said of its queue
	inForce  []Setting
	late     map[string]error // errors of variables that are judged when they are needed
	links    []string         // variables that a platform has set, see servicelinks

	application application // what Laravel's own files say
	phpEnv      laravel.Env // the environment as these files see it

	file    map[string]dotenv.Entry // the lines of Laravel's .env, by name
	environ []string                // the source of the values
	flags   map[string]string
	files   Files
	env     map[string]string // environ by name
}

// Listen says where the server listens, and which hosts may connect.
type Listen struct {
	Host          string // an address, a name of this machine, or unix:/path
	Port          int    // 0: any free port
	Path          string // the beginning of every path, such as /ws; may be empty
	SocketMode    os.FileMode
	SocketOwner   string // user:group of Unix sockets; either may be missing
	Plain         string // a second address, without TLS; empty: none
	ProxyProtocol bool   // connections begin with a PROXY header
	Trusted       proxies.Trusted
	Control       string // path of the socket of reverb restart; empty: a usual place
}

// Public is the address that browsers use. The server does not listen on it.
type Public struct {
	Host   string // in ASCII, without brackets; empty: it is not known
	Port   int    // 0: it is not known
	Scheme string // http or https; empty: it is not known
}

// Limits bounds what clients may do, and how long a stop may take.
type Limits struct {
	RequestSize  int           // bytes of a request's body
	PerAddress   int           // connections of one address; 0: no limit
	Memory       uint64        // bytes of the process; 0: not set
	AuthWindow   time.Duration // between a signature's time and the clock; 0: no limit
	KeepKeys     time.Duration // how long a request's key counts; 0: keys are ignored
	Compression  bool          // permessage-deflate is used when a client offers it
	Grace        time.Duration // how long connections are told of a stop
	UpgradeDrain time.Duration // how long an old process relays TLS connections
	Restart      string        // auto, upgrade or drain
}

// Resume bounds what channels keep for clients that come back. How long they keep it is a setting
// of each app.
type Resume struct {
	Events   int         // of a channel
	Bytes    int64       // of all channels of this process
	Channels *names.List // that keep events
}

// Scaling says how a node finds the others.
type Scaling struct {
	Enabled  bool
	Channel  string        // the beginning of every name in Redis
	Patience time.Duration // how long events wait for Redis to come back
}

// Hooks say how webhooks are sent, and what is sent where for the apps that say nothing of it.
type Hooks struct {
	URL            *url.URL // nil: nowhere
	Kinds          webhooks.Kinds
	Prefix, Suffix string // of channels
	Timeout        time.Duration
	Headers        http.Header

	CAFile       string   // certificates that are trusted, PEM; empty: those of the system
	Proxy        *url.URL // nil: none
	QueueBytes   int64    // of what waits
	ClientEvents int      // of an app in a second
	LinkLocal    bool     // link-local addresses and metadata services are allowed
	Spool        string   // a folder that keeps what a stop would lose; empty: none
}

// Admin says where an operator looks.
type Admin struct {
	Listen        string // empty: nowhere
	MetricsPrefix string
}

// Log says what the server logs, and how.
type Log struct {
	Level  slog.Level
	Format string // text or json
	Debug  bool   // every message is shown
	Quiet  bool   // only errors are shown
	Access bool   // the log has a line for each request of the HTTP API
}

// Files is the way to the operator's files.
type Files struct {
	Folder string                            // the working folder; empty: no application is read
	Read   func(name string) ([]byte, error) // the whole file, without a byte order mark
	Exists func(name string) bool            // whether there is a regular file of this name
	User   int                               // ID of the user that reads them
}

// Setting returns the setting in force of a variable, by its own name. A variable without a value
// has only a name.
func (c *Config) Setting(name string) Setting {
	for _, s := range c.inForce {
		if s.Name == name {
			return s
		}
	}
	return Setting{Name: name}
}

// Setting is one variable as it is in force.
type Setting struct {
	Name, Value string
	Origin      string // where the value stands: environment, .env:3, --port, default
	secret      bool
	computed    bool   // the app has the value already
	given       string // the variable that was set: Name, or Laravel's
}

// Load reads every variable. Flags, by name without dashes, count before environ, which has
// NAME=value. Environ counts before the Laravel application's configuration, and that before its
// .env. Problems has all that is wrong.
func Load(environ []string, flags map[string]string, files Files) *Config {
	c := &Config{Dev: flags["dev"] == "true", environ: environ, flags: flags, files: files,
		late: map[string]error{}}
	src := &source{flags: flags, env: map[string]string{}, file: map[string]dotenv.Entry{}}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		src.env[name] = value
	}
	c.env, c.Lookup = src.env, src.lookup
	c.readEnvFile(src)
	c.file = src.file
	c.readApplication(src)
	c.Names = src.names()
	c.chooseAliases(src)
	for _, v := range Variables() {
		c.readVariable(&v, src)
	}
	c.findRestart()
	c.heedVerbosity()
	c.warnUnknown(src)
	c.warnLinks()
	c.loadApps()
	c.findQueue()
	c.setHooks()
	if c.application.tls != nil {
		c.readDumpTLS(c.application.reverb.File, c.application.tls)
	}
	c.checkTogether()
	return c
}

// at is where a name leads to. Every reading resolves a relative name anew, and so follows a link
// to the newest of several folders.
func (c *Config) at(name string) string {
	if c.files.Folder == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.files.Folder, name)
}

// Again loads the same environment, flags and files again. What StartDev has replaced stays.
func (c *Config) Again() *Config {
	again := Load(c.environ, c.flags, c.files)
	if c.Dev {
		again.stayDev(c)
	}
	return again
}

// Getenv is a variable of the environment that Load was given.
func (c *Config) Getenv(name string) string { return c.env[name] }

// InEnvFile is the number of the line of Laravel's .env that sets a variable; 0: no line does.
func (c *Config) InEnvFile(name string) int { return c.file[name].Line }

// checkTogether judges several variables together.
func (c *Config) checkTogether() {
	ip := net.ParseIP(strings.Trim(c.Public.Host, "[]"))
	if ip == nil && strings.ContainsAny(c.Public.Host, "/$ @:") {
		c.Warn("REVERB_HOST=%s is not a host name; give the name alone, such as ws.example.com "+
			"(REVERB_PORT has the port, REVERB_SCHEME http or https), or neither Laravel nor "+
			"browsers will find the server", Masked(c.Public.Host))
		c.Public.Host = ""
	}
	if c.Public.Host != "" && ip == nil {
		host, err := origin.ASCII(c.Public.Host)
		if err != nil {
			c.Warn("REVERB_HOST=%s: %v", Masked(c.Public.Host), err)
		}
		c.Public.Host = host
	}
	c.Public.Host = strings.Trim(c.Public.Host, "[]")
	if ip := net.ParseIP(c.Public.Host); ip != nil && ip.IsUnspecified() {
		c.Warn("REVERB_HOST=%q is an address to listen on, but names the host that browsers "+
			"connect to; REVERB_SERVER_HOST says where to listen", c.Public.Host)
	}
	if c.Scaling.Enabled {
		c.checkRedis()
	}
	c.judgeResume()
}

// judge tells what is wrong with a variable that is needed: the error of its reading, or else the
// first of now.
func (c *Config) judge(name string, now ...error) {
	err := errors.Join(now...)
	if found := c.late[name]; found != nil {
		err = found
	}
	if err == nil {
		return
	}
	s := c.Setting(name)
	c.Problem(s.assignment()+" ("+s.Origin+")", err.Error())
}

// Address is the main address: host:port or unix:/path.
func (c *Config) Address() string {
	if strings.HasPrefix(c.Listen.Host, "unix:") {
		return c.Listen.Host
	}
	return net.JoinHostPort(c.Listen.Host, strconv.Itoa(c.Listen.Port))
}
