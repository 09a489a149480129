package main

// Redis: where it is, how to log in, and the links over which a node talks to it. internal/cluster
// decides what to send: redisDialer is its Dialer, session its Link. This file knows no topic and
// no member.
//
// Sections:
//
//	Dial        what is needed to connect, and how the master is found
//	Sentinel    which Redis is the master, and when another one takes its place
//	Login       one connection that is ready for use; TLS
//	Laravel     single commands to the Redis of the application
//	Judgement   what of the configuration cannot work, and whether Redis can be reached
//	Topology    which of several Redis servers has which buckets
//	Session     two links to each server: for commands, and for subscriptions
//	Handing over  the links in another process

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"reverb/internal/cluster"
	"reverb/internal/config"
	"reverb/internal/envelopes"
	"reverb/internal/lib/pemfile"
	"reverb/internal/lib/poll"
	"reverb/internal/lib/resp"
	"reverb/internal/lib/resplink"
	"reverb/internal/lib/show"
)

// --- Dial ---

// redisOptions says how to connect. It never changes.
type redisOptions struct {
	address config.RedisAddress
	// the sentinels, which know the master; then only the login of address counts
	sentinels []config.RedisAddress
	service   string // the name under which the sentinels know the master
	// some nodes of a Redis Cluster; then only the login of address counts
	nodes   []config.RedisAddress
	secure  *tls.Config   // for addresses with tls
	name    string        // CLIENT SETNAME
	plain   bool          // any version will do, and a user who may do little: see loginPlain
	timeout time.Duration // of one attempt
}

// newRedisOptions makes the options from the configuration.
func newRedisOptions(r *config.Redis) (*redisOptions, error) {
	secure, err := loadRedisTLS(r.CA, r.Cert, r.Key, r.ServerName)
	return &redisOptions{address: r.At, sentinels: r.Sentinels, service: r.Service,
		nodes: r.Nodes, secure: secure, name: "reverb", timeout: redisDialLimit}, err
}

const (
	redisOldest        = "6.2" // the oldest version with all commands of a node
	redisOldestCluster = "7.0" // the oldest version with sharded publish and subscribe
	// redisDialLimit bounds one attempt to connect and to log in. Larger: a node tries the next
	// server later. Smaller: a slow network never connects.
	redisDialLimit = 5 * time.Second
	// redisReplyLimit bounds a write to Redis; after it the session is given up. Larger: events
	// wait longer on a dead link. Smaller: a slow Redis ends good sessions.
	redisReplyLimit = 3 * time.Second
	// redisIdleDoubt is how long a connection may be idle before it is asked whether it is alive: a
	// server may have closed it. Larger: more commands fail, and are sent again. Smaller: more
	// questions.
	redisIdleDoubt = time.Second
	// sentinelPause is the time before sentinels that have failed are listened to again. Larger:
	// a new master is noticed later. Smaller: more attempts.
	sentinelPause = time.Second
	// sentinelDoubt is how long a sentinel may be silent before it is asked again. Larger: a new
	// master is noticed later. Smaller: more questions.
	sentinelDoubt = 10 * time.Second
)

// redisConn is one connection that has logged in.
type redisConn struct {
	nc      net.Conn
	address string
	r       *resp.Reader
	version string
}

// dialRedis connects to one Redis: to the address, or to the master that the first sentinel with an
// answer names. Errors say which server, and never a secret.
func dialRedis(ctx context.Context, o *redisOptions) (*redisConn, error) {
	if len(o.sentinels) == 0 {
		return openRedis(ctx, o, o.address)
	}
	var problems []error
	for _, s := range o.sentinels {
		a, err := askSentinel(ctx, o, s)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		c, err := openMaster(ctx, o, a)
		if err == nil {
			return c, nil
		}
		problems = append(problems, fmt.Errorf("the master that sentinel %s names: %w", s.Address,
			err))
	}
	return nil, show.InOneLine(problems)
}

// once sends a command to the Redis of the nodes, on a connection of its own. In a Redis Cluster it
// tries the masters that are known, one of which has the key.
func (o *redisOptions) once(ctx context.Context, command ...string) (r resp.Reply, err error) {
	dials := []func() (*redisConn, error){func() (*redisConn, error) { return dialRedis(ctx, o) }}
	for i, at := range o.nodes {
		dials = append(dials[:i], func() (*redisConn, error) { return openRedis(ctx, o, at) })
	}
	for _, dial := range dials {
		var c *redisConn
		if c, err = dial(); err != nil {
			continue
		}
		c.nc.SetDeadline(time.Now().Add(redisReplyLimit))
		r, err = c.do(command...)
		if c.nc.Close(); err == nil {
			break
		}
	}
	return r, err
}

// --- Sentinel ---

// askSentinel asks one sentinel where the master is (redis.io: Guidelines for Redis
// clients with support for Redis Sentinel).
func askSentinel(ctx context.Context, o *redisOptions, s config.RedisAddress) (config.RedisAddress,
	error) {
	c, err := openRedis(ctx, o, s)
	if err != nil {
		return config.RedisAddress{}, fmt.Errorf("sentinel: %w", err)
	}
	defer c.nc.Close()
	r, err := c.do("SENTINEL", "get-master-addr-by-name", o.service)
	if err != nil {
		return config.RedisAddress{}, fmt.Errorf("sentinel %s: %w", s.Address, err)
	}
	if len(r.Items) != 2 {
		return config.RedisAddress{}, fmt.Errorf(
			"sentinel %s knows no service %q; set REVERB_REDIS_SERVICE", s.Address, o.service)
	}
	a := o.address
	a.Network, a.Address = "tcp", net.JoinHostPort(r.Items[0].Text, r.Items[1].Text)
	return a, nil
}

// watchMaster ends a session when a sentinel names another master than that of the session. The old
// master may not know: until it is told, ten seconds later or never, it takes events that no other
// node will see. watchMaster returns when the session is over.
func watchMaster(o *redisOptions, s *session) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { <-s.failed; cancel() }()
	for !s.over() {
		for _, a := range o.sentinels { // in the same order as in dialRedis
			if heedSentinel(ctx, o, a, s) == nil {
				break
			}
		}
		select {
		case <-s.failed:
		case <-time.After(sentinelPause):
		}
	}
}

// heedSentinel listens to one sentinel until that has been silent for sentinelDoubt. The error says
// that the sentinel does not answer.
func heedSentinel(ctx context.Context, o *redisOptions, a config.RedisAddress, s *session) error {
	c, err := openRedis(ctx, o, a)
	if err != nil {
		return err
	}
	defer c.nc.Close()
	defer context.AfterFunc(ctx, func() { c.nc.Close() })()
	if _, err := c.do("SUBSCRIBE", "+switch-master"); err != nil {
		return err
	}
	for {
		now, err := askSentinel(ctx, o, a) // after subscribing, so that no switch is missed
		if err != nil {
			return err
		}
		if now.Address != s.masters[0].at.address {
			if m, err := openMaster(ctx, o, now); err == nil {
				// if the named server is not a master, the sentinel is behind
				m.nc.Close()
				s.Fail(fmt.Errorf("sentinel %s says that %s is the master now", a.Address,
					now.Address))
				return nil
			}
		}
		c.nc.SetReadDeadline(time.Now().Add(sentinelDoubt))
		if _, err := c.r.Read(); err != nil {
			return nil
		}
	}
}

// --- Login ---

// openMaster is openRedis for a server that must be a master.
func openMaster(ctx context.Context, o *redisOptions, a config.RedisAddress) (*redisConn, error) {
	c, err := openRedis(ctx, o, a)
	if err != nil {
		return nil, err
	}
	role, err := c.do("ROLE")
	if err == nil && len(role.Items) > 0 && role.Items[0].Text == "master" {
		return c, nil
	}
	c.nc.Close()
	return nil, fmt.Errorf("Redis at %s is not a master", a.Address)
}

// openRedis connects to a and logs in, within o.timeout.
func openRedis(ctx context.Context, o *redisOptions, a config.RedisAddress) (*redisConn, error) {
	within, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(within, a.Network, a.Address)
	if err != nil {
		return nil, fmt.Errorf("connect to Redis: %w", err)
	}
	nc = poll.Quiet(nc)
	if a.TLS {
		own := o.secure.Clone()
		if host, _, err := net.SplitHostPort(a.Address); err == nil && own.ServerName == "" {
			own.ServerName = host
		}
		secure := tls.Client(nc, own)
		if err := secure.HandshakeContext(within); err != nil {
			nc.Close()
			return nil, fmt.Errorf("TLS with Redis at %s: %w", a.Address, err)
		}
		nc = secure
	}
	c := &redisConn{nc: nc, address: a.Address, r: resp.NewReader(nc)}
	if deadline, ok := within.Deadline(); ok {
		nc.SetDeadline(deadline)
	}
	defer closeWhenDone(ctx, nc)()
	if o.plain {
		err = c.loginPlain(a)
	} else {
		err = c.login(a, o.name)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("Redis at %s: %w", a.Address, err)
	}
	return c, nil
}

// closeWhenDone closes a connection as soon as ctx is done, so that a stop does not wait for a
// silent Redis. off ends this.
func closeWhenDone(ctx context.Context, nc net.Conn) (off func() bool) {
	return context.AfterFunc(ctx, func() { nc.Close() })
}

// do sends a command and waits for its reply, until the deadline of openRedis.
func (c *redisConn) do(args ...string) (resp.Reply, error) {
	if _, err := c.nc.Write(resp.AppendCommand(nil, args...)); err != nil {
		return resp.Reply{}, fmt.Errorf("%s: %w", args[0], err)
	}
	r, err := c.r.Read()
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return r, fmt.Errorf("%s: %w", args[0], err)
	}
	return r, nil
}

// login authenticates, asks for version 3 of the protocol, checks the server's
// version and selects the database.
func (c *redisConn) login(a config.RedisAddress, name string) error {
	hello := []string{"HELLO", "3"}
	if a.Password != "" {
		user := a.Username
		if user == "" {
			user = "default"
		}
		hello = append(hello, "AUTH", user, a.Password)
	}
	r, err := c.do(hello...)
	var refused resp.ReplyError
	if errors.As(err, &refused) && (refused.Begins("ERR") || refused.Begins("NOPROTO")) {
		return c.loginOld(a, err)
	}
	if err != nil {
		return loginError(err)
	}
	for i := 0; i+1 < len(r.Items); i += 2 {
		if r.Items[i].Text == "version" {
			c.version = r.Items[i+1].Text
		}
	}
	if c.version != "" && resp.OlderThan(c.version, redisOldest) {
		return fmt.Errorf("version %s is too old; %s or newer is needed", c.version, redisOldest)
	}
	if err := c.choose(a.DB, " (REVERB_REDIS_DB or REDIS_DB)"); err != nil {
		return err
	}
	if name != "" {
		_, err := c.do("CLIENT", "SETNAME", name)
		if errors.As(err, &refused) {
			err = nil // the name is for CLIENT LIST only; an ACL may forbid it
		}
		return err
	}
	return nil
}

// loginPlain authenticates and selects the database, with commands that every version of Redis
// knows.
func (c *redisConn) loginPlain(a config.RedisAddress) error {
	if err := c.authenticate(a); err != nil {
		return err
	}
	return c.choose(a.DB, "")
}

func (c *redisConn) authenticate(a config.RedisAddress) error {
	auth := []string{"AUTH", a.Password}
	switch {
	case a.Password == "":
		return nil
	case a.Username != "":
		auth = []string{"AUTH", a.Username, a.Password}
	}
	if _, err := c.do(auth...); err != nil {
		return loginError(err)
	}
	return nil
}

// choose selects a database. variables are the names for an error.
func (c *redisConn) choose(database int, variables string) error {
	if database == 0 {
		return nil
	}
	if _, err := c.do("SELECT", strconv.Itoa(database)); err != nil {
		return fmt.Errorf("database %d%s: %w", database, variables, err)
	}
	return nil
}

// loginOld finds out why HELLO has failed: the server is too old, it refuses HELLO, or the password
// is wrong.
func (c *redisConn) loginOld(a config.RedisAddress, hello error) error {
	if err := c.authenticate(a); err != nil {
		return err
	}
	info, err := c.do("INFO", "server")
	if err != nil {
		return loginError(err)
	}
	_, rest, ok := strings.Cut(info.Text, "redis_version:")
	version, _, _ := strings.Cut(rest, "\r\n")
	if ok && resp.OlderThan(version, redisOldest) {
		return fmt.Errorf("version %s is too old; %s or newer is needed", version, redisOldest)
	}
	return hello
}

// loginError adds to a refusal what to do about it.
func loginError(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "NOAUTH"):
		return errors.New("it wants a password; set REVERB_REDIS_PASSWORD (or REDIS_PASSWORD)")
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "invalid password"):
		return errors.New("it refuses the user or the password; " +
			"compare REVERB_REDIS_USERNAME and REVERB_REDIS_PASSWORD (or REDIS_USERNAME and " +
			"REDIS_PASSWORD)")
	}
	return err
}

// loadRedisTLS makes the TLS settings of the links to Redis. An empty caFile stands for the
// system's authorities, an empty certFile for no certificate.
func loadRedisTLS(caFile, certFile, keyFile, serverName string) (*tls.Config, error) {
	secure := &tls.Config{ServerName: serverName}
	if caFile != "" {
		b, err := pemfile.ReadAny(caFile)
		if err != nil {
			return nil, err
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", caFile)
		}
	}
	if certFile == "" {
		return secure, nil
	}
	cert, err := pemfile.ReadAny(certFile)
	if err != nil {
		return nil, err
	}
	key := cert
	if keyFile != "" {
		if key, err = pemfile.ReadAny(keyFile); err != nil {
			return nil, err
		}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	secure.Certificates = []tls.Certificate{pair}
	return secure, nil
}

// --- Laravel ---

// asker sends a command to the Redis of the Laravel application at some address, and returns the
// reply.
type asker func(ctx context.Context, at config.RedisAddress, command ...string) (resp.Reply, error)

// newAsker makes an asker with the certificates of r. Its connection stays open until the address
// changes or an error comes. A call waits until the one before has ended, or ctx has: then it does
// nothing at all.
func newAsker(r *config.Redis) asker {
	turn := make(chan struct{}, 1) // full: a call has the turn
	// in turn
	var c *redisConn
	var last config.RedisAddress
	var used time.Time
	return func(ctx context.Context, at config.RedisAddress,
		command ...string) (reply resp.Reply, err error) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
		}
		if err := ctx.Err(); err != nil { // both may have been ready
			return reply, err
		}
		if c != nil && (at != last || time.Since(used) > redisIdleDoubt && !c.isAlive()) {
			c.nc.Close()
			c = nil
		}
		if c == nil {
			o, err := newRedisOptions(r)
			if err != nil {
				return reply, err
			}
			o.plain = true // perhaps it is an old one
			if c, err = openRedis(ctx, o, at); err != nil {
				return reply, err
			}
			last = at
		}
		off := closeWhenDone(ctx, c.nc)
		c.nc.SetDeadline(time.Now().Add(redisReplyLimit))
		reply, err = c.do(command...)
		used = time.Now()
		if !off() || err != nil {
			c.nc.Close()
			c = nil
		}
		return reply, err
	}
}

// isAlive says whether the server still answers.
func (c *redisConn) isAlive() bool {
	c.nc.SetDeadline(time.Now().Add(redisReplyLimit))
	_, err := c.do("PING")
	return err == nil || errors.As(err, new(resp.ReplyError)) // a user may not be allowed to PING
}

// values returns the values of keys. A key that is not there has an empty value.
func (ask asker) values(ctx context.Context, at config.RedisAddress,
	keys []string) (values []string, err error) {
	for _, key := range keys {
		reply, err := ask(ctx, at, "GET", key)
		if err != nil {
			return nil, err
		}
		values = append(values, reply.Text)
	}
	return values, nil
}

// serve makes a queue use the asker.
func (ask asker) serve(q *config.Queue) {
	at := q.At
	q.To.Redis = func(ctx context.Context, command ...string) (resp.Reply, error) {
		return ask(ctx, at, command...)
	}
}

// --- Judgement ---

// judgeScaling adds to c the problems of Redis, and of names that the nodes use there themselves.
func judgeScaling(c *config.Config) {
	if !c.Scaling.Enabled {
		return
	}
	for _, a := range c.Apps {
		if envelopes.TakenAppID(a.ID) {
			c.Problem("app_id="+strconv.Quote(a.ID), "with REVERB_SCALING_ENABLED the nodes "+
				"use this name themselves in Redis; give the app another ID")
		}
	}
	if _, err := newRedisOptions(&c.Redis); err != nil {
		c.Problem("REVERB_REDIS_CA, REVERB_REDIS_CERT, REVERB_REDIS_KEY",
			err.Error()+"; name files in PEM that can be read")
	}
}

// checkRedisLink says whether Redis can be reached. add takes a line of check.
func checkRedisLink(ctx context.Context, s *config.Redis,
	add func(word, format string, args ...any)) {
	to, err := newRedisOptions(s)
	if err != nil {
		return // a problem of the configuration
	}
	found, lacks, err := probeRedis(ctx, to)
	if err != nil {
		hint := ""
		if errors.As(err, new(*net.OpError)) {
			hint = "; start it, or set REVERB_REDIS_HOST and REVERB_REDIS_PORT " +
				"(or REDIS_HOST and REDIS_PORT)"
		}
		add("FAIL", "redis: %v%s; without Redis every node serves its own connections alone", err,
			hint)
		return
	}
	add("ok", "redis: %s", found)
	if lacks != "" {
		add("note",
			"redis: the user may not run %s, so nodes of Laravel Reverb on the same channel "+
				"are not noticed; allow it: ACL SETUSER NAME +%s", lacks,
			strings.ToLower(strings.ReplaceAll(lacks, " ", "|")))
	}
}

// checkQueue says whether the queue of the Laravel application can be reached, if there is one. add
// takes a line of check.
func checkQueue(ctx context.Context, c *config.Config,
	add func(word, format string, args ...any)) {
	if c.Queue.To.Key == "" || len(c.Problems) > 0 {
		return
	}
	newAsker(&c.Redis).serve(&c.Queue)
	if found, err := c.Queue.To.Check(ctx); err != nil {
		add("FAIL", "laravel queue: %s: %v", show.Text(c.Queue.To.Key), err)
	} else {
		add("ok", "laravel queue: %s", found)
	}
}

// --- Topology ---

// topology says which server has which bucket.
type topology struct {
	masters  []config.RedisAddress
	byBucket []int // index in masters
}

// askNodes asks the nodes of a Redis Cluster in at, one after the other, for the masters and their
// slots.
func askNodes(ctx context.Context, o *redisOptions, at []config.RedisAddress) (topology, error) {
	var problems []error
	for _, a := range at {
		c, err := openRedis(ctx, o, a)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		r, err := c.do("CLUSTER", "SLOTS")
		c.nc.Close()
		if err == nil && resp.OlderThan(c.version, redisOldestCluster) {
			err = fmt.Errorf(
				"version %s is too old for REVERB_REDIS_CLUSTER; %s or newer is needed", c.version,
				redisOldestCluster)
		}
		var t topology
		if err == nil {
			t, err = parseTopology(r, a)
		}
		if err == nil {
			return t, nil
		}
		var refused resp.ReplyError
		if errors.As(err, &refused) && strings.Contains(string(refused),
			"cluster support disabled") {
			err = errors.New(
				"it is not a Redis Cluster; give its address in REVERB_REDIS_HOST and " +
					"unset REVERB_REDIS_CLUSTER")
		}
		problems = append(problems, fmt.Errorf("Redis at %s: %w", a.Address, err))
	}
	return topology{}, show.InOneLine(problems)
}

// parseTopology reads the reply of a to CLUSTER SLOTS: ranges of slots, each with its master first.
// A master without a host has the host of a.
func parseTopology(r resp.Reply, a config.RedisAddress) (t topology, err error) {
	here, _, err := net.SplitHostPort(a.Address)
	if err != nil {
		return t, err
	}
	owner := make([]int, resp.Slots) // index in t.masters, plus 1
	for _, part := range r.Items {
		if len(part.Items) < 3 || len(part.Items[2].Items) < 2 {
			return t, errors.New("its answer to CLUSTER SLOTS cannot be read")
		}
		first, last := part.Items[0].N, part.Items[1].N
		if first < 0 || last < first || last >= resp.Slots {
			return t, errors.New("its answer to CLUSTER SLOTS names slots that cannot be")
		}
		host, port := part.Items[2].Items[0].Text, part.Items[2].Items[1].N
		if host == "" || host == "?" {
			host = here
		}
		m := a
		m.Address = net.JoinHostPort(host, strconv.FormatInt(port, 10))
		i := slices.Index(t.masters, m)
		if i < 0 {
			i = len(t.masters)
			t.masters = append(t.masters, m)
		}
		for slot := first; slot <= last; slot++ {
			owner[slot] = i + 1
		}
	}
	for _, tag := range envelopes.BucketTags() {
		slot := resp.Slot(tag)
		if owner[slot] == 0 {
			return topology{}, fmt.Errorf("no server has slot %d of the Redis Cluster", slot)
		}
		t.byBucket = append(t.byBucket, owner[slot]-1)
	}
	return t, nil
}

// probeRedis connects as a node would, and says what it has found, in words. lacks is a command
// that Redis refuses to the user and that a node does not need; empty: none.
func probeRedis(ctx context.Context, o *redisOptions) (found, lacks string, err error) {
	lacking := func(c *redisConn) error {
		_, err := c.do("PUBSUB", "NUMSUB", "reverb")
		if refused := (resp.ReplyError)(""); errors.As(err, &refused) && refused.Begins("NOPERM") {
			lacks, err = "PUBSUB NUMSUB", nil
		}
		return err
	}
	if len(o.nodes) == 0 {
		c, err := dialRedis(ctx, o)
		if err != nil {
			return "", "", err
		}
		defer c.nc.Close()
		begun := time.Now()
		if _, err := c.do("PING"); err != nil {
			return "", "", err
		}
		took := time.Since(begun)
		if err := lacking(c); err != nil {
			return "", "", err
		}
		return fmt.Sprintf("Redis %s at %s answers in %v", c.version, c.nc.RemoteAddr(),
			took.Round(10*time.Microsecond)), lacks, nil
	}
	t, err := askNodes(ctx, o, o.nodes)
	if err != nil {
		return "", "", err
	}
	for _, m := range t.masters {
		c, err := openRedis(ctx, o, m)
		if err != nil {
			return "", "", err
		}
		err = lacking(c)
		c.nc.Close()
		if err != nil {
			return "", "", err
		}
	}
	return fmt.Sprintf("all %d masters of the Redis Cluster answer", len(t.masters)), lacks, nil
}

// --- Session ---

// session connects a node to Redis: it has a pair of links to every master. The links live and die
// together: when one has missed something, the others cannot know.
type session struct {
	masters         []*masterLinks
	byBucket        []int // index in masters
	replies, pushes chan cluster.Batch
	once            sync.Once
	failed          chan struct{} // closed when a link has failed
	err             error         // the reason; written before failed is closed
	running         sync.WaitGroup
	where           string // of the options
}

func newSession(where string, byBucket []int) *session {
	return &session{where: where, byBucket: byBucket, replies: make(chan cluster.Batch, 16),
		pushes: make(chan cluster.Batch, 16), failed: make(chan struct{})}
}

// masterLinks has the two links to one master. out and subs belong to the node's goroutine; they
// wait for Flush.
type masterLinks struct {
	at                      *redisConn // of commands
	commands, subscriptions *resplink.Link
	out, subs               resplink.Buffer
}

// redisDialer makes the sessions of a node, see cluster.Dialer.
type redisDialer struct {
	options   *redisOptions
	known     []config.RedisAddress // the masters of the last session
	inherited *session              // that the next Dial returns; nil: none
}

// Dial connects to all masters, which it finds by the options and the masters of the last session.
func (d *redisDialer) Dial(ctx context.Context, scripts []string) (cluster.Link, error) {
	if s := d.inherited; s != nil {
		d.inherited = nil
		s.begin(d.options)
		return s, nil
	}
	s, masters, err := dialSession(ctx, d.options, d.known, scripts)
	if err != nil {
		return nil, err // not a nil *session
	}
	d.known = masters
	return s, nil
}

// dialSession connects to all masters, which it finds by the options and by known, earlier masters.
// It loads scripts into each.
func dialSession(ctx context.Context, o *redisOptions, known []config.RedisAddress,
	scripts []string) (s *session, masters []config.RedisAddress, err error) {
	t := topology{masters: []config.RedisAddress{o.address}, byBucket: []int{0}}
	dial := func(int) (*redisConn, error) { return dialRedis(ctx, o) }
	if len(o.nodes) > 0 {
		if t, err = askNodes(ctx, o, append(slices.Clone(o.nodes), known...)); err != nil {
			return nil, nil, err
		}
		dial = func(i int) (*redisConn, error) { return openRedis(ctx, o, t.masters[i]) }
	}
	s = newSession(o.where(), t.byBucket)
	made := s
	defer func() {
		if err != nil {
			made.closeLinks()
		}
	}()
	for i := range t.masters {
		c, err := dial(i)
		if err != nil {
			return nil, nil, err
		}
		p := &masterLinks{at: c}
		s.masters = append(s.masters, p)
		if err = c.load(ctx, scripts, o.timeout); err != nil {
			c.nc.Close()
			return nil, nil, err
		}
		p.commands = resplink.New(c.nc, c.r.Rest())
		if c, err = dial(i); err != nil {
			return nil, nil, err
		}
		p.subscriptions = resplink.New(c.nc, c.r.Rest())
	}
	s.begin(o)
	return s, t.masters, nil
}

// begin starts the goroutines of a session.
func (s *session) begin(o *redisOptions) {
	for i, p := range s.masters {
		read := func(l *resplink.Link, to chan<- cluster.Batch) error {
			return l.Read(s.failed, func(replies []resp.Reply) bool {
				select {
				case to <- cluster.Batch{Master: i, Replies: replies}:
					return true
				case <-s.failed:
					return false
				}
			})
		}
		s.running.Go(func() { s.Fail(read(p.commands, s.replies)) })
		s.running.Go(func() { s.Fail(p.commands.Write(s.failed, redisReplyLimit)) })
		s.running.Go(func() { s.Fail(read(p.subscriptions, s.pushes)) })
		s.running.Go(func() { s.Fail(p.subscriptions.Write(s.failed, redisReplyLimit)) })
	}
	if len(o.nodes) == 0 && len(o.sentinels) > 0 {
		go watchMaster(o, s)
	}
}

// load loads scripts, all in one round trip.
func (c *redisConn) load(ctx context.Context, scripts []string, timeout time.Duration) error {
	c.nc.SetDeadline(time.Now().Add(timeout))
	defer closeWhenDone(ctx, c.nc)()
	var b []byte
	for _, text := range scripts {
		b = resp.AppendCommand(b, "SCRIPT", "LOAD", text)
	}
	_, err := c.nc.Write(b)
	for range scripts {
		var r resp.Reply
		if err == nil {
			r, err = c.r.Read()
		}
		if err == nil {
			err = r.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("SCRIPT LOAD: %w", err)
	}
	return c.nc.SetDeadline(time.Time{})
}

// Layout tells the version of the first master, and which master has which bucket.
func (s *session) Layout() (version string, masters int, byBucket []int) {
	return s.masters[0].at.version, len(s.masters), s.byBucket
}

// Command and Subscription write a command, which Flush sends.
func (s *session) Command(master int, args ...string) {
	p := s.masters[master]
	p.out.B = resp.AppendCommand(p.out.B, args...)
}

func (s *session) Subscription(master int, args ...string) {
	p := s.masters[master]
	p.subs.B = resp.AppendCommand(p.subs.B, args...)
}

// Waiting is how many bytes a master has not taken.
func (s *session) Waiting(master int) (commands, subscriptions int) {
	p := s.masters[master]
	return len(p.out.B) + p.commands.Send(nil), len(p.subs.B) + p.subscriptions.Send(nil)
}

// Flush gives what was written to the goroutines that send it.
func (s *session) Flush() {
	for _, p := range s.masters {
		p.commands.Send(p.out.B)
		p.subscriptions.Send(p.subs.B)
		p.out.Done()
		p.subs.Done()
	}
}

// Batches returns the sources of what the links receive.
func (s *session) Batches() (replies, pushes <-chan cluster.Batch) { return s.replies, s.pushes }

func (s *session) closeLinks() {
	for _, l := range s.links() {
		l.Close()
	}
}

// Fail ends the session, once.
func (s *session) Fail(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.failed)
		s.closeLinks()
	})
}

// Done is closed when the session has ended. Err says why.
func (s *session) Done() <-chan struct{} { return s.failed }

func (s *session) Err() error {
	if s.over() {
		return s.err
	}
	return nil
}

// Wait returns when the goroutines of a session that has ended have returned.
func (s *session) Wait() { s.running.Wait() }

// over says whether the session has ended.
func (s *session) over() bool {
	select {
	case <-s.failed:
		return true
	default:
		return false
	}
}

// --- Handing over ---
//
// A session that is held goes to another process: its sockets, and what was received on them and
// not read.

// links are the links that were made, in the order in which they are passed on.
func (s *session) links() (all []*resplink.Link) {
	for _, p := range s.masters {
		for _, l := range []*resplink.Link{p.commands, p.subscriptions} {
			if l != nil {
				all = append(all, l)
			}
		}
	}
	return all
}

// Hold, Held, Release and Pass are parts of cluster.Link.
func (s *session) Hold() {
	for _, l := range s.links() {
		l.Hold()
	}
}

func (s *session) Held() bool {
	return !slices.ContainsFunc(s.links(), func(l *resplink.Link) bool { return !l.Held() })
}

func (s *session) Release() {
	for _, l := range s.links() {
		l.Release()
	}
}

// where says which Redis this is, without secrets. A session stays only where this does not change.
func (o *redisOptions) where() string {
	text := fmt.Sprintln(o.address.Network, o.address.Address, o.address.Username, o.address.DB,
		o.address.TLS, o.service)
	for _, a := range slices.Concat(o.sentinels, o.nodes) {
		text += " " + a.Address
	}
	return text
}

func (s *session) Pass(to func(state []byte, fds []int) error) error {
	return resplink.Descriptors(s.links(), func(fds []int) error {
		v := resplink.Passed{Where: s.where, ByBucket: s.byBucket}
		for _, p := range s.masters {
			v.Masters = append(v.Masters, resplink.Master{Address: p.at.address,
				Version: p.at.version,
				Rests:   [2][]byte{p.commands.Rest(), p.subscriptions.Rest()}})
		}
		return to(v.Append(nil), fds)
	})
}

// Inherit is part of cluster.Dialer.
func (d *redisDialer) Inherit(state []byte, fds []int) (cluster.Link, error) {
	conns, err := resplink.Conns(fds)
	if err != nil {
		return nil, err
	}
	v, err := resplink.ParsePassed(state, len(conns))
	if err == nil && v.Where != d.options.where() {
		err = errors.New("where Redis is has changed; that takes a stop and a start")
	}
	if err != nil {
		for _, c := range conns {
			c.Close()
		}
		return nil, err
	}
	s := newSession(v.Where, v.ByBucket)
	for i, m := range v.Masters {
		link := func(k int) *resplink.Link {
			return resplink.New(poll.Quiet(conns[2*i+k]), m.Rests[k])
		}
		s.masters = append(s.masters, &masterLinks{commands: link(0), subscriptions: link(1),
			at: &redisConn{address: m.Address, version: m.Version}})
		a := d.options.address
		a.Network, a.Address = "tcp", m.Address
		d.known = append(d.known, a)
	}
	d.inherited = s
	return s, nil
}
