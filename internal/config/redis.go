package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Redis says where Redis is, and how Redis proves its identity. It counts only with scaling.
type Redis struct {
	At        RedisAddress   // with Sentinels or Nodes only its login counts
	Sentinels []RedisAddress // the sentinels, which know the master
	Nodes     []RedisAddress // some of a Redis Cluster
	Service   string         // name of the master among the sentinels

	CA, Cert, Key string // files in PEM; empty: the system's authorities, no certificate
	ServerName    string // in the certificate of Redis; empty: its host
}

// RedisAddress says where one Redis is and how to log in.
type RedisAddress struct {
	Network  string // tcp or unix
	Address  string // host:port, or a path
	Username string
	Password string
	DB       int
	TLS      bool
}

// redisSet has the variables that lead to Redis.
type redisSet struct {
	redisParts
	url                string
	sentinels, cluster string // host:port, comma-separated
}

// redisParts has the parts of REDIS_URL, which Laravel also keeps in REDIS_HOST and the variables
// beside it.
type redisParts struct {
	scheme     string // tcp, redis, tls, rediss, unix, or nothing
	host, path string // path counts with the scheme unix alone
	port       int    // 0: none
	username   string
	password   string
	db         int
}

// checkRedis sets Redis from the variables, and judges those that are needed.
func (c *Config) checkRedis() {
	r := &c.Redis
	r.At = c.findRedis()
	c.judge("REVERB_REDIS_TIMEOUT")
	r.Sentinels = c.redisAddresses("REVERB_REDIS_SENTINELS", c.redis.sentinels,
		RedisAddress{TLS: r.At.TLS})
	r.Nodes = c.redisAddresses("REVERB_REDIS_CLUSTER", c.redis.cluster,
		RedisAddress{Username: r.At.Username, Password: r.At.Password, TLS: r.At.TLS})
	database := c.Setting("REVERB_REDIS_DB")
	switch {
	case len(r.Nodes) == 0:
	case len(r.Sentinels) > 0:
		c.Problem("REVERB_REDIS_CLUSTER, REVERB_REDIS_SENTINELS",
			"a Redis is found by one of them; unset the other")
	case c.redis.url == "" && c.redis.db != 0 && database.given == "REVERB_REDIS_DB":
		// REDIS_DB belongs to Laravel's other connections
		c.Problem(database.assignment(), "a Redis Cluster has the database 0 alone; unset it")
	case strings.ContainsAny(c.Scaling.Channel, "{}"):
		c.Problem("REVERB_SCALING_CHANNEL="+Masked(c.Scaling.Channel),
			"with a Redis Cluster it cannot hold braces; leave them out")
	}
}

// findRedis says where Redis is and how to log in. The URL counts before the parts. With sentinels
// or a Redis Cluster only the login counts.
func (c *Config) findRedis() RedisAddress {
	parts := c.redis.redisParts
	if c.redis.url != "" {
		url := redisParts{port: 6379}
		if strings.HasPrefix(strings.ToLower(c.redis.url), "redis:") && parts.secure() {
			url.scheme = parts.scheme // Laravel: redis:// says nothing of TLS
		}
		a, err := url.parseURL(c.redis.url)
		if err != nil {
			c.Problem(c.Setting("REVERB_REDIS_URL").assignment(), err.Error())
		}
		return a
	}
	if c.redis.sentinels != "" || c.redis.cluster != "" {
		parts.port = 6379
		if parts.scheme == "unix" {
			parts.scheme = ""
		}
	}
	if c.redis.cluster == "" {
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

// redisAddresses reads host:port, comma-separated. to says how to log in there.
func (c *Config) redisAddresses(name, list string, to RedisAddress) (found []RedisAddress) {
	for s := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		host, port, err := net.SplitHostPort(s)
		n, bad := strconv.Atoi(port)
		odd := host == "" || strings.ContainsAny(host, "@/?#")
		if err != nil || bad != nil || n < 1 || n > 65535 || odd {
			c.Problem(name+"="+Masked(list),
				Masked(s)+" is not an address; give host:port, such as 10.0.0.1:6379")
			continue
		}
		to.Network, to.Address = "tcp", s
		found = append(found, to)
	}
	return found
}

var (
	errNoRedisPort = errors.New("Redis on a host has a port from 1 to 65535; give it, such as " +
		"6379, or the path of a Unix socket as host")
	errNoRedisPath = errors.New("with the scheme unix the path of a socket is needed; set " +
		"REDIS_PATH, or give the path as host")
	errNotRedisURL = errors.New("not a URL; write redis://user:password@host:6379/0, special " +
		"characters percent-encoded")
)

// parseRedisURL reads redis://[user[:password]@]host[:port][/db], with rediss or tls
// as scheme for TLS, or unix:///path?db=n (Laravel: Illuminate\Support\
// ConfigurationUrlParser). Its errors quote nothing that may be a password.
func parseRedisURL(s string) (RedisAddress, error) {
	return redisParts{port: 6379}.parseURL(s)
}

// parseURL is parseRedisURL, and takes the parts that the URL lacks from p.
func (p redisParts) parseURL(s string) (a RedisAddress, err error) {
	u, err := url.Parse(s)
	if err != nil || u.Fragment != "" || strings.ContainsAny(u.RawQuery, "@?") {
		return a, errNotRedisURL
	}
	a = RedisAddress{Network: "tcp", Username: p.username, Password: p.password, DB: p.db,
		TLS: p.secure()}
	switch scheme := strings.ToLower(u.Scheme); {
	case scheme == "redis", scheme == "tcp":
	case scheme == "rediss", scheme == "tls":
		a.TLS = true
	case scheme == "unix":
		a.Network, a.Address, a.TLS = "unix", u.Path, false
	case !strings.Contains(s, "://"): // the text before the colon may be anything
		return a, errNotRedisURL
	default:
		return a, fmt.Errorf("the scheme %q is not known; redis, rediss, tls and unix are",
			u.Scheme)
	}
	if u.User != nil {
		a.Username = u.User.Username()
		a.Password, _ = u.User.Password()
	}
	db := strings.TrimPrefix(u.Path, "/")
	if a.Network == "unix" {
		db = ""
	}
	query := u.Query()
	db = cmp.Or(query.Get("db"), query.Get("database"), db)
	if db != "" {
		if a.DB, err = strconv.Atoi(db); err != nil || a.DB < 0 {
			return a, errors.New("the database is not a number; write " +
				"redis://user:password@host:6379/0, special characters percent-encoded")
		}
	}
	if a.Network == "unix" {
		if a.Address == "" {
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
	a.Address = net.JoinHostPort(u.Hostname(), port)
	return a, nil
}

// secure says whether the scheme asks for TLS.
func (p redisParts) secure() bool { return p.scheme == "tls" || p.scheme == "rediss" }

// parse says where the parts lead to. The host may be the path of a socket. It may also be a URL,
// with a scheme, with user and password, or with a database.
func (p redisParts) parse() (a RedisAddress, err error) {
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
		return RedisAddress{Network: "unix", Address: "/" + strings.TrimLeft(path, "/"),
			Username: p.username, Password: p.password, DB: p.db}, nil
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
	at := net.JoinHostPort(host, strconv.Itoa(p.port))
	return RedisAddress{"tcp", at, p.username, p.password, p.db, p.secure()}, nil
}
