package main

// Redis: where it is. The link itself, RESP and what nodes tell each other come
// with scaling; until then only the settings are read and checked.

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

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
