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
//	Judgement       what is wrong with certificates and names
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
	"reverb/internal/config"
	"reverb/internal/lib/accept"
	"reverb/internal/lib/control"
	"reverb/internal/lib/jsonraw"
	"reverb/internal/lib/limits"
	"reverb/internal/lib/logs"
	"reverb/internal/lib/memory"
	"reverb/internal/lib/metrics"
	"reverb/internal/lib/places"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/portowner"
	"reverb/internal/lib/proxies"
	"reverb/internal/lib/show"
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
	run              func(ctx context.Context, c *config.Config, args []string, stdout, stderr io.Writer) int
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
	c := config.Load(environ, flags, readFile)
	judge(c, time.Now())
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
	for _, v := range config.Variables() {
		if v.Flag != "" {
			fmt.Fprintf(w, "  %-29s %s\n", "--"+v.Flag, v.Name)
		}
	}
	fmt.Fprintf(w, "  %-29s %s\n", "--dev", "a fresh app on 127.0.0.1, for trying things out; listen and trigger take it too")
	fmt.Fprintf(w, "  %-29s %s\n", "--env", "reads .env.NAME instead of .env if there is such a file, as APP_ENV in the environment does")
	fmt.Fprintf(w, "  %-29s %s\n", "artisan's own", "-q, --quiet: errors alone in the log; -vvv: debug; -n, --no-interaction, --ansi, --no-ansi, -v, -vv change nothing")
	fmt.Fprint(w, "\nVariables, read from the environment and then from .env (with default)\n")
	for _, v := range config.Variables() {
		def := ""
		if v.Default != "" {
			def = " (" + v.Default + ")"
		}
		fmt.Fprintf(w, "  %-41s %s%s\n", v.Name, v.Help, def)
	}
	fmt.Fprint(w, "\nAny secret may be given as NAME_FILE, the name of a file that holds it.\n")
}

func runStart(ctx context.Context, c *config.Config, _ []string, stdout, stderr io.Writer) int {
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE) // nobody reads it: whoever read the log is gone, and writing fails (os/signal, "SIGPIPE")
	defer signal.Stop(pipe)
	if c.Dev {
		if err := c.StartDev(); err != nil {
			fmt.Fprintln(stderr, "reverb: the app of --dev could not be kept for listen and trigger:", err)
		}
	}
	if c.Log.Quiet {
		c.Warnings = nil
	}
	log := newLogger(c, stderr)
	if c.Log.Format == "json" && len(c.Problems) == 0 && len(c.Apps) > 0 {
		for _, w := range c.Warnings {
			log.Warn(w)
		}
	} else {
		c.Report(stderr)
	}
	if len(c.Problems) > 0 {
		return exitUsage
	}
	if len(c.Apps) == 0 {
		fmt.Fprint(stderr, withoutApp())
		return exitUsage
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // from here on it does not end the process
	defer signal.Stop(hup)
	files := limits.RaiseFiles()
	_, group := limits.Memory()
	limit := memory.Limit(c.Limits.Memory, group, limits.Machine())
	memory.SetLimit(limit)
	ln, plain, admin, err := openListeners(c)
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
	if c.Log.Format == "json" {
		log.Info("configuration", "variables", c.InForceJSON())
	} else if !c.Log.Quiet {
		c.PrintInForce(stderr)
	}
	if s.node != nil {
		s.node.Start() // without Redis a node serves its own connections until Redis comes
	}
	for _, note := range c.Notes {
		log.Info(note)
	}
	how := "plain"
	if s.certs != nil {
		how = "TLS"
	}
	log.Info("listening on "+ln.Addr().String()+c.Listen.Path, "with", how, "apps", len(c.Apps), "loops", len(s.loops.all), "connections", s.limit)
	if plain != nil {
		log.Info("listening on "+plain.Addr().String()+c.Listen.Path, "with", "plain")
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

func newLogger(c *config.Config, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Log.Level}
	if c.Log.Format == "json" {
		return slog.New(logs.Limit(slog.NewJSONHandler(w, options)))
	}
	return slog.New(logs.Limit(slog.NewTextHandler(w, options)))
}

// --- Judgement ---

// judge adds to c what is wrong with what only the program can look at: names that the
// cluster uses itself, and certificates.
func judge(c *config.Config, now time.Time) {
	if c.Scaling.Enabled {
		for _, a := range c.Apps {
			if cluster.TakenAppID(a.ID) {
				c.Problem("app_id="+strconv.Quote(a.ID), "with REVERB_SCALING_ENABLED the nodes use this name themselves in Redis; give the app another ID")
			}
		}
		if _, err := newRedisOptions(&c.Redis, readCertificates); err != nil {
			c.Problem("REVERB_REDIS_CA, REVERB_REDIS_CERT, REVERB_REDIS_KEY", err.Error()+"; name files in PEM that can be read")
		}
	}
	judgeTLS(c, now)
}

// judgeTLS finds a certificate where none is given, and judges what there is.
func judgeTLS(c *config.Config, now time.Time) {
	certified := c.TLS // what the files are judged with
	if _, err := parseTLSVersion(c.TLS.MinVersion); err != nil {
		certified.MinVersion = "1.2"
		c.Problem("REVERB_TLS_MIN_VERSION="+config.Masked(c.TLS.MinVersion), err.Error())
	}
	if _, err := parseCipherSuites(c.TLS.Ciphers); err != nil {
		certified.Ciphers = ""
		c.Problem("REVERB_TLS_CIPHERS="+config.Masked(c.TLS.Ciphers), err.Error())
	}
	if c.TLS.CertFile == "" {
		for name, value := range map[string]string{"REVERB_TLS_KEY": c.TLS.KeyFile, "REVERB_TLS_CA": c.TLS.CAFile} {
			if value != "" {
				c.Problem(name+"="+config.Masked(value), "there is no certificate for it; set REVERB_TLS_CERT too")
			}
		}
		takeCertificate(c)
	}
	if c.TLS.CertFile == "" {
		if c.Listen.Plain != "" {
			c.Problem("REVERB_PLAIN_LISTEN="+config.Masked(c.Listen.Plain), "without a certificate the main address is plain already; set REVERB_TLS_CERT or leave this out")
		}
		return
	}
	c.TLS.Host = c.Public.Host
	if ip := net.ParseIP(strings.Trim(c.Public.Host, "[]")); ip != nil || c.Public.Host == "localhost" {
		c.TLS.Host = "" // Laravel on the same machine, told not to verify; browsers come by another name
	}
	certified.CertFile, certified.KeyFile, certified.Host = c.TLS.CertFile, c.TLS.KeyFile, c.TLS.Host
	_, warning, err := loadTLS(&certified, now)
	if err != nil {
		c.Problem("", err.Error())
	}
	if warning != "" {
		c.Warnings = append(c.Warnings, warning)
	}
	if err == nil {
		warnPublicTLS(c, now)
	}
}

// warnPublicTLS warns where TLS is served and the public address contradicts it. Behind
// a proxy, which another port or REVERB_TRUSTED_PROXIES tells of, browsers may come
// without TLS. A host on loopback is Laravel's on the same machine, told not to verify.
func warnPublicTLS(c *config.Config, now time.Time) {
	proxied := c.Public.Port != c.Listen.Port && (c.Listen.ProxyProtocol || c.Setting("REVERB_TRUSTED_PROXIES").Value != "")
	if c.Public.Scheme == "http" && c.Listen.Plain == "" && !proxied {
		c.Warnings = append(c.Warnings, fmt.Sprintf("REVERB_SCHEME=http, but with REVERB_TLS_CERT=%s the server speaks TLS alone; set REVERB_SCHEME=https, or add an address without TLS with REVERB_PLAIN_LISTEN (only a proxy that takes http and speaks TLS to this server makes it right)", quoted(c.TLS.CertFile)))
	}
	ip := net.ParseIP(c.Public.Host)
	if ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
		return
	}
	cert, _, err := loadCertificate(c.TLS.CertFile, c.TLS.KeyFile, c.TLS.Passphrase, now)
	if err == nil {
		err = checkHost(cert.Leaf, c.Public.Host)
	}
	if err != nil {
		c.Warnings = append(c.Warnings, fmt.Sprintf("REVERB_TLS_CERT=%s: %v", quoted(c.TLS.CertFile), err))
	}
}

// takeCertificate takes the certificate that Herd or Valet has made for the public
// host. REVERB_SCHEME=http says that browsers come without TLS, unless --hostname
// asks for the host here and now, as in artisan reverb:start.
func takeCertificate(c *config.Config) {
	cert, key, ok := findCertificate(c.Public.Host, cmp.Or(c.Getenv("HOME"), c.Getenv("USERPROFILE")))
	if !ok {
		return
	}
	if _, asked := c.Flag("hostname"); !asked && c.Public.Scheme == "http" {
		c.Notes = append(c.Notes, fmt.Sprintf("the certificate %s is not used, because REVERB_SCHEME=http; set it to https, or give --hostname, to serve TLS", cert))
		return
	}
	c.TLS.CertFile, c.TLS.KeyFile = cert, key
	c.Notes = append(c.Notes, fmt.Sprintf("serving TLS with %s, which Herd or Valet has made for %s", cert, printable(c.Public.Host)))
}

// withoutApp is what start says when there is no app: nobody shall run with a secret
// that others know, so none is built in.
func withoutApp() string {
	id, key, secret := config.NewCredentials()
	return fmt.Sprintf(`reverb: there is no app to serve. In a Laravel application run this in its folder, where .env is.
Otherwise put these lines, made just now at random, into .env or the environment:

REVERB_APP_ID=%s
REVERB_APP_KEY=%s
REVERB_APP_SECRET=%s

Or try things out on this machine with: reverb start --dev
`, id, key, secret)
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
	config    *config.Config
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
func listenOn(c *config.Config, host string, port int) (net.Listener, error) {
	if path, unix := strings.CutPrefix(host, "unix:"); unix {
		uid, gid, err := socketIDs(c)
		if err != nil {
			return nil, err
		}
		return unixsock.Listen(path, c.Listen.SocketMode, uid, gid)
	}
	network := "tcp"
	if ip := net.ParseIP(host); ip != nil && ip.To4() != nil {
		network = "tcp4" // or 0.0.0.0 would mean IPv6 too
	}
	return net.Listen(network, net.JoinHostPort(host, strconv.Itoa(port)))
}

// listenAddress is listen for host:port or unix:/path.
func listenAddress(c *config.Config, address string) (net.Listener, error) {
	if strings.HasPrefix(address, "unix:") {
		return listenOn(c, address, 0)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("listen %s: the port is not a number", address)
	}
	return listenOn(c, host, n)
}

// open opens what the configuration says: the listener, the plain one beside it and
// the admin's. Sockets that systemd has opened come first, by name.
func openListeners(c *config.Config) (ln, plain, admin net.Listener, err error) {
	passed, names, err := systemd.Listeners(c.Getenv, os.Getpid())
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
		if ln, err = openMain(c); err != nil {
			return nil, nil, nil, err
		}
	}
	if plain == nil && c.Listen.Plain != "" {
		if plain, err = listenAddress(c, c.Listen.Plain); err != nil {
			return nil, nil, nil, fmt.Errorf("%w%s; REVERB_PLAIN_LISTEN says where", err, listenHint(c, err, c.Listen.Plain))
		}
	}
	if admin == nil && c.Admin.Listen != "" {
		if admin, err = listenAddress(c, c.Admin.Listen); err != nil {
			return nil, nil, nil, fmt.Errorf("%w%s; REVERB_ADMIN_LISTEN says where", err, listenHint(c, err, c.Admin.Listen))
		}
	}
	return ln, plain, admin, nil
}

// openMain opens the address of REVERB_SERVER_HOST and _PORT.
func openMain(c *config.Config) (net.Listener, error) {
	ln, err := listenOn(c, c.Listen.Host, c.Listen.Port)
	if err != nil {
		return nil, fmt.Errorf("%w%s; REVERB_SERVER_HOST and REVERB_SERVER_PORT say where to listen", err, listenHint(c, err, c.Address()))
	}
	return ln, nil
}

// socketIDs are the user and the group of REVERB_SERVER_SOCKET_OWNER; -1 where none is
// named.
func socketIDs(c *config.Config) (uid, gid int, err error) {
	name, group, _ := strings.Cut(c.Listen.SocketOwner, ":")
	uid, gid = -1, -1
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			if u, err = user.LookupId(name); err != nil {
				return 0, 0, fmt.Errorf("REVERB_SERVER_SOCKET_OWNER=%q: there is no user %q", printable(c.Listen.SocketOwner), printable(name))
			}
		}
		uid, _ = strconv.Atoi(u.Uid) // not a number on Windows, where sockets have no owner
	}
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			if g, err = user.LookupGroupId(group); err != nil {
				return 0, 0, fmt.Errorf("REVERB_SERVER_SOCKET_OWNER=%q: there is no group %q", printable(c.Listen.SocketOwner), printable(group))
			}
		}
		gid, _ = strconv.Atoi(g.Gid)
	}
	return uid, gid, nil
}

// listenHint says more of why an address cannot be listened on, and what to do.
func listenHint(c *config.Config, err error, address string) string {
	var dns *net.DNSError
	path, unix := strings.CutPrefix(address, "unix:")
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return holder(c, address)
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
func holder(c *config.Config, address string) string {
	if s, who, ok := askStatus(c, address); ok && samePort(s.Listening, address) {
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
func newServer(c *config.Config, ln, plain net.Listener, files uint64, log *slog.Logger, stdout io.Writer) (*server, error) {
	limit := int64(math.MaxInt64)
	if files > 0 {
		limit = max(int64(min(files, math.MaxInt32))-spareFiles, 1)
	}
	sockets := places.New(limit)
	ls, err := newLoops(runtime.GOMAXPROCS(0), sockets, poll.New)
	if err != nil {
		return nil, err
	}
	around := &surroundings{prefix: c.Listen.Path, trusted: c.Listen.Trusted, log: log, sockets: sockets, soft: limit - min(limit/16, 256)}
	if c.Log.Debug {
		around.traffic = stdout
	}
	if c.Scaling.Enabled {
		to, err := newRedisOptions(&c.Redis, readCertificates)
		if err != nil {
			return nil, err
		}
		o := cluster.Options{Prefix: c.Scaling.Channel, Patience: c.Scaling.Patience, Sharded: len(c.Redis.Nodes) > 0, Failover: len(c.Redis.Sentinels) > 0}
		around.join = func(r *registry) *cluster.Node { return cluster.New(o, &redisDialer{options: to}, r, log) }
	}
	h := newHub(nil, ls, around)
	s := &server{config: c, sockets: sockets, limit: limit, gate: accept.NewGate(sockets, log), loops: ls, hub: h, node: around.node, log: log,
		started: time.Now(), notifier: systemd.NewNotifier(c.Getenv), restart: make(chan struct{}, 1), ended: make(chan struct{})}
	s.hub.configure(c.Apps, tablesOf(c))
	var secure *tls.Config
	if c.TLS.CertFile != "" {
		first, _, err := loadTLS(&c.TLS, time.Now()) // the warning is the configuration's already
		if err != nil {
			return nil, err
		}
		s.certs = newCertificates(c.TLS, first)
		secure = s.certs.config()
	}
	s.guard(ln, plain, secure)
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

// guard puts the gate before the listeners. secure is the TLS of ln; nil: it has none.
func (s *server) guard(ln, plain net.Listener, secure *tls.Config) {
	c := s.config
	o := accept.Options{TLS: secure, HeaderTimeout: headerTimeout, Hints: strayHints(secure != nil, false, c.Listen.ProxyProtocol)}
	if c.Listen.ProxyProtocol {
		o.Proxied = func(peer net.Addr) bool { return c.Listen.Trusted.Nobody() || c.Listen.Trusted.Contains(peer.String()) }
	}
	s.listeners = append(s.listeners, s.gate.Guard(ln, o))
	if plain != nil {
		o.TLS, o.Hints = nil, strayHints(false, secure != nil, c.Listen.ProxyProtocol)
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
func tablesOf(c *config.Config) tables {
	return tables{maxRequestSize: int64(c.Limits.RequestSize), authWindow: c.Limits.AuthWindow, compression: c.Limits.Compression, maxPerAddress: c.Limits.PerAddress}
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
		fmt.Fprintf(p.traffic, "    %s\n", show.Line(message))
	}
}

func (p *surroundings) Prefix() string              { return p.prefix }
func (p *surroundings) Full() bool                  { return p.sockets.Busy() > p.soft }
func (p *surroundings) Detach(nc net.Conn) net.Conn { return accept.Detach(nc) }

func (p *surroundings) Remote(r *http.Request) string {
	return p.trusted.Client(r.RemoteAddr, r.Header["X-Forwarded-For"])
}

func (p *surroundings) Refused(word, who, why string) {
	p.log.Info("refused: "+word, "who", who, "why", show.Line(why))
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
	s.loops.stop(s.config.Limits.Grace)
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
	var relieved time.Time
	before := memory.Ample
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
		switch {
		case level > memory.Ample && before == memory.Ample:
			s.log.Warn("memory is short: new subscriptions are refused; REVERB_MEMORY_LIMIT says how much there is", "used", s.meter.Used(), "limit", s.meter.Limit())
		case level == memory.Ample && before > memory.Ample:
			s.log.Info("memory is no longer short", "used", s.meter.Used(), "limit", s.meter.Limit())
		}
		if level == memory.Critical && now.Sub(relieved) >= time.Second {
			relieved = now
			patience, cancel := context.WithTimeout(ctx, time.Second)
			closed := s.hub.relieve(patience)
			cancel()
			s.log.Warn("memory is nearly used up: connections that do not read are closed", "used", s.meter.Used(), "limit", s.meter.Limit(), "closed", closed)
		} else if level < memory.Critical && before == memory.Critical {
			s.hub.unhold()
		}
		before = level
	}
}

// watch waits for the end, and does meanwhile what has to be done now and then.
func (s *server) watch(ctx context.Context, failed <-chan error, hup <-chan os.Signal) error {
	s.notify("READY=1", "STATUS="+s.status())
	every := time.NewTicker(certificateInterval)
	defer every.Stop()
	var alive <-chan time.Time
	if d := systemd.WatchdogInterval(s.config.Getenv, os.Getpid()); d > 0 {
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
			s.log.Info("stopping: telling every connection to reconnect", "connections", s.sockets.Load(), "within", s.config.Limits.Grace.String())
			return nil
		case <-s.restart:
			s.log.Info("stopping, as reverb restart asks: telling every connection to reconnect", "connections", s.sockets.Load(), "within", s.config.Limits.Grace.String())
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
	c, old := s.config.Again(), s.config
	judge(c, now)
	if old.Dev {
		c.Apps = old.Apps
	}
	for _, w := range c.Warnings {
		s.log.Warn(w)
	}
	if len(c.Problems) > 0 || len(c.Apps) == 0 {
		for _, p := range c.Problems {
			s.log.Error("not reloaded: " + p)
		}
		if len(c.Apps) == 0 {
			s.log.Error("not reloaded: there is no app")
		}
		return
	}
	switch on, wanted := s.certs != nil, c.TLS.CertFile != ""; {
	case on && wanted:
		r := s.certs.reload(&c.TLS, now)
		r.warning = "" // said above
		s.logRenewal(r)
	case on != wanted:
		s.log.Warn("changed, but a restart is needed for it: whether TLS is served", "variable", "REVERB_TLS_CERT", "in_force", old.TLS.CertFile, "new", c.TLS.CertFile)
	}
	for _, v := range config.Variables() {
		if before, after := old.Setting(v.Name), c.Setting(v.Name); before.Value != after.Value && !v.Live {
			s.log.Warn("changed, but a restart is needed for it", "variable", v.Name, "in_force", before.Shown(), "new", after.Shown())
		}
	}
	s.hub.configure(c.Apps, tablesOf(c))
	s.config.Apps, s.config.Limits.Grace = c.Apps, c.Limits.Grace
	s.log.Info("reloaded", "apps", len(c.Apps))
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
func controlPaths(c *config.Config, address string) []string {
	if c.Listen.Control != "" {
		return []string{c.Listen.Control}
	}
	return control.Paths(controlName(address), c.Getenv)
}

// openControl opens the socket over which reverb restart finds this process. The
// server runs without one too.
func (s *server) openControl() net.Listener {
	ln, err := control.Listen(controlPaths(s.config, s.address()))
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
func askControl(c *config.Config, address, question string) (nc net.Conn, status controlStatus, who string, err error) {
	paths := controlPaths(c, address)
	if c.Listen.Control == "" {
		paths = append(paths, control.OthersPaths(controlName(address))...)
	}
	nc, uid, err := control.Ask(paths, question, &status)
	if err != nil {
		return nil, status, "", errors.New(show.Line(err.Error()))
	}
	status.Version, status.Listening = show.Line(status.Version), show.Line(status.Listening)
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
func askStatus(c *config.Config, address string) (status controlStatus, who string, ok bool) {
	nc, status, who, err := askControl(c, address, "status")
	if err != nil {
		return status, "", false
	}
	nc.Close()
	return status, who, true
}

// runRestart asks the running server to drain and to exit, and waits until it has.
// Whatever supervises it starts the next one.
func runRestart(ctx context.Context, c *config.Config, _ []string, stdout, stderr io.Writer) int {
	if c.Report(stderr); len(c.Problems) > 0 {
		return exitUsage
	}
	nc, status, who, err := askControl(c, c.Address(), "restart")
	if err != nil {
		fmt.Fprintf(stderr, "reverb: no running server was found on %s: %v; run this as root or as the user that it runs as, with the same REVERB_SERVER_PORT or REVERB_CONTROL_SOCKET\n", printable(c.Address()), err)
		return exitFail
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	fmt.Fprintf(stdout, "reverb (%s) on %s is stopping: %d connections are told to reconnect\n", who, status.Listening, status.Connections)
	nc.SetDeadline(time.Now().Add(c.Limits.Grace + 30*time.Second))
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
	hosts := hostsOf(addr, s.config.Admin.Listen)
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
	m := metrics.NewWriter(w, s.config.Admin.MetricsPrefix)
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
	ended, refused := s.hub.closed.counts(), s.hub.refused.counts()
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
	for _, n := range s.hub.refused.counts() {
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
		if a == nil || subtle.ConstantTimeCompare([]byte(a.settings.Load().Secret), []byte(q.Secret)) != 1 {
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
	all := s.hub.Channels(r.Context(), a, q.Channel, true, time.Now())
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
func runCheck(ctx context.Context, c *config.Config, _ []string, stdout, _ io.Writer) int {
	f := &findings{w: stdout}
	c.Report(stdout)
	c.PrintInForce(stdout)
	word := map[bool]string{true: "ok", false: "FAIL"}
	f.add(word[len(c.Problems) == 0], "configuration: %d problems, %d warnings", len(c.Problems), len(c.Warnings))
	if len(c.Apps) == 0 {
		f.add("FAIL", "apps: none, so nothing can connect; set REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET")
	} else {
		f.add("ok", "apps: %d", len(c.Apps))
	}
	checkCertificate(c, f, time.Now())
	checkDescriptors(f)
	for _, advice := range limits.KernelAdvice("/proc/sys") {
		f.add("note", "kernel: %s", advice)
	}
	checkRedisLink(c, ctx, f)
	running := checkListening(c, f)
	checkPublic(c, ctx, f, running)
	if f.failed {
		return exitFail
	}
	return exitOK
}

func checkCertificate(c *config.Config, f *findings, now time.Time) {
	if c.TLS.CertFile == "" {
		return // whether a proxy must do TLS is said of the public address
	}
	cert, _, err := loadCertificate(c.TLS.CertFile, c.TLS.KeyFile, c.TLS.Passphrase, now)
	if err != nil {
		return // a problem of the configuration, said above
	}
	leaf := cert.Leaf
	word, days := "ok", int(leaf.NotAfter.Sub(now).Hours()/24)
	if days < 14 {
		word = "note"
	}
	f.add(word, "certificate: %s, for %s, until %s (%d days)", c.TLS.CertFile, printable(strings.Join(leaf.DNSNames, ", ")), leaf.NotAfter.UTC().Format(time.DateOnly), days)
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
func checkRedisLink(c *config.Config, ctx context.Context, f *findings) {
	if !c.Scaling.Enabled || len(c.Problems) > 0 {
		return
	}
	to, err := newRedisOptions(&c.Redis, readCertificates)
	if err != nil {
		return // a problem of the configuration
	}
	found, err := probeRedis(ctx, to)
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
func checkListening(c *config.Config, f *findings) (running bool) {
	if s, who, ok := askStatus(c, c.Address()); ok {
		f.add("ok", "listening: reverb is running on %s (%s, %d connections)", s.Listening, who, s.Connections)
		return true
	}
	ln, err := listenOn(c, c.Listen.Host, c.Listen.Port)
	if err != nil {
		f.add("FAIL", "listening: %v%s", err, listenHint(c, err, c.Address()))
		return true // perhaps: another user's
	}
	f.add("ok", "listening: %s%s is free", ln.Addr(), c.Listen.Path)
	ln.Close()
	return false
}

// checkPublic goes the way of a browser and of Laravel: it subscribes and publishes
// through the public address.
func checkPublic(c *config.Config, ctx context.Context, f *findings, running bool) {
	if c.Public.Host == "" {
		f.add("note", "public address: not set; set REVERB_HOST, REVERB_PORT and REVERB_SCHEME for Laravel and the browser")
		return
	}
	scheme, port := cmp.Or(c.Public.Scheme, "https"), cmp.Or(c.Public.Port, 443)
	public := fmt.Sprintf("%s://%s%s", scheme, net.JoinHostPort(c.Public.Host, strconv.Itoa(port)), c.Listen.Path)
	serves := "http"
	if c.TLS.CertFile != "" {
		serves = "https"
	}
	if port == c.Listen.Port && scheme != serves && c.Listen.Plain == "" {
		f.add("FAIL", "public address: %s, but this server speaks %s on port %d; set REVERB_SCHEME=%s, or give it a certificate with REVERB_TLS_CERT", public, serves, c.Listen.Port, serves)
		return
	}
	if len(c.Apps) == 0 {
		return
	}
	to := clientside.Server{Network: "tcp", Address: net.JoinHostPort(c.Public.Host, strconv.Itoa(port)), Dial: new(net.Dialer).DialContext,
		TLS: scheme == "https", Name: c.Public.Host, Path: c.Listen.Path, App: clientApp(c.Apps[0]), Frames: openFrames}
	took, skew, err := to.RoundTrip(ctx, time.Now)
	switch {
	case err != nil && !running:
		f.add("note", "public address: %s: %s; no server runs here yet, so start it and check again", public, show.Line(err.Error()))
		return
	case err != nil:
		f.add("FAIL", "public address: %s: %s; %s", public, show.Line(err.Error()), publicHint(c, port, scheme, err))
		return
	}
	f.add("ok", "public address: %s: an event came back in %v", public, took.Round(100*time.Microsecond))
	if skew.Abs() > 30*time.Second && c.Limits.AuthWindow > 0 {
		f.add("note", "clock: the server's and this machine's differ by %v; requests are refused from %v on (REVERB_AUTH_WINDOW): timedatectl set-ntp true", skew.Round(time.Second), c.Limits.AuthWindow)
	} else {
		f.add("ok", "clock: the same as the public address's, to %v", max(skew.Abs().Round(time.Second), time.Second))
	}
}

// publicHint says what to do when the round trip fails.
func publicHint(c *config.Config, port int, scheme string, err error) string {
	var unknown x509.UnknownAuthorityError
	var dns *net.DNSError
	switch {
	case errors.As(err, &unknown):
		return "the certificate's issuer is not trusted on this machine; serve the whole chain (fullchain.pem), or trust the issuer"
	case errors.As(err, &dns):
		return "REVERB_HOST must resolve on this machine too; add it to DNS or /etc/hosts"
	case errors.Is(err, syscall.ECONNREFUSED) && port != c.Listen.Port:
		return fmt.Sprintf("a proxy must forward port %d to %d (deploy/nginx.conf)", port, c.Listen.Port)
	case port != c.Listen.Port:
		return fmt.Sprintf("the proxy on port %d must forward %s/app and %s/apps with Upgrade to port %d (deploy/nginx.conf)", port, c.Listen.Path, c.Listen.Path, c.Listen.Port)
	}
	return "compare REVERB_HOST, REVERB_PORT and REVERB_SCHEME with where the server is"
}

// --- Client ---

// clientApp is what a client needs to know of an app.
func clientApp(a *config.App) clientside.App {
	return clientside.App{ID: a.ID, Key: a.Key, Secret: a.Secret, Origin: a.AnyOrigin()}
}

// findServer says where the server of this configuration can be reached from the
// machine that it runs on.
func findServer(c *config.Config, needsApp bool, stderr io.Writer) *clientside.Server {
	if c.Dev {
		if err := c.JoinDev(); err != nil {
			fmt.Fprintln(stderr, "reverb:", err)
			return nil
		}
	}
	if c.Report(stderr); len(c.Problems) > 0 {
		return nil
	}
	if needsApp && len(c.Apps) == 0 {
		fmt.Fprintln(stderr, "reverb: there is no app; set REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET as the server has them, or use --dev beside reverb start --dev")
		return nil
	}
	address, secure := c.Address(), c.TLS.CertFile != ""
	if c.Listen.Plain != "" {
		address, secure = c.Listen.Plain, false
	}
	network, dial := clientside.Local(address)
	self := "127.0.0.1:0"
	if network == "unix" {
		self = ""
	}
	s := &clientside.Server{Network: network, Address: dial, Dial: new(net.Dialer).DialContext, TLS: secure, Path: c.Listen.Path,
		Proxied: c.Listen.ProxyProtocol && (c.Listen.Trusted.Nobody() || c.Listen.Trusted.Contains(self)), Frames: openFrames}
	if len(c.Apps) > 0 {
		s.App = clientApp(c.Apps[0])
	}
	return s
}

// clientFailed prints why a command of the client has failed.
func clientFailed(stderr io.Writer, what string, err error) int {
	fmt.Fprintf(stderr, "reverb: %s%s%s\n", what, show.Line(err.Error()), clientside.Hint(err))
	return exitFail
}

func runHealth(ctx context.Context, c *config.Config, _ []string, stdout, stderr io.Writer) int {
	s := findServer(c, false, stderr)
	if s == nil {
		return exitUsage
	}
	answer, err := s.Health(ctx)
	if err != nil {
		return clientFailed(stderr, "not well: ", err)
	}
	fmt.Fprintln(stdout, show.Line(answer))
	return exitOK
}

// runTrigger publishes one event.
func runTrigger(ctx context.Context, c *config.Config, args []string, stdout, stderr io.Writer) int {
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
	fmt.Fprintf(stdout, "sent %s to %s\n", show.Line(args[1]), show.Line(args[0]))
	return exitOK
}

// runListen subscribes to channels and prints every event that arrives on them,
// one a line, until it is interrupted.
func runListen(ctx context.Context, c *config.Config, args []string, stdout, stderr io.Writer) int {
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
			_, err = fmt.Fprintf(stdout, "listening on %s\n", show.Line(e.Channel))
		} else {
			_, err = fmt.Fprintf(stdout, "%s %s %s\n", show.Line(e.Channel), show.Line(e.Name), show.Line(e.Data))
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
