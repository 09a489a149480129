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
//	redis.go   where Redis is
//	tls.go     certificates
//	internal/  leaves that know nothing of the above
//
// Sections of this file:
//
//	Commands        main, run, help
//	Configuration   the table of variables; where their values come from
//	Apps            REVERB_APPS and its relatives
//	Report          what is in force; problems
//	Server          listening, serving, stopping
//	Check           what stands in the way of a start
//	Client          listen, trigger, health
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"reverb/internal/dotenv"
	"reverb/internal/jsonraw"
	"reverb/internal/limits"
	"reverb/internal/poll"
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
	i := slices.IndexFunc(commands(), func(c command) bool { return c.name == name })
	if i < 0 {
		fmt.Fprintf(stderr, "reverb: there is no command %q; see reverb help\n", name)
		return exitUsage
	}
	c := loadConfig(environ, flags, time.Now())
	return commands()[i].run(ctx, c, words, stdout, stderr)
}

// parseArgs takes the command line apart. Flags may stand anywhere; --name value
// and --name=value are the same.
func parseArgs(args []string) (name string, words []string, flags map[string]string, err error) {
	flags = map[string]string{}
	for i := 0; i < len(args); i++ {
		arg, dashed := strings.CutPrefix(args[i], "--")
		switch {
		case args[i] == "-h" || args[i] == "--help":
			return "help", nil, flags, nil
		case args[i] == "--version":
			return "version", nil, flags, nil
		case !dashed:
			words = append(words, args[i])
			continue
		}
		key, value, given := strings.Cut(arg, "=")
		switch {
		case key == "debug" || key == "dev":
			if !given {
				value = "true"
			}
		case !slices.Contains([]string{"host", "port", "path", "hostname", "env-file"}, key):
			return "", nil, nil, fmt.Errorf("there is no flag --%s", printable(key))
		case !given && i+1 == len(args):
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
	return words[0], words[1:], flags, nil
}

func version() string {
	v, info := "dev", "unknown"
	if b, ok := debug.ReadBuildInfo(); ok {
		if b.Main.Version != "" && b.Main.Version != "(devel)" {
			v = b.Main.Version
		}
		info = b.GoVersion
	}
	return fmt.Sprintf("reverb %s (%s, %s/%s)", v, info, runtime.GOOS, runtime.GOARCH)
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

func runStart(ctx context.Context, c *config, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		c.problem("", "start takes no arguments; got "+strconv.Quote(printable(args[0])))
	}
	if c.dev {
		if err := c.startDev(); err != nil {
			fmt.Fprintln(stderr, "reverb: the app of --dev could not be kept for listen and trigger:", err)
		}
	}
	if c.report(stderr); len(c.problems) > 0 {
		return exitUsage
	}
	if len(c.apps) == 0 {
		fmt.Fprint(stderr, withoutApp())
		return exitUsage
	}
	log := c.logger(stderr)
	files := limits.RaiseFiles()
	ln, err := listen(c.host, c.port)
	if err != nil {
		fmt.Fprintf(stderr, "reverb: %v; REVERB_SERVER_HOST and REVERB_SERVER_PORT say where to listen\n", err)
		return exitFail
	}
	s, err := newServer(ln, c.apps, files, log)
	if err != nil {
		fmt.Fprintln(stderr, "reverb:", err)
		return exitFail
	}
	c.configure(s.hub, stdout)
	c.printInForce(stderr)
	log.Info("listening on "+ln.Addr().String()+c.path, "apps", len(c.apps), "loops", len(s.loops.all), "connections", s.listener.limit)
	if err := s.serve(ctx, c.drain); err != nil {
		fmt.Fprintln(stderr, "reverb:", err)
		return exitFail
	}
	log.Info("stopped")
	return exitOK
}

// configure gives the hub its settings.
func (c *config) configure(h *hub, stdout io.Writer) {
	h.prefix, h.maxRequestSize, h.authWindow, h.compression = c.path, int64(c.maxRequestSize), c.authWindow, c.compression
	if !c.debug {
		return
	}
	var mu sync.Mutex
	h.tracef = func(what, who, message string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(stdout, "  %s %s %s\n", what, strings.Repeat(".", max(3, 60-len(what)-len(who))), printable(who))
		if message != "" {
			fmt.Fprintf(stdout, "    %s\n", oneLine(message))
		}
	}
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
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// --- Configuration ---

// config is everything that can be set, and where it was.
type config struct {
	host           string
	port           int
	path           string
	publicHost     string
	publicPort     int
	publicScheme   string
	app            app // the app of REVERB_APP_*, and what those variables say of it
	appsJSON       string
	appsFile       string
	maxRequestSize int
	authWindow     time.Duration
	compression    bool
	drain          time.Duration
	scaling        bool
	scalingChannel string
	redisURL       string
	redisHost      string
	redisPort      int
	redisUser      string
	redisPassword  string
	redisDB        int
	redisTimeout   time.Duration
	tlsCert        string
	tlsKey         string
	tlsPassphrase  string
	tlsCA          string
	tlsMinVersion  string
	tlsCiphers     string
	adminListen    string
	logLevel       slog.Level
	logFormat      string
	debug          bool
	dev            bool

	apps     []*app
	inForce  []setting
	problems []string
	warnings []string
}

// setting is one variable as it is in force.
type setting struct {
	name, value, origin string
	secret              bool
}

// variable is a row of the table of variables. read takes the text of a value that
// is not empty; its error says what is wrong and what would be right.
type variable struct {
	name     string
	fallback string // the variable of Laravel's that counts when this one is not set
	def      string
	flag     string
	secret   bool
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
		{name: "REVERB_SERVER_HOST", def: "0.0.0.0", flag: "host", help: "address to listen on; unix:/path for a socket", read: text(func(c *config) *string { return &c.host })},
		{name: "REVERB_SERVER_PORT", def: "8080", flag: "port", help: "port to listen on; 0 takes any that is free", read: number(0, 65535, func(c *config) *int { return &c.port })},
		{name: "REVERB_SERVER_PATH", flag: "path", help: "prefix of every path, such as /ws", read: readPath},
		{name: "REVERB_HOST", flag: "hostname", help: "public host name, as browsers use it; never listened on", read: text(func(c *config) *string { return &c.publicHost })},
		{name: "REVERB_PORT", help: "public port, as browsers use it; never listened on", read: number(1, 65535, func(c *config) *int { return &c.publicPort })},
		{name: "REVERB_SCHEME", help: "public scheme, http or https", read: readScheme},
		{name: "REVERB_APP_ID", help: "the app's ID", read: text(func(c *config) *string { return &c.app.id })},
		{name: "REVERB_APP_KEY", help: "the app's key; browsers know it", read: text(func(c *config) *string { return &c.app.key })},
		{name: "REVERB_APP_SECRET", secret: true, help: "the app's secret", read: text(func(c *config) *string { return &c.app.secret })},
		{name: "REVERB_APPS", secret: true, help: "several apps: a JSON array with the keys of config/reverb.php", read: text(func(c *config) *string { return &c.appsJSON })},
		{name: "REVERB_APPS_FILE", help: "the same in a file; a dump of config('reverb') will do", read: text(func(c *config) *string { return &c.appsFile })},
		{name: "REVERB_ALLOWED_ORIGINS", def: "*", help: "hosts that may connect, comma-separated; * stands for anything", read: readOrigins},
		{name: "REVERB_APP_PING_INTERVAL", def: "60", help: "seconds of silence after which a connection is pinged", read: seconds(1, func(c *config) *time.Duration { return &c.app.pingInterval })},
		{name: "REVERB_APP_ACTIVITY_TIMEOUT", def: "30", help: "seconds that a client has to answer a ping", read: seconds(1, func(c *config) *time.Duration { return &c.app.activityTimeout })},
		{name: "REVERB_APP_MAX_CONNECTIONS", help: "connections of an app; no limit when empty", read: number(1, math.MaxInt32, func(c *config) *int { return &c.app.maxConnections })},
		{name: "REVERB_APP_MAX_MESSAGE_SIZE", def: "10000", help: "bytes of one message of a client", read: number(1, 64<<20, func(c *config) *int { return &c.app.maxMessageSize })},
		{name: "REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", def: "members", help: "members, all, none, or private: members of private and presence channels", read: readPolicy},
		{name: "REVERB_APP_RATE_LIMITING_ENABLED", def: "false", help: "whether messages of a connection are limited", read: boolean(func(c *config) *bool { return &c.app.limit.enabled })},
		{name: "REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", def: "60", help: "messages in one window", read: number(1, math.MaxInt32, func(c *config) *int { return &c.app.limit.maxAttempts })},
		{name: "REVERB_APP_RATE_LIMIT_DECAY_SECONDS", def: "60", help: "seconds of a window", read: seconds(1, func(c *config) *time.Duration { return &c.app.limit.decay })},
		{name: "REVERB_APP_RATE_LIMIT_TERMINATE", def: "false", help: "whether a connection over the limit is closed", read: boolean(func(c *config) *bool { return &c.app.limit.terminate })},
		{name: "REVERB_MAX_REQUEST_SIZE", def: "10000", help: "bytes of the body of a request", read: number(1, 64<<20, func(c *config) *int { return &c.maxRequestSize })},
		{name: "REVERB_AUTH_WINDOW", def: "600", help: "seconds that a signed request may differ from the clock; 0 allows any", read: seconds(0, func(c *config) *time.Duration { return &c.authWindow })},
		{name: "REVERB_COMPRESSION", def: "false", help: "whether permessage-deflate is taken when a client offers it", read: boolean(func(c *config) *bool { return &c.compression })},
		{name: "REVERB_DRAIN_TIMEOUT", def: "5", help: "seconds over which connections are told that the server stops", read: duration(0, 3600, func(c *config) *time.Duration { return &c.drain })},
		{name: "REVERB_SCALING_ENABLED", def: "false", help: "several nodes on one Redis", read: boolean(func(c *config) *bool { return &c.scaling })},
		{name: "REVERB_SCALING_CHANNEL", def: "reverb", help: "prefix of everything in Redis", read: text(func(c *config) *string { return &c.scalingChannel })},
		{name: "REVERB_REDIS_URL", fallback: "REDIS_URL", secret: true, help: "redis://user:password@host:6379/0; wins over the parts", read: text(func(c *config) *string { return &c.redisURL })},
		{name: "REVERB_REDIS_HOST", fallback: "REDIS_HOST", def: "127.0.0.1", help: "host of Redis", read: text(func(c *config) *string { return &c.redisHost })},
		{name: "REVERB_REDIS_PORT", fallback: "REDIS_PORT", def: "6379", help: "port of Redis", read: number(1, 65535, func(c *config) *int { return &c.redisPort })},
		{name: "REVERB_REDIS_USERNAME", fallback: "REDIS_USERNAME", help: "user in Redis", read: text(func(c *config) *string { return &c.redisUser })},
		{name: "REVERB_REDIS_PASSWORD", fallback: "REDIS_PASSWORD", secret: true, help: "password in Redis", read: text(func(c *config) *string { return &c.redisPassword })},
		{name: "REVERB_REDIS_DB", fallback: "REDIS_DB", def: "0", help: "database in Redis", read: number(0, 65535, func(c *config) *int { return &c.redisDB })},
		{name: "REVERB_REDIS_TIMEOUT", fallback: "REDIS_TIMEOUT", def: "60", help: "seconds to wait for Redis", read: seconds(1, func(c *config) *time.Duration { return &c.redisTimeout })},
		{name: "REVERB_TLS_CERT", help: "file of the certificate chain, PEM; may hold the key too", read: text(func(c *config) *string { return &c.tlsCert })},
		{name: "REVERB_TLS_KEY", help: "file of the private key, PEM", read: text(func(c *config) *string { return &c.tlsKey })},
		{name: "REVERB_TLS_PASSPHRASE", secret: true, help: "passphrase of the private key", read: text(func(c *config) *string { return &c.tlsPassphrase })},
		{name: "REVERB_TLS_CA", help: "file of certificates that clients must be signed with, PEM", read: text(func(c *config) *string { return &c.tlsCA })},
		{name: "REVERB_TLS_MIN_VERSION", def: "1.2", help: "1.2 or 1.3", read: text(func(c *config) *string { return &c.tlsMinVersion })},
		{name: "REVERB_TLS_CIPHERS", help: "cipher suites of TLS 1.2, comma-separated", read: text(func(c *config) *string { return &c.tlsCiphers })},
		{name: "REVERB_ADMIN_LISTEN", help: "address for metrics, status and profiling, such as 127.0.0.1:9090", read: text(func(c *config) *string { return &c.adminListen })},
		{name: "REVERB_LOG_LEVEL", def: "info", help: "debug, info, warn or error", read: readLogLevel},
		{name: "REVERB_LOG_FORMAT", def: "text", help: "text or json", read: readLogFormat},
		{name: "REVERB_DEBUG", def: "false", flag: "debug", help: "show every message, on standard output", read: boolean(func(c *config) *bool { return &c.debug })},
		{name: "REVERB_ENV_FILE", def: ".env", flag: "env-file", help: "Laravel's file; the real environment wins over it", read: func(*config, string) error { return nil }},
	}
}

func readPath(c *config, s string) error {
	s = strings.Trim(s, "/")
	if strings.ContainsAny(s, "?#% \t") || strings.Contains("/"+s+"/", "/../") || strings.Contains(s, "//") {
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
	for origin := range strings.SplitSeq(s, ",") {
		origin = strings.TrimSpace(origin)
		if err := checkOriginPattern(origin); err != nil {
			return err
		}
		c.app.allowedOrigins = append(c.app.allowedOrigins, origin)
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
	flags    map[string]string
	env      map[string]string
	file     map[string]dotenv.Entry
	fileName string
}

// lookup returns the value of a name and where it stands, by Laravel's env() rules.
// ok is false where it is not set, null or empty.
func (s *source) lookup(name string) (value, origin string, ok bool) {
	raw, found := s.env[name]
	origin = "environment"
	if !found {
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
	c := &config{dev: flags["dev"] == "true"}
	src := &source{flags: flags, env: map[string]string{}, file: map[string]dotenv.Entry{}}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		src.env[name] = value
	}
	c.readEnvFile(src)
	for _, v := range variables() {
		c.readVariable(&v, src)
	}
	c.warnUnknown(src)
	c.loadApps()
	c.checkTogether(now)
	return c
}

// readEnvFile reads Laravel's .env. That the usual one is not there is no problem.
func (c *config) readEnvFile(src *source) {
	name, asked := src.flags["env-file"], true
	if name == "" {
		name, _, asked = src.lookup("REVERB_ENV_FILE")
	}
	if !asked {
		name = ".env"
	}
	src.fileName = name
	b, err := os.ReadFile(name)
	if err != nil {
		if asked || !errors.Is(err, os.ErrNotExist) {
			c.problem("REVERB_ENV_FILE="+strconv.Quote(name), errorText(err)+"; name a file that can be read, or leave it out")
		}
		return
	}
	entries, err := dotenv.Parse(string(b), func(name string) (string, bool) { v, ok := src.env[name]; return v, ok })
	if err != nil {
		c.problem(name, err.Error())
	}
	for _, e := range entries {
		src.file[e.Name] = e
	}
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
	value, origin, ok := src.lookup(v.name)
	name := v.name
	if f, given := src.flags[v.flag]; v.flag != "" && given {
		value, origin, ok = f, "--"+v.flag, true
	}
	if v.secret {
		if fileValue, fileOrigin, fileOK := c.readSecretFile(v.name, ok, src); fileOK {
			value, origin, ok = fileValue, fileOrigin, true
		}
	}
	if !ok && v.fallback != "" {
		if value, origin, ok = src.lookup(v.fallback); ok {
			name = v.fallback
			origin += ", " + name
		}
	}
	if !ok {
		if value, origin = v.def, "default"; v.def == "" {
			return
		}
	}
	if err := v.read(c, value); err != nil {
		hint := ""
		if v.def != "" && !strings.Contains(err.Error(), "such as") {
			hint = ", such as " + v.def
		}
		shown := strconv.Quote(printable(value))
		if v.secret {
			shown = `"********"`
		}
		c.problem(name+"="+shown+" ("+origin+")", err.Error()+hint)
	}
	c.inForce = append(c.inForce, setting{v.name, value, origin, v.secret})
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
		c.problem(name+"_FILE="+strconv.Quote(printable(path)), name+" is set too; keep one of the two")
		return "", "", false
	}
	b, err := os.ReadFile(path)
	if err != nil {
		c.problem(name+"_FILE="+strconv.Quote(printable(path)), errorText(err)+"; name a file that can be read and holds the secret alone")
		return "", "", false
	}
	value = strings.TrimRight(string(b), "\r\n")
	if value == "" {
		c.problem(name+"_FILE="+strconv.Quote(printable(path)), "the file is empty; it must hold the secret alone")
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
	for name := range src.env {
		names[name] = "environment"
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
	if ip := net.ParseIP(c.publicHost); ip != nil && ip.IsUnspecified() {
		c.warnings = append(c.warnings, fmt.Sprintf("REVERB_HOST=%q is an address to listen on, but names the host that browsers connect to; REVERB_SERVER_HOST says where to listen", c.publicHost))
	}
	if c.scaling {
		c.checkRedis()
		c.problem(`REVERB_SCALING_ENABLED="true"`, "this version serves one node; several on one Redis come later. Set it to false")
	}
	c.checkTLS(now)
	if c.adminListen != "" {
		if _, _, err := net.SplitHostPort(c.adminListen); err != nil {
			c.problem("REVERB_ADMIN_LISTEN="+strconv.Quote(printable(c.adminListen)), "not an address; give host:port, like 127.0.0.1:9090")
		}
		c.problem("REVERB_ADMIN_LISTEN="+strconv.Quote(printable(c.adminListen)), "this version has no metrics and no status yet. Leave it empty")
	}
}

func (c *config) checkRedis() {
	if c.redisURL != "" {
		if _, err := parseRedisURL(c.redisURL); err != nil {
			c.problem(`REVERB_REDIS_URL="********"`, err.Error())
		}
		return
	}
	a := newRedisAddress(c.redisHost, c.redisPort, c.redisUser, c.redisPassword, c.redisDB)
	if a.network == "tcp" && strings.HasPrefix(a.address, ":") {
		c.problem("REVERB_REDIS_HOST="+strconv.Quote(printable(c.redisHost)), "the host is missing; give a host name or an address")
	}
}

func (c *config) checkTLS(now time.Time) {
	if _, err := parseTLSVersion(c.tlsMinVersion); err != nil {
		c.problem("REVERB_TLS_MIN_VERSION="+strconv.Quote(printable(c.tlsMinVersion)), err.Error())
	}
	if _, err := parseCipherSuites(c.tlsCiphers); err != nil {
		c.problem("REVERB_TLS_CIPHERS="+strconv.Quote(printable(c.tlsCiphers)), err.Error())
	}
	if c.tlsCA != "" {
		if _, err := loadCA(c.tlsCA); err != nil {
			c.problem("REVERB_TLS_CA="+strconv.Quote(printable(c.tlsCA)), errorText(err)+"; name a file of certificates in PEM")
		}
	}
	if c.tlsCert == "" {
		if c.tlsKey != "" {
			c.problem("REVERB_TLS_KEY="+strconv.Quote(printable(c.tlsKey)), "there is no certificate for it; set REVERB_TLS_CERT too")
		}
		return
	}
	given := "REVERB_TLS_CERT=" + strconv.Quote(printable(c.tlsCert))
	_, warning, err := loadCertificate(c.tlsCert, c.tlsKey, c.tlsPassphrase, now)
	if err != nil {
		c.problem(given, errorText(err)+"; name a PEM file with the certificate chain, and the key in it or in REVERB_TLS_KEY")
	}
	if warning != "" {
		c.warnings = append(c.warnings, given+": "+warning)
	}
	c.problem(given, "this version serves plain TCP; TLS comes later. Leave REVERB_TLS_CERT empty and let nginx or Caddy do TLS in front")
}

// --- Apps ---

// loadApps makes the apps from REVERB_APPS, REVERB_APPS_FILE or REVERB_APP_*.
func (c *config) loadApps() {
	switch {
	case c.appsJSON != "" && c.appsFile != "":
		c.problem("REVERB_APPS_FILE="+strconv.Quote(printable(c.appsFile)), "REVERB_APPS is set too; keep one of the two")
	case c.appsJSON != "":
		c.addApps("REVERB_APPS", []byte(c.appsJSON))
	case c.appsFile != "":
		b, err := os.ReadFile(c.appsFile)
		if err != nil {
			c.problem("REVERB_APPS_FILE="+strconv.Quote(printable(c.appsFile)), errorText(err)+"; name a JSON file of apps")
			return
		}
		c.addApps("REVERB_APPS_FILE="+strconv.Quote(printable(c.appsFile)), b)
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
	if c.app.id != "" && !slices.ContainsFunc(apps, func(a *app) bool { return a.id == c.app.id }) && len(problems) == 0 {
		c.warnings = append(c.warnings, fmt.Sprintf("REVERB_APP_ID=%q is not in the list of apps, so it is not served; %s decides", printable(c.app.id), strings.SplitN(given, "=", 2)[0]))
	}
}

// parseApps reads a JSON array of apps with the keys of config/reverb.php, or what
// json_encode(config('reverb')) prints, which holds one.
func parseApps(b []byte) (apps []*app, problems, warnings []string) {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if err := jsonraw.Check(b); err != nil {
		return nil, []string{err.Error() + "; give an array like [{\"app_id\":\"1\",\"key\":\"k\",\"secret\":\"s\"}]"}, nil
	}
	for range 3 { // {"apps":{"apps":[…]}}
		inner := []byte(nil)
		if jsonraw.Object(b, func(key, value []byte) {
			if string(key) == "apps" {
				inner = value
			}
		}) != nil || inner == nil {
			break
		}
		b = inner
	}
	n := 0
	if err := jsonraw.Array(b, func(value []byte) {
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

// parseApp reads one app. What it does not say is as in Reverb.
func parseApp(b []byte) (a *app, problems, warnings []string) {
	a = &app{allowedOrigins: []string{"*"}, pingInterval: 60 * time.Second, activityTimeout: 30 * time.Second, maxMessageSize: 10_000,
		limit: rateLimit{maxAttempts: 60, decay: 60 * time.Second}}
	bad := func(key, format string, args ...any) {
		problems = append(problems, key+": "+fmt.Sprintf(format, args...))
	}
	whole := func(key string, value []byte, lo, hi int, to func(int)) {
		s, _ := scalarText(value)
		if n, err := strconv.Atoi(s); err != nil || n < lo || n > hi {
			bad(key, "not a whole number from %d to %d", lo, hi)
		} else {
			to(n)
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
				a.id, _ = scalarText(value)
			case "key":
				a.key, _ = scalarText(value)
			case "secret":
				a.secret, _ = scalarText(value)
			case "allowed_origins":
				a.allowedOrigins = nil
				if jsonraw.Array(value, func(v []byte) {
					s, _ := jsonraw.String(v)
					if err := checkOriginPattern(s); err != nil {
						bad(key, "%v", err)
					}
					a.allowedOrigins = append(a.allowedOrigins, s)
				}) != nil {
					bad(key, "not an array of hosts")
				}
			case "ping_interval":
				whole(key, value, 1, 86_400, func(n int) { a.pingInterval = time.Duration(n) * time.Second })
			case "activity_timeout":
				whole(key, value, 1, 86_400, func(n int) { a.activityTimeout = time.Duration(n) * time.Second })
			case "max_connections":
				whole(key, value, 1, math.MaxInt32, func(n int) { a.maxConnections = n })
			case "max_message_size":
				whole(key, value, 1, 64<<20, func(n int) { a.maxMessageSize = n })
			case "accept_client_events_from":
				if a.clientEvents = clientEventsAll; string(value) != "null" { // Reverb: null checks nothing
					s, _ := jsonraw.String(value)
					p, err := parsePolicy(s)
					if a.clientEvents = p; err != nil {
						bad(key, "%v", err)
					}
				}
			case "rate_limiting":
				if jsonraw.Object(value, member("rate_limiting.")) != nil {
					bad(key, "not an object")
				}
			case "rate_limiting.enabled":
				a.limit.enabled = string(value) == "true"
			case "rate_limiting.terminate_on_limit":
				a.limit.terminate = string(value) == "true"
			case "rate_limiting.max_attempts":
				whole(key, value, 1, math.MaxInt32, func(n int) { a.limit.maxAttempts = n })
			case "rate_limiting.decay_seconds":
				whole(key, value, 1, 86_400, func(n int) { a.limit.decay = time.Duration(n) * time.Second })
			case "options", "name": // what Laravel needs to publish
			default:
				warnings = append(warnings, "the key "+strconv.Quote(printable(key))+" means nothing here")
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
	c.problems = append(c.problems, given+what)
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
		value := oneLine(s.value)
		if s.secret {
			value = "********"
		}
		fmt.Fprintf(w, "  %-37s %-24s %s\n", s.name, value, s.origin)
	}
	for _, a := range c.apps {
		fmt.Fprintf(w, "  app %s, key %s: origins %s\n", printable(a.id), printable(a.key), printable(strings.Join(a.allowedOrigins, ",")))
	}
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
	c.apps, c.host = []*app{a}, "127.0.0.1"
	for i, s := range c.inForce {
		for name, value := range map[string]string{"REVERB_SERVER_HOST": c.host, "REVERB_APP_ID": id, "REVERB_APP_KEY": key, "REVERB_APP_SECRET": secret} {
			if s.name == name {
				c.inForce[i] = setting{name, value, "--dev", s.secret}
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
	return os.WriteFile(path, []byte(text), 0o600)
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
)

// listener counts the connections that it has accepted, and waits while there are
// too many: the descriptors must not run out.
type listener struct {
	net.Listener
	sockets *atomic.Int64
	limit   int64
	log     *slog.Logger
	closed  chan struct{}
	once    sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	for pause := 0; ; pause++ {
		if l.sockets.Load() >= l.limit {
			if pause%100 == 0 {
				l.log.Warn("too many connections: accepting none until some are gone", "connections", l.sockets.Load(), "limit", l.limit)
			}
			select {
			case <-l.closed:
				return nil, net.ErrClosed
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err // net/http waits after a temporary one
		}
		l.sockets.Add(1)
		return &countedConn{Conn: c, sockets: l.sockets}, nil
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// countedConn is a connection that has been counted by its listener and is counted
// off when it is closed, or by whoever takes it out with Detach.
type countedConn struct {
	net.Conn
	sockets *atomic.Int64
	done    atomic.Bool
}

// Detach gives up the connection inside. It remains counted.
func (c *countedConn) Detach() net.Conn {
	c.done.Store(true)
	return c.Conn
}

func (c *countedConn) Close() error {
	if !c.done.Swap(true) {
		c.sockets.Add(-1)
	}
	return c.Conn.Close()
}

// server is everything that runs between listening and the end.
type server struct {
	listener *listener
	loops    *loops
	hub      *hub
	http     *http.Server
	log      *slog.Logger
}

// listen opens the address that host and port give; host may be unix:/path.
func listen(host string, port int) (net.Listener, error) {
	path, unix := strings.CutPrefix(host, "unix:")
	if !unix {
		network := "tcp"
		if ip := net.ParseIP(host); ip != nil && ip.To4() != nil {
			network = "tcp4" // or 0.0.0.0 would mean IPv6 too
		}
		return net.Listen(network, net.JoinHostPort(host, strconv.Itoa(port)))
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen unix %s: another server is listening there", path)
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
		os.Remove(path) // left by a server that was killed; if it stays, listening says why
	}
	return net.Listen("unix", path)
}

// newServer takes over a listener. files is how many descriptors there are; 0
// stands for no limit.
func newServer(ln net.Listener, apps []*app, files uint64, log *slog.Logger) (*server, error) {
	sockets, limit := new(atomic.Int64), int64(math.MaxInt64)
	if files > 0 {
		limit = max(int64(min(files, math.MaxInt32))-spareFiles, 1)
	}
	ls, err := newLoops(runtime.GOMAXPROCS(0), sockets, poll.New)
	if err != nil {
		return nil, err
	}
	s := &server{loops: ls, hub: newHub(apps, ls), log: log}
	s.listener = &listener{Listener: ln, sockets: sockets, limit: limit, log: log, closed: make(chan struct{})}
	soft := limit - min(limit/16, 256)
	s.hub.full = func() bool { return sockets.Load() > soft }
	s.http = &http.Server{
		Handler:           s.hub,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxRequestHeadBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// serve runs until ctx is done and every connection has been told, spread over
// drain.
func (s *server) serve(ctx context.Context, drain time.Duration) error {
	s.loops.start()
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		s.log.Info("stopping: telling every connection to reconnect", "connections", s.listener.sockets.Load(), "within", drain)
	}
	s.listener.Close() // what it returns changes nothing now
	grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	if s.http.Shutdown(grace) != nil {
		s.http.Close()
	}
	s.loops.stop(drain)
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// --- Check ---

// runCheck tells whether the server could start, without starting it.
func runCheck(_ context.Context, c *config, _ []string, stdout, _ io.Writer) int {
	failed := len(c.problems) > 0
	c.report(stdout)
	c.printInForce(stdout)
	line := func(ok bool, format string, args ...any) {
		word := "ok  "
		if !ok {
			word, failed = "FAIL", true
		}
		fmt.Fprintf(stdout, "%s %s\n", word, fmt.Sprintf(format, args...))
	}
	line(len(c.problems) == 0, "configuration: %d problems, %d warnings", len(c.problems), len(c.warnings))
	line(len(c.apps) > 0, "apps: %d; without one nothing can connect", len(c.apps))
	if files := limits.RaiseFiles(); files > 0 {
		line(files > spareFiles+256, "descriptors: %d, so about %d connections; raise the hard limit (ulimit -Hn, LimitNOFILE=) for more", files, max(int64(files)-spareFiles, 0))
	}
	ln, err := listen(c.host, c.port)
	if err != nil {
		line(false, "listening: %v; is a server running already?", err)
	} else {
		line(true, "listening on %s%s", ln.Addr(), c.path)
		ln.Close()
	}
	c.checkPublic(line)
	if failed {
		return exitFail
	}
	return exitOK
}

// checkPublic compares the address that browsers use with the one listened on.
func (c *config) checkPublic(line func(ok bool, format string, args ...any)) {
	if c.publicHost == "" {
		line(true, "public address: not set; set REVERB_HOST, REVERB_PORT and REVERB_SCHEME for Laravel and the browser")
		return
	}
	scheme, port := cmp.Or(c.publicScheme, "https"), c.publicPort
	if port == 0 {
		port = 443
	}
	hint := ""
	switch {
	case scheme == "https":
		hint = fmt.Sprintf("; this server speaks plain TCP on port %d, so a proxy must do TLS in front of it", c.port)
	case port != c.port:
		hint = fmt.Sprintf("; this server listens on port %d, so something must forward to it", c.port)
	}
	line(true, "public address: %s://%s%s%s", scheme, net.JoinHostPort(c.publicHost, strconv.Itoa(port)), c.path, hint)
}

// --- Client ---

const clientTimeout = 10 * time.Second

// target is a running server and the app to use there.
type target struct {
	network, address string
	path             string
	app              *app
}

// findTarget says where the server of this configuration can be reached from the
// machine that it runs on.
func findTarget(c *config, needsApp bool, stderr io.Writer) (t target, ok bool) {
	if c.dev {
		if err := c.joinDev(); err != nil {
			fmt.Fprintln(stderr, "reverb:", err)
			return t, false
		}
	}
	if c.report(stderr); len(c.problems) > 0 {
		return t, false
	}
	t = target{network: "tcp", path: c.path}
	host, unix := strings.CutPrefix(c.host, "unix:")
	if ip := net.ParseIP(host); unix {
		t.network, t.address = "unix", host
	} else if ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	if !unix {
		t.address = net.JoinHostPort(host, strconv.Itoa(c.port))
	}
	if needsApp && len(c.apps) == 0 {
		fmt.Fprintln(stderr, "reverb: there is no app; set REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET as the server has them, or use --dev beside reverb start --dev")
		return t, false
	}
	if len(c.apps) > 0 {
		t.app = c.apps[0]
	}
	return t, true
}

// request sends one HTTP request. The body of the answer is at most 1 MiB.
func (t *target) request(ctx context.Context, method, path, query string, body []byte) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	u := url.URL{Scheme: "http", Host: "reverb", Path: t.path + path, RawQuery: query}
	if t.network == "tcp" {
		u.Host = t.address
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, t.network, t.address)
	}}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, answer, err
}

func runHealth(ctx context.Context, c *config, _ []string, stdout, stderr io.Writer) int {
	t, ok := findTarget(c, false, stderr)
	if !ok {
		return exitUsage
	}
	status, answer, err := t.request(ctx, http.MethodGet, "/up", "", nil)
	if err != nil {
		fmt.Fprintln(stderr, "reverb: not well:", err)
		return exitFail
	}
	if status != http.StatusOK {
		fmt.Fprintf(stderr, "reverb: not well: %d %s\n", status, oneLine(string(answer)))
		return exitFail
	}
	fmt.Fprintln(stdout, oneLine(string(answer)))
	return exitOK
}

// runTrigger publishes one event. Its data goes out as the text that was given, as
// the server libraries send it.
func runTrigger(ctx context.Context, c *config, args []string, stdout, stderr io.Writer) int {
	if len(args) != 3 {
		fmt.Fprintln(stderr, `reverb: trigger takes a channel, an event and data, like: reverb trigger my-channel my-event '{"n":1}'`)
		return exitUsage
	}
	if err := jsonraw.Check([]byte(args[2])); err != nil {
		fmt.Fprintf(stderr, "reverb: the data is %v; quote it for the shell, like '{\"n\":1}'\n", err)
		return exitUsage
	}
	t, ok := findTarget(c, true, stderr)
	if !ok {
		return exitUsage
	}
	body := append([]byte(`{"name":`), jsonraw.AppendString(nil, args[1])...)
	body = jsonraw.AppendString(append(body, `,"data":`...), args[2])
	body = append(jsonraw.AppendString(append(body, `,"channel":`...), args[0]), '}')
	path, sum := "/apps/"+t.app.id+"/events", md5.Sum(body)
	query := map[string]string{"auth_key": t.app.key, "auth_timestamp": strconv.FormatInt(time.Now().Unix(), 10),
		"auth_version": "1.0", "body_md5": hex.EncodeToString(sum[:])}
	query["auth_signature"] = sign(t.app.secret, stringToSign(http.MethodPost, (&url.URL{Path: path}).EscapedPath(), query, true))
	values := url.Values{}
	for k, v := range query {
		values.Set(k, v)
	}
	status, answer, err := t.request(ctx, http.MethodPost, path, values.Encode(), body)
	if err != nil {
		fmt.Fprintln(stderr, "reverb:", err)
		return exitFail
	}
	if status != http.StatusOK {
		fmt.Fprintf(stderr, "reverb: the server answers %d: %s\n", status, oneLine(string(answer)))
		return exitFail
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
	t, ok := findTarget(c, true, stderr)
	if !ok {
		return exitUsage
	}
	l, err := dialListener(ctx, &t)
	if err != nil {
		fmt.Fprintln(stderr, "reverb:", err)
		return exitFail
	}
	defer l.nc.Close()
	stop := context.AfterFunc(ctx, func() { l.nc.Close() })
	defer stop()
	err = l.run(args, stdout)
	if ctx.Err() != nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "reverb:", err)
	return exitFail
}

// wsListener is the client side of a WebSocket, as far as listen needs it.
type wsListener struct {
	t  *target
	nc net.Conn
	r  *bufio.Reader
}

func dialListener(ctx context.Context, t *target) (*wsListener, error) {
	nc, err := (&net.Dialer{Timeout: clientTimeout}).DialContext(ctx, t.network, t.address)
	if err != nil {
		return nil, fmt.Errorf("%w; is the server running?", err)
	}
	nonce := make([]byte, 16)
	rand.Read(nonce) // never fails
	fmt.Fprintf(nc, "GET %s/app/%s?protocol=7&client=reverb-listen HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n",
		t.path, url.PathEscape(t.app.key), "localhost", base64.StdEncoding.EncodeToString(nonce))
	l := &wsListener{t: t, nc: nc, r: bufio.NewReader(nc)}
	nc.SetReadDeadline(time.Now().Add(clientTimeout))
	resp, err := http.ReadResponse(l.r, nil)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("read handshake: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		nc.Close()
		return nil, fmt.Errorf("the server answers %s: %s", resp.Status, oneLine(string(text)))
	}
	nc.SetReadDeadline(time.Time{})
	return l, nil
}

func (l *wsListener) run(channels []string, stdout io.Writer) error {
	for {
		op, payload, err := l.read()
		if err != nil {
			return err
		}
		switch op {
		case opPing:
			err = l.write(opPong, payload)
		case opClose:
			code, reason, _ := parseClose(payload)
			return fmt.Errorf("the server closes the connection: %d %s", code, oneLine(string(reason)))
		case opText:
			err = l.handle(payload, channels, stdout)
		}
		if err != nil {
			return err
		}
	}
}

// read returns the next frame. The server sends every message as one.
func (l *wsListener) read() (opcode, []byte, error) {
	head := make([]byte, 0, maxHeaderBytes)
	for {
		b, err := l.r.ReadByte()
		if err != nil {
			return 0, nil, fmt.Errorf("the connection is gone: %w", err)
		}
		head = append(head, b)
		h, n := parseFrameHeader(head)
		if n == 0 {
			continue
		}
		if h.length > 64<<20 {
			return 0, nil, fmt.Errorf("a frame of %d bytes is too much", h.length)
		}
		payload := make([]byte, h.length)
		_, err = io.ReadFull(l.r, payload)
		return h.op, payload, err
	}
}

func (l *wsListener) write(op opcode, payload []byte) error {
	var mask [4]byte
	rand.Read(mask[:]) // never fails
	h := frameHeader{fin: true, op: op, length: uint64(len(payload)), masked: true,
		mask: uint32(mask[0]) | uint32(mask[1])<<8 | uint32(mask[2])<<16 | uint32(mask[3])<<24}
	b := append(appendFrameHeader(nil, h), payload...)
	maskBytes(b[len(b)-len(payload):], h.mask)
	_, err := l.nc.Write(b)
	return err
}

// handle deals with one message: it subscribes once it knows the socket ID, and
// prints events.
func (l *wsListener) handle(message []byte, channels []string, stdout io.Writer) error {
	e, err := parseEvent(message)
	if err != nil {
		return fmt.Errorf("a message that is none: %w", err)
	}
	data := e.data
	if s, quoted := jsonraw.String(data); quoted {
		data = []byte(s)
	}
	switch e.name {
	case "pusher:connection_established":
		return l.subscribe(data, channels)
	case "pusher:ping":
		return l.write(opText, messagePong)
	case "pusher_internal:subscription_succeeded":
		fmt.Fprintf(stdout, "listening on %s\n", oneLine(e.channel))
		return nil
	}
	_, err = fmt.Fprintf(stdout, "%s %s %s\n", oneLine(e.channel), oneLine(e.name), oneLine(string(data)))
	return err
}

func (l *wsListener) subscribe(established []byte, channels []string) error {
	socket := ""
	if err := jsonraw.Object(established, func(key, value []byte) {
		if string(key) == "socket_id" {
			socket, _ = jsonraw.String(value)
		}
	}); err != nil {
		return fmt.Errorf("read connection_established: %w", err)
	}
	for _, channel := range channels {
		data := jsonraw.AppendString([]byte(`{"channel":`), channel)
		signed := socket + ":" + channel
		if kind, _ := parseChannelName(channel); kind.presence {
			member := `{"user_id":"listen-` + socket + `","user_info":{"name":"reverb listen"}}`
			signed += ":" + member
			data = jsonraw.AppendString(append(data, `,"channel_data":`...), member)
		}
		data = jsonraw.AppendString(append(data, `,"auth":`...), l.t.app.key+":"+sign(l.t.app.secret, signed))
		if err := l.write(opText, appendEvent(nil, "pusher:subscribe", append(data, '}'), "", "")); err != nil {
			return err
		}
	}
	return nil
}
