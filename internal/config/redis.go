package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"reverb/internal/lib/redisurl"
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

// Where says which Redis this is, without secrets.
func (r *Redis) Where() string {
	all := slices.Concat(r.Sentinels, r.Nodes)
	if len(all) == 0 {
		all = []RedisAddress{r.At}
	}
	var at []string
	for _, a := range all {
		at = append(at, a.Address)
	}
	text := fmt.Sprintf("%s, database %d", strings.Join(at, " "), r.At.DB)
	if len(r.Sentinels) > 0 {
		text += ", service " + r.Service
	}
	if r.At.Username != "" {
		text += ", user " + r.At.Username
	}
	if r.At.TLS {
		text += ", TLS"
	}
	return text
}

// RedisAddress says where one Redis is and how to log in. It is an alias, so that a reader of the
// configuration needs one package.
type RedisAddress = redisurl.Address

// redisSet has the variables that lead to Redis.
type redisSet struct {
	redisurl.Parts
	url                string
	sentinels, cluster string // host:port, comma-separated
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
	case c.redis.url == "" && c.redis.DB != 0 && database.given == "REVERB_REDIS_DB":
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
	parts := c.redis.Parts
	if c.redis.url != "" {
		url := redisurl.Parts{Port: 6379}
		if strings.HasPrefix(strings.ToLower(c.redis.url), "redis:") && parts.Secure() {
			url.Scheme = parts.Scheme // Laravel: redis:// says nothing of TLS
		}
		a, err := url.ParseURL(c.redis.url)
		if err != nil {
			c.Problem(c.Setting("REVERB_REDIS_URL").assignment(), err.Error())
		}
		return a
	}
	if c.redis.sentinels != "" || c.redis.cluster != "" {
		parts.Port = 6379
		if parts.Scheme == "unix" {
			parts.Scheme = ""
		}
	}
	if c.redis.cluster == "" {
		c.judge("REVERB_REDIS_DB")
	}
	c.judge("REVERB_REDIS_SCHEME")
	a, err := parts.Parse()
	switch {
	case errors.Is(err, redisurl.ErrNoPort):
		c.judge("REVERB_REDIS_PORT", err)
	case errors.Is(err, redisurl.ErrNoPath) && parts.Scheme == "unix":
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
