package main

// Redis: where it is, how to talk to it, and what the nodes of a cluster tell each
// other through it. It knows topics, members and payloads, not connections; what to
// do with them it tells a replica (pusher.go).
//
// Keys, where P is REVERB_SCALING_CHANNEL and T stands for P:app:channel:
//
//	P:nodes             sorted set: node ID, and when its lease ends (milliseconds)
//	P:node:N:topics     set: topics in which node N has members
//	P:node:N:counts     hash: app, open connections
//	T:nodes             hash: node ID, subscriptions
//	T:users:N           set: users that node N has
//	T:count             hash: user, nodes that have it
//	T:members           hash: user, order ":" user_info
//	T:order             counter
//	T:cached            the last event of a cache channel
//
// Channels: T carries what everybody with members in T hears, P:node:N what node N
// alone hears, P:all what all nodes hear. Redis delivers to one connection in the
// order in which it executed the commands, whatever the channel: that is why the
// answer to a script that changes T comes back over P:node:N, and not as its reply.
//
// Envelopes, version 1. A string of variable length is written as its length in
// decimal, a colon and its bytes. sum is the beginning of the SHA-1 of what follows,
// in hexadecimal: it keeps out strangers' mistakes, not their malice.
//
//	1 e sum(8) flags(1) node(8) number(8) except(8) payload   event
//	1 + sum(8) user info                                      first connection of a user
//	1 - sum(8) user                                           last one
//	1 m sum(8) token(8)                                       marker: what was asked is done
//	1 s sum(8) token(8) cached {user order:info}              snapshot of a topic; likewise
//	1 t sum(8) app user                                       terminate connections
//
// Sections:
//
//	Address     where Redis is
//	RESP        the protocol, versions 2 and 3
//	Dial        a connection that is ready for use
//	Session     two links: commands, and what was subscribed to
//	Envelopes   what nodes tell each other
//	Scripts     what is done at once
//	Node        the goroutine that knows the cluster's state
//	Queries     what the HTTP API asks

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
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

// parseRedisURL reads redis://[user[:password]@]host[:port][/db], with rediss or tls
// as scheme for TLS, or unix:///path?db=n (Laravel: Illuminate\Support\
// ConfigurationUrlParser). Its errors never quote the password.
func parseRedisURL(s string) (a redisAddress, err error) {
	u, err := url.Parse(s)
	if err != nil {
		return a, errors.New("not a URL; write redis://user:password@host:6379/0, special characters percent-encoded")
	}
	switch strings.ToLower(u.Scheme) {
	case "redis", "tcp":
	case "rediss", "tls":
		a.tls = true
	case "unix":
		a.network, a.address = "unix", u.Path
	default:
		return a, fmt.Errorf("the scheme %q is not known; redis, rediss, tls and unix are", u.Scheme)
	}
	a.username = u.User.Username()
	a.password, _ = u.User.Password()
	db := strings.TrimPrefix(u.Path, "/")
	if a.network == "unix" {
		db = ""
	}
	if q := u.Query().Get("db"); q != "" {
		db = q
	}
	if db != "" {
		if a.db, err = strconv.Atoi(db); err != nil || a.db < 0 {
			return a, fmt.Errorf("the database %q is not a number", db)
		}
	}
	if a.network == "unix" {
		return a, nil
	}
	if u.Hostname() == "" {
		return a, errors.New("the host is missing; write redis://host:6379")
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	a.network, a.address = "tcp", net.JoinHostPort(u.Hostname(), port)
	return a, nil
}

// newRedisAddress combines the parts that Laravel keeps in REDIS_HOST and its
// neighbours. host may carry a scheme, or be the path of a socket.
func newRedisAddress(host string, port int, username, password string, db int) redisAddress {
	a := redisAddress{network: "tcp", username: username, password: password, db: db}
	for _, scheme := range []string{"tls://", "rediss://"} {
		if h, ok := strings.CutPrefix(host, scheme); ok {
			host, a.tls = h, true
		}
	}
	host = strings.TrimPrefix(strings.TrimPrefix(host, "tcp://"), "redis://")
	if path, ok := strings.CutPrefix(host, "unix:"); ok || strings.HasPrefix(host, "/") {
		a.network, a.address = "unix", "/"+strings.TrimLeft(path, "/")
		if !ok {
			a.address = host
		}
		return a
	}
	a.address = net.JoinHostPort(host, strconv.Itoa(port))
	return a
}

// --- RESP (redis.io: Redis serialization protocol specification) ---

const (
	maxReplyBytes = 256 << 20 // of one reply, all of its parts counted
	maxReplyDepth = 8
	maxLineBytes  = 64 << 10
	replyOverhead = 64 // what an element of an array counts beside its bytes
)

// appendCommand appends a command as Redis reads it: an array of bulk strings.
func appendCommand(b []byte, args ...string) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(args)), 10), "\r\n"...)
	for _, a := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(a)), 10), "\r\n"...)
		b = append(append(b, a...), "\r\n"...)
	}
	return b
}

type replyKind byte

const (
	replyNull replyKind = iota
	replyText           // simple, bulk and verbatim strings, big numbers, doubles
	replyError
	replyInt   // booleans too
	replyArray // sets and maps too: a map is its keys and values in turn
	replyPush  // an array that nobody has asked for
)

// reply is what Redis answers.
type reply struct {
	kind  replyKind
	text  string
	n     int64
	items []reply
}

// err is the error that a reply stands for, if it does.
func (r reply) err() error {
	if r.kind == replyError {
		return redisError(r.text)
	}
	return nil
}

// redisError is an error that Redis has answered.
type redisError string

func (e redisError) Error() string { return "Redis answers: " + string(e) }

// respReader reads replies. Its errors are final: what follows cannot be understood.
type respReader struct {
	r    *bufio.Reader
	left int // bytes that the reply being read may still have
}

func newRESPReader(r io.Reader) *respReader {
	return &respReader{r: bufio.NewReaderSize(r, maxLineBytes)}
}

func (rr *respReader) read() (reply, error) {
	rr.left = maxReplyBytes
	return rr.value(0)
}

func respProblem(format string, args ...any) error {
	return fmt.Errorf("this is not RESP: "+format, args...)
}

func (rr *respReader) line() (kind byte, rest string, err error) {
	b, err := rr.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		return 0, "", respProblem("a line of more than %d bytes", maxLineBytes)
	}
	if err != nil {
		return 0, "", err
	}
	if len(b) < 3 || b[len(b)-2] != '\r' {
		return 0, "", respProblem("a line without a type or without CR")
	}
	return b[0], string(b[1 : len(b)-2]), nil
}

func (rr *respReader) value(depth int) (reply, error) {
	kind, rest, err := rr.line()
	if err != nil {
		return reply{}, err
	}
	switch kind {
	case '+', ',', '(':
		return reply{kind: replyText, text: rest}, nil
	case '-':
		return reply{kind: replyError, text: rest}, nil
	case ':':
		n, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			return reply{}, respProblem("the number %q", rest)
		}
		return reply{kind: replyInt, n: n}, nil
	case '#':
		if rest != "t" && rest != "f" {
			return reply{}, respProblem("the boolean %q", rest)
		}
		return reply{kind: replyInt, n: int64(strings.Index("ft", rest))}, nil
	case '_':
		if rest != "" {
			return reply{}, respProblem("the null %q", rest)
		}
		return reply{}, nil
	case '$', '=', '!':
		return rr.bulk(kind, rest)
	case '*', '~', '>', '%', '|':
		return rr.array(kind, rest, depth)
	}
	return reply{}, respProblem("the type %q", kind)
}

// size reads a length; -1 stands for null.
func (rr *respReader) size(s string, each int) (int, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < -1 || s[0] == '+' {
		return 0, respProblem("the length %q", s)
	}
	if n > int64(rr.left/each) {
		return 0, respProblem("a reply of more than %d bytes", maxReplyBytes)
	}
	rr.left -= int(max(n, 0)) * each
	return int(n), nil
}

func (rr *respReader) bulk(kind byte, rest string) (reply, error) {
	n, err := rr.size(rest, 1)
	if err != nil || n < 0 {
		return reply{}, err
	}
	var b []byte
	for len(b) < n+2 { // no more memory at once than has come, doubled
		step := min(n+2-len(b), max(len(b), 64<<10))
		b = slices.Grow(b, step)
		k, err := io.ReadFull(rr.r, b[len(b):len(b)+step])
		if b = b[:len(b)+k]; err != nil {
			return reply{}, io.ErrUnexpectedEOF
		}
	}
	if b[n] != '\r' || b[n+1] != '\n' {
		return reply{}, respProblem("a string that is longer than its length")
	}
	r := reply{kind: replyText, text: string(b[:n])}
	switch {
	case kind == '!':
		r.kind = replyError
	case kind == '=' && n >= 4: // txt: or mkd: come first
		r.text = r.text[4:]
	}
	return r, nil
}

func (rr *respReader) array(kind byte, rest string, depth int) (reply, error) {
	each := replyOverhead
	if kind == '%' || kind == '|' {
		each *= 2
	}
	n, err := rr.size(rest, each)
	if err != nil || n < 0 {
		return reply{}, err
	}
	if depth == maxReplyDepth {
		return reply{}, respProblem("arrays in arrays, more than %d deep", maxReplyDepth)
	}
	r := reply{kind: replyArray}
	if kind == '>' {
		r.kind = replyPush
	}
	for range n * each / replyOverhead {
		item, err := rr.value(depth + 1)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return reply{}, err
		}
		r.items = append(r.items, item)
	}
	if kind == '|' { // attributes of the value that follows
		return rr.value(depth + 1)
	}
	return r, nil
}

// --- Dial ---

// redisOptions says how to connect. It is constant.
type redisOptions struct {
	address   redisAddress
	sentinels []redisAddress // instead of address
	service   string         // that the sentinels know
	secure    *tls.Config    // for addresses with tls
	name      string         // CLIENT SETNAME
	timeout   time.Duration  // of one attempt
}

const (
	redisOldest     = "6.2"
	redisDialLimit  = 5 * time.Second
	redisReplyLimit = 5 * time.Second // longer, and the link is given up
)

// redisConn is one connection that has logged in.
type redisConn struct {
	nc      net.Conn
	r       *respReader
	version string
}

// dialRedis connects to the Redis that the options name: the address, or the master
// that the first sentinel that answers names. Errors name where, and never secrets.
func dialRedis(ctx context.Context, o *redisOptions) (*redisConn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
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
		c, err := openRedis(ctx, o, a)
		if err != nil {
			problems = append(problems, fmt.Errorf("the master that %s names: %w", s.address, err))
			continue
		}
		role, err := c.do("ROLE")
		if err == nil && len(role.items) > 0 && role.items[0].text == "master" {
			return c, nil
		}
		c.nc.Close()
		problems = append(problems, fmt.Errorf("%s, which %s calls the master, is none", a.address, s.address))
	}
	return nil, errors.Join(problems...)
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
	if len(r.items) != 2 {
		return redisAddress{}, fmt.Errorf("sentinel %s knows no service %q; set REVERB_REDIS_SERVICE", s.address, o.service)
	}
	a := o.address
	a.network, a.address = "tcp", net.JoinHostPort(r.items[0].text, r.items[1].text)
	return a, nil
}

func openRedis(ctx context.Context, o *redisOptions, a redisAddress) (*redisConn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, a.network, a.address)
	if err != nil {
		return nil, fmt.Errorf("connect to Redis: %w", err)
	}
	if a.tls {
		config := o.secure.Clone()
		if host, _, err := net.SplitHostPort(a.address); err == nil && config.ServerName == "" {
			config.ServerName = host
		}
		secure := tls.Client(nc, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, fmt.Errorf("TLS with Redis at %s: %w", a.address, err)
		}
		nc = secure
	}
	c := &redisConn{nc: nc, r: newRESPReader(nc)}
	if deadline, ok := ctx.Deadline(); ok {
		nc.SetDeadline(deadline)
	}
	if err := c.login(a, o.name); err != nil {
		nc.Close()
		return nil, fmt.Errorf("Redis at %s: %w", a.address, err)
	}
	nc.SetDeadline(time.Time{})
	return c, nil
}

// do sends a command and waits for its reply.
func (c *redisConn) do(args ...string) (reply, error) {
	if _, err := c.nc.Write(appendCommand(nil, args...)); err != nil {
		return reply{}, fmt.Errorf("%s: %w", args[0], err)
	}
	r, err := c.r.read()
	if err == nil {
		err = r.err()
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
	var refused redisError
	if errors.As(err, &refused) && (strings.HasPrefix(string(refused), "ERR") || strings.HasPrefix(string(refused), "NOPROTO")) {
		return c.loginOld(a, err)
	}
	if err != nil {
		return loginError(err)
	}
	for i := 0; i+1 < len(r.items); i += 2 {
		if r.items[i].text == "version" {
			c.version = r.items[i+1].text
		}
	}
	if c.version != "" && olderThan(c.version, redisOldest) {
		return fmt.Errorf("version %s is too old; %s or newer is needed", c.version, redisOldest)
	}
	if a.db != 0 {
		if _, err := c.do("SELECT", strconv.Itoa(a.db)); err != nil {
			return err
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
	_, rest, ok := strings.Cut(info.text, "redis_version:")
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
		return errors.New("it refuses the user or the password; compare REVERB_REDIS_USERNAME and REVERB_REDIS_PASSWORD")
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

// --- Session ---

const (
	maxLinkBytes = 64 << 20 // that wait for Redis to take them
	batchReplies = 256
)

// session is the pair of links to Redis. They live and die together: what one of
// them has missed, the other cannot know.
type session struct {
	commands, subscriptions *link
	replies, pushes         chan []reply
	once                    sync.Once
	failed                  chan struct{} // closed when either has failed
	err                     error         // why; written before failed is closed
	running                 sync.WaitGroup
}

// link is one connection: one goroutine reads, one writes.
type link struct {
	c    *redisConn
	wake chan struct{}

	mu  sync.Mutex
	out []byte
}

func newSession(commands, subscriptions *redisConn) *session {
	s := &session{
		commands:      &link{c: commands, wake: make(chan struct{}, 1)},
		subscriptions: &link{c: subscriptions, wake: make(chan struct{}, 1)},
		replies:       make(chan []reply, 16), pushes: make(chan []reply, 16), failed: make(chan struct{}),
	}
	for l, to := range map[*link]chan []reply{s.commands: s.replies, s.subscriptions: s.pushes} {
		s.running.Go(func() { s.fail(l.read(s.failed, to)) })
		s.running.Go(func() { s.fail(l.write(s.failed)) })
	}
	return s
}

// fail ends the session, once.
func (s *session) fail(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.failed)
		s.commands.c.nc.Close()
		s.subscriptions.c.nc.Close()
	})
}

// read passes replies on, as many at once as have come.
func (l *link) read(failed <-chan struct{}, to chan<- []reply) error {
	for {
		var batch []reply
		for len(batch) == 0 || len(batch) < batchReplies && l.c.r.r.Buffered() > 0 {
			r, err := l.c.r.read()
			if err != nil {
				return fmt.Errorf("read from Redis: %w", err)
			}
			batch = append(batch, r)
		}
		select {
		case to <- batch:
		case <-failed:
			return nil
		}
	}
}

// send queues bytes. It says whether there was room.
func (l *link) send(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	l.mu.Lock()
	ok := len(l.out)+len(b) <= maxLinkBytes
	if ok {
		l.out = append(l.out, b...)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return ok
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
		l.mu.Unlock()
		l.c.nc.SetWriteDeadline(time.Now().Add(redisReplyLimit))
		if _, err := l.c.nc.Write(b); err != nil {
			return fmt.Errorf("write to Redis: %w", err)
		}
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
	app      string // terminate
	user     string // added, removed, terminate
	info     string // added
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
	digits, rest, ok := strings.Cut(b[:min(len(b), 12)], ":")
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
		b = appendNetstring(binary.BigEndian.AppendUint64(b, e.token), e.payload)
		for _, m := range e.members {
			b = appendNetstring(appendNetstring(b, m.user), strconv.Itoa(m.order)+":"+m.info)
		}
	case envelopeTerminate:
		b = appendNetstring(appendNetstring(b, e.app), e.user)
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
	if !strings.ContainsRune("e+-mst", rune(b[1])) {
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
		e.token, e.payload = number(), text()
		for ok && len(b) > 0 {
			m := clusterMember{user: text()}
			order, info, found := strings.Cut(text(), ":")
			var bad error
			m.order, bad = strconv.Atoi(order)
			m.info, ok = info, ok && found && bad == nil
			e.members = append(e.members, m)
		}
	case envelopeTerminate:
		e.app, e.user = text(), text()
	}
	if !ok || len(b) > 0 {
		return envelope{}, errEnvelope
	}
	return e, nil
}

// --- Scripts ---

// script is a Lua script that Redis runs as one command.
type script struct{ name, text, sha string }

func newScript(name, text string) script {
	sum := sha1.Sum([]byte(text))
	return script{name, text, hex.EncodeToString(sum[:])}
}

// luaTopic holds what scripts about one topic share. KEYS are those of topicKeys;
// ARGV[1] is the node, ARGV[2] the topic's channel, ARGV[3] the node's own.
const luaTopic = `
local function ns(s) return #s .. ':' .. s end
local function publish(channel, kind, body)
  redis.call('PUBLISH', channel, '\1' .. kind .. string.sub(redis.sha1hex(body), 1, 8) .. body)
end
local function present(user, info)
  if redis.call('SADD', KEYS[2], user) == 0 then return end
  if redis.call('HINCRBY', KEYS[3], user, 1) == 1 then
    redis.call('HSET', KEYS[4], user, redis.call('INCR', KEYS[5]) .. ':' .. info)
    publish(ARGV[2], '+', ns(user) .. ns(info))
  end
end
local function absent(user)
  if redis.call('SREM', KEYS[2], user) == 0 then return end
  if redis.call('HINCRBY', KEYS[3], user, -1) <= 0 then
    redis.call('HDEL', KEYS[3], user)
    redis.call('HDEL', KEYS[4], user)
    publish(ARGV[2], '-', ns(user))
  end
end
local function leave(topic)
  for _, user in ipairs(redis.call('SMEMBERS', KEYS[2])) do absent(user) end
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('SREM', KEYS[7], topic)
  if redis.call('HLEN', KEYS[1]) == 0 then redis.call('DEL', KEYS[1], KEYS[3], KEYS[4], KEYS[5]) end
end
`

// luaNow is the time of Redis in milliseconds.
const luaNow = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
`

var (
	// scriptSync states what this node has in a topic and answers with a snapshot.
	// ARGV: 4 topic, 5 subscriptions, 6 token, 7 "1" for a cache channel, then users
	// and their user_info in turn.
	scriptSync = newScript("sync", luaTopic+`
redis.call('SADD', KEYS[7], ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
local wanted = {}
for i = 8, #ARGV, 2 do wanted[ARGV[i]] = true end
for _, user in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  if not wanted[user] then absent(user) end
end
for i = 8, #ARGV, 2 do present(ARGV[i], ARGV[i+1]) end
local out = {ARGV[6], ns(ARGV[7] == '1' and redis.call('GET', KEYS[6]) or '')}
for _, s in ipairs(redis.call('HGETALL', KEYS[4])) do out[#out+1] = ns(s) end
publish(ARGV[3], 's', table.concat(out))
return 1`)

	// scriptPresent adds a user of this node. ARGV: 4 token, 5 user, 6 user_info.
	scriptPresent = newScript("present", luaTopic+`
present(ARGV[5], ARGV[6])
publish(ARGV[3], 'm', ARGV[4])
return 1`)

	// scriptAbsent removes a user of this node. ARGV: 4 user.
	scriptAbsent = newScript("absent", luaTopic+`absent(ARGV[4]) return 1`)

	// scriptLeave says that this node has nobody left in a topic. ARGV: 4 topic.
	scriptLeave = newScript("leave", luaTopic+`leave(ARGV[4]) return 1`)

	// scriptBury does the same for a node that has lost its lease. ARGV: 4 topic.
	// KEYS[8] is the set of nodes.
	scriptBury = newScript("bury", luaTopic+luaNow+`
local ends = redis.call('ZSCORE', KEYS[8], ARGV[1])
if ends and tonumber(ends) > now then return 0 end
leave(ARGV[4])
return 1`)

	// scriptCached publishes the event of a cache channel and keeps it. KEYS: 1 the
	// cached event. ARGV: 1 channel, 2 envelope, 3 event, 4 seconds to keep it.
	scriptCached = newScript("cached", `
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return redis.call('PUBLISH', ARGV[1], ARGV[2])`)

	// scriptRenew renews the lease. KEYS: 1 the set of nodes. ARGV: 1 node, 2
	// milliseconds. It answers whether the lease was held until now, and which nodes
	// have lost theirs.
	scriptRenew = newScript("renew", luaNow+`
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
local held = 0
if ends and tonumber(ends) > now then held = 1 end
return {held, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now), redis.call('ZRANGE', KEYS[1], 0, -1)}`)

	// scriptForget removes what is left of a node whose topics are buried. KEYS: 1 the
	// set of nodes, 2 its topics, 3 its counts. ARGV: 1 node.
	scriptForget = newScript("forget", luaNow+`
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ends and tonumber(ends) > now then return 0 end
redis.call('DEL', KEYS[2], KEYS[3])
return redis.call('ZREM', KEYS[1], ARGV[1])`)

	// scriptCount states how many connections this node has of an app and answers how
	// many all have. KEYS: 1 the set of nodes, 2 this node's counts. ARGV: 1 app, 2
	// connections or "" to ask only, 3 node, 4 prefix.
	scriptCount = newScript("count", luaNow+`
if ARGV[2] ~= '' then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
local sum = 0
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do
  sum = sum + (redis.call('HGET', ARGV[4] .. ':node:' .. node .. ':counts', ARGV[1]) or 0)
end
return sum`)

	allScripts = []script{scriptSync, scriptPresent, scriptAbsent, scriptLeave, scriptBury, scriptCached, scriptRenew, scriptForget, scriptCount}
)

// --- Node ---

const (
	leaseTime        = 10 * time.Second // of a node that is not heard of
	leaseInterval    = 2 * time.Second
	peersGrace       = 2 * time.Second // after Redis is back: for the others to come back too
	maxBacklog       = 64 << 20        // bytes of events that Redis has not taken
	cachedSeconds    = 30 * 60
	redisBackoffLow  = 50 * time.Millisecond
	redisBackoffHigh = 2 * time.Second
)

// errRedisAway and errRedisBehind are told to who asks something that only Redis
// knows, or publishes faster than it takes.
var (
	errRedisAway   = errors.New("Redis is not reachable")
	errRedisBehind = errors.New("Redis is behind; send again shortly")
)

// replica is this node's own part of the cluster: it has the members. All methods
// are called by the node's goroutine, in the order in which Redis has put things.
type replica interface {
	// deliver gives an event to the members of a topic, but not to the one whose
	// socket is except.
	deliver(topic, payload string, except uint64, remember bool)
	// added and removed tell the members that a user has come or gone. info is JSON,
	// or empty.
	added(topic, user, info string)
	removed(topic, user string)
	// snapshot says who is there, in order, and what is cached, without telling
	// anybody.
	snapshot(topic string, users, infos []string, cached string)
	dropped(topic string) // this node has nobody in it any more
	terminateUser(app, user string)
	overloaded() bool // it takes no more events for now
}

// nodeCounters tell how a node gets on with Redis and the others.
type nodeCounters struct {
	up, live                                                       atomic.Bool
	reconnects, published, received, lost, malformed, unknown, dup atomic.Uint64
	backlog                                                        atomic.Int64 // bytes
}

// node is this process as part of a cluster. One goroutine owns everything that
// changes; others hand it work with post.
type node struct {
	// constant
	id       string
	number   uint64 // the same
	prefix   string
	options  *redisOptions
	patience time.Duration // how long an event waits for Redis to come back
	replica  replica
	log      *slog.Logger
	counters nodeCounters
	up       chan *session
	wake     chan struct{}
	stop     context.CancelFunc
	running  sync.WaitGroup

	// owned by the goroutine
	session     *session // nil: Redis is away
	sent        []sentCommand
	topics      map[string]*topic
	byChannel   map[string]*topic
	subscribing map[string]int // confirmations to come, by channel
	counts      map[string]int64
	countsDirty map[string]bool
	commands    []byte // to be handed to the link at the end of the turn
	subs        []byte
	tokens      uint64
	markers     map[uint64]func()
	numbers     uint64            // of events that this node published
	seen        map[uint64]uint64 // the highest number of every other node
	pending     []*outgoing       // published, not yet confirmed, in order
	backlog     []*outgoing       // waits for Redis to come back
	backlogSize int
	expected    map[string]bool // nodes that were there before Redis went away
	liveAt      time.Time       // when not to wait for them any longer
	syncing     int             // topics from before Redis was away that are not in step yet
	heard       time.Time       // last bytes on the link that was subscribed with
	replied     time.Time
	leased      bool // renewed since the session began
	stopping    bool
	snapshot    *envelope // while its marker is handled

	mu    sync.Mutex
	inbox []func()
}

// sentCommand is a command whose reply is to come.
type sentCommand struct{ done func(reply, error) }

// outgoing is an event on its way.
type outgoing struct {
	topic     string
	payload   string
	except    uint64
	remember  bool
	number    uint64
	at        time.Time
	delivered bool // here
	echoes    bool // it comes back, because this node was subscribed when it was sent
	again     bool // it was sent before
	accepted  bool // by Redis
	done      func(error)
}

type topicState uint8

const (
	topicDetached    topicState = iota // Redis is away or has not been told
	topicSubscribing                   // SUBSCRIBE is sent
	topicSyncing                       // subscribed; the snapshot is to come
	topicActive
)

// topic is a channel of an app in which this node has members.
type topic struct {
	name, channel string
	cache         bool
	state         topicState
	subscriptions int
	dirty         bool // subscriptions is not what Redis was told
	counted       bool // in node.syncing
	users         map[string]*topicUser
	view          map[string]clusterMember // who the members here think is there; presence only
	order         int                      // of members that came while Redis was away
	waiting       []waiter
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
}

func newNode(options *redisOptions, prefix string, patience time.Duration, log *slog.Logger) *node {
	var b [8]byte
	rand.Read(b[:]) // never fails
	n := &node{
		id: hex.EncodeToString(b[:]), number: binary.BigEndian.Uint64(b[:]), prefix: prefix, options: options, patience: patience, log: log,
		up: make(chan *session), wake: make(chan struct{}, 1),
		topics: map[string]*topic{}, byChannel: map[string]*topic{}, subscribing: map[string]int{}, counts: map[string]int64{}, countsDirty: map[string]bool{},
		markers: map[uint64]func(){}, seen: map[uint64]uint64{}, expected: map[string]bool{},
	}
	return n
}

// start connects and serves until close. It returns when the first attempt to connect
// has been made, with its error; attempts go on.
func (n *node) start(r replica) error {
	n.replica = r
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	first, err := n.dial(ctx)
	if err != nil {
		n.counters.live.Store(false)
	}
	n.running.Go(func() { n.connect(ctx, first) })
	n.running.Go(func() { n.run(ctx) })
	return err
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
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// dial opens both links.
func (n *node) dial(ctx context.Context) (*session, error) {
	commands, err := dialRedis(ctx, n.options)
	if err != nil {
		return nil, err
	}
	for _, s := range allScripts {
		if _, err := commands.do("SCRIPT", "LOAD", s.text); err != nil {
			commands.nc.Close()
			return nil, err
		}
	}
	subscriptions, err := dialRedis(ctx, n.options)
	if err != nil {
		commands.nc.Close()
		return nil, err
	}
	return newSession(commands, subscriptions), nil
}

// connect keeps a session up, for ever, with pauses that double up to a limit and are
// drawn at random so that nodes do not come all at once.
func (n *node) connect(ctx context.Context, s *session) {
	pause, told := redisBackoffLow, time.Time{}
	for {
		if s != nil {
			select {
			case n.up <- s:
				pause = redisBackoffLow
			case <-ctx.Done():
				s.fail(ctx.Err())
			}
			select {
			case <-s.failed:
			case <-ctx.Done():
				s.fail(ctx.Err())
			}
			s.running.Wait()
		}
		timer := time.NewTimer(pause/2 + mrand.N(pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, redisBackoffHigh)
		var err error
		if s, err = n.dial(ctx); err != nil && ctx.Err() == nil {
			if now := time.Now(); now.Sub(told) > 10*time.Second {
				told = now
				n.log.Warn("Redis is not reachable; trying on", "why", err)
			}
		}
	}
}

// run is the goroutine.
func (n *node) run(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	lease := time.Time{}
	for {
		var replies, pushes chan []reply
		var failed chan struct{}
		if s := n.session; s != nil {
			replies, failed = s.replies, s.failed
			if !n.replica.overloaded() {
				pushes = s.pushes
			}
		}
		select {
		case <-ctx.Done():
			return
		case s := <-n.up:
			n.handleUp(s, time.Now())
			lease = time.Now()
		case <-failed:
			n.handleDown(time.Now())
		case batch := <-replies:
			n.handleReplies(batch, time.Now())
		case batch := <-pushes:
			n.heard = time.Now()
			for _, r := range batch {
				n.handlePush(r)
			}
		case <-n.wake:
		case now := <-tick.C:
			n.handleTick(now)
			if n.session != nil && now.Sub(lease) >= leaseInterval {
				lease = now
				n.renew()
			}
		}
		n.runInbox()
		n.endTurn()
	}
}

func (n *node) runInbox() {
	n.mu.Lock()
	work := n.inbox
	n.inbox = nil
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
	if !n.session.commands.send(n.commands) || !n.session.subscriptions.send(n.subs) {
		n.session.fail(errors.New("Redis takes commands too slowly"))
	}
	n.commands, n.subs = n.commands[:0], n.subs[:0]
	if cap(n.commands) > 1<<20 {
		n.commands = nil
	}
}

// command sends a command; done gets its reply. Where Redis is away, done is told at
// once.
func (n *node) command(done func(reply, error), args ...string) {
	if n.session == nil {
		if done != nil {
			done(reply{}, errRedisAway)
		}
		return
	}
	if len(n.sent) == 0 {
		n.replied = time.Now()
	}
	n.sent = append(n.sent, sentCommand{done})
	n.commands = appendCommand(n.commands, args...)
}

// eval runs a script.
func (n *node) eval(done func(reply, error), s script, keys []string, args ...string) {
	all := append([]string{"EVALSHA", s.sha, strconv.Itoa(len(keys))}, keys...)
	n.command(func(r reply, err error) {
		if err == nil {
			err = r.err()
		}
		if err != nil && n.session != nil {
			n.log.Error("a script failed in Redis", "script", s.name, "why", err)
			if strings.Contains(err.Error(), "NOSCRIPT") {
				n.session.fail(errors.New("Redis has forgotten the scripts"))
			}
		}
		if done != nil {
			done(r, err)
		}
	}, append(all, args...)...)
}

func (n *node) key(parts ...string) string { return n.prefix + ":" + strings.Join(parts, ":") }

func (n *node) ownChannel() string { return n.key("node", n.id) }

// topicKeys are the keys of a topic as luaTopic wants them, for node id.
func (n *node) topicKeys(topic, id string) []string {
	t := n.key(topic)
	return []string{t + ":nodes", t + ":users:" + id, t + ":count", t + ":members", t + ":order", t + ":cached", n.key("node", id, "topics")}
}

// handleUp begins with a fresh session: everything that this node has is told again.
func (n *node) handleUp(s *session, now time.Time) {
	if n.stopping {
		s.fail(errors.New("stopping"))
		return
	}
	first := n.counters.reconnects.Add(1) == 1
	n.session, n.heard, n.replied, n.leased = s, now, now, false
	n.counters.up.Store(true)
	n.log.Info("connected to Redis", "version", s.commands.c.version, "node", n.id)
	n.liveAt = now.Add(peersGrace)
	if first {
		n.liveAt = now
	}
	n.subs = appendCommand(n.subs, "SUBSCRIBE", n.key("all"), n.ownChannel())
	n.syncing = 0
	for _, t := range n.topics {
		t.counted = true
		n.syncing++
		n.subscribe(t)
	}
	for app := range n.counts {
		n.countsDirty[app] = true
	}
	n.renew()
	n.goLive(now)
}

// handleDown takes note that Redis is gone. Members here go on among themselves.
func (n *node) handleDown(now time.Time) {
	err := n.session.err
	n.session, n.commands, n.subs = nil, n.commands[:0], n.subs[:0]
	n.counters.up.Store(false)
	n.counters.live.Store(false)
	if !n.stopping {
		n.log.Warn("Redis is away: members of this node are served, others hear nothing", "why", err)
	}
	clear(n.subscribing)
	clear(n.markers)
	sent := n.sent
	n.sent = nil
	for _, c := range sent {
		if c.done != nil {
			c.done(reply{}, errRedisAway)
		}
	}
	for _, o := range n.pending {
		n.deliverHere(o)
		if !o.accepted {
			o.again = true
			n.queue(o)
		}
		o.finish(nil)
	}
	n.pending = nil
	for _, t := range n.topics {
		t.state, t.counted = topicDetached, false
		for _, u := range t.users {
			u.told, u.present = false, false
		}
		n.releaseDetached(t)
	}
}

// releaseDetached answers everybody who waits for a topic, by what is known here.
func (n *node) releaseDetached(t *topic) {
	waiting := t.waiting
	t.waiting = nil
	for _, w := range waiting {
		n.joinDetached(t, w)
	}
	for user, u := range t.users {
		ready := u.waiting
		u.waiting = nil
		for _, f := range ready {
			n.joinDetached(t, waiter{user, f})
		}
	}
}

// joinDetached admits a member while Redis is away.
func (n *node) joinDetached(t *topic, w waiter) {
	if u := t.users[w.user]; w.user != "" && u != nil {
		if _, known := t.view[w.user]; !known {
			t.order++
			m := clusterMember{w.user, u.info, t.order}
			t.view[w.user] = m
			n.replica.added(t.name, m.user, m.info)
		}
	}
	w.ready()
}

// goLive ends the time in which events are delivered here alone, once every topic is
// in step and the other nodes are back.
func (n *node) goLive(now time.Time) {
	if n.session == nil || n.counters.live.Load() || n.syncing > 0 || len(n.expected) > 0 && now.Before(n.liveAt) {
		return
	}
	clear(n.expected)
	n.counters.live.Store(true)
	backlog := n.backlog
	n.backlog, n.backlogSize = nil, 0
	n.counters.backlog.Store(0)
	for _, o := range backlog {
		if now.Sub(o.at) > n.patience {
			n.lose(o)
			continue
		}
		n.send(o)
	}
}

func (n *node) lose(o *outgoing) {
	if n.counters.lost.Add(1) == 1 {
		n.log.Warn("events that Redis could not take in time are lost to other nodes; see the metric redis_lost_total")
	}
	o.finish(nil)
}

func (o *outgoing) finish(err error) {
	if o.done != nil {
		o.done(err)
		o.done = nil
	}
}

// handleTick does what time asks for.
func (n *node) handleTick(now time.Time) {
	for len(n.backlog) > 0 && now.Sub(n.backlog[0].at) > n.patience {
		n.dropOldest()
	}
	if n.session == nil {
		return
	}
	n.goLive(now)
	switch {
	case len(n.sent) > 0 && now.Sub(n.replied) > redisReplyLimit:
		n.session.fail(fmt.Errorf("Redis has not answered for %v", redisReplyLimit))
	case now.Sub(n.heard) > redisReplyLimit:
		n.session.fail(fmt.Errorf("Redis has sent nothing on the link of subscriptions for %v", redisReplyLimit))
	case now.Sub(n.heard) > redisReplyLimit/5:
		n.subs = appendCommand(n.subs, "PING")
	}
}

func (n *node) dropOldest() {
	o := n.backlog[0]
	n.backlog[0] = nil
	n.backlog = n.backlog[1:]
	n.backlogSize -= len(o.payload)
	n.counters.backlog.Store(int64(n.backlogSize))
	n.lose(o)
}

// queue keeps an event until Redis is back.
func (n *node) queue(o *outgoing) {
	n.backlog = append(n.backlog, o)
	n.backlogSize += len(o.payload)
	for n.backlogSize > maxBacklog {
		n.dropOldest()
	}
	n.counters.backlog.Store(int64(n.backlogSize))
}

func (n *node) handleReplies(batch []reply, now time.Time) {
	n.replied = now
	for _, r := range batch {
		if r.kind == replyPush {
			continue
		}
		if len(n.sent) == 0 {
			n.session.fail(errors.New("Redis has answered what was not asked"))
			return
		}
		c := n.sent[0]
		n.sent[0] = sentCommand{}
		n.sent = n.sent[1:]
		if c.done != nil {
			c.done(r, nil)
		}
	}
}

// handlePush deals with what came on the link of subscriptions.
func (n *node) handlePush(r reply) {
	if r.kind == replyError {
		n.session.fail(fmt.Errorf("subscribe: %w", r.err()))
		return
	}
	if r.kind != replyPush && r.kind != replyArray || len(r.items) < 2 {
		return // the answer to PING
	}
	channel := r.items[1].text
	switch r.items[0].text {
	case "message":
		if len(r.items) == 3 {
			n.handleEnvelope(channel, r.items[2].text)
		}
	case "subscribe":
		if n.subscribing[channel]--; n.subscribing[channel] > 0 {
			return
		}
		delete(n.subscribing, channel)
		if t := n.byChannel[channel]; t != nil && t.state == topicSubscribing {
			n.sync(t)
		}
	}
}

// handleEnvelope deals with what another node, a script or a stranger has sent.
func (n *node) handleEnvelope(channel, b string) {
	e, err := parseEnvelope(b)
	own, all := channel == n.ownChannel(), channel == n.key("all")
	switch {
	case err == errEnvelopeVersion:
		if n.counters.unknown.Add(1) == 1 {
			n.log.Warn("another node speaks a newer version; what it says is skipped and counted", "channel", oneLineOf(channel))
		}
		return
	case err != nil, own != (e.kind == envelopeMarker || e.kind == envelopeSnapshot), all != (e.kind == envelopeTerminate):
		if n.counters.malformed.Add(1) == 1 {
			n.log.Warn("somebody publishes on this cluster's channels what is no envelope; it is skipped and counted", "channel", oneLineOf(channel))
		}
		return
	}
	n.counters.received.Add(1)
	switch e.kind {
	case envelopeMarker:
		if f := n.markers[e.token]; f != nil {
			delete(n.markers, e.token)
			f()
		}
		return
	case envelopeSnapshot:
		if f := n.markers[e.token]; f != nil {
			delete(n.markers, e.token)
			n.snapshot = &e
			f()
			n.snapshot = nil
		}
		return
	case envelopeTerminate:
		n.replica.terminateUser(e.app, e.user)
		return
	}
	if t := n.byChannel[channel]; t != nil {
		n.handleTopic(t, &e)
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
		if e.again && e.number <= n.seen[e.node] {
			n.counters.dup.Add(1) // its sender could not know
			return
		}
		n.seen[e.node] = e.number
		n.replica.deliver(t.name, e.payload, e.except, e.remember)
	case envelopeAdded:
		if _, known := t.view[e.user]; t.state == topicActive && !known {
			t.order++
			m := clusterMember{e.user, e.info, t.order}
			t.view[e.user] = m
			n.replica.added(t.name, m.user, m.info)
		}
	case envelopeRemoved:
		if _, known := t.view[e.user]; t.state == topicActive && known {
			delete(t.view, e.user)
			n.replica.removed(t.name, e.user)
		}
	}
}

// handleEcho delivers an event of this node's own, now that Redis has given it its
// place.
func (n *node) handleEcho(t *topic, e *envelope) {
	for i, o := range n.pending {
		if o.number == e.number {
			n.deliverHere(o)
			o.accepted = true
			o.finish(nil)
			n.pending = slices.Delete(n.pending, i, i+1)
			return
		}
		if o.number > e.number {
			break
		}
	}
	// Delivered while Redis was away, or somebody repeats us.
}

// deliverHere gives an event to the members of this node, once.
func (n *node) deliverHere(o *outgoing) {
	if !o.delivered {
		o.delivered = true
		n.replica.deliver(o.topic, o.payload, o.except, o.remember)
	}
}

// publish sends an event to the members of a topic on all nodes. done is called when
// Redis has accepted it or, where Redis is away, when it is delivered here and queued.
func (n *node) publish(topic, payload string, except uint64, remember bool, done func(error)) {
	at := time.Now()
	n.post(func() {
		n.counters.published.Add(1)
		n.numbers++
		o := &outgoing{topic: topic, payload: payload, except: except, remember: remember, number: n.numbers, at: at, done: done}
		if !n.counters.live.Load() {
			n.deliverHere(o)
			n.queue(o)
			o.finish(nil)
			return
		}
		n.send(o)
	})
}

// send gives an event to Redis.
func (n *node) send(o *outgoing) {
	if n.session == nil {
		n.queue(o)
		return
	}
	t := n.topics[o.topic]
	o.echoes = t != nil && t.state >= topicSyncing
	n.pending = append(n.pending, o)
	b := string(appendEnvelope(make([]byte, 0, len(o.payload)+32), &envelope{kind: envelopeEvent, remember: o.remember, again: o.again, node: n.number, number: o.number, except: o.except, payload: o.payload}))
	channel := n.key(o.topic)
	accepted := func(r reply, err error) { n.handleAccepted(o, r, err) }
	if o.remember {
		n.eval(accepted, scriptCached, []string{channel + ":cached"}, channel, b, o.payload, strconv.Itoa(cachedSeconds))
	} else {
		n.command(accepted, "PUBLISH", channel, b)
	}
}

// handleAccepted deals with Redis' answer to an event. An event that does not come
// back, because nobody here was in its topic, is done with.
func (n *node) handleAccepted(o *outgoing, r reply, err error) {
	if errors.Is(err, errRedisAway) {
		return // handleDown sees to it
	}
	if err == nil {
		err = r.err()
	}
	if err != nil {
		n.lose(o)
		n.log.Error("Redis has refused an event", "why", err)
	}
	o.accepted = true
	o.finish(nil)
	if err == nil && o.echoes && !o.delivered {
		return
	}
	if err != nil {
		n.deliverHere(o)
	}
	if i := slices.Index(n.pending, o); i >= 0 {
		n.pending = slices.Delete(n.pending, i, i+1)
	}
}

// join adds a member of this node to a topic. ready is called when it is to hear of
// what happens from now on. user is empty where there is no presence.
func (n *node) join(name, user, info string, cache bool, ready func()) {
	n.post(func() {
		t := n.topics[name]
		if t == nil {
			t = &topic{name: name, channel: n.key(name), cache: cache, users: map[string]*topicUser{}, view: map[string]clusterMember{}}
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
		w := waiter{user, ready}
		switch {
		case n.session == nil:
			n.joinDetached(t, w)
		case t.state == topicActive:
			n.joinActive(t, w)
		default:
			t.waiting = append(t.waiting, w)
			if t.state == topicDetached {
				n.subscribe(t)
			}
		}
	})
}

// joinActive admits a member to a topic that is in step.
func (n *node) joinActive(t *topic, w waiter) {
	u := t.users[w.user]
	if w.user == "" || u == nil || u.present {
		w.ready()
		n.tellSubscriptions(t)
		return
	}
	u.waiting = append(u.waiting, w.ready)
	if u.told {
		return
	}
	u.told = true
	token := n.marker(func() {
		if t.users[w.user] != u {
			return // gone meanwhile, or come anew
		}
		u.present = true
		ready := u.waiting
		u.waiting = nil
		for _, f := range ready {
			f()
		}
	})
	n.eval(nil, scriptPresent, n.topicKeys(t.name, n.id), n.id, t.channel, n.ownChannel(), token, w.user, u.info)
	n.tellSubscriptions(t)
}

// marker returns a token; f is called when it comes back.
func (n *node) marker(f func()) string {
	n.tokens++
	n.markers[n.tokens] = f
	return string(binary.BigEndian.AppendUint64(nil, n.tokens))
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
	if n.session == nil {
		if _, known := t.view[user]; known {
			delete(t.view, user)
			n.replica.removed(t.name, user)
		}
		return
	}
	if u.told {
		n.eval(nil, scriptAbsent, n.topicKeys(t.name, n.id), n.id, t.channel, n.ownChannel(), user)
	}
}

// dropTopic forgets a topic that nobody here is in any more.
func (n *node) dropTopic(t *topic) {
	delete(n.topics, t.name)
	delete(n.byChannel, t.channel)
	n.pending = slices.DeleteFunc(n.pending, func(o *outgoing) bool {
		if o.topic == t.name {
			o.echoes = false
		}
		return o.topic == t.name && o.accepted
	})
	n.stepDone(t)
	n.replica.dropped(t.name)
	if n.session == nil || t.state == topicDetached {
		return
	}
	n.subs = appendCommand(n.subs, "UNSUBSCRIBE", t.channel)
	n.eval(nil, scriptLeave, n.topicKeys(t.name, n.id), n.id, t.channel, n.ownChannel(), t.name)
}

// subscribe begins to bring a topic into step.
func (n *node) subscribe(t *topic) {
	t.state = topicSubscribing
	n.subscribing[t.channel]++
	n.subs = appendCommand(n.subs, "SUBSCRIBE", t.channel)
}

// sync tells Redis what this node has in a topic, and asks for what all have.
func (n *node) sync(t *topic) {
	t.state, t.dirty = topicSyncing, false
	flag := "0"
	if t.cache {
		flag = "1"
	}
	token := n.marker(func() { n.handleSnapshot(t) })
	args := []string{n.id, t.channel, n.ownChannel(), t.name, strconv.Itoa(t.subscriptions), token, flag}
	for user, u := range t.users {
		u.told = true
		args = append(args, user, u.info)
	}
	n.eval(nil, scriptSync, n.topicKeys(t.name, n.id), args...)
}

// handleSnapshot brings a topic into step. Members that were there before learn what
// has changed since.
func (n *node) handleSnapshot(t *topic) {
	e := n.snapshot
	if n.topics[t.name] != t || e == nil || t.state != topicSyncing {
		return
	}
	slices.SortFunc(e.members, func(a, b clusterMember) int { return a.order - b.order })
	before := t.view
	t.view, t.state = make(map[string]clusterMember, len(e.members)), topicActive
	for _, m := range e.members {
		t.view[m.user], t.order = m, max(t.order, m.order)
	}
	for user := range before {
		if _, still := t.view[user]; !still {
			n.replica.removed(t.name, user)
		}
	}
	if len(before) > 0 {
		for _, m := range e.members {
			if _, known := before[m.user]; !known {
				n.replica.added(t.name, m.user, m.info)
			}
		}
	}
	users, infos := make([]string, len(e.members)), make([]string, len(e.members))
	for i, m := range e.members {
		users[i], infos[i] = m.user, m.info
	}
	n.replica.snapshot(t.name, users, infos, e.payload)
	for _, u := range t.users {
		u.present = u.told
	}
	waiting := t.waiting
	t.waiting = nil
	for _, w := range waiting {
		n.joinActive(t, w)
	}
	n.stepDone(t)
}

// stepDone counts a topic that is in step, or gone.
func (n *node) stepDone(t *topic) {
	if !t.counted {
		return
	}
	t.counted = false
	if n.syncing--; n.syncing == 0 {
		n.goLive(time.Now())
	}
}

// tellSubscriptions tells Redis how many members this node has in a topic.
func (n *node) tellSubscriptions(t *topic) {
	if t.dirty && t.state == topicActive && n.session != nil {
		t.dirty = false
		n.command(nil, "HSET", n.key(t.name)+":nodes", n.id, strconv.Itoa(t.subscriptions))
	}
}

// renew renews the lease, and looks after nodes that have lost theirs.
func (n *node) renew() {
	n.eval(func(r reply, err error) {
		if err != nil || len(r.items) != 3 {
			return
		}
		held := n.leased
		n.leased = true
		if r.items[0].n == 0 && held {
			n.log.Warn("the lease of this node was lost: everything is told again")
			for _, t := range n.topics {
				if t.state == topicActive {
					n.sync(t)
				}
			}
			for app := range n.counts {
				n.countsDirty[app] = true
			}
		}
		for _, dead := range r.items[1].items {
			n.bury(dead.text)
		}
		n.meet(r.items[2].items)
	}, scriptRenew, []string{n.key("nodes")}, n.id, strconv.FormatInt(leaseTime.Milliseconds(), 10))
}

// meet notes which nodes are there.
func (n *node) meet(nodes []reply) {
	if n.counters.live.Load() {
		clear(n.expected)
		for _, id := range nodes {
			if id.text != n.id {
				n.expected[id.text] = true
			}
		}
		return
	}
	for _, id := range nodes {
		delete(n.expected, id.text)
	}
	n.goLive(time.Now())
}

// bury removes what a dead node held. Every survivor may try: what one has done the
// scripts of the next find done.
func (n *node) bury(dead string) {
	if dead == n.id || n.stopping {
		return
	}
	topics := n.key("node", dead, "topics")
	n.command(func(r reply, err error) {
		if err != nil {
			return
		}
		n.log.Warn("a node is gone; its members are removed", "node", oneLineOf(dead), "topics", len(r.items))
		for _, t := range r.items {
			keys := append(n.topicKeys(t.text, dead), n.key("nodes"))
			n.eval(nil, scriptBury, keys, dead, n.key(t.text), n.ownChannel(), t.text)
		}
		n.eval(nil, scriptForget, []string{n.key("nodes"), topics, n.key("node", dead, "counts")}, dead)
	}, "SMEMBERS", topics)
}

// setCount states how many connections of an app this node has.
func (n *node) setCount(app string, connections int64) {
	n.post(func() {
		n.counts[app] = connections
		n.countsDirty[app] = true
	})
}

// tellCounts tells Redis of counts that have changed, each once a turn.
func (n *node) tellCounts() {
	for app := range n.countsDirty {
		n.command(nil, "HSET", n.key("node", n.id, "counts"), app, strconv.FormatInt(n.counts[app], 10))
	}
	clear(n.countsDirty)
}

// terminateAll asks all nodes to close the connections of a user.
func (n *node) terminateAll(app, user string, done func(error)) {
	b := string(appendEnvelope(nil, &envelope{kind: envelopeTerminate, app: app, user: user}))
	n.post(func() {
		n.command(func(r reply, err error) {
			if err != nil {
				n.replica.terminateUser(app, user)
			}
			done(err)
		}, "PUBLISH", n.key("all"), b)
	})
}

// leaveCluster tells Redis that all members of this node are gone.
func (n *node) leaveCluster(done func()) {
	n.stopping = true
	if n.session == nil {
		done()
		return
	}
	for _, t := range n.topics {
		n.eval(nil, scriptLeave, n.topicKeys(t.name, n.id), n.id, t.channel, n.ownChannel(), t.name)
	}
	n.command(nil, "ZREM", n.key("nodes"), n.id)
	n.command(func(reply, error) { done() }, "DEL", n.key("node", n.id, "topics"), n.key("node", n.id, "counts"))
}

// --- Queries ---

// query asks Redis something and waits. Several commands go out together.
func (n *node) query(ctx context.Context, commands ...[]string) ([]reply, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	type answer struct {
		replies []reply
		err     error
	}
	got := make(chan answer, 1)
	n.post(func() {
		replies := make([]reply, 0, len(commands))
		var failed error
		for _, c := range commands {
			n.command(func(r reply, err error) {
				if err == nil {
					err = r.err()
				}
				if failed == nil {
					failed = err
				}
				if replies = append(replies, r); len(replies) == len(commands) {
					got <- answer{replies, failed}
				}
			}, c...)
		}
	})
	select {
	case a := <-got:
		return a.replies, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *node) statsCommands(topic string) [][]string {
	t := n.key(topic)
	return [][]string{{"HVALS", t + ":nodes"}, {"HLEN", t + ":members"}, {"GET", t + ":cached"}}
}

// stats tells how topics stand on all nodes: subscriptions, users and the cached event
// of each.
func (n *node) stats(ctx context.Context, topics []string) (subscriptions, users []int, cached []string, err error) {
	var commands [][]string
	for _, t := range topics {
		commands = append(commands, n.statsCommands(t)...)
	}
	r, err := n.query(ctx, commands...)
	if err != nil {
		return nil, nil, nil, err
	}
	for i := range topics {
		sum := 0
		for _, v := range r[3*i].items {
			k, _ := strconv.Atoi(v.text) // written by nodes; a stranger's nonsense counts as 0
			sum += k
		}
		subscriptions, users, cached = append(subscriptions, sum), append(users, int(r[3*i+1].n)), append(cached, r[3*i+2].text)
	}
	return subscriptions, users, cached, nil
}

// occupiedTopics lists the topics in which any node has members.
func (n *node) occupiedTopics(ctx context.Context) ([]string, error) {
	nodes, err := n.query(ctx, []string{"ZRANGE", n.key("nodes"), "0", "-1"})
	if err != nil {
		return nil, err
	}
	union := []string{"SUNION", n.key("node", n.id, "topics")}
	for _, id := range nodes[0].items {
		union = append(union, n.key("node", id.text, "topics"))
	}
	r, err := n.query(ctx, union)
	if err != nil {
		return nil, err
	}
	topics := make([]string, 0, len(r[0].items))
	for _, t := range r[0].items {
		topics = append(topics, t.text)
	}
	return topics, nil
}

// members lists the users of a presence topic.
func (n *node) members(ctx context.Context, topic string) ([]string, error) {
	r, err := n.query(ctx, []string{"HGETALL", n.key(topic) + ":members"})
	if err != nil {
		return nil, err
	}
	type user struct {
		id    string
		order int
	}
	var users []user
	for i := 0; i+1 < len(r[0].items); i += 2 {
		order, _, _ := strings.Cut(r[0].items[i+1].text, ":")
		k, _ := strconv.Atoi(order)
		users = append(users, user{r[0].items[i].text, k})
	}
	slices.SortFunc(users, func(a, b user) int { return a.order - b.order })
	ids := make([]string, len(users))
	for i, u := range users {
		ids[i] = u.id
	}
	return ids, nil
}

// count tells how many connections of an app all nodes have. own is how many this one
// has, or negative to ask only.
func (n *node) count(app string, own int64, done func(int64, error)) {
	told := ""
	if own >= 0 {
		told = strconv.FormatInt(own, 10)
	}
	n.post(func() {
		n.eval(func(r reply, err error) { done(r.n, err) }, scriptCount,
			[]string{n.key("nodes"), n.key("node", n.id, "counts")}, app, told, n.id, n.prefix)
	})
}
