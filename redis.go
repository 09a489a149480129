package main

// Redis: where it is, how to talk to it, and what the nodes of a cluster tell each
// other through it. It knows topics, members and payloads, not connections; what to
// do with them it tells a replica (pusher.go).
//
// A node is this process; a lease is its life as the others see it. Every session with
// Redis is a new incarnation with an ID of its own, I: once its lease has run out it is
// dead for ever, so that nothing that was under way for it can do harm later.
//
// Keys, where P is REVERB_SCALING_CHANNEL and T stands for P:app:channel:
//
//	P:nodes             sorted set: I, and when its lease ends (milliseconds); negative:
//	                    since when somebody clears up after it
//	P:ready             sorted set: I, and when it last said that it has told everything
//	P:node:I:counts     hash: app, open connections
//	P:node:I:topics     set: topics in which I has members
//	P:node:I:dead       there when I is dead; its own scripts refuse
//	T:nodes             hash: I, subscriptions
//	T:users:I           set: users that I has
//	T:count             hash: user, incarnations that have it
//	T:members           hash: user, order ":" user_info
//	T:order             counter
//	T:cached            the last event of a cache channel
//
// Channels: T carries what everybody with members in T hears, P:node:I what one node
// alone hears, P:all what all nodes hear. Redis delivers to one connection in the
// order in which it executed the commands, whatever the channel: that is why the
// answer to a script that changes T comes back over P:node:I, and not as its reply.
//
// In Redis Cluster the topics are dealt out to buckets. P:{b} takes the place of P in
// every name that belongs to bucket b, so that what a script touches, and the channels
// it publishes on, share a slot; channels are sharded ones. Node-wide names are in
// bucket 0. Outside of a cluster there is one bucket, and no braces.
//
// What something else has written under a name of a topic costs that topic alone: its
// members hear all events, but of members only of those on their node, until it is gone. The
// nodes' own names are everybody's: without them there is no cluster.
//
// When Redis goes away, it does for all: events wait, or are counted as lost. A node
// that alone is cut off misses what others publish meanwhile, and nobody counts it: who
// has published cannot know. What the node itself publishes waits.
//
// Envelopes, version 1. A string of variable length is written as its length in
// decimal, a colon and its bytes. sum is the beginning of the SHA-1 of what follows,
// in hexadecimal: it keeps out strangers' mistakes, not their malice.
//
//	1 e sum(8) flags(1) node(8) number(8) except(8) payload   event
//	1 + sum(8) user info                                      first connection of a user
//	1 - sum(8) user                                           last one
//	1 m sum(8) token(8)                                       marker: what was asked is done, all
//	                                                          that was accepted before has come
//	1 s sum(8) token(8) cached {user order:info}              snapshot of a topic; likewise
//	1 t sum(8) app user                                       terminate connections
//	1 n sum(8) I                                              a node has become ready
//
// Sections:
//
//	Address     where Redis is
//	Dial        a connection that is ready for use
//	Topology    which of several Redis servers has what
//	Session     two links to each: commands, and what was subscribed to
//	Envelopes   what nodes tell each other
//	Scripts     what is done at once
//	Node        the goroutine that knows the cluster's state
//	Up and down what happens when Redis comes and goes
//	Incoming    replies, and what others have published
//	Events      what this node publishes
//	Topics      members come and go
//	Leases      nodes come and go
//	Queries     what the HTTP API asks

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	mrand "math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reverb/internal/poll"
	"reverb/internal/resp"
)

// --- Address ---

// redisAddress says where Redis is and how to log in.
type redisAddress struct {
	network  string // tcp or unix
	address  string // host:port, or a path
	username string
	password string
	db       int
	tls      bool
}

// redisParts are what REDIS_URL says in one, as Laravel keeps it in REDIS_HOST and its
// neighbours.
type redisParts struct {
	scheme     string // tcp, redis, tls, rediss, unix, or nothing
	host, path string // path counts with the scheme unix alone
	port       int    // 0: none
	username   string
	password   string
	db         int
}

var (
	errNoRedisPort = errors.New("Redis on a host has a port from 1 to 65535; give it, such as 6379, or the path of a Unix socket as host")
	errNoRedisPath = errors.New("with the scheme unix the path of a socket is needed; set REDIS_PATH, or give the path as host")
	errNotRedisURL = errors.New("not a URL; write redis://user:password@host:6379/0, special characters percent-encoded")
)

// parseRedisURL reads redis://[user[:password]@]host[:port][/db], with rediss or tls
// as scheme for TLS, or unix:///path?db=n (Laravel: Illuminate\Support\
// ConfigurationUrlParser). Its errors quote nothing that may be a password.
func parseRedisURL(s string) (redisAddress, error) {
	return redisParts{port: 6379}.parseURL(s)
}

// parseURL is parseRedisURL where the parts count for what the URL does not say.
func (p redisParts) parseURL(s string) (a redisAddress, err error) {
	u, err := url.Parse(s)
	if err != nil || u.Fragment != "" || strings.ContainsAny(u.RawQuery, "@?") {
		return a, errNotRedisURL
	}
	a = redisAddress{network: "tcp", username: p.username, password: p.password, db: p.db, tls: p.secure()}
	switch scheme := strings.ToLower(u.Scheme); {
	case scheme == "redis", scheme == "tcp":
	case scheme == "rediss", scheme == "tls":
		a.tls = true
	case scheme == "unix":
		a.network, a.address, a.tls = "unix", u.Path, false
	case !strings.Contains(s, "://"): // what looks like a scheme may be anything
		return a, errNotRedisURL
	default:
		return a, fmt.Errorf("the scheme %q is not known; redis, rediss, tls and unix are", u.Scheme)
	}
	if u.User != nil {
		a.username = u.User.Username()
		a.password, _ = u.User.Password()
	}
	db := strings.TrimPrefix(u.Path, "/")
	if a.network == "unix" {
		db = ""
	}
	if q := u.Query().Get("db"); q != "" {
		db = q
	}
	if db != "" {
		if a.db, err = strconv.Atoi(db); err != nil || a.db < 0 {
			return a, errors.New("the database is not a number; write redis://user:password@host:6379/0, special characters percent-encoded")
		}
	}
	if a.network == "unix" {
		if a.address == "" {
			return a, errNoRedisPath
		}
		return a, nil
	}
	if u.Hostname() == "" {
		return a, errors.New("the host is missing; write redis://host:6379")
	}
	port := u.Port()
	if port == "" {
		port = strconv.Itoa(p.port)
	}
	if port == "0" {
		return a, errNoRedisPort
	}
	a.address = net.JoinHostPort(u.Hostname(), port)
	return a, nil
}

// secure says whether the scheme asks for TLS.
func (p redisParts) secure() bool { return p.scheme == "tls" || p.scheme == "rediss" }

// parse says where the parts lead to. The host may be the path of a socket, and it may
// be a URL: with a scheme, with user and password, or with a database.
func (p redisParts) parse() (a redisAddress, err error) {
	host := p.host
	if p.scheme == "unix" && p.path != "" {
		host = p.path
	}
	path, unix := strings.CutPrefix(host, "unix:")
	switch unix = unix || strings.HasPrefix(host, "/"); {
	case p.scheme == "unix" && !unix:
		return a, errNoRedisPath
	case unix && strings.ContainsAny(host, "@?"):
		return p.parseURL("unix:" + path)
	case unix:
		return redisAddress{network: "unix", address: "/" + strings.TrimLeft(path, "/"), username: p.username, password: p.password, db: p.db}, nil
	}
	scheme, rest, ok := strings.Cut(host, "://")
	if !ok {
		scheme, rest = "redis", host
	}
	if ip := net.ParseIP(rest); ip != nil && strings.Contains(rest, ":") {
		rest = "[" + rest + "]"
	}
	if ok || strings.ContainsAny(rest, "@/?#") {
		return p.parseURL(scheme + "://" + rest)
	}
	if p.port == 0 {
		return a, errNoRedisPort
	}
	return redisAddress{"tcp", net.JoinHostPort(host, strconv.Itoa(p.port)), p.username, p.password, p.db, p.secure()}, nil
}

// --- Dial ---

// redisOptions says how to connect. It is constant.
type redisOptions struct {
	address   redisAddress
	sentinels []redisAddress // that know the master; then address says only how to log in
	service   string         // that the sentinels know
	cluster   []redisAddress // some nodes of a Redis Cluster; likewise
	secure    *tls.Config    // for addresses with tls
	name      string         // CLIENT SETNAME
	timeout   time.Duration  // of one attempt
}

const (
	redisOldest        = "6.2"
	redisOldestCluster = "7.0" // sharded publish and subscribe
	redisDialLimit     = 5 * time.Second
	redisReplyLimit    = 3 * time.Second // longer, and the session is given up
	sentinelPause      = time.Second     // before they are listened to again
	sentinelDoubt      = 10 * time.Second
)

// redisConn is one connection that has logged in.
type redisConn struct {
	nc      net.Conn
	address string
	r       *resp.Reader
	version string
}

// dialRedis connects to the one Redis that the options name: the address, or the
// master that the first sentinel that answers names. Errors name where, and never
// secrets.
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
		problems = append(problems, fmt.Errorf("the master that sentinel %s names: %w", s.address, err))
	}
	return nil, inOneLine(problems)
}

// inOneLine joins errors in one line; errors.Join takes one each.
func inOneLine(problems []error) error {
	texts := make([]string, len(problems))
	for i, err := range problems {
		texts[i] = err.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}

// askSentinel asks one sentinel where the master is (redis.io: Guidelines for Redis
// clients with support for Redis Sentinel).
func askSentinel(ctx context.Context, o *redisOptions, s redisAddress) (redisAddress, error) {
	c, err := openRedis(ctx, o, s)
	if err != nil {
		return redisAddress{}, fmt.Errorf("sentinel: %w", err)
	}
	defer c.nc.Close()
	r, err := c.do("SENTINEL", "get-master-addr-by-name", o.service)
	if err != nil {
		return redisAddress{}, fmt.Errorf("sentinel %s: %w", s.address, err)
	}
	if len(r.Items) != 2 {
		return redisAddress{}, fmt.Errorf("sentinel %s knows no service %q; set REVERB_REDIS_SERVICE", s.address, o.service)
	}
	a := o.address
	a.network, a.address = "tcp", net.JoinHostPort(r.Items[0].Text, r.Items[1].Text)
	return a, nil
}

// watchMaster ends a session when a sentinel names another master than the session's.
// The old one may not know: until it is told, ten seconds later or never, it takes what
// nobody else will see. It returns when the session is over.
func watchMaster(o *redisOptions, s *session) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { <-s.failed; cancel() }()
	for !s.over() {
		for _, a := range o.sentinels { // in the order of dialRedis
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

// heedSentinel listens to one sentinel until it has been silent for long. It fails when
// the sentinel does not answer.
func heedSentinel(ctx context.Context, o *redisOptions, a redisAddress, s *session) error {
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
		now, err := askSentinel(ctx, o, a) // after subscribing: nothing is missed
		if err != nil {
			return err
		}
		if now.address != s.shards[0].commands.c.address {
			if m, err := openMaster(ctx, o, now); err == nil { // else the sentinel is behind the times
				m.nc.Close()
				s.fail(fmt.Errorf("sentinel %s says that %s is the master now", a.address, now.address))
				return nil
			}
		}
		c.nc.SetReadDeadline(time.Now().Add(sentinelDoubt))
		if _, err := c.r.Read(); err != nil {
			return nil
		}
	}
}

// openMaster is openRedis for who must be a master.
func openMaster(ctx context.Context, o *redisOptions, a redisAddress) (*redisConn, error) {
	c, err := openRedis(ctx, o, a)
	if err != nil {
		return nil, err
	}
	role, err := c.do("ROLE")
	if err == nil && len(role.Items) > 0 && role.Items[0].Text == "master" {
		return c, nil
	}
	c.nc.Close()
	return nil, fmt.Errorf("Redis at %s is no master", a.address)
}

// openRedis connects to a and logs in, in o.timeout at most.
func openRedis(ctx context.Context, o *redisOptions, a redisAddress) (*redisConn, error) {
	within, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(within, a.network, a.address)
	if err != nil {
		return nil, fmt.Errorf("connect to Redis: %w", err)
	}
	nc = poll.Quiet(nc)
	if a.tls {
		config := o.secure.Clone()
		if host, _, err := net.SplitHostPort(a.address); err == nil && config.ServerName == "" {
			config.ServerName = host
		}
		secure := tls.Client(nc, config)
		if err := secure.HandshakeContext(within); err != nil {
			nc.Close()
			return nil, fmt.Errorf("TLS with Redis at %s: %w", a.address, err)
		}
		nc = secure
	}
	c := &redisConn{nc: nc, address: a.address, r: resp.NewReader(nc)}
	if deadline, ok := within.Deadline(); ok {
		nc.SetDeadline(deadline)
	}
	defer closeWhenDone(ctx, nc)()
	if err := c.login(a, o.name); err != nil {
		nc.Close()
		return nil, fmt.Errorf("Redis at %s: %w", a.address, err)
	}
	return c, nil
}

// closeWhenDone closes a connection as soon as ctx is done, so that nobody who stops has to
// wait for a silent Redis. The function that it returns calls this off.
func closeWhenDone(ctx context.Context, nc net.Conn) (off func() bool) {
	return context.AfterFunc(ctx, func() { nc.Close() })
}

// do sends a command and waits for its reply, until the deadline that openRedis set.
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
func (c *redisConn) login(a redisAddress, name string) error {
	hello := []string{"HELLO", "3"}
	if a.password != "" {
		user := a.username
		if user == "" {
			user = "default"
		}
		hello = append(hello, "AUTH", user, a.password)
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
	if c.version != "" && olderThan(c.version, redisOldest) {
		return fmt.Errorf("version %s is too old; %s or newer is needed", c.version, redisOldest)
	}
	if a.db != 0 {
		if _, err := c.do("SELECT", strconv.Itoa(a.db)); err != nil {
			return fmt.Errorf("database %d (REVERB_REDIS_DB or REDIS_DB): %w", a.db, err)
		}
	}
	if name != "" {
		_, err := c.do("CLIENT", "SETNAME", name)
		if errors.As(err, &refused) {
			err = nil // it is for people who look at CLIENT LIST; an ACL may forbid it
		}
		return err
	}
	return nil
}

// loginOld tells what is too old for HELLO, or has refused it, from a wrong password.
func (c *redisConn) loginOld(a redisAddress, hello error) error {
	if a.password != "" {
		auth := []string{"AUTH", a.password}
		if a.username != "" {
			auth = []string{"AUTH", a.username, a.password}
		}
		if _, err := c.do(auth...); err != nil {
			return loginError(err)
		}
	}
	info, err := c.do("INFO", "server")
	if err != nil {
		return loginError(err)
	}
	_, rest, ok := strings.Cut(info.Text, "redis_version:")
	version, _, _ := strings.Cut(rest, "\r\n")
	if ok && olderThan(version, redisOldest) {
		return fmt.Errorf("version %s is too old; %s or newer is needed", version, redisOldest)
	}
	return hello
}

// loginError says what to do about a refusal.
func loginError(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "NOAUTH"):
		return errors.New("it wants a password; set REVERB_REDIS_PASSWORD (or REDIS_PASSWORD)")
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "invalid password"):
		return errors.New("it refuses the user or the password; compare REVERB_REDIS_USERNAME and REVERB_REDIS_PASSWORD (or REDIS_USERNAME and REDIS_PASSWORD)")
	}
	return err
}

// olderThan compares versions such as 6.2.1 by their numbers.
func olderThan(version, oldest string) bool {
	v, o := strings.Split(version, "."), strings.Split(oldest, ".")
	for i := range min(len(v), len(o)) {
		a, errA := strconv.Atoi(v[i])
		b, errB := strconv.Atoi(o[i])
		if errA != nil || errB != nil {
			return false
		}
		if a != b {
			return a < b
		}
	}
	return false
}

// loadRedisTLS makes the TLS settings of the link to Redis. Empty files stand for the
// system's authorities and for no certificate of our own.
func loadRedisTLS(caFile, certFile, keyFile, serverName string, read func(string) ([]byte, error)) (*tls.Config, error) {
	config := &tls.Config{ServerName: serverName}
	if caFile != "" {
		b, err := read(caFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", caFile)
		}
	}
	if certFile == "" {
		return config, nil
	}
	cert, err := read(certFile)
	if err != nil {
		return nil, err
	}
	key := cert
	if keyFile != "" {
		if key, err = read(keyFile); err != nil {
			return nil, err
		}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// --- Topology ---

// clusterBuckets is how many groups the topics of a Redis Cluster are dealt out to. All
// nodes must agree on it.
const clusterBuckets = 256

// topology says which server has which bucket.
type topology struct {
	masters  []redisAddress
	byBucket []int // index in masters
}

// bucketTag is what stands between a prefix and the names of a bucket.
func bucketTag(bucket int) string { return ":{" + strconv.Itoa(bucket) + "}" }

// askCluster asks the nodes in at, one after the other, for the masters and their
// slots.
func askCluster(ctx context.Context, o *redisOptions, at []redisAddress) (topology, error) {
	var problems []error
	for _, a := range at {
		c, err := openRedis(ctx, o, a)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		r, err := c.do("CLUSTER", "SLOTS")
		c.nc.Close()
		if err == nil && olderThan(c.version, redisOldestCluster) {
			err = fmt.Errorf("version %s is too old for REVERB_REDIS_CLUSTER; %s or newer is needed", c.version, redisOldestCluster)
		}
		var t topology
		if err == nil {
			t, err = parseTopology(r, a)
		}
		if err == nil {
			return t, nil
		}
		var refused resp.ReplyError
		if errors.As(err, &refused) && strings.Contains(string(refused), "cluster support disabled") {
			err = errors.New("it is no Redis Cluster; give its address in REVERB_REDIS_HOST and unset REVERB_REDIS_CLUSTER")
		}
		problems = append(problems, fmt.Errorf("Redis at %s: %w", a.address, err))
	}
	return topology{}, inOneLine(problems)
}

// parseTopology reads the reply to CLUSTER SLOTS that a has given: ranges of slots,
// each with its master first. A master without a host is where a is.
func parseTopology(r resp.Reply, a redisAddress) (t topology, err error) {
	here, _, err := net.SplitHostPort(a.address)
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
		m.address = net.JoinHostPort(host, strconv.FormatInt(port, 10))
		i := slices.Index(t.masters, m)
		if i < 0 {
			i = len(t.masters)
			t.masters = append(t.masters, m)
		}
		for slot := first; slot <= last; slot++ {
			owner[slot] = i + 1
		}
	}
	for b := range clusterBuckets {
		slot := resp.Slot(bucketTag(b))
		if owner[slot] == 0 {
			return topology{}, fmt.Errorf("slot %d of the cluster is served by nobody", slot)
		}
		t.byBucket = append(t.byBucket, owner[slot]-1)
	}
	return t, nil
}

// probeRedis connects as a node would and says what it has found, for people.
func probeRedis(ctx context.Context, o *redisOptions) (string, error) {
	if len(o.cluster) == 0 {
		c, err := dialRedis(ctx, o)
		if err != nil {
			return "", err
		}
		defer c.nc.Close()
		begun := time.Now()
		if _, err := c.do("PING"); err != nil {
			return "", err
		}
		return fmt.Sprintf("Redis %s at %s answers in %v", c.version, c.nc.RemoteAddr(), time.Since(begun).Round(10*time.Microsecond)), nil
	}
	t, err := askCluster(ctx, o, o.cluster)
	if err != nil {
		return "", err
	}
	for _, m := range t.masters {
		c, err := openRedis(ctx, o, m)
		if err != nil {
			return "", err
		}
		c.nc.Close()
	}
	return fmt.Sprintf("all %d masters of the Redis Cluster answer", len(t.masters)), nil
}

// --- Session ---

const (
	maxLinkBytes = 64 << 20 // that wait for Redis to take them
	batchReplies = 256
)

// session is what connects a node to Redis: a pair of links to every master. They live
// and die together: what one of them has missed, the others cannot know.
type session struct {
	shards          []*shardLinks
	byBucket        []*shardLinks
	replies, pushes chan linkBatch
	once            sync.Once
	failed          chan struct{} // closed when any has failed
	err             error         // why; written before failed is closed
	running         sync.WaitGroup
}

// shardLinks are the links to one master.
type shardLinks struct {
	// constant
	commands, subscriptions *link

	// owned by the node's goroutine
	sent      []func(resp.Reply, error) // commands whose replies are to come; nil: nobody asks
	bulk      int                       // of them, those of bulk work
	out, subs []byte                    // to be handed to the links at the end of the turn
	replied   time.Time                 // last reply, or the first command without one
	heard     time.Time                 // last bytes on the link that was subscribed with
}

// linkBatch is what one link has received.
type linkBatch struct {
	from    *shardLinks
	replies []resp.Reply
}

// link is one connection: one goroutine reads, one writes.
type link struct {
	c    *redisConn
	wake chan struct{}

	mu      sync.Mutex
	out     []byte // waits for its turn
	writing int    // bytes that were taken from it and are being written
}

func newLink(c *redisConn) *link {
	c.nc.SetDeadline(time.Time{})
	return &link{c: c, wake: make(chan struct{}, 1)}
}

// dialSession connects to everything that the options and known, masters of before,
// lead to. scripts are loaded everywhere.
func dialSession(ctx context.Context, o *redisOptions, known []redisAddress, scripts []*script) (s *session, masters []redisAddress, err error) {
	t := topology{masters: []redisAddress{o.address}, byBucket: []int{0}}
	dial := func(int) (*redisConn, error) { return dialRedis(ctx, o) }
	if len(o.cluster) > 0 {
		if t, err = askCluster(ctx, o, append(slices.Clone(o.cluster), known...)); err != nil {
			return nil, nil, err
		}
		dial = func(i int) (*redisConn, error) { return openRedis(ctx, o, t.masters[i]) }
	}
	s = &session{replies: make(chan linkBatch, 16), pushes: make(chan linkBatch, 16), failed: make(chan struct{})}
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
		p := &shardLinks{commands: newLink(c)}
		s.shards = append(s.shards, p)
		if err = c.load(ctx, scripts, o.timeout); err != nil {
			return nil, nil, err
		}
		if c, err = dial(i); err != nil {
			return nil, nil, err
		}
		p.subscriptions = newLink(c)
	}
	for _, i := range t.byBucket {
		s.byBucket = append(s.byBucket, s.shards[i])
	}
	for _, p := range s.shards {
		s.running.Go(func() { s.fail(p.commands.read(p, s.failed, s.replies)) })
		s.running.Go(func() { s.fail(p.commands.write(s.failed)) })
		s.running.Go(func() { s.fail(p.subscriptions.read(p, s.failed, s.pushes)) })
		s.running.Go(func() { s.fail(p.subscriptions.write(s.failed)) })
	}
	if len(o.cluster) == 0 && len(o.sentinels) > 0 {
		go watchMaster(o, s)
	}
	return s, t.masters, nil
}

// load loads scripts, all in one round trip.
func (c *redisConn) load(ctx context.Context, scripts []*script, timeout time.Duration) error {
	c.nc.SetDeadline(time.Now().Add(timeout))
	defer closeWhenDone(ctx, c.nc)()
	var b []byte
	for _, sc := range scripts {
		b = resp.AppendCommand(b, "SCRIPT", "LOAD", sc.text)
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

// version is that of the first server.
func (s *session) version() string { return s.shards[0].commands.c.version }

func (s *session) closeLinks() {
	for _, p := range s.shards {
		for _, l := range []*link{p.commands, p.subscriptions} {
			if l != nil {
				l.c.nc.Close()
			}
		}
	}
}

// fail ends the session, once.
func (s *session) fail(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.failed)
		s.closeLinks()
	})
}

// over says whether the session has ended.
func (s *session) over() bool {
	select {
	case <-s.failed:
		return true
	default:
		return false
	}
}

// read passes replies on, as many at once as have come.
func (l *link) read(from *shardLinks, failed <-chan struct{}, to chan<- linkBatch) error {
	for {
		var batch []resp.Reply
		for len(batch) == 0 || len(batch) < batchReplies && l.c.r.Buffered() > 0 {
			r, err := l.c.r.Read()
			if err != nil {
				return fmt.Errorf("read from Redis: %w", err)
			}
			batch = append(batch, r)
		}
		select {
		case to <- linkBatch{from, batch}:
		case <-failed:
			return nil
		}
	}
}

// send queues bytes and says how many wait now.
func (l *link) send(b []byte) int {
	l.mu.Lock()
	l.out = append(l.out, b...)
	n := len(l.out) + l.writing
	l.mu.Unlock()
	if len(b) > 0 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return n
}

func (l *link) write(failed <-chan struct{}) error {
	var b []byte
	for {
		select {
		case <-failed:
			return nil
		case <-l.wake:
		}
		l.mu.Lock()
		b, l.out = l.out, b[:0]
		l.writing = len(b)
		l.mu.Unlock()
		l.c.nc.SetWriteDeadline(time.Now().Add(redisReplyLimit))
		if _, err := l.c.nc.Write(b); err != nil {
			return fmt.Errorf("write to Redis: %w", err)
		}
		l.mu.Lock()
		l.writing = 0
		l.mu.Unlock()
		if cap(b) > 1<<20 {
			b = nil
		}
	}
}

// --- Envelopes ---

const envelopeVersion = 1

type envelopeKind byte

const (
	envelopeEvent     envelopeKind = 'e'
	envelopeAdded     envelopeKind = '+'
	envelopeRemoved   envelopeKind = '-'
	envelopeMarker    envelopeKind = 'm'
	envelopeSnapshot  envelopeKind = 's'
	envelopeTerminate envelopeKind = 't'
	envelopeReady     envelopeKind = 'n'
)

// envelope is what one node tells others. Which fields count depends on the kind.
type envelope struct {
	kind     envelopeKind
	remember bool   // event: keep it for those who come later
	again    bool   // event: sent before, perhaps in vain
	node     uint64 // event: who published it
	number   uint64 // event: ascending for each node
	except   uint64 // event: socket that shall not get it; 0: none
	token    uint64 // marker, snapshot: what it answers
	payload  string // event; snapshot: the cached event
	life     int    // snapshot: milliseconds for which that is still to be kept
	app      string // terminate
	user     string // added, removed, terminate
	info     string // added
	id       string // ready
	members  []clusterMember
}

// clusterMember is a user of a presence topic. Members are ordered by order.
type clusterMember struct {
	user, info string
	order      int
}

func appendNetstring(b []byte, s string) []byte {
	return append(append(strconv.AppendInt(b, int64(len(s)), 10), ':'), s...)
}

func cutNetstring(b string) (s, rest string, ok bool) {
	digits, _, ok := strings.Cut(b[:min(len(b), 12)], ":")
	n, err := strconv.ParseUint(digits, 10, 32)
	rest = b[min(len(b), len(digits)+1):]
	if !ok || err != nil || uint64(len(rest)) < n {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}

func appendEnvelope(b []byte, e *envelope) []byte {
	b = append(b, envelopeVersion, byte(e.kind))
	b = append(b, "        "...)
	begin := len(b)
	switch e.kind {
	case envelopeEvent:
		flags := byte(0)
		if e.remember {
			flags |= 1
		}
		if e.again {
			flags |= 2
		}
		b = append(b, flags)
		for _, n := range []uint64{e.node, e.number, e.except} {
			b = binary.BigEndian.AppendUint64(b, n)
		}
		b = append(b, e.payload...)
	case envelopeAdded:
		b = appendNetstring(appendNetstring(b, e.user), e.info)
	case envelopeRemoved:
		b = appendNetstring(b, e.user)
	case envelopeMarker:
		b = binary.BigEndian.AppendUint64(b, e.token)
	case envelopeSnapshot:
		b = appendNetstring(binary.BigEndian.AppendUint64(b, e.token), strconv.Itoa(e.life)+":"+e.payload)
		for _, m := range e.members {
			b = appendNetstring(appendNetstring(b, m.user), strconv.Itoa(m.order)+":"+m.info)
		}
	case envelopeTerminate:
		b = appendNetstring(appendNetstring(b, e.app), e.user)
	case envelopeReady:
		b = appendNetstring(b, e.id)
	}
	sum := envelopeSum(b[begin:])
	copy(b[begin-len(sum):], sum[:])
	return b
}

// envelopeSum is what redis.sha1hex in Lua gives, cut to 8 digits.
func envelopeSum(body []byte) (digits [8]byte) {
	sum := sha1.Sum(body)
	hex.Encode(digits[:], sum[:4])
	return digits
}

// errEnvelopeVersion is a well-meant envelope of a program that knows more.
var errEnvelopeVersion = errors.New("an envelope of another version")

var errEnvelope = errors.New("not an envelope")

// parseEnvelope reads an envelope. What is wrong with it stops nobody: it is counted
// and skipped.
func parseEnvelope(b string) (e envelope, err error) {
	if len(b) < 2 {
		return e, errEnvelope
	}
	if b[0] != envelopeVersion {
		return e, errEnvelopeVersion
	}
	if !strings.ContainsRune("e+-mstn", rune(b[1])) {
		return e, errEnvelopeVersion
	}
	if len(b) < 10 {
		return e, errEnvelope
	}
	if sum := envelopeSum([]byte(b[10:])); string(sum[:]) != b[2:10] {
		return e, errEnvelope
	}
	e.kind, b = envelopeKind(b[1]), b[10:]
	ok := true
	number := func() (n uint64) {
		if ok = ok && len(b) >= 8; ok {
			n, b = binary.BigEndian.Uint64([]byte(b[:8])), b[8:]
		}
		return n
	}
	text := func() (s string) {
		if ok {
			s, b, ok = cutNetstring(b)
		}
		return s
	}
	switch e.kind {
	case envelopeEvent:
		if len(b) == 0 {
			return e, errEnvelope
		}
		if b[0]&^3 != 0 {
			return e, errEnvelope
		}
		e.remember, e.again, b = b[0]&1 != 0, b[0]&2 != 0, b[1:]
		e.node, e.number, e.except = number(), number(), number()
		e.payload, b = b, ""
	case envelopeAdded:
		e.user, e.info = text(), text()
	case envelopeRemoved:
		e.user = text()
	case envelopeMarker:
		e.token = number()
	case envelopeSnapshot:
		e.token = number()
		life, payload, found := strings.Cut(text(), ":")
		var bad error
		e.life, bad = strconv.Atoi(life)
		e.payload, ok = payload, ok && found && bad == nil
		for ok && len(b) > 0 {
			m := clusterMember{user: text()}
			order, info, found := strings.Cut(text(), ":")
			var bad error
			if m.order, bad = strconv.Atoi(order); !ok || !found || bad != nil {
				continue // no node has written this in the hash of members
			}
			m.info = info
			e.members = append(e.members, m)
		}
	case envelopeTerminate:
		e.app, e.user = text(), text()
	case envelopeReady:
		e.id = text()
	}
	if !ok || len(b) > 0 {
		return envelope{}, errEnvelope
	}
	return e, nil
}

// --- Scripts ---

// script is a Lua script that Redis runs as one command.
type script struct {
	name, text, sha string
	ofTopic         bool // it works on one topic: what is wrong with that one's keys costs no other
}

// scripts are all of them. In a Redis Cluster they publish on sharded channels.
type scripts struct {
	sync, present, absent, leave, subscriptions, bury, cached, renew, forget, count script
}

func (s *scripts) all() []*script {
	return []*script{&s.sync, &s.present, &s.absent, &s.leave, &s.subscriptions, &s.bury, &s.cached, &s.renew, &s.forget, &s.count}
}

// luaPublish publishes an envelope.
const luaPublish = `
local function ns(s) return #s .. ':' .. s end
local function publish(channel, kind, body)
  redis.call('PUBLISH', channel, '\1' .. kind .. string.sub(redis.sha1hex(body), 1, 8) .. body)
end
`

// luaNaming is the body of a script. When a command fails because something else has
// written one of the first keys, the error names that key: kinds are the types, quoted, that
// this program gives them.
func luaNaming(kinds, body string) string {
	return `
local ok, done = pcall(function()` + body + `
end)
if ok then return done end
for i, kind in ipairs({` + kinds + `}) do
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= 'none' and is ~= kind then
    return redis.error_reply('WRONGTYPE the key ' .. KEYS[i] .. ' is a ' .. is .. ', not a ' .. kind)
  end
end
if type(done) == 'table' then return done end
return redis.error_reply(string.match(done, '^%u+ .*') or 'ERR ' .. done)`
}

// topicKinds are the types of topicKeys, as luaNaming wants them.
const topicKinds = `'hash', 'set', 'hash', 'hash', 'string', 'string', 'set'`

// luaTopic holds what scripts about one topic share. KEYS are those of topicKeys;
// ARGV[1] is the incarnation, ARGV[2] the topic's channel, ARGV[3] the node's own.
//
// A command that may fail on what something else has written comes before the first that
// cannot be repeated. So a script that has failed may be run again.
const luaTopic = luaPublish + `
redis.call('HLEN', KEYS[4])
local function present(user, info)
  if redis.call('SISMEMBER', KEYS[2], user) == 1 then return end
  local order = redis.call('INCR', KEYS[5])
  if redis.call('HINCRBY', KEYS[3], user, 1) == 1 then
    redis.call('HSET', KEYS[4], user, order .. ':' .. info)
    publish(ARGV[2], '+', ns(user) .. ns(info))
  end
  redis.call('SADD', KEYS[2], user)
end
local function absent(user)
  if redis.call('SISMEMBER', KEYS[2], user) == 0 then return end
  if redis.call('HINCRBY', KEYS[3], user, -1) <= 0 then
    redis.call('HDEL', KEYS[3], user)
    redis.call('HDEL', KEYS[4], user)
    publish(ARGV[2], '-', ns(user))
  end
  redis.call('SREM', KEYS[2], user)
end
local function leave(topic)
  for _, user in ipairs(redis.call('SMEMBERS', KEYS[2])) do absent(user) end
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('SREM', KEYS[7], topic)
  if redis.call('HLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1], KEYS[3], KEYS[4], KEYS[5]) end
end
`

// luaFenced is the error of a script of an incarnation that is dead.
const luaFenced = `redis.error_reply('FENCED the lease of this node has run out')`

// luaFence refuses to work for the dead.
const luaFence = `
if redis.call('EXISTS', KEYS[8]) == 1 then return ` + luaFenced + ` end
`

// luaNow is the time of Redis in milliseconds.
const luaNow = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
`

// newScripts makes the scripts for one server or, sharded, for a cluster.
func newScripts(sharded bool) *scripts {
	made := func(name, text string) script {
		if sharded {
			text = strings.ReplaceAll(text, "'PUBLISH'", "'SPUBLISH'")
		}
		sum := sha1.Sum([]byte(text))
		return script{name: name, text: text, sha: hex.EncodeToString(sum[:])}
	}
	about := func(name, text string) script {
		s := made(name, luaNaming(topicKinds, text))
		s.ofTopic = true
		return s
	}
	return &scripts{
		// sync states what this node has in a topic and answers with a snapshot. ARGV: 4
		// topic, 5 subscriptions, 6 token, 7 "1" for a cache channel, then users and their
		// user_info in turn.
		sync: about("sync", luaTopic+luaFence+`
redis.call('SADD', KEYS[7], ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
local wanted = {}
for i = 8, #ARGV, 2 do wanted[ARGV[i]] = true end
for _, user in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if not wanted[user] then absent(user) end
end
for i = 8, #ARGV, 2 do present(ARGV[i], ARGV[i+1]) end
local cached = ARGV[7] == '1' and redis.call('GET', KEYS[6])
local out = {ARGV[6], ns(cached and redis.call('PTTL', KEYS[6]) .. ':' .. cached or '0:')}
for _, s in ipairs(redis.call('HGETALL', KEYS[4])) do out[#out+1] = ns(s) end
publish(ARGV[3], 's', table.concat(out))
return 1`),

		// present adds a user of this node. ARGV: 4 token, 5 user, 6 user_info.
		present: about("present", luaTopic+luaFence+`
present(ARGV[5], ARGV[6])
publish(ARGV[3], 'm', ARGV[4])
return 1`),

		// absent removes a user of this node. ARGV: 4 user.
		absent: about("absent", luaTopic+luaFence+`absent(ARGV[4]) return 1`),

		// leave says that this node has nobody left in a topic. ARGV: 4 topic.
		leave: about("leave", luaTopic+luaFence+`leave(ARGV[4]) return 1`),

		// subscriptions states how many members this node has. ARGV: 4 how many.
		subscriptions: about("subscriptions", luaFence+`redis.call('HSET', KEYS[1], ARGV[1], ARGV[4]) return 1`),

		// bury is leave for an incarnation that is dead.
		bury: about("bury", luaTopic+`leave(ARGV[4]) return 1`),

		// cached publishes the event of a cache channel and keeps it. KEYS: 1 the cached
		// event. ARGV: 1 channel, 2 envelope, 3 event, 4 seconds to keep it.
		cached: made("cached", `
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return redis.call('PUBLISH', ARGV[1], ARGV[2])`),

		// renew renews the lease. KEYS: 1 the incarnations, 2 those that are ready. ARGV: 1
		// incarnation, 2 milliseconds, 3 "first", "ready" or "", 4 "1" to take on dead ones
		// that nobody clears up after, 5 milliseconds after which who does so is given up,
		// 6 a time, 7 the channel on which all learn who has become ready. It answers with the dead ones taken on, with who has said since that
		// time that it is ready, and with the time.
		renew: made("renew", luaNaming(`'zset', 'zset'`, luaPublish+luaNow+`
if ARGV[3] ~= 'first' and tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) <= now then return `+luaFenced+` end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if ARGV[3] == 'ready' and redis.call('ZADD', KEYS[2], now, ARGV[1]) == 1 then publish(ARGV[7], 'n', ns(ARGV[1])) end
local dead = {}
if ARGV[4] == '1' then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    local taken = tonumber(redis.call('ZSCORE', KEYS[1], id))
    if taken >= 0 or now + taken > tonumber(ARGV[5]) then
      redis.call('ZADD', KEYS[1], -now, id)
      dead[#dead+1] = id
    end
  end
end
return {dead, redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[6], '+inf'), now}`)),

		// forget removes what is left of a dead incarnation. KEYS: 1 the incarnations, 2
		// those that are ready, 3 its counts. ARGV: 1 incarnation.
		forget: made("forget", `
redis.call('DEL', KEYS[3])
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])`),

		// count states how many connections this node has of an app and answers how many
		// all have. KEYS: 1 the incarnations, 2 this one's counts. ARGV: 1 app, 2
		// connections, 3 incarnation, 4 what the keys of counts begin with. Of the
		// incarnations of one process the latest counts.
		count: made("count", luaNaming(`'zset', 'hash'`, luaNow+`
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[3]) or 0) <= now then return `+luaFenced+` end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local latest, numbers = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  local process, incarnation = string.match(id, '^(.-)%-(%d+)$')
  local number = redis.pcall('HGET', ARGV[4] .. id .. ':counts', ARGV[1])
  number = type(number) == 'string' and tonumber(number) -- else a stranger's
  if process and number and tonumber(incarnation) >= (latest[process] or 0) then
    latest[process], numbers[process] = tonumber(incarnation), number
  end
end
local sum = 0
for _, number in pairs(numbers) do sum = sum + number end
return sum`)),
	}
}

// --- Node ---

const (
	leaseTime        = 10 * time.Second // of a node that is not heard of
	leaseInterval    = 500 * time.Millisecond
	peersGrace       = 5 * time.Second       // after Redis is back: for the others to come back too
	undertakerTime   = 10 * time.Second      // for one node to clear up after another
	deadTime         = 24 * time.Hour        // for which a dead incarnation is known as such
	maxBacklog       = 64 << 20              // bytes of events that Redis has not taken
	maxInflight      = 16 << 20              // bytes of events on their way to Redis, see behind
	maxInbox         = 1 << 16               // pieces of work; likewise
	topicRetry       = 5 * time.Second       // after which a topic that Redis holds something foreign for is tried again
	maxTroubled      = 1 << 16               // such topics; with more of them the session is given up
	bulkCommands     = 512                   // of bulk work that may wait for their answers
	bulkLeast        = 32                    // likewise, when the link is full
	bulkBytes        = 1 << 20               // that may wait for the link
	maxSeen          = 1 << 17               // publishers whose last number is kept
	recentTime       = 50 * time.Millisecond // how much later than another a node may learn that Redis is away
	recentTimeMany   = time.Second           // likewise that one master of several is: the others, or the old one, take events meanwhile
	maxRecent        = 4096                  // events in each half of what a bucket keeps for that
	maxRecentMany    = 512
	cachedSeconds    = 30 * 60
	redisBackoffLow  = 50 * time.Millisecond
	redisBackoffHigh = 500 * time.Millisecond // well below peersGrace
	startPatience    = 500 * time.Millisecond // for which new members wait for the first session; then they are served alone
	tellAgain        = 10 * time.Second       // after which the log repeats that, and why, Redis is away
	redisSteady      = 5 * time.Second        // a session that lasted was a success
)

// errRedisAway is told to who asks something that only Redis knows.
var errRedisAway = errors.New("Redis is not reachable")

// replica is this node's own part of the cluster: it has the members. All methods but
// connections are called by the node's goroutine, in the order in which Redis has put
// things.
type replica interface {
	// deliver gives an event to the members of a topic, but not to the one whose
	// socket is except.
	deliver(topic, payload string, except uint64, remember bool)
	// remember keeps an event that was delivered as the last of a cache channel.
	remember(topic, payload string)
	// added and removed tell the members that a user has come or gone. info is JSON,
	// or empty.
	added(topic, user, info string)
	removed(topic, user string)
	// snapshot says who is there, in order, and what is cached, without telling
	// anybody.
	snapshot(topic string, users, infos []string, cached string, life time.Duration)
	dropped(topic string) // this node has nobody in it any more
	terminateUser(app, user string)
	overloaded() bool             // it takes no more events for now
	connections(app string) int64 // open ones, here
}

// nodeCounters tell how a node gets on with Redis and the others.
type nodeCounters struct {
	up, live                                 atomic.Bool
	reconnects, published, received          atomic.Uint64
	lost, uncertain, malformed, unknown, dup atomic.Uint64
	backlog                                  atomic.Int64 // bytes
	troubled                                 atomic.Int64 // topics that Redis holds something foreign for
}

// node is this process as part of a cluster. One goroutine owns everything that
// changes; others hand it work with post.
type node struct {
	// constant
	number   uint64 // of this process
	options  *redisOptions
	prefix   string // of all names
	scripts  *scripts
	patience time.Duration // how long an event waits for Redis to come back
	recent   time.Duration // see recentTime
	keep     int           // see maxRecent
	replica  replica
	log      *slog.Logger
	counters nodeCounters
	up       chan *session
	wake     chan struct{}
	stop     context.CancelFunc
	running  sync.WaitGroup

	// owned by the goroutine
	id            string   // of this incarnation
	incarnations  uint64   // so far
	former        []string // of them, those that nobody has cleared up after
	buckets       []bucket
	own           map[string]bool // this incarnation's own channels
	session       *session        // nil: Redis is away
	upAt          time.Time       // when it began; before the first, when the node was started
	upAtRedis     int64           // the same, by the clock of Redis, in milliseconds
	redisTime     int64           // when the lease was last renewed, by the same clock
	registered    bool            // its lease is held
	topics        map[string]*topic
	byChannel     map[string]*topic
	subscribing   map[string][]*awaited // confirmations to come, by channel
	unsubscribing map[string]int        // the same for leaving it
	apps          map[string]bool       // that have had connections here
	countsDirty   map[string]bool       // of them, those whose number Redis does not know
	tokens        uint64
	markers       map[uint64]marker
	awaited       []*awaited          // what Redis shall send by itself, in the order in which it was asked
	asking        []int               // buckets for which this turn asks for a marker, see joinBehind
	snapshot      *envelope           // while its marker is handled
	troubled      map[string]bool     // topics that Redis holds something foreign for: whether they wait in troubles, or are being tried again
	troubles      []trouble           // in the order in which they are tried again
	strangers     bool                // Laravel Reverb was seen, and the log says so
	now           time.Time           // when the turn began
	seen          map[sequence]uint64 // the highest number of each
	backlog       []*outgoing         // waits for Redis to come back, or for room
	bulk          []bulkJob           // waits for room
	inBulk        bool                // one of them is being run
	burying       map[string]bool     // dead incarnations
	backlogSize   int
	peers         map[string]bool // processes that were ready when this node last was live
	back          map[string]bool // of them and others, those that have been since the session began
	syncing       int             // topics from before Redis was away that are not in step yet
	held          time.Time       // when the replica last took no more
	turned        time.Time       // when recent was
	starting      bool            // and Redis has not been reached yet: new members wait, see startPatience
	stopping      bool
	toldWhy       string    // the log says this of the end of a session
	toldAway      time.Time // since then
	flapping      bool      // the last session ended for the same reason soon after: the log does not repeat it

	mu      sync.Mutex
	inbox   []func()
	waiting atomic.Int64 // length of inbox

	inflight atomic.Int64 // bytes of events that Redis has not accepted
	unsent   atomic.Int64 // bytes that wait on the links for commands
}

// bucket is a group of topics that are on one server.
type bucket struct {
	base    string // of the names of its keys
	own     string // channel of this incarnation
	numbers uint64 // of the events that this node has published on its topics
	pending []*outgoing
	recent  [2][]*outgoing // settled since recent was last turned, and in the time before
	token   uint64         // of the marker that this turn asks for; 0: of none
	joining []*topic       // whose new members wait for it
}

// awaited is something for which Redis has been asked, and which it sends on the link of
// subscriptions: a confirmation or a marker. If it does not come, Redis is asked again, and
// if it does not come then, the session is given up.
type awaited struct {
	at    time.Time // when Redis was asked, or has said that it has done it
	again bool      // it was asked twice
	came  bool      // or is not wanted any more
	ask   func()
}

// marker is a token that is to come back, and what is to be done then.
type marker struct {
	*awaited
	then func()
}

// trouble is a topic that Redis holds something foreign for, and when to try again.
type trouble struct {
	topic string
	at    time.Time
}

// bulkJob is one of very many pieces of work, see later.
type bulkJob struct {
	bucket int
	run    func()
}

// sequence names who counts events: a node, for each bucket apart.
type sequence struct {
	node   uint64
	bucket int
}

// outgoing is an event on its way. Those of a bucket are sent in the order of their
// numbers.
type outgoing struct {
	topic     string
	payload   string
	bucket    int
	except    uint64
	remember  bool
	number    uint64
	at        time.Time // of publishing
	sent      time.Time
	again     bool // it was sent before
	delivered bool // here
	echoes    bool // it comes back, because this node was subscribed when it was sent
	echoed    bool // and has done so
	accepted  bool // by Redis, or given up
	finished  bool
	done      func(error) // nil: nobody asks
}

// settled says that nothing more is to come.
func (o *outgoing) settled() bool { return o.accepted && (o.echoed || !o.echoes) }

type topicState uint8

const (
	topicDetached    topicState = iota // Redis is away or has not been told
	topicSubscribing                   // SUBSCRIBE is sent
	topicSyncing                       // subscribed; the snapshot is to come
	topicAlone                         // subscribed; Redis holds something foreign under its name
	topicActive
)

// topic is a channel of an app in which this node has members.
type topic struct {
	name, channel string
	bucket        int
	cache         bool
	state         topicState
	subscriptions int
	dirty         bool // subscriptions is not what Redis was told
	counted       bool // in node.syncing
	users         map[string]*topicUser
	view          map[string]clusterMember // who the members here think is there; presence only
	missing       map[string]bool          // of them, those whose node may yet come back; see goLive
	order         int                      // of the member that came last
	waiting       []waiter
	behind        []waiter  // for a marker, by token
	kept          *outgoing // the last event to be remembered, as long as Redis does not have it
}

// topicUser is a user of this node.
type topicUser struct {
	info          string
	subscriptions int
	told          bool // Redis has been told, or is being told
	present       bool // and has confirmed
	waiting       []func()
}

// waiter is a subscription that waits for its topic.
type waiter struct {
	user  string
	ready func()
	late  bool   // it came when the snapshot had been asked for
	token uint64 // of the marker that it waits for
}

func newNode(options *redisOptions, prefix string, patience time.Duration, log *slog.Logger) *node {
	var b [8]byte
	rand.Read(b[:]) // never fails
	n := &node{
		number: binary.BigEndian.Uint64(b[:]), options: options, prefix: prefix, scripts: newScripts(len(options.cluster) > 0), patience: patience, recent: recentTime, keep: maxRecent, log: log,
		up: make(chan *session), wake: make(chan struct{}, 1), buckets: []bucket{{base: prefix + ":"}},
		topics: map[string]*topic{}, byChannel: map[string]*topic{}, subscribing: map[string][]*awaited{}, unsubscribing: map[string]int{}, apps: map[string]bool{}, countsDirty: map[string]bool{},
		markers: map[uint64]marker{}, troubled: map[string]bool{}, seen: map[sequence]uint64{}, peers: map[string]bool{}, back: map[string]bool{}, burying: map[string]bool{},
	}
	if len(options.sentinels) > 0 {
		n.recent = recentTimeMany
	}
	if len(options.cluster) > 0 {
		n.recent, n.keep = recentTimeMany, maxRecentMany
		n.buckets = make([]bucket, clusterBuckets)
		for i := range n.buckets {
			n.buckets[i].base = prefix + bucketTag(i) + ":"
		}
	}
	return n
}

// bucketOf is the bucket of a topic.
func (n *node) bucketOf(topic string) int { return int(resp.CRC16(topic)) % len(n.buckets) }

// key is a name in a bucket.
func (n *node) key(bucket int, parts ...string) string {
	return n.buckets[bucket].base + strings.Join(parts, ":")
}

// topicKeys are the keys of a topic as luaTopic wants them, for incarnation id.
func (n *node) topicKeys(topic, id string) []string {
	b := n.bucketOf(topic)
	t := n.key(b, topic)
	return []string{t + ":nodes", t + ":users:" + id, t + ":count", t + ":members", t + ":order", t + ":cached", n.key(b, "node", id, "topics"), n.key(b, "node", id, "dead")}
}

// takenAppID says that the topics of an app with this ID would have names that belong to the
// nodes: a channel of the app "node" can be called like a node, and whoever leaves it would
// end what that node hears.
func takenAppID(id string) bool { return id == "node" || id == "all" }

// processOf is what the incarnations of one process have in common.
func processOf(id string) string {
	process, _, _ := strings.Cut(id, "-")
	return process
}

// start connects and serves until close. It waits for nothing.
func (n *node) start(r replica) {
	n.replica, n.starting, n.now = r, true, time.Now()
	n.upAt = n.now
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	n.running.Go(func() { n.connect(ctx) })
	n.running.Go(func() { n.run(ctx) })
}

// close leaves the cluster: the others learn at once that this node's members are
// gone.
func (n *node) close() {
	left := make(chan struct{})
	n.post(func() { n.leaveCluster(func() { close(left) }) })
	select {
	case <-left:
	case <-time.After(redisReplyLimit):
	}
	n.stop()
	n.running.Wait()
}

// post hands work to the goroutine.
func (n *node) post(f func()) {
	n.mu.Lock()
	n.inbox = append(n.inbox, f)
	n.waiting.Store(int64(len(n.inbox)))
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// behind says that Redis, or this node, is so far behind that nothing more should be
// published until it has caught up.
func (n *node) behind() bool {
	return n.inflight.Load() > maxInflight || n.unsent.Load() > maxInflight || n.waiting.Load() > maxInbox
}

// connect keeps a session up, for ever, with pauses that double up to a limit and are
// drawn at random so that nodes do not come all at once.
func (n *node) connect(ctx context.Context) {
	var masters []redisAddress // of the last session
	pause, told := redisBackoffLow, time.Time{}
	for first := true; ; first = false {
		s, now, err := dialSession(ctx, n.options, masters, n.scripts.all())
		switch at := time.Now(); {
		case err == nil:
			masters = now
			if n.serve(ctx, s) > redisSteady {
				pause = redisBackoffLow
			}
		case ctx.Err() != nil: // the end
		case first:
			told = at
			n.post(n.startAlone)
			n.log.Error("Redis cannot be reached; members of this node are served alone, and attempts go on", "why", err)
		case at.Sub(told) > tellAgain:
			told = at
			n.log.Warn("Redis is not reachable; trying on", "why", err)
		}
		timer := time.NewTimer(pause/2 + mrand.N(pause/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, redisBackoffHigh)
	}
}

// startAlone ends the time in which new members wait for the first session.
func (n *node) startAlone() {
	if !n.starting {
		return
	}
	n.starting = false
	for _, t := range n.topics {
		n.releaseDetached(t)
	}
}

// serve gives a session to the goroutine, waits for its end and tells how long it lasted.
func (n *node) serve(ctx context.Context, s *session) time.Duration {
	began := time.Now()
	select {
	case n.up <- s:
	case <-ctx.Done():
		s.fail(ctx.Err())
	}
	select {
	case <-s.failed:
	case <-ctx.Done():
		s.fail(ctx.Err())
	}
	s.running.Wait()
	return time.Since(began)
}

// run is the goroutine.
func (n *node) run(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for lease := time.Now(); ; {
		var replies, pushes chan linkBatch
		var failed chan struct{}
		var soon <-chan time.Time
		if s := n.session; s != nil {
			replies, pushes, failed = s.replies, s.pushes, s.failed
			if n.replica.overloaded() {
				n.held, pushes, soon = time.Now(), nil, time.After(time.Millisecond)
			}
		}
		select {
		case <-ctx.Done():
			return
		case s := <-n.up:
			n.handleUp(s, time.Now())
			lease = n.upAt
		case <-failed: // handled below
		case <-soon:
		case batch := <-replies:
			n.handleReplies(batch, time.Now())
		case batch := <-pushes:
			n.now = time.Now()
			batch.from.heard = n.now
			for _, r := range batch.replies {
				n.handlePush(r)
			}
		case <-n.wake:
			n.now = time.Now()
		case <-tick.C:
			now := time.Now() // the tick may be from before this process was frozen
			n.handleTick(now)
			if n.registered && now.Sub(lease) >= leaseInterval {
				lease = now
				n.renew()
			}
		}
		n.runInbox()
		n.endTurn()
		if n.session != nil && n.session.over() {
			n.handleDown()
		}
	}
}

func (n *node) runInbox() {
	n.mu.Lock()
	work := n.inbox
	n.inbox = nil
	n.waiting.Store(0)
	n.mu.Unlock()
	for _, f := range work {
		f()
	}
}

// endTurn hands what the turn has written to the links.
func (n *node) endTurn() {
	if n.session == nil {
		return
	}
	n.tellCounts()
	n.pump()
	n.askMarkers()
	unsent := 0
	for _, p := range n.session.shards {
		unsent += p.commands.send(p.out)
		if unsent > maxLinkBytes || p.subscriptions.send(p.subs) > maxLinkBytes {
			n.session.fail(errors.New("Redis takes commands too slowly"))
		}
		p.out, p.subs = emptied(p.out), emptied(p.subs)
	}
	n.unsent.Store(int64(unsent))
}

// later puts off work about a bucket until Redis has room: what is said of each topic
// would else fill the links, and keep everybody waiting, where there are very many.
// Where Redis is away, or goes away meanwhile, run is called at once.
func (n *node) later(bucket int, run func()) {
	if n.session == nil {
		run()
		return
	}
	n.bulk = append(n.bulk, bulkJob{bucket, run})
}

// pump does what was put off, events and work in turn, as far as there is room.
func (n *node) pump() {
	for more := true; more; {
		more = false
		events := n.counters.live.Load() && len(n.backlog) > 0
		if events && n.linkFree(n.backlog[0].bucket) {
			if o := n.takeOldest(); time.Since(o.at) > n.patience {
				n.giveUp(o)
			} else {
				n.send(o)
			}
			more = true
		}
		if len(n.bulk) > 0 && n.room(n.bulk[0].bucket) && !(n.stopping && events) { // who stops loses no event
			run := n.bulk[0].run
			n.bulk[0] = bulkJob{}
			if n.bulk = n.bulk[1:]; len(n.bulk) == 0 {
				n.bulk = nil
			}
			n.inBulk = true
			run()
			n.inBulk, more = false, true
		}
	}
}

// room says that there is room for bulk work about a bucket. However many events there
// are, some of it goes on.
func (n *node) room(bucket int) bool {
	bulk := n.session.byBucket[bucket].bulk
	return len(n.subscribing) < bulkCommands && (bulk < bulkLeast || bulk < bulkCommands && n.linkFree(bucket))
}

// linkFree says that little waits to be written on the link for a bucket's commands.
func (n *node) linkFree(bucket int) bool {
	p := n.session.byBucket[bucket]
	return len(p.out)+p.commands.send(nil) < bulkBytes
}

// emptied is a buffer to write to again, unless it has grown large.
func emptied(b []byte) []byte {
	if cap(b) > 1<<20 {
		return nil
	}
	return b[:0]
}

// command sends a command about a bucket; done gets its reply. Where Redis is away,
// done is told at once.
func (n *node) command(bucket int, done func(resp.Reply, error), args ...string) {
	if n.session == nil {
		if done != nil {
			done(resp.Reply{}, errRedisAway)
		}
		return
	}
	n.commandOn(n.session.byBucket[bucket], done, args...)
}

// commandOn sends a command to one master.
func (n *node) commandOn(p *shardLinks, done func(resp.Reply, error), args ...string) {
	if len(p.sent) == 0 {
		p.replied = n.now
	}
	if n.inBulk {
		p.bulk++
		then := done
		done = func(r resp.Reply, err error) {
			p.bulk--
			if then != nil {
				then(r, err)
			}
		}
	}
	p.sent = append(p.sent, done)
	p.out = resp.AppendCommand(p.out, args...)
}

// eval runs a script. One that fails leaves this node out of step, and the session is
// begun anew; one that fails on the keys of a topic leaves out of step that topic alone,
// and done sees to it.
func (n *node) eval(bucket int, done func(resp.Reply, error), s *script, keys []string, args ...string) {
	all := append(append([]string{"EVALSHA", s.sha, strconv.Itoa(len(keys))}, keys...), args...)
	n.command(bucket, func(r resp.Reply, err error) {
		if err == nil {
			err = r.Err()
			switch {
			case err == nil, s.ofTopic && foreign(err):
			case foreign(err):
				n.session.fail(fmt.Errorf("script %s: %w; %s", s.name, err, foreignHint))
			default:
				n.session.fail(fmt.Errorf("script %s: %w", s.name, err))
			}
		}
		if done != nil {
			done(r, err)
		}
	}, all...)
}

// foreign says that a script has failed on what somebody else has written under the name
// of a key: something of another type, or of the same type with another meaning.
func foreign(err error) bool {
	var e resp.ReplyError
	if !errors.As(err, &e) {
		return false
	}
	return strings.Contains(string(e), "WRONGTYPE") || strings.Contains(string(e), "is not an integer") || strings.Contains(string(e), "would overflow")
}

// foreignHint says what to do about a foreign key.
const foreignHint = "delete the key, or set REVERB_SCALING_CHANNEL to a name that nothing else uses"

// subscribeTo and unsubscribeFrom tell Redis what this node wants to hear.
func (n *node) subscribeTo(bucket int, channel string) {
	a := new(awaited)
	a.ask = func() {
		n.subscription(bucket, "SUBSCRIBE", channel)
		n.expect(a)
	}
	n.subscribing[channel] = append(n.subscribing[channel], a)
	a.ask()
}

func (n *node) unsubscribeFrom(bucket int, channel string) {
	n.unsubscribing[channel]++
	n.subscription(bucket, "UNSUBSCRIBE", channel)
}

func (n *node) subscription(bucket int, verb, channel string) {
	p := n.session.byBucket[bucket]
	p.subs = resp.AppendCommand(p.subs, n.sharded(verb), channel)
}

// sharded is a command of publish and subscribe, in a Redis Cluster its sharded form.
func (n *node) sharded(verb string) string {
	if len(n.buckets) > 1 {
		return "S" + verb
	}
	return verb
}

// --- Up and down ---

// handleUp begins with a fresh session, as a new incarnation: everything that this
// node has is told again once its lease is held.
func (n *node) handleUp(s *session, now time.Time) {
	if n.stopping {
		s.fail(errors.New("stopping"))
		return
	}
	if n.session != nil {
		n.handleDown() // it is over, or there would be no other
	}
	n.counters.reconnects.Add(1)
	n.incarnations++
	n.id = fmt.Sprintf("%016x-%d", n.number, n.incarnations)
	n.starting = false
	n.session, n.upAt, n.now, n.upAtRedis, n.registered, n.syncing = s, now, now, 0, false, 0
	clear(n.back)
	for _, p := range s.shards {
		p.replied, p.heard = now, now
	}
	n.counters.up.Store(true)
	if !n.flapping {
		n.log.Info("connected to Redis", "version", s.version(), "masters", len(s.shards), "node", n.id)
	}
	n.own = make(map[string]bool, len(n.buckets))
	for i := range n.buckets {
		b := &n.buckets[i]
		b.own = n.key(i, "node", n.id)
		n.own[b.own] = true
		n.subscribeTo(i, b.own)
	}
	n.subscribeTo(0, n.key(0, "all"))
	n.renew()
}

// register follows handleUp when Redis has granted the lease.
func (n *node) register() {
	n.registered = true
	for _, t := range n.topics {
		t.counted = true
		n.syncing++
		n.later(t.bucket, func() {
			if n.topics[t.name] == t && t.state == topicDetached && n.registered {
				n.subscribe(t)
			}
		})
	}
	for app := range n.apps {
		n.countsDirty[app] = true
	}
	if n.syncing == 0 {
		n.renew()
	}
	n.seekStrangers()
}

// seekStrangers looks for nodes of Laravel Reverb: they listen on the scaling channel
// itself, on which no node of this program does. They hear nothing of what is published
// here, and the reverse. Who may not ask is told nothing.
func (n *node) seekStrangers() {
	channel := n.prefix
	left, found := len(n.session.shards), int64(0)
	for _, p := range n.session.shards { // each knows its own subscribers alone
		n.commandOn(p, func(r resp.Reply, err error) {
			if err == nil && r.Err() == nil && len(r.Items) == 2 {
				found += r.Items[1].N
			}
			if left--; left > 0 || err != nil {
				return
			}
			if found > 0 && !n.strangers {
				n.log.Warn("Laravel Reverb listens on the same channel of this Redis: its nodes and this server do not see each other's events and members; let clients and the application use one of the two, and give the other a REVERB_SCALING_CHANNEL of its own",
					"channel", channel, "subscribers", found)
			}
			n.strangers = found > 0
		}, "PUBSUB", "NUMSUB", channel)
	}
}

// handleDown takes note that Redis is gone. Members here go on among themselves.
func (n *node) handleDown() {
	s := n.session
	n.session = nil
	n.counters.up.Store(false)
	n.counters.live.Store(false)
	why := fmt.Sprint(s.err)
	if n.flapping = why == n.toldWhy && n.now.Sub(n.toldAway) < tellAgain; !n.flapping && !n.stopping {
		n.toldWhy, n.toldAway = why, n.now
		n.log.Warn("Redis is away: members of this node are served, others hear nothing", "why", s.err)
	}
	if n.registered {
		n.former = append(n.former, n.id)
	}
	n.registered = false
	n.unsent.Store(0)
	clear(n.subscribing)
	clear(n.unsubscribing)
	clear(n.markers)
	n.awaited, n.asking = nil, nil
	clear(n.troubled)
	n.troubles = nil
	n.counters.troubled.Store(0)
	for _, p := range s.shards {
		for _, done := range p.sent {
			if done != nil {
				done(resp.Reply{}, errRedisAway)
			}
		}
		p.sent = nil
	}
	clear(n.burying)
	bulk, backlog := n.bulk, n.backlog
	n.bulk, n.backlog, n.backlogSize = nil, nil, 0
	for _, job := range bulk {
		job.run()
	}
	for i := range n.buckets {
		b := &n.buckets[i]
		for _, o := range slices.Concat(b.recent[1], b.recent[0], b.pending) {
			if o.settled() && time.Since(o.sent) > n.recent {
				continue
			}
			n.deliverHere(o)
			o.again = true // others may have it, or not: they can tell
			n.queue(o)
		}
		b.pending, b.recent, b.token, b.joining = nil, [2][]*outgoing{}, 0, nil
	}
	for _, o := range backlog {
		n.deliverHere(o)
		n.queue(o)
	}
	for _, t := range n.topics {
		t.state, t.counted, t.missing = topicDetached, false, nil
		for _, u := range t.users {
			u.told, u.present = false, false
		}
		n.releaseDetached(t)
	}
}

// releaseDetached answers everybody who waits for a topic, by what is known here.
func (n *node) releaseDetached(t *topic) {
	waiting := append(t.waiting, t.behind...)
	t.waiting, t.behind = nil, nil
	for _, w := range waiting {
		n.joinDetached(t, w)
	}
	for user, u := range t.users {
		ready := u.waiting
		u.waiting = nil
		for _, f := range ready {
			n.joinDetached(t, waiter{user: user, ready: f})
		}
	}
}

// joinDetached admits a member while Redis is away, or does not serve the topic.
func (n *node) joinDetached(t *topic, w waiter) {
	if u := t.users[w.user]; w.user != "" && u != nil {
		n.addToView(t, w.user, u.info)
	}
	w.ready()
}

// addToView takes note of a user who is there, and tells the members here if they did
// not know.
func (n *node) addToView(t *topic, user, info string) {
	delete(t.missing, user)
	if _, known := t.view[user]; !known {
		t.order++
		t.view[user] = clusterMember{user, info, t.order}
		n.replica.added(t.name, user, info)
	}
}

// removeFromView is the reverse.
func (n *node) removeFromView(t *topic, user string) {
	delete(t.missing, user)
	if _, known := t.view[user]; known {
		delete(t.view, user)
		n.replica.removed(t.name, user)
	}
}

// inStep says that every topic of before is in step with Redis again.
func (n *node) inStep() bool { return n.registered && n.syncing == 0 }

// peersBack says that all who were there before Redis went away are ready again.
func (n *node) peersBack() bool {
	for process := range n.peers {
		if !n.back[process] {
			return false
		}
	}
	return true
}

// goLive ends the time in which events are delivered here alone, once every topic is
// in step and the other nodes are back. Who is still missing then is gone.
func (n *node) goLive(now time.Time) {
	if n.counters.live.Load() || !n.inStep() || now.Sub(n.upAt) < peersGrace && !n.peersBack() {
		return
	}
	n.peers = maps.Clone(n.back)
	n.counters.live.Store(true)
	for _, t := range n.topics {
		for user := range t.missing {
			n.removeFromView(t, user)
		}
		t.missing = nil
	}
	for _, id := range n.former {
		n.bury(id, func() { n.former = slices.DeleteFunc(n.former, func(f string) bool { return f == id }) })
	}
}

// handleTick does what time asks for.
func (n *node) handleTick(now time.Time) {
	for len(n.backlog) > 0 && now.Sub(n.backlog[0].at) > n.patience {
		n.giveUp(n.takeOldest())
	}
	n.now = now
	if n.starting && now.Sub(n.upAt) > startPatience {
		n.startAlone()
	}
	if n.session == nil {
		return
	}
	n.retryTopics(now)
	n.askAgain(now)
	if n.inStep() && !n.counters.live.Load() {
		n.renew() // its answer says who is back
	}
	for _, p := range n.session.shards {
		if now.Sub(n.held) < redisReplyLimit {
			p.heard = now // nobody has listened
		}
		switch {
		case len(p.sent) > 0 && now.Sub(p.replied) > redisReplyLimit:
			n.session.fail(fmt.Errorf("Redis has not answered for %v", redisReplyLimit))
		case now.Sub(p.heard) > redisReplyLimit:
			n.session.fail(fmt.Errorf("Redis has sent nothing on the link of subscriptions for %v", redisReplyLimit))
		case now.Sub(p.heard) > redisReplyLimit/5:
			p.subs = resp.AppendCommand(p.subs, "PING")
		}
	}
	turn := now.Sub(n.turned) >= n.recent
	if turn {
		n.turned = now
	}
	for i := range n.buckets {
		b := &n.buckets[i]
		if turn {
			b.turn()
		}
		if p := b.pending; len(p) > 0 && p[0].accepted && now.Sub(p[0].sent) > 2*redisReplyLimit && now.Sub(n.held) > redisReplyLimit {
			n.session.fail(errors.New("an event that Redis has accepted did not come back"))
		}
	}
}

// expect notes that Redis has been asked for something that it sends by itself.
func (n *node) expect(a *awaited) {
	a.at = n.now
	n.awaited = append(n.awaited, a)
}

// askAgain asks again for what should have come long ago: a proxy, or a restart of Redis
// that went unnoticed, may have lost it, and a subscription waits for it.
func (n *node) askAgain(now time.Time) {
	for n.settleAwaited(); len(n.awaited) > 0; n.settleAwaited() {
		a := n.awaited[0]
		if now.Sub(a.at) <= 2*redisReplyLimit || now.Sub(n.held) <= redisReplyLimit {
			return
		}
		if a.again {
			n.session.fail(errors.New("Redis was asked twice for a confirmation, and it has not come"))
			return
		}
		n.log.Warn("a confirmation of Redis has not come; it is asked for again", "after", 2*redisReplyLimit)
		n.awaited = n.awaited[1:]
		a.again = true
		a.ask()
	}
}

// settleAwaited takes off the front what has come.
func (n *node) settleAwaited() {
	for len(n.awaited) > 0 && n.awaited[0].came {
		n.awaited[0] = nil
		n.awaited = n.awaited[1:]
	}
}

// --- Incoming ---

// sessionErrors are the words with which Redis says that it is not, or not any more,
// the one to talk to.
var sessionErrors = []string{"READONLY", "MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "MASTERDOWN", "NOREPLICAS", "NOSCRIPT", "NOAUTH"}

func (n *node) handleReplies(batch linkBatch, now time.Time) {
	p := batch.from
	n.now, p.replied = now, now
	for _, r := range batch.replies {
		if r.Kind == resp.Push {
			continue
		}
		if len(p.sent) == 0 {
			n.session.fail(errors.New("Redis has answered what was not asked"))
			return
		}
		if e := resp.ReplyError(r.Text); r.Kind == resp.Error && slices.ContainsFunc(sessionErrors, e.Begins) {
			n.session.fail(e) // whose command it was learns it from handleDown
			return
		}
		done := p.sent[0]
		p.sent[0] = nil
		p.sent = p.sent[1:]
		if done != nil {
			done(r, nil)
		}
	}
}

// handlePush deals with what came on the link of subscriptions.
func (n *node) handlePush(r resp.Reply) {
	if r.Kind == resp.Error {
		n.session.fail(fmt.Errorf("subscribe: %w", r.Err()))
		return
	}
	if r.Kind != resp.Push && r.Kind != resp.Array || len(r.Items) < 2 {
		return // the answer to PING
	}
	channel := r.Items[1].Text
	switch r.Items[0].Text {
	case "message", "smessage":
		if len(r.Items) == 3 {
			n.handleEnvelope(channel, r.Items[2].Text)
		}
	case "subscribe", "ssubscribe":
		if n.confirmed(channel) {
			if t := n.byChannel[channel]; t != nil && t.state == topicSubscribing {
				n.sync(t)
			}
		}
	case "unsubscribe", "sunsubscribe":
		if !countDown(n.unsubscribing, channel) {
			n.session.fail(errors.New("a channel has moved to another server"))
		}
	}
}

// confirmed takes note of a confirmation and says whether it was the last to come.
func (n *node) confirmed(channel string) bool {
	left := n.subscribing[channel]
	if len(left) == 0 {
		return false // it was asked for again, and both have come
	}
	left[0].came = true
	n.settleAwaited()
	if len(left) > 1 {
		n.subscribing[channel] = left[1:]
		return false
	}
	delete(n.subscribing, channel)
	return true
}

// countDown takes one off m[key] and says whether there was one.
func countDown(m map[string]int, key string) bool {
	c := m[key]
	if c <= 1 {
		delete(m, key)
	} else {
		m[key] = c - 1
	}
	return c > 0
}

// handleEnvelope deals with what another node, a script or a stranger has sent.
func (n *node) handleEnvelope(channel, b string) {
	e, err := parseEnvelope(b)
	own, all := n.own[channel], channel == n.key(0, "all")
	switch {
	case err == errEnvelopeVersion:
		if n.counters.unknown.Add(1) == 1 {
			n.log.Warn("another node speaks a newer version; what it says is skipped and counted", "channel", oneLineOf(channel))
		}
		return
	case err != nil, own != (e.kind == envelopeMarker || e.kind == envelopeSnapshot), all != (e.kind == envelopeTerminate || e.kind == envelopeReady):
		if n.counters.malformed.Add(1) == 1 {
			n.log.Warn("somebody publishes on this cluster's channels what is no envelope; it is skipped and counted", "channel", oneLineOf(channel))
		}
		return
	}
	n.counters.received.Add(1)
	switch e.kind {
	case envelopeMarker, envelopeSnapshot:
		if m, ok := n.markers[e.token]; ok {
			delete(n.markers, e.token)
			m.came = true
			n.settleAwaited()
			n.snapshot = &e
			m.then()
			n.snapshot = nil
		}
	case envelopeTerminate:
		n.replica.terminateUser(e.app, e.user)
	case envelopeReady:
		n.meet(e.id)
		n.goLive(time.Now())
	default:
		if t := n.byChannel[channel]; t != nil {
			n.handleTopic(t, &e)
		}
	}
}

func oneLineOf(s string) string { return strconv.QuoteToASCII(s) }

// handleTopic deals with what is said to everybody in a topic.
func (n *node) handleTopic(t *topic, e *envelope) {
	switch e.kind {
	case envelopeEvent:
		if e.node == n.number {
			n.handleEcho(t, e)
			return
		}
		from := sequence{e.node, t.bucket}
		last, known := n.seen[from]
		if e.again && e.number <= last {
			n.counters.dup.Add(1) // its sender could not know
			return
		}
		if !known && len(n.seen) >= maxSeen {
			clear(n.seen) // of nodes that have come and gone, or of strangers
		}
		n.seen[from] = e.number
		n.replica.deliver(t.name, e.payload, e.except, e.remember)
	case envelopeAdded:
		if t.state == topicActive {
			n.addToView(t, e.user, e.info)
		}
	case envelopeRemoved:
		if t.state == topicActive {
			n.removeFromView(t, e.user)
		}
	}
}

// handleEcho delivers an event of this node's own, now that Redis has given it its
// place.
func (n *node) handleEcho(t *topic, e *envelope) {
	b := &n.buckets[t.bucket]
	i, found := slices.BinarySearchFunc(b.pending, e.number, func(o *outgoing, number uint64) int { return cmp.Compare(o.number, number) })
	if !found {
		return // delivered while Redis was away, or somebody repeats us
	}
	o := b.pending[i]
	if t.kept == o {
		t.kept = nil
	}
	if o.delivered && o.remember { // while Redis was away; others may have published since
		n.replica.remember(o.topic, o.payload)
	}
	n.deliverHere(o)
	o.accepted, o.echoed = true, true
	n.finish(o, nil)
	b.settle(n.keep)
}

// settle takes off the front of pending what is settled. It is kept for a moment: Redis
// may be killed when it has answered and has not yet told everybody.
func (b *bucket) settle(keep int) {
	for len(b.pending) > 0 && b.pending[0].settled() {
		if len(b.recent[0]) >= keep {
			b.turn()
		}
		b.recent[0] = append(b.recent[0], b.pending[0])
		b.pending[0] = nil
		b.pending = b.pending[1:]
	}
}

// turn forgets the older half of what was settled.
func (b *bucket) turn() {
	clear(b.recent[1])
	b.recent[0], b.recent[1] = b.recent[1][:0], b.recent[0]
}

// --- Events ---

// publish sends an event to the members of a topic on all nodes. done is called when
// Redis has accepted it or, where Redis is away, when it is delivered here and queued.
func (n *node) publish(topic, payload string, except uint64, remember bool, done func(error)) {
	o := &outgoing{topic: topic, payload: payload, except: except, remember: remember, at: time.Now(), done: done}
	n.inflight.Add(o.size())
	n.post(func() {
		n.counters.published.Add(1)
		o.bucket = n.bucketOf(topic)
		b := &n.buckets[o.bucket]
		b.numbers++
		o.number = b.numbers
		switch live := n.counters.live.Load(); {
		case live && len(n.backlog) == 0:
			n.send(o)
		case live:
			n.hold(o)
		default:
			n.deliverHere(o)
			n.queue(o)
		}
	})
}

// size is what an event counts while it is on its way.
func (o *outgoing) size() int64 { return int64(len(o.payload)) + 256 }

// finish tells who has published an event what has become of it, once.
func (n *node) finish(o *outgoing, err error) {
	if o.finished {
		return
	}
	o.finished = true
	n.inflight.Add(-o.size())
	if o.done != nil {
		o.done(err)
	}
}

// deliverHere gives an event to the members of this node, once.
func (n *node) deliverHere(o *outgoing) {
	if !o.delivered {
		o.delivered = true
		n.replica.deliver(o.topic, o.payload, o.except, o.remember)
	}
}

// send gives an event to Redis.
func (n *node) send(o *outgoing) {
	if n.session == nil {
		n.queue(o)
		return
	}
	b, t := &n.buckets[o.bucket], n.topics[o.topic]
	o.echoes = t != nil && t.state >= topicSyncing
	o.sent, o.echoed, o.accepted = time.Now(), false, false
	b.pending = append(b.pending, o)
	e := string(appendEnvelope(make([]byte, 0, len(o.payload)+64), &envelope{kind: envelopeEvent, remember: o.remember, again: o.again, node: n.number, number: o.number, except: o.except, payload: o.payload}))
	channel := n.key(o.bucket, o.topic)
	accepted := func(r resp.Reply, err error) { n.handleAccepted(o, r, err) }
	if o.remember {
		n.eval(o.bucket, accepted, &n.scripts.cached, []string{channel + ":cached"}, channel, e, o.payload, strconv.Itoa(cachedSeconds))
	} else {
		n.command(o.bucket, accepted, n.sharded("PUBLISH"), channel, e)
	}
}

// handleAccepted deals with Redis' answer to an event. An event that does not come
// back, because nobody here was in its topic, is done with.
func (n *node) handleAccepted(o *outgoing, r resp.Reply, err error) {
	if errors.Is(err, errRedisAway) {
		return // handleDown sees to it
	}
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		n.log.Error("Redis has refused an event", "why", err)
		n.deliverHere(o)
		n.lose(o)
		o.echoes = false
	}
	o.accepted = true
	n.finish(o, nil)
	n.buckets[o.bucket].settle(n.keep)
}

// lose gives up an event. One that was sent before may have reached others, or some of
// them: who was to confirm it is gone, so it is counted apart.
func (n *node) lose(o *outgoing) {
	n.finish(o, nil)
	if t := n.topics[o.topic]; t != nil && t.kept == o {
		t.kept = nil
	}
	if o.again {
		n.counters.uncertain.Add(1)
	} else if n.counters.lost.Add(1) == 1 {
		n.log.Warn("events that Redis could not take in time are lost to other nodes; see the metric horizontal_transport_messages_dropped_total")
	}
}

// queue keeps an event until Redis is back.
func (n *node) queue(o *outgoing) {
	n.finish(o, nil)
	if t := n.topics[o.topic]; t != nil && o.remember {
		t.kept = o
	}
	n.hold(o)
}

// hold puts an event behind those that wait.
func (n *node) hold(o *outgoing) {
	n.backlog = append(n.backlog, o)
	n.backlogSize += len(o.payload)
	for n.backlogSize > maxBacklog {
		n.giveUp(n.takeOldest())
	}
	n.counters.backlog.Store(int64(n.backlogSize))
}

// takeOldest takes the event that has waited longest.
func (n *node) takeOldest() *outgoing {
	o := n.backlog[0]
	n.backlog[0] = nil
	if n.backlog = n.backlog[1:]; len(n.backlog) == 0 {
		n.backlog = nil
	}
	n.backlogSize -= len(o.payload)
	n.counters.backlog.Store(int64(n.backlogSize))
	return o
}

// giveUp loses an event for other nodes.
func (n *node) giveUp(o *outgoing) {
	n.deliverHere(o)
	n.lose(o)
}

// terminateAll asks all nodes to close the connections of a user.
func (n *node) terminateAll(app, user string, done func(error)) {
	e := string(appendEnvelope(nil, &envelope{kind: envelopeTerminate, app: app, user: user}))
	n.post(func() {
		n.command(0, func(r resp.Reply, err error) {
			if err == nil {
				err = r.Err()
			}
			if err != nil {
				n.replica.terminateUser(app, user)
			}
			done(err)
		}, n.sharded("PUBLISH"), n.key(0, "all"), e)
	})
}

// --- Topics ---

// join adds a member of this node to a topic. ready is called when it is to hear of
// what happens from now on. user is empty where there is no presence.
func (n *node) join(name, user, info string, cache bool, ready func()) {
	n.post(func() {
		t := n.topics[name]
		if t == nil {
			b := n.bucketOf(name)
			t = &topic{name: name, channel: n.key(b, name), bucket: b, cache: cache, users: map[string]*topicUser{}, view: map[string]clusterMember{}}
			n.topics[name], n.byChannel[t.channel] = t, t
		}
		t.subscriptions++
		t.dirty = true
		if user != "" {
			u := t.users[user]
			if u == nil {
				u = &topicUser{info: info}
				t.users[user] = u
			}
			u.subscriptions++
		}
		w := waiter{user: user, ready: ready}
		switch {
		case n.session == nil && !n.starting, t.state == topicAlone:
			n.joinDetached(t, w)
		case t.state == topicActive:
			n.joinActive(t, w)
		default:
			w.late = t.state == topicSyncing
			t.waiting = append(t.waiting, w)
			if t.state == topicDetached && n.registered {
				n.subscribe(t)
			}
		}
	})
}

// joinActive admits a member to a topic that is in step. What is cached may have changed
// already, as far as Redis is concerned: whoever comes to a cache channel is answered
// behind everything that Redis has accepted by now.
func (n *node) joinActive(t *topic, w waiter) {
	if u := t.users[w.user]; t.cache && (w.user == "" || u == nil || u.told) {
		n.joinBehind(t, w)
	} else {
		n.joinKnown(t, w)
	}
	n.tellSubscriptions(t)
}

// joinKnown admits a member by what is known here, once its user is known everywhere.
func (n *node) joinKnown(t *topic, w waiter) {
	u := t.users[w.user]
	if w.user == "" || u == nil || u.present {
		w.ready()
		return
	}
	u.waiting = append(u.waiting, w.ready)
	if u.told {
		return
	}
	u.told = true
	n.await(n.token(), func() {
		if t.users[w.user] != u {
			return // gone meanwhile, or come anew
		}
		u.present = true
		ready := u.waiting
		u.waiting = nil
		for _, f := range ready {
			f()
		}
	}, func(token string, heard func(resp.Reply, error)) bool {
		if t.state != topicActive || t.users[w.user] != u || len(u.waiting) == 0 {
			return false
		}
		n.topicEvalThen(t.name, heard, &n.scripts.present, token, w.user, u.info)
		return true
	})
}

// joinBehind admits a member behind a marker. All who come in one turn, to whatever
// topics of a bucket, share it.
func (n *node) joinBehind(t *topic, w waiter) {
	b := &n.buckets[t.bucket]
	if b.token == 0 {
		b.token = n.token()
		n.asking = append(n.asking, t.bucket)
	}
	w.token = b.token
	if len(t.behind) == 0 || t.behind[len(t.behind)-1].token != b.token {
		b.joining = append(b.joining, t)
	}
	t.behind = append(t.behind, w)
}

// askMarkers asks for the markers of this turn. Nothing but their place counts: they need
// no script.
func (n *node) askMarkers() {
	for _, i := range n.asking {
		b := &n.buckets[i]
		number, topics := b.token, b.joining
		b.token, b.joining = 0, nil
		n.await(number, func() {
			for _, t := range topics {
				n.releaseBehind(t, number)
			}
		}, func(token string, heard func(resp.Reply, error)) bool {
			n.command(i, func(r resp.Reply, err error) {
				if err == nil {
					if err = r.Err(); err != nil {
						n.session.fail(fmt.Errorf("publish a marker: %w", err))
					}
				}
				heard(r, err)
			}, n.sharded("PUBLISH"), b.own, string(appendEnvelope(nil, &envelope{kind: envelopeMarker, token: number})))
			return true
		})
	}
	n.asking = n.asking[:0]
}

// releaseBehind answers those who wait for a marker, or for one before it.
func (n *node) releaseBehind(t *topic, token uint64) {
	for len(t.behind) > 0 && t.behind[0].token <= token {
		w := t.behind[0]
		if t.behind = t.behind[1:]; len(t.behind) == 0 {
			t.behind = nil
		}
		n.joinKnown(t, w)
	}
}

// catchUp calls ready when this node has heard what Redis has accepted for a topic until now.
func (n *node) catchUp(topic string, ready func()) {
	n.post(func() {
		switch t := n.topics[topic]; {
		case t != nil && t.state == topicActive && n.session != nil:
			n.joinBehind(t, waiter{ready: ready})
		case t != nil && t.state == topicSyncing && n.session != nil:
			t.waiting = append(t.waiting, waiter{ready: ready, late: true})
		default:
			ready() // it is served by what is known here, or will be told everything
		}
	})
}

// topicEval runs a script about a topic that nobody waits for.
func (n *node) topicEval(topic string, s *script, args ...string) {
	n.topicEvalThen(topic, nil, s, args...)
}

// topicEvalThen runs a script about a topic. Where Redis holds something foreign under its
// name, the topic is served here alone for a while.
func (n *node) topicEvalThen(topic string, done func(resp.Reply, error), s *script, args ...string) {
	b := n.bucketOf(topic)
	n.eval(b, func(r resp.Reply, err error) {
		if waits, known := n.troubled[topic]; err != nil && foreign(err) {
			n.leaveAlone(topic, err)
		} else if known && !waits {
			delete(n.troubled, topic)
		}
		if done != nil {
			done(r, err)
		}
	}, s, n.topicKeys(topic, n.id), append([]string{n.id, n.key(b, topic), n.buckets[b].own}, args...)...)
}

// leaveAlone serves a topic, for a while, by what is known here. Its events go through Redis
// as before. That members of a topic that nobody here is in any more are gone is tried
// again too.
func (n *node) leaveAlone(topic string, why error) {
	if t := n.topics[topic]; t != nil && t.state >= topicSyncing {
		t.state = topicAlone
		for _, u := range t.users {
			u.told, u.present = false, false
		}
		n.releaseDetached(t)
		n.stepDone(t)
	}
	waits, known := n.troubled[topic]
	switch {
	case waits:
		return
	case !known && len(n.troubled) >= maxTroubled:
		n.session.fail(fmt.Errorf("Redis holds something foreign under the names of more than %d channels: %w", maxTroubled, why))
		return
	case !known:
		n.tellForeign(topic, why)
	}
	n.troubled[topic] = true
	n.troubles = append(n.troubles, trouble{topic, n.now.Add(topicRetry)})
}

// tellForeign logs that Redis holds something foreign.
func (n *node) tellForeign(topic string, why error) {
	n.log.Warn("a key in Redis was not written by this program; its channel alone is served without the other nodes' members; "+foreignHint,
		"channel", n.key(n.bucketOf(topic), topic), "why", why)
}

// retryTopics tries again what has failed on something foreign.
func (n *node) retryTopics(now time.Time) {
	for len(n.troubles) > 0 && !now.Before(n.troubles[0].at) {
		name := n.troubles[0].topic
		n.troubles = n.troubles[1:]
		n.troubled[name] = false
		n.later(n.bucketOf(name), func() {
			switch t := n.topics[name]; {
			case n.session == nil:
			case t == nil:
				n.topicEval(name, &n.scripts.leave, name)
			case t.state == topicAlone:
				n.sync(t)
			default:
				delete(n.troubled, name) // it has come into step by itself
			}
		})
	}
	n.counters.troubled.Store(int64(len(n.troubled)))
}

// token returns a new token for await.
func (n *node) token() uint64 {
	n.tokens++
	return n.tokens
}

// await calls then when a token comes back over this node's own channel. ask asks for it,
// now and, if it is lost, once more; it tells heard what Redis has answered, and returns
// false where nobody waits any more.
func (n *node) await(token uint64, then func(), ask func(token string, heard func(resp.Reply, error)) bool) {
	a := new(awaited)
	heard := func(_ resp.Reply, err error) {
		switch {
		case a.came, n.session == nil:
		case err != nil:
			a.came = true
			delete(n.markers, token)
		default:
			n.expect(a)
		}
	}
	a.ask = func() {
		if !ask(string(binary.BigEndian.AppendUint64(nil, token)), heard) {
			a.came = true
			delete(n.markers, token)
		}
	}
	n.markers[token] = marker{a, then}
	a.ask()
}

// leave takes a member of this node out of a topic.
func (n *node) leave(name, user string) {
	n.post(func() {
		t := n.topics[name]
		if t == nil {
			return
		}
		t.subscriptions--
		t.dirty = true
		if u := t.users[user]; user != "" && u != nil {
			if u.subscriptions--; u.subscriptions == 0 {
				n.dropUser(t, user, u)
			}
		}
		if t.subscriptions == 0 {
			n.dropTopic(t)
		} else {
			n.tellSubscriptions(t)
		}
	})
}

func (n *node) dropUser(t *topic, user string, u *topicUser) {
	delete(t.users, user)
	if n.session == nil || t.state == topicAlone {
		n.removeFromView(t, user)
	} else if u.told {
		n.topicEvalThen(t.name, func(_ resp.Reply, err error) {
			if err != nil && n.topics[t.name] == t && t.users[user] == nil {
				n.removeFromView(t, user) // nobody else will say so
			}
		}, &n.scripts.absent, user)
	}
}

// dropTopic forgets a topic that nobody here is in any more.
func (n *node) dropTopic(t *topic) {
	delete(n.topics, t.name)
	delete(n.byChannel, t.channel)
	b := &n.buckets[t.bucket]
	for _, o := range b.pending {
		if o.topic == t.name {
			o.echoes = false
		}
	}
	b.settle(n.keep)
	n.stepDone(t)
	n.replica.dropped(t.name)
	if n.session == nil || t.state == topicDetached {
		return
	}
	n.unsubscribeFrom(t.bucket, t.channel)
	n.topicEval(t.name, &n.scripts.leave, t.name)
}

// subscribe begins to bring a topic into step.
func (n *node) subscribe(t *topic) {
	t.state = topicSubscribing
	n.subscribeTo(t.bucket, t.channel)
}

// sync tells Redis what this node has in a topic, and asks for what all have.
func (n *node) sync(t *topic) {
	t.state = topicSyncing
	n.await(n.token(), func() { n.handleSnapshot(t) }, func(token string, heard func(resp.Reply, error)) bool {
		if n.topics[t.name] != t || t.state != topicSyncing {
			return false
		}
		t.dirty = false
		flag := "0"
		if t.cache {
			flag = "1"
		}
		args := []string{t.name, strconv.Itoa(t.subscriptions), token, flag}
		for user, u := range t.users {
			u.told = true
			args = append(args, user, u.info)
		}
		n.topicEvalThen(t.name, heard, &n.scripts.sync, args...)
		return true
	})
}

// handleSnapshot brings a topic into step. Members that were there before learn what
// has changed since; who is missing may be with a node that is not back yet.
func (n *node) handleSnapshot(t *topic) {
	e := n.snapshot
	if n.topics[t.name] != t || t.state != topicSyncing {
		return
	}
	slices.SortFunc(e.members, func(a, b clusterMember) int { return a.order - b.order })
	before := t.view
	t.view, t.state = make(map[string]clusterMember, len(e.members)), topicActive
	for _, m := range e.members {
		t.view[m.user], t.order = m, max(t.order, m.order)
	}
	var gone []clusterMember
	for user, m := range before {
		if _, still := t.view[user]; !still {
			gone = append(gone, m)
		}
	}
	slices.SortFunc(gone, func(a, b clusterMember) int { return a.order - b.order })
	if n.counters.live.Load() {
		for _, m := range gone {
			n.replica.removed(t.name, m.user)
		}
		gone = nil
	}
	if len(before) > 0 {
		for _, m := range e.members {
			if _, known := before[m.user]; !known {
				n.replica.added(t.name, m.user, m.info)
			}
		}
	}
	members := append(gone, e.members...)
	users, infos := make([]string, len(members)), make([]string, len(members))
	for i, m := range members {
		users[i], infos[i] = m.user, m.info
	}
	if len(gone) > 0 {
		t.missing = make(map[string]bool, len(gone))
		for _, m := range gone {
			t.view[m.user], t.missing[m.user] = m, true
		}
	}
	cached, life := e.payload, time.Duration(e.life)*time.Millisecond
	if t.kept != nil {
		cached, life = t.kept.payload, cachedSeconds*time.Second
	}
	n.replica.snapshot(t.name, users, infos, cached, life)
	for _, u := range t.users {
		u.present = u.told
	}
	waiting := t.waiting
	t.waiting = nil
	for _, w := range waiting {
		if w.late {
			n.joinActive(t, w)
		} else {
			n.joinKnown(t, w) // the snapshot is newer than it
		}
	}
	n.tellSubscriptions(t)
	n.stepDone(t)
}

// stepDone counts a topic that is in step, or gone.
func (n *node) stepDone(t *topic) {
	if !t.counted {
		return
	}
	t.counted = false
	if n.syncing--; n.syncing == 0 && n.session != nil {
		n.renew()
	}
}

// tellSubscriptions tells Redis how many members this node has in a topic.
func (n *node) tellSubscriptions(t *topic) {
	if t.dirty && t.state == topicActive && n.session != nil {
		t.dirty = false
		n.topicEval(t.name, &n.scripts.subscriptions, strconv.Itoa(t.subscriptions))
	}
}

// --- Leases ---

// renew renews the lease, and looks after nodes that have lost theirs. A node that has
// just come back leaves the dead alone for a while: they may be coming back too.
func (n *node) renew() {
	mode, take := "", "0"
	switch {
	case !n.registered:
		mode = "first"
	case n.syncing == 0:
		mode = "ready"
	}
	if n.counters.live.Load() && time.Since(n.upAt) > 2*peersGrace {
		take = "1"
	}
	since := n.upAtRedis
	if n.incarnations == 1 || n.counters.live.Load() {
		since = n.redisTime - peersGrace.Milliseconds() // everybody says it again within that time
	}
	s := n.session
	n.eval(0, func(r resp.Reply, err error) {
		if err != nil || s != n.session || n.stopping {
			return
		}
		if len(r.Items) != 3 {
			s.fail(errors.New("the lease was answered with what is no list"))
			return
		}
		n.redisTime = r.Items[2].N
		if !n.registered {
			n.upAtRedis = n.redisTime
			n.register()
			return
		}
		for _, dead := range r.Items[0].Items {
			if n.burying[dead.Text] {
				continue // it takes long
			}
			n.log.Warn("a node is gone; its members are removed", "node", oneLineOf(dead.Text))
			n.bury(dead.Text, nil)
		}
		clear(n.back) // some may have left
		if n.counters.live.Load() {
			clear(n.peers)
		}
		for _, ready := range r.Items[1].Items {
			n.meet(ready.Text)
		}
		n.goLive(time.Now())
	}, &n.scripts.renew, []string{n.key(0, "nodes"), n.key(0, "ready")}, n.id, strconv.FormatInt(leaseTime.Milliseconds(), 10), mode, take, strconv.FormatInt(undertakerTime.Milliseconds(), 10), strconv.FormatInt(since, 10), n.key(0, "all"))
}

// meet notes that a node has said, since this session began, that it is ready. What it
// has said before does not count: when Redis went away, it did for all.
func (n *node) meet(id string) {
	if process := processOf(id); process != processOf(n.id) {
		n.back[process] = true
		if n.counters.live.Load() {
			n.peers[process] = true
		}
	}
}

// bury removes what a dead incarnation held. then is called when nothing is left.
func (n *node) bury(dead string, then func()) {
	n.burying[dead] = true
	left, failed := 1, false
	done := func(_ resp.Reply, err error) {
		failed = failed || err != nil
		if left--; left > 0 {
			return
		}
		if delete(n.burying, dead); failed {
			if n.stopping && n.session != nil && then != nil {
				then() // whoever comes round to it later sees to the rest
			}
			return
		}
		n.eval(0, func(_ resp.Reply, err error) {
			if err == nil && then != nil {
				then()
			}
		}, &n.scripts.forget, []string{n.key(0, "nodes"), n.key(0, "ready"), n.key(0, "node", dead, "counts")}, dead)
	}
	for b := range n.buckets {
		n.command(b, nil, "SET", n.key(b, "node", dead, "dead"), "1", "EX", strconv.Itoa(int(deadTime/time.Second)))
		topics := n.key(b, "node", dead, "topics")
		left++
		n.command(b, func(r resp.Reply, err error) {
			for _, t := range r.Items {
				left++
				if n.bucketOf(t.Text) != b { // no node has written this
					n.command(b, done, "SREM", topics, t.Text)
					continue
				}
				n.later(b, func() {
					n.eval(b, func(r resp.Reply, err error) {
						if err != nil && foreign(err) {
							n.tellForeign(t.Text, err)
						}
						done(r, err)
					}, &n.scripts.bury, n.topicKeys(t.Text, dead), dead, n.key(b, t.Text), n.buckets[b].own, t.Text)
				})
			}
			done(r, err)
		}, "SMEMBERS", topics)
	}
	done(resp.Reply{}, nil)
}

// leaveCluster tells Redis that all members of this node are gone.
func (n *node) leaveCluster(done func()) {
	n.stopping = true
	if !n.registered {
		done()
		return
	}
	n.later(0, func() { n.bury(n.id, done) })
}

// setCount says that this node's connections of an app have become more or fewer.
func (n *node) setCount(app string) {
	n.post(func() { n.apps[app], n.countsDirty[app] = true, true })
}

// tellCounts tells Redis of counts that have changed, each once a turn.
func (n *node) tellCounts() {
	if !n.registered || n.stopping {
		return
	}
	for app := range n.countsDirty {
		n.evalCount(app, n.replica.connections(app), nil)
	}
	clear(n.countsDirty)
}

func (n *node) evalCount(app string, own int64, done func(resp.Reply, error)) {
	n.eval(0, done, &n.scripts.count, []string{n.key(0, "nodes"), n.key(0, "node", n.id, "counts")}, app, strconv.FormatInt(own, 10), n.id, n.key(0, "node")+":")
}

// count tells how many connections of an app all nodes have, when this one has own.
func (n *node) count(app string, own int64, done func(int64, error)) {
	n.post(func() {
		if !n.registered {
			done(0, errRedisAway)
			return
		}
		n.evalCount(app, own, func(r resp.Reply, err error) { done(r.N, err) })
		n.apps[app], n.countsDirty[app] = true, true // others may have told theirs in another order
	})
}

// --- Queries ---

// question is a command, and the bucket it is about.
type question struct {
	bucket int
	args   []string
}

// query asks Redis and waits. The questions go out together. A reply may be an error, of
// one key that something else has written.
func (n *node) query(ctx context.Context, questions []question) ([]resp.Reply, error) {
	if len(questions) == 0 {
		return nil, nil
	}
	replies, left := make([]resp.Reply, len(questions)), len(questions)
	var failed error // written, like left, by the node's goroutine alone
	got := make(chan error, 1)
	n.post(func() {
		for i, q := range questions {
			answer := func(r resp.Reply, err error) {
				if err == nil && !foreign(r.Err()) {
					err = r.Err()
				}
				if failed == nil {
					failed = err
				}
				replies[i] = r
				if left--; left == 0 {
					got <- failed
				}
			}
			if len(questions) <= bulkCommands {
				n.command(q.bucket, answer, q.args...)
				continue
			}
			n.later(q.bucket, func() {
				if err := ctx.Err(); err != nil { // nobody waits any more
					answer(resp.Reply{}, err)
				} else {
					n.command(q.bucket, answer, q.args...)
				}
			})
		}
	})
	select {
	case err := <-got:
		return replies, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stats tells how topics stand on all nodes: subscriptions, users and the cached event
// of each. Of a topic that Redis holds something foreign for it tells -1 subscriptions.
func (n *node) stats(ctx context.Context, topics []string) (subscriptions, users []int, cached []string, err error) {
	var questions []question
	for _, topic := range topics {
		b := n.bucketOf(topic)
		t := n.key(b, topic)
		questions = append(questions, question{b, []string{"HGETALL", t + ":nodes"}}, question{b, []string{"HLEN", t + ":members"}}, question{b, []string{"GET", t + ":cached"}})
	}
	r, err := n.query(ctx, questions)
	if err != nil {
		return nil, nil, nil, err
	}
	for i := range topics {
		if slices.ContainsFunc(r[3*i:3*i+3], func(r resp.Reply) bool { return r.Err() != nil }) {
			subscriptions, users, cached = append(subscriptions, -1), append(users, 0), append(cached, "")
			continue
		}
		subscriptions, users, cached = append(subscriptions, sumOfProcesses(r[3*i].Items)), append(users, int(r[3*i+1].N)), append(cached, r[3*i+2].Text)
	}
	return subscriptions, users, cached, nil
}

// sumOfProcesses adds up what incarnations have said, of each process the latest: who has
// connected anew has its former incarnation beside it until that is buried.
func sumOfProcesses(hash []resp.Reply) (sum int) {
	type said struct{ incarnation, number int }
	latest := make(map[string]said, len(hash)/2)
	for i := 0; i+1 < len(hash); i += 2 {
		process, incarnation, _ := strings.Cut(hash[i].Text, "-")
		k, _ := strconv.Atoi(incarnation) // written by nodes; a stranger's nonsense counts as 0
		number, _ := strconv.Atoi(hash[i+1].Text)
		if k >= latest[process].incarnation {
			latest[process] = said{k, number}
		}
	}
	for _, s := range latest {
		sum += s.number
	}
	return sum
}

// occupiedTopics lists the topics in which any node has members.
func (n *node) occupiedTopics(ctx context.Context) ([]string, error) {
	nodes, err := n.query(ctx, []question{{0, []string{"ZRANGE", n.key(0, "nodes"), "0", "-1"}}})
	if err == nil {
		err = nodes[0].Err()
	}
	if err != nil || len(nodes[0].Items) == 0 {
		return nil, err
	}
	var questions []question
	for b := range n.buckets {
		union := []string{"SUNION"}
		for _, id := range nodes[0].Items {
			union = append(union, n.key(b, "node", id.Text, "topics"))
		}
		questions = append(questions, question{b, union})
	}
	replies, err := n.query(ctx, questions)
	if err != nil {
		return nil, err
	}
	var topics []string
	for _, r := range replies {
		if err := r.Err(); err != nil {
			return nil, err
		}
		for _, t := range r.Items {
			topics = append(topics, t.Text)
		}
	}
	return topics, nil
}

// members lists the users of a presence topic, in the order in which they came.
func (n *node) members(ctx context.Context, topic string) ([]string, error) {
	b := n.bucketOf(topic)
	r, err := n.query(ctx, []question{{b, []string{"HGETALL", n.key(b, topic) + ":members"}}})
	if err == nil {
		err = r[0].Err()
	}
	if err != nil {
		return nil, err
	}
	var users []clusterMember
	for i := 0; i+1 < len(r[0].Items); i += 2 {
		order, _, _ := strings.Cut(r[0].Items[i+1].Text, ":")
		k, _ := strconv.Atoi(order) // written by nodes, as above
		users = append(users, clusterMember{user: r[0].Items[i].Text, order: k})
	}
	slices.SortFunc(users, func(a, b clusterMember) int { return a.order - b.order })
	ids := make([]string, len(users))
	for i, u := range users {
		ids[i] = u.user
	}
	return ids, nil
}
