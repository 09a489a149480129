// Package redisurl reads where a Redis is and how to log in there: from a URL, or from the parts of
// one, each of which may be missing. It opens no connection. Its errors say what to write instead,
// and quote nothing that may be a password.
package redisurl

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Address says where one Redis is and how to log in.
type Address struct {
	Network  string // tcp or unix
	Address  string // host:port, or a path
	Username string
	Password string
	DB       int
	TLS      bool
}

// Parts has what a URL says, part by part, as Laravel keeps it in REDIS_HOST and the variables
// beside it. As the receiver of ParseURL it has what counts where the URL says nothing.
type Parts struct {
	Scheme     string // tcp, redis, tls, rediss, unix, or nothing
	Host, Path string // Path counts with the scheme unix alone
	Port       int    // 0: none
	Username   string
	Password   string
	DB         int
}

// ErrNoPort and ErrNoPath say which part a caller lacks.
var (
	ErrNoPort = errors.New("Redis on a host has a port from 1 to 65535; give it, such as " +
		"6379, or the path of a Unix socket as host")
	ErrNoPath = errors.New("with the scheme unix the path of a socket is needed; set " +
		"REDIS_PATH, or give the path as host")
	errNotURL = errors.New("not a URL; write redis://user:password@host:6379/0, special " +
		"characters percent-encoded")
)

// ParseURL reads redis://[user[:password]@]host[:port][/db], with rediss or tls as scheme for TLS,
// or unix:///path?db=n (Laravel: Illuminate\Support\ConfigurationUrlParser). It takes the parts
// that the URL lacks from p. Its errors quote nothing that may be a password.
func (p Parts) ParseURL(s string) (a Address, err error) {
	u, err := url.Parse(s)
	if err != nil || u.Fragment != "" || strings.ContainsAny(u.RawQuery, "@?") {
		return a, errNotURL
	}
	a = Address{Network: "tcp", Username: p.Username, Password: p.Password, DB: p.DB,
		TLS: p.Secure()}
	switch scheme := strings.ToLower(u.Scheme); {
	case scheme == "redis", scheme == "tcp":
	case scheme == "rediss", scheme == "tls":
		a.TLS = true
	case scheme == "unix":
		a.Network, a.Address, a.TLS = "unix", u.Path, false
	case !strings.Contains(s, "://"): // the text before the colon may be anything
		return a, errNotURL
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
			return a, ErrNoPath
		}
		return a, nil
	}
	if u.Hostname() == "" {
		return a, errors.New("the host is missing; write redis://host:6379")
	}
	port := u.Port()
	if port == "" {
		port = strconv.Itoa(p.Port)
	}
	if port == "0" {
		return a, ErrNoPort
	}
	a.Address = net.JoinHostPort(u.Hostname(), port)
	return a, nil
}

// Secure says whether the scheme asks for TLS.
func (p Parts) Secure() bool { return p.Scheme == "tls" || p.Scheme == "rediss" }

// Parse says where the parts lead to. The host may be the path of a socket. It may also be a URL,
// with a scheme, with user and password, or with a database.
func (p Parts) Parse() (a Address, err error) {
	host := p.Host
	if p.Scheme == "unix" && p.Path != "" {
		host = p.Path
	}
	path, unix := strings.CutPrefix(host, "unix:")
	switch unix = unix || strings.HasPrefix(host, "/"); {
	case p.Scheme == "unix" && !unix:
		return a, ErrNoPath
	case unix && strings.ContainsAny(host, "@?"):
		return p.ParseURL("unix:" + path)
	case unix:
		return Address{Network: "unix", Address: "/" + strings.TrimLeft(path, "/"),
			Username: p.Username, Password: p.Password, DB: p.DB}, nil
	}
	scheme, rest, ok := strings.Cut(host, "://")
	if !ok {
		scheme, rest = "redis", host
	}
	if ip := net.ParseIP(rest); ip != nil && strings.Contains(rest, ":") {
		rest = "[" + rest + "]"
	}
	if ok || strings.ContainsAny(rest, "@/?#") {
		return p.ParseURL(scheme + "://" + rest)
	}
	if p.Port == 0 {
		return a, ErrNoPort
	}
	at := net.JoinHostPort(host, strconv.Itoa(p.Port))
	return Address{"tcp", at, p.Username, p.Password, p.DB, p.Secure()}, nil
}
