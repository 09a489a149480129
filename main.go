// Reverb is a realtime server for the Pusher protocol. It takes the place of
// `php artisan reverb:start`: it reads a Laravel application's own settings, and Laravel, Laravel
// Echo, pusher-js and every Pusher server library keep working.
//
//	socket ─▶ loop ─▶ frame ─▶ message ─▶ event ─▶ channel
//	HTTP API ─▶ signature ─▶ event ──────────────▶ channel
//	Redis ─▶ reply ─▶ envelope ──────────────────▶ channel
//	channel ─▶ one encoded frame ─▶ every loop that has members ─▶ sockets
//
// Files, in reading order:
//
//	main.go    this one: commands, wiring, reload, shutdown
//	ws.go      WebSockets and the event loops that own them
//	pusher.go  the Pusher protocol and its HTTP API
//	redis.go   where Redis is, and the links to it
//	tls.go     certificates
//	internal/  rooms and, in lib, leaves; they do not know these files
//
// Sections of this file:
//
//	Commands        main, run, start
//	Judgement       problems that config cannot find: app IDs, Redis' files, certificates
//	Surroundings    what the hub asks of the program: other nodes, addresses, limits, the log
//	Webhooks        what sends them, and what check finds
//	Server          what is between a listener and the hub
//	Running         serving, watching, reloading, stopping
//	Control         restart, and how a running server answers it and check
//	Health          what the room admin needs from a running server
//	Operators       commands that look into a running server and steer it
//	Check           what is in the way of a start
//	Client          commands that use a server as its clients do; their end of a WebSocket
package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	random "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"reverb/internal/admin"
	"reverb/internal/calls"
	"reverb/internal/census"
	clientside "reverb/internal/client" // pusher.go has a type of that name
	"reverb/internal/cluster"
	"reverb/internal/commands"
	"reverb/internal/config"
	"reverb/internal/handover"
	"reverb/internal/hooks"
	"reverb/internal/httpapi"
	"reverb/internal/laravel"
	"reverb/internal/lib/accept"
	"reverb/internal/lib/build"
	"reverb/internal/lib/closeframe"
	"reverb/internal/lib/findings"
	"reverb/internal/lib/limits"
	"reverb/internal/lib/logs"
	"reverb/internal/lib/mask"
	"reverb/internal/lib/memory"
	"reverb/internal/lib/oneatatime"
	"reverb/internal/lib/outbound"
	"reverb/internal/lib/places"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/proxies"
	"reverb/internal/lib/settle"
	"reverb/internal/lib/shield"
	"reverb/internal/lib/show"
	"reverb/internal/lib/systemd"
	"reverb/internal/lib/terminal"
	"reverb/internal/lib/unixsock"
	"reverb/internal/listen"
	"reverb/internal/operator"
	"reverb/internal/outbox"
	"reverb/internal/protocol"
	"reverb/internal/relay"
	"reverb/internal/reports"
	"reverb/internal/shortage"
	"reverb/internal/supervise"
	"reverb/internal/upgrade"
	"reverb/internal/webhooks"
)

// --- Commands ---

const (
	exitOK    = 0
	exitFail  = 1 // an error while running
	exitUsage = 2 // the command line or the configuration is wrong
)

func main() {
	role, environ, err := supervise.New(os.Args, os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, "reverb:", err)
		os.Exit(exitFail)
	}
	ctx := context.WithValue(role.Context(context.Background()), roleKey{}, role)
	os.Exit(run(ctx, os.Args[1:], environ, os.Stdout, os.Stderr))
}

// roleKey is the key of the process's *supervise.Role in the context of a command; there is none
// where the program is a part of another process.
type roleKey struct{}

// command runs a command of the table. c has the configuration and its problems.
type command func(ctx context.Context, c *config.Config, line *commands.Line,
	stdout, stderr io.Writer) int

// runs are the commands that need a configuration, by name.
func runs() map[string]command {
	all := map[string]command{"start": runStart, "restart": runRestart, "upgrade": runUpgrade,
		"check": runCheck}
	for _, name := range calls.Commands() {
		all[name] = runCall
	}
	for _, name := range operator.Commands() {
		all[name] = runOperator
	}
	return all
}

// run is the whole program. environ is what os.Environ returns.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	line, err := commands.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "reverb: %v\n", err)
		return exitUsage
	}
	if commands.Answer(stdout, environ, &line, built().String()) {
		return exitOK
	}
	c := config.Load(environ, line.Flags, files())
	judge(c, time.Now())
	return runs()[line.Command](ctx, c, &line, stdout, stderr)
}

// The version and the revision of the program, if the build gives them: go build -ldflags "-X
// main.buildVersion=1.1.0 -X main.buildRevision=0123abc".
var buildVersion, buildRevision string

func built() build.Info { return build.Of("reverb", buildVersion, buildRevision) }

func runStart(ctx context.Context, c *config.Config,
	line *commands.Line, stdout, stderr io.Writer) int {
	pipe := make(chan os.Signal, 1)
	// When the reader of the log has gone, writing fails, and nothing more (os/signal, "SIGPIPE").
	signal.Notify(pipe, syscall.SIGPIPE)
	defer signal.Stop(pipe)
	role, _ := ctx.Value(roleKey{}).(*supervise.Role)
	before, err := upgrade.Inherit(role)
	if err != nil {
		fmt.Fprintln(stderr, "reverb:", err)
		before.Refuse(err)
		return exitFail
	}
	log, code := reportStart(c, stderr)
	if code != exitOK {
		before.Refuse(errors.New(
			append(c.Problems, "there is no app: set REVERB_APP_ID, _KEY, _SECRET")[0]))
		return code
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // from here on SIGHUP does not end the process
	defer signal.Stop(hup)
	files := limits.RaiseFiles()
	_, group := limits.Memory()
	limit := memory.Limit(c.Limits.Memory, group, limits.Machine())
	memory.SetLimit(limit)
	s, o, err := prepare(c, before, files, log, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "reverb:", err)
		before.Refuse(err)
		return exitFail
	}
	s.hungUp = terminal.HungUp(stderr)
	s.meter.Begin(limit, s.loops.load.QueueMemory)
	if c.Dev {
		s.openPass(o.admin.Addr())
	}
	if c.Log.Format == "json" {
		log.Info("configuration", "variables", c.InForceJSON())
	} else if !c.Log.Quiet && !before.Heir() && !line.Greets(stderr, c) {
		c.PrintInForce(stderr)
	}
	if s.node != nil {
		s.node.Start() // the node serves its own connections until Redis comes
	}
	line.Announce(stderr, log, c, s.serving(o.main, o.plain, o.admin))
	if err := s.serve(ctx, o.admin, hup); err != nil {
		fmt.Fprintln(stderr, "reverb:", err)
		return exitFail
	}
	if next := s.upgrades; next.Succeeded() {
		s.around.hooks.Close(context.Background()) // what is under way was cancelled
		// what still answers an asker reads s, and nothing else
		return next.End(ctx)
	}
	log.Info("stopped")
	return exitOK
}

// opened are the listeners of a server; plain and admin may be nil.
type opened struct{ main, plain, admin net.Listener }

// prepare opens the listeners, makes the server, and takes over what a predecessor has.
func prepare(c *config.Config, before *upgrade.Heritage, files uint64, log *slog.Logger,
	stdout io.Writer) (s *server, o opened, err error) {
	sockets := socketsOf(c)
	sockets.Inherited = before.Listeners
	if err = before.Keep(fixed(c)); err == nil {
		o.main, o.plain, o.admin, err = sockets.OpenAll(c.Address(), c.Listen.Plain, c.Admin.Listen)
	}
	if err == nil && c.Dev && o.admin == nil {
		o.admin, err = socketsOf(c).OpenNear("127.0.0.1:9090")
	}
	if err == nil {
		s, err = newServer(c, o.main, o.plain, files, before, log, stdout)
	}
	if err == nil {
		s.upgrades = upgrade.New(s, before.Role, &s.loops.held, s.ended, log)
		err = s.takeOver()
	}
	return s, o, err
}

// fixed are the settings that no upgrade changes.
func fixed(c *config.Config) []upgrade.Fixed {
	l := &c.Listen
	return []upgrade.Fixed{{"REVERB_SERVER_HOST and REVERB_SERVER_PORT", c.Address()},
		{"REVERB_PLAIN_LISTEN", l.Plain}, {"REVERB_ADMIN_LISTEN", c.Admin.Listen},
		{"REVERB_CONTROL_SOCKET", l.Control}, {"REVERB_SERVER_SOCKET_OWNER", l.SocketOwner},
		{"REVERB_SERVER_SOCKET_MODE", fmt.Sprintf("%#o", l.SocketMode.Perm())},
		{"REVERB_TLS_CERT", map[bool]string{true: "TLS"}[c.TLS.CertFile != ""]},
		{"REVERB_SCALING_ENABLED", fmt.Sprint(c.Scaling.Enabled)},
		{"REVERB_SCALING_CHANNEL", map[bool]string{true: c.Scaling.Channel}[c.Scaling.Enabled]},
		{"where Redis is (REDIS_HOST and the like)",
			map[bool]string{true: c.Redis.Where()}[c.Scaling.Enabled]}}
}

// reportStart says what is wrong with the configuration, and makes the log. code is exitOK if the
// server can start.
func reportStart(c *config.Config, stderr io.Writer) (log *slog.Logger, code int) {
	if c.Dev {
		if err := c.StartDev(os.UserCacheDir); err != nil {
			fmt.Fprintln(stderr,
				"reverb: the app of --dev could not be kept for listen and trigger:", err)
		}
	}
	if c.Log.Quiet {
		c.Warnings = nil
	}
	log = newLogger(c, stderr)
	if c.Log.Format == "json" && len(c.Problems) == 0 && len(c.Apps) > 0 {
		for _, w := range c.Warnings {
			log.Warn(w)
		}
	} else {
		c.Report(stderr)
	}
	if len(c.Problems) > 0 {
		return nil, exitUsage
	}
	if len(c.Apps) == 0 {
		fmt.Fprint(stderr, commands.WithoutApp())
		return nil, exitUsage
	}
	return log, exitOK
}

// serving describes the server when it begins to serve. plain and admin may be nil.
func (s *server) serving(ln, plain, admin net.Listener) *commands.Serving {
	now := &commands.Serving{Build: built().Program + " " + built().Version,
		Called: terminal.Called(os.Args[0]), Main: ln.Addr(), TLS: s.certs != nil,
		Loops: len(s.loops.all), Limit: s.limit}
	if plain != nil {
		now.Plain = plain.Addr()
	}
	if admin != nil {
		now.Admin = admin.Addr()
	}
	now.Fragment = s.pass.Fragment()
	if now.TLS {
		now.Advice = poll.TLSAdvice()
	}
	return now
}

func newLogger(c *config.Config, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Log.Level}
	if c.Log.Format == "json" {
		return slog.New(logs.Limit(slog.NewJSONHandler(w, options)))
	}
	return slog.New(logs.Limit(slog.NewTextHandler(w, options)))
}

// --- Judgement ---

// judge adds to c the problems that only the program can find: app IDs that the nodes use
// themselves, and certificates.
func judge(c *config.Config, now time.Time) {
	judgeScaling(c)
	judgeTLS(c, now)
	if _, err := hookRoots(&c.Hooks); err != nil {
		c.Problem("REVERB_WEBHOOK_CA", err.Error())
	}
}

// --- Surroundings ---

// surroundings is the program around the hub, as the hub sees it.
type surroundings struct {
	prefix  string
	trusted proxies.Trusted
	sockets *places.Places
	// how many of sockets the connections of clients may take
	soft int64
	join func(r cluster.Replica) *cluster.Node // nil: no cluster
	node *cluster.Node                         // the result of join

	reports reports.Reports
	hooks   *webhooks.Sender
	resume  config.Resume
}

var _ program = (*surroundings)(nil)

func (p *surroundings) Peers(r *replica) peers {
	if p.join == nil {
		return nil
	}
	p.node = p.join(r)
	return others{p.node, census.Census{Asker: p.node}}
}

// others are the other nodes of a cluster, and what all nodes have together.
type others struct {
	*cluster.Node
	census.Census
}

func (p *surroundings) Prefix() string              { return p.prefix }
func (p *surroundings) Full() bool                  { return p.sockets.Busy() > p.soft }
func (p *surroundings) Detach(nc net.Conn) net.Conn { return accept.Detach(nc) }

func (p *surroundings) Remote(r *http.Request) string {
	return p.trusted.Client(r.RemoteAddr, r.Header["X-Forwarded-For"])
}

func (p *surroundings) Reports() *reports.Reports  { return &p.reports }
func (p *surroundings) Webhooks() *webhooks.Sender { return p.hooks }
func (p *surroundings) Resume() config.Resume      { return p.resume }

// The interfaces of the room cluster.
var (
	_ cluster.Replica = (*replica)(nil)
	_ cluster.Dialer  = (*redisDialer)(nil)
	_ cluster.Link    = (*session)(nil)
)

// --- Webhooks ---

// hookRoots are the certificates that the receivers of webhooks are verified by; nil: the system's.
func hookRoots(c *config.Hooks) (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	return loadCA(c.CAFile)
}

// newSender makes what tells applications. spool is a folder; empty: none. See Sender.Keep.
func newSender(c *config.Hooks, spool string, heir bool,
	log *slog.Logger) (*webhooks.Sender, error) {
	roots, err := hookRoots(c)
	transport := outbound.New(hooks.Guard(c.LinkLocal), roots, c.Proxy)
	s := webhooks.New(webhooks.Options{QueueBytes: c.QueueBytes, ClientEvents: c.ClientEvents,
		Transport: transport, Log: log, Now: time.Now, After: time.After, Draw: random.Int64N})
	return s, errors.Join(err, s.Keep(spool, heir))
}

// spare is how many descriptors are not for clients.
func spare(c *config.Config) int64 {
	if c.Telling() {
		return spareFiles + outbound.MaxConnections
	}
	return spareFiles
}

// --- Server ---

const (
	// These bound the head of a request, a whole request, and the silence between two requests of
	// a connection. Larger: silent clients hold places. Smaller: slow clients are refused.
	headerTimeout, requestTimeout = 10 * time.Second, 20 * time.Second
	idleTimeout                   = 75 * time.Second
	// maxRequestHeadBytes bounds the head. Larger: strangers take memory. Smaller: long cookies
	// fail.
	maxRequestHeadBytes = 16 << 10
	// spareFiles is how many descriptors are for neither clients nor webhooks. Larger: fewer
	// connections. Smaller: at the limit Redis or a file cannot be opened.
	spareFiles = 64
	// shutdownGrace bounds the wait for answers at a stop, and is what webhooks get at least after
	// all connections were told. Larger: a stop takes longer. Smaller: slow requests get no answer.
	shutdownGrace = time.Second
	// aliveLimit is how long a loop may take to run its tasks before the server counts as dead.
	// Larger: a server that hangs is restarted later. Smaller: a busy one is restarted.
	aliveLimit = 5 * time.Second
	// upgradePatience is how long reverb upgrade waits, and reverb restart beyond
	// REVERB_SHUTDOWN_GRACE. Larger: a command waits longer for a server that hangs. Smaller: it
	// gives up a slow one.
	upgradePatience = upgrade.Longest + 5*time.Second
	// certificateInterval is the time between two looks at the files of the certificate. Larger: a
	// new certificate is used later. Smaller: more looks.
	certificateInterval = 5 * time.Second
)

// server has everything that runs between listening and the end.
type server struct {
	config    *config.Config
	listeners []net.Listener
	sockets   *places.Places
	limit     int64        // of sockets
	gate      *accept.Gate // shared by the listeners of http
	loops     *loops
	hub       *hub
	around    *surroundings // the hub's
	node      *cluster.Node // nil: no cluster
	operators *operator.Server
	certs     *certificates // nil: no TLS
	http      *http.Server
	admin     *http.Server // nil: off
	pass      *admin.Pass  // of the status page; nil but for --dev on loopback
	meter     memory.Meter // without a limit until start sets one
	notifier  *systemd.Notifier
	log       *slog.Logger
	started   time.Time
	restarts  *upgrade.Restarts
	signal    atomic.Pointer[restartSignal]
	ask       asker         // for the queue of the Laravel application
	ended     chan struct{} // closed when serve is about to return
	draining  atomic.Bool
	roles     map[string]net.Listener // as handed over, see listen.RoleMain
	heritage  *upgrade.Heritage
	upgrades  *upgrade.Upgrades
	hungUp    func() bool // whether SIGHUP comes from a terminal that closes; nil: never
}

// newServer makes a server that answers on ln, and on plain without TLS. files is how many
// descriptors there are; 0: no limit. If the configuration says so, the traffic is shown on stdout.
func newServer(c *config.Config, ln, plain net.Listener, files uint64,
	before *upgrade.Heritage, log *slog.Logger, stdout io.Writer) (*server, error) {
	limit := int64(math.MaxInt64)
	if files > 0 {
		limit = max(int64(min(files, math.MaxInt32))-spare(c), 1)
	}
	sockets := places.New(limit)
	ls, err := newLoops(runtime.GOMAXPROCS(0), sockets, before.Began, poll.New)
	if err != nil {
		return nil, err
	}
	around := &surroundings{prefix: c.Listen.Path, trusted: c.Listen.Trusted,
		sockets: sockets, soft: limit - min(limit/16, 256), resume: c.Resume}
	if !c.Log.Debug {
		stdout = nil
	}
	around.reports.Open(log, c.Log.Access, stdout)
	if around.hooks, err = newSender(&c.Hooks, c.Hooks.Spool, before.Heir(), log); err != nil {
		return nil, err
	}
	s := &server{config: c, sockets: sockets, limit: limit, gate: accept.NewGate(sockets, log),
		loops: ls, around: around, log: log, started: time.Now(),
		notifier: systemd.NewNotifier(c.Getenv), restarts: upgrade.NewRestarts(log),
		ended: make(chan struct{}), ask: newAsker(&c.Redis),
		roles: map[string]net.Listener{listen.RoleMain: ln}}
	if plain != nil {
		s.roles[listen.RolePlain] = plain
	}
	s.heritage, s.upgrades = before, upgrade.New(s, nil, &ls.held, s.ended, log)
	if err := s.joinCluster(); err != nil {
		return nil, err
	}
	s.hub = newHub(nil, ls, around)
	s.node = around.node
	s.signal.Store(&restartSignal{c.Signal, c.SignalRedis})
	s.ask.serve(&c.Queue)
	s.hub.configure(c.Apps, c.Limits)
	var secure *tls.Config
	if c.TLS.CertFile != "" {
		// judge has added the warning to the configuration
		first, _, err := loadTLS(&c.TLS, time.Now())
		if err != nil {
			return nil, err
		}
		s.certs = newCertificates(c.TLS, first)
		secure = s.certs.serving()
	}
	s.guard(ln, plain, secure)
	s.operators = s.newOperators()
	s.http = s.newHTTP(s.gate.Handler(shield.Handler(s.hub, log)))
	s.http.ConnState, s.http.WriteTimeout = s.gate.NoteState, requestTimeout
	return s, nil
}

// joinCluster says how the hub joins the other nodes, if there are any.
func (s *server) joinCluster() error {
	c := s.config
	if !c.Scaling.Enabled {
		return nil
	}
	to, err := newRedisOptions(&c.Redis)
	if err != nil {
		return err
	}
	o := cluster.Options{Prefix: c.Scaling.Channel, Patience: c.Scaling.Patience,
		Sharded: len(c.Redis.Nodes) > 0, Failover: len(c.Redis.Sentinels) > 0,
		Told: func(from, text string) { s.operators.Told(from, text) }}
	s.restarts.Turns = &oneatatime.Turns{Key: c.Scaling.Channel + ":restart", Owner: rand.Text(),
		Ask: to.once, After: time.After}
	box := outbox.New(time.Now, s.log)
	if c.Telling() {
		o.Outbox, s.around.hooks.Outbox = box, box
	}
	if s.heritage.Heir() {
		box.Succeed()
	}
	s.around.join = func(r cluster.Replica) *cluster.Node {
		return outbox.Attach(box, cluster.New(o, &redisDialer{options: to}, r, s.log))
	}
	return nil
}

// newHTTP makes an HTTP server with bounds. A watcher of the console may be answered for ever, so
// the main address alone has a WriteTimeout.
func (s *server) newHTTP(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxRequestHeadBytes,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
}

// guard puts the gate before the listeners. secure is the TLS of ln; nil: it has none.
func (s *server) guard(ln, plain net.Listener, secure *tls.Config) {
	c := s.config
	o := accept.Options{Name: listen.RoleMain, TLS: secure, HeaderTimeout: headerTimeout,
		Hints: listen.StrayHints(secure != nil, false, c.Listen.ProxyProtocol)}
	if c.Listen.ProxyProtocol {
		trusted := &c.Listen.Trusted
		o.Proxied = func(peer net.Addr) bool {
			return trusted.Nobody() || trusted.Contains(peer.String())
		}
	}
	s.listeners = append(s.listeners, s.gate.Guard(ln, o))
	if plain != nil {
		o.Name, o.TLS = listen.RolePlain, nil
		o.Hints = listen.StrayHints(false, secure != nil, c.Listen.ProxyProtocol)
		s.listeners = append(s.listeners, s.gate.Guard(plain, o))
	}
}

// --- Running ---

// serve runs until ctx is done or reverb restart asks for the end, and every connection has been
// told. A signal on hup makes it read its configuration again.
func (s *server) serve(ctx context.Context, admin net.Listener, hup <-chan os.Signal) error {
	s.loops.start()
	keep, enough := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { memory.GiveBack(keep, s.sockets.Load) })
	if s.meter.Limit() > 0 {
		beside.Go(func() { s.shortage().Watch(keep) })
	}
	beside.Go(func() { s.hub.rings.Sweep(keep) })
	defer beside.Wait()
	defer enough()
	if ln := s.openControl(); ln != nil {
		s.roles[listen.RoleControl] = ln
		beside.Go(func() {
			listen.Serve(ln, s.controlStatus, upgrade.Asked{Upgrades: s.upgrades,
				Restarts: s.restarts, Ctx: keep}, s.ended, s.refusedAsker, s.operators)
		})
		defer ln.Close()
	}
	failed := make(chan error, len(s.listeners)+1)
	var accepting sync.WaitGroup
	for _, l := range s.listeners {
		accepting.Go(func() { failed <- s.http.Serve(l) })
	}
	if admin != nil {
		s.roles[listen.RoleAdmin] = admin
		s.admin = s.newAdmin(admin.Addr())
		beside.Go(func() { failed <- s.admin.Serve(admin) })
		// at the end: /ready and /metrics matter most while the server stops
		defer s.admin.Close()
	}
	if s.config.Signal.String() != "" {
		beside.Go(func() { s.followSignal(keep) })
	}
	beside.Go(func() { s.upgrades.FollowSignals(keep) })
	limits := &s.config.Limits
	beside.Go(func() { s.upgrades.FollowRelays(keep, limits.UpgradeDrain, limits.Grace) })
	defer close(s.ended)
	defer s.restarts.Over(nil)
	beside.Go(func() { s.heritage.Serving(keep, s.status()) })
	err := s.watch(ctx, failed, hup)
	if s.upgrades.Succeeded() {
		s.leave()
		return nil
	}
	s.stop(&accepting)
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// stop ends the service to clients, in this order. No new connection is accepted, every accepted
// request gets its answer, every connection is told to reconnect elsewhere, and the other nodes are
// told last. accepting waits for the listeners.
func (s *server) stop(accepting *sync.WaitGroup) {
	s.draining.Store(true)
	s.around.hooks.Hold()
	s.notify("STOPPING=1", "STATUS=Stopping: told to reconnect: "+
		show.Count(s.sockets.Busy(), "connection"))
	for _, l := range s.listeners {
		l.Close() // an error changes nothing now
	}
	accepting.Wait() // now s.http knows all accepted connections
	grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	s.gate.Shutdown(grace, s.http)
	end := time.Now().Add(s.config.Limits.Grace)
	s.loops.stop(s.config.Limits.Grace)
	rest, enough := context.WithTimeout(context.Background(), max(time.Until(end), shutdownGrace))
	defer enough()
	s.around.hooks.Close(rest)
	if s.node != nil {
		s.node.Close()
	}
}

// shortage is what the server does while memory is short.
func (s *server) shortage() *shortage.Shortage[*app, *client] {
	return &shortage.Shortage[*app, *client]{Meter: &s.meter, Claims: s.loops.load,
		Relief: s.hub.relief(), Short: s.hub.short.Store, Log: s.log}
}

// watch waits for the end. Meanwhile it reloads, looks at the certificate, and notifies the service
// manager.
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
			s.logStop("stopping")
			return nil
		case r := <-s.restarts.Asked():
			if err := s.upgrades.Restart(ctx, s.config.Limits.Restart, r); err != nil {
				s.restarts.Over(err)
				continue
			}
			if !s.upgrades.Succeeded() {
				s.logStop("stopping, as " + r.Why)
			}
			return nil
		case what := <-s.upgrades.Asked():
			if s.upgrades.Make(ctx, what) {
				return nil
			}
		case <-hup:
			if s.hungUp != nil && s.hungUp() {
				s.logStop("stopping, as the terminal was closed")
				return nil
			}
			s.notify("RELOADING=1")
			s.reload(time.Now())
			s.notify("READY=1", "STATUS="+s.status())
		case now := <-every.C:
			if s.certs != nil {
				var r renewal
				files, r = s.certs.poll(files, now)
				r.tell(s.log)
			}
			s.notify("STATUS=" + s.status())
		case <-alive:
			s.Beat()
		}
	}
}

// Beat tells a watchdog that the server lives.
func (s *server) Beat() {
	if systemd.WatchdogInterval(s.config.Getenv, os.Getpid()) > 0 && s.Alive() {
		s.notify("WATCHDOG=1")
	}
}

func (s *server) logStop(why string) {
	s.log.Info(why+": telling every connection to reconnect", "connections", s.sockets.Busy(),
		"within", s.config.Limits.Grace.String())
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
	return show.Count(s.sockets.Busy(), "connection") + " on " + s.listeners[0].Addr().String()
}

func (s *server) notify(assignments ...string) {
	if err := s.notifier.Send(assignments...); err != nil {
		s.log.Warn(err.Error())
	}
}

// aliveTask tells that a loop has run its tasks.
type aliveTask struct{ done chan<- struct{} }

func (a aliveTask) run(*loop) { a.done <- struct{}{} }

// Alive says whether every loop runs its tasks within a few seconds. It is part of admin.Source
// too.
func (s *server) Alive() bool {
	done := make(chan struct{}, len(s.loops.all))
	for _, l := range s.loops.all {
		l.post(aliveTask{done})
	}
	timeout := time.NewTimer(aliveLimit)
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

// reload reads the configuration again and applies what can change while the server runs. If there
// is any problem, nothing changes.
func (s *server) reload(now time.Time) {
	c, old := s.config.Again(), s.config
	judge(c, now)
	if !commands.Reloads(s.log, c) {
		return
	}
	switch on, wanted := s.certs != nil, c.TLS.CertFile != ""; {
	case on && wanted:
		r := s.certs.reload(&c.TLS, now)
		r.warning = "" // logged above
		r.tell(s.log)
	case on != wanted:
		s.log.Warn("changed, but a restart is needed for it: whether TLS is served",
			"variable", "REVERB_TLS_CERT", "in_force", old.TLS.CertFile, "new", c.TLS.CertFile)
	}
	for _, v := range config.Variables() {
		before, after := old.Setting(v.Name), c.Setting(v.Name)
		if before.Value != after.Value && !v.Live {
			s.log.Warn("changed, but a restart is needed for it", "variable", v.Name,
				"in_force", before.Shown(), "new", after.Shown())
		}
	}
	if s.node != nil && s.around.hooks.Outbox == nil && c.Telling() {
		s.log.Warn("changed, but a restart is needed for it: the first webhook of a node")
		for _, a := range c.Apps { // this process alone would tell a part of it, from no Outbox
			a.Webhooks = nil
		}
	}
	s.signal.Store(&restartSignal{c.Signal, c.SignalRedis})
	s.ask.serve(&c.Queue)
	s.hub.configure(c.Apps, c.Limits)
	s.config.Apps, s.config.Limits.Grace = c.Apps, c.Limits.Grace
	s.log.Info("reloaded", "apps", len(c.Apps))
}

// --- Upgrade ---
//
// What the room upgrade needs of a running server.

var _ upgrade.Host = (*server)(nil)

// runUpgrade asks the running server to hand over to the program that lies at its path now.
func runUpgrade(ctx context.Context, c *config.Config,
	line *commands.Line, stdout, stderr io.Writer) int {
	if c.Report(stderr); len(c.Problems) > 0 {
		return exitUsage
	}
	if runtime.GOOS != "linux" {
		fmt.Fprintln(stderr, "reverb: only Linux passes connections on: use reverb restart")
		return exitUsage
	}
	text, err := socketsOf(c).AskUpgrade(ctx, c.Address(), line.Has("dry-run"), upgradePatience)
	if err != nil {
		fmt.Fprintln(stderr, "reverb:", err)
		return exitFail
	}
	fmt.Fprintln(stdout, text)
	return exitOK
}

func (s *server) Listeners() map[string]net.Listener { return s.roles }
func (s *server) Began() time.Time                   { return s.loops.began }
func (s *server) Version() string                    { return built().Version }
func (s *server) Loops() int                         { return len(s.loops.all) }
func (s *server) Relays() *relay.Relays              { return s.loops.relays }
func (s *server) Grace() time.Duration               { return s.config.Limits.Grace }

// Unfit is part of upgrade.Host.
func (s *server) Unfit() string {
	return s.node.Unfit(s.config.Redis.At.TLS)
}

// HTTP is part of upgrade.Host.
func (s *server) HTTP() (*accept.Gate, *http.Server) { return s.gate, s.http }

// Stand is part of upgrade.Host.
func (s *server) Stand(limit time.Duration) (end func(leave bool), err error) {
	p := settle.NewPause("event loop", len(s.loops.all))
	node := s.node.Stand(p)
	if err := s.loops.pause(p, limit); err != nil {
		return func(bool) {}, err
	}
	hooks := s.around.hooks.Stand()
	return func(leave bool) { hooks(leave); p.End(leave) }, node.Err()
}

// State is part of upgrade.Host. The node comes first: what the hub knows of last events counts.
func (s *server) State(send func(name string, state []byte, fds ...int) error) error {
	return cmp.Or(s.node.Bequeath(send), s.hub.sections().Give(send))
}

// Give is part of upgrade.Host.
func (s *server) Give(loop int, to *handover.Batch) error { return give(s.loops.all[loop], to) }

// Each is part of upgrade.Host.
func (s *server) Each(visit func(app string, sock *poll.Socket, relay uint8), done func()) {
	s.hub.each(func(c *client) { visit(c.app.id, &c.sock, c.relay) }, done)
}

// Files is part of upgrade.Host.
func (s *server) Files() int { return int(s.limit+spare(s.config)) - limits.OpenFiles() }

// Tell is part of upgrade.Host.
func (s *server) Tell(relay uint8, part, parts int) {
	s.hub.each(func(c *client) {
		if c.relay == relay && c.id.Number()%uint64(parts) == uint64(part) {
			c.handleDrain()
		}
	}, func() {})
}

// leave gives up everything that the successor has.
func (s *server) leave() {
	for _, ln := range s.roles {
		unixsock.Abandon(ln) // its file is the successor's
	}
	grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	s.gate.Leave(grace, s.http)
	s.loops.running.Wait()
}

// takeOver takes what a predecessor has, if there is one.
func (s *server) takeOver() error {
	h := upgrade.Heir{Version: s.Version(), Keep: s.config.Limits.UpgradeDrain,
		Sections: s.hub.sections(), Restore: s.hub.restore}
	if s.node != nil {
		h.Inherit = s.node.Inherit
	}
	for _, a := range s.config.Apps {
		h.Apps = append(h.Apps, a.ID)
	}
	orphan, err := s.heritage.Take(s.upgrades, h)
	if err == nil {
		s.hub.closeUp(orphan)
	}
	return err
}

// --- Control ---

// socketsOf takes the values for sockets from the configuration.
func socketsOf(c *config.Config) listen.Sockets {
	l := &c.Listen
	return listen.Sockets{Getenv: c.Getenv, Mode: l.SocketMode, Owner: l.SocketOwner,
		ControlPath: l.Control}
}

// openControl opens the socket over which reverb restart finds this process. The server also runs
// without it.
func (s *server) openControl() net.Listener {
	sockets := socketsOf(s.config)
	sockets.Inherited = s.heritage.Listeners
	ln, err := sockets.Control(s.address())
	if err != nil {
		level := slog.LevelInfo
		if errors.Is(err, unixsock.ErrForeign) { // perhaps to catch what root asks
			level = slog.LevelWarn
		}
		s.log.Log(context.Background(), level, "no control socket, so reverb restart, status and "+
			"the like will not find this server; REVERB_CONTROL_SOCKET names a place for one",
			"why", err)
		return nil
	}
	return ln
}

// controlStatus is the answer of the server over the control socket.
func (s *server) controlStatus() listen.Status {
	return listen.Status{PID: os.Getpid(), Version: built().String(), Listening: s.address(),
		Connections: s.sockets.Busy()}
}

// restartSignal is where php artisan reverb:restart leaves its signal.
type restartSignal struct {
	place laravel.Place
	redis config.RedisAddress // of a place in Redis
}

// followSignal makes the server end when php artisan reverb:restart is called.
func (s *server) followSignal(ctx context.Context) {
	read := newAsker(&s.config.Redis)
	ask := func(ctx context.Context, keys []string) ([]string, error) {
		return read.values(ctx, s.signal.Load().redis, keys)
	}
	warn := func(why string) {
		s.log.Warn("php artisan reverb:restart is not seen for now", "why", why)
	}
	place := func() laravel.Place { return s.signal.Load().place }
	for laravel.Follow(ctx, place, ask, warn) {
		s.restarts.Ask(ctx, nil, "php artisan reverb:restart was called", nil)
	}
}

// refusedAsker tells of a process of another user that has asked over the control socket.
func (s *server) refusedAsker(p unixsock.Peer) {
	s.log.Warn("another user asked on the control socket and was refused; only root and the user "+
		"of this server may ask", "uid", p.UID, "pid", p.PID)
}

// runRestart asks the running server to drain and to exit, and waits for that. The service manager
// starts the next one.
func runRestart(ctx context.Context, c *config.Config,
	_ *commands.Line, stdout, stderr io.Writer) int {
	if c.Report(stderr); len(c.Problems) > 0 {
		return exitUsage
	}
	err := socketsOf(c).AskRestart(ctx, c.Address(), c.Limits.Grace+upgradePatience, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "reverb:", err)
		return exitFail
	}
	return exitOK
}

// --- Health ---
//
// What the room admin needs from a running server.

//go:embed web/status.html
var statusPage []byte

// openPass makes the pass of start --dev, for a status page on addr.
func (s *server) openPass(addr net.Addr) {
	s.pass = admin.NewPass(s.config.Apps[0].ID, addr, s.started)
}

// newAdmin makes the server on REVERB_ADMIN_LISTEN, which listens on addr.
func (s *server) newAdmin(addr net.Addr) *http.Server {
	o := admin.Options{Page: statusPage, Address: addr, Name: s.config.Admin.Listen,
		Prefix: s.config.Admin.MetricsPrefix, Build: built(), Started: s.started, Pass: s.pass,
		Now: time.Now, Ended: s.ended, Log: s.log}
	if a, ok := s.listeners[0].Addr().(*net.TCPAddr); ok {
		o.Port = a.Port
	}
	return s.newHTTP(shield.Handler(admin.New(s, o), s.log))
}

var (
	_ admin.Source = (*server)(nil)
	_ admin.App    = consoleApp{}
)

// Snapshot is part of admin.Source.
func (s *server) Snapshot(now time.Time) admin.Snapshot {
	snap := admin.Snapshot{Loops: s.loops.figures(now), Draining: s.draining.Load(),
		Connections: s.sockets.Busy(), Limit: s.limit, ClosedForRoom: s.sockets.Closed(),
		Memory: admin.Memory{Used: s.meter.Used(), Limit: s.meter.Limit(),
			Short: s.meter.Level() > memory.Ample},
		Upgrades: s.upgrades.Figures()}
	s.hub.figures(&snap)
	if s.certs != nil {
		snap.TLS = &admin.TLS{NotAfter: s.certs.notAfter(), BuffersShared: poll.TLSBuffersShared()}
	}
	if s.node != nil {
		c := &s.node.Counters
		snap.Cluster = &admin.Cluster{Up: c.Up.Load(), Live: c.Live.Load(),
			Reconnects: c.Reconnects.Load(), Lost: c.Lost.Load(),
			Uncertain: c.Uncertain.Load(), Backlog: c.Backlog.Load(),
			Published: c.Published.Load(), Received: c.Received.Load(), Troubled: c.Troubled.Load(),
			Malformed: c.Malformed.Load(), Unknown: c.Unknown.Load(),
			Duplicates: c.Duplicates.Load()}
	}
	return snap
}

// Remote is part of admin.Source.
func (s *server) Remote(r *http.Request) string { return s.around.Remote(r) }

// Refused is part of admin.Source.
func (s *server) Refused(r *http.Request, word, line string) {
	s.hub.Refused(r, httpapi.Refusal{Word: word, Line: line})
}

// App is part of admin.Source.
func (s *server) App(id string) (admin.App, bool) {
	a, ok := s.hub.App(id)
	return consoleApp{s.hub, a}, ok
}

// consoleApp is an app for the console of the status page.
type consoleApp struct {
	hub *hub
	app *app
}

func (c consoleApp) Secret() string { return c.hub.Credentials(c.app).Secret }

func (c consoleApp) Channels(ctx context.Context, prefix string,
	now time.Time) map[string]protocol.Stats {
	return c.hub.Channels(ctx, c.app, prefix, true, now)
}

func (c consoleApp) Publish(ctx context.Context, e *protocol.Publish,
	now time.Time) ([]protocol.Stats, *protocol.Problem) {
	all, bad := httpapi.PublishNow(ctx, c.hub, c.app, []protocol.Publish{*e}, nil, now)
	if all == nil {
		return nil, bad
	}
	return all[0], bad
}

func (c consoleApp) Watch(channel string) (out <-chan admin.Message, stop func(), ok bool) {
	return c.hub.watch(c.app, channel)
}

// --- Operators ---

// runOperator asks the running server what an operator has typed.
func runOperator(
	ctx context.Context,
	c *config.Config,
	line *commands.Line,
	stdout, stderr io.Writer,
) int {
	if c.Report(stderr); len(c.Problems) > 0 {
		return exitUsage
	}
	t := toolOf(c, stdout, stderr)
	if line.Command == "top" && !line.Has("once") && t.Look.Terminal {
		stopping, stop := context.WithCancel(ctx)
		defer stop()
		restore := terminal.OnKey(os.Stdin, 'q', stop)
		defer restore()
		defer context.AfterFunc(stopping, restore)() // a second signal ends the program at once
		ctx = stopping
	}
	return t.Run(ctx, operator.Asked{Command: line.Command, Words: line.Words,
		Has: line.Has, Get: line.Get, All: line.All})
}

// toolOf is the client's end of the commands of operators.
func toolOf(c *config.Config, stdout, stderr io.Writer) *operator.Tool {
	return &operator.Tool{In: os.Stdin, Out: stdout, Err: stderr,
		Look: terminal.Of(stdout, c.Getenv), Asks: terminal.Of(os.Stdin, c.Getenv).Terminal,
		Dial: func(question string, greeting any) (net.Conn, error) {
			return socketsOf(c).Talk(c.Address(), question, greeting)
		}}
}

// newOperators makes the part of the server that answers what runOperator and listen ask.
func (s *server) newOperators() *operator.Server {
	host, _ := os.Hostname() // a node without a name has its address
	o := operator.Options{Version: built().String(), PID: os.Getpid(), Name: host + ":" +
		s.address(), Listening: s.address(), Started: s.started, Snapshot: s.Snapshot,
		Traces: &s.around.reports.Traces, Ended: s.ended, Log: s.log}
	if _, port, err := net.SplitHostPort(s.address()); err == nil {
		o.Name = host + ":" + port
	}
	if s.node != nil {
		o.Nodes = others{s.node, census.Census{Asker: s.node}}
	}
	return operator.NewServer(operators{s.hub}, o)
}

// --- Check ---

// runCheck tells what is in the way of a start or of many connections, and what to type. Exit code
// 1 means that something does not work.
func runCheck(ctx context.Context, c *config.Config, _ *commands.Line, stdout, _ io.Writer) int {
	f := &findings.Findings{W: stdout}
	c.Report(stdout)
	c.PrintInForce(stdout)
	verdict := map[bool]string{true: findings.OK, false: findings.Fail}
	f.Add(verdict[len(c.Problems) == 0], "configuration: %d problems, %d warnings",
		len(c.Problems), len(c.Warnings))
	for _, note := range c.Notes {
		f.Add(findings.Note, "configuration: %s", note)
	}
	if len(c.Apps) == 0 {
		f.Add(findings.Fail, "apps: none, so nothing can connect; "+
			"set REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET")
	} else {
		f.Add(findings.OK, "apps: %d", len(c.Apps))
	}
	checkCertificate(&c.TLS, time.Now(), f.Add)
	limits.CheckFiles(spare(c), f.Add)
	limits.CheckKernel("/proc/sys", f.Add)
	if c.Scaling.Enabled && len(c.Problems) == 0 {
		checkRedisLink(ctx, &c.Redis, f.Add)
	}
	checkQueue(ctx, c, f.Add)
	running := socketsOf(c).Check(c.Address(), c.Listen.Path, len(c.Problems) > 0, f.Add)
	sender, err := newSender(&c.Hooks, "", false, slog.New(slog.DiscardHandler))
	if err == nil && len(c.Problems) == 0 {
		var accounts []webhooks.Account
		for _, a := range c.Apps {
			accounts = append(accounts, a.Account())
		}
		hooks.Check(ctx, sender, accounts, f.Add)
		hooks.CheckSpool(sender, c.Hooks.Spool, running, f.Add)
	}
	calls.CheckPublic(ctx, c, openFrames, running, f.Add)
	if f.Failed {
		return exitFail
	}
	return exitOK
}

// --- Client ---

// runCall runs a command that uses a server as its clients do.
func runCall(ctx context.Context, c *config.Config,
	line *commands.Line, stdout, stderr io.Writer) int {
	call := &calls.Caller{Config: c, Line: line, In: os.Stdin, Out: stdout, Err: stderr,
		Frames: openFrames, Tool: toolOf(c, stdout, stderr), CacheDir: os.UserCacheDir}
	return call.Run(ctx)
}

// clientFrames is the client's end of a WebSocket. It turns messages into frames.
type clientFrames struct {
	w io.Writer
	r *bufio.Reader
}

func openFrames(nc net.Conn, r *bufio.Reader) clientside.Conn { return &clientFrames{nc, r} }

// maxServerFrame bounds a frame of the server; a larger one ends the connection. Larger: a wrong
// server takes more memory. Smaller: long lists of members cannot be read.
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
			code, reason, _ := closeframe.Parse(payload)
			return nil, &clientside.Closed{Code: code, Reason: string(reason)}
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
	var key [4]byte
	rand.Read(key[:]) // never fails
	h := frameHeader{fin: true, op: op, length: uint64(len(payload)), masked: true,
		mask: binary.LittleEndian.Uint32(key[:])}
	b := append(appendFrameHeader(nil, h), payload...)
	mask.Bytes(b[len(b)-len(payload):], h.mask)
	_, err := f.w.Write(b)
	return err
}
