// Reverb is a realtime server for the Pusher protocol in one file. It takes the
// place of `php artisan reverb:start`: it reads a Laravel application's own
// settings, and Laravel, Laravel Echo, pusher-js and every Pusher server library
// keep working.
//
//	socket ─▶ loop ─▶ frame ─▶ message ─▶ event ─▶ channel ─▶ one encoded frame ─▶ every loop that has members ─▶ sockets
//	HTTP API ─▶ signature ─▶ event ─────────────▶ channel
//
// Files, in reading order:
//
//	main.go    this one: commands, configuration, listening, shutdown
//	ws.go      WebSockets and the event loops that own them
//	pusher.go  the Pusher protocol and its HTTP API
//	redis.go   where Redis is, and the links to it
//	tls.go     certificates
//	internal/  rooms and, in lib, leaves: they know nothing of the above
//
// Sections of this file:
//
//	Commands        main, run, help
//	Configuration   the table of variables; where their values come from
//	Apps            REVERB_APPS and its relatives
//	Report          what is in force; problems
//	Server          listening, serving, reloading, stopping
//	Control         how restart and check find a running server
//	Health          probes, metrics, status page
//	Check           what stands in the way of a start
//	Client          listen, trigger, health
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientside "reverb/internal/client" // pusher.go has a type of that name
	"reverb/internal/cluster"
	"reverb/internal/lib/accept"
	"reverb/internal/lib/control"
	"reverb/internal/lib/dotenv"
	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/limits"
	"reverb/internal/lib/logs"
	"reverb/internal/lib/memory"
	"reverb/internal/lib/metrics"
	"reverb/internal/lib/origin"
	"reverb/internal/lib/places"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/portowner"
	"reverb/internal/lib/proxies"
	"reverb/internal/lib/redact"
	"reverb/internal/lib/servicelinks"
	"reverb/internal/lib/systemd"
	"reverb/internal/lib/throttle"
	"reverb/internal/lib/unixsock"
	"reverb/internal/protocol"
)

// --- Commands ---

const (
	exitOK    = 0
	exitFail  = 1 // something went wrong while running
	exitUsage = 2 // the command line or the configuration is wrong
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // from then on a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// command is one thing that the program does. run gets what remains of the command
// line when flags have been taken off.
type command struct {
	name, args, help string
	run              func(ctx context.Context, c *config, args []string, stdout, stderr io.Writer) int
}

func commands() []command {
	return []command{
		{"start", "", "serve until a signal comes (the default)", runStart},
		{"listen", "CHANNEL...", "subscribe to channels of a running server and print what arrives", runListen},
		{"trigger", "CHANNEL EVENT JSON", "publish an event through a running server", runTrigger},
		{"restart", "", "ask a running server to tell its connections and to exit, and wait until it has", runRestart},
		{"check", "", "check the configuration and what it needs, without serving", runCheck},
		{"health", "", "ask a running server whether it is well; exit code 0 if it is", runHealth},
		{"version", "", "print the version", nil},
		{"help", "", "print this, and every variable", nil},
	}
}

// run is the whole program. environ is what os.Environ returns.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	name, words, flags, err := parseArgs(args)
	if err != nil {
		fmt.Fprintf(stderr, "reverb: %v; see reverb help\n", err)
		return exitUsage
	}
	switch name {
	case "help":
		printHelp(stdout)
		return exitOK
	case "version":
		fmt.Fprintln(stdout, version())
		return exitOK
	}
	known := commands()
	i := slices.IndexFunc(known, func(c command) bool { return c.name == name })
	if i < 0 {
		fmt.Fprintf(stderr, "reverb: there is no command %q; see reverb help\n", name)
		return exitUsage
	}
	if known[i].args == "" && len(words) > 0 {
		fmt.Fprintf(stderr, "reverb: %s takes no arguments; got %q; see reverb help\n", name, words[0])
		return exitUsage
	}
	c := loadConfig(environ, flags, time.Now())
	return known[i].run(ctx, c, words, stdout, stderr)
}

// parseArgs takes the command line apart. Flags may stand anywhere; --name value
// and --name=value are the same.
func parseArgs(args []string) (name string, words []string, flags map[string]string, err error) {
	flags = map[string]string{}
	if len(args) == 1 && args[0] == "-v" {
		return "version", nil, flags, nil
	}
	for i := 0; i < len(args); i++ {
		arg, dashed := strings.CutPrefix(args[i], "--")
		switch {
		case args[i] == "-h" || args[i] == "--help":
			return "help", nil, flags, nil
		case args[i] == "--version" || args[i] == "-V":
			return "version", nil, flags, nil
		case artisanFlag(args[i], flags):
			continue
		case !dashed && len(args[i]) == 2 && args[i][0] == '-' && (args[i][1] < '0' || args[i][1] > '9'): // the data of trigger may be -1
			return "", nil, nil, fmt.Errorf("there is no flag %s; flags have two dashes", printable(args[i]))
		case !dashed:
			words = append(words, args[i])
			continue
		}
		key, value, given := strings.Cut(arg, "=")
		switch {
		case key == "dev" && given && value != "true":
			return "", nil, nil, errors.New("--dev takes no value")
		case key == "debug" || key == "dev":
			if !given {
				value = "true"
			}
		case !slices.Contains([]string{"host", "port", "path", "hostname", "env-file", "env"}, key):
			return "", nil, nil, fmt.Errorf("there is no flag --%s", printable(key))
		case !given && (i+1 == len(args) || strings.HasPrefix(args[i+1], "--")):
			return "", nil, nil, fmt.Errorf("--%s needs a value", key)
		case !given:
			i++
			value = args[i]
		}
		flags[key] = value
	}
	if len(words) == 0 {
		return "start", nil, flags, nil
	}
	name = words[0]
	if name == "reverb:start" || name == "reverb:restart" {
		name = strings.TrimPrefix(name, "reverb:")
	}
	return name, words[1:], flags, nil
}

// artisanFlag takes a flag that every artisan command has (Symfony: Console\Application,
// configureIO), since it stands in files of Supervisor. -q leaves errors alone in the
// log and -vvv is the debug level; they are noted as "verbosity". The others change
// nothing. Short ones may stand together, like -nq.
func artisanFlag(arg string, flags map[string]string) (ok bool) {
	short, level := "", ""
	switch arg {
	case "--no-interaction", "--ansi", "--no-ansi", "--verbose", "--verbose=1", "--verbose=2":
		return true
	case "--quiet", "--silent":
		level = "quiet"
	case "--verbose=3":
		level = "verbose=3"
	default:
		if short, ok = strings.CutPrefix(arg, "-"); !ok || short == "" || strings.Trim(short, "nqv") != "" {
			return false
		}
	}
	if strings.Contains(short, "vvv") {
		level = "verbose=3"
	}
	if strings.Contains(short, "q") {
		level = "quiet"
	}
	if level != "" && flags["verbosity"] != "quiet" { // as in Symfony -q wins
		flags["verbosity"] = level
	}
	return true
}

// What the program is a build of, where the build says so:
// go build -ldflags "-X main.buildVersion=1.1.0 -X main.buildRevision=0123abc".
var buildVersion, buildRevision string

// buildInfo is the version and the revision of the program, and the version of Go. What
// the build does not say is in b: the module's version, which Go makes of the tag or the
// commit of a checkout, or else the revision. What is not known is "unknown".
func buildInfo(version, revision string, b *debug.BuildInfo) (v, rev, goVersion string) {
	short, dirty := "", ""
	if b == nil {
		b = &debug.BuildInfo{}
	}
	for _, s := range b.Settings {
		switch {
		case s.Key == "vcs.revision":
			short = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if short != "" {
		short += dirty
	}
	module := b.Main.Version
	if module == "(devel)" {
		module = ""
	}
	return cmp.Or(version, module, short, "unknown"), cmp.Or(revision, short, "unknown"), runtime.Version()
}

// builtAs is buildInfo of this program.
func builtAs() (version, revision, goVersion string) {
	b, _ := debug.ReadBuildInfo()
	return buildInfo(buildVersion, buildRevision, b)
}

func version() string {
	v, _, goVersion := builtAs()
	return fmt.Sprintf("reverb %s (%s, %s/%s)", v, goVersion, runtime.GOOS, runtime.GOARCH)
}

func printHelp(w io.Writer) {
	fmt.Fprint(w, "reverb serves the Pusher protocol in place of php artisan reverb:start.\n\nUsage: reverb [command] [flags]\n\nCommands\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-29s %s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
	}
	fmt.Fprint(w, "\nFlags, each short for a variable\n")
	for _, v := range variables() {
		if v.flag != "" {
			fmt.Fprintf(w, "  %-29s %s\n", "--"+v.flag, v.name)
		}
	}
	fmt.Fprintf(w, "  %-29s %s\n", "--dev", "a fresh app on 127.0.0.1, for trying things out; listen and trigger take it too")
	fmt.Fprintf(w, "  %-29s %s\n", "--env", "reads .env.NAME instead of .env if there is such a file, as APP_ENV in the environment does")
	fmt.Fprintf(w, "  %-29s %s\n", "artisan's own", "-q, --quiet: errors alone in the log; -vvv: debug; -n, --no-interaction, --ansi, --no-ansi, -v, -vv change nothing")
	fmt.Fprint(w, "\nVariables, read from the environment and then from .env (with default)\n")
	for _, v := range variables() {
		def := ""
		if v.def != "" {
			def = " (" + v.def + ")"
		}
		fmt.Fprintf(w, "  %-41s %s%s\n", v.name, v.help, def)
	}
	fmt.Fprint(w, "\nAny secret may be given as NAME_FILE, the name of a file that holds it.\n")
}

func runStart(ctx context.Context, c *config, _ []string, stdout, stderr io.Writer) int {
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE) // nobody reads it: whoever read the log is gone, and writing fails (os/signal, "SIGPIPE")
	defer signal.Stop(pipe)
	if c.dev {
		if err := c.startDev(); err != nil {
			fmt.Fprintln(stderr, "reverb: the app of --dev could not be kept for listen and trigger:", err)
		}
	}
	if c.quiet {
		c.warnings = nil
	}
	log := c.logger(stderr)
	if c.logFormat == "json" && len(c.problems) == 0 && len(c.apps) > 0 {
		for _, w := range c.warnings {
			log.Warn(w)
		}
	} else {
		c.report(stderr)
	}
	if len(c.problems) > 0 {
		return exitUsage
	}
	if len(c.apps) == 0 {
		fmt.Fprint(stderr, withoutApp())
		return exitUsage
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // from here on it does not end the process
	defer signal.Stop(hup)
	files := limits.RaiseFiles()
	_, group := limits.Memory()
	limit := memory.Limit(c.memoryLimit, group, limits.Machine())
	memory.SetLimit(limit)
	ln, plain, admin, err := c.open()
	if err != nil {
		fmt.Fprintf(stderr, "reverb: %v\n", err)
		return exitFail
	}
	s, err := newServer(c, ln, plain, files, log, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "reverb:", err)
		return exitFail
	}
	s.meter.Begin(limit, s.loops.queueMemory)
	if c.logFormat == "json" {
		log.Info("configuration", "variables", c.inForceJSON())
	} else if !c.quiet {
		c.printInForce(stderr)
	}
	if s.node != nil {
		s.node.Start() // without Redis a node serves its own connections until Redis comes
	}
	for _, note := range c.notes {
		log.Info(note)
	}
	how := "plain"
	if s.certs != nil {
		how = "TLS"
	}
	log.Info("listening on "+ln.Addr().String()+c.path, "with", how, "apps", len(c.apps), "loops", len(s.loops.all), "connections", s.limit)
	if plain != nil {
		log.Info("listening on "+plain.Addr().String()+c.path, "with", "plain")
	}
	if admin != nil {
		log.Info("metrics and status on " + admin.Addr().String())
		if a, ok := admin.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
			log.Warn("metrics and status can be reached from other machines, without a password; keep outsiders away with a firewall, or set REVERB_ADMIN_LISTEN=127.0.0.1:" + strconv.Itoa(a.Port))
		}
	}
	if err := s.serve(ctx, admin, hup); err != nil {
		fmt.Fprintln(stderr, "reverb:", err)
		return exitFail
	}
	log.Info("stopped")
	return exitOK
}

// oneLine is a message as it can be shown on a terminal: whole characters, no
// control codes, not too long.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
	if r := []rune(s); len(r) > 1000 {
		return string(r[:1000]) + "..."
	}
	return s
}

func (c *config) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.logLevel}
	if c.logFormat == "json" {
		return slog.New(logs.Limit(slog.NewJSONHandler(w, options)))
	}
	return slog.New(logs.Limit(slog.NewTextHandler(w, options)))
}

// --- Configuration ---

// config is everything that can be set, and where it was.
type config struct {
	host                                          string
	port                                          int
	path                                          string
	publicHost                                    string
	publicPort                                    int
	publicScheme                                  string
	app                                           appSettings // the app of REVERB_APP_*, and what those variables say of it
	appsJSON                                      string
	appsFile                                      string
	maxRequestSize                                int
	maxPerAddress                                 int
	memoryLimit                                   uint64 // bytes; 0: not set
	authWindow                                    time.Duration
	compression                                   bool
	grace                                         time.Duration
	socketMode                                    os.FileMode
	socketOwner                                   string
	plainListen                                   string
	proxyProtocol                                 bool
	trusted                                       proxies.Trusted
	control                                       string
	scaling                                       bool
	scalingChannel                                string
	redisURL                                      string
	redisScheme                                   string
	redisHost                                     string
	redisPort                                     int
	redisPath                                     string
	redisUser                                     string
	redisPassword                                 string
	redisDB                                       int
	redisTimeout                                  time.Duration
	redisCA, redisCert, redisKey, redisServerName string
	redisSentinels, redisService, redisCluster    string
	redis                                         *redisOptions // nil: no scaling
	tls                                           tlsSettings
	adminListen                                   string
	metricsPrefix                                 string
	logLevel                                      slog.Level
	logFormat                                     string
	debug                                         bool
	quiet                                         bool
	dev                                           bool

	apps     []*appSettings
	inForce  []setting
	notes    []string // what was found or decided, for the log
	problems []string
	warnings []string
	late     map[string]error // what is wrong with a variable that is judged where it is needed
	links    []string         // variables that a platform has set to an address, see servicelinks

	environ []string // what all of this was made of
	flags   map[string]string
	getenv  func(string) string // looks up environ
}

// setting is what is in force of a variable.
func (c *config) setting(name string) setting {
	for _, s := range c.inForce {
		if s.name == name {
			return s
		}
	}
	return setting{name: name}
}

// setting is one variable as it is in force.
type setting struct {
	name, value, origin string
	secret              bool
	given               string // the variable that was really set: name, or Laravel's
}

// shown is the value, fit to be shown.
func (s setting) shown() string {
	if s.secret {
		return "********"
	}
	return oneLine(redact.URL(s.value))
}

// assignment is the variable that was really set and its value, for a problem.
func (s setting) assignment() string {
	value := s.value
	if s.secret {
		value = s.shown()
	}
	return cmp.Or(s.given, s.name) + "=" + masked(value)
}

// masked is the value of a variable as texts show it: in quotes, without passwords.
func masked(value string) string { return quoted(redact.URL(value)) }

// variable is a row of the table of variables. read takes the text of a value that
// is not empty; its error says what is wrong and what would be right.
type variable struct {
	name     string
	fallback string // the variable of Laravel's that counts when this one is not set
	def      string
	flag     string
	secret   bool
	late     bool // a wrong value is a problem only where it is needed: Laravel's may be meant for others
	live     bool // takes effect at SIGHUP, without a restart
	help     string
	read     func(c *config, s string) error
}

func text(p func(*config) *string) func(*config, string) error {
	return func(c *config, s string) error { *p(c) = s; return nil }
}

func number(lo, hi int, p func(*config) *int) func(*config, string) error {
	return func(c *config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("not a whole number from %d to %d", lo, hi)
		}
		*p(c) = n
		return nil
	}
}

func duration(lo, hi int, p func(*config) *time.Duration) func(*config, string) error {
	return func(c *config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("not a whole number of seconds from %d to %d", lo, hi)
		}
		*p(c) = time.Duration(n) * time.Second
		return nil
	}
}

// decimalSeconds reads seconds that may have decimals, as PHP's floats. 0, which is no
// limit for Laravel's own connections, is the default here, since what waits is bounded.
func decimalSeconds(hi int, def time.Duration, p func(*config) *time.Duration) func(*config, string) error {
	return func(c *config, s string) error {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n >= 0 && n <= float64(hi)) {
			return fmt.Errorf("not a number of seconds from 0 to %d", hi)
		}
		if *p(c) = max(time.Duration(n*float64(time.Second)), time.Millisecond); n == 0 {
			*p(c) = def
		}
		return nil
	}
}

func boolean(p func(*config) *bool) func(*config, string) error {
	return func(c *config, s string) error {
		switch strings.ToLower(s) {
		case "true", "1", "on", "yes":
			*p(c) = true
		case "false", "0", "off", "no":
			*p(c) = false
		default:
			return errors.New("neither true nor false")
		}
		return nil
	}
}

// variables is the table. From it come parsing, the error texts, reverb help and
// the table in the README.
func variables() []variable {
	seconds := func(lo int, p func(*config) *time.Duration) func(*config, string) error {
		return duration(lo, 86_400, p)
	}
	return []variable{
		{name: "REVERB_SERVER_HOST", def: "0.0.0.0", flag: "host", help: "address to listen on; unix:/path for a socket", read: readHost},
		{name: "REVERB_SERVER_PORT", def: "8080", flag: "port", help: "port to listen on; 0 takes any that is free", read: number(0, 65535, func(c *config) *int { return &c.port })},
		{name: "REVERB_SERVER_SOCKET_MODE", def: "0660", help: "permissions of the Unix sockets that are listened on", read: readMode},
		{name: "REVERB_SERVER_SOCKET_OWNER", help: "their owner, user:group; either may be left out", read: text(func(c *config) *string { return &c.socketOwner })},
		{name: "REVERB_PLAIN_LISTEN", help: "a second address, without TLS, such as 127.0.0.1:8081", read: readAddress("", func(c *config) *string { return &c.plainListen })},
		{name: "REVERB_TRUSTED_PROXIES", help: "proxies whose X-Forwarded-For is believed: addresses, networks, unix, or * for all; comma-separated", read: readProxies},
		{name: "REVERB_PROXY_PROTOCOL", def: "false", help: "whether connections (of trusted proxies, if any are named) begin with a PROXY header", read: boolean(func(c *config) *bool { return &c.proxyProtocol })},
		{name: "REVERB_SERVER_PATH", flag: "path", help: "prefix of every path, such as /ws", read: readPath},
		{name: "REVERB_HOST", flag: "hostname", help: "public host name, as browsers use it; never listened on", read: text(func(c *config) *string { return &c.publicHost })},
		{name: "REVERB_PORT", help: "public port, as browsers use it; never listened on", read: number(1, 65535, func(c *config) *int { return &c.publicPort })},
		{name: "REVERB_SCHEME", help: "public scheme, http or https", read: readScheme},
		{name: "REVERB_APP_ID", live: true, help: "the app's ID", read: text(func(c *config) *string { return &c.app.id })},
		{name: "REVERB_APP_KEY", live: true, help: "the app's key; browsers know it", read: text(func(c *config) *string { return &c.app.key })},
		{name: "REVERB_APP_SECRET", live: true, secret: true, help: "the app's secret", read: text(func(c *config) *string { return &c.app.secret })},
		{name: "REVERB_APPS", live: true, secret: true, help: "several apps: a JSON array with the keys of config/reverb.php", read: text(func(c *config) *string { return &c.appsJSON })},
		{name: "REVERB_APPS_FILE", live: true, help: "the same in a file; a dump of config('reverb') will do", read: text(func(c *config) *string { return &c.appsFile })},
		{name: "REVERB_ALLOWED_ORIGINS", live: true, def: "*", help: "hosts that may connect, comma-separated; * stands for anything", read: readOrigins},
		{name: "REVERB_APP_PING_INTERVAL", live: true, def: "60", help: "seconds of silence after which a connection is pinged", read: seconds(1, func(c *config) *time.Duration { return &c.app.pingInterval })},
		{name: "REVERB_APP_ACTIVITY_TIMEOUT", live: true, def: "30", help: "seconds that a client has to answer a ping", read: seconds(1, func(c *config) *time.Duration { return &c.app.activityTimeout })},
		{name: "REVERB_APP_MAX_CONNECTIONS", live: true, help: "connections of an app; no limit when empty", read: number(1, math.MaxInt32, func(c *config) *int { return &c.app.maxConnections })},
		{name: "REVERB_APP_PRESENCE_MAX_MEMBERS", live: true, help: "members of a presence channel, as the node knows them; no limit when empty", read: number(1, math.MaxInt32, func(c *config) *int { return &c.app.maxMembers })},
		{name: "REVERB_APP_PRESENCE_MAX_MEMBER_SIZE", live: true, help: "bytes of the channel_data of a member; no limit but the message's when empty", read: number(1, 64<<20, func(c *config) *int { return &c.app.maxMemberSize })},
		{name: "REVERB_APP_MAX_MESSAGE_SIZE", live: true, def: "10000", help: "bytes of one message of a client", read: number(1, 64<<20, func(c *config) *int { return &c.app.maxMessageSize })},
		{name: "REVERB_APP_MAX_SUBSCRIPTIONS", live: true, def: "10000", help: "subscriptions of one connection", read: number(1, math.MaxInt32, func(c *config) *int { return &c.app.maxSubscribed })},
		{name: "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", live: true, def: "members", help: "members, all, none, or private: members of private and presence channels", read: readPolicy},
		{name: "REVERB_APP_RATE_LIMITING_ENABLED", live: true, def: "false", help: "whether messages of a connection are limited", read: boolean(func(c *config) *bool { return &c.app.limit.enabled })},
		{name: "REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", live: true, def: "60", help: "messages in one window", read: number(1, math.MaxInt32, func(c *config) *int { return &c.app.limit.maxAttempts })},
		{name: "REVERB_APP_RATE_LIMIT_DECAY_SECONDS", live: true, def: "60", help: "seconds of a window", read: seconds(1, func(c *config) *time.Duration { return &c.app.limit.decay })},
		{name: "REVERB_APP_RATE_LIMIT_TERMINATE", live: true, def: "false", help: "whether a connection over the limit is closed", read: boolean(func(c *config) *bool { return &c.app.limit.terminate })},
		{name: "REVERB_MAX_CONNECTIONS_PER_ADDRESS", live: true, def: "0", help: "connections of one address, or of one IPv6 network /64; 0 is no limit", read: number(0, math.MaxInt32, func(c *config) *int { return &c.maxPerAddress })},
		{name: "REVERB_MEMORY_LIMIT", help: "memory of the process, such as 512MiB, or off; when empty GOMEMLIMIT, the control group's, or the machine's", read: readMemoryLimit},
		{name: "REVERB_MAX_REQUEST_SIZE", live: true, def: "10000", help: "bytes of the body of a request", read: number(1, 64<<20, func(c *config) *int { return &c.maxRequestSize })},
		{name: "REVERB_AUTH_WINDOW", live: true, def: "600", help: "seconds that a signed request may differ from the clock; 0 allows any", read: seconds(0, func(c *config) *time.Duration { return &c.authWindow })},
		{name: "REVERB_COMPRESSION", live: true, def: "false", help: "whether permessage-deflate is taken when a client offers it", read: boolean(func(c *config) *bool { return &c.compression })},
		{name: "REVERB_SHUTDOWN_GRACE", live: true, def: "5", help: "seconds over which connections are told that the server stops", read: duration(0, 3600, func(c *config) *time.Duration { return &c.grace })},
		{name: "REVERB_CONTROL_SOCKET", help: "Unix socket over which reverb restart finds the server, in a folder where nobody else can write; a usual place when empty", read: text(func(c *config) *string { return &c.control })},
		{name: "REVERB_SCALING_ENABLED", def: "false", help: "several nodes on one Redis", read: boolean(func(c *config) *bool { return &c.scaling })},
		{name: "REVERB_SCALING_CHANNEL", def: "reverb", help: "prefix of everything in Redis", read: text(func(c *config) *string { return &c.scalingChannel })},
		{name: "REVERB_REDIS_URL", fallback: "REDIS_URL", secret: true, help: "redis://user:password@host:6379/0; wins over the parts", read: text(func(c *config) *string { return &c.redisURL })},
		{name: "REVERB_REDIS_SCHEME", fallback: "REDIS_SCHEME", late: true, help: "tls or rediss for TLS, unix for a socket; tcp or redis when empty", read: readRedisScheme},
		{name: "REVERB_REDIS_HOST", fallback: "REDIS_HOST", def: "127.0.0.1", help: "host of Redis, or the path of its Unix socket", read: text(func(c *config) *string { return &c.redisHost })},
		{name: "REVERB_REDIS_PORT", fallback: "REDIS_PORT", late: true, def: "6379", help: "port of Redis; 0 beside a path", read: number(0, 65535, func(c *config) *int { return &c.redisPort })},
		{name: "REVERB_REDIS_PATH", fallback: "REDIS_PATH", help: "path of its Unix socket, with the scheme unix", read: text(func(c *config) *string { return &c.redisPath })},
		{name: "REVERB_REDIS_USERNAME", fallback: "REDIS_USERNAME", help: "user in Redis", read: text(func(c *config) *string { return &c.redisUser })},
		{name: "REVERB_REDIS_PASSWORD", fallback: "REDIS_PASSWORD", secret: true, help: "password in Redis", read: text(func(c *config) *string { return &c.redisPassword })},
		{name: "REVERB_REDIS_DB", fallback: "REDIS_DB", late: true, def: "0", help: "database in Redis", read: number(0, 65535, func(c *config) *int { return &c.redisDB })},
		{name: "REVERB_REDIS_TIMEOUT", fallback: "REDIS_TIMEOUT", late: true, def: "60", help: "seconds that events wait for Redis to come back, decimals allowed, 0 for the default; then they are dropped and counted", read: decimalSeconds(86_400, time.Minute, func(c *config) *time.Duration { return &c.redisTimeout })},
		{name: "REVERB_REDIS_CA", help: "file of certificates that Redis must be signed with, PEM; the system's when empty", read: text(func(c *config) *string { return &c.redisCA })},
		{name: "REVERB_REDIS_CERT", help: "file of our certificate for Redis, PEM; may hold the key too", read: text(func(c *config) *string { return &c.redisCert })},
		{name: "REVERB_REDIS_KEY", help: "file of its private key, PEM", read: text(func(c *config) *string { return &c.redisKey })},
		{name: "REVERB_REDIS_SERVER_NAME", help: "name in the certificate of Redis; its host when empty", read: text(func(c *config) *string { return &c.redisServerName })},
		{name: "REVERB_REDIS_SENTINELS", help: "sentinels that know the master: host:port, comma-separated", read: text(func(c *config) *string { return &c.redisSentinels })},
		{name: "REVERB_REDIS_CLUSTER", help: "some nodes of a Redis Cluster: host:port, comma-separated", read: text(func(c *config) *string { return &c.redisCluster })},
		{name: "REVERB_REDIS_SERVICE", def: "mymaster", help: "name under which the sentinels know the master", read: text(func(c *config) *string { return &c.redisService })},
		{name: "REVERB_TLS_CERT", live: true, help: "file of the certificate chain, PEM; may hold the key too", read: text(func(c *config) *string { return &c.tls.certFile })},
		{name: "REVERB_TLS_KEY", live: true, help: "file of the private key, PEM", read: text(func(c *config) *string { return &c.tls.keyFile })},
		{name: "REVERB_TLS_PASSPHRASE", live: true, secret: true, help: "passphrase of the private key", read: text(func(c *config) *string { return &c.tls.passphrase })},
		{name: "REVERB_TLS_CA", live: true, help: "file of certificates that clients must be signed with, PEM", read: text(func(c *config) *string { return &c.tls.caFile })},
		{name: "REVERB_TLS_MIN_VERSION", live: true, def: "1.2", help: "1.2 or 1.3", read: text(func(c *config) *string { return &c.tls.minVersion })},
		{name: "REVERB_TLS_CIPHERS", live: true, help: "cipher suites of TLS 1.2, comma-separated", read: text(func(c *config) *string { return &c.tls.ciphers })},
		{name: "REVERB_ADMIN_LISTEN", help: "address for metrics, status and profiling, such as 127.0.0.1:9090", read: readAddress("127.0.0.1", func(c *config) *string { return &c.adminListen })},
		{name: "REVERB_METRICS_PREFIX", def: "reverb_", help: "what names of metrics begin with; soketi_ or sockudo_ for their dashboards", read: readMetricsPrefix},
		{name: "REVERB_LOG_LEVEL", def: "info", help: "debug, info, warn or error", read: readLogLevel},
		{name: "REVERB_LOG_FORMAT", def: "text", help: "text or json", read: readLogFormat},
		{name: "REVERB_DEBUG", def: "false", flag: "debug", help: "show every message, on standard output", read: boolean(func(c *config) *bool { return &c.debug })},
		{name: "REVERB_ENV_FILE", live: true, def: ".env", flag: "env-file", help: "Laravel's file; the real environment wins over it", read: func(*config, string) error { return nil }},
	}
}

// readHost reads where to listen: an address, a name of this machine, or unix:/path.
func readHost(c *config, s string) error {
	path, unix := strings.CutPrefix(s, "unix:")
	host := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	_, bad := netip.ParseAddr(host)
	switch {
	case unix && path == "":
		return errors.New("the path is missing; give one, such as unix:/run/reverb.sock")
	case unix:
		host = s
	case bad != nil && strings.ContainsAny(s, ":/$@ "):
		return errors.New("not a host; give an address alone, such as 127.0.0.1 (REVERB_SERVER_PORT has the port), or unix:/path")
	}
	c.host = host
	return nil
}

func readMode(c *config, s string) error {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return errors.New("not permissions in octal digits")
	}
	c.socketMode = os.FileMode(n)
	return nil
}

// readAddress reads host:port, a port alone, which is one of host, or unix:/path.
func readAddress(host string, p func(*config) *string) func(*config, string) error {
	return func(c *config, s string) error {
		if _, err := strconv.Atoi(s); err == nil {
			s = net.JoinHostPort(host, s)
		}
		host, port, err := net.SplitHostPort(s)
		n, bad := strconv.Atoi(port)
		if path, unix := strings.CutPrefix(s, "unix:"); unix && path != "" {
			*p(c) = s
			return nil
		}
		if err != nil || bad != nil || n < 0 || n > 65535 || strings.ContainsAny(host, "/@") {
			return errors.New("not an address; give host:port, such as 127.0.0.1:9090, or unix:/path")
		}
		*p(c) = s
		return nil
	}
}

func readProxies(c *config, s string) (err error) {
	c.trusted, err = proxies.Parse(s)
	return err
}

func readMemoryLimit(c *config, s string) (err error) {
	c.memoryLimit, err = memory.ParseSize(s)
	return err
}

func readMetricsPrefix(c *config, s string) error {
	for i, r := range s {
		if r != '_' && r != ':' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return errors.New("not the beginning of a metric's name: letters, digits and _")
		}
	}
	c.metricsPrefix = s
	return nil
}

func readPath(c *config, s string) error {
	s = strings.Trim(s, "/")
	if strings.Contains("/"+s+"/", "/../") || strings.Contains(s, "//") || (&url.URL{Path: s}).EscapedPath() != s {
		return errors.New("not a plain path, such as /ws")
	}
	if c.path = ""; s != "" {
		c.path = "/" + s
	}
	return nil
}

func readScheme(c *config, s string) error {
	if s != "http" && s != "https" {
		return errors.New("neither http nor https")
	}
	c.publicScheme = s
	return nil
}

func readOrigins(c *config, s string) error {
	for entry := range strings.SplitSeq(s, ",") {
		pattern, warning, err := origin.Parse(strings.TrimSpace(entry))
		if err != nil {
			return fmt.Errorf("%s: %w", masked(strings.TrimSpace(entry)), err)
		}
		if warning != "" {
			c.warnings = append(c.warnings, "REVERB_ALLOWED_ORIGINS: "+masked(strings.TrimSpace(entry))+": "+warning)
		}
		c.app.allowedOrigins = append(c.app.allowedOrigins, pattern)
	}
	return nil
}

func parsePolicy(s string) (clientEventPolicy, error) {
	switch s {
	case "members":
		return clientEventsMembers, nil
	case "all":
		return clientEventsAll, nil
	case "none":
		return clientEventsNone, nil
	case "private":
		return clientEventsPrivate, nil
	}
	return 0, errors.New("none of members, all, none and private")
}

func readRedisScheme(c *config, s string) error {
	s = strings.ToLower(s)
	if !slices.Contains([]string{"tcp", "redis", "tls", "rediss", "unix"}, s) {
		return errors.New("none of tcp, redis, tls, rediss and unix")
	}
	c.redisScheme = s
	return nil
}

func readPolicy(c *config, s string) (err error) {
	c.app.clientEvents, err = parsePolicy(s)
	return err
}

func readLogLevel(c *config, s string) error {
	if c.logLevel.UnmarshalText([]byte(s)) != nil {
		return errors.New("none of debug, info, warn and error")
	}
	return nil
}

func readLogFormat(c *config, s string) error {
	if c.logFormat = s; s != "text" && s != "json" {
		return errors.New("neither text nor json")
	}
	return nil
}

// source is where values come from: flags, then the environment, then the file.
type source struct {
	flags      map[string]string
	env        map[string]string
	file       map[string]dotenv.Entry
	fileName   string
	fileOrigin string // what has chosen the file
}

// linked says whether a name in the environment is the platform's, which is as good as
// not set: what .env says counts.
func (s *source) linked(name string) bool { return servicelinks.IsPort(name, s.env[name]) }

// lookup returns the value of a name and where it stands, by Laravel's env() rules.
// ok is false where it is not set, null or empty.
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

// loadConfig reads every variable. What is wrong is in problems, all of it.
func loadConfig(environ []string, flags map[string]string, now time.Time) *config {
	c := &config{dev: flags["dev"] == "true", environ: environ, flags: flags, late: map[string]error{}}
	src := &source{flags: flags, env: map[string]string{}, file: map[string]dotenv.Entry{}}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		src.env[name] = value
	}
	c.getenv = func(name string) string { return src.env[name] }
	c.readEnvFile(src)
	for _, v := range variables() {
		c.readVariable(&v, src)
	}
	c.heedVerbosity()
	c.warnUnknown(src)
	c.warnLinks()
	c.loadApps()
	c.checkTogether(now)
	return c
}

// readEnvFile reads Laravel's .env. That the usual one is not there is no problem.
func (c *config) readEnvFile(src *source) {
	asked := c.chooseEnvFile(src)
	b, err := readFile(src.fileName)
	if err != nil {
		if asked || !errors.Is(err, os.ErrNotExist) {
			c.problem("REVERB_ENV_FILE="+masked(src.fileName), fileHint(err, "name Laravel's .env, or /dev/null for none"))
		}
		return
	}
	entries, err := dotenv.Parse(string(b), func(name string) (string, bool) { v, ok := src.env[name]; return v, ok })
	if err != nil {
		c.problem(src.fileName, err.Error())
	}
	for _, e := range entries {
		src.file[e.Name] = e
	}
}

// chooseEnvFile says which file is read: the one that is named, or .env.NAME if there
// is one for the NAME of --env or of APP_ENV, or else .env (Laravel: Illuminate\
// Foundation\Bootstrap\LoadEnvironmentVariables). asked says that it must be there.
func (c *config) chooseEnvFile(src *source) (asked bool) {
	if name := src.flags["env-file"]; name != "" {
		src.fileName, src.fileOrigin = name, "--env-file"
		return true
	}
	if name, origin, ok := src.lookup("REVERB_ENV_FILE"); ok {
		src.fileName, src.fileOrigin = name, origin
		return true
	}
	appEnv, _, _ := src.lookup("APP_ENV")
	for _, by := range []struct{ name, origin string }{{src.flags["env"], "--env"}, {appEnv, "environment, APP_ENV"}} {
		if fi, err := os.Stat(".env." + by.name); err == nil && fi.Mode().IsRegular() && by.name != "" {
			src.fileName, src.fileOrigin = ".env."+by.name, by.origin
			return false
		}
	}
	if name := src.flags["env"]; name != "" {
		c.notes = append(c.notes, "there is no file "+printable(".env."+name)+", so --env changes nothing")
	}
	src.fileName, src.fileOrigin = ".env", "default"
	return false
}

// heedVerbosity puts in force what -q and -vvv ask for; see artisanFlag.
func (c *config) heedVerbosity() {
	level := slog.LevelDebug
	switch c.flags["verbosity"] {
	case "":
		return
	case "quiet":
		level, c.quiet = slog.LevelError, true
	}
	c.logLevel = level
	for i := range c.inForce {
		if s := &c.inForce[i]; s.name == "REVERB_LOG_LEVEL" {
			s.value, s.origin = strings.ToLower(level.String()), "--"+c.flags["verbosity"]
		}
	}
}

// fileHint says why a file cannot be read, and what to do.
func fileHint(err error, remedy string) string {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Sprintf("%s for this user (uid %d); give it the right to read the file, or %s", errorText(err), os.Getuid(), remedy)
	}
	return errorText(err) + "; " + remedy
}

// errorText is an error without the file name, which the sentence around it has.
func errorText(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// readVariable finds the value of one variable and reads it.
func (c *config) readVariable(v *variable, src *source) {
	s, ok := c.findSetting(v, src)
	if !ok {
		return
	}
	c.inForce = append(c.inForce, s)
	err := v.read(c, s.value)
	if err == nil {
		return
	}
	if v.def != "" && !strings.Contains(err.Error(), "such as") {
		err = fmt.Errorf("%w, such as %s", err, v.def)
	}
	if v.late {
		c.late[v.name] = err
		return
	}
	c.problem(s.assignment()+" ("+s.origin+")", err.Error())
}

// findSetting finds the value of one variable: a flag's, its own, Laravel's, or the
// default.
func (c *config) findSetting(v *variable, src *source) (s setting, ok bool) {
	s = setting{name: v.name, given: v.name, secret: v.secret}
	if f, given := src.flags[v.flag]; v.flag != "" && given {
		s.value, s.origin, ok = f, "--"+v.flag, true
	} else {
		s.value, s.origin, ok = src.lookup(v.name)
		c.noteLink(v, v.name, src)
	}
	if v.secret {
		if fileValue, fileOrigin, fileOK := c.readSecretFile(v.name, ok, src); fileOK {
			s.value, s.origin, ok = fileValue, fileOrigin, true
		}
	}
	if !ok && v.fallback != "" {
		c.noteLink(v, v.fallback, src)
		if s.value, s.origin, ok = src.lookup(v.fallback); ok {
			s.given = v.fallback
			s.origin += ", " + v.fallback
		}
	}
	switch {
	case ok:
	case v.name == "REVERB_ENV_FILE":
		s.value, s.origin = src.fileName, src.fileOrigin
	default:
		s.value, s.origin = v.def, "default"
	}
	return s, s.value != ""
}

// noteLink notes that the platform has set a variable which would count. What is judged
// late is the business of scaling.
func (c *config) noteLink(v *variable, name string, src *source) {
	if src.linked(name) && (c.scaling || !v.late) {
		c.links = append(c.links, name)
	}
}

// warnLinks warns of what the platform has set, once.
func (c *config) warnLinks() {
	if len(c.links) > 0 {
		c.warnings = append(c.warnings, "Kubernetes or Docker has set "+strings.Join(c.links, " and ")+" to the address of a service, which is taken as not given; set enableServiceLinks: false in the pod's spec, or rename the service")
	}
}

// readSecretFile reads NAME_FILE, the file that holds a secret. REVERB_APPS_FILE is
// a variable of its own.
func (c *config) readSecretFile(name string, alreadySet bool, src *source) (value, origin string, ok bool) {
	if name == "REVERB_APPS" {
		return "", "", false
	}
	path, _, ok := src.lookup(name + "_FILE")
	if !ok {
		return "", "", false
	}
	if alreadySet {
		c.problem(name+"_FILE="+masked(path), name+" is set too; keep one of the two")
		return "", "", false
	}
	b, err := readFile(path)
	if err != nil {
		c.problem(name+"_FILE="+masked(path), fileHint(err, "name a file that holds the secret alone"))
		return "", "", false
	}
	value = strings.TrimRight(string(b), "\r\n")
	if value == "" {
		c.problem(name+"_FILE="+masked(path), "the file is empty; it must hold the secret alone")
	}
	return value, "file " + path, value != ""
}

// laravelOnly are variables of Laravel Reverb that mean nothing here.
func laravelOnly() []string {
	return []string{"REVERB_SERVER", "REVERB_PULSE_INGEST_INTERVAL", "REVERB_TELESCOPE_INGEST_INTERVAL"}
}

// warnUnknown tells of names that look like ours and are not.
func (c *config) warnUnknown(src *source) {
	known := laravelOnly()
	for _, v := range variables() {
		known = append(known, v.name)
		if v.secret {
			known = append(known, v.name+"_FILE")
		}
	}
	names := map[string]string{}
	for name, value := range src.env {
		if !servicelinks.IsLink(name, value, c.getenv) {
			names[name] = "environment"
		}
	}
	for name, e := range src.file {
		names[name] = fmt.Sprintf("%s:%d", src.fileName, e.Line)
	}
	for name, origin := range names {
		if strings.HasPrefix(name, "REVERB_") && !slices.Contains(known, name) {
			c.warnings = append(c.warnings, fmt.Sprintf("%s is not a variable of this program; the nearest is %s (%s)", printable(name), nearest(name, known), origin))
		}
	}
	slices.Sort(c.warnings)
}

// nearest returns the name that takes the fewest edits.
func nearest(name string, known []string) string {
	return slices.MinFunc(known, func(a, b string) int { return distance(name, a) - distance(name, b) })
}

// distance is how many letters must be added, dropped or changed (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// checkTogether judges what no variable can alone.
func (c *config) checkTogether(now time.Time) {
	if strings.ContainsAny(c.publicHost, "/$ @") || strings.Contains(c.publicHost, ":") && net.ParseIP(strings.Trim(c.publicHost, "[]")) == nil {
		c.warnings = append(c.warnings, fmt.Sprintf("REVERB_HOST=%s is not a host name; give the name alone, such as ws.example.com (REVERB_PORT has the port, REVERB_SCHEME http or https), or neither Laravel nor browsers will find the server", masked(c.publicHost)))
		c.publicHost = ""
	}
	if c.publicHost != "" && net.ParseIP(strings.Trim(c.publicHost, "[]")) == nil {
		host, err := origin.ASCII(c.publicHost)
		if err != nil {
			c.warnings = append(c.warnings, fmt.Sprintf("REVERB_HOST=%s: %v", masked(c.publicHost), err))
		}
		c.publicHost = host
	}
	c.publicHost = strings.Trim(c.publicHost, "[]")
	if ip := net.ParseIP(c.publicHost); ip != nil && ip.IsUnspecified() {
		c.warnings = append(c.warnings, fmt.Sprintf("REVERB_HOST=%q is an address to listen on, but names the host that browsers connect to; REVERB_SERVER_HOST says where to listen", c.publicHost))
	}
	if c.scaling {
		c.checkRedis()
	}
	c.checkTLS(now)
}

// checkRedis makes the options of the link to Redis of what is set, and judges what of
// it is needed.
func (c *config) checkRedis() {
	o := &redisOptions{service: c.redisService, timeout: redisDialLimit, name: "reverb"}
	o.address = c.findRedis()
	c.judge("REVERB_REDIS_TIMEOUT")
	o.sentinels = c.redisAddresses("REVERB_REDIS_SENTINELS", c.redisSentinels, redisAddress{tls: o.address.tls})
	o.cluster = c.redisAddresses("REVERB_REDIS_CLUSTER", c.redisCluster, redisAddress{username: o.address.username, password: o.address.password, tls: o.address.tls})
	switch {
	case len(o.cluster) == 0:
	case len(o.sentinels) > 0:
		c.problem("REVERB_REDIS_CLUSTER, REVERB_REDIS_SENTINELS", "a Redis is found by one of them; unset the other")
	case c.redisURL == "" && c.redisDB != 0 && c.setting("REVERB_REDIS_DB").given == "REVERB_REDIS_DB": // REDIS_DB is Laravel's other connections'
		c.problem(c.setting("REVERB_REDIS_DB").assignment(), "a Redis Cluster has the database 0 alone; unset it")
	case strings.ContainsAny(c.scalingChannel, "{}"):
		c.problem("REVERB_SCALING_CHANNEL="+masked(c.scalingChannel), "with a Redis Cluster it cannot hold braces; leave them out")
	}
	for _, a := range c.apps {
		if cluster.TakenAppID(a.id) {
			c.problem("app_id="+strconv.Quote(a.id), "with REVERB_SCALING_ENABLED the nodes use this name themselves in Redis; give the app another ID")
		}
	}
	var err error
	if o.secure, err = loadRedisTLS(c.redisCA, c.redisCert, c.redisKey, c.redisServerName, readCertificates); err != nil {
		c.problem("REVERB_REDIS_CA, REVERB_REDIS_CERT, REVERB_REDIS_KEY", err.Error()+"; name files in PEM that can be read")
	}
	c.redis = o
}

// findRedis says where Redis is and how to log in: as the URL says, or else the parts.
// Beside sentinels or a cluster only the latter counts.
func (c *config) findRedis() redisAddress {
	parts := redisParts{scheme: c.redisScheme, host: c.redisHost, path: c.redisPath, port: c.redisPort, username: c.redisUser, password: c.redisPassword, db: c.redisDB}
	if c.redisURL != "" {
		url := redisParts{port: 6379}
		if strings.HasPrefix(strings.ToLower(c.redisURL), "redis:") && parts.secure() {
			url.scheme = parts.scheme // Laravel: redis:// says nothing of TLS
		}
		a, err := url.parseURL(c.redisURL)
		if err != nil {
			c.problem(c.setting("REVERB_REDIS_URL").assignment(), err.Error())
		}
		return a
	}
	if c.redisSentinels != "" || c.redisCluster != "" {
		parts.port = 6379
		if parts.scheme == "unix" {
			parts.scheme = ""
		}
	}
	if c.redisCluster == "" {
		c.judge("REVERB_REDIS_DB")
	}
	c.judge("REVERB_REDIS_SCHEME")
	a, err := parts.parse()
	switch {
	case errors.Is(err, errNoRedisPort):
		c.judge("REVERB_REDIS_PORT", err)
	case errors.Is(err, errNoRedisPath) && parts.scheme == "unix":
		c.judge("REVERB_REDIS_SCHEME", err)
	case err != nil:
		c.judge("REVERB_REDIS_HOST", err)
	}
	return a
}

// judge tells what is wrong with a variable that is needed: what was found when it was
// read, or else what is found now.
func (c *config) judge(name string, now ...error) {
	err := errors.Join(now...)
	if found := c.late[name]; found != nil {
		err = found
	}
	if err == nil {
		return
	}
	s := c.setting(name)
	c.problem(s.assignment()+" ("+s.origin+")", err.Error())
}

// redisAddresses reads host:port, comma-separated. to says how to log in there.
func (c *config) redisAddresses(name, list string, to redisAddress) (found []redisAddress) {
	for s := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		host, port, err := net.SplitHostPort(s)
		if n, bad := strconv.Atoi(port); err != nil || bad != nil || n < 1 || n > 65535 || host == "" || strings.ContainsAny(host, "@/?#") {
			c.problem(name+"="+masked(list), masked(s)+" is not an address; give host:port, such as 10.0.0.1:6379")
			continue
		}
		to.network, to.address = "tcp", s
		found = append(found, to)
	}
	return found
}

// checkTLS finds a certificate where none is given, and judges what there is.
func (c *config) checkTLS(now time.Time) {
	certified := c.tls // what the files are judged with
	if _, err := parseTLSVersion(c.tls.minVersion); err != nil {
		certified.minVersion = "1.2"
		c.problem("REVERB_TLS_MIN_VERSION="+masked(c.tls.minVersion), err.Error())
	}
	if _, err := parseCipherSuites(c.tls.ciphers); err != nil {
		certified.ciphers = ""
		c.problem("REVERB_TLS_CIPHERS="+masked(c.tls.ciphers), err.Error())
	}
	if c.tls.certFile == "" {
		for name, value := range map[string]string{"REVERB_TLS_KEY": c.tls.keyFile, "REVERB_TLS_CA": c.tls.caFile} {
			if value != "" {
				c.problem(name+"="+masked(value), "there is no certificate for it; set REVERB_TLS_CERT too")
			}
		}
		c.findCertificate()
	}
	if c.tls.certFile == "" {
		if c.plainListen != "" {
			c.problem("REVERB_PLAIN_LISTEN="+masked(c.plainListen), "without a certificate the main address is plain already; set REVERB_TLS_CERT or leave this out")
		}
		return
	}
	c.tls.host = c.publicHost
	if ip := net.ParseIP(strings.Trim(c.publicHost, "[]")); ip != nil || c.publicHost == "localhost" {
		c.tls.host = "" // Laravel on the same machine, told not to verify; browsers come by another name
	}
	certified.certFile, certified.keyFile, certified.host = c.tls.certFile, c.tls.keyFile, c.tls.host
	_, warning, err := loadTLS(&certified, now)
	if err != nil {
		c.problem("", err.Error())
	}
	if warning != "" {
		c.warnings = append(c.warnings, warning)
	}
	if err == nil {
		c.warnPublicTLS(now)
	}
}

// warnPublicTLS warns where TLS is served and the public address contradicts it. Behind
// a proxy, which another port or REVERB_TRUSTED_PROXIES tells of, browsers may come
// without TLS. A host on loopback is Laravel's on the same machine, told not to verify.
func (c *config) warnPublicTLS(now time.Time) {
	proxied := c.publicPort != c.port && (c.proxyProtocol || c.setting("REVERB_TRUSTED_PROXIES").value != "")
	if c.publicScheme == "http" && c.plainListen == "" && !proxied {
		c.warnings = append(c.warnings, fmt.Sprintf("REVERB_SCHEME=http, but with REVERB_TLS_CERT=%s the server speaks TLS alone; set REVERB_SCHEME=https, or add an address without TLS with REVERB_PLAIN_LISTEN (only a proxy that takes http and speaks TLS to this server makes it right)", quoted(c.tls.certFile)))
	}
	ip := net.ParseIP(c.publicHost)
	if ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
		return
	}
	cert, _, err := loadCertificate(c.tls.certFile, c.tls.keyFile, c.tls.passphrase, now)
	if err == nil {
		err = checkHost(cert.Leaf, c.publicHost)
	}
	if err != nil {
		c.warnings = append(c.warnings, fmt.Sprintf("REVERB_TLS_CERT=%s: %v", quoted(c.tls.certFile), err))
	}
}

// findCertificate takes the certificate that Herd or Valet has made for the public
// host. REVERB_SCHEME=http says that browsers come without TLS, unless --hostname
// asks for the host here and now, as in artisan reverb:start.
func (c *config) findCertificate() {
	cert, key, ok := findCertificate(c.publicHost, cmp.Or(c.getenv("HOME"), c.getenv("USERPROFILE")))
	if !ok {
		return
	}
	if _, asked := c.flags["hostname"]; !asked && c.publicScheme == "http" {
		c.notes = append(c.notes, fmt.Sprintf("the certificate %s is not used, because REVERB_SCHEME=http; set it to https, or give --hostname, to serve TLS", cert))
		return
	}
	c.tls.certFile, c.tls.keyFile = cert, key
	c.notes = append(c.notes, fmt.Sprintf("serving TLS with %s, which Herd or Valet has made for %s", cert, printable(c.publicHost)))
}

// --- Apps ---

// loadApps makes the apps from REVERB_APPS, REVERB_APPS_FILE or REVERB_APP_*.
func (c *config) loadApps() {
	switch {
	case c.appsJSON != "" && c.appsFile != "":
		c.problem("REVERB_APPS_FILE="+masked(c.appsFile), "REVERB_APPS is set too; keep one of the two")
	case c.appsJSON != "":
		c.addApps("REVERB_APPS", []byte(c.appsJSON))
	case c.appsFile != "":
		b, err := readFile(c.appsFile)
		if err != nil {
			c.problem("REVERB_APPS_FILE="+masked(c.appsFile), fileHint(err, "name a JSON file of apps"))
			return
		}
		c.addApps("REVERB_APPS_FILE="+masked(c.appsFile), b)
	default:
		c.addApp()
	}
}

// addApp adds the app of REVERB_APP_ID, _KEY and _SECRET.
func (c *config) addApp() {
	a := &c.app
	missing := []string{}
	for name, value := range map[string]string{"REVERB_APP_ID": a.id, "REVERB_APP_KEY": a.key, "REVERB_APP_SECRET": a.secret} {
		if value == "" {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	switch len(missing) {
	case 0:
		c.apps = append(c.apps, a)
	case 3: // then there is no app; start says what to do
	default:
		c.problem(strings.Join(missing, ", "), "not set, while the rest of the app is; an app needs REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET")
	}
}

// addApps reads a list of apps and says what is wrong with it.
func (c *config) addApps(given string, b []byte) {
	apps, problems, warnings := parseApps(b)
	for _, p := range problems {
		c.problem(given, p)
	}
	for _, w := range warnings {
		c.warnings = append(c.warnings, given+": "+w)
	}
	c.apps = apps
	c.readDumpTLS(given, b)
	c.compareDump(given, b)
	if c.app.id != "" && !slices.ContainsFunc(apps, func(a *appSettings) bool { return a.id == c.app.id }) && len(problems) == 0 {
		c.warnings = append(c.warnings, fmt.Sprintf("REVERB_APP_ID=%q is not in the list of apps, so it is not served; %s decides", printable(c.app.id), strings.SplitN(given, "=", 2)[0]))
	}
}

// compareDump warns of what a dump of config('reverb') says of the server itself, where
// the variables that count say something else.
func (c *config) compareDump(given string, b []byte) {
	for _, name := range []string{"servers", "reverb"} {
		b = memberOf(b, name)
	}
	compare := func(value []byte, name, counts string) {
		if s, ok := jsonraw.Scalar(value); ok && s != "" && strings.Trim(s, "/") != strings.Trim(counts, "/") {
			c.warnings = append(c.warnings, fmt.Sprintf("%s says %s where %s=%s counts; set the variable if the list is right", given, printable(redact.URL(s)), name, printable(redact.URL(counts))))
		}
	}
	compare(memberOf(b, "host"), "REVERB_SERVER_HOST", c.host)
	compare(memberOf(b, "port"), "REVERB_SERVER_PORT", strconv.Itoa(c.port))
	compare(memberOf(b, "path"), "REVERB_SERVER_PATH", c.path)
	compare(memberOf(b, "max_request_size"), "REVERB_MAX_REQUEST_SIZE", strconv.Itoa(c.maxRequestSize))
	if scaling := memberOf(memberOf(b, "scaling"), "enabled"); string(scaling) == "true" && !c.scaling {
		c.warnings = append(c.warnings, given+" says that scaling is enabled, but REVERB_SCALING_ENABLED, which counts, is not true")
	}
}

// memberOf is a member of a JSON object; nil where there is none.
func memberOf(b []byte, name string) (value []byte) {
	jsonraw.Object(b, func(k, v []byte) { // what is no object has no member
		if string(k) == name {
			value = v
		}
	})
	return value
}

// readDumpTLS takes the TLS options of PHP's stream context from a dump of
// config('reverb'), where Reverb has them: servers.reverb.options.tls. Variables win.
func (c *config) readDumpTLS(given string, b []byte) {
	for _, name := range []string{"servers", "reverb", "options", "tls"} {
		if b = memberOf(b, name); b == nil {
			return
		}
	}
	dump, verify := tlsSettings{minVersion: c.tls.minVersion, ciphers: c.tls.ciphers}, true
	var odd []string
	jsonraw.Object(b, func(key, value []byte) { // an empty list where nothing is set
		s, _ := jsonraw.Scalar(value)
		switch name := string(key); name {
		case "local_cert":
			dump.certFile = s
		case "local_pk":
			dump.keyFile = s
		case "passphrase":
			dump.passphrase = s
		case "cafile":
			dump.caFile = s
		case "ciphers":
			dump.ciphers = cmp.Or(c.tls.ciphers, s)
		case "verify_peer":
			verify = string(value) == "true"
		case "crypto_method":
			bits, _ := strconv.Atoi(s)
			version, err := tlsVersionOfPHP(bits)
			if err != nil {
				c.problem(given, "tls.crypto_method="+printable(s)+" "+err.Error())
			}
			dump.minVersion = max(c.tls.minVersion, version)
		default:
			odd = append(odd, name)
		}
	})
	for _, name := range odd {
		c.warnings = append(c.warnings, fmt.Sprintf("%s: tls.%s means nothing here", given, printable(name)))
	}
	if !verify {
		dump.caFile = ""
	}
	if c.tls.certFile == "" && dump.certFile != "" {
		c.tls = dump
		c.notes = append(c.notes, "serving TLS with "+printable(dump.certFile)+", as the list of apps says")
	}
}

// parseApps reads a JSON array of apps with the keys of config/reverb.php, or what
// json_encode(config('reverb')) prints, which holds one.
func parseApps(b []byte) (apps []*appSettings, problems, warnings []string) {
	if err := jsonraw.Check(b); err != nil {
		return nil, []string{err.Error() + "; give an array like [{\"app_id\":\"1\",\"key\":\"k\",\"secret\":\"s\"}]"}, nil
	}
	for range 3 { // {"apps":{"apps":[…]}}
		if inner := memberOf(b, "apps"); inner != nil && !isAppList(b) {
			b = inner
		}
	}
	list := phpList
	if isApp(b) { // one app where a list belongs
		list = func(b []byte, element func([]byte)) error { element(b); return nil }
	} else if !isAppList(b) {
		list = jsonraw.Array
	}
	n := 0
	if err := list(b, func(value []byte) {
		a, bad, odd := parseApp(value)
		for _, p := range bad {
			problems = append(problems, fmt.Sprintf("app %d: %s", n, p))
		}
		for _, w := range odd {
			warnings = append(warnings, fmt.Sprintf("app %d: %s", n, w))
		}
		for _, other := range apps {
			if a.id == other.id || a.key == other.key {
				problems = append(problems, fmt.Sprintf("app %d: another app has the same app_id or key", n))
			}
		}
		apps = append(apps, a)
		n++
	}); err != nil {
		return nil, []string{"neither an array of apps nor a dump of config('reverb')"}, nil
	}
	if n == 0 {
		problems = append(problems, "the list is empty; an app needs app_id, key and secret")
	}
	return apps, problems, warnings
}

// phpList calls element for each value of a PHP array that json_encode has written: an
// object where its keys are not 0, 1, 2 and so on.
func phpList(b []byte, element func(value []byte)) error {
	if err := jsonraw.Array(b, element); err != jsonraw.ErrNotArray {
		return err
	}
	return jsonraw.Object(b, func(_, value []byte) { element(value) })
}

// isApp says whether b is one app: an object with a text or number as its app_id, key
// or secret.
func isApp(b []byte) bool {
	return slices.ContainsFunc([]string{"app_id", "key", "secret"}, func(name string) bool {
		s, ok := jsonraw.Scalar(memberOf(b, name))
		return ok && s != ""
	})
}

// isAppList says whether b is an object of apps: all its values are objects, and one at
// least is an app.
func isAppList(b []byte) bool {
	apps, others := 0, 0
	jsonraw.Object(b, func(_, value []byte) {
		if isApp(value) {
			apps++
		} else if !bytes.HasPrefix(value, []byte("{")) {
			others++
		}
	})
	return apps > 0 && others == 0
}

// parseApp reads one app. What it does not say is as in Reverb.
func parseApp(b []byte) (a *appSettings, problems, warnings []string) {
	a = &appSettings{allowedOrigins: []string{"*"}, pingInterval: 60 * time.Second, activityTimeout: 30 * time.Second, maxMessageSize: 10_000, maxSubscribed: 10_000,
		limit: rateLimit{maxAttempts: 60, decay: 60 * time.Second}}
	bad := func(key, format string, args ...any) {
		problems = append(problems, key+": "+fmt.Sprintf(format, args...))
	}
	whole := func(key string, value []byte, lo, hi int, to func(int)) {
		s, _ := jsonraw.Scalar(value)
		if n, err := strconv.Atoi(s); err != nil || n < lo || n > hi {
			bad(key, "not a whole number from %d to %d", lo, hi)
		} else {
			to(n)
		}
	}
	yesNo := func(key string, value []byte, to *bool) {
		s, _ := jsonraw.Scalar(value)
		if string(value) == "false" {
			s = "false"
		}
		if b, err := strconv.ParseBool(strings.ToLower(s)); err != nil {
			bad(key, "neither true nor false")
		} else {
			*to = b
		}
	}
	var member func(prefix string) func(key, value []byte)
	member = func(prefix string) func(key, value []byte) {
		return func(k, value []byte) {
			key := prefix + string(k)
			if string(value) == "null" && key != "accept_client_events_from" {
				return
			}
			switch key {
			case "app_id":
				a.id, _ = jsonraw.Scalar(value)
			case "key":
				a.key, _ = jsonraw.Scalar(value)
			case "secret":
				a.secret, _ = jsonraw.Scalar(value)
			case "allowed_origins":
				a.allowedOrigins = nil
				if phpList(value, func(v []byte) {
					s, _ := jsonraw.String(v)
					pattern, warning, err := origin.Parse(s)
					if err != nil {
						bad(key, "%s: %v", masked(s), err)
					}
					if warning != "" {
						warnings = append(warnings, key+": "+masked(s)+": "+warning)
					}
					a.allowedOrigins = append(a.allowedOrigins, pattern)
				}) != nil {
					bad(key, "not an array of hosts")
				}
			case "ping_interval":
				whole(key, value, 1, 86_400, func(n int) { a.pingInterval = time.Duration(n) * time.Second })
			case "activity_timeout":
				whole(key, value, 1, 86_400, func(n int) { a.activityTimeout = time.Duration(n) * time.Second })
			case "max_connections":
				whole(key, value, 1, math.MaxInt32, func(n int) { a.maxConnections = n })
			case "presence_max_members":
				whole(key, value, 1, math.MaxInt32, func(n int) { a.maxMembers = n })
			case "presence_max_member_size":
				whole(key, value, 1, 64<<20, func(n int) { a.maxMemberSize = n })
			case "max_message_size":
				whole(key, value, 1, 64<<20, func(n int) { a.maxMessageSize = n })
			case "max_subscriptions":
				whole(key, value, 1, math.MaxInt32, func(n int) { a.maxSubscribed = n })
			case "accept_client_events_from":
				if a.clientEvents = clientEventsAll; string(value) != "null" { // Reverb: null checks nothing
					s, _ := jsonraw.String(value)
					p, err := parsePolicy(s)
					if a.clientEvents = p; err != nil {
						bad(key, "%v", err)
					}
				}
			case "rate_limiting":
				empty := strings.Join(strings.Fields(string(value)), "") == "[]" // PHP's empty array
				if !empty && jsonraw.Object(value, member("rate_limiting.")) != nil {
					bad(key, "not an object")
				}
			case "rate_limiting.enabled":
				yesNo(key, value, &a.limit.enabled)
			case "rate_limiting.terminate_on_limit":
				yesNo(key, value, &a.limit.terminate)
			case "rate_limiting.max_attempts":
				whole(key, value, 1, math.MaxInt32, func(n int) { a.limit.maxAttempts = n })
			case "rate_limiting.decay_seconds":
				whole(key, value, 1, 86_400, func(n int) { a.limit.decay = time.Duration(n) * time.Second })
			case "options", "name": // what Laravel needs to publish
			default:
				warnings = append(warnings, "the key "+quoted(key)+" means nothing here")
			}
		}
	}
	if jsonraw.Object(b, member("")) != nil {
		return a, []string{"not an object"}, nil
	}
	for name, value := range map[string]string{"app_id": a.id, "key": a.key, "secret": a.secret} {
		if value == "" {
			bad(name, "missing or empty")
		}
	}
	slices.Sort(problems)
	return a, problems, warnings
}

// --- Report ---

// problem notes something that keeps the server from starting. given says what was
// set, with its value unless that is secret.
func (c *config) problem(given, what string) {
	if given != "" {
		given += ": "
	}
	c.problems = append(c.problems, given+c.hide(what))
}

// hide takes passwords out of an error that quotes a value, such as the name of a file
// that is a URL.
func (c *config) hide(text string) string {
	for _, s := range c.inForce {
		items := strings.FieldsFunc(s.value, func(r rune) bool { return strings.ContainsRune(",: ", r) }) // of any list
		for _, part := range append([]string{s.value}, items...) {
			if hidden := redact.URL(part); hidden != part {
				text = strings.ReplaceAll(text, part, hidden)
			}
		}
	}
	return text
}

// report prints problems and warnings, one line each.
func (c *config) report(w io.Writer) {
	for _, s := range c.warnings {
		fmt.Fprintln(w, "reverb: warning:", s)
	}
	for _, s := range c.problems {
		fmt.Fprintln(w, "reverb:", s)
	}
}

// printInForce prints every variable that has a value, and where it comes from.
func (c *config) printInForce(w io.Writer) {
	for _, s := range c.inForce {
		fmt.Fprintf(w, "  %-37s %-24s %s\n", s.name, s.shown(), s.origin)
	}
	for _, a := range c.apps {
		fmt.Fprintf(w, "  app %s, key %s: origins %s\n", printable(a.id), printable(a.key), printable(redact.URL(strings.Join(a.allowedOrigins, ","))))
	}
}

// inForceJSON is what printInForce prints, for machines.
func (c *config) inForceJSON() (all []map[string]string) {
	for _, s := range c.inForce {
		all = append(all, map[string]string{"name": s.name, "value": s.shown(), "from": s.origin})
	}
	return all
}

// withoutApp is what start says when there is no app: nobody shall run with a secret
// that others know, so none is built in.
func withoutApp() string {
	id, key, secret := newCredentials()
	return fmt.Sprintf(`reverb: there is no app to serve. In a Laravel application run this in its folder, where .env is.
Otherwise put these lines, made just now at random, into .env or the environment:

REVERB_APP_ID=%s
REVERB_APP_KEY=%s
REVERB_APP_SECRET=%s

Or try things out on this machine with: reverb start --dev
`, id, key, secret)
}

// newCredentials draws an app as Laravel's installer does.
func newCredentials() (id, key, secret string) {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	draw := func(n int) string {
		b := make([]byte, n)
		rand.Read(b) // never fails
		for i := range b {
			b[i] = letters[b[i]%32]
		}
		return string(b)
	}
	var b [4]byte
	rand.Read(b[:])
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return strconv.Itoa(100_000 + int(n%900_000)), draw(20), draw(20)
}

// devFile is where start --dev keeps its app for listen and trigger.
func devFile() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "reverb-dev.env"), nil
}

// startDev replaces the apps by a fresh one, served on 127.0.0.1, and keeps it for
// listen --dev and trigger --dev.
func (c *config) startDev() error {
	id, key, secret := newCredentials()
	a := &c.app
	a.id, a.key, a.secret = id, key, secret
	c.apps, c.host = []*appSettings{a}, "127.0.0.1"
	for i, s := range c.inForce {
		for name, value := range map[string]string{"REVERB_SERVER_HOST": c.host, "REVERB_APP_ID": id, "REVERB_APP_KEY": key, "REVERB_APP_SECRET": secret} {
			if s.name == name {
				c.inForce[i] = setting{name, value, "--dev", s.secret, name}
			}
		}
	}
	path, err := devFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	text := fmt.Sprintf("REVERB_SERVER_PORT=%d\nREVERB_SERVER_PATH=%q\nREVERB_APP_ID=%s\nREVERB_APP_KEY=%s\nREVERB_APP_SECRET=%s\n", c.port, c.path, id, key, secret)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // follows no link that another user may have put there
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}

// joinDev takes the app that start --dev has kept.
func (c *config) joinDev() error {
	path, err := devFile()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("no app of start --dev is there (%s); is it running?", errorText(err))
	}
	entries, err := dotenv.Parse(string(b), func(string) (string, bool) { return "", false })
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	kept := &source{flags: map[string]string{}, env: map[string]string{}}
	for _, e := range entries {
		kept.env[e.Name] = e.Value
	}
	c.apps, c.problems, c.host = nil, nil, "127.0.0.1"
	for _, v := range variables() {
		if _, _, ok := kept.lookup(v.name); ok {
			c.readVariable(&v, kept)
		}
	}
	c.addApp()
	return nil
}

// --- Server ---

const (
	headerTimeout       = 10 * time.Second // for the head of a request, a handshake's too
	requestTimeout      = 20 * time.Second // for the whole of one
	idleTimeout         = 75 * time.Second // between two requests on one connection
	maxRequestHeadBytes = 16 << 10
	spareFiles          = 64 // descriptors that are not for connections
	shutdownGrace       = time.Second
	certificateInterval = 5 * time.Second // between two looks at the files of the certificate
)

// server is everything that runs between listening and the end.
type server struct {
	config    *config
	listeners []net.Listener
	sockets   *places.Places
	limit     int64        // of sockets
	gate      *accept.Gate // what http's listeners share
	loops     *loops
	hub       *hub
	node      *cluster.Node // nil: no cluster
	certs     *certificates // nil: no TLS
	http      *http.Server
	admin     *http.Server     // nil: off
	meter     memory.Meter     // without a limit until start knows one
	guesses   throttle.Limiter // of secrets, on the status page
	notifier  *systemd.Notifier
	log       *slog.Logger
	started   time.Time
	restart   chan struct{} // somebody asks us to stop
	ended     chan struct{} // closed when serve is about to return
	draining  atomic.Bool
}

// listen opens the address that host and port give; host may be unix:/path, of which
// REVERB_SERVER_SOCKET_MODE and _OWNER say whose it is.
func (c *config) listen(host string, port int) (net.Listener, error) {
	if path, unix := strings.CutPrefix(host, "unix:"); unix {
		uid, gid, err := c.socketIDs()
		if err != nil {
			return nil, err
		}
		return unixsock.Listen(path, c.socketMode, uid, gid)
	}
	network := "tcp"
	if ip := net.ParseIP(host); ip != nil && ip.To4() != nil {
		network = "tcp4" // or 0.0.0.0 would mean IPv6 too
	}
	return net.Listen(network, net.JoinHostPort(host, strconv.Itoa(port)))
}

// listenAddress is listen for host:port or unix:/path.
func (c *config) listenAddress(address string) (net.Listener, error) {
	if strings.HasPrefix(address, "unix:") {
		return c.listen(address, 0)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("listen %s: the port is not a number", address)
	}
	return c.listen(host, n)
}

// open opens what the configuration says: the listener, the plain one beside it and
// the admin's. Sockets that systemd has opened come first, by name.
func (c *config) open() (ln, plain, admin net.Listener, err error) {
	passed, names, err := systemd.Listeners(c.getenv, os.Getpid())
	if err != nil {
		return nil, nil, nil, err
	}
	for i, l := range passed {
		switch {
		case names[i] == "admin":
			admin = l
		case names[i] == "plain":
			plain = l
		case ln == nil:
			ln = l
		default:
			return nil, nil, nil, fmt.Errorf("systemd passes more than one socket; name the others FileDescriptorName=plain or admin")
		}
	}
	if ln == nil {
		if ln, err = c.openMain(); err != nil {
			return nil, nil, nil, err
		}
	}
	if plain == nil && c.plainListen != "" {
		if plain, err = c.listenAddress(c.plainListen); err != nil {
			return nil, nil, nil, fmt.Errorf("%w%s; REVERB_PLAIN_LISTEN says where", err, c.listenHint(err, c.plainListen))
		}
	}
	if admin == nil && c.adminListen != "" {
		if admin, err = c.listenAddress(c.adminListen); err != nil {
			return nil, nil, nil, fmt.Errorf("%w%s; REVERB_ADMIN_LISTEN says where", err, c.listenHint(err, c.adminListen))
		}
	}
	return ln, plain, admin, nil
}

// address is the main address: host:port or unix:/path.
func (c *config) address() string {
	if strings.HasPrefix(c.host, "unix:") {
		return c.host
	}
	return net.JoinHostPort(c.host, strconv.Itoa(c.port))
}

// openMain opens the address of REVERB_SERVER_HOST and _PORT.
func (c *config) openMain() (net.Listener, error) {
	ln, err := c.listen(c.host, c.port)
	if err != nil {
		return nil, fmt.Errorf("%w%s; REVERB_SERVER_HOST and REVERB_SERVER_PORT say where to listen", err, c.listenHint(err, c.address()))
	}
	return ln, nil
}

// socketIDs are the user and the group of REVERB_SERVER_SOCKET_OWNER; -1 where none is
// named.
func (c *config) socketIDs() (uid, gid int, err error) {
	name, group, _ := strings.Cut(c.socketOwner, ":")
	uid, gid = -1, -1
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			if u, err = user.LookupId(name); err != nil {
				return 0, 0, fmt.Errorf("REVERB_SERVER_SOCKET_OWNER=%q: there is no user %q", printable(c.socketOwner), printable(name))
			}
		}
		uid, _ = strconv.Atoi(u.Uid) // not a number on Windows, where sockets have no owner
	}
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			if g, err = user.LookupGroupId(group); err != nil {
				return 0, 0, fmt.Errorf("REVERB_SERVER_SOCKET_OWNER=%q: there is no group %q", printable(c.socketOwner), printable(group))
			}
		}
		gid, _ = strconv.Atoi(g.Gid)
	}
	return uid, gid, nil
}

// listenHint says more of why an address cannot be listened on, and what to do.
func (c *config) listenHint(err error, address string) string {
	var dns *net.DNSError
	path, unix := strings.CutPrefix(address, "unix:")
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return c.holder(address)
	case unix && errors.Is(err, syscall.ENOENT):
		return fmt.Sprintf(": there is no folder %s; create it", filepath.Dir(path))
	case unix && errors.Is(err, syscall.EINVAL):
		return ": the path is too long for a socket; take one of less than 100 bytes"
	case unix && errors.Is(err, syscall.EPERM):
		return ": only root may give a socket to another user, or to a group that this user is not in; change REVERB_SERVER_SOCKET_OWNER"
	case unix && errors.Is(err, syscall.EACCES):
		return fmt.Sprintf(": this user (uid %d) may not write to %s; change the folder's owner, or take another", os.Getuid(), filepath.Dir(path))
	case errors.Is(err, syscall.EACCES):
		return ": ports below 1024 are the administrator's; take one above and put a proxy in front, or let systemd open it (deploy/reverb.socket)"
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.As(err, &dns):
		return ": no address of this machine; listen on 0.0.0.0 for all of them (the public name belongs in REVERB_HOST)"
	}
	return ""
}

// holder says who listens on an address that is in use.
func (c *config) holder(address string) string {
	if s, who, ok := c.askStatus(address); ok && samePort(s.Listening, address) {
		return fmt.Sprintf(": reverb is running there already (%s, %d connections); reverb restart asks it to stop", who, s.Connections)
	}
	_, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port) // 0 for a path, on which nobody is found
	if pid, name, ok := portowner.Find(n); ok {
		return fmt.Sprintf(": %s (pid %d) holds it; stop it, or choose another port", printable(name), pid)
	}
	return ": another process holds it; stop it, or choose another port"
}

// samePort says whether two addresses have the same port, or are the same path.
func samePort(a, b string) bool {
	_, p, _ := net.SplitHostPort(a)
	_, q, _ := net.SplitHostPort(b)
	return p == q
}

// newServer makes a server that answers on ln, and on plain without TLS. files is
// how many descriptors there are; 0 stands for no limit. The traffic is shown on stdout if
// it is to be shown.
func newServer(c *config, ln, plain net.Listener, files uint64, log *slog.Logger, stdout io.Writer) (*server, error) {
	limit := int64(math.MaxInt64)
	if files > 0 {
		limit = max(int64(min(files, math.MaxInt32))-spareFiles, 1)
	}
	sockets := places.New(limit)
	ls, err := newLoops(runtime.GOMAXPROCS(0), sockets, poll.New)
	if err != nil {
		return nil, err
	}
	around := &surroundings{prefix: c.path, trusted: c.trusted, log: log, sockets: sockets, soft: limit - min(limit/16, 256)}
	if c.debug {
		around.traffic = stdout
	}
	if c.redis != nil {
		o := cluster.Options{Prefix: c.scalingChannel, Patience: c.redisTimeout, Sharded: len(c.redis.cluster) > 0, Failover: len(c.redis.sentinels) > 0}
		around.join = func(r *registry) *cluster.Node { return cluster.New(o, &redisDialer{options: c.redis}, r, log) }
	}
	h := newHub(nil, ls, around)
	s := &server{config: c, sockets: sockets, limit: limit, gate: accept.NewGate(sockets, log), loops: ls, hub: h, node: around.node, log: log,
		started: time.Now(), notifier: systemd.NewNotifier(c.getenv), restart: make(chan struct{}, 1), ended: make(chan struct{})}
	s.hub.configure(c.apps, c.tables())
	var config *tls.Config
	if c.tls.certFile != "" {
		first, _, err := loadTLS(&c.tls, time.Now()) // the warning is the configuration's already
		if err != nil {
			return nil, err
		}
		s.certs = newCertificates(c.tls, first)
		config = s.certs.config()
	}
	s.guard(ln, plain, config)
	s.http = &http.Server{
		Handler: s.gate.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer s.reportPanic(r)
			closeAfterDoubt(w, r)
			s.hub.ServeHTTP(w, r)
		})),
		ConnState:         s.gate.NoteState,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxRequestHeadBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// guard puts the gate before the listeners. config is the TLS of ln; nil: it has none.
func (s *server) guard(ln, plain net.Listener, config *tls.Config) {
	c := s.config
	o := accept.Options{TLS: config, HeaderTimeout: headerTimeout, Hints: strayHints(config != nil, false, c.proxyProtocol)}
	if c.proxyProtocol {
		o.Proxied = func(peer net.Addr) bool { return c.trusted.Nobody() || c.trusted.Contains(peer.String()) }
	}
	s.listeners = append(s.listeners, s.gate.Guard(ln, o))
	if plain != nil {
		o.TLS, o.Hints = nil, strayHints(false, config != nil, c.proxyProtocol)
		s.listeners = append(s.listeners, s.gate.Guard(plain, o))
	}
}

// closeAfterDoubt makes a request the last of its connection if its framing is open to
// doubt: another server on the way may have seen another end of it (RFC 9112 §6.1). A
// body in chunks is, because net/http hides whether Content-Length stood beside
// Transfer-Encoding; so is HTTP/1.0, because net/http hides Transfer-Encoding there. No
// server library of Pusher's sends either.
func closeAfterDoubt(w http.ResponseWriter, r *http.Request) {
	if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
		w.Header().Set("Connection", "close")
	}
}

// reportPanic is deferred by what serves a request. net/http alone would tell of a panic
// among what strangers do wrong, where nobody looks. The connection is closed, unless it
// was taken over.
func (s *server) reportPanic(r *http.Request) {
	if p := recover(); p == nil {
		return
	} else if p != http.ErrAbortHandler {
		s.log.Error("a request has met an error in this program; please report it", "method", r.Method, "path", r.URL.EscapedPath(), "panic", p, "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

// strayHints are what the log says of connections that an address does not serve. secure:
// the address has TLS; beside: another address has; proxies: PROXY headers are expected of
// trusted proxies.
func strayHints(secure, beside, proxies bool) (h accept.Hints) {
	h.Proxy = "a PROXY header came: set REVERB_PROXY_PROTOCOL=true, or let the proxy send none"
	if proxies {
		h.Proxy = "a PROXY header came from an address that is no trusted proxy: name the proxy in REVERB_TRUSTED_PROXIES"
	}
	switch {
	case secure:
		h.HTTP = "HTTP without TLS came to an address with TLS (REVERB_TLS_CERT): set REVERB_SCHEME=https where the clients are configured, or give those without TLS an address with REVERB_PLAIN_LISTEN"
	case beside:
		h.TLS = "a TLS handshake came to the address of REVERB_PLAIN_LISTEN, which has no TLS: let https and wss clients use REVERB_SERVER_PORT"
	default:
		h.TLS = "a TLS handshake came to an address without TLS: set REVERB_SCHEME=http where the clients are configured, or give this server a certificate with REVERB_TLS_CERT"
	}
	return h
}

// tables is what of the configuration the hub takes.
func (c *config) tables() tables {
	return tables{maxRequestSize: int64(c.maxRequestSize), authWindow: c.authWindow, compression: c.compression, maxPerAddress: c.maxPerAddress}
}

// surroundings is what the hub knows of the program around it.
type surroundings struct {
	prefix  string
	trusted proxies.Trusted
	log     *slog.Logger
	sockets *places.Places
	soft    int64                           // connections of clients may take so many of sockets
	join    func(r *registry) *cluster.Node // nil: no cluster
	node    *cluster.Node                   // what join has made

	showing sync.Mutex
	traffic io.Writer // nil: not shown
}

var _ program = (*surroundings)(nil)

func (p *surroundings) Peers(r *registry) peers {
	if p.join == nil {
		return nil
	}
	p.node = p.join(r)
	return p.node
}

func (p *surroundings) Tracer() func(what, who, message string) {
	if p.traffic == nil {
		return nil
	}
	return p.trace
}

// trace shows a message on a line of its own, below what it is.
func (p *surroundings) trace(what, who, message string) {
	p.showing.Lock()
	defer p.showing.Unlock()
	fmt.Fprintf(p.traffic, "  %s %s %s\n", what, strings.Repeat(".", max(3, 60-len(what)-len(who))), printable(who))
	if message != "" {
		fmt.Fprintf(p.traffic, "    %s\n", oneLine(message))
	}
}

func (p *surroundings) Prefix() string              { return p.prefix }
func (p *surroundings) Full() bool                  { return p.sockets.Busy() > p.soft }
func (p *surroundings) Detach(nc net.Conn) net.Conn { return accept.Detach(nc) }

func (p *surroundings) Remote(r *http.Request) string {
	return p.trusted.Client(r.RemoteAddr, r.Header["X-Forwarded-For"])
}

func (p *surroundings) Refused(word, who, why string) {
	p.log.Info("refused: "+word, "who", who, "why", oneLine(why))
}

func (p *surroundings) Connected(r *http.Request, app string, id protocol.SocketID) {
	if p.log.Enabled(r.Context(), slog.LevelDebug) {
		p.log.Debug("connected", "who", p.Remote(r), "app", app, "socket", id.String())
	}
}

// What the room of the cluster asks of the program.
var (
	_ cluster.Replica = (*registry)(nil)
	_ cluster.Dialer  = (*redisDialer)(nil)
	_ cluster.Link    = (*session)(nil)
)

// serve runs until ctx is done or somebody asks for a restart, and every connection
// has been told. A signal on hup makes it read its configuration again.
func (s *server) serve(ctx context.Context, admin net.Listener, hup <-chan os.Signal) error {
	s.loops.start()
	keep, enough := context.WithCancel(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { memory.GiveBack(keep, s.sockets.Load) })
	if s.meter.Limit() > 0 {
		keeping.Go(func() { s.watchMemory(keep) })
	}
	defer keeping.Wait()
	defer enough()
	failed := make(chan error, len(s.listeners)+1)
	var accepting sync.WaitGroup
	for _, l := range s.listeners {
		accepting.Go(func() { failed <- s.http.Serve(l) })
	}
	if admin != nil {
		s.admin = s.newAdmin(admin.Addr())
		go func() { failed <- s.admin.Serve(admin) }()
	}
	control := s.openControl()
	err := s.watch(ctx, failed, hup)
	s.draining.Store(true)
	s.notify("STOPPING=1", fmt.Sprintf("STATUS=Stopping: %d connections are told to reconnect", s.sockets.Load()))
	for _, l := range s.listeners {
		l.Close() // what it returns changes nothing now
	}
	accepting.Wait() // what was accepted is known to s.http now
	grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	s.gate.Shutdown(grace, s.http)
	cancel()
	s.loops.stop(s.config.grace)
	if s.node != nil {
		s.node.Close()
	}
	close(s.ended)
	if s.admin != nil {
		s.admin.Close() // up to here: /ready and /metrics are wanted most now
	}
	if control != nil {
		control.Close()
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// watchMemory refuses new subscriptions while memory is short, and makes room when it is
// nearly used up, once a second, until ctx is done.
func (s *server) watchMemory(ctx context.Context) {
	defer s.hub.unhold() // what is still published while the server stops has its way
	var course memory.Course
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.meter.Interval()):
		}
		now, claimed := time.Now(), s.loops.claimed()
		level := s.meter.Look(now)
		s.loops.setRoom(claimed, s.meter.Room())
		s.hub.short.Store(level > memory.Ample)
		change := course.Next(level, now)
		log := s.log.With("used", s.meter.Used(), "limit", s.meter.Limit())
		if change.Short {
			log.Warn("memory is short: new subscriptions are refused; REVERB_MEMORY_LIMIT says how much there is")
		}
		if change.Ample {
			log.Info("memory is no longer short")
		}
		if change.Relieve {
			patience, cancel := context.WithTimeout(ctx, time.Second)
			closed := s.hub.relieve(patience)
			cancel()
			log.Warn("memory is nearly used up: connections that do not read are closed", "closed", closed)
		}
		if change.Relieved {
			s.hub.unhold()
		}
	}
}

// watch waits for the end, and does meanwhile what has to be done now and then.
func (s *server) watch(ctx context.Context, failed <-chan error, hup <-chan os.Signal) error {
	s.notify("READY=1", "STATUS="+s.status())
	every := time.NewTicker(certificateInterval)
	defer every.Stop()
	var alive <-chan time.Time
	if d := systemd.WatchdogInterval(s.config.getenv, os.Getpid()); d > 0 {
		t := time.NewTicker(d / 3)
		defer t.Stop()
		alive = t.C
	}
	files := ""
	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			s.log.Info("stopping: telling every connection to reconnect", "connections", s.sockets.Load(), "within", s.config.grace.String())
			return nil
		case <-s.restart:
			s.log.Info("stopping, as reverb restart asks: telling every connection to reconnect", "connections", s.sockets.Load(), "within", s.config.grace.String())
			return nil
		case <-hup:
			s.notify("RELOADING=1")
			s.reload(time.Now())
			s.notify("READY=1", "STATUS="+s.status())
		case now := <-every.C:
			if s.certs != nil {
				var r renewal
				files, r = s.certs.poll(files, now)
				s.logRenewal(r)
			}
			s.notify("STATUS=" + s.status())
		case <-alive:
			if s.alive() {
				s.notify("WATCHDOG=1")
			}
		}
	}
}

// address is where the server listens: host:port or unix:/path.
func (s *server) address() string {
	a := s.listeners[0].Addr()
	if a.Network() == "unix" {
		return "unix:" + a.String()
	}
	return a.String()
}

func (s *server) status() string {
	return fmt.Sprintf("%d connections on %s", s.sockets.Load(), s.listeners[0].Addr())
}

func (s *server) notify(assignments ...string) {
	if err := s.notifier.Send(assignments...); err != nil {
		s.log.Warn(err.Error())
	}
}

// aliveTask tells that a loop has come round.
type aliveTask struct{ done chan<- struct{} }

func (a aliveTask) run(*loop) { a.done <- struct{}{} }

// alive says whether every loop comes round within a few seconds.
func (s *server) alive() bool {
	done := make(chan struct{}, len(s.loops.all))
	for _, l := range s.loops.all {
		l.post(aliveTask{done})
	}
	timeout := time.NewTimer(5 * time.Second)
	defer timeout.Stop()
	for range s.loops.all {
		select {
		case <-done:
		case <-s.ended:
			return true
		case <-timeout.C:
			s.log.Error("an event loop does not come round")
			return false
		}
	}
	return true
}

// reload reads the configuration again and puts in force what can change while the
// server runs. If anything is wrong, everything stays as it is.
func (s *server) reload(now time.Time) {
	c, old := loadConfig(s.config.environ, s.config.flags, now), s.config
	if old.dev {
		c.apps = old.apps
	}
	for _, w := range c.warnings {
		s.log.Warn(w)
	}
	if len(c.problems) > 0 || len(c.apps) == 0 {
		for _, p := range c.problems {
			s.log.Error("not reloaded: " + p)
		}
		if len(c.apps) == 0 {
			s.log.Error("not reloaded: there is no app")
		}
		return
	}
	switch on, wanted := s.certs != nil, c.tls.certFile != ""; {
	case on && wanted:
		r := s.certs.reload(&c.tls, now)
		r.warning = "" // said above
		s.logRenewal(r)
	case on != wanted:
		s.log.Warn("changed, but a restart is needed for it: whether TLS is served", "variable", "REVERB_TLS_CERT", "in_force", old.tls.certFile, "new", c.tls.certFile)
	}
	for _, v := range variables() {
		if before, after := old.setting(v.name), c.setting(v.name); before.value != after.value && !v.live {
			s.log.Warn("changed, but a restart is needed for it", "variable", v.name, "in_force", before.shown(), "new", after.shown())
		}
	}
	s.hub.configure(c.apps, c.tables())
	s.config.apps, s.config.grace = c.apps, c.grace
	s.log.Info("reloaded", "apps", len(c.apps))
}

func (s *server) logRenewal(r renewal) {
	switch {
	case r.err != nil:
		s.log.Error("the new certificate cannot be used, the old one is kept: " + r.err.Error())
	case r.leaf != nil:
		s.log.Info("certificate in force", "file", r.file, "names", strings.Join(r.leaf.DNSNames, ","), "until", r.leaf.NotAfter.UTC().Format(time.DateOnly))
		if r.warning != "" {
			s.log.Warn(r.warning)
		}
	}
}

// --- Control ---

// controlStatus is the answer to everything that is asked over the control socket.
type controlStatus struct {
	PID         int    `json:"pid"`
	Version     string `json:"version"`
	Listening   string `json:"listening"`
	Connections int64  `json:"connections"`
}

// controlName is the name of the control socket of a server on address, which is
// host:port or unix:/path: after the port, or after the path's hash.
func controlName(address string) string {
	path, unix := strings.CutPrefix(address, "unix:")
	_, name, _ := net.SplitHostPort(address)
	if unix {
		if absolute, err := filepath.Abs(path); err == nil {
			path = absolute
		}
		sum := sha256.Sum256([]byte(path))
		name = hex.EncodeToString(sum[:6])
	}
	return "reverb-" + name + ".sock"
}

// controlPaths are where the control socket of a server on address may be.
func (c *config) controlPaths(address string) []string {
	if c.control != "" {
		return []string{c.control}
	}
	return control.Paths(controlName(address), c.getenv)
}

// openControl opens the socket over which reverb restart finds this process. The
// server runs without one too.
func (s *server) openControl() net.Listener {
	ln, err := control.Listen(s.config.controlPaths(s.address()))
	if err != nil {
		s.log.Info("no control socket, so reverb restart will not find this server; REVERB_CONTROL_SOCKET names a place for one", "why", err)
		return nil
	}
	go control.Serve(ln, s.answerControl)
	return ln
}

// answerControl answers one question. After restart the other side is held until the
// server has ended, so that it knows when.
func (s *server) answerControl(question string) (any, <-chan struct{}) {
	status := controlStatus{os.Getpid(), version(), s.address(), s.sockets.Load()}
	if question != "restart" {
		return status, nil
	}
	select {
	case s.restart <- struct{}{}:
	default: // asked already
	}
	return status, s.ended
}

// ask asks the server on address something. As root it asks those of other users too.
// The answer may be any process's; it comes fit to be printed. who is its process, and
// its user if that is not ours.
func (c *config) ask(address, question string) (nc net.Conn, status controlStatus, who string, err error) {
	paths := c.controlPaths(address)
	if c.control == "" {
		paths = append(paths, control.OthersPaths(controlName(address))...)
	}
	nc, uid, err := control.Ask(paths, question, &status)
	if err != nil {
		return nil, status, "", errors.New(oneLine(err.Error()))
	}
	status.Version, status.Listening = oneLine(status.Version), oneLine(status.Listening)
	who = fmt.Sprintf("pid %d", status.PID)
	if uid != os.Geteuid() {
		name := strconv.Itoa(uid)
		if u, err := user.LookupId(name); err == nil {
			name = printable(u.Username)
		}
		who += ", user " + name
	}
	return nc, status, who, nil
}

// askStatus asks the server on address how it is.
func (c *config) askStatus(address string) (status controlStatus, who string, ok bool) {
	nc, status, who, err := c.ask(address, "status")
	if err != nil {
		return status, "", false
	}
	nc.Close()
	return status, who, true
}

// runRestart asks the running server to drain and to exit, and waits until it has.
// Whatever supervises it starts the next one.
func runRestart(ctx context.Context, c *config, _ []string, stdout, stderr io.Writer) int {
	if c.report(stderr); len(c.problems) > 0 {
		return exitUsage
	}
	nc, status, who, err := c.ask(c.address(), "restart")
	if err != nil {
		fmt.Fprintf(stderr, "reverb: no running server was found on %s: %v; run this as root or as the user that it runs as, with the same REVERB_SERVER_PORT or REVERB_CONTROL_SOCKET\n", printable(c.address()), err)
		return exitFail
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	fmt.Fprintf(stdout, "reverb (%s) on %s is stopping: %d connections are told to reconnect\n", who, status.Listening, status.Connections)
	nc.SetDeadline(time.Now().Add(c.grace + 30*time.Second))
	if _, err := io.Copy(io.Discard, nc); err != nil {
		fmt.Fprintln(stderr, "reverb: it has not stopped yet:", err)
		return exitFail
	}
	fmt.Fprintln(stdout, "stopped")
	return exitOK
}

// --- Health ---

//go:embed web/status.html
var statusPage []byte

// newAdmin is the server on REVERB_ADMIN_LISTEN. Who can reach it may read figures;
// to see or send events, the secret of the app is needed. addr is where it listens.
func (s *server) newAdmin(addr net.Addr) *http.Server {
	hosts := hostsOf(addr, s.config.adminListen)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", s.handleLive)
	mux.HandleFunc("GET /ready", s.handleReady)
	mux.HandleFunc("GET /metrics", s.handleMetrics)
	mux.HandleFunc("GET /status.json", s.handleStatus)
	mux.HandleFunc("POST /channels.json", s.console((*server).handleConsoleChannels))
	mux.HandleFunc("POST /publish", s.console((*server).handleConsolePublish))
	mux.HandleFunc("POST /watch", s.console((*server).handleConsoleWatch))
	mux.HandleFunc("GET /debug/pprof/", s.profile(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/cmdline", s.profile(pprof.Cmdline))
	mux.HandleFunc("GET /debug/pprof/profile", s.profile(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", s.profile(pprof.Symbol))
	mux.HandleFunc("GET /debug/pprof/trace", s.profile(pprof.Trace))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(statusPage)
	})
	policy := contentSecurityPolicy(statusPage)
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			setSecurityHeaders(w.Header(), policy)
			defer s.reportPanic(r)
			closeAfterDoubt(w, r)
			if why := hosts.refuse(r.Host); why != "" {
				s.hub.refuse("bad_request", s.hub.program.Remote(r), "admin: "+why)
				http.Error(w, why, http.StatusMisdirectedRequest)
				return
			}
			mux.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxRequestHeadBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// adminHosts are the values of Host that an address on loopback answers to. A page of
// another site may give its own name the address 127.0.0.1, and so read what is meant for
// this machine (DNS rebinding); the Host that its requests name gives it away. On any
// other address the operator decides who reaches it, and by which name.
type adminHosts struct {
	any  bool
	name string // of REVERB_ADMIN_LISTEN
}

func hostsOf(addr net.Addr, listen string) adminHosts {
	tcp, ok := addr.(*net.TCPAddr)
	name, _, _ := net.SplitHostPort(listen) // empty for a socket
	return adminHosts{any: !ok || !tcp.IP.IsLoopback(), name: name}
}

// refuse says why a request for host, which may hold a port, is not answered; it is empty
// when it is. A request without Host comes from no browser.
func (h adminHosts) refuse(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	name = strings.TrimSuffix(name, ".")
	ip, err := netip.ParseAddr(name)
	if h.any || host == "" || err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(name, "localhost") || name != "" && strings.EqualFold(name, h.name) {
		return ""
	}
	return fmt.Sprintf("the Host %q is no name of this address; ask for 127.0.0.1 or localhost (a proxy must set Host to it), or let REVERB_ADMIN_LISTEN be an address that is not loopback", printable(host))
}

// profile refuses to take a profile for a page of another site: taking one costs
// processor time. What else can be asked for costs little, such a page cannot read the
// answer (Cross-Origin-Resource-Policy), and other sites may well link to it.
func (s *server) profile(handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
			s.hub.refuse("origin_not_allowed", s.hub.program.Remote(r), "admin: a page of another site asks for a profile")
			http.Error(w, "a page of another site cannot ask for a profile; open this address itself", http.StatusForbidden)
			return
		}
		handle(w, r)
	}
}

// contentSecurityPolicy allows the one style and the one script of the page, by
// their hashes, and requests to its own origin.
func contentSecurityPolicy(page []byte) string {
	hash := func(tag string) string {
		_, rest, _ := bytes.Cut(page, []byte("<"+tag+">"))
		text, _, _ := bytes.Cut(rest, []byte("</"+tag+">"))
		sum := sha256.Sum256(text)
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; style-src " + hash("style") + "; script-src " + hash("script") +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func setSecurityHeaders(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

func (s *server) handleLive(w http.ResponseWriter, _ *http.Request) {
	if !s.alive() {
		http.Error(w, "an event loop does not come round", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "live\n")
}

func (s *server) handleReady(w http.ResponseWriter, _ *http.Request) {
	if why := s.notReady(); len(why) > 0 {
		http.Error(w, strings.Join(why, "\n"), http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
}

// maxReadyLag is how long a turn of a loop may take: while one takes longer, new
// connections wait for so long too, and are better sent elsewhere.
const maxReadyLag = time.Second

// notReady says why no more connections should be sent here.
func (s *server) notReady() (why []string) {
	if s.draining.Load() {
		why = append(why, "stopping")
	}
	if s.hub.program.Full() {
		why = append(why, fmt.Sprintf("%d of %d connections are taken; raise LimitNOFILE or add a server", s.sockets.Busy(), s.limit))
	}
	if s.meter.Level() > memory.Ample {
		why = append(why, fmt.Sprintf("%d of %d bytes of memory are used, so new subscriptions are refused; raise REVERB_MEMORY_LIMIT or add a server", s.meter.Used(), s.meter.Limit()))
	}
	if s.hub.busy() {
		why = append(why, "the loops are behind with delivering")
	}
	if lag := s.loops.lag(time.Now()); lag > maxReadyLag {
		why = append(why, fmt.Sprintf("an event loop is busy for %v at a time", lag.Round(time.Millisecond)))
	}
	if s.node != nil && !s.node.Counters.Live.Load() {
		why = append(why, "Redis is away, or not in step yet")
	}
	return why
}

// sum adds up what the loops have counted for an app.
func sum(a *app, of func(t *traffic) *atomic.Uint64) (n uint64) {
	for i := range a.perLoop {
		n += of(&a.perLoop[i].traffic).Load()
	}
	return n
}

// sortedApps are the apps by ID.
func (s *server) sortedApps() []*app {
	return slices.SortedFunc(maps.Values(s.hub.tables.Load().byID), func(a, b *app) int { return strings.Compare(a.id, b.id) })
}

// counters is a family of metrics with one value an app, named as soketi and sockudo
// name it. Some names of theirs for counters lack _total, which Prometheus wants:
// these are left untyped.
type counters struct {
	name, kind, help string
	value            func(a *app) uint64
}

func appCounters() []counters {
	perLoop := func(of func(t *traffic) *atomic.Uint64) func(a *app) uint64 {
		return func(a *app) uint64 { return sum(a, of) }
	}
	return []counters{
		{"connected", "gauge", "Open connections.", func(a *app) uint64 { return uint64(max(a.connections.Load(), 0)) }},
		{"new_connections_total", "counter", "Connections that were accepted.", perLoop(func(t *traffic) *atomic.Uint64 { return &t.connected })},
		{"new_disconnections_total", "counter", "Accepted connections that have ended.", perLoop(func(t *traffic) *atomic.Uint64 { return &t.disconnected })},
		{"ws_messages_received_total", "counter", "Messages that came over WebSockets.", perLoop(func(t *traffic) *atomic.Uint64 { return &t.received })},
		{"socket_received_bytes", "untyped", "Bytes of these messages, a counter.", perLoop(func(t *traffic) *atomic.Uint64 { return &t.receivedBytes })},
		{"ws_messages_sent_total", "counter", "Messages that went out over WebSockets, each receiver counted.", perLoop(func(t *traffic) *atomic.Uint64 { return &t.sent })},
		{"socket_transmitted_bytes", "untyped", "Bytes of these messages, a counter.", perLoop(func(t *traffic) *atomic.Uint64 { return &t.sentBytes })},
		{"client_events_total", "counter", "Client events that were relayed.", perLoop(func(t *traffic) *atomic.Uint64 { return &t.clientEvents })},
		{"rate_limit_triggered_total", "counter", "Messages over the rate limit.", perLoop(func(t *traffic) *atomic.Uint64 { return &t.limited })},
		{"http_calls_received_total", "counter", "Signed requests.", func(a *app) uint64 { return a.api.calls.Load() }},
		{"http_received_bytes", "untyped", "Bytes of their bodies, a counter.", func(a *app) uint64 { return a.api.receivedBytes.Load() }},
		{"http_transmitted_bytes", "untyped", "Bytes of the answers' bodies, a counter.", func(a *app) uint64 { return a.api.sentBytes.Load() }},
		{"published_events_total", "counter", "Events that were published through the HTTP API.", func(a *app) uint64 { return a.api.events.Load() }},
		{"undelivered_bytes", "gauge", "Bytes that events still have to be delivered, each delivery counted with 128 more; publishers wait above 16 MiB.", func(a *app) uint64 { return uint64(max(a.undelivered.Load(), 0)) }},
	}
}

func kindCounters() []struct {
	name, kind, help string
	value            func(k *kindTraffic) uint64
} {
	return []struct {
		name, kind, help string
		value            func(k *kindTraffic) uint64
	}{
		{"active_channels", "gauge", "Occupied channels.", func(k *kindTraffic) uint64 { return k.occupied.Load() - k.vacated.Load() }},
		{"active_subscriptions", "gauge", "Subscriptions that are in force.", func(k *kindTraffic) uint64 { return k.subscribed.Load() - k.unsubscribed.Load() }},
		{"channel_subscriptions_total", "counter", "Subscriptions that were made.", func(k *kindTraffic) uint64 { return k.subscribed.Load() }},
		{"channel_unsubscriptions_total", "counter", "Subscriptions that have ended.", func(k *kindTraffic) uint64 { return k.unsubscribed.Load() }},
	}
}

func (s *server) handleMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	m := metrics.NewWriter(w, s.config.metricsPrefix)
	port := "0"
	if a, ok := s.listeners[0].Addr().(*net.TCPAddr); ok {
		port = strconv.Itoa(a.Port)
	}
	apps := s.sortedApps()
	for _, c := range appCounters() {
		m.Family(c.name, c.kind, c.help)
		for _, a := range apps {
			m.Count(c.value(a), "app_id", a.id, "port", port)
		}
	}
	for _, c := range kindCounters() {
		m.Family(c.name, c.kind, c.help)
		for _, a := range apps {
			for i, name := range protocol.KindNames() {
				n := uint64(0) // one loop may count down what another has counted up
				for l := range a.perLoop {
					n += c.value(&a.perLoop[l].kinds[i])
				}
				m.Count(n, "app_id", a.id, "channel_type", name)
			}
		}
	}
	s.writeServerMetrics(m)
	writeProcessMetrics(m, s.started)
	if err := m.Flush(); err != nil {
		s.log.Debug("metrics were not taken", "why", err)
	}
}

func (s *server) writeServerMetrics(m *metrics.Writer) {
	ended, refused := s.hub.closed.Counts(), s.hub.refused.Counts()
	m.Family("connections_closed_total", "counter", "WebSocket connections that ended, by how.")
	for _, word := range slices.Sorted(maps.Keys(ended)) {
		m.Count(ended[word], "reason", word)
	}
	m.Family("refused_total", "counter", "Handshakes, subscriptions, messages and requests that were refused.")
	for _, word := range slices.Sorted(maps.Keys(refused)) {
		m.Count(refused[word], "reason", word)
	}
	var latencies []*metrics.Histogram
	for _, l := range s.loops.all {
		latencies = append(latencies, &l.latency)
	}
	m.Family("publish_to_socket_seconds", "histogram", "From an event's arrival to its being handed to the sockets of one loop.")
	m.Histograms(latencies)
	m.Family("loop_lag_seconds", "gauge", "Longest turn of an event loop in the last second or two, the running turn included.")
	now := time.Now()
	for i, l := range s.loops.all {
		m.Sample(l.lag(now).Seconds(), "loop", strconv.Itoa(i))
	}
	m.Family("loop_backlog_bytes", "gauge", "Bytes of events that wait for an event loop.")
	for i, l := range s.loops.all {
		m.Sample(float64(l.backlog.Load()), "loop", strconv.Itoa(i))
	}
	m.Family("send_queue_bytes", "gauge", "Bytes that wait for peers to read.")
	m.Sample(float64(s.queued()))
	m.Family("memory_used_bytes", "gauge", "Live memory, as it counts against memory_limit_bytes; 0 without a limit.")
	m.Sample(float64(s.meter.Used()))
	m.Family("memory_limit_bytes", "gauge", "REVERB_MEMORY_LIMIT, or what stands in for it; 0: no limit.")
	m.Sample(float64(s.meter.Limit()))
	m.Family("connection_limit", "gauge", "Connections that the descriptors allow.")
	m.Sample(float64(s.limit))
	m.Family("connections_closed_for_room_total", "counter", "Connections without a request that were closed at the limit, for new ones.")
	m.Count(s.sockets.Closed())
	m.Family("draining", "gauge", "Whether the server is stopping.")
	m.Sample(map[bool]float64{true: 1}[s.draining.Load()])
	if s.certs != nil {
		m.Family("tls_certificate_not_after_seconds", "gauge", "When the certificate in force expires, in Unix time.")
		m.Sample(float64(s.certs.notAfter().Unix()))
		m.Family("tls_buffers_shared", "gauge", "Whether idle TLS connections keep no buffers; 0 where crypto/tls is of a version that this was not tested with.")
		m.Sample(map[bool]float64{true: 1}[poll.TLSBuffersShared()])
	}
	if s.node != nil {
		s.writeNodeMetrics(m)
	}
	m.Family("build_info", "gauge", "1, with the version.")
	v, revision, goVersion := builtAs()
	m.Sample(1, "version", v, "revision", revision, "goversion", goVersion)
}

// writeNodeMetrics writes how this node gets on with Redis and the others.
func (s *server) writeNodeMetrics(m *metrics.Writer) {
	c := &s.node.Counters
	yes := map[bool]float64{true: 1}
	for _, g := range []struct {
		name, kind, help string
		value            float64
	}{
		{"redis_up", "gauge", "Whether both links to Redis are up.", yes[c.Up.Load()]},
		{"redis_live", "gauge", "Whether events go through Redis; else they are delivered here alone and queued.", yes[c.Live.Load()]},
		{"horizontal_transport_reconnections_total", "counter", "Sessions with Redis, the first included.", float64(c.Reconnects.Load())},
		{"horizontal_transport_messages_dropped_total", "counter", "Events that other nodes never got, because Redis was away for too long or refused them.", float64(c.Lost.Load())},
		{"horizontal_transport_messages_uncertain_total", "counter", "Events that were on their way when Redis went away, and that it was away too long to send again: other nodes got them, or not.", float64(c.Uncertain.Load())},
		{"horizontal_transport_queue_bytes", "gauge", "Bytes of events that wait for Redis to come back.", float64(c.Backlog.Load())},
		{"horizontal_adapter_sent_requests_total", "counter", "Events that this node published to the cluster.", float64(c.Published.Load())},
		{"horizontal_adapter_received_requests_total", "counter", "Envelopes that came from the cluster.", float64(c.Received.Load())},
		{"redis_foreign_channels", "gauge", "Channels served without the other nodes' members, because Redis holds a key under their name that this program has not written.", float64(c.Troubled.Load())},
		{"redis_malformed_total", "counter", "Messages on the cluster's channels that are no envelopes.", float64(c.Malformed.Load())},
		{"redis_unknown_total", "counter", "Envelopes of another version.", float64(c.Unknown.Load())},
		{"redis_duplicates_total", "counter", "Events that were sent again although they had arrived.", float64(c.Duplicates.Load())},
	} {
		m.Family(g.name, g.kind, g.help)
		m.Sample(g.value)
	}
}

func (s *server) queued() (n int64) {
	for _, l := range s.loops.all {
		n += l.queued.Load()
	}
	return n
}

// writeProcessMetrics writes what Prometheus' own libraries write for every program.
func writeProcessMetrics(m *metrics.Writer, started time.Time) {
	resident, limit := limits.Memory()
	soft, _ := limits.Files()
	for _, g := range []struct {
		name, kind, help string
		value            float64
	}{
		{"process_resident_memory_bytes", "gauge", "Resident memory.", float64(resident)},
		{"process_memory_limit_bytes", "gauge", "Memory that the control group allows; 0 if it does not say.", float64(limit)},
		{"process_cpu_seconds_total", "counter", "Processor time.", limits.CPU()},
		{"process_open_fds", "gauge", "Open descriptors.", float64(limits.OpenFiles())},
		{"process_max_fds", "gauge", "Descriptors that may be open.", float64(soft)},
		{"process_start_time_seconds", "gauge", "When the process started.", float64(started.UnixMilli()) / 1000},
		{"go_goroutines", "gauge", "Goroutines.", float64(runtime.NumGoroutine())},
	} {
		m.Process(g.name, g.kind, g.help)
		m.Sample(g.value)
	}
	samples := []runtimemetrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	runtimemetrics.Read(samples)
	for i, name := range []string{"go_heap_objects_bytes", "go_memory_bytes", "go_heap_allocated_bytes_total", "go_gc_cycles_total"} {
		kind := "gauge"
		if strings.HasSuffix(name, "_total") {
			kind = "counter"
		}
		m.Process(name, kind, "runtime/metrics "+samples[i].Name)
		m.Count(samples[i].Value.Uint64())
	}
}

// appStatus is a row of the status page.
type appStatus struct {
	ID            string `json:"id"`
	Connections   int64  `json:"connections"`
	Channels      uint64 `json:"channels"`
	Subscriptions uint64 `json:"subscriptions"`
	MessagesIn    uint64 `json:"messages_in"`
	MessagesOut   uint64 `json:"messages_out"`
	BytesIn       uint64 `json:"bytes_in"`
	BytesOut      uint64 `json:"bytes_out"`
	Publishes     uint64 `json:"publishes"`
}

// serverStatus is what the status page shows.
type serverStatus struct {
	Version       string      `json:"version"`
	UptimeSeconds float64     `json:"uptime_seconds"`
	Draining      bool        `json:"draining"`
	Ready         bool        `json:"ready"`
	NotReady      []string    `json:"not_ready"`
	Limit         int64       `json:"connection_limit"`
	Refused       uint64      `json:"refused"`
	Memory        uint64      `json:"memory_bytes"`
	Goroutines    int         `json:"goroutines"`
	LoopLag       float64     `json:"loop_lag_seconds"`
	SendQueue     int64       `json:"send_queue_bytes"`
	appStatus                 // of all apps
	Apps          []appStatus `json:"apps"`
}

func statusOf(a *app) appStatus {
	st := appStatus{ID: a.id, Connections: a.connections.Load(), Publishes: a.api.events.Load(),
		MessagesIn: sum(a, func(t *traffic) *atomic.Uint64 { return &t.received }), MessagesOut: sum(a, func(t *traffic) *atomic.Uint64 { return &t.sent }),
		BytesIn: sum(a, func(t *traffic) *atomic.Uint64 { return &t.receivedBytes }), BytesOut: sum(a, func(t *traffic) *atomic.Uint64 { return &t.sentBytes })}
	for l := range a.perLoop {
		for i := range a.perLoop[l].kinds {
			k := &a.perLoop[l].kinds[i]
			st.Channels += k.occupied.Load() - k.vacated.Load()
			st.Subscriptions += k.subscribed.Load() - k.unsubscribed.Load()
		}
	}
	return st
}

func (s *server) handleStatus(w http.ResponseWriter, _ *http.Request) {
	resident, _ := limits.Memory()
	st := serverStatus{Version: version(), UptimeSeconds: time.Since(s.started).Seconds(), Draining: s.draining.Load(), NotReady: s.notReady(),
		Limit: s.limit, Memory: resident, Goroutines: runtime.NumGoroutine(), SendQueue: s.queued(), Apps: []appStatus{}}
	st.Ready = len(st.NotReady) == 0
	for _, n := range s.hub.refused.Counts() {
		st.Refused += n
	}
	st.LoopLag = s.loops.lag(time.Now()).Seconds()
	for _, a := range s.sortedApps() {
		as := statusOf(a)
		st.Apps = append(st.Apps, as)
		st.Connections += as.Connections
		st.Channels += as.Channels
		st.Subscriptions += as.Subscriptions
		st.MessagesIn += as.MessagesIn
		st.MessagesOut += as.MessagesOut
		st.BytesIn += as.BytesIn
		st.BytesOut += as.BytesOut
		st.Publishes += as.Publishes
	}
	answer(w, http.StatusOK, st)
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
}

// consoleRequest is what the page's forms send.
type consoleRequest struct {
	App, Secret, Channel, Event, Data string
}

// console admits requests of the page itself that know the secret of an app.
func (s *server) console(handle func(s *server, w http.ResponseWriter, r *http.Request, a *app, q consoleRequest)) http.HandlerFunc {
	refuse := func(w http.ResponseWriter, status int, text string) {
		answer(w, status, map[string]string{"error": text})
	}
	return func(w http.ResponseWriter, r *http.Request) {
		site := r.Header.Get("Sec-Fetch-Site")
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") || site != "" && site != "same-origin" {
			refuse(w, http.StatusForbidden, "only the status page itself may ask this, in JSON")
			return
		}
		var q consoleRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&q); err != nil {
			refuse(w, http.StatusBadRequest, "the request is not the JSON that is expected")
			return
		}
		peer := s.hub.program.Remote(r)
		wait, right := s.guesses.Try(peer, time.Now())
		if wait > 0 {
			wait = max(wait.Round(time.Second), time.Second)
			s.hub.refuse("unauthorized", peer, "status page: too many wrong secrets; no more are looked at for now")
			w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)))
			refuse(w, http.StatusTooManyRequests, fmt.Sprintf("there were too many wrong secrets; try again in %v", wait))
			return
		}
		a := s.hub.tables.Load().byID[q.App]
		if a == nil || subtle.ConstantTimeCompare([]byte(a.settings.Load().secret), []byte(q.Secret)) != 1 {
			s.hub.refuse("unauthorized", peer, "status page: wrong secret for app "+printable(q.App))
			refuse(w, http.StatusUnauthorized, "this is not the secret of that app")
			return
		}
		right()
		handle(s, w, r, a, q)
	}
}

const maxConsoleChannels = 500

func (s *server) handleConsoleChannels(w http.ResponseWriter, r *http.Request, a *app, q consoleRequest) {
	type row struct {
		Name          string `json:"name"`
		Subscriptions int    `json:"subscriptions"`
		Users         int    `json:"users"`
	}
	all := s.hub.occupied(r.Context(), a, q.Channel, true, time.Now())
	rows := []row{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if len(rows) < maxConsoleChannels {
			rows = append(rows, row{name, all[name].Subscriptions, all[name].Users})
		}
	}
	answer(w, http.StatusOK, map[string]any{"channels": rows, "total": len(all)})
}

func (s *server) handleConsolePublish(w http.ResponseWriter, r *http.Request, a *app, q consoleRequest) {
	name, err := protocol.ParseName(q.Channel)
	e := &protocol.Publish{Name: []byte(q.Event), Data: jsonraw.AppendString(nil, q.Data), Channels: []protocol.Name{name}}
	fail := e.Check()
	switch {
	case err != nil:
		answer(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	case q.Event == "":
		answer(w, http.StatusBadRequest, map[string]string{"error": "the event has no name"})
		return
	case fail != nil:
		answer(w, fail.Status, map[string]string{"error": fail.Text})
		return
	}
	e.Info = []string{"subscription_count"}
	all, fail := s.hub.publish(r.Context(), a, e, time.Now())
	if fail != nil {
		answer(w, fail.Status, map[string]string{"error": fail.Text})
		return
	}
	answer(w, http.StatusOK, map[string]int{"subscriptions": all[0].Subscriptions})
}

// handleConsoleWatch streams what is published on one channel, a line each, until
// the page has had enough or the server stops.
func (s *server) handleConsoleWatch(w http.ResponseWriter, r *http.Request, a *app, q consoleRequest) {
	if _, err := protocol.ParseName(q.Channel); err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	messages, remove, ok := s.hub.registry.tap(a, q.Channel)
	if !ok {
		answer(w, http.StatusServiceUnavailable, map[string]string{"error": "too many pages are watching"})
		return
	}
	defer remove()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	alive := time.NewTicker(15 * time.Second)
	defer alive.Stop()
	for line := []byte(`{"alive":true}` + "\n"); ; {
		if _, err := w.Write(line); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
		select {
		case m := <-messages:
			line = consoleLine(m)
		case <-alive.C:
			line = []byte(`{"alive":true}` + "\n")
		case <-r.Context().Done():
			return
		case <-s.ended:
			return
		}
	}
}

// consoleLine is a message as the page is told of it. data that is a string of JSON,
// as servers send it, is shown as what it holds.
func consoleLine(m tapped) []byte {
	e, err := protocol.ParseEvent(m.message)
	if err != nil {
		return []byte(`{"alive":true}` + "\n") // nothing that was sent is not an event
	}
	data := e.Data
	if s, quoted := jsonraw.String(data); quoted && jsonraw.Check([]byte(s)) == nil {
		data = []byte(s)
	}
	if len(data) == 0 {
		data = []byte("null")
	}
	b := append([]byte(`{"at":"`), m.at.UTC().Format("2006-01-02T15:04:05.000Z")...)
	b = jsonraw.AppendString(append(b, `","event":`...), e.Name)
	b = append(append(b, `,"data":`...), data...)
	return append(bytes.ReplaceAll(b, []byte("\n"), []byte(" ")), '}', '\n')
}

// --- Check ---

// findings collects what check finds and prints it: a word (ok, note for what is worth
// a look, FAIL for what does not work) and a sentence a line.
type findings struct {
	w      io.Writer
	failed bool
}

// add prints one line. word is ok, note (worth a look) or FAIL (does not work).
func (f *findings) add(word, format string, args ...any) {
	f.failed = f.failed || word == "FAIL"
	fmt.Fprintf(f.w, "%-4s %s\n", word, fmt.Sprintf(format, args...))
}

// runCheck tells what stands in the way of a start or of many connections, and what
// to type. Exit code 1 means that something does not work.
func runCheck(ctx context.Context, c *config, _ []string, stdout, _ io.Writer) int {
	f := &findings{w: stdout}
	c.report(stdout)
	c.printInForce(stdout)
	word := map[bool]string{true: "ok", false: "FAIL"}
	f.add(word[len(c.problems) == 0], "configuration: %d problems, %d warnings", len(c.problems), len(c.warnings))
	if len(c.apps) == 0 {
		f.add("FAIL", "apps: none, so nothing can connect; set REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET")
	} else {
		f.add("ok", "apps: %d", len(c.apps))
	}
	c.checkCertificate(f, time.Now())
	checkDescriptors(f)
	for _, advice := range limits.KernelAdvice("/proc/sys") {
		f.add("note", "kernel: %s", advice)
	}
	c.checkRedisLink(ctx, f)
	running := c.checkListening(f)
	c.checkPublic(ctx, f, running)
	if f.failed {
		return exitFail
	}
	return exitOK
}

func (c *config) checkCertificate(f *findings, now time.Time) {
	if c.tls.certFile == "" {
		return // whether a proxy must do TLS is said of the public address
	}
	cert, _, err := loadCertificate(c.tls.certFile, c.tls.keyFile, c.tls.passphrase, now)
	if err != nil {
		return // a problem of the configuration, said above
	}
	leaf := cert.Leaf
	word, days := "ok", int(leaf.NotAfter.Sub(now).Hours()/24)
	if days < 14 {
		word = "note"
	}
	f.add(word, "certificate: %s, for %s, until %s (%d days)", c.tls.certFile, printable(strings.Join(leaf.DNSNames, ", ")), leaf.NotAfter.UTC().Format(time.DateOnly), days)
}

func checkDescriptors(f *findings) {
	files := limits.RaiseFiles()
	if files == 0 {
		return
	}
	n := max(int64(min(files, math.MaxInt32))-spareFiles, 0)
	switch {
	case n < 256:
		f.add("FAIL", "descriptors: %d, so %d connections; raise the limit: ulimit -n 65536, or LimitNOFILE=65536 in the unit", files, n)
	case n < 10_000:
		f.add("note", "descriptors: %d, so %d connections; for more: LimitNOFILE=1048576 in the unit, or nofile in /etc/security/limits.conf", files, n)
	default:
		f.add("ok", "descriptors: %d, so %d connections of about 1 KiB each beside the kernel's", files, n)
	}
}

// checkRedisLink says whether Redis can be reached.
func (c *config) checkRedisLink(ctx context.Context, f *findings) {
	if c.redis == nil || len(c.problems) > 0 {
		return
	}
	found, err := probeRedis(ctx, c.redis)
	if err != nil {
		hint := ""
		if errors.As(err, new(*net.OpError)) {
			hint = "; start it, or set REVERB_REDIS_HOST and REVERB_REDIS_PORT (or REDIS_HOST and REDIS_PORT)"
		}
		f.add("FAIL", "redis: %v%s; without Redis every node serves its own connections alone", err, hint)
		return
	}
	f.add("ok", "redis: %s", found)
}

// checkListening says whether the port is free, or that the server is running.
func (c *config) checkListening(f *findings) (running bool) {
	if s, who, ok := c.askStatus(c.address()); ok {
		f.add("ok", "listening: reverb is running on %s (%s, %d connections)", s.Listening, who, s.Connections)
		return true
	}
	ln, err := c.listen(c.host, c.port)
	if err != nil {
		f.add("FAIL", "listening: %v%s", err, c.listenHint(err, c.address()))
		return true // perhaps: another user's
	}
	f.add("ok", "listening: %s%s is free", ln.Addr(), c.path)
	ln.Close()
	return false
}

// checkPublic goes the way of a browser and of Laravel: it subscribes and publishes
// through the public address.
func (c *config) checkPublic(ctx context.Context, f *findings, running bool) {
	if c.publicHost == "" {
		f.add("note", "public address: not set; set REVERB_HOST, REVERB_PORT and REVERB_SCHEME for Laravel and the browser")
		return
	}
	scheme, port := cmp.Or(c.publicScheme, "https"), cmp.Or(c.publicPort, 443)
	public := fmt.Sprintf("%s://%s%s", scheme, net.JoinHostPort(c.publicHost, strconv.Itoa(port)), c.path)
	serves := "http"
	if c.tls.certFile != "" {
		serves = "https"
	}
	if port == c.port && scheme != serves && c.plainListen == "" {
		f.add("FAIL", "public address: %s, but this server speaks %s on port %d; set REVERB_SCHEME=%s, or give it a certificate with REVERB_TLS_CERT", public, serves, c.port, serves)
		return
	}
	if len(c.apps) == 0 {
		return
	}
	to := clientside.Server{Network: "tcp", Address: net.JoinHostPort(c.publicHost, strconv.Itoa(port)), Dial: new(net.Dialer).DialContext,
		TLS: scheme == "https", Name: c.publicHost, Path: c.path, App: clientApp(c.apps[0]), Frames: openFrames}
	took, skew, err := to.RoundTrip(ctx, time.Now)
	switch {
	case err != nil && !running:
		f.add("note", "public address: %s: %s; no server runs here yet, so start it and check again", public, oneLine(err.Error()))
		return
	case err != nil:
		f.add("FAIL", "public address: %s: %s; %s", public, oneLine(err.Error()), c.publicHint(port, scheme, err))
		return
	}
	f.add("ok", "public address: %s: an event came back in %v", public, took.Round(100*time.Microsecond))
	if skew.Abs() > 30*time.Second && c.authWindow > 0 {
		f.add("note", "clock: the server's and this machine's differ by %v; requests are refused from %v on (REVERB_AUTH_WINDOW): timedatectl set-ntp true", skew.Round(time.Second), c.authWindow)
	} else {
		f.add("ok", "clock: the same as the public address's, to %v", max(skew.Abs().Round(time.Second), time.Second))
	}
}

// publicHint says what to do when the round trip fails.
func (c *config) publicHint(port int, scheme string, err error) string {
	var unknown x509.UnknownAuthorityError
	var dns *net.DNSError
	switch {
	case errors.As(err, &unknown):
		return "the certificate's issuer is not trusted on this machine; serve the whole chain (fullchain.pem), or trust the issuer"
	case errors.As(err, &dns):
		return "REVERB_HOST must resolve on this machine too; add it to DNS or /etc/hosts"
	case errors.Is(err, syscall.ECONNREFUSED) && port != c.port:
		return fmt.Sprintf("a proxy must forward port %d to %d (deploy/nginx.conf)", port, c.port)
	case port != c.port:
		return fmt.Sprintf("the proxy on port %d must forward %s/app and %s/apps with Upgrade to port %d (deploy/nginx.conf)", port, c.path, c.path, c.port)
	}
	return "compare REVERB_HOST, REVERB_PORT and REVERB_SCHEME with where the server is"
}

// --- Client ---

// clientApp is what a client needs to know of an app.
func clientApp(a *appSettings) clientside.App {
	return clientside.App{ID: a.id, Key: a.key, Secret: a.secret, Origin: a.anyOrigin()}
}

// findServer says where the server of this configuration can be reached from the
// machine that it runs on.
func findServer(c *config, needsApp bool, stderr io.Writer) *clientside.Server {
	if c.dev {
		if err := c.joinDev(); err != nil {
			fmt.Fprintln(stderr, "reverb:", err)
			return nil
		}
	}
	if c.report(stderr); len(c.problems) > 0 {
		return nil
	}
	if needsApp && len(c.apps) == 0 {
		fmt.Fprintln(stderr, "reverb: there is no app; set REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET as the server has them, or use --dev beside reverb start --dev")
		return nil
	}
	address, secure := c.address(), c.tls.certFile != ""
	if c.plainListen != "" {
		address, secure = c.plainListen, false
	}
	network, dial := clientside.Local(address)
	self := "127.0.0.1:0"
	if network == "unix" {
		self = ""
	}
	s := &clientside.Server{Network: network, Address: dial, Dial: new(net.Dialer).DialContext, TLS: secure, Path: c.path,
		Proxied: c.proxyProtocol && (c.trusted.Nobody() || c.trusted.Contains(self)), Frames: openFrames}
	if len(c.apps) > 0 {
		s.App = clientApp(c.apps[0])
	}
	return s
}

// clientFailed prints why a command of the client has failed.
func clientFailed(stderr io.Writer, what string, err error) int {
	fmt.Fprintf(stderr, "reverb: %s%s%s\n", what, oneLine(err.Error()), clientside.Hint(err))
	return exitFail
}

func runHealth(ctx context.Context, c *config, _ []string, stdout, stderr io.Writer) int {
	s := findServer(c, false, stderr)
	if s == nil {
		return exitUsage
	}
	answer, err := s.Health(ctx)
	if err != nil {
		return clientFailed(stderr, "not well: ", err)
	}
	fmt.Fprintln(stdout, oneLine(answer))
	return exitOK
}

// runTrigger publishes one event.
func runTrigger(ctx context.Context, c *config, args []string, stdout, stderr io.Writer) int {
	if len(args) != 3 {
		fmt.Fprintln(stderr, `reverb: trigger takes a channel, an event and data, like: reverb trigger my-channel my-event '{"n":1}'`)
		return exitUsage
	}
	if err := jsonraw.Check([]byte(args[2])); err != nil {
		fmt.Fprintf(stderr, "reverb: the data is %v; quote it for the shell, like '{\"n\":1}'\n", err)
		return exitUsage
	}
	s := findServer(c, true, stderr)
	if s == nil {
		return exitUsage
	}
	if err := s.Trigger(ctx, args[0], args[1], args[2], time.Now()); err != nil {
		return clientFailed(stderr, "", err)
	}
	fmt.Fprintf(stdout, "sent %s to %s\n", oneLine(args[1]), oneLine(args[0]))
	return exitOK
}

// runListen subscribes to channels and prints every event that arrives on them,
// one a line, until it is interrupted.
func runListen(ctx context.Context, c *config, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, "reverb: listen takes one or more channels, like: reverb listen my-channel")
		return exitUsage
	}
	s := findServer(c, true, stderr)
	if s == nil {
		return exitUsage
	}
	err := s.Listen(ctx, args, func(e clientside.Event) (err error) {
		if e.Name == clientside.Subscribed {
			_, err = fmt.Fprintf(stdout, "listening on %s\n", oneLine(e.Channel))
		} else {
			_, err = fmt.Fprintf(stdout, "%s %s %s\n", oneLine(e.Channel), oneLine(e.Name), oneLine(e.Data))
		}
		return err
	})
	if ctx.Err() != nil {
		return exitOK
	}
	return clientFailed(stderr, "", err)
}

// clientFrames is the client's end of a WebSocket: it makes frames of messages.
type clientFrames struct {
	w io.Writer
	r *bufio.Reader
}

func openFrames(nc net.Conn, r *bufio.Reader) clientside.Conn { return &clientFrames{nc, r} }

// maxServerFrame bounds a frame of the server. A larger one ends the connection.
const maxServerFrame = 64 << 20

// ReadMessage implements clientside.Conn. The server sends every message as one frame.
func (f *clientFrames) ReadMessage() ([]byte, error) {
	for {
		op, payload, err := f.read()
		if err != nil {
			return nil, err
		}
		switch op {
		case opText:
			return payload, nil
		case opPing:
			if err := f.write(opPong, payload); err != nil {
				return nil, err
			}
		case opClose:
			code, reason, _ := parseClose(payload)
			return nil, fmt.Errorf("the server closes the connection: %d %s", code, reason)
		}
	}
}

func (f *clientFrames) read() (opcode, []byte, error) {
	var h frameHeader
	for n, size := 0, 2; n == 0; size++ {
		head, err := f.r.Peek(size)
		if err != nil {
			return 0, nil, fmt.Errorf("the connection is gone: %w", err)
		}
		h, n = parseFrameHeader(head)
		f.r.Discard(n)
	}
	if h.length > maxServerFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes is too much", h.length)
	}
	payload := make([]byte, h.length)
	_, err := io.ReadFull(f.r, payload)
	return h.op, payload, err
}

// WriteMessage implements clientside.Conn.
func (f *clientFrames) WriteMessage(message []byte) error { return f.write(opText, message) }

func (f *clientFrames) write(op opcode, payload []byte) error {
	var mask [4]byte
	rand.Read(mask[:]) // never fails
	h := frameHeader{fin: true, op: op, length: uint64(len(payload)), masked: true, mask: binary.LittleEndian.Uint32(mask[:])}
	b := append(appendFrameHeader(nil, h), payload...)
	maskBytes(b[len(b)-len(payload):], h.mask)
	_, err := f.w.Write(b)
	return err
}
