// Package config is what the operator has set, where it stands, and all that is wrong with
// it. One table of variables drives parsing, the texts of errors, reverb help and the table
// of the README.
//
// ParseArgs takes the command line apart. Load takes the environment, the flags and a way to
// read files, and tries everything at once, so that all problems are told together. Nobody fills a Config in afterwards, and no
// part of the program takes a whole Config but the commands. The package opens no socket,
// dials nobody and judges no certificate; the commands add what they find with Problem and
// Warn. It looks at files through Files alone; StartDev and JoinDev keep an app in the folder
// that they are given. No text of the package shows a secret.
package config

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"reverb/internal/laravel"
	"reverb/internal/lib/dotenv"
	"reverb/internal/lib/origin"
	"reverb/internal/lib/proxies"
)

// Config is everything that can be set. Load makes it; afterwards it is read alone, but for
// Problem, Warn and what the caller adds to Notes.
type Config struct {
	Listen  Listen
	Public  Public
	Limits  Limits
	Scaling Scaling
	Redis   Redis
	TLS     TLS
	Admin   Admin
	Log     Log
	Dev     bool   // start, listen and trigger use an app made for trying things out
	Apps    []*App // no two have the same ID or key

	Notes    []string // what was found or decided, for the log
	Problems []string // what keeps the server from starting, a line each
	Warnings []string // what works, but hardly as it was meant, a line each

	app      App      // of REVERB_APP_*, and what those variables say of it
	appsJSON string   // of REVERB_APPS
	appsFile string   // of REVERB_APPS_FILE
	redis    redisSet // what leads to Redis
	inForce  []Setting
	late     map[string]error // what is wrong with a variable that is judged where it is needed
	links    []string         // variables that a platform has set to an address, see servicelinks

	application application // what Laravel's own files say
	phpEnv      laravel.Env // what they see of the environment

	environ []string // what all of this was made of
	flags   map[string]string
	files   Files
	env     map[string]string // environ by name
}

// Listen says where the server listens, and for whom.
type Listen struct {
	Host          string // an address, a name of this machine, or unix:/path
	Port          int    // 0: any that is free
	Path          string // what every path begins with, such as /ws; empty: nothing
	SocketMode    os.FileMode
	SocketOwner   string // user:group of Unix sockets; either may be missing
	Plain         string // a second address, without TLS; empty: there is none
	ProxyProtocol bool   // connections begin with a PROXY header
	Trusted       proxies.Trusted
	Control       string // path of the socket of reverb restart; empty: a usual place
}

// Public is the address that browsers use. It is never listened on.
type Public struct {
	Host   string // in ASCII, without brackets; empty: it is not known
	Port   int    // 0: it is not known
	Scheme string // http or https; empty: it is not known
}

// Limits bound what clients may do, and how long a stop may take.
type Limits struct {
	RequestSize int           // bytes of a request's body
	PerAddress  int           // connections of one address; 0: no limit
	Memory      uint64        // bytes of the process; 0: not set
	AuthWindow  time.Duration // between a signature's time and the clock; 0: any
	Compression bool          // permessage-deflate is taken where it is offered
	Grace       time.Duration // over which a stop is told to the connections
}

// Scaling is how a node finds the others.
type Scaling struct {
	Enabled  bool
	Channel  string        // what everything in Redis begins with
	Patience time.Duration // events wait so long for Redis to come back
}

// Admin is where an operator looks.
type Admin struct {
	Listen        string // empty: nowhere
	MetricsPrefix string
}

// Log is what of the server's work is told, and how.
type Log struct {
	Level  slog.Level
	Format string // text or json
	Debug  bool   // every message is shown
	Quiet  bool   // errors alone are shown
}

// Files are the operator's, as the configuration sees them.
type Files struct {
	Folder string                            // the working folder, by the name that a deployment keeps; names are relative to it. Empty: no Laravel application is looked for
	Read   func(name string) ([]byte, error) // the whole file, without a byte order mark
	Exists func(name string) bool            // whether there is a regular file of this name
	User   int                               // ID of the user that reads them
}

// Setting is what is in force of a variable, by its own name. A variable without a value
// has a name alone.
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
	computed    bool   // the app has it already
	given       string // the variable that was really set: Name, or Laravel's
}

// Load reads every variable: flags, by name without dashes, count before environ, which
// has NAME=value, and that counts before the Laravel application's configuration, and that before
// its .env. What is wrong is in Problems, all of it.
func Load(environ []string, flags map[string]string, files Files) *Config {
	c := &Config{Dev: flags["dev"] == "true", environ: environ, flags: flags, files: files,
		late: map[string]error{}}
	src := &source{flags: flags, env: map[string]string{}, file: map[string]dotenv.Entry{}}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		src.env[name] = value
	}
	c.env = src.env
	c.readEnvFile(src)
	c.readApplication(src)
	for _, v := range Variables() {
		c.readVariable(&v, src)
	}
	c.heedVerbosity()
	c.warnUnknown(src)
	c.warnLinks()
	c.loadApps()
	if c.application.tls != nil {
		c.readDumpTLS(c.application.reverb.File, c.application.tls)
	}
	c.checkTogether()
	return c
}

// at is where a name leads to. A relative one is resolved anew by every reading, so that a link
// to the newest of several folders is followed.
func (c *Config) at(name string) string {
	if c.files.Folder == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.files.Folder, name)
}

// Again is what Load makes now of the same environment, flags and files.
func (c *Config) Again() *Config { return Load(c.environ, c.flags, c.files) }

// Getenv is a variable of the environment, as Load was given it.
func (c *Config) Getenv(name string) string { return c.env[name] }

// checkTogether judges what no variable can alone.
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
}

// judge tells what is wrong with a variable that is needed: what was found when it was
// read, or else what is found now.
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
